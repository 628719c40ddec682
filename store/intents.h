/* SPDX-License-Identifier: ISC */
/*
 * intents.h: working commits that are logged as edits before any leaf is written.
 *
 * A working commit of few, small edits becomes an INTENTS record: 150 bytes of value cost one block of log, not a path of
 * nodes. In memory the branch then stands on a root and a list of intents over it (btree/intents.h); a snapshot is a root,
 * the list and the number of a unit. `cmb_state.pending` is that number; 0 says that the root alone is the content.
 *
 * ---- merging ----
 * The list is merged into the tree ("settled") when something needs the tree itself (a name, a diff, a merge, a permanent
 * commit), when all lists together weigh more than CMB_INTENTS_MERGE, and when the store is closed. It needs no writing turn and
 * holds no lock while the tree is built: the result is the content up to a unit n, and takes the place of the branch's old
 * root if that still stands there; intents younger than n stay in a new list. If the branch moved on meanwhile, what was built is
 * garbage, and right all the same for the snapshot that wanted it. A packed state says up to which unit intents are in it
 * (`merged`), so that recovery knows which records still count.
 *
 * ---- what lasts ----
 * Records in the log count from the last checkpoint on. A checkpoint writes what was added to each list since the one before,
 * of each key the newest edit only, as dense INTENTS records ("runs") and lists all runs that still count in the ROOT
 * record. So an intent is written twice before its leaf, once in a block of its own and once beside its neighbours, and the
 * segments of the first writing are free two checkpoints later.
 *
 * ---- bounds ----
 * Where the merge of everything might not find room any more, where CMB_INTENTS_MAX is reached since merges fail, and where a
 * watcher looks at the branch, working commits write their leaves at once. A reader that cannot write, or has no room
 * to, builds the changed nodes in memory if it needs the tree.
 *
 * ---- INTENTS payload ----
 * docs/format.md, "Intents".
 */
#ifndef CMB_STORE_INTENTS_H
#define CMB_STORE_INTENTS_H

#include "btree/intents.h"
#include "store/internal.h"

#define CMB_INTENTS_EDIT ((size_t)64)         /* bytes that an edit weighs beside its key and value: about what it takes in memory */
#define CMB_INTENTS_MERGE ((size_t)11 << 20)  /* weight of all lists from which on they are merged: 8 MiB of edits of 174 bytes */
#define CMB_INTENTS_MAX ((size_t)64 << 20)    /* weight that all lists may have */
#define CMB_INTENTS_UNIT ((size_t)256 << 10)  /* bytes of the largest unit that is logged as edits */

/* What keeps the content of a state readable that has intents above its root. Zero: nothing is needed. */
typedef struct cmb_live {
    cmb_refobj *ref;   /* used */
    cmb_intents *list; /* held */
} cmb_live;
void cmb_live_release(cmb_store *store, cmb_live *live);
/* The state of a ref as it is, intents and all; cmb_ref_state settles it. CMB_ENOTFOUND without a detail. */
int cmb_ref_live(cmb_store *store, const char *name, size_t size, cmb_state *out_state, cmb_live *out_live);
/* Likewise of a ref in use. */
void cmb_ref_look_live(cmb_store *store, cmb_refobj *ref, cmb_state *out_state, bool *out_exists, cmb_live *out_live);
/* The state of a ref in use, settled. Not inside a unit. */
int cmb_ref_settled(cmb_store *store, cmb_refobj *ref, cmb_state *out_state, bool *out_exists);
/* As cmb_rev_resolve, but not settled. */
int cmb_rev_resolve_live(cmb_store *store, const char *rev, cmb_resolved *out, cmb_live *out_live);

/* Makes *state->root the content. The branch goes along if it still can. Not inside a unit; the error leaves *state alone. */
int cmb_state_settle(cmb_store *store, const cmb_live *live, cmb_state *state);
/*
 * The same to be read only: where there is no room for the tree it is built in memory, where it stays until the store is closed.
 * *out_in_memory: so it was, and nothing that is written may refer to it. (What a handle builds that cannot write says no: nothing will.)
 */
int cmb_state_settle_to_read(cmb_store *store, const cmb_live *live, cmb_state *state, bool *out_in_memory);
/* What waits in all lists. store->lock held. */
static inline size_t cmb_intents_weight(const cmb_store *store)
{
    return store->intents_bytes + store->intents_count * CMB_INTENTS_EDIT;
}
/* Merges lists while there is too much in them. Errors wait for the next time. */
void cmb_intents_relieve(cmb_store *store);
/* Merges all of them: at the end. */
int cmb_intents_settle_all(cmb_store *store);
/* Lets go of everything. Before refs are destroyed. */
void cmb_intents_teardown(cmb_store *store);

