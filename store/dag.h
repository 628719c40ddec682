/* SPDX-License-Identifier: ISC */
/*
 * dag.h: the commits that a walk over history has met, each once, by id; and queues of them.
 *
 * A commit is a *node*: first only known, as the parent of another; then read, with its generation, time, content and parents. What
 * is read is checked as far as walks rely on it: a parent's generation is lower than its child's, so a forged history cannot turn
 * in a circle, nor make a walk by generations leave something out in silence. Memory: some 250 bytes a node; a node lives while
 * somebody holds it or a node that is alive has it as a parent, so that a walk needs memory for its frontier only.
 *
 * A parent whose place in its child's record is 0 is not in this image (a shallow history): walks end above it.
 *
 * One thread.
 */
#ifndef CMB_STORE_DAG_H
#define CMB_STORE_DAG_H

#include "store/internal.h"

typedef struct cmb_dagnode {
    struct cmb_dagnode *next;     /* in its bucket */
    cmb_commit_at at;
    bool is_read;                 /* what follows is valid */
    bool parents_read;
    bool is_cut;                  /* a parent is not in this image */
    bool first_absent;            /* and it is the first: parents[0] is another */
    uint32_t parent_count;
    uint32_t uses;                /* holds, and children that are alive */
    uint32_t marks;               /* the walk's own, 0 at first */
    uint32_t pending, follow;     /* the walk's own, 0 at first */
    uint64_t generation;
    int64_t time;
    cmb_noderef root;
    struct cmb_dagnode **parents; /* those that the image has */
} cmb_dagnode;

typedef struct cmb_dag {
    cmb_store *store;
    cmb_dagnode **buckets;
    size_t bucket_count; /* power of two, 0 at first */
    size_t node_count;
    size_t peak_count;   /* the most nodes at any time */
    uint64_t reads;      /* commit records read */
} cmb_dag;

void cmb_dag_init(cmb_dag *dag, cmb_store *store);
void cmb_dag_destroy(cmb_dag *dag); /* with all nodes, held or not */
/* The node of a commit, held once more. */
int cmb_dag_hold(cmb_dag *dag, const cmb_commit_at *at, cmb_dagnode **out_node);
/* Gives one hold back; the node may be gone afterwards. */
void cmb_dag_release(cmb_dag *dag, cmb_dagnode *node);
/* Reads the commit, its parents become known; nothing if it is read. */
int cmb_dag_read(cmb_dag *dag, cmb_dagnode *node);
/* Reads it and its parents. CMB_ECORRUPT: a parent is not of a lower generation. */
int cmb_dag_read_parents(cmb_dag *dag, cmb_dagnode *node);

/* ---- a priority queue of nodes; does not hold them ---- */

/* Does a come out before b? A total order. */
typedef bool (*cmb_dag_before_fn)(const cmb_dagnode *a, const cmb_dagnode *b);
bool cmb_dag_by_generation(const cmb_dagnode *a, const cmb_dagnode *b); /* highest first, then by id */
bool cmb_dag_by_time(const cmb_dagnode *a, const cmb_dagnode *b);       /* newest first, then as above */

typedef struct cmb_dagqueue {
    const cmb_allocator *alloc;
    cmb_dag_before_fn before;
    cmb_dagnode **nodes;
    size_t count, capacity;
} cmb_dagqueue;
void cmb_dagqueue_init(cmb_dagqueue *queue, const cmb_allocator *alloc, cmb_dag_before_fn before);
void cmb_dagqueue_destroy(cmb_dagqueue *queue);
int cmb_dagqueue_push(cmb_dagqueue *queue, cmb_dagnode *node);
static inline cmb_dagnode *cmb_dagqueue_top(const cmb_dagqueue *queue) { return queue->count ? queue->nodes[0] : NULL; }
cmb_dagnode *cmb_dagqueue_pop(cmb_dagqueue *queue); /* NULL: empty */

#endif
