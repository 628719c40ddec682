/* SPDX-License-Identifier: ISC */
/*
 * unit.c: units and checkpoints. A unit is one atomic change of refs and commit index: records in
 * the log's head that end in an EDITS record. store->unit is held from cmb_log_begin until the
 * memory shows what was published, so that units appear in memory in the order of the log.
 *
 * A unit that changes more than an EDITS record holds ends in a checkpoint instead, whose tables
 * have its edits folded in. It is as atomic: recovery goes over to a checkpoint's tables when it
 * accepts its batch.
 */
#include "store/intents.h"

#include <assert.h>

#define SYNC_ATTEMPTS 3u

/* ---- folding ---- */

typedef struct fold {
    const cmb_pending *edits;     /* of the unit that the checkpoint ends, to be folded in as well; may be NULL */
    const cmb_index_batch *index; /* likewise */
    cmb_noderef roots[CMB_TABLES];
    bool carried;          /* the ROOT record holds the pending edits: the tables stay as they are */
    cmb_intents_runs runs; /* of intents */
    uint64_t upto; /* number of the newest unit in them */
    uint64_t addr; /* of the ROOT record */
    uint32_t length;
} fold;

static int apply_buffer(cmb_store *store, cmb_appender *app, cmb_buffer *buffer, cmb_noderef *root)
{
    cmb_source *source;
    if (!cmb_buffer_count(buffer))
        return 0;
    int error = cmb_source_buffer(buffer, &source);
    if (error)
        return error;
    error = cmb_tree_apply(&store->table_tree, root, source, app, root, NULL);
    source->ops->close(source);
    return error;
}

int cmb_index_batch_apply(cmb_store *store, cmb_appender *app, cmb_buffer *ids, cmb_index_batch *out_batch)
{
    cmb_index_batch batch = {.ids = ids};
    cmb_table_root(store, CMB_TABLE_COMMITS, &batch.over);
    batch.root = batch.over;
    int error = cmb_stream_rise(app);
    if (!error)
        error = apply_buffer(store, app, ids, &batch.root);
    if (!error)
        *out_batch = batch;
    return error;
}

/* The commit index with a batch in it, which was applied to it before if it is still the same tree. */
static int take_batch(cmb_store *store, cmb_appender *app, const cmb_index_batch *batch, cmb_noderef *root)
{
    if (root->addr != batch->over.addr || !cmb_name_equal(&root->name, &batch->over.name))
        return apply_buffer(store, app, batch->ids, root);
    *root = batch->root;
    return 0;
}

static int add_edits(cmb_buffer *buffer, const cmb_pending *list, cmb_table_id id)
{
    int error = 0;
    for (const cmb_pending *p = list; !error && p; p = p->next)
        if (p->table == id)
            error = cmb_pending_add(buffer, p);
    return error;
}

static int fold_table(cmb_store *store, cmb_appender *app, cmb_table_id id, const fold *f, cmb_noderef *out_root)
{
    cmb_buffer *buffer;
    cmb_noderef root;
    int error = cmb_table_collect(store, id, &buffer, &root);
    if (error)
        return error;
    error = add_edits(buffer, f->edits, id);
    if (!error && f->index && id == CMB_TABLE_COMMITS)
        error = take_batch(store, app, f->index, &root);
    if (!error)
        error = apply_buffer(store, app, buffer, &root);
    if (!error && id == CMB_TABLE_REFLOG)
        error = cmb_reflog_trim(store, app, buffer, &root);
    cmb_buffer_destroy(buffer);
    if (!error)
        *out_root = root;
    return error;
}

/* Appends the tables with all edits folded in. store->unit held. */
static int fold_tables(cmb_store *store, cmb_appender *app, fold *out)
{
    int error = 0;
    for (unsigned i = 0; !error && i < CMB_TABLES; i++)
        error = fold_table(store, app, (cmb_table_id)i, out, &out->roots[i]);
    return error;
}

/* The same in a stream, which it takes over; *out_app, begun here, adopts it. */
static int fold_in_stream(cmb_store *store, cmb_appender *stream, fold *out, cmb_appender **out_app)
{
    cmb_appender *app;
    int error = fold_tables(store, stream, out);
    if (!error)
        error = cmb_stream_finish(stream);
    if (!error)
        error = cmb_log_begin_urgent(store->log, &app, NULL);
    if (!error) {
        error = cmb_append_adopt(app, stream);
        if (!error) {
            *out_app = app;
            return 0;
        }
        cmb_append_abort(app);
    }
    cmb_append_abort(stream);
    return error;
}

