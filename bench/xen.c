/* SPDX-License-Identifier: ISC */
/*
 * xen.c: what the Xen front end costs: the same requests on a file by itself, and on a virtual device over that
 * file with both ends in this process. Reads go past the operating system's cache, writes into
 * it, as they do on a file.
 *
 * usage: bench-xen [FILE [SECONDS]]     FILE is made, 256 MiB, and removed; default: in the present directory
 *        bench-xen --against DEVICE DEVICE [SECONDS]     two devices that are there, of 64 MiB or more; nothing is written
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "io/io.h"
#include "io/xen/back.h"
#include "io/xen/xen.h"

#define SIZE     ((uint64_t)256 << 20)
#define PART     ((uint64_t)64 << 20) /* of a device that is there */
#define ROUNDS   8u
#define WARM_UP  8u /* a part of a round as large as 1 / so many goes before it: memory is found then, and rings filled */
#define IN_FLIGHT 32u
#define VDEV     51712u

typedef struct subject {
    const char *name;
    bool direct; /* the file itself */
    bool huge;   /* the caller's buffers are made of huge pages, if there are any: the loopback's pool is */
    bool indirect, persistent;
    unsigned order;
} subject;

static const subject subjects[] = {
    {.name = "file", .direct = true},
    {.name = "file, huge pages", .direct = true, .huge = true},
    {.name = "plain grants", .indirect = true, .order = 3},
    {.name = "persistent grants", .indirect = true, .persistent = true, .order = 3},
    {.name = "plain, 11 segments", .order = 3},
    {.name = "persistent, 11 segments", .persistent = true, .order = 3},
    {.name = "plain, one page of ring", .indirect = true},
    {.name = "plain, huge pages", .indirect = true, .order = 3, .huge = true},
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

typedef struct work {
    cmb_op op;
    uint64_t size, length; /* of the device, of a request */
    bool huge;
} work;

typedef struct result {
    double rate; /* requests a second, the best round's */
    double cpu;  /* seconds of the whole process for each byte, the round's that took least */
} result;

static double cpu_seconds(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Requests at random places, IN_FLIGHT at a time, for so long; requests a second. */
static double run(cmb_device *dev, const work *w, uint64_t nanoseconds)
{
    uint64_t size = w->size, length = w->length;
    cmb_queue *q;
    cmb_request requests[IN_FLIGHT];
    cmb_completion done[IN_FLIGHT];
    uint64_t random = 1, finished = 0;
    must(cmb_queue_open(dev, IN_FLIGHT, &q));
    uint8_t *memory = w->huge ? cmb_os_reserve(IN_FLIGHT * length) : cmb_io_buffer(&dev->alloc, IN_FLIGHT * length);
    memset(memory, 1, IN_FLIGHT * length);
    unsigned free_count = IN_FLIGHT, in_flight = 0;
    for (unsigned i = 0; i < IN_FLIGHT; i++)
        requests[i] = (cmb_request){
            .op = w->op, .flags = w->op == CMB_OP_READ ? CMB_IO_UNCACHED : 0, .length = length, .buffer = memory + i * length};
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
    if (w->huge)
        cmb_os_unreserve(memory, IN_FLIGHT * length);
    else
        cmb_io_buffer_release(&dev->alloc, memory, IN_FLIGHT * length);
    cmb_queue_close(q);
    return (double)finished * 1e9 / (double)(now - start);
}

/* Afterwards it lies in the operating system's cache. */
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

static void measure(cmb_device *dev, const work *w, uint64_t each, result *r)
{
    (void)run(dev, w, each / ROUNDS / WARM_UP);
    double before = cpu_seconds(), start = (double)cmb_os_monotonic();
    double rate = run(dev, w, each / ROUNDS);
    double bytes = rate * ((double)cmb_os_monotonic() - start) / 1e9 * (double)w->length;
    double cpu = (cpu_seconds() - before) / bytes;
    r->rate = rate > r->rate ? rate : r->rate;
    r->cpu = cpu < r->cpu || r->cpu == 0 ? cpu : r->cpu;
}

static void report(const work *w, const char *name, const result *r, const result *first)
{
    printf("%-5s %6llu B  %-24s %9.0f requests/s  %8.1f MB/s  %.2f  %6.1f ms of CPU a GB\n",
           w->op == CMB_OP_READ ? "read" : "write", (unsigned long long)w->length, name, r->rate,
           r->rate * (double)w->length / 1e6, r->rate / first->rate, r->cpu * 1e12);
}

/* Two devices by turns; how the second does by the first. */
static void against(char *const names[2], uint64_t each)
{
    cmb_device *devices[2];
    for (unsigned i = 0; i < 2; i++)
        must(cmb_device_open(names[i], CMB_OPEN_READ, NULL, &devices[i]));
    printf("reads past the cache, %u in flight; the rate by that of the first\n", IN_FLIGHT);
    for (unsigned l = 0; l < CMB_COUNTOF(lengths); l++) {
        const work w = {.op = CMB_OP_READ, .size = PART, .length = lengths[l]};
        result results[2] = {0};
        for (unsigned turn = 0; turn < 2 * ROUNDS; turn++)
            measure(devices[turn % 2], &w, each, &results[turn % 2]);
        for (unsigned i = 0; i < 2; i++)
            report(&w, names[i], &results[i], &results[0]);
    }
    for (unsigned i = 0; i < 2; i++)
        cmb_device_close(devices[i]);
}

/* By turns, and the best of each: the machine's other work is not what is measured. */
static void compare(const char *file, work *w, uint64_t each)
{
    result results[CMB_COUNTOF(subjects)] = {0};
    make_file(file);
    for (unsigned turn = 0; turn < ROUNDS * CMB_COUNTOF(subjects); turn++) {
        rig r;
        unsigned i = turn % CMB_COUNTOF(subjects);
        rig_open(&r, file, &subjects[i]);
        w->huge = subjects[i].huge;
        measure(r.dev, w, each, &results[i]);
        rig_close(&r, &subjects[i]);
    }
    for (unsigned i = 0; i < CMB_COUNTOF(subjects); i++)
        report(w, subjects[i].name, &results[i], &results[0]);
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
    printf("reads past the cache, writes into it, %u in flight, %s; the rate by that of the file\n", IN_FLIGHT, file);
    for (unsigned i = 0; i < 2 * CMB_COUNTOF(lengths); i++) {
        work w = {.op = i % 2 ? CMB_OP_WRITE : CMB_OP_READ, .size = SIZE, .length = lengths[i / 2]};
        compare(file, &w, each);
        unlink(file);
    }
    return 0;
}
