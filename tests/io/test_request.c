/* SPDX-License-Identifier: ISC */
/* The helpers that split, pipeline and wait: against a device that records how it is used. */
#include "io_test.h"

#define SIZE     (1u << 20)
#define TRANSFER 4096u
#define DEPTH    4u

/* Takes at most two requests a call, completes the newest first, fails as told. */
typedef struct odd_device {
    cmb_device dev;
    cmb_queue queue;
    cmb_request in_flight[DEPTH];
    unsigned count, most, submitted;
    uint64_t largest;
    uint64_t fail_at; /* offset of the part that fails; UINT64_MAX: none */
    int error;
    bool refuse; /* the failing one is refused at submit */
} odd_device;

static void odd_caps(cmb_device *dev, cmb_caps *out_caps)
{
    *out_caps = (cmb_caps){.size = SIZE,
                           .max_size = SIZE,
                           .block_size = 512,
                           .buffer_align = 1,
                           .max_transfer = TRANSFER,
                           .queue_depth = DEPTH,
                           .flags = CMB_CAP_FLUSH,
                           .generation = 1};
}

static int odd_queue_open(cmb_device *dev, unsigned depth, cmb_queue **out_queue)
{
    *out_queue = &((odd_device *)dev)->queue;
    return 0;
}

static void odd_queue_close(cmb_queue *queue)
{
}

static int odd_submit(cmb_queue *queue, const cmb_request *requests, unsigned n)
{
    odd_device *d = (odd_device *)queue->dev;
    unsigned taken = 0;
    for (; taken < n && taken < 2 && d->count < DEPTH; taken++) {
        const cmb_request *r = &requests[taken];
        if (d->refuse && r->offset == d->fail_at)
            return taken ? (int)taken : cmb_fail(d->error, "odd: refused");
        d->largest = r->length > d->largest ? r->length : d->largest;
        d->in_flight[d->count++] = *r;
        d->submitted++;
    }
    d->most = d->count > d->most ? d->count : d->most;
    return (int)taken;
}

static int odd_reap(cmb_queue *queue, cmb_completion *out_done, unsigned max, unsigned min)
{
    odd_device *d = (odd_device *)queue->dev;
    if (d->count == 0 || max == 0)
        return 0;
    const cmb_request *r = &d->in_flight[--d->count];
    bool fails = r->offset == d->fail_at;
    if (r->op == CMB_OP_READ && !fails)
        io_test_fill(r->buffer, r->length, r->offset);
    *out_done = (cmb_completion){.user = r->user, .result = fails ? d->error : 0, .generation = 1};
    return 1;
}

static void odd_close(cmb_device *dev)
{
}

static const cmb_device_ops odd_ops = {.caps = odd_caps,
                                       .queue_open = odd_queue_open,
                                       .queue_close = odd_queue_close,
                                       .submit = odd_submit,
                                       .reap = odd_reap,
                                       .close = odd_close};

static void odd_init(odd_device *d)
{
    memset(d, 0, sizeof *d);
    d->dev = (cmb_device){.ops = &odd_ops, .alloc = cmb_allocator_or_default(NULL), .name = "odd"};
    d->queue.dev = &d->dev;
    d->fail_at = UINT64_MAX;
    d->error = CMB_EIO;
}

static uint8_t buffer[SIZE];

static void a_long_read_is_split_at_the_largest_transfer_and_fills_the_queue(void **state)
{
    odd_device d;
    uint8_t expected[TRANSFER];
    odd_init(&d);
    assert_ok(cmb_io_read(&d.queue, 512, buffer, 10 * TRANSFER + 512, 0));
    assert_int_equal(d.largest, TRANSFER);
    assert_int_equal(d.submitted, 11);
    assert_int_equal(d.most, DEPTH);
    for (uint64_t i = 0; i < 10; i++) {
        io_test_fill(expected, TRANSFER, 512 + i * TRANSFER);
        assert_memory_equal(buffer + i * TRANSFER, expected, TRANSFER);
    }
}

