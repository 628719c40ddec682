/* SPDX-License-Identifier: ISC */
/* Watches: what is told, of what, in which order, and what happens when there is no room. */
#include "damage.h"

#include <cambium/merge.h>
#include <cambium/sync.h>
#include <cambium/watch.h>

#define LOG_MAX 4096

/* What a watch was told: one letter and the entries after it for each event. */
typedef struct told {
    bed *b;
    cmb_watch *watch;
    unsigned count, lost;
    cmb_event_kind kinds[LOG_MAX];
    bool existed[LOG_MAX], exists[LOG_MAX];
    cmb_rev before[LOG_MAX], after[LOG_MAX];
    uint64_t numbers[LOG_MAX];
} told;

static void note(void *ctx, const cmb_event *e)
{
    told *t = ctx;
    assert_true(t->count < LOG_MAX);
    assert_ptr_equal(e->watch, t->watch);
    assert_int_equal(e->error, 0);
    t->lost += e->kind == CMB_EVENT_LOST;
    t->kinds[t->count] = e->kind;
    t->existed[t->count] = e->existed;
    t->exists[t->count] = e->exists;
    t->before[t->count] = e->before;
    t->after[t->count] = e->after;
    t->numbers[t->count++] = e->number;
}

static void watch_with(told *t, bed *b, const cmb_watch_options *options)
{
    memset(t, 0, sizeof *t);
    t->b = b;
    must(cmb_watch_open(b->store, options, note, t, NULL, &t->watch));
}

static void watch(told *t, bed *b, const char *branch, bool lossless)
{
    watch_with(t, b, &(cmb_watch_options){.branch = branch, .lossless = lossless});
}

static void drain(bed *b)
{
    while (cmb_watch_dispatch(b->store, 100, 0) > 0)
        continue;
}

static void del(cmb_store *store, const char *branch, const char *key)
{
    cmb_txn *txn;
    must(cmb_txn_begin(store, branch, 0, &txn));
    must(cmb_txn_del(txn, str(key)));
    must(cmb_txn_commit(txn, NULL, NULL));
}

static bool same_rev(const cmb_rev *a, const cmb_rev *b)
{
    return same_name(&a->commit, &b->commit) && same_name(&a->base, &b->base) && same_name(&a->root, &b->root) &&
           a->working == b->working;
}

/* Event i leads from where the one before it led to. */
static void expect_chain(const told *t)
{
    for (unsigned i = 1; i < t->count; i++) {
        assert_true(same_rev(&t->before[i], &t->after[i - 1]));
        assert_int_equal(t->existed[i], t->exists[i - 1]);
        assert_true(t->numbers[i] > t->numbers[i - 1]);
    }
}

static void a_lossless_watch_is_told_of_each_commit_and_working_state_in_order(void **state)
{
    static told t;
    bed b;
    cmb_rev revs[40];
    bed_open(&b);
    watch(&t, &b, "main", true);
    for (unsigned i = 0; i < 40; i++) {
        char key[16];
        snprintf(key, sizeof key, "key%u", i);
        revs[i] = put(b.store, "main", key, "value", i % 3 ? NULL : "ring");
    }
    assert_int_equal(t.count, 0);
    drain(&b);
    assert_int_equal(t.count, 40);
    for (unsigned i = 0; i < 40; i++) {
        assert_int_equal(t.kinds[i], CMB_EVENT_CHANGED);
        assert_true(same_rev(&t.after[i], &revs[i]));
    }
    expect_chain(&t);
    cmb_watch_close(t.watch);
    bed_close(&b);
}

static void a_latest_watch_is_told_once_however_often_the_branch_moved(void **state)
{
    static told t;
    bed b;
    bed_open(&b);
    cmb_rev first = put(b.store, "main", "a", "1", "ring");
    watch(&t, &b, "main", false);
    put(b.store, "main", "a", "2", "ring");
    put(b.store, "main", "a", "3", NULL);
    cmb_rev last = put(b.store, "main", "a", "4", "ring");
    drain(&b);
    assert_int_equal(t.count, 1);
    assert_true(same_rev(&t.before[0], &first));
    assert_true(same_rev(&t.after[0], &last));
    drain(&b);
    assert_int_equal(t.count, 1);
    put(b.store, "main", "a", "5", NULL);
    drain(&b);
    assert_int_equal(t.count, 2);
    expect_chain(&t);
    cmb_watch_close(t.watch);
    bed_close(&b);
}

