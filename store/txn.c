/* SPDX-License-Identifier: ISC */
/*
 * txn.c: a transaction's edits. They gather in a sorted buffer that reads see through. What outgrows
 * the buffer goes to a stream, a row of log segments of the transaction's own, in one of two ways:
 *
 *  - direct: edits that came in ascending order go straight through an editor into a new tree, so
 *    that a sorted load holds a few nodes only. A read of what went in, or an edit out of order,
 *    finishes the editor: what it built becomes the root under the buffer.
 *  - spilled: the buffer is written as a sorted run. Runs are merged when the transaction commits,
 *    or when there are too many of them.
 */
#include "store/land.h"

#include <assert.h>

#define DIRECT_AT ((size_t)CMB_STREAM_THRESHOLD) /* less than this the log's head takes as well */
#define FAR_AT ((size_t)1 << 20) /* values above this go to the stream at once */

/* ---- beginning and ending ---- */

static int create(cmb_store *store, const cmb_state *base, cmb_txn **out_txn)
{
    cmb_txn *txn = cmb_zalloc(&store->alloc, sizeof *txn);
    if (!txn)
        return CMB_ENOMEM;
    txn->store = store;
    txn->base = *base;
    txn->view = (cmb_view){.tree = &store->tree, .root = base->root, .runs = txn->runs};
    txn->ascending = true;
    txn->spill_at = store->txn_memory;
    txn->direct_at = DIRECT_AT < store->txn_memory ? DIRECT_AT : store->txn_memory;
    int error = cmb_buffer_create(&store->alloc, &txn->view.buffer);
    if (error) {
        cmb_release(&store->alloc, txn, sizeof *txn);
        return error;
    }
    *out_txn = txn;
    return 0;
}

static void destroy(cmb_txn *txn)
{
    cmb_store *store = txn->store;
    const cmb_allocator *alloc = &store->alloc;
    cmb_value_writer_abort(txn->value_writer);
    cmb_editor_abort(txn->editor);
    if (txn->stream)
        cmb_append_abort(txn->stream);
    for (unsigned i = 0; i < txn->finished_count; i++)
        cmb_append_abort(txn->finished[i]);
    cmb_pins_destroy(store->nodes, &txn->pins);
    cmb_buffer_destroy(txn->view.buffer);
    cmb_live_release(store, &txn->live);
    cmb_blob_release(alloc, &txn->last_key);
    cmb_blob_release(alloc, &txn->value);
    cmb_blob_release(alloc, &txn->value_key);
    cmb_blob_release(alloc, &txn->value_head);
    cmb_release(alloc, txn, sizeof *txn);
}

void cmb_txn_end(cmb_txn *txn)
{
    cmb_store *store = txn->store;
    cmb_refobj *ref = txn->ref;
    assert(!txn->cursors);
    if (ref) {
        cmb_ref_unlock(store, ref);
        cmb_ref_unuse(store, ref);
    }
    destroy(txn);
}

void cmb_txn_abort(cmb_txn *txn)
{
    if (txn)
        cmb_txn_end(txn);
}

/* The ref's writer lock is held. */
static int begin_on(cmb_store *store, cmb_refobj *ref, const char *branch, cmb_txn **out_txn)
{
    cmb_state state;
    bool exists;
    cmb_live live;
    cmb_ref_look_live(store, ref, &state, &exists, &live);
    if (!exists)
        return cmb_fail(CMB_ENOTFOUND, "there is no branch '%s'", branch);
    int error = create(store, &state, out_txn);
    if (error) {
        cmb_live_release(store, &live);
        return error;
    }
    (*out_txn)->ref = ref;
    (*out_txn)->live = live;
    (*out_txn)->view.intents = live.list;
    (*out_txn)->view.intents_upto = state.pending;
    return 0;
}

int cmb_txn_settle(cmb_txn *txn)
{
    assert(!cmb_txn_has_edits(txn) && !txn->editor && !txn->cursors);
    int error = cmb_state_settle(txn->store, &txn->live, &txn->base);
    if (error)
        return error;
    txn->view.root = txn->base.root;
    txn->view.intents = NULL;
    txn->layout++;
    return 0;
}

