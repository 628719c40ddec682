/* SPDX-License-Identifier: ISC */
#include "oracle.h"

#include <stdio.h>
#include <string.h>

#include "io/io.h"
#include "store/handles.h"
#include "tests/sim/random.h"

const char *const oracle_refs[ORACLE_REFS] = {"main", "side", "work", "away", "first", "second"};

static char message[300];

/* ---- the environment ---- */

static int64_t env_now(void *ctx)
{
    return ((oracle_env *)ctx)->now += 1000000;
}

static int env_random(void *ctx, void *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ((uint8_t *)out)[i] = (uint8_t)sim_random(&((oracle_env *)ctx)->random);
    return 0;
}

cmb_env oracle_env_of(oracle_env *env)
{
    return (cmb_env){.ctx = env, .now = env_now, .random = env_random};
}

/* ---- prints ---- */

static int content_print(cmb_snapshot *snapshot, uint64_t *print)
{
    cmb_cursor *cursor;
    int e = cmb_cursor_open(snapshot, NULL, &cursor);
    if (e)
        return e;
    while ((e = cmb_cursor_next(cursor)) == 0) {
        cmb_bytes key, value;
        e = cmb_cursor_key(cursor, &key);
        if (!e)
            e = cmb_cursor_value(cursor, &value);
        if (e)
            break;
        *print = cmb_hash64(key.data, key.size, *print);
        *print = cmb_hash64(value.data, value.size, *print);
    }
    cmb_cursor_close(cursor);
    return e == CMB_ENOTFOUND ? 0 : e;
}

int oracle_content(cmb_store *store, const char *ref, uint64_t *out_print)
{
    cmb_snapshot *snapshot;
    uint64_t print = 0;
    int e = cmb_snapshot_open(store, ref, &snapshot);
    if (e)
        return e;
    e = content_print(snapshot, &print);
    cmb_snapshot_close(snapshot);
    if (!e)
        *out_print = print;
    return e;
}

static int ref_print(cmb_store *store, const char *ref, uint64_t *out_print)
{
    cmb_snapshot *snapshot;
    uint64_t print = cmb_hash64(ref, strlen(ref), 1);
    int e = cmb_snapshot_open(store, ref, &snapshot);
    if (e == CMB_ENOTFOUND) {
        *out_print = 0;
        return 0;
    }
    if (e)
        return e;
    /* Not by cmb_snapshot_rev: looking is not to merge what was logged. */
    const cmb_name *commit = &snapshot->state.commit.id;
    print = cmb_hash64(commit->bytes, commit->size, print);
    e = content_print(snapshot, &print);
    cmb_snapshot_close(snapshot);
    if (e)
        return e;
    *out_print = print ? print : 1;
    return 0;
}

int oracle_look(cmb_store *store, oracle_prints *out_prints)
{
    oracle_prints prints;
    for (unsigned i = 0; i < ORACLE_REFS; i++) {
        int e = ref_print(store, oracle_refs[i], &prints.of[i]);
        if (e)
            return cmb_fail_in(e, "%s", oracle_refs[i]);
    }
    *out_prints = prints;
    return 0;
}

/* ---- judging ---- */

static int open_state(cmb_device *dev, oracle_env *env, bool writable, cmb_store **out_store)
{
    cmb_store_options options = {.env = oracle_env_of(env), .read_only = !writable, .pool_size = 1u << 20};
    return cmb_store_open_device(dev, &options, out_store);
}

static const char *complain(const char *what, int error)
{
    snprintf(message, sizeof message, "%s: %s (%s)", what, cmb_error_name(error), cmb_error_detail());
    return message;
}

/* The step that these are the prints of, at least `acked`; -1: none. */
static int64_t find_step(const oracle *o, const oracle_prints *prints, const crash_moment *moment)
{
    for (uint64_t k = moment->acked; k <= moment->begun && k < o->count; k++)
        if (memcmp(&o->steps[k], prints, sizeof *prints) == 0)
            return (int64_t)k;
    return -1;
}

static const char *no_step(const oracle *o, const oracle_prints *prints, const crash_moment *moment)
{
    size_t n = 0;
    for (uint64_t k = 0; k < o->count; k++)
        if (memcmp(&o->steps[k], prints, sizeof *prints) == 0) {
            snprintf(message, sizeof message, "an acknowledged commit is lost: the state is that of step %llu, acknowledged were %llu",
                     (unsigned long long)k, (unsigned long long)moment->acked);
            return message;
        }
    n += (size_t)snprintf(message, sizeof message, "no step showed this state; steps with the same:");
    for (unsigned i = 0; i < ORACLE_REFS; i++) {
        int64_t last = -1;
        for (uint64_t k = 0; k < o->count; k++)
            last = o->steps[k].of[i] == prints->of[i] ? (int64_t)k : last;
        n += (size_t)snprintf(message + n, sizeof message - n, " %s %lld", oracle_refs[i], (long long)last);
    }
    return message;
}

static int first_finding(void *ctx, const cmb_finding *finding)
{
    snprintf(message, sizeof message, "fsck: %s at %llu: %s", finding->code, (unsigned long long)finding->addr, finding->text);
    return 1;
}

static const char *check_fully(cmb_store *store)
{
    cmb_fsck_options full = {.level = CMB_FSCK_FULL, .on_finding = first_finding};
    cmb_fsck_result result = {0};
    int e = cmb_fsck(store, &full, &result);
    return result.findings ? message : e ? complain("fsck", e) : NULL;
}

