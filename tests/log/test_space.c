/* SPDX-License-Identifier: ISC */
#include "hook.h"

#include "log/format.h"

typedef struct kept { uint64_t addr; uint32_t length; bool dead; } kept;
static kept all[20000];

static void a_full_fixed_device_refuses_cleanly_and_stays_readable(void **state)
{
    (void)state;
    th_random r = {th_seed()};
    for (uint64_t size = 16u << 20; size <= 32u << 20; size *= 2) {
        cmb_device *dev = th_mem(size);
        th_format(dev, size, 21, &r);
        cmb_log *log;
        static th_edits edits;
        th_ok(th_open_as(dev, true, &r, NULL, &log));
        th_start(log, 0);
        size_t n = 0;
        uint64_t value = 0, seq = 0, checkpoints = 0;
        int e = 0;
        while (!e && n < CMB_COUNTOF(all)) {
            all[n].length = 200000;
            e = th_unit(log, all[n].length, value + 1, &all[n].addr, &seq);
            if (!e) {
                value++;
                n++;
                if (n % 8 == 0)
                    th_ok(cmb_log_sync(log, seq));
            }
            if (!e && cmb_log_checkpoint_due(log)) {
                cmb_appender *app;
                th_ok(cmb_log_begin_urgent(log, &app, NULL));
                th_ok(th_checkpoint(app, value, &seq));
                checkpoints++;
            }
        }
        assert_int_equal(e, CMB_ENOSPC);
        assert_true(n * 200000 > (size - (14u << 20)) / 2);
        cmb_appender *app;
        for (unsigned i = 0; i < 3; i++) { /* what is kept aside lets checkpoints go on */
            th_ok(cmb_log_begin_urgent(log, &app, NULL));
            th_ok(th_checkpoint(app, value, &seq));
        }
        for (size_t i = 0; i < n; i++)
            th_check(log, all[i].addr, all[i].length);
        th_ok(cmb_log_close(log));
        th_ok(th_open_as(dev, true, &r, &edits, &log));
        assert_int_equal(th_root(log), value);
        for (size_t i = 0; i < n; i++)
            th_check(log, all[i].addr, all[i].length);
        th_ok(cmb_log_close(log));
        cmb_device_close(dev);
    }
}

static void checkpoint(cmb_log *log, uint64_t value)
{
    cmb_appender *app;
    uint64_t seq;
    th_ok(cmb_log_begin_urgent(log, &app, NULL));
    th_ok(th_checkpoint(app, value, &seq));
}

static int compare_kept(const void *a, const void *b)
{
    const kept *x = a, *y = b;
    return (x->addr > y->addr) - (x->addr < y->addr);
}

static size_t live_extents(size_t n, uint64_t first, uint64_t last, cmb_extent *out)
{
    size_t m = 0;
    for (size_t i = 0; i < n; i++) {
        if (!all[i].dead && all[i].addr >> 21 >= first && all[i].addr >> 21 <= last)
            out[m++] = (cmb_extent){all[i].addr, all[i].length};
    }
    return m;
}

static int last_plain(void *ctx, const cmb_segment_info *info)
{
    (void)info;
    ++*(unsigned *)ctx;
    return 0;
}

static int count_finding(void *ctx, int error, const char *text)
{
    print_message("%s: %s\n", cmb_error_name(error), text);
    ++*(unsigned *)ctx;
    return 0;
}

typedef struct scan_count { uint64_t records, errors; } scan_count;
static int on_scan(void *ctx, const cmb_scan_event *ev)
{
    scan_count *c = ctx;
    c->records += ev->record != NULL;
    c->errors += ev->error != 0;
    if (ev->record && ev->kind == CMB_RECORD_LEAF && cmb_record_check(ev->record, ev->length, ev->addr))
        c->errors++;
    return 0;
}

static unsigned remapped_count;
static void on_remapped(void *ctx, uint64_t segment)
{
    (void)ctx;
    (void)segment;
    remapped_count++;
}

static int open_remap(cmb_device *dev, th_random *r, cmb_log **out)
{
    cmb_log_options o = {.writable = true, .env = th_env(r), .remapped = on_remapped};
    return cmb_log_open(dev, &o, out);
}

