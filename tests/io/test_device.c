/* SPDX-License-Identifier: ISC */
/*
 * Conformance: the same script on every kind of device. A kind that cannot be had here is skipped by
 * name.
 */
#include "io_test.h"

#include <fcntl.h>
#include <unistd.h>

#define SIZE ((uint64_t)4 << 20)

typedef struct kind {
    const char *name;
    const char *suffix; /* of the device name; NULL: in memory */
    const char *memory; /* the device name then */
    bool loop;     /* over a loop device */
    bool prepared; /* over a file that has its size already */
} kind;

static const kind kinds[] = {
    {.name = "mem", .memory = "mem:"},
    {.name = "mem fixed", .memory = "mem:4M"},
    {.name = "file posix", .suffix = "?io=posix"},
    {.name = "file uring", .suffix = "?io=uring"},
    {.name = "file fixed posix", .suffix = "?fixed=1", .prepared = true},
    {.name = "file fixed uring", .suffix = "?io=uring&fixed=1", .prepared = true},
    {.name = "loop posix", .suffix = "", .loop = true, .prepared = true},
    {.name = "loop uring", .suffix = "?io=uring", .loop = true, .prepared = true},
};

typedef struct fixture {
    const kind *kind;
    io_test_loop loop;
    bool has_loop;
    char name[600];
    cmb_device *dev;
    cmb_queue *queue;
    cmb_caps caps;
    uint8_t *buffer, *expected; /* SIZE bytes each, aligned */
} fixture;

static cmb_allocator libc;

static int make_name(fixture *f)
{
    const char *path = io_test_path("device");
    unlink(path);
    if (f->kind->prepared) {
        int fd = open(path, O_CREAT | O_RDWR, 0600);
        assert_true(fd >= 0);
        assert_int_equal(ftruncate(fd, (off_t)SIZE), 0);
        close(fd);
    }
    if (f->kind->loop) {
        f->has_loop = io_test_loop_make(&f->loop, path);
        path = f->loop.path;
        if (!f->has_loop)
            return -1;
    }
    snprintf(f->name, sizeof f->name, "%s%s", path, f->kind->suffix);
    return 0;
}

/* Leaves *state NULL where the kind cannot be had; a test then skips itself. */
static int set_up(void **state)
{
    const kind *k = *state;
    *state = NULL;
#ifndef CMB_HAVE_URING
    if (k->suffix && strstr(k->suffix, "uring"))
        return 0;
#endif
    fixture *f = calloc(1, sizeof *f);
    f->kind = k;
    libc = cmb_allocator_or_default(NULL);
    if (k->memory) {
        snprintf(f->name, sizeof f->name, "%s", k->memory);
    } else if (make_name(f)) {
        free(f);
        io_test_clean();
        return 0;
    }
    cmb_open_mode mode = k->prepared ? CMB_OPEN_WRITE : CMB_OPEN_CREATE;
    assert_ok(cmb_device_open(f->name, mode, NULL, &f->dev));
    cmb_device_caps(f->dev, &f->caps);
    if (f->caps.size == 0) {
        assert_ok(f->dev->ops->grow(f->dev, SIZE));
        cmb_device_caps(f->dev, &f->caps);
    }
    assert_ok(cmb_queue_open(f->dev, 16, &f->queue));
    f->buffer = cmb_io_buffer(&libc, SIZE);
    f->expected = cmb_io_buffer(&libc, SIZE);
    memset(f->expected, 0, SIZE);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    fixture *f = *state;
    if (!f)
        return 0;
    cmb_queue_close(f->queue);
    cmb_device_close(f->dev);
    cmb_io_buffer_release(&libc, f->buffer, SIZE);
    cmb_io_buffer_release(&libc, f->expected, SIZE);
    if (f->has_loop)
        io_test_loop_free(&f->loop);
    free(f);
    io_test_clean();
    return 0;
}

