/* SPDX-License-Identifier: ISC */
/*
 * peer.h: who talks to whom. A pull is a conversation; each side begins its stream with CMB_WIRE_PEER:
 *
 *   asking                                      answering
 *   HELLO  its parameters, names of branches
 *                                               REFS   its parameters, refs with their commits
 *   WANT   ids, depth, heads of its own
 *                                               ASK    ids: do you have these?
 *   HAVE   a bit each                           … as often as needed, then
 *                                               PACK   pack.h
 *
 * Nobody speaks out of turn. Instead of any answer ERROR may come, which says why, and ends it. WANT without ids ends it too. A bundle
 * is the REFS of a selection and its PACK in one message.
 */
#ifndef CMB_STORE_PEER_H
#define CMB_STORE_PEER_H

#include "store/pack.h"

enum { CMB_MSG_HELLO = 1, CMB_MSG_REFS = 2, CMB_MSG_WANT = 3, CMB_MSG_ASK = 4, CMB_MSG_HAVE = 5, CMB_MSG_PACK = 6, CMB_MSG_ERROR = 7 };
#define CMB_PEER_NAMES_MAX 65536u /* branches asked for by name, ids wanted */
#define CMB_PEER_HEADS_MAX 64u    /* of its own that the asking side tells */
#define CMB_PEER_ASK_MIN 32u
#define CMB_PEER_ASK_MAX 8192u    /* ids in one question */

/* ---- what is said of images and refs (offer.c) ---- */

typedef struct cmb_params {
    cmb_hash_kind hash;
    uint32_t node_size;
    uint64_t seed;
} cmb_params;
void cmb_params_of(const cmb_store *store, cmb_params *out_params);
static inline bool cmb_params_equal(const cmb_params *a, const cmb_params *b)
{
    return a->hash == b->hash && a->node_size == b->node_size && a->seed == b->seed;
}
/* CMB_ENOTSUP names what differs. `whose`: "the bundle". */
int cmb_params_compare(const cmb_store *store, const cmb_params *other, const char *whose);
int cmb_params_put(cmb_wire_out *out, const cmb_params *params);
/* Of a hash that this build knows, within bounds. */
int cmb_params_get(cmb_wire_in *in, cmb_params *out_params);

typedef struct cmb_offer {
    bool tag;
    cmb_name commit;
    char name[CMB_REF_NAME_MAX + 1];
    uint8_t *objects;      /* of an annotated tag, as they are sent (offer_tag.c) */
    size_t objects_size, objects_room;
    unsigned object_count;
} cmb_offer;
typedef struct cmb_offers {
    cmb_allocator alloc;
    cmb_offer *list;
    size_t count, capacity;
} cmb_offers;
static inline void cmb_offers_init(cmb_offers *offers, const cmb_allocator *alloc) { *offers = (cmb_offers){.alloc = *alloc}; }
void cmb_offers_destroy(cmb_offers *offers); /* zeroed: allowed */
void cmb_offers_truncate(cmb_offers *offers, size_t count);
/* No name twice: CMB_EINVAL. *out_offer (may be NULL): valid until the next one is added. */
int cmb_offers_add(cmb_offers *offers, bool tag, const char *name, const cmb_name *commit, cmb_offer **out_offer);
int cmb_offers_put(const cmb_offers *offers, cmb_wire_out *out);
int cmb_offers_get(cmb_offers *offers, cmb_hash_kind hash, cmb_wire_in *in);
/* The commit that a ref ("heads/…", "tags/…") stands on; a working state is sealed first. CMB_ENOTFOUND without a detail: no such ref;
 * id.size 0: none yet. */
int cmb_offer_seal(cmb_store *store, const char *full_name, cmb_commit_at *out_at);

/* ---- annotated tags (offer_tag.c) ---- */

/* The offer gets the tag object `tag` (id.size 0: none) and those below it. */
int cmb_offer_annotate(cmb_store *store, cmb_offer *offer, const cmb_allocator *alloc, const cmb_commit_at *tag);
int cmb_offer_objects_put(const cmb_offer *offer, cmb_wire_out *out);
int cmb_offer_objects_get(cmb_offer *offer, const cmb_allocator *alloc, cmb_hash_kind hash, cmb_wire_in *in);
/* Are they what their ids name? CMB_ESYNTAX. */
int cmb_offer_objects_check(cmb_store *store, const cmb_offer *offer);
void cmb_offer_object(const cmb_offer *offer, cmb_name *out_id); /* the outermost's, size 0: none */
/* Makes the tag, with its objects, on its commit, which is there. CMB_EEXIST. */
int cmb_offer_tag_create(cmb_store *store, const cmb_offer *offer);

/* ---- answering (serve.c) ---- */

typedef struct cmb_server {
    cmb_store *store;
    cmb_wire_in in;
    cmb_wire_out out;
    enum { CMB_SERVE_HELLO, CMB_SERVE_WANT, CMB_SERVE_HAVE, CMB_SERVE_PACK, CMB_SERVE_DONE } state;
    cmb_offers offers;
    cmb_select select;
    cmb_sender sender;
    cmb_commit_at spare;
    size_t ask_first, ask_count, ask_max;
} cmb_server;
int cmb_server_open(cmb_server *server, cmb_store *store, cmb_sync_read_fn read, cmb_sync_write_fn write, void *ctx);
void cmb_server_close(cmb_server *server);
/* Reads one message and answers it, or sends a piece of the pack. */
int cmb_server_step(cmb_server *server, bool *out_done);

/* ---- a server in the same thread (loopback.c): it is asked to go on when nothing is left to be read ---- */

typedef struct cmb_pipe {
    uint8_t *data;
    size_t at, used, capacity;
} cmb_pipe;
typedef struct cmb_loopback {
    cmb_server server;
    cmb_allocator alloc;
    cmb_pipe there, back;
    bool done;
} cmb_loopback;
int cmb_loopback_open(cmb_loopback *loop, cmb_store *store, const cmb_allocator *alloc);
void cmb_loopback_close(cmb_loopback *loop);
int cmb_loopback_read(void *loop, void *out, size_t size, size_t *out_read); /* cmb_sync_read_fn of the asking side */
int cmb_loopback_write(void *loop, const void *data, size_t size);

/* ---- taking (pull.c) ---- */

/* Takes a pack in and makes it visible, if it holds, or the image has, all that is offered. ends: nothing may follow it. */
int cmb_pull_pack(cmb_store *store, cmb_wire_in *in, const cmb_offers *offers, const cmb_pull_options *options, bool ends,
                  cmb_sync_stats *stats);

/* ---- what becomes of refs (settle.c) ---- */

/* Everything came and is visible: moves branches and tags as the options say. */
int cmb_pull_settle(cmb_store *store, const cmb_offers *offers, const cmb_pull_options *options);
/* Before anything is asked for: do the options make sense? */
int cmb_pull_check(const cmb_store *store, const cmb_pull_options *options);
/* Is the ref among those that the options name? */
bool cmb_pull_wants(const cmb_pull_options *options, const cmb_offer *offer);

#endif
