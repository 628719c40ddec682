/* SPDX-License-Identifier: ISC */
/*
 * recover.c: from the newest superblock to the log's end. Walks the chain of frames, accepts whole
 * batches only, and tells a torn tail from damage: a batch that is missing was acknowledged exactly
 * when a later frame says that it was durable.
 *
 * What a batch does to the table, to the space and to the root is collected while its frames are
 * read and applied when its last one is accepted.
 */
#include "log/internal.h"

#include <assert.h>

#define WINDOW_READ (256u << 10)
#define SCAN_NEXT (128u << 10) /* of the segments after the next one */
#define BROKEN_MAX (UINT64_C(256) << 20) /* bytes of frames with a wrong check: more than is ever written between two flushes */

enum { OP_MOVE = 16, OP_EDITS = 17, OP_ROOT = 18, OP_LASTS = 19 }; /* besides the entry kinds of SEGMENTS records */

typedef struct op {
    uint8_t kind;
    uint32_t physical;
    uint64_t logical; /* or an address */
    uint64_t used;    /* or a length; OP_MOVE: where the segment before ends */
} op;

typedef struct ops {
    op *items;
    size_t n, capacity;
} ops;

typedef struct walker {
    cmb_log *log;
    cmb_queue *queue;
    uint32_t flags;     /* of reads */
    uint8_t *window;    /* CMB_FRAME_MAX bytes */
    uint64_t at, valid; /* device bytes in the window */
    cmb_position tail;  /* after the last accepted batch; its seq is the next one's */
    cmb_position here;  /* after the last accepted frame */
    unsigned taken;     /* next segments used by the frames of the batch being read */
    bool in_batch;
    uint64_t epoch, epoch_here;
    ops pending, edits;
    bool sealed;
    uint64_t broken;     /* bytes of frames whose header is right and whose check is not */
    uint64_t connection; /* under which frames were written again, 0: none were */
} walker;

/* ---- frames ---- */

bool cmb_frame_header_ok(const cmb_log *log, const uint8_t *h, uint64_t addr, uint64_t room, cmb_frame_info *out_info)
{
    if (room < CMB_FRAME_HEADER || cmb_get32(h) != CMB_FRAME_MAGIC
        || memcmp(h + CMB_FRAME_AT_UUID, log->params.uuid, 16) != 0)
        return false;
    cmb_frame_info info = {
        .flags = cmb_get32(h + CMB_FRAME_AT_FLAGS),
        .payload = cmb_get32(h + CMB_FRAME_AT_PAYLOAD),
        .records = cmb_get32(h + CMB_FRAME_AT_RECORDS),
        .epoch = cmb_get64(h + CMB_FRAME_AT_EPOCH),
        .seq = cmb_get64(h + CMB_FRAME_AT_SEQ),
        .addr = cmb_get64(h + CMB_FRAME_AT_ADDR),
        .prev = cmb_get64(h + CMB_FRAME_AT_PREV),
        .durable = cmb_get64(h + CMB_FRAME_AT_DURABLE),
        .check = cmb_get64(h + CMB_FRAME_AT_CHECK),
    };
    if (info.flags & ~CMB_FRAME_FLAGS || info.payload > CMB_FRAME_MAX - CMB_FRAME_HEADER
        || info.payload > room - CMB_FRAME_HEADER || info.payload % CMB_RECORD_ALIGN || info.addr != addr)
        return false;
    *out_info = info;
    return true;
}

bool cmb_frame_check_ok(const uint8_t *frame, const cmb_frame_info *info)
{
    uint64_t payload = cmb_hash64(frame + CMB_FRAME_HEADER, info->payload, info->addr);
    return cmb_hash64(frame, CMB_FRAME_AT_CHECK, payload) == info->check;
}

/* Makes [offset, offset + length) of the device readable in the window; `limit`: where to stop reading ahead. */
static int window_get(walker *w, uint64_t offset, uint64_t length, uint64_t limit, uint8_t **out)
{
    assert(length <= CMB_FRAME_MAX && offset + length <= limit);
    if (offset < w->at || offset + length > w->at + w->valid) {
        uint64_t n = length > WINDOW_READ ? length : WINDOW_READ;
        if (n > limit - offset)
            n = limit - offset;
        w->valid = 0;
        int e = cmb_io_read(w->queue, offset, w->window, n, w->flags);
        if (e == CMB_EIO) { /* a bad block that was only read ahead hides none before it; and one failure is not for ever */
            n = length;
            e = cmb_io_read(w->queue, offset, w->window, n, w->flags);
        }
        if (e)
            return e;
        w->at = offset;
        w->valid = n;
    }
    *out = w->window + (offset - w->at);
    return 0;
}

