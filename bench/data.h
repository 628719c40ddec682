/* SPDX-License-Identifier: ISC */
/*
 * data.h: the entries that are written and read: random keys of 24 bytes, values of 150 bytes that follow from
 * their key. The same seed makes the same entries, so that every engine gets the same work.
 */
#ifndef BENCH_DATA_H
#define BENCH_DATA_H

#include "bench/peer.h"

enum { KEY_SIZE = 24, VALUE_SIZE = 150, ENTRY_SIZE = KEY_SIZE + VALUE_SIZE };

typedef struct dataset {
    size_t n;               /* entries that are loaded */
    size_t more;            /* further entries, for single inserts */
    unsigned char *keys;    /* n + more keys in random order */
    unsigned char *sorted;  /* the first n of them in ascending order */
    unsigned char *pool;    /* random bytes that values are cut from */
} dataset;

bool data_make(dataset *d, size_t n, size_t more);
void data_free(dataset *d);

static inline slice data_key(const dataset *d, size_t i)
{
    return (slice){d->keys + i * KEY_SIZE, KEY_SIZE};
}
static inline slice data_sorted_key(const dataset *d, size_t i)
{
    return (slice){d->sorted + i * KEY_SIZE, KEY_SIZE};
}
slice data_value(const dataset *d, slice key);

/* A digest of a sequence of entries: start with 0, add each. */
uint64_t data_digest(uint64_t digest, slice key, slice value);

/* A small generator of random numbers (splitmix64); `state` is its seed. */
uint64_t data_random(uint64_t *state);

#endif
