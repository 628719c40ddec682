/* SPDX-License-Identifier: ISC */
/* What is io_uring's own; the rest of it is proved in test_device.c and test_file.c. */
#include "io_test.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <errno.h>

/* From now on this process gets EPERM for io_uring_setup, as under many container runtimes. */
static bool forbid_io_uring(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = CMB_COUNTOF(code), .filter = code};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/* In a child: 0 all well, 77 the filter is refused, else what went wrong. */
static int open_where_forbidden(const char *name)
{
    char block[4096] = "still here", seen[4096] = "";
    cmb_device *dev;
    cmb_queue *q;
    if (!forbid_io_uring())
        return 77;
    if (cmb_device_open(name, CMB_OPEN_CREATE, NULL, &dev))
        return 1;
    if (!strstr(dev->ops->describe(dev), "system calls: the kernel refuses io_uring: Operation not permitted"))
        return 2;
    if (dev->ops->grow(dev, 4096) || cmb_queue_open(dev, 1, &q))
        return 3;
    if (cmb_io_write(q, 0, block, 4096) || cmb_io_flush(q) || cmb_io_read(q, 0, seen, 4096, 0))
        return 4;
    cmb_queue_close(q);
    cmb_device_close(dev);
    return strcmp(seen, "still here") ? 5 : 0;
}

static void where_the_kernel_refuses_system_calls_are_used_and_describe_says_so(void **state)
{
    char name[600];
    int status;
    snprintf(name, sizeof name, "%s?io=uring", io_test_path("file"));
    pid_t pid = fork();
    if (pid == 0)
        _exit(open_where_forbidden(name));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    io_test_clean();
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) {
        print_message("it cannot be arranged here\n");
        skip();
    }
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void a_closed_device_can_be_opened_for_writing_at_once(void **state)
{
    char name[600];
    snprintf(name, sizeof name, "%s?io=uring", io_test_path("again"));
    for (int i = 0; i < 50; i++) {
        cmb_device *dev;
        cmb_queue *q[3];
        char block[4096] = {0};
        assert_ok(cmb_device_open(name, CMB_OPEN_CREATE_FORCE, NULL, &dev));
        assert_ok(dev->ops->grow(dev, 4096));
        for (int j = 0; j < 3; j++) {
            assert_ok(cmb_queue_open(dev, 64, &q[j]));
            assert_ok(cmb_io_write(q[j], 0, block, sizeof block));
        }
        for (int j = 0; j < 3; j++)
            cmb_queue_close(q[j]);
        cmb_device_close(dev);
    }
    io_test_clean();
}

static void a_block_device_closed_can_be_opened_for_writing_at_once(void **state)
{
    io_test_loop loop;
    char name[600];
    io_test_make_file(io_test_path("loop"), 1 << 20, 0);
    if (!io_test_loop_make(&loop, io_test_path("loop"))) {
        print_message("no loop device can be made here\n");
        skip();
    }
    snprintf(name, sizeof name, "%s?io=uring", loop.path);
    int error = 0;
    for (int i = 0; i < 20 && !error; i++) {
        cmb_device *dev;
        cmb_queue *q;
        char block[4096] = {0};
        error = cmb_device_open(name, CMB_OPEN_WRITE, NULL, &dev);
        if (error)
            break;
        error = cmb_queue_open(dev, 64, &q);
        if (!error) {
            error = cmb_io_write(q, 0, block, sizeof block);
            cmb_queue_close(q);
        }
        cmb_device_close(dev);
    }
    io_test_loop_free(&loop);
    io_test_clean();
    assert_ok(error);
}

/* More requests in flight than the submission ring has entries. */
static void a_deep_queue_is_filled_in_several_goes(void **state)
{
    enum { N = 2000 };
    char name[600];
    static cmb_request r[N];
    static cmb_completion done[N];
    static uint8_t seen[N][512];
    cmb_device *dev;
    cmb_queue *q;
    snprintf(name, sizeof name, "%s?io=uring", io_test_path("deep"));
    assert_ok(cmb_device_open(name, CMB_OPEN_CREATE, NULL, &dev));
    assert_ok(dev->ops->grow(dev, N * 512));
    assert_ok(cmb_queue_open(dev, N, &q));
    for (unsigned i = 0; i < N; i++) {
        io_test_fill(seen[i], 512, i);
        r[i] = (cmb_request){.op = CMB_OP_WRITE, .offset = i * 512u, .length = 512, .buffer = seen[i]};
    }
    assert_int_equal(dev->ops->submit(q, r, N), N);
    /* Waits for the writes, though nobody has reaped them. */
    cmb_request flush = {.op = CMB_OP_FLUSH};
    assert_int_equal(dev->ops->submit(q, &flush, 1), 0);
    assert_int_equal(dev->ops->reap(q, done, N, N), N);
    assert_int_equal(dev->ops->submit(q, &flush, 1), 1);
    assert_int_equal(dev->ops->reap(q, done, N, 1), 1);
    for (unsigned i = 0; i < N; i++) {
        uint8_t block[512];
        assert_ok(cmb_io_read(q, i * 512u, block, 512, 0));
        assert_memory_equal(block, seen[i], 512);
    }
    cmb_queue_close(q);
    cmb_device_close(dev);
    io_test_clean();
}

static void writes_in_flight_are_waited_for_before_a_flush_goes_out(void **state)
{
    enum { N = 32 };
    char name[600];
    cmb_request r[N + 1];
    cmb_completion done[N + 1];
    static uint8_t block[65536];
    cmb_device *dev;
    cmb_queue *q;
    snprintf(name, sizeof name, "%s?io=uring", io_test_path("order"));
    assert_ok(cmb_device_open(name, CMB_OPEN_CREATE, NULL, &dev));
    assert_ok(dev->ops->grow(dev, N * sizeof block));
    assert_ok(cmb_queue_open(dev, N + 1, &q));
    for (unsigned i = 0; i < N; i++)
        r[i] = (cmb_request){.op = CMB_OP_WRITE, .offset = i * sizeof block, .length = sizeof block, .buffer = block};
    r[N] = (cmb_request){.op = CMB_OP_FLUSH, .user = block};
    assert_int_equal(dev->ops->submit(q, r, N + 1), N + 1);
    assert_int_equal(dev->ops->reap(q, done, N + 1, N + 1), N + 1);
    for (unsigned i = 0; i <= N; i++) {
        assert_int_equal(done[i].result, 0);
        assert_ptr_equal(done[i].user, i == N ? block : NULL);
    }
    cmb_queue_close(q);
    cmb_device_close(dev);
    io_test_clean();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(where_the_kernel_refuses_system_calls_are_used_and_describe_says_so),
        cmocka_unit_test(a_closed_device_can_be_opened_for_writing_at_once),
        cmocka_unit_test(a_block_device_closed_can_be_opened_for_writing_at_once),
        cmocka_unit_test(a_deep_queue_is_filled_in_several_goes),
        cmocka_unit_test(writes_in_flight_are_waited_for_before_a_flush_goes_out),
    };
    return cmocka_run_group_tests_name("uring", tests, NULL, NULL);
}
