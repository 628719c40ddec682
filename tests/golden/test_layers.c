/* SPDX-License-Identifier: ISC */
/* The same script makes the same bytes on every I/O layer, whatever the order in which requests complete. */
#include "golden.h"

#include "io/io.h"
#include "tests/io/io_test.h"

#define FIXED_SIZE ((uint64_t)96 << 20)

static const cmb_init_options layer_init = {.node_size = 1024, .segment_size = 2u << 20};
static golden_image growing, fixed; /* what memory made */

static void run_on(cmb_device *dev, golden_image *out_image)
{
    assert_ok(golden_script(dev, &layer_init, true));
    assert_ok(golden_image_read(dev, out_image));
    cmb_device_close(dev);
}

static void run_in_memory(uint64_t size, golden_image *out_image)
{
    cmb_device *dev;
    assert_ok(cmb_device_mem(size, NULL, &dev));
    run_on(dev, out_image);
}

static int make_references(void **state)
{
    run_in_memory(0, &growing);
    run_in_memory(FIXED_SIZE, &fixed);
    return 0;
}

static int drop_references(void **state)
{
    golden_image_free(&growing);
    golden_image_free(&fixed);
    io_test_clean();
    return 0;
}

static void assert_same(const golden_image *expected, golden_image *found)
{
    uint64_t at = golden_image_differs(expected, found);
    uint64_t size = found->size;
    golden_image_free(found);
    if (at != GOLDEN_SAME)
        fail_msg("the bytes differ first at %llu", (unsigned long long)at);
    assert_int_equal(size, expected->size);
}

/* Closes the device. */
static void expect_same(const golden_image *expected, cmb_device *dev)
{
    golden_image found = {0};
    run_on(dev, &found);
    assert_same(expected, &found);
}

/* CREATE of "FILE?OPTIONS"; size 0: it grows. NULL: this system has no such layer. */
static cmb_device *open_file(const char *options, uint64_t size)
{
    golden_text name = {0};
    cmb_device *dev = NULL;
    const char *path = io_test_path("layer");
    remove(path);
    golden_add(&name, "%s%s", path, options);
    int error = cmb_device_open(name.data, CMB_OPEN_CREATE, &(cmb_device_options){.size = size}, &dev);
    golden_text_free(&name);
    if (error && error != CMB_ENOTSUP)
        assert_ok(error);
    return dev;
}

static void expect_same_in_file(const char *options, uint64_t size)
{
    cmb_device *dev = open_file(options, size);
    if (!dev) {
        print_message("not here: %s\n", cmb_error_detail());
        skip();
    }
    expect_same(size ? &fixed : &growing, dev);
}

static uint64_t generation_of(const golden_image *image)
{
    uint64_t a = cmb_get64(image->bytes + 40), b = cmb_get64(image->bytes + (1u << 20) + 40);
    return a > b ? a : b;
}

/* Every open that writes makes a checkpoint; the large part has two of them. */
static void the_large_script_makes_checkpoints_on_its_way(void **state)
{
    golden_image small;
    cmb_device *dev;
    assert_ok(cmb_device_mem(0, NULL, &dev));
    assert_ok(golden_script(dev, &layer_init, false));
    assert_ok(golden_image_read(dev, &small));
    cmb_device_close(dev);
    assert_true(generation_of(&growing) > generation_of(&small) + 2);
    golden_image_free(&small);
}

static void a_second_run_makes_the_same_bytes(void **state)
{
    cmb_device *dev;
    assert_ok(cmb_device_mem(0, NULL, &dev));
    expect_same(&growing, dev);
}

static void a_growing_file_holds_the_same_bytes_as_memory(void **state)
{
    expect_same_in_file("?io=posix", 0);
}

static void a_growing_file_through_io_uring_holds_the_same_bytes_as_memory(void **state)
{
    expect_same_in_file("?io=uring", 0);
}

static void a_fixed_file_holds_the_same_bytes_as_fixed_memory(void **state)
{
    expect_same_in_file("?io=posix", FIXED_SIZE);
}

