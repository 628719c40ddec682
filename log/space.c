/* SPDX-License-Identifier: ISC */
/*
 * space.c: which physical segments are free.
 *
 *     free --take--> busy --live--> live --retire--> quarantine 1
 *      ^               |                                  | a checkpoint that no longer maps it
 *      |               | give                             v
 *      +---------------+<-- the checkpoint after ---- quarantine 2
 *
 * Busy is known in memory only (next[], open streams, what is leaving quarantine): on the device such
 * a segment is free. A segment in quarantine 1 is mapped by the newest durable superblock, one in
 * quarantine 2 by the older one at most; both must be able to serve as the start of a recovery.
 */
#include "log/internal.h"

#include <assert.h>

static int list_reserve(const cmb_allocator *alloc, cmb_list32 *list, size_t n)
{
    if (n <= list->capacity)
        return 0;
    size_t capacity = n < 16 ? 16 : n * 2;
    uint32_t *items = cmb_resize(alloc, list->items, list->capacity * sizeof *items, capacity * sizeof *items);
    if (!items)
        return CMB_ENOMEM;
    list->items = items;
    list->capacity = capacity;
    return 0;
}

void cmb_space_free(cmb_space *space, const cmb_allocator *alloc)
{
    cmb_release(alloc, space->marks, space->marks_size);
    cmb_release(alloc, space->q1.items, space->q1.capacity * sizeof *space->q1.items);
    cmb_release(alloc, space->q2.items, space->q2.capacity * sizeof *space->q2.items);
    cmb_release(alloc, space->limbo.items, space->limbo.capacity * sizeof *space->limbo.items);
    memset(space, 0, sizeof *space);
}

static int marks_grow(cmb_log *log, uint64_t count)
{
    cmb_space *space = &log->space;
    if (count <= space->marks_size)
        return 0;
    uint8_t *marks = cmb_resize(&log->alloc, space->marks, space->marks_size, (size_t)count);
    if (!marks)
        return CMB_ENOMEM;
    memset(marks + space->marks_size, 0, (size_t)count - space->marks_size);
    space->marks = marks;
    space->marks_size = (size_t)count;
    return 0;
}

/* ---- states ---- */

static unsigned state_in(const cmb_page *page, uint64_t physical)
{
    uint64_t i = physical % CMB_PAGE_STATES;
    return page->u.states[i / 4] >> (2 * (i % 4)) & 3;
}

cmb_segment_state cmb_space_state(cmb_log *log, uint64_t physical)
{
    const cmb_page *page = cmb_radix_peek(&log->map, physical);
    return page ? (cmb_segment_state)state_in(page, physical) : CMB_SEG_FREE;
}

static void set_state(cmb_log *log, uint64_t physical, cmb_segment_state state)
{
    cmb_page *page = cmb_radix_peek(&log->map, physical);
    assert(page);
    uint64_t i = physical % CMB_PAGE_STATES;
    log->space.states[state_in(page, physical)]--;
    log->space.states[state]++;
    uint8_t *byte = &page->u.states[i / 4];
    *byte = (uint8_t)((*byte & ~(3u << (2 * (i % 4)))) | (unsigned)state << (2 * (i % 4)));
    cmb_radix_dirty(&log->map, page);
}

int cmb_space_touch(cmb_log *log, uint64_t physical)
{
    cmb_page *page;
    int e = cmb_radix_make(&log->map, physical, &page);
    if (!e)
        cmb_radix_dirty(&log->map, page);
    return e;
}

int cmb_space_room(cmb_log *log, size_t n)
{
    return list_reserve(&log->alloc, &log->space.q1, log->space.q1.n + n);
}

/* ---- loading ---- */

static int load_page(cmb_log *log, const cmb_page *page)
{
    cmb_space *space = &log->space;
    uint64_t base = page->index * CMB_PAGE_STATES;
    for (uint64_t p = base; p < base + CMB_PAGE_STATES; p++) {
        unsigned state = state_in(page, p);
        if (state == CMB_SEG_FREE)
            continue;
        if (p < cmb_first_physical(log->shift) || p >= space->count)
            return cmb_fail(CMB_ECORRUPT, "%s: state map names segment %llu of %llu", log->dev->name,
                            (unsigned long long)p, (unsigned long long)space->count);
        space->states[state]++;
        space->states[CMB_SEG_FREE]--;
        cmb_list32 *list = state == CMB_SEG_QUARANTINE1 ? &space->q1 : &space->q2;
        if (state == CMB_SEG_LIVE)
            continue;
        int e = list_reserve(&log->alloc, list, list->n + 1);
        if (e)
            return e;
        list->items[list->n++] = (uint32_t)p;
    }
    return 0;
}

