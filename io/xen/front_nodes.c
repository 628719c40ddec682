/* SPDX-License-Identifier: ISC */
/* front_nodes.c: what the back end says in the xenstore; all of it is checked before it is believed. */
#include "io/xen/front.h"

#include <stdio.h>

#define SIZE_LIMIT ((uint64_t)1 << 62)

int cmb_front_path(const char *dir, const char *node, char out[CMB_XEN_PATH_MAX])
{
    int n = snprintf(out, CMB_XEN_PATH_MAX, "%s/%s", dir, node);
    if (n < 0 || n >= (int)CMB_XEN_PATH_MAX)
        return cmb_fail(CMB_ETOOBIG, "%s/%s: the path is too long", dir, node);
    return 0;
}

int cmb_front_node(front *f, const char *dir, const char *node, char out[CMB_XEN_PATH_MAX])
{
    char path[CMB_XEN_PATH_MAX];
    int error = cmb_front_path(dir, node, path);
    return error ? error : f->platform->ops->read(f->platform, CMB_XEN_NO_TX, path, out, CMB_XEN_PATH_MAX);
}

static int parse_number(const char *text, uint64_t *out)
{
    uint64_t v = 0;
    const char *s = text;
    for (; *s >= '0' && *s <= '9'; s++) {
        if (v > (UINT64_MAX - 9) / 10)
            return CMB_EINVAL;
        v = v * 10 + (uint64_t)(*s - '0');
    }
    if (s == text || *s)
        return CMB_EINVAL;
    *out = v;
    return 0;
}

int cmb_front_number(front *f, const char *dir, const char *node, uint64_t absent, uint64_t limit, uint64_t *out)
{
    char text[CMB_XEN_PATH_MAX];
    uint64_t v;
    int error = cmb_front_node(f, dir, node, text);
    if (error == CMB_ENOTFOUND) {
        *out = absent;
        return 0;
    }
    if (error)
        return error;
    if (parse_number(text, &v) || v > limit)
        return cmb_fail(CMB_EIO, "%s: %s/%s is \"%.40s\"", f->dev.name, dir, node, text);
    *out = v;
    return 0;
}

static int flag_read(front *f, const char *node, bool *out)
{
    uint64_t v;
    int error = cmb_front_number(f, f->back, node, 0, UINT32_MAX, &v);
    if (!error)
        *out = v != 0;
    return error;
}

/* ---- before connecting: transport ---- */

static unsigned least(uint64_t a, uint64_t b)
{
    return (unsigned)(a < b ? a : b);
}

int cmb_front_read_offer(front *f)
{
    const cmb_xen_options *o = &f->options;
    uint64_t order, queues, segments;
    int error = cmb_front_number(f, f->back, "max-ring-page-order", 0, UINT32_MAX, &order);
    if (!error)
        error = cmb_front_number(f, f->back, "multi-queue-max-queues", 1, UINT32_MAX, &queues);
    if (!error)
        error = cmb_front_number(f, f->back, "feature-max-indirect-segments", 0, UINT32_MAX, &segments);
    if (error)
        return error;
    f->ring_order = least(order, o->ring_order);
    f->ring_count = least(queues ? queues : 1, o->queues);
    f->segments = least(segments, o->segments);
    if (f->segments < BLKIF_MAX_SEGMENTS_PER_REQUEST)
        f->segments = least(BLKIF_MAX_SEGMENTS_PER_REQUEST, o->segments);
    return 0;
}

/* ---- once it is Connected: the disk ---- */

int cmb_front_read_size(front *f, uint64_t *out_size)
{
    uint64_t sectors;
    int error = cmb_front_number(f, f->back, "sectors", UINT64_MAX, UINT64_MAX, &sectors);
    if (error)
        return error;
    if (sectors > SIZE_LIMIT / CMB_XEN_SECTOR)
        return cmb_fail(CMB_EIO, "%s: a device of %llu sectors, or of none", f->dev.name, (unsigned long long)sectors);
    *out_size = sectors * CMB_XEN_SECTOR & ~(uint64_t)(f->block_size - 1);
    return 0;
}

static int read_blocks(front *f)
{
    uint64_t logical, physical;
    int error = cmb_front_number(f, f->back, "sector-size", CMB_XEN_SECTOR, UINT32_MAX, &logical);
    if (!error)
        error = cmb_front_number(f, f->back, "physical-sector-size", logical, UINT32_MAX, &physical);
    if (error)
        return error;
    if (logical < CMB_XEN_SECTOR || logical & (logical - 1))
        return cmb_fail(CMB_EIO, "%s: sectors of %llu bytes", f->dev.name, (unsigned long long)logical);
    if (logical > CMB_BLOCK)
        return cmb_fail(CMB_ENOTSUP, "%s: sectors of %llu bytes, more than %u", f->dev.name, (unsigned long long)logical,
                        CMB_BLOCK);
    f->block_size = (uint32_t)logical;
    f->physical_size = (uint32_t)physical;
    return cmb_front_read_size(f, &f->size);
}

static int read_discard(front *f)
{
    uint64_t granularity, alignment;
    int error = flag_read(f, "feature-discard", &f->discard);
    if (!error)
        error = flag_read(f, "discard-secure", &f->secure);
    if (!error)
        error = cmb_front_number(f, f->back, "discard-granularity", f->block_size, UINT32_MAX, &granularity);
    if (!error)
        error = cmb_front_number(f, f->back, "discard-alignment", 0, UINT32_MAX, &alignment);
    if (error)
        return error;
    /* Units that are not made of sectors would make requests that are not either. */
    bool whole = granularity && granularity % f->block_size == 0 && alignment % f->block_size == 0;
    f->granularity = whole ? (uint32_t)granularity : f->block_size;
    f->alignment = whole ? (uint32_t)alignment : 0;
    f->discard = f->discard && f->options.discard;
    if (f->options.secure && !(f->discard && f->secure))
        return cmb_fail(CMB_ENOTSUP, "%s: the back end has no secure discard", f->dev.name);
    return 0;
}

int cmb_front_read_properties(front *f)
{
    uint64_t info;
    char mode[CMB_XEN_PATH_MAX];
    bool persistent;
    int error = read_blocks(f);
    if (!error)
        error = cmb_front_number(f, f->back, "info", 0, UINT32_MAX, &info);
    if (!error)
        error = flag_read(f, "feature-flush-cache", &f->flush);
    if (!error)
        error = flag_read(f, "feature-barrier", &f->barrier);
    if (!error)
        error = flag_read(f, "feature-persistent", &persistent);
    if (!error)
        f->persistent = f->persistent && persistent;
    if (!error)
        error = read_discard(f);
    if (error)
        return error;
    f->info = (uint32_t)info;
    f->read_only = info & VDISK_READONLY;
    error = cmb_front_node(f, f->back, "mode", mode);
    if (!error && mode[0] == 'r')
        f->read_only = true;
    return error == CMB_ENOTFOUND ? 0 : error;
}
