/* SPDX-License-Identifier: ISC */
#include "bench/work.h"

#include "bench/store.h"
#include "bench/versions.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MANY = 32, RANGE_LENGTH = 10, SNAPSHOTS = 100000, BRANCHES = 100 };

/* The same keys for both sides of a repetition, others for the next. */
static void choose_probes(bench *b, unsigned repetition)
{
    uint64_t state = 1 + repetition;
    for (size_t i = 0; i < b->probe_count; i++) {
        slice key = data_key(&b->data, data_random(&state) % b->data.n);
        memcpy(b->probe_keys + i * KEY_SIZE, key.data, KEY_SIZE);
        b->probes[i] = (slice){b->probe_keys + i * KEY_SIZE, KEY_SIZE};
    }
}

/* Touches an entry, and proves afterwards that both sides saw the same one. */
static uint64_t touch(slice value)
{
    uint64_t word = 0;
    memcpy(&word, value.data, value.size < sizeof word ? value.size : sizeof word);
    return word;
}

static const char *fill(bench *b, const workload *w, unsigned side, unsigned repetition, shim_run *run,
                        uint64_t *out_check)
{
    const bool sorted = strncmp(w->name, "fillseq", 7) == 0, flushes = strcmp(w->name, "fillseq-nosync") != 0;
    const char *error = store_load(b, side, !sorted ? "random" : flushes ? "sorted" : "sorted-nosync", run);
    if (!error && repetition == 0)
        error = store_verify(b, side, b->loaded[side]);
    *out_check = 0;
    return error;
}

/* What the reading workloads share: a warm database and one view of it, open during `body`. */
typedef uint64_t (*read_body)(const peer_ops *ops, peer *p, const bench *b);

static const char *read_with(bench *b, unsigned side, unsigned repetition, shim_run *run, read_body body,
                             uint64_t *out_check)
{
    const char *error = store_ready(b, side);
    if (error)
        return error;
    choose_probes(b, repetition);
    error = b->ops[side]->read_begin(b->loaded[side]);
    if (error)
        return error;
    shim_start(run);
    *out_check = body(b->ops[side], b->loaded[side], b);
    shim_stop(run);
    b->ops[side]->read_end(b->loaded[side]);
    return NULL;
}

static uint64_t get_each(const peer_ops *ops, peer *p, const bench *b)
{
    uint64_t sum = 0;
    slice value;
    for (size_t i = 0; i < b->config.gets; i++) {
        if (ops->get(p, b->probes[i], &value))
            sum += touch(value);
    }
    return sum;
}

static uint64_t get_groups(const peer_ops *ops, peer *p, const bench *b)
{
    uint64_t sum = 0;
    slice values[MANY];
    for (size_t i = 0; i + MANY <= b->config.gets; i += MANY) {
        size_t found = ops->get_many(p, b->probes + i, MANY, values);
        for (size_t j = 0; j < found; j++)
            sum += touch(values[j]);
    }
    return sum;
}

static uint64_t get_groups_one_by_one(const peer_ops *ops, peer *p, const bench *b)
{
    uint64_t sum = 0;
    slice value;
    for (size_t i = 0; i < b->config.gets / MANY * MANY; i++) {
        if (ops->get(p, b->probes[i], &value))
            sum += touch(value);
    }
    return sum;
}

static uint64_t scan_all(const peer_ops *ops, peer *p, const bench *b)
{
    (void)b;
    uint64_t sum = 0;
    slice key, value;
    for (bool on = ops->seek(p, NULL, &key, &value); on; on = ops->next(p, &key, &value))
        sum += touch(value);
    return sum;
}

static uint64_t scan_ranges(const peer_ops *ops, peer *p, const bench *b)
{
    uint64_t sum = 0;
    slice key, value;
    for (size_t i = 0; i < b->config.ranges; i++) {
        bool on = ops->seek(p, &b->probes[i], &key, &value);
        for (unsigned j = 1; on; j++) {
            sum += touch(value);
            if (j == RANGE_LENGTH)
                break;
            on = ops->next(p, &key, &value);
        }
    }
    return sum;
}

