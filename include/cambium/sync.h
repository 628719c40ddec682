/* SPDX-License-Identifier: ISC */
/**
 * @file sync.h
 * Moving history between images: bundles, and pulling from a peer. Only what is missing travels.
 *
 * Commits go by their ids, contents by what differs from a commit that the receiver has: so a commit costs what it changed, and
 * the receiver builds every tree anew and compares its name: whatever a peer or a file says, nothing becomes visible that is
 * not exactly what its commit's id names. All of it becomes visible at once, or nothing does; a transfer that was cut, at any
 * byte, leaves the image as it was and can be repeated. docs/sync.md holds the format.
 *
 * Both images need the same node size, seed and hash (cmb_init_options; `init --like`): otherwise equal contents have different
 * names. CMB_ENOTSUP says which of them differ.
 *
 * Names of XXH3 can be forged, so from a peer that is not trusted only images with a cryptographic hash may take anything.
 *
 * A working state is not history: what is asked for is sealed into a commit in the image that it comes from first. A source that
 * is open read-only gives CMB_EREADONLY then.
 *
 * The protocol is a pair of callbacks on either side, whatever they stand for: a pipe, a socket, memory. A peer asks
 * once (cmb_pull_from) and the other answers (cmb_serve). Calls block in the callbacks; the store may be used by others meanwhile.
 */
#ifndef CAMBIUM_SYNC_H
#define CAMBIUM_SYNC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cambium/error.h>
#include <cambium/export.h>
#include <cambium/merge.h>
#include <cambium/store.h>
#include <cambium/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/** The next bytes, 1 .. `size` of them; *out_read 0 at the end. A negative CMB_E… ends the transfer and is passed on. */
typedef int (*cmb_sync_read_fn)(void *ctx, void *out, size_t size, size_t *out_read);
/** Takes all `size` bytes. A negative CMB_E… ends the transfer and is passed on. */
typedef int (*cmb_sync_write_fn)(void *ctx, const void *data, size_t size);

/** What a transfer was. */
typedef struct cmb_sync_stats {
    uint64_t bytes;        /* of the bundle; of a pull, all that came */
    uint64_t bytes_sent;   /* of a pull */
    uint64_t commits;      /* that travelled */
    uint64_t known;        /* of them, those that the image had already */
    uint64_t changes;      /* of keys, in all commits together */
    uint64_t value_bytes;  /* of out-of-line values */
} cmb_sync_stats;

/** Told now and then. total: commits, 0 as long as it is not known. Must not call the library. */
typedef void (*cmb_sync_progress_fn)(void *ctx, uint64_t commits, uint64_t total, uint64_t bytes);

/* ------------------------------------------------------------------ taking */

/** What became of a branch or tag that was asked for. */
typedef enum cmb_pull_kind {
    CMB_PULL_UP_TO_DATE = 0,   /* it has all of it: not moved */
    CMB_PULL_CREATED = 1,
    CMB_PULL_FAST_FORWARD = 2, /* moved forward */
    CMB_PULL_MERGED = 3,       /* a merge commit was made */
    CMB_PULL_DIVERGED = 4,     /* both have commits that the other lacks (a tag: stands on another commit): not moved; see `kept` */
    CMB_PULL_CONFLICTS = 5,    /* merging met conflicts: not moved; see `kept` */
} cmb_pull_kind;
typedef struct cmb_pulled {
    const char *name;      /* of the branch or tag, without "heads/" or "tags/" */
    bool tag;
    cmb_pull_kind kind;
    cmb_name theirs;       /* the commit it stands on over there */
    cmb_name before, after;/* the commit here (size 0: none); of a working state the one below it */
    const char *kept;      /* the branch "PEER/NAME" that stands on `theirs` now; else NULL */
    uint64_t conflicts;    /* CONFLICTS: how many */
} cmb_pulled;

