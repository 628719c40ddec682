/* SPDX-License-Identifier: ISC */
/* serve.c: answering one pull, a message at a time. */
#include "store/peer.h"

#include <stdio.h>

int cmb_server_open(cmb_server *s, cmb_store *store, cmb_sync_read_fn read, cmb_sync_write_fn write, void *ctx)
{
    memset(s, 0, sizeof *s);
    s->store = store;
    s->ask_max = CMB_PEER_ASK_MIN;
    cmb_offers_init(&s->offers, &store->alloc);
    cmb_wire_in_open(&s->in, &store->alloc, "peer", read, ctx);
    int error = cmb_wire_out_open(&s->out, &store->alloc, write, ctx);
    if (error)
        cmb_server_close(s);
    return error;
}

void cmb_server_close(cmb_server *s)
{
    cmb_sender_close(&s->sender);
    cmb_select_close(&s->select);
    cmb_offers_destroy(&s->offers);
    cmb_wire_out_close(&s->out);
    cmb_wire_in_close(&s->in);
}

static int get_type(cmb_server *s, unsigned type)
{
    uint64_t found;
    int error = cmb_wire_in_message(&s->in);
    if (!error)
        error = cmb_wire_get_uint(&s->in, 1, &found);
    if (!error && found != type)
        error = cmb_wire_refuse(&s->in, "message %u where %u was expected", (unsigned)found, type);
    return error;
}

/* ---- which refs there are ---- */

static int offer_one(void *ctx, const char *name, const cmb_state *state)
{
    cmb_server *s = ctx;
    bool tag = strncmp(name, CMB_TAGS, sizeof CMB_TAGS - 1) == 0;
    cmb_offer *offer;
    int error = cmb_offers_add(&s->offers, tag, strchr(name, '/') + 1, &state->commit.id, &offer);
    return error ? error : cmb_offer_annotate(s->store, offer, &s->offers.alloc, &state->tag);
}

/* Sealing changes the refs, so the list is made first; those without a commit leave it again. */
static int seal_all(cmb_server *s)
{
    size_t n = 0;
    int error = 0;
    for (size_t i = 0; !error && i < s->offers.count; i++) {
        cmb_offer *o = &s->offers.list[i];
        char full[CMB_REF_FULL_SIZE];
        cmb_commit_at at = {.addr = 0};
        error = cmb_ref_full_name(o->tag ? CMB_TAGS : CMB_HEADS, o->name, full);
        if (!error)
            error = cmb_offer_seal(s->store, full, &at);
        if (error == CMB_ENOTFOUND) /* deleted meanwhile */
            error = 0;
        if (error || !at.id.size || (o->tag && !cmb_name_equal(&o->commit, &at.id))) /* an annotated one may have been moved */
            continue;
        cmb_offer kept = *o;
        *o = s->offers.list[n];
        kept.commit = at.id;
        s->offers.list[n++] = kept;
    }
    cmb_offers_truncate(&s->offers, n);
    return error;
}

static int offer_named(cmb_server *s, uint64_t count)
{
    int error = count > CMB_PEER_NAMES_MAX ? cmb_wire_refuse(&s->in, "%llu branches", (unsigned long long)count) : 0;
    for (uint64_t i = 0; !error && i < count; i++) {
        static const cmb_name none;
        char name[CMB_REF_NAME_MAX + 1], full[CMB_REF_FULL_SIZE];
        uint64_t size;
        cmb_state state;
        error = cmb_wire_get_uint(&s->in, 1, &size);
        if (!error)
            error = cmb_wire_get(&s->in, name, size);
        if (error)
            return error;
        name[size] = 0;
        error = cmb_ref_full_name(CMB_HEADS, name, full);
        if (!error)
            error = cmb_ref_state(s->store, full, strlen(full), &state);
        if (error == CMB_ENOTFOUND)
            return cmb_fail(error, "there is no branch '%s'", name);
        if (!error)
            error = cmb_offers_add(&s->offers, false, name, &none, NULL);
    }
    return error;
}