int cmb_space_load(cmb_log *log)
{
    cmb_space *space = &log->space;
    if (space->loaded)
        return 0;
    int e = marks_grow(log, space->count);
    if (e)
        return e;
    uint64_t first = cmb_first_physical(log->shift);
    space->q1.n = space->q2.n = 0;
    memset(space->states, 0, sizeof space->states);
    space->states[CMB_SEG_FREE] = space->count - first;
    for (uint64_t at = 0; at < space->count; at += CMB_PAGE_STATES) {
        cmb_page *page;
        e = cmb_radix_next(&log->map, at, &page);
        if (!e && page)
            e = load_page(log, page);
        if (e)
            return e;
        if (!page)
            break;
        at = page->index * CMB_PAGE_STATES;
    }
    space->free = space->states[CMB_SEG_FREE];
    space->hint = first;
    space->settled = space->count; /* recovery flushes before anything is taken */
    space->loaded = true;
    return 0;
}

/* ---- taking and giving ---- */

static bool is_free(cmb_log *log, uint64_t physical)
{
    return cmb_space_state(log, physical) == CMB_SEG_FREE && !(log->space.marks[physical] & CMB_MARK_BUSY);
}

static uint64_t growable(cmb_log *log)
{
    cmb_caps caps;
    if (log->params.fixed_size)
        return 0;
    cmb_device_caps(log->dev, &caps);
    if (!(caps.flags & CMB_CAP_GROW))
        return 0;
    uint64_t most = caps.max_size >> log->shift;
    if (most > UINT32_MAX)
        most = UINT32_MAX;
    return most > log->space.count ? most - log->space.count : 0;
}

uint64_t cmb_space_available(cmb_log *log)
{
    return log->space.free + growable(log);
}

uint64_t cmb_space_reserve(const cmb_log *log)
{
    uint64_t n = log->space.count / 32;
    return n < 2 ? 2 : n > 8 ? 8 : n;
}

uint64_t cmb_log_room(cmb_log *log)
{
    if (!log->writable)
        return 0;
    if (!log->params.fixed_size)
        return UINT64_MAX;
    cmb_mutex_lock(&log->lock);
    uint64_t n = cmb_space_load(log) ? 0 : log->space.free + log->n_next, reserve = cmb_space_reserve(log);
    cmb_mutex_unlock(&log->lock);
    return n > reserve ? (n - reserve) << log->shift : 0;
}

static int grow_to(cmb_log *log, uint64_t count)
{
    cmb_space *space = &log->space;
    int e = marks_grow(log, count);
    if (e)
        return e;
    cmb_caps caps;
    cmb_device_caps(log->dev, &caps);
    if (caps.size < count << log->shift) {
        e = log->dev->ops->grow(log->dev, count << log->shift);
        if (e)
            return e;
    }
    space->states[CMB_SEG_FREE] += count - space->count;
    space->free += count - space->count;
    space->count = count;
    return 0;
}

int cmb_space_follow(cmb_log *log, uint64_t physical)
{
    cmb_caps caps;
    if (log->writable || log->params.fixed_size || physical < log->space.count)
        return 0;
    cmb_device_caps(log->dev, &caps);
    uint64_t count = caps.size >> log->shift;
    if (physical >= count || physical > UINT32_MAX)
        return 0;
    return grow_to(log, count > UINT32_MAX ? UINT32_MAX : count);
}

static int grow(cmb_log *log)
{
    uint64_t most = growable(log), more = log->space.count / 16;
    if (more < CMB_GROW_SEGMENTS)
        more = CMB_GROW_SEGMENTS;
    if (more > most)
        more = most;
    if (more == 0)
        return cmb_fail(CMB_ENOSPC, "%s: no free segment", log->dev->name);
    int e = grow_to(log, log->space.count + more);
    if (e == CMB_ENOSPC && more > 1)
        e = grow_to(log, log->space.count + 1);
    return e;
}

int cmb_space_take(cmb_log *log, bool urgent, uint64_t *out_physical)
{
    cmb_space *space = &log->space;
    assert(space->loaded);
    if (!urgent && cmb_space_available(log) <= cmb_space_reserve(log))
        return cmb_fail(CMB_ENOSPC, "%s: %llu free segments are left, kept for checkpoints and cleaning",
                        log->dev->name, (unsigned long long)space->free);
    if (space->free == 0) {
        int e = grow(log);
        if (e)
            return e;
    }
    uint64_t p = space->hint;
    while (p < space->count && !is_free(log, p))
        p++;
    assert(p < space->count);
    space->hint = p + 1;
    space->free--;
    space->marks[p] |= CMB_MARK_BUSY;
    if (p >= space->fresh) {
        space->fresh = p + 1;
        space->marks[p] |= CMB_MARK_FRESH;
    }
    *out_physical = p;
    return 0;
}

