/* SPDX-License-Identifier: ISC */
/*
 * A cursor holds one pinned node per level, the leaf at [0]. A level remembers which child of its
 * parent it holds, so that a seek nearby fetches only what differs. Keys are rebuilt in the
 * cursor's own buffer when they are asked for: the common prefix once a leaf, then head and rest.
 */
#include "btree/source.h"

#define NO_CHILD UINT32_MAX

typedef struct cursor_level {
    cmb_pin pin;
    cmb_node node;
    uint32_t i;    /* of the current entry or child */
    uint32_t held; /* which child of the parent this is; NO_CHILD: none (the root: 0 or NO_CHILD) */
} cursor_level;

struct cmb_tree_cursor {
    const cmb_tree *tree;
    cmb_noderef root;
    cmb_place state;
    bool key_built;    /* key holds the current entry's key */
    bool prefix_built; /* key begins with the leaf's prefix */
    uint32_t key_size;
    uint8_t *key;
    size_t key_capacity;
    uint32_t levels;
    cursor_level path[];
};

static size_t cursor_bytes(uint32_t levels)
{
    return sizeof(cmb_tree_cursor) + levels * sizeof(cursor_level);
}

int cmb_tree_cursor_open(const cmb_tree *tree, const cmb_noderef *root, cmb_tree_cursor **out_cursor)
{
    if (root->level > CMB_LEVEL_MAX)
        return cmb_fail(CMB_ECORRUPT, "the tree at %llu claims a height of %u", (unsigned long long)root->addr, root->level);
    uint32_t levels = root->level + 1u;
    cmb_tree_cursor *c = cmb_zalloc(&tree->alloc, cursor_bytes(levels));
    if (!c)
        return CMB_ENOMEM;
    c->tree = tree;
    c->root = *root;
    c->levels = levels;
    for (uint32_t l = 0; l < levels; l++)
        c->path[l].held = NO_CHILD;
    *out_cursor = c;
    return 0;
}

void cmb_tree_cursor_close(cmb_tree_cursor *c)
{
    if (!c)
        return;
    for (uint32_t l = 0; l < c->levels; l++)
        cmb_pin_destroy(c->tree->nodes, &c->path[l].pin);
    cmb_release(&c->tree->alloc, c->key, c->key_capacity);
    cmb_release(&c->tree->alloc, c, cursor_bytes(c->levels));
}

/* ---- nodes ---- */

/* Room for any key of the leaf, and 8 bytes more because heads are written whole. */
static int reserve_key(cmb_tree_cursor *c, const cmb_node *leaf)
{
    size_t rest = leaf->key_offsets ? cmb_node_offset(leaf, leaf->key_offsets, leaf->count) : leaf->rest_size;
    size_t need = leaf->prefix_size + 16u + (rest < CMB_KEY_MAX ? rest : CMB_KEY_MAX);
    if (CMB_LIKELY(need <= c->key_capacity))
        return 0;
    uint8_t *key = cmb_resize(&c->tree->alloc, c->key, c->key_capacity, need);
    if (!key)
        return CMB_ENOMEM;
    c->key = key;
    c->key_capacity = need;
    return 0;
}

/* Makes level l hold the child that its parent stands on. */
static int load(cmb_tree_cursor *c, uint32_t l)
{
    cursor_level *at = &c->path[l], *above = at + 1;
    bool is_root = l + 1 == c->levels;
    uint32_t child = is_root ? 0 : above->i;
    int r;
    if (at->held == child)
        return 0;
    at->held = NO_CHILD;
    if (l > 0)
        at[-1].held = NO_CHILD;
    r = is_root ? cmb_nodes_get(c->tree->nodes, &c->root, &at->pin)
                : cmb_nodes_child(c->tree->nodes, &above->node, child, &at->pin);
    if (r)
        return r;
    cmb_node_open(c->tree->hash, at->pin.record, &at->node);
    if (at->node.count == 0 || at->node.level != l)
        return cmb_fail(CMB_ECORRUPT, "the tree at %llu has an empty or misplaced node at level %u",
                        (unsigned long long)c->root.addr, l);
    if (l == 0) {
        c->prefix_built = false;
        r = reserve_key(c, &at->node);
    }
    if (!r)
        at->held = child;
    return r;
}

