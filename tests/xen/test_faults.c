/* SPDX-License-Identifier: ISC */
/* What a caller sees when a back end misbehaves, errs, dies, comes back, or takes back what it offered. */
#include "bed.h"

#define BLOCK 4096u

static uint8_t *memory(size_t size)
{
    static cmb_allocator libc;
    static uint8_t *buffer;
    libc = cmb_allocator_or_default(NULL);
    if (!buffer)
        buffer = cmb_io_buffer(&libc, BED_SIZE);
    assert_true(size <= BED_SIZE);
    return buffer;
}

/* Two writes in flight, at 0 and at BLOCK; their results. */
static void two_writes(bed *b, int out_results[2])
{
    uint8_t *m = memory(2 * BLOCK);
    io_test_fill(m, 2 * BLOCK, 7);
    cmb_request r[2];
    for (unsigned i = 0; i < 2; i++)
        r[i] = (cmb_request){
            .op = CMB_OP_WRITE, .offset = i * BLOCK, .length = BLOCK, .buffer = m + i * BLOCK, .user = &out_results[i]};
    assert_int_equal(b->dev->ops->submit(b->queue, r, 2), 2);
    for (unsigned n = 0; n < 2;) {
        cmb_completion c[2];
        int got = b->dev->ops->reap(b->queue, c, 2, 1);
        assert_true(got >= 1);
        for (int i = 0; i < got; i++)
            *(int *)c[i].user = c[i].result;
        n += (unsigned)got;
    }
}

static void assert_holds(cmb_queue *q, uint64_t offset, const void *expected, size_t length)
{
    uint8_t *found = malloc(length);
    assert_ok(cmb_io_read(q, offset, found, length, 0));
    assert_memory_equal(found, expected, length);
    free(found);
}

static cmb_caps caps_of(bed *b)
{
    cmb_caps caps;
    cmb_device_caps(b->dev, &caps);
    return caps;
}

static void with_fault(bed *b, const cmb_xen_fault *fault)
{
    bed_init(b, BED_SIZE);
    b->offer.faults = fault;
    b->offer.fault_count = 1;
}

/* ---- what was offered is taken back ---- */

static void a_flush_that_is_not_supported_after_all_becomes_a_barrier(void **state)
{
    const cmb_xen_fault fault = {.op = BLKIF_OP_FLUSH_DISKCACHE, .kind = CMB_XEN_FAULT_UNSUPPORTED, .every = 1};
    bed b;
    with_fault(&b, &fault);
    bed_open(&b);
    assert_ok(cmb_io_flush(b.queue));
    assert_ok(cmb_io_flush(b.queue));
    assert_int_equal(cmb_xen_back_served(b.back, BLKIF_OP_FLUSH_DISKCACHE), 1);
    assert_int_equal(cmb_xen_back_served(b.back, BLKIF_OP_WRITE_BARRIER), 2);
    bed_close(&b);
}

static void a_flush_that_nothing_replaces_says_that_nothing_is_durable(void **state)
{
    const cmb_xen_fault fault = {.op = BLKIF_OP_FLUSH_DISKCACHE, .kind = CMB_XEN_FAULT_UNSUPPORTED, .every = 1};
    bed b;
    with_fault(&b, &fault);
    b.offer.barrier = false;
    bed_open(&b);
    assert_true(caps_of(&b).flags & CMB_CAP_FLUSH);
    assert_error(cmb_io_flush(b.queue), CMB_ENODURABLE);
    assert_detail_has("xen:test: flush");
    assert_false(caps_of(&b).flags & CMB_CAP_FLUSH);
    assert_error(cmb_io_flush(b.queue), CMB_ENODURABLE);
    assert_int_equal(cmb_xen_back_served(b.back, BLKIF_OP_FLUSH_DISKCACHE), 1);
    bed_close(&b);
}

