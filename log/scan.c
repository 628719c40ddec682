/* SPDX-License-Identifier: ISC */
/*
 * scan.c: looks at a segment frame by frame and record by record, in the order in which they lie, and goes on behind
 * damage. For fsck, scrub, inspect and salvage; trusts nothing that it has not checked.
 *
 * Reading. A frame's length stands in its first block. So a stretch of LOOK bytes is read at once, which holds many
 * small frames, and of a large one what is missing in one further read: no byte is read or moved twice, and one
 * buffer of a frame's size stays in the processor's cache.
 *
 * A segment may be moved while it is scanned. Then what looks damaged is not: the rest of the segment is left out.
 */
#include "log/internal.h"

#define LOOK (128u << 10)
#define WINDOW_SIZE (CMB_FRAME_MAX + LOOK)
#define WORD_PLACE(w) ((w) & ~(CMB_WORD_OPEN | CMB_WORD_CLOSED))

struct cmb_scanner {
    cmb_log *log;
    cmb_queue *queue;
    uint32_t flags;     /* of reads */
    uint8_t *window;
    uint64_t at, valid; /* device bytes in the window */
    uint64_t bad_end, look; /* up to there of the segment something cannot be read: so much is read at once */
    /* the segment being scanned */
    const cmb_segment *entry;
    uint64_t segment, word, base, used; /* base: of the segment on the device; used: bytes that may be read from there */
    bool lost;          /* within a damaged stretch, which is told once */
    int (*fn)(void *ctx, const cmb_scan_event *event);
    void *ctx;
};

int cmb_scanner_open(cmb_log *log, uint32_t flags, cmb_scanner **out_scanner)
{
    cmb_scanner *s = cmb_zalloc(&log->alloc, sizeof *s);
    if (!s)
        return CMB_ENOMEM;
    s->log = log;
    s->flags = log->caps.flags & CMB_CAP_UNCACHED ? flags : 0;
    s->window = cmb_io_buffer(&log->alloc, WINDOW_SIZE);
    int e = s->window ? cmb_log_queue_take(log, &s->queue) : CMB_ENOMEM;
    if (e) {
        cmb_scanner_close(s);
        return e;
    }
    *out_scanner = s;
    return 0;
}

void cmb_scanner_close(cmb_scanner *s)
{
    if (!s)
        return;
    if (s->queue)
        cmb_log_queue_give(s->log, s->queue);
    cmb_io_buffer_release(&s->log->alloc, s->window, WINDOW_SIZE);
    cmb_release(&s->log->alloc, s, sizeof *s);
}

/* ---- reading ---- */

/* Fills the window so that [offset, offset + length) of the segment is in it; `offset` and `length` are whole blocks. */
static int window_fill(cmb_scanner *s, uint64_t offset, uint64_t length)
{
    uint64_t kept = 0, limit = cmb_align_up(s->used, CMB_BLOCK) - offset;
    if (offset >= s->at && offset < s->at + s->valid) {
        kept = s->at + s->valid - offset;
        memmove(s->window, s->window + (offset - s->at), (size_t)kept);
    }
    uint64_t look = offset < s->bad_end ? s->look : LOOK, wish = length > look ? length : look < limit ? look : limit;
    s->at = offset;
    s->valid = kept;
    int e = cmb_io_read(s->queue, s->base + offset + kept, s->window + kept, wish - kept, s->flags);
    if (e && wish > length) { /* what was not asked for may be what cannot be read */
        s->look = look / 2 > CMB_BLOCK ? look / 2 : CMB_BLOCK;
        s->bad_end = offset + wish;
        wish = length;
        e = cmb_io_read(s->queue, s->base + offset + kept, s->window + kept, wish - kept, s->flags);
    }
    if (!e)
        s->valid = wish;
    return e;
}

/* Makes [offset, offset + length) of the segment readable until the next call. */
static int window_get(cmb_scanner *s, uint64_t offset, uint64_t length, const uint8_t **out_bytes)
{
    if (offset < s->at || offset + length > s->at + s->valid) {
        uint64_t from = offset & ~(uint64_t)(CMB_BLOCK - 1);
        int e = window_fill(s, from, cmb_align_up(offset + length, CMB_BLOCK) - from);
        if (e)
            return e;
    }
    *out_bytes = s->window + (offset - s->at);
    return 0;
}

static bool moved(const cmb_scanner *s)
{
    return WORD_PLACE(atomic_load_explicit(&s->entry->word, memory_order_acquire)) != WORD_PLACE(s->word);
}

/* ---- telling ---- */

