/* SPDX-License-Identifier: ISC */
#include "damage.h"

/* All findings of a run, a line each: "code|address|where". */
typedef struct report {
    char lines[8192];
    size_t used;
    unsigned count, stop_after;
    uint64_t last_progress;
} report;

static int on_finding(void *ctx, const cmb_finding *f)
{
    report *r = ctx;
    assert_true(f->error < 0);
    assert_true(strlen(f->text) > 0);
    assert_null(strchr(f->text, '\n'));
    r->used += (size_t)snprintf(r->lines + r->used, sizeof r->lines - r->used, "%s|%llu|%s\n", f->code,
                                (unsigned long long)f->addr, f->where);
    return ++r->count == r->stop_after;
}

static void on_progress(void *ctx, uint64_t done, uint64_t total)
{
    report *r = ctx;
    assert_true(done >= r->last_progress);
    assert_true(total >= done);
    r->last_progress = done;
}

static cmb_fsck_result check(bed *b, cmb_fsck_level level, report *r)
{
    cmb_fsck_options options = {.level = level, .on_finding = on_finding, .on_progress = on_progress, .ctx = r};
    cmb_fsck_result result;
    memset(r, 0, sizeof *r);
    must(cmb_fsck(b->store, &options, &result));
    assert_int_equal(result.findings, r->count);
    return result;
}

static void expect_line(const report *r, const char *code, uint64_t addr, const char *where)
{
    char line[600];
    snprintf(line, sizeof line, "%s|%llu|%s\n", code, (unsigned long long)addr, where);
    if (!strstr(r->lines, line))
        fail_msg("no finding\n%sin\n%s", line, r->lines);
}

static void a_whole_image_is_clean_at_every_level(void **state)
{
    bed b;
    report r;
    (void)state;
    make_history(&b);
    for (int level = CMB_FSCK_QUICK; level <= CMB_FSCK_FULL; level++) {
        cmb_fsck_result result = check(&b, (cmb_fsck_level)level, &r);
        if (result.findings)
            fail_msg("level %d:\n%s", level, r.lines);
        assert_int_equal(result.refs, 3);
        assert_int_equal(result.superblocks, 4);
    }
    bed_close(&b);
}

static void results_count_every_record_once(void **state)
{
    bed b;
    report r;
    (void)state;
    make_history(&b);
    cmb_fsck_result structure = check(&b, CMB_FSCK_STRUCTURE, &r), full = check(&b, CMB_FSCK_FULL, &r);
    assert_int_equal(full.commits, HISTORY + 1);
    assert_int_equal(full.values, 1);
    assert_int_equal(structure.nodes, full.nodes);
    assert_int_equal(structure.leaves, full.leaves);
    assert_true(full.frames > 0);
    assert_true(full.bytes > structure.bytes + LARGE);
    bed_close(&b);
}

static void a_damaged_leaf_names_every_ref_that_reaches_it(void **state)
{
    bed b;
    report r;
    (void)state;
    make_history(&b);
    cmb_noderef last = first_node(&b, "v1", 1), leaf;
    /* A leaf in the middle of the first level-1 node: later commits changed the first ones only. */
    cmb_pin pin = {0};
    cmb_node node;
    must(cmb_nodes_get(b.store->nodes, &last, &pin));
    cmb_node_open(b.store->tree.hash, pin.record, &node);
    cmb_node_child(&node, node.count - 1, &leaf);
    cmb_pin_destroy(b.store->nodes, &pin);
    bed_reopen(&b);
    damage_record(&b, leaf.addr, leaf.length, 60);
    assert_int_equal(check(&b, CMB_FSCK_STRUCTURE, &r).findings, 0);
    check(&b, CMB_FSCK_FULL, &r);
    char start[120];
    snprintf(start, sizeof start, "leaf-damaged|%llu|heads/feature, heads/main, tags/v1, 3 commits of the history, keys \"key",
             (unsigned long long)leaf.addr);
    if (!strstr(r.lines, start))
        fail_msg("no finding\n%s\nin\n%s", start, r.lines);
    bed_close(&b);
}

