/* SPDX-License-Identifier: ISC */
/* The streaming decider against the rule's text, followed word by word in quadratic time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "btree/boundary.h"

#define N_MAX 3000u

typedef struct end {
    uint64_t last;
    bool cut;
} end;

/* A level as the rule sees it; entries 1..n, hashes are inputs. */
typedef struct level {
    uint32_t target, n;
    bool internal;
    uint64_t hash[CMB_BOUNDARY_ROUNDS][N_MAX + 1];
    uint32_t bytes[N_MAX + 1];
    end expected[N_MAX], found[N_MAX];
    uint32_t expected_count, found_count;
    uint64_t base; /* what the decider under test calls 0 */
} level;

static level L;
static uint64_t rng_state;

static uint64_t rng(void)
{
    uint64_t z = rng_state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static uint64_t env_number(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 0) : otherwise;
}

/* ---- the rule ---- */

static uint64_t sum(uint32_t from, uint32_t to) /* of entries from .. to, inclusive */
{
    uint64_t s = 0;
    for (uint32_t i = from; i <= to; i++)
        s += L.bytes[i];
    return s;
}

static bool exceeds(uint32_t i, uint32_t j, unsigned round)
{
    if (L.internal && j == L.n)
        return true;
    if (L.internal && i == L.n)
        return false;
    return L.hash[round][i] != L.hash[round][j] ? L.hash[round][i] > L.hash[round][j] : i > j;
}

static bool in_window(uint32_t i, uint32_t j)
{
    uint32_t a = i < j ? i : j, b = i < j ? j : i;
    return b - a <= 2 || sum(a + 1, b - 1) < L.target / 2;
}

static bool is_boundary(uint32_t lo, uint32_t hi, uint32_t i, unsigned round)
{
    if (i == lo || i + 1 == hi || i == hi)
        return false;
    for (uint32_t j = i - 1; j >= lo && in_window(i, j); j--)
        if (!exceeds(i, j, round))
            return false;
    for (uint32_t j = i + 1; j <= hi && in_window(i, j); j++)
        if (!exceeds(i, j, round))
            return false;
    return true;
}

static void expect(uint64_t last, bool cut)
{
    L.expected[L.expected_count++] = (end){last, cut};
}

static void cut_greedily(uint32_t lo, uint32_t hi, bool cut)
{
    uint32_t start = lo;
    for (uint32_t i = lo; i <= hi; i++)
        if (sum(start, i) > 4 * (uint64_t)L.target && i - start >= 2 && hi - i >= 1) {
            expect(i - 1, true);
            start = i;
        }
    expect(hi, cut);
}

static void cut_run(uint32_t lo, uint32_t hi, unsigned round, bool cut)
{
    if (round > 0 && sum(lo, hi) <= 4 * (uint64_t)L.target) {
        expect(hi, cut);
    } else if (round == CMB_BOUNDARY_ROUNDS) {
        cut_greedily(lo, hi, cut);
    } else {
        uint32_t start = lo;
        for (uint32_t i = lo; i <= hi; i++)
            if (is_boundary(lo, hi, i, round)) {
                cut_run(start, i, round + 1, round > 0);
                start = i + 1;
            }
        cut_run(start, hi, round + 1, cut);
    }
}

static void follow_the_rule(void)
{
    L.expected_count = 0;
    if (sum(1, L.n) <= L.target)
        expect(L.n, false);
    else
        cut_run(1, L.n, 0, false);
}

/* ---- the decider ---- */

static uint64_t on_hash(void *ctx, uint64_t index, unsigned round)
{
    assert_true(L.found_count == 0 || L.base + index > L.found[L.found_count - 1].last);
    return L.hash[round][L.base + index];
}

static uint32_t on_bytes(void *ctx, uint64_t index)
{
    assert_true(L.found_count == 0 || L.base + index > L.found[L.found_count - 1].last);
    return L.bytes[L.base + index];
}

static int on_node(void *ctx, uint64_t last, bool cut)
{
    L.found[L.found_count++] = (end){L.base + last, cut};
    return 0;
}

static const cmb_decider_ops ops = {on_hash, on_bytes, on_node};

