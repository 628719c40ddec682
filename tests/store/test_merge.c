/* SPDX-License-Identifier: ISC */
/* Merges: sides, common ancestors, answers, conflicts and their resolution, revert and cherry-pick. */
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

static cmb_rev del(cmb_store *store, const char *branch, const char *key, const char *message)
{
    cmb_txn *txn;
    cmb_rev rev;
    cmb_commit_info info = {.author = "ada", .message = message};
    must(cmb_txn_begin(store, branch, 0, &txn));
    must(cmb_txn_del(txn, str(key)));
    must(cmb_txn_commit(txn, message ? &info : NULL, &rev));
    return rev;
}

static cmb_merge_result merge_with(cmb_store *store, const char *branch, const char *rev, cmb_merge_fn fn, void *ctx,
                                   uint32_t flags)
{
    cmb_commit_info info = {.author = "ada", .message = "merge", .flags = flags};
    cmb_merge_result result;
    must(cmb_merge(store, branch, rev, fn, ctx, &info, &result));
    assert_true((result.open != NULL) == (result.kind == CMB_MERGE_CONFLICTS));
    cmb_rev now = rev_of(store, branch);
    assert_true(same_name(&now.root, &result.rev.root) && same_name(&now.commit, &result.rev.commit));
    return result;
}

static cmb_merge_result merge(cmb_store *store, const char *branch, const char *rev)
{
    return merge_with(store, branch, rev, NULL, NULL, 0);
}

/* Two branches that have one key in common and a key each. */
static void diverge(cmb_store *store)
{
    put(store, "main", "both", "1", "base");
    must(cmb_branch_create(store, "side", "main"));
    put(store, "main", "mine", "1", "mine");
    put(store, "side", "theirs", "1", "theirs");
}

/* ---- the sides ---- */

static void what_is_merged_already_is_up_to_date(void **state)
{
    bed *b = *state;
    put(b->store, "main", "a", "1", "one");
    must(cmb_branch_create(b->store, "side", "main"));
    assert_int_equal(merge(b->store, "main", "side").kind, CMB_MERGE_UP_TO_DATE);
    cmb_rev two = put(b->store, "main", "a", "2", "two");
    cmb_merge_result r = merge(b->store, "main", "side");
    assert_int_equal(r.kind, CMB_MERGE_UP_TO_DATE);
    assert_true(same_name(&r.rev.commit, &two.commit));
    put(b->store, "main", "w", "1", NULL);
    r = merge(b->store, "main", "side");
    assert_int_equal(r.kind, CMB_MERGE_UP_TO_DATE);
    assert_true(r.rev.working);
    must(cmb_branch_create(b->store, "empty", NULL));
    assert_int_equal(merge(b->store, "main", "empty").kind, CMB_MERGE_UP_TO_DATE);
    assert_int_equal(merge(b->store, "empty", "empty").kind, CMB_MERGE_UP_TO_DATE);
    assert_int_equal(merge(b->store, "main", "main").kind, CMB_MERGE_UP_TO_DATE);
}

static void a_branch_that_is_behind_moves_forward(void **state)
{
    bed *b = *state;
    put(b->store, "main", "a", "1", "one");
    must(cmb_branch_create(b->store, "side", "main"));
    must(cmb_branch_create(b->store, "new", NULL));
    put(b->store, "side", "b", "1", "two");
    cmb_rev three = put(b->store, "side", "c", "1", "three");
    cmb_merge_result r = merge(b->store, "main", "side");
    assert_int_equal(r.kind, CMB_MERGE_FAST_FORWARD);
    assert_true(same_name(&r.rev.commit, &three.commit));
    assert_int_equal(merge(b->store, "new", "side~").kind, CMB_MERGE_FAST_FORWARD);
    assert_int_equal(merge_with(b->store, "new", "side", NULL, NULL, CMB_MERGE_FF_ONLY).kind, CMB_MERGE_FAST_FORWARD);
    bed_reopen(b);
    expect(b->store, "main", "c", "1");
    expect(b->store, "new", "c", "1");
}

static void a_merge_commit_can_be_wished_or_forbidden(void **state)
{
    bed *b = *state;
    cmb_commit *commit;
    cmb_merge_result r;
    cmb_rev one = put(b->store, "main", "a", "1", "one");
    must(cmb_branch_create(b->store, "side", "main"));
    cmb_rev two = put(b->store, "side", "b", "1", "two");
    r = merge_with(b->store, "main", "side", NULL, NULL, CMB_MERGE_NO_FF);
    assert_int_equal(r.kind, CMB_MERGE_MERGED);
    assert_true(same_name(&r.rev.root, &two.root));
    must(cmb_commit_read(b->store, "main", &commit));
    assert_int_equal(commit->parent_count, 2);
    assert_true(same_name(&commit->parents[0], &one.commit) && same_name(&commit->parents[1], &two.commit));
    assert_int_equal(commit->generation, 3);
    assert_string_equal(commit->message, "merge");
    cmb_commit_free(commit);
    put(b->store, "side", "c", "1", "three");
    r = merge_with(b->store, "main", "side", NULL, NULL, CMB_MERGE_FF_ONLY);
    assert_int_equal(r.kind, CMB_MERGE_DIVERGED);
    cmb_commit_info both = {.flags = CMB_MERGE_NO_FF | CMB_MERGE_FF_ONLY}, unknown = {.flags = 1u << 20};
    must_be(cmb_merge(b->store, "main", "side", NULL, NULL, &both, &r), CMB_EINVAL);
    must_be(cmb_merge(b->store, "main", "side", NULL, NULL, &unknown, &r), CMB_EINVAL);
    must_be(cmb_merge(b->store, "main", "side", NULL, NULL, NULL, NULL), CMB_EINVAL);
    must_be(cmb_merge(b->store, "main", "nothing", NULL, NULL, NULL, &r), CMB_ENOTFOUND);
    must_be(cmb_merge(b->store, "nothing", "main", NULL, NULL, NULL, &r), CMB_ENOTFOUND);
    must_be(cmb_merge(b->store, "main", "side^{root}", NULL, NULL, NULL, &r), CMB_EINVAL);
}

static void what_either_side_changed_is_in_the_merge(void **state)
{
    bed *b = *state;
    cmb_commit *commit;
    put(b->store, "main", "gone", "1", "base");
    diverge(b->store);
    del(b->store, "side", "gone", "deleted");
    cmb_rev mine = rev_of(b->store, "main"), theirs = rev_of(b->store, "side");
    cmb_merge_result r = merge(b->store, "main", "side");
    assert_int_equal(r.kind, CMB_MERGE_MERGED);
    assert_int_equal(r.clashes, 0);
    assert_int_equal(r.rev.entries, 3);
    expect(b->store, "main", "mine", "1");
    expect(b->store, "main", "theirs", "1");
    expect(b->store, "main", "gone", NULL);
    must(cmb_commit_read(b->store, "main", &commit));
    assert_int_equal(commit->parent_count, 2);
    assert_true(same_name(&commit->parents[0], &mine.commit) && same_name(&commit->parents[1], &theirs.commit));
    cmb_commit_free(commit);
    bed_reopen(b);
    expect(b->store, "main", "theirs", "1");
    assert_int_equal(merge(b->store, "side", "main").kind, CMB_MERGE_FAST_FORWARD);
}

