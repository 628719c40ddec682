/* SPDX-License-Identifier: ISC */
/*
 * A view's cursor walks the tree's cursor and the merged edits side by side, in one direction; a
 * change of direction seeks both anew, strictly past the current key. Without edits above the tree
 * it only passes calls on.
 */
#include "btree/view.h"

struct cmb_view_cursor {
    cmb_view view;
    cmb_tree_cursor *tree;
    cmb_source *edits; /* NULL until edits lie above the tree */
    bool plain;        /* the state is the tree cursor's; nothing below is in use */
    bool stale;        /* edits were added: `key` is where the cursor stood */
    bool backward;
    bool tree_live, edit_live; /* stands on an entry */
    bool on_tree, on_edit;     /* the current key is there; with both the edit counts */
    cmb_place state;
    cmb_edit edit;    /* while edit_live */
    cmb_key_copy key; /* of the largest size from the start, so that keeping a place cannot fail */
};

static void drop_edits(cmb_view_cursor *c)
{
    if (c->edits)
        c->edits->ops->close(c->edits);
    c->edits = NULL;
}

/* Chooses between passing on and merging; called where the cursor is positioned anew. */
static int prepare(cmb_view_cursor *c)
{
    c->plain = cmb_view_is_plain(&c->view);
    c->stale = false;
    return c->plain || c->edits ? 0 : cmb_view_edits(&c->view, &c->edits);
}

static int reserve_key(cmb_view_cursor *c, const cmb_view *view)
{
    return view->buffer || view->run_count || cmb_view_has_intents(view) ? cmb_key_copy_reserve(&view->tree->alloc, &c->key, CMB_KEY_MAX) : 0;
}

int cmb_view_cursor_open(const cmb_view *view, cmb_view_cursor **out_cursor)
{
    const cmb_allocator *alloc = &view->tree->alloc;
    cmb_view_cursor *c = cmb_zalloc(alloc, sizeof *c);
    if (!c)
        return CMB_ENOMEM;
    c->view = *view;
    int r = reserve_key(c, view);
    if (!r)
        r = prepare(c);
    if (!r)
        r = cmb_tree_cursor_open(view->tree, &view->root, &c->tree);
    if (r) {
        cmb_view_cursor_close(c);
        return r;
    }
    *out_cursor = c;
    return 0;
}

void cmb_view_cursor_close(cmb_view_cursor *c)
{
    if (!c)
        return;
    const cmb_allocator *alloc = &c->view.tree->alloc;
    drop_edits(c);
    cmb_tree_cursor_close(c->tree);
    cmb_key_copy_release(alloc, &c->key);
    cmb_release(alloc, c, sizeof *c);
}

/* ---- merging ---- */

static int lose(cmb_view_cursor *c, int error)
{
    c->state = CMB_PLACE_LOST;
    return error;
}

static int tree_moved(cmb_view_cursor *c, int moved)
{
    c->tree_live = moved == 0;
    return moved == CMB_ENOTFOUND ? 0 : moved;
}

static int edit_moved(cmb_view_cursor *c, int moved)
{
    c->edit_live = moved == 0;
    if (moved)
        return moved == CMB_ENOTFOUND ? 0 : moved;
    return c->edits->ops->current(c->edits, &c->edit);
}

static int step_tree(cmb_view_cursor *c)
{
    return tree_moved(c, c->backward ? cmb_tree_cursor_prev(c->tree) : cmb_tree_cursor_next(c->tree));
}

static int step_edit(cmb_view_cursor *c)
{
    return edit_moved(c, c->backward ? c->edits->ops->prev(c->edits) : c->edits->ops->next(c->edits));
}

/* How the edit's key stands to the tree's in the direction of travel: negative: it comes first. */
static int compare_sides(cmb_view_cursor *c)
{
    if (!c->tree_live)
        return -1;
    if (!c->edit_live)
        return 1;
    cmb_bytes key = cmb_tree_cursor_key(c->tree);
    int order = cmb_compare(c->edit.key.data, c->edit.key.size, key.data, key.size);
    return c->backward ? -order : order;
}

/* The nearest entry from where the two sides stand; tombstones and what they hide are passed over. */
static int land(cmb_view_cursor *c)
{
    while (c->tree_live || c->edit_live) {
        int order = compare_sides(c), r;
        c->on_edit = order <= 0;
        c->on_tree = order >= 0;
        if (!c->on_edit || c->edit.kind != CMB_EDIT_DELETE) {
            c->state = CMB_PLACE_ON;
            return 0;
        }
        r = step_edit(c);
        if (!r && c->on_tree)
            r = step_tree(c);
        if (r)
            return lose(c, r);
    }
    c->state = c->backward ? CMB_PLACE_BEFORE : CMB_PLACE_AFTER;
    return CMB_ENOTFOUND;
}

static int start_at_end(cmb_view_cursor *c, bool backward)
{
    c->backward = backward;
    int r = tree_moved(c, backward ? cmb_tree_cursor_last(c->tree) : cmb_tree_cursor_first(c->tree));
    if (!r)
        r = edit_moved(c, backward ? c->edits->ops->last(c->edits) : c->edits->ops->first(c->edits));
    return r ? lose(c, r) : land(c);
}

