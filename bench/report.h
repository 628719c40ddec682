/* SPDX-License-Identifier: ISC */
/* report.h: what came out, for people (table, Markdown, plot) and for programs (JSON). */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include "bench/limits.h"
#include "bench/work.h"

#include <stdio.h>

typedef struct result {
    const workload *work;
    double seconds[SIDES][REPETITIONS_MAX]; /* of each run; 0: it did not end */
    uint64_t check[SIDES][REPETITIONS_MAX];
    char error[256];                        /* "": none */
} result;

typedef struct report {
    const bench_config *config;
    const result *results;
    size_t count;
    const char *about[SIDES];   /* one line about each engine */
    char machine[512];          /* one line: processors, memory, kernel, file system */
    limits limits;
} report;

typedef struct ratio {
    double median, min, max;
    unsigned n; /* repetitions that both sides finished; 0: no ratio */
} ratio;

ratio report_ratio(const result *r, unsigned repetitions);
bool report_failed(const report *r);
/* "aim reached", "floor reached", "below the floor"; "" where there is no floor. */
const char *report_verdict(const workload *w, ratio q);
/* Conditions of the run, as sentences, one per call until NULL. */
const char *report_condition(const report *r, unsigned i, char *buffer, size_t size);

void report_table(const report *r, FILE *out);
void report_markdown(const report *r, FILE *out);
void report_json(const report *r, FILE *out);
/* bench/plot.c */
void report_svg(const report *r, FILE *out);
/* The cost of differences against their number, a curve a size. */
bool report_has_diffs(const report *r);
void report_diff_svg(const report *r, FILE *out);
/* Median of what one side of a workload measured per operation; 0: nothing. */
double report_per_operation(const result *r, unsigned side, unsigned repetitions);

#endif