static void working_states_on_either_side_are_sealed(void **state)
{
    bed *b = *state;
    diverge(b->store);
    put(b->store, "main", "w", "mine", NULL);
    put(b->store, "side", "v", "theirs", NULL);
    cmb_merge_result r = merge(b->store, "main", "side");
    assert_int_equal(r.kind, CMB_MERGE_MERGED);
    assert_false(rev_of(b->store, "side").working);
    cmb_rev second = rev_of(b->store, "main^2"), side = rev_of(b->store, "side"), first = rev_of(b->store, "main^1");
    assert_true(same_name(&second.commit, &side.commit));
    assert_int_equal(first.entries, 3);
    expect(b->store, "main", "w", "mine");
    expect(b->store, "main", "v", "theirs");
    expect(b->store, "main~2", "mine", "1");
}

static void a_working_state_without_history_is_merged_as_well(void **state)
{
    bed *b = *state;
    must(cmb_branch_create(b->store, "side", NULL));
    put(b->store, "main", "a", "1", NULL);
    put(b->store, "side", "b", "1", NULL);
    assert_int_equal(merge(b->store, "main", "side").kind, CMB_MERGE_MERGED);
    expect(b->store, "main", "a", "1");
    expect(b->store, "main", "b", "1");
}

static void unrelated_histories_have_an_empty_ancestor(void **state)
{
    bed *b = *state;
    must(cmb_branch_create(b->store, "side", NULL));
    put(b->store, "main", "a", "1", "one");
    put(b->store, "main", "same", "1", "one");
    put(b->store, "side", "b", "1", "other");
    put(b->store, "side", "same", "1", "other");
    assert_int_equal(merge(b->store, "main", "side").kind, CMB_MERGE_MERGED);
    assert_int_equal(rev_of(b->store, "main").entries, 3);
    must(cmb_branch_create(b->store, "third", NULL));
    put(b->store, "third", "a", "2", "third");
    cmb_merge_result r = merge(b->store, "main", "third");
    assert_int_equal(r.kind, CMB_MERGE_CONFLICTS);
    assert_int_equal(cmb_merging_count(r.open), 1);
    cmb_merging_abort(r.open);
}

static void a_tag_and_a_commit_can_be_merged(void **state)
{
    bed *b = *state;
    char hex[80];
    diverge(b->store);
    cmb_rev side = rev_of(b->store, "side");
    must(cmb_tag_create(b->store, "v1", "side"));
    must(cmb_branch_create(b->store, "other", "main"));
    assert_int_equal(merge(b->store, "main", "v1").kind, CMB_MERGE_MERGED);
    hex_of(&side.commit, hex);
    assert_int_equal(merge(b->store, "other", hex).kind, CMB_MERGE_MERGED);
    cmb_rev one = rev_of(b->store, "main"), other = rev_of(b->store, "other");
    assert_true(same_name(&one.root, &other.root));
}

/* ---- asking ---- */

typedef struct script {
    int answer;
    const char *value;
    unsigned calls, inner;
    char keys[64];
    cmb_presence base, mine, theirs;
    char texts[3][32];
} script;

static int answer(void *ctx, cmb_clash *clash, cmb_bytes *out_value)
{
    script *s = ctx;
    cmb_bytes key = cmb_clash_key(clash), value;
    s->calls += !cmb_clash_is_inner(clash);
    s->inner += cmb_clash_is_inner(clash);
    strncat(s->keys, key.data, key.size);
    s->base = cmb_clash_presence(clash, CMB_SIDE_BASE);
    s->mine = cmb_clash_presence(clash, CMB_SIDE_MINE);
    s->theirs = cmb_clash_presence(clash, CMB_SIDE_THEIRS);
    for (int i = 0; i < 3; i++) {
        s->texts[i][0] = 0;
        int error = cmb_clash_value(clash, (cmb_clash_side)i, &value);
        if (error) {
            must_be(error, CMB_ENOTFOUND);
            assert_int_equal(cmb_clash_size(clash, (cmb_clash_side)i), 0);
            continue;
        }
        assert_int_equal(cmb_clash_size(clash, (cmb_clash_side)i), value.size);
        memcpy(s->texts[i], value.data, value.size < 31 ? value.size : 31);
        s->texts[i][value.size < 31 ? value.size : 31] = 0;
    }
    if (s->value) {
        char *room = cmb_clash_memory(clash, strlen(s->value));
        memcpy(room, s->value, strlen(s->value));
        *out_value = (cmb_bytes){room, strlen(s->value)};
    }
    return s->answer;
}

static void clash(cmb_store *store)
{
    put(store, "main", "k", "base", "base");
    must(cmb_branch_create(store, "side", "main"));
    put(store, "main", "k", "mine", "mine");
    put(store, "main", "m", "1", "mine");
    put(store, "side", "k", "theirs", "theirs");
    put(store, "side", "t", "1", "theirs");
}

static void only_keys_that_both_changed_differently_are_asked_about(void **state)
{
    bed *b = *state;
    script s = {.answer = CMB_ANSWER_MINE};
    clash(b->store);
    put(b->store, "main", "alike", "1", "mine");
    put(b->store, "side", "alike", "1", "theirs");
    cmb_merge_result r = merge_with(b->store, "main", "side", answer, &s, 0);
    assert_int_equal(r.kind, CMB_MERGE_MERGED);
    assert_int_equal(r.clashes, 1);
    assert_int_equal(s.calls, 1);
    assert_string_equal(s.keys, "k");
    assert_string_equal(s.texts[CMB_SIDE_BASE], "base");
    assert_string_equal(s.texts[CMB_SIDE_MINE], "mine");
    assert_string_equal(s.texts[CMB_SIDE_THEIRS], "theirs");
    expect(b->store, "main", "k", "mine");
    expect(b->store, "main", "t", "1");
    expect(b->store, "main", "m", "1");
}

static void every_answer_is_what_becomes_of_the_key(void **state)
{
    static const struct {
        int answer;
        const char *value, *expected;
    } table[] = {
        {CMB_ANSWER_MINE, NULL, "mine"}, {CMB_ANSWER_THEIRS, NULL, "theirs"}, {CMB_ANSWER_VALUE, "new", "new"},
        {CMB_ANSWER_VALUE, "", ""}, {CMB_ANSWER_DELETE, NULL, NULL},
    };
    bed *b = *state;
    clash(b->store);
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        for (int turned = 0; turned < 2; turned++) {
            char name[16];
            script s = {.answer = table[i].answer, .value = table[i].value};
            snprintf(name, sizeof name, "b%zu%d", i, turned);
            must(cmb_branch_create(b->store, name, turned ? "side" : "main"));
            assert_int_equal(merge_with(b->store, name, turned ? "main" : "side", answer, &s, 0).kind,
                             CMB_MERGE_MERGED);
            const char *expected = table[i].expected;
            if (turned && s.answer == CMB_ANSWER_MINE)
                expected = "theirs";
            if (turned && s.answer == CMB_ANSWER_THEIRS)
                expected = "mine";
            expect(b->store, name, "k", expected);
            expect(b->store, name, "t", "1");
        }
    }
}

