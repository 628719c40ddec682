/* SPDX-License-Identifier: ISC */
/*
 * identical.c: are two trees of one name the same, byte for byte? Names of XXH3 can be forged, and what was written must not be taken
 * for what was there before. Only nodes that lie in different places are looked at: what is carried over by reference is one node.
 */
#include "btree/tree.h"

#include <string.h>

/* The way down on both sides: a node of each on every level, and the child that is looked at next. */
typedef struct twins {
    cmb_pin pins[2];
    cmb_node nodes[2];
    uint32_t next;
} twins;

/* Content, and where out-of-line values lie; where children lie does not count, they are compared. */
static bool same_node(const cmb_node *a, const cmb_node *b)
{
    uint32_t counted = a->level ? a->body_length : a->length - 16;
    return a->length == b->length && a->body_length == b->body_length && memcmp(a->record + 16, b->record + 16, counted) == 0;
}

/* Makes the two nodes resident; *out_same false: they differ. */
static int enter(const cmb_tree *tree, const cmb_noderef refs[2], twins *at, bool *out_same)
{
    at->next = 0;
    for (unsigned i = 0; i < 2; i++) {
        int error = cmb_nodes_get(tree->nodes, &refs[i], &at->pins[i]);
        if (error)
            return error;
        cmb_node_open(tree->hash, at->pins[i].record, &at->nodes[i]);
    }
    *out_same = same_node(&at->nodes[0], &at->nodes[1]);
    return 0;
}

/* The next pair of children that lie in different places; false: there is none. */
static bool next_pair(twins *at, cmb_noderef out_refs[2])
{
    for (; at->nodes[0].level && at->next < at->nodes[0].count; at->next++) {
        if (cmb_node_child_addr(&at->nodes[0], at->next) == cmb_node_child_addr(&at->nodes[1], at->next))
            continue;
        for (unsigned i = 0; i < 2; i++)
            cmb_node_child(&at->nodes[i], at->next, &out_refs[i]);
        at->next++;
        return true;
    }
    return false;
}

static int compare(const cmb_tree *tree, const cmb_noderef *a, const cmb_noderef *b, twins *way, bool *out_same)
{
    cmb_noderef refs[2] = {*a, *b};
    unsigned depth = 0;
    bool same;
    int error = enter(tree, refs, &way[0], &same);
    while (!error && same) {
        if (next_pair(&way[depth], refs)) {
            error = enter(tree, refs, &way[++depth], &same);
        } else if (depth-- == 0) {
            break;
        }
    }
    if (!error)
        *out_same = same;
    return error;
}

int cmb_tree_identical(const cmb_tree *tree, const cmb_noderef *a, const cmb_noderef *b, bool *out_same)
{
    bool named = cmb_name_equal(&a->name, &b->name) && a->level == b->level && a->count == b->count;
    if (!named || a->addr == b->addr || cmb_hash_is_cryptographic(tree->hash)) {
        *out_same = named;
        return 0;
    }
    size_t levels = (size_t)a->level + 1;
    twins *way = cmb_zalloc(&tree->alloc, levels * sizeof *way);
    if (!way)
        return CMB_ENOMEM;
    int error = compare(tree, a, b, way, out_same);
    for (size_t i = 0; i < levels; i++)
        for (unsigned k = 0; k < 2; k++)
            cmb_pin_destroy(tree->nodes, &way[i].pins[k]);
    cmb_release(&tree->alloc, way, levels * sizeof *way);
    return error;
}
