/* SPDX-License-Identifier: ISC */
/*
 * stream.c: segments that a large transaction fills on its own, beside the head. Until a head unit
 * adopts them no checkpoint saves their mapping, and a crash gives them back.
 *
 * Frames are gathered in a burst and written some 4 MiB at a time, a segment of a file that grows in one
 * piece: fewer calls, and a file system that keeps large pieces in large pages maps them as such.
 */
#include "log/internal.h"

#include <assert.h>

#define BURST_BYTES (4u << 20)
#define END_BYTES (64u << 10)

static uint32_t burst_capacity(const cmb_log *log)
{
    return log->size <= BURST_BYTES ? (uint32_t)log->size : BURST_BYTES + CMB_FRAME_MAX + END_BYTES;
}

int cmb_log_stream(cmb_log *log, cmb_appender **out_app)
{
    if (!log->writable || atomic_load_explicit(&log->failed, memory_order_acquire))
        return cmb_log_refuse(log);
    cmb_appender *s = cmb_zalloc(&log->alloc, sizeof *s);
    if (!s)
        return CMB_ENOMEM;
    s->log = log;
    s->stream = true;
    int e = cmb_log_queue_take(log, &s->queue);
    if (e) {
        cmb_release(&log->alloc, s, sizeof *s);
        return e;
    }
    cmb_mutex_lock(&log->lock);
    e = cmb_space_load(log);
    if (!e)
        e = cmb_epoch_begin(log);
    if (!e) {
        s->generation = cmb_log_generation(log);
        s->next = log->streams;
        log->streams = s;
    }
    cmb_mutex_unlock(&log->lock);
    if (e)
        cmb_stream_free(s);
    else
        *out_app = s;
    return e;
}

void cmb_stream_free(cmb_appender *s)
{
    cmb_log *log = s->log;
    if (s->queue)
        cmb_log_queue_give(log, s->queue);
    cmb_io_buffer_release(&log->alloc, s->burst, burst_capacity(log));
    cmb_release(&log->alloc, s->segments, s->segments_capacity * sizeof *s->segments);
    cmb_release(&log->alloc, s, sizeof *s);
}

static void unlink_stream(cmb_log *log, cmb_appender *s)
{
    for (cmb_appender **at = &log->streams; *at; at = &(*at)->next) {
        if (*at == s) {
            *at = s->next;
            s->next = NULL;
            return;
        }
    }
}

void cmb_stream_drop(cmb_appender *s)
{
    cmb_log *log = s->log;
    cmb_mutex_lock(&log->lock);
    unlink_stream(log, s);
    for (size_t i = 0; i < s->n_segments; i++) {
        cmb_table_set(log, s->segments[i].segment, 0, 0, 0);
        cmb_space_give(log, s->segments[i].physical);
    }
    cmb_mutex_unlock(&log->lock);
    cmb_stream_free(s);
}

/* ---- writing ---- */

/* What nothing refers to yet can be done without: for want of space only the stream fails. */
static int stream_failed(cmb_appender *s, int e, const char *doing)
{
    if (e == CMB_ENOSPC)
        return s->error = e;
    s->error = cmb_log_latch(s->log, doing);
    return s->error;
}

/* The frame that is full, or the last one, joins the burst. */
static void seal_frame(cmb_appender *s)
{
    cmb_log *log = s->log;
    cmb_frame *f = s->frame;
    if (!f)
        return;
    uint32_t length = cmb_frame_blocks(atomic_load_explicit(&f->fill, memory_order_relaxed));
    f->flags = CMB_FRAME_STREAM;
    cmb_frame_seal(log, f, 0, s->prev, cmb_log_durable_seq(log), &s->prev);
    cmb_mutex_lock(&log->lock);
    s->burst_fill += length;
    s->head.offset += length;
    s->segments[s->n_segments - 1].end = s->head.offset;
    s->frame = NULL;
    cmb_mutex_unlock(&log->lock);
}