/* Both are in the ring when the first is answered: the second one finds nothing left to be done instead. */
static void two_flushes_that_nothing_replaces_both_say_so(void **state)
{
    const cmb_xen_fault faults[] = {
        {.op = BLKIF_OP_FLUSH_DISKCACHE, .kind = CMB_XEN_FAULT_UNSUPPORTED, .every = 1},
        {.op = BLKIF_OP_WRITE_BARRIER, .kind = CMB_XEN_FAULT_UNSUPPORTED, .every = 1},
    };
    bed b;
    cmb_completion c[2];
    const cmb_request r[2] = {{.op = CMB_OP_FLUSH}, {.op = CMB_OP_FLUSH}};
    with_fault(&b, faults);
    b.offer.fault_count = 2;
    bed_open(&b);
    assert_int_equal(b.dev->ops->submit(b.queue, r, 2), 2);
    for (int n = 0; n < 2;) {
        int got = b.dev->ops->reap(b.queue, c, 2, 1);
        for (int i = 0; i < got; i++)
            assert_int_equal(c[i].result, CMB_ENODURABLE);
        n += got;
    }
    assert_false(caps_of(&b).flags & CMB_CAP_FLUSH);
    bed_close(&b);
}

static void a_read_or_write_that_is_not_supported_is_an_error(void **state)
{
    const cmb_xen_fault fault = {.op = CMB_XEN_OP_ANY, .kind = CMB_XEN_FAULT_UNSUPPORTED, .times = 2, .every = 1};
    bed b;
    with_fault(&b, &fault);
    bed_open(&b);
    assert_error(cmb_io_read(b.queue, 0, memory(BLOCK), BLOCK, 0), CMB_EIO);
    assert_error(cmb_io_write(b.queue, 0, memory(BLOCK), BLOCK), CMB_EIO);
    assert_ok(cmb_io_write(b.queue, 0, memory(BLOCK), BLOCK));
    bed_close(&b);
}

static void a_discard_that_is_not_supported_after_all_is_left_out(void **state)
{
    const cmb_xen_fault fault = {.op = BLKIF_OP_DISCARD, .kind = CMB_XEN_FAULT_UNSUPPORTED, .every = 1};
    bed b;
    with_fault(&b, &fault);
    bed_open(&b);
    assert_ok(cmb_io_discard(b.queue, 0, BLOCK));
    assert_false(caps_of(&b).flags & CMB_CAP_DISCARD);
    assert_error(cmb_io_discard(b.queue, 0, BLOCK), CMB_ENOTSUP);
    bed_close(&b);
}

static void a_secure_discard_that_is_not_done_is_an_error(void **state)
{
    const cmb_xen_fault fault = {.op = BLKIF_OP_DISCARD, .kind = CMB_XEN_FAULT_UNSUPPORTED, .first = 1};
    bed b;
    with_fault(&b, &fault);
    b.take.secure = true;
    bed_open(&b);
    assert_ok(cmb_io_discard(b.queue, 0, BLOCK));
    assert_error(cmb_io_discard(b.queue, 0, BLOCK), CMB_ENOTSUP);
    bed_close(&b);
}

static void a_secure_discard_that_is_not_offered_is_refused_at_open(void **state)
{
    bed b;
    bed_init(&b, BED_SIZE);
    b.offer.secure = false;
    b.take.secure = true;
    bed_serve(&b);
    assert_error(bed_connect(&b, BED_VDEV, NULL), CMB_ENOTSUP);
    assert_detail_has("no secure discard");
    cmb_xen_back_free(b.back);
    assert_int_equal(cmb_xen_hub_grants(b.hub), 0);
    cmb_xen_hub_free(b.hub);
    cmb_device_close(b.disk);
}

static void requests_go_on_in_small_pieces_without_indirect_segments(void **state)
{
    const cmb_xen_fault fault = {.op = BLKIF_OP_INDIRECT, .kind = CMB_XEN_FAULT_UNSUPPORTED, .every = 1};
    uint8_t *m = memory(BED_SIZE);
    for (unsigned persistent = 0; persistent < 2; persistent++) {
        bed b;
        with_fault(&b, &fault);
        b.take.persistent = persistent;
        bed_open(&b);
        io_test_fill(m, BED_SIZE, 3);
        assert_ok(cmb_io_write(b.queue, 0, m, BED_SIZE));
        assert_int_equal(caps_of(&b).max_transfer, 11 * BLOCK);
        assert_holds(b.queue, 0, m, BED_SIZE);
        bed_close(&b);
    }
}

/* ---- answers ---- */

