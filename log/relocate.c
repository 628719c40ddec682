/* SPDX-License-Identifier: ISC */
/*
 * relocate.c: moves what is alive of a range of logical segments into fresh physical ones, one after
 * the other, several to a physical segment. Nothing is copied that was not verified. The new places
 * are flushed before the mapping is published; the old ones go into quarantine and stay as they were
 * for two checkpoints.
 */
#include "log/internal.h"

#include <assert.h>

#define RUN_MAX CMB_RECORD_MAX

typedef struct moved {
    uint64_t logical, old_word;
    uint64_t physical, footer; /* physical 0: nothing alive, no longer mapped */
} moved;

/* The physical segment being filled. */
typedef struct target {
    uint64_t physical; /* 0: none */
    uint64_t at;       /* bytes of data */
    uint64_t flushed;  /* of them on the device, whole blocks */
    size_t first_moved;
} target;

typedef struct logical_entry { uint64_t logical; uint32_t n; } logical_entry;

typedef struct mover {
    cmb_log *log;
    cmb_queue *queue;
    uint8_t *source; /* CMB_FRAME_MAX */
    uint8_t *stage;  /* STAGE_SIZE: data of the target from `flushed` on */
    moved *moved;
    size_t n_moved, moved_capacity;
    cmb_run *runs;      /* of the target */
    size_t n_runs, runs_capacity;
    logical_entry *logicals; /* of the target */
    size_t n_logicals, logicals_capacity;
    uint32_t *taken;
    size_t n_taken, taken_capacity;
    target t;
} mover;

#define STAGE_SIZE (CMB_FRAME_MAX + CMB_FRAME_MAX)

static int array_reserve(const cmb_allocator *alloc, void **items, size_t *capacity, size_t n, size_t size)
{
    if (n <= *capacity)
        return 0;
    size_t more = n < 32 ? 32 : n * 2;
    void *grown = cmb_resize(alloc, *items, *capacity * size, more * size);
    if (!grown)
        return CMB_ENOMEM;
    *items = grown;
    *capacity = more;
    return 0;
}
#define RESERVE(m, array, extra)                                                                           \
    array_reserve(&(m)->log->alloc, (void **)&(m)->array, &(m)->array##_capacity, (m)->n_##array + (extra), \
                  sizeof *(m)->array)

/* ---- the target ---- */

static uint64_t footer_size(uint64_t logicals, uint64_t runs)
{
    return cmb_align_up(CMB_FOOTER_HEADER + logicals * CMB_FOOTER_LOGICAL + runs * CMB_FOOTER_RUN, CMB_BLOCK);
}

static int stage_write(mover *m, uint64_t length)
{
    cmb_log *log = m->log;
    int e = cmb_io_write(m->queue, (m->t.physical << log->shift) + m->t.flushed, m->stage, length);
    if (e) /* nothing refers to the target yet */
        return e == CMB_ENOSPC ? e : cmb_log_latch(log, "relocation");
    atomic_fetch_add_explicit(&log->bytes_written, length, memory_order_relaxed);
    return 0;
}

/* Writes the whole blocks that are staged and keeps the rest. */
static int stage_drain(mover *m)
{
    uint64_t staged = m->t.at - m->t.flushed, whole = staged & ~(uint64_t)(CMB_BLOCK - 1);
    int e = whole ? stage_write(m, whole) : 0;
    if (e)
        return e;
    memmove(m->stage, m->stage + whole, (size_t)(staged - whole));
    m->t.flushed += whole;
    return 0;
}

