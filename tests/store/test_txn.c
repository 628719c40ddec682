/* SPDX-License-Identifier: ISC */
/* Transactions: what they see, how they spill, stream and land; cursors and values through them. */
#include "bed.h"

static int setup(void **state)
{
    bed *b = malloc(sizeof *b);
    bed_open(b);
    *state = b;
    return 0;
}

/* With transactions that keep next to nothing in memory. */
static int setup_tight(void **state)
{
    bed *b = calloc(1, sizeof *b);
    b->options.txn_memory = 16384;
    bed_open_with(b, 0, NULL);
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    bed_close(*state);
    free(*state);
    return 0;
}

static cmb_txn *begin(bed *b, const char *branch)
{
    cmb_txn *txn;
    must(cmb_txn_begin(b->store, branch, 0, &txn));
    return txn;
}

static void put_number(cmb_txn *txn, unsigned i, const char *value)
{
    char key[16];
    snprintf(key, sizeof key, "%08u", i);
    must(cmb_txn_put(txn, str(key), str(value)));
}

static void see_number(cmb_txn *txn, unsigned i, const char *value)
{
    char key[16];
    cmb_bytes got;
    snprintf(key, sizeof key, "%08u", i);
    int error = cmb_txn_get(txn, str(key), &got);
    assert_int_equal(error, value ? 0 : CMB_ENOTFOUND);
    if (value) {
        assert_int_equal(got.size, strlen(value));
        assert_memory_equal(got.data, value, got.size);
    }
}

static cmb_rev commit(cmb_txn *txn)
{
    cmb_rev rev;
    must(cmb_txn_commit(txn, NULL, &rev));
    return rev;
}

/* The root of the numbers [0, n) with one value, put in order into an empty branch. */
static cmb_name plain_root(bed *b, unsigned n, const char *value)
{
    must(cmb_branch_create(b->store, "plain", NULL));
    cmb_txn *txn = begin(b, "plain");
    for (unsigned i = 0; i < n; i++)
        put_number(txn, i, value);
    cmb_name root = commit(txn).root;
    must(cmb_branch_delete(b->store, "plain"));
    return root;
}

static void a_transaction_sees_its_edits_and_others_do_not(void **state)
{
    bed *b = *state;
    put(b->store, "main", "a", "1", NULL);
    cmb_txn *txn = begin(b, "main");
    cmb_bytes got;
    must(cmb_txn_put(txn, str("b"), str("2")));
    must(cmb_txn_del(txn, str("a")));
    must_be(cmb_txn_del(txn, str("a")), CMB_ENOTFOUND);
    must_be(cmb_txn_get(txn, str("a"), &got), CMB_ENOTFOUND);
    must(cmb_txn_get(txn, str("b"), &got));
    expect(b->store, "main", "a", "1");
    expect(b->store, "main", "b", NULL);
    commit(txn);
    expect(b->store, "main", "a", NULL);
    expect(b->store, "main", "b", "2");
}

static void an_aborted_transaction_leaves_no_trace(void **state)
{
    bed *b = *state;
    cmb_txn *txn = begin(b, "main");
    must(cmb_txn_put(txn, str("b"), str("2")));
    cmb_txn_abort(txn);
    cmb_txn_abort(NULL);
    expect(b->store, "main", "b", NULL);
}

static void keys_and_values_have_limits(void **state)
{
    bed *b = *state;
    uint8_t *key = calloc(1, CMB_KEY_MAX + 1);
    cmb_txn *txn = begin(b, "main");
    cmb_bytes got;
    must_be(cmb_txn_put(txn, (cmb_bytes){key, 0}, str("v")), CMB_EINVAL);
    must_be(cmb_txn_put(txn, (cmb_bytes){key, CMB_KEY_MAX + 1}, str("v")), CMB_EINVAL);
    must(cmb_txn_put(txn, (cmb_bytes){key, CMB_KEY_MAX}, (cmb_bytes){NULL, 0}));
    must(cmb_txn_get(txn, (cmb_bytes){key, CMB_KEY_MAX}, &got));
    assert_int_equal(got.size, 0);
    must_be(cmb_txn_get(txn, (cmb_bytes){key, CMB_KEY_MAX + 1}, &got), CMB_EINVAL);
    commit(txn);
    free(key);
}

