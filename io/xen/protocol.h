/* SPDX-License-Identifier: ISC */
/*
 * protocol.h: Xen's public headers as both ends use them, and what those leave to their users: the
 * shared indexes are read and written with atomics, so that both ends may be threads of one process
 * under ThreadSanitizer, and every one of them once.
 *
 * Sectors are 512 bytes in every number of the protocol, whatever "sector-size" says: so do the back
 * ends that there are, and the header's other reading is nobody's.
 */
#ifndef CMB_IO_XEN_PROTOCOL_H
#define CMB_IO_XEN_PROTOCOL_H

#ifndef __XEN_INTERFACE_VERSION__
#define __XEN_INTERFACE_VERSION__ 0x00040e00
#endif
#include <xen/io/blkif.h>
#include <xen/io/protocols.h>
#include <xen/io/xenbus.h>

#include "io/xen/platform.h"

#define CMB_XEN_SECTOR       512u
#define CMB_XEN_PAGE_SECTORS (CMB_XEN_PAGE / CMB_XEN_SECTOR)
#define CMB_XEN_QUEUES_MAX   8u  /* rings of one connection */
#define CMB_XEN_ORDER_MAX    4u  /* of a ring: 16 pages */
#define CMB_XEN_RING_PAGES   (1u << CMB_XEN_ORDER_MAX)
#define CMB_XEN_SEGMENTS_MAX 256u /* of a request: one page of indirect segments holds 512 */
#define CMB_XEN_PAGE_SEGMENTS (CMB_XEN_PAGE / (unsigned)sizeof(struct blkif_request_segment))

_Static_assert(CMB_XEN_SEGMENTS_MAX <= CMB_XEN_PAGE / sizeof(struct blkif_request_segment),
               "the segments of a request fit in one page");

/* Requests that a ring of so many bytes holds: a power of two. */
static inline unsigned cmb_xen_ring_entries(unsigned pages)
{
    unsigned fit = (unsigned)((pages * CMB_XEN_PAGE - offsetof(struct blkif_sring, ring)) / sizeof(union blkif_sring_entry));
    unsigned n = 1;
    while (2 * n <= fit)
        n *= 2;
    return n;
}

/* Once, and after it everything that the other end wrote before it moved the index. */
static inline unsigned cmb_xen_index_read(const unsigned *index)
{
    return __atomic_load_n(index, __ATOMIC_SEQ_CST);
}

/* After everything that was written before. In one order with reads of the other end's event index. */
static inline void cmb_xen_index_write(unsigned *index, unsigned value)
{
    __atomic_store_n(index, value, __ATOMIC_SEQ_CST);
}

/* Does the move of a producer's index from `old` to `new` pass the index that the other end waits for? */
static inline bool cmb_xen_must_notify(unsigned event, unsigned old, unsigned new)
{
    return new - event < new - old;
}

#endif
