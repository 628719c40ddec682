/* SPDX-License-Identifier: ISC */
/* uring_none.c: stands in for uring.c where the library is built without liburing. */
#include "io/io.h"

int cmb_device_open_uring(const char *path, cmb_open_mode mode, const cmb_device_options *options, bool fixed,
                          cmb_device **out_dev)
{
    return cmb_fail(CMB_ENOTSUP, "%s: io=uring: built without io_uring support", path);
}