static void a_second_writer_of_the_same_thread_is_refused(void **state)
{
    bed *b = *state;
    cmb_txn *txn = begin(b, "main"), *other;
    must_be(cmb_txn_begin(b->store, "main", 0, &other), CMB_EBUSY);
    must_be(cmb_txn_begin(b->store, "main", CMB_TXN_NOWAIT, &other), CMB_EBUSY);
    must_be(cmb_branch_delete(b->store, "main"), CMB_EBUSY);
    must_be(cmb_txn_begin(b->store, "nothing", 0, &other), CMB_ENOTFOUND);
    cmb_txn_abort(txn);
    cmb_txn_abort(begin(b, "main"));
}

static void shuffled_edits_that_spill_make_the_same_tree(void **state)
{
    bed *b = *state;
    enum { N = 20011 };
    cmb_name plain = plain_root(b, N, "value");
    cmb_txn *txn = begin(b, "main");
    for (unsigned i = 0; i < N; i++) {
        put_number(txn, (unsigned)((i * 7919ull) % N), i % 3 ? "value" : "other");
        if (i % 1000 == 0)
            see_number(txn, (unsigned)((i * 7919ull) % N), i % 3 ? "value" : "other");
    }
    for (unsigned i = 0; i < N; i++) {
        if (i % 5 == 0) {
            char key[16];
            snprintf(key, sizeof key, "%08u", i);
            must(cmb_txn_del(txn, str(key)));
        }
        put_number(txn, i, "value");
    }
    cmb_name root = commit(txn).root;
    assert_true(same_name(&plain, &root));
}

static void ascending_edits_go_straight_and_can_be_read_in_between(void **state)
{
    bed *b = *state;
    enum { N = 30000 };
    cmb_name plain = plain_root(b, N, "value");
    cmb_txn *txn = begin(b, "main");
    for (unsigned i = 0; i < N; i++) {
        put_number(txn, i, "value");
        if (i % 3001 == 3000) {
            see_number(txn, i / 2, "value");
            see_number(txn, i + 1, NULL);
        }
    }
    see_number(txn, N - 1, "value");
    cmb_name root = commit(txn).root;
    assert_true(same_name(&plain, &root));
}

static void edits_that_stop_ascending_leave_the_direct_phase(void **state)
{
    bed *b = *state;
    enum { N = 20000 };
    cmb_name plain = plain_root(b, N, "value");
    cmb_txn *txn = begin(b, "main");
    for (unsigned i = 0; i < N; i += 2)
        put_number(txn, i, i == 10 ? "other" : "value");
    for (unsigned i = 1; i < N; i += 2)
        put_number(txn, i, "value");
    put_number(txn, 10, "value");
    put_number(txn, N + 5, "value");
    char key[16];
    snprintf(key, sizeof key, "%08u", N + 5u);
    must(cmb_txn_del(txn, str(key)));
    must_be(cmb_txn_del(txn, str(key)), CMB_ENOTFOUND);
    cmb_rev rev = commit(txn);
    assert_int_equal(rev.entries, N);
    assert_true(same_name(&plain, &rev.root));
}

static void a_direct_phase_over_a_tree_replaces_and_deletes(void **state)
{
    bed *b = *state;
    enum { N = 20000 };
    cmb_name plain = plain_root(b, N / 2, "new");
    cmb_txn *txn = begin(b, "main");
    for (unsigned i = 0; i < N; i++)
        put_number(txn, i, "value");
    commit(txn);
    txn = begin(b, "main");
    for (unsigned i = 0; i < N / 2; i++)
        put_number(txn, i, "new");
    for (unsigned i = N / 2; i < N; i++) {
        char key[16];
        snprintf(key, sizeof key, "%08u", i);
        must(cmb_txn_del(txn, str(key)));
        must_be(cmb_txn_del(txn, str(key)), CMB_ENOTFOUND);
    }
    cmb_rev rev = commit(txn);
    assert_true(same_name(&plain, &rev.root));
}

static void a_cursor_goes_on_by_key_after_writes_and_spills(void **state)
{
    bed *b = *state;
    enum { N = 3000 };
    cmb_txn *txn = begin(b, "main");
    cmb_cursor *cursor;
    for (unsigned i = 0; i < N; i++)
        put_number(txn, 2 * i, "value");
    commit(txn);
    txn = begin(b, "main");
    must(cmb_txn_cursor_open(txn, NULL, &cursor));
    unsigned seen = 0;
    while (cmb_cursor_next(cursor) == 0) {
        cmb_bytes key, value;
        char text[16];
        must(cmb_cursor_key(cursor, &key));
        snprintf(text, sizeof text, "%08u", 2 * seen);
        assert_memory_equal(key.data, text, 8);
        must(cmb_cursor_value(cursor, &value));
        assert_int_equal(value.size, 5);
        must(cmb_txn_put(txn, key, str("another value, a longer one")));
        must(cmb_cursor_value(cursor, &value));
        assert_int_equal(value.size, 27);
        seen++;
    }
    assert_int_equal(seen, N);
    cmb_cursor_close(cursor);
    commit(txn);
    expect(b->store, "main", "00000000", "another value, a longer one");
    expect(b->store, "main", "00005998", "another value, a longer one");
}

