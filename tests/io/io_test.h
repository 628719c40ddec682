/* SPDX-License-Identifier: ISC */
/*
 * io_test.h: what the tests of io/ share: cmocka, a scratch directory, a failing allocator, loop
 * devices, a seeded generator.
 */
#ifndef CMB_TESTS_IO_TEST_H
#define CMB_TESTS_IO_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "io/io.h"

/* ---- scratch files: io_test_path gives a name in a directory that io_test_clean removes ---- */

const char *io_test_path(const char *name); /* valid until the next fourth call */
void io_test_clean(void);
void io_test_make_file(const char *path, size_t size, int byte);

/* ---- an allocator that refuses one call, and counts what is out ---- */

typedef struct io_test_allocator {
    cmb_allocator alloc; /* ctx points at this very struct */
    uint64_t calls;      /* so far */
    uint64_t fail_at;    /* index of the call that is refused; UINT64_MAX: none */
    int64_t out;         /* allocations not given back */
    int64_t bytes;       /* likewise, in bytes: wrong sizes at release show here */
} io_test_allocator;

void io_test_allocator_init(io_test_allocator *a, uint64_t fail_at);

/* ---- loop devices ---- */

typedef struct io_test_loop {
    int control, loop, backing;
    int number;
    char path[32];
} io_test_loop;

/* False where the system refuses: the test is then skipped. The sector size is the kernel's default. */
bool io_test_loop_make(io_test_loop *loop, const char *backing_path);
void io_test_loop_free(io_test_loop *loop);

/* ---- randomness that can be replayed: CMB_SEED in the environment, else fresh; printed ---- */

uint64_t io_test_seed(void);
uint64_t io_test_random(uint64_t *state);
unsigned io_test_budget(void); /* CMB_BUDGET, default 1 */

/* Fills with bytes that depend on the position and the tag. */
void io_test_fill(void *buffer, size_t size, uint64_t tag);

#define assert_ok(call)                                                                                                \
    do {                                                                                                               \
        int assert_ok_result = (call);                                                                                 \
        if (assert_ok_result < 0)                                                                                      \
            fail_msg("%s: %s: %s", #call, cmb_error_name(assert_ok_result), cmb_error_detail());                       \
    } while (0)
#define assert_error(call, error)                                                                                      \
    do {                                                                                                               \
        int assert_error_result = (call);                                                                              \
        if (assert_error_result != (error))                                                                            \
            fail_msg("%s: %s, not %s: %s", #call, cmb_error_name(assert_error_result), cmb_error_name(error),          \
                     cmb_error_detail());                                                                              \
    } while (0)
#define assert_detail_has(part)                                                                                        \
    do {                                                                                                               \
        if (!strstr(cmb_error_detail(), part))                                                                         \
            fail_msg("detail \"%s\" lacks \"%s\"", cmb_error_detail(), part);                                          \
    } while (0)

#endif
