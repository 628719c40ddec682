/* SPDX-License-Identifier: ISC */
#include "io_test.h"

typedef struct log_of {
    cmb_trace_event events[64];
    uint8_t first_byte[64];
    unsigned n;
} log_of;

static void record(void *ctx, const cmb_trace_event *e)
{
    log_of *log = ctx;
    assert_true(log->n < 64);
    log->first_byte[log->n] = e->data ? *(const uint8_t *)e->data : 0;
    log->events[log->n++] = *e;
}

static void every_completed_operation_is_told_in_order(void **state)
{
    cmb_device *mem, *dev;
    cmb_queue *q;
    log_of log = {.n = 0};
    uint8_t block[4096] = {42};
    assert_ok(cmb_device_mem(1 << 20, NULL, &mem));
    assert_ok(cmb_device_trace(mem, record, &log, &dev));
    assert_ok(cmb_queue_open(dev, 4, &q));
    assert_ok(cmb_io_write(q, 4096, block, sizeof block));
    assert_ok(cmb_io_read(q, 4096, block, 512, CMB_IO_UNCACHED));
    assert_ok(cmb_io_flush(q));
    assert_int_equal(log.n, 3);
    for (unsigned i = 0; i < log.n; i++) {
        assert_int_equal(log.events[i].index, i);
        assert_int_equal(log.events[i].result, 0);
    }
    assert_int_equal(log.events[0].op, CMB_OP_WRITE);
    assert_int_equal(log.events[0].offset, 4096);
    assert_int_equal(log.events[0].length, 4096);
    assert_int_equal(log.first_byte[0], 42);
    assert_int_equal(log.events[1].flags, CMB_IO_UNCACHED);
    assert_null(log.events[1].data);
    assert_int_equal(log.events[2].op, CMB_OP_FLUSH);
    cmb_queue_close(q);
    cmb_device_close(dev);
}

static void refused_requests_are_not_told_and_failed_ones_are(void **state)
{
    cmb_device *mem, *faulty, *dev;
    cmb_queue *q;
    log_of log = {.n = 0};
    uint8_t block[4096] = {0};
    const cmb_fault_rule rule = {.kind = CMB_FAULT_EIO, .first = 0};
    assert_ok(cmb_device_mem(1 << 20, NULL, &mem));
    assert_ok(cmb_device_fault(mem, &rule, 1, 0, &faulty));
    assert_ok(cmb_device_trace(faulty, record, &log, &dev));
    assert_ok(cmb_queue_open(dev, 1, &q));
    for (int i = 0; i < 5; i++)
        assert_error(cmb_io_read(q, 1 << 20, block, 4096, 0), CMB_EINVAL);
    assert_int_equal(log.n, 0);
    assert_error(cmb_io_read(q, 0, block, 4096, 0), CMB_EIO);
    assert_int_equal(log.n, 1);
    assert_int_equal(log.events[0].result, CMB_EIO);
    cmb_queue_close(q);
    cmb_device_close(dev);
}

static void a_layer_has_the_properties_of_what_it_stands_on(void **state)
{
    const uint64_t sizes[] = {0, 1 << 20};
    for (size_t i = 0; i < CMB_COUNTOF(sizes); i++) {
        cmb_device *mem, *dev;
        cmb_caps below, above;
        log_of log = {.n = 0};
        assert_ok(cmb_device_mem(sizes[i], NULL, &mem));
        cmb_device_caps(mem, &below);
        assert_ok(cmb_device_trace(mem, record, &log, &dev));
        cmb_device_caps(dev, &above);
        assert_memory_equal(&below, &above, sizeof below);
        assert_int_equal(dev->ops->grow != NULL, sizes[i] == 0);
        assert_int_equal(dev->ops->map != NULL, sizes[i] != 0);
        assert_string_equal(dev->name, mem->name);
        assert_non_null(strstr(dev->ops->describe(dev), "trace over memory"));
        if (dev->ops->grow) {
            assert_ok(dev->ops->grow(dev, 8192));
            cmb_device_caps(dev, &above);
            assert_int_equal(above.size, 8192);
        } else {
            const void *p, *q;
            assert_ok(dev->ops->map(dev, 4096, 4096, &p));
            assert_ok(mem->ops->map(mem, 4096, 4096, &q));
            assert_ptr_equal(p, q);
        }
        cmb_device_close(dev);
    }
}

static void a_trace_without_a_function_is_refused(void **state)
{
    cmb_device *mem, *dev;
    assert_ok(cmb_device_mem(4096, NULL, &mem));
    assert_error(cmb_device_trace(mem, NULL, NULL, &dev), CMB_EINVAL);
    assert_error(cmb_device_trace(NULL, record, NULL, &dev), CMB_EINVAL);
    cmb_device_close(mem);
}

typedef struct worker {
    cmb_device *dev;
    int result;
} worker;

static void count_event(void *ctx, const cmb_trace_event *e)
{
    /* Not atomic on purpose: events are serialised. */
    uint64_t *next = ctx;
    assert_int_equal(e->index, *next);
    (*next)++;
}

static void work(void *arg)
{
    worker *w = arg;
    uint8_t block[512];
    cmb_queue *q;
    w->result = cmb_queue_open(w->dev, 2, &q);
    for (int i = 0; i < 500 && !w->result; i++)
        w->result = cmb_io_read(q, 0, block, sizeof block, 0);
    cmb_queue_close(q);
}

static void events_of_several_threads_are_serialised_and_numbered(void **state)
{
    cmb_device *mem, *dev;
    uint64_t next = 0;
    cmb_thread threads[3];
    worker workers[3];
    assert_ok(cmb_device_mem(4096, NULL, &mem));
    assert_ok(cmb_device_trace(mem, count_event, &next, &dev));
    for (int i = 0; i < 3; i++) {
        workers[i].dev = dev;
        assert_ok(cmb_thread_start(&threads[i], work, &workers[i]));
    }
    for (int i = 0; i < 3; i++) {
        cmb_thread_join(&threads[i]);
        assert_int_equal(workers[i].result, 0);
    }
    assert_int_equal(next, 1500);
    cmb_device_close(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_completed_operation_is_told_in_order),
        cmocka_unit_test(refused_requests_are_not_told_and_failed_ones_are),
        cmocka_unit_test(a_layer_has_the_properties_of_what_it_stands_on),
        cmocka_unit_test(a_trace_without_a_function_is_refused),
        cmocka_unit_test(events_of_several_threads_are_serialised_and_numbered),
    };
    return cmocka_run_group_tests_name("trace", tests, NULL, NULL);
}
