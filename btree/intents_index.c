/* SPDX-License-Identifier: ISC */
/* The ordered index of a list's intents: one thread adds, any number read without a lock. */
#include "btree/intents_private.h"

#include <assert.h>

#define SKIP_MIN 6u /* keys that share fewer bytes are told apart by the first 8 */
#define SKIP_SLACK 4u /* shared bytes that are not skipped: for keys to come, which share fewer */
#define HALF ((CMB_INTENTS_FANOUT + 1) / 2)
#define LEAF_BYTES (sizeof(cmb_intents_node) + 2 * sizeof(cmb_intents_link))
#define INNER_BYTES (sizeof(cmb_intents_node) + CMB_INTENTS_FANOUT * sizeof(cmb_intents_link))
#define BLOCK_FIRST ((size_t)4 << 10)
#define BLOCK_LARGEST ((size_t)256 << 10)

typedef struct item {
    const cmb_intent *ref;
    cmb_intents_node *child; /* inner */
} item;

static cmb_intents_node *link_get(const cmb_intents_link *link)
{
    return atomic_load_explicit(link, memory_order_acquire);
}

static void link_set(cmb_intents_link *link, cmb_intents_node *node)
{
    atomic_store_explicit(link, node, memory_order_release);
}

static uint64_t order_get(const cmb_intents_node *node)
{
    return atomic_load_explicit(&node->order, memory_order_acquire);
}

/* ---- memory for nodes ---- */

/* Nodes of the larger size that surely fit. */
static size_t block_holds(const cmb_intents_block *block)
{
    return (block->size - block->used) / INNER_BYTES;
}

/*
 * Nodes that n adds take at the most: two for a split, one for a node that is made anew since its keys share fewer bytes. A split
 * leaves two nodes of 8, which take 8 adds more each before they are split; only one that is full already is split at once. Where
 * the end of a level is extended a full one stays behind, once in 15 adds.
 */
static size_t nodes_for(const cmb_intents_index *index, size_t n)
{
    size_t nodes = 0;
    for (unsigned level = 0; n && level < CMB_INTENTS_HEIGHT_MAX; level++) {
        size_t splits = n / 4;
        if (index->nodes[level]) {
            splits += (size_t)index->nodes[level] + 1;
            splits = splits < n ? splits : n;
        }
        nodes += n + splits;
        n = splits;
    }
    return nodes + 1; /* a new root */
}

int cmb_intents_index_reserve(cmb_intents_index *index, size_t n)
{
    size_t need = nodes_for(index, n), bytes = index->last ? 2 * index->last->size : BLOCK_FIRST;
    cmb_intents_block *block;
    for (block = index->current; block; block = block->next)
        need -= block_holds(block) < need ? block_holds(block) : need;
    if (!need)
        return 0;
    bytes = bytes < BLOCK_LARGEST ? bytes : BLOCK_LARGEST;
    if (need > (SIZE_MAX - sizeof *block) / INNER_BYTES)
        return cmb_fail(CMB_ENOMEM, "the index of %zu intents does not fit the address space", n);
    if (bytes < sizeof *block + need * INNER_BYTES)
        bytes = sizeof *block + need * INNER_BYTES;
    block = cmb_alloc(index->alloc, bytes);
    if (!block)
        return CMB_ENOMEM;
    *block = (cmb_intents_block){.size = bytes, .used = sizeof *block};
    if (index->last)
        index->last->next = block;
    else
        index->first = index->current = block;
    index->last = block;
    atomic_fetch_add_explicit(&index->memory, bytes, memory_order_relaxed);
    return 0;
}

void cmb_intents_index_release(cmb_intents_index *index)
{
    for (cmb_intents_block *block = index->first, *next; block; block = next) {
        next = block->next;
        cmb_release(index->alloc, block, block->size);
    }
}

