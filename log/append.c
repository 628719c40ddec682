/* SPDX-License-Identifier: ISC */
/*
 * append.c: the head. Units, one at a time, put records into the open batch's frames; whole units
 * are cut off as a batch by whoever makes them durable (sync.c).
 *
 * A unit that outgrows memory has its full frames written before it ends. If it aborts then, they
 * stay in the chain as records that nothing names: the batch goes on after them. So that holds up to the
 * unit's first record that recovery takes at its word (EDITS, INTENTS, SEGMENTS): from there on the
 * unit stays in memory until it is whole, and what aborts is truncated.
 */
#include "log/internal.h"

#include <assert.h>

#define FRAME_FIRST_CAPACITY (64u << 10)

/* ---- frames ---- */

int cmb_frame_new(cmb_log *log, uint64_t addr, uint64_t physical, uint32_t capacity, cmb_frame **out_frame)
{
    cmb_frame *frame = log->spare;
    if (frame) {
        log->spare = frame->next;
        log->n_spare--;
    } else {
        frame = cmb_zalloc(&log->alloc, sizeof *frame);
        if (!frame)
            return CMB_ENOMEM;
    }
    frame->next = NULL;
    frame->addr = addr;
    frame->physical = physical;
    frame->records = 0;
    frame->flags = 0;
    frame->fresh = cmb_space_fresh(log, physical);
    atomic_store_explicit(&frame->fill, CMB_FRAME_HEADER, memory_order_relaxed);
    capacity = capacity < FRAME_FIRST_CAPACITY ? FRAME_FIRST_CAPACITY : cmb_frame_blocks(capacity);
    if (frame->capacity < capacity) {
        uint8_t *buf = cmb_io_buffer(&log->alloc, capacity);
        if (!buf) {
            cmb_frame_release(log, frame);
            return CMB_ENOMEM;
        }
        memset(buf, 0, capacity);
        cmb_io_buffer_release(&log->alloc, frame->buf, frame->capacity);
        frame->buf = buf;
        frame->capacity = capacity;
    }
    *out_frame = frame;
    return 0;
}

int cmb_frame_reserve(cmb_log *log, cmb_frame *frame, uint32_t need)
{
    if (need <= frame->capacity)
        return 0;
    uint32_t capacity = frame->capacity;
    while (capacity < need)
        capacity *= 2;
    if (capacity > CMB_FRAME_MAX)
        capacity = CMB_FRAME_MAX;
    assert(need <= capacity);
    uint8_t *buf = cmb_io_buffer(&log->alloc, capacity);
    if (!buf)
        return CMB_ENOMEM;
    uint32_t fill = atomic_load_explicit(&frame->fill, memory_order_relaxed);
    memcpy(buf, frame->buf, fill);
    memset(buf + fill, 0, capacity - fill);
    cmb_mutex_lock(&log->lock); /* readers copy from it */
    uint8_t *old = frame->buf;
    uint32_t old_capacity = frame->capacity;
    frame->buf = buf;
    frame->capacity = capacity;
    cmb_mutex_unlock(&log->lock);
    cmb_io_buffer_release(&log->alloc, old, old_capacity);
    return 0;
}

void cmb_frame_release(cmb_log *log, cmb_frame *frame)
{
    if (log->n_spare < CMB_SPARE_FRAMES) {
        if (frame->buf)
            memset(frame->buf, 0, cmb_frame_blocks(atomic_load_explicit(&frame->fill, memory_order_relaxed)));
        frame->next = log->spare;
        log->spare = frame;
        log->n_spare++;
        return;
    }
    cmb_io_buffer_release(&log->alloc, frame->buf, frame->capacity);
    cmb_release(&log->alloc, frame, sizeof *frame);
}

uint8_t *cmb_frame_take(cmb_frame *frame, uint32_t length, uint64_t *out_addr)
{
    uint32_t fill = atomic_load_explicit(&frame->fill, memory_order_relaxed);
    uint32_t after = fill + (uint32_t)cmb_align_up(length, CMB_RECORD_ALIGN);
    assert(after <= frame->capacity);
    frame->records++;
    atomic_store_explicit(&frame->fill, after, memory_order_release);
    *out_addr = frame->addr + fill;
    return frame->buf + fill;
}

