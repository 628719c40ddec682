/* SPDX-License-Identifier: ISC */
/*
 * tag.h (private): tag objects, the records of annotated tags (include/cambium/tag.h). Nothing indexes them: a tag ref's state has
 * the place of its object next to the commit that it leads to, and each object has the place of what it names.
 *
 * Where a tag object lies is a cmb_commit_at, as of a commit.
 */
#ifndef CMB_STORE_TAG_H
#define CMB_STORE_TAG_H

#include <cambium/tag.h>

#include "store/internal.h"

/* A TAG record, decoded. */
typedef struct cmb_tag_record {
    cmb_tag tag;          /* first member: cmb_tag_free takes this */
    cmb_allocator alloc;
    size_t memory;        /* bytes of this allocation */
    cmb_commit_at at;
    cmb_commit_at target; /* a commit, or a tag object if tag.target_is_tag; it lies below */
} cmb_tag_record;
/* Reads, checks record and id. Free with cmb_tag_free(&record->tag). */
int cmb_tag_load(cmb_store *store, const cmb_commit_at *at, cmb_tag_record **out_record);

/* What is written into a new one. */
typedef struct cmb_tag_draft {
    cmb_commit_at target;
    bool target_is_tag;
    int64_t time;
    const char *name, *tagger, *message; /* may be NULL */
    const cmb_commit_header *headers;
    size_t header_count;
} cmb_tag_draft;
/* CMB_EINVAL: too much in it, and nothing is appended. The target must lie below. */
int cmb_tag_append(cmb_store *store, cmb_appender *app, const cmb_tag_draft *draft, cmb_commit_at *out_at);
/* The id that it would have. CMB_EINVAL. */
int cmb_tag_name(const cmb_store *store, const cmb_tag_draft *draft, cmb_name *out_id);

/* Calls fn (may be NULL) for the object at `tag` and each that follows; *out_commit is what stands at the end. Non-zero from fn
 * stops and is returned. CMB_ECORRUPT: too many of them. */
typedef int (*cmb_tag_each_fn)(void *ctx, const cmb_tag_record *record);
int cmb_tag_peel(cmb_store *store, const cmb_commit_at *tag, cmb_tag_each_fn fn, void *ctx, cmb_commit_at *out_commit);
/* The state of a tag ref that stands on this object. */
int cmb_tag_state(cmb_store *store, const cmb_commit_at *tag, cmb_state *out_state);

#endif