static int lose(cmb_tree_cursor *c, int error)
{
    c->state = CMB_PLACE_LOST;
    return error;
}

static int land(cmb_tree_cursor *c)
{
    c->state = CMB_PLACE_ON;
    c->key_built = false;
    return 0;
}

static int leave(cmb_tree_cursor *c, cmb_place to)
{
    c->state = to;
    return CMB_ENOTFOUND;
}

/* The leaf beside the current one is wanted soon. */
static void prefetch_beside(cmb_tree_cursor *c, bool backward)
{
    if (c->levels == 1)
        return;
    const cursor_level *parent = &c->path[1];
    if (backward ? parent->i > 0 : parent->i + 1 < parent->node.count)
        cmb_nodes_prefetch(c->tree->nodes, &parent->node, backward ? parent->i - 1 : parent->i + 1);
}

/* From level l down to the leaf, along the outermost entries. */
static int descend_edge(cmb_tree_cursor *c, uint32_t l, bool to_last)
{
    for (;; l--) {
        int r = load(c, l);
        if (r)
            return lose(c, r);
        c->path[l].i = to_last ? c->path[l].node.count - 1 : 0;
        if (l == 0)
            return land(c);
    }
}

static int go_edge(cmb_tree_cursor *c, bool to_last)
{
    if (c->root.count == 0)
        return leave(c, to_last ? CMB_PLACE_BEFORE : CMB_PLACE_AFTER);
    return descend_edge(c, c->levels - 1, to_last);
}

static __attribute__((noinline)) int next_leaf(cmb_tree_cursor *c)
{
    uint32_t l = 1;
    while (l < c->levels && c->path[l].i + 1 == c->path[l].node.count)
        l++;
    if (l >= c->levels)
        return leave(c, CMB_PLACE_AFTER);
    c->path[l].i++;
    int r = descend_edge(c, l - 1, false);
    if (!r)
        prefetch_beside(c, false);
    return r;
}

static __attribute__((noinline)) int prev_leaf(cmb_tree_cursor *c)
{
    uint32_t l = 1;
    while (l < c->levels && c->path[l].i == 0)
        l++;
    if (l >= c->levels)
        return leave(c, CMB_PLACE_BEFORE);
    c->path[l].i--;
    int r = descend_edge(c, l - 1, true);
    if (!r)
        prefetch_beside(c, true);
    return r;
}

/* ---- moves ---- */

int cmb_tree_cursor_first(cmb_tree_cursor *c)
{
    return go_edge(c, false);
}

int cmb_tree_cursor_last(cmb_tree_cursor *c)
{
    return go_edge(c, true);
}

/* Coming from outside, or from nowhere. */
static int enter(cmb_tree_cursor *c, bool backward)
{
    if (c->state == CMB_PLACE_LOST)
        return cmb_place_lost();
    if (c->state == (backward ? CMB_PLACE_BEFORE : CMB_PLACE_AFTER))
        return CMB_ENOTFOUND;
    return go_edge(c, backward);
}

int cmb_tree_cursor_next(cmb_tree_cursor *c)
{
    if (CMB_UNLIKELY(c->state != CMB_PLACE_ON))
        return enter(c, false);
    cursor_level *leaf = &c->path[0];
    c->key_built = false;
    if (CMB_LIKELY(leaf->i + 1 < leaf->node.count)) {
        leaf->i++;
        return 0;
    }
    return next_leaf(c);
}

int cmb_tree_cursor_prev(cmb_tree_cursor *c)
{
    if (CMB_UNLIKELY(c->state != CMB_PLACE_ON))
        return enter(c, true);
    cursor_level *leaf = &c->path[0];
    c->key_built = false;
    if (CMB_LIKELY(leaf->i > 0)) {
        leaf->i--;
        return 0;
    }
    return prev_leaf(c);
}

/* Down to the leaf that would hold the key; its i is the lower bound there, count if all are below. */
static int descend(cmb_tree_cursor *c, const uint8_t *key, size_t key_size, bool *out_equal)
{
    for (uint32_t l = c->levels - 1;; l--) {
        cursor_level *at = &c->path[l];
        int r = load(c, l);
        if (r)
            return lose(c, r);
        if (l == 0) {
            at->i = cmb_node_lower_bound(&at->node, key, key_size, out_equal);
            return land(c);
        }
        at->i = cmb_node_child_for(&at->node, key, key_size);
    }
}

