/* SPDX-License-Identifier: ISC */
#include "overlay.h"

#include <assert.h>
#include <stdlib.h>

#include "io/ready.h"

#define PAGES (OVERLAY_MAX / OVERLAY_PAGE)
#define BLOCK 512u

typedef struct overlay_queue {
    cmb_queue queue;
    cmb_ready ready;
} overlay_queue;

static void *must_have(void *p)
{
    if (!p)
        abort();
    return p;
}

/* ---- bytes ---- */

static const uint8_t *page_at(const overlay *o, uint64_t page)
{
    if (o->pages[page])
        return o->pages[page];
    return o->base && (page + 1) * OVERLAY_PAGE <= o->base->size ? o->base->pages[page] : NULL;
}

static uint8_t *page_own(overlay *o, uint64_t page)
{
    if (!o->pages[page]) {
        const uint8_t *below = page_at(o, page);
        uint8_t *own = must_have(malloc(OVERLAY_PAGE));
        if (below)
            memcpy(own, below, OVERLAY_PAGE);
        else
            memset(own, 0, OVERLAY_PAGE);
        o->pages[page] = own;
        o->dirty[o->dirty_count++] = (uint32_t)page;
    }
    return o->pages[page];
}

static bool is_zero(const uint8_t *p, size_t n)
{
    return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

void overlay_peek(const overlay *o, uint64_t offset, void *out, size_t size)
{
    assert(offset + size <= o->size);
    for (size_t done = 0, n; done < size; done += n) {
        uint64_t at = offset + done;
        const uint8_t *page = page_at(o, at / OVERLAY_PAGE);
        n = OVERLAY_PAGE - at % OVERLAY_PAGE;
        n = n < size - done ? n : size - done;
        if (page)
            memcpy((uint8_t *)out + done, page + at % OVERLAY_PAGE, n);
        else
            memset((uint8_t *)out + done, 0, n);
    }
}

void overlay_poke(overlay *o, uint64_t offset, const void *data, size_t size)
{
    assert(offset + size <= o->size);
    for (size_t done = 0, n; done < size; done += n) {
        uint64_t at = offset + done;
        const uint8_t *from = (const uint8_t *)data + done;
        n = OVERLAY_PAGE - at % OVERLAY_PAGE;
        n = n < size - done ? n : size - done;
        if (page_at(o, at / OVERLAY_PAGE) || !is_zero(from, n))
            memcpy(page_own(o, at / OVERLAY_PAGE) + at % OVERLAY_PAGE, from, n);
    }
}

static void make_zero(overlay *o, uint64_t offset, uint64_t size)
{
    static const uint8_t zeros[OVERLAY_PAGE];
    for (uint64_t done = 0, n; done < size; done += n) {
        n = OVERLAY_PAGE - (offset + done) % OVERLAY_PAGE;
        n = n < size - done ? n : size - done;
        overlay_poke(o, offset + done, zeros, (size_t)n);
    }
}

void overlay_resize(overlay *o, uint64_t size)
{
    assert(size <= OVERLAY_MAX && size % BLOCK == 0);
    if (size < o->size)
        make_zero(o, size, o->size - size);
    o->size = size;
}

/* ---- what fails ---- */

static bool concerns(overlay_fault fault, cmb_op op)
{
    switch (fault) {
    case OVERLAY_EIO:
        return true;
    case OVERLAY_ENOSPC:
        return op != CMB_OP_READ && op != CMB_OP_DISCARD;
    case OVERLAY_SHORT:
        return op == CMB_OP_READ || op == CMB_OP_WRITE;
    default:
        return false;
    }
}

/* The fault that this operation meets. op 0: a growth. */
static overlay_fault judge(overlay *o, cmb_op op)
{
    if (o->operations_max && o->operations >= o->operations_max) {
        o->exceeded = true;
        return OVERLAY_EIO;
    }
    o->operations++;
    if (!concerns(o->fault, op))
        return OVERLAY_SOUND;
    uint64_t n = o->concerned++;
    if (n != o->fault_at && !(o->for_ever && n > o->fault_at))
        return OVERLAY_SOUND;
    o->fired++;
    return o->fault;
}

static int error_of(overlay_fault fault)
{
    return fault == OVERLAY_SOUND ? 0 : fault == OVERLAY_ENOSPC ? CMB_ENOSPC : CMB_EIO;
}

static int perform(overlay *o, const cmb_request *r)
{
    overlay_fault fault = judge(o, r->op);
    uint64_t length = fault == OVERLAY_SOUND ? r->length : fault == OVERLAY_SHORT ? r->length / 2 / BLOCK * BLOCK : 0;
    switch (r->op) {
    case CMB_OP_READ:
        overlay_peek(o, r->offset, r->buffer, (size_t)length);
        break;
    case CMB_OP_WRITE:
        overlay_poke(o, r->offset, r->buffer, (size_t)length);
        break;
    case CMB_OP_DISCARD:
        make_zero(o, r->offset, length);
        break;
    default:
        break;
    }
    return error_of(fault);
}

/* ---- the device ---- */

static void overlay_caps(cmb_device *dev, cmb_caps *out_caps)
{
    overlay *o = (overlay *)dev;
    bool grows = dev->ops->grow != NULL;
    cmb_mutex_lock(&o->lock);
    *out_caps = (cmb_caps){
        .size = o->size,
        .max_size = grows ? OVERLAY_MAX : o->size,
        .block_size = BLOCK,
        .buffer_align = 1,
        .max_transfer = 1u << 30,
        .queue_depth = 1,
        .flags = CMB_CAP_FLUSH | CMB_CAP_DISCARD | CMB_CAP_UNCACHED | (grows ? CMB_CAP_GROW | CMB_CAP_ZEROED_GROWTH : 0),
        .generation = 1,
    };
    cmb_mutex_unlock(&o->lock);
}

static int overlay_queue_open(cmb_device *dev, unsigned depth, cmb_queue **out_queue)
{
    overlay *o = (overlay *)dev;
    cmb_allocator alloc = cmb_allocator_or_default(NULL);
    overlay_queue *q = must_have(calloc(1, sizeof *q));
    if (cmb_ready_init(&q->ready, &alloc, cmb_queue_depth(depth)))
        abort();
    q->queue.dev = dev;
    cmb_mutex_lock(&o->lock);
    o->queues++;
    cmb_mutex_unlock(&o->lock);
    *out_queue = &q->queue;
    return 0;
}

static void overlay_queue_close(cmb_queue *queue)
{
    overlay *o = (overlay *)queue->dev;
    overlay_queue *q = (overlay_queue *)queue;
    cmb_allocator alloc = cmb_allocator_or_default(NULL);
    assert(q->ready.count == 0);
    cmb_ready_free(&q->ready, &alloc);
    free(q);
    cmb_mutex_lock(&o->lock);
    o->queues--;
    cmb_mutex_unlock(&o->lock);
}

static int overlay_submit(cmb_queue *queue, const cmb_request *requests, unsigned n)
{
    overlay *o = (overlay *)queue->dev;
    overlay_queue *q = (overlay_queue *)queue;
    cmb_caps caps;
    overlay_caps(queue->dev, &caps);
    unsigned taken = 0;
    for (; taken < n && !cmb_ready_full(&q->ready); taken++) {
        const cmb_request *r = &requests[taken];
        int error = cmb_request_check(queue->dev, &caps, r);
        if (error)
            return taken ? (int)taken : error;
        cmb_mutex_lock(&o->lock);
        error = perform(o, r);
        cmb_mutex_unlock(&o->lock);
        cmb_ready_push(&q->ready, (cmb_completion){.user = r->user, .result = error, .generation = 1});
    }
    return (int)taken;
}

static int overlay_reap(cmb_queue *queue, cmb_completion *out_done, unsigned max, unsigned min)
{
    return cmb_ready_reap(&((overlay_queue *)queue)->ready, out_done, max);
}

static int overlay_grow(cmb_device *dev, uint64_t new_size)
{
    overlay *o = (overlay *)dev;
    cmb_mutex_lock(&o->lock);
    int error = new_size > OVERLAY_MAX ? CMB_ENOSPC : error_of(judge(o, (cmb_op)0));
    if (!error && new_size > o->size)
        o->size = new_size;
    cmb_mutex_unlock(&o->lock);
    return error ? cmb_fail(error, "%s: no growth to %llu bytes", dev->name, (unsigned long long)new_size) : 0;
}

static void overlay_close(cmb_device *dev)
{
}

overlay *overlay_create(uint64_t size)
{
    overlay *o = must_have(calloc(1, sizeof *o));
    assert(size <= OVERLAY_MAX && size % OVERLAY_PAGE == 0);
    if (cmb_mutex_init(&o->lock))
        abort();
    o->ops = (cmb_device_ops){.caps = overlay_caps,
                              .queue_open = overlay_queue_open,
                              .queue_close = overlay_queue_close,
                              .submit = overlay_submit,
                              .reap = overlay_reap,
                              .grow = size ? NULL : overlay_grow,
                              .close = overlay_close};
    o->dev = (cmb_device){.ops = &o->ops, .alloc = cmb_allocator_or_default(NULL), .name = "overlay"};
    o->dirty = must_have(malloc(PAGES * sizeof *o->dirty));
    o->size = size;
    return o;
}

static void drop_pages(overlay *o)
{
    while (o->dirty_count) {
        uint8_t **page = &o->pages[o->dirty[--o->dirty_count]];
        free(*page);
        *page = NULL;
    }
}

void overlay_destroy(overlay *o)
{
    drop_pages(o);
    cmb_mutex_destroy(&o->lock);
    free(o->dirty);
    free(o);
}

overlay_image *overlay_freeze(const overlay *o)
{
    overlay_image *image = must_have(calloc(1, sizeof *image));
    image->size = o->size;
    for (uint64_t page = 0; page * OVERLAY_PAGE < o->size; page++) {
        const uint8_t *from = page_at(o, page);
        if (!from || is_zero(from, OVERLAY_PAGE))
            continue;
        image->pages[page] = must_have(malloc(OVERLAY_PAGE));
        memcpy(image->pages[page], from, OVERLAY_PAGE);
    }
    return image;
}

void overlay_image_destroy(overlay_image *image)
{
    for (size_t i = 0; image && i < PAGES; i++)
        free(image->pages[i]);
    free(image);
}

void overlay_lay(overlay *o, const overlay_image *image)
{
    assert(o->queues == 0);
    drop_pages(o);
    o->base = image;
    o->size = image ? image->size : o->size;
    o->operations_max = 0;
    o->exceeded = false;
    overlay_break(o, OVERLAY_SOUND, 0, false);
}

void overlay_break(overlay *o, overlay_fault fault, uint64_t at, bool for_ever)
{
    o->fault = fault;
    o->fault_at = at;
    o->for_ever = for_ever;
    o->concerned = o->fired = o->operations = 0;
}
