/* SPDX-License-Identifier: ISC */
/*
 * salvage.h (private): what the files of salvage share. What it does is in include/cambium/salvage.h; how:
 *
 *   salvage.c         opening both images; the order of all that follows
 *   salvage_loss.c    telling what is lost
 *   salvage_state.c   refs and commits, from tables and records of all ages
 *   salvage_scan.c    records that are left in the log; putting nodes back in place of damaged ones
 *   salvage_cursor.c  a cursor over a tree with holes
 *   salvage_copy.c    from one tree with holes to the next, as edits
 *   salvage_value.c   values out of line, once
 *   salvage_commit.c  commits, parents first
 *   salvage_ref.c     branches, tags, working states
 *   salvage_intents.c edits that are in no tree yet
 *   salvage_write.c   transactions on the new image
 *   salvage_keys.c    which keys they lost
 *   salvage_found.c   entries that no tree names
 *
 * Trees are never copied node by node. The new tree of a commit is the new tree of its first parent with the differences of the two old
 * trees applied, where what cannot be read is simply not there: so a new tree always holds exactly what can be read of the old one,
 * is canonical, and shares with others what the old ones share.
 *
 * Nothing that is read is trusted: nodes and values are verified by name, other records by check and id; every node's keys must lie in
 * the range that its parent gives them, so that no tree is larger than its nodes. One thread.
 */
#ifndef CMB_STORE_SALVAGE_H
#define CMB_STORE_SALVAGE_H

#include <cambium/salvage.h>

#include "btree/node.h"
#include "log/rescue.h"
#include "store/addrset.h"
#include "store/handles.h"
#include "store/idset.h"
#include "store/intake.h"

/* ---- growing arrays ---- */

typedef struct cmb_sv_list {
    void *items;
    size_t n, capacity;
} cmb_sv_list;
/* Room for one more item of `size` bytes; NULL: no memory. The caller fills it in; it counts already. */
void *cmb_sv_list_add(const cmb_allocator *alloc, cmb_sv_list *list, size_t size);
void cmb_sv_list_free(const cmb_allocator *alloc, cmb_sv_list *list, size_t size);

/* ---- ranges of keys: beyond `after` (size 0: from the start) up to `last` (size 0: to the end) ---- */

typedef struct cmb_sv_range {
    cmb_bytes after, last; /* owned by the list */
} cmb_sv_range;
/* More of them than this become one that covers everything. */
#define CMB_SV_RANGES_MAX 65536u
int cmb_sv_range_add(const cmb_allocator *alloc, cmb_sv_list *ranges, cmb_bytes after, cmb_bytes last);
void cmb_sv_ranges_free(const cmb_allocator *alloc, cmb_sv_list *ranges);
/* Is the key in one of them? After cmb_sv_ranges_join. */
bool cmb_sv_ranges_have(const cmb_sv_list *ranges, cmb_bytes key);
/* Sorts them and joins those that overlap. */
void cmb_sv_ranges_join(const cmb_allocator *alloc, cmb_sv_list *ranges);
/* What is in both, each joined; *out_ranges is joined too. */
int cmb_sv_ranges_both(const cmb_allocator *alloc, const cmb_sv_list *a, const cmb_sv_list *b, cmb_sv_list *out_ranges);

/* ---- records found in the log ---- */

typedef struct cmb_sv_node { /* of any age, in a tree or not */
    uint64_t key;            /* the first 8 bytes of its name */
    uint64_t addr;
    uint32_t length;
    uint8_t level;
    bool whole;              /* the bytes around it are intact */
} cmb_sv_node;

typedef struct cmb_sv_record { /* ROOT, EDITS */
    uint64_t addr, epoch;
    uint32_t length;
    uint8_t kind;
} cmb_sv_record;

/* A child that was put back below a damaged node. */
typedef struct cmb_sv_child {
    cmb_noderef ref;
    uint8_t *last; /* its last key, its first one behind it */
    uint32_t last_size, first_size;
} cmb_sv_child;
/* A damaged node whose children are known again, as far as they are. */
typedef struct cmb_sv_graft {
    cmb_noderef ref;
    cmb_sv_child *children; /* stay where they are */
    uint32_t count, capacity;
} cmb_sv_graft;

/* ---- all of it ---- */

/* What was not readable in a commit's tree and is to be told if no ref tells of it. */
typedef struct cmb_sv_piece {
    cmb_noderef ref; /* a node; of a value: addr and level 255 */
    cmb_name commit;
    cmb_sv_range range;
} cmb_sv_piece;

