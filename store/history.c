/* SPDX-License-Identifier: ISC */
/*
 * history.c: logs (include/cambium/history.h).
 *
 * Three fronts go down the history, each as far as the next needs it, all of them through queues by falling generation:
 *   excluding  paints the ancestors of what is excluded. Down to generation g: what is excluded at g is known.
 *   counting   compares each commit with its parents, decides which of them are followed, and counts for each commit how many
 *              commits that are to come before it follow it. Down to g: the counts of commits at g are final.
 *   telling    takes commits all of whose followers were told of, in the wished order.
 * A node is let go when it was told of: no commit that still may turn up leads to it, since all such are of lower generation.
 */
#include <cambium/history.h>

#include "store/alike.h"
#include "store/dag.h"

#define ALL UINT32_MAX /* cmb_dagnode.follow: every parent; else the number of the only one */

enum {
    LISTED = 1u << 0,   /* is or was in the counting queue, which holds it until it is told of */
    EXCLUDED = 1u << 1, /* is or was in the excluding queue */
    BOTTOM = 1u << 2,   /* excluded by name */
    ALIKE = 1u << 3,    /* passed over */
    STARTED = 1u << 4,
};

typedef struct history {
    const cmb_history_options *options;
    cmb_dag dag;
    cmb_alike alike;
    cmb_noderef empty;
    cmb_dagqueue excluding, counting;
    cmb_dagqueue ready; /* by date; in topological order its array is a stack */
} history;

/* ---- excluding ---- */

static int exclude(history *h, cmb_dagnode *node, uint32_t marks)
{
    if (!(node->marks & EXCLUDED)) {
        int error = cmb_dagqueue_push(&h->excluding, node);
        if (error)
            return error;
        node->uses++; /* kept to the end: it may be met as a parent at any time */
    }
    node->marks |= EXCLUDED | marks;
    return 0;
}

/* What is excluded at this generation is known afterwards. */
static int exclude_down_to(history *h, uint64_t generation)
{
    for (cmb_dagnode *n; (n = cmb_dagqueue_top(&h->excluding)) && n->generation > generation;) {
        int error = cmb_dag_read_parents(&h->dag, n);
        if (error)
            return error;
        cmb_dagqueue_pop(&h->excluding);
        for (uint32_t i = 0; !error && i < n->parent_count; i++)
            error = exclude(h, n->parents[i], 0);
        if (error)
            return error;
    }
    return 0;
}

/* ---- counting ---- */

static int list(history *h, cmb_dagnode *node)
{
    if (node->marks & LISTED)
        return 0;
    int error = cmb_dagqueue_push(&h->counting, node);
    if (error)
        return error;
    node->marks |= LISTED;
    node->uses++;
    return 0;
}

static uint32_t parents_in_sight(const history *h, const cmb_dagnode *node)
{
    if (h->options->first_parent && node->first_absent)
        return 0;
    return h->options->first_parent && node->parent_count > 1 ? 1 : node->parent_count;
}

/* Does what this parent is like count? */
static bool is_relevant(const cmb_dagnode *parent)
{
    return (parent->marks & (EXCLUDED | BOTTOM)) != EXCLUDED;
}

/* Is it passed over, and which parents are followed? */
static int simplify(history *h, cmb_dagnode *node)
{
    uint32_t parents = parents_in_sight(h, node);
    unsigned relevant = 0, relevant_changes = 0, other_changes = 0;
    bool same;
    node->follow = parents < node->parent_count ? 0 : ALL;
    if (!h->options->range_count)
        return 0;
    if (!parents) {
        int error = cmb_alike_compare(&h->alike, &h->empty, &node->root, &same);
        if (!error && same)
            node->marks |= ALIKE;
        return error;
    }
    for (uint32_t i = 0; i < parents; i++) {
        const cmb_dagnode *parent = node->parents[i];
        bool counts = is_relevant(parent);
        int error = cmb_alike_compare(&h->alike, &parent->root, &node->root, &same);
        if (error)
            return error;
        if (same && counts) {
            node->follow = i;
            node->marks |= ALIKE;
            return 0;
        }
        relevant += counts;
        relevant_changes += counts;
        other_changes += !counts && !same;
    }
    if (relevant ? !relevant_changes : !other_changes)
        node->marks |= ALIKE;
    return 0;
}