/* A node of n entries that share `skip` bytes, which nobody sees yet. */
static cmb_intents_node *make_node(cmb_intents_index *index, unsigned level, const item *items, unsigned n, size_t skip)
{
    const size_t bytes = level ? INNER_BYTES : LEAF_BYTES;
    uint64_t order = n;
    while (index->current && index->current->size - index->current->used < bytes)
        index->current = index->current->next;
    assert(index->current && level < CMB_INTENTS_HEIGHT_MAX);
    cmb_intents_node *node = (cmb_intents_node *)((uint8_t *)index->current + index->current->used);
    index->current->used += bytes;
    index->nodes[level]++;
    node->level = (uint8_t)level;
    node->skip = (uint16_t)skip;
    for (unsigned i = 0; i < n; i++) {
        node->heads[i] = cmb_buffer_head(items[i].ref->key, items[i].ref->key_size, skip);
        node->refs[i] = items[i].ref;
        order |= (uint64_t)i << (4 * i + 4);
        if (level)
            atomic_init(&node->links[i], items[i].child);
    }
    atomic_init(&node->order, order);
    if (level == 0) {
        atomic_init(&node->links[CMB_INTENTS_PREV], NULL);
        atomic_init(&node->links[CMB_INTENTS_NEXT], NULL);
    }
    return node;
}

/* ---- searching ---- */

/* How a key stands to the bytes that a node's keys share; 0: it begins with them. */
static int compare_shared(const cmb_intents_node *node, const uint8_t *key, size_t key_size)
{
    size_t n = key_size < node->skip ? key_size : node->skip;
    int c = n ? memcmp(key, node->refs[0]->key, n) : 0;
    return c ? c : -(key_size < node->skip);
}

/* The place of the first entry >= key among those of an order; an inner node's first one, whose child takes whatever is
 * lower than the second, is passed over. */