static void a_branch_that_does_not_exist_yet_can_be_watched_come_and_go(void **state)
{
    static told lossless, latest;
    bed b;
    bed_open(&b);
    put(b.store, "main", "a", "1", "ring");
    watch(&lossless, &b, "later", true);
    watch(&latest, &b, "later", false);
    put(b.store, "main", "a", "2", "ring");
    must(cmb_branch_create(b.store, "later", "main"));
    must(cmb_branch_delete(b.store, "later"));
    must(cmb_branch_create(b.store, "later", NULL));
    put(b.store, "later", "k", "v", NULL);
    must(cmb_branch_set(b.store, "later", "main"));
    drain(&b);
    assert_int_equal(lossless.count, 5);
    const bool exists[] = {true, false, true, true, true};
    const uint64_t entries[] = {1, 0, 0, 1, 1};
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(lossless.exists[i], exists[i]);
        assert_int_equal(lossless.after[i].entries, entries[i]);
    }
    assert_false(lossless.existed[0]);
    assert_true(lossless.after[3].working);
    expect_chain(&lossless);
    assert_int_equal(latest.count, 1);
    assert_false(latest.existed[0]);
    assert_true(latest.exists[0]);
    must(cmb_branch_delete(b.store, "later"));
    drain(&b);
    assert_int_equal(latest.count, 2);
    assert_false(latest.exists[1]);
    cmb_watch_close(latest.watch);
    cmb_watch_close(lossless.watch);
    bed_close(&b);
}

static void a_watch_of_a_key_is_told_only_when_that_key_changes(void **state)
{
    static told lossless, latest;
    bed b;
    bed_open(&b);
    watch_with(&lossless, &b, &(cmb_watch_options){.branch = "main", .key = str("k"), .lossless = true});
    watch_with(&latest, &b, &(cmb_watch_options){.branch = "main", .key = str("k")});
    put(b.store, "main", "j", "1", NULL);
    put(b.store, "main", "k\x01", "1", NULL);
    put(b.store, "main", "ka", "1", "ring");
    drain(&b);
    assert_int_equal(lossless.count + latest.count, 0);
    put(b.store, "main", "k", "1", NULL);
    put(b.store, "main", "ka", "2", NULL);
    put(b.store, "main", "k", "2", NULL);
    put(b.store, "main", "k", "2", "the same content, as a commit");
    del(b.store, "main", "k");
    drain(&b);
    assert_int_equal(lossless.count, 3);
    const uint64_t before[] = {3, 4, 4}, after[] = {4, 4, 3};
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(lossless.before[i].entries, before[i]);
        assert_int_equal(lossless.after[i].entries, after[i]);
    }
    assert_int_equal(latest.count, 0); /* it is as it was when the watch was told last: not there */
    put(b.store, "main", "k", "3", NULL);
    drain(&b);
    assert_int_equal(latest.count, 1);
    cmb_watch_close(latest.watch);
    cmb_watch_close(lossless.watch);
    bed_close(&b);
}

static void a_watch_of_a_prefix_is_told_only_of_changes_under_it(void **state)
{
    static told dir, range, none;
    bed b;
    bed_open(&b);
    watch_with(&dir, &b, &(cmb_watch_options){.branch = "work", .range.prefix = str("dir/"), .lossless = true});
    watch_with(&range, &b, &(cmb_watch_options){.branch = "work", .range = {.from = str("b"), .to = str("d")}, .lossless = true});
    watch_with(&none, &b, &(cmb_watch_options){.branch = "work", .range = {.from = str("x"), .to = str("b")}, .lossless = true});
    must(cmb_branch_create(b.store, "work", NULL));
    put(b.store, "work", "a", "1", NULL);
    put(b.store, "work", "dir", "1", NULL);
    put(b.store, "work", "dir0", "1", NULL);
    drain(&b);
    assert_int_equal(dir.count + range.count, 0);
    put(b.store, "work", "dir/x", "1", "ring");
    put(b.store, "work", "c", "1", NULL);
    must(cmb_branch_delete(b.store, "work"));
    drain(&b);
    assert_int_equal(dir.count, 2);
    assert_int_equal(dir.after[0].entries, 4);
    assert_false(dir.exists[1]);
    assert_int_equal(range.count, 2);
    assert_int_equal(none.count, 0);
    cmb_watch_close(dir.watch);
    cmb_watch_close(range.watch);
    cmb_watch_close(none.watch);
    bed_close(&b);
}

static void a_watch_of_a_large_content_finds_single_changes_under_it(void **state)
{
    static told t;
    bed b;
    cmb_txn *txn;
    unsigned hits = 0;
    bed_open(&b);
    must(cmb_txn_begin(b.store, "main", 0, &txn));
    for (unsigned i = 0; i < 20000; i++) {
        char key[16];
        snprintf(key, sizeof key, "key%06u", i);
        must(cmb_txn_put(txn, str(key), str("v")));
    }
    must(cmb_txn_commit(txn, NULL, NULL));
    watch_with(&t, &b, &(cmb_watch_options){.branch = "main", .range.prefix = str("key0073"), .lossless = true});
    uint64_t random = bed_seed();
    for (unsigned i = 0; i < 300; i++) {
        char key[16];
        uint64_t n = i % 10 ? bed_mix(&random) % 20000 : 7300 + bed_mix(&random) % 100;
        snprintf(key, sizeof key, "key%06u", (unsigned)n);
        char value[24];
        snprintf(value, sizeof value, "v%u", i);
        put(b.store, "main", key, value, NULL);
        hits += n >= 7300 && n < 7400;
    }
    drain(&b);
    assert_int_equal(t.count, hits);
    cmb_watch_close(t.watch);
    bed_close(&b);
}

