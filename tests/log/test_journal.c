/* SPDX-License-Identifier: ISC */
/* Journal segments: dropped by the checkpoint above them, and written anew two checkpoints later, not one. */
#include "helper.h"

#define SHIFT 21u
#define EDIT_MAX (1u << 20)

/* ---- units ---- */

static uint8_t payload[EDIT_MAX];

/* A unit of edits only. */
static int edits_unit(cmb_log *log, uint64_t value, uint32_t length, uint64_t *out_seq)
{
    cmb_appender *app;
    int e = cmb_log_begin(log, &app, NULL);
    if (e)
        return e;
    cmb_put64(payload, value);
    e = cmb_log_publish(app, payload, length, out_seq);
    if (e)
        cmb_append_abort(app);
    return e;
}

/* Its root says `value`, and where the record lies that it pins (0: none). */
static int checkpoint(cmb_log *log, uint64_t value, uint64_t pin)
{
    cmb_appender *app;
    uint64_t addr, seq;
    uint8_t root[16];
    int e = cmb_log_begin_urgent(log, &app, NULL);
    if (e)
        return e;
    cmb_put64(root, value);
    cmb_put64(root + 8, pin);
    e = cmb_append_record(app, CMB_RECORD_ROOT, root, sizeof root, &addr);
    if (!e)
        e = cmb_log_checkpoint(app, addr, sizeof root + CMB_RECORD_HEADER, &pin, pin ? 1 : 0, &seq);
    if (e && e != CMB_EUNKNOWN)
        cmb_append_abort(app);
    return e;
}

static uint64_t root_of(cmb_log *log, uint64_t *out_pin)
{
    uint64_t addr;
    uint32_t length;
    uint8_t buf[16 + CMB_RECORD_HEADER];
    *out_pin = 0;
    cmb_log_root(log, &addr, &length);
    if (!length)
        return 0;
    assert_int_equal(length, sizeof buf);
    th_ok(cmb_log_read(log, NULL, addr, length, buf));
    th_ok(cmb_record_check(buf, length, addr));
    *out_pin = cmb_get64(buf + CMB_RECORD_HEADER + 8);
    return cmb_get64(buf + CMB_RECORD_HEADER);
}

/* A record of edits that a root will name: so many bytes, in a unit of its own. */
static void pinned_record(cmb_log *log, uint64_t value, uint64_t *out_addr, uint64_t *out_seq)
{
    cmb_appender *app;
    uint8_t bytes[8];
    cmb_put64(bytes, value);
    th_ok(cmb_log_begin(log, &app, NULL));
    th_ok(cmb_append_record(app, CMB_RECORD_INTENTS, bytes, sizeof bytes, out_addr));
    th_ok(cmb_log_publish(app, bytes, sizeof bytes, out_seq));
}

static void check_pinned(cmb_log *log, uint64_t addr, uint64_t value)
{
    uint8_t buf[8 + CMB_RECORD_HEADER];
    th_ok(cmb_log_read(log, NULL, addr, sizeof buf, buf));
    th_ok(cmb_record_check(buf, sizeof buf, addr));
    assert_int_equal(cmb_record_kind_of(buf), CMB_RECORD_INTENTS);
    assert_int_equal(cmb_get64(buf + CMB_RECORD_HEADER), value);
}

static void assert_tables_are_sound(cmb_log *log)
{
    uint64_t pages;
    th_ok(cmb_log_check_tables(log, &pages, NULL, NULL));
}

/* Told in a row from the root's value on; what was told is what counts. Both kinds of records begin with their value. */
static uint64_t state_of(cmb_log *log, const th_edits *edits, uint64_t *out_pin)
{
    uint64_t value = root_of(log, out_pin);
    for (size_t i = 0; i < edits->n; i++) {
        assert_true(edits->values[i] == value || edits->values[i] == value + 1);
        value = edits->values[i];
    }
    return value;
}

typedef struct kinds { uint64_t n[8]; } kinds;

static int count_kind(void *ctx, const cmb_segment_info *info)
{
    ((kinds *)ctx)->n[info->kind]++;
    return 0;
}

static kinds kinds_of(cmb_log *log)
{
    kinds k = {{0}};
    th_ok(cmb_log_segments(log, count_kind, &k));
    return k;
}

/* ---- tests ---- */

