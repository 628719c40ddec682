/* SPDX-License-Identifier: ISC */
/*
 * last_modified_each.c: the commits that changed each key of a range last, in one walk. The keys begin at the commit asked about, as
 * one set, and go down the history, by falling generation: of a set, the keys that are in the first parent as they are in the commit go on
 * to that parent, of the rest those that are so in the second, and so on; what is left was changed by the commit. Sets that come
 * to the same commit become one. So each pair of a commit and a parent is compared once.
 */
#include <cambium/history.h>

#include "btree/diff.h"
#include "btree/probe.h"
#include "store/dag.h"
#include "store/handles.h"

#define NONE UINT32_MAX
#define FEW 8u /* keys up to which they are looked for one by one */

typedef struct entry {
    size_t at;           /* in text */
    uint32_t size;
    uint32_t set;        /* NONE: its commit is known */
    uint32_t next, prev; /* in its set */
    uint32_t commit;     /* index; NONE: not known yet */
} entry;

typedef struct keyset {
    uint32_t first, last; /* a free one: next free one in `first` */
    uint32_t count;
} keyset;

typedef struct batch {
    cmb_store *store;
    cmb_bounds bounds;
    cmb_dag dag;
    cmb_dagqueue queue; /* nodes that have a set: number + 1 in `pending` */
    uint8_t *text;
    size_t text_size, text_room;
    entry *entries;     /* by key */
    size_t count, room;
    keyset *sets;
    size_t set_count, set_room;
    uint32_t free_set;
    cmb_name *commits;  /* that changed something last */
    size_t commit_count, commit_room;
    cmb_pin pins[2];
    uint32_t from, into; /* a diff moves keys from one set to the other */
} batch;

/* Room for n more of `size` bytes each. */
static int reserve(const batch *b, void **array, size_t *room, size_t used, size_t n, size_t size)
{
    size_t wanted = *room ? *room : 64;
    while (wanted - used < n)
        wanted *= 2;
    if (wanted == *room)
        return 0;
    void *grown = cmb_resize(&b->store->alloc, *array, *room * size, wanted * size);
    if (!grown)
        return CMB_ENOMEM;
    *array = grown;
    *room = wanted;
    return 0;
}

/* ---- sets ---- */

static int new_set(batch *b, uint32_t *out_set)
{
    uint32_t s = b->free_set;
    if (s != NONE) {
        b->free_set = b->sets[s].first;
    } else {
        int error = reserve(b, (void **)&b->sets, &b->set_room, b->set_count, 1, sizeof *b->sets);
        if (error)
            return error;
        s = (uint32_t)b->set_count++;
    }
    b->sets[s] = (keyset){NONE, NONE, 0};
    *out_set = s;
    return 0;
}

static void free_set(batch *b, uint32_t s)
{
    b->sets[s] = (keyset){b->free_set, NONE, 0};
    b->free_set = s;
}

static void append(batch *b, uint32_t s, uint32_t k)
{
    keyset *set = &b->sets[s];
    entry *e = &b->entries[k];
    e->set = s;
    e->prev = set->last;
    e->next = NONE;
    if (set->last == NONE)
        set->first = k;
    else
        b->entries[set->last].next = k;
    set->last = k;
    set->count++;
}

static void detach(batch *b, uint32_t k)
{
    entry *e = &b->entries[k];
    keyset *set = &b->sets[e->set];
    if (e->prev == NONE)
        set->first = e->next;
    else
        b->entries[e->prev].next = e->next;
    if (e->next == NONE)
        set->last = e->prev;
    else
        b->entries[e->next].prev = e->prev;
    set->count--;
}

/* The smaller goes into the larger, which is returned: a key is moved so at most log n times. */
static uint32_t unite(batch *b, uint32_t x, uint32_t y)
{
    if (b->sets[x].count < b->sets[y].count) {
        uint32_t swap = x;
        x = y;
        y = swap;
    }
    for (uint32_t k = b->sets[y].first, next; k != NONE; k = next) {
        next = b->entries[k].next;
        append(b, x, k);
    }
    free_set(b, y);
    return x;
}

/* ---- keys ---- */

