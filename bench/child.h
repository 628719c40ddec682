/* SPDX-License-Identifier: ISC */
/*
 * child.h: bulk loads run in a process of their own, as they do where people load data. In one process that loads again
 * and again the allocator keeps its pages, and an engine that needs a page of memory for each page it writes (LMDB's
 * dirty pages) is never charged for them; here both sides start with nothing. What is timed is the transaction, from
 * its begin to its durable commit; not the start of the process, not the making of the data.
 */
#ifndef BENCH_CHILD_H
#define BENCH_CHILD_H

#include "bench/work.h"

/* Fills the empty directory `dir` with everything; order: "sorted", "random", or "sorted-nosync", where the commit flushes nothing. NULL, or why not. */
const char *child_load(const bench_config *config, unsigned side, const char *order, const char *dir, double *out_seconds);
/* The other end: `what` is "SIDE:ORDER", the directory is config->dir. Returns the exit status. */
int child_main(const bench_config *config, const char *what);

#endif
