/* SPDX-License-Identifier: ISC */
#include "hook.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#define THREADS 6

typedef struct shared {
    cmb_log *log;
    _Atomic uint64_t latest; /* a record lately published */
    _Atomic uint64_t units;
    atomic_bool stop;
    _Atomic uint64_t number;
} shared;

#define LENGTH 4160u

static void *writer(void *arg)
{
    shared *s = arg;
    th_random r = {atomic_fetch_add(&s->number, 1)};
    for (unsigned i = 0; i < 150; i++) {
        cmb_appender *app, *stream = NULL;
        uint64_t addr, seq;
        if (i % 50 == 49) {
            assert_int_equal(cmb_log_stream(s->log, &stream), 0);
            assert_int_equal(th_append(stream, LENGTH, &addr), 0);
            atomic_store(&s->latest, addr);
            assert_int_equal(cmb_stream_finish(stream), 0);
        }
        assert_int_equal(cmb_log_begin(s->log, &app, NULL), 0);
        if (stream)
            assert_int_equal(cmb_append_adopt(app, stream), 0);
        for (uint64_t n = 1 + th_below(&r, 5); n; n--)
            assert_int_equal(th_append(app, LENGTH, &addr), 0);
        if (i % 17 == 5 && !stream) {
            cmb_append_abort(app);
            continue;
        }
        assert_int_equal(cmb_log_publish(app, "edit4567", 8, &seq), 0);
        atomic_store(&s->latest, addr);
        atomic_fetch_add(&s->units, 1);
        if (i % 3) {
            assert_int_equal(cmb_log_sync(s->log, seq), 0);
            assert_true(cmb_log_durable_seq(s->log) >= seq);
        }
        th_check(s->log, addr, LENGTH);
    }
    return NULL;
}

static void *reader(void *arg)
{
    shared *s = arg;
    while (!atomic_load(&s->stop)) {
        uint64_t addr = atomic_load(&s->latest);
        if (addr)
            th_check(s->log, addr, LENGTH);
    }
    return NULL;
}

static void *checkpointer(void *arg)
{
    shared *s = arg;
    while (!atomic_load(&s->stop)) {
        cmb_appender *app;
        uint64_t seq;
        assert_int_equal(cmb_log_begin(s->log, &app, NULL), 0);
        assert_int_equal(th_checkpoint(app, 1, &seq), 0);
    }
    return NULL;
}

static void threads_share_flushes_and_readers_see_queued_data(void **state)
{
    (void)state;
    th_random r = {th_seed()};
    cmb_device *dev = th_mem(512u << 20);
    th_format(dev, 512u << 20, 21, &r);
    cmb_log *log;
    th_ok(th_open_as(dev, true, &r, NULL, &log));
    th_start(log, 0);
    static shared s;
    s.log = log;
    atomic_store(&s.latest, 0);
    atomic_store(&s.stop, false);
    pthread_t threads[THREADS], readers[2], checkpoints;
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, writer, &s), 0);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&readers[i], NULL, reader, &s), 0);
    assert_int_equal(pthread_create(&checkpoints, NULL, checkpointer, &s), 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    atomic_store(&s.stop, true);
    for (unsigned i = 0; i < 2; i++)
        pthread_join(readers[i], NULL);
    pthread_join(checkpoints, NULL);
    th_ok(cmb_log_close(log));
    th_ok(th_open_as(dev, false, &r, NULL, &log));
    uint64_t addr = atomic_load(&s.latest);
    th_check(log, addr, LENGTH);
    th_ok(cmb_log_close(log));
    cmb_device_close(dev);
}

