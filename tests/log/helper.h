/* SPDX-License-Identifier: ISC */
/* helper.h: a deterministic environment, small images and scripted units for the tests of log/. */
#ifndef CMB_TESTS_LOG_HELPER_H
#define CMB_TESTS_LOG_HELPER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "log/log.h"

typedef struct th_random { uint64_t state; } th_random;

static inline uint64_t th_next(th_random *r)
{
    uint64_t z = (r->state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static inline uint64_t th_below(th_random *r, uint64_t n) { return th_next(r) % n; }

static inline uint64_t th_seed(void)
{
    const char *text = getenv("CMB_SEED");
    uint64_t seed = text ? strtoull(text, NULL, 0) : 20261;
    print_message("CMB_SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

static inline unsigned th_budget(void)
{
    const char *text = getenv("CMB_BUDGET");
    long n = text ? atol(text) : 1;
    return n < 1 ? 1 : (unsigned)n;
}

static inline int th_env_random(void *ctx, void *out, size_t n)
{
    th_random *r = ctx;
    for (size_t i = 0; i < n; i++)
        ((uint8_t *)out)[i] = (uint8_t)th_next(r);
    return 0;
}
static inline int64_t th_env_now(void *ctx) { (void)ctx; return 1000000; }
static inline cmb_env th_env(th_random *r) { return (cmb_env){r, th_env_now, th_env_random}; }

static inline cmb_image_params th_params(uint64_t fixed, unsigned shift)
{
    cmb_image_params p = {.segment_shift = (uint8_t)shift, .hash_kind = 1, .node_target = 4096, .boundary_seed = 7,
                          .fixed_size = fixed};
    for (unsigned i = 0; i < 16; i++)
        p.uuid[i] = (uint8_t)(i + 1);
    return p;
}

#define th_ok(call)                                                                                  \
    do {                                                                                             \
        int th_e = (call);                                                                           \
        if (th_e)                                                                                    \
            print_message("%s:%d: %s: %s: %s\n", __FILE__, __LINE__, #call, cmb_error_name(th_e),    \
                          cmb_error_detail());                                                       \
        assert_int_equal(th_e, 0);                                                                   \
    } while (0)

static inline cmb_device *th_mem(uint64_t size)
{
    cmb_device *dev;
    th_ok(cmb_device_mem(size, NULL, &dev));
    return dev;
}

static inline void th_format(cmb_device *dev, uint64_t fixed, unsigned shift, th_random *r)
{
    cmb_image_params p = th_params(fixed, shift);
    cmb_env env = th_env(r);
    th_ok(cmb_log_format(dev, &p, NULL, &env));
}

/* What replay was told, in order. */
typedef struct th_edits {
    uint64_t values[4096];
    size_t n;
} th_edits;

static inline int th_replay(void *ctx, uint8_t kind, uint64_t addr, const void *payload, uint32_t length)
{
    th_edits *edits = ctx;
    (void)kind;
    (void)addr;
    if (edits && length >= 8 && edits->n < CMB_COUNTOF(edits->values))
        edits->values[edits->n++] = cmb_get64(payload);
    return 0;
}

static inline int th_open_as(cmb_device *dev, bool writable, th_random *r, th_edits *edits, cmb_log **out)
{
    cmb_log_options o = {.writable = writable, .replay = th_replay, .ctx = edits, .env = th_env(r)};
    if (edits)
        edits->n = 0;
    return cmb_log_open(dev, &o, out);
}

/* The bytes of a record are a function of its address and length. */
static inline void th_fill(void *record, uint32_t length, uint64_t addr)
{
    th_random r = {addr};
    uint8_t *p = (uint8_t *)record + CMB_RECORD_HEADER;
    for (uint32_t i = 0; i + CMB_RECORD_HEADER < length; i++)
        p[i] = (uint8_t)(i % 8 ? p[i - 1] * 3u + 1u : th_next(&r));
    cmb_record_seal(record, CMB_RECORD_LEAF, length, addr);
}

static inline int th_append(cmb_appender *app, uint32_t length, uint64_t *out_addr)
{
    void *buf;
    int e = cmb_append(app, length, out_addr, &buf);
    if (!e)
        th_fill(buf, length, *out_addr);
    return e;
}

static inline void th_check(cmb_log *log, uint64_t addr, uint32_t length)
{
    uint8_t *got = malloc(length), *want = calloc(1, length);
    th_ok(cmb_log_read(log, NULL, addr, length, got));
    th_fill(want, length, addr);
    assert_memory_equal(got, want, length);
    const void *peek = cmb_log_peek(log, addr, length);
    if (peek)
        assert_memory_equal(peek, want, length);
    free(got);
    free(want);
}

/* Ends a unit by a checkpoint whose root holds `value`. */
static inline int th_checkpoint(cmb_appender *app, uint64_t value, uint64_t *out_seq)
{
    uint64_t addr;
    uint8_t payload[8];
    cmb_put64(payload, value);
    int e = cmb_append_record(app, CMB_RECORD_ROOT, payload, 8, &addr);
    return e ? e : cmb_log_checkpoint(app, addr, 8 + CMB_RECORD_HEADER, NULL, 0, out_seq);
}

static inline uint64_t th_root(cmb_log *log)
{
    uint64_t addr;
    uint32_t length;
    uint8_t buf[8 + CMB_RECORD_HEADER];
    cmb_log_root(log, &addr, &length);
    if (!length)
        return 0;
    assert_int_equal(length, sizeof buf);
    th_ok(cmb_log_read(log, NULL, addr, length, buf));
    th_ok(cmb_record_check(buf, length, addr));
    return cmb_get64(buf + CMB_RECORD_HEADER);
}

/* Begins the epoch with a checkpoint of `value`. */
static inline void th_start(cmb_log *log, uint64_t value)
{
    cmb_appender *app;
    uint64_t seq;
    bool start;
    th_ok(cmb_log_begin(log, &app, &start));
    assert_true(start);
    th_ok(th_checkpoint(app, value, &seq));
}

/* A unit of one record and one edit. */
static inline int th_unit(cmb_log *log, uint32_t length, uint64_t value, uint64_t *out_addr, uint64_t *out_seq)
{
    cmb_appender *app;
    uint8_t edit[8];
    cmb_put64(edit, value);
    int e = cmb_log_begin(log, &app, NULL);
    if (e)
        return e;
    e = th_append(app, length, out_addr);
    if (!e)
        e = cmb_log_publish(app, edit, sizeof edit, out_seq);
    if (e)
        cmb_append_abort(app);
    return e;
}

#endif
