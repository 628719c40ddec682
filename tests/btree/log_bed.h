/* SPDX-License-Identifier: ISC */
/* log_bed.h: a log on a device in memory, for the tests of what reads records from one. Include after node_bed.h. */
#ifndef CMB_TESTS_BTREE_LOG_BED_H
#define CMB_TESTS_BTREE_LOG_BED_H

#include "btree/tree.h"

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        int ok_error = (call);                                                                                         \
        if (ok_error)                                                                                                  \
            fail_msg("%s: %s (%s)", #call, cmb_strerror(ok_error), cmb_error_detail());                                \
    } while (0)

#define TARGET 4096u

typedef struct ground {
    cmb_device *dev;
    cmb_log *log;
    cmb_appender *app;
    bool epoch_start;
} ground;

/* A fixed device in memory can be mapped, a growing one cannot. rules: what goes wrong once the log is open. */
static inline void ground_open(ground *g, uint64_t size, const cmb_fault_rule *rules, size_t n)
{
    *g = (ground){0};
    cmb_allocator alloc = cmb_allocator_or_default(NULL);
    OK(cmb_device_mem(size, NULL, &g->dev));
    if (n)
        OK(cmb_device_fault(g->dev, rules, n, 1, &g->dev));
    cmb_image_params params = {.segment_shift = CMB_SEGMENT_SHIFT_MIN, .hash_kind = HASH, .node_target = TARGET, .fixed_size = size};
    OK(cmb_log_format(g->dev, &params, &alloc, NULL));
    cmb_log_options options = {.writable = true};
    OK(cmb_log_open(g->dev, &options, &g->log));
}

static inline void ground_close(ground *g)
{
    (void)cmb_log_close(g->log); /* its error, where faults are injected, is not what is tested */
    cmb_device_close(g->dev);
}

static inline cmb_appender *ground_begin(ground *g)
{
    OK(cmb_log_begin(g->log, &g->app, &g->epoch_start));
    return g->app;
}

/* Publishes without waiting: the unit is queued, unless a checkpoint is due, as with the first. */
static inline uint64_t ground_publish(ground *g)
{
    uint64_t seq, addr;
    if (g->epoch_start || cmb_log_checkpoint_due(g->log)) {
        OK(cmb_append_record(g->app, CMB_RECORD_ROOT, "root", 4, &addr));
        OK(cmb_log_checkpoint(g->app, addr, CMB_RECORD_HEADER + 4, NULL, 0, &seq));
    } else {
        OK(cmb_log_publish(g->app, "edit", 4, &seq));
    }
    return seq;
}

static inline void ground_commit(ground *g) { OK(cmb_log_sync(g->log, ground_publish(g))); }

/* Flips a bit of a written record on the device. */
static inline void damage(ground *g, uint64_t addr, uint32_t length, uint32_t at)
{
    _Alignas(CMB_BLOCK) static uint8_t block[CMB_BLOCK];
    uint64_t offset;
    cmb_queue *queue;
    assert_true(cmb_log_locate(g->log, addr, length, &offset));
    OK(cmb_log_queue_take(g->log, &queue));
    uint64_t from = (offset + at) & ~(uint64_t)(CMB_BLOCK - 1);
    OK(cmb_io_read(queue, from, block, CMB_BLOCK, 0));
    block[offset + at - from] ^= 4;
    OK(cmb_io_write(queue, from, block, CMB_BLOCK));
    cmb_log_queue_give(g->log, queue);
}

/* ---- an allocator that fails, and knows what is out ---- */

typedef struct meter {
    uint64_t left; /* allocations before all fail */
    int64_t bytes;
} meter;

static inline void *meter_alloc(void *ctx, size_t size)
{
    meter *m = ctx;
    if (m->left == 0)
        return NULL;
    m->left--;
    m->bytes += (int64_t)size;
    return malloc(size ? size : 1);
}
static inline void *meter_resize(void *ctx, void *ptr, size_t old_size, size_t new_size)
{
    meter *m = ctx;
    if (m->left == 0)
        return NULL;
    m->left--;
    m->bytes += (int64_t)new_size - (int64_t)old_size;
    return realloc(ptr, new_size);
}
static inline void meter_release(void *ctx, void *ptr, size_t size)
{
    meter *m = ctx;
    m->bytes -= ptr ? (int64_t)size : 0;
    free(ptr);
}
static inline cmb_allocator meter_allocator(meter *m)
{
    return (cmb_allocator){m, meter_alloc, meter_resize, meter_release};
}

#endif
