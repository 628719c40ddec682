/* SPDX-License-Identifier: ISC */
/*
 * The model test: random scripts of the public calls against arrays, on several devices, node sizes
 * and residencies. After every commit the content's root equals that of a fresh sorted build of the
 * model in another image. Every operation draws from its own random numbers, so that a failing
 * script can be shrunk by leaving operations out.
 *
 * CMB_SEED replays, CMB_BUDGET lengthens, CMB_TEST_DEVICE names a device to run on as well.
 * An argument is the name of the tests to run, with * and ?.
 */
#include "bed.h"

#include <unistd.h>

#define KEYS 240
#define BRANCHES 5
#define SNAPS 4
#define ABSENT UINT32_MAX

typedef struct value {
    uint32_t size; /* ABSENT: the key is not there */
    uint32_t seed;
} value;
typedef struct content {
    value at[KEYS];
} content;
typedef struct commit {
    cmb_name id;
    int parent;
    uint64_t generation;
    content content;
} commit;
typedef struct branch {
    bool exists, working;
    int base; /* index of the commit; -1: none */
    content content;
} branch;

typedef struct setup {
    const char *device; /* "mem:" or a name with options */
    uint64_t size;      /* fixed size; 0: grows */
    uint32_t node_size;
    cmb_residency_mode residency;
    size_t txn_memory;
    cmb_hash_kind hash;  /* 0: the default */
} setup;

typedef struct world {
    const setup *how;
    bed_env env, oracle_env;
    cmb_store_options options;
    cmb_device *dev;
    cmb_store *store, *oracle;
    unsigned oracle_builds;
    branch branches[BRANCHES];
    commit *commits;
    int commit_count, commit_capacity;
    struct {
        cmb_snapshot *handle;
        content content;
    } snaps[SNAPS];
    uint64_t random;
    const char *what; /* the operation under way */
    char why[700];
} world;

static struct {
    uint8_t bytes[300];
    size_t size;
} keys[KEYS];
static uint8_t *pattern; /* long enough for the largest value at any seed */
#define LARGEST (3u << 20)

static uint32_t below(world *w, uint32_t n)
{
    return (uint32_t)(bed_mix(&w->random) % n);
}

static cmb_bytes key_of(int k)
{
    return (cmb_bytes){keys[k].bytes, keys[k].size};
}

static cmb_bytes bytes_of(value v)
{
    return (cmb_bytes){pattern + v.seed % 4096, v.size};
}

static int compare_keys(const void *a, const void *b)
{
    const uint8_t *x = a, *y = b;
    size_t n = *(const size_t *)(const void *)(x + 304), m = *(const size_t *)(const void *)(y + 304);
    int c = memcmp(x, y, n < m ? n : m);
    return c ? c : (n > m) - (n < m);
}

static void make_keys(void)
{
    uint64_t r = 7;
    _Static_assert(sizeof keys[0] == 312, "compare_keys knows where the size is");
    for (bool again = true; again;) {
        for (int k = 0; k < KEYS; k++) {
            size_t prefix = bed_mix(&r) % 3 * 9, own = 1 + bed_mix(&r) % (k % 17 ? 12 : 250);
            memset(keys[k].bytes, 'p', prefix);
            for (size_t i = 0; i < own; i++)
                keys[k].bytes[prefix + i] = (uint8_t)bed_mix(&r);
            keys[k].size = prefix + own;
        }
        qsort(keys, KEYS, sizeof keys[0], compare_keys);
        again = false;
        for (int k = 1; k < KEYS; k++)
            again = again || compare_keys(&keys[k - 1], &keys[k]) == 0;
    }
    pattern = malloc(LARGEST + 4096);
    assert_non_null(pattern);
    for (size_t i = 0; i < LARGEST + 4096; i++)
        pattern[i] = (uint8_t)bed_mix(&r);
}

/* ---- saying what went wrong: a failed check ends the script, which may then be shrunk ---- */

