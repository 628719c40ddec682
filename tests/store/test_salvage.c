/* SPDX-License-Identifier: ISC */
#include "salvage_bed.h"

/* An image with everything that an image can have. */
static void make_rich(bed *b)
{
    cmb_tag_info tag = {.tagger = "ada", .message = "first"};
    cmb_merge_result merged;
    make_history(b);
    put(b->store, "main", "more", "merged", "more");
    must(cmb_merge(b->store, "main", "feature", cmb_merge_theirs, NULL, &(cmb_commit_info){.author = "ada", .message = "both"}, &merged));
    assert_int_equal(merged.kind, CMB_MERGE_MERGED);
    must(cmb_tag_annotate(b->store, "v2", "main", &tag));
    must(cmb_branch_create(b->store, "empty", NULL));
    must(cmb_branch_create(b->store, "scratch", NULL));
    put(b->store, "scratch", "only", "a working state", NULL);
    put(b->store, "main", "pending", "a working state above a commit", NULL);
}

/* ---- tests ---- */

static void a_whole_image_comes_out_with_the_same_refs_and_commits(void **state)
{
    bed b;
    rescue r;
    (void)state;
    make_rich(&b);
    bed_reopen(&b);
    salvage(&b, NULL, &r);
    print_losses(&r.losses);
    assert_int_equal(r.losses.n, 0);
    assert_int_equal(r.result.losses, 0);
    same_refs(b.store, r.to.store);
    same_commits(b.store, r.to.store);
    expect(r.to.store, "main", "pending", "a working state above a commit");
    rescue_close(&r);
    bed_close(&b);
}

/* ---- damage of one kind ---- */

static void zero_superblocks(bed *b)
{
    static _Alignas(4096) uint8_t block[CMB_BLOCK];
    cmb_queue *q;
    must(cmb_queue_open(b->dev, 1, &q));
    for (unsigned i = 0; i < CMB_SUPER_SLOTS; i++)
        must(cmb_io_write(q, (uint64_t)i * CMB_SUPER_SPACING, block, CMB_BLOCK));
    cmb_queue_close(q);
}

static void without_superblocks_everything_is_found_by_frames(void **state)
{
    static const cmb_init_options kinds[] = {
        {.node_size = 1024},
        {.node_size = 512, .segment_size = 2u << 20},
        {.node_size = 2048, .segment_size = 8u << 20, .hash = CMB_HASH_SHA256},
    };
    (void)state;
    for (size_t k = 0; k < CMB_COUNTOF(kinds); k++) {
        bed b = {.dev = NULL};
        rescue r;
        char room[16];
        cmb_txn *txn;
        cmb_store *refused;
        if (kinds[k].hash && cmb_hash_check(kinds[k].hash))
            continue;
        bed_open_with(&b, 0, &kinds[k]);
        must(cmb_txn_begin(b.store, "main", 0, &txn));
        for (unsigned i = 0; i < 2000; i++)
            must(cmb_txn_put(txn, number_key(room, i), str("a value")));
        must(cmb_txn_commit(txn, &(cmb_commit_info){.message = "first"}, NULL));
        must(cmb_tag_create(b.store, "v1", "main"));
        put(b.store, "main", "one", "more", "second");
        put(b.store, "main", "and", "a working state", NULL);
        bed_reopen(&b);
        zero_superblocks(&b);
        cmb_store_options o = b.options;
        o.read_only = true;
        must_be(cmb_store_open_device(b.dev, &o, &refused), CMB_ENOTIMAGE);
        salvage(&b, NULL, &r);
        assert_int_equal(count_kind(&r.losses, CMB_LOSS_SUPERBLOCKS), 1);
        assert_int_equal(count_kind(&r.losses, CMB_LOSS_STATE), 1);
        assert_int_equal(r.losses.n, 2);
        same_refs(b.store, r.to.store); /* it was open all the time */
        same_commits(b.store, r.to.store);
        rescue_close(&r);
        bed_close(&b);
    }
}

