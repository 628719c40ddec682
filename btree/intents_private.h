/* SPDX-License-Identifier: ISC */
/*
 * intents_private.h: how a list of intents is laid out, shared by its files.
 *
 *   intent    a key, once, with the chain of its versions, the newest first.
 *   version   one edit of a key: seq, PUT or DELETE, value.
 *   mark      one for each seq, the newest first: has the list anything of a range of seqs?
 *   index     a B+tree over the intents: order, for seeks, walks and new keys.      (intents_index.c)
 *   table     a hash table over the intents: what a lookup asks, one cache line for a miss. (intents_table.c)
 *
 * Nothing that a reader can reach is changed, but for pointers and words that are stored with release and
 * loaded with acquire; nothing is freed before the list. So a reader needs no lock and never tries again. What it
 * may miss is what was added since it began, which is younger than what it asks for.
 *
 * The index. A node has 15 slots, filled in the order of arrival, and one word, `order`, that says which of them are in use
 * and how they are sorted: 4 bits of count, then the slots' numbers, 4 bits each, in key order. A slot is written while no order
 * names it; storing the new order publishes it. (The permuted leaves of Masstree: Mao, Kohler, Morris 2012.) A full node is split
 * into two new ones, which take its place; the old one stays as it was for those who stand on it, with its neighbours and
 * children of that moment: whatever was in the list by then is found through it. So is a node that gets a key without the bytes that
 * its keys share. The tree is balanced whatever the keys and whatever their order; a list with towers of random height would
 * be a good deal simpler, and takes three times as many cache misses.
 */
#ifndef CMB_BTREE_INTENTS_PRIVATE_H
#define CMB_BTREE_INTENTS_PRIVATE_H

#include "btree/buffer.h"
#include "btree/intents.h"

#include <stdatomic.h>

/* ---- chains by falling seq ---- */

/*
 * Each link also points to one further down, so that a seq is found in O(log n) steps: E. Myers, "An applicative random-access
 * stack", 1983.
 */
typedef struct cmb_intent_link cmb_intent_link;
struct cmb_intent_link {
    uint64_t seq;
    const cmb_intent_link *older, *jump; /* NULL: the oldest; jump leads down or, in the oldest, nowhere */
    uint64_t depth;                      /* links below this one */
};
typedef _Atomic(const cmb_intent_link *) cmb_intent_chain;

/* The newest link with seq <= upto; NULL: none. */
static inline const cmb_intent_link *cmb_intent_chain_find(const cmb_intent_link *link, uint64_t upto)
{
    while (link && link->seq > upto)
        link = link->jump && link->jump->seq > upto ? link->jump : link->older;
    return link;
}

/* ---- what is listed ---- */

typedef struct cmb_intent_version {
    cmb_intent_link link;
    uint32_t value_size;
    uint8_t kind;    /* CMB_EDIT_PUT, CMB_EDIT_DELETE */
    uint8_t value[]; /* value_size bytes */
} cmb_intent_version;

typedef struct cmb_intent {
    cmb_intent_chain versions;
    uint16_t key_size;
    uint8_t key[];
} cmb_intent;

static inline cmb_bytes cmb_intent_key(const cmb_intent *intent)
{
    return (cmb_bytes){intent->key, intent->key_size};
}

/* What a reader of after < seq <= upto sees of it; NULL: nothing. */
static inline const cmb_intent_version *cmb_intent_seen(const cmb_intent *intent, uint64_t after, uint64_t upto)
{
    const cmb_intent_link *newest = atomic_load_explicit(&intent->versions, memory_order_acquire);
    const cmb_intent_link *link = cmb_intent_chain_find(newest, upto);
    return link && link->seq > after ? (const cmb_intent_version *)link : NULL;
}

static inline void cmb_intent_edit(const cmb_intent *intent, const cmb_intent_version *version, cmb_edit *out_edit)
{
    out_edit->kind = (cmb_edit_kind)version->kind;
    out_edit->key = cmb_intent_key(intent);
    out_edit->value = (cmb_bytes){version->kind == CMB_EDIT_PUT ? version->value : NULL, version->value_size};
}

/* ---- the index ---- */

#define CMB_INTENTS_FANOUT 15u
#define CMB_INTENTS_HEIGHT_MAX 24u /* nodes have 8 children on the average of a level, so memory ends before */

