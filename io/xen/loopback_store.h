/* SPDX-License-Identifier: ISC */
/* loopback_store.h: the nodes of the loopback's xenstore. No locks: the hub's is held. */
#ifndef CMB_IO_XEN_LOOPBACK_STORE_H
#define CMB_IO_XEN_LOOPBACK_STORE_H

#include "io/xen/platform.h"

typedef struct store_node {
    char path[CMB_XEN_PATH_MAX];
    char value[CMB_XEN_PATH_MAX];
} store_node;

/* The tree is a row of nodes in no order; a few dozen of them. */
typedef struct store_tree {
    store_node *nodes;
    unsigned count, room;
} store_tree;

int cmb_xs_tree_read(const store_tree *t, const char *path, char *out_value, size_t size);
int cmb_xs_tree_write(store_tree *t, const cmb_allocator *alloc, const char *path, const char *value);
void cmb_xs_tree_remove(store_tree *t, const char *path); /* and everything below it */
int cmb_xs_tree_copy(const store_tree *from, const cmb_allocator *alloc, store_tree *out);
void cmb_xs_tree_free(store_tree *t, const cmb_allocator *alloc);
/* Is `path` the node `above` or below it? */
bool cmb_xs_below(const char *path, const char *above);

#endif
