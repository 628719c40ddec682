/* SPDX-License-Identifier: ISC */
#include "btree/buffer.h"

#include <assert.h>

#define BUILD_FILL 60u /* entries that a merge puts in a node: room for a few inserts before it splits */
#define AHEAD 8u       /* entries that a merge prefetches */

void cmb_buffer_index_init(cmb_buffer_index *index, const cmb_allocator *alloc)
{
    *index = (cmb_buffer_index){.slab.alloc = alloc};
}

void cmb_buffer_index_release(cmb_buffer_index *index)
{
    cmb_slab_release(&index->slab);
    cmb_buffer_index_init(index, index->slab.alloc);
}

/* ---- searching ---- */

static int compare_entry(const cmb_buffer_entry *entry, const uint8_t *key, size_t key_size)
{
    return cmb_compare(entry->bytes, entry->key_size, key, key_size);
}

/* Where the key stands to the bytes that the node's keys share: negative: below them all. */
static int compare_shared(const cmb_buffer_node *node, const uint8_t *key, size_t key_size)
{
    if (CMB_LIKELY(!node->skip))
        return 0;
    size_t n = key_size < node->skip ? key_size : node->skip;
    int c = memcmp(key, node->refs[0]->bytes, n);
    return c ? c : key_size < node->skip ? -1 : 0;
}

/* The first i from which heads are >= head (above: > head). */
static unsigned search_heads(const cmb_buffer_node *node, uint64_t head, bool above)
{
    const uint64_t *base = node->heads;
    unsigned n = node->count;
    if (above) {
        if (head == UINT64_MAX)
            return n;
        head++;
    }
    if (!n)
        return 0;
    while (n > 1) {
        unsigned half = n / 2;
        base = base[half - 1] < head ? base + half : base;
        n -= half;
    }
    return (unsigned)(base - node->heads) + (*base < head);
}