static void a_deletion_against_a_change_is_asked_about(void **state)
{
    bed *b = *state;
    script s = {.answer = CMB_ANSWER_MINE}, t = {.answer = CMB_ANSWER_THEIRS};
    clash(b->store);
    del(b->store, "main", "k", "deleted");
    must(cmb_branch_create(b->store, "other", "main"));
    merge_with(b->store, "main", "side", answer, &s, 0);
    assert_int_equal(s.mine, CMB_ABSENT);
    assert_int_equal(s.theirs, CMB_PRESENT);
    assert_int_equal(s.base, CMB_PRESENT);
    expect(b->store, "main", "k", NULL);
    merge_with(b->store, "other", "side", answer, &t, 0);
    expect(b->store, "other", "k", "theirs");
}

static void a_merge_function_that_fails_leaves_the_branch_where_it_was(void **state)
{
    bed *b = *state;
    cmb_merge_result r;
    script s = {.answer = CMB_EIO};
    clash(b->store);
    cmb_rev before = rev_of(b->store, "main");
    must_be(cmb_merge(b->store, "main", "side", answer, &s, NULL, &r), CMB_EIO);
    s.answer = CMB_ANSWER_KEEP;
    must_be(cmb_merge(b->store, "main", "side", answer, &s, NULL, &r), CMB_EINVAL);
    s.answer = 77;
    must_be(cmb_merge(b->store, "main", "side", answer, &s, NULL, &r), CMB_EINVAL);
    cmb_rev after = rev_of(b->store, "main");
    assert_true(same_name(&before.commit, &after.commit));
    put(b->store, "main", "x", "1", "others may write");
}

static int write_to_the_branch(void *ctx, cmb_clash *clash, cmb_bytes *out_value)
{
    cmb_store *store = ctx;
    cmb_txn *txn;
    (void)clash, (void)out_value;
    must_be(cmb_txn_begin(store, "main", 0, &txn), CMB_EBUSY);
    put(store, "elsewhere", "x", "1", "a merge function may write to another branch");
    return CMB_ANSWER_THEIRS;
}

static void a_merge_holds_the_branchs_writing_turn(void **state)
{
    bed *b = *state;
    cmb_txn *txn;
    cmb_merge_result r;
    clash(b->store);
    must(cmb_branch_create(b->store, "elsewhere", NULL));
    assert_int_equal(merge_with(b->store, "main", "side", write_to_the_branch, b->store, 0).kind, CMB_MERGE_MERGED);
    expect(b->store, "elsewhere", "x", "1");
    put(b->store, "side", "y", "1", "more");
    must(cmb_txn_begin(b->store, "main", 0, &txn));
    must_be(cmb_merge(b->store, "main", "side", NULL, NULL, NULL, &r), CMB_EBUSY);
    cmb_txn_abort(txn);
}

static void an_image_that_is_only_read_refuses_to_merge(void **state)
{
    bed *b = *state;
    cmb_merge_result r;
    clash(b->store);
    must(cmb_store_close(b->store));
    b->options.read_only = true;
    must(cmb_store_open_device(b->dev, &b->options, &b->store));
    must_be(cmb_merge(b->store, "main", "side", NULL, NULL, NULL, &r), CMB_EREADONLY);
}

/* ---- conflicts ---- */

static void many_conflicts(cmb_store *store, unsigned n)
{
    static const char *const branches[] = {"main", "side"};
    char key[16];
    cmb_txn *txn;
    cmb_commit_info info = {.message = "change"};
    must(cmb_txn_begin(store, "main", 0, &txn));
    for (unsigned i = 0; i < n; i++) {
        snprintf(key, sizeof key, "k%05u", i);
        must(cmb_txn_put(txn, str(key), str("base")));
    }
    must(cmb_txn_commit(txn, &info, NULL));
    must(cmb_branch_create(store, "side", "main"));
    for (int s = 0; s < 2; s++) {
        must(cmb_txn_begin(store, branches[s], 0, &txn));
        for (unsigned i = 0; i < n; i++) {
            snprintf(key, sizeof key, "k%05u", i);
            must(cmb_txn_put(txn, str(key), str(branches[s])));
        }
        must(cmb_txn_put(txn, str(branches[s]), str("1")));
        must(cmb_txn_commit(txn, &info, NULL));
    }
}

static void conflicts_move_nothing_and_come_back_with_their_values(void **state)
{
    bed *b = *state;
    cmb_clash *c;
    cmb_bytes value;
    bool resolved;
    many_conflicts(b->store, 5);
    cmb_rev before = rev_of(b->store, "main");
    cmb_merge_result r = merge(b->store, "main", "side");
    assert_int_equal(r.kind, CMB_MERGE_CONFLICTS);
    assert_true(same_name(&r.rev.commit, &before.commit));
    assert_int_equal(cmb_merging_count(r.open), 5);
    assert_int_equal(cmb_merging_unresolved(r.open), 5);
    for (unsigned i = 0; i < 5; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%05u", i);
        must(cmb_merging_conflict(r.open, i, &c, &resolved));
        assert_false(resolved);
        assert_int_equal(cmb_clash_key(c).size, 6);
        assert_memory_equal(cmb_clash_key(c).data, key, 6);
        must(cmb_clash_value(c, CMB_SIDE_BASE, &value));
        assert_memory_equal(value.data, "base", 4);
        must(cmb_clash_value(c, CMB_SIDE_THEIRS, &value));
        assert_memory_equal(value.data, "side", 4);
        must(cmb_clash_value(c, CMB_SIDE_MINE, &value));
        assert_memory_equal(value.data, "main", 4);
        assert_false(cmb_clash_is_inner(c));
    }
    must_be(cmb_merging_conflict(r.open, 5, &c, &resolved), CMB_ENOTFOUND);
    must_be(cmb_merging_finish(r.open, NULL, NULL), CMB_EINVAL);
    cmb_merging_abort(r.open);
    cmb_merging_abort(NULL);
    put(b->store, "main", "x", "1", "others may write");
}

static void resolutions_finish_the_merge(void **state)
{
    bed *b = *state;
    cmb_rev rev;
    cmb_commit *commit;
    cmb_commit_info info = {.author = "ada", .message = "resolved"};
    cmb_bytes none = {NULL, 0};
    many_conflicts(b->store, 6);
    cmb_merge_result r = merge(b->store, "main", "side");
    must_be(cmb_merging_resolve(r.open, str("main"), CMB_ANSWER_MINE, none), CMB_ENOTFOUND);
    must_be(cmb_merging_resolve(r.open, str("k00000"), CMB_ANSWER_CONFLICT, none), CMB_EINVAL);
    must(cmb_merging_resolve(r.open, str("k00000"), CMB_ANSWER_MINE, none));
    must(cmb_merging_resolve(r.open, str("k00001"), CMB_ANSWER_THEIRS, none));
    must(cmb_merging_resolve(r.open, str("k00002"), CMB_ANSWER_VALUE, str("new")));
    must(cmb_merging_resolve(r.open, str("k00003"), CMB_ANSWER_DELETE, none));
    must(cmb_merging_resolve(r.open, str("k00004"), CMB_ANSWER_VALUE, str("no")));
    must(cmb_merging_resolve(r.open, str("k00004"), CMB_ANSWER_THEIRS, none));
    assert_int_equal(cmb_merging_unresolved(r.open), 1);
    must_be(cmb_merging_finish(r.open, &info, &rev), CMB_EINVAL);
    must(cmb_txn_put(cmb_merging_txn(r.open), str("k00005"), str("written")));
    must(cmb_txn_put(cmb_merging_txn(r.open), str("more"), str("1")));
    must(cmb_merging_resolve(r.open, str("k00005"), CMB_ANSWER_KEEP, none));
    must(cmb_merging_finish(r.open, &info, &rev));
    static const char *const expected[] = {"main", "side", "new", NULL, "side", "written"};
    bed_reopen(b);
    for (unsigned i = 0; i < 6; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%05u", i);
        expect(b->store, "main", key, expected[i]);
    }
    expect(b->store, "main", "more", "1");
    expect(b->store, "main", "main", "1");
    expect(b->store, "main", "side", "1");
    must(cmb_commit_read(b->store, "main", &commit));
    assert_int_equal(commit->parent_count, 2);
    assert_string_equal(commit->message, "resolved");
    cmb_commit_free(commit);
}