typedef struct cmb_salvage {
    const cmb_salvage_options *options;
    cmb_allocator alloc;
    cmb_salvage_result result;
    cmb_store *exact;      /* NULL: the image does not open by itself */
    cmb_store *in;         /* over a log put together from what is there: everything is read through it */
    cmb_store *out;
    const char *target;    /* name of the device to make for out; NULL: it was given */
    cmb_device *made;      /* that device */
    cmb_intake *intake;    /* into out */
    char why[512];         /* exact is NULL: why */
    /* salvage_state.c */
    cmb_buffer *known[CMB_TABLES]; /* newest value of every key, or that it was removed */
    cmb_buffer *older;     /* names of refs that come from older trees */
    bool asks_older;
    uint64_t units_lost;   /* between the newest ROOT record that was read and the newest record: units whose EDITS record is lost */
    cmb_sv_list holes[CMB_TABLES]; /* of ranges: names and ids of which nothing is known yet */
    /* salvage_scan.c */
    bool scanned;
    cmb_sv_list nodes;     /* of cmb_sv_node, by key once scanned */
    cmb_sv_list records;   /* of cmb_sv_record, by address */
    cmb_sv_list epochs;    /* of cmb_sv_record, by address: the first frame of every epoch that was seen */
    cmb_idset epochs_seen; /* the numbers of those, as names */
    cmb_sv_list intents;   /* INTENTS records by ref and unit (salvage_intents.c) */
    cmb_sv_list commits_found; /* of cmb_commit_at */
    cmb_sv_list grafts;    /* of cmb_sv_graft; the first grafts_done were tried, of which grafts_sorted are in order of address */
    size_t grafts_done, grafts_sorted;
    cmb_addrset *noted;    /* addresses of grafts */
    bool refs_lost;        /* names of refs may be missing, or moves of them */
    bool content_lost;     /* there was a tree of which nothing is known */
    cmb_idset inner;       /* refs_lost: commits that a child or a ref leads to */
    cmb_addrset *seen;     /* nodes that some tree leads to */
    /* salvage_value.c */
    cmb_addrset *copied;   /* addresses of values in in that are in out */
    cmb_buffer *values;    /* those that came again, and those that cannot be read: value in in -> in out */
    uint8_t *piece;        /* CMB_CHUNK_SIZE bytes, once needed */
    /* salvage_commit.c */
    cmb_buffer *moved;     /* id of a commit -> its place in out */
    cmb_sv_list pieces;    /* of cmb_sv_piece */
    cmb_addrset *bad;      /* leaves and values that could not be read */
    cmb_addrset *told;     /* of them, those that a ref told of */
    cmb_addrset *whole;    /* nodes below which nothing is bad */
    cmb_sv_list lost;      /* of ranges: keys lost anywhere */
} cmb_salvage;

static inline bool cmb_sv_is_damage(int error)
{
    return error == CMB_ECORRUPT || error == CMB_EIO || error == CMB_EVERSION || error == CMB_ENOTFOUND || error == CMB_EINVAL;
}

/* ---- telling (salvage_loss.c) ---- */

/* error: what the detail text is about, which becomes the loss's text; 0: `text` is. Non-zero: stop. */
int cmb_sv_tell(cmb_salvage *s, cmb_loss_kind kind, int error, uint64_t addr, const char *where, cmb_bytes after, cmb_bytes last, const char *text);
static inline int cmb_sv_tell_of(cmb_salvage *s, cmb_loss_kind kind, int error, uint64_t addr, const char *where, const char *text)
{
    return cmb_sv_tell(s, kind, error, addr, where, (cmb_bytes){NULL, 0}, (cmb_bytes){NULL, 0}, text);
}
void cmb_sv_progress(const cmb_salvage *s, const char *stage, uint64_t done, uint64_t total);

/* ---- records (salvage_scan.c) ---- */

int cmb_sv_scan(cmb_salvage *s); /* once */
/* A node, from wherever the same content can be read. */
int cmb_sv_node_get(cmb_salvage *s, const cmb_noderef *ref, cmb_pin *pin);
/* Notes an inner node that cannot be read. */
int cmb_sv_graft_note(cmb_salvage *s, const cmb_noderef *ref);
/* A reference to a found leaf or node by its own word: its name is that of the bytes that are there. */
int cmb_sv_node_describe(cmb_salvage *s, const cmb_sv_node *n, cmb_noderef *out_ref);
const cmb_sv_graft *cmb_sv_graft_find(const cmb_salvage *s, uint64_t addr);
/* Looks for the children of all noted nodes, and of those that come up below them. *out_more: some were found. */
int cmb_sv_graft_all(cmb_salvage *s, bool *out_more);
/* Walks the inner nodes of a tree: notes what is damaged and what is in a tree. */
int cmb_sv_survey(cmb_salvage *s, const cmb_tree *tree, const cmb_noderef *root);

/* ---- cursors (salvage_cursor.c) ---- */

/* A node that cannot be read: its keys lie in (lo, hi], sizes 0 for open ends. Of an inner one some children may have been put back: `found`
 * entries of ref->count. Non-zero stops and is returned. */
typedef int (*cmb_sv_lost_fn)(void *ctx, const cmb_noderef *ref, int error, cmb_bytes lo, cmb_bytes hi, uint64_t found);

typedef struct cmb_sv_item {
    bool subtree;
    cmb_noderef ref;     /* the subtree; of an entry: its leaf */
    cmb_bytes lo;        /* a subtree's keys are greater; size 0: from the start */
    cmb_bytes key;       /* the entry's, or the subtree's last one; size 0: not known */
    cmb_found found;     /* the entry's value */
} cmb_sv_item;

