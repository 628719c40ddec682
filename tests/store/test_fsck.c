/* SPDX-License-Identifier: ISC */
#include "damage.h"

#include "log/format.h"
#include "store/facts.h"
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

/* ---- beside a writer ---- */

/* A reader's store on the same device, as of now. */
static bed beside(const bed *b)
{
    bed reader = *b;
    reader.options.read_only = true;
    reader.options.residency = CMB_RESIDENT_POOL;
    must(cmb_store_open_device(b->dev, &reader.options, &reader.store));
    return reader;
}

/* Edits that fill some journal segments, then a checkpoint: some times over, so that journals are given back and used anew. */
static void go_on(bed *b, unsigned times)
{
    for (unsigned t = 0; t < times; t++) {
        for (unsigned i = 0; i < 1200; i++)
            log_edit(b, i % 2); /* of few keys: what a checkpoint lists of them, and keeps, is soon nothing */
        must(cmb_store_checkpoint(b->store));
    }
}

typedef struct busy {
    bed *writer;
    unsigned count;
} busy;

static int writer_goes_on(void *ctx, const cmb_finding *f)
{
    busy *w = ctx;
    (void)f;
    if (w->count++ == 0)
        go_on(w->writer, 3);
    return 0;
}

static void after_a_true_finding_what_the_writer_used_anew_is_still_no_damage(void **state)
{
    bed b;
    cmb_resolved rev;
    static const char *const refs[] = {"v1", "feature"};
    (void)state;
    make_history(&b);
    for (unsigned i = 0; i < 2; i++) {
        must(cmb_rev_resolve(b.store, refs[i], &rev));
        damage_record(&b, rev.state.commit.addr, rev.state.commit.length, 40);
    }
    go_on(&b, 1);
    for (int level = CMB_FSCK_QUICK; level <= CMB_FSCK_FULL; level++) {
        bed reader = beside(&b);
        busy w = {.writer = &b};
        cmb_fsck_options options = {.level = (cmb_fsck_level)level, .on_finding = writer_goes_on, .ctx = &w};
        cmb_fsck_result result = {.findings = 99};
        if (level == CMB_FSCK_STRUCTURE) { /* told together, after one look */
            must(cmb_fsck(reader.store, &options, &result));
            assert_int_equal(w.count, result.findings);
        } else { /* of commits as they are found, of frames at the end */
            must_be(cmb_fsck(reader.store, &options, &result), CMB_ESTALE);
            assert_int_equal(w.count, level == CMB_FSCK_QUICK ? 1 : 2);
        }
        must(cmb_store_close(reader.store));
    }
    bed_close(&b);
}

static void writer_goes_on_meanwhile(void *ctx, uint64_t done, uint64_t total)
{
    (void)done;
    (void)total;
    writer_goes_on(ctx, NULL);
}

static int none_after_it_went_on(void *ctx, const cmb_finding *f)
{
    busy *w = ctx;
    (void)f;
    assert_int_equal(w->count, 0);
    return 0;
}

static void findings_that_wait_are_not_told_of_an_image_that_went_on(void **state)
{
    bed b;
    cmb_fsck_result result;
    (void)state;
    make_history(&b);
    cmb_noderef node = first_node(&b, "feature", 1); /* what follows it is large: there is progress to tell of */
    damage_record(&b, node.addr, node.length, 100);
    go_on(&b, 1);
    bed reader = beside(&b);
    busy w = {.writer = &b};
    cmb_fsck_options options = {.level = CMB_FSCK_STRUCTURE, .on_finding = none_after_it_went_on, .on_progress = writer_goes_on_meanwhile, .ctx = &w};
    must_be(cmb_fsck(reader.store, &options, &result), CMB_ESTALE);
    assert_true(w.count > 0);
    must(cmb_store_close(reader.store));
    bed_close(&b);
}

/* The journals of the reader's tail are gone when they are scanned: that is no damage, and the check comes to its end. */
static void a_full_check_ends_beside_a_writer_that_uses_journals_anew(void **state)
{
    bed b;
    report r;
    size_t n;
    uint64_t total;
    cmb_facts *facts;
    (void)state;
    memset(&b, 0, sizeof b);
    bed_open_with(&b, 32 << 20, NULL);
    put(b.store, "main", "key", "value", "a commit");
    for (unsigned i = 0; i < 1500; i++) /* no checkpoint: they lie in the tail */
        log_edit(&b, i % 2);
    bed reader = beside(&b);
    for (unsigned i = 0; i < 8000; i++) {
        log_edit(&b, i % 2);
        if (i % 400 == 0)
            must(cmb_store_checkpoint(b.store));
    }
    must(cmb_facts_start(reader.store, &(cmb_facts_options){0}, &facts));
    must(cmb_facts_finish(facts));
    cmb_facts_lost(facts, &n, &total);
    cmb_facts_destroy(facts);
    assert_true(total > 0);
    assert_int_equal(check(&reader, CMB_FSCK_FULL, &r).findings, 0);
    must(cmb_store_close(reader.store));
    bed_close(&b);
}

