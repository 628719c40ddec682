/* SPDX-License-Identifier: ISC */
/* History that comes from outside: unseen until it is published, and then whole. */
#include "bed.h"

#include <pthread.h>
#include <unistd.h>

#include "store/intake.h"

#define SMALL 40u
#define LARGE 700u

static cmb_bytes number_key(unsigned i, char out[16])
{
    snprintf(out, 16, "key%06u", i * 7919 % 1000003);
    return str(out);
}

/* One commit with one more key above *at and its root. The first error. */
static int add_one(cmb_intake *in, cmb_store *store, unsigned i, cmb_noderef *root, cmb_commit_at *at, uint64_t *generation)
{
    char key[16], message[32];
    cmb_editor *editor;
    cmb_edit edit = {.kind = CMB_EDIT_PUT, .key = number_key(i, key), .value = {&i, sizeof i}};
    snprintf(message, sizeof message, "ring %u", i);
    int error = cmb_editor_open(&store->tree, root, cmb_intake_appender(in), &editor);
    if (error)
        return error;
    error = cmb_editor_push(editor, &edit);
    if (error) {
        cmb_editor_abort(editor);
        return error;
    }
    error = cmb_editor_finish(editor, root);
    if (error)
        return error;
    cmb_commit_draft draft = {.root = *root,
                              .parents = at,
                              .parent_count = at->id.size ? 1 : 0,
                              .generation = *generation + 1,
                              .time = i + 1,
                              .author = "ada",
                              .message = message};
    cmb_commit_at made;
    error = cmb_intake_commit(in, &draft, &made);
    if (error)
        return error;
    *at = made;
    *generation += 1;
    return 0;
}

/* n commits above what `rev` stands on (NULL: nothing). */
static int add_history(cmb_intake *in, cmb_store *store, const char *rev, unsigned n, cmb_commit_at *out_tip)
{
    cmb_resolved base = {.content = false};
    int error = 0;
    cmb_state_empty(store, &base.state);
    if (rev)
        error = cmb_rev_resolve(store, rev, &base);
    cmb_noderef root = base.state.commit_root;
    cmb_commit_at at = base.state.commit;
    uint64_t generation = base.state.generation;
    for (unsigned i = 0; !error && i < n; i++)
        error = add_one(in, store, i, &root, &at, &generation);
    if (!error)
        *out_tip = at;
    return error;
}

static int count_commit(void *ctx, const cmb_commit *commit)
{
    (void)commit;
    ++*(unsigned *)ctx;
    return 0;
}

static unsigned history_of(cmb_store *store, const char *rev)
{
    unsigned n = 0;
    must(cmb_log_first_parents(store, rev, count_commit, &n));
    return n;
}

static int count_at(void *ctx, const cmb_commit_at *at)
{
    (void)at;
    ++*(unsigned *)ctx;
    return 0;
}

static unsigned indexed(cmb_store *store)
{
    unsigned n = 0;
    must(cmb_commits_each(store, count_at, &n));
    return n;
}

static int print_finding(void *ctx, const cmb_finding *f)
{
    (void)ctx;
    print_message("%s: %s (%s)\n", f->code, f->text, f->where);
    return 0;
}

static void is_sound(cmb_store *store)
{
    cmb_fsck_options o = {.level = CMB_FSCK_FULL, .on_finding = print_finding};
    cmb_fsck_result r;
    must(cmb_fsck(store, &o, &r));
    assert_int_equal(r.findings, 0);
}

/* n commits on a branch of that name; every one is there, and the content is that of the last. */
static void has_history(cmb_store *store, const char *branch, unsigned n)
{
    char key[16], rev[64];
    cmb_snapshot *s;
    cmb_bytes got;
    assert_int_equal(history_of(store, branch), n);
    assert_int_equal(rev_of(store, branch).entries, n);
    must(cmb_snapshot_open(store, branch, &s));
    for (unsigned i = 0; i < n; i++) {
        must(cmb_get(s, number_key(i, key), &got));
        assert_memory_equal(got.data, &i, sizeof i);
    }
    cmb_snapshot_close(s);
    snprintf(rev, sizeof rev, "%s~%u", branch, n / 2);
    assert_int_equal(rev_of(store, rev).entries, n - n / 2);
}

