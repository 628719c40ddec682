/* SPDX-License-Identifier: ISC */
/*
 * node.h: one node as it lies on disk, searched in place.
 *
 * A node's name is the hash of its *body*: level, keys, values, children's names and counts and the
 * out-of-line bit. The body is a deterministic function of that content. Where children and
 * out-of-line values lie stands in the *trailer*, which the name does not cover; the record's check
 * covers the first 8 header bytes and the trailer, seeded with the record's own address. So the same
 * tree laid out elsewhere has the same names.
 *
 *   record   0  u32 length  u8 kind (LEAF, NODE)  u8[3] 0   u64 check
 *   body    16  u32 body length (from 16 to the trailer)    u16 count   u8 level (0: leaf)   u8 flags
 *           24  u64 entries in the subtree
 *           32  u16 prefix length   u16 rest length (FIXED_KEYS; else 0)
 *           36  u32 leaf: value slot length (FIXED_VALUES; else 0); internal: bytes of a count (1..8)
 *           40  common prefix of all keys; zeros up to a multiple of 8
 *               u64 heads[count]: the next 8 bytes of each key, as little-endian words that hold the
 *               big-endian value, zero-padded: integer order is byte order
 *               key offsets   [count + 1] u16 (WIDE: u32) into the rests, unless FIXED_KEYS
 *               leaf: value offsets [count + 1] u16 (WIDE: u32) into the values, unless FIXED_VALUES
 *               SHORT_KEYS:  u8 bytes of each key that its head holds (0..8)
 *               OUT_OF_LINE (leaf): bitmap of (count + 7) / 8 bytes, low bit first
 *               internal: counts, each count << 2 | cut << 1 | out-of-line, in as few bytes as the largest needs
 *               rests: what follows prefix and head of each key
 *               leaf: values; an out-of-line one is u32 size and its name
 *               internal: names of the children, one after the other
 *   trailer     internal: u64 base, u8 address width, u8 length width; addresses[count], each address / 16 - base;
 *               lengths[count], each length / 16; widths as small as the largest allows, base the smallest address / 16
 *               leaf: per out-of-line value u64 address, u32 length of its CHUNK (one chunk) or CHUNKS record
 *   zeros up to a multiple of 16
 *
 * check = hash64(trailer and zeros, seed = hash64(first 8 bytes, seed = address)).
 *
 * FIXED_KEYS is set exactly when all rests are equally long (so too for none or one), FIXED_VALUES
 * (leaves only) exactly when all value slots are, SHORT_KEYS exactly when some head is shorter than 8,
 * WIDE exactly when an offset that is stored would not fit 16 bits; the prefix is the longest that all
 * keys share, the whole key if there is one only: so equal content is equal bytes. A key of an internal node is the last key of that
 * child's subtree. `cut`: the child's end is not a boundary of round 0 (boundary.h).
 *
 * Addresses of children are lower than the node's own: graphs from disk are acyclic by rule.
 */
#ifndef CMB_BTREE_NODE_H
#define CMB_BTREE_NODE_H

#include "io/base.h"
#include "log/log.h"

#define CMB_NODE_HEADER 40u
#define CMB_NODE_COUNT_MAX 65535u
#define CMB_LEVEL_MAX 62u

enum {
    CMB_NODE_OUT_OF_LINE = 1u << 0, /* this subtree refers to out-of-line values */
    CMB_NODE_FIXED_KEYS = 1u << 1,
    CMB_NODE_FIXED_VALUES = 1u << 2,
    CMB_NODE_SHORT_KEYS = 1u << 3,
    CMB_NODE_WIDE = 1u << 4,
};

/* A reference to a node: what a parent, a commit or a ref table holds. */
typedef struct cmb_noderef {
    uint64_t addr;  /* 0: the empty tree that was never written */
    uint64_t count; /* entries in the subtree */
    uint32_t length; /* bytes of the record, multiple of 16 */
    uint8_t level;
    bool out_of_line;
    bool cut;
    cmb_name name;
} cmb_noderef;

/* A reference to an out-of-line value. */
typedef struct cmb_valref {
    uint64_t addr;
    uint32_t length; /* bytes of the CHUNK or CHUNKS record */
    uint32_t size;   /* bytes of the value */
    cmb_name name;   /* hash of the chunks' names, one after the other, and the size as u32 */
} cmb_valref;

/* One entry on its way into a node, or out of one. Pointers are borrowed. */
typedef struct cmb_entry {
    const uint8_t *key;
    uint32_t key_size;
    uint32_t value_size;       /* leaf, inline */
    const uint8_t *value;      /* leaf, inline; NULL with size 0 allowed */
    const cmb_valref *valref;  /* leaf, out of line; else NULL */
    const cmb_noderef *child;  /* internal; else NULL */
} cmb_entry;

