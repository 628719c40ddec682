/* SPDX-License-Identifier: ISC */
/* Diffs of two states: against a plain comparison of all entries, and what is said of each change. */
#include "bed.h"

#include <cambium/diff.h>

/* ---- changes as text: one a line ---- */

typedef struct text {
    char *data;
    size_t size;
    FILE *out;
} text;

static void text_open(text *t)
{
    t->out = open_memstream(&t->data, &t->size);
    assert_non_null(t->out);
}

static void text_close(text *t)
{
    fclose(t->out);
    t->out = NULL;
}

static void write_change(text *t, char kind, cmb_bytes key, cmb_bytes before, cmb_bytes after)
{
    fprintf(t->out, "%c %.*s %.*s %.*s\n", kind, (int)key.size, (const char *)key.data, (int)before.size, (const char *)before.data,
            (int)after.size, (const char *)after.data);
}

static int collect(void *ctx, const cmb_change *c)
{
    assert_false(c->before.large || c->after.large);
    assert_int_equal(c->before.size, c->before.bytes.size);
    assert_int_equal(c->after.size, c->after.bytes.size);
    write_change(ctx, "?ADM"[c->kind], c->key, c->before.bytes, c->after.bytes);
    return 0;
}

static int step(cmb_cursor *c, cmb_bytes *key, cmb_bytes *value)
{
    if (cmb_cursor_next(c))
        return 0;
    must(cmb_cursor_key(c, key));
    must(cmb_cursor_value(c, value));
    return 1;
}

static int compare(cmb_bytes a, cmb_bytes b)
{
    size_t n = a.size < b.size ? a.size : b.size;
    int c = memcmp(a.data, b.data, n);
    return c ? c : (a.size > b.size) - (a.size < b.size);
}

/* The same by looking at every entry of both. */
static void compare_all(text *t, cmb_snapshot *before, cmb_snapshot *after, const cmb_range *range)
{
    cmb_cursor *a, *b;
    cmb_bytes ka, va, kb, vb;
    must(cmb_cursor_open(before, range, &a));
    must(cmb_cursor_open(after, range, &b));
    int in_a = step(a, &ka, &va), in_b = step(b, &kb, &vb);
    while (in_a || in_b) {
        int c = !in_a ? 1 : !in_b ? -1 : compare(ka, kb);
        if (c < 0)
            write_change(t, 'D', ka, va, str(""));
        else if (c > 0)
            write_change(t, 'A', kb, str(""), vb);
        else if (compare(va, vb))
            write_change(t, 'M', ka, va, vb);
        if (c <= 0)
            in_a = step(a, &ka, &va);
        if (c >= 0)
            in_b = step(b, &kb, &vb);
    }
    cmb_cursor_close(a);
    cmb_cursor_close(b);
}

static void expect_same_diff(cmb_store *store, const char *before, const char *after, const cmb_range *range)
{
    cmb_snapshot *a, *b;
    text quick, slow;
    must(cmb_snapshot_open(store, before, &a));
    must(cmb_snapshot_open(store, after, &b));
    text_open(&quick);
    text_open(&slow);
    must(cmb_diff(a, b, range, collect, &quick));
    compare_all(&slow, a, b, range);
    text_close(&quick);
    text_close(&slow);
    assert_string_equal(quick.data, slow.data);
    free(quick.data);
    free(slow.data);
    cmb_snapshot_close(a);
    cmb_snapshot_close(b);
}

/* ---- random histories ---- */

static void edit_randomly(cmb_store *store, const char *branch, uint64_t *random, unsigned edits)
{
    cmb_txn *txn;
    must(cmb_txn_begin(store, branch, 0, &txn));
    for (unsigned i = 0; i < edits; i++) {
        char key[24], value[24];
        uint64_t r = bed_mix(random);
        snprintf(key, sizeof key, "%c/%u", (char)('a' + r % 5), (unsigned)(r >> 8) % 400);
        snprintf(value, sizeof value, "%u", (unsigned)(r >> 40) % 50);
        if (r >> 60 < 5)
            (void)cmb_txn_del(txn, str(key));
        else
            must(cmb_txn_put(txn, str(key), str(value)));
    }
    must(cmb_txn_commit(txn, &(cmb_commit_info){.message = "m", .flags = CMB_COMMIT_EMPTY}, NULL));
}

