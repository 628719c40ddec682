/* SPDX-License-Identifier: ISC */
#include "conformance.h"

#define UNIT   4096u
#define BATCH  16u /* requests in flight */

typedef struct run {
    cmb_device *dev;
    cmb_queue *queue;
    cmb_caps caps;
    const conform_options *options;
    uint64_t random;
    uint8_t *model;  /* what the device holds */
    uint64_t longest; /* units of one request: on 4 MiB more than a device takes at once */
    uint8_t *memory;  /* BATCH buffers of that and one unit more */
    uint64_t operations;
} run;

/* A request in flight, and what becomes of it. */
typedef struct flight {
    cmb_request request;
    bool done;
} flight;

#define BROKEN(r, ...) cmb_fail(CMB_EIO, "broken promise: " __VA_ARGS__)

static uint64_t next(run *r)
{
    r->random++;
    return cmb_hash64(&r->random, sizeof r->random, r->options->seed);
}

static void fill(run *r, uint8_t *at, uint64_t length)
{
    uint64_t tag = next(r);
    for (uint64_t i = 0; i < length; i += 8) {
        uint64_t word = (tag + i) * 0x9E3779B97F4A7C15u;
        memcpy(at + i, &word, 8);
    }
}

static uint8_t *buffer_of(run *r, unsigned i)
{
    return r->memory + (size_t)i * (r->longest + 1) * UNIT;
}

/* ---- what the properties say ---- */

static int properties(run *r)
{
    const cmb_caps *c = &r->caps;
    if (c->block_size < 512 || c->block_size > UNIT || c->block_size & (c->block_size - 1))
        return BROKEN(r, "a block size of %u", c->block_size);
    if (c->size < r->options->size || c->max_size < c->size)
        return cmb_fail(CMB_EINVAL, "the device has %llu bytes", (unsigned long long)c->size);
    if (c->max_transfer < UNIT || c->max_transfer % UNIT)
        return BROKEN(r, "a largest transfer of %u", c->max_transfer);
    if (!c->queue_depth || !c->buffer_align || !c->generation || c->flags & CMB_CAP_READ_ONLY)
        return BROKEN(r, "properties that make no sense");
    if (!(c->flags & CMB_CAP_GROW) != !r->dev->ops->grow || !(c->flags & CMB_CAP_MAP) != !r->dev->ops->map)
        return BROKEN(r, "functions that do not fit the flags");
    return 0;
}

/* ---- batches in flight ---- */

static bool overlaps(const flight *flights, unsigned n, uint64_t offset, uint64_t length)
{
    for (unsigned i = 0; i < n; i++) {
        const cmb_request *q = &flights[i].request;
        if (offset < q->offset + q->length && q->offset < offset + length)
            return true;
    }
    return false;
}

/* A range that nothing in the batch touches: nothing orders requests in flight. */
static bool choose(run *r, flight *flights, unsigned n)
{
    uint64_t units = r->options->size / UNIT, at = next(r) % units;
    uint64_t length = next(r) % 4 ? 1 + next(r) % 16 : 1 + next(r) % r->longest;
    if (length > units - at)
        length = units - at;
    if (overlaps(flights, n, at * UNIT, length * UNIT))
        return false;
    static const unsigned shifts[] = {0, 0, 0, 8, 512, 16};
    unsigned shift = shifts[next(r) % CMB_COUNTOF(shifts)]; /* buffers need not be aligned */
    flight *f = &flights[n];
    *f = (flight){.request = {.op = next(r) % 3 ? CMB_OP_WRITE : CMB_OP_READ,
                              .flags = 0,
                              .offset = at * UNIT,
                              .length = length * UNIT,
                              .buffer = buffer_of(r, n) + shift,
                              .user = f}};
    if (f->request.op == CMB_OP_READ) {
        f->request.flags = next(r) % 4 ? 0 : CMB_IO_UNCACHED;
        memset(f->request.buffer, 0x5a, length * UNIT);
    } else {
        fill(r, f->request.buffer, length * UNIT);
        memcpy(r->model + at * UNIT, f->request.buffer, length * UNIT);
    }
    return true;
}

static int complete(run *r, flight *flights, unsigned n, const cmb_completion *c)
{
    size_t index = (size_t)((flight *)c->user - flights);
    if (index >= n || flights[index].done)
        return BROKEN(r, "a completion of nothing, or a second one");
    flights[index].done = true;
    r->operations++;
    const cmb_request *q = &flights[index].request;
    if (c->result)
        return cmb_fail(c->result, "%s: %s of %llu bytes at %llu: %s", r->dev->name, cmb_op_name(q->op),
                        (unsigned long long)q->length, (unsigned long long)q->offset, cmb_strerror(c->result));
    if (c->generation != r->caps.generation)
        return BROKEN(r, "a completion of another connection");
    if (q->op == CMB_OP_READ && q->length && memcmp(q->buffer, r->model + q->offset, q->length) != 0)
        return BROKEN(r, "a read of %llu bytes at %llu brings other bytes than were written",
                      (unsigned long long)q->length, (unsigned long long)q->offset);
    return 0;
}

/* All of them, as the queue takes them; each completes once. Nothing is left in flight, whatever happens. */
static int fly(run *r, flight *flights, unsigned n)
{
    cmb_request requests[BATCH];
    unsigned sent = 0, done = 0;
    int error = 0;
    for (unsigned i = 0; i < n; i++)
        requests[i] = flights[i].request;
    while (done < sent || (sent < n && !error)) {
        if (sent < n && !error) {
            int taken = r->dev->ops->submit(r->queue, &requests[sent], n - sent);
            if (taken < 0)
                error = taken;
            else
                sent += (unsigned)taken;
        }
        cmb_completion c[4];
        int got = done < sent ? r->dev->ops->reap(r->queue, c, CMB_COUNTOF(c), 1) : 0;
        if (got < (done < sent))
            return BROKEN(r, "a reap that does not wait");
        for (int i = 0; i < got; i++) {
            int e = complete(r, flights, n, &c[i]);
            error = error ? error : e;
        }
        done += (unsigned)got;
    }
    return error;
}

