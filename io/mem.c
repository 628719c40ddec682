/* SPDX-License-Identifier: ISC */
/*
 * mem.c: a device in memory. It lives as long as it is open.
 *
 * A fixed and small one (<= 1 GiB) is one reserved run of anonymous memory, so that it can be mapped.
 * Any other is a two-level table of 1 MiB chunks that are allocated by the first write; chunks are
 * never freed before close, so readers need no lock. So both residencies of the rooms above can be
 * tested without a file: `mem:64M` offers a map, `mem:` does not.
 */
#include <assert.h>
#include <stdatomic.h>

#include "io/io.h"
#include "io/ready.h"

#define CHUNK_SHIFT 20
#define CHUNK       ((uint64_t)1 << CHUNK_SHIFT)
#define LEAF_SHIFT  10 /* chunks of one leaf of the table: 1 GiB */
#define LEAF        (1u << LEAF_SHIFT)
#define ROOT        4096u /* leaves */
#define MEM_MAX     ((uint64_t)ROOT << (LEAF_SHIFT + CHUNK_SHIFT))
#define MAP_LIMIT   ((uint64_t)1 << 30)
#define MEM_BLOCK   512u

typedef struct mem_leaf {
    _Atomic(uint8_t *) chunks[LEAF];
} mem_leaf;

typedef struct mem_device {
    cmb_device dev;
    _Atomic uint64_t size;
    uint64_t max_size;
    uint8_t *whole; /* all of a mappable one; else NULL and the table counts */
    _Atomic(mem_leaf *) root[ROOT];
} mem_device;

typedef struct mem_queue {
    cmb_queue queue;
    cmb_ready ready;
} mem_queue;

static void mem_caps(cmb_device *dev, cmb_caps *out_caps)
{
    mem_device *m = (mem_device *)dev;
    uint64_t size = atomic_load_explicit(&m->size, memory_order_acquire);
    bool grows = dev->ops->grow != NULL;
    *out_caps = (cmb_caps){
        .size = size,
        .max_size = m->max_size,
        .block_size = MEM_BLOCK,
        .buffer_align = 1,
        .max_transfer = 1u << 30,
        .queue_depth = 1,
        .flags = CMB_CAP_FLUSH | CMB_CAP_DISCARD | CMB_CAP_UNCACHED | (m->whole ? CMB_CAP_MAP : 0) |
                 (grows ? CMB_CAP_GROW | CMB_CAP_ZEROED_GROWTH : 0),
        .generation = 1,
    };
}

static int mem_queue_open(cmb_device *dev, unsigned depth, cmb_queue **out_queue)
{
    mem_queue *q = cmb_zalloc(&dev->alloc, sizeof *q);
    if (!q)
        return CMB_ENOMEM;
    if (cmb_ready_init(&q->ready, &dev->alloc, cmb_queue_depth(depth))) {
        cmb_release(&dev->alloc, q, sizeof *q);
        return CMB_ENOMEM;
    }
    q->queue.dev = dev;
    *out_queue = &q->queue;
    return 0;
}

static void mem_queue_close(cmb_queue *queue)
{
    mem_queue *q = (mem_queue *)queue;
    const cmb_allocator *alloc = &queue->dev->alloc;
    assert(q->ready.count == 0);
    cmb_ready_free(&q->ready, alloc);
    cmb_release(alloc, q, sizeof *q);
}

/* The chunk that holds `offset`, or NULL when nothing was written there. */
static uint8_t *chunk_get(mem_device *m, uint64_t offset)
{
    uint64_t index = offset >> CHUNK_SHIFT;
    mem_leaf *leaf = atomic_load_explicit(&m->root[index >> LEAF_SHIFT], memory_order_acquire);
    return leaf ? atomic_load_explicit(&leaf->chunks[index & (LEAF - 1)], memory_order_acquire) : NULL;
}

/* Two writers may make the same leaf or chunk at once: the loser takes the winner's. */
static mem_leaf *leaf_make(mem_device *m, uint64_t index)
{
    _Atomic(mem_leaf *) *slot = &m->root[index >> LEAF_SHIFT];
    mem_leaf *leaf = atomic_load_explicit(slot, memory_order_acquire);
    if (leaf)
        return leaf;
    mem_leaf *made = cmb_zalloc(&m->dev.alloc, sizeof *made);
    if (!made || atomic_compare_exchange_strong(slot, &leaf, made))
        return made;
    cmb_release(&m->dev.alloc, made, sizeof *made);
    return leaf;
}

static uint8_t *chunk_make(mem_device *m, uint64_t offset)
{
    uint64_t index = offset >> CHUNK_SHIFT;
    mem_leaf *leaf = leaf_make(m, index);
    if (!leaf)
        return NULL;
    _Atomic(uint8_t *) *slot = &leaf->chunks[index & (LEAF - 1)];
    uint8_t *chunk = atomic_load_explicit(slot, memory_order_acquire);
    if (chunk)
        return chunk;
    uint8_t *made = cmb_zalloc(&m->dev.alloc, CHUNK);
    if (!made || atomic_compare_exchange_strong(slot, &chunk, made))
        return made;
    cmb_release(&m->dev.alloc, made, CHUNK);
    return chunk;
}

/* One request's part that lies in one chunk, or in the whole. */
static int mem_part(mem_device *m, cmb_op op, uint64_t offset, uint8_t *buffer, size_t n)
{
    uint8_t *at = m->whole;
    if (at)
        at += offset;
    else if ((at = op == CMB_OP_WRITE ? chunk_make(m, offset) : chunk_get(m, offset)))
        at += offset & (CHUNK - 1);
    switch (op) {
    case CMB_OP_READ:
        if (at)
            memcpy(buffer, at, n);
        else
            memset(buffer, 0, n);
        return 0;
    case CMB_OP_WRITE:
        if (!at)
            return CMB_ENOMEM;
        memcpy(at, buffer, n);
        return 0;
    default:
        if (at)
            memset(at, 0, n);
        return 0;
    }
}