static void edits_alone_never_fill_a_device_however_often_it_is_closed(void **state)
{
    (void)state;
    th_random r = {th_seed()};
    cmb_device *dev = th_mem(32u << 20);
    static th_edits edits;
    cmb_log *log;
    cmb_log_stats s;
    uint64_t value = 0, seq = 0, pin, recycled = 0;
    th_format(dev, 32u << 20, SHIFT, &r);
    th_ok(th_open_as(dev, true, &r, &edits, &log));
    th_ok(checkpoint(log, value, 0));
    for (unsigned i = 1; i <= 200; i++) {
        th_ok(edits_unit(log, ++value, 400000 + (uint32_t)th_below(&r, 200000), &seq));
        if (i % 3 == 0)
            th_ok(cmb_log_sync(log, seq));
        if (i % 8 == 0)
            th_ok(checkpoint(log, value, 0));
        if (i % 50 == 49) { /* what was open at the end counts as a journal still */
            cmb_log_get_stats(log, &s);
            recycled += s.recycled;
            th_ok(cmb_log_close(log));
            th_ok(th_open_as(dev, true, &r, &edits, &log));
            assert_int_equal(state_of(log, &edits, &pin), value);
            assert_tables_are_sound(log);
            th_ok(checkpoint(log, value, 0));
        }
    }
    cmb_log_get_stats(log, &s);
    recycled += s.recycled;
    assert_true(recycled > 30);
    th_ok(checkpoint(log, value, 0));
    th_ok(checkpoint(log, value, 0));
    th_ok(checkpoint(log, value, 0));
    kinds k = kinds_of(log);
    assert_int_equal(k.n[CMB_SEG_PLAIN], 0);
    assert_true(k.n[CMB_SEG_JOURNAL] <= 2); /* the head, and the one that holds the root at most */
    th_ok(cmb_log_close(log));
    cmb_device_close(dev);
}

static void a_segment_with_a_lasting_record_stays(void **state)
{
    (void)state;
    th_random r = {th_seed()};
    for (unsigned aborted = 0; aborted < 3; aborted++) { /* 1: before anything was written, 2: after a part was */
        cmb_device *dev = th_mem(128u << 20);
        cmb_log *log;
        cmb_appender *app;
        uint64_t value = 0, seq, addr = 0, first = 0;
        th_format(dev, 128u << 20, SHIFT, &r);
        th_ok(th_open_as(dev, true, &r, NULL, &log));
        th_ok(checkpoint(log, 0, 0));
        th_ok(edits_unit(log, ++value, 1000, &seq));
        th_ok(cmb_log_begin(log, &app, NULL));
        th_ok(th_append(app, 3000, &first));
        for (unsigned i = 0; aborted == 2 && i < 110; i++)
            th_ok(th_append(app, 100000, &addr));
        if (aborted)
            cmb_append_abort(app);
        else
            th_ok(cmb_log_publish(app, payload, 8, &seq));
        for (unsigned i = 0; i < 10; i++)
            th_ok(edits_unit(log, ++value, 900000, &seq));
        th_ok(cmb_log_sync(log, seq));
        th_ok(checkpoint(log, value, 0));
        kinds k = kinds_of(log);
        assert_true(aborted == 1 ? k.n[CMB_SEG_PLAIN] == 0 : k.n[CMB_SEG_PLAIN] > 0);
        if (!aborted)
            th_check(log, first, 3000);
        assert_tables_are_sound(log);
        th_ok(cmb_log_close(log));
        th_ok(th_open_as(dev, true, &r, NULL, &log));
        kinds again = kinds_of(log);
        assert_int_equal(again.n[CMB_SEG_PLAIN], k.n[CMB_SEG_PLAIN]);
        assert_int_equal(again.n[CMB_SEG_JOURNAL], k.n[CMB_SEG_JOURNAL]);
        if (!aborted)
            th_check(log, first, 3000);
        th_ok(cmb_log_close(log));
        cmb_device_close(dev);
    }
}