/* ---- how far damage reaches ---- */

typedef struct frames {
    uint64_t addr[256];
    size_t n;
} frames;

static int take_frame(void *ctx, const cmb_scan_event *ev)
{
    frames *f = ctx;
    if (!ev->record && !ev->error && f->n < sizeof f->addr / sizeof *f->addr)
        f->addr[f->n++] = ev->frame_addr;
    return 0;
}

static void a_damaged_stretch_ends_where_the_next_intact_frame_begins(void **state)
{
    bed b;
    frames f = {0};
    size_t n;
    uint64_t total;
    cmb_facts *facts;
    (void)state;
    make_history(&b);
    unsigned shift = cmb_log_params(b.store->log)->segment_shift;
    uint64_t segment = first_node(&b, "v1", 0).addr >> shift;
    must(cmb_log_scan(b.store->log, segment, take_frame, &f));
    assert_true(f.n > 4);
    damage_record(&b, f.addr[0], CMB_BLOCK, 20);
    damage_record(&b, f.addr[2], CMB_BLOCK, 20);
    damage_record(&b, f.addr[3], CMB_BLOCK, 20); /* one stretch with the one before */
    damage_record(&b, f.addr[f.n - 1], CMB_BLOCK, 20);
    for (unsigned threads = 1; threads <= 2; threads++) {
        must(cmb_facts_start(b.store, &(cmb_facts_options){.threads = threads}, &facts));
        must(cmb_facts_finish(facts));
        const cmb_lost *lost = cmb_facts_lost(facts, &n, &total);
        assert_int_equal(n, 3);
        assert_int_equal(total, 3);
        assert_int_equal(lost[0].addr, f.addr[0]);
        assert_int_equal(lost[0].end, f.addr[1]);
        assert_int_equal(lost[1].addr, f.addr[2]);
        assert_int_equal(lost[1].end, f.addr[4]);
        assert_int_equal(lost[2].addr, f.addr[f.n - 1]);
        assert_int_equal(lost[2].end, (segment + 1) << shift);
        cmb_facts_destroy(facts);
    }
    bed_close(&b);
}

/* ---- what nothing but a program that lies writes ---- */

/* A commit as `draft` says and a branch on it. */
static cmb_commit_at forge(bed *b, const char *branch, const cmb_commit_draft *draft)
{
    cmb_unit unit = {0};
    cmb_refobj *ref;
    cmb_state s = {.commit_root = draft->root, .root = draft->root, .generation = draft->generation};
    char full[CMB_REF_FULL_SIZE];
    uint64_t seq;
    snprintf(full, sizeof full, "heads/%s", branch);
    must(cmb_ref_use(b->store, full, strlen(full), &ref));
    must(cmb_unit_begin(b->store, &unit));
    must(cmb_commit_append(b->store, unit.app, draft, &s.commit));
    must(cmb_unit_index(&unit, &s.commit));
    must(cmb_unit_move(&unit, ref, &s, CMB_REFLOG_COMMITTED));
    must(cmb_unit_publish(&unit, &seq));
    cmb_ref_unuse(b->store, ref);
    must(cmb_unit_settle(b->store, seq, false));
    return s.commit;
}

/* A commit above that one. */
static cmb_commit_draft above(bed *b, const cmb_commit_at *parent)
{
    cmb_state below;
    must(cmb_commit_state(b->store, parent, &below));
    return (cmb_commit_draft){.root = below.root, .parents = parent, .parent_count = 1, .generation = below.generation + 1, .time = 1};
}

static cmb_commit_at tip(bed *b, const char *rev)
{
    cmb_commit_at at;
    must(cmb_commit_resolve(b->store, rev, true, &at));
    return at;
}

