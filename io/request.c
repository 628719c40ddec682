/* SPDX-License-Identifier: ISC */
/*
 * request.c: requests as the engine makes them: checked, split at the device's largest transfer,
 * many in flight, waited for.
 */
#include <assert.h>

#include "io/io.h"
#include "io/ready.h"

#define BATCH 32u /* requests handed over or reaped at a time; on the stack */

const char *cmb_op_name(cmb_op op)
{
    switch (op) {
    case CMB_OP_READ:
        return "read";
    case CMB_OP_WRITE:
        return "write";
    case CMB_OP_FLUSH:
        return "flush";
    case CMB_OP_DISCARD:
        return "discard";
    }
    return "unknown operation";
}

unsigned cmb_queue_depth(unsigned wished)
{
    return wished < 1 ? 1 : wished > CMB_QUEUE_DEPTH_MAX ? CMB_QUEUE_DEPTH_MAX : wished;
}

char *cmb_name_copy(const cmb_allocator *alloc, const char *name)
{
    size_t size = strlen(name) + 1;
    char *copy = cmb_alloc(alloc, size);
    if (copy)
        memcpy(copy, name, size);
    return copy;
}

void cmb_name_release(const cmb_allocator *alloc, const char *name)
{
    if (name)
        cmb_release(alloc, (void *)(uintptr_t)name, strlen(name) + 1);
}

static int refuse(const cmb_device *dev, const cmb_request *r, int error, const char *why)
{
    return cmb_fail(error, "%s: %s of %llu bytes at %llu: %s", dev->name, cmb_op_name(r->op),
                    (unsigned long long)r->length, (unsigned long long)r->offset, why);
}

int cmb_request_check(const cmb_device *dev, const cmb_caps *caps, const cmb_request *r)
{
    if (r->op < CMB_OP_READ || r->op > CMB_OP_DISCARD)
        return refuse(dev, r, CMB_EINVAL, "no such operation");
    if (r->flags & ~(uint32_t)CMB_IO_UNCACHED)
        return refuse(dev, r, CMB_EINVAL, "unknown flags");
    if (r->op == CMB_OP_FLUSH) {
        if (r->offset || r->length)
            return refuse(dev, r, CMB_EINVAL, "a flush has no offset and no length");
        return caps->flags & CMB_CAP_FLUSH ? 0 : refuse(dev, r, CMB_ENODURABLE, "the device cannot flush");
    }
    if ((r->offset | r->length) & (caps->block_size - 1))
        return refuse(dev, r, CMB_EINVAL, "not a multiple of the block size");
    if (r->offset > caps->size || r->length > caps->size - r->offset)
        return refuse(dev, r, CMB_EINVAL, "past the end of the device");
    if (r->op != CMB_OP_READ && caps->flags & CMB_CAP_READ_ONLY)
        return refuse(dev, r, CMB_EREADONLY, "opened read-only");
    if (r->op == CMB_OP_DISCARD)
        return caps->flags & CMB_CAP_DISCARD ? 0 : refuse(dev, r, CMB_ENOTSUP, "the device cannot discard");
    return r->buffer || r->length == 0 ? 0 : refuse(dev, r, CMB_EINVAL, "no buffer");
}

/* Where the splitting of a row of requests has got to. */
typedef struct splitter {
    const cmb_request *requests;
    size_t n, index;
    uint64_t done; /* bytes of requests[index] handed out */
    uint64_t part; /* bytes of the largest part */
} splitter;

/* The next part; its `user` is the request that it belongs to. False when all were handed out. */
static bool next_part(splitter *s, cmb_request *out_part)
{
    while (s->index < s->n) {
        const cmb_request *r = &s->requests[s->index];
        uint64_t left = r->length - s->done;
        if (left == 0 && r->op != CMB_OP_FLUSH) {
            s->index++;
            s->done = 0;
            continue;
        }
        uint64_t length = left < s->part ? left : s->part;
        *out_part = *r;
        out_part->offset += s->done;
        out_part->length = length;
        if (r->buffer)
            out_part->buffer = (uint8_t *)r->buffer + s->done;
        out_part->user = (void *)(uintptr_t)r;
        s->done += length;
        if (s->done == r->length) {
            s->index++;
            s->done = 0;
        }
        return true;
    }
    return false;
}

/* Parts in flight on one queue: filled and emptied by turns, the first error kept. */
typedef struct pipeline {
    cmb_queue *queue;
    splitter split;
    unsigned depth, in_flight;
    int error;
    const cmb_request *culprit; /* whose part failed at its completion; NULL: at submit, detail set */
    unsigned first, count;
    cmb_request *waiting; /* [BATCH]: made, not taken yet */
} pipeline;

