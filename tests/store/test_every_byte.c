/* SPDX-License-Identifier: ISC */
/*
 * Every byte of small images is damaged: flipped, zeroed, swapped, stale, cut off. Everything that an image shows is read
 * then: it is the same, or an error names the damage. Never wrong data, never more than a bound of memory or of operations;
 * a handle that only reads writes nothing.
 *
 * By default a stride is taken through the places, finer where a byte means most. CMB_BUDGET=N divides the strides; 1000 leaves none.
 */
#include "bed.h"

#include <cambium/inspect.h>

#include "log/internal.h"
#include "tests/kloop/kloop.h"

#define MEMORY_MAX     (24 << 20) /* bytes, beside the pool */
#define OPERATIONS_MAX 5000u
#define PIECES         64u
#define STAGES         24u
#define SECTOR         512u

/* ---- what an image shows ---- */

/* One thing to be read, and what comes out. */
typedef struct piece {
    char name[80]; /* a REV */
    uint64_t digest;
    int (*read)(cmb_store *store, const char *rev, uint64_t *out_digest);
} piece;

typedef struct image {
    overlay *dev;
    bed_env env;
    cmb_store_options options;
    kloop_memory memory;
    overlay_image *bytes, *stages[STAGES]; /* as it is, and as it was */
    unsigned stage_count, piece_count;
    bool open; /* it was not closed: edits wait in the log to be merged, and a handle that writes merges them */
    piece pieces[PIECES];
} image;

static int read_ref(void *ctx, const cmb_ref *ref)
{
    uint64_t *sum = ctx;
    *sum = cmb_hash64(ref->name, strlen(ref->name), *sum + ref->tag);
    *sum = cmb_hash64(&ref->at.commit, sizeof ref->at.commit, *sum);
    *sum = cmb_hash64(&ref->at.root, sizeof ref->at.root, *sum + ref->at.entries);
    *sum = cmb_hash64(&ref->object, sizeof ref->object, *sum + ref->at.working);
    return 0;
}

static int read_refs(cmb_store *store, const char *rev, uint64_t *out_digest)
{
    uint64_t sum = 0;
    int error = cmb_branch_list(store, read_ref, &sum);
    if (!error)
        error = cmb_tag_list(store, read_ref, &sum);
    *out_digest = sum;
    return error;
}

static int read_commit(void *ctx, const cmb_commit *commit)
{
    uint64_t *sum = ctx;
    *sum = cmb_hash64(&commit->id, sizeof commit->id, *sum);
    *sum = cmb_hash64(&commit->root, sizeof commit->root, *sum + commit->entries);
    *sum = cmb_hash64(commit->message, strlen(commit->message), *sum + (uint64_t)commit->time);
    *sum = cmb_hash64(commit->author, strlen(commit->author), *sum + commit->generation);
    for (size_t i = 0; i < commit->parent_count; i++)
        *sum = cmb_hash64(&commit->parents[i], sizeof commit->parents[i], *sum);
    return 0;
}

static int read_history(cmb_store *store, const char *rev, uint64_t *out_digest)
{
    uint64_t sum = 0;
    int error = cmb_history(store, &(cmb_history_options){.revs = &rev, .rev_count = 1}, read_commit, &sum);
    *out_digest = sum;
    return error;
}

static int read_entry(void *ctx, const cmb_reflog_entry *entry)
{
    uint64_t *sum = ctx;
    *sum = cmb_hash64(&entry->before, sizeof entry->before, *sum + (uint64_t)entry->time);
    *sum = cmb_hash64(&entry->after, sizeof entry->after, *sum + (unsigned)entry->reason);
    return 0;
}

static int read_reflog(cmb_store *store, const char *ref, uint64_t *out_digest)
{
    uint64_t sum = 0;
    int error = cmb_reflog(store, ref, read_entry, &sum);
    *out_digest = sum;
    return error;
}

