/* SPDX-License-Identifier: ISC */
/* Equal contents have equal roots, however they came about: 200,000 pairs by four ways. */
#include "bed.h"

#define PAIRS 200000u

static void pair(uint32_t i, uint8_t key[24], uint8_t value[40], uint32_t version)
{
    uint64_t r = i;
    for (int k = 0; k < 24; k += 8) {
        uint64_t v = bed_mix(&r);
        memcpy(key + k, &v, 8);
    }
    r += version;
    for (int k = 0; k < 40; k += 8) {
        uint64_t v = bed_mix(&r);
        memcpy(value + k, &v, 8);
    }
}

static int compare_pairs(const void *a, const void *b)
{
    uint8_t x[24], y[24], value[40];
    pair(*(const uint32_t *)a, x, value, 0);
    pair(*(const uint32_t *)b, y, value, 0);
    return memcmp(x, y, 24);
}

static uint32_t *numbers(uint32_t from, uint32_t n)
{
    uint32_t *list = malloc(n * sizeof *list);
    assert_non_null(list);
    for (uint32_t i = 0; i < n; i++)
        list[i] = from + i;
    return list;
}

static void shuffle(uint32_t *list, uint32_t n, uint64_t seed)
{
    for (uint32_t i = n; i > 1; i--) {
        uint32_t k = (uint32_t)(bed_mix(&seed) % i), t = list[i - 1];
        list[i - 1] = list[k];
        list[k] = t;
    }
}

static void put_all(cmb_txn *txn, const uint32_t *list, uint32_t n, uint32_t version)
{
    uint8_t key[24], value[40];
    for (uint32_t i = 0; i < n; i++) {
        pair(list[i], key, value, version);
        must(cmb_txn_put(txn, (cmb_bytes){key, 24}, (cmb_bytes){value, 40}));
    }
}

static void delete_all(cmb_txn *txn, const uint32_t *list, uint32_t n)
{
    uint8_t key[24], value[40];
    for (uint32_t i = 0; i < n; i++) {
        pair(list[i], key, value, 0);
        must(cmb_txn_del(txn, (cmb_bytes){key, 24}));
    }
}

static cmb_txn *begin(cmb_store *store, const char *branch)
{
    cmb_txn *txn;
    must(cmb_txn_begin(store, branch, 0, &txn));
    return txn;
}

static void commit(cmb_txn *txn, uint32_t i)
{
    cmb_commit_info info = {.author = "ada", .message = "a ring"};
    must(cmb_txn_commit(txn, i % 2 ? &info : NULL, NULL));
}

static void load_sorted(cmb_store *store, const char *branch)
{
    uint32_t *list = numbers(0, PAIRS);
    cmb_txn *txn = begin(store, branch);
    qsort(list, PAIRS, sizeof *list, compare_pairs);
    put_all(txn, list, PAIRS, 0);
    commit(txn, 1);
    free(list);
}

/* In so many commits, in an order that the seed decides. */
static void load_shuffled(cmb_store *store, const char *branch, uint32_t commits, uint64_t seed)
{
    uint32_t *list = numbers(0, PAIRS), part = PAIRS / commits;
    shuffle(list, PAIRS, seed);
    for (uint32_t i = 0; i < commits; i++) {
        cmb_txn *txn = begin(store, branch);
        put_all(txn, list + i * part, part, 0);
        commit(txn, i);
    }
    free(list);
}

static void with_visitors(cmb_store *store, const char *branch)
{
    uint32_t *others = numbers(PAIRS, PAIRS / 2), part = PAIRS / 2 / 10;
    cmb_txn *txn = begin(store, branch);
    put_all(txn, others, PAIRS / 2, 0);
    commit(txn, 1);
    load_shuffled(store, branch, 10, 5);
    shuffle(others, PAIRS / 2, 6);
    for (uint32_t i = 0; i < 10; i++) {
        txn = begin(store, branch);
        delete_all(txn, others + i * part, part);
        commit(txn, i);
    }
    free(others);
}

static void with_changes(cmb_store *store, const char *branch)
{
    uint32_t *list = numbers(0, PAIRS);
    load_shuffled(store, branch, 4, 7);
    shuffle(list, PAIRS, 8);
    for (uint32_t version = 2; version--;) {
        cmb_txn *txn = begin(store, branch);
        put_all(txn, list, PAIRS / 3, version);
        commit(txn, version);
    }
    free(list);
}

static void one_content_has_one_root_however_it_came_about(void **state)
{
    static const char *const ways[] = {"shuffled", "visitors", "changes"};
    bed b;
    memset(&b, 0, sizeof b);
    b.options.txn_memory = 4 << 20;
    bed_open_with(&b, 0, NULL);
    load_sorted(b.store, "main");
    for (int i = 0; i < 3; i++)
        must(cmb_branch_create(b.store, ways[i], NULL));
    load_shuffled(b.store, "shuffled", 50, 3);
    with_visitors(b.store, "visitors");
    with_changes(b.store, "changes");
    cmb_rev sorted = rev_of(b.store, "main^{root}");
    assert_int_equal(sorted.entries, PAIRS);
    for (int i = 0; i < 3; i++) {
        char rev[32];
        snprintf(rev, sizeof rev, "%s^{root}", ways[i]);
        cmb_rev other = rev_of(b.store, rev);
        assert_int_equal(other.entries, PAIRS);
        assert_true(same_name(&sorted.root, &other.root));
    }
    bed_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_content_has_one_root_however_it_came_about),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
