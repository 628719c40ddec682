/* SPDX-License-Identifier: ISC */
#include "script.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/internal.h"
#include "tests/sim/random.h"

enum { KEYS = 40, BULK_MAX = 1200, JOURNAL_EDITS = 100, AGAIN_MIN = 60, HEAVY = (1 << 20) + (200 << 10) };

typedef struct runner {
    script *s;
    cmb_device *dev, *peer_dev;
    cmb_store *store, *peer;
    oracle_env env, peer_env;
    uint64_t random;
    uint64_t generation; /* goes into every value: no two are alike */
    bool durable;        /* the step that is under way is durable when it has returned */
    const char *into, *from; /* branches of a merge */
} runner;

static unsigned below(runner *r, unsigned n)
{
    return (unsigned)(sim_random(&r->random) % n);
}

static const char *branch(runner *r)
{
    return oracle_refs[below(r, ORACLE_BRANCHES)];
}

/* ---- transactions ---- */

static size_t make_value(runner *r, char *out, size_t size)
{
    int n = snprintf(out, size, "g%llu ", (unsigned long long)++r->generation);
    size_t most = below(r, 3) ? 120 : 500, length = (size_t)n + below(r, (unsigned)most);
    for (size_t i = (size_t)n; i < length; i++)
        out[i] = (char)('a' + (i * i + r->generation) % 26);
    return length;
}

static int put_some(runner *r, cmb_txn *txn, unsigned count)
{
    int e = 0;
    for (unsigned i = 0; i < count && !e; i++) {
        char key[16], value[640];
        int n = snprintf(key, sizeof key, "k%02u", below(r, KEYS));
        cmb_bytes k = {key, (size_t)n};
        if (below(r, 5) == 0) {
            e = cmb_txn_del(txn, k);
            e = e == CMB_ENOTFOUND ? 0 : e;
        } else {
            e = cmb_txn_put(txn, k, (cmb_bytes){value, make_value(r, value, sizeof value)});
        }
    }
    return e;
}

/* So many small edits that the transaction gets a stream of its own. */
static int put_bulk(runner *r, cmb_txn *txn, unsigned count)
{
    int e = 0;
    for (unsigned i = 0; i < count && !e; i++) {
        char key[16], value[64];
        int n = snprintf(key, sizeof key, "bulk%04u", i);
        int v = snprintf(value, sizeof value, "g%llu.%u", (unsigned long long)r->generation, i);
        e = cmb_txn_put(txn, (cmb_bytes){key, (size_t)n}, (cmb_bytes){value, (size_t)v});
    }
    r->generation++;
    return e;
}

/* An error that changes nothing may happen, on a device that is full. */
static int finish(cmb_txn *txn, int e, const cmb_commit_info *info)
{
    if (!e)
        e = cmb_txn_commit(txn, info, NULL);
    if (e == CMB_ENOSPC)
        cmb_txn_abort(txn);
    return e;
}

static const cmb_commit_info permanent = {.author = "ada", .message = "a step"};
static const cmb_commit_info unhurried = {.author = "ada", .message = "queued", .flags = CMB_COMMIT_ASYNC};
static const cmb_commit_info unhurried_working = {.flags = CMB_COMMIT_ASYNC};

static int step_commit(runner *r, const cmb_commit_info *info)
{
    cmb_txn *txn;
    int e = cmb_txn_begin(r->store, branch(r), 0, &txn);
    if (e)
        return e;
    r->durable = !info || !(info->flags & CMB_COMMIT_ASYNC);
    return finish(txn, put_some(r, txn, 1 + below(r, 8)), info);
}

static int step_bulk(runner *r, const cmb_commit_info *info)
{
    cmb_txn *txn;
    int e = cmb_txn_begin(r->store, "side", 0, &txn);
    if (e)
        return e;
    unsigned count = (4u << 20) / r->s->options.node_size + 40;
    return finish(txn, put_bulk(r, txn, count < BULK_MAX ? count : 30), info);
}

