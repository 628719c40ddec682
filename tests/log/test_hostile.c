/* SPDX-License-Identifier: ISC */
/* Bytes whose checks are right and whose meaning is not: the log's own records, footers, pages; and calls that ask for what cannot be. */
#include "helper.h"

#include "log/format.h"
#include "log/internal.h"
#include "tests/kloop/overlay.h"

#define SHIFT   21u
#define SEGMENT ((uint64_t)1 << SHIFT)
#define SIZE    ((uint64_t)48 << 20)
#define COUNT   ((uint32_t)(SIZE >> SHIFT))
#define UNITS   100u
#define LENGTH  40000u

typedef struct image {
    th_random r;
    overlay *dev;
    overlay_image *frozen;
    cmb_log *log;
    uint64_t addrs[UNITS];
    uint64_t moved; /* logical segments [1, moved] were compacted */
} image;

static th_edits edits;

static void open_image(image *im, bool writable) { th_ok(th_open_as(&im->dev->dev, writable, &im->r, &edits, &im->log)); }
static int try_open(image *im, bool writable) { return th_open_as(&im->dev->dev, writable, &im->r, &edits, &im->log); }

static void checkpoint(image *im, uint64_t value)
{
    cmb_appender *app;
    uint64_t seq;
    th_ok(cmb_log_begin_urgent(im->log, &app, NULL));
    th_ok(th_checkpoint(app, value, &seq));
}

static size_t live(const image *im, uint64_t first, uint64_t last, cmb_extent *out)
{
    size_t n = 0;
    for (unsigned i = 0; i < UNITS; i += 2) {
        if (im->addrs[i] >> SHIFT >= first && im->addrs[i] >> SHIFT <= last)
            out[n++] = (cmb_extent){im->addrs[i], LENGTH};
    }
    return n;
}

/* UNITS records; the odd ones are dead, and those of the first segments were moved. Open for writing. */
static void make(image *im)
{
    static cmb_extent extents[UNITS];
    uint64_t seq = 0;
    *im = (image){.r = {th_seed()}, .dev = overlay_create(SIZE)};
    th_format(&im->dev->dev, SIZE, SHIFT, &im->r);
    open_image(im, true);
    th_start(im->log, 1);
    for (unsigned i = 0; i < UNITS; i++)
        th_ok(th_unit(im->log, LENGTH, i + 1, &im->addrs[i], &seq));
    checkpoint(im, 2);
    checkpoint(im, 3);
    im->moved = 2;
    assert_true(im->addrs[UNITS - 1] >> SHIFT >= 2);
    while (im->moved >= im->addrs[UNITS - 1] >> SHIFT)
        im->moved--;
    th_ok(cmb_log_relocate(im->log, 1, im->moved, extents, live(im, 1, im->moved, extents)));
    checkpoint(im, 4);
    checkpoint(im, 5);
}

static void freeze(image *im)
{
    th_ok(cmb_log_close(im->log));
    im->frozen = overlay_freeze(im->dev);
}

static void done(image *im)
{
    overlay_lay(im->dev, NULL);
    overlay_destroy(im->dev);
    overlay_image_destroy(im->frozen);
}

/* ---- the log's own records ---- */

typedef struct entry { uint64_t logical; uint32_t physical; uint8_t kind; uint64_t used; } entry;

typedef struct hostile_record {
    const char *text; /* of the error; NULL: it opens */
    entry e[2];
    unsigned times;   /* the entries are written; 0: once */
    unsigned n;       /* entries */
    uint32_t lie;     /* more in the count than there are */
    uint32_t flags;
    uint64_t root, root_length;
    uint32_t length;  /* of the payload; 0: what the entries need */
} hostile_record;

