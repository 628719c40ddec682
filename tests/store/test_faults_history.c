/* SPDX-License-Identifier: ISC */
/* Any operation of the device fails, any allocation is refused: while histories are merged, moved between images and read. */
#include "bed.h"

#include <cambium/inspect.h>

#include "tests/kloop/kloop.h"

#define WHEN 1700000000000000 /* of all commits: one that is made at the second try is the same */

static const cmb_commit_info by_ada = {.author = "ada", .message = "merge", .time = WHEN};

static void edit(cmb_store *store, const char *branch, const char *value, unsigned first, unsigned stride, unsigned n)
{
    must(kloop_edit_do(store, &(kloop_edit){.branch = branch, .value = value, .message = value, .first = first, .stride = stride, .n = n}));
}

/* ---- merges ---- */

static int merged(int error, cmb_merge_result *result)
{
    if (error)
        return error;
    cmb_merging_abort(result->open);
    return result->kind == CMB_MERGE_MERGED ? 0 : cmb_fail(CMB_EINVAL, "merged to %d", (int)result->kind);
}

/* main and clean share a past; clash changed what main changed; x and y were merged into each other. */
static void prepare_merges(kloop *k)
{
    cmb_store *s = k->store[0];
    cmb_merge_result result;
    edit(s, "main", "first", 0, 2, 200);
    must(cmb_branch_create(s, "clean", "main"));
    must(cmb_branch_create(s, "clash", "main"));
    must(cmb_branch_create(s, "x", "main"));
    must(cmb_branch_create(s, "y", "main"));
    edit(s, "main", "mine", 10, 40, 8);
    edit(s, "clean", "theirs", 31, 50, 7);
    edit(s, "clash", "theirs", 10, 80, 4);
    edit(s, "x", "in x", 6, 60, 5);
    edit(s, "y", "in y", 8, 60, 5);
    must(cmb_branch_create(s, "x1", "x"));
    must(merged(cmb_merge(s, "x", "y", NULL, NULL, &by_ada, &result), &result));
    must(merged(cmb_merge(s, "y", "x1", NULL, NULL, &by_ada, &result), &result));
    edit(s, "x", "later in x", 101, 30, 4);
    edit(s, "y", "later in y", 103, 30, 4);
}

static int merge_clean(kloop *k)
{
    cmb_merge_result result;
    return merged(cmb_merge(k->store[0], "main", "clean", NULL, NULL, &by_ada, &result), &result);
}

static int merge_criss_cross(kloop *k)
{
    cmb_merge_result result;
    return merged(cmb_merge(k->store[0], "x", "y", cmb_merge_union, NULL, &by_ada, &result), &result);
}

static int merge_with_conflicts(kloop *k)
{
    cmb_merge_result result;
    int error = cmb_merge(k->store[0], "main", "clash", NULL, NULL, &by_ada, &result);
    if (error)
        return error;
    if (result.kind != CMB_MERGE_CONFLICTS)
        return cmb_fail(CMB_EINVAL, "no conflicts");
    for (size_t i = 0; i < cmb_merging_count(result.open); i++) {
        cmb_clash *clash;
        cmb_bytes value;
        char key[32];
        step(cmb_merging_conflict(result.open, i, &clash, NULL));
        step(cmb_clash_value(clash, CMB_SIDE_BASE, &value));
        snprintf(key, sizeof key, "%.*s", (int)cmb_clash_key(clash).size, (const char *)cmb_clash_key(clash).data);
        step(cmb_merging_resolve(result.open, str(key), i % 2 ? CMB_ANSWER_VALUE : CMB_ANSWER_THEIRS, i % 2 ? str("both") : (cmb_bytes){0}));
    }
    step(cmb_txn_put(cmb_merging_txn(result.open), str("besides"), str("written")));
    step(cmb_merging_finish(result.open, &by_ada, NULL));
    return 0;
out:
    cmb_merging_abort(result.open);
    return error;
}

