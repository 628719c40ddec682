/* SPDX-License-Identifier: ISC */
/* back_private.h: what back.c and back_ring.c share. All of it is the back end's thread's alone, but for what is atomic. */
#ifndef CMB_IO_XEN_BACK_PRIVATE_H
#define CMB_IO_XEN_BACK_PRIVATE_H

#include <stdatomic.h>

#include "io/io.h"
#include "io/xen/back.h"
#include "io/xen/protocol.h"

#define BACK_BATCH 64u /* requests taken, handed to the disk, or reaped at a time */
#define BACK_MERGED (1u << 20) /* bytes of the largest request that neighbours are merged to */
#define BACK_OPS 8 /* operations of the protocol are below it */

/* A request being served. */
typedef struct back_job {
    struct back_ring *ring;
    uint64_t id;
    uint8_t operation; /* of an indirect one, what it does */
    uint8_t told;      /* as the request says it */
    int16_t status;
    cmb_xen_fault_kind fault; /* 0: none */
    unsigned delay;
    unsigned running; /* parts with the disk */
    uint64_t offset, length; /* bytes */
    unsigned segments;
    struct blkif_request_segment segment[CMB_XEN_SEGMENTS_MAX];
    void *page[CMB_XEN_SEGMENTS_MAX];
    bool mapped[CMB_XEN_SEGMENTS_MAX]; /* for this request alone */
    struct back_job *merged; /* the next one that the same request of the disk's is for */
    struct back_job *next;
} back_job;

typedef struct back_ring {
    struct blkif_sring *shared;
    unsigned pages, entries;
    uint32_t refs[CMB_XEN_RING_PAGES];
    void *maps[CMB_XEN_RING_PAGES];
    bool is_mapped;
    uint32_t port;
    bool has_port;
    unsigned requests, responses, pushed; /* our consumer's and producer's index */
} back_ring;

struct cmb_xen_back {
    cmb_allocator alloc;
    cmb_xen_back_options options;
    cmb_xen_hub *hub;
    cmb_xen_end *end;
    cmb_device *disk;
    cmb_queue *queue; /* of the disk */
    uint32_t block;   /* of the disk */
    uint16_t front_domid;
    uint32_t vdev;
    char home[64], front_home[64];
    cmb_thread thread;
    bool has_thread;
    _Atomic bool stop, killed, dead; /* dead: the thread is about to end or has ended */
    _Atomic uint64_t size;
    _Atomic uint64_t served[BACK_OPS];

    bool connected, persistent;
    unsigned ring_count;
    back_ring rings[CMB_XEN_QUEUES_MAX];
    back_job *jobs, *free;
    unsigned job_count;
    unsigned running; /* parts with the disk, or about to be */
    cmb_request unsent[BACK_BATCH]; /* of these */
    unsigned unsent_count;
    back_job *last;   /* that the last of these is for, if others may join it */
    back_job *again;  /* whose request of the disk's failed, and was others' too */
    unsigned busy;    /* jobs not answered */
    bool torn;        /* the last connection ended with some: its rings cannot be gone on with */
    back_job *held, **held_end;
    void **kept; /* [GRANT_TABLE]: pages that stay mapped, by reference */
    unsigned kept_count;
    back_job *hoard; /* answered, and yet mapped: CMB_XEN_FAULT_KEEP */
    uint64_t shuffle;
    uint64_t *seen, *fired; /* [fault_count] */
};

#define BACK_GRANTS 16384u /* references above are mapped for one request only */

/* ---- back_ring.c ---- */

int cmb_back_ring_map(cmb_xen_back *b, back_ring *r, unsigned order);
void cmb_back_ring_unmap(cmb_xen_back *b, back_ring *r);
/* Takes what is in the rings and starts it. False: nothing was there, and the next request notifies. */
bool cmb_back_take(cmb_xen_back *b);
/* Takes what the disk has finished, and answers. `wait`: for one at least, if any is running. */
void cmb_back_finish(cmb_xen_back *b, bool wait);
/* Forgets all jobs, once the disk has finished them, and unmaps everything but the rings. */
void cmb_back_drop(cmb_xen_back *b);

#endif