static int add_key(batch *b, cmb_bytes key)
{
    if (b->count == NONE)
        return cmb_fail(CMB_ETOOBIG, "more than %u keys: ask for a narrower range", NONE - 1);
    int error = reserve(b, (void **)&b->text, &b->text_room, b->text_size, key.size, 1);
    if (!error)
        error = reserve(b, (void **)&b->entries, &b->room, b->count, 1, sizeof *b->entries);
    if (error)
        return error;
    memcpy(b->text + b->text_size, key.data, key.size);
    b->entries[b->count++] = (entry){.at = b->text_size, .size = (uint32_t)key.size, .commit = NONE};
    b->text_size += key.size;
    return 0;
}

static cmb_bytes key_of(const batch *b, size_t k)
{
    return (cmb_bytes){b->text + b->entries[k].at, b->entries[k].size};
}

static int read_keys(batch *b, const cmb_noderef *root)
{
    cmb_tree_cursor *c;
    cmb_bytes lower = b->bounds.lower, upper = b->bounds.upper;
    int error = cmb_tree_cursor_open(&b->store->tree, root, &c);
    if (error)
        return error;
    error = lower.size ? cmb_tree_cursor_seek_ge(c, lower.data, lower.size) : cmb_tree_cursor_first(c);
    while (!error) {
        cmb_bytes key = cmb_tree_cursor_key(c);
        if (upper.size && cmb_compare(key.data, key.size, upper.data, upper.size) >= 0)
            break;
        error = add_key(b, key);
        if (!error)
            error = cmb_tree_cursor_next(c);
    }
    cmb_tree_cursor_close(c);
    return error == CMB_ENOTFOUND ? 0 : error;
}

/* NONE: not one of those asked about. */
static uint32_t find_key(const batch *b, cmb_bytes key)
{
    size_t low = 0, high = b->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        cmb_bytes at = key_of(b, middle);
        int order = cmb_compare(at.data, at.size, key.data, key.size);
        if (order == 0)
            return (uint32_t)middle;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NONE;
}

/* ---- comparing ---- */

static void move(batch *b, uint32_t k)
{
    detach(b, k);
    append(b, b->into, k);
}

static int on_change(void *ctx, const cmb_tree_change *change)
{
    batch *b = ctx;
    uint32_t k = find_key(b, change->key);
    if (k != NONE && b->entries[k].set == b->from)
        move(b, k);
    return 0;
}

static int look_one_by_one(batch *b, const cmb_noderef *one, const cmb_noderef *other)
{
    cmb_probe probes[2];
    int error = 0;
    for (uint32_t k = b->sets[b->from].first, next; !error && k != NONE; k = next) {
        cmb_bytes key = key_of(b, k);
        bool same = true;
        next = b->entries[k].next;
        cmb_probe_start(&probes[0], one);
        cmb_probe_start(&probes[1], other);
        error = cmb_probe_same(&b->store->tree, &probes[0], &probes[1], key.data, key.size, b->pins, &same);
        if (!error && !same)
            move(b, k);
    }
    return error;
}

/* Those keys of a set that differ go to a new one. */
static int split(batch *b, uint32_t set, const cmb_noderef *one, const cmb_noderef *other, uint32_t *out_changed)
{
    const cmb_bytes *lower = b->bounds.lower.size ? &b->bounds.lower : NULL, *upper = b->bounds.upper.size ? &b->bounds.upper : NULL;
    int error = new_set(b, &b->into);
    b->from = set;
    if (!error && !cmb_tree_same(one, other))
        error = b->sets[set].count <= FEW ? look_one_by_one(b, one, other)
                                          : cmb_tree_diff(&b->store->tree, one, other, lower, upper, on_change, b, NULL);
    *out_changed = b->into;
    return error;
}

/* ---- the walk ---- */

/* A commit gets keys; with nothing in it the set is gone. */
static int give(batch *b, cmb_dagnode *node, uint32_t set)
{
    if (!b->sets[set].count) {
        free_set(b, set);
        return 0;
    }
    if (node->pending) {
        node->pending = unite(b, node->pending - 1, set) + 1;
        return 0;
    }
    int error = cmb_dagqueue_push(&b->queue, node);
    if (error)
        return error;
    node->uses++;
    node->pending = set + 1;
    return 0;
}