static int revert_one(kloop *k)
{
    cmb_merge_result result;
    return merged(cmb_revert(k->store[0], "main", "clash", 0, cmb_merge_ours, NULL, &by_ada, &result), &result);
}

static int pick_one(kloop *k)
{
    cmb_merge_result result;
    return merged(cmb_cherry_pick(k->store[0], "main", "y", 0, NULL, NULL, &by_ada, &result), &result);
}

static void merges_survive_any_failure(void **state)
{
    static const kloop_scenario scenario = {
        .name = "merge",
        .stores = 1,
        .init = {.node_size = 512},
        .options = {.pool_size = 1 << 20},
        .prepare = prepare_merges,
        .steps = {{"a clean merge", merge_clean},
                  {"a merge with conflicts", merge_with_conflicts},
                  {"a criss-cross merge", merge_criss_cross},
                  {"a revert", revert_one},
                  {"a cherry-pick", pick_one}},
    };
    kloop_run(&scenario);
}

/* ---- sync ---- */

/* Store 1 is ahead on main, has topic, a tag and a working state; side has commits in both. */
static void prepare_peers(kloop *k)
{
    cmb_store *here = k->store[0], *there = k->store[1];
    edit(there, "main", "first", 0, 3, 150);
    must(cmb_branch_create(there, "side", "main"));
    must(cmb_pull(here, there, NULL, NULL));
    edit(there, "main", "second", 1, 30, 10);
    kloop_put_large(there, "main");
    edit(there, "side", "theirs", 2, 40, 5);
    edit(here, "side", "ours", 10, 40, 5);
    must(cmb_branch_create(there, "topic", "main"));
    must(cmb_tag_annotate(there, "v1", "main", &(cmb_tag_info){.tagger = "ada", .message = "one", .time = WHEN}));
    must(kloop_put(there, "topic", "working", "state", NULL));
}

static int pull_all(kloop *k)
{
    cmb_pull_options options = {.tags = true, .merge = true, .merge_fn = cmb_merge_union};
    return cmb_pull(k->store[0], k->store[1], &options, NULL);
}

static void pulls_survive_any_failure_on_either_side(void **state)
{
    static const kloop_scenario scenario = {
        .name = "pull",
        .stores = 2,
        .points = 6,
        .init = {.node_size = 1024},
        .options = {.pool_size = 1 << 20},
        .prepare = prepare_peers,
        .steps = {{"a pull", pull_all, KLOOP_PIECEMEAL}, {"the same again", pull_all, KLOOP_PIECEMEAL}},
    };
    kloop_run(&scenario);
}

/* A bundle that is kept in memory. */
typedef struct bundle {
    uint8_t bytes[200000];
    size_t size, at;
} bundle;

static int bundle_write(void *ctx, const void *data, size_t size)
{
    bundle *b = ctx;
    if (size > sizeof b->bytes - b->size)
        return cmb_fail(CMB_EINVAL, "too large a bundle");
    memcpy(b->bytes + b->size, data, size);
    b->size += size;
    return 0;
}

static int bundle_read(void *ctx, void *out, size_t size, size_t *out_read)
{
    bundle *b = ctx;
    *out_read = size < b->size - b->at ? size : b->size - b->at;
    memcpy(out, b->bytes + b->at, *out_read);
    b->at += *out_read;
    return 0;
}

static int bundle_rewind(void *ctx)
{
    ((bundle *)ctx)->at = 0;
    return 0;
}

static void prepare_bundle(kloop *k)
{
    k->data = calloc(1, sizeof(bundle));
    assert_non_null(k->data);
    prepare_peers(k);
}

static void finish_bundle(kloop *k)
{
    free(k->data);
}

static int create_bundle(kloop *k)
{
    static const char *const revs[] = {"main", "topic", "v1"};
    ((bundle *)k->data)->size = 0;
    return cmb_bundle_create(k->store[1], revs, 3, bundle_write, k->data, NULL, NULL);
}

