/* SPDX-License-Identifier: ISC */
/* Devices that fill up, fail or stop, and memory that runs out. */
#include "bed.h"

#include <unistd.h>

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

/* ---- a device that stops ---- */

static void copy_file(const char *from, const char *to)
{
    FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
    char *piece = malloc(1 << 20);
    size_t n;
    assert_true(in && out && piece);
    while ((n = fread(piece, 1, 1 << 20, in)) > 0)
        assert_int_equal(fwrite(piece, 1, n, out), n);
    fclose(in);
    fclose(out);
    free(piece);
}

/* One commit of two branches on a device that dies at its n-th operation. 0: it did not come to that. */
static int commit_until_stop(const char *name, uint64_t n, bool large)
{
    cmb_device *under, *dev;
    cmb_store *store;
    cmb_txn *txns[2];
    uint64_t seed = 9;
    cmb_fault_rule rule = {.kind = CMB_FAULT_STOP, .first = n};
    cmb_store_options options = {.residency = CMB_RESIDENT_POOL};
    must(cmb_device_open(name, CMB_OPEN_WRITE, NULL, &under));
    must(cmb_device_fault(under, &rule, 1, 1, &dev));
    int error = cmb_store_open_device(dev, &options, &store);
    if (!error) {
        must(cmb_txn_begin(store, "main", 0, &txns[0]));
        must(cmb_txn_begin(store, "side", 0, &txns[1]));
        must(cmb_txn_put(txns[0], str("k"), str("new")));
        must(cmb_txn_put(txns[1], str("k"), str("new")));
        if (large)
            must(put_noise(txns[1], &seed, 2500));
        error = cmb_txn_commit_many(txns, 2, NULL, NULL);
        if (error == CMB_ENOSPC || error == CMB_ENOMEM || error == CMB_EINVAL) {
            cmb_txn_abort(txns[0]);
            cmb_txn_abort(txns[1]);
        }
        cmb_store_close(store);
    }
    cmb_device_close(dev);
    return error;
}

static bool is_new(cmb_store *store, const char *branch)
{
    cmb_snapshot *s;
    cmb_bytes got;
    must(cmb_snapshot_open(store, branch, &s));
    must(cmb_get(s, str("k"), &got));
    bool fresh = memcmp(got.data, "new", 3) == 0;
    cmb_snapshot_close(s);
    return fresh;
}

static void stop_everywhere(bool large)
{
    char image[64], work[64];
    cmb_store *store;
    snprintf(image, sizeof image, "/tmp/cambium-faults-%ld.cmb", (long)getpid());
    snprintf(work, sizeof work, "/tmp/cambium-faults-%ld.work", (long)getpid());
    cmb_init_options init = {.size = 64 << 20, .force = true};
    must(cmb_store_init(image, &init, NULL));
    must(cmb_store_open(image, NULL, &store));
    must(cmb_branch_create(store, "side", NULL));
    put(store, "main", "k", "old", "one");
    put(store, "side", "k", "old", NULL);
    must(cmb_store_close(store));
    int error = 1;
    unsigned stops = 0;
    for (uint64_t n = 0; error && n < 400; n++, stops++) {
        copy_file(image, work);
        error = commit_until_stop(work, n, large);
        must(cmb_store_open(work, NULL, &store));
        bool fresh = is_new(store, "main");
        assert_int_equal(fresh, is_new(store, "side"));
        assert_true(error || fresh);
        put(store, "main", "more", "v", "after");
        must(cmb_store_close(store));
    }
    assert_int_equal(error, 0);
    assert_true(stops > 3);
    unlink(image);
    unlink(work);
}

static void commits_of_several_branches_are_whole_wherever_the_device_stops(void **state)
{
    stop_everywhere(false);
}

static void streamed_commits_are_whole_wherever_the_device_stops(void **state)
{
    stop_everywhere(true);
}

/* ---- memory ---- */

typedef struct meter {
    uint64_t left;  /* allocations until one fails */
    int64_t held;   /* bytes */
    bool failed;
} meter;

static bool meter_refuses(meter *m)
{
    if (m->left && --m->left == 0)
        m->failed = true;
    return m->failed && m->left == 0;
}

static void *meter_alloc(void *ctx, size_t size)
{
    meter *m = ctx;
    void *p = meter_refuses(m) ? NULL : malloc(size);
    m->held += p ? (int64_t)size : 0;
    if (m->failed && !p)
        m->left = UINT64_MAX; /* one failure */
    return p;
}

static void *meter_resize(void *ctx, void *ptr, size_t old_size, size_t new_size)
{
    meter *m = ctx;
    void *p = meter_refuses(m) ? NULL : realloc(ptr, new_size);
    m->held += p ? (int64_t)new_size - (int64_t)old_size : 0;
    if (m->failed && !p)
        m->left = UINT64_MAX;
    return p;
}