static int read_tag(cmb_store *store, const char *name, uint64_t *out_digest)
{
    cmb_tag *tag;
    int error = cmb_tag_read(store, name, 0, &tag);
    if (error)
        return error;
    *out_digest = cmb_hash64(tag->message, strlen(tag->message), (uint64_t)tag->time);
    cmb_tag_free(tag);
    return 0;
}

static void add_piece(image *im, const char *name, int (*read)(cmb_store *, const char *, uint64_t *))
{
    assert_true(im->piece_count < PIECES);
    piece *p = &im->pieces[im->piece_count++];
    snprintf(p->name, sizeof p->name, "%s", name);
    p->read = read;
}

static int add_commit(void *ctx, const cmb_commit *commit)
{
    char hex[2 * CMB_NAME_MAX + 1];
    hex_of(&commit->id, hex);
    add_piece(ctx, hex, kloop_digest);
    return 0;
}

/* ---- the image ---- */

static cmb_store *open_image(image *im)
{
    cmb_store *store;
    must(cmb_store_open_device(&im->dev->dev, &im->options, &store));
    return store;
}

static void edit(image *im, cmb_store *store, const char *branch, const char *value, const char *message, unsigned first, unsigned n)
{
    must(kloop_edit_do(store, &(kloop_edit){.branch = branch, .value = value, .message = message, .first = first, .stride = 3, .n = n}));
    assert_true(im->stage_count < STAGES);
    im->stages[im->stage_count++] = overlay_freeze(im->dev);
}

static void put_large(cmb_store *store, const char *branch, size_t size)
{
    static uint8_t bytes[(1 << 20) + 3000];
    cmb_txn *txn;
    cmb_commit_info info = {.author = "ada", .message = "large"};
    uint64_t seed = 3;
    assert_true(size <= sizeof bytes);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)bed_mix(&seed);
    must(cmb_txn_begin(store, branch, 0, &txn));
    must(cmb_txn_put(txn, str("large"), (cmb_bytes){bytes, size}));
    must(cmb_txn_commit(txn, &info, NULL));
}

static void merge(cmb_store *store, const char *into, const char *rev)
{
    cmb_merge_result result;
    cmb_commit_info info = {.author = "ada", .message = "merge"};
    must(cmb_merge(store, into, rev, cmb_merge_union, NULL, &info, &result));
    assert_int_equal(result.kind, CMB_MERGE_MERGED);
}

/* Three branches, merges, a tag object, working states, a large value; opened several times, so that there are checkpoints and
 * epochs; commits after the last checkpoint. */
static void write_image(image *im, size_t large)
{
    cmb_store *store = open_image(im);
    edit(im, store, "main", "first", "one", 0, 40);
    must(cmb_branch_create(store, "left", "main"));
    must(cmb_branch_create(store, "right", "main"));
    edit(im, store, "left", "in left", "left", 30, 6);
    edit(im, store, "right", "in right", "right", 90, 6);
    must(cmb_store_close(store));
    store = open_image(im);
    merge(store, "left", "right");
    put_large(store, "right", large);
    edit(im, store, "main", "second", "two", 60, 5);
    must(cmb_tag_annotate(store, "v1", "main", &(cmb_tag_info){.tagger = "ada", .message = "tagged"}));
    must(cmb_store_close(store));
    store = open_image(im);
    edit(im, store, "left", "working", NULL, 10, 3);
    merge(store, "main", "right");
    edit(im, store, "main", "again", NULL, 31, 4);
    edit(im, store, "right", "last", "last", 1, 4);
    if (im->open) {
        edit(im, store, "left", "before the checkpoint", NULL, 20, 5);
        must(kloop_checkpoint(store));
        edit(im, store, "left", "behind it", NULL, 26, 4);
        edit(im, store, "right", "of another", NULL, 40, 4);
        must(kloop_seal(store)); /* the last batch is known to be durable as well */
    }
    im->bytes = im->open ? overlay_freeze(im->dev) : NULL;
    must(cmb_store_close(store));
    im->bytes = im->open ? im->bytes : overlay_freeze(im->dev);
}

