/* SPDX-License-Identifier: ISC */
/*
 * source.h: what sources and cursors share: where one stands when it is not on an entry.
 */
#ifndef CMB_BTREE_SOURCE_H
#define CMB_BTREE_SOURCE_H

#include "btree/tree.h"

typedef enum cmb_place {
    CMB_PLACE_UNSET = 0, /* never positioned: next goes to the first, prev to the last */
    CMB_PLACE_BEFORE,    /* before the first: next comes back in */
    CMB_PLACE_ON,
    CMB_PLACE_AFTER, /* past the last: prev comes back in */
    CMB_PLACE_LOST,  /* a move failed: only first, last and seeks go on from here */
} cmb_place;

cmb_place cmb_tree_cursor_place(const cmb_tree_cursor *c);

/* What a relative move returns when the place was lost. */
static inline int cmb_place_lost(void)
{
    return cmb_fail(CMB_EINVAL, "a cursor whose last move failed was moved without being positioned anew");
}

/* A copy of a key that its owner is about to move away from. Memory grows and is kept. */
typedef struct cmb_key_copy {
    uint8_t *data;
    size_t size, capacity;
} cmb_key_copy;
int cmb_key_copy_set(const cmb_allocator *alloc, cmb_key_copy *copy, const void *key, size_t key_size);
int cmb_key_copy_reserve(const cmb_allocator *alloc, cmb_key_copy *copy, size_t size);
void cmb_key_copy_release(const cmb_allocator *alloc, cmb_key_copy *copy);

#endif
