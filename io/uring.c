/* SPDX-License-Identifier: ISC */
/*
 * uring.c: a file or block device through io_uring: many requests in flight, one ring a queue.
 *
 * Opening, locking, growth and maps are file.c's. Reads, writes and flushes go through the ring; what
 * cannot (discards, reads past the cache that are not aligned) is done at once, as in posix.c. No
 * buffers are registered: that saves the pinning of pages, which only direct transfers do.
 *
 * A flush covers writes whose completions the caller has reaped. So nothing has to be linked; but
 * writes that are still in flight on the queue are waited for before the flush goes out, which makes
 * the promise hold for a careless caller too.
 */
#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <sched.h>
#include <stdio.h>

#include "io/file.h"
#include "io/ready.h"

#define RING_MAX  256u            /* entries of the submission ring */
#define PART      (1u << 20)      /* what the engine is asked to split at, so that parts overlap */
#define TRANSFER  ((uint64_t)1 << 30) /* bytes of one entry at most */
#define IN_FLIGHT 64u

/*
 * Rings are mapped and unmapped by system calls that ThreadSanitizer does not see: a new ring where another thread's was looks like
 * a race to it. What the kernel orders is said to it here.
 */
#if defined(__SANITIZE_THREAD__)
void __tsan_acquire(void *addr);
void __tsan_release(void *addr);
static char rings;
#define RING_MAPPED() __tsan_acquire(&rings)
#define RING_UNMAPS() __tsan_release(&rings)
#else
#define RING_MAPPED() ((void)0)
#define RING_UNMAPS() ((void)0)
#endif

typedef struct uring_slot {
    cmb_request request;
    uint64_t done; /* bytes so far: short transfers are continued */
    bool direct;
    struct uring_slot *next; /* in the free list */
} uring_slot;

typedef struct uring_queue {
    cmb_queue queue;
    struct io_uring ring;
    cmb_ready ready;
    cmb_file_bounce bounce;
    uring_slot *slots, *free;
    unsigned depth;
    unsigned in_flight; /* prepared or in the kernel */
    unsigned writes;    /* of these */
    unsigned unsent;    /* of these, prepared only */
    bool registered;    /* the descriptors: 0 is the file, 1 the direct one */
} uring_queue;

static cmb_file *file_of(const uring_queue *q)
{
    return (cmb_file *)q->queue.dev;
}

static void uring_caps(cmb_device *dev, cmb_caps *out_caps)
{
    cmb_file_caps((cmb_file *)dev, out_caps);
    out_caps->max_transfer = PART;
    out_caps->queue_depth = IN_FLIGHT;
}

/* ---- queues ---- */

static int ring_init(struct io_uring *ring, unsigned depth)
{
    unsigned entries = depth < RING_MAX ? depth : RING_MAX;
    struct io_uring_params params = {.flags = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP, .cq_entries = 2 * depth};
    int error = -io_uring_queue_init_params(entries, ring, &params);
    RING_MAPPED();
    return error;
}

static int ring_open(uring_queue *q)
{
    cmb_file *f = file_of(q);
    int error = ring_init(&q->ring, q->depth);
    if (error)
        return cmb_file_fail(f->dev.name, "io_uring refuses another queue", error == EMFILE ? ENOMEM : error);
    int fds[2] = {f->fd, f->direct_fd};
    q->registered = io_uring_register_files(&q->ring, fds, f->direct_fd >= 0 ? 2 : 1) == 0;
    return 0;
}

static int uring_queue_fill(uring_queue *q, unsigned depth)
{
    const cmb_allocator *alloc = &q->queue.dev->alloc;
    q->depth = cmb_queue_depth(depth);
    q->slots = cmb_zalloc(alloc, q->depth * sizeof *q->slots);
    if (!q->slots)
        return CMB_ENOMEM;
    for (unsigned i = 0; i < q->depth; i++) {
        q->slots[i].next = q->free;
        q->free = &q->slots[i];
    }
    int error = cmb_ready_init(&q->ready, alloc, q->depth);
    return error ? error : ring_open(q);
}

static void uring_queue_free(uring_queue *q)
{
    const cmb_allocator *alloc = &q->queue.dev->alloc;
    cmb_file_bounce_free(file_of(q), &q->bounce);
    cmb_ready_free(&q->ready, alloc);
    cmb_release(alloc, q->slots, q->depth * sizeof *q->slots);
    cmb_release(alloc, q, sizeof *q);
}

static int uring_queue_open(cmb_device *dev, unsigned depth, cmb_queue **out_queue)
{
    uring_queue *q = cmb_zalloc(&dev->alloc, sizeof *q);
    if (!q)
        return CMB_ENOMEM;
    q->queue.dev = dev;
    int error = uring_queue_fill(q, depth);
    if (error) {
        uring_queue_free(q);
        return error;
    }
    *out_queue = &q->queue;
    return 0;
}

