/* SPDX-License-Identifier: ISC */
/* What callers get wrong is told, by the function that they call, and changes nothing. */
#include "bed.h"

static uint8_t long_key[CMB_KEY_MAX + 1];
static const cmb_bytes too_long = {long_key, sizeof long_key}, empty = {"", 0};
static const cmb_commit_info by_ada = {.author = "ada", .message = "one"};

static int no_commit(void *ctx, const cmb_commit *commit)
{
    return 0;
}

static int no_entry(void *ctx, const cmb_reflog_entry *entry)
{
    return 0;
}

static int no_bytes(void *ctx, const void *data, size_t size)
{
    return 0;
}

static int no_modified(void *ctx, cmb_bytes key, const cmb_name *commit)
{
    return 0;
}

/* Nothing that is tried moves a branch. */
static void open_bed(bed *b, cmb_rev *out_before)
{
    bed_open(b);
    *out_before = put(b->store, "main", "key", "value", "first");
}

static void close_bed(bed *b, const cmb_rev *before)
{
    cmb_rev after = rev_of(b->store, "main");
    assert_true(same_name(&after.commit, &before->commit));
    assert_true(same_name(&after.root, &before->root));
    bed_close(b);
}

static void keys_that_are_too_long_are_refused_wherever_a_key_is_asked_for(void **state)
{
    bed b;
    cmb_rev before;
    cmb_snapshot *s;
    cmb_cursor *cursor;
    cmb_value_stream *value;
    cmb_txn *txn;
    cmb_name id;
    cmb_bytes got, keys[3] = {str("key"), too_long, empty};
    cmb_bytes values[3];
    int results[3];
    open_bed(&b, &before);
    must(cmb_snapshot_open(b.store, "main", &s));
    must_be(cmb_get(s, too_long, &got), CMB_EINVAL);
    must_be(cmb_get(s, empty, &got), CMB_EINVAL);
    must(cmb_get_many(s, keys, 3, values, results));
    must(results[0]);
    must_be(results[1], CMB_EINVAL);
    must_be(results[2], CMB_EINVAL);
    must_be(cmb_value_open(s, too_long, &value), CMB_EINVAL);
    must_be(cmb_last_modified(b.store, "main", too_long, &id), CMB_EINVAL);
    must(cmb_txn_begin(b.store, "main", 0, &txn));
    must_be(cmb_txn_del(txn, too_long), CMB_EINVAL);
    must_be(cmb_txn_value_begin(txn, too_long), CMB_EINVAL);
    must_be(cmb_txn_value_open(txn, too_long, &value), CMB_EINVAL);
    must_be(cmb_txn_put(txn, str("key"), (cmb_bytes){long_key, (size_t)CMB_VALUE_MAX + 1}), CMB_ETOOBIG);
    must(cmb_txn_put(txn, str("key"), str("other")));
    must(cmb_txn_cursor_open(txn, NULL, &cursor));
    must_be(cmb_cursor_seek_exact(cursor, too_long), CMB_EINVAL);
    cmb_cursor_close(cursor);
    cmb_txn_abort(txn);
    cmb_snapshot_close(s);
    close_bed(&b, &before);
}

static void a_transaction_ends_only_in_the_way_it_was_begun(void **state)
{
    bed b, other;
    cmb_rev before, there;
    cmb_snapshot *s;
    cmb_txn *txn, *detached, *foreign;
    open_bed(&b, &before);
    open_bed(&other, &there);
    must(cmb_snapshot_open(b.store, "main", &s));
    must_be(cmb_txn_begin(b.store, "main", 0x80000000u, &txn), CMB_EINVAL);
    must_be(cmb_txn_begin(b.store, "nothing", 0, &txn), CMB_ENOTFOUND);
    must(cmb_txn_begin_detached(s, &detached));
    must(cmb_txn_put(detached, str("key"), str("detached")));
    must_be(cmb_txn_commit(detached, &by_ada, NULL), CMB_EINVAL);
    must(cmb_txn_begin(b.store, "main", 0, &txn));
    must(cmb_txn_put(txn, str("key"), str("here")));
    must_be(cmb_txn_land(txn, "main", &by_ada, NULL), CMB_EINVAL);
    must(cmb_txn_begin(other.store, "main", 0, &foreign));
    must(cmb_txn_put(foreign, str("key"), str("there")));
    must_be(cmb_txn_commit_many((cmb_txn *[]){txn, foreign}, 2, NULL, NULL), CMB_EINVAL);
    must_be(cmb_txn_value_add(txn, "x", 1), CMB_EINVAL);
    must_be(cmb_txn_value_finish(txn), CMB_EINVAL);
    cmb_txn_abort(foreign);
    cmb_txn_abort(txn);
    cmb_txn_abort(detached);
    cmb_snapshot_close(s);
    close_bed(&other, &there);
    close_bed(&b, &before);
}

