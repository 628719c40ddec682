/* SPDX-License-Identifier: ISC */
/* Commits: headers, limits, merge commits made inside a unit. */
#include "bed.h"

#include "store/internal.h"

static cmb_rev put_with(cmb_store *store, const char *key, const cmb_commit_info *info, int wanted)
{
    cmb_txn *txn;
    cmb_rev rev;
    memset(&rev, 0, sizeof rev);
    must(cmb_txn_begin(store, "main", 0, &txn));
    must(cmb_txn_put(txn, str(key), str("v")));
    must_be(cmb_txn_commit(txn, info, &rev), wanted);
    if (wanted)
        cmb_txn_abort(txn);
    return rev;
}

static void headers_of_any_bytes_come_back_in_order(void **state)
{
    (void)state;
    bed b;
    cmb_commit *c;
    char longest[CMB_HEADER_NAME_MAX + 1];
    memset(longest, 'x', sizeof longest);
    longest[CMB_HEADER_NAME_MAX] = 0;
    const cmb_commit_header headers[] = {{"encoding", str("latin1")},       {"git.mode-x", {"a\0b\n\xff", 5}}, {"encoding", str("again")},
                                         {longest, {NULL, 0}}, {"0", str("")}};
    bed_open(&b);
    put_with(b.store, "a", &(cmb_commit_info){.message = "m", .headers = headers, .header_count = 5}, 0);
    bed_reopen(&b);
    must(cmb_commit_read(b.store, "main", &c));
    assert_int_equal(c->header_count, 5);
    for (unsigned i = 0; i < 5; i++) {
        assert_string_equal(c->headers[i].name, headers[i].name);
        assert_int_equal(c->headers[i].value.size, headers[i].value.size);
        if (headers[i].value.size)
            assert_memory_equal(c->headers[i].value.data, headers[i].value.data, headers[i].value.size);
        assert_int_equal(((const uint8_t *)c->headers[i].value.data)[headers[i].value.size], 0);
    }
    assert_string_equal(c->message, "m");
    cmb_commit_free(c);
    bed_close(&b);
}

static void the_id_covers_the_headers(void **state)
{
    (void)state;
    cmb_rev rev[3];
    const cmb_commit_header one[] = {{"h", str("1")}}, two[] = {{"h", str("2")}};
    for (unsigned i = 0; i < 3; i++) {
        bed b;
        bed_open(&b);
        cmb_commit_info info = {.message = "m", .time = 77, .headers = i == 1 ? one : two, .header_count = i ? 1 : 0};
        rev[i] = put_with(b.store, "a", &info, 0);
        bed_close(&b);
    }
    assert_true(same_name(&rev[0].root, &rev[1].root));
    for (unsigned i = 0; i < 3; i++)
        assert_false(same_name(&rev[i].commit, &rev[(i + 1) % 3].commit));
}

static void a_header_alone_makes_a_permanent_commit(void **state)
{
    (void)state;
    bed b;
    const cmb_commit_header header = {"only", str("this")};
    bed_open(&b);
    cmb_rev rev = put_with(b.store, "a", &(cmb_commit_info){.headers = &header, .header_count = 1}, 0);
    assert_false(rev.working);
    assert_int_equal(rev.commit.size, 16);
    bed_close(&b);
}

static void names_of_headers_are_checked_and_sizes_bounded(void **state)
{
    (void)state;
    static char big[CMB_COMMIT_TEXT_MAX + 2];
    bed b;
    char over[CMB_HEADER_NAME_MAX + 2];
    memset(over, 'x', sizeof over);
    over[sizeof over - 1] = 0;
    const char *const bad[] = {NULL, "", "Upper", "under_score", "sp ace", "\xc3\xa4", "new\nline", over};
    bed_open(&b);
    for (unsigned i = 0; i < CMB_COUNTOF(bad); i++)
        put_with(b.store, "a", &(cmb_commit_info){.message = "m", .headers = &(cmb_commit_header){bad[i], str("v")}, .header_count = 1},
                 CMB_EINVAL);
    memset(big, 'b', sizeof big);
    for (unsigned i = 0; i < 2; i++) { /* message 1, name 1, 5 more: exactly full, then one too many */
        cmb_commit_header header = {"n", {big, CMB_COMMIT_TEXT_MAX - 7 + i}};
        put_with(b.store, "a", &(cmb_commit_info){.message = "m", .headers = &header, .header_count = 1}, i ? CMB_EINVAL : 0);
    }
    bed_close(&b);
}

