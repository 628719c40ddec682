/* SPDX-License-Identifier: ISC */
/* Pulling from another image: what arrives, what travels, what happens to branches, and what happens when it breaks off. */
#include "sync_bed.h"

#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#define ENTRIES 5000u

static void open_pair(bed *a, bed *b)
{
    open_image(a, CMB_HASH_XXH3, 1024);
    open_image(b, CMB_HASH_XXH3, 1024);
}

static void close_pair(bed *a, bed *b)
{
    must_be_sound(a->store);
    must_be_sound(b->store);
    bed_close(a);
    bed_close(b);
}

static void assert_equal_branch(bed *a, bed *b, const char *branch)
{
    cmb_rev x = rev_of(a->store, branch), y = rev_of(b->store, branch);
    assert_true(same_name(&x.commit, &y.commit));
    assert_true(same_name(&x.root, &y.root));
}

static void a_pull_brings_branches_with_their_history(void **state)
{
    bed a, b;
    cmb_sync_stats stats;
    open_pair(&a, &b);
    put_range(a.store, "main", 0, 3, ENTRIES, "first", "one");
    put_range(a.store, "main", 1, 7, 100, "second", "two");
    must(cmb_branch_create(a.store, "feature", "main~1"));
    put(a.store, "feature", "only", "here", "three");
    must(cmb_pull(b.store, a.store, NULL, &stats));
    assert_int_equal(stats.commits, 3);
    assert_equal_branch(&a, &b, "main");
    assert_equal_branch(&a, &b, "feature");
    expect(b.store, "feature", "only", "here");
    expect(b.store, "main~1", "key00000003", "first of 3");
    must(cmb_pull(b.store, a.store, NULL, &stats));
    assert_int_equal(stats.commits, 0);
    close_pair(&a, &b);
}

static void only_what_changed_travels(void **state)
{
    bed a, b;
    cmb_sync_stats stats;
    open_pair(&a, &b);
    put_range(a.store, "main", 0, 1, 4 * ENTRIES, "a value of some length", "much");
    must(cmb_pull(b.store, a.store, NULL, &stats));
    assert_true(stats.bytes > 40u * 4 * ENTRIES);
    for (unsigned i = 0; i < 10; i++)
        put_range(a.store, "main", i * 1000, 13, 5, "changed", "little");
    must(cmb_pull(b.store, a.store, NULL, &stats));
    assert_int_equal(stats.commits, 10);
    assert_int_equal(stats.changes, 50);
    assert_true(stats.bytes < 50 * 50 + 10 * 200 + 1000);
    assert_true(stats.bytes_sent < 1500);
    assert_equal_branch(&a, &b, "main");
    close_pair(&a, &b);
}

/* The side branch changed every other key; the merge brings nothing that is new. */
static void what_a_merge_took_over_does_not_travel_again(void **state)
{
    bed a, b;
    cmb_sync_stats stats;
    cmb_merge_result merged;
    cmb_commit_info info = {.author = "ada", .message = "merge"};
    open_pair(&a, &b);
    put_range(a.store, "main", 0, 1, ENTRIES, "value", "base");
    must(cmb_branch_create(a.store, "side", "main"));
    put_range(a.store, "side", 0, 2, ENTRIES / 2, "side", "side");
    put_range(a.store, "main", 1, 500, 10, "main", "main");
    must(cmb_pull(b.store, a.store, NULL, &stats));
    must(cmb_merge(a.store, "main", "side", NULL, NULL, &info, &merged));
    assert_int_equal(merged.kind, CMB_MERGE_MERGED);
    must(cmb_pull(b.store, a.store, NULL, &stats));
    assert_int_equal(stats.commits, 1);
    assert_true(stats.bytes < 2000);
    assert_equal_branch(&a, &b, "main");
    expect(b.store, "main", "key00000001", "main of 1");
    expect(b.store, "main", "key00000002", "side of 2");
    close_pair(&a, &b);
}

static void put_large(cmb_store *store, uint8_t *data, size_t size, const char *message)
{
    cmb_commit_info info = {.author = "ada", .message = message};
    cmb_txn *txn;
    must(cmb_txn_begin(store, "main", 0, &txn));
    must(cmb_txn_put(txn, str("large"), (cmb_bytes){data, size}));
    must(cmb_txn_commit(txn, &info, NULL));
}

static void of_a_large_value_only_the_chunks_that_changed_travel(void **state)
{
    enum { SIZE = 5 * CMB_CHUNK_SIZE + 1000 };
    uint8_t *data = malloc(SIZE);
    bed a, b;
    cmb_sync_stats stats;
    cmb_snapshot *snapshot;
    cmb_bytes got;
    assert_non_null(data);
    for (unsigned i = 0; i < SIZE; i++)
        data[i] = (uint8_t)(i * 7 + i / 1000);
    open_pair(&a, &b);
    put_large(a.store, data, SIZE, "one");
    must(cmb_pull(b.store, a.store, NULL, &stats));
    assert_int_equal(stats.value_bytes, SIZE);
    data[2 * CMB_CHUNK_SIZE + 5] ^= 1;
    put_large(a.store, data, SIZE, "two");
    put_large(a.store, data, SIZE - 500, "three");
    must(cmb_pull(b.store, a.store, NULL, &stats));
    assert_int_equal(stats.value_bytes, CMB_CHUNK_SIZE + 500);
    put_large(a.store, data, 3000, "four");
    must(cmb_pull(b.store, a.store, NULL, &stats));
    assert_equal_branch(&a, &b, "main");
    must(cmb_snapshot_open(b.store, "main~1", &snapshot));
    must(cmb_get(snapshot, str("large"), &got));
    assert_int_equal(got.size, SIZE - 500);
    assert_memory_equal(got.data, data, SIZE - 500);
    cmb_snapshot_close(snapshot);
    free(data);
    close_pair(&a, &b);
}

