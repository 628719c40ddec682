/* SPDX-License-Identifier: ISC */
/* pick.c: what one commit changed, undone on a branch or done there again: a merge whose ancestor is the commit or
 * its parent. */
#include "store/merging.h"

/* The parent that the commit's changes are counted from; without parents an empty content. */
static int parent_root(cmb_merging *m, const cmb_commit_record *r, const char *rev, unsigned mainline,
                       cmb_noderef *out_root)
{
    size_t n = r->commit.parent_count;
    cmb_state state;
    if (mainline > n)
        return cmb_fail(CMB_EINVAL, "'%s' has %zu parents: none of number %u", rev, n, mainline);
    if (n > 1 && !mainline)
        return cmb_fail(CMB_EINVAL, "'%s' is a merge of %zu parents: which is the one to compare it with?", rev, n);
    cmb_state_empty(m->store, &state);
    if (n) {
        int error = cmb_commit_state(m->store, &r->parents[mainline ? mainline - 1 : 0], &state);
        if (error)
            return error;
    }
    *out_root = state.root;
    return 0;
}

/* Revert "first line", and which commit that was. */
static int revert_message(cmb_merging *m, const cmb_commit *commit)
{
    char hex[2 * CMB_NAME_MAX + 1];
    const char *text = commit->message;
    size_t line = strcspn(text, "\n");
    cmb_name_hex(&commit->id, hex);
    size_t size = line + strlen(hex) + sizeof "Revert \"\"\n\nThis reverts commit .\n";
    m->message = cmb_alloc(&m->store->alloc, size);
    if (!m->message)
        return CMB_ENOMEM;
    m->message_size = size;
    char *p = m->message;
    memcpy(p, "Revert \"", 8);
    memcpy(p + 8, text, line);
    p += 8 + line;
    const char *rest[] = {"\"\n\nThis reverts commit ", hex, ".\n"};
    for (size_t i = 0; i < CMB_COUNTOF(rest); i++) {
        size_t n = strlen(rest[i]);
        memcpy(p, rest[i], n);
        p += n;
    }
    *p = 0;
    return 0;
}

/* What makes git's very same commit again (git.h) does not hold for another one, but for what belongs to the message where that is
 * taken along. */
static void drop_git(cmb_commit *commit, bool own_message)
{
    cmb_commit_header *headers = (cmb_commit_header *)(uintptr_t)commit->headers; /* they are the record's own */
    size_t n = 0;
    for (size_t i = 0; i < commit->header_count; i++) {
        bool text = strcmp(headers[i].name, "git.message") == 0 || strcmp(headers[i].name, "git.encoding") == 0;
        if (strncmp(headers[i].name, "git.", 4) != 0 || (text && !own_message))
            headers[n++] = headers[i];
    }
    commit->header_count = n;
}

/* The sides of the merge. */
static int prepare(cmb_merging *m, const char *rev, unsigned mainline, bool undo, bool own_message)
{
    cmb_commit_record *r;
    cmb_noderef parent = {0};
    int error = cmb_merging_name(m, rev, &m->named);
    if (!error && !m->named.commit.id.size)
        error = cmb_fail(CMB_ENOTFOUND, "'%s' has no commit yet", rev);
    if (!error)
        error = cmb_commit_load(m->store, &m->named.commit, &r);
    if (error)
        return error;
    error = parent_root(m, r, rev, mainline, &parent);
    if (!error && undo)
        error = revert_message(m, &r->commit);
    if (!error)
        error = cmb_merging_seal(m);
    m->roots[CMB_SIDE_BASE] = undo ? m->named.root : parent;
    m->roots[CMB_SIDE_THEIRS] = undo ? parent : m->named.root;
    m->roots[CMB_SIDE_MINE] = m->before.root;
    m->parents[0] = m->before.commit;
    m->parent_count = m->before.commit.id.size ? 1 : 0;
    m->pick = true;
    if (undo)
        cmb_commit_free(&r->commit);
    else
        m->picked = r;
    if (!error && !undo)
        drop_git(&r->commit, own_message);
    return error;
}

static int pick(cmb_store *store, const char *branch, const char *rev, unsigned mainline, bool undo, cmb_merge_fn fn,
                void *ctx, const cmb_commit_info *info, cmb_merge_result *out_result)
{
    cmb_merging *m;
    if (!out_result)
        return cmb_fail(CMB_EINVAL, "a merge's result has to be looked at");
    if (info && info->flags & (CMB_MERGE_NO_FF | CMB_MERGE_FF_ONLY | CMB_MERGE_DETERMINISTIC))
        return cmb_fail(CMB_EINVAL, "flags 0x%x are for merges of branches", info->flags);
    int error = cmb_merging_create(store, branch, fn, ctx, info, &m);
    if (error)
        return error;
    error = prepare(m, rev, mainline, undo, info && info->message);
    if (!error)
        return cmb_merging_run(m, info, out_result);
    cmb_merging_abort(m);
    return error;
}

int cmb_revert(cmb_store *store, const char *branch, const char *rev, unsigned mainline, cmb_merge_fn fn, void *ctx,
               const cmb_commit_info *info, cmb_merge_result *out_result)
{
    return pick(store, branch, rev, mainline, true, fn, ctx, info, out_result);
}

int cmb_cherry_pick(cmb_store *store, const char *branch, const char *rev, unsigned mainline, cmb_merge_fn fn,
                    void *ctx, const cmb_commit_info *info, cmb_merge_result *out_result)
{
    return pick(store, branch, rev, mainline, false, fn, ctx, info, out_result);
}
