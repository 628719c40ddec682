/* SPDX-License-Identifier: ISC */
/*
 * cursor.c: cursors confined to a range, over snapshots and transactions. The view's cursor does the
 * walking. Over a transaction it is told before the edits change, so that it goes on by key.
 */
#include "store/handles.h"

static int compare(cmb_bytes a, cmb_bytes b)
{
    return cmb_compare(a.data, a.size, b.data, b.size);
}

static bool below(const cmb_cursor *c, cmb_bytes key)
{
    return c->bounds.lower.size && compare(key, c->bounds.lower) < 0;
}

static bool beyond(const cmb_cursor *c, cmb_bytes key)
{
    return c->bounds.upper.size && compare(key, c->bounds.upper) >= 0;
}

/* ---- opening ---- */

static int open_cursor(cmb_store *store, const cmb_view *view, const cmb_range *range, cmb_cursor **out_cursor)
{
    cmb_cursor *c = cmb_zalloc(&store->alloc, sizeof *c);
    if (!c)
        return CMB_ENOMEM;
    c->store = store;
    c->view = *view;
    int error = cmb_bounds_set(&store->alloc, &c->bounds, range);
    if (!error)
        error = cmb_view_cursor_open(view, &c->cursor);
    if (error) {
        cmb_bounds_release(&store->alloc, &c->bounds);
        cmb_release(&store->alloc, c, sizeof *c);
        return error;
    }
    *out_cursor = c;
    return 0;
}

int cmb_cursor_open(cmb_snapshot *snapshot, const cmb_range *range, cmb_cursor **out_cursor)
{
    return open_cursor(snapshot->store, &snapshot->view, range, out_cursor);
}

int cmb_txn_cursor_open(cmb_txn *txn, const cmb_range *range, cmb_cursor **out_cursor)
{
    cmb_cursor *c;
    int error = cmb_txn_close_direct(txn);
    if (!error)
        error = open_cursor(txn->store, &txn->view, range, &c);
    if (error)
        return error;
    c->txn = txn;
    c->layout = txn->layout;
    c->next = txn->cursors;
    txn->cursors = c;
    *out_cursor = c;
    return 0;
}

void cmb_cursor_close(cmb_cursor *c)
{
    if (!c)
        return;
    if (c->txn) {
        cmb_cursor **link = &c->txn->cursors;
        while (*link != c)
            link = &(*link)->next;
        *link = c->next;
    }
    const cmb_allocator *alloc = &c->store->alloc;
    cmb_view_cursor_close(c->cursor);
    cmb_pin_destroy(c->store->nodes, &c->pin);
    cmb_bounds_release(alloc, &c->bounds);
    cmb_blob_release(alloc, &c->key);
    cmb_blob_release(alloc, &c->value);
    cmb_release(alloc, c, sizeof *c);
}

void cmb_txn_cursors_keep(cmb_txn *txn)
{
    for (cmb_cursor *c = txn->cursors; c; c = c->next)
        cmb_view_cursor_invalidate(c->cursor);
}

/* The transaction's view may have been rebuilt since. */
static int bind(cmb_cursor *c)
{
    if (CMB_LIKELY(!c->txn))
        return 0;
    int error = cmb_txn_close_direct(c->txn);
    if (error || c->layout == c->txn->layout)
        return error;
    error = cmb_view_cursor_rebind(c->cursor, &c->txn->view);
    if (!error) {
        c->layout = c->txn->layout;
        c->view = c->txn->view;
    }
    return error;
}

/* ---- moving ---- */

/* After a move forwards: still inside? */
static int arrive_forward(cmb_cursor *c, int moved)
{
    if (!moved && CMB_UNLIKELY(beyond(c, cmb_view_cursor_key(c->cursor))))
        moved = CMB_ENOTFOUND;
    c->place = CMB_LIKELY(!moved) ? CMB_CURSOR_ON : moved == CMB_ENOTFOUND ? CMB_CURSOR_AFTER : CMB_CURSOR_LOST;
    return moved;
}

static int arrive_backward(cmb_cursor *c, int moved)
{
    if (!moved && CMB_UNLIKELY(below(c, cmb_view_cursor_key(c->cursor))))
        moved = CMB_ENOTFOUND;
    c->place = CMB_LIKELY(!moved) ? CMB_CURSOR_ON : moved == CMB_ENOTFOUND ? CMB_CURSOR_BEFORE : CMB_CURSOR_LOST;
    return moved;
}

static int go_first(cmb_cursor *c)
{
    return arrive_forward(c, c->bounds.lower.size ? cmb_view_cursor_seek_ge(c->cursor, c->bounds.lower.data, c->bounds.lower.size)
                                           : cmb_view_cursor_first(c->cursor));
}

static int go_last(cmb_cursor *c)
{
    int error;
    if (c->bounds.upper.size) {
        error = cmb_view_cursor_seek_le(c->cursor, c->bounds.upper.data, c->bounds.upper.size);
        if (!error && compare(cmb_view_cursor_key(c->cursor), c->bounds.upper) == 0)
            error = cmb_view_cursor_prev(c->cursor);
    } else {
        error = cmb_view_cursor_last(c->cursor);
    }
    return arrive_backward(c, error);
}

