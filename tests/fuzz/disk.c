/* SPDX-License-Identifier: ISC */
#include "tests/fuzz/disk.h"

#include <assert.h>
#include <stdlib.h>

#include "tests/fuzz/fuzz.h"

#define OPERATIONS_MAX 1000000u /* of one input: more is a loop without an end */
#define DEPTH 64u

typedef struct disk_queue {
    cmb_queue queue;
    cmb_completion done[DEPTH];
    unsigned count;
} disk_queue;

static void disk_caps(cmb_device *dev, cmb_caps *out_caps)
{
    const fuzz_disk *disk = (const fuzz_disk *)dev;
    *out_caps = (cmb_caps){.size = disk->size,
                           .max_size = disk->max_size,
                           .block_size = 512,
                           .buffer_align = 1,
                           .max_transfer = 1u << 22,
                           .queue_depth = DEPTH,
                           .flags = CMB_CAP_FLUSH | CMB_CAP_DISCARD | CMB_CAP_UNCACHED | CMB_CAP_MAP | CMB_CAP_ZEROED_GROWTH |
                                    (dev->ops->grow ? CMB_CAP_GROW : 0),
                           .generation = 1};
}

static int disk_queue_open(cmb_device *dev, unsigned depth, cmb_queue **out_queue)
{
    disk_queue *q = cmb_zalloc(&dev->alloc, sizeof *q);
    if (!q)
        return CMB_ENOMEM;
    q->queue.dev = dev;
    *out_queue = &q->queue;
    return 0;
}

static void disk_queue_close(cmb_queue *queue)
{
    fuzz_check(!((disk_queue *)queue)->count, "a queue is closed with something in flight");
    cmb_release(&queue->dev->alloc, queue, sizeof(disk_queue));
}

static void mark(fuzz_disk *disk, uint64_t offset, uint64_t length)
{
    for (uint64_t block = offset / CMB_BLOCK; length && block <= (offset + length - 1) / CMB_BLOCK; block++)
        disk->used[block] = true;
}

static void disk_run(fuzz_disk *disk, const cmb_request *r)
{
    fuzz_check(disk->operations++ < OPERATIONS_MAX, "more than %u operations", OPERATIONS_MAX);
    if (r->op == CMB_OP_READ)
        memcpy(r->buffer, disk->bytes + r->offset, r->length);
    if (r->op == CMB_OP_WRITE) {
        memcpy(disk->bytes + r->offset, r->buffer, r->length);
        mark(disk, r->offset, r->length);
    }
    if (r->op == CMB_OP_DISCARD)
        memset(disk->bytes + r->offset, 0, r->length);
}

static int disk_submit(cmb_queue *queue, const cmb_request *requests, unsigned n)
{
    disk_queue *q = (disk_queue *)queue;
    cmb_caps caps;
    unsigned taken = 0;
    disk_caps(queue->dev, &caps);
    for (; taken < n && q->count < DEPTH; taken++) {
        int error = cmb_request_check(queue->dev, &caps, &requests[taken]);
        if (error)
            return taken ? (int)taken : error;
        disk_run((fuzz_disk *)queue->dev, &requests[taken]);
        q->done[q->count++] = (cmb_completion){.user = requests[taken].user, .generation = 1};
    }
    return (int)taken;
}

static int disk_reap(cmb_queue *queue, cmb_completion *out_done, unsigned max, unsigned min)
{
    disk_queue *q = (disk_queue *)queue;
    unsigned n = q->count < max ? q->count : max;
    memcpy(out_done, q->done, n * sizeof *out_done);
    memmove(q->done, q->done + n, (q->count - n) * sizeof *out_done);
    q->count -= n;
    return (int)n;
}

static int disk_grow(cmb_device *dev, uint64_t new_size)
{
    fuzz_disk *disk = (fuzz_disk *)dev;
    if (new_size > disk->max_size)
        return cmb_fail(CMB_ENOSPC, "%s: growth to %llu bytes", dev->name, (unsigned long long)new_size);
    if (new_size > disk->size)
        disk->size = new_size;
    return 0;
}

