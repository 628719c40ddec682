/* SPDX-License-Identifier: ISC */
/*
 * Point reads. One pin goes down with the search: it lets go of the parent only when the child's reference was read.
 * Many reads go down together, one level a round: while one waits for its cache lines the others search.
 */
#include "btree/tree.h"

#include "btree/node_private.h"

#define ADDRESS_GUESS 4u /* bytes of a child's address, up to 64 GiB apart */

static void prefetch_span(const uint8_t *from, const uint8_t *to)
{
    for (const uint8_t *line = (const uint8_t *)((uintptr_t)from & ~(uintptr_t)63); line < to; line += 64)
        __builtin_prefetch(line);
}

/* ---- internal nodes, of which a descent needs little more than heads and addresses ---- */

static inline uint32_t count_of(const uint8_t *record) { return cmb_get16(record + 20); }
static inline const uint8_t *heads_of(const uint8_t *record)
{
    return record + cmb_align_up(CMB_NODE_HEADER + cmb_get16(record + 32), 8);
}
static inline const uint8_t *trailer_of(const uint8_t *record) { return record + 16 + cmb_get32(record + 16); }

/* The children's addresses begin to travel while the heads are searched, not after. */
static inline void prefetch_addresses(const uint8_t *record)
{
    const uint8_t *trailer = trailer_of(record);
    prefetch_span(trailer, trailer + ADDRESS_GUESS * (size_t)count_of(record));
}

static uint32_t child_by_whole_key(const cmb_tree *tree, const uint8_t *record, const uint8_t *key, size_t key_size)
{
    cmb_node node;
    cmb_node_open(tree->hash, record, &node);
    return cmb_node_child_for(&node, key, key_size);
}

/* As cmb_node_child_for: where no head is equal the heads alone decide. */
static inline uint32_t child_for(const cmb_tree *tree, const uint8_t *record, const uint8_t *key, size_t key_size)
{
    uint32_t prefix = cmb_get16(record + 32), count = count_of(record);
    if (CMB_UNLIKELY(key_size < prefix + 8u || cmb_compare_equal_sized(key, record + CMB_NODE_HEADER, prefix) != 0))
        return child_by_whole_key(tree, record, key, key_size);
    const uint8_t *heads = heads_of(record);
    uint64_t head = cmb_load_be64(key + prefix);
    uint32_t i = cmb_node_count_below(heads, count, head);
    if (CMB_UNLIKELY(i == count))
        return count - 1;
    if (CMB_UNLIKELY(cmb_get64(heads + 8 * (size_t)i) == head))
        return child_by_whole_key(tree, record, key, key_size);
    return i;
}

static inline uint64_t address_of(const uint8_t *record, uint32_t i)
{
    const uint8_t *t = trailer_of(record);
    return (cmb_get64(t) + cmb_node_packed(t + CMB_NODE_TRAILER_HEADER + (size_t)i * t[8], t[8])) * CMB_RECORD_ALIGN;
}

/* The child, which is verified first if it was not yet. */
static inline int enter_child(const cmb_tree *tree, const uint8_t *record, unsigned level, uint32_t i, uint64_t addr, cmb_pin *pin)
{
    if (CMB_LIKELY(cmb_nodes_resident(tree->nodes, addr, level - 1, pin)))
        return 0;
    cmb_node node;
    cmb_node_open(tree->hash, record, &node);
    return cmb_nodes_child(tree->nodes, &node, i, pin);
}

static int found_in_leaf(const cmb_node *leaf, uint32_t i, cmb_found *out_found)
{
    out_found->out_of_line = cmb_node_is_out_of_line(leaf, i);
    if (CMB_UNLIKELY(out_found->out_of_line))
        cmb_node_valref(leaf, i, &out_found->valref);
    else
        out_found->value = cmb_node_value(leaf, i);
    return 0;
}

