/* SPDX-License-Identifier: ISC */
/* side.c: items of one tree, subtrees and entries, in key order. */
#include "btree/side.h"

#include <assert.h>

int cmb_side_open(cmb_side *side, const cmb_tree *tree, const cmb_noderef *root, const cmb_bytes *from, const cmb_bytes *to)
{
    *side = (cmb_side){.tree = tree, .root = *root, .from = from, .to = to, .ended = root->addr == 0};
    if (side->ended)
        return 0;
    if (root->level > CMB_LEVEL_MAX)
        return cmb_fail(CMB_ECORRUPT, "tree with root at %llu: level %u", (unsigned long long)root->addr, root->level);
    side->key = cmb_alloc(&tree->alloc, 2 * (size_t)CMB_KEY_MAX);
    side->steps = cmb_zalloc(&tree->alloc, (root->level + (size_t)1) * sizeof(*side->steps));
    return side->key && side->steps ? 0 : CMB_ENOMEM;
}

void cmb_side_close(cmb_side *side)
{
    if (!side->tree)
        return;
    for (unsigned i = 0; side->steps && i <= side->root.level; i++)
        cmb_pin_destroy(side->tree->nodes, &side->steps[i].pin);
    cmb_release(&side->tree->alloc, side->steps, (side->root.level + (size_t)1) * sizeof(*side->steps));
    cmb_release(&side->tree->alloc, side->key, 2 * (size_t)CMB_KEY_MAX);
    *side = (cmb_side){0};
}

static cmb_side_step *top(const cmb_side *side)
{
    return &side->steps[side->depth - 1];
}

static void moved(cmb_side *side)
{
    side->has_key = side->has_ref = false;
}

/* ---- the item ---- */

cmb_bytes cmb_side_last(cmb_side *side)
{
    assert(cmb_side_has_last(side));
    if (!side->has_key) {
        side->key_size = cmb_node_key(&top(side)->node, top(side)->index, side->key);
        side->has_key = true;
    }
    return (cmb_bytes){side->key, side->key_size};
}

const cmb_noderef *cmb_side_ref(cmb_side *side)
{
    if (side->depth == 0)
        return &side->root;
    if (!side->has_ref) {
        cmb_node_child(&top(side)->node, top(side)->index, &side->ref);
        side->has_ref = true;
    }
    return &side->ref;
}

void cmb_side_found(const cmb_side *side, cmb_found *out_found)
{
    const cmb_side_step *s = top(side);
    assert(cmb_side_on_entry(side));
    *out_found = (cmb_found){.out_of_line = cmb_node_is_out_of_line(&s->node, s->index)};
    if (out_found->out_of_line)
        cmb_node_valref(&s->node, s->index, &out_found->valref);
    else
        out_found->value = cmb_node_value(&s->node, s->index);
}

/* The entry that ends right before the item, as the nodes above have it; NULL: there is none. */
static const cmb_side_step *step_before(const cmb_side *side)
{
    for (unsigned i = side->depth; i-- > 0;)
        if (side->steps[i].index > 0)
            return &side->steps[i];
    return NULL;
}

/* ---- moving ---- */

/* Passes over steps that have no more items. */
static void settle(cmb_side *side)
{
    while (top(side)->index >= top(side)->end) {
        cmb_pin_release(side->tree->nodes, &top(side)->pin);
        if (--side->depth == 0) {
            side->ended = true;
            return;
        }
        top(side)->index++;
    }
}

/* Which entries of a node are asked for. A subtree that holds `to` counts. */
static void clip(const cmb_side *side, cmb_side_step *s)
{
    s->index = side->from ? cmb_node_lower_bound(&s->node, side->from->data, side->from->size, NULL) : 0;
    s->end = s->node.count;
    if (side->to) {
        uint32_t limit = cmb_node_lower_bound(&s->node, side->to->data, side->to->size, NULL);
        if (s->node.level > 0 && limit < s->node.count)
            limit++;
        s->end = limit;
    }
}

/* Are the keys of the node that was just read within what the item above says? */
static bool fits(cmb_side *side, const cmb_node *node)
{
    if (node->count == 0)
        return false;
    if (side->depth == 0)
        return true;
    cmb_bytes last = cmb_side_last(side);
    if (cmb_node_compare(node, node->count - 1, last.data, last.size) != 0)
        return false;
    const cmb_side_step *before = step_before(side);
    if (!before)
        return true;
    uint8_t *first = side->key + CMB_KEY_MAX;
    return cmb_node_compare(&before->node, before->index - 1, first, cmb_node_key(node, 0, first)) < 0;
}

int cmb_side_descend(cmb_side *side)
{
    assert(!side->ended && cmb_side_level(side) >= 0);
    cmb_side_step *s = &side->steps[side->depth];
    int error = side->depth ? cmb_nodes_child(side->tree->nodes, &top(side)->node, top(side)->index, &s->pin)
                            : cmb_nodes_get(side->tree->nodes, &side->root, &s->pin);
    if (error)
        return error;
    cmb_node_open(side->tree->hash, s->pin.record, &s->node);
    side->reads++;
    if (!fits(side, &s->node)) {
        cmb_pin_release(side->tree->nodes, &s->pin);
        return cmb_fail(CMB_ECORRUPT, "node at %llu: its keys are not in the range that its parent gives it",
                        (unsigned long long)cmb_side_ref(side)->addr);
    }
    clip(side, s);
    side->depth++;
    moved(side);
    settle(side);
    return 0;
}

void cmb_side_advance(cmb_side *side)
{
    assert(!side->ended);
    moved(side);
    if (side->depth == 0) {
        side->ended = true;
        return;
    }
    top(side)->index++;
    settle(side);
}

void cmb_side_catch_up(cmb_side *side)
{
    while (!side->ended && side->depth > 0) {
        cmb_side_step *s = top(side);
        if (cmb_node_compare(&s->node, s->index, side->from->data, side->from->size) >= 0)
            return;
        moved(side);
        /* The next one mostly, so that is looked at before all are searched. */
        if (++s->index < s->end && cmb_node_compare(&s->node, s->index, side->from->data, side->from->size) < 0)
            s->index = cmb_node_lower_bound(&s->node, side->from->data, side->from->size, NULL);
        settle(side);
    }
}

/* ---- two sides ---- */

bool cmb_side_same(cmb_side *a, cmb_side *b)
{
    if (a->ended || b->ended || cmb_side_level(a) < 0 || cmb_side_level(a) != cmb_side_level(b))
        return false;
    return cmb_tree_same(cmb_side_ref(a), cmb_side_ref(b));
}

bool cmb_side_is_before(cmb_side *a, const cmb_side *b)
{
    if (!cmb_side_has_last(a) || b->ended)
        return !a->ended && b->ended;
    cmb_bytes last = cmb_side_last(a);
    if (cmb_side_level(b) < 0)
        return cmb_node_compare(&top(b)->node, top(b)->index, last.data, last.size) > 0;
    const cmb_side_step *before = step_before(b);
    return before && cmb_node_compare(&before->node, before->index - 1, last.data, last.size) >= 0;
}

bool cmb_found_same(const cmb_found *a, const cmb_found *b)
{
    if (!a || !b)
        return a == b;
    if (a->out_of_line != b->out_of_line)
        return false;
    if (a->out_of_line)
        return a->valref.size == b->valref.size && cmb_name_equal(&a->valref.name, &b->valref.name);
    return a->value.size == b->value.size && (a->value.size == 0 || memcmp(a->value.data, b->value.data, a->value.size) == 0);
}