static cmb_bundle_source read_bundle(kloop *k)
{
    (void)bundle_rewind(k->data);
    return (cmb_bundle_source){bundle_read, bundle_rewind, k->data};
}

static int verify_bundle(kloop *k)
{
    cmb_bundle_source source = read_bundle(k);
    return cmb_bundle_verify(k->store[0], &source, NULL, NULL, NULL);
}

static int apply_bundle(kloop *k)
{
    cmb_bundle_source source = read_bundle(k);
    return cmb_bundle_apply(k->store[0], &source, &(cmb_pull_options){.tags = true}, NULL);
}

static void bundles_survive_any_failure_on_either_side(void **state)
{
    static const kloop_scenario scenario = {
        .name = "bundle",
        .stores = 2,
        .points = 6,
        .init = {.node_size = 1024},
        .options = {.pool_size = 1 << 20},
        .prepare = prepare_bundle,
        .finish = finish_bundle,
        .steps = {{"a bundle is made", create_bundle, KLOOP_PIECEMEAL},
                  {"it is verified", verify_bundle},
                  {"it is applied", apply_bundle, KLOOP_PIECEMEAL}},
    };
    kloop_run(&scenario);
}

/* ---- git ---- */

static const char stream[] =
    "blob\nmark :1\ndata 6\nhello\n\n"
    "reset refs/heads/main\ncommit refs/heads/main\nmark :2\n"
    "author Ada <ada@example.org> 1000000000 +0100\ncommitter Ada <ada@example.org> 1000000000 +0100\ndata 4\none\n"
    "M 100644 :1 docs/readme\nM 100755 :1 run\n\n"
    "commit refs/heads/topic\nmark :3\n"
    "author Ada <ada@example.org> 1000000001 +0100\ncommitter Ada <ada@example.org> 1000000001 +0100\ndata 4\ntwo\n"
    "from :2\nM 100644 inline docs/more\ndata 5\nmore\n\nR run walk\n\n"
    "tag v1\nfrom :3\ntagger Ada <ada@example.org> 1000000002 +0100\ndata 4\ntag\n\ndone\n";

static int stream_read(void *ctx, void *out, size_t size, size_t *out_read)
{
    size_t *at = ctx, left = sizeof stream - 1 - *at;
    *out_read = size < left ? size : left;
    memcpy(out, stream + *at, *out_read);
    *at += *out_read;
    return 0;
}

static int ignore_bytes(void *ctx, const void *data, size_t size)
{
    return 0;
}

static int import_stream(kloop *k)
{
    size_t at = 0;
    return cmb_git_import(k->store[0], stream_read, &at, NULL, NULL);
}

static int export_stream(kloop *k)
{
    return cmb_git_export(k->store[0], ignore_bytes, NULL, NULL, NULL);
}

static void imports_and_exports_survive_any_failure(void **state)
{
    static const kloop_scenario scenario = {
        .name = "git",
        .stores = 1,
        .init = {.node_size = 1024},
        .options = {.pool_size = 1 << 20},
        .steps = {{"an import", import_stream}, {"an export", export_stream}},
    };
    kloop_run(&scenario);
}

/* ---- reading ---- */

static void prepare_reading(kloop *k)
{
    prepare_merges(k);
    kloop_put_large(k->store[0], "main");
    must(kloop_put(k->store[0], "main", "dir/sub/key", "working", NULL));
}

/* What fsck finds is what the device does to it. */
static int first_error(void *ctx, const cmb_finding *f)
{
    int *error = ctx;
    *error = *error ? *error : f->error;
    return 0;
}

static int check_all(kloop *k)
{
    int found = 0;
    cmb_fsck_options options = {.level = CMB_FSCK_FULL, .on_finding = first_error, .ctx = &found};
    cmb_fsck_result result;
    int error = cmb_fsck(k->store[0], &options, &result);
    return error ? error : found;
}

