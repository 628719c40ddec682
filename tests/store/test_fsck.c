/* SPDX-License-Identifier: ISC */
#include "damage.h"

#include "log/format.h"
#include "store/intents.h"

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
    size_t n;
    const cmb_finding_kind *kinds = cmb_finding_kinds(&n);
    assert_true(f->error < 0);
    assert_true(f->kind >= kinds && f->kind < kinds + n);
    assert_string_equal(f->code, f->kind->name);
    assert_true(f->refs_total >= f->ref_count && f->commits_total >= f->commit_count);
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

static cmb_fsck_result check_with(bed *b, cmb_fsck_options options, report *r)
{
    cmb_fsck_result result;
    memset(r, 0, sizeof *r);
    options.on_finding = on_finding;
    options.on_progress = on_progress;
    options.ctx = r;
    must(cmb_fsck(b->store, &options, &result));
    assert_int_equal(result.findings, r->count);
    return result;
}

static cmb_fsck_result check(bed *b, cmb_fsck_level level, report *r)
{
    return check_with(b, (cmb_fsck_options){.level = level, .threads = 2}, r);
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

/* The first out-of-line value, the last leaf and a commit of an image with history. */
static void damage_some(bed *b)
{
    cmb_resolved rev;
    cmb_pin pin = {0};
    cmb_found found;
    cmb_node node;
    cmb_noderef last = first_node(b, "v1", 1), leaf;
    must(cmb_nodes_get(b->store->nodes, &last, &pin));
    cmb_node_open(b->store->tree.hash, pin.record, &node);
    cmb_node_child(&node, node.count - 1, &leaf);
    must(cmb_rev_resolve(b->store, "feature", &rev));
    must(cmb_tree_get(&b->store->tree, &rev.state.root, (const uint8_t *)"large", 5, &pin, &found));
    cmb_pin_destroy(b->store->nodes, &pin);
    bed_reopen(b);
    damage_record(b, leaf.addr, leaf.length, 60);
    damage_record(b, found.valref.addr - 100000 / 16 * 16, 4096, 30); /* its last chunk lies right below its list */
    damage_record(b, found.valref.addr, found.valref.length, 30);
    damage_record(b, rev.state.commit.addr, rev.state.commit.length, 40);
}

static void however_many_threads_and_however_little_memory_the_findings_are_the_same(void **state)
{
    bed b;
    report one, other;
    (void)state;
    make_history(&b);
    damage_some(&b);
    cmb_fsck_result first = check_with(&b, (cmb_fsck_options){.level = CMB_FSCK_FULL}, &one);
    assert_true(first.findings >= 4);
    for (unsigned threads = 1; threads <= 4; threads++)
        for (size_t memory = 1; memory <= 100001; memory += 20000) {
            cmb_fsck_result again = check_with(&b, (cmb_fsck_options){.level = CMB_FSCK_FULL, .threads = threads, .memory = memory}, &other);
            assert_string_equal(one.lines, other.lines);
            assert_int_equal(first.leaves, again.leaves);
            assert_int_equal(first.frames, again.frames);
            assert_int_equal(first.bytes, again.bytes);
        }
    bed_close(&b);
}

static int on_redacted(void *ctx, const cmb_finding *f)
{
    static const char *const secrets[] = {"main", "feature", "v1", "large", "key0", "ada", "ring"};
    unsigned *refs = ctx;
    *refs += f->ref_count;
    for (size_t i = 0; i < sizeof secrets / sizeof *secrets; i++) {
        assert_null(strstr(f->text, secrets[i]));
        assert_null(strstr(f->where, secrets[i]));
        for (unsigned r = 0; r < f->ref_count; r++)
            assert_null(strstr(f->refs[r], secrets[i]));
        if (f->key_after) {
            assert_null(strstr(f->key_after, secrets[i]));
            assert_null(strstr(f->key_last, secrets[i]));
        }
    }
    return 0;
}

static void names_and_keys_are_hidden_when_asked_for(void **state)
{
    bed b;
    unsigned refs = 0;
    cmb_fsck_result result;
    (void)state;
    make_history(&b);
    damage_some(&b);
    for (int level = CMB_FSCK_QUICK; level <= CMB_FSCK_FULL; level++)
        must(cmb_fsck(b.store, &(cmb_fsck_options){.level = (cmb_fsck_level)level, .redact = true, .on_finding = on_redacted, .ctx = &refs}, &result));
    assert_true(refs > 4);
    bed_close(&b);
}

static void findings_have_numbers_and_names_of_their_own(void **state)
{
    size_t n;
    const cmb_finding_kind *kinds = cmb_finding_kinds(&n);
    (void)state;
    for (size_t i = 1; i < n; i++) {
        assert_true(kinds[i].number > kinds[i - 1].number);
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(kinds[i].name, kinds[j].name);
    }
    assert_int_equal(kinds[0].number, CMB_FINDING_OPEN_REFUSED);
}

/* ---- edits that are not in a tree yet ---- */

static int take_run(void *ctx, const char *ref, uint64_t addr, uint32_t length)
{
    cmb_extent *run = ctx;
    assert_string_equal(ref, "heads/main");
    *run = (cmb_extent){addr, length};
    return 0;
}

/* A working commit that nobody wants the name of, so that it is only logged. */
static void log_edit(bed *b, unsigned i)
{
    char room[16];
    cmb_txn *txn;
    must(cmb_txn_begin(b->store, "main", 0, &txn));
    must(cmb_txn_put(txn, number_key(room, i), str("edited")));
    must(cmb_txn_commit(txn, NULL, NULL));
}

static void a_damaged_run_of_logged_edits_names_its_branch(void **state)
{
    bed b;
    report r;
    cmb_extent run = {0};
    (void)state;
    make_history(&b);
    for (unsigned i = 0; i < 40; i++)
        log_edit(&b, i);
    must(cmb_store_checkpoint(b.store));
    must(cmb_runs_each(b.store, take_run, &run));
    assert_true(run.length > 0);
    for (int level = CMB_FSCK_QUICK; level <= CMB_FSCK_FULL; level++)
        if (check(&b, (cmb_fsck_level)level, &r).findings)
            fail_msg("%s", r.lines);
    damage_record(&b, run.addr, run.length, 50);
    for (int level = CMB_FSCK_QUICK; level <= CMB_FSCK_FULL; level++) {
        check(&b, (cmb_fsck_level)level, &r);
        expect_line(&r, "intents-damaged", run.addr, "heads/main");
    }
    assert_non_null(strstr(r.lines, "frame-damaged|"));
    bed_close(&b);
}

static void a_damaged_frame_since_the_last_checkpoint_is_more_than_something_unused(void **state)
{
    bed b;
    report r;
    (void)state;
    make_history(&b);
    put(b.store, "main", "one", "more", NULL);
    must(cmb_store_checkpoint(b.store));
    uint64_t tail = cmb_log_tail_start(b.store->log);
    log_edit(&b, 1);
    damage_record(&b, tail, CMB_BLOCK, 140);
    check(&b, CMB_FSCK_FULL, &r);
    expect_line(&r, "frame-damaged", tail, "what was written since the last checkpoint: a later open may be refused");
    bed_close(&b);
}

static void a_check_changes_no_byte(void **state)
{
    bed b;
    report r;
    cmb_log_stats before, after;
    (void)state;
    make_history(&b);
    for (unsigned i = 0; i < 10; i++)
        log_edit(&b, i);
    cmb_log_get_stats(b.store->log, &before);
    for (int level = CMB_FSCK_QUICK; level <= CMB_FSCK_FULL; level++)
        assert_int_equal(check(&b, (cmb_fsck_level)level, &r).findings, 0);
    cmb_log_get_stats(b.store->log, &after);
    assert_int_equal(before.bytes_written, after.bytes_written);
    assert_int_equal(before.units, after.units);
    bed_close(&b);
}

static void a_damaged_superblock_is_mended_from_the_other_copy(void **state)
{
    static _Alignas(4096) uint8_t block[CMB_BLOCK], whole[CMB_BLOCK];
    bed b;
    report r;
    cmb_queue *q;
    cmb_log_stats stats;
    unsigned mended = 9;
    (void)state;
    make_history(&b);
    cmb_log_get_stats(b.store->log, &stats);
    must(cmb_store_close(b.store));
    for (uint64_t copy = 0; copy < 2; copy++) {
        uint64_t offset = (stats.generation % 2 + 2 * copy) << 20;
        must(cmb_queue_open(b.dev, 1, &q));
        must(cmb_io_read(q, offset, whole, CMB_BLOCK, 0));
        memcpy(block, whole, sizeof block);
        block[50] ^= 1;
        must(cmb_io_write(q, offset, block, CMB_BLOCK));
        must(cmb_fsck_mend_device(b.dev, &b.options, &mended));
        assert_int_equal(mended, 1);
        must(cmb_io_read(q, offset, block, CMB_BLOCK, 0));
        assert_memory_equal(block, whole, CMB_SUPER_SIZE);
        must(cmb_fsck_mend_device(b.dev, NULL, &mended));
        assert_int_equal(mended, 0);
        cmb_queue_close(q);
    }
    must(cmb_store_open_device(b.dev, &b.options, &b.store));
    assert_int_equal(check(&b, CMB_FSCK_FULL, &r).findings, 0);
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
        cmocka_unit_test(however_many_threads_and_however_little_memory_the_findings_are_the_same),
        cmocka_unit_test(names_and_keys_are_hidden_when_asked_for),
        cmocka_unit_test(findings_have_numbers_and_names_of_their_own),
        cmocka_unit_test(a_damaged_run_of_logged_edits_names_its_branch),
        cmocka_unit_test(a_damaged_frame_since_the_last_checkpoint_is_more_than_something_unused),
        cmocka_unit_test(a_check_changes_no_byte),
        cmocka_unit_test(a_damaged_superblock_is_mended_from_the_other_copy),
        cmocka_unit_test(the_first_finding_can_stop_the_run),
        cmocka_unit_test(an_unknown_level_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