int cmb_tree_get(const cmb_tree *tree, const cmb_noderef *root, const uint8_t *key, size_t key_size, cmb_pin *pin,
                 cmb_found *out_found)
{
    if (root->count == 0)
        return CMB_ENOTFOUND;
    int r = cmb_nodes_get(tree->nodes, root, pin);
    for (unsigned level = root->level; !r && level > 0; level--) {
        prefetch_addresses(pin->record);
        uint32_t i = child_for(tree, pin->record, key, key_size);
        r = enter_child(tree, pin->record, level, i, address_of(pin->record, i), pin);
    }
    if (CMB_UNLIKELY(r))
        return r;
    cmb_node leaf;
    bool equal;
    cmb_node_open(tree->hash, pin->record, &leaf);
    uint32_t i = cmb_node_lower_bound(&leaf, key, key_size, &equal);
    return equal ? found_in_leaf(&leaf, i, out_found) : CMB_ENOTFOUND;
}

/* ---- many at once ---- */

#define HOT_LEVEL 1u /* nodes up to this level are not expected in the cache */
#define GROUP 32u /* lookups that go down together: as many as hide each other's misses */

typedef struct lookup {
    const uint8_t *record; /* where it is */
    uint64_t addr;         /* internal: the child's */
    cmb_node leaf;
    uint64_t head;         /* leaf: what the key's head would be in it */
    uint32_t i;            /* internal: the child; leaf: the first head that is not below */
    bool down;             /* still going down */
} lookup;

typedef struct many {
    const cmb_tree *tree;
    const cmb_bytes *keys;
    size_t n;
    cmb_pin *pins;
    cmb_found *found;
    int *results;
    cmb_pin root_pin;
    lookup at[GROUP];
} many;

static void fail_one(many *m, size_t k, int error)
{
    m->results[k] = error;
    m->at[k].down = false;
}

/* The root is the same for all. Where it is the leaf, every pin has to hold it; else one is enough. */
static void enter_root(many *m, const cmb_noderef *root)
{
    int r = cmb_nodes_get(m->tree->nodes, root, &m->root_pin);
    for (size_t k = 0; k < m->n; k++) {
        lookup *l = &m->at[k];
        if (!r && !root->level)
            r = cmb_nodes_get(m->tree->nodes, root, &m->pins[k]);
        l->down = r == 0;
        m->results[k] = r;
        l->record = root->level ? m->root_pin.record : m->pins[k].record; /* it may be a copy of the pin's own */
    }
}

/* Every lookup chooses its child; then, when all have, the children's first lines begin to travel. */
static void choose_children(many *m)
{
    for (size_t k = 0; k < m->n; k++) {
        lookup *l = &m->at[k];
        if (!l->down)
            continue;
        l->i = child_for(m->tree, l->record, m->keys[k].data, m->keys[k].size);
        __builtin_prefetch(trailer_of(l->record) + ADDRESS_GUESS * (size_t)l->i);
    }
    for (size_t k = 0; k < m->n; k++) {
        lookup *l = &m->at[k];
        if (!l->down)
            continue;
        l->addr = address_of(l->record, l->i);
        cmb_nodes_prefetch_at(m->tree->nodes, l->addr);
    }
}

/* The pool reads what is missing with all reads in flight together. */
static void fetch_children(many *m)
{
    cmb_noderef refs[GROUP];
    cmb_node node;
    size_t n = 0;
    if (cmb_nodes_residency(m->tree->nodes) != CMB_RESIDENCY_POOL)
        return;
    for (size_t k = 0; k < m->n; k++) {
        const lookup *l = &m->at[k];
        if (!l->down)
            continue;
        cmb_node_open(m->tree->hash, l->record, &node);
        cmb_node_child(&node, l->i, &refs[n++]);
    }
    if (n > 1)
        cmb_nodes_fetch_many(m->tree->nodes, refs, n);
}

/* Every lookup takes its child; the heads that its search will touch begin to travel. Nodes far from the leaves are few
 * and stay in the cache by themselves. */
