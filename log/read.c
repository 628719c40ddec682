/* SPDX-License-Identifier: ISC */
/*
 * read.c: from a logical address to bytes. Written data is found without a lock: a segment's word
 * says where it lies, its written mark how far the device can be asked. What is queued is copied from
 * its frame under `lock`.
 *
 * A segment may be moved while it is read. Its old place stays as it was for two checkpoints at
 * least; a read that finds the word changed afterwards is done again.
 */
#include "log/internal.h"

#define SMALL_READ (16u << 10)
#define WORD_PLACE(w) ((w) & ~(CMB_WORD_OPEN | CMB_WORD_CLOSED))

/* ---- queues ---- */

int cmb_log_queue_take(cmb_log *log, cmb_queue **out_queue)
{
    cmb_queue *queue = NULL;
    cmb_mutex_lock(&log->pool_lock);
    if (log->n_pool)
        queue = log->pool[--log->n_pool];
    cmb_mutex_unlock(&log->pool_lock);
    if (queue) {
        *out_queue = queue;
        return 0;
    }
    return cmb_queue_open(log->dev, log->caps.queue_depth, out_queue);
}

void cmb_log_queue_give(cmb_log *log, cmb_queue *queue)
{
    cmb_mutex_lock(&log->pool_lock);
    bool keep = log->n_pool < CMB_POOL_QUEUES;
    if (keep)
        log->pool[log->n_pool++] = queue;
    cmb_mutex_unlock(&log->pool_lock);
    if (!keep)
        cmb_queue_close(queue);
}

/* ---- the device ---- */

/* Any byte range of the device: widened to blocks where it must be. */
static int read_range(cmb_log *log, cmb_queue *queue, uint64_t offset, void *out_buf, uint64_t length)
{
    uint64_t block = log->caps.block_size;
    uint64_t from = offset & ~(block - 1), to = cmb_align_up(offset + length, block);
    if (from == offset && to == offset + length)
        return cmb_io_read(queue, offset, out_buf, length, 0);
    _Alignas(CMB_BLOCK) uint8_t small[SMALL_READ];
    uint8_t *wide = to - from <= sizeof small ? small : cmb_io_buffer(&log->alloc, (size_t)(to - from));
    if (!wide)
        return CMB_ENOMEM;
    int e = cmb_io_read(queue, from, wide, to - from, 0);
    if (!e)
        memcpy(out_buf, wide + (offset - from), (size_t)length);
    if (wide != small)
        cmb_io_buffer_release(&log->alloc, wide, (size_t)(to - from));
    return e;
}

int cmb_segment_read(cmb_log *log, cmb_queue *queue, uint64_t physical, uint64_t offset, void *out_buf, uint64_t length)
{
    cmb_queue *own = NULL;
    if (!queue) {
        int e = cmb_log_queue_take(log, &own);
        if (e)
            return e;
    }
    int e = read_range(log, queue ? queue : own, (physical << log->shift) + offset, out_buf, length);
    if (own)
        cmb_log_queue_give(log, own);
    return e;
}

/* ---- translation ---- */

static int no_such(const cmb_log *log, uint64_t addr, uint32_t length)
{
    return cmb_fail(CMB_ECORRUPT, "%s: no record of %u bytes at %llu", log->dev->name, (unsigned)length,
                    (unsigned long long)addr);
}

/* Where written data lies; false in *out_written: not written yet, or nothing there. */
static int translate(cmb_log *log, uint64_t addr, uint32_t length, const cmb_segment *s, uint64_t word,
                     uint64_t *out_offset, bool *out_written)
{
    uint64_t offset = addr & (log->size - 1);
    uint64_t written = atomic_load_explicit(&s->written, memory_order_acquire);
    if (CMB_WORD_KIND(word) == CMB_SEG_COMPACTED) {
        *out_written = true;
        return cmb_runs_translate(log, addr >> log->shift, word, (uint32_t)offset, length, out_offset);
    }
    *out_offset = (CMB_WORD_PHYSICAL(word) << log->shift) + offset;
    *out_written = offset + length <= written;
    return 0;
}

static bool in_frame(const cmb_frame *f, uint64_t addr, uint32_t length, void *out_buf)
{
    if (addr < f->addr || addr + length > f->addr + atomic_load_explicit(&f->fill, memory_order_acquire))
        return false;
    memcpy(out_buf, f->buf + (addr - f->addr), length);
    return true;
}

static bool in_batches(const cmb_batch *batch, uint64_t addr, uint32_t length, void *out_buf)
{
    for (; batch; batch = batch->next) {
        for (const cmb_frame *f = batch->first; f; f = f->next) {
            if (in_frame(f, addr, length, out_buf))
                return true;
        }
    }
    return false;
}