static void a_checkpoint_keeps_what_its_own_unit_wrote_into_segments_behind_the_head(void **state)
{
    (void)state;
    th_random r = {th_seed()};
    cmb_device *dev = th_mem(128u << 20);
    cmb_log *log;
    cmb_appender *app;
    uint64_t first = 0, addr = 0, seq = 0;
    uint8_t root[16] = {0};
    th_format(dev, 128u << 20, SHIFT, &r);
    for (unsigned round = 0; round < 2; round++) { /* the first unit of an epoch, and one that is not */
        th_ok(th_open_as(dev, true, &r, NULL, &log));
        if (round)
            th_ok(checkpoint(log, 1, 0));
        th_ok(cmb_log_begin(log, &app, NULL));
        th_ok(th_append(app, 3000, &first));
        for (unsigned i = 0; i < 50; i++)
            th_ok(th_append(app, 100000, &addr));
        th_ok(cmb_append_record(app, CMB_RECORD_ROOT, root, sizeof root, &addr));
        assert_true(first >> SHIFT < addr >> SHIFT);
        th_ok(cmb_log_checkpoint(app, addr, sizeof root + CMB_RECORD_HEADER, NULL, 0, &seq));
        th_check(log, first, 3000);
        th_ok(cmb_log_close(log));
        th_ok(th_open_as(dev, true, &r, NULL, &log));
        th_check(log, first, 3000);
        th_ok(cmb_log_close(log));
    }
    cmb_device_close(dev);
}

/* Goes over several segments and checkpoints. */
static void go_round(cmb_log *log, uint64_t *value)
{
    uint64_t seq;
    for (unsigned i = 0; i < 12; i++) {
        th_ok(edits_unit(log, ++*value, 900000, &seq));
        th_ok(cmb_log_sync(log, seq));
        if (i % 4 == 3)
            th_ok(checkpoint(log, *value, 0));
    }
}

static void what_a_recovery_finds_of_a_segment_decides_whether_it_stays(void **state)
{
    (void)state;
    th_random r = {th_seed()};
    for (unsigned checkpointed = 0; checkpointed < 2; checkpointed++) {
        cmb_device *dev = th_mem(64u << 20);
        cmb_log *log;
        uint64_t value = 0, seq, addr;
        th_format(dev, 64u << 20, SHIFT, &r);
        th_ok(th_open_as(dev, true, &r, NULL, &log));
        th_ok(checkpoint(log, 0, 0));
        th_ok(th_unit(log, 3000, ++value, &addr, &seq));
        th_ok(cmb_log_sync(log, seq));
        if (checkpointed)
            th_ok(checkpoint(log, value, 0));
        th_ok(cmb_log_close(log));
        th_ok(th_open_as(dev, true, &r, NULL, &log));
        th_ok(checkpoint(log, value, 0));
        go_round(log, &value);
        kinds k = kinds_of(log);
        assert_int_equal(k.n[CMB_SEG_PLAIN], 1);
        th_check(log, addr, 3000);
        th_ok(cmb_log_close(log));
        cmb_device_close(dev);
    }
}

/* Puts units of edits before the head's end until so many bytes are left in its segment. */
static void leave(cmb_log *log, uint64_t *value, uint64_t room)
{
    cmb_log_stats s;
    for (;;) {
        uint64_t seq;
        cmb_log_get_stats(log, &s);
        uint64_t left = s.segment_size - (s.logical_end & (s.segment_size - 1));
        if (left == room)
            return;
        uint64_t bytes = left > room ? left - room : left;
        bytes = bytes > 819200 ? 819200 : bytes;
        th_ok(edits_unit(log, ++*value, (uint32_t)bytes - 128 - CMB_RECORD_HEADER, &seq));
        th_ok(cmb_log_sync(log, seq));
    }
}

