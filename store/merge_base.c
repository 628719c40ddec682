/* SPDX-License-Identifier: ISC */
/*
 * merge_base.c: several common ancestors become one, a virtual one that is no commit: they are merged one after the
 * other, each merge with its own common ancestors, which may be several again. What that comes to is a stack of
 * *folds*, in memory. A set of ancestors that is met again has its content already.
 *
 * Sets are kept in the order of their ids: so two images that ask do the same merges.
 */
#include "store/merging.h"

/* Commits in the order of their ids, none twice. */
typedef struct commit_set {
    cmb_commit_at *at;
    size_t n, capacity;
} commit_set;

/* Commits on their way to one content: that of the first `done` of them is `root`. */
typedef struct fold {
    struct fold *next; /* the one that waits for this, or in the list of those that are done */
    commit_set set;
    size_t done;
    cmb_noderef root;
} fold;

typedef struct folding {
    cmb_merging *m;
    fold *stack, *finished;
} folding;

/* ---- sets of commits ---- */

static void release_set(cmb_merging *m, commit_set *set)
{
    cmb_release(&m->store->alloc, set->at, set->capacity * sizeof *set->at);
    *set = (commit_set){.n = 0};
}

static int compare_ids(const cmb_commit_at *a, const cmb_commit_at *b)
{
    return memcmp(a->id.bytes, b->id.bytes, sizeof a->id.bytes);
}

static int reserve(cmb_merging *m, commit_set *set, size_t n)
{
    if (n <= set->capacity)
        return 0;
    cmb_commit_at *at = cmb_resize(&m->store->alloc, set->at, set->capacity * sizeof *at, n * sizeof *at);
    if (!at)
        return CMB_ENOMEM;
    set->at = at;
    set->capacity = n;
    return 0;
}

static int unite(cmb_merging *m, commit_set *set, const cmb_commit_at *more, size_t n)
{
    int error = reserve(m, set, set->n + n);
    if (error)
        return error;
    for (size_t i = 0; i < n; i++) {
        size_t at = 0;
        while (at < set->n && compare_ids(&set->at[at], &more[i]) < 0)
            at++;
        if (at < set->n && compare_ids(&set->at[at], &more[i]) == 0)
            continue;
        memmove(&set->at[at + 1], &set->at[at], (set->n - at) * sizeof *set->at);
        set->at[at] = more[i];
        set->n++;
    }
    return 0;
}

static bool same_set(const commit_set *a, const commit_set *b)
{
    size_t i = 0;
    while (a->n == b->n && i < a->n && compare_ids(&a->at[i], &b->at[i]) == 0)
        i++;
    return a->n == b->n && i == a->n;
}

/* Is the i-th an ancestor of another one? */
static int is_covered(cmb_merging *m, const commit_set *set, size_t i, bool *out_yes)
{
    bool yes = false;
    for (size_t k = 0; k < set->n && !yes; k++) {
        int error = k == i ? 0 : cmb_graph_is_ancestor(m->store, &set->at[i], &set->at[k], &yes);
        if (error)
            return error;
    }
    *out_yes = yes;
    return 0;
}

/* Drops the ancestors of others. */
static int keep_lowest(cmb_merging *m, commit_set *set)
{
    for (size_t i = 0; i < set->n;) {
        bool covered;
        int error = is_covered(m, set, i, &covered);
        if (error)
            return error;
        if (covered)
            memmove(&set->at[i], &set->at[i + 1], (--set->n - i) * sizeof *set->at);
        else
            i++;
    }
    return 0;
}