/*
 * Looks at one place. `addr` 0: any logical segment above the present one (start of a next segment).
 * *out_frame NULL: no intact frame of this image's there. A block that cannot be read is no frame.
 */
static int frame_at(walker *w, uint64_t physical, uint64_t offset, uint64_t addr, cmb_frame_info *out_info,
                    uint8_t **out_frame)
{
    cmb_log *log = w->log;
    uint64_t base = (physical << log->shift), end = base + log->size;
    uint8_t *h;
    *out_frame = NULL;
    if (offset + CMB_BLOCK > log->size)
        return 0;
    int e = window_get(w, base + offset, CMB_BLOCK, end, &h);
    if (e)
        return e == CMB_EIO ? 0 : e;
    if (cmb_get32(h) != CMB_FRAME_MAGIC)
        return 0;
    if (!addr) {
        addr = cmb_get64(h + CMB_FRAME_AT_ADDR);
        if ((addr & (log->size - 1)) != offset || addr >> log->shift <= w->here.segment
            || addr >> log->shift > w->here.segment + CMB_LOGICAL_JUMP_MAX || addr >> 62)
            return 0;
    }
    cmb_frame_info info;
    if (!cmb_frame_header_ok(log, h, addr, log->size - offset, &info))
        return 0;
    e = window_get(w, base + offset, cmb_frame_blocks(CMB_FRAME_HEADER + info.payload), end, &h);
    if (e)
        return e == CMB_EIO ? 0 : e;
    if (!cmb_frame_check_ok(h, &info)) {
        w->broken += CMB_FRAME_HEADER + info.payload;
        return 0;
    }
    *out_info = info;
    *out_frame = h;
    return 0;
}

/* ---- what records do ---- */

static int ops_add(const cmb_log *log, ops *list, const op *item)
{
    if (list->n == list->capacity) {
        size_t capacity = list->capacity ? list->capacity * 2 : 32;
        op *items = cmb_resize(&log->alloc, list->items, list->capacity * sizeof *items, capacity * sizeof *items);
        if (!items)
            return CMB_ENOMEM;
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->n++] = *item;
    return 0;
}

static int note_segments(walker *w, const uint8_t *payload, uint32_t length, uint64_t addr)
{
    uint32_t n = length < CMB_SEGMENTS_HEADER ? 0 : cmb_get32(payload);
    if (length < CMB_SEGMENTS_HEADER || (uint64_t)n * CMB_SEGMENTS_ENTRY + CMB_SEGMENTS_HEADER != length)
        return cmb_fail(CMB_ECORRUPT, "%s: segments record at %llu: %u entries in %u bytes", w->log->dev->name,
                        (unsigned long long)addr, (unsigned)n, (unsigned)length);
    const uint8_t *p = payload + CMB_SEGMENTS_HEADER;
    int e = 0;
    for (uint32_t i = 0; i < n && !e; i++, p += CMB_SEGMENTS_ENTRY) {
        op item = {p[12], cmb_get32(p + 8), cmb_get64(p), cmb_get64(p + 16)};
        if (item.kind > CMB_SEGMENT_RETIRE || item.kind == CMB_SEG_PLAIN || item.kind == CMB_SEG_META
            || item.used > w->log->size || (item.kind == CMB_SEG_COMPACTED && item.used % CMB_BLOCK) || item.logical >= CMB_SCRATCH_BASE >> w->log->shift)
            return cmb_fail(CMB_ECORRUPT, "%s: segments record at %llu: entry %u", w->log->dev->name,
                            (unsigned long long)addr, (unsigned)i);
        e = item.kind == CMB_SEGMENT_NEXT ? cmb_space_follow(w->log, item.physical) : 0;
        if (!e)
            e = ops_add(w->log, &w->pending, &item);
    }
    if (!e && cmb_get32(payload + 4) & CMB_SEGMENTS_CHECKPOINT) {
        op item = {OP_ROOT, 0, cmb_get64(payload + 8), cmb_get32(payload + 16)};
        if (item.used > CMB_RECORD_MAX || item.logical % CMB_RECORD_ALIGN)
            return cmb_fail(CMB_ECORRUPT, "%s: segments record at %llu: a root record of %llu bytes at %llu", w->log->dev->name,
                            (unsigned long long)addr, (unsigned long long)item.used, (unsigned long long)item.logical);
        e = ops_add(w->log, &w->pending, &item);
    }
    return e;
}

