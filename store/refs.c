/* SPDX-License-Identifier: ISC */
/*
 * refs.c: refs in memory. A cache over the ref table: opening a snapshot of a branch that was used
 * before is a hash lookup. An object carries the writer lock of its ref as well, also of one that
 * does not exist yet.
 */
#include "store/intents.h"

#include <assert.h>

#define BUCKETS 1024u
#define CACHE_MIN 4096u /* objects that nobody uses are dropped only above this */

struct cmb_waiter {
    cmb_waiter *next;
    const void *token;
    bool granted;
    cmb_cond cond;
};

/* Its address tells threads apart. */
static _Thread_local char thread_token;

int cmb_refs_init(cmb_store *store)
{
    store->ref_buckets = cmb_zalloc(&store->alloc, BUCKETS * sizeof *store->ref_buckets);
    if (!store->ref_buckets)
        return CMB_ENOMEM;
    store->ref_bucket_count = BUCKETS;
    store->ref_limit = CACHE_MIN;
    return 0;
}

static void release_ref(cmb_store *store, cmb_refobj *ref)
{
    assert(!ref->users && !ref->writer);
    cmb_intents_release(ref->intents);
    cmb_release(&store->alloc, ref, sizeof *ref + ref->name_size + 1);
}

void cmb_refs_destroy(cmb_store *store)
{
    for (size_t i = 0; i < store->ref_bucket_count; i++)
        for (cmb_refobj *r = store->ref_buckets[i], *next; r; r = next) {
            next = r->next;
            release_ref(store, r);
        }
    cmb_release(&store->alloc, store->ref_buckets, store->ref_bucket_count * sizeof *store->ref_buckets);
}

static cmb_refobj *find(cmb_store *store, uint64_t hash, const char *name, size_t size)
{
    cmb_refobj *r = store->ref_buckets[hash & (store->ref_bucket_count - 1)];
    while (r && (r->hash != hash || r->name_size != size || memcmp(r->name, name, size)))
        r = r->next;
    return r;
}

/* Drops every object that nobody uses: what they say is in the table. */
static void sweep(cmb_store *store)
{
    for (size_t i = 0; i < store->ref_bucket_count; i++)
        for (cmb_refobj **link = &store->ref_buckets[i], *r; (r = *link);) {
            if (r->users || r->intents) {
                link = &r->next;
                continue;
            }
            *link = r->next;
            store->ref_count--;
            release_ref(store, r);
        }
    store->ref_limit = store->ref_count > CACHE_MIN / 2 ? 2 * store->ref_count : CACHE_MIN;
}

static cmb_refobj *insert(cmb_store *store, uint64_t hash, const char *name, size_t size)
{
    if (store->ref_count >= store->ref_limit)
        sweep(store);
    cmb_refobj *r = cmb_zalloc(&store->alloc, sizeof *r + size + 1);
    if (!r)
        return NULL;
    cmb_refobj **bucket = &store->ref_buckets[hash & (store->ref_bucket_count - 1)];
    r->hash = hash;
    r->name_size = (uint32_t)size;
    memcpy(r->name, name, size);
    r->next = *bucket;
    *bucket = r;
    store->ref_count++;
    return r;
}

/* What the table says. *out_version: as of when. */
static int read_table(cmb_store *store, const char *name, size_t size, cmb_state *out_state, bool *out_exists,
                      uint64_t *out_version)
{
    uint8_t value[CMB_TABLE_VALUE_MAX];
    size_t value_size;
    cmb_mutex_lock(&store->lock);
    *out_version = store->ref_version;
    cmb_mutex_unlock(&store->lock);
    int error = cmb_table_get(store, CMB_TABLE_REFS, (cmb_bytes){name, size}, value, &value_size);
    *out_exists = !error;
    if (error == CMB_ENOTFOUND) {
        cmb_state_empty(store, out_state);
        return 0;
    }
    return error ? error : cmb_state_unpack(store, name, value, value_size, out_state);
}

