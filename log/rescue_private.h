/* SPDX-License-Identifier: ISC */
/* rescue_private.h: between rescue.c, rescue_scan.c and log.c. */
#ifndef CMB_LOG_RESCUE_PRIVATE_H
#define CMB_LOG_RESCUE_PRIVATE_H

#include "log/internal.h"
#include "log/rescue.h"

/*
 * What is spent on forged frames, footers and records: bytes hashed in vain, for each byte that is looked at. What was not spent is
 * kept for what comes next, up to EFFORT_KEPT; below zero nothing is hashed on suspicion.
 */
#define CMB_EFFORT 64
#define CMB_EFFORT_KEPT ((int64_t)64 << 20)
static inline void cmb_effort_refill(int64_t *effort, uint64_t looked_at)
{
    *effort += (int64_t)looked_at * CMB_EFFORT;
    *effort = *effort < CMB_EFFORT_KEPT ? *effort : CMB_EFFORT_KEPT;
}

/* The newest superblock that is valid by itself, else one made of log->rescue and of what frames say. */
int cmb_rescue_super(cmb_log *log, cmb_queue *queue, cmb_super_slots *out_slots);
/* Fills the segment table from what the device holds. */
int cmb_rescue_map(cmb_log *log, cmb_queue *queue);
/* Gives `fn` the logical segments of which a footer in memory, `length` bytes, says that something is there. CMB_ECORRUPT: it is none. (runs.c) */
int cmb_footer_each(cmb_log *log, const uint8_t *block, uint32_t length, uint64_t physical, uint64_t offset,
                    int (*fn)(void *ctx, uint64_t logical), void *ctx);
/* Reads [offset, offset + length), multiples of a block, of the device; zeros for what cannot be read or lies past its end. */
int cmb_rescue_load(cmb_log *log, cmb_queue *queue, uint64_t offset, uint64_t length, uint8_t *out_buf);

#endif
