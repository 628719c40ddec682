/* SPDX-License-Identifier: ISC */
/*
 * merging.h: what the files about merges share.
 *
 *   merge.c        the sides, fast-forward, landing
 *   pick.c         revert and cherry-pick
 *   merge_base.c   several common ancestors become one
 *   merge_tree.c   three roots become the content of a transaction
 *   clash.c        clashes as merge functions and users see them
 *   conflict.c     the list of conflicts and their resolutions
 *   mergefn*.c     merge functions
 *
 * A merge is a transaction on the branch. Its content starts as one side; what the other changed is laid over it as
 * edits if that is little (then the log's head takes it, as any small transaction), else cmb_tree_merge builds it in
 * the transaction's stream. A key in conflict stands as on either side for the time being; resolutions are edits above.
 * Landing is a transaction's, with two parents.
 *
 * The virtual ancestor of a criss-cross history is built in a stream of its own, which is given back in the end: the
 * result never refers to it. A disputed value in it is an out-of-line value at the place of a record that this merge
 * made, with a name that was never given out: so it equals nothing, and nothing can be mistaken for it.
 */
#ifndef CMB_STORE_MERGING_H
#define CMB_STORE_MERGING_H

#include <cambium/merge.h>

#include "btree/merge.h"
#include "store/graph.h"
#include "store/land.h"

#define CMB_SIDES 3u

struct cmb_clash {
    cmb_store *store;
    cmb_bytes key;
    bool inner;
    cmb_presence presence[CMB_SIDES];
    cmb_found found[CMB_SIDES];  /* where present */
    cmb_blob values[CMB_SIDES];  /* out-of-line ones, assembled */
    cmb_pin pins[CMB_SIDES];     /* of values that were looked up */
    uint8_t *room;               /* cmb_clash_memory */
    size_t room_size;
};

/* One key in conflict. */
typedef struct cmb_conflict_key {
    const uint8_t *bytes;
    uint32_t size;
    bool resolved;
} cmb_conflict_key;

typedef struct cmb_conflict_page cmb_conflict_page;
typedef struct cmb_conflicts { /* ascending by key */
    cmb_conflict_key *items;
    size_t count, capacity, resolved;
    cmb_conflict_page *pages; /* the keys' bytes */
    size_t memory;            /* bytes of both */
} cmb_conflicts;

/* What merges of ancestors write to, and what marks their conflicts. */
typedef struct cmb_scratch {
    cmb_appender *stream; /* NULL: not needed yet */
    uint64_t marker_addr;
    uint32_t marker_length;
    uint64_t disputes; /* markers given out */
} cmb_scratch;

struct cmb_merging {
    cmb_store *store;
    cmb_refobj *ref;  /* the branch; used */
    cmb_txn *txn;     /* the result; while it has `ref` the branch's writing turn is held */
    uint32_t flags;   /* CMB_MERGE_… */
    bool cut;         /* common ancestors may lie below the end of a shallow history */
    bool pick;        /* revert or cherry-pick: one parent, and none without a change */
    cmb_state before; /* where the branch stood */
    cmb_state named;  /* what is merged in */
    cmb_commit_at parents[2];
    size_t parent_count;
    cmb_noderef roots[CMB_SIDES]; /* by cmb_clash_side, as the merge function sees them */
    cmb_merge_fn fn;
    void *ctx;
    cmb_clash clash;
    uint64_t clashes;
    cmb_scratch scratch;
    cmb_conflicts conflicts;
    cmb_commit_record *picked; /* its texts are used where none are given; NULL: none */
    int64_t time;              /* DETERMINISTIC: of the commit */
    char *message;             /* revert's, if none is given; NULL: none */
    size_t message_size;       /* bytes of its allocation */
};

/* ---- merge.c ---- */

/* Holds the branch's writing turn; `before` is where it stands. */
int cmb_merging_create(cmb_store *store, const char *branch, cmb_merge_fn fn, void *ctx, const cmb_commit_info *info,
                       cmb_merging **out_m);
/* Resolves a revision to a permanent commit; a working state is sealed. An empty branch is a state without one. */
int cmb_merging_name(cmb_merging *m, const char *rev, cmb_state *out_state);
/* If the branch stands on a working state: seals it. `before` is what it stands on then. */
int cmb_merging_seal(cmb_merging *m);
/* roots, parents and parent_count are set: merges, lands, says how that went. m is gone, unless it comes back in the
 * result. */
int cmb_merging_run(cmb_merging *m, const cmb_commit_info *info, cmb_merge_result *out_result);

/* ---- merge_base.c ---- */

/* The content of the virtual ancestor that n commits, none of them another's ancestor, make up; 0: empty. */
int cmb_merge_base_root(cmb_merging *m, const cmb_commit_at *bases, size_t n, cmb_noderef *out_root);

/* ---- merge_tree.c ---- */

/* The result, but for conflicts, which go into the list, becomes the content of m->txn. */
int cmb_merge_content(cmb_merging *m);
/* `acc` and `other` since `base`, in the scratch stream; no conflicts, but disputed values. */
int cmb_merge_inner(cmb_merging *m, const cmb_noderef *base, const cmb_noderef *acc, const cmb_noderef *other,
                    cmb_noderef *out_root);

/* ---- clash.c ---- */

void cmb_clash_init(cmb_clash *clash, cmb_store *store);
void cmb_clash_destroy(cmb_clash *clash);
void cmb_clash_set(cmb_clash *clash, cmb_clash_side side, const cmb_found *found); /* NULL: absent */
/* The values of a key in three trees. */
int cmb_clash_look_up(cmb_clash *clash, const cmb_scratch *scratch, const cmb_noderef roots[CMB_SIDES]);
bool cmb_is_marker(const cmb_scratch *scratch, const cmb_found *found); /* NULL: no */
/* Is it a change against a change? */
static inline bool cmb_clash_has_both(const cmb_clash *clash)
{
    return clash->presence[CMB_SIDE_MINE] == CMB_PRESENT && clash->presence[CMB_SIDE_THEIRS] == CMB_PRESENT;
}
/* The edit that makes the key what it is on that side. */
cmb_edit cmb_clash_edit(const cmb_clash *clash, cmb_clash_side side);

/* ---- conflict.c ---- */

int cmb_conflicts_add(cmb_merging *m, cmb_bytes key);
void cmb_conflicts_destroy(cmb_merging *m);
/* The answer of a merge whose transaction is gone. */
int cmb_merging_lost(void);

#endif
