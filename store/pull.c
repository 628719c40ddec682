/* SPDX-License-Identifier: ISC */
/* pull.c: the asking side of a conversation, and taking in what comes. */
#include "store/peer.h"

#include <stdio.h>

typedef struct puller {
    cmb_store *store;
    const cmb_pull_options *options;
    cmb_wire_in in;
    cmb_wire_out out;
    cmb_offers offers;
    cmb_sync_stats stats;
} puller;

/* ---- taking a pack ---- */

static int check_offers(cmb_receiver *r, const cmb_offers *offers)
{
    int error = 0;
    for (size_t i = 0; !error && i < offers->count; i++) {
        bool known;
        error = cmb_receiver_knows(r, &offers->list[i].commit, &known);
        if (!error && !known)
            error = cmb_wire_refuse(r->in, "the commit of '%s' did not come", offers->list[i].name);
        if (!error)
            error = cmb_offer_objects_check(r->store, &offers->list[i]);
    }
    return error;
}

static int take(cmb_receiver *r, const cmb_offers *offers, bool ends)
{
    cmb_name *needed;
    size_t count;
    int error = cmb_receiver_needed(r, &needed, &count);
    if (error)
        return error;
    if (needed)
        cmb_release(&r->alloc, needed, count * sizeof *needed);
    error = cmb_receiver_run(r);
    if (!error)
        error = cmb_wire_in_end_message(r->in);
    if (!error && ends)
        error = cmb_wire_in_end(r->in);
    return error ? error : check_offers(r, offers);
}

int cmb_pull_pack(cmb_store *store, cmb_wire_in *in, const cmb_offers *offers, const cmb_pull_options *options, bool ends,
                  cmb_sync_stats *stats)
{
    cmb_intake *intake;
    cmb_receiver r;
    int error = cmb_intake_open(store, &intake);
    if (error)
        return error;
    error = cmb_receiver_open(&r, &store->alloc, store, store->tree.hash, store->tree.target, in, intake);
    r.progress = options->progress;
    r.ctx = options->ctx;
    if (!error)
        error = take(&r, offers, ends);
    *stats = r.stats;
    cmb_receiver_close(&r);
    if (!error)
        return cmb_intake_publish(intake);
    cmb_intake_abort(intake);
    return error;
}

/* ---- asking ---- */

static int put_hello(puller *p)
{
    cmb_params own;
    cmb_params_of(p->store, &own);
    int error = cmb_wire_out_begin(&p->out, CMB_WIRE_PEER);
    if (!error)
        error = cmb_wire_put_uint(&p->out, 1, CMB_MSG_HELLO);
    if (!error)
        error = cmb_params_put(&p->out, &own);
    if (!error)
        error = cmb_wire_put_uint(&p->out, 1, p->options->tags);
    if (!error)
        error = cmb_wire_put_uint(&p->out, 4, p->options->name_count);
    for (size_t i = 0; !error && i < p->options->name_count; i++) {
        const char *name = p->options->names[i];
        error = cmb_wire_put_uint(&p->out, 1, strlen(name));
        if (!error)
            error = cmb_wire_put(&p->out, name, strlen(name));
    }
    return error ? error : cmb_wire_out_end_message(&p->out);
}

