/* SPDX-License-Identifier: ISC */
/*
 * internal.h: what the files of store/ share. The ideas are in store.h; this is their C.
 *
 * Locks, in the order in which they are taken:
 *   writer lock of a ref   one writing transaction at a time; ascending by name for several (refs.c)
 *   store->unit            a head unit from cmb_log_begin until the memory shows what it published (unit.c)
 *   (the log's append lock)
 *   store->lock            short: the ref cache, ref states, pending table edits, table roots
 *   store->watches.lock    short: watches and their notes
 */
#ifndef CMB_STORE_INTERNAL_H
#define CMB_STORE_INTERNAL_H

#include "io/os.h"
#include "store/store.h"

/* ---- what refs stand on (state.c) ---- */

/* A commit and where its record lies. id.size 0: none. */
typedef struct cmb_commit_at {
    cmb_name id;
    uint64_t addr;
    uint32_t length; /* bytes of the COMMIT record, header included */
} cmb_commit_at;
/* A parent that is known by id, but not in this image: the history is shallow and ends above it. */
static inline bool cmb_commit_is_absent(const cmb_commit_at *at) { return at->id.size && !at->length; }

/*
 * What a ref stands on. `root` is always the content; `working` says that it is not the content of
 * `commit` (or, without a commit, not the empty tree).
 */
typedef struct cmb_state {
    cmb_commit_at commit;    /* the permanent commit here or below; id.size 0: none yet */
    cmb_noderef commit_root; /* its content; the empty tree without one */
    cmb_noderef root;        /* the content; equal to commit_root unless working */
    uint64_t generation;     /* of the commit; 0 without one */
    bool working;
    uint64_t pending;        /* number of the newest unit whose intents lie above root (intents.h); 0: root is the content */
    uint64_t merged;         /* intents of units up to this one are in root or void; set when it is packed */
    cmb_commit_at tag;       /* an annotated tag's: its object (tag.h), which leads to the commit; else id.size 0 */
} cmb_state;

#define CMB_STATE_PACKED_MAX (1u + 8u + CMB_NAME_MAX + 20u + 2u * CMB_NODEREF_PACKED_MAX + CMB_NAME_MAX + 12u)
unsigned cmb_state_pack(const cmb_state *state, uint8_t *out);
/* The number of the unit in a packed state; 0: too short to be one. */
static inline uint64_t cmb_state_merged(const uint8_t *packed, size_t size)
{
    return size > 8 ? cmb_get64(packed + 1) : 0;
}
/* CMB_ECORRUPT, the detail names `what`. */
int cmb_state_unpack(const cmb_store *store, const char *what, const uint8_t *data, size_t size, cmb_state *out_state);
void cmb_state_empty(const cmb_store *store, cmb_state *out_state);
/* The same commit, the same content? */
bool cmb_state_equal(const cmb_state *a, const cmb_state *b);
void cmb_state_rev(const cmb_state *state, cmb_rev *out_rev);

#define CMB_COMMIT_AT_PACKED 12u
/* A commit index value: u64 address, u32 length. */
void cmb_commit_at_pack(const cmb_commit_at *at, uint8_t out[CMB_COMMIT_AT_PACKED]);
int cmb_commit_at_unpack(const cmb_store *store, cmb_bytes id, cmb_bytes value, cmb_commit_at *out_at);

/* ---- tables: a tree and the edits since it was written (table.c) ---- */

typedef enum cmb_table_id { CMB_TABLE_REFS = 0, CMB_TABLE_COMMITS = 1, CMB_TABLE_REFLOG = 2 } cmb_table_id;
#define CMB_TABLES 3u

/* One edit that waits to be folded into its table's tree. Made before a unit is published, so that
 * showing the unit in memory afterwards cannot fail. */
typedef struct cmb_pending {
    struct cmb_pending *next; /* in its bucket, or in a list on its way there */
    uint64_t hash;
    uint64_t unit;            /* number of the unit that published it */
    uint32_t key_size, value_size;
    uint8_t table;
    bool removed;             /* the key is deleted */
    uint8_t bytes[];          /* key, value */
} cmb_pending;