static void publish_record(image *im, const hostile_record *h)
{
    uint8_t payload[1000] = {0}, *p = payload + CMB_SEGMENTS_HEADER;
    unsigned times = h->times ? h->times : 1;
    cmb_appender *app;
    uint64_t addr, seq;
    cmb_put32(payload, h->n * times + h->lie);
    cmb_put32(payload + 4, h->flags);
    cmb_put64(payload + 8, h->root);
    cmb_put32(payload + 16, (uint32_t)h->root_length);
    for (unsigned i = 0; i < h->n * times; i++, p += CMB_SEGMENTS_ENTRY) {
        const entry *e = &h->e[i % h->n];
        cmb_put64(p, e->logical);
        cmb_put32(p + 8, e->physical);
        p[12] = e->kind;
        cmb_put64(p + 16, e->used);
    }
    th_ok(cmb_log_begin(im->log, &app, NULL));
    th_ok(cmb_append_record(app, CMB_RECORD_SEGMENTS, payload, h->length ? h->length : (uint32_t)(p - payload), &addr));
    th_ok(cmb_log_publish(app, NULL, 0, &seq));
    th_ok(cmb_log_sync(im->log, seq));
}

/* A physical segment in this state; the last one. */
static uint32_t physical_in(cmb_log *log, cmb_segment_state state)
{
    for (uint32_t p = COUNT - 1; p > 1; p--) {
        if (cmb_space_state(log, p) == state && !(log->space.marks[p] & CMB_MARK_BUSY))
            return p;
    }
    fail_msg("no such segment");
    return 0;
}

static void a_record_of_segments_is_believed_only_as_far_as_it_can_be(void **state)
{
    image im;
    (void)state;
    make(&im);
    uint32_t unused = physical_in(im.log, CMB_SEG_FREE), used = physical_in(im.log, CMB_SEG_LIVE);
    freeze(&im);
    const hostile_record records[] = {
        {.text = "0 entries in 8 bytes", .length = 8},
        {.text = "2 entries in 48 bytes", .n = 1, .lie = 1},
        {.text = "entry 0", .n = 1, .e = {{.kind = 7, .logical = 1}}},
        {.text = "entry 0", .n = 1, .e = {{.kind = CMB_SEG_PLAIN, .logical = 1}}},
        {.text = "entry 0", .n = 1, .e = {{.kind = CMB_SEG_META, .logical = 1}}},
        {.text = "entry 1", .n = 2, .e = {{1, unused, CMB_SEG_COMPACTED, 4096}, {1, unused, CMB_SEG_COMPACTED, SEGMENT + 4096}}},
        {.text = "entry 0", .n = 1, .e = {{1, unused, CMB_SEG_COMPACTED, 100}}},
        {.text = "entry 0", .n = 1, .e = {{CMB_SCRATCH_BASE >> SHIFT, unused, CMB_SEG_STREAM, 0}}},
        {.text = "root record", .flags = CMB_SEGMENTS_CHECKPOINT, .root = 4096, .root_length = CMB_RECORD_MAX + 1},
        {.text = "root record", .flags = CMB_SEGMENTS_CHECKPOINT, .root = 4097, .root_length = 100},
        {.text = "cannot be the next", .n = 1, .e = {{0, 1, CMB_SEGMENT_NEXT, 0}}},
        {.text = "cannot be the next", .n = 1, .e = {{0, COUNT, CMB_SEGMENT_NEXT, 0}}},
        {.text = "is not free", .n = 1, .times = 2, .e = {{0, unused, CMB_SEGMENT_NEXT, 0}}},
        {.text = "retired and was not in use", .n = 1, .e = {{0, unused, CMB_SEGMENT_RETIRE, 0}}},
        {.text = "retired and was not in use", .n = 1, .e = {{0, COUNT, CMB_SEGMENT_RETIRE, 0}}},
        {.text = "is in use", .n = 1, .e = {{500, used, CMB_SEG_STREAM, 0}}},
        {.text = "physical segment 1 of", .n = 1, .e = {{500, 1, CMB_SEG_STREAM, 0}}},
        {.text = "physical segment 24 of", .n = 1, .e = {{500, COUNT, CMB_SEG_STREAM, 0}}},
        {.text = "moved and was not there", .n = 1, .e = {{700, unused, CMB_SEG_COMPACTED, 4096}}},
        {.text = "moved and was not there", .n = 1, .e = {{700, 0, CMB_SEG_NONE, 0}}},
        {.text = "moved and was not there", .n = 1, .e = {{0, 0, CMB_SEG_NONE, 0}}},
        {.text = "physical segment 0 of", .n = 1, .e = {{1, 0, CMB_SEG_COMPACTED, 4096}}},
        {.n = 1, .e = {{1, 0, CMB_SEG_NONE, 0}}},
        {.n = 1, .e = {{500, unused, CMB_SEG_STREAM, 4096}}},
    };
    for (size_t i = 0; i < CMB_COUNTOF(records); i++) {
        overlay_lay(im.dev, im.frozen);
        open_image(&im, true);
        th_start(im.log, 6);
        publish_record(&im, &records[i]);
        th_ok(cmb_log_close(im.log));
        for (unsigned writable = 0; writable < 2; writable++) {
            int e = try_open(&im, writable);
            if (e != (records[i].text ? CMB_ECORRUPT : 0) || (e && !strstr(cmb_error_detail(), records[i].text)))
                fail_msg("record %zu: %s: %s", i, cmb_error_name(e), cmb_error_detail());
            if (!e)
                th_ok(cmb_log_close(im.log));
        }
    }
    done(&im);
}

