/* SPDX-License-Identifier: ISC */
/* Cambium through its public interface, on a file. */
#include "bench/versions.h"

#include <cambium/cambium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MANY_MAX = 64 };

struct peer {
    cmb_store *store;
    cmb_txn *write;
    cmb_snapshot *read;
    cmb_cursor *cursor;
    bool no_sync;
    char error[640];
};

/* Errors of create outlive the peer. */
static char create_error[640];

static const char *text_in(char *out, size_t size, int rc)
{
    if (rc >= 0)
        return NULL;
    snprintf(out, size, "%s: %s", cmb_strerror(rc), cmb_error_detail());
    return out;
}

static const char *text(peer *p, int rc)
{
    return text_in(p->error, sizeof p->error, rc);
}

static cmb_bytes bytes(slice s)
{
    return (cmb_bytes){s.data, s.size};
}

static slice slice_of(cmb_bytes b)
{
    return (slice){b.data, b.size};
}

static cmb_residency_mode residency_of(const char *name)
{
    if (strcmp(name, "map") == 0)
        return CMB_RESIDENT_MAP;
    return strcmp(name, "pool") == 0 ? CMB_RESIDENT_POOL : CMB_RESIDENT_AUTO;
}

static const char *cambium_create(const char *dir, const peer_config *config, peer **out)
{
    peer *p = calloc(1, sizeof *p);
    if (!p)
        return "out of memory";
    char name[4096];
    snprintf(name, sizeof name, "%s/data.cmb%s%s", dir, *config->io ? "?" : "", config->io);
    cmb_store_options options = {
        .create = true,
        .residency = residency_of(config->residency),
        /* Hot work: everything fits. */
        .pool_size = (size_t)(config->bytes * 2 + (64u << 20)),
        .txn_memory = config->txn_memory,
    };
    int rc = cmb_store_open(name, &options, &p->store);
    if (rc < 0) {
        free(p);
        return text_in(create_error, sizeof create_error, rc);
    }
    p->no_sync = config->no_sync;
    *out = p;
    return NULL;
}

static void cambium_close(peer *p)
{
    cmb_store_close(p->store);
    free(p);
}

static void cambium_describe(peer *p, char *out, size_t size)
{
    cmb_store_info info;
    cmb_store_get_info(p->store, &info);
    /* What kind of device it is, without its name: that is of no interest to others. */
    const char *colon = strrchr(info.device, ':');
    const char *device = colon && colon[1] == ' ' ? colon + 2 : info.device;
    snprintf(out, size, "Cambium %s, durable, one flush a commit, nodes of %u B, %s, %s", cmb_version(), info.node_size,
             info.residency == CMB_RESIDENT_POOL ? "read into its pool" : "read by mmap", device);
}

static const char *cambium_write_begin(peer *p, bool sorted)
{
    (void)sorted; /* it sees for itself */
    return text(p, cmb_txn_begin(p->store, "main", 0, &p->write));
}

static const char *cambium_write_put(peer *p, slice key, slice value)
{
    return text(p, cmb_txn_put(p->write, bytes(key), bytes(value)));
}

static const char *cambium_write_commit(peer *p, bool history)
{
    cmb_commit_info info = {.author = "bench", .message = "load", .flags = p->no_sync ? CMB_COMMIT_ASYNC : 0};
    return text(p, cmb_txn_commit(p->write, history ? &info : NULL, NULL));
}

/* Edits that were logged go into the tree: its name is asked for. */
static const char *cambium_settle(peer *p)
{
    cmb_rev rev;
    return text(p, cmb_rev_parse(p->store, "main", &rev));
}

static const char *cambium_read_begin(peer *p)
{
    const char *error = text(p, cmb_snapshot_open(p->store, "main", &p->read));
    if (error)
        return error;
    error = text(p, cmb_cursor_open(p->read, NULL, &p->cursor));
    if (error)
        cmb_snapshot_close(p->read);
    return error;
}

static void cambium_read_end(peer *p)
{
    cmb_cursor_close(p->cursor);
    cmb_snapshot_close(p->read);
}

static bool cambium_get(peer *p, slice key, slice *out_value)
{
    cmb_bytes value;
    if (cmb_get(p->read, bytes(key), &value) < 0)
        return false;
    *out_value = slice_of(value);
    return true;
}

static size_t cambium_get_many(peer *p, const slice *keys, size_t n, slice *out_values)
{
    cmb_bytes in[MANY_MAX], out[MANY_MAX];
    int results[MANY_MAX];
    size_t found = 0;
    if (n == 0 || n > MANY_MAX)
        return 0;
    for (size_t i = 0; i < n; i++)
        in[i] = bytes(keys[i]);
    if (cmb_get_many(p->read, in, n, out, results) < 0)
        return 0;
    for (size_t i = 0; i < n; i++) {
        if (results[i] < 0)
            continue;
        out_values[found++] = slice_of(out[i]);
    }
    return found;
}

static bool stand(peer *p, int rc, slice *out_key, slice *out_value)
{
    cmb_bytes key, value;
    if (rc < 0 || cmb_cursor_key(p->cursor, &key) < 0 || cmb_cursor_value(p->cursor, &value) < 0)
        return false;
    *out_key = slice_of(key);
    *out_value = slice_of(value);
    return true;
}

static bool cambium_seek(peer *p, const slice *key, slice *out_key, slice *out_value)
{
    int rc = key ? cmb_cursor_seek(p->cursor, bytes(*key)) : cmb_cursor_first(p->cursor);
    return stand(p, rc, out_key, out_value);
}

static bool cambium_next(peer *p, slice *out_key, slice *out_value)
{
    return stand(p, cmb_cursor_next(p->cursor), out_key, out_value);
}

static const char *cambium_snapshot(peer *p)
{
    cmb_snapshot *snapshot;
    int rc = cmb_snapshot_open(p->store, "main", &snapshot);
    if (rc == 0)
        cmb_snapshot_close(snapshot);
    return text(p, rc);
}

static const char *cambium_branch(peer *p, const char *name)
{
    return text(p, cmb_branch_create(p->store, name, "main"));
}

struct cmb_store *cambium_store(peer *p)
{
    return p->store;
}

const peer_ops peer_cambium = {
    .name = "cambium",
    .create = cambium_create,
    .close = cambium_close,
    .describe = cambium_describe,
    .write_begin = cambium_write_begin,
    .write_put = cambium_write_put,
    .write_commit = cambium_write_commit,
    .settle = cambium_settle,
    .read_begin = cambium_read_begin,
    .read_end = cambium_read_end,
    .get = cambium_get,
    .get_many = cambium_get_many,
    .seek = cambium_seek,
    .next = cambium_next,
    .snapshot = cambium_snapshot,
    .branch = cambium_branch,
};