typedef struct cmb_table {
    cmb_noderef root;
    cmb_pending **buckets; /* power of two of them */
    size_t bucket_count, pending_count;
} cmb_table;

#define CMB_TABLE_VALUE_MAX 512u
#define CMB_TABLE_NODE_MIN 4096u /* target of a table's nodes, at least: a quarter of it holds a value */

int cmb_table_init(cmb_store *store, cmb_table *table);
void cmb_table_destroy(cmb_store *store, cmb_table *table);
/* Makes a pending edit; value NULL data: removal is said by `removed`. NULL: out of memory. */
cmb_pending *cmb_pending_create(const cmb_store *store, cmb_table_id table, cmb_bytes key, cmb_bytes value, bool removed);
void cmb_pending_release(const cmb_store *store, cmb_pending *list);
int cmb_pending_add(cmb_buffer *buffer, const cmb_pending *edit);
/* Takes the list (no key twice) over; cannot fail. store->lock held, or nobody else knows the store yet. */
void cmb_tables_apply(cmb_store *store, cmb_pending *list, uint64_t unit);
/* The same for one edit that is older than all that is there. */
void cmb_table_apply_older(cmb_store *store, cmb_pending *edit);
/* Makes room for n more edits where it can: fewer collisions later. store->lock held. */
void cmb_table_reserve(cmb_store *store, cmb_table *table);
/* Newest value of a key, from the pending edits or the tree. Takes store->lock, but not over I/O. CMB_ENOTFOUND without detail. */
int cmb_table_get(cmb_store *store, cmb_table_id table, cmb_bytes key, uint8_t out_value[CMB_TABLE_VALUE_MAX], size_t *out_size);

/* A table as it is now, in key order, whatever happens meanwhile. */
typedef struct cmb_table_view {
    cmb_view view;
    cmb_view_cursor *cursor;
} cmb_table_view;
int cmb_table_view_open(cmb_store *store, cmb_table_id table, cmb_table_view *out_view);
void cmb_table_view_close(cmb_store *store, cmb_table_view *view);
/* A sealed buffer of all pending edits; the caller destroys it. out_root: the tree under them. */
int cmb_table_collect(cmb_store *store, cmb_table_id table, cmb_buffer **out_edits, cmb_noderef *out_root);
/* After a fold up to `unit`: the new root, and what it holds is no longer pending. store->lock held. */
void cmb_table_folded(cmb_store *store, cmb_table_id table, const cmb_noderef *root, uint64_t unit);
/* The tree of a table now: for fsck and statistics. */
void cmb_table_root(cmb_store *store, cmb_table_id table, cmb_noderef *out_root);

/* ---- records (root.c) ---- */

int cmb_root_read(cmb_store *store, uint64_t addr, uint32_t length);
int cmb_root_read_tables(cmb_store *store, uint64_t addr, uint32_t length); /* the same without runs of intents: for salvage */
struct cmb_intents_runs;
/* Bytes of pending edits that a ROOT record carries before they are folded into the tables. */
#define CMB_ROOT_CARRY ((size_t)64 << 10)
/* Writes the ROOT record: these table roots and the edits over them, which hold `units` units, and the runs of intents. carried NULL: none. */
int cmb_root_append(cmb_store *store, cmb_appender *app, uint64_t units, const cmb_noderef roots[CMB_TABLES], const cmb_bytes *carried,
                    const struct cmb_intents_runs *runs, uint64_t *out_addr, uint32_t *out_length);
/* All pending edits of all tables as the payload of an EDITS record, if they are few; else *out_size 0. Released by the caller. */
int cmb_root_carry(cmb_store *store, uint8_t **out_payload, uint32_t *out_size);
/* Pending edits (no key twice) as the payload of an EDITS record; the caller releases *out_size bytes. */
int cmb_edits_encode(const cmb_store *store, const cmb_pending *list, uint8_t **out_payload, uint32_t *out_size);
/* Which unit ends in the EDITS record of this payload, by what it says of branches; 0: nothing, or no payload of one. */
uint64_t cmb_edits_unit(const void *payload, size_t size);
/* cmb_log_replay_fn; ctx is the store. */
int cmb_edits_replay(void *ctx, uint8_t kind, uint64_t addr, const void *payload, uint32_t length);

