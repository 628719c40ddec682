/* SPDX-License-Identifier: ISC */
/* Devices that fill up or fail at any operation, and memory that runs out at any allocation: while something is written. */
#include "bed.h"

#include "tests/kloop/kloop.h"

/* ---- a full device ---- */

static int put_noise(cmb_txn *txn, uint64_t *seed, unsigned n)
{
    uint8_t value[900];
    for (unsigned i = 0; i < n; i++) {
        uint64_t key = bed_mix(seed);
        for (size_t k = 0; k < sizeof value; k++)
            value[k] = (uint8_t)bed_mix(seed);
        int error = cmb_txn_put(txn, (cmb_bytes){&key, 8}, (cmb_bytes){value, sizeof value});
        if (error)
            return error;
    }
    return 0;
}

static void a_full_device_refuses_cleanly(void **state)
{
    bed b;
    cmb_txn *txn;
    cmb_bytes got;
    uint64_t seed = 5;
    int error = 0;
    memset(&b, 0, sizeof b);
    bed_open_with(&b, 32 << 20, NULL);
    put(b.store, "main", "first", "kept", "one");
    for (int i = 0; !error && i < 1000; i++) {
        must(cmb_txn_begin(b.store, "main", 0, &txn));
        must(put_noise(txn, &seed, 100));
        error = cmb_txn_commit(txn, NULL, NULL);
    }
    must_be(error, CMB_ENOSPC);
    must(cmb_txn_get(txn, str("first"), &got)); /* it is still open */
    must_be(cmb_txn_commit(txn, NULL, NULL), CMB_ENOSPC);
    cmb_txn_abort(txn);
    expect(b.store, "main", "first", "kept");
    uint64_t entries = rev_of(b.store, "main").entries;
    bed_reopen(&b);
    assert_int_equal(rev_of(b.store, "main").entries, entries);
    expect(b.store, "main~1", "first", "kept");
    bed_close(&b);
}

static void a_large_transaction_that_does_not_fit_leaves_the_store_as_it_was(void **state)
{
    bed b;
    cmb_txn *txn;
    uint64_t seed = 6;
    int error = 0;
    memset(&b, 0, sizeof b);
    b.options.txn_memory = 1 << 20;
    bed_open_with(&b, 32 << 20, NULL);
    put(b.store, "main", "first", "kept", NULL);
    must(cmb_txn_begin(b.store, "main", 0, &txn));
    for (int i = 0; !error && i < 1000; i++)
        error = put_noise(txn, &seed, 100);
    if (!error)
        error = cmb_txn_commit(txn, NULL, NULL);
    must_be(error, CMB_ENOSPC);
    cmb_txn_abort(txn);
    expect(b.store, "main", "first", "kept");
    assert_int_equal(rev_of(b.store, "main").entries, 1);
    put(b.store, "main", "second", "fits", "two"); /* the stream gave its space back */
    bed_reopen(&b);
    expect(b.store, "main", "second", "fits");
    bed_close(&b);
}

/* ---- a failing device ---- */

static void after_a_failed_flush_the_store_reads_on(void **state)
{
    bed b = {.env = {.now = 1, .random = 1}};
    cmb_device *under;
    cmb_txn *txn;
    must(cmb_device_mem(0, NULL, &under));
    must(cmb_store_init_device(under, NULL, NULL));
    cmb_fault_rule rule = {.op = CMB_OP_FLUSH, .kind = CMB_FAULT_EIO, .first = 12, .times = 1};
    must(cmb_device_fault(under, &rule, 1, 1, &b.dev));
    must(cmb_store_open_device(b.dev, NULL, &b.store));
    int error = 0, n = 0;
    for (; !error && n < 100; n++) {
        char key[16];
        snprintf(key, sizeof key, "k%d", n);
        must(cmb_txn_begin(b.store, "main", 0, &txn));
        must(cmb_txn_put(txn, str(key), str("v")));
        error = cmb_txn_commit(txn, NULL, NULL);
    }
    must_be(error, CMB_EUNKNOWN);
    assert_true(n > 1);
    expect(b.store, "main", "k0", "v");
    must_be(cmb_txn_begin(b.store, "main", 0, &txn), CMB_EREADONLY);
    must_be(cmb_branch_create(b.store, "x", "main"), CMB_EREADONLY);
    assert_int_not_equal(cmb_store_close(b.store), 0);
    must(cmb_store_open_device(b.dev, NULL, &b.store));
    for (int i = 0; i + 1 < n; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%d", i);
        expect(b.store, "main", key, "v"); /* what was acknowledged */
    }
    put(b.store, "main", "again", "v", "it goes on");
    bed_close(&b);
}

