/* SPDX-License-Identifier: ISC */
/* Files and block devices: who may open what, and what is said when not. Each test on both engines. */
#include "io_test.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* The engine under test: the state of each test. */
static const char *engine(void **state)
{
    return *state;
}

static int open_device(void **state, const char *path, cmb_open_mode mode, cmb_device **out_dev)
{
    char name[700];
    assert_true((size_t)snprintf(name, sizeof name, "%s?io=%s", path, engine(state)) < sizeof name);
    return cmb_device_open(name, mode, NULL, out_dev);
}

/* Remembers a path beyond io_test_path's four, and begins with no such file. */
static const char *fresh(char out[512], const char *name)
{
    snprintf(out, 512, "%s", io_test_path(name));
    unlink(out);
    return out;
}

static int clean(void **state)
{
    io_test_clean();
    return 0;
}

static void a_missing_file_is_not_found(void **state)
{
    char path[512];
    cmb_device *dev = (cmb_device *)&path;
    assert_error(open_device(state, fresh(path, "none"), CMB_OPEN_READ, &dev), CMB_ENOTFOUND);
    assert_detail_has(path);
    assert_error(open_device(state, path, CMB_OPEN_WRITE, &dev), CMB_ENOTFOUND);
    assert_ptr_equal(dev, &path);
    assert_int_equal(access(path, F_OK), -1);
}

static void create_makes_a_file_and_refuses_one_that_is_there(void **state)
{
    char path[512];
    cmb_device *dev;
    assert_ok(open_device(state, fresh(path, "new"), CMB_OPEN_CREATE, &dev));
    cmb_device_close(dev);
    assert_error(open_device(state, path, CMB_OPEN_CREATE, &dev), CMB_EEXIST);
    assert_detail_has("exists already");
    assert_ok(open_device(state, path, CMB_OPEN_CREATE_FORCE, &dev));
    cmb_device_close(dev);
}

static void a_forced_create_keeps_the_content(void **state)
{
    char path[512];
    cmb_device *dev;
    cmb_queue *q;
    char byte[512];
    io_test_make_file(fresh(path, "kept"), 4096, 'k');
    assert_ok(open_device(state, path, CMB_OPEN_CREATE_FORCE, &dev));
    assert_ok(cmb_queue_open(dev, 1, &q));
    assert_ok(cmb_io_read(q, 512, byte, 512, 0));
    assert_int_equal(byte[5], 'k');
    cmb_queue_close(q);
    cmb_device_close(dev);
    unlink(path);
    assert_ok(open_device(state, path, CMB_OPEN_CREATE_FORCE, &dev));
    cmb_device_close(dev);
}

static void a_directory_is_refused_as_such(void **state)
{
    cmb_device *dev;
    const cmb_open_mode modes[] = {CMB_OPEN_READ, CMB_OPEN_WRITE, CMB_OPEN_CREATE, CMB_OPEN_CREATE_FORCE};
    for (size_t i = 0; i < CMB_COUNTOF(modes); i++) {
        assert_error(open_device(state, "/tmp", modes[i], &dev), CMB_EINVAL);
        assert_detail_has("a directory");
    }
}

static void fifos_and_character_devices_are_refused_without_waiting(void **state)
{
    char path[512];
    cmb_device *dev;
    assert_int_equal(mkfifo(fresh(path, "fifo"), 0600), 0);
    assert_error(open_device(state, path, CMB_OPEN_READ, &dev), CMB_EINVAL);
    assert_detail_has("a FIFO");
    assert_error(open_device(state, "/dev/null", CMB_OPEN_WRITE, &dev), CMB_EINVAL);
    assert_detail_has("a character device");
}

static void a_path_through_a_file_is_not_found(void **state)
{
    char path[512], through[600];
    cmb_device *dev;
    io_test_make_file(fresh(path, "plain"), 1, 'x');
    snprintf(through, sizeof through, "%s/deeper", path);
    assert_error(open_device(state, through, CMB_OPEN_READ, &dev), CMB_ENOTFOUND);
    snprintf(through, sizeof through, "%s.d/deeper", path);
    assert_error(open_device(state, through, CMB_OPEN_CREATE, &dev), CMB_ENOTFOUND);
    assert_detail_has("cannot be made");
}