typedef struct told { unsigned n; char text[200]; } told;

static int on_finding(void *ctx, int error, const char *text)
{
    told *t = ctx;
    assert_int_equal(error, CMB_ECORRUPT);
    t->n++;
    snprintf(t->text, sizeof t->text, "%s", text);
    return 0;
}
static int stop_at_finding(void *ctx, int error, const char *text)
{
    (void)text;
    ++*(unsigned *)ctx;
    return error;
}

/* The entries of a record that is believed, and what a look at the tables finds then. */
static void expect_finding(image *im, const hostile_record *h, const char *text)
{
    told t = {0};
    uint64_t pages;
    unsigned calls = 0;
    overlay_lay(im->dev, im->frozen);
    open_image(im, true);
    th_start(im->log, 6);
    publish_record(im, h);
    th_ok(cmb_log_close(im->log));
    open_image(im, true);
    th_ok(cmb_log_check_tables(im->log, &pages, on_finding, &t));
    assert_true(t.n > 0);
    if (!strstr(t.text, text))
        fail_msg("%s", t.text);
    assert_int_equal(cmb_log_check_tables(im->log, &pages, stop_at_finding, &calls), CMB_ECORRUPT);
    assert_int_equal(calls, 1);
    assert_int_equal(cmb_log_check_tables(im->log, &pages, NULL, NULL), CMB_ECORRUPT);
    th_ok(cmb_log_close(im->log));
}

static void two_segments_at_one_place_and_one_at_a_place_not_in_use_are_found(void **state)
{
    image im;
    uint8_t got[64];
    (void)state;
    make(&im);
    uint64_t last = im.addrs[UNITS - 1] >> SHIFT;
    uint32_t place = (uint32_t)CMB_WORD_PHYSICAL(atomic_load(&cmb_table_at(im.log, last)->word)), unused = physical_in(im.log, CMB_SEG_FREE);
    freeze(&im);
    expect_finding(&im, &(hostile_record){.n = 1, .e = {{0, place, CMB_SEGMENT_RETIRE, 0}}}, "not marked as in use");
    expect_finding(&im, &(hostile_record){.n = 2, .e = {{0, place, CMB_SEGMENT_RETIRE, 0}, {500, place, CMB_SEG_STREAM, 4096}}}, "both lie at");
    overlay_lay(im.dev, im.frozen); /* no footer fits where this one is said to lie */
    open_image(&im, true);
    th_start(im.log, 6);
    publish_record(&im, &(hostile_record){.n = 1, .e = {{1, unused, CMB_SEG_COMPACTED, SEGMENT}}});
    th_ok(cmb_log_close(im.log));
    open_image(&im, false);
    assert_int_equal(cmb_log_read(im.log, NULL, im.addrs[0], sizeof got, got), CMB_ECORRUPT);
    assert_non_null(strstr(cmb_error_detail(), "no footer can lie"));
    th_ok(cmb_log_close(im.log));
    done(&im);
}

/* ---- footers ---- */

