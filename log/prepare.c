/* SPDX-License-Identifier: ISC */
/*
 * prepare.c: zeros ahead of the head, on devices that grow. A flush after a write to blocks that were never
 * written has the file system record that they are, some 12 to 16 KiB of its own journal each time. Zeros
 * written once over a stretch, with one such flush, spare that to all batches that come to lie there; but
 * they write every byte of it twice. So it pays while batches are small, and where nothing was written
 * before: segments that are used anew are never prepared.
 */
#include "log/internal.h"

#define MEAN_MAX (12u << 10)   /* bytes a batch: above, writing twice costs more than what it spares */
#define MEAN_BATCHES 64u       /* so many, about, make the mean */
#define BURST_MAX (256u << 10) /* after one so large the head may be anywhere soon */
#define BATCHES_MIN 4u         /* a process that lives for a commit or two pays for none, */
#define STEP_FIRST (64u << 10) /* and one that lives for a few for few: doubled each time, up to CMB_PREPARE_STEP */

static void count_batch(cmb_prepare *p, uint64_t bytes)
{
    if (p->batches == MEAN_BATCHES)
        p->bytes -= p->bytes / MEAN_BATCHES;
    else
        p->batches++;
    p->bytes += bytes;
}

/* So many zeros; false: no memory for them, and it is a favour anyway. */
static bool zeros_get(cmb_log *log, uint32_t length)
{
    cmb_prepare *p = &log->prepare;
    if (length <= p->zeros_size)
        return true;
    uint8_t *zeros = cmb_io_buffer(&log->alloc, length);
    if (!zeros)
        return false;
    memset(zeros, 0, length);
    cmb_prepare_free(log);
    p->zeros = zeros;
    p->zeros_size = length;
    return true;
}

void cmb_prepare_free(cmb_log *log)
{
    cmb_io_buffer_release(&log->alloc, log->prepare.zeros, log->prepare.zeros_size);
    log->prepare.zeros = NULL;
    log->prepare.zeros_size = 0;
}

/* What an earlier handle filled, or named as next, counts as fresh, for nobody knows what was there before. */
static bool was_written(cmb_log *log, uint64_t physical, uint64_t offset)
{
    _Alignas(CMB_BLOCK) uint8_t block[CMB_BLOCK];
    if (cmb_io_read(log->wq, (physical << log->shift) + offset, block, sizeof block, 0))
        return true;
    uint8_t any = 0;
    for (size_t i = 0; i < sizeof block; i++)
        any |= block[i];
    return any != 0;
}

int cmb_prepare_ahead(cmb_log *log, const cmb_frame *last, uint64_t bytes)
{
    cmb_prepare *p = &log->prepare;
    uint64_t end = (last->addr & (log->size - 1)) + cmb_frame_blocks(atomic_load_explicit(&last->fill, memory_order_relaxed));
    if (!(log->caps.flags & CMB_CAP_GROW))
        return 0;
    count_batch(p, bytes);
    if (!last->fresh || end == log->size || (p->segment == last->physical && end <= p->end))
        return 0;
    if (p->batches < BATCHES_MIN || bytes > BURST_MAX || p->bytes / p->batches > MEAN_MAX)
        return 0;
    bool looked = p->segment == last->physical;
    p->segment = last->physical;
    p->end = looked || !was_written(log, last->physical, end) ? end : log->size;
    uint32_t step = p->step ? p->step : STEP_FIRST;
    uint32_t length = step < log->size - p->end ? step : (uint32_t)(log->size - p->end);
    if (length == 0 || !zeros_get(log, length))
        return 0;
    int e = cmb_io_write(log->wq, (last->physical << log->shift) + end, p->zeros, length);
    if (e == CMB_ENOSPC) /* what matters will find out itself */
        return 0;
    if (e)
        return e;
    p->end = end + length;
    p->step = step < CMB_PREPARE_STEP ? 2 * step : step;
    atomic_fetch_add_explicit(&log->bytes_prepared, length, memory_order_relaxed);
    atomic_fetch_add_explicit(&log->bytes_written, length, memory_order_relaxed);
    return 0;
}
