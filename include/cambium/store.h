/* SPDX-License-Identifier: ISC */
/**
 * @file store.h
 * The branchable store: branches, tags, commits, snapshots, transactions, cursors.
 *
 * Threads: a cmb_store may be used by any number of threads at once. Every other handle (snapshot,
 * transaction, cursor, value stream) belongs to one thread at a time; they are cheap: one each.
 *
 * Lifetimes: a key or value returned by a handle stays valid until the next call on that same handle
 * (snapshot, transaction or cursor), and may be passed as an argument to that very call. Handles are
 * closed before the store.
 *
 * Durability: unless a call says otherwise, what changes the image is durable when it returns 0.
 * CMB_EUNKNOWN says that the device failed on the way: the change may or may not be there after the
 * next open, and the store is read-only from then on.
 *
 * REV, wherever a revision is asked for: a branch ("main": its newest state, working state included),
 * a tag, "heads/NAME" or "tags/NAME", a commit id or a unique prefix of at least 4 hexadecimal
 * digits; then any number of "~n" (n-th first parent), "^n" (n-th parent), "^" ("^1"). Over a working
 * state "~1" is the permanent commit below it. "^{root}" at the end names the content.
 */
#ifndef CAMBIUM_STORE_H
#define CAMBIUM_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cambium/device.h>
#include <cambium/error.h>
#include <cambium/export.h>
#include <cambium/types.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cmb_store cmb_store;
typedef struct cmb_snapshot cmb_snapshot;
typedef struct cmb_txn cmb_txn;
typedef struct cmb_cursor cmb_cursor;
typedef struct cmb_value_stream cmb_value_stream;

/** The version this header is of, and the version of the library that is running. */
#define CMB_VERSION_STRING "0.1.0"
CMB_API const char *cmb_version(void);

/* ------------------------------------------------------------------ images */

/** How an image is made. Zero-initialise; zero means the default. */
typedef struct cmb_init_options {
    uint64_t size;          /* bytes; 0: a file grows, a block device is used whole */
    uint32_t node_size;     /* target bytes of a node, power of two, 256 .. 65536; 0: 4096 */
    cmb_hash_kind hash;     /* 0: CMB_HASH_XXH3 */
    uint64_t seed;          /* of the boundary rule; images with equal seed, node size and hash compare by root */
    bool force;             /* overwrite an existing image or file */
    uint32_t segment_size;  /* bytes, power of two, 2 MiB .. 64 MiB; 0: chosen by size */
} cmb_init_options;

typedef enum cmb_residency_mode {
    CMB_RESIDENT_AUTO = 0, /* the mapping where the device maps, else the pool */
    CMB_RESIDENT_MAP = 1,  /* the device's mapping: a media error is SIGBUS, at the first reading and later */
    CMB_RESIDENT_POOL = 2, /* the engine's own memory, bounded by pool_size */
} cmb_residency_mode;

typedef struct cmb_store_options {
    cmb_allocator alloc;
    cmb_env env;
    bool read_only;          /* beside a live writer: sees the last durable commit as of open */
    bool create;             /* make the image if the file does not exist */
    bool allow_no_durability;/* open a device that cannot flush; cmb_store_is_durable() then says no */
    cmb_residency_mode residency;
    size_t pool_size;        /* bytes; 0: 256 MiB */
    size_t txn_memory;       /* bytes of edits that one transaction keeps in memory before it spills; 0: 64 MiB */
    const cmb_init_options *init; /* for create; NULL: defaults */
    size_t watch_notes;      /* kept for lossless watches of a branch (watch.h); 0: CMB_WATCH_NOTES */
    /* There is something to dispatch (watch.h): called by the committing thread, once until the next cmb_watch_dispatch. To wake an
     * event loop and for nothing else: it calls nothing of the library and waits for nobody who does. May be NULL. */
    void (*watch_ready)(void *ctx);
    void *watch_ctx;
} cmb_store_options;