static bool wrong(world *w, int line, const char *text)
{
    snprintf(w->why, sizeof w->why, "line %d, %s: %s (%s)", line, w->what, text, cmb_error_detail());
    return false;
}
#define check(x) do { if (!(x)) return wrong(w, __LINE__, #x); } while (0)
#define ok(x) do { int e_ = (x); if (e_) return wrong(w, __LINE__, #x); } while (0)

static bool same_bytes(cmb_bytes a, cmb_bytes b)
{
    return a.size == b.size && (!a.size || memcmp(a.data, b.data, a.size) == 0);
}

/* ---- reading a state against the model ---- */

static bool check_gets(world *w, cmb_snapshot *s, const content *c)
{
    cmb_bytes asked[40], got[40];
    int which[40], results[40];
    for (int i = 0; i < 40; i++)
        asked[i] = key_of(which[i] = (int)below(w, KEYS));
    ok(cmb_get_many(s, asked, 40, got, results));
    for (int i = 0; i < 40; i++) {
        value v = c->at[which[i]];
        check(results[i] == (v.size == ABSENT ? CMB_ENOTFOUND : 0));
        check(results[i] || same_bytes(got[i], bytes_of(v)));
        int error = cmb_get(s, asked[i], &got[i]);
        check(error == results[i]);
        check(error || same_bytes(got[i], bytes_of(v)));
    }
    return true;
}

static int step(const content *c, int from, int by)
{
    do
        from += by;
    while (from >= 0 && from < KEYS && c->at[from].size == ABSENT);
    return from;
}

/* Walks a random range with random turns; [lo, hi) in key numbers. */
static bool check_walk(world *w, cmb_cursor *cursor, const content *c, int lo, int hi)
{
    int at = lo - 1; /* before the first */
    for (unsigned i = 0; i < 60; i++) {
        int move = (int)below(w, 8), error, k = (int)below(w, KEYS);
        cmb_bytes key, v;
        if (move < 3) {
            error = cmb_cursor_next(cursor);
            at = at >= hi ? hi : step(c, at, 1);
        } else if (move < 5) {
            error = cmb_cursor_prev(cursor);
            at = at < lo ? lo - 1 : step(c, at, -1);
        } else if (move == 5) {
            error = cmb_cursor_seek(cursor, key_of(k));
            at = step(c, (k < lo ? lo : k) - 1, 1);
        } else if (move == 6) {
            error = cmb_cursor_seek_last(cursor, key_of(k));
            at = step(c, (k >= hi ? hi - 1 : k) + 1, -1);
        } else {
            uint64_t n = below(w, 30);
            error = cmb_cursor_seek_nth(cursor, n);
            for (at = step(c, lo - 1, 1); at < hi && n; n--)
                at = step(c, at, 1);
        }
        at = at < lo ? lo - 1 : at > hi ? hi : at;
        check(error == (at < lo || at >= hi ? CMB_ENOTFOUND : 0));
        if (error)
            continue;
        ok(cmb_cursor_key(cursor, &key));
        check(same_bytes(key, key_of(at)));
        ok(cmb_cursor_value(cursor, &v));
        check(same_bytes(v, bytes_of(c->at[at])));
    }
    return true;
}

static void pick_range(world *w, int *lo, int *hi, cmb_range *range)
{
    *lo = 0;
    *hi = KEYS;
    *range = (cmb_range){0};
    if (below(w, 2))
        range->from = key_of(*lo = (int)below(w, KEYS));
    if (below(w, 2))
        range->to = key_of(*hi = *lo + (int)below(w, (uint32_t)(KEYS - *lo)));
}

static bool check_state(world *w, cmb_snapshot *s, const content *c)
{
    int lo, hi;
    cmb_range range;
    cmb_cursor *cursor;
    uint64_t count, expected = 0;
    if (!check_gets(w, s, c))
        return false;
    pick_range(w, &lo, &hi, &range);
    for (int k = lo; k < hi; k++)
        expected += c->at[k].size != ABSENT;
    ok(cmb_count(s, range.from.size ? &range.from : NULL, range.to.size ? &range.to : NULL, &count));
    check(count == expected);
    ok(cmb_cursor_open(s, &range, &cursor));
    bool fine = check_walk(w, cursor, c, lo, hi);
    cmb_cursor_close(cursor);
    return fine;
}

