/* SPDX-License-Identifier: ISC */
/*
 * select.h: which commits travel: those that the wanted ones reach and the receiver lacks.
 *
 * What the receiver has is known in one of two ways. For a bundle it is told beforehand: all that the excluded commits reach. A peer
 * is asked: commits come by generations, highest first, in batches, below those that it did not say it has yet; an answer stops the walk
 * there. Batches grow, so that a history of n missing commits takes O(log n) questions, and at most as many commits again are named in vain.
 * Nothing is concluded from a commit that the receiver has about those below it: its history may be shallow.
 *
 * Depth: a wanted commit is at depth 1, its parents at 2. What lies deeper than asked for does not travel; a parent that neither travels
 * nor is there is *absent*: its child gets it without a place.
 *
 * Memory: a node of the dag for every commit that was met. One thread.
 */
#ifndef CMB_STORE_SELECT_H
#define CMB_STORE_SELECT_H

#include "store/dag.h"

#define CMB_SELECT_DEPTH_MAX 0x00ffffffu

typedef struct cmb_select {
    cmb_dag dag;
    cmb_dagqueue queue;
    cmb_dagnode **met;   /* asked about, in order; after finish: those that travel, parents first */
    size_t met_count, met_capacity;
    size_t batch;        /* of them, where the last question began */
    size_t live;         /* in the queue, and worth a question */
    uint32_t depth;      /* 0: all */
} cmb_select;

int cmb_select_open(cmb_select *select, cmb_store *store, uint32_t depth);
void cmb_select_close(cmb_select *select); /* zeroed: allowed */
int cmb_select_want(cmb_select *select, const cmb_commit_at *at);
/* The receiver has it, and all that it reaches. */
int cmb_select_exclude(cmb_select *select, const cmb_commit_at *at);
/* The next question: met[*out_first .. *out_first + *out_count). None: all is known. */
int cmb_select_ask(cmb_select *select, size_t max, size_t *out_first, size_t *out_count);
/* The answer: bit i, low first, of the i-th: the receiver has it. NULL: it has none of them. */
void cmb_select_answer(cmb_select *select, const uint8_t *bits);
/* No more questions. */
void cmb_select_finish(cmb_select *select);

/* After finish: of a commit's parent: will the receiver have it by the time the commit comes? */
bool cmb_select_present(const cmb_dagnode *parent);
/* Those that the receiver must have already, each once, in a fixed order; the caller releases *out_count elements with the store's allocator. */
int cmb_select_needed(cmb_select *select, cmb_dagnode ***out_nodes, size_t *out_count);

#endif