static const char *random_gets(bench *b, const workload *w, unsigned side, unsigned repetition, shim_run *run,
                               uint64_t *out_check)
{
    (void)w;
    return read_with(b, side, repetition, run, get_each, out_check);
}

static const char *random_groups(bench *b, const workload *w, unsigned side, unsigned repetition, shim_run *run,
                                 uint64_t *out_check)
{
    (void)w;
    read_body body = b->ops[side]->get_many ? get_groups : get_groups_one_by_one;
    return read_with(b, side, repetition, run, body, out_check);
}

static const char *full_scan(bench *b, const workload *w, unsigned side, unsigned repetition, shim_run *run,
                             uint64_t *out_check)
{
    (void)w;
    return read_with(b, side, repetition, run, scan_all, out_check);
}

static const char *range_scans(bench *b, const workload *w, unsigned side, unsigned repetition, shim_run *run,
                               uint64_t *out_check)
{
    (void)w;
    return read_with(b, side, repetition, run, scan_ranges, out_check);
}

static const char *single_inserts(bench *b, const workload *w, unsigned side, unsigned repetition, shim_run *run,
                                  uint64_t *out_check)
{
    (void)w;
    const char *error = store_ready(b, side);
    const peer_ops *ops = b->ops[side];
    peer *p = b->loaded[side];
    const size_t first = b->data.n + (size_t)repetition * b->config.syncs;
    if (error)
        return error;
    shim_start(run);
    for (size_t i = 0; i < b->config.syncs && !error; i++) {
        slice key = data_key(&b->data, first + i);
        error = ops->write_begin(p, false);
        if (!error)
            error = ops->write_put(p, key, data_value(&b->data, key));
        if (!error)
            error = ops->write_commit(p, false);
    }
    shim_stop(run);
    *out_check = 0;
    return error;
}

static const char *open_snapshots(bench *b, unsigned side, peer *p, shim_run *run)
{
    const char *error = NULL;
    shim_start(run);
    for (unsigned i = 0; i < SNAPSHOTS && !error; i++)
        error = b->ops[side]->snapshot(p);
    shim_stop(run);
    return error;
}

static const char *snapshots(bench *b, const workload *w, unsigned side, unsigned repetition, shim_run *run,
                             uint64_t *out_check)
{
    (void)w, (void)repetition;
    const char *error = store_ready(b, side);
    *out_check = 0;
    return error ? error : open_snapshots(b, side, b->loaded[side], run);
}

/* Side 0 is Cambium on the smallest size, side 1 Cambium on the workload's. */
static const char *sized_snapshots(bench *b, const workload *w, unsigned side, unsigned repetition, shim_run *run,
                                   uint64_t *out_check)
{
    (void)repetition;
    peer *p;
    const char *error = store_sized(b, side == 0 ? 0 : w->sized, &p);
    *out_check = 0;
    return error ? error : open_snapshots(b, 1, p, run);
}

static const char *sized_branches(bench *b, const workload *w, unsigned side, unsigned repetition, shim_run *run,
                                  uint64_t *out_check)
{
    (void)repetition;
    peer *p;
    char name[32];
    const char *error = store_sized(b, side == 0 ? 0 : w->sized, &p);
    *out_check = 0;
    if (error)
        return error;
    shim_start(run);
    for (unsigned i = 0; i < BRANCHES && !error; i++) {
        snprintf(name, sizeof name, "b%lu", b->branches++);
        error = b->ops[1]->branch(p, name);
    }
    shim_stop(run);
    return error;
}

static size_t sized_list(const bench *b, workload *out)
{
    const char *us = b->ops[1]->name;
    size_t n = 0;
    for (size_t i = 1; i < b->size_count; i++) {
        workload snapshot = {"V1", "", "snapshot, against one of 10,000 entries", {"cambium-10000", us}, 0.67, 0, SNAPSHOTS, i,
                             sized_snapshots};
        workload branch = {"V1", "", "durable branch, against one of 10,000 entries", {"cambium-10000", us}, 0.67, 0,
                           BRANCHES, i, sized_branches};
        snprintf(snapshot.name, sizeof snapshot.name, "snapshot-open-%zu", b->sizes[i]);
        snprintf(branch.name, sizeof branch.name, "branch-create-%zu", b->sizes[i]);
        out[n++] = snapshot;
        out[n++] = branch;
    }
    return n;
}

