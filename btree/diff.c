/* SPDX-License-Identifier: ISC */
/*
 * diff.c: two trees side by side. Where both stand on the same subtree it is passed over; where one side's item lies before
 * the other's, only that side goes on; else what is higher is read. So the two meet again at every boundary that both have.
 */
#include "btree/side.h"

typedef struct diff {
    cmb_side before, after;
    cmb_tree_change_fn fn;
    void *ctx;
    uint64_t changes;
} diff;

/* One key, which one side has, or both. */
static int report(diff *d, cmb_side *before, cmb_side *after)
{
    cmb_found old, new;
    cmb_tree_change change = {.key = cmb_side_last(before ? before : after)};
    if (before) {
        cmb_side_found(before, &old);
        change.before = &old;
    }
    if (after) {
        cmb_side_found(after, &new);
        change.after = &new;
    }
    if (before && after && cmb_found_same(&old, &new))
        return 0;
    d->changes++;
    return d->fn(d->ctx, &change);
}

/* The item on one side lies before the other's: nothing there is on both. */
static int alone(diff *d, cmb_side *side)
{
    if (!cmb_side_on_entry(side))
        return cmb_side_descend(side);
    int result = report(d, side == &d->before ? side : NULL, side == &d->after ? side : NULL);
    cmb_side_advance(side);
    return result;
}

/* Neither lies before the other: the same key, or at least one is a subtree. */
static int meet(diff *d)
{
    cmb_side *a = &d->before, *b = &d->after;
    int above = cmb_side_level(a) - cmb_side_level(b), result = 0;
    if (cmb_side_on_entry(a) && cmb_side_on_entry(b)) {
        result = report(d, a, b);
        cmb_side_advance(a);
        cmb_side_advance(b);
        return result;
    }
    if (above >= 0)
        result = cmb_side_descend(a);
    if (!result && above <= 0)
        result = cmb_side_descend(b);
    return result;
}

static int run(diff *d)
{
    cmb_side *a = &d->before, *b = &d->after;
    int result = 0;
    while (!result && !(a->ended && b->ended)) {
        if (cmb_side_same(a, b)) {
            cmb_side_advance(a);
            cmb_side_advance(b);
        } else if (cmb_side_is_before(a, b)) {
            result = alone(d, a);
        } else if (cmb_side_is_before(b, a)) {
            result = alone(d, b);
        } else {
            result = meet(d);
        }
    }
    return result;
}

int cmb_tree_diff(const cmb_tree *tree, const cmb_noderef *before, const cmb_noderef *after, const cmb_bytes *from, const cmb_bytes *to,
                  cmb_tree_change_fn fn, void *ctx, cmb_diff_stats *stats)
{
    diff d = {.fn = fn, .ctx = ctx};
    from = from && from->data ? from : NULL;
    to = to && to->data ? to : NULL;
    int result = cmb_side_open(&d.before, tree, before, from, to);
    if (!result)
        result = cmb_side_open(&d.after, tree, after, from, to);
    if (!result)
        result = run(&d);
    if (stats && result >= 0)
        *stats = (cmb_diff_stats){.nodes_read = d.before.reads + d.after.reads, .changes = d.changes};
    cmb_side_close(&d.before);
    cmb_side_close(&d.after);
    return result;
}