/* ---- the oracle of roots ---- */

static bool oracle_root(world *w, const content *c, cmb_name *out)
{
    char name[32];
    cmb_txn *txn;
    cmb_rev rev;
    snprintf(name, sizeof name, "build%u", w->oracle_builds++);
    ok(cmb_branch_create(w->oracle, name, NULL));
    ok(cmb_txn_begin(w->oracle, name, 0, &txn));
    for (int k = 0; k < KEYS; k++)
        if (c->at[k].size != ABSENT)
            ok(cmb_txn_put(txn, key_of(k), bytes_of(c->at[k])));
    ok(cmb_txn_commit(txn, NULL, &rev));
    ok(cmb_branch_delete(w->oracle, name));
    *out = rev.root;
    return true;
}

static bool check_root(world *w, const content *c, const cmb_name *root)
{
    cmb_name expected;
    if (!oracle_root(w, c, &expected))
        return false;
    check(same_name(&expected, root));
    return true;
}

/* ---- transactions ---- */

static void name_of(int b, char out[16])
{
    if (b)
        snprintf(out, 16, "side/b%u", (unsigned)b % 1000u);
    else
        snprintf(out, 16, "main");
}

static int pick_branch(world *w, bool existing)
{
    int first = (int)below(w, BRANCHES);
    for (int i = 0; i < BRANCHES; i++)
        if (w->branches[(first + i) % BRANCHES].exists == existing)
            return (first + i) % BRANCHES;
    return -1;
}

static value pick_value(world *w)
{
    uint32_t kind = below(w, 400), seed = below(w, 4096);
    uint32_t size = kind < 300 ? below(w, 40) : kind < 380 ? below(w, 400) : kind < 399 ? below(w, 6000) : below(w, LARGEST);
    return (value){size, seed};
}

static bool write_value(world *w, cmb_txn *txn, int k, value v)
{
    cmb_bytes all = bytes_of(v);
    if (below(w, 10)) {
        ok(cmb_txn_put(txn, key_of(k), all));
        return true;
    }
    ok(cmb_txn_value_begin(txn, key_of(k)));
    for (size_t at = 0, n; at < all.size; at += n) {
        n = 1 + below(w, all.size > 100000 ? 700000 : 3000);
        n = n < all.size - at ? n : all.size - at;
        ok(cmb_txn_value_add(txn, (const uint8_t *)all.data + at, n));
    }
    ok(cmb_txn_value_finish(txn));
    return true;
}

static bool edit_some(world *w, cmb_txn *txn, content *c)
{
    unsigned n = 1 + below(w, below(w, 4) ? 6 : 150);
    int from = below(w, 3) ? -1 : 0; /* ascending now and then */
    for (unsigned i = 0; i < n; i++) {
        int k = from < 0 ? (int)below(w, KEYS) : (from += 1 + (int)below(w, 3));
        cmb_bytes got;
        if (k >= KEYS)
            break;
        if (below(w, 4)) {
            value v = pick_value(w);
            if (!write_value(w, txn, k, v))
                return false;
            c->at[k] = v;
        } else {
            int error = cmb_txn_del(txn, key_of(k));
            check(error == (c->at[k].size == ABSENT ? CMB_ENOTFOUND : 0));
            c->at[k].size = ABSENT;
        }
        if (below(w, 8))
            continue;
        k = (int)below(w, KEYS);
        int error = cmb_txn_get(txn, key_of(k), &got);
        check(error == (c->at[k].size == ABSENT ? CMB_ENOTFOUND : 0));
        check(error || same_bytes(got, bytes_of(c->at[k])));
    }
    return true;
}