static void becomes_visible(unsigned n)
{
    bed b;
    cmb_intake *in;
    cmb_commit_at tip, found;
    cmb_rev rev;
    bed_open(&b);
    put(b.store, "main", "other", "v", "one");
    must(cmb_intake_open(b.store, &in));
    must(add_history(in, b.store, NULL, n, &tip));
    must(cmb_intake_ref(in, "heads/import", NULL, &tip, CMB_REFLOG_SET));
    must_be(cmb_rev_parse(b.store, "import", &rev), CMB_ENOTFOUND);
    must_be(cmb_commit_find(b.store, &tip.id, &found), CMB_ENOTFOUND);
    must(cmb_intake_find(in, &tip.id, &found));
    assert_int_equal(found.addr, tip.addr);
    assert_int_equal(indexed(b.store), 1);
    is_sound(b.store);
    must(cmb_intake_publish(in));
    for (unsigned round = 0; round < 2; round++) {
        has_history(b.store, "import", n);
        must(cmb_commit_find(b.store, &tip.id, &found));
        assert_int_equal(found.addr, tip.addr);
        assert_int_equal(indexed(b.store), n + 1);
        expect(b.store, "main", "other", "v");
        is_sound(b.store);
        bed_reopen(&b);
    }
    put(b.store, "import", "more", "v", "on top");
    must(cmb_store_checkpoint(b.store));
    bed_reopen(&b);
    has_history(b.store, "import~1", n);
    assert_int_equal(indexed(b.store), n + 2);
    is_sound(b.store);
    bed_close(&b);
}

static void a_short_history_becomes_visible_when_it_is_published(void **state)
{
    (void)state;
    becomes_visible(SMALL);
}

static void a_long_history_becomes_visible_when_it_is_published(void **state)
{
    (void)state;
    becomes_visible(LARGE);
}

static void of_an_aborted_intake_nothing_is_seen_and_its_space_comes_back(void **state)
{
    bed b;
    (void)state;
    memset(&b, 0, sizeof b);
    bed_open_with(&b, 32 << 20, NULL);
    put(b.store, "main", "k", "v", "one");
    cmb_rev before = rev_of(b.store, "main");
    for (unsigned round = 0; round < 40; round++) {
        cmb_intake *in;
        cmb_commit_at tip;
        must(cmb_intake_open(b.store, &in));
        must(add_history(in, b.store, "main", round % 4 ? SMALL : LARGE, &tip));
        must(cmb_intake_ref(in, "heads/import", NULL, &tip, CMB_REFLOG_SET));
        must(cmb_intake_ref(in, "heads/main", NULL, NULL, CMB_REFLOG_DELETED));
        cmb_intake_abort(in);
    }
    cmb_intake_abort(NULL);
    for (unsigned round = 0; round < 2; round++) {
        cmb_rev after = rev_of(b.store, "main");
        assert_true(same_name(&before.commit, &after.commit));
        assert_int_equal(indexed(b.store), 1);
        is_sound(b.store);
        bed_reopen(&b);
    }
    bed_close(&b);
}

static void commits_that_are_there_are_found_and_not_written_again(void **state)
{
    bed b;
    (void)state;
    bed_open(&b);
    cmb_commit_at first = {0};
    for (unsigned round = 0; round < 2; round++) {
        cmb_intake *in;
        cmb_commit_at tip, again;
        must(cmb_intake_open(b.store, &in));
        must(add_history(in, b.store, NULL, SMALL, &tip));
        must(add_history(in, b.store, NULL, SMALL, &again)); /* the same once more, in the same intake */
        assert_int_equal(tip.addr, again.addr);
        must(cmb_intake_ref(in, "tags/v1", NULL, &tip, CMB_REFLOG_SET));
        must(cmb_intake_publish(in));
        if (round)
            assert_int_equal(tip.addr, first.addr);
        first = tip;
        assert_int_equal(indexed(b.store), SMALL);
    }
    is_sound(b.store);
    bed_close(&b);
}

