/* SPDX-License-Identifier: ISC */
/*
 * One session of a log in which everything is done once, run again and again: each time another operation of the device or another
 * allocation fails. What was acknowledged is there afterwards, and nothing is held. CMB_BUDGET=N takes N times as many points;
 * 61 takes all of them.
 */
#include "helper.h"

#include "log/rescue.h"
#include "tests/kloop/kloop.h"

#define SHIFT  21u
#define SIZE   ((uint64_t)56 << 20)
#define KEPT   600u
#define ROUNDS 4u

typedef struct kept { uint64_t addr; uint32_t length; bool dead; } kept;

typedef struct session {
    overlay *dev;
    overlay_image *image;
    kloop_memory memory;
    th_random r;
    cmb_log *log;
    kept all[KEPT];
    size_t n, n_prepared;
    uint64_t next, acknowledged; /* values of units */
    uint64_t end;                /* logical segments of the image as it was prepared */
} session;

static th_edits edits;

static int open_as(session *s, bool writable)
{
    cmb_log_options o = {.alloc = s->memory.alloc, .writable = writable, .replay = th_replay, .ctx = &edits, .env = th_env(&s->r)};
    edits.n = 0;
    return cmb_log_open(&s->dev->dev, &o, &s->log);
}

static int sound_record(cmb_log *log, const kept *k)
{
    static uint8_t buf[CMB_RECORD_MAX];
    int e = cmb_log_read(log, NULL, k->addr, k->length, buf);
    return e ? e : cmb_record_check(buf, k->length, k->addr);
}

static int sound_records(session *s, size_t n)
{
    int e = 0;
    for (size_t i = 0; i < n && !e; i++)
        e = s->all[i].dead ? 0 : sound_record(s->log, &s->all[i]);
    return e;
}

/* ---- the steps: each does all of it or nothing, and may be called again ---- */

static int step_checkpoint(session *s)
{
    cmb_appender *app;
    uint64_t seq;
    int e = cmb_log_begin_urgent(s->log, &app, NULL);
    if (e)
        return e;
    e = th_checkpoint(app, s->next, &seq);
    if (!e)
        s->acknowledged = s->next++;
    else if (e != CMB_EUNKNOWN)
        cmb_append_abort(app);
    return e;
}

static int step_units(session *s)
{
    uint64_t seq = 0;
    size_t n = s->n;
    int e = 0;
    for (unsigned i = 0; i < 5 && !e; i++) {
        kept k = {.length = 3000 + i * 100};
        e = th_unit(s->log, k.length, s->next, &k.addr, &seq);
        if (!e) {
            s->next++;
            s->all[n++] = k;
        }
    }
    if (!e)
        e = cmb_log_sync(s->log, seq);
    if (!e) {
        s->n = n;
        s->acknowledged = s->next - 1;
    }
    return e;
}

/* `count` records in a stream of its own, that a unit adopts. */
static int adopt_stream(session *s, unsigned count, uint32_t length)
{
    cmb_appender *stream, *head;
    uint64_t seq;
    size_t n = s->n;
    uint8_t edit[8];
    cmb_put64(edit, s->next);
    int e = cmb_log_stream(s->log, &stream);
    if (e)
        return e;
    for (unsigned i = 0; i < count && !e; i++) {
        s->all[n] = (kept){.length = length};
        e = th_append(stream, length, &s->all[n++].addr);
        if (!e && i == 1)
            e = cmb_stream_rise(stream);
    }
    if (!e)
        e = cmb_stream_finish(stream);
    if (!e)
        e = cmb_log_begin(s->log, &head, NULL);
    if (e) {
        cmb_append_abort(stream);
        return e;
    }
    e = cmb_append_adopt(head, stream);
    if (e)
        cmb_append_abort(stream);
    if (!e)
        e = cmb_log_publish(head, edit, sizeof edit, &seq);
    if (e) {
        cmb_append_abort(head);
        return e;
    }
    s->next++;
    e = cmb_log_sync(s->log, seq);
    if (!e) {
        s->n = n;
        s->acknowledged = s->next - 1;
    }
    return e;
}

