/* SPDX-License-Identifier: ISC */
/* node_bed.h: random sorted entries, and what the tests of nodes share. The seed is printed; CMB_SEED replays it. */
#ifndef CMB_TESTS_BTREE_NODE_BED_H
#define CMB_TESTS_BTREE_NODE_BED_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "btree/node.h"

#define HASH CMB_HASH_XXH3

static uint64_t rng_state;

static inline uint64_t rng(void)
{
    uint64_t z = rng_state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}
static inline uint32_t below(uint64_t n) { return (uint32_t)(rng() % n); }

static inline uint64_t env_number(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 0) : otherwise;
}

static inline int seed_group(void **state)
{
    (void)state;
    rng_state = env_number("CMB_SEED", 1);
    print_message("CMB_SEED=%llu\n", (unsigned long long)rng_state);
    return 0;
}

static inline uint32_t budget(uint32_t n) { return n * (uint32_t)env_number("CMB_BUDGET", 1); }

/* ---- entries: an array that a node is compared with ---- */

typedef struct model {
    cmb_entry entries[600];
    cmb_valref far[600];
    cmb_noderef children[600];
    uint32_t n;
    unsigned level;
    uint8_t *arena;
    size_t used, size;
} model;

static inline uint8_t *model_bytes(model *m, size_t size)
{
    assert_true(m->used + size <= m->size);
    uint8_t *p = m->arena + m->used;
    m->used += size;
    return p;
}

static inline void model_init(model *m)
{
    memset(m, 0, sizeof *m);
    m->size = 24u << 20;
    m->arena = malloc(m->size);
    assert_non_null(m->arena);
}
static inline void model_free(model *m) { free(m->arena); }

static inline int compare_entries(const void *a, const void *b)
{
    const cmb_entry *x = a, *y = b;
    return cmb_compare(x->key, x->key_size, y->key, y->key_size);
}

static inline void random_name(cmb_name *name)
{
    name->size = (uint8_t)cmb_name_size(HASH);
    for (unsigned i = 0; i < name->size; i++)
        name->bytes[i] = (uint8_t)rng();
}

/* The characters of this node's keys: few, so that keys share beginnings, with 0 and 0xff among them. */
static inline uint8_t random_character(unsigned alphabet)
{
    static const uint8_t few[] = {0, 0xff, 'a', 'b', 1, 0xfe, 0x80, 0x7f};
    return alphabet <= 8 ? few[below(alphabet)] : (uint8_t)rng();
}

static inline void random_key(model *m, cmb_entry *e, unsigned alphabet, uint32_t prefix, uint32_t size)
{
    uint8_t *key = model_bytes(m, size);
    for (uint32_t i = 0; i < size; i++)
        key[i] = i < prefix ? (uint8_t)(i * 7) : random_character(alphabet);
    e->key = key;
    e->key_size = size;
}

static inline void random_leaf_value(model *m, uint32_t i, uint32_t size_max, unsigned far_percent)
{
    cmb_entry *e = &m->entries[i];
    if (below(100) < far_percent) {
        m->far[i] = (cmb_valref){.addr = 16u * (1 + below(1000)), .length = 16 + below(1000), .size = (uint32_t)rng()};
        random_name(&m->far[i].name);
        e->valref = &m->far[i];
        return;
    }
    e->value_size = size_max & 1 ? size_max : below(size_max + 1); /* odd: all alike */
    uint8_t *value = model_bytes(m, e->value_size);
    for (uint32_t k = 0; k < e->value_size; k++)
        value[k] = (uint8_t)rng();
    e->value = e->value_size ? value : NULL;
}

static inline void random_child(model *m, uint32_t i, unsigned count_bits, unsigned addr_bits)
{
    cmb_noderef *c = &m->children[i];
    *c = (cmb_noderef){
        .addr = 16 * (1 + (rng() >> (64 - addr_bits))),
        .count = 1 + (rng() >> (64 - count_bits)),
        .length = 16 * (3 + below(below(2) ? 200 : 40000)),
        .level = (uint8_t)(m->level - 1),
        .out_of_line = below(16) == 0,
        .cut = below(4) == 0,
    };
    random_name(&c->name);
    m->entries[i].child = c;
}

static inline void sort_keys(model *m)
{
    qsort(m->entries, m->n, sizeof m->entries[0], compare_entries);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < m->n; i++)
        if (kept == 0 || compare_entries(&m->entries[kept - 1], &m->entries[i]) != 0)
            m->entries[kept++] = m->entries[i];
    m->n = kept;
}

/* A random node's content of at most n_max entries; sizes small enough for a record. */
static inline void model_random(model *m, unsigned level, uint32_t n_max)
{
    static const unsigned alphabets[] = {1, 2, 3, 8, 256};
    static const uint32_t key_sizes[] = {1, 4, 8, 9, 24, 200, CMB_KEY_MAX};
    unsigned alphabet = alphabets[below(5)], count_bits = 1 + below(40), addr_bits = 1 + below(38);
    uint32_t key_max = key_sizes[below(7)], prefix = below(4) ? below(12) : 0;
    uint32_t value_max = below(3) ? below(200) : below(6000);
    bool alike = below(2);
    unsigned far = below(3) ? 0 : below(101);
    memset(m->entries, 0, sizeof m->entries);
    m->used = 0;
    m->level = level;
    m->n = level == 0 ? below(n_max + 1) : 1 + below(n_max);
    if (key_max == CMB_KEY_MAX || value_max > 1000)
        m->n = m->n % 24 + (level > 0);
    for (uint32_t i = 0; i < m->n; i++)
        random_key(m, &m->entries[i], alphabet, prefix < key_max ? prefix : 0, alike ? key_max : 1 + below(key_max));
    sort_keys(m);
    for (uint32_t i = 0; i < m->n; i++) {
        if (level == 0)
            random_leaf_value(m, i, value_max, far);
        else
            random_child(m, i, count_bits, addr_bits);
    }
}

#define NODE_ADDR (UINT64_C(1) << 44) /* above all that random entries refer to */

static inline cmb_noderef model_encode(const model *m, cmb_node_buffer *buffer)
{
    cmb_allocator alloc = cmb_allocator_or_default(NULL);
    cmb_noderef ref;
    int error = cmb_node_encode(&alloc, HASH, m->level, m->entries, m->n, buffer, &ref);
    if (error)
        fail_msg("%s", cmb_error_detail());
    ref.addr = NODE_ADDR;
    cmb_node_place(buffer->data, ref.addr);
    return ref;
}

static inline void buffer_free(cmb_node_buffer *buffer)
{
    cmb_allocator alloc = cmb_allocator_or_default(NULL);
    cmb_release(&alloc, buffer->data, buffer->capacity);
    *buffer = (cmb_node_buffer){0};
}

#endif