/* A node in memory, with its parts' places worked out. Borrowed from whoever keeps the record resident. */
typedef struct cmb_node {
    const uint8_t *record;
    const uint8_t *prefix;
    const uint8_t *heads;         /* 8 bytes each, aligned to 8: little-endian words */
    const uint8_t *key_offsets;   /* NULL: FIXED_KEYS */
    const uint8_t *value_offsets; /* NULL: FIXED_VALUES, or internal */
    const uint8_t *head_sizes;    /* NULL: all 8 */
    const uint8_t *ool_map;       /* NULL: no out-of-line value in this leaf, or internal */
    const uint8_t *counts;        /* internal */
    const uint8_t *rests;
    const uint8_t *values;        /* leaf: values; internal: names */
    const uint8_t *trailer;
    uint32_t length, body_length; /* bytes */
    uint32_t count;
    uint32_t value_size;          /* leaf: FIXED_VALUES; internal: bytes of a count */
    uint16_t prefix_size, rest_size;
    uint8_t level, flags, name_size;
} cmb_node;

/*
 * Makes a record from sorted entries (n 0 only for the empty leaf). The buffer grows as needed
 * (alloc, kept for reuse). The check in the header is left for cmb_node_place. out_ref gets
 * everything but the address and `cut`.
 */
typedef struct cmb_node_buffer {
    uint8_t *data;
    size_t capacity;
} cmb_node_buffer;
int cmb_node_encode(const cmb_allocator *alloc, cmb_hash_kind hash, unsigned level, const cmb_entry *entries,
                    uint32_t n, cmb_node_buffer *buffer, cmb_noderef *out_ref);
/* Completes the record's check for the address where it is put; record is the final copy. */
void cmb_node_place(void *record, uint64_t addr);

/*
 * Is this the node that `ref` names, and is every access within it safe? Name, check, structure,
 * order of keys, child addresses below its own. CMB_ECORRUPT with a detail that names the address,
 * expected and found hash. After this, cmb_node_open needs no checks. `record` must be aligned to 8.
 */
int cmb_node_verify(cmb_hash_kind hash, const void *record, const cmb_noderef *ref);
/* The same of a record of `length` bytes that no reference is at hand for: *out_ref is the one that would name it (cut: false). */
int cmb_node_verify_alone(cmb_hash_kind hash, const void *record, uint32_t length, uint64_t addr, cmb_noderef *out_ref,
                          cmb_node *out_node);

/* Does the record of a node begin here, by its sizes and its own check? That says nothing of its body, whose name its parent holds.
 * `limit`: bytes readable, aligned to 8. The log's cmb_node_plausible_fn. */
bool cmb_node_plausible(const void *record, uint32_t limit, uint64_t addr);

/* ---- searching and reading ---- */

/* Entry i of an offset array, of n + 1 for n parts. */
static inline uint32_t cmb_node_offset(const cmb_node *node, const uint8_t *offsets, uint32_t i)
{
    return node->flags & CMB_NODE_WIDE ? cmb_get32(offsets + 4 * (size_t)i) : cmb_get16(offsets + 2 * (size_t)i);
}

/* Works out the parts of a verified record. */
static inline void cmb_node_open(cmb_hash_kind hash, const void *record, cmb_node *out_node)
{
    const uint8_t *r = record;
    cmb_node *n = out_node;
    n->record = r;
    n->length = cmb_get32(r);
    n->body_length = cmb_get32(r + 16);
    n->count = cmb_get16(r + 20);
    n->level = r[22];
    n->flags = r[23];
    n->prefix_size = cmb_get16(r + 32);
    n->rest_size = cmb_get16(r + 34);
    n->value_size = cmb_get32(r + 36);
    n->name_size = (uint8_t)cmb_name_size(hash);
    n->prefix = r + CMB_NODE_HEADER;
    n->heads = r + cmb_align_up(CMB_NODE_HEADER + n->prefix_size, 8);
    n->key_offsets = n->value_offsets = n->head_sizes = n->ool_map = n->counts = NULL;
    n->trailer = r + 16 + n->body_length;

    const uint8_t *p = n->heads + 8 * (size_t)n->count;
    size_t offsets = (n->count + (size_t)1) * (n->flags & CMB_NODE_WIDE ? 4 : 2);
    if (!(n->flags & CMB_NODE_FIXED_KEYS)) {
        n->key_offsets = p;
        p += offsets;
    }
    if (n->level == 0 && !(n->flags & CMB_NODE_FIXED_VALUES)) {
        n->value_offsets = p;
        p += offsets;
    }
    if (n->flags & CMB_NODE_SHORT_KEYS) {
        n->head_sizes = p;
        p += n->count;
    }
    if (n->level > 0) {
        n->counts = p;
        p += (size_t)n->value_size * n->count;
    } else if (n->flags & CMB_NODE_OUT_OF_LINE) {
        n->ool_map = p;
        p += (n->count + 7u) / 8;
    }
    n->rests = p;
    n->values = p + (n->key_offsets ? cmb_node_offset(n, n->key_offsets, n->count) : (size_t)n->rest_size * n->count);
}

