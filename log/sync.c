/* SPDX-License-Identifier: ISC */
/*
 * sync.c: group commit. Of the threads that wait for a batch one becomes the writer: it takes all
 * whole batches, writes them, flushes once and wakes the others. Meanwhile appenders fill the next
 * batch. A batch ends where a unit ends; a writer that finds a unit open leaves word, and the unit's
 * owner cuts the batch as soon as it is done.
 */
#include "log/internal.h"

#include <assert.h>
#include <stdio.h>

#define REQUESTS 32u

int cmb_log_latch(cmb_log *log, const char *doing)
{
    cmb_mutex_lock(&log->lock);
    if (!atomic_load_explicit(&log->failed, memory_order_relaxed)) {
        snprintf(log->why, sizeof log->why, "%s: %s", doing, cmb_error_detail());
        atomic_store_explicit(&log->failed, true, memory_order_release);
    }
    cmb_cond_broadcast(&log->changed);
    cmb_mutex_unlock(&log->lock);
    return cmb_fail(CMB_EUNKNOWN, "%s: %s", log->dev->name, log->why);
}

int cmb_log_refuse(cmb_log *log)
{
    if (!log->writable)
        return cmb_fail(CMB_EREADONLY, "%s: opened for reading", log->dev->name);
    return cmb_fail(CMB_EREADONLY, "%s: read-only since an error (%s)", log->dev->name, log->why);
}

void cmb_writer_take(cmb_log *log)
{
    while (log->writing)
        cmb_cond_wait(&log->changed, &log->lock);
    log->writing = true;
}

void cmb_writer_give(cmb_log *log)
{
    log->writing = false;
    cmb_cond_broadcast(&log->changed);
}

uint64_t cmb_log_generation(const cmb_log *log)
{
    cmb_caps caps;
    cmb_device_caps(log->dev, &caps);
    return caps.generation;
}

int cmb_same_connection(cmb_device *dev, uint64_t generation)
{
    cmb_caps caps;
    cmb_device_caps(dev, &caps);
    if (caps.generation != generation)
        return cmb_fail(CMB_EIO, "%s: the back end restarted between write and flush", dev->name);
    return 0;
}

/*
 * One at a time, and none after one that failed: a device (a file, under Linux) may tell of a write that was lost to one
 * flush alone, whichever comes first, and whoever else waits for that write must not be told that it is durable.
 */
int cmb_log_flush(cmb_log *log, cmb_queue *queue, uint64_t generation)
{
    if (!(log->caps.flags & CMB_CAP_FLUSH))
        return 0;
    cmb_mutex_lock(&log->flush_lock);
    int e = log->flush_failed ? cmb_fail(CMB_EIO, "%s: an earlier flush has failed", log->dev->name) : 0;
    if (!e)
        e = cmb_io_flush(queue);
    log->flush_failed |= e != 0;
    cmb_mutex_unlock(&log->flush_lock);
    if (e)
        return e;
    atomic_fetch_add_explicit(&log->flushes, 1, memory_order_relaxed);
    return cmb_same_connection(log->dev, generation);
}

/* ---- writing ---- */

typedef struct burst {
    cmb_request requests[REQUESTS];
    size_t n;
    uint64_t bytes;
} burst;

static int burst_send(cmb_log *log, burst *b)
{
    int e = b->n ? cmb_io_many(log->wq, b->requests, b->n) : 0;
    b->n = 0;
    return e;
}

static int burst_add(cmb_log *log, burst *b, const cmb_frame *frame)
{
    uint32_t length = cmb_frame_blocks(atomic_load_explicit(&frame->fill, memory_order_relaxed));
    b->requests[b->n++] = (cmb_request){
        .op = CMB_OP_WRITE,
        .offset = (frame->physical << log->shift) + (frame->addr & (log->size - 1)),
        .length = length,
        .buffer = frame->buf,
    };
    b->bytes += length;
    return b->n == REQUESTS ? burst_send(log, b) : 0;
}

/* Seals and writes a batch's frames before `stop` (NULL: all, and the batch ends). */
static int write_batch(cmb_log *log, cmb_batch *batch, const cmb_frame *stop, uint64_t durable, burst *b)
{
    for (cmb_frame *f = batch->first; f != stop; f = f->next) {
        f->flags |= (f == batch->first && !batch->started ? CMB_FRAME_FIRST : 0u)
                    | (!stop && f == batch->last ? CMB_FRAME_LAST : 0u) | (log->epoch_frame ? CMB_FRAME_EPOCH : 0u);
        log->epoch_frame = false;
        cmb_frame_seal(log, f, batch->seq, log->chain, durable, &log->chain);
        int e = burst_add(log, b, f);
        if (e)
            return e;
    }
    batch->end.prev = log->chain;
    return 0;
}

