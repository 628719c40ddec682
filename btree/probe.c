/* SPDX-License-Identifier: ISC */
#include "btree/probe.h"

#include "btree/side.h"

void cmb_probe_start(cmb_probe *probe, const cmb_noderef *root)
{
    probe->top = probe->bottom = root->level;
    probe->way[root->level] = *root;
}

/* The way is known down to `level` afterwards. */
static int go_down(const cmb_tree *tree, cmb_probe *probe, unsigned level, const uint8_t *key, size_t key_size, cmb_pin *pin)
{
    while (probe->bottom > level) {
        cmb_node node;
        int error = cmb_nodes_get(tree->nodes, &probe->way[probe->bottom], pin);
        if (error)
            return error;
        cmb_node_open(tree->hash, pin->record, &node);
        cmb_node_child(&node, cmb_node_child_for(&node, key, key_size), &probe->way[probe->bottom - 1]);
        probe->bottom--;
    }
    return 0;
}

static int look_up(const cmb_tree *tree, const cmb_probe *probe, const uint8_t *key, size_t key_size, cmb_pin *pin,
                   bool *out_there, cmb_found *out_found)
{
    int error = cmb_tree_get(tree, &probe->way[probe->bottom], key, key_size, pin, out_found);
    *out_there = !error;
    return error == CMB_ENOTFOUND ? 0 : error;
}

int cmb_probe_same(const cmb_tree *tree, cmb_probe *a, cmb_probe *b, const uint8_t *key, size_t key_size, cmb_pin pins[2], bool *out_same)
{
    bool in_a, in_b;
    cmb_found found_a, found_b;
    for (unsigned level = (a->top < b->top ? a->top : b->top) + 1; level-- > 0;) {
        int error = go_down(tree, a, level, key, key_size, &pins[0]);
        if (!error)
            error = go_down(tree, b, level, key, key_size, &pins[1]);
        if (error)
            return error;
        if (cmb_name_equal(&a->way[level].name, &b->way[level].name)) {
            *out_same = true;
            return 0;
        }
    }
    int error = look_up(tree, a, key, key_size, &pins[0], &in_a, &found_a);
    if (!error)
        error = look_up(tree, b, key, key_size, &pins[1], &in_b, &found_b);
    if (error)
        return error;
    *out_same = in_a == in_b && (!in_a || cmb_found_same(&found_a, &found_b));
    return 0;
}

int cmb_probe_found(const cmb_tree *tree, const cmb_probe *probe, const uint8_t *key, size_t key_size, cmb_pin *pin, bool *out_found)
{
    cmb_found found;
    return look_up(tree, probe, key, key_size, pin, out_found, &found);
}