static void the_segment_that_holds_the_root_record_stays_though_the_position_is_above(void **state)
{
    (void)state;
    th_random r = {th_seed()};
    cmb_device *dev = th_mem(64u << 20);
    cmb_log *log;
    cmb_appender *app;
    cmb_log_stats s;
    uint64_t value = 0, seq, addr;
    uint8_t root[CMB_BLOCK - 128 - CMB_RECORD_HEADER] = {0}, got[CMB_BLOCK]; /* with its headers a frame of one block */
    uint32_t length = sizeof root + CMB_RECORD_HEADER;
    th_format(dev, 64u << 20, SHIFT, &r);
    th_ok(th_open_as(dev, true, &r, NULL, &log));
    th_ok(checkpoint(log, 0, 0));
    for (unsigned round = 0; round < 3; round++) {
        leave(log, &value, CMB_BLOCK);
        th_ok(cmb_log_begin(log, &app, NULL));
        th_ok(cmb_append_record(app, CMB_RECORD_ROOT, root, sizeof root, &addr));
        th_ok(cmb_log_checkpoint(app, addr, length, NULL, 0, &seq));
        cmb_log_get_stats(log, &s);
        assert_int_equal((addr >> SHIFT) + 1, s.logical_end >> SHIFT);
        th_ok(cmb_log_read(log, NULL, addr, length, got));
        th_ok(cmb_log_close(log));
        th_ok(th_open_as(dev, true, &r, NULL, &log));
        th_ok(cmb_log_read(log, NULL, addr, length, got));
        th_ok(cmb_record_check(got, length, addr));
        assert_tables_are_sound(log);
        th_ok(checkpoint(log, value, 0)); /* and now it goes */
        assert_int_equal(cmb_log_read(log, NULL, addr, length, got), CMB_ECORRUPT);
        go_round(log, &value);
    }
    th_ok(cmb_log_close(log));
    cmb_device_close(dev);
}

/* Takes logical numbers, and gives nothing in return. */
static void burn_numbers(cmb_log *log, uint64_t next)
{
    uint64_t addr = 0;
    while ((addr >> SHIFT) + 1 < next) {
        cmb_appender *s;
        th_ok(cmb_log_stream(log, &s));
        th_ok(th_append(s, 64, &addr));
        cmb_append_abort(s);
    }
}

static void where_the_last_segment_of_a_table_page_ends_is_saved(void **state)
{
    (void)state;
    enum { LAST = 251, N = 30 };
    th_random r = {th_seed()};
    cmb_device *dev = th_mem(64u << 20);
    cmb_log *log;
    cmb_appender *app, *s;
    uint64_t value = 0, seq, addr, kept[N];
    th_format(dev, 64u << 20, SHIFT, &r);
    th_ok(th_open_as(dev, true, &r, NULL, &log));
    th_ok(checkpoint(log, 0, 0));
    burn_numbers(log, LAST - 1);
    th_ok(cmb_log_stream(log, &s));
    th_ok(th_append(s, 64, &addr));
    th_ok(cmb_stream_finish(s));
    th_ok(cmb_log_begin(log, &app, NULL));
    th_ok(cmb_append_adopt(app, s)); /* moves the head above it */
    th_ok(th_append(app, 64, &addr));
    th_ok(cmb_log_publish(app, payload, 8, &seq));
    assert_int_equal(addr >> SHIFT, LAST);
    th_ok(checkpoint(log, value, 0));
    th_ok(cmb_log_begin(log, &app, NULL));
    for (unsigned i = 0; i < N; i++) /* on into the first one of the next page */
        th_ok(th_append(app, 100000, &kept[i]));
    assert_true(kept[0] >> SHIFT == LAST && kept[N - 1] >> SHIFT == LAST + 1);
    th_ok(cmb_log_publish(app, payload, 8, &seq));
    th_ok(checkpoint(log, value, 0));
    th_ok(cmb_log_close(log));
    th_ok(th_open_as(dev, true, &r, NULL, &log));
    for (unsigned i = 0; i < N; i++)
        th_check(log, kept[i], 100000);
    th_ok(cmb_log_close(log));
    cmb_device_close(dev);
}

static void a_pinned_record_stays_until_it_is_pinned_no_more(void **state)
{
    (void)state;
    th_random r = {th_seed()};
    cmb_device *dev = th_mem(48u << 20);
    static th_edits edits;
    cmb_log *log;
    uint64_t value = 0, seq, addr, pin;
    uint8_t gone[64];
    th_format(dev, 48u << 20, SHIFT, &r);
    th_ok(th_open_as(dev, true, &r, &edits, &log));
    th_ok(checkpoint(log, 0, 0));
    pinned_record(log, value, &addr, &seq);
    for (unsigned round = 0; round < 12; round++) {
        for (unsigned i = 0; i < 6; i++)
            th_ok(edits_unit(log, ++value, 900000, &seq));
        th_ok(cmb_log_sync(log, seq));
        th_ok(checkpoint(log, value, addr));
        check_pinned(log, addr, 0);
        if (round % 4 == 3) { /* whoever opens it knows of old journals as well */
            th_ok(cmb_log_close(log));
            th_ok(th_open_as(dev, true, &r, &edits, &log));
            assert_int_equal(state_of(log, &edits, &pin), value);
            assert_int_equal(pin, addr);
            check_pinned(log, addr, 0);
            th_ok(checkpoint(log, value, addr));
        }
    }
    th_ok(checkpoint(log, value, 0));
    assert_int_equal(cmb_log_read(log, NULL, addr, 24, gone), CMB_ECORRUPT);
    assert_non_null(strstr(cmb_error_detail(), "no record"));
    kinds k = kinds_of(log);
    assert_true(k.n[CMB_SEG_JOURNAL] <= 2);
    assert_tables_are_sound(log);
    th_ok(cmb_log_close(log));
    cmb_device_close(dev);
}

