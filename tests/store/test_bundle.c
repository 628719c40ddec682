/* SPDX-License-Identifier: ISC */
/* Bundles: what goes in comes out; whatever else comes is refused, and the image stays as it was. */
#include "sync_bed.h"

/* An image below which writes are counted. */
typedef struct watched {
    bed b;
    uint64_t writes;
} watched;

static void count_write(void *ctx, const cmb_trace_event *event)
{
    if (event->op != CMB_OP_READ)
        ++*(uint64_t *)ctx;
}

static void open_watched(watched *w, cmb_hash_kind hash)
{
    cmb_init_options init = {.node_size = 512, .hash = hash};
    cmb_device *under;
    memset(w, 0, sizeof *w);
    w->b.env = (bed_env){.now = 1700000000000000, .random = 42};
    w->b.options.env = (cmb_env){.ctx = &w->b.env, .now = bed_now, .random = bed_random};
    must(cmb_device_mem(0, NULL, &under));
    must(cmb_device_trace(under, count_write, &w->writes, &w->b.dev));
    must(cmb_store_init_device(w->b.dev, &init, &w->b.options));
    must(cmb_store_open_device(w->b.dev, &w->b.options, &w->b.store));
}

/* Two branches, a tag, a merge; values of every kind. */
static void make_small(bed *b, cmb_hash_kind hash)
{
    static uint8_t large[2 * CMB_CHUNK_SIZE + 10];
    cmb_commit_info info = {.author = "ada", .message = "merge"};
    cmb_merge_result merged;
    cmb_txn *txn;
    open_image(b, hash, 512);
    put_range(b->store, "main", 0, 1, 10, "v", "one");
    must(cmb_tag_annotate(b->store, "v1", "main", &(cmb_tag_info){.tagger = "ada", .message = "v"}));
    must(cmb_branch_create(b->store, "side", "main"));
    put(b->store, "side", "key00000003", "side", "two");
    must(cmb_txn_begin(b->store, "main", 0, &txn));
    must(cmb_txn_del(txn, str("key00000007")));
    must(cmb_txn_put(txn, str("far"), (cmb_bytes){large, 200}));
    must(cmb_txn_commit(txn, &info, NULL));
    must(cmb_merge(b->store, "main", "side", NULL, NULL, &info, &merged));
}

static void bundle_of(cmb_store *store, const char *const *revs, size_t n, file *out)
{
    out->size = 0;
    must(cmb_bundle_create(store, revs, n, file_write, out, NULL, NULL));
}

static const char *const ALL[] = {"main", "side", "v1"};

static void a_bundle_carries_history_into_another_image(void **state)
{
    file f = {.data = NULL}, again = {.data = NULL};
    cmb_bundle_source source;
    cmb_pull_options options = {.tags = true};
    cmb_sync_stats stats;
    bed a, b;
    make_small(&a, CMB_HASH_XXH3);
    open_image(&b, CMB_HASH_XXH3, 512);
    bundle_of(a.store, ALL, 3, &f);
    bundle_of(a.store, ALL, 3, &again);
    assert_int_equal(f.size, again.size);
    assert_memory_equal(f.data, again.data, f.size);
    source = source_of(&f);
    must(cmb_bundle_apply(b.store, &source, &options, &stats));
    assert_int_equal(stats.commits, 4);
    assert_int_equal(stats.known, 0);
    assert_int_equal(stats.bytes, f.size);
    for (unsigned i = 0; i < 3; i++) {
        cmb_rev x = rev_of(a.store, ALL[i]), y = rev_of(b.store, ALL[i]);
        assert_true(same_name(&x.commit, &y.commit));
        assert_true(same_name(&x.root, &y.root));
    }
    source = source_of(&f);
    must(cmb_bundle_apply(b.store, &source, &options, &stats));
    assert_int_equal(stats.known, 4);
    must_be_sound(b.store);
    free(f.data);
    free(again.data);
    bed_close(&a);
    bed_close(&b);
}

static int see_head(void *ctx, const cmb_bundle_head *head)
{
    cmb_bundle_head *out = ctx;
    *out = *head;
    assert_int_equal(head->ref_count, 1);
    assert_string_equal(head->refs[0].name, "main");
    assert_false(head->refs[0].tag);
    return 0;
}

