/* SPDX-License-Identifier: ISC */
/* Names of refs, branches, tags, revisions and sealing. */
#include "bed.h"

static int setup(void **state)
{
    bed *b = malloc(sizeof *b);
    bed_open(b);
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    bed_close(*state);
    free(*state);
    return 0;
}

static void names_follow_gits_rules(void **state)
{
    static const struct {
        const char *name;
        bool good;
    } table[] = {
        {"main", true}, {"a/b/c", true}, {"x", true}, {"-x", true}, {"feature-1.2", true}, {"\xc3\xa4rger", true},
        {"a@b", true}, {"{x}", true}, {"a.b", true}, {"@x", true}, {"lock", true}, {"a.lockx", true}, {"!\"#$%&'()", true},
        {"", false}, {"@", false}, {".a", false}, {"a/.b", false}, {"a.", false}, {"a..b", false}, {"a.lock", false},
        {"a.lock/b", false}, {"/a", false}, {"a/", false}, {"a//b", false}, {"a b", false}, {"a~b", false}, {"a^b", false},
        {"a:b", false}, {"a?b", false}, {"a*b", false}, {"a[b", false}, {"a\\b", false}, {"a@{b", false}, {"a\tb", false},
        {"a\x7f", false}, {"a\nb", false}, {"..", false}, {"a/..", false}, {"/", false}, {".lock", false},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        int error = cmb_ref_name_check(table[i].name);
        if ((error == 0) != table[i].good)
            fail_msg("'%s' gives %s", table[i].name, cmb_error_name(error));
        assert_true(error == 0 || error == CMB_EINVAL);
    }
    char longest[CMB_REF_NAME_MAX + 2];
    memset(longest, 'n', sizeof longest);
    longest[CMB_REF_NAME_MAX] = 0;
    must(cmb_ref_name_check(longest));
    longest[CMB_REF_NAME_MAX] = 'n';
    longest[CMB_REF_NAME_MAX + 1] = 0;
    must_be(cmb_ref_name_check(longest), CMB_EINVAL);
    must_be(cmb_ref_name_check(NULL), CMB_EINVAL);
}

static void the_longest_name_makes_a_branch(void **state)
{
    bed *b = *state;
    char longest[CMB_REF_NAME_MAX + 1];
    memset(longest, 'n', sizeof longest);
    longest[CMB_REF_NAME_MAX] = 0;
    must(cmb_branch_create(b->store, longest, NULL));
    put(b->store, longest, "k", "v", NULL);
    bed_reopen(b);
    expect(b->store, longest, "k", "v");
}

static void a_new_image_has_an_empty_main_without_a_commit(void **state)
{
    bed *b = *state;
    cmb_rev rev = rev_of(b->store, "main");
    assert_int_equal(rev.commit.size, 0);
    assert_int_equal(rev.base.size, 0);
    assert_int_equal(rev.root.size, 16);
    assert_int_equal(rev.entries, 0);
    assert_false(rev.working);
    rev_of(b->store, "main^{root}");
    must_be(cmb_rev_parse(b->store, "main~1", &rev), CMB_ENOTFOUND);
    cmb_commit *commit;
    must_be(cmb_commit_read(b->store, "main", &commit), CMB_ENOTFOUND);
}

static void commits_have_parents_generations_times_and_texts(void **state)
{
    bed *b = *state;
    cmb_commit *commit;
    cmb_txn *txn;
    cmb_rev first = put(b->store, "main", "a", "1", "first ring"), second;
    cmb_commit_info info = {.author = "Ada <ada@example.org>", .message = "second\n\nring", .time = 42};
    must(cmb_txn_begin(b->store, "main", 0, &txn));
    must(cmb_txn_put(txn, str("b"), str("2")));
    must(cmb_txn_commit(txn, &info, &second));
    must(cmb_commit_read(b->store, "main", &commit));
    assert_true(same_name(&commit->id, &second.commit));
    assert_true(same_name(&commit->root, &second.root));
    assert_int_equal(commit->entries, 2);
    assert_int_equal(commit->generation, 2);
    assert_int_equal(commit->parent_count, 1);
    assert_true(same_name(&commit->parents[0], &first.commit));
    assert_int_equal(commit->time, 42);
    assert_string_equal(commit->author, "Ada <ada@example.org>");
    assert_string_equal(commit->message, "second\n\nring");
    cmb_commit_free(commit);
    must(cmb_commit_read(b->store, "main~", &commit));
    assert_int_equal(commit->parent_count, 0);
    assert_int_equal(commit->generation, 1);
    assert_true(commit->time >= 1700000000000000);
    cmb_commit_free(commit);
}

