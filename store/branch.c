/* SPDX-License-Identifier: ISC */
/*
 * branch.c: making, moving and deleting branches and tags. Whatever names a working state seals it
 * first: the branch that holds it moves to a permanent commit of the same content, in the same unit.
 */
#include "store/intents.h"
#include "store/land.h"
#include "store/tag.h"

/* What a ref is to stand on; content alone is nothing that a ref can. */
static int resolve_target(cmb_store *store, const char *rev, cmb_resolved *out)
{
    if (!rev) {
        out->content = false;
        out->ref[0] = 0;
        cmb_state_empty(store, &out->state);
        return 0;
    }
    int error = cmb_rev_resolve(store, rev, out);
    if (!error && out->content)
        return cmb_fail(CMB_EINVAL, "'%s' names a content, not a commit", rev);
    return error;
}

int cmb_unit_seal(cmb_unit *unit, cmb_resolved *target, bool *out_moved)
{
    static const cmb_commit_info info = {.author = "cambium", .message = "working state"};
    cmb_store *store = unit->store;
    cmb_refobj *holder;
    cmb_state now, sealed;
    bool exists;
    *out_moved = false;
    if (!target->state.working)
        return 0;
    int error = cmb_ref_use(store, target->ref, strlen(target->ref), &holder);
    if (error)
        return error;
    cmb_ref_look(store, holder, &now, &exists);
    *out_moved = !exists || !cmb_state_equal(&now, &target->state);
    if (!*out_moved) {
        error = cmb_unit_commit(unit, &now, &now.root, &info, &sealed);
        if (!error)
            error = cmb_unit_move(unit, holder, &sealed, CMB_REFLOG_SEALED);
        if (!error)
            target->state = sealed;
    }
    cmb_ref_unuse(store, holder);
    return error;
}

static int count_object(void *ctx, const cmb_tag_record *record)
{
    (void)record;
    ++*(unsigned *)ctx;
    return 0;
}

/* A tag object above *state, which then stands on it. */
static int annotate(cmb_unit *unit, const cmb_refobj *ref, const cmb_tag_info *info, cmb_state *state)
{
    static const cmb_tag_info nothing;
    cmb_store *store = unit->store;
    const cmb_tag_info *i = info ? info : &nothing;
    cmb_commit_at commit;
    unsigned depth = 0;
    bool nested = state->tag.id.size != 0;
    int error = nested ? cmb_tag_peel(store, &state->tag, count_object, &depth, &commit) : 0;
    if (!error && depth >= CMB_TAG_DEPTH_MAX)
        error = cmb_fail(CMB_ETOOBIG, "%s would be the %uth tag object above its commit: at most %u", ref->name, depth + 1,
                         CMB_TAG_DEPTH_MAX);
    if (error)
        return error;
    cmb_tag_draft draft = {.target = nested ? state->tag : state->commit,
                           .target_is_tag = nested,
                           .time = i->time ? i->time : store->env.now(store->env.ctx),
                           .name = ref->name + sizeof CMB_TAGS - 1,
                           .tagger = i->tagger,
                           .message = i->message,
                           .headers = i->headers,
                           .header_count = i->header_count};
    return cmb_tag_append(store, unit->app, &draft, &state->tag);
}

/* What is to be done with a ref. */
typedef struct order {
    enum { CREATE, SET, DELETE, REPLACE } action; /* REPLACE: CREATE or SET */
    const char *prefix, *name;
    const cmb_rev *expected;    /* SET: NULL: wherever it stands */
    const char *rev;
    bool annotated;
    const cmb_tag_info *info;   /* annotated; may be NULL */
} order;

/* From what the revision stands for to what the ref will stand on; a branch on no tag object. */
static int fit_state(cmb_unit *unit, const cmb_refobj *ref, const order *o, cmb_state *state)
{
    if (o->annotated)
        return annotate(unit, ref, o->info, state);
    if (strcmp(o->prefix, CMB_TAGS) != 0)
        state->tag = (cmb_commit_at){.addr = 0};
    return 0;
}

/* Moves a ref whose writer lock is held. */
static int move_ref(cmb_store *store, cmb_refobj *ref, const order *o, uint64_t *out_seq)
{
    for (bool moved = true; moved;) {
        cmb_resolved target;
        cmb_unit unit;
        int error = resolve_target(store, o->rev, &target);
        if (!error)
            error = cmb_unit_begin(store, &unit);
        if (error)
            return error;
        error = cmb_unit_seal(&unit, &target, &moved);
        if (!error && !moved)
            error = fit_state(&unit, ref, o, &target.state);
        if (!error && !moved)
            error = cmb_unit_move(&unit, ref, &target.state, CMB_REFLOG_SET);
        if (!error && !moved)
            return cmb_unit_publish(&unit, out_seq);
        cmb_unit_abort(&unit);
        if (error)
            return error;
    }
    return 0;
}

static int delete_ref(cmb_store *store, cmb_refobj *ref, uint64_t *out_seq)
{
    cmb_unit unit;
    int error = cmb_unit_begin(store, &unit);
    if (error)
        return error;
    error = cmb_unit_move(&unit, ref, NULL, CMB_REFLOG_DELETED);
    if (!error)
        return cmb_unit_publish(&unit, out_seq);
    cmb_unit_abort(&unit);
    return error;
}

/* Does a ref in `state` stand where the caller thinks? */
static bool as_expected(const cmb_state *state, const cmb_rev *expected)
{
    cmb_rev now;
    cmb_state_rev(state, &now);
    if (now.working != expected->working)
        return false;
    if (now.working || (!now.commit.size && !expected->commit.size))
        return cmb_name_equal(&now.root, &expected->root) && cmb_name_equal(&now.base, &expected->base);
    return cmb_name_equal(&now.commit, &expected->commit);
}

