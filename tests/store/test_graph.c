/* SPDX-License-Identifier: ISC */
/* Ancestors and lowest common ancestors, against sets of ancestors worked out by hand. */
#include "dag_bed.h"

#include "store/graph.h"

static uint64_t expected_bases(const dag *d, unsigned a, unsigned b)
{
    uint64_t common = d->ancestors[a] & d->ancestors[b], lowest = common;
    for (unsigned i = 0; i < d->n; i++)
        if (common >> i & 1)
            lowest &= ~(d->ancestors[i] & ~((uint64_t)1 << i));
    return lowest;
}

static unsigned number_of(const dag *d, const cmb_name *id)
{
    for (unsigned i = 0; i < d->n; i++)
        if (same_name(&d->at[i].id, id))
            return i;
    fail_msg("a commit that is not one of the history");
    return 0;
}

static void check_pair(cmb_store *store, const dag *d, unsigned a, unsigned b)
{
    cmb_commit_at *bases;
    size_t n;
    bool yes;
    uint64_t found = 0;
    must(cmb_graph_merge_bases(store, &d->at[a], &d->at[b], &bases, &n, NULL));
    for (size_t i = 0; i < n; i++) {
        unsigned k = number_of(d, &bases[i].id);
        assert_false(found >> k & 1);
        found |= (uint64_t)1 << k;
        if (i) {
            unsigned before = number_of(d, &bases[i - 1].id);
            assert_true(d->generation[before] > d->generation[k]
                        || (d->generation[before] == d->generation[k]
                            && memcmp(d->at[before].id.bytes, d->at[k].id.bytes, 32) < 0));
        }
    }
    cmb_release(&store->alloc, bases, n * sizeof *bases);
    assert_true(found == expected_bases(d, a, b));
    must(cmb_graph_is_ancestor(store, &d->at[a], &d->at[b], &yes));
    assert_int_equal(yes, d->ancestors[b] >> a & 1);
}

static void bases_and_ancestors_of_random_histories_are_the_brute_force_ones(void **state)
{
    (void)state;
    uint64_t rng = bed_seed();
    bed b;
    dag d;
    print_message("CMB_SEED=%llu\n", (unsigned long long)rng);
    bed_open(&b);
    for (unsigned round = 0; round < 1200 * bed_budget(); round++) {
        unsigned n = 2 + (unsigned)(bed_mix(&rng) % 40), window = 1 + (unsigned)(bed_mix(&rng) % (round % 3 ? 6 : 40));
        dag_random(b.store, &d, n, window, 1 + round % 4, &rng);
        for (unsigned pair = 0; pair < 14; pair++)
            check_pair(b.store, &d, (unsigned)(bed_mix(&rng) % n), (unsigned)(bed_mix(&rng) % n));
    }
    bed_close(&b);
}

static void crossed_histories_have_both_bases(void **state)
{
    (void)state;
    bed b;
    dag d;
    cmb_unit unit;
    uint64_t seq;
    cmb_commit_at *bases;
    size_t n;
    /* 0 <- 1, 2; 3 merges 1 and 2, 4 merges 2 and 1 */
    static const unsigned parents[5][2] = {{0, 0}, {0, 0}, {0, 0}, {1, 2}, {2, 1}}, counts[5] = {0, 1, 1, 2, 2};
    bed_open(&b);
    memset(&d, 0, sizeof d);
    must(cmb_unit_begin(b.store, &unit));
    for (unsigned i = 0; i < 5; i++) {
        d.parent_count[i] = counts[i];
        memcpy(d.parents[i], parents[i], sizeof parents[i]);
        cmb_tree_empty(&b.store->tree, &d.root[i]);
        dag_append(b.store, &unit, &d, 100 - i); /* the clock runs backwards: it plays no part */
    }
    must(cmb_unit_publish(&unit, &seq));
    must(cmb_graph_merge_bases(b.store, &d.at[3], &d.at[4], &bases, &n, NULL));
    assert_int_equal(n, 2);
    cmb_release(&b.store->alloc, bases, n * sizeof *bases);
    for (unsigned i = 0; i < 25; i++)
        check_pair(b.store, &d, i / 5, i % 5);
    bed_close(&b);
}

static void unrelated_histories_have_no_base(void **state)
{
    (void)state;
    uint64_t rng = 3;
    bed b;
    dag one, two;
    cmb_commit_at *bases = (cmb_commit_at *)&b;
    size_t n = 1;
    bool yes;
    bed_open(&b);
    dag_random(b.store, &one, 1, 1, 1, &rng);
    dag_random(b.store, &two, 1, 1, 1, &rng);
    must(cmb_graph_merge_bases(b.store, &one.at[0], &two.at[0], &bases, &n, NULL));
    assert_int_equal(n, 0);
    assert_null(bases);
    must(cmb_graph_is_ancestor(b.store, &one.at[0], &two.at[0], &yes));
    assert_false(yes);
    bed_close(&b);
}

/* ---- what it costs, in allocations: some five for each commit that is read ---- */

typedef struct counter {
    size_t calls, live;
    uint64_t fail_at; /* 0: never */
} counter;

static void *counted_alloc(void *ctx, size_t size)
{
    counter *c = ctx;
    c->calls++;
    return c->fail_at && c->calls >= c->fail_at ? NULL : (c->live++, malloc(size));
}

static void *counted_resize(void *ctx, void *p, size_t old_size, size_t new_size)
{
    counter *c = ctx;
    (void)old_size;
    c->calls++;
    if (c->fail_at && c->calls >= c->fail_at)
        return NULL;
    if (!p)
        c->live++;
    return realloc(p, new_size);
}

