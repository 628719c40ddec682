/* SPDX-License-Identifier: ISC */
/*
 * rescue.h: a log that is put together from what lies on the device, for salvage and inspection where
 * superblocks, segment table or chain are damaged. Nothing is believed that is not checked, and little is needed:
 *
 *   - every frame holds the uuid and its own logical address, every footer of a compacted segment the logical segments
 *     in it: one intact header in a physical segment says where its logical segment lies;
 *   - the superblocks' table is asked for what no header tells;
 *   - without any superblock the uuid that most frames have counts, and the largest segment size that their places allow.
 *
 * Where several physical segments claim a logical one (an old copy that waits for reuse), the one with most headers
 * is taken; of a compacted segment only a footer that is right in itself counts, and what it claims is bounded. Every record is checked by whoever reads it, so that a wrong guess is a record that cannot be read and
 * never wrong data.
 *
 * The log is read-only. cmb_log_read and all that stands on it work; states of segments are not known.
 */
#ifndef CMB_LOG_RESCUE_H
#define CMB_LOG_RESCUE_H

#include "log/log.h"

/* Does a node's record begin here? `limit`: bytes readable. The log knows nothing of nodes, whose check is their own. */
typedef bool (*cmb_node_plausible_fn)(const void *record, uint32_t limit, uint64_t addr);

/*
 * Opens it by reading the whole device once. `params`: hash, node target and seed where no superblock says them.
 * CMB_ENOTIMAGE: neither superblocks nor frames. CMB_EVERSION: superblocks of another version only.
 */
int cmb_log_open_rescue(cmb_device *dev, const cmb_log_options *options, const cmb_image_params *params, cmb_log **out_log);
/* Were superblocks read? Else cmb_log_params are partly what was given, partly guessed. */
bool cmb_log_rescue_has_super(const cmb_log *log);

typedef struct cmb_rescue_record {
    uint64_t addr;
    const uint8_t *record; /* NULL: a frame begins here, nothing else is said */
    uint32_t length;
    uint8_t kind;
    bool whole;            /* the frame or run around it is intact; else only the record's own check was right */
    uint32_t flags;        /* of the frame */
    uint64_t seq, epoch;   /* of the frame; 0: not known */
} cmb_rescue_record;
/*
 * Every record of every segment in order of addresses, those in damaged frames too. Where a frame is damaged, records are looked
 * for at every granule; what is hashed of forged ones is bounded by some 64 times the bytes that are looked at. Non-zero
 * from fn stops and is returned. Memory: one segment.
 */
int cmb_log_rescue_scan(cmb_log *log, cmb_node_plausible_fn node, int (*fn)(void *ctx, const cmb_rescue_record *record), void *ctx);

/* Copies what can be read of a record's bytes, zeros for what cannot. CMB_ECORRUPT: it lies nowhere. */
int cmb_log_read_remains(cmb_log *log, uint64_t addr, uint32_t length, void *out_buf);

#endif