/* Records in [at, end) of a checked frame or run; `count`: how many there are. */
static int tell_records(cmb_scanner *s, const uint8_t *bytes, uint32_t at, uint32_t end, uint32_t count, uint64_t addr,
                        cmb_scan_event *ev)
{
    int e = 0;
    for (uint32_t i = 0; i < count && at < end && !e; i++) {
        uint32_t length = end - at >= CMB_RECORD_HEADER ? cmb_record_length(bytes + at) : 0;
        ev->addr = addr + at;
        ev->error = 0;
        if (length < CMB_RECORD_HEADER || length > end - at) {
            ev->record = NULL;
            ev->length = 0;
            ev->error = cmb_fail(CMB_ECORRUPT, "%s: record at %llu: length %u of %u", s->log->dev->name,
                                 (unsigned long long)ev->addr, (unsigned)length, (unsigned)(end - at));
            return s->fn(s->ctx, ev);
        }
        ev->record = bytes + at;
        ev->length = length;
        ev->kind = cmb_record_kind_of(bytes + at);
        e = s->fn(s->ctx, ev);
        at += (uint32_t)cmb_align_up(length, CMB_RECORD_ALIGN);
    }
    return e;
}

static int tell_damage(cmb_scanner *s, cmb_scan_event *ev, const char *thing, const char *what)
{
    ev->error = cmb_fail(CMB_ECORRUPT, "%s: %s at %llu: %s", s->log->dev->name, thing, (unsigned long long)ev->frame_addr, what);
    return s->fn(s->ctx, ev);
}

/* What is at `offset` of a segment of frames. *out_step: how far to go on. */
static int scan_frame(cmb_scanner *s, uint64_t offset, uint64_t *out_step)
{
    uint64_t addr = (s->segment << s->log->shift) + offset;
    cmb_scan_event ev = {.frame_addr = addr, .addr = addr};
    cmb_frame_info info = {0};
    const uint8_t *frame;
    const char *what = window_get(s, offset, CMB_BLOCK, &frame) ? "cannot be read" : NULL;
    *out_step = CMB_BLOCK;
    if (!what && !cmb_frame_header_ok(s->log, frame, addr, s->used - offset, &info))
        what = "no frame header";
    uint32_t length = cmb_frame_blocks(CMB_FRAME_HEADER + info.payload);
    if (!what && window_get(s, offset, length, &frame))
        what = "cannot be read";
    if (!what && !cmb_frame_check_ok(frame, &info))
        what = "wrong frame check";
    if (what) {
        bool told = s->lost;
        s->lost = true;
        return told || moved(s) ? 0 : tell_damage(s, &ev, "frame", what);
    }
    *out_step = length;
    s->lost = false;
    ev.frame_length = CMB_FRAME_HEADER + info.payload;
    ev.seq = info.seq;
    ev.epoch = info.epoch;
    ev.durable_seq = info.durable;
    ev.flags = info.flags;
    int e = s->fn(s->ctx, &ev);
    return e ? e : tell_records(s, frame, CMB_FRAME_HEADER, ev.frame_length, info.records, addr, &ev);
}

/* One run of a compacted segment. */
static int scan_run(cmb_scanner *s, const cmb_run *run)
{
    uint64_t addr = (s->segment << s->log->shift) + (uint64_t)run->logical * CMB_RECORD_ALIGN;
    uint64_t length = (uint64_t)run->length * CMB_RECORD_ALIGN;
    const uint8_t *bytes;
    cmb_scan_event ev = {.frame_addr = addr, .addr = addr};
    const char *what = (uint64_t)run->physical * CMB_RECORD_ALIGN + length > s->used ? "past the footer"
                       : length > CMB_RECORD_MAX                                      ? "too long"
                       : window_get(s, (uint64_t)run->physical * CMB_RECORD_ALIGN, length, &bytes) ? "cannot be read"
                       : cmb_hash64(bytes, (size_t)length, addr) != run->check ? "wrong check"
                                                                                : NULL;
    ev.frame_length = (uint32_t)length;
    if (what)
        return moved(s) ? 0 : tell_damage(s, &ev, "run", what);
    int e = s->fn(s->ctx, &ev);
    return e ? e : tell_records(s, bytes, 0, (uint32_t)length, UINT32_MAX, addr, &ev);
}

static int scan_compacted(cmb_scanner *s, uint64_t from, uint64_t bytes, uint64_t *out_next)
{
    cmb_run *runs;
    size_t n;
    uint64_t start = s->segment << s->log->shift, done = 0;
    int e = cmb_runs_copy(s->log, s->segment, s->word, &runs, &n);
    if (e) {
        cmb_scan_event ev = {.frame_addr = start, .addr = start, .error = e};
        return e == CMB_ENOMEM ? e : moved(s) ? 0 : s->fn(s->ctx, &ev);
    }
    for (size_t i = 0; i < n && !e; i++) {
        if (start + (uint64_t)runs[i].logical * CMB_RECORD_ALIGN < from)
            continue;
        if (done >= bytes) {
            *out_next = start + (uint64_t)runs[i].logical * CMB_RECORD_ALIGN;
            break;
        }
        done += (uint64_t)runs[i].length * CMB_RECORD_ALIGN;
        e = scan_run(s, &runs[i]);
    }
    cmb_release(&s->log->alloc, runs, (n ? n : 1) * sizeof *runs);
    return e;
}