typedef struct forged_footer {
    uint64_t at;      /* on the device */
    uint32_t length, n_logicals, n_runs;
    uint64_t data;    /* bytes in front of it */
    uint8_t bytes[64u << 10];
} forged_footer;

static void find_footer(image *im, forged_footer *f)
{
    uint64_t word = atomic_load(&cmb_table_at(im->log, 1)->word);
    assert_int_equal(CMB_WORD_KIND(word), CMB_SEG_COMPACTED);
    f->data = CMB_WORD_FOOTER(word);
    f->at = (CMB_WORD_PHYSICAL(word) << SHIFT) + f->data;
    overlay_peek(im->dev, f->at, f->bytes, sizeof f->bytes);
    f->length = cmb_get32(f->bytes + CMB_FOOTER_AT_LENGTH);
    f->n_logicals = cmb_get32(f->bytes + CMB_FOOTER_AT_LOGICALS);
    f->n_runs = cmb_get32(f->bytes + CMB_FOOTER_AT_RUNS);
    assert_true(f->length < sizeof f->bytes && f->n_runs > 2);
}

static unsigned footer_told;
static int on_footer_event(void *ctx, const cmb_scan_event *ev)
{
    (void)ctx;
    footer_told += ev->error != 0;
    return 0;
}

static void a_footer_is_believed_only_as_far_as_it_can_be(void **state)
{
    static const char *const texts[] = {
        "wrong check", "another footer", "no footer", "no footer", "no footer", "counts", "counts", "counts", "directory entry 0",
        "directory entry 0", "lies outside", "run 1 lies outside", "lies outside", "lies outside", "without a segment",
        "more bytes than lie there", "cleaned away", "lacks",
    };
    static forged_footer was, f;
    static cmb_extent extents[UNITS];
    image im;
    (void)state;
    make(&im);
    find_footer(&im, &was);
    freeze(&im);
    for (unsigned i = 0; i < CMB_COUNTOF(texts); i++) {
        f = was;
        uint8_t *dir = f.bytes + CMB_FOOTER_HEADER, *runs = dir + f.n_logicals * CMB_FOOTER_LOGICAL;
        uint32_t all = (uint32_t)(f.data / CMB_RECORD_ALIGN), covered = f.length;
        switch (i) {
        case 0: break;
        case 1: cmb_put64(f.bytes + CMB_FOOTER_AT_ADDR, f.at + CMB_BLOCK); break;
        case 2: cmb_put32(f.bytes + CMB_FOOTER_AT_MAGIC, CMB_FRAME_MAGIC); break;
        case 3: cmb_put32(f.bytes + CMB_FOOTER_AT_LENGTH, CMB_FOOTER_HEADER - 1); break;
        case 4: cmb_put32(f.bytes + CMB_FOOTER_AT_LENGTH, (uint32_t)SEGMENT); break;
        case 5: cmb_put32(f.bytes + CMB_FOOTER_AT_LOGICALS, UINT32_MAX); break;
        case 6: cmb_put32(f.bytes + CMB_FOOTER_AT_RUNS, UINT32_MAX); break;
        case 7: cmb_put32(f.bytes + CMB_FOOTER_AT_RUNS, f.n_runs - 1); break;
        case 8: cmb_put32(dir + 8, 1); break;
        case 9: cmb_put32(dir + 12, f.n_runs + 1); break;
        case 10: cmb_put32(runs + 4, 0); break;
        case 11: cmb_put32(runs + CMB_FOOTER_RUN, 0); break; /* below the end of the one before */
        case 12: cmb_put32(runs + 4, (uint32_t)(SEGMENT / CMB_RECORD_ALIGN) + 1); break;
        case 13: cmb_put32(runs + 8, all); break;
        case 14: /* the last segment has a run less than there are */
            cmb_put32(dir + (f.n_logicals - 1) * CMB_FOOTER_LOGICAL + 12, cmb_get32(dir + (f.n_logicals - 1) * CMB_FOOTER_LOGICAL + 12) - 1);
            break;
        case 15: /* two runs, and each has all the bytes */
            covered = CMB_FOOTER_HEADER + 2 * (CMB_FOOTER_LOGICAL + CMB_FOOTER_RUN);
            cmb_put32(f.bytes + CMB_FOOTER_AT_LENGTH, covered);
            cmb_put32(f.bytes + CMB_FOOTER_AT_LOGICALS, 2);
            cmb_put32(f.bytes + CMB_FOOTER_AT_RUNS, 2);
            runs = dir + 2 * CMB_FOOTER_LOGICAL;
            for (uint32_t k = 0; k < 2; k++) {
                cmb_put64(dir + k * CMB_FOOTER_LOGICAL, k + 1);
                cmb_put32(dir + k * CMB_FOOTER_LOGICAL + 8, k);
                cmb_put32(dir + k * CMB_FOOTER_LOGICAL + 12, 1);
                cmb_put32(runs + k * CMB_FOOTER_RUN, 0);
                cmb_put32(runs + k * CMB_FOOTER_RUN + 4, all);
                cmb_put32(runs + k * CMB_FOOTER_RUN + 8, 0);
            }
            break;
        default: cmb_put64(dir, 0); break; /* another segment */
        }
        cmb_put64(f.bytes, cmb_hash64(f.bytes + 8, covered - 8, f.at) ^ (i == 0));
        overlay_lay(im.dev, im.frozen);
        overlay_poke(im.dev, f.at, f.bytes, cmb_align_up(f.length, CMB_BLOCK));
        open_image(&im, true);
        th_start(im.log, 6);
        uint8_t got[64];
        footer_told = 0;
        int e = cmb_log_read(im.log, NULL, im.addrs[0], sizeof got, got);
        if (i + 1 == CMB_COUNTOF(texts))
            e = cmb_log_relocate(im.log, 1, 1, extents, live(&im, 1, 1, extents));
        if (e != CMB_ECORRUPT || !strstr(cmb_error_detail(), texts[i]))
            fail_msg("footer %u: %s: %s", i, cmb_error_name(e), cmb_error_detail());
        assert_int_equal(cmb_log_relocate(im.log, 1, 1, extents, live(&im, 1, 1, extents)), CMB_ECORRUPT);
        th_ok(cmb_log_scan(im.log, 1, on_footer_event, NULL));
        assert_true(footer_told > 0);
        th_check(im.log, im.addrs[UNITS - 2], LENGTH); /* what lies elsewhere can be read */
        th_ok(cmb_log_close(im.log));
    }
    done(&im);
}

