/* SPDX-License-Identifier: ISC */
/**
 * @file tag.h
 * Annotated tags: a tag that stands on a *tag object*, a record of who tagged what and why, which names a commit or another tag
 * object. Like a commit it has an id, the hash of its content, and never changes. As a REV the tag is the commit at the end.
 *
 * A tag that is made or set (cmb_tag_create, cmb_tag_set) from the plain name of an annotated tag stands on the same object; with any step after
 * the name ("v1~0") it stands on the commit.
 */
#ifndef CAMBIUM_TAG_H
#define CAMBIUM_TAG_H

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

#define CMB_TAG_DEPTH_MAX 64u /* tag objects, one naming the next, above a commit */

enum {
    CMB_TAG_REPLACE = 1u << 0, /* a tag of that name may exist, and is moved */
};

/** Who and why. Zero-initialise. Strings as in cmb_commit_info; all of them and the headers have CMB_COMMIT_TEXT_MAX bytes at most. */
typedef struct cmb_tag_info {
    const char *tagger;
    const char *message;
    int64_t time;   /* microseconds since 1970-01-01 UTC; 0: now */
    uint32_t flags; /* CMB_TAG_… */
    const cmb_commit_header *headers;
    size_t header_count;
} cmb_tag_info;

/** Makes a tag object and the tag `name` that stands on it. It names the commit at `rev`, or the tag object if `rev` is the plain
 *  name of an annotated tag. CMB_EEXIST, CMB_ENOTFOUND, CMB_ETOOBIG (over CMB_TAG_DEPTH_MAX). A working state that is named is
 *  sealed first. info may be NULL. Durable on return. */
CMB_API int cmb_tag_annotate(cmb_store *store, const char *name, const char *rev, const cmb_tag_info *info);

/** A tag object, read. Free with cmb_tag_free. */
typedef struct cmb_tag {
    cmb_name id;
    cmb_name target;     /* what it names */
    bool target_is_tag;  /* else a commit */
    int64_t time;        /* microseconds since 1970-01-01 UTC */
    const char *name;    /* that the tag had when it was made */
    const char *tagger, *message; /* zero-terminated; never NULL */
    const cmb_commit_header *headers;
    size_t header_count;
} cmb_tag;

/** The tag object that the tag `name` stands on (depth 0), or the one that this names (1), and so on. CMB_ENOTFOUND: there is no such tag, it is
 *  not annotated, or its objects end before. */
CMB_API int cmb_tag_read(cmb_store *store, const char *name, unsigned depth, cmb_tag **out_tag);
CMB_API void cmb_tag_free(cmb_tag *tag); /* NULL is allowed */

#ifdef __cplusplus
}
#endif
#endif