static bool edit_with_cursor(world *w, cmb_txn *txn, content *c)
{
    cmb_cursor *cursor;
    int lo, hi;
    cmb_range range;
    pick_range(w, &lo, &hi, &range);
    ok(cmb_txn_cursor_open(txn, &range, &cursor));
    bool fine = check_walk(w, cursor, c, lo, hi);
    int at = lo - 1;
    if (fine && cmb_cursor_first(cursor) == 0)
        at = step(c, at, 1);
    for (int i = 0; fine && i < 20 && at >= lo && at < hi; i++) {
        cmb_bytes key;
        fine = edit_some(w, txn, c);
        int error = cmb_cursor_next(cursor);
        at = step(c, at, 1);
        fine = fine && (error == (at >= hi ? CMB_ENOTFOUND : 0) || wrong(w, __LINE__, "next after writes"));
        if (fine && !error)
            fine = cmb_cursor_key(cursor, &key) == 0 && (same_bytes(key, key_of(at)) || wrong(w, __LINE__, "key after writes"));
    }
    cmb_cursor_close(cursor);
    return fine;
}

static bool same_content(const content *a, const content *b)
{
    for (int k = 0; k < KEYS; k++) {
        bool there = a->at[k].size != ABSENT;
        if (there != (b->at[k].size != ABSENT) || (there && !same_bytes(bytes_of(a->at[k]), bytes_of(b->at[k]))))
            return false;
    }
    return true;
}

static void empty(content *c)
{
    for (int k = 0; k < KEYS; k++)
        c->at[k] = (value){ABSENT, 0};
}

static int add_commit(world *w, const cmb_rev *rev, int parent, const content *c)
{
    if (w->commit_count == w->commit_capacity) {
        w->commit_capacity = w->commit_capacity ? 2 * w->commit_capacity : 16;
        w->commits = realloc(w->commits, (size_t)w->commit_capacity * sizeof *w->commits);
        assert_non_null(w->commits);
    }
    commit *made = &w->commits[w->commit_count];
    *made = (commit){.id = rev->commit, .parent = parent, .content = *c};
    made->generation = parent < 0 ? 1 : w->commits[parent].generation + 1;
    return w->commit_count++;
}

static const content *base_content(world *w, const branch *b, content *scratch)
{
    if (b->base >= 0)
        return &w->commits[b->base].content;
    empty(scratch);
    return scratch;
}

/* Moves the model's branch as the commit should have, and compares. */
static bool committed(world *w, branch *b, const content *c, const cmb_commit_info *info, const cmb_rev *rev)
{
    content scratch;
    bool as_base = same_content(c, base_content(w, b, &scratch));
    bool permanent = info && info->message && (!as_base || info->flags & CMB_COMMIT_EMPTY);
    b->content = *c;
    b->working = !permanent && !as_base;
    check(rev->working == b->working);
    check((rev->commit.size != 0) == (!b->working && (permanent || b->base >= 0)));
    if (permanent)
        b->base = add_commit(w, rev, b->base, c);
    else if (b->base >= 0)
        check(same_name(b->working ? &rev->base : &rev->commit, &w->commits[b->base].id));
    return check_root(w, c, &rev->root);
}

/* A working commit whose root nobody asks for: its edits may be logged before they are merged. What is read later has to be right. */
static void moved_unnamed(world *w, branch *b, const content *c)
{
    content scratch;
    b->working = !same_content(c, base_content(w, b, &scratch));
    b->content = *c;
}

static void pick_info(world *w, cmb_commit_info *info)
{
    *info = (cmb_commit_info){0};
    if (below(w, 2)) {
        info->author = "ada";
        info->message = "a ring";
    }
    if (!below(w, 6))
        info->flags |= CMB_COMMIT_EMPTY;
    if (!below(w, 6))
        info->flags |= CMB_COMMIT_ASYNC;
}