static int check_before(const cmb_refobj *ref, bool exists, const cmb_state *state, const order *o)
{
    if (o->action == CREATE && exists)
        return cmb_fail(CMB_EEXIST, "%s exists", ref->name);
    if ((o->action == SET || o->action == DELETE) && !exists)
        return cmb_fail(CMB_ENOTFOUND, "there is no %s", ref->name);
    if (o->expected && !as_expected(state, o->expected))
        return cmb_fail(CMB_ECONFLICT, "%s stands elsewhere", ref->name);
    return 0;
}

static int act(cmb_store *store, cmb_refobj *ref, const order *o, uint64_t *out_seq)
{
    cmb_state state;
    bool exists;
    int error = cmb_ref_settled(store, ref, &state, &exists);
    if (!error)
        error = check_before(ref, exists, &state, o);
    if (error)
        return error;
    return o->action == DELETE ? delete_ref(store, ref, out_seq) : move_ref(store, ref, o, out_seq);
}

static int carry_out(cmb_store *store, const order *o)
{
    char full[CMB_REF_FULL_SIZE];
    cmb_refobj *ref;
    uint64_t seq = 0;
    int error = cmb_ref_full_name(o->prefix, o->name, full);
    if (!error)
        error = cmb_store_check_writable(store);
    if (!error)
        error = cmb_ref_use(store, full, strlen(full), &ref);
    if (error)
        return error;
    error = cmb_ref_lock(store, ref, false);
    if (!error) {
        error = act(store, ref, o, &seq);
        cmb_ref_unlock(store, ref);
    }
    cmb_ref_unuse(store, ref);
    return error ? error : cmb_unit_settle(store, seq, false);
}

static int change(cmb_store *store, const char *prefix, const char *name, int action, const cmb_rev *expected, const char *rev)
{
    return carry_out(store, &(order){.action = action, .prefix = prefix, .name = name, .expected = expected, .rev = rev});
}

static int need_rev(const char *rev)
{
    return rev ? 0 : cmb_fail(CMB_EINVAL, "no revision is given");
}

int cmb_branch_create(cmb_store *store, const char *name, const char *rev)
{
    return change(store, CMB_HEADS, name, CREATE, NULL, rev);
}

int cmb_branch_delete(cmb_store *store, const char *name)
{
    return change(store, CMB_HEADS, name, DELETE, NULL, NULL);
}

int cmb_branch_set(cmb_store *store, const char *name, const char *rev)
{
    int error = need_rev(rev);
    return error ? error : change(store, CMB_HEADS, name, SET, NULL, rev);
}

int cmb_branch_compare_and_set(cmb_store *store, const char *name, const cmb_rev *expected, const char *rev)
{
    int error = need_rev(rev);
    return error ? error : change(store, CMB_HEADS, name, SET, expected, rev);
}

/* A tag names a commit. */
static int need_commit(cmb_store *store, const char *rev)
{
    cmb_resolved r;
    int error = need_rev(rev);
    if (!error)
        error = cmb_rev_resolve(store, rev, &r);
    if (!error && !r.state.working && !r.state.commit.id.size)
        return cmb_fail(CMB_ENOTFOUND, "'%s' has no commit yet, so no tag can name it", rev);
    return error;
}

int cmb_tag_create(cmb_store *store, const char *name, const char *rev)
{
    int error = need_commit(store, rev);
    return error ? error : change(store, CMB_TAGS, name, CREATE, NULL, rev);
}

int cmb_tag_set(cmb_store *store, const char *name, const char *rev)
{
    int error = need_commit(store, rev);
    return error ? error : change(store, CMB_TAGS, name, SET, NULL, rev);
}

int cmb_tag_annotate(cmb_store *store, const char *name, const char *rev, const cmb_tag_info *info)
{
    int error = need_commit(store, rev);
    if (!error && info && info->flags & ~CMB_TAG_REPLACE)
        error = cmb_fail(CMB_EINVAL, "unknown flags 0x%x of a tag", info->flags);
    return error ? error
                 : carry_out(store, &(order){.action = info && info->flags & CMB_TAG_REPLACE ? REPLACE : CREATE,
                                             .prefix = CMB_TAGS,
                                             .name = name,
                                             .rev = rev,
                                             .annotated = true,
                                             .info = info});
}

int cmb_tag_delete(cmb_store *store, const char *name)
{
    return change(store, CMB_TAGS, name, DELETE, NULL, NULL);
}

/* ---- listing ---- */

typedef struct listing {
    cmb_ref_fn fn;
    void *ctx;
    bool tag;
} listing;

static int list_one(void *ctx, const char *name, const cmb_state *state)
{
    const listing *l = ctx;
    cmb_ref ref = {.name = strchr(name, '/') + 1, .tag = l->tag, .object = state->tag.id};
    cmb_state_rev(state, &ref.at);
    return l->fn(l->ctx, &ref) ? cmb_fail(CMB_ESTOPPED, "the list was stopped by its callback") : 0;
}

int cmb_branch_list(cmb_store *store, cmb_ref_fn fn, void *ctx)
{
    listing l = {fn, ctx, false};
    return cmb_refs_each(store, CMB_HEADS, list_one, &l);
}

int cmb_tag_list(cmb_store *store, cmb_ref_fn fn, void *ctx)
{
    listing l = {fn, ctx, true};
    return cmb_refs_each(store, CMB_TAGS, list_one, &l);
}
