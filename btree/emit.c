/* SPDX-License-Identifier: ISC */
/* emit.c: what leaves a region: new nodes, old ones that are the same again, and deletions of those that are gone. */
#include "btree/level.h"

/* ---- old nodes ---- */

cmb_old *cmb_olds_newest(const cmb_olds *o)
{
    return &o->slots[(o->head + o->count - 1) & (o->capacity - 1)];
}

cmb_old *cmb_olds_push(const cmb_allocator *alloc, cmb_olds *o)
{
    if (o->count == o->capacity) {
        uint32_t capacity = o->capacity ? 2 * o->capacity : 4;
        cmb_old *slots = cmb_zalloc(alloc, capacity * sizeof(*slots));
        if (!slots)
            return NULL;
        for (uint32_t i = 0; i < o->count; i++)
            slots[i] = o->slots[(o->head + i) & (o->capacity - 1)];
        cmb_release(alloc, o->slots, o->capacity * sizeof(*slots));
        o->slots = slots;
        o->capacity = capacity;
        o->head = 0;
    }
    o->count++;
    return cmb_olds_newest(o);
}

static void olds_pop(const cmb_tree *tree, cmb_olds *o)
{
    cmb_pin_release(tree->nodes, &o->slots[o->head].pin);
    o->head = (o->head + 1) & (o->capacity - 1);
    o->count--;
}

void cmb_olds_drop_newest(const cmb_tree *tree, cmb_olds *o)
{
    cmb_pin_release(tree->nodes, &cmb_olds_newest(o)->pin);
    o->count--;
}

void cmb_olds_destroy(const cmb_tree *tree, cmb_olds *o)
{
    for (uint32_t i = 0; i < o->capacity; i++)
        cmb_pin_destroy(tree->nodes, &o->slots[i].pin);
    cmb_release(&tree->alloc, o->slots, o->capacity * sizeof(*o->slots));
    *o = (cmb_olds){0};
}

/* ---- emitting ---- */

/* An edit of the level above, in its place among the seams. */
static int push_up(cmb_level *lv, const cmb_entry *entry, bool remove)
{
    int error = lv->seams ? cmb_level_pass_seams(lv, entry) : 0;
    return error ? error : cmb_editor_push_up(lv->editor, lv->level + 1, entry, remove);
}

int cmb_level_drop_olds(cmb_level *lv, const cmb_entry *key)
{
    const cmb_tree *tree = lv->editor->tree;
    while (lv->olds.count > 0) {
        const cmb_old *slot = &lv->olds.slots[lv->olds.head];
        const cmb_node *old = &slot->node;
        if (key && cmb_node_compare(old, old->count - 1, key->key, key->key_size) >= 0)
            return 0;
        if (!slot->is_root) {
            cmb_entry gone = {.key = lv->scratch, .key_size = cmb_node_key(old, old->count - 1, lv->scratch)};
            int error = push_up(lv, &gone, true);
            if (error)
                return error;
        }
        olds_pop(tree, &lv->olds);
    }
    return 0;
}

static bool same_record(const cmb_old *old, const cmb_noderef *ref, const uint8_t *record)
{
    return old->ref.length == ref->length && memcmp(old->pin.record + 16, record + 16, ref->length - 16) == 0;
}

/* The decider's report: the waiting entries up to number `last` are a node. */
static int emit(void *ctx, uint64_t last, bool cut)
{
    cmb_level *lv = ctx;
    cmb_editor *editor = lv->editor;
    const cmb_tree *tree = editor->tree;
    uint64_t n = last - lv->window.released;
    if (n > CMB_NODE_COUNT_MAX)
        return cmb_fail(CMB_ETOOBIG, "a node of %llu entries", (unsigned long long)n);
    const cmb_entry *end = cmb_window_at(&lv->window, last);
    cmb_noderef ref;
    int error = cmb_node_encode(&tree->alloc, tree->hash, lv->level, end - n + 1, (uint32_t)n, &lv->record, &ref);
    if (!error)
        error = cmb_level_drop_olds(lv, end);
    if (error)
        return error;
    ref.cut = cut;
    bool known = false; /* to the level above, just so */
    cmb_old *old = lv->olds.count ? &lv->olds.slots[lv->olds.head] : NULL;
    bool replaces = old && cmb_node_compare(&old->node, old->node.count - 1, end->key, end->key_size) == 0;
    if (replaces && same_record(old, &ref, lv->record.data)) {
        ref.addr = old->ref.addr;
        known = old->ref.cut == cut && !old->is_root;
        editor->stats.nodes_reused++;
    } else {
        error = editor->place(editor, end, &lv->record, &ref);
    }
    if (!error && !known) {
        cmb_entry up = {.key = end->key, .key_size = end->key_size, .child = &ref};
        error = push_up(lv, &up, false);
    }
    if (error)
        return error;
    cmb_window_release(&lv->window, last);
    if (replaces)
        olds_pop(tree, &lv->olds);
    return 0;
}

static uint64_t rehash(void *ctx, uint64_t index, unsigned round)
{
    const cmb_level *lv = ctx;
    const cmb_entry *e = cmb_window_at(&lv->window, index);
    return cmb_boundary_hash(lv->editor->tree->seed, lv->level, round, e->key, e->key_size);
}

static uint32_t logical_bytes(void *ctx, uint64_t index)
{
    const cmb_level *lv = ctx;
    return cmb_entry_bytes(cmb_window_at(&lv->window, index), lv->level);
}

const cmb_decider_ops cmb_level_decider_ops = {rehash, logical_bytes, emit};
