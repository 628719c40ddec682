/* SPDX-License-Identifier: ISC */
/*
 * Working commits that are logged as edits: what they write, that every look at the branch sees them, before and after
 * they are merged, a crash or a checkpoint in between, and that a reader which cannot write finds the same names.
 */
#include "bed.h"

#include "store/intents.h"
#include "tests/sim/sim.h"

/* ---- a store on a simulated disk, so that its power can be cut at any time ---- */

typedef struct rig {
    sim_disk *disk;
    cmb_store *store;
    bed_env env;
    cmb_store_options options;
} rig;

static void rig_open_sized(rig *r, uint32_t node_size, uint64_t size)
{
    cmb_init_options init = {.node_size = node_size};
    memset(r, 0, sizeof *r);
    r->env = (bed_env){.now = 1700000000000000, .random = 42};
    r->options.env = (cmb_env){.ctx = &r->env, .now = bed_now, .random = bed_random};
    r->disk = sim_new(&(sim_options){.size = size});
    must(cmb_store_init_device(sim_device(r->disk), &init, &r->options));
    must(cmb_store_open_device(sim_device(r->disk), &r->options, &r->store));
}

static void rig_open(rig *r, uint32_t node_size)
{
    rig_open_sized(r, node_size, 96 << 20);
}

static void rig_close(rig *r)
{
    must(cmb_store_close(r->store));
    sim_free(r->disk);
}

/* The store as it is after a power cut now that lost everything that was not flushed. */
static void rig_after_crash(const rig *r, bool read_only, rig *out)
{
    *out = *r;
    out->options.env.ctx = &out->env;
    out->options.read_only = read_only;
    out->disk = sim_fork(r->disk);
    must(cmb_store_open_device(sim_device(out->disk), &out->options, &out->store));
}

/* A working commit of one put, or of a deletion, whose root nobody asks for. */
static void work(cmb_store *store, const char *branch, const char *key, const char *value)
{
    cmb_txn *txn;
    must(cmb_txn_begin(store, branch, 0, &txn));
    if (value)
        must(cmb_txn_put(txn, str(key), str(value)));
    else
        must(cmb_txn_del(txn, str(key)));
    must(cmb_txn_commit(txn, NULL, NULL));
}

static bool is_pending(cmb_store *store, const char *ref)
{
    cmb_state state;
    cmb_live live;
    must(cmb_ref_live(store, ref, strlen(ref), &state, &live));
    cmb_live_release(store, &live);
    return state.pending != 0;
}

static void a_small_working_commit_writes_one_block_and_no_leaf(void **state)
{
    rig r;
    (void)state;
    rig_open(&r, 4096);
    put(r.store, "main", "a", "1", "first"); /* starts the epoch */
    cmb_log_stats before, after;
    cmb_log_get_stats(r.store->log, &before);
    work(r.store, "main", "b", "2");
    cmb_log_get_stats(r.store->log, &after);
    assert_int_equal(after.bytes_written - after.bytes_prepared - (before.bytes_written - before.bytes_prepared), 4096);
    assert_true(is_pending(r.store, "heads/main"));
    expect(r.store, "main", "b", "2");
    expect(r.store, "main~1", "b", NULL);
    assert_true(is_pending(r.store, "heads/main"));
    rig_close(&r);
}

static void a_commit_whose_root_is_asked_for_and_a_large_value_are_merged_at_once(void **state)
{
    static char large[3000];
    rig r;
    (void)state;
    rig_open(&r, 4096);
    memset(large, 'x', sizeof large - 1);
    work(r.store, "main", "large", large);
    assert_false(is_pending(r.store, "heads/main"));
    put(r.store, "main", "a", "1", NULL);
    assert_false(is_pending(r.store, "heads/main"));
    work(r.store, "main", "b", "2");
    assert_true(is_pending(r.store, "heads/main"));
    put(r.store, "main", "c", "3", NULL); /* takes the edit below it along */
    assert_false(is_pending(r.store, "heads/main"));
    expect(r.store, "main", "b", "2");
    expect(r.store, "main", "large", large);
    rig_close(&r);
}

