/* SPDX-License-Identifier: ISC */
/*
 * salvage_keys.c: which keys are lost. Copying found the leaves and values that cannot be read, each once; here every ref tells which of
 * them its tree leads to, and what no ref leads to is told of with the commit that had it first. Subtrees without
 * damage are walked once for all refs.
 */
#include "store/salvage.h"

#include <stdio.h>

/* A node that was entered and whose end did not come yet. */
typedef struct opened {
    uint64_t addr; /* 0: none */
    uint64_t losses;
} opened;

typedef struct teller {
    cmb_salvage *s;
    const char *where;
    cmb_addrset *whole; /* nodes below which nothing is lost */
    uint64_t losses;
    opened open[CMB_LEVEL_MAX + 1u]; /* by level */
} teller;

static int note_told(cmb_salvage *s, uint64_t addr)
{
    bool added;
    return addr % CMB_RECORD_ALIGN ? 0 : cmb_addrset_add(s->told, addr, 0, &added);
}

static int tell_lost(void *ctx, const cmb_noderef *ref, int error, cmb_bytes lo, cmb_bytes hi, uint64_t found)
{
    teller *t = ctx;
    cmb_salvage *s = t->s;
    t->losses++;
    if (found)
        error = cmb_fail_in(error, "%llu of %llu entries were found again", (unsigned long long)found, (unsigned long long)ref->count);
    int e = cmb_sv_tell(s, CMB_LOSS_KEYS, error, ref->addr, t->where, lo, hi, NULL);
    if (!e)
        e = note_told(s, ref->addr);
    return e ? e : cmb_sv_range_add(&s->alloc, &s->lost, lo, hi);
}

static int tell_value(teller *t, const cmb_valref *ref, cmb_bytes key)
{
    cmb_salvage *s = t->s;
    t->losses++;
    int e = cmb_sv_tell(s, CMB_LOSS_VALUE, 0, ref->addr, t->where, key, key, "a piece of the value cannot be read");
    return e ? e : note_told(s, ref->addr);
}

/* All nodes of this level and below that were entered have come to their end. */
static int close_levels(teller *t, unsigned level)
{
    int error = 0;
    for (unsigned l = 0; l <= level && !error; l++) {
        opened *o = &t->open[l];
        bool added;
        if (o->addr && o->losses == t->losses)
            error = cmb_addrset_add(t->whole, o->addr, 0, &added);
        o->addr = 0;
    }
    return error;
}

static bool is_known(const cmb_addrset *set, uint64_t addr)
{
    return addr % CMB_RECORD_ALIGN == 0 && cmb_addrset_has(set, addr);
}

static int meet_subtree(teller *t, cmb_sv_cursor *c, const cmb_sv_item *item)
{
    const cmb_noderef ref = item->ref;
    int error = close_levels(t, ref.level);
    bool look = ref.level || ref.out_of_line || is_known(t->s->bad, ref.addr);
    if (error || !look || is_known(t->whole, ref.addr)) {
        cmb_sv_cursor_pass(c);
        return error;
    }
    if (ref.addr % CMB_RECORD_ALIGN == 0)
        t->open[ref.level] = (opened){ref.addr, t->losses};
    return cmb_sv_cursor_enter(c);
}

static int tell_tree(teller *t, const cmb_noderef *root)
{
    cmb_salvage *s = t->s;
    cmb_sv_cursor *c;
    cmb_sv_item item;
    memset(t->open, 0, sizeof t->open);
    int error = cmb_sv_cursor_open(s, &s->in->tree, root, tell_lost, t, &c);
    if (error)
        return error;
    while (!error && cmb_sv_cursor_item(c, &item)) {
        if (item.subtree) {
            error = meet_subtree(t, c, &item);
            continue;
        }
        if (item.found.out_of_line && is_known(s->bad, item.found.valref.addr))
            error = tell_value(t, &item.found.valref, item.key);
        cmb_sv_cursor_pass(c);
    }
    if (!error)
        error = close_levels(t, root->level);
    cmb_sv_cursor_close(c);
    return error;
}

/* ---- refs ---- */

static int tell_ref(cmb_salvage *s, const char *name, const cmb_state *state)
{
    teller t = {.s = s, .where = name, .whole = s->whole};
    return tell_tree(&t, &state->root);
}

/* ---- what no ref leads to ---- */

static int tell_piece(cmb_salvage *s, const cmb_sv_piece *p)
{
    char where[8 + 2 * CMB_NAME_MAX], hex[2 * CMB_NAME_MAX + 1];
    if (is_known(s->told, p->ref.addr))
        return 0;
    cmb_name_hex(&p->commit, hex);
    snprintf(where, sizeof where, "commit %s", hex);
    if (p->ref.level == CMB_SV_VALUE_LEVEL)
        return cmb_sv_tell(s, CMB_LOSS_VALUE, 0, p->ref.addr, where, p->range.after, p->range.last, "a piece of the value cannot be read");
    cmb_pin pin = {0};
    int error = cmb_sv_node_get(s, &p->ref, &pin); /* once more, for the reason */
    cmb_pin_destroy(s->in->nodes, &pin);
    error = cmb_sv_tell(s, CMB_LOSS_KEYS, error, p->ref.addr, where, p->range.after, p->range.last, "its keys are not where its parent says");
    return error ? error : cmb_sv_range_add(&s->alloc, &s->lost, p->range.after, p->range.last);
}

int cmb_sv_tell_keys(cmb_salvage *s)
{
    const cmb_sv_piece *p = s->pieces.items;
    int error = s->pieces.n ? cmb_sv_refs_each(s, tell_ref) : 0;
    for (size_t i = 0; i < s->pieces.n && !error; i++)
        error = tell_piece(s, &p[i]);
    return error;
}