#define MANY 40u

/* Few and many changes at once, so that what watches find out for each other counts as well as what each finds out alone. */
static void each_of_many_watches_of_a_branch_is_told_of_its_own_keys(void **state)
{
    static told told_of[MANY];
    unsigned expected[MANY] = {0};
    uint64_t random = bed_seed();
    bed b;
    print_message("seed %llu\n", (unsigned long long)random);
    bed_open(&b);
    for (unsigned i = 0; i < MANY; i++) {
        char prefix[8];
        snprintf(prefix, sizeof prefix, "%02u/", i);
        watch_with(&told_of[i], &b, &(cmb_watch_options){.branch = "main", .range.prefix = str(prefix), .lossless = true});
    }
    for (unsigned round = 1; round < 80; round++) {
        bool touched[MANY] = {false};
        cmb_txn *txn;
        must(cmb_txn_begin(b.store, "main", 0, &txn));
        for (unsigned n = 1 + (unsigned)(bed_mix(&random) % (round % 3 ? 3 : 90)); n > 0; n--) {
            uint64_t r = bed_mix(&random);
            unsigned i = (unsigned)r % (MANY + 9); /* some are nobody's */
            char key[200];
            snprintf(key, sizeof key, "%02u/%0*u", i, r >> 60 ? 3 : 150, (unsigned)(r >> 32) % 500);
            must(cmb_txn_put(txn, str(key), (cmb_bytes){(unsigned[]){round, n}, 2 * sizeof(unsigned)}));
            if (i < MANY)
                touched[i] = true;
        }
        must(cmb_txn_commit(txn, NULL, NULL));
        for (unsigned i = 0; i < MANY; i++)
            expected[i] += touched[i];
        if (round % 4 == 0)
            drain(&b);
    }
    drain(&b);
    for (unsigned i = 0; i < MANY; i++)
        assert_int_equal(told_of[i].count, expected[i]);
    bed_close(&b);
}

/* ---- where it begins, and what an event reads ---- */

static void read_event(void *ctx, const cmb_event *e)
{
    char *seen = ctx;
    cmb_snapshot *before, *after;
    cmb_bytes value;
    must(cmb_event_before(e, &before));
    must(cmb_event_after(e, &after));
    strcat(seen, cmb_get(before, str("k"), &value) ? "-" : (char[2]){*(const char *)value.data, 0});
    strcat(seen, cmb_get(after, str("k"), &value) ? "-" : (char[2]){*(const char *)value.data, 0});
    strcat(seen, " ");
    cmb_snapshot_close(before);
    cmb_snapshot_close(after);
}

static void an_event_reads_both_states_also_working_ones_that_are_past(void **state)
{
    bed b;
    cmb_watch *w;
    cmb_snapshot *start;
    char seen[64] = "";
    bed_open(&b);
    must(cmb_watch_open(b.store, &(cmb_watch_options){.branch = "new", .lossless = true}, read_event, seen, &start, &w));
    cmb_rev rev;
    cmb_snapshot_rev(start, &rev);
    assert_int_equal(rev.entries, 0);
    cmb_snapshot_close(start);
    must(cmb_branch_create(b.store, "new", NULL));
    put(b.store, "new", "k", "1", NULL);
    put(b.store, "new", "k", "2", NULL);
    put(b.store, "new", "k", "3", "ring");
    must(cmb_branch_delete(b.store, "new"));
    drain(&b);
    assert_string_equal(seen, "-- -1 12 23 3- ");
    cmb_watch_close(w);
    bed_close(&b);
}

static void a_watch_begins_where_its_start_says(void **state)
{
    static told t;
    bed b;
    cmb_snapshot *start;
    cmb_rev at;
    bed_open(&b);
    put(b.store, "main", "k", "1", NULL);
    memset(&t, 0, sizeof t);
    must(cmb_watch_open(b.store, &(cmb_watch_options){.branch = "main", .lossless = true}, note, &t, &start, &t.watch));
    put(b.store, "main", "k", "2", NULL);
    cmb_snapshot_rev(start, &at);
    cmb_bytes value;
    must(cmb_get(start, str("k"), &value));
    assert_memory_equal(value.data, "1", 1);
    cmb_snapshot_close(start);
    drain(&b);
    assert_int_equal(t.count, 1);
    assert_true(same_rev(&t.before[0], &at));
    cmb_watch_close(t.watch);
    bed_close(&b);
}

static void what_moves_a_branch_nowhere_is_no_event(void **state)
{
    static told t;
    bed b;
    bed_open(&b);
    put(b.store, "main", "k", "1", "ring");
    watch(&t, &b, "main", true);
    put(b.store, "main", "k", "1", NULL);
    must(cmb_branch_set(b.store, "main", "main"));
    must(cmb_tag_create(b.store, "v1", "main"));
    drain(&b);
    assert_int_equal(t.count, 0);
    cmb_watch_close(t.watch);
    bed_close(&b);
}