static void what_is_excluded_is_needed_where_the_bundle_goes(void **state)
{
    static const char *const some[] = {"main", "^v1"};
    file f = {.data = NULL};
    cmb_bundle_head head;
    cmb_bundle_source source;
    char hex[2 * CMB_NAME_MAX + 1];
    bed a, b;
    make_small(&a, CMB_HASH_XXH3);
    open_image(&b, CMB_HASH_XXH3, 512);
    bundle_of(a.store, some, 2, &f);
    source = source_of(&f);
    must(cmb_bundle_verify(NULL, &source, see_head, &head, NULL));
    assert_int_equal(head.needed_count, 1);
    assert_int_equal(head.commits, 3);
    source = source_of(&f);
    must_be(cmb_bundle_apply(b.store, &source, NULL, NULL), CMB_ENOTFOUND);
    cmb_rev v1 = rev_of(a.store, "v1");
    hex_of(&v1.commit, hex);
    assert_non_null(strstr(cmb_error_detail(), hex));
    must(cmb_pull(b.store, a.store, &(cmb_pull_options){.names = ALL + 1, .name_count = 1}, NULL));
    source = source_of(&f);
    must(cmb_bundle_apply(b.store, &source, NULL, NULL));
    expect(b.store, "main", "key00000003", "side");
    must_be_sound(b.store);
    free(f.data);
    bed_close(&a);
    bed_close(&b);
}

static void a_bundle_names_branches_and_tags_only(void **state)
{
    static const char *const ancestor[] = {"main~1"}, *const nothing[] = {"^main"}, *const empty[] = {"fresh"};
    file f = {.data = NULL};
    bed a;
    make_small(&a, CMB_HASH_XXH3);
    must(cmb_branch_create(a.store, "fresh", NULL));
    must_be(cmb_bundle_create(a.store, ancestor, 1, file_write, &f, NULL, NULL), CMB_EINVAL);
    must_be(cmb_bundle_create(a.store, nothing, 1, file_write, &f, NULL, NULL), CMB_EINVAL);
    must_be(cmb_bundle_create(a.store, empty, 1, file_write, &f, NULL, NULL), CMB_EINVAL);
    assert_int_equal(f.size, 0);
    bed_close(&a);
}

static void a_bundle_can_be_shallow(void **state)
{
    static const char *const revs[] = {"main"};
    cmb_bundle_options options = {.depth = 1};
    file f = {.data = NULL};
    cmb_sync_stats stats;
    bed a, b;
    make_small(&a, CMB_HASH_XXH3);
    open_image(&b, CMB_HASH_XXH3, 512);
    must(cmb_bundle_create(a.store, revs, 1, file_write, &f, &options, &stats));
    assert_int_equal(stats.commits, 1);
    cmb_bundle_source source = source_of(&f);
    must(cmb_bundle_apply(b.store, &source, NULL, NULL));
    expect(b.store, "main", "key00000003", "side");
    must_be_sound(b.store);
    free(f.data);
    bed_close(&a);
    bed_close(&b);
}

/* ---- damage ---- */

/* Is refused, and nothing was written. */
static void must_be_refused(watched *w, file *f)
{
    cmb_bundle_source source = source_of(f);
    uint64_t writes = w->writes;
    int error = cmb_bundle_apply(w->b.store, &source, &(cmb_pull_options){.tags = true}, NULL);
    assert_true(error == CMB_ESYNTAX || error == CMB_EVERSION);
    assert_int_equal(w->writes, writes);
}

/* Every byte; every step-th bit of it. */
static void damage_all(cmb_hash_kind hash, unsigned step)
{
    file f = {.data = NULL};
    bed a;
    watched w;
    make_small(&a, hash);
    open_watched(&w, hash);
    bundle_of(a.store, ALL, 3, &f);
    uint64_t before = device_sum(w.b.dev);
    size_t size = f.size;
    print_message("%zu bytes\n", size);
    for (size_t i = 0; i < size; i++)
        for (unsigned bit = (unsigned)i % step; bit < 8; bit += step) {
            f.data[i] ^= (uint8_t)(1u << bit);
            must_be_refused(&w, &f);
            f.data[i] ^= (uint8_t)(1u << bit);
        }
    for (f.size = 0; f.size < size; f.size++)
        must_be_refused(&w, &f);
    file_write(&f, "", 1);
    must_be_refused(&w, &f);
    assert_int_equal(device_sum(w.b.dev), before);
    f.size = size;
    cmb_bundle_source source = source_of(&f);
    must(cmb_bundle_apply(w.b.store, &source, NULL, NULL));
    must_be_sound(w.b.store);
    free(f.data);
    bed_close(&a);
    bed_close(&w.b);
}

