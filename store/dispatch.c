/* SPDX-License-Identifier: ISC */
/* dispatch.c: watches are told, on the thread of whoever calls. */
#include "btree/diff.h"
#include "store/watch.h"

/* An event with what its snapshots are made from. */
typedef struct event {
    cmb_event face; /* first member: what a callback gets */
    cmb_store *store;
    cmb_point before, after;
} event;

/* ---- who is next ---- */

/* The next of them in turn that has something to take and is not being run. */
static cmb_watch *next_of(cmb_watched *of)
{
    cmb_watch *start = of->turn ? of->turn : of->first, *w = start;
    do {
        if (!w->runner && cmb_watch_pending(w)) {
            of->turn = w->next;
            return w;
        }
        w = w->next ? w->next : of->first;
    } while (w != start);
    return NULL;
}

/* Each ref that is ready in turn, and each of its watches in turn. Lock held. */
static cmb_watch *next_watch(cmb_watches *ws)
{
    while (ws->ready_first) {
        cmb_watched *of = ws->ready_first;
        ws->ready_first = of->next_ready;
        if (!ws->ready_first)
            ws->ready_last = NULL;
        of->ready = false;
        cmb_watch *w = next_of(of);
        if (w) {
            cmb_watched_ready(ws, of);
            return w;
        }
    }
    return NULL;
}

/* ---- what changed ---- */

#define MEMO_KEYS 48u
#define MEMO_BYTES 3072u

/*
 * Thousands of watches of one branch ask about the same two contents in turn. Where the second one asks, all
 * keys that differ are noted if they are few; the others look there instead of into the trees.
 */
typedef struct memo {
    cmb_name before, after; /* the pair asked about last; size 0: none yet */
    enum { ASKED_ONCE, KEYS_KNOWN, TOO_MANY } state;
    uint32_t count, used;
    uint32_t ends[MEMO_KEYS]; /* of the keys in `bytes`, which ascend */
    uint8_t bytes[MEMO_BYTES];
} memo;

static cmb_bytes memo_key(const memo *m, uint32_t i)
{
    uint32_t start = i ? m->ends[i - 1] : 0;
    return (cmb_bytes){m->bytes + start, m->ends[i] - start};
}

static int memo_add(void *ctx, const cmb_tree_change *change)
{
    memo *m = ctx;
    if (m->count == MEMO_KEYS || change->key.size > MEMO_BYTES - m->used)
        return 1;
    memcpy(m->bytes + m->used, change->key.data, change->key.size);
    m->used += (uint32_t)change->key.size;
    m->ends[m->count++] = m->used;
    return 0;
}

/* A second watch asks about this pair. An error is found again by whom it concerns. */
static void memo_fill(memo *m, const cmb_tree *tree, const cmb_noderef *before, const cmb_noderef *after)
{
    m->count = m->used = 0;
    m->state = cmb_tree_diff(tree, before, after, NULL, NULL, memo_add, m, NULL) == 0 ? KEYS_KNOWN : TOO_MANY;
}

/* Are the keys that differ known now? */
static bool memo_ask(memo *m, const cmb_tree *tree, const cmb_noderef *before, const cmb_noderef *after)
{
    if (!cmb_name_equal(&m->before, &before->name) || !cmb_name_equal(&m->after, &after->name)) {
        m->before = before->name;
        m->after = after->name;
        m->state = ASKED_ONCE;
    } else if (m->state == ASKED_ONCE) {
        memo_fill(m, tree, before, after);
    }
    return m->state == KEYS_KNOWN;
}