static int note_records(walker *w, const uint8_t *frame, const cmb_frame_info *info)
{
    uint32_t at = CMB_FRAME_HEADER, end = CMB_FRAME_HEADER + info->payload;
    bool lasts = false;
    for (uint32_t i = 0; i < info->records; i++) {
        const uint8_t *r = frame + at;
        uint32_t length = at + CMB_RECORD_HEADER <= end ? cmb_record_length(r) : 0;
        if (length < CMB_RECORD_HEADER || length > end - at)
            return cmb_fail(CMB_ECORRUPT, "%s: record at %llu: length %u", w->log->dev->name,
                            (unsigned long long)(info->addr + at), (unsigned)length);
        int e = 0;
        lasts |= cmb_record_lasts(cmb_record_kind_of(r));
        if (cmb_record_kind_of(r) == CMB_RECORD_SEGMENTS)
            e = note_segments(w, r + CMB_RECORD_HEADER, length - CMB_RECORD_HEADER, info->addr + at);
        else if (cmb_record_kind_of(r) == CMB_RECORD_EDITS || cmb_record_kind_of(r) == CMB_RECORD_INTENTS)
            e = ops_add(w->log, &w->pending, &(op){OP_EDITS, 0, info->addr + at, length});
        if (e)
            return e;
        at += (uint32_t)cmb_align_up(length, CMB_RECORD_ALIGN);
    }
    return lasts ? ops_add(w->log, &w->pending, &(op){OP_LASTS, 0, info->addr >> w->log->shift, 0}) : 0;
}

/* ---- applying a batch ---- */

/* PLAIN or JOURNAL, whatever a record that was tampered with made of its entry. */
static cmb_segment_kind head_kind(cmb_log *log, uint64_t logical)
{
    uint64_t word = atomic_load_explicit(&cmb_table_at(log, logical)->word, memory_order_relaxed);
    return CMB_WORD_KIND(word) == CMB_SEG_JOURNAL ? CMB_SEG_JOURNAL : CMB_SEG_PLAIN;
}

static int map_segment(cmb_log *log, uint64_t logical, uint64_t word, uint64_t end)
{
    cmb_segment *segment;
    int e = cmb_table_make(log, logical, &segment);
    if (e)
        return e;
    cmb_table_set(log, logical, word, end, end);
    if (logical >= log->next_logical)
        log->next_logical = logical + 1;
    return 0;
}

static int make_live(cmb_log *log, uint64_t physical)
{
    int e = cmb_space_follow(log, physical);
    if (e)
        return e;
    if (physical < cmb_first_physical(log->shift) || physical >= log->space.count)
        return cmb_fail(CMB_ECORRUPT, "%s: physical segment %llu of %llu", log->dev->name,
                        (unsigned long long)physical, (unsigned long long)log->space.count);
    if (!log->space.loaded || cmb_space_state(log, physical) == CMB_SEG_LIVE)
        return 0;
    e = cmb_space_touch(log, physical);
    if (e)
        return e;
    cmb_space_leave(log, physical); /* the lost checkpoint had freed it, else it would not have been used */
    cmb_space_live(log, physical);
    return 0;
}

static int apply_move(walker *w, const op *o)
{
    cmb_log *log = w->log;
    assert(log->n_next && log->next[0] == o->physical);
    cmb_segment_kind kind = head_kind(log, log->head.segment);
    cmb_table_set(log, log->head.segment, cmb_word(log->head.physical, kind, CMB_WORD_CLOSED), o->used, o->used);
    log->head_bytes += log->size;
    memmove(log->next, log->next + 1, --log->n_next * sizeof *log->next);
    log->head = (cmb_head){o->logical, o->physical, 0};
    int e = make_live(log, o->physical);
    return e ? e : map_segment(log, o->logical, cmb_word(o->physical, CMB_SEG_JOURNAL, 0), 0);
}