static fixture *fixture_or_skip(void **state)
{
    if (!*state) {
        print_message("this device cannot be made here\n");
        skip();
    }
    return *state;
}

static void check_all(fixture *f)
{
    memset(f->buffer, 0xEE, SIZE);
    assert_ok(cmb_io_read(f->queue, 0, f->buffer, SIZE, 0));
    assert_memory_equal(f->buffer, f->expected, SIZE);
}

static void properties_make_sense(void **state)
{
    fixture *f = fixture_or_skip(state);
    assert_int_equal(f->caps.size, SIZE);
    assert_true(f->caps.max_size >= f->caps.size);
    assert_true(f->caps.block_size >= 512 && f->caps.block_size <= 4096);
    assert_int_equal(f->caps.block_size & (f->caps.block_size - 1), 0);
    assert_true(f->caps.max_transfer >= 4096 && f->caps.max_transfer % 4096 == 0);
    assert_true(f->caps.queue_depth >= 1 && f->caps.buffer_align >= 1 && f->caps.generation != 0);
    assert_true(f->caps.flags & CMB_CAP_FLUSH);
    assert_false(f->caps.flags & CMB_CAP_READ_ONLY);
    assert_int_equal(!!(f->caps.flags & CMB_CAP_GROW), f->dev->ops->grow != NULL);
    assert_int_equal(!!(f->caps.flags & CMB_CAP_MAP), f->dev->ops->map != NULL);
    assert_int_equal(!!(f->caps.flags & CMB_CAP_GROW), f->caps.max_size > f->caps.size);
    assert_non_null(f->dev->ops->describe(f->dev));
    print_message("%s: %s\n", f->kind->name, f->dev->ops->describe(f->dev));
}

static void what_was_never_written_reads_as_zeros(void **state)
{
    check_all(fixture_or_skip(state));
}

static void random_writes_read_back(void **state)
{
    fixture *f = fixture_or_skip(state);
    uint64_t seed = io_test_seed();
    for (unsigned i = 0; i < 100 * io_test_budget(); i++) {
        uint64_t blocks = SIZE / f->caps.block_size;
        uint64_t at = io_test_random(&seed) % blocks, n = 1 + io_test_random(&seed) % 64;
        n = n < blocks - at ? n : blocks - at;
        uint64_t offset = at * f->caps.block_size, length = n * f->caps.block_size;
        uint8_t *b = f->buffer + io_test_random(&seed) % 2 * 8; /* aligned buffers and others */
        if (io_test_random(&seed) % 3) {
            io_test_fill(f->expected + offset, length, i);
            memcpy(b, f->expected + offset, length);
            assert_ok(cmb_io_write(f->queue, offset, b, length));
        } else {
            uint32_t flags = io_test_random(&seed) % 4 ? 0 : CMB_IO_UNCACHED;
            assert_ok(cmb_io_read(f->queue, offset, b, length, flags));
            assert_memory_equal(b, f->expected + offset, length);
        }
    }
    assert_ok(cmb_io_flush(f->queue));
    check_all(f);
}

static void one_huge_write_and_read_are_split_and_put_together(void **state)
{
    fixture *f = fixture_or_skip(state);
    io_test_fill(f->expected, SIZE, 99);
    assert_ok(cmb_io_write(f->queue, 0, f->expected, SIZE));
    check_all(f);
    memset(f->buffer, 0, SIZE);
    assert_ok(cmb_io_read(f->queue, 0, f->buffer, SIZE, CMB_IO_UNCACHED));
    assert_memory_equal(f->buffer, f->expected, SIZE);
}

static void a_length_of_zero_is_no_work(void **state)
{
    fixture *f = fixture_or_skip(state);
    assert_ok(cmb_io_read(f->queue, SIZE, NULL, 0, 0));
    assert_ok(cmb_io_write(f->queue, 0, NULL, 0));
    assert_ok(cmb_io_discard(f->queue, 0, 0));
    assert_ok(cmb_io_many(f->queue, NULL, 0));
    cmb_request r = {.op = CMB_OP_READ, .user = f};
    cmb_completion done;
    assert_int_equal(f->dev->ops->submit(f->queue, &r, 1), 1);
    assert_int_equal(f->dev->ops->reap(f->queue, &done, 1, 1), 1);
    assert_ptr_equal(done.user, f);
    assert_int_equal(done.result, 0);
}