static void a_fixed_file_through_io_uring_holds_the_same_bytes_as_fixed_memory(void **state)
{
    expect_same_in_file("?io=uring", FIXED_SIZE);
}

static void a_file_treated_as_a_device_holds_the_same_bytes_as_fixed_memory(void **state)
{
    golden_text name = {0};
    cmb_device *dev;
    cmb_device_close(open_file("", FIXED_SIZE));
    golden_add(&name, "%s?fixed=1", io_test_path("layer"));
    assert_ok(cmb_device_open(name.data, CMB_OPEN_WRITE, NULL, &dev));
    golden_text_free(&name);
    expect_same(&fixed, dev);
}

static void expect_same_on_loop(const char *options)
{
    io_test_loop loop;
    golden_text name = {0};
    golden_image found = {0};
    cmb_device *dev;
    cmb_device_close(open_file("", FIXED_SIZE));
    if (!io_test_loop_make(&loop, io_test_path("layer"))) {
        print_message("no loop device can be made here\n");
        skip();
    }
    golden_add(&name, "%s%s", loop.path, options);
    int error = cmb_device_open(name.data, CMB_OPEN_WRITE, NULL, &dev);
    golden_text_free(&name);
    if (!error) {
        error = golden_script(dev, &layer_init, true);
        if (!error)
            error = golden_image_read(dev, &found);
        cmb_device_close(dev);
    }
    io_test_loop_free(&loop);
    if (error == CMB_ENOTSUP) {
        print_message("not here: %s\n", cmb_error_detail());
        skip();
    }
    assert_ok(error);
    assert_same(&fixed, &found);
}

static void a_block_device_holds_the_same_bytes_as_fixed_memory(void **state)
{
    expect_same_on_loop("?io=posix");
}

static void a_block_device_through_io_uring_holds_the_same_bytes_as_fixed_memory(void **state)
{
    expect_same_on_loop("?io=uring");
}

static void completions_out_of_order_change_no_byte(void **state)
{
    const cmb_fault_rule rule = {.kind = CMB_FAULT_DELAY, .first = 1, .every = 3, .count = 2};
    cmb_device *under, *dev;
    assert_ok(cmb_device_mem(0, NULL, &under));
    assert_ok(cmb_device_fault(under, &rule, 1, 1, &dev));
    expect_same(&growing, dev);
}

static void ignore_event(void *ctx, const cmb_trace_event *event)
{
    ++*(uint64_t *)ctx;
}

static void a_trace_changes_no_byte(void **state)
{
    cmb_device *under, *dev;
    uint64_t events = 0;
    assert_ok(cmb_device_mem(FIXED_SIZE, NULL, &under));
    assert_ok(cmb_device_trace(under, ignore_event, &events, &dev));
    expect_same(&fixed, dev);
    assert_true(events > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_large_script_makes_checkpoints_on_its_way),
        cmocka_unit_test(a_second_run_makes_the_same_bytes),
        cmocka_unit_test(a_growing_file_holds_the_same_bytes_as_memory),
        cmocka_unit_test(a_growing_file_through_io_uring_holds_the_same_bytes_as_memory),
        cmocka_unit_test(a_fixed_file_holds_the_same_bytes_as_fixed_memory),
        cmocka_unit_test(a_fixed_file_through_io_uring_holds_the_same_bytes_as_fixed_memory),
        cmocka_unit_test(a_file_treated_as_a_device_holds_the_same_bytes_as_fixed_memory),
        cmocka_unit_test(a_block_device_holds_the_same_bytes_as_fixed_memory),
        cmocka_unit_test(a_block_device_through_io_uring_holds_the_same_bytes_as_fixed_memory),
        cmocka_unit_test(completions_out_of_order_change_no_byte),
        cmocka_unit_test(a_trace_changes_no_byte),
    };
    return cmocka_run_group_tests_name("golden/layers", tests, make_references, drop_references);
}