/* Takes a segment out of those that leave quarantine. */
static bool claim_from_limbo(cmb_space *space, uint64_t physical)
{
    for (size_t i = 0; i < space->limbo.n; i++) {
        if (space->limbo.items[i] == physical) {
            space->limbo.items[i] = space->limbo.items[--space->limbo.n];
            space->free++;
            return true;
        }
    }
    return false;
}

void cmb_space_leave(cmb_log *log, uint64_t physical)
{
    if (claim_from_limbo(&log->space, physical))
        log->space.free--; /* still busy */
}

int cmb_space_claim(cmb_log *log, uint64_t physical)
{
    cmb_space *space = &log->space;
    if (physical < cmb_first_physical(log->shift) || physical >= space->count
        || (!is_free(log, physical) && !claim_from_limbo(space, physical)))
        return cmb_fail(CMB_ECORRUPT, "%s: segment %llu is to be used next and is not free", log->dev->name,
                        (unsigned long long)physical);
    space->free--;
    space->marks[physical] |= CMB_MARK_BUSY | CMB_MARK_FRESH;
    if (physical >= space->fresh)
        space->fresh = physical + 1;
    return 0;
}

static void freed(cmb_space *space, uint64_t physical)
{
    space->marks[physical] &= (uint8_t)~CMB_MARK_BUSY;
    space->free++;
    if (physical < space->hint)
        space->hint = physical;
}

void cmb_space_give(cmb_log *log, uint64_t physical)
{
    assert(log->space.marks[physical] & CMB_MARK_BUSY);
    freed(&log->space, physical);
}

void cmb_space_live(cmb_log *log, uint64_t physical)
{
    cmb_space *space = &log->space;
    if (!(space->marks[physical] & CMB_MARK_BUSY))
        space->free--;
    space->marks[physical] &= (uint8_t)~CMB_MARK_BUSY;
    set_state(log, physical, CMB_SEG_LIVE);
}

void cmb_space_unlive(cmb_log *log, uint64_t physical)
{
    set_state(log, physical, CMB_SEG_FREE);
    log->space.marks[physical] |= CMB_MARK_BUSY;
}

void cmb_space_retire(cmb_log *log, uint64_t physical)
{
    cmb_space *space = &log->space;
    assert(cmb_space_state(log, physical) == CMB_SEG_LIVE && space->q1.n < space->q1.capacity);
    space->marks[physical] &= (uint8_t)~CMB_MARK_FRESH;
    set_state(log, physical, CMB_SEG_QUARANTINE1);
    space->q1.items[space->q1.n++] = (uint32_t)physical;
}

void cmb_space_unknown(cmb_log *log, uint64_t physical)
{
    log->space.marks[physical] |= CMB_MARK_FRESH;
}

bool cmb_space_fresh(const cmb_log *log, uint64_t physical)
{
    return log->space.marks[physical] & CMB_MARK_FRESH;
}

/* ---- quarantine ---- */

int cmb_space_step_ready(cmb_log *log)
{
    const cmb_space *space = &log->space;
    int e = 0;
    for (size_t i = 0; i < space->q1.n && !e; i++)
        e = cmb_space_touch(log, space->q1.items[i]);
    for (size_t i = 0; i < space->q2.n && !e; i++)
        e = cmb_space_touch(log, space->q2.items[i]);
    return e;
}

void cmb_space_step(cmb_log *log)
{
    cmb_space *space = &log->space;
    assert(space->limbo.n == 0);
    for (size_t i = 0; i < space->q2.n; i++) {
        set_state(log, space->q2.items[i], CMB_SEG_FREE);
        space->marks[space->q2.items[i]] |= CMB_MARK_BUSY;
    }
    for (size_t i = 0; i < space->q1.n; i++)
        set_state(log, space->q1.items[i], CMB_SEG_QUARANTINE2);
    cmb_list32 empty = space->limbo;
    space->limbo = space->q2;
    space->q2 = space->q1;
    space->q1 = empty;
}

void cmb_space_settle(cmb_log *log)
{
    cmb_space *space = &log->space;
    for (size_t i = 0; i < space->limbo.n; i++)
        freed(space, space->limbo.items[i]);
    space->limbo.n = 0;
}

int cmb_space_unsettle(cmb_log *log)
{
    cmb_space *space = &log->space;
    int e = list_reserve(&log->alloc, &space->q2, space->q2.n + space->limbo.n);
    if (e)
        return e;
    for (size_t i = 0; i < space->limbo.n; i++) {
        set_state(log, space->limbo.items[i], CMB_SEG_QUARANTINE2);
        space->marks[space->limbo.items[i]] &= (uint8_t)~CMB_MARK_BUSY;
        space->q2.items[space->q2.n++] = space->limbo.items[i];
    }
    space->limbo.n = 0;
    return 0;
}