static void decider_open(cmb_decider *d)
{
    cmb_allocator alloc = cmb_allocator_or_default(NULL);
    cmb_decider_init(d, &alloc, L.target, L.internal, &ops, NULL);
}

static void compare_with(uint32_t skip, uint32_t count)
{
    assert_int_equal(L.found_count, count);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(L.found[i].last, L.expected[skip + i].last);
        assert_int_equal(L.found[i].cut, L.expected[skip + i].cut);
    }
}

static void decide_all(void)
{
    cmb_decider d;
    decider_open(&d);
    for (int again = 0; again < 2; again++) { /* a decider may be started again */
        L.base = L.found_count = 0;
        cmb_decider_start(&d);
        for (uint32_t i = 1; i <= L.n; i++)
            assert_int_equal(cmb_decider_push(&d, L.hash[0][i], L.bytes[i]), 0);
        assert_int_equal(cmb_decider_finish_level(&d), 0);
        assert_false(d.left_died);
        compare_with(0, L.expected_count);
    }
    cmb_decider_destroy(&d);
}

/* From after entry b, which exceeds its left window, to the level's end. */
static void decide_after(uint32_t b)
{
    bool lives = is_boundary(1, L.n, b, 0);
    cmb_decider d;
    decider_open(&d);
    L.found_count = 0;
    L.base = b;
    assert_int_equal(cmb_decider_start_after(&d, L.hash[0][b]), 0);
    for (uint32_t i = b + 1; i <= L.n; i++)
        assert_int_equal(cmb_decider_push(&d, L.hash[0][i], L.bytes[i]), 0);
    assert_int_equal(cmb_decider_finish_level(&d), 0);
    assert_int_equal(d.left_died, !lives);
    uint32_t skip = 0;
    while (lives && L.expected[skip].last <= b)
        skip++;
    if (lives && sum(1, L.n) > L.target)
        compare_with(skip, L.expected_count - skip);
    if (!lives)
        assert_int_equal(L.found_count, 0);
    cmb_decider_destroy(&d);
}

/* From the level's start to a round-0 boundary, without looking beyond it. */
static void decide_until(uint32_t p)
{
    cmb_decider d;
    decider_open(&d);
    L.base = L.found_count = 0;
    cmb_decider_start(&d);
    bool stands = false;
    for (uint32_t i = 1; i <= p; i++)
        assert_int_equal(cmb_decider_push(&d, L.hash[0][i], L.bytes[i]), 0);
    assert_int_equal(cmb_decider_stands(&d, &stands), 0);
    assert_true(stands);
    assert_int_equal(cmb_decider_finish_boundary(&d), 0);
    uint32_t count = 0;
    while (L.expected[count].last < p)
        count++;
    compare_with(0, count + 1);
    cmb_decider_destroy(&d);
}

static void check_level(void)
{
    follow_the_rule();
    decide_all();
    for (uint32_t i = 2; i + 2 <= L.n; i++) {
        if (is_boundary(1, L.n, i, 0) && sum(1, L.n) > L.target) {
            decide_after(i);
            decide_until(i);
        }
    }
    uint32_t b = 1 + (uint32_t)(rng() % L.n); /* some entry that may be none */
    bool left = b > 1 && !(L.internal && b == L.n);
    for (uint32_t j = b - 1; left && j >= 1 && in_window(b, j); j--)
        left = exceeds(b, j, 0);
    if (left)
        decide_after(b);
}

/* ---- levels ---- */

static void random_level(uint32_t n_max, uint32_t bytes_max, uint64_t hash_max)
{
    static const uint32_t targets[] = {256, 300, 512, 1024};
    L.target = targets[rng() % 4];
    L.internal = rng() % 2;
    L.n = 1 + (uint32_t)(rng() % n_max);
    for (uint32_t i = 1; i <= L.n; i++) {
        L.bytes[i] = 9 + (uint32_t)(rng() % 100 < 3 ? rng() % (64 * bytes_max) : rng() % bytes_max);
        for (unsigned r = 0; r < CMB_BOUNDARY_ROUNDS; r++)
            L.hash[r][i] = rng() % hash_max;
    }
}

