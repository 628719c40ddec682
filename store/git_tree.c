/* SPDX-License-Identifier: ISC */
/*
 * git_tree.c: the tree that a commit's changes are made in: a view, into whose buffer changes go one by one. Only what
 * is not there yet has to be looked at closely: a path that is in the tree as a file lies in directories and is none
 * itself.
 */
#include "store/git.h"

#include <assert.h>
#include <stdio.h>

#define COPIES_MAX ((size_t)1 << 30) /* bytes: a line of a few bytes may copy all that there is, and the next that once more */

int cmb_git_tree_open(cmb_git_tree *t, cmb_store *store, cmb_intake *intake)
{
    *t = (cmb_git_tree){.store = store, .intake = intake, .view = {.tree = &store->tree}, .plain = true};
    cmb_tree_empty(&store->tree, &t->view.root);
    return cmb_buffer_create(&store->alloc, &t->view.buffer);
}

static void drop_cursor(cmb_git_tree *t)
{
    cmb_view_cursor_close(t->cursor);
    t->cursor = NULL;
}

void cmb_git_tree_close(cmb_git_tree *t)
{
    const cmb_allocator *alloc = &t->store->alloc;
    drop_cursor(t);
    cmb_buffer_destroy(t->view.buffer);
    cmb_pin_destroy(t->store->nodes, &t->pin);
    cmb_blob_release(alloc, &t->key);
    cmb_blob_release(alloc, &t->prefix);
    cmb_blob_release(alloc, &t->other);
    cmb_blob_release(alloc, &t->value);
    cmb_blob_release(alloc, &t->directory);
}

/* Forgets all changes. */
static void forget(cmb_git_tree *t)
{
    drop_cursor(t);
    if (!cmb_view_is_plain(&t->view))
        cmb_buffer_clear(t->view.buffer);
    t->directory_size = 0;
}

int cmb_git_tree_begin(cmb_git_tree *t, const cmb_noderef *root, bool plain)
{
    static const uint8_t last_of_side[] = {0, 0xff};
    forget(t);
    t->view.root = *root;
    t->emptied = false;
    t->plain = plain || root->count == 0;
    if (t->plain)
        return 0;
    uint64_t side;
    cmb_bytes to = {last_of_side, sizeof last_of_side};
    int error = cmb_tree_count_range(t->view.tree, root, NULL, &to, &side);
    t->plain = !error && side == 0;
    return error;
}

/* ---- keys ---- */

/* first, second and a slash if asked for, one after the other. */
static int join(cmb_git_tree *t, cmb_blob *room, cmb_bytes first, cmb_bytes second, bool slash, cmb_bytes *out_key)
{
    size_t size = first.size + second.size + slash;
    int error = cmb_blob_reserve(&t->store->alloc, room, size + 1);
    if (error)
        return error;
    if (first.size)
        memcpy(room->data, first.data, first.size);
    if (second.size)
        memcpy(room->data + first.size, second.data, second.size);
    if (slash)
        room->data[size - 1] = '/';
    *out_key = (cmb_bytes){room->data, size};
    return 0;
}

static const cmb_bytes no_bytes = {"", 0}, side_begin = {CMB_GIT_MODE_KEY, CMB_GIT_MODE_KEY_SIZE};

static int side_key(cmb_git_tree *t, cmb_bytes path, cmb_bytes *out_key)
{
    return join(t, &t->key, side_begin, path, false, out_key);
}

/* What all keys in a directory begin with, or those of their side entries. */
static int directory_prefix(cmb_git_tree *t, cmb_blob *room, bool side, cmb_bytes path, cmb_bytes *out_prefix)
{
    return join(t, room, side ? side_begin : no_bytes, path, path.size > 0, out_prefix);
}

/* ---- looking ---- */

static int look(cmb_git_tree *t, cmb_bytes key, cmb_found *out_found)
{
    return cmb_view_get(&t->view, key.data, key.size, &t->pin, out_found);
}

/* The first key that begins so; of the empty prefix: that is a path. CMB_ENOTFOUND. */
static int first_under(cmb_git_tree *t, cmb_bytes prefix)
{
    static const uint8_t first_path[] = {1};
    int error = t->cursor ? 0 : cmb_view_cursor_open(&t->view, &t->cursor);
    if (error)
        return error;
    return prefix.size ? cmb_view_cursor_seek_ge(t->cursor, prefix.data, prefix.size)
                       : cmb_view_cursor_seek_ge(t->cursor, first_path, sizeof first_path);
}

