/* SPDX-License-Identifier: ISC */
/*
 * merge.c: merging a revision into a branch. The branch's writing turn is held from the first look at the branch to the
 * landing, so that a merge is one transaction like any other; a merge that stands with conflicts gives the turn up, and
 * lands later if the branch has not moved.
 */
#include "store/merging.h"

#define MERGE_FLAGS (CMB_MERGE_NO_FF | CMB_MERGE_FF_ONLY | CMB_MERGE_DETERMINISTIC)

/* ---- beginning and ending ---- */

/* What a commit is made with: info without a merge's flags. */
static cmb_commit_info commit_info(const cmb_commit_info *info)
{
    cmb_commit_info plain = {.flags = 0};
    if (info)
        plain = *info;
    plain.flags &= ~MERGE_FLAGS;
    return plain;
}

static int check_info(const cmb_commit_info *info)
{
    cmb_commit_info plain = commit_info(info);
    uint32_t flags = info ? info->flags & MERGE_FLAGS : 0;
    if (flags & CMB_MERGE_NO_FF && flags & (CMB_MERGE_FF_ONLY | CMB_MERGE_DETERMINISTIC))
        return cmb_fail(CMB_EINVAL, "a merge cannot be both: flags 0x%x", flags);
    return cmb_commit_info_check(&plain);
}

int cmb_merging_create(cmb_store *store, const char *branch, cmb_merge_fn fn, void *ctx, const cmb_commit_info *info,
                       cmb_merging **out_m)
{
    bool exists;
    int error = check_info(info);
    if (error)
        return error;
    cmb_merging *m = cmb_zalloc(&store->alloc, sizeof *m);
    if (!m)
        return CMB_ENOMEM;
    error = cmb_txn_begin(store, branch, 0, &m->txn);
    if (error) {
        cmb_release(&store->alloc, m, sizeof *m);
        return error;
    }
    error = cmb_txn_settle(m->txn);
    if (error) {
        cmb_txn_abort(m->txn);
        cmb_release(&store->alloc, m, sizeof *m);
        return error;
    }
    m->store = store;
    m->ref = m->txn->ref;
    cmb_ref_reuse(store, m->ref);
    cmb_ref_look(store, m->ref, &m->before, &exists);
    m->flags = info ? info->flags & MERGE_FLAGS : 0;
    m->fn = fn;
    m->ctx = ctx;
    cmb_clash_init(&m->clash, store);
    *out_m = m;
    return 0;
}

static void destroy(cmb_merging *m)
{
    cmb_store *store = m->store;
    cmb_clash_destroy(&m->clash);
    cmb_conflicts_destroy(m);
    cmb_txn_abort(m->txn);
    if (m->scratch.stream)
        cmb_append_abort(m->scratch.stream);
    if (m->picked)
        cmb_commit_free(&m->picked->commit);
    cmb_release(&store->alloc, m->message, m->message_size);
    cmb_ref_unuse(store, m->ref);
    cmb_release(&store->alloc, m, sizeof *m);
}

void cmb_merging_abort(cmb_merging *m)
{
    if (m)
        destroy(m);
}

/* ---- the sides ---- */

/* The state of a ref on what was named; of an annotated tag the commit counts. */
static int commit_of(cmb_store *store, const cmb_resolved *r, cmb_state *out_state)
{
    if (r->state.commit.id.size)
        return cmb_commit_state(store, &r->state.commit, out_state);
    cmb_state_empty(store, out_state);
    return 0;
}

/* *out_moved: the working state is no longer what target says. */
static int seal(cmb_store *store, cmb_resolved *target, bool *out_moved)
{
    cmb_unit unit;
    uint64_t seq;
    int error = cmb_unit_begin(store, &unit);
    if (error)
        return error;
    error = cmb_unit_seal(&unit, target, out_moved);
    if (error || *out_moved) {
        cmb_unit_abort(&unit);
        return cmb_store_note(store, error);
    }
    error = cmb_unit_publish(&unit, &seq);
    return error ? error : cmb_unit_settle(store, seq, false);
}

int cmb_merging_name(cmb_merging *m, const char *rev, cmb_state *out_state)
{
    cmb_resolved r;
    for (bool moved = true; moved;) {
        int error = cmb_rev_resolve(m->store, rev, &r);
        if (!error && r.content)
            error = cmb_fail(CMB_EINVAL, "'%s' names a content, not a commit", rev);
        moved = false;
        if (!error && r.state.working)
            error = seal(m->store, &r, &moved);
        if (error)
            return error;
    }
    return commit_of(m->store, &r, out_state);
}

