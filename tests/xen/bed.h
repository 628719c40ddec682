/* SPDX-License-Identifier: ISC */
/* bed.h: a virtual block device in one process: a disk, a back end over it, a front end over that. */
#ifndef CMB_TESTS_XEN_BED_H
#define CMB_TESTS_XEN_BED_H

#include "tests/io/io_test.h"

#include "io/xen/back.h"
#include "io/xen/protocol.h"
#include "io/xen/xen.h"

#define BED_VDEV   51712u
#define BED_DOMAIN 1u
#define BED_SIZE   ((uint64_t)1 << 20)

typedef struct bed {
    cmb_device *disk; /* closed with the bed */
    cmb_xen_hub_options hub_options;
    cmb_xen_back_options offer;
    cmb_xen_options take;
    cmb_open_mode mode;
    cmb_xen_hub *hub;
    cmb_xen_back *back;
    cmb_device *dev;
    cmb_queue *queue;
} bed;

/* Everything is offered and taken; a disk in memory. To be changed before bed_open. */
static inline void bed_init(bed *b, uint64_t size)
{
    *b = (bed){.mode = CMB_OPEN_WRITE, .hub_options = {.grants = 4096}};
    cmb_xen_back_options_default(&b->offer);
    cmb_xen_options_default(&b->take);
    b->take.timeout = (uint64_t)5 * 1000000000u;
    assert_ok(cmb_device_mem(size, NULL, &b->disk));
}

/* Hub and back end. */
static inline void bed_serve(bed *b)
{
    assert_ok(cmb_xen_hub_new(&b->disk->alloc, &b->hub_options, &b->hub));
    assert_ok(cmb_xen_back_new(b->hub, BED_DOMAIN, BED_VDEV, b->disk, &b->offer, &b->back));
}

static inline int bed_connect(bed *b, uint32_t vdev, const cmb_device_options *options)
{
    cmb_xen_end *end;
    assert_ok(cmb_xen_end_open(b->hub, BED_DOMAIN, &end));
    return cmb_device_xen(cmb_xen_end_platform(end), "xen:test", vdev, b->mode, options, &b->take, &b->dev);
}

static inline void bed_open(bed *b)
{
    bed_serve(b);
    assert_ok(bed_connect(b, BED_VDEV, NULL));
    assert_ok(cmb_queue_open(b->dev, 32, &b->queue));
}

static inline void bed_hang_up(bed *b)
{
    cmb_queue_close(b->queue);
    cmb_device_close(b->dev);
    b->queue = NULL;
    b->dev = NULL;
}

/* Also proves that nothing is left of the connection. */
static inline void bed_close(bed *b)
{
    bed_hang_up(b);
    cmb_xen_back_free(b->back);
    assert_int_equal(cmb_xen_hub_grants(b->hub), 0);
    assert_int_equal(cmb_xen_hub_ports(b->hub), 0);
    assert_int_equal(cmb_xen_hub_kept(b->hub), 0);
    cmb_xen_hub_free(b->hub);
    cmb_device_close(b->disk);
}

#endif