static bool is_key(const cmb_view_cursor *c, cmb_bytes key)
{
    return key.size == c->key.size && memcmp(key.data, c->key.data, key.size) == 0;
}

/* From c->key on; strict: without it. */
static int start_at_key(cmb_view_cursor *c, bool backward, bool strict)
{
    const uint8_t *key = c->key.data;
    size_t size = c->key.size;
    c->backward = backward;
    int r = tree_moved(c, backward ? cmb_tree_cursor_seek_le(c->tree, key, size) : cmb_tree_cursor_seek_ge(c->tree, key, size));
    if (!r && strict && c->tree_live && is_key(c, cmb_tree_cursor_key(c->tree)))
        r = step_tree(c);
    if (!r)
        r = edit_moved(c, backward ? c->edits->ops->seek_le(c->edits, key, size) : c->edits->ops->seek_ge(c->edits, key, size));
    if (!r && strict && c->edit_live && is_key(c, c->edit.key))
        r = step_edit(c);
    return r ? lose(c, r) : land(c);
}

static cmb_bytes current_key(cmb_view_cursor *c)
{
    return c->on_edit ? c->edit.key : cmb_tree_cursor_key(c->tree);
}

static void keep_key(cmb_view_cursor *c, cmb_bytes key)
{
    (void)cmb_key_copy_set(&c->view.tree->alloc, &c->key, key.data, key.size); /* has the room: cannot fail */
}

/* ---- moves ---- */

int cmb_view_cursor_first(cmb_view_cursor *c)
{
    int r = prepare(c);
    if (r)
        return r;
    return c->plain ? cmb_tree_cursor_first(c->tree) : start_at_end(c, false);
}

int cmb_view_cursor_last(cmb_view_cursor *c)
{
    int r = prepare(c);
    if (r)
        return r;
    return c->plain ? cmb_tree_cursor_last(c->tree) : start_at_end(c, true);
}

static int seek(cmb_view_cursor *c, bool backward, const uint8_t *key, size_t key_size)
{
    int r = 0;
    if (key_size > CMB_KEY_MAX)
        return cmb_fail(CMB_ETOOBIG, "a key of %zu bytes; the limit is %u", key_size, CMB_KEY_MAX);
    if (!cmb_view_is_plain(&c->view))
        keep_key(c, (cmb_bytes){key, key_size});
    r = prepare(c);
    if (r)
        return r;
    if (c->plain)
        return backward ? cmb_tree_cursor_seek_le(c->tree, key, key_size) : cmb_tree_cursor_seek_ge(c->tree, key, key_size);
    return start_at_key(c, backward, false);
}

int cmb_view_cursor_seek_ge(cmb_view_cursor *c, const uint8_t *key, size_t key_size)
{
    return seek(c, false, key, key_size);
}

int cmb_view_cursor_seek_le(cmb_view_cursor *c, const uint8_t *key, size_t key_size)
{
    return seek(c, true, key, key_size);
}

/* The first move after edits were added. */
static int resume(cmb_view_cursor *c, bool backward)
{
    cmb_place state = c->state;
    int r;
    if (state == CMB_PLACE_LOST)
        return cmb_place_lost();
    if (state == (backward ? CMB_PLACE_BEFORE : CMB_PLACE_AFTER))
        return CMB_ENOTFOUND;
    if (state != CMB_PLACE_ON)
        return backward ? cmb_view_cursor_last(c) : cmb_view_cursor_first(c);
    r = prepare(c);
    if (r) {
        c->stale = true;
        return r;
    }
    if (!c->plain)
        return start_at_key(c, backward, true);
    r = backward ? cmb_tree_cursor_seek_le(c->tree, c->key.data, c->key.size)
                 : cmb_tree_cursor_seek_ge(c->tree, c->key.data, c->key.size);
    if (!r && is_key(c, cmb_tree_cursor_key(c->tree)))
        r = backward ? cmb_tree_cursor_prev(c->tree) : cmb_tree_cursor_next(c->tree);
    return r;
}

static __attribute__((noinline)) int merged_step(cmb_view_cursor *c, bool backward)
{
    int r = 0;
    if (c->stale)
        return resume(c, backward);
    if (c->state == CMB_PLACE_LOST)
        return cmb_place_lost();
    if (c->state == (backward ? CMB_PLACE_BEFORE : CMB_PLACE_AFTER))
        return CMB_ENOTFOUND;
    if (c->state != CMB_PLACE_ON)
        return start_at_end(c, backward);
    if (c->backward != backward) {
        keep_key(c, current_key(c));
        return start_at_key(c, backward, true);
    }
    bool on_tree = c->on_tree;
    if (c->on_edit)
        r = step_edit(c);
    if (!r && on_tree)
        r = step_tree(c);
    return r ? lose(c, r) : land(c);
}

