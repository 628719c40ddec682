/* SPDX-License-Identifier: ISC */
/*
 * node_private.h: what the files that implement node.h share: the parts of one key within a node,
 * and comparing them. A key is prefix, head (up to 8 bytes) and rest; keys of one node compare as
 * (head as an integer, bytes in the head, rest): of two equal zero-padded heads the one that holds
 * fewer bytes is a prefix of the other key.
 */
#ifndef CMB_BTREE_NODE_PRIVATE_H
#define CMB_BTREE_NODE_PRIVATE_H

#include "btree/node.h"

#define CMB_NODE_FAR_PLACE 12u     /* trailer bytes of an out-of-line value: address and length */
#define CMB_NODE_TRAILER_HEADER 10u /* of an internal node: base and two widths */

/* What follows the prefix in a key that is looked for. */
typedef struct cmb_suffix {
    uint64_t head;
    uint32_t head_size;
    uint32_t rest_size;
    const uint8_t *rest;
} cmb_suffix;

static inline uint64_t cmb_load_be64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return CMB_BE64(v);
}

static inline uint64_t cmb_head_of(const uint8_t *p, size_t size)
{
    if (CMB_LIKELY(size >= 8))
        return cmb_load_be64(p);
    uint64_t v = 0;
    for (size_t i = 0; i < size; i++)
        v |= (uint64_t)p[i] << (56 - 8 * i);
    return v;
}

static inline void cmb_suffix_of(const uint8_t *p, size_t size, cmb_suffix *out)
{
    out->head = cmb_head_of(p, size);
    out->head_size = size < 8 ? (uint32_t)size : 8;
    out->rest = p + out->head_size;
    out->rest_size = (uint32_t)size - out->head_size;
}

/* memcmp for the short strings that keys are made of, without a call. */
static inline int cmb_compare_equal_sized(const uint8_t *a, const uint8_t *b, uint32_t n)
{
    if (n > 64)
        return memcmp(a, b, n);
    for (; n >= 8; n -= 8, a += 8, b += 8) {
        uint64_t x = cmb_load_be64(a), y = cmb_load_be64(b);
        if (x != y)
            return x < y ? -1 : 1;
    }
    uint64_t x = cmb_head_of(a, n), y = cmb_head_of(b, n);
    return (x > y) - (x < y);
}

static inline uint64_t cmb_node_head(const cmb_node *node, uint32_t i) { return cmb_get64(node->heads + 8 * (size_t)i); }
static inline uint32_t cmb_node_head_size(const cmb_node *node, uint32_t i)
{
    return node->head_sizes ? node->head_sizes[i] : 8;
}
static inline uint32_t cmb_node_rest_size(const cmb_node *node, uint32_t i)
{
    if (!node->key_offsets)
        return node->rest_size;
    return cmb_node_offset(node, node->key_offsets, i + 1) - cmb_node_offset(node, node->key_offsets, i);
}
static inline const uint8_t *cmb_node_rest(const cmb_node *node, uint32_t i)
{
    return node->rests + (node->key_offsets ? cmb_node_offset(node, node->key_offsets, i) : (size_t)i * node->rest_size);
}

/* Entry i against a suffix whose head, as an integer, equals the entry's. */
static inline int cmb_node_compare_tied(const cmb_node *node, uint32_t i, const cmb_suffix *suffix)
{
    uint32_t head_size = cmb_node_head_size(node, i);
    if (head_size != suffix->head_size)
        return head_size < suffix->head_size ? -1 : 1;
    uint32_t size = cmb_node_rest_size(node, i);
    int c = cmb_compare_equal_sized(cmb_node_rest(node, i), suffix->rest, size < suffix->rest_size ? size : suffix->rest_size);
    return c ? c : (size > suffix->rest_size) - (size < suffix->rest_size);
}

/* The ways to count heads below one that this processor can run, the fastest first: all give the same results. */
#define CMB_HEAD_COUNTERS 3u
typedef uint32_t (*cmb_count_below_fn)(const uint8_t *heads, uint32_t n, uint64_t head);
typedef struct cmb_head_counter {
    const char *name;
    cmb_count_below_fn count;
} cmb_head_counter;
unsigned cmb_head_counters(cmb_head_counter out[CMB_HEAD_COUNTERS]); /* how many there are */

/* The check of a record whose first 8 bytes, body and trailer are complete. */
uint64_t cmb_node_check(const void *record, uint64_t addr);

#endif