/* Edits of the same keys, as large as are logged without being merged: some ten of these fill a segment that holds nothing else. */
static int step_journal(runner *r)
{
    cmb_txn *txn;
    char value[2048];
    size_t size = r->s->options.node_size / 4 - 64 < sizeof value ? r->s->options.node_size / 4 - 64 : sizeof value;
    int e = cmb_txn_begin(r->store, below(r, 2) ? "work" : "main", 0, &txn);
    if (e)
        return e;
    r->generation++;
    for (unsigned i = 0, n = JOURNAL_EDITS - below(r, 20); i < n && !e; i++) {
        char key[16];
        int k = snprintf(key, sizeof key, "j%03u", i);
        memset(value, 'a' + (int)(i % 26), size);
        snprintf(value, size, "g%llu.%u", (unsigned long long)r->generation, i);
        e = cmb_txn_put(txn, (cmb_bytes){key, (size_t)k}, (cmb_bytes){value, size});
    }
    return finish(txn, e, NULL);
}

/* A pair that changes, and is then put as it is again and again: each time a durable commit that shows nothing new and takes a block of the log. */
static int step_again(runner *r)
{
    const char *name = branch(r);
    char value[32];
    size_t size = (size_t)snprintf(value, sizeof value, "g%llu", (unsigned long long)++r->generation);
    int e = 0;
    for (unsigned i = 0, n = AGAIN_MIN + below(r, AGAIN_MIN); i < n && !e; i++) {
        cmb_txn *txn;
        e = cmb_txn_begin(r->store, name, 0, &txn);
        if (!e)
            e = finish(txn, cmb_txn_put(txn, (cmb_bytes){"again", 5}, (cmb_bytes){value, size}), NULL);
    }
    return e;
}

/* A value whose pieces do not fit one frame: a batch of several. */
static int step_heavy(runner *r)
{
    cmb_txn *txn;
    char *value = malloc(HEAVY);
    if (!value)
        return CMB_ENOMEM;
    uint64_t noise = ++r->generation;
    for (size_t i = 0; i < HEAVY; i += 8) {
        uint64_t word = sim_random(&noise);
        memcpy(value + i, &word, 8);
    }
    int e = cmb_txn_begin(r->store, "work", 0, &txn);
    if (!e)
        e = finish(txn, cmb_txn_put(txn, (cmb_bytes){"heavy", 5}, (cmb_bytes){value, HEAVY}), &permanent);
    free(value);
    return e;
}

static int step_many(runner *r)
{
    cmb_txn *txns[2];
    unsigned first = below(r, ORACLE_BRANCHES - 1);
    int e = cmb_txn_begin(r->store, oracle_refs[first], 0, &txns[0]);
    if (e)
        return e;
    e = cmb_txn_begin(r->store, oracle_refs[first + 1], 0, &txns[1]);
    if (e) {
        cmb_txn_abort(txns[0]);
        return e;
    }
    e = put_some(r, txns[0], 2);
    if (!e)
        e = put_some(r, txns[1], 2);
    const cmb_commit_info infos[2] = {permanent, {0}};
    if (!e)
        e = cmb_txn_commit_many(txns, 2, below(r, 2) ? infos : NULL, NULL);
    if (e == CMB_ENOSPC) {
        cmb_txn_abort(txns[0]);
        cmb_txn_abort(txns[1]);
    }
    return e;
}

static int step_abort(runner *r)
{
    cmb_txn *txn;
    int e = cmb_txn_begin(r->store, branch(r), 0, &txn);
    if (e)
        return e;
    e = put_some(r, txn, 3);
    cmb_txn_abort(txn);
    return e;
}