static void an_error_is_told_to_the_caller_whose_request_it_was(void **state)
{
    const cmb_xen_fault fault = {.op = BLKIF_OP_WRITE, .kind = CMB_XEN_FAULT_ERROR, .first = 1};
    int results[2];
    bed b;
    with_fault(&b, &fault);
    bed_open(&b);
    two_writes(&b, results);
    assert_int_equal(results[0], 0);
    assert_int_equal(results[1], CMB_EIO);
    two_writes(&b, results);
    assert_int_equal(results[0] | results[1], 0);
    assert_holds(b.queue, 0, memory(0), 2 * BLOCK);
    bed_close(&b);
}

static void a_part_that_fails_fails_the_request_once(void **state)
{
    const cmb_xen_fault fault = {.op = BLKIF_OP_READ, .kind = CMB_XEN_FAULT_ERROR, .first = 1};
    bed b;
    with_fault(&b, &fault);
    b.offer.segments = 0;
    bed_open(&b);
    cmb_request r = {.op = CMB_OP_READ, .length = BED_SIZE, .buffer = memory(BED_SIZE), .user = &b};
    cmb_completion c[2];
    assert_int_equal(b.dev->ops->submit(b.queue, &r, 1), 1);
    assert_int_equal(b.dev->ops->reap(b.queue, c, 2, 2), 1);
    assert_int_equal(c[0].result, CMB_EIO);
    assert_ptr_equal(c[0].user, &b);
    assert_ok(cmb_io_read(b.queue, 0, memory(BED_SIZE), BED_SIZE, 0));
    bed_close(&b);
}

static void a_status_that_there_is_not_is_an_error_of_its_request(void **state)
{
    const cmb_xen_fault fault = {.op = BLKIF_OP_WRITE, .kind = CMB_XEN_FAULT_BAD_STATUS, .first = 0};
    int results[2];
    bed b;
    with_fault(&b, &fault);
    bed_open(&b);
    two_writes(&b, results);
    assert_int_equal(results[0], CMB_EIO);
    assert_int_equal(results[1], 0);
    bed_close(&b);
}

/* What a disk was asked for. */
typedef struct asked {
    unsigned count;
    uint64_t longest;
} asked;

static void note(void *ctx, const cmb_trace_event *event)
{
    asked *a = ctx;
    a->count++;
    a->longest = event->length > a->longest ? event->length : a->longest;
}

static void the_error_is_of_one_request_though_the_disk_was_asked_for_two_at_once(void **state)
{
    const cmb_fault_rule rule = {
        .op = CMB_OP_WRITE, .kind = CMB_FAULT_EIO, .every = 1, .offset_min = BLOCK, .offset_max = 2 * BLOCK};
    int results[2];
    asked disk = {0};
    bed b;
    bed_init(&b, BED_SIZE);
    b.take.persistent = false; /* so that the two lie in a row in memory too */
    assert_ok(cmb_device_fault(b.disk, &rule, 1, 1, &b.disk));
    assert_ok(cmb_device_trace(b.disk, note, &disk, &b.disk));
    bed_open(&b);
    two_writes(&b, results);
    assert_int_equal(results[0], 0);
    assert_int_equal(results[1], CMB_EIO);
    assert_holds(b.queue, 0, memory(BLOCK), BLOCK);
    bed_close(&b);
    assert_int_equal(disk.longest, 2 * BLOCK);
    assert_int_equal(disk.count, 1 + 2 + 1);
}

static void one_write(bed *b, uint8_t *m, uint64_t length)
{
    cmb_completion done;
    const cmb_request r = {.op = CMB_OP_WRITE, .length = length, .buffer = m};
    assert_int_equal(b->dev->ops->submit(b->queue, &r, 1), 1);
    assert_int_equal(b->dev->ops->reap(b->queue, &done, 1, 1), 1);
    assert_ok(done.result);
}

static void a_request_in_many_parts_is_one_to_the_disk(void **state)
{
    uint8_t *m = memory(BED_SIZE);
    for (unsigned persistent = 0; persistent < 2; persistent++) {
        asked disk = {0};
        bed b;
        bed_init(&b, BED_SIZE);
        b.offer.segments = 0;
        b.take.persistent = persistent;
        assert_ok(cmb_device_trace(b.disk, note, &disk, &b.disk));
        bed_open(&b);
        io_test_fill(m, BED_SIZE, persistent);
        for (unsigned i = 0; i < 3; i++)
            one_write(&b, m, 64 * BLOCK);
        assert_int_equal(disk.longest, 64 * BLOCK);
        assert_int_equal(disk.count, 3);
        assert_holds(b.queue, 0, m, 64 * BLOCK);
        bed_close(&b);
    }
}

