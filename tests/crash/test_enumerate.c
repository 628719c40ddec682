/* SPDX-License-Identifier: ISC */
/*
 * test_enumerate.c: the crash states of runs of a store, each opened and looked at: what was acknowledged is there, what was not is
 * whole or absent, the checker finds nothing, opening writes nothing and reads no more than the log since the last checkpoints.
 *
 * CMB_SEED: of the first run. CMB_BUDGET: so many times as many runs, and of 10 and more also more states of each epoch.
 * CMB_STATES: stops after so many distinct states.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "script.h"

static uint64_t number(const char *name, uint64_t usual)
{
    const char *text = getenv(name);
    return text && *text ? strtoull(text, NULL, 0) : usual;
}

static uint64_t first_seed(void)
{
    uint64_t seed = number("CMB_SEED", 4);
    print_message("CMB_SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

/* The seed chooses what kind of run it is, too. */
static script_options options_of(uint64_t seed, unsigned steps)
{
    static const uint32_t node_sizes[] = {256, 1024, 4096, 65536};
    bool journal = seed % 5 == 3;
    return (script_options){
        .seed = seed,
        .steps = steps,
        .node_size = node_sizes[journal ? 2 + seed / 5 % 2 : seed % 4],
        .size = seed / 4 % 3 == 2 ? 0 : journal ? 32u << 20 : 48u << 20,
        .cached = seed / 2 % 4 == 3,
        .heavy = seed % 6 == 5,
        .journal = journal,
    };
}

typedef struct campaign {
    crash_seen *seen;
    crash_tally tally, nested;
    uint64_t runs, fscked, written, opens, most_read, steps, acknowledged;
} campaign;

static void add(crash_tally *to, const crash_tally *from)
{
    to->epochs += from->epochs;
    to->tried += from->tried;
    to->judged += from->judged;
    to->distinct += from->distinct;
    to->whole_epochs += from->whole_epochs;
    to->anew += from->anew;
    to->due += from->due;
}

/* `round`: only where segments are begun anew, and each state without the newest superblocks, too. */
static void enumerate_run(campaign *c, const script_options *options, unsigned per_epoch, bool round, const oracle_care *care)
{
    script s;
    const char *what = script_run(options, &s);
    if (what)
        fail_msg("run %llu: %s", (unsigned long long)options->seed, what);
    oracle o = {.steps = s.steps, .count = s.count, .segment = SCRIPT_SEGMENT, .care = *care, .seen = c->seen};
    crash_plan plan = script_plan(&s);
    crash_tally tally = {0};
    plan.per_epoch = per_epoch;
    plan.segment = round ? SCRIPT_SEGMENT : 0;
    plan.lose = round;
    plan.judge = oracle_judge;
    plan.ctx = &o;
    plan.seen = c->seen;
    crash_enumerate(&s.trace, &plan, &tally);
    if (tally.wrong)
        fail_msg("run %llu: %llu states are wrong, the first: %s", (unsigned long long)options->seed, (unsigned long long)tally.wrong,
                 tally.first_wrong);
    add(&c->tally, &tally);
    add(&c->nested, &o.nested);
    c->runs++;
    c->steps += s.count;
    c->fscked += o.fscked;
    c->written += o.written;
    c->opens += o.opens;
    c->acknowledged += s.acknowledged;
    c->most_read = o.most_read > c->most_read ? o.most_read : c->most_read;
    script_free(&s);
}

static void report(const campaign *c)
{
    print_message("%llu runs, %llu steps, %llu epochs (%llu with all subsets of sectors): %llu states tried, %llu distinct; during recovery "
                  "from %llu of them: %llu tried, %llu distinct; %llu checked completely; an open read %llu KiB at most\n",
                  (unsigned long long)c->runs, (unsigned long long)c->steps, (unsigned long long)c->tally.epochs,
                  (unsigned long long)c->tally.whole_epochs, (unsigned long long)c->tally.tried, (unsigned long long)c->tally.distinct,
                  (unsigned long long)c->written, (unsigned long long)c->nested.tried, (unsigned long long)c->nested.distinct,
                  (unsigned long long)c->fscked, (unsigned long long)c->most_read >> 10);
    fflush(stdout);
}