static bool op_commit(world *w)
{
    char name[16];
    cmb_txn *txn;
    cmb_rev rev;
    cmb_commit_info info;
    int b = pick_branch(w, true);
    if (b < 0)
        return true;
    name_of(b, name);
    content c = w->branches[b].content;
    ok(cmb_txn_begin(w->store, name, 0, &txn));
    bool fine = below(w, 5) ? edit_some(w, txn, &c) : edit_with_cursor(w, txn, &c);
    if (!fine || !below(w, 8)) {
        cmb_txn_abort(txn);
        return fine;
    }
    pick_info(w, &info);
    if (!info.message && below(w, 4)) {
        ok(cmb_txn_commit(txn, &info, NULL));
        moved_unnamed(w, &w->branches[b], &c);
        return true;
    }
    ok(cmb_txn_commit(txn, &info, &rev));
    return committed(w, &w->branches[b], &c, &info, &rev);
}

static bool op_commit_many(world *w)
{
    cmb_txn *txns[BRANCHES];
    cmb_rev revs[BRANCHES];
    cmb_commit_info infos[BRANCHES];
    content *contents = malloc(BRANCHES * sizeof *contents);
    int which[BRANCHES], n = 0;
    bool fine = true;
    for (int b = 0; b < BRANCHES; b++) {
        char name[16];
        if (!w->branches[b].exists || !below(w, 2))
            continue;
        name_of(b, name);
        must(cmb_txn_begin(w->store, name, CMB_TXN_NOWAIT, &txns[n]));
        contents[n] = w->branches[b].content;
        fine = fine && edit_some(w, txns[n], &contents[n]);
        pick_info(w, &infos[n]);
        which[n++] = b;
    }
    if (fine)
        fine = cmb_txn_commit_many(txns, (size_t)n, infos, revs) == 0 || wrong(w, __LINE__, "commit_many");
    else
        for (int i = 0; i < n; i++)
            cmb_txn_abort(txns[i]);
    for (int i = 0; fine && i < n; i++)
        fine = committed(w, &w->branches[which[i]], &contents[i], &infos[i], &revs[i]);
    free(contents);
    return fine;
}

static bool op_land(world *w)
{
    char name[16];
    cmb_snapshot *s;
    cmb_txn *txn;
    cmb_rev rev;
    cmb_commit_info info;
    int b = pick_branch(w, true);
    if (b < 0)
        return true;
    name_of(b, name);
    content c = w->branches[b].content;
    ok(cmb_snapshot_open(w->store, name, &s));
    int error = cmb_txn_begin_detached(s, &txn);
    cmb_snapshot_close(s);
    ok(error);
    bool fine = edit_some(w, txn, &c);
    pick_info(w, &info);
    if (fine && below(w, 2)) {
        error = cmb_txn_land(txn, name, &info, &rev);
        if (error)
            cmb_txn_abort(txn);
        ok(error);
        return committed(w, &w->branches[b], &c, &info, &rev);
    }
    cmb_txn_abort(txn);
    return fine;
}

/* ---- refs ---- */

/* What a revision that names branch b makes of it. */
static bool sealed(world *w, int b)
{
    char name[16];
    cmb_rev rev;
    branch *br = &w->branches[b];
    name_of(b, name);
    ok(cmb_rev_parse(w->store, name, &rev));
    check(!rev.working);
    if (br->working) {
        br->base = add_commit(w, &rev, br->base, &br->content);
        br->working = false;
    }
    return true;
}

static bool op_create_or_set(world *w)
{
    char name[16], rev[80];
    bool create = below(w, 2);
    int to = pick_branch(w, !create), from = pick_branch(w, true);
    if (to < 0)
        return true;
    name_of(to, name);
    branch target = {.exists = true, .base = -1};
    int source = -1;
    empty(&target.content);
    if (w->commit_count && below(w, 2)) {
        int k = (int)below(w, (uint32_t)w->commit_count);
        hex_of(&w->commits[k].id, rev);
        target.base = k;
        target.content = w->commits[k].content;
    } else if (from >= 0) {
        name_of(source = from, rev);
    } else if (create) {
        ok(cmb_branch_create(w->store, name, NULL));
        w->branches[to] = target;
        return true;
    } else {
        return true;
    }
    ok(create ? cmb_branch_create(w->store, name, rev) : cmb_branch_set(w->store, name, rev));
    if (source >= 0) {
        if (!sealed(w, source))
            return false;
        target = w->branches[source];
    }
    w->branches[to] = target;
    return true;
}

