/* SPDX-License-Identifier: ISC */
/* Residency: the mapping and the pool give the same nodes, within their bounds, whatever goes wrong. */
#include "btree/nodes.h"
#include "node_bed.h"
#include "log_bed.h"

#define LEAVES 300u
#define MAPPED (UINT64_C(64) << 20)

/* A tree of two levels with known leaves. */
typedef struct grove {
    ground g;
    cmb_noderef leaves[LEAVES], root;
} grove;

static cmb_noderef write_node(ground *g, unsigned level, const cmb_entry *entries, uint32_t n)
{
    cmb_allocator alloc = cmb_allocator_or_default(NULL);
    cmb_node_buffer buffer = {0};
    cmb_noderef ref;
    void *record;
    OK(cmb_node_encode(&alloc, HASH, level, entries, n, &buffer, &ref));
    OK(cmb_append(g->app, ref.length, &ref.addr, &record));
    memcpy(record, buffer.data, ref.length);
    cmb_node_place(record, ref.addr);
    buffer_free(&buffer);
    return ref;
}

/* Leaf `number`: a few entries whose values take `bytes` together. */
static cmb_noderef write_leaf(ground *g, uint32_t number, uint32_t bytes)
{
    enum { N = 8 };
    static uint8_t value[1 << 20];
    char keys[N][16];
    cmb_entry entries[N] = {{0}};
    memset(value, (int)(number & 0xff), sizeof value);
    for (uint32_t i = 0; i < N; i++) {
        snprintf(keys[i], sizeof keys[i], "%08u-%u", (unsigned)number, (unsigned)i);
        entries[i] = (cmb_entry){.key = (const uint8_t *)keys[i], .key_size = 10, .value = value, .value_size = bytes / N};
    }
    return write_node(g, 0, entries, N);
}

static cmb_noderef write_root(ground *g, const cmb_noderef *children, uint32_t n)
{
    static char keys[LEAVES][16];
    static cmb_entry entries[LEAVES];
    for (uint32_t i = 0; i < n; i++) {
        snprintf(keys[i], sizeof keys[i], "%08u-7", (unsigned)i);
        entries[i] = (cmb_entry){.key = (const uint8_t *)keys[i], .key_size = 10, .child = &children[i]};
    }
    return write_node(g, children[0].level + 1u, entries, n);
}

static void grove_open(grove *v, uint64_t size, const cmb_fault_rule *rules, size_t n)
{
    ground_open(&v->g, size, rules, n);
    ground_begin(&v->g);
    for (uint32_t i = 0; i < LEAVES; i++)
        v->leaves[i] = write_leaf(&v->g, i, 500 + below(6000));
    v->root = write_root(&v->g, v->leaves, LEAVES);
    ground_commit(&v->g);
}

static cmb_nodes *nodes_of(grove *v, cmb_residency residency, size_t size)
{
    cmb_allocator alloc = cmb_allocator_or_default(NULL);
    cmb_nodes *nodes;
    OK(cmb_nodes_create(&alloc, v->g.log, residency, size, &nodes));
    return nodes;
}

static void assert_is_leaf(const cmb_pin *pin, const cmb_noderef *ref)
{
    assert_non_null(pin->record);
    assert_int_equal((uintptr_t)pin->record % 8, 0);
    OK(cmb_node_verify(HASH, pin->record, ref));
}

static cmb_nodes_stats stats_of(cmb_nodes *nodes)
{
    cmb_nodes_stats stats;
    cmb_nodes_get_stats(nodes, &stats);
    return stats;
}

