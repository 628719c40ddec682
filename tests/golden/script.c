/* SPDX-License-Identifier: ISC */
/*
 * script.c: calls that touch every kind of record and every way into the log. Each part is an epoch: the store is
 * opened, worked on and closed. Values are mostly zeros where the image is to be written down.
 */
#include "golden.h"

#include <stdio.h>
#include <stdlib.h>

#include "io/base.h"

#define BIG_MAX ((size_t)1536 << 10) /* bytes of the largest value */

const golden_kind golden_kinds[GOLDEN_KINDS] = {
    {.name = "growing", .size = 0, .init = {.node_size = 256, .segment_size = 2u << 20}},
    {.name = "fixed", .size = 32u << 20, .init = {.node_size = 512, .seed = 7, .segment_size = 2u << 20}},
};

typedef struct script {
    cmb_device *dev;
    golden_env env;
    cmb_store_options options;
    cmb_store *store;
    uint8_t *big; /* BIG_MAX bytes */
} script;

/* ---- the environment ---- */

static int64_t env_now(void *ctx)
{
    golden_env *env = ctx;
    return env->now += 1000000;
}

static int env_random(void *ctx, void *out, size_t n)
{
    golden_env *env = ctx;
    for (size_t i = 0; i < n; i++) {
        env->random = env->random * 6364136223846793005u + 1442695040888963407u;
        ((uint8_t *)out)[i] = (uint8_t)(env->random >> 56);
    }
    return 0;
}

cmb_env golden_env_start(golden_env *env)
{
    *env = (golden_env){.now = 1700000000000000, .random = 1};
    return (cmb_env){.ctx = env, .now = env_now, .random = env_random};
}

/* ---- small steps ---- */

static cmb_bytes text(const char *s)
{
    return (cmb_bytes){s, strlen(s)};
}

static int put_text(cmb_txn *txn, const char *key, const char *value)
{
    return cmb_txn_put(txn, text(key), text(value));
}

/* Keys first, first + step, … below end: "key/017" = "17 of WORD". */
static int put_range(cmb_txn *txn, unsigned first, unsigned end, unsigned step, const char *word)
{
    char key[32], value[64];
    for (unsigned i = first; i < end; i += step) {
        snprintf(key, sizeof key, "key/%03u", i);
        snprintf(value, sizeof value, "%u of %s", i, word);
        GOLDEN_TRY(put_text(txn, key, value));
    }
    return 0;
}

static int del_range(cmb_txn *txn, unsigned first, unsigned end, unsigned step)
{
    char key[32];
    for (unsigned i = first; i < end; i += step) {
        snprintf(key, sizeof key, "key/%03u", i);
        GOLDEN_TRY(cmb_txn_del(txn, text(key)));
    }
    return 0;
}

/* `size` bytes that are zero but for a few words. */
static cmb_bytes sparse_value(script *s, size_t size, const char *word)
{
    memset(s->big, 0, size);
    for (size_t at = 0; at + 64 <= size; at += 50000)
        snprintf((char *)s->big + at, 64, "%s %zu", word, at);
    return (cmb_bytes){s->big, size};
}

static int end_commit(cmb_txn *txn, const char *message)
{
    return cmb_txn_commit(txn, message ? &(cmb_commit_info){.author = "ada", .message = message} : NULL, NULL);
}

static int open_store(script *s, size_t txn_memory)
{
    s->options.txn_memory = txn_memory;
    return cmb_store_open_device(s->dev, &s->options, &s->store);
}

static int close_store(script *s)
{
    cmb_store *store = s->store;
    s->store = NULL;
    return cmb_store_close(store);
}

/* ---- the parts ---- */

/* Keys of all lengths, an empty value; several levels of nodes. */
static int first_commit(script *s)
{
    char key[2000];
    cmb_txn *txn;
    GOLDEN_TRY(cmb_txn_begin(s->store, "main", 0, &txn));
    GOLDEN_TRY(put_range(txn, 0, 60, 1, "spring"));
    GOLDEN_TRY(put_text(txn, "a", ""));
    GOLDEN_TRY(put_text(txn, "ab", "two letters"));
    GOLDEN_TRY(cmb_txn_put(txn, (cmb_bytes){"\0", 1}, text("one zero byte")));
    GOLDEN_TRY(cmb_txn_put(txn, (cmb_bytes){"\377\377", 2}, text("high")));
    memset(key, 'k', sizeof key);
    GOLDEN_TRY(cmb_txn_put(txn, (cmb_bytes){key, 300}, text("a long key")));
    GOLDEN_TRY(cmb_txn_put(txn, (cmb_bytes){key, sizeof key}, text("a longer key")));
    return end_commit(txn, "first ring");
}