static void the_name_is_that_of_the_same_content_made_in_one_piece(void **state)
{
    rig r;
    (void)state;
    rig_open(&r, 256);
    put(r.store, "main", "a", "1", "first");
    put(r.store, "main", "b", "2", "second");
    must(cmb_branch_create(r.store, "other", "main~1"));
    work(r.store, "other", "x", "9");
    work(r.store, "other", "b", "2");
    work(r.store, "other", "x", NULL);
    assert_true(is_pending(r.store, "heads/other"));
    cmb_rev one = rev_of(r.store, "main^{root}"), two = rev_of(r.store, "other^{root}");
    assert_true(same_name(&one.root, &two.root));
    assert_false(is_pending(r.store, "heads/other"));
    work(r.store, "main", "c", "3");
    work(r.store, "main", "c", NULL);
    cmb_rev back = rev_of(r.store, "main");
    assert_false(back.working); /* the edits led back to the commit */
    rig_close(&r);
}

static void acknowledged_edits_outlive_crashes_checkpoints_and_merges(void **state)
{
    rig r, after, again;
    char key[16], value[16];
    (void)state;
    rig_open(&r, 512);
    must(cmb_branch_create(r.store, "side", "main"));
    for (unsigned i = 0; i < 60; i++) {
        snprintf(key, sizeof key, "k%u", i * 7 % 20);
        snprintf(value, sizeof value, "v%u", i);
        work(r.store, i % 3 ? "main" : "side", key, value);
        if (i % 11 == 5)
            must(cmb_store_checkpoint(r.store));
        if (i % 17 == 9)
            rev_of(r.store, "side");
        for (int read_only = 0; read_only < 2; read_only++) {
            rig_after_crash(&r, read_only, &after);
            expect(after.store, i % 3 ? "main" : "side", key, value);
            cmb_rev a = rev_of(after.store, "main^{root}");
            if (!read_only) {
                work(after.store, "main", "late", value);
                rig_after_crash(&after, false, &again); /* crashed again, after its own epoch began */
                expect(again.store, "main", "late", value);
                expect(again.store, i % 3 ? "main" : "side", key, value);
                rig_close(&again);
            }
            rig_close(&after);
            rig_after_crash(&r, !read_only, &after);
            cmb_rev b = rev_of(after.store, "main^{root}");
            assert_true(same_name(&a.root, &b.root));
            rig_close(&after);
        }
    }
    rig_close(&r);
}

static void a_branch_made_anew_has_nothing_of_its_namesake(void **state)
{
    rig r, after;
    (void)state;
    rig_open(&r, 4096);
    put(r.store, "main", "a", "1", "first");
    must(cmb_branch_create(r.store, "work", "main"));
    work(r.store, "work", "ghost", "boo");
    must(cmb_store_checkpoint(r.store));
    work(r.store, "work", "ghost2", "boo");
    must(cmb_branch_delete(r.store, "work"));
    rig_after_crash(&r, false, &after);
    cmb_rev rev;
    must_be(cmb_rev_parse(after.store, "work", &rev), CMB_ENOTFOUND);
    rig_close(&after);
    must(cmb_branch_create(r.store, "work", "main"));
    work(r.store, "work", "b", "2");
    rig_after_crash(&r, false, &after);
    expect(after.store, "work", "ghost", NULL);
    expect(after.store, "work", "ghost2", NULL);
    expect(after.store, "work", "b", "2");
    rig_close(&after);
    rig_close(&r);
}

