/* SPDX-License-Identifier: ISC */
#include "io_test.h"

#define SIZE (1u << 20)

typedef struct rig {
    cmb_device *mem, *dev;
    cmb_queue *q;      /* through the layer */
    cmb_queue *honest; /* past it */
    uint8_t block[65536], seen[65536];
} rig;

static rig *rig_open(const cmb_fault_rule *rules, size_t n, uint64_t seed)
{
    rig *r = calloc(1, sizeof *r);
    assert_ok(cmb_device_mem(SIZE, NULL, &r->mem));
    assert_ok(cmb_device_fault(r->mem, rules, n, seed, &r->dev));
    assert_ok(cmb_queue_open(r->dev, 16, &r->q));
    assert_ok(cmb_queue_open(r->mem, 1, &r->honest));
    io_test_fill(r->block, sizeof r->block, 1);
    return r;
}

static void rig_close(rig *r)
{
    cmb_queue_close(r->q);
    cmb_queue_close(r->honest);
    cmb_device_close(r->dev);
    free(r);
}

static void without_rules_everything_goes_through(void **state)
{
    rig *r = rig_open(NULL, 0, 0);
    assert_ok(cmb_io_write(r->q, 4096, r->block, 65536));
    assert_ok(cmb_io_flush(r->q));
    assert_ok(cmb_io_read(r->q, 4096, r->seen, 65536, 0));
    assert_memory_equal(r->seen, r->block, 65536);
    rig_close(r);
}

static void a_rule_counts_only_what_it_matches(void **state)
{
    const cmb_fault_rule rule = {.op = CMB_OP_WRITE, .kind = CMB_FAULT_EIO, .first = 2, .every = 3, .times = 2};
    rig *r = rig_open(&rule, 1, 0);
    for (int i = 0; i < 12; i++) {
        assert_ok(cmb_io_read(r->q, 0, r->seen, 512, 0));
        assert_int_equal(cmb_io_write(r->q, 0, r->block, 512), i == 2 || i == 5 ? CMB_EIO : 0);
    }
    rig_close(r);
}

static void a_rule_without_every_fires_once(void **state)
{
    const cmb_fault_rule rule = {.kind = CMB_FAULT_ENOSPC, .first = 1};
    rig *r = rig_open(&rule, 1, 0);
    for (int i = 0; i < 5; i++)
        assert_int_equal(cmb_io_write(r->q, 0, r->block, 512), i == 1 ? CMB_ENOSPC : 0);
    rig_close(r);
}

static void a_range_is_matched_by_what_touches_it(void **state)
{
    const cmb_fault_rule rule = {.kind = CMB_FAULT_EIO, .every = 1, .offset_min = 8192, .offset_max = 12288};
    rig *r = rig_open(&rule, 1, 0);
    assert_ok(cmb_io_read(r->q, 0, r->seen, 8192, 0));
    assert_error(cmb_io_read(r->q, 0, r->seen, 8192 + 512, 0), CMB_EIO);
    assert_error(cmb_io_read(r->q, 12288 - 512, r->seen, 512, 0), CMB_EIO);
    assert_ok(cmb_io_read(r->q, 12288, r->seen, 512, 0));
    assert_ok(cmb_io_flush(r->q));
    rig_close(r);
}

static void a_failed_write_changes_nothing(void **state)
{
    const cmb_fault_rule rule = {.op = CMB_OP_WRITE, .kind = CMB_FAULT_EIO, .every = 1};
    rig *r = rig_open(&rule, 1, 0);
    static const uint8_t zeros[4096];
    assert_error(cmb_io_write(r->q, 0, r->block, 4096), CMB_EIO);
    assert_ok(cmb_io_read(r->honest, 0, r->seen, 4096, 0));
    assert_memory_equal(r->seen, zeros, 4096);
    rig_close(r);
}

