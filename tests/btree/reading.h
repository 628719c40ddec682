/* SPDX-License-Identifier: ISC */
/*
 * reading.h: what the tests of reading share: seeds, keys that are hard on prefixes and heads, a
 * sorted array as the model, trees laid out from a model, an allocator that fails on demand, and a
 * random walk that holds any cursor against the model.
 */
#ifndef TESTS_BTREE_READING_H
#define TESTS_BTREE_READING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "btree/tree.h"

/* ---- chance ---- */
uint64_t rng(void);
uint64_t below(uint64_t n); /* 0 .. n - 1 */
void seed_rng(const char *test); /* prints the seed; CMB_SEED replays it */
unsigned budget(unsigned times); /* times CMB_BUDGET */

/* ---- keys and values ---- */
#define KEY_STYLES 6u
/* Of a style: 0 short over 00 01 ff 61, 1 random 24 bytes, 2 numbered, 3 chains of prefixes, 4 up to 16 KiB, 5 any of these. */
size_t random_key(unsigned style, uint8_t *out_key);

typedef struct pair {
    uint8_t *key, *value;
    size_t key_size, value_size;
    cmb_edit_kind kind; /* in a tree only PUT and PUT_FAR */
    cmb_valref valref;
} pair;

/* Sorted by key. */
typedef struct model {
    pair *pairs;
    size_t n, capacity;
} model;
size_t model_lower(const model *m, const uint8_t *key, size_t key_size, bool *out_equal);
void model_set(model *m, const cmb_edit *edit);
void model_remove(model *m, size_t i);
void model_clear(model *m);
/* What remains when the edits are applied to the model. */
void model_apply(model *m, const model *edits);
/* An edit of a random kind, of a key new or known to `near` (may be NULL); valid until the next. */
cmb_edit random_edit(unsigned style, const model *near, bool deletes, size_t value_max);

void assert_edit(const cmb_edit *edit, const pair *expected);
void assert_found(const cmb_found *found, const pair *expected);

/* ---- a log, nodes and trees ---- */

/* Counts what is held; fails the allocation numbered fail_at (from 0) and all after it. */
typedef struct counting {
    cmb_allocator alloc;
    size_t calls, fail_at, live;
} counting;
void counting_init(counting *c);

typedef struct room {
    counting counting; /* the tree's allocator; the log below has the plain one */
    cmb_device *dev;
    cmb_log *log;
    cmb_appender *stream; /* all trees are written here */
    cmb_tree tree;
} room;
void room_open(room *r, cmb_residency residency);
void room_close(room *r);
/* Lays the model out as a tree, with nodes of random sizes up to `most` entries. */
cmb_noderef room_build(room *r, const model *m, unsigned most);

/* ---- walking ---- */

/* Any cursor: what is NULL is not tried. */
typedef struct walk_ops {
    int (*first)(void *c);
    int (*last)(void *c);
    int (*seek_ge)(void *c, const uint8_t *key, size_t key_size);
    int (*seek_le)(void *c, const uint8_t *key, size_t key_size);
    int (*seek_nth)(void *c, uint64_t n);
    int (*next)(void *c);
    int (*prev)(void *c);
    void (*check)(void *c, const model *m, size_t i); /* the current entry is the i-th */
} walk_ops;

/* Where a cursor stands over a model. */
typedef struct walker {
    const walk_ops *ops;
    void *cursor;
    long at; /* -1: before the first, n: past the last */
    bool placed;
} walker;
void walk_step(walker *w, const model *m, unsigned style); /* one random call */
void walk_all(walker *w, const model *m);                  /* forward, past the end, back, before the start */

extern const walk_ops tree_walk, view_walk, source_walk;

#endif
