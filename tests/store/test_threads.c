/* SPDX-License-Identifier: ISC */
/* Many threads on one store. To be run under a thread sanitizer as well. */
#include "bed.h"

#include <pthread.h>
#include <time.h>

#define THREADS 16
#define EACH 25

typedef struct job {
    bed *b;
    int number;
    int failed;
} job;

#define try(x) do { if (x) { j->failed = __LINE__; return NULL; } } while (0)

static void run_all(bed *b, void *(*run)(void *), int n)
{
    pthread_t threads[THREADS];
    job jobs[THREADS];
    for (int i = 0; i < n; i++) {
        jobs[i] = (job){b, i, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, run, &jobs[i]), 0);
    }
    for (int i = 0; i < n; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(jobs[i].failed, 0);
    }
}

static void *write_singles(void *arg)
{
    job *j = arg;
    for (int i = 0; i < EACH; i++) {
        char key[32];
        cmb_txn *txn;
        snprintf(key, sizeof key, "%d/%d", j->number, i);
        cmb_commit_info info = {.message = i % 4 ? NULL : "ring"};
        try(cmb_txn_begin(j->b->store, "main", 0, &txn));
        try(cmb_txn_put(txn, str(key), str(key)));
        try(cmb_txn_commit(txn, &info, NULL));
    }
    return NULL;
}

static void sixteen_writers_of_one_branch_lose_nothing(void **state)
{
    bed b;
    bed_open(&b);
    run_all(&b, write_singles, THREADS);
    assert_int_equal(rev_of(b.store, "main").entries, THREADS * EACH);
    bed_reopen(&b);
    assert_int_equal(rev_of(b.store, "main").entries, THREADS * EACH);
    bed_close(&b);
}

/* Even numbers write, odd ones read: what a reader sees never shrinks, and a snapshot never changes. */
static void *write_and_read(void *arg)
{
    job *j = arg;
    uint64_t last = 0;
    if (j->number % 2 == 0)
        return write_singles(arg);
    for (int i = 0; i < 4 * EACH; i++) {
        cmb_snapshot *s;
        cmb_cursor *c;
        cmb_rev rev;
        uint64_t n = 0;
        try(cmb_snapshot_open(j->b->store, "main", &s));
        cmb_snapshot_rev(s, &rev);
        try(rev.entries < last);
        last = rev.entries;
        try(cmb_cursor_open(s, NULL, &c));
        while (cmb_cursor_next(c) == 0)
            n++;
        try(n != rev.entries);
        cmb_cursor_close(c);
        cmb_snapshot_close(s);
    }
    return NULL;
}

static void readers_beside_writers_see_whole_states(void **state)
{
    bed b;
    bed_open(&b);
    run_all(&b, write_and_read, 8);
    assert_int_equal(rev_of(b.store, "main").entries, 4 * EACH);
    bed_close(&b);
}

static void *mixed_refs(void *arg)
{
    job *j = arg;
    char name[32];
    snprintf(name, sizeof name, "own/%d", j->number);
    for (int i = 0; i < 10; i++) {
        cmb_rev rev;
        cmb_txn *txn;
        try(cmb_branch_create(j->b->store, name, "main"));
        try(cmb_txn_begin(j->b->store, name, 0, &txn));
        try(cmb_txn_put(txn, str(name), str("v")));
        try(cmb_txn_commit(txn, NULL, &rev));
        try(cmb_rev_parse(j->b->store, name, &rev));
        try(cmb_txn_begin(j->b->store, "main", 0, &txn));
        try(cmb_txn_put(txn, str(name), (cmb_bytes){&i, sizeof i}));
        try(cmb_txn_commit(txn, NULL, &rev));
        try(cmb_branch_delete(j->b->store, name));
    }
    return NULL;
}

static void branches_come_and_go_while_main_is_sealed_and_written(void **state)
{
    bed b;
    bed_open(&b);
    run_all(&b, mixed_refs, 8);
    assert_int_equal(rev_of(b.store, "main").entries, 8);
    bed_reopen(&b);
    assert_int_equal(rev_of(b.store, "main").entries, 8);
    bed_close(&b);
}

static void *write_waiting(void *arg)
{
    job *j = arg;
    cmb_txn *txn;
    if (cmb_txn_begin(j->b->store, "main", CMB_TXN_NOWAIT, &txn) != CMB_EBUSY) {
        j->failed = __LINE__;
        return NULL;
    }
    return write_singles(arg);
}

static void a_second_writer_waits_or_is_told(void **state)
{
    bed b;
    cmb_txn *txn;
    pthread_t thread;
    job j = {&b, 1, 0};
    bed_open(&b);
    must(cmb_txn_begin(b.store, "main", 0, &txn));
    assert_int_equal(pthread_create(&thread, NULL, write_waiting, &j), 0);
    must(cmb_txn_put(txn, str("mine"), str("v")));
    struct timespec t = {.tv_nsec = 20000000};
    nanosleep(&t, NULL);
    expect(b.store, "main", "1/0", NULL);
    must(cmb_txn_commit(txn, NULL, NULL));
    pthread_join(thread, NULL);
    assert_int_equal(j.failed, 0);
    assert_int_equal(rev_of(b.store, "main").entries, EACH + 1);
    bed_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sixteen_writers_of_one_branch_lose_nothing),
        cmocka_unit_test(readers_beside_writers_see_whole_states),
        cmocka_unit_test(branches_come_and_go_while_main_is_sealed_and_written),
        cmocka_unit_test(a_second_writer_waits_or_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
