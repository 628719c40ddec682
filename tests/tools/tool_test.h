/* SPDX-License-Identifier: ISC */
/* tool_test.h: cmocka, and text that goes in or comes out through a file. */
#ifndef CMB_TESTS_TOOL_TEST_H
#define CMB_TESTS_TOOL_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "tools/input.h"

/* What was written to a stream from open_memstream. */
typedef struct sink {
    FILE *out;
    char *data;
    size_t size;
} sink;
static inline void sink_open(sink *s)
{
    s->out = open_memstream(&s->data, &s->size);
    assert_non_null(s->out);
}
/* Asserts what was written, and closes. */
static inline void sink_expect(sink *s, const char *expected)
{
    assert_int_equal(fclose(s->out), 0);
    assert_string_equal(s->data, expected);
    free(s->data);
}

/* An input over these bytes. */
static inline input *input_of(const void *data, size_t size)
{
    char path[] = "/tmp/cambium-tool-XXXXXX";
    input *in;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, size), (ssize_t)size);
    close(fd);
    assert_int_equal(input_open(path, &in), 0);
    unlink(path);
    return in;
}

#endif
