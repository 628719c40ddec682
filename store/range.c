/* SPDX-License-Identifier: ISC */
/* range.c: what a cursor, a watch or a diff is confined to, as two bounds. */
#include "store/handles.h"

/* The shortest key above everything that begins with prefix; 0: there is none. */
static size_t successor(cmb_bytes prefix, uint8_t *out)
{
    const uint8_t *p = prefix.data;
    size_t n = prefix.size;
    while (n && p[n - 1] == 0xff)
        n--;
    if (n) {
        memcpy(out, p, n);
        out[n - 1]++;
    }
    return n;
}

static int compare(cmb_bytes a, cmb_bytes b)
{
    return cmb_compare(a.data, a.size, b.data, b.size);
}

int cmb_bounds_set(const cmb_allocator *alloc, cmb_bounds *bounds, const cmb_range *range)
{
    static const cmb_range all;
    range = range ? range : &all;
    cmb_bytes from = range->from, prefix = range->prefix;
    size_t room = from.size + range->to.size + 2 * prefix.size;
    int error = cmb_blob_reserve(alloc, &bounds->room, room ? room : 1);
    if (error)
        return error;
    uint8_t *at = bounds->room.data;
    bounds->lower = prefix.size && compare(prefix, from) > 0 ? prefix : from;
    if (bounds->lower.size) {
        memcpy(at, bounds->lower.data, bounds->lower.size);
        bounds->lower.data = at;
        at += bounds->lower.size;
    }
    bounds->upper = (cmb_bytes){at, successor(prefix, at)};
    if (range->to.size && (!bounds->upper.size || compare(range->to, bounds->upper) < 0)) {
        memcpy(at, range->to.data, range->to.size);
        bounds->upper.size = range->to.size;
    }
    return 0;
}

void cmb_bounds_release(const cmb_allocator *alloc, cmb_bounds *bounds)
{
    cmb_blob_release(alloc, &bounds->room);
}