static bool memo_has(const memo *m, const cmb_bounds *b)
{
    uint32_t low = 0, high = m->count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        cmb_bytes key = memo_key(m, mid);
        if (cmb_compare(key.data, key.size, b->lower.data, b->lower.size) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    if (low == m->count)
        return false;
    cmb_bytes key = memo_key(m, low);
    return !b->upper.size || cmb_compare(key.data, key.size, b->upper.data, b->upper.size) < 0;
}

static int stop_at_first(void *ctx, const cmb_tree_change *change)
{
    return 1;
}

/* ---- one event ---- */

/* Is there a difference under the watch, or reason to think so? */
static bool concerns(const cmb_watch *w, memo *m, event *e)
{
    const cmb_tree *tree = &w->store->tree;
    const cmb_noderef *before = &e->before.state.root, *after = &e->after.state.root;
    const cmb_bounds *b = &w->bounds;
    if (!w->confined || e->face.kind == CMB_EVENT_LOST)
        return true;
    if (cmb_bounds_empty(b) || cmb_tree_same(before, after))
        return false;
    if (memo_ask(m, tree, before, after))
        return memo_has(m, b);
    int r = cmb_tree_diff(tree, before, after, b->lower.size ? &b->lower : NULL, b->upper.size ? &b->upper : NULL, stop_at_first,
                          NULL, NULL);
    e->face.error = r < 0 ? r : 0;
    return r != 0;
}

/* The watch is being run; no lock held. False: there was nothing to tell. */
static bool tell(cmb_watch *w, const char *branch, memo *m, event *e)
{
    if (!concerns(w, m, e))
        return false;
    e->face.watch = w;
    e->face.branch = branch;
    e->face.existed = e->before.exists;
    e->face.exists = e->after.exists;
    e->face.number = e->after.number;
    cmb_state_rev(&e->before.state, &e->face.before);
    cmb_state_rev(&e->after.state, &e->face.after);
    w->fn(w->ctx, &e->face);
    return true;
}

/* After the callback. Lock held; the watch may be gone afterwards. */
static void conclude(cmb_watches *ws, cmb_watch *w, const cmb_point *after)
{
    w->runner = NULL;
    if (w->orphan) {
        cmb_watch_release(w);
        return;
    }
    w->seen = *after;
    if (w->of && cmb_watch_pending(w))
        cmb_watched_ready(ws, w->of);
    cmb_cond_broadcast(&ws->idle);
}

/* Runs a watch that has something to take; gives the lock up meanwhile. True: an event was delivered. */
static bool run(cmb_watches *ws, cmb_watch *w, memo *m)
{
    char branch[CMB_REF_FULL_SIZE];
    event e = {.store = w->store, .before = w->seen};
    const cmb_refobj *ref = w->of->ref;
    w->runner = cmb_watch_thread();
    e.face.kind = cmb_watch_take(w, &e.after);
    memcpy(branch, ref->name + sizeof CMB_HEADS - 1, ref->name_size - (sizeof CMB_HEADS - 1) + 1);
    cmb_mutex_unlock(&ws->lock);
    bool told = tell(w, branch, m, &e);
    cmb_mutex_lock(&ws->lock);
    conclude(ws, w, &e.after);
    return told;
}

/* ---- all of them ---- */

#define FOR_EVER UINT64_MAX

static uint64_t deadline_of(int64_t timeout)
{
    if (timeout < 0 || timeout > INT64_MAX / 2000)
        return FOR_EVER;
    return timeout ? cmb_os_monotonic() + (uint64_t)timeout * 1000 : 0;
}

/* Nothing is to be delivered. False: nothing will be waited for any more. */
static bool wait(cmb_watches *ws, uint64_t deadline)
{
    if (!deadline)
        return false;
    if (ws->wakes) {
        ws->wakes--;
        return false;
    }
    if (deadline != FOR_EVER)
        return cmb_cond_wait_until(&ws->ready, &ws->lock, deadline);
    cmb_cond_wait(&ws->ready, &ws->lock);
    return true;
}

int cmb_watch_dispatch(cmb_store *store, int max, int64_t timeout)
{
    cmb_watches *ws = &store->watches;
    uint64_t deadline = deadline_of(timeout);
    int delivered = 0;
    memo m;
    m.before.size = m.after.size = 0;
    if (max < 1)
        return cmb_fail(CMB_EINVAL, "%d events are to be dispatched: at least 1", max);
    cmb_mutex_lock(&ws->lock);
    ws->news = ws->announced = false;
    while (delivered < max) {
        cmb_watch *w = next_watch(ws);
        if (w)
            delivered += run(ws, w, &m);
        else if (delivered || !wait(ws, deadline))
            break;
    }
    cmb_mutex_unlock(&ws->lock);
    return delivered;
}

void cmb_watch_wake(cmb_store *store)
{
    cmb_watches *ws = &store->watches;
    cmb_mutex_lock(&ws->lock);
    ws->wakes++;
    cmb_cond_broadcast(&ws->ready);
    cmb_mutex_unlock(&ws->lock);
}

/* ---- what a callback may ask ---- */

int cmb_event_before(const cmb_event *face, cmb_snapshot **out_snapshot)
{
    const event *e = (const event *)(const void *)face;
    return cmb_snapshot_of(e->store, &e->before.state, out_snapshot);
}

int cmb_event_after(const cmb_event *face, cmb_snapshot **out_snapshot)
{
    const event *e = (const event *)(const void *)face;
    return cmb_snapshot_of(e->store, &e->after.state, out_snapshot);
}
