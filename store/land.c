/* SPDX-License-Identifier: ISC */
/*
 * land.c: how transactions become states of branches. The tree is built in the log's head, inside
 * the unit, if little is to be written; else in the transaction's stream, before the unit begins and
 * with no lock held. Until the unit is published everything can be taken back.
 */
#include "store/land.h"

/* One transaction on its way into a branch. */
typedef struct landing {
    cmb_txn *txn;
    cmb_refobj *ref;             /* writer lock held */
    const cmb_commit_info *info; /* may be NULL */
    const cmb_parents *parents;  /* a permanent commit above these; NULL: above what the branch stands on */
    cmb_intent *intent;          /* its edits, if they are logged before they are merged; else NULL */
    bool named;                  /* the caller wants to know the root */
    cmb_state state;             /* what the branch will stand on */
} landing;

/* Errors after which the transaction goes on. */
static bool stays_open(int error)
{
    return error == CMB_ENOSPC || error == CMB_ENOMEM || error == CMB_EINVAL;
}

static bool is_permanent(const cmb_commit_info *info)
{
    return info && ((info->author && *info->author) || (info->message && *info->message) || info->header_count);
}

/* ---- before the unit ---- */

static int check(const landing *l)
{
    if (l->txn->cursors)
        return cmb_fail(CMB_EINVAL, "cursors are open over the transaction");
    if (l->txn->writing_value)
        return cmb_fail(CMB_EINVAL, "a value is being written in the transaction");
    return cmb_commit_info_check(l->info);
}

/* Is more to be written than the head should take in one piece? `others`: transactions in the same unit. */
static bool is_large(const cmb_txn *txn, size_t others)
{
    uint64_t segment = (uint64_t)1 << cmb_log_params(txn->store->log)->segment_shift;
    uint64_t limit = segment < CMB_STREAM_THRESHOLD / 2 ? 2 * segment : CMB_STREAM_THRESHOLD;
    uint64_t bytes = txn->edit_bytes, count = txn->edit_count;
    if (txn->view.intents) {
        bytes += cmb_intents_bytes(txn->view.intents);
        count += cmb_intents_count(txn->view.intents);
    }
    return bytes + count * txn->store->tree.target > limit / (1 + others);
}

/* A finished stream waits to be made part of a unit. */
static int finish_stream(cmb_txn *txn)
{
    if (txn->finished_count == CMB_TXN_STREAMS)
        return cmb_fail(CMB_EINVAL, "the transaction failed to commit too often");
    int error = cmb_stream_finish(txn->stream);
    if (error)
        return cmb_store_note(txn->store, error);
    txn->finished[txn->finished_count++] = txn->stream;
    txn->stream = NULL;
    txn->stream_needed = false;
    return 0;
}

static int prepare(landing *l, size_t others)
{
    cmb_txn *txn = l->txn;
    int error = check(l);
    if (!error)
        error = cmb_txn_close_direct(txn);
    if (!error && cmb_txn_has_edits(txn) && (txn->stream || is_large(txn, others)))
        error = cmb_txn_collapse(txn);
    if (!error && txn->stream)
        error = finish_stream(txn);
    return error;
}

/* ---- inside the unit ---- */

/* Streams become part of the unit first: what is appended to the head afterwards lies above them. */
static int adopt(cmb_unit *unit, cmb_txn *txn)
{
    while (txn->finished_count) {
        int error = cmb_append_adopt(unit->app, txn->finished[txn->finished_count - 1]);
        if (error)
            return error;
        txn->finished_count--;
        txn->broken = CMB_ENOSPC; /* should the unit fail yet */
    }
    return 0;
}

static int build(cmb_unit *unit, cmb_txn *txn, cmb_noderef *out_root)
{
    cmb_source *edits;
    *out_root = txn->view.root;
    if (!cmb_txn_has_edits(txn) && !txn->view.intents)
        return 0;
    int error = cmb_view_edits(&txn->view, &edits);
    if (error)
        return error;
    error = cmb_tree_apply(txn->view.tree, &txn->view.root, edits, unit->app, out_root, NULL);
    edits->ops->close(edits);
    return error;
}

static void drop_working(cmb_state *state)
{
    state->root = state->commit_root;
    state->working = false;
    state->pending = 0;
}