/*
 * For what needs more segments than the head has announced: the more history there is, the more
 * leaves of the commit index a fold changes. *app is replaced; NULL on failure.
 */
static int fold_aside(cmb_store *store, cmb_appender **app, fold *out)
{
    cmb_appender *stream;
    cmb_append_abort(*app);
    *app = NULL;
    int error = cmb_log_stream(store->log, &stream);
    return error ? error : fold_in_stream(store, stream, out, app);
}

/* The runs and the ROOT record. */
static int end_fold(cmb_store *store, cmb_appender *app, fold *out, const cmb_bytes *carried)
{
    int error = cmb_runs_collect(store, app, &out->runs);
    return error ? error : cmb_root_append(store, app, out->upto, out->roots, carried, &out->runs, &out->addr, &out->length);
}

/* A checkpoint that leaves the tables as they are, where little is pending: all that it writes can be forgotten after the next ones. */
static int carry_all(cmb_store *store, cmb_appender *app, fold *out)
{
    uint8_t *payload;
    uint32_t size;
    int error = cmb_root_carry(store, &payload, &size);
    if (error || !size)
        return error;
    for (unsigned i = 0; i < CMB_TABLES; i++)
        cmb_table_root(store, (cmb_table_id)i, &out->roots[i]);
    out->carried = true;
    error = end_fold(store, app, out, &(cmb_bytes){payload, size});
    cmb_release(&store->alloc, payload, size);
    return error;
}

/* Tables and their ROOT record. */
static int fold_all(cmb_store *store, cmb_appender **app, fold *out)
{
    int error = carry_all(store, *app, out);
    if (error || out->carried)
        return error;
    error = fold_tables(store, *app, out);
    if (error == CMB_ENOSPC)
        error = fold_aside(store, app, out);
    return error ? error : end_fold(store, *app, out, NULL);
}

/* store->lock held. */
static void show_fold(cmb_store *store, fold *f, uint64_t seq)
{
    for (unsigned i = 0; i < CMB_TABLES && !f->carried; i++)
        cmb_table_folded(store, (cmb_table_id)i, &f->roots[i], f->upto);
    cmb_runs_adopt(store, &f->runs);
    if (store->last_seq < seq)
        store->last_seq = seq;
}

/* Makes the checkpoint of a fold whose ROOT record ends `app`, which is gone afterwards. */
static int end_in_checkpoint(cmb_store *store, cmb_appender *app, const fold *f, uint64_t *out_seq)
{
    const size_t n = f->runs.n;
    uint64_t *pins = cmb_alloc(&store->alloc, (n + 1) * sizeof *pins);
    int error = pins ? 0 : CMB_ENOMEM;
    for (size_t i = 0; pins && i < n; i++)
        pins[i] = f->runs.items[i].addr;
    if (!error)
        error = cmb_log_checkpoint(app, f->addr, f->length, pins, n, out_seq);
    cmb_release(&store->alloc, pins, (n + 1) * sizeof *pins);
    if (error && error != CMB_EUNKNOWN)
        cmb_append_abort(app);
    return error;
}

/*
 * Ends `app` by a checkpoint. store->unit is held on entry; with `others` it is given up before
 * anything is waited for, so that others commit meanwhile.
 */
static int checkpoint(cmb_store *store, cmb_appender *app, bool others)
{
    fold f = {.upto = store->unit_number};
    uint64_t seq = 0;
    int error = fold_all(store, &app, &f);
    if (others)
        cmb_mutex_unlock(&store->unit);
    if (!error)
        error = end_in_checkpoint(store, app, &f, &seq);
    else if (app)
        cmb_append_abort(app);
    if (!error) {
        cmb_mutex_lock(&store->lock);
        show_fold(store, &f, seq);
        cmb_mutex_unlock(&store->lock);
    }
    cmb_runs_release(store, &f.runs);
    return cmb_store_note(store, error);
}

/* One at a time: who comes while another is being made has nothing to do. */
static bool checkpoint_claim(cmb_store *store)
{
    cmb_mutex_lock(&store->lock);
    bool mine = !store->checkpointing;
    store->checkpointing = true;
    cmb_mutex_unlock(&store->lock);
    return mine;
}

