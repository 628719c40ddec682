/* SPDX-License-Identifier: ISC */
/*
 * diff.h: the entries in which two trees of one image differ, in key order.
 *
 * Both trees are walked together from their roots; where references have equal names the whole subtree is passed over, at
 * every level, so that the cost is O(changes * log n) whatever the size and whether or not the trees have a common past: the
 * shape is canonical, so equal runs of entries lie in equal nodes. Levels may differ in height.
 */
#ifndef CMB_BTREE_DIFF_H
#define CMB_BTREE_DIFF_H

#include "btree/tree.h"

/* One key that differs. NULL: the tree has no such key. Everything is valid during the callback only. */
typedef struct cmb_tree_change {
    cmb_bytes key;
    const cmb_found *before, *after;
} cmb_tree_change;
/* Non-zero stops the diff and is returned. */
typedef int (*cmb_tree_change_fn)(void *ctx, const cmb_tree_change *change);

typedef struct cmb_diff_stats {
    uint64_t nodes_read, changes;
} cmb_diff_stats;

/* from <= key < to; NULL: open. stats may be NULL. Inline values are equal when their bytes are, out-of-line ones when size and name are. */
int cmb_tree_diff(const cmb_tree *tree, const cmb_noderef *before, const cmb_noderef *after, const cmb_bytes *from, const cmb_bytes *to,
                  cmb_tree_change_fn fn, void *ctx, cmb_diff_stats *stats);

/*
 * The same, asked for one change after the other. What `from` and `to` point to must stay until the differ is closed.
 */
typedef struct cmb_differ cmb_differ;
int cmb_differ_open(const cmb_tree *tree, const cmb_noderef *before, const cmb_noderef *after, const cmb_bytes *from, const cmb_bytes *to,
                    cmb_differ **out_differ);
/* The next change, valid until the next call; CMB_ENOTFOUND without a detail: there is none. */
int cmb_differ_next(cmb_differ *differ, const cmb_tree_change **out_change);
void cmb_differ_close(cmb_differ *differ); /* NULL allowed */

/* Is the content the same? By names alone, without reading. */
static inline bool cmb_tree_same(const cmb_noderef *a, const cmb_noderef *b)
{
    return a->level == b->level && a->count == b->count && cmb_name_equal(&a->name, &b->name);
}

#endif
