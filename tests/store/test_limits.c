/* SPDX-License-Identifier: ISC */
/* The longest keys, values and names, in nodes of every size and segments of every size. */
#include "bed.h"

#include "store/internal.h"
#include "tests/btree/forged.h"

#define KEY 16384u
#define COUNT 220u

/* Keys that differ at the end (shape 0), at the beginning (1), or in length only (2). */
static size_t key_of(unsigned shape, unsigned i, uint8_t out[KEY])
{
    memset(out, 'k', KEY);
    if (shape == 2)
        return KEY - i;
    uint8_t *at = shape ? out : out + KEY - 4;
    at[0] = (uint8_t)(i * 37u);
    at[1] = (uint8_t)i;
    at[2] = (uint8_t)(i >> 8);
    return KEY;
}

/* In line, at the very border, out of line, and of several chunks. */
static size_t value_size(unsigned i, uint32_t node)
{
    const size_t sizes[] = {0, 1, node / 4 - 1, node / 4, node / 4 + 1, 70000};
    return i % 31 == 30 ? 600000 : sizes[i % 6];
}

static uint8_t value_bytes[600000];

static void check_all(cmb_store *store, unsigned shape, uint32_t node, unsigned gone)
{
    static uint8_t key[KEY];
    cmb_snapshot *snapshot;
    cmb_bytes value;
    must(cmb_snapshot_open(store, "main", &snapshot));
    for (unsigned i = 0; i < COUNT; i++) {
        size_t size = key_of(shape, i, key);
        int error = cmb_get(snapshot, (cmb_bytes){key, size}, &value);
        if (gone && i % gone == 0) {
            must_be(error, CMB_ENOTFOUND);
            continue;
        }
        must(error);
        assert_int_equal(value.size, value_size(i, node));
        if (value.size)
            assert_memory_equal(value.data, value_bytes, value.size);
    }
    cmb_snapshot_close(snapshot);
}

static void try(uint32_t node, uint32_t segment, unsigned shape)
{
    static uint8_t key[KEY + 1];
    bed b;
    cmb_txn *txn;
    cmb_init_options init = {.node_size = node, .segment_size = segment};
    memset(&b, 0, sizeof b);
    bed_open_with(&b, 0, &init);
    for (unsigned i = 0; i < COUNT;) { /* some transactions, not one */
        must(cmb_txn_begin(b.store, "main", 0, &txn));
        for (unsigned end = i + 60; i < end && i < COUNT; i++) {
            unsigned k = (i * 7u) % COUNT;
            size_t size = key_of(shape, k, key);
            must(cmb_txn_put(txn, (cmb_bytes){key, size}, (cmb_bytes){value_bytes, value_size(k, node)}));
        }
        must_be(cmb_txn_put(txn, (cmb_bytes){key, KEY + 1}, str("")), CMB_EINVAL);
        must(cmb_txn_commit(txn, NULL, NULL));
    }
    check_all(b.store, shape, node, 0);
    bed_reopen(&b);
    check_all(b.store, shape, node, 0);
    must(cmb_txn_begin(b.store, "main", 0, &txn));
    for (unsigned i = 0; i < COUNT; i += 3) {
        size_t size = key_of(shape, i, key);
        must(cmb_txn_del(txn, (cmb_bytes){key, size}));
    }
    must(cmb_txn_commit(txn, NULL, NULL));
    check_all(b.store, shape, node, 3);
    bed_close(&b);
}

static void keys_of_16_KiB_fit_nodes_and_segments_of_every_size(void **state)
{
    (void)state;
    uint64_t seed = 4;
    for (size_t i = 0; i < sizeof value_bytes; i++)
        value_bytes[i] = (uint8_t)bed_mix(&seed);
    for (uint32_t node = 256; node <= 65536; node *= 16)
        for (unsigned shape = 0; shape < 3; shape++)
            try(node, 2u << 20, shape);
    try(4096, 64u << 20, 1);
}