static void late_answers_come_late_and_all_the_same(void **state)
{
    const cmb_xen_fault fault = {.op = CMB_XEN_OP_ANY, .kind = CMB_XEN_FAULT_LATE, .every = 3, .count = 5};
    uint8_t *m = memory(BED_SIZE);
    bed b;
    with_fault(&b, &fault);
    b.offer.segments = 0;
    b.offer.shuffle = 11;
    bed_open(&b);
    for (unsigned i = 0; i < 4; i++) {
        io_test_fill(m, BED_SIZE, i);
        assert_ok(cmb_io_write(b.queue, 0, m, BED_SIZE));
        assert_ok(cmb_io_flush(b.queue));
        assert_holds(b.queue, 0, m, BED_SIZE);
    }
    bed_close(&b);
}

/* ---- a back end that breaks the protocol: everything ends, with its reason ---- */

static void breaks(cmb_xen_fault_kind kind, const char *words)
{
    const cmb_xen_fault fault = {.op = BLKIF_OP_WRITE, .kind = kind, .first = 0};
    int results[2];
    bed b;
    with_fault(&b, &fault);
    b.take.persistent = false;
    bed_open(&b);
    two_writes(&b, results);
    cmb_request r = {.op = CMB_OP_READ, .length = BLOCK, .buffer = memory(BLOCK)};
    while (b.dev->ops->submit(b.queue, &r, 1) == 1) { /* it may not have been found out yet */
        cmb_completion c;
        assert_int_equal(b.dev->ops->reap(b.queue, &c, 1, 1), 1);
    }
    assert_error(b.dev->ops->submit(b.queue, &r, 1), CMB_EIO);
    assert_detail_has(words);
    assert_detail_has("xen:test: ");
    print_message("the caller saw: %s, %s; then: %s\n", cmb_error_name(results[0]), cmb_error_name(results[1]),
                  cmb_error_detail());
    bed_hang_up(&b);
    cmb_xen_back_free(b.back);
    cmb_xen_hub_free(b.hub);
    cmb_device_close(b.disk);
}

static void an_answer_to_no_request_ends_the_connection(void **state)
{
    breaks(CMB_XEN_FAULT_BAD_ID, "which is not in flight");
}

static void a_second_answer_ends_the_connection(void **state)
{
    breaks(CMB_XEN_FAULT_DUPLICATE, "the back end ");
}

static void an_index_that_runs_ahead_ends_the_connection(void **state)
{
    breaks(CMB_XEN_FAULT_BAD_INDEX, "responses to");
}

static void memory_that_is_not_given_back_is_an_error_and_the_end(void **state)
{
    const cmb_xen_fault fault = {.op = BLKIF_OP_READ, .kind = CMB_XEN_FAULT_KEEP, .first = 0};
    bed b;
    with_fault(&b, &fault);
    b.take.persistent = false;
    bed_open(&b);
    assert_error(cmb_io_read(b.queue, 0, memory(BLOCK), BLOCK, 0), CMB_EIO);
    assert_error(cmb_io_read(b.queue, 0, memory(BLOCK), BLOCK, 0), CMB_EIO);
    assert_detail_has("keeps memory");
    bed_hang_up(&b);
    cmb_xen_back_free(b.back);
    assert_int_equal(cmb_xen_hub_grants(b.hub), 0); /* it was in the end */
    cmb_xen_hub_free(b.hub);
    cmb_device_close(b.disk);
}

/* ---- back ends that die, restart, go ---- */