/* Runs in a child process as nobody, because root may do everything. */
static int try_as_nobody(void **state, const char *path, cmb_open_mode mode)
{
    pid_t pid = fork();
    if (pid == 0) {
        cmb_device *dev;
        if (setgid(65534) || setuid(65534))
            _exit(100);
        int error = open_device(state, path, mode, &dev);
        if (error == 0)
            cmb_device_close(dev);
        _exit(error ? -error : 0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return -WEXITSTATUS(status);
}

static void files_without_permission_are_refused_as_such(void **state)
{
    char path[512];
    if (getuid() != 0) {
        print_message("only root can become somebody else\n");
        skip();
    }
    io_test_make_file(fresh(path, "mine"), 4096, 'x');
    char *slash = strrchr(path, '/');
    *slash = 0;
    chmod(path, 0755);
    *slash = '/';
    chmod(path, 0600);
    assert_int_equal(try_as_nobody(state, path, CMB_OPEN_READ), CMB_EPERM);
    chmod(path, 0444);
    assert_int_equal(try_as_nobody(state, path, CMB_OPEN_READ), 0);
    assert_int_equal(try_as_nobody(state, path, CMB_OPEN_WRITE), CMB_EPERM);
    strcat(path, ".new");
    assert_int_equal(try_as_nobody(state, path, CMB_OPEN_CREATE), CMB_EPERM);
}

/* ---- one writer ---- */

typedef struct holder {
    pid_t pid;
    int to_child, from_child;
} holder;

/* Another process that opens the device for writing and holds it until told. */
static void hold(void **state, const char *path, holder *out)
{
    int down[2], up[2];
    assert_int_equal(pipe(down), 0);
    assert_int_equal(pipe(up), 0);
    out->pid = fork();
    if (out->pid == 0) {
        cmb_device *dev;
        char byte = 0;
        close(down[1]);
        close(up[0]);
        int error = open_device(state, path, CMB_OPEN_WRITE, &dev);
        if (error || write(up[1], "x", 1) != 1 || read(down[0], &byte, 1) < 0)
            _exit(1);
        cmb_device_close(dev);
        _exit(0);
    }
    close(down[0]);
    close(up[1]);
    out->to_child = down[1];
    out->from_child = up[0];
    char byte;
    assert_int_equal(read(out->from_child, &byte, 1), 1);
}

static void let_go(holder *h)
{
    int status;
    close(h->to_child);
    close(h->from_child);
    assert_int_equal(waitpid(h->pid, &status, 0), h->pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* Who holds a lock stands in /proc. */
static void skip_without_proc(void)
{
    if (access("/proc/locks", R_OK) == 0)
        return;
    print_message("/proc is not mounted\n");
    skip();
}

static void refused_while_held(void **state, const char *path)
{
    holder other;
    cmb_device *dev;
    char text[64];
    hold(state, path, &other);
    assert_error(open_device(state, path, CMB_OPEN_WRITE, &dev), CMB_EBUSY);
    snprintf(text, sizeof text, "process %d (test_file)", (int)other.pid);
    assert_detail_has(text);
    assert_detail_has(path);
    assert_error(open_device(state, path, CMB_OPEN_CREATE_FORCE, &dev), CMB_EBUSY);
    assert_ok(open_device(state, path, CMB_OPEN_READ, &dev));
    cmb_device_close(dev);
    let_go(&other);
    assert_ok(open_device(state, path, CMB_OPEN_WRITE, &dev));
    cmb_device_close(dev);
}

static void a_second_writer_is_told_pid_and_program_of_the_first(void **state)
{
    char path[512];
    skip_without_proc();
    io_test_make_file(fresh(path, "held"), 4096, 'x');
    refused_while_held(state, path);
}

static void a_second_writer_of_a_block_device_is_told_as_well(void **state)
{
    char path[512];
    io_test_loop loop;
    io_test_make_file(fresh(path, "loop"), 1 << 20, 0);
    if (!io_test_loop_make(&loop, path)) {
        print_message("no loop device can be made here\n");
        skip();
    }
    refused_while_held(state, loop.path);
    io_test_loop_free(&loop);
}

/* As udev does after every close of a disk that was open for writing. */
static void a_short_shared_lock_on_a_block_device_is_waited_for(void **state)
{
    char path[512], byte;
    int up[2], status;
    io_test_loop loop;
    cmb_device *dev;
    io_test_make_file(fresh(path, "loop"), 1 << 20, 0);
    if (!io_test_loop_make(&loop, path)) {
        print_message("no loop device can be made here\n");
        skip();
    }
    assert_int_equal(pipe(up), 0);
    pid_t pid = fork();
    if (pid == 0) {
        int fd = open(loop.path, O_RDONLY);
        bool ok = fd >= 0 && flock(fd, LOCK_SH) == 0 && write(up[1], "x", 1) == 1 && usleep(100000) == 0;
        _exit(ok ? 0 : 1);
    }
    assert_int_equal(read(up[0], &byte, 1), 1);
    int error = open_device(state, loop.path, CMB_OPEN_WRITE, &dev);
    if (!error)
        cmb_device_close(dev);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    close(up[0]);
    close(up[1]);
    io_test_loop_free(&loop);
    assert_int_equal(status, 0);
    assert_ok(error);
}

static void a_block_device_under_another_name_is_refused_too(void **state)
{
    char path[512], node[512];
    io_test_loop loop;
    holder other;
    cmb_device *dev;
    struct stat st;
    io_test_make_file(fresh(path, "loop"), 1 << 20, 0);
    if (!io_test_loop_make(&loop, path)) {
        print_message("no loop device can be made here\n");
        skip();
    }
    assert_int_equal(stat(loop.path, &st), 0);
    int refused = mknod(fresh(node, "node"), S_IFBLK | 0600, st.st_rdev);
    if (refused) {
        io_test_loop_free(&loop);
        print_message("no device node can be made here\n");
        skip();
    }
    hold(state, loop.path, &other);
    int error = open_device(state, node, CMB_OPEN_WRITE, &dev);
    let_go(&other);
    io_test_loop_free(&loop);
    /* File systems mounted "nodev" refuse the node itself. */
    assert_true(error == CMB_EBUSY || error == CMB_EPERM);
}

static void two_writers_in_one_process_are_refused_too(void **state)
{
    char path[512], text[64];
    cmb_device *dev, *second;
    skip_without_proc();
    assert_ok(open_device(state, fresh(path, "once"), CMB_OPEN_CREATE, &dev));
    assert_error(open_device(state, path, CMB_OPEN_WRITE, &second), CMB_EBUSY);
    snprintf(text, sizeof text, "process %d (", (int)getpid());
    assert_detail_has(text);
    cmb_device_close(dev);
}

static void a_reader_hinders_no_writer(void **state)
{
    char path[512];
    cmb_device *reader, *writer;
    io_test_make_file(fresh(path, "read"), 4096, 'x');
    assert_ok(open_device(state, path, CMB_OPEN_READ, &reader));
    assert_ok(open_device(state, path, CMB_OPEN_WRITE, &writer));
    cmb_device_close(writer);
    cmb_device_close(reader);
}

static void a_reader_sees_growth_by_a_writer(void **state)
{
    char path[512], block[4096], seen[4096];
    cmb_device *reader, *writer;
    cmb_queue *rq, *wq;
    cmb_caps caps;
    const void *map;
    assert_ok(open_device(state, fresh(path, "grows"), CMB_OPEN_CREATE, &writer));
    assert_ok(open_device(state, path, CMB_OPEN_READ, &reader));
    assert_ok(cmb_queue_open(writer, 1, &wq));
    assert_ok(cmb_queue_open(reader, 1, &rq));
    assert_ok(reader->ops->map(reader, 0, 8192, &map));
    assert_ok(writer->ops->grow(writer, 8192));
    io_test_fill(block, sizeof block, 1);
    assert_ok(cmb_io_write(wq, 4096, block, sizeof block));
    assert_ok(cmb_io_read(rq, 4096, seen, sizeof seen, 0));
    assert_memory_equal(block, seen, sizeof seen);
    assert_memory_equal(block, (const char *)map + 4096, sizeof seen);
    cmb_device_caps(reader, &caps);
    assert_int_equal(caps.size, 8192);
    cmb_queue_close(wq);
    cmb_queue_close(rq);
    cmb_device_close(writer);
    cmb_device_close(reader);
}

/* ---- sizes ---- */

static void a_size_makes_a_fixed_file(void **state)
{
    char path[512], name[600];
    cmb_device *dev;
    cmb_caps caps;
    cmb_device_options options = {.size = 1 << 20};
    snprintf(name, sizeof name, "%s?io=%s", fresh(path, "sized"), engine(state));
    assert_ok(cmb_device_open(name, CMB_OPEN_CREATE, &options, &dev));
    cmb_device_caps(dev, &caps);
    assert_int_equal(caps.size, 1 << 20);
    assert_int_equal(caps.max_size, 1 << 20);
    assert_false(caps.flags & CMB_CAP_GROW);
    assert_null(dev->ops->grow);
    cmb_device_close(dev);
}

static void a_size_that_is_impossible_leaves_no_file_behind(void **state)
{
    char path[512], name[600];
    cmb_device *dev;
    snprintf(name, sizeof name, "%s?io=%s", fresh(path, "sized"), engine(state));
    const uint64_t sizes[] = {1000, (uint64_t)1 << 61, UINT64_MAX & ~(uint64_t)511};
    for (size_t i = 0; i < CMB_COUNTOF(sizes); i++) {
        cmb_device_options options = {.size = sizes[i]};
        assert_true(cmb_device_open(name, CMB_OPEN_CREATE, &options, &dev) < 0);
        assert_detail_has(path);
        assert_int_equal(access(path, F_OK), -1);
    }
}

static void a_tail_that_is_no_block_is_not_seen_and_growth_zeroes_it(void **state)
{
    char path[512], block[512], zeros[512] = {0};
    cmb_device *dev;
    cmb_queue *q;
    cmb_caps caps;
    io_test_make_file(fresh(path, "odd"), 1000, 'x');
    assert_ok(open_device(state, path, CMB_OPEN_WRITE, &dev));
    cmb_device_caps(dev, &caps);
    assert_int_equal(caps.size, 512);
    assert_ok(dev->ops->grow(dev, 1024));
    assert_ok(cmb_queue_open(dev, 1, &q));
    assert_ok(cmb_io_read(q, 512, block, 512, 0));
    assert_memory_equal(block, zeros, 512);
    cmb_queue_close(q);
    cmb_device_close(dev);
}

static void a_file_that_became_shorter_is_an_error_not_a_wrong_read(void **state)
{
    char path[512], block[4096];
    cmb_device *dev;
    cmb_queue *q;
    io_test_make_file(fresh(path, "cut"), 8192, 'x');
    assert_ok(open_device(state, path, CMB_OPEN_WRITE, &dev));
    assert_ok(cmb_queue_open(dev, 1, &q));
    assert_int_equal(truncate(path, 5000), 0);
    assert_error(cmb_io_read(q, 4096, block, 4096, 0), CMB_EIO);
    assert_error(cmb_io_read(q, 4096, block, 4096, CMB_IO_UNCACHED), CMB_EIO);
    cmb_queue_close(q);
    cmb_device_close(dev);
}

/* From now on files of this process end at `bytes`; returns what it was. */
static rlim_t limit_files(rlim_t bytes)
{
    struct rlimit r;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &r), 0);
    rlim_t old = r.rlim_cur;
    r.rlim_cur = bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &r), 0);
    return old;
}

