/* SPDX-License-Identifier: ISC */
/**
 * @file salvage.h
 * What can still be read of a damaged image, written into a new one.
 *
 * Works where cmb_store_open refuses: without superblocks, with a broken log, with damaged tables. The damaged image is only read.
 * What is taken, in this order:
 *
 *   1. The newest state: branches, tags, working states, every commit of the index. If the image opens by itself, exactly
 *      what it shows then; else the newest ROOT record that can be read with the EDITS records after it.
 *   2. For names and commits that are lost there: older ROOT and EDITS records, newest first; then the reflog (a branch stands
 *      where it was committed to last); then COMMIT records that no index names. Commits that nothing leads to
 *      become branches "lost+found/commit-..." if names of refs, or records of what moved them, were lost.
 *   3. In every tree: all entries of leaves that can be read. Where an inner node is damaged, nodes whose names still stand in its
 *      remains are put back in place.
 *   4. Leaves that no tree names any more, where keys were lost: of every lost key the newest entry, in the branch "lost+found/entries" if
 *      the bytes around it are intact, in "lost+found/unverified" if nothing vouches for the leaf's bytes.
 *
 * A commit whose content and parents are whole keeps its id; so a whole image comes out with the same refs and ids. One that lost
 * something gets another id, and a header "salvage.was" with the old one. A parent that is lost is kept by id: the history is shallow and
 * ends there (store.h). The reflog begins anew.
 */
#ifndef CAMBIUM_SALVAGE_H
#define CAMBIUM_SALVAGE_H

#include <cambium/store.h>

#ifdef __cplusplus
extern "C" {
#endif

/** X(name, code, lost, text). lost 0: worth knowing, but nothing is missing by it. */
#define CMB_LOSS_LIST(X)                                                                                              \
    X(SUPERBLOCKS, "superblocks-lost", 0, "no superblock could be read; the image's parameters were found out or given") \
    X(STATE, "state-rebuilt", 1, "the image does not open; its state is the newest one that records tell of")         \
    X(TABLE, "table-damaged", 0, "a part of the refs or of the commit index had to be looked for in older records")   \
    X(REFS, "refs-lost", 1, "branches and tags with names in this range cannot be read, nor older states of them")    \
    X(COMMITS, "commits-lost", 1, "a part of the commit index cannot be read; commits were looked for instead")       \
    X(REF, "ref-lost", 1, "a branch or tag that cannot be put back")                                                  \
    X(REF_OLDER, "ref-older", 1, "a branch or tag of which only an older state is left")                              \
    X(TAG, "tag-object-lost", 1, "the object of an annotated tag; the tag stands on its commit")                      \
    X(COMMIT, "commit-lost", 1, "a commit's record; its content is kept where a branch or tag knows it")              \
    X(COMMIT_CHANGED, "commit-changed", 1, "a commit that lost content or a parent: it has a new id")                 \
    X(KEYS, "keys-lost", 1, "keys of a range, or some of them")                                                       \
    X(VALUE, "value-lost", 1, "the value of a key, which is not there any more")                                      \
    X(FOUND, "entries-found", 0, "entries of leaves that no tree names any more")

typedef enum cmb_loss_kind {
#define CMB_LOSS_ENUM(name, code, lost, text) CMB_LOSS_##name,
    CMB_LOSS_LIST(CMB_LOSS_ENUM)
#undef CMB_LOSS_ENUM
} cmb_loss_kind;
/** The stable code, and what it means. Never NULL, static. */
CMB_API const char *cmb_loss_code(cmb_loss_kind kind);
CMB_API const char *cmb_loss_meaning(cmb_loss_kind kind);
CMB_API bool cmb_loss_is_lost(cmb_loss_kind kind);

/** Everything lives during the call. */
typedef struct cmb_loss {
    cmb_loss_kind kind;
    int error;         /* CMB_E…; 0: none */
    uint64_t addr;     /* logical address of what is damaged; 0: none */
    const char *where; /* "heads/NAME", "tags/NAME", "commit ID"; "" for the image as a whole */
    cmb_bytes after;   /* KEYS, REFS, COMMITS: what is lost lies beyond this (size 0: from the start) ... */
    cmb_bytes last;    /* ... up to this, itself included (size 0: to the end). VALUE: the key */
    const char *text;  /* why: one line */
} cmb_loss;

/** Zero-initialise. */
typedef struct cmb_salvage_options {
    cmb_allocator alloc;
    cmb_env env;
    bool force;         /* overwrite what is at the target */
    uint32_t node_size; /* of the damaged image, where no superblock says it; 0: found out by looking at trees */
    uint64_t seed;      /* likewise; 0: the default */
    size_t pool_size;   /* bytes for nodes; 0: 64 MiB */
    int (*on_loss)(void *ctx, const cmb_loss *loss);                                       /* non-zero stops: CMB_ESTOPPED */
    void (*on_progress)(void *ctx, const char *stage, uint64_t done, uint64_t total);      /* may be NULL; total 0: not known */
    void *ctx;
} cmb_salvage_options;

typedef struct cmb_salvage_result {
    uint64_t losses;   /* told with a kind that is a loss */
    uint64_t branches, tags, commits; /* in the new image; lost+found included */
    uint64_t commits_changed;
    uint64_t damaged;  /* nodes and values that could not be read */
    uint64_t replaced; /* nodes that were put back below damaged ones */
    uint64_t found;    /* entries in lost+found */
} cmb_salvage_result;

/**
 * Reads `image`, makes an image at `target` and fills it. Returns 0 however much was lost; an error if it could not run, and then what is at
 * the target is not to be used. CMB_ENOTIMAGE: nothing of an image was found. CMB_EEXIST without force. CMB_EINVAL: the target is the
 * image itself, by whatever name. The target is made once the image was found to be one.
 *
 * Reads the image three times at most. Time: proportional to the bytes, and for each commit to how it differs from its first parent.
 * Memory: one segment, the pool, some 130 bytes for each commit and ref, 11 for each node; where inner nodes are damaged or keys
 * lost also 32 for each node.
 */
CMB_API int cmb_salvage_image(const char *image, const char *target, const cmb_salvage_options *options, cmb_salvage_result *out_result);
/** The same on devices that are open and stay the caller's. */
CMB_API int cmb_salvage_device(cmb_device *image, cmb_device *target, const cmb_salvage_options *options, cmb_salvage_result *out_result);

#ifdef __cplusplus
}
#endif
#endif
