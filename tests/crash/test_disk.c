/* SPDX-License-Identifier: ISC */
/*
 * test_disk.c: a disk that lies: reads and writes that go elsewhere, transfers that end early, sectors that cannot be read, rot, or hold
 * noise. Whatever it does, all refs are read as they were, or a named error says that something is wrong: never other data.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "io/base.h"
#include "oracle.h"
#include "store/internal.h"

enum { STEPS = 12, SIZE = 32 << 20, BLOCK = 4096 };

typedef struct run {
    sim_disk *disk;
    oracle_env env;
    oracle_prints steps[STEPS + 1];
    unsigned acked, begun;
} run;

static int open_run(run *r, bool writable, cmb_store **out_store)
{
    cmb_store_options options = {.env = oracle_env_of(&r->env), .pool_size = 1u << 20, .read_only = !writable};
    return cmb_store_open_device(sim_device(r->disk), &options, out_store);
}

static void make_disk(run *r, bool cached)
{
    *r = (run){.disk = sim_new(&(sim_options){.size = SIZE, .seed = 3, .cached = cached}), .env = {.now = 1700000000000000, .random = 17}};
    cmb_init_options init = {.node_size = 1024, .segment_size = 2u << 20, .size = SIZE};
    cmb_store_options options = {.env = oracle_env_of(&r->env)};
    cmb_store *store;
    assert_int_equal(cmb_store_init_device(sim_device(r->disk), &init, &options), 0);
    assert_int_equal(open_run(r, true, &store), 0);
    assert_int_equal(cmb_branch_create(store, "side", NULL), 0);
    assert_int_equal(oracle_look(store, &r->steps[0]), 0);
    assert_int_equal(cmb_store_close(store), 0);
}

static int step(cmb_store *store, unsigned i)
{
    cmb_txn *txn;
    char key[16], value[300];
    memset(value, 'a' + (int)i, sizeof value);
    if (i % 5 == 4)
        return cmb_store_checkpoint(store);
    int e = cmb_txn_begin(store, i % 3 ? "main" : "side", 0, &txn);
    if (e)
        return e;
    for (unsigned k = 0; k < 4 && !e; k++) {
        snprintf(key, sizeof key, "k%u", (i * 3 + k) % 11);
        e = cmb_txn_put(txn, (cmb_bytes){key, strlen(key)}, (cmb_bytes){value, k == 3 ? sizeof value : 60});
    }
    if (!e)
        e = cmb_txn_commit(txn, i % 2 ? &(cmb_commit_info){.author = "ada"} : NULL, NULL);
    if (e == CMB_ENOSPC || e == CMB_ENOMEM)
        cmb_txn_abort(txn);
    return e;
}

/* Steps until one fails, or all. False: something failed. */
static bool take_steps(run *r)
{
    cmb_store *store;
    if (open_run(r, true, &store))
        return false;
    int e = 0;
    for (unsigned i = 0; i < STEPS && !e; i++) {
        r->begun = i + 1;
        e = step(store, i);
        int looked = oracle_look(store, &r->steps[i + 1]);
        if (!e && looked) { /* what was written wrongly is noticed here */
            e = looked;
            r->begun = i;
        }
        r->acked = e ? r->acked : i + 1;
    }
    int closed = cmb_store_close(store);
    return !e && !closed;
}

/* Opens and reads everything. 0: *out_step of [from, to] is shown. */
static int look(run *r, bool writable, unsigned from, unsigned to, unsigned *out_step)
{
    cmb_store *store;
    oracle_prints found;
    int e = open_run(r, writable, &store);
    if (e)
        return e;
    e = oracle_look(store, &found);
    cmb_store_close(store);
    if (e)
        return e;
    for (unsigned i = from; i <= to; i++) {
        if (memcmp(&r->steps[i], &found, sizeof found) == 0) {
            *out_step = i;
            return 0;
        }
    }
    fail_msg("other data were read, and nothing said so");
    return 0;
}

static bool is_named(int e)
{
    return e == CMB_ECORRUPT || e == CMB_EIO || e == CMB_ENOTIMAGE;
}

/* ---- reads ---- */

static void reads_that_go_elsewhere_or_end_early_give_the_same_data_or_an_error(void **state)
{
    (void)state;
    static const int64_t distances[] = {512, -4096, 1 << 20, -(2 << 20)};
    unsigned errors = 0, same = 0;
    run r;
    make_disk(&r, false);
    assert_true(take_steps(&r));
    for (unsigned kind = 0; kind <= CMB_COUNTOF(distances); kind++) {
        for (unsigned nth = 0;; nth++) {
            sim_rule rule = {.kind = SIM_SHORT_READ, .nth = nth, .length = 512};
            if (kind < CMB_COUNTOF(distances))
                rule = (sim_rule){.kind = SIM_STRAY_READ, .nth = nth, .distance = distances[kind]};
            run copy = r;
            unsigned step;
            copy.disk = sim_fork(r.disk);
            sim_slip_at(copy.disk, &rule);
            int e = look(&copy, nth % 2, STEPS, STEPS, &step);
            bool slipped = sim_count(copy.disk).slips;
            sim_free(copy.disk);
            assert_true(e == 0 || is_named(e));
            errors += e != 0;
            same += slipped && e == 0;
            if (!slipped)
                break;
        }
    }
    print_message("%u reads went wrong without harm, %u were noticed\n", same, errors);
    assert_true(errors > 20);
    sim_free(r.disk);
}