static void every_part_is_reaped_after_an_error(void **state)
{
    for (uint64_t part = 0; part < 20; part++) {
        odd_device d;
        odd_init(&d);
        d.fail_at = part * TRANSFER;
        assert_error(cmb_io_write(&d.queue, 0, buffer, 20 * TRANSFER), CMB_EIO);
        assert_string_equal(cmb_error_detail(), "odd: write of 81920 bytes at 0: input/output error");
        assert_int_equal(d.count, 0);
        assert_in_range(d.submitted, part + 1, 20);
    }
}

static void every_part_is_reaped_after_a_refusal(void **state)
{
    for (uint64_t part = 0; part < 20; part++) {
        odd_device d;
        odd_init(&d);
        d.fail_at = part * TRANSFER;
        d.refuse = true;
        d.error = CMB_EREADONLY;
        assert_error(cmb_io_write(&d.queue, 0, buffer, 20 * TRANSFER), CMB_EREADONLY);
        assert_string_equal(cmb_error_detail(), "odd: refused");
        assert_int_equal(d.count, 0);
        assert_int_equal(d.submitted, part);
    }
}

static void the_detail_names_the_request_that_failed(void **state)
{
    odd_device d;
    odd_init(&d);
    d.fail_at = 8 * TRANSFER;
    cmb_request r[] = {{.op = CMB_OP_READ, .offset = 0, .length = 3 * TRANSFER, .buffer = buffer},
                       {.op = CMB_OP_WRITE, .offset = 7 * TRANSFER, .length = 2 * TRANSFER, .buffer = buffer + 65536},
                       {.op = CMB_OP_READ, .offset = 65536, .length = 512, .buffer = buffer}};
    assert_error(cmb_io_many(&d.queue, r, CMB_COUNTOF(r)), CMB_EIO);
    assert_string_equal(cmb_error_detail(), "odd: write of 8192 bytes at 28672: input/output error");
    assert_int_equal(d.count, 0);
}

static void requests_of_many_are_left_as_they_were(void **state)
{
    odd_device d;
    odd_init(&d);
    cmb_request r[70], copy[70];
    for (size_t i = 0; i < CMB_COUNTOF(r); i++)
        r[i] = (cmb_request){.op = CMB_OP_READ,
                             .offset = i * 8192,
                             .length = i % 3 * 2560,
                             .buffer = buffer + i * 8192,
                             .user = &r[i]};
    memcpy(copy, r, sizeof r);
    assert_ok(cmb_io_many(&d.queue, r, CMB_COUNTOF(r)));
    assert_memory_equal(copy, r, sizeof r);
}

static void operations_have_names(void **state)
{
    assert_string_equal(cmb_op_name(CMB_OP_READ), "read");
    assert_string_equal(cmb_op_name(CMB_OP_WRITE), "write");
    assert_string_equal(cmb_op_name(CMB_OP_FLUSH), "flush");
    assert_string_equal(cmb_op_name(CMB_OP_DISCARD), "discard");
    assert_non_null(cmb_op_name((cmb_op)99));
}

static void a_device_without_flush_says_that_nothing_is_durable(void **state)
{
    odd_device d;
    cmb_caps caps;
    odd_init(&d);
    odd_caps(&d.dev, &caps);
    caps.flags = 0;
    cmb_request flush = {.op = CMB_OP_FLUSH}, discard = {.op = CMB_OP_DISCARD, .length = 512};
    assert_error(cmb_request_check(&d.dev, &caps, &flush), CMB_ENODURABLE);
    assert_error(cmb_request_check(&d.dev, &caps, &discard), CMB_ENOTSUP);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_long_read_is_split_at_the_largest_transfer_and_fills_the_queue),
        cmocka_unit_test(every_part_is_reaped_after_an_error),
        cmocka_unit_test(every_part_is_reaped_after_a_refusal),
        cmocka_unit_test(the_detail_names_the_request_that_failed),
        cmocka_unit_test(requests_of_many_are_left_as_they_were),
        cmocka_unit_test(operations_have_names),
        cmocka_unit_test(a_device_without_flush_says_that_nothing_is_durable),
    };
    return cmocka_run_group_tests_name("request", tests, NULL, NULL);
}