/* Under `lock`. */
static bool read_queued(cmb_log *log, uint64_t addr, uint32_t length, void *out_buf)
{
    if (!log->open)
        return false;
    if (in_batches(log->open, addr, length, out_buf) || in_batches(log->cut, addr, length, out_buf)
        || in_batches(log->flight, addr, length, out_buf))
        return true;
    for (const cmb_appender *s = log->streams; s; s = s->next) {
        if (cmb_stream_read_queued(s, addr, length, out_buf))
            return true;
    }
    return false;
}

int cmb_log_read(cmb_log *log, cmb_queue *queue, uint64_t addr, uint32_t length, void *out_buf)
{
    uint64_t number = addr >> log->shift, offset = 0;
    if (addr >= CMB_SCRATCH_BASE)
        return cmb_scratch_read(log, addr, length, out_buf) ? 0 : no_such(log, addr, length);
    if (log->root && addr == log->super.root_addr && length == log->super.root_length) {
        memcpy(out_buf, log->root, length);
        return 0;
    }
    if ((addr & (log->size - 1)) + length > log->size || length == 0)
        return no_such(log, addr, length);
    for (;;) {
        cmb_segment *s;
        int e = cmb_table_find(log, number, &s);
        if (e)
            return e;
        uint64_t word = s ? atomic_load_explicit(&s->word, memory_order_acquire) : 0;
        if (!word)
            return no_such(log, addr, length);
        bool written;
        e = translate(log, addr, length, s, word, &offset, &written);
        if (!e && !written) {
            cmb_mutex_lock(&log->lock);
            bool queued = read_queued(log, addr, length, out_buf);
            cmb_mutex_unlock(&log->lock);
            if (queued)
                return 0;
            e = translate(log, addr, length, s, word, &offset, &written);
            if (!e && !written && WORD_PLACE(word) == WORD_PLACE(atomic_load_explicit(&s->word, memory_order_acquire)))
                return no_such(log, addr, length);
        }
        if (!e && written)
            e = cmb_segment_read(log, queue, 0, offset, out_buf, length);
        else if (!e)
            continue;
        if (WORD_PLACE(word) == WORD_PLACE(atomic_load_explicit(&s->word, memory_order_acquire)))
            return e;
    }
}

bool cmb_log_locate(cmb_log *log, uint64_t addr, uint32_t length, uint64_t *out_offset)
{
    cmb_segment *s;
    if (addr >= CMB_SCRATCH_BASE || (addr & (log->size - 1)) + length > log->size
        || cmb_table_find(log, addr >> log->shift, &s) || !s)
        return false;
    uint64_t word = atomic_load_explicit(&s->word, memory_order_acquire), offset;
    bool written;
    if (!word || translate(log, addr, length, s, word, &offset, &written) || !written)
        return false;
    *out_offset = offset;
    return true;
}

/* ---- the mapping ---- */

static const uint8_t *map_region(cmb_log *log, unsigned region)
{
    uint64_t base = (uint64_t)region << CMB_MAP_REGION_SHIFT, length = UINT64_C(1) << CMB_MAP_REGION_SHIFT;
    const void *ptr = NULL;
    cmb_mutex_lock(&log->map_lock);
    ptr = atomic_load_explicit(&log->regions[region], memory_order_relaxed);
    if (!ptr && !atomic_load_explicit(&log->map_failed, memory_order_relaxed)) {
        if (length > log->caps.max_size - base)
            length = log->caps.max_size - base;
        if (log->dev->ops->map(log->dev, base, length, &ptr) == 0)
            atomic_store_explicit(&log->regions[region], (const uint8_t *)ptr, memory_order_release);
        else
            atomic_store_explicit(&log->map_failed, true, memory_order_relaxed);
    }
    cmb_mutex_unlock(&log->map_lock);
    return ptr;
}

const uint8_t *cmb_map_at(cmb_log *log, uint64_t offset)
{
    uint64_t region = offset >> CMB_MAP_REGION_SHIFT;
    if (region >= CMB_MAP_REGIONS || !(log->caps.flags & CMB_CAP_MAP) || offset >= log->caps.max_size)
        return NULL;
    const uint8_t *base = atomic_load_explicit(&log->regions[region], memory_order_acquire);
    if (CMB_UNLIKELY(!base)) {
        if (atomic_load_explicit(&log->map_failed, memory_order_relaxed))
            return NULL;
        base = map_region(log, (unsigned)region);
    }
    return base ? base + (offset & ((UINT64_C(1) << CMB_MAP_REGION_SHIFT) - 1)) : NULL;
}

const void *cmb_log_peek(cmb_log *log, uint64_t addr, uint32_t length)
{
    uint64_t offset;
    if (!(log->caps.flags & CMB_CAP_MAP) || !cmb_log_locate(log, addr, length, &offset))
        return NULL;
    return cmb_map_at(log, offset);
}
