/* SPDX-License-Identifier: ISC */
/*
 * runs.c: footers of compacted segments, read when needed and kept within a budget. One physical
 * segment holds the live runs of one or more logical ones; its footer says which bytes are where.
 */
#include "log/rescue_private.h"

typedef struct directory_entry {
    uint64_t logical;
    uint32_t first, n;
} directory_entry;

typedef struct footer {
    struct footer *next; /* most recently used first */
    uint64_t physical, offset; /* a rescued log may know two of one segment */
    size_t bytes;
    uint32_t n_logicals, n_runs;
    directory_entry *directory;
    cmb_run *runs;
} footer;

struct cmb_run_shard {
    cmb_mutex lock;
    footer *first;
    size_t bytes;
};

int cmb_runs_init(cmb_log *log)
{
    log->shards = cmb_zalloc(&log->alloc, CMB_RUN_SHARDS * sizeof *log->shards);
    if (!log->shards)
        return CMB_ENOMEM;
    for (unsigned i = 0; i < CMB_RUN_SHARDS; i++) {
        int e = cmb_mutex_init(&log->shards[i].lock);
        if (e) {
            while (i--)
                cmb_mutex_destroy(&log->shards[i].lock);
            cmb_release(&log->alloc, log->shards, CMB_RUN_SHARDS * sizeof *log->shards);
            log->shards = NULL;
            return e;
        }
    }
    return 0;
}

static void footer_free(cmb_log *log, footer *f)
{
    if (f)
        cmb_release(&log->alloc, f, f->bytes);
}

void cmb_runs_free(cmb_log *log)
{
    for (unsigned i = 0; log->shards && i < CMB_RUN_SHARDS; i++) {
        while (log->shards[i].first) {
            footer *f = log->shards[i].first;
            log->shards[i].first = f->next;
            footer_free(log, f);
        }
        cmb_mutex_destroy(&log->shards[i].lock);
    }
    cmb_release(&log->alloc, log->shards, log->shards ? CMB_RUN_SHARDS * sizeof *log->shards : 0);
    log->shards = NULL;
}

void cmb_runs_forget(cmb_log *log, uint64_t physical)
{
    struct cmb_run_shard *shard = &log->shards[physical % CMB_RUN_SHARDS];
    cmb_mutex_lock(&shard->lock);
    for (footer **at = &shard->first; *at; at = &(*at)->next) {
        footer *f = *at;
        if (f->physical == physical) {
            *at = f->next;
            shard->bytes -= f->bytes;
            footer_free(log, f);
            break;
        }
    }
    cmb_mutex_unlock(&shard->lock);
}

/* ---- reading a footer ---- */

/* Runs of one logical segment: sorted, apart, inside the data. */
static int decode_runs(const cmb_log *log, footer *f, const directory_entry *d, const uint8_t *p, uint64_t data_end)
{
    uint64_t before = 0;
    for (uint32_t i = d->first; i < d->first + d->n; i++) {
        const uint8_t *q = p + (size_t)i * CMB_FOOTER_RUN;
        cmb_run run = {cmb_get32(q), cmb_get32(q + 4), cmb_get32(q + 8), cmb_get64(q + 16)};
        uint64_t end = (uint64_t)run.logical + run.length;
        if (run.length == 0 || run.logical < before || end * CMB_RECORD_ALIGN > log->size
            || ((uint64_t)run.physical + run.length) * CMB_RECORD_ALIGN > data_end)
            return cmb_fail(CMB_ECORRUPT, "run %u lies outside", (unsigned)i);
        before = end;
        f->runs[i] = run;
    }
    return 0;
}

static int decode_footer(const cmb_log *log, const uint8_t *block, uint32_t length, uint64_t data_end, footer *f)
{
    const uint8_t *p = block + CMB_FOOTER_HEADER, *runs = p + (size_t)f->n_logicals * CMB_FOOTER_LOGICAL;
    if (CMB_FOOTER_HEADER + (uint64_t)f->n_logicals * CMB_FOOTER_LOGICAL + (uint64_t)f->n_runs * CMB_FOOTER_RUN
        != length)
        return cmb_fail(CMB_ECORRUPT, "counts do not fit the length");
    uint32_t at = 0;
    uint64_t held = 0;
    for (uint32_t i = 0; i < f->n_logicals; i++, p += CMB_FOOTER_LOGICAL) {
        directory_entry d = {cmb_get64(p), cmb_get32(p + 8), cmb_get32(p + 12)};
        if (d.first != at || d.n > f->n_runs - at || (i && d.logical <= f->directory[i - 1].logical))
            return cmb_fail(CMB_ECORRUPT, "directory entry %u", (unsigned)i);
        f->directory[i] = d;
        at += d.n;
        int e = decode_runs(log, f, &d, runs, data_end);
        if (e)
            return e;
        for (uint32_t k = d.first; k < at; k++)
            held += (uint64_t)f->runs[k].length * CMB_RECORD_ALIGN;
    }
    if (held > data_end) /* they lie apart: whoever reads all of them reads the segment once */
        return cmb_fail(CMB_ECORRUPT, "runs of more bytes than lie there");
    return at == f->n_runs ? 0 : cmb_fail(CMB_ECORRUPT, "runs without a segment");
}