static void naming_a_working_state_is_told_to_the_branch_but_not_to_its_keys(void **state)
{
    static told branch, key;
    bed b;
    bed_open(&b);
    put(b.store, "main", "k", "1", NULL);
    watch(&branch, &b, "main", true);
    watch_with(&key, &b, &(cmb_watch_options){.branch = "main", .key = str("k"), .lossless = true});
    must(cmb_tag_create(b.store, "v1", "main"));
    drain(&b);
    assert_int_equal(branch.count, 1);
    assert_true(branch.before[0].working);
    assert_false(branch.after[0].working);
    assert_int_equal(key.count, 0);
    cmb_watch_close(branch.watch);
    cmb_watch_close(key.watch);
    bed_close(&b);
}

static void branches_that_move_together_have_events_of_one_number(void **state)
{
    static told a, c;
    bed b;
    cmb_txn *txns[2];
    bed_open(&b);
    must(cmb_branch_create(b.store, "other", NULL));
    watch(&a, &b, "main", true);
    watch(&c, &b, "other", false);
    must(cmb_txn_begin(b.store, "main", 0, &txns[0]));
    must(cmb_txn_begin(b.store, "other", 0, &txns[1]));
    must(cmb_txn_put(txns[0], str("k"), str("v")));
    must(cmb_txn_put(txns[1], str("k"), str("v")));
    must(cmb_txn_commit_many(txns, 2, NULL, NULL));
    drain(&b);
    assert_int_equal(a.count, 1);
    assert_int_equal(c.count, 1);
    assert_int_equal(a.numbers[0], c.numbers[0]);
    bed_close(&b); /* which ends them */
}

/* ---- room ---- */

static void a_watch_too_far_behind_is_told_that_it_lost_and_goes_on_lossless(void **state)
{
    static told slow, latest;
    bed b = {.options.watch_notes = 8};
    cmb_rev last = {.working = false};
    bed_open_with(&b, 0, NULL);
    watch(&slow, &b, "main", true);
    watch_with(&latest, &b, &(cmb_watch_options){.branch = "main", .key = str("none")});
    for (unsigned i = 0; i < 8; i++)
        put(b.store, "main", "k", (char[2]){(char)('a' + i), 0}, NULL);
    drain(&b);
    assert_int_equal(slow.count, 8);
    assert_int_equal(slow.lost, 0);
    for (unsigned i = 0; i < 9; i++)
        last = put(b.store, "main", "k", (char[2]){(char)('A' + i), 0}, NULL);
    drain(&b);
    assert_int_equal(slow.lost, 1);
    assert_int_equal(slow.count, 9);
    assert_int_equal(slow.kinds[8], CMB_EVENT_LOST);
    assert_true(same_rev(&slow.after[8], &last));
    for (unsigned i = 0; i < 5; i++)
        put(b.store, "main", "k", (char[2]){(char)('0' + i), 0}, NULL);
    drain(&b);
    assert_int_equal(slow.count, 14);
    assert_int_equal(slow.lost, 1);
    expect_chain(&slow);
    assert_int_equal(latest.count, 0);
    bed_close(&b);
}

/* A slow watch: while its callback runs, the branch moves on and others are told. */
typedef struct slow {
    bed *b;
    unsigned calls, lost;
} slow;

static void dawdle(void *ctx, const cmb_event *e)
{
    slow *s = ctx;
    s->lost += e->kind == CMB_EVENT_LOST;
    if (s->calls++)
        return;
    for (unsigned i = 0; i < 20; i++) {
        put(s->b->store, "main", "k", (char[2]){(char)('a' + i), 0}, NULL);
        drain(s->b);
    }
}

static void who_keeps_up_loses_nothing_because_of_who_does_not(void **state)
{
    static told quick;
    bed b = {.options.watch_notes = 4};
    slow s = {.b = &b};
    cmb_watch *w;
    bed_open_with(&b, 0, NULL);
    watch(&quick, &b, "main", true);
    must(cmb_watch_open(b.store, &(cmb_watch_options){.branch = "main", .lossless = true}, dawdle, &s, NULL, &w));
    put(b.store, "main", "k", "1", NULL);
    drain(&b);
    assert_int_equal(quick.count, 21);
    assert_int_equal(quick.lost, 0);
    expect_chain(&quick);
    assert_int_equal(s.lost, 1);
    assert_in_range(s.calls, 2, 6);
    cmb_watch_close(w);
    bed_close(&b);
}

/* An allocator that refuses blocks of certain sizes while it is told to. */
typedef struct meagre {
    bool on;
    size_t from, to;
    uint64_t refused, held;
} meagre;

