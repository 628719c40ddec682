/* SPDX-License-Identifier: ISC */
/* level.c: one level's region: opening it, feeding it, ending it. What comes out is emit.c's. */
#include "btree/level.h"

#include <assert.h>

/* ---- feeding ---- */

static int restart(cmb_level *lv);

static int not_canonical(const cmb_level *lv)
{
    return cmb_fail(CMB_ECORRUPT, "tree with root at %llu: level %u is not cut where its keys say",
                    (unsigned long long)lv->editor->roots[lv->origin].addr, lv->level);
}

/* An entry that stands in the window's memory, or in an old node, goes to the decider. */
static int add(cmb_level *lv, const cmb_entry *e)
{
    int error = cmb_window_add(&lv->window, e);
    if (!error)
        error = cmb_decider_push(&lv->decider, cmb_hash64(e->key, e->key_size, lv->salt), cmb_entry_bytes(e, lv->level));
    if (CMB_UNLIKELY(!error && lv->decider.left_died))
        error = restart(lv);
    return error;
}

/* Copies what an edit brings into the window's memory. */
static int add_copy(cmb_level *lv, const cmb_entry *e)
{
    cmb_entry copy = *e;
    size_t far = e->child ? sizeof(*e->child) : e->valref ? sizeof(*e->valref) : 0;
    uint8_t *room = cmb_window_room(&lv->window, far + e->key_size + e->value_size);
    if (!room)
        return CMB_ENOMEM;
    if (e->child) {
        memcpy(room, e->child, far);
        copy.child = (const cmb_noderef *)(const void *)room;
    } else if (e->valref) {
        memcpy(room, e->valref, far);
        copy.valref = (const cmb_valref *)(const void *)room;
    }
    memcpy(room + far, e->key, e->key_size);
    copy.key = room + far;
    if (e->value_size) {
        memcpy(room + far + e->key_size, e->value, e->value_size);
        copy.value = room + far + e->key_size;
    }
    return add(lv, &copy);
}

/* Entry i of an old node: the key is put together in the window's memory, an inline value stays where it is. */
static int add_old(cmb_level *lv, const cmb_node *node, uint32_t i)
{
    bool far = lv->level == 0 && cmb_node_is_out_of_line(node, i);
    size_t front = lv->level ? sizeof(cmb_noderef) : far ? sizeof(cmb_valref) : 0;
    cmb_entry e = {.key_size = cmb_node_key_size(node, i)};
    uint8_t *room = cmb_window_room(&lv->window, front + e.key_size);
    if (!room)
        return CMB_ENOMEM;
    cmb_node_key(node, i, room + front);
    e.key = room + front;
    if (lv->level > 0) {
        cmb_node_child(node, i, (cmb_noderef *)(void *)room);
        e.child = (const cmb_noderef *)(const void *)room;
    } else if (far) {
        cmb_node_valref(node, i, (cmb_valref *)(void *)room);
        e.valref = (const cmb_valref *)(const void *)room;
    } else {
        cmb_bytes value = cmb_node_value(node, i);
        e.value = value.data;
        e.value_size = (uint32_t)value.size;
    }
    return add(lv, &e);
}

/* Makes the path's node the one whose entries come next. */
static int enter(cmb_level *lv, const cmb_path *path)
{
    const cmb_tree *tree = lv->editor->tree;
    cmb_old *old = cmb_olds_push(&tree->alloc, &lv->olds);
    if (!old)
        return CMB_ENOMEM;
    int error = cmb_path_node(path, lv->scratch, &old->pin, &old->ref, &old->node);
    if (error) {
        lv->olds.count--;
        return error;
    }
    old->is_root = path->height == 0;
    lv->editor->stats.nodes_read++;
    lv->position = 0;
    lv->count = old->node.count;
    lv->cut = old->ref.cut;
    lv->at_old_end = false;
    return 0;
}

/* Old entries below `limit` of the node entered last. */
static int feed(cmb_level *lv, uint32_t limit)
{
    while (lv->position < limit) {
        uint32_t i = lv->position++;
        lv->at_old_end = lv->position == lv->count;
        int error = add_old(lv, &cmb_olds_newest(&lv->olds)->node, i);
        if (error)
            return error;
        if (lv->level > 0 && lv->origin != 0)
            lv->editor->stats.adopted++;
    }
    return 0;
}

