/* SPDX-License-Identifier: ISC */
/*
 * Peers that keep exchanging end with equal heads. Five images are edited at random, in commits and in working states, and pull and
 * merge each other in random order, which makes criss-cross histories of any depth. When gossip has stopped their heads
 * are the same commit, counters hold every increment once, and what only one image ever wrote is what it wrote last.
 *
 * CMB_SEED is the first seed, CMB_BUDGET multiplies their number: CMB_BUDGET=250 makes 1,000.
 */
#include "bed.h"

#define PEERS 5
#define COUNTERS 3
#define OWN_MEMBERS 2 /* JSON documents in which each image writes a member of its own */
#define SHARED 2      /* JSON documents in which all write the same members */
#define PLAIN 40      /* keys that come and go */
#define SEEDS 4

typedef struct world {
    uint64_t seed, random;
    bed peers[PEERS];
    int64_t totals[COUNTERS];
    unsigned written[OWN_MEMBERS][PEERS]; /* what each image wrote last; 0: nothing */
    unsigned merges, inner, disputes;
} world;

#define check(w, what)                                                            \
    do {                                                                          \
        if (!(what))                                                              \
            fail_msg("seed %llu: %s", (unsigned long long)(w)->seed, #what);      \
    } while (0)

static unsigned pick(world *w, unsigned n)
{
    return (unsigned)(bed_mix(&w->random) % n);
}

/* ---- editing ---- */

static cmb_bytes read_key(cmb_txn *txn, const char *key)
{
    cmb_bytes value = {"", 0};
    int error = cmb_txn_get(txn, str(key), &value);
    if (error)
        must_be(error, CMB_ENOTFOUND);
    return value;
}

static void count(world *w, unsigned peer, cmb_txn *txn)
{
    char key[8], replica[8];
    uint8_t out[PEERS * CMB_COUNTER_SLOT_MAX];
    size_t size;
    unsigned k = pick(w, COUNTERS);
    int64_t delta = (int64_t)pick(w, 20) - 6;
    snprintf(key, sizeof key, "c%u", k);
    snprintf(replica, sizeof replica, "r%u", peer);
    must(cmb_counter_add(read_key(txn, key), replica, delta, out, sizeof out, &size));
    must(cmb_txn_put(txn, str(key), (cmb_bytes){out, size}));
    w->totals[k] += delta;
}

/* The number behind "NAME": in a flat object of numbers; 0: there is none. */
static unsigned member(cmb_bytes doc, const char *name)
{
    char text[1024], quoted[16];
    assert_true(doc.size < sizeof text);
    memcpy(text, doc.data, doc.size);
    text[doc.size] = 0;
    snprintf(quoted, sizeof quoted, "\"%s\":", name);
    const char *at = strstr(text, quoted);
    return at ? (unsigned)strtoul(at + strlen(quoted), NULL, 10) : 0;
}

/* Puts the object of r0..r4 and s0..s3, with one member set. */
static void put_doc(cmb_txn *txn, const char *key, const char *name, unsigned value)
{
    static const char *const names[] = {"r0", "r1", "r2", "r3", "r4", "s0", "s1", "s2", "s3"};
    char text[1024];
    int size = 1;
    cmb_bytes doc = read_key(txn, key);
    text[0] = '{';
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        unsigned n = strcmp(names[i], name) ? member(doc, names[i]) : value;
        if (n)
            size += snprintf(text + size, sizeof text - (size_t)size, "%s\"%s\":%u", size > 1 ? "," : "", names[i], n);
    }
    text[size++] = '}';
    must(cmb_txn_put(txn, str(key), (cmb_bytes){text, (size_t)size}));
}

static void write_own(world *w, unsigned peer, cmb_txn *txn)
{
    char key[8], name[8];
    unsigned d = pick(w, OWN_MEMBERS);
    snprintf(key, sizeof key, "j%u", d);
    snprintf(name, sizeof name, "r%u", peer);
    put_doc(txn, key, name, ++w->written[d][peer]);
}

static void write_shared(world *w, unsigned peer, cmb_txn *txn)
{
    char key[8], name[8];
    (void)peer;
    snprintf(key, sizeof key, "s%u", pick(w, SHARED));
    snprintf(name, sizeof name, "s%u", pick(w, 4));
    put_doc(txn, key, name, pick(w, 5));
}