static void *meagre_alloc(void *ctx, size_t size)
{
    meagre *m = ctx;
    if (m->on && size >= m->from && size <= m->to) {
        m->refused++;
        return NULL;
    }
    m->held += size;
    return malloc(size);
}

static void *meagre_resize(void *ctx, void *p, size_t old_size, size_t new_size)
{
    meagre *m = ctx;
    m->held += new_size - old_size;
    return realloc(p, new_size);
}

static void meagre_release(void *ctx, void *p, size_t size)
{
    meagre *m = ctx;
    if (p)
        m->held -= size;
    free(p);
}

static void without_memory_for_a_note_the_commit_succeeds_and_the_watch_is_told(void **state)
{
    static told t;
    meagre m = {.on = false};
    bed b = {.options.alloc = {&m, meagre_alloc, meagre_resize, meagre_release}};
    bed_open_with(&b, 0, NULL);
    cmb_device *dev = b.dev;
    watch(&t, &b, "main", true);
    put(b.store, "main", "k", "1", NULL);
    put(b.store, "main", "k", "2", NULL);
    /* Everything of the size of a note is refused; a commit may be as well, and then is tried again with memory. */
    unsigned committed = 2;
    for (size_t size = 128; size < CMB_WATCH_NOTE_MAX; size += 8) {
        cmb_txn *txn;
        must(cmb_txn_begin(b.store, "main", 0, &txn));
        must(cmb_txn_put(txn, str("k"), (cmb_bytes){&size, sizeof size}));
        m = (meagre){.on = true, .from = size, .to = size + 7, .refused = m.refused, .held = m.held};
        int error = cmb_txn_commit(txn, NULL, NULL);
        m.on = false;
        if (error == CMB_ENOMEM)
            must(cmb_txn_commit(txn, NULL, NULL));
        else
            must(error);
        committed++;
        uint64_t count = t.count;
        drain(&b);
        assert_true(t.count > count);
        cmb_rev now = rev_of(b.store, "main");
        assert_true(same_name(&t.after[t.count - 1].root, &now.root));
    }
    assert_true(t.lost >= 1);
    assert_true(t.count >= committed - 3);
    expect_chain(&t);
    cmb_watch_close(t.watch);
    must(cmb_store_close(b.store));
    cmb_device_close(dev);
    assert_int_equal(m.held, 0);
}

static void opening_a_watch_without_memory_changes_nothing(void **state)
{
    meagre m = {.on = false};
    bed b = {.options.alloc = {&m, meagre_alloc, meagre_resize, meagre_release}};
    bed_open_with(&b, 0, NULL);
    put(b.store, "main", "k", "1", NULL);
    static const cmb_watch_options options = {.branch = "other", .key = {"k", 1}, .lossless = true};
    unsigned refused = 0;
    for (size_t size = 1; size < 4096; size += 16) {
        cmb_watch *w = NULL;
        cmb_snapshot *start = NULL;
        m.on = true;
        m.from = size;
        m.to = size + 15;
        uint64_t held = m.held;
        int error = cmb_watch_open(b.store, &options, note, NULL, &start, &w);
        m.on = false;
        if (error) {
            must_be(error, CMB_ENOMEM);
            assert_null(w);
            assert_null(start);
            assert_true(m.held <= held + 512); /* the ref's place in the cache may have come */
            refused++;
        } else {
            cmb_snapshot_close(start);
            cmb_watch_close(w);
        }
    }
    assert_true(refused >= 3);
    bed_close(&b);
    assert_int_equal(m.held, 0);
}

/* ---- callbacks that change things ---- */

typedef struct meddler {
    bed *b;
    cmb_watch *own, *other;
    unsigned calls;
} meddler;

static void close_own(void *ctx, const cmb_event *e)
{
    meddler *m = ctx;
    m->calls++;
    cmb_watch_close(e->watch);
}

static void a_watch_can_be_closed_from_its_own_callback(void **state)
{
    bed b;
    meddler lossless = {.calls = 0}, latest = {.calls = 0};
    bed_open(&b);
    must(cmb_watch_open(b.store, &(cmb_watch_options){.branch = "main", .lossless = true}, close_own, &lossless, NULL, &lossless.own));
    must(cmb_watch_open(b.store, &(cmb_watch_options){.branch = "main"}, close_own, &latest, NULL, &latest.own));
    put(b.store, "main", "k", "1", NULL);
    put(b.store, "main", "k", "2", NULL);
    assert_int_equal(cmb_watch_dispatch(b.store, 100, 0), 2);
    assert_int_equal(lossless.calls, 1);
    assert_int_equal(latest.calls, 1);
    put(b.store, "main", "k", "3", NULL);
    assert_int_equal(cmb_watch_dispatch(b.store, 100, 0), 0);
    bed_close(&b);
}

static void close_other(void *ctx, const cmb_event *e)
{
    meddler *m = ctx;
    m->calls++;
    cmb_watch_close(m->other);
    m->other = NULL;
}

