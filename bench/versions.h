/* SPDX-License-Identifier: ISC */
/*
 * versions.h: the workloads that no other engine has an equal of: differences and merges of versions (versions.c), histories of
 * git (history.c), bytes written per commit (bytes.c). Each list fills `out` and returns how many.
 */
#ifndef BENCH_VERSIONS_H
#define BENCH_VERSIONS_H

#include "bench/work.h"

struct cmb_store;

enum { DIFF_SIZES = 6, DIFF_ROWS_MAX = DIFF_SIZES * (SIZED_MAX - 1) };

/* What is inside Cambium's peer. */
struct cmb_store *cambium_store(peer *p);

size_t diff_list(const bench *b, workload *out);
size_t merge_list(const bench *b, workload *out);
/* Empty unless the configuration names a stream or a repository. */
size_t history_list(const bench *b, workload *out);
size_t bytes_list(const bench *b, workload *out);
size_t fsck_list(const bench *b, workload *out);

#endif
