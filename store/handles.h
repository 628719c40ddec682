/* SPDX-License-Identifier: ISC */
/* handles.h: snapshots, transactions, cursors and value streams: what their files share. */
#ifndef CMB_STORE_HANDLES_H
#define CMB_STORE_HANDLES_H

#include "btree/view.h"
#include "store/intents.h"

#define CMB_GET_MAX ((uint32_t)64 << 20) /* bytes of the largest value that is handed out in one piece */

/* Memory of a handle that is filled again and again. */
typedef struct cmb_blob {
    uint8_t *data;
    size_t capacity;
} cmb_blob;
/* Contents are lost where it grows. */
int cmb_blob_reserve(const cmb_allocator *alloc, cmb_blob *blob, size_t size);
int cmb_blob_set(const cmb_allocator *alloc, cmb_blob *blob, const void *data, size_t size);
void cmb_blob_release(const cmb_allocator *alloc, cmb_blob *blob);

/* Two pins in turn: the key of a call may point to what the call before gave out. */
typedef struct cmb_pins {
    cmb_pin pin[2];
    unsigned turn;
} cmb_pins;
static inline cmb_pin *cmb_pins_next(cmb_pins *p) { return &p->pin[p->turn ^= 1]; }
void cmb_pins_destroy(cmb_nodes *nodes, cmb_pins *p);

/* Lookups in one batch and what keeps their values. */
typedef struct cmb_many {
    cmb_pin *pins;
    cmb_found *found;
    size_t capacity;
} cmb_many;

struct cmb_snapshot {
    cmb_store *store;
    cmb_view view;
    cmb_pins pins;
    cmb_state state;
    cmb_live live;     /* while there are intents above the root, and after: values point into them */
    bool in_memory;    /* the root is: nothing that is written may refer to it */
    cmb_blob value;    /* an out-of-line value, assembled */
    cmb_many many[2];  /* in turn, as the pins */
    unsigned many_turn;
    cmb_blob many_values;
};

/* Its root becomes the content, for what needs a tree. */
int cmb_snapshot_settle(cmb_snapshot *snapshot);
/* A snapshot of a settled state that is known already. */
int cmb_snapshot_of(cmb_store *store, const cmb_state *state, cmb_snapshot **out_snapshot);

/* The keys of a range: lower <= key < upper; size 0: open (range.c). Zero-initialise. */
typedef struct cmb_bounds {
    cmb_bytes lower, upper; /* in `room` */
    cmb_blob room;
} cmb_bounds;
/* From the prefix and from the bounds whichever is narrower; copied. range NULL: everything. */
int cmb_bounds_set(const cmb_allocator *alloc, cmb_bounds *bounds, const cmb_range *range);
void cmb_bounds_release(const cmb_allocator *alloc, cmb_bounds *bounds);
/* Can no key lie in it? */
static inline bool cmb_bounds_empty(const cmb_bounds *b)
{
    return b->upper.size && cmb_compare(b->lower.data, b->lower.size, b->upper.data, b->upper.size) >= 0;
}

#define CMB_TXN_RUNS 64u    /* spilled runs before they are merged into the tree */
#define CMB_TXN_STREAMS 4u  /* finished streams that wait for a commit which failed for want of space */

struct cmb_txn {
    cmb_store *store;
    cmb_refobj *ref;         /* writer lock held; NULL: detached */
    cmb_state base;          /* where it began */
    cmb_live live;           /* of base, while the view has its intents and after */
    cmb_view view;           /* base or an intermediate root, runs, buffer */
    cmb_noderef runs[CMB_TXN_RUNS];
    cmb_appender *stream;    /* open; NULL: none yet */
    cmb_appender *finished[CMB_TXN_STREAMS];
    unsigned finished_count;
    bool stream_needed;      /* the stream holds something that the view refers to */
    cmb_editor *editor;      /* direct phase: ascending edits go straight into view.root; the buffer is empty */
    bool ascending;          /* the buffer's edits came in ascending order; last_key is the largest */
    cmb_blob last_key;
    size_t last_key_size;
    size_t direct_at;        /* bytes of ascending edits from which they go straight */
    size_t spill_at;         /* bytes of edits from which they are spilled */
    int spill_error;         /* why that failed last time */
    int broken;              /* edits were lost: every further call says why */
    uint64_t edit_count, edit_bytes; /* in the buffer, duplicates counted */
    cmb_pins pins;
    cmb_blob value;
    cmb_cursor *cursors;     /* open over it */
    uint64_t layout;         /* grows whenever view is no longer what cursors were opened on */
    bool writing_value;
    cmb_blob value_key, value_head; /* of a value written piece by piece: its first bytes */
    size_t value_key_size, value_head_size;
    cmb_value_writer *value_writer; /* once it outgrew value_head */
};

struct cmb_cursor {
    cmb_view_cursor *cursor;
    enum { CMB_CURSOR_BEFORE, CMB_CURSOR_ON, CMB_CURSOR_AFTER, CMB_CURSOR_LOST } place; /* lost: by an error */
    cmb_bounds bounds;
    cmb_store *store;
    cmb_txn *txn;            /* NULL: over a snapshot */
    cmb_cursor *next;        /* in the transaction's list */
    uint64_t layout;         /* of the transaction when the view was bound */
    cmb_view view;           /* snapshot's */
    cmb_blob key, value;
    cmb_pin pin;
};

/* A value that lies out of line, in one piece; at most CMB_GET_MAX bytes, else CMB_ETOOBIG. */
int cmb_value_gather(cmb_store *store, const cmb_valref *ref, cmb_blob *blob, cmb_bytes *out_value);
int cmb_value_stream_open(cmb_store *store, const cmb_found *found, cmb_value_stream **out_stream);

static inline bool cmb_key_is_bad(size_t size) { return size - CMB_KEY_MIN > CMB_KEY_MAX - CMB_KEY_MIN; }
int cmb_key_refuse(size_t size);

/* Before the transaction's buffer is written or cleared: its cursors keep their places. */
void cmb_txn_cursors_keep(cmb_txn *txn);
/* Everything in it becomes readable through txn->view. */
int cmb_txn_close_direct(cmb_txn *txn);
/* Its base becomes a tree, which edits may lie over. Before the first edit, with the ref's writer lock. */
int cmb_txn_settle(cmb_txn *txn);
/* Opens the stream if there is none. */
int cmb_txn_need_stream(cmb_txn *txn);
/* Merges runs and buffer into view.root, in the stream. */
int cmb_txn_collapse(cmb_txn *txn);
bool cmb_txn_has_edits(const cmb_txn *txn);
/* Gives everything back, the writer lock first. */
void cmb_txn_end(cmb_txn *txn);

#endif