static int step_land(runner *r)
{
    cmb_snapshot *snapshot;
    cmb_txn *txn;
    const char *name = branch(r);
    int e = cmb_snapshot_open(r->store, name, &snapshot);
    if (e)
        return e;
    e = cmb_txn_begin_detached(snapshot, &txn);
    cmb_snapshot_close(snapshot);
    if (e)
        return e;
    e = put_some(r, txn, 2);
    if (!e)
        e = cmb_txn_land(txn, name, below(r, 2) ? &permanent : NULL, NULL);
    if (e == CMB_ENOSPC)
        cmb_txn_abort(txn);
    return e;
}

/* ---- refs, merges, pulls ---- */

static int step_branch(runner *r)
{
    const char *name = oracle_refs[1 + below(r, ORACLE_BRANCHES - 1)];
    if (below(r, 3) == 0)
        return cmb_branch_delete(r->store, name);
    int e = cmb_branch_create(r->store, name, below(r, 3) ? branch(r) : NULL);
    return e == CMB_EEXIST ? cmb_branch_set(r->store, name, branch(r)) : e;
}

static int step_tag(runner *r)
{
    const char *name = oracle_refs[ORACLE_BRANCHES + below(r, ORACLE_REFS - ORACLE_BRANCHES)];
    if (below(r, 3) == 0)
        return cmb_tag_delete(r->store, name);
    if (below(r, 2))
        return cmb_tag_annotate(r->store, name, branch(r), &(cmb_tag_info){.tagger = "ada", .message = "here"});
    int e = cmb_tag_create(r->store, name, branch(r));
    return e == CMB_EEXIST ? cmb_tag_set(r->store, name, branch(r)) : e;
}

/* Whatever names a working state seals it: a step of its own, before what would do so in a unit before its own. */
static int step_name(runner *r, const char *name)
{
    int e = cmb_tag_create(r->store, "scratch", name);
    return e ? e : cmb_tag_delete(r->store, "scratch");
}

static int step_merge(runner *r)
{
    cmb_merge_result result;
    return cmb_merge(r->store, r->into, r->from, cmb_merge_theirs, NULL, &permanent, &result);
}

/* The peer goes on by a commit and is pulled from. */
static int step_pull(runner *r)
{
    static const char *const names[] = {"away"};
    cmb_txn *txn;
    int e = cmb_txn_begin(r->peer, "away", 0, &txn);
    if (!e)
        e = put_some(r, txn, 3);
    if (!e)
        e = cmb_txn_commit(txn, &permanent, NULL);
    if (e)
        return e;
    cmb_pull_options options = {.names = names, .name_count = 1, .merge = true, .merge_fn = cmb_merge_theirs};
    return cmb_pull(r->store, r->peer, &options, NULL);
}

/* ---- the store itself ---- */

static int open_store(runner *r)
{
    cmb_store_options options = {.env = oracle_env_of(&r->env), .pool_size = 2u << 20};
    return cmb_store_open_device(r->dev, &options, &r->store);
}

static int step_reopen(runner *r)
{
    int e = cmb_store_close(r->store);
    r->store = NULL;
    return e ? e : open_store(r);
}

static int step_seal(runner *r)
{
    return cmb_log_seal(r->store->log);
}

typedef enum step_kind {
    PERMANENT, WORKING, ASYNC, ASYNC_WORKING, MANY, ABORT, LAND, BRANCH, TAG, MERGE, PULL, CHECKPOINT, REOPEN, SEAL, SYNC, WRITE_OUT, BULK,
    BULK_WORKING, JOURNAL, AGAIN, HEAVY_VALUE, NAME_INTO, NAME_FROM, KINDS
} step_kind;