static void uring_queue_close(cmb_queue *queue)
{
    uring_queue *q = (uring_queue *)queue;
    assert(q->in_flight == 0 && q->ready.count == 0);
    /* The kernel takes a ring apart later, in its own time; the file and the writer's claim go now. */
    if (q->registered)
        io_uring_unregister_files(&q->ring);
    RING_UNMAPS();
    io_uring_queue_exit(&q->ring);
    uring_queue_free(q);
}

/* ---- completion ---- */

static void finish(uring_queue *q, uring_slot *slot, int result)
{
    q->in_flight--;
    q->writes -= slot->request.op == CMB_OP_WRITE;
    cmb_ready_push(&q->ready, (cmb_completion){.user = slot->request.user, .result = result, .generation = 1});
    slot->next = q->free;
    q->free = slot;
}

/* The rest of a request without the ring, where the kernel takes it in no other way. */
static void finish_by_hand(uring_queue *q, uring_slot *slot)
{
    cmb_request rest = slot->request;
    rest.offset += slot->done;
    rest.length -= slot->done;
    rest.buffer = (uint8_t *)rest.buffer + slot->done;
    finish(q, slot, cmb_file_run(file_of(q), &q->bounce, &rest));
}

static void send_unsent(uring_queue *q);

static struct io_uring_sqe *next_entry(uring_queue *q)
{
    struct io_uring_sqe *e = io_uring_get_sqe(&q->ring);
    if (!e) {
        send_unsent(q);
        e = io_uring_get_sqe(&q->ring);
    }
    assert(e);
    return e;
}

/* Puts what is left of a slot's request into the ring. */
static void prepare(uring_queue *q, uring_slot *slot)
{
    const cmb_file *f = file_of(q);
    const cmb_request *r = &slot->request;
    struct io_uring_sqe *e = next_entry(q);
    uint64_t left = r->length - slot->done;
    unsigned n = (unsigned)(left < TRANSFER ? left : TRANSFER);
    uint8_t *at = r->buffer ? (uint8_t *)r->buffer + slot->done : NULL;
    int fd = q->registered ? slot->direct : slot->direct ? f->direct_fd : f->fd;
    if (r->op == CMB_OP_READ)
        io_uring_prep_read(e, fd, at, n, r->offset + slot->done);
    else if (r->op == CMB_OP_WRITE)
        io_uring_prep_write(e, fd, at, n, r->offset + slot->done);
    else
        io_uring_prep_fsync(e, fd, IORING_FSYNC_DATASYNC);
    if (q->registered)
        io_uring_sqe_set_flags(e, IOSQE_FIXED_FILE);
    io_uring_sqe_set_data(e, slot);
    q->unsent++;
}

static void complete(uring_queue *q, uring_slot *slot, int result)
{
    const cmb_request *r = &slot->request;
    if (result == -EINTR || result == -EAGAIN) {
        prepare(q, slot);
    } else if (result < 0 && slot->direct) {
        finish_by_hand(q, slot); /* tries again, and goes without O_DIRECT where that is refused */
    } else if (result < 0) {
        finish(q, slot, cmb_file_fail(q->queue.dev->name, cmb_op_name(r->op), -result));
    } else if (r->op == CMB_OP_FLUSH) {
        finish(q, slot, 0);
    } else if (result == 0) {
        finish(q, slot, cmb_fail(CMB_EIO, "%s: %s ends early, at %llu", q->queue.dev->name, cmb_op_name(r->op),
                                 (unsigned long long)(r->offset + slot->done)));
    } else {
        slot->done += (unsigned)result;
        assert(slot->done <= r->length);
        if (slot->done == r->length)
            finish(q, slot, 0);
        else if (slot->direct)
            finish_by_hand(q, slot); /* what is left may not be aligned any more */
        else
            prepare(q, slot);
    }
}

/* Takes every completion that is there. Continuations are prepared, not yet sent. */
static void harvest(uring_queue *q)
{
    struct io_uring_cqe *c;
    while (io_uring_peek_cqe(&q->ring, &c) == 0) {
        uring_slot *slot = io_uring_cqe_get_data(c);
        int result = c->res;
        io_uring_cqe_seen(&q->ring, c);
        complete(q, slot, result);
    }
}

/* Everything prepared goes to the kernel; short of memory, it is asked again. */
static void send_unsent(uring_queue *q)
{
    while (q->unsent) {
        int n = io_uring_submit(&q->ring);
        if (n > 0) {
            assert((unsigned)n <= q->unsent);
            q->unsent -= (unsigned)n;
        } else {
            assert(n == 0 || n == -EINTR || n == -EAGAIN || n == -EBUSY);
            sched_yield();
        }
    }
}

/* Waits for at least one completion; something is in flight. */
static void wait_one(uring_queue *q)
{
    struct io_uring_cqe *c;
    send_unsent(q);
    int error = io_uring_wait_cqe(&q->ring, &c);
    assert(error == 0 || error == -EINTR || error == -EAGAIN);
    (void)error;
    harvest(q);
    send_unsent(q);
}

/* ---- submitting and reaping ---- */

