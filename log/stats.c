/* SPDX-License-Identifier: ISC */
/* stats.c: what the log tells about itself: counts, segments, the state of its tables. */
#include "log/internal.h"

#include <stdio.h>

void cmb_log_get_stats(cmb_log *log, cmb_log_stats *out_stats)
{
    cmb_caps caps;
    cmb_device_caps(log->dev, &caps);
    cmb_log_stats s = {.size = caps.size, .segment_size = log->size};
    cmb_mutex_lock(&log->lock);
    if (cmb_space_load(log) == 0)
        memcpy(s.segments, log->space.states, sizeof s.segments);
    s.logical_end = (log->head.segment << log->shift) + (log->open ? cmb_head_end(log) : log->head.offset);
    s.generation = log->super.generation;
    s.epoch = log->epoch;
    s.durable_seq = log->durable_seq;
    s.next_seq = log->open ? log->open->seq : log->durable_seq + 1;
    s.failed = atomic_load_explicit(&log->failed, memory_order_relaxed);
    cmb_mutex_unlock(&log->lock);
    s.bytes_written = atomic_load(&log->bytes_written);
    s.bytes_prepared = atomic_load(&log->bytes_prepared);
    s.bytes_metadata = atomic_load(&log->bytes_metadata);
    s.flushes = atomic_load(&log->flushes);
    s.batches = atomic_load(&log->batches);
    s.units = atomic_load(&log->units);
    s.recycled = atomic_load(&log->recycled);
    s.recovered_batches = log->recovered_batches;
    s.recovered_bytes = log->recovered_bytes;
    s.sealed = log->recovered_sealed;
    *out_stats = s;
}

/* ---- segments ---- */

typedef int (*segment_fn)(void *ctx, const cmb_segment_info *info);

/* The mapped segments of one leaf, copied under `lock`, told without it. `count`: of those in `named`; a file may have grown since. */
static int tell_leaf(cmb_log *log, const cmb_page *leaf, uint8_t *named, uint64_t count, segment_fn fn, void *ctx)
{
    int e = 0;
    for (unsigned i = 0; i < CMB_PAGE_FAN && !e; i++) {
        const cmb_segment *s = &leaf->u.segments[i];
        cmb_mutex_lock(&log->lock);
        uint64_t word = atomic_load_explicit(&s->word, memory_order_acquire);
        cmb_segment_info info = {
            .logical = leaf->index * CMB_PAGE_FAN + i,
            .physical = CMB_WORD_PHYSICAL(word),
            .kind = CMB_WORD_KIND(word),
            .used = atomic_load_explicit(&s->written, memory_order_acquire),
        };
        if (info.kind == CMB_SEG_COMPACTED)
            info.used = CMB_WORD_FOOTER(word);
        info.head = info.logical == log->head.segment || word & CMB_WORD_OPEN;
        cmb_mutex_unlock(&log->lock);
        if (!word)
            continue;
        if (info.physical < count)
            named[info.physical] = 1;
        e = fn(ctx, &info);
    }
    return e;
}

static int tell_metadata(cmb_log *log, const uint8_t *named, uint64_t count, segment_fn fn, void *ctx)
{
    int e = 0;
    for (uint64_t p = cmb_first_physical(log->shift); p < count && !e; p++) {
        cmb_mutex_lock(&log->lock);
        bool meta = !named[p] && cmb_space_state(log, p) == CMB_SEG_LIVE;
        cmb_segment_info info = {.physical = p, .kind = CMB_SEG_META, .head = p == log->meta_segment};
        info.used = info.head ? log->meta_next * CMB_BLOCK : log->size;
        cmb_mutex_unlock(&log->lock);
        if (meta)
            e = fn(ctx, &info);
    }
    return e;
}

int cmb_log_segments(cmb_log *log, segment_fn fn, void *ctx)
{
    cmb_mutex_lock(&log->lock);
    int e = log->rescued ? 0 : cmb_space_load(log);
    uint64_t count = log->space.count;
    cmb_mutex_unlock(&log->lock);
    if (e)
        return e;
    uint8_t *named = cmb_zalloc(&log->alloc, (size_t)count);
    if (!named)
        return CMB_ENOMEM;
    for (uint64_t at = 0; !e;) {
        cmb_page *leaf;
        e = cmb_radix_next(&log->table, at, &leaf);
        if (e || !leaf)
            break;
        e = tell_leaf(log, leaf, named, count, fn, ctx);
        at = (leaf->index + 1) * CMB_PAGE_FAN;
    }
    if (!e && !log->rescued) /* without a state map nobody knows which segments hold metadata */
        e = tell_metadata(log, named, count, fn, ctx);
    cmb_release(&log->alloc, named, (size_t)count);
    return e;
}

/* ---- checking ---- */

