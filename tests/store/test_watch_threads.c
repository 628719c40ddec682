/* SPDX-License-Identifier: ISC */
/* Writers, readers, watches of both kinds and threads that dispatch, all at once. To be run under a thread sanitizer as well. */
#include "bed.h"

#include <cambium/watch.h>
#include <pthread.h>
#include <stdatomic.h>

#define BRANCHES 4
#define READERS 4
#define DISPATCHERS 3
#define LOSSLESS 3 /* a branch */

/* A lossless watch: what it was told, in order. One thread at a time writes here. */
typedef struct listener {
    atomic_int inside;
    unsigned count, bad;
    cmb_rev last;
    cmb_name *after; /* roots */
    cmb_watch *watch;
} listener;

/* A latest one. */
typedef struct follower {
    atomic_int inside;
    unsigned count, bad;
    cmb_rev last;
    cmb_watch *watch;
} follower;

typedef struct scene {
    bed b;
    unsigned commits; /* a branch */
    atomic_int writing, stop;
    char branches[BRANCHES][16];
    cmb_name *roots[BRANCHES]; /* as the writer made them */
    listener lossless[BRANCHES][LOSSLESS], keyed[BRANCHES];
    follower latest[BRANCHES], by_prefix[BRANCHES];
} scene;

typedef struct job {
    scene *s;
    unsigned number;
    int failed; /* line */
} job;

#define try(x) do { if (x) { j->failed = __LINE__; return NULL; } } while (0)

static bool same_rev(const cmb_rev *a, const cmb_rev *b)
{
    return same_name(&a->commit, &b->commit) && same_name(&a->base, &b->base) && same_name(&a->root, &b->root) &&
           a->working == b->working;
}

static void listen(void *ctx, const cmb_event *e)
{
    listener *l = ctx;
    l->bad += atomic_fetch_add(&l->inside, 1) != 0;
    l->bad += e->kind != CMB_EVENT_CHANGED || e->error;
    l->bad += l->count && !same_rev(&l->last, &e->before);
    l->last = e->after;
    l->after[l->count++] = e->after.root;
    atomic_fetch_sub(&l->inside, 1);
}

/* Of a key: not every state, but each in which it changed; both sides are read. */
static void listen_to_key(void *ctx, const cmb_event *e)
{
    listener *l = ctx;
    cmb_snapshot *before, *after;
    cmb_bytes a = {0}, b = {0};
    l->bad += atomic_fetch_add(&l->inside, 1) != 0;
    if (cmb_event_before(e, &before) || cmb_event_after(e, &after)) {
        l->bad++;
        return;
    }
    (void)cmb_get(before, str("watched"), &a);
    l->bad += cmb_get(after, str("watched"), &b) != 0;
    l->bad += a.size == b.size && memcmp(a.data, b.data, a.size) == 0;
    unsigned n = 0;
    if (b.size == sizeof n)
        memcpy(&n, b.data, sizeof n);
    l->bad += n != l->count; /* its n-th change */
    l->count++;
    cmb_snapshot_close(before);
    cmb_snapshot_close(after);
    atomic_fetch_sub(&l->inside, 1);
}

static void follow(void *ctx, const cmb_event *e)
{
    follower *f = ctx;
    f->bad += atomic_fetch_add(&f->inside, 1) != 0;
    f->bad += e->kind != CMB_EVENT_CHANGED || e->error;
    f->last = e->after;
    f->count++;
    atomic_fetch_sub(&f->inside, 1);
}

/* ---- the threads ---- */

static void *write_branch(void *arg)
{
    job *j = arg;
    scene *s = j->s;
    const char *branch = s->branches[j->number];
    unsigned watched = 0;
    for (unsigned i = 0; i < s->commits; i++) {
        cmb_txn *txn;
        cmb_rev rev;
        char key[32];
        cmb_commit_info info = {.message = i % 3 ? NULL : "ring", .flags = i % 5 ? 0 : CMB_COMMIT_ASYNC};
        snprintf(key, sizeof key, "dir%u/%u", i % 7, i);
        try(cmb_txn_begin(s->b.store, branch, 0, &txn));
        try(cmb_txn_put(txn, str(key), (cmb_bytes){&i, sizeof i}));
        if (i % 4 == 0) {
            try(cmb_txn_put(txn, str("watched"), (cmb_bytes){&watched, sizeof watched}));
            watched++;
        }
        try(cmb_txn_commit(txn, &info, &rev));
        s->roots[j->number][i] = rev.root;
    }
    if (atomic_fetch_sub(&s->writing, 1) == 1)
        try(cmb_store_sync(s->b.store));
    return NULL;
}