int cmb_tree_cursor_seek_ge(cmb_tree_cursor *c, const uint8_t *key, size_t key_size)
{
    bool equal;
    if (c->root.count == 0)
        return leave(c, CMB_PLACE_AFTER);
    int r = descend(c, key, key_size, &equal);
    if (r)
        return r;
    return c->path[0].i < c->path[0].node.count ? 0 : next_leaf(c);
}

int cmb_tree_cursor_seek_le(cmb_tree_cursor *c, const uint8_t *key, size_t key_size)
{
    bool equal;
    if (c->root.count == 0)
        return leave(c, CMB_PLACE_BEFORE);
    int r = descend(c, key, key_size, &equal);
    if (r || equal)
        return r;
    if (c->path[0].i == 0)
        return prev_leaf(c);
    c->path[0].i--;
    return 0;
}

int cmb_tree_cursor_seek_nth(cmb_tree_cursor *c, uint64_t n)
{
    if (n >= c->root.count)
        return leave(c, CMB_PLACE_AFTER);
    for (uint32_t l = c->levels - 1;; l--) {
        cursor_level *at = &c->path[l];
        int r = load(c, l);
        if (r)
            return lose(c, r);
        uint32_t i = 0;
        if (l == 0)
            i = n < at->node.count ? (uint32_t)n : at->node.count;
        else
            for (uint64_t inside; i < at->node.count && n >= (inside = cmb_node_child_count(&at->node, i)); i++)
                n -= inside;
        if (i == at->node.count)
            return lose(c, cmb_fail(CMB_ECORRUPT, "the tree at %llu holds fewer entries than it counts",
                                    (unsigned long long)c->root.addr));
        at->i = i;
        if (l == 0)
            return land(c);
    }
}

/* ---- the current entry ---- */

cmb_place cmb_tree_cursor_place(const cmb_tree_cursor *c)
{
    return c->state;
}

uint64_t cmb_tree_cursor_rank(const cmb_tree_cursor *c)
{
    uint64_t rank = c->path[0].i;
    for (uint32_t l = 1; l < c->levels; l++)
        for (uint32_t i = 0; i < c->path[l].i; i++)
            rank += cmb_node_child_count(&c->path[l].node, i);
    return rank;
}

static void build_key(cmb_tree_cursor *c)
{
    const cmb_node *leaf = &c->path[0].node;
    uint32_t i = c->path[0].i, head_size = leaf->head_sizes ? leaf->head_sizes[i] : 8, rest_size = leaf->rest_size;
    const uint8_t *rest = leaf->rests + (size_t)i * rest_size;
    uint8_t *at = c->key + leaf->prefix_size;
    if (leaf->key_offsets) {
        uint32_t from = cmb_node_offset(leaf, leaf->key_offsets, i);
        rest = leaf->rests + from;
        rest_size = cmb_node_offset(leaf, leaf->key_offsets, i + 1) - from;
    }
    if (!c->prefix_built) {
        memcpy(c->key, leaf->prefix, leaf->prefix_size);
        c->prefix_built = true;
    }
    uint64_t head = __builtin_bswap64(*(const uint64_t *)(const void *)(leaf->heads + 8 * (size_t)i));
    memcpy(at, &head, 8);
    at += head_size;
    if (rest_size == 16) /* the common case, in two stores */
        memcpy(at, rest, 16);
    else
        memcpy(at, rest, rest_size);
    c->key_size = leaf->prefix_size + head_size + rest_size;
    c->key_built = true;
}

cmb_bytes cmb_tree_cursor_key(cmb_tree_cursor *c)
{
    if (!c->key_built)
        build_key(c);
    return (cmb_bytes){c->key, c->key_size};
}

int cmb_tree_cursor_value(cmb_tree_cursor *c, cmb_found *out_found)
{
    const cmb_node *leaf = &c->path[0].node;
    uint32_t i = c->path[0].i;
    if (CMB_UNLIKELY(c->state != CMB_PLACE_ON))
        return CMB_ENOTFOUND;
    out_found->out_of_line = cmb_node_is_out_of_line(leaf, i);
    if (CMB_UNLIKELY(out_found->out_of_line))
        cmb_node_valref(leaf, i, &out_found->valref);
    else
        out_found->value = cmb_node_value(leaf, i);
    return 0;
}
