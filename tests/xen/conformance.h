/* SPDX-License-Identifier: ISC */
/*
 * conformance.h: what every device must do, as one script that runs on any of them unchanged and leaves
 * the same bytes on each. No test framework: it runs in a guest with nothing but itself as well.
 */
#ifndef CMB_TESTS_XEN_CONFORMANCE_H
#define CMB_TESTS_XEN_CONFORMANCE_H

#include "io/io.h"

typedef struct conform_options {
    uint64_t seed;
    uint64_t size;  /* bytes of the device that are used, from its beginning; a multiple of 1 MiB */
    unsigned steps; /* batches of requests */
} conform_options;

typedef struct conform_result {
    cmb_name sum;        /* of the bytes used */
    uint64_t operations;
    bool flushed;        /* the device can */
} conform_result;

/* 0, or CMB_E… with a detail text that says which promise was broken, or what failed. */
int conform(cmb_device *dev, const conform_options *options, conform_result *out_result);

#endif
