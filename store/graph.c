/* SPDX-License-Identifier: ISC */
/*
 * graph.c: ancestors and lowest common ancestors. Commits are visited by falling generation, so that all that lead to a commit were
 * visited before it: what is painted on it then is complete, and nothing is ever visited twice.
 */
#include "store/graph.h"

#include "store/dag.h"

enum {
    QUEUED = 1u << 0,
    OF_A = 1u << 1,  /* a or an ancestor of it */
    OF_B = 1u << 2,
    STALE = 1u << 3, /* an ancestor of a common ancestor */
};

/* ---- is-ancestor ---- */

typedef struct search {
    cmb_dag dag;
    cmb_dagqueue queue; /* what lies above the target's generation; each held once */
    cmb_dagnode *target;
} search;

static int enqueue(search *s, cmb_dagnode *node)
{
    if (node->marks & QUEUED)
        return 0;
    int error = cmb_dagqueue_push(&s->queue, node);
    if (error)
        return error;
    node->marks |= QUEUED;
    node->uses++;
    return 0;
}

static int search_down(search *s, bool *out_yes)
{
    for (cmb_dagnode *n; (n = cmb_dagqueue_pop(&s->queue));) {
        int error = cmb_dag_read_parents(&s->dag, n);
        for (uint32_t i = 0; !error && i < n->parent_count; i++) {
            cmb_dagnode *parent = n->parents[i];
            if (parent == s->target) {
                *out_yes = true;
                return 0;
            }
            if (parent->generation > s->target->generation)
                error = enqueue(s, parent);
        }
        if (error)
            return error;
        cmb_dag_release(&s->dag, n);
    }
    *out_yes = false;
    return 0;
}

int cmb_graph_is_ancestor(cmb_store *store, const cmb_commit_at *ancestor, const cmb_commit_at *of, bool *out_yes)
{
    search s;
    cmb_dagnode *from;
    if (cmb_name_equal(&ancestor->id, &of->id)) {
        *out_yes = true;
        return 0;
    }
    cmb_dag_init(&s.dag, store);
    cmb_dagqueue_init(&s.queue, &store->alloc, cmb_dag_by_generation);
    int error = cmb_dag_hold(&s.dag, ancestor, &s.target);
    if (!error)
        error = cmb_dag_hold(&s.dag, of, &from);
    if (!error)
        error = cmb_dag_read(&s.dag, s.target);
    if (!error)
        error = cmb_dag_read(&s.dag, from);
    if (!error && from->generation > s.target->generation)
        error = enqueue(&s, from);
    if (!error)
        cmb_dag_release(&s.dag, from);
    if (!error)
        error = search_down(&s, out_yes);
    cmb_dagqueue_destroy(&s.queue);
    cmb_dag_destroy(&s.dag);
    return error;
}

/* ---- lowest common ancestors ---- */

typedef struct painting {
    cmb_dag dag;
    cmb_dagqueue queue; /* each held once */
    size_t open[4];     /* queued ones that are not stale, by OF_A and OF_B */
    bool cut;           /* an end of a shallow history was passed that is not stale */
    cmb_commit_at *found;
    size_t found_count, found_capacity;
} painting;

static size_t *open_count(painting *p, uint32_t marks)
{
    return &p->open[(marks & OF_A ? 1 : 0) + (marks & OF_B ? 2 : 0)];
}

static int paint(painting *p, cmb_dagnode *node, uint32_t marks)
{
    if (!(node->marks & QUEUED)) {
        int error = cmb_dagqueue_push(&p->queue, node);
        if (error)
            return error;
        node->uses++;
    } else if (!(node->marks & STALE)) {
        --*open_count(p, node->marks);
    }
    node->marks |= QUEUED | marks;
    if (!(node->marks & STALE))
        ++*open_count(p, node->marks);
    return 0;
}

/* Can a common ancestor still turn up? One is queued, or something of either side is. */
static bool may_find_more(const painting *p)
{
    return p->open[3] || (p->open[1] && p->open[2]);
}

static int add_base(painting *p, const cmb_commit_at *at)
{
    if (p->found_count == p->found_capacity) {
        size_t n = p->found_capacity, bigger = n ? 2 * n : 4;
        cmb_commit_at *grown = cmb_resize(&p->dag.store->alloc, p->found, n * sizeof *grown, bigger * sizeof *grown);
        if (!grown)
            return CMB_ENOMEM;
        p->found = grown;
        p->found_capacity = bigger;
    }
    p->found[p->found_count++] = *at;
    return 0;
}

/* The commit that comes next. One of both sides that no common ancestor leads to is itself a lowest one. */
static int paint_next(painting *p)
{
    cmb_dagnode *n = cmb_dagqueue_pop(&p->queue);
    uint32_t marks = n->marks & (OF_A | OF_B | STALE);
    int error = 0;
    if (!(marks & STALE))
        --*open_count(p, marks);
    if (marks == (OF_A | OF_B)) {
        error = add_base(p, &n->at);
        marks |= STALE;
        if (error || !may_find_more(p))
            return error;
    }
    error = cmb_dag_read_parents(&p->dag, n);
    p->cut = p->cut || (!error && n->is_cut && !(marks & STALE));
    for (uint32_t i = 0; !error && i < n->parent_count; i++)
        error = paint(p, n->parents[i], marks);
    if (!error)
        cmb_dag_release(&p->dag, n);
    return error;
}

static int paint_tip(painting *p, const cmb_commit_at *at, uint32_t mark)
{
    cmb_dagnode *n;
    int error = cmb_dag_hold(&p->dag, at, &n);
    if (!error)
        error = cmb_dag_read(&p->dag, n);
    if (!error)
        error = paint(p, n, mark);
    if (!error)
        cmb_dag_release(&p->dag, n);
    return error;
}

/* The array exactly as long as what is in it. */
static int hand_over(painting *p, cmb_commit_at **out_bases, size_t *out_count)
{
    cmb_commit_at *fit = NULL;
    if (p->found_count) {
        fit = cmb_resize(&p->dag.store->alloc, p->found, p->found_capacity * sizeof *fit, p->found_count * sizeof *fit);
        if (!fit)
            return CMB_ENOMEM;
    }
    p->found = NULL;
    p->found_capacity = 0;
    *out_bases = fit;
    *out_count = p->found_count;
    return 0;
}

int cmb_graph_merge_bases(cmb_store *store, const cmb_commit_at *a, const cmb_commit_at *b, cmb_commit_at **out_bases,
                          size_t *out_count, bool *out_cut)
{
    painting p;
    memset(&p, 0, sizeof p);
    cmb_dag_init(&p.dag, store);
    cmb_dagqueue_init(&p.queue, &store->alloc, cmb_dag_by_generation);
    int error = paint_tip(&p, a, OF_A);
    if (!error)
        error = paint_tip(&p, b, OF_B);
    while (!error && may_find_more(&p))
        error = paint_next(&p);
    if (!error)
        error = hand_over(&p, out_bases, out_count);
    if (!error && out_cut)
        *out_cut = p.cut;
    cmb_release(&store->alloc, p.found, p.found_capacity * sizeof *p.found);
    cmb_dagqueue_destroy(&p.queue);
    cmb_dag_destroy(&p.dag);
    return error;
}