static int commit_parents(cmb_store *store, const cmb_commit_at *parents, size_t n, const cmb_noderef *root, const cmb_commit_info *info,
                          cmb_state *out)
{
    cmb_unit unit;
    cmb_refobj *ref;
    uint64_t seq;
    must(cmb_ref_use(store, "heads/main", 10, &ref));
    must(cmb_unit_begin(store, &unit));
    int error = cmb_unit_commit_parents(&unit, parents, n, root, info, out);
    if (!error)
        error = cmb_unit_move(&unit, ref, out, CMB_REFLOG_COMMITTED);
    if (error)
        cmb_unit_abort(&unit);
    else
        error = cmb_unit_publish(&unit, &seq);
    cmb_ref_unuse(store, ref);
    return error;
}

static void merge_commits_stand_above_the_highest_of_many_parents(void **state)
{
    (void)state;
    bed b;
    cmb_commit_at parents[5];
    cmb_resolved r;
    cmb_state merged;
    cmb_commit *c;
    bed_open(&b);
    put(b.store, "main", "a", "0", "base");
    for (unsigned i = 0; i < 5; i++) {
        char name[8], key[8];
        snprintf(name, sizeof name, "b%u", i);
        must(cmb_branch_create(b.store, name, "main"));
        for (unsigned k = 0; k <= (i * 3) % 5; k++) {
            snprintf(key, sizeof key, "k%u", k);
            put(b.store, name, key, name, "m");
        }
        must(cmb_rev_resolve(b.store, name, &r));
        parents[i] = r.state.commit;
    }
    must(commit_parents(b.store, parents, 5, &r.state.root, &(cmb_commit_info){.message = "octopus", .time = 5}, &merged));
    bed_reopen(&b);
    must(cmb_commit_read(b.store, "main", &c));
    assert_int_equal(c->parent_count, 5);
    assert_int_equal(c->generation, 1 + 5 + 1);
    for (unsigned i = 0; i < 5; i++)
        assert_true(same_name(&c->parents[i], &parents[i].id));
    cmb_commit_free(c);
    must(cmb_commit_read(b.store, "main^4~1", &c));
    cmb_commit_free(c);
    must_be(cmb_commit_read(b.store, "main^6", &c), CMB_ENOTFOUND);
    bed_close(&b);
}

static void too_many_parents_are_refused_and_nothing_is_written(void **state)
{
    (void)state;
    bed b;
    cmb_resolved r;
    cmb_state merged;
    cmb_commit *c;
    cmb_commit_at *parents = calloc(CMB_COMMIT_PARENTS_MAX + 1, sizeof *parents);
    bed_open(&b);
    put(b.store, "main", "a", "0", "base");
    must(cmb_rev_resolve(b.store, "main", &r));
    for (unsigned i = 0; i <= CMB_COMMIT_PARENTS_MAX; i++)
        parents[i] = r.state.commit;
    cmb_commit_info info = {.message = "m", .time = 5};
    must_be(commit_parents(b.store, parents, CMB_COMMIT_PARENTS_MAX + 1, &r.state.root, &info, &merged), CMB_EINVAL);
    must(cmb_commit_read(b.store, "main", &c));
    assert_true(same_name(&c->id, &r.state.commit.id));
    cmb_commit_free(c);
    must(commit_parents(b.store, parents, CMB_COMMIT_PARENTS_MAX, &r.state.root, &info, &merged));
    bed_reopen(&b);
    must(cmb_commit_read(b.store, "main", &c));
    assert_int_equal(c->parent_count, CMB_COMMIT_PARENTS_MAX);
    cmb_commit_free(c);
    bed_close(&b);
    free(parents);
}

/* Headers as bytes, of any kind; what is accepted must come apart within its memory (the sanitizers watch). */
static void any_bytes_are_headers_or_refused(void **state)
{
    (void)state;
    uint64_t rng = bed_seed();
    unsigned accepted = 0;
    print_message("CMB_SEED=%llu\n", (unsigned long long)rng);
    for (unsigned round = 0; round < 60000 * bed_budget(); round++) {
        size_t size = bed_mix(&rng) % 40, count, memory, i = 2;
        uint8_t *bytes = malloc(size + 1);
        for (size_t k = 0; k < size; k++)
            bytes[k] = (uint8_t)(bed_mix(&rng) % 3 ? 'a' + bed_mix(&rng) % 26 : bed_mix(&rng));
        if (size > 2 && round % 4) { /* nearly right: sizes that fit, but perhaps one */
            uint16_t n = 0;
            for (; i + 6 <= size; n++) {
                size_t left = size - i - 6, name = 1 + bed_mix(&rng) % 3, value = left > name ? bed_mix(&rng) % (left - name + 1) : 0;
                bytes[i] = (uint8_t)name;
                if (i + 1 + name + 4 <= size)
                    cmb_put32(bytes + i + 1 + name, (uint32_t)value);
                i += 1 + name + 4 + value;
            }
            cmb_put16(bytes, (uint16_t)(n + (bed_mix(&rng) % 8 == 0)));
            size = i < size && bed_mix(&rng) % 8 ? i : size;
        }
        if (cmb_headers_measure(bytes, size, &count, &memory)) {
            cmb_commit_header *headers = malloc(count * sizeof *headers + 1);
            uint8_t *room = malloc(memory + 1), *again = malloc(size);
            size_t wanted;
            cmb_headers_fill(bytes, headers, room);
            assert_int_equal(cmb_headers_check(headers, count, &wanted), 0);
            assert_int_equal(wanted, size);
            assert_ptr_equal(cmb_headers_put(again, headers, count), again + size);
            assert_memory_equal(again, bytes, size);
            free(headers);
            free(room);
            free(again);
            accepted += count > 0;
        }
        free(bytes);
    }
    assert_true(accepted > 100);
}