static void a_merge_whose_branch_has_moved_does_not_land(void **state)
{
    bed *b = *state;
    cmb_bytes none = {NULL, 0};
    cmb_txn *txn;
    many_conflicts(b->store, 1);
    cmb_merge_result r = merge(b->store, "main", "side"), again;
    must(cmb_merging_resolve(r.open, str("k00000"), CMB_ANSWER_MINE, none));
    must(cmb_txn_begin(b->store, "main", 0, &txn));
    must_be(cmb_merging_finish(r.open, NULL, NULL), CMB_EBUSY);
    cmb_txn_abort(txn);
    again = merge(b->store, "main", "side");
    must(cmb_merging_resolve(again.open, str("k00000"), CMB_ANSWER_THEIRS, none));
    must(cmb_merging_finish(again.open, NULL, NULL));
    must_be(cmb_merging_finish(r.open, NULL, NULL), CMB_ECONFLICT);
    must(cmb_branch_delete(b->store, "main"));
    must_be(cmb_merging_finish(r.open, NULL, NULL), CMB_ENOTFOUND);
    cmb_merging_abort(r.open);
}

static void conflicts_take_no_more_memory_than_a_transaction_may(void **state)
{
    bed b;
    cmb_merge_result r;
    (void)state;
    memset(&b, 0, sizeof b);
    b.options.txn_memory = 20000;
    bed_open_with(&b, 0, NULL);
    many_conflicts(b.store, 1000);
    must_be(cmb_merge(b.store, "main", "side", NULL, NULL, NULL, &r), CMB_ETOOBIG);
    put(b.store, "main", "x", "1", "the branch is free");
    bed_close(&b);
}

/* ---- large values ---- */

static void fill(uint8_t *data, size_t size, uint8_t seed)
{
    for (size_t i = 0; i < size; i++)
        data[i] = (uint8_t)(seed + i * 7 + i / 251);
}

static void put_large(cmb_store *store, const char *branch, const uint8_t *data, size_t size)
{
    cmb_txn *txn;
    cmb_commit_info info = {.message = "large"};
    must(cmb_txn_begin(store, branch, 0, &txn));
    must(cmb_txn_put(txn, str("large"), (cmb_bytes){data, size}));
    must(cmb_txn_commit(txn, &info, NULL));
}

static void expect_large(cmb_store *store, const char *rev, const uint8_t *data, size_t size)
{
    cmb_snapshot *snapshot;
    cmb_bytes got;
    must(cmb_snapshot_open(store, rev, &snapshot));
    must(cmb_get(snapshot, str("large"), &got));
    assert_int_equal(got.size, size);
    assert_memory_equal(got.data, data, size);
    cmb_snapshot_close(snapshot);
}

static void values_out_of_line_are_carried_over_compared_and_read(void **state)
{
    bed *b = *state;
    const size_t size = 700000;
    uint8_t *data[3], *piece = malloc(1000);
    cmb_clash *c;
    cmb_value_stream *stream;
    cmb_bytes value, none = {NULL, 0};
    size_t got;
    for (int i = 0; i < 3; i++)
        fill(data[i] = malloc(size), size, (uint8_t)(i * 50));
    put_large(b->store, "main", data[0], size);
    must(cmb_branch_create(b->store, "side", "main"));
    must(cmb_branch_create(b->store, "still", "main"));
    put(b->store, "still", "x", "1", "still");
    put_large(b->store, "side", data[1], size);
    assert_int_equal(merge(b->store, "still", "side").kind, CMB_MERGE_MERGED);
    expect_large(b->store, "still", data[1], size);
    put_large(b->store, "main", data[2], size - 1);
    cmb_merge_result r = merge(b->store, "main", "side");
    assert_int_equal(r.kind, CMB_MERGE_CONFLICTS);
    must(cmb_merging_conflict(r.open, 0, &c, NULL));
    assert_int_equal(cmb_clash_size(c, CMB_SIDE_MINE), size - 1);
    for (int i = 0; i < 3; i++) {
        static const int order[] = {CMB_SIDE_BASE, CMB_SIDE_THEIRS, CMB_SIDE_MINE};
        must(cmb_clash_value(c, (cmb_clash_side)order[i], &value));
        assert_memory_equal(value.data, data[i], size - 1);
    }
    must(cmb_clash_value_open(c, CMB_SIDE_THEIRS, &stream));
    must(cmb_value_read(stream, 600000, piece, 1000, &got));
    assert_memory_equal(piece, data[1] + 600000, 1000);
    cmb_value_close(stream);
    must(cmb_merging_resolve(r.open, str("large"), CMB_ANSWER_THEIRS, none));
    must(cmb_merging_finish(r.open, NULL, NULL));
    expect_large(b->store, "main", data[1], size);
    bed_reopen(b);
    expect_large(b->store, "main", data[1], size);
    for (int i = 0; i < 3; i++)
        free(data[i]);
    free(piece);
}

/* ---- several ancestors ---- */

static void commit_on(cmb_store *store, const char *branch, const char *key, const char *value)
{
    put(store, branch, key, value, value);
}

/*
 *   base - a1 --- x - a2
 *       \     \ /
 *        \    / \
 *         b1 --- y - b2     x = a1 + b1, y = b1 + a1, with their own answers to the clash on "k"
 */
static void cross(cmb_store *store, const char *x, const char *y)
{
    script sx = {.answer = CMB_ANSWER_VALUE, .value = x}, sy = {.answer = CMB_ANSWER_VALUE, .value = y};
    commit_on(store, "main", "k", "base");
    must(cmb_branch_create(store, "side", "main"));
    commit_on(store, "main", "k", "a1");
    commit_on(store, "side", "k", "b1");
    must(cmb_branch_create(store, "a1", "main"));
    must(cmb_branch_create(store, "b1", "side"));
    assert_int_equal(merge_with(store, "main", "b1", answer, &sx, 0).kind, CMB_MERGE_MERGED);
    assert_int_equal(merge_with(store, "side", "a1", answer, &sy, 0).kind, CMB_MERGE_MERGED);
}

static void ancestors_that_agree_make_one_ancestor(void **state)
{
    bed *b = *state;
    script s = {.answer = CMB_ANSWER_VALUE, .value = "both"};
    cross(b->store, "both", "both");
    commit_on(b->store, "main", "k", "later");
    /* The virtual ancestor says "both", side still does: only main changed it. */
    cmb_merge_result r = merge_with(b->store, "main", "side", answer, &s, 0);
    assert_int_equal(r.kind, CMB_MERGE_MERGED);
    assert_int_equal(s.inner, 1);
    assert_int_equal(s.calls, 0);
    expect(b->store, "main", "k", "later");
}