static void a_damaged_inner_node_is_found_by_structure(void **state)
{
    bed b;
    report r;
    (void)state;
    make_history(&b);
    cmb_noderef node = first_node(&b, "v1", 1);
    bed_reopen(&b);
    damage_record(&b, node.addr, node.length, 100);
    assert_int_equal(check(&b, CMB_FSCK_QUICK, &r).findings, 0);
    assert_true(check(&b, CMB_FSCK_STRUCTURE, &r).findings > 0);
    assert_non_null(strstr(r.lines, "node-damaged|"));
    assert_non_null(strstr(r.lines, "tags/v1, keys \"\" to \"key"));
    bed_close(&b);
}

static void a_damaged_value_names_its_key(void **state)
{
    bed b;
    report r;
    cmb_resolved rev;
    cmb_pin pin = {0};
    cmb_found found;
    (void)state;
    make_history(&b);
    must(cmb_rev_resolve(b.store, "feature", &rev));
    must(cmb_tree_get(&b.store->tree, &rev.state.root, (const uint8_t *)"large", 5, &pin, &found));
    assert_true(found.out_of_line);
    cmb_pin_destroy(b.store->nodes, &pin);
    damage_record(&b, found.valref.addr, found.valref.length, 30);
    check(&b, CMB_FSCK_FULL, &r);
    expect_line(&r, "value-damaged", found.valref.addr, "heads/feature, key \"large\"");
    bed_close(&b);
}

static void a_damaged_commit_is_found_by_every_level(void **state)
{
    bed b;
    report r;
    cmb_resolved rev;
    (void)state;
    make_history(&b);
    must(cmb_rev_resolve(b.store, "v1", &rev));
    damage_record(&b, rev.state.commit.addr, rev.state.commit.length, 40);
    for (int level = CMB_FSCK_QUICK; level <= CMB_FSCK_FULL; level++) {
        check(&b, (cmb_fsck_level)level, &r);
        expect_line(&r, "commit-damaged", rev.state.commit.addr, "tags/v1");
    }
    bed_close(&b);
}

static void a_damaged_superblock_is_told_and_harmless(void **state)
{
    bed b;
    report r;
    cmb_queue *q;
    cmb_log_stats stats;
    static _Alignas(4096) uint8_t block[CMB_BLOCK];
    (void)state;
    make_history(&b);
    cmb_log_get_stats(b.store->log, &stats);
    uint64_t slot = stats.generation % 2;
    must(cmb_queue_open(b.dev, 1, &q));
    must(cmb_io_read(q, slot << 20, block, CMB_BLOCK, 0));
    block[50] ^= 1;
    must(cmb_io_write(q, slot << 20, block, CMB_BLOCK));
    cmb_queue_close(q);
    bed_reopen(&b);
    cmb_fsck_result result = check(&b, CMB_FSCK_QUICK, &r);
    assert_int_equal(result.superblocks, 3);
    assert_string_equal(r.lines, "superblock-damaged|0|nothing: the other copies hold\n");
    bed_close(&b);
}

static void the_first_finding_can_stop_the_run(void **state)
{
    bed b;
    report r = {.stop_after = 1};
    cmb_fsck_options options = {.level = CMB_FSCK_FULL, .on_finding = on_finding, .ctx = &r};
    cmb_fsck_result result = {.findings = 99};
    cmb_resolved rev;
    (void)state;
    make_history(&b);
    must(cmb_rev_resolve(b.store, "v1", &rev));
    damage_record(&b, rev.state.commit.addr, rev.state.commit.length, 40);
    must_be(cmb_fsck(b.store, &options, &result), CMB_ESTOPPED);
    assert_int_equal(r.count, 1);
    assert_int_equal(result.findings, 99);
    bed_close(&b);
}

static void an_unknown_level_is_refused(void **state)
{
    bed b;
    cmb_fsck_result result;
    (void)state;
    bed_open(&b);
    must_be(cmb_fsck(b.store, &(cmb_fsck_options){0}, &result), CMB_EINVAL);
    bed_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_image_is_clean_at_every_level),
        cmocka_unit_test(results_count_every_record_once),
        cmocka_unit_test(a_damaged_leaf_names_every_ref_that_reaches_it),
        cmocka_unit_test(a_damaged_inner_node_is_found_by_structure),
        cmocka_unit_test(a_damaged_value_names_its_key),
        cmocka_unit_test(a_damaged_commit_is_found_by_every_level),
        cmocka_unit_test(a_damaged_superblock_is_told_and_harmless),
        cmocka_unit_test(the_first_finding_can_stop_the_run),
        cmocka_unit_test(an_unknown_level_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