static void a_bundle_with_any_bit_flipped_or_cut_anywhere_is_refused_and_no_byte_of_the_image_changes(void **state)
{
    damage_all(CMB_HASH_XXH3, 1);
}

static void so_is_one_with_any_byte_changed_where_names_are_cryptographic(void **state)
{
    if (cmb_hash_check(CMB_HASH_SHA256)) {
        print_message("built without the feature sha256\n");
        skip();
    }
    damage_all(CMB_HASH_SHA256, bed_budget() > 1 ? 1 : 8);
}

/* Several frames, out-of-line values; places and kinds of damage by seed. */
static void a_larger_bundle_with_damage_by_seed_is_refused_and_no_byte_of_the_image_changes(void **state)
{
    uint64_t random = bed_seed();
    file f = {.data = NULL}, bad = {.data = NULL};
    bed a;
    watched w;
    print_message("CMB_SEED=%llu\n", (unsigned long long)random);
    make_small(&a, CMB_HASH_XXH3);
    put_range(a.store, "main", 0, 1, 9000, "a value of some length", "much");
    static uint8_t large[3 * CMB_CHUNK_SIZE];
    for (size_t i = 0; i < sizeof large; i++)
        large[i] = (uint8_t)bed_mix(&random);
    cmb_txn *txn;
    cmb_commit_info info = {.author = "ada", .message = "large"};
    must(cmb_txn_begin(a.store, "main", 0, &txn));
    must(cmb_txn_put(txn, str("large"), (cmb_bytes){large, sizeof large}));
    must(cmb_txn_commit(txn, &info, NULL));
    open_watched(&w, CMB_HASH_XXH3);
    bundle_of(a.store, ALL, 3, &f);
    uint64_t before = device_sum(w.b.dev);
    for (unsigned i = 0; i < 150 * bed_budget(); i++) {
        bad.size = 0;
        file_write(&bad, f.data, f.size);
        size_t at = bed_mix(&random) % f.size, other = bed_mix(&random) % f.size, n = 1 + bed_mix(&random) % 4096;
        switch (bed_mix(&random) % 4) {
        case 0: bad.data[at] ^= (uint8_t)(1 + bed_mix(&random) % 255); break;
        case 1: bad.size = at; break;
        case 2: /* a piece is lost */
            n = n < f.size - at ? n : f.size - at;
            memmove(bad.data + at, bad.data + at + n, f.size - at - n);
            bad.size -= n;
            break;
        default: /* a piece is that of another place */
            n = n < f.size - at ? n : f.size - at;
            n = n < f.size - other ? n : f.size - other;
            memmove(bad.data + at, bad.data + other, n);
            if (memcmp(bad.data, f.data, f.size) == 0)
                continue;
        }
        must_be_refused(&w, &bad);
    }
    assert_int_equal(device_sum(w.b.dev), before);
    cmb_bundle_source source = source_of(&f);
    must(cmb_bundle_apply(w.b.store, &source, NULL, NULL));
    must_be_sound(w.b.store);
    free(f.data);
    free(bad.data);
    bed_close(&a);
    bed_close(&w.b);
}

/* ---- forgery: all checks are right ---- */

typedef struct known {
    cmb_name ids[64];
    size_t count;
} known;

static int learn(void *ctx, const cmb_commit_at *at)
{
    known *k = ctx;
    k->ids[k->count++] = at->id;
    return 0;
}

static int must_know(void *ctx, const cmb_commit_at *at)
{
    const known *k = ctx;
    for (size_t i = 0; i < k->count; i++)
        if (same_name(&k->ids[i], &at->id))
            return 0;
    return CMB_ECORRUPT;
}

