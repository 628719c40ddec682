/* SPDX-License-Identifier: ISC */
/*
 * git_diff.c: what a commit changes against its first parent, as lines of a stream. In the order of keys side entries
 * come before all paths: which modes have changed is known before the first path is met, and both are in the order of
 * paths.
 */
#include "store/git.h"

#include "btree/diff.h"

#include <stdio.h>

/* A mode that has changed. */
typedef struct mode_change {
    size_t path, size; /* in the text */
    uint32_t mode;     /* from now on */
} mode_change;

typedef struct changes {
    cmb_git_exporter *ex;
    const cmb_git_node *node;
    bool from_git, plain; /* plain: the tree has no side entries */
    mode_change *modes;
    size_t mode_count, mode_capacity, next_mode;
    cmb_git_text paths;
    cmb_blob directory; /* known to be no file, nor anything that it lies in */
    size_t directory_size;
} changes;

static int bad_key(const changes *c, cmb_bytes key, const char *why)
{
    char shown[44], hex[2 * CMB_NAME_MAX + 1];
    cmb_name_hex(&c->node->at.id, hex);
    return cmb_fail(CMB_ENOTSUP, "commit %s: key '%s' cannot be a path in git: %s", hex, cmb_git_shown(key, shown),
                    why);
}

static int look(changes *c, cmb_bytes key, cmb_found *out_found)
{
    return cmb_tree_get(&c->ex->store->tree, &c->node->root, key.data, key.size, &c->ex->pin, out_found);
}

/* ---- contents ---- */

uint64_t cmb_git_written_mark(const cmb_git_exporter *ex, const cmb_name *name, uint64_t size)
{
    uint64_t i;
    size_t pos = 0;
    while (cmb_git_index_next(&ex->by_name, cmb_hash64(name->bytes, name->size, ex->seed), &pos, &i))
        if (cmb_name_equal(&ex->written[i].name, name) && ex->written[i].size == size)
            return ex->written[i].mark;
    return 0;
}

int cmb_git_written_add(cmb_git_exporter *ex, const cmb_name *name, uint64_t size, uint64_t mark)
{
    int error =
        cmb_git_grow(ex->alloc, (void **)&ex->written, &ex->written_capacity, ex->written_count, sizeof *ex->written);
    if (!error)
        error = cmb_git_index_add(ex->alloc, &ex->by_name, cmb_hash64(name->bytes, name->size, ex->seed),
                                  ex->written_count);
    if (!error)
        ex->written[ex->written_count++] = (struct cmb_git_written){*name, mark, size};
    return error;
}

/* What small contents go by: two hashes that nobody can foresee, so that none can be made to pass for another. */
static void near_name(const cmb_git_exporter *ex, cmb_bytes value, cmb_name *out_name)
{
    *out_name = (cmb_name){.size = 16};
    cmb_put64(out_name->bytes, cmb_hash64(value.data, value.size, ex->seed));
    cmb_put64(out_name->bytes + 8, cmb_hash64(value.data, value.size, ~ex->seed));
}

int cmb_git_export_blob(cmb_git_exporter *ex, const cmb_found *found, uint64_t *out_mark)
{
    cmb_name name = found->valref.name;
    uint64_t size = found->out_of_line ? found->valref.size : found->value.size;
    if (!found->out_of_line)
        near_name(ex, found->value, &name);
    uint64_t mark = cmb_git_written_mark(ex, &name, size);
    if (!mark) {
        mark = ++ex->last_mark;
        int error = cmb_git_written_add(ex, &name, size, mark);
        if (!error)
            error = cmb_git_print(&ex->out, "blob\nmark :%llu\n", (unsigned long long)mark);
        if (!error)
            error = cmb_git_put_value(&ex->out, ex->store, found);
        if (error)
            return error;
        ex->result.blobs++;
    }
    *out_mark = mark;
    return 0;
}

/* ---- lines ---- */

/* Writes over the zero byte that ends a text. */
static int append(cmb_git_exporter *ex, cmb_git_text *text, const char *line, size_t size)
{
    size_t at;
    int error = cmb_git_text_add(ex->alloc, text, (cmb_bytes){line, size}, &at);
    text->size -= error ? 0 : 1;
    return error;
}

