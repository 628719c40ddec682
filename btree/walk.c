/* SPDX-License-Identifier: ISC */
/* walk.c: every node of a tree and every record of its values, parents first, around what is damaged. */
#include "btree/tree.h"

typedef struct step {
    cmb_pin pin;
    cmb_node node;
    uint32_t next; /* child to visit next */
} step;

typedef struct walk {
    const cmb_tree *tree;
    const cmb_walk_ops *ops;
    void *ctx;
    unsigned depth; /* steps in use: nodes above the one that is being visited */
    step *steps;    /* one a level, the root's first */
    uint32_t before_size, last_size;
    uint8_t before[CMB_KEY_MAX], last[CMB_KEY_MAX];
} walk;

/* The range of keys that the nodes above give to the node being visited; size 0: open. */
static void find_range(walk *w)
{
    w->before_size = w->last_size = 0;
    for (unsigned i = w->depth; i-- > 0 && !w->before_size;) {
        const step *s = &w->steps[i];
        if (s->next > 1)
            w->before_size = cmb_node_key(&s->node, s->next - 2, w->before);
    }
    if (w->depth > 0) {
        const step *s = &w->steps[w->depth - 1];
        w->last_size = cmb_node_key(&s->node, s->next - 1, w->last);
    }
}

/* Trouble with memory is not the tree's. */
static int report(walk *w, const cmb_noderef *ref, int error)
{
    if (!w->ops->damage || error == CMB_ENOMEM)
        return error;
    return w->ops->damage(w->ctx, ref, error, w->before_size ? w->before : NULL, w->before_size,
                          w->last_size ? w->last : NULL, w->last_size);
}

/* Reads the node into its step. */
static int read_node(walk *w, const cmb_noderef *ref)
{
    step *s = &w->steps[w->depth];
    int error = cmb_nodes_get(w->tree->nodes, ref, &s->pin);
    if (error)
        return error;
    cmb_node_open(w->tree->hash, s->pin.record, &s->node);
    s->next = 0;
    const cmb_node *n = &s->node;
    bool fits = n->count > 0;
    if (fits && w->last_size)
        fits = cmb_node_compare(n, n->count - 1, w->last, w->last_size) == 0;
    if (fits && w->before_size)
        fits = cmb_node_compare(n, 0, w->before, w->before_size) > 0;
    return fits ? 0 : cmb_fail(CMB_ECORRUPT, "node at %llu: its keys are not in the range that its parent gives it",
                               (unsigned long long)ref->addr);
}

static int visit_values(walk *w, const cmb_noderef *ref)
{
    const cmb_node *n = &w->steps[w->depth].node;
    for (uint32_t i = 0; i < n->count; i++) {
        if (!cmb_node_is_out_of_line(n, i))
            continue;
        cmb_valref valref;
        cmb_node_valref(n, i, &valref);
        int error = cmb_value_visit(w->tree, &valref, w->ops->verify_values, w->ops->record, w->ctx);
        if (error > 0)
            return error;
        if (error < 0) {
            w->before_size = w->last_size = cmb_node_key(n, i, w->last);
            memcpy(w->before, w->last, w->last_size);
            error = report(w, ref, error);
        }
        if (error)
            return error;
    }
    return 0;
}

/* *out_descend: the node is in its step, and its children are to be visited. Non-zero stops the walk. */
static int visit(walk *w, const cmb_noderef *ref, bool *out_descend)
{
    *out_descend = false;
    int passes = w->ops->enter ? w->ops->enter(w->ctx, ref) : 0;
    if (passes)
        return passes < 0 ? passes : 0;
    bool reads = ref->level > 0 || ref->out_of_line || w->ops->read_leaves;
    if (reads)
        find_range(w);
    if (reads && w->ops->known && ref->level == 0 && !ref->out_of_line)
        reads = !w->ops->known(w->ctx, ref, w->before, w->before_size, w->last, w->last_size);
    if (!reads) {
        int result = w->ops->node ? w->ops->node(w->ctx, ref, NULL) : 0;
        return result < 0 ? result : 0;
    }
    int error = read_node(w, ref);
    if (error)
        return report(w, ref, error);
    int result = w->ops->node ? w->ops->node(w->ctx, ref, &w->steps[w->depth].node) : 0;
    if (result < 0)
        return result;
    *out_descend = result == 0 && ref->level > 0;
    if (result == 0 && ref->level == 0 && ref->out_of_line && w->ops->record)
        return visit_values(w, ref);
    return 0;
}

static int run(walk *w, const cmb_noderef *root)
{
    bool descend;
    int error = visit(w, root, &descend);
    if (error || !descend)
        return error;
    w->depth = 1;
    while (w->depth > 0) {
        step *s = &w->steps[w->depth - 1];
        if (s->next == s->node.count) {
            cmb_pin_release(w->tree->nodes, &s->pin);
            w->depth--;
            continue;
        }
        cmb_noderef ref;
        cmb_node_child(&s->node, s->next++, &ref);
        error = visit(w, &ref, &descend);
        if (error)
            return error;
        if (descend)
            w->depth++;
    }
    return 0;
}

int cmb_tree_walk(const cmb_tree *tree, const cmb_noderef *root, const cmb_walk_ops *ops, void *ctx)
{
    if (root->addr == 0) /* empty and never written */
        return 0;
    walk *w = cmb_zalloc(&tree->alloc, sizeof(*w));
    if (!w)
        return CMB_ENOMEM;
    w->tree = tree;
    w->ops = ops;
    w->ctx = ctx;
    size_t size = (root->level + (size_t)1) * sizeof(*w->steps);
    w->steps = cmb_zalloc(&tree->alloc, size);
    int error = w->steps ? run(w, root) : CMB_ENOMEM;
    for (unsigned i = 0; w->steps && i <= root->level; i++)
        cmb_pin_destroy(tree->nodes, &w->steps[i].pin);
    cmb_release(&tree->alloc, w->steps, size);
    cmb_release(&tree->alloc, w, sizeof(*w));
    return error;
}
