/* SPDX-License-Identifier: ISC */
/*
 * Several threads at once, and what each of them did is written down: is there an order of all transactions that explains it?
 *
 * Writers put values that nobody else puts, on few keys of few branches, as working states, as commits and on several branches
 * at once; readers open snapshots. Every call takes two numbers of one counter, before and after, so that it is known which
 * call was over before which began. The transactions of a branch have one order: a key of its own counts them. So
 * the judge only has to replay each branch in that order and to ask of every call
 *
 *   snapshot isolation   that what it read, all of it, is what one transaction of the branch left behind;
 *   linearizability      that this is not older than what was acknowledged before it began, nor younger than what began before it
 *                        ended; per key that goes for every get, for a snapshot is opened for each;
 *   first come           that transactions which followed each other in time follow each other in the branch;
 *   all or nothing       that transactions of several branches are on all of them, in one order, and seen so.
 *
 * A reader hashes its whole snapshot when it was opened and again at the end, while the writers go on.
 */
#include "bed.h"

#include <pthread.h>

#include "io/base.h"

#define BRANCHES 3u
#define KEYS     6u
#define WRITERS  4u
#define READERS  3u
#define EACH_MAX 400u

static const char *const branch_names[BRANCHES] = {"main", "left", "right"};

/* What is in a branch: the number of its last transaction, and of each key the value's number, 0: none. */
typedef struct content {
    uint64_t version;
    uint64_t values[KEYS];
} content;

/* A transaction, or a look at a snapshot. */
typedef struct event {
    uint64_t begin, end; /* numbers of the clock around it */
    bool on[BRANCHES];   /* which it wrote, or looked at */
    content read[BRANCHES];  /* what it found there */
    content left[BRANCHES];  /* what it left there; a look: unused */
} event;

typedef struct shared {
    bed bed;
    uint64_t clock, next_value;
    int writers_left;
} shared;

typedef struct worker {
    shared *s;
    unsigned number, each;
    uint64_t seed;
    event *events;
    unsigned n;
    int failed; /* line */
    char detail[256];
} worker;

static uint64_t tick(shared *s)
{
    return __atomic_fetch_add(&s->clock, 1, __ATOMIC_SEQ_CST);
}

static int failed_at(worker *w, int line)
{
    w->failed = line;
    snprintf(w->detail, sizeof w->detail, "%s", cmb_error_detail());
    return 1;
}
#define try(w, x) do { if (x) return failed_at(w, __LINE__); } while (0)

static cmb_bytes key_of(unsigned i, char room[16])
{
    snprintf(room, 16, "key%u", i);
    return str(room);
}

static bool take_value(int error, cmb_bytes got, uint64_t *out)
{
    *out = 0;
    if (error == CMB_ENOTFOUND)
        return true;
    if (error || got.size < 8)
        return false;
    memcpy(out, got.data, 8);
    return true;
}

/* ---- writers ---- */

static int read_in_txn(worker *w, cmb_txn *txn, content *out)
{
    char room[16];
    cmb_bytes got;
    int error = cmb_txn_get(txn, str("version"), &got);
    try(w, !take_value(error, got, &out->version));
    for (unsigned k = 0; k < KEYS; k++) {
        error = cmb_txn_get(txn, key_of(k, room), &got);
        try(w, !take_value(error, got, &out->values[k]));
    }
    return 0;
}

/* Some keys get new values or go; the version is the next one. Values are of a size of their own, so that they differ in length too. */
static int write_in_txn(worker *w, cmb_txn *txn, const content *from, content *out)
{
    uint8_t value[80] = {0};
    char room[16];
    *out = *from;
    out->version++;
    try(w, cmb_txn_put(txn, str("version"), (cmb_bytes){&out->version, 8}));
    for (unsigned n = 1 + (unsigned)(bed_mix(&w->seed) % 3); n > 0; n--) {
        unsigned k = (unsigned)(bed_mix(&w->seed) % KEYS);
        bool removed = bed_mix(&w->seed) % 5 == 0;
        uint64_t number = __atomic_add_fetch(&w->s->next_value, 1, __ATOMIC_RELAXED);
        memcpy(value, &number, 8);
        if (!removed)
            try(w, cmb_txn_put(txn, key_of(k, room), (cmb_bytes){value, 8 + number % 70}));
        else if (out->values[k])
            try(w, cmb_txn_del(txn, key_of(k, room)));
        out->values[k] = removed ? 0 : number;
    }
    return 0;
}

