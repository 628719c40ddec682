/* SPDX-License-Identifier: ISC */
/*
 * LMDB with its default flags: durable, read through its map, written by pwrite, two flushes a commit. The map is
 * large enough from the start; read-ahead is as the kernel does it. Reads reuse one transaction and one cursor.
 */
#include "bench/peer.h"

#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct peer {
    MDB_env *env;
    MDB_dbi dbi;
    MDB_txn *write, *read, *view;
    MDB_cursor *write_cursor, *read_cursor;
    bool get_by_cursor; /* mdb_cursor_get is faster here than mdb_get */
};

static const char *text(int rc)
{
    return rc == 0 ? NULL : mdb_strerror(rc);
}

static MDB_val val(slice s)
{
    return (MDB_val){.mv_size = s.size, .mv_data = (void *)(uintptr_t)s.data};
}

static void lmdb_close(peer *p)
{
    if (p->view)
        mdb_txn_abort(p->view);
    if (p->env)
        mdb_env_close(p->env);
    free(p);
}

static int open_env(peer *p, const char *dir, const peer_config *config)
{
    int rc = mdb_env_create(&p->env);
    if (rc == 0)
        rc = mdb_env_set_mapsize(p->env, (config->bytes * 4 + (1u << 30)) / 4096 * 4096);
    if (rc == 0)
        rc = mdb_env_open(p->env, dir, config->no_sync ? MDB_NOSYNC : 0, 0644);
    if (rc == 0)
        rc = mdb_txn_begin(p->env, NULL, 0, &p->write);
    if (rc == 0)
        rc = mdb_dbi_open(p->write, NULL, 0, &p->dbi);
    if (rc == 0)
        rc = mdb_txn_commit(p->write);
    if (rc == 0)
        rc = mdb_txn_begin(p->env, NULL, MDB_RDONLY, &p->view);
    if (rc == 0)
        mdb_txn_reset(p->view);
    return rc;
}

static const char *lmdb_create(const char *dir, const peer_config *config, peer **out)
{
    peer *p = calloc(1, sizeof *p);
    if (!p)
        return "out of memory";
    int rc = open_env(p, dir, config);
    if (rc != 0) {
        lmdb_close(p);
        return mdb_strerror(rc);
    }
    *out = p;
    return NULL;
}

static void lmdb_describe(peer *p, char *out, size_t size)
{
    snprintf(out, size, "LMDB %d.%d.%d, default flags: durable, two flushes a commit, read by mmap, %s", MDB_VERSION_MAJOR,
             MDB_VERSION_MINOR, MDB_VERSION_PATCH, p->get_by_cursor ? "gets by one cursor" : "gets by mdb_get");
}

static const char *lmdb_write_begin(peer *p, bool sorted)
{
    int rc = mdb_txn_begin(p->env, NULL, 0, &p->write);
    p->write_cursor = NULL;
    if (rc == 0 && sorted)
        rc = mdb_cursor_open(p->write, p->dbi, &p->write_cursor);
    return text(rc);
}

static const char *lmdb_write_put(peer *p, slice key, slice value)
{
    MDB_val k = val(key), v = val(value);
    if (p->write_cursor)
        return text(mdb_cursor_put(p->write_cursor, &k, &v, MDB_APPEND));
    return text(mdb_put(p->write, p->dbi, &k, &v, 0));
}

static const char *lmdb_write_commit(peer *p, bool history)
{
    (void)history;
    if (p->write_cursor)
        mdb_cursor_close(p->write_cursor);
    p->write_cursor = NULL;
    return text(mdb_txn_commit(p->write));
}

static const char *lmdb_read_begin(peer *p)
{
    int rc = mdb_txn_renew(p->view);
    if (rc != 0)
        return mdb_strerror(rc);
    p->read = p->view;
    return text(mdb_cursor_open(p->read, p->dbi, &p->read_cursor));
}

static void lmdb_read_end(peer *p)
{
    mdb_cursor_close(p->read_cursor);
    mdb_txn_reset(p->read);
    p->read = NULL;
}

static bool lmdb_get(peer *p, slice key, slice *out_value)
{
    MDB_val k = val(key), v;
    int rc = p->get_by_cursor ? mdb_cursor_get(p->read_cursor, &k, &v, MDB_SET) : mdb_get(p->read, p->dbi, &k, &v);
    if (rc != 0)
        return false;
    *out_value = (slice){v.mv_data, v.mv_size};
    return true;
}

static bool step(peer *p, MDB_val *key, MDB_cursor_op op, slice *out_key, slice *out_value)
{
    MDB_val v;
    if (mdb_cursor_get(p->read_cursor, key, &v, op) != 0)
        return false;
    *out_key = (slice){key->mv_data, key->mv_size};
    *out_value = (slice){v.mv_data, v.mv_size};
    return true;
}

static bool lmdb_seek(peer *p, const slice *key, slice *out_key, slice *out_value)
{
    MDB_val k = key ? val(*key) : (MDB_val){0};
    return step(p, &k, key ? MDB_SET_RANGE : MDB_FIRST, out_key, out_value);
}

static bool lmdb_next(peer *p, slice *out_key, slice *out_value)
{
    MDB_val k;
    return step(p, &k, MDB_NEXT, out_key, out_value);
}

static const char *lmdb_snapshot(peer *p)
{
    int rc = mdb_txn_renew(p->view);
    if (rc == 0)
        mdb_txn_reset(p->view);
    return text(rc);
}

static double seconds_of(peer *p, const slice *keys, size_t n, bool by_cursor)
{
    struct timespec a, b;
    slice value;
    p->get_by_cursor = by_cursor;
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (size_t i = 0; i < n; i++)
        lmdb_get(p, keys[i], &value);
    clock_gettime(CLOCK_MONOTONIC, &b);
    return (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9;
}

static void lmdb_calibrate(peer *p, const slice *keys, size_t n)
{
    seconds_of(p, keys, n, false);
    double by_get = seconds_of(p, keys, n, false);
    p->get_by_cursor = seconds_of(p, keys, n, true) < by_get;
}

const peer_ops peer_lmdb = {
    .name = "lmdb",
    .create = lmdb_create,
    .close = lmdb_close,
    .describe = lmdb_describe,
    .write_begin = lmdb_write_begin,
    .write_put = lmdb_write_put,
    .write_commit = lmdb_write_commit,
    .read_begin = lmdb_read_begin,
    .read_end = lmdb_read_end,
    .get = lmdb_get,
    .seek = lmdb_seek,
    .next = lmdb_next,
    .snapshot = lmdb_snapshot,
    .calibrate = lmdb_calibrate,
};
