/* SPDX-License-Identifier: ISC */
#include "bed.h"

#include <cambium/git.h>

#define CMB_COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* ---- streams in memory ---- */

typedef struct text {
    char *data;
    size_t size, capacity;
} text;

static void add(text *t, const void *data, size_t size)
{
    if (t->size + size > t->capacity) {
        t->capacity = 2 * (t->size + size);
        t->data = realloc(t->data, t->capacity);
        assert_non_null(t->data);
    }
    if (size)
        memcpy(t->data + t->size, data, size);
    t->size += size;
}

static void say(text *t, const char *format, ...)
{
    char line[500];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    add(t, line, (size_t)n);
}

/* A stream that is read in pieces of at most `piece` bytes, and fails at `fail_at`. */
typedef struct source {
    const text *t;
    size_t at, piece, fail_at;
    int error; /* 0: CMB_EIO */
} source;

static int read_text(void *ctx, void *out, size_t size, size_t *out_read)
{
    source *s = ctx;
    size_t n = s->t->size - s->at;
    n = n < size ? n : size;
    n = n < s->piece ? n : s->piece;
    if (s->fail_at && s->at >= s->fail_at)
        return s->error ? s->error : CMB_EIO;
    if (n)
        memcpy(out, s->t->data + s->at, n);
    s->at += n;
    *out_read = n;
    return 0;
}

static int write_text(void *ctx, const void *data, size_t size)
{
    add(ctx, data, size);
    return 0;
}

static int import(cmb_store *store, const text *t, size_t piece, cmb_git_result *result)
{
    source s = {.t = t, .piece = piece};
    return cmb_git_import(store, read_text, &s, NULL, result);
}

static void blob(text *t, unsigned mark, unsigned size, uint64_t *random)
{
    say(t, "blob\nmark :%u\ndata %u\n", mark, size);
    for (unsigned i = 0; i < size; i++)
        say(t, "%c", i % 50 == 49 ? '\n' : 'a' + (char)(bed_mix(random) % 26));
    say(t, "\n");
}

/* A history with some of everything. */
static void make_stream_with(text *t, uint64_t seed, unsigned commits, unsigned largest)
{
    const unsigned sizes[] = {0, 1, 40, 64, 65, 300, 1024, 1025, 5000, largest};
    static const char *const modes[] = {"100644", "100755", "120000"};
    uint64_t random = seed;
    unsigned blobs = (unsigned)CMB_COUNT(sizes);
    say(t, "feature done\n");
    for (unsigned i = 0; i < blobs; i++)
        blob(t, i + 1, sizes[i], &random);
    for (unsigned i = 0; i < commits; i++) {
        const char *ref = i % 3 == 0 ? "refs/heads/main" : i % 3 == 1 ? "refs/heads/side" : "refs/tags/light";
        say(t, "commit %s\nmark :%u\nauthor \xc3\x84 <a> %u +0100\ncommitter C <c> %u -0330\n", ref, 100 + i, i, 2 * i);
        say(t, "data %u\nm%u\n", i < 10 ? 2u : i < 100 ? 3u : 4u, i);
        if (i > 5)
            say(t, "from :%u\nmerge :%u\nmerge :%u\n", 100 + i - 3, 100 + i - 1, 100 + i - 5);
        for (unsigned k = (unsigned)(bed_mix(&random) % 6); k > 0; k--) {
            unsigned a = (unsigned)(bed_mix(&random) % 40), b = (unsigned)(bed_mix(&random) % 10);
            if (a % 8 == 7)
                say(t, "D d%u/f%u\n", a % 5, a);
            else if (a % 8 == 6)
                say(t, "M 755 inline \"in\\tline\"\ndata 3\nabc\n");
            else
                say(t, "M %s :%u d%u/f%u\n", modes[b % 3], b + 1, a % 5, a);
        }
        if (i % 7 == 6)
            say(t, "M 100644 :2 whole/x\nC whole copy%u/y\nR whole moved\nD moved\n", i);
        say(t, "\n");
    }
    say(t, "reset refs/notes/x\nfrom :100\n\ntag v\nmark :99\nfrom :101\ntagger T <t> 5 +0000\ndata 1\nx\ntag w\nfrom "
           ":99\ndata 0\n");
    say(t, "tag b\nfrom :9\ndata 0\ndone\n");
}

static void make_stream(text *t, uint64_t seed, unsigned commits)
{
    make_stream_with(t, seed, commits, 300000);
}

static void export_to(cmb_store *store, text *out)
{
    out->size = 0;
    must(cmb_git_export(store, write_text, out, NULL, NULL));
}

static void assert_same_text(const text *a, const text *b)
{
    assert_int_equal(a->size, b->size);
    assert_memory_equal(a->data, b->data, a->size);
}

/* ---- what an import makes ---- */