static int write_some(worker *w, cmb_txn **txns, event *e)
{
    cmb_txn *open[BRANCHES];
    unsigned n = 0;
    cmb_commit_info info = {.author = "ada", .message = bed_mix(&w->seed) % 4 ? NULL : "ring"}, infos[BRANCHES];
    for (unsigned b = 0; b < BRANCHES; b++) { /* in one order: nobody waits in a ring */
        if (!e->on[b])
            continue;
        try(w, cmb_txn_begin(w->s->bed.store, branch_names[b], 0, &txns[b]));
        try(w, read_in_txn(w, txns[b], &e->read[b]));
        try(w, write_in_txn(w, txns[b], &e->read[b], &e->left[b]));
        content again;
        try(w, read_in_txn(w, txns[b], &again));
        try(w, memcmp(&again, &e->left[b], sizeof again) != 0);
        infos[n] = info;
        open[n++] = txns[b];
    }
    int error = n == 1 ? cmb_txn_commit(open[0], &info, NULL) : cmb_txn_commit_many(open, n, infos, NULL);
    try(w, error);
    for (unsigned b = 0; b < BRANCHES; b++)
        txns[b] = NULL;
    return 0;
}

static void *write_all(void *arg)
{
    worker *w = arg;
    while (w->n < w->each && !w->failed) {
        event *e = &w->events[w->n];
        cmb_txn *txns[BRANCHES] = {NULL};
        memset(e, 0, sizeof *e);
        uint64_t which = bed_mix(&w->seed) % 12;
        for (unsigned b = 0; b < BRANCHES; b++)
            e->on[b] = which % BRANCHES == b || which == 11 || (which == 10 && b < 2);
        e->begin = tick(w->s);
        if (write_some(w, txns, e) == 0)
            w->n++;
        e->end = tick(w->s);
        for (unsigned b = 0; b < BRANCHES; b++)
            cmb_txn_abort(txns[b]);
    }
    __atomic_fetch_sub(&w->s->writers_left, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

/* ---- readers ---- */

static int look(worker *w, cmb_snapshot *snapshot, content *out)
{
    char room[16];
    cmb_bytes got;
    int error = cmb_get(snapshot, str("version"), &got);
    try(w, !take_value(error, got, &out->version));
    for (unsigned k = 0; k < KEYS; k++) {
        error = cmb_get(snapshot, key_of(k, room), &got);
        try(w, !take_value(error, got, &out->values[k]));
    }
    return 0;
}

static int digest(worker *w, cmb_snapshot *snapshot, uint64_t *out)
{
    cmb_cursor *cursor;
    cmb_bytes key, value;
    int error;
    *out = 0;
    try(w, cmb_cursor_open(snapshot, NULL, &cursor));
    while ((error = cmb_cursor_next(cursor)) == 0) {
        if ((error = cmb_cursor_key(cursor, &key)) != 0)
            break;
        *out = cmb_hash64(key.data, key.size, *out);
        if ((error = cmb_cursor_value(cursor, &value)) != 0)
            break;
        *out = cmb_hash64(value.data, value.size, *out);
    }
    cmb_cursor_close(cursor);
    try(w, error != CMB_ENOTFOUND);
    return 0;
}

/* One snapshot of one branch; now and then it is kept while others are opened, and hashed again. */
static int look_once(worker *w, cmb_snapshot **kept, uint64_t *kept_digest)
{
    cmb_snapshot *snapshot;
    event *e = &w->events[w->n];
    unsigned b = (unsigned)(bed_mix(&w->seed) % BRANCHES);
    uint64_t first, again;
    memset(e, 0, sizeof *e);
    e->on[b] = true;
    e->begin = tick(w->s);
    try(w, cmb_snapshot_open(w->s->bed.store, branch_names[b], &snapshot));
    e->end = tick(w->s); /* what is read later was decided now */
    int bad = digest(w, snapshot, &first) || look(w, snapshot, &e->read[b]) || digest(w, snapshot, &again);
    if (!bad && first != again)
        bad = failed_at(w, __LINE__);
    if (!bad && bed_mix(&w->seed) % 8 == 0) {
        if (*kept && (digest(w, *kept, &again) || again != *kept_digest))
            bad = failed_at(w, __LINE__);
        cmb_snapshot_close(*kept);
        *kept = snapshot;
        *kept_digest = first;
    } else {
        cmb_snapshot_close(snapshot);
    }
    w->n += !bad;
    return bad;
}

static void *read_all(void *arg)
{
    worker *w = arg;
    cmb_snapshot *kept = NULL;
    uint64_t kept_digest = 0, again;
    while (w->n < EACH_MAX && __atomic_load_n(&w->s->writers_left, __ATOMIC_SEQ_CST) > 0)
        if (look_once(w, &kept, &kept_digest))
            break;
    if (kept && !w->failed && (digest(w, kept, &again) || again != kept_digest))
        failed_at(w, __LINE__);
    cmb_snapshot_close(kept);
    return NULL;
}

/* Branches come and go, checkpoints are taken, working states are named: none of it changes what is in the branches. */
static void *disturb(void *arg)
{
    worker *w = arg;
    while (__atomic_load_n(&w->s->writers_left, __ATOMIC_SEQ_CST) > 0) {
        const char *of = branch_names[bed_mix(&w->seed) % BRANCHES];
        cmb_rev rev;
        if (cmb_rev_parse(w->s->bed.store, of, &rev) || cmb_branch_create(w->s->bed.store, "passing", of) ||
            cmb_branch_delete(w->s->bed.store, "passing") || cmb_store_sync(w->s->bed.store)) {
            failed_at(w, __LINE__);
            break;
        }
    }
    return NULL;
}

/* ---- the judge ---- */

/* The transactions of a branch by the version that they left. */
typedef struct judged {
    const event *by_version[WRITERS * EACH_MAX + 1];
    uint64_t newest;
} judged;

static void broken(uint64_t seed, const char *what, unsigned branch, const event *e)
{
    fail_msg("CMB_SEED=%llu: %s: branch %s, version %llu, between %llu and %llu", (unsigned long long)seed, what, branch_names[branch],
             (unsigned long long)e->read[branch].version, (unsigned long long)e->begin, (unsigned long long)e->end);
}

static void order_writes(judged *j, unsigned branch, const worker *writers, uint64_t seed)
{
    memset(j, 0, sizeof *j);
    for (unsigned i = 0; i < WRITERS; i++) {
        for (unsigned k = 0; k < writers[i].n; k++) {
            const event *e = &writers[i].events[k];
            if (!e->on[branch])
                continue;
            uint64_t version = e->left[branch].version;
            if (version > WRITERS * EACH_MAX || j->by_version[version])
                broken(seed, "two transactions left the same version: one is lost", branch, e);
            j->by_version[version] = e;
            j->newest = j->newest < version ? version : j->newest;
        }
    }
    uint64_t latest_begin = 0;
    content now = {0};
    for (uint64_t v = 1; v <= j->newest; v++) {
        const event *e = j->by_version[v];
        if (!e)
            fail_msg("CMB_SEED=%llu: nobody left version %llu of %s", (unsigned long long)seed, (unsigned long long)v, branch_names[branch]);
        if (memcmp(&e->read[branch], &now, sizeof now) != 0)
            broken(seed, "a transaction began on something else than the one before it left", branch, e);
        if (e->end < latest_begin)
            broken(seed, "a transaction that was over comes after one that began later", branch, e);
        latest_begin = latest_begin < e->begin ? e->begin : latest_begin;
        now = e->left[branch];
    }
}

static void judge_look(const judged *j, unsigned branch, const event *e, uint64_t seed)
{
    static const content nothing;
    uint64_t v = e->read[branch].version;
    if (v > j->newest)
        broken(seed, "a version that nobody left", branch, e);
    const event *by = j->by_version[v];
    if (memcmp(&e->read[branch], v ? &by->left[branch] : &nothing, sizeof nothing) != 0)
        broken(seed, "a snapshot of no single state", branch, e);
    if (by && by->begin > e->end)
        broken(seed, "a snapshot of what had not begun", branch, e);
    for (uint64_t later = v + 1; later <= j->newest; later++)
        if (j->by_version[later]->end < e->begin)
            broken(seed, "a snapshot without what was acknowledged before", branch, e);
}

/* Transactions of several branches: in the same order on all of them. */
static void judge_together(const judged *j, const worker *writers, uint64_t seed)
{
    for (unsigned a = 0; a < BRANCHES; a++) {
        for (unsigned b = a + 1; b < BRANCHES; b++) {
            uint64_t last = 0;
            for (uint64_t v = 1; v <= j[a].newest; v++) {
                const event *e = j[a].by_version[v];
                if (!e->on[b])
                    continue;
                if (e->left[b].version <= last)
                    broken(seed, "two branches disagree on the order of two transactions", b, e);
                last = e->left[b].version;
            }
        }
    }
}

static void check_end(shared *s, const judged *j, uint64_t seed)
{
    static const content nothing;
    worker w = {.s = s};
    for (unsigned b = 0; b < BRANCHES; b++) {
        cmb_snapshot *snapshot;
        content now;
        must(cmb_snapshot_open(s->bed.store, branch_names[b], &snapshot));
        assert_int_equal(look(&w, snapshot, &now), 0);
        cmb_snapshot_close(snapshot);
        const event *last = j[b].by_version[j[b].newest];
        if (memcmp(&now, last ? &last->left[b] : &nothing, sizeof now) != 0)
            fail_msg("CMB_SEED=%llu: %s does not end with its last transaction", (unsigned long long)seed, branch_names[b]);
    }
}

/* ---- a round ---- */

static void run_round(uint64_t seed, unsigned each)
{
    static judged j[BRANCHES];
    static const cmb_init_options init = {.node_size = 256, .segment_size = 2 << 20};
    static shared s;
    worker workers[WRITERS + READERS + 1];
    pthread_t threads[WRITERS + READERS + 1];
    memset(&s, 0, sizeof s);
    s.bed.options.pool_size = 1 << 20;
    bed_open_with(&s.bed, 0, &init);
    s.bed.options.env = (cmb_env){0}; /* the bed's clock is for one thread */
    bed_reopen(&s.bed);
    must(cmb_branch_create(s.bed.store, "left", NULL));
    must(cmb_branch_create(s.bed.store, "right", NULL));
    s.writers_left = WRITERS;
    for (unsigned i = 0; i < WRITERS + READERS + 1; i++) {
        workers[i] = (worker){.s = &s, .number = i, .each = each, .seed = seed * 1000 + i, .events = calloc(EACH_MAX, sizeof(event))};
        assert_non_null(workers[i].events);
    }
    for (unsigned i = 0; i < WRITERS + READERS + 1; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, i < WRITERS ? write_all : i < WRITERS + READERS ? read_all : disturb, &workers[i]), 0);
    for (unsigned i = 0; i < WRITERS + READERS + 1; i++) {
        pthread_join(threads[i], NULL);
        if (workers[i].failed)
            fail_msg("CMB_SEED=%llu: thread %u, line %d: %s", (unsigned long long)seed, i, workers[i].failed, workers[i].detail);
    }
    for (unsigned b = 0; b < BRANCHES; b++)
        order_writes(&j[b], b, workers, seed);
    for (unsigned i = WRITERS; i < WRITERS + READERS; i++)
        for (unsigned k = 0; k < workers[i].n; k++)
            for (unsigned b = 0; b < BRANCHES; b++)
                if (workers[i].events[k].on[b])
                    judge_look(&j[b], b, &workers[i].events[k], seed);
    judge_together(j, workers, seed);
    check_end(&s, j, seed);
    bed_reopen(&s.bed);
    check_end(&s, j, seed);
    for (unsigned i = 0; i < WRITERS + READERS + 1; i++)
        free(workers[i].events);
    bed_close(&s.bed);
}

static void concurrent_histories_have_one_order_that_explains_them(void **state)
{
    uint64_t seed = bed_seed();
    unsigned rounds = 2 * bed_budget();
    for (unsigned i = 0; i < rounds; i++)
        run_round(seed + i, 120);
}

static void short_histories_from_empty_branches_too(void **state)
{
    uint64_t seed = bed_seed() + 1000;
    unsigned rounds = 6 * bed_budget();
    for (unsigned i = 0; i < rounds; i++)
        run_round(seed + i, 12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(short_histories_from_empty_branches_too),
        cmocka_unit_test(concurrent_histories_have_one_order_that_explains_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
