/* SPDX-License-Identifier: ISC */
#include "helper.h"

typedef struct kept { uint64_t addr; uint32_t length; } kept;

static void what_was_committed_is_there_after_reopening_many_times(void **state)
{
    (void)state;
    th_random r = {th_seed()};
    cmb_device *dev = th_mem(0);
    th_format(dev, 0, 21, &r);
    static kept all[4000];
    static th_edits edits;
    size_t n = 0;
    uint64_t value = 0, base = 0;
    for (unsigned round = 0; round < 6; round++) {
        cmb_log *log;
        th_ok(th_open_as(dev, true, &r, &edits, &log));
        assert_int_equal(edits.n, value - base);
        for (size_t i = 0; i < edits.n; i++)
            assert_int_equal(edits.values[i], base + i + 1);
        for (size_t i = 0; i < n; i++)
            th_check(log, all[i].addr, all[i].length);
        assert_int_equal(th_root(log), base);
        th_start(log, value);
        base = value;
        for (unsigned i = 0; i < 300; i++) {
            uint64_t seq;
            all[n].length = 16 + (uint32_t)th_below(&r, i % 40 == 0 ? 400000 : 3000);
            th_ok(th_unit(log, all[n].length, ++value, &all[n].addr, &seq));
            th_check(log, all[n].addr, all[n].length);
            if (th_below(&r, 2))
                th_ok(cmb_log_sync(log, seq));
            n++;
        }
        th_ok(cmb_log_close(log));
    }
    cmb_device_close(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_committed_is_there_after_reopening_many_times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
