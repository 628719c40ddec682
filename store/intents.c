/* SPDX-License-Identifier: ISC */
/* intents.c: branches whose newest content lies above their root: looking at them, and merging what lies there. */
#include "store/intents.h"

#include "store/land.h"

#include <assert.h>

/* ---- looking ---- */

void cmb_live_release(cmb_store *store, cmb_live *live)
{
    if (live->ref)
        cmb_ref_unuse(store, live->ref);
    cmb_intents_release(live->list);
    *live = (cmb_live){0};
}

void cmb_ref_look_live(cmb_store *store, cmb_refobj *ref, cmb_state *out_state, bool *out_exists, cmb_live *out_live)
{
    cmb_mutex_lock(&store->lock);
    *out_state = ref->state;
    *out_exists = ref->exists;
    *out_live = (cmb_live){0};
    if (ref->state.pending) {
        ref->users++;
        *out_live = (cmb_live){ref, cmb_intents_hold(ref->intents)};
    }
    cmb_mutex_unlock(&store->lock);
}

int cmb_ref_settled(cmb_store *store, cmb_refobj *ref, cmb_state *out_state, bool *out_exists)
{
    cmb_live live;
    cmb_state state;
    bool exists;
    cmb_ref_look_live(store, ref, &state, &exists, &live);
    int error = cmb_state_settle(store, &live, &state);
    cmb_live_release(store, &live);
    if (!error) {
        *out_state = state;
        *out_exists = exists;
    }
    return error;
}

/* ---- in units ---- */

bool cmb_intent_fits(cmb_store *store, const cmb_refobj *ref, const cmb_intent *intent)
{
    const uint64_t target = store->tree.target;
    uint64_t room = cmb_log_room(store->log);
    cmb_mutex_lock(&store->lock);
    uint64_t bytes = store->intents_bytes + intent->bytes, count = store->intents_count + intent->count;
    bool fits = cmb_intents_weight(store) <= CMB_INTENTS_MAX && !ref->watched && ref->exists;
    cmb_mutex_unlock(&store->lock);
    /* At worst each edit rewrites a leaf of its own, its neighbour and their parents. */
    return fits && count < room / (8 * target) && bytes < room / 4;
}

void cmb_intents_listed(cmb_store *store, cmb_refobj *ref)
{
    if (ref->intents_listed)
        return;
    ref->next_intents = store->intents_first;
    store->intents_first = ref;
    ref->intents_listed = true;
    ref->users++;
}

int cmb_unit_intend(cmb_unit *unit, cmb_refobj *ref, cmb_intent *intent)
{
    cmb_store *store = unit->store;
    uint64_t addr;
    int error = 0;
    if (!ref->intents) {
        cmb_intents *list;
        error = cmb_intents_create(&store->alloc, &list);
        if (error)
            return error;
        cmb_mutex_lock(&store->lock);
        ref->intents = list;
        cmb_intents_listed(store, ref);
        cmb_mutex_unlock(&store->lock);
    }
    cmb_put64(intent->payload + 1, store->unit_number + 1);
    error = cmb_intents_reserve(ref->intents, intent->count, intent->bytes);
    if (!error)
        error = cmb_append_record(unit->app, CMB_RECORD_INTENTS, intent->payload, intent->size, &addr);
    if (error)
        return error;
    intent->ref = ref;
    cmb_ref_reuse(store, ref);
    intent->next = unit->intents;
    unit->intents = intent;
    return 0;
}

void cmb_intents_moved(cmb_store *store, cmb_refobj *ref, cmb_intents *rest)
{
    if (ref->intents) {
        store->intents_bytes -= cmb_intents_bytes(ref->intents);
        store->intents_count -= cmb_intents_count(ref->intents);
        cmb_intents_release(ref->intents);
    }
    ref->intents = rest;
    if (rest) {
        store->intents_bytes += cmb_intents_bytes(rest);
        store->intents_count += cmb_intents_count(rest);
        ref->state.pending = cmb_intents_newest(rest);
        ref->state.working = true;
    }
}

