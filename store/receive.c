/* SPDX-License-Identifier: ISC */
/*
 * receive.c: a pack into an image. Nothing that comes is believed: sizes are bounded before they are used, parents and bases have to be
 * known, and a commit counts only if what was built of it has its id.
 */
#include "store/pack.h"

#include <stdio.h>

int cmb_receiver_open(cmb_receiver *receiver, const cmb_allocator *alloc, cmb_store *store, cmb_hash_kind hash, uint32_t node_size,
                      cmb_wire_in *in, cmb_intake *intake)
{
    *receiver = (cmb_receiver){.store = store, .alloc = *alloc, .hash = hash, .inline_max = node_size / 4, .in = in, .intake = intake};
    cmb_idset_init(&receiver->seen, alloc);
    receiver->keys = cmb_alloc(alloc, 3 * (CMB_KEY_MAX + 1));
    receiver->value = cmb_alloc(alloc, receiver->inline_max);
    return receiver->keys && receiver->value ? 0 : CMB_ENOMEM;
}

void cmb_receiver_close(cmb_receiver *receiver)
{
    if (!receiver->in)
        return;
    const cmb_allocator *alloc = &receiver->alloc;
    cmb_idset_destroy(&receiver->seen);
    cmb_blob_release(alloc, &receiver->texts);
    cmb_release(alloc, receiver->keys, 3 * (CMB_KEY_MAX + 1));
    cmb_release(alloc, receiver->value, receiver->inline_max);
    cmb_release(alloc, receiver->chunk, CMB_CHUNK_SIZE);
    receiver->in = NULL;
}

/* ---- what has to be there ---- */

static int find_needed(cmb_receiver *r, const cmb_name *id)
{
    cmb_commit_at at;
    int error = r->store ? cmb_commit_find(r->store, id, &at) : 0;
    if (error == CMB_ENOTFOUND)
        error = cmb_fail_in(error, "%s: it stands on commits that are not here", r->in->what);
    return error ? error : cmb_idset_add(&r->seen, id);
}

/* The array grows with what was read, not with what was announced. */
int cmb_receiver_needed(cmb_receiver *r, cmb_name **out_ids, size_t *out_count)
{
    cmb_name *ids = NULL;
    size_t capacity = 0, n = 0;
    uint64_t count = 0;
    int error = cmb_wire_get_uint(r->in, 4, &count);
    while (!error && n < count) {
        if (n == capacity) {
            size_t more = capacity ? 2 * capacity : 16;
            cmb_name *grown = cmb_resize(&r->alloc, ids, capacity * sizeof *ids, more * sizeof *ids);
            if (!grown) {
                error = CMB_ENOMEM;
                break;
            }
            ids = grown;
            capacity = more;
        }
        error = cmb_wire_get_name(r->in, r->hash, &ids[n]);
        if (!error)
            error = find_needed(r, &ids[n]);
        n += !error;
    }
    if (!error)
        error = cmb_wire_get_uint(r->in, 8, &r->total);
    /* In exactly as much memory as the caller gives back. */
    cmb_name *exact = !error && n ? cmb_alloc(&r->alloc, n * sizeof *ids) : NULL;
    if (exact)
        memcpy(exact, ids, n * sizeof *ids);
    else if (!error && n)
        error = CMB_ENOMEM;
    cmb_release(&r->alloc, ids, capacity * sizeof *ids);
    if (error)
        return error;
    *out_ids = exact;
    *out_count = n;
    return 0;
}

int cmb_receiver_knows(cmb_receiver *r, const cmb_name *id, bool *out_yes)
{
    cmb_commit_at at;
    int error = r->intake ? cmb_intake_find(r->intake, id, &at) : cmb_idset_has(&r->seen, id) ? 0 : CMB_ENOTFOUND;
    if (error == CMB_ENOTFOUND && r->store && !r->intake)
        error = cmb_commit_find(r->store, id, &at);
    *out_yes = error == 0;
    return error == CMB_ENOTFOUND ? 0 : error;
}

/* ---- one commit ---- */

typedef struct incoming {
    cmb_name id;
    uint64_t generation;
    int64_t time;
    size_t parent_count;
    cmb_commit_at *parents; /* length 0: absent */
    bool *absent;
    const char *author, *message;
    cmb_commit_header *headers;
    size_t header_count, header_memory;
    uint8_t *header_bytes;
    cmb_name bases[CMB_PACK_BASES];
    unsigned base_count;
} incoming;

static void forget(cmb_receiver *r, incoming *c)
{
    const cmb_allocator *alloc = &r->alloc;
    cmb_release(alloc, c->parents, c->parent_count * sizeof *c->parents);
    cmb_release(alloc, c->absent, c->parent_count * sizeof *c->absent);
    cmb_release(alloc, c->headers, c->header_count * sizeof *c->headers);
    cmb_release(alloc, c->header_bytes, c->header_memory);
}

