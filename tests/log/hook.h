/* SPDX-License-Identifier: ISC */
/* hook.h: a device over another whose capabilities and results a test decides. Each request is waited for in submit. */
#ifndef CMB_TESTS_LOG_HOOK_H
#define CMB_TESTS_LOG_HOOK_H

#include "helper.h"

#include "io/layer.h"

typedef struct th_hook {
    cmb_layer layer;
    void (*caps)(void *ctx, cmb_caps *caps);             /* NULL: as they are */
    int (*before)(void *ctx, const cmb_request *request); /* any thread; an error: nothing is done. NULL: nothing is asked */
    void *ctx;
} th_hook;

typedef struct th_hook_queue {
    cmb_queue queue;
    cmb_queue *under;
    cmb_completion done[64];
    unsigned n;
} th_hook_queue;

static inline void th_hook_caps(cmb_device *dev, cmb_caps *out)
{
    th_hook *h = (th_hook *)dev;
    cmb_device_caps(h->layer.under, out);
    if (h->caps)
        h->caps(h->ctx, out);
}

static inline int th_hook_queue_open(cmb_device *dev, unsigned depth, cmb_queue **out_queue)
{
    th_hook_queue *q = calloc(1, sizeof *q);
    q->queue.dev = dev;
    int e = cmb_queue_open(((th_hook *)dev)->layer.under, depth, &q->under);
    if (e)
        free(q);
    else
        *out_queue = &q->queue;
    return e;
}

static inline void th_hook_queue_close(cmb_queue *queue)
{
    cmb_queue_close(((th_hook_queue *)queue)->under);
    free(queue);
}

static inline int th_hook_submit(cmb_queue *queue, const cmb_request *requests, unsigned n)
{
    th_hook_queue *q = (th_hook_queue *)queue;
    th_hook *h = (th_hook *)queue->dev;
    if (n == 0 || q->n == CMB_COUNTOF(q->done))
        return 0;
    int e = h->before ? h->before(h->ctx, requests) : 0;
    if (e) {
        q->done[q->n++] = (cmb_completion){.user = requests->user, .result = e, .generation = 1};
        return 1;
    }
    int taken = q->under->dev->ops->submit(q->under, requests, 1);
    if (taken > 0) {
        assert_int_equal(q->under->dev->ops->reap(q->under, &q->done[q->n], 1, 1), 1);
        q->n++;
    }
    return taken;
}

static inline int th_hook_reap(cmb_queue *queue, cmb_completion *out_done, unsigned max, unsigned min)
{
    th_hook_queue *q = (th_hook_queue *)queue;
    (void)min;
    unsigned n = q->n < max ? q->n : max;
    memcpy(out_done, q->done, n * sizeof *out_done);
    memmove(q->done, q->done + n, (q->n - n) * sizeof *out_done);
    q->n -= n;
    return (int)n;
}

static inline void th_hook_close(cmb_device *dev)
{
    cmb_device_close(((th_hook *)dev)->layer.under);
    free(dev);
}

/* Owns `under`. */
static inline cmb_device *th_hook_over(cmb_device *under, void (*caps)(void *, cmb_caps *),
                                       int (*before)(void *, const cmb_request *), void *ctx)
{
    static const cmb_device_ops ops = {
        .queue_open = th_hook_queue_open,
        .queue_close = th_hook_queue_close,
        .submit = th_hook_submit,
        .reap = th_hook_reap,
        .close = th_hook_close,
    };
    th_hook *h = calloc(1, sizeof *h);
    cmb_layer_init(&h->layer, under, &ops, "hooks");
    h->layer.ops.caps = th_hook_caps;
    h->caps = caps;
    h->before = before;
    h->ctx = ctx;
    return &h->layer.dev;
}

#endif