/* For those who have something to do all the same. */
static void checkpoint_wait(cmb_store *store)
{
    cmb_mutex_lock(&store->lock);
    while (store->checkpointing)
        cmb_cond_wait(&store->checkpointed, &store->lock);
    store->checkpointing = true;
    cmb_mutex_unlock(&store->lock);
}

static void checkpoint_unclaim(cmb_store *store)
{
    cmb_mutex_lock(&store->lock);
    store->checkpointing = false;
    cmb_cond_signal(&store->checkpointed);
    cmb_mutex_unlock(&store->lock);
}

int cmb_store_checkpoint(cmb_store *store)
{
    cmb_appender *app;
    int error = cmb_store_check_writable(store);
    if (error)
        return error;
    if (!checkpoint_claim(store))
        return 0;
    cmb_mutex_lock(&store->unit);
    error = cmb_log_begin_urgent(store->log, &app, NULL);
    if (error)
        cmb_mutex_unlock(&store->unit);
    else
        error = checkpoint(store, app, true);
    checkpoint_unclaim(store);
    return cmb_store_note(store, error);
}

/* ---- units ---- */

/* Opens the head, store->unit held; the epoch's first unit must be a checkpoint, so one is made. */
static int begin_head(cmb_store *store, cmb_appender **out_app)
{
    for (;;) {
        bool epoch_start = false;
        int error = cmb_log_begin(store->log, out_app, &epoch_start);
        if (error || !epoch_start)
            return error;
        error = checkpoint(store, *out_app, false);
        if (error)
            return error;
    }
}

static void start(cmb_unit *unit, cmb_store *store, cmb_appender *app)
{
    unit->store = store;
    unit->app = app;
    unit->folded = false;
    unit->edits = NULL;
    unit->moves = unit->inline_moves;
    unit->move_count = 0;
    unit->move_capacity = CMB_COUNTOF(unit->inline_moves);
    unit->intents = NULL;
}

int cmb_unit_begin(cmb_store *store, cmb_unit *unit)
{
    cmb_appender *app;
    int error = cmb_store_check_writable(store);
    if (error)
        return error;
    cmb_mutex_lock(&store->unit);
    error = begin_head(store, &app);
    if (error) {
        cmb_mutex_unlock(&store->unit);
        return cmb_store_note(store, error);
    }
    start(unit, store, app);
    return 0;
}

int cmb_unit_begin_folded(cmb_store *store, cmb_unit *unit)
{
    int error = cmb_store_check_writable(store);
    if (error)
        return error;
    checkpoint_wait(store);
    cmb_mutex_lock(&store->unit);
    start(unit, store, NULL);
    unit->folded = true;
    return 0;
}

static int grow_moves(cmb_unit *unit)
{
    size_t n = unit->move_capacity;
    bool on_heap = unit->moves != unit->inline_moves;
    struct cmb_move *grown = cmb_resize(&unit->store->alloc, on_heap ? unit->moves : NULL, n * sizeof *grown,
                                        2 * n * sizeof *grown);
    if (!grown)
        return CMB_ENOMEM;
    if (!on_heap)
        memcpy(grown, unit->inline_moves, sizeof unit->inline_moves);
    unit->moves = grown;
    unit->move_capacity = 2 * n;
    return 0;
}

static void set_move(const cmb_unit *unit, struct cmb_move *m, const cmb_state *state, cmb_reflog_reason reason)
{
    m->exists = state != NULL;
    m->reason = reason;
    m->merge = false;
    m->rest = NULL;
    if (state)
        m->state = *state;
    else
        cmb_state_empty(unit->store, &m->state);
}

int cmb_unit_move_first(cmb_unit *unit, cmb_refobj *ref, const cmb_state *state, cmb_reflog_reason reason)
{
    if (unit->move_count == unit->move_capacity) {
        int error = grow_moves(unit);
        if (error)
            return error;
    }
    struct cmb_move *m = &unit->moves[unit->move_count++];
    m->ref = ref;
    cmb_ref_reuse(unit->store, ref);
    set_move(unit, m, state, reason);
    return 0;
}

