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

/* ---- a back end in another's place ---- */

static const char back_state[] = "/local/domain/0/backend/vbd/1/51712/state";

/* As the driver of a Linux back end does when it is loaded again while nothing is in flight: it goes on with the rings. */
static void replace(bed *b)
{
    char text[16] = "";
    cmb_xen_end *end;
    assert_ok(cmb_xen_end_open(b->hub, 0, &end));
    cmb_xen_platform *p = cmb_xen_end_platform(end);
    assert_ok(p->ops->watch(p, back_state, 0));
    assert_ok(cmb_xen_back_restart(b->back, NULL));
    while (strcmp(text, "4") != 0) {
        p->ops->wait(p, UINT64_MAX);
        (void)p->ops->watch_fired(p);
        assert_ok(p->ops->read(p, CMB_XEN_NO_TX, back_state, text, sizeof text));
    }
    p->ops->close(p);
}

static cmb_caps caps_of(bed *b)
{
    cmb_caps caps;
    cmb_device_caps(b->dev, &caps);
    return caps;
}

static void a_new_size_does_not_hide_that_the_back_end_is_another(void **state)
{
    bed b;
    bed_init(&b, BED_SIZE);
    bed_open(&b);
    uint64_t before = caps_of(&b).generation;
    replace(&b);
    assert_ok(cmb_xen_back_resize(b.back, BED_SIZE / 2));
    cmb_caps after = caps_of(&b);
    assert_int_equal(after.size, BED_SIZE / 2);
    assert_int_not_equal(after.generation, before);
    assert_ok(cmb_xen_back_resize(b.back, BED_SIZE));
    assert_int_equal(caps_of(&b).generation, after.generation);
    bed_close(&b);
}

/* What a watch tells arrives with the answer to the next question, and no sooner. */
static uint32_t arrived;

static int late_read(cmb_xen_platform *p, uint32_t tx, const char *path, char *out_value, size_t size)
{
    int error = plain->read(p, tx, path, out_value, size);
    arrived |= plain->watch_fired(p);
    return error;
}

static uint32_t late_fired(cmb_xen_platform *p)
{
    uint32_t fired = arrived;
    arrived = 0;
    return fired;
}

static void a_flush_that_another_back_end_answered_is_known_as_such_at_once(void **state)
{
    for (unsigned flush = 0; flush < 2; flush++) {
        bed b;
        bed_init(&b, BED_SIZE);
        b.offer.flush = flush;
        bed_serve(&b);
        odd_begin(&b);
        odd.read = late_read;
        odd.watch_fired = late_fired;
        arrived = 0;
        odd_open(&b);
        assert_ok(cmb_io_write(b.queue, 0, memory(), BLOCK));
        assert_ok(cmb_io_flush(b.queue));
        uint64_t before = caps_of(&b).generation;
        assert_ok(cmb_io_flush(b.queue));
        assert_int_equal(caps_of(&b).generation, before);
        replace(&b);
        assert_ok(cmb_io_flush(b.queue));
        assert_int_not_equal(caps_of(&b).generation, before);
        bed_close(&b);
    }
}

/* ---- changes while connecting ---- */

static bed *changing;
static unsigned changes;

static int changing_write(cmb_xen_platform *p, uint32_t tx, const char *path, const char *value)
{
    int error = plain->write(p, tx, path, value);
    if (strcmp(path, "device/vbd/51712/state") == 0 && strcmp(value, "4") == 0 && changes++ == 0)
        assert_ok(cmb_xen_back_resize(changing->back, BED_SIZE / 2));
    return error;
}

static void a_size_that_changes_while_the_ends_connect_is_seen(void **state)
{
    bed b;
    bed_init(&b, BED_SIZE);
    bed_serve(&b);
    odd_begin(&b);
    odd.write = changing_write;
    changing = &b;
    changes = 0;
    odd_open(&b);
    assert_int_equal(changes, 1);
    assert_int_equal(caps_of(&b).size, BED_SIZE / 2);
    assert_error(cmb_io_write(b.queue, BED_SIZE / 2, memory(), BLOCK), CMB_EINVAL);
    bed_close(&b);
}