static void a_large_unit_is_written_ahead_and_may_still_abort(void **state)
{
    (void)state;
    th_random r = {th_seed()};
    cmb_device *dev = th_mem(0);
    th_format(dev, 0, 22, &r);
    cmb_log *log;
    static th_edits edits;
    uint64_t addrs[40], seq, first;
    th_ok(th_open_as(dev, true, &r, NULL, &log));
    th_start(log, 0);
    for (unsigned round = 0; round < 3; round++) {
        cmb_appender *app;
        th_ok(th_unit(log, 500, 100 + round, &first, &seq));
        th_ok(cmb_log_begin(log, &app, NULL));
        for (unsigned i = 0; i < 16; i++)
            th_ok(th_append(app, CMB_RECORD_MAX, &addrs[i]));
        for (unsigned i = 0; i < 16; i++)
            th_check(log, addrs[i], CMB_RECORD_MAX);
        if (round == 1) {
            th_ok(cmb_log_publish(app, "12345678", 8, &seq));
            th_ok(cmb_log_sync(log, seq));
        } else {
            cmb_append_abort(app);
            th_ok(cmb_log_sync(log, seq));
        }
        th_check(log, first, 500);
        th_ok(cmb_log_close(log));
        th_ok(th_open_as(dev, true, &r, &edits, &log));
        assert_int_equal(edits.n, round == 1 ? 2 : 1);
        assert_int_equal(edits.values[0], 100 + round);
        th_check(log, first, 500);
        if (round == 1) {
            for (unsigned i = 0; i < 16; i++)
                th_check(log, addrs[i], CMB_RECORD_MAX);
        }
        th_start(log, 0);
    }
    th_ok(cmb_log_close(log));
    cmb_device_close(dev);
}

/* What recovery is told of comes from the published units alone, though the aborted ones outgrew memory. */
static void intents_of_a_unit_that_aborts_after_outgrowing_memory_are_never_told(void **state)
{
    (void)state;
    th_random r = {th_seed()};
    static const unsigned before[] = {0, 1, 12, 15}; /* records of 1 MiB ahead of the intents, of 24 */
    static th_edits edits;
    for (unsigned i = 0; i < CMB_COUNTOF(before); i++) {
        cmb_device *dev = th_mem(0);
        th_format(dev, 0, 22, &r);
        cmb_log *log;
        cmb_appender *app;
        uint64_t addr, seq, first;
        th_ok(th_open_as(dev, true, &r, NULL, &log));
        th_start(log, 0);
        th_ok(th_unit(log, 500, 1, &first, &seq));
        th_ok(cmb_log_begin(log, &app, NULL));
        for (unsigned k = 0; k < 24; k++) {
            if (k == before[i])
                th_ok(cmb_append_record(app, CMB_RECORD_INTENTS, "aborted.", 8, &addr));
            th_ok(th_append(app, CMB_RECORD_MAX, &addr));
        }
        th_check(log, addr, CMB_RECORD_MAX);
        cmb_append_abort(app);
        th_ok(cmb_log_begin(log, &app, NULL));
        th_ok(cmb_append_record(app, CMB_RECORD_INTENTS, "\2\0\0\0\0\0\0", 8, &addr));
        th_ok(cmb_log_publish(app, "\3\0\0\0\0\0\0", 8, &seq));
        th_ok(cmb_log_sync(log, seq));
        cmb_log *reader;
        th_ok(th_open_as(dev, false, &r, &edits, &reader));
        assert_int_equal(edits.n, 3);
        for (unsigned k = 0; k < 3; k++)
            assert_int_equal(edits.values[k], k + 1);
        th_check(reader, first, 500);
        th_ok(cmb_log_close(reader));
        th_ok(cmb_log_close(log));
        cmb_device_close(dev);
    }
}

static void an_unadopted_stream_leaves_nothing(void **state)
{
    (void)state;
    th_random r = {th_seed()};
    cmb_device *dev = th_mem(128u << 20);
    th_format(dev, 128u << 20, 21, &r);
    cmb_log *log;
    th_ok(th_open_as(dev, true, &r, NULL, &log));
    th_start(log, 0);
    cmb_log_stats before, after;
    cmb_log_get_stats(log, &before);
    for (unsigned i = 0; i < 30; i++) {
        cmb_appender *s;
        uint64_t addr = 0;
        th_ok(cmb_log_stream(log, &s));
        for (unsigned k = 0; k < 9; k++) {
            th_ok(th_append(s, 900000, &addr));
            th_check(log, addr, 900000);
        }
        if (i % 2)
            th_ok(cmb_stream_finish(s));
        cmb_append_abort(s);
        uint8_t gone[16];
        assert_int_equal(cmb_log_read(log, NULL, addr, 16, gone), CMB_ECORRUPT);
    }
    cmb_log_get_stats(log, &after);
    assert_memory_equal(before.segments, after.segments, sizeof before.segments);
    th_ok(cmb_log_close(log));
    cmb_device_close(dev);
}