static void what_a_dead_back_end_left_undone_is_done_by_the_next(void **state)
{
    uint8_t *m = memory(BED_SIZE);
    for (unsigned persistent = 0; persistent < 2; persistent++) {
        for (uint64_t at = 0; at < 6; at++) {
            const cmb_xen_fault fault = {.op = CMB_XEN_OP_ANY, .kind = CMB_XEN_FAULT_DIE, .first = at};
            cmb_xen_back_options next;
            bed b;
            with_fault(&b, &fault);
            b.offer.segments = 64;
            b.take.persistent = persistent;
            bed_open(&b);
            io_test_fill(m, BED_SIZE, at + 1);
            cmb_request r[4];
            for (unsigned i = 0; i < 4; i++)
                r[i] = (cmb_request){.op = CMB_OP_WRITE,
                                     .offset = i * (BED_SIZE / 4),
                                     .length = BED_SIZE / 4,
                                     .buffer = m + i * (BED_SIZE / 4)};
            assert_int_equal(caps_of(&b).generation, 1);
            assert_int_equal(b.dev->ops->submit(b.queue, r, 4), 4);
            cmb_xen_back_kill(b.back);
            /* The next one is of another kind. */
            cmb_xen_back_options_default(&next);
            next.ring_order = at % 3;
            next.segments = at % 2 ? 0 : 100;
            next.persistent = at % 2;
            assert_ok(cmb_xen_back_restart(b.back, &next));
            for (unsigned n = 0; n < 4;) {
                cmb_completion c[4];
                int got = b.dev->ops->reap(b.queue, c, 4, 1);
                for (int i = 0; i < got; i++) {
                    assert_int_equal(c[i].result, 0);
                    assert_true(c[i].generation >= 1);
                }
                n += (unsigned)got;
            }
            assert_holds(b.queue, 0, m, BED_SIZE);
            assert_true(caps_of(&b).generation >= 2);
            bed_close(&b);
        }
    }
}

/* As the log does: asks before the write and after the flush. */
static void a_flush_after_a_restart_does_not_cover_what_was_answered_before(void **state)
{
    bed b;
    bed_init(&b, BED_SIZE);
    bed_open(&b);
    uint64_t before = caps_of(&b).generation;
    assert_ok(cmb_io_write(b.queue, 0, memory(BLOCK), BLOCK));
    assert_ok(cmb_xen_back_restart(b.back, NULL));
    assert_ok(cmb_io_flush(b.queue));
    assert_int_not_equal(caps_of(&b).generation, before);
    bed_close(&b);
}

/* As the driver of a Linux back end does when it is loaded again while nothing is in flight. */
static void a_back_end_that_goes_on_with_the_rings_of_the_one_before_is_another_connection(void **state)
{
    bed b;
    char text[16] = "";
    cmb_xen_end *toolstack;
    bed_init(&b, BED_SIZE);
    bed_open(&b);
    uint8_t *m = memory(BED_SIZE);
    io_test_fill(m, BED_SIZE, 4);
    assert_ok(cmb_io_write(b.queue, 0, m, BED_SIZE));
    uint64_t before = caps_of(&b).generation;
    unsigned served = (unsigned)cmb_xen_back_served(b.back, BLKIF_OP_FLUSH_DISKCACHE);
    assert_ok(cmb_xen_end_open(b.hub, 0, &toolstack));
    cmb_xen_platform *p = cmb_xen_end_platform(toolstack);
    assert_ok(p->ops->watch(p, "backend/vbd/1/51712/state", 0));
    assert_ok(cmb_xen_back_restart(b.back, NULL));
    while (strcmp(text, "4") != 0) {
        p->ops->wait(p, UINT64_MAX);
        (void)p->ops->watch_fired(p);
        assert_ok(p->ops->read(p, CMB_XEN_NO_TX, "backend/vbd/1/51712/state", text, sizeof text));
    }
    p->ops->close(p);
    assert_int_not_equal(caps_of(&b).generation, before);
    assert_ok(cmb_io_flush(b.queue));
    assert_int_equal(cmb_xen_back_served(b.back, BLKIF_OP_FLUSH_DISKCACHE), served + 1);
    assert_holds(b.queue, 0, m, BED_SIZE);
    bed_close(&b);
}

