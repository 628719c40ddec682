/* SPDX-License-Identifier: ISC */
/*
 * test_exhaustive.c: every sequence of a few operations, on two branches and two keys of a tree of tiny nodes. After each operation
 * the store shows what a model says; and of each, crash states are judged: all operations before are there, this one is whole or absent.
 *
 * Twice: in one session, and with a crash after every operation, so that each begins with a recovery.
 *
 * CMB_BUDGET: 1: sequences of 2, and some of 3; 10 and more: of 3, and some of 4; 100 and more: of 4.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "io/base.h"
#include "oracle.h"
#include "store/internal.h"

enum { KEYS = 2, FILLERS = 12, LENGTH_MAX = 4, STEPS_MAX = 1 + 3 * LENGTH_MAX };
static const char *const keys[KEYS] = {"d", "n"}; /* between the fillers */
enum { MAIN, SIDE, BRANCHES };
static const char *const branches[BRANCHES] = {"main", "side"};

typedef enum op {
    OP_MAIN_PUT_COMMIT, OP_MAIN_PUT, OP_MAIN_DELETE, OP_MAIN_QUEUE, OP_SIDE_PUT, OP_SIDE_PUT_COMMIT, OP_SIDE_SET, OP_SIDE_DROP, OP_MERGE,
    OP_CHECKPOINT, OP_REOPEN, OPS
} op;

/* What the store should hold: of each branch and key a value's number, 0: none. */
typedef struct model {
    bool side; /* the branch is there */
    uint32_t values[BRANCHES][KEYS];
    uint32_t next;
} model;

/* ---- the model against the store ---- */

static size_t value_text(uint32_t number, char out[80])
{
    return (size_t)snprintf(out, 80, "value %u %060u", number, number);
}

static uint64_t expected_content(const uint32_t values[KEYS])
{
    uint64_t print = 0;
    char text[80];
    unsigned k = 0;
    for (unsigned f = 0; f <= FILLERS; f++) {
        char filler[4] = {(char)('a' + 2 * f), 0};
        for (; k < KEYS && (f == FILLERS || strcmp(keys[k], filler) < 0); k++) {
            if (!values[k])
                continue;
            print = cmb_hash64(keys[k], strlen(keys[k]), print);
            print = cmb_hash64(text, value_text(values[k], text), print);
        }
        if (f == FILLERS)
            break;
        print = cmb_hash64(filler, 1, print);
        print = cmb_hash64(text, value_text(f, text), print);
    }
    return print;
}

static bool shows(cmb_store *store, const model *m)
{
    for (unsigned b = 0; b < BRANCHES; b++) {
        uint64_t content = 0;
        int e = oracle_content(store, branches[b], &content);
        bool there = b == MAIN || m->side;
        if (e != (there ? 0 : CMB_ENOTFOUND) || (there && content != expected_content(m->values[b])))
            return false;
    }
    return true;
}

/* ---- operations ---- */

static int write_key(cmb_store *store, unsigned branch, unsigned key, uint32_t number, const cmb_commit_info *info)
{
    cmb_txn *txn;
    char text[80];
    int e = cmb_txn_begin(store, branches[branch], 0, &txn);
    if (e)
        return e;
    cmb_bytes k = {keys[key], strlen(keys[key])};
    e = number ? cmb_txn_put(txn, k, (cmb_bytes){text, value_text(number, text)}) : cmb_txn_del(txn, k);
    if (e) {
        cmb_txn_abort(txn);
        return e;
    }
    return cmb_txn_commit(txn, info, NULL);
}

static int put(cmb_store *store, model *m, unsigned branch, unsigned key, const cmb_commit_info *info)
{
    uint32_t number = m->next + 1;
    int e = write_key(store, branch, key, number, info);
    if (!e)
        m->values[branch][key] = m->next = number;
    return e;
}

static int delete(cmb_store *store, model *m)
{
    int e = write_key(store, MAIN, 0, 0, NULL);
    if (!e)
        m->values[MAIN][0] = 0;
    return e;
}