/* ---- preparation ---- */

static uint64_t prepared(cmb_log *log)
{
    cmb_log_stats s;
    cmb_log_get_stats(log, &s);
    return s.bytes_prepared;
}

static void batches(cmb_log *log, unsigned n, uint32_t length, uint64_t *value)
{
    uint64_t seq;
    for (unsigned i = 0; i < n; i++) {
        th_ok(edits_unit(log, ++*value, length, &seq));
        th_ok(cmb_log_sync(log, seq));
    }
}

static void zeros_are_written_ahead_in_growing_steps_while_batches_are_small(void **state)
{
    (void)state;
    th_random r = {th_seed()};
    cmb_device *dev = th_mem(0);
    static th_edits edits;
    cmb_log *log;
    uint64_t value = 0, pin;
    th_format(dev, 0, SHIFT, &r);
    th_ok(th_open_as(dev, true, &r, NULL, &log));
    th_ok(checkpoint(log, 0, 0));
    batches(log, 2, 4000, &value);
    assert_int_equal(prepared(log), 0); /* so short a life is not worth it */
    batches(log, 1, 4000, &value);
    assert_int_equal(prepared(log), 64u << 10);
    uint64_t before = prepared(log), step = 64u << 10;
    for (unsigned i = 0; i < 200; i++) {
        batches(log, 1, 4000, &value);
        if (prepared(log) == before)
            continue;
        step = step < 1u << 20 ? 2 * step : step;
        assert_true(prepared(log) - before == step);
        before = prepared(log);
    }
    assert_true(before > 512u << 10);
    batches(log, 40, 60000, &value); /* the mean goes past what pays, within a segment */
    before = prepared(log);
    batches(log, 100, 60000, &value);
    assert_int_equal(prepared(log), before);
    batches(log, 400, 100, &value); /* and back */
    assert_true(prepared(log) > before);
    th_ok(cmb_log_close(log));
    th_ok(th_open_as(dev, true, &r, &edits, &log));
    assert_int_equal(state_of(log, &edits, &pin), value);
    th_ok(cmb_log_close(log));
    cmb_device_close(dev);
}

static void segments_that_are_used_anew_are_not_prepared(void **state)
{
    (void)state;
    th_random r = {th_seed()};
    cmb_device *dev = th_mem(0);
    static th_edits edits;
    cmb_log *log;
    uint64_t value = 0, pin, before = 0;
    th_format(dev, 0, SHIFT, &r);
    th_ok(th_open_as(dev, true, &r, NULL, &log));
    th_ok(checkpoint(log, 0, 0));
    for (unsigned round = 0; round < 40; round++) {
        batches(log, 140, 10000, &value); /* most of a segment */
        th_ok(checkpoint(log, value, 0));
        if (round == 25)
            before = prepared(log);
        if (round == 32) { /* what it finds named as next looks fresh, and is not */
            assert_int_equal(prepared(log), before);
            th_ok(cmb_log_close(log));
            th_ok(th_open_as(dev, true, &r, &edits, &log));
            assert_int_equal(state_of(log, &edits, &pin), value);
            th_ok(checkpoint(log, value, 0));
            before = 0;
        }
    }
    assert_true(prepared(log) <= 128u << 10); /* where an old segment ended early, say */
    th_ok(cmb_log_close(log));
    cmb_device_close(dev);
}

