/* SPDX-License-Identifier: ISC */
/*
 * intake.h: history that comes from outside (a git stream, a bundle, another image): trees and commits are written to a stream
 * of their own, where nobody sees them, and become visible all at once together with the refs that name them. Until then a
 * crash, an error or cmb_intake_abort leaves the image as it was.
 *
 * One thread. Commits that the image has already are recognised by id and not written again.
 */
#ifndef CMB_STORE_INTAKE_H
#define CMB_STORE_INTAKE_H

#include "store/internal.h"

typedef struct cmb_intake cmb_intake;

/* CMB_EREADONLY. */
int cmb_intake_open(cmb_store *store, cmb_intake **out_intake);
/* Where nodes and values go: for cmb_editor_open, cmb_value_write. What is appended can be read at once. It may change from
 * one commit to the next: ask again. */
cmb_appender *cmb_intake_appender(cmb_intake *intake);
/* The place of a commit, new or old, by id; CMB_ENOTFOUND without a detail. */
int cmb_intake_find(cmb_intake *intake, const cmb_name *id, cmb_commit_at *out_at);
/* Writes a commit, whose parents must be known, or finds it. */
int cmb_intake_commit(cmb_intake *intake, const cmb_commit_draft *draft, cmb_commit_at *out_at);
/* At publish the ref ("heads/NAME", "tags/NAME") is to stand on this commit (NULL: to be deleted). expected: where it has to stand then, a commit id
 * of size 0 for a ref that must not exist; NULL: wherever. A later call for the same ref replaces the earlier. */
int cmb_intake_ref(cmb_intake *intake, const char *full_name, const cmb_name *expected, const cmb_commit_at *at, cmb_reflog_reason reason);
/* Everything visible and durable in one unit. CMB_ECONFLICT: a ref stands elsewhere than expected; then, and after CMB_ENOSPC and CMB_ENOMEM, nothing has
 * changed. The intake is over in any case. */
int cmb_intake_publish(cmb_intake *intake);
void cmb_intake_abort(cmb_intake *intake); /* NULL allowed */

#endif
