/* SPDX-License-Identifier: ISC */
/*
 * Images with 1 % of their sectors overwritten at random, held against the original: every pair whose leaf is intact comes back, nothing
 * wrong does, and what does not is in the list. CMB_BUDGET: more seeds; CMB_SEED: the first.
 */
#include "salvage_bed.h"

#define PAIRS 9000u
#define ROUNDS 40u
#define FAR_SIZE 300000u /* two chunks */

static bool hit(const uint8_t *sectors, uint32_t sector, uint64_t offset, uint64_t length)
{
    for (uint64_t s = offset / sector; s <= (offset + length - 1) / sector; s++)
        if (sectors[s])
            return true;
    return false;
}

/* ---- the original ---- */

static void put_random(cmb_txn *txn, uint64_t *random, unsigned i)
{
    char key[40], value[80];
    uint64_t a = bed_mix(random), b = bed_mix(random);
    snprintf(key, sizeof key, "%04x/key%06u", (unsigned)(i * 40503u & 0xffff), i);
    snprintf(value, sizeof value, "%016llx-%016llx-%.*s", (unsigned long long)a, (unsigned long long)b, (int)(a % 30),
             "some more that is not random");
    must(cmb_txn_put(txn, str(key), str(value)));
}

static void make_wide(bed *b, uint64_t seed)
{
    static const cmb_init_options init = {.node_size = 1024, .segment_size = 2u << 20};
    static uint8_t far[FAR_SIZE];
    cmb_commit_info info = {.author = "ada", .message = "ring"};
    uint64_t random = seed;
    cmb_txn *txn;
    memset(b, 0, sizeof *b);
    bed_open_with(b, 0, &init);
    must(cmb_txn_begin(b->store, "main", 0, &txn));
    for (unsigned i = 0; i < PAIRS; i++)
        put_random(txn, &random, i);
    for (unsigned i = 0; i < 4; i++) {
        char key[24];
        snprintf(key, sizeof key, "large/%u", i);
        memset(far, (int)('a' + i), sizeof far);
        must(cmb_txn_put(txn, str(key), (cmb_bytes){far, sizeof far - i}));
    }
    must(cmb_txn_commit(txn, &info, NULL));
    must(cmb_tag_create(b->store, "v1", "main"));
    must(cmb_branch_create(b->store, "feature", "main"));
    for (unsigned r = 0; r < ROUNDS; r++) {
        must(cmb_txn_begin(b->store, r % 4 ? "main" : "feature", 0, &txn));
        for (unsigned i = 0; i < 6; i++)
            put_random(txn, &random, (unsigned)(bed_mix(&random) % (PAIRS + 500)));
        must(cmb_txn_commit(txn, r % 5 ? &info : NULL, NULL));
        if (r % 13 == 12)
            bed_reopen(b); /* a checkpoint */
    }
    put(b->store, "main", "last", "a working state", NULL);
    bed_reopen(b);
}

/* ---- what of it is intact ---- */

typedef struct pairs {
    bed *b;
    const uint8_t *sectors;
    uint32_t sector;
    cmb_store *to;
    const losses *losses;
    char where[64], branch[40];
    bool has_branch;
    bool older;                   /* the newest state is lost, and the list says so */
    cmb_snapshot *snapshot;       /* of the branch in the new image */
    cmb_snapshot *others[128];    /* of all other branches and all commits there */
    size_t n_others;
    uint64_t intact, back, beside, lost;
    uint8_t key[CMB_KEY_MAX];
    bool value_intact;
} pairs;

static bool is_intact(const pairs *p, uint64_t addr, uint32_t length)
{
    uint64_t offset;
    assert_true(cmb_log_locate(p->b->store->log, addr, length, &offset));
    return !hit(p->sectors, p->sector, offset, length);
}

static int look_at_value(void *ctx, uint64_t addr, uint32_t length, uint8_t kind)
{
    pairs *p = ctx;
    (void)kind;
    p->value_intact = p->value_intact && is_intact(p, addr, length);
    return 0;
}

static bool same_value(cmb_bytes a, cmb_bytes b)
{
    return a.size == b.size && memcmp(a.data, b.data, a.size) == 0;
}

/* The value in the original, which is open on the device as it was. */
static void value_of(pairs *p, const cmb_node *leaf, uint32_t i, uint8_t **room, cmb_bytes *out)
{
    cmb_valref ref;
    cmb_value_reader *reader;
    size_t n;
    p->value_intact = true;
    if (!cmb_node_is_out_of_line(leaf, i)) {
        *out = cmb_node_value(leaf, i);
        return;
    }
    cmb_node_valref(leaf, i, &ref);
    must(cmb_value_visit(&p->b->store->tree, &ref, false, look_at_value, p));
    *room = realloc(*room, ref.size);
    must(cmb_value_reader_open(&p->b->store->tree, &ref, &reader));
    must(cmb_value_reader_read(reader, 0, *room, ref.size, &n));
    cmb_value_reader_close(reader);
    *out = (cmb_bytes){*room, ref.size};
}

