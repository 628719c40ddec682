/* SPDX-License-Identifier: ISC */
/* What the front end makes of a platform that is late, busy or failing, and of changes at awkward moments. */
#include "bed.h"

#define BLOCK 4096u

/* ---- a platform that does odd things; one test at a time ---- */

static const cmb_xen_platform_ops *plain;
static cmb_xen_platform_ops odd;

/* Connects by a platform whose functions are those in `odd`, which the test sets after odd_begin. */
static void odd_begin(bed *b)
{
    cmb_xen_end *end;
    assert_ok(cmb_xen_end_open(b->hub, BED_DOMAIN, &end));
    plain = cmb_xen_end_platform(end)->ops;
    odd = *plain;
    cmb_xen_end_platform(end)->ops->close(cmb_xen_end_platform(end));
}

static int odd_connect(bed *b)
{
    cmb_xen_end *end;
    assert_ok(cmb_xen_end_open(b->hub, BED_DOMAIN, &end));
    cmb_xen_end_platform(end)->ops = &odd;
    return cmb_device_xen(cmb_xen_end_platform(end), "xen:test", BED_VDEV, b->mode, NULL, &b->take, &b->dev);
}

static void odd_open(bed *b)
{
    assert_ok(odd_connect(b));
    assert_ok(cmb_queue_open(b->dev, 32, &b->queue));
}

static uint8_t *memory(void)
{
    static _Alignas(4096) uint8_t pages[16 * BLOCK];
    return pages;
}

/* ---- a disk that answers when the front end sleeps ---- */

static const cmb_device_ops *disk_plain;
static cmb_mutex gate_lock;
static cmb_cond gate_opened;
static bool gate_is_open, slept_through;

static int gated_reap(cmb_queue *queue, cmb_completion *out_done, unsigned max, unsigned min)
{
    cmb_mutex_lock(&gate_lock);
    while (!gate_is_open)
        cmb_cond_wait(&gate_opened, &gate_lock);
    cmb_mutex_unlock(&gate_lock);
    return disk_plain->reap(queue, out_done, max, min);
}

/* The wake-up that is waited for must come: what is found only because the wait ended is a request lost. */
static void opening_wait(cmb_xen_platform *p, uint64_t deadline)
{
    uint64_t patience = cmb_os_monotonic() + (uint64_t)20 * 1000000000u;
    if (deadline == UINT64_MAX) {
        cmb_mutex_lock(&gate_lock);
        gate_is_open = true;
        cmb_cond_signal(&gate_opened);
        cmb_mutex_unlock(&gate_lock);
        plain->wait(p, patience);
        slept_through = slept_through || cmb_os_monotonic() >= patience;
    } else {
        plain->wait(p, deadline);
    }
}

static void memory_that_one_ring_gives_back_serves_what_waits_in_another(void **state)
{
    bed b;
    cmb_queue *other;
    cmb_completion c;
    cmb_device_ops gated;
    bed_init(&b, BED_SIZE);
    disk_plain = b.disk->ops;
    gated = *disk_plain;
    gated.reap = gated_reap;
    b.disk->ops = &gated;
    gate_is_open = slept_through = false;
    assert_ok(cmb_mutex_init(&gate_lock));
    assert_ok(cmb_cond_init(&gate_opened));
    b.take.queues = 2;
    b.take.pool_pages = 2;
    bed_serve(&b);
    odd_begin(&b);
    odd.wait = opening_wait;
    odd_open(&b);
    assert_ok(cmb_queue_open(b.dev, 4, &other));
    cmb_request all = {.op = CMB_OP_READ, .length = 2 * BLOCK, .buffer = memory()};
    cmb_request one = {.op = CMB_OP_READ, .length = BLOCK, .buffer = memory() + 2 * BLOCK};
    assert_int_equal(b.dev->ops->submit(other, &all, 1), 1);
    assert_int_equal(b.dev->ops->submit(b.queue, &one, 1), 1);
    assert_int_equal(b.dev->ops->reap(b.queue, &c, 1, 1), 1);
    assert_int_equal(c.result, 0);
    assert_int_equal(b.dev->ops->reap(other, &c, 1, 1), 1);
    assert_int_equal(c.result, 0);
    assert_false(slept_through);
    cmb_queue_close(other);
    bed_close(&b);
    cmb_cond_destroy(&gate_opened);
    cmb_mutex_destroy(&gate_lock);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_that_one_ring_gives_back_serves_what_waits_in_another),
    };
    return cmocka_run_group_tests_name("platform", tests, NULL, NULL);
}