/* ---- refs in memory (refs.c) ---- */

typedef struct cmb_waiter cmb_waiter;

/* A ref ("heads/NAME" or "tags/NAME") that is or was in use. A cache over CMB_TABLE_REFS. */
typedef struct cmb_refobj {
    struct cmb_refobj *next;  /* in its bucket */
    uint64_t hash;
    uint32_t users;           /* who hold a pointer; 0: may be dropped */
    bool exists;
    const void *writer;       /* token of the thread that holds the writer lock; NULL: free */
    cmb_waiter *first, *last; /* who wait for it, in order */
    cmb_state state;
    struct cmb_watched *watched; /* NULL: nobody watches it; under store->lock */
    struct cmb_intents *intents; /* above state.root; NULL: none */
    uint64_t logged;             /* intents of units up to this one are in runs */
    struct cmb_refobj *next_intents; /* in store->intents_first */
    bool intents_listed;
    cmb_noderef built;           /* in memory: the tree of the intents up to built_upto over the root at built_over; under `unit` */
    uint64_t built_upto, built_over;
    uint32_t name_size;       /* without the zero */
    char name[];              /* zero-terminated */
} cmb_refobj;

#define CMB_HEADS "heads/"
#define CMB_TAGS "tags/"
#define CMB_REF_FULL_SIZE (sizeof CMB_HEADS + CMB_REF_NAME_MAX) /* bytes of the longest full name and its zero */

/* Checks a branch's or tag's name and puts the prefix in front (refname.c). */
int cmb_ref_full_name(const char *prefix, const char *name, char out_full[CMB_REF_FULL_SIZE]);

int cmb_refs_init(cmb_store *store);
void cmb_refs_destroy(cmb_store *store);
/* The state of a ref by full name, settled (intents.h); CMB_ENOTFOUND without a detail. Not inside a unit. */
int cmb_ref_state(cmb_store *store, const char *name, size_t size, cmb_state *out_state);
/* The ref, which may not exist, kept until cmb_ref_unuse. */
int cmb_ref_use(cmb_store *store, const char *name, size_t size, cmb_refobj **out_ref);
void cmb_ref_reuse(cmb_store *store, cmb_refobj *ref); /* one user more */
void cmb_ref_unuse(cmb_store *store, cmb_refobj *ref);
/* Its state now, whose content may be pending. */
void cmb_ref_look(cmb_store *store, const cmb_refobj *ref, cmb_state *out_state, bool *out_exists);
/* Waits for one's turn. CMB_EBUSY: nowait, or this thread holds it already. */
int cmb_ref_lock(cmb_store *store, cmb_refobj *ref, bool nowait);
void cmb_ref_unlock(cmb_store *store, cmb_refobj *ref);
/* All refs whose full name begins with prefix, in order; non-zero from fn stops and is returned. */
typedef int (*cmb_ref_each_fn)(void *ctx, const char *name, const cmb_state *state);
int cmb_refs_each(cmb_store *store, const char *prefix, cmb_ref_each_fn fn, void *ctx);
/* The same as the table has them, without the intents that lie above: nothing is merged, and every root is one that is written. */
int cmb_refs_each_written(cmb_store *store, const char *prefix, cmb_ref_each_fn fn, void *ctx);

/* ---- the reflog (reflog.c): its table's keys are a ref's full name, a zero byte and the unit's number, big-endian ---- */

