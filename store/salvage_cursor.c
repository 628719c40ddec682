/* SPDX-License-Identifier: ISC */
/*
 * salvage_cursor.c: a cursor over what can be read of a tree. It stands before a subtree, which can be entered or passed, or
 * before an entry. A node whose keys do not lie where its parent says is as unreadable as one with wrong bytes: so what comes out
 * ascends strictly, and nothing is met twice.
 */
#include "store/salvage.h"

#include <assert.h>

typedef struct frame {
    cmb_noderef ref;
    cmb_pin pin;
    cmb_node node;             /* unless grafted */
    const cmb_sv_child *graft; /* children that were put back below a damaged node; else NULL */
    uint32_t next, count;
} frame;

struct cmb_sv_cursor {
    cmb_salvage *s;
    const cmb_tree *tree;
    cmb_sv_lost_fn lost;
    void *ctx;
    cmb_noderef root;
    bool at_root;      /* it was neither entered nor passed */
    unsigned depth;
    frame *frames;     /* one a level */
    size_t frames_size;
    uint32_t lo_size, key_size;
    uint8_t lo[CMB_KEY_MAX], key[CMB_KEY_MAX];
};

int cmb_sv_cursor_open(cmb_salvage *s, const cmb_tree *tree, const cmb_noderef *root, cmb_sv_lost_fn lost, void *ctx, cmb_sv_cursor **out_cursor)
{
    cmb_sv_cursor *c = cmb_zalloc(&s->alloc, sizeof *c);
    if (!c)
        return CMB_ENOMEM;
    c->s = s;
    c->tree = tree;
    c->lost = lost;
    c->ctx = ctx;
    c->root = *root;
    c->at_root = root->addr != 0; /* else empty and never written */
    c->frames_size = (root->level + (size_t)1) * sizeof *c->frames;
    c->frames = cmb_zalloc(&s->alloc, c->frames_size);
    if (!c->frames) {
        cmb_sv_cursor_close(c);
        return CMB_ENOMEM;
    }
    *out_cursor = c;
    return 0;
}

void cmb_sv_cursor_close(cmb_sv_cursor *c)
{
    if (!c)
        return;
    cmb_allocator alloc = c->s->alloc;
    for (size_t i = 0; c->frames && i < c->frames_size / sizeof *c->frames; i++)
        cmb_pin_destroy(c->tree->nodes, &c->frames[i].pin);
    cmb_release(&alloc, c->frames, c->frames_size);
    cmb_release(&alloc, c, sizeof *c);
}

/* ---- frames ---- */

static uint32_t frame_key(const frame *f, uint32_t i, uint8_t *out_key)
{
    if (!f->graft)
        return cmb_node_key(&f->node, i, out_key);
    const cmb_sv_child *child = &f->graft[i];
    memcpy(out_key, child->last, child->last_size);
    return child->last_size;
}

static void frame_child(const frame *f, uint32_t i, cmb_noderef *out_ref)
{
    if (f->graft)
        *out_ref = f->graft[i].ref;
    else
        cmb_node_child(&f->node, i, out_ref);
}

/* Where the present child's keys begin: behind the last separator before it, on whatever level that stands. */
static void find_lo(cmb_sv_cursor *c)
{
    c->lo_size = 0;
    for (unsigned i = c->depth; i-- > 0 && !c->lo_size;) {
        const frame *f = &c->frames[i];
        if (f->next)
            c->lo_size = frame_key(f, f->next - 1, c->lo);
    }
}

/* Drops frames that are done; the topmost one left has something to come. */
static void settle(cmb_sv_cursor *c)
{
    while (c->depth) {
        frame *f = &c->frames[c->depth - 1];
        if (f->next < f->count)
            return;
        cmb_pin_release(c->tree->nodes, &f->pin);
        c->depth--;
        if (c->depth)
            c->frames[c->depth - 1].next++;
    }
}