static void snapshots_and_transactions_keep_what_they_began_with(void **state)
{
    rig r;
    cmb_snapshot *one, *two;
    cmb_txn *txn;
    cmb_bytes got;
    (void)state;
    rig_open(&r, 256);
    work(r.store, "main", "a", "1");
    must(cmb_snapshot_open(r.store, "main", &one));
    must(cmb_txn_begin(r.store, "main", 0, &txn));
    must(cmb_txn_put(txn, str("mine"), str("m")));
    rev_of(r.store, "main"); /* merges, under both */
    must(cmb_txn_get(txn, str("a"), &got));
    assert_memory_equal(got.data, "1", 1);
    must(cmb_txn_commit(txn, NULL, NULL));
    work(r.store, "main", "a", "2");
    must(cmb_snapshot_open(r.store, "main", &two));
    work(r.store, "main", "a", NULL);
    must(cmb_get(one, str("a"), &got));
    assert_memory_equal(got.data, "1", 1);
    must_be(cmb_get(one, str("mine"), &got), CMB_ENOTFOUND);
    must(cmb_get(two, str("a"), &got));
    assert_memory_equal(got.data, "2", 1);
    must(cmb_get(two, str("mine"), &got));
    expect(r.store, "main", "a", NULL);
    expect(r.store, "main", "mine", "m");
    uint64_t count;
    must(cmb_count(two, NULL, NULL, &count));
    assert_int_equal(count, 2);
    cmb_rev rev; /* of what is gone by now */
    must(cmb_snapshot_rev(one, &rev));
    assert_int_equal(rev.entries, 1);
    must(cmb_get(one, str("a"), &got));
    cmb_snapshot_close(one);
    cmb_snapshot_close(two);
    rig_close(&r);
}

static void edits_that_come_in_while_others_are_merged_stay(void **state)
{
    rig r, after;
    cmb_snapshot *s;
    cmb_rev rev;
    (void)state;
    rig_open(&r, 256);
    put(r.store, "main", "a", "1", "first");
    work(r.store, "main", "b", "2");
    must(cmb_snapshot_open(r.store, "main", &s));
    work(r.store, "main", "c", "3");
    work(r.store, "main", "a", NULL);
    must(cmb_snapshot_rev(s, &rev)); /* merges what the snapshot sees, and the branch goes along */
    assert_int_equal(rev.entries, 2);
    cmb_snapshot_close(s);
    assert_true(is_pending(r.store, "heads/main"));
    for (int merged = 0; merged < 2; merged++) {
        rig_after_crash(&r, false, &after);
        cmb_store *stores[] = {r.store, after.store};
        for (unsigned i = 0; i < 2; i++) {
            expect(stores[i], "main", "a", NULL);
            expect(stores[i], "main", "b", "2");
            expect(stores[i], "main", "c", "3");
        }
        rig_close(&after);
        assert_int_equal(rev_of(r.store, "main").entries, 2); /* merges the rest */
    }
    rig_close(&r);
}

static void a_detached_transaction_lands_on_what_only_was_merged_meanwhile(void **state)
{
    rig r;
    cmb_snapshot *s;
    cmb_txn *txn, *late;
    (void)state;
    rig_open(&r, 256);
    work(r.store, "main", "a", "1");
    must(cmb_snapshot_open(r.store, "main", &s));
    must(cmb_txn_begin_detached(s, &txn));
    must(cmb_txn_begin_detached(s, &late));
    must(cmb_txn_put(txn, str("b"), str("2")));
    must(cmb_txn_put(late, str("c"), str("3")));
    rev_of(r.store, "main");
    must(cmb_txn_land(txn, "main", NULL, NULL));
    assert_true(is_pending(r.store, "heads/main"));
    must_be(cmb_txn_land(late, "main", NULL, NULL), CMB_ECONFLICT);
    cmb_txn_abort(late);
    cmb_snapshot_close(s);
    expect(r.store, "main", "a", "1");
    expect(r.store, "main", "b", "2");
    rig_close(&r);
}

static int count_change(void *ctx, const cmb_change *change)
{
    (void)change;
    ++*(unsigned *)ctx;
    return 0;
}

static void diff_merge_and_seal_see_logged_edits(void **state)
{
    rig r;
    cmb_snapshot *before, *now;
    cmb_merge_result result;
    cmb_commit_info info = {.author = "ada", .message = "join"};
    unsigned changes = 0;
    (void)state;
    rig_open(&r, 256);
    put(r.store, "main", "a", "1", "first");
    must(cmb_branch_create(r.store, "side", "main"));
    work(r.store, "main", "b", "2");
    work(r.store, "side", "c", "3");
    must(cmb_snapshot_open(r.store, "main~1", &before));
    must(cmb_snapshot_open(r.store, "main", &now));
    must(cmb_diff(before, now, NULL, count_change, &changes));
    assert_int_equal(changes, 1);
    cmb_snapshot_close(before);
    cmb_snapshot_close(now);
    work(r.store, "main", "d", "4");
    must(cmb_merge(r.store, "main", "side", cmb_merge_fail, NULL, &info, &result));
    expect(r.store, "main", "b", "2");
    expect(r.store, "main", "c", "3");
    expect(r.store, "main", "d", "4");
    work(r.store, "main", "e", "5");
    must(cmb_tag_create(r.store, "t", "main")); /* seals */
    expect(r.store, "t", "e", "5");
    assert_false(rev_of(r.store, "main").working);
    rig_close(&r);
}

