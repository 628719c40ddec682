/* SPDX-License-Identifier: ISC */
/*
 * merge_tree.c: three roots become the content of a transaction. If one side changed little, its changes are laid over
 * the other side as edits, and the log's head takes them when the merge lands. Else whole subtrees are merged, into the
 * transaction's stream.
 */
#include "btree/side.h"
#include "store/merging.h"

#include <assert.h>

#define STOPPED 1 /* of a count that is large enough */

/* ---- asking ---- */

static void set_clash(cmb_merging *m, cmb_bytes key, const cmb_found *base, const cmb_found *theirs,
                      const cmb_found *mine, bool inner)
{
    m->clash.key = key;
    m->clash.inner = inner;
    cmb_clash_set(&m->clash, CMB_SIDE_BASE, base);
    cmb_clash_set(&m->clash, CMB_SIDE_THEIRS, theirs);
    cmb_clash_set(&m->clash, CMB_SIDE_MINE, mine);
    if (cmb_is_marker(&m->scratch, base))
        m->clash.presence[CMB_SIDE_BASE] = CMB_DISPUTED;
}

/* A cmb_answer for m->clash, or an error. */
static int ask(cmb_merging *m, cmb_bytes *out_value)
{
    *out_value = (cmb_bytes){NULL, 0};
    int answer = m->fn ? m->fn(m->ctx, &m->clash, out_value) : CMB_ANSWER_CONFLICT;
    if (answer > CMB_ANSWER_DELETE)
        return cmb_fail(CMB_EINVAL, "a merge function answered %d", answer);
    if (answer == CMB_ANSWER_VALUE && out_value->size > CMB_VALUE_MAX)
        return cmb_fail(CMB_ETOOBIG, "a merge function answered with %zu bytes: at most %u", out_value->size,
                        CMB_VALUE_MAX);
    return answer;
}

/* ---- little: edits over one side ---- */

/* How many changed entries count as little: what the log's head takes in one piece, each costing a leaf. */
static uint64_t few(const cmb_merging *m)
{
    return CMB_STREAM_THRESHOLD / 2 / m->store->tree.target;
}

static int count_change(void *ctx, const cmb_tree_change *change)
{
    uint64_t *left = ctx;
    (void)change;
    return (*left)-- ? 0 : STOPPED;
}

static int is_little(cmb_merging *m, cmb_clash_side side, bool *out_yes)
{
    uint64_t left = few(m);
    int rc = cmb_tree_diff(&m->store->tree, &m->roots[CMB_SIDE_BASE], &m->roots[side], NULL, NULL, count_change, &left,
                           NULL);
    if (rc < 0)
        return rc;
    *out_yes = rc != STOPPED;
    return 0;
}

typedef struct carry {
    cmb_merging *m;
    cmb_clash_side from, onto;
    cmb_pin pin; /* of what lookups in `onto` found */
} carry;

/* What the clash becomes, as an edit over `onto`. */
static int carry_clash(carry *c)
{
    cmb_merging *m = c->m;
    cmb_bytes value;
    int answer = ask(m, &value);
    m->clashes++;
    if (answer < 0)
        return answer;
    if (answer == CMB_ANSWER_CONFLICT)
        return cmb_conflicts_add(m, m->clash.key);
    if (answer == CMB_ANSWER_VALUE)
        return cmb_txn_put(m->txn, m->clash.key, value);
    cmb_clash_side side = answer == CMB_ANSWER_MINE ? CMB_SIDE_MINE : CMB_SIDE_THEIRS;
    if (answer != CMB_ANSWER_DELETE && side == c->onto)
        return 0;
    cmb_edit edit = {.kind = CMB_EDIT_DELETE, .key = m->clash.key};
    if (answer != CMB_ANSWER_DELETE)
        edit = cmb_clash_edit(&m->clash, side);
    return cmb_txn_edit(m->txn, &edit);
}

static int carry_change(void *ctx, const cmb_tree_change *change)
{
    carry *c = ctx;
    cmb_merging *m = c->m;
    cmb_found found;
    const cmb_found *there = &found;
    int error = cmb_tree_get(&m->store->tree, &m->roots[c->onto], change->key.data, change->key.size, &c->pin, &found);
    if (error == CMB_ENOTFOUND)
        there = NULL;
    else if (error)
        return error;
    if (cmb_found_same(there, change->after))
        return 0;
    bool mine = c->from == CMB_SIDE_MINE;
    set_clash(m, change->key, change->before, mine ? there : change->after, mine ? change->after : there, false);
    if (!cmb_found_same(there, change->before))
        return carry_clash(c);
    cmb_edit edit = cmb_clash_edit(&m->clash, c->from);
    return cmb_txn_edit(m->txn, &edit);
}

/* The content is a tree now, without edits. */
static void start_from(cmb_merging *m, const cmb_noderef *root)
{
    m->txn->view.root = *root;
    m->txn->layout++;
}

static int carry_over(cmb_merging *m, cmb_clash_side from)
{
    cmb_clash_side onto = from == CMB_SIDE_MINE ? CMB_SIDE_THEIRS : CMB_SIDE_MINE;
    carry c = {.m = m, .from = from, .onto = onto};
    start_from(m, &m->roots[onto]);
    int error =
        cmb_tree_diff(&m->store->tree, &m->roots[CMB_SIDE_BASE], &m->roots[from], NULL, NULL, carry_change, &c, NULL);
    cmb_pin_destroy(m->store->nodes, &c.pin);
    return error;
}