/* Does the cursor stand on a key that begins so? */
static bool is_under(cmb_git_tree *t, cmb_bytes prefix, cmb_bytes *out_key)
{
    *out_key = cmb_view_cursor_key(t->cursor);
    return out_key->size >= prefix.size && (!prefix.size || !memcmp(out_key->data, prefix.data, prefix.size));
}

/* ---- removing ---- */

static int delete_key(cmb_git_tree *t, cmb_bytes key)
{
    return cmb_buffer_add(t->view.buffer, &(cmb_edit){.kind = CMB_EDIT_DELETE, .key = key});
}

static int delete_under(cmb_git_tree *t, cmb_bytes prefix)
{
    int error = first_under(t, prefix);
    cmb_bytes key;
    while (!error && is_under(t, prefix, &key)) {
        error = delete_key(t, key);
        if (error)
            break;
        cmb_view_cursor_invalidate(t->cursor);
        error = cmb_view_cursor_next(t->cursor);
    }
    return error == CMB_ENOTFOUND ? 0 : error;
}

static int delete_directory(cmb_git_tree *t, cmb_bytes path)
{
    cmb_bytes prefix;
    int error = directory_prefix(t, &t->prefix, false, path, &prefix);
    if (!error)
        error = delete_under(t, prefix);
    if (!error && !t->plain)
        error = directory_prefix(t, &t->prefix, true, path, &prefix);
    if (!error && !t->plain)
        error = delete_under(t, prefix);
    return error;
}

/* The path is a file. */
static int delete_file(cmb_git_tree *t, cmb_bytes path)
{
    cmb_bytes key;
    cmb_found found;
    int error = delete_key(t, path);
    if (error || t->plain)
        return error;
    error = side_key(t, path, &key);
    if (!error)
        error = look(t, key, &found);
    if (!error)
        error = delete_key(t, key);
    return error == CMB_ENOTFOUND ? 0 : error;
}

static void delete_all(cmb_git_tree *t)
{
    forget(t);
    if (!t->emptied)
        t->replaced = t->view.root;
    t->emptied = t->plain = true;
    cmb_tree_empty(t->view.tree, &t->view.root);
}

int cmb_git_tree_remove(cmb_git_tree *t, cmb_bytes path)
{
    cmb_found found;
    if (!path.size) {
        delete_all(t);
        return 0;
    }
    int error = look(t, path, &found);
    if (error)
        return error == CMB_ENOTFOUND ? delete_directory(t, path) : error;
    return delete_file(t, path);
}

/* ---- setting ---- */

/* Is this known to be no file? */
static bool is_known(const cmb_git_tree *t, const uint8_t *path, size_t size)
{
    return t->directory_size >= size && !memcmp(t->directory.data, path, size) &&
           (t->directory_size == size || t->directory.data[size] == '/');
}

/* Nothing that the path lies in is a file afterwards. */
static int clear_above(cmb_git_tree *t, cmb_bytes path)
{
    const uint8_t *p = path.data, *end = p + path.size;
    const uint8_t *last = p;
    for (const uint8_t *slash = p; (slash = memchr(slash, '/', (size_t)(end - slash))); last = slash++) {
        cmb_bytes above = {p, (size_t)(slash - p)};
        cmb_found found;
        int error = is_known(t, p, above.size) ? CMB_ENOTFOUND : look(t, above, &found);
        if (!error)
            error = delete_file(t, above);
        if (error && error != CMB_ENOTFOUND)
            return error;
    }
    int error = cmb_blob_set(&t->store->alloc, &t->directory, p, (size_t)(last - p));
    if (!error)
        t->directory_size = (size_t)(last - p);
    return error;
}

static int set_mode(cmb_git_tree *t, cmb_bytes path, uint32_t mode)
{
    cmb_bytes key;
    cmb_found found;
    char digits[16];
    if (t->plain && mode == CMB_GIT_FILE)
        return 0;
    int error = side_key(t, path, &key);
    if (error)
        return error;
    error = t->plain ? CMB_ENOTFOUND : look(t, key, &found);
    if (error && error != CMB_ENOTFOUND)
        return error;
    if (mode == CMB_GIT_FILE)
        return error ? 0 : delete_key(t, key);
    snprintf(digits, sizeof digits, "%06o", mode);
    if (!error && !found.out_of_line && found.value.size == 6 && !memcmp(found.value.data, digits, 6))
        return 0;
    t->plain = false;
    return cmb_buffer_add(t->view.buffer, &(cmb_edit){.kind = CMB_EDIT_PUT, .key = key, .value = {digits, 6}});
}

