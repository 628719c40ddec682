/* SPDX-License-Identifier: ISC */
/* A log that is put together from what lies on the device: from damage, and from what was forged to cost the most. */
#include "helper.h"

#include "log/format.h"
#include "log/internal.h"
#include "log/rescue.h"

#define SHIFT   21u
#define SEGMENT ((uint64_t)1 << SHIFT)
#define SIZE    (UINT64_C(32) << 20)
#define UNITS   60u
#define LENGTH  40000u

/* ---- memory that is counted ---- */

typedef struct counted {
    size_t now, most;
} counted;

static void note(counted *c, size_t less, size_t more)
{
    c->now += more - less;
    c->most = c->now > c->most ? c->now : c->most;
}
static void *counted_alloc(void *ctx, size_t size)
{
    note(ctx, 0, size);
    return malloc(size);
}
static void *counted_resize(void *ctx, void *ptr, size_t old_size, size_t new_size)
{
    note(ctx, old_size, new_size);
    return realloc(ptr, new_size);
}
static void counted_release(void *ctx, void *ptr, size_t size)
{
    note(ctx, size, 0);
    free(ptr);
}

/* ---- an image, and its bytes ---- */

typedef struct image {
    th_random r;
    cmb_device *dev;
    cmb_queue *q;
    counted memory;
    cmb_log *log;
    uint64_t addrs[UNITS];
} image;

/* UNITS records, in more than one segment; a checkpoint in the middle. */
static void make(image *im)
{
    cmb_appender *app;
    uint64_t seq;
    bool start;
    memset(im, 0, sizeof *im);
    im->r = (th_random){th_seed()};
    im->dev = th_mem(SIZE);
    th_format(im->dev, SIZE, SHIFT, &im->r);
    th_ok(th_open_as(im->dev, true, &im->r, NULL, &im->log));
    th_start(im->log, 1);
    for (unsigned i = 0; i < UNITS; i++) {
        th_ok(th_unit(im->log, LENGTH, i, &im->addrs[i], &seq));
        th_ok(cmb_log_sync(im->log, seq));
    }
    th_ok(cmb_log_begin(im->log, &app, &start));
    th_ok(th_checkpoint(app, 2, &seq));
    th_ok(cmb_log_sync(im->log, seq));
    th_ok(cmb_log_close(im->log));
    im->log = NULL;
    th_ok(cmb_queue_open(im->dev, 1, &im->q));
}

static int rescue_with(image *im, cmb_device *dev)
{
    static const cmb_image_params params = {.hash_kind = 1, .node_target = 4096, .boundary_seed = 7};
    cmb_log_options o = {.alloc = {&im->memory, counted_alloc, counted_resize, counted_release}, .env = th_env(&im->r)};
    return cmb_log_open_rescue(dev, &o, &params, &im->log);
}

static void rescue(image *im)
{
    th_ok(rescue_with(im, im->dev));
}

static void done(image *im)
{
    if (im->log)
        th_ok(cmb_log_close(im->log));
    cmb_queue_close(im->q);
    cmb_device_close(im->dev);
}

static void put_bytes(image *im, uint64_t offset, const void *bytes, size_t size)
{
    uint64_t from = offset & ~(uint64_t)(CMB_BLOCK - 1), to = cmb_align_up(offset + size, CMB_BLOCK);
    uint8_t *wide = aligned_alloc(CMB_BLOCK, (size_t)(to - from));
    assert_non_null(wide);
    th_ok(cmb_io_read(im->q, from, wide, to - from, 0));
    memcpy(wide + (offset - from), bytes, size);
    th_ok(cmb_io_write(im->q, from, wide, to - from));
    free(wide);
}

static void wipe_superblocks(image *im)
{
    static const uint8_t zeros[CMB_BLOCK];
    for (unsigned i = 0; i < CMB_SUPER_SLOTS; i++)
        put_bytes(im, (uint64_t)i * CMB_SUPER_SPACING, zeros, sizeof zeros);
}

static unsigned readable(image *im)
{
    unsigned n = 0;
    uint8_t *buf = malloc(LENGTH);
    for (unsigned i = 0; i < UNITS; i++)
        n += cmb_log_read(im->log, NULL, im->addrs[i], LENGTH, buf) == 0 && cmb_record_check(buf, LENGTH, im->addrs[i]) == 0;
    free(buf);
    return n;
}

static uint64_t last_segment(void)
{
    return SIZE / SEGMENT - 1;
}

/*
 * A footer that is right by its check, at `offset` of a physical segment: n logical segments from `first` on, `apart` from each other,
 * each with `each` runs of one granule. `lie`: its counts do not fit.
 */