static int step(run *r)
{
    flight flights[BATCH];
    unsigned n = 0, wanted = 1 + (unsigned)(next(r) % BATCH);
    for (unsigned tries = 0; n < wanted && tries < 2 * wanted; tries++)
        n += choose(r, flights, n);
    return fly(r, flights, n);
}

/* What is discarded reads as zeros or as before, and what is beside it stays; then it is written, to be the same everywhere. */
static int discard(run *r)
{
    uint64_t units = r->options->size / UNIT, at = next(r) % (units - 64), length = 1 + next(r) % 63;
    uint8_t *after = buffer_of(r, 0), *model = r->model + at * UNIT, zeros[UNIT] = {0};
    uint64_t bytes = length * UNIT;
    cmb_caps now; /* some find out by the first one that they cannot */
    cmb_device_caps(r->dev, &now);
    if (now.flags & CMB_CAP_DISCARD) {
        int error = cmb_io_discard(r->queue, at * UNIT, bytes);
        if (!error)
            error = cmb_io_read(r->queue, at * UNIT, after, bytes, 0);
        if (error)
            return error;
        for (uint64_t i = 0; i < bytes; i += 512) {
            if (memcmp(after + i, zeros, 512) != 0 && memcmp(after + i, model + i, 512) != 0)
                return BROKEN(r, "a discarded block holds what it never held");
        }
        r->operations += 2;
    }
    fill(r, model, bytes);
    return cmb_io_write(r->queue, at * UNIT, model, bytes);
}

/* ---- misuse ---- */

static int misuse(run *r)
{
    void *b = r->memory;
    const cmb_request wrong[] = {
        {.op = CMB_OP_READ, .offset = r->caps.block_size / 2, .length = UNIT, .buffer = b},
        {.op = CMB_OP_WRITE, .length = UNIT + r->caps.block_size / 2, .buffer = b},
        {.op = CMB_OP_READ, .offset = UINT64_MAX - UNIT + 1, .length = 2 * UNIT, .buffer = b},
        {.op = CMB_OP_WRITE, .length = UNIT, .buffer = NULL},
        {.op = CMB_OP_READ, .flags = 0x80, .length = UNIT, .buffer = b},
        {.op = CMB_OP_FLUSH, .length = UNIT},
        {.op = (cmb_op)9, .length = UNIT, .buffer = b},
    };
    for (size_t i = 0; i < CMB_COUNTOF(wrong); i++) {
        cmb_completion c;
        int taken = r->dev->ops->submit(r->queue, &wrong[i], 1);
        if (taken != CMB_EINVAL)
            return BROKEN(r, "misuse %zu is answered with %s", i, cmb_error_name(taken));
        if (r->dev->ops->reap(r->queue, &c, 1, 1) != 0)
            return BROKEN(r, "misuse %zu completes", i);
    }
    flight nothing = {.request = {.op = CMB_OP_READ, .user = &nothing}};
    return fly(r, &nothing, 1);
}

static int flush(run *r)
{
    int error = cmb_io_flush(r->queue);
    r->operations++;
    if (r->caps.flags & CMB_CAP_FLUSH)
        return error;
    return error == CMB_ENODURABLE ? 0 : BROKEN(r, "a flush on a device without is answered with %s", cmb_error_name(error));
}

/* All of it in one request of any size, twice. */
static int compare(run *r)
{
    uint8_t *all = cmb_io_buffer(&r->dev->alloc, r->options->size);
    if (!all)
        return CMB_ENOMEM;
    int error = cmb_io_read(r->queue, 0, all, r->options->size, CMB_IO_UNCACHED);
    if (!error && memcmp(all, r->model, r->options->size) != 0)
        error = BROKEN(r, "the device does not hold what was written");
    cmb_io_buffer_release(&r->dev->alloc, all, r->options->size);
    return error;
}

static int script(run *r)
{
    int error = properties(r);
    if (!error)
        error = cmb_io_write(r->queue, 0, r->model, r->options->size); /* zeros */
    if (!error)
        error = misuse(r);
    for (unsigned i = 0; i < r->options->steps && !error; i++) {
        error = step(r);
        if (!error && i % 8 == 3)
            error = discard(r);
        if (!error && i % 8 == 7)
            error = flush(r);
    }
    if (!error)
        error = flush(r);
    return error ? error : compare(r);
}

int conform(cmb_device *dev, const conform_options *options, conform_result *out_result)
{
    const cmb_allocator *alloc = &dev->alloc;
    run r = {.dev = dev, .options = options, .longest = options->size / UNIT / 3};
    const size_t memory = BATCH * (r.longest + 1) * UNIT;
    cmb_device_caps(dev, &r.caps);
    r.model = cmb_io_buffer(alloc, options->size);
    r.memory = cmb_io_buffer(alloc, memory);
    int error = r.model && r.memory ? cmb_queue_open(dev, 8, &r.queue) : CMB_ENOMEM;
    if (!error) {
        memset(r.model, 0, options->size);
        error = script(&r);
    }
    if (!error) {
        *out_result = (conform_result){.operations = r.operations, .flushed = r.caps.flags & CMB_CAP_FLUSH};
        cmb_hash_name(CMB_HASH_XXH3, r.model, options->size, &out_result->sum);
    }
    cmb_queue_close(r.queue);
    cmb_io_buffer_release(alloc, r.model, options->size);
    cmb_io_buffer_release(alloc, r.memory, memory);
    return error;
}
