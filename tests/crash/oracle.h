/* SPDX-License-Identifier: ISC */
/*
 * oracle.h: what a state of a store has to show. A step of a run publishes at most one state of all refs; a crash shows the state after
 * some step between the last acknowledged one and the last begun one, all refs alike: commits are whole or absent, and absent
 * from the end only.
 *
 * A ref's print is a hash of its name, of the permanent commit that it stands on or above, and of every pair of its content, read
 * through a snapshot. 0: there is no such ref.
 */
#ifndef CMB_TESTS_CRASH_ORACLE_H
#define CMB_TESTS_CRASH_ORACLE_H

#include <cambium/cambium.h>

#include "enumerate.h"

enum { ORACLE_REFS = 6 };
extern const char *const oracle_refs[ORACLE_REFS]; /* 4 branches, then 2 tags */
enum { ORACLE_BRANCHES = 4 };

typedef struct oracle_prints { uint64_t of[ORACLE_REFS]; } oracle_prints;
/* All of these: 0 or CMB_E…. Of the pairs of a ref alone, in order: from 0, each key and then its value is hashed onto what was before (cmb_hash64). CMB_ENOTFOUND. */
int oracle_content(cmb_store *store, const char *ref, uint64_t *out_print);
int oracle_look(cmb_store *store, oracle_prints *out_prints);

/* A clock that ticks and numbers that follow from a seed. */
typedef struct oracle_env { int64_t now; uint64_t random; } oracle_env;
cmb_env oracle_env_of(oracle_env *env);

/* How thoroughly states are looked at: each n-th of them; 0: none. */
typedef struct oracle_care {
    unsigned fsck;  /* completely checked */
    unsigned again; /* opened for writing and committed to, and crash states of that judged alike */
    unsigned again_states; /* of each epoch of that, at most */
    unsigned depth; /* so many times one within the other */
} oracle_care;

typedef struct oracle {
    const oracle_prints *steps; /* after step i; [0]: before the first */
    uint64_t count;
    uint64_t segment;           /* bytes; 0: what an open reads is not bounded here */
    oracle_care care;
    crash_seen *seen;
    uint64_t judged, fscked, written; /* states so far */
    uint64_t opens;             /* of states, to read and to write */
    crash_tally nested;         /* of crashes during recovery */
    uint64_t most_read;         /* bytes by one open */
} oracle;

/* crash_judge_fn; ctx is an oracle. */
const char *oracle_judge(void *ctx, sim_disk *state, const crash_moment *moment);

#endif
