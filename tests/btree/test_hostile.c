/* SPDX-License-Identifier: ISC */
/* Keys and values that an adversary chose: nodes with one name, boundaries mined into rows, keys at every limit at once. */
#include "script.h"

#include "forged.h"

#define VALUE 700u /* bytes: inline in nodes of 4096 */

/* ---- two leaves with one name ---- */

/* Where in the hashed content of its leaf the value of a key lies. */
static size_t place_of(bed *b, const cmb_noderef *root, cmb_bytes key)
{
    cmb_path path;
    cmb_pin pin = {0};
    cmb_noderef ref;
    cmb_node node;
    bool equal = false;
    uint8_t *scratch = malloc(CMB_KEY_MAX);
    size_t at = 0;
    OK(cmb_path_open(&path, &b->tree, root, 0));
    for (int error = cmb_path_first(&path); !error && !equal; error = cmb_path_next(&path)) {
        OK(cmb_path_node(&path, scratch, &pin, &ref, &node));
        uint32_t i = cmb_node_lower_bound(&node, key.data, key.size, &equal);
        if (equal)
            at = (size_t)((const uint8_t *)cmb_node_value(&node, i).data - node.record) - 16;
    }
    assert_true(equal);
    cmb_path_close(&path);
    cmb_pin_destroy(b->tree.nodes, &pin);
    free(scratch);
    return at;
}

static void put_one(bed *b, cmb_noderef *root, cmb_bytes key, const uint8_t value[VALUE], cmb_editor_stats *out_stats)
{
    cmb_edit e = put_edit(key, (cmb_bytes){value, VALUE});
    apply(b, root, &e, 1, out_stats);
}

static void assert_holds(bed *b, const cmb_noderef *root, cmb_bytes key, const uint8_t value[VALUE])
{
    cmb_pin pin = {0};
    cmb_found found;
    OK(cmb_tree_get(&b->tree, root, key.data, key.size, &pin, &found));
    assert_int_equal(found.value.size, VALUE);
    assert_memory_equal(found.value.data, value, VALUE);
    cmb_pin_destroy(b->tree.nodes, &pin);
}

/* A tree of n entries; one of them holds the first value, then the second, of a forged pair. */
static void swap_forged(unsigned n, cmb_residency residency, unsigned levels)
{
    bed b;
    cmb_noderef root, with_a, with_b;
    cmb_editor_stats stats;
    uint8_t zeros[VALUE] = {0}, values[2][VALUE];
    model m = {.pair = malloc(n * sizeof(cmb_edit)), .n = n};
    bed_open_with(&b, 4096, residency);
    for (unsigned i = 0; i < n; i++)
        m.pair[i] = put_edit(text_bytes("key%06u", i), text_bytes("value of %u", i));
    load(&b, &m, &root);
    const cmb_bytes key = m.pair[n / 2].key;
    put_one(&b, &root, key, zeros, NULL);
    forge_pair(place_of(&b, &root, key), VALUE, values[0], values[1]);
    assert_memory_not_equal(values[0], values[1], VALUE);

    put_one(&b, &root, key, values[0], NULL);
    with_a = with_b = root;
    put_one(&b, &with_b, key, values[1], &stats);
    assert_memory_equal(with_a.name.bytes, with_b.name.bytes, CMB_NAME_MAX); /* it is a forgery */
    assert_int_equal(with_a.level + 1u, levels);
    assert_true(stats.nodes_written == levels && with_a.addr != with_b.addr); /* and written all the same */
    assert_holds(&b, &with_a, key, values[0]);
    assert_holds(&b, &with_b, key, values[1]);
    assert_holds(&b, &with_a, key, values[0]);

    put_one(&b, &with_b, key, values[1], &stats); /* the same bytes again are the same nodes */
    assert_int_equal(stats.nodes_written, 0);
    put_one(&b, &with_b, key, values[0], &stats);
    assert_int_equal(stats.nodes_written, levels);
    assert_holds(&b, &with_b, key, values[0]);
    model_clear(&m);
    bed_close(&b);
}

static void a_forged_pair_of_leaves_is_two_leaves(void **state)
{
    swap_forged(1, CMB_RESIDENCY_POOL, 1);
    swap_forged(1, CMB_RESIDENCY_MAP, 1);
}

static void a_forged_leaf_is_written_below_parents_of_one_name(void **state)
{
    swap_forged(600, CMB_RESIDENCY_POOL, 2);
    swap_forged(600, CMB_RESIDENCY_MAP, 2);
    swap_forged(40000, CMB_RESIDENCY_POOL, 3);
}

/* ---- keys at every limit, in one tree ---- */

/* Keys of 1 byte and of 16 KiB, prefixes of each other, in turn: the longest that differ in their last byte only. */
static cmb_bytes key_at_limit(unsigned i)
{
    static uint8_t key[CMB_KEY_MAX];
    static const size_t sizes[] = {1, 7, 8, 9, 15, 16, 17, 255, 256, 257, CMB_KEY_MAX / 2, CMB_KEY_MAX - 1, CMB_KEY_MAX};
    size_t size = sizes[i % CMB_COUNTOF(sizes)];
    memset(key, 0xff, size);
    key[size - 1] = (uint8_t)(i / CMB_COUNTOF(sizes));
    return bytes_copy((cmb_bytes){key, size});
}

static void limits(uint32_t target, unsigned n)
{
    bed b;
    cmb_noderef root;
    bed_open(&b, target);
    cmb_edit *edit = malloc(n * sizeof(*edit));
    model m = {0};
    for (unsigned i = 0; i < n; i++)
        edit[i] = put_edit(key_at_limit(i), text_bytes("%u", i));
    size_t kept = edits_sort(edit, n);
    model_apply(&m, edit, kept);
    load(&b, &m, &root);
    assert_canonical(&b, &root, &m);
    OK(cmb_tree_check_shape(&b.tree, &root));
    unsigned high = 2;
    for (uint64_t leaves = m.n; leaves > 1; leaves /= 2)
        high++;
    assert_true(root.level < high);
    uint64_t worst = 0;
    for (unsigned i = 0; i < 40; i++) {
        cmb_editor_stats stats;
        cmb_edit e = i % 2 ? delete_edit(bytes_copy(m.pair[below(m.n)].key)) : put_edit(bytes_copy(m.pair[below(m.n)].key), text_bytes("again %u", i));
        apply(&b, &root, &e, 1, &stats);
        model_apply(&m, &e, 1);
        pair_free(&e);
        worst = worst < stats.nodes_written ? stats.nodes_written : worst;
        assert_canonical(&b, &root, &m);
    }
    print_message("nodes of %u bytes: %zu keys at limits, %u levels, %llu nodes rewritten at most\n", target, m.n, root.level + 1u,
                  (unsigned long long)worst);
    assert_true(worst <= 12u * (root.level + 1u));
    edits_free(edit, kept);
    model_clear(&m);
    bed_close(&b);
}

static void keys_at_every_limit_keep_nodes_and_edits_bounded(void **state)
{
    limits(256, 400);
    limits(4096, 400);
    limits(65536, 400);
}

int main(void)
{
    rng_state = env_number("CMB_SEED", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_forged_pair_of_leaves_is_two_leaves),
        cmocka_unit_test(a_forged_leaf_is_written_below_parents_of_one_name),
        cmocka_unit_test(keys_at_every_limit_keep_nodes_and_edits_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
