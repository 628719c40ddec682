/* SPDX-License-Identifier: ISC */
/* mend.c: the newest superblock is written again where a copy of it is damaged (fsck.h). */
#include <cambium/fsck.h>

#include "log/log.h"

int cmb_fsck_mend_device(cmb_device *dev, const cmb_store_options *options, unsigned *out_mended)
{
    cmb_allocator alloc = cmb_allocator_or_default(options ? &options->alloc : NULL);
    return cmb_log_mend_supers(dev, &alloc, out_mended);
}

int cmb_fsck_mend(const char *name, const cmb_store_options *options, unsigned *out_mended)
{
    cmb_device_options device_options = {0};
    cmb_device *dev;
    if (options)
        device_options.alloc = options->alloc;
    int error = cmb_device_open(name, CMB_OPEN_WRITE, &device_options, &dev);
    if (error)
        return error;
    error = cmb_fsck_mend_device(dev, options, out_mended);
    cmb_device_close(dev);
    return error;
}
