/* SPDX-License-Identifier: ISC */
/*
 * reflog.c: where refs stood. An entry a move between commits, in a table of its own, in the same
 * unit as the move; trimmed when the table is folded.
 *
 *   value   u8 reason  i64 time  u8 size of the commit before  u8 of the one after  both ids
 */
#include "store/internal.h"

#define HEADER 11u

size_t cmb_reflog_key(const char *name, size_t size, uint64_t unit, uint8_t out[CMB_REFLOG_KEY_MAX])
{
    memcpy(out, name, size);
    out[size] = 0;
    unit = CMB_BE64(unit);
    memcpy(out + size + 1, &unit, 8);
    return size + 9;
}

size_t cmb_reflog_pack(const cmb_reflog_entry *entry, uint8_t out[CMB_REFLOG_VALUE_MAX])
{
    out[0] = (uint8_t)entry->reason;
    cmb_put64(out + 1, (uint64_t)entry->time);
    out[9] = entry->before.size;
    out[10] = entry->after.size;
    memcpy(out + HEADER, entry->before.bytes, entry->before.size);
    memcpy(out + HEADER + entry->before.size, entry->after.bytes, entry->after.size);
    return HEADER + entry->before.size + entry->after.size;
}

static bool name_size_ok(const cmb_store *store, unsigned size)
{
    return size == 0 || size == cmb_name_size(store->tree.hash);
}

static int unpack(const cmb_store *store, const char *name, const cmb_found *found, cmb_reflog_entry *out)
{
    const uint8_t *p = found->value.data;
    cmb_reflog_entry entry = {.reason = CMB_REFLOG_CREATED};
    if (found->out_of_line || found->value.size < HEADER || !name_size_ok(store, p[9]) || !name_size_ok(store, p[10])
        || found->value.size != HEADER + (size_t)p[9] + p[10] || p[0] < CMB_REFLOG_CREATED || p[0] > CMB_REFLOG_MERGED)
        return cmb_fail(CMB_ECORRUPT, "reflog of %s: malformed entry", name);
    entry.reason = (cmb_reflog_reason)p[0];
    entry.time = (int64_t)cmb_get64(p + 1);
    entry.before.size = p[9];
    entry.after.size = p[10];
    memcpy(entry.before.bytes, p + HEADER, p[9]);
    memcpy(entry.after.bytes, p + HEADER + p[9], p[10]);
    *out = entry;
    return 0;
}

/* ---- trimming ---- */

/* The entries of the ref whose name and zero byte begin key: [from, to). */
static void range_of(cmb_bytes key, uint8_t to_key[CMB_REFLOG_KEY_MAX], cmb_bytes *out_from, cmb_bytes *out_to)
{
    size_t size = key.size - 8;
    memcpy(to_key, key.data, size);
    to_key[size - 1] = 1;
    *out_from = (cmb_bytes){key.data, size};
    *out_to = (cmb_bytes){to_key, size};
}

/* Puts removals of the oldest `n` entries from `from` on into `removals`. */
static int drop_oldest(cmb_store *store, const cmb_noderef *root, const cmb_bytes *from, uint64_t n, cmb_buffer *removals)
{
    cmb_tree_cursor *cursor;
    int error = cmb_tree_cursor_open(&store->table_tree, root, &cursor);
    if (error)
        return error;
    error = cmb_tree_cursor_seek_ge(cursor, from->data, from->size);
    for (; !error && n; n--) {
        error = cmb_buffer_add(removals, &(cmb_edit){.kind = CMB_EDIT_DELETE, .key = cmb_tree_cursor_key(cursor)});
        if (!error && n > 1)
            error = cmb_tree_cursor_next(cursor);
    }
    cmb_tree_cursor_close(cursor);
    return error;
}