int cmb_git_tree_set(cmb_git_tree *t, cmb_bytes path, uint32_t mode, const cmb_edit *value)
{
    cmb_found found;
    cmb_edit edit = *value;
    int error = look(t, path, &found);
    if (error == CMB_ENOTFOUND) {
        error = delete_directory(t, path);
        if (!error)
            error = clear_above(t, path);
    }
    edit.key = path;
    if (!error)
        error = cmb_buffer_add(t->view.buffer, &edit);
    return error ? error : set_mode(t, path, mode);
}

/* ---- copying ---- */

/* The value as an edit that may be kept: what lies in a node is copied. */
static int hold_value(cmb_git_tree *t, const cmb_found *found, cmb_edit *out_edit)
{
    out_edit->kind = found->out_of_line ? CMB_EDIT_PUT_FAR : CMB_EDIT_PUT;
    if (found->out_of_line) {
        out_edit->valref = found->valref;
        return 0;
    }
    int error = cmb_blob_set(&t->store->alloc, &t->value, found->value.data, found->value.size);
    out_edit->value = (cmb_bytes){t->value.data, found->value.size};
    return error;
}

static int mode_of(cmb_git_tree *t, cmb_bytes path, uint32_t *out_mode)
{
    cmb_bytes key;
    cmb_found found;
    *out_mode = CMB_GIT_FILE;
    if (t->plain)
        return 0;
    int error = side_key(t, path, &key);
    if (!error)
        error = look(t, key, &found);
    if (error)
        return error == CMB_ENOTFOUND ? 0 : error;
    *out_mode = found.out_of_line ? 0 : cmb_git_mode_of(found.value);
    return *out_mode ? 0 : cmb_fail(CMB_ECORRUPT, "a side entry of the tree says no mode");
}

static int copy_file(cmb_git_tree *t, cmb_bytes from, cmb_bytes to, const cmb_found *found, bool remove)
{
    uint32_t mode;
    cmb_edit value;
    if (!to.size)
        return cmb_fail(CMB_ESYNTAX, "a file cannot become the root");
    int error = hold_value(t, found, &value);
    if (!error)
        error = mode_of(t, from, &mode);
    if (!error && remove)
        error = delete_file(t, from);
    return error ? error : cmb_git_tree_set(t, to, mode, &value);
}

/* Everything in a directory, or its side entries, under the keys that it will have. */
static int stage(cmb_git_tree *t, bool side, cmb_bytes from, cmb_bytes to, cmb_buffer *staged)
{
    cmb_bytes prefix, begin, key;
    int error = directory_prefix(t, &t->prefix, side, from, &prefix);
    if (!error)
        error = directory_prefix(t, &t->other, side, to, &begin);
    if (!error)
        error = first_under(t, prefix);
    while (!error && is_under(t, prefix, &key)) {
        cmb_found found;
        cmb_edit edit = {.kind = CMB_EDIT_PUT};
        cmb_bytes rest = {(const uint8_t *)key.data + prefix.size, key.size - prefix.size};
        if (begin.size + rest.size > (side ? CMB_KEY_MAX : CMB_GIT_PATH_MAX))
            return cmb_fail(CMB_ETOOBIG, "a path becomes too long");
        error = join(t, &t->key, begin, rest, false, &edit.key);
        if (!error)
            error = cmb_view_cursor_value(t->cursor, &found);
        if (error)
            break;
        edit.kind = found.out_of_line ? CMB_EDIT_PUT_FAR : CMB_EDIT_PUT;
        if (found.out_of_line)
            edit.valref = found.valref;
        else
            edit.value = found.value;
        error = cmb_buffer_add(staged, &edit);
        if (!error && cmb_buffer_memory(staged) + cmb_buffer_memory(t->view.buffer) > COPIES_MAX)
            return cmb_fail(CMB_ETOOBIG, "the copies that a commit makes take too much memory");
        if (!error)
            error = cmb_view_cursor_next(t->cursor);
    }
    return error == CMB_ENOTFOUND ? 0 : error;
}

static int unstage(cmb_git_tree *t, cmb_buffer *staged)
{
    cmb_source *source;
    cmb_edit edit;
    int error = cmb_source_buffer(staged, &source);
    if (error)
        return error;
    for (error = source->ops->first(source); !error; error = source->ops->next(source)) {
        error = source->ops->current(source, &edit);
        if (!error && ((const uint8_t *)edit.key.data)[0] == 0)
            t->plain = false;
        if (!error)
            error = cmb_buffer_add(t->view.buffer, &edit);
        if (error)
            break;
    }
    source->ops->close(source);
    return error == CMB_ENOTFOUND ? 0 : error;
}