static int take_step(runner *r, step_kind kind)
{
    r->durable = true;
    switch (kind) {
    case PERMANENT: return step_commit(r, &permanent);
    case WORKING: return step_commit(r, NULL);
    case ASYNC: return step_commit(r, &unhurried);
    case ASYNC_WORKING: return step_commit(r, &unhurried_working);
    case MANY: return step_many(r);
    case ABORT: r->durable = false; return step_abort(r);
    case LAND: return step_land(r);
    case BRANCH: return step_branch(r);
    case TAG: return step_tag(r);
    case NAME_INTO: return step_name(r, r->into);
    case NAME_FROM: return step_name(r, r->from);
    case MERGE: return step_merge(r);
    case PULL: return step_pull(r);
    case CHECKPOINT: return cmb_store_checkpoint(r->store);
    case REOPEN: return step_reopen(r);
    case SEAL: return step_seal(r);
    case SYNC: return cmb_store_sync(r->store);
    case WRITE_OUT: r->durable = false; return cmb_log_write_out(r->store->log);
    case BULK: return step_bulk(r, &permanent);
    case BULK_WORKING: return step_bulk(r, NULL);
    case HEAVY_VALUE: return step_heavy(r);
    case AGAIN: return step_again(r);
    default: return step_journal(r);
    }
}

/* How often each, of 100. */
static step_kind choose(runner *r)
{
    static const uint8_t usual[KINDS] = {[PERMANENT] = 14, [WORKING] = 22, [ASYNC] = 4, [ASYNC_WORKING] = 8, [MANY] = 6, [ABORT] = 2,
                                         [LAND] = 3, [BRANCH] = 8, [TAG] = 4, [MERGE] = 6, [PULL] = 2, [CHECKPOINT] = 6, [REOPEN] = 5,
                                         [SEAL] = 2, [SYNC] = 2, [WRITE_OUT] = 2, [BULK] = 2, [BULK_WORKING] = 2};
    static const uint8_t journal[KINDS] = {[PERMANENT] = 1, [WORKING] = 12, [ASYNC_WORKING] = 6, [BRANCH] = 1, [CHECKPOINT] = 30,
                                           [REOPEN] = 3, [SEAL] = 1, [SYNC] = 2, [WRITE_OUT] = 2, [JOURNAL] = 42};
    static const uint8_t round[KINDS] = {[CHECKPOINT] = 2, [REOPEN] = 2, [SYNC] = 2, [WRITE_OUT] = 2, [AGAIN] = 92};
    const uint8_t *weights = r->s->options.journal ? journal : r->s->options.round ? round : usual;
    unsigned at = below(r, 100), kind = 0;
    if (r->s->options.heavy && below(r, 16) == 0)
        return HEAVY_VALUE;
    while (kind < KINDS && at >= weights[kind])
        at -= weights[kind++];
    return kind < KINDS ? (step_kind)kind : WORKING;
}

/* What a step may say without anything being wrong: then it changed nothing. */
static bool may_be(int e)
{
    return e == 0 || e == CMB_ENOTFOUND || e == CMB_EEXIST || e == CMB_ENOSPC || e == CMB_ECONFLICT || e == CMB_EINVAL;
}

static const char *failed(const char *what, int e)
{
    static char text[300];
    snprintf(text, sizeof text, "%s: %s (%s)", what, cmb_error_name(e), cmb_error_detail());
    return text;
}

static bool has_changed(const runner *r)
{
    const oracle_prints *steps = r->s->steps + r->s->count;
    return memcmp(&steps[0], &steps[-1], sizeof *steps) != 0;
}

/* Does its return say that it and all before it is durable? One that changed nothing says nothing. */
static bool is_acknowledged(const runner *r, step_kind kind)
{
    return kind == CHECKPOINT || kind == REOPEN || kind == SEAL || kind == SYNC || (r->durable && has_changed(r));
}

static const char *one_step(runner *r, step_kind kind)
{
    script *s = r->s;
    sim_note(&s->trace, CRASH_BEGUN, s->count);
    int e = take_step(r, kind);
    if (!may_be(e))
        return failed("a step", e);
    s->done[kind] += e == 0;
    int looked = oracle_look(r->store, &s->steps[s->count]);
    if (looked)
        return failed("looking", looked);
    s->acknowledged += e == 0 && r->durable && has_changed(r);
    if (e == 0 && is_acknowledged(r, kind))
        sim_note(&s->trace, CRASH_ACKED, s->count);
    s->count++;
    return NULL;
}