static void meter_release(void *ctx, void *ptr, size_t size)
{
    meter *m = ctx;
    m->held -= (int64_t)size;
    free(ptr);
}

#define step(x) do { int e_ = (x); if (e_) { error = e_; goto out; } } while (0)

/* A bit of everything; the first error, everything given back. */
static int script(cmb_store *store, uint64_t round)
{
    cmb_txn *txn = NULL;
    cmb_snapshot *snapshot = NULL;
    cmb_cursor *cursor = NULL;
    cmb_commit *commit = NULL;
    cmb_value_stream *stream = NULL;
    cmb_commit_info info = {.author = "ada", .message = "ring"};
    static uint8_t large[20000];
    char name[32];
    cmb_bytes got, keys[2] = {str("a"), str("large")}, values[2];
    int error = 0, results[2];
    snprintf(name, sizeof name, "b%llu", (unsigned long long)round);
    step(cmb_txn_begin(store, "main", 0, &txn));
    for (unsigned i = 0; i < 300; i++) {
        char key[16];
        snprintf(key, sizeof key, "%u", (i * 77 + (unsigned)round) % 301);
        step(cmb_txn_put(txn, str(key), str(name)));
    }
    step(cmb_txn_put(txn, str("a"), str(name)));
    step(cmb_txn_value_begin(txn, str("large")));
    step(cmb_txn_value_add(txn, large, sizeof large));
    step(cmb_txn_value_finish(txn));
    step(cmb_txn_cursor_open(txn, NULL, &cursor));
    step(cmb_cursor_next(cursor));
    step(cmb_txn_put(txn, str("b"), str(name)));
    step(cmb_cursor_next(cursor));
    cmb_cursor_close(cursor);
    cursor = NULL;
    error = cmb_txn_commit(txn, round % 2 ? &info : NULL, NULL);
    if (error != CMB_ENOMEM)
        txn = NULL;
    step(error);
    step(cmb_snapshot_open(store, "main", &snapshot));
    step(cmb_get(snapshot, str("large"), &got));
    step(cmb_get_many(snapshot, keys, 2, values, results));
    step(results[0] ? results[0] : results[1]);
    step(cmb_value_open(snapshot, str("large"), &stream));
    step(cmb_cursor_open(snapshot, NULL, &cursor));
    step(cmb_cursor_last(cursor));
    step(cmb_branch_create(store, name, "main"));
    step(cmb_commit_read(store, name, &commit));
    step(cmb_branch_delete(store, name));
out:
    cmb_commit_free(commit);
    cmb_cursor_close(cursor);
    cmb_value_close(stream);
    cmb_snapshot_close(snapshot);
    cmb_txn_abort(txn);
    return error;
}

/* One allocation in a whole session fails, each in turn: a clean error, nothing leaked, the store goes on. */
static void refused_memory_is_a_clean_error(void **state)
{
    cmb_device *dev;
    bool more = true;
    uint64_t k = 1;
    must(cmb_device_mem(0, NULL, &dev));
    must(cmb_store_init_device(dev, NULL, NULL));
    for (; more && k < 20000; k += 1 + k / 40) {
        meter m = {.left = k};
        cmb_store *store = NULL;
        cmb_store_options options = {.alloc = {&m, meter_alloc, meter_resize, meter_release}, .txn_memory = 12000};
        int error = cmb_store_open_device(dev, &options, &store);
        if (!error) {
            error = script(store, k);
            if (error && error != CMB_ENOMEM)
                fail_msg("allocation %llu: %s: %s", (unsigned long long)k, cmb_error_name(error), cmb_error_detail());
            if (error) /* one of its branches may be left */
                must(script(store, k + 1000000));
            error = cmb_store_close(store);
            if (error)
                must_be(error, CMB_ENOMEM); /* no seal: it opens all the same */
        } else {
            must_be(error, CMB_ENOMEM);
        }
        more = m.failed;
        assert_int_equal(m.held, 0);
    }
    assert_true(k > 100);
    cmb_store *store;
    must(cmb_store_open_device(dev, NULL, &store));
    must(script(store, 99));
    must(cmb_store_close(store));
    cmb_device_close(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_device_refuses_cleanly),
        cmocka_unit_test(a_large_transaction_that_does_not_fit_leaves_the_store_as_it_was),
        cmocka_unit_test(after_a_failed_flush_the_store_reads_on),
        cmocka_unit_test(commits_of_several_branches_are_whole_wherever_the_device_stops),
        cmocka_unit_test(streamed_commits_are_whole_wherever_the_device_stops),
        cmocka_unit_test(refused_memory_is_a_clean_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