static void check_all(cmb_log *log, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!all[i].dead)
            th_check(log, all[i].addr, all[i].length);
    }
    unsigned findings = 0, segments = 0;
    uint64_t pages;
    th_ok(cmb_log_check_tables(log, &pages, count_finding, &findings));
    assert_int_equal(findings, 0);
    th_ok(cmb_log_segments(log, last_plain, &segments));
    assert_true(segments > 0);
}

static void relocating_every_live_record_changes_no_read_now_or_after_reopening(void **state)
{
    (void)state;
    th_random r = {th_seed()};
    for (uint64_t size = 0; size <= 256u << 20; size += 256u << 20) {
        cmb_device *dev = th_mem(size);
        th_format(dev, size, 21, &r);
        cmb_log *log;
        th_ok(open_remap(dev, &r, &log));
        th_start(log, 0);
        size_t n = 0;
        uint64_t seq = 0, value = 0;
        static cmb_extent extents[20000];
        for (unsigned round = 0; round < 3; round++) {
            for (unsigned i = 0; i < 600; i++, n++) {
                all[n] = (kept){.length = 16 + (uint32_t)th_below(&r, i % 60 ? 9000 : 700000)};
                if (i % 300 == 7) { /* one in a stream */
                    cmb_appender *s, *app;
                    th_ok(cmb_log_stream(log, &s));
                    th_ok(th_append(s, all[n].length, &all[n].addr));
                    th_ok(cmb_stream_finish(s));
                    th_ok(cmb_log_begin(log, &app, NULL));
                    th_ok(cmb_append_adopt(app, s));
                    th_ok(cmb_log_publish(app, "12345678", 8, &seq));
                } else {
                    th_ok(th_unit(log, all[n].length, ++value, &all[n].addr, &seq));
                }
            }
            th_ok(cmb_log_sync(log, seq));
            qsort(all, n, sizeof *all, compare_kept);
            for (size_t i = 0; i < n; i++)
                all[i].dead |= th_below(&r, 3) == 0 || (all[i].addr >> 21) % 7 == 3;
            checkpoint(log, value);
            checkpoint(log, value);
            cmb_log_stats before, after;
            cmb_log_get_stats(log, &before);
            uint64_t last = (all[n - 1].addr >> 21) - 2;
            assert_int_equal(cmb_log_relocate(log, 1, last + 2, extents, live_extents(n, 1, last + 2, extents)), CMB_EBUSY);
            remapped_count = 0;
            uint64_t step = 1 + th_below(&r, 6);
            for (uint64_t first = 1; first <= last; first += step) {
                uint64_t to = first + step - 1 > last ? last : first + step - 1;
                th_ok(cmb_log_relocate(log, first, to, extents, live_extents(n, first, to, extents)));
            }
            assert_true(remapped_count > 0);
            check_all(log, n);
            for (uint64_t s = 1; s <= last; s++) {
                scan_count c = {0, 0};
                int e = cmb_log_scan(log, s, on_scan, &c);
                assert_true(e == 0 || e == CMB_ENOTFOUND);
                assert_int_equal(c.errors, 0);
            }
            checkpoint(log, value);
            checkpoint(log, value);
            cmb_log_get_stats(log, &after);
            if (round % 2) {
                th_ok(cmb_log_close(log));
                th_ok(th_open_as(dev, false, &r, NULL, &log));
                check_all(log, n);
                th_ok(cmb_log_close(log));
                th_ok(open_remap(dev, &r, &log));
                check_all(log, n);
                th_start(log, value);
            }
            check_all(log, n);
        }
        th_ok(cmb_log_close(log));
        cmb_device_close(dev);
    }
}

static void relocation_that_was_not_checkpointed_is_recovered_from_the_log(void **state)
{
    (void)state;
    th_random r = {th_seed()};
    cmb_device *dev = th_mem(64u << 20);
    th_format(dev, 64u << 20, 21, &r);
    cmb_log *log;
    static cmb_extent extents[20000];
    uint64_t seq = 0;
    th_ok(th_open_as(dev, true, &r, NULL, &log));
    th_start(log, 0);
    size_t n = 0;
    for (; n < 400; n++) {
        all[n] = (kept){.length = 20000, .dead = n % 2};
        th_ok(th_unit(log, all[n].length, n + 1, &all[n].addr, &seq));
    }
    checkpoint(log, n);
    checkpoint(log, n);
    th_ok(cmb_log_relocate(log, 1, 3, extents, live_extents(n, 1, 3, extents)));
    th_ok(cmb_log_relocate(log, 1, 3, extents, live_extents(n, 1, 3, extents)));
    th_ok(cmb_log_close(log));
    th_ok(th_open_as(dev, true, &r, NULL, &log));
    check_all(log, n);
    th_ok(cmb_log_close(log));
    cmb_device_close(dev);
}

