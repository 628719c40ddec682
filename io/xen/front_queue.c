/* SPDX-License-Identifier: ISC */
/* front_queue.c: what callers do with a queue: submit, reap, and one of them waits for events. See front.h. */
#include "io/xen/front.h"

#include <assert.h>

static front *front_of(const front_queue *q)
{
    return (front *)q->queue.dev;
}

/* ---- opening and closing ---- */

static void queue_free(front_queue *q)
{
    const cmb_allocator *alloc = &q->queue.dev->alloc;
    cmb_ready_free(&q->ready, alloc);
    cmb_release(alloc, q->slots, q->depth * sizeof *q->slots);
    cmb_release(alloc, q, sizeof *q);
}

static int queue_fill(front_queue *q)
{
    const cmb_allocator *alloc = &q->queue.dev->alloc;
    q->slots = cmb_zalloc(alloc, q->depth * sizeof *q->slots);
    if (!q->slots)
        return CMB_ENOMEM;
    for (unsigned i = 0; i < q->depth; i++) {
        q->slots[i] = (front_slot){.queue = q, .next = q->free};
        q->free = &q->slots[i];
    }
    return cmb_ready_init(&q->ready, alloc, q->depth);
}

int cmb_front_queue_open(cmb_device *dev, unsigned depth, cmb_queue **out_queue)
{
    front *f = (front *)dev;
    front_queue *q = cmb_zalloc(&dev->alloc, sizeof *q);
    if (!q)
        return CMB_ENOMEM;
    q->queue.dev = dev;
    q->depth = cmb_queue_depth(depth);
    int error = queue_fill(q);
    if (error) {
        queue_free(q);
        return error;
    }
    cmb_mutex_lock(&f->lock);
    q->index = f->queues_opened++;
    cmb_mutex_unlock(&f->lock);
    *out_queue = &q->queue;
    return 0;
}

void cmb_front_queue_close(cmb_queue *queue)
{
    front_queue *q = (front_queue *)queue;
    assert(q->in_flight == 0 && q->ready.count == 0);
    queue_free(q);
}

/* ---- progress ---- */

/* Is there something to do that no event will tell of? */
static bool troubled(const front *f)
{
    return f->state == FRONT_LOST || f->state == FRONT_BROKEN || (f->state == FRONT_UNPLUGGED && f->in_rings == 0);
}

/* Bytes that are copied before the ring is filled again: the back end shall not wait for work meanwhile. */
#define COPY_ROUND (512u << 10)

/* First all rings' answers: the memory that they give back may be what a request in any of the rings waits for. */
static void rings_run(front *f)
{
    for (unsigned i = 0; i < f->ring_count && f->state != FRONT_BROKEN; i++)
        f->unread = cmb_ring_collect(f, &f->rings[i], COPY_ROUND) || f->unread;
    for (unsigned i = 0; i < f->ring_count && f->state != FRONT_BROKEN; i++)
        cmb_ring_issue(f, &f->rings[i]);
}

/* Everything that can be done without sleeping; and if the connection is over, what follows. The caller is the poller. */
static void progress(front *f)
{
    cmb_front_look(f);
    f->unread = false;
    if (f->state == FRONT_CONNECTED || f->state == FRONT_UNPLUGGED)
        rings_run(f);
    cmb_front_confirm(f);
    if (troubled(f))
        cmb_front_recover(f);
}

/* One round as the poller, with or without a sleep before it. Nobody else is. */
static void poll_once(front *f, bool sleep)
{
    assert(!f->polling);
    f->polling = true;
    if (sleep && !f->unread && !troubled(f)) { /* another thread may have seen the end while this one waited for its turn */
        uint64_t deadline = f->fired ? cmb_os_monotonic() + CMB_FRONT_AGAIN : UINT64_MAX;
        cmb_mutex_unlock(&f->lock);
        f->platform->ops->wait(f->platform, deadline);
        cmb_mutex_lock(&f->lock);
    }
    progress(f);
    f->polling = false;
    cmb_cond_broadcast(&f->changed);
}

/* ---- submitting ---- */

/* What needs no ring is done at once. */
static bool done_here(const front *f, const cmb_request *r)
{
    if (r->op == CMB_OP_FLUSH)
        return f->read_only || f->only_read; /* nothing was written; back ends answer with an error */
    return r->length == 0;
}

static void start(front *f, front_queue *q, const cmb_request *r)
{
    if (done_here(f, r)) {
        cmb_ready_push(&q->ready, (cmb_completion){.user = r->user, .generation = f->generation});
        return;
    }
    front_slot *slot = q->free;
    q->free = slot->next;
    q->in_flight++;
    *slot = (front_slot){.request = *r, .queue = q};
    if (r->op == CMB_OP_FLUSH || r->op == CMB_OP_DISCARD)
        slot->request.buffer = NULL; /* has no bytes to move: see issue_first */
    cmb_slot_queue(f, slot);
}

static int refuse(const front *f)
{
    return cmb_fail(CMB_EIO, "%s: %s", f->dev.name, f->state == FRONT_UNPLUGGED ? "the device was unplugged" : f->why);
}

static int submit_locked(front *f, front_queue *q, const cmb_request *requests, unsigned n)
{
    cmb_caps caps;
    unsigned taken = 0;
    int error = 0;
    cmb_front_caps(f, &caps);
    for (; taken < n && q->in_flight + q->ready.count < q->depth; taken++) {
        error = cmb_request_check(&f->dev, &caps, &requests[taken]);
        if (!error && (f->state == FRONT_DEAD || f->state == FRONT_UNPLUGGED))
            error = refuse(f);
        if (error)
            break;
        start(f, q, &requests[taken]);
    }
    return taken || !error ? (int)taken : error;
}

int cmb_front_submit(cmb_queue *queue, const cmb_request *requests, unsigned n)
{
    front_queue *q = (front_queue *)queue;
    front *f = front_of(q);
    cmb_mutex_lock(&f->lock);
    if (!f->polling)
        cmb_front_look(f);
    int taken = submit_locked(f, q, requests, n);
    if (taken > 0 && f->state == FRONT_CONNECTED)
        cmb_ring_issue(f, &f->rings[q->index % f->ring_count]);
    cmb_mutex_unlock(&f->lock);
    return taken;
}

/* ---- reaping ---- */

int cmb_front_reap(cmb_queue *queue, cmb_completion *out_done, unsigned max, unsigned min)
{
    front_queue *q = (front_queue *)queue;
    front *f = front_of(q);
    cmb_mutex_lock(&f->lock);
    if (!f->polling && q->in_flight)
        poll_once(f, /* sleep= */ false);
    while (q->ready.count < min && q->in_flight) {
        if (f->polling)
            cmb_cond_wait(&f->changed, &f->lock);
        else
            poll_once(f, /* sleep= */ true);
    }
    int n = cmb_ready_reap(&q->ready, out_done, max);
    cmb_mutex_unlock(&f->lock);
    return n;
}