/* The message in a bundle of one frame, and a bundle of a message. */
static void unwrap(const file *f, file *out)
{
    out->size = 0;
    file_write(out, f->data + CMB_WIRE_MAGIC + CMB_WIRE_HEADER, f->size - CMB_WIRE_MAGIC - CMB_WIRE_HEADER);
}

static void wrap(const uint8_t *data, size_t size, file *out)
{
    cmb_wire_out w;
    cmb_allocator alloc = cmb_allocator_or_default(NULL);
    out->size = 0;
    must(cmb_wire_out_open(&w, &alloc, file_write, out));
    must(cmb_wire_out_begin(&w, CMB_WIRE_BUNDLE));
    must(cmb_wire_put(&w, data, size));
    must(cmb_wire_out_end_message(&w));
    cmb_wire_out_close(&w);
}

/* Whatever a forged bundle does, no commit shows that did not exist, and nothing shows if it is refused. */
static void try_forged(bed *b, file *f, const known *k)
{
    uint64_t before = shown(b->store);
    cmb_bundle_source source = source_of(f);
    int error = cmb_bundle_apply(b->store, &source, &(cmb_pull_options){.tags = true}, NULL);
    if (error)
        assert_int_equal(shown(b->store), before);
    else
        must(cmb_commits_each(b->store, must_know, (void *)(uintptr_t)k));
    if (!error) { /* such as a branch under another name: begin again */
        must_be_sound(b->store);
        bed_close(b);
        open_image(b, CMB_HASH_XXH3, 512);
    }
}

static void a_forged_bundle_shows_nothing_that_did_not_exist(void **state)
{
    uint64_t random = bed_seed();
    file f = {.data = NULL}, message = {.data = NULL}, forged = {.data = NULL};
    known k = {.count = 0};
    bed a, b;
    print_message("CMB_SEED=%llu\n", (unsigned long long)random);
    make_small(&a, CMB_HASH_XXH3);
    open_image(&b, CMB_HASH_XXH3, 512);
    must(cmb_commits_each(a.store, learn, &k));
    bundle_of(a.store, ALL, 3, &f);
    unwrap(&f, &message);
    for (size_t i = 0; i < message.size; i++) {
        uint8_t kept = message.data[i];
        uint8_t values[] = {(uint8_t)(kept + 1), (uint8_t)bed_mix(&random), 0, 1, 0xff, (uint8_t)bed_mix(&random)};
        for (unsigned v = 0; v < (bed_budget() > 1 ? sizeof values : 1); v++) {
            message.data[i] = values[v];
            wrap(message.data, message.size, &forged);
            if (values[v] != kept)
                try_forged(&b, &forged, &k);
        }
        message.data[i] = kept;
    }
    for (unsigned i = 0; i < 50 * bed_budget(); i++) { /* a piece taken out, or twice */
        size_t at = bed_mix(&random) % message.size, n = 1 + bed_mix(&random) % 200;
        file other = {.data = NULL};
        n = n < message.size - at ? n : message.size - at;
        file_write(&other, message.data, at);
        if (bed_mix(&random) % 2) {
            file_write(&other, message.data + at, n);
            file_write(&other, message.data + at, n);
        }
        file_write(&other, message.data + at + n, message.size - at - n);
        wrap(other.data, other.size, &forged);
        try_forged(&b, &forged, &k);
        free(other.data);
    }
    must_be_sound(b.store);
    free(f.data);
    free(message.data);
    free(forged.data);
    bed_close(&a);
    bed_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bundle_carries_history_into_another_image),
        cmocka_unit_test(what_is_excluded_is_needed_where_the_bundle_goes),
        cmocka_unit_test(a_bundle_names_branches_and_tags_only),
        cmocka_unit_test(a_bundle_can_be_shallow),
        cmocka_unit_test(a_bundle_with_any_bit_flipped_or_cut_anywhere_is_refused_and_no_byte_of_the_image_changes),
        cmocka_unit_test(so_is_one_with_any_byte_changed_where_names_are_cryptographic),
        cmocka_unit_test(a_larger_bundle_with_damage_by_seed_is_refused_and_no_byte_of_the_image_changes),
        cmocka_unit_test(a_forged_bundle_shows_nothing_that_did_not_exist),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