static void the_mapping_and_the_pool_give_the_same_nodes(void **state)
{
    grove v;
    grove_open(&v, MAPPED, NULL, 0);
    cmb_nodes *map = nodes_of(&v, CMB_RESIDENCY_AUTO, 0), *pool = nodes_of(&v, CMB_RESIDENCY_POOL, 256 << 10);
    assert_int_equal(cmb_nodes_residency(map), CMB_RESIDENCY_MAP);
    assert_int_equal(cmb_nodes_residency(pool), CMB_RESIDENCY_POOL);
    cmb_pin a_root = {0}, b_root = {0}, a = {0}, b = {0};
    cmb_node a_node, b_node;
    OK(cmb_nodes_get(map, &v.root, &a_root));
    OK(cmb_nodes_get(pool, &v.root, &b_root));
    cmb_node_open(HASH, a_root.record, &a_node);
    cmb_node_open(HASH, b_root.record, &b_node);
    for (uint32_t t = 0; t < budget(2000); t++) {
        uint32_t i = below(LEAVES);
        cmb_nodes_prefetch(map, &a_node, i);
        cmb_nodes_prefetch(pool, &b_node, i);
        if (below(2)) {
            OK(cmb_nodes_child(map, &a_node, i, &a));
            OK(cmb_nodes_child(pool, &b_node, i, &b));
        } else {
            OK(cmb_nodes_get(map, &v.leaves[i], &a));
            OK(cmb_nodes_get(pool, &v.leaves[i], &b));
        }
        assert_memory_equal(a.record, b.record, v.leaves[i].length);
        assert_is_leaf(&b, &v.leaves[i]);
    }
    assert_true(stats_of(map).verified <= LEAVES + 1); /* each once */
    cmb_pin_destroy(map, &a);
    cmb_pin_destroy(map, &a_root);
    cmb_pin_destroy(pool, &b);
    cmb_pin_destroy(pool, &b_root);
    cmb_nodes_destroy(map);
    cmb_nodes_destroy(pool);
    ground_close(&v.g);
    (void)state;
}

static void a_device_that_cannot_be_mapped_gets_a_pool(void **state)
{
    grove v;
    cmb_allocator alloc = cmb_allocator_or_default(NULL);
    cmb_nodes *none = NULL;
    grove_open(&v, 0, NULL, 0);
    cmb_nodes *nodes = nodes_of(&v, CMB_RESIDENCY_AUTO, 0);
    assert_int_equal(cmb_nodes_residency(nodes), CMB_RESIDENCY_POOL);
    assert_int_equal(cmb_nodes_create(&alloc, v.g.log, CMB_RESIDENCY_MAP, 0, &none), CMB_ENOTSUP);
    assert_int_equal(cmb_nodes_create(&alloc, v.g.log, CMB_RESIDENCY_POOL, 1000, &none), CMB_EINVAL);
    assert_null(none);
    cmb_nodes_destroy(nodes);
    ground_close(&v.g);
    (void)state;
}

static void a_tiny_pool_keeps_its_budget_and_what_is_pinned(void **state)
{
    enum { PINS = 5, BUDGET = 64 << 10 };
    grove v;
    cmb_pin pins[PINS] = {{0}}, pin = {0};
    uint32_t pinned[PINS];
    grove_open(&v, 0, NULL, 0);
    cmb_nodes *nodes = nodes_of(&v, CMB_RESIDENCY_POOL, BUDGET);
    for (uint32_t t = 0; t < budget(4000); t++) {
        if (below(10) == 0 || t < PINS) {
            uint32_t which = t < PINS ? t : below(PINS);
            pinned[which] = below(LEAVES);
            OK(cmb_nodes_get(nodes, &v.leaves[pinned[which]], &pins[which]));
        }
        uint32_t i = below(LEAVES);
        OK(cmb_nodes_get(nodes, &v.leaves[i], &pin));
        assert_is_leaf(&pin, &v.leaves[i]);
        assert_true(stats_of(nodes).resident_bytes <= BUDGET);
        uint32_t k = below(PINS);
        if (t >= PINS)
            assert_is_leaf(&pins[k], &v.leaves[pinned[k]]);
    }
    cmb_nodes_stats stats = stats_of(nodes);
    assert_true(stats.evictions > 1000 && stats.hits > 0 && stats.misses == stats.verified);
    for (uint32_t k = 0; k < PINS; k++)
        cmb_pin_destroy(nodes, &pins[k]);
    cmb_pin_destroy(nodes, &pin);
    cmb_nodes_destroy(nodes);
    ground_close(&v.g);
    (void)state;
}

