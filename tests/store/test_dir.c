/* SPDX-License-Identifier: ISC */
/* Listings of directories: against one made of all keys, over snapshots and transactions. */
#include "bed.h"

#include <cambium/path.h>

/* A listing as text: a line a child: name, "e" + value size, "d" + entries below. */
static char *list(cmb_dir *dir)
{
    char *text;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    cmb_dir_child c;
    int error;
    assert_non_null(out);
    while ((error = cmb_dir_next(dir, &c)) == 0) {
        fprintf(out, "%.*s", (int)c.name.size, (const char *)c.name.data);
        if (c.entry)
            fprintf(out, " e%u", c.value_size);
        if (c.directory)
            fprintf(out, " d%llu", (unsigned long long)c.below);
        fputc('\n', out);
        assert_true(c.entry || c.value_size == 0);
        assert_true(c.directory == (c.below > 0));
    }
    must_be(error, CMB_ENOTFOUND);
    must_be(cmb_dir_next(dir, &c), CMB_ENOTFOUND);
    fclose(out);
    return text;
}

static void expect_list_of(cmb_snapshot *snapshot, const char *prefix, const char *wanted)
{
    cmb_dir *dir;
    must(cmb_dir_open(snapshot, str(prefix), &dir));
    char *got = list(dir);
    assert_string_equal(got, wanted);
    free(got);
    cmb_dir_close(dir);
}

static void expect_list(cmb_store *store, const char *prefix, const char *wanted)
{
    cmb_snapshot *snapshot;
    must(cmb_snapshot_open(store, "main", &snapshot));
    expect_list_of(snapshot, prefix, wanted);
    cmb_snapshot_close(snapshot);
}

static void children_are_the_names_up_to_the_next_slash(void **state)
{
    bed b;
    bed_open(&b);
    expect_list(b.store, "", "");
    put(b.store, "main", "readme", "12", NULL);
    put(b.store, "main", "src/a.c", "1", NULL);
    put(b.store, "main", "src/b.c", "123", NULL);
    put(b.store, "main", "src/deep/er/x", "1", NULL);
    put(b.store, "main", "zoo/x", "", NULL);
    expect_list(b.store, "", "readme e2\nsrc d3\nzoo d1\n");
    expect_list(b.store, "src/", "a.c e1\nb.c e3\ndeep d1\n");
    expect_list(b.store, "src/deep/", "er d1\n");
    expect_list(b.store, "src/deep/er/", "x e1\n");
    expect_list(b.store, "src/deep/er/x/", "");
    expect_list(b.store, "nothing/", "");
    expect_list(b.store, "zoo/", "x e0\n");
    expect_list(b.store, "s", "rc d3\n"); /* what "s" can be completed to */
    bed_close(&b);
}

static void a_name_can_be_an_entry_and_a_directory(void **state)
{
    bed b;
    bed_open(&b);
    put(b.store, "main", "a", "1", NULL);
    put(b.store, "main", "a.b", "1", NULL);
    put(b.store, "main", "a/x", "1", NULL);
    put(b.store, "main", "a/y", "1", NULL);
    put(b.store, "main", "a0", "1", NULL);
    put(b.store, "main", "c.d", "1", NULL);
    put(b.store, "main", "c/x", "1", NULL);
    expect_list(b.store, "", "a e1 d2\na.b e1\na0 e1\nc.d e1\nc d1\n");
    bed_close(&b);
}

static void empty_names_are_names(void **state)
{
    bed b;
    bed_open(&b);
    put(b.store, "main", "/", "1", NULL);
    put(b.store, "main", "//", "1", NULL);
    put(b.store, "main", "/a", "1", NULL);
    put(b.store, "main", "a/", "12", NULL);
    put(b.store, "main", "a//b", "1", NULL);
    expect_list(b.store, "", " d3\na d2\n");
    expect_list(b.store, "/", " e1 d1\na e1\n");
    expect_list(b.store, "//", " e1\n");
    expect_list(b.store, "a/", " e2 d1\n");
    expect_list(b.store, "a//", "b e1\n");
    bed_close(&b);
}

/* ---- against all keys ---- */

#define KEYS 3000
typedef struct model {
    char keys[KEYS][24];
    size_t count;
} model;

static int by_bytes(const void *a, const void *b)
{
    return strcmp(a, b);
}

