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
 *           32  u16 prefix length   u16 rest length (FIXED_KEYS)   u32 value length (FIXED_VALUES; else 0)
 *           40  common prefix of all keys; zeros up to a multiple of 8
 *               u64 heads[count]: the next 8 bytes of each key, as little-endian words that hold the
 *               big-endian value, zero-padded: integer order is byte order
 *               key offsets   [count + 1] u16 (WIDE: u32) into the rests, unless FIXED_KEYS
 *               leaf: value offsets [count + 1] u16 (WIDE: u32) into the values, unless FIXED_VALUES
 *               SHORT_KEYS:  u8 bytes of each key that its head holds (0..8)
 *               OUT_OF_LINE (leaf): bitmap of (count + 7) / 8 bytes, low bit first
 *               internal: u8 width of a count; then count << 2 | cut << 1 | out-of-line, per child
 *               rests: what follows prefix and head of each key
 *               leaf: values; an out-of-line one is u32 size and its name
 *               internal: names of the children, one after the other
 *   trailer     internal: u64 base, u8 address width, u8 length width; per child (address / 16 - base), length / 16
 *               rounded up; leaf: per out-of-line value u64 address, u32 length of its CHUNK (one chunk) or CHUNKS record
 *   zeros up to a multiple of 16
 *
 * FIXED_KEYS is set exactly when all rests are equally long, FIXED_VALUES exactly when all value
 * slots are, SHORT_KEYS exactly when some head is shorter than 8, WIDE exactly when an offset would
 * not fit 16 bits: so equal content is equal bytes. A key of an internal node is the last key of that
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
    uint32_t length, body_length;
    uint32_t count;
    uint16_t prefix_size, rest_size;
    uint32_t value_size; /* FIXED_VALUES */
    uint8_t level, flags;
    uint8_t count_width, addr_width, len_width, name_size;
    const uint8_t *prefix;
    const uint64_t *heads; /* little-endian words */
    const uint8_t *key_offsets, *value_offsets, *head_sizes, *ool_map, *counts, *rests, *values, *names, *trailer;
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

/* Works out the parts of a verified record. */
void cmb_node_open(cmb_hash_kind hash, const void *record, cmb_node *out_node);

/* ---- searching and reading ---- */
/* Index of the first entry with key >= `key`, count if none. */
uint32_t cmb_node_lower_bound(const cmb_node *node, const uint8_t *key, size_t key_size, bool *out_equal);
/* Internal: index of the child whose subtree would hold key (the last one if key is beyond all). */
static inline uint32_t cmb_node_child_for(const cmb_node *node, const uint8_t *key, size_t key_size)
{
    uint32_t i = cmb_node_lower_bound(node, key, key_size, NULL);
    return i < node->count ? i : node->count - 1;
}
uint32_t cmb_node_key_size(const cmb_node *node, uint32_t i);
/* Writes the whole key, returns its size; out has room for CMB_KEY_MAX bytes. */
uint32_t cmb_node_key(const cmb_node *node, uint32_t i, uint8_t *out_key);
int cmb_node_compare(const cmb_node *node, uint32_t i, const uint8_t *key, size_t key_size); /* entry's key against key */
bool cmb_node_is_out_of_line(const cmb_node *node, uint32_t i);
cmb_bytes cmb_node_value(const cmb_node *node, uint32_t i); /* inline values; points into the record */
void cmb_node_valref(const cmb_node *node, uint32_t i, cmb_valref *out_valref);
void cmb_node_child(const cmb_node *node, uint32_t i, cmb_noderef *out_ref);
uint64_t cmb_node_child_addr(const cmb_node *node, uint32_t i);
uint64_t cmb_node_child_count(const cmb_node *node, uint32_t i);
bool cmb_node_child_cut(const cmb_node *node, uint32_t i);
static inline uint64_t cmb_node_total(const cmb_node *node) { return cmb_get64(node->record + 24); }

#endif
