/* SPDX-License-Identifier: ISC */
/* A list's edits in key order, as those see them who look at a range of seqs. */
#include "btree/intents_private.h"
#include "btree/source.h"

typedef struct intents_source {
    cmb_source base;
    cmb_allocator alloc;
    const cmb_intents_index *index;
    uint64_t after, upto;
    cmb_intents_pos pos;
    const cmb_intent_version *version; /* while place is ON */
    cmb_place place;
} intents_source;

#define AHEAD 4u /* intents of the leaf that a walk prefetches */

static void prefetch(cmb_intents_pos pos, unsigned i)
{
    if (i >= cmb_intents_order_count(pos.order))
        return;
    const char *intent = (const char *)pos.leaf->refs[cmb_intents_order_slot(pos.order, i)];
    __builtin_prefetch(intent);
    __builtin_prefetch(intent + 64); /* the first version lies behind the key */
}

static void prefetch_ahead(cmb_intents_pos pos, bool backward)
{
    if (backward)
        prefetch(pos, pos.i - AHEAD); /* wraps round to what is no place */
    else
        for (unsigned i = pos.i ? AHEAD : 1; i <= AHEAD; i++)
            prefetch(pos, pos.i + i);
}

/* Stands on pos, or on the nearest key from there that has an edit to show. */
static int land(intents_source *s, cmb_intents_pos pos, bool backward)
{
    while (pos.leaf) {
        prefetch_ahead(pos, backward);
        s->version = cmb_intent_seen(cmb_intents_at(pos), s->after, s->upto);
        if (s->version) {
            s->pos = pos;
            s->place = CMB_PLACE_ON;
            return 0;
        }
        pos = backward ? cmb_intents_index_prev(pos) : cmb_intents_index_next(pos);
    }
    s->place = backward ? CMB_PLACE_BEFORE : CMB_PLACE_AFTER;
    return CMB_ENOTFOUND;
}

static int source_first(cmb_source *source)
{
    intents_source *s = (intents_source *)source;
    return land(s, cmb_intents_index_first(s->index), false);
}

static int source_last(cmb_source *source)
{
    intents_source *s = (intents_source *)source;
    return land(s, cmb_intents_index_last(s->index), true);
}

static int source_seek_ge(cmb_source *source, const uint8_t *key, size_t key_size)
{
    intents_source *s = (intents_source *)source;
    bool equal;
    return land(s, cmb_intents_index_seek(s->index, key, key_size, &equal), false);
}

static int source_seek_le(cmb_source *source, const uint8_t *key, size_t key_size)
{
    intents_source *s = (intents_source *)source;
    bool equal;
    cmb_intents_pos pos = cmb_intents_index_seek(s->index, key, key_size, &equal);
    if (!equal)
        pos = pos.leaf ? cmb_intents_index_prev(pos) : cmb_intents_index_last(s->index);
    return land(s, pos, true);
}

static int source_next(cmb_source *source)
{
    intents_source *s = (intents_source *)source;
    if (s->place != CMB_PLACE_ON)
        return s->place == CMB_PLACE_AFTER ? CMB_ENOTFOUND : source_first(source);
    return land(s, cmb_intents_index_next(s->pos), false);
}

static int source_prev(cmb_source *source)
{
    intents_source *s = (intents_source *)source;
    if (s->place != CMB_PLACE_ON)
        return s->place == CMB_PLACE_BEFORE ? CMB_ENOTFOUND : source_last(source);
    return land(s, cmb_intents_index_prev(s->pos), true);
}

static int source_current(cmb_source *source, cmb_edit *out_edit)
{
    intents_source *s = (intents_source *)source;
    if (s->place != CMB_PLACE_ON)
        return CMB_ENOTFOUND;
    cmb_intent_edit(cmb_intents_at(s->pos), s->version, out_edit);
    return 0;
}

static void source_close(cmb_source *source)
{
    intents_source *s = (intents_source *)source;
    cmb_allocator alloc = s->alloc;
    cmb_release(&alloc, s, sizeof *s);
}

static const cmb_source_ops intents_ops = {
    source_first, source_last, source_seek_ge, source_seek_le, source_next, source_prev, source_current, source_close,
};

int cmb_intents_index_source(const cmb_allocator *alloc, const cmb_intents_index *index, uint64_t after, uint64_t upto,
                             cmb_source **out_source)
{
    intents_source *s = cmb_zalloc(alloc, sizeof *s);
    if (!s)
        return CMB_ENOMEM;
    s->base.ops = &intents_ops;
    s->alloc = *alloc;
    s->index = index;
    s->after = after;
    s->upto = upto;
    s->place = CMB_PLACE_UNSET;
    *out_source = &s->base;
    return 0;
}
