/* SPDX-License-Identifier: ISC */
/* diff.c: the public face of a diff of two trees. */
#include "btree/diff.h"

#include <cambium/diff.h>

#include "store/handles.h"

typedef struct diff {
    cmb_store *store;
    cmb_change_fn fn;
    void *ctx;
} diff;

/* A change with what its streams are opened from. */
typedef struct change {
    cmb_change face; /* first member: what a callback gets */
    cmb_store *store;
    const cmb_found *before, *after;
} change;

static void set_value(cmb_change_value *v, const cmb_found *found)
{
    *v = (cmb_change_value){.size = 0};
    if (!found)
        return;
    v->large = found->out_of_line;
    v->size = v->large ? found->valref.size : (uint32_t)found->value.size;
    if (!v->large)
        v->bytes = found->value;
}

static int pass_on(void *ctx, const cmb_tree_change *c)
{
    const diff *d = ctx;
    change full = {.store = d->store, .before = c->before, .after = c->after};
    full.face.kind = !c->before ? CMB_CHANGE_ADDED : !c->after ? CMB_CHANGE_DELETED : CMB_CHANGE_MODIFIED;
    full.face.key = c->key;
    set_value(&full.face.before, c->before);
    set_value(&full.face.after, c->after);
    return d->fn(d->ctx, &full.face) ? 1 : 0;
}

int cmb_diff(cmb_snapshot *before, cmb_snapshot *after, const cmb_range *range, cmb_change_fn fn, void *ctx)
{
    cmb_store *store = before->store;
    cmb_bounds bounds = {.lower = {NULL, 0}};
    diff d = {store, fn, ctx};
    if (after->store != store)
        return cmb_fail(CMB_EINVAL, "snapshots of different stores cannot be compared");
    int error = cmb_snapshot_settle(before);
    if (!error)
        error = cmb_snapshot_settle(after);
    if (!error)
        error = cmb_bounds_set(&store->alloc, &bounds, range);
    if (error)
        return error;
    if (!cmb_bounds_empty(&bounds))
        error = cmb_tree_diff(&store->tree, &before->view.root, &after->view.root, bounds.lower.size ? &bounds.lower : NULL,
                              bounds.upper.size ? &bounds.upper : NULL, pass_on, &d, NULL);
    cmb_bounds_release(&store->alloc, &bounds);
    return error > 0 ? cmb_fail(CMB_ESTOPPED, "the diff was stopped by its callback") : error;
}

static int open_value(cmb_store *store, const cmb_found *found, cmb_value_stream **out_stream)
{
    return found ? cmb_value_stream_open(store, found, out_stream) : CMB_ENOTFOUND;
}

int cmb_change_open_before(const cmb_change *face, cmb_value_stream **out_stream)
{
    const change *c = (const change *)(const void *)face;
    return open_value(c->store, c->before, out_stream);
}

int cmb_change_open_after(const cmb_change *face, cmb_value_stream **out_stream)
{
    const change *c = (const change *)(const void *)face;
    return open_value(c->store, c->after, out_stream);
}