static void image_create(image *im, size_t large, bool open)
{
    static const char *const branches[] = {"heads/main", "heads/left", "heads/right"};
    const char *all[3] = {branches[0], branches[1], branches[2]};
    memset(im, 0, sizeof *im);
    im->open = open;
    kloop_memory_init(&im->memory);
    im->env = (bed_env){.now = 1700000000000000, .random = 42};
    im->options = (cmb_store_options){.alloc = im->memory.alloc,
                                      .env = {.ctx = &im->env, .now = bed_now, .random = bed_random},
                                      .pool_size = large > 100000 ? 4 << 20 : 128 << 10};
    im->dev = overlay_create(0);
    must(cmb_store_init_device(&im->dev->dev, &(cmb_init_options){.node_size = 512, .segment_size = 2 << 20}, &im->options));
    write_image(im, large);
    cmb_store *store = open_image(im);
    add_piece(im, "", read_refs);
    add_piece(im, "v1", read_tag);
    for (unsigned i = 0; i < 3; i++) {
        add_piece(im, branches[i], kloop_digest);
        add_piece(im, branches[i], read_history);
        add_piece(im, branches[i], read_reflog);
    }
    must(cmb_history(store, &(cmb_history_options){.revs = all, .rev_count = 3}, add_commit, im));
    must(cmb_store_close(store));
    overlay_lay(im->dev, im->bytes);
    store = open_image(im);
    for (unsigned i = 0; i < im->piece_count; i++)
        must(im->pieces[i].read(store, im->pieces[i].name, &im->pieces[i].digest));
    must(cmb_store_close(store));
    assert_int_equal(im->memory.held, 0);
}

static void image_destroy(image *im)
{
    overlay_destroy(im->dev);
    overlay_image_destroy(im->bytes);
    for (unsigned i = 0; i < im->stage_count; i++)
        overlay_image_destroy(im->stages[i]);
}

/* ---- one case ---- */

typedef struct tally {
    uint64_t cases, same, refused, partly; /* all data; not opened; some of it is an error */
    int64_t memory; /* bytes, the most */
    uint64_t operations;
} tally;

static void wrong(const char *damage, uint64_t at, const char *what)
{
    fail_msg("%s at %llu: %s (last detail: %s)", damage, (unsigned long long)at, what, cmb_error_detail());
}

static bool is_named(int error)
{
    return error == CMB_ECORRUPT && *cmb_error_detail();
}

/* Reads everything. True: it is all there. */
static bool read_pieces(image *im, cmb_store *store, const char *damage, uint64_t at)
{
    bool all = true;
    for (unsigned i = 0; i < im->piece_count; i++) {
        const piece *p = &im->pieces[i];
        uint64_t digest = 0;
        int error = p->read(store, p->name, &digest);
        if (error && !is_named(error))
            wrong(damage, at, cmb_error_name(error));
        if (!error && digest != p->digest) {
            print_message("piece %u, %s\n", i, p->name);
            wrong(damage, at, "other data");
        }
        all = all && !error;
    }
    return all;
}

/* The device holds the damaged image. */
static void try_case(image *im, const char *damage, uint64_t at, bool read_only, tally *t)
{
    cmb_store *store;
    size_t dirty = im->dev->dirty_count;
    kloop_memory_init(&im->memory);
    im->memory.limit = MEMORY_MAX;
    im->dev->operations_max = OPERATIONS_MAX;
    im->options.read_only = read_only;
    int error = cmb_store_open_device(&im->dev->dev, &im->options, &store);
    t->cases++;
    if (error) {
        t->refused++;
        if (!is_named(error))
            wrong(damage, at, cmb_error_name(error));
    } else {
        bool all = read_pieces(im, store, damage, at);
        t->same += all;
        t->partly += !all;
        error = cmb_store_close(store);
        if (error && (read_only || !is_named(error)))
            wrong(damage, at, "the close fails");
    }
    if (im->memory.refused || im->memory.held)
        wrong(damage, at, im->memory.held ? "memory is held" : "too much memory");
    bool wrote = im->dev->dirty_count != dirty && read_only; /* a handle that writes may merge edits that the damage left waiting */
    if (im->dev->exceeded || im->dev->queues || wrote)
        wrong(damage, at, im->dev->exceeded ? "too many operations" : im->dev->queues ? "a queue is open" : "a reader writes");
    t->memory = t->memory < im->memory.peak ? im->memory.peak : t->memory;
    t->operations = t->operations < im->dev->operations ? im->dev->operations : t->operations;
    im->options.read_only = false;
}