/* The record that moves the branch lies behind that of the commit. */
static void damage_move(bed *b, const char *branch)
{
    uint8_t head[CMB_RECORD_HEADER];
    cmb_resolved rev;
    must(cmb_rev_resolve(b->store, branch, &rev));
    uint64_t addr = cmb_align_up(rev.state.commit.addr + rev.state.commit.length, CMB_RECORD_ALIGN);
    must(cmb_log_read(b->store->log, NULL, addr, sizeof head, head));
    assert_int_equal(cmb_record_kind_of(head), CMB_RECORD_EDITS);
    damage_record(b, addr, cmb_record_length(head), CMB_RECORD_HEADER + 20);
}

/* Of three branches that were committed to one after the other since the last checkpoint, the second one's move is lost, or the last one's. */
static void without_superblocks_moves_that_are_lost_are_told_of(void **state)
{
    static const char *const branches[] = {"one", "two", "three"};
    static const char *const texts[] = {"1 of the last changes of branches and tags", "commits that no branch was seen to stand on"};
    (void)state;
    for (unsigned k = 0; k < 2; k++) {
        const char *lost = branches[k + 1];
        bed b = {.dev = NULL};
        rescue r;
        cmb_resolved moved, found;
        char hex[2 * CMB_NAME_MAX + 1], name[64];
        bed_open_with(&b, 0, &(cmb_init_options){.node_size = 1024});
        put(b.store, "main", "key", "first", "first");
        for (unsigned i = 0; i < CMB_COUNTOF(branches); i++)
            must(cmb_branch_create(b.store, branches[i], "main"));
        bed_reopen(&b);
        for (unsigned i = 0; i < CMB_COUNTOF(branches); i++)
            put(b.store, branches[i], "key", branches[i], branches[i]);
        cmb_device *crashed = copy_device(b.dev); /* before a checkpoint holds it all */
        must(cmb_rev_resolve(b.store, lost, &moved));
        must(cmb_store_close(b.store));
        cmb_device_close(b.dev);
        b.dev = crashed;
        must(cmb_store_open_device(b.dev, &b.options, &b.store));
        damage_move(&b, lost);
        zero_superblocks(&b);
        salvage(&b, NULL, &r);
        print_losses(&r.losses);
        assert_int_equal(count_kind(&r.losses, CMB_LOSS_STATE), 1);
        assert_int_equal(count_kind(&r.losses, CMB_LOSS_FOUND), 1);
        for (size_t i = 0; i < r.losses.n; i++)
            assert_true(r.losses.items[i].kind != CMB_LOSS_STATE || strstr(r.losses.items[i].text, texts[k]));
        for (unsigned i = 0; i < CMB_COUNTOF(branches); i++)
            expect(r.to.store, branches[i], "key", branches[i] == lost ? "first" : branches[i]);
        hex_of(&moved.state.commit.id, hex);
        snprintf(name, sizeof name, "lost+found/commit-%.12s", hex);
        must(cmb_rev_resolve(r.to.store, name, &found));
        assert_true(same_name(&found.state.commit.id, &moved.state.commit.id));
        rescue_close(&r);
        bed_close(&b);
    }
}

static void what_is_no_image_is_refused(void **state)
{
    bed b = {.dev = NULL};
    rescue r;
    (void)state;
    must(cmb_device_mem(16u << 20, NULL, &b.dev));
    must_be(try_salvage(b.dev, NULL, &r), CMB_ENOTIMAGE);
    rescue_close(&r);
    cmb_device_close(b.dev);
}

