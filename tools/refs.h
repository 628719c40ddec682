/* SPDX-License-Identifier: ISC */
/* refs.h: what the commands over branches, tags and commits share. */
#ifndef CMB_TOOLS_REFS_H
#define CMB_TOOLS_REFS_H

#include "tools/cli.h"
#include "tools/json.h"

/* `branch` and `tag` differ in the calls and in some options. */
typedef struct refs_ops {
    int (*list)(cmb_store *store, cmb_ref_fn fn, void *ctx);
    int (*create)(cmb_store *store, const char *name, const char *rev);
    int (*set)(cmb_store *store, const char *name, const char *rev);
    int (*delete)(cmb_store *store, const char *name);
    int empty;           /* numbers of the command's options; -1: it has none */
    int message, author; /* create and set: make an annotated tag */
} refs_ops;

/* The option that both have. */
enum { REFS_JSON = 0 };

/* Runs "list", "create NAME [REV]", "set NAME REV", "delete NAME"; nothing is "list". */
int refs_run(const cli *c, const refs_ops *ops);

/* Members of the present object: commit, base, root, entries, working. */
void refs_rev_json(json *j, const cmb_rev *rev);
/* Members of the present object: all of a commit. */
void refs_commit_json(json *j, const cmb_commit *commit);
/* A commit for people, its message indented. */
void refs_commit_print(const cmb_commit *commit);
/* The tag objects of an annotated tag, for people: one above the other. Nothing if `name` is not the plain name of one. */
int refs_tag_print(cmb_store *store, const char *name);
/* The same as members of the present object: an array "tags". */
int refs_tag_json(json *j, cmb_store *store, const char *name);
/* A working state for people. */
void refs_working_print(const char *name, const cmb_rev *rev);

#endif
