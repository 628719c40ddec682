/* SPDX-License-Identifier: ISC */
/*
 * peer.h: what the workloads ask of an engine. One table of functions an engine; one `peer` an open database.
 *
 * Functions that can fail return NULL, or a text that says why (static, or owned by the peer). A peer is used
 * by one thread. Reading calls stand between read_begin and read_end and see one state; what they return is
 * valid until the next call. Each engine does every call the fastest way that its documentation offers.
 */
#ifndef BENCH_PEER_H
#define BENCH_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct peer peer;

typedef struct slice {
    const void *data;
    size_t size; /* bytes */
} slice;

typedef struct peer_config {
    uint64_t bytes;         /* of keys and values that will be written, all together */
    size_t txn_memory;      /* bytes that a writing transaction may hold, where an engine takes such a limit */
    const char *residency;  /* Cambium: "auto", "map" or "pool" */
    const char *io;         /* Cambium: options of the device name, without the question mark; or "" */
    bool no_sync;           /* a commit returns when everything is with the operating system, and flushes nothing */
} peer_config;

typedef struct peer_ops {
    const char *name;
    /* The database in an existing directory; a new one if the directory is empty. */
    const char *(*create)(const char *dir, const peer_config *config, peer **out);
    void (*close)(peer *p);
    /* One line: version, sync mode, input/output. */
    void (*describe)(peer *p, char *out, size_t size);

    /* One transaction; `sorted`: keys come in ascending order into an empty database. Durable at commit;
     * `history`: a commit that stays in the history, where an engine has one. */
    const char *(*write_begin)(peer *p, bool sorted);
    const char *(*write_put)(peer *p, slice key, slice value);
    const char *(*write_commit)(peer *p, bool history);
    /* Does what commits put off. NULL: they put nothing off. */
    const char *(*settle)(peer *p);

    const char *(*read_begin)(peer *p);
    void (*read_end)(peer *p);
    bool (*get)(peer *p, slice key, slice *out_value);
    /* How many were found; NULL: the engine has no such call, the workload uses get. */
    size_t (*get_many)(peer *p, const slice *keys, size_t n, slice *out_values);
    /* First entry >= key (NULL: the first of all), and the one after it. */
    bool (*seek)(peer *p, const slice *key, slice *out_key, slice *out_value);
    bool (*next)(peer *p, slice *out_key, slice *out_value);

    /* Opens a view of the newest state and closes it; not between read_begin and read_end. */
    const char *(*snapshot)(peer *p);
    /* A branch from the newest state, durable. NULL: the engine has none. */
    const char *(*branch)(peer *p, const char *name);
    /* Picks the faster of several ways to read, given keys that exist; in a read. NULL: there is one way. */
    void (*calibrate)(peer *p, const slice *keys, size_t n);
} peer_ops;

extern const peer_ops peer_lmdb;
extern const peer_ops peer_cambium;

#endif
