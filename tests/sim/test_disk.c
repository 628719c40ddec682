/* SPDX-License-Identifier: ISC */
/* The simulated disk itself: a harness that does not do what it says proves nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "io/io.h"
#include "tests/sim/trace.h"

#define SIZE (4u << 20)

static sim_disk *disk_of(bool cached)
{
    return sim_new(&(sim_options){.size = SIZE, .seed = 7, .cached = cached});
}

static int put(sim_disk *disk, uint64_t offset, uint8_t byte, uint64_t length)
{
    cmb_queue *q;
    uint8_t *data = malloc(length);
    memset(data, byte, length);
    assert_int_equal(cmb_queue_open(sim_device(disk), 1, &q), 0);
    int e = cmb_io_write(q, offset, data, length);
    cmb_queue_close(q);
    free(data);
    return e;
}

static int flush(sim_disk *disk)
{
    cmb_queue *q;
    assert_int_equal(cmb_queue_open(sim_device(disk), 1, &q), 0);
    int e = cmb_io_flush(q);
    cmb_queue_close(q);
    return e;
}

/* The byte that all of a sector consists of; -1: it cannot be read; -2: it is not of one byte. */
static int look(sim_disk *disk, uint64_t offset, uint32_t flags)
{
    cmb_queue *q;
    uint8_t data[SIM_SECTOR];
    assert_int_equal(cmb_queue_open(sim_device(disk), 1, &q), 0);
    int e = cmb_io_read(q, offset, data, sizeof data, flags);
    cmb_queue_close(q);
    if (e) {
        assert_int_equal(e, CMB_EIO);
        return -1;
    }
    for (unsigned i = 1; i < sizeof data; i++)
        if (data[i] != data[0])
            return -2;
    return data[0];
}

static int medium(const sim_disk *disk, uint64_t offset)
{
    uint8_t data[SIM_SECTOR];
    sim_peek(disk, offset, data, sizeof data);
    return data[0];
}

static void what_was_flushed_outlives_a_power_cut_and_the_rest_is_torn_by_sectors(void **state)
{
    (void)state;
    bool all_old = true, all_new = true;
    for (uint64_t seed = 0; seed < 16; seed++) {
        sim_disk *disk = disk_of(false);
        assert_int_equal(put(disk, 0, 1, 8192), 0);
        assert_int_equal(flush(disk), 0);
        assert_int_equal(put(disk, 0, 2, 4096), 0);
        assert_int_equal(look(disk, 512, 0), 2);
        assert_int_equal(sim_unflushed(disk), 1);
        sim_power_cut(disk, seed);
        for (uint64_t at = 0; at < 4096; at += 512) {
            int byte = look(disk, at, 0);
            assert_true(byte == 1 || byte == 2);
            all_old = all_old && byte == 1;
            all_new = all_new && byte == 2;
        }
        assert_int_equal(look(disk, 4096, 0), 1);
        sim_free(disk);
    }
    assert_false(all_old || all_new);
}

static void with_an_atom_of_4096_bytes_a_power_cut_tears_no_block(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 16; seed++) {
        sim_disk *disk = sim_new(&(sim_options){.size = SIZE, .atom = 4096, .seed = 1});
        assert_int_equal(put(disk, 0, 2, 16384), 0);
        sim_power_cut(disk, seed);
        for (uint64_t at = 0; at < 16384; at += 512)
            assert_int_equal(look(disk, at, 0), look(disk, at & ~UINT64_C(4095), 0));
        sim_free(disk);
    }
}