static bool is_listed(const pairs *p, cmb_bytes key)
{
    for (size_t i = 0; i < p->losses->n; i++) {
        const told *t = &p->losses->items[i];
        if (strcmp(t->where, p->where) != 0)
            continue;
        if (t->kind == CMB_LOSS_VALUE && t->last_size == key.size && memcmp(t->last, key.data, key.size) == 0)
            return true;
        if (t->kind == CMB_LOSS_KEYS && cmb_compare(t->after, t->after_size, key.data, key.size) < 0
            && (!t->last_size || cmb_compare(key.data, key.size, t->last, t->last_size) <= 0))
            return true;
    }
    return false;
}

static bool is_beside(const pairs *p, cmb_bytes key, cmb_bytes value)
{
    cmb_bytes got;
    for (size_t i = 0; i < p->n_others; i++)
        if (cmb_get(p->others[i], key, &got) == 0 && same_value(got, value))
            return true;
    return false;
}

static void judge(pairs *p, cmb_bytes key, cmb_bytes value, bool intact)
{
    cmb_bytes got;
    int error = p->has_branch ? cmb_get(p->snapshot, key, &got) : CMB_ENOTFOUND;
    p->intact += intact;
    if (!error) {
        if (!same_value(got, value) && !p->older)
            fail_msg("%s: %.*s has another value", p->where, (int)key.size, (const char *)key.data);
        if (!same_value(got, value) && intact && !is_beside(p, key, value))
            return; /* of a commit that is lost with the newest state */
        p->back += intact;
        return;
    }
    must_be(error, CMB_ENOTFOUND);
    if (p->has_branch && !p->older && !is_listed(p, key))
        fail_msg("%s: %.*s is missing and not in the list", p->where, (int)key.size, (const char *)key.data);
    p->lost++;
    if (intact && !p->older && !is_beside(p, key, value))
        fail_msg("%s: %.*s is intact and did not come back", p->where, (int)key.size, (const char *)key.data);
    p->beside += intact;
}

static int look_at_leaf(void *ctx, const cmb_noderef *ref, const cmb_node *node)
{
    pairs *p = ctx;
    uint8_t *room = NULL;
    if (ref->level)
        return 0;
    bool leaf = is_intact(p, ref->addr, ref->length);
    for (uint32_t i = 0; i < node->count; i++) {
        cmb_bytes value, key = {p->key, cmb_node_key(node, i, p->key)};
        value_of(p, node, i, &room, &value);
        judge(p, key, value, leaf && p->value_intact);
    }
    free(room);
    return 0;
}

static int open_commit(void *ctx, const cmb_commit_at *at)
{
    pairs *p = ctx;
    char hex[2 * CMB_NAME_MAX + 1];
    assert_true(p->n_others < CMB_COUNTOF(p->others));
    hex_of(&at->id, hex);
    must(cmb_snapshot_open(p->to, hex, &p->others[p->n_others++]));
    return 0;
}

static int open_other(void *ctx, const cmb_ref *ref)
{
    pairs *p = ctx;
    char name[CMB_REF_NAME_MAX + 8];
    if (strcmp(ref->name, p->branch) == 0)
        return 0;
    assert_true(p->n_others < CMB_COUNTOF(p->others));
    snprintf(name, sizeof name, "heads/%s", ref->name);
    must(cmb_snapshot_open(p->to, name, &p->others[p->n_others++]));
    return 0;
}

/* Nothing is in the new branch that was not in the old one. */
static void nothing_new(const pairs *p, cmb_snapshot *old)
{
    cmb_cursor *c;
    must(cmb_cursor_open(p->snapshot, NULL, &c));
    while (cmb_cursor_next(c) == 0) {
        cmb_bytes key, value;
        must(cmb_cursor_key(c, &key));
        must(cmb_get(old, key, &value));
    }
    cmb_cursor_close(c);
}

static bool is_older(const losses *l, const char *where)
{
    for (size_t i = 0; i < l->n; i++)
        if (l->items[i].kind == CMB_LOSS_REF_OLDER && strcmp(l->items[i].where, where) == 0)
            return true;
    return false;
}

