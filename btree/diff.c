/* SPDX-License-Identifier: ISC */
/*
 * diff.c: two trees side by side. Where both stand on the same subtree it is passed over; where one side's item lies before
 * the other's, only that side goes on; else what is higher is read. So the two meet again at every boundary that both have.
 */
#include "btree/side.h"

struct cmb_differ {
    cmb_side before, after;
    bool leave_before, leave_after; /* the item was reported: the next step begins behind it */
    cmb_found old, new;
    cmb_tree_change change;
    uint64_t changes;
};

/* One key, which one side has, or both. *out_found: they differ. */
static void report(cmb_differ *d, bool in_before, bool in_after, bool *out_found)
{
    d->change = (cmb_tree_change){.key = cmb_side_last(in_before ? &d->before : &d->after)};
    d->leave_before = in_before;
    d->leave_after = in_after;
    if (in_before) {
        cmb_side_found(&d->before, &d->old);
        d->change.before = &d->old;
    }
    if (in_after) {
        cmb_side_found(&d->after, &d->new);
        d->change.after = &d->new;
    }
    *out_found = !(in_before && in_after && cmb_found_same(&d->old, &d->new));
    d->changes += *out_found;
}

static void leave_reported(cmb_differ *d)
{
    if (d->leave_before)
        cmb_side_advance(&d->before);
    if (d->leave_after)
        cmb_side_advance(&d->after);
    d->leave_before = d->leave_after = false;
}

/* Neither lies before the other: the same key, or at least one is a subtree. */
static int meet(cmb_differ *d, bool *out_found)
{
    cmb_side *a = &d->before, *b = &d->after;
    int above = cmb_side_level(a) - cmb_side_level(b), error = 0;
    if (cmb_side_on_entry(a) && cmb_side_on_entry(b)) {
        report(d, true, true, out_found);
        return 0;
    }
    if (above >= 0)
        error = cmb_side_descend(a);
    if (!error && above <= 0)
        error = cmb_side_descend(b);
    return error;
}

static int step(cmb_differ *d, bool *out_found)
{
    cmb_side *a = &d->before, *b = &d->after;
    if (cmb_side_same(a, b)) {
        cmb_side_advance(a);
        cmb_side_advance(b);
        return 0;
    }
    bool a_first = cmb_side_is_before(a, b), b_first = !a_first && cmb_side_is_before(b, a);
    cmb_side *alone = a_first ? a : b;
    if (!a_first && !b_first)
        return meet(d, out_found);
    if (!cmb_side_on_entry(alone))
        return cmb_side_descend(alone);
    report(d, a_first, b_first, out_found);
    return 0;
}

static int next(cmb_differ *d, const cmb_tree_change **out_change)
{
    bool found = false;
    leave_reported(d);
    while (!(d->before.ended && d->after.ended)) {
        int error = step(d, &found);
        if (error)
            return error;
        if (found) {
            *out_change = &d->change;
            return 0;
        }
        leave_reported(d);
    }
    return CMB_ENOTFOUND;
}

/* Of a zeroed differ; to be closed whatever comes out. */
static int open_sides(cmb_differ *d, const cmb_tree *tree, const cmb_noderef *before, const cmb_noderef *after,
                      const cmb_bytes *from, const cmb_bytes *to)
{
    from = from && from->data ? from : NULL;
    to = to && to->data ? to : NULL;
    int error = cmb_side_open(&d->before, tree, before, from, to);
    return error ? error : cmb_side_open(&d->after, tree, after, from, to);
}

static void close_sides(cmb_differ *d)
{
    cmb_side_close(&d->before);
    cmb_side_close(&d->after);
}

int cmb_tree_diff(const cmb_tree *tree, const cmb_noderef *before, const cmb_noderef *after, const cmb_bytes *from, const cmb_bytes *to,
                  cmb_tree_change_fn fn, void *ctx, cmb_diff_stats *stats)
{
    cmb_differ d = {0};
    const cmb_tree_change *change;
    int result = open_sides(&d, tree, before, after, from, to);
    while (!result && !(result = next(&d, &change)))
        result = fn(ctx, change);
    if (result == CMB_ENOTFOUND && d.before.ended && d.after.ended)
        result = 0;
    if (stats && result >= 0)
        *stats = (cmb_diff_stats){.nodes_read = d.before.reads + d.after.reads, .changes = d.changes};
    close_sides(&d);
    return result;
}

/* ---- one after the other ---- */

int cmb_differ_open(const cmb_tree *tree, const cmb_noderef *before, const cmb_noderef *after, const cmb_bytes *from, const cmb_bytes *to,
                    cmb_differ **out_differ)
{
    cmb_differ *d = cmb_zalloc(&tree->alloc, sizeof(*d));
    if (!d)
        return CMB_ENOMEM;
    int error = open_sides(d, tree, before, after, from, to);
    if (error)
        cmb_differ_close(d);
    else
        *out_differ = d;
    return error;
}

int cmb_differ_next(cmb_differ *differ, const cmb_tree_change **out_change)
{
    return next(differ, out_change);
}

void cmb_differ_close(cmb_differ *differ)
{
    if (!differ)
        return;
    const cmb_tree *tree = differ->before.tree;
    close_sides(differ);
    cmb_release(&tree->alloc, differ, sizeof(*differ));
}