static const char *next_step(runner *r)
{
    step_kind kind = choose(r);
    const char *what = NULL;
    if (kind == MERGE || kind == PULL) {
        r->into = kind == MERGE ? branch(r) : "away";
        r->from = kind == MERGE ? branch(r) : "away";
        what = one_step(r, NAME_INTO);
        if (!what)
            what = one_step(r, NAME_FROM);
    }
    return what ? what : one_step(r, kind);
}

static int make_peer(runner *r, const cmb_init_options *init)
{
    r->peer_env = (oracle_env){.now = 5, .random = 99};
    cmb_store_options options = {.env = oracle_env_of(&r->peer_env), .pool_size = 2u << 20};
    int e = cmb_device_mem(0, NULL, &r->peer_dev);
    if (!e)
        e = cmb_store_init_device(r->peer_dev, init, &options);
    if (!e)
        e = cmb_store_open_device(r->peer_dev, &options, &r->peer);
    return e ? e : cmb_branch_create(r->peer, "away", NULL);
}

static int make_image(runner *r)
{
    const script_options *o = &r->s->options;
    sim_options disk = {.size = o->size, .cached = o->cached, .seed = o->seed};
    if (!o->size)
        disk.max_size = SCRIPT_GROWTH;
    cmb_init_options init = {.node_size = o->node_size, .segment_size = SCRIPT_SEGMENT, .size = o->size};
    cmb_store_options options = {.env = oracle_env_of(&r->env), .pool_size = 2u << 20};
    sim_disk *made = sim_new(&disk);
    r->dev = sim_device(made);
    int e = cmb_store_init_device(r->dev, &init, &options);
    if (!e)
        e = open_store(r);
    for (unsigned i = 1; i < ORACLE_BRANCHES && !e; i++)
        e = cmb_branch_create(r->store, oracle_refs[i], NULL);
    if (!e)
        e = cmb_store_close(r->store);
    r->store = NULL;
    if (e)
        return e;
    cmb_caps caps;
    cmb_device_caps(r->dev, &caps);
    r->s->start_size = caps.size;
    sim_pages_share(&r->s->start, sim_medium(made));
    e = sim_record(made, &r->s->trace, &r->dev);
    init.size = 0;
    if (!e)
        e = make_peer(r, &init);
    return e ? e : open_store(r);
}

const char *script_run(const script_options *options, script *s)
{
    *s = (script){.options = *options, .steps = calloc(3 * options->steps + 2, sizeof *s->steps)};
    runner r = {.s = s, .env = {.now = 1700000000000000, .random = options->seed}, .random = options->seed * 3 + 1};
    if (!s->steps)
        return "no memory";
    int e = make_image(&r);
    const char *what = e ? failed("making the image", e) : NULL;
    if (!what && (e = oracle_look(r.store, &s->steps[s->count++])) != 0)
        what = failed("looking", e);
    for (unsigned i = 0; i < options->steps && !what; i++)
        what = next_step(&r);
    if (r.store && (e = cmb_store_close(r.store)) != 0 && !what)
        what = failed("close", e);
    if (!what)
        sim_note(&s->trace, CRASH_ACKED, s->count - 1);
    if (r.peer)
        cmb_store_close(r.peer);
    cmb_device_close(r.peer_dev);
    cmb_device_close(r.dev);
    return what;
}

void script_free(script *s)
{
    sim_pages_free(&s->start);
    sim_trace_free(&s->trace);
    free(s->steps);
}

crash_plan script_plan(const script *s)
{
    crash_plan plan = {.start = &s->start, .start_size = s->start_size, .options = {.cached = s->options.cached, .seed = s->options.seed},
                       .seed = s->options.seed, .noise = true};
    if (!s->options.size)
        plan.options.max_size = SCRIPT_GROWTH;
    return plan;
}
