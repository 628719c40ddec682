/* SPDX-License-Identifier: ISC */
/*
 * stretch.c: one run of a level through the decider, which says where nodes have to end: the nodes that are there are
 * held against it, one by one.
 */
#include "btree/level.h"
#include "btree/shape.h"

typedef struct node_end {
    uint64_t last; /* number of its last entry in the stretch */
    uint64_t addr;
    bool cut;
} node_end;

typedef struct stretch {
    const cmb_tree *tree;
    unsigned level;
    cmb_path path;
    cmb_pin pin;
    cmb_window window; /* keys of entries whose node was not reported yet */
    cmb_decider decider;
    node_end *ends;    /* a queue: nodes that wait for a report */
    size_t first, count, capacity;
    bool over;         /* a boundary of round 0 was reported */
    bool at_end;       /* the level ends with what was fed: all of it counts */
    uint8_t scratch[CMB_KEY_MAX];
    cmb_entry_room room;
} stretch;

/* ---- what the decider asks and says ---- */

static uint64_t rehash(void *ctx, uint64_t index, unsigned round)
{
    const stretch *s = ctx;
    const cmb_entry *e = cmb_window_at(&s->window, index);
    return cmb_boundary_hash(s->tree->seed, s->level, round, e->key, e->key_size);
}

static uint32_t logical_bytes(void *ctx, uint64_t index)
{
    const stretch *s = ctx;
    return cmb_entry_bytes(cmb_window_at(&s->window, index), s->level);
}

static int report(void *ctx, uint64_t last, bool cut)
{
    stretch *s = ctx;
    if (s->over && !s->at_end) /* what follows is another stretch */
        return 0;
    const node_end *end = &s->ends[s->first];
    if (s->count == 0)
        return cmb_fail(CMB_ECORRUPT, "level %u: a node more is expected", s->level);
    if (end->last != last)
        return cmb_fail(CMB_ECORRUPT, "node at %llu, level %u: it ends %llu entries too %s", (unsigned long long)end->addr, s->level,
                        (unsigned long long)(end->last > last ? end->last - last : last - end->last), end->last > last ? "late" : "early");
    if (end->cut != cut)
        return cmb_fail(CMB_ECORRUPT, "node at %llu, level %u: its end %s", (unsigned long long)end->addr, s->level,
                        cut ? "is cut, its reference says that it is a boundary" : "is a boundary, its reference says that it is cut");
    s->first++;
    s->count--;
    s->over = !cut;
    cmb_window_release(&s->window, last);
    return 0;
}

static const cmb_decider_ops ops = {rehash, logical_bytes, report};

/* ---- feeding it ---- */

static int queue_end(stretch *s, const node_end *end)
{
    if (s->first + s->count == s->capacity && s->first > s->count) {
        memmove(s->ends, s->ends + s->first, s->count * sizeof *s->ends);
        s->first = 0;
    }
    if (s->first + s->count == s->capacity) {
        size_t capacity = s->capacity ? 2 * s->capacity : 16;
        node_end *ends = cmb_resize(&s->tree->alloc, s->ends, s->capacity * sizeof *ends, capacity * sizeof *ends);
        if (!ends)
            return CMB_ENOMEM;
        s->ends = ends;
        s->capacity = capacity;
    }
    s->ends[s->first + s->count++] = *end;
    return 0;
}

static int push_entry(stretch *s, const cmb_noderef *ref, const cmb_node *node, uint32_t i)
{
    cmb_entry e;
    uint32_t inline_max = cmb_tree_inline_max(s->tree);
    cmb_entry_of(node, i, &s->room, &e);
    if (s->level == 0 && (e.valref ? e.valref->size <= inline_max : e.value_size > inline_max))
        return cmb_fail(CMB_ECORRUPT, "node at %llu: the value of entry %u is %s", (unsigned long long)ref->addr, (unsigned)i,
                        e.valref ? "out of line, but small" : "inline, but large");
    uint8_t *key = cmb_window_room(&s->window, e.key_size);
    if (!key)
        return CMB_ENOMEM;
    memcpy(key, e.key, e.key_size);
    e.key = key;
    int error = cmb_window_add(&s->window, &e);
    if (error)
        return error;
    uint64_t hash = cmb_boundary_hash(s->tree->seed, s->level, 0, key, e.key_size);
    return cmb_decider_push(&s->decider, hash, cmb_entry_bytes(&e, s->level));
}

static int push_node(stretch *s)
{
    cmb_noderef ref;
    cmb_node node;
    int error = cmb_path_node(&s->path, s->scratch, &s->pin, &ref, &node);
    if (!error)
        error = queue_end(s, &(node_end){s->decider.count + node.count, ref.addr, ref.cut});
    for (uint32_t i = 0; i < node.count && !error && !s->over; i++) {
        error = push_entry(s, &ref, &node, i);
        if (!error && s->decider.left_died)
            error = cmb_fail(CMB_ECORRUPT, "node at %llu, level %u: it begins where no boundary is", (unsigned long long)ref.addr, s->level);
    }
    return error;
}

static int feed(stretch *s)
{
    int error = 0;
    while (!error && !s->over) {
        error = push_node(s);
        if (!error && !s->over)
            error = cmb_path_next(&s->path);
    }
    if (error != CMB_ENOTFOUND)
        return error;
    s->at_end = true;
    error = cmb_decider_finish_level(&s->decider);
    if (!error && s->decider.left_died)
        return cmb_fail(CMB_ECORRUPT, "level %u: the last node but one ends where no boundary is", s->level);
    if (!error && s->count > 0)
        return cmb_fail(CMB_ECORRUPT, "node at %llu, level %u: a node too many", (unsigned long long)s->ends[s->first].addr, s->level);
    return error;
}

int cmb_shape_check_stretch(const cmb_tree *tree, const cmb_noderef *root, unsigned level, const uint8_t *key, size_t key_size,
                            const uint64_t *left)
{
    stretch *s = cmb_zalloc(&tree->alloc, sizeof *s);
    if (!s)
        return CMB_ENOMEM;
    s->tree = tree;
    s->level = level;
    cmb_window_init(&s->window, &tree->alloc);
    cmb_decider_init(&s->decider, &tree->alloc, cmb_boundary_target(tree->target, level), level > 0, &ops, s);
    int error = cmb_path_open(&s->path, tree, root, level);
    if (!error)
        error = cmb_path_seek(&s->path, key, key_size);
    if (!error && left)
        error = cmb_decider_start_after(&s->decider, *left);
    else if (!error)
        cmb_decider_start(&s->decider);
    if (!error)
        error = feed(s);
    cmb_path_close(&s->path);
    cmb_pin_destroy(tree->nodes, &s->pin);
    cmb_decider_destroy(&s->decider);
    cmb_window_destroy(&s->window);
    cmb_release(&tree->alloc, s->ends, s->capacity * sizeof *s->ends);
    cmb_release(&tree->alloc, s, sizeof *s);
    return error;
}