/* ---- where a region starts ---- */

void cmb_level_settled(cmb_level *lv, const uint8_t *key, uint32_t key_size)
{
    memcpy(lv->settled_key, key, key_size);
    lv->settled_size = key_size;
}

static int start_at_level(cmb_level *lv)
{
    if (lv->settled_size)
        return not_canonical(lv);
    cmb_decider_start(&lv->decider);
    lv->from_start = true;
    return 0;
}

/* After the node before the one that `path` is at. */
static int start_before(cmb_level *lv, const cmb_path *path)
{
    lv->left_size = cmb_path_key_before(path, lv->left_key);
    lv->from_start = false;
    if (lv->settled_size && cmb_compare(lv->left_key, lv->left_size, lv->settled_key, lv->settled_size) < 0)
        return not_canonical(lv);
    return cmb_decider_start_after(&lv->decider, cmb_hash64(lv->left_key, lv->left_size, lv->salt));
}

/* Starts at the nearest certain place left of the node that ends with left_key, and feeds up to its end. */
static int rewind_left(cmb_level *lv)
{
    cmb_path *back = &lv->origins[lv->start].back;
    cmb_noderef ref, stop;
    int error = cmb_path_seek(back, lv->left_key, lv->left_size);
    if (error)
        return error;
    cmb_path_ref(back, &stop);
    do {
        error = cmb_path_prev(back);
        if (error == CMB_ENOTFOUND) {
            error = start_at_level(lv);
            break;
        }
        if (error)
            return error;
        cmb_path_ref(back, &ref);
        if (!ref.cut) {
            error = cmb_path_next(back);
            if (!error)
                error = start_before(lv, back);
            break;
        }
    } while (!error);
    for (bool done = false; !error && !done;) {
        error = enter(lv, back);
        if (!error)
            error = feed(lv, lv->count);
        cmb_path_ref(back, &ref);
        done = ref.addr == stop.addr;
        if (!error && !done)
            error = cmb_path_next(back);
    }
    return error == CMB_ENOTFOUND ? not_canonical(lv) : error;
}

int cmb_level_is_cut_before(cmb_level *lv, cmb_origin *o, bool *out_cut)
{
    const cmb_path_step *s = &o->at.steps[o->at.height - 1];
    if (s->index > 0) {
        *out_cut = cmb_node_child_cut(&s->node, s->index - 1);
        return 0;
    }
    int error = cmb_path_seek(&o->back, lv->scratch, cmb_path_key_before(&o->at, lv->scratch));
    if (error)
        return error;
    cmb_noderef ref;
    cmb_path_ref(&o->back, &ref);
    *out_cut = ref.cut;
    return 0;
}

int cmb_level_enter_next(cmb_level *lv)
{
    cmb_path *at = &lv->origins[lv->origin].at;
    int error = enter(lv, at);
    if (error)
        return error;
    error = cmb_path_next(at);
    lv->at_ended = error == CMB_ENOTFOUND;
    return lv->at_ended ? 0 : error;
}

int cmb_level_open_region(cmb_level *lv, const cmb_entry *key)
{
    cmb_origin *o = &lv->origins[lv->origin];
    lv->active = true;
    lv->start = lv->origin;
    lv->at_old_end = false;
    lv->position = lv->count = 0;
    if (!o->has) {
        lv->at_ended = true;
        return start_at_level(lv);
    }
    int error = cmb_path_seek(&o->at, key->key, key->key_size);
    if (error)
        return error;
    if (cmb_path_at_start(&o->at)) {
        error = start_at_level(lv);
    } else {
        bool cut;
        error = cmb_level_is_cut_before(lv, o, &cut);
        if (!error)
            error = start_before(lv, &o->at);
        lv->rewinding = true;
        if (!error && cut)
            error = rewind_left(lv);
        lv->rewinding = false;
    }
    return error ? error : cmb_level_enter_next(lv);
}

/* The boundary that the region started after is none any more: it starts one node earlier, and what
 * it had so far (nothing was emitted) follows. */
