/* SPDX-License-Identifier: ISC */
/**
 * @file merge.h
 * Three-way merges of branches; revert and cherry-pick, which are three-way merges as well.
 *
 * What only one side changed since the common ancestor is taken over. A key that both sides changed, and not alike, is
 * a *clash*: a merge function is asked what becomes of it. A clash that it does not settle is a *conflict*: then
 * nothing moves, and the merge comes back as a handle from which the conflicts can be read, resolved, and the merge be
 * finished.
 *
 * Common ancestors: all lowest ones count. Several (a criss-cross history) are merged with each other first, in the
 * order of their ids, with the same merge function; what stays in conflict there becomes a *disputed* value, which
 * differs from every value, also from another disputed one: so it is asked about again, unless the sides agree.
 * Unrelated histories have an empty ancestor.
 *
 * A working state that is named as a side is sealed into a permanent commit first; so is the working state of the
 * branch, unless there is nothing to merge.
 */
#ifndef CAMBIUM_MERGE_H
#define CAMBIUM_MERGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cambium/error.h>
#include <cambium/export.h>
#include <cambium/store.h>
#include <cambium/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------ clashes */

/** A key that both sides changed, and not alike. Belongs to the thread that got it; see where it comes from for how
 *  long it lives. */
typedef struct cmb_clash cmb_clash;

typedef enum cmb_clash_side {
    CMB_SIDE_BASE = 0,   /* the common ancestor */
    CMB_SIDE_THEIRS = 1, /* what is merged in */
    CMB_SIDE_MINE = 2,   /* the branch */
} cmb_clash_side;

typedef enum cmb_presence {
    CMB_ABSENT = 0,   /* no such key there; cmb_clash_size is 0 */
    CMB_PRESENT = 1,
    CMB_DISPUTED = 2, /* base only: the common ancestors are in conflict themselves. It cannot be read. */
} cmb_presence;

CMB_API cmb_bytes cmb_clash_key(const cmb_clash *clash);
CMB_API cmb_presence cmb_clash_presence(const cmb_clash *clash, cmb_clash_side side);
/** Bytes. */
CMB_API uint32_t cmb_clash_size(const cmb_clash *clash, cmb_clash_side side);
/** The whole value, valid as long as the clash; the sides do not disturb each other. CMB_ENOTFOUND unless it is
 *  present, CMB_ETOOBIG over 64 MiB. */
CMB_API int cmb_clash_value(cmb_clash *clash, cmb_clash_side side, cmb_bytes *out_value);
/** A value of any size. To be closed before the clash ends. CMB_ENOTFOUND unless it is present. */
CMB_API int cmb_clash_value_open(cmb_clash *clash, cmb_clash_side side, cmb_value_stream **out_stream);
/** Are common ancestors being merged, not the sides themselves? */
CMB_API bool cmb_clash_is_inner(const cmb_clash *clash);
/** Memory for an answer, of the store's allocator; stays until the next call of this with the same clash, or until
 *  the answer was taken. NULL: none left. */
CMB_API void *cmb_clash_memory(cmb_clash *clash, size_t size);

typedef enum cmb_answer {
    CMB_ANSWER_CONFLICT = 0, /* not for a merge function to decide */
    CMB_ANSWER_MINE = 1,     /* as it is on that side, its absence included */
    CMB_ANSWER_THEIRS = 2,
    CMB_ANSWER_VALUE = 3,    /* *out_value */
    CMB_ANSWER_DELETE = 4,
    CMB_ANSWER_KEEP = 5,     /* cmb_merging_resolve only: as it stands in cmb_merging_txn */
} cmb_answer;

/**
 * What becomes of this key? A cmb_answer, or a negative CMB_E…, which ends the merge: then the branch stays where it
 * was. Called in key order, in the thread that merges, with no lock but the branch's writing turn held. `clash` lives
 * during the call; what *out_value points to has to stay until the next call, or the end of the merge. Merges of common
 * ancestors ask first. It must not write to the branch. For one clash of one history it should always answer the same.
 */
typedef int (*cmb_merge_fn)(void *ctx, cmb_clash *clash, cmb_bytes *out_value);

/* ------------------------------------------------------------------ merge functions; all of them ignore ctx */

/** Every clash is a conflict. The same as NULL. */
CMB_API int cmb_merge_fail(void *ctx, cmb_clash *clash, cmb_bytes *out_value);
/** The branch's, or what is merged in, wins; a deletion too. Between common ancestors a clash stays a conflict. Peers
 *  that use these do not converge. */