static bool is_followed(const history *h, const cmb_dagnode *node, uint32_t i)
{
    return i < parents_in_sight(h, node) && (node->follow == ALL || node->follow == i) && !(node->parents[i]->marks & EXCLUDED);
}

/* node is out of the counting queue, and so are all that lead to it. */
static int count_parents(history *h, cmb_dagnode *node)
{
    int error = exclude_down_to(h, node->generation);
    if (error || node->marks & EXCLUDED)
        return error;
    error = cmb_dag_read_parents(&h->dag, node);
    for (uint32_t i = 0; !error && i < node->parent_count; i++)
        error = exclude_down_to(h, node->parents[i]->generation);
    if (!error)
        error = simplify(h, node);
    for (uint32_t i = 0; !error && i < node->parent_count; i++)
        if (is_followed(h, node, i)) {
            error = list(h, node->parents[i]);
            node->parents[i]->pending++;
        }
    return error;
}

/* The counts of commits at this generation are final afterwards. */
static int count_down_to(history *h, uint64_t generation)
{
    int error = 0;
    for (cmb_dagnode *n; !error && (n = cmb_dagqueue_top(&h->counting)) && n->generation > generation;) {
        cmb_dagqueue_pop(&h->counting);
        error = count_parents(h, n);
    }
    return error;
}

/* ---- telling ---- */

/* A queue in which nothing comes before anything keeps what it is given in order: a stack at its end. */
static bool never(const cmb_dagnode *a, const cmb_dagnode *b)
{
    (void)a;
    (void)b;
    return false;
}

static cmb_dagnode *take_ready(history *h)
{
    if (h->options->order == CMB_HISTORY_DATE)
        return cmb_dagqueue_pop(&h->ready);
    return h->ready.count ? h->ready.nodes[--h->ready.count] : NULL;
}

/* Parents that only waited for this one are ready. */
static int free_parents(history *h, const cmb_dagnode *node)
{
    int error = 0;
    for (uint32_t i = 0; !error && i < node->parent_count; i++)
        if (is_followed(h, node, i))
            error = count_down_to(h, node->parents[i]->generation);
    for (uint32_t i = 0; !error && i < node->parent_count; i++)
        if (is_followed(h, node, i) && --node->parents[i]->pending == 0)
            error = cmb_dagqueue_push(&h->ready, node->parents[i]);
    return error;
}

static int tell(const history *h, const cmb_dagnode *node, int (*fn)(void *ctx, const cmb_commit *commit), void *ctx)
{
    cmb_commit_record *r;
    int error = cmb_commit_load(h->dag.store, &node->at, &r);
    if (error)
        return error;
    if (fn(ctx, &r->commit))
        error = cmb_fail(CMB_ESTOPPED, "the log was stopped by its callback");
    cmb_commit_free(&r->commit);
    return error;
}

static int run(history *h, int (*fn)(void *ctx, const cmb_commit *commit), void *ctx)
{
    uint64_t told = 0, limit = h->options->limit;
    for (cmb_dagnode *n; (n = take_ready(h));) {
        int error = count_down_to(h, n->generation - 1);
        if (!error && !(n->marks & ALIKE)) {
            error = tell(h, n, fn, ctx);
            if (!error && ++told == limit)
                return 0;
        }
        if (!error)
            error = free_parents(h, n);
        if (error)
            return error;
        cmb_dag_release(&h->dag, n);
    }
    return 0;
}

/* ---- where it begins ---- */