/* ---- pages ---- */

typedef struct forged_page { const char *text; uint32_t at, size; uint64_t value; } forged_page;

/* The root of a tree as the newest superblock says, changed, with its check and all superblocks' made right again. */
static void forge_page(image *im, const cmb_super *super, uint32_t root_at, const forged_page *f)
{
    uint8_t page[CMB_BLOCK], block[CMB_BLOCK];
    const cmb_radix_root *root = root_at == CMB_SUPER_AT_TABLE ? &super->table : &super->map;
    cmb_super slot;
    overlay_lay(im->dev, im->frozen);
    overlay_peek(im->dev, root->ref.addr, page, sizeof page);
    for (uint32_t i = 0; i < f->size; i++)
        page[f->at + i] = (uint8_t)(f->value >> 8 * i);
    uint64_t check = cmb_hash64(page + 8, CMB_BLOCK - 8, root->ref.addr);
    cmb_put64(page, check);
    overlay_poke(im->dev, root->ref.addr, page, sizeof page);
    for (unsigned i = 0; i < CMB_SUPER_SLOTS; i++) {
        overlay_peek(im->dev, (uint64_t)i * CMB_SUPER_SPACING, block, sizeof block);
        th_ok(cmb_super_decode(block, i, &slot));
        if (slot.generation != super->generation)
            continue;
        *(root_at == CMB_SUPER_AT_TABLE ? &slot.table.ref.check : &slot.map.ref.check) = check;
        cmb_super_encode(&slot, i, block);
        overlay_poke(im->dev, (uint64_t)i * CMB_SUPER_SPACING, block, sizeof block);
    }
}

