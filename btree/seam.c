/* SPDX-License-Identifier: ISC */
/* seam.c: where a level's old entries go on in another tree. */
#include "btree/level.h"

#include <assert.h>

static cmb_entry entry_at(const cmb_seam *seam)
{
    return (cmb_entry){.key = seam->key, .key_size = seam->key_size};
}

static void free_seam(cmb_level *lv, cmb_seam *seam)
{
    if (seam)
        cmb_release(&lv->editor->tree->alloc, seam, sizeof(*seam) + seam->key_size);
}

void cmb_level_free_seams(cmb_level *lv)
{
    free_seam(lv, lv->pending);
    while (lv->seams) {
        cmb_seam *seam = lv->seams;
        lv->seams = seam->next;
        free_seam(lv, seam);
    }
}

static void queue_seam(cmb_level *lv, cmb_seam *seam)
{
    seam->next = NULL;
    seam->before = lv->last_seam;
    *(lv->last_seam ? &lv->last_seam->next : &lv->seams) = seam;
    lv->last_seam = seam;
}

static cmb_seam *unqueue_last(cmb_level *lv)
{
    cmb_seam *seam = lv->last_seam;
    lv->last_seam = seam->before;
    *(lv->last_seam ? &lv->last_seam->next : &lv->seams) = NULL;
    return seam;
}

int cmb_level_pass_seams(cmb_level *lv, const cmb_entry *key)
{
    int error = 0;
    while (!error && lv->seams) {
        cmb_seam *seam = lv->seams;
        if (key && cmb_compare(seam->key, seam->key_size, key->key, key->key_size) > 0)
            break;
        lv->seams = seam->next;
        *(lv->seams ? &lv->seams->before : &lv->last_seam) = NULL;
        error = cmb_editor_switch_up(lv->editor, lv->level + 1, seam);
    }
    return error;
}

/* ---- a seam that costs nothing ---- */

/* Is the key right before the seam a round-0 boundary of this tree? If so, `at` is at the node that follows. */
static int ends_before(cmb_level *lv, cmb_origin *o, const cmb_seam *seam, bool *out_ends)
{
    *out_ends = false;
    /* The lowest key above another is that with a zero byte more: nothing lies between the two. */
    if (!o->has || o->at.height == 0 || seam->key_size < 2 || seam->key[seam->key_size - 1] != 0)
        return 0;
    int error = cmb_path_seek(&o->at, seam->key, seam->key_size);
    if (error || cmb_path_at_start(&o->at))
        return error;
    uint32_t size = cmb_path_key_before(&o->at, lv->scratch);
    if (size + 1 != seam->key_size || memcmp(lv->scratch, seam->key, size) != 0)
        return 0;
    bool cut;
    error = cmb_level_is_cut_before(lv, o, &cut);
    if (!error)
        *out_ends = !cut;
    return error;
}

static int is_free(cmb_level *lv, const cmb_seam *seam, const cmb_entry *key, bool *out_free)
{
    cmb_origin *from = &lv->origins[lv->origin], *to = &lv->origins[seam->origin];
    int error = ends_before(lv, from, seam, out_free);
    if (!error && *out_free)
        error = ends_before(lv, to, seam, out_free);
    if (!error && *out_free)
        *out_free = cmb_level_is_untouched(&to->at, key);
    return error;
}

/* ---- one within a region ---- */

/* The rest of the node entered last is not in the result, and the level above does not hold it any more. */
static int leave_old(cmb_level *lv)
{
    if (lv->position == lv->count)
        return 0;
    const cmb_old *old = cmb_olds_newest(&lv->olds);
    int error = lv->level == 0 ? cmb_window_keep_values(&lv->window, old->node.record, old->node.length) : 0;
    if (!error)
        cmb_olds_drop_newest(lv->editor->tree, &lv->olds);
    return error;
}

/* Enters the tree that is switched to at its first entry from the seam on, if it has any. */
static int enter_other(cmb_level *lv, const cmb_seam *seam)
{
    cmb_origin *o = &lv->origins[lv->origin];
    lv->at_ended = true;
    if (!o->has)
        return 0;
    int error = cmb_path_seek(&o->at, seam->key, seam->key_size);
    if (!error)
        error = cmb_level_enter_next(lv);
    if (error)
        return error;
    lv->position = cmb_node_lower_bound(&cmb_olds_newest(&lv->olds)->node, seam->key, seam->key_size, NULL);
    if (lv->position == lv->count) { /* the last one: the path leads there with all keys beyond */
        cmb_olds_drop_newest(lv->editor->tree, &lv->olds);
        lv->position = lv->count = 0;
    }
    return 0;
}

/* The old node that is half fed. */
static uint64_t stands_in(const cmb_level *lv)
{
    if (lv->position < lv->count)
        return cmb_olds_newest(&lv->olds)->ref.addr;
    return lv->at_ended ? 0 : CMB_SEAM_BETWEEN;
}

/*
 * Two seams, there and back, and no old node of either tree ends between them: the levels above have nothing between them in either, so
 * it is all one to them. Thus seams go up no further than they matter, and few wait.
 */
static void forget_detour(cmb_level *lv)
{
    const cmb_seam *back = lv->last_seam, *there = back->before;
    if (!there || there->left_origin != back->origin || there->left == CMB_SEAM_BETWEEN || there->left != back->entered ||
        there->entered != back->left)
        return;
    free_seam(lv, unqueue_last(lv));
    free_seam(lv, unqueue_last(lv));
}

/* All old entries before the seam are in the region. Takes the seam over. */
static int cross(cmb_level *lv, cmb_seam *seam)
{
    assert(lv->active);
    seam->left_origin = lv->origin;
    seam->left = stands_in(lv);
    queue_seam(lv, seam);
    int error = leave_old(lv);
    if (error)
        return error;
    lv->position = lv->count = 0;
    lv->at_old_end = false;
    lv->origin = seam->origin;
    error = enter_other(lv, seam);
    if (error)
        return error;
    seam->entered = stands_in(lv);
    forget_detour(lv);
    return 0;
}

int cmb_level_settle_seam(cmb_level *lv, const cmb_entry *key)
{
    cmb_seam *seam = lv->pending;
    if (CMB_LIKELY(!seam))
        return 0;
    lv->pending = NULL;
    bool is_free_here;
    int error = is_free(lv, seam, key, &is_free_here);
    if (!error && is_free_here) {
        lv->origin = seam->origin;
        cmb_level_settled(lv, seam->key, seam->key_size - 1);
        return cmb_editor_switch_up(lv->editor, lv->level + 1, seam);
    }
    cmb_entry at = entry_at(seam);
    if (!error)
        error = cmb_level_open_region(lv, &at);
    if (!error)
        error = cmb_level_advance(lv, &at);
    if (!error)
        return cross(lv, seam);
    free_seam(lv, seam);
    return error;
}

int cmb_level_switch(cmb_level *lv, cmb_seam *seam)
{
    cmb_entry at = entry_at(seam);
    int error = cmb_level_settle_seam(lv, &at);
    if (!error && lv->active)
        error = cmb_level_advance(lv, &at);
    if (error)
        free_seam(lv, seam);
    else if (lv->active)
        return cross(lv, seam);
    else
        lv->pending = seam;
    return error;
}
