/* SPDX-License-Identifier: ISC */
/* editor.c: the pipeline of level editors, from the pushed edits at the bottom to the root at the top. */
#include "btree/level.h"

void cmb_tree_empty(const cmb_tree *tree, cmb_noderef *out_root)
{
    /* The body of an empty leaf, as the node encoder makes it: no entries, all of them equally long. */
    uint8_t body[CMB_NODE_HEADER - 16] = {0};
    cmb_put32(body, sizeof(body));
    body[7] = CMB_NODE_FIXED_KEYS | CMB_NODE_FIXED_VALUES;
    *out_root = (cmb_noderef){0};
    cmb_hash_name(tree->hash, body, sizeof(body), &out_root->name);
}

/* Appends a node to the log. */
static int place(cmb_editor *editor, const cmb_entry *last, const cmb_node_buffer *record, cmb_noderef *ref)
{
    void *room;
    int error = cmb_append(editor->app, ref->length, &ref->addr, &room);
    if (error)
        return error;
    memcpy(room, record->data, ref->length);
    cmb_node_place(room, ref->addr);
    editor->stats.nodes_written++;
    editor->stats.bytes_written += ref->length;
    return 0;
}

int cmb_editor_open_two(const cmb_tree *tree, const cmb_noderef *old_root, const cmb_noderef *other_root, cmb_appender *app,
                        cmb_editor **out_editor)
{
    cmb_editor *editor = cmb_zalloc(&tree->alloc, sizeof(*editor));
    if (!editor)
        return CMB_ENOMEM;
    editor->tree = tree;
    editor->app = app;
    editor->roots[0] = *old_root;
    editor->roots[1] = *other_root;
    for (unsigned i = 0; i < CMB_COUNTOF(editor->roots); i++)
        editor->heights[i] = editor->roots[i].addr ? editor->roots[i].level + 1u : 0;
    editor->place = place;
    *out_editor = editor;
    return 0;
}

int cmb_editor_open(const cmb_tree *tree, const cmb_noderef *old_root, cmb_appender *app, cmb_editor **out_editor)
{
    cmb_noderef none;
    cmb_tree_empty(tree, &none);
    return cmb_editor_open_two(tree, old_root, &none, app, out_editor);
}

void cmb_editor_abort(cmb_editor *editor)
{
    if (!editor)
        return;
    for (unsigned i = 0; i < CMB_COUNTOF(editor->levels); i++)
        cmb_level_close(editor->levels[i]);
    cmb_allocator alloc = editor->tree->alloc;
    cmb_release(&alloc, editor, sizeof(*editor));
}

void cmb_editor_get_stats(const cmb_editor *editor, cmb_editor_stats *out_stats)
{
    *out_stats = editor->stats;
    for (unsigned i = 0; i < CMB_COUNTOF(editor->levels); i++)
        for (unsigned k = 0; editor->levels[i] && k < CMB_COUNTOF(editor->roots); k++)
            out_stats->nodes_read += editor->levels[i]->origins[k].at.reads + editor->levels[i]->origins[k].back.reads;
}

static int need_level(cmb_editor *editor, unsigned level)
{
    if (level >= CMB_COUNTOF(editor->levels))
        return cmb_fail(CMB_ETOOBIG, "a tree of more than %u levels", CMB_LEVEL_MAX + 1);
    return editor->levels[level] ? 0 : cmb_level_open(editor, level, &editor->levels[level]);
}

/* Calls between levels nest as deep as the tree is high, which CMB_LEVEL_MAX bounds. */
int cmb_editor_push_up(cmb_editor *editor, unsigned level, const cmb_entry *entry, bool remove)
{
    int error = need_level(editor, level);
    return error ? error : cmb_level_push(editor->levels[level], entry, remove);
}

int cmb_editor_switch_up(cmb_editor *editor, unsigned level, cmb_seam *seam)
{
    bool matters = level < editor->heights[0] || level < editor->heights[1]; /* above, neither tree has anything */
    int error = matters ? need_level(editor, level) : 0;
    if (matters && !error)
        return cmb_level_switch(editor->levels[level], seam);
    cmb_release(&editor->tree->alloc, seam, sizeof(*seam) + seam->key_size);
    return error;
}

/* Keys have to ascend: what came out of order would be lost. */
static int check_order(cmb_editor *editor, cmb_bytes key)
{
    if (editor->last_key_size && cmb_compare(editor->last_key, editor->last_key_size, key.data, key.size) >= 0)
        return cmb_fail(CMB_EINVAL, "edits whose keys do not ascend");
    memcpy(editor->last_key, key.data, key.size);
    editor->last_key_size = (uint32_t)key.size;
    return 0;
}