static bool op_delete(world *w)
{
    char name[16];
    int b = pick_branch(w, true);
    if (b < 0 || below(w, 2))
        return true;
    name_of(b, name);
    ok(cmb_branch_delete(w->store, name));
    w->branches[b].exists = false;
    return true;
}

/* ---- reading old and new states ---- */

static bool check_snap(world *w, int i)
{
    return !w->snaps[i].handle || check_state(w, w->snaps[i].handle, &w->snaps[i].content);
}

static bool op_open_snapshot(world *w)
{
    char rev[80];
    int i = (int)below(w, SNAPS), b = pick_branch(w, true);
    const content *c;
    if (w->commit_count && (b < 0 || below(w, 2))) {
        int k = (int)below(w, (uint32_t)w->commit_count);
        hex_of(&w->commits[k].id, rev);
        for (uint32_t n = below(w, 4); n && w->commits[k].parent >= 0; n--) {
            k = w->commits[k].parent;
            strcat(rev, "~");
        }
        c = &w->commits[k].content;
    } else if (b >= 0) {
        name_of(b, rev);
        c = &w->branches[b].content;
    } else {
        return true;
    }
    cmb_snapshot_close(w->snaps[i].handle);
    w->snaps[i].handle = NULL;
    ok(cmb_snapshot_open(w->store, rev, &w->snaps[i].handle));
    w->snaps[i].content = *c;
    return check_snap(w, i);
}

static bool op_read(world *w)
{
    return check_snap(w, (int)below(w, SNAPS));
}

static bool op_read_commit(world *w)
{
    char hex[80];
    cmb_commit *c;
    if (!w->commit_count)
        return true;
    const commit *expected = &w->commits[below(w, (uint32_t)w->commit_count)];
    hex_of(&expected->id, hex);
    ok(cmb_commit_read(w->store, hex, &c));
    bool fine = same_name(&c->id, &expected->id) && c->generation == expected->generation &&
                c->parent_count == (expected->parent >= 0 ? 1u : 0u) &&
                (!c->parent_count || same_name(&c->parents[0], &w->commits[expected->parent].id));
    cmb_commit_free(c);
    check(fine);
    return true;
}

typedef struct listing {
    world *w;
    int seen;
    bool fine;
} listing;

static int on_ref(void *ctx, const cmb_ref *ref)
{
    listing *l = ctx;
    for (int b = 0; b < BRANCHES; b++) {
        char name[16];
        const branch *br = &l->w->branches[b];
        name_of(b, name);
        if (strcmp(name, ref->name))
            continue;
        l->seen++;
        l->fine = l->fine && br->exists && ref->at.working == br->working;
    }
    return 0;
}

static bool op_list(world *w)
{
    listing l = {w, 0, true};
    int expected = 0;
    for (int b = 0; b < BRANCHES; b++)
        expected += w->branches[b].exists;
    ok(cmb_branch_list(w->store, on_ref, &l));
    check(l.fine && l.seen == expected);
    return true;
}

static void close_snaps(world *w)
{
    for (int i = 0; i < SNAPS; i++) {
        cmb_snapshot_close(w->snaps[i].handle);
        w->snaps[i].handle = NULL;
    }
}

