/* SPDX-License-Identifier: ISC */
/*
 * merge.h: three trees into one. What only `theirs` changed against `base` is taken over from it, whole subtrees by
 * reference where `ours` has left that part of `base` alone; only keys that both changed, and not alike, are asked about.
 * Both ends of a subtree taken over are decided anew, so that the result is the tree that a fresh build of its entries would be.
 */
#ifndef CMB_BTREE_MERGE_H
#define CMB_BTREE_MERGE_H

#include "btree/diff.h"

/* A key that both sides changed in different ways. NULL: absent there. Valid during the callback only. */
typedef struct cmb_tree_clash {
    cmb_bytes key;
    const cmb_found *base, *ours, *theirs;
} cmb_tree_clash;
typedef enum cmb_clash_answer { CMB_CLASH_OURS = 0, CMB_CLASH_THEIRS = 1, CMB_CLASH_EDIT = 2 } cmb_clash_answer;
/*
 * CMB_CLASH_EDIT: *out_edit says what the key becomes (PUT, PUT_FAR or DELETE; its key is ignored; what its value points to
 * must stay until the next callback or the end). Negative stops the merge and is returned. Keys come in ascending order.
 */
typedef int (*cmb_tree_clash_fn)(void *ctx, const cmb_tree_clash *clash, cmb_edit *out_edit);

typedef struct cmb_merge_stats {
    uint64_t nodes_read, nodes_written, bytes_written;
    uint64_t adopted;  /* subtrees of theirs taken over by reference, also such as ours has as well */
    uint64_t clashes;
} cmb_merge_stats;

/* New nodes go to `app`, which has to lie above all three trees (cmb_stream_rise). A result that equals ours or theirs is that very root. stats may be NULL. */
int cmb_tree_merge(const cmb_tree *tree, const cmb_noderef *base, const cmb_noderef *ours, const cmb_noderef *theirs,
                   cmb_appender *app, cmb_tree_clash_fn fn, void *ctx, cmb_noderef *out_root, cmb_merge_stats *stats);

#endif
