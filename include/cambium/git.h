/* SPDX-License-Identifier: ISC */
/**
 * @file git.h
 * Histories of git: a `git fast-export` stream comes in, a `git fast-import` stream goes out.
 *
 * Mapping. Paths are keys, contents of files are values, commits are commits, branches branches, tags tags.
 *
 *   file, symbolic link     the value is the content, or the target
 *   submodule               the value is the name of its commit in hexadecimal digits
 *   mode                    an ordinary file (100644) has only its own entry. Any other mode stands in a side entry of the same
 *                           tree: key CMB_GIT_MODE_KEY and the path, value six octal digits ("100755", "120000", "160000").
 *                           Paths cannot hold a zero byte, so no path is taken for a side entry.
 *   commit                  author and message of the commit, time of the committer; headers "git.…" hold what else is
 *                           needed to make the very same commit again (docs/format.md, "Git images")
 *   refs/heads/NAME         branch NAME; if NAME is "HEAD" or begins with "refs/" or "worktrees/", branch "refs/heads/NAME"
 *   refs/tags/NAME          tag NAME
 *   refs/…                  any other: a branch of the full name, as "refs/notes/commits"
 *   HEAD, worktrees/…       (detached heads) branches of the same names
 */
#ifndef CAMBIUM_GIT_H
#define CAMBIUM_GIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cambium/error.h>
#include <cambium/export.h>
#include <cambium/store.h>
#include <cambium/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------ files */

enum {
    CMB_GIT_FILE = 0100644,
    CMB_GIT_EXECUTABLE = 0100755,
    CMB_GIT_SYMLINK = 0120000,
    CMB_GIT_SUBMODULE = 0160000,
};

#define CMB_GIT_MODE_KEY "\0mode\0"                  /* what keys of side entries begin with */
#define CMB_GIT_MODE_KEY_SIZE 6u                     /* bytes of that */
#define CMB_GIT_PATH_MAX (CMB_KEY_MAX - CMB_GIT_MODE_KEY_SIZE) /* bytes of the longest path */

/** Is this the key of a side entry? Then *out_path (may be NULL) is the path in it. */
static inline bool cmb_git_is_mode_key(cmb_bytes key, cmb_bytes *out_path)
{
    if (key.size <= CMB_GIT_MODE_KEY_SIZE || memcmp(key.data, CMB_GIT_MODE_KEY, CMB_GIT_MODE_KEY_SIZE) != 0)
        return false;
    if (out_path) {
        out_path->data = (const char *)key.data + CMB_GIT_MODE_KEY_SIZE;
        out_path->size = key.size - CMB_GIT_MODE_KEY_SIZE;
    }
    return true;
}

/** The mode that the value of a side entry says; 0 for one that says none. */
static inline uint32_t cmb_git_mode_of(cmb_bytes value)
{
    uint32_t mode = 0;
    for (size_t i = 0; i < value.size; i++) {
        uint32_t digit = (uint32_t)((const unsigned char *)value.data)[i] - '0';
        if (value.size != 6 || digit > 7)
            return 0;
        mode = mode * 8 + digit;
    }
    return mode;
}

/** The mode of a path in a state: CMB_GIT_FILE unless a side entry says otherwise. CMB_ENOTFOUND without a detail: no such
 *  path; CMB_ECORRUPT: a side entry without a mode in it. */
CMB_API int cmb_git_mode(cmb_snapshot *snapshot, cmb_bytes path, uint32_t *out_mode);

/* ------------------------------------------------------------------ streams */

/** The next bytes of a stream, `size` at most; *out_read 0 at its end. A negative CMB_E… stops and is passed on. */
typedef int (*cmb_git_read_fn)(void *ctx, void *out, size_t size, size_t *out_read);
/** Takes all `size` bytes. A negative CMB_E… stops and is passed on. */
typedef int (*cmb_git_write_fn)(void *ctx, const void *data, size_t size);
/** A commit was read or written: its mark in the stream (0: none), the name that it had in git if the stream says so
 *  (git fast-export --show-original-ids; else empty), its id here. A negative CMB_E… stops and is passed on. */
typedef int (*cmb_git_commit_fn)(void *ctx, uint64_t mark, cmb_bytes original, const cmb_name *id);

/** Zero-initialise. */
typedef struct cmb_git_options {
    bool force;               /* import: branches and tags are set also where that leaves commits or a working state behind */
    cmb_git_commit_fn commit; /* may be NULL; NULL with ctx */
    void *ctx;
} cmb_git_options;

/** What was in a stream. */
typedef struct cmb_git_result {
    uint64_t bytes, commits, blobs, tags, refs; /* tags: annotated ones; refs: that were set, or written */
    uint64_t known;      /* import: commits that the image had already */
    uint64_t working;    /* export: branches whose working state was left out */
} cmb_git_result;

/**
 * Reads a stream into an image, all of it or nothing: until the end nobody sees anything of it, and after any error the image
 * is as it was. Durable on return. Commits have the ids that their content gives them: the same stream makes the same ids
 * in every image with the same parameters, and one that is read twice changes nothing.
 *
 * A ref that exists is moved forward only (unless forced): CMB_ECONFLICT names it. An empty branch may become anything.
 *
 * CMB_ESYNTAX (malformed), CMB_ENOTSUP (needs a repository of git: names of objects that the stream does not hold; or answers:
 * cat-blob, ls, get-mark), CMB_ETOOBIG (a path, blob, message or name over the limits): the detail names line and byte.
 * Memory: some 250 bytes a commit, 130 a blob, and the store's txn_memory for contents of small files; copies that one commit makes (C, R) take more, at most 1 GiB.
 * One thread; others may use the store meanwhile. options, out_result may be NULL.
 */
CMB_API int cmb_git_import(cmb_store *store, cmb_git_read_fn read, void *ctx, const cmb_git_options *options, cmb_git_result *out_result);

/**
 * Writes all branches and tags and the commits that they reach as a stream for `git fast-import`, parents first. What was
 * imported comes out so that git makes the same objects again. Of other commits git keeps: author (as committer too; a name without
 * an address gets an empty one), message, time in seconds, all values under keys that can be paths. CMB_ENOTSUP, the detail
 * names commit and key: a key that is no path (a zero byte, an empty component, or below another key), or refs that git cannot have together.
 */
CMB_API int cmb_git_export(cmb_store *store, cmb_git_write_fn write, void *ctx, const cmb_git_options *options, cmb_git_result *out_result);

#ifdef __cplusplus
}
#endif
#endif