void cmb_frame_seal(const cmb_log *log, cmb_frame *frame, uint64_t seq, uint64_t prev, uint64_t durable,
                    uint64_t *out_check)
{
    uint8_t *h = frame->buf;
    uint32_t fill = atomic_load_explicit(&frame->fill, memory_order_relaxed);
    cmb_put32(h, CMB_FRAME_MAGIC);
    cmb_put32(h + CMB_FRAME_AT_FLAGS, frame->flags);
    memcpy(h + CMB_FRAME_AT_UUID, log->params.uuid, 16);
    cmb_put64(h + CMB_FRAME_AT_EPOCH, log->epoch);
    cmb_put64(h + CMB_FRAME_AT_SEQ, seq);
    cmb_put64(h + CMB_FRAME_AT_ADDR, frame->addr);
    cmb_put64(h + CMB_FRAME_AT_PREV, prev);
    cmb_put64(h + CMB_FRAME_AT_DURABLE, durable);
    cmb_put32(h + CMB_FRAME_AT_PAYLOAD, fill - CMB_FRAME_HEADER);
    cmb_put32(h + CMB_FRAME_AT_RECORDS, frame->records);
    uint64_t payload = cmb_hash64(h + CMB_FRAME_HEADER, fill - CMB_FRAME_HEADER, frame->addr);
    uint64_t check = cmb_hash64(h, CMB_FRAME_AT_CHECK, payload);
    cmb_put64(h + CMB_FRAME_AT_CHECK, check);
    *out_check = check;
}

void cmb_frames_drop(cmb_log *log, cmb_frame *first)
{
    while (first) {
        cmb_frame *next = first->next;
        cmb_frame_release(log, first);
        first = next;
    }
}

/* ---- the head's place ---- */

unsigned cmb_next_target(const cmb_log *log)
{
    if (!log->params.fixed_size)
        return CMB_NEXT_TARGET;
    uint64_t n = log->space.count / 8;
    return n < 2 ? 2 : n > CMB_NEXT_TARGET ? CMB_NEXT_TARGET : (unsigned)n;
}

/* The frame that takes further records: none after a cut or a move. */
static cmb_frame *current_frame(const cmb_log *log)
{
    cmb_frame *last = log->open->last;
    return last && last->addr >> log->shift == log->head.segment ? last : NULL;
}

uint32_t cmb_head_end(const cmb_log *log)
{
    const cmb_frame *last = current_frame(log);
    if (!last)
        return log->head.offset;
    uint32_t offset = (uint32_t)(last->addr & (log->size - 1));
    return offset + cmb_frame_blocks(atomic_load_explicit(&last->fill, memory_order_relaxed));
}

/* Where frames of this unit have to end. The last block is kept for announcing further segments when none is left. */
static uint32_t segment_limit(const cmb_appender *app)
{
    const cmb_log *log = app->log;
    return (uint32_t)log->size - (log->n_next == 0 && !app->own ? CMB_BLOCK : 0);
}

int cmb_head_move(cmb_appender *app)
{
    cmb_log *log = app->log;
    if (log->n_next == 0)
        return cmb_fail(CMB_ENOSPC, "%s: no segment is left for the log's head", log->dev->name);
    if (!app->urgent && cmb_space_available(log) + log->n_next - 1 < cmb_space_reserve(log))
        return cmb_fail(CMB_ENOSPC, "%s: what is left is kept for checkpoints and cleaning", log->dev->name);
    uint64_t physical = log->next[0];
    cmb_segment *segment;
    int e = cmb_table_make(log, log->next_logical, &segment);
    if (!e)
        e = cmb_space_touch(log, physical);
    if (e)
        return e;
    uint32_t end = cmb_head_end(log);
    cmb_table_at(log, log->head.segment)->end = end;
    cmb_radix_dirty(&log->table, cmb_radix_peek(&log->table, log->head.segment)); /* maybe not the new segment's page */
    log->head_bytes += log->size - end;
    memmove(log->next, log->next + 1, --log->n_next * sizeof *log->next);
    assert(app->n_moves < CMB_NEXT_MAX);
    app->moves[app->n_moves++] = (cmb_move){log->next_logical, physical};
    cmb_space_live(log, physical);
    cmb_table_set(log, log->next_logical, cmb_word(physical, CMB_SEG_JOURNAL, 0), 0, 0);
    log->head = (cmb_head){log->next_logical++, physical, 0};
    return 0;
}