static int refuse_commit(const cmb_receiver *r, const cmb_name *id, const char *why)
{
    char hex[2 * CMB_NAME_MAX + 1];
    cmb_name_hex(id, hex);
    return cmb_wire_refuse(r->in, "commit %s: %s", hex, why);
}

static int get_parents(cmb_receiver *r, incoming *c)
{
    uint64_t n, flags = 0;
    int error = cmb_wire_get_uint(r->in, 2, &n);
    if (error)
        return error;
    if (n > CMB_COMMIT_PARENTS_MAX)
        return refuse_commit(r, &c->id, "too many parents");
    if (n == 0)
        return 0;
    c->parents = cmb_zalloc(&r->alloc, n * sizeof *c->parents);
    c->absent = cmb_zalloc(&r->alloc, n * sizeof *c->absent);
    c->parent_count = n;
    if (!c->parents || !c->absent)
        return CMB_ENOMEM;
    for (size_t i = 0; !error && i < n; i++) {
        error = cmb_wire_get_uint(r->in, 1, &flags);
        if (!error && flags & ~(uint64_t)CMB_PARENT_ABSENT)
            error = refuse_commit(r, &c->id, "unknown flags of a parent");
        c->absent[i] = flags & CMB_PARENT_ABSENT;
        if (!error)
            error = cmb_wire_get_name(r->in, r->hash, &c->parents[i].id);
    }
    return error;
}

/* Author, message and encoded headers, one after the other, each with a zero byte behind it. */
static int get_texts(cmb_receiver *r, incoming *c)
{
    uint64_t sizes[3];
    size_t at = 0, starts[3];
    for (unsigned i = 0; i < 3; i++) {
        int error = cmb_wire_get_uint(r->in, 4, &sizes[i]);
        if (error)
            return error;
        if (sizes[i] > CMB_COMMIT_TEXT_MAX + 2)
            return refuse_commit(r, &c->id, "its texts are too long");
        cmb_blob grown = r->texts;
        if (at + sizes[i] + 1 > grown.capacity) {
            size_t capacity = at + sizes[i] + 1 + 1024;
            uint8_t *data = cmb_resize(&r->alloc, grown.data, grown.capacity, capacity);
            if (!data)
                return CMB_ENOMEM;
            r->texts = (cmb_blob){data, capacity};
        }
        error = cmb_wire_get(r->in, r->texts.data + at, sizes[i]);
        if (error)
            return error;
        r->texts.data[at + sizes[i]] = 0;
        if (i < 2 && memchr(r->texts.data + at, 0, sizes[i]))
            return refuse_commit(r, &c->id, "a zero byte in its texts");
        starts[i] = at;
        at += sizes[i] + 1;
    }
    const uint8_t *encoded = r->texts.data + starts[2];
    size_t count, memory;
    if (!cmb_headers_measure(encoded, sizes[2], &count, &memory))
        return refuse_commit(r, &c->id, "malformed headers");
    c->author = (const char *)r->texts.data + starts[0];
    c->message = (const char *)r->texts.data + starts[1];
    if (count == 0)
        return 0;
    c->headers = cmb_alloc(&r->alloc, count * sizeof *c->headers);
    c->header_count = count;
    c->header_bytes = cmb_alloc(&r->alloc, memory);
    c->header_memory = memory;
    if (!c->headers || !c->header_bytes)
        return CMB_ENOMEM;
    cmb_headers_fill(encoded, c->headers, c->header_bytes);
    return 0;
}

static int get_bases(cmb_receiver *r, incoming *c)
{
    uint64_t n;
    int error = cmb_wire_get_uint(r->in, 1, &n);
    if (!error && n > CMB_PACK_BASES)
        error = refuse_commit(r, &c->id, "too many bases");
    for (; !error && c->base_count < n; c->base_count++)
        error = cmb_wire_get_name(r->in, r->hash, &c->bases[c->base_count]);
    return error;
}

static int get_commit(cmb_receiver *r, incoming *c)
{
    uint64_t time = 0;
    int error = cmb_wire_get_name(r->in, r->hash, &c->id);
    if (!error)
        error = cmb_wire_get_uint(r->in, 8, &c->generation);
    if (!error)
        error = cmb_wire_get_uint(r->in, 8, &time);
    c->time = (int64_t)time;
    if (!error)
        error = get_parents(r, c);
    if (!error)
        error = get_texts(r, c);
    return error ? error : get_bases(r, c);
}

static int need(cmb_receiver *r, const incoming *c, const cmb_name *id, const char *what)
{
    bool known;
    char why[2 * CMB_NAME_MAX + 80], hex[2 * CMB_NAME_MAX + 1];
    int error = cmb_receiver_knows(r, id, &known);
    if (error || known)
        return error;
    cmb_name_hex(id, hex);
    snprintf(why, sizeof why, "its %s %s is not here and has not come", what, hex);
    return refuse_commit(r, &c->id, why);
}