static void an_intake_that_changes_nothing_writes_nothing(void **state)
{
    bed b;
    cmb_intake *in;
    cmb_commit_at tip;
    cmb_log_stats before, after;
    (void)state;
    bed_open(&b);
    must(cmb_intake_open(b.store, &in));
    must(add_history(in, b.store, NULL, SMALL, &tip));
    must(cmb_intake_ref(in, "heads/x", NULL, &tip, CMB_REFLOG_SET));
    must(cmb_intake_publish(in));
    cmb_log_get_stats(b.store->log, &before);
    for (unsigned k = 0; k < 3; k++) {
        must(cmb_intake_open(b.store, &in));
        if (k)
            must(add_history(in, b.store, NULL, SMALL, &tip));
        if (k)
            must(cmb_intake_ref(in, "heads/x", k > 1 ? &tip.id : NULL, &tip, CMB_REFLOG_SET));
        must(cmb_intake_ref(in, "tags/none", NULL, NULL, CMB_REFLOG_DELETED));
        must(cmb_intake_publish(in));
    }
    cmb_log_get_stats(b.store->log, &after);
    assert_int_equal(after.bytes_written, before.bytes_written);
    bed_close(&b);
}

/* What publishing a ref with this expectation says; the intake brings one commit as well. */
static int try_ref(cmb_store *store, const char *name, const cmb_name *expected)
{
    cmb_intake *in;
    cmb_commit_at tip;
    must(cmb_intake_open(store, &in));
    must(add_history(in, store, NULL, 3, &tip));
    must(cmb_intake_ref(in, name, expected, &tip, CMB_REFLOG_SET));
    return cmb_intake_publish(in);
}

static void a_ref_that_stands_elsewhere_stops_all_of_it(void **state)
{
    static const cmb_name none;
    bed b;
    (void)state;
    bed_open(&b);
    must(cmb_branch_create(b.store, "side", NULL));
    cmb_rev one = put(b.store, "main", "k", "1", "one"), two = put(b.store, "main", "k", "2", "two");
    must_be(try_ref(b.store, "heads/main", &none), CMB_ECONFLICT);
    must_be(try_ref(b.store, "heads/main", &one.commit), CMB_ECONFLICT);
    must_be(try_ref(b.store, "heads/absent", &one.commit), CMB_ECONFLICT);
    assert_int_equal(indexed(b.store), 2);
    put(b.store, "main", "k", "3", NULL);
    must_be(try_ref(b.store, "heads/main", &two.commit), CMB_ECONFLICT); /* a working state stands above it */
    expect(b.store, "main", "k", "3");
    assert_int_equal(indexed(b.store), 2);
    put(b.store, "main", "k", "2", NULL);
    must(try_ref(b.store, "heads/main", &two.commit));
    must(try_ref(b.store, "heads/side", &none)); /* stands on nothing */
    must(try_ref(b.store, "tags/new", &none));
    must_be(try_ref(b.store, "tags/new", &none), CMB_ECONFLICT);
    must(try_ref(b.store, "heads/main", NULL));
    assert_int_equal(indexed(b.store), 5);
    has_history(b.store, "main", 3);
    has_history(b.store, "side", 3);
    is_sound(b.store);
    bed_close(&b);
}

static void a_commit_that_came_by_another_way_meanwhile_is_told(void **state)
{
    static const unsigned sizes[] = {SMALL, LARGE};
    bed b;
    (void)state;
    bed_open(&b);
    for (unsigned i = 0; i < 8; i++) {
        cmb_intake *first, *second;
        cmb_commit_at tip;
        char rev[32], name[32];
        snprintf(rev, sizeof rev, "base%u", i);
        snprintf(name, sizeof name, "heads/%u", i);
        must(cmb_branch_create(b.store, rev, NULL));
        put(b.store, rev, rev, "v", "one");
        must(cmb_intake_open(b.store, &first));
        must(cmb_intake_open(b.store, &second));
        must(add_history(first, b.store, rev, sizes[i & 1], &tip));
        must(cmb_intake_ref(first, name, NULL, &tip, CMB_REFLOG_SET));
        must(add_history(second, b.store, rev, sizes[i >> 1 & 1], &tip));
        must(cmb_intake_ref(second, name, NULL, &tip, CMB_REFLOG_SET));
        must(cmb_intake_publish(first));
        if (i & 4)
            must(cmb_store_checkpoint(b.store));
        must_be(cmb_intake_publish(second), CMB_ECONFLICT);
        must(cmb_intake_open(b.store, &second));
        must(add_history(second, b.store, rev, sizes[i >> 1 & 1], &tip));
        must(cmb_intake_ref(second, name, NULL, &tip, CMB_REFLOG_SET));
        must(cmb_intake_publish(second));
        assert_int_equal(history_of(b.store, name + sizeof "heads/" - 1), sizes[i >> 1 & 1] + 1);
    }
    is_sound(b.store);
    bed_close(&b);
}