int cmb_txn_begin(cmb_store *store, const char *branch, uint32_t flags, cmb_txn **out_txn)
{
    char full[CMB_REF_FULL_SIZE];
    cmb_refobj *ref;
    int error = cmb_store_check_writable(store);
    if (!error && flags & ~CMB_TXN_NOWAIT)
        error = cmb_fail(CMB_EINVAL, "unknown transaction flags 0x%x", flags);
    if (!error)
        error = cmb_ref_full_name(CMB_HEADS, branch, full);
    if (!error)
        error = cmb_ref_use(store, full, strlen(full), &ref);
    if (error)
        return error;
    error = cmb_ref_lock(store, ref, flags & CMB_TXN_NOWAIT);
    if (!error) {
        error = begin_on(store, ref, branch, out_txn);
        if (!error)
            return 0;
        cmb_ref_unlock(store, ref);
    }
    cmb_ref_unuse(store, ref);
    return error;
}

int cmb_txn_begin_detached(cmb_snapshot *snapshot, cmb_txn **out_txn)
{
    int error = cmb_store_check_writable(snapshot->store);
    if (!error)
        error = cmb_snapshot_settle(snapshot);
    if (!error && snapshot->in_memory)
        error = cmb_fail(CMB_ENOSPC, "the snapshot's edits were logged and there is no room to merge them");
    return error ? error : create(snapshot->store, &snapshot->state, out_txn);
}

/* ---- the stream ---- */

int cmb_txn_need_stream(cmb_txn *txn)
{
    if (txn->stream)
        return 0;
    return cmb_store_note(txn->store, cmb_log_stream(txn->store->log, &txn->stream));
}

/* After a failed attempt: a stream that holds nothing of use gives its space back. */
static int stream_failed(cmb_txn *txn, int error)
{
    if (txn->stream && !txn->stream_needed) {
        cmb_append_abort(txn->stream);
        txn->stream = NULL;
    }
    return cmb_store_note(txn->store, error);
}

/* The buffer's edits are in the stream now. */
static void buffer_moved(cmb_txn *txn)
{
    cmb_txn_cursors_keep(txn);
    cmb_buffer_clear(txn->view.buffer);
    txn->stream_needed = true;
    txn->ascending = true;
    txn->last_key_size = 0;
    txn->edit_count = txn->edit_bytes = 0;
    txn->spill_error = 0;
    txn->layout++;
}

bool cmb_txn_has_edits(const cmb_txn *txn)
{
    return txn->edit_count || txn->view.run_count;
}

int cmb_txn_collapse(cmb_txn *txn)
{
    cmb_source *edits;
    cmb_noderef root;
    int error = cmb_txn_need_stream(txn);
    if (!error)
        error = cmb_view_edits(&txn->view, &edits);
    if (!error) {
        error = cmb_tree_apply(txn->view.tree, &txn->view.root, edits, txn->stream, &root, NULL);
        edits->ops->close(edits);
    }
    if (error)
        return stream_failed(txn, error);
    buffer_moved(txn);
    txn->view.root = root;
    txn->view.run_count = 0;
    txn->view.intents = NULL;
    return 0;
}

/* The intents below the edits go into a tree of the transaction's own: edits that go straight into a tree lie above them. */
static int absorb_intents(cmb_txn *txn)
{
    cmb_source *edits;
    cmb_noderef root;
    if (!txn->view.intents)
        return 0;
    int error = cmb_source_intents(txn->view.intents, 0, txn->view.intents_upto, &edits);
    if (error)
        return error;
    error = cmb_tree_apply(txn->view.tree, &txn->view.root, edits, txn->stream, &root, NULL);
    edits->ops->close(edits);
    if (error)
        return error;
    txn->stream_needed = true;
    txn->view.root = root;
    txn->view.intents = NULL;
    txn->layout++;
    return 0;
}

