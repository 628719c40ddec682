/* SPDX-License-Identifier: ISC */
/*
 * work.h: the workloads. Each is run by two sides in turn, A B A B …; its ratio is the time of side 0 by the time
 * of side 1: how many times faster side 1 was. Side 1 is always Cambium; side 0 is the peer or, where the peer has no
 * such thing, Cambium on less data.
 */
#ifndef BENCH_WORK_H
#define BENCH_WORK_H

#include "bench/data.h"
#include "bench/shim.h"

enum { SIDES = 2, REPETITIONS_MAX = 99, SIZED_MAX = 8, WORK_MAX = 64 };

typedef struct bench_config {
    size_t entries;
    size_t gets;          /* random gets a run */
    size_t ranges;        /* range starts a run */
    size_t syncs;         /* durable single inserts a run */
    unsigned repetitions;
    const char *dir;      /* where databases are made; a directory of our own inside it */
    const char *filter;   /* regular expression over workload names, or NULL */
    const char *git_stream; /* a git fast-export stream to be imported, or NULL */
    const char *git_repo; /* a repository to be exported and imported, or NULL */
    peer_config peer;
} bench_config;

typedef struct bench bench;
typedef struct workload workload;

/* Does one run; what it returns goes into `out_check`, which must come out equal on both sides (0: no check). */
typedef const char *(*work_fn)(bench *b, const workload *w, unsigned side, unsigned repetition, shim_run *run,
                               uint64_t *out_check);

struct workload {
    const char *id;       /* of the table of workloads in docs/measurements.md */
    char name[48];        /* after db_bench where it has one */
    const char *what;
    const char *sides[SIDES];
    double floor, aim;    /* of the ratio; 0: none */
    uint64_t operations;  /* a run */
    size_t sized;         /* V1, V2, V3: which of the sized stores, from 0 */
    work_fn run;
    const char *unit;     /* of what is measured; NULL: seconds */
    size_t base;          /* V2: the sized store of side 0 */
    size_t changes;       /* V2, V3: entries in which two versions differ */
    size_t entries[SIDES];/* V2, V3: in each side's store */
};

struct bench {
    bench_config config;
    dataset data;
    const peer_ops *ops[SIDES];
    char root[4096];      /* the directory of our own */
    peer *loaded[SIDES];  /* the databases that the reading workloads share */
    bool random[SIDES];   /* loaded in random order, as they must be for reading */
    bool warm[SIDES];
    peer *sized[SIZED_MAX]; /* Cambium on sizes[i] entries; NULL until asked for */
    size_t sizes[SIZED_MAX];
    size_t size_count;
    unsigned long branches; /* made so far, for their names */
    slice *probes;        /* keys looked up, anew for each repetition */
    size_t probe_count;
    unsigned char *probe_keys;
};

/* NULL, or why not. */
const char *work_open(bench *b, const bench_config *config);
/* Compares what both engines hold after everything; closes and removes it. */
const char *work_close(bench *b);
/* Fills `out` with the workloads; returns how many. */
size_t work_list(const bench *b, workload *out);

#endif