static void a_flush_covers_only_writes_that_were_reaped_before_it_was_submitted(void **state)
{
    (void)state;
    sim_disk *disk = disk_of(false);
    cmb_queue *a, *b;
    uint8_t block[4096];
    memset(block, 9, sizeof block);
    assert_int_equal(cmb_queue_open(sim_device(disk), 4, &a), 0);
    assert_int_equal(cmb_queue_open(sim_device(disk), 4, &b), 0);
    cmb_request write = {.op = CMB_OP_WRITE, .length = sizeof block, .buffer = block}, flushes = {.op = CMB_OP_FLUSH};
    cmb_completion done[2];
    assert_int_equal(a->dev->ops->submit(a, &flushes, 1), 1);
    assert_int_equal(b->dev->ops->submit(b, &write, 1), 1);
    assert_int_equal(b->dev->ops->reap(b, done, 1, 1), 1);
    assert_int_equal(a->dev->ops->reap(a, done, 1, 1), 1);
    assert_int_equal(medium(disk, 0), 0);
    assert_int_equal(cmb_io_flush(a), 0);
    assert_int_equal(medium(disk, 0), 9);
    cmb_queue_close(a);
    cmb_queue_close(b);
    sim_free(disk);
}

static void with_jitter_requests_overtake_each_other_and_without_it_none_does(void **state)
{
    (void)state;
    for (uint64_t jitter = 0; jitter <= 1000000; jitter += 1000000) {
        sim_disk *disk = sim_new(&(sim_options){.size = SIZE, .jitter = jitter, .seed = 3});
        cmb_queue *q;
        uint8_t blocks[16][512];
        cmb_completion done[16];
        unsigned overtaken = 0;
        assert_int_equal(cmb_queue_open(sim_device(disk), 16, &q), 0);
        for (unsigned i = 0; i < 16; i++) {
            cmb_request r = {.op = CMB_OP_READ, .offset = i * 512u, .length = 512, .buffer = blocks[i], .user = blocks[i]};
            assert_int_equal(q->dev->ops->submit(q, &r, 1), 1);
        }
        for (unsigned n = 0; n < 16;) /* who only looks gets there as well */
            n += (unsigned)q->dev->ops->reap(q, done + n, 16 - n, 0);
        for (unsigned i = 0; i < 16; i++)
            overtaken += done[i].user != blocks[i];
        assert_int_equal(overtaken != 0, jitter != 0);
        assert_true(sim_count(disk).nanoseconds > 0);
        cmb_queue_close(q);
        sim_free(disk);
    }
}

static void after_a_failed_flush_the_cache_holds_what_its_kind_says(void **state)
{
    (void)state;
    for (sim_slip kind = SIM_FLUSH_KEEPS_DIRTY; kind <= SIM_FLUSH_REVERTS; kind++) {
        sim_disk *disk = disk_of(false);
        unsigned shown = 0, landed = 0, kept = 0;
        assert_int_equal(put(disk, 0, 1, 64 * 512), 0);
        assert_int_equal(flush(disk), 0);
        assert_int_equal(put(disk, 0, 2, 64 * 512), 0);
        sim_slip_at(disk, &(sim_rule){.kind = kind});
        assert_int_equal(flush(disk), CMB_EIO);
        for (unsigned i = 0; i < 64; i++) {
            shown += look(disk, i * 512u, 0) == 2;
            landed += look(disk, i * 512u, CMB_IO_UNCACHED) == 2;
        }
        assert_int_equal(shown == 64, kind != SIM_FLUSH_REVERTS);
        assert_int_equal(landed == 64, kind == SIM_FLUSH_KEEPS_DIRTY);
        assert_int_equal(flush(disk), 0); /* "succeeds" */
        sim_power_cut(disk, 1);
        for (unsigned i = 0; i < 64; i++)
            kept += look(disk, i * 512u, 0) == 2;
        assert_int_equal(kept, landed);
        assert_true(kept > 0);
        sim_free(disk);
    }
}