static int copy_directory(cmb_git_tree *t, cmb_bytes from, cmb_bytes to, bool remove, cmb_buffer *staged)
{
    int error = stage(t, false, from, to, staged);
    if (!error && !cmb_buffer_count(staged) && from.size)
        return CMB_ENOTFOUND;
    if (!error && !t->plain)
        error = stage(t, true, from, to, staged);
    if (!error && remove)
        error = cmb_git_tree_remove(t, from);
    if (!error)
        error = cmb_git_tree_remove(t, to);
    if (!error && to.size && cmb_buffer_count(staged))
        error = clear_above(t, to);
    return error ? error : unstage(t, staged);
}

int cmb_git_tree_copy(cmb_git_tree *t, cmb_bytes from, cmb_bytes to, bool remove)
{
    cmb_found found;
    cmb_buffer *staged;
    int error = from.size ? look(t, from, &found) : CMB_ENOTFOUND;
    if (!error)
        return copy_file(t, from, to, &found, remove);
    if (error != CMB_ENOTFOUND)
        return error;
    error = cmb_buffer_create(&t->store->alloc, &staged);
    if (error)
        return error;
    error = copy_directory(t, from, to, remove, staged);
    cmb_buffer_destroy(staged);
    return error;
}

/* ---- the end ---- */

static bool same_value(const cmb_found *found, const cmb_edit *edit)
{
    if (found->out_of_line)
        return edit->kind == CMB_EDIT_PUT_FAR && edit->valref.size == found->valref.size &&
               cmb_name_equal(&edit->valref.name, &found->valref.name);
    return edit->kind == CMB_EDIT_PUT &&
           !cmb_compare(edit->value.data, edit->value.size, found->value.data, found->value.size);
}

/* Pushes what differs between the tree that was emptied and what was put since. */
static int push_differences(cmb_tree_cursor *old, cmb_source *edits, cmb_editor *editor)
{
    int left = cmb_tree_cursor_first(old), right = edits->ops->first(edits);
    while (!left || !right) {
        cmb_edit edit = {.kind = CMB_EDIT_DELETE};
        cmb_found found;
        int error = right ? 0 : edits->ops->current(edits, &edit), order = left ? 1 : -1;
        cmb_bytes key = {NULL, 0};
        if (!left) {
            key = cmb_tree_cursor_key(old);
            order = right ? -1 : cmb_compare(key.data, key.size, edit.key.data, edit.key.size);
        }
        if (!error && order < 0)
            error = cmb_editor_push(editor, &(cmb_edit){.kind = CMB_EDIT_DELETE, .key = key});
        if (!error && order == 0)
            error = cmb_tree_cursor_value(old, &found);
        if (!error && (order > 0 || (order == 0 && !same_value(&found, &edit))))
            error = cmb_editor_push(editor, &edit);
        if (error)
            return error;
        left = order <= 0 ? cmb_tree_cursor_next(old) : left;
        right = order >= 0 ? edits->ops->next(edits) : right;
        if ((left && left != CMB_ENOTFOUND) || (right && right != CMB_ENOTFOUND))
            return left && left != CMB_ENOTFOUND ? left : right;
    }
    return 0;
}

/* A full list after "deleteall" costs what has changed, not what there is. */
static int finish_replaced(cmb_git_tree *t, cmb_source *edits, cmb_noderef *out_root)
{
    cmb_tree_cursor *old;
    cmb_editor *editor;
    int error = cmb_tree_cursor_open(t->view.tree, &t->replaced, &old);
    if (error)
        return error;
    error = cmb_editor_open(t->view.tree, &t->replaced, cmb_intake_appender(t->intake), &editor);
    if (!error) {
        error = push_differences(old, edits, editor);
        if (error)
            cmb_editor_abort(editor);
        else
            error = cmb_editor_finish(editor, out_root);
    }
    cmb_tree_cursor_close(old);
    return error;
}

int cmb_git_tree_finish(cmb_git_tree *t, cmb_noderef *out_root)
{
    bool replaced = t->emptied && t->replaced.count > 0;
    cmb_source *edits;
    drop_cursor(t);
    if (cmb_view_is_plain(&t->view)) {
        *out_root = t->view.root;
        return 0;
    }
    int error = cmb_source_buffer(t->view.buffer, &edits);
    if (error)
        return error;
    if (replaced)
        error = finish_replaced(t, edits, out_root);
    else
        error = cmb_tree_apply(t->view.tree, &t->view.root, edits, cmb_intake_appender(t->intake), out_root, NULL);
    edits->ops->close(edits);
    return error;
}
