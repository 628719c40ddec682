/* SPDX-License-Identifier: ISC */
/* damage.h: what the tests of fsck and statistics share: an image with history, and bytes of it changed underneath. */
#ifndef CMB_TEST_STORE_DAMAGE_H
#define CMB_TEST_STORE_DAMAGE_H

#include "bed.h"

#include <cambium/inspect.h>

#include "store/internal.h"

#define HISTORY 5u    /* commits on main */
#define ENTRIES 3000u /* of the first */
#define LARGE   2500000u

static inline cmb_bytes number_key(char room[16], unsigned i)
{
    snprintf(room, 16, "key%06u", i);
    return str(room);
}

/* main: HISTORY commits; feature: one more, with a large value; tag v1: the first commit. Reopened, so that a
 * checkpoint lies above all of it once something is written. */
static inline void make_history(bed *b)
{
    static const cmb_init_options init = {.node_size = 1024};
    static uint8_t large[LARGE];
    cmb_commit_info info = {.author = "ada", .message = "ring"};
    cmb_txn *txn;
    memset(b, 0, sizeof *b);
    bed_open_with(b, 0, &init);
    for (unsigned c = 0; c < HISTORY; c++) {
        char room[16];
        must(cmb_txn_begin(b->store, "main", 0, &txn));
        for (unsigned i = c; i < (c ? c + 1 : ENTRIES); i++)
            must(cmb_txn_put(txn, number_key(room, i * 17 % ENTRIES),
                             c ? str("changed") : str("a value of some length, as values have")));
        must(cmb_txn_commit(txn, &info, NULL));
        if (c == 0)
            must(cmb_tag_create(b->store, "v1", "main"));
    }
    must(cmb_branch_create(b->store, "feature", "main"));
    memset(large, 'z', sizeof large);
    must(cmb_txn_begin(b->store, "feature", 0, &txn));
    must(cmb_txn_put(txn, str("large"), (cmb_bytes){large, sizeof large}));
    must(cmb_txn_commit(txn, &info, NULL));
    bed_reopen(b);
    put(b->store, "main", "last", "value", NULL);
    bed_reopen(b);
}

/* Changes a byte of a record, past whatever the store holds in memory. */
static inline void damage_record(bed *b, uint64_t addr, uint32_t length, uint32_t at)
{
    static _Alignas(4096) uint8_t block[CMB_BLOCK];
    uint64_t offset;
    cmb_queue *q;
    assert_true(at < length);
    assert_true(cmb_log_locate(b->store->log, addr, length, &offset));
    offset += at;
    must(cmb_queue_open(b->dev, 1, &q));
    must(cmb_io_read(q, offset & ~(uint64_t)(CMB_BLOCK - 1), block, CMB_BLOCK, 0));
    block[offset % CMB_BLOCK] ^= 0x40;
    must(cmb_io_write(q, offset & ~(uint64_t)(CMB_BLOCK - 1), block, CMB_BLOCK));
    cmb_queue_close(q);
}

/* The first node of a state at a level. */
typedef struct node_search {
    unsigned level;
    cmb_noderef ref;
} node_search;
static inline int node_search_visit(void *ctx, const cmb_noderef *ref, const cmb_node *node)
{
    node_search *s = ctx;
    (void)node;
    if (ref->level != s->level)
        return 0;
    s->ref = *ref;
    return CMB_ESTOPPED;
}
static inline cmb_noderef first_node(bed *b, const char *rev, unsigned level)
{
    static const cmb_walk_ops ops = {.node = node_search_visit};
    node_search s = {.level = level};
    cmb_resolved r;
    must(cmb_rev_resolve(b->store, rev, &r));
    must_be(cmb_tree_walk(&b->store->tree, &r.state.root, &ops, &s), CMB_ESTOPPED);
    return s.ref;
}

#endif