static int apply_next(cmb_log *log, const op *o)
{
    int e = cmb_space_follow(log, o->physical);
    if (e)
        return e;
    if (log->n_next == CMB_NEXT_MAX || o->physical < cmb_first_physical(log->shift) || o->physical >= log->space.count)
        return cmb_fail(CMB_ECORRUPT, "%s: segment %u cannot be the next", log->dev->name, (unsigned)o->physical);
    e = log->space.loaded ? cmb_space_claim(log, o->physical) : 0;
    if (!e)
        log->next[log->n_next++] = o->physical;
    return e;
}

static int apply_retire(cmb_log *log, const op *o)
{
    if (!log->space.loaded)
        return 0;
    if (o->physical >= log->space.count || cmb_space_state(log, o->physical) != CMB_SEG_LIVE)
        return cmb_fail(CMB_ECORRUPT, "%s: segment %u is retired and was not in use", log->dev->name,
                        (unsigned)o->physical);
    int e = cmb_space_room(log, 1);
    if (!e)
        cmb_space_retire(log, o->physical);
    return e;
}

/* A checkpoint's unit: recovery could have started here. */
static int apply_root(walker *w, const op *o)
{
    cmb_log *log = w->log;
    w->edits.n = 0;
    log->super.root_addr = o->logical;
    log->super.root_length = (uint32_t)o->used;
    log->head_bytes = 0;
    if (!log->space.loaded)
        return 0;
    cmb_space_settle(log);
    int e = cmb_space_step_ready(log);
    if (!e)
        cmb_space_step(log);
    return e;
}

/* A stream's segment: so far nobody's, which bounds what a record can make the table hold. */
static int apply_stream(cmb_log *log, const op *o)
{
    bool live = log->space.loaded && o->physical < log->space.count
                && cmb_space_state(log, o->physical) == CMB_SEG_LIVE;
    int e = live ? cmb_fail(CMB_ECORRUPT, "%s: a stream's segment %u is in use", log->dev->name, (unsigned)o->physical)
                 : make_live(log, o->physical);
    return e ? e : map_segment(log, o->logical, cmb_word(o->physical, CMB_SEG_STREAM, CMB_WORD_CLOSED), o->used);
}

/* Relocation: what is mapped gets another place, or none. */
static int apply_relocation(cmb_log *log, const op *o)
{
    cmb_segment *segment;
    int e = cmb_table_find(log, o->logical, &segment);
    if (!e && (!segment || !atomic_load_explicit(&segment->word, memory_order_relaxed)))
        e = cmb_fail(CMB_ECORRUPT, "%s: logical segment %llu is moved and was not there", log->dev->name,
                     (unsigned long long)o->logical);
    if (e || o->kind == CMB_SEG_NONE)
        return e ? e : map_segment(log, o->logical, 0, 0);
    e = make_live(log, o->physical);
    return e ? e : map_segment(log, o->logical, cmb_word_compacted(o->physical, o->used), o->used);
}

static int apply_op(walker *w, const op *o)
{
    cmb_log *log = w->log;
    switch (o->kind) {
    case OP_MOVE:
        return apply_move(w, o);
    case OP_EDITS:
        return ops_add(log, &w->edits, o);
    case OP_ROOT:
        return apply_root(w, o);
    case OP_LASTS:
        cmb_segment_lasts(log, o->logical);
        return 0;
    case CMB_SEGMENT_NEXT:
        return apply_next(log, o);
    case CMB_SEGMENT_RETIRE:
        return apply_retire(log, o);
    case CMB_SEG_STREAM:
        return apply_stream(log, o);
    default:
        return apply_relocation(log, o);
    }
}

static int accept_batch(walker *w, const cmb_frame_info *last)
{
    cmb_log *log = w->log;
    for (size_t i = 0; i < w->pending.n; i++) {
        int e = apply_op(w, &w->pending.items[i]);
        if (e)
            return e;
    }
    w->pending.n = 0;
    w->in_batch = false;
    w->taken = 0;
    w->here.seq++;
    w->tail = w->here;
    w->epoch = w->epoch_here;
    w->sealed = last->flags & CMB_FRAME_SEAL;
    log->head.offset = w->tail.offset;
    cmb_table_set(log, w->tail.segment, cmb_word(w->tail.physical, head_kind(log, w->tail.segment), 0), w->tail.offset,
                  w->tail.offset);
    log->recovered_batches++;
    return 0;
}

/* ---- the walk ---- */