/** Makes an image on the device called `name` (device.h). CMB_EEXIST without force. `options` may be NULL. The
 *  branch "main" exists afterwards and is empty. */
CMB_API int cmb_store_init(const char *name, const cmb_init_options *init, const cmb_store_options *options);
/** The same on a device that is open; the device stays the caller's. */
CMB_API int cmb_store_init_device(cmb_device *dev, const cmb_init_options *init, const cmb_store_options *options);

CMB_API int cmb_store_open(const char *name, const cmb_store_options *options, cmb_store **out_store);
/** The device stays the caller's and must outlive the store. */
CMB_API int cmb_store_open_device(cmb_device *dev, const cmb_store_options *options, cmb_store **out_store);
/** All handles must be closed. Seals the log. Frees in any case; the error is the seal's. NULL is allowed. */
CMB_API int cmb_store_close(cmb_store *store);
/** Waits until everything queued (CMB_COMMIT_ASYNC) is durable. */
CMB_API int cmb_store_sync(cmb_store *store);
/** Does a flush of this store's device make writes durable? */
CMB_API bool cmb_store_is_durable(const cmb_store *store);

typedef struct cmb_store_info {
    uint8_t uuid[16];
    cmb_hash_kind hash;
    uint32_t node_size;     /* bytes */
    uint64_t seed;
    uint64_t size;          /* bytes of the image now */
    uint64_t fixed_size;    /* bytes; 0: it grows */
    uint64_t segment_size;  /* bytes */
    cmb_residency_mode residency;
    const char *device;     /* one line about the device, lives with the store */
} cmb_store_info;
CMB_API void cmb_store_get_info(const cmb_store *store, cmb_store_info *out_info);

/** What the command line calls it: "xxh3", "sha256". NULL: there is no such kind; they are numbered from 1 without gaps. Static. */
CMB_API const char *cmb_hash_kind_name(cmb_hash_kind kind);

/* ------------------------------------------------------------------ refs and commits */

/** What a REV stands for. */
typedef struct cmb_rev {
    cmb_name commit;   /* size 0: none (an empty branch, or a working state) */
    cmb_name base;     /* working state: the permanent commit below it (size 0: none) */
    cmb_name root;     /* name of the content */
    uint64_t entries;  /* in the content */
    bool working;      /* a branch's working state */
} cmb_rev;
/** CMB_ENOTFOUND, CMB_EAMBIGUOUS (the detail lists candidates), CMB_ESYNTAX. */
CMB_API int cmb_rev_parse(cmb_store *store, const char *rev, cmb_rev *out_rev);

typedef struct cmb_ref {
    const char *name;  /* without "heads/" or "tags/" */
    bool tag;
    cmb_rev at;
    cmb_name object;   /* an annotated tag's: id of its tag object (tag.h); else size 0 */
} cmb_ref;
/** Return non-zero to stop; the listing call then returns CMB_ESTOPPED. */
typedef int (*cmb_ref_fn)(void *ctx, const cmb_ref *ref);

/** Names as git's rules for refs (git-check-ref-format), 1..255 bytes of UTF-8 or other non-control bytes. 0 or CMB_EINVAL with the rule broken. */
CMB_API int cmb_ref_name_check(const char *name);
/** rev NULL: an empty branch. CMB_EEXIST. A working state that is named is sealed into a permanent commit first. */
CMB_API int cmb_branch_create(cmb_store *store, const char *name, const char *rev);
CMB_API int cmb_branch_delete(cmb_store *store, const char *name);
/** Moves an existing branch to rev whatever it stood on. */
CMB_API int cmb_branch_set(cmb_store *store, const char *name, const char *rev);
/** The same if it still stands on `expected` (commit, or working state's root); else CMB_ECONFLICT. */
CMB_API int cmb_branch_compare_and_set(cmb_store *store, const char *name, const cmb_rev *expected, const char *rev);
CMB_API int cmb_branch_list(cmb_store *store, cmb_ref_fn fn, void *ctx);
CMB_API int cmb_tag_create(cmb_store *store, const char *name, const char *rev);
CMB_API int cmb_tag_set(cmb_store *store, const char *name, const char *rev);
CMB_API int cmb_tag_delete(cmb_store *store, const char *name);
CMB_API int cmb_tag_list(cmb_store *store, cmb_ref_fn fn, void *ctx);