static void growth_beyond_the_limit_is_refused_and_changes_nothing(void **state)
{
    char path[512];
    cmb_device *dev;
    cmb_caps caps;
    assert_ok(open_device(state, fresh(path, "limit"), CMB_OPEN_CREATE, &dev));
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    rlim_t old = limit_files(65536);
    int error = dev->ops->grow(dev, 1 << 20);
    limit_files(old);
    signal(SIGXFSZ, handler);
    assert_int_equal(error, CMB_ENOSPC);
    cmb_device_caps(dev, &caps);
    assert_int_equal(caps.size, 0);
    assert_ok(dev->ops->grow(dev, 1 << 20));
    cmb_device_close(dev);
}

/* The kernel writes 64 KiB of it and says so; the rest is tried, and that error counts. */
static void a_write_that_goes_in_part_only_is_an_error(void **state)
{
    enum { N = 1 << 17 };
    char path[512];
    static uint8_t block[N], seen[N];
    cmb_device *dev;
    cmb_queue *q;
    assert_ok(open_device(state, fresh(path, "limit"), CMB_OPEN_CREATE, &dev));
    assert_ok(dev->ops->grow(dev, 1 << 20));
    assert_ok(cmb_queue_open(dev, 4, &q));
    io_test_fill(block, N, 1);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    rlim_t old = limit_files(65536);
    int error = cmb_io_write(q, 0, block, N);
    limit_files(old);
    signal(SIGXFSZ, handler);
    assert_int_equal(error, CMB_ENOSPC);
    assert_ok(cmb_io_read(q, 0, seen, 65536, 0));
    assert_memory_equal(seen, block, 65536);
    assert_ok(cmb_io_write(q, 0, block, N));
    assert_ok(cmb_io_read(q, 0, seen, N, 0));
    assert_memory_equal(seen, block, N);
    cmb_queue_close(q);
    cmb_device_close(dev);
}