static void a_working_state_is_sealed_before_it_travels(void **state)
{
    bed a, b;
    open_pair(&a, &b);
    put(a.store, "main", "k", "v", "one");
    put(a.store, "main", "k", "w", NULL);
    assert_true(rev_of(a.store, "main").working);
    must(cmb_pull(b.store, a.store, NULL, NULL));
    assert_false(rev_of(a.store, "main").working);
    assert_equal_branch(&a, &b, "main");
    expect(b.store, "main", "k", "w");
    expect(b.store, "main~1", "k", "v");
    close_pair(&a, &b);
}

static void a_source_that_is_read_only_cannot_seal(void **state)
{
    bed a, b;
    open_pair(&a, &b);
    put(a.store, "main", "k", "v", NULL);
    must(cmb_store_close(a.store));
    a.options.read_only = true;
    must(cmb_store_open_device(a.dev, &a.options, &a.store));
    must_be(cmb_pull(b.store, a.store, NULL, NULL), CMB_EREADONLY);
    assert_non_null(strstr(cmb_error_detail(), "heads/main"));
    close_pair(&a, &b);
}

static void images_with_other_parameters_are_refused_by_name(void **state)
{
    static const struct {
        cmb_init_options init;
        const char *what;
    } others[] = {{{.node_size = 2048}, "node size"}, {{.node_size = 1024, .seed = 5}, "seed"},
                  {{.node_size = 1024, .hash = CMB_HASH_SHA256}, "hash"}};
    bed a;
    open_image(&a, CMB_HASH_XXH3, 1024);
    put(a.store, "main", "k", "v", "one");
    for (unsigned i = 0; i < sizeof others / sizeof others[0]; i++) {
        bed b = {.dev = NULL};
        if (others[i].init.hash && cmb_hash_check(others[i].init.hash))
            continue;
        bed_open_with(&b, 0, &others[i].init);
        must_be(cmb_pull(b.store, a.store, NULL, NULL), CMB_ENOTSUP);
        assert_non_null(strstr(cmb_error_detail(), others[i].what));
        assert_non_null(strstr(cmb_error_detail(), "--like"));
        bed_close(&b);
    }
    bed_close(&a);
}

static void a_peer_that_is_not_trusted_needs_a_cryptographic_hash(void **state)
{
    cmb_pull_options options = {.untrusted = true};
    bed a, b;
    open_pair(&a, &b);
    put(a.store, "main", "k", "v", "one");
    must_be(cmb_pull(b.store, a.store, &options, NULL), CMB_ENOTSUP);
    assert_non_null(strstr(cmb_error_detail(), "xxh3"));
    close_pair(&a, &b);
    if (cmb_hash_check(CMB_HASH_SHA256)) {
        print_message("built without the feature sha256\n");
        return;
    }
    open_image(&a, CMB_HASH_SHA256, 1024);
    open_image(&b, CMB_HASH_SHA256, 1024);
    put(a.store, "main", "k", "v", "one");
    must(cmb_pull(b.store, a.store, &options, NULL));
    expect(b.store, "main", "k", "v");
    close_pair(&a, &b);
}

/* ---- branches and tags ---- */

typedef struct outcome {
    cmb_pull_kind kind[8];
    char kept[8][64];
    bool tag[8];
    uint64_t conflicts;
    unsigned count;
} outcome;

static int note(void *ctx, const cmb_pulled *p)
{
    outcome *o = ctx;
    assert_true(o->count < 8);
    o->kind[o->count] = p->kind;
    o->tag[o->count] = p->tag;
    snprintf(o->kept[o->count], 64, "%s", p->kept ? p->kept : "");
    o->conflicts += p->conflicts;
    o->count++;
    return 0;
}

static void branches_that_diverged_stay_and_the_other_head_is_kept(void **state)
{
    outcome o = {.count = 0};
    cmb_pull_options options = {.pulled = note, .ctx = &o, .peer = "b"};
    bed a, b;
    open_pair(&a, &b);
    put(b.store, "main", "k", "v", "one");
    must(cmb_pull(a.store, b.store, &options, NULL));
    assert_int_equal(o.kind[0], CMB_PULL_FAST_FORWARD);
    put(a.store, "main", "x", "mine", "mine");
    put(b.store, "main", "y", "theirs", "theirs");
    cmb_rev before = rev_of(a.store, "main"), theirs = rev_of(b.store, "main");
    for (int i = 0; i < 2; i++) {
        o.count = 0;
        must(cmb_pull(a.store, b.store, &options, NULL));
        assert_int_equal(o.count, 1);
        assert_int_equal(o.kind[0], CMB_PULL_DIVERGED);
        assert_string_equal(o.kept[0], "b/main");
        cmb_rev now = rev_of(a.store, "main"), kept = rev_of(a.store, "b/main");
        assert_true(same_name(&now.commit, &before.commit));
        assert_true(same_name(&kept.commit, &theirs.commit));
    }
    close_pair(&a, &b);
}

