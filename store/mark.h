/* SPDX-License-Identifier: ISC */
/*
 * mark.h: walking everything that an image keeps: the ref tables, then what branches and tags stand
 * on, then every commit of the index. Every record once, by address: what several states share is
 * read and counted once. Internal nodes are read; leaves only under references that carry the
 * out-of-line bit, unless all are asked for. Ground of statistics and fsck.
 */
#ifndef CMB_STORE_MARK_H
#define CMB_STORE_MARK_H

#include <cambium/fsck.h>

#include "store/addrset.h"
#include "store/facts.h"
#include "store/internal.h"

typedef struct cmb_tally {
    uint64_t count, bytes; /* of records; granules that they only partly fill included */
} cmb_tally;

/* Who stands on what is being walked. */
typedef enum cmb_owner_kind {
    CMB_OWNER_NOBODY = 0,
    CMB_OWNER_REF,    /* name: its full one */
    CMB_OWNER_COMMIT, /* name: its id, in hexadecimal */
    CMB_OWNER_OTHER,  /* name: what it is, for people */
} cmb_owner_kind;
typedef struct cmb_owner {
    cmb_owner_kind kind;
    const char *name;
} cmb_owner;

/* What was found to be damaged. All pointers live during the call. */
typedef struct cmb_damage {
    cmb_finding_number number;
    int error;     /* the detail text is the thread's */
    uint64_t addr; /* 0: none */
    cmb_owner owner;
    bool keyed;    /* keys beyond `before` (size 0: from the start) and up to `last` (size 0: to the end) are hurt; if equal, that one */
    cmb_bytes before, last;
} cmb_damage;
#define CMB_DAMAGE_UNSHARED UINT32_MAX

typedef struct cmb_mark_options {
    bool read_leaves, verify_values;
    cmb_facts *facts; /* what was verified already is not read again; may be NULL */
    /* Non-zero stops the mark and is returned. *out_id: what shared() is to be told if somebody else reaches the same damage, or
     * CMB_DAMAGE_UNSHARED. NULL: the first damage stops it with its error. */
    int (*damage)(void *ctx, const cmb_damage *damage, uint32_t *out_id);
    void (*shared)(void *ctx, uint32_t id, const cmb_owner *owner); /* may be called again with the same owner; with damage */
    void (*progress)(void *ctx, uint64_t bytes); /* marked so far; may be NULL */
    void *ctx;
} cmb_mark_options;

typedef struct cmb_mark {
    cmb_addrset *seen;
    cmb_tally leaves, nodes, values, commits, tables; /* values: out-of-line ones, with all their records */
    cmb_tally tag_objects, intents; /* intents: the runs that the newest checkpoint lists */
    uint64_t branches, tags;
    uint64_t entries; /* in the distinct leaves of contents */
    unsigned height;  /* levels of the highest content */
    uint64_t bytes;   /* of all */
} cmb_mark;

/* CMB_ENOMEM; damage only without a callback. Release with cmb_mark_destroy. */
int cmb_mark_store(cmb_store *store, const cmb_mark_options *options, cmb_mark *out_mark);
void cmb_mark_destroy(cmb_mark *mark);
/* Does the commit have its parent `i` where the index has it? CMB_ECORRUPT. */
int cmb_mark_check_parent(const cmb_commit_record *record, size_t i, const cmb_commit_at *indexed);

#endif
