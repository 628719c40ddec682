/* SPDX-License-Identifier: ISC */
/**
 * @file scrub.h
 * Verification in the background, a little at a time: so that a block that has gone bad is noticed while its copies elsewhere still
 * exist, and not when it is needed.
 *
 * A pass reads the superblocks, the segment table and every frame and run of the log in turn, past the operating system's cache where
 * the device can, and verifies their checks and those of the records in them. It costs little beside a live writer; what is written
 * after a pass went by is the next pass's. Whom damage hurts is not worked out: cmb_fsck says it.
 *
 *     cmb_scrub_open(store, &options, &scrub);
 *     while (running) {
 *         uint64_t wait;
 *         cmb_scrub_step(scrub, &wait);
 *         sleep_for(wait);              // or do other work: a timer of an event loop will do
 *     }
 *     cmb_scrub_close(scrub);
 */
#ifndef CAMBIUM_SCRUB_H
#define CAMBIUM_SCRUB_H

#include <cambium/fsck.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cmb_scrub cmb_scrub;

/** Where a scrub stands. Plain numbers: may be kept across restarts. All zero: at the start of the first pass. */
typedef struct cmb_scrub_position {
    uint64_t passes;  /* completed */
    uint64_t address; /* logical, in the log; where the present pass goes on */
} cmb_scrub_position;

/** Zero-initialise. */
typedef struct cmb_scrub_options {
    uint64_t bytes_per_second; /* 0: as fast as it goes */
    cmb_scrub_position start;
    int (*on_finding)(void *ctx, const cmb_finding *finding); /* non-zero stops the step: CMB_ESTOPPED. May be NULL */
    void *ctx;
} cmb_scrub_options;

typedef struct cmb_scrub_status {
    cmb_scrub_position position;
    uint64_t bytes;    /* verified since it was opened */
    uint64_t findings; /* since it was opened */
} cmb_scrub_status;

/** Belongs to one thread at a time; closed before the store. The rate is kept by the store's clock (cmb_env). */
CMB_API int cmb_scrub_open(cmb_store *store, const cmb_scrub_options *options, cmb_scrub **out_scrub);
/**
 * Verifies about a megabyte. *out_wait: microseconds until the next step is due. After CMB_ESTOPPED it goes on behind the finding;
 * CMB_ESTALE as in fsck.h; after any other error it tries the same again.
 */
CMB_API int cmb_scrub_step(cmb_scrub *scrub, uint64_t *out_wait);
CMB_API void cmb_scrub_get_status(const cmb_scrub *scrub, cmb_scrub_status *out_status);
CMB_API void cmb_scrub_close(cmb_scrub *scrub); /* NULL is allowed */

#ifdef __cplusplus
}
#endif
#endif