static void names_of_refs_are_checked(void **state)
{
    bed b;
    cmb_intake *in;
    (void)state;
    bed_open(&b);
    must(cmb_intake_open(b.store, &in));
    must_be(cmb_intake_ref(in, "main", NULL, NULL, CMB_REFLOG_SET), CMB_EINVAL);
    must_be(cmb_intake_ref(in, "heads/", NULL, NULL, CMB_REFLOG_SET), CMB_EINVAL);
    must_be(cmb_intake_ref(in, "tags/a..b", NULL, NULL, CMB_REFLOG_SET), CMB_EINVAL);
    cmb_intake_abort(in);
    bed_close(&b);
}

static void a_branch_with_a_transaction_of_this_thread_is_busy(void **state)
{
    bed b;
    cmb_txn *txn;
    (void)state;
    bed_open(&b);
    must(cmb_txn_begin(b.store, "main", 0, &txn));
    must_be(try_ref(b.store, "heads/main", NULL), CMB_EBUSY);
    must(cmb_txn_put(txn, str("k"), str("v")));
    must(cmb_txn_commit(txn, NULL, NULL));
    assert_int_equal(indexed(b.store), 0);
    bed_close(&b);
}

static int first_reason(void *ctx, const cmb_reflog_entry *entry)
{
    *(cmb_reflog_reason *)ctx = entry->reason;
    return 1;
}

static void thousands_of_refs_move_at_once(void **state)
{
    enum { REFS = 6000 };
    bed b;
    cmb_intake *in;
    cmb_commit_at tip;
    char name[CMB_REF_FULL_SIZE];
    cmb_reflog_reason reason = CMB_REFLOG_SET;
    (void)state;
    bed_open(&b);
    put(b.store, "main", "k", "v", "one");
    for (unsigned round = 0; round < 2; round++) {
        must(cmb_intake_open(b.store, &in));
        must(add_history(in, b.store, "main", 2, &tip));
        for (unsigned i = 0; i < REFS; i++) {
            snprintf(name, sizeof name, "tags/release/%u/with-a-name-of-some-length", i);
            must(cmb_intake_ref(in, name, NULL, &tip, CMB_REFLOG_SET));
        }
        must(cmb_intake_ref(in, name, NULL, round ? NULL : &tip, CMB_REFLOG_DELETED)); /* the later call counts */
        must(cmb_intake_publish(in));
    }
    must_be(cmb_reflog(b.store, "tags/release/7/with-a-name-of-some-length", first_reason, &reason), CMB_ESTOPPED);
    assert_int_equal(reason, CMB_REFLOG_CREATED);
    for (unsigned round = 0; round < 2; round++) {
        cmb_rev rev;
        assert_int_equal(rev_of(b.store, "release/0/with-a-name-of-some-length").entries, 3);
        snprintf(name, sizeof name, "release/%u/with-a-name-of-some-length", REFS - 2);
        assert_int_equal(rev_of(b.store, name).entries, 3);
        snprintf(name, sizeof name, "release/%u/with-a-name-of-some-length", REFS - 1);
        must_be(cmb_rev_parse(b.store, name, &rev), CMB_ENOTFOUND);
        assert_int_equal(indexed(b.store), 3);
        bed_reopen(&b);
    }
    is_sound(b.store);
    bed_close(&b);
}

/* Enough to push the log's head into another segment. */
static void put_much(cmb_store *store, const char *branch, unsigned round, const char *message)
{
    static uint8_t value[900];
    cmb_txn *txn;
    cmb_commit_info info = {.author = "ada", .message = message};
    must(cmb_txn_begin(store, branch, 0, &txn));
    for (unsigned i = 0; i < 1500; i++) {
        char key[32];
        snprintf(key, sizeof key, "%u/%u", i * 7919 % 1501, round);
        must(cmb_txn_put(txn, str(key), (cmb_bytes){value, sizeof value}));
    }
    must(cmb_txn_commit(txn, &info, NULL));
}

