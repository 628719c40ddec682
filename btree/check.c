/* SPDX-License-Identifier: ISC */
/*
 * check.c: is a tree what a fresh build of its entries gives? They are built again, by the same pipeline, with a place
 * for nodes that writes nothing but compares: each node that comes out with the next one of that level.
 */
#include "btree/level.h"

typedef struct check {
    const cmb_tree *tree;
    const cmb_noderef *root;
    bool begun[CMB_LEVEL_MAX + 1];
    cmb_path paths[CMB_LEVEL_MAX + 1]; /* the node of each level that was compared last */
    cmb_pin pin;
    uint8_t scratch[CMB_KEY_MAX];
    cmb_entry_room room;
} check;

/* The next node that the tree has on this level. */
static int next_found(check *c, unsigned level, cmb_noderef *out_ref)
{
    if (level > c->root->level)
        return CMB_ENOTFOUND;
    cmb_path *path = &c->paths[level];
    int error;
    if (c->begun[level]) {
        error = cmb_path_next(path);
    } else {
        error = cmb_path_open(path, c->tree, c->root, level);
        c->begun[level] = !error;
        if (!error)
            error = cmb_path_first(path);
    }
    if (!error)
        cmb_path_ref(path, out_ref);
    return error;
}

/* Instead of appending a node: is it there? */
static int compare(cmb_editor *editor, const cmb_entry *last, const cmb_node_buffer *record, cmb_noderef *ref)
{
    check *c = editor->ctx;
    cmb_noderef found;
    int error = next_found(c, ref->level, &found);
    if (error == CMB_ENOTFOUND)
        return cmb_fail(CMB_ECORRUPT, "tree with root at %llu: a node more is expected at level %u",
                        (unsigned long long)c->root->addr, ref->level);
    if (error)
        return error;
    if (!cmb_name_equal(&found.name, &ref->name) || found.count != ref->count || found.length != ref->length ||
        found.out_of_line != ref->out_of_line || found.cut != ref->cut) {
        char found_hex[2 * CMB_NAME_MAX + 1], expected_hex[2 * CMB_NAME_MAX + 1];
        cmb_name_hex(&found.name, found_hex);
        cmb_name_hex(&ref->name, expected_hex);
        return cmb_fail(CMB_ECORRUPT,
                        "node at %llu, level %u: it is not what a fresh build gives: %s of %llu entries, cut %d; expected %s of %llu, cut %d",
                        (unsigned long long)found.addr, ref->level, found_hex, (unsigned long long)found.count, found.cut,
                        expected_hex, (unsigned long long)ref->count, ref->cut);
    }
    ref->addr = found.addr;
    return 0;
}

static int push_leaf(check *c, cmb_editor *editor, const cmb_noderef *ref, const cmb_node *node)
{
    uint32_t inline_max = cmb_tree_inline_max(c->tree);
    for (uint32_t i = 0; i < node->count; i++) {
        cmb_entry e;
        cmb_entry_of(node, i, &c->room, &e);
        if (e.valref ? e.valref->size <= inline_max : e.value_size > inline_max)
            return cmb_fail(CMB_ECORRUPT, "node at %llu: the value of entry %u is %s", (unsigned long long)ref->addr, (unsigned)i,
                            e.valref ? "out of line, but small" : "inline, but large");
        int error = cmb_editor_push_up(editor, 0, &e, false);
        if (error)
            return error;
    }
    return 0;
}

static int push_all(check *c, cmb_editor *editor)
{
    cmb_path path;
    int error = cmb_path_open(&path, c->tree, c->root, 0);
    if (!error)
        error = cmb_path_first(&path);
    while (!error) {
        cmb_noderef ref;
        cmb_node node;
        error = cmb_path_node(&path, c->scratch, &c->pin, &ref, &node);
        if (!error)
            error = push_leaf(c, editor, &ref, &node);
        if (!error)
            error = cmb_path_next(&path);
    }
    cmb_path_close(&path);
    return error == CMB_ENOTFOUND ? 0 : error;
}

static int run(check *c)
{
    cmb_noderef empty, expected;
    cmb_editor *editor;
    cmb_tree_empty(c->tree, &empty);
    int error = cmb_editor_open(c->tree, &empty, NULL, &editor);
    if (error)
        return error;
    editor->place = compare;
    editor->ctx = c;
    error = push_all(c, editor);
    if (!error)
        error = cmb_editor_finish_from(editor, 0, &expected);
    cmb_editor_abort(editor);
    if (!error && (expected.addr != c->root->addr || !cmb_name_equal(&expected.name, &c->root->name)))
        error = cmb_fail(CMB_ECORRUPT, "tree with root at %llu, level %u: a fresh build has its root at level %u",
                         (unsigned long long)c->root->addr, c->root->level, expected.level);
    return error;
}

int cmb_tree_check_shape(const cmb_tree *tree, const cmb_noderef *root)
{
    if (root->addr == 0) {
        cmb_noderef empty;
        cmb_tree_empty(tree, &empty);
        bool is_empty = root->count == 0 && root->level == 0 && cmb_name_equal(&root->name, &empty.name);
        return is_empty ? 0 : cmb_fail(CMB_ECORRUPT, "a tree without an address that is not the empty one");
    }
    if (root->level > CMB_LEVEL_MAX)
        return cmb_fail(CMB_ECORRUPT, "tree with root at %llu: level %u", (unsigned long long)root->addr, root->level);
    check *c = cmb_zalloc(&tree->alloc, sizeof(*c));
    if (!c)
        return CMB_ENOMEM;
    c->tree = tree;
    c->root = root;
    int error = run(c);
    for (unsigned i = 0; i <= root->level; i++)
        if (c->begun[i])
            cmb_path_close(&c->paths[i]);
    cmb_pin_destroy(tree->nodes, &c->pin);
    cmb_release(&tree->alloc, c, sizeof(*c));
    return error;
}
