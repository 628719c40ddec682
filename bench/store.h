/* SPDX-License-Identifier: ISC */
/* store.h: making, filling, checking and removing the databases that the workloads run on. */
#ifndef BENCH_STORE_H
#define BENCH_STORE_H

#include "bench/work.h"

/* A new empty database of `side` in the directory `name` of the bench's own; what was there is removed. */
const char *store_make(bench *b, unsigned side, const char *name, peer **out);
/* All entries (n == 0) or the first n in sorted order, in one durable transaction; timed if run is not NULL. */
const char *store_fill(bench *b, unsigned side, peer *p, bool sorted, size_t n, shim_run *run);
/* Reads everything and compares it with the data set. */
const char *store_verify(bench *b, unsigned side, peer *p);
/* Replaces what `side` has loaded by a new database with everything in it, loaded by a process of its own in the order that child.h says. */
const char *store_load(bench *b, unsigned side, const char *order, shim_run *run);
/* What `side` has loaded, loaded in random order and in memory. */
const char *store_ready(bench *b, unsigned side);
/* Cambium on b->sizes[i] entries. */
const char *store_sized(bench *b, size_t i, peer **out);
/* Digest of everything, in order; in *out_count the number of entries. */
const char *store_digest(bench *b, unsigned side, peer *p, uint64_t *out_digest, uint64_t *out_count);
/* Makes the directory `name` of the bench's own, anew and empty; its path comes out. */
const char *store_directory(const bench *b, const char *name, char *dir, size_t size);
/* Removes a directory and all in it. */
void store_remove(const char *path);

#endif