/* No frame is open. The few blocks that are left at a segment's end are written as well: large pages have no holes. */
static int write_burst(cmb_appender *s)
{
    cmb_log *log = s->log;
    uint32_t fill = s->burst_fill, offset = s->head.offset - fill, length = fill;
    assert(!s->frame);
    if (fill == 0)
        return 0;
    if (log->size - s->head.offset <= END_BYTES)
        length += (uint32_t)log->size - s->head.offset;
    int e = cmb_io_write(s->queue, (s->head.physical << log->shift) + offset, s->burst, length);
    if (e)
        return stream_failed(s, e, "stream");
    atomic_fetch_add_explicit(&log->bytes_written, length, memory_order_relaxed);
    cmb_mutex_lock(&log->lock);
    atomic_store_explicit(&cmb_table_at(log, s->head.segment)->written, s->head.offset, memory_order_release);
    s->burst_fill = 0; /* readers copy from it under the lock */
    cmb_mutex_unlock(&log->lock);
    memset(s->burst, 0, fill);
    return 0;
}

bool cmb_stream_read_queued(const cmb_appender *s, uint64_t addr, uint32_t length, void *out_buf)
{
    uint64_t end = (s->head.segment << s->log->shift) + s->head.offset;
    if (s->frame)
        end = s->frame->addr + atomic_load_explicit(&s->frame->fill, memory_order_acquire);
    uint64_t start = (s->head.segment << s->log->shift) + s->head.offset - s->burst_fill;
    if (s->n_segments == 0 || !s->burst || addr < start || addr + length > end)
        return false;
    memcpy(out_buf, s->burst + (addr - start), length);
    return true;
}

static int segments_reserve(cmb_appender *s)
{
    if (s->n_segments < s->segments_capacity)
        return 0;
    size_t capacity = s->segments_capacity ? s->segments_capacity * 2 : 8;
    void *items = cmb_resize(&s->log->alloc, s->segments, s->segments_capacity * sizeof *s->segments,
                             capacity * sizeof *s->segments);
    if (!items)
        return CMB_ENOMEM;
    s->segments = items;
    s->segments_capacity = capacity;
    return 0;
}

/* Under `lock`. */
static int next_segment(cmb_appender *s)
{
    cmb_log *log = s->log;
    uint64_t physical;
    cmb_segment *segment;
    int e = segments_reserve(s);
    if (!e)
        e = cmb_table_make(log, log->next_logical, &segment);
    if (!e)
        e = cmb_space_take(log, /* urgent= */ false, &physical);
    if (e)
        return e;
    s->head = (cmb_head){log->next_logical++, physical, 0};
    s->segments[s->n_segments++] = (cmb_stream_segment){s->head.segment, physical, 0};
    cmb_table_set(log, s->head.segment, cmb_word(physical, CMB_SEG_STREAM, CMB_WORD_OPEN), 0, 0);
    return 0;
}

static int reserve_burst(cmb_appender *s)
{
    if (s->burst)
        return 0;
    uint8_t *burst = cmb_io_buffer(&s->log->alloc, burst_capacity(s->log));
    if (!burst)
        return CMB_ENOMEM;
    memset(burst, 0, burst_capacity(s->log));
    s->burst = burst;
    return 0;
}

static int begin_frame(cmb_appender *s, uint32_t aligned)
{
    cmb_log *log = s->log;
    uint32_t need = CMB_FRAME_HEADER + aligned;
    bool full = s->n_segments == 0 || s->head.offset + need > log->size;
    int e = reserve_burst(s);
    if (!e && (full || s->burst_fill >= BURST_BYTES))
        e = write_burst(s);
    cmb_mutex_lock(&log->lock);
    if (!e && full)
        e = next_segment(s);
    if (!e) {
        uint32_t room = (uint32_t)log->size - s->head.offset;
        s->filling = (cmb_frame){.addr = (s->head.segment << log->shift) + s->head.offset,
                             .physical = s->head.physical,
                             .capacity = room < CMB_FRAME_MAX ? room : CMB_FRAME_MAX,
                             .buf = s->burst + s->burst_fill};
        atomic_store_explicit(&s->filling.fill, CMB_FRAME_HEADER, memory_order_relaxed);
        s->frame = &s->filling;
    }
    cmb_mutex_unlock(&log->lock);
    return e;
}