static int drop_side(cmb_store *store, model *m)
{
    int e = cmb_branch_delete(store, "side");
    m->side = e ? m->side : false;
    return e;
}

static int set_side(cmb_store *store, model *m)
{
    int e = m->side ? cmb_branch_set(store, "side", "main") : cmb_branch_create(store, "side", "main");
    if (e)
        return e;
    m->side = true;
    memcpy(m->values[SIDE], m->values[MAIN], sizeof m->values[SIDE]);
    return 0;
}

/* What a merge gives is not this test's: the model believes it. */
static int merge(cmb_store *store, model *m)
{
    cmb_merge_result result;
    cmb_snapshot *snapshot;
    const cmb_commit_info info = {.author = "ada"};
    int e = cmb_merge(store, "main", "side", cmb_merge_theirs, NULL, &info, &result);
    if (!e)
        e = cmb_snapshot_open(store, "main", &snapshot);
    if (e)
        return e;
    for (unsigned k = 0; k < KEYS && !e; k++) {
        cmb_bytes value;
        unsigned number = 0;
        e = cmb_get(snapshot, (cmb_bytes){keys[k], strlen(keys[k])}, &value);
        if (!e)
            e = sscanf(value.data, "value %u", &number) == 1 ? 0 : CMB_ECORRUPT;
        if (e == CMB_ENOTFOUND)
            e = 0;
        m->values[MAIN][k] = number;
    }
    cmb_snapshot_close(snapshot);
    return e;
}

/* ---- a session: operations on an image, recorded ---- */

typedef struct session {
    cmb_store *store;
    cmb_device *dev;
    sim_disk *disk;
    sim_trace trace;
    oracle_env env;
    model model;
    oracle_prints steps[STEPS_MAX];
    uint64_t count;
} session;

static void ok(int e, const char *what)
{
    if (e)
        fail_msg("%s: %s (%s)", what, cmb_error_name(e), cmb_error_detail());
}

static void open_store(session *s)
{
    cmb_store_options options = {.env = oracle_env_of(&s->env), .pool_size = 1u << 20};
    ok(cmb_store_open_device(s->dev, &options, &s->store), "open");
}

/* Whatever names a working state seals it: before a merge, as a step of its own. */
static int name_it(session *s, const char *branch)
{
    int e = cmb_tag_create(s->store, "scratch", branch);
    return e ? e : cmb_tag_delete(s->store, "scratch");
}

static void begin_step(session *s)
{
    assert_true(s->count < STEPS_MAX);
    sim_note(&s->trace, CRASH_BEGUN, s->count);
}

static void end_step(session *s, bool durable)
{
    ok(oracle_look(s->store, &s->steps[s->count]), "look");
    bool changed = memcmp(&s->steps[s->count], &s->steps[s->count - 1], sizeof s->steps[0]) != 0;
    if (durable && changed)
        sim_note(&s->trace, CRASH_ACKED, s->count);
    s->count++;
}

static int do_op(session *s, op what)
{
    static const cmb_commit_info permanent = {.author = "ada", .message = "step"}, queued = {.flags = CMB_COMMIT_ASYNC};
    model *m = &s->model;
    switch (what) {
    case OP_MAIN_PUT_COMMIT: return put(s->store, m, MAIN, 0, &permanent);
    case OP_MAIN_PUT: return put(s->store, m, MAIN, 1, NULL);
    case OP_MAIN_DELETE: return delete(s->store, m);
    case OP_MAIN_QUEUE: return put(s->store, m, MAIN, 0, &queued);
    case OP_SIDE_PUT: return put(s->store, m, SIDE, 0, NULL);
    case OP_SIDE_PUT_COMMIT: return put(s->store, m, SIDE, 1, &permanent);
    case OP_SIDE_SET: return set_side(s->store, m);
    case OP_SIDE_DROP: return drop_side(s->store, m);
    case OP_MERGE: return merge(s->store, m);
    case OP_CHECKPOINT: return cmb_store_checkpoint(s->store);
    default:
        ok(cmb_store_close(s->store), "close");
        open_store(s);
        return 0;
    }
}