/* ---- any operation fails, any allocation is refused: commits ---- */

static const kloop_edit three_hundred = {.branch = "main", .value = "first", .message = "one", .stride = 3, .n = 300};

/* main: a commit and a working state above it; side: a working state alone. */
static void prepare_two_branches(kloop *k)
{
    cmb_store *store = k->store[0];
    must(kloop_edit_do(store, &three_hundred));
    must(kloop_put(store, "main", "key000005", "working", NULL));
    must(cmb_branch_create(store, "side", NULL));
    must(kloop_put(store, "side", "only", "here", NULL));
}

static int commit_permanent(kloop *k)
{
    return kloop_edit_do(k->store[0], &(kloop_edit){.branch = "main", .value = "second", .message = "two", .first = 1, .stride = 30, .n = 20});
}

static int commit_working(kloop *k)
{
    return kloop_edit_do(k->store[0], &(kloop_edit){.branch = "main", .value = "third", .first = 2, .stride = 50, .n = 10});
}

static int commit_deletions(kloop *k)
{
    return kloop_edit_do(k->store[0], &(kloop_edit){.branch = "main", .first = 300, .stride = 3, .n = 40});
}

static int commit_one_key(kloop *k)
{
    return kloop_put(k->store[0], "side", "one", "key", NULL);
}

static int commit_both_branches(kloop *k)
{
    cmb_txn *txns[2] = {NULL, NULL};
    cmb_commit_info infos[2] = {{.author = "ada", .message = "both", .time = 1}, {0}};
    int error;
    step(cmb_txn_begin(k->store[0], "main", 0, &txns[0]));
    step(cmb_txn_begin(k->store[0], "side", 0, &txns[1]));
    step(cmb_txn_put(txns[0], str("both"), str("main")));
    step(cmb_txn_put(txns[1], str("both"), str("side")));
    error = cmb_txn_commit_many(txns, 2, infos, NULL);
    if (error != CMB_ENOMEM && error != CMB_ENOSPC && error != CMB_EINVAL)
        return error;
out:
    cmb_txn_abort(txns[0]);
    cmb_txn_abort(txns[1]);
    return error;
}

static int commit_queued(kloop *k)
{
    cmb_commit_info info = {.author = "ada", .message = "queued", .time = 1, .flags = CMB_COMMIT_ASYNC};
    cmb_txn *txn = NULL;
    int error;
    step(cmb_txn_begin(k->store[0], "main", 0, &txn));
    step(cmb_txn_put(txn, str("queued"), str("yes")));
    error = cmb_txn_commit(txn, &info, NULL);
    if (error != CMB_ENOMEM && error != CMB_ENOSPC && error != CMB_EINVAL)
        txn = NULL;
    step(error);
    step(cmb_store_sync(k->store[0]));
out:
    cmb_txn_abort(txn);
    return error;
}

/* A value written and read in pieces, a cursor over the transaction, an earlier one given up. */
static int commit_streamed_value(kloop *k)
{
    static uint8_t large[20000];
    cmb_txn *txn = NULL;
    cmb_cursor *cursor = NULL;
    int error;
    memset(large, 'l', sizeof large);
    step(cmb_txn_begin(k->store[0], "side", 0, &txn));
    step(cmb_txn_value_begin(txn, str("given up")));
    step(cmb_txn_value_add(txn, large, sizeof large));
    cmb_txn_value_abort(txn);
    step(cmb_txn_value_begin(txn, str("large")));
    for (unsigned i = 0; i < 4; i++)
        step(cmb_txn_value_add(txn, large, sizeof large));
    step(cmb_txn_value_finish(txn));
    step(cmb_txn_cursor_open(txn, NULL, &cursor));
    step(cmb_cursor_last(cursor));
    step(cmb_txn_put(txn, str("z"), str("behind")));
    step(cmb_cursor_next(cursor));
    cmb_cursor_close(cursor);
    cursor = NULL;
    error = cmb_txn_commit(txn, NULL, NULL);
    if (error != CMB_ENOMEM && error != CMB_ENOSPC && error != CMB_EINVAL)
        return error;
out:
    cmb_cursor_close(cursor);
    cmb_txn_abort(txn);
    return error;
}