static void what_is_used_again_stays_longer_than_what_is_not(void **state)
{
    grove v;
    cmb_pin pin = {0};
    grove_open(&v, 0, NULL, 0);
    cmb_nodes *nodes = nodes_of(&v, CMB_RESIDENCY_POOL, 128 << 10);
    OK(cmb_nodes_get(nodes, &v.root, &pin));
    for (uint32_t t = 0; t < 3 * LEAVES; t++) {
        OK(cmb_nodes_get(nodes, &v.leaves[t % LEAVES], &pin));
        uint64_t misses = stats_of(nodes).misses;
        OK(cmb_nodes_get(nodes, &v.root, &pin)); /* between any two others: never has to be read again */
        assert_int_equal(stats_of(nodes).misses, misses);
    }
    cmb_pin_destroy(nodes, &pin);
    cmb_nodes_destroy(nodes);
    ground_close(&v.g);
    (void)state;
}

static void a_pool_full_of_pins_says_so_and_recovers(void **state)
{
    grove v;
    static cmb_pin pins[LEAVES];
    uint32_t n = 0;
    int error = 0;
    grove_open(&v, 0, NULL, 0);
    cmb_nodes *nodes = nodes_of(&v, CMB_RESIDENCY_POOL, 64 << 10);
    memset(pins, 0, sizeof pins);
    while (n < LEAVES && !(error = cmb_nodes_get(nodes, &v.leaves[n], &pins[n])))
        n++;
    assert_int_equal(error, CMB_ENOMEM);
    assert_null(pins[n].record);
    assert_non_null(strstr(cmb_error_detail(), "no room"));
    assert_true(n >= 8);
    for (uint32_t i = 0; i < n; i++) {
        assert_is_leaf(&pins[i], &v.leaves[i]);
        cmb_pin_release(nodes, &pins[i]);
    }
    OK(cmb_nodes_get(nodes, &v.leaves[n], &pins[n]));
    assert_is_leaf(&pins[n], &v.leaves[n]);
    cmb_pin_destroy(nodes, &pins[n]);
    cmb_nodes_destroy(nodes);
    ground_close(&v.g);
    (void)state;
}

static void what_is_queued_can_be_read_and_is_not_remembered(void **state)
{
    grove v;
    grove_open(&v, MAPPED, NULL, 0);
    cmb_nodes *both[2] = {nodes_of(&v, CMB_RESIDENCY_MAP, 0), nodes_of(&v, CMB_RESIDENCY_POOL, 1 << 20)};
    ground_begin(&v.g);
    cmb_noderef leaf = write_leaf(&v.g, 7777, 3000);
    cmb_noderef root = write_root(&v.g, &leaf, 1);
    uint64_t seq = ground_publish(&v.g);
    for (unsigned written = 0; written < 2; written++) {
        for (unsigned k = 0; k < 2; k++) {
            cmb_pin pin = {0}, child = {0};
            cmb_node node;
            uint64_t copied = stats_of(both[k]).copied;
            OK(cmb_nodes_get(both[k], &root, &pin));
            cmb_node_open(HASH, pin.record, &node);
            OK(cmb_nodes_child(both[k], &node, 0, &child));
            assert_is_leaf(&child, &leaf);
            cmb_nodes_fetch_many(both[k], &leaf, 1);
            assert_int_equal(stats_of(both[k]).copied - copied, written ? 0 : 2);
            cmb_pin_destroy(both[k], &pin);
            cmb_pin_destroy(both[k], &child);
        }
        OK(cmb_log_sync(v.g.log, seq));
    }
    cmb_nodes_destroy(both[0]);
    cmb_nodes_destroy(both[1]);
    ground_close(&v.g);
    (void)state;
}