/* ---- much: subtree by subtree ---- */

static int build_clash(void *ctx, const cmb_tree_clash *clash, cmb_edit *out_edit)
{
    cmb_merging *m = ctx;
    cmb_bytes value;
    set_clash(m, clash->key, clash->base, clash->theirs, clash->ours, false);
    int answer = ask(m, &value);
    m->clashes++;
    switch (answer) {
    case CMB_ANSWER_CONFLICT: {
        int error = cmb_conflicts_add(m, clash->key);
        return error ? error : CMB_CLASH_OURS;
    }
    case CMB_ANSWER_MINE:
        return CMB_CLASH_OURS;
    case CMB_ANSWER_THEIRS:
        return CMB_CLASH_THEIRS;
    case CMB_ANSWER_VALUE:
        *out_edit = (cmb_edit){.kind = CMB_EDIT_PUT, .value = value};
        return CMB_CLASH_EDIT;
    case CMB_ANSWER_DELETE:
        *out_edit = (cmb_edit){.kind = CMB_EDIT_DELETE};
        return CMB_CLASH_EDIT;
    default:
        return answer;
    }
}

static int build(cmb_merging *m)
{
    cmb_noderef root;
    int error = cmb_txn_need_stream(m->txn);
    if (!error)
        error = cmb_tree_merge(&m->store->tree, &m->roots[CMB_SIDE_BASE], &m->roots[CMB_SIDE_MINE],
                               &m->roots[CMB_SIDE_THEIRS], m->txn->stream, build_clash, m, &root, NULL);
    if (error)
        return error; /* which may be the merge function's: the log knows its own */
    m->txn->stream_needed = true;
    start_from(m, &root);
    return 0;
}

int cmb_merge_content(cmb_merging *m)
{
    const cmb_noderef *base = &m->roots[CMB_SIDE_BASE], *theirs = &m->roots[CMB_SIDE_THEIRS],
                      *mine = &m->roots[CMB_SIDE_MINE];
    bool little = false;
    if (cmb_tree_same(base, theirs) || cmb_tree_same(mine, theirs)) {
        start_from(m, mine);
        return 0;
    }
    if (cmb_tree_same(base, mine)) {
        start_from(m, theirs);
        return 0;
    }
    int error = is_little(m, CMB_SIDE_THEIRS, &little);
    if (error || little)
        return error ? error : carry_over(m, CMB_SIDE_THEIRS);
    error = is_little(m, CMB_SIDE_MINE, &little);
    if (error || little)
        return error ? error : carry_over(m, CMB_SIDE_MINE);
    return build(m);
}

/* ---- between ancestors ---- */

/* A value that nothing equals: it lies where only markers do, and has a name that none had before. */
static cmb_edit dispute(cmb_merging *m)
{
    cmb_scratch *s = &m->scratch;
    cmb_edit edit = {.kind = CMB_EDIT_PUT_FAR};
    edit.valref = (cmb_valref){.addr = s->marker_addr, .length = s->marker_length, .size = CMB_VALUE_MAX};
    edit.valref.name.size = (uint8_t)cmb_name_size(m->store->tree.hash);
    memset(edit.valref.name.bytes, 0xff, edit.valref.name.size);
    cmb_put64(edit.valref.name.bytes, ++s->disputes);
    return edit;
}

static int inner_clash(void *ctx, const cmb_tree_clash *clash, cmb_edit *out_edit)
{
    cmb_merging *m = ctx;
    cmb_bytes value = {NULL, 0};
    int answer = CMB_ANSWER_CONFLICT;
    set_clash(m, clash->key, clash->base, clash->theirs, clash->ours, true);
    assert(!cmb_is_marker(&m->scratch, clash->theirs));
    if (!cmb_is_marker(&m->scratch, clash->ours))
        answer = ask(m, &value);
    if (answer < 0)
        return answer;
    if (answer == CMB_ANSWER_MINE || answer == CMB_ANSWER_THEIRS)
        return answer == CMB_ANSWER_MINE ? CMB_CLASH_OURS : CMB_CLASH_THEIRS;
    if (answer == CMB_ANSWER_CONFLICT)
        *out_edit = dispute(m);
    else
        *out_edit = (cmb_edit){.kind = answer == CMB_ANSWER_VALUE ? CMB_EDIT_PUT : CMB_EDIT_DELETE, .value = value};
    return CMB_CLASH_EDIT;
}

static int open_scratch(cmb_merging *m)
{
    static const char text[] = "disputed";
    cmb_scratch *s = &m->scratch;
    if (s->stream)
        return 0;
    int error = cmb_log_stream(m->store->log, &s->stream);
    if (error)
        return cmb_store_note(m->store, error);
    s->marker_length = CMB_RECORD_HEADER + sizeof text;
    error = cmb_append_record(s->stream, CMB_RECORD_CHUNK, text, sizeof text, &s->marker_addr);
    if (error) {
        cmb_append_abort(s->stream);
        s->stream = NULL;
    }
    return cmb_store_note(m->store, error);
}

int cmb_merge_inner(cmb_merging *m, const cmb_noderef *base, const cmb_noderef *acc, const cmb_noderef *other,
                    cmb_noderef *out_root)
{
    int error = open_scratch(m);
    if (!error)
        error = cmb_tree_merge(&m->store->tree, base, acc, other, m->scratch.stream, inner_clash, m, out_root, NULL);
    return error;
}