static int disk_map(cmb_device *dev, uint64_t offset, uint64_t length, const void **out_ptr)
{
    fuzz_disk *disk = (fuzz_disk *)dev;
    if (offset > disk->size)
        return cmb_fail(CMB_EINVAL, "%s: map at %llu", dev->name, (unsigned long long)offset);
    *out_ptr = disk->bytes + offset;
    return 0;
}

static void disk_close(cmb_device *dev)
{
}

#define DISK_COMMON                                                                                                    \
    .caps = disk_caps, .queue_open = disk_queue_open, .queue_close = disk_queue_close, .submit = disk_submit,          \
    .reap = disk_reap, .map = disk_map, .close = disk_close
static const cmb_device_ops fixed_ops = {DISK_COMMON};
static const cmb_device_ops growing_ops = {DISK_COMMON, .grow = disk_grow};

static fuzz_disk disks[FUZZ_DISKS];

fuzz_disk *fuzz_disk_clear(unsigned i, uint64_t size, bool grows)
{
    fuzz_disk *disk = &disks[i];
    if (!disk->bytes) {
        disk->bytes = cmb_os_reserve((size_t)(FUZZ_DISK_MIB * FUZZ_MIB));
        fuzz_check(disk->bytes, "no memory for a disk");
    }
    for (size_t block = 0; block < FUZZ_DISK_BLOCKS; block++)
        if (disk->used[block])
            memset(disk->bytes + block * CMB_BLOCK, 0, CMB_BLOCK);
    memset(disk->used, 0, sizeof disk->used);
    disk->dev = (cmb_device){.ops = grows ? &growing_ops : &fixed_ops, .alloc = *fuzz_allocator(), .name = "disk"};
    disk->operations = 0;
    disk->size = size;
    disk->max_size = grows ? FUZZ_DISK_MIB * FUZZ_MIB : size;
    return disk;
}

fuzz_disk *fuzz_disk_unpack(unsigned i, const uint8_t *data, size_t size)
{
    fuzz_input in = {data, data + size};
    uint8_t head = fuzz_byte(&in);
    fuzz_disk *disk = fuzz_disk_clear(i, (1 + (head & 127u) % FUZZ_DISK_MIB) * FUZZ_MIB, head & 128);
    while (in.end - in.at >= 4) {
        uint64_t block = fuzz_uint(&in, 2);
        cmb_bytes bytes = fuzz_bytes(&in, fuzz_uint(&in, 2));
        if (block >= disk->size / CMB_BLOCK)
            continue;
        bytes.size = bytes.size < CMB_BLOCK ? bytes.size : CMB_BLOCK;
        memcpy(disk->bytes + block * CMB_BLOCK, bytes.data, bytes.size);
        disk->used[block] = true;
    }
    return disk;
}

size_t fuzz_disk_pack(const fuzz_disk *disk, uint8_t *out, size_t room)
{
    size_t at = 1;
    if (!room)
        return 0;
    out[0] = (uint8_t)(disk->size / FUZZ_MIB - 1) | (disk->dev.ops->grow ? 128 : 0);
    for (size_t block = 0; block < disk->size / CMB_BLOCK; block++) {
        const uint8_t *bytes = disk->bytes + block * CMB_BLOCK;
        size_t n = disk->used[block] ? CMB_BLOCK : 0;
        while (n && !bytes[n - 1])
            n--;
        if (!n)
            continue;
        if (room - at < 4 + n)
            return 0;
        cmb_put16(out + at, (uint16_t)block);
        cmb_put16(out + at + 2, (uint16_t)n);
        memcpy(out + at + 4, bytes, n);
        at += 4 + n;
    }
    return at;
}

uint64_t fuzz_disk_sum(const fuzz_disk *disk)
{
    static const uint8_t zeros[CMB_BLOCK];
    uint64_t sum = disk->size;
    for (size_t block = 0; block < FUZZ_DISK_BLOCKS; block++)
        if (disk->used[block] && memcmp(disk->bytes + block * CMB_BLOCK, zeros, CMB_BLOCK) != 0)
            sum = cmb_hash64(disk->bytes + block * CMB_BLOCK, CMB_BLOCK, sum + block);
    return sum;
}