/* What was written can be read from the device now, and its memory goes. Under `lock`. */
static void frames_written(cmb_log *log, cmb_frame *first, const cmb_frame *stop)
{
    while (first != stop) {
        cmb_frame *next = first->next;
        uint32_t length = cmb_frame_blocks(atomic_load_explicit(&first->fill, memory_order_relaxed));
        cmb_segment *segment = cmb_table_at(log, first->addr >> log->shift);
        atomic_store_explicit(&segment->written, (first->addr & (log->size - 1)) + length, memory_order_release);
        cmb_segments_settle(log, first->addr >> log->shift, first->addr >> log->shift);
        log->queued -= length;
        cmb_frame_release(log, first);
        first = next;
    }
}

void cmb_segments_settle(cmb_log *log, uint64_t first, uint64_t last)
{
    for (uint64_t s = first; s <= last && s < log->stable_segment; s++) {
        cmb_segment *segment = cmb_table_at(log, s);
        uint64_t word = segment ? atomic_load_explicit(&segment->word, memory_order_relaxed) : 0;
        bool head = CMB_WORD_KIND(word) == CMB_SEG_PLAIN || CMB_WORD_KIND(word) == CMB_SEG_JOURNAL;
        if (head && !(word & CMB_WORD_CLOSED)
            && atomic_load_explicit(&segment->written, memory_order_relaxed) == segment->end)
            atomic_store_explicit(&segment->word, word | CMB_WORD_CLOSED, memory_order_release);
    }
}

/*
 * Writes all whole batches, and of the open one (ahead) all frames but the last. The writer's role is
 * taken; called and returns under `lock`, which is left meanwhile.
 */
static int write_all(cmb_log *log, bool ahead, bool flush)
{
    cmb_batch *list = log->cut, *open = ahead ? log->open : NULL;
    cmb_frame *stop = ahead ? open->last : NULL;
    uint64_t durable = log->durable_seq, written = log->written_seq;
    uint64_t n = 0;
    log->flight = list;
    log->cut = log->cut_last = NULL;
    cmb_mutex_unlock(&log->lock);

    burst b = {.n = 0};
    const cmb_frame *last = NULL;
    int e = 0;
    if (!log->unflushed)
        log->unflushed = cmb_log_generation(log);
    for (cmb_batch *batch = list; batch && !e; batch = batch->next, n++) {
        e = write_batch(log, batch, NULL, durable, &b);
        last = batch->last;
        written = batch->seq;
    }
    if (!e && ahead)
        e = write_batch(log, open, stop, durable, &b);
    if (!e)
        e = burst_send(log, &b);
    if (!e && last && !ahead)
        e = cmb_prepare_ahead(log, last, b.bytes);
    if (!e && flush)
        e = cmb_log_flush(log, log->wq, log->unflushed);
    if (e) {
        cmb_log_latch(log, flush ? "commit" : "write");
        cmb_mutex_lock(&log->lock);
        return CMB_EUNKNOWN; /* the frames stay in memory for readers */
    }
    if (flush)
        log->unflushed = 0;
    atomic_fetch_add_explicit(&log->bytes_written, b.bytes, memory_order_relaxed);
    atomic_fetch_add_explicit(&log->batches, n, memory_order_relaxed);

    cmb_mutex_lock(&log->lock);
    while (list) {
        cmb_batch *next = list->next;
        frames_written(log, list->first, NULL);
        if (log->position_seq == list->seq)
            log->position_prev = list->end.prev;
        if (log->spare_batch) {
            cmb_release(&log->alloc, list, sizeof *list);
        } else {
            *list = (cmb_batch){.next = NULL};
            log->spare_batch = list;
        }
        list = next;
    }
    log->flight = NULL;
    if (ahead) {
        frames_written(log, open->first, stop);
        open->first = open->last;
        open->started = true;
        open->bytes = 0;
    }
    log->written_seq = written;
    if (flush) {
        log->durable_seq = written;
        atomic_store_explicit(&log->durable_mark, written, memory_order_release);
    }
    return 0;
}

int cmb_write_ahead(cmb_appender *app)
{
    cmb_log *log = app->log;
    cmb_mutex_lock(&log->lock);
    cmb_writer_take(log);
    int e = CMB_EUNKNOWN;
    cmb_unit_note(app);
    if (!atomic_load_explicit(&log->failed, memory_order_relaxed))
        e = write_all(log, /* ahead= */ true, /* flush= */ false);
    if (!e)
        cmb_unit_keep(app);
    cmb_writer_give(log);
    cmb_mutex_unlock(&log->lock);
    return e ? cmb_log_refuse(log) : 0;
}

