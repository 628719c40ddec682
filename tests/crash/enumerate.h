/* SPDX-License-Identifier: ISC */
/*
 * enumerate.h: the crash states of a recorded run. Between two flushes (an epoch) any of the writes may land or not, sector by
 * sector, in any order: a state is what was durable when the epoch began and a subset of the sectors written since.
 *
 * Of few sectors all subsets are tried; of few blocks all subsets of blocks; of many: none, all, prefixes, all but one, only one,
 * and subsets that a seed chooses, of sectors, of blocks and of whole writes, at several densities; and one sector that reads as noise
 * because the power went while it was written. A file that grew in the epoch has its old length or the new one. If that is asked for,
 * each of them comes once more with the newest generation of superblocks lost, as it may be: so that the one before has to do.
 *
 * Each distinct state is judged once for what was acknowledged by then: an equal image that is met again later, when
 * more was acknowledged, is judged again, and not counted again.
 */
#ifndef CMB_TESTS_CRASH_ENUMERATE_H
#define CMB_TESTS_CRASH_ENUMERATE_H

#include <stdbool.h>

#include "tests/sim/trace.h"

/* Notes of a run: numbers of its steps. */
enum { CRASH_BEGUN = 1, CRASH_ACKED = 2 };

typedef struct crash_moment {
    uint64_t acked, begun; /* the highest numbers noted before the epoch ended */
    uint64_t log_bytes;    /* written since the checkpoint before last began: what an open may have to read */
    unsigned epoch;
} crash_moment;

/* Judges a state; what is written to it is lost. NULL, or what is wrong with it (static or until the next call). */
typedef const char *(*crash_judge_fn)(void *ctx, sim_disk *state, const crash_moment *moment);

typedef struct crash_seen crash_seen; /* a set of states */
crash_seen *crash_seen_new(void);
void crash_seen_free(crash_seen *seen);
size_t crash_seen_count(const crash_seen *seen); /* states that differ */

typedef struct crash_plan {
    const sim_pages *start; /* the disk when the record began */
    uint64_t start_size;
    sim_options options;    /* of the states */
    unsigned per_epoch;     /* states judged of an epoch at most */
    uint64_t first;         /* epochs that ended before this step began are left out */
    uint64_t seed;
    bool no_flush;          /* as if the device's flush did nothing: the harness has to find what is lost then */
    bool noise;             /* the sector that was being written reads as noise */
    uint64_t segment;       /* bytes; not 0: only epochs from where a segment is begun anew that was used before, up to the next checkpoint */
    bool lose;              /* each state once more without the newest generation of superblocks, unless one is being written */
    crash_judge_fn judge;
    void *ctx;
    crash_seen *seen;
} crash_plan;

typedef struct crash_tally {
    uint64_t epochs, tried, judged, distinct, whole_epochs; /* whole: all subsets of sectors were tried */
    uint64_t due;  /* acknowledged steps that a state had to show, over all states judged */
    uint64_t anew; /* segments that were begun again, if that is what is looked for */
    uint64_t wrong;
    char first_wrong[400];
} crash_tally;

/* Adds to the tally. */
void crash_enumerate(const sim_trace *trace, const crash_plan *plan, crash_tally *tally);

#endif