#define CMB_HEADER_NAME_MAX 64u
#define CMB_COMMIT_TEXT_MAX (1u << 20)  /* bytes of author, message and headers (their names, and 5 more each) together */
#define CMB_COMMIT_PARENTS_MAX 4096u
/** What else is known of a commit or an annotated tag; its id covers it. The meaning is the user's. Names may repeat; the order is kept. */
typedef struct cmb_commit_header {
    const char *name; /* 1 .. CMB_HEADER_NAME_MAX of a-z, 0-9, '.' and '-' */
    cmb_bytes value;  /* any bytes; of one that was read, a zero byte follows */
} cmb_commit_header;

/** Who and why. Strings are UTF-8 by custom, any bytes without NUL in fact; NULL is empty. */
typedef struct cmb_commit_info {
    const char *author;   /* "ada" or "Ada <ada@example.org>" */
    const char *message;
    int64_t time;         /* microseconds since 1970-01-01 UTC; 0: now */
    uint32_t flags;       /* CMB_COMMIT_… */
    const cmb_commit_header *headers;
    size_t header_count;
} cmb_commit_info;
enum {
    CMB_COMMIT_ASYNC = 1u << 0, /* return when queued; cmb_store_sync or a later durable call makes it durable */
    CMB_COMMIT_EMPTY = 1u << 1, /* make a commit even if the content is its parent's; otherwise nothing is written and the parent's id comes back */
};

/** A permanent commit, read. Valid during the callback or until cmb_commit_free. */
typedef struct cmb_commit {
    cmb_name id, root;
    uint64_t entries;
    uint64_t generation;     /* 1 + the highest of the parents', 1 without parents */
    const cmb_name *parents; /* in order */
    size_t parent_count;
    int64_t time;            /* microseconds since 1970-01-01 UTC */
    const char *author, *message; /* zero-terminated; never NULL */
    const cmb_commit_header *headers;
    size_t header_count;
} cmb_commit;
/** Working states give CMB_EWORKING. Free with cmb_commit_free. */
CMB_API int cmb_commit_read(cmb_store *store, const char *rev, cmb_commit **out_commit);
CMB_API void cmb_commit_free(cmb_commit *commit);
/** First parents from rev downwards (a working state starts at the commit below it). Non-zero from fn stops: CMB_ESTOPPED. */
CMB_API int cmb_log_first_parents(cmb_store *store, const char *rev, int (*fn)(void *ctx, const cmb_commit *commit), void *ctx);

/** Why a ref moved. */
typedef enum cmb_reflog_reason {
    CMB_REFLOG_CREATED = 1,
    CMB_REFLOG_COMMITTED = 2, /* a transaction's permanent commit */
    CMB_REFLOG_SET = 3,       /* cmb_branch_set, cmb_branch_compare_and_set, cmb_tag_set */
    CMB_REFLOG_DELETED = 4,
    CMB_REFLOG_SEALED = 5,    /* its working state was named, and so became a commit */
    CMB_REFLOG_MERGED = 6,    /* a merge, or moved forward by one */
} cmb_reflog_reason;
typedef struct cmb_reflog_entry {
    cmb_name before, after; /* commits; size 0: none; equal where an annotated tag changed its object only */
    int64_t time;           /* microseconds since 1970-01-01 UTC */
    cmb_reflog_reason reason;
} cmb_reflog_entry;
#define CMB_REFLOG_MAX 1000u /* newest entries that are kept of a ref; older ones go at checkpoints */
/**
 * Where a branch ("NAME" or "heads/NAME") or a tag ("tags/NAME") stood, newest first, also after it was deleted. Working
 * states leave no trace. CMB_ENOTFOUND: there never was one. Non-zero from fn stops: CMB_ESTOPPED.
 */
