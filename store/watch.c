/* SPDX-License-Identifier: ISC */
/* watch.c: watches come and go; refs move and leave notes. */
#include "store/watch.h"

#include <assert.h>

_Static_assert(sizeof(cmb_note) <= CMB_WATCH_NOTE_MAX, "notes are as small as watch.h says");

static _Thread_local char thread_token;

const void *cmb_watch_thread(void)
{
    return &thread_token;
}

int cmb_watches_init(cmb_watches *w, const cmb_store_options *options)
{
    int error = cmb_mutex_init(&w->lock);
    if (error)
        return error;
    error = cmb_cond_init(&w->ready);
    if (!error && (error = cmb_cond_init(&w->idle)))
        cmb_cond_destroy(&w->ready);
    if (error)
        cmb_mutex_destroy(&w->lock);
    w->note_max = options->watch_notes ? options->watch_notes : CMB_WATCH_NOTES;
    w->announce = options->watch_ready;
    w->announce_ctx = options->watch_ctx;
    return error;
}

/* ---- notes ---- */

bool cmb_watch_pending(const cmb_watch *watch)
{
    const cmb_watched *of = watch->of;
    return watch->lossless ? watch->lost || watch->note != of->open : watch->seen.number != of->now.number;
}

/* Frees notes that everybody has taken. */
static void trim(cmb_store *store, cmb_watched *of)
{
    while (of->oldest != of->open && !of->oldest->readers) {
        cmb_note *note = of->oldest;
        of->oldest = note->next;
        of->note_count--;
        cmb_release(&store->alloc, note, sizeof *note);
    }
}

/* There is no room for one more: those furthest behind (NULL: all) go without. */
static void lose_behind(cmb_store *store, cmb_watched *of, const cmb_note *behind)
{
    for (cmb_watch *w = of->first; w; w = w->next)
        if (w->lossless && !w->lost && (!behind || w->note == behind)) {
            w->note->readers--;
            w->note = NULL;
            w->lost = true;
        }
    trim(store, of);
}

static void add_note(cmb_store *store, cmb_watched *of)
{
    if (of->oldest == of->open && !of->open->readers)
        return; /* nobody would take it */
    if (of->note_count >= store->watches.note_max)
        lose_behind(store, of, of->oldest);
    cmb_note *open = cmb_zalloc(&store->alloc, sizeof *open);
    if (!open) {
        lose_behind(store, of, NULL);
        return;
    }
    of->open->point = of->now;
    of->open->next = open;
    of->open = open;
    of->note_count++;
    trim(store, of); /* with room for one note only, nobody may be left */
}

void cmb_watched_ready(cmb_watches *watches, cmb_watched *watched)
{
    if (!watched->ready) {
        watched->ready = true;
        watched->next_ready = NULL;
        *(watches->ready_last ? &watches->ready_last->next_ready : &watches->ready_first) = watched;
        watches->ready_last = watched;
    }
    cmb_cond_broadcast(&watches->ready);
}

void cmb_watched_moved(cmb_store *store, const cmb_refobj *ref)
{
    cmb_watches *watches = &store->watches;
    cmb_watched *of = ref->watched;
    cmb_mutex_lock(&watches->lock);
    if (of->now.exists != ref->exists || !cmb_state_equal(&of->now.state, &ref->state)) {
        of->now = (cmb_point){.state = ref->state, .number = store->unit_number, .exists = ref->exists};
        if (of->open)
            add_note(store, of);
        watches->news = true;
        cmb_watched_ready(watches, of);
    }
    cmb_mutex_unlock(&watches->lock);
}

void cmb_watches_announce(cmb_store *store)
{
    cmb_watches *w = &store->watches;
    if (!w->announce)
        return;
    cmb_mutex_lock(&w->lock);
    bool call = w->news && !w->announced;
    if (call) {
        w->announced = true;
        w->news = false;
    }
    cmb_mutex_unlock(&w->lock);
    if (call)
        w->announce(w->announce_ctx);
}

static void point_to(cmb_watch *watch, cmb_note *note)
{
    note->readers++;
    watch->note = note;
}

