/* SPDX-License-Identifier: ISC */
#include "io_test.h"

static void untouched_megabytes_take_no_memory(void **state)
{
    io_test_allocator t;
    io_test_allocator_init(&t, UINT64_MAX);
    cmb_device_options options = {.alloc = t.alloc};
    cmb_device *dev;
    cmb_queue *q;
    char block[4096] = "far out", seen[4096];
    assert_ok(cmb_device_mem((uint64_t)1 << 40, &options, &dev));
    assert_ok(cmb_queue_open(dev, 1, &q));
    assert_ok(cmb_io_read(q, (uint64_t)900 << 30, seen, sizeof seen, 0));
    assert_true(t.bytes < 1 << 20);
    assert_ok(cmb_io_write(q, (uint64_t)900 << 30, block, sizeof block));
    assert_ok(cmb_io_discard(q, 0, (uint64_t)1 << 30));
    assert_true(t.bytes < 2 << 20);
    assert_ok(cmb_io_read(q, (uint64_t)900 << 30, seen, sizeof seen, 0));
    assert_string_equal(seen, "far out");
    cmb_queue_close(q);
    cmb_device_close(dev);
    assert_int_equal(t.out, 0);
    assert_int_equal(t.bytes, 0);
}

static void only_small_fixed_devices_offer_a_map(void **state)
{
    const struct {
        uint64_t size;
        bool map;
    } rows[] = {{0, false}, {4096, true}, {(uint64_t)1 << 30, true}, {((uint64_t)1 << 30) + 4096, false}};
    for (size_t i = 0; i < CMB_COUNTOF(rows); i++) {
        cmb_device *dev;
        cmb_caps caps;
        assert_ok(cmb_device_mem(rows[i].size, NULL, &dev));
        cmb_device_caps(dev, &caps);
        assert_int_equal(!!(caps.flags & CMB_CAP_MAP), rows[i].map);
        assert_int_equal(dev->ops->map != NULL, rows[i].map);
        cmb_device_close(dev);
    }
}

static void a_map_that_begins_past_the_end_is_refused(void **state)
{
    cmb_device *dev;
    const void *p = &dev;
    assert_ok(cmb_device_mem(8192, NULL, &dev));
    assert_error(dev->ops->map(dev, 12288, 4096, &p), CMB_EINVAL);
    assert_ptr_equal(p, &dev);
    cmb_device_close(dev);
}

static void the_size_of_the_options_counts_when_the_name_has_none(void **state)
{
    cmb_device_options options = {.size = 1 << 20};
    cmb_device *dev;
    cmb_caps caps;
    assert_ok(cmb_device_open("mem:", CMB_OPEN_CREATE, &options, &dev));
    cmb_device_caps(dev, &caps);
    assert_int_equal(caps.max_size, 1 << 20);
    cmb_device_close(dev);
}

typedef struct stripe {
    cmb_device *dev;
    unsigned index;
} stripe;

enum { STRIPES = 4, ROUNDS = 64 };

/* All write into the same chunks, so that they race to make them. */
static void write_stripe(void *arg)
{
    stripe *s = arg;
    cmb_queue *q;
    uint8_t block[4096];
    memset(block, (int)s->index + 1, sizeof block);
    if (cmb_queue_open(s->dev, 1, &q))
        return;
    for (uint64_t i = 0; i < ROUNDS; i++)
        cmb_io_write(q, (i << 20) + s->index * 4096u, block, sizeof block);
    cmb_queue_close(q);
}

static void writers_that_race_for_the_same_chunk_lose_nothing(void **state)
{
    cmb_device *dev;
    cmb_queue *q;
    cmb_thread threads[STRIPES];
    stripe stripes[STRIPES];
    uint8_t block[4096];
    assert_ok(cmb_device_mem(0, NULL, &dev));
    assert_ok(dev->ops->grow(dev, (uint64_t)ROUNDS << 20));
    for (unsigned i = 0; i < STRIPES; i++) {
        stripes[i] = (stripe){dev, i};
        assert_ok(cmb_thread_start(&threads[i], write_stripe, &stripes[i]));
    }
    for (unsigned i = 0; i < STRIPES; i++)
        cmb_thread_join(&threads[i]);
    assert_ok(cmb_queue_open(dev, 1, &q));
    for (uint64_t i = 0; i < ROUNDS * STRIPES; i++) {
        assert_ok(cmb_io_read(q, (i / STRIPES << 20) + i % STRIPES * 4096, block, sizeof block, 0));
        assert_int_equal(block[0], i % STRIPES + 1);
        assert_int_equal(block[4095], i % STRIPES + 1);
    }
    cmb_queue_close(q);
    cmb_device_close(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(untouched_megabytes_take_no_memory),
        cmocka_unit_test(only_small_fixed_devices_offer_a_map),
        cmocka_unit_test(a_map_that_begins_past_the_end_is_refused),
        cmocka_unit_test(the_size_of_the_options_counts_when_the_name_has_none),
        cmocka_unit_test(writers_that_race_for_the_same_chunk_lose_nothing),
    };
    return cmocka_run_group_tests_name("mem", tests, NULL, NULL);
}
