/* SPDX-License-Identifier: ISC */
/* disk.c: the simulated disk as a device, and its power cuts. */
#include "disk.h"

#include <assert.h>
#include <stdlib.h>

#define DEPTH 64u
#define READ_COST 20000u   /* nanoseconds */
#define WRITE_COST 15000u
#define FLUSH_COST 200000u
#define LOOK_COST  1000u

typedef struct sim_flight {
    cmb_request request;
    uint64_t due;   /* virtual time */
    uint64_t stamp; /* FLUSH: it covers writes reaped before */
} sim_flight;

typedef struct sim_queue {
    cmb_queue queue;
    unsigned depth, n;
    sim_flight flights[]; /* the next to complete is the last */
} sim_queue;

/* ---- what is not durable ---- */

void sim_land(sim_disk *disk, const sim_write *w, uint64_t *seed)
{
    uint32_t atom = disk->options.atom;
    for (uint64_t at = 0, n; at < w->length; at += n) {
        n = atom - (w->offset + at) % atom;
        if (n > w->length - at)
            n = w->length - at;
        if (!seed || sim_random(seed) & 1) {
            sim_pages_write(&disk->medium, w->offset + at, w->data ? w->data + at : NULL, n);
            sim_heal(disk, w->offset + at, n);
        }
    }
}

void sim_forget_unflushed(sim_disk *disk)
{
    for (size_t i = 0; i < disk->n_unflushed; i++)
        free(disk->unflushed[i].data);
    disk->n_unflushed = 0;
}

static void flush_covered(sim_disk *disk, uint64_t stamp)
{
    size_t kept = 0;
    for (size_t i = 0; i < disk->n_unflushed; i++) {
        sim_write *w = &disk->unflushed[i];
        if (w->reaped > stamp) {
            disk->unflushed[kept++] = *w;
            continue;
        }
        sim_land(disk, w, NULL);
        free(w->data);
    }
    disk->n_unflushed = kept;
    disk->durable_size = disk->size;
}

/* A write is done: reads see it. data NULL: zeros. */
static void note_write(sim_disk *disk, uint64_t offset, const void *data, uint64_t length)
{
    if (disk->n_unflushed == disk->unflushed_capacity) {
        size_t capacity = disk->unflushed_capacity ? 2 * disk->unflushed_capacity : 64;
        disk->unflushed = realloc(disk->unflushed, capacity * sizeof *disk->unflushed);
        if (!disk->unflushed)
            abort();
        disk->unflushed_capacity = capacity;
    }
    sim_write w = {.offset = offset, .length = length, .reaped = disk->stamp};
    if (data && length) {
        w.data = malloc(length);
        if (!w.data)
            abort();
        memcpy(w.data, data, length);
    }
    disk->unflushed[disk->n_unflushed++] = w;
    sim_pages_write(&disk->view, offset, data, length);
    for (uint64_t s = offset / SIM_SECTOR; disk->stale && s < (offset + length) / SIM_SECTOR; s++)
        disk->stale[s / 8] &= (uint8_t)~(1u << s % 8);
}

/* ---- requests ---- */

/* The cache answers, but for clean sectors whose place is damaged, and past it what it holds wrongly for written. */
static int read_one(sim_disk *disk, const cmb_request *r, uint64_t offset, uint64_t length)
{
    uint8_t *buffer = r->buffer;
    sim_pages_read(&disk->view, offset, buffer, length);
    if (!disk->n_bad && !(disk->stale && r->flags & CMB_IO_UNCACHED))
        return 0;
    uint8_t sector[SIM_SECTOR], pristine[SIM_SECTOR];
    for (uint64_t at = 0; at < length; at += SIM_SECTOR) {
        sim_pages_read(&disk->medium, offset + at, pristine, SIM_SECTOR);
        bool clean = memcmp(buffer + at, pristine, SIM_SECTOR) == 0;
        if (!clean && !(sim_is_stale(disk, offset + at) && r->flags & CMB_IO_UNCACHED))
            continue;
        int e = sim_read_medium(disk, offset + at, sector, SIM_SECTOR);
        if (e)
            return e;
        memcpy(buffer + at, sector, SIM_SECTOR);
    }
    return 0;
}