static void footer_encode(const mover *m, uint8_t *p, uint64_t addr, uint32_t length)
{
    memset(p, 0, (size_t)cmb_align_up(length, CMB_BLOCK));
    cmb_put32(p + CMB_FOOTER_AT_MAGIC, CMB_FOOTER_MAGIC);
    cmb_put32(p + CMB_FOOTER_AT_LENGTH, length);
    cmb_put64(p + CMB_FOOTER_AT_ADDR, addr);
    cmb_put64(p + CMB_FOOTER_AT_GENERATION, m->log->super.generation);
    cmb_put32(p + CMB_FOOTER_AT_LOGICALS, (uint32_t)m->n_logicals);
    cmb_put32(p + CMB_FOOTER_AT_RUNS, (uint32_t)m->n_runs);
    uint8_t *q = p + CMB_FOOTER_HEADER;
    uint32_t first = 0;
    for (size_t i = 0; i < m->n_logicals; i++, q += CMB_FOOTER_LOGICAL) {
        cmb_put64(q, m->logicals[i].logical);
        cmb_put32(q + 8, first);
        cmb_put32(q + 12, m->logicals[i].n);
        first += m->logicals[i].n;
    }
    for (size_t i = 0; i < m->n_runs; i++, q += CMB_FOOTER_RUN) {
        cmb_put32(q, m->runs[i].logical);
        cmb_put32(q + 4, m->runs[i].length);
        cmb_put32(q + 8, m->runs[i].physical);
        cmb_put64(q + 16, m->runs[i].check);
    }
    cmb_put64(p, cmb_hash64(p + 8, length - 8, addr));
}

static int target_close(mover *m)
{
    cmb_log *log = m->log;
    if (!m->t.physical)
        return 0;
    uint64_t end = cmb_align_up(m->t.at, CMB_BLOCK);
    memset(m->stage + (m->t.at - m->t.flushed), 0, (size_t)(end - m->t.at));
    int e = end > m->t.flushed ? stage_write(m, end - m->t.flushed) : 0;
    if (e)
        return e;
    m->t.flushed = end;
    uint32_t length = (uint32_t)(CMB_FOOTER_HEADER + m->n_logicals * CMB_FOOTER_LOGICAL + m->n_runs * CMB_FOOTER_RUN);
    uint64_t size = cmb_align_up(length, CMB_BLOCK);
    uint8_t *footer = cmb_io_buffer(&log->alloc, (size_t)size);
    if (!footer)
        return CMB_ENOMEM;
    uint64_t addr = (m->t.physical << log->shift) + end;
    footer_encode(m, footer, addr, length);
    e = cmb_io_write(m->queue, addr, footer, size);
    cmb_io_buffer_release(&log->alloc, footer, (size_t)size);
    if (e)
        return e == CMB_ENOSPC ? e : cmb_log_latch(log, "relocation");
    atomic_fetch_add_explicit(&log->bytes_written, size, memory_order_relaxed);
    for (size_t i = m->t.first_moved; i < m->n_moved; i++) {
        if (m->moved[i].physical)
            m->moved[i].footer = end;
    }
    m->n_logicals = m->n_runs = 0;
    m->t = (target){0};
    return 0;
}

static int target_open(mover *m)
{
    cmb_log *log = m->log;
    uint64_t physical;
    int e = RESERVE(m, taken, 1);
    if (e)
        return e;
    cmb_mutex_lock(&log->lock);
    e = cmb_space_take(log, /* urgent= */ true, &physical);
    if (!e) {
        m->taken[m->n_taken++] = (uint32_t)physical;
        e = cmb_space_touch(log, physical);
    }
    cmb_mutex_unlock(&log->lock);
    if (e)
        return e;
    cmb_runs_forget(log, physical);
    m->t = (target){.physical = physical, .first_moved = m->n_moved};
    return 0;
}

/* ---- the source ---- */

/* The extents still to be copied of one logical segment. */
typedef struct wanted {
    const cmb_extent *extents;
    size_t n, i;
} wanted;