static void a_stream_read_in_pieces_of_any_size_makes_the_same_history(void **state)
{
    static const size_t pieces[] = {SIZE_MAX, 1, 7, 4096, 100000};
    text t = {.size = 0}, first = {.size = 0}, out = {.size = 0};
    (void)state;
    make_stream(&t, bed_seed(), 30);
    for (size_t i = 0; i < CMB_COUNT(pieces); i++) {
        bed b;
        cmb_git_result r;
        bed_open(&b);
        must(import(b.store, &t, pieces[i], &r));
        assert_int_equal(r.commits, 30);
        assert_int_equal(r.bytes, t.size);
        assert_int_equal(r.tags, 3);
        export_to(b.store, i ? &out : &first);
        if (i)
            assert_same_text(&first, &out);
        bed_close(&b);
    }
    free(t.data);
    free(first.data);
    free(out.data);
}

/* Options under which an image looks different. */
static const struct {
    cmb_init_options init;
    size_t txn_memory;
} kinds[] = {{{.node_size = 256}, 0}, {{.node_size = 65536}, 0}, {{.seed = 7}, 1}, {{.node_size = 1024}, 4096}};

static void what_is_exported_is_the_same_whatever_the_image_is_like(void **state)
{
    text t = {.size = 0}, out = {.size = 0}, again = {.size = 0};
    (void)state;
    make_stream(&t, bed_seed() + 1, 40);
    for (size_t i = 0; i < CMB_COUNT(kinds); i++) {
        bed b = {.options.txn_memory = kinds[i].txn_memory}, c = {.dev = NULL};
        bed_open_with(&b, 0, &kinds[i].init);
        must(import(b.store, &t, 65536, NULL));
        bed_reopen(&b);
        export_to(b.store, &out);
        bed_open(&c);
        must(import(c.store, &out, SIZE_MAX, NULL));
        export_to(c.store, &again);
        assert_same_text(&out, &again);
        bed_close(&b);
        bed_close(&c);
    }
    free(t.data);
    free(out.data);
    free(again.data);
}

static int count_commit(void *ctx, uint64_t mark, cmb_bytes original, const cmb_name *id)
{
    unsigned *left = ctx;
    assert_true(mark >= 100 && original.size == 0 && id->size == 16);
    return (*left)-- ? 0 : CMB_ENOTFOUND; /* which is no end of the stream here */
}

static void a_callback_that_fails_ends_it_and_nothing_has_changed(void **state)
{
    bed b;
    text t = {.size = 0};
    unsigned left = 3;
    cmb_git_options options = {.commit = count_commit, .ctx = &left};
    (void)state;
    make_stream(&t, 3, 10);
    bed_open(&b);
    source s = {.t = &t, .piece = 1000, .fail_at = t.size / 2};
    must_be(cmb_git_import(b.store, read_text, &s, NULL, NULL), CMB_EIO);
    s = (source){.t = &t, .piece = 1000, .fail_at = t.size / 2, .error = CMB_ENOTFOUND};
    must_be(cmb_git_import(b.store, read_text, &s, NULL, NULL), CMB_ENOTFOUND);
    s = (source){.t = &t, .piece = 1000};
    must_be(cmb_git_import(b.store, read_text, &s, &options, NULL), CMB_ENOTFOUND);
    assert_int_equal(rev_of(b.store, "main").commit.size, 0);
    bed_close(&b);
    free(t.data);
}

static void modes_are_read_from_side_entries(void **state)
{
    bed b;
    cmb_snapshot *snapshot;
    uint32_t mode = 0;
    text t = {.size = 0};
    (void)state;
    say(&t, "commit refs/heads/main\ncommitter C <c> 1 +0000\ndata 0\nM 755 inline x/run\ndata 1\na\nM 644 inline "
            "file\ndata 1\nb\n");
    bed_open(&b);
    must(import(b.store, &t, SIZE_MAX, NULL));
    must(cmb_snapshot_open(b.store, "main", &snapshot));
    must(cmb_git_mode(snapshot, str("x/run"), &mode));
    assert_int_equal(mode, CMB_GIT_EXECUTABLE);
    must(cmb_git_mode(snapshot, str("file"), &mode));
    assert_int_equal(mode, CMB_GIT_FILE);
    must_be(cmb_git_mode(snapshot, str("x"), &mode), CMB_ENOTFOUND);
    must_be(cmb_git_mode(snapshot, str("fil"), &mode), CMB_ENOTFOUND);
    cmb_snapshot_close(snapshot);
    bed_close(&b);
    free(t.data);
}

static void a_full_list_after_deleteall_is_the_tree_of_its_changes(void **state)
{
    bed b;
    text t = {.size = 0};
    (void)state;
    for (int full = 0; full < 2; full++) {
        const char *ref = full ? "full" : "main";
        for (int i = 0; i < 3; i++) {
            say(&t, "commit refs/heads/%s\ncommitter C <c> 1 +0000\ndata 0\n", ref);
            if (full)
                say(&t, "deleteall\n");
            for (int k = 0; k < 500; k++)
                if (full || i == 0 || k % 100 == i)
                    say(&t, "M %s inline d%d/f%d\ndata 3\n%03d\n", k % 7 ? "644" : "755", k % 9, k,
                        k % 100 == 1 && i        ? 1
                        : k % 100 == 2 && i == 2 ? 2
                                                 : k);
        }
    }
    bed_open(&b);
    must(import(b.store, &t, SIZE_MAX, NULL));
    cmb_rev main_rev = rev_of(b.store, "main"), full_rev = rev_of(b.store, "full");
    assert_true(same_name(&main_rev.commit, &full_rev.commit));
    bed_close(&b);
    free(t.data);
}