static int put_removed(changes *c, cmb_bytes path)
{
    cmb_git_exporter *ex = c->ex;
    int error = append(ex, &ex->removed, "D ", 2);
    return error ? error : cmb_git_text_path(ex->alloc, &ex->removed, path);
}

/* A submodule's value has to be a name. */
static int submodule_line(changes *c, cmb_bytes path, const cmb_found *value, char *line, size_t size)
{
    const uint8_t *p = value->value.data;
    bool good = !value->out_of_line && (value->value.size == 40 || value->value.size == 64);
    for (size_t i = 0; good && i < value->value.size; i++)
        good = (p[i] >= '0' && p[i] <= '9') || (p[i] >= 'a' && p[i] <= 'f');
    if (!good)
        return bad_key(c, path, "a submodule whose value is no name of a commit");
    snprintf(line, size, "M 160000 %.*s ", (int)value->value.size, (const char *)p);
    return 0;
}

static int put_modified(changes *c, cmb_bytes path, uint32_t mode, const cmb_found *value)
{
    cmb_git_exporter *ex = c->ex;
    char line[100];
    uint64_t mark;
    int error;
    if (mode == CMB_GIT_SUBMODULE) {
        error = submodule_line(c, path, value, line, sizeof line);
    } else {
        error = cmb_git_export_blob(ex, value, &mark);
        if (!error)
            snprintf(line, sizeof line, "M %06o :%llu ", mode, (unsigned long long)mark);
    }
    if (!error)
        error = append(ex, &ex->modified, line, strlen(line));
    return error ? error : cmb_git_text_path(ex->alloc, &ex->modified, path);
}

/* ---- modes ---- */

static int read_mode(changes *c, cmb_bytes path, const cmb_found *side, uint32_t *out_mode)
{
    uint32_t mode = side->out_of_line ? 0 : cmb_git_mode_of(side->value);
    if (mode != CMB_GIT_FILE && mode != CMB_GIT_EXECUTABLE && mode != CMB_GIT_SYMLINK && mode != CMB_GIT_SUBMODULE)
        return bad_key(c, path, "its side entry says no mode of git's");
    *out_mode = mode;
    return 0;
}

static int note_mode(changes *c, cmb_bytes path, const cmb_found *after)
{
    mode_change m = {.size = path.size, .mode = CMB_GIT_FILE};
    int error = after ? read_mode(c, path, after, &m.mode) : 0;
    if (!error)
        error = cmb_git_grow(c->ex->alloc, (void **)&c->modes, &c->mode_capacity, c->mode_count, sizeof *c->modes);
    if (!error)
        error = cmb_git_text_add(c->ex->alloc, &c->paths, path, &m.path);
    if (!error)
        c->modes[c->mode_count++] = m;
    return error;
}

/* The mode of a path that has not changed it. */
static int same_mode(changes *c, cmb_bytes path, uint32_t *out_mode)
{
    cmb_found side;
    *out_mode = CMB_GIT_FILE;
    if (c->plain)
        return 0;
    int error = cmb_blob_reserve(c->ex->alloc, &c->ex->key, CMB_GIT_MODE_KEY_SIZE + path.size);
    if (error)
        return error;
    memcpy(c->ex->key.data, CMB_GIT_MODE_KEY, CMB_GIT_MODE_KEY_SIZE);
    memcpy(c->ex->key.data + CMB_GIT_MODE_KEY_SIZE, path.data, path.size);
    error = look(c, (cmb_bytes){c->ex->key.data, CMB_GIT_MODE_KEY_SIZE + path.size}, &side);
    if (error)
        return error == CMB_ENOTFOUND ? 0 : error;
    return read_mode(c, path, &side, out_mode);
}

/* The changed modes of paths before this one (NULL: all others), whose contents have not changed. */
static int put_modes_before(changes *c, const cmb_bytes *path)
{
    for (; c->next_mode < c->mode_count; c->next_mode++) {
        const mode_change *m = &c->modes[c->next_mode];
        cmb_bytes of = {c->paths.data + m->path, m->size};
        cmb_found value;
        if (path && cmb_compare(of.data, of.size, path->data, path->size) >= 0)
            break;
        int error = look(c, of, &value);
        if (!error)
            error = put_modified(c, of, m->mode, &value);
        if (error && error != CMB_ENOTFOUND)
            return error;
    }
    return 0;
}