static void the_same_content_makes_no_commit_unless_that_is_wished(void **state)
{
    bed *b = *state;
    cmb_txn *txn;
    cmb_rev first = put(b->store, "main", "a", "1", "one"), again = put(b->store, "main", "a", "1", "two");
    assert_true(same_name(&first.commit, &again.commit));
    cmb_commit_info info = {.author = "ada", .message = "empty", .flags = CMB_COMMIT_EMPTY};
    must(cmb_txn_begin(b->store, "main", 0, &txn));
    must(cmb_txn_commit(txn, &info, &again));
    assert_false(same_name(&first.commit, &again.commit));
    assert_true(same_name(&first.root, &again.root));
}

static void a_working_state_has_no_id_and_is_no_ancestor(void **state)
{
    bed *b = *state;
    cmb_commit *commit;
    cmb_rev one = put(b->store, "main", "a", "1", "one"), working = put(b->store, "main", "b", "2", NULL);
    assert_true(working.working);
    assert_int_equal(working.commit.size, 0);
    assert_true(same_name(&working.base, &one.commit));
    must_be(cmb_commit_read(b->store, "main", &commit), CMB_EWORKING);
    cmb_rev below = rev_of(b->store, "main~1");
    assert_true(same_name(&below.commit, &one.commit));
    cmb_rev three = put(b->store, "main", "c", "3", "three");
    assert_int_equal(three.entries, 3);
    below = rev_of(b->store, "main~1");
    assert_true(same_name(&below.commit, &one.commit));
}

static void a_working_state_that_returns_to_its_commit_is_none(void **state)
{
    bed *b = *state;
    cmb_txn *txn;
    cmb_rev one = put(b->store, "main", "a", "1", "one"), rev;
    put(b->store, "main", "b", "2", NULL);
    must(cmb_txn_begin(b->store, "main", 0, &txn));
    must(cmb_txn_del(txn, str("b")));
    must(cmb_txn_commit(txn, NULL, &rev));
    assert_false(rev.working);
    assert_true(same_name(&rev.commit, &one.commit));
}

static void what_names_a_working_state_seals_it(void **state)
{
    bed *b = *state;
    cmb_rev one = put(b->store, "main", "a", "1", "one"), working = put(b->store, "main", "b", "2", NULL);
    must(cmb_branch_create(b->store, "side", "main"));
    cmb_rev main_now = rev_of(b->store, "main"), side = rev_of(b->store, "side"), below = rev_of(b->store, "side~");
    assert_false(main_now.working);
    assert_true(same_name(&main_now.commit, &side.commit));
    assert_true(same_name(&side.root, &working.root));
    assert_true(same_name(&below.commit, &one.commit));
    put(b->store, "side", "c", "3", NULL);
    must(cmb_tag_create(b->store, "v1", "side"));
    assert_false(rev_of(b->store, "side").working);
    expect(b->store, "v1", "c", "3");
}

static void sealing_goes_on_beside_a_transaction_on_the_branch(void **state)
{
    bed *b = *state;
    cmb_txn *txn;
    cmb_rev rev;
    cmb_commit_info info = {.message = "two"};
    put(b->store, "main", "a", "1", NULL);
    must(cmb_txn_begin(b->store, "main", 0, &txn));
    must(cmb_txn_put(txn, str("b"), str("2")));
    must(cmb_branch_create(b->store, "side", "main"));
    must(cmb_txn_commit(txn, &info, &rev));
    cmb_rev parent = rev_of(b->store, "main~1"), side = rev_of(b->store, "side");
    assert_true(same_name(&parent.commit, &side.commit));
    assert_int_equal(rev.entries, 2);
}

