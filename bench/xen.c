/* SPDX-License-Identifier: ISC */
/*
 * xen.c: what the Xen front end costs: the same requests on a file by itself, and on a virtual device over that
 * file with both ends in this process. Reads go past the operating system's cache.
 *
 * usage: bench-xen [FILE [SECONDS]]     FILE is made, 256 MiB, and removed; default: in the present directory
 *        bench-xen --against DEVICE DEVICE [SECONDS]     two devices that are there, of 64 MiB or more; nothing is written
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "io/io.h"
#include "io/xen/back.h"
#include "io/xen/xen.h"

#define SIZE     ((uint64_t)256 << 20)
#define PART     ((uint64_t)64 << 20) /* of a device that is there */
#define ROUNDS   3u
#define IN_FLIGHT 32u
#define VDEV     51712u

typedef struct subject {
    const char *name;
    bool direct; /* the file itself */
    bool indirect, persistent;
    unsigned order;
} subject;

static const subject subjects[] = {
    {.name = "file", .direct = true},
    {.name = "plain grants", .indirect = true, .order = 1},
    {.name = "persistent grants", .indirect = true, .persistent = true, .order = 1},
    {.name = "plain, 11 segments", .order = 1},
    {.name = "persistent, 11 segments", .persistent = true, .order = 1},
    {.name = "plain, one page of ring", .indirect = true},
};

typedef struct rig {
    cmb_device *disk, *dev;
    cmb_xen_hub *hub;
    cmb_xen_back *back;
} rig;

static void must(int error)
{
    if (error >= 0)
        return;
    fprintf(stderr, "%s: %s\n", cmb_error_name(error), cmb_error_detail());
    exit(1);
}

static void rig_open(rig *r, const char *file, const subject *s)
{
    char name[600];
    cmb_xen_back_options offer;
    cmb_xen_options take;
    cmb_xen_end *end;
    *r = (rig){0};
    snprintf(name, sizeof name, "%s?io=uring&fixed=1", file);
    must(cmb_device_open(name, CMB_OPEN_WRITE, NULL, &r->disk));
    if (s->direct) {
        r->dev = r->disk;
        return;
    }
    cmb_xen_back_options_default(&offer);
    cmb_xen_options_default(&take);
    offer.uncached = true;
    offer.segments = s->indirect ? 256 : 0;
    take.persistent = s->persistent;
    take.ring_order = s->order;
    take.pool_pages = 4096;
    must(cmb_xen_hub_new(&r->disk->alloc, NULL, &r->hub));
    must(cmb_xen_back_new(r->hub, 1, VDEV, r->disk, &offer, &r->back));
    must(cmb_xen_end_open(r->hub, 1, &end));
    must(cmb_device_xen(cmb_xen_end_platform(end), "xen:bench", VDEV, CMB_OPEN_WRITE, NULL, &take, &r->dev));
}

static void rig_close(rig *r, const subject *s)
{
    if (!s->direct) {
        cmb_device_close(r->dev);
        cmb_xen_back_free(r->back);
        cmb_xen_hub_free(r->hub);
    }
    cmb_device_close(r->disk);
}

/* Requests of `length` at random places, IN_FLIGHT at a time, for so long; requests a second. */
static double run(cmb_device *dev, uint64_t size, uint64_t length, uint64_t nanoseconds)
{
    cmb_queue *q;
    cmb_request requests[IN_FLIGHT];
    cmb_completion done[IN_FLIGHT];
    uint64_t random = 1, finished = 0;
    must(cmb_queue_open(dev, IN_FLIGHT, &q));
    uint8_t *memory = cmb_io_buffer(&dev->alloc, IN_FLIGHT * length);
    memset(memory, 1, IN_FLIGHT * length);
    unsigned free_count = IN_FLIGHT, in_flight = 0;
    for (unsigned i = 0; i < IN_FLIGHT; i++)
        requests[i] = (cmb_request){
            .op = CMB_OP_READ, .flags = CMB_IO_UNCACHED, .length = length, .buffer = memory + i * length};
    cmb_request *idle[IN_FLIGHT];
    for (unsigned i = 0; i < IN_FLIGHT; i++)
        idle[i] = &requests[i];
    uint64_t start = cmb_os_monotonic(), now = start;
    while (now - start < nanoseconds || in_flight) {
        cmb_request batch[IN_FLIGHT];
        unsigned n = 0;
        while (free_count && now - start < nanoseconds) {
            cmb_request *r = idle[--free_count];
            random = random * 6364136223846793005u + 1442695040888963407u;
            r->offset = (random >> 33) % (size / length) * length;
            r->user = r;
            batch[n++] = *r;
        }
        for (unsigned sent = 0; sent < n;) {
            int taken = dev->ops->submit(q, batch + sent, n - sent);
            must(taken);
            sent += (unsigned)taken;
        }
        in_flight += n;
        int got = in_flight ? dev->ops->reap(q, done, IN_FLIGHT, 1) : 0;
        for (int i = 0; i < got; i++) {
            must(done[i].result);
            idle[free_count++] = done[i].user;
        }
        in_flight -= (unsigned)got;
        finished += (unsigned)got;
        now = cmb_os_monotonic();
    }
    cmb_io_buffer_release(&dev->alloc, memory, IN_FLIGHT * length);
    cmb_queue_close(q);
    return (double)finished * 1e9 / (double)(now - start);
}

