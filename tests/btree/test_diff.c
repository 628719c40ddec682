/* SPDX-License-Identifier: ISC */
/* What differs between two trees, against a comparison of all pairs; and what finding it out may read. */
#include "script.h"

#include "btree/diff.h"

/* ---- the oracle ---- */

typedef struct oracle {
    bed *b;
    const model *before, *after;
    size_t i, j; /* the pairs to look at next */
    cmb_bytes to;
    uint64_t seen;
    int stop_after; /* changes; 0: never */
} oracle;

static int pair_order(const cmb_edit *a, const cmb_edit *b)
{
    return cmb_compare(a->key.data, a->key.size, b->key.data, b->key.size);
}

/* The next change that the models show; false: there is none. */
static bool expect(oracle *o, const cmb_edit **out_before, const cmb_edit **out_after)
{
    for (;;) {
        const cmb_edit *old = o->i < o->before->n ? &o->before->pair[o->i] : NULL;
        const cmb_edit *new = o->j < o->after->n ? &o->after->pair[o->j] : NULL;
        int order = old && new ? pair_order(old, new) : new ? 1 : -1;
        *out_before = order <= 0 ? old : NULL;
        *out_after = order >= 0 ? new : NULL;
        const cmb_edit *any = *out_before ? *out_before : *out_after;
        if (!any || (o->to.data && cmb_compare(any->key.data, any->key.size, o->to.data, o->to.size) >= 0))
            return false;
        o->i += order <= 0;
        o->j += order >= 0;
        if (order || old->value.size != new->value.size || memcmp(old->value.data, new->value.data, old->value.size) != 0)
            return true;
    }
}

static int check_change(void *ctx, const cmb_tree_change *change)
{
    oracle *o = ctx;
    const cmb_edit *before = NULL, *after = NULL;
    assert_true(expect(o, &before, &after));
    const cmb_edit *any = before ? before : after;
    assert_int_equal(change->key.size, any->key.size);
    assert_memory_equal(change->key.data, any->key.data, any->key.size);
    assert_int_equal(change->before != NULL, before != NULL);
    assert_int_equal(change->after != NULL, after != NULL);
    if (before)
        assert_found(o->b, change->before, before->value);
    if (after)
        assert_found(o->b, change->after, after->value);
    return ++o->seen == (uint64_t)o->stop_after ? 42 : 0;
}

static size_t lower(const model *m, cmb_bytes key)
{
    size_t i = 0;
    while (i < m->n && cmb_compare(m->pair[i].key.data, m->pair[i].key.size, key.data, key.size) < 0)
        i++;
    return i;
}

static uint64_t check_diff(bed *b, const cmb_noderef *before, const model *m, const cmb_noderef *after, const model *n,
                           const cmb_bytes *from, const cmb_bytes *to)
{
    oracle o = {.b = b, .before = m, .after = n};
    if (from) {
        o.i = lower(m, *from);
        o.j = lower(n, *from);
    }
    if (to)
        o.to = *to;
    cmb_diff_stats stats;
    OK(cmb_tree_diff(&b->tree, before, after, from, to, check_change, &o, &stats));
    const cmb_edit *left, *right;
    assert_false(expect(&o, &left, &right));
    assert_int_equal(stats.changes, o.seen);
    return o.seen;
}

static cmb_bytes some_key(const model *m)
{
    return m->n && below(3) ? bytes_copy(m->pair[below(m->n)].key) : random_key();
}

/* Both ways, and over ranges: some empty, some the wrong way round. */
static void check_pair(bed *b, const cmb_noderef *root, const model *m)
{
    uint64_t changes = check_diff(b, &root[0], &m[0], &root[1], &m[1], NULL, NULL);
    assert_int_equal(check_diff(b, &root[1], &m[1], &root[0], &m[0], NULL, NULL), changes);
    assert_int_equal(changes == 0, cmb_tree_same(&root[0], &root[1]));
    for (unsigned i = 0; i < 4; i++) {
        cmb_bytes from = some_key(&m[i & 1]), to = some_key(&m[0]);
        check_diff(b, &root[0], &m[0], &root[1], &m[1], i == 2 ? NULL : &from, i == 3 ? NULL : &to);
        free((void *)(uintptr_t)from.data);
        free((void *)(uintptr_t)to.data);
    }
}

/* ---- random pairs ---- */

/* Keys and values of so few kinds that trees without a common past have much in common. */
static void fill_narrow(model *m, size_t n)
{
    cmb_edit *edit = malloc(n * sizeof(*edit));
    for (size_t i = 0; i < n; i++) {
        unsigned key = below(2000);
        edit[i] = put_edit(text_bytes("key-%06u", key), text_bytes("%u", key % 97));
    }
    n = edits_sort(edit, n);
    model_apply(m, edit, n);
    edits_free(edit, n);
}