static void a_dropped_write_succeeds_and_changes_nothing(void **state)
{
    const cmb_fault_rule rule = {.kind = CMB_FAULT_DROP, .every = 1};
    rig *r = rig_open(&rule, 1, 0);
    static const uint8_t zeros[4096];
    assert_ok(cmb_io_write(r->q, 0, r->block, 4096));
    assert_ok(cmb_io_flush(r->q));
    assert_ok(cmb_io_write(r->honest, 8192, r->block, 4096));
    assert_ok(cmb_io_read(r->q, 0, r->seen, 4096, 0));
    assert_memory_equal(r->seen, zeros, 4096);
    assert_ok(cmb_io_read(r->q, 8192, r->seen, 4096, 0)); /* reads are never dropped */
    assert_memory_equal(r->seen, r->block, 4096);
    rig_close(r);
}

/* How many of the 128 sectors landed; each is either old or new as a whole. */
static unsigned tear_once(uint64_t seed, uint8_t landed[128])
{
    const cmb_fault_rule rule = {.kind = CMB_FAULT_TEAR, .first = 0};
    rig *r = rig_open(&rule, 1, seed);
    uint8_t old[512];
    unsigned n = 0;
    memset(r->seen, 0x33, sizeof r->seen);
    memset(old, 0x33, sizeof old);
    assert_ok(cmb_io_write(r->honest, 0, r->seen, 65536));
    assert_ok(cmb_io_write(r->q, 0, r->block, 65536));
    assert_ok(cmb_io_read(r->honest, 0, r->seen, 65536, 0));
    for (unsigned i = 0; i < 128; i++) {
        landed[i] = memcmp(r->seen + i * 512, r->block + i * 512, 512) == 0;
        assert_true(landed[i] || memcmp(r->seen + i * 512, old, 512) == 0);
        n += landed[i];
    }
    rig_close(r);
    return n;
}

static void a_torn_write_lands_in_part_and_the_seed_says_which(void **state)
{
    uint8_t a[128], b[128], c[128];
    unsigned n = tear_once(7, a);
    assert_in_range(n, 20, 108);
    assert_int_equal(tear_once(7, b), n);
    assert_memory_equal(a, b, sizeof a);
    tear_once(8, c);
    assert_memory_not_equal(a, c, sizeof a);
}

static void after_a_stop_everything_fails_on_every_queue(void **state)
{
    const cmb_fault_rule rule = {.op = CMB_OP_WRITE, .kind = CMB_FAULT_STOP, .first = 1};
    rig *r = rig_open(&rule, 1, 0);
    cmb_queue *other;
    assert_ok(cmb_queue_open(r->dev, 1, &other));
    assert_ok(cmb_io_write(r->q, 0, r->block, 512));
    assert_error(cmb_io_write(r->q, 512, r->block, 512), CMB_EIO);
    assert_error(cmb_io_read(r->q, 0, r->seen, 512, 0), CMB_EIO);
    assert_error(cmb_io_flush(other), CMB_EIO);
    assert_error(cmb_io_discard(other, 0, 512), CMB_EIO);
    assert_ok(cmb_io_read(r->honest, 0, r->seen, 512, 0));
    assert_memory_equal(r->seen, r->block, 512);
    cmb_queue_close(other);
    rig_close(r);
}

static void submit_reads(rig *r, uintptr_t first, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        cmb_request q = {.op = CMB_OP_READ, .length = 512, .buffer = r->seen, .user = (void *)(first + i)};
        assert_int_equal(r->dev->ops->submit(r->q, &q, 1), 1);
    }
}

static void a_delayed_completion_comes_after_so_many_others(void **state)
{
    const cmb_fault_rule rule = {.kind = CMB_FAULT_DELAY, .first = 0, .count = 3};
    const uintptr_t expected[] = {2, 3, 4, 1, 5, 6};
    rig *r = rig_open(&rule, 1, 0);
    cmb_completion done[6];
    submit_reads(r, 1, 6);
    assert_int_equal(r->dev->ops->reap(r->q, done, 6, 6), 6);
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal((uintptr_t)done[i].user, expected[i]);
    rig_close(r);
}