static void a_cursor_over_what_it_deletes_moves_on(void **state)
{
    bed *b = *state;
    cmb_txn *txn = begin(b, "main");
    cmb_cursor *cursor;
    cmb_bytes key, value;
    for (unsigned i = 0; i < 100; i++)
        put_number(txn, i, "value");
    must(cmb_txn_cursor_open(txn, NULL, &cursor));
    for (unsigned i = 0; i < 100; i++) {
        must(cmb_cursor_next(cursor));
        must(cmb_cursor_key(cursor, &key));
        must(cmb_txn_del(txn, key));
        must_be(cmb_cursor_value(cursor, &value), CMB_ENOTFOUND);
    }
    must_be(cmb_cursor_next(cursor), CMB_ENOTFOUND);
    must_be(cmb_cursor_prev(cursor), CMB_ENOTFOUND);
    must_be(cmb_txn_commit(txn, NULL, NULL), CMB_EINVAL);
    cmb_cursor_close(cursor);
    assert_int_equal(commit(txn).entries, 0);
}

/* ---- values ---- */

static uint8_t *noise(size_t size, uint64_t seed)
{
    uint8_t *data = malloc(size);
    assert_non_null(data);
    for (size_t i = 0; i < size; i++)
        data[i] = (uint8_t)(i % 8 ? data[i - 1] + 1u : bed_mix(&seed));
    return data;
}

static void check_stream(cmb_value_stream *stream, const uint8_t *data, size_t size)
{
    uint8_t *piece = malloc(70001);
    size_t got;
    assert_int_equal(cmb_value_size(stream), size);
    for (size_t at = 0; at < size; at += got) {
        must(cmb_value_read(stream, at, piece, 70001, &got));
        assert_true(got > 0);
        assert_memory_equal(piece, data + at, got);
    }
    must(cmb_value_read(stream, size, piece, 1, &got));
    assert_int_equal(got, 0);
    must(cmb_value_read(stream, UINT64_MAX, piece, 1, &got));
    assert_int_equal(got, 0);
    cmb_value_close(stream);
    free(piece);
}

static void values_of_every_size_are_streamed_in_and_out(void **state)
{
    bed *b = *state;
    static const size_t sizes[] = {0, 1, 1023, 1024, 1025, 70000, 1 << 20, (1 << 20) + 1, 5 << 20};
    uint8_t *data = noise(5 << 20, 3);
    cmb_txn *txn = begin(b, "main");
    cmb_value_stream *stream;
    cmb_bytes got;
    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        char key[16];
        snprintf(key, sizeof key, "streamed%u", i);
        must(cmb_txn_value_begin(txn, str(key)));
        must_be(cmb_txn_value_begin(txn, str(key)), CMB_EBUSY);
        for (size_t at = 0, n; at < sizes[i]; at += n) {
            n = sizes[i] - at < 99991 ? sizes[i] - at : 99991;
            must(cmb_txn_value_add(txn, data + at, n));
        }
        must(cmb_txn_value_finish(txn));
        must(cmb_txn_value_open(txn, str(key), &stream));
        check_stream(stream, data, sizes[i]);
        snprintf(key, sizeof key, "whole%u", i);
        must(cmb_txn_put(txn, str(key), (cmb_bytes){data, sizes[i]}));
        must(cmb_txn_get(txn, str(key), &got));
        assert_int_equal(got.size, sizes[i]);
        assert_memory_equal(got.data, data, got.size);
    }
    must(cmb_txn_value_begin(txn, str("aborted")));
    must(cmb_txn_value_add(txn, data, 3 << 20));
    must_be(cmb_txn_commit(txn, NULL, NULL), CMB_EINVAL);
    cmb_txn_value_abort(txn);
    must_be(cmb_txn_value_add(txn, data, 1), CMB_EINVAL);
    commit(txn);
    bed_reopen(b);
    cmb_snapshot *snapshot;
    must(cmb_snapshot_open(b->store, "main", &snapshot));
    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        char key[16];
        snprintf(key, sizeof key, i % 2 ? "streamed%u" : "whole%u", i);
        must(cmb_value_open(snapshot, str(key), &stream));
        check_stream(stream, data, sizes[i]);
        must(cmb_get(snapshot, str(key), &got));
        assert_int_equal(got.size, sizes[i]);
        assert_memory_equal(got.data, data, got.size);
    }
    must_be(cmb_value_open(snapshot, str("aborted"), &stream), CMB_ENOTFOUND);
    cmb_snapshot_close(snapshot);
    free(data);
}

