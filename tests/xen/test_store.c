/* SPDX-License-Identifier: ISC */
/*
 * The store on a virtual device: crash states under a back end that runs and answers everything between flushes in an order of
 * its own, back ends that restart under it, and one that cannot make anything durable.
 */
#include "bed.h"

#include <unistd.h>

#include <cambium/cambium.h>

#include "tests/crash/enumerate.h"
#include "tests/crash/oracle.h"
#include "tests/sim/trace.h"

#define IMAGE   ((uint64_t)48 << 20)
#define SEGMENT (2u << 20)
#define STEPS   24u

static cmb_store_options store_options(oracle_env *env)
{
    return (cmb_store_options){.env = oracle_env_of(env), .pool_size = 2u << 20};
}

static void make_image(cmb_device *dev, oracle_env *env)
{
    cmb_init_options init = {.node_size = 1024, .segment_size = SEGMENT};
    cmb_store_options options = store_options(env);
    cmb_store *store;
    assert_ok(cmb_store_init_device(dev, &init, &options));
    assert_ok(cmb_store_open_device(dev, &options, &store));
    for (unsigned i = 1; i < ORACLE_BRANCHES; i++)
        assert_ok(cmb_branch_create(store, oracle_refs[i], NULL));
    assert_ok(cmb_store_close(store));
}

/* A working commit or a permanent one, of a few pairs, some of them large, on some branch. */
static int step(cmb_store *store, unsigned number, uint64_t *random)
{
    char key[16], message[16];
    uint8_t value[3000];
    cmb_txn *txn;
    int error = cmb_txn_begin(store, oracle_refs[io_test_random(random) % ORACLE_BRANCHES], 0, &txn);
    if (error)
        return error;
    unsigned n = 1 + (unsigned)(io_test_random(random) % 40);
    for (unsigned i = 0; i < n && !error; i++) {
        size_t size = io_test_random(random) % 8 ? 20 + io_test_random(random) % 80 : sizeof value;
        snprintf(key, sizeof key, "key%u", (unsigned)(io_test_random(random) % 500));
        io_test_fill(value, size, number * 1000 + i);
        error = cmb_txn_put(txn, (cmb_bytes){key, strlen(key)}, (cmb_bytes){value, size});
    }
    snprintf(message, sizeof message, "step %u", number);
    cmb_commit_info info = {.author = "ada", .message = message};
    if (error) {
        cmb_txn_abort(txn);
        return error;
    }
    return cmb_txn_commit(txn, io_test_random(random) % 2 ? &info : NULL, NULL);
}

/* ---- crash states ---- */

typedef struct crash_run {
    sim_pages start;
    sim_trace trace;
    oracle_prints steps[STEPS + 1];
} crash_run;

static void record(crash_run *run, uint64_t seed, bool persistent)
{
    oracle_env env = {.now = 1700000000000000, .random = seed};
    cmb_store_options options = store_options(&env);
    uint64_t random = seed;
    sim_disk *disk = sim_new(&(sim_options){.size = IMAGE, .jitter = 1000000, .seed = seed});
    cmb_store *store;
    bed b = {.mode = CMB_OPEN_WRITE, .hub_options = {.grants = 4096}};
    cmb_xen_back_options_default(&b.offer);
    cmb_xen_options_default(&b.take);
    b.offer.shuffle = seed | 1;
    b.offer.segments = seed % 2 ? 0 : 32;
    b.take.persistent = persistent;
    make_image(sim_device(disk), &env);
    sim_pages_share(&run->start, sim_medium(disk));
    assert_ok(sim_record(disk, &run->trace, &b.disk));
    bed_open(&b);
    assert_ok(cmb_store_open_device(b.dev, &options, &store));
    assert_ok(oracle_look(store, &run->steps[0]));
    for (unsigned i = 1; i <= STEPS; i++) {
        sim_note(&run->trace, CRASH_BEGUN, i);
        assert_ok(step(store, i, &random));
        sim_note(&run->trace, CRASH_ACKED, i);
        assert_ok(oracle_look(store, &run->steps[i]));
    }
    assert_ok(cmb_store_close(store));
    bed_close(&b);
}