static void a_failed_write_or_flush_latches_and_readers_go_on(void **state)
{
    (void)state;
    uint64_t seed = th_seed();
    for (cmb_op op = CMB_OP_WRITE; op <= CMB_OP_FLUSH; op++) {
        for (unsigned after = 12; after < 30; after++) {
            th_random r = {seed + after};
            cmb_fault_rule rule = {.op = op, .kind = CMB_FAULT_EIO, .first = after};
            cmb_device *dev;
            th_ok(cmb_device_fault(th_mem(64u << 20), &rule, 1, 1, &dev));
            th_format(dev, 64u << 20, 21, &r);
            cmb_log *log;
            th_ok(th_open_as(dev, true, &r, NULL, &log));
            th_start(log, 0);
            uint64_t addrs[64], seq, n = 0;
            int e = 0;
            while (!e && n < 60) {
                e = th_unit(log, 3000, n + 1, &addrs[n], &seq);
                n += e == 0;
                if (!e)
                    e = cmb_log_sync(log, seq);
            }
            assert_int_equal(e, CMB_EUNKNOWN);
            assert_int_equal(cmb_log_sync(log, seq), CMB_EUNKNOWN);
            th_ok(cmb_log_sync(log, seq - 1));
            uint64_t addr;
            assert_int_equal(th_unit(log, 3000, n + 1, &addr, &seq), CMB_EREADONLY);
            for (uint64_t i = 0; i < n; i++)
                th_check(log, addrs[i], 3000);
            cmb_log_stats s;
            cmb_log_get_stats(log, &s);
            assert_true(s.failed);
            assert_int_not_equal(cmb_log_close(log), 0);
            static th_edits edits;
            th_ok(th_open_as(dev, true, &r, &edits, &log));
            assert_true(edits.n == n || edits.n == n - 1);
            th_ok(cmb_log_close(log));
            cmb_device_close(dev);
        }
    }
}

/* ---- the same bytes everywhere ---- */

/* A device that tells of a lost write to one flush alone: to the first, which takes its time. */
typedef struct loser {
    atomic_bool armed, told;
    atomic_uint others; /* flushes begun since */
} loser;

static int lose(void *ctx, const cmb_request *request)
{
    loser *l = ctx;
    if (request->op != CMB_OP_FLUSH)
        return 0;
    if (!atomic_exchange(&l->armed, false)) {
        atomic_fetch_add(&l->others, atomic_load(&l->told));
        return 0;
    }
    atomic_store(&l->told, true);
    for (unsigned i = 0; i < 100 && !atomic_load(&l->others); i++) /* for another one to come in meanwhile, if it may */
        usleep(2000);
    return cmb_fail(CMB_EIO, "a write was lost");
}

static void *finish_stream(void *arg)
{
    return (void *)(intptr_t)cmb_stream_finish(arg);
}

static void a_commit_does_not_count_as_durable_when_the_device_told_another_flush_of_its_lost_write(void **state)
{
    (void)state;
    th_random r = {th_seed()};
    static loser l;
    cmb_device *dev = th_hook_over(th_mem(64u << 20), NULL, lose, &l);
    th_format(dev, 64u << 20, 21, &r);
    cmb_log *log;
    cmb_appender *stream;
    uint64_t addr, seq;
    th_ok(th_open_as(dev, true, &r, NULL, &log));
    th_start(log, 0);
    th_ok(cmb_log_stream(log, &stream));
    th_ok(th_append(stream, 5000, &addr));
    th_ok(th_unit(log, 500, 1, &addr, &seq));
    th_ok(cmb_log_write_out(log));
    atomic_store(&l.armed, true);
    pthread_t thread;
    void *result;
    assert_int_equal(pthread_create(&thread, NULL, finish_stream, stream), 0);
    while (!atomic_load(&l.told))
        usleep(100);
    assert_int_equal(cmb_log_sync(log, seq), CMB_EUNKNOWN);
    pthread_join(thread, &result);
    assert_int_equal((int)(intptr_t)result, CMB_EUNKNOWN);
    assert_int_equal(atomic_load(&l.others), 0); /* no flush is believed any more, so none is made */
    assert_int_equal(th_unit(log, 500, 2, &addr, &seq), CMB_EREADONLY);
    cmb_append_abort(stream);
    (void)cmb_log_close(log);
    cmb_device_close(dev);
}