/* From a snapshot, onto the branch that still stands there. */
static int commit_detached(kloop *k)
{
    cmb_commit_info info = {.author = "ada", .message = "landed", .time = 1};
    cmb_snapshot *snapshot = NULL;
    cmb_txn *txn = NULL;
    int error;
    step(cmb_snapshot_open(k->store[0], "main", &snapshot));
    step(cmb_txn_begin_detached(snapshot, &txn));
    step(cmb_txn_put(txn, str("landed"), str("here")));
    error = cmb_txn_land(txn, "main", &info, NULL);
    if (error != CMB_ENOMEM && error != CMB_ENOSPC && error != CMB_EINVAL && error != CMB_ECONFLICT)
        txn = NULL;
out:
    cmb_txn_abort(txn);
    cmb_snapshot_close(snapshot);
    return error;
}

static void commits_survive_any_failure(void **state)
{
    static const kloop_scenario scenario = {
        .name = "commit",
        .stores = 1,
        .init = {.node_size = 1024},
        .options = {.pool_size = 1 << 20},
        .prepare = prepare_two_branches,
        .steps = {{"a permanent commit", commit_permanent},
                  {"a working commit", commit_working},
                  {"deletions", commit_deletions},
                  {"one key", commit_one_key},
                  {"two branches at once", commit_both_branches},
                  {"a commit that is queued", commit_queued},
                  {"a large value", commit_streamed_value},
                  {"a transaction that lands", commit_detached}},
    };
    kloop_run(&scenario);
}

/* ---- loads ---- */

static int load(kloop *k, const char *message, unsigned n, bool sorted)
{
    static uint8_t value[900];
    cmb_commit_info info = {.author = "ada", .message = message, .time = 1};
    cmb_txn *txn;
    uint64_t seed = 7;
    int error = cmb_txn_begin(k->store[0], "main", 0, &txn);
    if (error)
        return error;
    for (unsigned i = 0; !error && i < n; i++) {
        uint64_t key = sorted ? CMB_BE64((uint64_t)i) : bed_mix(&seed);
        memset(value, (int)(i % 251), sizeof value);
        error = cmb_txn_put(txn, (cmb_bytes){&key, 8}, (cmb_bytes){value, sizeof value});
    }
    if (!error) {
        error = cmb_txn_commit(txn, &info, NULL);
        if (error != CMB_ENOMEM && error != CMB_ENOSPC && error != CMB_EINVAL)
            return error;
    }
    cmb_txn_abort(txn);
    return error;
}

static int load_sorted(kloop *k)
{
    return load(k, "sorted", 2600, true);
}

static int load_random(kloop *k)
{
    return load(k, "random", 600, false);
}

static void loads_survive_any_failure(void **state)
{
    static const kloop_scenario scenario = {
        .name = "load",
        .stores = 1,
        .points = 6,
        .init = {.segment_size = 2 << 20},
        .options = {.pool_size = 1 << 20, .txn_memory = 100000},
        .steps = {{"a sorted load", load_sorted}, {"a random load", load_random}},
    };
    kloop_run(&scenario);
}

/* ---- checkpoints and reopening ---- */

static int take_checkpoint(kloop *k)
{
    return kloop_checkpoint(k->store[0]);
}

static int read_all(kloop *k)
{
    uint64_t digest;
    int error = kloop_digest(k->store[0], "main", &digest);
    return error ? error : kloop_digest(k->store[0], "side", &digest);
}

static void checkpoints_survive_any_failure(void **state)
{
    static const kloop_scenario scenario = {
        .name = "checkpoint",
        .stores = 1,
        .init = {.node_size = 512},
        .options = {.pool_size = 1 << 20},
        .prepare = prepare_two_branches,
        .steps = {{"a working commit", commit_working},
                  {"a checkpoint", take_checkpoint},
                  {"a permanent commit", commit_permanent},
                  {"another checkpoint", take_checkpoint},
                  {"one key", commit_one_key},
                  {"a third checkpoint", take_checkpoint}},
    };
    kloop_run(&scenario);
}

static void prepare_a_long_tail(kloop *k)
{
    prepare_two_branches(k);
    for (unsigned i = 0; i < 12; i++)
        must(kloop_edit_do(k->store[0], &(kloop_edit){.branch = i % 2 ? "main" : "side", .value = "tail", .message = i % 3 ? NULL : "tail",
                                                      .first = i, .stride = 7, .n = 5}));
}

static void recovery_survives_any_failure(void **state)
{
    static const kloop_scenario scenario = {
        .name = "reopen",
        .stores = 1,
        .init = {.node_size = 1024},
        .options = {.pool_size = 1 << 20},
        .prepare = prepare_a_long_tail,
        .crashed = true,
        .steps = {{"reading", read_all}, {"a permanent commit", commit_permanent}, {"one key", commit_one_key}},
    };
    kloop_run(&scenario);
}

