/* SPDX-License-Identifier: ISC */
#include "bench/data.h"

#include <stdlib.h>
#include <string.h>

enum { POOL_SIZE = 1 << 20 };
#define DATA_SEED 0x63616d6269756d00u

uint64_t data_random(uint64_t *state)
{
    uint64_t x = *state += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static void fill(unsigned char *out, size_t size, uint64_t *state)
{
    for (size_t i = 0; i < size; i += 8) {
        uint64_t word = data_random(state);
        memcpy(out + i, &word, 8);
    }
}

static int by_key(const void *a, const void *b)
{
    return memcmp(a, b, KEY_SIZE);
}

bool data_make(dataset *d, size_t n, size_t more)
{
    uint64_t state = DATA_SEED;
    *d = (dataset){.n = n, .more = more};
    d->keys = malloc((n + more) * KEY_SIZE);
    d->sorted = malloc(n * KEY_SIZE);
    d->pool = malloc(POOL_SIZE);
    if (!d->keys || !d->sorted || !d->pool) {
        data_free(d);
        return false;
    }
    fill(d->keys, (n + more) * KEY_SIZE, &state);
    fill(d->pool, POOL_SIZE, &state);
    memcpy(d->sorted, d->keys, n * KEY_SIZE);
    qsort(d->sorted, n, KEY_SIZE, by_key);
    return true;
}

void data_free(dataset *d)
{
    free(d->keys);
    free(d->sorted);
    free(d->pool);
    *d = (dataset){0};
}

slice data_value(const dataset *d, slice key)
{
    uint32_t word;
    memcpy(&word, key.data, sizeof word);
    return (slice){d->pool + word % (POOL_SIZE - VALUE_SIZE), VALUE_SIZE};
}

static uint64_t add_bytes(uint64_t digest, slice s)
{
    const unsigned char *at = s.data;
    for (size_t i = 0; i < s.size; i++)
        digest = (digest ^ at[i]) * 0x100000001b3u;
    return digest ^ s.size;
}

uint64_t data_digest(uint64_t digest, slice key, slice value)
{
    return add_bytes(add_bytes(digest, key), value);
}
