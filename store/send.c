/* SPDX-License-Identifier: ISC */
/* send.c: the commits of a selection as a pack, piece by piece. */
#include "store/pack.h"

#define PIECE (64u << 10) /* bytes that a step writes, about */

int cmb_sender_open(cmb_sender *sender, cmb_select *select, const cmb_commit_at *spare, cmb_wire_out *out)
{
    *sender = (cmb_sender){.store = select->dag.store, .out = out, .select = select, .spare = spare};
    return 0;
}

void cmb_sender_close(cmb_sender *sender)
{
    cmb_changes_close(sender->changes);
    sender->changes = NULL;
}

/* ---- what stands before the commits ---- */

static int put_begin(cmb_sender *s)
{
    cmb_dagnode **needed;
    size_t count;
    int error = cmb_select_needed(s->select, &needed, &count);
    if (error)
        return error;
    if (count > UINT32_MAX)
        error = cmb_fail(CMB_ETOOBIG, "a transfer that stands on %zu commits", count);
    if (!error)
        error = cmb_wire_put_uint(s->out, 4, count);
    for (size_t i = 0; !error && i < count; i++)
        error = cmb_wire_put_name(s->out, &needed[i]->at.id);
    cmb_release(&s->store->alloc, needed, (count ? count : 1) * sizeof *needed);
    if (!error)
        error = cmb_wire_put_uint(s->out, 8, s->select->met_count);
    s->begun = true;
    return error;
}

/* ---- one commit ---- */

static int put_text(cmb_wire_out *out, const char *text)
{
    size_t size = strlen(text);
    int error = cmb_wire_put_uint(out, 4, size);
    return error ? error : cmb_wire_put(out, text, size);
}

static int put_headers(cmb_sender *s, const cmb_commit *c)
{
    size_t size;
    int error = cmb_headers_check(c->headers, c->header_count, &size);
    if (error)
        return error;
    uint8_t *encoded = cmb_alloc(&s->store->alloc, size);
    if (!encoded)
        return CMB_ENOMEM;
    cmb_headers_put(encoded, c->headers, c->header_count);
    error = cmb_wire_put_uint(s->out, 4, size);
    if (!error)
        error = cmb_wire_put(s->out, encoded, size);
    cmb_release(&s->store->alloc, encoded, size);
    return error;
}

/* Each with whether the receiver gets it with a place. The node has those parents that this image has, in the same order. */
static int put_parents(cmb_sender *s, const cmb_dagnode *node, const cmb_commit_record *r)
{
    uint32_t here = 0;
    int error = cmb_wire_put_uint(s->out, 2, r->commit.parent_count);
    for (size_t i = 0; !error && i < r->commit.parent_count; i++) {
        bool present = r->parents[i].length && cmb_select_present(node->parents[here]);
        here += r->parents[i].length != 0;
        error = cmb_wire_put_uint(s->out, 1, present ? 0 : CMB_PARENT_ABSENT);
        if (!error)
            error = cmb_wire_put_name(s->out, &r->commit.parents[i]);
    }
    return error;
}

/* Contents that the receiver has, to tell differences from. */
static int choose_bases(cmb_sender *s, const cmb_dagnode *node, cmb_name ids[CMB_PACK_BASES], cmb_noderef roots[CMB_PACK_BASES],
                        unsigned *out_count)
{
    unsigned n = 0;
    for (uint32_t i = 0; i < node->parent_count && n < CMB_PACK_BASES; i++)
        if (cmb_select_present(node->parents[i])) {
            ids[n] = node->parents[i]->at.id;
            roots[n++] = node->parents[i]->root;
        }
    if (!n && s->spare) {
        cmb_state state;
        int error = cmb_commit_state(s->store, s->spare, &state);
        if (error)
            return error;
        ids[n] = s->spare->id;
        roots[n++] = state.commit_root;
    }
    *out_count = n;
    return 0;
}

static int put_bases(cmb_sender *s, const cmb_dagnode *node, const cmb_commit_record *r)
{
    cmb_name ids[CMB_PACK_BASES];
    cmb_noderef roots[CMB_PACK_BASES];
    unsigned n;
    int error = choose_bases(s, node, ids, roots, &n);
    if (!error)
        error = cmb_wire_put_uint(s->out, 1, n);
    for (unsigned i = 0; !error && i < n; i++)
        error = cmb_wire_put_name(s->out, &ids[i]);
    return error ? error : cmb_changes_open(s->store, roots, n, &r->root, &s->changes);
}

static int put_record(cmb_sender *s, const cmb_dagnode *node, const cmb_commit_record *r)
{
    const cmb_commit *c = &r->commit;
    int error = cmb_wire_put_uint(s->out, 1, CMB_PACK_COMMIT);
    if (!error)
        error = cmb_wire_put_name(s->out, &c->id);
    if (!error)
        error = cmb_wire_put_uint(s->out, 8, c->generation);
    if (!error)
        error = cmb_wire_put_uint(s->out, 8, (uint64_t)c->time);
    if (!error)
        error = put_parents(s, node, r);
    if (!error)
        error = put_text(s->out, c->author);
    if (!error)
        error = put_text(s->out, c->message);
    if (!error)
        error = put_headers(s, c);
    return error ? error : put_bases(s, node, r);
}

static int begin_commit(cmb_sender *s)
{
    cmb_dagnode *node = s->select->met[s->next];
    cmb_commit_record *r;
    int error = cmb_dag_read_parents(&s->select->dag, node);
    if (!error)
        error = cmb_commit_load(s->store, &node->at, &r);
    if (error)
        return error;
    error = put_record(s, node, r);
    cmb_commit_free(&r->commit);
    return error;
}

/* ---- steps ---- */

static int go_on(cmb_sender *s)
{
    bool done;
    if (!s->begun)
        return put_begin(s);
    if (s->changes) {
        int error = cmb_changes_step(s->changes, s->out, &s->stats, &done);
        if (error || !done)
            return error;
        cmb_changes_close(s->changes);
        s->changes = NULL;
        s->next++;
        s->stats.commits++;
        return 0;
    }
    if (s->next < s->select->met_count)
        return begin_commit(s);
    s->ended = true;
    return cmb_wire_put_uint(s->out, 1, CMB_PACK_END);
}

int cmb_sender_step(cmb_sender *sender, bool *out_done)
{
    uint64_t from = sender->out->bytes;
    int error = 0;
    while (!error && !sender->ended && sender->out->bytes - from < PIECE)
        error = go_on(sender);
    *out_done = sender->ended;
    return error;
}