int cmb_cursor_first(cmb_cursor *c)
{
    int error = bind(c);
    return error ? error : go_first(c);
}

int cmb_cursor_last(cmb_cursor *c)
{
    int error = bind(c);
    return error ? error : go_last(c);
}

int cmb_cursor_next(cmb_cursor *c)
{
    int error = bind(c);
    if (CMB_UNLIKELY(error))
        return error;
    if (CMB_LIKELY(c->place == CMB_CURSOR_ON || c->place == CMB_CURSOR_LOST))
        return arrive_forward(c, cmb_view_cursor_next(c->cursor));
    return c->place == CMB_CURSOR_BEFORE ? go_first(c) : CMB_ENOTFOUND;
}

int cmb_cursor_prev(cmb_cursor *c)
{
    int error = bind(c);
    if (CMB_UNLIKELY(error))
        return error;
    if (CMB_LIKELY(c->place == CMB_CURSOR_ON || c->place == CMB_CURSOR_LOST))
        return arrive_backward(c, cmb_view_cursor_prev(c->cursor));
    return c->place == CMB_CURSOR_AFTER ? go_last(c) : CMB_ENOTFOUND;
}

/* The key may point into the cursor: it is copied before anything moves. */
static int keep_key(cmb_cursor *c, cmb_bytes *key)
{
    if (key->size > CMB_KEY_MAX)
        return cmb_key_refuse(key->size);
    int error = cmb_blob_set(&c->store->alloc, &c->key, key->data, key->size);
    if (!error)
        key->data = c->key.data;
    return error ? error : bind(c);
}

int cmb_cursor_seek(cmb_cursor *c, cmb_bytes key)
{
    int error = keep_key(c, &key);
    if (error)
        return error;
    if (!key.size || below(c, key))
        return go_first(c);
    return arrive_forward(c, cmb_view_cursor_seek_ge(c->cursor, key.data, key.size));
}

int cmb_cursor_seek_last(cmb_cursor *c, cmb_bytes key)
{
    int error = keep_key(c, &key);
    if (error)
        return error;
    if (beyond(c, key))
        return go_last(c);
    return arrive_backward(c, cmb_view_cursor_seek_le(c->cursor, key.data, key.size));
}

int cmb_cursor_seek_exact(cmb_cursor *c, cmb_bytes key)
{
    cmb_found found;
    int error = keep_key(c, &key);
    if (error)
        return error;
    if (!key.size || below(c, key) || beyond(c, key))
        return CMB_ENOTFOUND;
    error = cmb_view_get(c->txn ? &c->txn->view : &c->view, key.data, key.size, &c->pin, &found);
    if (error)
        return error;
    return arrive_forward(c, cmb_view_cursor_seek_ge(c->cursor, key.data, key.size));
}

int cmb_cursor_seek_nth(cmb_cursor *c, uint64_t n)
{
    uint64_t before = 0;
    int error = bind(c);
    if (!error && c->bounds.lower.size)
        error = cmb_view_count_range(c->txn ? &c->txn->view : &c->view, NULL, &c->bounds.lower, &before);
    if (error)
        return error;
    if (n > UINT64_MAX - before) {
        c->place = CMB_CURSOR_AFTER;
        return CMB_ENOTFOUND;
    }
    return arrive_forward(c, cmb_view_cursor_seek_nth(c->cursor, before + n));
}

/* ---- the current entry ---- */

int cmb_cursor_key(cmb_cursor *c, cmb_bytes *out_key)
{
    if (c->place != CMB_CURSOR_ON)
        return CMB_ENOTFOUND;
    *out_key = cmb_view_cursor_key(c->cursor);
    return 0;
}

static int current(cmb_cursor *c, cmb_found *out_found)
{
    if (c->place != CMB_CURSOR_ON)
        return CMB_ENOTFOUND;
    int error = bind(c);
    return error ? error : cmb_view_cursor_value(c->cursor, out_found);
}

int cmb_cursor_value(cmb_cursor *c, cmb_bytes *out_value)
{
    cmb_found found;
    int error = current(c, &found);
    if (CMB_UNLIKELY(error))
        return error;
    if (CMB_UNLIKELY(found.out_of_line))
        return cmb_value_gather(c->store, &found.valref, &c->value, out_value);
    *out_value = found.value;
    return 0;
}

int cmb_cursor_value_size(cmb_cursor *c, uint32_t *out_size)
{
    cmb_found found;
    int error = current(c, &found);
    if (!error)
        *out_size = found.out_of_line ? found.valref.size : (uint32_t)found.value.size;
    return error;
}

int cmb_cursor_value_open(cmb_cursor *c, cmb_value_stream **out_stream)
{
    cmb_found found;
    int error = current(c, &found);
    return error ? error : cmb_value_stream_open(c->store, &found, out_stream);
}