int cmb_view_cursor_next(cmb_view_cursor *c)
{
    return CMB_LIKELY(c->plain) ? cmb_tree_cursor_next(c->tree) : merged_step(c, false);
}

int cmb_view_cursor_prev(cmb_view_cursor *c)
{
    return CMB_LIKELY(c->plain) ? cmb_tree_cursor_prev(c->tree) : merged_step(c, true);
}

/* ---- the n-th entry ---- */

/*
 * Walks the edits: before each one's key lie so many entries of the tree, plus what the edits so far
 * changed. Finds the key of the n-th entry of the view, or its index in the tree.
 */
static int find_nth(cmb_view_cursor *c, uint64_t n, bool *out_is_edit, uint64_t *out_index)
{
    const cmb_view *view = &c->view;
    int64_t changed = 0;
    cmb_edit edit;
    int r;
    for (r = c->edits->ops->first(c->edits); !r; r = c->edits->ops->next(c->edits)) {
        uint64_t rank;
        bool in_tree;
        r = c->edits->ops->current(c->edits, &edit);
        if (!r)
            r = cmb_tree_rank(view->tree, &view->root, edit.key.data, edit.key.size, &rank, &in_tree);
        if (r)
            return r;
        uint64_t before = rank + (uint64_t)changed;
        bool put = edit.kind != CMB_EDIT_DELETE;
        if (n < before)
            break;
        if (n == before && put) {
            keep_key(c, edit.key);
            *out_is_edit = true;
            return 0;
        }
        changed += (int)put - (int)in_tree;
    }
    if (r && r != CMB_ENOTFOUND)
        return r;
    *out_is_edit = false;
    *out_index = n - (uint64_t)changed;
    return 0;
}

int cmb_view_cursor_seek_nth(cmb_view_cursor *c, uint64_t n)
{
    uint64_t index = 0;
    bool is_edit = false;
    int r = prepare(c);
    if (r)
        return r;
    if (c->plain)
        return cmb_tree_cursor_seek_nth(c->tree, n);
    r = find_nth(c, n, &is_edit, &index);
    if (r)
        return lose(c, r);
    if (!is_edit) {
        r = cmb_tree_cursor_seek_nth(c->tree, index);
        if (r == CMB_ENOTFOUND) {
            c->state = CMB_PLACE_AFTER;
            return r;
        }
        if (r)
            return lose(c, r);
        keep_key(c, cmb_tree_cursor_key(c->tree));
    }
    return start_at_key(c, false, false);
}

/* ---- the current entry ---- */

cmb_bytes cmb_view_cursor_key(cmb_view_cursor *c)
{
    if (CMB_LIKELY(c->plain))
        return cmb_tree_cursor_key(c->tree);
    return c->stale ? (cmb_bytes){c->key.data, c->key.size} : current_key(c);
}

/* After writes: what stands under the kept key now. */
static int stale_value(cmb_view_cursor *c, cmb_found *out_found)
{
    int r = prepare(c);
    if (!r)
        r = c->plain ? cmb_tree_cursor_seek_ge(c->tree, c->key.data, c->key.size) : start_at_key(c, false, false);
    if (!r && !is_key(c, cmb_view_cursor_key(c)))
        r = CMB_ENOTFOUND;
    if (!r)
        return cmb_view_cursor_value(c, out_found);
    c->plain = false;
    c->stale = true; /* the place stays the kept key, though nothing is there any more */
    c->state = CMB_PLACE_ON;
    return r;
}

int cmb_view_cursor_value(cmb_view_cursor *c, cmb_found *out_found)
{
    if (CMB_LIKELY(c->plain))
        return cmb_tree_cursor_value(c->tree, out_found);
    if (c->state != CMB_PLACE_ON)
        return CMB_ENOTFOUND;
    if (c->stale)
        return stale_value(c, out_found);
    if (!c->on_edit)
        return cmb_tree_cursor_value(c->tree, out_found);
    out_found->out_of_line = c->edit.kind == CMB_EDIT_PUT_FAR;
    if (out_found->out_of_line)
        out_found->valref = c->edit.valref;
    else
        out_found->value = c->edit.value;
    return 0;
}

/* ---- edits added, runs written ---- */

void cmb_view_cursor_invalidate(cmb_view_cursor *c)
{
    if (c->stale)
        return;
    if (c->plain) {
        c->state = cmb_tree_cursor_place(c->tree);
        c->plain = false;
        c->on_edit = false;
    }
    if (c->state == CMB_PLACE_ON)
        keep_key(c, current_key(c));
    c->stale = true;
}

int cmb_view_cursor_rebind(cmb_view_cursor *c, const cmb_view *view)
{
    cmb_tree_cursor *tree = NULL;
    int r = reserve_key(c, view);
    if (!r)
        r = cmb_tree_cursor_open(view->tree, &view->root, &tree);
    if (r)
        return r;
    cmb_view_cursor_invalidate(c);
    drop_edits(c);
    cmb_tree_cursor_close(c->tree);
    c->tree = tree;
    c->view = *view;
    return 0;
}
