/* SPDX-License-Identifier: ISC */
/*
 * Every crash image that the fault model allows of a traced run: the writes up to the last flush
 * landed, of those after it any subset did, sector by sector.
 */
#include "helper.h"

#define SIZE (128u << 20)
#define EVENTS 4000

typedef struct event { cmb_op op; uint64_t offset, length; uint8_t *data; } event;
/* After event number `at`, everything up to `value` was acknowledged. */
typedef struct ack { size_t at; uint64_t value; } ack;

typedef struct trace {
    event events[EVENTS];
    size_t n;
    ack acks[EVENTS];
    size_t n_acks;
} trace;

static void on_event(void *ctx, const cmb_trace_event *e)
{
    trace *t = ctx;
    if (e->result || (e->op != CMB_OP_WRITE && e->op != CMB_OP_FLUSH))
        return;
    assert_true(t->n < EVENTS);
    event *to = &t->events[t->n++];
    *to = (event){e->op, e->offset, e->length, NULL};
    if (e->op == CMB_OP_WRITE) {
        to->data = malloc(e->length);
        memcpy(to->data, e->data, e->length);
    }
}

static void trace_free(trace *t)
{
    for (size_t i = 0; i < t->n; i++)
        free(t->events[i].data);
    free(t);
}

static void put(cmb_device *dev, uint64_t offset, const void *data, uint64_t length)
{
    cmb_queue *q;
    th_ok(cmb_queue_open(dev, 1, &q));
    th_ok(cmb_io_write(q, offset, data, length));
    cmb_queue_close(q);
}

/* How a write after the last flush lands. */
typedef enum landing { LAND_ALL, LAND_ONE_DROPPED, LAND_ONE_TORN, LAND_RANDOM } landing;

static cmb_device *image(const trace *t, size_t upto, landing how, size_t victim, th_random *r)
{
    cmb_device *dev = th_mem(SIZE);
    size_t flushed = 0;
    for (size_t i = 0; i < upto; i++) {
        if (t->events[i].op == CMB_OP_FLUSH)
            flushed = i;
    }
    for (size_t i = 0; i < upto; i++) {
        const event *e = &t->events[i];
        if (e->op != CMB_OP_WRITE)
            continue;
        bool loose = i > flushed;
        if (!loose || how == LAND_ALL || (how != LAND_RANDOM && i != victim)) {
            put(dev, e->offset, e->data, e->length);
        } else if (how == LAND_ONE_TORN || (how == LAND_RANDOM && th_below(r, 2))) {
            for (uint64_t s = 0; s < e->length; s += 512) {
                if (th_below(r, 2))
                    put(dev, e->offset + s, e->data + s, 512);
            }
        } else if (how == LAND_RANDOM && th_below(r, 2)) {
            put(dev, e->offset, e->data, e->length);
        }
    }
    return dev;
}

static uint64_t acknowledged(const trace *t, size_t upto)
{
    uint64_t value = 0;
    for (size_t i = 0; i < t->n_acks && t->acks[i].at <= upto; i++)
        value = t->acks[i].value;
    return value;
}

/* Units count from 1: the root says how many it holds, the edits go on from there. */
static uint64_t state_of(cmb_log *log, const th_edits *edits)
{
    uint64_t value = th_root(log);
    for (size_t i = 0; i < edits->n; i++)
        assert_int_equal(edits->values[i], ++value);
    return value;
}

typedef struct written { uint64_t addr; uint32_t length; } written;
static written units[EVENTS];

static void check_image(cmb_device *dev, uint64_t acked, uint64_t most, bool again, th_random *r)
{
    static th_edits edits;
    cmb_log *log;
    for (unsigned reader = 0; reader < 2; reader++) {
        th_ok(th_open_as(dev, reader == 1, r, &edits, &log));
        uint64_t value = state_of(log, &edits);
        if (value < acked || value > most)
            print_message("%llu units, acknowledged %llu\n", (unsigned long long)value, (unsigned long long)acked);
        assert_true(value >= acked && value <= most);
        for (uint64_t i = 1; i <= value; i++) {
            if (units[i].length)
                th_check(log, units[i].addr, units[i].length);
        }
        uint64_t pages;
        th_ok(cmb_log_check_tables(log, &pages, NULL, NULL));
        if (reader && again) { /* what follows goes on from there */
            th_start(log, value);
            uint64_t addr, seq;
            th_ok(th_unit(log, 700, value + 1, &addr, &seq));
            th_ok(cmb_log_sync(log, seq));
            th_check(log, addr, 700);
            th_ok(cmb_log_close(log));
            th_ok(th_open_as(dev, true, r, &edits, &log));
            assert_int_equal(state_of(log, &edits), value + 1);
        }
        th_ok(cmb_log_close(log));
    }
}

