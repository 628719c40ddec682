/* SPDX-License-Identifier: ISC */
/* path.c: moving over the nodes of one level. */
#include "btree/path.h"

#include <assert.h>

int cmb_path_open(cmb_path *path, const cmb_tree *tree, const cmb_noderef *root, unsigned level)
{
    assert(level <= root->level && root->addr);
    *path = (cmb_path){.tree = tree, .root = *root, .height = root->level - level};
    if (path->height == 0)
        return 0;
    path->steps = cmb_zalloc(&tree->alloc, path->height * sizeof(*path->steps));
    return path->steps ? 0 : CMB_ENOMEM;
}

void cmb_path_close(cmb_path *path)
{
    if (!path->steps)
        return;
    for (unsigned i = 0; i < path->height; i++)
        cmb_pin_destroy(path->tree->nodes, &path->steps[i].pin);
    cmb_release(&path->tree->alloc, path->steps, path->height * sizeof(*path->steps));
    path->steps = NULL;
}

/* Makes step i hold the node that the step above leads to. */
static int step_load(cmb_path *path, unsigned i)
{
    cmb_path_step *s = &path->steps[i], *above = i ? s - 1 : NULL;
    uint64_t addr = above ? cmb_node_child_addr(&above->node, above->index) : path->root.addr;
    if (s->addr == addr)
        return 0;
    s->addr = 0;
    int error = above ? cmb_nodes_child(path->tree->nodes, &above->node, above->index, &s->pin)
                      : cmb_nodes_get(path->tree->nodes, &path->root, &s->pin);
    if (error)
        return error;
    cmb_node_open(path->tree->hash, s->pin.record, &s->node);
    s->addr = addr;
    path->reads++;
    return 0;
}

int cmb_path_seek(cmb_path *path, const uint8_t *key, size_t key_size)
{
    for (unsigned i = 0; i < path->height; i++) {
        int error = step_load(path, i);
        if (error)
            return error;
        path->steps[i].index = cmb_node_child_for(&path->steps[i].node, key, key_size);
    }
    return 0;
}

int cmb_path_first(cmb_path *path)
{
    for (unsigned i = 0; i < path->height; i++) {
        int error = step_load(path, i);
        if (error)
            return error;
        path->steps[i].index = 0;
    }
    return 0;
}

int cmb_path_next(cmb_path *path)
{
    unsigned i = path->height;
    while (i > 0 && path->steps[i - 1].index + 1 == path->steps[i - 1].node.count)
        i--;
    if (i == 0)
        return CMB_ENOTFOUND;
    path->steps[i - 1].index++;
    for (; i < path->height; i++) {
        int error = step_load(path, i);
        if (error)
            return error;
        path->steps[i].index = 0;
    }
    return 0;
}

int cmb_path_prev(cmb_path *path)
{
    unsigned i = path->height;
    while (i > 0 && path->steps[i - 1].index == 0)
        i--;
    if (i == 0)
        return CMB_ENOTFOUND;
    path->steps[i - 1].index--;
    for (; i < path->height; i++) {
        int error = step_load(path, i);
        if (error)
            return error;
        path->steps[i].index = path->steps[i].node.count - 1;
    }
    return 0;
}

bool cmb_path_at_start(const cmb_path *path)
{
    for (unsigned i = 0; i < path->height; i++)
        if (path->steps[i].index > 0)
            return false;
    return true;
}

bool cmb_path_at_end(const cmb_path *path)
{
    for (unsigned i = 0; i < path->height; i++)
        if (path->steps[i].index + 1 < path->steps[i].node.count)
            return false;
    return true;
}

void cmb_path_ref(const cmb_path *path, cmb_noderef *out_ref)
{
    if (path->height == 0) {
        *out_ref = path->root;
    } else {
        const cmb_path_step *s = &path->steps[path->height - 1];
        cmb_node_child(&s->node, s->index, out_ref);
    }
}

int cmb_path_compare(const cmb_path *path, const uint8_t *key, size_t key_size)
{
    assert(path->height > 0);
    const cmb_path_step *s = &path->steps[path->height - 1];
    return cmb_node_compare(&s->node, s->index, key, key_size);
}

uint32_t cmb_path_key_before(const cmb_path *path, uint8_t *out_key)
{
    unsigned i = path->height;
    while (path->steps[i - 1].index == 0)
        i--;
    return cmb_node_key(&path->steps[i - 1].node, path->steps[i - 1].index - 1, out_key);
}

int cmb_path_node(const cmb_path *path, uint8_t *scratch, cmb_pin *pin, cmb_noderef *out_ref, cmb_node *out_node)
{
    cmb_noderef ref;
    cmb_node node;
    cmb_path_ref(path, &ref);
    int error = cmb_nodes_get(path->tree->nodes, &ref, pin);
    if (error)
        return error;
    cmb_node_open(path->tree->hash, pin->record, &node);
    bool fits = node.count > 0;
    if (fits && path->height > 0)
        fits = cmb_path_compare(path, scratch, cmb_node_key(&node, node.count - 1, scratch)) == 0;
    if (fits && !cmb_path_at_start(path))
        fits = cmb_node_compare(&node, 0, scratch, cmb_path_key_before(path, scratch)) > 0;
    if (!fits) {
        cmb_pin_release(path->tree->nodes, pin);
        return cmb_fail(CMB_ECORRUPT, "node at %llu: its keys are not in the range that its parent gives it",
                        (unsigned long long)ref.addr);
    }
    *out_ref = ref;
    *out_node = node;
    return 0;
}