static void streamed_and_whole_values_make_the_same_tree(void **state)
{
    bed *b = *state;
    uint8_t *data = noise(3 << 20, 9);
    cmb_txn *txn = begin(b, "main");
    must(cmb_txn_put(txn, str("k"), (cmb_bytes){data, 3 << 20}));
    cmb_name whole = commit(txn).root;
    must(cmb_branch_create(b->store, "other", NULL));
    txn = begin(b, "other");
    must(cmb_txn_value_begin(txn, str("k")));
    must(cmb_txn_value_add(txn, data, 1000));
    must(cmb_txn_value_add(txn, data + 1000, (3 << 20) - 1000));
    must(cmb_txn_value_finish(txn));
    cmb_name streamed = commit(txn).root;
    assert_true(same_name(&whole, &streamed));
    free(data);
}

/* ---- landing ---- */

static void a_detached_transaction_lands_where_it_started(void **state)
{
    bed *b = *state;
    cmb_snapshot *snapshot;
    cmb_txn *txn;
    cmb_rev rev;
    cmb_commit_info info = {.message = "landed"};
    put(b->store, "main", "a", "1", "one");
    must(cmb_snapshot_open(b->store, "main", &snapshot));
    must(cmb_txn_begin_detached(snapshot, &txn));
    cmb_snapshot_close(snapshot);
    must(cmb_txn_put(txn, str("b"), str("2")));
    must_be(cmb_txn_commit(txn, NULL, NULL), CMB_EINVAL);
    must_be(cmb_txn_land(txn, "nothing", &info, &rev), CMB_ENOTFOUND);
    put(b->store, "main", "c", "3", NULL);
    must_be(cmb_txn_land(txn, "main", &info, &rev), CMB_ECONFLICT);
    must(cmb_branch_create(b->store, "old", "main~1"));
    must(cmb_txn_land(txn, "old", &info, &rev));
    assert_int_equal(rev.entries, 2);
    expect(b->store, "old", "b", "2");
    expect(b->store, "main", "b", NULL);
}

static void several_branches_commit_together(void **state)
{
    bed *b = *state;
    cmb_rev revs[3];
    cmb_txn *txns[3];
    must(cmb_branch_create(b->store, "one", NULL));
    must(cmb_branch_create(b->store, "two", NULL));
    static const char *const names[] = {"main", "one", "two"};
    for (int i = 0; i < 3; i++) {
        txns[i] = begin(b, names[i]);
        must(cmb_txn_put(txns[i], str("k"), str(names[i])));
    }
    cmb_txn *twice[] = {txns[0], txns[0]};
    must_be(cmb_txn_commit_many(twice, 2, NULL, NULL), CMB_EINVAL);
    cmb_commit_info infos[3] = {{.message = "a"}, {.flags = 0}, {.message = "c"}};
    must(cmb_txn_commit_many(txns, 3, infos, revs));
    assert_true(!revs[0].working && revs[1].working && !revs[2].working);
    bed_reopen(b);
    for (int i = 0; i < 3; i++)
        expect(b->store, names[i], "k", names[i]);
}

static void large_transactions_on_several_branches_commit_together(void **state)
{
    bed *b = *state;
    cmb_txn *txns[2];
    must(cmb_branch_create(b->store, "one", NULL));
    static const char *const names[] = {"main", "one"};
    for (int i = 0; i < 2; i++) {
        txns[i] = begin(b, names[i]);
        for (unsigned k = 0; k < 5000; k++)
            put_number(txns[i], (k * 7919u) % 5003, names[i]);
    }
    must(cmb_txn_commit_many(txns, 2, NULL, NULL));
    bed_reopen(b);
    for (int i = 0; i < 2; i++)
        expect(b->store, names[i], "00000007", names[i]);
}

