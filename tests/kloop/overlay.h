/* SPDX-License-Identifier: ISC */
/*
 * overlay.h: a device in memory that is put back to an image in no time, and that fails where it is told to.
 *
 * Its bytes are 4 KiB pages laid over those of an immutable image: a run costs what it writes, and laying the next one costs as
 * much again. So a campaign can try an image of any size a hundred thousand times over.
 *
 * One fault at a time: the k-th operation of those it concerns, or that one and all later ones. A request is one operation, so are
 * a flush and a growth. It counts its queues and operations: what a run must not exceed can be asserted.
 */
#ifndef CMB_TEST_OVERLAY_H
#define CMB_TEST_OVERLAY_H

#include "io/io.h"

#define OVERLAY_PAGE 4096u
#define OVERLAY_MAX ((uint64_t)96 << 20) /* bytes that one of these can have */

/* An image's bytes, never changed again. Pages that are not there are zeros. */
typedef struct overlay_image {
    uint64_t size; /* bytes */
    uint8_t *pages[OVERLAY_MAX / OVERLAY_PAGE];
} overlay_image;

typedef enum overlay_fault {
    OVERLAY_SOUND = 0,
    OVERLAY_EIO = 1,    /* nothing is done */
    OVERLAY_ENOSPC = 2, /* nothing is done; of writes, flushes and growth only */
    OVERLAY_SHORT = 3,  /* half of a transfer is done, then it fails: CMB_EIO; of reads and writes only */
} overlay_fault;

typedef struct overlay {
    cmb_device dev; /* closing it does nothing: it is the test's */
    cmb_device_ops ops;
    cmb_mutex lock;
    const overlay_image *base; /* NULL: nothing but zeros */
    uint64_t size;
    uint8_t *pages[OVERLAY_MAX / OVERLAY_PAGE]; /* over those of base */
    uint32_t *dirty;                            /* numbers of pages that are there */
    size_t dirty_count;

    overlay_fault fault;
    uint64_t fault_at;  /* the operation that fails, from 0, of those that the fault concerns */
    bool for_ever;      /* and every later one */
    uint64_t concerned; /* such operations so far */
    uint64_t fired;

    uint64_t operations;     /* all of them */
    uint64_t operations_max; /* above, everything fails and `exceeded` is set; 0: no limit */
    bool exceeded;
    int queues; /* that are open */
} overlay;

/* size 0: it grows, to OVERLAY_MAX at most. */
overlay *overlay_create(uint64_t size);
void overlay_destroy(overlay *o);

/* A copy of all bytes as they are now. */
overlay_image *overlay_freeze(const overlay *o);
void overlay_image_destroy(overlay_image *image);

/* The device has the image's bytes again, no fault, and all counts are 0. No queue may be open. */
void overlay_lay(overlay *o, const overlay_image *image);
/* From now on. The counts start anew. */
void overlay_break(overlay *o, overlay_fault fault, uint64_t at, bool for_ever);

/* Past all counts and faults. Any range inside the device. */
void overlay_peek(const overlay *o, uint64_t offset, void *out, size_t size);
void overlay_poke(overlay *o, uint64_t offset, const void *data, size_t size);
/* A shorter or longer device; what is cut off is lost. */
void overlay_resize(overlay *o, uint64_t size);

#endif