/* ---- reads past the cache ---- */

static void uncached_reads_of_any_alignment_see_what_was_written(void **state)
{
    enum { SIZE = 1 << 20 };
    char path[512];
    cmb_device *dev;
    cmb_queue *q;
    cmb_allocator libc = cmb_allocator_or_default(NULL);
    uint8_t *data = cmb_io_buffer(&libc, SIZE), *seen = cmb_io_buffer(&libc, SIZE + 16);
    assert_ok(open_device(state, fresh(path, "direct"), CMB_OPEN_CREATE, &dev));
    assert_ok(dev->ops->grow(dev, SIZE - 512)); /* an end that is not aligned */
    assert_ok(cmb_queue_open(dev, 8, &q));
    io_test_fill(data, SIZE, 1);
    assert_ok(cmb_io_write(q, 0, data, SIZE - 512));
    assert_ok(cmb_io_read(q, 0, seen, 65536, CMB_IO_UNCACHED));
    assert_memory_equal(seen, data, 65536);
    assert_ok(cmb_io_read(q, 512, seen + 3, SIZE - 1024, CMB_IO_UNCACHED));
    assert_memory_equal(seen + 3, data + 512, SIZE - 1024);
    assert_ok(cmb_io_read(q, SIZE - 1024, seen, 512, CMB_IO_UNCACHED));
    assert_memory_equal(seen, data + SIZE - 1024, 512);
    cmb_queue_close(q);
    cmb_device_close(dev);
    cmb_io_buffer_release(&libc, data, SIZE);
    cmb_io_buffer_release(&libc, seen, SIZE + 16);
}

