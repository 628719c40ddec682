/* SPDX-License-Identifier: ISC */
/*
 * scan.c: looks at a segment frame by frame and record by record, and goes on behind damage. For
 * fsck, inspect and salvage; trusts nothing that it has not checked.
 */
#include "log/internal.h"

typedef struct scanner {
    cmb_log *log;
    uint64_t segment, physical, used;
    uint8_t *buf;       /* the segment's bytes around the place: CMB_FRAME_MAX */
    cmb_queue *queue;
    int (*fn)(void *ctx, const cmb_scan_event *event);
    void *ctx;
} scanner;

/* Records of one checked frame. */
static int scan_records(scanner *s, const uint8_t *frame, const cmb_frame_info *info, cmb_scan_event *ev)
{
    uint32_t at = CMB_FRAME_HEADER, end = CMB_FRAME_HEADER + info->payload;
    int e = 0;
    for (uint32_t i = 0; i < info->records && !e; i++) {
        uint32_t length = end - at >= CMB_RECORD_HEADER ? cmb_record_length(frame + at) : 0;
        ev->addr = info->addr + at;
        ev->error = 0;
        if (length < CMB_RECORD_HEADER || length > end - at) {
            ev->record = NULL;
            ev->length = 0;
            ev->error = cmb_fail(CMB_ECORRUPT, "record at %llu: length %u of %u", (unsigned long long)ev->addr,
                                 (unsigned)length, (unsigned)(end - at));
            return s->fn(s->ctx, ev);
        }
        ev->record = frame + at;
        ev->length = length;
        ev->kind = cmb_record_kind_of(frame + at);
        e = s->fn(s->ctx, ev);
        at += (uint32_t)cmb_align_up(length, CMB_RECORD_ALIGN);
    }
    return e;
}

/* One block of a segment of frames. *out_step: how far to go on. */
static int scan_frame(scanner *s, uint64_t offset, bool *lost, uint64_t *out_step)
{
    cmb_log *log = s->log;
    uint64_t addr = (s->segment << log->shift) + offset;
    cmb_scan_event ev = {.frame_addr = addr, .addr = addr};
    cmb_frame_info info;
    *out_step = CMB_BLOCK;
    int e = cmb_segment_read(log, s->queue, s->physical, offset, s->buf, CMB_BLOCK);
    const char *what = e ? "cannot be read" : NULL;
    if (!e && !cmb_frame_header_ok(log, s->buf, addr, s->used - offset, &info))
        what = "no frame header";
    if (!what) {
        uint32_t length = cmb_frame_blocks(CMB_FRAME_HEADER + info.payload);
        if (length > CMB_BLOCK && cmb_segment_read(log, s->queue, s->physical, offset, s->buf, length))
            what = "cannot be read";
        else if (!cmb_frame_check_ok(s->buf, &info))
            what = "wrong frame check";
        else
            *out_step = length;
    }
    if (what) { /* a damaged stretch is told once */
        bool told = *lost;
        *lost = true;
        if (told)
            return 0;
        ev.error = cmb_fail(CMB_ECORRUPT, "%s: frame at %llu: %s", log->dev->name, (unsigned long long)addr, what);
        return s->fn(s->ctx, &ev);
    }
    *lost = false;
    ev.frame_length = CMB_FRAME_HEADER + info.payload;
    ev.seq = info.seq;
    ev.epoch = info.epoch;
    ev.durable_seq = info.durable;
    ev.flags = info.flags;
    e = s->fn(s->ctx, &ev);
    return e ? e : scan_records(s, s->buf, &info, &ev);
}

/* One run of a compacted segment. */
static int scan_run(scanner *s, const cmb_run *run)
{
    cmb_log *log = s->log;
    uint64_t addr = (s->segment << log->shift) + (uint64_t)run->logical * CMB_RECORD_ALIGN;
    uint32_t length = run->length * CMB_RECORD_ALIGN;
    cmb_scan_event ev = {.frame_addr = addr, .addr = addr, .frame_length = length};
    int e = length > CMB_FRAME_MAX ? CMB_ECORRUPT
                                   : cmb_segment_read(log, s->queue, s->physical,
                                                      (uint64_t)run->physical * CMB_RECORD_ALIGN, s->buf, length);
    if (e || cmb_hash64(s->buf, length, addr) != run->check) {
        ev.error = cmb_fail(CMB_ECORRUPT, "%s: run at %llu is damaged", log->dev->name, (unsigned long long)addr);
        return s->fn(s->ctx, &ev);
    }
    e = s->fn(s->ctx, &ev);
    for (uint32_t at = 0; at < length && !e;) {
        uint32_t n = cmb_record_length(s->buf + at);
        ev.addr = addr + at;
        if (n < CMB_RECORD_HEADER || n > length - at) {
            ev.record = NULL;
            ev.error = cmb_fail(CMB_ECORRUPT, "%s: record at %llu: length %u", log->dev->name,
                                (unsigned long long)ev.addr, (unsigned)n);
            return s->fn(s->ctx, &ev);
        }
        ev.record = s->buf + at;
        ev.length = n;
        ev.kind = cmb_record_kind_of(s->buf + at);
        e = s->fn(s->ctx, &ev);
        at += (uint32_t)cmb_align_up(n, CMB_RECORD_ALIGN);
    }
    return e;
}

static int scan_compacted(scanner *s, uint64_t word)
{
    cmb_run *runs;
    size_t n;
    int e = cmb_runs_copy(s->log, s->segment, word, &runs, &n);
    if (e) {
        cmb_scan_event ev = {.frame_addr = s->segment << s->log->shift, .addr = s->segment << s->log->shift, .error = e};
        return s->fn(s->ctx, &ev);
    }
    for (size_t i = 0; i < n && !e; i++)
        e = scan_run(s, &runs[i]);
    cmb_release(&s->log->alloc, runs, (n ? n : 1) * sizeof *runs);
    return e;
}

int cmb_log_scan(cmb_log *log, uint64_t segment, int (*fn)(void *ctx, const cmb_scan_event *event), void *ctx)
{
    cmb_segment *entry;
    int e = cmb_table_find(log, segment, &entry);
    if (e)
        return e;
    uint64_t word = entry ? atomic_load_explicit(&entry->word, memory_order_acquire) : 0;
    if (!word)
        return cmb_fail(CMB_ENOTFOUND, "%s: logical segment %llu is not mapped", log->dev->name,
                        (unsigned long long)segment);
    scanner s = {.log = log, .segment = segment, .physical = CMB_WORD_PHYSICAL(word), .fn = fn, .ctx = ctx};
    s.used = atomic_load_explicit(&entry->written, memory_order_acquire);
    s.buf = cmb_io_buffer(&log->alloc, CMB_FRAME_MAX);
    if (!s.buf)
        return CMB_ENOMEM;
    e = cmb_log_queue_take(log, &s.queue);
    bool lost = false;
    uint64_t step = 0;
    if (!e && CMB_WORD_KIND(word) == CMB_SEG_COMPACTED)
        e = scan_compacted(&s, word);
    else
        for (uint64_t at = 0; at < s.used && !e; at += step)
            e = scan_frame(&s, at, &lost, &step);
    if (s.queue)
        cmb_log_queue_give(log, s.queue);
    cmb_io_buffer_release(&log->alloc, s.buf, CMB_FRAME_MAX);
    return e;
}
