/* SPDX-License-Identifier: ISC */
/* Recovery where things change under it: beside a live writer, from the older generation. */
#include "helper.h"

#include "log/format.h"

#define SIZE (128u << 20)
#define SHIFT 21u

static void damage_newest_pair(cmb_device *dev, uint64_t generation)
{
    static uint8_t bad[4096];
    cmb_queue *q;
    th_ok(cmb_queue_open(dev, 1, &q));
    for (unsigned slot = generation & 1; slot < 4; slot += 2)
        th_ok(cmb_io_write(q, (uint64_t)slot << 20, bad, sizeof bad));
    cmb_queue_close(q);
}

static void checkpoint(cmb_log *log, uint64_t value)
{
    cmb_appender *app;
    uint64_t seq;
    th_ok(cmb_log_begin(log, &app, NULL));
    th_ok(th_checkpoint(app, value, &seq));
}

static void stream_unit(cmb_log *log, uint32_t length, uint64_t value, uint64_t *out_addr)
{
    cmb_appender *s, *app;
    uint8_t edit[8];
    uint64_t seq;
    cmb_put64(edit, value);
    th_ok(cmb_log_stream(log, &s));
    th_ok(th_append(s, length, out_addr));
    th_ok(cmb_stream_finish(s));
    th_ok(cmb_log_begin(log, &app, NULL));
    th_ok(cmb_append_adopt(app, s));
    th_ok(cmb_log_publish(app, edit, sizeof edit, &seq));
    th_ok(cmb_log_sync(log, seq));
}

/* ---- a reader beside a writer ---- */

typedef struct beside {
    cmb_log *writer;
    uint64_t next, acknowledged;
    unsigned units; /* made durable during each of the reader's reads */
    unsigned left;  /* reads that are answered so */
    bool checkpoints;
    uint32_t length;
} beside;

static void on_read(void *ctx, const cmb_trace_event *event)
{
    beside *b = ctx;
    if (event->op != CMB_OP_READ || !b->left)
        return;
    b->left--;
    for (unsigned i = 0; i < b->units; i++) {
        uint64_t addr, seq;
        th_ok(th_unit(b->writer, b->length, b->next, &addr, &seq));
        th_ok(cmb_log_sync(b->writer, seq));
        b->acknowledged = b->next++;
    }
    if (b->checkpoints)
        checkpoint(b->writer, b->acknowledged);
}

/* Opens for reading; the newest unit that it knows of is told. */
static uint64_t newest_of(cmb_device *dev, th_random *r)
{
    static th_edits edits;
    cmb_log *log;
    th_ok(th_open_as(dev, false, r, &edits, &log));
    uint64_t root = th_root(log), newest = edits.n ? edits.values[edits.n - 1] : root;
    for (size_t i = 0; i < edits.n; i++)
        assert_int_equal(edits.values[i], newest - (edits.n - 1 - i)); /* none left out */
    if (edits.n)
        assert_int_equal(edits.values[0], root + 1);
    th_ok(cmb_log_close(log));
    return newest;
}

static void reader_beside(uint64_t size, uint32_t length, bool checkpoints)
{
    th_random r = {th_seed()};
    cmb_device *mem = th_mem(size), *reader;
    beside b = {.next = 1, .checkpoints = checkpoints, .length = length};
    th_format(mem, size, SHIFT, &r);
    th_ok(th_open_as(mem, true, &r, NULL, &b.writer));
    th_start(b.writer, 0);
    th_ok(cmb_device_trace(mem, on_read, &b, &reader));
    for (unsigned round = 0; round < 8; round++) {
        uint64_t before = b.acknowledged;
        b.units = round % 5;
        b.left = 200;
        assert_true(newest_of(reader, &r) >= before);
    }
    b.left = 0;
    assert_int_equal(newest_of(reader, &r), b.acknowledged);
    th_ok(cmb_log_close(b.writer));
    cmb_device_close(reader);
}