static void forge_footer(image *im, uint64_t physical, uint64_t offset, uint32_t n, uint64_t first, uint64_t apart, uint32_t each, bool lie)
{
    uint32_t length = CMB_FOOTER_HEADER + n * (CMB_FOOTER_LOGICAL + each * CMB_FOOTER_RUN);
    uint8_t *f = calloc(1, length), *q = f + CMB_FOOTER_HEADER;
    assert_non_null(f);
    cmb_put32(f + CMB_FOOTER_AT_MAGIC, CMB_FOOTER_MAGIC);
    cmb_put32(f + CMB_FOOTER_AT_LENGTH, length);
    cmb_put64(f + CMB_FOOTER_AT_ADDR, (physical << SHIFT) + offset);
    cmb_put32(f + CMB_FOOTER_AT_LOGICALS, n);
    cmb_put32(f + CMB_FOOTER_AT_RUNS, n * each + lie);
    for (uint32_t i = 0; i < n; i++, q += CMB_FOOTER_LOGICAL) {
        cmb_put64(q, first + i * apart);
        cmb_put32(q + 8, i * each);
        cmb_put32(q + 12, each);
    }
    for (uint32_t i = 0; i < n * each; i++, q += CMB_FOOTER_RUN) {
        cmb_put32(q, i % each);
        cmb_put32(q + 4, 1);
        cmb_put32(q + 8, i);
    }
    cmb_put64(f, cmb_hash64(f + 8, length - 8, (physical << SHIFT) + offset));
    put_bytes(im, (physical << SHIFT) + offset, f, length);
    free(f);
}

/* ---- tests ---- */

static void an_image_is_put_together_with_superblocks_and_without(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 2; round++) {
        image im;
        make(&im);
        if (round)
            wipe_superblocks(&im);
        rescue(&im);
        assert_int_equal(cmb_log_rescue_has_super(im.log), !round);
        assert_int_equal(cmb_log_params(im.log)->segment_shift, SHIFT);
        assert_int_equal(readable(&im), UNITS);
        done(&im);
        assert_int_equal(im.memory.now, 0);
    }
}

static void superblocks_of_another_version_are_not_guessed_over(void **state)
{
    static _Alignas(CMB_BLOCK) uint8_t block[CMB_BLOCK];
    image im;
    (void)state;
    make(&im);
    for (unsigned i = 0; i < CMB_SUPER_SLOTS; i++) {
        th_ok(cmb_io_read(im.q, (uint64_t)i * CMB_SUPER_SPACING, block, CMB_BLOCK, 0));
        cmb_put32(block + CMB_SUPER_AT_VERSION, CMB_SUPER_VERSION + 1);
        cmb_put64(block + CMB_SUPER_AT_CHECK, 0);
        cmb_put64(block + CMB_SUPER_AT_CHECK, cmb_hash64(block, CMB_SUPER_SIZE, (uint64_t)i * CMB_SUPER_SPACING));
        put_bytes(&im, (uint64_t)i * CMB_SUPER_SPACING, block, CMB_BLOCK);
    }
    assert_int_equal(rescue_with(&im, im.dev), CMB_EVERSION);
    done(&im);
    assert_int_equal(im.memory.now, 0);
}

static void a_device_without_frames_is_no_image(void **state)
{
    image im = {.r = {th_seed()}, .dev = th_mem(SIZE)};
    (void)state;
    th_ok(cmb_queue_open(im.dev, 1, &im.q));
    assert_int_equal(rescue_with(&im, im.dev), CMB_ENOTIMAGE);
    done(&im);
    assert_int_equal(im.memory.now, 0);
}

static void a_footer_that_claims_thousands_of_segments_costs_little_memory(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 2; round++) {
        image im;
        make(&im);
        rescue(&im);
        size_t plain = im.memory.most;
        th_ok(cmb_log_close(im.log));
        if (round)
            wipe_superblocks(&im);
        /* a page of the table for each, and more above them */
        forge_footer(&im, last_segment(), SEGMENT / 4, 20000, 1u << 20, 1u << 16, 1, false);
        im.memory.most = 0;
        rescue(&im);
        print_message("%zu bytes, %zu without the footer\n", im.memory.most, plain);
        assert_true(im.memory.most < plain + SEGMENT + (8u << 20));
        assert_int_equal(readable(&im), UNITS);
        done(&im);
        assert_int_equal(im.memory.now, 0);
    }
}