static void expect_refused(image *im, const forged_page *f, bool map)
{
    told t = {0};
    uint64_t pages;
    uint8_t got[64];
    int e = try_open(im, true);
    if (e != CMB_ECORRUPT || !strstr(cmb_error_detail(), f->text))
        fail_msg("%s: %s: %s", f->text, cmb_error_name(e), e ? cmb_error_detail() : "");
    e = try_open(im, false);
    if (!map) {
        assert_int_equal(e, CMB_ECORRUPT);
        return;
    }
    th_ok(e); /* a reader can do without the state map */
    th_ok(cmb_log_read(im->log, NULL, im->addrs[0], sizeof got, got));
    th_ok(cmb_log_check_tables(im->log, &pages, on_finding, &t));
    assert_true(t.n > 0 && strstr(t.text, f->text));
    th_ok(cmb_log_close(im->log));
}

static void a_page_is_believed_only_as_far_as_it_can_be(void **state)
{
    enum { ENTRY = CMB_PAGE_HEADER + 16 * 200 }; /* one that is empty */
    static const forged_page table[] = {
        {"another page", CMB_PAGE_AT_MAGIC, 4, 1},
        {"another page", CMB_PAGE_AT_KIND, 1, CMB_PAGE_MAP},
        {"another page", CMB_PAGE_AT_LEVEL, 1, 1},
        {"another page", CMB_PAGE_AT_ADDR, 8, 4096},
        {"another page", CMB_PAGE_AT_INDEX, 8, 1},
        {"kind 9", ENTRY, 8, UINT64_C(9) << 32 | 3},
        {"kind 4", ENTRY, 8, (uint64_t)CMB_SEG_META << 32 | 30},
        {"physical segment 1,", ENTRY, 8, (uint64_t)CMB_SEG_PLAIN << 32 | 1},
        {"physical segment 24,", ENTRY, 8, (uint64_t)CMB_SEG_PLAIN << 32 | COUNT},
    };
    static const forged_page map[] = {
        {"another page", CMB_PAGE_AT_KIND, 1, CMB_PAGE_TABLE},
        {"state map names segment 0 of", CMB_PAGE_HEADER, 1, CMB_SEG_LIVE},
        {"state map names segment 24 of", CMB_PAGE_HEADER + COUNT / 4, 1, CMB_SEG_QUARANTINE1},
    };
    image im;
    cmb_super_slots slots;
    cmb_queue *q;
    cmb_allocator alloc = cmb_allocator_or_default(NULL);
    (void)state;
    make(&im);
    freeze(&im);
    overlay_lay(im.dev, im.frozen);
    th_ok(cmb_queue_open(&im.dev->dev, 1, &q));
    th_ok(cmb_super_load(&im.dev->dev, q, &alloc, &slots));
    cmb_queue_close(q);
    assert_true(slots.best.table.levels == 1 && slots.best.map.levels == 1);
    for (size_t i = 0; i < CMB_COUNTOF(table); i++) {
        forge_page(&im, &slots.best, CMB_SUPER_AT_TABLE, &table[i]);
        expect_refused(&im, &table[i], false);
    }
    for (size_t i = 0; i < CMB_COUNTOF(map); i++) {
        forge_page(&im, &slots.best, CMB_SUPER_AT_MAP, &map[i]);
        expect_refused(&im, &map[i], true);
    }
    done(&im);
}

/* ---- calls that ask for what cannot be ---- */

static int relocate_one(image *im, uint64_t addr, uint32_t length)
{
    cmb_extent x = {addr, length};
    return cmb_log_relocate(im->log, addr >> SHIFT, addr >> SHIFT, &x, 1);
}