static void write_plain(world *w, unsigned peer, cmb_txn *txn)
{
    char key[8], value[16];
    snprintf(key, sizeof key, "p%02u", pick(w, PLAIN));
    snprintf(value, sizeof value, "%u-%u", peer, pick(w, 1000));
    if (pick(w, 3)) {
        must(cmb_txn_put(txn, str(key), str(value)));
        return;
    }
    int error = cmb_txn_del(txn, str(key));
    if (error)
        must_be(error, CMB_ENOTFOUND);
}

static void edit(world *w, unsigned peer)
{
    static void (*const kinds[])(world *w, unsigned peer, cmb_txn *txn) = {count, write_own, write_shared, write_plain, write_plain};
    cmb_txn *txn;
    cmb_commit_info info = {.author = "ada", .message = "edit"};
    must(cmb_txn_begin(w->peers[peer].store, "main", 0, &txn));
    for (unsigned n = 1 + pick(w, 4); n; n--)
        kinds[pick(w, 5)](w, peer, txn);
    must(cmb_txn_commit(txn, pick(w, 2) ? &info : NULL, NULL));
}

/* ---- merging ---- */

/* Of two documents that cannot be merged the larger one; a deletion loses. */
static int take_larger(cmb_clash *clash)
{
    cmb_bytes mine, theirs;
    if (cmb_clash_presence(clash, CMB_SIDE_MINE) == CMB_ABSENT)
        return CMB_ANSWER_THEIRS;
    if (cmb_clash_presence(clash, CMB_SIDE_THEIRS) == CMB_ABSENT)
        return CMB_ANSWER_MINE;
    must(cmb_clash_value(clash, CMB_SIDE_MINE, &mine));
    must(cmb_clash_value(clash, CMB_SIDE_THEIRS, &theirs));
    size_t n = mine.size < theirs.size ? mine.size : theirs.size;
    int order = memcmp(mine.data, theirs.data, n);
    return order > 0 || (order == 0 && mine.size > theirs.size) ? CMB_ANSWER_MINE : CMB_ANSWER_THEIRS;
}

static int answer(void *ctx, cmb_clash *clash, cmb_bytes *out_value)
{
    world *w = ctx;
    char kind = *(const char *)cmb_clash_key(clash).data;
    w->merges += !cmb_clash_is_inner(clash);
    w->inner += cmb_clash_is_inner(clash);
    w->disputes += cmb_clash_presence(clash, CMB_SIDE_BASE) == CMB_DISPUTED;
    if (kind == 'c')
        return cmb_merge_counter(NULL, clash, out_value);
    /* Of two ancestors neither wins: so disputed values are met. Which side is mine is the same in all images. */
    if (kind == 'p')
        return cmb_clash_is_inner(clash) ? CMB_ANSWER_CONFLICT : CMB_ANSWER_MINE;
    int got = cmb_merge_json(NULL, clash, out_value);
    if (got == CMB_ENOTSUP || (kind == 's' && got == CMB_ANSWER_CONFLICT))
        return take_larger(clash);
    check(w, got >= 0 && got != CMB_ANSWER_CONFLICT);
    return got;
}

static void pull(world *w, unsigned to, unsigned from)
{
    static const char *const names[] = {"main"};
    cmb_pull_options options = {.names = names, .name_count = 1, .merge = true, .merge_fn = answer, .merge_ctx = w};
    cmb_rev theirs = rev_of(w->peers[from].store, "main");
    if (!theirs.commit.size && !theirs.working)
        return; /* nothing was ever written there */
    int error = cmb_pull(w->peers[to].store, w->peers[from].store, &options, NULL);
    if (error)
        fail_msg("seed %llu: pull: %s: %s", (unsigned long long)w->seed, cmb_error_name(error), cmb_error_detail());
}

/* ---- the story ---- */