/*
 * The object of a ref, read from the table if need be; NULL with *out_error 0 if `create` is false
 * and there is no such ref. Called and returns with store->lock held, which it gives up for reading.
 */
static cmb_refobj *obtain(cmb_store *store, const char *name, size_t size, bool create, int *out_error)
{
    uint64_t hash = cmb_hash64(name, size, 0), version;
    cmb_refobj *ref = find(store, hash, name, size);
    *out_error = 0;
    while (!ref) {
        cmb_state state;
        bool exists;
        cmb_mutex_unlock(&store->lock);
        *out_error = read_table(store, name, size, &state, &exists, &version);
        cmb_mutex_lock(&store->lock);
        if (*out_error)
            return NULL;
        if ((ref = find(store, hash, name, size)))
            break;
        if (version != store->ref_version)
            continue; /* some ref moved: it may be this one */
        if (!exists && !create)
            return NULL;
        if (!(ref = insert(store, hash, name, size))) {
            *out_error = CMB_ENOMEM;
            return NULL;
        }
        ref->state = state;
        ref->exists = exists;
    }
    return ref;
}

int cmb_ref_live(cmb_store *store, const char *name, size_t size, cmb_state *out_state, cmb_live *out_live)
{
    int error;
    cmb_mutex_lock(&store->lock);
    cmb_refobj *ref = obtain(store, name, size, false, &error);
    if (!error && (!ref || !ref->exists))
        error = CMB_ENOTFOUND;
    if (!error) {
        *out_state = ref->state;
        *out_live = (cmb_live){0};
        if (CMB_UNLIKELY(ref->state.pending != 0)) {
            ref->users++;
            *out_live = (cmb_live){ref, cmb_intents_hold(ref->intents)};
        }
    }
    cmb_mutex_unlock(&store->lock);
    return error;
}

/* to_read: a listing is looked at, and goes on where there is no room. */
static int settle_named(cmb_store *store, const char *name, size_t size, bool to_read, cmb_state *out_state)
{
    cmb_state state;
    cmb_live live;
    bool in_memory;
    int error = cmb_ref_live(store, name, size, &state, &live);
    if (error)
        return error;
    error = to_read ? cmb_state_settle_to_read(store, &live, &state, &in_memory) : cmb_state_settle(store, &live, &state);
    cmb_live_release(store, &live);
    if (!error)
        *out_state = state;
    return error;
}

int cmb_ref_state(cmb_store *store, const char *name, size_t size, cmb_state *out_state)
{
    return settle_named(store, name, size, /* to_read= */ false, out_state);
}

int cmb_ref_use(cmb_store *store, const char *name, size_t size, cmb_refobj **out_ref)
{
    int error;
    cmb_mutex_lock(&store->lock);
    cmb_refobj *ref = obtain(store, name, size, true, &error);
    if (!error) {
        ref->users++;
        *out_ref = ref;
    }
    cmb_mutex_unlock(&store->lock);
    return error;
}

void cmb_ref_reuse(cmb_store *store, cmb_refobj *ref)
{
    cmb_mutex_lock(&store->lock);
    ref->users++;
    cmb_mutex_unlock(&store->lock);
}

void cmb_ref_unuse(cmb_store *store, cmb_refobj *ref)
{
    cmb_mutex_lock(&store->lock);
    assert(ref->users);
    ref->users--;
    cmb_mutex_unlock(&store->lock);
}

void cmb_ref_look(cmb_store *store, const cmb_refobj *ref, cmb_state *out_state, bool *out_exists)
{
    cmb_mutex_lock(&store->lock);
    *out_state = ref->state;
    *out_exists = ref->exists;
    cmb_mutex_unlock(&store->lock);
}

/* Queues up and waits; store->lock held. The lock is handed over in order, so nobody starves. */
static int wait_turn(cmb_store *store, cmb_refobj *ref)
{
    cmb_waiter self = {.token = &thread_token};
    int error = cmb_cond_init(&self.cond);
    if (error)
        return error;
    *(ref->last ? &ref->last->next : &ref->first) = &self;
    ref->last = &self;
    while (!self.granted)
        cmb_cond_wait(&self.cond, &store->lock);
    cmb_cond_destroy(&self.cond);
    return 0;
}

