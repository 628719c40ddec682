/* SPDX-License-Identifier: ISC */
/* Images of the past are read, written on, and made again byte for byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "golden.h"

#define HINT "if the format was changed on purpose, run tests/golden/make (in the build directory) on tests/golden"

static const char *directory;

static void check(int error, const char *what)
{
    if (error)
        fail_msg("%s: %s: %s", what, cmb_error_name(error), cmb_error_detail());
}
#define must(x) check((x), #x)

static void read_text(const golden_kind *kind, const char *suffix, golden_text *out_text)
{
    must(golden_file_read(directory, kind->name, suffix, out_text));
}

static void read_image(const golden_kind *kind, golden_image *out_image)
{
    golden_text text;
    read_text(kind, "image", &text);
    must(golden_image_parse(&text, out_image));
    golden_text_free(&text);
}

/* The golden image on a device of its own. */
static cmb_device *rebuild(const golden_kind *kind)
{
    golden_image image;
    cmb_device *dev;
    read_image(kind, &image);
    must(golden_image_device(&image, kind->size != 0, &dev));
    golden_image_free(&image);
    return dev;
}

static cmb_store *open_store(cmb_device *dev, bool read_only)
{
    cmb_store *store;
    must(cmb_store_open_device(dev, &(cmb_store_options){.read_only = read_only}, &store));
    return store;
}

static int on_finding(void *ctx, const cmb_finding *finding)
{
    print_message("%s at %llu: %s (%s)\n", finding->code, (unsigned long long)finding->addr, finding->text,
                  finding->where);
    return 0;
}

static void assert_clean(cmb_store *store)
{
    cmb_fsck_options options = {.level = CMB_FSCK_FULL, .on_finding = on_finding};
    cmb_fsck_result result;
    must(cmb_fsck(store, &options, &result));
    assert_int_equal(result.findings, 0);
    assert_true(result.leaves > 0 && result.nodes > 0 && result.values > 0 && result.commits > 0);
}

/* The line of a text, zero-terminated in place. */
static const char *line_of(golden_text *text, size_t number)
{
    char *p = text->data;
    while (--number && p)
        p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL;
    if (!p)
        return "";
    p[strcspn(p, "\n")] = 0;
    return p;
}

static void assert_listing(const golden_kind *kind, golden_text *found)
{
    golden_text expected;
    read_text(kind, "listing", &expected);
    size_t line = golden_text_differs(&expected, found);
    if (line)
        fail_msg("%s: line %zu of the listing is\n  %s\nnot\n  %s\n%s", kind->name, line, line_of(found, line),
                 line_of(&expected, line), HINT);
    golden_text_free(&expected);
}

static void expect_content(const golden_kind *kind)
{
    golden_text listing;
    cmb_device *dev = rebuild(kind);
    cmb_store *store = open_store(dev, true);
    must(golden_listing(store, &listing));
    assert_listing(kind, &listing);
    assert_clean(store);
    golden_text_free(&listing);
    must(cmb_store_close(store));
    cmb_device_close(dev);
}

static void golden_images_hold_what_they_held(void **state)
{
    for (unsigned i = 0; i < GOLDEN_KINDS; i++)
        expect_content(&golden_kinds[i]);
}

static void a_reader_changes_nothing(void **state)
{
    for (unsigned i = 0; i < GOLDEN_KINDS; i++) {
        golden_image before, after;
        cmb_device *dev = rebuild(&golden_kinds[i]);
        must(golden_image_read(dev, &before));
        must(cmb_store_close(open_store(dev, true)));
        must(golden_image_read(dev, &after));
        assert_true(golden_image_differs(&before, &after) == GOLDEN_SAME);
        golden_image_free(&before);
        golden_image_free(&after);
        cmb_device_close(dev);
    }
}