static crash_tally judge(const crash_run *run, uint64_t seed, bool no_flush)
{
    oracle o = {.steps = run->steps, .count = STEPS + 1, .care = {.fsck = 40}, .seen = crash_seen_new()};
    crash_plan plan = {.start = &run->start,
                       .start_size = IMAGE,
                       .options = {.size = IMAGE, .seed = seed},
                       .per_epoch = 12 * io_test_budget(),
                       .seed = seed,
                       .no_flush = no_flush,
                       .noise = true,
                       .judge = oracle_judge,
                       .ctx = &o,
                       .seen = o.seen};
    crash_tally tally = {0};
    crash_enumerate(&run->trace, &plan, &tally);
    crash_seen_free(o.seen);
    return tally;
}

static void acknowledged_commits_survive_a_back_end_that_reorders_everything_between_flushes(void **state)
{
    uint64_t seed = io_test_seed();
    for (unsigned persistent = 0; persistent < 2; persistent++, seed++) {
        crash_run run = {0};
        record(&run, seed, persistent);
        crash_tally tally = judge(&run, seed, /* no_flush= */ false);
        print_message("%llu crash states of %llu epochs, %llu of them distinct\n", (unsigned long long)tally.judged,
                      (unsigned long long)tally.epochs, (unsigned long long)tally.distinct);
        if (tally.wrong)
            fail_msg("%s", tally.first_wrong);
        assert_true(tally.judged > STEPS);
        /* The same run, had the back end's flush done nothing: what is lost then is found. */
        assert_true(judge(&run, seed, /* no_flush= */ true).wrong > 0);
        sim_pages_free(&run.start);
        sim_trace_free(&run.trace);
    }
}

/* ---- back ends that restart ---- */

static bool holds(cmb_store *store, unsigned number)
{
    char key[16];
    cmb_bytes value;
    cmb_snapshot *s;
    snprintf(key, sizeof key, "commit%u", number);
    assert_ok(cmb_snapshot_open(store, "main", &s));
    int error = cmb_get(s, (cmb_bytes){key, strlen(key)}, &value);
    cmb_snapshot_close(s);
    assert_true(error == 0 || error == CMB_ENOTFOUND);
    return error == 0;
}

static int commit(cmb_store *store, unsigned number)
{
    char key[16];
    cmb_txn *txn;
    int error = cmb_txn_begin(store, "main", 0, &txn);
    if (error)
        return error;
    snprintf(key, sizeof key, "commit%u", number);
    error = cmb_txn_put(txn, (cmb_bytes){key, strlen(key)}, (cmb_bytes){"x", 1});
    if (error) {
        cmb_txn_abort(txn);
        return error;
    }
    return cmb_txn_commit(txn, NULL, NULL);
}

static void restart(void *arg)
{
    bed *b = arg;
    cmb_xen_back_options next = b->offer;
    next.fault_count = 0;
    uint64_t until = cmb_os_monotonic() + 30u * 1000000000u;
    while (!cmb_xen_back_is_dead(b->back) && cmb_os_monotonic() < until)
        usleep(500);
    assert_ok(cmb_xen_back_restart(b->back, &next));
}

/* The back end dies at its k-th request, whatever that is, and another comes. */
static void die_at(uint64_t k, unsigned *out_unknown)
{
    const cmb_xen_fault fault = {.op = CMB_XEN_OP_ANY, .kind = CMB_XEN_FAULT_DIE, .first = k};
    oracle_env env = {.now = 1700000000000000, .random = k};
    cmb_store_options options = store_options(&env);
    cmb_thread thread;
    cmb_store *store;
    unsigned acked = 0;
    int error = 0;
    bed b;
    bed_init(&b, IMAGE);
    make_image(b.disk, &env);
    b.offer.faults = &fault;
    b.offer.fault_count = 1;
    bed_open(&b);
    assert_ok(cmb_thread_start(&thread, restart, &b));
    int opened = cmb_store_open_device(b.dev, &options, &store);
    for (; !opened && !error && acked < 30; acked += !error)
        error = commit(store, acked);
    if (error) {
        assert_int_equal(error, CMB_EUNKNOWN);
        assert_detail_has("the back end restarted between write and flush");
        assert_error(commit(store, 99), CMB_EREADONLY);
        ++*out_unknown;
    }
    if (!opened)
        (void)cmb_store_close(store);
    cmb_thread_join(&thread);
    assert_ok(cmb_store_open_device(b.dev, &options, &store));
    for (unsigned i = 0; i < acked; i++)
        assert_true(holds(store, i));
    assert_false(holds(store, acked + 1));
    assert_ok(commit(store, 1000));
    assert_ok(cmb_store_close(store));
    bed_close(&b);
}