static void damaged_places_say_so_until_they_are_written_again_and_the_medium_stays_pristine(void **state)
{
    (void)state;
    for (sim_place kind = SIM_LATENT; kind <= SIM_GARBAGE; kind++) {
        sim_disk *disk = disk_of(false);
        assert_int_equal(put(disk, 0, 5, 8192), 0);
        assert_int_equal(flush(disk), 0);
        sim_damage(disk, kind, 1024, 1536);
        assert_int_equal(look(disk, 512, 0), 5);
        for (uint64_t at = 1024; at < 2560; at += 512)
            assert_int_equal(look(disk, at, 0), kind == SIM_LATENT ? -1 : -2);
        assert_int_equal(look(disk, 2560, 0), 5);
        assert_int_equal(medium(disk, 1024), 5);
        assert_int_equal(put(disk, 1536, 6, 512), 0);
        assert_int_equal(look(disk, 1536, 0), 6); /* from the cache */
        assert_int_equal(flush(disk), 0);
        sim_drop_cache(disk);
        assert_int_equal(look(disk, 1024, 0), kind == SIM_LATENT ? -1 : -2);
        assert_int_equal(look(disk, 1536, 0), 6);
        assert_int_equal(look(disk, 2048, 0), kind == SIM_LATENT ? -1 : -2);
        sim_free(disk);
    }
}

static void operations_go_astray_or_end_early_by_rule(void **state)
{
    (void)state;
    sim_disk *disk = disk_of(true);
    assert_int_equal(put(disk, 0, 1, SIZE), 0);
    sim_slip_at(disk, &(sim_rule){.kind = SIM_STRAY_WRITE, .nth = 1, .distance = 8192});
    assert_int_equal(put(disk, 0, 2, 512), 0);
    assert_int_equal(put(disk, 4096, 3, 512), 0);
    assert_int_equal(look(disk, 0, 0), 2);
    assert_int_equal(look(disk, 4096, 0), 1);
    assert_int_equal(look(disk, 12288, 0), 3);
    sim_slip_at(disk, &(sim_rule){.kind = SIM_STRAY_READ, .distance = 12288});
    assert_int_equal(look(disk, 0, 0), 3);
    assert_int_equal(look(disk, 0, 0), 2);
    sim_slip_at(disk, &(sim_rule){.kind = SIM_SHORT_WRITE, .length = 512});
    assert_int_equal(put(disk, 0, 4, 1024), CMB_EIO);
    assert_int_equal(look(disk, 0, 0), 4);
    assert_int_equal(look(disk, 512, 0), 1);
    sim_slip_at(disk, &(sim_rule){.kind = SIM_FULL_WRITE, .length = 0});
    assert_int_equal(put(disk, 0, 5, 1024), CMB_ENOSPC);
    assert_int_equal(look(disk, 0, 0), 4);
    sim_slip_at(disk, &(sim_rule){.kind = SIM_SHORT_READ, .length = 0});
    assert_int_equal(look(disk, 0, 0), -1);
    assert_int_equal(sim_count(disk).slips, 5);
    sim_free(disk);
}

static void the_length_of_a_disk_that_grew_is_durable_only_after_a_flush(void **state)
{
    (void)state;
    unsigned shorter = 0;
    for (uint64_t seed = 0; seed < 16; seed++) {
        sim_disk *disk = sim_new(&(sim_options){.size = 1 << 20, .max_size = SIZE, .seed = seed});
        cmb_device *dev = sim_device(disk);
        cmb_caps caps;
        assert_int_equal(dev->ops->grow(dev, 2 << 20), 0);
        assert_int_equal(put(disk, 1 << 20, 1, 4096), 0);
        sim_power_cut(disk, seed);
        cmb_device_caps(dev, &caps);
        assert_true(caps.size == 1 << 20 || caps.size == 2 << 20);
        assert_int_equal(caps.generation, 2);
        shorter += caps.size == 1 << 20;
        if (caps.size == 1 << 20) {
            assert_int_equal(dev->ops->grow(dev, 2 << 20), 0);
            assert_int_equal(look(disk, 1 << 20, 0), 0); /* what lay beyond the end is gone */
        }
        assert_int_equal(dev->ops->grow(dev, SIZE + 512), CMB_ENOSPC);
        sim_free(disk);
    }
    assert_true(shorter > 0 && shorter < 16);
}

