/* SPDX-License-Identifier: ISC */
/*
 * Differences and merges of two versions. A version is a branch that differs from "main" in a number of random entries, whose
 * values are replaced by others of the same size.
 */
#include "bench/versions.h"

#include "bench/store.h"

#include <cambium/cambium.h>
#include <stdio.h>
#include <string.h>

enum { VISITS = 4000, MERGE_CHANGES = 10000 };

static const size_t diff_changes[DIFF_SIZES] = {1, 10, 100, 1000, 10000, 100000};

static const char *text(int rc)
{
    static char buffer[640];
    if (rc >= 0)
        return NULL;
    snprintf(buffer, sizeof buffer, "%s: %s", cmb_strerror(rc), cmb_error_detail());
    return buffer;
}

/* ---- versions ---- */

/* The i-th of `of` pairwise different entries among the first n, spread at random. */
static size_t pick(size_t n, size_t of, size_t i, uint64_t *random)
{
    size_t stretch = n / of;
    return i * stretch + data_random(random) % stretch;
}

/* Replaces the values of `changes` random entries among every `step`-th; `round` says by what. One transaction. */
static const char *change_values(const bench *b, cmb_store *store, const char *branch, size_t n, size_t changes, size_t offset,
                                 uint64_t round, bool history, uint64_t *out_entries)
{
    cmb_commit_info info = {.author = "bench", .message = "changes"};
    uint64_t random = round;
    cmb_rev rev;
    cmb_txn *txn;
    int rc = cmb_txn_begin(store, branch, 0, &txn);
    if (rc < 0)
        return text(rc);
    for (size_t i = 0; i < changes && rc >= 0; i++) {
        size_t at = pick(n / 2, changes, i, &random) * 2 + offset;
        slice key = data_sorted_key(&b->data, at), old = data_value(&b->data, key);
        slice value = {b->data.pool + (round * 4099 + i) % 500000, VALUE_SIZE};
        if (value.data == old.data)
            value.data = b->data.pool + 500000;
        rc = cmb_txn_put(txn, (cmb_bytes){key.data, key.size}, (cmb_bytes){value.data, value.size});
    }
    if (rc >= 0)
        rc = cmb_txn_commit(txn, history ? &info : NULL, &rev);
    else
        cmb_txn_abort(txn);
    if (rc >= 0 && out_entries)
        *out_entries = rev.entries;
    return text(rc);
}

/* A branch of that name that differs from main in so many entries; offset 0 or 1: of the even or the odd ones. */
static const char *make_version(bench *b, cmb_store *store, const char *branch, size_t n, size_t changes, size_t offset, uint64_t round)
{
    cmb_rev rev;
    if (cmb_rev_parse(store, branch, &rev) == 0)
        return NULL;
    int rc = cmb_branch_create(store, branch, "main");
    return rc < 0 ? text(rc) : change_values(b, store, branch, n, changes, offset, round, true, NULL);
}

/* ---- diff ---- */

static int count_change(void *ctx, const cmb_change *change)
{
    (void)change;
    ++*(uint64_t *)ctx;
    return 0;
}

static const char *diff_versions(cmb_store *store, const char *branch, size_t times, shim_run *run, uint64_t *out_count)
{
    cmb_snapshot *before, *after;
    int rc = cmb_snapshot_open(store, "main", &before);
    if (rc < 0)
        return text(rc);
    rc = cmb_snapshot_open(store, branch, &after);
    if (rc >= 0) {
        rc = cmb_diff(before, after, NULL, count_change, out_count); /* once unseen: hot */
        *out_count = 0;
        shim_start(run);
        for (size_t i = 0; i < times && rc >= 0; i++)
            rc = cmb_diff(before, after, NULL, count_change, out_count);
        shim_stop(run);
        cmb_snapshot_close(after);
    }
    cmb_snapshot_close(before);
    return text(rc);
}

/* Both sides are Cambium, of two sizes. */
static const char *diff(bench *b, const workload *w, unsigned side, unsigned repetition, shim_run *run, uint64_t *out_check)
{
    (void)repetition;
    peer *p;
    char branch[32];
    size_t n = w->entries[side];
    const char *error = store_sized(b, side ? w->sized : w->base, &p);
    snprintf(branch, sizeof branch, "diff-%zu", w->changes);
    *out_check = 0;
    if (!error)
        error = make_version(b, cambium_store(p), branch, n, w->changes, 0, w->changes);
    if (!error)
        error = diff_versions(cambium_store(p), branch, w->operations, run, out_check);
    if (!error && *out_check != w->operations * w->changes)
        error = "the difference has another number of entries than were changed";
    return error;
}