static void every_parent_lies_where_the_index_has_it(void **state)
{
    bed b;
    report r;
    char where[100], hex[2 * CMB_NAME_MAX + 1];
    (void)state;
    make_history(&b);
    cmb_commit_at parent = tip(&b, "main"), lie = parent;
    cmb_commit_draft draft = above(&b, &parent);
    lie.addr -= 16;
    draft.parents = &lie;
    cmb_commit_at child = forge(&b, "lies", &draft);
    for (int level = CMB_FSCK_QUICK; level <= CMB_FSCK_FULL; level++) {
        assert_int_equal(check(&b, (cmb_fsck_level)level, &r).findings, 1);
        expect_line(&r, "parent-missing", child.addr, "heads/lies");
    }
    draft = above(&b, &child);
    forge(&b, "lies", &draft);
    cmb_name_hex(&child.id, hex);
    snprintf(where, sizeof where, "commit %s", hex);
    for (int level = CMB_FSCK_STRUCTURE; level <= CMB_FSCK_FULL; level++) {
        assert_int_equal(check(&b, (cmb_fsck_level)level, &r).findings, 1);
        expect_line(&r, "parent-missing", child.addr, where);
    }
    bed_close(&b);
}

static void a_parent_that_the_index_does_not_have_is_missing_but_a_shallow_history_is_whole(void **state)
{
    for (unsigned shallow = 0; shallow < 2; shallow++) {
        bed b;
        report r;
        (void)state;
        make_history(&b);
        cmb_commit_at parent = tip(&b, "main"), other = parent;
        cmb_commit_draft draft = above(&b, &parent);
        other.id.bytes[0] ^= 1;
        if (shallow)
            other.addr = other.length = 0;
        draft.parents = &other;
        cmb_commit_at child = forge(&b, "child", &draft);
        draft = above(&b, &child);
        forge(&b, "child", &draft);
        check(&b, CMB_FSCK_STRUCTURE, &r);
        assert_int_equal(r.count, !shallow);
        if (!shallow)
            assert_non_null(strstr(r.lines, "parent-missing|"));
        bed_close(&b);
    }
}

static void a_content_without_an_address_is_the_empty_one(void **state)
{
    bed b;
    report r;
    (void)state;
    make_history(&b);
    cmb_commit_at parent = tip(&b, "main");
    cmb_commit_draft draft = above(&b, &parent);
    draft.root.addr = draft.root.length = 0;
    cmb_commit_at child = forge(&b, "nowhere", &draft);
    draft = above(&b, &parent);
    draft.parents = &child;
    draft.generation++;
    forge(&b, "nowhere", &draft); /* whose content is there */
    for (int level = CMB_FSCK_STRUCTURE; level <= CMB_FSCK_FULL; level++) {
        assert_int_equal(check(&b, (cmb_fsck_level)level, &r).findings, 1);
        assert_non_null(strstr(r.lines, "node-damaged|0|commit "));
    }
    cmb_tree_empty(&b.store->tree, &draft.root);
    draft.time++;
    forge(&b, "nowhere", &draft); /* the former one is in the index still */
    assert_int_equal(check(&b, CMB_FSCK_FULL, &r).findings, 1);
    bed_close(&b);
}

static void a_leaf_that_two_refer_to_is_what_both_mean(void **state)
{
    bed b;
    report r;
    cmb_state one, two;
    (void)state;
    bed_open(&b);
    put(b.store, "main", "key", "first", "one");
    put(b.store, "main", "key", "other", "two");
    cmb_commit_at at = tip(&b, "main"), below = tip(&b, "main~1");
    must(cmb_commit_state(b.store, &at, &two));
    must(cmb_commit_state(b.store, &below, &one));
    assert_int_equal(one.root.level, 0);
    cmb_commit_draft draft = above(&b, &at);
    draft.root.addr = one.root.addr; /* the name of the one, the place of the other */
    forge(&b, "zz", &draft);
    must(cmb_branch_create(b.store, "a", "main~1"));
    bed reader = beside(&b); /* which has read neither */
    assert_int_equal(check(&reader, CMB_FSCK_STRUCTURE, &r).findings, 0);
    assert_int_equal(check(&reader, CMB_FSCK_FULL, &r).findings, 1);
    expect_line(&r, "leaf-damaged", one.root.addr, "heads/zz");
    must(cmb_store_close(reader.store));
    bed_close(&b);
}