/* More requests than a ring of one page has room for, so that some wait outside of it when the end comes. */
static void requests_that_wait_for_the_ring_share_the_fate_of_those_in_it(void **state)
{
    static const cmb_xen_fault_kind kinds[] = {CMB_XEN_FAULT_DIE, CMB_XEN_FAULT_BAD_ID};
    enum { MANY = 60 };
    uint8_t *m = memory(MANY * BLOCK);
    for (unsigned k = 0; k < CMB_COUNTOF(kinds); k++) {
        const cmb_xen_fault fault = {.op = CMB_XEN_OP_ANY, .kind = kinds[k], .first = 1};
        bed b;
        cmb_queue *q;
        cmb_request r[MANY];
        cmb_completion c[MANY];
        unsigned failed = 0;
        with_fault(&b, &fault);
        b.take.ring_order = 0;
        bed_open(&b);
        assert_ok(cmb_queue_open(b.dev, 64, &q));
        io_test_fill(m, MANY * BLOCK, k);
        for (unsigned i = 0; i < MANY; i++)
            r[i] = (cmb_request){.op = CMB_OP_WRITE, .offset = i * BLOCK, .length = BLOCK, .buffer = m + i * BLOCK};
        assert_int_equal(b.dev->ops->submit(q, r, MANY), MANY);
        if (kinds[k] == CMB_XEN_FAULT_DIE) {
            cmb_xen_back_kill(b.back);
            b.offer.fault_count = 0;
            assert_ok(cmb_xen_back_restart(b.back, &b.offer));
        }
        for (unsigned n = 0; n < MANY;) {
            int got = b.dev->ops->reap(q, c, MANY, 1);
            for (int i = 0; i < got; i++)
                failed += c[i].result == CMB_EIO;
            n += (unsigned)got;
        }
        if (kinds[k] == CMB_XEN_FAULT_DIE) {
            assert_int_equal(failed, 0);
            assert_holds(b.queue, 0, m, MANY * BLOCK);
        } else {
            assert_true(failed >= MANY - 32);
        }
        cmb_queue_close(q);
        bed_close(&b);
    }
}

static void write_back_node(bed *b, const char *node, const char *value)
{
    char path[128];
    cmb_xen_end *toolstack;
    assert_ok(cmb_xen_end_open(b->hub, 0, &toolstack));
    cmb_xen_platform *p = cmb_xen_end_platform(toolstack);
    snprintf(path, sizeof path, "backend/vbd/1/51712/%s", node);
    assert_ok(p->ops->write(p, CMB_XEN_NO_TX, path, value));
    p->ops->close(p);
}

/* As when the toolstack does not wait for the front end: nothing more is answered. */
static void a_device_that_is_torn_out_is_an_error_at_once(void **state)
{
    bed b;
    cmb_request r = {.op = CMB_OP_WRITE, .length = BLOCK, .buffer = memory(BLOCK)};
    cmb_completion c;
    bed_init(&b, BED_SIZE);
    bed_open(&b);
    cmb_xen_back_kill(b.back);
    assert_int_equal(b.dev->ops->submit(b.queue, &r, 1), 1);
    write_back_node(&b, "online", "0");
    write_back_node(&b, "state", "6");
    assert_int_equal(b.dev->ops->reap(b.queue, &c, 1, 1), 1);
    assert_int_equal(c.result, CMB_EIO);
    assert_error(b.dev->ops->submit(b.queue, &r, 1), CMB_EIO);
    assert_detail_has("unplugged");
    bed_close(&b);
}

static void a_back_end_that_does_not_come_back_is_an_error_after_a_while(void **state)
{
    bed b;
    bed_init(&b, BED_SIZE);
    b.take.timeout = 2000u * 1000 * 1000;
    bed_open(&b);
    cmb_request r = {.op = CMB_OP_WRITE, .length = BLOCK, .buffer = memory(BLOCK), .user = &r};
    cmb_completion c;
    cmb_xen_back_kill(b.back);
    cmb_xen_end *toolstack; /* which sees that the domain is gone, and cleans up */
    assert_ok(cmb_xen_end_open(b.hub, 0, &toolstack));
    cmb_xen_platform *p = cmb_xen_end_platform(toolstack);
    assert_int_equal(b.dev->ops->submit(b.queue, &r, 1), 1);
    assert_ok(p->ops->remove(p, CMB_XEN_NO_TX, "backend/vbd/1/51712"));
    assert_int_equal(b.dev->ops->reap(b.queue, &c, 1, 1), 1);
    assert_int_equal(c.result, CMB_EIO);
    assert_error(b.dev->ops->submit(b.queue, &r, 1), CMB_EIO);
    assert_detail_has("none came in its place");
    p->ops->close(p);
    bed_close(&b);
}

