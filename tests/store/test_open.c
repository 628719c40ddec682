/* SPDX-License-Identifier: ISC */
/* Making images, opening them, read-only, and the same calls making the same bytes. */
#include "bed.h"

#include <unistd.h>

static void an_image_says_what_it_is(void **state)
{
    bed b;
    cmb_store_info info;
    cmb_init_options init = {.node_size = 512, .seed = 77, .segment_size = 2 << 20};
    memset(&b, 0, sizeof b);
    bed_open_with(&b, 0, &init);
    cmb_store_get_info(b.store, &info);
    assert_int_equal(info.hash, CMB_HASH_XXH3);
    assert_int_equal(info.node_size, 512);
    assert_int_equal(info.seed, 77);
    assert_int_equal(info.segment_size, 2 << 20);
    assert_int_equal(info.fixed_size, 0);
    assert_non_null(info.device);
    assert_true(cmb_store_is_durable(b.store));
    must(cmb_store_sync(b.store));
    bed_close(&b);
    must(cmb_store_close(NULL));
}

static void an_image_is_not_overwritten_without_force(void **state)
{
    bed b;
    cmb_init_options force = {.force = true};
    bed_open(&b);
    put(b.store, "main", "a", "1", NULL);
    must(cmb_store_close(b.store));
    must_be(cmb_store_init_device(b.dev, NULL, &b.options), CMB_EEXIST);
    must(cmb_store_init_device(b.dev, &force, &b.options));
    must(cmb_store_open_device(b.dev, &b.options, &b.store));
    expect(b.store, "main", "a", NULL);
    bed_close(&b);
}

static void what_is_no_image_or_no_sense_is_refused(void **state)
{
    cmb_device *dev;
    cmb_store *store;
    static const cmb_init_options wrong[] = {
        {.node_size = 128}, {.node_size = 131072}, {.node_size = 1000}, {.segment_size = 1 << 20},
        {.segment_size = 3 << 20}, {.hash = (cmb_hash_kind)9},
    };
    must(cmb_device_mem(0, NULL, &dev));
    must_be(cmb_store_open_device(dev, NULL, &store), CMB_ENOTIMAGE);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        must_be(cmb_store_init_device(dev, &wrong[i], NULL), CMB_EINVAL);
    must_be(cmb_store_open_device(dev, NULL, &store), CMB_ENOTIMAGE);
    cmb_device_close(dev);
}

static void a_read_only_store_reads_and_refuses_writes(void **state)
{
    bed b;
    cmb_txn *txn;
    cmb_snapshot *snapshot;
    cmb_rev rev = {0};
    bed_open(&b);
    must(cmb_store_close(b.store));
    b.options.read_only = true;
    must(cmb_store_open_device(b.dev, &b.options, &b.store)); /* a fresh image */
    rev_of(b.store, "main");
    must(cmb_store_close(b.store));
    b.options.read_only = false;
    must(cmb_store_open_device(b.dev, &b.options, &b.store));
    put(b.store, "main", "a", "1", "one");
    must(cmb_store_close(b.store));
    b.options.read_only = true;
    must(cmb_store_open_device(b.dev, &b.options, &b.store));
    expect(b.store, "main", "a", "1");
    must_be(cmb_txn_begin(b.store, "main", 0, &txn), CMB_EREADONLY);
    must_be(cmb_branch_create(b.store, "x", "main"), CMB_EREADONLY);
    must_be(cmb_branch_set(b.store, "main", "main"), CMB_EREADONLY);
    must_be(cmb_branch_compare_and_set(b.store, "main", &rev, "main"), CMB_EREADONLY);
    must_be(cmb_branch_delete(b.store, "main"), CMB_EREADONLY);
    must_be(cmb_tag_create(b.store, "x", "main"), CMB_EREADONLY);
    must_be(cmb_tag_set(b.store, "x", "main"), CMB_EREADONLY);
    must_be(cmb_tag_delete(b.store, "x"), CMB_EREADONLY);
    must(cmb_snapshot_open(b.store, "main", &snapshot));
    must_be(cmb_txn_begin_detached(snapshot, &txn), CMB_EREADONLY);
    cmb_snapshot_close(snapshot);
    must(cmb_store_sync(b.store));
    bed_close(&b);
}

static void create_makes_a_file_once(void **state)
{
    char name[64];
    cmb_store *store;
    cmb_store_options options = {.create = true};
    snprintf(name, sizeof name, "/tmp/cambium-open-%ld.cmb", (long)getpid());
    unlink(name);
    must_be(cmb_store_open(name, NULL, &store), CMB_ENOTFOUND);
    must(cmb_store_open(name, &options, &store));
    put(store, "main", "a", "1", NULL);
    must(cmb_store_close(store));
    must(cmb_store_open(name, &options, &store));
    expect(store, "main", "a", "1");
    must(cmb_store_close(store));
    must_be(cmb_store_init(name, NULL, NULL), CMB_EEXIST);
    unlink(name);
}