static void journals_are_moved_as_other_segments_are_once_no_recovery_walks_them(void **state)
{
    (void)state;
    th_random r = {th_seed()};
    cmb_device *dev = th_mem(64u << 20);
    static th_edits edits;
    cmb_log *log;
    uint64_t value = 0, seq, addr, pin;
    th_format(dev, 64u << 20, SHIFT, &r);
    th_ok(th_open_as(dev, true, &r, NULL, &log));
    th_ok(checkpoint(log, 0, 0));
    pinned_record(log, value, &addr, &seq);
    cmb_extent extent = {addr, 8 + CMB_RECORD_HEADER};
    batches(log, 5, 700000, &value);
    th_ok(checkpoint(log, value, addr));
    assert_int_equal(cmb_log_relocate(log, addr >> SHIFT, addr >> SHIFT, &extent, 1), CMB_EBUSY);
    batches(log, 5, 700000, &value);
    th_ok(checkpoint(log, value, addr));
    th_ok(cmb_log_relocate(log, addr >> SHIFT, addr >> SHIFT, &extent, 1));
    for (unsigned i = 0; i < 4; i++) { /* it is no journal any more: no checkpoint drops it */
        check_pinned(log, addr, 0);
        kinds k = kinds_of(log);
        assert_int_equal(k.n[CMB_SEG_COMPACTED], 1);
        batches(log, 5, 700000, &value);
        th_ok(checkpoint(log, value, i < 2 ? addr : 0));
    }
    assert_tables_are_sound(log);
    th_ok(cmb_log_close(log));
    th_ok(th_open_as(dev, true, &r, &edits, &log));
    assert_int_equal(state_of(log, &edits, &pin), value);
    check_pinned(log, addr, 0);
    th_ok(cmb_log_close(log));
    cmb_device_close(dev);
}

/* ---- readers beside a writer that uses segments anew ---- */

typedef struct beside {
    cmb_log *writer;
    uint64_t value, reads, act_at, every; /* the writer acts after that read, and after every so many that follow (0: none) */
} beside;

static void writer_acts(beside *b)
{
    for (unsigned i = 0; i < 3; i++) {
        batches(b->writer, 5, 700000, &b->value);
        th_ok(checkpoint(b->writer, b->value, 0));
        batches(b->writer, 1, 700000, &b->value);
    }
}

static void on_read(void *ctx, const cmb_trace_event *e)
{
    beside *b = ctx;
    if (e->op != CMB_OP_READ || ++b->reads < b->act_at)
        return;
    if (b->reads == b->act_at || (b->every && (b->reads - b->act_at) % b->every == 0))
        writer_acts(b);
}

static void a_reader_that_opens_while_segments_are_used_anew_sees_all_that_was_there_before(void **state)
{
    (void)state;
    th_random r = {th_seed()};
    static th_edits edits;
    cmb_device *mem = th_mem(32u << 20), *dev;
    cmb_log *log;
    beside b = {.act_at = UINT64_MAX};
    uint64_t most = 0, undisturbed, pin;
    th_format(mem, 32u << 20, SHIFT, &r);
    th_ok(th_open_as(mem, true, &r, NULL, &b.writer));
    th_ok(checkpoint(b.writer, 0, 0));
    writer_acts(&b);
    th_ok(cmb_device_trace(mem, on_read, &b, &dev));
    th_ok(th_open_as(dev, false, &r, &edits, &log));
    undisturbed = b.reads;
    th_ok(cmb_log_close(log));
    for (b.act_at = 1; b.act_at <= undisturbed; b.act_at += 2) {
        uint64_t before = b.value;
        b.reads = 0;
        th_ok(th_open_as(dev, false, &r, &edits, &log));
        most = b.reads > most ? b.reads : most;
        assert_true(state_of(log, &edits, &pin) >= before);
        th_ok(cmb_log_close(log));
    }
    assert_true(most > undisturbed); /* it did start over */
    b.every = 7; /* a writer that does not let it come to an end */
    for (b.act_at = 10; b.act_at < 12; b.act_at++) {
        b.reads = 0;
        assert_int_equal(th_open_as(dev, false, &r, &edits, &log), CMB_ESTALE);
        assert_int_equal(edits.n, 0);
    }
    b.act_at = UINT64_MAX;
    th_ok(cmb_log_close(b.writer));
    cmb_device_close(dev);
}

/* ---- every crash of a run that goes round the device several times ---- */

#define SIZE (48u << 20)
#define EVENTS 2000

typedef struct event {
    cmb_op op;
    uint64_t offset, length;
    uint8_t *data, *before;
} event;