typedef struct cmb_sv_cursor cmb_sv_cursor;
int cmb_sv_cursor_open(cmb_salvage *s, const cmb_tree *tree, const cmb_noderef *root, cmb_sv_lost_fn lost, void *ctx, cmb_sv_cursor **out_cursor);
void cmb_sv_cursor_close(cmb_sv_cursor *c); /* NULL allowed */
/* What comes next: a subtree or an entry; false: nothing does. Pointers live until the cursor moves. */
bool cmb_sv_cursor_item(cmb_sv_cursor *c, cmb_sv_item *out_item);
int cmb_sv_cursor_enter(cmb_sv_cursor *c); /* into the subtree; past it if it is lost */
void cmb_sv_cursor_pass(cmb_sv_cursor *c); /* past the subtree or the entry */

/* ---- copying (salvage_copy.c) ---- */

/* Where changes go. Values out of line are given by reference, of the damaged image. `put_far` returns 1 if the value cannot be read. */
typedef struct cmb_sv_sink {
    int (*put)(void *ctx, cmb_bytes key, cmb_bytes value);
    int (*put_far)(void *ctx, cmb_bytes key, const cmb_valref *value);
    int (*del)(void *ctx, cmb_bytes key);
    void *ctx;
} cmb_sv_sink;
/* What changes from what is left of one tree to what is left of another. lost: of the second; told of values with level 255. */
int cmb_sv_changes(cmb_salvage *s, const cmb_noderef *from, const cmb_noderef *to, cmb_sv_lost_fn lost, void *ctx, const cmb_sv_sink *sink);
/* The second applied to `base`, which is the first's in out, gives *out_root. */
int cmb_sv_copy(cmb_salvage *s, const cmb_noderef *from, const cmb_noderef *to, const cmb_noderef *base, cmb_sv_lost_fn lost, void *ctx,
                cmb_noderef *out_root);
#define CMB_SV_VALUE_LEVEL 255u
/* Writes a value of the damaged image into `app`, or finds where it was written before (salvage_value.c). 1: it cannot be read; the detail says why. */
int cmb_sv_value_copy(cmb_salvage *s, const cmb_valref *ref, cmb_appender *app, cmb_valref *out_ref);

/* A transaction on a branch of out as a sink (salvage_write.c). Stays where it is from begin to end. */
typedef struct cmb_sv_writer {
    cmb_salvage *s;
    cmb_txn *txn;
    cmb_sv_sink sink;
} cmb_sv_writer;
int cmb_sv_writer_begin(cmb_salvage *s, const char *branch, cmb_sv_writer *w);
/* Commits, unless `error` says that something failed before: then it aborts and returns that. info as for cmb_txn_commit. */
int cmb_sv_writer_end(cmb_sv_writer *w, int error, const cmb_commit_info *info);

/* ---- state, commits, refs, the rest ---- */

int cmb_sv_gather(cmb_salvage *s);             /* salvage_state.c */

int cmb_sv_commits(cmb_salvage *s);            /* salvage_commit.c */
/* Where a commit lies in out now; CMB_ENOTFOUND: nowhere. */
int cmb_sv_moved(cmb_salvage *s, const cmb_name *id, cmb_commit_at *out_at);
int cmb_sv_moved_set(cmb_salvage *s, const cmb_name *id, const cmb_commit_at *at);
/* A commit of this content in place of one whose record is lost. */
int cmb_sv_commit_rebuild(cmb_salvage *s, const cmb_name *id, const cmb_noderef *root, cmb_commit_at *out_at);
/* Notes what a tree lost: for cmb_sv_copy; ctx is a cmb_sv_owner. */
typedef struct cmb_sv_owner {
    cmb_salvage *s;
    cmb_name commit; /* size 0: a ref's, which tells itself */
} cmb_sv_owner;
int cmb_sv_note_lost(void *ctx, const cmb_noderef *ref, int error, cmb_bytes lo, cmb_bytes hi, uint64_t found);
/* Logged edits above a ref's root, by exact's lists or by records that were found (salvage_intents.c). */
int cmb_sv_intents_collect(cmb_salvage *s);
void cmb_sv_intents_free(cmb_salvage *s);
bool cmb_sv_intents_any(cmb_salvage *s, const char *name, const cmb_state *state);
int cmb_sv_intents_apply(cmb_salvage *s, const char *name, const cmb_state *state, const cmb_sv_sink *sink);
/* Was this record in a batch that a crash cut off, and later ones lie around it? */
bool cmb_sv_is_stale(const cmb_salvage *s, const cmb_sv_record *r);
int cmb_sv_refs(cmb_salvage *s);               /* salvage_ref.c: before the intake is published */
int cmb_sv_working(cmb_salvage *s);            /* and after it */
/* Every ref that is known and has a state that can be unpacked, by full name. */
int cmb_sv_refs_each(cmb_salvage *s, int (*fn)(cmb_salvage *s, const char *name, const cmb_state *state));
int cmb_sv_tell_keys(cmb_salvage *s);          /* salvage_keys.c: what refs and commits lost */
int cmb_sv_found(cmb_salvage *s);              /* salvage_found.c */

#endif