static void a_restart_under_a_commit_makes_its_outcome_unknown_and_loses_nothing_acknowledged(void **state)
{
    unsigned unknown = 0;
    for (uint64_t k = 8; k < 60; k += 5)
        die_at(k, &unknown);
    print_message("%u commits of unknown outcome\n", unknown);
    assert_true(unknown > 0);
}

/* ---- a back end without flush ---- */

static void a_store_needs_a_flush_unless_it_is_told_to_do_without(void **state)
{
    oracle_env env = {.now = 1700000000000000};
    cmb_store_options options = store_options(&env);
    cmb_store *store = NULL;
    bed b;
    bed_init(&b, IMAGE);
    make_image(b.disk, &env);
    b.offer.flush = b.offer.barrier = false;
    bed_open(&b);
    assert_error(cmb_store_open_device(b.dev, &options, &store), CMB_ENODURABLE);
    assert_detail_has("xen:test");
    options.allow_no_durability = true;
    assert_ok(cmb_store_open_device(b.dev, &options, &store));
    assert_false(cmb_store_is_durable(store));
    assert_ok(commit(store, 1));
    assert_true(holds(store, 1));
    assert_ok(cmb_store_close(store));
    bed_close(&b);
}

/* Barriers do where there is no flush. */
static void a_store_is_durable_over_barriers(void **state)
{
    oracle_env env = {.now = 1700000000000000};
    cmb_store_options options = store_options(&env);
    cmb_store *store;
    bed b;
    bed_init(&b, IMAGE);
    make_image(b.disk, &env);
    b.offer.flush = false;
    bed_open(&b);
    assert_ok(cmb_store_open_device(b.dev, &options, &store));
    assert_true(cmb_store_is_durable(store));
    assert_ok(commit(store, 1));
    assert_true(cmb_xen_back_served(b.back, BLKIF_OP_WRITE_BARRIER) > 0);
    assert_ok(cmb_store_close(store));
    bed_close(&b);
}

/* A flush that stops working under a store: the commit is told, and the store writes no more. */
static void a_flush_that_ends_makes_the_store_read_only(void **state)
{
    const cmb_xen_fault fault = {.op = BLKIF_OP_FLUSH_DISKCACHE, .kind = CMB_XEN_FAULT_UNSUPPORTED, .first = 6, .every = 1};
    oracle_env env = {.now = 1700000000000000};
    cmb_store_options options = store_options(&env);
    cmb_store *store;
    unsigned acked = 0;
    int error = 0;
    bed b;
    bed_init(&b, IMAGE);
    make_image(b.disk, &env);
    b.offer.barrier = false;
    b.offer.faults = &fault;
    b.offer.fault_count = 1;
    bed_open(&b);
    assert_ok(cmb_store_open_device(b.dev, &options, &store));
    for (; !error && acked < 30; acked += !error)
        error = commit(store, acked);
    assert_int_equal(error, CMB_EUNKNOWN);
    assert_detail_has("cannot flush");
    assert_error(commit(store, 99), CMB_EREADONLY);
    for (unsigned i = 0; i < acked; i++)
        assert_true(holds(store, i));
    (void)cmb_store_close(store);
    bed_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(acknowledged_commits_survive_a_back_end_that_reorders_everything_between_flushes),
        cmocka_unit_test(a_restart_under_a_commit_makes_its_outcome_unknown_and_loses_nothing_acknowledged),
        cmocka_unit_test(a_store_needs_a_flush_unless_it_is_told_to_do_without),
        cmocka_unit_test(a_store_is_durable_over_barriers),
        cmocka_unit_test(a_flush_that_ends_makes_the_store_read_only),
    };
    return cmocka_run_group_tests_name("store on a virtual device", tests, NULL, NULL);
}
