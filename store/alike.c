/* SPDX-License-Identifier: ISC */
#include "store/alike.h"

#include "btree/diff.h"
#include "btree/probe.h"

#define DIFFERENT 1 /* what stops a diff */

int cmb_alike_init(cmb_alike *alike, cmb_store *store, const cmb_range *ranges, size_t count)
{
    *alike = (cmb_alike){.store = store};
    if (!count)
        return 0;
    alike->bounds = cmb_zalloc(&store->alloc, count * sizeof *alike->bounds);
    if (!alike->bounds)
        return CMB_ENOMEM;
    alike->count = count;
    for (size_t i = 0; i < count; i++) {
        int error = cmb_bounds_set(&store->alloc, &alike->bounds[i], &ranges[i]);
        if (error)
            return error;
    }
    return 0;
}

void cmb_alike_destroy(cmb_alike *alike)
{
    const cmb_allocator *alloc = &alike->store->alloc;
    for (size_t i = 0; i < alike->count; i++)
        cmb_bounds_release(alloc, &alike->bounds[i]);
    cmb_release(alloc, alike->bounds, alike->count * sizeof *alike->bounds);
    cmb_pin_destroy(alike->store->nodes, &alike->pins[0]);
    cmb_pin_destroy(alike->store->nodes, &alike->pins[1]);
}

/* From a key to the next possible one: the key and a zero byte. */
static bool is_one_key(const cmb_bounds *b)
{
    return b->lower.size && b->upper.size == b->lower.size + 1 && memcmp(b->lower.data, b->upper.data, b->lower.size) == 0
           && ((const uint8_t *)b->upper.data)[b->lower.size] == 0;
}

static int compare_key(cmb_alike *alike, const cmb_noderef *a, const cmb_noderef *b, cmb_bytes key, bool *out_same)
{
    cmb_probe probe_a, probe_b;
    cmb_probe_start(&probe_a, a);
    cmb_probe_start(&probe_b, b);
    return cmb_probe_same(&alike->store->tree, &probe_a, &probe_b, key.data, key.size, alike->pins, out_same);
}

static int differ(void *ctx, const cmb_tree_change *change)
{
    (void)ctx;
    (void)change;
    return DIFFERENT;
}

static int compare_bounds(cmb_alike *alike, const cmb_noderef *a, const cmb_noderef *b, const cmb_bounds *bounds, bool *out_same)
{
    if (cmb_bounds_empty(bounds)) {
        *out_same = true;
        return 0;
    }
    if (is_one_key(bounds))
        return compare_key(alike, a, b, bounds->lower, out_same);
    int result = cmb_tree_diff(&alike->store->tree, a, b, bounds->lower.size ? &bounds->lower : NULL,
                               bounds->upper.size ? &bounds->upper : NULL, differ, NULL, NULL);
    *out_same = result == 0;
    return result == DIFFERENT ? 0 : result;
}

int cmb_alike_compare(cmb_alike *alike, const cmb_noderef *a, const cmb_noderef *b, bool *out_same)
{
    bool same = cmb_tree_same(a, b);
    int error = 0;
    if (!same && alike->count) {
        same = true;
        for (size_t i = 0; !error && same && i < alike->count; i++)
            error = compare_bounds(alike, a, b, &alike->bounds[i], &same);
    }
    if (!error)
        *out_same = same;
    return error;
}
