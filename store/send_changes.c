/* SPDX-License-Identifier: ISC */
/*
 * send_changes.c: what a content changes against its bases. The differences from every base are walked side by side: a key that
 * differs from base 0, but not from base i, is as it is there. Such keys, one after the other, are a range to be copied from base i
 * as long as no key between them differs from it.
 */
#include "btree/diff.h"
#include "store/pack.h"

#define PIECE (64u << 10) /* bytes that a step writes, about */

typedef struct other_base {
    cmb_differ *differ;
    const cmb_tree_change *at; /* not yet passed; NULL: no more */
} other_base;

struct cmb_changes {
    cmb_store *store;
    cmb_noderef base;
    cmb_differ *differ;        /* from base 0 */
    other_base others[CMB_PACK_BASES - 1];
    unsigned other_count;
    unsigned copy;             /* base that the present range is copied from; 0: there is none */
    size_t from_size, to_size, last_size;
    uint8_t from[CMB_KEY_MAX], to[CMB_KEY_MAX]; /* of the range, both inclusive */
    uint8_t last[CMB_KEY_MAX]; /* the key that was written last */
    cmb_value_reader *value, *old_value; /* on its way; what the base has at that key */
    uint32_t value_size, next_chunk;
    uint8_t *chunk;            /* CMB_CHUNK_SIZE bytes, once it is needed */
};

/* ---- opening ---- */

static int advance(other_base *o)
{
    int error = cmb_differ_next(o->differ, &o->at);
    if (error)
        o->at = NULL;
    return error == CMB_ENOTFOUND ? 0 : error;
}

static int open_differs(cmb_changes *c, const cmb_noderef *bases, unsigned base_count, const cmb_noderef *root)
{
    const cmb_tree *tree = &c->store->tree;
    int error = cmb_differ_open(tree, &c->base, root, NULL, NULL, &c->differ);
    for (unsigned i = 1; !error && i < base_count; i++) {
        other_base *o = &c->others[i - 1];
        error = cmb_differ_open(tree, &bases[i], root, NULL, NULL, &o->differ);
        if (error)
            break;
        c->other_count++;
        error = advance(o);
    }
    return error;
}

int cmb_changes_open(cmb_store *store, const cmb_noderef *bases, unsigned base_count, const cmb_noderef *root, cmb_changes **out_changes)
{
    cmb_changes *c = cmb_zalloc(&store->alloc, sizeof *c);
    if (!c)
        return CMB_ENOMEM;
    c->store = store;
    if (base_count)
        c->base = bases[0];
    else
        cmb_tree_empty(&store->tree, &c->base);
    /* From nothing everything differs; from equal contents nothing does: then no other base has anything to add. */
    int error = open_differs(c, bases, cmb_tree_same(&c->base, root) ? 1 : base_count, root);
    if (error)
        cmb_changes_close(c);
    else
        *out_changes = c;
    return error;
}

static void close_value(cmb_changes *c)
{
    cmb_value_reader_close(c->value);
    cmb_value_reader_close(c->old_value);
    c->value = c->old_value = NULL;
}

void cmb_changes_close(cmb_changes *c)
{
    if (!c)
        return;
    close_value(c);
    cmb_differ_close(c->differ);
    for (unsigned i = 0; i < c->other_count; i++)
        cmb_differ_close(c->others[i].differ);
    cmb_allocator alloc = c->store->alloc;
    if (c->chunk)
        cmb_release(&alloc, c->chunk, CMB_CHUNK_SIZE);
    cmb_release(&alloc, c, sizeof *c);
}

/* ---- keys and ranges ---- */

/* A key as what it shares with the one before and the rest. */
static int put_key(cmb_changes *c, cmb_wire_out *out, const uint8_t *key, size_t size)
{
    size_t shared = 0;
    while (shared < size && shared < c->last_size && key[shared] == c->last[shared])
        shared++;
    int error = cmb_wire_put_uint(out, 2, shared);
    if (!error)
        error = cmb_wire_put_uint(out, 2, size - shared);
    if (!error)
        error = cmb_wire_put(out, key + shared, size - shared);
    memcpy(c->last + shared, key + shared, size - shared);
    c->last_size = size;
    return error;
}

/* The range that was being gathered is complete. */
static int end_range(cmb_changes *c, cmb_wire_out *out)
{
    if (!c->copy)
        return 0;
    int error = cmb_wire_put_uint(out, 1, CMB_OP_COPY);
    if (!error)
        error = cmb_wire_put_uint(out, 1, c->copy);
    if (!error)
        error = put_key(c, out, c->from, c->from_size);
    if (!error)
        error = put_key(c, out, c->to, c->to_size);
    c->copy = 0;
    return error;
}

