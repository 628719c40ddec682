/* SPDX-License-Identifier: ISC */
/**
 * @file history.h
 * Questions about history: which commits lead to a state, which of them changed a key, what two states have in common.
 *
 * Commits only: where a REV is a working state, its history begins at the permanent commit below it. Walks go by generation numbers
 * and read no more of a history than the answer needs. A history that was fetched to some depth only (sync.h) ends where it was cut.
 *
 * CMB_ENOTFOUND: no such REV, or it has no commit yet. CMB_ECORRUPT also for forged histories, in which a parent is not of a lower
 * generation than its child.
 */
#ifndef CAMBIUM_HISTORY_H
#define CAMBIUM_HISTORY_H

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

/* ------------------------------------------------------------------ logs */

/** In both orders no commit comes before one that it is an ancestor of. */
typedef enum cmb_history_order {
    CMB_HISTORY_DATE = 0, /* otherwise the newest first, by the commits' times */
    CMB_HISTORY_TOPO = 1, /* otherwise line by line: the commits of a merged side come together, the last parent's first */
} cmb_history_order;

/** Zero-initialise. */
typedef struct cmb_history_options {
    const char *const *revs;     /* these and their ancestors, at least one */
    size_t rev_count;
    const char *const *excluded; /* but neither these nor their ancestors */
    size_t excluded_count;
    cmb_history_order order;
    bool first_parent;           /* of a merge only its first parent is followed (exclusion goes by all of them) */
    uint64_t limit;              /* so many commits at most; 0: all */
    const cmb_range *ranges;     /* only what changed something here; see below */
    size_t range_count;          /* 0: all commits */
} cmb_history_options;

/**
 * Calls fn for commits, which live during the call. Non-zero stops: CMB_ESTOPPED.
 *
 * With ranges: two commits are *alike* if no key of any of the ranges has different values in them. A commit is passed over if it is
 * like one of its parents, and then only the first such parent is followed: this gives a shortest history that explains
 * the content, as `git log -- PATH` does. A commit that is unlike all its parents is told of, and all of them are followed; one
 * without parents, if it has a key there. Excluded parents: one that is not itself named in `excluded` cannot make a commit be
 * passed over, unless all parents are such and the commit is like all of them. With first_parent only that parent is looked at.
 *
 * The cost of comparing two commits is that of their diff in the ranges up to the first difference: whatever has the same name on both sides
 * is passed over. Memory: some 250 bytes for each commit that is known and not told of yet (the width of the history; in topological
 * order the length of sides that wait), and for each excluded commit that was passed.
 */
CMB_API int cmb_history(cmb_store *store, const cmb_history_options *options, int (*fn)(void *ctx, const cmb_commit *commit), void *ctx);

/* ------------------------------------------------------------------ who changed it last */

/**
 * The commit that gave `key` the value it has at rev, or that deleted it: from rev downwards the first that is unlike all its
 * parents there, following the first parent that it is like, as cmb_history. CMB_ENOTFOUND: the key never was there. CMB_EWORKING: the working state
 * at rev changed it. Compares names along the way to the key: one node or two a commit, and no values but the last.
 */
CMB_API int cmb_last_modified(cmb_store *store, const char *rev, cmb_bytes key, cmb_name *out_commit);

/** A key of the content at rev and the commit that changed it last; size 0: the working state did. Valid during the call. */
typedef int (*cmb_last_modified_fn)(void *ctx, cmb_bytes key, const cmb_name *commit);
/** The same for all keys of a range that rev has, in key order, in one walk; range NULL: all. Non-zero from fn stops: CMB_ESTOPPED.
 *  Memory: the keys, and some 30 bytes more of each. */
CMB_API int cmb_last_modified_each(cmb_store *store, const char *rev, const cmb_range *range, cmb_last_modified_fn fn, void *ctx);

/* ------------------------------------------------------------------ common ancestors */

/** Is the commit at `ancestor` the one at `rev` or an ancestor of it? */
CMB_API int cmb_is_ancestor(cmb_store *store, const char *ancestor, const char *rev, bool *out_yes);
/** A lowest common ancestor; of several the one with the highest generation, then the lowest id. CMB_ENOTFOUND: unrelated histories. */
CMB_API int cmb_merge_base(cmb_store *store, const char *a, const char *b, cmb_name *out_base);
/** All of them, in that order; none for unrelated histories. Non-zero from fn stops: CMB_ESTOPPED. */
CMB_API int cmb_merge_bases(cmb_store *store, const char *a, const char *b, int (*fn)(void *ctx, const cmb_name *base), void *ctx);

#ifdef __cplusplus
}
#endif
#endif