static void what_ancestors_dispute_differs_from_everything(void **state)
{
    bed *b = *state;
    cmb_clash *c;
    cmb_bytes value;
    cross(b->store, "a1", "b1");
    cmb_merge_result r = merge(b->store, "main", "side");
    assert_int_equal(r.kind, CMB_MERGE_CONFLICTS);
    assert_int_equal(cmb_merging_count(r.open), 1);
    must(cmb_merging_conflict(r.open, 0, &c, NULL));
    assert_int_equal(cmb_clash_presence(c, CMB_SIDE_BASE), CMB_DISPUTED);
    assert_int_equal(cmb_clash_size(c, CMB_SIDE_BASE), 0);
    must_be(cmb_clash_value(c, CMB_SIDE_BASE, &value), CMB_ENOTFOUND);
    must(cmb_clash_value(c, CMB_SIDE_MINE, &value));
    assert_memory_equal(value.data, "a1", 2);
    cmb_merging_abort(r.open);
    script s = {.answer = CMB_ANSWER_CONFLICT};
    r = merge_with(b->store, "main", "side", answer, &s, 0);
    assert_int_equal(s.base, CMB_DISPUTED);
    must(cmb_merging_resolve(r.open, str("k"), CMB_ANSWER_THEIRS, (cmb_bytes){NULL, 0}));
    must(cmb_merging_finish(r.open, NULL, NULL));
    expect(b->store, "main", "k", "b1");
}

static void what_ancestors_dispute_is_settled_where_the_sides_agree(void **state)
{
    bed *b = *state;
    cross(b->store, "x", "y");
    commit_on(b->store, "main", "k", "same");
    commit_on(b->store, "side", "k", "same");
    commit_on(b->store, "side", "other", "1");
    assert_int_equal(merge(b->store, "main", "side").kind, CMB_MERGE_MERGED);
    expect(b->store, "main", "k", "same");
}

/* Again and again two branches take over each other's last commit, so every merge has two ancestors, which have two. */
static void a_ladder_of_criss_crosses_is_merged_down_to_its_foot(void **state)
{
    bed *b = *state;
    const int rungs = 60;
    commit_on(b->store, "main", "k", "base");
    must(cmb_branch_create(b->store, "side", "main"));
    for (int i = 0; i < rungs; i++) {
        char value[16];
        snprintf(value, sizeof value, "m%d", i);
        commit_on(b->store, "main", value, value);
        snprintf(value, sizeof value, "s%d", i);
        commit_on(b->store, "side", value, value);
        must(i ? cmb_branch_set(b->store, "was", "main") : cmb_branch_create(b->store, "was", "main"));
        assert_int_equal(merge(b->store, "main", "side").kind, CMB_MERGE_MERGED);
        assert_int_equal(merge(b->store, "side", "was").kind, CMB_MERGE_MERGED);
    }
    commit_on(b->store, "main", "m", "1");
    commit_on(b->store, "side", "s", "1");
    assert_int_equal(merge(b->store, "main", "side").kind, CMB_MERGE_MERGED);
    assert_int_equal(rev_of(b->store, "main").entries, 2 * rungs + 3);
}

/* ---- deterministic merges ---- */

static int lower_wins(void *ctx, cmb_clash *clash, cmb_bytes *out_value)
{
    cmb_bytes mine;
    (void)ctx;
    must(cmb_clash_value(clash, CMB_SIDE_MINE, &mine));
    char *room = cmb_clash_memory(clash, mine.size + 1);
    memcpy(room, mine.data, mine.size);
    room[mine.size] = '!';
    *out_value = (cmb_bytes){room, mine.size + 1};
    return CMB_ANSWER_VALUE;
}

static void peers_that_merge_the_same_heads_make_the_same_commit(void **state)
{
    bed *b = *state, other;
    bed_open(&other);
    clash(b->store);
    clash(other.store); /* the same calls with the same clock: the same commits */
    cmb_rev one = rev_of(b->store, "main"), two = rev_of(other.store, "main");
    assert_true(same_name(&one.commit, &two.commit));
    must(cmb_branch_create(other.store, "elsewhere", NULL));
    put(other.store, "elsewhere", "x", "1", "time passes");
    cmb_merge_result r = merge_with(b->store, "main", "side", lower_wins, NULL, CMB_MERGE_DETERMINISTIC);
    cmb_merge_result s = merge_with(other.store, "side", "main", lower_wins, NULL, CMB_MERGE_DETERMINISTIC);
    assert_int_equal(r.kind, CMB_MERGE_MERGED);
    assert_int_equal(s.kind, CMB_MERGE_MERGED);
    assert_true(same_name(&r.rev.commit, &s.rev.commit));
    cmb_commit *commit, *parents[2];
    must(cmb_commit_read(b->store, "main", &commit));
    must(cmb_commit_read(b->store, "main^1", &parents[0]));
    must(cmb_commit_read(b->store, "main^2", &parents[1]));
    assert_string_equal(commit->author, CMB_MERGE_SYNC_AUTHOR);
    assert_string_equal(commit->message, CMB_MERGE_SYNC_MESSAGE);
    assert_true(memcmp(commit->parents[0].bytes, commit->parents[1].bytes, CMB_NAME_MAX) < 0);
    assert_true(commit->time == (parents[0]->time > parents[1]->time ? parents[0]->time : parents[1]->time));
    for (int i = 0; i < 2; i++)
        cmb_commit_free(parents[i]);
    cmb_commit_free(commit);
    bed_close(&other);
}

/* ---- against a model ---- */

#define MODEL_KEYS 3000

typedef struct model {
    uint32_t value[MODEL_KEYS]; /* 0: absent */
} model;

static cmb_bytes model_key(unsigned i, char room[16])
{
    snprintf(room, 16, "k%06u", i * 37);
    return str(room);
}

/* Some values are large enough to lie out of line. */
static cmb_bytes model_value(uint32_t v, char room[40000])
{
    size_t size = v % 97 == 0 ? 20000 + v % 1000 : 8 + v % 60;
    memset(room, (int)('a' + v % 26), size);
    snprintf(room, 16, "%u", v);
    return (cmb_bytes){room, size};
}

static void model_write(cmb_store *store, const char *branch, const model *from, const model *to)
{
    static char room[40000];
    char key[16];
    cmb_txn *txn;
    cmb_commit_info info = {.message = "model", .flags = CMB_COMMIT_EMPTY};
    must(cmb_txn_begin(store, branch, 0, &txn));
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        if (from->value[i] == to->value[i])
            continue;
        if (to->value[i])
            must(cmb_txn_put(txn, model_key(i, key), model_value(to->value[i], room)));
        else
            must(cmb_txn_del(txn, model_key(i, key)));
    }
    must(cmb_txn_commit(txn, &info, NULL));
}