static void counted_release(void *ctx, void *p, size_t size)
{
    counter *c = ctx;
    (void)size;
    if (p)
        c->live--;
    free(p);
}

static void bed_open_counted(bed *b, counter *c)
{
    memset(b, 0, sizeof *b);
    memset(c, 0, sizeof *c);
    b->options.alloc = (cmb_allocator){c, counted_alloc, counted_resize, counted_release};
    bed_open_with(b, 0, NULL);
}

/* A line of `n` commits upwards from `from` (NULL: a root). */
static cmb_commit_at line(cmb_store *store, const cmb_commit_at *from, uint64_t generation, unsigned n, const char *name)
{
    cmb_commit_at at = from ? *from : (cmb_commit_at){.addr = 0};
    for (unsigned i = 0; i < n;) {
        cmb_unit unit;
        uint64_t seq;
        must(cmb_unit_begin(store, &unit));
        for (unsigned end = i + 500; i < n && i < end; i++) {
            cmb_commit_draft draft = {.parents = &at, .parent_count = at.id.size != 0, .generation = generation + i + 1, .message = name};
            cmb_commit_at parent = at;
            draft.parents = &parent;
            cmb_tree_empty(&store->tree, &draft.root);
            must(cmb_commit_append(store, unit.app, &draft, &at));
        }
        must(cmb_unit_publish(&unit, &seq));
    }
    return at;
}

static void what_lies_below_the_base_costs_nothing(void **state)
{
    (void)state;
    bed b;
    counter c;
    cmb_commit_at *bases;
    size_t n;
    bool yes;
    bed_open_counted(&b, &c);
    cmb_commit_at deep = line(b.store, NULL, 0, 3000, "deep"), left = line(b.store, &deep, 3000, 10, "left"),
                  right = line(b.store, &deep, 3000, 5, "right");
    size_t before = c.calls;
    must(cmb_graph_merge_bases(b.store, &left, &right, &bases, &n, NULL));
    assert_int_equal(n, 1);
    assert_true(same_name(&bases->id, &deep.id));
    cmb_release(&b.store->alloc, bases, sizeof *bases);
    must(cmb_graph_is_ancestor(b.store, &left, &right, &yes));
    assert_false(yes);
    assert_true(c.calls - before < 300);
    before = c.calls;
    must(cmb_graph_merge_bases(b.store, &left, &deep, &bases, &n, NULL)); /* one side is the base: only the other is walked */
    assert_true(same_name(&bases->id, &deep.id));
    cmb_release(&b.store->alloc, bases, sizeof *bases);
    assert_true(c.calls - before < 150);
    bed_close(&b);
}

static void out_of_memory_at_any_allocation_leaks_nothing(void **state)
{
    (void)state;
    bed b;
    counter c;
    dag d;
    uint64_t rng = 7;
    cmb_commit_at *bases;
    size_t n;
    bool yes;
    bed_open_counted(&b, &c);
    dag_random(b.store, &d, 40, 5, 3, &rng);
    for (unsigned both = 0; both < 2; both++) {
        int error = CMB_ENOMEM;
        for (unsigned k = 1; error == CMB_ENOMEM; k++) {
            size_t live = c.live;
            c.fail_at = c.calls + k;
            error = both ? cmb_graph_merge_bases(b.store, &d.at[38], &d.at[39], &bases, &n, NULL)
                         : cmb_graph_is_ancestor(b.store, &d.at[3], &d.at[39], &yes);
            c.fail_at = 0;
            if (!error && both)
                cmb_release(&b.store->alloc, bases, n * sizeof *bases);
            assert_int_equal(c.live, live);
        }
        must(error);
    }
    bed_close(&b);
}

static void a_parent_that_claims_too_high_a_generation_is_found_out(void **state)
{
    (void)state;
    bed b;
    cmb_unit unit;
    uint64_t seq;
    cmb_commit_at low, high, other, *bases;
    size_t n;
    bool yes;
    bed_open(&b);
    must(cmb_unit_begin(b.store, &unit));
    cmb_commit_draft draft = {.generation = 9, .message = "nine"};
    cmb_tree_empty(&b.store->tree, &draft.root);
    must(cmb_commit_append(b.store, unit.app, &draft, &low));
    draft = (cmb_commit_draft){.root = draft.root, .generation = 1, .message = "other"};
    must(cmb_commit_append(b.store, unit.app, &draft, &other));
    draft = (cmb_commit_draft){.root = draft.root, .generation = 9, .parents = &low, .parent_count = 1};
    must(cmb_commit_append(b.store, unit.app, &draft, &high));
    must(cmb_unit_publish(&unit, &seq));
    must_be(cmb_graph_merge_bases(b.store, &high, &other, &bases, &n, NULL), CMB_ECORRUPT);
    must_be(cmb_graph_is_ancestor(b.store, &other, &high, &yes), CMB_ECORRUPT);
    bed_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bases_and_ancestors_of_random_histories_are_the_brute_force_ones),
        cmocka_unit_test(crossed_histories_have_both_bases),
        cmocka_unit_test(unrelated_histories_have_no_base),
        cmocka_unit_test(what_lies_below_the_base_costs_nothing),
        cmocka_unit_test(out_of_memory_at_any_allocation_leaks_nothing),
        cmocka_unit_test(a_parent_that_claims_too_high_a_generation_is_found_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