static int write_run(cmb_txn *txn)
{
    cmb_source *edits;
    int error = cmb_txn_need_stream(txn);
    if (!error)
        error = cmb_source_buffer(txn->view.buffer, &edits);
    if (!error) {
        error = cmb_run_write(txn->view.tree, txn->stream, edits, &txn->runs[txn->view.run_count]);
        edits->ops->close(edits);
    }
    if (error)
        return stream_failed(txn, error);
    buffer_moved(txn);
    txn->view.run_count++;
    return 0;
}

static int spill(cmb_txn *txn)
{
    return txn->view.run_count == CMB_TXN_RUNS ? cmb_txn_collapse(txn) : write_run(txn);
}

/* ---- the direct phase ---- */

static int push_buffer(cmb_txn *txn, cmb_editor *editor)
{
    cmb_source *edits;
    int error = cmb_source_buffer(txn->view.buffer, &edits);
    if (error)
        return error;
    for (error = edits->ops->first(edits); !error; error = edits->ops->next(edits)) {
        cmb_edit edit;
        error = edits->ops->current(edits, &edit);
        if (!error)
            error = cmb_editor_push(editor, &edit);
        if (error)
            break;
    }
    edits->ops->close(edits);
    return error == CMB_ENOTFOUND ? 0 : error;
}

static int enter_direct(cmb_txn *txn)
{
    cmb_editor *editor;
    size_t last_key_size = txn->last_key_size;
    int error = cmb_txn_need_stream(txn);
    if (!error)
        error = absorb_intents(txn);
    if (!error)
        error = cmb_editor_open(txn->view.tree, &txn->view.root, txn->stream, &editor);
    if (!error && (error = push_buffer(txn, editor)))
        cmb_editor_abort(editor);
    if (error)
        return stream_failed(txn, error);
    buffer_moved(txn);
    txn->editor = editor;
    txn->last_key_size = last_key_size;
    return 0;
}

/* What was pushed and not finished is gone. */
static int lose(cmb_txn *txn, int error)
{
    txn->broken = cmb_store_note(txn->store, error);
    return error;
}

int cmb_txn_close_direct(cmb_txn *txn)
{
    cmb_noderef root;
    if (CMB_LIKELY(!txn->editor))
        return txn->broken;
    int error = cmb_editor_finish(txn->editor, &root);
    txn->editor = NULL;
    if (error)
        return lose(txn, error);
    txn->view.root = root;
    txn->layout++;
    txn->last_key_size = 0;
    /* Every interruption rewrites the path to the last leaf: the next phase has to be worth more. */
    txn->direct_at = txn->direct_at < SIZE_MAX / 4 ? 2 * txn->direct_at : SIZE_MAX;
    return 0;
}

static bool is_above_last(const cmb_txn *txn, cmb_bytes key)
{
    return cmb_compare(key.data, key.size, txn->last_key.data, txn->last_key_size) > 0;
}

static int push_direct(cmb_txn *txn, const cmb_edit *edit)
{
    /* Room for the key first: afterwards nothing fails but the editor. */
    int error = cmb_blob_set(&txn->store->alloc, &txn->last_key, edit->key.data, edit->key.size);
    if (error)
        return lose(txn, error);
    txn->last_key_size = edit->key.size;
    error = cmb_editor_push(txn->editor, edit);
    if (!error)
        return 0;
    cmb_editor_abort(txn->editor);
    txn->editor = NULL;
    return lose(txn, error);
}

/* ---- edits ---- */

/* Is this edit above all in the buffer, as all before it were? Without memory the answer is no. */
static void follow_order(cmb_txn *txn, cmb_bytes key)
{
    if (!txn->ascending)
        return;
    txn->ascending = is_above_last(txn, key) && !cmb_blob_set(&txn->store->alloc, &txn->last_key, key.data, key.size);
    txn->last_key_size = key.size;
}