static int restart(cmb_level *lv)
{
    if (lv->rewinding || lv->from_start)
        return not_canonical(lv);
    assert(lv->window.released == 0);
    const cmb_tree *tree = lv->editor->tree;
    cmb_window window = lv->window;
    cmb_olds olds = lv->olds;
    uint32_t position = lv->position, count = lv->count;
    bool cut = lv->cut, at_old_end = lv->at_old_end;
    lv->rewinding = true;
    cmb_window_init(&lv->window, &tree->alloc);
    lv->olds = (cmb_olds){0};
    int error = rewind_left(lv);
    while (!error && olds.count > 0) {
        cmb_old *to = cmb_olds_push(&tree->alloc, &lv->olds), *from = &olds.slots[olds.head];
        if (!to) {
            error = CMB_ENOMEM;
            break;
        }
        cmb_old swap = *to;
        *to = *from;
        *from = swap;
        olds.head = (olds.head + 1) & (olds.capacity - 1);
        olds.count--;
    }
    if (!error)
        cmb_window_adopt(&lv->window, &window);
    for (size_t i = window.first; i < window.end && !error; i++)
        error = add(lv, &window.entries[i]);
    cmb_window_destroy(&window);
    cmb_olds_destroy(tree, &olds);
    lv->position = position;
    lv->count = count;
    lv->cut = cut;
    lv->at_old_end = at_old_end;
    lv->rewinding = false;
    return error;
}

/* ---- where it ends ---- */

static int close_region(cmb_level *lv)
{
    lv->active = false;
    int error = cmb_level_drop_olds(lv, NULL);
    cmb_window_reset(&lv->window);
    return error ? error : cmb_level_pass_seams(lv, NULL);
}

bool cmb_level_is_untouched(const cmb_path *at, const cmb_entry *key)
{
    if (!key)
        return true;
    if (cmb_path_at_end(at) || cmb_path_compare(at, key->key, key->key_size) >= 0)
        return false;
    cmb_noderef ref;
    cmb_path_ref(at, &ref);
    return !ref.cut;
}

static int try_end(cmb_level *lv, const cmb_entry *key, bool *out_ended)
{
    bool stands = false;
    int error = 0;
    if (lv->at_old_end && !lv->cut && cmb_level_is_untouched(&lv->origins[lv->origin].at, key)) {
        error = cmb_decider_stands(&lv->decider, &stands);
        if (!error && lv->decider.left_died) {
            error = restart(lv);
            if (!error)
                error = cmb_decider_stands(&lv->decider, &stands);
        }
    }
    if (!error && stands) {
        const cmb_entry *end = cmb_window_at(&lv->window, cmb_window_count(&lv->window));
        cmb_level_settled(lv, end->key, end->key_size);
        error = cmb_decider_finish_boundary(&lv->decider);
        if (!error)
            error = close_region(lv);
    }
    *out_ended = stands;
    return error;
}

/* Feeds old entries below `key`; NULL: all. The region may end on the way. */
int cmb_level_advance(cmb_level *lv, const cmb_entry *key)
{
    for (;;) {
        if (lv->position < lv->count) {
            const cmb_node *node = &cmb_olds_newest(&lv->olds)->node;
            uint32_t limit = key ? cmb_node_lower_bound(node, key->key, key->key_size, NULL) : lv->count;
            int error = feed(lv, limit);
            if (error || lv->position < lv->count)
                return error;
        }
        if (lv->at_ended)
            return 0;
        bool ended;
        int error = try_end(lv, key, &ended);
        if (error || ended)
            return error;
        error = cmb_level_enter_next(lv);
        if (error)
            return error;
    }
}

/* ---- the level ---- */

/* Steps over the old entry with this key, if there is one: the edit replaces it. */
static const cmb_node *skip_old(cmb_level *lv, const cmb_entry *e, uint32_t *out_index)
{
    if (lv->position == lv->count)
        return NULL;
    const cmb_node *node = &cmb_olds_newest(&lv->olds)->node;
    if (cmb_node_compare(node, lv->position, e->key, e->key_size) != 0)
        return NULL;
    *out_index = lv->position++;
    return node;
}