static void *read_branches(void *arg)
{
    job *j = arg;
    scene *s = j->s;
    uint64_t last[BRANCHES] = {0};
    for (unsigned i = 0; atomic_load(&s->writing); i++) {
        cmb_snapshot *snap;
        cmb_rev rev;
        uint64_t n;
        unsigned k = i % BRANCHES;
        try(cmb_snapshot_open(s->b.store, s->branches[k], &snap));
        cmb_snapshot_rev(snap, &rev);
        try(rev.entries < last[k]);
        last[k] = rev.entries;
        try(cmb_count(snap, NULL, NULL, &n));
        try(n != rev.entries);
        cmb_snapshot_close(snap);
    }
    return NULL;
}

static void *dispatch(void *arg)
{
    job *j = arg;
    while (!atomic_load(&j->s->stop))
        try(cmb_watch_dispatch(j->s->b.store, 7, -1) < 0);
    return NULL;
}

/* Watches that come and go while others dispatch: after close nothing is told any more. */
static void *come_and_go(void *arg)
{
    job *j = arg;
    scene *s = j->s;
    for (unsigned i = 0; atomic_load(&s->writing); i++) {
        follower f = {.count = 0};
        const cmb_watch_options o = {.branch = s->branches[i % BRANCHES], .lossless = i % 2,
                                     .range.prefix = i % 3 ? str("dir3/") : (cmb_bytes){0}};
        try(cmb_watch_open(s->b.store, &o, follow, &f, NULL, &f.watch));
        cmb_rev rev;
        try(cmb_rev_parse(s->b.store, o.branch, &rev));
        cmb_watch_close(f.watch);
        try(f.bad || atomic_load(&f.inside));
    }
    return NULL;
}

/* ---- the scene ---- */

static void listen_on(scene *s, listener *l, cmb_event_fn fn, const char *branch, const char *key)
{
    cmb_watch_options o = {.branch = branch, .lossless = true, .key = key ? str(key) : (cmb_bytes){0}};
    l->after = calloc(s->commits, sizeof *l->after);
    assert_non_null(l->after);
    must(cmb_watch_open(s->b.store, &o, fn, l, NULL, &l->watch));
}

static void set_scene(scene *s)
{
    memset(s, 0, sizeof *s);
    s->commits = 120 * bed_budget();
    s->b.options.watch_notes = s->commits; /* nobody may lose one */
    bed_open_with(&s->b, 0, NULL);
    s->b.options.env = (cmb_env){0}; /* the injected clock is for one thread */
    bed_reopen(&s->b);
    for (unsigned i = 0; i < BRANCHES; i++) {
        snprintf(s->branches[i], sizeof s->branches[i], "branch%u", i);
        s->roots[i] = calloc(s->commits, sizeof *s->roots[i]);
        assert_non_null(s->roots[i]);
        must(cmb_branch_create(s->b.store, s->branches[i], NULL));
        for (unsigned k = 0; k < LOSSLESS; k++)
            listen_on(s, &s->lossless[i][k], listen, s->branches[i], NULL);
        listen_on(s, &s->keyed[i], listen_to_key, s->branches[i], "watched");
        must(cmb_watch_open(s->b.store, &(cmb_watch_options){.branch = s->branches[i]}, follow, &s->latest[i], NULL,
                            &s->latest[i].watch));
        must(cmb_watch_open(s->b.store, &(cmb_watch_options){.branch = s->branches[i], .range.prefix = str("dir3/")}, follow,
                            &s->by_prefix[i], NULL, &s->by_prefix[i].watch));
    }
    atomic_store(&s->writing, BRANCHES);
}

