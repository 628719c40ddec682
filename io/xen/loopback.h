/* SPDX-License-Identifier: ISC */
/*
 * loopback.h: Xen in one process: a grant table, event channels and a xenstore (the hub), and the
 * domains' ends of it. A front end runs over an end's `platform`; a back end uses the rest as well.
 *
 *   loopback.c        ends, grants, event channels
 *   loopback_store.c  the xenstore: nodes, transactions, watches
 *
 * All of it is thread-safe. Memory that is shared is the very same memory; who maps it is counted, so
 * that revoking what is mapped fails as it does with the hypervisor.
 */
#ifndef CMB_IO_XEN_LOOPBACK_H
#define CMB_IO_XEN_LOOPBACK_H

#include "io/xen/platform.h"

typedef struct cmb_xen_hub cmb_xen_hub;
typedef struct cmb_xen_end cmb_xen_end;

typedef struct cmb_xen_hub_options {
    unsigned grants;     /* that there are in all; 0: 65536 */
    bool shared_only;    /* ends have no `grant`, as a process in a Linux guest has none */
    unsigned conflicts;  /* so many transactions are refused first */
} cmb_xen_hub_options;

int cmb_xen_hub_new(const cmb_allocator *alloc, const cmb_xen_hub_options *options, cmb_xen_hub **out_hub);
void cmb_xen_hub_free(cmb_xen_hub *hub); /* all ends are closed */

/* A domain's end. Its relative paths are under /local/domain/DOMID. Closed as the platform is. */
int cmb_xen_end_open(cmb_xen_hub *hub, uint16_t domid, cmb_xen_end **out_end);
cmb_xen_platform *cmb_xen_end_platform(cmb_xen_end *end);
/* `done` is called when the end has been closed: it may free the hub. */
void cmb_xen_end_on_close(cmb_xen_end *end, void (*done)(void *ctx), void *ctx);

/* ---- the mapping side ---- */

/* Maps pages that `owner` granted to this end's domain. All, or none and CMB_EIO. `write`: to write to them. */
int cmb_xen_end_map(cmb_xen_end *end, uint16_t owner, const uint32_t *refs, unsigned n, bool write, void **out_pages);
/* Each ref of a map, once. */
void cmb_xen_end_unmap(cmb_xen_end *end, const uint32_t *refs, unsigned n);
/* Binds a port of this end to one that `owner` opened for this end's domain. */
int cmb_xen_end_bind(cmb_xen_end *end, uint16_t owner, uint32_t remote, uint32_t *out_port);
/* Wakes a `wait` of this very end. */
void cmb_xen_end_wake(cmb_xen_end *end);

/* ---- for tests: what leaks shows here ---- */

unsigned cmb_xen_hub_grants(cmb_xen_hub *hub); /* that are out */
unsigned cmb_xen_hub_ports(cmb_xen_hub *hub);
unsigned cmb_xen_hub_kept(cmb_xen_hub *hub); /* runs of pages that could not be given back */

#endif
