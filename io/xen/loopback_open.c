/* SPDX-License-Identifier: ISC */
/* loopback_open.c: a virtual device over another device, with both ends in this process: "xen:xvda?loopback=DEVICE". */
#include "io/xen/back.h"
#include "io/xen/xen.h"

#define FRONT_DOMAIN 1u

typedef struct loop_under {
    cmb_allocator alloc;
    cmb_device *disk;
    cmb_xen_hub *hub;
    cmb_xen_back *back;
} loop_under;

static void loop_free(void *ctx)
{
    loop_under *l = ctx;
    cmb_allocator alloc = l->alloc;
    cmb_xen_back_free(l->back);
    if (l->hub)
        cmb_xen_hub_free(l->hub);
    cmb_device_close(l->disk);
    cmb_release(&alloc, l, sizeof *l);
}

/* The disk has a size of its own: a file that grows is one of its present size, or of what was asked for. */
static int loop_disk(loop_under *l, const char *under, cmb_open_mode mode, const cmb_device_options *options)
{
    cmb_caps caps;
    int error = cmb_device_open(under, mode, options, &l->disk);
    if (error)
        return error;
    cmb_device_caps(l->disk, &caps);
    if (caps.size == 0)
        return cmb_fail(CMB_EINVAL, "%s: a virtual device over nothing: it needs a size", under);
    return 0;
}

static int loop_make(loop_under *l, const char *under, uint32_t vdev, cmb_open_mode mode,
                     const cmb_device_options *options, cmb_xen_platform **out_platform)
{
    cmb_xen_back_options offer;
    cmb_xen_end *end;
    cmb_xen_back_options_default(&offer);
    offer.read_only = mode == CMB_OPEN_READ;
    int error = loop_disk(l, under, mode, options);
    if (!error)
        error = cmb_xen_hub_new(&l->alloc, NULL, &l->hub);
    if (!error)
        error = cmb_xen_back_new(l->hub, FRONT_DOMAIN, vdev, l->disk, &offer, &l->back);
    if (!error)
        error = cmb_xen_end_open(l->hub, FRONT_DOMAIN, &end);
    if (error)
        return error;
    cmb_xen_end_on_close(end, loop_free, l);
    *out_platform = cmb_xen_end_platform(end);
    return 0;
}

int cmb_xen_loopback_open(const cmb_allocator *alloc, const char *under, uint32_t vdev, cmb_open_mode mode,
                          const cmb_device_options *options, cmb_xen_platform **out_platform)
{
    loop_under *l = cmb_zalloc(alloc, sizeof *l);
    if (!l)
        return CMB_ENOMEM;
    l->alloc = *alloc;
    int error = loop_make(l, under, vdev, mode, options, out_platform);
    if (error)
        loop_free(l);
    return error;
}
