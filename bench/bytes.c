/* SPDX-License-Identifier: ISC */
/*
 * Bytes written per commit of one random edit, as the kernel counts them for this process: what it hands over in its calls to
 * write. (The count of pages made dirty is no measure any more: a file system with large folios counts all of one for a block in it.)
 * Both engines write so and not through a mapping. Everything that Cambium writes counts: preparation of segments, checkpoints
 * and their tables, and the merging of edits that were logged first: there are so many of them that the log is merged on the
 * way, and what is left is merged at the end. The peer's bytes do not depend on how many edits there are: it gets fewer.
 * The file system's own journal does not count.
 */
#include "bench/versions.h"

#include "bench/store.h"

#include <stdio.h>
#include <string.h>

enum {
    EDITS = 4,    /* times config.syncs: so that there are several checkpoints among them */
    WORKING = 100 /* our edits of the working state: one for so many entries */
};

static bool bytes_written(unsigned long long *out)
{
    char line[128];
    bool found = false;
    FILE *io = fopen("/proc/self/io", "r");
    while (io && !found && fgets(line, sizeof line, io))
        found = sscanf(line, "wchar: %llu", out) == 1;
    if (io)
        fclose(io);
    return found;
}

/* `n` edits in a transaction. */
static const char *edit_some(bench *b, unsigned side, bool history, uint64_t n, uint64_t *random)
{
    const peer_ops *ops = b->ops[side];
    peer *p = b->loaded[side];
    const char *error = n ? ops->write_begin(p, false) : NULL;
    for (uint64_t i = 0; i < n && !error; i++) {
        slice key = data_key(&b->data, data_random(random) % b->data.n);
        slice other = data_key(&b->data, data_random(random) % b->data.n);
        error = ops->write_put(p, key, data_value(&b->data, other));
    }
    return error || !n ? error : ops->write_commit(p, history);
}

static const char *edits(bench *b, const workload *w, unsigned side, unsigned repetition, shim_run *run, uint64_t *out_check)
{
    const bool history = strcmp(w->name, "bytes-permanent") == 0;
    uint64_t random = (history ? 100000 : 200000) + repetition;
    unsigned long long before, after;
    const char *error = store_ready(b, side);
    *out_check = 0;
    if (error)
        return error;
    if (!bytes_written(&before))
        return "the kernel does not count what a process writes";
    const uint64_t working = b->data.n / WORKING, all = history || working < w->operations ? w->operations : working;
    const uint64_t n = b->ops[side]->settle ? all : w->operations;
    for (uint64_t i = 0; i < n && !error; i++)
        error = edit_some(b, side, history, 1, &random);
    if (!error && b->ops[side]->settle)
        error = b->ops[side]->settle(b->loaded[side]);
    if (!error && (!bytes_written(&after) || after == before))
        error = "the kernel does not count what is written this way";
    if (!error)
        shim_add(run, (double)(after - before) / (double)n * (double)w->operations);
    if (!error) /* both are to end with the same content */
        error = edit_some(b, side, history, all - n, &random);
    return error;
}

size_t bytes_list(const bench *b, workload *out)
{
    const char *them = b->ops[0]->name, *us = b->ops[1]->name;
    const workload list[] = {
        {"V5", "bytes-permanent", "bytes written per commit of one edit, kept in the history", {them, us}, 1, 1.25,
         EDITS * b->config.syncs, 0, edits},
        {"V5", "bytes-working", "bytes written per durable edit of the working state", {them, us}, 2, 4, EDITS * b->config.syncs, 0,
         edits},
    };
    const size_t n = sizeof list / sizeof *list;
    memcpy(out, list, sizeof list);
    for (size_t i = 0; i < n; i++)
        out[i].unit = "bytes";
    return n;
}