static unsigned lower_bound(const cmb_intents_node *node, uint64_t order, const uint8_t *key, size_t key_size, bool *out_equal)
{
    const size_t skip = node->skip;
    unsigned low = node->level > 0, high = cmb_intents_order_count(order);
    int c = compare_shared(node, key, key_size);
    *out_equal = false;
    if (c)
        return c < 0 ? low : high;
    const uint64_t head = cmb_buffer_head(key, key_size, skip);
    while (low < high) {
        unsigned middle = (low + high) / 2, slot = cmb_intents_order_slot(order, middle);
        uint64_t other = node->heads[slot];
        c = other < head ? -1 : other > head;
        if (CMB_UNLIKELY(!c)) {
            const cmb_intent *ref = node->refs[slot];
            c = cmb_compare(ref->key + skip, ref->key_size - skip, key + skip, key_size - skip);
            if (!c) {
                *out_equal = true;
                return middle;
            }
        }
        if (c < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void prefetch(const cmb_intents_node *node)
{
    __builtin_prefetch(node);
    __builtin_prefetch((const char *)node + 64);
}

/* The place of the child that the key belongs to. */
static unsigned child_for(const cmb_intents_node *node, uint64_t order, const uint8_t *key, size_t key_size)
{
    bool equal;
    unsigned i = lower_bound(node, order, key, key_size, &equal);
    return equal ? i : i - 1;
}

static const cmb_intents_node *root_of(const cmb_intents_index *index)
{
    return link_get((cmb_intents_link *)&index->root);
}

static cmb_intents_node *child_at(const cmb_intents_node *node, uint64_t order, unsigned i)
{
    return link_get(&node->links[cmb_intents_order_slot(order, i)]);
}

/* The place, or if that is a leaf's end the next leaf's first. */
static cmb_intents_pos settle(cmb_intents_pos pos)
{
    if (CMB_UNLIKELY(pos.i == cmb_intents_order_count(pos.order))) {
        pos.leaf = link_get(&pos.leaf->links[CMB_INTENTS_NEXT]);
        pos.order = pos.leaf ? order_get(pos.leaf) : 0;
        pos.i = 0;
    }
    return pos;
}

cmb_intents_pos cmb_intents_index_seek(const cmb_intents_index *index, const uint8_t *key, size_t key_size, bool *out_equal)
{
    const cmb_intents_node *node = root_of(index);
    *out_equal = false;
    if (!node)
        return (cmb_intents_pos){NULL, 0, 0};
    while (node->level) {
        uint64_t order = order_get(node);
        node = child_at(node, order, child_for(node, order, key, key_size));
        prefetch(node);
    }
    cmb_intents_pos pos = {.leaf = node, .order = order_get(node)};
    pos.i = lower_bound(node, pos.order, key, key_size, out_equal);
    return settle(pos);
}

cmb_intents_pos cmb_intents_index_first(const cmb_intents_index *index)
{
    const cmb_intents_node *node = root_of(index);
    while (node && node->level)
        node = child_at(node, order_get(node), 0);
    return (cmb_intents_pos){node, node ? order_get(node) : 0, 0};
}

static cmb_intents_pos end_of(const cmb_intents_node *leaf)
{
    uint64_t order = leaf ? order_get(leaf) : 0;
    return (cmb_intents_pos){leaf, order, leaf ? cmb_intents_order_count(order) - 1 : 0};
}

cmb_intents_pos cmb_intents_index_last(const cmb_intents_index *index)
{
    const cmb_intents_node *node = root_of(index);
    while (node && node->level) {
        uint64_t order = order_get(node);
        node = child_at(node, order, cmb_intents_order_count(order) - 1);
    }
    return end_of(node);
}

cmb_intents_pos cmb_intents_index_next(cmb_intents_pos pos)
{
    pos.i++;
    return settle(pos);
}

cmb_intents_pos cmb_intents_index_prev(cmb_intents_pos pos)
{
    if (pos.i == 0)
        return end_of(link_get(&pos.leaf->links[CMB_INTENTS_PREV]));
    pos.i--;
    return pos;
}

/* ---- adding ---- */

/* The way from the root to where a key belongs. */
typedef struct path {
    cmb_intents_node *node[CMB_INTENTS_HEIGHT_MAX]; /* by level */
    unsigned at[CMB_INTENTS_HEIGHT_MAX];            /* inner: the child's place; leaf: the key's */
    unsigned height;
    bool at_end; /* the key is greater than all others */
} path;

static void find_path(cmb_intents_node *node, const cmb_intent *intent, path *p)
{
    bool equal;
    p->height = node->level + 1u;
    for (unsigned level = p->height; level-- > 1; node = child_at(node, order_get(node), p->at[level])) {
        p->node[level] = node;
        p->at[level] = child_for(node, order_get(node), intent->key, intent->key_size);
    }
    p->node[0] = node;
    p->at[0] = lower_bound(node, order_get(node), intent->key, intent->key_size, &equal);
    p->at_end = !link_get(&node->links[CMB_INTENTS_NEXT]) && p->at[0] == cmb_intents_order_count(order_get(node));
    assert(!equal);
}

static bool has_room(const cmb_intents_node *node, const item *it)
{
    return cmb_intents_order_count(order_get(node)) < CMB_INTENTS_FANOUT && compare_shared(node, it->ref->key, it->ref->key_size) == 0;
}

/* Into a node that has room. */
static void put(cmb_intents_node *node, unsigned at, const item *it)
{
    const uint64_t order = order_get(node), slot = cmb_intents_order_count(order), slots = order >> 4;
    const uint64_t below = slots & (((uint64_t)1 << 4 * at) - 1), above = slots >> 4 * at;
    node->heads[slot] = cmb_buffer_head(it->ref->key, it->ref->key_size, node->skip);
    node->refs[slot] = it->ref;
    if (node->level)
        atomic_init(&node->links[slot], it->child);
    atomic_store_explicit(&node->order, (below | slot << 4 * at | above << (4 * at + 4)) << 4 | (slot + 1), memory_order_release);
}

/* What takes the place of a node that has no room: `left` is the node itself where a level is only extended; right NULL: one is enough. */
typedef struct split {
    cmb_intents_node *left, *right;
} split;

static size_t shared_by(const cmb_intent *a, const cmb_intent *b, size_t limit)
{
    size_t shared = 0;
    limit = a->key_size < limit ? a->key_size : limit;
    limit = b->key_size < limit ? b->key_size : limit;
    while (shared < limit && a->key[shared] == b->key[shared])
        shared++;
    return shared;
}

/* For two neighbours or more. An inner node's first key is not in order. */
static cmb_intents_node *make_row(cmb_intents_index *index, unsigned level, const item *items, unsigned n)
{
    size_t shared = shared_by(items[1].ref, items[n - 1].ref, CMB_KEY_MAX);
    shared = shared_by(items[0].ref, items[1].ref, shared);
    return make_node(index, level, items, n, shared < SKIP_MIN ? 0 : shared - SKIP_SLACK);
}

/* With one item more, and with another child in the place that the path leads to. */
static split replace(cmb_intents_index *index, const path *p, unsigned level, unsigned at, const item *it, cmb_intents_node *child)
{
    cmb_intents_node *node = p->node[level];
    const uint64_t order = order_get(node);
    const unsigned n = cmb_intents_order_count(order) + 1;
    item items[CMB_INTENTS_FANOUT + 1];
    if (p->at_end && n > CMB_INTENTS_FANOUT)
        return (split){node, make_node(index, level, it, 1, compare_shared(node, it->ref->key, it->ref->key_size) ? 0 : node->skip)};
    for (unsigned i = 0, from = 0; i < n; i++) {
        if (i == at) {
            items[i] = *it;
            continue;
        }
        unsigned slot = cmb_intents_order_slot(order, from);
        items[i] = (item){node->refs[slot], NULL};
        if (level)
            items[i].child = from == p->at[level] ? child : link_get(&node->links[slot]);
        from++;
    }
    index->nodes[level]--;
    if (n <= CMB_INTENTS_FANOUT)
        return (split){make_row(index, level, items, n), NULL};
    return (split){make_row(index, level, items, HALF), make_row(index, level, items + HALF, HALF)};
}

/* Between the neighbours of the leaf that was replaced, which goes on pointing to them. The new leaves point to theirs before
 * anything points to them. */
static void chain(cmb_intents_node *leaf, split s)
{
    cmb_intents_node *prev = link_get(&leaf->links[CMB_INTENTS_PREV]), *next = link_get(&leaf->links[CMB_INTENTS_NEXT]);
    cmb_intents_node *last = s.right ? s.right : s.left;
    link_set(&last->links[CMB_INTENTS_NEXT], next);
    if (s.right)
        link_set(&s.right->links[CMB_INTENTS_PREV], s.left);
    if (s.left != leaf)
        link_set(&s.left->links[CMB_INTENTS_PREV], prev);
    if (s.right)
        link_set(&s.left->links[CMB_INTENTS_NEXT], s.right);
    if (prev && s.left != leaf)
        link_set(&prev->links[CMB_INTENTS_NEXT], s.left);
    if (next)
        link_set(&next->links[CMB_INTENTS_PREV], last);
}

static item item_of(cmb_intents_node *child)
{
    return (item){child->refs[cmb_intents_order_slot(order_get(child), 0)], child};
}

/* Brings what took the place of a leaf to the levels above. */
static void raise(cmb_intents_index *index, const path *p, split s)
{
    for (unsigned level = 1; level < p->height; level++) {
        cmb_intents_node *parent = p->node[level];
        const unsigned slot = cmb_intents_order_slot(order_get(parent), p->at[level]);
        const item right = s.right ? item_of(s.right) : (item){NULL, NULL};
        if (!s.right || has_room(parent, &right)) {
            /* In this order: until it is replaced the old child shows what both show, so that nothing is ever out of sight. */
            if (s.right)
                put(parent, p->at[level] + 1, &right);
            link_set(&parent->links[slot], s.left);
            return;
        }
        s = replace(index, p, level, p->at[level] + 1, &right, s.left);
    }
    if (s.right) {
        const item both[2] = {item_of(s.left), item_of(s.right)};
        s.left = make_row(index, p->height, both, 2);
    }
    link_set(&index->root, s.left);
}

void cmb_intents_index_add(cmb_intents_index *index, const cmb_intent *intent)
{
    const item it = {intent, NULL};
    cmb_intents_node *root = link_get(&index->root);
    path p;
    if (!root) {
        link_set(&index->root, make_node(index, 0, &it, 1, 0));
        return;
    }
    find_path(root, intent, &p);
    if (has_room(p.node[0], &it)) {
        put(p.node[0], p.at[0], &it);
        return;
    }
    split s = replace(index, &p, 0, p.at[0], &it, NULL);
    chain(p.node[0], s);
    raise(index, &p, s);
}