int cmb_ref_lock(cmb_store *store, cmb_refobj *ref, bool nowait)
{
    int error = 0;
    cmb_mutex_lock(&store->lock);
    if (!ref->writer)
        ref->writer = &thread_token;
    else if (ref->writer == &thread_token)
        error = cmb_fail(CMB_EBUSY, "%s: this thread has a writing transaction on it already", ref->name);
    else if (nowait)
        error = cmb_fail(CMB_EBUSY, "%s: another thread has a writing transaction on it", ref->name);
    else
        error = wait_turn(store, ref);
    cmb_mutex_unlock(&store->lock);
    return error;
}

void cmb_ref_unlock(cmb_store *store, cmb_refobj *ref)
{
    cmb_mutex_lock(&store->lock);
    cmb_waiter *w = ref->first;
    assert(ref->writer);
    ref->writer = w ? w->token : NULL;
    if (w) {
        ref->first = w->next;
        if (!ref->first)
            ref->last = NULL;
        w->granted = true;
        cmb_cond_signal(&w->cond); /* under the lock: afterwards the waiter is gone */
    }
    cmb_mutex_unlock(&store->lock);
}

/* A ref in memory may have intents above its root. */
static int settle_one(cmb_store *store, const char *name, size_t size, cmb_state *inout_state)
{
    cmb_mutex_lock(&store->lock);
    const cmb_refobj *ref = find(store, cmb_hash64(name, size, 0), name, size);
    bool wanted = ref && ref->exists && ref->state.pending;
    cmb_mutex_unlock(&store->lock);
    return wanted ? settle_named(store, name, size, /* to_read= */ true, inout_state) : 0;
}

static int each(cmb_store *store, cmb_view_cursor *cursor, cmb_bytes prefix, bool settled, cmb_ref_each_fn fn, void *ctx)
{
    char name[CMB_REF_FULL_SIZE];
    int error = cmb_view_cursor_seek_ge(cursor, prefix.data, prefix.size);
    for (; !error; error = cmb_view_cursor_next(cursor)) {
        cmb_bytes key = cmb_view_cursor_key(cursor);
        cmb_found found;
        cmb_state state;
        if (key.size < prefix.size || memcmp(key.data, prefix.data, prefix.size))
            return 0;
        if (key.size >= sizeof name || memchr(key.data, 0, key.size))
            return cmb_fail(CMB_ECORRUPT, "ref table: a name of %zu bytes that cannot be one", key.size);
        memcpy(name, key.data, key.size);
        name[key.size] = 0;
        error = cmb_view_cursor_value(cursor, &found);
        if (!error && found.out_of_line)
            error = cmb_fail(CMB_ECORRUPT, "ref table: %s has a value that is too long", name);
        if (!error)
            error = cmb_state_unpack(store, name, found.value.data, found.value.size, &state);
        if (!error && settled)
            error = settle_one(store, name, key.size, &state);
        if (!error)
            error = fn(ctx, name, &state);
        if (error)
            return error;
    }
    return error == CMB_ENOTFOUND ? 0 : error;
}

static int refs_each(cmb_store *store, const char *prefix, bool settled, cmb_ref_each_fn fn, void *ctx)
{
    cmb_table_view view;
    int error = cmb_table_view_open(store, CMB_TABLE_REFS, &view);
    if (error)
        return error;
    error = each(store, view.cursor, (cmb_bytes){prefix, strlen(prefix)}, settled, fn, ctx);
    cmb_table_view_close(store, &view);
    return error;
}

int cmb_refs_each(cmb_store *store, const char *prefix, cmb_ref_each_fn fn, void *ctx)
{
    return refs_each(store, prefix, true, fn, ctx);
}

int cmb_refs_each_written(cmb_store *store, const char *prefix, cmb_ref_each_fn fn, void *ctx)
{
    return refs_each(store, prefix, false, fn, ctx);
}
