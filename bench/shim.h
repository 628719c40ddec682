/* SPDX-License-Identifier: ISC */
/*
 * shim.h: as much of Google Benchmark as the benchmarks need, in C. It keeps the registry, the filter and the
 * loop; shim.cc is the only C++ in the tree.
 *
 * Every registered function runs exactly once, in the order of registration: the order A B A B … of paired
 * runs is made by registering them so.
 */
#ifndef BENCH_SHIM_H
#define BENCH_SHIM_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct shim_run shim_run;

/* One run. Only the time between shim_start and shim_stop counts, which may be called in turn any number of times. */
typedef void (*shim_fn)(void *ctx, shim_run *run);
void shim_start(shim_run *run);
void shim_stop(shim_run *run);
/* Time that was measured elsewhere, in another process: counts as well. */
void shim_add(shim_run *run, double seconds);
/* Ends the run as failed; `why` is copied. */
void shim_fail(shim_run *run, const char *why);

/* `name` is copied; `ctx` must live until shim_run_all returns. */
void shim_register(const char *name, shim_fn fn, void *ctx);

/* Told after each run: seconds between start and stop, or why it failed (else NULL). */
typedef void (*shim_done_fn)(void *ctx, const char *name, double seconds, const char *error);

/* Runs what matches the regular expression `filter` (NULL: everything). Returns the number of runs. */
unsigned shim_run_all(const char *filter, shim_done_fn done, void *ctx);

#ifdef __cplusplus
}
#endif
#endif