static void snapshots_stay_as_they_are(void **state)
{
    bed *b = *state;
    cmb_snapshot *before;
    cmb_bytes got;
    uint64_t count;
    put(b->store, "main", "a", "1", NULL);
    must(cmb_snapshot_open(b->store, "main", &before));
    put(b->store, "main", "a", "2", "two");
    put(b->store, "main", "b", "3", NULL);
    must(cmb_branch_delete(b->store, "main"));
    must(cmb_get(before, str("a"), &got));
    assert_memory_equal(got.data, "1", 1);
    must(cmb_get(before, got, &got) == CMB_ENOTFOUND ? 0 : CMB_EINVAL); /* the value is the next call's key */
    must(cmb_count(before, NULL, NULL, &count));
    assert_int_equal(count, 1);
    cmb_rev rev;
    cmb_snapshot_rev(before, &rev);
    assert_true(rev.working);
    cmb_snapshot_close(before);
}

static void a_range_confines_a_cursor(void **state)
{
    bed *b = *state;
    static const char *const names[] = {"a", "ab", "abc", "b", "ba", "c\xff", "c\xff\xff", "d"};
    cmb_txn *txn = begin(b, "main");
    for (size_t i = 0; i < 8; i++)
        must(cmb_txn_put(txn, str(names[i]), str("v")));
    commit(txn);
    static const struct {
        const char *from, *to, *prefix;
        int first, count;
    } table[] = {
        {"", "", "", 0, 8}, {"ab", "", "", 1, 7}, {"", "b", "", 0, 3}, {"", "", "a", 0, 3}, {"", "", "ab", 1, 2},
        {"abc", "", "a", 2, 1}, {"", "ab", "a", 0, 1}, {"x", "", "", 0, 0}, {"b", "a", "", 0, 0}, {"", "", "c\xff", 5, 2},
        {"", "", "c\xff\xff", 6, 1}, {"", "", "\xff", 0, 0}, {"aa", "bb", "", 1, 4}, {"b", "", "a", 0, 0},
    };
    cmb_snapshot *snapshot;
    must(cmb_snapshot_open(b->store, "main", &snapshot));
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        cmb_range range = {str(table[i].from), str(table[i].to), str(table[i].prefix)};
        cmb_cursor *cursor;
        cmb_bytes key;
        int forward = 0, backward = 0;
        must(cmb_cursor_open(snapshot, &range, &cursor));
        must_be(cmb_cursor_key(cursor, &key), CMB_ENOTFOUND);
        must_be(cmb_cursor_prev(cursor), CMB_ENOTFOUND);
        for (; cmb_cursor_next(cursor) == 0; forward++) {
            must(cmb_cursor_key(cursor, &key));
            assert_memory_equal(key.data, names[table[i].first + forward], key.size);
        }
        for (; cmb_cursor_prev(cursor) == 0; backward++)
            ;
        assert_int_equal(forward, table[i].count);
        assert_int_equal(backward, table[i].count);
        must_be(cmb_cursor_seek_nth(cursor, (uint64_t)forward), CMB_ENOTFOUND);
        if (forward) {
            must(cmb_cursor_seek_nth(cursor, (uint64_t)forward - 1));
            must_be(cmb_cursor_seek_exact(cursor, str("none")), CMB_ENOTFOUND);
            must(cmb_cursor_key(cursor, &key)); /* not moved */
            must(cmb_cursor_seek_exact(cursor, key));
            must(cmb_cursor_seek_last(cursor, str("\xff\xff")));
            must_be(cmb_cursor_next(cursor), CMB_ENOTFOUND);
            must(cmb_cursor_seek(cursor, str("")));
        }
        cmb_cursor_close(cursor);
    }
    cmb_snapshot_close(snapshot);
}

#define with_bed(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define with_tight_bed(f) cmocka_unit_test_setup_teardown(f, setup_tight, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_bed(a_transaction_sees_its_edits_and_others_do_not),
        with_bed(an_aborted_transaction_leaves_no_trace),
        with_bed(keys_and_values_have_limits),
        with_bed(a_second_writer_of_the_same_thread_is_refused),
        with_tight_bed(shuffled_edits_that_spill_make_the_same_tree),
        with_tight_bed(ascending_edits_go_straight_and_can_be_read_in_between),
        with_tight_bed(edits_that_stop_ascending_leave_the_direct_phase),
        with_tight_bed(a_direct_phase_over_a_tree_replaces_and_deletes),
        with_tight_bed(a_cursor_goes_on_by_key_after_writes_and_spills),
        with_bed(a_cursor_over_what_it_deletes_moves_on),
        with_bed(values_of_every_size_are_streamed_in_and_out),
        with_bed(streamed_and_whole_values_make_the_same_tree),
        with_bed(a_detached_transaction_lands_where_it_started),
        with_bed(several_branches_commit_together),
        with_tight_bed(large_transactions_on_several_branches_commit_together),
        with_bed(snapshots_stay_as_they_are),
        with_bed(a_range_confines_a_cursor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
