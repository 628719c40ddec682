/* SPDX-License-Identifier: ISC */
/*
 * dir.c: keys as paths. A cursor walks over the keys under the prefix and jumps over each subdirectory to the key that would follow all of
 * it. A name that is an entry and a directory is shown at its entry; when its directory is met, some keys
 * later ("a.b" lies between "a" and "a/b"), the entry is looked up and the directory passed over.
 */
#include <cambium/path.h>

#include "store/handles.h"

#define BELOW '/'
#define BEHIND ('/' + 1) /* follows everything below */

struct cmb_dir {
    cmb_store *store;
    cmb_cursor *cursor;       /* under the prefix */
    enum { AT, AFTER, HERE } place; /* goes on at or after the key in `from`, or where the cursor is (over snapshots only) */
    cmb_blob prefix, from, child;
    size_t prefix_size, from_size, child_size; /* child: prefix and name, and one byte of room */
    cmb_pin pin;
};

static const cmb_view *view_of(const cmb_dir *d)
{
    return d->cursor->txn ? &d->cursor->txn->view : &d->cursor->view;
}

/* ---- opening ---- */

static int create(cmb_store *store, cmb_bytes prefix, cmb_dir **out_dir)
{
    if (prefix.size > CMB_KEY_MAX)
        return cmb_fail(CMB_EINVAL, "a prefix of %zu bytes: keys have at most %u", prefix.size, CMB_KEY_MAX);
    cmb_dir *d = cmb_zalloc(&store->alloc, sizeof *d);
    if (!d)
        return CMB_ENOMEM;
    d->store = store;
    d->prefix_size = d->from_size = prefix.size;
    int error = cmb_blob_set(&store->alloc, &d->prefix, prefix.data, prefix.size);
    if (!error)
        error = cmb_blob_set(&store->alloc, &d->from, prefix.data, prefix.size);
    if (error)
        cmb_dir_close(d);
    else
        *out_dir = d;
    return error;
}

/* Gives the cursor, or the failure to open it, to the listing. */
static int conclude(cmb_dir *d, int error, cmb_dir **out_dir)
{
    if (error)
        cmb_dir_close(d);
    else
        *out_dir = d;
    return error;
}

int cmb_dir_open(cmb_snapshot *snapshot, cmb_bytes prefix, cmb_dir **out_dir)
{
    cmb_dir *d = NULL;
    int error = create(snapshot->store, prefix, &d);
    return error ? error : conclude(d, cmb_cursor_open(snapshot, &(cmb_range){.prefix = prefix}, &d->cursor), out_dir);
}

int cmb_txn_dir_open(cmb_txn *txn, cmb_bytes prefix, cmb_dir **out_dir)
{
    cmb_dir *d = NULL;
    int error = create(txn->store, prefix, &d);
    return error ? error : conclude(d, cmb_txn_cursor_open(txn, &(cmb_range){.prefix = prefix}, &d->cursor), out_dir);
}

void cmb_dir_close(cmb_dir *d)
{
    if (!d)
        return;
    const cmb_allocator *alloc = &d->store->alloc;
    cmb_cursor_close(d->cursor);
    cmb_pin_destroy(d->store->nodes, &d->pin);
    cmb_blob_release(alloc, &d->prefix);
    cmb_blob_release(alloc, &d->from);
    cmb_blob_release(alloc, &d->child);
    cmb_release(alloc, d, sizeof *d);
}

/* ---- moving ---- */

static int go_on_from(cmb_dir *d, const void *key, size_t size, int place)
{
    int error = cmb_blob_set(&d->store->alloc, &d->from, key, size);
    if (error)
        return error;
    d->from_size = size;
    d->place = place;
    return 0;
}

int cmb_dir_seek(cmb_dir *d, cmb_bytes name)
{
    size_t size = d->prefix_size + name.size;
    cmb_blob key = {.capacity = 0};
    if (name.size > SIZE_MAX - d->prefix_size || size > CMB_KEY_MAX)
        size = CMB_KEY_MAX; /* no key equals what is cut off, and the first behind it is the first that is not less */
    int error = cmb_blob_reserve(&d->store->alloc, &key, size ? size : 1);
    if (error)
        return error;
    if (d->prefix_size)
        memcpy(key.data, d->prefix.data, d->prefix_size);
    if (size > d->prefix_size)
        memcpy(key.data + d->prefix_size, name.data, size - d->prefix_size);
    error = go_on_from(d, key.data, size, size - d->prefix_size < name.size ? AFTER : AT);
    cmb_blob_release(&d->store->alloc, &key);
    return error;
}