/* Which other base has this key as the content has it? 0: none. The present range's base is preferred; *out_broken: something between lies not as
 * it is there. */
static int find_copy(cmb_changes *c, cmb_bytes key, unsigned *out_base, bool *out_broken)
{
    *out_base = 0;
    *out_broken = false;
    for (unsigned i = 0; i < c->other_count; i++) {
        other_base *o = &c->others[i];
        int order = -1;
        while (o->at && (order = cmb_compare(o->at->key.data, o->at->key.size, key.data, key.size)) < 0) {
            *out_broken |= c->copy == i + 1;
            int error = advance(o);
            if (error)
                return error;
        }
        bool same = !o->at || order > 0;
        if (same && (!*out_base || c->copy == i + 1))
            *out_base = i + 1;
    }
    return 0;
}

static void begin_range(cmb_changes *c, unsigned base, cmb_bytes key)
{
    c->copy = base;
    memcpy(c->from, key.data, key.size);
    c->from_size = key.size;
}

/* ---- values ---- */

static int begin_value(cmb_changes *c, cmb_wire_out *out, const cmb_tree_change *change)
{
    const cmb_tree *tree = &c->store->tree;
    const cmb_valref *ref = &change->after->valref;
    if (!c->chunk && !(c->chunk = cmb_alloc(&c->store->alloc, CMB_CHUNK_SIZE)))
        return CMB_ENOMEM;
    c->value_size = ref->size;
    c->next_chunk = 0;
    int error = cmb_value_reader_open(tree, ref, &c->value);
    if (!error && change->before && change->before->out_of_line)
        error = cmb_value_reader_open(tree, &change->before->valref, &c->old_value);
    return error ? error : cmb_wire_put_uint(out, 4, ref->size);
}

static int put_chunk(cmb_changes *c, cmb_wire_out *out, cmb_sync_stats *stats)
{
    uint64_t at = (uint64_t)c->next_chunk * CMB_CHUNK_SIZE;
    size_t size = c->value_size - at < CMB_CHUNK_SIZE ? (size_t)(c->value_size - at) : CMB_CHUNK_SIZE, got;
    bool kept = c->old_value && cmb_value_same_chunk(c->value, c->old_value, c->next_chunk);
    int error = cmb_wire_put_uint(out, 1, kept ? CMB_CHUNK_KEPT : CMB_CHUNK_DATA);
    if (!error && !kept) {
        error = cmb_value_reader_read(c->value, at, c->chunk, size, &got);
        if (!error)
            error = cmb_wire_put(out, c->chunk, size);
        stats->value_bytes += size;
    }
    c->next_chunk++;
    if (!error && at + size == c->value_size)
        close_value(c);
    return error;
}

/* ---- changes ---- */

static int put_change(cmb_changes *c, cmb_wire_out *out, const cmb_tree_change *change)
{
    const cmb_found *after = change->after;
    unsigned op = !after ? CMB_OP_REMOVE : after->out_of_line ? CMB_OP_PUT_FAR : CMB_OP_PUT;
    int error = cmb_wire_put_uint(out, 1, op);
    if (!error)
        error = put_key(c, out, change->key.data, change->key.size);
    if (error || op == CMB_OP_REMOVE)
        return error;
    if (op == CMB_OP_PUT_FAR)
        return begin_value(c, out, change);
    error = cmb_wire_put_uint(out, 4, after->value.size);
    return error ? error : cmb_wire_put(out, after->value.data, after->value.size);
}

static int next_change(cmb_changes *c, cmb_wire_out *out, cmb_sync_stats *stats, bool *out_done)
{
    const cmb_tree_change *change;
    unsigned base;
    bool broken;
    int error = cmb_differ_next(c->differ, &change);
    *out_done = error == CMB_ENOTFOUND;
    if (*out_done) {
        error = end_range(c, out);
        return error ? error : cmb_wire_put_uint(out, 1, CMB_OP_END);
    }
    if (!error)
        error = find_copy(c, change->key, &base, &broken);
    if (!error && (broken || base != c->copy))
        error = end_range(c, out);
    if (error)
        return error;
    stats->changes++;
    if (!base)
        return put_change(c, out, change);
    if (!c->copy)
        begin_range(c, base, change->key);
    memcpy(c->to, change->key.data, change->key.size);
    c->to_size = change->key.size;
    return 0;
}

int cmb_changes_step(cmb_changes *c, cmb_wire_out *out, cmb_sync_stats *stats, bool *out_done)
{
    uint64_t from = out->bytes;
    bool done = false;
    int error = 0;
    while (!error && !done && out->bytes - from < PIECE)
        error = c->value ? put_chunk(c, out, stats) : next_change(c, out, stats, &done);
    *out_done = done;
    return error;
}