/* Of a campaign that found nothing: whatever is lost, half there or repaired ends it. */
static void report_all(const campaign *c)
{
    report(c);
    print_message("together: %llu states tried, %llu judged, %llu distinct; %llu changes were acknowledged, and looked for in every state after, "
                  "%llu times: 0 lost, 0 half there; %llu opens, 0 that repaired\n",
                  (unsigned long long)(c->tally.tried + c->nested.tried), (unsigned long long)(c->tally.judged + c->nested.judged),
                  (unsigned long long)(c->tally.distinct + c->nested.distinct), (unsigned long long)c->acknowledged,
                  (unsigned long long)(c->tally.due + c->nested.due), (unsigned long long)c->opens);
    assert_int_equal(c->tally.distinct + c->nested.distinct, crash_seen_count(c->seen));
}

static void no_crash_state_loses_an_acknowledged_commit_or_shows_half_a_one(void **state)
{
    (void)state;
    uint64_t budget = number("CMB_BUDGET", 1), states = number("CMB_STATES", UINT64_MAX), seed = first_seed();
    bool long_one = budget >= 10;
    oracle_care care = {.fsck = 16, .again = 24, .again_states = long_one ? 12 : 4, .depth = 2};
    campaign c = {.seen = crash_seen_new()};
    for (uint64_t i = 0; i < 4 * budget && c.tally.distinct + c.nested.distinct < states; i++) {
        script_options options = options_of(seed + i, long_one ? 120 : 16);
        enumerate_run(&c, &options, !long_one ? 7 : options.journal ? 24 : 120, /* round= */ false, &care); /* a journal's states take long to open */
        if (long_one)
            report(&c);
    }
    report_all(&c);
    crash_seen_free(c.seen);
}

/*
 * The log goes round the device, over segments that a checkpoint dropped. What they held has to be there until the checkpoint after it is
 * durable: not even the loss of the newest superblocks may show that they were written over.
 */
static void no_crash_state_needs_a_journal_segment_that_was_used_again(void **state)
{
    (void)state;
    uint64_t budget = number("CMB_BUDGET", 1), seed = first_seed();
    oracle_care care = {.fsck = 64};
    campaign c = {.seen = crash_seen_new()};
    for (uint64_t i = 0; i < budget && i < 10; i++) {
        script_options options = {.seed = seed + i, .steps = budget > 1 ? 240 : 180, .node_size = 256, .size = 40u << 20, .round = true};
        enumerate_run(&c, &options, budget > 1 ? 8 : 2, /* round= */ true, &care);
    }
    report_all(&c);
    print_message("%llu segments were begun anew\n", (unsigned long long)c.tally.anew);
    assert_true(c.tally.anew >= 5 * c.runs);
    crash_seen_free(c.seen);
}

/* A file's length is a thing of its own: after a power cut it may be the old one, whatever else landed. */
static void no_crash_state_relies_on_growth_that_is_not_durable(void **state)
{
    (void)state;
    oracle_care care = {.fsck = 64};
    campaign c = {.seen = crash_seen_new()};
    script_options options = {.seed = 11 /* one that grows several times */, .steps = 16, .node_size = 65536, .heavy = true};
    enumerate_run(&c, &options, 7, /* round= */ false, &care);
    report_all(&c);
    crash_seen_free(c.seen);
}

/* The canary: were the harness blind, it would find nothing here either. */
static void a_device_whose_flush_does_nothing_is_found_to_lose_commits(void **state)
{
    (void)state;
    script s;
    script_options options = {.seed = first_seed(), .steps = 12, .node_size = 1024, .size = 48u << 20};
    assert_null(script_run(&options, &s));
    for (unsigned broken = 0; broken < 2; broken++) {
        crash_seen *seen = crash_seen_new();
        oracle o = {.steps = s.steps, .count = s.count, .seen = seen};
        crash_plan plan = script_plan(&s);
        crash_tally tally = {0};
        plan.per_epoch = 100;
        plan.no_flush = broken;
        plan.judge = oracle_judge;
        plan.ctx = &o;
        plan.seen = seen;
        crash_enumerate(&s.trace, &plan, &tally);
        assert_int_equal(tally.wrong != 0, broken);
        if (broken) {
            print_message("%llu of %llu states are wrong: %s\n", (unsigned long long)tally.wrong, (unsigned long long)tally.judged,
                          tally.first_wrong);
            assert_non_null(strstr(tally.first_wrong, "lost"));
        }
        crash_seen_free(seen);
    }
    script_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_device_whose_flush_does_nothing_is_found_to_lose_commits),
        cmocka_unit_test(no_crash_state_needs_a_journal_segment_that_was_used_again),
        cmocka_unit_test(no_crash_state_relies_on_growth_that_is_not_durable),
        cmocka_unit_test(no_crash_state_loses_an_acknowledged_commit_or_shows_half_a_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