/* All that it refers to has come before it, or is here. */
static int check_commit(cmb_receiver *r, const incoming *c)
{
    int error = c->generation ? 0 : refuse_commit(r, &c->id, "a generation of 0");
    for (size_t i = 0; !error && i < c->parent_count; i++)
        if (!c->absent[i])
            error = need(r, c, &c->parents[i].id, "parent");
    for (unsigned i = 0; !error && i < c->base_count; i++)
        error = need(r, c, &c->bases[i], "base");
    return error;
}

/* ---- building it ---- */

/* Where the parents are; the generation has to follow from theirs, as far as they are here. */
static int place_parents(cmb_receiver *r, incoming *c)
{
    uint64_t highest = 0;
    bool all = true;
    for (size_t i = 0; i < c->parent_count; i++) {
        cmb_state state;
        cmb_commit_at at;
        int error = cmb_intake_find(r->intake, &c->parents[i].id, &at);
        if (error == CMB_ENOTFOUND && c->absent[i]) { /* one that is here is a parent, whatever the peer says */
            all = false;
            continue;
        }
        if (!error)
            error = cmb_commit_state(r->store, &at, &state);
        if (error)
            return error;
        c->parents[i] = at;
        highest = state.generation > highest ? state.generation : highest;
    }
    bool fits = all ? c->generation == highest + 1 : c->generation > highest && c->generation <= CMB_GENERATION_MAX;
    return fits ? 0 : refuse_commit(r, &c->id, "its generation is not its parents' and one");
}

static int find_bases(cmb_receiver *r, const incoming *c, cmb_noderef roots[CMB_PACK_BASES])
{
    int error = 0;
    for (unsigned i = 0; !error && i < c->base_count; i++) {
        cmb_commit_at at;
        cmb_state state;
        error = cmb_intake_find(r->intake, &c->bases[i], &at);
        if (!error)
            error = cmb_commit_state(r->store, &at, &state);
        if (!error)
            roots[i] = state.commit_root;
    }
    return error;
}

static int write_commit(cmb_receiver *r, const incoming *c, const cmb_noderef *root)
{
    cmb_commit_draft draft = {.root = *root,
                              .parents = c->parents,
                              .parent_count = c->parent_count,
                              .generation = c->generation,
                              .time = c->time,
                              .author = c->author,
                              .message = c->message,
                              .headers = c->headers,
                              .header_count = c->header_count};
    cmb_commit_at at;
    cmb_name made;
    int error = cmb_commit_name(r->store, &draft, &made);
    if (error == CMB_EINVAL)
        return refuse_commit(r, &c->id, "more texts and parents than a commit can have");
    if (!error && !cmb_name_equal(&made, &c->id))
        return refuse_commit(r, &c->id, "what came for it is not what its id names");
    return error ? error : cmb_intake_commit(r->intake, &draft, &at);
}

static int build_commit(cmb_receiver *r, incoming *c)
{
    cmb_noderef roots[CMB_PACK_BASES], root;
    int error = place_parents(r, c);
    if (!error)
        error = find_bases(r, c, roots);
    if (!error)
        error = cmb_receive_changes(r, roots, c->base_count, &root);
    return error ? error : write_commit(r, c, &root);
}

static int take_commit(cmb_receiver *r, incoming *c)
{
    cmb_commit_at at;
    int error = get_commit(r, c);
    if (!error)
        error = check_commit(r, c);
    if (error)
        return error;
    int found = r->intake ? cmb_intake_find(r->intake, &c->id, &at) : r->store ? cmb_commit_find(r->store, &c->id, &at) : CMB_ENOTFOUND;
    if (found && found != CMB_ENOTFOUND)
        return found;
    r->stats.commits++;
    r->stats.known += !found;
    if (r->intake && found)
        return build_commit(r, c);
    error = cmb_receive_changes(r, NULL, c->base_count, NULL);
    return error || r->intake ? error : cmb_idset_add(&r->seen, &c->id);
}

int cmb_receiver_run(cmb_receiver *r)
{
    for (;;) {
        uint64_t tag;
        int error = cmb_wire_get_uint(r->in, 1, &tag);
        if (error)
            return error;
        if (tag == CMB_PACK_END)
            break;
        if (tag != CMB_PACK_COMMIT || r->stats.commits == r->total)
            return cmb_wire_refuse(r->in, "neither a commit nor the end");
        incoming c = {0};
        error = take_commit(r, &c);
        forget(r, &c);
        if (error)
            return error;
        if (r->progress)
            r->progress(r->ctx, r->stats.commits, r->total, r->in->bytes);
    }
    r->stats.bytes = r->in->bytes;
    return r->stats.commits == r->total ? 0 : cmb_wire_refuse(r->in, "fewer commits than were announced");
}