static unsigned lower_bound(const cmb_buffer_node *node, const uint8_t *key, size_t key_size, bool *out_equal)
{
    int c = compare_shared(node, key, key_size);
    *out_equal = false;
    if (c)
        return c < 0 ? 0 : node->count;
    uint64_t head = cmb_buffer_head(key, key_size, node->skip);
    unsigned low = search_heads(node, head, false);
    if (low == node->count || node->heads[low] != head)
        return low;
    unsigned high = search_heads(node, head, true);
    while (low < high) {
        unsigned middle = (low + high) / 2;
        c = compare_entry(node->refs[middle], key, key_size);
        if (c == 0) {
            *out_equal = true;
            return middle;
        }
        if (c < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static unsigned child_for(const cmb_buffer_node *node, const uint8_t *key, size_t key_size)
{
    bool equal;
    unsigned i = lower_bound(node, key, key_size, &equal);
    return equal || i == 0 ? i : i - 1;
}

static void prefetch_node(const cmb_buffer_node *node)
{
    const char *bytes = (const char *)node;
    for (unsigned line = 0; line < 9; line += 2) /* the heads, every other line: the hardware fetches pairs */
        __builtin_prefetch(bytes + 64 * line);
}

cmb_buffer_pos cmb_buffer_index_seek(const cmb_buffer_index *index, const uint8_t *key, size_t key_size, bool *out_equal)
{
    const cmb_buffer_node *node = index->root;
    *out_equal = false;
    if (!node)
        return (cmb_buffer_pos){NULL, 0};
    while (node->level) {
        node = node->kids[child_for(node, key, key_size)];
        prefetch_node(node);
    }
    unsigned i = lower_bound(node, key, key_size, out_equal);
    if (i == node->count)
        return (cmb_buffer_pos){node->next, 0};
    return (cmb_buffer_pos){node, i};
}

/* ---- inserting ---- */

static size_t node_bytes(unsigned level)
{
    return level ? CMB_BUFFER_INNER_BYTES : CMB_BUFFER_LEAF_BYTES;
}

static cmb_buffer_node *take_node(cmb_slab *slab, unsigned level)
{
    cmb_buffer_node *node = cmb_slab_take(slab, node_bytes(level));
    node->count = node->skip = 0;
    node->level = (uint8_t)level;
    node->prev = node->next = NULL;
    return node;
}

static void load_heads(cmb_buffer_node *node, size_t skip)
{
    node->skip = (uint16_t)skip;
    for (unsigned i = 0; i < node->count; i++)
        __builtin_prefetch(node->refs[i]);
    for (unsigned i = 0; i < node->count; i++)
        node->heads[i] = cmb_buffer_head(node->refs[i]->bytes, node->refs[i]->key_size, skip);
}

/* Heads later bytes when the keys share many: for nodes just made of sorted entries. */
static void choose_skip(cmb_buffer_node *node)
{
    const cmb_buffer_entry *last = node->refs[node->count - 1];
    size_t shared = cmb_buffer_shared(node->refs[0], last->bytes, last->key_size, CMB_KEY_MAX);
    if (node->count > 1 && shared >= node->skip + CMB_BUFFER_SKIP_MIN)
        load_heads(node, shared);
}

/* Keeps true that all keys of the node share what its heads skip. */
static void make_fit(cmb_buffer_node *node, const cmb_buffer_entry *entry)
{
    size_t shared = node->skip ? cmb_buffer_shared(node->refs[0], entry->bytes, entry->key_size, node->skip) : 0;
    if (shared < node->skip)
        load_heads(node, shared < CMB_BUFFER_SKIP_MIN ? 0 : shared);
}

/* A key below all that an inner node knows becomes its first bound, so that bounds stay in order. */
static void lower_first(cmb_buffer_node *node, const cmb_buffer_entry *entry)
{
    make_fit(node, entry);
    node->refs[0] = entry;
    node->heads[0] = cmb_buffer_head(entry->bytes, entry->key_size, node->skip);
}

static void put_slot(cmb_buffer_node *node, unsigned i, const cmb_buffer_entry *entry, cmb_buffer_node *kid)
{
    unsigned after = node->count - i;
    make_fit(node, entry);
    memmove(node->heads + i + 1, node->heads + i, after * sizeof *node->heads);
    memmove(node->refs + i + 1, node->refs + i, after * sizeof *node->refs);
    node->heads[i] = cmb_buffer_head(entry->bytes, entry->key_size, node->skip);
    node->refs[i] = entry;
    if (kid) {
        memmove(node->kids + i + 1, node->kids + i, after * sizeof *node->kids);
        node->kids[i] = kid;
    }
    node->count++;
}

/* Moves the upper half of a full node to a new right sibling; only the last slot when the next one goes
 * behind it, so that ascending inserts fill nodes. */
static cmb_buffer_node *split(cmb_buffer_index *index, cmb_buffer_node *node, bool ascending)
{
    cmb_buffer_node *right = take_node(&index->slab, node->level);
    unsigned keep = ascending ? node->count - 1u : node->count / 2u, moved = node->count - keep;
    memcpy(right->heads, node->heads + keep, moved * sizeof *node->heads);
    memcpy(right->refs, node->refs + keep, moved * sizeof *node->refs);
    right->skip = node->skip;
    right->count = (uint16_t)moved;
    node->count = (uint16_t)keep;
    if (node->level) {
        memcpy(right->kids, node->kids + keep, moved * sizeof *node->kids);
    } else {
        right->prev = node;
        right->next = node->next;
        if (node->next)
            node->next->prev = right;
        else
            index->tail = right;
        node->next = right;
    }
    choose_skip(node);
    choose_skip(right);
    return right;
}

static void grow_root(cmb_buffer_index *index, const cmb_buffer_entry *separator, cmb_buffer_node *right)
{
    cmb_buffer_node *left = index->root, *root = take_node(&index->slab, left->level + 1u);
    put_slot(root, 0, left->refs[0], left);
    put_slot(root, 1, separator, right);
    assert(root->level < CMB_BUFFER_HEIGHT_MAX);
    index->root = root;
}

static void insert_on_path(cmb_buffer_index *index, cmb_buffer_node **path, unsigned *slots,
                           const cmb_buffer_entry *entry)
{
    cmb_buffer_node *kid = NULL;
    for (unsigned level = 0;; level++) {
        cmb_buffer_node *node = path[level], *right;
        unsigned i = slots[level] + (level ? 1 : 0);
        if (node->count < CMB_BUFFER_FANOUT) {
            put_slot(node, i, entry, kid);
            return;
        }
        right = split(index, node, i == CMB_BUFFER_FANOUT);
        if (i > node->count)
            put_slot(right, i - node->count, entry, kid);
        else
            put_slot(node, i, entry, kid);
        entry = right->refs[0];
        kid = right;
        if (node == index->root) {
            grow_root(index, entry, right);
            return;
        }
    }
}

int cmb_buffer_index_insert(cmb_buffer_index *index, const cmb_buffer_entry *entry)
{
    cmb_buffer_node *path[CMB_BUFFER_HEIGHT_MAX];
    unsigned slots[CMB_BUFFER_HEIGHT_MAX], height = index->root ? index->root->level + 1u : 1;
    bool equal;
    if (cmb_slab_reserve(&index->slab, index->root ? (height + 1) * CMB_BUFFER_INNER_BYTES : CMB_BUFFER_LEAF_BYTES))
        return CMB_ENOMEM;
    if (!index->root)
        index->root = index->head = index->tail = take_node(&index->slab, 0);
    cmb_buffer_node *node = index->root;
    for (; node->level; node = node->kids[slots[node->level]]) {
        path[node->level] = node;
        unsigned i = lower_bound(node, entry->bytes, entry->key_size, &equal);
        if (i == 0 && !equal)
            lower_first(node, entry);
        slots[node->level] = i > 0 && !equal ? i - 1 : i;
        prefetch_node(node->kids[slots[node->level]]);
    }
    path[0] = node;
    slots[0] = lower_bound(node, entry->bytes, entry->key_size, &equal);
    if (equal) {
        node->refs[slots[0]] = entry;
        return 0;
    }
    insert_on_path(index, path, slots, entry);
    index->count++;
    return 0;
}

/* ---- merging ---- */

/* Builds an index from entries in key order, all levels at once. */
typedef struct builder {
    cmb_buffer_index index;
    cmb_buffer_node *open[CMB_BUFFER_HEIGHT_MAX]; /* the node that is being filled, per level */
    unsigned height;
} builder;

/* Hangs a node into the level above, which may fill that. */
static int builder_hang(builder *b, cmb_buffer_node *kid)
{
    for (unsigned level = kid->level + 1u;; level++) {
        cmb_buffer_node *node = level < b->height ? b->open[level] : NULL, *full = NULL;
        assert(level < CMB_BUFFER_HEIGHT_MAX);
        if (!node || node->count == BUILD_FILL) {
            if (cmb_slab_reserve(&b->index.slab, CMB_BUFFER_INNER_BYTES))
                return CMB_ENOMEM;
            full = node;
            node = b->open[level] = take_node(&b->index.slab, level);
            if (level == b->height)
                b->height++;
        }
        node->refs[node->count] = kid->refs[0];
        node->heads[node->count] = cmb_buffer_head(kid->refs[0]->bytes, kid->refs[0]->key_size, 0);
        node->kids[node->count++] = kid;
        if (!full)
            return 0;
        choose_skip(full);
        kid = full;
    }
}

static int builder_add(builder *b, const cmb_buffer_entry *entry, uint64_t head)
{
    cmb_buffer_node *leaf = b->open[0];
    if (!leaf || leaf->count == BUILD_FILL) {
        if (cmb_slab_reserve(&b->index.slab, CMB_BUFFER_LEAF_BYTES))
            return CMB_ENOMEM;
        cmb_buffer_node *fresh = take_node(&b->index.slab, 0);
        fresh->prev = leaf;
        b->open[0] = b->index.tail = fresh;
        if (leaf) {
            leaf->next = fresh;
            choose_skip(leaf);
            if (builder_hang(b, leaf))
                return CMB_ENOMEM;
        } else {
            b->index.head = fresh;
            b->height = 1;
        }
        leaf = fresh;
    }
    leaf->heads[leaf->count] = head;
    leaf->refs[leaf->count++] = entry;
    b->index.count++;
    return 0;
}

static int builder_finish(builder *b)
{
    for (unsigned level = 0; level < b->height; level++) {
        cmb_buffer_node *node = b->open[level];
        choose_skip(node);
        if (level + 1 == b->height)
            b->index.root = node;
        else if (builder_hang(b, node))
            return CMB_ENOMEM;
    }
    return 0;
}

static uint64_t head_of(const cmb_buffer_entry *entry)
{
    return cmb_buffer_head(entry->bytes, entry->key_size, 0);
}

/* Walks the old index beside the items. */
typedef struct old_walk {
    const cmb_buffer_node *leaf;
    unsigned i;
} old_walk;

static void old_step(old_walk *old)
{
    if (++old->i == old->leaf->count) {
        old->leaf = old->leaf->next;
        old->i = 0;
    }
}

static uint64_t old_head(const old_walk *old)
{
    return old->leaf->skip ? head_of(old->leaf->refs[old->i]) : old->leaf->heads[old->i];
}

/* Adds the old entries below (head, entry); *out_equal: the next one has the same key. */
static int merge_below(builder *b, old_walk *old, uint64_t head, const cmb_buffer_entry *entry)
{
    while (old->leaf) {
        const cmb_buffer_entry *o = old->leaf->refs[old->i];
        uint64_t h = old_head(old);
        int c = h < head ? -1 : h > head ? 1 : compare_entry(o, entry->bytes, entry->key_size);
        if (c > 0)
            return 0;
        old_step(old);
        if (c < 0 && builder_add(b, o, h))
            return CMB_ENOMEM;
    }
    return 0;
}

static bool same_key(const cmb_buffer_entry *a, const cmb_buffer_entry *b)
{
    return a->key_size == b->key_size && memcmp(a->bytes, b->bytes, a->key_size) == 0;
}

static int merge_all(builder *b, const cmb_buffer_index *index, const cmb_buffer_item *items, size_t n, bool heads_valid)
{
    old_walk old = {index->head, 0};
    for (size_t i = 0; i < n; i++) {
        if (!heads_valid && i + AHEAD < n)
            __builtin_prefetch(items[i + AHEAD].entry);
        const cmb_buffer_entry *entry = items[i].entry;
        uint64_t head = heads_valid ? items[i].head : head_of(entry);
        bool may_repeat = i + 1 < n && (!heads_valid || items[i + 1].head == head);
        if (may_repeat && same_key(entry, items[i + 1].entry))
            continue; /* a later one follows */
        if (merge_below(b, &old, head, entry) || builder_add(b, entry, head))
            return CMB_ENOMEM;
    }
    for (; old.leaf; old_step(&old))
        if (builder_add(b, old.leaf->refs[old.i], old_head(&old)))
            return CMB_ENOMEM;
    return builder_finish(b);
}

int cmb_buffer_index_merge(cmb_buffer_index *index, const cmb_buffer_item *items, size_t n, bool heads_valid)
{
    builder b = {.height = 0};
    cmb_buffer_index_init(&b.index, index->slab.alloc);
    if (merge_all(&b, index, items, n, heads_valid)) {
        cmb_slab_release(&b.index.slab);
        return CMB_ENOMEM;
    }
    cmb_slab_release(&index->slab);
    *index = b.index;
    return 0;
}
