/* SPDX-License-Identifier: ISC */
/**
 * @file diff.h
 * What changed between two states, key by key.
 *
 * Both contents are walked together and what has the same name in both is passed over, whole subtrees at a time: the cost is
 * O(changes * log n), not O(n), for any two states of an image, whether or not they have a common past.
 */
#ifndef CAMBIUM_DIFF_H
#define CAMBIUM_DIFF_H

#include <cambium/store.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum cmb_change_kind {
    CMB_CHANGE_ADDED = 1,
    CMB_CHANGE_DELETED = 2,
    CMB_CHANGE_MODIFIED = 3, /* another value */
} cmb_change_kind;

/** One side of a change. */
typedef struct cmb_change_value {
    uint32_t size;     /* bytes; 0 where the key does not exist */
    bool large;        /* lies out of line: `bytes` is empty, open a stream */
    cmb_bytes bytes;   /* all of it otherwise */
} cmb_change_value;

/** Valid during the callback, all that it points to as well. */
typedef struct cmb_change {
    cmb_change_kind kind;
    cmb_bytes key;
    cmb_change_value before, after;
} cmb_change;

/** Non-zero stops: the diff then returns CMB_ESTOPPED. */
typedef int (*cmb_change_fn)(void *ctx, const cmb_change *change);

/**
 * Calls fn for every key in which the two differ, in key order. range: as a cursor's; NULL: everything. Both snapshots are
 * of one store, else CMB_EINVAL; neither is changed, so other threads may use them meanwhile. Two large values are equal if
 * their names are.
 */
CMB_API int cmb_diff(cmb_snapshot *before, cmb_snapshot *after, const cmb_range *range, cmb_change_fn fn, void *ctx);

/** The value before or after, of any size; the stream may outlive the callback. CMB_ENOTFOUND: there was, or is, none. */
CMB_API int cmb_change_open_before(const cmb_change *change, cmb_value_stream **out_stream);
CMB_API int cmb_change_open_after(const cmb_change *change, cmb_value_stream **out_stream);

#ifdef __cplusplus
}
#endif
#endif