cmb_event_kind cmb_watch_take(cmb_watch *watch, cmb_point *out_point)
{
    cmb_watched *of = watch->of;
    cmb_note *note = watch->note;
    if (watch->lossless && !watch->lost) {
        *out_point = note->point;
        note->readers--;
        point_to(watch, note->next);
        trim(watch->store, of);
        return CMB_EVENT_CHANGED;
    }
    *out_point = of->now;
    if (!watch->lossless)
        return CMB_EVENT_CHANGED;
    watch->lost = false;
    point_to(watch, of->open);
    return CMB_EVENT_LOST;
}

/* ---- opening ---- */

/* The watched object of a ref, made if need be; NULL: no memory. Both locks held. */
static cmb_watched *obtain(cmb_store *store, cmb_refobj *ref)
{
    cmb_watched *of = ref->watched;
    if (of || !(of = cmb_zalloc(&store->alloc, sizeof *of)))
        return of;
    of->ref = ref;
    of->now = (cmb_point){.state = ref->state, .number = store->unit_number, .exists = ref->exists};
    of->next = store->watches.all;
    store->watches.all = of;
    ref->watched = of;
    ref->users++;
    return of;
}

/* Takes it away if nobody watches any more. True: one use of its ref is to be given back. Both locks held. */
static bool drop(cmb_store *store, cmb_watched *of)
{
    cmb_watches *w = &store->watches;
    if (of->first)
        return false;
    assert(!of->note_count);
    cmb_watched **link = &w->all, *before = NULL;
    while (*link != of)
        link = &(*link)->next;
    *link = of->next;
    if (of->ready) {
        for (link = &w->ready_first; *link != of; link = &before->next_ready)
            before = *link;
        *link = of->next_ready;
        if (!of->next_ready)
            w->ready_last = before;
    }
    of->ref->watched = NULL;
    cmb_release(&store->alloc, of->open, sizeof *of->open);
    cmb_release(&store->alloc, of, sizeof *of);
    return true;
}

/* Puts the watch on its ref as it stands now. Both locks held. */
static int attach(cmb_watch *watch, cmb_watched *of)
{
    if (watch->lossless) {
        if (!of->open && !(of->oldest = of->open = cmb_zalloc(&watch->store->alloc, sizeof *of->open)))
            return CMB_ENOMEM;
        point_to(watch, of->open);
    }
    watch->seen = of->now;
    watch->of = of;
    watch->next = of->first;
    of->first = watch;
    return 0;
}

/* `start` (NULL is allowed) becomes a snapshot of where it begins. *out_again: the branch has edits that are not merged. */
static int enter(cmb_watch *watch, cmb_refobj *ref, cmb_snapshot *start, bool *out_again)
{
    cmb_store *store = watch->store;
    bool unuse = false;
    cmb_mutex_lock(&store->unit); /* no unit is under way that logs edits for a branch which nobody watched so far */
    cmb_mutex_lock(&store->lock);
    if (ref->state.pending) {
        cmb_mutex_unlock(&store->lock);
        cmb_mutex_unlock(&store->unit);
        *out_again = true;
        return 0;
    }
    cmb_mutex_lock(&store->watches.lock);
    cmb_watched *of = obtain(store, ref);
    int error = of ? attach(watch, of) : CMB_ENOMEM;
    if (of && error)
        unuse = drop(store, of);
    if (!error && start) {
        start->state = of->now.state;
        start->view.root = of->now.state.root;
    }
    cmb_mutex_unlock(&store->watches.lock);
    cmb_mutex_unlock(&store->lock);
    cmb_mutex_unlock(&store->unit);
    if (unuse)
        cmb_ref_unuse(store, ref);
    return error;
}

static int check(cmb_store *store, const cmb_watch_options *o)
{
    bool ranged = o->range.from.size || o->range.to.size || o->range.prefix.size;
    if (!store->writable)
        return cmb_fail(CMB_EREADONLY, "%s was opened read-only: nothing can change that could be watched", store->dev->name);
    if (!o->branch)
        return cmb_fail(CMB_EINVAL, "no branch is given to be watched");
    if (o->key.size && ranged)
        return cmb_fail(CMB_EINVAL, "a watch is on a key or on a range, not on both");
    if (o->key.size > CMB_KEY_MAX)
        return cmb_key_refuse(o->key.size);
    return 0;
}