static void branches_that_diverged_are_merged_if_so_wished_and_both_sides_agree(void **state)
{
    outcome o = {.count = 0};
    cmb_pull_options options = {.pulled = note, .ctx = &o, .merge = true};
    bed a, b;
    open_pair(&a, &b);
    put(b.store, "main", "k", "v", "one");
    must(cmb_pull(a.store, b.store, &options, NULL));
    put(a.store, "main", "x", "mine", "mine");
    put(b.store, "main", "y", "theirs", "theirs");
    must(cmb_pull(a.store, b.store, &options, NULL));
    assert_int_equal(o.kind[1], CMB_PULL_MERGED);
    expect(a.store, "main", "x", "mine");
    expect(a.store, "main", "y", "theirs");
    must(cmb_pull(b.store, a.store, &options, NULL));
    assert_int_equal(o.kind[2], CMB_PULL_FAST_FORWARD);
    assert_equal_branch(&a, &b, "main");
    must(cmb_pull(a.store, b.store, &options, NULL));
    assert_int_equal(o.kind[3], CMB_PULL_UP_TO_DATE);
    put(a.store, "main", "k", "mine", "mine");
    put(b.store, "main", "k", "theirs", "theirs");
    must(cmb_pull(a.store, b.store, &options, NULL));
    assert_int_equal(o.kind[4], CMB_PULL_CONFLICTS);
    assert_int_equal(o.conflicts, 1);
    assert_string_equal(o.kept[4], "peer/main");
    expect(a.store, "main", "k", "mine");
    expect(a.store, "peer/main", "k", "theirs");
    close_pair(&a, &b);
}

static void named_branches_come_alone_and_missing_ones_are_named(void **state)
{
    static const char *const one[] = {"feature"}, *const none[] = {"nothing"};
    cmb_pull_options options = {.names = one, .name_count = 1};
    cmb_rev rev;
    bed a, b;
    open_pair(&a, &b);
    put(a.store, "main", "k", "v", "one");
    must(cmb_branch_create(a.store, "feature", "main"));
    put(a.store, "main", "k", "w", "two");
    must(cmb_pull(b.store, a.store, &options, NULL));
    assert_equal_branch(&a, &b, "feature");
    assert_int_equal(rev_of(b.store, "main").commit.size, 0);
    options.names = none;
    must_be(cmb_pull(b.store, a.store, &options, NULL), CMB_ENOTFOUND);
    assert_non_null(strstr(cmb_error_detail(), "'nothing'"));
    must_be(cmb_rev_parse(b.store, "nothing", &rev), CMB_ENOTFOUND);
    close_pair(&a, &b);
}

static void tags_come_when_asked_for_and_are_never_moved(void **state)
{
    outcome o = {.count = 0};
    cmb_pull_options options = {.tags = true, .pulled = note, .ctx = &o};
    cmb_rev rev;
    bed a, b;
    open_pair(&a, &b);
    put(a.store, "main", "k", "v", "one");
    must(cmb_tag_create(a.store, "v1", "main"));
    put(a.store, "main", "k", "w", "two");
    must(cmb_pull(b.store, a.store, NULL, NULL));
    must_be(cmb_rev_parse(b.store, "v1", &rev), CMB_ENOTFOUND);
    must(cmb_pull(b.store, a.store, &options, NULL));
    assert_true(o.tag[1]);
    assert_int_equal(o.kind[1], CMB_PULL_CREATED);
    assert_equal_branch(&a, &b, "v1");
    must(cmb_tag_set(a.store, "v1", "main"));
    must(cmb_pull(b.store, a.store, &options, NULL));
    assert_int_equal(o.kind[3], CMB_PULL_DIVERGED);
    expect(b.store, "v1", "k", "v");
    close_pair(&a, &b);
}

static void assert_equal_object(bed *a, bed *b, const char *name, unsigned depth)
{
    cmb_tag *x, *y;
    must(cmb_tag_read(a->store, name, depth, &x));
    must(cmb_tag_read(b->store, name, depth, &y));
    assert_true(same_name(&x->id, &y->id));
    assert_string_equal(x->message, y->message);
    assert_int_equal(x->header_count, y->header_count);
    cmb_tag_free(x);
    cmb_tag_free(y);
}