/* A commit whose content is cut or changed is another one, so nothing of it is taken for the one that was asked for. */
static void a_record_with_any_byte_flipped_is_refused(void **state)
{
    (void)state;
    bed b;
    cmb_resolved r;
    cmb_commit_record *record;
    const cmb_commit_header header = {"h", str("value")};
    bed_open(&b);
    put(b.store, "main", "a", "0", "base");
    put_with(b.store, "b", &(cmb_commit_info){.author = "ada", .message = "m", .headers = &header, .header_count = 1}, 0);
    must(cmb_rev_resolve(b.store, "main", &r));
    uint32_t length = r.state.commit.length;
    uint8_t *bytes = malloc(length);
    must(cmb_log_read(b.store->log, NULL, r.state.commit.addr, length, bytes));
    for (uint32_t i = CMB_RECORD_HEADER; i < length; i++) {
        for (unsigned kind = 0; kind < 2; kind++) { /* the record's check is right, its id, or its trailer, is not */
            cmb_appender *app;
            cmb_unit unit;
            uint64_t seq;
            void *copy;
            cmb_commit_at at = r.state.commit;
            must(cmb_unit_begin(b.store, &unit));
            app = unit.app;
            must(cmb_append(app, length, &at.addr, &copy));
            memcpy(copy, bytes, length);
            ((uint8_t *)copy)[i] ^= kind ? 0x80 : 1;
            cmb_record_seal(copy, CMB_RECORD_COMMIT, length, at.addr);
            must(cmb_unit_publish(&unit, &seq));
            int error = cmb_commit_load(b.store, &at, &record);
            uint32_t trailer = CMB_RECORD_HEADER + 4 + cmb_get32(bytes + CMB_RECORD_HEADER);
            if (!error)
                cmb_commit_free(&record->commit);
            assert_true(error == CMB_ECORRUPT || error == CMB_EVERSION || (!error && i >= trailer));
        }
    }
    free(bytes);
    bed_close(&b);
}

static int note_code(void *ctx, const cmb_finding *finding)
{
    strncat(ctx, finding->code, 100);
    return 0;
}

static void fsck_finds_a_generation_that_does_not_follow_from_the_parents(void **state)
{
    (void)state;
    for (unsigned generation = 1; generation <= 4; generation++) {
        bed b;
        cmb_resolved r;
        cmb_unit unit;
        uint64_t seq;
        cmb_commit_at at;
        char codes[128] = "";
        cmb_fsck_result result;
        bed_open(&b);
        put(b.store, "main", "a", "0", "one");
        put(b.store, "main", "a", "1", "two");
        must(cmb_rev_resolve(b.store, "main", &r));
        must(cmb_unit_begin(b.store, &unit));
        cmb_commit_draft draft = {.root = r.state.root, .parents = &r.state.commit, .parent_count = 1, .generation = generation};
        must(cmb_commit_append(b.store, unit.app, &draft, &at));
        must(cmb_unit_index(&unit, &at));
        must(cmb_unit_publish(&unit, &seq));
        must(cmb_fsck(b.store, &(cmb_fsck_options){.level = CMB_FSCK_STRUCTURE, .on_finding = note_code, .ctx = codes}, &result));
        assert_string_equal(codes, generation == 3 ? "" : "generation-wrong");
        bed_close(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers_of_any_bytes_come_back_in_order),
        cmocka_unit_test(the_id_covers_the_headers),
        cmocka_unit_test(a_header_alone_makes_a_permanent_commit),
        cmocka_unit_test(names_of_headers_are_checked_and_sizes_bounded),
        cmocka_unit_test(merge_commits_stand_above_the_highest_of_many_parents),
        cmocka_unit_test(too_many_parents_are_refused_and_nothing_is_written),
        cmocka_unit_test(any_bytes_are_headers_or_refused),
        cmocka_unit_test(a_record_with_any_byte_flipped_is_refused),
        cmocka_unit_test(fsck_finds_a_generation_that_does_not_follow_from_the_parents),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
