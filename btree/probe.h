/* SPDX-License-Identifier: ISC */
/*
 * probe.h: has a key the same value in two trees? The nodes on the way to the key are compared by name, from the top down: what
 * is equal is not read. A probe remembers the way as far as it was gone, so that a tree which is compared with several others is
 * read once.
 */
#ifndef CMB_BTREE_PROBE_H
#define CMB_BTREE_PROBE_H

#include "btree/tree.h"

typedef struct cmb_probe {
    cmb_noderef way[CMB_LEVEL_MAX + 1u]; /* by level: the node that would hold the key */
    unsigned top, bottom;                /* levels between which it is known */
} cmb_probe;

void cmb_probe_start(cmb_probe *probe, const cmb_noderef *root);
/* The same key, whenever one of the probes is used; absent in both trees is the same. *pin is used and holds a node afterwards. */
int cmb_probe_same(const cmb_tree *tree, cmb_probe *a, cmb_probe *b, const uint8_t *key, size_t key_size, cmb_pin pins[2], bool *out_same);
/* Is the key there? */
int cmb_probe_found(const cmb_tree *tree, const cmb_probe *probe, const uint8_t *key, size_t key_size, cmb_pin *pin, bool *out_found);

#endif