int cmb_unit_move(cmb_unit *unit, cmb_refobj *ref, const cmb_state *state, cmb_reflog_reason reason)
{
    struct cmb_move *m = unit->moves, *end = m + unit->move_count;
    while (m < end && m->ref != ref)
        m++;
    if (m == end)
        return cmb_unit_move_first(unit, ref, state, reason);
    set_move(unit, m, state, reason);
    return 0;
}

int cmb_unit_merge(cmb_unit *unit, cmb_refobj *ref, const cmb_state *state, cmb_intents *rest)
{
    int error = cmb_unit_move_first(unit, ref, state, CMB_REFLOG_SET);
    if (error)
        return error;
    unit->moves[unit->move_count - 1].merge = true;
    unit->moves[unit->move_count - 1].rest = rest;
    return 0;
}

static int add_edit(cmb_unit *unit, cmb_table_id table, cmb_bytes key, cmb_bytes value, bool removed)
{
    cmb_pending *p = cmb_pending_create(unit->store, table, key, value, removed);
    if (!p)
        return CMB_ENOMEM;
    p->next = unit->edits;
    unit->edits = p;
    return 0;
}

int cmb_unit_index(cmb_unit *unit, const cmb_commit_at *commit)
{
    uint8_t value[CMB_COMMIT_AT_PACKED];
    cmb_bytes key = {commit->id.bytes, commit->id.size};
    for (const cmb_pending *p = unit->edits; p; p = p->next)
        if (p->key_size == key.size && memcmp(p->bytes, key.data, key.size) == 0)
            return 0;
    cmb_commit_at_pack(commit, value);
    return add_edit(unit, CMB_TABLE_COMMITS, key, (cmb_bytes){value, sizeof value}, false);
}

/* Moves between commits are remembered, and that a ref came or went. */
static int log_move(cmb_unit *unit, const struct cmb_move *m)
{
    cmb_store *store = unit->store;
    const cmb_refobj *ref = m->ref; /* its state moves under store->unit only */
    uint8_t key[CMB_REFLOG_KEY_MAX], value[CMB_REFLOG_VALUE_MAX];
    if (ref->exists == m->exists && cmb_name_equal(&ref->state.commit.id, &m->state.commit.id)
        && cmb_name_equal(&ref->state.tag.id, &m->state.tag.id))
        return 0;
    cmb_reflog_entry entry = {.time = store->env.now(store->env.ctx),
                              .reason = m->reason == CMB_REFLOG_SET && !ref->exists ? CMB_REFLOG_CREATED : m->reason};
    if (ref->exists)
        entry.before = ref->state.commit.id;
    if (m->exists)
        entry.after = m->state.commit.id;
    size_t key_size = cmb_reflog_key(ref->name, ref->name_size, store->unit_number + 1, key);
    return add_edit(unit, CMB_TABLE_REFLOG, (cmb_bytes){key, key_size}, (cmb_bytes){value, cmb_reflog_pack(&entry, value)},
                    false);
}

static int add_moves(cmb_unit *unit)
{
    int error = 0;
    for (size_t i = 0; !error && i < unit->move_count; i++) {
        struct cmb_move *m = &unit->moves[i];
        uint8_t value[CMB_STATE_PACKED_MAX];
        assert(!m->state.pending);
        if (!m->merge) /* whatever was logged for it before counts no more */
            m->state.merged = unit->store->unit_number + 1;
        size_t size = m->exists ? cmb_state_pack(&m->state, value) : 0;
        error = add_edit(unit, CMB_TABLE_REFS, (cmb_bytes){m->ref->name, m->ref->name_size},
                         (cmb_bytes){value, size}, !m->exists);
        if (!error)
            error = log_move(unit, m);
    }
    return error;
}

/* store->lock held. */
static void show(cmb_unit *unit, uint64_t seq)
{
    cmb_store *store = unit->store;
    store->unit_number++;
    for (unsigned i = 0; i < CMB_TABLES; i++)
        cmb_table_reserve(store, &store->tables[i]);
    cmb_tables_apply(store, unit->edits, store->unit_number);
    unit->edits = NULL;
    for (size_t i = 0; i < unit->move_count; i++) {
        struct cmb_move *m = &unit->moves[i];
        m->ref->state = m->state;
        m->ref->exists = m->exists;
        cmb_intents_moved(store, m->ref, m->rest);
        m->rest = NULL;
        if (m->ref->watched)
            cmb_watched_moved(store, m->ref);
    }
    for (cmb_intent *in = unit->intents; in; in = in->next)
        cmb_intent_show(store, in, store->unit_number);
    store->ref_version++;
    if (store->last_seq < seq)
        store->last_seq = seq;
}

