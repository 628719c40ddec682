/* SPDX-License-Identifier: ISC */
/*
 * shape.h: is a tree of the canonical shape? Without building it anew, and without reading its leaves in the order of
 * their keys: what the boundary rule (boundary.h) asks of a node can nearly always be answered from inside the node.
 *
 * Let b, e be boundaries of round 0 and the entries between them, with e, one node.
 *  - e exceeds its left window, which lies in the node, since at least a window's bytes and two entries lie between b
 *    and e: seen inside.
 *  - e exceeds its right window, which is the *front* of the node that follows: the greatest hash there is one number.
 *  - No entry between is a boundary. One in b's or in e's window is exceeded by that; the windows of the others lie in the node.
 * So of each node a few numbers are kept, its *facts*, and two neighbours agree if the one's last hash exceeds the other's
 * front. Where that cannot be told (the first and the last node of a level and the one before it, runs that were cut, nodes
 * above the cap) the stretch goes through the decider itself, from the round-0 boundary on its left to the next one.
 *
 * Facts say as well what ties a leaf to its parent's reference, so that whoever verified a leaf need not read it again:
 * the first 64 bits of its name, the hash of its last key (which the parent names), the front end of its first key.
 */
#ifndef CMB_BTREE_SHAPE_H
#define CMB_BTREE_SHAPE_H

#include "btree/tree.h"

typedef struct cmb_node_facts {
    uint64_t name;      /* its first 8 bytes */
    uint64_t last_hash; /* round 0, of the last key */
    uint64_t front;     /* the greatest hash in the right window of a boundary before the first entry */
    uint64_t start[2];  /* the first key behind what all keys share, as big-endian numbers, zero-padded */
    uint32_t length;    /* bytes of the record */
    uint32_t place;     /* for who keeps them: where the record lies */
    uint16_t prefix;    /* bytes that all keys share */
    uint16_t count;     /* entries of its own */
    bool out_of_line;
    bool front_whole;   /* the window that `front` is of ends inside */
    bool alone;         /* between two boundaries of round 0 it is one node, as far as can be seen inside; values in their right form */
} cmb_node_facts;

/* Memory for the entries of one node; zero-initialise, use again and again. One thread. */
typedef struct cmb_facts_room {
    uint64_t *hashes;
    uint64_t *ends; /* logical bytes from the node's start to each entry's end */
    size_t capacity;
    uint8_t key[CMB_KEY_MAX + 8];
} cmb_facts_room;

/* Of a verified node with this name. CMB_ENOMEM. */
int cmb_node_facts_of(const cmb_tree *tree, const cmb_node *node, const cmb_name *name, cmb_facts_room *room, cmb_node_facts *out_facts);
void cmb_facts_room_free(const cmb_tree *tree, cmb_facts_room *room);

/*
 * Is the leaf that has these facts the one that `ref` means, with keys beyond `before` (size 0: no bound) and `last` (size 0: any)
 * as its last one? False also if that cannot be told: then it has to be read.
 */
bool cmb_node_facts_match(const cmb_tree *tree, const cmb_node_facts *facts, const cmb_noderef *ref, const uint8_t *before,
                          size_t before_size, const uint8_t *last, size_t last_size);

/* What a check of many trees knows from elsewhere. Members may be NULL. */
typedef struct cmb_shape_ops {
    /* Facts of a verified leaf, which has the keys that its parent gives it; false: it has to be read. */
    bool (*facts)(void *ctx, uint64_t addr, cmb_node_facts *out_facts);
    /* Puts an inner node into the set of those that are done, which are not gone into again. *out_added false: it was in. */
    int (*done)(void *ctx, uint64_t addr, bool *out_added);
} cmb_shape_ops;
/* cmb_tree_check_shape (tree.h); ops may be NULL. */
int cmb_tree_check_shape_with(const cmb_tree *tree, const cmb_noderef *root, const cmb_shape_ops *ops, void *ctx);

/* A stretch of one level by the decider (stretch.c): the run of nodes that starts at the one whose last key is `key`, up to the first
 * that ends at a boundary of round 0, or the level. left: hash of the boundary before it; NULL: the level starts there. */
int cmb_shape_check_stretch(const cmb_tree *tree, const cmb_noderef *root, unsigned level, const uint8_t *key, size_t key_size,
                            const uint64_t *left);

#endif