CMB_API int cmb_merge_ours(void *ctx, cmb_clash *clash, cmb_bytes *out_value);
CMB_API int cmb_merge_theirs(void *ctx, cmb_clash *clash, cmb_bytes *out_value);
/**
 * Values are lines, ended by newlines. A line of the ancestor stays if neither side took it out; lines that a side put
 * in come after the line of the ancestor that they follow there. Where both put lines in, those that they share are
 * there once, between them the block comes first that is lower as bytes: so the sides may be swapped. The last line
 * ends in a newline if it does so on either side. An absent or disputed ancestor has no lines. A deletion against a
 * change, and values over 64 MiB or 2^20 lines, are conflicts.
 */
CMB_API int cmb_merge_union(void *ctx, cmb_clash *clash, cmb_bytes *out_value);
/** Values are counters (below). Of each slot the larger value wins; a counter that one side deleted and the other
 *  changed stays. Anything that is not a counter is a conflict. The sides may be swapped. */
CMB_API int cmb_merge_counter(void *ctx, cmb_clash *clash, cmb_bytes *out_value);
/**
 * Values are JSON. Objects are merged member by member, at any depth; whatever else both sides changed, and not alike,
 * is a conflict, and so is a deletion against a change, of a member or of all. An absent or disputed ancestor, and one
 * that is not an object where both sides have one, has no members. What does not differ from one side but in white
 * space, the order of members and escapes is that side, byte for byte (if that goes for both: the lower bytes); else
 * the result is compact, its members in the order of their bytes. Numbers are compared and kept as they are written: 1
 * and 1.0 differ, and no digit is ever lost. Malformed texts, an object with the same member twice, a NUL in a string
 * and values over 64 MiB are conflicts. The sides may be swapped. CMB_ENOTSUP: the library was built without JSON. Its
 * parser allocates with malloc.
 */
CMB_API int cmb_merge_json(void *ctx, cmb_clash *clash, cmb_bytes *out_value);

/**
 * Counters that merge without losing or repeating an increment, whatever the history: each replica (an image that is
 * written, or whoever increments independently) has a slot of its own, where it alone counts what it added and what it
 * took away; both only grow. A replica that continues as two (a copied image) needs a new name in one of them. A
 * counter must not be deleted in order to reset it: a replica that starts again in an old slot loses what it counts.
 *
 * The value is text, a line per replica in the order of their bytes: name, space, sum added, space, sum taken away,
 * newline. The sums are decimal, below 2^64, without leading zeros. No bytes: zero.
 */
#define CMB_COUNTER_REPLICA_MAX 64u /* bytes of a replica's name, at least 1; neither spaces nor control bytes */
#define CMB_COUNTER_SLOT_MAX (CMB_COUNTER_REPLICA_MAX + 43u) /* bytes that cmb_counter_add adds to a value, at most */
/** The counter `value` after `delta` in `replica`'s slot. *out_size bytes of `out`, which must not overlap `value`;
 *  CMB_ETOOBIG if `room` is less, or a sum would reach 2^64. CMB_ESYNTAX: value is not a counter. CMB_EINVAL: the name. */
CMB_API int cmb_counter_add(cmb_bytes value, const char *replica, int64_t delta, void *out, size_t room,
                            size_t *out_size);
/** CMB_ESYNTAX: not a counter. CMB_ETOOBIG: the total does not fit. */
CMB_API int cmb_counter_read(cmb_bytes value, int64_t *out_total);

/* ------------------------------------------------------------------ merging */

/** Beside the CMB_COMMIT_… in cmb_commit_info.flags. */
enum {
    CMB_MERGE_NO_FF = 1u << 8, /* a merge commit also where the branch could move forward; one without a commit moves */
    CMB_MERGE_FF_ONLY = 1u << 9, /* forward or nothing: CMB_MERGE_DIVERGED */
    /**
     * Two images that merge the same two commits make the same commit, byte for byte: parents in the order of their
     * ids, the time is the later one's, author and message are fixed (what info says is ignored), and the merge
     * function sees the commit with the lower id as MINE, whichever image it is asked in. If it answers the same for
     * the same clash, peers that keep exchanging end with equal heads.
     */
    CMB_MERGE_DETERMINISTIC = 1u << 10,
};
#define CMB_MERGE_SYNC_AUTHOR "cambium-sync"
#define CMB_MERGE_SYNC_MESSAGE "merge"

/** A merge that stands with conflicts. Belongs to one thread at a time; it holds no lock: others may write to the
 *  branch. */
typedef struct cmb_merging cmb_merging;

