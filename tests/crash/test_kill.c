/* SPDX-License-Identifier: ISC */
/*
 * test_kill.c: a process that writes is killed at any moment, again and again, on one image.
 *
 * The writer says through a pipe which commit was acknowledged. After each SIGKILL the parent opens
 * the image as the next process would: every acknowledged commit is there, every commit is whole,
 * opening changed no byte, and the checker finds nothing.
 *
 * CMB_ROUNDS: number of kills (default 12). CMB_SEED replays the moments as far as a scheduler lets it.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <pthread.h>

#include <cambium/cambium.h>

#include "io/base.h"

enum { BRANCHES = 3, KEYS_PER_COMMIT = 20, KEYS_PER_LOAD = 30000 };
/* Branch 0 and 1 take small commits (0: permanent, 1: working states), branch 2 takes loads. */
static const char *const branch_names[BRANCHES] = {"small", "working", "load"};

struct ack {
    uint32_t branch;
    uint32_t pad;
    uint64_t generation;
};

static uint64_t random_state;

static uint64_t random_next(void)
{
    random_state += 0x9e3779b97f4a7c15u;
    uint64_t z = random_state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static cmb_bytes text(const char *s)
{
    return (cmb_bytes){s, strlen(s)};
}

/* ---- the writer: runs in a child until it is killed; exits with a line on stderr if the engine fails ---- */

struct writer {
    cmb_store *store;
    int pipe;
    uint32_t branch;
    uint64_t generation; /* of the next commit */
};

static void writer_fails(const char *what, int error)
{
    fprintf(stderr, "writer: %s: %s (%s)\n", what, cmb_strerror(error), cmb_error_detail());
    _exit(3);
}

static void put_generation(cmb_txn *txn, const char *key, uint64_t generation, size_t padding)
{
    char value[512];
    memset(value, 'v', sizeof(value));
    memcpy(value, &generation, 8);
    int error = cmb_txn_put(txn, text(key), (cmb_bytes){value, 8 + padding});
    if (error)
        writer_fails("put", error);
}

/* One commit: the same generation in each of its keys, and a key of its own that stays. */
static void write_one(struct writer *w)
{
    cmb_txn *txn;
    int error = cmb_txn_begin(w->store, branch_names[w->branch], 0, &txn);
    if (error)
        writer_fails("begin", error);
    unsigned keys = w->branch == 2 ? KEYS_PER_LOAD : KEYS_PER_COMMIT;
    char key[64];
    for (unsigned i = 0; i < keys; i++) {
        snprintf(key, sizeof(key), "key %06u", (i * 7919u) % keys);
        put_generation(txn, key, w->generation, w->branch == 2 ? 150 : i);
    }
    snprintf(key, sizeof(key), "stays %08u", (unsigned)w->generation);
    put_generation(txn, key, w->generation, 0);
    cmb_commit_info info = {.author = "writer", .message = "a generation"};
    error = cmb_txn_commit(txn, w->branch == 1 ? NULL : &info, NULL);
    if (error)
        writer_fails("commit", error);
    struct ack ack = {.branch = w->branch, .generation = w->generation};
    if (write(w->pipe, &ack, sizeof(ack)) != (ssize_t)sizeof(ack))
        _exit(4);
    w->generation++;
}

static void *write_for_ever(void *arg)
{
    for (;;)
        write_one(arg);
    return NULL;
}

static void run_writer(const char *path, int pipe, const uint64_t *next)
{
    cmb_store *store;
    int error = cmb_store_open(path, &(cmb_store_options){.txn_memory = 4u << 20}, &store);
    if (error)
        writer_fails("open", error);
    static struct writer writers[BRANCHES];
    for (uint32_t b = 0; b < BRANCHES; b++) {
        writers[b] = (struct writer){store, pipe, b, next[b]};
        pthread_t thread;
        if (b + 1 < BRANCHES && pthread_create(&thread, NULL, write_for_ever, &writers[b]))
            _exit(5);
    }
    write_for_ever(&writers[BRANCHES - 1]);
}

/* ---- the judge ---- */

static uint64_t file_hash(const char *path)
{
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    static uint8_t buffer[1 << 20];
    uint64_t hash = 0;
    ssize_t n;
    while ((n = read(fd, buffer, sizeof(buffer))) > 0)
        hash = cmb_hash64(buffer, (size_t)n, hash);
    assert_int_equal(n, 0);
    close(fd);
    return hash;
}

static uint64_t stored_generation(cmb_snapshot *snapshot, const char *key)
{
    cmb_bytes value;
    int error = cmb_get(snapshot, text(key), &value);
    if (error == CMB_ENOTFOUND)
        return 0;
    assert_int_equal(error, 0);
    assert_true(value.size >= 8);
    uint64_t generation;
    memcpy(&generation, value.data, 8);
    return generation;
}

/* The branch's newest generation; fails if any of its commit's keys says something else. */
static uint64_t whole_generation(cmb_store *store, uint32_t branch)
{
    cmb_snapshot *snapshot;
    assert_int_equal(cmb_snapshot_open(store, branch_names[branch], &snapshot), 0);
    unsigned keys = branch == 2 ? KEYS_PER_LOAD : KEYS_PER_COMMIT;
    char key[64];
    uint64_t newest = stored_generation(snapshot, "key 000000");
    for (unsigned i = 1; i < keys; i++) {
        snprintf(key, sizeof(key), "key %06u", i);
        assert_int_equal(stored_generation(snapshot, key), newest);
    }
    uint64_t count;
    assert_int_equal(cmb_count(snapshot, NULL, NULL, &count), 0);
    assert_int_equal(count, newest ? keys + newest : 0);
    for (uint64_t g = 1; g <= newest; g++) {
        snprintf(key, sizeof(key), "stays %08u", (unsigned)g);
        assert_int_equal(stored_generation(snapshot, key), g);
    }
    cmb_snapshot_close(snapshot);
    return newest;
}

static int print_finding(void *ctx, const cmb_finding *finding)
{
    (void)ctx;
    print_error("finding %s at %llu: %s (%s)\n", finding->code, (unsigned long long)finding->addr, finding->text,
                finding->where);
    return 0;
}

static void judge(const char *path, const uint64_t *acknowledged, uint64_t *out_next)
{
    uint64_t before = file_hash(path);
    for (int writable = 0; writable < 2; writable++) {
        cmb_store *store;
        int error = cmb_store_open(path, &(cmb_store_options){.read_only = !writable}, &store);
        if (error)
            print_error("open: %s (%s)\n", cmb_strerror(error), cmb_error_detail());
        assert_int_equal(error, 0);
        for (uint32_t b = 0; b < BRANCHES; b++) {
            uint64_t newest = whole_generation(store, b);
            assert_true(newest >= acknowledged[b]);
            assert_true(newest <= acknowledged[b] + 1); /* at most the one in flight */
            out_next[b] = newest + 1;
        }
        if (!writable) {
            cmb_fsck_options full = {.level = CMB_FSCK_FULL, .on_finding = print_finding};
            cmb_fsck_result result;
            assert_int_equal(cmb_fsck(store, &full, &result), 0);
            assert_int_equal(result.findings, 0);
        }
        assert_int_equal(cmb_store_close(store), 0);
    }
    assert_true(file_hash(path) == before); /* opening repaired nothing, because nothing needed it */
}

static void kill_one_writer(const char *path, uint64_t *acknowledged, uint64_t *next, uint64_t microseconds)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        close(ends[0]);
        run_writer(path, ends[1], next);
        _exit(6);
    }
    close(ends[1]);
    struct timespec pause = {(time_t)(microseconds / 1000000), (long)(microseconds % 1000000) * 1000};
    while (nanosleep(&pause, &pause) && errno == EINTR)
        ;
    kill(child, SIGKILL);
    struct ack ack;
    while (read(ends[0], &ack, sizeof(ack)) == (ssize_t)sizeof(ack))
        acknowledged[ack.branch] = ack.generation;
    close(ends[0]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL); /* it did not end of itself */
}

