/* SPDX-License-Identifier: ISC */
#include "hook.h"

#include "log/internal.h"

#define SIZE (32u << 20)

static cmb_device *made(th_random *r, uint64_t *out_addr)
{
    cmb_device *dev = th_mem(SIZE);
    th_format(dev, SIZE, 21, r);
    cmb_log *log;
    uint64_t seq;
    th_ok(th_open_as(dev, true, r, NULL, &log));
    th_start(log, 1);
    th_ok(th_unit(log, 5000, 2, out_addr, &seq));
    th_ok(cmb_log_close(log));
    return dev;
}

static void get(cmb_device *dev, uint64_t offset, uint8_t *block)
{
    cmb_queue *q;
    th_ok(cmb_queue_open(dev, 1, &q));
    th_ok(cmb_io_read(q, offset, block, CMB_BLOCK, 0));
    cmb_queue_close(q);
}

static void put(cmb_device *dev, uint64_t offset, const uint8_t *block)
{
    cmb_queue *q;
    th_ok(cmb_queue_open(dev, 1, &q));
    th_ok(cmb_io_write(q, offset, block, CMB_BLOCK));
    cmb_queue_close(q);
}

static void reseal(uint8_t *block, unsigned slot)
{
    cmb_put64(block + CMB_SUPER_AT_CHECK, 0);
    cmb_put64(block + CMB_SUPER_AT_CHECK, cmb_hash64(block, CMB_SUPER_SIZE, (uint64_t)slot << 20));
}

static void hostile_fields_behind_right_checks_are_refused_or_harmless(void **state)
{
    (void)state;
    th_random r = {th_seed()};
    uint64_t addr;
    for (unsigned round = 0; round < 400 * th_budget(); round++) {
        cmb_device *dev = made(&r, &addr);
        unsigned at = 24 + (unsigned)th_below(&r, CMB_SUPER_AT_END - 24);
        uint64_t value = th_below(&r, 3) ? th_next(&r) >> th_below(&r, 64) : UINT64_MAX;
        for (unsigned slot = 0; slot < 4; slot++) {
            uint8_t block[CMB_BLOCK];
            get(dev, (uint64_t)slot << 20, block);
            memcpy(block + at, &value, at + 8 > CMB_SUPER_AT_END ? CMB_SUPER_AT_END - at : 8);
            reseal(block, slot);
            put(dev, (uint64_t)slot << 20, block);
        }
        for (unsigned writable = 0; writable < 2; writable++) {
            cmb_log *log;
            int e = th_open_as(dev, writable, &r, NULL, &log);
            assert_true(e == 0 || e == CMB_ECORRUPT || e == CMB_EVERSION || e == CMB_EIO);
            if (e)
                continue;
            uint64_t pages;
            uint8_t buf[5000];
            (void)cmb_log_check_tables(log, &pages, NULL, NULL);
            (void)cmb_log_read(log, NULL, addr, sizeof buf, buf);
            (void)cmb_log_close(log);
        }
        cmb_device_close(dev);
    }
}

static void a_state_map_that_is_higher_than_any_device_needs_is_refused(void **state)
{
    (void)state;
    th_random r = {th_seed()};
    uint64_t addr;
    cmb_device *dev = made(&r, &addr);
    uint8_t block[CMB_BLOCK];
    cmb_super s;
    get(dev, 0, block);
    assert_int_equal(cmb_get64(block + CMB_SUPER_AT_GENERATION) & 1, 0);
    for (unsigned levels = 1; levels <= CMB_PAGE_LEVELS_MAX; levels++) {
        cmb_put64(block + CMB_SUPER_AT_MAP, 4u << 20);
        cmb_put32(block + CMB_SUPER_AT_MAP + 16, levels);
        reseal(block, 0);
        assert_int_equal(cmb_super_decode(block, 0, &s), levels <= 4 ? 0 : CMB_ECORRUPT);
    }
    cmb_device_close(dev);
}

static void newer_versions_and_unknown_features_and_foreign_files_are_told_apart(void **state)
{
    (void)state;
    th_random r = {th_seed()};
    uint64_t addr;
    cmb_log *log;
    cmb_image_params params;
    for (unsigned at = CMB_SUPER_AT_VERSION; at <= CMB_SUPER_AT_INCOMPAT; at += 4) {
        cmb_device *dev = made(&r, &addr);
        uint8_t block[CMB_BLOCK];
        get(dev, 0, block);
        block[at] = 9;
        reseal(block, 0);
        put(dev, 0, block);
        assert_int_equal(th_open_as(dev, true, &r, NULL, &log), CMB_EVERSION);
        assert_int_equal(cmb_log_probe(dev, NULL, &params), CMB_EVERSION);
        cmb_device_close(dev);
    }
    cmb_device *dev = th_mem(SIZE);
    assert_int_equal(th_open_as(dev, true, &r, NULL, &log), CMB_ENOTIMAGE);
    cmb_device_close(dev);
}

