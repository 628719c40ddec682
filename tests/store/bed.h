/* SPDX-License-Identifier: ISC */
/* bed.h: what the tests of store/ share: an image in memory, injected clock and randomness, short ways to write and read. */
#ifndef CMB_TEST_STORE_BED_H
#define CMB_TEST_STORE_BED_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <cambium/cambium.h>

static inline int bed_must(int error, const char *what, const char *file, int line)
{
    if (error) {
        print_message("%s: %s: %s\n", what, cmb_error_name(error), cmb_error_detail());
        _fail(file, line);
    }
    return error;
}
#define must(x) bed_must((x), #x, __FILE__, __LINE__)
#define must_be(x, error) assert_string_equal(cmb_error_name(x), cmb_error_name(error))

static inline cmb_bytes str(const char *s)
{
    return (cmb_bytes){s, strlen(s)};
}

/* A clock that ticks once a call, and numbers that follow from a seed. */
typedef struct bed_env {
    int64_t now;
    uint64_t random;
} bed_env;

static inline uint64_t bed_mix(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static inline int64_t bed_now(void *ctx)
{
    bed_env *e = ctx;
    return e->now += 1000000;
}

static inline int bed_random(void *ctx, void *out, size_t n)
{
    bed_env *e = ctx;
    for (size_t i = 0; i < n; i++)
        ((uint8_t *)out)[i] = (uint8_t)bed_mix(&e->random);
    return 0;
}

static inline uint64_t bed_seed(void)
{
    const char *s = getenv("CMB_SEED");
    return s ? strtoull(s, NULL, 0) : 1;
}

static inline unsigned bed_budget(void)
{
    const char *s = getenv("CMB_BUDGET");
    unsigned n = s ? (unsigned)strtoul(s, NULL, 0) : 1;
    return n ? n : 1;
}

typedef struct bed {
    cmb_device *dev;
    cmb_store *store;
    bed_env env;
    cmb_store_options options;
} bed;

/* An image in memory, made and opened. size 0: grows. */
static inline void bed_open_with(bed *b, uint64_t size, const cmb_init_options *init)
{
    b->env = (bed_env){.now = 1700000000000000, .random = 42};
    b->options.env = (cmb_env){.ctx = &b->env, .now = bed_now, .random = bed_random};
    must(cmb_device_mem(size, NULL, &b->dev));
    must(cmb_store_init_device(b->dev, init, &b->options));
    must(cmb_store_open_device(b->dev, &b->options, &b->store));
}

static inline void bed_open(bed *b)
{
    memset(b, 0, sizeof *b);
    bed_open_with(b, 0, NULL);
}

static inline void bed_close(bed *b)
{
    must(cmb_store_close(b->store));
    cmb_device_close(b->dev);
}

static inline void bed_reopen(bed *b)
{
    must(cmb_store_close(b->store));
    b->store = NULL;
    must(cmb_store_open_device(b->dev, &b->options, &b->store));
}

/* One transaction with one put; message NULL: a working state. */
static inline cmb_rev put(cmb_store *store, const char *branch, const char *key, const char *value, const char *message)
{
    cmb_txn *txn;
    cmb_rev rev;
    cmb_commit_info info = {.author = "ada", .message = message};
    must(cmb_txn_begin(store, branch, 0, &txn));
    must(cmb_txn_put(txn, str(key), str(value)));
    must(cmb_txn_commit(txn, message ? &info : NULL, &rev));
    return rev;
}

static inline cmb_rev rev_of(cmb_store *store, const char *name)
{
    cmb_rev rev;
    must(cmb_rev_parse(store, name, &rev));
    return rev;
}

/* The value of a key at a revision is this text; NULL: there is none. */
static inline void expect(cmb_store *store, const char *rev, const char *key, const char *value)
{
    cmb_snapshot *snapshot;
    cmb_bytes got;
    must(cmb_snapshot_open(store, rev, &snapshot));
    int error = cmb_get(snapshot, str(key), &got);
    if (value) {
        must(error);
        assert_int_equal(got.size, strlen(value));
        assert_memory_equal(got.data, value, got.size);
    } else {
        must_be(error, CMB_ENOTFOUND);
    }
    cmb_snapshot_close(snapshot);
}

static inline bool same_name(const cmb_name *a, const cmb_name *b)
{
    return a->size == b->size && memcmp(a->bytes, b->bytes, a->size) == 0;
}

static inline void hex_of(const cmb_name *name, char out[2 * CMB_NAME_MAX + 1])
{
    out[0] = 0;
    for (unsigned i = 0; i < name->size; i++)
        snprintf(out + 2 * i, 3, "%02x", name->bytes[i]);
}

#endif