static void print_tally(const char *damage, const tally *t)
{
    print_message("%-32s %7llu cases: the same data %llu, some of it an error %llu, not opened %llu; at most %lld bytes, %llu operations\n",
                  damage, (unsigned long long)t->cases, (unsigned long long)t->same, (unsigned long long)t->partly,
                  (unsigned long long)t->refused, (long long)t->memory, (unsigned long long)t->operations);
}

/* ---- places ---- */

static uint64_t stride_of(uint64_t wished)
{
    uint64_t budget = bed_budget();
    return wished > budget ? wished / budget : 1;
}

static bool is_super(uint64_t page)
{
    return page % (CMB_SUPER_SPACING / OVERLAY_PAGE) == 0 && page < CMB_SUPER_SLOTS * (CMB_SUPER_SPACING / OVERLAY_PAGE);
}

/* Bytes at the start of a page of which each one counts. */
static uint32_t dense_bytes(const image *im, uint64_t page)
{
    if (is_super(page))
        return CMB_SUPER_SIZE;
    return cmb_get32(im->bytes->pages[page]) == CMB_FRAME_MAGIC ? CMB_FRAME_HEADER : 0;
}

/* The next page with anything in it; false: there is none. */
static bool next_page(const image *im, uint64_t *page)
{
    while (*page * OVERLAY_PAGE < im->bytes->size && !im->bytes->pages[*page])
        ++*page;
    return *page * OVERLAY_PAGE < im->bytes->size;
}

static void flip(image *im, uint64_t at, uint8_t mask)
{
    uint8_t byte;
    overlay_lay(im->dev, im->bytes);
    overlay_peek(im->dev, at, &byte, 1);
    byte ^= mask;
    overlay_poke(im->dev, at, &byte, 1);
}

static void flip_bytes(image *im, uint64_t dense, uint64_t sparse)
{
    tally bit = {0}, byte = {0};
    uint64_t turn = bed_seed();
    dense = stride_of(dense);
    sparse = stride_of(sparse);
    for (uint64_t page = 0; next_page(im, &page); page++) {
        uint32_t edge = dense_bytes(im, page);
        for (uint32_t i = 0; i < OVERLAY_PAGE; i++) {
            uint64_t at = page * OVERLAY_PAGE + i;
            if (++turn % (i < edge ? dense : sparse))
                continue;
            flip(im, at, (uint8_t)(1u << (turn / 3 % 8)));
            try_case(im, "one bit flipped", at, false, &bit);
            flip(im, at, 0xff);
            try_case(im, "a byte flipped", at, true, &byte);
        }
    }
    print_tally("one bit flipped", &bit);
    print_tally("a byte flipped", &byte);
    assert_true(bit.same && bit.partly && bit.refused);
}

static void zero_units(image *im, uint32_t unit, uint64_t stride)
{
    static const uint8_t zeros[OVERLAY_PAGE];
    tally t = {0};
    uint64_t turn = bed_seed();
    stride = stride_of(stride);
    for (uint64_t page = 0; next_page(im, &page); page++) {
        for (uint64_t at = page * OVERLAY_PAGE; at < (page + 1) * OVERLAY_PAGE; at += unit) {
            if (++turn % stride && !is_super(page))
                continue;
            overlay_lay(im->dev, im->bytes);
            overlay_poke(im->dev, at, zeros, unit);
            try_case(im, "zeroed", at, turn & 1, &t);
        }
    }
    print_tally(unit == SECTOR ? "a sector zeroed" : "a block zeroed", &t);
}