static void begin(world *w, uint64_t seed)
{
    memset(w, 0, sizeof *w);
    w->seed = w->random = seed;
    for (unsigned i = 0; i < PEERS; i++) {
        bed *b = &w->peers[i];
        b->options.pool_size = 16 << 20;
        b->env = (bed_env){.now = 1700000000000000 + (int64_t)pick(w, 1000) * 1000000, .random = bed_mix(&w->random)};
        b->options.env = (cmb_env){.ctx = &b->env, .now = bed_now, .random = bed_random};
        must(cmb_device_mem(0, NULL, &b->dev));
        must(cmb_store_init_device(b->dev, NULL, &b->options));
        must(cmb_store_open_device(b->dev, &b->options, &b->store));
    }
}

static void end(world *w)
{
    for (unsigned i = 0; i < PEERS; i++)
        bed_close(&w->peers[i]);
}

static bool all_equal(world *w)
{
    cmb_rev first = rev_of(w->peers[0].store, "main"), rev;
    for (unsigned i = 1; i < PEERS; i++) {
        rev = rev_of(w->peers[i].store, "main");
        if (rev.working || first.working || !same_name(&first.commit, &rev.commit))
            return false;
    }
    return true;
}

/* Nobody edits any more; everybody asks somebody, again and again. */
static void gossip(world *w)
{
    for (unsigned round = 0; round < 200; round++) {
        if (all_equal(w))
            return;
        unsigned to = pick(w, PEERS);
        pull(w, to, (to + 1 + pick(w, PEERS - 1)) % PEERS);
    }
    fail_msg("seed %llu: the heads differ after 200 pulls", (unsigned long long)w->seed);
}

static void check_contents(world *w)
{
    cmb_snapshot *snapshot;
    cmb_bytes value;
    char key[8], name[8];
    must(cmb_snapshot_open(w->peers[0].store, "main", &snapshot));
    for (unsigned k = 0; k < COUNTERS; k++) {
        int64_t total = 0;
        snprintf(key, sizeof key, "c%u", k);
        if (!cmb_get(snapshot, str(key), &value))
            must(cmb_counter_read(value, &total));
        check(w, total == w->totals[k]);
    }
    for (unsigned d = 0; d < OWN_MEMBERS; d++) {
        snprintf(key, sizeof key, "j%u", d);
        if (cmb_get(snapshot, str(key), &value))
            value = str("{}");
        for (unsigned i = 0; i < PEERS; i++) {
            snprintf(name, sizeof name, "r%u", i);
            check(w, member(value, name) == w->written[d][i]);
        }
    }
    cmb_snapshot_close(snapshot);
}

static void live(uint64_t seed, unsigned *inner, unsigned *disputes)
{
    static world w;
    begin(&w, seed);
    for (unsigned steps = 20 + pick(&w, 60); steps; steps--) {
        unsigned peer = pick(&w, PEERS);
        if (pick(&w, 5) < 3)
            edit(&w, peer);
        else
            pull(&w, peer, (peer + 1 + pick(&w, PEERS - 1)) % PEERS);
    }
    gossip(&w);
    check_contents(&w);
    *inner += w.inner;
    *disputes += w.disputes;
    end(&w);
}

static bool have_json(void)
{
    bed b;
    cmb_merge_result r;
    bed_open(&b);
    put(b.store, "main", "k", "{}", "base");
    must(cmb_branch_create(b.store, "side", "main"));
    put(b.store, "main", "k", "{\"a\":1}", "mine");
    put(b.store, "side", "k", "{\"b\":1}", "theirs");
    int error = cmb_merge(b.store, "main", "side", cmb_merge_json, NULL, NULL, &r);
    bed_close(&b);
    return error != CMB_ENOTSUP;
}

static void peers_that_keep_exchanging_end_with_equal_heads(void **state)
{
    uint64_t seed = bed_seed(), seeds = SEEDS * (uint64_t)bed_budget();
    unsigned inner = 0, disputes = 0;
    (void)state;
    if (!have_json()) {
        print_message("built without JSON\n");
        skip();
    }
    print_message("seeds %llu to %llu\n", (unsigned long long)seed, (unsigned long long)(seed + seeds - 1));
    for (uint64_t i = 0; i < seeds; i++)
        live(seed + i, &inner, &disputes);
    print_message("asked between ancestors %u times, about disputed values %u times\n", inner, disputes);
    if (seeds >= 50)
        assert_true(inner && disputes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(peers_that_keep_exchanging_end_with_equal_heads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
