/* SPDX-License-Identifier: ISC */
#include "tests/kloop/kloop.h"

#include <cambium/inspect.h>

#define REFS 24u

typedef enum fault { FAULT_NONE = 0, FAULT_EIO, FAULT_ENOSPC, FAULT_SHORT, FAULT_MEMORY, FAULTS } fault;
static const char *const fault_names[FAULTS] = {"none", "eio", "enospc", "short", "memory"};

/* One point: what fails, where and how often. */
typedef struct point {
    fault fault;
    bool for_ever;
    unsigned side; /* of the stores, whose device it is */
    uint64_t k;    /* from 0 */
} point;

/* What a store shows. */
typedef struct shown_ref {
    char name[80]; /* "heads/…", "tags/…" */
    uint64_t content;
    cmb_name commit;
} shown_ref;
typedef struct shown {
    unsigned n;
    shown_ref refs[REFS];
} shown;
typedef struct picture {
    shown of[KLOOP_STORES];
} picture;

typedef struct loop {
    kloop k;
    unsigned steps;
    overlay_image *start[KLOOP_STORES];
    picture after[KLOOP_STEPS_MAX + 1]; /* so many steps */
    point at;
    const char *where; /* in the run */
    uint64_t reopened, retried, unknown, read_only; /* how runs ended */
} loop;

/* ---- saying what went wrong ---- */

static void point_name(const loop *l, char out[160])
{
    snprintf(out, 160, "%s:%s:%s:%u:%llu", l->k.scenario->name, fault_names[l->at.fault], l->at.for_ever ? "ever" : "once",
             l->at.side, (unsigned long long)l->at.k);
}

static void check_at(const loop *l, bool holds, const char *what, int line)
{
    char name[160];
    if (holds)
        return;
    point_name(l, name);
    fail_msg("CMB_KLOOP=%s, %s (line %d): not so: %s (last detail: %s)", name, l->where, line, what, cmb_error_detail());
}
#define check(l, holds) check_at(l, holds, #holds, __LINE__)

static void check_done_at(const loop *l, int error, const char *what, int line)
{
    char text[240];
    snprintf(text, sizeof text, "%s succeeds, it is %s", what, cmb_error_name(error));
    check_at(l, error == 0, text, line);
}
#define check_done(l, x) check_done_at(l, (x), #x, __LINE__)

/* ---- what is shown ---- */

int kloop_digest(cmb_store *store, const char *rev, uint64_t *out_digest)
{
    cmb_snapshot *snapshot = NULL;
    cmb_cursor *cursor = NULL;
    cmb_bytes key, value;
    uint64_t sum = 0;
    int error;
    step(cmb_snapshot_open(store, rev, &snapshot));
    step(cmb_cursor_open(snapshot, NULL, &cursor));
    while ((error = cmb_cursor_next(cursor)) == 0) {
        step(cmb_cursor_key(cursor, &key));
        sum = cmb_hash64(key.data, key.size, sum);
        step(cmb_cursor_value(cursor, &value));
        sum = cmb_hash64(value.data, value.size, sum + value.size);
    }
    error = error == CMB_ENOTFOUND ? 0 : error;
    if (!error)
        *out_digest = sum;
out:
    cmb_cursor_close(cursor);
    cmb_snapshot_close(snapshot);
    return error;
}

static int add_ref(void *ctx, const cmb_ref *ref)
{
    shown *s = ctx;
    assert_true(s->n < REFS);
    shown_ref *r = &s->refs[s->n++];
    *r = (shown_ref){.commit = ref->at.commit};
    snprintf(r->name, sizeof r->name, "%s/%s", ref->tag ? "tags" : "heads", ref->name);
    return 0;
}

static int show(cmb_store *store, shown *out)
{
    out->n = 0;
    int error = cmb_branch_list(store, add_ref, out);
    if (!error)
        error = cmb_tag_list(store, add_ref, out);
    for (unsigned i = 0; !error && i < out->n; i++)
        error = kloop_digest(store, out->refs[i].name, &out->refs[i].content);
    return error;
}