static int answer_hello(cmb_server *s)
{
    cmb_params theirs, own;
    uint64_t tags = 0, count = 0;
    cmb_params_of(s->store, &own);
    int error = get_type(s, CMB_MSG_HELLO);
    if (!error)
        error = cmb_params_get(&s->in, &theirs);
    if (!error)
        error = cmb_wire_get_uint(&s->in, 1, &tags);
    if (!error)
        error = cmb_wire_get_uint(&s->in, 4, &count);
    if (!error)
        error = count ? offer_named(s, count) : cmb_refs_each(s->store, CMB_HEADS, offer_one, s);
    if (!error && tags)
        error = cmb_refs_each(s->store, CMB_TAGS, offer_one, s);
    if (!error)
        error = cmb_wire_in_end_message(&s->in);
    if (!error && !cmb_params_equal(&own, &theirs))
        cmb_offers_truncate(&s->offers, 0); /* the other side says what is wrong: it knows both names */
    if (!error)
        error = seal_all(s);
    if (!error)
        error = cmb_wire_put_uint(&s->out, 1, CMB_MSG_REFS);
    if (!error)
        error = cmb_params_put(&s->out, &own);
    if (!error)
        error = cmb_offers_put(&s->offers, &s->out);
    if (!error)
        error = cmb_wire_out_end_message(&s->out);
    s->state = CMB_SERVE_WANT;
    return error;
}

/* ---- what is wanted ---- */

static bool is_offered(const cmb_server *s, const cmb_name *id)
{
    for (size_t i = 0; i < s->offers.count; i++)
        if (cmb_name_equal(&s->offers.list[i].commit, id))
            return true;
    return false;
}

static int take_want(cmb_server *s)
{
    cmb_name id;
    cmb_commit_at at;
    int error = cmb_wire_get_name(&s->in, s->store->tree.hash, &id);
    if (!error && !is_offered(s, &id))
        error = cmb_wire_refuse(&s->in, "a commit is wanted that was not offered");
    if (!error)
        error = cmb_commit_find(s->store, &id, &at);
    return error ? error : cmb_select_want(&s->select, &at);
}

/* Of the heads that the other side has, the newest that is known here. */
static int take_head(cmb_server *s, uint64_t *newest)
{
    cmb_name id;
    cmb_commit_at at;
    cmb_state state;
    int error = cmb_wire_get_name(&s->in, s->store->tree.hash, &id);
    if (!error)
        error = cmb_commit_find(s->store, &id, &at);
    if (error)
        return error == CMB_ENOTFOUND ? 0 : error;
    error = cmb_commit_state(s->store, &at, &state);
    if (!error && state.generation > *newest) {
        *newest = state.generation;
        s->spare = at;
    }
    return error;
}

/* The next question, or the beginning of the pack. */
static int ask(cmb_server *s)
{
    int error = cmb_select_ask(&s->select, s->ask_max, &s->ask_first, &s->ask_count);
    s->ask_max = s->ask_max < CMB_PEER_ASK_MAX ? 2 * s->ask_max : CMB_PEER_ASK_MAX;
    if (error)
        return error;
    if (s->ask_count == 0) {
        cmb_select_finish(&s->select);
        s->state = CMB_SERVE_PACK;
        error = cmb_sender_open(&s->sender, &s->select, s->spare.id.size ? &s->spare : NULL, &s->out);
        return error ? error : cmb_wire_put_uint(&s->out, 1, CMB_MSG_PACK);
    }
    s->state = CMB_SERVE_HAVE;
    error = cmb_wire_put_uint(&s->out, 1, CMB_MSG_ASK);
    if (!error)
        error = cmb_wire_put_uint(&s->out, 4, s->ask_count);
    for (size_t i = 0; !error && i < s->ask_count; i++)
        error = cmb_wire_put_name(&s->out, &s->select.met[s->ask_first + i]->at.id);
    return error ? error : cmb_wire_out_end_message(&s->out);
}

