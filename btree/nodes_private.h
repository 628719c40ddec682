/* SPDX-License-Identifier: ISC */
/* nodes_private.h: the two residencies as nodes.c sees them. */
#ifndef CMB_BTREE_NODES_PRIVATE_H
#define CMB_BTREE_NODES_PRIVATE_H

#include "btree/nodes.h"
#include "io/os.h"

#define CMB_NODE_LEAD_LINES 5u /* cache lines from a node's start that a search needs: header, prefix, the first heads */

static inline void cmb_prefetch_node(const uint8_t *record)
{
    for (unsigned i = 0; i < CMB_NODE_LEAD_LINES; i++)
        __builtin_prefetch(record + 64 * (size_t)i);
}

/* ---- map (nodes_map.c) ---- */
typedef struct cmb_map cmb_map;
int cmb_map_create(const cmb_allocator *alloc, cmb_log *log, cmb_map **out_map);
void cmb_map_destroy(cmb_map *map);
/* The verified node at addr, or NULL: visit. */
const uint8_t *cmb_map_find(const cmb_map *map, uint64_t addr);
/* The same after verifying, if need be. NULL in *out_record: it is not written yet. */
int cmb_map_visit(cmb_map *map, const cmb_noderef *ref, const uint8_t **out_record);
void cmb_map_prefetch(const cmb_map *map, uint64_t addr);
void cmb_map_remapped(cmb_map *map, uint64_t segment);
void cmb_map_stats(const cmb_map *map, cmb_nodes_stats *out_stats);

/* ---- pool (nodes_pool.c) ---- */
typedef struct cmb_pool cmb_pool;
int cmb_pool_create(const cmb_allocator *alloc, cmb_log *log, size_t budget, cmb_pool **out_pool);
void cmb_pool_destroy(cmb_pool *pool);
/* The resident node at addr, pinned by *out_frame, or NULL: load. */
const uint8_t *cmb_pool_find(cmb_pool *pool, uint64_t addr, void **out_frame);
/* The same after reading and verifying, if need be. NULL in *out_record: it is not written yet. */
int cmb_pool_load(cmb_pool *pool, const cmb_noderef *ref, const uint8_t **out_record, void **out_frame);
void cmb_pool_unpin(void *frame);
void cmb_pool_prefetch(const cmb_pool *pool, uint64_t addr);
void cmb_pool_fetch_many(cmb_pool *pool, const cmb_noderef *refs, size_t n);
void cmb_pool_remapped(cmb_pool *pool, uint64_t segment);
void cmb_pool_stats(cmb_pool *pool, cmb_nodes_stats *out_stats);

#endif