static bool continues(const walker *w, const cmb_frame_info *info)
{
    bool first = info->flags & CMB_FRAME_FIRST;
    if (info->prev != w->here.prev || info->seq != w->here.seq || info->flags & CMB_FRAME_STREAM || first == w->in_batch)
        return false;
    return info->epoch == w->epoch_here || (first && info->flags & CMB_FRAME_EPOCH);
}

static int accept_frame(walker *w, uint64_t physical, uint8_t *frame, const cmb_frame_info *info)
{
    cmb_log *log = w->log;
    uint32_t length = cmb_frame_blocks(CMB_FRAME_HEADER + info->payload);
    uint32_t offset = (uint32_t)(info->addr & (log->size - 1));
    int e = 0;
    if (info->addr >> log->shift != w->here.segment) {
        op move = {OP_MOVE, (uint32_t)physical, info->addr >> log->shift, w->here.offset};
        e = ops_add(log, &w->pending, &move);
        w->taken++;
    }
    if (!e)
        e = note_records(w, frame, info);
    /* Where the device cannot read past a cache, what it returned is made true by writing it again. */
    if (!e && log->writable && !(log->caps.flags & CMB_CAP_UNCACHED)) {
        w->connection = w->connection ? w->connection : cmb_log_generation(log);
        e = cmb_io_write(w->queue, (physical << log->shift) + offset, frame, length);
    }
    if (e)
        return e;
    w->in_batch = true;
    w->epoch_here = info->epoch;
    w->here.segment = info->addr >> log->shift;
    w->here.physical = (uint32_t)physical;
    w->here.offset = offset + length;
    w->here.prev = info->check;
    log->recovered_bytes += length;
    return info->flags & CMB_FRAME_LAST ? accept_batch(w, info) : 0;
}

/* The i-th next segment that no frame read so far took; what this batch itself announces counts. */
static bool next_physical(const walker *w, unsigned i, uint64_t *out_physical)
{
    unsigned at = w->taken + i;
    if (at < w->log->n_next) {
        *out_physical = w->log->next[at];
        return true;
    }
    at -= w->log->n_next;
    for (size_t k = 0; k < w->pending.n; k++) {
        if (w->pending.items[k].kind == CMB_SEGMENT_NEXT && at-- == 0) {
            *out_physical = w->pending.items[k].physical;
            return *out_physical >= cmb_first_physical(w->log->shift) && *out_physical < w->log->space.count;
        }
    }
    return false;
}

static int walk(walker *w)
{
    cmb_log *log = w->log;
    for (;;) {
        cmb_frame_info info;
        uint8_t *frame;
        uint64_t physical = w->here.physical;
        int e = frame_at(w, physical, w->here.offset, (w->here.segment << log->shift) + w->here.offset, &info, &frame);
        if (!e && (!frame || !continues(w, &info))) {
            frame = NULL;
            if (next_physical(w, 0, &physical))
                e = frame_at(w, physical, 0, 0, &info, &frame);
        }
        if (e)
            return e;
        if (!frame || !continues(w, &info))
            return 0;
        e = accept_frame(w, physical, frame, &info);
        if (e)
            return e;
    }
}

/* ---- torn or damaged ---- */

/*
 * Does any frame in [from, to) of a physical segment say that batch `seq` was durable? Each block may begin a frame, so that
 * frames made for it cost a look at many times what they hold: there is an end to that, and then the tail is not called torn.
 */
static int find_witness(walker *w, uint64_t physical, uint64_t from, uint64_t to, uint64_t segment, uint64_t seq,
                        bool *out_found)
{
    cmb_log *log = w->log;
    for (uint64_t offset = from; offset < to;) {
        cmb_frame_info info;
        uint8_t *frame;
        int e = frame_at(w, physical, offset, segment ? (segment << log->shift) + offset : 0, &info, &frame);
        if (e)
            return e;
        if (frame && !(info.flags & CMB_FRAME_STREAM) && info.seq > seq && info.durable >= seq) {
            *out_found = true;
            return 0;
        }
        if (w->broken > BROKEN_MAX)
            return cmb_fail(CMB_ECORRUPT, "%s: behind batch %llu are more broken frames than a crash leaves", log->dev->name,
                            (unsigned long long)seq);
        offset += frame ? cmb_frame_blocks(CMB_FRAME_HEADER + info.payload) : CMB_BLOCK;
    }
    return 0;
}