/* Where it goes instead; the beginning if that is no place. */
static uint64_t astray(const sim_disk *disk, const cmb_request *r, int64_t distance)
{
    uint64_t to = r->offset + (uint64_t)distance;
    return to < disk->size && r->length <= disk->size - to ? to : 0;
}

static int run_read(sim_disk *disk, const cmb_request *r)
{
    sim_rule rule;
    disk->counts.reads++;
    disk->counts.bytes_read += r->length;
    if (!sim_take_rule(disk, CMB_OP_READ, &rule))
        return read_one(disk, r, r->offset, r->length);
    if (rule.kind == SIM_STRAY_READ)
        return read_one(disk, r, astray(disk, r, rule.distance), r->length);
    int e = read_one(disk, r, r->offset, rule.length < r->length ? rule.length : r->length);
    return e ? e : cmb_fail(CMB_EIO, "sim: a read ended early");
}

static int run_write(sim_disk *disk, const cmb_request *r)
{
    sim_rule rule;
    uint64_t offset = r->offset, length = r->length;
    int e = 0;
    disk->counts.writes++;
    disk->counts.bytes_written += r->length;
    if (sim_take_rule(disk, CMB_OP_WRITE, &rule)) {
        if (rule.kind == SIM_STRAY_WRITE) {
            offset = astray(disk, r, rule.distance);
        } else {
            length = rule.length < length ? rule.length : length;
            e = rule.kind == SIM_FULL_WRITE ? cmb_fail(CMB_ENOSPC, "sim: no space for the rest of a write")
                                            : cmb_fail(CMB_EIO, "sim: a write ended early");
        }
    }
    note_write(disk, offset, r->buffer, length);
    return e;
}

static int run(sim_disk *disk, const sim_flight *f)
{
    sim_rule rule;
    switch (f->request.op) {
    case CMB_OP_READ:
        return run_read(disk, &f->request);
    case CMB_OP_WRITE:
        return run_write(disk, &f->request);
    case CMB_OP_DISCARD:
        disk->counts.discards++;
        note_write(disk, f->request.offset, NULL, f->request.length);
        return 0;
    default:
        disk->counts.flushes++;
        if (sim_take_rule(disk, CMB_OP_FLUSH, &rule)) {
            sim_fail_flush(disk, rule.kind);
            return cmb_fail(CMB_EIO, "sim: the flush failed");
        }
        flush_covered(disk, f->stamp);
        return 0;
    }
}

/* ---- queues ---- */

static int disk_queue_open(cmb_device *dev, unsigned depth, cmb_queue **out_queue)
{
    depth = depth && depth < DEPTH ? depth : DEPTH;
    sim_queue *q = calloc(1, sizeof *q + depth * sizeof q->flights[0]);
    if (!q)
        return cmb_fail(CMB_ENOMEM, "sim: no memory for a queue");
    q->queue.dev = dev;
    q->depth = depth;
    *out_queue = &q->queue;
    return 0;
}

static void disk_queue_close(cmb_queue *queue)
{
    assert(((sim_queue *)queue)->n == 0);
    free(queue);
}

static void disk_caps(cmb_device *dev, cmb_caps *out_caps)
{
    sim_disk *disk = (sim_disk *)dev;
    cmb_mutex_lock(&disk->lock);
    bool grows = disk->options.max_size != 0;
    *out_caps = (cmb_caps){
        .size = disk->size,
        .max_size = grows ? disk->options.max_size : disk->size,
        .block_size = SIM_SECTOR,
        .buffer_align = 1,
        .max_transfer = 4u << 20,
        .queue_depth = 32,
        .flags = CMB_CAP_FLUSH | CMB_CAP_DISCARD | (disk->options.cached ? 0 : CMB_CAP_UNCACHED)
                 | (grows ? CMB_CAP_GROW | CMB_CAP_ZEROED_GROWTH : 0),
        .generation = disk->generation,
    };
    cmb_mutex_unlock(&disk->lock);
}