static void pipeline_submit(pipeline *p)
{
    while (!p->error && p->in_flight < p->depth) {
        if (p->count == 0) {
            p->first = 0;
            while (p->count < BATCH && next_part(&p->split, &p->waiting[p->count]))
                p->count++;
            if (p->count == 0)
                return;
        }
        unsigned room = p->depth - p->in_flight, n = p->count < room ? p->count : room;
        int taken = p->queue->dev->ops->submit(p->queue, &p->waiting[p->first], n);
        if (taken < 0)
            p->error = taken;
        if (taken <= 0)
            return;
        assert((unsigned)taken <= n);
        p->first += (unsigned)taken;
        p->count -= (unsigned)taken;
        p->in_flight += (unsigned)taken;
    }
}

static void pipeline_reap(pipeline *p)
{
    cmb_completion done[BATCH];
    int n = p->queue->dev->ops->reap(p->queue, done, BATCH, 1);
    assert(n > 0 && (unsigned)n <= p->in_flight);
    p->in_flight -= (unsigned)n;
    for (int i = 0; i < n; i++) {
        if (done[i].result < 0 && !p->error) {
            p->error = done[i].result;
            p->culprit = done[i].user;
        }
    }
}

static int pipeline_run(cmb_queue *q, const cmb_request *requests, size_t n)
{
    cmb_caps caps;
    cmb_request waiting[BATCH];
    q->dev->ops->caps(q->dev, &caps);
    pipeline p = {.queue = q,
                  .waiting = waiting,
                  .split = {.requests = requests, .n = n, .part = caps.max_transfer},
                  .depth = cmb_queue_depth(caps.queue_depth)};
    for (;;) {
        pipeline_submit(&p);
        if (p.in_flight == 0)
            break;
        pipeline_reap(&p);
    }
    /* A queue that takes nothing while nothing of ours is in flight is in use by someone else. */
    assert(p.error || (p.count == 0 && p.split.index == n));
    if (p.error && p.culprit)
        return refuse(q->dev, p.culprit, p.error, cmb_strerror(p.error));
    return p.error;
}

int cmb_io_many(cmb_queue *q, cmb_request *requests, size_t n)
{
    return pipeline_run(q, requests, n);
}

int cmb_io_read(cmb_queue *q, uint64_t offset, void *buffer, uint64_t length, uint32_t flags)
{
    cmb_request r = {.op = CMB_OP_READ, .flags = flags, .offset = offset, .length = length, .buffer = buffer};
    return pipeline_run(q, &r, 1);
}

int cmb_io_write(cmb_queue *q, uint64_t offset, const void *buffer, uint64_t length)
{
    cmb_request r = {
        .op = CMB_OP_WRITE, .offset = offset, .length = length, .buffer = (void *)(uintptr_t)buffer};
    return pipeline_run(q, &r, 1);
}

int cmb_io_flush(cmb_queue *q)
{
    cmb_request r = {.op = CMB_OP_FLUSH};
    return pipeline_run(q, &r, 1);
}

int cmb_io_discard(cmb_queue *q, uint64_t offset, uint64_t length)
{
    cmb_request r = {.op = CMB_OP_DISCARD, .offset = offset, .length = length};
    return pipeline_run(q, &r, 1);
}

void *cmb_io_buffer(const cmb_allocator *alloc, size_t size)
{
    if (size > SIZE_MAX - CMB_BLOCK) {
        cmb_fail(CMB_ENOMEM, "out of memory: a buffer of %zu bytes", size);
        return NULL;
    }
    uint8_t *raw = cmb_alloc(alloc, size + CMB_BLOCK);
    if (!raw)
        return NULL;
    /* The allocator aligns to 16, so there is always room in front for the way back. */
    assert((uintptr_t)raw % 16 == 0);
    uint8_t *p = (uint8_t *)cmb_align_up((uintptr_t)raw + sizeof raw, CMB_BLOCK);
    memcpy(p - sizeof raw, &raw, sizeof raw);
    return p;
}

void cmb_io_buffer_release(const cmb_allocator *alloc, void *ptr, size_t size)
{
    if (!ptr)
        return;
    uint8_t *raw;
    memcpy(&raw, (uint8_t *)ptr - sizeof raw, sizeof raw);
    cmb_release(alloc, raw, size + CMB_BLOCK);
}

void cmb_device_close(cmb_device *dev)
{
    if (dev)
        dev->ops->close(dev);
}
