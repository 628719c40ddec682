/* SPDX-License-Identifier: ISC */
/* receive_changes.c: one commit's changes, into an editor over the first base's tree; or only their form is looked at. */
#include "btree/diff.h"
#include "store/pack.h"

typedef struct taking {
    cmb_receiver *r;
    const cmb_noderef *bases; /* NULL: form only */
    unsigned base_count;
    cmb_noderef base;         /* the first, or the empty tree */
    cmb_editor *editor;       /* NULL: form only */
    uint8_t *last, *from;     /* the key that came last; where a range begins */
    size_t last_size, from_size;
    cmb_pin pin;
} taking;

static int refuse(const taking *t, const char *why)
{
    return cmb_wire_refuse(t->r->in, "%s", why);
}

static int push(taking *t, const cmb_edit *edit)
{
    return t->editor ? cmb_editor_push(t->editor, edit) : 0;
}

/* A key, which is greater than the last one (or_equal: or the same) and takes its place. */
static int get_key(taking *t, bool or_equal)
{
    uint64_t shared, rest = 0;
    uint8_t *next = t->r->keys + 2 * (CMB_KEY_MAX + 1);
    int error = cmb_wire_get_uint(t->r->in, 2, &shared);
    if (!error)
        error = cmb_wire_get_uint(t->r->in, 2, &rest);
    if (error)
        return error;
    if (shared > t->last_size || shared + rest < CMB_KEY_MIN || shared + rest > CMB_KEY_MAX)
        return refuse(t, "a key of an impossible size");
    memcpy(next, t->last, shared);
    error = cmb_wire_get(t->r->in, next + shared, rest);
    if (error)
        return error;
    int order = cmb_compare(next, shared + rest, t->last, t->last_size);
    if (order < 0 || (order == 0 && !or_equal))
        return refuse(t, "keys that do not ascend");
    memcpy(t->last + shared, next + shared, rest);
    t->last_size = shared + rest;
    return 0;
}

static cmb_bytes last_key(const taking *t)
{
    return (cmb_bytes){t->last, t->last_size};
}

/* ---- values ---- */

static int take_put(taking *t)
{
    uint64_t size;
    int error = cmb_wire_get_uint(t->r->in, 4, &size);
    if (!error && size > t->r->inline_max)
        error = refuse(t, "a value that is too large to come so");
    if (!error)
        error = cmb_wire_get(t->r->in, t->r->value, size);
    cmb_edit edit = {.kind = CMB_EDIT_PUT, .key = last_key(t), .value = {t->r->value, (size_t)size}};
    return error ? error : push(t, &edit);
}

/* The value that base 0 has at this key. */
static int open_old(taking *t, cmb_value_reader **out_reader)
{
    const cmb_tree *tree = &t->r->store->tree;
    cmb_found found;
    int error = cmb_tree_get(tree, &t->base, t->last, t->last_size, &t->pin, &found);
    if (error == CMB_ENOTFOUND || (!error && !found.out_of_line))
        return refuse(t, "a chunk of a value that the base has not got");
    return error ? error : cmb_value_reader_open(tree, &found.valref, out_reader);
}

static int keep_chunk(taking *t, cmb_value_writer *writer, cmb_value_reader **old, uint32_t i, uint32_t size)
{
    if (!writer)
        return t->base_count ? 0 : refuse(t, "a chunk of a value that no base has");
    int error = *old ? 0 : open_old(t, old);
    if (!error)
        error = cmb_value_writer_adopt(writer, *old, i, size);
    return error == CMB_EINVAL ? refuse(t, "a chunk that the base's value has not got") : error;
}

static int take_chunk(taking *t, cmb_value_writer *writer, cmb_value_reader **old, uint32_t i, uint32_t size)
{
    uint64_t flag;
    int error = cmb_wire_get_uint(t->r->in, 1, &flag);
    if (error)
        return error;
    if (flag == CMB_CHUNK_KEPT)
        return keep_chunk(t, writer, old, i, size);
    if (flag != CMB_CHUNK_DATA)
        return refuse(t, "a chunk that is neither sent nor kept");
    if (!t->r->chunk && !(t->r->chunk = cmb_alloc(&t->r->alloc, CMB_CHUNK_SIZE)))
        return CMB_ENOMEM;
    error = cmb_wire_get(t->r->in, t->r->chunk, size);
    t->r->stats.value_bytes += size;
    return error || !writer ? error : cmb_value_writer_add(writer, t->r->chunk, size);
}

