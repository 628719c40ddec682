/* SPDX-License-Identifier: ISC */
/* refs.h: what the commands over branches, tags and commits share. */
#ifndef CMB_TOOLS_REFS_H
#define CMB_TOOLS_REFS_H

#include "tools/cli.h"
#include "tools/json.h"

/* `branch` and `tag` differ in the calls only. */
typedef struct refs_ops {
    int (*list)(cmb_store *store, cmb_ref_fn fn, void *ctx);
    int (*create)(cmb_store *store, const char *name, const char *rev);
    int (*set)(cmb_store *store, const char *name, const char *rev);
    int (*delete)(cmb_store *store, const char *name);
} refs_ops;

/* Options by index; --empty is branch's alone. */
enum { REFS_JSON, REFS_EMPTY };

/* Runs "list", "create NAME [REV]", "set NAME REV", "delete NAME"; nothing is "list". */
int refs_run(const cli *c, const refs_ops *ops);

/* Members of the present object: commit, base, root, entries, working. */
void refs_rev_json(json *j, const cmb_rev *rev);
/* Members of the present object: all of a commit. */
void refs_commit_json(json *j, const cmb_commit *commit);
/* A commit for people, its message indented. */
void refs_commit_print(const cmb_commit *commit);
/* A working state for people. */
void refs_working_print(const char *name, const cmb_rev *rev);

#endif