/* Appends bytes of the source, as a run of its own or at the end of the one before. */
static int copy_extent(mover *m, uint32_t offset, uint32_t length, const uint8_t *bytes, bool same_piece)
{
    logical_entry *entry = &m->logicals[m->n_logicals - 1];
    uint32_t aligned = (uint32_t)cmb_align_up(length, CMB_RECORD_ALIGN);
    int e = RESERVE(m, runs, 1);
    if (!e && m->t.at - m->t.flushed + aligned > STAGE_SIZE)
        e = stage_drain(m);
    if (e)
        return e;
    memcpy(m->stage + (m->t.at - m->t.flushed), bytes, aligned);
    cmb_run *last = entry->n && same_piece ? &m->runs[m->n_runs - 1] : NULL;
    if (last && (last->logical + last->length) * CMB_RECORD_ALIGN == offset
        && last->length * CMB_RECORD_ALIGN + aligned <= RUN_MAX) {
        last->length += aligned / CMB_RECORD_ALIGN;
    } else {
        m->runs[m->n_runs++] = (cmb_run){offset / CMB_RECORD_ALIGN, aligned / CMB_RECORD_ALIGN,
                                         (uint32_t)(m->t.at / CMB_RECORD_ALIGN), 0};
        entry->n++;
    }
    m->t.at += aligned;
    return 0;
}

/*
 * Copies the wanted extents that lie in a verified piece: `length` bytes at `offset` of the logical
 * segment. Runs are whole within a piece, so that their checks are taken from it.
 */
static int copy_piece(mover *m, wanted *w, uint64_t logical, uint64_t offset, uint64_t length, const uint8_t *bytes)
{
    uint64_t base = (logical << m->log->shift) + offset;
    size_t first_run = m->n_runs;
    bool same = false;
    while (w->i < w->n && w->extents[w->i].addr >= base && w->extents[w->i].addr < base + length) {
        const cmb_extent *x = &w->extents[w->i];
        uint64_t at = x->addr - base;
        if (cmb_align_up(at + x->length, CMB_RECORD_ALIGN) > length)
            return cmb_fail(CMB_EINVAL, "the extent at %llu ends outside its frame", (unsigned long long)x->addr);
        int e = copy_extent(m, (uint32_t)(offset + at), x->length, bytes + at, same);
        if (e)
            return e;
        same = true;
        w->i++;
    }
    for (size_t i = first_run; i < m->n_runs; i++) {
        cmb_run *run = &m->runs[i];
        uint64_t at = (uint64_t)run->logical * CMB_RECORD_ALIGN - offset;
        run->check = cmb_hash64(bytes + at, (size_t)run->length * CMB_RECORD_ALIGN, base + at);
    }
    return 0;
}

static int damaged(const cmb_log *log, const wanted *w)
{
    return cmb_fail(CMB_ECORRUPT, "%s: the record at %llu is damaged or in no frame", log->dev->name,
                    (unsigned long long)w->extents[w->i].addr);
}

/* Source with frames: those without wanted records need not be intact. */
static int copy_frames(mover *m, wanted *w, uint64_t logical, uint64_t word, uint64_t used)
{
    cmb_log *log = m->log;
    uint64_t physical = CMB_WORD_PHYSICAL(word), base = logical << log->shift;
    for (uint64_t at = 0; at < used && w->i < w->n;) {
        cmb_frame_info info;
        if (w->extents[w->i].addr < base + at)
            return damaged(log, w);
        int e = cmb_segment_read(log, m->queue, physical, at, m->source, CMB_BLOCK);
        if (e)
            return e;
        uint32_t length = CMB_BLOCK;
        if (cmb_frame_header_ok(log, m->source, base + at, used - at, &info)) {
            length = cmb_frame_blocks(CMB_FRAME_HEADER + info.payload);
            if (w->extents[w->i].addr < base + at + length) {
                e = length > CMB_BLOCK ? cmb_segment_read(log, m->queue, physical, at, m->source, length) : 0;
                if (e)
                    return e;
                if (!cmb_frame_check_ok(m->source, &info))
                    return damaged(log, w);
                e = copy_piece(m, w, logical, at, CMB_FRAME_HEADER + info.payload, m->source);
                if (e)
                    return e;
            }
        }
        at += length;
    }
    return w->i < w->n ? damaged(log, w) : 0;
}