typedef struct ack { size_t at; uint64_t value; } ack;

typedef struct trace {
    event events[EVENTS];
    ack acks[EVENTS];
    size_t n, n_acks, formatted;
} trace;

static void on_event(void *ctx, const cmb_trace_event *e)
{
    trace *t = ctx;
    if (e->result || (e->op != CMB_OP_WRITE && e->op != CMB_OP_FLUSH))
        return;
    assert_true(t->n < EVENTS);
    event *to = &t->events[t->n++];
    *to = (event){e->op, e->offset, e->length, NULL, NULL};
    if (e->op == CMB_OP_WRITE) {
        to->data = malloc(e->length);
        to->before = malloc(e->length);
        memcpy(to->data, e->data, e->length);
    }
}

static void trace_free(trace *t)
{
    for (size_t i = 0; i < t->n; i++) {
        free(t->events[i].data);
        free(t->events[i].before);
    }
    free(t);
}

typedef struct leaf { uint64_t addr, since; uint32_t length; } leaf;
static leaf leaves[64];
static size_t n_leaves;
static uint64_t pinned_values[4096]; /* by number of value: address / 16 of the record of that value */

static void acked(trace *t, uint64_t value) { t->acks[t->n_acks++] = (ack){t->n, value}; }

static uint64_t run(trace *t, unsigned intervals, th_random *r)
{
    cmb_device *dev;
    cmb_log *log;
    uint64_t value = 0, seq, pin = 0;
    th_ok(cmb_device_trace(th_mem(SIZE), on_event, t, &dev));
    th_format(dev, SIZE, SHIFT, r);
    t->formatted = t->n;
    th_ok(th_open_as(dev, true, r, NULL, &log));
    th_ok(checkpoint(log, 0, 0));
    acked(t, 0);
    n_leaves = 0;
    for (unsigned interval = 0; interval < intervals; interval++) {
        unsigned units = 6 + (unsigned)th_below(r, 5);
        if (interval % 4 == 1) { /* pinned by three checkpoints */
            pinned_record(log, value, &pin, &seq);
            pinned_values[value] = pin;
        } else if (interval % 4 == 0) {
            pin = 0;
        }
        for (unsigned i = 0; i < units; i++) {
            if (interval % 5 == 2 && i == 2) {
                leaf *l = &leaves[n_leaves++];
                *l = (leaf){.since = value + 1, .length = 3000};
                th_ok(th_unit(log, l->length, ++value, &l->addr, &seq));
            } else {
                th_ok(edits_unit(log, ++value, 700000 + (uint32_t)th_below(r, 300000), &seq));
            }
            th_ok(cmb_log_sync(log, seq));
            acked(t, value);
        }
        if (interval % 6 == 4) {
            th_ok(cmb_log_close(log));
            th_ok(th_open_as(dev, true, r, NULL, &log));
        }
        th_ok(checkpoint(log, value, pin));
        acked(t, value);
    }
    cmb_log_stats s;
    cmb_log_get_stats(log, &s);
    assert_true(s.recycled > 0);
    th_ok(cmb_log_close(log));
    cmb_device_close(dev);
    return value;
}

static void device_io(cmb_device *dev, bool write, uint64_t offset, void *data, uint64_t length)
{
    cmb_queue *q;
    th_ok(cmb_queue_open(dev, 1, &q));
    th_ok(write ? cmb_io_write(q, offset, data, length) : cmb_io_read(q, offset, data, length, 0));
    cmb_queue_close(q);
}

static void check_image(cmb_device *dev, bool writable, uint64_t least, uint64_t most, th_random *r)
{
    static th_edits edits;
    cmb_log *log;
    uint64_t pin;
    th_ok(th_open_as(dev, writable, r, &edits, &log));
    uint64_t value = state_of(log, &edits, &pin);
    assert_true(value >= least && value <= most);
    for (size_t i = 0; i < n_leaves && leaves[i].since <= value; i++)
        th_check(log, leaves[i].addr, leaves[i].length);
    if (pin) {
        uint64_t v = 0;
        while (pinned_values[v] != pin)
            v++;
        check_pinned(log, pin, v);
    }
    assert_tables_are_sound(log);
    th_ok(cmb_log_close(log)); /* nothing was appended, so nothing is written */
}