static void a_damaged_node_is_named_and_never_given_out(void **state)
{
    grove v;
    grove_open(&v, MAPPED, NULL, 0);
    damage(&v.g, v.leaves[3].addr, v.leaves[3].length, 200);
    for (unsigned k = 0; k < 2; k++) {
        cmb_nodes *nodes = nodes_of(&v, k ? CMB_RESIDENCY_POOL : CMB_RESIDENCY_MAP, 1 << 20);
        cmb_pin root = {0}, pin = {0};
        cmb_node node;
        char where[32];
        snprintf(where, sizeof where, "%llu", (unsigned long long)v.leaves[3].addr);
        OK(cmb_nodes_get(nodes, &v.root, &root));
        cmb_node_open(HASH, root.record, &node);
        cmb_nodes_fetch_many(nodes, v.leaves, 8);
        for (unsigned again = 0; again < 2; again++) {
            OK(cmb_nodes_child(nodes, &node, 4, &pin));
            assert_int_equal(cmb_nodes_child(nodes, &node, 3, &pin), CMB_ECORRUPT);
            assert_null(pin.record);
            assert_non_null(strstr(cmb_error_detail(), where));
            assert_int_equal(cmb_nodes_get(nodes, &v.leaves[3], &pin), CMB_ECORRUPT);
        }
        cmb_pin_destroy(nodes, &pin);
        cmb_pin_destroy(nodes, &root);
        cmb_nodes_destroy(nodes);
    }
    ground_close(&v.g);
    (void)state;
}

static void references_that_lie_are_refused_even_when_the_node_is_resident(void **state)
{
    grove v;
    ground_open(&v.g, MAPPED, NULL, 0);
    ground_begin(&v.g);
    for (uint32_t i = 0; i < 4; i++)
        v.leaves[i] = write_leaf(&v.g, i, 500);
    v.root = write_root(&v.g, v.leaves, 4);
    cmb_noderef lie = v.leaves[0];
    lie.level = 5;
    cmb_noderef liar = write_root(&v.g, &lie, 1);
    ground_commit(&v.g);
    for (unsigned k = 0; k < 2; k++) {
        cmb_nodes *nodes = nodes_of(&v, k ? CMB_RESIDENCY_POOL : CMB_RESIDENCY_MAP, 1 << 20);
        cmb_pin pin = {0}, child = {0};
        cmb_node node;
        OK(cmb_nodes_get(nodes, &v.leaves[0], &child));
        cmb_noderef wrong = v.leaves[0];
        wrong.count++;
        assert_int_equal(cmb_nodes_get(nodes, &wrong, &child), CMB_ECORRUPT);
        wrong = v.leaves[0];
        wrong.addr += 8;
        assert_int_equal(cmb_nodes_get(nodes, &wrong, &child), CMB_ECORRUPT);
        wrong.addr = (uint64_t)1 << 60;
        assert_int_equal(cmb_nodes_get(nodes, &wrong, &child), CMB_ECORRUPT);
        wrong = v.leaves[0];
        wrong.length = UINT32_MAX & ~15u;
        wrong.addr += 16;
        assert_int_equal(cmb_nodes_get(nodes, &wrong, &child), CMB_ECORRUPT);
        OK(cmb_nodes_get(nodes, &liar, &pin));
        cmb_node_open(HASH, pin.record, &node);
        assert_int_equal(node.level, 6);
        assert_int_equal(cmb_nodes_child(nodes, &node, 0, &child), CMB_ECORRUPT);
        assert_null(child.record);
        cmb_pin_destroy(nodes, &pin);
        cmb_pin_destroy(nodes, &child);
        cmb_nodes_destroy(nodes);
    }
    ground_close(&v.g);
    (void)state;
}

static void fetching_many_reads_each_once(void **state)
{
    grove v;
    cmb_pin pin = {0};
    grove_open(&v, 0, NULL, 0);
    cmb_nodes *nodes = nodes_of(&v, CMB_RESIDENCY_POOL, 8 << 20);
    cmb_nodes_fetch_many(nodes, v.leaves, LEAVES);
    cmb_nodes_fetch_many(nodes, v.leaves, LEAVES);
    assert_int_equal(stats_of(nodes).misses, LEAVES);
    assert_int_equal(stats_of(nodes).resident_nodes, LEAVES);
    for (uint32_t i = 0; i < LEAVES; i++) {
        OK(cmb_nodes_get(nodes, &v.leaves[i], &pin));
        assert_is_leaf(&pin, &v.leaves[i]);
    }
    assert_int_equal(stats_of(nodes).misses, LEAVES);
    assert_int_equal(stats_of(nodes).hits, LEAVES);
    cmb_pin_destroy(nodes, &pin);
    cmb_nodes_destroy(nodes);
    ground_close(&v.g);
    (void)state;
}