/* Submits all requests whatever the queue takes at a time, and reaps each exactly once. */
static void run_all(fixture *f, cmb_request *requests, unsigned n)
{
    unsigned sent = 0, done = 0;
    bool *seen = calloc(n, sizeof *seen);
    while (done < n) {
        if (sent < n) {
            int taken = f->dev->ops->submit(f->queue, &requests[sent], n - sent);
            assert_true(taken >= 0);
            sent += (unsigned)taken;
        }
        cmb_completion c[5];
        int got = f->dev->ops->reap(f->queue, c, 5, sent == n || sent - done >= 16 ? 1 : 0);
        assert_in_range(got, 0, 5);
        for (int i = 0; i < got; i++) {
            size_t index = (size_t)((cmb_request *)c[i].user - requests);
            assert_true(index < n && !seen[index]);
            assert_int_equal(c[i].result, 0);
            assert_int_equal(c[i].generation, f->caps.generation);
            seen[index] = true;
            done++;
        }
    }
    free(seen);
}

static void every_request_in_flight_completes_once_with_its_user_pointer(void **state)
{
    enum { N = 300 };
    fixture *f = fixture_or_skip(state);
    cmb_request r[N];
    for (unsigned i = 0; i < N; i++) {
        io_test_fill(f->expected + i * 4096u, 4096, i);
        r[i] = (cmb_request){
            .op = CMB_OP_WRITE, .offset = i * 4096u, .length = 4096, .buffer = f->expected + i * 4096u, .user = &r[i]};
    }
    run_all(f, r, N);
    for (unsigned i = 0; i < N; i++)
        r[i] = (cmb_request){.op = CMB_OP_READ,
                             .flags = i % 16 ? 0 : CMB_IO_UNCACHED,
                             .offset = i * 4096u,
                             .length = 4096,
                             .buffer = f->buffer + i * 4096u,
                             .user = &r[i]};
    run_all(f, r, N);
    assert_memory_equal(f->buffer, f->expected, N * 4096u);
}

static void many_requests_of_several_kinds_are_waited_for_together(void **state)
{
    fixture *f = fixture_or_skip(state);
    io_test_fill(f->expected, SIZE / 2, 5);
    cmb_request r[] = {
        {.op = CMB_OP_WRITE, .offset = 0, .length = SIZE / 4, .buffer = f->expected},
        {.op = CMB_OP_WRITE, .offset = SIZE / 4, .length = SIZE / 4, .buffer = f->expected + SIZE / 4},
        {.op = CMB_OP_READ, .offset = SIZE / 2, .length = SIZE / 2, .buffer = f->buffer + SIZE / 2},
    };
    assert_ok(cmb_io_many(f->queue, r, CMB_COUNTOF(r)));
    assert_memory_equal(f->buffer + SIZE / 2, f->expected + SIZE / 2, SIZE / 2);
    check_all(f);
}

static void a_full_queue_takes_nothing_until_something_is_reaped(void **state)
{
    fixture *f = fixture_or_skip(state);
    cmb_queue *q;
    cmb_completion done;
    assert_ok(cmb_queue_open(f->dev, 1, &q));
    cmb_request r = {.op = CMB_OP_READ, .length = 4096, .buffer = f->buffer};
    assert_int_equal(f->dev->ops->submit(q, &r, 1), 1);
    assert_int_equal(f->dev->ops->submit(q, &r, 1), 0);
    assert_int_equal(f->dev->ops->reap(q, &done, 1, 1), 1);
    assert_int_equal(f->dev->ops->submit(q, &r, 1), 1);
    assert_int_equal(f->dev->ops->reap(q, &done, 1, 1), 1);
    assert_int_equal(f->dev->ops->reap(q, &done, 1, 0), 0);
    assert_int_equal(f->dev->ops->reap(q, &done, 1, 1), 0);
    cmb_queue_close(q);
}

