/* SPDX-License-Identifier: ISC */
/* Point reads and counts over trees of every shape, against a sorted array. */
#include "reading.h"

#define N_MAX 4000u

static void fill_model(model *m, unsigned style, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        cmb_edit edit = random_edit(style, NULL, false, style == 4 ? 1024 : 200);
        model_set(m, &edit);
    }
}

static void assert_get(room *r, const cmb_noderef *root, const model *m, const uint8_t *key, size_t size, cmb_pin *pin)
{
    cmb_found found;
    bool equal;
    size_t at = model_lower(m, key, size, &equal);
    assert_int_equal(cmb_tree_get(&r->tree, root, key, size, pin, &found), equal ? 0 : CMB_ENOTFOUND);
    if (equal)
        assert_found(&found, &m->pairs[at]);
}

static void assert_gets(room *r, const cmb_noderef *root, const model *m, unsigned style)
{
    uint8_t key[CMB_KEY_MAX + 1];
    cmb_pin pin = {.record = NULL};
    for (size_t i = 0; i < m->n; i++) {
        const pair *p = &m->pairs[i];
        assert_get(r, root, m, p->key, p->key_size, &pin);
        memcpy(key, p->key, p->key_size);
        key[p->key_size] = 0; /* the very next key */
        if (p->key_size < CMB_KEY_MAX)
            assert_get(r, root, m, key, p->key_size + 1, &pin);
        if (p->key_size > 1)
            assert_get(r, root, m, key, p->key_size - 1, &pin);
    }
    for (int i = 0; i < 100; i++)
        assert_get(r, root, m, key, random_key(style, key), &pin);
    cmb_pin_destroy(r->tree.nodes, &pin);
}

/* Keys known and unknown, some twice, in batches of every size. */
static void assert_get_many(room *r, const cmb_noderef *root, const model *m, unsigned style)
{
    static uint8_t keys[100][CMB_KEY_MAX];
    cmb_bytes wanted[100];
    cmb_pin pins[100];
    cmb_found found[100];
    int results[100];
    memset(pins, 0, sizeof pins);
    for (int round = 0; round < 10; round++) {
        size_t n = below(101);
        for (size_t i = 0; i < n; i++) {
            const pair *p = m->n && below(4) ? &m->pairs[below(m->n)] : NULL;
            wanted[i] = p ? (cmb_bytes){p->key, p->key_size} : (cmb_bytes){keys[i], random_key(style, keys[i])};
        }
        cmb_tree_get_many(&r->tree, root, wanted, n, pins, found, results);
        for (size_t i = 0; i < n; i++) {
            bool equal;
            size_t at = model_lower(m, wanted[i].data, wanted[i].size, &equal);
            assert_int_equal(results[i], equal ? 0 : CMB_ENOTFOUND);
            if (equal)
                assert_found(&found[i], &m->pairs[at]);
        }
    }
    for (int i = 0; i < 100; i++)
        cmb_pin_destroy(r->tree.nodes, &pins[i]);
}

static void assert_counts(room *r, const cmb_noderef *root, const model *m, unsigned style)
{
    uint8_t key[2][CMB_KEY_MAX];
    for (int i = 0; i < 60; i++) {
        cmb_bytes ends[2] = {{NULL, 0}, {NULL, 0}};
        uint64_t count, rank, at[2] = {0, m->n};
        for (int e = 0; e < 2; e++) {
            bool equal, found;
            if (below(4) == 0)
                continue;
            const pair *p = m->n && below(2) ? &m->pairs[below(m->n)] : NULL;
            ends[e] = p ? (cmb_bytes){p->key, p->key_size} : (cmb_bytes){key[e], random_key(style, key[e])};
            at[e] = model_lower(m, ends[e].data, ends[e].size, &equal);
            assert_int_equal(cmb_tree_rank(&r->tree, root, ends[e].data, ends[e].size, &rank, &found), 0);
            assert_int_equal(rank, at[e]);
            assert_int_equal(found, equal);
        }
        assert_int_equal(cmb_tree_count_range(&r->tree, root, &ends[0], &ends[1], &count), 0);
        assert_int_equal(count, at[1] > at[0] ? at[1] - at[0] : 0);
    }
    uint64_t all;
    assert_int_equal(cmb_tree_count_range(&r->tree, root, NULL, NULL, &all), 0);
    assert_int_equal(all, m->n);
}

static void check_trees(cmb_residency residency, bool many)
{
    room r;
    for (unsigned round = 0; round < budget(12); round++) {
        room_open(&r, residency);
        unsigned style = round % KEY_STYLES;
        model m = {.n = 0};
        size_t n = round == 1 ? 0 : round == 2 ? 1 : style == 4 ? 300 : 1 + below(below(2) ? 20 : N_MAX);
        fill_model(&m, style, n);
        cmb_noderef root = room_build(&r, &m, 3 + (unsigned)below(below(2) ? 4 : 100));
        if (many) {
            assert_get_many(&r, &root, &m, style);
        } else {
            assert_gets(&r, &root, &m, style);
            assert_counts(&r, &root, &m, style);
        }
        model_clear(&m);
        room_close(&r);
    }
}

static void every_key_is_found_and_no_other_in_the_mapping(void **state)
{
    seed_rng(__func__);
    check_trees(CMB_RESIDENCY_MAP, false);
}

static void every_key_is_found_and_no_other_in_the_pool(void **state)
{
    seed_rng(__func__);
    check_trees(CMB_RESIDENCY_POOL, false);
}

static void many_lookups_at_once_find_the_same_in_the_mapping(void **state)
{
    seed_rng(__func__);
    check_trees(CMB_RESIDENCY_MAP, true);
}

static void many_lookups_at_once_find_the_same_in_the_pool(void **state)
{
    seed_rng(__func__);
    check_trees(CMB_RESIDENCY_POOL, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_key_is_found_and_no_other_in_the_mapping),
        cmocka_unit_test(every_key_is_found_and_no_other_in_the_pool),
        cmocka_unit_test(many_lookups_at_once_find_the_same_in_the_mapping),
        cmocka_unit_test(many_lookups_at_once_find_the_same_in_the_pool),
    };
    return cmocka_run_group_tests_name("btree/get", tests, NULL, NULL);
}