static void revisions_are_found_by_every_kind_of_name(void **state)
{
    bed *b = *state;
    char hex[80];
    cmb_rev rev, one = put(b->store, "main", "a", "1", "one"), two = put(b->store, "main", "b", "2", "two");
    must(cmb_tag_create(b->store, "v1", "main~1"));
    hex_of(&one.commit, hex);
    const char *names[] = {"v1", "tags/v1", "heads/main~1", "main^", "main^1", "main~", "main^0~1", hex};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        rev = rev_of(b->store, names[i]);
        assert_true(same_name(&rev.commit, &one.commit));
    }
    hex[7] = 0;
    rev = rev_of(b->store, hex);
    assert_true(same_name(&rev.commit, &one.commit));
    rev = rev_of(b->store, "main^{root}");
    assert_true(same_name(&rev.root, &two.root));
    assert_int_equal(rev.commit.size, 0);
    static const struct {
        const char *rev;
        int error;
    } wrong[] = {
        {"nothing", CMB_ENOTFOUND}, {"main~2", CMB_ENOTFOUND}, {"main^2", CMB_ENOTFOUND}, {"abc", CMB_ENOTFOUND},
        {"", CMB_ESYNTAX}, {"~1", CMB_ESYNTAX}, {"main~x", CMB_ESYNTAX}, {"main^{tree}", CMB_ESYNTAX},
        {"main~99999999999", CMB_ESYNTAX}, {"heads/", CMB_ENOTFOUND}, {"00000000000000000000000000000000", CMB_ENOTFOUND},
        {"tags/main", CMB_ENOTFOUND}, {NULL, CMB_EINVAL},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        must_be(cmb_rev_parse(b->store, wrong[i].rev, &rev), wrong[i].error);
}

static void an_ambiguous_prefix_lists_candidates(void **state)
{
    bed *b = *state;
    char prefixes[700][8], prefix[8] = "";
    cmb_rev rev;
    /* Four digits of 700 ids meet by chance. */
    for (int i = 0; i < 700 && !*prefix; i++) {
        char key[16], hex[80];
        snprintf(key, sizeof key, "k%d", i);
        rev = put(b->store, "main", key, "v", key);
        hex_of(&rev.commit, hex);
        memcpy(prefixes[i], hex, 4);
        prefixes[i][4] = 0;
        for (int k = 0; k < i && !*prefix; k++)
            if (!strcmp(prefixes[k], prefixes[i]))
                memcpy(prefix, prefixes[i], 5);
    }
    assert_true(*prefix);
    must_be(cmb_rev_parse(b->store, prefix, &rev), CMB_EAMBIGUOUS);
    assert_non_null(strstr(cmb_error_detail(), prefix));
}

static void branches_are_made_moved_and_deleted(void **state)
{
    bed *b = *state;
    cmb_rev rev, one = put(b->store, "main", "a", "1", "one");
    put(b->store, "main", "b", "2", "two");
    must(cmb_branch_create(b->store, "old", "main~1"));
    must_be(cmb_branch_create(b->store, "old", "main"), CMB_EEXIST);
    must_be(cmb_branch_create(b->store, "x", "nothing"), CMB_ENOTFOUND);
    must_be(cmb_branch_create(b->store, "x", "main^{root}"), CMB_EINVAL);
    must_be(cmb_branch_create(b->store, "a b", "main"), CMB_EINVAL);
    must_be(cmb_branch_set(b->store, "none", "main"), CMB_ENOTFOUND);
    must_be(cmb_branch_set(b->store, "old", NULL), CMB_EINVAL);
    must_be(cmb_branch_delete(b->store, "none"), CMB_ENOTFOUND);
    rev = rev_of(b->store, "old");
    assert_true(same_name(&rev.commit, &one.commit));
    must(cmb_branch_set(b->store, "old", "main"));
    expect(b->store, "old", "b", "2");
    must(cmb_branch_delete(b->store, "old"));
    must_be(cmb_rev_parse(b->store, "old", &rev), CMB_ENOTFOUND);
    must(cmb_branch_create(b->store, "old", NULL));
    assert_int_equal(rev_of(b->store, "old").entries, 0);
    bed_reopen(b);
    assert_int_equal(rev_of(b->store, "old").entries, 0);
}

static void compare_and_set_moves_only_what_stands_as_expected(void **state)
{
    bed *b = *state;
    cmb_rev one = put(b->store, "main", "a", "1", "one"), working;
    put(b->store, "main", "b", "2", "two");
    must(cmb_branch_create(b->store, "x", "main~1"));
    must(cmb_branch_compare_and_set(b->store, "x", &one, "main"));
    must_be(cmb_branch_compare_and_set(b->store, "x", &one, "main~1"), CMB_ECONFLICT);
    working = put(b->store, "x", "c", "3", NULL);
    must_be(cmb_branch_compare_and_set(b->store, "x", &one, "main"), CMB_ECONFLICT);
    must(cmb_branch_compare_and_set(b->store, "x", &working, "main"));
    expect(b->store, "x", "c", NULL);
}

