/* SPDX-License-Identifier: ISC */
/*
 * kloop.h: a script of calls is run again and again, and each time something else fails: the k-th operation of the device with
 * CMB_EIO, with CMB_ENOSPC, or half done; the k-th allocation; only that one, or it and all later ones. k = 1, 2, … until a run
 * completes untouched.
 *
 * After each run:
 *  - the error was one that the fault explains; CMB_EUNKNOWN where it says that the outcome is not known, and only then
 *    may the step that failed be found done;
 *  - a step that failed is done by calling it again, or the store is read-only, says so, and reads on;
 *  - no byte of memory is held and no queue is open after the close, whether or not that failed;
 *  - the image opens; what was acknowledged is there, what was not is whole or absent; fsck finds nothing; it can be written.
 *
 * Without a budget a stride is taken through the points, so that a scenario takes a second or so. CMB_BUDGET=N takes N times as
 * many; a large N all of them. A point that fails is named, and CMB_KLOOP=NAME runs that one alone.
 */
#ifndef CMB_TEST_KLOOP_H
#define CMB_TEST_KLOOP_H

#include "tests/kloop/overlay.h"
#include "tests/store/bed.h"

/* ---- memory that is counted, and runs out where it is told to ---- */

typedef struct kloop_memory {
    cmb_allocator alloc;
    uint64_t calls;   /* allocations and resizes so far */
    uint64_t fail_at; /* of these, from 0; UINT64_MAX: none */
    bool for_ever;    /* and every later one */
    uint64_t fired;
    int64_t held, peak; /* bytes */
    int64_t limit;      /* bytes held; more is refused; 0: none */
    uint64_t refused;   /* for the limit's sake */
} kloop_memory;

/* Nothing fails. Call again to count anew. All of it is safe for several threads. */
void kloop_memory_init(kloop_memory *m);

/* ---- scenarios ---- */

#define KLOOP_STORES 2u
#define KLOOP_STEPS_MAX 16u
#define KLOOP_POINTS 12u

typedef struct kloop {
    const struct kloop_scenario *scenario;
    overlay *dev[KLOOP_STORES];
    cmb_store *store[KLOOP_STORES]; /* open during the steps */
    kloop_memory memory;
    bed_env env;
    cmb_store_options options;
    void *data; /* the scenario's own, made by `prepare` */
} kloop;

enum {
    KLOOP_PIECEMEAL = 1u << 0, /* moves refs one by one: each of them may be found done or not where the step failed */
};

/* Calls of the library; the first error is returned and everything that was opened is closed. It has to do if it is called
 * again after an error. */
typedef struct kloop_step {
    const char *name;
    int (*run)(kloop *k);
    uint32_t flags;
} kloop_step;

typedef struct kloop_scenario {
    const char *name;
    unsigned stores;            /* 1 or 2; the fault is on each in turn */
    unsigned points;            /* of one loop, without a budget; 0: KLOOP_POINTS */
    uint64_t size;              /* bytes of the devices; 0: they grow */
    cmb_init_options init;
    cmb_store_options options;
    void (*prepare)(kloop *k);  /* writes what the steps start from, without faults; may be NULL */
    void (*finish)(kloop *k);   /* gives `data` back; may be NULL */
    bool crashed;               /* the steps start from what the devices hold before they are closed */
    kloop_step steps[KLOOP_STEPS_MAX];
} kloop_scenario;

/* Runs all the loops of a scenario; prints how many points were tried. */
void kloop_run(const kloop_scenario *scenario);

/* ---- for steps ---- */

/* In a function that has `int error` and a label `out`: leaves at the first error. */
#define step(x) do { if ((error = (x))) goto out; } while (0)

/* One transaction that puts (value NULL: deletes) `n` keys, numbered from `first` on, every `stride`-th. message NULL: a working state. */
typedef struct kloop_edit {
    const char *branch, *value, *message;
    unsigned first, stride, n;
} kloop_edit;
int kloop_edit_do(cmb_store *store, const kloop_edit *edit);
/* The same for one key; value NULL: deletes it if it is there. */
int kloop_put(cmb_store *store, const char *branch, const char *key, const char *value, const char *message);

/* For `prepare`: commits a value of 70,000 bytes, which is kept in pieces, as "large". */
void kloop_put_large(cmb_store *store, const char *branch);

/* What the store does now and then by itself. */
int kloop_checkpoint(cmb_store *store);
int kloop_seal(cmb_store *store); /* so that the last batch is known to be durable, as after a close */

/* A digest of all keys and values at a revision, read through a cursor. */
int kloop_digest(cmb_store *store, const char *rev, uint64_t *out_digest);

#endif