static unsigned below(const model *m, const char *path)
{
    unsigned n = 0;
    size_t size = strlen(path);
    for (size_t i = 0; i < m->count; i++)
        n += strncmp(m->keys[i], path, size) == 0 && m->keys[i][size] == '/';
    return n;
}

static bool is_key(const model *m, const char *key)
{
    return bsearch(key, m->keys, m->count, sizeof m->keys[0], by_bytes) != NULL;
}

/* Keys are sorted. */
static char *list_model(const model *m, const char *prefix)
{
    char *text, path[24], last[24] = "\xff";
    size_t size, n = strlen(prefix);
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    for (size_t i = 0; i < m->count; i++) {
        if (strncmp(m->keys[i], prefix, n) != 0)
            continue;
        size_t end = n + strcspn(m->keys[i] + n, "/");
        bool entry = !m->keys[i][end];
        memcpy(path, m->keys[i], end);
        path[end] = 0;
        if (strcmp(path, last) == 0 || (!entry && is_key(m, path)))
            continue; /* shown before */
        fprintf(out, entry ? "%s e1" : "%s", path + n);
        if (below(m, path))
            fprintf(out, " d%u", below(m, path));
        fputc('\n', out);
        strcpy(last, path);
    }
    fclose(out);
    return text;
}

static void random_key(uint64_t *random, char out[24])
{
    static const char letters[] = "ab./0-";
    uint64_t r = bed_mix(random);
    size_t n = 1 + r % 9;
    for (size_t i = 0; i < n; i++)
        out[i] = letters[(r >> (8 + 5 * i)) % (sizeof letters - 1)];
    out[n] = 0;
}

static void remember(model *m, const char *key)
{
    if (!is_key(m, key)) {
        strcpy(m->keys[m->count++], key);
        qsort(m->keys, m->count, sizeof m->keys[0], by_bytes);
    }
}

static void expect_as_model(const model *m, cmb_dir *dir, const char *prefix)
{
    char *got = list(dir), *wanted = list_model(m, prefix);
    assert_string_equal(got, wanted);
    free(got);
    free(wanted);
}

static void expect_all_as_model(const model *m, cmb_snapshot *s, cmb_txn *txn, uint64_t *random)
{
    for (unsigned i = 0; i < 12; i++) {
        char prefix[24] = "";
        cmb_dir *dir;
        if (i) {
            strcpy(prefix, m->keys[bed_mix(random) % m->count]);
            prefix[bed_mix(random) % (strlen(prefix) + 1)] = 0;
        }
        if (txn)
            must(cmb_txn_dir_open(txn, str(prefix), &dir));
        else
            must(cmb_dir_open(s, str(prefix), &dir));
        expect_as_model(m, dir, prefix);
        cmb_dir_close(dir);
    }
}

static void listings_say_what_all_keys_say(void **state)
{
    static model m;
    uint64_t random = bed_seed();
    bed b = {.dev = NULL};
    static const cmb_init_options init = {.node_size = 256};
    print_message("seed %llu\n", (unsigned long long)random);
    memset(&m, 0, sizeof m);
    bed_open_with(&b, 0, &init);
    for (unsigned round = 0; round < 25 && m.count < KEYS - 100; round++) {
        cmb_txn *txn;
        cmb_snapshot *s;
        must(cmb_txn_begin(b.store, "main", 0, &txn));
        for (unsigned i = 0; i < 4 + round * 3; i++) {
            char key[24];
            random_key(&random, key);
            must(cmb_txn_put(txn, str(key), str("v")));
            remember(&m, key);
        }
        if (round > 3) {
            size_t at = bed_mix(&random) % m.count;
            must(cmb_txn_del(txn, str(m.keys[at])));
            memmove(m.keys[at], m.keys[at + 1], (--m.count - at) * sizeof m.keys[0]);
        }
        expect_all_as_model(&m, NULL, txn, &random);
        must(cmb_txn_commit(txn, NULL, NULL));
        must(cmb_snapshot_open(b.store, "main", &s));
        expect_all_as_model(&m, s, NULL, &random);
        cmb_snapshot_close(s);
    }
    bed_close(&b);
}

/* ---- going on ---- */

