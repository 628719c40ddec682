/* SPDX-License-Identifier: ISC */
/* Any operation of the device fails, any allocation is refused: while a store is asked, scrubbed and watched, and in transactions that are given up. */
#include "bed.h"

#include <cambium/history.h>
#include <cambium/inspect.h>

#include "tests/kloop/kloop.h"

#define WHEN 1700000000000000

static void edit(cmb_store *store, const char *branch, const char *value, unsigned first, unsigned stride, unsigned n)
{
    must(kloop_edit_do(store, &(kloop_edit){.branch = branch, .value = value, .message = value, .first = first, .stride = stride, .n = n}));
}

/* main and side, crossed by merges; tags of both kinds; a value in pieces; directories; edits that are logged only. */
static void prepare_store(kloop *k)
{
    static const cmb_commit_info by_ada = {.author = "ada", .message = "merge", .time = WHEN};
    cmb_store *s = k->store[0];
    cmb_merge_result result;
    edit(s, "main", "first", 0, 2, 150);
    must(cmb_branch_create(s, "side", "main"));
    edit(s, "main", "mine", 10, 40, 8);
    edit(s, "side", "theirs", 31, 50, 7);
    must(cmb_tag_create(s, "light", "side"));
    must(cmb_tag_annotate(s, "v1", "main", &(cmb_tag_info){.tagger = "ada", .message = "one", .time = WHEN}));
    must(cmb_tag_annotate(s, "v1-again", "v1", &(cmb_tag_info){.tagger = "ada", .message = "of a tag", .time = WHEN}));
    must(cmb_merge(s, "main", "side", NULL, NULL, &by_ada, &result));
    edit(s, "side", "later", 33, 50, 5);
    kloop_put_large(s, "main");
    for (unsigned i = 0; i < 40; i++) {
        char key[32];
        snprintf(key, sizeof key, "dir/%u/file%02u", i / 10, i);
        must(kloop_put(s, "main", key, "a file", NULL));
    }
}

/* ---- questions ---- */

static int ignore_commit(void *ctx, const cmb_commit *commit)
{
    return 0;
}

static int ignore_base(void *ctx, const cmb_name *base)
{
    return 0;
}

static int ask_names(kloop *k)
{
    static const char *const revs[] = {"main~2^2", "tags/v1", "v1-again", "heads/side~1", "light", "main"};
    cmb_store *s = k->store[0];
    cmb_commit *commit;
    cmb_tag *tag;
    cmb_rev rev;
    char hex[2 * CMB_NAME_MAX + 1];
    bool yes;
    int error = 0;
    for (unsigned i = 0; i < sizeof revs / sizeof *revs; i++)
        step(cmb_rev_parse(s, revs[i], &rev));
    step(cmb_rev_parse(s, "side", &rev));
    hex_of(&rev.commit, hex);
    step(cmb_commit_read(s, hex, &commit));
    cmb_commit_free(commit);
    hex[12] = 0;
    step(cmb_rev_parse(s, hex, &rev));
    step(cmb_tag_read(s, "v1-again", 1, &tag));
    cmb_tag_free(tag);
    step(cmb_log_first_parents(s, "main", ignore_commit, NULL));
    step(cmb_is_ancestor(s, "v1", "side", &yes));
    step(cmb_merge_bases(s, "main", "side", ignore_base, NULL));
out:
    return error;
}

static int ignore_modified(void *ctx, cmb_bytes key, const cmb_name *commit)
{
    return 0;
}

static int ask_history(kloop *k)
{
    static const char *const revs[] = {"main"}, *const excluded[] = {"v1"};
    const cmb_range ranges[2] = {{.prefix = str("key0000")}, {.from = str("large"), .to = str("largf")}};
    cmb_history_options options = {.revs = revs, .rev_count = 1, .excluded = excluded, .excluded_count = 1};
    cmb_name id;
    int error;
    step(cmb_history(k->store[0], &options, ignore_commit, NULL));
    options = (cmb_history_options){.revs = revs, .rev_count = 1, .order = CMB_HISTORY_TOPO, .ranges = ranges, .range_count = 2, .limit = 3};
    step(cmb_history(k->store[0], &options, ignore_commit, NULL));
    step(cmb_last_modified(k->store[0], "main~1", str("key000031"), &id));
    step(cmb_last_modified_each(k->store[0], "main~1", &ranges[0], ignore_modified, NULL));
out:
    return error;
}

static int ignore_segment(void *ctx, const cmb_segment_stat *segment)
{
    return 0;
}

static int ask_everywhere(kloop *k)
{
    const cmb_range range = {.from = str("dir/"), .to = str("key000100")};
    static uint8_t buffer[3000];
    cmb_snapshot *snapshot = NULL;
    cmb_cursor *cursor = NULL;
    cmb_value_stream *value = NULL;
    cmb_dir *dir = NULL;
    cmb_dir_child child;
    cmb_bytes from = str("dir/1"), to = str("key000200"), got;
    cmb_stat stat;
    uint64_t count;
    uint32_t size;
    size_t n;
    int error;
    step(cmb_snapshot_open(k->store[0], "main", &snapshot));
    step(cmb_count(snapshot, &from, &to, &count));
    step(cmb_cursor_open(snapshot, &range, &cursor));
    step(cmb_cursor_last(cursor));
    step(cmb_cursor_seek(cursor, str("dir/2")));
    for (unsigned i = 0; i < 30; i++)
        step(cmb_cursor_next(cursor));
    step(cmb_cursor_value(cursor, &got));
    for (unsigned i = 0; i < 30; i++)
        step(cmb_cursor_prev(cursor));
    step(cmb_cursor_seek_last(cursor, str("key000050")));
    step(cmb_cursor_value_size(cursor, &size));
    cmb_cursor_close(cursor);
    cursor = NULL;
    step(cmb_cursor_open(snapshot, NULL, &cursor));
    step(cmb_cursor_seek_exact(cursor, str("large")));
    step(cmb_cursor_value(cursor, &got));
    step(cmb_cursor_value_open(cursor, &value));
    for (uint64_t at = 0; at < 70000; at += 20000)
        step(cmb_value_read(value, at, buffer, sizeof buffer, &n));
    step(cmb_dir_open(snapshot, str("dir/"), &dir));
    step(cmb_dir_next(dir, &child));
    step(cmb_dir_seek(dir, str("2")));
    step(cmb_dir_next(dir, &child));
    step(cmb_stat_store(k->store[0], &stat, ignore_segment, NULL));
out:
    cmb_dir_close(dir);
    cmb_value_close(value);
    cmb_cursor_close(cursor);
    cmb_snapshot_close(snapshot);
    return error;
}