/* Commits, checkpoints, aborts and streams on a small fixed device. */
static uint64_t scripted_run(trace *t, unsigned steps, th_random *r)
{
    cmb_device *dev;
    th_ok(cmb_device_trace(th_mem(SIZE), on_event, t, &dev));
    th_format(dev, SIZE, 21, r);
    uint64_t value = 0, acked = 0;
    memset(units, 0, sizeof units);
    cmb_log *log = NULL;
    for (unsigned i = 0; i < steps; i++) {
        uint64_t seq, addr;
        bool start;
        if (!log)
            th_ok(th_open_as(dev, true, r, NULL, &log));
        unsigned what = (unsigned)th_below(r, 20);
        cmb_appender *app, *stream = NULL;
        if (what == 0 && i > 10) {
            th_ok(cmb_log_close(log));
            log = NULL;
            t->acks[t->n_acks++] = (ack){t->n, acked = value};
            continue;
        }
        uint64_t streamed = 0;
        bool finish = i % 12 == 7; /* some have to get that far, whatever the seed */
        if (what == 1 || finish) {
            th_ok(cmb_log_stream(log, &stream));
            th_ok(th_append(stream, 5000, &streamed));
            th_ok(th_append(stream, 300000, &addr));
            if (finish || th_below(r, 2)) {
                th_ok(cmb_stream_finish(stream));
            } else {
                cmb_append_abort(stream);
                stream = NULL;
            }
        }
        th_ok(cmb_log_begin(log, &app, &start));
        uint32_t length = 16 + (uint32_t)th_below(r, what == 2 ? 60000 : 900);
        th_ok(th_append(app, length, &addr));
        if (what == 3 && !start && !stream) {
            th_ok(th_append(app, 9000, &addr));
            cmb_append_abort(app);
            continue;
        }
        if (stream)
            th_ok(cmb_append_adopt(app, stream));
        units[++value] = stream ? (written){streamed, 5000} : (written){addr, length};
        if (start || what == 4) {
            th_ok(th_checkpoint(app, value, &seq));
            t->acks[t->n_acks++] = (ack){t->n, acked = value};
            continue;
        }
        uint8_t edit[8];
        cmb_put64(edit, value);
        th_ok(cmb_log_publish(app, edit, 8, &seq));
        if (what > 7) {
            th_ok(cmb_log_sync(log, seq));
            t->acks[t->n_acks++] = (ack){t->n, acked = value};
        } else if (what == 7) {
            th_ok(cmb_log_write_out(log));
        }
    }
    if (log)
        th_ok(cmb_log_close(log));
    cmb_device_close(dev);
    return value;
}

static size_t formatted(const trace *t) /* the event after which the image exists */
{
    size_t i = 0;
    for (unsigned flushes = 0; i < t->n && flushes < 4; i++)
        flushes += t->events[i].op == CMB_OP_FLUSH;
    return i;
}

static void every_crash_image_opens_with_all_acknowledged_units_and_no_half_one(void **state)
{
    (void)state;
    th_random r = {th_seed()};
    trace *t = calloc(1, sizeof *t);
    uint64_t most = scripted_run(t, 32, &r);
    for (size_t i = formatted(t); i <= t->n; i++) {
        uint64_t acked = acknowledged(t, i);
        cmb_device *dev = image(t, i, LAND_ALL, 0, &r);
        check_image(dev, acked, most, i % 4 == 0, &r);
        cmb_device_close(dev);
        for (size_t victim = i; victim-- > 0 && t->events[victim].op != CMB_OP_FLUSH;) {
            for (landing how = LAND_ONE_DROPPED; how <= LAND_ONE_TORN; how++) {
                dev = image(t, i, how, victim, &r);
                check_image(dev, acked, most, false, &r);
                cmb_device_close(dev);
            }
        }
    }
    trace_free(t);
}