static void swap_units(image *im, uint32_t unit, uint64_t stride)
{
    tally t = {0};
    uint8_t a[OVERLAY_PAGE], b[OVERLAY_PAGE];
    uint64_t pages[4096], n = 0, turn = bed_seed(), seed = turn;
    for (uint64_t page = 0; next_page(im, &page) && n < 4096; page++)
        pages[n++] = page;
    stride = stride_of(stride);
    for (uint64_t i = 0; i < n; i++) {
        for (uint32_t k = 0; k < OVERLAY_PAGE; k += unit) {
            if (++turn % stride && !is_super(pages[i]))
                continue;
            uint64_t other = turn & 1 ? (i + 1) % n : bed_mix(&seed) % n; /* the next one, or any */
            uint64_t at = pages[i] * OVERLAY_PAGE + k, from = pages[other] * OVERLAY_PAGE + bed_mix(&seed) % (OVERLAY_PAGE / unit) * unit;
            overlay_lay(im->dev, im->bytes);
            overlay_peek(im->dev, at, a, unit);
            overlay_peek(im->dev, from, b, unit);
            overlay_poke(im->dev, at, b, unit);
            overlay_poke(im->dev, from, a, unit);
            try_case(im, "swapped", at, turn & 2, &t);
        }
    }
    print_tally(unit == SECTOR ? "two sectors swapped" : "two blocks swapped", &t);
}

/* A place holds what it held at an earlier stage: a write that was lost. */
static void make_stale(image *im, uint32_t unit, uint64_t stride)
{
    static const uint8_t zeros[OVERLAY_PAGE];
    tally t = {0};
    uint64_t turn = bed_seed();
    stride = stride_of(stride);
    for (uint64_t page = 0; next_page(im, &page); page++) {
        const uint8_t *now = im->bytes->pages[page], *last = now;
        for (unsigned s = im->stage_count; s-- > 0;) {
            const uint8_t *then = im->stages[s]->pages[page];
            then = then ? then : zeros;
            if (memcmp(then, last, OVERLAY_PAGE) == 0)
                continue;
            last = then;
            for (uint32_t k = 0; k < OVERLAY_PAGE; k += unit) {
                if (memcmp(then + k, now + k, unit) == 0 || (++turn % stride && !is_super(page)))
                    continue;
                overlay_lay(im->dev, im->bytes);
                overlay_poke(im->dev, page * OVERLAY_PAGE + k, then + k, unit);
                try_case(im, "stale", page * OVERLAY_PAGE + k, turn & 1, &t);
            }
        }
    }
    print_tally(unit == SECTOR ? "a stale sector" : "a stale block", &t);
    assert_true(t.cases > 0);
}

static void truncate_everywhere(image *im, uint64_t stride)
{
    tally t = {0};
    stride = stride_of(stride);
    for (uint64_t blocks = 1 + bed_seed() % stride; blocks * OVERLAY_PAGE < im->bytes->size; blocks += stride) {
        overlay_lay(im->dev, im->bytes);
        overlay_resize(im->dev, blocks * OVERLAY_PAGE);
        try_case(im, "cut", blocks * OVERLAY_PAGE, blocks & 1, &t);
    }
    print_tally("the end cut off", &t);
}

/* ---- tests ---- */

static image small_image, large_image, open_one;

static int setup(void **state)
{
    image_create(&small_image, 3000, false);
    image_create(&large_image, (1 << 20) + 2500, false); /* a value of two chunks */
    image_create(&open_one, 3000, true);
    return 0;
}

static int teardown(void **state)
{
    image_destroy(&small_image);
    image_destroy(&large_image);
    image_destroy(&open_one);
    return 0;
}

static void a_flipped_byte_is_the_same_data_or_a_named_error(void **state)
{
    flip_bytes(&small_image, 31, 599);
    flip_bytes(&open_one, 31, 599);
    flip_bytes(&large_image, 499, 49999);
}

static void a_zeroed_sector_or_block_is_the_same_data_or_a_named_error(void **state)
{
    zero_units(&small_image, SECTOR, 7);
    zero_units(&small_image, OVERLAY_PAGE, 2);
    zero_units(&open_one, SECTOR, 11);
    zero_units(&open_one, OVERLAY_PAGE, 2);
    zero_units(&large_image, OVERLAY_PAGE, 31);
}