/* From what the branch stands on now, and the new content, to what it will stand on. */
static int choose_state(cmb_unit *unit, landing *l, const cmb_noderef *root, const cmb_state *now)
{
    const cmb_commit_info *info = l->info;
    bool as_commit, as_now;
    int error = cmb_tree_identical(&unit->store->tree, root, &now->commit_root, &as_commit);
    if (!error)
        error = cmb_tree_identical(&unit->store->tree, root, &now->root, &as_now);
    if (error)
        return error;
    l->state = *now;
    if (l->parents && (!as_commit || !l->parents->if_changed))
        return cmb_unit_commit_parents(unit, l->parents->at, l->parents->n, root, info, &l->state);
    if (is_permanent(info) && (!as_commit || info->flags & CMB_COMMIT_EMPTY))
        return cmb_unit_commit(unit, now, root, info, &l->state);
    if (as_commit) {
        drop_working(&l->state);
    } else if (now->pending || !as_now) {
        l->state.root = *root;
        l->state.working = true;
        l->state.pending = 0;
    }
    return 0;
}

static int enter(cmb_unit *unit, landing *l)
{
    cmb_state now;
    bool exists;
    cmb_noderef root;
    cmb_ref_look(unit->store, l->ref, &now, &exists);
    int error = build(unit, l->txn, &root);
    if (!error)
        error = choose_state(unit, l, &root, &now);
    if (error || (cmb_state_equal(&l->state, &now) && l->state.root.addr == now.root.addr)) /* two roots may have one name */
        return error;
    return cmb_unit_move(unit, l->ref, &l->state, l->parents ? l->parents->reason : CMB_REFLOG_COMMITTED);
}

/* Is there nothing to be written, as far as can be said before edits are applied? */
static bool is_idle(const landing *l, const cmb_state *now)
{
    if (l->parents && !l->parents->if_changed)
        return false;
    if (cmb_txn_has_edits(l->txn) || !cmb_name_equal(&l->txn->view.root.name, &l->txn->base.root.name))
        return false; /* of its own base: others may merge the intents above that meanwhile */
    return !is_permanent(l->info) || (!now->working && !(l->info->flags & CMB_COMMIT_EMPTY));
}

static int enter_all(cmb_unit *unit, landing *landings, size_t n)
{
    int error = 0;
    for (size_t i = 0; !error && i < n; i++) {
        cmb_state now;
        bool exists;
        cmb_ref_look(unit->store, landings[i].ref, &now, &exists);
        if (!is_idle(&landings[i], &now))
            error = adopt(unit, landings[i].txn);
    }
    for (size_t i = 0; !error && i < n; i++)
        error = enter(unit, &landings[i]);
    return error;
}

/* Publishes all landings as one unit; *out_seq 0: nothing was to be written. */
static int land_unit(cmb_store *store, landing *landings, size_t n, uint64_t *out_seq)
{
    cmb_unit unit;
    *out_seq = 0;
    int error = cmb_unit_begin(store, &unit);
    if (error)
        return error;
    error = enter_all(&unit, landings, n);
    if (!error && unit.move_count)
        return cmb_unit_publish(&unit, out_seq);
    cmb_unit_abort(&unit);
    return cmb_store_note(store, error);
}

/* ---- edits before leaves (intents.h) ---- */

/* Is it a working commit of small edits, and nothing else? */
static bool is_intent(const landing *l)
{
    const cmb_txn *txn = l->txn;
    return !l->named && !l->parents && !is_permanent(l->info) && txn->edit_count && txn->edit_bytes <= CMB_INTENTS_UNIT &&
           !txn->stream && !txn->finished_count && !txn->view.run_count && !txn->editor && !txn->broken &&
           cmb_name_equal(&txn->view.root.name, &txn->base.root.name);
}

static void release_intents(cmb_store *store, landing *landings, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        cmb_intent_release(store, landings[i].intent);
        landings[i].intent = NULL;
    }
}

/* *out_all: each has its record ready. */
static int encode_intents(cmb_store *store, landing *landings, size_t n, bool *out_all)
{
    size_t bytes = 0;
    int error = 0;
    *out_all = true;
    for (size_t i = 0; !error && *out_all && i < n; i++) {
        error = check(&landings[i]);
        *out_all = !error && is_intent(&landings[i]);
        if (*out_all)
            error = cmb_intent_encode(store, landings[i].ref, landings[i].txn->view.buffer, &landings[i].intent);
        bytes += landings[i].intent ? landings[i].intent->bytes : 0;
        *out_all = landings[i].intent && bytes <= CMB_INTENTS_UNIT; /* together: what waits is bounded */
    }
    return error;
}