#define CMB_REFLOG_KEY_MAX (CMB_REF_FULL_SIZE + 8u)
#define CMB_REFLOG_VALUE_MAX (11u + 2u * CMB_NAME_MAX)
size_t cmb_reflog_key(const char *name, size_t size, uint64_t unit, uint8_t out[CMB_REFLOG_KEY_MAX]);
/* Of a key of more than 8 bytes. */
static inline uint64_t cmb_reflog_unit(const uint8_t *key, size_t size)
{
    uint64_t unit = 0;
    for (unsigned i = 8; i > 0; i--)
        unit = unit << 8 | key[size - i];
    return unit;
}
size_t cmb_reflog_pack(const cmb_reflog_entry *entry, uint8_t out[CMB_REFLOG_VALUE_MAX]);
/* Drops what is older than the newest CMB_REFLOG_MAX entries of every ref that `edits` has entries of. */
int cmb_reflog_trim(cmb_store *store, cmb_appender *app, cmb_buffer *edits, cmb_noderef *root);

/* ---- units: one atomic change of refs and commit index (unit.c) ---- */

/* What a unit changes. Zero-initialise; cmb_unit_begin fills in. */
typedef struct cmb_unit {
    cmb_store *store;
    cmb_appender *app;      /* the head, from begin to publish or abort; NULL if folded */
    bool folded;            /* ends in a checkpoint */
    cmb_pending *edits;     /* of the commit index; no key twice */
    struct cmb_move {
        cmb_refobj *ref;
        cmb_state state;
        bool exists;
        cmb_reflog_reason reason;
        bool merge;         /* same content: intents up to state.merged went into the tree, `rest` stays above it */
        struct cmb_intents *rest;
    } *moves;               /* refs in memory to be moved when it is queued */
    size_t move_count, move_capacity;
    struct cmb_move inline_moves[2];
    struct cmb_intent *intents; /* shown in memory when it is queued */
} cmb_unit;
/* Starts the epoch by a checkpoint if need be. CMB_EREADONLY says why. */
int cmb_unit_begin(cmb_store *store, cmb_unit *unit);
/* The ref (whose writer lock is held, or whose content does not change) is to stand on state; NULL: deleted.
 * A later move of a ref replaces an earlier one. */
int cmb_unit_move(cmb_unit *unit, cmb_refobj *ref, const cmb_state *state, cmb_reflog_reason reason);
/* The same for a ref that this unit has not moved yet: it is not looked for. */
int cmb_unit_move_first(cmb_unit *unit, cmb_refobj *ref, const cmb_state *state, cmb_reflog_reason reason);
int cmb_unit_index(cmb_unit *unit, const cmb_commit_at *commit);
/* Queues it and shows it in memory. On an error nothing has changed. The unit is over in any case. */
int cmb_unit_publish(cmb_unit *unit, uint64_t *out_seq);
void cmb_unit_abort(cmb_unit *unit);
/* The same content with intents up to state->merged in its tree; `rest`, those above it, is taken over on success. */
int cmb_unit_merge(cmb_unit *unit, cmb_refobj *ref, const cmb_state *state, struct cmb_intents *rest);
/* Commits by the thousand for the index: `over`, the index's tree when it was looked at, with `ids` in it is `root`. */
typedef struct cmb_index_batch {
    cmb_noderef over, root;
    cmb_buffer *ids; /* id -> packed place; sealed */
} cmb_index_batch;
/* Writes the index with `ids` in it to a stream, outside of any unit. */
int cmb_index_batch_apply(cmb_store *store, cmb_appender *stream, cmb_buffer *ids, cmb_index_batch *out_batch);
/* A unit of any number of moves and commits, whose tables are folded into a stream and which ends in a checkpoint. Others wait meanwhile. */
int cmb_unit_begin_folded(cmb_store *store, cmb_unit *unit);
/* Durable on return. Takes the stream, open and with what the unit refers to, over. index: may be NULL. Else as cmb_unit_publish. */
int cmb_unit_publish_folded(cmb_unit *unit, cmb_appender *stream, const cmb_index_batch *index, uint64_t *out_seq);
/* Waits until it is durable and takes a checkpoint if one is due. */
int cmb_unit_settle(cmb_store *store, uint64_t seq, bool async);
/* Waits until batch `seq` is durable; CMB_ENOMEM never comes out. */
int cmb_store_settle(cmb_store *store, uint64_t seq);
/* Folds the tables and makes a checkpoint that starts from them; durable on return. */
int cmb_store_checkpoint(cmb_store *store);

