/* SPDX-License-Identifier: ISC */
/* sync_bed.h: what the tests of sync and bundles share: images, bytes in memory to be read and written, conversations that break off. */
#ifndef CMB_TEST_STORE_SYNC_BED_H
#define CMB_TEST_STORE_SYNC_BED_H

#include "bed.h"

#include <cambium/inspect.h>

#include "store/peer.h"

static inline void open_image(bed *b, cmb_hash_kind hash, uint32_t node_size)
{
    cmb_init_options init = {.node_size = node_size, .hash = hash};
    memset(b, 0, sizeof *b);
    bed_open_with(b, 0, &init);
}

/* One transaction of `n` puts of numbered keys from `first` on, a step apart. */
static inline cmb_rev put_range(cmb_store *store, const char *branch, unsigned first, unsigned step, unsigned n, const char *value,
                                const char *message)
{
    cmb_commit_info info = {.author = "ada", .message = message};
    cmb_txn *txn;
    cmb_rev rev;
    must(cmb_txn_begin(store, branch, 0, &txn));
    for (unsigned i = 0; i < n; i++) {
        char key[24], text[80];
        snprintf(key, sizeof key, "key%08u", first + i * step);
        snprintf(text, sizeof text, "%s of %u", value, first + i * step);
        must(cmb_txn_put(txn, str(key), str(text)));
    }
    must(cmb_txn_commit(txn, message ? &info : NULL, &rev));
    return rev;
}

/* A clean fsck of everything. */
static inline int print_finding(void *ctx, const cmb_finding *f)
{
    print_message("%s: %s (%s)\n", f->code, f->text, f->where);
    return 0;
}
static inline void must_be_sound(cmb_store *store)
{
    cmb_fsck_options options = {.level = CMB_FSCK_FULL, .on_finding = print_finding};
    cmb_fsck_result result;
    must(cmb_fsck(store, &options, &result));
    assert_int_equal(result.findings, 0);
}

/* ---- bytes in memory ---- */

typedef struct file {
    uint8_t *data;
    size_t size, at, capacity;
} file;

static inline int file_write(void *ctx, const void *data, size_t size)
{
    file *f = ctx;
    if (f->size + size > f->capacity) {
        f->capacity = 2 * (f->size + size);
        f->data = realloc(f->data, f->capacity);
        assert_non_null(f->data);
    }
    if (size)
        memcpy(f->data + f->size, data, size);
    f->size += size;
    return 0;
}

static inline int file_read(void *ctx, void *out, size_t size, size_t *out_read)
{
    file *f = ctx;
    size_t n = f->size - f->at;
    n = n < size ? n : size;
    if (n)
        memcpy(out, f->data + f->at, n);
    f->at += n;
    *out_read = n;
    return 0;
}

static inline int file_rewind(void *ctx)
{
    ((file *)ctx)->at = 0;
    return 0;
}

static inline cmb_bundle_source source_of(file *f)
{
    f->at = 0;
    return (cmb_bundle_source){file_read, file_rewind, f};
}

/* ---- a peer in this process whose words end after so many bytes ---- */

typedef struct cut_peer {
    cmb_loopback loop;
    uint64_t left;
} cut_peer;

static inline int cut_read(void *ctx, void *out, size_t size, size_t *out_read)
{
    cut_peer *p = ctx;
    size_t wanted = size < p->left ? size : (size_t)p->left;
    *out_read = 0;
    int error = wanted ? cmb_loopback_read(&p->loop, out, wanted, out_read) : 0;
    p->left -= *out_read;
    return error;
}

static inline int cut_write(void *ctx, const void *data, size_t size)
{
    return cmb_loopback_write(&((cut_peer *)ctx)->loop, data, size);
}

static inline int pull_cut(cmb_store *store, cmb_store *from, uint64_t bytes, const cmb_pull_options *options, cmb_sync_stats *out_stats)
{
    cut_peer p = {.left = bytes};
    must(cmb_loopback_open(&p.loop, from, &store->alloc));
    int error = cmb_pull_from(store, cut_read, cut_write, &p, options, out_stats);
    cmb_loopback_close(&p.loop);
    return error;
}

/* ---- what a store shows: refs and commits, as one number ---- */

static inline int add_ref(void *ctx, const char *name, const cmb_state *state)
{
    uint64_t *sum = ctx;
    *sum = cmb_hash64(name, strlen(name), *sum);
    *sum = cmb_hash64(state->commit.id.bytes, state->commit.id.size, *sum);
    *sum = cmb_hash64(state->root.name.bytes, state->root.name.size, *sum);
    return 0;
}
static inline int add_commit(void *ctx, const cmb_commit_at *at)
{
    uint64_t *sum = ctx;
    *sum = cmb_hash64(at->id.bytes, at->id.size, *sum);
    return 0;
}
static inline uint64_t shown(cmb_store *store)
{
    uint64_t sum = 0;
    must(cmb_refs_each(store, "", add_ref, &sum));
    must(cmb_commits_each(store, add_commit, &sum));
    return sum;
}

/* All bytes of a device. */
static inline uint64_t device_sum(cmb_device *dev)
{
    static _Alignas(4096) uint8_t block[1 << 16];
    cmb_caps caps;
    cmb_queue *q;
    uint64_t sum = 0;
    cmb_device_caps(dev, &caps);
    must(cmb_queue_open(dev, 1, &q));
    for (uint64_t at = 0; at < caps.size; at += sizeof block) {
        size_t n = caps.size - at < sizeof block ? (size_t)(caps.size - at) : sizeof block;
        must(cmb_io_read(q, at, block, n, 0));
        sum = cmb_hash64(block, n, sum);
    }
    cmb_queue_close(q);
    return sum + caps.size;
}

#endif