static void a_target_that_holds_an_image_is_overwritten_by_force_only(void **state)
{
    bed b, other;
    cmb_salvage_result result = {.commits = 99};
    (void)state;
    make_history(&b);
    bed_open(&other);
    must(cmb_store_close(other.store));
    must_be(cmb_salvage_device(b.dev, other.dev, NULL, &result), CMB_EEXIST);
    assert_int_equal(result.commits, 99);
    must(cmb_salvage_device(b.dev, other.dev, &(cmb_salvage_options){.force = true}, &result));
    assert_int_equal(result.commits, HISTORY + 1);
    cmb_device_close(other.dev);
    bed_close(&b);
}

/* The middle leaf below the first node of level 1. */
static cmb_noderef some_leaf(bed *b, const char *rev)
{
    cmb_noderef above = first_node(b, rev, 1), leaf;
    cmb_pin pin = {0};
    cmb_node node;
    must(cmb_nodes_get(b->store->nodes, &above, &pin));
    cmb_node_open(b->store->tree.hash, pin.record, &node);
    cmb_node_child(&node, node.count / 2, &leaf);
    cmb_pin_destroy(b->store->nodes, &pin);
    return leaf;
}

static void a_damaged_leaf_costs_its_keys_and_names_every_branch_that_had_them(void **state)
{
    bed b;
    rescue r;
    cmb_commit *commit;
    char hex[2 * CMB_NAME_MAX + 1];
    (void)state;
    make_history(&b);
    cmb_noderef leaf = some_leaf(&b, "v1");
    cmb_rev before = rev_of(b.store, "v1");
    damage_record(&b, leaf.addr, leaf.length, 60);
    salvage(&b, NULL, &r);
    unsigned main_told = 0, feature_told = 0, tag_told = 0;
    for (size_t i = 0; i < r.losses.n; i++) {
        const told *t = &r.losses.items[i];
        if (t->kind != CMB_LOSS_KEYS)
            continue;
        assert_int_equal(t->addr, leaf.addr);
        main_told += strcmp(t->where, "heads/main") == 0;
        feature_told += strcmp(t->where, "heads/feature") == 0;
        tag_told += strcmp(t->where, "tags/v1") == 0;
    }
    assert_int_equal(main_told, 1);
    assert_int_equal(feature_told, 1);
    assert_int_equal(tag_told, 1);
    assert_int_equal(r.result.damaged, 1);
    assert_int_equal(r.result.commits_changed, HISTORY + 1); /* all of them have the leaf */
    cmb_rev after = rev_of(r.to.store, "v1");
    assert_int_equal(after.entries, before.entries - leaf.count);
    hex_of(&before.commit, hex);
    must(cmb_commit_read(r.to.store, "v1", &commit));
    assert_string_equal(commit->author, "ada");
    assert_int_equal(commit->header_count, 1);
    assert_string_equal(commit->headers[0].name, "salvage.was");
    assert_string_equal((const char *)commit->headers[0].value.data, hex);
    cmb_commit_free(commit);
    must(cmb_commit_read(r.to.store, "main~1", &commit));
    assert_int_equal(commit->generation, HISTORY);
    cmb_commit_free(commit);
    rescue_close(&r);
    bed_close(&b);
}

static void children_of_a_damaged_node_are_found_by_the_names_in_its_remains(void **state)
{
    bed b;
    rescue r;
    (void)state;
    make_history(&b);
    cmb_noderef node = first_node(&b, "v1", 1);
    damage_record(&b, node.addr, node.length, 45); /* in its first key */
    cmb_noderef root = first_node(&b, "feature", first_node(&b, "feature", 1).level + 1);
    damage_record(&b, root.addr, root.length, 45);
    salvage(&b, NULL, &r);
    print_losses(&r.losses);
    assert_int_equal(r.losses.n, 0);
    assert_true(r.result.replaced > 2);
    same_refs(b.store, r.to.store);
    same_commits(b.store, r.to.store);
    rescue_close(&r);
    bed_close(&b);
}