static uint64_t cost(sim_disk *disk, const cmb_request *r)
{
    uint64_t base = r->op == CMB_OP_READ ? READ_COST : r->op == CMB_OP_FLUSH ? FLUSH_COST : WRITE_COST;
    uint64_t late = disk->options.jitter ? sim_random(&disk->random) % disk->options.jitter : 0;
    return base + r->length + late; /* one byte a nanosecond */
}

/* In such an order that the last is the next to complete; of those due at once the first submitted is it. */
static void insert(sim_queue *q, const sim_flight *flight)
{
    unsigned at = 0;
    while (at < q->n && q->flights[at].due > flight->due)
        at++;
    memmove(&q->flights[at + 1], &q->flights[at], (q->n - at) * sizeof *flight);
    q->flights[at] = *flight;
    q->n++;
}

static int disk_submit(cmb_queue *queue, const cmb_request *requests, unsigned n)
{
    sim_queue *q = (sim_queue *)queue;
    sim_disk *disk = (sim_disk *)queue->dev;
    cmb_caps caps;
    disk_caps(queue->dev, &caps);
    unsigned taken = 0;
    for (; taken < n && q->n < q->depth; taken++) {
        int e = cmb_request_check(queue->dev, &caps, &requests[taken]);
        if (e)
            return taken ? (int)taken : e;
        cmb_mutex_lock(&disk->lock);
        sim_flight flight = {requests[taken], disk->counts.nanoseconds + cost(disk, &requests[taken]), ++disk->stamp};
        for (unsigned i = 0; !disk->options.jitter && i < q->n; i++) /* without jitter none overtakes another */
            flight.due = q->flights[i].due >= flight.due ? q->flights[i].due + 1 : flight.due;
        cmb_mutex_unlock(&disk->lock);
        insert(q, &flight);
    }
    return (int)taken;
}

static int disk_reap(cmb_queue *queue, cmb_completion *out_done, unsigned max, unsigned min)
{
    sim_queue *q = (sim_queue *)queue;
    sim_disk *disk = (sim_disk *)queue->dev;
    unsigned n = 0;
    cmb_mutex_lock(&disk->lock);
    while (n < max && q->n && (n < min || q->flights[q->n - 1].due <= disk->counts.nanoseconds)) {
        const sim_flight *f = &q->flights[--q->n];
        if (f->due > disk->counts.nanoseconds)
            disk->counts.nanoseconds = f->due;
        disk->stamp++;
        out_done[n++] = (cmb_completion){.user = f->request.user, .result = run(disk, f), .generation = disk->generation};
    }
    if (n == 0 && q->n) /* looking costs time too: who only looks gets there */
        disk->counts.nanoseconds += LOOK_COST;
    cmb_mutex_unlock(&disk->lock);
    return (int)n;
}

static int disk_grow(cmb_device *dev, uint64_t size)
{
    sim_disk *disk = (sim_disk *)dev;
    if (size % SIM_SECTOR)
        return cmb_fail(CMB_EINVAL, "sim: growth to %llu bytes", (unsigned long long)size);
    if (size > disk->options.max_size)
        return cmb_fail(CMB_ENOSPC, "sim: growth to %llu bytes, but the most is %llu", (unsigned long long)size,
                        (unsigned long long)disk->options.max_size);
    cmb_mutex_lock(&disk->lock);
    if (size > disk->size) {
        disk->size = size;
        if (disk->options.on_grow)
            disk->options.on_grow(disk->options.ctx, size);
    }
    cmb_mutex_unlock(&disk->lock);
    return 0;
}

static void disk_close(cmb_device *dev)
{
    sim_free((sim_disk *)dev);
}

#define DISK_OPS                                                                                                       \
    .caps = disk_caps, .queue_open = disk_queue_open, .queue_close = disk_queue_close, .submit = disk_submit,          \
    .reap = disk_reap, .close = disk_close
static const cmb_device_ops fixed_ops = {DISK_OPS};
static const cmb_device_ops growing_ops = {DISK_OPS, .grow = disk_grow};

/* ---- the disk ---- */