static void a_delayed_completion_comes_when_nothing_else_is_in_flight(void **state)
{
    const cmb_fault_rule rule = {.kind = CMB_FAULT_DELAY, .every = 1, .count = 1000};
    rig *r = rig_open(&rule, 1, 0);
    cmb_completion done[4];
    submit_reads(r, 1, 3);
    assert_int_equal(r->dev->ops->reap(r->q, done, 4, 1), 3);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal((uintptr_t)done[i].user, i + 1);
    assert_int_equal(r->dev->ops->reap(r->q, done, 4, 1), 0);
    assert_ok(cmb_io_write(r->q, 0, r->block, 65536));
    assert_ok(cmb_io_flush(r->q));
    rig_close(r);
}

static void a_full_queue_counts_what_is_held_back(void **state)
{
    const cmb_fault_rule rule = {.kind = CMB_FAULT_DELAY, .every = 1, .count = 5};
    rig *r = rig_open(&rule, 1, 0);
    cmb_completion done[16];
    cmb_request one = {.op = CMB_OP_READ, .length = 512, .buffer = r->seen};
    submit_reads(r, 0, 16);
    assert_int_equal(r->dev->ops->submit(r->q, &one, 1), 0);
    assert_true(r->dev->ops->reap(r->q, done, 1, 1) == 1);
    assert_int_equal(r->dev->ops->submit(r->q, &one, 1), 1);
    assert_int_equal(r->dev->ops->reap(r->q, done, 16, 16), 16);
    rig_close(r);
}