static void a_callback_can_close_and_open_other_watches(void **state)
{
    static told t;
    bed b;
    meddler m = {.calls = 0};
    bed_open(&b);
    watch(&t, &b, "main", true);
    must(cmb_watch_open(b.store, &(cmb_watch_options){.branch = "main", .lossless = true}, close_other, &m, NULL, &m.own));
    m.other = t.watch;
    put(b.store, "main", "k", "1", NULL);
    put(b.store, "main", "k", "2", NULL);
    drain(&b);
    assert_true(t.count <= 1);
    assert_int_equal(m.calls, 2);
    bed_close(&b);
}

static void write_more(void *ctx, const cmb_event *e)
{
    meddler *m = ctx;
    char value[16];
    if (++m->calls < 10) {
        snprintf(value, sizeof value, "%u", m->calls);
        put(m->b->store, "main", "k", value, m->calls % 2 ? NULL : "ring");
        assert_int_equal(cmb_watch_dispatch(m->b->store, 100, 0), 0); /* not of its own */
    }
}

static void a_callback_can_commit_and_is_told_of_it_afterwards(void **state)
{
    bed b;
    meddler m = {.b = &b};
    bed_open(&b);
    must(cmb_watch_open(b.store, &(cmb_watch_options){.branch = "main", .lossless = true}, write_more, &m, NULL, &m.own));
    put(b.store, "main", "k", "0", NULL);
    drain(&b);
    assert_int_equal(m.calls, 10);
    cmb_watch_close(m.own);
    bed_close(&b);
}

/* ---- damage ---- */

static void keep_error(void *ctx, const cmb_event *e)
{
    *(int *)ctx = e->error;
}

static void what_cannot_be_compared_is_told_with_the_reason(void **state)
{
    bed b;
    cmb_watch *near, *far;
    int near_error = 1, far_error = 1;
    make_history(&b);
    put(b.store, "feature", "key000000", "changed", "ring");
    cmb_noderef leaf = first_node(&b, "v1", 0);
    damage_record(&b, leaf.addr, leaf.length, leaf.length / 2);
    bed_reopen(&b);
    must(cmb_watch_open(b.store, &(cmb_watch_options){.branch = "feature", .range.prefix = str("key000000"), .lossless = true}, keep_error,
                        &near_error, NULL, &near));
    must(cmb_watch_open(b.store, &(cmb_watch_options){.branch = "feature", .range.prefix = str("key0029"), .lossless = true}, keep_error,
                        &far_error, NULL, &far));
    must(cmb_branch_set(b.store, "feature", "v1"));
    drain(&b);
    assert_string_equal(cmb_error_name(near_error), "CMB_ECORRUPT");
    assert_int_equal(far_error, 1); /* nothing has changed there, and nothing damaged is read for it */
    cmb_watch_close(near);
    cmb_watch_close(far);
    bed_close(&b);
}

/* ---- moves of every kind ---- */

static void merges_and_what_is_pulled_are_events_too(void **state)
{
    static told t, pulled, inside;
    bed a, b;
    cmb_merge_result result;
    bed_open(&a);
    bed_open(&b);
    put(a.store, "main", "k", "1", "base");
    must(cmb_branch_create(a.store, "side", "main"));
    put(a.store, "side", "s", "1", "side");
    watch(&t, &a, "main", true);
    must(cmb_merge(a.store, "main", "side", cmb_merge_fail, NULL, NULL, &result)); /* forward */
    put(a.store, "side", "s", "2", "side");
    put(a.store, "main", "m", "1", "main");
    must(cmb_merge(a.store, "main", "side", cmb_merge_fail, NULL, NULL, &result));
    drain(&a);
    assert_int_equal(t.count, 3);
    assert_int_equal(t.after[2].entries, 3);
    expect_chain(&t);
    watch(&pulled, &b, "side", true);
    watch_with(&inside, &b, &(cmb_watch_options){.branch = "main", .key = str("m"), .lossless = true});
    must(cmb_pull(b.store, a.store, NULL, NULL));
    drain(&b);
    assert_int_equal(pulled.count, 1);
    assert_false(pulled.existed[0]);
    assert_int_equal(pulled.after[0].entries, 2);
    assert_int_equal(inside.count, 1);
    bed_close(&a);
    bed_close(&b);
}

/* ---- any order of moves and dispatches ---- */

#define SCRIPT_BRANCHES 3
#define SCRIPT_WATCHES 8
#define SCRIPT_MOVES 4000

/* Where each branch ever stood. */
typedef struct past {
    unsigned count;
    bool exists[SCRIPT_MOVES];
    cmb_rev at[SCRIPT_MOVES];
} past;

typedef struct watcher {
    const past *past;
    cmb_watch *watch;
    unsigned seen; /* index in the past */
    bool lossless;
    unsigned lost;
} watcher;

