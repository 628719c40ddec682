/* SPDX-License-Identifier: ISC */
/*
 * xen.c: what the Xen front end costs: the same requests on a file by itself, and on a virtual device over that
 * file with both ends in this process. Reads go past the operating system's cache, writes into it, as they do on a file.
 * All of them move the same buffers, made once: of how many pieces of memory a buffer is says more than anything else
 * about what a disk makes of it, and is a matter of luck with ordinary pages.
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

#define LARGEST  262144u

typedef struct subject {
    const char *name;
    bool direct; /* the file itself */
    bool copies; /* and its bytes are copied once, which is the least that persistent grants come to */
    bool huge;   /* the buffers are of huge pages, if there are any */
    bool indirect, persistent;
    unsigned order;
} subject;

/* The first with either kind of pages is what the others are measured by. */
static const subject subjects[] = {
    {.name = "file", .direct = true},
    {.name = "plain grants", .indirect = true, .order = 3},
    {.name = "persistent grants", .indirect = true, .persistent = true, .order = 3},
    {.name = "plain, 11 segments", .order = 3},
    {.name = "persistent, 11 segments", .persistent = true, .order = 3},
    {.name = "plain, one page of ring", .indirect = true},
    {.name = "huge pages: file", .direct = true, .huge = true},
    {.name = "file, and a copy", .direct = true, .copies = true, .huge = true},
    {.name = "plain grants", .indirect = true, .order = 3, .huge = true},
    {.name = "persistent grants", .indirect = true, .persistent = true, .order = 3, .huge = true},
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
    uint8_t *memory, *copy; /* of IN_FLIGHT requests; NULL: no copies */
} work;

/* By turns. */
typedef struct result {
    double rate[ROUNDS]; /* requests a second */
    double cpu[ROUNDS];  /* seconds of the whole process for each byte */
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
    unsigned free_count = IN_FLIGHT, in_flight = 0;
    for (unsigned i = 0; i < IN_FLIGHT; i++)
        requests[i] = (cmb_request){
            .op = w->op, .flags = w->op == CMB_OP_READ ? CMB_IO_UNCACHED : 0, .length = length, .buffer = w->memory + i * length};
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
            cmb_request *r = idle[free_count++] = done[i].user;
            if (w->copy)
                memcpy(w->copy + ((uint8_t *)r->buffer - w->memory), r->buffer, length);
        }
        in_flight -= (unsigned)got;
        finished += (unsigned)got;
        now = cmb_os_monotonic();
    }
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

static const uint64_t lengths[] = {4096, LARGEST};

static uint64_t time_of(const char *seconds)
{
    return (uint64_t)((seconds ? atof(seconds) : 2.0) * 1e9);
}

static void measure(cmb_device *dev, const work *w, uint64_t each, unsigned turn, result *r)
{
    (void)run(dev, w, each / ROUNDS / WARM_UP);
    double before = cpu_seconds(), start = (double)cmb_os_monotonic();
    double rate = run(dev, w, each / ROUNDS);
    double bytes = rate * ((double)cmb_os_monotonic() - start) / 1e9 * (double)w->length;
    r->rate[turn] = rate;
    r->cpu[turn] = (cpu_seconds() - before) / bytes;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts them. */
static double median(double values[ROUNDS])
{
    qsort(values, ROUNDS, sizeof *values, by_size);
    return (values[(ROUNDS - 1) / 2] + values[ROUNDS / 2]) / 2;
}

/* The rate by that of `first` in the same turn: their median, the least and the most. */
static void report(const work *w, const char *name, const result *r, const result *first)
{
    double ratios[ROUNDS];
    result sorted = *r;
    for (unsigned i = 0; i < ROUNDS; i++)
        ratios[i] = r->rate[i] / first->rate[i];
    double ratio = median(ratios), rate = median(sorted.rate), cpu = median(sorted.cpu);
    printf("%-5s %6llu B  %-24s %8.0f requests/s %8.1f MB/s  %5.2f (%.2f-%.2f) %7.1f ms of CPU a GB\n",
           w->op == CMB_OP_READ ? "read" : "write", (unsigned long long)w->length, name, rate, rate * (double)w->length / 1e6,
           ratio, ratios[0], ratios[ROUNDS - 1], cpu * 1e12);
    fflush(stdout);
}

/* For all requests in flight at once; lasts as long as the program. */
static uint8_t *buffers(bool huge)
{
    cmb_allocator alloc = cmb_allocator_or_default(NULL);
    size_t size = (size_t)IN_FLIGHT * LARGEST;
    uint8_t *memory = huge ? cmb_os_reserve(size) : cmb_io_buffer(&alloc, size);
    must(memory ? 0 : CMB_ENOMEM);
    memset(memory, 1, size);
    return memory;
}

/* Two devices by turns; how the second does by the first. */
static void against(char *const names[2], uint64_t each)
{
    cmb_device *devices[2];
    uint8_t *memory = buffers(/* huge= */ false);
    for (unsigned i = 0; i < 2; i++)
        must(cmb_device_open(names[i], CMB_OPEN_READ, NULL, &devices[i]));
    printf("reads past the cache, %u in flight; the rate by that of the first: median, and spread, of %u turns\n", IN_FLIGHT, ROUNDS);
    for (unsigned l = 0; l < CMB_COUNTOF(lengths); l++) {
        const work w = {.op = CMB_OP_READ, .size = PART, .length = lengths[l], .memory = memory};
        result results[2];
        for (unsigned turn = 0; turn < 2 * ROUNDS; turn++)
            measure(devices[turn % 2], &w, each, turn / 2, &results[turn % 2]);
        for (unsigned i = 0; i < 2; i++)
            report(&w, names[i], &results[i], &results[0]);
    }
    for (unsigned i = 0; i < 2; i++)
        cmb_device_close(devices[i]);
}

static void compare(const char *file, work *w, uint8_t *const memory[2], uint8_t *copy, uint64_t each)
{
    result results[CMB_COUNTOF(subjects)];
    unsigned first = 0;
    make_file(file);
    for (unsigned turn = 0; turn < ROUNDS * CMB_COUNTOF(subjects); turn++) {
        rig r;
        unsigned i = turn % CMB_COUNTOF(subjects);
        const subject *s = &subjects[i];
        rig_open(&r, file, s);
        w->memory = memory[s->huge];
        w->copy = s->copies ? copy : NULL;
        measure(r.dev, w, each, turn / CMB_COUNTOF(subjects), &results[i]);
        rig_close(&r, s);
    }
    for (unsigned i = 0; i < CMB_COUNTOF(subjects); i++) {
        first = subjects[i].huge && !subjects[first].huge ? i : first;
        report(w, subjects[i].name, &results[i], &results[first]);
    }
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
    uint8_t *const memory[2] = {buffers(/* huge= */ false), buffers(/* huge= */ true)};
    uint8_t *copy = buffers(/* huge= */ true);
    printf("reads past the cache, writes into it, %u in flight, %s; the rate by that of the file with the same buffers: median, and "
           "spread, of %u turns\n", IN_FLIGHT, file, ROUNDS);
    for (unsigned i = 0; i < 2 * CMB_COUNTOF(lengths); i++) {
        work w = {.op = i % 2 ? CMB_OP_WRITE : CMB_OP_READ, .size = SIZE, .length = lengths[i / 2]};
        compare(file, &w, memory, copy, each);
        unlink(file);
    }
    return 0;
}