static void expect_entry(cmb_store *store, const char *rev, const char *key, const char *value)
{
    cmb_snapshot *snapshot;
    cmb_bytes found;
    must(cmb_snapshot_open(store, rev, &snapshot));
    must(cmb_get(snapshot, (cmb_bytes){key, strlen(key)}, &found));
    assert_int_equal(found.size, strlen(value));
    assert_memory_equal(found.data, value, found.size);
    cmb_snapshot_close(snapshot);
}

static void add_commit(cmb_store *store, cmb_rev *out_rev)
{
    cmb_txn *txn;
    must(cmb_txn_begin(store, "main", 0, &txn));
    must(cmb_txn_put(txn, (cmb_bytes){"key/010", 7}, (cmb_bytes){"a new ring", 10}));
    must(cmb_txn_del(txn, (cmb_bytes){"key/011", 7}));
    must(cmb_txn_commit(txn, &(cmb_commit_info){.author = "eve", .message = "much later"}, out_rev));
}

static void grow_a_ring(const golden_kind *kind)
{
    cmb_rev before, made, after;
    cmb_device *dev = rebuild(kind);
    cmb_store *store = open_store(dev, false);
    must(cmb_rev_parse(store, "main", &before));
    add_commit(store, &made);
    must(cmb_store_close(store));
    store = open_store(dev, true);
    must(cmb_rev_parse(store, "main", &after));
    assert_memory_equal(&made, &after, sizeof made);
    assert_int_equal(after.entries, before.entries - 1);
    expect_entry(store, "main", "key/010", "a new ring");
    expect_entry(store, "main~1", "key/010", "10 of spring");
    expect_entry(store, "v1", "key/011", "11 of spring");
    assert_clean(store);
    must(cmb_store_close(store));
    cmb_device_close(dev);
}

static void golden_images_take_new_commits(void **state)
{
    for (unsigned i = 0; i < GOLDEN_KINDS; i++)
        grow_a_ring(&golden_kinds[i]);
}

static void make_again(const golden_kind *kind)
{
    golden_image expected, found;
    cmb_device *dev;
    read_image(kind, &expected);
    must(cmb_device_mem(kind->size, NULL, &dev));
    must(golden_script(dev, &kind->init, false));
    must(golden_image_read(dev, &found));
    uint64_t at = golden_image_differs(&expected, &found);
    if (at != GOLDEN_SAME)
        fail_msg("%s: the bytes differ first at offset %llu (0x%llx)\n%s", kind->name, (unsigned long long)at,
                 (unsigned long long)at, HINT);
    assert_int_equal(found.size, expected.size);
    golden_image_free(&expected);
    golden_image_free(&found);
    cmb_device_close(dev);
}

static void the_script_makes_the_golden_images_byte_for_byte(void **state)
{
    for (unsigned i = 0; i < GOLDEN_KINDS; i++)
        make_again(&golden_kinds[i]);
}

static void a_single_changed_byte_is_a_difference(void **state)
{
    golden_image image, changed;
    read_image(&golden_kinds[0], &image);
    read_image(&golden_kinds[0], &changed);
    assert_true(golden_image_differs(&image, &changed) == GOLDEN_SAME);
    changed.bytes[changed.size - 1] ^= 1;
    assert_int_equal(golden_image_differs(&image, &changed), changed.size - 1);
    changed.size -= 4096;
    assert_true(golden_image_differs(&image, &changed) == GOLDEN_SAME);
    golden_image_free(&image);
    golden_image_free(&changed);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_images_hold_what_they_held),
        cmocka_unit_test(a_reader_changes_nothing),
        cmocka_unit_test(golden_images_take_new_commits),
        cmocka_unit_test(the_script_makes_the_golden_images_byte_for_byte),
        cmocka_unit_test(a_single_changed_byte_is_a_difference),
    };
    if (argc != 2) {
        fprintf(stderr, "usage: test_golden DIRECTORY\n");
        return 2;
    }
    directory = argv[1];
    return cmocka_run_group_tests_name("golden/images", tests, NULL, NULL);
}
