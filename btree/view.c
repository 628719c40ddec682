/* SPDX-License-Identifier: ISC */
/* Reading through a view: the newest edit of a key wins, and what no edit names comes from the tree. */
#include "btree/view.h"

static void found_edit(const cmb_edit *edit, cmb_found *out_found)
{
    out_found->out_of_line = edit->kind == CMB_EDIT_PUT_FAR;
    if (out_found->out_of_line)
        out_found->valref = edit->valref;
    else
        out_found->value = edit->value;
}

/* A key's hash in the view's intents; `intents` false: there are none, and it is not asked for. */
typedef struct lookup {
    bool intents;
    uint64_t hash;
} lookup;

static lookup lookup_of(const cmb_view *view, bool intents, const uint8_t *key, size_t key_size)
{
    return (lookup){intents, intents ? cmb_intents_prefetch(view->intents, key, key_size) : 0};
}

/* 0 and *out_hit: an edit decides. */
static int find_edit(const cmb_view *view, lookup look, const uint8_t *key, size_t key_size, cmb_pin *pin, bool *out_hit, cmb_edit *out_edit)
{
    bool hit = view->buffer && cmb_buffer_find(view->buffer, key, key_size, out_edit);
    for (size_t i = view->run_count; i-- > 0 && !hit;) {
        int r = cmb_run_find(view->tree, &view->runs[i], key, key_size, pin, &hit, out_edit);
        if (r)
            return r;
    }
    if (!hit && look.intents)
        hit = cmb_intents_find_hashed(view->intents, view->intents_upto, look.hash, key, key_size, out_edit);
    *out_hit = hit;
    return 0;
}

int cmb_view_get(const cmb_view *view, const uint8_t *key, size_t key_size, cmb_pin *pin, cmb_found *out_found)
{
    if (!cmb_view_is_plain(view)) {
        cmb_edit edit;
        bool hit;
        lookup look = lookup_of(view, cmb_view_has_intents(view), key, key_size);
        int r = find_edit(view, look, key, key_size, pin, &hit, &edit);
        if (r)
            return r;
        if (hit && edit.kind == CMB_EDIT_DELETE)
            return CMB_ENOTFOUND;
        if (hit) {
            found_edit(&edit, out_found);
            return 0;
        }
    }
    return cmb_tree_get(view->tree, &view->root, key, key_size, pin, out_found);
}

#define GROUP 32u

/* What no edit decides goes down the tree together. Pins move along: the tree wants them in a row. */
static void get_group(const cmb_view *view, const cmb_bytes *keys, size_t n, cmb_pin *pins, cmb_found *out_found, int *out_results)
{
    cmb_bytes open_keys[GROUP];
    cmb_pin open_pins[GROUP];
    cmb_found open_found[GROUP];
    int open_results[GROUP];
    lookup look[GROUP];
    size_t of[GROUP], open = 0;
    const bool intents = cmb_view_has_intents(view);
    for (size_t i = 0; i < n; i++)
        look[i] = lookup_of(view, intents, keys[i].data, keys[i].size);
    for (size_t i = 0; i < n; i++) {
        cmb_edit edit;
        bool hit;
        out_results[i] = find_edit(view, look[i], keys[i].data, keys[i].size, &pins[i], &hit, &edit);
        if (out_results[i])
            continue;
        if (!hit) {
            open_keys[open] = keys[i];
            open_pins[open] = pins[i];
            of[open++] = i;
        } else if (edit.kind == CMB_EDIT_DELETE) {
            out_results[i] = CMB_ENOTFOUND;
        } else {
            found_edit(&edit, &out_found[i]);
        }
    }
    if (open)
        cmb_tree_get_many(view->tree, &view->root, open_keys, open, open_pins, open_found, open_results);
    for (size_t k = 0; k < open; k++) {
        pins[of[k]] = open_pins[k];
        out_results[of[k]] = open_results[k];
        if (!open_results[k])
            out_found[of[k]] = open_found[k];
    }
}

void cmb_view_get_many(const cmb_view *view, const cmb_bytes *keys, size_t n, cmb_pin *pins, cmb_found *out_found, int *out_results)
{
    if (cmb_view_is_plain(view)) {
        cmb_tree_get_many(view->tree, &view->root, keys, n, pins, out_found, out_results);
        return;
    }
    for (size_t from = 0; from < n; from += GROUP)
        get_group(view, keys + from, n - from < GROUP ? n - from : GROUP, pins + from, out_found + from, out_results + from);
}

/* ---- all edits above the tree, as one source ---- */

int cmb_view_edits(const cmb_view *view, cmb_source **out_source)
{
    const cmb_allocator *alloc = &view->tree->alloc;
    size_t most = view->run_count + 2, n = 0;
    cmb_source **newest_first = cmb_alloc(alloc, most * sizeof *newest_first);
    int r = newest_first ? 0 : CMB_ENOMEM;
    if (!r && view->buffer && !(r = cmb_source_buffer(view->buffer, &newest_first[n])))
        n++;
    for (size_t i = view->run_count; i-- > 0 && !r;)
        if (!(r = cmb_source_run(view->tree, &view->runs[i], &newest_first[n])))
            n++;
    if (!r && cmb_view_has_intents(view) && !(r = cmb_source_intents(view->intents, 0, view->intents_upto, &newest_first[n])))
        n++;
    if (!r)
        r = cmb_source_merge(alloc, newest_first, n, out_source);
    for (size_t i = 0; r && i < n; i++)
        newest_first[i]->ops->close(newest_first[i]);
    cmb_release(alloc, newest_first, most * sizeof *newest_first);
    return r;
}

/* ---- counting ---- */

/* Adds to *inout_count what an edit changes about the number of entries. */
static int count_edit(const cmb_view *view, const cmb_edit *edit, cmb_pin *pin, uint64_t *inout_count)
{
    cmb_found found;
    int r = cmb_tree_get(view->tree, &view->root, edit->key.data, edit->key.size, pin, &found);
    if (r && r != CMB_ENOTFOUND)
        return r;
    if (r && edit->kind != CMB_EDIT_DELETE)
        ++*inout_count;
    else if (!r && edit->kind == CMB_EDIT_DELETE)
        --*inout_count;
    return 0;
}

static int count_edits(const cmb_view *view, cmb_source *edits, const cmb_bytes *from, const cmb_bytes *to, uint64_t *inout_count)
{
    cmb_pin pin = {.record = NULL};
    cmb_edit edit;
    int r = from && from->data ? edits->ops->seek_ge(edits, from->data, from->size) : edits->ops->first(edits);
    for (; !r; r = edits->ops->next(edits)) {
        r = edits->ops->current(edits, &edit);
        if (!r && to && to->data && cmb_compare(edit.key.data, edit.key.size, to->data, to->size) >= 0)
            break;
        if (!r)
            r = count_edit(view, &edit, &pin, inout_count);
        if (r)
            break;
    }
    cmb_pin_destroy(view->tree->nodes, &pin);
    return r == CMB_ENOTFOUND ? 0 : r;
}

int cmb_view_count_range(const cmb_view *view, const cmb_bytes *from, const cmb_bytes *to, uint64_t *out_count)
{
    uint64_t count;
    cmb_source *edits;
    int r = cmb_tree_count_range(view->tree, &view->root, from, to, &count);
    if (!r && !cmb_view_is_plain(view)) {
        r = cmb_view_edits(view, &edits);
        if (!r) {
            r = count_edits(view, edits, from, to, &count);
            edits->ops->close(edits);
        }
    }
    if (!r)
        *out_count = count;
    return r;
}