static void random_subsets_of_unflushed_sectors_never_lose_an_acknowledged_unit(void **state)
{
    (void)state;
    th_random r = {th_seed() + 1};
    for (unsigned round = 0; round < 2 * th_budget(); round++) {
        trace *t = calloc(1, sizeof *t);
        uint64_t most = scripted_run(t, 60, &r);
        for (unsigned k = 0; k < 40; k++) {
            size_t first = formatted(t), i = first + th_below(&r, t->n + 1 - first);
            cmb_device *dev = image(t, i, LAND_RANDOM, 0, &r);
            check_image(dev, acknowledged(t, i), most, true, &r);
            cmb_device_close(dev);
        }
        trace_free(t);
    }
}

static void a_damaged_acknowledged_batch_is_refused_and_never_rolled_back(void **state)
{
    (void)state;
    th_random r = {th_seed() + 2};
    trace *t = calloc(1, sizeof *t);
    cmb_device *dev;
    th_ok(cmb_device_trace(th_mem(SIZE), on_event, t, &dev));
    th_format(dev, SIZE, 21, &r);
    cmb_log *log;
    th_ok(th_open_as(dev, true, &r, NULL, &log));
    th_start(log, 0);
    size_t first = t->n;
    uint64_t addr, seq;
    for (uint64_t v = 1; v <= 12; v++) {
        th_ok(th_unit(log, 3000, v, &addr, &seq));
        th_ok(cmb_log_sync(log, seq));
    }
    size_t sealed = t->n;
    th_ok(cmb_log_close(log));
    cmb_device_close(dev);
    static th_edits edits;
    size_t last = 0;
    for (size_t i = first; i < sealed; i++) {
        if (t->events[i].op == CMB_OP_WRITE)
            last = i;
    }
    for (size_t i = first; i < sealed; i++) {
        if (t->events[i].op != CMB_OP_WRITE)
            continue;
        for (unsigned with_seal = 0; with_seal < 2; with_seal++) {
            dev = image(t, with_seal ? t->n : sealed, LAND_ALL, 0, &r);
            uint8_t bad[512];
            memset(bad, 0xa5, sizeof bad);
            put(dev, t->events[i].offset, bad, sizeof bad);
            int e = th_open_as(dev, true, &r, &edits, &log);
            if (i == last && !with_seal) { /* the one that one flush cannot decide */
                th_ok(e);
                assert_int_equal(edits.n, 11);
                th_ok(cmb_log_close(log));
            } else {
                assert_int_equal(e, CMB_ECORRUPT);
                assert_non_null(strstr(cmb_error_detail(), "acknowledged"));
                assert_int_equal(th_open_as(dev, false, &r, &edits, &log), CMB_ECORRUPT);
            }
            cmb_device_close(dev);
        }
    }
    trace_free(t);
}

static void either_superblock_copy_or_a_whole_generation_may_be_lost(void **state)
{
    (void)state;
    th_random r = {th_seed() + 3};
    trace *t = calloc(1, sizeof *t);
    uint64_t most = scripted_run(t, 80, &r);
    for (unsigned lost = 1; lost < 15; lost++) {
        cmb_device *dev = image(t, t->n, LAND_ALL, 0, &r);
        uint8_t bad[4096];
        memset(bad, 0x5a, sizeof bad);
        for (unsigned slot = 0; slot < 4; slot++) {
            if (lost >> slot & 1)
                put(dev, (uint64_t)slot << 20, bad, sizeof bad);
        }
        check_image(dev, most, most, true, &r);
        cmb_device_close(dev);
    }
    trace_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_crash_image_opens_with_all_acknowledged_units_and_no_half_one),
        cmocka_unit_test(random_subsets_of_unflushed_sectors_never_lose_an_acknowledged_unit),
        cmocka_unit_test(a_damaged_acknowledged_batch_is_refused_and_never_rolled_back),
        cmocka_unit_test(either_superblock_copy_or_a_whole_generation_may_be_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
