/* SPDX-License-Identifier: ISC */
/* limits.h: what this disk can do, measured in the same run, to hold the results against. */
#ifndef BENCH_LIMITS_H
#define BENCH_LIMITS_H

#include <stddef.h>

typedef struct limits {
    double write_rate;  /* bytes a second, written one after the other and flushed at the end */
    double flush_time;  /* seconds for 16 KiB written over blocks that exist, and a flush; median */
} limits;

/* On a file of `bytes` in `dir`. NULL, or why not. */
const char *limits_measure(const char *dir, size_t bytes, limits *out);
/* One line about the machine and the file system of `dir`. */
void limits_machine(const char *dir, char *out, size_t size);

#endif