static int intend_all(cmb_unit *unit, landing *landings, size_t n, bool *out_fit)
{
    int error = 0;
    *out_fit = true;
    for (size_t i = 0; i < n && *out_fit; i++)
        *out_fit = cmb_intent_fits(unit->store, landings[i].ref, landings[i].intent);
    for (size_t i = 0; i < n && *out_fit && !error; i++) {
        error = cmb_unit_intend(unit, landings[i].ref, landings[i].intent);
        if (!error)
            landings[i].intent = NULL;
    }
    return error;
}

/* Logs all landings' edits as one unit. *out_done false: they have to be merged at once. */
static int land_intents(cmb_store *store, landing *landings, size_t n, uint64_t *out_seq, bool *out_done)
{
    cmb_unit unit;
    int error = encode_intents(store, landings, n, out_done);
    if (!error && *out_done) {
        error = cmb_unit_begin(store, &unit);
        if (!error) {
            error = intend_all(&unit, landings, n, out_done);
            if (!error && *out_done)
                error = cmb_unit_publish(&unit, out_seq);
            else
                cmb_unit_abort(&unit);
        }
    }
    release_intents(store, landings, n);
    if (error == CMB_ENOSPC) { /* in the head: a stream may find room */
        *out_done = false;
        return 0;
    }
    return cmb_store_note(store, error);
}

/* ---- landing ---- */

/* Would it be a unit that changes nothing? Then none is begun. */
static bool all_idle(landing *landings, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        cmb_state now;
        bool exists;
        cmb_ref_look(landings[i].txn->store, landings[i].ref, &now, &exists);
        if (!is_idle(&landings[i], &now))
            return false;
        landings[i].state = now;
    }
    return true;
}

/* Builds in streams what the head had no room for. *out_again: there is something new to try. */
static int move_to_streams(landing *landings, size_t n, bool *out_again)
{
    int error = 0;
    *out_again = false;
    for (size_t i = 0; i < n; i++)
        if (landings[i].txn->broken) /* its stream went with the unit */
            return 0;
    for (size_t i = 0; !error && i < n; i++) {
        cmb_txn *txn = landings[i].txn;
        if (!cmb_txn_has_edits(txn))
            continue;
        error = cmb_txn_collapse(txn);
        if (!error)
            error = finish_stream(txn);
        *out_again = !error;
    }
    return error;
}

/*
 * All of it but giving the transactions back and waiting. The head takes a unit only as far as the
 * segments go that it announced before; what needs more of them than that is no lack of space.
 */
static int land(cmb_store *store, landing *landings, size_t n, uint64_t *out_seq)
{
    bool again = false, done;
    *out_seq = 0;
    int error = land_intents(store, landings, n, out_seq, &done);
    if (error || done)
        return error;
    for (size_t i = 0; !error && i < n; i++)
        error = prepare(&landings[i], n - 1);
    if (error || all_idle(landings, n))
        return error;
    error = land_unit(store, landings, n, out_seq);
    if (error == CMB_ENOSPC) {
        int failed = move_to_streams(landings, n, &again);
        error = failed ? failed : again ? land_unit(store, landings, n, out_seq) : error;
    }
    return error;
}

static int conclude(cmb_store *store, landing *landings, size_t n, int error, uint64_t seq, cmb_rev *out_revs)
{
    bool async = n > 0;
    if (error && stays_open(error))
        return error;
    for (size_t i = 0; i < n; i++) {
        async = async && landings[i].info && landings[i].info->flags & CMB_COMMIT_ASYNC;
        cmb_txn_end(landings[i].txn);
    }
    if (!error && seq)
        error = cmb_unit_settle(store, seq, async);
    for (size_t i = 0; !error && out_revs && i < n; i++)
        cmb_state_rev(&landings[i].state, &out_revs[i]);
    return error;
}

/* ---- the public face ---- */

int cmb_txn_commit(cmb_txn *txn, const cmb_commit_info *info, cmb_rev *out_rev)
{
    cmb_store *store = txn->store;
    landing l = {.txn = txn, .ref = txn->ref, .info = info, .named = out_rev != NULL};
    uint64_t seq;
    if (!txn->ref)
        return cmb_fail(CMB_EINVAL, "a detached transaction lands on a branch, it does not commit");
    int error = land(store, &l, 1, &seq);
    return conclude(store, &l, 1, error, seq, out_rev);
}