static int find_node(history *h, const char *rev, cmb_dagnode **out_node)
{
    cmb_commit_at at;
    int error = cmb_commit_resolve(h->dag.store, rev, true, &at);
    if (!error)
        error = cmb_dag_hold(&h->dag, &at, out_node);
    return error ? error : cmb_dag_read(&h->dag, *out_node);
}

static bool oldest_first(const cmb_dagnode *a, const cmb_dagnode *b)
{
    return cmb_dag_by_time(b, a);
}

/* Those tips that no other leads to: the newest comes to lie on top of the stack. */
static int start(history *h, cmb_dagnode *const *tips, size_t n, cmb_dagqueue *starts)
{
    int error = 0;
    for (size_t i = 0; !error && i < n; i++)
        error = list(h, tips[i]);
    for (size_t i = 0; !error && i < n; i++) {
        error = exclude_down_to(h, tips[i]->generation);
        if (!error)
            error = count_down_to(h, tips[i]->generation);
        if (!error && !(tips[i]->marks & (EXCLUDED | STARTED)) && !tips[i]->pending) {
            tips[i]->marks |= STARTED;
            error = cmb_dagqueue_push(starts, tips[i]);
        }
    }
    for (cmb_dagnode *node; !error && (node = cmb_dagqueue_pop(starts));)
        error = cmb_dagqueue_push(&h->ready, node);
    for (size_t i = 0; !error && i < n; i++)
        cmb_dag_release(&h->dag, tips[i]); /* the counting queue holds them */
    return error;
}

static int begin(history *h)
{
    const cmb_history_options *o = h->options;
    const cmb_allocator *alloc = &h->dag.store->alloc;
    cmb_dagqueue starts;
    cmb_dagnode **tips = cmb_alloc(alloc, o->rev_count * sizeof *tips), *node;
    int error = tips ? 0 : CMB_ENOMEM;
    cmb_dagqueue_init(&starts, alloc, oldest_first);
    for (size_t i = 0; !error && i < o->excluded_count; i++) {
        error = find_node(h, o->excluded[i], &node);
        if (!error)
            error = exclude(h, node, BOTTOM);
        if (!error)
            cmb_dag_release(&h->dag, node);
    }
    for (size_t i = 0; !error && i < o->rev_count; i++)
        error = find_node(h, o->revs[i], &tips[i]);
    if (!error)
        error = start(h, tips, o->rev_count, &starts);
    cmb_dagqueue_destroy(&starts);
    cmb_release(alloc, tips, o->rev_count * sizeof *tips);
    return error;
}

static int check(const cmb_history_options *o)
{
    if (!o->rev_count)
        return cmb_fail(CMB_EINVAL, "a log begins at one revision at least");
    if (o->order != CMB_HISTORY_DATE && o->order != CMB_HISTORY_TOPO)
        return cmb_fail(CMB_EINVAL, "unknown order %d of a log", (int)o->order);
    return 0;
}

int cmb_history(cmb_store *store, const cmb_history_options *options, int (*fn)(void *ctx, const cmb_commit *commit), void *ctx)
{
    history h = {.options = options};
    int error = check(options);
    if (error)
        return error;
    cmb_dag_init(&h.dag, store);
    cmb_tree_empty(&store->tree, &h.empty);
    cmb_dagqueue_init(&h.excluding, &store->alloc, cmb_dag_by_generation);
    cmb_dagqueue_init(&h.counting, &store->alloc, cmb_dag_by_generation);
    cmb_dagqueue_init(&h.ready, &store->alloc, options->order == CMB_HISTORY_DATE ? cmb_dag_by_time : never);
    error = cmb_alike_init(&h.alike, store, options->ranges, options->range_count);
    if (!error)
        error = begin(&h);
    if (!error)
        error = run(&h, fn, ctx);
    cmb_alike_destroy(&h.alike);
    cmb_dagqueue_destroy(&h.excluding);
    cmb_dagqueue_destroy(&h.counting);
    cmb_dagqueue_destroy(&h.ready);
    cmb_dag_destroy(&h.dag);
    return error;
}