static int footer_check(const cmb_log *log, const uint8_t *block, uint32_t length, uint64_t physical, uint64_t offset)
{
    uint64_t addr = (physical << log->shift) + offset;
    if (cmb_get64(block) != cmb_hash64(block + 8, length - 8, addr))
        return cmb_fail(CMB_ECORRUPT, "wrong check");
    if (cmb_get64(block + CMB_FOOTER_AT_ADDR) != addr)
        return cmb_fail(CMB_ECORRUPT, "another footer lies there");
    return 0;
}

static int footer_parse(cmb_log *log, const uint8_t *block, uint32_t length, uint64_t physical, uint64_t offset,
                        footer **out_footer)
{
    int e = footer_check(log, block, length, physical, offset);
    if (e)
        return e;
    uint32_t n_logicals = cmb_get32(block + CMB_FOOTER_AT_LOGICALS), n_runs = cmb_get32(block + CMB_FOOTER_AT_RUNS);
    if (n_logicals > length / CMB_FOOTER_LOGICAL || n_runs > length / CMB_FOOTER_RUN)
        return cmb_fail(CMB_ECORRUPT, "counts do not fit the length");
    size_t bytes = sizeof(footer) + n_logicals * sizeof(directory_entry) + n_runs * sizeof(cmb_run);
    footer *f = cmb_alloc(&log->alloc, bytes);
    if (!f)
        return CMB_ENOMEM;
    *f = (footer){.physical = physical, .offset = offset, .bytes = bytes, .n_logicals = n_logicals, .n_runs = n_runs};
    f->directory = (directory_entry *)(f + 1);
    f->runs = (cmb_run *)(f->directory + n_logicals);
    e = decode_footer(log, block, length, offset, f);
    if (e) {
        footer_free(log, f);
        return e;
    }
    *out_footer = f;
    return 0;
}

int cmb_footer_each(cmb_log *log, const uint8_t *block, uint32_t length, uint64_t physical, uint64_t offset,
                    int (*fn)(void *ctx, uint64_t logical), void *ctx)
{
    footer *f = NULL;
    int e = footer_parse(log, block, length, physical, offset, &f);
    if (e)
        return e;
    for (uint32_t i = 0; i < f->n_logicals && !e; i++)
        e = f->directory[i].n ? fn(ctx, f->directory[i].logical) : 0;
    footer_free(log, f);
    return e;
}

static int footer_read(cmb_log *log, uint64_t physical, uint64_t offset, footer **out_footer)
{
    if (offset % CMB_BLOCK || offset + CMB_BLOCK > log->size)
        return cmb_fail(CMB_ECORRUPT, "%s: no footer can lie at %llu of segment %llu", log->dev->name,
                        (unsigned long long)offset, (unsigned long long)physical);
    uint8_t *block = cmb_io_buffer(&log->alloc, CMB_BLOCK);
    if (!block)
        return CMB_ENOMEM;
    size_t size = CMB_BLOCK;
    int e = cmb_segment_read(log, NULL, physical, offset, block, size);
    uint32_t length = e ? 0 : cmb_get32(block + CMB_FOOTER_AT_LENGTH);
    if (!e
        && (cmb_get32(block + CMB_FOOTER_AT_MAGIC) != CMB_FOOTER_MAGIC || length < CMB_FOOTER_HEADER
            || offset + cmb_align_up(length, CMB_BLOCK) > log->size))
        e = cmb_fail(CMB_ECORRUPT, "no footer");
    if (!e && length > CMB_BLOCK) {
        cmb_io_buffer_release(&log->alloc, block, size);
        size = (size_t)cmb_align_up(length, CMB_BLOCK);
        block = cmb_io_buffer(&log->alloc, size);
        if (!block)
            return CMB_ENOMEM;
        e = cmb_segment_read(log, NULL, physical, offset, block, size);
    }
    if (!e)
        e = footer_parse(log, block, length, physical, offset, out_footer);
    cmb_io_buffer_release(&log->alloc, block, size);
    return e ? cmb_fail_in(e, "%s: footer of segment %llu", log->dev->name, (unsigned long long)physical) : 0;
}

/* ---- the cache ---- */

static void evict(cmb_log *log, struct cmb_run_shard *shard)
{
    footer **at = &shard->first;
    size_t kept = 0;
    while (*at) {
        footer *f = *at;
        if (f != shard->first && kept + f->bytes > CMB_RUN_BUDGET) {
            *at = f->next;
            shard->bytes -= f->bytes;
            footer_free(log, f);
        } else {
            kept += f->bytes;
            at = &f->next;
        }
    }
}