static void misuse_is_refused_and_changes_nothing(void **state)
{
    fixture *f = fixture_or_skip(state);
    void *b = f->buffer;
    uint64_t odd = f->caps.block_size / 2;
    const cmb_request wrong[] = {
        {.op = CMB_OP_READ, .offset = odd, .length = 4096, .buffer = b},
        {.op = CMB_OP_WRITE, .offset = 0, .length = 4096 + odd, .buffer = b},
        {.op = CMB_OP_WRITE, .offset = SIZE, .length = 4096, .buffer = b},
        {.op = CMB_OP_READ, .offset = SIZE - 4096, .length = 8192, .buffer = b},
        {.op = CMB_OP_READ, .offset = UINT64_MAX - 4095, .length = 8192, .buffer = b},
        {.op = CMB_OP_WRITE, .offset = 0, .length = 4096, .buffer = NULL},
        {.op = CMB_OP_READ, .flags = 0x80, .length = 4096, .buffer = b},
        {.op = CMB_OP_FLUSH, .length = 4096},
        {.op = (cmb_op)9, .length = 4096, .buffer = b},
        {.op = (cmb_op)0, .length = 4096, .buffer = b},
    };
    memset(f->buffer, 0x77, 65536);
    for (size_t i = 0; i < CMB_COUNTOF(wrong); i++) {
        cmb_completion done;
        assert_int_equal(f->dev->ops->submit(f->queue, &wrong[i], 1), CMB_EINVAL);
        assert_detail_has(f->dev->name);
        assert_int_equal(f->dev->ops->reap(f->queue, &done, 1, 1), 0);
    }
    check_all(f);
}

static void requests_before_a_refused_one_are_taken(void **state)
{
    fixture *f = fixture_or_skip(state);
    cmb_request r[] = {{.op = CMB_OP_READ, .length = 4096, .buffer = f->buffer, .user = f},
                       {.op = CMB_OP_READ, .offset = 1, .length = 4096, .buffer = f->buffer}};
    cmb_completion done;
    assert_int_equal(f->dev->ops->submit(f->queue, r, 2), 1);
    assert_int_equal(f->dev->ops->reap(f->queue, &done, 1, 1), 1);
    assert_ptr_equal(done.user, f);
    assert_int_equal(cmb_io_many(f->queue, r, 2), CMB_EINVAL);
    assert_int_equal(f->dev->ops->reap(f->queue, &done, 1, 0), 0);
}

static void helpers_name_device_operation_offset_and_length(void **state)
{
    fixture *f = fixture_or_skip(state);
    assert_error(cmb_io_write(f->queue, SIZE, f->buffer, 8192), CMB_EINVAL);
    char expected[700];
    snprintf(expected, sizeof expected, "%s: write of 8192 bytes at %llu: ", f->dev->name, (unsigned long long)SIZE);
    assert_detail_has(expected);
}

static void discard_leaves_the_blocks_around_alone(void **state)
{
    fixture *f = fixture_or_skip(state);
    if (!(f->caps.flags & CMB_CAP_DISCARD)) {
        print_message("this device has no discard\n");
        skip();
    }
    io_test_fill(f->expected, SIZE, 3);
    assert_ok(cmb_io_write(f->queue, 0, f->expected, SIZE));
    assert_ok(cmb_io_discard(f->queue, 1 << 20, (2 << 20) + 4096));
    assert_ok(cmb_io_read(f->queue, 0, f->buffer, SIZE, 0));
    assert_memory_equal(f->buffer, f->expected, 1 << 20);
    size_t end = (3 << 20) + 4096;
    assert_memory_equal(f->buffer + end, f->expected + end, SIZE - end);
    for (size_t at = 1 << 20; at < end; at += 4096) {
        bool zero = f->buffer[at] == 0 && memcmp(f->buffer + at, f->buffer + at + 1, 4095) == 0;
        assert_true(zero || memcmp(f->buffer + at, f->expected + at, 4096) == 0);
    }
}