/* ---- paths ---- */

static bool is_known(const changes *c, const uint8_t *path, size_t size)
{
    return c->directory_size >= size && !memcmp(c->directory.data, path, size) &&
           (c->directory_size == size || c->directory.data[size] == '/');
}

/* A path that is new: in a tree that git did not make it may lie in a file, or be one that others lie in. */
static int check_place(changes *c, cmb_bytes path)
{
    const uint8_t *p = path.data, *end = p + path.size, *last = p;
    cmb_found found;
    uint64_t below;
    for (const uint8_t *slash = p; (slash = memchr(slash, '/', (size_t)(end - slash))); last = slash++) {
        size_t size = (size_t)(slash - p);
        int error = is_known(c, p, size) ? CMB_ENOTFOUND : look(c, (cmb_bytes){p, size}, &found);
        if (!error)
            return bad_key(c, path, "it lies below another key");
        if (error != CMB_ENOTFOUND)
            return error;
    }
    int error = cmb_blob_set(c->ex->alloc, &c->directory, p, (size_t)(last - p));
    c->directory_size = error ? 0 : (size_t)(last - p);
    if (!error)
        error = cmb_blob_reserve(c->ex->alloc, &c->ex->key, 2 * path.size + 2);
    if (error)
        return error;
    uint8_t *from = c->ex->key.data, *to = from + path.size + 1;
    memcpy(from, p, path.size);
    memcpy(to, p, path.size);
    from[path.size] = '/';
    to[path.size] = '/' + 1;
    error = cmb_tree_count_range(&c->ex->store->tree, &c->node->root, &(cmb_bytes){from, path.size + 1},
                                 &(cmb_bytes){to, path.size + 1}, &below);
    return !error && below ? bad_key(c, path, "other keys lie below it") : error;
}

static int put_path(changes *c, const cmb_tree_change *change)
{
    uint32_t mode;
    int error = put_modes_before(c, &change->key);
    if (error)
        return error;
    const mode_change *m = c->next_mode < c->mode_count ? &c->modes[c->next_mode] : NULL;
    bool changed = m && !cmb_compare(c->paths.data + m->path, m->size, change->key.data, change->key.size);
    c->next_mode += changed;
    if (!change->after)
        return put_removed(c, change->key);
    if (!change->before && !c->from_git)
        error = check_place(c, change->key);
    if (!error && changed)
        mode = m->mode;
    else if (!error)
        error = same_mode(c, change->key, &mode);
    return error ? error : put_modified(c, change->key, mode, change->after);
}

static int on_change(void *ctx, const cmb_tree_change *change)
{
    changes *c = ctx;
    cmb_bytes path;
    if (cmb_git_is_mode_key(change->key, &path))
        return note_mode(c, path, change->after);
    const char *fault = change->after ? cmb_git_path_fault(change->key) : NULL;
    return fault ? bad_key(c, change->key, fault) : put_path(c, change);
}

int cmb_git_export_changes(cmb_git_exporter *ex, const cmb_git_node *node, bool from_git)
{
    static const uint8_t last_of_side[] = {0, 0xff};
    const cmb_tree *tree = &ex->store->tree;
    cmb_bytes to = {last_of_side, sizeof last_of_side};
    cmb_noderef before;
    uint64_t side;
    changes c = {.ex = ex, .node = node, .from_git = from_git};
    ex->removed.size = ex->modified.size = 0;
    cmb_tree_empty(tree, &before);
    if (node->parent_count)
        before = ex->order.nodes[ex->order.parents[node->parents]].root;
    int error = cmb_tree_count_range(tree, &node->root, NULL, &to, &side);
    c.plain = !error && side == 0;
    if (!error)
        error = cmb_tree_diff(tree, &before, &node->root, NULL, NULL, on_change, &c, NULL);
    if (!error)
        error = put_modes_before(&c, NULL);
    cmb_release(ex->alloc, c.modes, c.mode_capacity * sizeof *c.modes);
    cmb_release(ex->alloc, c.paths.data, c.paths.capacity);
    cmb_blob_release(ex->alloc, &c.directory);
    return error;
}