static void tags_name_commits(void **state)
{
    bed *b = *state;
    cmb_rev rev;
    must_be(cmb_tag_create(b->store, "v0", "main"), CMB_ENOTFOUND);
    put(b->store, "main", "a", "1", "one");
    must(cmb_tag_create(b->store, "v1", "main"));
    must_be(cmb_tag_create(b->store, "v1", "main"), CMB_EEXIST);
    put(b->store, "main", "a", "2", "two");
    expect(b->store, "v1", "a", "1");
    must(cmb_tag_set(b->store, "v1", "main"));
    expect(b->store, "v1", "a", "2");
    must_be(cmb_tag_set(b->store, "v2", "main"), CMB_ENOTFOUND);
    must(cmb_tag_delete(b->store, "v1"));
    must_be(cmb_rev_parse(b->store, "v1", &rev), CMB_ENOTFOUND);
    must_be(cmb_tag_delete(b->store, "v1"), CMB_ENOTFOUND);
}

static int collect(void *ctx, const cmb_ref *ref)
{
    char *list = ctx;
    snprintf(list + strlen(list), 200 - strlen(list), "%s%s,", ref->tag ? "tag:" : "", ref->name);
    return strcmp(ref->name, "stop") == 0;
}

static void lists_are_in_order_and_can_be_stopped(void **state)
{
    bed *b = *state;
    char list[200] = "";
    put(b->store, "main", "a", "1", "one");
    must(cmb_branch_create(b->store, "zoo", "main"));
    must(cmb_branch_create(b->store, "a/b", "main"));
    must(cmb_tag_create(b->store, "v1", "main"));
    must(cmb_branch_list(b->store, collect, list));
    assert_string_equal(list, "a/b,main,zoo,");
    *list = 0;
    must(cmb_tag_list(b->store, collect, list));
    assert_string_equal(list, "tag:v1,");
    must(cmb_branch_create(b->store, "stop", "main"));
    *list = 0;
    must_be(cmb_branch_list(b->store, collect, list), CMB_ESTOPPED);
    assert_string_equal(list, "a/b,main,stop,");
}

static int collect_log(void *ctx, const cmb_commit *commit)
{
    char *list = ctx;
    snprintf(list + strlen(list), 200 - strlen(list), "%s,", commit->message);
    return strcmp(commit->message, "stop") == 0;
}

static void the_log_follows_first_parents(void **state)
{
    bed *b = *state;
    char list[200] = "";
    put(b->store, "main", "a", "1", "one");
    put(b->store, "main", "a", "2", "stop");
    put(b->store, "main", "a", "3", "three");
    put(b->store, "main", "a", "4", NULL);
    must_be(cmb_log_first_parents(b->store, "main", collect_log, list), CMB_ESTOPPED);
    assert_string_equal(list, "three,stop,");
    *list = 0;
    must(cmb_log_first_parents(b->store, "main~3", collect_log, list));
    assert_string_equal(list, "one,");
}

static void thousands_of_branches_survive_folding_and_reopening(void **state)
{
    bed *b = *state;
    char name[32];
    put(b->store, "main", "a", "1", "one");
    for (int i = 0; i < 5000; i++) { /* more than the cache of refs holds */
        snprintf(name, sizeof name, "b/%d", i);
        must(cmb_branch_create(b->store, name, i % 2 ? "main" : NULL));
    }
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 5000; i += 7) {
            snprintf(name, sizeof name, "b/%d", i);
            assert_int_equal(rev_of(b->store, name).entries, i % 2);
        }
        bed_reopen(b);
    }
}

/* ---- the reflog ---- */

typedef struct trail {
    cmb_reflog_entry entries[CMB_REFLOG_MAX + 10];
    size_t n, stop_at;
} trail;

static int note_entry(void *ctx, const cmb_reflog_entry *entry)
{
    trail *t = ctx;
    t->entries[t->n++] = *entry;
    return t->n == t->stop_at;
}

static void expect_entry(const cmb_reflog_entry *e, cmb_reflog_reason reason, const cmb_name *before, const cmb_name *after)
{
    assert_int_equal(e->reason, reason);
    assert_int_equal(e->before.size, before ? before->size : 0);
    assert_int_equal(e->after.size, after ? after->size : 0);
    assert_true(!before || same_name(&e->before, before));
    assert_true(!after || same_name(&e->after, after));
}