static const shown_ref *shown_find(const shown *s, const char *name)
{
    for (unsigned i = 0; i < s->n; i++)
        if (strcmp(s->refs[i].name, name) == 0)
            return &s->refs[i];
    return NULL;
}

static bool ref_same(const shown_ref *a, const shown_ref *b)
{
    return a && b ? a->content == b->content && same_name(&a->commit, &b->commit) : a == b;
}

static bool shown_same(const shown *a, const shown *b)
{
    bool same = a->n == b->n;
    for (unsigned i = 0; same && i < a->n; i++)
        same = strcmp(a->refs[i].name, b->refs[i].name) == 0 && ref_same(&a->refs[i], &b->refs[i]);
    return same;
}

/* Every ref is as in one of the two. */
static bool shown_between(const shown *s, const shown *a, const shown *b)
{
    const shown *all[3] = {s, a, b};
    for (unsigned k = 0; k < 3; k++) {
        for (unsigned i = 0; i < all[k]->n; i++) {
            const char *name = all[k]->refs[i].name;
            const shown_ref *r = shown_find(s, name);
            if (!ref_same(r, shown_find(a, name)) && !ref_same(r, shown_find(b, name)))
                return false;
        }
    }
    return true;
}

static void print_shown(const char *what, const shown *s)
{
    print_message("%s:\n", what);
    for (unsigned i = 0; i < s->n; i++) {
        char hex[2 * CMB_NAME_MAX + 1];
        hex_of(&s->refs[i].commit, hex);
        print_message("  %s content %016llx commit %s\n", s->refs[i].name, (unsigned long long)s->refs[i].content, hex);
    }
}

/* ---- stores ---- */

/* Time stands still: a step that is done at the second try makes the same commit as one that was done at once. */
static int64_t kloop_now(void *ctx)
{
    return ((const bed_env *)ctx)->now;
}

static void sound(loop *l)
{
    for (unsigned i = 0; i < l->k.scenario->stores; i++)
        overlay_break(l->k.dev[i], OVERLAY_SOUND, 0, false);
    l->k.memory.fail_at = UINT64_MAX;
    l->k.memory.for_ever = false;
}

static void inject(loop *l)
{
    static const overlay_fault device_faults[FAULTS] = {[FAULT_EIO] = OVERLAY_EIO, [FAULT_ENOSPC] = OVERLAY_ENOSPC,
                                                        [FAULT_SHORT] = OVERLAY_SHORT};
    if (l->at.fault == FAULT_MEMORY) {
        l->k.memory.fail_at = l->at.k;
        l->k.memory.for_ever = l->at.for_ever;
    } else if (l->at.fault != FAULT_NONE) {
        overlay_break(l->k.dev[l->at.side], device_faults[l->at.fault], l->at.k, l->at.for_ever);
    }
}

static uint64_t fired(const loop *l)
{
    return l->at.fault == FAULT_MEMORY ? l->k.memory.fired : l->k.dev[l->at.side]->fired;
}

/* Operations, or allocations, that the fault concerned. */
static uint64_t concerned(const loop *l)
{
    return l->at.fault == FAULT_MEMORY ? l->k.memory.calls : l->k.dev[l->at.side]->concerned;
}

static bool excused(const loop *l, int error)
{
    if (!fired(l))
        return false;
    switch (l->at.fault) {
    case FAULT_MEMORY:
        return error == CMB_ENOMEM;
    case FAULT_ENOSPC:
        return error == CMB_ENOSPC || error == CMB_EUNKNOWN || error == CMB_EREADONLY;
    default:
        return error == CMB_EIO || error == CMB_EUNKNOWN || error == CMB_EREADONLY;
    }
}

static int open_stores(loop *l)
{
    int error = 0;
    for (unsigned i = 0; !error && i < l->k.scenario->stores; i++)
        if (!l->k.store[i])
            error = cmb_store_open_device(&l->k.dev[i]->dev, &l->k.options, &l->k.store[i]);
    return error;
}