static void enter_children(many *m, unsigned level)
{
    for (size_t k = 0; k < m->n; k++) {
        lookup *l = &m->at[k];
        if (!l->down)
            continue;
        int r = enter_child(m->tree, l->record, level, l->i, l->addr, &m->pins[k]);
        if (CMB_UNLIKELY(r)) {
            fail_one(m, k, r);
            continue;
        }
        l->record = m->pins[k].record;
        if (level - 1 == HOT_LEVEL) {
            const uint8_t *heads = heads_of(l->record);
            prefetch_span(heads, heads + 8 * (size_t)count_of(l->record));
            __builtin_prefetch(trailer_of(l->record));
        }
    }
}

/* Where the head says that the key is: its rest and its value begin to travel. */
static void aim_in_leaf(cmb_hash_kind hash, lookup *l, const cmb_bytes *key)
{
    cmb_node *leaf = &l->leaf;
    cmb_node_open(hash, l->record, leaf);
    l->head = 0;
    if (key->size > leaf->prefix_size) {
        size_t size = key->size - leaf->prefix_size;
        memcpy(&l->head, (const uint8_t *)key->data + leaf->prefix_size, size < 8 ? size : 8);
        l->head = CMB_BE64(l->head);
    }
    uint32_t i = l->i = cmb_node_count_below(leaf->heads, leaf->count, l->head);
    if (i == leaf->count)
        return;
    if (leaf->key_offsets)
        __builtin_prefetch(leaf->key_offsets + 4 * (size_t)i);
    else
        __builtin_prefetch(leaf->rests + (size_t)i * leaf->rest_size);
    if (leaf->value_offsets) {
        __builtin_prefetch(leaf->value_offsets + 4 * (size_t)i);
        return;
    }
    const uint8_t *value = leaf->values + (size_t)i * leaf->value_size;
    prefetch_span(value, value + (leaf->value_size < 256 ? leaf->value_size : 256));
}

/* The ordinary case, in which the search by heads need not be repeated: no other key has this head. */
static bool aimed_at(const lookup *l, const cmb_bytes *key)
{
    const cmb_node *leaf = &l->leaf;
    return l->i < leaf->count && cmb_get64(leaf->heads + 8 * (size_t)l->i) == l->head
           && (l->i + 1 == leaf->count || cmb_get64(leaf->heads + 8 * ((size_t)l->i + 1)) != l->head)
           && cmb_node_compare(leaf, l->i, key->data, key->size) == 0;
}

static void search_leaves(many *m)
{
    for (size_t k = 0; k < m->n; k++)
        if (m->at[k].down)
            aim_in_leaf(m->tree->hash, &m->at[k], &m->keys[k]);
    for (size_t k = 0; k < m->n; k++) {
        lookup *l = &m->at[k];
        const cmb_bytes *key = &m->keys[k];
        if (!l->down)
            continue;
        bool equal = aimed_at(l, key);
        if (CMB_UNLIKELY(!equal))
            l->i = cmb_node_lower_bound(&l->leaf, key->data, key->size, &equal);
        m->results[k] = equal ? found_in_leaf(&l->leaf, l->i, &m->found[k]) : CMB_ENOTFOUND;
    }
}

static void get_group(many *m, const cmb_noderef *root)
{
    enter_root(m, root);
    for (unsigned level = root->level; level > 0; level--) {
        choose_children(m);
        fetch_children(m);
        enter_children(m, level);
    }
    search_leaves(m);
    cmb_pin_destroy(m->tree->nodes, &m->root_pin);
}

void cmb_tree_get_many(const cmb_tree *tree, const cmb_noderef *root, const cmb_bytes *keys, size_t n, cmb_pin *pins,
                       cmb_found *out_found, int *out_results)
{
    many m;
    m.root_pin = (cmb_pin){.record = NULL};
    for (size_t from = 0; from < n; from += m.n) {
        m.tree = tree;
        m.keys = keys + from;
        m.n = n - from < GROUP ? n - from : GROUP;
        m.pins = pins + from;
        m.found = out_found + from;
        m.results = out_results + from;
        if (root->count)
            get_group(&m, root);
        else
            for (size_t k = 0; k < m.n; k++)
                m.results[k] = CMB_ENOTFOUND;
    }
}