static void flip(cmb_device *dev, uint64_t at)
{
    uint8_t block[CMB_BLOCK];
    cmb_queue *q;
    th_ok(cmb_queue_open(dev, 1, &q));
    th_ok(cmb_io_read(q, at & ~(uint64_t)(CMB_BLOCK - 1), block, CMB_BLOCK, 0));
    block[at % CMB_BLOCK] ^= 1;
    th_ok(cmb_io_write(q, at & ~(uint64_t)(CMB_BLOCK - 1), block, CMB_BLOCK));
    cmb_queue_close(q);
}

/* Twice: out of frames, and out of what was moved before. */
static void what_is_damaged_is_not_moved(void **state)
{
    (void)state;
    th_random r = {th_seed()};
    cmb_device *dev = th_mem(64u << 20);
    th_format(dev, 64u << 20, 21, &r);
    cmb_log *log;
    static cmb_extent extents[20000];
    uint64_t seq = 0, at;
    th_ok(th_open_as(dev, true, &r, NULL, &log));
    th_start(log, 0);
    size_t n = 0;
    for (; n < 400; n++) {
        all[n] = (kept){.length = 20000, .dead = n % 2};
        th_ok(th_unit(log, all[n].length, n + 1, &all[n].addr, &seq));
    }
    checkpoint(log, n);
    checkpoint(log, n);
    for (unsigned round = 0; round < 2; round++) {
        assert_true(cmb_log_locate(log, all[10].addr, all[10].length, &at));
        flip(dev, at + 5000);
        assert_int_equal(cmb_log_relocate(log, 1, 3, extents, live_extents(n, 1, 3, extents)), CMB_ECORRUPT);
        flip(dev, at + 5000);
        th_ok(cmb_log_relocate(log, 1, 3, extents, live_extents(n, 1, 3, extents)));
        for (size_t i = 0; i < n; i++) /* so that there is something to be gained by moving the rest again */
            all[i].dead |= i % 4 != 2;
        checkpoint(log, n);
        checkpoint(log, n);
    }
    check_all(log, n);
    th_ok(cmb_log_close(log));
    cmb_device_close(dev);
}

/* ---- looking while others write ---- */

typedef struct beside {
    cmb_log *log;
    uint64_t first, last; /* segments that hold nothing of use */
    unsigned calls, told;
} beside;

static void add_units(cmb_log *log, unsigned n)
{
    uint64_t addr, seq;
    for (unsigned i = 0; i < n; i++)
        th_ok(th_unit(log, 900000, i, &addr, &seq));
    th_ok(cmb_log_sync(log, seq));
}

/* Frees what there is to be freed, uses it anew, and goes on until the file has grown. */
static void write_beside(beside *b)
{
    if (b->calls++)
        return;
    for (uint64_t s = b->first; s && s <= b->last; s++)
        th_ok(cmb_log_relocate(b->log, s, s, NULL, 0));
    checkpoint(b->log, 0);
    checkpoint(b->log, 0);
    checkpoint(b->log, 0);
    add_units(b->log, 70);
}

static int segment_beside(void *ctx, const cmb_segment_info *info)
{
    (void)info;
    write_beside(ctx);
    return 0;
}

static int finding_beside(void *ctx, int error, const char *text)
{
    beside *b = ctx;
    print_message("%s: %s\n", cmb_error_name(error), text);
    b->told++;
    write_beside(b);
    return 0;
}

static void burn_numbers(cmb_log *log, uint64_t next)
{
    uint64_t addr = 0;
    while ((addr >> 21) + 1 < next) {
        cmb_appender *s;
        th_ok(cmb_log_stream(log, &s));
        th_ok(th_append(s, 64, &addr));
        cmb_append_abort(s);
    }
}