static int check_edit(cmb_editor *editor, const cmb_edit *edit)
{
    if (edit->key.size < CMB_KEY_MIN || edit->key.size > CMB_KEY_MAX)
        return cmb_fail(edit->key.size ? CMB_ETOOBIG : CMB_EINVAL, "a key of %llu bytes, %u to %u are possible",
                        (unsigned long long)edit->key.size, CMB_KEY_MIN, CMB_KEY_MAX);
    if (edit->kind == CMB_EDIT_PUT && edit->value.size > CMB_VALUE_MAX)
        return cmb_fail(CMB_ETOOBIG, "a value of %llu bytes, %u are possible", (unsigned long long)edit->value.size, CMB_VALUE_MAX);
    return check_order(editor, edit->key);
}

int cmb_editor_push(cmb_editor *editor, const cmb_edit *edit)
{
    if (editor->error)
        return editor->error;
    editor->error = check_edit(editor, edit);
    if (editor->error)
        return editor->error;
    cmb_entry entry = {.key = edit->key.data, .key_size = (uint32_t)edit->key.size};
    if (edit->kind == CMB_EDIT_PUT) {
        entry.value = edit->value.data;
        entry.value_size = (uint32_t)edit->value.size;
    } else if (edit->kind == CMB_EDIT_PUT_FAR) {
        entry.valref = &edit->valref;
    }
    editor->error = cmb_editor_push_up(editor, 0, &entry, edit->kind == CMB_EDIT_DELETE);
    return editor->error;
}

static int switch_origin(cmb_editor *editor, bool other, cmb_bytes from)
{
    int error = check_order(editor, from);
    if (error)
        return error;
    cmb_seam *seam = cmb_alloc(&editor->tree->alloc, sizeof(*seam) + from.size);
    if (!seam)
        return CMB_ENOMEM;
    *seam = (cmb_seam){.origin = other, .key_size = (uint32_t)from.size};
    memcpy(seam->key, from.data, from.size);
    return cmb_editor_switch_up(editor, 0, seam);
}

int cmb_editor_switch(cmb_editor *editor, bool other, cmb_bytes from)
{
    if (!editor->error)
        editor->error = switch_origin(editor, other, from);
    return editor->error;
}

int cmb_editor_finish_from(cmb_editor *editor, unsigned level, cmb_noderef *out_root)
{
    for (;; level++) {
        cmb_level *lv = level < CMB_COUNTOF(editor->levels) ? editor->levels[level] : NULL;
        if (!lv) { /* nothing changed from here upwards */
            *out_root = editor->roots[0];
            return 0;
        }
        cmb_level_outcome outcome;
        cmb_noderef root;
        int error = cmb_level_finish(lv, &outcome, &root);
        if (error)
            return error;
        if (outcome == CMB_LEVEL_WENT_UP)
            continue;
        if (outcome == CMB_LEVEL_EMPTY)
            cmb_tree_empty(editor->tree, &root);
        *out_root = root;
        return 0;
    }
}

int cmb_editor_finish_stats(cmb_editor *editor, cmb_noderef *out_root, cmb_editor_stats *out_stats)
{
    cmb_noderef root;
    int error = editor->error;
    if (!error)
        error = cmb_editor_finish_from(editor, 0, &root);
    if (!error && root.addr != editor->roots[0].addr && root.addr != editor->roots[1].addr)
        error = cmb_editor_collapse(editor, &root);
    if (!error) {
        *out_root = root;
        if (out_stats)
            cmb_editor_get_stats(editor, out_stats);
    }
    cmb_editor_abort(editor);
    return error;
}

int cmb_editor_finish(cmb_editor *editor, cmb_noderef *out_root)
{
    return cmb_editor_finish_stats(editor, out_root, NULL);
}

int cmb_tree_apply(const cmb_tree *tree, const cmb_noderef *old_root, cmb_source *edits, cmb_appender *app,
                   cmb_noderef *out_root, cmb_editor_stats *out_stats)
{
    cmb_editor *editor;
    int error = cmb_editor_open(tree, old_root, app, &editor);
    if (error)
        return error;
    for (error = edits->ops->first(edits); !error; error = edits->ops->next(edits)) {
        cmb_edit edit;
        error = edits->ops->current(edits, &edit);
        if (!error)
            error = cmb_editor_push(editor, &edit);
        if (error)
            break;
    }
    if (error == CMB_ENOTFOUND) /* the end of the edits */
        return cmb_editor_finish_stats(editor, out_root, out_stats);
    cmb_editor_abort(editor);
    return error;
}