static void a_map_shows_completed_writes(void **state)
{
    fixture *f = fixture_or_skip(state);
    if (!(f->caps.flags & CMB_CAP_MAP)) {
        print_message("this device has no map\n");
        skip();
    }
    const void *all, *middle, *again;
    assert_ok(f->dev->ops->map(f->dev, 0, SIZE, &all));
    assert_ok(f->dev->ops->map(f->dev, SIZE / 2, 4096, &middle));
    for (unsigned round = 0; round < 3; round++) {
        io_test_fill(f->expected, SIZE, round);
        assert_ok(cmb_io_write(f->queue, 0, f->expected, SIZE));
        assert_memory_equal(all, f->expected, SIZE);
        assert_memory_equal(middle, f->expected + SIZE / 2, 4096);
    }
    assert_ok(f->dev->ops->map(f->dev, 0, SIZE, &again));
    assert_ptr_equal(all, again);
}

static void a_map_may_reach_past_the_end(void **state)
{
    fixture *f = fixture_or_skip(state);
    if (!(f->caps.flags & CMB_CAP_MAP)) {
        print_message("this device has no map\n");
        skip();
    }
    const uint8_t *p;
    assert_ok(f->dev->ops->map(f->dev, 0, (uint64_t)40 << 30, (const void **)&p));
    assert_int_equal(p[SIZE - 1], 0);
    assert_ok(f->dev->ops->map(f->dev, SIZE, (uint64_t)1 << 30, (const void **)&p));
    if (!(f->caps.flags & CMB_CAP_GROW))
        return;
    assert_ok(f->dev->ops->grow(f->dev, 2 * SIZE));
    io_test_fill(f->expected, SIZE, 8);
    assert_ok(cmb_io_write(f->queue, SIZE, f->expected, SIZE));
    assert_memory_equal(p, f->expected, SIZE);
}

static void growth_adds_zeros_and_keeps_what_was_there(void **state)
{
    fixture *f = fixture_or_skip(state);
    cmb_caps caps;
    if (!(f->caps.flags & CMB_CAP_GROW)) {
        print_message("this device has a fixed size\n");
        skip();
    }
    io_test_fill(f->expected, SIZE, 4);
    assert_ok(cmb_io_write(f->queue, 0, f->expected, SIZE));
    assert_ok(f->dev->ops->grow(f->dev, 2 * SIZE));
    assert_ok(f->dev->ops->grow(f->dev, SIZE)); /* smaller: nothing happens */
    cmb_device_caps(f->dev, &caps);
    assert_int_equal(caps.size, 2 * SIZE);
    check_all(f);
    assert_ok(cmb_io_read(f->queue, SIZE, f->buffer, SIZE, 0));
    memset(f->expected, 0, SIZE);
    assert_true(caps.flags & CMB_CAP_ZEROED_GROWTH);
    assert_memory_equal(f->buffer, f->expected, SIZE);
    assert_error(f->dev->ops->grow(f->dev, 2 * SIZE + 1), CMB_EINVAL);
    assert_true(f->dev->ops->grow(f->dev, UINT64_MAX & ~(uint64_t)4095) < 0);
    cmb_device_caps(f->dev, &caps);
    assert_int_equal(caps.size, 2 * SIZE);
}

typedef struct half {
    cmb_device *dev;
    uint64_t offset;
    const uint8_t *data;
    int result;
} half;

static void write_half(void *arg)
{
    half *h = arg;
    cmb_queue *q;
    h->result = cmb_queue_open(h->dev, 8, &q);
    for (uint64_t at = 0; at < SIZE / 2 && !h->result; at += 65536)
        h->result = cmb_io_write(q, h->offset + at, h->data + at, 65536);
    if (!h->result)
        h->result = cmb_io_flush(q);
    cmb_queue_close(q);
}