/* Walks the refs that `edits` names; their keys lie together. */
static int collect_removals(cmb_store *store, cmb_source *edits, const cmb_noderef *root, cmb_buffer *removals)
{
    cmb_edit edit;
    int error = edits->ops->first(edits);
    while (!error && !(error = edits->ops->current(edits, &edit))) {
        uint8_t to_key[CMB_REFLOG_KEY_MAX];
        cmb_bytes from, to;
        uint64_t count;
        if (edit.key.size < 9 || edit.key.size > CMB_REFLOG_KEY_MAX)
            return cmb_fail(CMB_ECORRUPT, "reflog: a key of %zu bytes", edit.key.size);
        if (((const uint8_t *)edit.key.data)[edit.key.size - 9]) /* then what follows the range would not follow the key */
            return cmb_fail(CMB_ECORRUPT, "reflog: a key without a name that ends");
        range_of(edit.key, to_key, &from, &to);
        error = cmb_tree_count_range(&store->table_tree, root, &from, &to, &count);
        if (!error && count > CMB_REFLOG_MAX)
            error = drop_oldest(store, root, &from, count - CMB_REFLOG_MAX, removals);
        if (!error)
            error = edits->ops->seek_ge(edits, to.data, to.size);
    }
    return error == CMB_ENOTFOUND ? 0 : error;
}

int cmb_reflog_trim(cmb_store *store, cmb_appender *app, cmb_buffer *edits, cmb_noderef *root)
{
    cmb_buffer *removals;
    cmb_source *source;
    int error = cmb_buffer_create(&store->alloc, &removals);
    if (error)
        return error;
    error = cmb_source_buffer(edits, &source);
    if (!error) {
        error = collect_removals(store, source, root, removals);
        source->ops->close(source);
    }
    if (!error && cmb_buffer_count(removals)) {
        error = cmb_source_buffer(removals, &source);
        if (!error) {
            error = cmb_tree_apply(&store->table_tree, root, source, app, root, NULL);
            source->ops->close(source);
        }
    }
    cmb_buffer_destroy(removals);
    return error;
}

/* ---- reading ---- */

static int each(cmb_store *store, cmb_view_cursor *cursor, const char *name, size_t size,
                int (*fn)(void *ctx, const cmb_reflog_entry *entry), void *ctx)
{
    uint8_t last[CMB_REFLOG_KEY_MAX];
    size_t last_size = cmb_reflog_key(name, size, UINT64_MAX, last);
    bool any = false;
    int error = cmb_view_cursor_seek_le(cursor, last, last_size);
    for (; !error; error = cmb_view_cursor_prev(cursor)) {
        cmb_bytes key = cmb_view_cursor_key(cursor);
        cmb_found found;
        cmb_reflog_entry entry;
        if (key.size != last_size || memcmp(key.data, last, size + 1) != 0)
            break;
        error = cmb_view_cursor_value(cursor, &found);
        if (!error)
            error = unpack(store, name, &found, &entry);
        if (error)
            return error;
        if (fn(ctx, &entry))
            return CMB_ESTOPPED;
        any = true;
    }
    if (error && error != CMB_ENOTFOUND)
        return error;
    return any ? 0 : cmb_fail(CMB_ENOTFOUND, "%s never stood anywhere", name);
}

int cmb_reflog(cmb_store *store, const char *ref, int (*fn)(void *ctx, const cmb_reflog_entry *entry), void *ctx)
{
    char name[CMB_REF_FULL_SIZE];
    cmb_table_view view;
    if (!ref)
        return cmb_fail(CMB_EINVAL, "no name of a branch or tag");
    bool tag = strncmp(ref, CMB_TAGS, sizeof CMB_TAGS - 1) == 0;
    bool full = tag || strncmp(ref, CMB_HEADS, sizeof CMB_HEADS - 1) == 0;
    const char *prefix = tag ? CMB_TAGS : CMB_HEADS;
    int error = cmb_ref_full_name(prefix, full ? ref + strlen(prefix) : ref, name);
    if (error)
        return error;
    error = cmb_table_view_open(store, CMB_TABLE_REFLOG, &view);
    if (error)
        return error;
    error = each(store, view.cursor, name, strlen(name), fn, ctx);
    cmb_table_view_close(store, &view);
    return error;
}
