/* SPDX-License-Identifier: ISC */
/* The door before the two residencies. */
#include "btree/nodes_private.h"

#include <assert.h>
#include <stdatomic.h>

#define POOL_DEFAULT ((size_t)256 << 20)

struct cmb_nodes {
    cmb_map *map; /* exactly one of the two */
    cmb_pool *pool;
    cmb_log *log;
    cmb_hash_kind hash;
    cmb_allocator alloc;
    _Atomic uint64_t copied;
    cmb_node_buffer empty; /* the empty leaf, which no log holds */
};

static int make_empty_leaf(cmb_nodes *nodes)
{
    cmb_noderef ref;
    int error = cmb_node_encode(&nodes->alloc, nodes->hash, 0, NULL, 0, &nodes->empty, &ref);
    if (!error)
        cmb_node_place(nodes->empty.data, 0);
    return error;
}

static int make_residency(cmb_nodes *nodes, cmb_log *log, cmb_residency residency, bool maps, size_t budget)
{
    if (residency == CMB_RESIDENCY_MAP && !maps)
        return cmb_fail(CMB_ENOTSUP, "this device cannot be mapped; nodes need a pool");
    if (residency == CMB_RESIDENCY_POOL || !maps)
        return cmb_pool_create(&nodes->alloc, log, budget ? budget : POOL_DEFAULT, &nodes->pool);
    return cmb_map_create(&nodes->alloc, log, &nodes->map);
}

/* Whether the device maps stands in the device that the log's queues are on. */
static int device_maps(cmb_log *log, bool *out_maps)
{
    cmb_queue *queue;
    int error = cmb_log_queue_take(log, &queue);
    if (error)
        return error;
    cmb_caps caps;
    cmb_device_caps(queue->dev, &caps);
    *out_maps = caps.flags & CMB_CAP_MAP;
    cmb_log_queue_give(log, queue);
    return 0;
}

int cmb_nodes_create(const cmb_allocator *alloc, cmb_log *log, cmb_residency residency, size_t budget, cmb_nodes **out_nodes)
{
    bool maps;
    int error = device_maps(log, &maps);
    if (error)
        return error;
    cmb_nodes *nodes = cmb_zalloc(alloc, sizeof *nodes);
    if (!nodes)
        return CMB_ENOMEM;
    nodes->alloc = *alloc;
    nodes->log = log;
    nodes->hash = (cmb_hash_kind)cmb_log_params(log)->hash_kind;
    error = make_empty_leaf(nodes);
    if (!error)
        error = make_residency(nodes, log, residency, maps, budget);
    if (error) {
        cmb_nodes_destroy(nodes);
        return error;
    }
    *out_nodes = nodes;
    return 0;
}

void cmb_nodes_destroy(cmb_nodes *nodes)
{
    if (!nodes)
        return;
    cmb_map_destroy(nodes->map);
    cmb_pool_destroy(nodes->pool);
    cmb_allocator alloc = nodes->alloc;
    cmb_release(&alloc, nodes->empty.data, nodes->empty.capacity);
    cmb_release(&alloc, nodes, sizeof *nodes);
}

cmb_residency cmb_nodes_residency(const cmb_nodes *nodes)
{
    return nodes->map ? CMB_RESIDENCY_MAP : CMB_RESIDENCY_POOL;
}

void cmb_nodes_remapped(cmb_nodes *nodes, uint64_t segment)
{
    if (nodes->map)
        cmb_map_remapped(nodes->map, segment);
    else
        cmb_pool_remapped(nodes->pool, segment);
}

static inline void drop(cmb_pin *pin)
{
    if (pin->frame)
        cmb_pool_unpin(pin->frame);
    pin->frame = NULL;
    pin->record = NULL;
}

static inline const uint8_t *find(cmb_nodes *nodes, uint64_t addr, void **out_frame)
{
    return nodes->map ? cmb_map_find(nodes->map, addr) : cmb_pool_find(nodes->pool, addr, out_frame);
}

/*
 * A resident node was verified against the reference that brought it in. In a forged image another
 * one may lie about it; a level that jumps would lead a descent past its stack, so it is checked
 * at every visit: the byte shares a cache line with what is read next anyway.
 */
static int check_level(cmb_pin *pin, uint64_t addr, unsigned level)
{
    if (CMB_LIKELY(pin->record[22] == level))
        return 0;
    drop(pin);
    return cmb_fail(CMB_ECORRUPT, "node at %llu: it is of another level than its reference says", (unsigned long long)addr);
}

static int reserve_copy(cmb_nodes *nodes, cmb_pin *pin, uint32_t length)
{
    if (pin->copy_size >= length)
        return 0;
    size_t size = cmb_align_up(length, 4096);
    void *copy = cmb_alloc(&nodes->alloc, size);
    if (!copy)
        return CMB_ENOMEM;
    cmb_release(&nodes->alloc, pin->copy, pin->copy_size);
    pin->copy = copy;
    pin->copy_size = size;
    return 0;
}