/* ---- writes ---- */

/* A write fails or is short: what was acknowledged is there. */
static void after_a_short_write_everything_acknowledged_is_there(void **state)
{
    (void)state;
    unsigned tried = 0;
    for (unsigned nth = 0;; nth++) {
        run r;
        unsigned step;
        make_disk(&r, nth % 3 == 2);
        sim_slip_at(r.disk, &(sim_rule){.kind = nth % 2 ? SIM_SHORT_WRITE : SIM_FULL_WRITE, .nth = nth / 2, .length = nth % 2 ? 512 : 1024});
        bool whole = take_steps(&r);
        bool slipped = sim_count(r.disk).slips;
        for (unsigned writable = 0; writable < 2; writable++) {
            assert_int_equal(look(&r, writable, r.acked, r.begun, &step), 0);
            sim_power_cut(r.disk, nth);
        }
        sim_free(r.disk);
        if (!slipped) {
            assert_true(whole);
            break;
        }
        tried++;
    }
    print_message("%u short writes\n", tried);
    assert_true(tried > 2 * STEPS);
}

/* A write that the disk puts elsewhere and calls done. Nobody can bring back what it should have held and what it
 * overwrote; but no reader is told anything else than what some moment before showed. */
static void a_write_that_went_elsewhere_is_noticed_or_harmless(void **state)
{
    (void)state;
    static const int64_t distances[] = {4096, -4096, 2 << 20, -(1 << 20)};
    unsigned noticed = 0, harmless = 0, older = 0;
    for (unsigned kind = 0; kind < CMB_COUNTOF(distances); kind++) {
        for (unsigned nth = 0;; nth++) {
            run r;
            unsigned step = 0;
            make_disk(&r, false);
            sim_slip_at(r.disk, &(sim_rule){.kind = SIM_STRAY_WRITE, .nth = nth, .distance = distances[kind]});
            bool whole = take_steps(&r);
            bool slipped = sim_count(r.disk).slips;
            int e = look(&r, false, 0, r.begun, &step);
            assert_true(e == 0 || is_named(e));
            harmless += slipped && e == 0 && whole && step == STEPS;
            if (e == 0 && whole && step != STEPS) {
                assert_int_equal(step, STEPS - 1);
                older++;
            }
            noticed += e != 0 || !whole;
            sim_free(r.disk);
            if (!slipped)
                break;
        }
    }
    print_message("%u writes went elsewhere without harm, %u were noticed, after %u an older state is shown\n", harmless, noticed, older);
    assert_true(noticed > STEPS);
    /* The seal, put over the batch that it seals: the only witness went with what it speaks of. */
    assert_true(older <= 1);
}

/* ---- places ---- */

static bool is_used(const sim_disk *disk, uint64_t offset)
{
    static const uint8_t zeros[BLOCK];
    uint8_t block[BLOCK];
    sim_peek(disk, offset, block, BLOCK);
    return memcmp(block, zeros, BLOCK) != 0;
}

static void damaged_sectors_anywhere_give_the_same_data_or_an_error(void **state)
{
    (void)state;
    unsigned errors = 0, same = 0;
    run r;
    make_disk(&r, false);
    assert_true(take_steps(&r));
    for (uint64_t at = 0; at < SIZE; at += BLOCK) {
        if (!is_used(r.disk, at))
            continue;
        for (unsigned kind = SIM_LATENT; kind <= SIM_GARBAGE; kind++) {
            for (unsigned whole = 0; whole < 2; whole++) {
                run copy = r;
                unsigned step;
                copy.disk = sim_fork(r.disk);
                sim_damage(copy.disk, (sim_place)kind, at, whole ? BLOCK : SIM_SECTOR);
                int e = look(&copy, kind == SIM_ROT, STEPS, STEPS, &step);
                assert_true(e == 0 || is_named(e));
                if (at < 4 << 20)
                    assert_int_equal(e, 0); /* of each superblock there are others */
                errors += e != 0;
                same += e == 0;
                sim_free(copy.disk);
            }
        }
    }
    print_message("%u damaged places did no harm, %u were noticed\n", same, errors);
    assert_true(errors > 20);
    sim_free(r.disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_that_go_elsewhere_or_end_early_give_the_same_data_or_an_error),
        cmocka_unit_test(after_a_short_write_everything_acknowledged_is_there),
        cmocka_unit_test(a_write_that_went_elsewhere_is_noticed_or_harmless),
        cmocka_unit_test(damaged_sectors_anywhere_give_the_same_data_or_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