/* Zeros all bytes of a record. */
static void wipe_record(bed *b, uint64_t addr, uint32_t length)
{
    uint64_t offset;
    cmb_queue *q;
    assert_true(cmb_log_locate(b->store->log, addr, length, &offset));
    uint64_t from = offset & ~(uint64_t)(CMB_BLOCK - 1), to = cmb_align_up(offset + length, CMB_BLOCK);
    uint8_t *bytes = aligned_alloc(4096, (size_t)(to - from));
    assert_non_null(bytes);
    must(cmb_queue_open(b->dev, 1, &q));
    must(cmb_io_read(q, from, bytes, to - from, 0));
    memset(bytes + (offset - from), 0, length);
    must(cmb_io_write(q, from, bytes, to - from));
    cmb_queue_close(q);
    free(bytes);
}

static void leaves_that_nothing_leads_to_go_to_lost_and_found(void **state)
{
    bed b;
    rescue r;
    cmb_rev found;
    (void)state;
    make_history(&b);
    cmb_rev before = rev_of(b.store, "v1");
    for (unsigned level = first_node(&b, "v1", 1).level; level < 3; level++) { /* every inner node of v1's first path */
        cmb_resolved at;
        must(cmb_rev_resolve(b.store, "v1", &at));
        if (level > at.state.root.level)
            break;
        cmb_noderef node = first_node(&b, "v1", level);
        wipe_record(&b, node.addr, node.length);
    }
    salvage(&b, NULL, &r);
    assert_true(count_kind(&r.losses, CMB_LOSS_KEYS) > 0);
    assert_int_equal(count_kind(&r.losses, CMB_LOSS_FOUND), 1);
    assert_true(cmb_rev_parse(r.to.store, "lost+found/unverified", &found) == 0 || cmb_rev_parse(r.to.store, "lost+found/entries", &found) == 0);
    assert_true(found.entries > 0);
    assert_true(found.entries <= before.entries);
    assert_int_equal(found.entries, r.result.found);
    expect(r.to.store, "main", "last", "value");
    rescue_close(&r);
    bed_close(&b);
}

static void a_damaged_value_costs_its_key_alone(void **state)
{
    bed b;
    rescue r;
    cmb_resolved rev;
    cmb_pin pin = {0};
    cmb_found found;
    (void)state;
    make_history(&b);
    must(cmb_rev_resolve(b.store, "feature", &rev));
    must(cmb_tree_get(&b.store->tree, &rev.state.root, (const uint8_t *)"large", 5, &pin, &found));
    cmb_pin_destroy(b.store->nodes, &pin);
    damage_record(&b, found.valref.addr, found.valref.length, 30);
    salvage(&b, NULL, &r);
    assert_int_equal(count_kind(&r.losses, CMB_LOSS_VALUE), 1);
    assert_int_equal(count_kind(&r.losses, CMB_LOSS_COMMIT_CHANGED), 1);
    assert_int_equal(r.losses.n, 2);
    expect(r.to.store, "feature", "large", NULL);
    cmb_rev was = rev_of(b.store, "v1"), is = rev_of(r.to.store, "v1");
    assert_true(same_name(&was.commit, &is.commit));
    assert_int_equal(rev_of(r.to.store, "feature").entries, rev_of(b.store, "feature").entries - 1);
    rescue_close(&r);
    bed_close(&b);
}

static void a_lost_commit_keeps_its_content_and_its_children_their_ids(void **state)
{
    bed b;
    rescue r;
    cmb_resolved rev;
    cmb_commit *commit;
    (void)state;
    make_history(&b);
    must(cmb_rev_resolve(b.store, "v1", &rev));
    damage_record(&b, rev.state.commit.addr, rev.state.commit.length, 40);
    salvage(&b, NULL, &r);
    assert_int_equal(count_kind(&r.losses, CMB_LOSS_COMMIT), 1);
    cmb_rev was = rev_of(b.store, "main"), is = rev_of(r.to.store, "main");
    assert_true(same_name(&was.base, &is.base)); /* the parent that is lost is known by its id */
    assert_true(same_name(&was.root, &is.root));
    must(cmb_commit_read(r.to.store, "v1", &commit));
    assert_true(same_name(&commit->root, &rev.state.root.name));
    assert_int_equal(commit->parent_count, 0);
    cmb_commit_free(commit);
    rescue_close(&r);
    bed_close(&b);
}