static bool by_hand(const cmb_file *f, const cmb_request *r)
{
    if (r->op == CMB_OP_FLUSH)
        return false;
    if (r->op == CMB_OP_DISCARD || r->length == 0)
        return true;
    if (r->op == CMB_OP_READ && r->flags & CMB_IO_UNCACHED && atomic_load(&f->direct_works))
        return !cmb_file_direct_aligned(f, r);
    return false;
}

static void start(uring_queue *q, const cmb_request *r)
{
    cmb_file *f = file_of(q);
    if (by_hand(f, r)) {
        int result = cmb_file_run(f, &q->bounce, r);
        cmb_ready_push(&q->ready, (cmb_completion){.user = r->user, .result = result, .generation = 1});
        return;
    }
    while (r->op == CMB_OP_FLUSH && q->writes)
        wait_one(q);
    uring_slot *slot = q->free;
    q->free = slot->next;
    bool direct = r->op == CMB_OP_READ && r->flags & CMB_IO_UNCACHED && atomic_load(&f->direct_works);
    *slot = (uring_slot){.request = *r, .direct = direct};
    q->in_flight++;
    q->writes += r->op == CMB_OP_WRITE;
    prepare(q, slot);
}

static int uring_submit(cmb_queue *queue, const cmb_request *requests, unsigned n)
{
    uring_queue *q = (uring_queue *)queue;
    unsigned taken = 0;
    int error = 0;
    for (; taken < n && q->in_flight + q->ready.count < q->depth; taken++) {
        error = cmb_file_check(file_of(q), &requests[taken]);
        if (error)
            break;
        start(q, &requests[taken]);
    }
    send_unsent(q);
    return taken || !error ? (int)taken : error;
}

static int uring_reap(cmb_queue *queue, cmb_completion *out_done, unsigned max, unsigned min)
{
    uring_queue *q = (uring_queue *)queue;
    harvest(q);
    send_unsent(q);
    while (q->ready.count < min && q->in_flight)
        wait_one(q);
    return cmb_ready_reap(&q->ready, out_done, max);
}

/* ---- the device ---- */

static void uring_close(cmb_device *dev)
{
    cmb_allocator alloc = dev->alloc;
    cmb_file_close((cmb_file *)dev);
    cmb_release(&alloc, dev, sizeof(cmb_file));
}

static const char *uring_describe(cmb_device *dev)
{
    return ((cmb_file *)dev)->text;
}

#define URING_COMMON                                                                                                   \
    .caps = uring_caps, .queue_open = uring_queue_open, .queue_close = uring_queue_close, .submit = uring_submit,      \
    .reap = uring_reap, .map = cmb_file_map, .close = uring_close, .describe = uring_describe

static const cmb_device_ops uring_ops = {URING_COMMON, .grow = cmb_file_grow};
static const cmb_device_ops uring_fixed_ops = {URING_COMMON};

/* 0, or the errno for which the kernel will not serve us. */
static int probe(void)
{
    static const int needed[] = {IORING_OP_READ, IORING_OP_WRITE, IORING_OP_FSYNC};
    struct io_uring ring;
    int error = ring_init(&ring, 2);
    if (error)
        return error;
    struct io_uring_probe *p = io_uring_get_probe_ring(&ring);
    for (size_t i = 0; i < CMB_COUNTOF(needed); i++) {
        if (!p || !io_uring_opcode_supported(p, needed[i]))
            error = ENOSYS;
    }
    if (p)
        io_uring_free_probe(p);
    RING_UNMAPS();
    io_uring_queue_exit(&ring);
    return error;
}

static int open_instead(const char *path, cmb_open_mode mode, const cmb_device_options *options, bool fixed,
                        int reason, cmb_device **out_dev)
{
    int error = cmb_device_open_posix(path, mode, options, fixed, out_dev);
    if (error)
        return error;
    cmb_file *f = (cmb_file *)*out_dev;
    snprintf(f->text, sizeof f->text, "%s, system calls: the kernel refuses io_uring: %s",
             f->block_device ? "block device" : "file", strerror(reason));
    return 0;
}

int cmb_device_open_uring(const char *path, cmb_open_mode mode, const cmb_device_options *options, bool fixed,
                          cmb_device **out_dev)
{
    cmb_allocator alloc = cmb_allocator_or_default(options ? &options->alloc : NULL);
    int refused = probe();
    if (refused)
        return open_instead(path, mode, options, fixed, refused, out_dev);
    cmb_file *f = cmb_zalloc(&alloc, sizeof *f);
    if (!f)
        return CMB_ENOMEM;
    f->dev.alloc = alloc;
    int error = cmb_file_open(f, path, mode, options, fixed);
    if (error) {
        cmb_release(&alloc, f, sizeof *f);
        return error;
    }
    snprintf(f->text, sizeof f->text, "%s, io_uring, %u in flight", f->block_device ? "block device" : "file",
             IN_FLIGHT);
    f->dev.ops = f->fixed || f->read_only ? &uring_fixed_ops : &uring_ops;
    *out_dev = &f->dev;
    return 0;
}
