/* SPDX-License-Identifier: ISC */
/* select.c: see select.h. In a node of the dag `pending` counts the reasons to want it: children that seem to be missing. */
#include "store/select.h"

#include <assert.h>

enum {
    WANTED = 1u << 0,   /* by name */
    EXCLUDED = 1u << 1, /* or reached from what is */
    QUEUED = 1u << 2,
    MET = 1u << 3,      /* taken from the queue, and asked about */
    HAD = 1u << 4,      /* says the receiver */
    TRAVELS = 1u << 5,
    NEEDED = 1u << 6,   /* listed */
    DEPTH_SHIFT = 8,
};

static uint32_t depth_of(const cmb_dagnode *n)
{
    return n->marks >> DEPTH_SHIFT;
}

static void set_depth(cmb_dagnode *n, uint32_t depth)
{
    n->marks = (n->marks & ((1u << DEPTH_SHIFT) - 1)) | depth << DEPTH_SHIFT;
}

static void lower_depth(cmb_dagnode *n, uint32_t depth)
{
    if (!depth_of(n) || depth < depth_of(n))
        set_depth(n, depth < CMB_SELECT_DEPTH_MAX ? depth : CMB_SELECT_DEPTH_MAX);
}

static bool is_live(const cmb_dagnode *n)
{
    return (n->marks & (QUEUED | MET | EXCLUDED)) == QUEUED && n->pending > 0;
}

int cmb_select_open(cmb_select *s, cmb_store *store, uint32_t depth)
{
    memset(s, 0, sizeof *s);
    cmb_dag_init(&s->dag, store);
    cmb_dagqueue_init(&s->queue, &store->alloc, cmb_dag_by_generation);
    s->depth = depth;
    return 0;
}

void cmb_select_close(cmb_select *s)
{
    if (!s->dag.store)
        return;
    cmb_release(&s->dag.store->alloc, s->met, s->met_capacity * sizeof(cmb_dagnode *));
    cmb_dagqueue_destroy(&s->queue);
    cmb_dag_destroy(&s->dag);
}

static int enqueue(cmb_select *s, cmb_dagnode *n)
{
    if (n->marks & QUEUED)
        return 0;
    int error = cmb_dagqueue_push(&s->queue, n);
    if (error)
        return error;
    n->marks |= QUEUED;
    s->live += is_live(n);
    return 0;
}

static int seed(cmb_select *s, const cmb_commit_at *at, bool wanted)
{
    cmb_dagnode *n;
    int error = cmb_dag_hold(&s->dag, at, &n); /* held until the dag goes */
    if (!error)
        error = cmb_dag_read(&s->dag, n);
    if (error)
        return error;
    s->live -= is_live(n);
    if (wanted) {
        n->pending += !(n->marks & WANTED);
        n->marks |= WANTED;
        lower_depth(n, 1);
    } else {
        n->marks |= EXCLUDED;
    }
    s->live += is_live(n);
    return enqueue(s, n);
}

int cmb_select_want(cmb_select *s, const cmb_commit_at *at)
{
    return seed(s, at, true);
}

int cmb_select_exclude(cmb_select *s, const cmb_commit_at *at)
{
    return seed(s, at, false);
}

/* ---- questions ---- */

static int remember(cmb_select *s, cmb_dagnode *n)
{
    if (s->met_count == s->met_capacity) {
        size_t capacity = s->met_capacity ? 2 * s->met_capacity : 64;
        cmb_dagnode **grown = cmb_resize(&s->dag.store->alloc, s->met, s->met_capacity * sizeof *grown, capacity * sizeof *grown);
        if (!grown)
            return CMB_ENOMEM;
        s->met = grown;
        s->met_capacity = capacity;
    }
    s->met[s->met_count++] = n;
    n->marks |= MET;
    return 0;
}

/* Its parents are asked about one level below the depth too, but not what lies under them. */
static bool is_expanded(const cmb_select *s, const cmb_dagnode *n)
{
    return !s->depth || depth_of(n) <= s->depth;
}