static bool op_reopen(world *w)
{
    if (below(w, 3))
        return true;
    close_snaps(w);
    int error = cmb_store_close(w->store);
    w->store = NULL;
    ok(error);
    ok(cmb_store_open_device(w->dev, &w->options, &w->store));
    for (int b = 0; b < BRANCHES; b++) {
        char name[16];
        cmb_rev rev;
        const branch *br = &w->branches[b];
        name_of(b, name);
        error = cmb_rev_parse(w->store, name, &rev);
        check(error == (br->exists ? 0 : CMB_ENOTFOUND));
        check(error || rev.working == br->working);
        if (!error && !check_root(w, &br->content, &rev.root))
            return false;
    }
    return true;
}

static const struct {
    unsigned weight;
    const char *name;
    bool (*run)(world *w);
} operations[] = {
    {30, "commit", op_commit},      {6, "commit_many", op_commit_many}, {6, "land", op_land},
    {8, "branch", op_create_or_set}, {3, "delete", op_delete},           {10, "snapshot", op_open_snapshot},
    {15, "read", op_read},           {4, "commit_read", op_read_commit}, {3, "list", op_list},
    {3, "reopen", op_reopen},
};

/* ---- scripts ---- */

static void begin_world(world *w, const setup *how, uint64_t seed)
{
    cmb_init_options init = {.node_size = how->node_size, .hash = how->hash, .force = true};
    cmb_device_options device = {.size = how->size};
    memset(w, 0, sizeof *w);
    w->how = how;
    w->env = w->oracle_env = (bed_env){.now = 1, .random = seed};
    w->options = (cmb_store_options){.env = {&w->env, bed_now, bed_random},
                                     .residency = how->residency,
                                     .pool_size = 4 << 20,
                                     .txn_memory = how->txn_memory};
    must(cmb_device_open(how->device, CMB_OPEN_CREATE_FORCE, &device, &w->dev));
    must(cmb_store_init_device(w->dev, &init, &w->options));
    must(cmb_store_open_device(w->dev, &w->options, &w->store));
    cmb_store_options oracle = {.env = {&w->oracle_env, bed_now, bed_random}, .create = true, .init = &init};
    must(cmb_store_open("mem:", &oracle, &w->oracle));
    w->branches[0].exists = true;
    for (int b = 0; b < BRANCHES; b++) {
        w->branches[b].base = -1;
        empty(&w->branches[b].content);
    }
}

static void end_world(world *w)
{
    close_snaps(w);
    if (w->store)
        cmb_store_close(w->store);
    must(cmb_store_close(w->oracle));
    cmb_device_close(w->dev);
    free(w->commits);
}

/* Runs the operations that are not left out; the number of the one that failed, or -1. */
static int run_script(const setup *how, uint64_t seed, int n, const bool *skip, char *out_why, size_t why_size)
{
    world *w = malloc(sizeof *w);
    unsigned total = 0;
    int failed = -1;
    assert_non_null(w);
    begin_world(w, how, seed);
    for (size_t k = 0; k < sizeof operations / sizeof operations[0]; k++)
        total += operations[k].weight;
    for (int i = 0; i < n && failed < 0; i++) {
        size_t k = 0;
        if (skip && skip[i])
            continue;
        w->random = seed * 1000003u + (uint64_t)i;
        for (uint32_t draw = below(w, total); draw >= operations[k].weight; k++)
            draw -= operations[k].weight;
        w->what = operations[k].name;
        if (!operations[k].run(w))
            failed = i;
    }
    if (failed >= 0)
        snprintf(out_why, why_size, "operation %d: %s", failed, w->why);
    end_world(w);
    free(w);
    return failed;
}

/* Leaves out ever smaller pieces as long as it still fails. */
static void shrink(const setup *how, uint64_t seed, int n)
{
    bool *skip = calloc((size_t)n, sizeof *skip);
    char why[900] = "";
    assert_non_null(skip);
    for (int piece = n / 2; piece; piece /= 2)
        for (int from = 0; from + piece <= n; from += piece) {
            bool *saved = malloc((size_t)n * sizeof *saved);
            assert_non_null(saved);
            memcpy(saved, skip, (size_t)n * sizeof *saved);
            memset(skip + from, 1, (size_t)piece);
            if (run_script(how, seed, n, skip, why, sizeof why) < 0)
                memcpy(skip, saved, (size_t)n * sizeof *saved);
            free(saved);
        }
    print_message("shrunk to:");
    for (int i = 0; i < n; i++)
        if (!skip[i])
            print_message(" %d", i);
    print_message("\n%s\n", why);
    free(skip);
}