/* ---- waiting ---- */

/* Cuts the open batch if it has to be, waiting for the unit in it. Under `lock`. *out_again: look again. */
static int want_cut(cmb_log *log, bool *out_again)
{
    *out_again = false;
    if (!log->open->published)
        return 0;
    if (log->busy) {
        log->cut_wanted = true;
        cmb_cond_wait(&log->changed, &log->lock);
        *out_again = true;
        return 0;
    }
    log->cut_wanted = false;
    return cmb_batch_cut(log);
}

static int sync_locked(cmb_log *log, uint64_t seq, bool flush)
{
    for (;;) {
        if ((flush ? log->durable_seq : log->written_seq) >= seq)
            return 0;
        if (atomic_load_explicit(&log->failed, memory_order_relaxed))
            return cmb_fail(CMB_EUNKNOWN, "%s: %s", log->dev->name, log->why);
        if (log->writing) {
            cmb_cond_wait(&log->changed, &log->lock);
            continue;
        }
        if (log->open->seq <= seq) {
            bool again;
            int e = want_cut(log, &again);
            if (e)
                return e;
            if (again)
                continue;
            if (log->open->seq <= seq)
                return cmb_fail(CMB_EINVAL, "batch %llu does not exist yet", (unsigned long long)seq);
        }
        log->writing = true;
        int e = write_all(log, /* ahead= */ false, flush);
        cmb_writer_give(log);
        if (e)
            return cmb_fail(CMB_EUNKNOWN, "%s: %s", log->dev->name, log->why);
    }
}

int cmb_log_sync(cmb_log *log, uint64_t seq)
{
    if (atomic_load_explicit(&log->durable_mark, memory_order_acquire) >= seq)
        return 0;
    if (!log->writable)
        return cmb_log_refuse(log);
    cmb_mutex_lock(&log->lock);
    int e = sync_locked(log, seq, /* flush= */ true);
    cmb_mutex_unlock(&log->lock);
    return e;
}

uint64_t cmb_log_durable_seq(const cmb_log *log)
{
    return atomic_load_explicit(&log->durable_mark, memory_order_acquire);
}

int cmb_log_write_out(cmb_log *log)
{
    if (!log->writable)
        return 0;
    cmb_mutex_lock(&log->lock);
    uint64_t seq = log->open->published ? log->open->seq : log->open->seq - 1;
    int e = sync_locked(log, seq, /* flush= */ false);
    cmb_mutex_unlock(&log->lock);
    return e;
}

/* ---- seals ---- */

/* Puts an empty frame that is a batch of its own after everything. Under `lock`, no unit open. */
static int append_seal(cmb_log *log, uint64_t *out_seq)
{
    assert(!log->open->published && !log->open->started);
    uint32_t end = cmb_head_end(log);
    /* The last block is kept for announcing further segments when none is left. */
    if (end + CMB_BLOCK > log->size - (log->n_next == 0 ? CMB_BLOCK : 0))
        return cmb_fail(CMB_ENOSPC, "%s: the head segment is full", log->dev->name);
    cmb_frame *frame;
    int e = cmb_frame_new(log, (log->head.segment << log->shift) + end, log->head.physical, CMB_BLOCK, &frame);
    if (e)
        return e;
    frame->flags = CMB_FRAME_SEAL;
    assert(!log->open->last);
    log->open->first = log->open->last = frame;
    log->open->published = true;
    *out_seq = log->open->seq;
    e = cmb_batch_cut(log);
    if (e) {
        log->open->first = log->open->last = NULL;
        log->open->published = false;
        cmb_frame_release(log, frame);
    }
    return e;
}

int cmb_log_seal(cmb_log *log)
{
    if (!log->writable || !log->started)
        return 0;
    cmb_mutex_lock(&log->lock);
    int e = 0;
    uint64_t seq = log->open->published ? log->open->seq : log->open->seq - 1;
    if (atomic_load_explicit(&log->failed, memory_order_relaxed))
        e = cmb_log_refuse(log);
    if (!e)
        e = sync_locked(log, seq, /* flush= */ true);
    bool idle = !log->busy && !log->open->published && !log->open->started && !log->open->last;
    if (!e && idle && log->sealed_seq < log->durable_seq) {
        e = append_seal(log, &seq);
        if (!e)
            e = sync_locked(log, seq, /* flush= */ true);
        if (!e)
            log->sealed_seq = seq;
        if (e == CMB_ENOSPC) /* a full head has nowhere to put it; the promise excepts the last batch only */
            e = 0;
    }
    cmb_mutex_unlock(&log->lock);
    return e;
}