static void copies_share_nothing_that_is_written_and_equal_content_has_an_equal_sum(void **state)
{
    (void)state;
    sim_disk *disk = disk_of(false), *copy;
    uint8_t one[512];
    memset(one, 1, sizeof one);
    uint64_t empty = sim_sum(disk);
    sim_poke(disk, 4096, one, sizeof one);
    uint64_t sum = sim_sum(disk);
    copy = sim_fork(disk);
    assert_int_equal(sim_sum(copy), sum);
    sim_poke(copy, 4096, NULL, 512);
    assert_int_equal(sim_sum(copy), empty);
    sim_poke(copy, 8192, one, sizeof one);
    assert_int_not_equal(sim_sum(copy), sum); /* the place counts */
    assert_int_equal(medium(disk, 8192), 0);
    assert_int_equal(medium(disk, 4096), 1);
    sim_free(disk);
    assert_int_equal(look(copy, 8192, 0), 1);
    sim_free(copy);
}

static void a_trace_holds_what_was_written_flushed_grown_and_noted_in_order(void **state)
{
    (void)state;
    sim_trace t = {0};
    sim_disk *disk = sim_new(&(sim_options){.size = 1 << 20, .max_size = SIZE});
    cmb_device *dev;
    cmb_queue *q;
    uint8_t block[512] = {1, 2};
    assert_int_equal(sim_record(disk, &t, &dev), 0);
    assert_int_equal(cmb_queue_open(dev, 1, &q), 0);
    assert_int_equal(cmb_io_write(q, 512, block, 512), 0);
    assert_int_equal(dev->ops->grow(dev, 2 << 20), 0);
    sim_slip_at(disk, &(sim_rule){.kind = SIM_FLUSH_KEEPS_DIRTY});
    assert_int_equal(cmb_io_flush(q), CMB_EIO);
    assert_int_equal(cmb_io_flush(q), 0);
    memset(block, 0, sizeof block);
    assert_int_equal(cmb_io_write(q, 1024, block, 512), 0);
    sim_note(&t, 4, 77);
    cmb_queue_close(q);
    assert_int_equal(t.n, 5);
    assert_int_equal(t.events[0].kind, SIM_WROTE);
    assert_int_equal(t.events[0].data[1], 2);
    assert_int_equal(t.events[1].kind, SIM_GREW);
    assert_int_equal(t.events[1].offset, 2 << 20);
    assert_int_equal(t.events[2].kind, SIM_FLUSHED);
    assert_null(t.events[3].data);
    assert_int_equal(t.events[3].offset, 1024);
    assert_int_equal(t.events[4].what, 4);
    assert_int_equal(t.events[4].offset, 77);
    sim_trace_free(&t);
    cmb_device_close(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_flushed_outlives_a_power_cut_and_the_rest_is_torn_by_sectors),
        cmocka_unit_test(with_an_atom_of_4096_bytes_a_power_cut_tears_no_block),
        cmocka_unit_test(a_flush_covers_only_writes_that_were_reaped_before_it_was_submitted),
        cmocka_unit_test(with_jitter_requests_overtake_each_other_and_without_it_none_does),
        cmocka_unit_test(after_a_failed_flush_the_cache_holds_what_its_kind_says),
        cmocka_unit_test(damaged_places_say_so_until_they_are_written_again_and_the_medium_stays_pristine),
        cmocka_unit_test(operations_go_astray_or_end_early_by_rule),
        cmocka_unit_test(the_length_of_a_disk_that_grew_is_durable_only_after_a_flush),
        cmocka_unit_test(copies_share_nothing_that_is_written_and_equal_content_has_an_equal_sum),
        cmocka_unit_test(a_trace_holds_what_was_written_flushed_grown_and_noted_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