/* All keys of the set were changed by this commit; no id: by the working state. */
static int settle(batch *b, uint32_t set, const cmb_name *commit)
{
    if (b->sets[set].count) {
        int error = reserve(b, (void **)&b->commits, &b->commit_room, b->commit_count, 1, sizeof *b->commits);
        if (error)
            return error;
        for (uint32_t k = b->sets[set].first; k != NONE; k = b->entries[k].next) {
            b->entries[k].commit = (uint32_t)b->commit_count;
            b->entries[k].set = NONE; /* the set's number will be another's */
        }
        b->commits[b->commit_count++] = *commit;
    }
    free_set(b, set);
    return 0;
}

static int visit(batch *b, cmb_dagnode *node)
{
    uint32_t set = node->pending - 1;
    int error = cmb_dag_read_parents(&b->dag, node);
    for (uint32_t i = 0; !error && i < node->parent_count && b->sets[set].count; i++) {
        uint32_t changed;
        error = split(b, set, &node->root, &node->parents[i]->root, &changed);
        if (!error)
            error = give(b, node->parents[i], set);
        set = changed;
    }
    return error ? error : settle(b, set, &node->at.id);
}

static int walk(batch *b, const cmb_state *state)
{
    static const cmb_name no_commit;
    uint32_t all, changed;
    cmb_dagnode *node;
    int error = new_set(b, &all);
    for (uint32_t k = 0; !error && k < b->count; k++)
        append(b, all, k);
    if (!error)
        error = split(b, all, &state->commit_root, &state->root, &changed);
    if (!error)
        error = settle(b, changed, &no_commit);
    if (error || !b->sets[all].count)
        return error;
    error = cmb_dag_hold(&b->dag, &state->commit, &node);
    if (!error)
        error = cmb_dag_read(&b->dag, node);
    if (!error)
        error = give(b, node, all);
    if (!error)
        cmb_dag_release(&b->dag, node);
    while (!error && (node = cmb_dagqueue_pop(&b->queue))) {
        error = visit(b, node);
        if (!error)
            cmb_dag_release(&b->dag, node);
    }
    return error;
}

static int tell(const batch *b, cmb_last_modified_fn fn, void *ctx)
{
    for (size_t k = 0; k < b->count; k++)
        if (fn(ctx, key_of(b, k), &b->commits[b->entries[k].commit]))
            return cmb_fail(CMB_ESTOPPED, "the list of keys was stopped by its callback");
    return 0;
}

static void destroy(batch *b)
{
    const cmb_allocator *alloc = &b->store->alloc;
    cmb_bounds_release(alloc, &b->bounds);
    cmb_dag_destroy(&b->dag);
    cmb_dagqueue_destroy(&b->queue);
    cmb_release(alloc, b->text, b->text_room);
    cmb_release(alloc, b->entries, b->room * sizeof *b->entries);
    cmb_release(alloc, b->sets, b->set_room * sizeof *b->sets);
    cmb_release(alloc, b->commits, b->commit_room * sizeof *b->commits);
    cmb_pin_destroy(b->store->nodes, &b->pins[0]);
    cmb_pin_destroy(b->store->nodes, &b->pins[1]);
}

int cmb_last_modified_each(cmb_store *store, const char *rev, const cmb_range *range, cmb_last_modified_fn fn, void *ctx)
{
    batch b = {.store = store, .free_set = NONE};
    cmb_resolved r;
    int error = cmb_rev_resolve(store, rev, &r);
    if (!error && r.content)
        error = cmb_fail(CMB_EINVAL, "'%s' names a content, not a commit", rev);
    if (error)
        return error;
    cmb_dag_init(&b.dag, store);
    cmb_dagqueue_init(&b.queue, &store->alloc, cmb_dag_by_generation);
    error = cmb_bounds_set(&store->alloc, &b.bounds, range);
    if (!error && !cmb_bounds_empty(&b.bounds))
        error = read_keys(&b, &r.state.root);
    if (!error && b.count)
        error = walk(&b, &r.state);
    if (!error)
        error = tell(&b, fn, ctx);
    destroy(&b);
    return error;
}
