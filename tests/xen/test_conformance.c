/* SPDX-License-Identifier: ISC */
/* One script, the same bytes: memory, files, a loop device, virtual devices over all of these and with every mix of features. */
#include "bed.h"
#include "conformance.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZE ((uint64_t)4 << 20)

static uint64_t seed;
static cmb_name expected;

static void make_file(const char *path)
{
    int fd = open(path, O_CREAT | O_TRUNC | O_RDWR, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)SIZE), 0);
    close(fd);
}

/* The bytes of a file, past every device. */
static void assert_file_holds(const char *path, const cmb_name *sum)
{
    cmb_name found;
    uint8_t *bytes = malloc(SIZE);
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, bytes, SIZE, 0), SIZE);
    close(fd);
    cmb_hash_name(CMB_HASH_XXH3, bytes, SIZE, &found);
    free(bytes);
    assert_true(cmb_name_equal(&found, sum));
}

static void run_on(const char *name, const char *file)
{
    cmb_device *dev;
    conform_result r;
    const conform_options options = {.seed = seed, .size = SIZE, .steps = 16 * io_test_budget()};
    assert_ok(cmb_device_open(name, CMB_OPEN_CREATE_FORCE, &(cmb_device_options){.size = SIZE}, &dev));
    assert_ok(conform(dev, &options, &r));
    print_message("%s: %s\n", name, dev->ops->describe(dev));
    cmb_device_close(dev);
    if (!expected.size)
        expected = r.sum;
    assert_true(cmb_name_equal(&expected, &r.sum));
    if (file)
        assert_file_holds(file, &expected);
}

/* A name made of `format` with the path of a fresh file in it. */
static void run_on_file(const char *format)
{
    char name[700];
    make_file(io_test_path("device"));
    snprintf(name, sizeof name, format, io_test_path("device"));
    run_on(name, io_test_path("device"));
    io_test_clean();
}

static void memory_does_what_devices_do(void **state)
{
    run_on("mem:4M", NULL);
}

static void a_file_holds_the_same_bytes(void **state)
{
    run_on_file("%s?io=posix");
#ifdef CMB_HAVE_URING
    run_on_file("%s?io=uring");
#endif
}

static void a_raw_block_device_holds_the_same_bytes(void **state)
{
    io_test_loop loop;
    make_file(io_test_path("backing"));
    if (!io_test_loop_make(&loop, io_test_path("backing"))) {
        print_message("loop devices cannot be made here\n");
        io_test_clean();
        skip();
    }
    run_on(loop.path, NULL);
    io_test_loop_free(&loop);
    assert_file_holds(io_test_path("backing"), &expected);
    io_test_clean();
}

static void a_virtual_device_over_memory_holds_the_same_bytes(void **state)
{
    run_on("xen:xvda?loopback=mem:4M", NULL);
    run_on("xen:xvda?loopback=mem:4M&persistent=0", NULL);
}

static void a_virtual_device_over_a_file_holds_the_same_bytes(void **state)
{
    run_on_file("xen:xvdb?loopback=%s");
    run_on_file("xen:xvdb?loopback=%s&persistent=0&ring=0&segments=11");
#ifdef CMB_HAVE_URING
    run_on_file("xen:xvdb?loopback=%s%%3Fio=uring&queues=2&ring=3");
#endif
}

/* ---- every mix of features ---- */

typedef struct mix {
    unsigned order, queues, segments, durable, sector;
    bool persistent, discard, shared_only, skip_wait;
    uint64_t shuffle;
} mix;

/* The n-th mix; false after the last. */
static bool mix_at(unsigned n, mix *m)
{
    static const unsigned orders[] = {0, 2}, queues[] = {1, 3}, segments[] = {0, 40}, sectors[] = {512, 4096};
    m->order = orders[n % 2], n /= 2;
    m->queues = queues[n % 2], n /= 2;
    m->segments = segments[n % 2], n /= 2;
    m->sector = sectors[n % 2], n /= 2;
    m->persistent = n % 2, n /= 2;
    m->discard = n % 2, n /= 2;
    m->shared_only = n % 2, n /= 2;
    m->durable = n % 3, n /= 3;
    m->shuffle = n % 2 ? seed | 1 : 0, n /= 2;
    m->skip_wait = m->order == 0 && m->queues == 1 && m->segments == 0; /* then the defaults are all there is */
    return n == 0;
}

static void run_mix(const mix *m)
{
    bed b;
    conform_result r;
    bed_init(&b, BED_SIZE);
    b.hub_options.shared_only = m->shared_only;
    b.offer.ring_order = m->order;
    b.take.ring_order = 4;
    b.take.queues = 8;
    b.offer.queues = m->queues;
    b.offer.segments = m->segments;
    b.offer.sector_size = m->sector;
    b.offer.persistent = m->persistent;
    b.offer.discard = m->discard;
    b.offer.granularity = m->discard ? 3 * 4096 : 0;
    b.offer.alignment = m->discard ? 4096 : 0;
    b.offer.flush = m->durable == 1;
    b.offer.barrier = m->durable == 2;
    b.offer.shuffle = m->shuffle;
    b.offer.skip_wait = m->skip_wait;
    bed_open(&b);
    const conform_options options = {.seed = seed, .size = BED_SIZE, .steps = 4};
    int error = conform(b.dev, &options, &r);
    if (error)
        fail_msg("%s: %s", b.dev->ops->describe(b.dev), cmb_error_detail());
    assert_int_equal(r.flushed, m->durable != 0);
    cmb_caps caps;
    cmb_device_caps(b.dev, &caps);
    assert_int_equal(caps.max_transfer, (m->segments ? m->segments : 11) * 4096);
    assert_int_equal(caps.block_size, m->sector);
    assert_int_equal(!!(caps.flags & CMB_CAP_DISCARD), m->discard);
    static cmb_name first;
    if (!first.size)
        first = r.sum;
    assert_true(cmb_name_equal(&first, &r.sum));
    bed_close(&b);
}

static void every_mix_of_features_does_what_devices_do(void **state)
{
    /* A few, others every time; all of them with a budget of 8. */
    unsigned stride = io_test_budget() < 8 ? 32 / io_test_budget() : 1, n = (unsigned)(seed % stride), run = 0;
    for (mix m; mix_at(n, &m); n += stride, run++)
        run_mix(&m);
    print_message("%u mixes of features\n", run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_does_what_devices_do),
        cmocka_unit_test(a_file_holds_the_same_bytes),
        cmocka_unit_test(a_raw_block_device_holds_the_same_bytes),
        cmocka_unit_test(a_virtual_device_over_memory_holds_the_same_bytes),
        cmocka_unit_test(a_virtual_device_over_a_file_holds_the_same_bytes),
        cmocka_unit_test(every_mix_of_features_does_what_devices_do),
    };
    seed = io_test_seed();
    return cmocka_run_group_tests_name("conformance", tests, NULL, NULL);
}