int cmb_level_push(cmb_level *lv, const cmb_entry *entry, bool remove)
{
    int error = cmb_level_settle_seam(lv, entry);
    if (!error && lv->active)
        error = cmb_level_advance(lv, entry);
    if (!error && !lv->active) {
        error = cmb_level_open_region(lv, entry);
        if (!error)
            error = cmb_level_advance(lv, entry);
    }
    if (error)
        return error;
    uint32_t index = 0;
    const cmb_node *old = skip_old(lv, entry, &index);
    lv->at_old_end = old && !remove && lv->position == lv->count;
    if (remove)
        return 0;
    if (lv->level == 0 && (entry->valref || entry->value_size > cmb_tree_inline_max(lv->editor->tree))) {
        cmb_valref far;
        cmb_entry e;
        error = cmb_far_value(lv, entry, old, index, &far, &e);
        return error ? error : add_copy(lv, &e);
    }
    return add_copy(lv, entry);
}

int cmb_level_finish(cmb_level *lv, cmb_level_outcome *out_outcome, cmb_noderef *out_root)
{
    int error = cmb_level_settle_seam(lv, NULL);
    if (!error && lv->active)
        error = cmb_level_advance(lv, NULL);
    while (!error && lv->active) {
        if (lv->from_start && lv->level > 0 && lv->decider.count == 1) {
            *out_root = *cmb_window_at(&lv->window, 1)->child;
            *out_outcome = CMB_LEVEL_ROOT;
            return 0;
        }
        if (lv->from_start && lv->decider.count == 0) {
            *out_outcome = CMB_LEVEL_EMPTY;
            return lv->level ? not_canonical(lv) : 0;
        }
        error = cmb_decider_finish_level(&lv->decider);
        if (!error)
            error = lv->decider.left_died ? restart(lv) : close_region(lv);
    }
    if (!error)
        *out_outcome = CMB_LEVEL_WENT_UP;
    return error;
}

int cmb_level_open(cmb_editor *editor, unsigned level, cmb_level **out_level)
{
    const cmb_tree *tree = editor->tree;
    cmb_level *lv = cmb_zalloc(&tree->alloc, sizeof(*lv));
    if (!lv)
        return CMB_ENOMEM;
    lv->editor = editor;
    lv->level = level;
    lv->salt = cmb_boundary_salt(tree->seed, level, 0);
    cmb_window_init(&lv->window, &tree->alloc);
    cmb_decider_init(&lv->decider, &tree->alloc, cmb_boundary_target(tree->target, level), level > 0, &cmb_level_decider_ops, lv);
    lv->left_key = cmb_alloc(&tree->alloc, CMB_KEY_MAX);
    lv->settled_key = cmb_alloc(&tree->alloc, CMB_KEY_MAX);
    lv->scratch = cmb_alloc(&tree->alloc, CMB_KEY_MAX);
    int error = lv->left_key && lv->settled_key && lv->scratch ? 0 : CMB_ENOMEM;
    for (unsigned i = 0; i < CMB_COUNTOF(lv->origins) && !error; i++) {
        cmb_origin *o = &lv->origins[i];
        o->has = level < editor->heights[i];
        if (o->has)
            error = cmb_path_open(&o->at, tree, &editor->roots[i], level);
        if (o->has && !error)
            error = cmb_path_open(&o->back, tree, &editor->roots[i], level);
    }
    if (error)
        cmb_level_close(lv);
    else
        *out_level = lv;
    return error;
}

void cmb_level_close(cmb_level *lv)
{
    if (!lv)
        return;
    const cmb_tree *tree = lv->editor->tree;
    cmb_olds_destroy(tree, &lv->olds);
    for (unsigned i = 0; i < CMB_COUNTOF(lv->origins); i++) {
        lv->editor->stats.nodes_read += lv->origins[i].at.reads + lv->origins[i].back.reads;
        cmb_path_close(&lv->origins[i].at);
        cmb_path_close(&lv->origins[i].back);
    }
    cmb_level_free_seams(lv);
    cmb_window_destroy(&lv->window);
    cmb_decider_destroy(&lv->decider);
    cmb_release(&tree->alloc, lv->left_key, CMB_KEY_MAX);
    cmb_release(&tree->alloc, lv->settled_key, CMB_KEY_MAX);
    cmb_release(&tree->alloc, lv->scratch, CMB_KEY_MAX);
    cmb_release(&tree->alloc, lv->record.data, lv->record.capacity);
    cmb_release(&tree->alloc, lv, sizeof(*lv));
}