/* One key is the range up to the next possible one. */
static int set_bounds(cmb_watch *watch, const cmb_watch_options *o)
{
    const cmb_allocator *alloc = &watch->store->alloc;
    cmb_bounds *b = &watch->bounds;
    size_t n = o->key.size;
    watch->confined = n || o->range.from.size || o->range.to.size || o->range.prefix.size;
    if (!n)
        return cmb_bounds_set(alloc, b, &o->range);
    int error = cmb_blob_reserve(alloc, &b->room, n + 1);
    if (error)
        return error;
    memcpy(b->room.data, o->key.data, n);
    b->room.data[n] = 0;
    b->lower = (cmb_bytes){b->room.data, n};
    b->upper = (cmb_bytes){b->room.data, n + 1};
    return 0;
}

static int create(cmb_store *store, const cmb_watch_options *o, cmb_event_fn fn, void *ctx, cmb_watch **out_watch)
{
    cmb_watch *watch = cmb_zalloc(&store->alloc, sizeof *watch);
    if (!watch)
        return CMB_ENOMEM;
    watch->store = store;
    watch->fn = fn;
    watch->ctx = ctx;
    watch->lossless = o->lossless;
    int error = set_bounds(watch, o);
    if (error)
        cmb_watch_release(watch);
    else
        *out_watch = watch;
    return error;
}

static int open_on(cmb_refobj *ref, cmb_watch *watch, cmb_snapshot **out_start)
{
    cmb_snapshot *start = NULL;
    int error = out_start ? cmb_snapshot_of(watch->store, &watch->seen.state, &start) : 0;
    for (bool again = true; !error && again;) {
        cmb_state state;
        bool exists;
        again = false;
        error = cmb_ref_settled(watch->store, ref, &state, &exists);
        if (!error)
            error = enter(watch, ref, start, &again);
    }
    if (error)
        cmb_snapshot_close(start);
    else if (out_start)
        *out_start = start;
    return error;
}

int cmb_watch_open(cmb_store *store, const cmb_watch_options *options, cmb_event_fn fn, void *ctx, cmb_snapshot **out_start,
                   cmb_watch **out_watch)
{
    char full[CMB_REF_FULL_SIZE];
    cmb_refobj *ref;
    cmb_watch *watch;
    int error = check(store, options);
    if (!error)
        error = cmb_ref_full_name(CMB_HEADS, options->branch, full);
    if (!error)
        error = create(store, options, fn, ctx, &watch);
    if (error)
        return error;
    error = cmb_ref_use(store, full, strlen(full), &ref);
    if (!error) {
        error = open_on(ref, watch, out_start);
        cmb_ref_unuse(store, ref);
    }
    if (error)
        cmb_watch_release(watch);
    else
        *out_watch = watch;
    return error;
}

/* ---- closing ---- */

void cmb_watch_release(cmb_watch *watch)
{
    const cmb_allocator *alloc = &watch->store->alloc;
    assert(!watch->of);
    cmb_bounds_release(alloc, &watch->bounds);
    cmb_release(alloc, watch, sizeof *watch);
}

/* Off its ref. Both locks held; as drop. */
static bool detach(cmb_watch *watch)
{
    cmb_watched *of = watch->of;
    cmb_watch **link = &of->first;
    while (*link != watch)
        link = &(*link)->next;
    *link = watch->next;
    if (of->turn == watch)
        of->turn = watch->next;
    if (watch->lossless && !watch->lost) {
        watch->note->readers--;
        trim(watch->store, of);
    }
    watch->of = NULL;
    return drop(watch->store, of);
}

void cmb_watch_close(cmb_watch *watch)
{
    if (!watch)
        return;
    cmb_store *store = watch->store;
    cmb_watches *w = &store->watches;
    cmb_mutex_lock(&store->lock);
    cmb_mutex_lock(&w->lock);
    cmb_refobj *ref = watch->of->ref;
    bool unuse = detach(watch);
    cmb_mutex_unlock(&store->lock);
    bool own = watch->runner == cmb_watch_thread();
    watch->orphan = own;
    while (!own && watch->runner)
        cmb_cond_wait(&w->idle, &w->lock);
    cmb_mutex_unlock(&w->lock);
    if (unuse)
        cmb_ref_unuse(store, ref);
    if (!own)
        cmb_watch_release(watch);
}

void cmb_watches_destroy(cmb_store *store)
{
    cmb_watches *w = &store->watches;
    while (w->all) {
        assert(!w->all->first->runner);
        cmb_watch_close(w->all->first);
    }
    cmb_cond_destroy(&w->idle);
    cmb_cond_destroy(&w->ready);
    cmb_mutex_destroy(&w->lock);
}