static void run(const setup *how)
{
    uint64_t first = bed_seed();
    char why[900];
    for (uint64_t seed = first; seed < first + 2 * bed_budget(); seed++) {
        int failed = run_script(how, seed, 150, NULL, why, sizeof why);
        if (failed < 0)
            continue;
        print_message("CMB_SEED=%llu, %s: %s\n", (unsigned long long)seed, how->device, why);
        shrink(how, seed, failed + 1);
        fail();
    }
}

static void scripts_agree_with_the_model_in_memory(void **state)
{
    static const setup how = {.device = "mem:", .node_size = 4096};
    run(&how);
}

static void scripts_agree_with_the_model_with_tiny_nodes(void **state)
{
    static const setup how = {.device = "mem:", .node_size = 256};
    run(&how);
}

static void scripts_agree_with_the_model_in_the_pool(void **state)
{
    static const setup how = {.device = "mem:", .node_size = 512, .residency = CMB_RESIDENT_POOL};
    run(&how);
}

static void scripts_agree_with_the_model_with_spilling(void **state)
{
    static const setup how = {.device = "mem:", .node_size = 256, .txn_memory = 9000};
    run(&how);
}

static void scripts_agree_with_the_model_with_cryptographic_names(void **state)
{
    static const setup how = {.device = "mem:", .node_size = 512, .txn_memory = 20000, .hash = CMB_HASH_SHA256};
    if (cmb_store_init("mem:", &(cmb_init_options){.hash = CMB_HASH_SHA256}, NULL) == CMB_ENOTSUP) {
        print_message("built without the feature sha256\n");
        skip();
    }
    run(&how);
}

static void on_file(uint64_t size, cmb_residency_mode residency)
{
    char name[64];
    snprintf(name, sizeof name, "/tmp/cambium-model-%ld.cmb", (long)getpid());
    setup how = {.device = name, .size = size, .node_size = 1024, .residency = residency};
    unlink(name);
    run(&how);
    unlink(name);
}

static void scripts_agree_with_the_model_on_a_file(void **state)
{
    on_file(0, CMB_RESIDENT_MAP);
}

static void scripts_agree_with_the_model_on_a_file_of_fixed_size(void **state)
{
    on_file((uint64_t)1 << 30, CMB_RESIDENT_POOL);
}

static void scripts_agree_with_the_model_on_the_device_that_is_named(void **state)
{
    const char *name = getenv("CMB_TEST_DEVICE");
    if (!name) {
        print_message("CMB_TEST_DEVICE names no device\n");
        skip();
    }
    setup how = {.device = name, .node_size = 4096};
    run(&how);
}

static int prepare(void **state)
{
    make_keys();
    print_message("CMB_SEED=%llu\n", (unsigned long long)bed_seed());
    return 0;
}

static int tidy(void **state)
{
    free(pattern);
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scripts_agree_with_the_model_in_memory),
        cmocka_unit_test(scripts_agree_with_the_model_with_tiny_nodes),
        cmocka_unit_test(scripts_agree_with_the_model_in_the_pool),
        cmocka_unit_test(scripts_agree_with_the_model_with_spilling),
        cmocka_unit_test(scripts_agree_with_the_model_with_cryptographic_names),
        cmocka_unit_test(scripts_agree_with_the_model_on_a_file),
        cmocka_unit_test(scripts_agree_with_the_model_on_a_file_of_fixed_size),
        cmocka_unit_test(scripts_agree_with_the_model_on_the_device_that_is_named),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, prepare, tidy);
}