static void a_device_that_is_unplugged_finishes_what_it_took(void **state)
{
    bed b;
    uint8_t *m = memory(BED_SIZE);
    bed_init(&b, BED_SIZE);
    bed_open(&b);
    io_test_fill(m, BED_SIZE, 9);
    cmb_request r = {.op = CMB_OP_WRITE, .length = BED_SIZE, .buffer = m, .user = &r};
    cmb_completion c;
    assert_int_equal(b.dev->ops->submit(b.queue, &r, 1), 1);
    assert_ok(cmb_xen_back_unplug(b.back));
    assert_int_equal(b.dev->ops->reap(b.queue, &c, 1, 1), 1);
    assert_int_equal(c.result, 0);
    assert_error(b.dev->ops->submit(b.queue, &r, 1), CMB_EIO);
    assert_detail_has("unplugged");
    cmb_queue *q;
    assert_ok(cmb_queue_open(b.disk, 1, &q));
    assert_holds(q, 0, m, BED_SIZE);
    cmb_queue_close(q);
    bed_close(&b);
}

static void a_new_size_is_seen_while_connected(void **state)
{
    bed b;
    bed_init(&b, BED_SIZE);
    b.offer.size = BED_SIZE / 2;
    bed_open(&b);
    assert_int_equal(caps_of(&b).size, BED_SIZE / 2);
    assert_error(cmb_io_write(b.queue, BED_SIZE / 2, memory(BLOCK), BLOCK), CMB_EINVAL);
    assert_ok(cmb_xen_back_resize(b.back, BED_SIZE));
    assert_int_equal(caps_of(&b).size, BED_SIZE);
    assert_ok(cmb_io_write(b.queue, BED_SIZE / 2, memory(BLOCK), BLOCK));
    assert_ok(cmb_xen_back_resize(b.back, BED_SIZE / 4));
    assert_error(cmb_io_write(b.queue, BED_SIZE / 2, memory(BLOCK), BLOCK), CMB_EINVAL);
    assert_int_equal(caps_of(&b).generation, 1);
    bed_close(&b);
}

/* ---- memory ---- */

static void numbers_that_cannot_be_are_refused_when_they_come(void **state)
{
    bed b;
    bed_init(&b, BED_SIZE);
    bed_open(&b);
    write_back_node(&b, "sectors", "99999999999999999999");
    assert_int_equal(caps_of(&b).size, BED_SIZE);
    write_back_node(&b, "sectors", "18446744073709551000");
    assert_int_equal(caps_of(&b).size, BED_SIZE);
    write_back_node(&b, "sectors", "");
    assert_int_equal(caps_of(&b).size, BED_SIZE);
    write_back_node(&b, "sectors", "8");
    assert_int_equal(caps_of(&b).size, BLOCK);
    assert_int_equal(caps_of(&b).generation, 1);
    bed_close(&b);
}

static void no_grants_left_makes_requests_smaller_not_wrong(void **state)
{
    uint8_t *m = memory(BED_SIZE);
    for (unsigned shared_only = 0; shared_only < 2; shared_only++) {
        bed b;
        bed_init(&b, BED_SIZE);
        b.hub_options.grants = 8 + 2 + 40; /* the reserved ones, the ring, and fewer than a request wants */
        b.hub_options.shared_only = shared_only;
        b.take.persistent = shared_only;
        b.take.pool_pages = 33;
        bed_open(&b);
        io_test_fill(m, BED_SIZE, 12);
        assert_ok(cmb_io_write(b.queue, 0, m, BED_SIZE));
        assert_holds(b.queue, 0, m, BED_SIZE);
        bed_close(&b);
    }
}

static void without_memory_to_share_a_device_does_not_open(void **state)
{
    bed b;
    bed_init(&b, BED_SIZE);
    b.hub_options.grants = 8 + 2;
    bed_serve(&b);
    assert_error(bed_connect(&b, BED_VDEV, NULL), CMB_ENOMEM);
    assert_detail_has("all 10 grants are out");
    cmb_xen_back_free(b.back);
    assert_int_equal(cmb_xen_hub_grants(b.hub), 0);
    cmb_xen_hub_free(b.hub);
    cmb_device_close(b.disk);
}