static void swapped_sectors_or_blocks_are_the_same_data_or_a_named_error(void **state)
{
    swap_units(&small_image, SECTOR, 9);
    swap_units(&small_image, OVERLAY_PAGE, 2);
    swap_units(&open_one, SECTOR, 11);
    swap_units(&open_one, OVERLAY_PAGE, 2);
    swap_units(&large_image, OVERLAY_PAGE, 37);
}

static void a_stale_sector_or_block_is_the_same_data_or_a_named_error(void **state)
{
    make_stale(&small_image, SECTOR, 9);
    make_stale(&small_image, OVERLAY_PAGE, 2);
    make_stale(&open_one, SECTOR, 11);
    make_stale(&open_one, OVERLAY_PAGE, 2);
}

static void an_image_that_is_cut_off_is_a_named_error(void **state)
{
    truncate_everywhere(&small_image, 97);
    truncate_everywhere(&open_one, 199);
    truncate_everywhere(&large_image, 499);
}

/* ---- what a redundant copy can mend ---- */

static uint64_t whole_superblocks(cmb_store *store)
{
    cmb_fsck_options options = {.level = CMB_FSCK_QUICK};
    cmb_fsck_result result;
    must(cmb_fsck(store, &options, &result));
    return result.superblocks;
}

/* The slots in the mask are damaged. All data is there; after the next commit all copies are. */
static void mend_superblocks(image *im, unsigned slots)
{
    tally t = {0};
    overlay_lay(im->dev, im->bytes);
    for (unsigned slot = 0; slot < CMB_SUPER_SLOTS; slot++) {
        uint8_t noise[OVERLAY_PAGE];
        memset(noise, 0x5a, sizeof noise);
        if (slots >> slot & 1)
            overlay_poke(im->dev, slot * (uint64_t)CMB_SUPER_SPACING, noise, sizeof noise);
    }
    try_case(im, "superblocks damaged", slots, false, &t);
    assert_int_equal(t.same, 1);
    kloop_memory_init(&im->memory);
    cmb_store *store = open_image(im);
    assert_true(whole_superblocks(store) < CMB_SUPER_SLOTS);
    put(store, "main", "mended", "yes", "mended");
    must(cmb_store_close(store));
    store = open_image(im);
    assert_int_equal(whole_superblocks(store), CMB_SUPER_SLOTS);
    expect(store, "main", "mended", "yes");
    must(cmb_store_close(store));
}

static void damaged_superblocks_are_mended_by_the_next_commit(void **state)
{
    for (unsigned slot = 0; slot < CMB_SUPER_SLOTS; slot++)
        mend_superblocks(&small_image, 1u << slot);
    for (unsigned k = 0; k < 4; k++) /* one copy of each generation */
        mend_superblocks(&small_image, 1u << (k & 1 ? 2 : 0) | 1u << (k & 2 ? 3 : 1));
}

static void a_lost_generation_of_superblocks_loses_nothing(void **state)
{
    mend_superblocks(&small_image, cmb_super_pair(0));
    mend_superblocks(&small_image, cmb_super_pair(1));
    mend_superblocks(&large_image, cmb_super_pair(0));
    mend_superblocks(&large_image, cmb_super_pair(1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flipped_byte_is_the_same_data_or_a_named_error),
        cmocka_unit_test(a_zeroed_sector_or_block_is_the_same_data_or_a_named_error),
        cmocka_unit_test(swapped_sectors_or_blocks_are_the_same_data_or_a_named_error),
        cmocka_unit_test(a_stale_sector_or_block_is_the_same_data_or_a_named_error),
        cmocka_unit_test(an_image_that_is_cut_off_is_a_named_error),
        cmocka_unit_test(damaged_superblocks_are_mended_by_the_next_commit),
        cmocka_unit_test(a_lost_generation_of_superblocks_loses_nothing),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