static int step_stream(session *s) { return adopt_stream(s, 4, 30000); }

static int compare(const void *a, const void *b)
{
    uint64_t x = ((const cmb_extent *)a)->addr, y = ((const cmb_extent *)b)->addr;
    return (x > y) - (x < y);
}

static int relocate(session *s, uint64_t first, uint64_t last)
{
    static cmb_extent extents[KEPT];
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++) {
        uint64_t segment = s->all[i].addr >> SHIFT;
        if (!s->all[i].dead && segment >= first && segment <= last)
            extents[n++] = (cmb_extent){s->all[i].addr, s->all[i].length};
    }
    qsort(extents, n, sizeof *extents, compare);
    return cmb_log_relocate(s->log, first, last, extents, n);
}

static int step_relocate(session *s) { return relocate(s, 1, s->end); }
static int step_relocate_again(session *s) { return relocate(s, 2, 3); }

static int on_event(void *ctx, const cmb_scan_event *ev)
{
    (void)ctx;
    return ev->error;
}
static int on_segment(void *ctx, const cmb_segment_info *info)
{
    (void)ctx;
    (void)info;
    return 0;
}

static int step_look(session *s)
{
    uint64_t pages, at = 0;
    unsigned bad;
    int e = cmb_log_check_tables(s->log, &pages, NULL, NULL);
    if (!e)
        e = cmb_log_segments(s->log, on_segment, NULL);
    while (!e && (e = cmb_log_next_segment(s->log, at, &at)) == 0 && at != UINT64_MAX) {
        e = cmb_log_scan(s->log, at, on_event, NULL);
        at++;
    }
    if (!e)
        e = cmb_log_check_supers(s->log, &bad);
    return e ? e : sound_records(s, s->n);
}

static int step_scratch(session *s)
{
    cmb_appender *app;
    uint8_t got[5000];
    uint64_t addr;
    int e = cmb_log_scratch(s->log, &app);
    if (e)
        return e;
    for (unsigned i = 0; i < 40 && !e; i++) {
        e = th_append(app, sizeof got, &addr);
        if (!e)
            e = cmb_log_read(s->log, NULL, addr, sizeof got, got);
        if (!e)
            e = cmb_record_check(got, sizeof got, addr);
    }
    cmb_append_abort(app);
    return e;
}

static int step_write_out(session *s)
{
    uint64_t seq;
    kept k = {.length = 500};
    int e = th_unit(s->log, k.length, s->next, &k.addr, &seq);
    if (e)
        return e;
    s->next++;
    e = cmb_log_write_out(s->log);
    return e ? e : cmb_log_seal(s->log);
}

/* ---- the session ---- */

typedef int (*step_fn)(session *s);
static const step_fn steps[] = {
    step_checkpoint, step_units,      step_stream, step_checkpoint,     step_relocate, step_look,  step_units,
    step_checkpoint, step_checkpoint, step_units,  step_relocate_again, step_scratch,  step_look,  step_write_out,
};

static void prepare(session *s)
{
    *s = (session){.r = {th_seed()}, .next = 1, .dev = overlay_create(SIZE)};
    kloop_memory_init(&s->memory);
    th_format(&s->dev->dev, SIZE, SHIFT, &s->r);
    th_ok(open_as(s, true));
    th_ok(step_checkpoint(s));
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < 4; i++)
            th_ok(step_units(s));
        th_ok(adopt_stream(s, 10, 5000));
    }
    for (size_t i = 0; i < s->n; i++) /* some that lie side by side, and gaps */
        s->all[i].dead = i % 5 == 0 || i % 5 == 3;
    s->end = s->all[s->n - 1].addr >> SHIFT;
    th_ok(step_units(s));
    th_ok(step_checkpoint(s));
    th_ok(step_checkpoint(s));
    th_ok(relocate(s, 1, s->end / 2)); /* moved once: what they hold is moved again later */
    th_ok(step_checkpoint(s));
    th_ok(step_checkpoint(s));
    th_ok(step_units(s));
    for (size_t i = 0; i < s->n; i++)
        s->all[i].dead |= i % 11 == 2;
    th_ok(cmb_log_close(s->log));
    s->n_prepared = s->n;
    s->image = overlay_freeze(s->dev);
}

