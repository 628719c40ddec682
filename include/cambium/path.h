/* SPDX-License-Identifier: ISC */
/**
 * @file path.h
 * Keys with '/' as paths: what lies in a directory.
 *
 * A directory is whatever keys begin with its prefix: "a/b/" for the directory a/b, nothing for the root. Its children are
 * the distinct names up to the next '/' in those keys. Directories are nowhere stored: one comes with its first entry and
 * goes with its last. A name can be an entry and a directory at once: "a" and "a/b" may both be keys.
 *
 * Listing costs O(log n) a child, however much lies below it: subdirectories are stepped over.
 */
#ifndef CAMBIUM_PATH_H
#define CAMBIUM_PATH_H

#include <cambium/store.h>

#ifdef __cplusplus
extern "C" {
#endif

/** A listing in progress. Belongs to one thread at a time. */
typedef struct cmb_dir cmb_dir;

/** One child. `name` is valid until the next call on the listing. */
typedef struct cmb_dir_child {
    cmb_bytes name;      /* without the prefix and without '/'; may be empty: "a//b" has a child "" in "a/" */
    bool entry;          /* there is a key of exactly this path */
    bool directory;      /* there are keys below: prefix of its listing is this one's, the name and '/' */
    uint32_t value_size; /* bytes of the entry's value; 0 without */
    uint64_t below;      /* entries in the directory, at all depths; 0 without */
} cmb_dir_child;

/** `prefix`: any bytes, also of size 0; one that does not end in '/' lists what its last name can be completed to. Copied.
 *  CMB_EINVAL: longer than a key. */
CMB_API int cmb_dir_open(cmb_snapshot *snapshot, cmb_bytes prefix, cmb_dir **out_dir);
/** Over a transaction: sees its edits; after a write it goes on behind the last child. `below` costs O(log n) for each of
 *  its edits there. */
CMB_API int cmb_txn_dir_open(cmb_txn *txn, cmb_bytes prefix, cmb_dir **out_dir);
CMB_API void cmb_dir_close(cmb_dir *dir); /* before its snapshot or transaction; NULL is allowed */

/**
 * The next child, each one once, in the order of their keys: an entry stands at its name, a mere directory at its name and
 * '/', so that "a.b" comes before the directory "a", as in git's trees. CMB_ENOTFOUND: there are no more.
 */
CMB_API int cmb_dir_next(cmb_dir *dir, cmb_dir_child *out_child);
/**
 * Goes on with the first key that is not less than prefix and `name`. To skip a part, or to come back to where an earlier
 * listing ended: after an entry its name and a byte 0, after a mere directory its name and '0', the byte behind '/'.
 */
CMB_API int cmb_dir_seek(cmb_dir *dir, cmb_bytes name);

#ifdef __cplusplus
}
#endif
#endif
