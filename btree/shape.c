/* SPDX-License-Identifier: ISC */
/* shape.c: the facts of one node. Entries are numbered from 1, as the decider does; 0 is the boundary before them. */
#include "btree/shape.h"

#include "btree/boundary.h"
#include "btree/node_private.h"

typedef struct facts_of {
    const uint64_t *hashes, *ends; /* [1 .. n]; ends[0] is 0 */
    uint32_t n, window;
} facts_of;

static int make_room(const cmb_tree *tree, cmb_facts_room *room, size_t n)
{
    if (n <= room->capacity)
        return 0;
    size_t capacity = n < 256 ? 256 : cmb_align_up(n, 1024);
    cmb_facts_room_free(tree, room);
    room->hashes = cmb_alloc(&tree->alloc, capacity * sizeof *room->hashes);
    room->ends = cmb_alloc(&tree->alloc, capacity * sizeof *room->ends);
    room->capacity = capacity;
    if (room->hashes && room->ends)
        return 0;
    cmb_facts_room_free(tree, room);
    return CMB_ENOMEM;
}

void cmb_facts_room_free(const cmb_tree *tree, cmb_facts_room *room)
{
    cmb_release(&tree->alloc, room->hashes, room->capacity * sizeof *room->hashes);
    cmb_release(&tree->alloc, room->ends, room->capacity * sizeof *room->ends);
    room->hashes = room->ends = NULL;
    room->capacity = 0;
}

/* Is entry `index` out of the window of entry `i`, left of it? The same the other way round. */
static inline bool is_past(const facts_of *f, uint32_t i, uint32_t index)
{
    return f->ends[index - 1] - f->ends[i] >= f->window && index - i > 2;
}

/* ---- hashes and logical sizes ---- */

/* Puts key i behind the prefix, which stays in `key`; returns its size. */
static inline uint32_t key_behind_prefix(const cmb_node *node, uint32_t i, uint8_t *key)
{
    uint32_t head_size = cmb_node_head_size(node, i), rest_size = cmb_node_rest_size(node, i);
    uint64_t head = CMB_BE64(cmb_node_head(node, i));
    memcpy(key + node->prefix_size, &head, 8); /* there is room for a head that is no whole one */
    if (rest_size)
        memcpy(key + node->prefix_size + 8, cmb_node_rest(node, i), rest_size);
    return node->prefix_size + head_size + rest_size;
}

/* *out_forms: every value is in line exactly if it is small. */
static void measure_entries(const cmb_tree *tree, const cmb_node *node, cmb_facts_room *room, bool *out_forms)
{
    uint64_t salt = cmb_boundary_salt(tree->seed, node->level, 0), end = 0;
    uint32_t inline_max = cmb_tree_inline_max(tree);
    bool forms = true;
    memcpy(room->key, node->prefix, node->prefix_size);
    room->ends[0] = 0;
    for (uint32_t i = 0; i < node->count; i++) {
        uint32_t size = key_behind_prefix(node, i, room->key);
        room->hashes[i + 1] = cmb_hash64(room->key, size, salt);
        if (node->level > 0) {
            end += size + CMB_LOGICAL_CHILD;
        } else if (cmb_node_is_out_of_line(node, i)) {
            forms = forms && cmb_get32(cmb_node_value(node, i).data) > inline_max;
            end += size + CMB_LOGICAL_FAR + CMB_LOGICAL_LEAF;
        } else {
            uint32_t value = (uint32_t)cmb_node_value(node, i).size;
            forms = forms && value <= inline_max;
            end += size + value + CMB_LOGICAL_LEAF;
        }
        room->ends[i + 1] = end;
    }
    *out_forms = forms;
}

/* ---- what they say ---- */

static void measure_front(const facts_of *f, cmb_node_facts *out)
{
    uint64_t front = 0;
    uint32_t i = 1;
    for (; i <= f->n && !is_past(f, 0, i); i++)
        front = f->hashes[i] > front ? f->hashes[i] : front;
    out->front = front;
    out->front_whole = i <= f->n;
}