static void play(scene *s)
{
    void *(*const runs[])(void *) = {write_branch, read_branches, dispatch, come_and_go};
    const unsigned counts[] = {BRANCHES, READERS, DISPATCHERS, 1};
    pthread_t threads[4][8];
    job jobs[4][8];
    for (unsigned r = 0; r < 4; r++)
        for (unsigned i = 0; i < counts[r]; i++) {
            jobs[r][i] = (job){s, i, 0};
            assert_int_equal(pthread_create(&threads[r][i], NULL, runs[r], &jobs[r][i]), 0);
        }
    for (unsigned k = 0; k < 4; k++) {
        static const unsigned order[] = {0, 1, 3, 2}; /* those who dispatch are told to end last */
        unsigned r = order[k];
        if (runs[r] == dispatch) {
            atomic_store(&s->stop, 1);
            for (unsigned i = 0; i < counts[r]; i++)
                cmb_watch_wake(s->b.store);
        }
        for (unsigned i = 0; i < counts[r]; i++) {
            pthread_join(threads[r][i], NULL);
            assert_int_equal(jobs[r][i].failed, 0);
        }
    }
    while (cmb_watch_dispatch(s->b.store, 1000, 0) > 0)
        continue;
}

static void check_branch(const scene *s, unsigned i)
{
    const cmb_name *last = &s->roots[i][s->commits - 1];
    for (unsigned k = 0; k < LOSSLESS; k++) {
        const listener *l = &s->lossless[i][k];
        assert_int_equal(l->bad, 0);
        assert_int_equal(l->count, s->commits);
        for (unsigned n = 0; n < s->commits; n++)
            assert_true(same_name(&l->after[n], &s->roots[i][n]));
    }
    assert_int_equal(s->keyed[i].bad, 0);
    assert_int_equal(s->keyed[i].count, (s->commits + 3) / 4);
    assert_int_equal(s->latest[i].bad + s->by_prefix[i].bad, 0);
    assert_in_range(s->latest[i].count, 1, s->commits);
    assert_in_range(s->by_prefix[i].count, 1, (s->commits + 6) / 7);
    assert_true(same_name(&s->latest[i].last.root, last));
}

static void each_lossless_watch_sees_each_commit_in_order_beside_writers_and_readers(void **state)
{
    static scene s;
    set_scene(&s);
    play(&s);
    for (unsigned i = 0; i < BRANCHES; i++) {
        check_branch(&s, i);
        free(s.roots[i]);
        free(s.keyed[i].after);
        for (unsigned k = 0; k < LOSSLESS; k++)
            free(s.lossless[i][k].after);
    }
    bed_close(&s.b); /* ends the watches */
}

/* ---- closing while a callback runs ---- */

typedef struct gate {
    bed b;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool inside, open, left;
    cmb_watch *watch;
} gate;

static void pass_gate(void *ctx, const cmb_event *e)
{
    gate *g = ctx;
    pthread_mutex_lock(&g->lock);
    g->inside = true;
    pthread_cond_broadcast(&g->changed);
    while (!g->open)
        pthread_cond_wait(&g->changed, &g->lock);
    g->left = true;
    pthread_mutex_unlock(&g->lock);
}

static void *dispatch_once(void *arg)
{
    gate *g = arg;
    return (void *)(intptr_t)cmb_watch_dispatch(g->b.store, 1, -1);
}

static void *open_gate(void *arg)
{
    gate *g = arg;
    pthread_mutex_lock(&g->lock);
    g->open = true;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
    return NULL;
}

static void closing_waits_for_a_callback_on_another_thread(void **state)
{
    static gate g = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    pthread_t dispatcher, opener;
    void *delivered;
    bed_open(&g.b);
    must(cmb_watch_open(g.b.store, &(cmb_watch_options){.branch = "main", .lossless = true}, pass_gate, &g, NULL, &g.watch));
    put(g.b.store, "main", "k", "1", NULL);
    put(g.b.store, "main", "k", "2", NULL);
    assert_int_equal(pthread_create(&dispatcher, NULL, dispatch_once, &g), 0);
    pthread_mutex_lock(&g.lock);
    while (!g.inside)
        pthread_cond_wait(&g.changed, &g.lock);
    pthread_mutex_unlock(&g.lock);
    assert_int_equal(cmb_watch_dispatch(g.b.store, 1, 0), 0); /* it is being run */
    assert_int_equal(pthread_create(&opener, NULL, open_gate, &g), 0);
    cmb_watch_close(g.watch);
    assert_true(g.left);
    pthread_join(opener, NULL);
    pthread_join(dispatcher, &delivered);
    assert_int_equal((intptr_t)delivered, 1);
    bed_close(&g.b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_lossless_watch_sees_each_commit_in_order_beside_writers_and_readers),
        cmocka_unit_test(closing_waits_for_a_callback_on_another_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