static void annotated_tags_come_with_their_objects(void **state)
{
    cmb_commit_header header = {"git.kind", {"a\0b", 3}};
    cmb_tag_info info = {.tagger = "ada", .message = "the first one", .headers = &header, .header_count = 1};
    outcome o = {.count = 0};
    cmb_pull_options options = {.tags = true, .pulled = note, .ctx = &o};
    bed a, b;
    open_pair(&a, &b);
    put(a.store, "main", "k", "v", "one");
    must(cmb_tag_annotate(a.store, "v1", "main", &info));
    must(cmb_tag_annotate(a.store, "above", "v1", &(cmb_tag_info){.message = "and so on"}));
    must(cmb_pull(b.store, a.store, &options, NULL));
    assert_equal_object(&a, &b, "v1", 0);
    assert_equal_object(&a, &b, "above", 0);
    assert_equal_object(&a, &b, "above", 1);
    o.count = 0;
    must(cmb_pull(b.store, a.store, &options, NULL));
    assert_int_equal(o.kind[1], CMB_PULL_UP_TO_DATE);
    assert_int_equal(o.kind[2], CMB_PULL_UP_TO_DATE);
    close_pair(&a, &b);
}

/* ---- depth ---- */

static int count_commit(void *ctx, const cmb_commit *commit)
{
    (void)commit;
    ++*(unsigned *)ctx;
    return 0;
}

static void a_shallow_history_ends_where_it_was_cut(void **state)
{
    cmb_pull_options options = {.depth = 2};
    cmb_sync_stats stats;
    unsigned commits = 0;
    cmb_commit *commit;
    cmb_rev rev;
    bed a, b, c;
    open_pair(&a, &b);
    open_image(&c, CMB_HASH_XXH3, 1024);
    for (unsigned i = 0; i < 10; i++)
        put_range(a.store, "main", i, 10, 100, "value", "ring");
    must(cmb_pull(b.store, a.store, &options, &stats));
    assert_int_equal(stats.commits, 2);
    assert_equal_branch(&a, &b, "main");
    must(cmb_log_first_parents(b.store, "main", count_commit, &commits));
    assert_int_equal(commits, 2);
    must_be(cmb_rev_parse(b.store, "main~2", &rev), CMB_ENOTFOUND);
    must(cmb_commit_read(b.store, "main~1", &commit));
    assert_int_equal(commit->parent_count, 1);
    cmb_commit_free(commit);
    must_be_sound(b.store);
    bed_reopen(&b);
    /* It goes on growing, and can be pulled from in turn. */
    put_range(a.store, "main", 5, 10, 3, "later", "ring");
    must(cmb_pull(b.store, a.store, NULL, &stats));
    assert_int_equal(stats.commits, 1);
    assert_int_equal(stats.changes, 3);
    must(cmb_pull(c.store, b.store, NULL, &stats));
    assert_int_equal(stats.commits, 3);
    assert_equal_branch(&a, &c, "main");
    /* A branch that begins below the cut comes with all that is missing. */
    must(cmb_branch_create(a.store, "old", "main~8"));
    put(a.store, "old", "k", "v", "old");
    must(cmb_pull(b.store, a.store, NULL, &stats));
    assert_equal_branch(&a, &b, "old");
    must_be_sound(c.store);
    bed_close(&c);
    close_pair(&a, &b);
}

/* What is far newer comes as the difference from the newest state that is there. */
static void a_shallow_update_travels_as_changes_from_the_old_head(void **state)
{
    cmb_pull_options options = {.depth = 1};
    cmb_sync_stats stats;
    bed a, b;
    open_pair(&a, &b);
    put_range(a.store, "main", 0, 1, ENTRIES, "value", "ring");
    must(cmb_pull(b.store, a.store, &options, &stats));
    for (unsigned i = 0; i < 10; i++)
        put_range(a.store, "main", i, 10, 1, "value!", "ring");
    must(cmb_pull(b.store, a.store, &(cmb_pull_options){.depth = 1, .merge = false}, &stats));
    assert_int_equal(stats.commits, 1);
    assert_int_equal(stats.changes, 10);
    cmb_rev theirs = rev_of(a.store, "main"), kept = rev_of(b.store, "peer/main"); /* nothing here is seen to lie below it */
    assert_true(same_name(&theirs.commit, &kept.commit));
    close_pair(&a, &b);
}

/* What lies below the cut may be common to both: without it a deleted key would look like one that only we have. */
static void nothing_is_merged_over_the_end_of_a_shallow_history(void **state)
{
    cmb_pull_options options = {.depth = 1, .merge = true, .merge_fn = cmb_merge_theirs};
    bed a, b;
    cmb_txn *txn;
    open_pair(&a, &b);
    put(a.store, "main", "gone", "soon", "one");
    must(cmb_pull(b.store, a.store, &options, NULL));
    must(cmb_txn_begin(a.store, "main", 0, &txn));
    must(cmb_txn_del(txn, str("gone")));
    must(cmb_txn_commit(txn, &(cmb_commit_info){.message = "two"}, NULL));
    put(a.store, "main", "other", "key", "three");
    cmb_rev before = rev_of(b.store, "main");
    must(cmb_pull(b.store, a.store, &options, NULL));
    cmb_rev after = rev_of(b.store, "main"), kept = rev_of(b.store, "peer/main"), theirs = rev_of(a.store, "main");
    assert_true(same_name(&before.commit, &after.commit));
    assert_true(same_name(&kept.commit, &theirs.commit));
    put(b.store, "main", "mine", "too", "above the cut");
    cmb_merge_result result;
    must(cmb_merge(b.store, "main", "peer/main", cmb_merge_theirs, NULL, &(cmb_commit_info){.message = "no"}, &result));
    assert_int_equal(result.kind, CMB_MERGE_DIVERGED);
    close_pair(&a, &b);
}