/* Others may seal it as well, and nobody else moves it: so it is sealed afterwards. */
int cmb_merging_seal(cmb_merging *m)
{
    cmb_resolved r = {.state = m->before};
    bool moved = false, exists;
    int error = 0;
    memcpy(r.ref, m->ref->name, m->ref->name_size + 1);
    if (m->before.working)
        error = seal(m->store, &r, &moved);
    if (!error)
        cmb_ref_look(m->store, m->ref, &m->before, &exists);
    return error;
}

/* The common ancestors of both sides; released with the store's allocator. */
static int find_bases(cmb_merging *m, cmb_commit_at **out_bases, size_t *out_n)
{
    if (m->before.commit.id.size && m->named.commit.id.size)
        return cmb_graph_merge_bases(m->store, &m->before.commit, &m->named.commit, out_bases, out_n, &m->cut);
    *out_bases = NULL;
    *out_n = 0;
    return 0;
}

/* Does the set consist of this commit? */
static bool is_only(const cmb_commit_at *bases, size_t n, const cmb_commit_at *commit)
{
    return n == 1 && cmb_name_equal(&bases[0].id, &commit->id);
}

static cmb_merge_kind choose_kind(const cmb_merging *m, const cmb_commit_at *bases, size_t n)
{
    const cmb_state *mine = &m->before;
    bool empty = !mine->commit.id.size && !mine->working;
    if (!m->named.commit.id.size || is_only(bases, n, &m->named.commit))
        return CMB_MERGE_UP_TO_DATE;
    if (empty || (!mine->working && !(m->flags & CMB_MERGE_NO_FF) && is_only(bases, n, &mine->commit)))
        return CMB_MERGE_FAST_FORWARD;
    return m->flags & CMB_MERGE_FF_ONLY || m->cut ? CMB_MERGE_DIVERGED : CMB_MERGE_MERGED;
}

/* ---- a merge that sync makes ---- */

/* Which side is which does not depend on who asks. */
static int make_deterministic(cmb_merging *m)
{
    const cmb_commit_at *a = &m->parents[0], *b = &m->parents[1];
    cmb_commit_record *record;
    if (memcmp(a->id.bytes, b->id.bytes, sizeof a->id.bytes) > 0) {
        cmb_commit_at parent = *a;
        cmb_noderef root = m->roots[CMB_SIDE_MINE];
        m->parents[0] = *b;
        m->parents[1] = parent;
        m->roots[CMB_SIDE_MINE] = m->roots[CMB_SIDE_THEIRS];
        m->roots[CMB_SIDE_THEIRS] = root;
    }
    m->time = INT64_MIN;
    for (unsigned i = 0; i < 2; i++) {
        int error = cmb_commit_load(m->store, &m->parents[i], &record);
        if (error)
            return error;
        if (m->time < record->commit.time)
            m->time = record->commit.time;
        cmb_commit_free(&record->commit);
    }
    return 0;
}

/* What the commit is made with. */
static cmb_commit_info landing_info(const cmb_merging *m, const cmb_commit_info *info)
{
    cmb_commit_info made = commit_info(info);
    const cmb_commit *picked = m->picked ? &m->picked->commit : NULL;
    if (m->flags & CMB_MERGE_DETERMINISTIC)
        return (cmb_commit_info){.author = CMB_MERGE_SYNC_AUTHOR,
                                 .message = CMB_MERGE_SYNC_MESSAGE,
                                 .time = m->time ? m->time : 1, /* 0 would mean: now */
                                 .flags = made.flags & CMB_COMMIT_ASYNC};
    if (picked && !made.author)
        made.author = picked->author;
    if (picked && !made.message)
        made.message = picked->message;
    if (picked && !made.headers) {
        made.headers = picked->headers;
        made.header_count = picked->header_count;
    }
    if (m->message && !made.message)
        made.message = m->message;
    return made;
}

/* ---- landing ---- */

/* The transaction is gone afterwards on success and after some errors. */
static int land(cmb_merging *m, const cmb_commit_info *info, cmb_rev *out_rev)
{
    cmb_commit_info made = landing_info(m, info);
    cmb_parents parents = {.at = m->parents,
                           .n = m->parent_count,
                           .if_changed = m->pick && !(made.flags & CMB_COMMIT_EMPTY),
                           .reason = m->pick ? CMB_REFLOG_COMMITTED : CMB_REFLOG_MERGED};
    return cmb_txn_land_above(&m->txn, m->ref, &parents, &made, out_rev);
}

/* Gives up the writing turn; what was merged stays. */
static void let_others_write(cmb_merging *m)
{
    cmb_txn *txn = m->txn;
    if (!txn->ref)
        return;
    cmb_ref_unlock(m->store, txn->ref);
    cmb_ref_unuse(m->store, txn->ref);
    txn->ref = NULL;
}