static void the_first_rule_that_fires_decides_and_all_count(void **state)
{
    const cmb_fault_rule rules[] = {{.kind = CMB_FAULT_ENOSPC, .first = 1}, {.kind = CMB_FAULT_EIO, .first = 1},
                                    {.kind = CMB_FAULT_EIO, .first = 2}};
    const int expected[] = {0, CMB_ENOSPC, CMB_EIO, 0};
    rig *r = rig_open(rules, CMB_COUNTOF(rules), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(cmb_io_write(r->q, 0, r->block, 512), expected[i]);
    rig_close(r);
}

static void refused_requests_are_not_counted(void **state)
{
    const cmb_fault_rule rule = {.kind = CMB_FAULT_EIO, .first = 1};
    rig *r = rig_open(&rule, 1, 0);
    assert_ok(cmb_io_read(r->q, 0, r->seen, 512, 0));
    assert_error(cmb_io_read(r->q, SIZE, r->seen, 512, 0), CMB_EINVAL);
    assert_error(cmb_io_read(r->q, 0, r->seen, 512, 0), CMB_EIO);
    rig_close(r);
}

static void rules_that_make_no_sense_are_refused(void **state)
{
    const cmb_fault_rule wrong[] = {
        {.kind = (cmb_fault_kind)0},
        {.kind = (cmb_fault_kind)77},
        {.kind = CMB_FAULT_EIO, .op = (cmb_op)9},
        {.kind = CMB_FAULT_TEAR, .op = CMB_OP_READ},
        {.kind = CMB_FAULT_DROP, .op = CMB_OP_READ},
        {.kind = CMB_FAULT_EIO, .offset_min = 2, .offset_max = 1},
    };
    cmb_device *mem, *dev;
    assert_ok(cmb_device_mem(4096, NULL, &mem));
    for (size_t i = 0; i < CMB_COUNTOF(wrong); i++) {
        assert_error(cmb_device_fault(mem, &wrong[i], 1, 0, &dev), CMB_EINVAL);
        assert_detail_has("rule 0");
    }
    assert_error(cmb_device_fault(NULL, NULL, 0, 0, &dev), CMB_EINVAL);
    assert_error(cmb_device_fault(mem, NULL, 1, 0, &dev), CMB_EINVAL);
    cmb_device_close(mem);
}

typedef struct worker {
    cmb_device *dev;
    unsigned failed, other;
} worker;

static void work(void *arg)
{
    worker *w = arg;
    cmb_queue *q;
    uint8_t block[512];
    if (cmb_queue_open(w->dev, 1, &q))
        return;
    for (int i = 0; i < 600; i++) {
        int error = cmb_io_read(q, 0, block, sizeof block, 0);
        w->failed += error == CMB_EIO;
        w->other += error && error != CMB_EIO;
    }
    cmb_queue_close(q);
}

static void threads_share_the_counts_of_a_rule(void **state)
{
    const cmb_fault_rule rule = {.kind = CMB_FAULT_EIO, .every = 10};
    rig *r = rig_open(&rule, 1, 0);
    worker workers[3] = {{r->dev}, {r->dev}, {r->dev}};
    cmb_thread threads[3];
    for (int i = 0; i < 3; i++)
        assert_ok(cmb_thread_start(&threads[i], work, &workers[i]));
    for (int i = 0; i < 3; i++)
        cmb_thread_join(&threads[i]);
    assert_int_equal(workers[0].failed + workers[1].failed + workers[2].failed, 180);
    assert_int_equal(workers[0].other + workers[1].other + workers[2].other, 0);
    rig_close(r);
}

static void faults_stack_on_a_ring_as_well(void **state)
{
    const cmb_fault_rule rules[] = {{.op = CMB_OP_READ, .kind = CMB_FAULT_DELAY, .every = 2, .count = 2},
                                    {.op = CMB_OP_WRITE, .kind = CMB_FAULT_TEAR, .first = 1}};
    enum { N = 1 << 20 };
    cmb_allocator libc = cmb_allocator_or_default(NULL);
    uint8_t *data = cmb_io_buffer(&libc, N), *seen = cmb_io_buffer(&libc, N);
    char name[600];
    cmb_device *file, *dev;
    cmb_queue *q;
#ifdef CMB_HAVE_URING
    snprintf(name, sizeof name, "%s?io=uring", io_test_path("ring"));
#else
    snprintf(name, sizeof name, "%s", io_test_path("ring"));
#endif
    assert_ok(cmb_device_open(name, CMB_OPEN_CREATE, NULL, &file));
    assert_ok(cmb_device_fault(file, rules, CMB_COUNTOF(rules), 3, &dev));
    assert_ok(dev->ops->grow(dev, N));
    assert_ok(cmb_queue_open(dev, 32, &q));
    io_test_fill(data, N, 1);
    assert_ok(cmb_io_write(q, 0, data, N));
    cmb_request r[64];
    for (unsigned i = 0; i < 64; i++)
        r[i] = (cmb_request){
            .op = CMB_OP_READ, .offset = i * (N / 64), .length = N / 64, .buffer = seen + i * (N / 64)};
    assert_ok(cmb_io_many(q, r, 64));
    assert_memory_equal(seen, data, N);
    io_test_fill(seen, N, 2);
    assert_ok(cmb_io_write(q, 0, seen, N));
    assert_ok(cmb_io_read(q, 0, seen, N, 0));
    assert_memory_not_equal(seen, data, N);
    cmb_queue_close(q);
    cmb_device_close(dev);
    cmb_io_buffer_release(&libc, data, N);
    cmb_io_buffer_release(&libc, seen, N);
    io_test_clean();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_rules_everything_goes_through),
        cmocka_unit_test(a_rule_counts_only_what_it_matches),
        cmocka_unit_test(a_rule_without_every_fires_once),
        cmocka_unit_test(a_range_is_matched_by_what_touches_it),
        cmocka_unit_test(a_failed_write_changes_nothing),
        cmocka_unit_test(a_dropped_write_succeeds_and_changes_nothing),
        cmocka_unit_test(a_torn_write_lands_in_part_and_the_seed_says_which),
        cmocka_unit_test(after_a_stop_everything_fails_on_every_queue),
        cmocka_unit_test(a_delayed_completion_comes_after_so_many_others),
        cmocka_unit_test(a_delayed_completion_comes_when_nothing_else_is_in_flight),
        cmocka_unit_test(a_full_queue_counts_what_is_held_back),
        cmocka_unit_test(the_first_rule_that_fires_decides_and_all_count),
        cmocka_unit_test(refused_requests_are_not_counted),
        cmocka_unit_test(rules_that_make_no_sense_are_refused),
        cmocka_unit_test(threads_share_the_counts_of_a_rule),
        cmocka_unit_test(faults_stack_on_a_ring_as_well),
    };
    return cmocka_run_group_tests_name("fault", tests, NULL, NULL);
}