/* Takes back the unit's moves, newest first. Their logical numbers stay unused. */
static void moves_undo(cmb_appender *app)
{
    cmb_log *log = app->log;
    while (app->n_moves) {
        const cmb_move *move = &app->moves[--app->n_moves];
        cmb_table_set(log, move->segment, 0, 0, 0);
        cmb_space_unlive(log, move->physical);
        memmove(log->next + 1, log->next, log->n_next++ * sizeof *log->next);
        log->next[0] = (uint32_t)move->physical;
    }
}

/* ---- records ---- */

/* Makes a frame with room for `length` bytes the current one. */
static int frame_begin(cmb_appender *app, uint32_t length)
{
    cmb_log *log = app->log;
    cmb_batch *batch = log->open;
    uint32_t need = CMB_FRAME_HEADER + length;
    cmb_frame *frame = NULL;
    cmb_mutex_lock(&log->lock);
    int e = 0;
    if (cmb_head_end(log) + need > segment_limit(app))
        e = cmb_head_move(app);
    uint32_t offset = cmb_head_end(log);
    if (!e)
        e = cmb_frame_new(log, (log->head.segment << log->shift) + offset, log->head.physical, need, &frame);
    if (!e) {
        if (batch->last) {
            uint32_t full = cmb_frame_blocks(atomic_load_explicit(&batch->last->fill, memory_order_relaxed));
            batch->bytes += full;
            log->queued += full;
            log->head_bytes += full;
            batch->last->next = frame;
        } else {
            batch->first = frame;
        }
        batch->last = frame;
    }
    bool ahead = !e && !app->counts && batch->bytes >= CMB_UNIT_AHEAD;
    cmb_mutex_unlock(&log->lock);
    return ahead ? cmb_write_ahead(app) : e;
}

static int head_append(cmb_appender *app, uint32_t length, uint64_t *out_addr, void **out_buf)
{
    cmb_log *log = app->log;
    cmb_frame *frame = current_frame(log);
    uint32_t aligned = (uint32_t)cmb_align_up(length, CMB_RECORD_ALIGN);
    if (frame) {
        uint32_t need = atomic_load_explicit(&frame->fill, memory_order_relaxed) + aligned;
        uint32_t offset = (uint32_t)(frame->addr & (log->size - 1));
        if (need > CMB_FRAME_MAX || offset + need > segment_limit(app))
            frame = NULL;
        else if (cmb_frame_reserve(log, frame, need))
            return CMB_ENOMEM;
    }
    if (!frame) {
        int e = frame_begin(app, aligned);
        if (e)
            return e;
        frame = log->open->last;
    }
    *out_buf = cmb_frame_take(frame, length, out_addr);
    app->bytes += aligned;
    return 0;
}

int cmb_append(cmb_appender *app, uint32_t length, uint64_t *out_addr, void **out_buf)
{
    if (length < CMB_RECORD_HEADER || length > CMB_RECORD_MAX)
        return cmb_fail(CMB_ETOOBIG, "a record of %u bytes", (unsigned)length);
    if (app->scratch)
        return cmb_scratch_append(app, length, out_addr, out_buf);
    return app->stream ? cmb_stream_append(app, length, out_addr, out_buf) : head_append(app, length, out_addr, out_buf);
}