/* ---- breaking off ---- */

static void a_pull_cut_at_any_byte_changes_nothing(void **state)
{
    bed a, b;
    cmb_sync_stats stats;
    open_pair(&a, &b);
    put_range(a.store, "main", 0, 3, 60, "first", "one");
    put_range(a.store, "main", 1, 3, 5, "second", "two");
    must(cmb_branch_create(a.store, "feature", "main~1"));
    put(a.store, "feature", "only", "here", "three");
    put(b.store, "main", "mine", "alone", "unrelated");
    bed c;
    open_image(&c, CMB_HASH_XXH3, 1024);
    must(cmb_pull(c.store, a.store, NULL, &stats));
    bed_close(&c);
    uint64_t before = shown(b.store), step = bed_budget() > 1 ? 1 : 7;
    for (uint64_t cut = 0; cut < stats.bytes; cut += step) {
        must_be(pull_cut(b.store, a.store, cut, NULL, NULL), CMB_ESYNTAX);
        assert_int_equal(shown(b.store), before);
    }
    must_be_sound(b.store);
    must(pull_cut(b.store, a.store, UINT64_MAX, &(cmb_pull_options){.merge = true}, NULL));
    assert_equal_branch(&a, &b, "feature");
    expect(b.store, "main", "mine", "alone");
    expect(b.store, "main", "key00000003", "first of 3");
    close_pair(&a, &b);
}

static void more_than_the_limit_is_refused(void **state)
{
    cmb_pull_options options = {.max_bytes = 5000};
    bed a, b;
    open_pair(&a, &b);
    put_range(a.store, "main", 0, 3, ENTRIES, "first", "one");
    uint64_t before = shown(b.store);
    must_be(cmb_pull(b.store, a.store, &options, NULL), CMB_ETOOBIG);
    assert_int_equal(shown(b.store), before);
    close_pair(&a, &b);
}

/* ---- at random ---- */

#define IMAGES 3
static const char *const BRANCHES[] = {"main", "feature"};

/* The greater value wins, and any value against none: the same whoever asks. */
static int greater(void *ctx, cmb_clash *clash, cmb_bytes *out_value)
{
    cmb_bytes mine = {NULL, 0}, theirs = {NULL, 0};
    (void)ctx;
    (void)out_value;
    if (cmb_clash_presence(clash, CMB_SIDE_MINE) == CMB_ABSENT)
        return CMB_ANSWER_THEIRS;
    if (cmb_clash_presence(clash, CMB_SIDE_THEIRS) == CMB_ABSENT)
        return CMB_ANSWER_MINE;
    must(cmb_clash_value(clash, CMB_SIDE_MINE, &mine));
    must(cmb_clash_value(clash, CMB_SIDE_THEIRS, &theirs));
    return cmb_compare(mine.data, mine.size, theirs.data, theirs.size) >= 0 ? CMB_ANSWER_MINE : CMB_ANSWER_THEIRS;
}

static void edit_at_random(bed *b, uint64_t *random)
{
    static uint8_t value[700 << 10];
    cmb_commit_info info = {.author = "ada", .message = "random"};
    const char *branch = BRANCHES[bed_mix(random) % 2];
    cmb_txn *txn;
    must(cmb_txn_begin(b->store, branch, 0, &txn));
    for (uint64_t n = 1 + bed_mix(random) % 30; n; n--) {
        char key[32];
        uint64_t v = bed_mix(random), size = v % 97 == 0 ? v % sizeof value : v % 60;
        snprintf(key, sizeof key, "k%llu", (unsigned long long)(bed_mix(random) % 400));
        if (v % 5 == 0) {
            int error = cmb_txn_del(txn, str(key));
            assert_true(error == 0 || error == CMB_ENOTFOUND);
            continue;
        }
        memset(value, (int)(v >> 32), size);
        must(cmb_txn_put(txn, str(key), (cmb_bytes){value, size}));
    }
    must(cmb_txn_commit(txn, bed_mix(random) % 3 ? &info : NULL, NULL));
}

static void merge_locally(bed *b, uint64_t *random)
{
    cmb_commit_info info = {.flags = CMB_MERGE_DETERMINISTIC};
    cmb_merge_result result;
    uint64_t into = bed_mix(random) % 2;
    must(cmb_merge(b->store, BRANCHES[into], BRANCHES[1 - into], greater, NULL, &info, &result));
    assert_null(result.open);
}