/* ---- headers of commits and tags (header.c) ---- */

/* Names and sizes; *out_size: bytes they take encoded, their number included. CMB_EINVAL. */
int cmb_headers_check(const cmb_commit_header *headers, size_t n, size_t *out_size);
uint8_t *cmb_headers_put(uint8_t *p, const cmb_commit_header *headers, size_t n);
/* Are these `size` bytes headers, and nothing else? *out_memory: bytes that their names and values take in memory. */
bool cmb_headers_measure(const uint8_t *p, size_t size, size_t *out_count, size_t *out_memory);
/* After measure. */
void cmb_headers_fill(const uint8_t *p, cmb_commit_header *out, uint8_t *memory);

/* ---- commits (commit.c) ---- */

#define CMB_GENERATION_MAX ((uint64_t)INT64_MAX) /* of what is made here or comes from a peer: there is always one above */

/* A commit record, decoded. */
typedef struct cmb_commit_record {
    cmb_commit commit;            /* first member: cmb_commit_free takes this */
    cmb_allocator alloc;
    size_t memory;                /* bytes of this allocation */
    cmb_commit_at at;
    cmb_noderef root;
    const cmb_commit_at *parents; /* commit.parent_count of them */
} cmb_commit_record;
/* The record of a commit or tag object, of this kind and length and with a right check; the caller releases at->length bytes. `what`: for errors. */
int cmb_object_load(cmb_store *store, const cmb_commit_at *at, uint8_t kind, const char *what, uint8_t **out_record);
/* Reads, checks record and id. Free with cmb_commit_free(&record->commit). */
int cmb_commit_load(cmb_store *store, const cmb_commit_at *at, cmb_commit_record **out_record);
/* What is written into a new commit. */
typedef struct cmb_commit_draft {
    cmb_noderef root;
    const cmb_commit_at *parents;
    size_t parent_count;
    uint64_t generation;
    int64_t time;
    const char *author, *message; /* may be NULL */
    const cmb_commit_header *headers;
    size_t header_count;
} cmb_commit_draft;
/* Room for the texts, headers in order? CMB_EINVAL. Before anything is written. */
int cmb_commit_info_check(const cmb_commit_info *info);
/* The id that it would have. CMB_EINVAL: too much in it. */
int cmb_commit_name(const cmb_store *store, const cmb_commit_draft *draft, cmb_name *out_id);
/* CMB_EINVAL: too much in it, and nothing is appended. */
int cmb_commit_append(cmb_store *store, cmb_appender *app, const cmb_commit_draft *draft, cmb_commit_at *out_at);
/* From the index, by id. CMB_ENOTFOUND with a detail. */
int cmb_commit_find(cmb_store *store, const cmb_name *id, cmb_commit_at *out_at);
/* By the first `digits` hexadecimal digits of its id. CMB_ENOTFOUND without detail, CMB_EAMBIGUOUS lists candidates. */
int cmb_commit_find_prefix(cmb_store *store, const char *hex, size_t digits, cmb_commit_at *out_at);
/* Every commit in the index, by id; non-zero from fn stops and is returned. */
typedef int (*cmb_commit_each_fn)(void *ctx, const cmb_commit_at *at);
int cmb_commits_each(cmb_store *store, cmb_commit_each_fn fn, void *ctx);
/* The state that a ref on this commit has. */
int cmb_commit_state(cmb_store *store, const cmb_commit_at *at, cmb_state *out_state);
/* A permanent commit of `root` above state->commit, appended and put into the unit's index edits; *out_state stands on it. */
int cmb_unit_commit(cmb_unit *unit, const cmb_state *base, const cmb_noderef *root, const cmb_commit_info *info, cmb_state *out_state);
/* The same above any parents, in order; reads them for their generations. */
int cmb_unit_commit_parents(cmb_unit *unit, const cmb_commit_at *parents, size_t n, const cmb_noderef *root, const cmb_commit_info *info,
                            cmb_state *out_state);

/* ---- revisions (rev.c) ---- */