static int mem_run(mem_device *m, const cmb_request *r)
{
    if (r->op == CMB_OP_FLUSH)
        return 0;
    for (uint64_t done = 0, n; done < r->length; done += n) {
        uint64_t offset = r->offset + done;
        n = r->length - done;
        if (!m->whole && n > CHUNK - (offset & (CHUNK - 1)))
            n = CHUNK - (offset & (CHUNK - 1));
        uint8_t *buffer = r->buffer ? (uint8_t *)r->buffer + done : NULL;
        int error = mem_part(m, r->op, offset, buffer, (size_t)n);
        if (error)
            return error;
    }
    return 0;
}

static int mem_submit(cmb_queue *queue, const cmb_request *requests, unsigned n)
{
    mem_queue *q = (mem_queue *)queue;
    mem_device *m = (mem_device *)queue->dev;
    cmb_caps caps;
    mem_caps(queue->dev, &caps);
    unsigned taken = 0;
    for (; taken < n && !cmb_ready_full(&q->ready); taken++) {
        const cmb_request *r = &requests[taken];
        int error = cmb_request_check(queue->dev, &caps, r);
        if (error)
            return taken ? (int)taken : error;
        cmb_ready_push(&q->ready, (cmb_completion){.user = r->user, .result = mem_run(m, r), .generation = 1});
    }
    return (int)taken;
}

static int mem_reap(cmb_queue *queue, cmb_completion *out_done, unsigned max, unsigned min)
{
    return cmb_ready_reap(&((mem_queue *)queue)->ready, out_done, max);
}

static int mem_grow(cmb_device *dev, uint64_t new_size)
{
    mem_device *m = (mem_device *)dev;
    if (new_size % MEM_BLOCK)
        return cmb_fail(CMB_EINVAL, "%s: growth to %llu bytes, not a multiple of %u", dev->name,
                        (unsigned long long)new_size, MEM_BLOCK);
    if (new_size > m->max_size)
        return cmb_fail(CMB_ENOSPC, "%s: growth to %llu bytes, but the most is %llu", dev->name,
                        (unsigned long long)new_size, (unsigned long long)m->max_size);
    uint64_t size = atomic_load(&m->size);
    while (size < new_size && !atomic_compare_exchange_weak(&m->size, &size, new_size))
        ;
    return 0;
}

static int mem_map(cmb_device *dev, uint64_t offset, uint64_t length, const void **out_ptr)
{
    mem_device *m = (mem_device *)dev;
    uint64_t size = atomic_load(&m->size);
    if (offset > size)
        return cmb_fail(CMB_EINVAL, "%s: map at %llu, past the end at %llu", dev->name, (unsigned long long)offset,
                        (unsigned long long)size);
    *out_ptr = m->whole + offset;
    return 0;
}

static void mem_close(cmb_device *dev)
{
    mem_device *m = (mem_device *)dev;
    cmb_allocator alloc = dev->alloc;
    if (m->whole)
        cmb_os_unreserve(m->whole, (size_t)m->max_size);
    for (unsigned i = 0; i < ROOT; i++) {
        mem_leaf *leaf = atomic_load(&m->root[i]);
        for (unsigned j = 0; leaf && j < LEAF; j++)
            cmb_release(&alloc, atomic_load(&leaf->chunks[j]), CHUNK);
        cmb_release(&alloc, leaf, sizeof *leaf);
    }
    cmb_release(&alloc, m, sizeof *m);
}

static const char *mem_describe(cmb_device *dev)
{
    return ((mem_device *)dev)->whole ? "memory, one run" : "memory, sparse";
}

#define MEM_COMMON                                                                                                     \
    .caps = mem_caps, .queue_open = mem_queue_open, .queue_close = mem_queue_close, .submit = mem_submit,              \
    .reap = mem_reap, .close = mem_close, .describe = mem_describe

static const cmb_device_ops mem_growing_ops = {MEM_COMMON, .grow = mem_grow};
static const cmb_device_ops mem_fixed_ops = {MEM_COMMON};
static const cmb_device_ops mem_mapped_ops = {MEM_COMMON, .map = mem_map};

int cmb_device_mem(uint64_t size, const cmb_device_options *options, cmb_device **out_dev)
{
    cmb_allocator alloc = cmb_allocator_or_default(options ? &options->alloc : NULL);
    if (size % CMB_BLOCK)
        return cmb_fail(CMB_EINVAL, "mem: a size of %llu bytes, not a multiple of %u", (unsigned long long)size,
                        CMB_BLOCK);
    if (size > MEM_MAX)
        return cmb_fail(CMB_ETOOBIG, "mem: a size of %llu bytes, but the most is %llu", (unsigned long long)size,
                        (unsigned long long)MEM_MAX);
    mem_device *m = cmb_zalloc(&alloc, sizeof *m);
    if (!m)
        return CMB_ENOMEM;
    m->dev = (cmb_device){.alloc = alloc, .name = "mem:", .ops = size ? &mem_fixed_ops : &mem_growing_ops};
    atomic_init(&m->size, size);
    m->max_size = size ? size : MEM_MAX;
    if (size && size <= MAP_LIMIT) {
        m->whole = cmb_os_reserve((size_t)size);
        if (!m->whole) {
            cmb_release(&alloc, m, sizeof *m);
            return CMB_ENOMEM;
        }
        m->dev.ops = &mem_mapped_ops;
    }
    *out_dev = &m->dev;
    return 0;
}