static int use(bed *b, const cmb_device_options *options)
{
    int error = bed_connect(b, BED_VDEV, options);
    if (error)
        return error;
    error = cmb_queue_open(b->dev, 4, &b->queue);
    if (!error)
        error = cmb_io_write(b->queue, 0, memory(16 * BLOCK) + 8, 15 * BLOCK);
    cmb_queue_close(b->queue);
    cmb_device_close(b->dev);
    b->queue = NULL;
    return error;
}

static void every_allocation_may_fail(void **state)
{
    bed b;
    bed_init(&b, BED_SIZE);
    bed_serve(&b);
    for (uint64_t k = 0;; k++) {
        io_test_allocator t;
        io_test_allocator_init(&t, k);
        int error = use(&b, &(cmb_device_options){.alloc = t.alloc});
        assert_int_equal(t.out, 0);
        assert_int_equal(t.bytes, 0);
        assert_int_equal(cmb_xen_hub_grants(b.hub), 0);
        assert_int_equal(cmb_xen_hub_ports(b.hub), 0);
        if (t.calls <= k) {
            assert_ok(error);
            break;
        }
        assert_true(error == 0 || error == CMB_ENOMEM); /* a smaller pool will do */
        assert_true(k < 100);
    }
    cmb_xen_back_free(b.back);
    cmb_xen_hub_free(b.hub);
    cmb_device_close(b.disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flush_that_is_not_supported_after_all_becomes_a_barrier),
        cmocka_unit_test(a_flush_that_nothing_replaces_says_that_nothing_is_durable),
        cmocka_unit_test(two_flushes_that_nothing_replaces_both_say_so),
        cmocka_unit_test(a_read_or_write_that_is_not_supported_is_an_error),
        cmocka_unit_test(a_discard_that_is_not_supported_after_all_is_left_out),
        cmocka_unit_test(a_secure_discard_that_is_not_done_is_an_error),
        cmocka_unit_test(a_secure_discard_that_is_not_offered_is_refused_at_open),
        cmocka_unit_test(requests_go_on_in_small_pieces_without_indirect_segments),
        cmocka_unit_test(an_error_is_told_to_the_caller_whose_request_it_was),
        cmocka_unit_test(a_part_that_fails_fails_the_request_once),
        cmocka_unit_test(a_status_that_there_is_not_is_an_error_of_its_request),
        cmocka_unit_test(the_error_is_of_one_request_though_the_disk_was_asked_for_two_at_once),
        cmocka_unit_test(a_request_in_many_parts_is_one_to_the_disk),
        cmocka_unit_test(late_answers_come_late_and_all_the_same),
        cmocka_unit_test(an_answer_to_no_request_ends_the_connection),
        cmocka_unit_test(a_second_answer_ends_the_connection),
        cmocka_unit_test(an_index_that_runs_ahead_ends_the_connection),
        cmocka_unit_test(memory_that_is_not_given_back_is_an_error_and_the_end),
        cmocka_unit_test(what_a_dead_back_end_left_undone_is_done_by_the_next),
        cmocka_unit_test(a_flush_after_a_restart_does_not_cover_what_was_answered_before),
        cmocka_unit_test(a_back_end_that_goes_on_with_the_rings_of_the_one_before_is_another_connection),
        cmocka_unit_test(requests_that_wait_for_the_ring_share_the_fate_of_those_in_it),
        cmocka_unit_test(a_device_that_is_torn_out_is_an_error_at_once),
        cmocka_unit_test(a_back_end_that_does_not_come_back_is_an_error_after_a_while),
        cmocka_unit_test(a_device_that_is_unplugged_finishes_what_it_took),
        cmocka_unit_test(a_new_size_is_seen_while_connected),
        cmocka_unit_test(numbers_that_cannot_be_are_refused_when_they_come),
        cmocka_unit_test(no_grants_left_makes_requests_smaller_not_wrong),
        cmocka_unit_test(without_memory_to_share_a_device_does_not_open),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests_name("faults", tests, NULL, NULL);
}
