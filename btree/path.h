/* SPDX-License-Identifier: ISC */
/*
 * path.h: a way from the root down to one level: steps over the nodes of that level, left and right,
 * without reading those nodes themselves. A step holds the inner node it goes through.
 */
#ifndef CMB_BTREE_PATH_H
#define CMB_BTREE_PATH_H

#include "btree/tree.h"

typedef struct cmb_path_step {
    cmb_pin pin;
    cmb_node node;
    uint64_t addr;  /* 0: holds nothing */
    uint32_t index; /* the child that the path goes on to */
} cmb_path_step;

typedef struct cmb_path {
    const cmb_tree *tree;
    cmb_noderef root;
    unsigned height;      /* levels above the one that is walked: the number of steps */
    cmb_path_step *steps; /* the root's first */
    uint64_t reads;       /* nodes made resident */
} cmb_path;

/* level <= root->level; the root must not be the unwritten empty tree. Not yet anywhere: seek or first. */
int cmb_path_open(cmb_path *path, const cmb_tree *tree, const cmb_noderef *root, unsigned level);
void cmb_path_close(cmb_path *path); /* also after a failed open, or zeroed */

/* To the node whose key range holds `key`: the last one if it is beyond all. After an error: seek again before anything else. */
int cmb_path_seek(cmb_path *path, const uint8_t *key, size_t key_size);
int cmb_path_first(cmb_path *path);
/* CMB_ENOTFOUND (without a detail text, nowhere moved) at an end. */
int cmb_path_next(cmb_path *path);
int cmb_path_prev(cmb_path *path);

bool cmb_path_at_start(const cmb_path *path);
bool cmb_path_at_end(const cmb_path *path);
void cmb_path_ref(const cmb_path *path, cmb_noderef *out_ref);
/* The node's last key, as its parent has it, against `key`. The path must not be of height 0. */
int cmb_path_compare(const cmb_path *path, const uint8_t *key, size_t key_size);
/* Writes the last key of the node before, returns its size; out has room for CMB_KEY_MAX bytes. Not at the start. */
uint32_t cmb_path_key_before(const cmb_path *path, uint8_t *out_key);
/*
 * Makes the path's node itself resident and opens it; CMB_ECORRUPT also if its keys are not in the range that the
 * nodes above give it (which was verified only there). scratch: CMB_KEY_MAX bytes.
 */
int cmb_path_node(const cmb_path *path, uint8_t *scratch, cmb_pin *pin, cmb_noderef *out_ref, cmb_node *out_node);

#endif