static int copy_runs(mover *m, wanted *w, uint64_t logical, uint64_t word)
{
    cmb_log *log = m->log;
    cmb_run *runs;
    size_t n;
    int e = cmb_runs_copy(log, logical, word, &runs, &n);
    if (e)
        return e;
    for (size_t i = 0; i < n && w->i < w->n && !e; i++) {
        uint64_t offset = (uint64_t)runs[i].logical * CMB_RECORD_ALIGN, addr = (logical << log->shift) + offset;
        uint32_t length = runs[i].length * CMB_RECORD_ALIGN;
        if (w->extents[w->i].addr >= addr + length)
            continue;
        e = length > CMB_FRAME_MAX ? damaged(log, w)
                                   : cmb_segment_read(log, m->queue, CMB_WORD_PHYSICAL(word),
                                                      (uint64_t)runs[i].physical * CMB_RECORD_ALIGN, m->source, length);
        if (!e && (w->extents[w->i].addr < addr || cmb_hash64(m->source, length, addr) != runs[i].check))
            e = damaged(log, w);
        if (!e)
            e = copy_piece(m, w, logical, offset, length, m->source);
    }
    cmb_release(&log->alloc, runs, (n ? n : 1) * sizeof *runs);
    return e ? e : w->i < w->n ? damaged(log, w) : 0;
}

/* ---- one logical segment ---- */

/* Live bytes and at most how many runs they will be. */
static void measure(const wanted *w, uint64_t *out_bytes, uint64_t *out_runs)
{
    uint64_t bytes = 0, runs = 0, end = 0, run = 0;
    for (size_t i = 0; i < w->n; i++) {
        uint64_t aligned = cmb_align_up(w->extents[i].length, CMB_RECORD_ALIGN);
        run = w->extents[i].addr == end && run + aligned <= RUN_MAX ? run + aligned : aligned;
        runs += run == aligned;
        bytes += aligned;
        end = w->extents[i].addr + aligned;
    }
    *out_bytes = bytes;
    *out_runs = runs;
}

static bool fits(const mover *m, uint64_t bytes, uint64_t runs)
{
    uint64_t at = m->t.physical ? m->t.at : 0;
    if (m->n_logicals >= m->log->size >> CMB_FOOTER_SHARE_SHIFT)
        return false;
    return cmb_align_up(at + bytes, CMB_BLOCK) + footer_size(m->n_logicals + 1, m->n_runs + runs) <= m->log->size;
}

static int move_segment(mover *m, uint64_t logical, wanted *w)
{
    cmb_log *log = m->log;
    cmb_segment *s = cmb_table_at(log, logical);
    uint64_t word = atomic_load_explicit(&s->word, memory_order_acquire), bytes, runs;
    measure(w, &bytes, &runs);
    if (CMB_WORD_KIND(word) == CMB_SEG_COMPACTED) { /* extents that touch may lie in two of its runs */
        cmb_run *old;
        size_t n;
        int e = cmb_runs_copy(log, logical, word, &old, &n);
        if (e)
            return e;
        cmb_release(&log->alloc, old, (n ? n : 1) * sizeof *old);
        runs += n;
    }
    int e = RESERVE(m, moved, 1);
    if (!e && w->n && m->t.physical && !fits(m, bytes, runs))
        e = target_close(m);
    if (!e && w->n && !fits(m, bytes, runs))
        return 0; /* dense: it would gain nothing and stays where it is */
    if (!e && w->n && !m->t.physical)
        e = target_open(m);
    if (!e && w->n)
        e = RESERVE(m, logicals, 1);
    if (e)
        return e;
    m->moved[m->n_moved++] = (moved){logical, word, w->n ? m->t.physical : 0, 0};
    if (!w->n)
        return 0;
    m->logicals[m->n_logicals++] = (logical_entry){logical, 0};
    return CMB_WORD_KIND(word) == CMB_SEG_COMPACTED
               ? copy_runs(m, w, logical, word)
               : copy_frames(m, w, logical, word, atomic_load_explicit(&s->written, memory_order_acquire));
}