static void a_relocation_that_asks_for_what_is_not_there_is_refused_and_moves_nothing(void **state)
{
    image im;
    cmb_log_stats before, after;
    cmb_extent two[2];
    (void)state;
    make(&im);
    uint64_t segment = im.moved + 1, first = 0; /* of frames */
    for (unsigned i = 0; i < UNITS && !first; i++)
        first = im.addrs[i] >> SHIFT == segment ? im.addrs[i] : 0;
    cmb_log_get_stats(im.log, &before);
    assert_int_equal(cmb_log_relocate(im.log, 2, 1, NULL, 0), CMB_EINVAL);
    assert_int_equal(cmb_log_relocate(im.log, 1, 1u << 20, NULL, 0), CMB_EINVAL);
    for (unsigned i = 0; i < 2; i++) { /* of runs, of frames */
        uint64_t addr = i ? first : im.addrs[0], base = addr & ~(SEGMENT - 1);
        if (i && segment >= im.addrs[UNITS - 1] >> SHIFT)
            break;
        assert_int_equal(relocate_one(&im, addr + 1, LENGTH), CMB_EINVAL);
        assert_int_equal(relocate_one(&im, addr, CMB_RECORD_HEADER - 1), CMB_EINVAL);
        assert_int_equal(relocate_one(&im, addr, CMB_RECORD_MAX + 1), CMB_EINVAL);
        two[0] = (cmb_extent){addr, LENGTH};
        two[1] = (cmb_extent){addr + 16, LENGTH};
        assert_int_equal(cmb_log_relocate(im.log, addr >> SHIFT, addr >> SHIFT, two, 2), CMB_EINVAL);
        two[1] = (cmb_extent){im.addrs[UNITS - 1], LENGTH}; /* of another segment */
        assert_int_equal(cmb_log_relocate(im.log, addr >> SHIFT, addr >> SHIFT, two, 2), CMB_EINVAL);
        assert_int_not_equal(relocate_one(&im, base + SEGMENT - 16, 32), 0);
        assert_int_not_equal(relocate_one(&im, addr, i ? CMB_RECORD_MAX : LENGTH + 4096), 0);
        if (!i) {
            assert_int_equal(relocate_one(&im, im.addrs[1], LENGTH), CMB_ECORRUPT); /* was not kept */
            assert_int_equal(relocate_one(&im, base, 16), CMB_ECORRUPT);
        }
    }
    cmb_log_get_stats(im.log, &after);
    assert_memory_equal(before.segments, after.segments, sizeof before.segments);
    for (unsigned i = 0; i < UNITS; i += 2)
        th_check(im.log, im.addrs[i], LENGTH);
    th_ok(cmb_log_close(im.log));
    open_image(&im, true);
    assert_int_equal(relocate_one(&im, im.addrs[0], LENGTH), CMB_EBUSY); /* no checkpoint yet */
    th_ok(cmb_log_close(im.log));
    open_image(&im, false);
    assert_int_equal(relocate_one(&im, im.addrs[0], LENGTH), CMB_EREADONLY);
    th_ok(cmb_log_close(im.log));
    done(&im);
}

static void an_appender_refuses_what_no_record_and_no_unit_can_be(void **state)
{
    image im;
    cmb_appender *app, *stream, *other;
    uint64_t addr, seq;
    void *buf;
    (void)state;
    make(&im);
    th_ok(cmb_log_begin(im.log, &app, NULL));
    assert_int_equal(cmb_append(app, CMB_RECORD_HEADER - 1, &addr, &buf), CMB_ETOOBIG);
    assert_int_equal(cmb_append(app, CMB_RECORD_MAX + 1, &addr, &buf), CMB_ETOOBIG);
    assert_int_equal(cmb_append_record(app, CMB_RECORD_EDITS, &addr, CMB_RECORD_MAX, &addr), CMB_ETOOBIG);
    th_ok(cmb_log_stream(im.log, &stream));
    assert_int_equal(cmb_append_adopt(app, stream), CMB_EINVAL);
    cmb_append_abort(app);
    /* A stream that was begun below another rises above it. */
    uint64_t low, high, risen;
    th_ok(th_append(stream, 1000, &low));
    th_ok(cmb_log_stream(im.log, &other));
    th_ok(th_append(other, 1000, &high));
    th_ok(cmb_stream_finish(other));
    th_ok(cmb_log_begin(im.log, &app, NULL));
    th_ok(cmb_append_adopt(app, other));
    th_ok(cmb_log_publish(app, "12345678", 8, &seq));
    th_ok(cmb_log_sync(im.log, seq));
    th_ok(cmb_stream_rise(stream));
    th_ok(th_append(stream, 1000, &risen));
    assert_true(low < high && high < risen);
    th_check(im.log, low, 1000);
    th_check(im.log, risen, 1000);
    th_ok(cmb_stream_finish(stream));
    th_ok(cmb_log_begin(im.log, &app, NULL));
    th_ok(cmb_append_adopt(app, stream));
    th_ok(cmb_log_publish(app, "12345678", 8, &seq));
    th_ok(cmb_log_close(im.log));
    open_image(&im, true);
    th_check(im.log, low, 1000);
    th_check(im.log, high, 1000);
    th_check(im.log, risen, 1000);
    th_ok(cmb_log_close(im.log));
    done(&im);
}

