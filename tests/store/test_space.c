/* SPDX-License-Identifier: ISC */
/* That there is no room is said when there is none, and not before. */
#include "bed.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/intents.h"

#define NODE 65536u
#define KEYS 8000
#define EDITS 56 /* random ones: as many leaves, still taken for what the head can hold */
#define BRANCHES 10

static void put_number(cmb_txn *txn, uint64_t key, uint64_t *seed)
{
    uint8_t k[8], value[400];
    for (int i = 0; i < 8; i++)
        k[i] = (uint8_t)(key >> (56 - 8 * i));
    for (size_t i = 0; i < sizeof value; i++)
        value[i] = (uint8_t)bed_mix(seed);
    must(cmb_txn_put(txn, (cmb_bytes){k, sizeof k}, (cmb_bytes){value, sizeof value}));
}

static void fill(bed *b, uint64_t size, uint64_t *seed)
{
    cmb_txn *txn;
    cmb_init_options init = {.size = size, .node_size = NODE, .segment_size = 2u << 20};
    memset(b, 0, sizeof *b);
    bed_open_with(b, size, &init);
    must(cmb_txn_begin(b->store, "main", 0, &txn));
    for (uint64_t i = 0; i < KEYS; i++)
        put_number(txn, i, seed);
    must(cmb_txn_commit(txn, NULL, NULL));
}

static cmb_txn *edit(bed *b, const char *branch, uint64_t *seed)
{
    cmb_txn *txn;
    must(cmb_txn_begin(b->store, branch, 0, &txn));
    for (unsigned i = 0; i < EDITS; i++)
        put_number(txn, bed_mix(seed) % KEYS, seed);
    return txn;
}

static void a_transaction_is_refused_only_when_the_device_is_full(void **state)
{
    (void)state;
    for (uint64_t size = 32; size <= 96; size += 16) {
        bed b;
        uint64_t seed = size, commits = 0;
        int error = 0;
        cmb_log_stats stats;
        fill(&b, size << 20, &seed);
        while (!error) {
            cmb_txn *txn = edit(&b, "main", &seed);
            error = cmb_txn_commit(txn, NULL, NULL);
            commits += !error;
            if (error)
                cmb_txn_abort(txn);
        }
        must_be(error, CMB_ENOSPC);
        cmb_log_get_stats(b.store->log, &stats);
        uint64_t reserve = size / 2 / 32 < 2 ? 2 : size / 2 / 32;
        print_message("%llu MiB: %llu commits, %llu segments free\n", (unsigned long long)size,
                      (unsigned long long)commits, (unsigned long long)stats.segments[CMB_SEG_FREE]);
        /* What is announced for the head counts as free. A unit takes three segments at most. */
        assert_true(stats.segments[CMB_SEG_FREE] <= reserve + 3 + 2);
        bed_reopen(&b);
        bed_close(&b);
    }
}

static void transactions_that_are_small_each_and_large_together_commit_as_one(void **state)
{
    (void)state;
    bed b;
    cmb_txn *txns[BRANCHES];
    cmb_rev revs[BRANCHES];
    uint64_t seed = 3;
    fill(&b, 192u << 20, &seed);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < BRANCHES; i++) {
            char name[32];
            snprintf(name, sizeof name, "b%u", i);
            if (round == 0)
                must(cmb_branch_create(b.store, name, "main"));
            txns[i] = edit(&b, name, &seed);
        }
        must(cmb_txn_commit_many(txns, BRANCHES, NULL, revs));
        for (unsigned i = 0; i < BRANCHES; i++)
            assert_int_equal(revs[i].entries, KEYS);
    }
    bed_reopen(&b);
    bed_close(&b);
}

/* A working commit of one small edit, whose root nobody asks for. */
static int touch(cmb_store *store, const char *branch, uint64_t key)
{
    cmb_txn *txn;
    uint8_t k[8];
    for (int i = 0; i < 8; i++)
        k[i] = (uint8_t)(key >> (56 - 8 * i));
    must(cmb_txn_begin(store, branch, 0, &txn));
    must(cmb_txn_put(txn, (cmb_bytes){k, sizeof k}, str("touched")));
    int error = cmb_txn_commit(txn, &(cmb_commit_info){.flags = CMB_COMMIT_ASYNC}, NULL);
    if (error)
        cmb_txn_abort(txn);
    return error;
}

