/* SPDX-License-Identifier: ISC */
/* scrub.h: everything is verified in turn, no faster than was asked for; what is damaged is told once a pass. */
#include "damage.h"

#include <cambium/scrub.h>

#define MANY 10000u /* steps that no pass of these images needs */

typedef struct told {
    char lines[4096];
    size_t used;
    unsigned count;
    bool stop;
} told;

static int on_finding(void *ctx, const cmb_finding *f)
{
    told *t = ctx;
    t->used += (size_t)snprintf(t->lines + t->used, sizeof t->lines - t->used, "%s|%llu\n", f->code, (unsigned long long)f->addr);
    t->count++;
    return t->stop;
}

/* Steps until the pass ends; how many they were. */
static unsigned pass(cmb_scrub *scrub)
{
    cmb_scrub_status status;
    uint64_t wait;
    unsigned steps = 0;
    cmb_scrub_get_status(scrub, &status);
    uint64_t passes = status.position.passes;
    while (status.position.passes == passes) {
        must(cmb_scrub_step(scrub, &wait));
        cmb_scrub_get_status(scrub, &status);
        assert_true(++steps < MANY);
    }
    return steps;
}

static void a_whole_image_passes_again_and_again(void **state)
{
    bed b;
    told t = {0};
    cmb_scrub *scrub;
    cmb_scrub_status first, second;
    (void)state;
    make_history(&b);
    must(cmb_scrub_open(b.store, &(cmb_scrub_options){.on_finding = on_finding, .ctx = &t}, &scrub));
    assert_true(pass(scrub) > 3);
    cmb_scrub_get_status(scrub, &first);
    assert_true(first.bytes > LARGE);
    pass(scrub);
    cmb_scrub_get_status(scrub, &second);
    assert_int_equal(second.bytes, 2 * first.bytes);
    assert_int_equal(second.position.passes, 2);
    assert_int_equal(second.findings, 0);
    cmb_scrub_close(scrub);
    bed_close(&b);
}

static void damage_is_told_once_in_every_pass_and_the_rest_goes_on(void **state)
{
    bed b;
    told t = {0};
    cmb_scrub *scrub;
    cmb_resolved rev;
    (void)state;
    make_history(&b);
    must(cmb_rev_resolve(b.store, "v1", &rev));
    must(cmb_scrub_open(b.store, &(cmb_scrub_options){.on_finding = on_finding, .ctx = &t}, &scrub));
    pass(scrub);
    assert_int_equal(t.count, 0);
    damage_record(&b, rev.state.commit.addr, rev.state.commit.length, 40);
    pass(scrub);
    assert_int_equal(t.count, 1);
    assert_true(strncmp(t.lines, "frame-damaged|", 14) == 0);
    pass(scrub);
    assert_int_equal(t.count, 2);
    cmb_scrub_close(scrub);
    bed_close(&b);
}

static void a_scrub_that_was_stopped_goes_on_behind_the_finding(void **state)
{
    bed b;
    told t = {.stop = true};
    cmb_scrub *scrub;
    cmb_resolved rev;
    cmb_scrub_status status = {0};
    unsigned stopped = 0;
    (void)state;
    make_history(&b);
    must(cmb_rev_resolve(b.store, "v1", &rev));
    damage_record(&b, rev.state.commit.addr, rev.state.commit.length, 40);
    must(cmb_scrub_open(b.store, &(cmb_scrub_options){.on_finding = on_finding, .ctx = &t}, &scrub));
    for (unsigned steps = 0; status.position.passes == 0; steps++) {
        uint64_t wait;
        int error = cmb_scrub_step(scrub, &wait);
        stopped += error == CMB_ESTOPPED;
        assert_true(error == 0 || error == CMB_ESTOPPED);
        cmb_scrub_get_status(scrub, &status);
        assert_true(steps < MANY);
    }
    assert_int_equal(stopped, 1);
    assert_int_equal(t.count, 1);
    cmb_scrub_close(scrub);
    bed_close(&b);
}

static void the_rate_is_kept_by_the_stores_clock(void **state)
{
    enum { RATE = 1000000 };
    bed b;
    cmb_scrub *scrub;
    cmb_scrub_status status = {0};
    uint64_t waited = 0;
    (void)state;
    make_history(&b);
    int64_t before = b.env.now;
    must(cmb_scrub_open(b.store, &(cmb_scrub_options){.bytes_per_second = RATE}, &scrub));
    while (status.position.passes == 0) {
        uint64_t wait;
        must(cmb_scrub_step(scrub, &wait));
        waited += wait;
        b.env.now += (int64_t)wait;
        cmb_scrub_get_status(scrub, &status);
    }
    double seconds = (double)(b.env.now - before) / 1e6, due = (double)status.bytes / RATE;
    assert_true(waited > 0);
    assert_true(seconds > due * 0.95 - 1.5 && seconds < due * 1.1 + 20);
    cmb_scrub_close(scrub);
    bed_close(&b);
}

static void a_pass_goes_on_where_an_earlier_scrub_was(void **state)
{
    bed b;
    cmb_scrub *scrub;
    cmb_scrub_status whole, half, rest;
    uint64_t wait;
    (void)state;
    make_history(&b);
    must(cmb_scrub_open(b.store, &(cmb_scrub_options){0}, &scrub));
    unsigned steps = pass(scrub);
    cmb_scrub_get_status(scrub, &whole);
    for (unsigned i = 0; i < steps - 2; i++)
        must(cmb_scrub_step(scrub, &wait));
    cmb_scrub_get_status(scrub, &half);
    cmb_scrub_close(scrub);
    must(cmb_scrub_open(b.store, &(cmb_scrub_options){.start = half.position}, &scrub));
    pass(scrub);
    cmb_scrub_get_status(scrub, &rest);
    assert_int_equal(rest.position.passes, half.position.passes + 1);
    assert_true(rest.bytes <= whole.bytes);
    cmb_scrub_close(scrub);
    bed_close(&b);
}

