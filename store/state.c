/* SPDX-License-Identifier: ISC */
/*
 * state.c: what a ref stands on, as bytes and as the public face shows it.
 *
 *   packed state  u8 flags (1: has a commit, 2: working, 4: annotated)  u64 unit up to which intents are merged
 *                 commit: id, u64 address, u32 length, u64 generation
 *                 packed root of the commit (if there is one)
 *                 packed working root (if working)
 *                 tag object (if annotated): id, u64 address, u32 length
 */
#include "store/internal.h"

enum { STATE_COMMIT = 1, STATE_WORKING = 2, STATE_ANNOTATED = 4 };

void cmb_commit_at_pack(const cmb_commit_at *at, uint8_t out[CMB_COMMIT_AT_PACKED])
{
    cmb_put64(out, at->addr);
    cmb_put32(out + 8, at->length);
}

int cmb_commit_at_unpack(const cmb_store *store, cmb_bytes id, cmb_bytes value, cmb_commit_at *out_at)
{
    cmb_commit_at at = {0};
    if (id.size != cmb_name_size(store->tree.hash) || value.size != CMB_COMMIT_AT_PACKED)
        return cmb_fail(CMB_ECORRUPT, "commit index: an entry of %zu and %zu bytes", id.size, value.size);
    at.id.size = (uint8_t)id.size;
    memcpy(at.id.bytes, id.data, id.size);
    at.addr = cmb_get64(value.data);
    at.length = cmb_get32((const uint8_t *)value.data + 8);
    *out_at = at;
    return 0;
}

void cmb_state_empty(const cmb_store *store, cmb_state *out_state)
{
    memset(out_state, 0, sizeof *out_state);
    cmb_tree_empty(&store->tree, &out_state->root);
    out_state->commit_root = out_state->root;
}

bool cmb_state_equal(const cmb_state *a, const cmb_state *b)
{
    return a->working == b->working && a->pending == b->pending && cmb_name_equal(&a->commit.id, &b->commit.id) &&
           cmb_name_equal(&a->root.name, &b->root.name) && cmb_name_equal(&a->tag.id, &b->tag.id);
}

void cmb_state_rev(const cmb_state *state, cmb_rev *out_rev)
{
    memset(out_rev, 0, sizeof *out_rev);
    if (state->working)
        out_rev->base = state->commit.id;
    else
        out_rev->commit = state->commit.id;
    out_rev->root = state->root.name;
    out_rev->entries = state->root.count;
    out_rev->working = state->working;
}

static uint8_t *pack_at(const cmb_commit_at *at, uint8_t *p)
{
    memcpy(p, at->id.bytes, at->id.size);
    cmb_commit_at_pack(at, p + at->id.size);
    return p + at->id.size + CMB_COMMIT_AT_PACKED;
}

unsigned cmb_state_pack(const cmb_state *state, uint8_t *out)
{
    uint8_t *p = out;
    bool commit = state->commit.id.size != 0, tag = state->tag.id.size != 0;
    *p++ = (uint8_t)((commit ? STATE_COMMIT : 0) | (state->working ? STATE_WORKING : 0) | (tag ? STATE_ANNOTATED : 0));
    cmb_put64(p, state->merged);
    p += 8;
    if (commit) {
        p = pack_at(&state->commit, p);
        cmb_put64(p, state->generation);
        p += 8;
        p += cmb_noderef_pack(&state->commit_root, p);
    }
    if (state->working)
        p += cmb_noderef_pack(&state->root, p);
    if (tag)
        p = pack_at(&state->tag, p);
    return (unsigned)(p - out);
}

static int unpack_at(const cmb_store *store, const char *what, const uint8_t **p, const uint8_t *end, cmb_commit_at *out_at)
{
    unsigned id_size = cmb_name_size(store->tree.hash);
    if ((size_t)(end - *p) < id_size + CMB_COMMIT_AT_PACKED)
        return cmb_fail(CMB_ECORRUPT, "state of %s: it ends within an id and its place", what);
    memset(out_at, 0, sizeof *out_at);
    out_at->id.size = (uint8_t)id_size;
    memcpy(out_at->id.bytes, *p, id_size);
    out_at->addr = cmb_get64(*p + id_size);
    out_at->length = cmb_get32(*p + id_size + 8);
    *p += id_size + CMB_COMMIT_AT_PACKED;
    return 0;
}

static int unpack_root(const cmb_store *store, const char *what, const uint8_t **p, const uint8_t *end,
                       cmb_noderef *out_root)
{
    size_t used;
    int error = cmb_noderef_unpack(store->tree.hash, *p, (size_t)(end - *p), out_root, &used);
    if (error)
        return cmb_fail_in(error, "state of %s", what);
    *p += used;
    return 0;
}

int cmb_state_unpack(const cmb_store *store, const char *what, const uint8_t *data, size_t size, cmb_state *out_state)
{
    const uint8_t *p = data, *end = data + size;
    int error = 0;
    cmb_state s;
    cmb_state_empty(store, &s);
    if (!size || *p & ~(STATE_COMMIT | STATE_WORKING | STATE_ANNOTATED) || (*p & STATE_ANNOTATED && *p != (STATE_ANNOTATED | STATE_COMMIT)))
        return cmb_fail(CMB_ECORRUPT, "state of %s: %s", what, size ? "unknown flags" : "empty");
    uint8_t flags = *p++;
    if (end - p < 8)
        return cmb_fail(CMB_ECORRUPT, "state of %s: %zu bytes are too few", what, size);
    s.merged = cmb_get64(p);
    p += 8;
    if (flags & STATE_COMMIT) {
        error = unpack_at(store, what, &p, end, &s.commit);
        if (!error && end - p < 8)
            error = cmb_fail(CMB_ECORRUPT, "state of %s: %zu bytes are too few", what, size);
        if (error)
            return error;
        s.generation = cmb_get64(p);
        p += 8;
        error = unpack_root(store, what, &p, end, &s.commit_root);
        s.root = s.commit_root;
    }
    if (!error && flags & STATE_WORKING) {
        error = unpack_root(store, what, &p, end, &s.root);
        s.working = true;
    }
    if (!error && flags & STATE_ANNOTATED)
        error = unpack_at(store, what, &p, end, &s.tag);
    if (error)
        return error;
    if (p != end)
        return cmb_fail(CMB_ECORRUPT, "state of %s: %zu bytes too many", what, (size_t)(end - p));
    *out_state = s;
    return 0;
}