static void what_others_commit_meanwhile_can_be_built_upon(void **state)
{
    bed b;
    cmb_intake *in;
    cmb_commit_at tips[6];
    (void)state;
    memset(&b, 0, sizeof b);
    bed_open_with(&b, 0, &(cmb_init_options){.segment_size = 2 << 20});
    must(cmb_intake_open(b.store, &in));
    must(add_history(in, b.store, NULL, SMALL, &tips[0]));
    must(cmb_intake_ref(in, "heads/b0", NULL, &tips[0], CMB_REFLOG_SET));
    for (unsigned i = 1; i < 6; i++) {
        char name[32];
        put_much(b.store, "main", i, "ring");
        must(add_history(in, b.store, "main", i % 2 ? SMALL : LARGE, &tips[i]));
        snprintf(name, sizeof name, "heads/b%u", i);
        must(cmb_intake_ref(in, name, NULL, &tips[i], CMB_REFLOG_SET));
        if (i == 3)
            must(cmb_store_checkpoint(b.store));
        is_sound(b.store);
    }
    put_much(b.store, "main", 7, NULL);
    must(cmb_intake_publish(in));
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < 6; i++) {
            char name[32];
            snprintf(name, sizeof name, "b%u", i);
            assert_int_equal(history_of(b.store, name), i + (!i || i % 2 ? SMALL : LARGE));
        }
        is_sound(b.store);
        bed_reopen(&b);
    }
    bed_close(&b);
}

/* ---- several threads ---- */

typedef struct job {
    cmb_store *store;
    unsigned number;
    int failed;
} job;

#define try(x) do { if (x) { j->failed = __LINE__; return NULL; } } while (0)

static void *take_in(void *arg)
{
    job *j = arg;
    for (unsigned i = 0; i < 6; i++) {
        cmb_intake *in;
        cmb_commit_at tip;
        char name[32];
        snprintf(name, sizeof name, "heads/%u/%u", j->number, i);
        for (int error = CMB_ECONFLICT; error;) { /* the other may have taken in the same commits meanwhile */
            try(error != CMB_ECONFLICT);
            try(cmb_intake_open(j->store, &in));
            try(add_history(in, j->store, "main", i % 2 ? SMALL + j->number : LARGE + j->number, &tip));
            try(cmb_intake_ref(in, name, NULL, &tip, CMB_REFLOG_SET));
            try(cmb_intake_ref(in, "tags/last", NULL, &tip, CMB_REFLOG_SET));
            error = cmb_intake_publish(in);
        }
    }
    return NULL;
}

static void *make_checkpoints(void *arg)
{
    job *j = arg;
    for (unsigned i = 0; i < 30; i++)
        try(cmb_store_checkpoint(j->store));
    return NULL;
}

static void *write_on(void *arg)
{
    job *j = arg;
    for (unsigned i = 0; i < 60; i++) {
        char key[32];
        cmb_txn *txn;
        cmb_commit_info info = {.message = i % 3 ? "ring" : NULL};
        snprintf(key, sizeof key, "%u/%u", j->number, i);
        try(cmb_txn_begin(j->store, "main", 0, &txn));
        try(cmb_txn_put(txn, str(key), str(key)));
        try(cmb_txn_commit(txn, &info, NULL));
        if (i % 10 == 0) {
            try(cmb_branch_create(j->store, key, "main")); /* seals */
        }
    }
    return NULL;
}

static void intakes_transactions_and_checkpoints_go_on_beside_each_other(void **state)
{
    static void *(*const run[])(void *) = {take_in, take_in, make_checkpoints, write_on, write_on};
    bed b;
    pthread_t threads[5];
    job jobs[5];
    (void)state;
    bed_open(&b);
    for (unsigned i = 0; i < 5; i++) {
        jobs[i] = (job){b.store, i, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, run[i], &jobs[i]), 0);
    }
    for (unsigned i = 0; i < 5; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(jobs[i].failed, 0);
    }
    unsigned commits = indexed(b.store);
    assert_true(commits > LARGE + SMALL);
    for (unsigned round = 0; round < 2; round++) {
        assert_int_equal(rev_of(b.store, "main").entries, 2 * 60);
        for (unsigned t = 0; t < 2; t++)
            for (unsigned i = 0; i < 6; i++) {
                char name[32];
                snprintf(name, sizeof name, "%u/%u", t, i);
                assert_true(history_of(b.store, name) >= (i % 2 ? SMALL : LARGE) + t);
            }
        assert_int_equal(indexed(b.store), commits);
        is_sound(b.store);
        bed_reopen(&b);
    }
    bed_close(&b);
}

