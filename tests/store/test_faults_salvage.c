/* SPDX-License-Identifier: ISC */
/* Any operation of either device fails, any allocation is refused, while an image is salvaged. */
#include "salvage_bed.h"

#include "tests/kloop/kloop.h"

#define WHEN   1700000000000000
#define POINTS 4u /* of one loop, without a budget */

/* ---- an image ---- */

static void commit(cmb_store *s, const char *branch, const char *value, unsigned first, unsigned stride, unsigned n)
{
    must(kloop_edit_do(s, &(kloop_edit){.branch = branch, .value = value, .message = value, .first = first, .stride = stride, .n = n}));
}

/* Merged branches, tags of both kinds, a value in pieces, a working state, more refs and commits than one node of their tables holds. */
static void fill(cmb_store *s)
{
    static const cmb_commit_info by_ada = {.author = "ada", .message = "merge", .time = WHEN};
    cmb_merge_result result;
    commit(s, "main", "first", 0, 2, 150);
    must(cmb_branch_create(s, "side", "main"));
    commit(s, "side", "theirs", 31, 50, 7);
    commit(s, "main", "mine", 10, 40, 8);
    must(cmb_tag_create(s, "light", "side"));
    must(cmb_tag_annotate(s, "v1", "main", &(cmb_tag_info){.tagger = "ada", .message = "one", .time = WHEN}));
    must(cmb_tag_annotate(s, "v1-again", "v1", &(cmb_tag_info){.tagger = "ada", .message = "of a tag", .time = WHEN}));
    must(cmb_merge(s, "main", "side", NULL, NULL, &by_ada, &result));
    kloop_put_large(s, "main");
    for (unsigned i = 0; i < 12; i++) {
        char name[32];
        snprintf(name, sizeof name, "topic/%02u", i);
        must(cmb_branch_create(s, name, i % 2 ? "main" : "side"));
        commit(s, name, name, i, 30, 3);
    }
    must(kloop_put(s, "side", "unfinished", "work", NULL));
}

typedef enum harm { HARM_NONE, HARM_SUPERS, HARM_SECTORS, HARM_BOTH, HARMS } harm;
static const char *const harm_names[HARMS] = {"whole", "no superblock", "bad sectors", "both"};

static void harm_do(overlay *dev, harm kind)
{
    static const uint8_t zeros[CMB_SUPER_AREA], noise[512] = {0xa5, 0x5a, 1, 2, 3};
    uint64_t seed = 11 + bed_seed();
    if (kind == HARM_SUPERS || kind == HARM_BOTH)
        overlay_poke(dev, 0, zeros, sizeof zeros);
    for (unsigned hit = 0; hit < 30 && kind >= HARM_SECTORS;) {
        uint8_t there[512];
        uint64_t sectors = (dev->size - CMB_SUPER_AREA) / sizeof noise, at = CMB_SUPER_AREA + bed_mix(&seed) % sectors * sizeof noise;
        overlay_peek(dev, at, there, sizeof there);
        if (memcmp(there, zeros, sizeof there) == 0)
            continue; /* nothing lies there */
        overlay_poke(dev, at, noise, sizeof noise);
        hit++;
    }
}

/* ---- a run ---- */

typedef enum fault { FAULT_NONE, FAULT_MEMORY, FAULT_SOURCE_EIO, FAULT_SOURCE_SHORT, FAULT_EIO, FAULT_ENOSPC, FAULT_SHORT, FAULTS } fault;
static const char *const fault_names[FAULTS] = {"none", "memory", "source eio", "source short", "eio", "enospc", "short"};

typedef struct loop {
    overlay *from, *to;
    overlay_image *image, *empty;
    kloop_memory memory;
    bed_env env;
    harm harm;
    fault fault;
    bool for_ever;
    uint64_t k;
    uint64_t concerned; /* operations, or allocations, that the fault concerned */
    uint64_t told, told_before;   /* a digest of the losses, and as it is without a fault */
    uint64_t texts, texts_before; /* of what was said of them */
    ref_lines refs;
    uint64_t failed, survived; /* runs */
} loop;

static int64_t still(void *ctx)
{
    return ((const bed_env *)ctx)->now;
}

static int note_loss(void *ctx, const cmb_loss *loss)
{
    loop *l = ctx;
    uint64_t *digest = &l->told;
    *digest = cmb_hash64(loss->where, strlen(loss->where), *digest + loss->kind);
    *digest = cmb_hash64(loss->after.data, loss->after.size, *digest);
    *digest = cmb_hash64(loss->last.data, loss->last.size, *digest);
    l->texts = cmb_hash64(loss->text, strlen(loss->text), l->texts);
    return 0;
}

static void check_at(const loop *l, bool holds, const char *what, int line)
{
    if (!holds)
        fail_msg("%s, %s %s at %llu (line %d): not so: %s (last detail: %s)", harm_names[l->harm], fault_names[l->fault],
                 l->for_ever ? "from" : "once", (unsigned long long)l->k, line, what, cmb_error_detail());
}
#define check(l, holds) check_at(l, holds, #holds, __LINE__)

static void inject(loop *l)
{
    static const overlay_fault faults[FAULTS] = {[FAULT_SOURCE_EIO] = OVERLAY_EIO, [FAULT_SOURCE_SHORT] = OVERLAY_SHORT,
                                                 [FAULT_EIO] = OVERLAY_EIO, [FAULT_ENOSPC] = OVERLAY_ENOSPC, [FAULT_SHORT] = OVERLAY_SHORT};
    overlay_lay(l->from, l->image);
    overlay_lay(l->to, l->empty);
    kloop_memory_init(&l->memory);
    l->env = (bed_env){.now = WHEN, .random = 42};
    l->told = l->texts = 0;
    if (l->fault == FAULT_MEMORY) {
        l->memory.fail_at = l->k;
        l->memory.for_ever = l->for_ever;
    } else if (l->fault != FAULT_NONE) {
        overlay_break(l->fault <= FAULT_SOURCE_SHORT ? l->from : l->to, faults[l->fault], l->k, l->for_ever);
    }
}