static bool exceeds_left(const facts_of *f, uint32_t index)
{
    for (uint32_t i = index - 1; i >= 1 && !is_past(f, i, index); i--)
        if (f->hashes[i] > f->hashes[index])
            return false;
    return true;
}

/*
 * Is none of the entries whose windows lie inside a boundary? In one pass to the right: entries up to the first that is not
 * smaller are exceeded by the one that looks; one that finds none in its window is the only one that has to look left.
 */
static bool none_inside(const facts_of *f)
{
    uint32_t i = 1;
    while (i < f->n && !is_past(f, 0, i))
        i++;
    while (i < f->n && is_past(f, i, f->n)) {
        uint32_t j = i + 1;
        while (j <= f->n && !is_past(f, i, j) && f->hashes[j] < f->hashes[i])
            j++;
        bool exceeds_right = j > f->n || is_past(f, i, j);
        if (exceeds_right && exceeds_left(f, i))
            return false;
        i = j;
    }
    return true;
}

int cmb_node_facts_of(const cmb_tree *tree, const cmb_node *node, const cmb_name *name, cmb_facts_room *room, cmb_node_facts *out_facts)
{
    bool forms;
    uint32_t n = node->count;
    int error = make_room(tree, room, (size_t)n + 1);
    if (error)
        return error;
    *out_facts = (cmb_node_facts){.length = node->length, .prefix = node->prefix_size, .count = (uint16_t)n,
                                  .out_of_line = node->flags & CMB_NODE_OUT_OF_LINE};
    memcpy(&out_facts->name, name->bytes, sizeof out_facts->name);
    if (n == 0)
        return 0;
    const uint32_t target = cmb_boundary_target(tree->target, node->level);
    measure_entries(tree, node, room, &forms);
    facts_of f = {room->hashes, room->ends, n, cmb_boundary_window(target)};
    measure_front(&f, out_facts);
    out_facts->last_hash = f.hashes[n];
    out_facts->alone = forms && is_past(&f, 0, n) && f.ends[n] <= cmb_boundary_cap(target) && exceeds_left(&f, n) && none_inside(&f);
    uint32_t rest = cmb_node_rest_size(node, 0);
    out_facts->start[0] = cmb_node_head(node, 0);
    out_facts->start[1] = cmb_head_of(cmb_node_rest(node, 0), rest < 8 ? rest : 8);
    return 0;
}

/* ---- a leaf against its reference ---- */

/* The first key is beyond `before`: by what all keys share with the last one, else by what follows that. */
static bool starts_beyond(const cmb_node_facts *facts, const uint8_t *before, size_t before_size, const uint8_t *last)
{
    size_t prefix = facts->prefix, shared = before_size < prefix ? before_size : prefix;
    int c = memcmp(before, last, shared);
    if (c || shared < prefix)
        return c <= 0;
    const uint8_t *p = before + prefix;
    size_t left = before_size - prefix, second = left > 8 ? left - 8 : 0;
    uint64_t head = cmb_head_of(p, left < 8 ? left : 8);
    if (head != facts->start[0])
        return head < facts->start[0];
    return cmb_head_of(p + 8, second < 8 ? second : 8) < facts->start[1];
}

bool cmb_node_facts_match(const cmb_tree *tree, const cmb_node_facts *facts, const cmb_noderef *ref, const uint8_t *before,
                          size_t before_size, const uint8_t *last, size_t last_size)
{
    if (memcmp(&facts->name, ref->name.bytes, sizeof facts->name) || facts->length != ref->length || ref->level != 0 ||
        facts->count != ref->count || facts->out_of_line != ref->out_of_line || facts->count == 0)
        return false;
    if (last_size == 0)
        return before_size == 0;
    return last_size >= facts->prefix && cmb_boundary_hash(tree->seed, 0, 0, last, last_size) == facts->last_hash &&
           (before_size == 0 || starts_beyond(facts, before, before_size, last));
}