static int scan_frames(cmb_scanner *s, uint64_t from, uint64_t bytes, uint64_t *out_next)
{
    int e = 0;
    uint64_t start = s->segment << s->log->shift, first = cmb_align_up(from - start, CMB_BLOCK);
    for (uint64_t at = first, step; at < s->used && !e; at += step) {
        if (at - first >= bytes) {
            *out_next = start + at;
            break;
        }
        e = scan_frame(s, at, &step);
    }
    return e;
}

int cmb_scanner_run(cmb_scanner *s, uint64_t from, uint64_t bytes, int (*fn)(void *ctx, const cmb_scan_event *event), void *ctx,
                    uint64_t *out_next)
{
    cmb_log *log = s->log;
    cmb_segment *entry;
    uint64_t segment = from >> log->shift, next = (segment + 1) << log->shift;
    int e = cmb_table_find(log, segment, &entry);
    if (e)
        return e;
    s->word = entry ? atomic_load_explicit(&entry->word, memory_order_acquire) : 0;
    if (!s->word)
        return cmb_fail(CMB_ENOTFOUND, "%s: logical segment %llu is not mapped", log->dev->name, (unsigned long long)segment);
    bool compacted = CMB_WORD_KIND(s->word) == CMB_SEG_COMPACTED;
    s->entry = entry;
    s->base = CMB_WORD_PHYSICAL(s->word) << log->shift;
    s->used = compacted ? CMB_WORD_FOOTER(s->word) : atomic_load_explicit(&entry->written, memory_order_acquire);
    s->lost = s->lost && s->segment == segment;
    s->segment = segment;
    s->fn = fn;
    s->ctx = ctx;
    s->at = s->valid = s->bad_end = 0;
    bytes = bytes ? bytes : UINT64_MAX;
    e = compacted ? scan_compacted(s, from, bytes, &next) : scan_frames(s, from, bytes, &next);
    if (!e)
        *out_next = next;
    return e;
}

int cmb_log_scan(cmb_log *log, uint64_t segment, int (*fn)(void *ctx, const cmb_scan_event *event), void *ctx)
{
    cmb_scanner *s;
    uint64_t next;
    int e = cmb_scanner_open(log, 0, &s);
    if (e)
        return e;
    e = cmb_scanner_run(s, segment << log->shift, 0, fn, ctx, &next);
    cmb_scanner_close(s);
    return e;
}

uint64_t cmb_log_tail_start(cmb_log *log)
{
    cmb_mutex_lock(&log->lock);
    uint64_t start = (log->super.pos.segment << log->shift) + log->super.pos.offset;
    cmb_mutex_unlock(&log->lock);
    return start;
}

bool cmb_log_is_stale(cmb_log *log)
{
    cmb_queue *queue;
    cmb_super_slots slots;
    if (log->writable || cmb_log_queue_take(log, &queue))
        return false;
    bool stale = cmb_super_load(log->dev, queue, &log->alloc, &slots) == 0 && slots.best.generation > log->super.generation + 1;
    cmb_log_queue_give(log, queue);
    return stale;
}

int cmb_log_check_supers(cmb_log *log, unsigned *out_bad)
{
    cmb_queue *queue;
    cmb_super_slots slots;
    int e = cmb_log_queue_take(log, &queue);
    if (e)
        return e;
    e = cmb_super_load(log->dev, queue, &log->alloc, &slots);
    cmb_log_queue_give(log, queue);
    if (!e)
        *out_bad = slots.bad_copies;
    return e;
}

int cmb_log_mend_supers(cmb_device *dev, const cmb_allocator *alloc, unsigned *out_mended)
{
    cmb_caps caps;
    cmb_queue *queue;
    cmb_super_slots slots;
    cmb_device_caps(dev, &caps);
    int e = cmb_queue_open(dev, 1, &queue);
    if (e)
        return e;
    uint8_t *block = cmb_io_buffer(alloc, CMB_BLOCK);
    e = block ? cmb_super_load(dev, queue, alloc, &slots) : CMB_ENOMEM;
    if (!e && slots.bad_copies)
        e = cmb_super_write(queue, &slots.best, slots.bad_copies, block);
    if (!e && slots.bad_copies && caps.flags & CMB_CAP_FLUSH) {
        e = cmb_io_flush(queue);
        e = e ? e : cmb_same_connection(dev, caps.generation);
    }
    cmb_io_buffer_release(alloc, block, CMB_BLOCK);
    cmb_queue_close(queue);
    if (!e)
        *out_mended = (unsigned)__builtin_popcount(slots.bad_copies);
    return e;
}