static void a_diff_says_what_comparing_all_entries_says(void **state)
{
    uint64_t random = bed_seed();
    bed b = {.dev = NULL};
    static const cmb_init_options init = {.node_size = 256};
    bed_open_with(&b, 0, &init);
    must(cmb_branch_create(b.store, "other", NULL));
    print_message("seed %llu\n", (unsigned long long)random);
    for (unsigned i = 0; i < 60 * bed_budget(); i++) {
        const char *prefixes[] = {"", "a", "c/1", "c/17", "z"};
        edit_randomly(b.store, i % 3 ? "main" : "other", &random, 1 + (unsigned)(bed_mix(&random) % (i % 5 ? 8 : 300)));
        cmb_range prefix = {.prefix = str(prefixes[i % 5])}, part = {.from = str("b/3"), .to = str("d/2")},
                  bound = {.prefix = str("b/"), .from = str("b/2")}, none = {.from = str("d"), .to = str("b")};
        expect_same_diff(b.store, "main", "other", NULL);
        expect_same_diff(b.store, "other", "main", &prefix);
        expect_same_diff(b.store, "main", "other", &part);
        expect_same_diff(b.store, "main", "other", &bound);
        expect_same_diff(b.store, "main", "other", &none);
        if (i > 10)
            expect_same_diff(b.store, "main~3", "main", NULL);
    }
    bed_close(&b);
}

/* ---- single changes ---- */

static int count(void *ctx, const cmb_change *c)
{
    ++*(unsigned *)ctx;
    return 0;
}

static unsigned changes(cmb_store *store, const char *before, const char *after)
{
    cmb_snapshot *a, *b;
    unsigned n = 0;
    must(cmb_snapshot_open(store, before, &a));
    must(cmb_snapshot_open(store, after, &b));
    must(cmb_diff(a, b, NULL, count, &n));
    cmb_snapshot_close(a);
    cmb_snapshot_close(b);
    return n;
}

static void equal_contents_of_different_histories_do_not_differ(void **state)
{
    bed b;
    bed_open(&b);
    must(cmb_branch_create(b.store, "other", NULL));
    put(b.store, "main", "a", "1", "ring");
    put(b.store, "main", "b", "2", NULL);
    put(b.store, "other", "b", "2", "another order");
    assert_int_equal(changes(b.store, "main", "other"), 1);
    put(b.store, "other", "a", "1", "another ring");
    assert_int_equal(changes(b.store, "main", "other"), 0);
    bed_close(&b);
}

static void an_empty_branch_differs_by_everything(void **state)
{
    bed b;
    cmb_txn *txn;
    bed_open(&b);
    must(cmb_branch_create(b.store, "empty", NULL));
    must(cmb_txn_begin(b.store, "main", 0, &txn));
    for (unsigned i = 0; i < 5000; i++)
        must(cmb_txn_put(txn, (cmb_bytes){&i, sizeof i}, (cmb_bytes){&i, sizeof i}));
    must(cmb_txn_commit(txn, NULL, NULL));
    assert_int_equal(changes(b.store, "main", "empty"), 5000);
    assert_int_equal(changes(b.store, "empty", "main"), 5000);
    assert_int_equal(changes(b.store, "empty", "empty"), 0);
    bed_close(&b);
}

/* ---- large values ---- */

#define LARGE 700000u

typedef struct large {
    cmb_value_stream *before, *after;
    unsigned count;
} large;

static int keep_streams(void *ctx, const cmb_change *c)
{
    large *l = ctx;
    l->count++;
    assert_int_equal(c->kind, CMB_CHANGE_MODIFIED);
    assert_false(c->before.large);
    assert_true(c->after.large);
    assert_int_equal(c->after.size, LARGE);
    assert_int_equal(c->after.bytes.size, 0);
    must(cmb_change_open_before(c, &l->before));
    must(cmb_change_open_after(c, &l->after));
    return 0;
}

static int added_only(void *ctx, const cmb_change *c)
{
    cmb_value_stream *s = NULL;
    assert_int_equal(c->kind, CMB_CHANGE_ADDED);
    assert_int_equal(c->before.size, 0);
    must_be(cmb_change_open_before(c, &s), CMB_ENOTFOUND);
    assert_null(s);
    return 0;
}

static void large_values_are_read_as_streams_that_outlive_the_callback(void **state)
{
    static uint8_t value[LARGE], got[LARGE];
    bed b;
    cmb_txn *txn;
    cmb_snapshot *before, *after;
    large l = {.count = 0};
    size_t n;
    bed_open(&b);
    for (size_t i = 0; i < LARGE; i++)
        value[i] = (uint8_t)(i * 7 >> 3);
    put(b.store, "main", "k", "small", "one");
    must(cmb_txn_begin(b.store, "main", 0, &txn));
    must(cmb_txn_put(txn, str("k"), (cmb_bytes){value, LARGE}));
    must(cmb_txn_commit(txn, &(cmb_commit_info){.message = "two"}, NULL));
    must(cmb_snapshot_open(b.store, "main~1", &before));
    must(cmb_snapshot_open(b.store, "main", &after));
    must(cmb_diff(before, after, NULL, keep_streams, &l));
    assert_int_equal(l.count, 1);
    assert_int_equal(cmb_value_size(l.before), 5);
    must(cmb_value_read(l.after, 0, got, LARGE, &n));
    assert_int_equal(n, LARGE);
    assert_memory_equal(got, value, LARGE);
    cmb_value_close(l.before);
    cmb_value_close(l.after);
    cmb_snapshot_close(before);
    must(cmb_branch_create(b.store, "empty", NULL));
    must(cmb_snapshot_open(b.store, "empty", &before));
    must(cmb_diff(before, after, NULL, added_only, NULL));
    cmb_snapshot_close(before);
    cmb_snapshot_close(after);
    bed_close(&b);
}