/* ---- merging ---- */

typedef struct merge {
    cmb_store *store;
    const cmb_live *live;
    const cmb_state *from;
    cmb_noderef root; /* of the content */
    bool as_commit;   /* the commit's */
} merge;

static int apply(merge *m, cmb_appender *app)
{
    cmb_source *source;
    int error = cmb_source_intents(m->live->list, 0, m->from->pending, &source);
    if (error)
        return error;
    error = cmb_tree_apply(&m->store->tree, &m->from->root, source, app, &m->root, NULL);
    source->ops->close(source);
    return error ? error : cmb_tree_identical(&m->store->tree, &m->root, &m->from->commit_root, &m->as_commit);
}

/* Would the head take it in one piece? */
static bool is_large(const merge *m)
{
    const cmb_intents *list = m->live->list;
    return cmb_intents_bytes(list) + cmb_intents_count(list) * m->store->tree.target > CMB_STREAM_THRESHOLD / 2;
}

static void settled_state(const merge *m, cmb_state *out)
{
    cmb_state s = *m->from;
    s.root = m->as_commit ? s.commit_root : m->root;
    s.merged = m->from->pending;
    s.pending = 0;
    s.working = !m->as_commit;
    *out = s;
}

/* Does the branch still stand on what was merged? store->unit held. */
static bool still_there(const merge *m)
{
    cmb_store *store = m->store;
    const cmb_refobj *ref = m->live->ref;
    cmb_mutex_lock(&store->lock);
    bool same = ref->exists && ref->intents == m->live->list; /* every other move took the list away */
    cmb_mutex_unlock(&store->lock);
    return same;
}

/* The branch goes over to the new root, inside the unit, with what came in meanwhile above it. */
static int take_along(cmb_unit *unit, const merge *m)
{
    cmb_intents *rest = NULL;
    cmb_state state;
    int error = 0;
    if (!still_there(m))
        return 0;
    if (cmb_intents_any(m->live->list, m->from->pending, UINT64_MAX))
        error = cmb_intents_rest(m->live->list, m->from->pending, &rest);
    settled_state(m, &state);
    if (!error)
        error = cmb_unit_merge(unit, m->live->ref, &state, rest);
    if (error)
        cmb_intents_release(rest);
    return error;
}

/* In the head if there is little, else in a stream, before the unit. */
static int merge_written(merge *m, bool in_stream)
{
    cmb_store *store = m->store;
    cmb_appender *stream = NULL;
    cmb_unit unit;
    uint64_t seq;
    int error = in_stream ? cmb_log_stream(store->log, &stream) : 0;
    if (!error && stream && !(error = apply(m, stream)))
        error = cmb_stream_finish(stream);
    if (!error)
        error = cmb_unit_begin(store, &unit);
    if (error) {
        if (stream)
            cmb_append_abort(stream);
        return error;
    }
    if (!stream)
        error = apply(m, unit.app);
    else if (!(error = cmb_append_adopt(unit.app, stream)))
        stream = NULL;
    if (!error)
        error = take_along(&unit, m);
    if (!error)
        return cmb_unit_publish(&unit, &seq);
    cmb_unit_abort(&unit);
    if (stream)
        cmb_append_abort(stream);
    return error;
}

/* The changed nodes in memory, once for each content that is asked for: what was built last is remembered with the branch. */
static int merge_in_memory(merge *m)
{
    cmb_store *store = m->store;
    cmb_refobj *ref = m->live->ref;
    int error = 0;
    cmb_mutex_lock(&store->unit);
    if (ref->built_upto == m->from->pending && ref->built_over == m->from->root.addr) {
        m->root = ref->built;
        error = cmb_tree_identical(&store->tree, &m->root, &m->from->commit_root, &m->as_commit);
    } else {
        error = store->scratch ? 0 : cmb_log_scratch(store->log, &store->scratch);
        if (!error)
            error = apply(m, store->scratch);
        if (!error) {
            ref->built = m->root;
            ref->built_upto = m->from->pending;
            ref->built_over = m->from->root.addr;
        }
    }
    cmb_mutex_unlock(&store->unit);
    return error;
}

