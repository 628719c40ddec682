/* SPDX-License-Identifier: ISC */
/*
 * facts.h: what one pass over the whole log, in the order in which it lies, finds out about every record. Each frame, run
 * and record is verified; of leaves and of the chunks of values a few numbers are kept (btree/shape.h), which a walk over the
 * trees then holds against what their parents say. So that a full check reads everything once and in large pieces.
 *
 * Several threads share the work, a segment at a time, and the thread that asks scans too while it would have to wait: so the
 * walk over the trees goes on beside the reading. Memory: 56 bytes a leaf and 24 a chunk, dead ones included, which is 1.4 %
 * of an image of full leaves of 4 KiB, and never more than the limit: what comes after it is not known, and read again by
 * the walk. Besides, of each thread 1.2 MiB for reading, and what it keeps of the segment that it is at, which grows by doubling: 2 MiB
 * with leaves of 4 KiB and segments of 64 MiB, 15 MiB and more with leaves of 256 bytes.
 *
 * A leaf that names values outside of it is read again by the walk, for what it names: its facts spare nothing there but the values' chunks.
 *
 * What of a record fails is no finding here: whether anything needs it is for the walk to say, which then reads it. Frames
 * and runs that fail are kept in a list.
 */
#ifndef CMB_STORE_FACTS_H
#define CMB_STORE_FACTS_H

#include "btree/shape.h"
#include "store/internal.h"

typedef struct cmb_facts cmb_facts;

/* A stretch of the log that is damaged. */
typedef struct cmb_lost {
    uint64_t addr, end; /* end: where the next intact frame begins, or the segment ends */
    bool record;        /* a record within an intact frame */
    cmb_segment_kind kind; /* of the segment */
    char text[200];
} cmb_lost;
#define CMB_LOST_MAX 4096u /* that are kept; more are counted */

typedef struct cmb_facts_options {
    unsigned threads; /* that scan, with the asking one; 0: 1, which scans as it is asked */
    size_t memory;    /* bytes for facts; 0: 512 MiB */
    void (*progress)(void *ctx, uint64_t bytes); /* called by the asking thread; may be NULL */
    void *ctx;
} cmb_facts_options;

/* Begins. One thread, the asking one, calls this and all that follows. CMB_ENOMEM; damage is no error. */
int cmb_facts_start(cmb_store *store, const cmb_facts_options *options, cmb_facts **out_facts);
/* Waits until all is scanned. CMB_ENOMEM. */
int cmb_facts_finish(cmb_facts *facts);
/* Stops what still runs. NULL allowed. */
void cmb_facts_destroy(cmb_facts *facts);
/*
 * Waits until the segment of a record was scanned, so that who reads the record itself finds it in the cache of the operating
 * system and does not ask the disk for a piece out of its turn. CMB_ENOMEM: the scan was stopped, nothing is known any more.
 */
int cmb_facts_wait(cmb_facts *facts, uint64_t addr);
/* Of a verified leaf that begins at addr; waits in the same way. */
bool cmb_facts_leaf(cmb_facts *facts, uint64_t addr, cmb_node_facts *out_facts);
/* cmb_chunk_known_fn, but for the context. */
bool cmb_facts_chunk(cmb_facts *facts, uint64_t addr, uint32_t length, const uint8_t *name, bool whole);
/* After cmb_facts_finish. Damaged stretches in the order of their addresses; *out_total: with those that were not kept. */
const cmb_lost *cmb_facts_lost(const cmb_facts *facts, size_t *out_n, uint64_t *out_total);
/* After cmb_facts_finish, of what was intact. */
uint64_t cmb_facts_frames(const cmb_facts *facts);
uint64_t cmb_facts_bytes(const cmb_facts *facts); /* of frames and runs */

#endif
