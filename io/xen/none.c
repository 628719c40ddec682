/* SPDX-License-Identifier: ISC */
/* none.c: what stands in for the Xen layer where it is not built. */
#include "io/xen/xen.h"

void cmb_xen_options_default(cmb_xen_options *out_options)
{
    *out_options = (cmb_xen_options){0};
}

int cmb_xen_option(cmb_xen_options *options, const char *text, size_t n)
{
    return 0; /* the device is refused below, by a better name */
}

int cmb_xen_vdev(const char *text, uint32_t *out_vdev)
{
    return cmb_fail(CMB_ENOTSUP, "xen:%s: built without Xen support", text);
}

int cmb_device_open_xen(const char *name, cmb_open_mode mode, const cmb_device_options *options,
                        const cmb_xen_options *xen, cmb_device **out_dev)
{
    return cmb_fail(CMB_ENOTSUP, "%s: built without Xen support", name);
}
