/* SPDX-License-Identifier: ISC */
/*
 * xen.h: Xen virtual block devices (vbd) as cmb_devices, for io/device.c, for tests and for programs
 * that bring a platform of their own.
 */
#ifndef CMB_IO_XEN_XEN_H
#define CMB_IO_XEN_XEN_H

#include "io/io.h"

typedef struct cmb_xen_platform cmb_xen_platform;

/* What a front end may use of what its back end offers, and how long it waits. */
typedef struct cmb_xen_options {
    unsigned ring_order;   /* pages of a ring, as a power of two */
    unsigned queues;       /* rings */
    unsigned segments;     /* of one request; above 11 needs the back end's indirect segments */
    unsigned pool_pages;   /* shared for copies, in all */
    bool persistent;       /* the back end may keep grants: data is copied; else aligned buffers are lent to it where that can be */
    bool discard;
    bool secure;           /* discards make unrecoverable what was there, else CMB_ENOTSUP at open */
    uint64_t timeout;      /* ns for connecting, for closing, and for a back end that restarts */
    char loopback[512];     /* device under a back end in this very process; empty: a real vbd */
} cmb_xen_options;

void cmb_xen_options_default(cmb_xen_options *out_options);

/*
 * One option of a device name, `n` characters: "ring=N", "queues=N", "segments=N", "pool=N",
 * "persistent=0|1", "discard=0|1|secure", "timeout=SECONDS", "loopback=DEVICE" (decoded).
 * CMB_EINVAL without a detail text: not one of them.
 */
int cmb_xen_option(cmb_xen_options *options, const char *text, size_t n);

/* The number of a virtual device: "51712", "xvda", "xvda1", "hda", "sdb2". CMB_EINVAL. */
int cmb_xen_vdev(const char *text, uint32_t *out_vdev);

/*
 * Connects to virtual device `vdev`. Owns the platform, also on failure. `name`: for messages; copied.
 * CMB_ENOTFOUND: no such device. CMB_EIO: the back end does not come up in time.
 */
int cmb_device_xen(cmb_xen_platform *platform, const char *name, uint32_t vdev, cmb_open_mode mode,
                   const cmb_device_options *options, const cmb_xen_options *xen, cmb_device **out_dev);

/* By name: "xen:xvda". */
int cmb_device_open_xen(const char *name, cmb_open_mode mode, const cmb_device_options *options,
                        const cmb_xen_options *xen, cmb_device **out_dev);

/* A back end over the device called `under`, in this process, and the platform to reach it, which owns it. */
int cmb_xen_loopback_open(const cmb_allocator *alloc, const char *under, uint32_t vdev, cmb_open_mode mode,
                          const cmb_device_options *options, cmb_xen_platform **out_platform);

#endif