/* A node that is queued and not written yet: nothing remembers it, for what is queued may still be taken back. */
static int visit_copy(cmb_nodes *nodes, const cmb_noderef *ref, cmb_pin *pin)
{
    if (ref->length > CMB_RECORD_MAX)
        return cmb_fail(CMB_ECORRUPT, "node at %llu: a reference with length %u", (unsigned long long)ref->addr,
                        (unsigned)ref->length);
    int error = reserve_copy(nodes, pin, ref->length);
    if (!error)
        error = cmb_log_read(nodes->log, NULL, ref->addr, ref->length, pin->copy);
    if (!error)
        error = cmb_node_verify(nodes->hash, pin->copy, ref);
    if (error)
        return error;
    atomic_fetch_add_explicit(&nodes->copied, 1, memory_order_relaxed);
    pin->record = pin->copy;
    return 0;
}

static int visit(cmb_nodes *nodes, const cmb_noderef *ref, cmb_pin *pin)
{
    const uint8_t *record = NULL;
    void *frame = NULL;
    int error = nodes->map ? cmb_map_visit(nodes->map, ref, &record) : cmb_pool_load(nodes->pool, ref, &record, &frame);
    if (error)
        return error;
    if (!record)
        return visit_copy(nodes, ref, pin);
    pin->record = record;
    pin->frame = frame;
    return check_level(pin, ref->addr, ref->level);
}

int cmb_nodes_get(cmb_nodes *nodes, const cmb_noderef *ref, cmb_pin *pin)
{
    drop(pin);
    if (ref->addr == 0) {
        if (ref->count || ref->level)
            return cmb_fail(CMB_ECORRUPT, "a reference to a node that was never written");
        pin->record = nodes->empty.data;
        return 0;
    }
    if (ref->addr % CMB_RECORD_ALIGN)
        return cmb_fail(CMB_ECORRUPT, "a reference to a node at %llu, where none can be", (unsigned long long)ref->addr);
    void *frame = NULL;
    const uint8_t *record = find(nodes, ref->addr, &frame);
    int error;
    if (record) {
        pin->record = record;
        pin->frame = frame;
        error = check_level(pin, ref->addr, ref->level);
    } else {
        error = visit(nodes, ref, pin);
    }
    if (!error && cmb_get64(pin->record + 24) != ref->count) {
        drop(pin);
        error = cmb_fail(CMB_ECORRUPT, "node at %llu: it counts other entries than its reference says",
                         (unsigned long long)ref->addr);
    }
    return error;
}

bool cmb_nodes_resident(cmb_nodes *nodes, uint64_t addr, unsigned level, cmb_pin *pin)
{
    void *frame = NULL;
    const uint8_t *record = find(nodes, addr, &frame);
    if (CMB_UNLIKELY(!record || record[22] != level)) {
        if (frame)
            cmb_pool_unpin(frame);
        return false;
    }
    cmb_prefetch_node(record);
    drop(pin);
    pin->record = record;
    pin->frame = frame;
    return true;
}

int cmb_nodes_child(cmb_nodes *nodes, const cmb_node *parent, uint32_t i, cmb_pin *pin)
{
    assert(parent->level > 0 && i < parent->count);
    uint64_t addr = cmb_node_child_addr(parent, i);
    unsigned level = parent->level - 1u;
    void *frame = NULL;
    const uint8_t *record = find(nodes, addr, &frame);
    if (CMB_LIKELY(record != NULL)) {
        cmb_prefetch_node(record);
        drop(pin); /* after the last use of parent, which may be what the pin holds */
        pin->record = record;
        pin->frame = frame;
        return check_level(pin, addr, level);
    }
    cmb_noderef ref;
    cmb_node_child(parent, i, &ref);
    drop(pin);
    return visit(nodes, &ref, pin);
}

void cmb_nodes_prefetch_at(cmb_nodes *nodes, uint64_t addr)
{
    if (nodes->map)
        cmb_map_prefetch(nodes->map, addr);
    else
        cmb_pool_prefetch(nodes->pool, addr);
}

void cmb_nodes_fetch_many(cmb_nodes *nodes, const cmb_noderef *refs, size_t n)
{
    if (nodes->pool) {
        cmb_pool_fetch_many(nodes->pool, refs, n);
        return;
    }
    for (size_t i = 0; i < n; i++)
        cmb_map_prefetch(nodes->map, refs[i].addr);
}

void cmb_pin_release(cmb_nodes *nodes, cmb_pin *pin)
{
    (void)nodes;
    drop(pin);
}

void cmb_pin_destroy(cmb_nodes *nodes, cmb_pin *pin)
{
    drop(pin);
    cmb_release(&nodes->alloc, pin->copy, pin->copy_size);
    pin->copy = NULL;
    pin->copy_size = 0;
}

void cmb_nodes_get_stats(cmb_nodes *nodes, cmb_nodes_stats *out_stats)
{
    if (nodes->map)
        cmb_map_stats(nodes->map, out_stats);
    else
        cmb_pool_stats(nodes->pool, out_stats);
    out_stats->copied = atomic_load_explicit(&nodes->copied, memory_order_relaxed);
}