static bool may_write(const cmb_store *store)
{
    return store->writable && !__atomic_load_n(&store->failed, __ATOMIC_RELAXED);
}

static int merge_to_log(merge *m)
{
    bool large = is_large(m);
    int error = merge_written(m, large);
    if (error == CMB_ENOSPC && !large) /* more than the segments that the head announced */
        error = merge_written(m, true);
    return error;
}

static int settle(cmb_store *store, const cmb_live *live, cmb_state *state, bool *to_read)
{
    if (!state->pending)
        return 0;
    assert(live->list && live->ref);
    merge m = {.store = store, .live = live, .from = state};
    int error = may_write(store) ? merge_to_log(&m) : merge_in_memory(&m);
    if (error == CMB_ENOSPC && to_read) {
        error = merge_in_memory(&m);
        *to_read = !error;
    }
    if (error)
        return cmb_store_note(store, cmb_fail_in(error, "%s: merging %zu logged edits into the tree", live->ref->name,
                                                 cmb_intents_count(live->list)));
    settled_state(&m, state);
    return 0;
}

int cmb_state_settle(cmb_store *store, const cmb_live *live, cmb_state *state)
{
    return settle(store, live, state, NULL);
}

int cmb_state_settle_to_read(cmb_store *store, const cmb_live *live, cmb_state *state, bool *out_in_memory)
{
    *out_in_memory = false;
    return settle(store, live, state, out_in_memory);
}

/* The ref with the longest list, in use; NULL: none has one. */
static cmb_refobj *longest(cmb_store *store)
{
    cmb_refobj *best = NULL;
    cmb_mutex_lock(&store->lock);
    for (cmb_refobj *r = store->intents_first; r; r = r->next_intents)
        if (r->state.pending && (!best || cmb_intents_bytes(r->intents) > cmb_intents_bytes(best->intents)))
            best = r;
    if (best)
        best->users++;
    cmb_mutex_unlock(&store->lock);
    return best;
}

/* Merges the longest list; *out_none: there is none. */
static int settle_longest(cmb_store *store, bool *out_none)
{
    cmb_state state;
    bool exists;
    cmb_refobj *ref = longest(store);
    *out_none = !ref;
    if (!ref)
        return 0;
    int error = cmb_ref_settled(store, ref, &state, &exists);
    cmb_ref_unuse(store, ref);
    return error;
}

/* Is it this thread that merges? One does; who comes while it is at it goes on. */
static bool claim(cmb_store *store)
{
    cmb_mutex_lock(&store->lock);
    bool mine = !store->intents_merging && cmb_intents_weight(store) >= store->intents_merge_at;
    if (mine)
        store->intents_merging = true;
    cmb_mutex_unlock(&store->lock);
    return mine;
}

void cmb_intents_relieve(cmb_store *store)
{
    while (claim(store)) {
        bool none;
        int error = settle_longest(store, &none);
        cmb_mutex_lock(&store->lock);
        store->intents_merging = false;
        /* After a failure some more may gather before the next try. */
        store->intents_merge_at = error ? cmb_intents_weight(store) / 4 * 5 : CMB_INTENTS_MERGE;
        cmb_mutex_unlock(&store->lock);
    }
}

int cmb_intents_settle_all(cmb_store *store)
{
    bool none = false;
    int error = 0;
    while (!error && !none)
        error = settle_longest(store, &none);
    return error;
}

void cmb_intents_teardown(cmb_store *store)
{
    cmb_intents_drop_notes(store);
    cmb_runs_release(store, store->runs);
    cmb_release(&store->alloc, store->runs, sizeof *store->runs);
    store->runs = NULL;
    for (cmb_refobj *r = store->intents_first; r; r = r->next_intents)
        r->users--;
    store->intents_first = NULL;
}