static sim_disk *disk_alloc(const sim_options *options)
{
    sim_disk *disk = calloc(1, sizeof *disk);
    if (!disk || cmb_mutex_init(&disk->lock))
        abort();
    disk->options = *options;
    if (!disk->options.atom)
        disk->options.atom = SIM_SECTOR;
    disk->size = disk->durable_size = options->size;
    disk->random = options->seed;
    disk->generation = 1;
    disk->dev = (cmb_device){.alloc = cmb_allocator_or_default(NULL), .name = "sim:",
                             .ops = options->max_size ? &growing_ops : &fixed_ops};
    return disk;
}

sim_disk *sim_new(const sim_options *options)
{
    sim_disk *disk = disk_alloc(options);
    sim_pages_init(&disk->medium, options->max_size ? options->max_size : options->size);
    sim_pages_share(&disk->view, &disk->medium);
    return disk;
}

sim_disk *sim_on(const sim_pages *content, const sim_options *options)
{
    sim_options fixed = {.size = (uint64_t)content->count << 20};
    sim_disk *disk = disk_alloc(options ? options : &fixed);
    sim_pages_share(&disk->medium, content);
    sim_pages_share(&disk->view, content);
    return disk;
}

sim_disk *sim_fork(sim_disk *disk)
{
    sim_options options = disk->options;
    options.on_grow = NULL;
    options.size = disk->durable_size;
    return sim_on(&disk->medium, &options);
}

const sim_pages *sim_medium(const sim_disk *disk)
{
    return &disk->medium;
}

cmb_device *sim_device(sim_disk *disk)
{
    return &disk->dev;
}

sim_disk *sim_of(cmb_device *dev)
{
    assert(dev->ops == &fixed_ops || dev->ops == &growing_ops);
    return (sim_disk *)dev;
}

void sim_free(sim_disk *disk)
{
    if (!disk)
        return;
    sim_forget_unflushed(disk);
    free(disk->unflushed);
    free(disk->stale);
    free(disk->bad);
    sim_pages_free(&disk->medium);
    sim_pages_free(&disk->view);
    cmb_mutex_destroy(&disk->lock);
    free(disk);
}

/* ---- power cuts ---- */

void sim_drop_cache(sim_disk *disk)
{
    cmb_mutex_lock(&disk->lock);
    free(disk->stale);
    disk->stale = NULL;
    sim_pages_free(&disk->view);
    sim_pages_share(&disk->view, &disk->medium);
    for (size_t i = 0; i < disk->n_unflushed; i++)
        sim_pages_write(&disk->view, disk->unflushed[i].offset, disk->unflushed[i].data, disk->unflushed[i].length);
    cmb_mutex_unlock(&disk->lock);
}

void sim_truncate(sim_disk *disk, uint64_t size)
{
    uint64_t most = disk->options.max_size ? disk->options.max_size : disk->options.size;
    assert(size <= most && disk->n_unflushed == 0);
    sim_pages_write(&disk->medium, size, NULL, most - size);
    sim_pages_write(&disk->view, size, NULL, most - size);
    disk->size = disk->durable_size = size;
}

void sim_power_cut(sim_disk *disk, uint64_t seed)
{
    uint64_t size = disk->size == disk->durable_size || sim_random(&seed) & 1 ? disk->size : disk->durable_size;
    for (size_t i = 0; i < disk->n_unflushed; i++)
        sim_land(disk, &disk->unflushed[i], &seed);
    sim_forget_unflushed(disk);
    sim_drop_cache(disk);
    sim_truncate(disk, size);
    disk->generation++;
}

size_t sim_unflushed(const sim_disk *disk)
{
    return disk->n_unflushed;
}

/* ---- the medium ---- */

void sim_peek(const sim_disk *disk, uint64_t offset, void *buffer, uint64_t length)
{
    sim_pages_read(&disk->medium, offset, buffer, length);
}

void sim_poke(sim_disk *disk, uint64_t offset, const void *data, uint64_t length)
{
    sim_pages_write(&disk->medium, offset, data, length);
    sim_pages_write(&disk->view, offset, data, length);
}

uint64_t sim_sum(const sim_disk *disk)
{
    uint64_t what[2] = {disk->medium.sum, disk->durable_size};
    return cmb_hash64(what, sizeof what, 0);
}

sim_counts sim_count(const sim_disk *disk)
{
    return disk->counts;
}