static void model_expect(cmb_store *store, const char *rev, const model *m)
{
    static char room[40000];
    static const model empty;
    char key[16];
    cmb_snapshot *snapshot;
    cmb_cursor *cursor;
    cmb_bytes got;
    must(cmb_snapshot_open(store, rev, &snapshot));
    must(cmb_cursor_open(snapshot, NULL, &cursor));
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        if (!m->value[i])
            continue;
        cmb_bytes k = model_key(i, key), v = model_value(m->value[i], room);
        must(cmb_cursor_next(cursor));
        must(cmb_cursor_key(cursor, &got));
        assert_int_equal(got.size, k.size);
        assert_memory_equal(got.data, k.data, k.size);
        must(cmb_cursor_value(cursor, &got));
        assert_int_equal(got.size, v.size);
        assert_memory_equal(got.data, v.data, v.size);
    }
    must_be(cmb_cursor_next(cursor), CMB_ENOTFOUND);
    cmb_cursor_close(cursor);
    cmb_snapshot_close(snapshot);
    /* The same tree as one that was never merged. */
    must(cmb_branch_create(store, "fresh", NULL));
    model_write(store, "fresh", &empty, m);
    cmb_rev fresh = rev_of(store, "fresh"), merged = rev_of(store, rev);
    assert_true(same_name(&fresh.root, &merged.root));
    must(cmb_branch_delete(store, "fresh"));
}

static void model_edit(uint64_t *seed, const model *from, model *to, unsigned edits, unsigned span)
{
    *to = *from;
    unsigned start = (unsigned)(bed_mix(seed) % MODEL_KEYS);
    while (edits--) {
        unsigned i = (start + (unsigned)(bed_mix(seed) % span)) % MODEL_KEYS;
        to->value[i] = bed_mix(seed) % 4 ? 1 + (uint32_t)(bed_mix(seed) % 100000) : 0;
    }
}

/* By the key: conflict, mine, theirs, a value, deletion. */
static int model_answer(void *ctx, cmb_clash *clash, cmb_bytes *out_value)
{
    static char room[40000];
    char text[16] = ""; /* a key ends nowhere by itself */
    cmb_bytes key = cmb_clash_key(clash);
    assert_true(key.size < sizeof text);
    memcpy(text, key.data, key.size);
    unsigned i = (unsigned)strtoul(text + 1, NULL, 10) / 37;
    (void)ctx;
    if (i % 5 == CMB_ANSWER_VALUE)
        *out_value = model_value(700000 + i, room);
    return (int)(i % 5);
}

static uint32_t model_merged(const model *base, const model *mine, const model *theirs, unsigned i, bool *out_conflict)
{
    uint32_t b = base->value[i], m = mine->value[i], t = theirs->value[i];
    *out_conflict = false;
    if (m == t || b == t)
        return m;
    if (b == m)
        return t;
    *out_conflict = i % 5 == CMB_ANSWER_CONFLICT;
    return i % 5 == CMB_ANSWER_MINE ? m : i % 5 == CMB_ANSWER_THEIRS ? t : i % 5 == CMB_ANSWER_VALUE ? 700000 + i : 0;
}

/* Conflicts are those of the model; they are resolved by deletion. */
static void settle(cmb_merge_result *r, const model *base, const model *mine, const model *theirs)
{
    char key[16];
    size_t n = 0;
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        bool conflict;
        cmb_clash *c;
        model_merged(base, mine, theirs, i, &conflict);
        if (!conflict)
            continue;
        assert_int_equal(r->kind, CMB_MERGE_CONFLICTS);
        must(cmb_merging_conflict(r->open, n++, &c, NULL));
        assert_memory_equal(cmb_clash_key(c).data, model_key(i, key).data, 7);
        assert_int_equal(cmb_clash_presence(c, CMB_SIDE_BASE), base->value[i] ? CMB_PRESENT : CMB_ABSENT);
        assert_int_equal(cmb_clash_presence(c, CMB_SIDE_MINE), mine->value[i] ? CMB_PRESENT : CMB_ABSENT);
        assert_int_equal(cmb_clash_presence(c, CMB_SIDE_THEIRS), theirs->value[i] ? CMB_PRESENT : CMB_ABSENT);
        must(cmb_merging_resolve(r->open, model_key(i, key), CMB_ANSWER_DELETE, (cmb_bytes){NULL, 0}));
    }
    if (!n)
        return;
    assert_int_equal(cmb_merging_count(r->open), n);
    must(cmb_merging_finish(r->open, NULL, NULL));
}

static void merge_models(cmb_store *store, uint64_t *seed, unsigned my_edits, unsigned their_edits, unsigned span)
{
    static const model empty;
    static model base, mine, theirs, expected;
    model_edit(seed, &empty, &base, MODEL_KEYS, MODEL_KEYS);
    model_edit(seed, &base, &mine, my_edits, span);
    model_edit(seed, &base, &theirs, their_edits, span);
    must(cmb_branch_create(store, "m", NULL));
    model_write(store, "m", &empty, &base);
    must(cmb_branch_create(store, "t", "m"));
    model_write(store, "m", &base, &mine);
    model_write(store, "t", &base, &theirs);
    cmb_merge_result r = merge_with(store, "m", "t", model_answer, NULL, CMB_MERGE_NO_FF);
    settle(&r, &base, &mine, &theirs);
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        bool conflict;
        expected.value[i] = model_merged(&base, &mine, &theirs, i, &conflict);
    }
    model_expect(store, "m", &expected);
    must(cmb_branch_delete(store, "m"));
    must(cmb_branch_delete(store, "t"));
}

/* Little on one side, on the other, on both; much on both: edits over a side, or subtrees. Nodes of every size. */
static void merges_equal_a_model_however_much_was_changed_where(void **state)
{
    static const uint32_t sizes[] = {256, 4096, 65536};
    static const unsigned edits[][3] = {{5, 2000, 3000},  {2000, 5, 3000}, {5, 5, 10},
                                        {900, 900, 3000}, {300, 300, 400}, {0, 5, 10}};
    uint64_t seed = bed_seed();
    (void)state;
    print_message("seed %llu\n", (unsigned long long)seed);
    for (unsigned round = 0; round < bed_budget(); round++)
        for (size_t i = 0; i < 3; i++) {
            bed b;
            cmb_init_options init = {.node_size = sizes[i]};
            memset(&b, 0, sizeof b);
            bed_open_with(&b, 0, &init);
            for (size_t k = 0; k < 6; k++)
                merge_models(b.store, &seed, edits[k][0], edits[k][1], edits[k][2]);
            bed_reopen(&b);
            bed_close(&b);
        }
}

/* ---- revert and cherry-pick ---- */

static void a_revert_undoes_one_commit(void **state)
{
    bed *b = *state;
    cmb_merge_result r;
    cmb_commit *commit;
    char hex[80], text[200];
    put(b->store, "main", "a", "1", "one");
    cmb_rev two = put(b->store, "main", "a", "2", "two\nand more");
    put(b->store, "main", "b", "1", "three");
    must(cmb_revert(b->store, "main", "main~1", 0, NULL, NULL, NULL, &r));
    assert_int_equal(r.kind, CMB_MERGE_MERGED);
    expect(b->store, "main", "a", "1");
    expect(b->store, "main", "b", "1");
    must(cmb_commit_read(b->store, "main", &commit));
    hex_of(&two.commit, hex);
    snprintf(text, sizeof text, "Revert \"two\"\n\nThis reverts commit %s.\n", hex);
    assert_string_equal(commit->message, text);
    assert_int_equal(commit->parent_count, 1);
    cmb_commit_free(commit);
    must(cmb_revert(b->store, "main", "main~2", 0, NULL, NULL, NULL, &r));
    assert_int_equal(r.kind, CMB_MERGE_UP_TO_DATE);
    must(cmb_revert(b->store, "main", "main~3", 0, NULL, NULL, NULL, &r)); /* the root commit: its parent is empty */
    assert_int_equal(r.kind, CMB_MERGE_MERGED);
    expect(b->store, "main", "a", NULL);
    expect(b->store, "main", "b", "1");
}

