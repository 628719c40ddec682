/* SPDX-License-Identifier: ISC */
/*
 * nodes.h: residency. The tree asks for a node by reference and gets verified memory; it does not
 * know whether that is the device's mapping or the engine's own pool.
 *
 * Map: pointers into the device's mapping. A bit per 16-byte granule, in a bitmap per logical
 * segment made when first needed, says that the node starting there was verified; the ordinary visit
 * is one table load and one bit test, no lock and no release. A mapping cannot turn a late media error into an error code, and a
 * page that was evicted and came back is not verified again.
 *
 * Pool: one anonymous arena (huge pages) of `budget` bytes, filled by device reads; node-granular;
 * second-chance eviction that steps over pinned nodes; CMB_ENOMEM with a clear text when pins leave
 * no room. Everything, tables included, fits the budget. Nodes are immutable: nothing is ever
 * written back.
 *
 * In both, a node that the log has queued but not written yet, or that lives in a scratch, is copied into the pin and
 * verified at every visit: it may still be taken back, so nothing remembers it.
 *
 * Both are thread-safe. A pin belongs to one handle.
 */
#ifndef CMB_BTREE_NODES_H
#define CMB_BTREE_NODES_H

#include "btree/node.h"

typedef struct cmb_nodes cmb_nodes;

typedef enum cmb_residency { CMB_RESIDENCY_AUTO = 0, CMB_RESIDENCY_MAP = 1, CMB_RESIDENCY_POOL = 2 } cmb_residency;

/* Keeps one node resident. Zero-initialise; may be used again and again; release at the end. */
typedef struct cmb_pin {
    const uint8_t *record; /* NULL: holds nothing */
    void *frame;           /* pool's */
    void *copy;            /* owned memory for nodes that are not written yet; kept for reuse */
    size_t copy_size;
} cmb_pin;

/* AUTO: map where the device maps, else pool. budget: bytes of the pool (0: 256 MiB). */
int cmb_nodes_create(const cmb_allocator *alloc, cmb_log *log, cmb_residency residency, size_t budget, cmb_nodes **out_nodes);
void cmb_nodes_destroy(cmb_nodes *nodes); /* no pins may be held */
cmb_residency cmb_nodes_residency(const cmb_nodes *nodes);
/* The log moved or dropped this segment: what is cached of it is forgotten, except what pins hold (hook for
 * cmb_log_options.remapped; also for addresses that are given back by an abort after they were written). Readers that found a node before may go on reading it: the log does not reuse its place before they have passed. */
void cmb_nodes_remapped(cmb_nodes *nodes, uint64_t segment);

/* Makes the node resident and verified; what the pin held before is released. On error the pin holds nothing.
 * Address 0 with count 0 is the empty leaf. A node of another level than its reference says is never returned
 * (a descent's depth is bounded by the root's level); in forged images a child may count other entries than its
 * parent says, so positions computed from counts are checked against the node at hand. */
int cmb_nodes_get(cmb_nodes *nodes, const cmb_noderef *ref, cmb_pin *pin);
/* The i-th child of an internal node: the hot path, which reads the reference only if it has to verify. */
int cmb_nodes_child(cmb_nodes *nodes, const cmb_node *parent, uint32_t i, cmb_pin *pin);
/* The same for who knows the address already: the child if it is resident, else false and nothing has changed; parent may be what the pin holds. */
bool cmb_nodes_resident(cmb_nodes *nodes, uint64_t addr, unsigned level, cmb_pin *pin);
/* Hints that a child, or the node at this address, is wanted soon: prefetches memory, or starts nothing. Never fails. */
void cmb_nodes_prefetch_at(cmb_nodes *nodes, uint64_t addr);
static inline void cmb_nodes_prefetch(cmb_nodes *nodes, const cmb_node *parent, uint32_t i)
{
    cmb_nodes_prefetch_at(nodes, cmb_node_child_addr(parent, i));
}
/* Pool: reads up to n missing nodes with all reads in flight together; afterwards get finds them. Map: advises. Errors surface at get. */
void cmb_nodes_fetch_many(cmb_nodes *nodes, const cmb_noderef *refs, size_t n);
void cmb_pin_release(cmb_nodes *nodes, cmb_pin *pin); /* keeps the copy buffer */
void cmb_pin_destroy(cmb_nodes *nodes, cmb_pin *pin); /* frees it as well */

/* Map: `verified` and `copied` only. Pool: hits are approximate among threads. copied: visits of nodes not written yet. */
typedef struct cmb_nodes_stats {
    uint64_t budget, resident_bytes, resident_nodes, verified, hits, misses, evictions, copied;
} cmb_nodes_stats;
void cmb_nodes_get_stats(cmb_nodes *nodes, cmb_nodes_stats *out_stats);

#endif