static int part_beginning(script *s)
{
    cmb_txn *txn;
    GOLDEN_TRY(open_store(s, 0));
    GOLDEN_TRY(first_commit(s));
    GOLDEN_TRY(cmb_tag_create(s->store, "v1", "main"));
    GOLDEN_TRY(cmb_branch_create(s->store, "feature/one", "main"));
    GOLDEN_TRY(cmb_txn_begin(s->store, "feature/one", 0, &txn));
    GOLDEN_TRY(put_range(txn, 3, 60, 11, "work"));
    GOLDEN_TRY(end_commit(txn, NULL));
    GOLDEN_TRY(cmb_txn_begin(s->store, "feature/one", 0, &txn));
    GOLDEN_TRY(del_range(txn, 5, 60, 13));
    GOLDEN_TRY(end_commit(txn, NULL));
    GOLDEN_TRY(cmb_branch_create(s->store, "empty", NULL));
    return close_store(s);
}

/* Values out of line: of one chunk, of three, written piece by piece, and of a stream. */
static int put_big(script *s, cmb_txn *txn)
{
    cmb_bytes value = sparse_value(s, 700000, "pieces");
    GOLDEN_TRY(cmb_txn_put(txn, text("big/one-chunk"), sparse_value(s, 3000, "one")));
    GOLDEN_TRY(cmb_txn_put(txn, text("big/at-the-edge"), sparse_value(s, 128, "edge")));
    GOLDEN_TRY(cmb_txn_put(txn, text("big/three-chunks"), sparse_value(s, 600000, "three")));
    value = sparse_value(s, 700000, "pieces");
    GOLDEN_TRY(cmb_txn_value_begin(txn, text("big/pieces")));
    for (size_t at = 0; at < value.size; at += 70000)
        GOLDEN_TRY(cmb_txn_value_add(txn, s->big + at, 70000));
    return cmb_txn_value_finish(txn);
}

static int part_values(script *s)
{
    cmb_txn *txn;
    GOLDEN_TRY(open_store(s, 0));
    GOLDEN_TRY(cmb_txn_begin(s->store, "main", 0, &txn));
    GOLDEN_TRY(put_big(s, txn));
    GOLDEN_TRY(del_range(txn, 40, 60, 2));
    GOLDEN_TRY(end_commit(txn, "big values"));
    GOLDEN_TRY(cmb_txn_begin(s->store, "main", 0, &txn));
    GOLDEN_TRY(cmb_txn_put(txn, text("big/streamed"), sparse_value(s, 1100000, "streamed")));
    GOLDEN_TRY(end_commit(txn, "a value that streams"));
    return close_store(s);
}

/* Both ways in which edits leave memory. */
static int part_spills(script *s, unsigned entries)
{
    cmb_txn *txn;
    GOLDEN_TRY(open_store(s, 4096));
    GOLDEN_TRY(cmb_branch_create(s->store, "ascending", NULL));
    GOLDEN_TRY(cmb_txn_begin(s->store, "ascending", 0, &txn));
    GOLDEN_TRY(put_range(txn, 0, entries, 1, "a sorted load"));
    GOLDEN_TRY(end_commit(txn, "sorted"));
    GOLDEN_TRY(cmb_branch_create(s->store, "scattered", "v1"));
    GOLDEN_TRY(cmb_txn_begin(s->store, "scattered", 0, &txn));
    for (unsigned i = 7; i > 0; i--)
        GOLDEN_TRY(put_range(txn, i, entries, 7, "a scattered load"));
    GOLDEN_TRY(end_commit(txn, "scattered"));
    return close_store(s);
}

/* Two branches at once, and one from the side. */
static int land_several(script *s)
{
    static const cmb_commit_info infos[2] = {{.author = "ada", .message = "both, here"},
                                             {.author = "bob", .message = "both, there"}};
    cmb_snapshot *snapshot;
    cmb_txn *txn, *pair[2];
    GOLDEN_TRY(cmb_txn_begin(s->store, "main", 0, &pair[0]));
    GOLDEN_TRY(cmb_txn_begin(s->store, "empty", 0, &pair[1]));
    GOLDEN_TRY(put_text(pair[0], "both", "here"));
    GOLDEN_TRY(put_text(pair[1], "both", "there"));
    GOLDEN_TRY(cmb_txn_commit_many(pair, 2, infos, NULL));
    GOLDEN_TRY(cmb_snapshot_open(s->store, "empty", &snapshot));
    GOLDEN_TRY(cmb_txn_begin_detached(snapshot, &txn));
    cmb_snapshot_close(snapshot);
    GOLDEN_TRY(put_text(txn, "aside", "landed"));
    return cmb_txn_land(txn, "empty", &(cmb_commit_info){.author = "eve", .message = "aside"}, NULL);
}