/* ---- in units ---- */

/* A transaction's edits on their way into a unit. */
typedef struct cmb_intent {
    struct cmb_intent *next;
    cmb_refobj *ref;
    uint8_t *payload; /* of the record */
    uint32_t size, edits_at, capacity;
    size_t count, bytes; /* edits, and of their keys and values */
} cmb_intent;
/*
 * The edits of a buffer as a record for `ref`; *out_intent NULL: they are none that are logged so (large or out-of-line values, too
 * many). Released by cmb_intent_release.
 */
int cmb_intent_encode(cmb_store *store, const cmb_refobj *ref, cmb_buffer *edits, cmb_intent **out_intent);
void cmb_intent_release(cmb_store *store, cmb_intent *intent); /* NULL allowed */
/* May this one be logged so now? store->unit held. */
bool cmb_intent_fits(cmb_store *store, const cmb_refobj *ref, const cmb_intent *intent);
/* Appends it to the unit, which takes it over on success. */
int cmb_unit_intend(cmb_unit *unit, cmb_refobj *ref, cmb_intent *intent);
/* The ref has a list: it is among those that are gone through. store->lock held. */
void cmb_intents_listed(cmb_store *store, cmb_refobj *ref);
/* Shows a published one; store->lock held; cannot fail. */
void cmb_intent_show(cmb_store *store, cmb_intent *intent, uint64_t unit);
/* The ref moved: edits up to state.merged are in its tree. `rest` (may be NULL) takes the list's place. store->lock held. */
void cmb_intents_moved(cmb_store *store, cmb_refobj *ref, cmb_intents *rest);

/* ---- at checkpoints and at open (intents_log.c) ---- */

/* Where a run lies that the ROOT record lists. */
typedef struct cmb_intents_run {
    uint64_t addr;
    uint32_t length;
    uint64_t upto;   /* unit */
    cmb_refobj *ref; /* used */
} cmb_intents_run;
typedef struct cmb_intents_runs {
    cmb_intents_run *items;
    size_t n, capacity;
} cmb_intents_runs;
/* The runs that count from this checkpoint on: old ones and, appended to app, those of what is not in any yet. store->unit held. */
int cmb_runs_collect(cmb_store *store, cmb_appender *app, cmb_intents_runs *out_runs);
void cmb_runs_release(cmb_store *store, cmb_intents_runs *runs);
/* The checkpoint is durable: they take the place of the store's. store->lock held; *runs is what is to be released. */
void cmb_runs_adopt(cmb_store *store, cmb_intents_runs *runs);

/* Every run that the newest checkpoint lists: the full name of its ref, and its record. Non-zero from fn stops. (intents_each.c) */
int cmb_runs_each(cmb_store *store, int (*fn)(void *ctx, const char *ref, uint64_t addr, uint32_t length), void *ctx);
bool cmb_runs_have(cmb_store *store, uint64_t addr); /* Is it still one of them? */

/* An INTENTS record that was replayed, kept until the tables are known. */
typedef struct cmb_intents_note {
    struct cmb_intents_note *next;
    uint64_t addr;
    uint32_t size;
    uint8_t payload[];
} cmb_intents_note;
int cmb_intents_replay(cmb_store *store, uint64_t addr, const void *payload, uint32_t length);
/* What an INTENTS record says, for salvage: which ref, which unit, and to fn (may be NULL) every edit. Non-zero from fn stops. */
typedef struct cmb_intents_head {
    uint64_t unit;
    cmb_bytes ref; /* full name; in the payload */
} cmb_intents_head;
int cmb_intents_read(const cmb_store *store, uint64_t addr, const void *payload, uint32_t length, cmb_intents_head *out_head,
                     int (*fn)(void *ctx, const cmb_edit *edit), void *ctx);
/* A run that the ROOT record lists. */
int cmb_intents_load_run(cmb_store *store, uint64_t addr, uint32_t length);
/* After the tables are known: the notes become lists. Ends with the notes gone. */
int cmb_intents_load_notes(cmb_store *store);
void cmb_intents_drop_notes(cmb_store *store);

#endif