/* The buffer is full. That there is no room for it elsewhere is said when it is twice as full. */
static void relieve(cmb_txn *txn, size_t memory)
{
    bool direct = txn->ascending && !txn->cursors && !txn->view.run_count && memory >= txn->direct_at;
    if (direct)
        txn->spill_error = enter_direct(txn);
    else if (memory >= txn->spill_at)
        txn->spill_error = spill(txn);
    if (txn->spill_error) {
        txn->spill_at = memory + memory / 4;
        txn->direct_at = txn->spill_at;
    }
}

static int add(cmb_txn *txn, const cmb_edit *edit)
{
    cmb_buffer *buffer = txn->view.buffer;
    if (txn->editor) {
        if (CMB_LIKELY(is_above_last(txn, edit->key)))
            return push_direct(txn, edit);
        int error = cmb_txn_close_direct(txn);
        if (error)
            return error;
    }
    if (CMB_UNLIKELY(txn->spill_error && cmb_buffer_memory(buffer) / 2 >= txn->store->txn_memory))
        return cmb_fail_in(txn->spill_error, "%zu bytes of edits and no room to spill them", cmb_buffer_memory(buffer));
    if (CMB_UNLIKELY(txn->cursors != NULL))
        cmb_txn_cursors_keep(txn);
    int error = cmb_buffer_add(buffer, edit);
    if (CMB_UNLIKELY(error))
        return error;
    follow_order(txn, edit->key);
    txn->edit_count++;
    txn->edit_bytes += edit->key.size + edit->value.size;
    size_t memory = cmb_buffer_memory(buffer);
    if (CMB_UNLIKELY(memory >= txn->direct_at || memory >= txn->spill_at))
        relieve(txn, memory);
    return 0;
}

static int check_key(const cmb_txn *txn, cmb_bytes key)
{
    if (CMB_UNLIKELY(cmb_key_is_bad(key.size)))
        return cmb_key_refuse(key.size);
    return CMB_UNLIKELY(txn->broken) ? cmb_fail(txn->broken, "the transaction lost edits when it ran out of room") : 0;
}

int cmb_txn_edit(cmb_txn *txn, const cmb_edit *edit)
{
    int error = check_key(txn, edit->key);
    return error ? error : add(txn, edit);
}

int cmb_txn_put(cmb_txn *txn, cmb_bytes key, cmb_bytes value)
{
    cmb_edit edit = {.kind = CMB_EDIT_PUT, .key = key, .value = value};
    int error = check_key(txn, key);
    if (CMB_UNLIKELY(error))
        return error;
    if (CMB_UNLIKELY(value.size > CMB_VALUE_MAX))
        return cmb_fail(CMB_ETOOBIG, "a value of %zu bytes: at most %u", value.size, CMB_VALUE_MAX);
    if (CMB_UNLIKELY(value.size > FAR_AT)) {
        edit = (cmb_edit){.kind = CMB_EDIT_PUT_FAR, .key = key};
        error = cmb_txn_need_stream(txn);
        if (!error)
            error = cmb_value_write(txn->view.tree, txn->stream, value.data, (uint32_t)value.size, &edit.valref);
        if (error)
            return stream_failed(txn, error);
        txn->stream_needed = true;
    }
    return add(txn, &edit);
}

/* ---- reading ---- */

static int find(cmb_txn *txn, cmb_bytes key, cmb_found *out_found)
{
    cmb_pin *pin = cmb_pins_next(&txn->pins);
    /* Above all that went straight into the editor, the tree under it still answers. */
    if (txn->editor && !is_above_last(txn, key)) {
        int error = cmb_txn_close_direct(txn);
        if (error)
            return error;
    }
    return cmb_view_get(&txn->view, key.data, key.size, pin, out_found);
}

int cmb_txn_del(cmb_txn *txn, cmb_bytes key)
{
    cmb_edit edit = {.kind = CMB_EDIT_DELETE, .key = key};
    cmb_found found;
    int error = check_key(txn, key);
    if (!error)
        error = find(txn, key, &found);
    return error ? error : add(txn, &edit);
}