size_t work_list(const bench *b, workload *out)
{
    const bench_config *c = &b->config;
    const char *them = b->ops[0]->name, *us = b->ops[1]->name;
    const workload list[] = {
        {"P1", "fillseq", "sorted bulk load, one transaction", {them, us}, 4, 8, c->entries, 0, fill},
        {"P1", "fillseq-nosync", "the same without a flush on either side", {them, us}, 4, 8, c->entries, 0, fill},
        {"P2", "fillrandom", "random bulk insert, one transaction", {them, us}, 2, 4, c->entries, 0, fill},
        {"P3", "readrandom", "random get, hot, one at a time", {them, us}, 1.5, 2.5, c->gets, 0, random_gets},
        {"P4", "readrandom-many", "random get, hot, 32 at a time", {them, us}, 5, 8, c->gets / MANY * MANY, 0,
         random_groups},
        {"P5", "readseq", "all entries in order", {them, us}, 1, 1.5, c->entries, 0, full_scan},
        {"P5", "seekrandom", "ranges of 10 entries", {them, us}, 1, 1.5, c->ranges, 0, range_scans},
        {"V1", "snapshot-open", "snapshot, against a read transaction", {them, us}, 0, 0, SNAPSHOTS, 0,
         snapshots},
        {"P6", "fillsync", "durable single insert, one thread", {them, us}, 1.8, 2.5, c->syncs, 0, single_inserts},
    };
    const size_t n = sizeof list / sizeof *list;
    memcpy(out, list, sizeof list);
    size_t all = n + sized_list(b, out + n);
    all += diff_list(b, out + all);
    all += merge_list(b, out + all);
    all += history_list(b, out + all);
    all += bytes_list(b, out + all);
    return all + fsck_list(b, out + all);
}

static void choose_sizes(bench *b)
{
    for (size_t size = 10000; size < b->config.entries && size <= 1000000 && b->size_count < SIZED_MAX - 1; size *= 10)
        b->sizes[b->size_count++] = size;
    b->sizes[b->size_count++] = b->config.entries;
}

const char *work_open(bench *b, const bench_config *config)
{
    *b = (bench){.config = *config, .ops = {&peer_lmdb, &peer_cambium}};
    choose_sizes(b);
    b->probe_count = config->gets > config->ranges ? config->gets : config->ranges;
    b->probes = malloc(b->probe_count * sizeof *b->probes);
    b->probe_keys = malloc(b->probe_count * KEY_SIZE);
    if (!b->probes || !b->probe_keys || !data_make(&b->data, config->entries, config->syncs * config->repetitions))
        return "out of memory";
    choose_probes(b, 0);
    snprintf(b->root, sizeof b->root, "%.4000s/cambium-bench-XXXXXX", config->dir);
    if (!mkdtemp(b->root)) {
        *b->root = '\0';
        return "cannot make a directory for the databases";
    }
    return NULL;
}

static const char *compare_loaded(bench *b)
{
    uint64_t digest[SIDES], count[SIDES];
    for (unsigned side = 0; side < SIDES; side++) {
        const char *error = store_digest(b, side, b->loaded[side], &digest[side], &count[side]);
        if (error)
            return error;
    }
    return digest[0] == digest[1] && count[0] == count[1] ? NULL : "the engines ended with different contents";
}

const char *work_close(bench *b)
{
    const char *error = b->loaded[0] && b->loaded[1] ? compare_loaded(b) : NULL;
    for (unsigned side = 0; side < SIDES; side++) {
        if (b->loaded[side])
            b->ops[side]->close(b->loaded[side]);
    }
    for (size_t i = 0; i < b->size_count; i++) {
        if (b->sized[i])
            b->ops[1]->close(b->sized[i]);
    }
    if (*b->root)
        store_remove(b->root);
    data_free(&b->data);
    free(b->probes);
    free(b->probe_keys);
    return error;
}
