/* SPDX-License-Identifier: ISC */
/* dag_bed.h: histories of any shape, written by hand: commits by number, parents before children. */
#ifndef CMB_TEST_STORE_DAG_BED_H
#define CMB_TEST_STORE_DAG_BED_H

#include "bed.h"

#include "store/internal.h"

#define DAG_MAX 64u /* commits, so that a set of them is a word */

typedef struct dag {
    unsigned n;
    cmb_commit_at at[DAG_MAX];
    uint64_t generation[DAG_MAX];
    int64_t time[DAG_MAX];
    unsigned parent_count[DAG_MAX], parents[DAG_MAX][8];
    uint64_t ancestors[DAG_MAX]; /* itself included */
    cmb_noderef root[DAG_MAX];
} dag;

/* Adds commit number d->n, in an open unit. Its content is d->root[d->n]. */
static inline void dag_append(cmb_store *store, cmb_unit *unit, dag *d, int64_t time)
{
    unsigned i = d->n++;
    char message[32];
    cmb_commit_at parents[8];
    uint64_t generation = 0;
    d->ancestors[i] = (uint64_t)1 << i;
    for (unsigned k = 0; k < d->parent_count[i]; k++) {
        unsigned p = d->parents[i][k];
        assert_true(p < i);
        parents[k] = d->at[p];
        d->ancestors[i] |= d->ancestors[p];
        if (generation < d->generation[p])
            generation = d->generation[p];
    }
    snprintf(message, sizeof message, "%u", i);
    d->generation[i] = generation + 1;
    d->time[i] = time;
    cmb_commit_draft draft = {.root = d->root[i], .parents = parents, .parent_count = d->parent_count[i],
                              .generation = generation + 1, .time = time, .author = "dag", .message = message};
    must(cmb_commit_append(store, unit->app, &draft, &d->at[i]));
}

/* A random one of n commits; parents among the last `window`; sides that cross where it is small. */
static inline void dag_random(cmb_store *store, dag *d, unsigned n, unsigned window, unsigned parents_max, uint64_t *rng)
{
    cmb_unit unit;
    uint64_t seq;
    memset(d, 0, sizeof *d);
    must(cmb_unit_begin(store, &unit));
    while (d->n < n) {
        unsigned i = d->n, want = bed_mix(rng) % 16 ? 1 + (unsigned)(bed_mix(rng) % parents_max) : 0;
        cmb_tree_empty(&store->tree, &d->root[i]);
        for (unsigned k = 0; k < want && i; k++) {
            unsigned p = i - 1 - (unsigned)(bed_mix(rng) % (i < window ? i : window)), j = 0;
            while (j < d->parent_count[i] && d->parents[i][j] != p)
                j++;
            if (j == d->parent_count[i])
                d->parents[i][d->parent_count[i]++] = p;
        }
        dag_append(store, &unit, d, (int64_t)(bed_mix(rng) % 50));
    }
    must(cmb_unit_publish(&unit, &seq));
}

#endif