static void a_listing_over_a_transaction_goes_on_behind_the_last_child(void **state)
{
    bed b;
    cmb_txn *txn;
    cmb_dir *dir;
    cmb_dir_child c;
    bed_open(&b);
    put(b.store, "main", "b", "1", NULL);
    put(b.store, "main", "d/x", "1", NULL);
    must(cmb_txn_begin(b.store, "main", 0, &txn));
    must(cmb_txn_dir_open(txn, str(""), &dir));
    must(cmb_dir_next(dir, &c));
    assert_memory_equal(c.name.data, "b", 1);
    must(cmb_txn_put(txn, str("a"), str("too late")));
    must(cmb_txn_put(txn, str("c"), str("in time")));
    must(cmb_txn_put(txn, str("d/y"), str("in time")));
    must(cmb_txn_del(txn, str("b")));
    must(cmb_dir_next(dir, &c));
    assert_memory_equal(c.name.data, "c", 1);
    must(cmb_txn_put(txn, str("d/z"), str("in time")));
    must(cmb_dir_next(dir, &c));
    assert_memory_equal(c.name.data, "d", 1);
    assert_int_equal(c.below, 3);
    must(cmb_txn_put(txn, str("d/zz"), str("too late")));
    must(cmb_txn_put(txn, str("e"), str("in time")));
    must(cmb_dir_next(dir, &c));
    assert_memory_equal(c.name.data, "e", 1);
    must_be(cmb_dir_next(dir, &c), CMB_ENOTFOUND);
    must_be(cmb_txn_commit(txn, NULL, NULL), CMB_EINVAL); /* a listing is open */
    cmb_dir_close(dir);
    must(cmb_txn_commit(txn, NULL, NULL));
    bed_close(&b);
}

static void a_listing_can_be_taken_up_at_a_name(void **state)
{
    bed b;
    cmb_snapshot *s;
    cmb_dir *dir;
    bed_open(&b);
    put(b.store, "main", "p/a", "1", NULL);
    put(b.store, "main", "p/a/x", "1", NULL);
    put(b.store, "main", "p/b/x", "1", NULL);
    put(b.store, "main", "p/c", "1", NULL);
    must(cmb_snapshot_open(b.store, "main", &s));
    must(cmb_dir_open(s, str("p/"), &dir));
    const char *const from[] = {"b", "b0", "", "a", "c", "d"},
                     *const wanted[] = {"b d1\nc e1\n", "c e1\n", "a e1 d1\nb d1\nc e1\n", "a e1 d1\nb d1\nc e1\n", "c e1\n", ""};
    for (unsigned i = 0; i < 6; i++) {
        must(cmb_dir_seek(dir, str(from[i])));
        char *got = list(dir);
        assert_string_equal(got, wanted[i]);
        free(got);
    }
    must(cmb_dir_seek(dir, (cmb_bytes){"a", 2})); /* behind the entry: its directory was shown with it */
    char *got = list(dir);
    assert_string_equal(got, "b d1\nc e1\n");
    free(got);
    cmb_dir_close(dir);
    cmb_snapshot_close(s);
    bed_close(&b);
}

static void keys_and_prefixes_of_the_largest_size_work(void **state)
{
    static char key[CMB_KEY_MAX + 2];
    bed b;
    cmb_txn *txn;
    cmb_dir *dir;
    cmb_dir_child c;
    bed_open(&b);
    memset(key, 'k', sizeof key);
    key[5] = '/';
    must(cmb_txn_begin(b.store, "main", 0, &txn));
    must(cmb_txn_put(txn, (cmb_bytes){key, CMB_KEY_MAX}, str("v")));
    must(cmb_txn_dir_open(txn, (cmb_bytes){key, 6}, &dir));
    must(cmb_dir_next(dir, &c));
    assert_int_equal(c.name.size, CMB_KEY_MAX - 6);
    must_be(cmb_dir_next(dir, &c), CMB_ENOTFOUND);
    must(cmb_dir_seek(dir, (cmb_bytes){key + 6, CMB_KEY_MAX - 6}));
    must(cmb_dir_next(dir, &c));
    must(cmb_dir_seek(dir, (cmb_bytes){key + 6, CMB_KEY_MAX - 5}));
    must_be(cmb_dir_next(dir, &c), CMB_ENOTFOUND);
    cmb_dir_close(dir);
    must(cmb_txn_dir_open(txn, (cmb_bytes){key, CMB_KEY_MAX}, &dir));
    must(cmb_dir_next(dir, &c));
    assert_int_equal(c.name.size, 0);
    cmb_dir_close(dir);
    must_be(cmb_txn_dir_open(txn, (cmb_bytes){key, CMB_KEY_MAX + 1}, &dir), CMB_EINVAL);
    cmb_txn_abort(txn);
    bed_close(&b);
}