static void a_footer_that_is_wrong_takes_no_segment_from_another(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 4; round++) {
        image im;
        make(&im);
        uint64_t first = im.addrs[0] >> SHIFT, last = im.addrs[UNITS - 1] >> SHIFT;
        uint32_t n = (uint32_t)(last - first + 1);
        if (round == 0) /* counts */
            forge_footer(&im, last_segment(), SEGMENT / 2, n, first, 1, 1, true);
        else if (round == 1) /* not one run */
            forge_footer(&im, last_segment(), SEGMENT / 2, n, first, 1, 0, false);
        else if (round == 2) /* order */
            forge_footer(&im, last_segment(), SEGMENT / 2, n, last, (uint64_t)-1, 1, false);
        else /* runs where nothing was written */
            forge_footer(&im, last_segment(), 0, n, first, 1, 1, false);
        rescue(&im);
        assert_int_equal(readable(&im), UNITS);
        done(&im);
    }
}

static void segments_that_no_writer_comes_to_are_not_believed(void **state)
{
    image im;
    (void)state;
    make(&im);
    const uint64_t far = (UINT64_C(1) << 40) + 1000;
    forge_footer(&im, last_segment(), SEGMENT / 2, 2, far, 1, 1, false);
    rescue(&im);
    uint64_t offset;
    assert_false(cmb_log_locate(im.log, far << SHIFT, CMB_RECORD_ALIGN, &offset));
    assert_int_equal(readable(&im), UNITS);
    done(&im);
}

/* ---- the scan ---- */

typedef struct seen {
    uint64_t addrs[UNITS];
    unsigned found, whole, frames, stop_after;
} seen;

static bool never_a_node(const void *record, uint32_t limit, uint64_t addr)
{
    return cmb_record_kind_of(record) == CMB_RECORD_LEAF && cmb_record_length(record) == LENGTH && limit >= LENGTH
           && cmb_record_check(record, LENGTH, addr) == 0;
}

static int on_record(void *ctx, const cmb_rescue_record *r)
{
    seen *s = ctx;
    s->frames += !r->record;
    if (!r->record || r->length != LENGTH)
        return 0;
    assert_int_equal(cmb_record_check(r->record, r->length, r->addr), 0);
    s->whole += r->whole;
    s->addrs[s->found++] = r->addr;
    return s->found == s->stop_after ? CMB_ESTOPPED : 0;
}

static seen scan(image *im)
{
    seen s = {.found = 0};
    th_ok(cmb_log_rescue_scan(im->log, never_a_node, on_record, &s));
    for (unsigned i = 1; i < s.found; i++)
        assert_true(s.addrs[i] > s.addrs[i - 1]);
    return s;
}

static void the_scan_tells_every_record_in_order_until_it_is_stopped(void **state)
{
    image im;
    seen s = {.stop_after = 7};
    (void)state;
    make(&im);
    rescue(&im);
    assert_int_equal(cmb_log_rescue_scan(im.log, never_a_node, on_record, &s), CMB_ESTOPPED);
    assert_int_equal(s.found, 7);
    s = scan(&im);
    assert_int_equal(s.found, UNITS);
    assert_int_equal(s.whole, UNITS);
    assert_true(s.frames >= UNITS);
    done(&im);
}

/* Every granule of a stretch says that a record of a mebibyte begins there. */
static void what_was_forged_costs_no_record_that_lies_far_behind_it(void **state)
{
    image im;
    uint64_t offset;
    static uint8_t forged[512u << 10];
    (void)state;
    make(&im);
    rescue(&im);
    assert_true(cmb_log_locate(im.log, im.addrs[0], LENGTH, &offset));
    th_ok(cmb_log_close(im.log));
    for (size_t i = 0; i < sizeof forged; i += CMB_RECORD_ALIGN) {
        cmb_put32(forged + i, 1u << 20);
        forged[i + 4] = CMB_RECORD_EDITS;
    }
    put_bytes(&im, offset, forged, sizeof forged);
    unsigned covered = 0, damaged = 0;
    for (unsigned i = 0; i < UNITS; i++)
        covered += im.addrs[i] < im.addrs[0] + sizeof forged;
    /* the headers of all frames further on in that segment are gone: only records are left to be looked for */
    for (uint64_t at = cmb_align_up(offset + sizeof forged, CMB_BLOCK); at < (offset | (SEGMENT - 1)); at += CMB_BLOCK) {
        uint8_t head[4] = {0};
        static _Alignas(CMB_BLOCK) uint8_t block[CMB_BLOCK];
        th_ok(cmb_io_read(im.q, at, block, CMB_BLOCK, 0));
        if (cmb_get32(block) == CMB_FRAME_MAGIC) {
            put_bytes(&im, at, head, sizeof head);
            damaged++;
        }
    }
    assert_true(damaged > 5);
    rescue(&im);
    seen s = scan(&im);
    print_message("%u covered, %u found, %u whole\n", covered, s.found, s.whole);
    assert_true(s.found >= UNITS - covered);
    assert_true(s.whole < s.found);
    done(&im);
}