/* ---- edits that wait to be merged ---- */

/* Edits in runs that a checkpoint wrote, and younger ones in records of their own, of both branches. */
static void prepare_intents(kloop *k)
{
    prepare_two_branches(k);
    for (unsigned i = 0; i < 14; i++) {
        if (i == 4 || i == 9)
            must(kloop_checkpoint(k->store[0]));
        must(kloop_edit_do(k->store[0], &(kloop_edit){.branch = i % 2 ? "main" : "side", .value = "waits", .first = i, .stride = 9, .n = 6}));
    }
}

static int merge_edits(kloop *k)
{
    cmb_rev rev;
    return cmb_rev_parse(k->store[0], "main", &rev);
}

static void edits_that_wait_survive_any_failure(void **state)
{
    static const kloop_scenario scenario = {
        .name = "intents",
        .stores = 1,
        .init = {.node_size = 512},
        .options = {.pool_size = 1 << 20},
        .prepare = prepare_intents,
        .crashed = true,
        .steps = {{"reading", read_all},
                  {"a working commit", commit_working},
                  {"a checkpoint", take_checkpoint},
                  {"one key", commit_one_key},
                  {"a name for the content", merge_edits},
                  {"deletions", commit_deletions},
                  {"two branches at once", commit_both_branches}},
    };
    kloop_run(&scenario);
}

/* ---- refs ---- */

static int create_branches(kloop *k) /* seals main's working state */
{
    return cmb_branch_create(k->store[0], "topic", "main");
}

static int set_branch(kloop *k)
{
    return cmb_branch_set(k->store[0], "topic", "main~1");
}

static int compare_and_set_branch(kloop *k)
{
    cmb_rev expected;
    int error = cmb_rev_parse(k->store[0], "topic", &expected);
    return error ? error : cmb_branch_compare_and_set(k->store[0], "topic", &expected, "main");
}

static int delete_branch(kloop *k)
{
    return cmb_branch_delete(k->store[0], "side");
}

static int create_tag(kloop *k)
{
    return cmb_tag_create(k->store[0], "v1", "main~1");
}

static int annotate_tag(kloop *k)
{
    return cmb_tag_annotate(k->store[0], "v2", "main", &(cmb_tag_info){.tagger = "ada", .message = "second", .time = 1});
}

static int set_tag(kloop *k)
{
    return cmb_tag_set(k->store[0], "v1", "v2");
}

static int delete_tag(kloop *k)
{
    return cmb_tag_delete(k->store[0], "v1");
}

static int count_ref(void *ctx, const cmb_ref *ref)
{
    *(unsigned *)ctx += 1;
    return 0;
}

static int read_refs(kloop *k)
{
    unsigned n = 0;
    cmb_tag *tag;
    cmb_commit *commit;
    int error = cmb_branch_list(k->store[0], count_ref, &n);
    if (!error)
        error = cmb_tag_list(k->store[0], count_ref, &n);
    if (!error && (error = cmb_tag_read(k->store[0], "v2", 0, &tag)) == 0)
        cmb_tag_free(tag);
    if (!error && (error = cmb_commit_read(k->store[0], "main~1", &commit)) == 0)
        cmb_commit_free(commit);
    return error;
}

static void refs_survive_any_failure(void **state)
{
    static const kloop_scenario scenario = {
        .name = "refs",
        .stores = 1,
        .init = {.node_size = 1024},
        .options = {.pool_size = 1 << 20},
        .prepare = prepare_two_branches,
        .steps = {{"a branch of a working state", create_branches},
                  {"a branch is set", set_branch},
                  {"a branch is compared and set", compare_and_set_branch},
                  {"a branch is deleted", delete_branch},
                  {"a tag", create_tag},
                  {"an annotated tag", annotate_tag},
                  {"a tag is set", set_tag},
                  {"refs are read", read_refs},
                  {"a tag is deleted", delete_tag}},
    };
    kloop_run(&scenario);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_device_refuses_cleanly),
        cmocka_unit_test(a_large_transaction_that_does_not_fit_leaves_the_store_as_it_was),
        cmocka_unit_test(after_a_failed_flush_the_store_reads_on),
        cmocka_unit_test(commits_survive_any_failure),
        cmocka_unit_test(loads_survive_any_failure),
        cmocka_unit_test(checkpoints_survive_any_failure),
        cmocka_unit_test(recovery_survives_any_failure),
        cmocka_unit_test(edits_that_wait_survive_any_failure),
        cmocka_unit_test(refs_survive_any_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
