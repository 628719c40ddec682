/* SPDX-License-Identifier: ISC */
/*
 * side.h: one tree's side of a walk that takes several trees along together (diff.c, merge.c).
 *
 * A side stands on an item: a whole subtree that nothing was read of yet, or an entry of a leaf. Items come in key order; a
 * subtree is either passed over or descended into. All keys below `from` are done with: a subtree may still hold some, but
 * descending leaves them behind.
 */
#ifndef CMB_BTREE_SIDE_H
#define CMB_BTREE_SIDE_H

#include "btree/diff.h"

typedef struct cmb_side_step {
    cmb_pin pin;
    cmb_node node;
    uint32_t index, end; /* the item's entry; where those that are asked for end */
} cmb_side_step;

typedef struct cmb_side {
    const cmb_tree *tree;
    cmb_noderef root;
    const cmb_bytes *from, *to; /* from <= key < to; NULL: open. What they point to may change while the side is open. */
    cmb_side_step *steps;       /* the root's first */
    unsigned depth;             /* of them in use; 0: the root is the item */
    bool ended;
    bool has_key, has_ref;      /* the item's are worked out */
    uint32_t key_size;
    uint8_t *key;               /* 2 * CMB_KEY_MAX bytes: the item's, and scratch */
    cmb_noderef ref;
    uint64_t reads;             /* nodes */
} cmb_side;

int cmb_side_open(cmb_side *side, const cmb_tree *tree, const cmb_noderef *root, const cmb_bytes *from, const cmb_bytes *to);
void cmb_side_close(cmb_side *side); /* also after a failed open, or zeroed */

/* Of the item; -1: it is an entry of a leaf. Not when ended. */
static inline int cmb_side_level(const cmb_side *side)
{
    return side->depth ? side->steps[side->depth - 1].node.level - 1 : side->root.level;
}
static inline bool cmb_side_on_entry(const cmb_side *side) { return !side->ended && cmb_side_level(side) < 0; }
/* The item is a subtree: reads its node and stands on the first item below. CMB_ECORRUPT also if its keys are not in the range that the nodes above give it. */
int cmb_side_descend(cmb_side *side);
/* To the item after this one. */
void cmb_side_advance(cmb_side *side);
/* Passes over all items that end below *from, which has grown. The root is not passed over: nothing is known of it. */
void cmb_side_catch_up(cmb_side *side);

/* The item's last key, an entry's only one; valid until the side moves. Not for the root: has_last tells. */
static inline bool cmb_side_has_last(const cmb_side *side) { return !side->ended && side->depth > 0; }
cmb_bytes cmb_side_last(cmb_side *side);
const cmb_noderef *cmb_side_ref(cmb_side *side); /* of a subtree; valid until the side moves */
void cmb_side_found(const cmb_side *side, cmb_found *out_found); /* of an entry; valid until the side moves */

/* Are both on subtrees of the same content? */
bool cmb_side_same(cmb_side *a, cmb_side *b);
/* Is all of a's item certainly below all of b's? */
bool cmb_side_is_before(cmb_side *a, const cmb_side *b);
/* Are the values the same? NULL: absent. */
bool cmb_found_same(const cmb_found *a, const cmb_found *b);

#endif
