/* SPDX-License-Identifier: ISC */
/*
 * ready.h: a bounded first-in first-out row of completions that wait to be reaped. Every kind of
 * queue has one: a synchronous device fills it inside submit.
 */
#ifndef CMB_IO_READY_H
#define CMB_IO_READY_H

#include <assert.h>

#include <cambium/device.h>

#include "io/base.h"

typedef struct cmb_ready {
    cmb_completion *ring;
    unsigned depth, head, count;
} cmb_ready;

#define CMB_QUEUE_DEPTH_MAX 4096u

static inline int cmb_ready_init(cmb_ready *r, const cmb_allocator *alloc, unsigned depth)
{
    cmb_completion *ring = cmb_alloc(alloc, depth * sizeof *ring);
    if (!ring)
        return CMB_ENOMEM;
    *r = (cmb_ready){.ring = ring, .depth = depth};
    return 0;
}

static inline void cmb_ready_free(cmb_ready *r, const cmb_allocator *alloc)
{
    cmb_release(alloc, r->ring, r->depth * sizeof *r->ring);
}

static inline bool cmb_ready_full(const cmb_ready *r)
{
    return r->count == r->depth;
}

static inline void cmb_ready_push(cmb_ready *r, cmb_completion done)
{
    assert(r->count < r->depth);
    r->ring[(r->head + r->count++) % r->depth] = done;
}

static inline cmb_completion cmb_ready_pop(cmb_ready *r)
{
    assert(r->count);
    cmb_completion done = r->ring[r->head];
    r->head = (r->head + 1) % r->depth;
    r->count--;
    return done;
}

/* Takes up to max, oldest first; returns how many. */
static inline int cmb_ready_reap(cmb_ready *r, cmb_completion *out_done, unsigned max)
{
    unsigned n = 0;
    while (n < max && r->count)
        out_done[n++] = cmb_ready_pop(r);
    return (int)n;
}

#endif
