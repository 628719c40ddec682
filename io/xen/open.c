/* SPDX-License-Identifier: ISC */
/* open.c: devices called "xen:…": a virtual device of this machine's, or of this very process's. */
#include <assert.h>

#include "io/xen/platform.h"
#include "io/xen/xen.h"

int cmb_device_open_xen(const char *name, cmb_open_mode mode, const cmb_device_options *options,
                        const cmb_xen_options *xen, cmb_device **out_dev)
{
    cmb_allocator alloc = cmb_allocator_or_default(options ? &options->alloc : NULL);
    cmb_xen_platform *platform;
    uint32_t vdev;
    assert(strncmp(name, "xen:", 4) == 0);
    int error = cmb_xen_vdev(name + 4, &vdev);
    if (error)
        return error;
    if (xen->loopback[0])
        error = cmb_xen_loopback_open(&alloc, xen->loopback, vdev, mode, options, &platform);
    else
        error = cmb_xen_platform_open(&alloc, vdev, &platform);
    return error ? error : cmb_device_xen(platform, name, vdev, mode, options, xen, out_dev);
}