/* A file system without O_DIRECT, seen by this process only. False where mounts are refused. */
static bool mount_without_direct(const char *dir)
{
    return mkdir(dir, 0700) == 0 && unshare(CLONE_NEWNS) == 0 &&
           mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 && mount("none", dir, "ramfs", 0, NULL) == 0;
}

static void read_back_without_direct(void **state, const char *path)
{
    cmb_device *dev;
    cmb_queue *q;
    cmb_caps caps;
    char block[4096] = "here", seen[4096] = "";
    assert_ok(open_device(state, path, CMB_OPEN_CREATE, &dev));
    cmb_device_caps(dev, &caps);
    assert_false(caps.flags & CMB_CAP_UNCACHED);
    assert_ok(dev->ops->grow(dev, 4096));
    assert_ok(cmb_queue_open(dev, 1, &q));
    assert_ok(cmb_io_write(q, 0, block, 4096));
    assert_ok(cmb_io_read(q, 0, seen, 4096, CMB_IO_UNCACHED));
    assert_string_equal(seen, "here");
    cmb_queue_close(q);
    cmb_device_close(dev);
}

static void a_file_system_without_uncached_reads_says_so_and_reads_all_the_same(void **state)
{
    char dir[512], path[600];
    if (!mount_without_direct(fresh(dir, "mount"))) {
        print_message("no such file system can be mounted here\n");
        skip();
    }
    snprintf(path, sizeof path, "%s/file", dir);
    read_back_without_direct(state, path);
    assert_int_equal(umount(dir), 0);
}

/* ---- maps ---- */

static void windows_of_a_map_stay_where_they_are_while_the_file_grows(void **state)
{
    char path[512], block[4096];
    cmb_device *dev;
    cmb_queue *q;
    const uint8_t *map, *later;
    assert_ok(open_device(state, fresh(path, "map"), CMB_OPEN_CREATE, &dev));
    assert_ok(dev->ops->grow(dev, 4096));
    assert_ok(cmb_queue_open(dev, 1, &q));
    assert_ok(dev->ops->map(dev, 0, 4096, (const void **)&map));
    for (uint64_t size = 8192; size <= (uint64_t)256 << 20; size *= 4) {
        assert_ok(dev->ops->grow(dev, size));
        io_test_fill(block, sizeof block, size);
        assert_ok(cmb_io_write(q, size - 4096, block, 4096));
        assert_memory_equal(map + size - 4096, block, 4096);
        assert_ok(dev->ops->map(dev, size - 4096, 4096, (const void **)&later));
        assert_ptr_equal(later, map + size - 4096);
    }
    cmb_queue_close(q);
    cmb_device_close(dev);
}