static void script(cmb_device *dev, uint64_t size)
{
    th_random r = {77};
    th_format(dev, size, 21, &r);
    for (unsigned round = 0; round < 3; round++) {
        cmb_log *log;
        uint64_t addr, seq;
        th_ok(th_open_as(dev, true, &r, NULL, &log));
        th_start(log, round);
        for (unsigned i = 0; i < 40; i++) {
            th_ok(th_unit(log, 16 + (uint32_t)th_below(&r, 90000), i, &addr, &seq));
            if (i % 3)
                th_ok(cmb_log_sync(log, seq));
        }
        cmb_appender *s, *app;
        th_ok(cmb_log_stream(log, &s));
        th_ok(th_append(s, 800000, &addr));
        th_ok(cmb_stream_finish(s));
        th_ok(cmb_log_begin(log, &app, NULL));
        th_ok(cmb_append_adopt(app, s));
        th_ok(th_checkpoint(app, 5, &seq));
        th_ok(cmb_log_close(log));
    }
}

static uint64_t digest(cmb_device *dev)
{
    cmb_caps caps;
    cmb_queue *q;
    cmb_device_caps(dev, &caps);
    uint8_t *buf = malloc(1 << 20);
    uint64_t h = caps.size;
    th_ok(cmb_queue_open(dev, 1, &q));
    for (uint64_t at = 0; at < caps.size; at += 1 << 20) {
        uint64_t n = caps.size - at < 1 << 20 ? caps.size - at : 1 << 20;
        th_ok(cmb_io_read(q, at, buf, n, 0));
        h = cmb_hash64(buf, n, h);
    }
    cmb_queue_close(q);
    free(buf);
    return h;
}

static void one_thread_makes_the_same_bytes_in_memory_and_in_a_file(void **state)
{
    (void)state;
    char path[] = "/tmp/cambium-log-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    unlink(path);
    cmb_device *mem = th_mem(0), *file;
    th_ok(cmb_device_open(path, CMB_OPEN_CREATE, NULL, &file));
    script(mem, 0);
    script(file, 0);
    assert_int_equal(digest(mem), digest(file));
    cmb_device_close(mem);
    cmb_device_close(file);
    unlink(path);
}

/* ---- memory ---- */

typedef struct limited {
    uint64_t left, out;
    bool once; /* refused once, then there is memory again */
} limited;
static void *limited_alloc(void *ctx, size_t n)
{
    limited *l = ctx;
    if (l->left == 0) {
        l->left = l->once ? UINT64_MAX : 0;
        l->once = false;
        return NULL;
    }
    l->left--;
    l->out++;
    return aligned_alloc(16, (n + 15) & ~(size_t)15);
}
static void *limited_resize(void *ctx, void *ptr, size_t old, size_t n)
{
    void *p = limited_alloc(ctx, n);
    if (!p)
        return NULL;
    if (ptr) {
        memcpy(p, ptr, old < n ? old : n);
        free(ptr);
        ((limited *)ctx)->out--;
    }
    return p;
}
static void limited_release(void *ctx, void *ptr, size_t n)
{
    (void)n;
    if (ptr)
        ((limited *)ctx)->out--;
    free(ptr);
}