static int close_stores(loop *l)
{
    int first = 0;
    for (unsigned i = 0; i < KLOOP_STORES; i++) {
        int error = cmb_store_close(l->k.store[i]);
        l->k.store[i] = NULL;
        first = first ? first : error;
    }
    return first;
}

static void check_nothing_held(loop *l)
{
    check(l, l->k.memory.held == 0);
    for (unsigned i = 0; i < l->k.scenario->stores; i++)
        check(l, l->k.dev[i]->queues == 0);
}

static void begin(loop *l)
{
    for (unsigned i = 0; i < l->k.scenario->stores; i++)
        overlay_lay(l->k.dev[i], l->start[i]);
    kloop_memory_init(&l->k.memory);
    l->k.env = (bed_env){.now = 1700000000000000, .random = 42};
}

/* ---- after a run ---- */

typedef struct findings {
    bool superblocks_too;
    unsigned n;
} findings;

static int on_finding(void *ctx, const cmb_finding *f)
{
    findings *found = ctx;
    if (!found->superblocks_too && strcmp(f->code, "superblock-damaged") == 0)
        return 0;
    found->n++;
    print_message("fsck: %s: %s (%s)\n", f->code, f->text, f->where);
    return 0;
}

static void check_sound(loop *l, bool superblocks_too)
{
    for (unsigned i = 0; i < l->k.scenario->stores; i++) {
        findings found = {.superblocks_too = superblocks_too};
        cmb_fsck_options options = {.level = CMB_FSCK_FULL, .on_finding = on_finding, .ctx = &found};
        cmb_fsck_result result;
        check_done(l, cmb_fsck(l->k.store[i], &options, &result));
        check(l, found.n == 0);
    }
}

static void check_shown(loop *l, const picture *low, const picture *high, bool piecemeal)
{
    picture now;
    bool is_low = true, is_high = true, is_between = true;
    for (unsigned i = 0; i < l->k.scenario->stores; i++) {
        check_done(l, show(l->k.store[i], &now.of[i]));
        is_low = is_low && shown_same(&now.of[i], &low->of[i]);
        is_high = is_high && shown_same(&now.of[i], &high->of[i]);
        is_between = is_between && shown_between(&now.of[i], &low->of[i], &high->of[i]);
    }
    bool right = is_low || is_high || (piecemeal && is_between);
    for (unsigned i = 0; !right && i < l->k.scenario->stores; i++) {
        print_shown("before the step", &low->of[i]);
        print_shown("after it", &high->of[i]);
        print_shown("found", &now.of[i]);
    }
    check(l, right && "what is there is what was acknowledged");
}

/* Opens without faults: everything is there, and it can be written. A torn copy of a superblock may be found the first time. */
static void check_reopened(loop *l, const picture *low, const picture *high, bool piecemeal)
{
    kloop_memory_init(&l->k.memory);
    sound(l);
    l->where = "opened again";
    check_done(l, open_stores(l));
    check_shown(l, low, high, piecemeal);
    check_sound(l, false);
    for (unsigned i = 0; i < l->k.scenario->stores; i++)
        check_done(l, kloop_put(l->k.store[i], "main", "probe", "1", "probe"));
    check_done(l, close_stores(l));
    l->where = "opened a second time";
    check_done(l, open_stores(l));
    for (unsigned i = 0; i < l->k.scenario->stores; i++)
        check_done(l, kloop_put(l->k.store[i], "main", "probe", "2", NULL));
    check_sound(l, true);
    check_done(l, close_stores(l));
    check_nothing_held(l);
    l->reopened++;
}

/* ---- one run ---- */

/* The store reads on: contents as they were, or as they became in memory. */
static void check_reads_on(loop *l, const picture *low, const picture *high)
{
    for (unsigned i = 0; i < l->k.scenario->stores; i++) {
        for (unsigned r = 0; r < low->of[i].n; r++) {
            const shown_ref *before = &low->of[i].refs[r], *after = shown_find(&high->of[i], before->name);
            uint64_t content = 0;
            int error = kloop_digest(l->k.store[i], before->name, &content);
            if (!after && error == CMB_ENOTFOUND)
                continue;
            check_done(l, error);
            check(l, content == before->content || (after && content == after->content));
        }
    }
}