int cmb_txn_get(cmb_txn *txn, cmb_bytes key, cmb_bytes *out_value)
{
    cmb_found found;
    int error = check_key(txn, key);
    if (!error)
        error = find(txn, key, &found);
    if (error)
        return error;
    if (found.out_of_line)
        return cmb_value_gather(txn->store, &found.valref, &txn->value, out_value);
    *out_value = found.value;
    return 0;
}

int cmb_txn_value_open(cmb_txn *txn, cmb_bytes key, cmb_value_stream **out_stream)
{
    cmb_found found;
    int error = check_key(txn, key);
    if (!error)
        error = find(txn, key, &found);
    return error ? error : cmb_value_stream_open(txn->store, &found, out_stream);
}

/* ---- values written piece by piece ---- */

int cmb_txn_value_begin(cmb_txn *txn, cmb_bytes key)
{
    int error = check_key(txn, key);
    if (!error && txn->writing_value)
        error = cmb_fail(CMB_EBUSY, "another value is being written in this transaction");
    if (!error)
        error = cmb_blob_set(&txn->store->alloc, &txn->value_key, key.data, key.size);
    if (error)
        return error;
    txn->value_key_size = key.size;
    txn->value_head_size = 0;
    txn->writing_value = true;
    return 0;
}

static int need_value(const cmb_txn *txn)
{
    return txn->writing_value ? 0 : cmb_fail(CMB_EINVAL, "no value is being written");
}

/* It outgrew what is held in memory: from here on it goes to the stream. */
static int start_value_writer(cmb_txn *txn)
{
    cmb_value_writer *writer;
    int error = cmb_txn_need_stream(txn);
    if (!error)
        error = cmb_value_writer_open(txn->view.tree, txn->stream, &writer);
    if (error)
        return error;
    txn->stream_needed = true;
    error = cmb_value_writer_add(writer, txn->value_head.data, txn->value_head_size);
    if (error) {
        cmb_value_writer_abort(writer);
        return cmb_store_note(txn->store, error);
    }
    txn->value_writer = writer;
    return 0;
}

static int add_to_head(cmb_txn *txn, const void *data, size_t size)
{
    size_t used = txn->value_head_size;
    if (used + size > txn->value_head.capacity) {
        cmb_blob grown = {.capacity = 0};
        size_t wanted = 2 * (used + size) < FAR_AT ? 2 * (used + size) : FAR_AT;
        int error = cmb_blob_reserve(&txn->store->alloc, &grown, wanted);
        if (error)
            return error;
        if (used)
            memcpy(grown.data, txn->value_head.data, used);
        cmb_blob_release(&txn->store->alloc, &txn->value_head);
        txn->value_head = grown;
    }
    memcpy(txn->value_head.data + used, data, size);
    txn->value_head_size += size;
    return 0;
}

int cmb_txn_value_add(cmb_txn *txn, const void *data, size_t size)
{
    int error = need_value(txn);
    if (error || !size)
        return error;
    if (!txn->value_writer && size <= FAR_AT - txn->value_head_size)
        return add_to_head(txn, data, size);
    if (!txn->value_writer)
        error = start_value_writer(txn);
    return error ? error : cmb_store_note(txn->store, cmb_value_writer_add(txn->value_writer, data, size));
}

int cmb_txn_value_finish(cmb_txn *txn)
{
    cmb_bytes key = {txn->value_key.data, txn->value_key_size};
    int error = need_value(txn);
    if (error)
        return error;
    txn->writing_value = false;
    if (!txn->value_writer)
        return cmb_txn_put(txn, key, (cmb_bytes){txn->value_head.data, txn->value_head_size});
    cmb_edit edit = {.kind = CMB_EDIT_PUT_FAR, .key = key};
    error = cmb_value_writer_finish(txn->value_writer, &edit.valref);
    txn->value_writer = NULL;
    if (!error)
        error = check_key(txn, key);
    return error ? cmb_store_note(txn->store, error) : add(txn, &edit);
}

void cmb_txn_value_abort(cmb_txn *txn)
{
    cmb_value_writer_abort(txn->value_writer);
    txn->value_writer = NULL;
    txn->writing_value = false;
}