/* Onto the key with which the next child may begin. */
static int arrive(cmb_dir *d, cmb_bytes *out_key)
{
    cmb_bytes from = {d->from.data, d->from_size};
    int error = 0;
    if (d->place != HERE)
        error = cmb_cursor_seek(d->cursor, from);
    if (!error)
        error = cmb_cursor_key(d->cursor, out_key);
    if (!error && d->place == AFTER && cmb_compare(out_key->data, out_key->size, from.data, from.size) == 0) {
        error = cmb_cursor_next(d->cursor);
        if (!error)
            error = cmb_cursor_key(d->cursor, out_key);
    }
    return error;
}

/* The first `size` bytes of the key are prefix and name of a child. */
static int set_child(cmb_dir *d, cmb_bytes key, size_t size)
{
    int error = cmb_blob_reserve(&d->store->alloc, &d->child, size + 1);
    if (error)
        return error;
    if (size)
        memcpy(d->child.data, key.data, size);
    d->child_size = size;
    return 0;
}

static cmb_bytes child_and(cmb_dir *d, uint8_t last)
{
    d->child.data[d->child_size] = last;
    return (cmb_bytes){d->child.data, d->child_size + 1};
}

/* Entries below the child. */
static int count_below(cmb_dir *d, uint64_t *out_count)
{
    cmb_blob from = {.capacity = 0};
    cmb_bytes low = child_and(d, BELOW);
    int error = cmb_blob_set(&d->store->alloc, &from, low.data, low.size);
    if (error)
        return error;
    low.data = from.data;
    cmb_bytes high = child_and(d, BEHIND);
    error = cmb_view_count_range(view_of(d), &low, &high, out_count);
    cmb_blob_release(&d->store->alloc, &from);
    return error;
}

/* ---- children ---- */

/* The cursor is on the child's entry. It is a directory as well if keys below it follow, perhaps after others. */
static int take_entry(cmb_dir *d, cmb_dir_child *child)
{
    cmb_bytes next;
    child->entry = true;
    int error = cmb_cursor_value_size(d->cursor, &child->value_size);
    if (!error)
        error = go_on_from(d, d->child.data, d->child_size, AT); /* should anything fail */
    if (error)
        return error;
    error = cmb_cursor_next(d->cursor);
    if (!error)
        error = cmb_cursor_key(d->cursor, &next);
    cmb_bytes behind = child_and(d, BEHIND);
    bool last = error == CMB_ENOTFOUND;
    if (!error && cmb_compare(next.data, next.size, behind.data, behind.size) < 0)
        error = count_below(d, &child->below);
    if (error && !last)
        return error;
    child->directory = child->below > 0;
    d->place = last || d->cursor->txn ? AFTER : HERE;
    return 0;
}

/* The cursor is on a key below the child. *out_shown: its entry was met before. */
static int take_directory(cmb_dir *d, cmb_dir_child *child, bool *out_shown)
{
    cmb_found found;
    int error = d->child_size ? cmb_view_get(view_of(d), d->child.data, d->child_size, &d->pin, &found) : CMB_ENOTFOUND;
    *out_shown = !error;
    if (error == CMB_ENOTFOUND)
        error = count_below(d, &child->below);
    child->directory = true;
    cmb_bytes behind = child_and(d, BEHIND);
    return error ? error : go_on_from(d, behind.data, behind.size, AT);
}

int cmb_dir_next(cmb_dir *d, cmb_dir_child *out_child)
{
    for (;;) {
        cmb_dir_child child = {.entry = false};
        cmb_bytes key;
        bool shown = false;
        int error = arrive(d, &key);
        if (error)
            return error;
        const uint8_t *rest = (const uint8_t *)key.data + d->prefix_size;
        const uint8_t *end = memchr(rest, BELOW, key.size - d->prefix_size);
        error = set_child(d, key, end ? (size_t)(end - (const uint8_t *)key.data) : key.size);
        if (!error)
            error = end ? take_directory(d, &child, &shown) : take_entry(d, &child);
        if (error)
            return error;
        if (!shown) {
            child.name = (cmb_bytes){d->child.data + d->prefix_size, d->child_size - d->prefix_size};
            *out_child = child;
            return 0;
        }
    }
}
