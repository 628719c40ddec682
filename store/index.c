/* SPDX-License-Identifier: ISC */
/* index.c: finding commits by id, and listing all of them. */
#include "store/internal.h"

#include <stdio.h>

int cmb_commit_find(cmb_store *store, const cmb_name *id, cmb_commit_at *out_at)
{
    uint8_t value[CMB_TABLE_VALUE_MAX];
    size_t size;
    char hex[2 * CMB_NAME_MAX + 1];
    cmb_bytes key = {id->bytes, id->size};
    int error = cmb_table_get(store, CMB_TABLE_COMMITS, key, value, &size);
    if (error == CMB_ENOTFOUND) {
        cmb_name_hex(id, hex);
        return cmb_fail(CMB_ENOTFOUND, "no commit %s", hex);
    }
    return error ? error : cmb_commit_at_unpack(store, key, (cmb_bytes){value, size}, out_at);
}

static int entry_at(cmb_store *store, cmb_view_cursor *cursor, cmb_commit_at *out_at)
{
    cmb_found found;
    int error = cmb_view_cursor_value(cursor, &found);
    if (!error && found.out_of_line)
        error = cmb_fail(CMB_ECORRUPT, "commit index: a value that is too long");
    return error ? error : cmb_commit_at_unpack(store, cmb_view_cursor_key(cursor), found.value, out_at);
}

static int each(cmb_store *store, cmb_view_cursor *cursor, cmb_commit_each_fn fn, void *ctx)
{
    int error = cmb_view_cursor_first(cursor);
    for (; !error; error = cmb_view_cursor_next(cursor)) {
        cmb_commit_at at;
        error = entry_at(store, cursor, &at);
        if (!error)
            error = fn(ctx, &at);
        if (error)
            return error;
    }
    return error == CMB_ENOTFOUND ? 0 : error;
}

int cmb_commits_each(cmb_store *store, cmb_commit_each_fn fn, void *ctx)
{
    cmb_table_view view;
    int error = cmb_table_view_open(store, CMB_TABLE_COMMITS, &view);
    if (error)
        return error;
    error = each(store, view.cursor, fn, ctx);
    cmb_table_view_close(store, &view);
    return error;
}

static unsigned digit(char c)
{
    return (unsigned)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
}

static bool has_prefix(const cmb_name *id, const cmb_name *prefix, size_t digits)
{
    return memcmp(id->bytes, prefix->bytes, digits / 2) == 0 &&
           (digits % 2 == 0 || id->bytes[digits / 2] >> 4 == prefix->bytes[digits / 2] >> 4);
}

/* All that begin so; the first few are named in the detail if there is more than one. */
static int find_unique(cmb_store *store, cmb_view_cursor *cursor, const cmb_name *prefix, size_t digits,
                       cmb_commit_at *out_at)
{
    char list[256] = "", hex[2 * CMB_NAME_MAX + 1];
    cmb_commit_at at, first = {0};
    unsigned hits = 0;
    int error = cmb_view_cursor_seek_ge(cursor, prefix->bytes, (digits + 1) / 2);
    for (; !error && hits < 4; error = cmb_view_cursor_next(cursor)) {
        error = entry_at(store, cursor, &at);
        if (error)
            return error;
        if (!has_prefix(&at.id, prefix, digits))
            break;
        cmb_name_hex(&at.id, hex);
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, " %s", hex);
        if (!hits++)
            first = at;
    }
    if (error && error != CMB_ENOTFOUND)
        return error;
    if (hits > 1)
        return cmb_fail(CMB_EAMBIGUOUS, "several commits begin so:%s%s", list, hits == 4 ? " …" : "");
    if (!hits)
        return CMB_ENOTFOUND;
    *out_at = first;
    return 0;
}

int cmb_commit_find_prefix(cmb_store *store, const char *hex, size_t digits, cmb_commit_at *out_at)
{
    cmb_name prefix = {0};
    cmb_table_view view;
    prefix.size = (uint8_t)cmb_name_size(store->tree.hash);
    if (digits > 2u * prefix.size)
        return CMB_ENOTFOUND;
    for (size_t i = 0; i < digits; i++)
        prefix.bytes[i / 2] |= (uint8_t)(digit(hex[i]) << (i % 2 ? 0 : 4));
    if (digits == 2u * prefix.size)
        return cmb_commit_find(store, &prefix, out_at);
    int error = cmb_table_view_open(store, CMB_TABLE_COMMITS, &view);
    if (error)
        return error;
    error = find_unique(store, view.cursor, &prefix, digits, out_at);
    cmb_table_view_close(store, &view);
    return error;
}
