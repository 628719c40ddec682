/* SPDX-License-Identifier: ISC */
/*
 * store.h (private): branches, commits and transactions over trees in a log. The public face is
 * include/cambium/store.h.
 *
 * ---- one root record ----
 * The ROOT record holds the roots of three tables, trees of the same kind as content trees: refs ("heads/NAME",
 * "tags/NAME" -> packed state), the commit index (commit id -> address, length of its COMMIT record) and the reflog
 * (ref, zero byte, number of the unit -> commits before and after, time, reason; reflog.c). A superblock names one ROOT record. Each head unit ends in an EDITS record: its changes to the tables. Edits since the last
 * checkpoint wait in memory, over the trees (table.c); a checkpoint puts them into its ROOT record while they are few and folds them into the trees otherwise; recovery replays EDITS
 * records in order. So a small commit writes its path and some 200 bytes, and moving several branches is atomic.
 * Table nodes have a target of at least 4 KiB whatever the image's is: table values always lie in line.
 *
 * ---- a ref's state ----
 * {commit (id, address, length, generation), root of the commit, working root, tag object}, see cmb_state. Permanent commits clear
 * the working root; a working content that equals the commit's is no working state. Working states have no id. Whatever
 * names one (branch, tag) seals it first: the branch that holds it moves to a permanent commit in the same unit. That changes no
 * content, so it needs no writer lock: a transaction under way keeps its base, and its commit takes the sealed one as parent.
 * An annotated tag's state has its tag object as well (tag.h), beside the commit that this leads to.
 *
 * ---- edits before leaves ----
 * Working commits of small edits are logged as edits and merged into the tree later (intents.h): a branch's content is then its root
 * and a list of intents over it. cmb_ref_state and cmb_rev_resolve give states whose root is the content; cmb_ref_live and
 * cmb_rev_resolve_live do not merge for that, and are what snapshots and transactions begin with.
 *
 * ---- records ----
 * docs/format.md, "Store records". A COMMIT's id is the hash of its content; where things lie stands in a trailer that the id
 * does not cover.
 *
 * ---- large transactions ----
 * Edits gather in a sorted buffer. Ascending ones go straight through an editor into a stream of the transaction's own once there
 * are 8 MiB of them; others are spilled there as sorted runs (txn.c). At commit little is built in the head, inside the unit;
 * much in the stream, before the unit and without any lock (land.c).
 *
 * ---- locks ----
 * Every ref has a writer lock, held from txn_begin to queued and handed over in order; its state is read under the short
 * store->lock, so that opening a snapshot costs well under a microsecond. store->unit is held from cmb_log_begin until the memory
 * shows what was published: units appear in memory in the log's order. Durability is waited for with no lock held (group commit), and a
 * checkpoint is written with none. Readers in this process may see a commit a moment before it is durable, as in any
 * group commit; if its flush fails the store is read-only and says so.
 *
 * Lock order: writer locks (ascending by name for several) > store->unit > log append lock > store->lock > store->watches.lock.
 *
 * ---- watches ----
 * A unit that moves a watched ref leaves a note of it under store->lock, so that notes come in the order of units; whoever calls
 * cmb_watch_dispatch takes them, with no lock held while it compares contents and calls back (watch.h).
 */
#ifndef CMB_STORE_STORE_H
#define CMB_STORE_STORE_H

#include <cambium/store.h>

#include "btree/tree.h"
#include "log/log.h"

#endif