static void it_works_beside_commits(void **state)
{
    bed b;
    told t = {0};
    cmb_scrub *scrub;
    uint64_t wait;
    (void)state;
    make_history(&b);
    must(cmb_scrub_open(b.store, &(cmb_scrub_options){.on_finding = on_finding, .ctx = &t}, &scrub));
    for (unsigned i = 0; i < 60; i++) {
        char room[16];
        must(cmb_scrub_step(scrub, &wait));
        put(b.store, "main", number_key(room, i).data, "beside", i % 3 ? NULL : "a commit");
        if (i % 7 == 0)
            must(cmb_store_checkpoint(b.store));
    }
    assert_int_equal(t.count, 0);
    cmb_scrub_close(scrub);
    bed_close(&b);
}

/* A working commit of one of two keys, which is only logged. */
static void log_edit(bed *b, unsigned i)
{
    char room[16];
    cmb_txn *txn;
    must(cmb_txn_begin(b->store, "main", 0, &txn));
    must(cmb_txn_put(txn, number_key(room, i % 2), str("edited")));
    must(cmb_txn_commit(txn, NULL, NULL));
}

static void after_a_true_finding_a_reader_does_not_take_what_was_used_anew_for_damage(void **state)
{
    bed b = {0};
    told t = {0};
    cmb_scrub *scrub;
    cmb_resolved rev;
    uint64_t wait;
    int error = 0;
    (void)state;
    bed_open_with(&b, 32 << 20, NULL);
    put(b.store, "main", "key", "value", "a commit");
    must(cmb_rev_resolve(b.store, "main", &rev));
    for (unsigned i = 0; i < 1500; i++)
        log_edit(&b, i);
    bed reader = b;
    reader.options.read_only = true;
    must(cmb_store_open_device(b.dev, &reader.options, &reader.store));
    damage_record(&b, rev.state.commit.addr, rev.state.commit.length, 40);
    must(cmb_scrub_open(reader.store, &(cmb_scrub_options){.on_finding = on_finding, .ctx = &t}, &scrub));
    for (unsigned i = 0; i < MANY && !t.count; i++)
        must(cmb_scrub_step(scrub, &wait));
    assert_int_equal(t.count, 1);
    for (unsigned i = 0; i < 8000; i++) {
        log_edit(&b, i);
        if (i % 400 == 0)
            must(cmb_store_checkpoint(b.store));
    }
    for (unsigned i = 0; i < MANY && !error; i++)
        error = cmb_scrub_step(scrub, &wait);
    must_be(error, CMB_ESTALE);
    assert_int_equal(t.count, 1);
    cmb_scrub_close(scrub);
    must(cmb_store_close(reader.store));
    bed_close(&b);
}

/* ---- what a step costs ---- */

static unsigned allocations;

static void *count_alloc(void *ctx, size_t size)
{
    (void)ctx;
    allocations++;
    return malloc(size);
}

static void *count_resize(void *ctx, void *ptr, size_t old_size, size_t new_size)
{
    (void)ctx;
    (void)old_size;
    return realloc(ptr, new_size);
}

static void count_release(void *ctx, void *ptr, size_t size)
{
    (void)ctx;
    (void)size;
    free(ptr);
}

/* What has to be made for looking at all segments grows with the image: once at a pass's start, and not at every step. */
static void a_step_within_a_pass_costs_the_same_however_large_the_image_is(void **state)
{
    bed b = {.options = {.alloc = {.alloc = count_alloc, .resize = count_resize, .release = count_release}}};
    cmb_scrub *scrub;
    cmb_scrub_status status = {0};
    cmb_txn *txn;
    uint64_t wait;
    unsigned steps = 0;
    static uint8_t large[LARGE];
    cmb_commit_info info = {.message = "large"};
    (void)state;
    bed_open_with(&b, 0, NULL);
    must(cmb_txn_begin(b.store, "main", 0, &txn));
    must(cmb_txn_put(txn, str("large"), (cmb_bytes){large, sizeof large}));
    must(cmb_txn_commit(txn, &info, NULL));
    must(cmb_scrub_open(b.store, &(cmb_scrub_options){0}, &scrub));
    must(cmb_scrub_step(scrub, &wait));
    for (allocations = 0; status.position.passes == 0; steps++) {
        must(cmb_scrub_step(scrub, &wait));
        cmb_scrub_get_status(scrub, &status);
    }
    assert_true(steps > 2);
    assert_int_equal(allocations, 0);
    cmb_scrub_close(scrub);
    bed_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_image_passes_again_and_again),
        cmocka_unit_test(damage_is_told_once_in_every_pass_and_the_rest_goes_on),
        cmocka_unit_test(a_scrub_that_was_stopped_goes_on_behind_the_finding),
        cmocka_unit_test(the_rate_is_kept_by_the_stores_clock),
        cmocka_unit_test(a_pass_goes_on_where_an_earlier_scrub_was),
        cmocka_unit_test(it_works_beside_commits),
        cmocka_unit_test(after_a_true_finding_a_reader_does_not_take_what_was_used_anew_for_damage),
        cmocka_unit_test(a_step_within_a_pass_costs_the_same_however_large_the_image_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