static void a_directory_of_many_entries_is_counted_and_stepped_over(void **state)
{
    bed b;
    cmb_txn *txn;
    bed_open(&b);
    must(cmb_txn_begin(b.store, "main", 0, &txn));
    for (unsigned i = 0; i < 60000; i++) {
        char key[32];
        snprintf(key, sizeof key, "%u/%05u", i / 20000, i);
        must(cmb_txn_put(txn, str(key), str("v")));
    }
    must(cmb_txn_commit(txn, NULL, NULL));
    expect_list(b.store, "", "0 d20000\n1 d20000\n2 d20000\n");
    expect_list(b.store, "1/2000", "0 e1\n1 e1\n2 e1\n3 e1\n4 e1\n5 e1\n6 e1\n7 e1\n8 e1\n9 e1\n");
    bed_close(&b);
}

/* ---- memory ---- */

typedef struct countdown {
    long left; /* allocations until they fail; negative: never */
    size_t held;
} countdown;

static void *countdown_alloc(void *ctx, size_t size)
{
    countdown *c = ctx;
    if (c->left == 0 || (c->left > 0 && --c->left == 0))
        return NULL;
    c->held += size;
    return malloc(size);
}

static void *countdown_resize(void *ctx, void *p, size_t old_size, size_t new_size)
{
    countdown *c = ctx;
    if (c->left == 0 || (c->left > 0 && --c->left == 0))
        return NULL;
    c->held += new_size - old_size;
    return realloc(p, new_size);
}

static void countdown_release(void *ctx, void *p, size_t size)
{
    countdown *c = ctx;
    if (p)
        c->held -= size;
    free(p);
}

/* Lists it all; a child whose memory failed comes again. */
static int try_list(cmb_store *store, countdown *c, unsigned *out_children)
{
    cmb_snapshot *s;
    cmb_dir *dir;
    cmb_dir_child child;
    int error = cmb_snapshot_open(store, "main", &s);
    if (error)
        return error;
    *out_children = 0;
    error = cmb_dir_open(s, str("a/"), &dir);
    if (!error) {
        while (!(error = cmb_dir_next(dir, &child)))
            ++*out_children;
        if (error == CMB_ENOMEM) {
            c->left = -1;
            while (!cmb_dir_next(dir, &child))
                ++*out_children;
        }
        cmb_dir_close(dir);
    }
    cmb_snapshot_close(s);
    return error;
}

static void without_memory_a_listing_fails_and_can_go_on(void **state)
{
    countdown c = {.left = -1};
    bed b = {.options.alloc = {&c, countdown_alloc, countdown_resize, countdown_release}};
    static const cmb_init_options init = {.node_size = 256};
    unsigned failures = 0, children;
    bed_open_with(&b, 0, &init);
    for (unsigned i = 0; i < 60; i++) {
        char key[32];
        snprintf(key, sizeof key, i % 3 ? "a/%u" : "a/%u/below", i / 2);
        put(b.store, "main", key, "v", NULL);
    }
    must_be(try_list(b.store, &c, &children), CMB_ENOTFOUND);
    unsigned all = children;
    for (long i = 1;; i++) {
        size_t held = c.held;
        c.left = i;
        int error = try_list(b.store, &c, &children);
        c.left = -1;
        assert_int_equal(c.held, held);
        if (error == CMB_ENOTFOUND)
            break;
        must_be(error, CMB_ENOMEM);
        assert_true(children == all || children == 0);
        failures++;
    }
    assert_true(failures > 3);
    bed_close(&b);
    assert_int_equal(c.held, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(children_are_the_names_up_to_the_next_slash),
        cmocka_unit_test(a_name_can_be_an_entry_and_a_directory),
        cmocka_unit_test(empty_names_are_names),
        cmocka_unit_test(listings_say_what_all_keys_say),
        cmocka_unit_test(a_listing_over_a_transaction_goes_on_behind_the_last_child),
        cmocka_unit_test(a_listing_can_be_taken_up_at_a_name),
        cmocka_unit_test(keys_and_prefixes_of_the_largest_size_work),
        cmocka_unit_test(a_directory_of_many_entries_is_counted_and_stepped_over),
        cmocka_unit_test(without_memory_a_listing_fails_and_can_go_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
