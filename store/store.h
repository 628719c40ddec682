/* SPDX-License-Identifier: ISC */
/*
 * store.h (private): branches, commits and transactions over trees in a log. The public face is
 * include/cambium/store.h.
 *
 * ---- one root record ----
 * The ROOT record holds the roots of three trees of the same kind as content trees (node target of the image, no out-of-line
 * values): refs ("heads/NAME", "tags/NAME" -> packed state), commits (commit id -> address, length of its COMMIT
 * record) and the reflog (branch NUL big-endian sequence -> old and new commit, time, message). A superblock names one ROOT record.
 * Each head unit ends in an EDITS record: changes to the three tables since. Recent edits live in memory (sorted, over the
 * tables: the same view as everywhere) and are folded into the trees at checkpoints; recovery replays
 * EDITS records in order. So a small commit writes its path and some 200 bytes, and moving several branches is atomic.
 *
 * ---- a branch's state ----
 * {commit (name, address, length; or none), working root (or none), cached root of the commit}. Permanent commits clear the working root.
 * Working states have no id. Whatever names one (branch, tag) seals it first.
 *
 * ---- a COMMIT record ----
 * Content (named): version, root name, level, count, out-of-line bit, generation, time, parents' ids in order, author, message, and a list of
 * extra (key, value) headers, none yet. Trailer (not named, covered by the record's check seeded with its address): root's address
 * and length, parents' addresses and lengths. id = hash of the content.
 *
 * ---- locks ----
 * A branch object per name (created on demand, in a hash table): its writer lock is held from txn_begin to queued; its state is
 * read under a short store mutex, so that opening a snapshot costs well under a microsecond. Building the new tree and publishing
 * hold the log's append lock (cmb_log_begin .. publish). Durability is waited for with no lock held (group commit). The in-memory
 * ref state moves when the unit is queued; readers in this process may see a commit a moment before it is durable, as in any group
 * commit; if its flush fails the store is read-only and says so.
 *
 * Lock order: branch writer locks (ascending by name for several) > log append lock > store mutex.
 */
#ifndef CMB_STORE_STORE_H
#define CMB_STORE_STORE_H

#include <cambium/store.h>

#include "btree/tree.h"
#include "log/log.h"

#endif
