/* SPDX-License-Identifier: ISC */
/*
 * collapse.c: a level whose logical bytes are at most T is the root. A level that was built from its start knows;
 * one that only shrank somewhere is looked at from above when the edits are done.
 */
#include "btree/level.h"

/* Between two boundaries lies half of T at least, so a level that fits T has two at most. */
#define FITTING_NODES 3u

void cmb_entry_of(const cmb_node *node, uint32_t i, cmb_entry_room *room, cmb_entry *out_entry)
{
    *out_entry = (cmb_entry){.key = room->key, .key_size = cmb_node_key(node, i, room->key)};
    if (node->level > 0) {
        cmb_node_child(node, i, &room->child);
        out_entry->child = &room->child;
    } else if (cmb_node_is_out_of_line(node, i)) {
        cmb_node_valref(node, i, &room->valref);
        out_entry->valref = &room->valref;
    } else {
        cmb_bytes value = cmb_node_value(node, i);
        out_entry->value = value.data;
        out_entry->value_size = (uint32_t)value.size;
    }
}

typedef struct collapse {
    cmb_editor *editor;
    cmb_node_buffer root, child; /* records */
    cmb_entry_room room;
} collapse;

/*
 * Reads a node past the residency: what was written just now may yet be forgotten with its unit,
 * and its address used again.
 */
static int read_node(collapse *c, const cmb_noderef *ref, cmb_node_buffer *buffer, cmb_node *out_node)
{
    const cmb_tree *tree = c->editor->tree;
    if (ref->length > CMB_RECORD_MAX)
        return cmb_fail(CMB_ECORRUPT, "node at %llu: a reference with length %u", (unsigned long long)ref->addr, (unsigned)ref->length);
    if (buffer->capacity < ref->length) {
        uint8_t *data = cmb_alloc(&tree->alloc, ref->length);
        if (!data)
            return CMB_ENOMEM;
        cmb_release(&tree->alloc, buffer->data, buffer->capacity);
        *buffer = (cmb_node_buffer){data, ref->length};
    }
    int error = cmb_log_read(tree->log, NULL, ref->addr, ref->length, buffer->data);
    if (!error)
        error = cmb_node_verify(tree->hash, buffer->data, ref);
    if (error)
        return error;
    c->editor->stats.nodes_read++;
    cmb_node_open(tree->hash, buffer->data, out_node);
    return 0;
}

/* Visits the entries of the level below the root: sums them up, stopping beyond T; or pushes them to `to`. */
static int each_entry(collapse *c, const cmb_node *root, cmb_editor *to, uint64_t *bytes)
{
    const uint32_t target = cmb_boundary_target(c->editor->tree->target, root->level - 1u);
    int error = 0;
    *bytes = 0;
    for (uint32_t i = 0; i < root->count && *bytes <= target && !error; i++) {
        cmb_noderef ref;
        cmb_node node;
        cmb_node_child(root, i, &ref);
        error = read_node(c, &ref, &c->child, &node);
        for (uint32_t j = 0; !error && j < node.count; j++) {
            cmb_entry e;
            cmb_entry_of(&node, j, &c->room, &e);
            *bytes += cmb_entry_bytes(&e, ref.level);
            error = to ? cmb_editor_push_up(to, ref.level, &e, false) : 0;
        }
    }
    return error;
}

static int rebuild(collapse *c, const cmb_node *node, cmb_noderef *root)
{
    const cmb_tree *tree = c->editor->tree;
    cmb_noderef empty;
    cmb_editor *builder;
    uint64_t bytes;
    cmb_tree_empty(tree, &empty);
    int error = cmb_editor_open(tree, &empty, c->editor->app, &builder);
    if (error)
        return error;
    error = each_entry(c, node, builder, &bytes);
    if (!error)
        error = cmb_editor_finish_from(builder, node->level - 1u, root);
    c->editor->stats.nodes_written += builder->stats.nodes_written;
    c->editor->stats.bytes_written += builder->stats.bytes_written;
    cmb_editor_abort(builder);
    return error;
}

/* One step down, if the level below fits. */
static int step_down(collapse *c, cmb_noderef *root, bool *out_done)
{
    cmb_node node;
    uint64_t bytes = UINT64_MAX;
    int error = read_node(c, root, &c->root, &node);
    if (!error && node.count <= FITTING_NODES)
        error = each_entry(c, &node, NULL, &bytes);
    *out_done = bytes > cmb_boundary_target(c->editor->tree->target, root->level - 1u);
    return error || *out_done ? error : rebuild(c, &node, root);
}

int cmb_editor_collapse(cmb_editor *editor, cmb_noderef *root)
{
    const cmb_tree *tree = editor->tree;
    if (root->level == 0 || (root->level == 1 && root->count > tree->target / (CMB_LOGICAL_LEAF + CMB_KEY_MIN)))
        return 0;
    collapse *c = cmb_zalloc(&tree->alloc, sizeof(*c));
    if (!c)
        return CMB_ENOMEM;
    c->editor = editor;
    int error = 0;
    for (bool done = false; !error && !done && root->level > 0;)
        error = step_down(c, root, &done);
    cmb_release(&tree->alloc, c->root.data, c->root.capacity);
    cmb_release(&tree->alloc, c->child.data, c->child.capacity);
    cmb_release(&tree->alloc, c, sizeof(*c));
    return error;
}