static void around_blocks_that_cannot_be_read_everything_is(void **state)
{
    image im;
    uint64_t offset;
    static uint8_t remains[LENGTH], was[LENGTH];
    (void)state;
    make(&im);
    rescue(&im);
    assert_true(cmb_log_locate(im.log, im.addrs[20], LENGTH, &offset));
    th_ok(cmb_log_read(im.log, NULL, im.addrs[20], LENGTH, was));
    th_ok(cmb_log_close(im.log));
    uint64_t bad = cmb_align_up(offset, CMB_BLOCK);
    cmb_fault_rule rule = {.op = CMB_OP_READ, .kind = CMB_FAULT_EIO, .every = 1, .offset_min = bad, .offset_max = bad + CMB_BLOCK};
    cmb_device *faulty;
    th_ok(cmb_device_fault(im.dev, &rule, 1, 1, &faulty));
    cmb_queue_close(im.q);
    im.dev = faulty;
    th_ok(cmb_queue_open(im.dev, 1, &im.q));
    rescue(&im);
    assert_int_equal(readable(&im), UNITS - 1);
    seen s = scan(&im);
    assert_int_equal(s.found, UNITS - 1);
    th_ok(cmb_log_read_remains(im.log, im.addrs[20], LENGTH, remains));
    size_t at = (size_t)(bad - offset);
    assert_memory_equal(remains, was, at);
    for (size_t i = at; i < at + CMB_BLOCK; i++)
        assert_int_equal(remains[i], 0);
    assert_memory_equal(remains + at + CMB_BLOCK, was + at + CMB_BLOCK, LENGTH - at - CMB_BLOCK);
    assert_int_equal(cmb_log_read_remains(im.log, UINT64_C(1) << 40, 16, remains), CMB_ECORRUPT);
    done(&im);
}

/* Compacted segments: what their footers list is found, with the table and without. */
static void records_in_compacted_segments_are_found(void **state)
{
    image im;
    static cmb_extent extents[UNITS];
    cmb_appender *app;
    uint64_t seq, last;
    bool start;
    size_t n = 0;
    (void)state;
    make(&im);
    th_ok(th_open_as(im.dev, true, &im.r, NULL, &im.log));
    th_start(im.log, 3);
    last = im.addrs[UNITS - 1] >> SHIFT;
    for (unsigned i = 0; i < UNITS; i += 2) {
        if (im.addrs[i] >> SHIFT < last)
            extents[n++] = (cmb_extent){.addr = im.addrs[i], .length = LENGTH};
    }
    th_ok(cmb_log_begin(im.log, &app, &start));
    th_ok(th_checkpoint(app, 4, &seq));
    th_ok(cmb_log_sync(im.log, seq));
    th_ok(cmb_log_relocate(im.log, 1, last - 1, extents, n));
    for (unsigned k = 0; k < 2; k++) {
        th_ok(cmb_log_begin(im.log, &app, &start));
        th_ok(th_checkpoint(app, 5 + k, &seq));
        th_ok(cmb_log_sync(im.log, seq));
    }
    th_ok(cmb_log_close(im.log));
    for (unsigned round = 0; round < 3; round++) {
        if (round == 1)
            wipe_superblocks(&im);
        rescue(&im);
        if (round == 2) { /* a byte of the first one: its run is not whole any more, the other records in it are found one by one */
            uint64_t offset;
            assert_true(cmb_log_locate(im.log, extents[0].addr, LENGTH, &offset));
            put_bytes(&im, offset + 100, "\1\2\3\4\5\6\7", 8);
            th_ok(cmb_log_close(im.log));
            rescue(&im);
        }
        seen s = scan(&im);
        assert_true(s.found >= n - (round == 2));
        for (size_t i = round == 2; i < n; i++) {
            unsigned k = 0;
            while (k < s.found && s.addrs[k] != extents[i].addr)
                k++;
            assert_true(k < s.found);
            th_check(im.log, extents[i].addr, LENGTH);
        }
        th_ok(cmb_log_close(im.log));
        im.log = NULL;
    }
    done(&im);
    assert_int_equal(im.memory.now, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_image_is_put_together_with_superblocks_and_without),
        cmocka_unit_test(superblocks_of_another_version_are_not_guessed_over),
        cmocka_unit_test(a_device_without_frames_is_no_image),
        cmocka_unit_test(a_footer_that_claims_thousands_of_segments_costs_little_memory),
        cmocka_unit_test(a_footer_that_is_wrong_takes_no_segment_from_another),
        cmocka_unit_test(segments_that_no_writer_comes_to_are_not_believed),
        cmocka_unit_test(the_scan_tells_every_record_in_order_until_it_is_stopped),
        cmocka_unit_test(what_was_forged_costs_no_record_that_lies_far_behind_it),
        cmocka_unit_test(around_blocks_that_cannot_be_read_everything_is),
        cmocka_unit_test(records_in_compacted_segments_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