/* ---- the same calls, the same bytes ---- */

static void script(cmb_device *dev)
{
    bed b = {.dev = dev, .env = {.now = 1000, .random = 5}};
    b.options.env = (cmb_env){&b.env, bed_now, bed_random};
    b.options.txn_memory = 100000;
    must(cmb_store_init_device(dev, NULL, &b.options));
    must(cmb_store_open_device(dev, &b.options, &b.store));
    uint64_t seed = 1;
    for (int i = 0; i < 20; i++) {
        cmb_txn *txn;
        cmb_commit_info info = {.message = i % 3 ? NULL : "ring"};
        must(cmb_txn_begin(b.store, "main", 0, &txn));
        for (int k = 0; k < (i == 9 ? 5000 : 50); k++) {
            uint64_t key = bed_mix(&seed);
            must(cmb_txn_put(txn, (cmb_bytes){&key, 8}, (cmb_bytes){&seed, 8}));
        }
        must(cmb_txn_commit(txn, &info, NULL));
    }
    must(cmb_branch_create(b.store, "x", "main"));
    must(cmb_tag_create(b.store, "v1", "x~1"));
    must(cmb_store_close(b.store));
}

static uint8_t *contents(cmb_device *dev, uint64_t *out_size)
{
    cmb_caps caps;
    cmb_queue *queue;
    cmb_completion done;
    dev->ops->caps(dev, &caps);
    uint8_t *data = calloc(1, caps.size);
    assert_non_null(data);
    must(dev->ops->queue_open(dev, 1, &queue));
    for (uint64_t at = 0; at < caps.size; at += 1 << 20) {
        uint64_t n = caps.size - at < 1 << 20 ? caps.size - at : 1 << 20;
        cmb_request r = {.op = CMB_OP_READ, .offset = at, .length = n, .buffer = data + at};
        assert_int_equal(dev->ops->submit(queue, &r, 1), 1);
        assert_int_equal(dev->ops->reap(queue, &done, 1, 1), 1);
        must(done.result);
    }
    dev->ops->queue_close(queue);
    *out_size = caps.size;
    return data;
}

static void the_same_calls_make_the_same_bytes_on_every_device(void **state)
{
    char file[64], uring[80];
    snprintf(file, sizeof file, "/tmp/cambium-same-%ld.cmb", (long)getpid());
    snprintf(uring, sizeof uring, "%s?io=uring", file);
    const char *names[] = {"mem:64M", "mem:64M", file, uring};
    uint8_t *first = NULL;
    uint64_t first_size = 0, size;
    for (int i = 0; i < 4; i++) {
        cmb_device *dev;
        cmb_device_options options = {.size = 64 << 20};
        unlink(file);
        int error = cmb_device_open(names[i], CMB_OPEN_CREATE_FORCE, &options, &dev);
        if (error == CMB_ENOTSUP)
            continue;
        must(error);
        script(dev);
        uint8_t *data = contents(dev, &size);
        cmb_device_close(dev);
        if (first) {
            assert_int_equal(size, first_size);
            for (uint64_t k = 0; k < size; k++)
                if (data[k] != first[k])
                    fail_msg("%s differs at byte %llu", names[i], (unsigned long long)k);
            free(data);
        } else {
            first = data;
            first_size = size;
        }
    }
    free(first);
    unlink(file);
}

static void many_commits_reopen_through_many_checkpoints(void **state)
{
    bed b;
    uint8_t value[4000];
    memset(&b, 0, sizeof b);
    memset(value, 'v', sizeof value);
    cmb_init_options init = {.segment_size = 2 << 20, .node_size = 16384};
    bed_open_with(&b, 0, &init);
    for (int i = 0; i < 3000; i++) {
        cmb_txn *txn;
        char key[16];
        cmb_commit_info info = {.message = i % 2 ? "ring" : NULL, .flags = i % 10 ? CMB_COMMIT_ASYNC : 0};
        snprintf(key, sizeof key, "%d", i % 100);
        must(cmb_txn_begin(b.store, "main", 0, &txn));
        must(cmb_txn_put(txn, str(key), (cmb_bytes){value, 1000 + (size_t)i}));
        must(cmb_txn_commit(txn, &info, NULL));
        if (i % 500 == 499)
            bed_reopen(&b);
    }
    assert_int_equal(rev_of(b.store, "main").entries, 100);
    assert_int_equal(rev_of(b.store, "main~1400").entries, 100);
    bed_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_image_says_what_it_is),
        cmocka_unit_test(an_image_is_not_overwritten_without_force),
        cmocka_unit_test(what_is_no_image_or_no_sense_is_refused),
        cmocka_unit_test(a_read_only_store_reads_and_refuses_writes),
        cmocka_unit_test(create_makes_a_file_once),
        cmocka_unit_test(the_same_calls_make_the_same_bytes_on_every_device),
        cmocka_unit_test(many_commits_reopen_through_many_checkpoints),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