/* ---- crashes ---- */

#define IMAGE ((uint64_t)24 << 20)

typedef struct event {
    cmb_op op;
    uint64_t offset, length;
    uint8_t *data;
} event;

typedef struct trace {
    event *events;
    size_t n, capacity;
} trace;

static void on_event(void *ctx, const cmb_trace_event *e)
{
    trace *t = ctx;
    if (e->result || (e->op != CMB_OP_WRITE && e->op != CMB_OP_FLUSH))
        return;
    if (t->n == t->capacity) {
        t->capacity = t->capacity ? 2 * t->capacity : 256;
        t->events = realloc(t->events, t->capacity * sizeof *t->events);
        assert_non_null(t->events);
    }
    event *to = &t->events[t->n++];
    *to = (event){e->op, e->offset, e->length, NULL};
    if (e->op == CMB_OP_WRITE) {
        to->data = malloc(e->length);
        assert_non_null(to->data);
        memcpy(to->data, e->data, e->length);
    }
}

/* What the device may hold if the power goes after event `upto`: all that was flushed, of the rest any sectors. */
static cmb_device *wreck(const trace *t, size_t upto, uint64_t *seed)
{
    cmb_device *dev;
    cmb_queue *q;
    size_t flushed = 0;
    _Alignas(4096) static uint8_t block[4096];
    must(cmb_device_mem(IMAGE, NULL, &dev));
    must(cmb_queue_open(dev, 1, &q));
    for (size_t i = 0; i < upto; i++)
        if (t->events[i].op == CMB_OP_FLUSH)
            flushed = i;
    unsigned mood = (unsigned)(bed_mix(seed) % 3); /* all land, none does, or some sectors do */
    for (size_t i = 0; i < upto; i++) {
        const event *e = &t->events[i];
        if (e->op != CMB_OP_WRITE || (i > flushed && mood == 1))
            continue;
        if (i < flushed || mood == 0) {
            must(cmb_io_write(q, e->offset, e->data, e->length));
            continue;
        }
        for (uint64_t at = 0; at < e->length; at += sizeof block) {
            must(cmb_io_read(q, e->offset + at, block, sizeof block, 0));
            for (unsigned s = 0; s < sizeof block; s += 512)
                if (bed_mix(seed) % 2)
                    memcpy(block + s, e->data + at + s, 512);
            must(cmb_io_write(q, e->offset + at, block, sizeof block));
        }
    }
    cmb_queue_close(q);
    return dev;
}

static bool has_ref(cmb_store *store, const char *rev)
{
    cmb_rev r;
    return cmb_rev_parse(store, rev, &r) == 0;
}

static void power_may_go_at_any_time(unsigned n)
{
    bed b;
    trace t = {0};
    cmb_device *under;
    cmb_intake *in;
    cmb_commit_at tip;
    uint64_t seed = bed_seed();
    memset(&b, 0, sizeof b);
    b.env = (bed_env){.now = 1700000000000000, .random = 42};
    b.options.env = (cmb_env){.ctx = &b.env, .now = bed_now, .random = bed_random};
    must(cmb_device_mem(IMAGE, NULL, &under));
    must(cmb_device_trace(under, on_event, &t, &b.dev));
    must(cmb_store_init_device(b.dev, NULL, &b.options));
    must(cmb_store_open_device(b.dev, &b.options, &b.store));
    put(b.store, "main", "k", "v", "one");
    size_t before = t.n;
    must(cmb_intake_open(b.store, &in));
    must(add_history(in, b.store, "main", n, &tip));
    must(cmb_intake_ref(in, "heads/a", NULL, &tip, CMB_REFLOG_SET));
    must(cmb_intake_ref(in, "tags/b", NULL, &tip, CMB_REFLOG_SET));
    must(cmb_intake_publish(in));
    size_t done = t.n;
    put(b.store, "a", "more", "v", "two");
    print_message("seed %llu, %zu operations\n", (unsigned long long)seed, t.n - before);
    unsigned seen = 0, tries = 2 * bed_budget();
    for (size_t upto = before; upto <= t.n; upto++) {
        for (unsigned k = 0; k < tries; k++) {
            cmb_device *dev = wreck(&t, upto, &seed);
            cmb_store *store;
            must(cmb_store_open_device(dev, &b.options, &store));
            bool there = has_ref(store, "a");
            assert_int_equal(there, has_ref(store, "b"));
            assert_true(there || upto < done);
            assert_int_equal(history_of(store, "main"), 1);
            if (there) {
                assert_int_equal(history_of(store, "b"), n + 1);
                assert_true(indexed(store) >= n + 1);
                seen++;
            } else {
                assert_int_equal(indexed(store), 1);
            }
            if (k == 0)
                is_sound(store);
            put(store, "main", "after", "v", "it goes on");
            must(cmb_store_close(store));
            cmb_device_close(dev);
        }
    }
    assert_true(seen);
    bed_close(&b);
    for (size_t i = 0; i < t.n; i++)
        free(t.events[i].data);
    free(t.events);
}

