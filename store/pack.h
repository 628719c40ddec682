/* SPDX-License-Identifier: ISC */
/*
 * pack.h: history as a stream: commits, parents before children, each with what its content changes against contents that the receiver has.
 *
 * No node travels. The sender compares a commit's tree with those of its *bases*, commits that the receiver has by then (its
 * parents, as a rule), and sends the keys that differ from the first of them; the receiver applies them to its own tree of that
 * base. Shape is canonical, so what comes out has the commit's root name exactly if nothing was left out, added or
 * changed: structure need not be trusted, because it is never sent. The commit's id is computed from what was built and compared.
 *
 * What a merge took over from another parent does not travel again: a *copy* says that a range of keys is as in base i.
 * Of an out-of-line value only those chunks travel that differ from the chunk in the same place of the first base's value.
 *
 * docs/sync.md has the bytes. The sender is asked for one piece after the other, so that a peer in the same process needs no
 * thread; its memory is bounded by a few nodes, two keys and a chunk. The receiver's is bounded by those and a commit's texts.
 */
#ifndef CMB_STORE_PACK_H
#define CMB_STORE_PACK_H

#include "store/handles.h"
#include "store/idset.h"
#include "store/intake.h"
#include "store/select.h"
#include "store/wire.h"

#define CMB_PACK_BASES 4u /* of a commit, at most */

enum { CMB_PACK_END = 0, CMB_PACK_COMMIT = 1 };
enum { CMB_OP_END = 0, CMB_OP_PUT = 1, CMB_OP_PUT_FAR = 2, CMB_OP_REMOVE = 3, CMB_OP_COPY = 4 };
enum { CMB_CHUNK_DATA = 0, CMB_CHUNK_KEPT = 1 };
enum { CMB_PARENT_ABSENT = 1 };

/* ---- sending (send.c, send_changes.c) ---- */

typedef struct cmb_changes cmb_changes;

typedef struct cmb_sender {
    cmb_store *store;
    cmb_wire_out *out;
    cmb_select *select;        /* finished */
    const cmb_commit_at *spare;/* a commit that the receiver has, for commits without parents there; NULL: none */
    size_t next;               /* of select->met */
    bool begun, ended;
    cmb_changes *changes;      /* of the commit under way */
    cmb_sync_stats stats;      /* commits, changes, value_bytes */
} cmb_sender;

int cmb_sender_open(cmb_sender *sender, cmb_select *select, const cmb_commit_at *spare, cmb_wire_out *out);
void cmb_sender_close(cmb_sender *sender); /* zeroed: allowed */
/* Writes the next piece, some 64 KiB, but for a chunk's size more; *out_done: that was the last one. The message is not ended. */
int cmb_sender_step(cmb_sender *sender, bool *out_done);

/* The changes of one content against others: what send_changes.c does for send.c. */
int cmb_changes_open(cmb_store *store, const cmb_noderef *bases, unsigned base_count, const cmb_noderef *root, cmb_changes **out_changes);
void cmb_changes_close(cmb_changes *changes); /* NULL allowed */
/* Some of them; *out_done: all are written, CMB_OP_END included. */
int cmb_changes_step(cmb_changes *changes, cmb_wire_out *out, cmb_sync_stats *stats, bool *out_done);

/* ---- receiving (receive.c, receive_changes.c) ---- */

typedef struct cmb_receiver {
    cmb_store *store;       /* NULL: form only */
    cmb_allocator alloc;
    cmb_hash_kind hash;
    uint32_t inline_max;    /* bytes of the largest value that lies in its leaf */
    cmb_wire_in *in;
    cmb_intake *intake;     /* NULL: looks at the form, writes nothing */
    cmb_idset seen;         /* ids of commits that came */
    cmb_sync_progress_fn progress;
    void *ctx;
    uint64_t total;         /* commits announced */
    cmb_sync_stats stats;
    cmb_blob texts;         /* of the commit under way */
    uint8_t *keys;          /* three of CMB_KEY_MAX + 1 bytes */
    uint8_t *value;         /* inline_max bytes */
    uint8_t *chunk;         /* CMB_CHUNK_SIZE bytes, once one comes */
} cmb_receiver;

int cmb_receiver_open(cmb_receiver *receiver, const cmb_allocator *alloc, cmb_store *store, cmb_hash_kind hash, uint32_t node_size,
                      cmb_wire_in *in, cmb_intake *intake);
void cmb_receiver_close(cmb_receiver *receiver); /* zeroed: allowed */
/* What has to be there. *out_ids: the caller releases *out_count of them with the receiver's allocator. CMB_ENOTFOUND: a store lacks one. */
int cmb_receiver_needed(cmb_receiver *receiver, cmb_name **out_ids, size_t *out_count);
/* All commits. On success each is in the intake. */
int cmb_receiver_run(cmb_receiver *receiver);
/* Did the pack bring the commit, or is it there? */
int cmb_receiver_knows(cmb_receiver *receiver, const cmb_name *id, bool *out_yes);

/* The changes of one commit. bases: trees that they refer to, the first is changed; NULL: form only. */
int cmb_receive_changes(cmb_receiver *receiver, const cmb_noderef *bases, unsigned base_count, cmb_noderef *out_root);

#endif