/* Flips a bit in every copy of the table's leaf with this number. */
static unsigned damage_leaf(cmb_device *dev, uint64_t index)
{
    cmb_caps caps;
    uint8_t block[CMB_BLOCK];
    cmb_queue *q;
    unsigned n = 0;
    cmb_device_caps(dev, &caps);
    th_ok(cmb_queue_open(dev, 1, &q));
    for (uint64_t at = 0; at < caps.size; at += CMB_BLOCK) {
        th_ok(cmb_io_read(q, at, block, CMB_BLOCK, 0));
        if (cmb_get32(block + CMB_PAGE_AT_MAGIC) == CMB_PAGE_MAGIC && block[CMB_PAGE_AT_KIND] == CMB_PAGE_TABLE
            && block[CMB_PAGE_AT_LEVEL] == 0 && cmb_get64(block + CMB_PAGE_AT_INDEX) == index) {
            flip(dev, at + 100);
            n++;
        }
    }
    cmb_queue_close(q);
    return n;
}

static void segments_are_told_while_the_file_grows(void **state)
{
    (void)state;
    th_random r = {th_seed()};
    cmb_device *dev = th_mem(0);
    th_format(dev, 0, 21, &r);
    beside b = {0};
    th_ok(th_open_as(dev, true, &r, NULL, &b.log));
    th_start(b.log, 0);
    add_units(b.log, 4);
    th_ok(cmb_log_segments(b.log, segment_beside, &b));
    assert_true(b.calls > 1);
    th_ok(cmb_log_close(b.log));
    cmb_device_close(dev);
}

/* The finding is a damaged page between two others: what one held is moved, and its place used anew by what the other one holds. */
static void tables_are_checked_while_segments_are_used_anew_and_the_file_grows(void **state)
{
    (void)state;
    th_random r = {th_seed()};
    cmb_device *dev = th_mem(0);
    th_format(dev, 0, 21, &r);
    beside b = {.first = 1, .last = 10};
    th_ok(th_open_as(dev, true, &r, NULL, &b.log));
    th_start(b.log, 0);
    add_units(b.log, 22);
    burn_numbers(b.log, 300);
    add_units(b.log, 8);
    burn_numbers(b.log, 520);
    add_units(b.log, 4);
    checkpoint(b.log, 0);
    checkpoint(b.log, 0);
    th_ok(cmb_log_close(b.log));
    assert_true(damage_leaf(dev, 1) > 0);
    th_ok(th_open_as(dev, true, &r, NULL, &b.log));
    th_start(b.log, 0);
    checkpoint(b.log, 0);
    uint64_t pages;
    cmb_log_stats before, after;
    cmb_log_get_stats(b.log, &before);
    th_ok(cmb_log_check_tables(b.log, &pages, finding_beside, &b));
    cmb_log_get_stats(b.log, &after);
    assert_int_equal(b.told, 1);
    assert_true(after.size > before.size);
    th_ok(cmb_log_close(b.log));
    cmb_device_close(dev);
}

typedef struct bad_block {
    uint64_t at;     /* of the device; 0: none */
    unsigned failed; /* reads */
} bad_block;

static int fail_reads(void *ctx, const cmb_request *r)
{
    bad_block *b = ctx;
    if (r->op != CMB_OP_READ || !b->at || r->offset > b->at || r->offset + r->length <= b->at)
        return 0;
    b->failed++;
    return cmb_fail(CMB_EIO, "a bad block");
}