static int answer_want(cmb_server *s)
{
    uint64_t depth = 0, wants = 0, heads = 0, newest = 0;
    int error = get_type(s, CMB_MSG_WANT);
    if (!error)
        error = cmb_wire_get_uint(&s->in, 4, &depth);
    if (!error)
        error = cmb_wire_get_uint(&s->in, 4, &wants);
    if (!error && (wants > CMB_PEER_NAMES_MAX || depth > CMB_SELECT_DEPTH_MAX))
        error = cmb_wire_refuse(&s->in, "%llu commits are wanted, %llu deep", (unsigned long long)wants, (unsigned long long)depth);
    if (!error)
        error = cmb_select_open(&s->select, s->store, (uint32_t)depth);
    for (uint64_t i = 0; !error && i < wants; i++)
        error = take_want(s);
    if (!error)
        error = cmb_wire_get_uint(&s->in, 4, &heads);
    if (!error && heads > CMB_PEER_HEADS_MAX)
        error = cmb_wire_refuse(&s->in, "%llu heads", (unsigned long long)heads);
    for (uint64_t i = 0; !error && i < heads; i++)
        error = take_head(s, &newest);
    if (!error)
        error = cmb_wire_in_end_message(&s->in);
    if (!error && !wants)
        s->state = CMB_SERVE_DONE;
    return error || !wants ? error : ask(s);
}

static int answer_have(cmb_server *s)
{
    uint8_t bits[CMB_PEER_ASK_MAX / 8 + 1];
    int error = get_type(s, CMB_MSG_HAVE);
    if (!error)
        error = cmb_wire_get(&s->in, bits, (s->ask_count + 7) / 8);
    if (!error)
        error = cmb_wire_in_end_message(&s->in);
    if (error)
        return error;
    cmb_select_answer(&s->select, bits);
    return ask(s);
}

static int send_piece(cmb_server *s)
{
    bool done;
    int error = cmb_sender_step(&s->sender, &done);
    if (error || !done)
        return error;
    s->state = CMB_SERVE_DONE;
    return cmb_wire_out_end_message(&s->out);
}

static int go_on(cmb_server *s)
{
    switch (s->state) {
    case CMB_SERVE_HELLO: return answer_hello(s);
    case CMB_SERVE_WANT: return answer_want(s);
    case CMB_SERVE_HAVE: return answer_have(s);
    case CMB_SERVE_PACK: return send_piece(s);
    case CMB_SERVE_DONE: break;
    }
    return 0;
}

/* In the middle of a pack nothing can be told; the other side sees it break off. */
static void tell(cmb_server *s, int error)
{
    char text[512];
    size_t size = (size_t)snprintf(text, sizeof text, "%s", cmb_error_detail());
    if (s->state == CMB_SERVE_PACK || s->state == CMB_SERVE_DONE)
        return;
    s->out.used = 0; /* what was begun of an answer */
    if (cmb_wire_put_uint(&s->out, 1, CMB_MSG_ERROR) || cmb_wire_put_uint(&s->out, 2, (uint64_t)-error) ||
        cmb_wire_put_uint(&s->out, 2, size) || cmb_wire_put(&s->out, text, size) || cmb_wire_out_end_message(&s->out))
        s->state = CMB_SERVE_DONE; /* it cannot be reached */
    cmb_fail(error, "%s", text);
}

int cmb_server_step(cmb_server *s, bool *out_done)
{
    int error = 0;
    if (s->state == CMB_SERVE_HELLO) {
        error = cmb_wire_in_begin(&s->in, CMB_WIRE_PEER);
        if (!error)
            error = cmb_wire_out_begin(&s->out, CMB_WIRE_PEER);
    }
    if (!error)
        error = go_on(s);
    if (error)
        tell(s, error);
    *out_done = error || s->state == CMB_SERVE_DONE;
    return error;
}

int cmb_serve(cmb_store *store, cmb_sync_read_fn read, cmb_sync_write_fn write, void *transport, cmb_sync_stats *out_stats)
{
    cmb_server s;
    bool done = false;
    int error = cmb_server_open(&s, store, read, write, transport);
    if (error)
        return error;
    while (!error && !done)
        error = cmb_server_step(&s, &done);
    if (!error && out_stats) {
        *out_stats = s.sender.stats;
        out_stats->bytes = s.in.bytes;
        out_stats->bytes_sent = s.out.bytes;
    }
    cmb_server_close(&s);
    return error;
}