static void nothing_of_an_earlier_front_end_is_left_in_the_xenstore(void **state)
{
    char text[16];
    bed b;
    cmb_xen_end *end;
    bed_init(&b, BED_SIZE);
    bed_serve(&b);
    assert_ok(cmb_xen_end_open(b.hub, BED_DOMAIN, &end));
    cmb_xen_platform *p = cmb_xen_end_platform(end);
    assert_ok(p->ops->write(p, CMB_XEN_NO_TX, "device/vbd/51712/feature-large-sector-size", "1"));
    assert_ok(p->ops->write(p, CMB_XEN_NO_TX, "device/vbd/51712/queue-1/ring-ref", "9"));
    assert_ok(bed_connect(&b, BED_VDEV, NULL));
    assert_ok(p->ops->read(p, CMB_XEN_NO_TX, "device/vbd/51712/feature-large-sector-size", text, sizeof text));
    assert_string_equal(text, "0");
    assert_error(p->ops->read(p, CMB_XEN_NO_TX, "device/vbd/51712/queue-1/ring-ref", text, sizeof text), CMB_ENOTFOUND);
    p->ops->close(p);
    bed_close(&b);
}

static void grants_that_are_not_to_stay_do_not_where_memory_cannot_be_lent_either(void **state)
{
    char text[16];
    bed b;
    cmb_xen_end *end;
    for (unsigned persistent = 0; persistent < 2; persistent++) {
        bed_init(&b, BED_SIZE);
        b.hub_options.shared_only = true;
        b.take.persistent = persistent;
        bed_open(&b);
        assert_non_null(strstr(b.dev->ops->describe(b.dev), persistent ? "persistent grants" : "shared pages"));
        assert_ok(cmb_xen_end_open(b.hub, BED_DOMAIN, &end));
        cmb_xen_platform *p = cmb_xen_end_platform(end);
        assert_ok(p->ops->read(p, CMB_XEN_NO_TX, "device/vbd/51712/feature-persistent", text, sizeof text));
        assert_string_equal(text, persistent ? "1" : "0");
        p->ops->close(p);
        assert_ok(cmb_io_write(b.queue, 0, memory(), 16 * BLOCK));
        bed_close(&b);
    }
}

/* ---- the xenstore fails for a while ---- */

static unsigned failures; /* so many reads to come fail */

static int failing_read(cmb_xen_platform *p, uint32_t tx, const char *path, char *out_value, size_t size)
{
    if (failures && (strcmp(path, back_state) == 0 || strcmp(path, "device/vbd/51712/backend") == 0)) {
        failures--;
        return cmb_fail(CMB_EIO, "%s: the xenstore's daemon is busy", path);
    }
    return plain->read(p, tx, path, out_value, size);
}

static void a_xenstore_that_fails_for_a_while_is_not_the_end_of_a_connection(void **state)
{
    bed b;
    bed_init(&b, BED_SIZE);
    bed_serve(&b);
    odd_begin(&b);
    odd.read = failing_read;
    failures = 0;
    odd_open(&b);
    assert_int_equal(caps_of(&b).generation, 1);
    for (unsigned i = 1; i < 4; i++) {
        failures = i;
        assert_ok(cmb_xen_back_resize(b.back, BED_SIZE / 2 * (1 + i % 2)));
        for (unsigned j = 0; j < i; j++)
            (void)caps_of(&b);
        assert_int_equal(failures, 0);
        assert_int_equal(caps_of(&b).size, BED_SIZE / 2 * (1 + i % 2)); /* what fired is not forgotten */
        assert_int_equal(caps_of(&b).generation, 1);
    }
    assert_ok(cmb_io_write(b.queue, 0, memory(), BLOCK));
    bed_close(&b);
}

static void a_xenstore_that_fails_while_connecting_is_asked_again(void **state)
{
    bed b;
    bed_init(&b, BED_SIZE);
    bed_serve(&b);
    odd_begin(&b);
    odd.read = failing_read;
    failures = 0;
    odd_open(&b);
    cmb_xen_back_kill(b.back);
    failures = 3; /* while it leaves and connects */
    assert_ok(cmb_xen_back_restart(b.back, NULL));
    assert_ok(cmb_io_write(b.queue, 0, memory(), BLOCK));
    assert_ok(cmb_io_flush(b.queue));
    bed_close(&b);
}

/* ---- the back end is nowhere ---- */

static unsigned looks;

static int counting_read(cmb_xen_platform *p, uint32_t tx, const char *path, char *out_value, size_t size)
{
    looks += strcmp(path, "device/vbd/51712/backend") == 0;
    return plain->read(p, tx, path, out_value, size);
}

/* A wait may end early; here it always does. */
static void restless_wait(cmb_xen_platform *p, uint64_t deadline)
{
    uint64_t soon = cmb_os_monotonic() + 1000000;
    plain->wait(p, soon < deadline ? soon : deadline);
}