static void names_of_255_bytes_are_branches_and_tags(void **state)
{
    (void)state;
    bed b;
    char name[258];
    bed_open(&b);
    put(b.store, "main", "a", "b", "one");
    memset(name, 'n', sizeof name);
    for (size_t size = 254; size <= 256; size++) {
        name[size] = 0;
        int wanted = size > 255 ? CMB_EINVAL : 0;
        must_be(cmb_branch_create(b.store, name, "main"), wanted);
        must_be(cmb_tag_create(b.store, name, "main"), wanted);
        if (!wanted)
            put(b.store, name, "c", "d", "two");
        name[size] = 'n';
    }
    bed_reopen(&b);
    name[255] = 0;
    expect(b.store, name, "c", "d");
    bed_close(&b);
}

/* ---- two contents with one name ---- */

#define FORGED 700u

/* Where in the hashed content of a tree of one leaf the value of its only key lies. */
static size_t place_of_value(cmb_store *store)
{
    cmb_resolved rev;
    cmb_pin pin = {0};
    cmb_node node;
    must(cmb_rev_resolve(store, "main", &rev));
    must(cmb_nodes_get(store->nodes, &rev.state.root, &pin));
    cmb_node_open(store->tree.hash, pin.record, &node);
    assert_true(node.level == 0 && node.count == 1);
    size_t at = (size_t)((const uint8_t *)cmb_node_value(&node, 0).data - node.record) - 16;
    cmb_pin_destroy(store->nodes, &pin);
    return at;
}

static void commit_value(cmb_store *store, const uint8_t value[FORGED], const char *message)
{
    cmb_commit_info info = {.author = "eve", .message = message};
    cmb_txn *txn;
    must(cmb_txn_begin(store, "main", 0, &txn));
    must(cmb_txn_put(txn, str("key"), (cmb_bytes){value, FORGED}));
    must(cmb_txn_commit(txn, message ? &info : NULL, NULL));
}

static void expect_forged(cmb_store *store, const char *rev, const uint8_t value[FORGED])
{
    cmb_snapshot *snapshot;
    cmb_bytes got;
    must(cmb_snapshot_open(store, rev, &snapshot));
    must(cmb_get(snapshot, str("key"), &got));
    assert_int_equal(got.size, FORGED);
    assert_memory_equal(got.data, value, FORGED);
    cmb_snapshot_close(snapshot);
}

/* Permanent or not, after a commit or a working state: what was put is what is read, now and after a reopen. */
static void a_value_that_makes_a_forged_name_is_not_dropped(void **state)
{
    for (unsigned how = 0; how < 4; how++) {
        bed b;
        cmb_name roots[2];
        uint8_t zeros[FORGED] = {0}, values[2][FORGED];
        const char *first = how & 1 ? "one" : NULL, *second = how & 2 ? "two" : NULL;
        bed_open(&b);
        commit_value(b.store, zeros, "zeros");
        forge_pair(place_of_value(b.store), FORGED, values[0], values[1]);
        for (unsigned i = 0; i < 2; i++) {
            commit_value(b.store, values[i], i ? second : first);
            expect_forged(b.store, "main", values[i]);
            roots[i] = rev_of(b.store, "main").root;
        }
        assert_true(same_name(&roots[0], &roots[1]));
        expect_forged(b.store, "main", values[1]);
        bed_reopen(&b);
        expect_forged(b.store, "main", values[1]);
        commit_value(b.store, values[0], NULL);
        expect_forged(b.store, "main", values[0]);
        bed_reopen(&b);
        expect_forged(b.store, "main", values[0]);
        bed_close(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_of_16_KiB_fit_nodes_and_segments_of_every_size),
        cmocka_unit_test(names_of_255_bytes_are_branches_and_tags),
        cmocka_unit_test(a_value_that_makes_a_forged_name_is_not_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