static void compare_branch(bed *b, rescue *r, const char *branch, const uint8_t *sectors, uint32_t sector, pairs *sum)
{
    static const cmb_walk_ops ops = {.node = look_at_leaf, .read_leaves = true};
    static pairs p;
    cmb_resolved rev;
    cmb_snapshot *old;
    memset(&p, 0, sizeof p);
    p.b = b;
    p.sectors = sectors;
    p.sector = sector;
    p.to = r->to.store;
    p.losses = &r->losses;
    snprintf(p.branch, sizeof p.branch, "%s", branch);
    snprintf(p.where, sizeof p.where, "heads/%s", branch);
    p.older = count_kind(&r->losses, CMB_LOSS_STATE) > 0 || is_older(&r->losses, p.where);
    p.has_branch = cmb_snapshot_open(p.to, p.where, &p.snapshot) == 0;
    must(cmb_branch_list(p.to, open_other, &p));
    must(cmb_commits_each(p.to, open_commit, &p));
    must(cmb_rev_resolve(b->store, branch, &rev));
    must(cmb_tree_walk(&b->store->tree, &rev.state.root, &ops, &p));
    must(cmb_snapshot_open(b->store, branch, &old));
    if (p.has_branch && !p.older)
        nothing_new(&p, old);
    else if (!p.has_branch)
        assert_true(p.older || count_kind(&r->losses, CMB_LOSS_REFS) > 0);
    cmb_snapshot_close(old);
    cmb_snapshot_close(p.snapshot);
    for (size_t i = 0; i < p.n_others; i++)
        cmb_snapshot_close(p.others[i]);
    sum->intact += p.intact;
    sum->back += p.back;
    sum->beside += p.beside;
    sum->lost += p.lost;
}

/* ---- damage ---- */

/* A copy of the device with so many of 1000 sectors overwritten. */
static cmb_device *damaged_copy(cmb_device *from, uint32_t sector, unsigned permille, uint64_t seed, uint8_t **out_sectors)
{
    uint64_t size, random = seed;
    uint8_t *bytes = snapshot_device(from, &size);
    uint64_t n = size / sector;
    uint8_t *sectors = calloc((size_t)n, 1);
    cmb_device *dev;
    cmb_queue *q;
    assert_non_null(sectors);
    for (uint64_t i = 0; i < n * permille / 1000; i++) {
        uint64_t at = bed_mix(&random) % n;
        sectors[at] = 1;
        for (uint32_t k = 0; k < sector; k += 8)
            cmb_put64(bytes + at * sector + k, bed_mix(&random));
    }
    must(cmb_device_mem(0, NULL, &dev));
    must(dev->ops->grow(dev, size));
    must(cmb_queue_open(dev, 8, &q));
    must(cmb_io_write(q, 0, bytes, size));
    cmb_queue_close(q);
    free(bytes);
    *out_sectors = sectors;
    return dev;
}

static void overwrite_and_compare(uint32_t sector, unsigned seeds)
{
    pairs sum = {.b = NULL};
    bed b;
    uint64_t first = bed_seed();
    make_wide(&b, first);
    for (unsigned i = 0; i < seeds; i++) {
        rescue r;
        uint8_t *sectors;
        bed damaged = {.dev = damaged_copy(b.dev, sector, 10, first + i, &sectors)};
        print_message("sectors of %u bytes, CMB_SEED=%llu\n", sector, (unsigned long long)(first + i));
        salvage(&damaged, NULL, &r);
        compare_branch(&b, &r, "main", sectors, sector, &sum);
        compare_branch(&b, &r, "feature", sectors, sector, &sum);
        rescue_close(&r);
        cmb_device_close(damaged.dev);
        free(sectors);
    }
    print_message("intact %llu: %llu back in their branch, %llu beside it; %llu pairs not in their branch\n", (unsigned long long)sum.intact,
                  (unsigned long long)sum.back, (unsigned long long)sum.beside, (unsigned long long)sum.lost);
    assert_true(sum.intact * 99 / 100 <= sum.back + sum.beside); /* a newest state may be lost, with what it had */
    assert_true(sum.intact > 0);
    bed_close(&b);
}

static void with_1_percent_of_512_byte_sectors_overwritten_every_intact_pair_comes_back(void **state)
{
    (void)state;
    overwrite_and_compare(512, 3 * bed_budget());
}

static void with_1_percent_of_4096_byte_sectors_overwritten_every_intact_pair_comes_back(void **state)
{
    (void)state;
    overwrite_and_compare(4096, 3 * bed_budget());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(with_1_percent_of_512_byte_sectors_overwritten_every_intact_pair_comes_back),
        cmocka_unit_test(with_1_percent_of_4096_byte_sectors_overwritten_every_intact_pair_comes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
