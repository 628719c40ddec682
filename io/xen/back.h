/* SPDX-License-Identifier: ISC */
/*
 * back.h: a back end for Xen virtual block devices in this process: serves any cmb_device over the
 * loopback's hub, by the protocol and with any mix of its features, and misbehaves on order.
 *
 *   back.c        one device: nodes, states, its thread
 *   back_ring.c   requests are taken, run and answered
 */
#ifndef CMB_IO_XEN_BACK_H
#define CMB_IO_XEN_BACK_H

#include <cambium/device.h>

#include "io/xen/loopback.h"

typedef struct cmb_xen_back cmb_xen_back;

typedef enum cmb_xen_fault_kind {
    CMB_XEN_FAULT_ERROR = 1,   /* answered with an error, nothing is done */
    CMB_XEN_FAULT_UNSUPPORTED, /* answered with "not supported", nothing is done */
    CMB_XEN_FAULT_LATE,        /* answered after `count` later ones, or when nothing else is in flight */
    CMB_XEN_FAULT_DUPLICATE,   /* answered twice */
    CMB_XEN_FAULT_BAD_ID,      /* answered with an id that is not the request's */
    CMB_XEN_FAULT_BAD_STATUS,  /* answered with a status that there is not */
    CMB_XEN_FAULT_BAD_INDEX,   /* the producer's index runs ahead */
    CMB_XEN_FAULT_KEEP,        /* answered, and the request's pages stay mapped until the back end ends */
    CMB_XEN_FAULT_DIE,         /* not answered: the back end dies, as by cmb_xen_back_kill */
} cmb_xen_fault_kind;

enum { CMB_XEN_OP_ANY = -1 };

/* As cmb_fault_rule: the requests of operation `op` numbered first, first + every, …, `times` times (0: no limit). */
typedef struct cmb_xen_fault {
    int op; /* BLKIF_OP_…; an indirect request is BLKIF_OP_INDIRECT, not what it does */
    cmb_xen_fault_kind kind;
    uint64_t first, every, times;
    unsigned count;
} cmb_xen_fault;

typedef struct cmb_xen_back_options {
    unsigned ring_order, queues, segments; /* offered; segments 0: no indirect ones */
    bool persistent;
    unsigned persistent_max; /* pages; 0: no limit */
    bool flush, barrier, discard, secure;
    bool flush_hidden; /* flushes are done though feature-flush-cache is not there */
    uint32_t granularity, alignment; /* of discards, bytes; 0: not said */
    uint32_t sector_size, physical_size; /* 0: 512, and not said */
    bool read_only, removable;
    uint64_t size;   /* bytes offered; 0: all that the device has */
    bool skip_wait;  /* goes to Initialised at once: offers are not read, defaults hold */
    bool uncached;   /* reads past the operating system's cache */
    uint64_t shuffle; /* not 0: what is found in the rings together is run in an order of this seed */
    const cmb_xen_fault *faults; /* borrowed for the back end's life */
    size_t fault_count;
} cmb_xen_back_options;

/* Everything that there is. */
void cmb_xen_back_options_default(cmb_xen_back_options *out_options);

/*
 * What a toolstack does for `xl block-attach`, and the back end's start, in domain 0. `disk` is borrowed. The
 * calls below are for one thread at a time, beside the front end's.
 */
int cmb_xen_back_new(cmb_xen_hub *hub, uint16_t front_domid, uint32_t vdev, cmb_device *disk,
                     const cmb_xen_back_options *options, cmb_xen_back **out_back);
/* Dies without a word: requests in flight are not answered, its state stays, its mappings are gone. */
void cmb_xen_back_kill(cmb_xen_back *back);
/* Has it died, by kill or by a fault? */
bool cmb_xen_back_is_dead(const cmb_xen_back *back);
/* A new one in its place. It may offer other things than the last. `options` NULL: the same. */
int cmb_xen_back_restart(cmb_xen_back *back, const cmb_xen_back_options *options);
/* What a toolstack does for `xl block-detach`: asks the front end to let go. */
int cmb_xen_back_unplug(cmb_xen_back *back);
/* Tells the front end of another size, at most the disk's. */
int cmb_xen_back_resize(cmb_xen_back *back, uint64_t size);
/* Stops, and takes its nodes away. */
void cmb_xen_back_free(cmb_xen_back *back);

/* Requests served, each kind by its number in the protocol. */
uint64_t cmb_xen_back_served(const cmb_xen_back *back, int op);

#endif
