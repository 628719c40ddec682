/* SPDX-License-Identifier: ISC */
#include "tests/fuzz/scripts.h"

#include <stdio.h>
#include <stdlib.h>

#include "store/internal.h"

#define PACKED_MAX ((size_t)1 << 20)

const char *const script_names[SCRIPT_COUNT] = {"empty", "pairs", "history", "large", "deep", "reopened", "intents", "sha256", "fixed"};

static cmb_bytes text(const char *s)
{
    return (cmb_bytes){s, strlen(s)};
}

cmb_store *script_open(fuzz_disk *disk)
{
    cmb_store_options options = fuzz_store_options();
    cmb_store *store = NULL;
    fuzz_must(cmb_store_open_device(&disk->dev, &options, &store));
    return store;
}

static void commit(cmb_txn *txn, const char *message)
{
    cmb_commit_info info = {.author = "ada", .message = message};
    fuzz_must(cmb_txn_commit(txn, message ? &info : NULL, NULL));
}

void script_put(cmb_store *store, const char *branch, unsigned first, unsigned n, const char *value, const char *message)
{
    cmb_txn *txn;
    fuzz_must(cmb_txn_begin(store, branch, 0, &txn));
    for (unsigned i = first; i < first + n; i++) {
        char key[24];
        snprintf(key, sizeof key, "%s%05u", i % 3 ? "key/" : "dir/sub/", i);
        fuzz_must(cmb_txn_put(txn, text(key), text(value)));
    }
    commit(txn, message);
}

/* ---- the scripts ---- */

static void put_history(cmb_store *store)
{
    cmb_merge_result merged;
    cmb_commit_info info = {.author = "bob", .message = "together"};
    script_put(store, "main", 0, 8, "one", "first");
    fuzz_must(cmb_branch_create(store, "side", "main"));
    script_put(store, "main", 4, 3, "two", "second");
    script_put(store, "side", 9, 3, "three", "third");
    fuzz_must(cmb_merge(store, "main", "side", NULL, NULL, &info, &merged));
    fuzz_must(cmb_tag_create(store, "v1", "main~1"));
    fuzz_must(cmb_tag_annotate(store, "v2", "main", &(cmb_tag_info){.tagger = "eve", .message = "a tag"}));
    fuzz_must(cmb_branch_create(store, "gone", "side"));
    fuzz_must(cmb_branch_delete(store, "gone"));
    script_put(store, "side", 2, 2, "work", NULL);
}

static void put_large(cmb_store *store)
{
    static uint8_t large[600000];
    cmb_txn *txn;
    fuzz_must(cmb_txn_begin(store, "main", 0, &txn));
    fuzz_must(cmb_txn_put(txn, text("little"), text("value")));
    fuzz_must(cmb_txn_put(txn, text("one chunk"), (cmb_bytes){large, 2000}));
    fuzz_must(cmb_txn_put(txn, text("chunks"), (cmb_bytes){large, sizeof large}));
    commit(txn, "large");
}

static void put_deep(cmb_store *store)
{
    for (unsigned i = 0; i < 300; i += 100)
        script_put(store, "main", i, 100, "some value", i ? NULL : "many");
}

static void put_intents(cmb_store *store)
{
    script_put(store, "main", 0, 30, "in the tree", "first");
    fuzz_must(cmb_branch_create(store, "side", "main"));
    script_put(store, "main", 5, 6, "before", NULL);
    script_put(store, "side", 40, 3, "before", NULL);
    fuzz_must(cmb_store_checkpoint(store));
    script_put(store, "main", 9, 4, "after", NULL);
    script_put(store, "main", 50, 2, "after", NULL);
}

static void put_script(cmb_store *store, script which)
{
    switch (which) {
    case SCRIPT_PAIRS:
        script_put(store, "main", 0, 20, "value", NULL);
        break;
    case SCRIPT_HISTORY:
    case SCRIPT_FIXED:
    case SCRIPT_SHA256:
        put_history(store);
        break;
    case SCRIPT_LARGE:
        put_large(store);
        break;
    case SCRIPT_DEEP:
    case SCRIPT_REOPENED:
        put_deep(store);
        break;
    case SCRIPT_INTENTS:
        put_intents(store);
        break;
    default:
        break;
    }
}

fuzz_disk *script_run(script which, unsigned i)
{
    bool crashed = which == SCRIPT_HISTORY || which == SCRIPT_INTENTS; /* neither seal nor checkpoint at the end */
    bool fixed = which == SCRIPT_FIXED, sha256 = which == SCRIPT_SHA256 && !cmb_hash_check(CMB_HASH_SHA256);
    fuzz_disk *disk = fuzz_disk_clear(i, (fixed ? FUZZ_DISK_MIB : 8) * FUZZ_MIB, !fixed);
    cmb_init_options init = {.node_size = 256, .hash = sha256 ? CMB_HASH_SHA256 : CMB_HASH_XXH3, .segment_size = 2u << 20};
    cmb_store_options options = fuzz_store_options();
    fuzz_must(cmb_store_init_device(&disk->dev, &init, &options));
    cmb_store *store = script_open(disk);
    put_script(store, which);
    if (!crashed)
        fuzz_must(cmb_store_close(store));
    for (unsigned n = 0; which == SCRIPT_REOPENED && n < 3; n++) {
        store = script_open(disk);
        script_put(store, "main", 50 * n, 5, "again", n ? "again" : NULL);
        fuzz_must(cmb_store_close(store));
    }
    if (crashed) {
        static uint8_t room[PACKED_MAX];
        size_t size = fuzz_disk_pack(disk, room, sizeof room);
        fuzz_must(cmb_store_close(store));
        disk = fuzz_disk_unpack(i, room, size);
    }
    return disk;
}

cmb_bytes script_packed(script which)
{
    static cmb_bytes packed[SCRIPT_COUNT];
    static uint8_t room[PACKED_MAX];
    if (!packed[which].size) {
        fuzz_begin(64 * FUZZ_MIB);
        size_t size = fuzz_disk_pack(script_run(which, 0), room, sizeof room);
        fuzz_end();
        uint8_t *copy = malloc(size ? size : 1);
        fuzz_check(size && copy, "script %s: its image is too large", script_names[which]);
        memcpy(copy, room, size);
        packed[which] = (cmb_bytes){copy, size};
    }
    return packed[which];
}

fuzz_disk *script_disk(script which, unsigned i)
{
    cmb_bytes packed = script_packed(which);
    return fuzz_disk_unpack(i, packed.data, packed.size);
}