/* The same without the newest generation's superblocks: what they stand for must be found from the older one. */
static void check_without_the_newest(cmb_device *dev, uint64_t least, uint64_t most, th_random *r)
{
    static uint8_t blocks[4][CMB_BLOCK], bad[CMB_BLOCK];
    uint64_t generation[4], newest = 0;
    for (unsigned slot = 0; slot < 4; slot++) {
        char text[2048];
        bool valid;
        th_ok(cmb_log_describe_super(dev, NULL, slot, text, sizeof text, &valid));
        device_io(dev, false, (uint64_t)slot << 20, blocks[slot], CMB_BLOCK);
        generation[slot] = valid ? strtoull(strstr(text, "generation: ") + 12, NULL, 10) : 0;
        newest = generation[slot] > newest ? generation[slot] : newest;
    }
    unsigned left = 0;
    memset(bad, 0x5a, sizeof bad);
    for (unsigned slot = 0; slot < 4; slot++) {
        left += generation[slot] && generation[slot] != newest;
        if (generation[slot] == newest)
            device_io(dev, true, (uint64_t)slot << 20, bad, CMB_BLOCK);
    }
    if (left)
        check_image(dev, left % 2, least, most, r);
    for (unsigned slot = 0; slot < 4; slot++)
        device_io(dev, true, (uint64_t)slot << 20, blocks[slot], CMB_BLOCK);
}

/* Takes back one of the writes after the last flush, looks, and makes it again. */
static void check_without_each(cmb_device *dev, const trace *t, size_t from, size_t to, uint64_t least, uint64_t most, th_random *r)
{
    for (size_t i = from; i < to; i++) {
        const event *e = &t->events[i];
        device_io(dev, true, e->offset, e->before, e->length);
        check_image(dev, i % 2, least, most, r);
        device_io(dev, true, e->offset, e->data, e->length);
    }
}

static void journals_survive_every_crash_and_the_loss_of_a_generation(void **state)
{
    (void)state;
    th_random r = {th_seed()};
    for (unsigned round = 0; round < th_budget(); round++) {
        trace *t = calloc(1, sizeof *t);
        uint64_t most = run(t, 9, &r), least = 0;
        cmb_device *dev = th_mem(SIZE);
        size_t next_ack = 0, flushed = 0;
        for (size_t i = 0; i < t->n; i++) {
            event *e = &t->events[i];
            while (next_ack < t->n_acks && t->acks[next_ack].at <= i)
                least = t->acks[next_ack++].value;
            if (e->op == CMB_OP_WRITE) {
                device_io(dev, false, e->offset, e->before, e->length);
                device_io(dev, true, e->offset, e->data, e->length);
            }
            if (i < t->formatted) {
                flushed = i;
                continue;
            }
            if (e->op == CMB_OP_FLUSH) {
                if (i - flushed > 2)
                    check_without_each(dev, t, flushed + 1, i, least, most, &r);
                flushed = i;
            }
            if (i % 3 == 0)
                check_image(dev, i % 2, least, most, &r);
            if (i % 3 == 1)
                check_without_the_newest(dev, least, most, &r);
        }
        cmb_device_close(dev);
        trace_free(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(edits_alone_never_fill_a_device_however_often_it_is_closed),
        cmocka_unit_test(a_segment_with_a_lasting_record_stays),
        cmocka_unit_test(a_checkpoint_keeps_what_its_own_unit_wrote_into_segments_behind_the_head),
        cmocka_unit_test(what_a_recovery_finds_of_a_segment_decides_whether_it_stays),
        cmocka_unit_test(the_segment_that_holds_the_root_record_stays_though_the_position_is_above),
        cmocka_unit_test(where_the_last_segment_of_a_table_page_ends_is_saved),
        cmocka_unit_test(a_pinned_record_stays_until_it_is_pinned_no_more),
        cmocka_unit_test(zeros_are_written_ahead_in_growing_steps_while_batches_are_small),
        cmocka_unit_test(segments_that_are_used_anew_are_not_prepared),
        cmocka_unit_test(journals_are_moved_as_other_segments_are_once_no_recovery_walks_them),
        cmocka_unit_test(a_reader_that_opens_while_segments_are_used_anew_sees_all_that_was_there_before),
        cmocka_unit_test(journals_survive_every_crash_and_the_loss_of_a_generation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