static void run_op(session *s, op what)
{
    for (unsigned b = 0; what == OP_MERGE && b < BRANCHES; b++) {
        begin_step(s);
        int e = name_it(s, branches[b]);
        if (e && e != CMB_ENOTFOUND)
            ok(e, "naming a branch");
        end_step(s, true);
    }
    begin_step(s);
    int e = do_op(s, what);
    if (e && e != CMB_ENOTFOUND)
        ok(e, "an operation");
    if (!shows(s->store, &s->model))
        fail_msg("operation %d: the store does not show what the model says", what);
    end_step(s, what != OP_MAIN_QUEUE);
    if (what == OP_CHECKPOINT || what == OP_REOPEN)
        sim_note(&s->trace, CRASH_ACKED, s->count - 1);
}

static void session_open(session *s, const sim_pages *image, const model *m)
{
    memset(s, 0, sizeof *s);
    s->model = *m;
    s->env = (oracle_env){.now = 1700000000000000, .random = m->next};
    s->disk = sim_on(image, NULL);
    ok(sim_record(s->disk, &s->trace, &s->dev), "record");
    open_store(s);
    if (!shows(s->store, &s->model))
        fail_msg("after the crash the store does not show what the model says");
    ok(oracle_look(s->store, &s->steps[s->count++]), "look");
}

typedef struct tally {
    crash_seen *seen;
    crash_tally states;
    uint64_t sequences;
} tally;

/* Judges the crash states of the session's steps from `first` on; the store is closed by then. */
static void judge_session(session *s, const sim_pages *image, uint64_t first, tally *t, unsigned per_epoch)
{
    oracle o = {.steps = s->steps, .count = s->count, .care = {.fsck = 32}, .seen = t->seen};
    crash_plan plan = {.start = image, .start_size = (uint64_t)image->count << 20, .per_epoch = per_epoch, .first = first, .seed = t->sequences,
                       .judge = oracle_judge, .ctx = &o, .seen = t->seen};
    crash_tally found = {0};
    crash_enumerate(&s->trace, &plan, &found);
    if (found.wrong)
        fail_msg("%llu states are wrong, the first: %s", (unsigned long long)found.wrong, found.first_wrong);
    t->states.tried += found.tried;
    t->states.distinct += found.distinct;
    t->states.epochs += found.epochs;
}

/* ---- the image that all begin with ---- */

static void make_image(sim_pages *out_image, model *out_model)
{
    sim_disk *disk = sim_new(&(sim_options){.size = 32u << 20});
    oracle_env env = {.now = 1600000000000000, .random = 8};
    cmb_init_options init = {.node_size = 256, .segment_size = 2u << 20, .size = 32u << 20};
    cmb_store_options options = {.env = oracle_env_of(&env), .pool_size = 1u << 20};
    cmb_store *store;
    cmb_txn *txn;
    ok(cmb_store_init_device(sim_device(disk), &init, &options), "init");
    ok(cmb_store_open_device(sim_device(disk), &options, &store), "open");
    ok(cmb_txn_begin(store, "main", 0, &txn), "begin");
    for (unsigned f = 0; f < FILLERS; f++) {
        char key = (char)('a' + 2 * f), text[80];
        ok(cmb_txn_put(txn, (cmb_bytes){&key, 1}, (cmb_bytes){text, value_text(f, text)}), "put");
    }
    ok(cmb_txn_commit(txn, &(cmb_commit_info){.author = "ada"}, NULL), "commit");
    ok(cmb_branch_create(store, "side", "main"), "branch");
    *out_model = (model){.side = true, .next = 100};
    assert_true(shows(store, out_model));
    ok(cmb_store_close(store), "close");
    sim_pages_share(out_image, sim_medium(disk));
    sim_free(disk);
}

static unsigned budget(void)
{
    const char *text = getenv("CMB_BUDGET");
    return text ? (unsigned)strtoul(text, NULL, 0) : 1;
}