static void follow_past(void *ctx, const cmb_event *e)
{
    watcher *w = ctx;
    unsigned next = w->lossless && e->kind == CMB_EVENT_CHANGED ? w->seen + 1 : w->past->count - 1;
    assert_true(next > w->seen && next < w->past->count);
    assert_int_equal(e->existed, w->past->exists[w->seen]);
    assert_int_equal(e->exists, w->past->exists[next]);
    assert_true(!e->existed || same_rev(&e->before, &w->past->at[w->seen]));
    assert_true(!e->exists || same_rev(&e->after, &w->past->at[next]));
    w->lost += e->kind == CMB_EVENT_LOST;
    w->seen = next;
}

/* Notes where the branch stands if it has moved. */
static void look(cmb_store *store, const char *branch, past *p)
{
    cmb_rev rev;
    int error = cmb_rev_parse(store, branch, &rev);
    if (error)
        memset(&rev, 0, sizeof rev);
    if (p->count && p->exists[p->count - 1] == !error && (error || same_rev(&p->at[p->count - 1], &rev)))
        return;
    assert_true(p->count < SCRIPT_MOVES);
    p->exists[p->count] = !error;
    p->at[p->count++] = rev;
}

static void move_randomly(cmb_store *store, const char *branch, bool exists, uint64_t *random)
{
    char value[16];
    uint64_t r = bed_mix(random);
    snprintf(value, sizeof value, "%u", (unsigned)(r >> 32) % 6);
    if (!exists)
        must(cmb_branch_create(store, branch, r % 2 ? NULL : "main"));
    else if (r % 16 == 0 && strcmp(branch, "main") != 0)
        must(cmb_branch_delete(store, branch));
    else if (r % 16 == 1)
        must(cmb_branch_set(store, branch, "main"));
    else
        put(store, branch, r & 64 ? "x" : "y", value, r % 3 ? NULL : "ring");
}

static void toggle(cmb_store *store, watcher *w, const past *p, const char *branch, bool lossless)
{
    if (w->watch) {
        cmb_watch_close(w->watch);
        *w = (watcher){.watch = NULL};
        return;
    }
    *w = (watcher){.past = p, .seen = p->count - 1, .lossless = lossless};
    must(cmb_watch_open(store, &(cmb_watch_options){.branch = branch, .lossless = lossless}, follow_past, w, NULL, &w->watch));
}

static void any_order_of_moves_and_dispatches_tells_each_watch_what_it_should(void **state)
{
    static past pasts[SCRIPT_BRANCHES];
    static const char *const branches[SCRIPT_BRANCHES] = {"main", "one", "two"};
    watcher watchers[SCRIPT_WATCHES] = {{.watch = NULL}};
    uint64_t random = bed_seed();
    bed b = {.options.watch_notes = 3 + random % 5};
    print_message("seed %llu\n", (unsigned long long)random);
    bed_open_with(&b, 0, NULL);
    memset(pasts, 0, sizeof pasts);
    for (unsigned i = 0; i < SCRIPT_MOVES / 4; i++) {
        for (unsigned k = 0; k < SCRIPT_BRANCHES; k++)
            look(b.store, branches[k], &pasts[k]);
        uint64_t r = bed_mix(&random);
        unsigned k = (unsigned)(r >> 8) % SCRIPT_BRANCHES, n = (unsigned)(r >> 16) % SCRIPT_WATCHES;
        if (r % 4 == 0)
            assert_true(cmb_watch_dispatch(b.store, 1 + (int)((r >> 24) % 12), 0) >= 0);
        else if (r % 32 == 1)
            toggle(b.store, &watchers[n], &pasts[k], branches[k], r >> 40 & 1);
        else
            move_randomly(b.store, branches[k], pasts[k].exists[pasts[k].count - 1], &random);
    }
    for (unsigned k = 0; k < SCRIPT_BRANCHES; k++)
        look(b.store, branches[k], &pasts[k]);
    drain(&b);
    for (unsigned n = 0; n < SCRIPT_WATCHES; n++)
        if (watchers[n].watch) {
            const past *p = watchers[n].past;
            assert_true(watchers[n].seen == p->count - 1);
        }
    bed_close(&b);
}

/* ---- dispatching ---- */

static void dispatch_stops_at_its_limit_and_takes_turns(void **state)
{
    static told a, c, d;
    bed b;
    bed_open(&b);
    must(cmb_branch_create(b.store, "other", NULL));
    watch(&a, &b, "main", true);
    watch(&c, &b, "main", true);
    watch(&d, &b, "other", true);
    for (unsigned i = 0; i < 6; i++) {
        put(b.store, "main", "k", (char[2]){(char)('a' + i), 0}, NULL);
        put(b.store, "other", "k", (char[2]){(char)('a' + i), 0}, NULL);
    }
    assert_int_equal(cmb_watch_dispatch(b.store, 8, 0), 8);
    assert_int_equal(d.count, 4);
    assert_int_equal(a.count, 2);
    assert_int_equal(c.count, 2);
    assert_int_equal(cmb_watch_dispatch(b.store, 100, 0), 10);
    assert_int_equal(cmb_watch_dispatch(b.store, 100, 0), 0);
    assert_int_equal(cmb_watch_dispatch(b.store, 100, 1000), 0);
    cmb_watch_wake(b.store);
    assert_int_equal(cmb_watch_dispatch(b.store, 100, -1), 0);
    must_be(cmb_watch_dispatch(b.store, 0, 0), CMB_EINVAL);
    bed_close(&b);
}