static void finish(session *s)
{
    overlay_lay(s->dev, NULL);
    overlay_destroy(s->dev);
    overlay_image_destroy(s->image);
}

static bool fired(const session *s) { return s->dev->fired || s->memory.fired; }

/* Once more if memory or space was what it lacked, or for an open: that fails only once more if the fault is for ever. */
static int attempt(session *s, step_fn act, bool for_ever)
{
    bool before = fired(s);
    int e = act(s);
    assert_true(!e || fired(s));
    if ((e == CMB_ENOMEM || e == CMB_ENOSPC) && !before && !for_ever) {
        e = act(s);
        if (e == CMB_EREADONLY) /* what failed first made the log a read-only one */
            return e;
        th_ok(e);
    }
    return e;
}

static int open_writable(session *s) { return open_as(s, true); }
static int open_reading(session *s) { return open_as(s, false); }

static void check_error(const session *s, int e, overlay_fault fault)
{
    bool known = e == CMB_ENOMEM ? s->memory.fired > 0
                 : e == CMB_ENOSPC ? fault == OVERLAY_ENOSPC
                 : e == CMB_EIO || e == CMB_ECORRUPT || e == CMB_EUNKNOWN || e == CMB_EREADONLY || e == CMB_ESTALE;
    if (!known)
        print_message("%s: %s\n", cmb_error_name(e), cmb_error_detail());
    assert_true(known);
}

/* Everything once. */
static void run(session *s, overlay_fault fault, bool for_ever)
{
    int e = attempt(s, open_writable, for_ever);
    if (e) {
        check_error(s, e, fault);
        return;
    }
    for (size_t i = 0; i < CMB_COUNTOF(steps) && !e; i++)
        e = attempt(s, steps[i], for_ever);
    if (e) {
        check_error(s, e, fault);
        if (!for_ever) /* it reads on, whatever it was */
            th_ok(sound_records(s, s->n_prepared));
    }
    int closed = cmb_log_close(s->log);
    if (closed)
        check_error(s, closed, fault);
    e = attempt(s, open_reading, for_ever);
    if (e) {
        check_error(s, e, fault);
        return;
    }
    (void)cmb_log_is_stale(s->log);
    e = attempt(s, step_look, for_ever);
    if (e)
        check_error(s, e, fault);
    th_ok(cmb_log_close(s->log));
}

static void check_after(session *s)
{
    assert_int_equal(s->memory.held, 0);
    assert_int_equal(s->dev->queues, 0);
    overlay_break(s->dev, OVERLAY_SOUND, 0, false);
    kloop_memory_init(&s->memory);
    for (unsigned writable = 0; writable < 2; writable++) {
        th_ok(open_as(s, writable));
        uint64_t root = th_root(s->log), newest = edits.n ? edits.values[edits.n - 1] : root;
        assert_in_range(newest, s->acknowledged, s->next);
        for (size_t i = 0; i + 1 < edits.n; i++)
            assert_int_equal(edits.values[i] + 1, edits.values[i + 1]);
        th_ok(sound_records(s, s->n));
        if (writable) {
            s->next = newest + 1;
            th_ok(step_checkpoint(s));
            th_ok(step_units(s));
            th_ok(step_look(s));
        }
        th_ok(cmb_log_close(s->log));
    }
}

/* One run with its fault; is there any later one? */
static bool one(session *s, const session *prepared, overlay_fault fault, bool memory, uint64_t k, bool for_ever)
{
    *s = *prepared;
    overlay_lay(s->dev, s->image);
    kloop_memory_init(&s->memory);
    if (memory) {
        s->memory.fail_at = k;
        s->memory.for_ever = for_ever;
    } else {
        overlay_break(s->dev, fault, k, for_ever);
    }
    run(s, fault, for_ever);
    bool more = fired(s);
    check_after(s);
    return more;
}