static int refuse(const cmb_appender *s)
{
    return s->error == CMB_ENOSPC ? cmb_fail(CMB_ENOSPC, "%s: no space for the stream", s->log->dev->name)
                                  : cmb_log_refuse(s->log);
}

int cmb_stream_append(cmb_appender *s, uint32_t length, uint64_t *out_addr, void **out_buf)
{
    uint32_t aligned = (uint32_t)cmb_align_up(length, CMB_RECORD_ALIGN);
    assert(!s->finished);
    if (s->error || atomic_load_explicit(&s->log->failed, memory_order_relaxed))
        return refuse(s);
    int e = 0;
    if (s->frame && atomic_load_explicit(&s->frame->fill, memory_order_relaxed) + aligned > s->frame->capacity)
        seal_frame(s);
    if (!e && !s->frame)
        e = begin_frame(s, aligned);
    if (e)
        return e;
    *out_buf = cmb_frame_take(s->frame, length, out_addr);
    s->bytes += aligned;
    return 0;
}

int cmb_stream_rise(cmb_appender *s)
{
    cmb_log *log = s->log;
    assert(!s->finished);
    if (s->error || atomic_load_explicit(&log->failed, memory_order_acquire))
        return refuse(s);
    cmb_mutex_lock(&log->lock);
    bool low = s->n_segments && s->head.segment < log->head.segment;
    cmb_mutex_unlock(&log->lock);
    if (!low)
        return 0;
    seal_frame(s);
    int e = write_burst(s);
    cmb_mutex_lock(&log->lock);
    if (!e)
        s->head.offset = (uint32_t)log->size; /* the next frame takes a new segment */
    cmb_mutex_unlock(&log->lock);
    return e;
}

int cmb_stream_finish(cmb_appender *s)
{
    cmb_log *log = s->log;
    if (s->error || atomic_load_explicit(&log->failed, memory_order_acquire))
        return refuse(s);
    seal_frame(s);
    int e = write_burst(s);
    if (e)
        return e;
    e = cmb_log_flush(log, s->queue, s->generation);
    if (e)
        return stream_failed(s, CMB_EIO, "stream"); /* what was flushed is unknown, whatever the reason */
    s->finished = true;
    return 0;
}

/* ---- adopting ---- */

/* Makes everything ready that publishing will change, so that it cannot fail. Under `lock`. */
static int adopt_ready(cmb_log *log, const cmb_appender *s)
{
    for (size_t i = 0; i < s->n_segments; i++) {
        int e = cmb_space_touch(log, s->segments[i].physical);
        if (e)
            return e;
        cmb_radix_dirty(&log->table, cmb_radix_peek(&log->table, s->segments[i].segment));
    }
    return 0;
}

int cmb_append_adopt(cmb_appender *head, cmb_appender *s)
{
    cmb_log *log = head->log;
    if (!s->finished || !s->stream || head->stream)
        return cmb_fail(CMB_EINVAL, "a stream has to be finished before a unit adopts it");
    cmb_mutex_lock(&log->lock);
    int e = adopt_ready(log, s);
    if (!e && s->n_segments && log->head.segment < s->segments[s->n_segments - 1].segment)
        e = cmb_head_move(head);
    if (!e) {
        unlink_stream(log, s);
        s->next = head->adopted;
        head->adopted = s;
    }
    cmb_mutex_unlock(&log->lock);
    return e;
}