static void a_scan_asks_a_few_times_only_for_a_block_that_cannot_be_read(void **state)
{
    (void)state;
    th_random r = {th_seed()};
    bad_block b = {0};
    cmb_device *dev = th_hook_over(th_mem(64u << 20), NULL, fail_reads, &b);
    th_format(dev, 64u << 20, 21, &r);
    cmb_log *log;
    uint64_t addr[200], seq, offset;
    th_ok(th_open_as(dev, true, &r, NULL, &log));
    th_start(log, 0);
    for (unsigned i = 0; i < CMB_COUNTOF(addr); i++) { /* a block each */
        th_ok(th_unit(log, 1000, i, &addr[i], &seq));
        th_ok(cmb_log_sync(log, seq));
    }
    for (unsigned i = 0; i < CMB_COUNTOF(addr); i += 7) {
        scan_count good = {0}, c = {0};
        th_ok(cmb_log_scan(log, addr[i] >> 21, on_scan, &good));
        assert_true(cmb_log_locate(log, addr[i], 1000, &offset));
        b = (bad_block){.at = offset & ~(uint64_t)(CMB_BLOCK - 1)};
        th_ok(cmb_log_scan(log, addr[i] >> 21, on_scan, &c));
        assert_int_equal(c.errors, 1);
        assert_int_equal(c.records, good.records - 2);
        assert_in_range(b.failed, 1, 8);
        b.at = 0;
    }
    th_ok(cmb_log_close(log));
    cmb_device_close(dev);
}

static void a_retired_segment_is_free_only_after_two_checkpoints(void **state)
{
    (void)state;
    th_random r = {th_seed()};
    cmb_device *dev = th_mem(64u << 20);
    th_format(dev, 64u << 20, 21, &r);
    cmb_log *log;
    uint64_t seq = 0;
    th_ok(th_open_as(dev, true, &r, NULL, &log));
    th_start(log, 0);
    for (size_t n = 0; n < 200; n++)
        th_ok(th_unit(log, 50000, n + 1, &all[n].addr, &seq));
    checkpoint(log, 200);
    checkpoint(log, 200);
    cmb_log_stats s;
    th_ok(cmb_log_relocate(log, 1, 3, NULL, 0));
    cmb_log_get_stats(log, &s);
    uint64_t free = s.segments[CMB_SEG_FREE];
    assert_int_equal(s.segments[CMB_SEG_QUARANTINE1], 3);
    uint8_t gone[64];
    assert_int_equal(cmb_log_read(log, NULL, all[0].addr, 64, gone), CMB_ECORRUPT);
    checkpoint(log, 200);
    cmb_log_get_stats(log, &s);
    assert_int_equal(s.segments[CMB_SEG_QUARANTINE2], 3);
    assert_int_equal(s.segments[CMB_SEG_FREE], free);
    checkpoint(log, 200);
    cmb_log_get_stats(log, &s);
    assert_int_equal(s.segments[CMB_SEG_QUARANTINE1] + s.segments[CMB_SEG_QUARANTINE2], 0);
    assert_int_equal(s.segments[CMB_SEG_FREE], free + 3);
    th_ok(cmb_log_close(log));
    cmb_device_close(dev);
}

static void metadata_segments_are_rewritten_and_recycled_over_thousands_of_checkpoints(void **state)
{
    (void)state;
    th_random r = {th_seed()};
    cmb_device *dev = th_mem(32u << 20);
    th_format(dev, 32u << 20, 21, &r);
    cmb_log *log;
    static cmb_extent extents[1];
    static th_edits edits;
    th_ok(th_open_as(dev, true, &r, NULL, &log));
    th_start(log, 0);
    for (unsigned i = 0; i < 2500; i++) {
        checkpoint(log, i);
        if (i % 100 == 99) {
            uint64_t first, end;
            cmb_log_extent(log, &first, &end);
            for (uint64_t s = first >> 21; s + 1 < end >> 21; s++)
                (void)cmb_log_relocate(log, s, s, extents, 0);
        }
        if (i % 700 == 5) {
            th_ok(cmb_log_close(log));
            th_ok(th_open_as(dev, true, &r, &edits, &log));
            assert_int_equal(th_root(log), i);
            th_start(log, i);
        }
    }
    cmb_log_stats s;
    cmb_log_get_stats(log, &s);
    assert_true(s.bytes_metadata > 1u << 20);
    assert_true(s.segments[CMB_SEG_LIVE] < 8);
    check_all(log, 0);
    th_ok(cmb_log_close(log));
    cmb_device_close(dev);
}