static int take_chunks(taking *t, cmb_value_writer *writer, uint32_t size)
{
    cmb_value_reader *old = NULL;
    int error = 0;
    uint32_t i = 0;
    for (uint64_t at = 0; !error && at < size; at += CMB_CHUNK_SIZE)
        error = take_chunk(t, writer, &old, i++, size - at < CMB_CHUNK_SIZE ? (uint32_t)(size - at) : CMB_CHUNK_SIZE);
    cmb_value_reader_close(old);
    return error;
}

static int take_put_far(taking *t)
{
    cmb_edit edit = {.kind = CMB_EDIT_PUT_FAR, .key = last_key(t)};
    cmb_value_writer *writer = NULL;
    uint64_t size;
    int error = cmb_wire_get_uint(t->r->in, 4, &size);
    if (!error && size <= t->r->inline_max)
        error = refuse(t, "a value that is too small to come so");
    if (!error && t->editor)
        error = cmb_value_writer_open(&t->r->store->tree, cmb_intake_appender(t->r->intake), &writer);
    if (!error)
        error = take_chunks(t, writer, (uint32_t)size);
    if (error || !writer) {
        cmb_value_writer_abort(writer);
        return error;
    }
    error = cmb_value_writer_finish(writer, &edit.valref);
    return error ? error : push(t, &edit);
}

/* ---- ranges ---- */

static int copy_change(void *ctx, const cmb_tree_change *change)
{
    const cmb_found *after = change->after;
    cmb_edit edit = {.kind = !after ? CMB_EDIT_DELETE : after->out_of_line ? CMB_EDIT_PUT_FAR : CMB_EDIT_PUT, .key = change->key};
    if (after && after->out_of_line)
        edit.valref = after->valref;
    else if (after)
        edit.value = after->value;
    return push(ctx, &edit);
}

static int take_copy(taking *t)
{
    uint64_t base;
    int error = cmb_wire_get_uint(t->r->in, 1, &base);
    if (!error && (base == 0 || base >= t->base_count))
        error = refuse(t, "a range of a base that there is not");
    if (!error)
        error = get_key(t, false);
    if (error)
        return error;
    memcpy(t->from, t->last, t->last_size);
    t->from_size = t->last_size;
    error = get_key(t, true);
    if (error || !t->editor)
        return error;
    t->last[t->last_size] = 0; /* the least key that is greater */
    cmb_bytes from = {t->from, t->from_size}, to = {t->last, t->last_size + 1};
    return cmb_tree_diff(&t->r->store->tree, &t->base, &t->bases[base], &from, &to, copy_change, t, NULL);
}

/* ---- all of them ---- */

static int take_op(taking *t, uint64_t op)
{
    int error = op == CMB_OP_COPY ? 0 : get_key(t, false);
    if (error)
        return error;
    t->r->stats.changes++;
    switch (op) {
    case CMB_OP_PUT: return take_put(t);
    case CMB_OP_PUT_FAR: return take_put_far(t);
    case CMB_OP_COPY: return take_copy(t);
    default: break;
    }
    cmb_edit edit = {.kind = CMB_EDIT_DELETE, .key = last_key(t)};
    return push(t, &edit);
}

static int take_all(taking *t)
{
    for (;;) {
        uint64_t op;
        int error = cmb_wire_get_uint(t->r->in, 1, &op);
        if (error || op == CMB_OP_END)
            return error;
        if (op > CMB_OP_COPY)
            return refuse(t, "an unknown change");
        error = take_op(t, op);
        if (error)
            return error;
    }
}

int cmb_receive_changes(cmb_receiver *receiver, const cmb_noderef *bases, unsigned base_count, cmb_noderef *out_root)
{
    taking t = {.r = receiver, .bases = bases, .base_count = base_count, .last = receiver->keys, .from = receiver->keys + CMB_KEY_MAX + 1};
    int error = 0;
    if (!bases)
        return take_all(&t);
    if (base_count)
        t.base = bases[0];
    else
        cmb_tree_empty(&receiver->store->tree, &t.base);
    error = cmb_editor_open(&receiver->store->tree, &t.base, cmb_intake_appender(receiver->intake), &t.editor);
    if (error)
        return error;
    error = take_all(&t);
    cmb_pin_destroy(receiver->store->nodes, &t.pin);
    if (!error)
        return cmb_editor_finish(t.editor, out_root);
    cmb_editor_abort(t.editor);
    return error;
}