/* Whenever edits were acknowledged, the leaves that they make find room: as many as there are leaves, each of them changed. */
static void edits_are_acknowledged_only_if_their_leaves_find_room(void **state)
{
    (void)state;
    bed b;
    uint64_t seed = 9, room;
    fill(&b, 48 << 20, &seed);
    for (unsigned i = 0; cmb_log_room(b.store->log) > 12u << 20; i++) {
        cmb_txn *txn = edit(&b, "main", &seed);
        must(cmb_txn_commit(txn, NULL, NULL));
    }
    for (unsigned round = 0; (room = cmb_log_room(b.store->log)) > 0 && round < 40; round++) {
        int error = 0;
        for (unsigned i = 0; i < 300 && !error; i++)
            error = touch(b.store, "main", bed_mix(&seed) % KEYS);
        assert_true(!error || error == CMB_ENOSPC);
        must(cmb_intents_settle_all(b.store));
        if (error)
            break;
    }
    print_message("%llu bytes of room are left\n", (unsigned long long)room);
    must(cmb_store_sync(b.store));
    bed_reopen(&b);
    bed_close(&b);
}

/* ---- a host without room for a file that grows ---- */

static int commit_load(cmb_store *store, unsigned keys, uint64_t *seed)
{
    cmb_txn *txn;
    must(cmb_txn_begin(store, "main", 0, &txn));
    int error = 0;
    for (unsigned i = 0; !error && i < keys; i++) {
        uint8_t value[700];
        uint64_t key = bed_mix(seed);
        for (size_t k = 0; k < sizeof value; k++)
            value[k] = (uint8_t)bed_mix(seed);
        error = cmb_txn_put(txn, (cmb_bytes){&key, 8}, (cmb_bytes){value, sizeof value});
    }
    if (!error)
        error = cmb_txn_commit(txn, NULL, NULL);
    if (error)
        cmb_txn_abort(txn);
    return error;
}

/* `keys` a transaction: few go through the head, many through a stream. */
static void fill_host(unsigned keys)
{
    char path[] = "/tmp/cambium-space-XXXXXX";
    struct rlimit old, limit;
    cmb_store *store;
    uint64_t seed = keys;
    int fd = mkstemp(path), error = 0;
    assert_true(fd >= 0);
    close(fd);
    unlink(path);
    must(cmb_store_init(path, NULL, NULL));
    must(cmb_store_open(path, NULL, &store));
    put(store, "main", "first", "kept", "one");
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    limit = old;
    limit.rlim_cur = 90 << 20;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    while (!error)
        error = commit_load(store, keys, &seed);
    must_be(error, CMB_ENOSPC);
    must_be(commit_load(store, keys, &seed), CMB_ENOSPC);
    uint64_t entries = rev_of(store, "main").entries;
    assert_true(entries > 10000);
    setrlimit(RLIMIT_FSIZE, &old);
    must(commit_load(store, keys, &seed)); /* room again: it goes on */
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    limit.rlim_cur = (rlim_t)st.st_size; /* and full again: what the file has stays its own */
    setrlimit(RLIMIT_FSIZE, &limit);
    must(cmb_store_close(store));
    must(cmb_store_open(path, NULL, &store));
    expect(store, "main", "first", "kept");
    assert_int_equal(rev_of(store, "main").entries, entries + keys);
    must(cmb_store_close(store));
    setrlimit(RLIMIT_FSIZE, &old);
    unlink(path);
}

static void a_full_host_is_no_space_and_changes_nothing(void **state)
{
    (void)state;
    fill_host(100);
    fill_host(20000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_transaction_is_refused_only_when_the_device_is_full),
        cmocka_unit_test(edits_are_acknowledged_only_if_their_leaves_find_room),
        cmocka_unit_test(transactions_that_are_small_each_and_large_together_commit_as_one),
        cmocka_unit_test(a_full_host_is_no_space_and_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
