/* SPDX-License-Identifier: ISC */
/*
 * checkpoint.c: makes the end of a head unit the place where recovery starts.
 *
 *   under `lock`   the unit is published and cut, journal segments below it are dropped, the changed pages
 *                  are encoded as of that moment
 *   then, without  the batch is written and flushed; the pages are written and flushed; the older
 *                  generation's superblocks are overwritten and flushed
 *   under `lock`   what left quarantine is free, the new superblock is the newest
 *
 * Others append meanwhile; whatever they change makes pages dirty for the next checkpoint.
 */
#include "log/internal.h"

#include <assert.h>

typedef struct snapshot {
    cmb_super super;
    uint64_t seq;
    uint64_t *addresses;
    uint8_t *pages;
    size_t n, capacity;
    cmb_journals journals;
} snapshot;

bool cmb_log_checkpoint_due(const cmb_log *log)
{
    cmb_log *l = (cmb_log *)log; /* the lock is the only thing touched */
    cmb_mutex_lock(&l->lock);
    /* Journals are used anew two checkpoints later: three intervals of them have to find room. */
    uint64_t interval = CMB_CHECKPOINT_BYTES / 2, small = log->params.fixed_size / 8;
    interval = small && small < interval ? small : interval;
    bool due = log->writable && (!log->started || log->head_bytes >= interval);
    cmb_mutex_unlock(&l->lock);
    return due;
}

int cmb_check_foreign(cmb_log *log)
{
    cmb_super_slots slots;
    int e = cmb_super_load(log->dev, log->cq, &log->alloc, &slots);
    if (e == CMB_ENOMEM)
        return e;
    if (!e && slots.best.generation == log->super.generation && slots.best.epoch == log->super.epoch
        && memcmp(slots.best.params.uuid, log->params.uuid, 16) == 0) {
        log->mend = slots.best; /* not log->super: its root is a later checkpoint's if recovery walked over one */
        log->bad_copies |= slots.bad_copies;
        return 0;
    }
    if (!e && slots.best.generation < log->super.generation) /* nobody writes an older one: both copies of ours are unreadable */
        e = cmb_fail(CMB_EIO, "the superblocks of generation %llu cannot be read any more", (unsigned long long)log->super.generation);
    else if (!e)
        e = cmb_fail(CMB_EBUSY, "another writer's superblock, generation %llu, epoch %016llx",
                     (unsigned long long)slots.best.generation, (unsigned long long)slots.best.epoch);
    cmb_log_latch(log, "checkpoint");
    return cmb_fail(e, "%s: %s", log->dev->name, log->why);
}

/* ---- room for pages ---- */

static uint64_t pages_a_segment(const cmb_log *log)
{
    return log->size / CMB_BLOCK;
}

/* Worth rewriting everything: the segment in use is nearly full and most of what was written is dead. */
static bool rewrite_due(const cmb_log *log)
{
    uint64_t live = (uint64_t)log->table.on_disk.pages + log->map.on_disk.pages;
    uint64_t soon = log->table.n_dirty + log->map.n_dirty + 64;
    return log->meta_segment && log->meta_next + soon > pages_a_segment(log) && log->meta_pages > 4 * live;
}

static int load_all(cmb_radix *tree)
{
    uint64_t at = 0;
    for (;;) {
        cmb_page *page;
        int e = cmb_radix_next(tree, at, &page);
        if (e || !page)
            return e;
        at = (page->index + 1) * cmb_radix_fan(tree);
    }
}

static void dirty_all(cmb_radix *tree)
{
    for (cmb_page *page = tree->loaded; page; page = page->next_loaded) {
        if (page->level == 0)
            cmb_radix_dirty(tree, page);
    }
}

/* Which physical segments the table names, a byte each. */
static uint8_t *table_marks(cmb_log *log)
{
    uint8_t *named = cmb_zalloc(&log->alloc, (size_t)log->space.count);
    if (!named)
        return NULL;
    for (const cmb_page *page = log->table.loaded; page; page = page->next_loaded) {
        for (unsigned i = 0; page->level == 0 && i < CMB_PAGE_FAN; i++) {
            uint64_t word = atomic_load_explicit(&page->u.segments[i].word, memory_order_relaxed);
            if (word)
                named[CMB_WORD_PHYSICAL(word)] = 1;
        }
    }
    return named;
}

/* Retires the metadata segments: whatever is live and mapped by nobody. All pages are loaded and dirty. */
static int retire_metadata(cmb_log *log, size_t n_journals)
{
    uint8_t *named = table_marks(log);
    if (!named)
        return CMB_ENOMEM;
    size_t n = 0;
    for (uint64_t p = cmb_first_physical(log->shift); p < log->space.count; p++)
        n += cmb_space_state(log, p) == CMB_SEG_LIVE && !named[p];
    int e = cmb_space_room(log, n + n_journals);
    for (uint64_t p = cmb_first_physical(log->shift); p < log->space.count && !e; p++) {
        if (cmb_space_state(log, p) == CMB_SEG_LIVE && !named[p])
            cmb_space_retire(log, p);
    }
    cmb_release(&log->alloc, named, (size_t)log->space.count);
    return e;
}