static void the_reflog_tells_where_a_branch_stood_newest_first(void **state)
{
    bed *b = *state;
    trail t = {.n = 0};
    cmb_name one = put(b->store, "main", "a", "1", "one").commit;
    put(b->store, "main", "a", "working", NULL); /* leaves no trace */
    must(cmb_branch_create(b->store, "side", "main")); /* seals main */
    cmb_name sealed = rev_of(b->store, "main").commit;
    must(cmb_branch_set(b->store, "side", "main~1"));
    must(cmb_branch_delete(b->store, "side"));
    for (int round = 0; round < 2; round++) {
        t.n = 0;
        must(cmb_reflog(b->store, "side", note_entry, &t));
        assert_int_equal(t.n, 3);
        expect_entry(&t.entries[0], CMB_REFLOG_DELETED, &one, NULL);
        expect_entry(&t.entries[1], CMB_REFLOG_SET, &sealed, &one);
        expect_entry(&t.entries[2], CMB_REFLOG_CREATED, NULL, &sealed);
        t.n = 0;
        must(cmb_reflog(b->store, "heads/main", note_entry, &t));
        assert_int_equal(t.n, 3);
        expect_entry(&t.entries[0], CMB_REFLOG_SEALED, &one, &sealed);
        expect_entry(&t.entries[1], CMB_REFLOG_COMMITTED, NULL, &one);
        expect_entry(&t.entries[2], CMB_REFLOG_CREATED, NULL, NULL);
        assert_true(t.entries[0].time >= t.entries[1].time);
        bed_reopen(b);
    }
    t = (trail){.stop_at = 1};
    must_be(cmb_reflog(b->store, "main", note_entry, &t), CMB_ESTOPPED);
    must_be(cmb_reflog(b->store, "never", note_entry, &t), CMB_ENOTFOUND);
    must_be(cmb_reflog(b->store, "a..b", note_entry, &t), CMB_EINVAL);
}

static void the_reflog_keeps_the_newest_entries_of_each_ref(void **state)
{
    bed *b = *state;
    static trail t;
    char value[32];
    put(b->store, "main", "a", "first", "first");
    must(cmb_branch_create(b->store, "quiet", "main"));
    for (unsigned i = 0; i < CMB_REFLOG_MAX + 5; i++) {
        snprintf(value, sizeof value, "%u", i);
        put(b->store, "main", "a", value, "again");
        if (i == CMB_REFLOG_MAX / 2)
            bed_reopen(b);
    }
    bed_reopen(b);
    put(b->store, "main", "a", "folded", "the first write after an open folds the tables");
    t = (trail){.n = 0};
    must(cmb_reflog(b->store, "main", note_entry, &t));
    assert_in_range(t.n, CMB_REFLOG_MAX, CMB_REFLOG_MAX + 1);
    for (size_t i = 1; i < t.n; i++)
        assert_true(same_name(&t.entries[i].after, &t.entries[i - 1].before));
    t = (trail){.n = 0};
    must(cmb_reflog(b->store, "quiet", note_entry, &t));
    assert_int_equal(t.n, 1);
}

#define with_bed(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_follow_gits_rules),
        with_bed(the_longest_name_makes_a_branch),
        with_bed(a_new_image_has_an_empty_main_without_a_commit),
        with_bed(commits_have_parents_generations_times_and_texts),
        with_bed(the_same_content_makes_no_commit_unless_that_is_wished),
        with_bed(a_working_state_has_no_id_and_is_no_ancestor),
        with_bed(a_working_state_that_returns_to_its_commit_is_none),
        with_bed(what_names_a_working_state_seals_it),
        with_bed(sealing_goes_on_beside_a_transaction_on_the_branch),
        with_bed(revisions_are_found_by_every_kind_of_name),
        with_bed(an_ambiguous_prefix_lists_candidates),
        with_bed(branches_are_made_moved_and_deleted),
        with_bed(compare_and_set_moves_only_what_stands_as_expected),
        with_bed(tags_name_commits),
        with_bed(lists_are_in_order_and_can_be_stopped),
        with_bed(the_log_follows_first_parents),
        with_bed(the_reflog_tells_where_a_branch_stood_newest_first),
        with_bed(the_reflog_keeps_the_newest_entries_of_each_ref),
        with_bed(thousands_of_branches_survive_folding_and_reopening),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
