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
        cmocka_unit_test(a_shallow_history_ends_where_it_was_cut),
        cmocka_unit_test(a_shallow_update_travels_as_changes_from_the_old_head),
        cmocka_unit_test(a_pull_cut_at_any_byte_changes_nothing),
        cmocka_unit_test(more_than_the_limit_is_refused),
        cmocka_unit_test(a_pull_over_a_socket_brings_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