typedef enum cmb_merge_kind {
    CMB_MERGE_UP_TO_DATE = 0,   /* the branch had it all: it did not move */
    CMB_MERGE_FAST_FORWARD = 1, /* the branch moved forward to the commit that was named */
    CMB_MERGE_MERGED = 2,       /* a new commit */
    CMB_MERGE_CONFLICTS = 3,    /* nothing moved; see `open` */
    CMB_MERGE_DIVERGED = 4,     /* nothing moved: CMB_MERGE_FF_ONLY, and it is not; or common ancestors may lie below the end of
                                 * a shallow history, so that nobody can say who changed what */
} cmb_merge_kind;

typedef struct cmb_merge_result {
    cmb_merge_kind kind;
    cmb_rev rev;       /* what the branch stands on */
    uint64_t clashes;  /* keys that the merge function was asked about, common ancestors apart */
    cmb_merging *open; /* CONFLICTS: to be finished or aborted. Else NULL. */
} cmb_merge_result;

/**
 * Merges `rev` into `branch`: a commit with two parents, the branch's first. Holds the branch's writing turn while it
 * runs (CMB_EBUSY: this thread holds it already). fn NULL: every clash is a conflict. info NULL: no author, no message.
 * On any error the branch has not moved, but for CMB_EUNKNOWN. Space that the result takes is like a transaction's of
 * the same changes.
 */
CMB_API int cmb_merge(cmb_store *store, const char *branch, const char *rev, cmb_merge_fn fn, void *ctx,
                      const cmb_commit_info *info, cmb_merge_result *out_result);

/**
 * Undoes on `branch` what `rev` changed against its parent: base is the commit, theirs its parent. mainline says which
 * parent, from 1; 0 if there is but one, or none (then the parent is empty). CMB_EINVAL: a merge without mainline, or
 * no such parent. Without a message in info: "Revert …". UP_TO_DATE: there is nothing to undo any more.
 */
CMB_API int cmb_revert(cmb_store *store, const char *branch, const char *rev, unsigned mainline, cmb_merge_fn fn,
                       void *ctx, const cmb_commit_info *info, cmb_merge_result *out_result);
/** Does on `branch` what `rev` changed against its parent. Author, message and headers (not those of git.h, "git.…") that info does not give are
 *  the commit's. */
CMB_API int cmb_cherry_pick(cmb_store *store, const char *branch, const char *rev, unsigned mainline, cmb_merge_fn fn,
                            void *ctx, const cmb_commit_info *info, cmb_merge_result *out_result);

/* ------------------------------------------------------------------ conflicts */

/**
 * Conflicts in key order, from 0. Memory: the keys and 24 bytes each; values are looked up when asked for. Conflicts
 * that would take more memory than a transaction's edits may (cmb_store_options.txn_memory) end the merge with
 * CMB_ETOOBIG.
 */
CMB_API size_t cmb_merging_count(const cmb_merging *merging);
CMB_API size_t cmb_merging_unresolved(const cmb_merging *merging);
/** The i-th. The clash lives until the next call with this merging. out_resolved may be NULL. */
CMB_API int cmb_merging_conflict(cmb_merging *merging, size_t i, cmb_clash **out_clash, bool *out_resolved);
/** What becomes of a key in conflict: any answer but CONFLICT; a later one counts. `value` (copied) with VALUE only.
 *  CMB_ENOTFOUND: it is not in conflict. */
CMB_API int cmb_merging_resolve(cmb_merging *merging, cmb_bytes key, cmb_answer answer, cmb_bytes value);
/** The merged content so far, keys in conflict standing as on either side: to be read, and to be written (values as
 *  streams, say): what is written becomes part of the merge. NULL after cmb_merging_finish failed for good. Not to be
 *  committed or aborted; cursors over it have to be closed before the merge is finished. */
CMB_API cmb_txn *cmb_merging_txn(cmb_merging *merging);
/**
 * All conflicts are resolved (else CMB_EINVAL): makes the commit that the merge would have made, and merging is gone.
 * info as before. After an error it is still there, to be aborted, or to be finished after all where nothing was lost:
 * CMB_EINVAL, CMB_ENOSPC, CMB_ENOMEM, CMB_ECONFLICT (the branch has moved meanwhile), CMB_ENOTFOUND (it was deleted),
 * CMB_EBUSY (this thread holds its writing turn). After any other one it answers CMB_EINVAL.
 */
CMB_API int cmb_merging_finish(cmb_merging *merging, const cmb_commit_info *info, cmb_rev *out_rev);
CMB_API void cmb_merging_abort(cmb_merging *merging); /* NULL is allowed */

#ifdef __cplusplus
}
#endif
#endif