/* The lowest common ancestors of the first `done` of the set, taken as one commit, and the next. Release out_set. */
static int bases_of(cmb_merging *m, const fold *f, commit_set *out_set)
{
    cmb_store *store = m->store;
    commit_set set = {.n = 0};
    int error = 0;
    for (size_t k = 0; !error && k < f->done; k++) {
        cmb_commit_at *more;
        size_t n;
        bool cut = false;
        error = cmb_graph_merge_bases(store, &f->set.at[k], &f->set.at[f->done], &more, &n, &cut);
        if (error)
            break;
        error = cut ? cmb_fail(CMB_ENOTSUP, "the history below the common ancestors is not in this image (it is shallow)")
                    : unite(m, &set, more, n);
        cmb_release(&store->alloc, more, n * sizeof *more);
    }
    if (!error && f->done > 1)
        error = keep_lowest(m, &set);
    if (error)
        release_set(m, &set);
    else
        *out_set = set;
    return error;
}

/* ---- folds ---- */

static int root_of(cmb_merging *m, const cmb_commit_at *at, cmb_noderef *out_root)
{
    cmb_state state;
    int error = cmb_commit_state(m->store, at, &state);
    if (!error)
        *out_root = state.root;
    return error;
}

/* Takes the set, of at least one, over; releases it on failure. */
static int push(folding *w, commit_set *set)
{
    cmb_merging *m = w->m;
    fold *f = cmb_zalloc(&m->store->alloc, sizeof *f);
    int error = f ? root_of(m, &set->at[0], &f->root) : CMB_ENOMEM;
    if (error) {
        cmb_release(&m->store->alloc, f, sizeof *f);
        release_set(m, set);
        return error;
    }
    f->set = *set;
    f->done = 1;
    f->next = w->stack;
    w->stack = f;
    return 0;
}

/* The content of the ancestor of the next merge of `f`; *out_pushed: it has to be folded first. */
static int find_base(folding *w, const fold *f, cmb_noderef *out_base, bool *out_pushed)
{
    cmb_merging *m = w->m;
    commit_set set;
    *out_pushed = false;
    int error = bases_of(m, f, &set);
    if (error)
        return error;
    const fold *known = w->finished;
    while (known && !same_set(&known->set, &set))
        known = known->next;
    if (set.n > 1 && !known) {
        *out_pushed = true;
        return push(w, &set);
    }
    if (known)
        *out_base = known->root;
    else if (set.n)
        error = root_of(m, &set.at[0], out_base);
    else
        cmb_tree_empty(&m->store->tree, out_base);
    release_set(m, &set);
    return error;
}

/* One merge, or one fold more on the stack, or one less. */
static int step(folding *w)
{
    fold *f = w->stack;
    cmb_noderef base, other;
    bool pushed;
    if (f->done == f->set.n) {
        w->stack = f->next;
        f->next = w->finished;
        w->finished = f;
        return 0;
    }
    int error = root_of(w->m, &f->set.at[f->done], &other);
    if (!error && cmb_tree_same(&f->root, &other)) {
        f->done++; /* whatever came before them */
        return 0;
    }
    if (!error)
        error = find_base(w, f, &base, &pushed);
    if (error || pushed)
        return error;
    error = cmb_merge_inner(w->m, &base, &f->root, &other, &f->root);
    if (!error)
        f->done++;
    return error;
}

static void release_folds(cmb_merging *m, fold *f)
{
    while (f) {
        fold *next = f->next;
        release_set(m, &f->set);
        cmb_release(&m->store->alloc, f, sizeof *f);
        f = next;
    }
}

int cmb_merge_base_root(cmb_merging *m, const cmb_commit_at *bases, size_t n, cmb_noderef *out_root)
{
    folding w = {.m = m};
    commit_set set = {.n = 0};
    if (n == 0) {
        cmb_tree_empty(&m->store->tree, out_root);
        return 0;
    }
    if (n == 1)
        return root_of(m, &bases[0], out_root);
    int error = unite(m, &set, bases, n);
    if (!error)
        error = push(&w, &set);
    while (!error && w.stack)
        error = step(&w);
    if (!error)
        *out_root = w.finished->root; /* the first one is done last */
    release_folds(m, w.stack);
    release_folds(m, w.finished);
    return error;
}