/* A store whose device failed refuses to write, by name. */
static void check_refuses(loop *l)
{
    cmb_store *store = l->k.store[l->at.side];
    l->where = "writing after a failure";
    check(l, kloop_put(store, "main", "probe", "0", NULL) == CMB_EREADONLY);
    check(l, cmb_branch_create(store, "probe", NULL) == CMB_EREADONLY);
}

/* After an error of step i that was not CMB_EUNKNOWN. True: it was done after all. */
static bool try_again(loop *l, unsigned i)
{
    const kloop_step *s = &l->k.scenario->steps[i];
    int error = s->run(&l->k);
    if (!error) {
        l->retried++;
        return true;
    }
    check(l, excused(l, error));
    if (l->at.for_ever)
        return false;
    check(l, error == CMB_EREADONLY); /* memory that is there again is all it needs */
    l->read_only++;
    check_reads_on(l, &l->after[i], &l->after[i + 1]);
    check_refuses(l);
    return false;
}

/* Runs the steps up to the first that stays undone. */
static unsigned run_steps(loop *l, bool *out_unknown)
{
    for (unsigned i = 0; i < l->steps; i++) {
        l->where = l->k.scenario->steps[i].name;
        int error = l->k.scenario->steps[i].run(&l->k);
        if (!error)
            continue;
        check(l, excused(l, error));
        if (error != CMB_EUNKNOWN && try_again(l, i))
            continue;
        if (error == CMB_EUNKNOWN) {
            l->unknown++;
            *out_unknown = true;
            if (!l->at.for_ever)
                check_reads_on(l, &l->after[i], &l->after[i + 1]);
            check_refuses(l);
        }
        return i;
    }
    return l->steps;
}

/* True: the fault fired. */
static bool run_point(loop *l, const point *at)
{
    bool unknown = false;
    unsigned done = 0;
    l->at = *at;
    begin(l);
    inject(l);
    l->where = "open";
    int error = open_stores(l);
    if (error) {
        check(l, excused(l, error));
        if (!at->for_ever)
            check_done(l, error = open_stores(l));
    }
    if (!error)
        done = run_steps(l, &unknown);
    l->where = "close";
    bool before_close = fired(l) > 0;
    error = close_stores(l);
    check(l, !error || excused(l, error));
    check(l, !error || !before_close || at->for_ever || at->fault != FAULT_MEMORY);
    check_nothing_held(l);
    bool touched = fired(l) > 0;
    bool failed = done < l->steps;
    bool piecemeal = failed && l->k.scenario->steps[done].flags & KLOOP_PIECEMEAL;
    check_reopened(l, &l->after[done], &l->after[failed && (unknown || piecemeal) ? done + 1 : done], piecemeal);
    return touched;
}

/* ---- loops ---- */

static void run_loop(loop *l, fault kind, bool for_ever, unsigned side)
{
    point at = {.fault = kind, .for_ever = for_ever, .side = side, .k = UINT64_MAX};
    l->retried = l->unknown = l->read_only = 0;
    l->at = at;
    begin(l);
    inject(l);
    l->where = "without a fault";
    check_done(l, open_stores(l));
    for (unsigned i = 0; i < l->steps; i++)
        check_done(l, l->k.scenario->steps[i].run(&l->k));
    check_done(l, close_stores(l));
    uint64_t n = concerned(l), points = (uint64_t)(l->k.scenario->points ? l->k.scenario->points : KLOOP_POINTS) * bed_budget(), tried = 0;
    uint64_t stride = n > points ? (n + points - 1) / points : 1;
    for (at.k = bed_seed() % stride; at.k < n; at.k += stride, tried++)
        (void)run_point(l, &at);
    for (at.k = n; run_point(l, &at); at.k++) /* ends with a run that is untouched */
        tried++;
    print_message("%-10s %-6s %-4s store %u: %5llu of %5llu points; done at the second try %llu, outcome unknown %llu, read-only %llu\n",
                  l->k.scenario->name, fault_names[kind], for_ever ? "ever" : "once", side, (unsigned long long)tried,
                  (unsigned long long)n, (unsigned long long)l->retried, (unsigned long long)l->unknown, (unsigned long long)l->read_only);
}