/* The smallest store with `share` entries for each change; b->size_count: none. */
static size_t base_for(const bench *b, size_t changes, size_t share)
{
    size_t base = 0;
    while (base < b->size_count && b->sizes[base] < share * changes)
        base++;
    return base;
}

size_t diff_list(const bench *b, workload *out)
{
    size_t n = 0;
    for (size_t c = 0; c < DIFF_SIZES; c++) {
        /* Where changes lie in leaves of their own, their number tells the cost; else there is no floor. */
        size_t changes = diff_changes[c], base = base_for(b, changes, 100);
        bool apart = base + 1 < b->size_count;
        if (!apart)
            base = base_for(b, changes, 10);
        for (size_t i = base + 1; i < b->size_count; i++) {
            workload w = {"V2", "", "difference of two versions, against fewer entries", {"cambium-less", b->ops[1]->name}, apart ? 0.33 : 0, 0,
                          VISITS / changes + 1, i, diff};
            w.base = base;
            w.changes = changes;
            w.entries[0] = b->sizes[base];
            w.entries[1] = b->sizes[i];
            snprintf(w.name, sizeof w.name, "diff-%zu-of-%zu", changes, b->sizes[i]);
            out[n++] = w;
        }
    }
    return n;
}

/* ---- merge ---- */

static const char *apply(bench *b, const workload *w, cmb_store *store, unsigned repetition, shim_run *run, uint64_t *out_entries)
{
    char branch[32];
    snprintf(branch, sizeof branch, "edits-%u", repetition);
    int rc = cmb_branch_create(store, branch, "main");
    if (rc < 0)
        return text(rc);
    shim_start(run);
    const char *error = change_values(b, store, branch, w->entries[1], w->changes, 1, 1000 + repetition, true, out_entries);
    shim_stop(run);
    return error;
}

static const char *merge(bench *b, const workload *w, cmb_store *store, unsigned repetition, shim_run *run, uint64_t *out_entries)
{
    cmb_commit_info info = {.author = "bench", .message = "merge"};
    cmb_merge_result result;
    char mine[32], theirs[32];
    snprintf(mine, sizeof mine, "mine-%u", repetition);
    snprintf(theirs, sizeof theirs, "theirs-%u", repetition);
    const char *error = make_version(b, store, mine, w->entries[1], w->changes, 0, 2000 + repetition);
    if (!error)
        error = make_version(b, store, theirs, w->entries[1], w->changes, 1, 3000 + repetition);
    if (error)
        return error;
    shim_start(run);
    int rc = cmb_merge(store, mine, theirs, NULL, NULL, &info, &result);
    shim_stop(run);
    if (rc < 0)
        return text(rc);
    cmb_merging_abort(result.open);
    *out_entries = result.rev.entries;
    return result.kind == CMB_MERGE_MERGED && result.clashes == 0 ? NULL : "the merge was none, or not without conflicts";
}

static const char *merge_or_apply(bench *b, const workload *w, unsigned side, unsigned repetition, shim_run *run, uint64_t *out_check)
{
    peer *p;
    const char *error = store_sized(b, w->sized, &p);
    *out_check = 0;
    if (error)
        return error;
    return side ? merge(b, w, cambium_store(p), repetition, run, out_check) : apply(b, w, cambium_store(p), repetition, run, out_check);
}

size_t merge_list(const bench *b, workload *out)
{
    size_t last = b->size_count - 1, n = b->sizes[last];
    size_t changes = n / 20 < MERGE_CHANGES ? n / 20 : MERGE_CHANGES;
    workload w = {"V3", "", "durable merge, against a transaction of as many edits as a side has", {"cambium-edits", b->ops[1]->name}, 0.5, 1,
                  changes, last, merge_or_apply};
    w.changes = changes;
    w.entries[0] = w.entries[1] = n;
    snprintf(w.name, sizeof w.name, "merge-%zu-a-side", changes);
    out[0] = w;
    return 1;
}