typedef struct cmb_resolved {
    cmb_state state;
    bool content;                      /* "^{root}": only the content is meant */
    char ref[CMB_REF_FULL_SIZE];       /* full name if a working state is meant: the ref that holds it; else "" */
} cmb_resolved;
/* The state is settled (intents.h). Not inside a unit. */
int cmb_rev_resolve(cmb_store *store, const char *rev, cmb_resolved *out);
/* The permanent commit that a REV names, or_below: or is a working state above (else CMB_EWORKING). CMB_ENOTFOUND: it has none. (commit.c) */
int cmb_commit_resolve(cmb_store *store, const char *rev, bool or_below, cmb_commit_at *out_at);

/* ---- watches (store/watch.h) ---- */

typedef struct cmb_watches {
    cmb_mutex lock;
    cmb_cond ready;              /* something to dispatch, or a wake */
    cmb_cond idle;               /* a callback has returned */
    struct cmb_watched *all;     /* what is watched */
    struct cmb_watched *ready_first, *ready_last; /* of them, what may have something to dispatch */
    uint64_t wakes;              /* waits that are to end */
    bool news, announced;        /* something to dispatch came up, watch_ready was called: since a dispatch began */
    size_t note_max;             /* a branch */
    void (*announce)(void *ctx); /* cmb_store_options.watch_ready */
    void *announce_ctx;
} cmb_watches;
int cmb_watches_init(cmb_watches *w, const cmb_store_options *options);
/* Ends all watches. */
void cmb_watches_destroy(cmb_store *store);
/* A ref has moved, store->lock held; cannot fail. */
void cmb_watched_moved(cmb_store *store, const cmb_refobj *ref);
/* Calls watch_ready if there are news; no lock held. */
void cmb_watches_announce(cmb_store *store);

/* ---- the store ---- */

#define CMB_SEED_DEFAULT 0x63616d6269756d00u /* of the boundary rule where none is chosen: independent images compare */

struct cmb_store {
    cmb_allocator alloc;
    cmb_env env;
    cmb_device *dev;
    bool owns_dev;
    bool writable;
    bool failed;              /* a device failure was seen: read-only from then on; atomic access */
    cmb_log *log;
    cmb_nodes *nodes;
    cmb_tree tree;            /* of contents */
    cmb_tree table_tree;      /* of tables: its nodes are large enough for table values to lie in line */
    size_t txn_memory;        /* bytes */
    char device_line[256];

    cmb_mutex unit;           /* see the top of this file */
    uint64_t unit_number;     /* of the last one published since the image was made; under `unit` and lock */
    bool checkpointing;       /* one is being written; under lock */

    cmb_mutex lock;
    cmb_cond checkpointed;    /* the one that was being written is over */
    cmb_table tables[CMB_TABLES];
    cmb_refobj **ref_buckets;
    size_t ref_bucket_count, ref_count, ref_limit; /* limit: sweep the cache at so many */
    uint64_t ref_version;     /* grows whenever a ref moves */
    uint64_t last_seq;        /* batch of the newest unit */
    cmb_refobj *intents_first; /* refs that have or had intents */
    size_t intents_bytes, intents_count; /* of keys and values in all lists, and their edits */
    size_t intents_merge_at;  /* weight from which on they are merged */
    bool intents_merging;
    struct cmb_intents_runs *runs; /* in the newest durable ROOT record; changes under unit and lock */
    struct cmb_intents_note *notes, **notes_end; /* while it is opened */
    cmb_appender *scratch;    /* a reader's own nodes; NULL: none yet; under `unit` */
    cmb_watches watches;
};

/* A store over a log that is put together from what is there (log/rescue.h), read-only whatever the options say, without
 * refs: its tables are empty until a ROOT record is read. `params` as there. */
int cmb_store_open_rescue(cmb_device *dev, const cmb_store_options *options, const cmb_image_params *params, cmb_store **out_store);

/* CMB_EREADONLY if nothing may be written. */
int cmb_store_check_writable(const cmb_store *store);
/* Passes `error` on; remembers that the device failed if it says so. */
int cmb_store_note(cmb_store *store, int error);

#endif