bool cmb_sv_cursor_item(cmb_sv_cursor *c, cmb_sv_item *out_item)
{
    cmb_sv_item item = {.subtree = true};
    if (c->at_root) {
        item.ref = c->root;
        *out_item = item;
        return true;
    }
    if (!c->depth)
        return false;
    const frame *f = &c->frames[c->depth - 1];
    c->key_size = frame_key(f, f->next, c->key);
    item.key = (cmb_bytes){c->key, c->key_size};
    if (f->graft || f->node.level) {
        frame_child(f, f->next, &item.ref);
        find_lo(c);
        item.lo = (cmb_bytes){c->lo, c->lo_size};
        *out_item = item;
        return true;
    }
    item.subtree = false;
    item.ref = f->ref;
    item.found.out_of_line = cmb_node_is_out_of_line(&f->node, f->next);
    if (item.found.out_of_line)
        cmb_node_valref(&f->node, f->next, &item.found.valref);
    else
        item.found.value = cmb_node_value(&f->node, f->next);
    *out_item = item;
    return true;
}

void cmb_sv_cursor_pass(cmb_sv_cursor *c)
{
    if (c->at_root)
        c->at_root = false;
    else if (c->depth) {
        c->frames[c->depth - 1].next++;
        settle(c);
    }
}

/* ---- entering ---- */

/* Do the keys lie in (lo, last]? last size 0: anywhere above. */
static bool fits(const cmb_node *n, cmb_bytes lo, cmb_bytes last)
{
    return n->count > 0 && (!last.size || cmb_node_compare(n, n->count - 1, last.data, last.size) == 0)
           && (!lo.size || cmb_node_compare(n, 0, lo.data, lo.size) > 0);
}

static int read_into(cmb_sv_cursor *c, const cmb_noderef *ref, cmb_bytes lo, cmb_bytes last, frame *f)
{
    int error = cmb_sv_node_get(c->s, ref, &f->pin);
    if (error)
        return error;
    cmb_node_open(c->tree->hash, f->pin.record, &f->node);
    if (fits(&f->node, lo, last))
        return 0;
    cmb_pin_release(c->tree->nodes, &f->pin);
    return cmb_fail(CMB_ECORRUPT, "node at %llu: its keys are not in the range that its parent gives it", (unsigned long long)ref->addr);
}

/* The children that were put back and lie in the range; *out_found: their entries. */
static bool graft_into(const cmb_sv_graft *g, cmb_bytes lo, cmb_bytes last, frame *f, uint64_t *out_found)
{
    uint32_t first = 0, end = g ? g->count : 0;
    *out_found = 0;
    while (first < end && lo.size && cmb_compare(g->children[first].last, g->children[first].last_size, lo.data, lo.size) <= 0)
        first++;
    while (end > first && last.size && cmb_compare(g->children[end - 1].last, g->children[end - 1].last_size, last.data, last.size) > 0)
        end--;
    for (uint32_t i = first; i < end; i++)
        *out_found += g->children[i].ref.count;
    f->graft = g ? g->children : NULL;
    f->next = first;
    f->count = end;
    return first < end;
}

static void push(cmb_sv_cursor *c, const cmb_noderef *ref)
{
    assert(c->depth + ref->level <= c->root.level); /* levels go down by one: there is a frame for each */
    c->frames[c->depth].ref = *ref;
    c->at_root = false;
    c->depth++;
}

int cmb_sv_cursor_enter(cmb_sv_cursor *c)
{
    cmb_sv_item item;
    if (!cmb_sv_cursor_item(c, &item))
        return 0;
    const cmb_noderef ref = item.ref;
    frame *f = &c->frames[c->depth];
    f->graft = NULL;
    f->next = 0;
    int error = read_into(c, &ref, item.lo, item.key, f);
    if (!error) {
        f->count = f->node.count;
        push(c, &ref);
        return 0;
    }
    if (!cmb_sv_is_damage(error))
        return error;
    const cmb_sv_graft *g = ref.level ? cmb_sv_graft_find(c->s, ref.addr) : NULL;
    if (g && g->ref.level != ref.level) /* two parents, two minds: its children are of the other's level */
        g = NULL;
    uint64_t found;
    bool some = graft_into(g, item.lo, item.key, f, &found);
    if (!(some && found == ref.count)) {
        error = c->lost ? c->lost(c->ctx, &ref, error, item.lo, item.key, found) : 0;
        if (error)
            return error;
    }
    if (some)
        push(c, &ref);
    else
        cmb_sv_cursor_pass(c);
    return 0;
}