/** Zero-initialise. */
typedef struct cmb_pull_options {
    const char *const *names;  /* branches that are wanted; CMB_ENOTFOUND if the peer lacks one */
    size_t name_count;         /* 0: all branches */
    bool tags;                 /* all tags as well; one that stands elsewhere here is left alone */
    const char *peer;          /* what `kept` branches begin with; NULL: "peer" */
    bool merge;                /* branches that diverged are merged, as CMB_MERGE_DETERMINISTIC says. Peers end with equal heads if each pair pulls both
                                  ways in turn; round a ring, each only from the next, all would merge each other's merges for ever. */
    cmb_merge_fn merge_fn;     /* for clashes; NULL: conflicts */
    void *merge_ctx;
    uint32_t depth;            /* commits below each wanted one, itself included; 0: all. What lies deeper is then missing for
                                  good: history ends there. Not for bundles: their depth was chosen when they were made. */
    bool untrusted;            /* CMB_ENOTSUP unless the image's hash is cryptographic */
    uint64_t max_bytes;        /* that may come in, CMB_ETOOBIG above; 0: no limit */
    int (*pulled)(void *ctx, const cmb_pulled *ref); /* once for each branch, then each tag; non-zero stops: CMB_ESTOPPED. May be NULL */
    cmb_sync_progress_fn progress; /* may be NULL */
    void *ctx;
} cmb_pull_options;

/**
 * Takes branches from another store that is open in this process. Working states there are sealed. Durable on return. What came
 * becomes visible in one step; then each branch moves on its own, so after an error some may have moved. CMB_ECONFLICT: some of it came in by another pull meanwhile, or
 * a branch moved; nothing is wrong, call again. options, out_stats may be NULL.
 */
CMB_API int cmb_pull(cmb_store *store, cmb_store *from, const cmb_pull_options *options, cmb_sync_stats *out_stats);

/** The same from a peer that runs cmb_serve() at the other end of the two callbacks. CMB_ESYNTAX: what it says makes no sense, or it fell silent. */
CMB_API int cmb_pull_from(cmb_store *store, cmb_sync_read_fn read, cmb_sync_write_fn write, void *transport,
                          const cmb_pull_options *options, cmb_sync_stats *out_stats);

/* ------------------------------------------------------------------ giving */

/** Answers one cmb_pull_from(). What a peer says is bounded and checked. Errors are told to the peer, as far as it can be reached. out_stats may be NULL. */
CMB_API int cmb_serve(cmb_store *store, cmb_sync_read_fn read, cmb_sync_write_fn write, void *transport, cmb_sync_stats *out_stats);

/* ------------------------------------------------------------------ bundles */

/** Zero-initialise. */
typedef struct cmb_bundle_options {
    uint32_t depth;                /* as in cmb_pull_options */
    cmb_sync_progress_fn progress; /* may be NULL */
    void *ctx;
} cmb_bundle_options;

/**
 * Writes a bundle of what `revs` name: each a branch or a tag, which the bundle will hold, or "^REV": what that reaches is taken to be
 * there where the bundle goes. CMB_EINVAL: a REV that is neither, or nothing to name. The same image makes the same bytes. options, out_stats may be NULL.
 */
CMB_API int cmb_bundle_create(cmb_store *store, const char *const *revs, size_t rev_count, cmb_sync_write_fn write, void *ctx,
                              const cmb_bundle_options *options, cmb_sync_stats *out_stats);

/** A bundle that can be read twice. */
typedef struct cmb_bundle_source {
    cmb_sync_read_fn read;
    int (*rewind)(void *ctx); /* to its first byte */
    void *ctx;
} cmb_bundle_source;

/** What stands at the beginning of a bundle; lives during the callback. */
typedef struct cmb_bundle_head {
    cmb_hash_kind hash;
    uint32_t node_size;
    uint64_t seed;
    const cmb_name *needed;  /* commits that have to be there already */
    size_t needed_count;
    const cmb_pulled *refs;  /* name, tag, theirs */
    size_t ref_count;
    uint64_t commits;
} cmb_bundle_head;

/**
 * Reads all of a bundle and checks that it is whole and well-formed. With a store (else NULL): also that this image has its parameters
 * and what it needs, CMB_ENOTFOUND. Contents are compared with their names when it is applied. on_head may be NULL; it is called
 * after all was found right. Does not rewind.
 */
CMB_API int cmb_bundle_verify(cmb_store *store, const cmb_bundle_source *bundle, int (*on_head)(void *ctx, const cmb_bundle_head *head), void *ctx,
                              cmb_sync_stats *out_stats);

/**
 * Takes in a bundle, as cmb_pull takes what a peer has. It is verified as a whole first and then read again: a bundle that was cut or
 * changed by accident leaves every byte of the image as it was; a forged one leaves what the image holds as it was.
 */
CMB_API int cmb_bundle_apply(cmb_store *store, const cmb_bundle_source *bundle, const cmb_pull_options *options, cmb_sync_stats *out_stats);

#ifdef __cplusplus
}
#endif
#endif
