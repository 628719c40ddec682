/* SPDX-License-Identifier: ISC */
/*
 * test_flush.c: each flush of a run fails once, in each of the ways in which a cache comes out of that: it holds the new data and
 * knows that they are not written, or takes them for written, or holds the old ones again. Then the store is opened
 * anew by a process that finds the cache as it is: what was acknowledged is there, and whatever is shown outlives a power cut.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "oracle.h"
#include "store/internal.h"

enum { STEPS = 14 };

static oracle_env env;

static cmb_store *open_disk(cmb_device *dev, bool writable)
{
    cmb_store *store;
    cmb_store_options options = {.env = oracle_env_of(&env), .pool_size = 1u << 20, .read_only = !writable};
    int e = cmb_store_open_device(dev, &options, &store);
    if (e)
        fail_msg("open: %s (%s)", cmb_error_name(e), cmb_error_detail());
    return store;
}

static sim_disk *make_disk(bool cached)
{
    sim_disk *disk = sim_new(&(sim_options){.size = 32u << 20, .cached = cached, .seed = 3});
    cmb_init_options init = {.node_size = 1024, .segment_size = 2u << 20, .size = 32u << 20};
    env = (oracle_env){.now = 1700000000000000, .random = 17};
    cmb_store_options options = {.env = oracle_env_of(&env)};
    assert_int_equal(cmb_store_init_device(sim_device(disk), &init, &options), 0);
    return disk;
}

static int step(cmb_store *store, unsigned i)
{
    cmb_txn *txn;
    char key[16], value[200];
    memset(value, 'a' + (int)i, sizeof value);
    if (i % 5 == 4)
        return cmb_store_checkpoint(store);
    int e = cmb_txn_begin(store, "main", 0, &txn);
    if (e)
        return e;
    for (unsigned k = 0; k < 4 && !e; k++) {
        snprintf(key, sizeof key, "k%u", (i * 3 + k) % 11);
        e = cmb_txn_put(txn, (cmb_bytes){key, strlen(key)}, (cmb_bytes){value, sizeof value - k});
    }
    assert_int_equal(e, 0);
    return cmb_txn_commit(txn, i % 2 ? &(cmb_commit_info){.author = "ada"} : NULL, NULL);
}

/* Runs until a flush fails. Prints of all steps; *out_acked: the last that returned without an error. */
static bool run_until_failure(sim_disk *disk, oracle_prints *steps, unsigned *out_acked, unsigned *out_begun)
{
    cmb_store *store = open_disk(sim_device(disk), true);
    int e = 0;
    assert_int_equal(oracle_look(store, &steps[0]), 0);
    unsigned i = 0;
    for (; i < STEPS && !e; i++) {
        e = step(store, i);
        assert_int_equal(oracle_look(store, &steps[i + 1]), 0); /* readers go on */
    }
    *out_acked = e ? i - 1 : i;
    *out_begun = i;
    if (e) {
        if (i && i % 5 != 0) /* a checkpoint that fails by itself may say so at the next commit */
            assert_int_equal(e, CMB_EUNKNOWN);
        assert_int_equal(step(store, 0), CMB_EREADONLY);
        uint64_t flushes = sim_count(disk).flushes;
        (void)cmb_store_sync(store); /* 0 if nothing is queued */
        assert_int_equal(sim_count(disk).flushes, flushes); /* it is not tried again and believed */
    }
    int closed = cmb_store_close(store);
    assert_true(e || closed == 0 || i == STEPS);
    return e != 0 || closed != 0;
}

static bool is_step(const oracle_prints *steps, unsigned from, unsigned to, const oracle_prints *found)
{
    for (unsigned i = from; i <= to; i++)
        if (memcmp(&steps[i], found, sizeof *found) == 0)
            return true;
    return false;
}

/* What is shown now is shown after power cuts as well. */
static void check_it_is_durable(sim_disk *disk, const oracle_prints *shown)
{
    for (uint64_t seed = 0; seed < 4; seed++) {
        sim_disk *after = sim_fork(disk);
        oracle_prints found;
        cmb_store *store = open_disk(sim_device(after), seed % 2);
        assert_int_equal(oracle_look(store, &found), 0);
        if (memcmp(&found, shown, sizeof found) != 0)
            fail_msg("what was served is gone after a power cut");
        assert_int_equal(cmb_store_close(store), 0);
        sim_free(after);
    }
}

/* False: there is no such flush. */
static bool try_flush(sim_slip kind, bool cached, unsigned nth, bool writable)
{
    oracle_prints steps[STEPS + 1], shown;
    unsigned acked, begun;
    sim_disk *disk = make_disk(cached);
    sim_slip_at(disk, &(sim_rule){.kind = kind, .nth = nth});
    if (nth == 0) { /* the open's own */
        cmb_store *none;
        cmb_store_options options = {.env = oracle_env_of(&env)};
        assert_int_equal(cmb_store_open_device(sim_device(disk), &options, &none), CMB_EIO);
        sim_free(disk);
        return true;
    }
    bool failed = run_until_failure(disk, steps, &acked, &begun);
    assert_int_equal(failed, sim_count(disk).slips == 1);
    if (failed) {
        cmb_store *store = open_disk(sim_device(disk), writable);
        assert_int_equal(oracle_look(store, &shown), 0);
        if (!is_step(steps, acked, begun, &shown))
            fail_msg("flush %u, kind %d: acknowledged were %u steps, and they are not what is shown", nth, kind, acked);
        check_it_is_durable(disk, &shown);
        if (writable) {
            assert_int_equal(step(store, 3), 0);
            assert_int_equal(oracle_look(store, &shown), 0);
            check_it_is_durable(disk, &shown);
        }
        assert_int_equal(cmb_store_close(store), 0);
    }
    sim_free(disk);
    return failed;
}

static void try_all(bool cached, bool writable)
{
    unsigned tried = 0;
    for (sim_slip kind = SIM_FLUSH_KEEPS_DIRTY; kind <= SIM_FLUSH_REVERTS; kind++)
        for (unsigned nth = 0; try_flush(kind, cached, nth, writable); nth++)
            tried++;
    print_message("%u failed flushes\n", tried);
    assert_true(tried > 3 * STEPS / 2);
}

static void what_the_next_writer_serves_after_a_failed_flush_is_durable_on_a_disk_that_reads_past_its_cache(void **state)
{
    (void)state;
    try_all(false, true);
}

static void what_the_next_writer_serves_after_a_failed_flush_is_durable_on_a_disk_that_cannot(void **state)
{
    (void)state;
    try_all(true, true);
}

static void what_the_next_reader_serves_after_a_failed_flush_is_durable_on_a_disk_that_reads_past_its_cache(void **state)
{
    (void)state;
    try_all(false, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_next_writer_serves_after_a_failed_flush_is_durable_on_a_disk_that_reads_past_its_cache),
        cmocka_unit_test(what_the_next_writer_serves_after_a_failed_flush_is_durable_on_a_disk_that_cannot),
        cmocka_unit_test(what_the_next_reader_serves_after_a_failed_flush_is_durable_on_a_disk_that_reads_past_its_cache),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