static void a_truncated_image_is_named_as_such(void **state)
{
    (void)state;
    th_random r = {th_seed()};
    uint64_t addr;
    cmb_device *dev = made(&r, &addr), *small = th_mem(SIZE / 2);
    for (unsigned slot = 0; slot < 4; slot++) {
        uint8_t block[CMB_BLOCK];
        get(dev, (uint64_t)slot << 20, block);
        put(small, (uint64_t)slot << 20, block);
    }
    cmb_log *log;
    assert_int_equal(th_open_as(small, false, &r, NULL, &log), CMB_ECORRUPT);
    assert_non_null(strstr(cmb_error_detail(), "shorter"));
    cmb_device_close(dev);
    cmb_device_close(small);
}

static void a_damaged_copy_is_mended_by_the_next_checkpoint(void **state)
{
    (void)state;
    th_random r = {th_seed()};
    uint64_t addr, seq;
    cmb_device *dev = made(&r, &addr);
    uint8_t zero[CMB_BLOCK] = {0}, block[CMB_BLOCK];
    cmb_super_slots slots;
    cmb_queue *q;
    cmb_allocator a = cmb_allocator_or_default(NULL);
    th_ok(cmb_queue_open(dev, 1, &q));
    th_ok(cmb_super_load(dev, q, &a, &slots));
    unsigned slot = slots.best.generation & 1 ? 3 : 2;
    put(dev, (uint64_t)slot << 20, zero);
    cmb_log *log;
    cmb_appender *app;
    th_ok(th_open_as(dev, true, &r, NULL, &log));
    th_ok(cmb_log_begin(log, &app, NULL));
    th_ok(th_checkpoint(app, 3, &seq));
    th_ok(cmb_log_close(log));
    get(dev, (uint64_t)slot << 20, block);
    cmb_super s;
    th_ok(cmb_super_decode(block, slot, &s));
    assert_int_equal(s.generation, slots.best.generation);
    char text[4096];
    bool valid;
    th_ok(cmb_log_describe_super(dev, NULL, slot, text, sizeof text, &valid));
    assert_true(valid);
    assert_non_null(strstr(text, "generation:"));
    cmb_queue_close(q);
    cmb_device_close(dev);
}

static cmb_super newest(cmb_device *dev, unsigned *out_bad)
{
    cmb_super_slots slots;
    cmb_queue *q;
    cmb_allocator a = cmb_allocator_or_default(NULL);
    th_ok(cmb_queue_open(dev, 1, &q));
    th_ok(cmb_super_load(dev, q, &a, &slots));
    cmb_queue_close(q);
    *out_bad = slots.bad_copies;
    return slots.best;
}

static void a_copy_that_is_damaged_while_the_image_is_open_is_mended_by_the_next_checkpoint(void **state)
{
    (void)state;
    th_random r = {th_seed()};
    uint64_t addr, seq;
    uint8_t zero[CMB_BLOCK] = {0}, block[CMB_BLOCK];
    unsigned bad;
    cmb_super s;
    cmb_device *dev = made(&r, &addr);
    cmb_log *log;
    cmb_appender *app;
    th_ok(th_open_as(dev, true, &r, NULL, &log));
    th_start(log, 3);
    uint64_t generation = newest(dev, &bad).generation;
    assert_int_equal(bad, 0);
    unsigned slot = generation & 1 ? 1 : 0;
    put(dev, (uint64_t)slot << 20, zero);
    th_ok(cmb_log_begin(log, &app, NULL));
    th_ok(th_checkpoint(app, 4, &seq));
    get(dev, (uint64_t)slot << 20, block);
    th_ok(cmb_super_decode(block, slot, &s));
    assert_int_equal(s.generation, generation);
    th_ok(cmb_log_close(log));
    cmb_device_close(dev);
}