static void a_power_cut_leaves_all_of_a_short_history_or_nothing(void **state)
{
    (void)state;
    power_may_go_at_any_time(SMALL);
}

static void a_power_cut_leaves_all_of_a_long_history_or_nothing(void **state)
{
    (void)state;
    power_may_go_at_any_time(300);
}

/* ---- failing devices, no space, no memory ---- */

static int take_in_until(cmb_store *store, unsigned n, const char *name)
{
    cmb_intake *in;
    cmb_commit_at tip;
    int error = cmb_intake_open(store, &in);
    if (error)
        return error;
    error = add_history(in, store, NULL, n, &tip);
    if (!error)
        error = cmb_intake_ref(in, name, NULL, &tip, CMB_REFLOG_SET);
    if (!error)
        return cmb_intake_publish(in);
    cmb_intake_abort(in);
    return error;
}

static void stop_everywhere(unsigned n)
{
    char image[64];
    cmb_init_options init = {.force = true};
    int error = 1;
    unsigned stops = 0;
    snprintf(image, sizeof image, "/tmp/cambium-intake-%ld.cmb", (long)getpid());
    for (uint64_t at = 0; error && at < 400; at++, stops++) {
        cmb_fault_rule rule = {.kind = CMB_FAULT_STOP, .first = at};
        cmb_store_options options = {.residency = CMB_RESIDENT_POOL};
        cmb_device *under, *dev;
        cmb_store *store;
        must(cmb_store_init(image, &init, NULL));
        must(cmb_device_open(image, CMB_OPEN_WRITE, NULL, &under));
        must(cmb_device_fault(under, &rule, 1, 1, &dev));
        error = cmb_store_open_device(dev, &options, &store);
        if (!error) {
            cmb_intake *in;
            error = take_in_until(store, n, "heads/import");
            if (error == CMB_EUNKNOWN)
                must_be(cmb_intake_open(store, &in), CMB_EREADONLY);
            (void)cmb_store_close(store);
        }
        cmb_device_close(dev);
        must(cmb_store_open(image, NULL, &store));
        if (!error || has_ref(store, "import"))
            has_history(store, "import", n);
        else
            assert_int_equal(indexed(store), 0);
        must(cmb_store_close(store));
    }
    unlink(image);
    assert_int_equal(error, 0);
    assert_true(stops > 3);
}

static void a_device_that_stops_is_told(void **state)
{
    (void)state;
    stop_everywhere(SMALL);
    stop_everywhere(300);
}

static void a_full_device_refuses_and_goes_on(void **state)
{
    bed b;
    unsigned n = 0;
    (void)state;
    memset(&b, 0, sizeof b);
    bed_open_with(&b, 24 << 20, NULL);
    put(b.store, "main", "k", "v", "one");
    must_be(take_in_until(b.store, 20000, "heads/import"), CMB_ENOSPC);
    assert_int_equal(indexed(b.store), 1);
    put(b.store, "main", "k", "w", "two");
    must(take_in_until(b.store, LARGE, "heads/first"));
    int error = 0; /* and where only the last step finds no room */
    for (; !error && n < 200; n++) {
        char name[32];
        snprintf(name, sizeof name, "heads/f%u", n);
        error = take_in_until(b.store, LARGE + 1 + n, name);
    }
    must_be(error, CMB_ENOSPC);
    for (unsigned round = 0; round < 2; round++) {
        char name[32];
        cmb_rev rev;
        snprintf(name, sizeof name, "f%u", n - 1);
        must_be(cmb_rev_parse(b.store, name, &rev), CMB_ENOTFOUND);
        has_history(b.store, "first", LARGE);
        assert_int_equal(indexed(b.store), 2 + LARGE + n - 1);
        expect(b.store, "main", "k", "w");
        is_sound(b.store);
        bed_reopen(&b);
    }
    bed_close(&b);
}