/* May this one be moved? *out_mapped: is there anything. */
static int may_move(cmb_log *log, uint64_t logical, bool *out_mapped)
{
    cmb_segment *s;
    int e = cmb_table_find(log, logical, &s);
    if (e)
        return e;
    cmb_mutex_lock(&log->lock);
    uint64_t word = s ? atomic_load_explicit(&s->word, memory_order_acquire) : 0;
    *out_mapped = word != 0;
    if (word && (!(word & CMB_WORD_CLOSED) || word & CMB_WORD_OPEN
                 || ((CMB_WORD_KIND(word) == CMB_SEG_PLAIN || CMB_WORD_KIND(word) == CMB_SEG_JOURNAL)
                     && logical >= log->floor_segment)))
        e = cmb_fail(CMB_EBUSY, "%s: logical segment %llu is being filled, or a recovery would walk through it",
                     log->dev->name, (unsigned long long)logical);
    cmb_mutex_unlock(&log->lock);
    return e;
}

/* The extents of one logical segment, cut from the sorted whole. */
static int take_extents(const cmb_log *log, uint64_t logical, const cmb_extent *extents, size_t n, size_t *at, wanted *w)
{
    size_t first = *at;
    uint64_t before = 0;
    for (; *at < n && extents[*at].addr >> log->shift == logical; ++*at) {
        const cmb_extent *x = &extents[*at];
        if (x->addr % CMB_RECORD_ALIGN || x->length < CMB_RECORD_HEADER || x->length > CMB_RECORD_MAX || x->addr < before)
            return cmb_fail(CMB_EINVAL, "extent %zu, at %llu, is no record or out of order", *at,
                            (unsigned long long)x->addr);
        before = x->addr + x->length;
    }
    *w = (wanted){extents + first, *at - first, 0};
    return 0;
}

static int move_all(mover *m, uint64_t first, uint64_t last, const cmb_extent *extents, size_t n)
{
    size_t at = 0;
    for (uint64_t logical = first; logical <= last; logical++) {
        bool mapped;
        wanted w;
        int e = may_move(m->log, logical, &mapped);
        if (!e)
            e = take_extents(m->log, logical, extents, n, &at, &w);
        if (!e && !mapped && w.n)
            e = cmb_fail(CMB_EINVAL, "an extent in logical segment %llu, which is not mapped",
                         (unsigned long long)logical);
        if (!e && mapped)
            e = move_segment(m, logical, &w);
        if (e)
            return e;
    }
    if (at != n)
        return cmb_fail(CMB_EINVAL, "extent %zu lies outside the range or is out of order", at);
    return target_close(m);
}

/* ---- publishing ---- */

static bool is_moved(const mover *m, uint64_t logical)
{
    size_t low = 0, high = m->n_moved;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (m->moved[mid].logical < logical)
            low = mid + 1;
        else
            high = mid;
    }
    return low < m->n_moved && m->moved[low].logical == logical;
}

/* Will nothing lie in a moved segment's old place any more? */
static int emptied(const mover *m, const moved *mv, bool *out_empty)
{
    cmb_log *log = m->log;
    *out_empty = true;
    if (CMB_WORD_KIND(mv->old_word) != CMB_SEG_COMPACTED)
        return 0;
    uint64_t *logicals;
    size_t n;
    int e = cmb_runs_logicals(log, mv->old_word, &logicals, &n);
    if (e)
        return e;
    for (size_t i = 0; i < n && *out_empty && !e; i++) {
        cmb_segment *s;
        e = cmb_table_find(log, logicals[i], &s);
        uint64_t word = !e && s ? atomic_load_explicit(&s->word, memory_order_acquire) : 0;
        if (word && CMB_WORD_PHYSICAL(word) == CMB_WORD_PHYSICAL(mv->old_word) && !is_moved(m, logicals[i]))
            *out_empty = false;
        else if (word && is_moved(m, logicals[i]) && logicals[i] < mv->logical
                 && CMB_WORD_PHYSICAL(word) == CMB_WORD_PHYSICAL(mv->old_word))
            *out_empty = false; /* told with the first of them */
    }
    cmb_release(&log->alloc, logicals, (n ? n : 1) * sizeof *logicals);
    return e;
}