static void the_changes_are_those_that_comparing_all_pairs_finds(void **state)
{
    uint64_t beds = 12 * env_number("CMB_BUDGET", 1);
    for (uint64_t i = 0; i < beds; i++) {
        printf("bed %llu: CMB_SEED=%llu\n", (unsigned long long)i, (unsigned long long)rng_state);
        wide_keys = i % 6 == 5;
        bed b;
        bed_open_with(&b, targets[i % 3], i / 3 % 2 ? CMB_RESIDENCY_POOL : CMB_RESIDENCY_MAP);
        model m[2] = {0};
        cmb_noderef root[2];
        if (i % 2)
            fill_narrow(&m[0], 1 + below(3000));
        else
            fill(&m[0], 1 + below(1500), b.tree.target);
        load(&b, &m[0], &root[0]);
        for (unsigned round = 0; round < 12; round++) { /* a common past */
            m[1] = model_copy(&m[0]);
            root[1] = root[0];
            for (unsigned k = below(4); k > 0; k--)
                some_edits(&b, &root[1], &m[1], 60);
            check_pair(&b, root, m);
            model_clear(&m[0]);
            m[0] = m[1];
            root[0] = root[1];
        }
        m[1] = (model){0}; /* none */
        for (unsigned round = 0; round < 4; round++) {
            if (i % 2)
                fill_narrow(&m[1], 1 + below(2000));
            else
                fill(&m[1], 1 + below(1000), b.tree.target);
            load(&b, &m[1], &root[1]);
            check_pair(&b, root, m);
        }
        model_clear(&m[1]);
        cmb_tree_empty(&b.tree, &root[1]);
        check_pair(&b, root, m);
        model_clear(&m[0]);
        root[0] = root[1];
        check_pair(&b, root, m);
        bed_close(&b);
    }
    wide_keys = false;
}

static void trees_of_any_two_heights_are_compared(void **state)
{
    static const unsigned sizes[] = {1, 3, 8, 40, 300, 2500, 9000};
    bed b;
    bed_open(&b, 256);
    model m[CMB_COUNTOF(sizes)] = {0};
    cmb_noderef root[CMB_COUNTOF(sizes)];
    for (unsigned i = 0; i < CMB_COUNTOF(sizes); i++) {
        m[i].pair = malloc(sizes[i] * sizeof(cmb_edit));
        for (m[i].n = 0; m[i].n < sizes[i]; m[i].n++)
            m[i].pair[m[i].n] = put_edit(text_bytes("key-%06zu", m[i].n), text_bytes("%zu", m[i].n));
        load(&b, &m[i], &root[i]);
    }
    for (unsigned i = 0; i < CMB_COUNTOF(sizes); i++)
        for (unsigned j = 0; j < CMB_COUNTOF(sizes); j++)
            check_diff(&b, &root[i], &m[i], &root[j], &m[j], NULL, NULL);
    for (unsigned i = 0; i < CMB_COUNTOF(sizes); i++)
        model_clear(&m[i]);
    bed_close(&b);
}

/* ---- what it reads ---- */

static int ignore_change(void *ctx, const cmb_tree_change *change)
{
    return 0;
}

static void fill_numbers(model *m, unsigned n)
{
    m->pair = malloc(n * sizeof(cmb_edit));
    for (m->n = 0; m->n < n; m->n++)
        m->pair[m->n] = put_edit(text_bytes("%08zx", 16 * m->n), text_bytes("value %zu", m->n));
}

static void few_changes_in_a_large_tree_read_few_nodes(void **state)
{
    enum { ENTRIES = 200000, CHANGES = 10, ROUNDS = 20 };
    bed b;
    bed_open(&b, 1024);
    model m = {0};
    fill_numbers(&m, ENTRIES);
    cmb_noderef before, after, fresh;
    load(&b, &m, &before);
    uint64_t most = 0, levels = before.level + 1u;
    for (unsigned round = 0; round < ROUNDS; round++) {
        cmb_edit edit[CHANGES];
        for (unsigned i = 0; i < CHANGES; i++) {
            unsigned at = below(16 * ENTRIES);
            edit[i] = put_edit(text_bytes("%08x", round % 3 ? at : at & ~15u), text_bytes("another"));
        }
        size_t n = edits_sort(edit, CHANGES);
        if (round % 4 == 3)
            for (size_t i = 0; i < n; i++)
                edit[i].kind = CMB_EDIT_DELETE;
        after = before;
        apply(&b, &after, edit, n, NULL);
        cmb_diff_stats stats;
        OK(cmb_tree_diff(&b.tree, &before, &after, NULL, NULL, ignore_change, NULL, &stats));
        assert_true(stats.changes <= n);
        most = stats.nodes_read > most ? stats.nodes_read : most;
        for (size_t i = 0; i < n; i++)
            pair_free(&edit[i]);
    }
    printf("%llu levels: %llu nodes read at most\n", (unsigned long long)levels, (unsigned long long)most);
    assert_true(most <= CHANGES * levels * 2 + CHANGES * 4); /* a path on either side, and a neighbour now and then */

    /* The same content without a common past: by its names alone. */
    load(&b, &m, &fresh);
    assert_int_not_equal(fresh.addr, before.addr);
    cmb_diff_stats stats;
    OK(cmb_tree_diff(&b.tree, &before, &fresh, NULL, NULL, ignore_change, NULL, &stats));
    assert_int_equal(stats.nodes_read, 0);
    OK(cmb_tree_diff(&b.tree, &fresh, &after, NULL, NULL, ignore_change, NULL, &stats));
    assert_true(stats.nodes_read <= most);
    model_clear(&m);
    bed_close(&b);
}