static int on_raw(void *ctx, const cmb_finding *f)
{
    unsigned *n = ctx;
    for (const char *p = f->text; *p; p++)
        assert_true((unsigned char)*p >= 0x20 && *p != 0x7f);
    for (const char *p = f->where; *p; p++)
        assert_true((unsigned char)*p >= 0x20 && *p != 0x7f);
    if (f->kind->number == CMB_FINDING_REF_NAME) {
        assert_non_null(strstr(f->where, "heads/a\\x1b[2J\\x0ab\\xc2"));
        assert_string_equal(f->refs[0], "heads/a\033[2J\nb\302\233c\303\251");
        assert_non_null(strstr(f->where, "c\303\251"));
        ++*n;
    }
    return 0;
}

static void a_name_does_nothing_to_the_terminal_that_shows_it(void **state)
{
    bed b;
    unsigned n = 0;
    cmb_fsck_result result;
    (void)state;
    make_history(&b);
    cmb_commit_at parent = tip(&b, "main");
    cmb_commit_draft draft = above(&b, &parent);
    forge(&b, "a\033[2J\nb\302\233c\303\251", &draft);
    must(cmb_fsck(b.store, &(cmb_fsck_options){.level = CMB_FSCK_QUICK, .on_finding = on_raw, .ctx = &n}, &result));
    assert_int_equal(n, 1);
    bed_close(&b);
}

/* ---- memory that runs out ---- */

typedef struct purse {
    unsigned left; /* allocations until one is refused; 0: none is */
} purse;

static bool pays(purse *p)
{
    return p->left == 0 || --p->left > 0;
}

static void *purse_alloc(void *ctx, size_t size)
{
    return pays(ctx) ? malloc(size) : NULL;
}

static void *purse_resize(void *ctx, void *ptr, size_t old_size, size_t new_size)
{
    (void)old_size;
    return pays(ctx) ? realloc(ptr, new_size) : NULL;
}

static void purse_release(void *ctx, void *ptr, size_t size)
{
    (void)ctx;
    (void)size;
    free(ptr);
}

/* Names of refs alone may be left out for want of memory. */
static void whichever_allocation_fails_a_check_ends_with_that_or_with_its_findings(void **state)
{
    purse p = {0};
    bed b;
    unsigned findings = 0, failed = 0;
    (void)state;
    make_history(&b);
    damage_some(&b);
    bed reader = b;
    reader.options.read_only = true;
    reader.options.alloc = (cmb_allocator){.ctx = &p, .alloc = purse_alloc, .resize = purse_resize, .release = purse_release};
    for (unsigned first = 0, error = 1; error; first++) {
        report r = {0};
        cmb_fsck_options options = {.level = CMB_FSCK_FULL, .on_finding = on_finding, .ctx = &r};
        cmb_fsck_result result = {.findings = 99};
        must(cmb_store_open_device(b.dev, &reader.options, &reader.store)); /* whose caches are empty */
        p.left = first;
        int got = cmb_fsck(reader.store, &options, &result);
        error = first == 0 || p.left == 0; /* one was refused */
        p.left = 0;
        if (first == 0) {
            must(got);
            findings = r.count;
        } else if (got) {
            must_be(got, CMB_ENOMEM);
            assert_int_equal(result.findings, 99);
            failed++;
        } else {
            assert_int_equal(r.count, findings);
        }
        must(cmb_store_close(reader.store));
    }
    assert_true(findings >= 4);
    assert_true(failed > 20);
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
        cmocka_unit_test(after_a_true_finding_what_the_writer_used_anew_is_still_no_damage),
        cmocka_unit_test(findings_that_wait_are_not_told_of_an_image_that_went_on),
        cmocka_unit_test(a_full_check_ends_beside_a_writer_that_uses_journals_anew),
        cmocka_unit_test(a_damaged_stretch_ends_where_the_next_intact_frame_begins),
        cmocka_unit_test(every_parent_lies_where_the_index_has_it),
        cmocka_unit_test(a_parent_that_the_index_does_not_have_is_missing_but_a_shallow_history_is_whole),
        cmocka_unit_test(a_content_without_an_address_is_the_empty_one),
        cmocka_unit_test(a_leaf_that_two_refer_to_is_what_both_mean),
        cmocka_unit_test(a_name_does_nothing_to_the_terminal_that_shows_it),
        cmocka_unit_test(whichever_allocation_fails_a_check_ends_with_that_or_with_its_findings),
        cmocka_unit_test(a_check_changes_no_byte),
        cmocka_unit_test(a_damaged_superblock_is_mended_from_the_other_copy),
        cmocka_unit_test(the_first_finding_can_stop_the_run),
        cmocka_unit_test(an_unknown_level_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