/* Index of the first entry with key >= `key`, count if none. out_equal may be NULL. */
uint32_t cmb_node_lower_bound(const cmb_node *node, const uint8_t *key, size_t key_size, bool *out_equal);

/* Internal: index of the child whose subtree would hold key (the last one if key is beyond all). */
static inline uint32_t cmb_node_child_for(const cmb_node *node, const uint8_t *key, size_t key_size)
{
    uint32_t i = cmb_node_lower_bound(node, key, key_size, NULL);
    return i < node->count ? i : node->count - 1;
}

/* How many of the n ascending words at `heads` are below `head`, by the fastest way that this processor has. */
uint32_t cmb_node_count_below(const uint8_t *heads, uint32_t n, uint64_t head);

uint32_t cmb_node_key_size(const cmb_node *node, uint32_t i);
/* Writes the whole key, returns its size; out has room for CMB_KEY_MAX bytes. */
uint32_t cmb_node_key(const cmb_node *node, uint32_t i, uint8_t *out_key);
int cmb_node_compare(const cmb_node *node, uint32_t i, const uint8_t *key, size_t key_size); /* entry's key against key */

static inline bool cmb_node_is_out_of_line(const cmb_node *node, uint32_t i)
{
    return node->ool_map && node->ool_map[i / 8] >> (i % 8) & 1;
}

/* Leaf: the bytes in the slot of entry i, in the record: the value unless it is out of line. */
static inline cmb_bytes cmb_node_value(const cmb_node *node, uint32_t i)
{
    if (!node->value_offsets)
        return (cmb_bytes){node->values + (size_t)i * node->value_size, node->value_size};
    uint32_t from = cmb_node_offset(node, node->value_offsets, i);
    return (cmb_bytes){node->values + from, cmb_node_offset(node, node->value_offsets, i + 1) - from};
}
void cmb_node_valref(const cmb_node *node, uint32_t i, cmb_valref *out_valref);

void cmb_node_child(const cmb_node *node, uint32_t i, cmb_noderef *out_ref);

/* n = 1..8 little-endian bytes, as cmb_get_uint, in straight code. */
static inline uint64_t cmb_node_packed(const uint8_t *p, unsigned n)
{
    switch (n) {
    case 1: return p[0];
    case 2: return cmb_get16(p);
    case 3: return cmb_get16(p) | (uint64_t)p[2] << 16;
    case 4: return cmb_get32(p);
    case 5: return cmb_get32(p) | (uint64_t)p[4] << 32;
    case 6: return cmb_get32(p) | (uint64_t)cmb_get16(p + 4) << 32;
    case 7: return cmb_get32(p) | (uint64_t)cmb_get16(p + 4) << 32 | (uint64_t)p[6] << 48;
    default: return cmb_get64(p);
    }
}
static inline uint64_t cmb_node_child_addr(const cmb_node *node, uint32_t i)
{
    const uint8_t *t = node->trailer;
    return (cmb_get64(t) + cmb_node_packed(t + 10 + (size_t)i * t[8], t[8])) * 16;
}
static inline uint32_t cmb_node_child_length(const cmb_node *node, uint32_t i)
{
    const uint8_t *t = node->trailer;
    return (uint32_t)cmb_node_packed(t + 10 + (size_t)node->count * t[8] + (size_t)i * t[9], t[9]) * 16;
}
static inline uint64_t cmb_node_child_count(const cmb_node *node, uint32_t i)
{
    return cmb_node_packed(node->counts + (size_t)i * node->value_size, node->value_size) >> 2;
}
static inline bool cmb_node_child_cut(const cmb_node *node, uint32_t i)
{
    return node->counts[(size_t)i * node->value_size] & 2;
}
static inline uint64_t cmb_node_total(const cmb_node *node) { return cmb_get64(node->record + 24); }

#endif