static void a_revert_of_what_was_changed_again_conflicts(void **state)
{
    bed *b = *state;
    cmb_merge_result r;
    cmb_commit *commit;
    put(b->store, "main", "a", "1", "one");
    put(b->store, "main", "a", "2", "two");
    put(b->store, "main", "a", "3", "three");
    cmb_rev before = rev_of(b->store, "main"), after;
    must(cmb_revert(b->store, "main", "main~1", 0, NULL, NULL, NULL, &r));
    assert_int_equal(r.kind, CMB_MERGE_CONFLICTS);
    after = rev_of(b->store, "main");
    assert_true(same_name(&before.commit, &after.commit));
    must(cmb_merging_resolve(r.open, str("a"), CMB_ANSWER_VALUE, str("4")));
    must(cmb_merging_finish(r.open, NULL, &after));
    expect(b->store, "main", "a", "4");
    must(cmb_commit_read(b->store, "main", &commit));
    assert_memory_equal(commit->message, "Revert \"two\"", 12);
    cmb_commit_free(commit);
}

static void a_cherry_pick_does_one_commit_again(void **state)
{
    bed *b = *state;
    cmb_merge_result r;
    cmb_commit *commit;
    cmb_commit_info info = {.author = "eve"};
    diverge(b->store);
    put(b->store, "side", "more", "1", "more\n");
    put(b->store, "side", "last", "1", "last");
    put(b->store, "main", "w", "1", NULL); /* sealed, not swallowed */
    must(cmb_cherry_pick(b->store, "main", "side~1", 0, NULL, NULL, NULL, &r));
    assert_int_equal(r.kind, CMB_MERGE_MERGED);
    expect(b->store, "main", "more", "1");
    expect(b->store, "main", "last", NULL);
    expect(b->store, "main", "theirs", NULL);
    must(cmb_commit_read(b->store, "main", &commit));
    assert_string_equal(commit->author, "ada");
    assert_string_equal(commit->message, "more\n");
    assert_int_equal(commit->parent_count, 1);
    cmb_commit_free(commit);
    expect(b->store, "main~1", "w", "1");
    expect(b->store, "main~1", "more", NULL);
    must(cmb_cherry_pick(b->store, "main", "side~1", 0, NULL, NULL, &info, &r));
    assert_int_equal(r.kind, CMB_MERGE_UP_TO_DATE);
    info.flags = CMB_COMMIT_EMPTY;
    must(cmb_cherry_pick(b->store, "main", "side~1", 0, NULL, NULL, &info, &r));
    assert_int_equal(r.kind, CMB_MERGE_MERGED);
    must(cmb_commit_read(b->store, "main", &commit));
    assert_string_equal(commit->author, "eve");
    assert_string_equal(commit->message, "more\n");
    cmb_commit_free(commit);
    must(cmb_branch_create(b->store, "new", NULL));
    must(cmb_cherry_pick(b->store, "new", "side~3", 0, NULL, NULL, NULL, &r));
    must(cmb_commit_read(b->store, "new", &commit));
    assert_int_equal(commit->parent_count, 0);
    assert_int_equal(commit->entries, 1);
    cmb_commit_free(commit);
}

static void a_merge_is_picked_or_reverted_along_a_parent(void **state)
{
    bed *b = *state;
    cmb_merge_result r;
    cmb_commit_info flags = {.flags = CMB_MERGE_DETERMINISTIC};
    diverge(b->store);
    must(cmb_branch_create(b->store, "base", "main~1"));
    assert_int_equal(merge(b->store, "main", "side").kind, CMB_MERGE_MERGED);
    must_be(cmb_cherry_pick(b->store, "base", "main", 0, NULL, NULL, NULL, &r), CMB_EINVAL);
    must_be(cmb_cherry_pick(b->store, "base", "main", 3, NULL, NULL, NULL, &r), CMB_EINVAL);
    must_be(cmb_cherry_pick(b->store, "base", "main~1", 2, NULL, NULL, NULL, &r), CMB_EINVAL);
    must_be(cmb_revert(b->store, "main", "main", 0, NULL, NULL, NULL, &r), CMB_EINVAL);
    must_be(cmb_revert(b->store, "main", "main", 1, NULL, NULL, &flags, &r), CMB_EINVAL);
    must(cmb_branch_create(b->store, "empty", NULL));
    must_be(cmb_cherry_pick(b->store, "base", "empty", 0, NULL, NULL, NULL, &r), CMB_ENOTFOUND);
    must(cmb_cherry_pick(b->store, "base", "main", 1, NULL, NULL, NULL, &r));
    expect(b->store, "base", "theirs", "1");
    expect(b->store, "base", "mine", NULL);
    must(cmb_revert(b->store, "main", "main", 1, NULL, NULL, NULL, &r));
    expect(b->store, "main", "theirs", NULL);
    expect(b->store, "main", "mine", "1");
}

/* ---- the reflog ---- */

static int note_reason(void *ctx, const cmb_reflog_entry *entry)
{
    int *reasons = ctx;
    reasons[++reasons[0]] = (int)entry->reason;
    return 0;
}

static void the_reflog_tells_of_merges(void **state)
{
    bed *b = *state;
    int reasons[20] = {0};
    put(b->store, "main", "a", "1", "one");
    must(cmb_branch_create(b->store, "side", "main"));
    put(b->store, "side", "b", "1", "two");
    merge(b->store, "main", "side");
    put(b->store, "main", "c", "1", "three");
    put(b->store, "side", "d", "1", "four");
    merge(b->store, "main", "side");
    bed_reopen(b);
    must(cmb_reflog(b->store, "main", note_reason, reasons));
    assert_int_equal(reasons[1], CMB_REFLOG_MERGED);
    assert_int_equal(reasons[2], CMB_REFLOG_COMMITTED);
    assert_int_equal(reasons[3], CMB_REFLOG_MERGED);
}

/* ---- space and memory ---- */

static int put_noise(cmb_txn *txn, uint64_t *seed, unsigned n)
{
    uint8_t value[900];
    int error = 0;
    for (unsigned i = 0; !error && i < n; i++) {
        uint64_t key = bed_mix(seed);
        for (size_t k = 0; k < sizeof value; k++)
            value[k] = (uint8_t)bed_mix(seed);
        error = cmb_txn_put(txn, (cmb_bytes){&key, 8}, (cmb_bytes){value, sizeof value});
    }
    return error;
}

