/* SPDX-License-Identifier: ISC */
/* bundle.c: history in a file: the parameters and refs, then a pack, in one message. */
#include "store/peer.h"

#include <stdio.h>

/* ---- making one ---- */

typedef struct making {
    cmb_store *store;
    cmb_wire_out out;
    cmb_offers offers;
    cmb_select select;
    cmb_sender sender;
    const cmb_bundle_options *options;
} making;

/* The ref that a name stands for: as for a REV a branch first, then a tag, then a full name. */
static int find_ref(const cmb_store *store, const char *name, char full[CMB_REF_FULL_SIZE])
{
    static const char *const prefixes[] = {CMB_HEADS, CMB_TAGS, ""};
    cmb_state state;
    for (unsigned i = 0; i < CMB_COUNTOF(prefixes); i++) {
        if (strlen(prefixes[i]) + strlen(name) >= CMB_REF_FULL_SIZE)
            continue;
        snprintf(full, CMB_REF_FULL_SIZE, "%s%s", prefixes[i], name);
        int error = cmb_ref_state((cmb_store *)(uintptr_t)store, full, strlen(full), &state);
        if (error != CMB_ENOTFOUND)
            return error;
    }
    return cmb_fail(CMB_EINVAL, "'%s' is no branch and no tag: a bundle needs a name for what it holds", name);
}

static int include(making *m, const char *rev)
{
    char full[CMB_REF_FULL_SIZE];
    cmb_commit_at at;
    cmb_state state;
    cmb_offer *offer;
    int error = find_ref(m->store, rev, full);
    if (!error)
        error = cmb_offer_seal(m->store, full, &at);
    if (!error)
        error = cmb_ref_state(m->store, full, strlen(full), &state);
    if (error)
        return error;
    if (!at.id.size)
        return cmb_fail(CMB_EINVAL, "'%s' has no commit yet", rev);
    bool tag = strncmp(full, CMB_TAGS, sizeof CMB_TAGS - 1) == 0;
    if (tag) /* it may have been moved since */
        at = state.commit;
    error = cmb_offers_add(&m->offers, tag, strchr(full, '/') + 1, &at.id, &offer);
    if (!error)
        error = cmb_offer_annotate(m->store, offer, &m->offers.alloc, &state.tag);
    return error ? error : cmb_select_want(&m->select, &at);
}

static int exclude(making *m, const char *rev)
{
    cmb_resolved r;
    int error = cmb_rev_resolve(m->store, rev, &r);
    if (!error && r.content)
        error = cmb_fail(CMB_EINVAL, "'%s' names a content, not a commit", rev);
    return error || !r.state.commit.id.size ? error : cmb_select_exclude(&m->select, &r.state.commit);
}

static int select_all(making *m, const char *const *revs, size_t count)
{
    size_t first, n = 1;
    int error = 0;
    for (size_t i = 0; !error && i < count; i++)
        error = revs[i][0] == '^' ? exclude(m, revs[i] + 1) : include(m, revs[i]);
    if (!error && m->offers.count == 0)
        error = cmb_fail(CMB_EINVAL, "no branch or tag is given that the bundle is to hold");
    while (!error && n) {
        error = cmb_select_ask(&m->select, CMB_PEER_ASK_MAX, &first, &n);
        if (!error)
            cmb_select_answer(&m->select, NULL);
    }
    if (!error)
        cmb_select_finish(&m->select);
    return error;
}

static int write_all(making *m)
{
    cmb_params own;
    bool done = false;
    cmb_params_of(m->store, &own);
    int error = cmb_wire_out_begin(&m->out, CMB_WIRE_BUNDLE);
    if (!error)
        error = cmb_params_put(&m->out, &own);
    if (!error)
        error = cmb_offers_put(&m->offers, &m->out);
    if (!error)
        error = cmb_sender_open(&m->sender, &m->select, NULL, &m->out);
    while (!error && !done) {
        error = cmb_sender_step(&m->sender, &done);
        if (!error && m->options->progress)
            m->options->progress(m->options->ctx, m->sender.stats.commits, m->select.met_count, m->out.bytes);
    }
    return error ? error : cmb_wire_out_end_message(&m->out);
}

