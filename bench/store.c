/* SPDX-License-Identifier: ISC */
#include "bench/store.h"

#include "bench/child.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CALIBRATION_GETS = 100000 };

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)st, (void)kind, (void)ftw;
    return remove(path);
}

void store_remove(const char *path)
{
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

const char *store_directory(const bench *b, const char *name, char *dir, size_t size)
{
    snprintf(dir, size, "%s/%s", b->root, name);
    store_remove(dir);
    if (mkdir(dir, 0755) != 0)
        return strerror(errno);
    /* What earlier runs left to be written must not be charged to the next. */
    sync();
    return NULL;
}

const char *store_make(bench *b, unsigned side, const char *name, peer **out)
{
    char dir[4200];
    const char *error = store_directory(b, name, dir, sizeof dir);
    return error ? error : b->ops[side]->create(dir, &b->config.peer, out);
}

const char *store_fill(bench *b, unsigned side, peer *p, bool sorted, size_t n, shim_run *run)
{
    const peer_ops *ops = b->ops[side];
    const dataset *d = &b->data;
    if (n == 0)
        n = d->n;
    if (run)
        shim_start(run);
    const char *error = ops->write_begin(p, sorted);
    for (size_t i = 0; i < n && !error; i++) {
        slice key = sorted ? data_sorted_key(d, i) : data_key(d, i);
        error = ops->write_put(p, key, data_value(d, key));
    }
    if (!error)
        error = ops->write_commit(p, true);
    if (run)
        shim_stop(run);
    return error;
}

const char *store_digest(bench *b, unsigned side, peer *p, uint64_t *out_digest, uint64_t *out_count)
{
    const peer_ops *ops = b->ops[side];
    const char *error = ops->read_begin(p);
    if (error)
        return error;
    slice key, value;
    *out_digest = *out_count = 0;
    for (bool on = ops->seek(p, NULL, &key, &value); on; on = ops->next(p, &key, &value)) {
        *out_digest = data_digest(*out_digest, key, value);
        ++*out_count;
    }
    ops->read_end(p);
    return NULL;
}

const char *store_verify(bench *b, unsigned side, peer *p)
{
    uint64_t want = 0, digest, count;
    for (size_t i = 0; i < b->data.n; i++) {
        slice key = data_sorted_key(&b->data, i);
        want = data_digest(want, key, data_value(&b->data, key));
    }
    const char *error = store_digest(b, side, p, &digest, &count);
    if (error)
        return error;
    if (count != b->data.n)
        return "the database holds another number of entries than were written";
    return digest == want ? NULL : "the database holds other entries than were written";
}

const char *store_load(bench *b, unsigned side, const char *order, shim_run *run)
{
    char dir[4200];
    double seconds;
    if (b->loaded[side])
        b->ops[side]->close(b->loaded[side]);
    b->loaded[side] = NULL;
    b->warm[side] = false;
    b->random[side] = strcmp(order, "random") == 0;
    const char *error = store_directory(b, b->ops[side]->name, dir, sizeof dir);
    if (!error)
        error = child_load(&b->config, side, order, dir, &seconds);
    if (!error && run)
        shim_add(run, seconds);
    if (!error)
        error = b->ops[side]->create(dir, &b->config.peer, &b->loaded[side]);
    if (error)
        b->loaded[side] = NULL;
    return error;
}

const char *store_ready(bench *b, unsigned side)
{
    const char *error = NULL;
    if (!b->loaded[side] || !b->random[side])
        error = store_load(b, side, "random", NULL);
    if (error || b->warm[side])
        return error;
    /* Reading everything once brings it into memory. */
    error = store_verify(b, side, b->loaded[side]);
    if (!error && b->ops[side]->calibrate) {
        error = b->ops[side]->read_begin(b->loaded[side]);
        if (!error) {
            size_t n = b->probe_count < CALIBRATION_GETS ? b->probe_count : CALIBRATION_GETS;
            b->ops[side]->calibrate(b->loaded[side], b->probes, n);
            b->ops[side]->read_end(b->loaded[side]);
        }
    }
    b->warm[side] = !error;
    return error;
}

const char *store_sized(bench *b, size_t i, peer **out)
{
    const unsigned side = 1;
    if (!b->sized[i]) {
        char name[32];
        peer *p;
        snprintf(name, sizeof name, "sized-%zu", b->sizes[i]);
        const char *error = store_make(b, side, name, &p);
        if (error)
            return error;
        b->sized[i] = p;
        error = store_fill(b, side, p, true, b->sizes[i], NULL);
        if (error)
            return error;
    }
    *out = b->sized[i];
    return NULL;
}