/* Cut somewhere first; then whole, and again: then nothing travels. */
static void pull_at_random(bed *to, bed *from, uint64_t *random)
{
    cmb_pull_options options = {.names = BRANCHES, .name_count = 2, .merge = true, .merge_fn = greater};
    cmb_sync_stats stats;
    uint64_t before = shown(to->store), cut = bed_mix(random) % 3000;
    int error = pull_cut(to->store, from->store, cut, &options, &stats);
    if (error) {
        must_be(error, CMB_ESYNTAX);
        assert_int_equal(shown(to->store), before);
        must(cmb_pull(to->store, from->store, &options, &stats));
    }
    must(cmb_pull(to->store, from->store, &options, &stats));
    assert_int_equal(stats.commits, 0);
}

static bool all_equal(bed *beds)
{
    bool equal = true;
    for (unsigned i = 1; i < IMAGES; i++)
        for (unsigned k = 0; k < 2; k++) {
            cmb_rev x = rev_of(beds[0].store, BRANCHES[k]), y = rev_of(beds[i].store, BRANCHES[k]);
            equal = equal && !x.working && !y.working && same_name(&x.commit, &y.commit);
        }
    return equal;
}

static void gossip(cmb_hash_kind hash, uint64_t seed)
{
    uint64_t random = seed;
    bed beds[IMAGES];
    print_message("CMB_SEED=%llu\n", (unsigned long long)seed);
    for (unsigned i = 0; i < IMAGES; i++) {
        open_image(&beds[i], hash, 512);
        beds[i].env.now += i;
        put(beds[i].store, "main", "origin", i == 2 ? "other" : "same", "first");
        must(cmb_branch_create(beds[i].store, "feature", "main"));
    }
    for (unsigned step = 0; step < 50; step++) {
        bed *b = &beds[bed_mix(&random) % IMAGES], *other = &beds[bed_mix(&random) % IMAGES];
        uint64_t what = bed_mix(&random) % 10;
        if (what < 6)
            edit_at_random(b, &random);
        else if (what < 7)
            merge_locally(b, &random);
        else if (what < 8)
            bed_reopen(b);
        else if (b != other)
            pull_at_random(b, other, &random);
    }
    /* Pairs that pull from each other: round a ring, each from the next, everybody would merge for ever. */
    for (unsigned i = 0; i < 2 * IMAGES; i++) {
        pull_at_random(&beds[i % IMAGES], &beds[(i + 1) % IMAGES], &random);
        pull_at_random(&beds[(i + 1) % IMAGES], &beds[i % IMAGES], &random);
    }
    assert_true(all_equal(beds));
    for (unsigned i = 0; i < IMAGES; i++) {
        must_be_sound(beds[i].store);
        bed_close(&beds[i]);
    }
}

static void images_that_pull_from_each_other_at_random_end_with_equal_heads(void **state)
{
    for (unsigned i = 0; i < 2 * bed_budget(); i++)
        gossip(CMB_HASH_XXH3, bed_seed() + i);
}

static void so_do_those_with_cryptographic_names(void **state)
{
    if (cmb_hash_check(CMB_HASH_SHA256)) {
        print_message("built without the feature sha256\n");
        skip();
    }
    for (unsigned i = 0; i < bed_budget(); i++)
        gossip(CMB_HASH_SHA256, bed_seed() + 1000 + i);
}

/* ---- no memory ---- */

typedef struct meter {
    uint64_t left; /* allocations until one fails */
} meter;

static void *meter_alloc(void *ctx, size_t size)
{
    meter *m = ctx;
    return m->left && --m->left == 0 ? NULL : malloc(size);
}

static void *meter_resize(void *ctx, void *ptr, size_t old_size, size_t new_size)
{
    meter *m = ctx;
    (void)old_size;
    return m->left && --m->left == 0 ? NULL : realloc(ptr, new_size);
}

static void meter_release(void *ctx, void *ptr, size_t size)
{
    (void)ctx;
    (void)size;
    free(ptr);
}

/* One allocation fails, each in turn: a clean error, and the image shows what it did before, or all of it. */
static void without_memory_a_pull_does_nothing_or_everything(void **state)
{
    meter m = {0};
    cmb_pull_options options = {.merge = true};
    bed a, b;
    open_image(&a, CMB_HASH_XXH3, 512);
    put_range(a.store, "main", 0, 1, 40, "value", "one");
    put_range(a.store, "main", 3, 4, 10, "other", "two");
    int error = CMB_ENOMEM;
    for (uint64_t k = 1; error; k += bed_budget() > 1 ? 1 : 3) {
        memset(&b, 0, sizeof b);
        b.options.alloc = (cmb_allocator){&m, meter_alloc, meter_resize, meter_release};
        bed_open_with(&b, 0, &(cmb_init_options){.node_size = 512});
        put(b.store, "main", "mine", "alone", "unrelated");
        uint64_t before = shown(b.store);
        m.left = k;
        error = cmb_pull(b.store, a.store, &options, NULL);
        m.left = 0;
        if (error) {
            must_be(error, CMB_ENOMEM);
            must(cmb_pull(b.store, a.store, &options, NULL));
        }
        assert_int_not_equal(shown(b.store), before);
        expect(b.store, "main", "mine", "alone");
        expect(b.store, "main", "key00000003", "other of 3");
        bed_close(&b);
    }
    bed_close(&a);
}