/* What an open reads at most: the log since the checkpoint before last, some of it again to replay it; the rest of its segment and the next one
 * in search of a witness, the beginnings of those that follow; and this for superblocks, table pages and windows that overlap. */
#define OPEN_READS (512u << 10)
#define NEXT_READS (16u * (128u << 10))

static const char *judge_reader(oracle *o, sim_disk *state, const crash_moment *moment, uint64_t *out_step)
{
    oracle_env env = {.random = 5};
    cmb_store *store;
    oracle_prints prints;
    int e = open_state(sim_device(state), &env, false, &store);
    o->opens++;
    if (e)
        return complain("it does not open", e);
    uint64_t read = sim_count(state).bytes_read, bound = 2 * moment->log_bytes + 3 * o->segment + NEXT_READS + OPEN_READS;
    const char *what = NULL;
    o->most_read = read > o->most_read ? read : o->most_read;
    if (o->segment && read > bound) {
        snprintf(message, sizeof message, "open read %llu bytes, more than %llu", (unsigned long long)read, (unsigned long long)bound);
        what = message;
    }
    if (!what && (e = oracle_look(store, &prints)) != 0)
        what = complain("it cannot be read", e);
    int64_t step = what ? -1 : find_step(o, &prints, moment);
    if (!what && step < 0)
        what = no_step(o, &prints, moment);
    if (!what && o->care.fsck && o->judged % o->care.fsck == 0) {
        o->fscked++;
        what = check_fully(store);
    }
    e = cmb_store_close(store);
    if (!what && e)
        what = complain("close", e);
    if (!what && sim_count(state).writes)
        what = "opening it to read wrote";
    *out_step = (uint64_t)step;
    return what;
}

/* ---- a crash during recovery ---- */

static int commit_one(cmb_store *store, uint64_t number)
{
    cmb_txn *txn;
    char value[32];
    int n = snprintf(value, sizeof value, "after %llu", (unsigned long long)number);
    int e = cmb_txn_begin(store, "main", 0, &txn);
    if (e)
        return e;
    cmb_commit_info info = {.author = "after", .message = "the crash"};
    e = cmb_txn_put(txn, (cmb_bytes){"after", 5}, (cmb_bytes){value, (size_t)n});
    if (!e)
        e = cmb_txn_commit(txn, number % 2 ? &info : NULL, NULL);
    return e;
}

/* Opens for writing and commits, recorded; steps[1] is what it shows then. */
static const char *go_on(oracle *o, cmb_device *dev, sim_trace *trace, oracle_prints steps[2])
{
    oracle_env env = {.random = 77 + o->written};
    cmb_store *store;
    oracle_prints found;
    sim_note(trace, CRASH_ACKED, 0); /* what the state showed is there to stay */
    int e = open_state(dev, &env, true, &store);
    o->opens++;
    if (e)
        return complain("it does not open for writing", e);
    e = oracle_look(store, &found);
    if (!e && memcmp(&found, &steps[0], sizeof found) != 0) {
        cmb_store_close(store);
        return "a writer sees another state than a reader";
    }
    sim_note(trace, CRASH_BEGUN, 1);
    if (!e)
        e = commit_one(store, o->written);
    if (!e)
        e = oracle_look(store, &steps[1]);
    if (!e)
        sim_note(trace, CRASH_ACKED, 1);
    int closed = cmb_store_close(store);
    return e || closed ? complain("going on after the crash", e ? e : closed) : NULL;
}

static const char *judge_again(oracle *o, sim_disk *state, uint64_t step)
{
    sim_trace trace = {0};
    cmb_device *dev;
    oracle_prints steps[2] = {o->steps[step]};
    cmb_caps caps;
    cmb_device_caps(sim_device(state), &caps);
    o->written++;
    if (sim_record(sim_fork(state), &trace, &dev))
        return "no memory";
    const char *what = go_on(o, dev, &trace, steps);
    cmb_device_close(dev);
    if (!what) {
        oracle inner = {.steps = steps, .count = 2, .care = o->care, .seen = o->seen};
        inner.care.depth--;
        inner.care.again = inner.care.again > 4 ? inner.care.again / 4 : inner.care.again;
        crash_plan plan = {.start = sim_medium(state), .start_size = caps.size, .options = {.cached = !(caps.flags & CMB_CAP_UNCACHED)},
                           .per_epoch = o->care.again_states, .seed = o->written, .noise = true, .judge = oracle_judge, .ctx = &inner,
                           .seen = o->seen};
        if (caps.max_size != caps.size)
            plan.options.max_size = caps.max_size;
        crash_tally tally = {0};
        crash_enumerate(&trace, &plan, &tally);
        o->nested.tried += tally.tried + inner.nested.tried;
        o->nested.judged += tally.judged + inner.nested.judged;
        o->nested.distinct += tally.distinct + inner.nested.distinct;
        o->nested.epochs += tally.epochs + inner.nested.epochs;
        o->nested.due += tally.due + inner.nested.due;
        o->fscked += inner.fscked;
        o->opens += inner.opens;
        if (tally.wrong) {
            static char outer[sizeof tally.first_wrong + 40];
            snprintf(outer, sizeof outer, "crashed again: %s", tally.first_wrong);
            what = outer;
        }
    }
    sim_trace_free(&trace);
    return what;
}

const char *oracle_judge(void *ctx, sim_disk *state, const crash_moment *moment)
{
    oracle *o = ctx;
    uint64_t step = 0;
    o->judged++;
    const char *what = judge_reader(o, state, moment, &step);
    if (!what && o->care.depth && o->care.again && o->judged % o->care.again == 0)
        what = judge_again(o, state, step);
    return what;
}
