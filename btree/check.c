/* SPDX-License-Identifier: ISC */
/*
 * check.c: is a tree of the canonical shape, with every key in its place? Its nodes come by in the order of their keys, on all
 * levels at once; each is held against the one before it on its level (shape.h), and stretches where that does not
 * tell enough go to the decider. Subtrees that other trees share, and that have been looked at, are passed by: only
 * their edges are held against their neighbours here.
 */
#include "btree/boundary.h"
#include "btree/shape.h"

typedef struct step {
    cmb_pin pin;
    cmb_node node;
    uint32_t next; /* child to come */
} step;

/* The newest node of a level. */
typedef struct newest {
    bool any, first; /* first: it starts the level */
    bool starts;     /* the node before it ends at a boundary of round 0, or there is none: a stretch may start here */
    bool cut;
    cmb_node_facts facts;
    uint64_t left;   /* hash of the boundary before it, if it is not the first */
    uint32_t key_size;
    uint8_t *key;    /* its last one; CMB_KEY_MAX bytes */
} newest;

typedef struct check {
    const cmb_tree *tree;
    const cmb_noderef *root;
    const cmb_shape_ops *ops;
    void *ctx;
    unsigned depth;  /* steps in use */
    step *steps;     /* the root's first */
    newest *newest;  /* by level */
    cmb_pin pin;     /* a leaf's */
    cmb_pin edge_pin;
    cmb_facts_room room;
    uint8_t key[CMB_KEY_MAX]; /* the last key of the node that comes, as its parent has it */
    uint32_t key_size;        /* 0: the root */
} check;

/* ---- neighbours ---- */

static int check_stretch(check *c, unsigned level)
{
    const newest *n = &c->newest[level];
    return cmb_shape_check_stretch(c->tree, c->root, level, n->key, n->key_size, n->first ? NULL : &n->left);
}

/* A node of `level` comes, with c->key as its last key; last: there is none after it. */
static int arrive(check *c, unsigned level, const cmb_node_facts *facts, bool cut, bool last)
{
    newest *n = &c->newest[level];
    bool tells = n->any && !n->first && !n->cut && n->facts.alone && facts->front_whole && !last && n->facts.last_hash > facts->front;
    int error = n->any && n->starts && !tells ? check_stretch(c, level) : 0;
    if (error)
        return error;
    n->starts = !n->any || !n->cut;
    n->first = !n->any;
    n->left = n->facts.last_hash;
    n->any = true;
    n->cut = cut;
    n->facts = *facts;
    n->key_size = c->key_size;
    memcpy(n->key, c->key, c->key_size);
    return 0;
}

/* ---- reading ---- */

/* Makes a node resident whose last key is c->key, and checks that its keys are beyond those of the node before it. */
static int read_node(check *c, const cmb_noderef *ref, cmb_pin *pin, cmb_node *out_node)
{
    const newest *before = &c->newest[ref->level];
    int error = cmb_nodes_get(c->tree->nodes, ref, pin);
    if (error)
        return error;
    cmb_node_open(c->tree->hash, pin->record, out_node);
    bool fits = out_node->count > 0;
    if (fits && c->key_size)
        fits = cmb_node_compare(out_node, out_node->count - 1, c->key, c->key_size) == 0;
    else if (fits)
        c->key_size = cmb_node_key(out_node, out_node->count - 1, c->key);
    if (fits && before->any)
        fits = cmb_node_compare(out_node, 0, before->key, before->key_size) > 0;
    return fits ? 0 : cmb_fail(CMB_ECORRUPT, "node at %llu: its keys are not in the range that its parent gives it",
                               (unsigned long long)ref->addr);
}

static int facts_of(check *c, const cmb_noderef *ref, const cmb_node *node, cmb_node_facts *out_facts)
{
    return cmb_node_facts_of(c->tree, node, &ref->name, &c->room, out_facts);
}

