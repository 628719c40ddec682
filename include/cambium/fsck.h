/* SPDX-License-Identifier: ISC */
/**
 * @file fsck.h
 * Looking for damage. Everything here only reads, but for cmb_fsck_mend.
 *
 * A check works beside a live writer, in this process or another one: it looks at the last durable state as of when the store was
 * opened for reading. CMB_ESTALE says that the writer has gone on so far meanwhile that blocks were used anew, and that something that
 * looked damaged may be just that: open the image again. Findings that were told before were true; a new check tells them again, but for
 * what the writer has mended. That journal segments were used anew, as a busy writer does all the time, is no reason for it.
 *
 * A disk that fails under the check is a finding where the store was opened with CMB_RESIDENT_POOL. Through the mapping of a file it is a
 * signal, SIGBUS, which ends the process.
 */
#ifndef CAMBIUM_FSCK_H
#define CAMBIUM_FSCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cambium/export.h>
#include <cambium/store.h>

#ifdef __cplusplus
extern "C" {
#endif

/** How bad a finding is. */
typedef enum cmb_severity {
    CMB_SEVERITY_SPARE = 1, /* a copy or something unused: nothing is lost */
    CMB_SEVERITY_WRONG = 2, /* everything can be read, but not all of it is as it should be */
    CMB_SEVERITY_LOSS = 3,  /* something cannot be read */
} cmb_severity;

/**
 * X(number, symbol, name, severity, mendable, text). The only place: the library, the tool, its JSON and its manual, and a test that
 * compares them, are made from it. Numbers and names are stable for ever; never reuse one.
 */
#define CMB_FINDING_LIST(X)                                                                                              \
    X(1, OPEN_REFUSED, "open-refused", LOSS, false, "the image does not open at all")                                    \
    X(10, SUPERBLOCK_DAMAGED, "superblock-damaged", SPARE, true, "a copy of the superblock is not valid; the others hold") \
    X(20, TABLE_DAMAGED, "table-damaged", LOSS, false, "a page of the segment table or the state map")                   \
    X(30, FRAME_DAMAGED, "frame-damaged", LOSS, false, "a frame or run of the log in which something in use lies")       \
    X(31, FRAME_DAMAGED_UNUSED, "frame-damaged-unused", SPARE, false, "a frame or run of the log that nothing needs")    \
    X(32, RECORD_DAMAGED, "record-damaged", WRONG, false, "a record in an intact frame or run")                          \
    X(33, FRAMES_DAMAGED_MORE, "frames-damaged-more", LOSS, false, "more damaged frames than are told one by one")       \
    X(40, REFS_UNREADABLE, "refs-unreadable", LOSS, false, "the list of branches and tags ends before its end")          \
    X(41, REF_NAME, "ref-name", WRONG, false, "a branch or tag whose name cannot be one")                                \
    X(42, REF_MISMATCH, "ref-mismatch", WRONG, false, "a branch or tag and its commit say different things")             \
    X(50, INDEX_UNREADABLE, "index-unreadable", LOSS, false, "the index of commits ends before its end")                 \
    X(51, INDEX_MISMATCH, "index-mismatch", WRONG, false, "the index does not have a commit where its branch or tag has it") \
    X(60, COMMIT_DAMAGED, "commit-damaged", LOSS, false, "a commit's record")                                            \
    X(61, PARENT_MISSING, "parent-missing", LOSS, false, "a commit's parent is not where the index has it, or not in the index") \
    X(62, GENERATION_WRONG, "generation-wrong", WRONG, false, "a commit is not of the generation that follows from its parents") \
    X(70, TAG_DAMAGED, "tag-damaged", LOSS, false, "an annotated tag's object, or one that this names")                  \
    X(71, TAG_MISMATCH, "tag-mismatch", WRONG, false, "an annotated tag and its object name different commits")          \
    X(80, NODE_DAMAGED, "node-damaged", LOSS, false, "an inner node of a tree")                                          \
    X(81, LEAF_DAMAGED, "leaf-damaged", LOSS, false, "a leaf of a tree")                                                 \
    X(82, VALUE_DAMAGED, "value-damaged", LOSS, false, "a value that is stored out of line")                             \
    X(83, SHAPE_WRONG, "shape-wrong", WRONG, false, "a tree that is not the one its keys make")                          \
    X(90, INTENTS_DAMAGED, "intents-damaged", LOSS, false, "edits of a branch that are not in its tree yet")

typedef enum cmb_finding_number {
#define CMB_FINDING_ENUM(number, symbol, name, severity, mendable, text) CMB_FINDING_##symbol = (number),
    CMB_FINDING_LIST(CMB_FINDING_ENUM)
#undef CMB_FINDING_ENUM
} cmb_finding_number;

/** A row of the list. */
typedef struct cmb_finding_kind {
    unsigned number;
    const char *name;
    cmb_severity severity;
    bool mendable; /* by cmb_fsck_mend, and by the next checkpoint of a writer */
    const char *text;
} cmb_finding_kind;
/** All rows, by number; *out_count of them. Static. */
CMB_API const cmb_finding_kind *cmb_finding_kinds(size_t *out_count);
/** "spare", "wrong", "loss". Static. */
CMB_API const char *cmb_severity_name(cmb_severity severity);

#define CMB_FINDING_REFS 8u    /* names that a finding lists at most */
#define CMB_FINDING_COMMITS 4u /* ids */
#define CMB_NO_OFFSET UINT64_MAX

/** One finding. What it points to lives during the call. */
typedef struct cmb_finding {
    const char *code;   /* the kind's name */
    int error;          /* CMB_E… */
    uint64_t addr;      /* logical address, 0 if none */
    const char *text;   /* one line: names what, expected and found; control characters of names are escaped */
    const char *where;  /* one line, as `text`: which branches, tags, commits and keys it hurts; "" if unknown */
    const cmb_finding_kind *kind;
    uint64_t physical;  /* bytes from the device's start, where that is known; else CMB_NO_OFFSET */
    const char *refs[CMB_FINDING_REFS];       /* branches and tags hurt, as "heads/NAME" and "tags/NAME", byte for byte */
    unsigned ref_count;
    uint64_t refs_total;                      /* with those that are not listed */
    const char *commits[CMB_FINDING_COMMITS]; /* commits of the history whose content it hurts, in hexadecimal digits */
    unsigned commit_count;
    uint64_t commits_total;
    const char *key_after, *key_last;         /* keys beyond the one and up to the other are hurt; "" for no bound; equal: that key. NULL: no keys */
} cmb_finding;

/** QUICK: superblocks, the log's tail, the segment table, refs and their commits. STRUCTURE: and all inner nodes, reachability, counts.
 *  FULL: and every frame, leaf and byte of a value, and the canonical shape of every tree that a ref names. */
typedef enum cmb_fsck_level { CMB_FSCK_QUICK = 1, CMB_FSCK_STRUCTURE = 2, CMB_FSCK_FULL = 3 } cmb_fsck_level;

/** Zero-initialise. */
typedef struct cmb_fsck_options {
    cmb_fsck_level level;
    int (*on_finding)(void *ctx, const cmb_finding *finding); /* in the calling thread; non-zero stops: CMB_ESTOPPED. May be NULL */
    /* In the calling thread. done never falls; total is done where it is not known. May be NULL. */
    void (*on_progress)(void *ctx, uint64_t bytes_done, uint64_t bytes_total);
    void *ctx;
    unsigned threads; /* FULL: that read and verify, the calling one included; 0: one */
    size_t memory;    /* FULL: bytes for what is kept of leaves (56 each) and chunks (24 each); what is beyond is read again, in
                       * the order of keys. 0: 512 MiB, enough for 37 GB of leaves of 4 KiB */
    bool redact;      /* names of refs and keys are shown by a hash */
} cmb_fsck_options;

typedef struct cmb_fsck_result {
    uint64_t findings, superblocks, table_pages, frames, nodes, leaves, values, commits, refs, bytes;
    uint64_t spare; /* of the findings: nothing is lost by them */
} cmb_fsck_result;

/**
 * Returns 0 however many findings there are; an error if it could not run to its end, and then *out_result is untouched.
 * Memory besides `memory`: some 10 bytes a record in use; a thread 1.2 MiB, and some 100 bytes for each leaf of the segment that it is at:
 * 2 MiB with nodes of 4 KiB and segments of 64 MiB, up to 30 MiB with nodes of 256 bytes; 1.5 KiB for each of the first 4096 findings.
 *
 * Limits. The first 4096 findings are told together at the end of the walk over the trees, each with all whom it hurts; one beyond is told
 * as it is found, and names only the first whom it hurts. Of a node that is shared, the first 64 damages below it are remembered: others who
 * reach it are counted among the hurt of those alone. Of damaged frames the first 4096 are told one by one.
 */
CMB_API int cmb_fsck(cmb_store *store, const cmb_fsck_options *options, cmb_fsck_result *out_result);

/**
 * Writes the newest superblock again where a copy of it is damaged, flushes, and does nothing else; a writer's next checkpoint does the
 * same. The image must not be open for writing: CMB_EBUSY. *out_mended: copies written. `options` may be NULL.
 */
CMB_API int cmb_fsck_mend(const char *name, const cmb_store_options *options, unsigned *out_mended);
/** The same on a device that is open for writing, and on which no store is open. */
CMB_API int cmb_fsck_mend_device(cmb_device *dev, const cmb_store_options *options, unsigned *out_mended);

#ifdef __cplusplus
}
#endif
#endif
