/* SPDX-License-Identifier: ISC */
/*
 * script.h: runs of a store on a simulated disk, recorded: steps that a seed chooses among all that a store does, each with what all
 * refs show after it.
 */
#ifndef CMB_TESTS_CRASH_SCRIPT_H
#define CMB_TESTS_CRASH_SCRIPT_H

#include "oracle.h"

typedef struct script_options {
    uint64_t seed;
    unsigned steps;
    uint32_t node_size;
    uint64_t size;     /* of the image, fixed; 0: it grows */
    bool cached;       /* the disk cannot read past its cache */
    bool heavy;        /* now and then a value that takes several frames */
    bool journal;      /* working commits and checkpoints, little else: the log runs on and its segments are used again */
    bool round;        /* logged edits in blocks of their own, few checkpoints but those that come of themselves: the log goes round the device */
} script_options;

typedef struct script {
    script_options options;
    sim_pages start;   /* the image before the first step */
    uint64_t start_size;
    sim_trace trace;
    oracle_prints *steps; /* [0]: before the first */
    uint64_t count;
    uint64_t acknowledged; /* steps that changed something, and were */
    uint64_t done[32]; /* steps that did something, by kind */
} script;

/* Runs it. NULL, or what went wrong. Free in any case. */
const char *script_run(const script_options *options, script *out_script);
void script_free(script *s);
/* The enumeration's plan for it; judge, ctx, seen and numbers are the caller's. */
crash_plan script_plan(const script *s);
#define SCRIPT_SEGMENT (2u << 20)
#define SCRIPT_GROWTH  (256u << 20)

#endif
