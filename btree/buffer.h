/* SPDX-License-Identifier: ISC */
/*
 * buffer.h: how a transaction's edits are kept in memory, shared by buffer.c, its index and its source.
 *
 *   arena   entries in the order in which they were added, never moved: header, key, value.
 *   index   a B+tree over the entries, 8 bytes of key (the head) beside each pointer.
 *   tail    the entries at the arena's end that the index does not hold yet.
 *
 * Adding only appends. A read first settles the tail: one that is long against the index is sorted as
 * a whole and merged into a new index, a short one is inserted entry by entry. A merge costs at most
 * nine steps for each entry of the tail, so a bulk load pays for one sort and a mixture of writes
 * and reads pays O(log n) each. Of equal keys the index holds the last one added; the others stay in the arena unseen.
 *
 * A node's heads begin after `skip` bytes that all its keys share. 0 while they share few: then
 * searching it touches no key unless heads tie.
 */
#ifndef CMB_BTREE_BUFFER_H
#define CMB_BTREE_BUFFER_H

#include "btree/tree.h"

typedef struct cmb_buffer_entry {
    uint32_t value_size;
    uint16_t key_size;
    uint8_t kind;
    uint8_t reserved;
    uint8_t bytes[]; /* the key; then the value, or a cmb_valref (PUT_FAR), of value_size bytes */
} cmb_buffer_entry;

#define CMB_BUFFER_FANOUT 64u
#define CMB_BUFFER_HEIGHT_MAX 16u
#define CMB_BUFFER_SKIP_MIN 6u /* a shorter common prefix leaves enough of the head to tell keys apart */

typedef struct cmb_buffer_node cmb_buffer_node;
struct cmb_buffer_node {
    uint16_t count;
    uint16_t skip;
    uint8_t level; /* 0: leaf */
    cmb_buffer_node *prev, *next; /* leaves */
    uint64_t heads[CMB_BUFFER_FANOUT];
    const cmb_buffer_entry *refs[CMB_BUFFER_FANOUT]; /* inner: a lower bound of the child's keys */
    cmb_buffer_node *kids[]; /* inner */
};
#define CMB_BUFFER_LEAF_BYTES sizeof(cmb_buffer_node)
#define CMB_BUFFER_INNER_BYTES (sizeof(cmb_buffer_node) + CMB_BUFFER_FANOUT * sizeof(cmb_buffer_node *))

/* Memory handed out from blocks that grow, and given back all at once. Blocks are chained oldest first. */
typedef struct cmb_slab_block {
    struct cmb_slab_block *next;
    size_t size, used; /* bytes, this header included */
} cmb_slab_block;
typedef struct cmb_slab {
    const cmb_allocator *alloc;
    cmb_slab_block *first, *last;
    size_t memory; /* bytes held */
} cmb_slab;
/* Makes the next takes succeed until `size` bytes are taken. */
int cmb_slab_reserve(cmb_slab *slab, size_t size);
void *cmb_slab_take(cmb_slab *slab, size_t size); /* reserved before; multiple of 8 */
void cmb_slab_release(cmb_slab *slab);

/* An entry on its way into the index. */
typedef struct cmb_buffer_item {
    uint64_t head; /* at depth 0 unless the sort had to look deeper */
    const cmb_buffer_entry *entry;
} cmb_buffer_item;
/*
 * Sorts by key, stably: of equal keys the one added last comes last. `depth`: bytes that all keys
 * share; heads are loaded for it. *out_deeper: heads were overwritten with later bytes of the keys.
 */
int cmb_buffer_sort(const cmb_allocator *alloc, cmb_buffer_item *items, size_t n, size_t depth, bool *out_deeper);

/* The index. */
typedef struct cmb_buffer_index {
    cmb_slab slab;
    cmb_buffer_node *root, *head, *tail; /* first and last leaf */
    size_t count;
} cmb_buffer_index;
void cmb_buffer_index_init(cmb_buffer_index *index, const cmb_allocator *alloc);
void cmb_buffer_index_release(cmb_buffer_index *index);
int cmb_buffer_index_insert(cmb_buffer_index *index, const cmb_buffer_entry *entry); /* CMB_ENOMEM: unchanged */
/* A new index of the old one's entries and the sorted items; for equal keys the last item wins. CMB_ENOMEM: unchanged. */
int cmb_buffer_index_merge(cmb_buffer_index *index, const cmb_buffer_item *items, size_t n, bool heads_valid);

/* A place in the index; leaf NULL: none. */
typedef struct cmb_buffer_pos {
    const cmb_buffer_node *leaf;
    unsigned i;
} cmb_buffer_pos;
/* The first entry whose key is >= key; *out_equal: it is that key. */
cmb_buffer_pos cmb_buffer_index_seek(const cmb_buffer_index *index, const uint8_t *key, size_t key_size, bool *out_equal);

struct cmb_buffer {
    cmb_allocator alloc;
    cmb_slab arena;
    cmb_buffer_index index;
    uint64_t version; /* of the index: positions in an older one are void */
    cmb_slab_block *tail_block; /* where the tail begins; NULL: the arena is empty */
    size_t tail_offset;
    size_t tail_count;
    size_t tail_shared; /* bytes that all keys of the tail share */
    const cmb_buffer_entry *tail_first;
};
/* Brings the tail into the index. CMB_ENOMEM: all as before. */
int cmb_buffer_settle(cmb_buffer *buffer);
void cmb_buffer_entry_edit(const cmb_buffer_entry *entry, cmb_edit *out_edit);

static inline const cmb_buffer_entry *cmb_buffer_at(cmb_buffer_pos pos)
{
    return pos.leaf->refs[pos.i];
}

static inline uint64_t cmb_buffer_head(const uint8_t *key, size_t key_size, size_t skip)
{
    uint64_t word = 0;
    if (key_size >= skip + 8)
        memcpy(&word, key + skip, 8);
    else if (key_size > skip)
        memcpy(&word, key + skip, key_size - skip);
    return CMB_BE64(word);
}

/* Bytes that two keys share, at most `limit`. */
static inline size_t cmb_buffer_shared(const cmb_buffer_entry *a, const uint8_t *key, size_t key_size, size_t limit)
{
    size_t n = a->key_size < key_size ? a->key_size : key_size, i = 0;
    n = n < limit ? n : limit;
    while (i < n && a->bytes[i] == key[i])
        i++;
    return i;
}

#endif