/* Does recovery act on a record of this kind by its being there? */
static bool record_counts(uint8_t kind)
{
    return kind == CMB_RECORD_EDITS || kind == CMB_RECORD_INTENTS || kind == CMB_RECORD_SEGMENTS;
}

int cmb_append_record(cmb_appender *app, uint8_t kind, const void *payload, uint32_t length, uint64_t *out_addr)
{
    if (length > CMB_RECORD_MAX - CMB_RECORD_HEADER)
        return cmb_fail(CMB_ETOOBIG, "a record of %u bytes", (unsigned)length);
    uint64_t addr;
    void *record;
    int e = cmb_append(app, length + CMB_RECORD_HEADER, &addr, &record);
    if (e)
        return e;
    if (length)
        memcpy((uint8_t *)record + CMB_RECORD_HEADER, payload, length);
    cmb_record_seal(record, kind, length + CMB_RECORD_HEADER, addr);
    app->counts |= !app->own && record_counts(kind);
    *out_addr = addr;
    return 0;
}

uint64_t cmb_append_bytes(const cmb_appender *app)
{
    return app->bytes;
}

static uint64_t record_check(const void *record, uint32_t length, uint64_t addr)
{
    uint8_t head[8];
    memcpy(head, record, 8);
    uint64_t seed = cmb_hash64(head, 8, addr);
    return cmb_hash64((const uint8_t *)record + CMB_RECORD_HEADER, length - CMB_RECORD_HEADER, seed);
}

void cmb_record_seal(void *record, uint8_t kind, uint32_t length, uint64_t addr)
{
    uint8_t *r = record;
    cmb_put32(r, length);
    r[4] = kind;
    r[5] = r[6] = r[7] = 0;
    cmb_put64(r + 8, record_check(r, length, addr));
}

int cmb_record_check(const void *record, uint32_t limit, uint64_t addr)
{
    if (limit < CMB_RECORD_HEADER)
        return cmb_fail(CMB_ECORRUPT, "record at %llu: only %u bytes", (unsigned long long)addr, (unsigned)limit);
    uint32_t length = cmb_record_length(record);
    if (length < CMB_RECORD_HEADER || length > limit)
        return cmb_fail(CMB_ECORRUPT, "record at %llu: length %u of %u", (unsigned long long)addr, (unsigned)length,
                        (unsigned)limit);
    uint64_t check = record_check(record, length, addr), stored = cmb_record_stored_check(record);
    if (check != stored)
        return cmb_fail(CMB_ECORRUPT, "record at %llu: check %016llx instead of %016llx", (unsigned long long)addr,
                        (unsigned long long)check, (unsigned long long)stored);
    return 0;
}

/* ---- units ---- */

/* What is in the batch now stays if the unit aborts. */
void cmb_unit_keep(cmb_appender *app)
{
    cmb_log *log = app->log;
    app->start = log->head;
    app->start_frame = log->open->last;
    if (app->start_frame) {
        app->start_fill = atomic_load_explicit(&app->start_frame->fill, memory_order_relaxed);
        app->start_records = app->start_frame->records;
    }
    app->n_moves = 0;
}

int cmb_epoch_begin(cmb_log *log)
{
    if (log->epoch_begun)
        return 0;
    uint8_t bytes[8];
    int e = log->env.random(log->env.ctx, bytes, sizeof bytes);
    if (e)
        return cmb_fail(e, "no randomness for the epoch");
    uint64_t epoch = cmb_hash64(bytes, sizeof bytes, log->super.generation);
    log->epoch = epoch == log->epoch ? epoch + 1 : epoch;
    log->epoch_frame = log->epoch_begun = true;
    return 0;
}

/* Waits for the head and takes it. Under `lock`. */
static int head_take(cmb_log *log)
{
    while (log->busy)
        cmb_cond_wait(&log->changed, &log->lock);
    if (atomic_load_explicit(&log->failed, memory_order_relaxed))
        return cmb_log_refuse(log);
    int e = cmb_space_load(log);
    if (!e)
        e = cmb_epoch_begin(log);
    if (!e)
        log->busy = true;
    return e;
}