/* Is the batch that is missing after the last accepted one known to have been durable? */
static int judge_tail(walker *w, bool *out_acknowledged)
{
    cmb_log *log = w->log;
    uint64_t seq = w->tail.seq, physical;
    bool found = log->super.durable_seq >= seq;
    int e = 0;
    if (!found)
        e = find_witness(w, w->here.physical, w->here.offset, log->size, w->here.segment, seq, &found);
    for (unsigned i = 0; !e && !found && next_physical(w, i, &physical); i++)
        e = find_witness(w, physical, 0, i ? SCAN_NEXT : log->size, 0, seq, &found);
    *out_acknowledged = found;
    return e;
}

#define READER_ROUNDS 64

/*
 * Walks to the end. Beside a live writer the log goes on while it is looked at: a witness may be
 * younger than the look at what it speaks of. So a reader looks again, and what is missing then is
 * damaged. A writer that is faster than that cannot hold a reader up for ever: what was accepted in
 * the first round was durable when it was opened.
 */
static int walk_to_tail(walker *w)
{
    cmb_log *log = w->log;
    for (unsigned round = 0; round < READER_ROUNDS; round++) {
        bool acknowledged;
        uint64_t before = w->here.prev;
        w->valid = 0;
        int e = walk(w);
        if (!e)
            e = judge_tail(w, &acknowledged);
        if (e || !acknowledged)
            return e;
        if (log->writable || (round && w->here.prev == before))
            return cmb_fail(CMB_ECORRUPT, "%s: batch %llu at %llu was acknowledged and is damaged", log->dev->name,
                            (unsigned long long)w->tail.seq,
                            (unsigned long long)((w->here.segment << log->shift) + w->here.offset));
    }
    return 0;
}

/* ---- replaying ---- */

#define HELD_MAX (4 * CMB_CHECKPOINT_BYTES) /* bytes of records: more than a log that is not damaged can have */

static int replay_read(walker *w, const op *o, uint8_t *record)
{
    int e = cmb_log_read(w->log, w->queue, o->logical, (uint32_t)o->used, record);
    return e ? e : cmb_record_check(record, (uint32_t)o->used, o->logical);
}

/*
 * A reader knows only afterwards whether what it read was still what it looked for, and then the owner must not have
 * been told of it: it copies the records first. NULL in *out_held: it has none, or there are too many.
 */
static int hold(walker *w, uint8_t **out_held, uint64_t *out_size)
{
    cmb_log *log = w->log;
    uint64_t size = 0, at = 0;
    for (size_t i = 0; i < w->edits.n && size <= HELD_MAX; i++)
        size += w->edits.items[i].used;
    if (log->writable || size == 0 || size > HELD_MAX)
        return 0;
    uint8_t *held = cmb_alloc(&log->alloc, (size_t)size);
    if (!held)
        return CMB_ENOMEM;
    int e = 0;
    for (size_t i = 0; i < w->edits.n && !e; at += w->edits.items[i++].used)
        e = replay_read(w, &w->edits.items[i], held + at);
    if (e) {
        cmb_release(&log->alloc, held, (size_t)size);
        return e;
    }
    *out_held = held;
    *out_size = size;
    return 0;
}

/* The ROOT record is read by the owner once the log is open: until then its segment may be another. */
static int hold_root(walker *w)
{
    cmb_log *log = w->log;
    uint32_t length = log->super.root_length;
    if (log->writable || !length)
        return 0;
    uint8_t *root = cmb_alloc(&log->alloc, length);
    if (!root)
        return CMB_ENOMEM;
    if (cmb_log_read(log, w->queue, log->super.root_addr, length, root)) /* the owner will meet with that himself */
        cmb_release(&log->alloc, root, length);
    else
        log->root = root;
    return 0;
}

/*
 * Has a writer made two checkpoints since a reader looked at the superblock? Until then nothing that recovery from there
 * needs is written anew.
 */
static int stands(walker *w)
{
    cmb_log *log = w->log;
    cmb_super_slots slots;
    int e = log->writable ? 0 : cmb_super_load(log->dev, w->queue, &log->alloc, &slots);
    if (!e && !log->writable && slots.best.generation > log->super.generation + 1)
        e = cmb_fail(CMB_ESTALE, "%s: a writer went on too far while it was opened", log->dev->name);
    return e;
}