static int snapshot_reserve(cmb_log *log, snapshot *snap, size_t n)
{
    if (n <= snap->capacity)
        return 0;
    uint64_t *addresses = cmb_alloc(&log->alloc, n * sizeof *addresses);
    uint8_t *pages = addresses ? cmb_io_buffer(&log->alloc, n * CMB_BLOCK) : NULL;
    if (!pages) {
        cmb_release(&log->alloc, addresses, n * sizeof *addresses);
        return CMB_ENOMEM;
    }
    snap->addresses = addresses;
    snap->pages = pages;
    snap->capacity = n;
    return 0;
}

static void snapshot_free(cmb_log *log, snapshot *snap)
{
    cmb_release(&log->alloc, snap->addresses, snap->capacity * sizeof *snap->addresses);
    cmb_io_buffer_release(&log->alloc, snap->pages, snap->capacity * CMB_BLOCK);
    cmb_journals_free(&snap->journals);
}

#define META_SEGMENTS_MAX 64u

/*
 * Finds a place for every dirty page. Segments taken for it make further pages of the state map
 * dirty, so it goes on until it fits. Under `lock`; on failure nothing but dirt is left behind.
 */
static int place_pages(cmb_log *log, snapshot *snap, bool rewrite)
{
    uint64_t taken[META_SEGMENTS_MAX];
    unsigned n_taken = 0;
    uint64_t room = rewrite || !log->meta_segment ? 0 : pages_a_segment(log) - log->meta_next;
    int e = 0;
    while (!e && room < log->table.n_dirty + log->map.n_dirty) {
        if (n_taken == META_SEGMENTS_MAX)
            e = cmb_fail(CMB_ENOSPC, "%s: too many table pages for one checkpoint", log->dev->name);
        if (!e)
            e = cmb_space_take(log, /* urgent= */ true, &taken[n_taken]);
        if (e)
            break;
        e = cmb_space_touch(log, taken[n_taken++]);
        room += pages_a_segment(log);
    }
    size_t n = log->table.n_dirty + log->map.n_dirty;
    if (!e)
        e = snapshot_reserve(log, snap, n);
    if (!e && rewrite)
        e = retire_metadata(log, snap->journals.n);
    if (e) {
        while (n_taken)
            cmb_space_give(log, taken[--n_taken]);
        return e;
    }
    uint64_t segment = rewrite ? 0 : log->meta_segment, next = segment ? log->meta_next : pages_a_segment(log);
    unsigned used = 0;
    for (size_t i = 0; i < n; i++) {
        if (next == pages_a_segment(log)) {
            segment = taken[used++];
            next = 0;
        }
        snap->addresses[i] = (segment << log->shift) + next++ * CMB_BLOCK;
    }
    assert(used == n_taken);
    for (unsigned i = 0; i < n_taken; i++)
        cmb_space_live(log, taken[i]);
    log->meta_segment = segment;
    log->meta_next = next;
    log->meta_pages = (rewrite ? 0 : log->meta_pages) + n;
    snap->n = n;
    return 0;
}

/* ---- the snapshot ---- */

/* All that can fail. Under `lock`, the unit still open. */
static int snapshot_ready(cmb_log *log, snapshot *snap, bool rewrite)
{
    int e = cmb_batch_spare(log);
    if (!e)
        e = cmb_space_step_ready(log);
    if (!e)
        e = cmb_journals_ready(&snap->journals);
    if (e)
        return e;
    cmb_radix_dirty(&log->table, cmb_radix_peek(&log->table, log->head.segment));
    if (rewrite) {
        dirty_all(&log->table);
        dirty_all(&log->map);
    }
    return place_pages(log, snap, rewrite);
}

/* Under `lock`, after the cut. */
static void snapshot_take(cmb_log *log, snapshot *snap, uint64_t root_addr, uint32_t root_length)
{
    cmb_super *s = &snap->super;
    *s = log->super;
    s->generation++;
    s->epoch = log->epoch;
    s->durable_seq = snap->seq;
    cmb_journals_drop(&snap->journals);
    cmb_space_step(log);
    size_t n = cmb_radix_encode(&log->table, s->generation, snap->addresses, snap->pages);
    n += cmb_radix_encode(&log->map, s->generation, snap->addresses + n, snap->pages + n * CMB_BLOCK);
    assert(n == snap->n);
    s->table = log->table.on_disk;
    s->map = log->map.on_disk;
    s->count = log->space.count;
    s->fresh = log->space.fresh;
    s->meta_segment = log->meta_segment;
    s->meta_next = log->meta_next;
    s->meta_pages = log->meta_pages;
    s->next_logical = log->next_logical;
    s->pos = log->cut_last->end;
    s->journals = log->journal_floor;
    s->root_addr = root_addr;
    s->root_length = root_length;
    s->n_next = log->n_next;
    memset(s->next, 0, sizeof s->next);
    memcpy(s->next, log->next, log->n_next * sizeof *log->next);
    log->position_seq = snap->seq;
    log->head_bytes = 0;
}

/* ---- writing ---- */

