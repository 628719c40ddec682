/* SPDX-License-Identifier: ISC */
#include "damage.h"

#include "store/addrset.h"

typedef struct sums {
    uint64_t used, live, meta, heads, count;
    unsigned stop_after;
} sums;

static int add_segment(void *ctx, const cmb_segment_stat *s)
{
    sums *t = ctx;
    bool meta = strcmp(s->kind, "meta") == 0;
    assert_true(s->live_bytes <= s->used_bytes);
    t->meta += meta;
    t->heads += s->head && !meta;
    t->used += meta ? 0 : s->used_bytes;
    t->live += meta ? 0 : s->live_bytes;
    return ++t->count == t->stop_after;
}

static void parts_add_up_to_the_whole(void **state)
{
    bed b;
    cmb_stat s;
    sums t = {0};
    (void)state;
    make_history(&b);
    must(cmb_stat_store(b.store, &s, add_segment, &t));
    assert_int_equal(s.live_bytes, s.leaf_bytes + s.node_bytes + s.value_bytes + s.commit_bytes + s.ref_bytes);
    assert_int_equal(t.live, s.live_bytes);
    assert_int_equal(t.used, s.log_bytes);
    assert_int_equal(t.meta, s.segments_meta);
    assert_true(t.heads <= 1);
    assert_true(s.log_bytes <= s.image_bytes);
    bed_close(&b);
}

static void counts_are_those_of_what_was_made(void **state)
{
    bed b;
    cmb_stat s;
    cmb_resolved rev;
    (void)state;
    make_history(&b);
    must(cmb_stat_store(b.store, &s, NULL, NULL));
    assert_int_equal(s.branches, 2);
    assert_int_equal(s.tags, 1);
    assert_int_equal(s.commits, HISTORY + 1);
    assert_int_equal(s.values, 1);
    assert_true(s.value_bytes > LARGE && s.value_bytes < LARGE + 1000);
    must(cmb_rev_resolve(b.store, "main", &rev));
    assert_int_equal(s.height, rev.state.root.level + 1);
    assert_true(s.entries >= ENTRIES);
    bed_close(&b);
}

static void a_branch_of_the_same_state_costs_nothing_but_its_entry(void **state)
{
    bed b;
    cmb_stat before, after;
    (void)state;
    make_history(&b);
    must(cmb_stat_store(b.store, &before, NULL, NULL));
    must(cmb_branch_create(b.store, "same", "feature"));
    must(cmb_stat_store(b.store, &after, NULL, NULL));
    assert_int_equal(after.branches, before.branches + 1);
    assert_int_equal(after.leaf_bytes, before.leaf_bytes);
    assert_int_equal(after.node_bytes, before.node_bytes);
    assert_int_equal(after.value_bytes, before.value_bytes);
    assert_int_equal(after.entries, before.entries);
    bed_close(&b);
}

static void the_list_of_segments_can_be_stopped(void **state)
{
    bed b;
    cmb_stat s = {.live_bytes = 77};
    sums t = {.stop_after = 1};
    (void)state;
    make_history(&b);
    must_be(cmb_stat_store(b.store, &s, add_segment, &t), CMB_ESTOPPED);
    assert_int_equal(t.count, 1);
    assert_int_equal(s.live_bytes, 77);
    bed_close(&b);
}

static void damage_ends_statistics_with_its_error(void **state)
{
    bed b;
    cmb_stat s;
    (void)state;
    make_history(&b);
    cmb_noderef node = first_node(&b, "v1", 1);
    bed_reopen(&b);
    damage_record(&b, node.addr, node.length, 100);
    must_be(cmb_stat_store(b.store, &s, NULL, NULL), CMB_ECORRUPT);
    bed_close(&b);
}

static void an_empty_image_has_no_entries(void **state)
{
    bed b;
    cmb_stat s;
    (void)state;
    bed_open(&b);
    must(cmb_stat_store(b.store, &s, NULL, NULL));
    assert_int_equal(s.entries, 0);
    assert_int_equal(s.leaves, 0);
    assert_int_equal(s.branches, 1);
    bed_close(&b);
}

static void a_set_of_addresses_holds_what_was_added_and_nothing_else(void **state)
{
    cmb_addrset *set;
    uint64_t seed = bed_seed();
    (void)state;
    print_message("seed %llu\n", (unsigned long long)seed);
    must(cmb_addrset_create(NULL, 21, &set));
    /* Every second granule of some segments with gaps between: small tables, grown ones, a bitmap. */
    for (uint64_t segment = 1; segment < 40; segment += 1 + segment % 3) {
        uint64_t n = segment % 5 == 0 ? 60000 : segment % 50, bytes = 0;
        for (uint64_t i = 0; i < n; i++) {
            uint64_t addr = (segment << 21) + (bed_mix(&seed) % 65536) * 32;
            bool has = cmb_addrset_has(set, addr), added;
            must(cmb_addrset_add(set, addr, 48, &added));
            assert_int_equal(added, !has);
            assert_true(cmb_addrset_has(set, addr));
            assert_false(cmb_addrset_has(set, addr + 16));
            bytes += added ? 48 : 0;
        }
        assert_int_equal(cmb_addrset_bytes(set, segment), bytes);
    }
    assert_int_equal(cmb_addrset_bytes(set, 1000), 0);
    assert_false(cmb_addrset_has(set, UINT64_C(1000) << 21));
    /* Never more than a bit a granule and a small table a segment. */
    assert_true(cmb_addrset_memory(set) < 40 * ((1u << 21) / 128 + 100) + 4096);
    cmb_addrset_destroy(set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_add_up_to_the_whole),
        cmocka_unit_test(counts_are_those_of_what_was_made),
        cmocka_unit_test(a_branch_of_the_same_state_costs_nothing_but_its_entry),
        cmocka_unit_test(the_list_of_segments_can_be_stopped),
        cmocka_unit_test(damage_ends_statistics_with_its_error),
        cmocka_unit_test(an_empty_image_has_no_entries),
        cmocka_unit_test(a_set_of_addresses_holds_what_was_added_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