static void names_that_are_missing_or_of_another_kind_are_refused(void **state)
{
    bed b;
    cmb_rev before, rev;
    cmb_tag *tag;
    cmb_txn *txn;
    cmb_name id;
    char root[2 * CMB_NAME_MAX + 1];
    const char *const of_content[1] = {root};
    open_bed(&b, &before);
    hex_of(&before.root, root);
    must(cmb_branch_create(b.store, "bare", NULL));
    must_be(cmb_tag_read(b.store, NULL, 0, &tag), CMB_EINVAL);
    must_be(cmb_tag_read(b.store, "none", 0, &tag), CMB_ENOTFOUND);
    must_be(cmb_tag_annotate(b.store, "t", "none", &(cmb_tag_info){.tagger = "ada", .message = "m"}), CMB_ENOTFOUND);
    must_be(cmb_reflog(b.store, NULL, no_entry, NULL), CMB_EINVAL);
    must_be(cmb_reflog(b.store, "none", no_entry, NULL), CMB_ENOTFOUND);
    must_be(cmb_rev_parse(b.store, "bare~1", &rev), CMB_ENOTFOUND);
    must_be(cmb_log_first_parents(b.store, "bare", no_commit, NULL), CMB_ENOTFOUND);
    must_be(cmb_last_modified_each(b.store, "none", NULL, no_modified, NULL), CMB_ENOTFOUND);
    must_be(cmb_merge_base(b.store, "main", "bare", &id), CMB_ENOTFOUND);
    assert_true(cmb_bundle_create(b.store, of_content, 1, no_bytes, NULL, NULL, NULL) < 0);
    must_be(cmb_pull(b.store, b.store, NULL, NULL), CMB_EINVAL);
    must(cmb_txn_begin(b.store, "bare", 0, &txn));
    cmb_txn_abort(txn);
    close_bed(&b, &before);
}

static void texts_that_are_too_long_are_refused(void **state)
{
    bed b;
    cmb_rev before;
    cmb_txn *txn;
    char *text = malloc(CMB_COMMIT_TEXT_MAX + 2);
    assert_non_null(text);
    memset(text, 't', CMB_COMMIT_TEXT_MAX + 1);
    text[CMB_COMMIT_TEXT_MAX + 1] = 0;
    open_bed(&b, &before);
    must_be(cmb_tag_annotate(b.store, "t", "main", &(cmb_tag_info){.tagger = "ada", .message = text}), CMB_EINVAL);
    must(cmb_txn_begin(b.store, "main", 0, &txn));
    must(cmb_txn_put(txn, str("key"), str("other")));
    must_be(cmb_txn_commit(txn, &(cmb_commit_info){.author = "ada", .message = text}, NULL), CMB_EINVAL);
    must_be(cmb_txn_commit(txn, &(cmb_commit_info){.author = text, .message = "m"}, NULL), CMB_EINVAL);
    cmb_txn_abort(txn);
    free(text);
    close_bed(&b, &before);
}

static void options_that_mean_nothing_are_refused(void **state)
{
    bed b;
    cmb_rev before;
    cmb_store *store;
    cmb_store_options options = {.residency = (cmb_residency_mode)77};
    open_bed(&b, &before);
    must(cmb_store_close(b.store));
    must_be(cmb_store_open_device(b.dev, &options, &store), CMB_EINVAL);
    must(cmb_store_open_device(b.dev, &b.options, &b.store));
    close_bed(&b, &before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_that_are_too_long_are_refused_wherever_a_key_is_asked_for),
        cmocka_unit_test(a_transaction_ends_only_in_the_way_it_was_begun),
        cmocka_unit_test(names_that_are_missing_or_of_another_kind_are_refused),
        cmocka_unit_test(texts_that_are_too_long_are_refused),
        cmocka_unit_test(options_that_mean_nothing_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