int cmb_bundle_create(cmb_store *store, const char *const *revs, size_t rev_count, cmb_sync_write_fn write, void *ctx,
                      const cmb_bundle_options *options, cmb_sync_stats *out_stats)
{
    static const cmb_bundle_options defaults;
    making m = {.store = store, .options = options ? options : &defaults};
    if (m.options->depth > CMB_SELECT_DEPTH_MAX)
        return cmb_fail(CMB_EINVAL, "a depth of %u: at most %u", (unsigned)m.options->depth, CMB_SELECT_DEPTH_MAX);
    cmb_offers_init(&m.offers, &store->alloc);
    int error = cmb_wire_out_open(&m.out, &store->alloc, write, ctx);
    if (!error)
        error = cmb_select_open(&m.select, store, m.options->depth);
    if (!error)
        error = select_all(&m, revs, rev_count);
    if (!error)
        error = write_all(&m);
    if (!error && out_stats) {
        *out_stats = m.sender.stats;
        out_stats->bytes = m.out.bytes;
    }
    cmb_sender_close(&m.sender);
    cmb_select_close(&m.select);
    cmb_offers_destroy(&m.offers);
    cmb_wire_out_close(&m.out);
    return error;
}

/* ---- reading one ---- */

typedef struct reading {
    cmb_allocator alloc;
    cmb_store *store; /* may be NULL */
    cmb_wire_in in;
    cmb_params params;
    cmb_offers offers;
} reading;

static void close_reading(reading *b)
{
    cmb_offers_destroy(&b->offers);
    cmb_wire_in_close(&b->in);
}

/* Up to where the pack begins. limit: bytes that may come in all; 0: none. */
static int open_reading(reading *b, cmb_store *store, const cmb_bundle_source *bundle, uint64_t limit)
{
    *b = (reading){.store = store, .alloc = store ? store->alloc : cmb_allocator_or_default(NULL)};
    cmb_offers_init(&b->offers, &b->alloc);
    cmb_wire_in_open(&b->in, &b->alloc, "bundle", bundle->read, bundle->ctx);
    b->in.limit = limit;
    int error = cmb_wire_in_begin(&b->in, CMB_WIRE_BUNDLE);
    if (!error)
        error = cmb_wire_in_message(&b->in);
    if (!error)
        error = cmb_params_get(&b->in, &b->params);
    if (!error && store)
        error = cmb_params_compare(store, &b->params, "the bundle");
    if (!error)
        error = cmb_offers_get(&b->offers, b->params.hash, &b->in);
    if (!error && b->offers.count == 0)
        error = cmb_wire_refuse(&b->in, "no branch and no tag");
    if (error)
        close_reading(b);
    return error;
}

typedef int (*head_fn)(void *ctx, const cmb_bundle_head *head);

static int tell_head(reading *b, const cmb_name *needed, size_t needed_count, uint64_t commits, head_fn fn, void *ctx)
{
    size_t n = b->offers.count;
    cmb_pulled *refs = cmb_zalloc(&b->alloc, n * sizeof *refs);
    if (!refs)
        return CMB_ENOMEM;
    for (size_t i = 0; i < n; i++) {
        refs[i].name = b->offers.list[i].name;
        refs[i].tag = b->offers.list[i].tag;
        refs[i].theirs = b->offers.list[i].commit;
    }
    cmb_bundle_head head = {.hash = b->params.hash,
                            .node_size = b->params.node_size,
                            .seed = b->params.seed,
                            .needed = needed,
                            .needed_count = needed_count,
                            .refs = refs,
                            .ref_count = n,
                            .commits = commits};
    int error = fn(ctx, &head) ? cmb_fail(CMB_ESTOPPED, "stopped by the callback") : 0;
    cmb_release(&b->alloc, refs, n * sizeof *refs);
    return error;
}