static void no_image_is_made_of_sizes_that_cannot_be(void **state)
{
    th_random r = {th_seed()};
    cmb_env env = th_env(&r);
    (void)state;
    const struct { uint64_t size; unsigned shift; int error; } tries[] = {
        {SIZE, CMB_SEGMENT_SHIFT_MIN - 1, CMB_EINVAL}, {SIZE, CMB_SEGMENT_SHIFT_MAX + 1, CMB_EINVAL}, {SIZE * 2, SHIFT, CMB_ENOSPC},
        {0, SHIFT, CMB_EINVAL}, {8u << 20, SHIFT, CMB_ENOSPC}, {SIZE, 25, CMB_ENOSPC},
    };
    overlay *dev = overlay_create(SIZE);
    for (size_t i = 0; i < CMB_COUNTOF(tries); i++) {
        cmb_image_params p = th_params(tries[i].size, tries[i].shift), found;
        assert_int_equal(cmb_log_format(&dev->dev, &p, NULL, &env), tries[i].error);
        assert_int_equal(cmb_log_probe(&dev->dev, NULL, &found), CMB_ENOTIMAGE);
    }
    overlay_destroy(dev);
}

/* ---- large segments ---- */

static void more_than_a_stage_of_live_records_is_moved_whole(void **state)
{
    th_random r = {th_seed()};
    overlay *dev = overlay_create((uint64_t)96 << 20);
    static cmb_extent extents[200];
    static uint64_t addrs[200];
    uint64_t seq;
    size_t n = 0;
    cmb_log *log;
    cmb_appender *app;
    (void)state;
    th_format(&dev->dev, (uint64_t)96 << 20, 23, &r);
    th_ok(th_open_as(&dev->dev, true, &r, NULL, &log));
    th_start(log, 1);
    for (unsigned i = 0; i < CMB_COUNTOF(addrs); i++)
        th_ok(th_unit(log, 60000, i + 1, &addrs[i], &seq));
    for (unsigned k = 0; k < 2; k++) {
        th_ok(cmb_log_begin(log, &app, NULL));
        th_ok(th_checkpoint(app, 2 + k, &seq));
    }
    for (unsigned i = 0; i < CMB_COUNTOF(addrs) && addrs[i] >> 23 == 1; i++) {
        if (i % 3)
            extents[n++] = (cmb_extent){addrs[i], 60000};
    }
    assert_true(n * 60000 > 2 * CMB_FRAME_MAX);
    th_ok(cmb_log_relocate(log, 1, 1, extents, n));
    for (unsigned round = 0; round < 2; round++) {
        for (size_t i = 0; i < n; i++)
            th_check(log, extents[i].addr, 60000);
        th_ok(cmb_log_close(log));
        th_ok(th_open_as(&dev->dev, true, &r, NULL, &log));
    }
    th_ok(cmb_log_close(log));
    overlay_destroy(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_of_segments_is_believed_only_as_far_as_it_can_be),
        cmocka_unit_test(two_segments_at_one_place_and_one_at_a_place_not_in_use_are_found),
        cmocka_unit_test(a_footer_is_believed_only_as_far_as_it_can_be),
        cmocka_unit_test(a_page_is_believed_only_as_far_as_it_can_be),
        cmocka_unit_test(a_relocation_that_asks_for_what_is_not_there_is_refused_and_moves_nothing),
        cmocka_unit_test(an_appender_refuses_what_no_record_and_no_unit_can_be),
        cmocka_unit_test(no_image_is_made_of_sizes_that_cannot_be),
        cmocka_unit_test(more_than_a_stage_of_live_records_is_moved_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