static void a_long_row_of_new_entries_is_read_on_one_side_only(void **state)
{
    enum { ENTRIES = 20000, NEW = 20000 };
    bed b;
    bed_open(&b, 512);
    model m = {0};
    fill_numbers(&m, ENTRIES);
    cmb_noderef before, after;
    load(&b, &m, &before);
    after = before;
    cmb_edit *edit = malloc(NEW * sizeof(*edit));
    for (unsigned i = 0; i < NEW; i++)
        edit[i] = put_edit(text_bytes("%08x+%06u", 16 * ENTRIES / 2, i), text_bytes("new"));
    cmb_editor_stats written;
    apply(&b, &after, edit, NEW, &written);
    cmb_diff_stats stats;
    OK(cmb_tree_diff(&b.tree, &before, &after, NULL, NULL, ignore_change, NULL, &stats));
    printf("%llu nodes written, %llu read\n", (unsigned long long)written.nodes_written, (unsigned long long)stats.nodes_read);
    assert_int_equal(stats.changes, NEW);
    assert_true(stats.nodes_read <= written.nodes_written + 6u * (after.level + 1u));
    cmb_bytes from = edit[NEW / 2].key, to = edit[NEW / 2 + 3].key; /* a range reads its own nodes only */
    OK(cmb_tree_diff(&b.tree, &before, &after, &from, &to, ignore_change, NULL, &stats));
    assert_int_equal(stats.changes, 3);
    assert_true(stats.nodes_read <= 3u * (after.level + 1u) + before.level + 1u);
    edits_free(edit, NEW);
    model_clear(&m);
    bed_close(&b);
}

/* ---- what goes wrong ---- */

static void the_callback_stops_the_diff(void **state)
{
    bed b;
    bed_open(&b, 256);
    model m[2] = {0};
    cmb_noderef root[2];
    fill(&m[0], 300, 256);
    fill(&m[1], 300, 256);
    load(&b, &m[0], &root[0]);
    load(&b, &m[1], &root[1]);
    oracle o = {.b = &b, .before = &m[0], .after = &m[1], .stop_after = 7};
    cmb_diff_stats stats;
    assert_int_equal(cmb_tree_diff(&b.tree, &root[0], &root[1], NULL, NULL, check_change, &o, &stats), 42);
    assert_int_equal(o.seen, 7);
    assert_int_equal(stats.changes, 7);
    model_clear(&m[0]);
    model_clear(&m[1]);
    bed_close(&b);
}

static void a_refused_allocation_is_a_clean_error(void **state)
{
    bed b;
    bed_open(&b, 256);
    model m[2] = {0};
    cmb_noderef root[2];
    fill(&m[0], 300, 256);
    load(&b, &m[0], &root[0]);
    m[1] = model_copy(&m[0]);
    root[1] = root[0];
    some_edits(&b, &root[1], &m[1], 60);
    miser bad = {.base = b.tree.alloc};
    cmb_allocator honest = b.tree.alloc;
    for (long grant = 0;; grant++) {
        cmb_diff_stats stats = {.nodes_read = 77};
        b.tree.alloc = miser_of(&bad, grant);
        int error = cmb_tree_diff(&b.tree, &root[0], &root[1], NULL, NULL, ignore_change, NULL, &stats);
        b.tree.alloc = honest;
        assert_int_equal(bad.in_use, 0);
        if (!error) {
            assert_int_equal(grant, 4);
            break;
        }
        assert_int_equal(error, CMB_ENOMEM);
        assert_int_equal(stats.nodes_read, 77);
    }
    model_clear(&m[0]);
    model_clear(&m[1]);
    bed_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_changes_are_those_that_comparing_all_pairs_finds),
        cmocka_unit_test(trees_of_any_two_heights_are_compared),
        cmocka_unit_test(few_changes_in_a_large_tree_read_few_nodes),
        cmocka_unit_test(a_long_row_of_new_entries_is_read_on_one_side_only),
        cmocka_unit_test(the_callback_stops_the_diff),
        cmocka_unit_test(a_refused_allocation_is_a_clean_error),
    };
    rng_state = env_number("CMB_SEED", 20240701);
    cmocka_set_test_filter(getenv("CMB_TEST")); /* a pattern with * and ?; none: all */
    printf("CMB_SEED=%llu\n", (unsigned long long)rng_state);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