/* The footer, now first of its shard. Under the shard's lock, valid as long. */
static int footer_get(cmb_log *log, struct cmb_run_shard *shard, uint64_t word, const footer **out_footer)
{
    uint64_t physical = CMB_WORD_PHYSICAL(word);
    for (footer **at = &shard->first; *at; at = &(*at)->next) {
        footer *f = *at;
        if (f->physical != physical || f->offset != CMB_WORD_FOOTER(word))
            continue;
        *at = f->next;
        f->next = shard->first;
        shard->first = f;
        *out_footer = f;
        return 0;
    }
    footer *f = NULL; /* gcc 12 does not see that a failure is never 0 */
    int e = footer_read(log, physical, CMB_WORD_FOOTER(word), &f);
    if (e)
        return e;
    f->next = shard->first;
    shard->first = f;
    shard->bytes += f->bytes;
    if (shard->bytes > CMB_RUN_BUDGET)
        evict(log, shard);
    *out_footer = f;
    return 0;
}

static const directory_entry *find_logical(const footer *f, uint64_t segment)
{
    uint32_t low = 0, high = f->n_logicals;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (f->directory[mid].logical < segment)
            low = mid + 1;
        else
            high = mid;
    }
    return low < f->n_logicals && f->directory[low].logical == segment ? &f->directory[low] : NULL;
}

/* The run that begins at or before a granule. */
static const cmb_run *find_run(const footer *f, const directory_entry *d, uint32_t granule)
{
    uint32_t low = d->first, high = d->first + d->n;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (f->runs[mid].logical <= granule)
            low = mid + 1;
        else
            high = mid;
    }
    return low > d->first ? &f->runs[low - 1] : NULL;
}

int cmb_runs_translate(cmb_log *log, uint64_t segment, uint64_t word, uint32_t offset, uint32_t length,
                       uint64_t *out_offset)
{
    uint64_t physical = CMB_WORD_PHYSICAL(word);
    struct cmb_run_shard *shard = &log->shards[physical % CMB_RUN_SHARDS];
    const footer *f;
    cmb_mutex_lock(&shard->lock);
    int e = footer_get(log, shard, word, &f);
    const directory_entry *d = e ? NULL : find_logical(f, segment);
    const cmb_run *run = d ? find_run(f, d, offset / CMB_RECORD_ALIGN) : NULL;
    if (run && (uint64_t)offset + length <= ((uint64_t)run->logical + run->length) * CMB_RECORD_ALIGN)
        *out_offset = (physical << log->shift) + (uint64_t)run->physical * CMB_RECORD_ALIGN
                      + (offset - run->logical * CMB_RECORD_ALIGN);
    else if (!e)
        e = cmb_fail(CMB_ECORRUPT, "%s: no record of %u bytes at %llu: it was cleaned away", log->dev->name,
                     (unsigned)length, (unsigned long long)((segment << log->shift) + offset));
    cmb_mutex_unlock(&shard->lock);
    return e;
}

int cmb_runs_copy(cmb_log *log, uint64_t segment, uint64_t word, cmb_run **out_runs, size_t *out_n)
{
    uint64_t physical = CMB_WORD_PHYSICAL(word);
    struct cmb_run_shard *shard = &log->shards[physical % CMB_RUN_SHARDS];
    const footer *f;
    cmb_mutex_lock(&shard->lock);
    int e = footer_get(log, shard, word, &f);
    const directory_entry *d = e ? NULL : find_logical(f, segment);
    if (!e && !d)
        e = cmb_fail(CMB_ECORRUPT, "%s: the footer of segment %llu lacks segment %llu", log->dev->name,
                     (unsigned long long)physical, (unsigned long long)segment);
    cmb_run *runs = e ? NULL : cmb_alloc(&log->alloc, (d->n ? d->n : 1) * sizeof *runs);
    if (!e && !runs)
        e = CMB_ENOMEM;
    if (!e) {
        memcpy(runs, f->runs + d->first, d->n * sizeof *runs);
        *out_runs = runs;
        *out_n = d->n;
    }
    cmb_mutex_unlock(&shard->lock);
    return e;
}

int cmb_runs_logicals(cmb_log *log, uint64_t word, uint64_t **out_logicals, size_t *out_n)
{
    struct cmb_run_shard *shard = &log->shards[CMB_WORD_PHYSICAL(word) % CMB_RUN_SHARDS];
    const footer *f;
    cmb_mutex_lock(&shard->lock);
    int e = footer_get(log, shard, word, &f);
    uint64_t *logicals = e ? NULL : cmb_alloc(&log->alloc, (f->n_logicals ? f->n_logicals : 1) * sizeof *logicals);
    if (!e && !logicals)
        e = CMB_ENOMEM;
    if (!e) {
        for (uint32_t i = 0; i < f->n_logicals; i++)
            logicals[i] = f->directory[i].logical;
        *out_logicals = logicals;
        *out_n = f->n_logicals;
    }
    cmb_mutex_unlock(&shard->lock);
    return e;
}