static void a_reader_is_told_the_same_however_often_it_asks(void **state)
{
    rig r, reader;
    (void)state;
    rig_open(&r, 256);
    put(r.store, "main", "a", "1", "first");
    work(r.store, "main", "c", "3");
    work(r.store, "main", "c", NULL); /* leads back to the commit */
    rig_after_crash(&r, true, &reader);
    for (int i = 0; i < 3; i++)
        assert_false(rev_of(reader.store, "main").working);
    rig_close(&reader);
    rig_close(&r);
}

static void many_edits_are_merged_on_the_way_and_old_segments_are_used_again(void **state)
{
    enum { COMMITS = 9000 };
    rig r, after;
    char key[16], value[16];
    (void)state;
    rig_open(&r, 4096);
    for (unsigned i = 0; i < COMMITS; i++) { /* 37 MB of blocks on a disk whose log holds twice that */
        cmb_txn *txn;
        snprintf(key, sizeof key, "%u", i * 2654435761u % 5000);
        snprintf(value, sizeof value, "%u", i);
        must(cmb_txn_begin(r.store, "main", 0, &txn));
        must(cmb_txn_put(txn, str(key), str(value)));
        must(cmb_txn_commit(txn, &(cmb_commit_info){.flags = i % 64 ? CMB_COMMIT_ASYNC : 0}, NULL));
        if (i % 64 == 0)
            must(cmb_store_sync(r.store));
    }
    cmb_log_stats stats;
    cmb_log_get_stats(r.store->log, &stats);
    must(cmb_store_sync(r.store));
    rig_after_crash(&r, false, &after);
    cmb_rev crashed = rev_of(after.store, "main^{root}"), whole = rev_of(r.store, "main^{root}");
    assert_true(same_name(&crashed.root, &whole.root));
    rig_close(&after);
    rig_close(&r);
}

/* An edit that nothing merges lies in one segment, and is listed by checkpoint after checkpoint, while the log goes round the device. */
static void an_edit_that_waits_stays_while_all_segments_around_it_are_used_anew(void **state)
{
    rig r, after;
    (void)state;
    rig_open_sized(&r, 256, 32 << 20);
    must(cmb_branch_create(r.store, "quiet", "main"));
    work(r.store, "quiet", "a", "1");
    must(cmb_store_checkpoint(r.store));
    for (unsigned i = 1; i < 13000; i++) { /* a block each */
        work(r.store, "main", "b", i % 2 ? "2" : "3");
        if (i % 400 == 0)
            must(cmb_store_checkpoint(r.store));
    }
    cmb_log_stats stats;
    cmb_log_get_stats(r.store->log, &stats);
    assert_true(stats.recycled * stats.segment_size > 24 << 20);
    assert_true(is_pending(r.store, "heads/quiet"));
    rig_after_crash(&r, false, &after);
    expect(after.store, "quiet", "a", "1");
    rig_close(&after);
    rig_close(&r);
}

/* ---- records that are damaged, or lie ---- */

typedef struct place { uint64_t addr; uint32_t length; } place;

static int take_place(void *ctx, const char *ref, uint64_t addr, uint32_t length)
{
    assert_string_equal(ref, "heads/main");
    *(place *)ctx = (place){addr, length};
    return 0;
}