static int count_change(void *ctx, const cmb_change *change)
{
    return 0;
}

static int diff_two(kloop *k)
{
    cmb_snapshot *a = NULL, *b = NULL;
    int error;
    step(cmb_snapshot_open(k->store[0], "x", &a));
    step(cmb_snapshot_open(k->store[0], "main", &b));
    step(cmb_diff(a, b, NULL, count_change, NULL));
out:
    cmb_snapshot_close(a);
    cmb_snapshot_close(b);
    return error;
}

static int ignore_commit(void *ctx, const cmb_commit *commit)
{
    return 0;
}

static int read_history(kloop *k)
{
    static const char *const revs[] = {"x", "y"};
    const cmb_range range = {.from = {"key000006", 9}, .to = {"key000070", 9}};
    cmb_history_options options = {.revs = revs, .rev_count = 2, .ranges = &range, .range_count = 1, .order = CMB_HISTORY_TOPO};
    cmb_name id;
    int error = cmb_history(k->store[0], &options, ignore_commit, NULL);
    if (!error)
        error = cmb_last_modified(k->store[0], "x", str("key000006"), &id);
    return error ? error : cmb_merge_base(k->store[0], "x", "y", &id);
}

static int ignore_modified(void *ctx, cmb_bytes key, const cmb_name *commit)
{
    return 0;
}

static int ignore_entry(void *ctx, const cmb_reflog_entry *entry)
{
    return 0;
}

static int read_refs(kloop *k)
{
    cmb_stat stat;
    int error = cmb_last_modified_each(k->store[0], "y", NULL, ignore_modified, NULL);
    if (!error)
        error = cmb_reflog(k->store[0], "y", ignore_entry, NULL);
    return error ? error : cmb_stat_store(k->store[0], &stat, NULL, NULL);
}

static int read_values(kloop *k)
{
    static uint8_t buffer[5000];
    const cmb_bytes keys[] = {str("large"), str("key000000"), str("key000396"), str("dir/sub/key")};
    cmb_snapshot *snapshot = NULL;
    cmb_value_stream *value = NULL;
    cmb_cursor *cursor = NULL;
    cmb_dir *dir = NULL;
    cmb_dir_child child;
    cmb_bytes values[4];
    size_t n;
    int error, results[4];
    step(cmb_snapshot_open(k->store[0], "main", &snapshot));
    step(cmb_get_many(snapshot, keys, 4, values, results));
    for (unsigned i = 0; i < 4; i++)
        step(results[i]);
    step(cmb_value_open(snapshot, str("large"), &value));
    step(cmb_value_read(value, 60000, buffer, sizeof buffer, &n));
    step(cmb_cursor_open(snapshot, NULL, &cursor));
    step(cmb_cursor_seek_nth(cursor, 100));
    step(cmb_cursor_prev(cursor));
    step(cmb_dir_open(snapshot, str(""), &dir));
    step(cmb_dir_next(dir, &child));
out:
    cmb_dir_close(dir);
    cmb_cursor_close(cursor);
    cmb_value_close(value);
    cmb_snapshot_close(snapshot);
    return error;
}

static void reading_survives_any_failure(void **state)
{
    static const kloop_scenario scenario = {
        .name = "reading",
        .stores = 1,
        .init = {.node_size = 512},
        .options = {.pool_size = 1 << 20},
        .prepare = prepare_reading,
        .steps = {{"values", read_values}, {"a diff", diff_two}, {"histories", read_history}, {"refs", read_refs}, {"fsck", check_all}},
    };
    kloop_run(&scenario);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merges_survive_any_failure),
        cmocka_unit_test(pulls_survive_any_failure_on_either_side),
        cmocka_unit_test(bundles_survive_any_failure_on_either_side),
        cmocka_unit_test(imports_and_exports_survive_any_failure),
        cmocka_unit_test(reading_survives_any_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