static int verify_rest(reading *b, cmb_receiver *r, head_fn on_head, void *ctx)
{
    cmb_name *needed;
    size_t count;
    int error = cmb_receiver_needed(r, &needed, &count);
    if (error)
        return error;
    error = cmb_receiver_run(r);
    if (!error)
        error = cmb_wire_in_end_message(&b->in);
    if (!error)
        error = cmb_wire_in_end(&b->in);
    for (size_t i = 0; !error && i < b->offers.count; i++) {
        bool known;
        error = cmb_receiver_knows(r, &b->offers.list[i].commit, &known);
        if (!error && !known)
            error = cmb_wire_refuse(&b->in, "the commit of '%s' is not in it", b->offers.list[i].name);
    }
    if (!error && on_head)
        error = tell_head(b, needed, count, r->total, on_head, ctx);
    if (needed)
        cmb_release(&r->alloc, needed, count * sizeof *needed);
    return error;
}

static int verify(cmb_store *store, const cmb_bundle_source *bundle, uint64_t limit, head_fn on_head, void *ctx,
                      cmb_sync_stats *out_stats)
{
    reading b;
    cmb_receiver r;
    int error = open_reading(&b, store, bundle, limit);
    if (error)
        return error;
    error = cmb_receiver_open(&r, &b.alloc, store, b.params.hash, b.params.node_size, &b.in, NULL);
    if (!error)
        error = verify_rest(&b, &r, on_head, ctx);
    if (!error && out_stats)
        *out_stats = r.stats;
    cmb_receiver_close(&r);
    close_reading(&b);
    return error;
}

int cmb_bundle_verify(cmb_store *store, const cmb_bundle_source *bundle, int (*on_head)(void *ctx, const cmb_bundle_head *head), void *ctx,
                      cmb_sync_stats *out_stats)
{
    return verify(store, bundle, 0, on_head, ctx, out_stats);
}

/* ---- applying one ---- */

static int check_names(const reading *b, const cmb_pull_options *options)
{
    for (size_t i = 0; i < options->name_count; i++) {
        bool there = false;
        for (size_t k = 0; k < b->offers.count && !there; k++)
            there = !b->offers.list[k].tag && strcmp(b->offers.list[k].name, options->names[i]) == 0;
        if (!there)
            return cmb_fail(CMB_ENOTFOUND, "the bundle has no branch '%s'", options->names[i]);
    }
    return 0;
}

static int apply(cmb_store *store, const cmb_bundle_source *bundle, const cmb_pull_options *options, cmb_sync_stats *stats)
{
    reading b;
    int error = open_reading(&b, store, bundle, options->max_bytes);
    if (error)
        return error;
    error = check_names(&b, options);
    if (!error)
        error = cmb_pull_pack(store, &b.in, &b.offers, options, true, stats);
    if (!error)
        error = cmb_pull_settle(store, &b.offers, options);
    close_reading(&b);
    return error;
}

int cmb_bundle_apply(cmb_store *store, const cmb_bundle_source *bundle, const cmb_pull_options *options, cmb_sync_stats *out_stats)
{
    static const cmb_pull_options defaults;
    cmb_sync_stats stats;
    const cmb_pull_options *o = options ? options : &defaults;
    int error = cmb_pull_check(store, o);
    if (!error && o->depth)
        error = cmb_fail(CMB_EINVAL, "the depth of a bundle was chosen when it was made");
    if (!error)
        error = verify(store, bundle, o->max_bytes, NULL, NULL, &stats);
    if (!error)
        error = bundle->rewind(bundle->ctx);
    if (!error)
        error = apply(store, bundle, o, &stats);
    if (!error && out_stats)
        *out_stats = stats;
    return error;
}