static uint64_t concerned(const loop *l)
{
    return l->fault == FAULT_MEMORY ? l->memory.calls : l->fault <= FAULT_SOURCE_SHORT ? l->from->concerned : l->to->concerned;
}

static uint64_t fired(const loop *l)
{
    return l->fault == FAULT_MEMORY ? l->memory.fired : l->fault <= FAULT_SOURCE_SHORT ? l->from->fired : l->to->fired;
}

static bool excused(const loop *l, int error)
{
    switch (l->fault) {
    case FAULT_MEMORY:
        return error == CMB_ENOMEM;
    case FAULT_SOURCE_EIO: /* where nothing can be read from the first on, nothing is found */
    case FAULT_SOURCE_SHORT:
        return error == CMB_EIO || (l->for_ever && error == CMB_ENOTIMAGE);
    case FAULT_ENOSPC:
        return error == CMB_ENOSPC || error == CMB_EUNKNOWN || error == CMB_EREADONLY;
    default:
        return error == CMB_EIO || error == CMB_EUNKNOWN || error == CMB_EREADONLY;
    }
}

/* The new image opens and is whole. What could be read without a fault is there, unless it was reading that failed: then that is told. */
static void check_result(loop *l, bool first)
{
    cmb_store_options options = {.env = {.ctx = &l->env, .now = still, .random = bed_random}};
    cmb_fsck_options full = {.level = CMB_FSCK_FULL};
    cmb_fsck_result found;
    cmb_store *store;
    bool reading = l->fault == FAULT_SOURCE_EIO || l->fault == FAULT_SOURCE_SHORT;
    overlay_break(l->to, OVERLAY_SOUND, 0, false);
    check(l, cmb_store_open_device(&l->to->dev, &options, &store) == 0);
    check(l, cmb_fsck(store, &full, &found) == 0 && found.findings == 0);
    if (first) {
        l->told_before = l->told;
        l->texts_before = l->texts;
        list_refs(store, &l->refs);
    } else {
        bool same = l->told == l->told_before && (!reading || l->texts == l->texts_before);
        check(l, same || reading);
        if (same)
            same_as(&l->refs, store);
    }
    check(l, cmb_store_close(store) == 0);
}

/* True: the fault fired. */
static bool run(loop *l)
{
    cmb_salvage_options options = {.alloc = l->memory.alloc, .env = {.ctx = &l->env, .now = still, .random = bed_random},
                                   .pool_size = 1 << 20, .on_loss = note_loss, .ctx = l};
    cmb_salvage_result result;
    inject(l);
    options.alloc = l->memory.alloc;
    int error = cmb_salvage_device(&l->from->dev, &l->to->dev, &options, &result);
    bool touched = fired(l) > 0;
    l->concerned = concerned(l);
    check(l, l->memory.held == 0);
    check(l, l->from->queues == 0 && l->to->queues == 0);
    check(l, l->from->dirty_count == 0 && l->from->size == l->image->size); /* what is salvaged is only read */
    if (error) {
        check(l, touched && excused(l, error));
        l->failed++;
    } else {
        check_result(l, l->fault == FAULT_NONE);
        l->survived++;
    }
    return touched;
}

static void run_loop(loop *l, fault kind, bool for_ever)
{
    l->fault = kind;
    l->for_ever = for_ever;
    l->k = UINT64_MAX;
    l->failed = l->survived = 0;
    (void)run(l);
    uint64_t n = l->concerned, points = (uint64_t)POINTS * bed_budget(), stride = n > points ? (n + points - 1) / points : 1, tried = 0;
    check(l, n > 0);
    for (l->k = bed_seed() % stride; l->k < n; l->k += stride, tried++)
        (void)run(l);
    for (l->k = n; run(l); l->k++) /* ends with a run that is untouched */
        tried++;
    print_message("%-13s %-12s %-4s %4llu of %5llu points: %llu failed, %llu went on\n", harm_names[l->harm], fault_names[kind],
                  for_ever ? "ever" : "once", (unsigned long long)tried, (unsigned long long)n, (unsigned long long)l->failed,
                  (unsigned long long)l->survived);
}

static void salvage_survives_any_failure(void **state)
{
    static loop l;
    (void)state;
    for (l.harm = HARM_NONE; l.harm < HARMS; l.harm++) {
        cmb_init_options init = {.node_size = 512, .segment_size = 2 << 20};
        cmb_store_options options = {.env = {.ctx = &l.env, .now = still, .random = bed_random}};
        cmb_store *store;
        l.env = (bed_env){.now = WHEN, .random = 42};
        l.from = overlay_create(0);
        l.to = overlay_create(0);
        l.empty = overlay_freeze(l.to);
        must(cmb_store_init_device(&l.from->dev, &init, &options));
        must(cmb_store_open_device(&l.from->dev, &options, &store));
        fill(store);
        must(cmb_store_close(store));
        harm_do(l.from, l.harm);
        l.image = overlay_freeze(l.from);
        l.fault = FAULT_NONE;
        (void)run(&l);
        for (fault f = FAULT_MEMORY; f < FAULTS; f++)
            for (int ever = 0; ever < 2; ever++)
                run_loop(&l, f, ever);
        overlay_image_destroy(l.image);
        overlay_image_destroy(l.empty);
        overlay_destroy(l.from);
        overlay_destroy(l.to);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(salvage_survives_any_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