static int leaf_facts(check *c, const cmb_noderef *ref, cmb_node_facts *out_facts)
{
    cmb_node node;
    if (c->ops && c->ops->facts && c->key_size && c->ops->facts(c->ctx, ref->addr, out_facts))
        return 0;
    int error = read_node(c, ref, &c->pin, &node);
    return error ? error : facts_of(c, ref, &node, out_facts);
}

/* ---- subtrees that are done ---- */

static void child_key(check *c, const cmb_node *node, uint32_t i)
{
    c->key_size = cmb_node_key(node, i, c->key);
}

/* The nodes of one edge of a subtree, from the children of its root down to the leaf, come by. */
static int pass_edge(check *c, const cmb_node *top, bool right)
{
    cmb_node node = *top;
    int error = 0;
    for (unsigned level = top->level; level-- > 0 && !error;) {
        newest *n = &c->newest[level];
        cmb_noderef ref;
        cmb_node_facts facts;
        uint32_t i = right ? node.count - 1 : 0;
        uint64_t left = 0;
        bool cut_before = false;
        if (right) { /* what lies between was looked at with another tree; the boundary on the left is what the parent says */
            child_key(c, &node, i - 1);
            left = cmb_boundary_hash(c->tree->seed, level, 0, c->key, c->key_size);
            cut_before = cmb_node_child_cut(&node, i - 1);
            n->any = false;
        }
        cmb_node_child(&node, i, &ref);
        child_key(c, &node, i);
        error = level ? read_node(c, &ref, &c->edge_pin, &node) : leaf_facts(c, &ref, &facts);
        if (!error && level)
            error = facts_of(c, &ref, &node, &facts);
        if (!error)
            error = arrive(c, level, &facts, ref.cut, false);
        if (right) {
            n->first = false;
            n->starts = !cut_before;
            n->left = left;
        }
    }
    return error;
}

/* Has every node down the right edge two children at least, so that its parent names what is on its left? */
static int edge_is_wide(check *c, const cmb_node *top, bool *out_wide)
{
    cmb_node node = *top;
    while (node.level > 1 && node.count > 1) {
        cmb_noderef ref;
        cmb_node_child(&node, node.count - 1, &ref);
        int error = cmb_nodes_get(c->tree->nodes, &ref, &c->edge_pin);
        if (error)
            return error;
        cmb_node_open(c->tree->hash, c->edge_pin.record, &node);
    }
    *out_wide = node.count > 1;
    return 0;
}

/* Can a subtree be passed by? Not at an edge of the tree, where other rules hold, nor within a run that was cut. */
static bool may_pass(const check *c, unsigned level)
{
    bool leftmost = true, rightmost = true, cut = false;
    for (unsigned i = 0; i < c->depth; i++) {
        leftmost = leftmost && c->steps[i].next == 1;
        rightmost = rightmost && c->steps[i].next == c->steps[i].node.count;
    }
    for (unsigned l = 0; l < level; l++)
        cut = cut || c->newest[l].cut;
    return !leftmost && !rightmost && !cut;
}

/* ---- the tree ---- */

static bool is_last(const check *c)
{
    for (unsigned i = 0; i < c->depth; i++)
        if (c->steps[i].next < c->steps[i].node.count)
            return false;
    return true;
}

static int visit_leaf(check *c, const cmb_noderef *ref)
{
    cmb_node_facts facts;
    int error = leaf_facts(c, ref, &facts);
    return error ? error : arrive(c, 0, &facts, ref->cut, is_last(c));
}

static int visit_inner(check *c, const cmb_noderef *ref)
{
    step *s = &c->steps[c->depth];
    cmb_node_facts facts;
    bool added = true, wide = false;
    int error = read_node(c, ref, &s->pin, &s->node);
    if (!error)
        error = facts_of(c, ref, &s->node, &facts);
    if (!error)
        error = arrive(c, ref->level, &facts, ref->cut, is_last(c));
    if (!error && c->ops && c->ops->done && may_pass(c, ref->level))
        error = c->ops->done(c->ctx, ref->addr, &added);
    if (!error && !added)
        error = edge_is_wide(c, &s->node, &wide);
    if (!error && wide) {
        error = pass_edge(c, &s->node, false);
        return error ? error : pass_edge(c, &s->node, true);
    }
    s->next = 0;
    c->depth += !error;
    return error;
}