static void loop(overlay_fault fault, bool memory, bool for_ever, unsigned stride)
{
    static session prepared, s;
    uint64_t k = 0;
    stride = stride > th_budget() ? stride / th_budget() : 1;
    prepare(&prepared);
    while (one(&s, &prepared, fault, memory, k, for_ever))
        k += stride;
    print_message("%llu points, each %u-th tried\n", (unsigned long long)k, stride);
    assert_true(k > 20);
    finish(&prepared);
}

static void an_operation_that_fails_once_costs_nothing_that_was_acknowledged(void **state)
{
    (void)state;
    loop(OVERLAY_EIO, false, false, 15);
}

static void a_device_that_fails_for_ever_keeps_what_was_acknowledged(void **state)
{
    (void)state;
    loop(OVERLAY_EIO, false, true, 61);
}

static void a_transfer_that_is_half_done_costs_nothing_that_was_acknowledged(void **state)
{
    (void)state;
    loop(OVERLAY_SHORT, false, false, 61);
}

static void an_operation_without_space_costs_nothing_that_was_acknowledged(void **state)
{
    (void)state;
    loop(OVERLAY_ENOSPC, false, false, 7);
}

static void an_allocation_that_fails_is_told_and_its_step_can_be_done_again(void **state)
{
    (void)state;
    loop(OVERLAY_SOUND, true, false, 7);
}

static void without_memory_for_ever_nothing_is_held_and_nothing_is_lost(void **state)
{
    (void)state;
    loop(OVERLAY_SOUND, true, true, 37);
}

/* ---- what is done without a writer ---- */

static int format_once(session *s)
{
    cmb_image_params p = th_params(SIZE, SHIFT), found;
    cmb_env env = th_env(&s->r);
    char text[2000];
    bool valid;
    int e = cmb_log_format(&s->dev->dev, &p, &s->memory.alloc, &env);
    if (!e)
        e = cmb_log_probe(&s->dev->dev, &s->memory.alloc, &found);
    return e ? e : cmb_log_describe_super(&s->dev->dev, &s->memory.alloc, 0, text, sizeof text, &valid);
}

static int mend_once(session *s)
{
    unsigned mended;
    return cmb_log_mend_supers(&s->dev->dev, &s->memory.alloc, &mended);
}

static bool any_node(const void *record, uint32_t limit, uint64_t addr)
{
    (void)record;
    (void)limit;
    (void)addr;
    return true;
}
static int on_record(void *ctx, const cmb_rescue_record *record)
{
    (void)ctx;
    (void)record;
    return 0;
}

static int rescue_once(session *s)
{
    static const cmb_image_params params = {.hash_kind = 1, .node_target = 4096, .boundary_seed = 7};
    cmb_log_options o = {.alloc = s->memory.alloc, .env = th_env(&s->r)};
    uint8_t got[3000];
    int e = cmb_log_open_rescue(&s->dev->dev, &o, &params, &s->log);
    if (e)
        return e;
    for (size_t i = 0; i < s->n && !e; i++)
        e = s->all[i].dead ? 0 : cmb_log_read_remains(s->log, s->all[i].addr, sizeof got, got);
    if (!e)
        e = cmb_log_segments(s->log, on_segment, NULL);
    if (!e)
        e = cmb_log_rescue_scan(s->log, any_node, on_record, NULL);
    th_ok(cmb_log_close(s->log));
    return e;
}

static bool sound_after(session *s, step_fn act)
{
    if (act == mend_once) {
        unsigned mended;
        th_ok(cmb_log_mend_supers(&s->dev->dev, &s->memory.alloc, &mended));
        th_ok(cmb_log_mend_supers(&s->dev->dev, &s->memory.alloc, &mended));
        return mended == 0;
    }
    return act(s) == 0;
}