/* The newest generation is lost, and a copy of the one before: recovery goes from there over the lost one's checkpoint. */
static void a_mended_copy_says_what_the_other_one_of_its_generation_says(void **state)
{
    (void)state;
    th_random r = {th_seed()};
    uint64_t addr, seq;
    uint8_t zero[CMB_BLOCK] = {0}, block[2][CMB_BLOCK];
    unsigned bad;
    cmb_device *dev = made(&r, &addr);
    cmb_log *log;
    cmb_appender *app;
    th_ok(th_open_as(dev, true, &r, NULL, &log));
    th_start(log, 3);
    uint64_t generation = newest(dev, &bad).generation;
    th_ok(cmb_log_begin(log, &app, NULL));
    th_ok(th_checkpoint(app, 4, &seq));
    th_ok(cmb_log_close(log));
    for (unsigned slot = 0; slot < CMB_SUPER_SLOTS; slot++) {
        if (cmb_super_pair(generation + 1) >> slot & 1 || slot == (generation & 1))
            put(dev, (uint64_t)slot << 20, zero);
    }
    th_ok(th_open_as(dev, true, &r, NULL, &log));
    assert_int_equal(th_root(log), 4);
    th_start(log, 5);
    cmb_super s[2];
    for (unsigned i = 0; i < 2; i++) {
        unsigned slot = (unsigned)(generation & 1) + 2 * i;
        get(dev, (uint64_t)slot << 20, block[i]);
        th_ok(cmb_super_decode(block[i], slot, &s[i]));
        memset(block[i] + CMB_SUPER_AT_CHECK, 0, 8);
        assert_int_equal(s[i].generation, generation);
    }
    assert_memory_equal(block[0], block[1], CMB_BLOCK);
    th_ok(cmb_log_close(log));
    cmb_device_close(dev);
}

/* ---- a device that cannot read past its cache, and loses connections ---- */

typedef struct wire {
    uint64_t generation;
    unsigned flushes, lose_at; /* the connection goes with this flush, counted from 1 */
    unsigned slots[16], n;     /* which superblocks were written between two flushes; one entry each */
} wire;

static void wire_caps(void *ctx, cmb_caps *caps)
{
    caps->flags &= ~(uint32_t)CMB_CAP_UNCACHED;
    caps->generation = ((wire *)ctx)->generation;
}

static int wire_before(void *ctx, const cmb_request *request)
{
    wire *w = ctx;
    if (request->op == CMB_OP_WRITE && request->offset < CMB_SUPER_SLOTS * CMB_SUPER_SPACING)
        w->slots[w->n] |= 1u << request->offset / CMB_SUPER_SPACING;
    if (request->op == CMB_OP_FLUSH) {
        w->n += w->slots[w->n] != 0 && w->n + 1 < CMB_COUNTOF(w->slots);
        w->generation += ++w->flushes == w->lose_at;
    }
    return 0;
}

static void a_generation_that_only_a_cache_may_hold_is_written_again_before_the_older_one_goes(void **state)
{
    (void)state;
    th_random r = {th_seed()};
    uint64_t addr;
    unsigned bad;
    cmb_device *dev = made(&r, &addr);
    uint64_t generation = newest(dev, &bad).generation;
    wire w = {.generation = 1};
    dev = th_hook_over(dev, wire_caps, wire_before, &w);
    cmb_log *log;
    th_ok(th_open_as(dev, true, &r, NULL, &log));
    th_start(log, 3);
    assert_int_equal(w.n, 2);
    assert_int_equal(w.slots[0], cmb_super_pair(generation));
    assert_int_equal(w.slots[1], cmb_super_pair(generation + 1));
    cmb_appender *app;
    uint64_t seq;
    th_ok(cmb_log_begin(log, &app, NULL));
    th_ok(th_checkpoint(app, 4, &seq));
    assert_int_equal(w.n, 3); /* what it wrote and flushed itself is there */
    th_ok(cmb_log_close(log));
    cmb_device_close(dev);
}

static void what_is_written_while_the_connection_changes_is_not_called_durable(void **state)
{
    (void)state;
    uint64_t seed = th_seed(), addr;
    for (unsigned at = 1; at <= 5; at++) {
        th_random r = {seed};
        wire w = {.generation = 1, .lose_at = at};
        cmb_device *dev = th_hook_over(th_mem(SIZE), wire_caps, wire_before, &w);
        cmb_image_params p = th_params(SIZE, 21);
        cmb_env env = th_env(&r);
        int e = cmb_log_format(dev, &p, NULL, &env);
        assert_int_equal(e, at <= w.flushes ? CMB_EIO : 0);
        assert_int_equal(e != 0, at <= 4);
        cmb_device_close(dev);
    }
    th_random r = {seed};
    wire w = {.generation = 1, .lose_at = 1};
    cmb_allocator a = cmb_allocator_or_default(NULL);
    uint8_t zero[CMB_BLOCK] = {0};
    unsigned mended;
    cmb_device *dev = th_hook_over(made(&r, &addr), wire_caps, wire_before, &w);
    put(dev, newest(dev, &mended).generation & 1 ? 1u << 20 : 0, zero);
    assert_int_equal(cmb_log_mend_supers(dev, &a, &mended), CMB_EIO);
    cmb_log *log; /* the tail is written again, so the open's flush has to cover it */
    w = (wire){.generation = 1, .lose_at = 1};
    assert_int_equal(th_open_as(dev, true, &r, NULL, &log), CMB_EIO);
    w = (wire){.generation = 1, .lose_at = 1};
    th_ok(th_open_as(dev, false, &r, NULL, &log)); /* a reader wrote nothing */
    th_check(log, addr, 5000);
    th_ok(cmb_log_close(log));
    w = (wire){.generation = 2};
    th_ok(th_open_as(dev, true, &r, NULL, &log));
    th_check(log, addr, 5000);
    th_ok(cmb_log_close(log));
    cmb_device_close(dev);
}