static void a_device_that_is_nowhere_is_not_looked_for_without_a_pause(void **state)
{
    bed b;
    cmb_completion c;
    cmb_request r = {.op = CMB_OP_WRITE, .length = BLOCK, .buffer = memory()};
    bed_init(&b, BED_SIZE);
    b.take.timeout = 2000u * 1000 * 1000;
    bed_serve(&b);
    odd_begin(&b);
    odd.read = counting_read;
    odd.wait = restless_wait;
    odd_open(&b);
    cmb_xen_end *end;
    assert_ok(cmb_xen_end_open(b.hub, BED_DOMAIN, &end));
    cmb_xen_platform *p = cmb_xen_end_platform(end);
    cmb_xen_back_kill(b.back);
    assert_int_equal(b.dev->ops->submit(b.queue, &r, 1), 1);
    assert_ok(p->ops->remove(p, CMB_XEN_NO_TX, "device/vbd/51712/backend"));
    assert_ok(p->ops->remove(p, CMB_XEN_NO_TX, "/local/domain/0/backend/vbd/1/51712"));
    looks = 0;
    assert_int_equal(b.dev->ops->reap(b.queue, &c, 1, 1), 1);
    assert_int_equal(c.result, CMB_EIO);
    assert_true(looks >= 2 && looks <= 23); /* one that finds out, then at most one in 100 ms */
    assert_error(b.dev->ops->submit(b.queue, &r, 1), CMB_EIO);
    assert_detail_has("none came in its place");
    p->ops->close(p);
    bed_close(&b);
}

static void what_a_back_end_left_undone_is_not_sent_to_one_that_is_for_reading_only(void **state)
{
    bed b;
    cmb_completion c[2];
    cmb_xen_back_options next;
    cmb_request r[2] = {{.op = CMB_OP_WRITE, .length = BLOCK, .buffer = memory()},
                        {.op = CMB_OP_READ, .offset = BLOCK, .length = BLOCK, .buffer = memory() + BLOCK}};
    const cmb_xen_fault fault = {.op = CMB_XEN_OP_ANY, .kind = CMB_XEN_FAULT_DIE};
    bed_init(&b, BED_SIZE);
    b.offer.faults = &fault;
    b.offer.fault_count = 1;
    bed_open(&b);
    assert_int_equal(b.dev->ops->submit(b.queue, r, 2), 2);
    cmb_xen_back_kill(b.back);
    cmb_xen_back_options_default(&next);
    next.read_only = true;
    assert_ok(cmb_xen_back_restart(b.back, &next));
    for (unsigned n = 0; n < 2;) {
        int got = b.dev->ops->reap(b.queue, c, 2, 1);
        for (int i = 0; i < got; i++)
            assert_int_equal(c[i].result, CMB_EREADONLY);
        n += (unsigned)got;
    }
    assert_int_equal(cmb_xen_back_served(b.back, BLKIF_OP_WRITE), 0);
    assert_error(b.dev->ops->submit(b.queue, &r[1], 1), CMB_EIO);
    assert_detail_has("came back read-only");
    bed_close(&b);
}

/* ---- memory ---- */

static unsigned share_most; /* pages of one share */

static int scant_share(cmb_xen_platform *p, uint16_t domid, unsigned pages, void **out_memory, uint32_t *out_refs)
{
    if (pages > share_most)
        return cmb_fail(CMB_ENOMEM, "%u pages", pages);
    return plain->share(p, domid, pages, out_memory, out_refs);
}

static void a_pool_is_as_large_as_there_is_memory_and_grows_when_there_is_more(void **state)
{
    bed b;
    bed_init(&b, BED_SIZE);
    b.take.ring_order = 1;
    bed_serve(&b);
    odd_begin(&b);
    odd.share = scant_share;
    share_most = 0;
    assert_error(odd_connect(&b), CMB_ENOMEM);
    assert_int_equal(cmb_xen_hub_grants(b.hub), 0);
    share_most = 5;
    odd_open(&b);
    assert_int_equal(cmb_xen_hub_grants(b.hub), 2 + 4); /* the ring, and the largest power of two */
    assert_ok(cmb_io_write(b.queue, 0, memory(), BLOCK));
    share_most = 0;
    assert_ok(cmb_io_write(b.queue, 0, memory(), 16 * BLOCK));
    assert_int_equal(cmb_xen_hub_grants(b.hub), 2 + 4);
    share_most = 256;
    assert_ok(cmb_io_write(b.queue, 0, memory(), 16 * BLOCK));
    assert_true(cmb_xen_hub_grants(b.hub) >= 2 + 4 + 16);
    bed_close(&b);
}