/* ---- stopping, misuse, memory ---- */

static int stop_at_third(void *ctx, const cmb_change *c)
{
    return ++*(unsigned *)ctx == 3 ? -5 : 0;
}

static void a_callback_can_stop_a_diff(void **state)
{
    bed b;
    cmb_snapshot *before, *after;
    unsigned n = 0;
    bed_open(&b);
    must(cmb_snapshot_open(b.store, "main", &before));
    for (unsigned i = 0; i < 9; i++)
        put(b.store, "main", (char[2]){(char)('a' + i), 0}, "v", NULL);
    must(cmb_snapshot_open(b.store, "main", &after));
    must_be(cmb_diff(before, after, NULL, stop_at_third, &n), CMB_ESTOPPED);
    assert_int_equal(n, 3);
    cmb_snapshot_close(before);
    cmb_snapshot_close(after);
    bed_close(&b);
}

static void snapshots_of_different_stores_are_refused(void **state)
{
    bed a, b;
    cmb_snapshot *sa, *sb;
    unsigned n = 0;
    bed_open(&a);
    bed_open(&b);
    must(cmb_snapshot_open(a.store, "main", &sa));
    must(cmb_snapshot_open(b.store, "main", &sb));
    must_be(cmb_diff(sa, sb, NULL, count, &n), CMB_EINVAL);
    cmb_snapshot_close(sa);
    cmb_snapshot_close(sb);
    bed_close(&a);
    bed_close(&b);
}

typedef struct countdown {
    long left; /* allocations until one fails; negative: never */
    size_t held;
} countdown;

static void *countdown_alloc(void *ctx, size_t size)
{
    countdown *c = ctx;
    if (c->left == 0 || (c->left > 0 && --c->left == 0))
        return NULL;
    c->held += size;
    return malloc(size);
}

static void *countdown_resize(void *ctx, void *p, size_t old_size, size_t new_size)
{
    countdown *c = ctx;
    if (c->left == 0 || (c->left > 0 && --c->left == 0))
        return NULL;
    c->held += new_size - old_size;
    return realloc(p, new_size);
}

static void countdown_release(void *ctx, void *p, size_t size)
{
    countdown *c = ctx;
    if (p)
        c->held -= size;
    free(p);
}

static void without_memory_a_diff_fails_cleanly(void **state)
{
    countdown c = {.left = -1};
    bed b = {.options.alloc = {&c, countdown_alloc, countdown_resize, countdown_release}};
    cmb_snapshot *before, *after;
    unsigned failures = 0;
    static const cmb_init_options init = {.node_size = 256};
    bed_open_with(&b, 0, &init);
    uint64_t random = 7;
    edit_randomly(b.store, "main", &random, 500);
    edit_randomly(b.store, "main", &random, 200);
    must(cmb_snapshot_open(b.store, "main~1", &before));
    must(cmb_snapshot_open(b.store, "main", &after));
    for (long i = 1;; i++) {
        unsigned n = 0;
        size_t held = c.held;
        c.left = i;
        int error = cmb_diff(before, after, &(cmb_range){.prefix = str("b")}, count, &n);
        c.left = -1;
        assert_int_equal(c.held, held);
        if (!error)
            break;
        must_be(error, CMB_ENOMEM);
        failures++;
    }
    assert_true(failures > 0);
    cmb_snapshot_close(before);
    cmb_snapshot_close(after);
    bed_close(&b);
    assert_int_equal(c.held, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_diff_says_what_comparing_all_entries_says),
        cmocka_unit_test(equal_contents_of_different_histories_do_not_differ),
        cmocka_unit_test(an_empty_branch_differs_by_everything),
        cmocka_unit_test(large_values_are_read_as_streams_that_outlive_the_callback),
        cmocka_unit_test(a_callback_can_stop_a_diff),
        cmocka_unit_test(snapshots_of_different_stores_are_refused),
        cmocka_unit_test(without_memory_a_diff_fails_cleanly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
