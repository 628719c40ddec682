/* SPDX-License-Identifier: ISC */
/*
 * last_modified.c: which commit changed a key last. One line through history is followed: of a commit to the first parent that is
 * like it at the key.
 */
#include <cambium/history.h>

#include "btree/probe.h"
#include "store/dag.h"
#include "store/handles.h"

/* The way down to the key in one commit's content; `here` and the ways of its parents take turns. */
typedef struct trail {
    cmb_store *store;
    cmb_bytes key;
    cmb_dag dag;
    cmb_dagnode *node;  /* held */
    cmb_probe probe[2]; /* of the node, of a parent: by `turn` */
    unsigned turn;
    cmb_pin pins[2];
} trail;

static int compare(trail *t, const cmb_noderef *root, bool *out_same)
{
    cmb_probe *here = &t->probe[t->turn], *there = &t->probe[!t->turn];
    cmb_probe_start(there, root);
    return cmb_probe_same(&t->store->tree, here, there, t->key.data, t->key.size, t->pins, out_same);
}

/* To the first parent that is like this commit; *out_moved false: there is none. */
static int step(trail *t, bool *out_moved)
{
    cmb_dagnode *n = t->node;
    int error = cmb_dag_read_parents(&t->dag, n);
    bool alike = false;
    for (uint32_t i = 0; !error && !alike && i < n->parent_count; i++) {
        error = compare(t, &n->parents[i]->root, &alike);
        if (!error && alike)
            t->node = n->parents[i];
    }
    if (error)
        return error;
    if (alike) {
        t->turn = !t->turn;
        t->node->uses++;
        cmb_dag_release(&t->dag, n);
    }
    *out_moved = alike;
    return 0;
}

static int follow(trail *t, const cmb_commit_at *from, cmb_name *out_commit)
{
    bool more = true, there = true;
    int error = cmb_dag_hold(&t->dag, from, &t->node);
    if (!error)
        error = cmb_dag_read(&t->dag, t->node);
    if (error)
        return error;
    cmb_probe_start(&t->probe[t->turn], &t->node->root);
    while (!error && more)
        error = step(t, &more);
    if (!error && !t->node->parent_count)
        error = cmb_probe_found(&t->store->tree, &t->probe[t->turn], t->key.data, t->key.size, &t->pins[0], &there);
    if (!error && !there)
        error = cmb_fail(CMB_ENOTFOUND, "no commit in that history has the key");
    if (!error)
        *out_commit = t->node->at.id;
    return error;
}

/* Is the key as it is in the commit below? */
static int check_working(trail *t, const char *rev, const cmb_state *state)
{
    bool same;
    cmb_probe_start(&t->probe[t->turn], &state->root);
    int error = compare(t, &state->commit_root, &same);
    if (!error && !same)
        error = cmb_fail(CMB_EWORKING, "'%s' is a working state, which changed the key", rev);
    return error;
}

/* What a REV stands for; its content alone has no history. */
static int resolve(cmb_store *store, const char *rev, cmb_state *out_state)
{
    cmb_resolved r;
    int error = cmb_rev_resolve(store, rev, &r);
    if (!error && r.content)
        error = cmb_fail(CMB_EINVAL, "'%s' names a content, not a commit", rev);
    if (!error)
        *out_state = r.state;
    return error;
}

int cmb_last_modified(cmb_store *store, const char *rev, cmb_bytes key, cmb_name *out_commit)
{
    cmb_state state;
    if (cmb_key_is_bad(key.size))
        return cmb_key_refuse(key.size);
    int error = resolve(store, rev, &state);
    if (error)
        return error;
    trail *t = cmb_zalloc(&store->alloc, sizeof *t);
    if (!t)
        return CMB_ENOMEM;
    t->store = store;
    t->key = key;
    cmb_dag_init(&t->dag, store);
    if (state.working)
        error = check_working(t, rev, &state);
    if (!error && !state.commit.id.size)
        error = cmb_fail(CMB_ENOTFOUND, "'%s' has no commit yet", rev);
    if (!error)
        error = follow(t, &state.commit, out_commit);
    cmb_dag_destroy(&t->dag);
    cmb_pin_destroy(store->nodes, &t->pins[0]);
    cmb_pin_destroy(store->nodes, &t->pins[1]);
    cmb_release(&store->alloc, t, sizeof *t);
    return error;
}