/* store->unit held; app is gone. */
static void finish(cmb_unit *unit)
{
    cmb_store *store = unit->store;
    cmb_mutex_unlock(&store->unit);
    if (unit->folded)
        checkpoint_unclaim(store);
    cmb_pending_release(store, unit->edits);
    for (size_t i = 0; i < unit->move_count; i++) {
        cmb_intents_release(unit->moves[i].rest);
        cmb_ref_unuse(store, unit->moves[i].ref);
    }
    for (cmb_intent *in = unit->intents, *next; in; in = next) {
        next = in->next;
        cmb_intent_release(store, in);
    }
    if (unit->moves != unit->inline_moves)
        cmb_release(&store->alloc, unit->moves, unit->move_capacity * sizeof *unit->moves);
}

void cmb_unit_abort(cmb_unit *unit)
{
    if (unit->app)
        cmb_append_abort(unit->app);
    finish(unit);
}

int cmb_unit_publish(cmb_unit *unit, uint64_t *out_seq)
{
    cmb_store *store = unit->store;
    uint8_t *payload = NULL;
    uint32_t size = 0;
    uint64_t seq;
    assert(!unit->folded);
    int error = add_moves(unit);
    if (!error)
        error = cmb_edits_encode(store, unit->edits, &payload, &size);
    if (error) {
        cmb_unit_abort(unit);
        return error;
    }
    error = cmb_log_publish(unit->app, payload, size, &seq);
    cmb_release(&store->alloc, payload, size);
    if (error) {
        cmb_unit_abort(unit);
    } else {
        cmb_mutex_lock(&store->lock);
        show(unit, seq);
        cmb_mutex_unlock(&store->lock);
        finish(unit);
        *out_seq = seq;
    }
    return cmb_store_note(store, error);
}

int cmb_unit_publish_folded(cmb_unit *unit, cmb_appender *stream, const cmb_index_batch *index, uint64_t *out_seq)
{
    cmb_store *store = unit->store;
    cmb_appender *app;
    uint64_t seq;
    assert(unit->folded);
    int error = add_moves(unit);
    if (!error)
        error = cmb_stream_rise(stream);
    fold f = {.edits = unit->edits, .index = index, .upto = store->unit_number + 1};
    if (error)
        cmb_append_abort(stream);
    else
        error = fold_in_stream(store, stream, &f, &app);
    if (!error) {
        error = end_fold(store, app, &f, NULL);
        if (error)
            cmb_append_abort(app);
        else
            error = end_in_checkpoint(store, app, &f, &seq);
    }
    if (!error) {
        cmb_mutex_lock(&store->lock);
        show(unit, seq);
        show_fold(store, &f, seq);
        cmb_mutex_unlock(&store->lock);
        *out_seq = seq;
    }
    cmb_runs_release(store, &f.runs);
    finish(unit);
    return cmb_store_note(store, error);
}

/*
 * Makes a published unit durable. What is published cannot be taken back, so that there is no memory
 * for writing it must not look like a commit that did not happen: it is tried again, and then its
 * outcome is unknown.
 */
int cmb_store_settle(cmb_store *store, uint64_t seq)
{
    int error = CMB_ENOMEM;
    for (unsigned i = 0; i < SYNC_ATTEMPTS && error == CMB_ENOMEM; i++)
        error = cmb_log_sync(store->log, seq);
    if (error == CMB_ENOMEM)
        error = cmb_fail_in(CMB_EUNKNOWN, "%s: a queued commit could not be written", store->dev->name);
    return cmb_store_note(store, error);
}

/* A checkpoint makes everything before it durable too, so it comes before the wait. That it fails
 * for want of space or memory says nothing about the unit; the next one tries again. */
int cmb_unit_settle(cmb_store *store, uint64_t seq, bool async)
{
    cmb_watches_announce(store);
    if (cmb_log_checkpoint_due(store->log))
        (void)cmb_store_checkpoint(store);
    cmb_intents_relieve(store);
    return async ? 0 : cmb_store_settle(store, seq);
}
