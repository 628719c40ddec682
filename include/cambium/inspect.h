/* SPDX-License-Identifier: ISC */
/** @file inspect.h  Looking at an image: sizes, liveness, checking. Read-only, works beside a live writer. */
#ifndef CAMBIUM_INSPECT_H
#define CAMBIUM_INSPECT_H

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

typedef enum cmb_fsck_level { CMB_FSCK_QUICK = 1, CMB_FSCK_STRUCTURE = 2, CMB_FSCK_FULL = 3 } cmb_fsck_level;
typedef struct cmb_finding {
    const char *code;      /* stable, e.g. "node-damaged" */
    int error;             /* CMB_E… */
    uint64_t addr;         /* logical address, 0 if none */
    const char *text;      /* names what, expected and found */
    const char *where;     /* refs and key range hurt; "" if unknown */
} cmb_finding;
typedef struct cmb_fsck_options {
    cmb_fsck_level level;
    int (*on_finding)(void *ctx, const cmb_finding *finding); /* non-zero stops */
    void (*on_progress)(void *ctx, uint64_t bytes_done, uint64_t bytes_total); /* may be NULL */
    void *ctx;
} cmb_fsck_options;
typedef struct cmb_fsck_result {
    uint64_t findings, superblocks, table_pages, frames, nodes, leaves, values, commits, refs, bytes;
} cmb_fsck_result;
/**
 * QUICK: superblocks, log tail, table pages, refs and their commits. STRUCTURE: and all internal nodes, reachability, counts. FULL: and every
 * leaf, every value byte, the canonical shape of every tree that a ref names, every frame of the log. Returns 0 however many findings; an error
 * if it could not run.
 */
CMB_API int cmb_fsck(cmb_store *store, const cmb_fsck_options *options, cmb_fsck_result *out_result);

#ifdef __cplusplus
}
#endif
#endif