/* Whether a log whose n-th read of leaf 5's blocks fails gave that failure to us. */
static bool read_with_fault(uint64_t seed, const cmb_fault_rule *rule)
{
    grove v;
    cmb_pin pin = {0};
    rng_state = seed;
    grove_open(&v, 0, rule, 1);
    cmb_nodes *nodes = nodes_of(&v, CMB_RESIDENCY_POOL, 1 << 20);
    int error = cmb_nodes_get(nodes, &v.leaves[5], &pin);
    if (error) {
        assert_int_equal(error, CMB_EIO);
        assert_null(pin.record);
    }
    OK(cmb_nodes_get(nodes, &v.leaves[5], &pin));
    assert_is_leaf(&pin, &v.leaves[5]);
    cmb_pin_destroy(nodes, &pin);
    cmb_nodes_destroy(nodes);
    ground_close(&v.g);
    return error;
}

static void a_failed_read_is_an_error_and_the_next_one_is_not(void **state)
{
    const uint64_t seed = rng_state;
    grove v;
    grove_open(&v, 0, NULL, 0);
    cmb_fault_rule rule = {.op = CMB_OP_READ, .kind = CMB_FAULT_EIO};
    assert_true(cmb_log_locate(v.g.log, v.leaves[5].addr, v.leaves[5].length, &rule.offset_min));
    rule.offset_max = rule.offset_min + v.leaves[5].length;
    ground_close(&v.g);
    while (!read_with_fault(seed, &rule)) /* opening reads there as well */
        assert_true(++rule.first < 20);
    (void)state;
}

static void a_moved_segment_is_verified_anew(void **state)
{
    grove v;
    cmb_pin pin = {0};
    grove_open(&v, MAPPED, NULL, 0);
    uint64_t segment = cmb_segment_of(CMB_SEGMENT_SHIFT_MIN, v.leaves[0].addr);
    for (unsigned k = 0; k < 2; k++) {
        cmb_nodes *nodes = nodes_of(&v, k ? CMB_RESIDENCY_POOL : CMB_RESIDENCY_MAP, 1 << 20);
        for (unsigned round = 1; round < 5; round++) {
            OK(cmb_nodes_get(nodes, &v.leaves[0], &pin));
            OK(cmb_nodes_get(nodes, &v.leaves[0], &pin));
            assert_int_equal(stats_of(nodes).verified, round);
            cmb_pin_release(nodes, &pin);
            cmb_nodes_remapped(nodes, segment + 1000000);
            cmb_nodes_remapped(nodes, segment);
        }
        cmb_nodes_destroy(nodes);
    }
    ground_close(&v.g);
    (void)state;
}

static void the_empty_tree_needs_no_log(void **state)
{
    grove v;
    cmb_pin pin = {0};
    grove_open(&v, MAPPED, NULL, 0);
    cmb_nodes *nodes = nodes_of(&v, CMB_RESIDENCY_MAP, 0);
    cmb_noderef empty = {0};
    OK(cmb_nodes_get(nodes, &empty, &pin));
    cmb_node node;
    cmb_node_open(HASH, pin.record, &node);
    assert_int_equal(node.count, 0);
    assert_int_equal(cmb_node_lower_bound(&node, (const uint8_t *)"a", 1, NULL), 0);
    empty.count = 1;
    assert_int_equal(cmb_nodes_get(nodes, &empty, &pin), CMB_ECORRUPT);
    cmb_nodes_destroy(nodes);
    ground_close(&v.g);
    (void)state;
}

static void every_failed_allocation_is_clean(void **state)
{
    grove v;
    grove_open(&v, MAPPED, NULL, 0);
    ground_begin(&v.g);
    cmb_noderef queued = write_leaf(&v.g, 9, 3000);
    uint64_t seq = ground_publish(&v.g);
    for (unsigned k = 0; k < 2; k++) {
        bool done = false;
        for (uint64_t n = 0; !done; n++) {
            meter m = {.left = n};
            cmb_allocator alloc = meter_allocator(&m);
            cmb_nodes *nodes;
            cmb_pin pin = {0};
            int error = cmb_nodes_create(&alloc, v.g.log, k ? CMB_RESIDENCY_POOL : CMB_RESIDENCY_MAP, 1 << 20, &nodes);
            if (!error) {
                cmb_nodes_fetch_many(nodes, v.leaves, 20);
                error = cmb_nodes_get(nodes, &queued, &pin);
                OK(cmb_nodes_get(nodes, &v.leaves[1], &pin)); /* needs none: what cannot be remembered is verified again */
                assert_is_leaf(&pin, &v.leaves[1]);
                cmb_pin_destroy(nodes, &pin);
                cmb_nodes_destroy(nodes);
            }
            assert_true(error == 0 || error == CMB_ENOMEM);
            assert_int_equal(m.bytes, 0);
            done = error == 0 && m.left > 0;
        }
    }
    OK(cmb_log_sync(v.g.log, seq));
    ground_close(&v.g);
    (void)state;
}

