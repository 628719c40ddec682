/* SPDX-License-Identifier: ISC */
/* Ranks and counts by the counts that references carry: one descent each. */
#include "btree/source.h"

int cmb_tree_rank(const cmb_tree *tree, const cmb_noderef *root, const uint8_t *key, size_t key_size, uint64_t *out_rank,
                  bool *out_equal)
{
    cmb_pin pins[2] = {{.record = NULL}, {.record = NULL}};
    unsigned turn = 0;
    cmb_node node;
    uint64_t rank = 0;
    bool equal = false;
    if (root->count == 0) {
        *out_rank = 0;
        *out_equal = false;
        return 0;
    }
    int r = cmb_nodes_get(tree->nodes, root, &pins[0]);
    while (!r) {
        cmb_node_open(tree->hash, pins[turn].record, &node);
        if (node.level == 0) {
            rank += cmb_node_lower_bound(&node, key, key_size, &equal);
            break;
        }
        uint32_t child = cmb_node_child_for(&node, key, key_size);
        for (uint32_t i = 0; i < child; i++)
            rank += cmb_node_child_count(&node, i);
        turn ^= 1;
        r = cmb_nodes_child(tree->nodes, &node, child, &pins[turn]);
    }
    cmb_pin_destroy(tree->nodes, &pins[0]);
    cmb_pin_destroy(tree->nodes, &pins[1]);
    if (r)
        return r;
    *out_rank = rank;
    *out_equal = equal;
    return 0;
}

int cmb_tree_count_range(const cmb_tree *tree, const cmb_noderef *root, const cmb_bytes *from, const cmb_bytes *to,
                         uint64_t *out_count)
{
    uint64_t low = 0, high = root->count;
    bool equal;
    int r = 0;
    if (from && from->data)
        r = cmb_tree_rank(tree, root, from->data, from->size, &low, &equal);
    if (!r && to && to->data)
        r = cmb_tree_rank(tree, root, to->data, to->size, &high, &equal);
    if (r)
        return r;
    *out_count = high > low ? high - low : 0;
    return 0;
}