static void without_the_newest_root_record_the_one_before_and_the_edits_since_give_the_state(void **state)
{
    bed b;
    rescue r;
    static ref_lines before;
    uint64_t addr;
    uint32_t length;
    (void)state;
    make_history(&b);
    list_refs(b.store, &before);
    cmb_log_root(b.store->log, &addr, &length);
    wipe_record(&b, addr, length);
    salvage(&b, NULL, &r);
    assert_int_equal(count_kind(&r.losses, CMB_LOSS_STATE), 1);
    assert_int_equal(r.losses.n, 1);
    same_as(&before, r.to.store);
    rescue_close(&r);
    bed_close(&b);
}

/* Working commits that were logged, as a power cut leaves them: by the lists of an image that opens, and by records alone. */
static void edits_that_are_in_no_tree_yet_come_back(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 2; round++) {
        bed b, cut = {.dev = NULL};
        rescue r;
        char room[16];
        bed_open(&b);
        put(b.store, "main", "first", "of a commit", "first");
        must(cmb_branch_create(b.store, "other", "main"));
        for (unsigned i = 0; i < 40; i++) {
            (void)number_key(room, i % 15);
            put(b.store, i % 3 ? "main" : "other", room, i % 2 ? "odd" : "even", NULL);
        }
        cut.dev = copy_device(b.dev);
        if (round)
            zero_superblocks(&cut);
        salvage(&cut, NULL, &r);
        assert_int_equal(r.losses.n, round ? 2 : 0);
        same_refs(b.store, r.to.store); /* which settles the original's */
        rescue_close(&r);
        cmb_device_close(cut.dev);
        bed_close(&b);
    }
}

static void a_callback_that_wants_no_more_stops_it(void **state)
{
    bed b;
    cmb_salvage_result result = {.losses = 99};
    losses l = {.stop_after = 1};
    cmb_device *to;
    (void)state;
    make_history(&b);
    cmb_noderef leaf = some_leaf(&b, "v1");
    damage_record(&b, leaf.addr, leaf.length, 60);
    must(cmb_device_mem(0, NULL, &to));
    must_be(cmb_salvage_device(b.dev, to, &(cmb_salvage_options){.on_loss = on_loss, .ctx = &l}, &result), CMB_ESTOPPED);
    assert_int_equal(l.n, 1);
    assert_int_equal(result.losses, 99);
    losses_free(&l);
    cmb_device_close(to);
    bed_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_image_comes_out_with_the_same_refs_and_commits),
        cmocka_unit_test(without_superblocks_everything_is_found_by_frames),
        cmocka_unit_test(without_superblocks_moves_that_are_lost_are_told_of),
        cmocka_unit_test(what_is_no_image_is_refused),
        cmocka_unit_test(a_target_that_holds_an_image_is_overwritten_by_force_only),
        cmocka_unit_test(a_damaged_leaf_costs_its_keys_and_names_every_branch_that_had_them),
        cmocka_unit_test(children_of_a_damaged_node_are_found_by_the_names_in_its_remains),
        cmocka_unit_test(leaves_that_nothing_leads_to_go_to_lost_and_found),
        cmocka_unit_test(a_damaged_value_costs_its_key_alone),
        cmocka_unit_test(a_lost_commit_keeps_its_content_and_its_children_their_ids),
        cmocka_unit_test(without_the_newest_root_record_the_one_before_and_the_edits_since_give_the_state),
        cmocka_unit_test(edits_that_are_in_no_tree_yet_come_back),
        cmocka_unit_test(a_callback_that_wants_no_more_stops_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