static void loop_over(step_fn act, unsigned stride, bool damaged)
{
    static session prepared, s;
    static const uint8_t zeros[CMB_BLOCK];
    stride = stride > th_budget() ? stride / th_budget() : 1;
    prepare(&prepared);
    for (unsigned kind = 0; kind < 4; kind++) {
        bool more = true;
        for (uint64_t k = 0; more; k += stride) {
            s = prepared;
            overlay_lay(s.dev, s.image);
            if (damaged) { /* one of the newest pair, whichever it is */
                overlay_poke(s.dev, 0, zeros, sizeof zeros);
                overlay_poke(s.dev, 1u << 20, zeros, sizeof zeros);
            }
            kloop_memory_init(&s.memory);
            if (kind < 2) {
                s.memory.fail_at = k;
                s.memory.for_ever = kind;
            } else {
                overlay_break(s.dev, OVERLAY_EIO, k, kind == 3);
            }
            int e = act(&s);
            more = fired(&s);
            if (e && !more)
                fail_msg("%s: %s", cmb_error_name(e), cmb_error_detail());
            if (kind < 2) /* nothing hides that memory was lacking */
                assert_true(!e || e == CMB_ENOMEM);
            assert_int_equal(s.memory.held, 0);
            assert_int_equal(s.dev->queues, 0);
            overlay_break(s.dev, OVERLAY_SOUND, 0, false);
            kloop_memory_init(&s.memory);
            assert_true(sound_after(&s, act));
        }
    }
    finish(&prepared);
}

static void an_image_is_made_anew_after_any_failure_of_making_it(void **state)
{
    (void)state;
    loop_over(format_once, 1, false);
}

static void superblocks_are_mended_after_any_failure_of_mending_them(void **state)
{
    (void)state;
    loop_over(mend_once, 1, true);
}

static void an_image_is_put_together_after_any_failure_of_putting_it_together(void **state)
{
    (void)state;
    loop_over(rescue_once, 61, false);
}

static int no_randomness(void *ctx, void *out, size_t n)
{
    (void)ctx;
    (void)out;
    (void)n;
    return CMB_EIO;
}

static void no_epoch_begins_without_randomness(void **state)
{
    static session s;
    cmb_image_params p = th_params(SIZE, SHIFT);
    cmb_env env = {NULL, th_env_now, no_randomness};
    cmb_log_options o = {.writable = true, .env = env};
    cmb_appender *app;
    (void)state;
    prepare(&s);
    th_ok(cmb_log_open(&s.dev->dev, &o, &s.log));
    assert_int_equal(cmb_log_begin(s.log, &app, NULL), CMB_EIO);
    assert_int_equal(cmb_log_stream(s.log, &app), CMB_EIO);
    th_ok(sound_records(&s, s.n_prepared));
    th_ok(cmb_log_close(s.log));
    assert_int_equal(cmb_log_format(&s.dev->dev, &p, NULL, &env), CMB_EIO);
    check_after(&s); /* what was there is there */
    finish(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_operation_that_fails_once_costs_nothing_that_was_acknowledged),
        cmocka_unit_test(a_device_that_fails_for_ever_keeps_what_was_acknowledged),
        cmocka_unit_test(a_transfer_that_is_half_done_costs_nothing_that_was_acknowledged),
        cmocka_unit_test(an_operation_without_space_costs_nothing_that_was_acknowledged),
        cmocka_unit_test(an_allocation_that_fails_is_told_and_its_step_can_be_done_again),
        cmocka_unit_test(without_memory_for_ever_nothing_is_held_and_nothing_is_lost),
        cmocka_unit_test(an_image_is_made_anew_after_any_failure_of_making_it),
        cmocka_unit_test(superblocks_are_mended_after_any_failure_of_mending_them),
        cmocka_unit_test(an_image_is_put_together_after_any_failure_of_putting_it_together),
        cmocka_unit_test(no_epoch_begins_without_randomness),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