typedef struct checker {
    cmb_log *log;
    int (*finding)(void *ctx, int error, const char *text);
    void *ctx;
    uint64_t pages;
    uint64_t *named; /* per physical segment: 1 + the last logical one that was found to lie there */
    uint64_t count;  /* of them: a file may grow meanwhile */
} checker;

static int found(checker *c, int error, const char *text)
{
    return c->finding ? c->finding(c->ctx, error, text) : error;
}

/* Every leaf of a tree, read and checked; a damaged one is reported and skipped. */
static int check_tree(checker *c, cmb_radix *tree, uint64_t entries, int (*leaf_fn)(checker *, const cmb_page *))
{
    uint64_t at = 0;
    while (at < entries) {
        cmb_page *leaf;
        int e = cmb_radix_next(tree, at, &leaf);
        if (e == CMB_ENOMEM)
            return e;
        if (e) {
            e = found(c, e, cmb_error_detail());
            if (e)
                return e;
            at += cmb_radix_fan(tree);
            continue;
        }
        if (!leaf)
            break;
        e = leaf_fn ? leaf_fn(c, leaf) : 0;
        if (e)
            return e;
        at = (leaf->index + 1) * cmb_radix_fan(tree);
    }
    return 0;
}

/* Does another logical segment lie at `physical`? One that was found there may have gone since, and the place be used anew. Under `lock`. */
static bool lies_there_too(const checker *c, uint64_t physical)
{
    if (!c->named[physical])
        return false;
    uint64_t word = atomic_load_explicit(&cmb_table_at(c->log, c->named[physical] - 1)->word, memory_order_relaxed);
    return word && CMB_WORD_PHYSICAL(word) == physical;
}

static int check_entry(checker *c, uint64_t logical, const cmb_segment *s)
{
    cmb_log *log = c->log;
    char text[160];
    cmb_mutex_lock(&log->lock);
    uint64_t word = atomic_load_explicit(&s->word, memory_order_relaxed), physical = CMB_WORD_PHYSICAL(word);
    bool open = word & CMB_WORD_OPEN;
    bool live = physical < log->space.count && cmb_space_state(log, physical) == CMB_SEG_LIVE;
    bool outside = physical >= log->space.count;
    bool shared = physical < c->count && lies_there_too(c, physical) && CMB_WORD_KIND(word) != CMB_SEG_COMPACTED;
    cmb_mutex_unlock(&log->lock);
    if (!word || open)
        return 0;
    text[0] = 0;
    if (outside)
        snprintf(text, sizeof text, "logical segment %llu lies at %llu, past the device's end",
                 (unsigned long long)logical, (unsigned long long)physical);
    else if (!live && log->writable)
        snprintf(text, sizeof text, "logical segment %llu lies at %llu, which is not marked as in use",
                 (unsigned long long)logical, (unsigned long long)physical);
    else if (shared)
        snprintf(text, sizeof text, "logical segments %llu and %llu both lie at %llu",
                 (unsigned long long)(c->named[physical] - 1), (unsigned long long)logical,
                 (unsigned long long)physical);
    if (physical < c->count)
        c->named[physical] = logical + 1;
    return text[0] ? found(c, CMB_ECORRUPT, text) : 0;
}

static int check_leaf(checker *c, const cmb_page *leaf)
{
    int e = 0;
    for (unsigned i = 0; i < CMB_PAGE_FAN && !e; i++)
        e = check_entry(c, leaf->index * CMB_PAGE_FAN + i, &leaf->u.segments[i]);
    return e;
}

static uint64_t pages_of(cmb_log *log, cmb_radix *tree)
{
    uint64_t n = 0;
    cmb_mutex_lock(&log->table_lock);
    for (const cmb_page *page = tree->loaded; page; page = page->next_loaded)
        n += page->ref.addr != 0;
    cmb_mutex_unlock(&log->table_lock);
    return n;
}

int cmb_log_check_tables(cmb_log *log, uint64_t *out_pages, int (*finding)(void *ctx, int error, const char *text),
                         void *ctx)
{
    checker c = {.log = log, .finding = finding, .ctx = ctx};
    cmb_mutex_lock(&log->lock);
    int space = cmb_space_load(log);
    uint64_t count = log->space.count, logicals = log->next_logical;
    cmb_mutex_unlock(&log->lock);
    int e = 0;
    if (space == CMB_ENOMEM)
        return space;
    if (space)
        e = found(&c, space, cmb_error_detail());
    c.count = count;
    c.named = e ? NULL : cmb_zalloc(&log->alloc, (size_t)count * sizeof *c.named);
    if (!e && !c.named)
        return CMB_ENOMEM;
    if (!e)
        e = check_tree(&c, &log->map, count, NULL);
    if (!e)
        e = check_tree(&c, &log->table, logicals, check_leaf);
    cmb_release(&log->alloc, c.named, c.named ? (size_t)count * sizeof *c.named : 0);
    if (!e)
        *out_pages = pages_of(log, &log->table) + pages_of(log, &log->map);
    return e;
}