static void a_merge_that_does_not_fit_leaves_the_store_as_it_was(void **state)
{
    static const char *const branches[] = {"main", "side"};
    bed b;
    cmb_txn *txn;
    cmb_merge_result r;
    uint64_t seed = 4;
    (void)state;
    memset(&b, 0, sizeof b);
    bed_open_with(&b, 48 << 20, NULL);
    cmb_commit_info info = {.message = "noise"};
    put(b.store, "main", "first", "kept", "one");
    must(cmb_branch_create(b.store, "side", "main"));
    for (int i = 0; i < 2; i++) {
        must(cmb_txn_begin(b.store, branches[i], 0, &txn));
        must(put_noise(txn, &seed, 12000));
        must(cmb_txn_commit(txn, &info, NULL));
    }
    cmb_rev before = rev_of(b.store, "main"), after;
    must_be(cmb_merge(b.store, "main", "side", NULL, NULL, NULL, &r), CMB_ENOSPC);
    after = rev_of(b.store, "main");
    assert_true(same_name(&before.commit, &after.commit));
    put(b.store, "main", "second", "fits", "two"); /* the stream gave its space back */
    bed_reopen(&b);
    expect(b.store, "main", "second", "fits");
    bed_close(&b);
}

typedef struct meter {
    uint64_t left; /* allocations until one fails; 0: none does any more */
    int64_t held;  /* bytes */
    bool failed;
} meter;

static bool refuses(meter *m)
{
    if (!m->left || --m->left)
        return false;
    return m->failed = true;
}

static void *meter_alloc(void *ctx, size_t size)
{
    meter *m = ctx;
    void *p = refuses(m) ? NULL : malloc(size);
    m->held += p ? (int64_t)size : 0;
    return p;
}

static void *meter_resize(void *ctx, void *ptr, size_t old_size, size_t new_size)
{
    meter *m = ctx;
    void *p = refuses(m) ? NULL : realloc(ptr, new_size);
    m->held += p ? (int64_t)new_size - (int64_t)old_size : 0;
    return p;
}

static void meter_release(void *ctx, void *ptr, size_t size)
{
    meter *m = ctx;
    m->held -= (int64_t)size;
    free(ptr);
}

/* A criss-cross with a conflict, which is resolved; a revert and a pick. */
static int merge_script(cmb_store *store)
{
    cmb_merge_result r = {.open = NULL};
    int error = cmb_merge(store, "main", "side", cmb_merge_union, NULL, NULL, &r);
    if (!error && r.kind == CMB_MERGE_CONFLICTS) {
        for (size_t i = 0; !error && i < cmb_merging_count(r.open); i++) {
            cmb_clash *c;
            error = cmb_merging_conflict(r.open, i, &c, NULL);
            if (!error)
                error = cmb_merging_resolve(r.open, cmb_clash_key(c), CMB_ANSWER_THEIRS, (cmb_bytes){NULL, 0});
        }
        if (!error)
            error = cmb_merging_finish(r.open, NULL, NULL);
        if (error)
            cmb_merging_abort(r.open);
    }
    if (!error)
        error = cmb_revert(store, "main", "main", 1, NULL, NULL, NULL, &r);
    if (!error)
        error = cmb_cherry_pick(store, "main", "side", 1, NULL, NULL, NULL, &r);
    return error;
}

static void prepare_script(cmb_store *store)
{
    script s = {.answer = CMB_ANSWER_MINE};
    put(store, "main", "k", "a\n", "base");
    put(store, "main", "d", "d\n", "base");
    must(cmb_branch_create(store, "side", "main"));
    put(store, "main", "k", "b\n", "mine");
    put(store, "side", "k", "c\n", "theirs");
    must(cmb_branch_create(store, "was", "main"));
    must(cmb_branch_create(store, "foot", "main"));
    merge_with(store, "main", "side", answer, &s, 0);
    merge_with(store, "side", "was", answer, &s, 0);
    put(store, "main", "d", "e\n", "mine");
    del(store, "side", "d", "theirs");
    put(store, "side", "w", "1", NULL);
}

/* Each allocation fails in turn: a clean error, nothing leaked, the store goes on. */
static void refused_memory_leaves_the_branch_where_it_was(void **state)
{
    bool more = true;
    uint64_t k = 1;
    (void)state;
    for (; more && k < 20000; k += 1 + k / (10 * bed_budget())) {
        cmb_device *dev;
        cmb_store *store;
        meter m = {.left = 0};
        bed_env env = {.now = 1700000000000000, .random = 42};
        cmb_store_options options = {.alloc = {&m, meter_alloc, meter_resize, meter_release},
                                     .env = {.ctx = &env, .now = bed_now, .random = bed_random}};
        must(cmb_device_mem(0, NULL, &dev));
        must(cmb_store_init_device(dev, NULL, &options));
        must(cmb_store_open_device(dev, &options, &store));
        prepare_script(store);
        cmb_rev before = rev_of(store, "main"), after;
        m.left = k;
        int error = merge_script(store);
        m.left = 0;
        more = m.failed;
        if (error)
            must_be(error, CMB_ENOMEM);
        after = rev_of(store, "main");
        if (error && !same_name(&before.commit, &after.commit)) { /* it landed: then the merge was over */
            cmb_commit *commit;
            must(cmb_commit_read(store, "main", &commit));
            cmb_commit_free(commit);
        } else if (error) {
            must(merge_script(store));
        }
        must(cmb_store_close(store));
        cmb_device_close(dev);
        assert_int_equal(m.held, 0);
    }
    assert_true(k > 50);
}

#define with_bed(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_bed(what_is_merged_already_is_up_to_date),
        with_bed(a_branch_that_is_behind_moves_forward),
        with_bed(a_merge_commit_can_be_wished_or_forbidden),
        with_bed(what_either_side_changed_is_in_the_merge),
        with_bed(working_states_on_either_side_are_sealed),
        with_bed(a_working_state_without_history_is_merged_as_well),
        with_bed(unrelated_histories_have_an_empty_ancestor),
        with_bed(a_tag_and_a_commit_can_be_merged),
        with_bed(only_keys_that_both_changed_differently_are_asked_about),
        with_bed(every_answer_is_what_becomes_of_the_key),
        with_bed(a_deletion_against_a_change_is_asked_about),
        with_bed(a_merge_function_that_fails_leaves_the_branch_where_it_was),
        with_bed(a_merge_holds_the_branchs_writing_turn),
        with_bed(an_image_that_is_only_read_refuses_to_merge),
        with_bed(conflicts_move_nothing_and_come_back_with_their_values),
        with_bed(resolutions_finish_the_merge),
        with_bed(a_merge_whose_branch_has_moved_does_not_land),
        cmocka_unit_test(conflicts_take_no_more_memory_than_a_transaction_may),
        with_bed(values_out_of_line_are_carried_over_compared_and_read),
        with_bed(ancestors_that_agree_make_one_ancestor),
        with_bed(what_ancestors_dispute_differs_from_everything),
        with_bed(what_ancestors_dispute_is_settled_where_the_sides_agree),
        with_bed(a_ladder_of_criss_crosses_is_merged_down_to_its_foot),
        with_bed(peers_that_merge_the_same_heads_make_the_same_commit),
        cmocka_unit_test(merges_equal_a_model_however_much_was_changed_where),
        with_bed(a_revert_undoes_one_commit),
        with_bed(a_revert_of_what_was_changed_again_conflicts),
        with_bed(a_cherry_pick_does_one_commit_again),
        with_bed(a_merge_is_picked_or_reverted_along_a_parent),
        with_bed(the_reflog_tells_of_merges),
        cmocka_unit_test(a_merge_that_does_not_fit_leaves_the_store_as_it_was),
        cmocka_unit_test(refused_memory_leaves_the_branch_where_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
