/* SPDX-License-Identifier: ISC */
/*
 * window.h: entries that wait to become nodes: in a row, so that a node is encoded from where they
 * stand, and described by pointers into an arena that is recycled as nodes leave. No allocation per
 * entry.
 */
#ifndef CMB_BTREE_WINDOW_H
#define CMB_BTREE_WINDOW_H

#include "btree/node.h"

typedef struct cmb_chunk cmb_chunk;

typedef struct cmb_window {
    cmb_allocator alloc;
    cmb_entry *entries;
    size_t first, end, capacity; /* waiting: entries[first .. end) */
    uint64_t released;           /* entries that left; the first waiting one is number released + 1 */
    cmb_chunk *oldest, *newest, *spare;
} cmb_window;

void cmb_window_init(cmb_window *w, const cmb_allocator *alloc);
void cmb_window_destroy(cmb_window *w);
/* Empty, numbers from 1 again; memory is kept. */
void cmb_window_reset(cmb_window *w);

/* Memory aligned to 8 for the entry that is added next; lives until that entry is released. NULL: CMB_ENOMEM. */
void *cmb_window_room(cmb_window *w, size_t size);
/* The entry gets the next number. What it points to must live until it is released. */
int cmb_window_add(cmb_window *w, const cmb_entry *entry);
static inline uint64_t cmb_window_count(const cmb_window *w) { return w->released + (w->end - w->first); }
static inline const cmb_entry *cmb_window_at(const cmb_window *w, uint64_t number)
{
    return &w->entries[w->first + (number - w->released - 1)];
}
/* Copies the values that waiting entries have in the `size` bytes at `from`, which are about to go. CMB_ENOMEM. */
int cmb_window_keep_values(cmb_window *w, const void *from, size_t size);
/* Entries up to `number` leave. */
void cmb_window_release(cmb_window *w, uint64_t number);
/* Takes over the memory behind `from`'s waiting entries, which the caller adds next, all of them. */
void cmb_window_adopt(cmb_window *w, cmb_window *from);

#endif