static int write_pages(cmb_log *log, const snapshot *snap)
{
    for (size_t i = 0; i < snap->n;) {
        size_t run = 1;
        while (i + run < snap->n && snap->addresses[i + run] == snap->addresses[i] + run * CMB_BLOCK)
            run++;
        int e = cmb_io_write(log->cq, snap->addresses[i], snap->pages + i * CMB_BLOCK, run * CMB_BLOCK);
        if (e)
            return e;
        atomic_fetch_add_explicit(&log->bytes_metadata, run * CMB_BLOCK, memory_order_relaxed);
        atomic_fetch_add_explicit(&log->bytes_written, run * CMB_BLOCK, memory_order_relaxed);
        i += run;
    }
    return 0;
}

static int write_super(cmb_log *log, const snapshot *snap)
{
    uint64_t generation = cmb_log_generation(log);
    uint8_t *block = snap->pages; /* written and flushed: its memory is free */
    int e = 0;
    if (log->bad_copies) { /* mend the generation that a crash from here on falls back to */
        e = cmb_super_write(log->cq, &log->mend, log->bad_copies, block);
        if (!e)
            e = cmb_log_flush(log, log->cq, generation);
    }
    if (!e)
        e = cmb_super_write(log->cq, &snap->super, cmb_super_pair(snap->super.generation), block);
    if (!e)
        e = cmb_log_flush(log, log->cq, generation);
    if (!e)
        atomic_fetch_add_explicit(&log->bytes_written, 2 * CMB_BLOCK, memory_order_relaxed);
    return e;
}

/* Everything after the unit was cut. Its batch first: a superblock names only what is durable. */
static int snapshot_write(cmb_log *log, snapshot *snap)
{
    int e = cmb_log_sync(log, snap->seq);
    if (e)
        return e;
    cmb_mutex_lock(&log->lock);
    snap->super.pos.prev = log->position_prev;
    cmb_mutex_unlock(&log->lock);
    uint64_t generation = cmb_log_generation(log);
    e = write_pages(log, snap);
    if (!e)
        e = cmb_log_flush(log, log->cq, generation);
    if (!e)
        e = write_super(log, snap);
    return e ? cmb_log_latch(log, "checkpoint") : 0;
}

static void snapshot_done(cmb_log *log, const snapshot *snap)
{
    cmb_mutex_lock(&log->lock);
    cmb_space_settle(log);
    log->floor_segment = log->super.pos.segment;
    cmb_mutex_lock(&log->table_lock); /* page checks go by its segment count */
    log->super = snap->super;
    cmb_mutex_unlock(&log->table_lock);
    log->bad_copies = 0;
    log->started = true;
    log->checkpointing = false;
    cmb_cond_broadcast(&log->changed);
    cmb_mutex_unlock(&log->lock);
}

static int checkpoint_claim(cmb_log *log)
{
    if (atomic_load_explicit(&log->failed, memory_order_acquire))
        return cmb_log_refuse(log);
    cmb_mutex_lock(&log->lock);
    bool taken = log->checkpointing;
    log->checkpointing = true;
    cmb_mutex_unlock(&log->lock);
    return taken ? cmb_fail(CMB_EBUSY, "%s: a checkpoint is being written", log->dev->name) : 0;
}

static void checkpoint_unclaim(cmb_log *log)
{
    cmb_mutex_lock(&log->lock);
    log->checkpointing = false;
    cmb_mutex_unlock(&log->lock);
}

int cmb_log_checkpoint(cmb_appender *app, uint64_t root_addr, uint32_t root_length, const uint64_t *pins, size_t n_pins,
                       uint64_t *out_seq)
{
    cmb_log *log = app->log;
    snapshot snap = {.journals = {.log = log, .pins = pins, .n_pins = n_pins, .root_addr = root_addr}};
    int e = checkpoint_claim(log);
    if (e)
        return e;
    cmb_mutex_lock(&log->lock);
    bool rewrite = rewrite_due(log);
    cmb_mutex_unlock(&log->lock);
    e = cmb_check_foreign(log);
    if (!e && rewrite)
        e = load_all(&log->table);
    if (!e && rewrite)
        e = load_all(&log->map);
    if (!e)
        e = cmb_unit_segments(app, root_addr, root_length, /* checkpoint= */ true);
    if (e) {
        checkpoint_unclaim(log);
        return e;
    }
    cmb_mutex_lock(&log->lock);
    cmb_unit_note(app); /* before journal segments are chosen to be dropped: the unit may have begun in one that is behind the head by now */
    e = snapshot_ready(log, &snap, rewrite);
    if (!e) {
        cmb_head_publish(app, &snap.seq);
        log->cut_wanted = false;
        e = cmb_batch_cut(log);
        assert(!e);
        snapshot_take(log, &snap, root_addr, root_length);
    }
    cmb_mutex_unlock(&log->lock);
    if (e) {
        snapshot_free(log, &snap);
        checkpoint_unclaim(log);
        return e;
    }
    e = snapshot_write(log, &snap);
    if (!e)
        snapshot_done(log, &snap);
    if (!e)
        *out_seq = snap.seq;
    snapshot_free(log, &snap);
    return e;
}