/* ---- scrubs and watches ---- */

/* What cannot be read is told as damaged. Where memory runs out nothing is. */
static int any_finding(void *ctx, const cmb_finding *f)
{
    *(int *)ctx = CMB_EIO;
    return 0;
}

/* What it finds is what the device does to it. */
static int scrub_all(kloop *k)
{
    int found = 0, error;
    cmb_scrub_options options = {.on_finding = any_finding, .ctx = &found};
    cmb_scrub_status status;
    cmb_scrub *scrub;
    uint64_t wait;
    error = cmb_scrub_open(k->store[0], &options, &scrub);
    if (error)
        return error;
    do {
        error = cmb_scrub_step(scrub, &wait);
        cmb_scrub_get_status(scrub, &status);
    } while (!error && status.position.passes == 0);
    cmb_scrub_close(scrub);
    return error ? error : found;
}

static void ignore_event(void *ctx, const cmb_event *event)
{
}

/* Edits below it are merged first: it goes by trees. */
static int watch_a_while(kloop *k)
{
    cmb_watch_options options = {.branch = "main", .range = {.prefix = str("dir/")}, .lossless = true};
    cmb_snapshot *start = NULL;
    cmb_watch *watch = NULL;
    int error;
    step(cmb_watch_open(k->store[0], &options, ignore_event, NULL, &start, &watch));
    error = cmb_watch_dispatch(k->store[0], 1, 0);
    error = error > 0 ? 0 : error;
out:
    if (watch)
        cmb_watch_close(watch);
    cmb_snapshot_close(start);
    return error;
}

static void asking_survives_any_failure(void **state)
{
    static const kloop_scenario scenario = {
        .name = "asking",
        .points = 24,
        .stores = 1,
        .init = {.node_size = 512},
        .options = {.pool_size = 1 << 20},
        .prepare = prepare_store,
        .steps = {{"names", ask_names}, {"histories", ask_history}, {"cursors", ask_everywhere}, {"a watch", watch_a_while}, {"a scrub", scrub_all}},
    };
    kloop_run(&scenario);
}

/* ---- transactions that are given up ---- */

/* So many small puts that the transaction's memory overflows several times, in any order or in that of the keys, above edits that are
 * only logged; read back meanwhile. */
static int give_up(kloop *k, bool ascending)
{
    cmb_txn *txn = NULL;
    cmb_cursor *cursor = NULL;
    cmb_dir *dir = NULL;
    cmb_dir_child child;
    cmb_bytes got;
    uint64_t seed = 3;
    int error;
    step(cmb_txn_begin(k->store[0], "main", 0, &txn));
    for (unsigned i = 0; i < 700; i++) {
        char key[32], value[64];
        snprintf(key, sizeof key, "new%08u", ascending ? i : (unsigned)(bed_mix(&seed) % 100000));
        snprintf(value, sizeof value, "%u of the values", i);
        step(cmb_txn_put(txn, str(key), str(value)));
        if (!ascending && i == 300) {
            step(cmb_txn_cursor_open(txn, NULL, &cursor));
            step(cmb_cursor_seek(cursor, str("new")));
        }
        if (cursor && i % 100 == 0)
            step(cmb_cursor_next(cursor));
    }
    step(cmb_txn_del(txn, str("key000000")));
    step(cmb_txn_get(txn, str("key000002"), &got));
    step(cmb_txn_get(txn, str("large"), &got));
    step(cmb_txn_dir_open(txn, str("dir/"), &dir));
    step(cmb_dir_next(dir, &child));
out:
    cmb_dir_close(dir);
    cmb_cursor_close(cursor);
    cmb_txn_abort(txn);
    return error;
}

static int give_up_in_order(kloop *k)
{
    return give_up(k, true);
}

static int give_up_in_disorder(kloop *k)
{
    return give_up(k, false);
}

static int put_and_read(kloop *k)
{
    return kloop_put(k->store[0], "side", "after", "all", "after");
}

static void transactions_that_are_given_up_survive_any_failure(void **state)
{
    static const kloop_scenario scenario = {
        .name = "given up",
        .points = 24,
        .stores = 1,
        .init = {.node_size = 512, .segment_size = 2 << 20},
        .options = {.pool_size = 1 << 20, .txn_memory = 12000},
        .prepare = prepare_store,
        .crashed = true,
        .steps = {{"in disorder", give_up_in_disorder}, {"in order", give_up_in_order}, {"a commit", put_and_read}},
    };
    kloop_run(&scenario);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(asking_survives_any_failure),
        cmocka_unit_test(transactions_that_are_given_up_survive_any_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