static void head_give(cmb_log *log)
{
    log->busy = false;
    cmb_cond_broadcast(&log->changed);
}

/*
 * Segments that the file was grown for are announced only when a power cut leaves the growth: a batch may land without
 * the length that it relies on. No lock held, the head taken.
 */
static int settle_growth(cmb_log *log)
{
    cmb_mutex_lock(&log->lock);
    cmb_writer_take(log);
    uint64_t count = log->space.count, generation = log->unflushed ? log->unflushed : cmb_log_generation(log);
    cmb_mutex_unlock(&log->lock);
    int e = atomic_load_explicit(&log->failed, memory_order_acquire) ? cmb_log_refuse(log) : cmb_log_flush(log, log->wq, generation);
    if (e && e != CMB_EREADONLY)
        e = cmb_log_latch(log, "growth"); /* what it should have made durable besides is unknown */
    cmb_mutex_lock(&log->lock);
    if (!e)
        log->space.settled = count;
    cmb_writer_give(log);
    cmb_mutex_unlock(&log->lock);
    return e;
}

/* Tells the chain which segments follow, before the last known one is reached. Failing costs nothing yet. */
static void announce_next(cmb_appender *app)
{
    cmb_log *log = app->log;
    unsigned target = cmb_next_target(log);
    uint8_t payload[CMB_SEGMENTS_HEADER + CMB_SEGMENTS_ENTRY * CMB_NEXT_TARGET] = {0};
    uint32_t found[CMB_NEXT_TARGET];
    unsigned n = 0;
    bool grown = false;
    if (log->n_next >= (target + 1) / 2 + (target > 2))
        return;
    cmb_mutex_lock(&log->lock);
    while (log->n_next + n < target && n < CMB_NEXT_TARGET) {
        uint64_t physical;
        if (cmb_space_take(log, app->urgent && log->n_next + n < 2, &physical))
            break;
        uint8_t *entry = payload + CMB_SEGMENTS_HEADER + CMB_SEGMENTS_ENTRY * n;
        cmb_put32(entry + 8, (uint32_t)physical);
        entry[12] = CMB_SEGMENT_NEXT;
        found[n++] = (uint32_t)physical;
        grown |= physical >= log->space.settled;
    }
    cmb_mutex_unlock(&log->lock);
    cmb_put32(payload, n);
    uint64_t addr;
    int e = grown ? settle_growth(log) : 0;
    app->own = true;
    if (n && !e)
        e = cmb_append_record(app, CMB_RECORD_SEGMENTS, payload, CMB_SEGMENTS_HEADER + CMB_SEGMENTS_ENTRY * n, &addr);
    app->own = false;
    cmb_mutex_lock(&log->lock);
    for (unsigned i = 0; i < n; i++) {
        if (e)
            cmb_space_give(log, found[i]);
        else
            log->next[log->n_next++] = found[i];
    }
    if (n && !e)
        log->open->published = true;
    cmb_mutex_unlock(&log->lock);
}

static int unit_begin(cmb_log *log, bool urgent, cmb_appender **out_app, bool *out_epoch_start)
{
    if (!log->writable || atomic_load_explicit(&log->failed, memory_order_acquire))
        return cmb_log_refuse(log);
    cmb_mutex_lock(&log->lock);
    bool full = log->queued > CMB_QUEUED_MAX;
    cmb_mutex_unlock(&log->lock);
    int e = full ? cmb_log_write_out(log) : 0;
    if (e)
        return atomic_load_explicit(&log->failed, memory_order_acquire) ? cmb_log_refuse(log) : e;
    cmb_appender *app = cmb_zalloc(&log->alloc, sizeof *app);
    if (!app)
        return CMB_ENOMEM;
    app->log = log;
    app->urgent = urgent;
    cmb_mutex_lock(&log->lock);
    e = head_take(log);
    bool start = !log->started;
    cmb_mutex_unlock(&log->lock);
    if (e) {
        cmb_release(&log->alloc, app, sizeof *app);
        return e;
    }
    announce_next(app);
    cmb_mutex_lock(&log->lock);
    cmb_unit_keep(app);
    cmb_mutex_unlock(&log->lock);
    app->bytes = 0;
    *out_app = app;
    if (out_epoch_start)
        *out_epoch_start = start;
    return 0;
}

