/* SPDX-License-Identifier: ISC */
/*
 * platform.h: what the blkif front end asks of the machine under it: pages that another domain may
 * read and write (grants), event channels, the xenstore. One platform belongs to one front end.
 *
 *   linux.c     a process in a Linux guest: gntalloc, evtchn and xenbus devices
 *   loopback.c  a hypervisor, its xenstore and both ends in one process
 *
 * A port to Mini-OS, Unikraft or the like fills in one table and offers cmb_xen_platform_open:
 *
 *   share, unshare       pages from the page allocator, granted one by one
 *   grant, revoke        gnttab_grant_access and gnttab_end_access
 *   port_open, notify    EVTCHNOP_alloc_unbound, EVTCHNOP_send; the handler sets a flag and wakes `wait`
 *   read … unwatch       the xenbus client, with a queue of watch events
 *   wait                 sleep until the flag or the queue is not empty
 *
 * Threads: the front end makes one call at a time, but for `wait`, which runs beside the others. Only
 * `wait` sleeps for long; the calls to the xenstore take as long as the store's daemon does.
 * Errors: 0 or CMB_E… with a detail text that names the call and the path or the page.
 */
#ifndef CMB_IO_XEN_PLATFORM_H
#define CMB_IO_XEN_PLATFORM_H

#include "io/base.h"

#define CMB_XEN_PAGE     4096u /* of the protocol, whatever the machine's own is */
#define CMB_XEN_PATH_MAX 256u  /* bytes of the longest path or value, its zero byte included */
#define CMB_XEN_NO_TX    0u    /* outside of any transaction */

typedef struct cmb_xen_platform cmb_xen_platform;

typedef struct cmb_xen_platform_ops {
    /*
     * `pages` zeroed pages in a row which domain `domid` may map, to read and to write, until unshare.
     * `out_refs` has room for as many grant references. CMB_ENOMEM: no memory, or no grants left.
     */
    int (*share)(cmb_xen_platform *p, uint16_t domid, unsigned pages, void **out_memory, uint32_t *out_refs);
    /*
     * Ends that. CMB_EBUSY: the other domain still maps some of the pages; they are lost to the caller all the
     * same: the platform keeps the memory from any other use for as long as that lasts.
     */
    int (*unshare)(cmb_xen_platform *p, void *memory, unsigned pages, const uint32_t *refs);

    /*
     * Lets `domid` map `pages` pages of the caller's own memory, in a row from a multiple of CMB_XEN_PAGE on: all,
     * or none and an error. NULL, and revoke with it, where only memory of the platform's making can be shared:
     * then data is copied.
     */
    int (*grant)(cmb_xen_platform *p, uint16_t domid, void *memory, unsigned pages, bool read_only, uint32_t *out_refs);
    /*
     * Ends that. Returns of how many pages it did not, since the other domain still maps them, and may change them:
     * their references come first in `refs` then, for another time.
     */
    unsigned (*revoke)(cmb_xen_platform *p, uint32_t *refs, unsigned pages);

    /* An event channel that `domid` may bind to. */
    int (*port_open)(cmb_xen_platform *p, uint16_t domid, uint32_t *out_port);
    void (*port_close)(cmb_xen_platform *p, uint32_t port);
    void (*notify)(cmb_xen_platform *p, uint32_t port);

    /*
     * Sleeps until an event has arrived on any port since wait last returned, or a watch has fired that
     * watch_fired has not told of, or cmb_os_monotonic() is `deadline` (UINT64_MAX: none). May return early.
     */
    void (*wait)(cmb_xen_platform *p, uint64_t deadline);
    /*
     * The tokens of the watches that have fired since the last call, bit by bit. Does not sleep, and is cheap:
     * asked with every request. What was changed before a `read` returned has fired by then.
     */
    uint32_t (*watch_fired)(cmb_xen_platform *p);

    /*
     * The xenstore. A path that does not begin with "/" is relative to the domain's own. One transaction at
     * a time. `end` with CMB_ECONFLICT: somebody else changed what was read or written: do it all again.
     */
    int (*begin)(cmb_xen_platform *p, uint32_t *out_tx);
    int (*end)(cmb_xen_platform *p, uint32_t tx, bool commit);
    /* CMB_ENOTFOUND: there is no such node. CMB_ETOOBIG: the value and its zero byte exceed `size`. */
    int (*read)(cmb_xen_platform *p, uint32_t tx, const char *path, char *out_value, size_t size);
    int (*write)(cmb_xen_platform *p, uint32_t tx, const char *path, const char *value);
    int (*remove)(cmb_xen_platform *p, uint32_t tx, const char *path); /* of a node that is not there: 0 */
    /*
     * A change of the node, of any below it, or the removal of any above fires the watch. It fires once at once.
     * `token` is 0 to 31; a path is watched once at a time.
     */
    int (*watch)(cmb_xen_platform *p, const char *path, unsigned token);
    void (*unwatch)(cmb_xen_platform *p, const char *path);

    void (*close)(cmb_xen_platform *p);
} cmb_xen_platform_ops;

/* An implementation embeds this first. */
struct cmb_xen_platform {
    const cmb_xen_platform_ops *ops;
};

/*
 * The platform that this program runs on, for one virtual block device. CMB_EBUSY: another program, or the
 * kernel, drives that device. CMB_ENOTSUP: there is no Xen here. Each port defines this function.
 */
int cmb_xen_platform_open(const cmb_allocator *alloc, uint32_t vdev, cmb_xen_platform **out_platform);

#endif