typedef struct publication {
    uint32_t *retired;
    size_t n_retired, retired_capacity;
} publication;

static int append_entries(const mover *m, const publication *p, cmb_appender *app)
{
    uint64_t entries = m->n_moved + p->n_retired, addr;
    uint64_t size = CMB_SEGMENTS_HEADER + entries * CMB_SEGMENTS_ENTRY;
    if (size > CMB_RECORD_MAX - CMB_RECORD_HEADER)
        return cmb_fail(CMB_ETOOBIG, "too many segments to relocate at once: %zu", m->n_moved);
    void *buf;
    int e = cmb_append(app, (uint32_t)size + CMB_RECORD_HEADER, &addr, &buf);
    if (e)
        return e;
    app->counts = true;
    uint8_t *q = (uint8_t *)buf + CMB_RECORD_HEADER;
    cmb_put32(q, (uint32_t)entries);
    q += CMB_SEGMENTS_HEADER;
    for (size_t i = 0; i < m->n_moved; i++, q += CMB_SEGMENTS_ENTRY) {
        cmb_put64(q, m->moved[i].logical);
        cmb_put32(q + 8, (uint32_t)m->moved[i].physical);
        q[12] = m->moved[i].physical ? CMB_SEG_COMPACTED : CMB_SEG_NONE;
        cmb_put64(q + 16, m->moved[i].footer);
    }
    for (size_t i = 0; i < p->n_retired; i++, q += CMB_SEGMENTS_ENTRY) {
        cmb_put32(q + 8, p->retired[i]);
        q[12] = CMB_SEGMENT_RETIRE;
    }
    cmb_record_seal(buf, CMB_RECORD_SEGMENTS, (uint32_t)size + CMB_RECORD_HEADER, addr);
    return 0;
}

/* Under `lock`, in one go with the unit's publication: what a checkpoint saves and the log agree. */
static void switch_mapping(mover *m, const publication *p)
{
    cmb_log *log = m->log;
    for (size_t i = 0; i < m->n_taken; i++)
        cmb_space_live(log, m->taken[i]);
    for (size_t i = 0; i < m->n_moved; i++) {
        const moved *mv = &m->moved[i];
        cmb_page *leaf = cmb_radix_peek(&log->table, mv->logical);
        cmb_segment *s = &leaf->u.segments[mv->logical % CMB_PAGE_FAN];
        s->end = mv->footer;
        atomic_store_explicit(&s->word, mv->physical ? cmb_word_compacted(mv->physical, mv->footer) : 0,
                              memory_order_release);
        cmb_radix_dirty(&log->table, leaf);
    }
    for (size_t i = 0; i < p->n_retired; i++)
        cmb_space_retire(log, p->retired[i]);
    m->n_taken = 0;
}

static int publish(mover *m, publication *p)
{
    cmb_log *log = m->log;
    cmb_appender *app;
    uint64_t seq;
    int e = cmb_log_begin_urgent(log, &app, NULL);
    if (e)
        return e;
    e = append_entries(m, p, app);
    cmb_mutex_lock(&log->lock);
    if (!e)
        e = cmb_batch_spare(log);
    if (!e)
        e = cmb_space_room(log, p->n_retired);
    for (size_t i = 0; i < p->n_retired && !e; i++)
        e = cmb_space_touch(log, p->retired[i]);
    if (!e) {
        cmb_head_publish(app, &seq);
        switch_mapping(m, p);
    }
    cmb_mutex_unlock(&log->lock);
    if (e) {
        cmb_append_abort(app);
        return e;
    }
    for (size_t i = 0; log->options.remapped && i < m->n_moved; i++)
        log->options.remapped(log->options.ctx, m->moved[i].logical);
    return cmb_log_sync(log, seq);
}