CMB_API int cmb_reflog(cmb_store *store, const char *ref, int (*fn)(void *ctx, const cmb_reflog_entry *entry), void *ctx);

/* ------------------------------------------------------------------ reading */

/** A view of one state, for ever the same. Takes no lock that a writer waits for, needs no flush. */
CMB_API int cmb_snapshot_open(cmb_store *store, const char *rev, cmb_snapshot **out_snapshot);
CMB_API void cmb_snapshot_close(cmb_snapshot *snapshot); /* NULL is allowed */
/** What it is a view of. Merges edits that were logged and not merged yet, for the name of the content: may fail as a commit may. */
CMB_API int cmb_snapshot_rev(cmb_snapshot *snapshot, cmb_rev *out_rev);

/** CMB_ENOTFOUND. A value over 64 MiB gives CMB_ETOOBIG: read it as a stream. */
CMB_API int cmb_get(cmb_snapshot *snapshot, cmb_bytes key, cmb_bytes *out_value);
/** n keys at once, interleaved: several times faster than one by one. out_results[i] is what cmb_get would
 *  return; all values stay valid until the next call on the snapshot. Returns 0, or an error that concerns all. */
CMB_API int cmb_get_many(cmb_snapshot *snapshot, const cmb_bytes *keys, size_t n, cmb_bytes *out_values, int *out_results);
/** Entries with from <= key < to; NULL: open. O(log n). */
CMB_API int cmb_count(cmb_snapshot *snapshot, const cmb_bytes *from, const cmb_bytes *to, uint64_t *out_count);

/** What a cursor is confined to. Zero-initialised: everything. Copied at open. */
typedef struct cmb_range {
    cmb_bytes from;   /* inclusive; size 0: open */
    cmb_bytes to;     /* exclusive; size 0: open */
    cmb_bytes prefix; /* and all of it begins so; size 0: any */
} cmb_range;
CMB_API int cmb_cursor_open(cmb_snapshot *snapshot, const cmb_range *range, cmb_cursor **out_cursor); /* range may be NULL */
/** Over a transaction: sees its edits; after a write it goes on by key. */
CMB_API int cmb_txn_cursor_open(cmb_txn *txn, const cmb_range *range, cmb_cursor **out_cursor);
CMB_API void cmb_cursor_close(cmb_cursor *cursor); /* before its snapshot or transaction; NULL is allowed */
/** Each returns 0 and stands on an entry, or CMB_ENOTFOUND and stands beyond that end (the opposite move comes back in).
 *  A new cursor stands before the first: next is first. */
CMB_API int cmb_cursor_first(cmb_cursor *cursor);
CMB_API int cmb_cursor_last(cmb_cursor *cursor);
CMB_API int cmb_cursor_next(cmb_cursor *cursor);
CMB_API int cmb_cursor_prev(cmb_cursor *cursor);
CMB_API int cmb_cursor_seek(cmb_cursor *cursor, cmb_bytes key);      /* first entry >= key */
CMB_API int cmb_cursor_seek_last(cmb_cursor *cursor, cmb_bytes key); /* last entry <= key */
CMB_API int cmb_cursor_seek_exact(cmb_cursor *cursor, cmb_bytes key);/* that key, else CMB_ENOTFOUND and not moved */
CMB_API int cmb_cursor_seek_nth(cmb_cursor *cursor, uint64_t n);     /* the n-th entry of the range from 0; O(log n) */
/** Of the current entry; CMB_ENOTFOUND if there is none. Key and value stay valid until the cursor moves or is
 *  closed, over a transaction until its next write as well. */