static void two_threads_write_through_queues_of_their_own(void **state)
{
    fixture *f = fixture_or_skip(state);
    io_test_fill(f->expected, SIZE, 6);
    half halves[2] = {{.dev = f->dev, .data = f->expected},
                      {.dev = f->dev, .offset = SIZE / 2, .data = f->expected + SIZE / 2}};
    cmb_thread threads[2];
    for (int i = 0; i < 2; i++)
        assert_ok(cmb_thread_start(&threads[i], write_half, &halves[i]));
    for (int i = 0; i < 2; i++) {
        cmb_thread_join(&threads[i]);
        assert_int_equal(halves[i].result, 0);
    }
    check_all(f);
}

static void content_is_there_after_opening_again_read_only(void **state)
{
    fixture *f = fixture_or_skip(state);
    if (f->kind->memory) {
        print_message("memory is gone when it is closed\n");
        skip();
    }
    io_test_fill(f->expected, SIZE, 7);
    assert_ok(cmb_io_write(f->queue, 0, f->expected, SIZE));
    assert_ok(cmb_io_flush(f->queue));
    cmb_queue_close(f->queue);
    cmb_device_close(f->dev);
    assert_ok(cmb_device_open(f->name, CMB_OPEN_READ, NULL, &f->dev));
    assert_ok(cmb_queue_open(f->dev, 8, &f->queue));
    cmb_device_caps(f->dev, &f->caps);
    assert_true(f->caps.flags & CMB_CAP_READ_ONLY);
    assert_null(f->dev->ops->grow);
    check_all(f);
    assert_error(cmb_io_write(f->queue, 0, f->buffer, 4096), CMB_EREADONLY);
    assert_error(cmb_io_discard(f->queue, 0, 4096), CMB_EREADONLY);
    assert_ok(cmb_io_flush(f->queue));
}

typedef struct script_test {
    const char *name;
    CMUnitTestFunction run;
} script_test;

#define TEST(f) {#f, f}
static const script_test script[] = {
    TEST(properties_make_sense),
    TEST(what_was_never_written_reads_as_zeros),
    TEST(random_writes_read_back),
    TEST(one_huge_write_and_read_are_split_and_put_together),
    TEST(a_length_of_zero_is_no_work),
    TEST(every_request_in_flight_completes_once_with_its_user_pointer),
    TEST(many_requests_of_several_kinds_are_waited_for_together),
    TEST(a_full_queue_takes_nothing_until_something_is_reaped),
    TEST(misuse_is_refused_and_changes_nothing),
    TEST(requests_before_a_refused_one_are_taken),
    TEST(helpers_name_device_operation_offset_and_length),
    TEST(discard_leaves_the_blocks_around_alone),
    TEST(a_map_shows_completed_writes),
    TEST(a_map_may_reach_past_the_end),
    TEST(growth_adds_zeros_and_keeps_what_was_there),
    TEST(two_threads_write_through_queues_of_their_own),
    TEST(content_is_there_after_opening_again_read_only),
};

int main(void)
{
    enum { N = CMB_COUNTOF(kinds) * CMB_COUNTOF(script) };
    static struct CMUnitTest tests[N];
    static char names[N][128];
    for (size_t i = 0; i < N; i++) {
        const kind *k = &kinds[i / CMB_COUNTOF(script)];
        const script_test *t = &script[i % CMB_COUNTOF(script)];
        snprintf(names[i], sizeof names[i], "%s: %s", k->name, t->name);
        tests[i] = (struct CMUnitTest){.name = names[i],
                                       .test_func = t->run,
                                       .setup_func = set_up,
                                       .teardown_func = tear_down,
                                       .initial_state = (void *)(uintptr_t)k};
    }
    return cmocka_run_group_tests_name("device", tests, NULL, NULL);
}