static int check_many(cmb_txn *const *txns, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!txns[i]->ref)
            return cmb_fail(CMB_EINVAL, "a detached transaction lands on a branch, it does not commit");
        if (txns[i]->store != txns[0]->store)
            return cmb_fail(CMB_EINVAL, "transactions of different stores cannot commit together");
        for (size_t k = 0; k < i; k++)
            if (txns[k] == txns[i])
                return cmb_fail(CMB_EINVAL, "the same transaction is given twice");
    }
    return 0;
}

int cmb_txn_commit_many(cmb_txn *const *txns, size_t n, const cmb_commit_info *infos, cmb_rev *out_revs)
{
    uint64_t seq;
    int error = check_many(txns, n);
    if (error || !n)
        return error;
    cmb_store *store = txns[0]->store;
    landing *landings = cmb_zalloc(&store->alloc, n * sizeof *landings);
    if (!landings)
        return CMB_ENOMEM;
    for (size_t i = 0; i < n; i++)
        landings[i] = (landing){.txn = txns[i], .ref = txns[i]->ref, .info = infos ? &infos[i] : NULL, .named = out_revs != NULL};
    error = land(store, landings, n, &seq);
    error = conclude(store, landings, n, error, seq, out_revs);
    cmb_release(&store->alloc, landings, n * sizeof *landings);
    return error;
}

/* The writer lock is held: does the branch stand where the transaction started? */
static int check_unmoved(const cmb_txn *txn, cmb_refobj *ref, const char *branch)
{
    cmb_state now;
    bool exists;
    int error = cmb_ref_settled(txn->store, ref, &now, &exists);
    if (error)
        return error;
    if (!exists)
        return cmb_fail(CMB_ENOTFOUND, "there is no branch '%s'", branch);
    if (!cmb_state_equal(&now, &txn->base))
        return cmb_fail(CMB_ECONFLICT, "branch '%s' has moved since the transaction started", branch);
    return 0;
}

static int land_on(cmb_txn *txn, cmb_refobj *ref, const char *branch, const cmb_commit_info *info, cmb_rev *out_rev)
{
    cmb_store *store = txn->store;
    landing l = {.txn = txn, .ref = ref, .info = info, .named = out_rev != NULL};
    uint64_t seq;
    int error = cmb_ref_lock(store, ref, false);
    if (error)
        return error;
    error = check_unmoved(txn, ref, branch);
    bool moved = error != 0;
    if (!error)
        error = land(store, &l, 1, &seq);
    cmb_ref_unlock(store, ref);
    return moved ? error : conclude(store, &l, 1, error, seq, out_rev);
}

int cmb_txn_land(cmb_txn *txn, const char *branch, const cmb_commit_info *info, cmb_rev *out_rev)
{
    char full[CMB_REF_FULL_SIZE];
    cmb_store *store = txn->store;
    cmb_refobj *ref;
    if (txn->ref)
        return cmb_fail(CMB_EINVAL, "a transaction on a branch commits, it does not land");
    int error = cmb_ref_full_name(CMB_HEADS, branch, full);
    if (!error)
        error = cmb_ref_use(store, full, strlen(full), &ref);
    if (error)
        return error;
    error = land_on(txn, ref, branch, info, out_rev);
    cmb_ref_unuse(store, ref);
    return error;
}

int cmb_txn_land_above(cmb_txn **txn, cmb_refobj *ref, const cmb_parents *parents, const cmb_commit_info *info, cmb_rev *out_rev)
{
    cmb_store *store = (*txn)->store;
    landing l = {.txn = *txn, .ref = ref, .info = info, .parents = parents};
    bool detached = !(*txn)->ref;
    uint64_t seq;
    int error = detached ? cmb_ref_lock(store, ref, false) : 0;
    if (error)
        return error;
    error = detached ? check_unmoved(*txn, ref, strchr(ref->name, '/') + 1) : 0;
    bool moved = error != 0;
    if (!error)
        error = land(store, &l, 1, &seq);
    if (detached)
        cmb_ref_unlock(store, ref);
    if (moved || stays_open(error))
        return error;
    *txn = NULL;
    return conclude(store, &l, 1, error, seq, out_rev);
}