static void count_ready(void *ctx)
{
    ++*(unsigned *)ctx;
}

static void readiness_is_announced_once_until_the_next_dispatch(void **state)
{
    static told t;
    unsigned ready = 0;
    bed b = {.options = {.watch_ready = count_ready, .watch_ctx = &ready}};
    bed_open_with(&b, 0, NULL);
    put(b.store, "main", "k", "1", NULL);
    assert_int_equal(ready, 0);
    watch(&t, &b, "main", true);
    put(b.store, "main", "k", "2", NULL);
    assert_int_equal(ready, 1);
    put(b.store, "main", "k", "3", NULL);
    must(cmb_branch_create(b.store, "side", NULL));
    put(b.store, "side", "k", "3", NULL);
    assert_int_equal(ready, 1);
    assert_int_equal(cmb_watch_dispatch(b.store, 100, 0), 2);
    put(b.store, "side", "k", "4", NULL);
    assert_int_equal(ready, 1);
    put(b.store, "main", "k", "4", NULL);
    assert_int_equal(ready, 2);
    bed_close(&b);
}

static void bad_watches_are_refused(void **state)
{
    bed b;
    cmb_watch *w = NULL;
    static uint8_t large[CMB_KEY_MAX + 1] = {1};
    bed_open(&b);
    const cmb_watch_options none = {.lossless = true}, bad_name = {.branch = "a..b"},
                            both = {.branch = "main", .key = str("k"), .range.prefix = str("k")},
                            too_long = {.branch = "main", .key = {large, sizeof large}};
    must_be(cmb_watch_open(b.store, &none, note, NULL, NULL, &w), CMB_EINVAL);
    must_be(cmb_watch_open(b.store, &bad_name, note, NULL, NULL, &w), CMB_EINVAL);
    must_be(cmb_watch_open(b.store, &both, note, NULL, NULL, &w), CMB_EINVAL);
    must_be(cmb_watch_open(b.store, &too_long, note, NULL, NULL, &w), CMB_EINVAL);
    must(cmb_store_close(b.store));
    b.options.read_only = true;
    must(cmb_store_open_device(b.dev, &b.options, &b.store));
    must_be(cmb_watch_open(b.store, &(cmb_watch_options){.branch = "main"}, note, NULL, NULL, &w), CMB_EREADONLY);
    assert_null(w);
    bed_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lossless_watch_is_told_of_each_commit_and_working_state_in_order),
        cmocka_unit_test(a_latest_watch_is_told_once_however_often_the_branch_moved),
        cmocka_unit_test(a_branch_that_does_not_exist_yet_can_be_watched_come_and_go),
        cmocka_unit_test(a_watch_of_a_key_is_told_only_when_that_key_changes),
        cmocka_unit_test(a_watch_of_a_prefix_is_told_only_of_changes_under_it),
        cmocka_unit_test(a_watch_of_a_large_content_finds_single_changes_under_it),
        cmocka_unit_test(each_of_many_watches_of_a_branch_is_told_of_its_own_keys),
        cmocka_unit_test(an_event_reads_both_states_also_working_ones_that_are_past),
        cmocka_unit_test(a_watch_begins_where_its_start_says),
        cmocka_unit_test(what_moves_a_branch_nowhere_is_no_event),
        cmocka_unit_test(naming_a_working_state_is_told_to_the_branch_but_not_to_its_keys),
        cmocka_unit_test(branches_that_move_together_have_events_of_one_number),
        cmocka_unit_test(a_watch_too_far_behind_is_told_that_it_lost_and_goes_on_lossless),
        cmocka_unit_test(who_keeps_up_loses_nothing_because_of_who_does_not),
        cmocka_unit_test(without_memory_for_a_note_the_commit_succeeds_and_the_watch_is_told),
        cmocka_unit_test(opening_a_watch_without_memory_changes_nothing),
        cmocka_unit_test(a_watch_can_be_closed_from_its_own_callback),
        cmocka_unit_test(a_callback_can_close_and_open_other_watches),
        cmocka_unit_test(a_callback_can_commit_and_is_told_of_it_afterwards),
        cmocka_unit_test(what_cannot_be_compared_is_told_with_the_reason),
        cmocka_unit_test(merges_and_what_is_pulled_are_events_too),
        cmocka_unit_test(any_order_of_moves_and_dispatches_tells_each_watch_what_it_should),
        cmocka_unit_test(dispatch_stops_at_its_limit_and_takes_turns),
        cmocka_unit_test(readiness_is_announced_once_until_the_next_dispatch),
        cmocka_unit_test(bad_watches_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