static void every_acknowledged_commit_outlives_sigkill(void **state)
{
    (void)state;
    const char *seed = getenv("CMB_SEED");
    random_state = seed ? strtoull(seed, NULL, 0) : (uint64_t)time(NULL);
    print_message("CMB_SEED=%llu\n", (unsigned long long)random_state);
    const char *wanted = getenv("CMB_ROUNDS");
    unsigned rounds = wanted ? (unsigned)strtoul(wanted, NULL, 0) : 12;

    char path[] = "test_kill.XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(cmb_store_init(path, &(cmb_init_options){.force = true}, NULL), 0);
    cmb_store *store;
    assert_int_equal(cmb_store_open(path, NULL, &store), 0);
    for (uint32_t b = 0; b < BRANCHES; b++)
        assert_int_equal(cmb_branch_create(store, branch_names[b], NULL), 0);
    assert_int_equal(cmb_store_close(store), 0);

    uint64_t acknowledged[BRANCHES] = {0}, next[BRANCHES] = {1, 1, 1}, total = 0;
    for (unsigned round = 0; round < rounds; round++) {
        kill_one_writer(path, acknowledged, next, 2000 + random_next() % 400000);
        judge(path, acknowledged, next);
        for (uint32_t b = 0; b < BRANCHES; b++)
            acknowledged[b] = next[b] - 1;
    }
    for (uint32_t b = 0; b < BRANCHES; b++)
        total += acknowledged[b];
    print_message("%u kills, %llu commits kept (%llu small, %llu working, %llu loads)\n", rounds,
                  (unsigned long long)total, (unsigned long long)acknowledged[0],
                  (unsigned long long)acknowledged[1], (unsigned long long)acknowledged[2]);
    assert_int_equal(unlink(path), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_acknowledged_commit_outlives_sigkill)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
