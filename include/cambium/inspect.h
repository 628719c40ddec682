/* SPDX-License-Identifier: ISC */
/** @file inspect.h  Looking at an image: sizes, liveness; checking it is fsck.h. Read-only, works beside a live writer. */
#ifndef CAMBIUM_INSPECT_H
#define CAMBIUM_INSPECT_H

#include <cambium/fsck.h>
#include <cambium/store.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cmb_stat {
    uint64_t image_bytes;      /* size of the device or file */
    uint64_t segment_bytes;    /* of one segment */
    uint64_t segments_free, segments_live, segments_quarantined, segments_meta;
    uint64_t log_bytes;        /* used in live segments */
    uint64_t live_bytes;       /* of records reachable from any ref */
    uint64_t leaf_bytes, node_bytes, value_bytes, commit_bytes, ref_bytes; /* parts of live_bytes */
    uint64_t leaves, nodes, values, commits, branches, tags;
    uint64_t entries;          /* of all distinct leaves */
    unsigned height;           /* levels of the highest content tree */
} cmb_stat;
typedef struct cmb_segment_stat {
    uint64_t logical;
    uint64_t physical;
    const char *kind;          /* "plain", "journal", "stream", "compacted", "meta" */
    uint64_t used_bytes, live_bytes;
    bool head;
} cmb_segment_stat;
/** Marks everything reachable; O(nodes). on_segment may be NULL. */
CMB_API int cmb_stat_store(cmb_store *store, cmb_stat *out_stat, int (*on_segment)(void *ctx, const cmb_segment_stat *segment), void *ctx);

#ifdef __cplusplus
}
#endif
#endif
