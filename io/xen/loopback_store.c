/* SPDX-License-Identifier: ISC */
/* loopback_store.c: the nodes of the loopback's xenstore. */
#include "io/xen/loopback_store.h"

static store_node *find(const store_tree *t, const char *path)
{
    for (unsigned i = 0; i < t->count; i++) {
        if (strcmp(t->nodes[i].path, path) == 0)
            return &t->nodes[i];
    }
    return NULL;
}

bool cmb_xs_below(const char *path, const char *above)
{
    size_t n = strlen(above);
    return strncmp(path, above, n) == 0 && (path[n] == 0 || path[n] == '/');
}

int cmb_xs_tree_read(const store_tree *t, const char *path, char *out_value, size_t size)
{
    const store_node *node = find(t, path);
    if (!node)
        return cmb_fail(CMB_ENOTFOUND, "%s: no such node in the xenstore", path);
    size_t n = strlen(node->value) + 1;
    if (n > size)
        return cmb_fail(CMB_ETOOBIG, "%s: the value takes %zu bytes", path, n);
    memcpy(out_value, node->value, n);
    return 0;
}

int cmb_xs_tree_write(store_tree *t, const cmb_allocator *alloc, const char *path, const char *value)
{
    size_t pn = strlen(path) + 1, vn = strlen(value) + 1;
    if (pn > CMB_XEN_PATH_MAX || vn > CMB_XEN_PATH_MAX)
        return cmb_fail(CMB_ETOOBIG, "%s: the path or its value is too long", path);
    store_node *node = find(t, path);
    if (!node && t->count == t->room) {
        unsigned room = t->room ? 2 * t->room : 32;
        store_node *nodes = cmb_resize(alloc, t->nodes, t->room * sizeof *nodes, room * sizeof *nodes);
        if (!nodes)
            return CMB_ENOMEM;
        t->nodes = nodes;
        t->room = room;
    }
    if (!node)
        node = &t->nodes[t->count++];
    memcpy(node->path, path, pn);
    memcpy(node->value, value, vn);
    return 0;
}

void cmb_xs_tree_remove(store_tree *t, const char *path)
{
    for (unsigned i = 0; i < t->count;) {
        if (cmb_xs_below(t->nodes[i].path, path))
            t->nodes[i] = t->nodes[--t->count];
        else
            i++;
    }
}

int cmb_xs_tree_copy(const store_tree *from, const cmb_allocator *alloc, store_tree *out)
{
    store_tree copy = {.count = from->count, .room = from->count};
    copy.nodes = cmb_alloc(alloc, copy.room * sizeof *copy.nodes);
    if (!copy.nodes)
        return CMB_ENOMEM;
    if (copy.count)
        memcpy(copy.nodes, from->nodes, copy.count * sizeof *copy.nodes);
    *out = copy;
    return 0;
}

void cmb_xs_tree_free(store_tree *t, const cmb_allocator *alloc)
{
    cmb_release(alloc, t->nodes, t->room * sizeof *t->nodes);
    *t = (store_tree){0};
}