static int one_finding(void *ctx, int error, const char *text)
{
    (void)text;
    assert_int_equal(error, CMB_ECORRUPT);
    ++*(unsigned *)ctx;
    return 0;
}

static void a_page_of_a_table_with_any_byte_flipped_is_found(void **state)
{
    (void)state;
    th_random r = {th_seed()};
    uint64_t addr;
    cmb_device *dev = made(&r, &addr);
    cmb_super_slots slots;
    cmb_queue *q;
    cmb_allocator a = cmb_allocator_or_default(NULL);
    th_ok(cmb_queue_open(dev, 1, &q));
    th_ok(cmb_super_load(dev, q, &a, &slots));
    cmb_queue_close(q);
    const uint64_t pages[] = {slots.best.table.ref.addr, slots.best.map.ref.addr};
    for (unsigned i = 0; i < 2; i++) {
        uint8_t block[CMB_BLOCK];
        assert_true(pages[i] != 0);
        get(dev, pages[i], block);
        for (unsigned at = 0; at < CMB_BLOCK; at += at < 128 ? 1 : 97) {
            cmb_log *log;
            unsigned findings = 0;
            uint64_t n;
            block[at] ^= 0x10;
            put(dev, pages[i], block);
            assert_int_equal(th_open_as(dev, true, &r, NULL, &log), CMB_ECORRUPT);
            if (th_open_as(dev, false, &r, NULL, &log) == 0) { /* a reader can do without the map of states */
                assert_int_equal(i, 1);
                int e = cmb_log_check_tables(log, &n, one_finding, &findings);
                assert_true(findings > 0 || e == CMB_ECORRUPT);
                th_ok(cmb_log_close(log));
            }
            block[at] ^= 0x10;
        }
        put(dev, pages[i], block);
    }
    cmb_device_close(dev);
}

static void a_foreign_writer_is_noticed_before_its_superblock_is_overwritten(void **state)
{
    (void)state;
    th_random r = {th_seed()}, other = {99};
    uint64_t addr, seq;
    cmb_device *dev = made(&r, &addr);
    cmb_log *one, *two;
    cmb_appender *app;
    th_ok(th_open_as(dev, true, &r, NULL, &one));
    th_ok(th_open_as(dev, true, &other, NULL, &two));
    th_start(two, 7);
    th_ok(cmb_log_begin(one, &app, NULL));
    assert_int_equal(th_checkpoint(app, 8, &seq), CMB_EBUSY);
    cmb_append_abort(app);
    assert_int_equal(cmb_log_begin(one, &app, NULL), CMB_EREADONLY);
    (void)cmb_log_close(one);
    th_ok(cmb_log_close(two));
    th_ok(th_open_as(dev, true, &r, NULL, &one));
    assert_int_equal(th_root(one), 7);
    th_ok(cmb_log_close(one));
    cmb_device_close(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hostile_fields_behind_right_checks_are_refused_or_harmless),
        cmocka_unit_test(a_state_map_that_is_higher_than_any_device_needs_is_refused),
        cmocka_unit_test(newer_versions_and_unknown_features_and_foreign_files_are_told_apart),
        cmocka_unit_test(a_truncated_image_is_named_as_such),
        cmocka_unit_test(a_damaged_copy_is_mended_by_the_next_checkpoint),
        cmocka_unit_test(a_copy_that_is_damaged_while_the_image_is_open_is_mended_by_the_next_checkpoint),
        cmocka_unit_test(a_mended_copy_says_what_the_other_one_of_its_generation_says),
        cmocka_unit_test(a_generation_that_only_a_cache_may_hold_is_written_again_before_the_older_one_goes),
        cmocka_unit_test(what_is_written_while_the_connection_changes_is_not_called_durable),
        cmocka_unit_test(a_page_of_a_table_with_any_byte_flipped_is_found),
        cmocka_unit_test(a_foreign_writer_is_noticed_before_its_superblock_is_overwritten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
