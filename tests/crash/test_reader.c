/* SPDX-License-Identifier: ISC */
/*
 * test_reader.c: an image is opened for reading again and again while another process commits to it
 * and makes checkpoints. Opening never fails, and what it shows was durable and is not older than
 * what the writer had acknowledged before.
 *
 * CMB_BUDGET: times as many opens.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <pthread.h>

#include <cambium/cambium.h>

enum { OPENS = 120, CHAINS = 2, VALUE = 24 << 10, LOAD_KEYS = 20000 };
static const char *const branches[CHAINS] = {"main", "other"};

/* What writer and reader share: how much of each chain of commits was acknowledged. */
struct board {
    _Atomic uint64_t acknowledged[CHAINS];
    _Atomic int error;
};

struct chain {
    cmb_store *store;
    struct board *board;
    unsigned number;
};

static cmb_bytes text(const char *s)
{
    return (cmb_bytes){s, strlen(s)};
}

static void check(int error, const char *what)
{
    if (error) {
        fprintf(stderr, "writer: %s: %s (%s)\n", what, cmb_strerror(error), cmb_error_detail());
        _exit(3);
    }
}

/* Commit after commit: the number of each in two keys, and bytes that make the log run. */
static void *commit_for_ever(void *arg)
{
    struct chain *c = arg;
    static const cmb_commit_info info = {.author = "writer", .message = "next"};
    char *value = malloc(VALUE);
    for (uint64_t n = 1;; n++) {
        cmb_txn *txn;
        check(cmb_txn_begin(c->store, branches[c->number], 0, &txn), "begin");
        memset(value, (int)n, VALUE);
        memcpy(value, &n, 8);
        check(cmb_txn_put(txn, text("a"), (cmb_bytes){value, 8}), "put");
        check(cmb_txn_put(txn, text("z"), (cmb_bytes){value, n % 7 ? 8 : VALUE}), "put");
        check(cmb_txn_commit(txn, n % 2 ? &info : NULL, NULL), "commit");
        atomic_store(&c->board->acknowledged[c->number], n);
    }
    return NULL;
}

/* Loads go through streams. */
static void *load_for_ever(void *arg)
{
    cmb_store *store = arg;
    char key[32], value[500] = {0};
    for (unsigned round = 0;; round++) {
        cmb_txn *txn;
        check(cmb_txn_begin(store, "load", 0, &txn), "begin");
        for (unsigned i = 0; i < LOAD_KEYS; i++) {
            snprintf(key, sizeof key, "key %06u", i);
            memcpy(value, &round, sizeof round);
            check(cmb_txn_put(txn, text(key), (cmb_bytes){value, sizeof value}), "put");
        }
        check(cmb_txn_commit(txn, NULL, NULL), "commit");
        usleep(50000);
    }
    return NULL;
}

static void run_writer(const char *path, struct board *board)
{
    cmb_store *store;
    pthread_t threads[CHAINS + 1];
    check(cmb_store_open(path, NULL, &store), "open");
    struct chain chains[CHAINS];
    for (unsigned i = 0; i < CHAINS; i++) {
        chains[i] = (struct chain){store, board, i};
        if (pthread_create(&threads[i], NULL, commit_for_ever, &chains[i]))
            _exit(4);
    }
    if (pthread_create(&threads[CHAINS], NULL, load_for_ever, store))
        _exit(4);
    for (unsigned i = 0; i <= CHAINS; i++)
        pthread_join(threads[i], NULL);
    _exit(0);
}

static uint64_t number_in(cmb_snapshot *snapshot, const char *key)
{
    cmb_bytes value;
    uint64_t n = 0;
    int error = cmb_get(snapshot, text(key), &value);
    if (error == CMB_ENOTFOUND)
        return 0;
    if (error)
        fail_msg("reading: %s (%s)", cmb_strerror(error), cmb_error_detail());
    memcpy(&n, value.data, 8);
    return n;
}

static void look(const char *path, struct board *board, cmb_residency_mode residency)
{
    uint64_t before[CHAINS];
    cmb_store *store;
    for (unsigned i = 0; i < CHAINS; i++)
        before[i] = atomic_load(&board->acknowledged[i]);
    cmb_store_options options = {.read_only = true, .residency = residency};
    int error = cmb_store_open(path, &options, &store);
    if (error)
        fail_msg("opening: %s (%s)", cmb_strerror(error), cmb_error_detail());
    for (unsigned i = 0; i < CHAINS; i++) {
        cmb_snapshot *snapshot;
        error = cmb_snapshot_open(store, branches[i], &snapshot);
        if (error)
            fail_msg("snapshot: %s (%s)", cmb_strerror(error), cmb_error_detail());
        uint64_t a = number_in(snapshot, "a"), z = number_in(snapshot, "z");
        if (a != z || a < before[i])
            fail_msg("%s: %llu and %llu, acknowledged was %llu", branches[i], (unsigned long long)a,
                     (unsigned long long)z, (unsigned long long)before[i]);
        cmb_snapshot_close(snapshot);
    }
    assert_int_equal(cmb_store_close(store), 0);
}

static void a_reader_beside_a_writer_opens_always_and_sees_what_was_acknowledged(void **state)
{
    (void)state;
    char path[] = "/tmp/cambium-reader-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    unlink(path);
    cmb_store *store;
    assert_int_equal(cmb_store_init(path, NULL, NULL), 0);
    assert_int_equal(cmb_store_open(path, NULL, &store), 0);
    assert_int_equal(cmb_branch_create(store, "other", "main"), 0);
    assert_int_equal(cmb_branch_create(store, "load", "main"), 0);
    assert_int_equal(cmb_store_close(store), 0);

    struct board *board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(board, MAP_FAILED);
    pid_t child = fork();
    assert_true(child >= 0);
    if (!child)
        run_writer(path, board);
    const char *budget = getenv("CMB_BUDGET");
    unsigned opens = OPENS * (budget && atoi(budget) > 0 ? (unsigned)atoi(budget) : 1);
    for (unsigned i = 0; i < opens; i++)
        look(path, board, i % 2 ? CMB_RESIDENT_POOL : CMB_RESIDENT_MAP);
    int status;
    assert_int_equal(waitpid(child, &status, WNOHANG), 0); /* still at it */
    print_message("%llu and %llu commits meanwhile\n", (unsigned long long)board->acknowledged[0],
                  (unsigned long long)board->acknowledged[1]);
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    look(path, board, CMB_RESIDENT_POOL);
    munmap(board, sizeof *board);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reader_beside_a_writer_opens_always_and_sees_what_was_acknowledged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