/* The other side says why it does not answer. Its words are shown, but not as they come. */
static int take_error(puller *p)
{
    char text[400];
    uint64_t code = 0, size = 0;
    int error = cmb_wire_get_uint(&p->in, 2, &code);
    if (!error)
        error = cmb_wire_get_uint(&p->in, 2, &size);
    size_t shown = size < sizeof text ? (size_t)size : sizeof text - 1;
    if (!error)
        error = cmb_wire_get(&p->in, text, shown);
    if (error)
        return error;
    for (size_t i = 0; i < shown; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            text[i] = '?';
    text[shown] = 0;
    bool is_known = code > 0 && strcmp(cmb_error_name(-(int)code), cmb_error_name(INT16_MIN)) != 0;
    return cmb_fail(is_known ? -(int)code : CMB_EIO, "the peer: %s", text);
}

/* The next message and its type, which is none but those two. */
static int get_type(puller *p, unsigned type, unsigned or_type, unsigned *out_type)
{
    uint64_t found;
    int error = cmb_wire_in_message(&p->in);
    if (!error)
        error = cmb_wire_get_uint(&p->in, 1, &found);
    if (error)
        return error;
    if (found == CMB_MSG_ERROR)
        return take_error(p);
    if (found != type && found != or_type)
        return cmb_wire_refuse(&p->in, "message %u where %u was expected", (unsigned)found, type);
    *out_type = (unsigned)found;
    return 0;
}

static bool has_offer(const cmb_offers *offers, const char *branch)
{
    for (size_t i = 0; i < offers->count; i++)
        if (!offers->list[i].tag && strcmp(offers->list[i].name, branch) == 0)
            return true;
    return false;
}

static int get_refs(puller *p)
{
    cmb_params theirs;
    unsigned type;
    int error = cmb_wire_in_begin(&p->in, CMB_WIRE_PEER);
    if (!error)
        error = get_type(p, CMB_MSG_REFS, CMB_MSG_REFS, &type);
    if (!error)
        error = cmb_params_get(&p->in, &theirs);
    if (!error)
        error = cmb_params_compare(p->store, &theirs, "the peer");
    if (!error)
        error = cmb_offers_get(&p->offers, p->store->tree.hash, &p->in);
    if (!error)
        error = cmb_wire_in_end_message(&p->in);
    for (size_t i = 0; !error && i < p->options->name_count; i++)
        if (!has_offer(&p->offers, p->options->names[i]))
            error = cmb_fail(CMB_ENOTFOUND, "the peer's branch '%s' has no commit yet", p->options->names[i]);
    return error;
}

/* ---- saying what is wanted ---- */

typedef struct id_list {
    cmb_allocator alloc;
    cmb_name *ids;
    size_t count, capacity;
} id_list;

static int add_id(id_list *l, const cmb_name *id)
{
    for (size_t i = 0; i < l->count; i++)
        if (cmb_name_equal(&l->ids[i], id))
            return 0;
    l->ids[l->count++] = *id;
    return 0;
}

/* The commits that are offered and not here. */
static int list_wants(puller *p, id_list *l)
{
    int error = 0;
    for (size_t i = 0; !error && i < p->offers.count; i++) {
        cmb_commit_at at;
        error = cmb_commit_find(p->store, &p->offers.list[i].commit, &at);
        if (error == CMB_ENOTFOUND)
            error = l->count > CMB_PEER_NAMES_MAX ? 0 : add_id(l, &p->offers.list[i].commit);
    }
    if (!error && l->count > CMB_PEER_NAMES_MAX)
        error = cmb_fail(CMB_ETOOBIG, "%zu branches and tags at a time: at most %u", l->count, CMB_PEER_NAMES_MAX);
    return error;
}

static int list_head(void *ctx, const char *name, const cmb_state *state)
{
    id_list *l = ctx;
    (void)name;
    return l->count < CMB_PEER_HEADS_MAX && state->commit.id.size ? add_id(l, &state->commit.id) : 0;
}

static int put_ids(puller *p, const id_list *l)
{
    int error = cmb_wire_put_uint(&p->out, 4, l->count);
    for (size_t i = 0; !error && i < l->count; i++)
        error = cmb_wire_put_name(&p->out, &l->ids[i]);
    return error;
}

static int put_want(puller *p, const id_list *wants, const id_list *heads)
{
    int error = cmb_wire_put_uint(&p->out, 1, CMB_MSG_WANT);
    if (!error)
        error = cmb_wire_put_uint(&p->out, 4, p->options->depth);
    if (!error)
        error = put_ids(p, wants);
    if (!error)
        error = put_ids(p, heads);
    return error ? error : cmb_wire_out_end_message(&p->out);
}

static int ask_for(puller *p, bool *out_anything)
{
    const cmb_allocator *alloc = &p->store->alloc;
    id_list wants = {.capacity = p->offers.count + 1}, heads = {.capacity = CMB_PEER_HEADS_MAX};
    wants.ids = cmb_alloc(alloc, wants.capacity * sizeof *wants.ids);
    heads.ids = cmb_alloc(alloc, heads.capacity * sizeof *heads.ids);
    int error = wants.ids && heads.ids ? 0 : CMB_ENOMEM;
    if (!error)
        error = list_wants(p, &wants);
    if (!error)
        error = cmb_refs_each(p->store, CMB_HEADS, list_head, &heads);
    if (!error)
        error = put_want(p, &wants, &heads);
    *out_anything = wants.count > 0;
    cmb_release(alloc, wants.ids, wants.capacity * sizeof *wants.ids);
    cmb_release(alloc, heads.ids, heads.capacity * sizeof *heads.ids);
    return error;
}

/* ---- answering questions ---- */

static int answer(puller *p)
{
    uint8_t bits[CMB_PEER_ASK_MAX / 8] = {0};
    uint64_t count;
    int error = cmb_wire_get_uint(&p->in, 4, &count);
    if (!error && (count == 0 || count > CMB_PEER_ASK_MAX))
        error = cmb_wire_refuse(&p->in, "a question about %llu commits", (unsigned long long)count);
    for (uint64_t i = 0; !error && i < count; i++) {
        cmb_name id;
        cmb_commit_at at;
        error = cmb_wire_get_name(&p->in, p->store->tree.hash, &id);
        if (error)
            break;
        int found = cmb_commit_find(p->store, &id, &at);
        if (!found)
            bits[i / 8] |= (uint8_t)(1u << (i % 8));
        else if (found != CMB_ENOTFOUND)
            error = found;
    }
    if (!error)
        error = cmb_wire_in_end_message(&p->in);
    if (!error)
        error = cmb_wire_put_uint(&p->out, 1, CMB_MSG_HAVE);
    if (!error)
        error = cmb_wire_put(&p->out, bits, (size_t)(count + 7) / 8);
    return error ? error : cmb_wire_out_end_message(&p->out);
}

static int converse(puller *p)
{
    bool anything;
    unsigned type = CMB_MSG_ASK;
    int error = put_hello(p);
    if (!error)
        error = get_refs(p);
    if (!error)
        error = ask_for(p, &anything);
    if (error || !anything)
        return error;
    while (!error && type == CMB_MSG_ASK) {
        error = get_type(p, CMB_MSG_ASK, CMB_MSG_PACK, &type);
        if (!error && type == CMB_MSG_ASK)
            error = answer(p);
    }
    return error ? error : cmb_pull_pack(p->store, &p->in, &p->offers, p->options, false, &p->stats);
}

/* ---- the public face ---- */

int cmb_pull_from(cmb_store *store, cmb_sync_read_fn read, cmb_sync_write_fn write, void *transport, const cmb_pull_options *options,
                  cmb_sync_stats *out_stats)
{
    static const cmb_pull_options defaults;
    puller p = {.store = store, .options = options ? options : &defaults};
    cmb_offers_init(&p.offers, &store->alloc);
    int error = cmb_pull_check(store, p.options);
    cmb_wire_in_open(&p.in, &store->alloc, "peer", read, transport);
    p.in.limit = p.options->max_bytes;
    if (!error)
        error = cmb_wire_out_open(&p.out, &store->alloc, write, transport);
    if (!error)
        error = converse(&p);
    if (!error)
        error = cmb_pull_settle(store, &p.offers, p.options);
    p.stats.bytes = p.in.bytes;
    p.stats.bytes_sent = p.out.bytes;
    cmb_wire_out_close(&p.out);
    cmb_wire_in_close(&p.in);
    cmb_offers_destroy(&p.offers);
    if (!error && out_stats)
        *out_stats = p.stats;
    return error;
}

int cmb_pull(cmb_store *store, cmb_store *from, const cmb_pull_options *options, cmb_sync_stats *out_stats)
{
    cmb_loopback loop;
    if (store == from)
        return cmb_fail(CMB_EINVAL, "%s cannot pull from itself", store->dev->name);
    int error = cmb_loopback_open(&loop, from, &store->alloc);
    if (error)
        return error;
    error = cmb_pull_from(store, cmb_loopback_read, cmb_loopback_write, &loop, options, out_stats);
    cmb_loopback_close(&loop);
    return error;
}
