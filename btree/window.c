/* SPDX-License-Identifier: ISC */
/* window.c: a queue of entries over a queue of arena chunks. */
#include "btree/window.h"

#include <assert.h>

#define CHUNK_MIN (8u * 1024) /* small commits need little, and bulk loads stay in the cache */
#define CHUNK_MAX (64u * 1024)
#define ENTRIES_START 256u

struct cmb_chunk {
    cmb_chunk *next;
    uint64_t last; /* number of the newest entry with something in here */
    size_t size, used; /* bytes of data */
    _Alignas(16) uint8_t data[];
};

void cmb_window_init(cmb_window *w, const cmb_allocator *alloc)
{
    *w = (cmb_window){.alloc = *alloc};
}

static void chunks_free(cmb_window *w, cmb_chunk *chunk)
{
    while (chunk) {
        cmb_chunk *next = chunk->next;
        cmb_release(&w->alloc, chunk, sizeof(*chunk) + chunk->size);
        chunk = next;
    }
}

void cmb_window_destroy(cmb_window *w)
{
    chunks_free(w, w->oldest);
    chunks_free(w, w->spare);
    cmb_release(&w->alloc, w->entries, w->capacity * sizeof(*w->entries));
    *w = (cmb_window){.alloc = w->alloc};
}

void cmb_window_reset(cmb_window *w)
{
    cmb_window_release(w, cmb_window_count(w));
    w->released = 0;
    if (w->newest)
        w->newest->last = 0;
}

static cmb_chunk *chunk_take(cmb_window *w, size_t size)
{
    cmb_chunk *chunk = w->spare;
    if (chunk && chunk->size >= size) {
        w->spare = chunk->next;
    } else {
        size_t capacity = w->newest ? CHUNK_MAX : CHUNK_MIN;
        capacity = size > capacity ? size : capacity;
        chunk = cmb_alloc(&w->alloc, sizeof(*chunk) + capacity);
        if (!chunk)
            return NULL;
        chunk->size = capacity;
    }
    chunk->used = 0;
    chunk->last = 0;
    chunk->next = NULL;
    return chunk;
}

void *cmb_window_room(cmb_window *w, size_t size)
{
    size = cmb_align_up(size, 8);
    cmb_chunk *chunk = w->newest;
    if (CMB_UNLIKELY(!chunk || chunk->size - chunk->used < size)) {
        cmb_chunk *fresh = chunk_take(w, size);
        if (!fresh)
            return NULL;
        if (chunk) {
            /* The entry that is being made may have something in the old one. */
            uint64_t next = cmb_window_count(w) + 1;
            chunk->last = chunk->last > next ? chunk->last : next;
            chunk->next = fresh;
        } else {
            w->oldest = fresh;
        }
        w->newest = chunk = fresh;
    }
    void *room = chunk->data + chunk->used;
    chunk->used += size;
    return room;
}

/* Makes room for one more entry at the end of the row. */
static int row_extend(cmb_window *w)
{
    size_t n = w->end - w->first;
    if (w->first > n) { /* mostly left behind: what is copied was paid for by what was released */
        memmove(w->entries, w->entries + w->first, n * sizeof(*w->entries));
    } else {
        size_t capacity = w->capacity ? 2 * w->capacity : ENTRIES_START;
        cmb_entry *entries = cmb_alloc(&w->alloc, capacity * sizeof(*entries));
        if (!entries)
            return CMB_ENOMEM;
        if (n)
            memcpy(entries, w->entries + w->first, n * sizeof(*entries));
        cmb_release(&w->alloc, w->entries, w->capacity * sizeof(*entries));
        w->entries = entries;
        w->capacity = capacity;
    }
    w->first = 0;
    w->end = n;
    return 0;
}

int cmb_window_add(cmb_window *w, const cmb_entry *entry)
{
    if (CMB_UNLIKELY(w->end == w->capacity) && row_extend(w))
        return CMB_ENOMEM;
    w->entries[w->end++] = *entry;
    uint64_t number = cmb_window_count(w);
    if (w->newest && w->newest->last < number)
        w->newest->last = number;
    return 0;
}

int cmb_window_keep_values(cmb_window *w, const void *from, size_t size)
{
    for (size_t i = w->first; i < w->end; i++) {
        cmb_entry *e = &w->entries[i];
        if (!e->value_size || (uintptr_t)e->value - (uintptr_t)from >= size)
            continue;
        /* Memory for the entry to come outlives those that are here. */
        uint8_t *room = cmb_window_room(w, e->value_size);
        if (!room)
            return CMB_ENOMEM;
        memcpy(room, e->value, e->value_size);
        e->value = room;
    }
    return 0;
}

void cmb_window_release(cmb_window *w, uint64_t number)
{
    assert(number >= w->released && number <= cmb_window_count(w));
    w->first += number - w->released;
    w->released = number;
    while (w->oldest && w->oldest != w->newest && w->oldest->last <= number) {
        cmb_chunk *chunk = w->oldest;
        w->oldest = chunk->next;
        chunk->next = w->spare;
        w->spare = chunk;
    }
    if (w->newest && w->oldest == w->newest && w->newest->last <= number && w->first == w->end)
        w->newest->used = 0;
}

void cmb_window_adopt(cmb_window *w, cmb_window *from)
{
    if (!from->oldest)
        return;
    uint64_t last = cmb_window_count(w) + (from->end - from->first);
    for (cmb_chunk *chunk = from->oldest; chunk; chunk = chunk->next)
        chunk->last = last;
    if (w->newest)
        w->newest->next = from->oldest;
    else
        w->oldest = from->oldest;
    w->newest = from->newest;
    from->oldest = from->newest = NULL;
}
