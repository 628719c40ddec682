/* SPDX-License-Identifier: ISC */
/*
 * intake.h: history that comes from outside (a git stream, a bundle, another image): trees and commits are written to a stream
 * of their own, where nobody sees them, and become visible all at once together with the refs that name them. Until then a
 * crash, an error or cmb_intake_abort leaves the image as it was; what was written is free space again.
 *
 * A few commits go into the index as a transaction's do, by the unit's EDITS record. More of them are folded into the index's tree
 * in the stream, before the unit and without a lock, and the unit ends in a checkpoint of the tables: its size does not depend on
 * how many there are. Others that commit wait while that checkpoint is written.
 *
 * Memory: 64 bytes and a name's for each new commit (some 80; 96 with names of 32 bytes), 350 for each ref, and the stream's 5 MiB.
 *
 * One thread. Commits that the image has already are recognised by id and not written again.
 */
#ifndef CMB_STORE_INTAKE_H
#define CMB_STORE_INTAKE_H

#include "store/internal.h"
#include "store/tag.h"

typedef struct cmb_intake cmb_intake;

/* CMB_EREADONLY. */
int cmb_intake_open(cmb_store *store, cmb_intake **out_intake);
/* Where nodes and values go: for cmb_editor_open, cmb_value_write. What is appended can be read at once. Ask for each commit, after
 * what it starts from was looked up: the stream then lies above all that is in the image by now, however long it is open. */
cmb_appender *cmb_intake_appender(cmb_intake *intake);
/* The place of a commit, new or old, by id; CMB_ENOTFOUND without a detail. */
int cmb_intake_find(cmb_intake *intake, const cmb_name *id, cmb_commit_at *out_at);
/* Writes a commit, whose parents and root are in the image or the intake, or finds it. CMB_EINVAL: too much in it. After CMB_EINVAL and
 * CMB_ENOMEM the intake is as it was. */
int cmb_intake_commit(cmb_intake *intake, const cmb_commit_draft *draft, cmb_commit_at *out_at);
/* At publish the ref ("heads/NAME", "tags/NAME") is to stand on this commit (NULL: to be deleted). expected: where it has to stand then,
 * with no working state above; a commit id of size 0 for a ref that must not exist or stand on nothing at all, as a new image's "main";
 * NULL: wherever. A later call for the same ref replaces the earlier. CMB_EINVAL: no name for a ref. */
int cmb_intake_ref(cmb_intake *intake, const char *full_name, const cmb_name *expected, const cmb_commit_at *at, cmb_reflog_reason reason);
/* Writes a tag object (tag.h), whose target is in the image or the intake. CMB_EINVAL: too much in it. */
int cmb_intake_tag(cmb_intake *intake, const cmb_tag_draft *draft, cmb_commit_at *out_at);
/* As cmb_intake_ref, for a tag that is to stand on this tag object. expected: a commit, as there. */
int cmb_intake_tag_ref(cmb_intake *intake, const char *full_name, const cmb_name *expected, const cmb_commit_at *tag, cmb_reflog_reason reason);
/* Everything visible and durable in one unit; nothing is written if nothing changes. Waits for the writing transactions of the branches
 * that move. CMB_ECONFLICT: a ref stands elsewhere than expected, or one of the commits has come into the image by another way meanwhile, another
 * intake for one: the same once more finds it; CMB_EBUSY: this thread has a transaction on one; then, and after
 * CMB_ENOSPC and CMB_ENOMEM, nothing has changed. The intake is over in any case. */
int cmb_intake_publish(cmb_intake *intake);
void cmb_intake_abort(cmb_intake *intake); /* NULL allowed */

#endif