static void a_reader_opens_while_every_read_of_its_is_followed_by_commits(void **state)
{
    (void)state;
    reader_beside(SIZE, 64, false);
}

static void a_reader_opens_while_every_read_of_its_is_followed_by_checkpoints(void **state)
{
    (void)state;
    reader_beside(SIZE, 64, true);
}

static void a_reader_opens_while_the_image_grows(void **state)
{
    (void)state;
    reader_beside(0, 30000, false);
    reader_beside(0, 30000, true);
}

static void a_reader_finds_damage_beside_a_writer(void **state)
{
    (void)state;
    th_random r = {th_seed()};
    cmb_device *dev = th_mem(SIZE);
    cmb_log *writer, *log;
    uint64_t addr, offset, seq;
    uint8_t bad[4096] = {1};
    cmb_queue *q;
    th_format(dev, SIZE, SHIFT, &r);
    th_ok(th_open_as(dev, true, &r, NULL, &writer));
    th_start(writer, 0);
    th_ok(th_unit(writer, 64, 1, &addr, &seq));
    th_ok(cmb_log_sync(writer, seq));
    assert_true(cmb_log_locate(writer, addr, 64, &offset));
    for (uint64_t i = 2; i < 5; i++) {
        th_ok(th_unit(writer, 64, i, &addr, &seq));
        th_ok(cmb_log_sync(writer, seq));
    }
    th_ok(cmb_queue_open(dev, 1, &q));
    th_ok(cmb_io_write(q, offset & ~(uint64_t)4095, bad, sizeof bad));
    cmb_queue_close(q);
    assert_int_equal(th_open_as(dev, false, &r, NULL, &log), CMB_ECORRUPT);
    assert_non_null(strstr(cmb_error_detail(), "acknowledged"));
    th_ok(cmb_log_close(writer));
    cmb_device_close(dev);
}

static int refuse_third(void *ctx, uint8_t kind, uint64_t addr, const void *payload, uint32_t length)
{
    unsigned *calls = ctx;
    (void)kind;
    (void)addr;
    (void)payload;
    (void)length;
    return ++*calls == 3 ? CMB_ECORRUPT : 0;
}

static void edits_are_told_once_even_if_a_reader_fails(void **state)
{
    (void)state;
    th_random r = {th_seed()};
    cmb_device *dev = th_mem(SIZE);
    cmb_log *writer, *log;
    unsigned calls = 0;
    th_format(dev, SIZE, SHIFT, &r);
    th_ok(th_open_as(dev, true, &r, NULL, &writer));
    th_start(writer, 0);
    for (uint64_t i = 1, addr, seq; i < 6; i++) {
        th_ok(th_unit(writer, 64, i, &addr, &seq));
        th_ok(cmb_log_sync(writer, seq));
    }
    cmb_log_options o = {.replay = refuse_third, .ctx = &calls, .env = th_env(&r)};
    assert_int_equal(cmb_log_open(dev, &o, &log), CMB_ECORRUPT);
    assert_int_equal(calls, 3);
    th_ok(cmb_log_close(writer));
    cmb_device_close(dev);
}

