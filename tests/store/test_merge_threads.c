/* SPDX-License-Identifier: ISC */
/* Merges beside writers of both branches. To be run under a thread sanitizer as well. */
#include "bed.h"

#include <pthread.h>

#define EACH 40

typedef struct job {
    cmb_store *store;
    const char *branch;
    int failed; /* line */
} job;

#define try(x) do { if (x) { j->failed = __LINE__; return NULL; } } while (0)

/* Commits and working states, one key each. */
static void *write_keys(void *arg)
{
    job *j = arg;
    for (int i = 0; i < EACH; i++) {
        char key[32];
        cmb_txn *txn;
        cmb_commit_info info = {.message = i % 3 ? "ring" : NULL};
        snprintf(key, sizeof key, "%s/%d", j->branch, i);
        try(cmb_txn_begin(j->store, j->branch, 0, &txn));
        try(cmb_txn_put(txn, str(key), str(key)));
        try(cmb_txn_put(txn, str("both"), str(key)));
        try(cmb_txn_commit(txn, &info, NULL));
    }
    return NULL;
}

/* Takes the other branch over again and again: half of the time by hand, which may come too late. */
static void *merge_again(void *arg)
{
    job *j = arg;
    const char *other = strcmp(j->branch, "main") ? "main" : "side";
    for (int i = 0; i < EACH / 2; i++) {
        cmb_merge_result r;
        try(cmb_merge(j->store, j->branch, other, i % 2 ? cmb_merge_theirs : NULL, NULL, NULL, &r));
        if (!r.open)
            continue;
        for (size_t k = 0; k < cmb_merging_count(r.open); k++) {
            cmb_clash *clash;
            try(cmb_merging_conflict(r.open, k, &clash, NULL));
            try(cmb_merging_resolve(r.open, cmb_clash_key(clash), CMB_ANSWER_MINE, (cmb_bytes){NULL, 0}));
        }
        int error = cmb_merging_finish(r.open, NULL, NULL);
        try(error && error != CMB_ECONFLICT);
        if (error)
            cmb_merging_abort(r.open);
    }
    return NULL;
}

static void merges_beside_writers_lose_nothing(void **state)
{
    static void *(*const runs[])(void *) = {write_keys, write_keys, merge_again, merge_again};
    bed b;
    pthread_t threads[4];
    job jobs[4];
    cmb_merge_result r;
    (void)state;
    bed_open(&b);
    put(b.store, "main", "both", "base", "base");
    must(cmb_branch_create(b.store, "side", "main"));
    for (int i = 0; i < 4; i++) {
        jobs[i] = (job){b.store, i % 2 ? "side" : "main", 0};
        assert_int_equal(pthread_create(&threads[i], NULL, runs[i], &jobs[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(jobs[i].failed, 0);
    }
    must(cmb_merge(b.store, "main", "side", cmb_merge_theirs, NULL, NULL, &r));
    assert_null(r.open);
    assert_int_equal(rev_of(b.store, "main").entries, 2 * EACH + 1);
    bed_reopen(&b);
    assert_int_equal(rev_of(b.store, "main").entries, 2 * EACH + 1);
    bed_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merges_beside_writers_lose_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
