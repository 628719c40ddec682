/* SPDX-License-Identifier: ISC */
/* rescue_private.h: between rescue.c, rescue_scan.c and log.c. */
#ifndef CMB_LOG_RESCUE_PRIVATE_H
#define CMB_LOG_RESCUE_PRIVATE_H

#include "log/internal.h"
#include "log/rescue.h"

/* The newest superblock that is valid by itself, else one made of log->rescue and of what frames say. */
int cmb_rescue_super(cmb_log *log, cmb_queue *queue, cmb_super_slots *out_slots);
/* Fills the segment table from what the device holds. */
int cmb_rescue_map(cmb_log *log, cmb_queue *queue);
/* Reads [offset, offset + length), multiples of a block, of the device; zeros for what cannot be read or lies past its end. */
int cmb_rescue_load(cmb_log *log, cmb_queue *queue, uint64_t offset, uint64_t length, uint8_t *out_buf);

#endif