int cmb_log_begin(cmb_log *log, cmb_appender **out_app, bool *out_epoch_start)
{
    return unit_begin(log, /* urgent= */ false, out_app, out_epoch_start);
}

int cmb_log_begin_urgent(cmb_log *log, cmb_appender **out_app, bool *out_epoch_start)
{
    return unit_begin(log, /* urgent= */ true, out_app, out_epoch_start);
}

/* Every adopted stream's segments, and what a checkpoint has to say. */
int cmb_unit_segments(cmb_appender *app, uint64_t root_addr, uint32_t root_length, bool checkpoint)
{
    size_t n = 0;
    for (const cmb_appender *s = app->adopted; s; s = s->next)
        n += s->n_segments;
    if (n == 0 && !checkpoint)
        return 0;
    size_t size = CMB_SEGMENTS_HEADER + n * CMB_SEGMENTS_ENTRY;
    if (size > CMB_RECORD_MAX - CMB_RECORD_HEADER)
        return cmb_fail(CMB_ETOOBIG, "a unit that adopts %zu segments", n);
    uint64_t addr;
    void *buf;
    int e = cmb_append(app, (uint32_t)size + CMB_RECORD_HEADER, &addr, &buf);
    if (e)
        return e;
    app->counts = true;
    uint8_t *p = (uint8_t *)buf + CMB_RECORD_HEADER;
    cmb_put32(p, (uint32_t)n);
    cmb_put32(p + 4, checkpoint ? CMB_SEGMENTS_CHECKPOINT : 0);
    cmb_put64(p + 8, root_addr);
    cmb_put32(p + 16, root_length);
    p += CMB_SEGMENTS_HEADER;
    for (const cmb_appender *s = app->adopted; s; s = s->next) {
        for (size_t i = 0; i < s->n_segments; i++, p += CMB_SEGMENTS_ENTRY) {
            cmb_put64(p, s->segments[i].segment);
            cmb_put32(p + 8, (uint32_t)s->segments[i].physical);
            p[12] = CMB_SEG_STREAM;
            cmb_put64(p + 16, s->segments[i].end);
        }
    }
    cmb_record_seal(buf, CMB_RECORD_SEGMENTS, (uint32_t)size + CMB_RECORD_HEADER, addr);
    return 0;
}

static void publish_streams(cmb_appender *app)
{
    cmb_log *log = app->log;
    while (app->adopted) {
        cmb_appender *s = app->adopted;
        app->adopted = s->next;
        for (size_t i = 0; i < s->n_segments; i++) {
            const cmb_stream_segment *seg = &s->segments[i];
            cmb_space_live(log, seg->physical);
            cmb_table_set(log, seg->segment, cmb_word(seg->physical, CMB_SEG_STREAM, CMB_WORD_CLOSED), seg->end,
                          seg->end);
        }
        cmb_stream_free(s);
    }
}

void cmb_head_publish(cmb_appender *app, uint64_t *out_seq)
{
    cmb_log *log = app->log;
    assert(log->busy && log->open->last);
    cmb_unit_note(app);
    publish_streams(app);
    log->open->published = true;
    *out_seq = log->open->seq;
    uint64_t before = log->stable_segment;
    log->stable_segment = log->head.segment;
    cmb_segments_settle(log, before, log->stable_segment);
    atomic_fetch_add_explicit(&log->units, 1, memory_order_relaxed);
    cmb_release(&log->alloc, app, sizeof *app);
    head_give(log);
}

