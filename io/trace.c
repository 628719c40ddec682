/* SPDX-License-Identifier: ISC */
/*
 * trace.c: a layer that tells of every completed operation.
 *
 * A request goes down with a slot of ours as its user pointer; the slot remembers the caller's. The
 * event is told before the caller learns of the completion, so a write's buffer is still untouched.
 */
#include <stdio.h>

#include "io/layer.h"

typedef struct trace_device {
    cmb_layer layer;
    cmb_mutex lock; /* serialises events and numbers them */
    uint64_t index;
    cmb_trace_fn fn;
    void *ctx;
    FILE *file; /* of a trace that writes text; else NULL */
} trace_device;

typedef struct trace_slot {
    cmb_request request;
    struct trace_slot *next_free;
} trace_slot;

typedef struct trace_queue {
    cmb_queue queue;
    cmb_queue *under;
    trace_slot *slots, *free;
    unsigned depth;
} trace_queue;

static int trace_queue_open(cmb_device *dev, unsigned depth, cmb_queue **out_queue)
{
    trace_queue *q = cmb_zalloc(&dev->alloc, sizeof *q);
    if (!q)
        return CMB_ENOMEM;
    q->queue.dev = dev;
    q->depth = cmb_queue_depth(depth);
    q->slots = cmb_zalloc(&dev->alloc, q->depth * sizeof *q->slots);
    int error = q->slots ? cmb_queue_open(((cmb_layer *)dev)->under, q->depth, &q->under) : CMB_ENOMEM;
    if (error) {
        cmb_release(&dev->alloc, q->slots, q->depth * sizeof *q->slots);
        cmb_release(&dev->alloc, q, sizeof *q);
        return error;
    }
    for (unsigned i = 0; i < q->depth; i++) {
        q->slots[i].next_free = q->free;
        q->free = &q->slots[i];
    }
    *out_queue = &q->queue;
    return 0;
}

static void trace_queue_close(cmb_queue *queue)
{
    trace_queue *q = (trace_queue *)queue;
    const cmb_allocator *alloc = &queue->dev->alloc;
    cmb_queue_close(q->under);
    cmb_release(alloc, q->slots, q->depth * sizeof *q->slots);
    cmb_release(alloc, q, sizeof *q);
}

/* One at a time: a refused request must not have cost the slots of those behind it. */
static int trace_submit(cmb_queue *queue, const cmb_request *requests, unsigned n)
{
    trace_queue *q = (trace_queue *)queue;
    unsigned taken = 0;
    while (taken < n && q->free) {
        trace_slot *slot = q->free;
        cmb_request down = requests[taken];
        down.user = slot;
        int result = q->under->dev->ops->submit(q->under, &down, 1);
        if (result <= 0)
            return taken ? (int)taken : result;
        q->free = slot->next_free;
        slot->request = requests[taken++];
    }
    return (int)taken;
}

static void tell(trace_device *t, const cmb_request *r, int result)
{
    cmb_trace_event event = {.op = r->op,
                             .flags = r->flags,
                             .offset = r->offset,
                             .length = r->length,
                             .data = r->op == CMB_OP_WRITE ? r->buffer : NULL,
                             .result = result};
    cmb_mutex_lock(&t->lock);
    event.index = t->index++;
    t->fn(t->ctx, &event);
    cmb_mutex_unlock(&t->lock);
}

static int trace_reap(cmb_queue *queue, cmb_completion *out_done, unsigned max, unsigned min)
{
    trace_queue *q = (trace_queue *)queue;
    int n = q->under->dev->ops->reap(q->under, out_done, max, min);
    for (int i = 0; i < n; i++) {
        trace_slot *slot = out_done[i].user;
        out_done[i].user = slot->request.user;
        tell((trace_device *)queue->dev, &slot->request, out_done[i].result);
        slot->next_free = q->free;
        q->free = slot;
    }
    return n;
}

static void trace_close(cmb_device *dev)
{
    trace_device *t = (trace_device *)dev;
    cmb_allocator alloc = dev->alloc;
    cmb_device_close(t->layer.under);
    if (t->file)
        fclose(t->file);
    cmb_mutex_destroy(&t->lock);
    cmb_release(&alloc, t, sizeof *t);
}

static const cmb_device_ops trace_ops = {
    .queue_open = trace_queue_open,
    .queue_close = trace_queue_close,
    .submit = trace_submit,
    .reap = trace_reap,
    .close = trace_close,
};

static int trace_open(cmb_device *under, cmb_trace_fn fn, void *ctx, trace_device **out_trace)
{
    trace_device *t = cmb_zalloc(&under->alloc, sizeof *t);
    if (!t)
        return CMB_ENOMEM;
    int error = cmb_mutex_init(&t->lock);
    if (error) {
        cmb_release(&under->alloc, t, sizeof *t);
        return error;
    }
    t->fn = fn;
    t->ctx = ctx;
    cmb_layer_init(&t->layer, under, &trace_ops, "trace");
    *out_trace = t;
    return 0;
}

int cmb_device_trace(cmb_device *under, cmb_trace_fn fn, void *ctx, cmb_device **out_dev)
{
    trace_device *t;
    if (!under || !fn)
        return cmb_fail(CMB_EINVAL, "cmb_device_trace: no device or no function");
    int error = trace_open(under, fn, ctx, &t);
    if (!error)
        *out_dev = &t->layer.dev;
    return error;
}

static void write_line(void *ctx, const cmb_trace_event *e)
{
    trace_device *t = ctx;
    fprintf(t->file, "%llu %s %llu %llu %s\n", (unsigned long long)e->index, cmb_op_name(e->op),
            (unsigned long long)e->offset, (unsigned long long)e->length, cmb_error_name(e->result));
}

int cmb_device_trace_file(cmb_device *under, const char *path, cmb_device **out_dev)
{
    trace_device *t;
    int error = trace_open(under, write_line, NULL, &t);
    if (error)
        return error;
    FILE *file = fopen(path, "we");
    if (!file) {
        cmb_mutex_destroy(&t->lock);
        cmb_release(&under->alloc, t, sizeof *t);
        return cmb_fail(CMB_EIO, "%s: the trace cannot be written to \"%s\"", under->name, path);
    }
    t->file = file;
    t->ctx = t;
    *out_dev = &t->layer.dev;
    return 0;
}