typedef struct meter {
    uint64_t left; /* allocations until one fails */
    int64_t held;  /* bytes */
    bool failed;
} meter;

static bool meter_refuses(meter *m)
{
    if (m->failed || --m->left)
        return false;
    m->failed = true;
    return true;
}

static void *meter_alloc(void *ctx, size_t size)
{
    meter *m = ctx;
    void *p = meter_refuses(m) ? NULL : malloc(size);
    m->held += p ? (int64_t)size : 0;
    return p;
}

static void *meter_resize(void *ctx, void *ptr, size_t old_size, size_t new_size)
{
    meter *m = ctx;
    void *p = meter_refuses(m) ? NULL : realloc(ptr, new_size);
    m->held += p ? (int64_t)new_size - (int64_t)old_size : 0;
    return p;
}

static void meter_release(void *ctx, void *ptr, size_t size)
{
    meter *m = ctx;
    m->held -= (int64_t)size;
    free(ptr);
}

static void without_memory(unsigned n)
{
    bool more = true;
    unsigned rounds = 0;
    for (uint64_t k = 1; more; k += 1 + k / (2 * bed_budget()), rounds++) {
        meter m = {.left = k};
        bed b;
        cmb_store *store;
        bed_open(&b);
        put(b.store, "main", "k", "v", "one");
        must(cmb_store_close(b.store));
        cmb_store_options o = {.alloc = {&m, meter_alloc, meter_resize, meter_release}, .env = b.options.env};
        int error = cmb_store_open_device(b.dev, &o, &store);
        if (!error) {
            error = take_in_until(store, n, "heads/import");
            more = m.failed;
            m.failed = true; /* once is enough */
            if (error) {
                must_be(error, CMB_ENOMEM);
                assert_int_equal(indexed(store), 1);
                must(take_in_until(store, n, "heads/import"));
            }
            has_history(store, "import", n);
            error = cmb_store_close(store);
        }
        if (error)
            must_be(error, CMB_ENOMEM);
        assert_int_equal(m.held, 0);
        cmb_device_close(b.dev);
    }
    assert_true(rounds > 10);
}

static void refused_memory_is_a_clean_error(void **state)
{
    (void)state;
    without_memory(SMALL);
    without_memory(300);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_short_history_becomes_visible_when_it_is_published),
        cmocka_unit_test(a_long_history_becomes_visible_when_it_is_published),
        cmocka_unit_test(of_an_aborted_intake_nothing_is_seen_and_its_space_comes_back),
        cmocka_unit_test(commits_that_are_there_are_found_and_not_written_again),
        cmocka_unit_test(an_intake_that_changes_nothing_writes_nothing),
        cmocka_unit_test(a_ref_that_stands_elsewhere_stops_all_of_it),
        cmocka_unit_test(a_commit_that_came_by_another_way_meanwhile_is_told),
        cmocka_unit_test(names_of_refs_are_checked),
        cmocka_unit_test(a_branch_with_a_transaction_of_this_thread_is_busy),
        cmocka_unit_test(thousands_of_refs_move_at_once),
        cmocka_unit_test(what_others_commit_meanwhile_can_be_built_upon),
        cmocka_unit_test(intakes_transactions_and_checkpoints_go_on_beside_each_other),
        cmocka_unit_test(a_power_cut_leaves_all_of_a_short_history_or_nothing),
        cmocka_unit_test(a_power_cut_leaves_all_of_a_long_history_or_nothing),
        cmocka_unit_test(a_device_that_stops_is_told),
        cmocka_unit_test(a_full_device_refuses_and_goes_on),
        cmocka_unit_test(refused_memory_is_a_clean_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