int cmb_log_publish(cmb_appender *app, const void *edits, uint32_t length, uint64_t *out_seq)
{
    cmb_log *log = app->log;
    uint64_t addr;
    if (atomic_load_explicit(&log->failed, memory_order_acquire))
        return cmb_log_refuse(log);
    if (!log->started)
        return cmb_fail(CMB_EINVAL, "the first unit after open has to end with a checkpoint");
    int e = cmb_unit_segments(app, 0, 0, /* checkpoint= */ false);
    if (!e && length)
        e = cmb_append_record(app, CMB_RECORD_EDITS, edits, length, &addr);
    if (!e && !log->open->last)
        e = cmb_fail(CMB_EINVAL, "an empty unit");
    if (e)
        return e;
    cmb_mutex_lock(&log->lock);
    e = cmb_batch_spare(log);
    if (e) {
        cmb_mutex_unlock(&log->lock);
        return e;
    }
    cmb_head_publish(app, out_seq);
    if (log->cut_wanted && cmb_batch_cut(log) == 0)
        log->cut_wanted = false;
    cmb_mutex_unlock(&log->lock);
    return 0;
}

static void truncate_frames(cmb_appender *app)
{
    cmb_log *log = app->log;
    cmb_batch *batch = log->open;
    cmb_frame *keep = app->start_frame;
    cmb_frames_drop(log, keep ? keep->next : batch->first);
    batch->last = keep;
    if (!keep) {
        batch->first = NULL;
    } else {
        uint32_t fill = atomic_load_explicit(&keep->fill, memory_order_relaxed);
        memset(keep->buf + app->start_fill, 0, fill - app->start_fill);
        keep->next = NULL;
        keep->records = app->start_records;
        atomic_store_explicit(&keep->fill, app->start_fill, memory_order_relaxed);
    }
    uint64_t before = batch->bytes;
    batch->bytes = 0;
    for (cmb_frame *f = batch->first; f && f != batch->last; f = f->next)
        batch->bytes += cmb_frame_blocks(atomic_load_explicit(&f->fill, memory_order_relaxed));
    log->queued -= before - batch->bytes;
}

void cmb_append_abort(cmb_appender *app)
{
    cmb_log *log = app->log;
    if (app->stream || app->scratch) {
        if (app->stream)
            cmb_stream_drop(app);
        else
            cmb_scratch_drop(app);
        return;
    }
    cmb_mutex_lock(&log->lock);
    truncate_frames(app);
    moves_undo(app);
    log->head = app->start;
    cmb_appender *adopted = app->adopted;
    uint64_t before = log->stable_segment;
    log->stable_segment = log->head.segment;
    cmb_segments_settle(log, before, log->stable_segment);
    if (log->cut_wanted && log->open->published && cmb_batch_cut(log) == 0)
        log->cut_wanted = false;
    cmb_release(&log->alloc, app, sizeof *app);
    head_give(log);
    cmb_mutex_unlock(&log->lock);
    while (adopted) {
        cmb_appender *next = adopted->next;
        cmb_stream_drop(adopted);
        adopted = next;
    }
}

int cmb_batch_spare(cmb_log *log)
{
    if (!log->spare_batch)
        log->spare_batch = cmb_zalloc(&log->alloc, sizeof *log->spare_batch);
    return log->spare_batch ? 0 : CMB_ENOMEM;
}

int cmb_batch_cut(cmb_log *log)
{
    cmb_batch *batch = log->open;
    assert(batch->last && batch->published);
    int e = cmb_batch_spare(log);
    if (e)
        return e;
    cmb_batch *next = log->spare_batch;
    log->spare_batch = NULL;
    next->seq = batch->seq + 1;
    uint32_t end = cmb_head_end(log), last = cmb_frame_blocks(atomic_load(&batch->last->fill));
    batch->bytes += last;
    log->queued += last;
    log->head_bytes += last;
    log->head.offset = end;
    cmb_table_at(log, log->head.segment)->end = end;
    cmb_radix_dirty(&log->table, cmb_radix_peek(&log->table, log->head.segment));
    batch->end = (cmb_position){log->head.segment, end, (uint32_t)log->head.physical, next->seq, 0};
    if (log->cut_last)
        log->cut_last->next = batch;
    else
        log->cut = batch;
    log->cut_last = batch;
    log->open = next;
    return 0;
}