static bool next_sequence(unsigned *ops, unsigned length)
{
    while (length-- > 0) {
        if (++ops[length] < OPS)
            return true;
        ops[length] = 0;
    }
    return false;
}

static void report(const char *what, const tally *t)
{
    print_message("%s: %llu sequences, %llu epochs, %llu states tried, %llu distinct\n", what, (unsigned long long)t->sequences,
                  (unsigned long long)t->states.epochs, (unsigned long long)t->states.tried, (unsigned long long)t->states.distinct);
}

/* ---- in one session ---- */

static void try_sequence(const sim_pages *image, const model *m, const unsigned *ops, unsigned length, tally *t)
{
    static session s;
    uint64_t first = 1;
    session_open(&s, image, m);
    for (unsigned i = 0; i < length; i++) {
        first = s.count;
        run_op(&s, (op)ops[i]);
    }
    t->sequences++;
    ok(cmb_store_close(s.store), "close");
    judge_session(&s, image, first, t, 5); /* what was before the last is judged with the shorter sequence */
    cmb_device_close(s.dev);
    sim_trace_free(&s.trace);
}

static void all_of_length(const sim_pages *image, const model *m, unsigned length, unsigned each, tally *t)
{
    unsigned ops[LENGTH_MAX] = {0}, n = 0;
    do {
        if (n++ % each == each - 1)
            try_sequence(image, m, ops, length, t);
    } while (next_sequence(ops, length));
}

static void every_sequence_in_one_session_shows_what_the_model_says_and_survives_a_crash_anywhere(void **state)
{
    (void)state;
    unsigned b = budget(), whole = b >= 100 ? 4 : b >= 10 ? 3 : 2;
    tally t = {.seen = crash_seen_new()};
    sim_pages image;
    model m;
    make_image(&image, &m);
    for (unsigned length = 1; length <= whole; length++)
        all_of_length(&image, &m, length, 1, &t);
    if (whole < LENGTH_MAX)
        all_of_length(&image, &m, whole + 1, 131, &t);
    report("in one session", &t);
    sim_pages_free(&image);
    crash_seen_free(t.seen);
}

/* ---- with a crash after each ---- */

typedef struct level {
    sim_pages image;
    model model;
    unsigned next; /* operation */
} level;

/* One operation on an image; what a crash right after it leaves, if nothing lands that was not flushed. */
static void step_and_crash(const level *from, op what, level *out_to, tally *t)
{
    static session s;
    session_open(&s, &from->image, &from->model);
    run_op(&s, what);
    t->sequences++;
    *out_to = (level){.model = what == OP_MAIN_QUEUE ? from->model : s.model};
    out_to->model.next = s.model.next;
    sim_pages_share(&out_to->image, sim_medium(s.disk));
    ok(cmb_store_close(s.store), "close");
    judge_session(&s, &from->image, 0, t, 4);
    cmb_device_close(s.dev);
    sim_trace_free(&s.trace);
}

static void every_sequence_with_a_crash_after_each_operation_shows_what_the_model_says(void **state)
{
    (void)state;
    unsigned b = budget(), depth = b >= 100 ? 4 : b >= 10 ? 3 : 2, at = 0;
    tally t = {.seen = crash_seen_new()};
    static level levels[LENGTH_MAX + 1];
    memset(levels, 0, sizeof levels);
    make_image(&levels[0].image, &levels[0].model);
    for (;;) {
        level *l = &levels[at];
        if (l->next == OPS) {
            sim_pages_free(&l->image);
            if (at-- == 0)
                break;
            continue;
        }
        level child;
        step_and_crash(l, (op)l->next++, &child, &t);
        if (at + 1 < depth)
            levels[++at] = child;
        else
            sim_pages_free(&child.image);
    }
    report("with a crash after each", &t);
    crash_seen_free(t.seen);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_sequence_in_one_session_shows_what_the_model_says_and_survives_a_crash_anywhere),
        cmocka_unit_test(every_sequence_with_a_crash_after_each_operation_shows_what_the_model_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