typedef struct cmb_intents_node cmb_intents_node;
typedef _Atomic(cmb_intents_node *) cmb_intents_link;
struct cmb_intents_node {
    _Atomic uint64_t order;
    uint64_t heads[CMB_INTENTS_FANOUT];         /* 8 bytes of each key, big-endian, those at `skip` */
    const cmb_intent *refs[CMB_INTENTS_FANOUT]; /* inner: the lowest key of the child, but for the first one */
    uint16_t skip;                              /* all its keys begin with the same so many bytes */
    uint8_t level;                              /* 0: leaf */
    cmb_intents_link links[];                   /* inner: the children; leaf: PREV, NEXT */
};
enum { CMB_INTENTS_PREV, CMB_INTENTS_NEXT };

static inline unsigned cmb_intents_order_count(uint64_t order) { return order & 15; }
static inline unsigned cmb_intents_order_slot(uint64_t order, unsigned i) { return order >> (4 * i + 4) & 15; }

/* Memory for nodes: blocks that are used up one after the other. */
typedef struct cmb_intents_block {
    struct cmb_intents_block *next;
    size_t size, used; /* bytes, this header included */
} cmb_intents_block;

typedef struct cmb_intents_index {
    const cmb_allocator *alloc;
    cmb_intents_link root;                     /* NULL: empty */
    uint64_t nodes[CMB_INTENTS_HEIGHT_MAX];    /* of a level, those that were replaced left out */
    cmb_intents_block *first, *current, *last; /* nodes are taken from `current` */
    _Atomic size_t memory;                     /* bytes held */
} cmb_intents_index;

/* A place in the index, as of when it was looked for; leaf NULL: none. */
typedef struct cmb_intents_pos {
    const cmb_intents_node *leaf;
    uint64_t order; /* the leaf's then */
    unsigned i;
} cmb_intents_pos;

static inline const cmb_intent *cmb_intents_at(cmb_intents_pos pos)
{
    return pos.leaf->refs[cmb_intents_order_slot(pos.order, pos.i)];
}

int cmb_intents_index_reserve(cmb_intents_index *index, size_t n); /* makes the next n adds succeed; CMB_ENOMEM: unchanged */
void cmb_intents_index_add(cmb_intents_index *index, const cmb_intent *intent); /* its key is not in there */
void cmb_intents_index_release(cmb_intents_index *index);
/* The first key >= key; *out_equal: it is that key. */
cmb_intents_pos cmb_intents_index_seek(const cmb_intents_index *index, const uint8_t *key, size_t key_size, bool *out_equal);
cmb_intents_pos cmb_intents_index_first(const cmb_intents_index *index);
cmb_intents_pos cmb_intents_index_last(const cmb_intents_index *index);
cmb_intents_pos cmb_intents_index_next(cmb_intents_pos pos);
cmb_intents_pos cmb_intents_index_prev(cmb_intents_pos pos);
/* cmb_source_intents (intents_source.c). */
int cmb_intents_index_source(const cmb_allocator *alloc, const cmb_intents_index *index, uint64_t after, uint64_t upto,
                             cmb_source **out_source);

/* ---- the table ---- */

static inline uint64_t cmb_intents_hash(const uint8_t *key, size_t key_size)
{
    return cmb_hash64(key, key_size, 0);
}

typedef struct cmb_intents_buckets cmb_intents_buckets;
typedef struct cmb_intents_table {
    const cmb_allocator *alloc;
    _Atomic(cmb_intents_buckets *) buckets; /* NULL: empty */
    _Atomic size_t memory;                  /* bytes held */
} cmb_intents_table;

/* Makes it wide enough for n intents, all those of the index among them; CMB_ENOMEM: unchanged. */
int cmb_intents_table_reserve(cmb_intents_table *table, size_t n, const cmb_intents_index *index);
void cmb_intents_table_add(cmb_intents_table *table, const cmb_intent *intent, uint64_t hash);
void cmb_intents_table_prefetch(const cmb_intents_table *table, uint64_t hash);
/* *out_sure: false where none was found and the index must be asked. */
const cmb_intent *cmb_intents_table_find(const cmb_intents_table *table, uint64_t hash, const uint8_t *key, size_t key_size,
                                         bool *out_sure);
void cmb_intents_table_release(cmb_intents_table *table);

/* ---- the list ---- */

struct cmb_intents {
    cmb_allocator alloc;
    _Atomic size_t holders;
    cmb_slab arena; /* intents, versions, marks; its writer's */
    cmb_intents_index index;
    cmb_intents_table table;
    cmb_intent_chain marks;
    _Atomic uint64_t oldest; /* seq; 0: none */
    _Atomic size_t intents;  /* keys */
    _Atomic size_t count, bytes, arena_memory;
};

#endif
