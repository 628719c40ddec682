/* SPDX-License-Identifier: ISC */
/*
 * The hash table over a list's intents. A bucket is a cache line: seven pointers and a byte of hash for each. What finds its
 * bucket full is left out: a lookup that finds a full bucket and not its key asks the index. So there are no chains, and keys
 * that were chosen to fall into one bucket cost no more than a seek.
 *
 * A table that has become too narrow is followed by one of twice the width; readers may still use the old one, which stays.
 */
#include "btree/intents_private.h"

#define WAYS 7u
#define LOAD_MAX 3u /* intents a bucket on the average; then a bucket in 30 is full */
#define WIDTH_FIRST 64u
#define WIDTH_LAST ((size_t)1 << 24) /* buckets; beyond it, more and more lookups ask the index */

typedef struct bucket {
    _Atomic uint64_t tags; /* a byte for each place, from the lowest; 0: free. The highest byte is not in use */
    const cmb_intent *intents[WAYS];
} bucket;
_Static_assert(sizeof(void *) != 8 || sizeof(bucket) == 64, "a bucket is a cache line");

struct cmb_intents_buckets {
    cmb_intents_buckets *older;
    size_t width; /* buckets, a power of two */
    size_t bytes; /* of this allocation */
    bucket *bucket;
};

static uint64_t tag_of(uint64_t hash)
{
    uint64_t tag = hash >> 56;
    return tag ? tag : 1;
}

static bucket *bucket_of(const cmb_intents_buckets *b, uint64_t hash)
{
    return &b->bucket[hash & (b->width - 1)];
}

/* Marks the high bit of each byte that may equal the tag; the lowest one marked does. */
static uint64_t matches(uint64_t tags, uint64_t tag)
{
    uint64_t x = tags ^ tag * 0x0101010101010101u;
    return (x - 0x0101010101010101u) & ~x & 0x0080808080808080u;
}

static unsigned used(uint64_t tags)
{
    return tags ? (unsigned)(63 - __builtin_clzll(tags)) / 8 + 1 : 0;
}

static void put(bucket *b, const cmb_intent *intent, uint64_t tag)
{
    uint64_t tags = atomic_load_explicit(&b->tags, memory_order_relaxed);
    unsigned at = used(tags);
    if (at == WAYS)
        return;
    b->intents[at] = intent;
    atomic_store_explicit(&b->tags, tags | tag << (8 * at), memory_order_release);
}

static cmb_intents_buckets *make(cmb_intents_table *table, size_t width)
{
    size_t bytes = sizeof(cmb_intents_buckets) + sizeof(bucket) + width * sizeof(bucket);
    cmb_intents_buckets *b = cmb_zalloc(table->alloc, bytes);
    if (!b)
        return NULL;
    b->width = width;
    b->bytes = bytes;
    b->bucket = (bucket *)(uintptr_t)cmb_align_up((uintptr_t)(b + 1), sizeof(bucket));
    return b;
}

int cmb_intents_table_reserve(cmb_intents_table *table, size_t n, const cmb_intents_index *index)
{
    cmb_intents_buckets *old = atomic_load_explicit(&table->buckets, memory_order_relaxed), *b;
    size_t width = old ? old->width : WIDTH_FIRST;
    while (n / LOAD_MAX >= width && width < WIDTH_LAST)
        width *= 2;
    if (old && width == old->width)
        return 0;
    b = make(table, width);
    if (!b)
        return CMB_ENOMEM;
    b->older = old;
    for (cmb_intents_pos pos = cmb_intents_index_first(index); pos.leaf; pos = cmb_intents_index_next(pos)) {
        const cmb_intent *intent = cmb_intents_at(pos);
        uint64_t hash = cmb_intents_hash(intent->key, intent->key_size);
        put(bucket_of(b, hash), intent, tag_of(hash));
    }
    atomic_fetch_add_explicit(&table->memory, b->bytes, memory_order_relaxed);
    atomic_store_explicit(&table->buckets, b, memory_order_release);
    return 0;
}

void cmb_intents_table_add(cmb_intents_table *table, const cmb_intent *intent, uint64_t hash)
{
    put(bucket_of(atomic_load_explicit(&table->buckets, memory_order_relaxed), hash), intent, tag_of(hash));
}

void cmb_intents_table_prefetch(const cmb_intents_table *table, uint64_t hash)
{
    const cmb_intents_buckets *b = atomic_load_explicit(&table->buckets, memory_order_acquire);
    if (b)
        __builtin_prefetch(bucket_of(b, hash));
}

const cmb_intent *cmb_intents_table_find(const cmb_intents_table *table, uint64_t hash, const uint8_t *key, size_t key_size,
                                         bool *out_sure)
{
    const cmb_intents_buckets *all = atomic_load_explicit(&table->buckets, memory_order_acquire);
    *out_sure = true;
    if (!all)
        return NULL;
    const bucket *b = bucket_of(all, hash);
    uint64_t tags = atomic_load_explicit(&b->tags, memory_order_acquire);
    unsigned n = used(tags);
    for (uint64_t found = matches(tags, tag_of(hash)); found; found &= found - 1) {
        unsigned at = (unsigned)__builtin_ctzll(found) / 8;
        const cmb_intent *intent = at < n ? b->intents[at] : NULL;
        if (intent && intent->key_size == key_size && memcmp(intent->key, key, key_size) == 0)
            return intent;
    }
    *out_sure = n < WAYS;
    return NULL;
}

void cmb_intents_table_release(cmb_intents_table *table)
{
    cmb_intents_buckets *b = atomic_load_explicit(&table->buckets, memory_order_relaxed);
    for (cmb_intents_buckets *older; b; b = older) {
        older = b->older;
        cmb_release(table->alloc, b, b->bytes);
    }
}