/* Refs that move, go and seal what they name. */
static int part_refs(script *s)
{
    cmb_txn *txn;
    GOLDEN_TRY(open_store(s, 0));
    GOLDEN_TRY(land_several(s));
    GOLDEN_TRY(cmb_branch_create(s->store, "sealed", "feature/one"));
    GOLDEN_TRY(cmb_txn_begin(s->store, "feature/one", 0, &txn));
    GOLDEN_TRY(put_text(txn, "after", "the seal"));
    GOLDEN_TRY(end_commit(txn, NULL));
    GOLDEN_TRY(cmb_tag_create(s->store, "v2", "main"));
    GOLDEN_TRY(cmb_tag_create(s->store, "gone", "main"));
    GOLDEN_TRY(cmb_tag_delete(s->store, "gone"));
    GOLDEN_TRY(cmb_branch_create(s->store, "doomed", "main~1"));
    GOLDEN_TRY(cmb_branch_delete(s->store, "doomed"));
    GOLDEN_TRY(cmb_branch_create(s->store, "moved", "v1"));
    GOLDEN_TRY(cmb_branch_set(s->store, "moved", "main~1"));
    GOLDEN_TRY(cmb_txn_begin(s->store, "moved", 0, &txn));
    GOLDEN_TRY(put_text(txn, "later", "queued"));
    GOLDEN_TRY(cmb_txn_commit(
        txn, &(cmb_commit_info){.author = "ada", .message = "queued", .time = 42, .flags = CMB_COMMIT_ASYNC}, NULL));
    GOLDEN_TRY(cmb_store_sync(s->store));
    return close_store(s);
}

/* Opened and closed without a change, then edits behind the newest checkpoint. */
static int part_end(script *s)
{
    cmb_txn *txn;
    GOLDEN_TRY(open_store(s, 0));
    GOLDEN_TRY(close_store(s));
    GOLDEN_TRY(open_store(s, 0));
    GOLDEN_TRY(cmb_txn_begin(s->store, "main", 0, &txn));
    GOLDEN_TRY(put_range(txn, 20, 25, 1, "autumn"));
    GOLDEN_TRY(cmb_txn_del(txn, text("big/one-chunk")));
    GOLDEN_TRY(cmb_txn_commit(txn,
                              &(cmb_commit_info){.author = "Ada <ada@example.org>",
                                                 .message = "A message of more than one line,\n\nand longer than what "
                                                            "a listing shows."},
                              NULL));
    GOLDEN_TRY(cmb_txn_begin(s->store, "main", 0, &txn));
    GOLDEN_TRY(put_range(txn, 30, 32, 1, "winter"));
    GOLDEN_TRY(end_commit(txn, NULL));
    return close_store(s);
}

/* ---- what is too large for a text file ---- */

static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* `size` bytes without zeros in long rows. */
static cmb_bytes dense_value(script *s, size_t size, uint64_t seed)
{
    for (size_t at = 0; at + 8 <= size; at += 8)
        cmb_put64(s->big + at, mix(seed + at));
    return (cmb_bytes){s->big, size};
}

/* Values of 512 bytes, their keys in order or not. */
static int load(script *s, const char *branch, unsigned entries, bool sorted)
{
    cmb_txn *txn;
    char key[32];
    GOLDEN_TRY(cmb_branch_create(s->store, branch, "main"));
    GOLDEN_TRY(cmb_txn_begin(s->store, branch, 0, &txn));
    for (unsigned i = 0; i < entries; i++) {
        snprintf(key, sizeof key, "load/%016llx", (unsigned long long)(sorted ? i : mix(i)));
        GOLDEN_TRY(cmb_txn_put(txn, text(key), dense_value(s, 512, i)));
    }
    return end_commit(txn, branch);
}

/* More than the segments that a superblock names, so that the log moves on by checkpoints of its own. */
static int fill_head(script *s)
{
    char key[32];
    for (unsigned i = 0; i < 40; i++) {
        cmb_txn *txn;
        GOLDEN_TRY(cmb_txn_begin(s->store, "main", 0, &txn));
        snprintf(key, sizeof key, "head/%u", i % 30);
        GOLDEN_TRY(cmb_txn_put(txn, text(key), dense_value(s, 900000 + i * 8, i)));
        GOLDEN_TRY(end_commit(txn, i % 3 ? NULL : "one more"));
    }
    return 0;
}

static int part_large(script *s)
{
    GOLDEN_TRY(open_store(s, 0));
    GOLDEN_TRY(load(s, "sorted", 16000, true));
    GOLDEN_TRY(fill_head(s));
    GOLDEN_TRY(close_store(s));
    GOLDEN_TRY(open_store(s, (size_t)1 << 20));
    GOLDEN_TRY(load(s, "random", 4000, false));
    return close_store(s);
}

/* ---- all of it ---- */

static int run(script *s, bool large)
{
    GOLDEN_TRY(part_beginning(s));
    GOLDEN_TRY(part_values(s));
    if (large)
        GOLDEN_TRY(part_large(s));
    GOLDEN_TRY(part_refs(s));
    GOLDEN_TRY(part_spills(s, large ? 900 : 80));
    return part_end(s);
}

int golden_script(cmb_device *dev, const cmb_init_options *init, bool large)
{
    script s = {.dev = dev, .big = malloc(BIG_MAX)};
    if (!s.big)
        return cmb_fail(CMB_ENOMEM, "no memory for the script's values");
    s.options.env = golden_env_start(&s.env);
    s.options.pool_size = (size_t)16 << 20;
    int error = cmb_store_init_device(dev, init, &s.options);
    if (!error)
        error = run(&s, large);
    free(s.big);
    return error;
}