/* ---- threads ---- */

typedef struct reader {
    grove *v;
    cmb_nodes *nodes;
    uint64_t seed;
    uint32_t times, wrong;
    bool moves;
} reader;

static void read_at_random(void *arg)
{
    reader *r = arg;
    cmb_pin pins[3] = {{0}};
    for (uint32_t t = 0; t < r->times; t++) {
        r->seed = r->seed * UINT64_C(6364136223846793005) + 1442695040888963407;
        uint32_t i = (uint32_t)(r->seed >> 33) % LEAVES;
        cmb_pin *pin = &pins[r->seed >> 60 & 1 ? 1 : 0];
        if (r->moves && t % 64 == 0)
            cmb_nodes_remapped(r->nodes, cmb_segment_of(CMB_SEGMENT_SHIFT_MIN, r->v->leaves[i].addr));
        if (t % 50 == 0)
            cmb_nodes_fetch_many(r->nodes, &r->v->leaves[i], LEAVES - i < 10 ? LEAVES - i : 10);
        int error = cmb_nodes_get(r->nodes, &r->v->leaves[i], pin);
        if (error || cmb_node_verify(HASH, pin->record, &r->v->leaves[i]))
            r->wrong++;
    }
    for (unsigned k = 0; k < 3; k++)
        cmb_pin_destroy(r->nodes, &pins[k]);
}

static void many_threads_read_what_was_written(void **state)
{
    enum { THREADS = 4 };
    grove v;
    grove_open(&v, MAPPED, NULL, 0);
    for (unsigned k = 0; k < 2; k++) {
        cmb_nodes *nodes = nodes_of(&v, k ? CMB_RESIDENCY_POOL : CMB_RESIDENCY_MAP, 512 << 10);
        cmb_thread threads[THREADS];
        reader readers[THREADS];
        for (unsigned i = 0; i < THREADS; i++) {
            readers[i] = (reader){&v, nodes, i + rng(), budget(3000), 0, i == 0};
            OK(cmb_thread_start(&threads[i], read_at_random, &readers[i]));
        }
        for (unsigned i = 0; i < THREADS; i++) {
            cmb_thread_join(&threads[i]);
            assert_int_equal(readers[i].wrong, 0);
        }
        cmb_nodes_destroy(nodes);
    }
    ground_close(&v.g);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_mapping_and_the_pool_give_the_same_nodes),
        cmocka_unit_test(a_device_that_cannot_be_mapped_gets_a_pool),
        cmocka_unit_test(a_tiny_pool_keeps_its_budget_and_what_is_pinned),
        cmocka_unit_test(what_is_used_again_stays_longer_than_what_is_not),
        cmocka_unit_test(a_pool_full_of_pins_says_so_and_recovers),
        cmocka_unit_test(what_is_queued_can_be_read_and_is_not_remembered),
        cmocka_unit_test(a_damaged_node_is_named_and_never_given_out),
        cmocka_unit_test(references_that_lie_are_refused_even_when_the_node_is_resident),
        cmocka_unit_test(fetching_many_reads_each_once),
        cmocka_unit_test(a_failed_read_is_an_error_and_the_next_one_is_not),
        cmocka_unit_test(a_moved_segment_is_verified_anew),
        cmocka_unit_test(the_empty_tree_needs_no_log),
        cmocka_unit_test(every_failed_allocation_is_clean),
        cmocka_unit_test(many_threads_read_what_was_written),
    };
    return cmocka_run_group_tests(tests, seed_group, NULL);
}