static bool clinging; /* the other end maps what it was lent */

static unsigned clinging_revoke(cmb_xen_platform *p, uint32_t *refs, unsigned pages)
{
    return clinging ? pages : plain->revoke(p, refs, pages);
}

static void lent_memory_that_a_lost_back_end_keeps_ends_the_device_and_is_taken_back_later(void **state)
{
    bed b;
    cmb_completion c;
    cmb_request r = {.op = CMB_OP_READ, .length = 3 * BLOCK, .buffer = memory()};
    const cmb_xen_fault fault = {.op = CMB_XEN_OP_ANY, .kind = CMB_XEN_FAULT_DIE};
    bed_init(&b, BED_SIZE);
    b.offer.faults = &fault;
    b.offer.fault_count = 1;
    b.take.persistent = false;
    bed_serve(&b);
    odd_begin(&b);
    odd.revoke = clinging_revoke;
    clinging = true;
    odd_open(&b);
    assert_int_equal(b.dev->ops->submit(b.queue, &r, 1), 1);
    cmb_xen_back_kill(b.back);
    b.offer.fault_count = 0;
    assert_ok(cmb_xen_back_restart(b.back, &b.offer));
    assert_int_equal(b.dev->ops->reap(b.queue, &c, 1, 1), 1);
    assert_int_equal(c.result, CMB_EIO);
    assert_error(b.dev->ops->submit(b.queue, &r, 1), CMB_EIO);
    assert_detail_has("keeps memory of a request mapped");
    assert_int_equal(cmb_xen_hub_grants(b.hub), 3);
    clinging = false;
    bed_close(&b);
}

/* ---- what the other end can read of us ---- */

static uint8_t *ring;

static int noting_share(cmb_xen_platform *p, uint16_t domid, unsigned pages, void **out_memory, uint32_t *out_refs)
{
    int error = plain->share(p, domid, pages, out_memory, out_refs);
    if (!error && !ring)
        ring = *out_memory;
    return error;
}

static void requests_hold_nothing_but_what_they_say(void **state)
{
    bed b;
    bed_init(&b, BED_SIZE);
    b.take.ring_order = 1;
    bed_serve(&b);
    odd_begin(&b);
    odd.share = noting_share;
    ring = NULL;
    odd_open(&b);
    for (unsigned i = 0; i < 64; i++) /* every entry of the ring, whose lowest bytes hold the answers */
        assert_ok(cmb_io_write(b.queue, 0, memory(), 11 * BLOCK));
    for (unsigned i = 0; i < 64; i++) {
        const uint8_t *entry = (uint8_t *)((struct blkif_sring *)ring)->ring[i % 64].req.seg;
        for (unsigned j = 0; j < 11; j++)
            assert_int_equal(entry[8 * j + 6] | entry[8 * j + 7], 0);
    }
    bed_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_that_one_ring_gives_back_serves_what_waits_in_another),
        cmocka_unit_test(a_new_size_does_not_hide_that_the_back_end_is_another),
        cmocka_unit_test(a_flush_that_another_back_end_answered_is_known_as_such_at_once),
        cmocka_unit_test(a_size_that_changes_while_the_ends_connect_is_seen),
        cmocka_unit_test(nothing_of_an_earlier_front_end_is_left_in_the_xenstore),
        cmocka_unit_test(grants_that_are_not_to_stay_do_not_where_memory_cannot_be_lent_either),
        cmocka_unit_test(a_xenstore_that_fails_for_a_while_is_not_the_end_of_a_connection),
        cmocka_unit_test(a_xenstore_that_fails_while_connecting_is_asked_again),
        cmocka_unit_test(a_device_that_is_nowhere_is_not_looked_for_without_a_pause),
        cmocka_unit_test(what_a_back_end_left_undone_is_not_sent_to_one_that_is_for_reading_only),
        cmocka_unit_test(a_pool_is_as_large_as_there_is_memory_and_grows_when_there_is_more),
        cmocka_unit_test(lent_memory_that_a_lost_back_end_keeps_ends_the_device_and_is_taken_back_later),
        cmocka_unit_test(requests_hold_nothing_but_what_they_say),
    };
    return cmocka_run_group_tests_name("platform", tests, NULL, NULL);
}