static void a_full_device_takes_an_urgent_checkpoint_however_often_it_was_closed(void **state)
{
    (void)state;
    for (uint32_t length = 1000; length < 6000; length += 1000) {
        th_random r = {length};
        cmb_device *dev = th_mem(16u << 20);
        cmb_log *log;
        cmb_appender *app;
        uint64_t addr, seq;
        bool start;
        th_format(dev, 16u << 20, 21, &r);
        th_ok(th_open_as(dev, true, &r, NULL, &log));
        th_start(log, 0);
        int e = 0;
        while (!e) {
            e = th_unit(log, length, 1, &addr, &seq);
            if (!e)
                th_ok(cmb_log_sync(log, seq));
        }
        assert_int_equal(e, CMB_ENOSPC);
        for (unsigned i = 0; i < 3; i++) {
            th_ok(cmb_log_close(log)); /* seals */
            th_ok(th_open_as(dev, true, &r, NULL, &log));
        }
        th_ok(cmb_log_begin_urgent(log, &app, &start));
        th_ok(th_checkpoint(app, 7, &seq));
        th_ok(cmb_log_close(log));
        th_ok(th_open_as(dev, true, &r, NULL, &log));
        assert_int_equal(th_root(log), 7);
        th_ok(cmb_log_close(log));
        cmb_device_close(dev);
    }
}

static void count_writes(void *ctx, const cmb_trace_event *event)
{
    *(uint64_t *)ctx += event->op == CMB_OP_WRITE;
}

/* A unit through a stream that is written in several pieces, the `failing`-th write of which finds no space. */
static void a_stream_without_space_fails_alone(void **state)
{
    (void)state;
    uint64_t before = 0;
    for (unsigned run = 0; run < 4; run++) { /* the first one counts */
        th_random r = {7};
        uint64_t writes = 0, addr, first, seq;
        cmb_fault_rule rule = {.op = CMB_OP_WRITE, .kind = CMB_FAULT_ENOSPC, .first = run ? before + run - 1 : UINT64_MAX};
        cmb_device *fault, *dev;
        cmb_log *log;
        cmb_appender *s;
        th_ok(cmb_device_fault(th_mem(64u << 20), &rule, 1, 1, &fault));
        th_ok(cmb_device_trace(fault, count_writes, &writes, &dev));
        th_format(dev, 64u << 20, 21, &r);
        th_ok(th_open_as(dev, true, &r, NULL, &log));
        th_start(log, 0);
        th_ok(th_unit(log, 1000, 1, &first, &seq));
        th_ok(cmb_log_sync(log, seq));
        before = run ? before : writes;
        th_ok(cmb_log_stream(log, &s));
        int e = 0;
        for (unsigned i = 0; i < 60 && !e; i++)
            e = th_append(s, 90000, &addr);
        if (!e)
            e = cmb_stream_finish(s);
        assert_int_equal(e, run ? CMB_ENOSPC : 0);
        if (run) {
            assert_int_equal(th_append(s, 100, &addr), CMB_ENOSPC);
            assert_int_equal(cmb_stream_finish(s), CMB_ENOSPC);
        }
        cmb_append_abort(s);
        th_ok(th_unit(log, 1000, 2, &addr, &seq)); /* the log goes on */
        th_ok(cmb_log_sync(log, seq));
        th_check(log, first, 1000);
        th_ok(cmb_log_close(log));
        static th_edits edits;
        th_ok(th_open_as(dev, true, &r, &edits, &log));
        assert_int_equal(edits.n, 2);
        th_ok(cmb_log_close(log));
        cmb_device_close(dev);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_fixed_device_refuses_cleanly_and_stays_readable),
        cmocka_unit_test(relocating_every_live_record_changes_no_read_now_or_after_reopening),
        cmocka_unit_test(relocation_that_was_not_checkpointed_is_recovered_from_the_log),
        cmocka_unit_test(what_is_damaged_is_not_moved),
        cmocka_unit_test(segments_are_told_while_the_file_grows),
        cmocka_unit_test(tables_are_checked_while_segments_are_used_anew_and_the_file_grows),
        cmocka_unit_test(a_scan_asks_a_few_times_only_for_a_block_that_cannot_be_read),
        cmocka_unit_test(a_retired_segment_is_free_only_after_two_checkpoints),
        cmocka_unit_test(metadata_segments_are_rewritten_and_recycled_over_thousands_of_checkpoints),
        cmocka_unit_test(a_full_device_takes_an_urgent_checkpoint_however_often_it_was_closed),
        cmocka_unit_test(a_stream_without_space_fails_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