static int expand(cmb_select *s, cmb_dagnode *n)
{
    bool excluded = n->marks & EXCLUDED;
    if (!excluded && !is_expanded(s, n))
        return 0;
    int error = cmb_dag_read_parents(&s->dag, n);
    for (uint32_t i = 0; !error && i < n->parent_count; i++) {
        cmb_dagnode *p = n->parents[i];
        s->live -= is_live(p);
        if (excluded) {
            p->marks |= EXCLUDED;
        } else {
            p->pending++;
            lower_depth(p, depth_of(n) + 1);
        }
        s->live += is_live(p);
        error = enqueue(s, p);
    }
    return error;
}

int cmb_select_ask(cmb_select *s, size_t max, size_t *out_first, size_t *out_count)
{
    s->batch = s->met_count;
    int error = 0;
    while (!error && s->live && s->met_count - s->batch < max) {
        cmb_dagnode *n = cmb_dagqueue_pop(&s->queue);
        assert(n);
        bool live = is_live(n);
        s->live -= live;
        if (live)
            error = remember(s, n);
        if (!error && (live || n->marks & EXCLUDED))
            error = expand(s, n);
    }
    *out_first = s->batch;
    *out_count = s->met_count - s->batch;
    return error;
}

void cmb_select_answer(cmb_select *s, const uint8_t *bits)
{
    for (size_t i = s->batch; i < s->met_count; i++) { /* children before parents */
        cmb_dagnode *n = s->met[i];
        size_t k = i - s->batch;
        if (bits && bits[k / 8] >> (k % 8) & 1)
            n->marks |= HAD;
        if ((n->pending && !(n->marks & HAD)) || !is_expanded(s, n))
            continue;
        for (uint32_t p = 0; p < n->parent_count; p++) {
            s->live -= is_live(n->parents[p]);
            n->parents[p]->pending--;
            s->live += is_live(n->parents[p]);
        }
    }
}

/* ---- the outcome ---- */

/* A commit travels if a child does, or it is wanted by name, and the receiver has not got it. Depths are counted anew: by commits that do travel. */
static void spread(cmb_select *s, cmb_dagnode *n)
{
    if (s->depth && depth_of(n) >= s->depth)
        return;
    for (uint32_t i = 0; i < n->parent_count; i++) {
        cmb_dagnode *p = n->parents[i];
        if (!(p->marks & MET) || p->marks & HAD)
            continue;
        if (!(p->marks & TRAVELS))
            set_depth(p, 0);
        lower_depth(p, depth_of(n) + 1);
        p->marks |= TRAVELS;
    }
}

void cmb_select_finish(cmb_select *s)
{
    size_t n = 0;
    for (size_t i = 0; i < s->met_count; i++) {
        cmb_dagnode *c = s->met[i];
        if (c->marks & HAD)
            continue;
        if (c->marks & WANTED) {
            c->marks |= TRAVELS;
            set_depth(c, 1);
        }
        if (!(c->marks & TRAVELS))
            continue;
        spread(s, c);
        s->met[n++] = c;
    }
    for (size_t i = 0; i < n / 2; i++) {
        cmb_dagnode *t = s->met[i];
        s->met[i] = s->met[n - 1 - i];
        s->met[n - 1 - i] = t;
    }
    s->met_count = n;
}

bool cmb_select_present(const cmb_dagnode *parent)
{
    return parent->marks & (TRAVELS | HAD | EXCLUDED);
}

int cmb_select_needed(cmb_select *s, cmb_dagnode ***out_nodes, size_t *out_count)
{
    const cmb_allocator *alloc = &s->dag.store->alloc;
    size_t n = 0, at = 0;
    for (unsigned pass = 0; pass < 2; pass++) {
        cmb_dagnode **list = pass ? cmb_alloc(alloc, (n ? n : 1) * sizeof *list) : NULL;
        if (pass && !list)
            return CMB_ENOMEM;
        for (size_t i = s->met_count; i-- > 0;)
            for (uint32_t k = 0; k < s->met[i]->parent_count; k++) {
                cmb_dagnode *p = s->met[i]->parents[k];
                if (p->marks & TRAVELS || !cmb_select_present(p) || !!(p->marks & NEEDED) != (pass > 0))
                    continue;
                p->marks ^= NEEDED;
                if (pass)
                    list[at++] = p;
                else
                    n++;
            }
        if (pass)
            *out_nodes = list;
    }
    assert(at == n);
    *out_count = n;
    return 0;
}