/* ---- peers that lie ---- */

typedef struct liar {
    cut_peer peer;
    uint64_t random;
    uint8_t message[1 << 16]; /* of the answering side, forged and framed anew */
    file forged;
    cmb_wire_in in;
    cmb_wire_out out;
    unsigned honest; /* messages before the forged one */
    bool begun;
} liar;

static int honest_read(void *ctx, void *out, size_t size, size_t *out_read)
{
    return cmb_loopback_read(&((liar *)ctx)->peer.loop, out, size, out_read);
}

static int forged_write(void *ctx, const void *data, size_t size)
{
    return file_write(&((liar *)ctx)->forged, data, size);
}

/* Takes the next message from the honest side and passes it on, changed if its turn has come. */
static int relay(liar *l)
{
    size_t n = 0;
    int error = l->begun ? 0 : cmb_wire_in_begin(&l->in, CMB_WIRE_PEER);
    l->begun = true;
    if (!error)
        error = cmb_wire_in_message(&l->in);
    while (!error && !(l->in.last && l->in.at == l->in.size)) {
        assert_true(n < sizeof l->message);
        error = cmb_wire_get(&l->in, &l->message[n++], 1);
    }
    if (error)
        return error;
    must(cmb_wire_in_end_message(&l->in));
    if (l->honest-- == 0)
        for (uint64_t k = 1 + bed_mix(&l->random) % 3; k; k--) {
            size_t at = bed_mix(&l->random) % n;
            l->message[at] = bed_mix(&l->random) % 3 ? (uint8_t)bed_mix(&l->random) : 0xff;
        }
    must(cmb_wire_put(&l->out, l->message, n));
    return cmb_wire_out_end_message(&l->out);
}

static int liar_read(void *ctx, void *out, size_t size, size_t *out_read)
{
    liar *l = ctx;
    if (l->forged.at == l->forged.size) {
        int error = relay(l);
        if (error)
            return error == CMB_ESYNTAX ? file_read(&l->forged, out, size, out_read) : error;
    }
    return file_read(&l->forged, out, size, out_read);
}

static int liar_write(void *ctx, const void *data, size_t size)
{
    return cmb_loopback_write(&((liar *)ctx)->peer.loop, data, size);
}

static int known_elsewhere(void *ctx, const cmb_commit_at *at)
{
    cmb_commit_at found;
    cmb_store **stores = ctx;
    return cmb_commit_find(stores[0], &at->id, &found) == 0 || cmb_commit_find(stores[1], &at->id, &found) == 0 ? 0 : CMB_ECORRUPT;
}

static void a_peer_that_lies_makes_nothing_show_that_did_not_exist(void **state)
{
    liar *l = calloc(1, sizeof *l);
    bed a, own;
    assert_non_null(l);
    print_message("CMB_SEED=%llu\n", (unsigned long long)bed_seed());
    open_image(&a, CMB_HASH_XXH3, 512);
    put_range(a.store, "main", 0, 1, 40, "value", "one");
    must(cmb_branch_create(a.store, "feature", "main"));
    put_range(a.store, "main", 3, 4, 10, "other", "two");
    open_image(&own, CMB_HASH_XXH3, 512);
    put(own.store, "main", "mine", "alone", "unrelated");
    for (unsigned i = 0; i < 100 * bed_budget(); i++) {
        bed b;
        cmb_store *stores[] = {a.store, own.store};
        open_image(&b, CMB_HASH_XXH3, 512);
        put(b.store, "main", "mine", "alone", "unrelated");
        memset(l, 0, sizeof *l);
        l->random = bed_seed() + i;
        l->honest = (unsigned)(bed_mix(&l->random) % 3);
        must(cmb_loopback_open(&l->peer.loop, a.store, &b.store->alloc));
        cmb_wire_in_open(&l->in, &b.store->alloc, "honest", honest_read, l);
        must(cmb_wire_out_open(&l->out, &b.store->alloc, forged_write, l));
        must(cmb_wire_out_begin(&l->out, CMB_WIRE_PEER));
        cmb_pull_from(b.store, liar_read, liar_write, l, NULL, NULL);
        must(cmb_commits_each(b.store, known_elsewhere, stores));
        expect(b.store, "main", "mine", "alone");
        must_be_sound(b.store);
        cmb_wire_in_close(&l->in);
        cmb_wire_out_close(&l->out);
        cmb_loopback_close(&l->peer.loop);
        free(l->forged.data);
        bed_close(&b);
    }
    bed_close(&own);
    bed_close(&a);
    free(l);
}

