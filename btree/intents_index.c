/* SPDX-License-Identifier: ISC */
/* The ordered index of a list's intents: one thread adds, any number read without a lock. */
#include "btree/intents_private.h"

#include <assert.h>

#define HALF ((CMB_INTENTS_FANOUT + 1) / 2)
#define LEAF_BYTES (sizeof(cmb_intents_node) + 2 * sizeof(cmb_intents_link))
#define INNER_BYTES (sizeof(cmb_intents_node) + CMB_INTENTS_FANOUT * sizeof(cmb_intents_link))
#define BLOCK_FIRST ((size_t)4 << 10)
#define BLOCK_LARGEST ((size_t)256 << 10)

typedef struct item {
    uint64_t head;
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
 * Nodes that n adds take at the most. A split leaves two nodes of 8, which take 8 adds more each before they are split; only one
 * that is full already is split at once. Where the end of a level is extended a full one stays behind, once in 15 adds.
 */
static size_t nodes_for(const cmb_intents_index *index, size_t n)
{
    size_t nodes = 0;
    for (unsigned level = 0; n && level < CMB_INTENTS_HEIGHT_MAX; level++) {
        size_t splits = n / 4;
        if (index->nodes[level]) {
            splits += (size_t)index->nodes[level] + 1;
            splits = splits < n ? splits : n;
        } else {
            nodes++;
        }
        nodes += 2 * splits;
        n = splits;
    }
    return nodes;
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

/* A node of n entries, which nobody sees yet. */
static cmb_intents_node *make_node(cmb_intents_index *index, unsigned level, const item *items, unsigned n)
{
    const size_t bytes = level ? INNER_BYTES : LEAF_BYTES;
    uint64_t order = n;
    while (index->current && index->current->size - index->current->used < bytes)
        index->current = index->current->next;
    assert(index->current && level < CMB_INTENTS_HEIGHT_MAX);
    cmb_intents_node *node = (cmb_intents_node *)((uint8_t *)index->current + index->current->used);
    index->current->used += bytes;
    index->nodes[level]++;
    node->level = level;
    for (unsigned i = 0; i < n; i++) {
        node->heads[i] = items[i].head;
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

/* The place of the first entry >= key among those of an order. */
static unsigned lower_bound(const cmb_intents_node *node, uint64_t order, uint64_t head, const uint8_t *key, size_t key_size,
                            bool *out_equal)
{
    unsigned low = 0, high = cmb_intents_order_count(order);
    *out_equal = false;
    while (low < high) {
        unsigned middle = (low + high) / 2, slot = cmb_intents_order_slot(order, middle);
        uint64_t other = node->heads[slot];
        int c = other < head ? -1 : other > head;
        if (CMB_UNLIKELY(!c)) {
            const cmb_intent *ref = node->refs[slot];
            c = cmb_compare(ref->key, ref->key_size, key, key_size);
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
static unsigned child_for(const cmb_intents_node *node, uint64_t order, uint64_t head, const uint8_t *key, size_t key_size)
{
    bool equal;
    unsigned i = lower_bound(node, order, head, key, key_size, &equal);
    return equal || i == 0 ? i : i - 1;
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
    const uint64_t head = cmb_buffer_head(key, key_size, 0);
    *out_equal = false;
    if (!node)
        return (cmb_intents_pos){NULL, 0, 0};
    while (node->level) {
        uint64_t order = order_get(node);
        node = child_at(node, order, child_for(node, order, head, key, key_size));
        prefetch(node);
    }
    cmb_intents_pos pos = {.leaf = node, .order = order_get(node)};
    pos.i = lower_bound(node, pos.order, head, key, key_size, out_equal);
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

static void find_path(cmb_intents_node *node, const item *it, path *p)
{
    const uint8_t *key = it->ref->key;
    const size_t size = it->ref->key_size;
    bool equal;
    p->height = node->level + 1;
    for (unsigned level = p->height; level-- > 1; node = child_at(node, order_get(node), p->at[level])) {
        p->node[level] = node;
        p->at[level] = child_for(node, order_get(node), it->head, key, size);
    }
    p->node[0] = node;
    p->at[0] = lower_bound(node, order_get(node), it->head, key, size, &equal);
    p->at_end = !link_get(&node->links[CMB_INTENTS_NEXT]) && p->at[0] == cmb_intents_order_count(order_get(node));
    assert(!equal);
}

/* Into a node that is not full. */
static void put(cmb_intents_node *node, unsigned at, const item *it)
{
    const uint64_t order = order_get(node), slot = cmb_intents_order_count(order), slots = order >> 4;
    const uint64_t below = slots & (((uint64_t)1 << 4 * at) - 1), above = slots >> 4 * at;
    node->heads[slot] = it->head;
    node->refs[slot] = it->ref;
    if (node->level)
        atomic_init(&node->links[slot], it->child);
    atomic_store_explicit(&node->order, (below | slot << 4 * at | above << (4 * at + 4)) << 4 | (slot + 1), memory_order_release);
}

/* Two that take the place of a full node and of an item more. `left` is the node itself where a level is only extended. */
typedef struct split {
    cmb_intents_node *left, *right;
} split;

static split split_node(cmb_intents_index *index, const path *p, unsigned level, unsigned at, const item *it, cmb_intents_node *left_child)
{
    cmb_intents_node *node = p->node[level];
    const uint64_t order = order_get(node);
    item items[CMB_INTENTS_FANOUT + 1];
    if (p->at_end)
        return (split){node, make_node(index, level, it, 1)};
    for (unsigned i = 0, from = 0; i <= CMB_INTENTS_FANOUT; i++) {
        if (i == at) {
            items[i] = *it;
            continue;
        }
        unsigned slot = cmb_intents_order_slot(order, from);
        items[i] = (item){node->heads[slot], node->refs[slot], NULL};
        if (level)
            items[i].child = from == p->at[level] ? left_child : link_get(&node->links[slot]);
        from++;
    }
    index->nodes[level]--;
    return (split){make_node(index, level, items, HALF), make_node(index, level, items + HALF, HALF)};
}

/* Between the neighbours of the leaf that was split. */
static void chain(cmb_intents_node *leaf, split s)
{
    cmb_intents_node *prev = link_get(&leaf->links[CMB_INTENTS_PREV]), *next = link_get(&leaf->links[CMB_INTENTS_NEXT]);
    link_set(&s.right->links[CMB_INTENTS_PREV], s.left);
    link_set(&s.right->links[CMB_INTENTS_NEXT], next);
    if (s.left != leaf) {
        link_set(&s.left->links[CMB_INTENTS_PREV], prev);
        link_set(&s.left->links[CMB_INTENTS_NEXT], s.right);
        if (prev)
            link_set(&prev->links[CMB_INTENTS_NEXT], s.left);
    } else {
        link_set(&leaf->links[CMB_INTENTS_NEXT], s.right);
    }
    if (next)
        link_set(&next->links[CMB_INTENTS_PREV], s.right);
}

static item item_of(cmb_intents_node *child)
{
    unsigned slot = cmb_intents_order_slot(order_get(child), 0);
    return (item){child->heads[slot], child->refs[slot], child};
}

/* Brings a split to the levels above it. */
static void raise(cmb_intents_index *index, const path *p, split s)
{
    for (unsigned level = 1; level < p->height; level++) {
        cmb_intents_node *parent = p->node[level];
        const uint64_t order = order_get(parent);
        const item right = item_of(s.right);
        if (cmb_intents_order_count(order) < CMB_INTENTS_FANOUT) {
            /* In this order: until it is replaced the old child shows what both show, so that nothing is ever out of sight. */
            put(parent, p->at[level] + 1, &right);
            link_set(&parent->links[cmb_intents_order_slot(order, p->at[level])], s.left);
            return;
        }
        s = split_node(index, p, level, p->at[level] + 1, &right, s.left);
    }
    const item both[2] = {item_of(s.left), item_of(s.right)};
    link_set(&index->root, make_node(index, p->height, both, 2));
}

void cmb_intents_index_add(cmb_intents_index *index, const cmb_intent *intent)
{
    const item it = {intent->head, intent, NULL};
    cmb_intents_node *root = link_get(&index->root);
    path p;
    if (!root) {
        link_set(&index->root, make_node(index, 0, &it, 1));
        return;
    }
    find_path(root, &it, &p);
    if (cmb_intents_order_count(order_get(p.node[0])) < CMB_INTENTS_FANOUT) {
        put(p.node[0], p.at[0], &it);
        return;
    }
    split s = split_node(index, &p, 0, p.at[0], &it, NULL);
    chain(p.node[0], s);
    raise(index, &p, s);
}
