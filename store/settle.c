/* SPDX-License-Identifier: ISC */
/* settle.c: history has come; what becomes of the branches and tags that were asked for. */
#include "store/peer.h"

#include <stdio.h>

#define PEER "peer"

static const char *peer_name(const cmb_pull_options *options)
{
    return options->peer ? options->peer : PEER;
}

int cmb_pull_check(const cmb_store *store, const cmb_pull_options *options)
{
    int error = cmb_store_check_writable(store);
    if (!error)
        error = cmb_ref_name_check(peer_name(options));
    for (size_t i = 0; !error && i < options->name_count; i++)
        error = cmb_ref_name_check(options->names[i]);
    if (error)
        return error;
    if (options->name_count > CMB_PEER_NAMES_MAX)
        return cmb_fail(CMB_EINVAL, "%zu branches at a time: at most %u", options->name_count, CMB_PEER_NAMES_MAX);
    if (options->depth > CMB_SELECT_DEPTH_MAX)
        return cmb_fail(CMB_EINVAL, "a depth of %u: at most %u", (unsigned)options->depth, CMB_SELECT_DEPTH_MAX);
    if (options->untrusted && !cmb_hash_is_cryptographic(store->tree.hash))
        return cmb_fail(CMB_ENOTSUP, "%s names contents with %s, which forgers can match: from a peer that is not trusted, only an image "
                        "with a cryptographic hash may take anything", store->dev->name, cmb_hash_kind_name(store->tree.hash));
    return 0;
}

bool cmb_pull_wants(const cmb_pull_options *options, const cmb_offer *offer)
{
    if (offer->tag)
        return options->tags;
    for (size_t i = 0; i < options->name_count; i++)
        if (strcmp(options->names[i], offer->name) == 0)
            return true;
    return options->name_count == 0;
}

/* One ref on its way. */
typedef struct settling {
    cmb_store *store;
    const cmb_pull_options *options;
    const cmb_offer *offer;
    char id[2 * CMB_NAME_MAX + 1];
    char kept[2 * CMB_REF_NAME_MAX + 2];
    cmb_pulled pulled;
} settling;

/* The commit that a ref stands on, or above; the tag object between (may be NULL). CMB_ENOTFOUND. */
static int look(settling *s, const char *prefix, cmb_name *out_commit, cmb_name *out_object)
{
    char full[CMB_REF_FULL_SIZE];
    cmb_state state;
    int error = cmb_ref_full_name(prefix, s->offer->name, full);
    if (!error)
        error = cmb_ref_state(s->store, full, strlen(full), &state);
    if (error)
        return error;
    *out_commit = state.commit.id;
    if (out_object)
        *out_object = state.tag.id;
    return 0;
}

/* What could not be merged stays within reach. */
static int keep(settling *s)
{
    snprintf(s->kept, sizeof s->kept, "%s/%s", peer_name(s->options), s->offer->name);
    if (strlen(s->kept) > CMB_REF_NAME_MAX)
        return 0; /* there is no name to keep it under */
    int error = cmb_branch_create(s->store, s->kept, s->id);
    if (error == CMB_EEXIST)
        error = cmb_branch_set(s->store, s->kept, s->id);
    if (!error)
        s->pulled.kept = s->kept;
    return error;
}

static int move_branch(settling *s)
{
    static const cmb_pull_kind kinds[] = {[CMB_MERGE_UP_TO_DATE] = CMB_PULL_UP_TO_DATE,
                                          [CMB_MERGE_FAST_FORWARD] = CMB_PULL_FAST_FORWARD,
                                          [CMB_MERGE_MERGED] = CMB_PULL_MERGED,
                                          [CMB_MERGE_CONFLICTS] = CMB_PULL_CONFLICTS,
                                          [CMB_MERGE_DIVERGED] = CMB_PULL_DIVERGED};
    const cmb_pull_options *o = s->options;
    cmb_commit_info info = {.flags = CMB_MERGE_DETERMINISTIC | (o->merge ? 0 : CMB_MERGE_FF_ONLY)};
    cmb_merge_result result = {.open = NULL};
    int error = cmb_merge(s->store, s->offer->name, s->id, o->merge_fn, o->merge_ctx, &info, &result);
    if (error)
        return error;
    s->pulled.kind = kinds[result.kind];
    s->pulled.conflicts = result.open ? cmb_merging_count(result.open) : 0;
    cmb_merging_abort(result.open);
    bool stuck = result.kind == CMB_MERGE_CONFLICTS || result.kind == CMB_MERGE_DIVERGED;
    return stuck ? keep(s) : 0;
}

static int settle_branch(settling *s)
{
    int error = look(s, CMB_HEADS, &s->pulled.before, NULL);
    if (error == CMB_ENOTFOUND) {
        s->pulled.kind = CMB_PULL_CREATED;
        error = cmb_branch_create(s->store, s->offer->name, s->id);
        if (error == CMB_EEXIST) /* by somebody else, just now */
            error = move_branch(s);
    } else if (!error) {
        error = move_branch(s);
    }
    return error ? error : look(s, CMB_HEADS, &s->pulled.after, NULL);
}

static int settle_tag(settling *s)
{
    cmb_name object, theirs;
    int error = look(s, CMB_TAGS, &s->pulled.before, &object);
    cmb_offer_object(s->offer, &theirs);
    if (error == CMB_ENOTFOUND) {
        s->pulled.kind = CMB_PULL_CREATED;
        error = cmb_offer_tag_create(s->store, s->offer);
    } else if (!error) {
        bool same = cmb_name_equal(&s->pulled.before, &s->offer->commit) && cmb_name_equal(&object, &theirs);
        s->pulled.kind = same ? CMB_PULL_UP_TO_DATE : CMB_PULL_DIVERGED;
    }
    return error ? error : look(s, CMB_TAGS, &s->pulled.after, NULL);
}

/* A ref of that name would stand in front of the commit. */
static int check_unshadowed(cmb_store *store, const char *id)
{
    static const char *const prefixes[] = {CMB_HEADS, CMB_TAGS};
    char full[CMB_REF_FULL_SIZE];
    cmb_state state;
    for (unsigned i = 0; i < CMB_COUNTOF(prefixes); i++) {
        snprintf(full, sizeof full, "%s%s", prefixes[i], id);
        int error = cmb_ref_state(store, full, strlen(full), &state);
        if (error != CMB_ENOTFOUND)
            return error ? error : cmb_fail(CMB_EAMBIGUOUS, "%s is called like a commit that was pulled: rename it", full);
    }
    return 0;
}

static int settle_one(cmb_store *store, const cmb_pull_options *options, const cmb_offer *offer)
{
    settling s = {.store = store, .options = options, .offer = offer};
    cmb_name_hex(&offer->commit, s.id);
    s.pulled = (cmb_pulled){.name = offer->name, .tag = offer->tag, .theirs = offer->commit};
    int error = check_unshadowed(store, s.id);
    if (!error)
        error = offer->tag ? settle_tag(&s) : settle_branch(&s);
    if (!error && options->pulled && options->pulled(options->ctx, &s.pulled))
        error = cmb_fail(CMB_ESTOPPED, "the pull was stopped by its callback");
    return error;
}

int cmb_pull_settle(cmb_store *store, const cmb_offers *offers, const cmb_pull_options *options)
{
    int error = 0;
    for (size_t i = 0; !error && i < offers->count; i++)
        if (cmb_pull_wants(options, &offers->list[i]))
            error = settle_one(store, options, &offers->list[i]);
    return error;
}