static void a_map_across_windows_is_one_run(void **state)
{
    char path[512], block[8192];
    cmb_device *dev;
    cmb_queue *q;
    const void *map;
    const uint64_t edge = (uint64_t)64 << 30;
    assert_ok(open_device(state, fresh(path, "edge"), CMB_OPEN_CREATE, &dev));
    if (dev->ops->grow(dev, edge + 4096)) {
        cmb_device_close(dev);
        print_message("this file system has no files of that size\n");
        skip();
    }
    assert_ok(cmb_queue_open(dev, 1, &q));
    io_test_fill(block, sizeof block, 2);
    assert_ok(cmb_io_write(q, edge - 4096, block, sizeof block));
    assert_ok(dev->ops->map(dev, edge - 4096, 8192, &map));
    assert_memory_equal(map, block, sizeof block);
    assert_error(dev->ops->map(dev, UINT64_MAX - 4095, 4096, &map), CMB_EINVAL);
    assert_error(dev->ops->map(dev, 0, (uint64_t)1 << 60, &map), CMB_ENOMEM);
    cmb_queue_close(q);
    cmb_device_close(dev);
}

int main(void)
{
    static const char *const engines[] = {
        "posix",
#ifdef CMB_HAVE_URING
        "uring",
#endif
    };
    static const struct {
        const char *name;
        CMUnitTestFunction run;
    } script[] = {
#define TEST(f) {#f, f}
        TEST(a_missing_file_is_not_found),
        TEST(create_makes_a_file_and_refuses_one_that_is_there),
        TEST(a_forced_create_keeps_the_content),
        TEST(a_directory_is_refused_as_such),
        TEST(fifos_and_character_devices_are_refused_without_waiting),
        TEST(a_path_through_a_file_is_not_found),
        TEST(files_without_permission_are_refused_as_such),
        TEST(a_second_writer_is_told_pid_and_program_of_the_first),
        TEST(a_second_writer_of_a_block_device_is_told_as_well),
        TEST(a_short_shared_lock_on_a_block_device_is_waited_for),
        TEST(a_block_device_under_another_name_is_refused_too),
        TEST(two_writers_in_one_process_are_refused_too),
        TEST(a_reader_hinders_no_writer),
        TEST(a_reader_sees_growth_by_a_writer),
        TEST(a_size_makes_a_fixed_file),
        TEST(a_size_that_is_impossible_leaves_no_file_behind),
        TEST(a_tail_that_is_no_block_is_not_seen_and_growth_zeroes_it),
        TEST(a_file_that_became_shorter_is_an_error_not_a_wrong_read),
        TEST(growth_beyond_the_limit_is_refused_and_changes_nothing),
        TEST(a_write_that_goes_in_part_only_is_an_error),
        TEST(uncached_reads_of_any_alignment_see_what_was_written),
        TEST(a_file_system_without_uncached_reads_says_so_and_reads_all_the_same),
        TEST(windows_of_a_map_stay_where_they_are_while_the_file_grows),
        TEST(a_map_across_windows_is_one_run),
#undef TEST
    };
    enum { N = CMB_COUNTOF(engines) * CMB_COUNTOF(script) };
    static struct CMUnitTest tests[N];
    static char names[N][128];
    for (size_t i = 0; i < N; i++) {
        const char *e = engines[i / CMB_COUNTOF(script)];
        snprintf(names[i], sizeof names[i], "%s: %s", e, script[i % CMB_COUNTOF(script)].name);
        tests[i] = (struct CMUnitTest){.name = names[i],
                                       .test_func = script[i % CMB_COUNTOF(script)].run,
                                       .teardown_func = clean,
                                       .initial_state = (void *)(uintptr_t)e};
    }
    return cmocka_run_group_tests_name("file", tests, NULL, NULL);
}