/* Whatever the asking side says, the answering one only ever answers or ends. */
static void a_peer_that_asks_nonsense_gets_no_answer(void **state)
{
    uint64_t random = bed_seed();
    bed a;
    print_message("CMB_SEED=%llu\n", (unsigned long long)random);
    open_image(&a, CMB_HASH_XXH3, 512);
    put_range(a.store, "main", 0, 1, 40, "value", "one");
    uint64_t before = shown(a.store);
    for (unsigned i = 0; i < 500 * bed_budget(); i++) {
        cmb_loopback loop;
        cmb_wire_out out;
        cmb_params params;
        uint8_t word[64];
        size_t got;
        must(cmb_loopback_open(&loop, a.store, &a.store->alloc));
        must(cmb_wire_out_open(&out, &a.store->alloc, cmb_loopback_write, &loop));
        must(cmb_wire_out_begin(&out, CMB_WIRE_PEER));
        for (uint64_t n = bed_mix(&random) % 4; n; n--) {
            cmb_params_of(a.store, &params);
            must(cmb_wire_put_uint(&out, 1, bed_mix(&random) % 8));
            if (bed_mix(&random) % 2)
                must(cmb_params_put(&out, &params));
            for (uint64_t k = bed_mix(&random) % 5; k; k--)
                must(cmb_wire_put_uint(&out, 4, bed_mix(&random) >> (bed_mix(&random) % 64)));
            must(cmb_wire_out_end_message(&out));
        }
        while (cmb_loopback_read(&loop, word, sizeof word, &got) == 0 && got)
            ;
        cmb_wire_out_close(&out);
        cmb_loopback_close(&loop);
    }
    assert_int_equal(shown(a.store), before);
    bed_close(&a);
}

/* ---- over a real transport ---- */

typedef struct served {
    cmb_store *store;
    int fd, error;
    cmb_sync_stats stats;
} served;

static int fd_read(void *ctx, void *out, size_t size, size_t *out_read)
{
    ssize_t n = read(*(int *)ctx, out, size);
    *out_read = n > 0 ? (size_t)n : 0;
    return n < 0 ? CMB_EIO : 0;
}

static int fd_write(void *ctx, const void *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = write(*(int *)ctx, (const char *)data + done, size - done);
        if (n <= 0)
            return CMB_EIO;
        done += (size_t)n;
    }
    return 0;
}

static void *serve(void *arg)
{
    served *s = arg;
    s->error = cmb_serve(s->store, fd_read, fd_write, &s->fd, &s->stats);
    close(s->fd);
    return NULL;
}

static void a_pull_over_a_socket_brings_the_same(void **state)
{
    int fds[2];
    pthread_t thread;
    cmb_sync_stats stats;
    static const char *const none[] = {"nothing"};
    bed a, b;
    open_pair(&a, &b);
    put_range(a.store, "main", 0, 3, ENTRIES, "first", "one");
    for (int i = 0; i < 2; i++) {
        cmb_pull_options options = {.names = none, .name_count = i == 0};
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
        served s = {.store = a.store, .fd = fds[0]};
        assert_int_equal(pthread_create(&thread, NULL, serve, &s), 0);
        int error = cmb_pull_from(b.store, fd_read, fd_write, &fds[1], &options, &stats);
        close(fds[1]);
        pthread_join(thread, NULL);
        must_be(error, i == 0 ? CMB_ENOTFOUND : 0);
        must_be(s.error, error);
        if (error)
            assert_non_null(strstr(cmb_error_detail(), "the peer: "));
        else
            assert_int_equal(s.stats.bytes_sent, stats.bytes);
    }
    assert_equal_branch(&a, &b, "main");
    close_pair(&a, &b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pull_brings_branches_with_their_history),
        cmocka_unit_test(only_what_changed_travels),
        cmocka_unit_test(what_a_merge_took_over_does_not_travel_again),
        cmocka_unit_test(of_a_large_value_only_the_chunks_that_changed_travel),
        cmocka_unit_test(a_working_state_is_sealed_before_it_travels),
        cmocka_unit_test(a_source_that_is_read_only_cannot_seal),
        cmocka_unit_test(images_with_other_parameters_are_refused_by_name),
        cmocka_unit_test(a_peer_that_is_not_trusted_needs_a_cryptographic_hash),
        cmocka_unit_test(branches_that_diverged_stay_and_the_other_head_is_kept),
        cmocka_unit_test(branches_that_diverged_are_merged_if_so_wished_and_both_sides_agree),
        cmocka_unit_test(named_branches_come_alone_and_missing_ones_are_named),
        cmocka_unit_test(tags_come_when_asked_for_and_are_never_moved),
        cmocka_unit_test(annotated_tags_come_with_their_objects),
        cmocka_unit_test(a_shallow_history_ends_where_it_was_cut),
        cmocka_unit_test(a_shallow_update_travels_as_changes_from_the_old_head),
        cmocka_unit_test(nothing_is_merged_over_the_end_of_a_shallow_history),
        cmocka_unit_test(a_pull_cut_at_any_byte_changes_nothing),
        cmocka_unit_test(more_than_the_limit_is_refused),
        cmocka_unit_test(images_that_pull_from_each_other_at_random_end_with_equal_heads),
        cmocka_unit_test(so_do_those_with_cryptographic_names),
        cmocka_unit_test(without_memory_a_pull_does_nothing_or_everything),
        cmocka_unit_test(a_peer_that_lies_makes_nothing_show_that_did_not_exist),
        cmocka_unit_test(a_peer_that_asks_nonsense_gets_no_answer),
        cmocka_unit_test(a_pull_over_a_socket_brings_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