CMB_API int cmb_cursor_key(cmb_cursor *cursor, cmb_bytes *out_key);
CMB_API int cmb_cursor_value(cmb_cursor *cursor, cmb_bytes *out_value); /* CMB_ETOOBIG over 64 MiB */
CMB_API int cmb_cursor_value_size(cmb_cursor *cursor, uint32_t *out_size);

/** Reads a value of any size piece by piece. `size` bytes at most; fewer at the end, 0 past it. */
CMB_API int cmb_value_open(cmb_snapshot *snapshot, cmb_bytes key, cmb_value_stream **out_stream);
CMB_API int cmb_cursor_value_open(cmb_cursor *cursor, cmb_value_stream **out_stream);
CMB_API uint32_t cmb_value_size(const cmb_value_stream *stream);
CMB_API int cmb_value_read(cmb_value_stream *stream, uint64_t offset, void *out_buffer, size_t size, size_t *out_read);
CMB_API void cmb_value_close(cmb_value_stream *stream); /* NULL is allowed */

/* ------------------------------------------------------------------ writing */

enum {
    CMB_TXN_NOWAIT = 1u << 0, /* CMB_EBUSY at once if the branch has a writing transaction */
};
/** One writing transaction per branch: others wait for memory only, never for a flush. A thread that holds one on a branch and
 *  begins another on the same branch gets CMB_EBUSY. CMB_ENOTFOUND: no such branch. */
CMB_API int cmb_txn_begin(cmb_store *store, const char *branch, uint32_t flags, cmb_txn **out_txn);
/** Starts from any state and holds nothing; lands by cmb_txn_land. The snapshot may be closed meanwhile. */
CMB_API int cmb_txn_begin_detached(cmb_snapshot *snapshot, cmb_txn **out_txn);
CMB_API int cmb_txn_put(cmb_txn *txn, cmb_bytes key, cmb_bytes value);
CMB_API int cmb_txn_del(cmb_txn *txn, cmb_bytes key); /* CMB_ENOTFOUND: it was not there */
CMB_API int cmb_txn_get(cmb_txn *txn, cmb_bytes key, cmb_bytes *out_value);
CMB_API int cmb_txn_value_open(cmb_txn *txn, cmb_bytes key, cmb_value_stream **out_stream); /* to read */
/** A value written piece by piece; it appears at finish. One at a time per transaction. */
CMB_API int cmb_txn_value_begin(cmb_txn *txn, cmb_bytes key);
CMB_API int cmb_txn_value_add(cmb_txn *txn, const void *data, size_t size);
CMB_API int cmb_txn_value_finish(cmb_txn *txn);
CMB_API void cmb_txn_value_abort(cmb_txn *txn);
/**
 * Ends the transaction. With an author, a message or a header: a permanent commit on the branch. info NULL, or none of them: the branch's
 * working state advances: durable, no history. out_rev (may be NULL) gets the new state; asking for it costs
 * a small working commit the writing of its path in the tree, which is otherwise put off: its edits alone are logged. On CMB_ENOSPC,
 * CMB_ENOMEM, CMB_EINVAL nothing has changed and the transaction is still open; after any other error it is gone.
 * Cursors over it must be closed. Nothing changed: nothing is written.
 */
CMB_API int cmb_txn_commit(cmb_txn *txn, const cmb_commit_info *info, cmb_rev *out_rev);
/** Several branches' transactions become visible and durable together or not at all. infos: n of them or NULL. */
CMB_API int cmb_txn_commit_many(cmb_txn *const *txns, size_t n, const cmb_commit_info *infos, cmb_rev *out_revs);
/** A detached transaction onto a branch that still stands where it started, else CMB_ECONFLICT (the transaction stays open). */
CMB_API int cmb_txn_land(cmb_txn *txn, const char *branch, const cmb_commit_info *info, cmb_rev *out_rev);
CMB_API void cmb_txn_abort(cmb_txn *txn); /* NULL is allowed */

#ifdef __cplusplus
}
#endif
#endif