static int whole_life(cmb_device *dev, limited *l, uint64_t *out_value)
{
    th_random r = {5};
    cmb_log_options o = {.writable = true, .env = th_env(&r),
                         .alloc = {l, limited_alloc, limited_resize, limited_release}};
    cmb_log *log;
    cmb_appender *app = NULL, *s = NULL;
    uint64_t addr, seq;
    int e = cmb_log_open(dev, &o, &log);
    if (e)
        return e;
    e = cmb_log_begin(log, &app, NULL);
    if (!e && (e = th_checkpoint(app, 0, &seq)) && e != CMB_EUNKNOWN)
        cmb_append_abort(app);
    for (uint64_t v = 1; v <= 6 && !e; v++) {
        e = th_unit(log, 200000, v, &addr, &seq);
        if (!e)
            e = cmb_log_sync(log, seq);
        if (!e)
            *out_value = v;
    }
    if (!e)
        e = cmb_log_stream(log, &s);
    if (!e) {
        e = th_append(s, 300000, &addr);
        if (!e)
            e = cmb_stream_finish(s);
        if (!e)
            e = cmb_log_begin(log, &app, NULL);
        if (!e) {
            e = cmb_append_adopt(app, s);
            s = e ? s : NULL;
            if (!e)
                e = cmb_log_publish(app, "12345678", 8, &seq);
            if (e)
                cmb_append_abort(app);
        }
        if (s)
            cmb_append_abort(s);
    }
    int c = cmb_log_close(log);
    return e ? e : c;
}

static void an_allocation_that_fails_anywhere_leaves_no_leak_and_a_good_image(void **state)
{
    (void)state;
    bool done = false;
    for (uint64_t k = 0; !done; k++) {
        th_random r = {3};
        cmb_device *dev = th_mem(64u << 20);
        th_format(dev, 64u << 20, 21, &r);
        limited l = {.left = k};
        uint64_t value = 0;
        int e = whole_life(dev, &l, &value);
        assert_true(e == 0 || e == CMB_ENOMEM);
        assert_int_equal(l.out, 0);
        done = e == 0;
        static th_edits edits;
        cmb_log *log;
        th_ok(th_open_as(dev, true, &r, &edits, &log));
        assert_true(edits.n >= value);
        th_ok(cmb_log_close(log));
        cmb_device_close(dev);
    }
}

static void an_open_whose_memory_ends_anywhere_tells_every_edit_or_fails(void **state)
{
    (void)state;
    th_random r = {3};
    cmb_device *dev = th_mem(64u << 20);
    cmb_log *log;
    uint64_t addr, seq;
    th_format(dev, 64u << 20, 21, &r);
    th_ok(th_open_as(dev, true, &r, NULL, &log));
    th_start(log, 0);
    for (uint64_t v = 1; v <= 40; v++) {
        th_ok(th_unit(log, 100, v, &addr, &seq));
        if (v % 3 == 0)
            th_ok(cmb_log_sync(log, seq));
    }
    th_ok(cmb_log_close(log));
    bool done = false;
    for (uint64_t k = 0; !done; k++) {
        static th_edits edits;
        limited l = {.left = k / 2, .once = true};
        cmb_log_options o = {.writable = k % 2, .env = th_env(&r), .replay = th_replay, .ctx = &edits,
                             .alloc = {&l, limited_alloc, limited_resize, limited_release}};
        edits.n = 0;
        int e = cmb_log_open(dev, &o, &log);
        assert_true(e == 0 || e == CMB_ENOMEM);
        done = l.once;
        if (!e) {
            assert_int_equal(edits.n, 40);
            th_ok(cmb_log_close(log));
        }
        assert_int_equal(l.out, 0);
    }
    cmb_device_close(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_share_flushes_and_readers_see_queued_data),
        cmocka_unit_test(a_large_unit_is_written_ahead_and_may_still_abort),
        cmocka_unit_test(intents_of_a_unit_that_aborts_after_outgrowing_memory_are_never_told),
        cmocka_unit_test(an_unadopted_stream_leaves_nothing),
        cmocka_unit_test(a_failed_write_or_flush_latches_and_readers_go_on),
        cmocka_unit_test(a_commit_does_not_count_as_durable_when_the_device_told_another_flush_of_its_lost_write),
        cmocka_unit_test(one_thread_makes_the_same_bytes_in_memory_and_in_a_file),
        cmocka_unit_test(an_allocation_that_fails_anywhere_leaves_no_leak_and_a_good_image),
        cmocka_unit_test(an_open_whose_memory_ends_anywhere_tells_every_edit_or_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