static void prepare(loop *l)
{
    kloop *k = &l->k;
    l->where = "prepare";
    for (unsigned i = 0; i < k->scenario->stores; i++) {
        k->dev[i] = overlay_create(k->scenario->size);
        check_done(l, cmb_store_init_device(&k->dev[i]->dev, &k->scenario->init, &k->options));
    }
    check_done(l, open_stores(l));
    if (k->scenario->prepare)
        k->scenario->prepare(k);
    for (unsigned i = 0; k->scenario->crashed && i < k->scenario->stores; i++)
        l->start[i] = overlay_freeze(k->dev[i]);
    check_done(l, close_stores(l));
    for (unsigned i = 0; !k->scenario->crashed && i < k->scenario->stores; i++)
        l->start[i] = overlay_freeze(k->dev[i]);
    check_nothing_held(l);
}

/* What is there after each step, without faults. */
static void foresee(loop *l)
{
    for (unsigned done = 0; done <= l->steps; done++) {
        begin(l);
        l->where = "without a fault";
        check_done(l, open_stores(l));
        for (unsigned i = 0; i < done; i++)
            check_done(l, l->k.scenario->steps[i].run(&l->k));
        check_done(l, close_stores(l));
        check_done(l, open_stores(l));
        for (unsigned i = 0; i < l->k.scenario->stores; i++)
            check_done(l, show(l->k.store[i], &l->after[done].of[i]));
        check_done(l, close_stores(l));
        check_nothing_held(l);
    }
}

/* CMB_KLOOP=scenario:fault:once|ever:store:k. False: it is not set, or means another scenario. */
static bool only_point(const loop *l, point *out)
{
    char scenario[64], name[16], often[8];
    unsigned long long k;
    const char *wish = getenv("CMB_KLOOP");
    if (!wish || sscanf(wish, "%63[^:]:%15[^:]:%7[^:]:%u:%llu", scenario, name, often, &out->side, &k) != 5 ||
        strcmp(scenario, l->k.scenario->name) != 0 || out->side >= l->k.scenario->stores)
        return false;
    out->k = k;
    out->for_ever = strcmp(often, "ever") == 0;
    out->fault = FAULT_NONE;
    for (fault f = FAULT_EIO; f < FAULTS; f++)
        if (strcmp(name, fault_names[f]) == 0)
            out->fault = f;
    return true;
}

void kloop_run(const kloop_scenario *scenario)
{
    static loop l; /* large */
    point only;
    memset(&l, 0, sizeof l);
    l.k.scenario = scenario;
    while (l.steps < KLOOP_STEPS_MAX && scenario->steps[l.steps].run)
        l.steps++;
    kloop_memory_init(&l.k.memory);
    l.k.env = (bed_env){.now = 1700000000000000, .random = 42};
    l.k.options = scenario->options;
    l.k.options.alloc = l.k.memory.alloc;
    l.k.options.env = (cmb_env){.ctx = &l.k.env, .now = kloop_now, .random = bed_random};
    prepare(&l);
    foresee(&l);
    if (only_point(&l, &only)) {
        (void)run_point(&l, &only);
    } else if (!getenv("CMB_KLOOP")) {
        for (fault f = FAULT_EIO; f < FAULTS; f++)
            for (unsigned side = 0; side < (f == FAULT_MEMORY ? 1 : scenario->stores); side++)
                for (int ever = 0; ever < 2; ever++)
                    run_loop(&l, f, ever, side);
    }
    if (scenario->finish)
        scenario->finish(&l.k);
    for (unsigned i = 0; i < scenario->stores; i++) {
        overlay_destroy(l.k.dev[i]);
        overlay_image_destroy(l.start[i]);
    }
}