static void a_run_of_edits_with_any_byte_flipped_is_refused(void **state)
{
    rig r, after;
    place run = {0};
    uint64_t at;
    (void)state;
    rig_open(&r, 4096);
    put(r.store, "main", "a", "1", "first");
    work(r.store, "main", "key", "value");
    must(cmb_store_checkpoint(r.store));
    must(cmb_runs_each(r.store, take_place, &run));
    assert_true(run.length && cmb_log_locate(r.store->log, run.addr, run.length, &at));
    sim_disk *whole = sim_fork(r.disk);
    for (uint32_t i = 0; i < run.length; i++) {
        uint8_t sector[512];
        uint64_t sector_at = (at + i) / sizeof sector * sizeof sector;
        after = r;
        after.options.env.ctx = &after.env;
        after.options.read_only = true;
        after.disk = sim_fork(whole);
        sim_peek(after.disk, sector_at, sector, sizeof sector);
        sector[at + i - sector_at] ^= 1;
        sim_poke(after.disk, sector_at, sector, sizeof sector);
        must_be(cmb_store_open_device(sim_device(after.disk), &after.options, &after.store), CMB_ECORRUPT);
        sim_free(after.disk);
    }
    sim_free(whole);
    rig_close(&r);
}

static int read_record(cmb_store *store, const uint8_t *payload, size_t size)
{
    cmb_intents_head head;
    uint8_t *exact = malloc(size ? size : 1); /* so that a sanitizer sees one byte too many */
    memcpy(exact, payload, size);
    int error = cmb_intents_read(store, 4096, exact, (uint32_t)size, &head, NULL, NULL);
    free(exact);
    return error;
}

static void records_of_edits_whose_sizes_lie_are_refused(void **state)
{
    /* version, unit, size of the name, the name; then a put of "k" and a deletion of "l" */
    static const uint8_t good[] = {1, 7, 0, 0, 0, 0, 0, 0, 0, 7, 0, 'h', 'e', 'a', 'd', 's', '/', 'm',
                                   1, 1, 0, 3, 0, 0, 0, 'k', 'v', 'a', 'l', 3, 1, 0, 0, 0, 0, 0, 'l'};
    enum { NAME = 9, PUT = 18, DELETE = 29 };
    uint8_t bad[sizeof good];
    rig r;
    (void)state;
    rig_open(&r, 4096);
    must(read_record(r.store, good, sizeof good));
    for (size_t size = 0; size < sizeof good; size++)
        must_be(read_record(r.store, good, size), size == PUT || size == DELETE ? 0 : CMB_ECORRUPT);
    static const size_t lengths[] = {NAME, NAME + 1, PUT + 1, PUT + 2, PUT + 3, PUT + 4, PUT + 5, PUT + 6,
                                     DELETE + 1, DELETE + 2, DELETE + 3, DELETE + 4, DELETE + 5, DELETE + 6};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        for (unsigned value = 1; value < 256; value++) {
            memcpy(bad, good, sizeof good);
            bad[lengths[i]] = (uint8_t)(good[lengths[i]] + value);
            int error = read_record(r.store, bad, sizeof bad);
            assert_true(!error || error == CMB_ECORRUPT);
            if (lengths[i] >= PUT && bad[lengths[i]] > sizeof good) /* reaches beyond the end */
                must_be(error, CMB_ECORRUPT);
        }
    }
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_small_working_commit_writes_one_block_and_no_leaf),
        cmocka_unit_test(a_commit_whose_root_is_asked_for_and_a_large_value_are_merged_at_once),
        cmocka_unit_test(the_name_is_that_of_the_same_content_made_in_one_piece),
        cmocka_unit_test(acknowledged_edits_outlive_crashes_checkpoints_and_merges),
        cmocka_unit_test(a_branch_made_anew_has_nothing_of_its_namesake),
        cmocka_unit_test(snapshots_and_transactions_keep_what_they_began_with),
        cmocka_unit_test(edits_that_come_in_while_others_are_merged_stay),
        cmocka_unit_test(a_detached_transaction_lands_on_what_only_was_merged_meanwhile),
        cmocka_unit_test(diff_merge_and_seal_see_logged_edits),
        cmocka_unit_test(an_edit_that_waits_stays_while_all_segments_around_it_are_used_anew),
        cmocka_unit_test(a_run_of_edits_with_any_byte_flipped_is_refused),
        cmocka_unit_test(records_of_edits_whose_sizes_lie_are_refused),
        cmocka_unit_test(a_reader_is_told_the_same_however_often_it_asks),
        cmocka_unit_test(many_edits_are_merged_on_the_way_and_old_segments_are_used_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