static int forward(cmb_merging *m, const cmb_commit_info *info)
{
    cmb_unit unit;
    uint64_t seq;
    int error = cmb_unit_begin(m->store, &unit);
    if (error)
        return error;
    error = cmb_unit_move(&unit, m->ref, &m->named, CMB_REFLOG_MERGED);
    if (error) {
        cmb_unit_abort(&unit);
        return error;
    }
    error = cmb_unit_publish(&unit, &seq);
    if (error)
        return error;
    let_others_write(m);
    return cmb_unit_settle(m->store, seq, info && info->flags & CMB_COMMIT_ASYNC);
}

int cmb_merging_run(cmb_merging *m, const cmb_commit_info *info, cmb_merge_result *out_result)
{
    cmb_merge_result result = {.kind = CMB_MERGE_MERGED};
    m->txn->base = m->before;
    int error = cmb_merge_content(m);
    result.clashes = m->clashes;
    if (!error && m->conflicts.count) {
        let_others_write(m);
        cmb_state_rev(&m->before, &result.rev);
        result.kind = CMB_MERGE_CONFLICTS;
        result.open = m;
        *out_result = result;
        return 0;
    }
    if (!error)
        error = land(m, info, &result.rev);
    if (!error && m->pick && cmb_name_equal(&m->before.commit.id, &result.rev.commit))
        result.kind = CMB_MERGE_UP_TO_DATE;
    destroy(m);
    if (!error)
        *out_result = result;
    return error;
}

/* Both sides are commits that have diverged: m is gone afterwards, unless it comes back in the result. */
static int join(cmb_merging *m, const cmb_commit_at *bases, size_t n, const cmb_commit_info *info,
                cmb_merge_result *out_result)
{
    int error = cmb_merging_seal(m);
    if (!error) {
        m->parents[0] = m->before.commit;
        m->parents[1] = m->named.commit;
        m->parent_count = 2;
        m->roots[CMB_SIDE_MINE] = m->before.root;
        m->roots[CMB_SIDE_THEIRS] = m->named.root;
        if (m->flags & CMB_MERGE_DETERMINISTIC)
            error = make_deterministic(m);
    }
    if (!error)
        error = cmb_merge_base_root(m, bases, n, &m->roots[CMB_SIDE_BASE]);
    if (!error)
        return cmb_merging_run(m, info, out_result);
    destroy(m);
    return error;
}

static int merge(cmb_merging *m, const cmb_commit_at *bases, size_t n, const cmb_commit_info *info,
                 cmb_merge_result *out_result)
{
    cmb_merge_result result = {.kind = choose_kind(m, bases, n)};
    int error = 0;
    if (result.kind == CMB_MERGE_MERGED)
        return join(m, bases, n, info, out_result);
    if (result.kind == CMB_MERGE_FAST_FORWARD)
        error = forward(m, info);
    cmb_state_rev(result.kind == CMB_MERGE_FAST_FORWARD ? &m->named : &m->before, &result.rev);
    destroy(m);
    if (!error)
        *out_result = result;
    return error;
}

/* ---- the public face ---- */

int cmb_merge(cmb_store *store, const char *branch, const char *rev, cmb_merge_fn fn, void *ctx,
              const cmb_commit_info *info, cmb_merge_result *out_result)
{
    cmb_merging *m;
    cmb_commit_at *bases;
    size_t n;
    if (!out_result)
        return cmb_fail(CMB_EINVAL, "a merge's result has to be looked at");
    int error = cmb_merging_create(store, branch, fn, ctx, info, &m);
    if (error)
        return error;
    error = cmb_merging_name(m, rev, &m->named);
    if (!error) {
        bool exists;
        cmb_ref_look(store, m->ref, &m->before, &exists); /* which was sealed if it was named itself */
        error = find_bases(m, &bases, &n);
    }
    if (error) {
        destroy(m);
        return error;
    }
    error = merge(m, bases, n, info, out_result);
    cmb_release(&store->alloc, bases, n * sizeof *bases);
    return error;
}

int cmb_merging_finish(cmb_merging *m, const cmb_commit_info *info, cmb_rev *out_rev)
{
    size_t left = cmb_merging_unresolved(m);
    int error = check_info(info);
    if (!error && !m->txn)
        error = cmb_merging_lost();
    if (error)
        return error;
    if (left)
        return cmb_fail(CMB_EINVAL, "%zu of %zu conflicts are not resolved", left, m->conflicts.count);
    error = land(m, info, out_rev);
    if (!error)
        destroy(m);
    return error;
}