static int walk(check *c)
{
    int error = c->root->level ? visit_inner(c, c->root) : visit_leaf(c, c->root);
    if (!error && c->root->level && c->steps[0].node.count < 2)
        return cmb_fail(CMB_ECORRUPT, "tree with root at %llu: its root has one child only", (unsigned long long)c->root->addr);
    while (c->depth > 0 && !error) {
        step *s = &c->steps[c->depth - 1];
        if (s->next == s->node.count) {
            cmb_pin_release(c->tree->nodes, &s->pin);
            c->depth--;
            continue;
        }
        cmb_noderef ref;
        child_key(c, &s->node, s->next);
        cmb_node_child(&s->node, s->next++, &ref);
        error = ref.level ? visit_inner(c, &ref) : visit_leaf(c, &ref);
    }
    for (unsigned level = 0; level <= c->root->level && !error; level++)
        if (c->newest[level].starts)
            error = check_stretch(c, level);
    return error;
}

static int allocate(check *c)
{
    const cmb_allocator *alloc = &c->tree->alloc;
    size_t levels = c->root->level + (size_t)1;
    c->steps = cmb_zalloc(alloc, levels * sizeof *c->steps);
    c->newest = cmb_zalloc(alloc, levels * sizeof *c->newest);
    if (!c->steps || !c->newest)
        return CMB_ENOMEM;
    for (size_t l = 0; l < levels; l++)
        if (!(c->newest[l].key = cmb_alloc(alloc, CMB_KEY_MAX)))
            return CMB_ENOMEM;
    return 0;
}

static void release(check *c)
{
    const cmb_allocator *alloc = &c->tree->alloc;
    size_t levels = c->root->level + (size_t)1;
    for (size_t l = 0; l < levels; l++) {
        if (c->steps)
            cmb_pin_destroy(c->tree->nodes, &c->steps[l].pin);
        if (c->newest)
            cmb_release(alloc, c->newest[l].key, CMB_KEY_MAX);
    }
    cmb_release(alloc, c->steps, levels * sizeof *c->steps);
    cmb_release(alloc, c->newest, levels * sizeof *c->newest);
    cmb_pin_destroy(c->tree->nodes, &c->pin);
    cmb_pin_destroy(c->tree->nodes, &c->edge_pin);
    cmb_facts_room_free(c->tree, &c->room);
    cmb_release(alloc, c, sizeof *c);
}

int cmb_tree_check_shape_with(const cmb_tree *tree, const cmb_noderef *root, const cmb_shape_ops *ops, void *ctx)
{
    if (root->addr == 0) {
        cmb_noderef empty;
        cmb_tree_empty(tree, &empty);
        bool is_empty = root->count == 0 && root->level == 0 && cmb_name_equal(&root->name, &empty.name);
        return is_empty ? 0 : cmb_fail(CMB_ECORRUPT, "a tree without an address that is not the empty one");
    }
    if (root->level > CMB_LEVEL_MAX)
        return cmb_fail(CMB_ECORRUPT, "tree with root at %llu: level %u", (unsigned long long)root->addr, root->level);
    check *c = cmb_zalloc(&tree->alloc, sizeof *c);
    if (!c)
        return CMB_ENOMEM;
    c->tree = tree;
    c->root = root;
    c->ops = ops;
    c->ctx = ctx;
    int error = allocate(c);
    if (!error)
        error = walk(c);
    release(c);
    return error;
}

int cmb_tree_check_shape(const cmb_tree *tree, const cmb_noderef *root)
{
    return cmb_tree_check_shape_with(tree, root, NULL, NULL);
}