static void make_file(const char *file)
{
    cmb_device *dev;
    cmb_queue *q;
    static uint8_t block[1 << 20];
    memset(block, 0x5a, sizeof block);
    must(cmb_device_open(file, CMB_OPEN_CREATE, NULL, &dev));
    must(dev->ops->grow(dev, SIZE));
    must(cmb_queue_open(dev, 1, &q));
    for (uint64_t at = 0; at < SIZE; at += sizeof block)
        must(cmb_io_write(q, at, block, sizeof block));
    must(cmb_io_flush(q));
    cmb_queue_close(q);
    cmb_device_close(dev);
}

static const uint64_t lengths[] = {4096, 262144};

static uint64_t time_of(const char *seconds)
{
    return (uint64_t)((seconds ? atof(seconds) : 2.0) * 1e9);
}

/* Two devices by turns; how the second does by the first. */
static void against(char *const names[2], uint64_t each)
{
    cmb_device *devices[2];
    for (unsigned i = 0; i < 2; i++)
        must(cmb_device_open(names[i], CMB_OPEN_READ, NULL, &devices[i]));
    printf("reads past the cache, %u in flight\n", IN_FLIGHT);
    for (unsigned l = 0; l < CMB_COUNTOF(lengths); l++) {
        double best[2] = {0};
        for (unsigned turn = 0; turn < 2 * ROUNDS; turn++) {
            double rate = run(devices[turn % 2], PART, lengths[l], each / ROUNDS);
            best[turn % 2] = rate > best[turn % 2] ? rate : best[turn % 2];
        }
        for (unsigned i = 0; i < 2; i++)
            printf("%6llu B  %-24s %9.0f requests/s  %8.1f MB/s  %.2f\n", (unsigned long long)lengths[l], names[i], best[i],
                   best[i] * (double)lengths[l] / 1e6, best[i] / best[0]);
    }
    for (unsigned i = 0; i < 2; i++)
        cmb_device_close(devices[i]);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--against") == 0) {
        if (argc < 4) {
            fprintf(stderr, "usage: bench-xen --against DEVICE DEVICE [SECONDS]\n");
            return 16;
        }
        against(argv + 2, time_of(argv[4]));
        return 0;
    }
    const char *file = argc > 1 ? argv[1] : "bench-xen.tmp";
    uint64_t each = time_of(argc > 2 ? argv[2] : NULL);
    make_file(file);
    printf("reads past the cache, %u in flight, %s\n", IN_FLIGHT, file);
    for (unsigned l = 0; l < CMB_COUNTOF(lengths); l++) {
        /* By turns, and the best of each: the machine's other work is not what is measured. */
        double best[CMB_COUNTOF(subjects)] = {0};
        for (unsigned round = 0; round < ROUNDS; round++) {
            for (unsigned i = 0; i < CMB_COUNTOF(subjects); i++) {
                rig r;
                rig_open(&r, file, &subjects[i]);
                double rate = run(r.dev, SIZE, lengths[l], each / ROUNDS);
                best[i] = rate > best[i] ? rate : best[i];
                rig_close(&r, &subjects[i]);
            }
        }
        for (unsigned i = 0; i < CMB_COUNTOF(subjects); i++)
            printf("%6llu B  %-24s %9.0f requests/s  %8.1f MB/s  %.2f of the file\n", (unsigned long long)lengths[l],
                   subjects[i].name, best[i], best[i] * (double)lengths[l] / 1e6, best[i] / best[0]);
    }
    unlink(file);
    return 0;
}