static void a_length_in_the_header_of_a_frame_is_checked_before_it_is_used(void **state)
{
    (void)state;
    th_random r = {th_seed()};
    cmb_device *dev = th_mem(SIZE);
    cmb_log *log;
    uint64_t addr, offset = 0, seq;
    uint8_t block[CMB_BLOCK];
    cmb_queue *q;
    th_format(dev, SIZE, SHIFT, &r);
    th_ok(th_open_as(dev, true, &r, NULL, &log));
    th_start(log, 0);
    for (uint64_t i = 1; i < 5; i++) {
        th_ok(th_unit(log, 64, i, &addr, &seq));
        th_ok(cmb_log_sync(log, seq));
        if (i == 2)
            assert_true(cmb_log_locate(log, addr, 64, &offset));
    }
    th_ok(cmb_log_close(log));
    offset &= ~(uint64_t)(CMB_BLOCK - 1);
    th_ok(cmb_queue_open(dev, 1, &q));
    th_ok(cmb_io_read(q, offset, block, sizeof block, 0));
    for (unsigned bit = 0; bit < 64; bit++) { /* bytes of the payload, and records in it */
        block[64 + bit / 8] ^= (uint8_t)(1u << bit % 8);
        th_ok(cmb_io_write(q, offset, block, sizeof block));
        assert_int_equal(th_open_as(dev, bit % 2, &r, NULL, &log), CMB_ECORRUPT);
        block[64 + bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    cmb_queue_close(q);
    cmb_device_close(dev);
}

/* ---- what changes between two looks ---- */

typedef struct spoiler {
    cmb_device *dev;
    uint64_t place; /* of a byte */
    unsigned reads, at;
} spoiler;

/* After so many reads a byte is another one. */
static void spoil(void *ctx, const cmb_trace_event *event)
{
    spoiler *s = ctx;
    uint8_t block[CMB_BLOCK];
    cmb_queue *q;
    if (event->op != CMB_OP_READ || s->reads++ != s->at)
        return;
    th_ok(cmb_queue_open(s->dev, 1, &q));
    th_ok(cmb_io_read(q, s->place & ~(uint64_t)(CMB_BLOCK - 1), block, CMB_BLOCK, 0));
    block[s->place % CMB_BLOCK] ^= 1;
    th_ok(cmb_io_write(q, s->place & ~(uint64_t)(CMB_BLOCK - 1), block, CMB_BLOCK));
    cmb_queue_close(q);
}

static void an_edit_that_is_damaged_after_its_frame_was_checked_is_not_told(void **state)
{
    (void)state;
    static th_edits edits;
    unsigned refused = 0;
    for (unsigned at = 0, all = 1; at < all; at++) {
        th_random r = {th_seed()};
        cmb_device *mem = th_mem(SIZE), *dev;
        cmb_log *log;
        uint64_t addr = 0, place, seq;
        th_format(mem, SIZE, SHIFT, &r);
        th_ok(th_open_as(mem, true, &r, NULL, &log));
        th_start(log, 0);
        for (uint64_t i = 1; i < 5; i++) {
            th_ok(th_unit(log, 64, i, &addr, &seq));
            th_ok(cmb_log_sync(log, seq));
        }
        assert_true(cmb_log_locate(log, addr, 64, &place));
        th_ok(cmb_log_close(log));
        spoiler s = {mem, place + 64 + CMB_RECORD_HEADER, 0, at}; /* the value in the edit of the last unit */
        th_ok(cmb_device_trace(mem, spoil, &s, &dev));
        int e = th_open_as(dev, true, &r, &edits, &log);
        assert_true(!e || e == CMB_ECORRUPT);
        refused += e != 0;
        for (size_t i = 0; i < edits.n; i++)
            assert_int_equal(edits.values[i], i + 1);
        assert_true(e || edits.n == 4);
        all = s.reads;
        if (!e)
            th_ok(cmb_log_close(log));
        cmb_device_close(dev);
    }
    assert_true(refused > 0);
}

/* ---- from the older generation ---- */

/* Blocks [from, to) of a segment that begin as frames do that fill the rest of it, or a frame's size. */
static void fake_frames(cmb_device *dev, uint64_t physical, uint64_t segment, uint32_t from, uint32_t to)
{
    cmb_image_params p = th_params(0, 21);
    uint8_t block[CMB_BLOCK];
    cmb_queue *q;
    th_ok(cmb_queue_open(dev, 1, &q));
    for (uint32_t at = from * CMB_BLOCK; at < to * CMB_BLOCK; at += CMB_BLOCK) {
        uint32_t room = (2u << 20) - at, most = CMB_FRAME_MAX;
        memset(block, 0, sizeof block);
        cmb_put32(block, CMB_FRAME_MAGIC);
        memcpy(block + CMB_FRAME_AT_UUID, p.uuid, 16);
        cmb_put64(block + CMB_FRAME_AT_ADDR, (segment << 21) + at);
        cmb_put32(block + CMB_FRAME_AT_PAYLOAD, (room < most ? room : most) - CMB_FRAME_HEADER);
        th_ok(cmb_io_write(q, (physical << 21) + at, block, CMB_BLOCK));
    }
    cmb_queue_close(q);
}

static void the_search_for_a_witness_has_an_end_and_calls_no_tail_torn_then(void **state)
{
    (void)state;
    for (unsigned many = 0; many < 2; many++) {
        th_random r = {th_seed()};
        cmb_device *dev = th_mem(64u << 20);
        th_format(dev, 64u << 20, 21, &r);
        cmb_log *log;
        uint64_t addr, seq, offset;
        th_ok(th_open_as(dev, true, &r, NULL, &log));
        th_start(log, 0);
        th_ok(th_unit(log, 500, 1, &addr, &seq));
        th_ok(cmb_log_sync(log, seq));
        assert_true(cmb_log_locate(log, addr, 500, &offset));
        th_ok(cmb_log_close(log));
        fake_frames(dev, offset >> 21, addr >> 21, many ? 8 : 480, 512);
        int e = th_open_as(dev, true, &r, NULL, &log);
        assert_int_equal(e, many ? CMB_ECORRUPT : 0);
        if (!e)
            th_ok(cmb_log_close(log));
        cmb_device_close(dev);
    }
}

static void a_segment_that_left_quarantine_and_was_used_again_stays_live_when_a_generation_is_lost(void **state)
{
    (void)state;
    th_random r = {th_seed()};
    cmb_device *dev = th_mem(SIZE);
    cmb_log *log;
    cmb_log_stats stats;
    uint64_t dead, kept, other;
    th_format(dev, SIZE, SHIFT, &r);
    th_ok(th_open_as(dev, true, &r, NULL, &log));
    th_start(log, 0);
    stream_unit(log, 100000, 1, &dead);
    uint64_t segment = dead >> SHIFT;
    checkpoint(log, 1);
    th_ok(cmb_log_relocate(log, segment, segment, NULL, 0)); /* nothing is alive: quarantine */
    checkpoint(log, 2);
    checkpoint(log, 3); /* free from here on */
    stream_unit(log, 100000, 4, &kept);
    cmb_log_get_stats(log, &stats);
    uint64_t live = stats.segments[CMB_SEG_LIVE];
    th_ok(cmb_log_close(log));

    damage_newest_pair(dev, stats.generation);
    th_ok(th_open_as(dev, true, &r, NULL, &log));
    cmb_log_get_stats(log, &stats);
    assert_true(stats.segments[CMB_SEG_LIVE] >= live - 1); /* but for the lost generation's own pages */
    th_start(log, 5);
    for (unsigned i = 0; i < 4; i++) {
        checkpoint(log, 6 + i);
        stream_unit(log, 100000, 7 + i, &other);
    }
    th_check(log, kept, 100000);
    th_ok(cmb_log_close(log));
    th_ok(th_open_as(dev, true, &r, NULL, &log));
    th_check(log, kept, 100000);
    th_ok(cmb_log_close(log));
    cmb_device_close(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reader_opens_while_every_read_of_its_is_followed_by_commits),
        cmocka_unit_test(a_reader_opens_while_every_read_of_its_is_followed_by_checkpoints),
        cmocka_unit_test(a_reader_opens_while_the_image_grows),
        cmocka_unit_test(a_reader_finds_damage_beside_a_writer),
        cmocka_unit_test(edits_are_told_once_even_if_a_reader_fails),
        cmocka_unit_test(a_length_in_the_header_of_a_frame_is_checked_before_it_is_used),
        cmocka_unit_test(an_edit_that_is_damaged_after_its_frame_was_checked_is_not_told),
        cmocka_unit_test(the_search_for_a_witness_has_an_end_and_calls_no_tail_torn_then),
        cmocka_unit_test(a_segment_that_left_quarantine_and_was_used_again_stays_live_when_a_generation_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