static void a_random_level_is_cut_as_the_rule_says(void **state)
{
    uint64_t rounds = 300 * env_number("CMB_BUDGET", 1);
    for (uint64_t i = 0; i < rounds; i++) {
        random_level(i % 3 ? 60 : 500, i % 5 ? 60 : 400, UINT64_MAX);
        check_level();
    }
}

static void equal_hashes_are_ordered_by_key(void **state)
{
    uint64_t rounds = 300 * env_number("CMB_BUDGET", 1);
    for (uint64_t i = 0; i < rounds; i++) {
        random_level(200, 60, 1 + rng() % 12);
        check_level();
    }
}

static void runs_over_the_cap_are_cut_by_later_rounds_and_then_greedily(void **state)
{
    for (unsigned silent = 1; silent <= CMB_BOUNDARY_ROUNDS; silent++) /* so many rounds find nothing */
        for (unsigned how = 0; how < 3; how++) {
            random_level(N_MAX / 8, 60, UINT64_MAX);
            L.n = N_MAX / 8;
            for (unsigned r = 0; r < silent; r++)
                for (uint32_t i = 1; i <= L.n; i++)
                    L.hash[r][i] = how == 0 ? i : how == 1 ? L.n - i : 7; /* ascending, descending, all equal */
            check_level();
            uint32_t start = 1;
            for (uint32_t i = 0; i < L.expected_count; i++) {
                assert_true(L.expected[i].last - start >= 1);
                uint32_t last = (uint32_t)L.expected[i].last;
                assert_true(last - start < 3 || sum(start, last - 1) <= 4 * (uint64_t)L.target);
                start = last + 1;
            }
        }
}

static void a_long_run_is_decided_in_bounded_memory(void **state)
{
    L.target = 256;
    L.internal = false;
    L.n = N_MAX;
    for (uint32_t i = 1; i <= L.n; i++) {
        L.bytes[i] = 20;
        for (unsigned r = 0; r < CMB_BOUNDARY_ROUNDS; r++)
            L.hash[r][i] = i;
    }
    cmb_decider d;
    decider_open(&d);
    L.base = L.found_count = 0;
    cmb_decider_start(&d);
    for (uint32_t i = 1; i <= L.n; i++) {
        assert_int_equal(cmb_decider_push(&d, L.hash[0][i], L.bytes[i]), 0);
        uint64_t reported = L.found_count ? L.found[L.found_count - 1].last : 0;
        assert_true((i - reported) * 20 <= 4 * 256 + 5 * 128 + 200);
    }
    assert_int_equal(cmb_decider_finish_level(&d), 0);
    for (unsigned r = 0; r < CMB_BOUNDARY_ROUNDS; r++)
        assert_true(d.rounds[r].mask < 256);
    cmb_decider_destroy(&d);
}

static void hashes_differ_by_seed_level_and_round(void **state)
{
    uint64_t seen[2 * 3 * 4];
    unsigned n = 0;
    for (uint64_t seed = 0; seed < 2; seed++)
        for (unsigned lv = 0; lv < 3; lv++)
            for (unsigned round = 0; round < CMB_BOUNDARY_ROUNDS; round++) {
                seen[n] = cmb_boundary_hash(seed, lv, round, "key", 3);
                for (unsigned i = 0; i < n; i++)
                    assert_int_not_equal(seen[i], seen[n]);
                n++;
            }
    /* Part of the format: may never change. */
    assert_int_equal(cmb_boundary_salt(0, 0, 0), 0xE220A8397B1DCDAFu);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_random_level_is_cut_as_the_rule_says),
        cmocka_unit_test(equal_hashes_are_ordered_by_key),
        cmocka_unit_test(runs_over_the_cap_are_cut_by_later_rounds_and_then_greedily),
        cmocka_unit_test(a_long_run_is_decided_in_bounded_memory),
        cmocka_unit_test(hashes_differ_by_seed_level_and_round),
    };
    rng_state = env_number("CMB_SEED", 20240607);
    printf("CMB_SEED=%llu\n", (unsigned long long)rng_state);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
