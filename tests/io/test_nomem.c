/* SPDX-License-Identifier: ISC */
/* Out of memory at any allocation: a clean error, nothing leaked, nothing left behind. */
#include "io_test.h"

#include <unistd.h>

/* Opens, uses and closes a device; 0 or the first error. Everything is closed again. */
typedef int (*script)(const cmb_device_options *options, const char *name);

static int use(cmb_device *dev, bool grows)
{
    static uint8_t block[8192];
    cmb_queue *q;
    const void *map;
    int error = cmb_queue_open(dev, 4, &q);
    if (error)
        return error;
    if (grows)
        error = dev->ops->grow(dev, 1 << 20);
    if (!error)
        error = cmb_io_write(q, 0, block, 4096);
    if (!error)
        error = cmb_io_read(q, 512, block + 1, 4096, CMB_IO_UNCACHED);
    if (!error && dev->ops->map)
        error = dev->ops->map(dev, 0, 4096, &map);
    cmb_queue_close(q);
    return error;
}

static int use_by_name(const cmb_device_options *options, const char *name)
{
    cmb_device *dev;
    int error = cmb_device_open(name, CMB_OPEN_CREATE, options, &dev);
    if (error)
        return error;
    error = use(dev, dev->ops->grow != NULL);
    cmb_device_close(dev);
    return error;
}

static void ignore(void *ctx, const cmb_trace_event *e)
{
}

static int use_layers(const cmb_device_options *options, const char *name)
{
    const cmb_fault_rule rules[] = {{.kind = CMB_FAULT_TEAR, .first = 0},
                                    {.op = CMB_OP_READ, .kind = CMB_FAULT_DELAY, .first = 0, .count = 2}};
    cmb_device *dev, *above;
    int error = cmb_device_open(name, CMB_OPEN_CREATE, options, &dev);
    if (error)
        return error;
    error = cmb_device_fault(dev, rules, CMB_COUNTOF(rules), 1, &above);
    if (!error) {
        dev = above;
        error = cmb_device_trace(dev, ignore, NULL, &above);
        dev = error ? dev : above;
    }
    if (!error)
        error = use(dev, dev->ops->grow != NULL);
    cmb_device_close(dev);
    return error;
}

/* Refuses the first allocation, then the second, and so on until the script needs no more. */
static void fail_each_in_turn(script run, const char *name, const char *file)
{
    for (uint64_t k = 0;; k++) {
        io_test_allocator t;
        io_test_allocator_init(&t, k);
        cmb_device_options options = {.alloc = t.alloc};
        int error = run(&options, name);
        assert_int_equal(t.out, 0);
        assert_int_equal(t.bytes, 0);
        if (error == 0) {
            assert_true(t.calls <= k);
            break;
        }
        assert_int_equal(error, CMB_ENOMEM);
        assert_true(k < 100);
        if (file)
            unlink(file);
    }
}

static void a_memory_device_survives_every_refused_allocation(void **state)
{
    fail_each_in_turn(use_by_name, "mem:", NULL);
    fail_each_in_turn(use_by_name, "mem:1M", NULL);
}

static void a_file_survives_every_refused_allocation(void **state)
{
    char path[512], name[600];
    snprintf(path, sizeof path, "%s", io_test_path("file"));
    fail_each_in_turn(use_by_name, path, path);
    unlink(path);
    snprintf(name, sizeof name, "%s?trace=/dev/null", path);
    fail_each_in_turn(use_by_name, name, path);
    io_test_clean();
}

static void a_ring_survives_every_refused_allocation(void **state)
{
#ifdef CMB_HAVE_URING
    char path[512], name[600];
    snprintf(path, sizeof path, "%s", io_test_path("file"));
    snprintf(name, sizeof name, "%s?io=uring", path);
    fail_each_in_turn(use_by_name, name, path);
    io_test_clean();
#else
    skip();
#endif
}

static void layers_survive_every_refused_allocation(void **state)
{
    fail_each_in_turn(use_layers, "mem:", NULL);
}

static void a_file_that_could_not_be_opened_for_lack_of_memory_is_not_left_behind(void **state)
{
    char path[512];
    snprintf(path, sizeof path, "%s", io_test_path("file"));
    for (uint64_t k = 0;; k++) {
        io_test_allocator t;
        cmb_device *dev;
        io_test_allocator_init(&t, k);
        cmb_device_options options = {.alloc = t.alloc};
        if (cmb_device_open(path, CMB_OPEN_CREATE, &options, &dev) == 0) {
            cmb_device_close(dev);
            break;
        }
        assert_int_equal(access(path, F_OK), -1);
    }
    io_test_clean();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_memory_device_survives_every_refused_allocation),
        cmocka_unit_test(a_file_survives_every_refused_allocation),
        cmocka_unit_test(a_ring_survives_every_refused_allocation),
        cmocka_unit_test(layers_survive_every_refused_allocation),
        cmocka_unit_test(a_file_that_could_not_be_opened_for_lack_of_memory_is_not_left_behind),
    };
    return cmocka_run_group_tests_name("nomem", tests, NULL, NULL);
}