static int find_retired(const mover *m, publication *p)
{
    for (size_t i = 0; i < m->n_moved; i++) {
        bool empty;
        int e = emptied(m, &m->moved[i], &empty);
        if (!e && empty)
            e = array_reserve(&m->log->alloc, (void **)&p->retired, &p->retired_capacity, p->n_retired + 1,
                              sizeof *p->retired);
        if (e)
            return e;
        if (empty)
            p->retired[p->n_retired++] = (uint32_t)CMB_WORD_PHYSICAL(m->moved[i].old_word);
    }
    return 0;
}

/* ---- the whole ---- */

static int relocate(mover *m, uint64_t first, uint64_t last, const cmb_extent *extents, size_t n)
{
    cmb_log *log = m->log;
    publication p = {.n_retired = 0};
    m->source = cmb_io_buffer(&log->alloc, CMB_FRAME_MAX);
    m->stage = cmb_io_buffer(&log->alloc, STAGE_SIZE);
    if (!m->source || !m->stage)
        return CMB_ENOMEM;
    int e = cmb_log_queue_take(log, &m->queue);
    if (e)
        return e;
    uint64_t generation = cmb_log_generation(log);
    e = move_all(m, first, last, extents, n);
    if (!e && m->n_taken && cmb_log_flush(log, m->queue, generation))
        e = cmb_log_latch(log, "relocation");
    if (!e && m->n_moved)
        e = find_retired(m, &p);
    if (!e && m->n_moved)
        e = publish(m, &p);
    cmb_release(&log->alloc, p.retired, p.retired_capacity * sizeof *p.retired);
    return e;
}

static void mover_free(mover *m)
{
    cmb_log *log = m->log;
    cmb_mutex_lock(&log->lock);
    while (m->n_taken)
        cmb_space_give(log, m->taken[--m->n_taken]);
    log->relocating = false;
    cmb_mutex_unlock(&log->lock);
    if (m->queue)
        cmb_log_queue_give(log, m->queue);
    cmb_io_buffer_release(&log->alloc, m->source, CMB_FRAME_MAX);
    cmb_io_buffer_release(&log->alloc, m->stage, STAGE_SIZE);
    cmb_release(&log->alloc, m->moved, m->moved_capacity * sizeof *m->moved);
    cmb_release(&log->alloc, m->runs, m->runs_capacity * sizeof *m->runs);
    cmb_release(&log->alloc, m->logicals, m->logicals_capacity * sizeof *m->logicals);
    cmb_release(&log->alloc, m->taken, m->taken_capacity * sizeof *m->taken);
}

int cmb_log_relocate(cmb_log *log, uint64_t first, uint64_t last, const cmb_extent *extents, size_t n)
{
    if (!log->writable || atomic_load_explicit(&log->failed, memory_order_acquire))
        return cmb_log_refuse(log);
    cmb_mutex_lock(&log->lock);
    bool busy = log->relocating || !log->started;
    bool outside = first > last || last >= log->next_logical;
    if (!busy && !outside) {
        log->relocating = true;
        log->relocating_first = first;
        log->relocating_last = last;
    }
    cmb_mutex_unlock(&log->lock);
    if (outside)
        return cmb_fail(CMB_EINVAL, "logical segments %llu to %llu", (unsigned long long)first,
                        (unsigned long long)last);
    if (busy)
        return cmb_fail(CMB_EBUSY, "%s: relocating already, or no checkpoint since the image was opened", log->dev->name);
    mover m = {.log = log};
    int e = relocate(&m, first, last, extents, n);
    mover_free(&m);
    return e;
}