/* ---- when memory runs out ---- */

typedef struct countdown {
    int64_t left; /* allocations that succeed yet; negative: all */
    int64_t live;
} countdown;

static void *countdown_alloc(void *ctx, size_t size)
{
    countdown *c = ctx;
    if (c->left == 0)
        return NULL;
    c->left -= c->left > 0;
    c->live++;
    return malloc(size);
}

static void *countdown_resize(void *ctx, void *p, size_t old_size, size_t new_size)
{
    countdown *c = ctx;
    (void)old_size;
    if (c->left == 0)
        return NULL;
    c->left -= c->left > 0;
    c->live += p == NULL;
    return realloc(p, new_size);
}

static void countdown_release(void *ctx, void *p, size_t size)
{
    countdown *c = ctx;
    (void)size;
    c->live -= p != NULL;
    free(p);
}

static void without_memory_at_any_moment_there_is_a_clean_error_and_nothing_has_changed(void **state)
{
    countdown c = {.left = -1};
    bed b = {.options.alloc = {&c, countdown_alloc, countdown_resize, countdown_release}};
    text t = {.size = 0}, out = {.size = 0};
    int error = CMB_ENOMEM;
    (void)state;
    make_stream(&t, 5, 12);
    bed_open_with(&b, 0, NULL);
    for (int64_t k = 0; error; k += 1 + k / 8) {
        c.left = k;
        error = import(b.store, &t, SIZE_MAX, NULL);
        c.left = -1;
        if (error) {
            must_be(error, CMB_ENOMEM);
            assert_int_equal(rev_of(b.store, "main").commit.size, 0);
        }
    }
    error = CMB_ENOMEM;
    for (int64_t k = 0; error; k += 1 + k / 8) {
        out.size = 0;
        c.left = k;
        error = cmb_git_export(b.store, write_text, &out, NULL, NULL);
        c.left = -1;
        if (error)
            must_be(error, CMB_ENOMEM);
    }
    bed_close(&b);
    assert_int_equal(c.live, 0);
    free(t.data);
    free(out.data);
}

/* ---- hostile streams ---- */

static void damage(text *t, uint64_t *random)
{
    size_t at = (size_t)(bed_mix(random) % t->size), n = (size_t)(bed_mix(random) % 30);
    n = n < t->size - at ? n : t->size - at;
    switch (bed_mix(random) % 4) {
    case 0: /* a byte is another one */
        t->data[at] = (char)bed_mix(random);
        break;
    case 1: /* some are lost */
        memmove(t->data + at, t->data + at + n, t->size - at - n);
        t->size -= n;
        break;
    case 2: /* one place is copied over another */
        memmove(t->data + at, t->data + (size_t)(bed_mix(random) % (t->size - n)), n);
        break;
    default: /* it ends */
        t->size = at + 1;
    }
}

static void damaged_streams_are_taken_or_refused_by_line_and_an_image_stays_whole(void **state)
{
    text t = {.size = 0}, out = {.size = 0};
    uint64_t random = bed_seed();
    unsigned refused = 0, rounds = 100 * bed_budget();
    bed b;
    (void)state;
    print_message("seed %llu\n", (unsigned long long)random);
    bed_open(&b);
    for (unsigned i = 0; i < rounds; i++) {
        t.size = 0;
        make_stream_with(&t, 1, 8, 10);
        for (uint64_t n = 1 + bed_mix(&random) % 3; n > 0; n--)
            damage(&t, &random);
        source s = {.t = &t, .piece = 65536};
        int error = cmb_git_import(b.store, read_text, &s, &(cmb_git_options){.force = true}, NULL);
        if (error) {
            refused++;
            if (error != CMB_ESYNTAX && error != CMB_ENOTSUP && error != CMB_ETOOBIG)
                must(error);
            assert_int_equal(strncmp(cmb_error_detail(), "line ", 5), 0);
        }
    }
    assert_true(refused > 0);
    out.size = 0;
    int error = cmb_git_export(b.store, write_text, &out, NULL, NULL);
    if (error)
        must_be(error, CMB_ENOTSUP); /* refs may have come in that git cannot have together */
    bed_close(&b);
    free(t.data);
    free(out.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_read_in_pieces_of_any_size_makes_the_same_history),
        cmocka_unit_test(what_is_exported_is_the_same_whatever_the_image_is_like),
        cmocka_unit_test(a_callback_that_fails_ends_it_and_nothing_has_changed),
        cmocka_unit_test(modes_are_read_from_side_entries),
        cmocka_unit_test(a_full_list_after_deleteall_is_the_tree_of_its_changes),
        cmocka_unit_test(without_memory_at_any_moment_there_is_a_clean_error_and_nothing_has_changed),
        cmocka_unit_test(damaged_streams_are_taken_or_refused_by_line_and_an_image_stays_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