static int tell(walker *w, const uint8_t *held)
{
    cmb_log *log = w->log;
    log->replayed = w->edits.n != 0;
    for (size_t i = 0; i < w->edits.n; i++) {
        const op *o = &w->edits.items[i];
        const uint8_t *record = held ? held : w->window;
        int e = held ? 0 : replay_read(w, o, w->window);
        if (!e)
            e = log->options.replay(log->options.ctx, cmb_record_kind_of(record), o->logical, record + CMB_RECORD_HEADER,
                                    (uint32_t)o->used - CMB_RECORD_HEADER);
        if (e)
            return e;
        held = held ? held + o->used : NULL;
    }
    return 0;
}

static int replay(walker *w)
{
    uint8_t *held = NULL;
    uint64_t size = 0;
    if (!w->log->options.replay)
        w->edits.n = 0;
    int e = hold(w, &held, &size);
    if (!e)
        e = hold_root(w);
    if (!e)
        e = stands(w);
    if (!e)
        e = tell(w, held);
    cmb_release(&w->log->alloc, held, (size_t)size);
    return e;
}

/* ---- start and end ---- */

/* The segment that the superblock's position lies in: what it holds below is of the kind that the table says. */
static int map_head(cmb_log *log, const cmb_position *pos)
{
    cmb_segment *segment;
    int e = cmb_table_find(log, pos->segment, &segment);
    if (e)
        return e;
    uint64_t word = segment ? atomic_load_explicit(&segment->word, memory_order_relaxed) : 0;
    bool journal = word ? CMB_WORD_KIND(word) == CMB_SEG_JOURNAL : pos->offset == 0;
    return map_segment(log, pos->segment, cmb_word(pos->physical, journal ? CMB_SEG_JOURNAL : CMB_SEG_PLAIN, 0), pos->offset);
}

static int start(walker *w)
{
    cmb_log *log = w->log;
    const cmb_super *s = &log->super;
    w->here = w->tail = s->pos;
    w->epoch = w->epoch_here = s->epoch;
    log->next_logical = s->next_logical;
    log->head = (cmb_head){s->pos.segment, s->pos.physical, s->pos.offset};
    log->floor_segment = s->pos.segment;
    log->journal_floor = s->journals ? s->journals : s->pos.segment;
    int e = cmb_space_load(log);
    if (e == CMB_ECORRUPT && !log->writable) /* a reader can do without the state map */
        e = 0;
    if (!e)
        e = make_live(log, s->pos.physical);
    if (!e && log->space.loaded)
        cmb_space_unknown(log, s->pos.physical);
    if (!e)
        e = map_head(log, &s->pos);
    for (unsigned i = 0; i < s->n_next && !e; i++)
        e = apply_next(log, &(op){CMB_SEGMENT_NEXT, s->next[i], 0, 0});
    return e;
}

static int finish(walker *w)
{
    cmb_log *log = w->log;
    log->stable_segment = w->tail.segment;
    log->chain = w->tail.prev;
    log->epoch = w->epoch;
    log->recovered_sealed = w->sealed;
    log->durable_seq = log->written_seq = w->tail.seq - 1;
    atomic_store(&log->durable_mark, log->durable_seq);
    log->sealed_seq = w->sealed ? log->durable_seq : 0;
    int e = log->space.loaded ? cmb_space_unsettle(log) : 0;
    /* What was read is made durable before anything of it is served. */
    if (!e && log->caps.flags & CMB_CAP_FLUSH)
        e = cmb_io_flush(w->queue);
    if (e == CMB_EREADONLY && !log->writable)
        e = 0;
    if (!e && w->connection && log->caps.flags & CMB_CAP_FLUSH)
        e = cmb_same_connection(log->dev, w->connection);
    return e;
}

int cmb_recover(cmb_log *log, cmb_queue *queue)
{
    walker w = {.log = log, .queue = queue, .flags = log->caps.flags & CMB_CAP_UNCACHED ? CMB_IO_UNCACHED : 0};
    w.window = cmb_io_buffer(&log->alloc, CMB_FRAME_MAX);
    if (!w.window)
        return CMB_ENOMEM;
    int e = start(&w);
    if (!e)
        e = walk_to_tail(&w);
    if (!e)
        e = finish(&w);
    if (!e)
        e = replay(&w);
    cmb_io_buffer_release(&log->alloc, w.window, CMB_FRAME_MAX);
    cmb_release(&log->alloc, w.pending.items, w.pending.capacity * sizeof *w.pending.items);
    cmb_release(&log->alloc, w.edits.items, w.edits.capacity * sizeof *w.edits.items);
    return e;
}
