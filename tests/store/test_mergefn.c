/* SPDX-License-Identifier: ISC */
/* The merge functions: union of lines, counters, JSON, ours, theirs. */
#include "bed.h"

#define ABSENT "\001absent"
#define CONFLICT "\001conflict"

typedef struct fixture {
    bed b;
    unsigned cases;
} fixture;

static int setup(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    bed_open(&f->b);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture *f = *state;
    bed_close(&f->b);
    free(f);
    return 0;
}

static void write_value(cmb_store *store, const char *branch, cmb_bytes value)
{
    cmb_txn *txn;
    cmb_commit_info info = {.author = "ada", .message = branch, .flags = CMB_COMMIT_EMPTY};
    must(cmb_txn_begin(store, branch, 0, &txn));
    if (value.size == strlen(ABSENT) && !memcmp(value.data, ABSENT, value.size)) {
        int error = cmb_txn_del(txn, str("k"));
        assert_true(!error || error == CMB_ENOTFOUND);
    } else {
        must(cmb_txn_put(txn, str("k"), value));
    }
    must(cmb_txn_commit(txn, &info, NULL));
}

/* Merges three values of one key; the caller frees what comes back: the merged value, ABSENT or CONFLICT. */
static char *merge_bytes(fixture *f, cmb_merge_fn fn, cmb_bytes base, cmb_bytes mine, cmb_bytes theirs,
                         size_t *out_size)
{
    cmb_store *store = f->b.store;
    char a[32], b[32];
    cmb_merge_result result;
    cmb_snapshot *snapshot;
    cmb_bytes got;
    snprintf(a, sizeof a, "m%u", f->cases);
    snprintf(b, sizeof b, "t%u", f->cases++);
    must(cmb_branch_create(store, a, NULL));
    write_value(store, a, base);
    must(cmb_branch_create(store, b, a));
    write_value(store, a, mine);
    write_value(store, b, theirs);
    must(cmb_merge(store, a, b, fn, NULL, NULL, &result));
    if (result.kind == CMB_MERGE_CONFLICTS) {
        cmb_merging_abort(result.open);
        *out_size = strlen(CONFLICT);
        return strdup(CONFLICT);
    }
    must(cmb_snapshot_open(store, a, &snapshot));
    int error = cmb_get(snapshot, str("k"), &got);
    if (error)
        got = str(ABSENT);
    char *copy = malloc(got.size + 1);
    memcpy(copy, got.data, got.size);
    copy[got.size] = 0;
    *out_size = got.size;
    cmb_snapshot_close(snapshot);
    return copy;
}

static void check(fixture *f, cmb_merge_fn fn, const char *base, const char *mine, const char *theirs,
                  const char *expected)
{
    size_t size;
    char *got = merge_bytes(f, fn, str(base), str(mine), str(theirs), &size);
    if (size != strlen(expected) || memcmp(got, expected, size))
        fail_msg("base <%s> mine <%s> theirs <%s>: got <%s>, not <%s>", base, mine, theirs, got, expected);
    free(got);
}

/* Either way round. */
static void check_both(fixture *f, cmb_merge_fn fn, const char *base, const char *mine, const char *theirs,
                       const char *expected)
{
    check(f, fn, base, mine, theirs, expected);
    check(f, fn, base, theirs, mine, expected);
}

static void ours_and_theirs_take_a_side_also_if_it_is_a_deletion(void **state)
{
    fixture *f = *state;
    check(f, cmb_merge_ours, "b", "m", "t", "m");
    check(f, cmb_merge_theirs, "b", "m", "t", "t");
    check(f, cmb_merge_ours, "b", ABSENT, "t", ABSENT);
    check(f, cmb_merge_theirs, "b", "m", ABSENT, ABSENT);
    check(f, cmb_merge_theirs, ABSENT, "m", "t", "t");
    check(f, cmb_merge_fail, "b", "m", "t", CONFLICT);
    check(f, NULL, "b", "m", "t", CONFLICT);
}

/* ---- lines ---- */

static void a_union_has_the_lines_of_both_in_the_order_of_the_ancestor(void **state)
{
    fixture *f = *state;
    check_both(f, cmb_merge_union, "a\nb\nc\n", "a\nx\nb\nc\n", "a\nb\nc\ny\n", "a\nx\nb\nc\ny\n");
    check_both(f, cmb_merge_union, "a\nb\nc\n", "a\nx\nb\nc\n", "a\ny\nb\nc\n", "a\nx\ny\nb\nc\n");
    check_both(f, cmb_merge_union, "a\nb\nc\n", "a\nc\n", "a\nb\nc\nd\n", "a\nc\nd\n");
    check_both(f, cmb_merge_union, "a\nb\nc\n", "a\nB\nc\n", "a\nb2\nc\n", "a\nB\nb2\nc\n");
    check_both(f, cmb_merge_union, "a\nb\nc\n", "a\nb\n", "b\nc\n", "b\n");
    check_both(f, cmb_merge_union, "a\n", "", "a\nb\n", "b\n");
    check_both(f, cmb_merge_union, ABSENT, "a\nb\nz\n", "a\nc\nz\n", "a\nb\nc\nz\n");
    check_both(f, cmb_merge_union, ABSENT, "a\nb\nz\n", "q\n", "a\nb\nz\nq\n");
}

static void a_union_has_what_both_put_in_once(void **state)
{
    fixture *f = *state;
    check_both(f, cmb_merge_union, "a\nb\n", "a\nx\ny\nb\n", "a\nx\nz\nb\n", "a\nx\ny\nz\nb\n");
    check_both(f, cmb_merge_union, "a\nb\n", "a\nx\ny\nw\nb\n", "a\nz\ny\nv\nb\n", "a\nx\nz\ny\nv\nw\nb\n");
    check_both(f, cmb_merge_union, "", "x\n", "x\ny\n", "x\ny\n");
}

static void a_union_ends_its_last_line_as_either_side_does(void **state)
{
    fixture *f = *state;
    check_both(f, cmb_merge_union, "a", "a\nb", "c\na", "c\na\nb");
    check_both(f, cmb_merge_union, "a", "a\nb", "a\n", "a\nb\n");
    check_both(f, cmb_merge_union, "a", "a\nb", "a\nc", "a\nb\nc");
    check_both(f, cmb_merge_union, "a\n", "a", "a\nb\n", "a\nb\n");
    check_both(f, cmb_merge_union, "", "x", "\n", "\nx\n");
}

static void a_union_conflicts_where_one_side_deleted(void **state)
{
    fixture *f = *state;
    check_both(f, cmb_merge_union, "a\n", ABSENT, "a\nb\n", CONFLICT);
}

typedef struct lines {
    char text[4096];
    size_t n;
} lines;

static void random_lines(uint64_t *seed, const lines *from, lines *to)
{
    to->n = 0;
    const char *p = from ? from->text : "";
    const char *end = from ? p + from->n : p;
    do {
        const char *newline = p < end ? memchr(p, '\n', (size_t)(end - p)) : NULL;
        while (bed_mix(seed) % 4 == 0 && to->n < sizeof to->text - 16) {
            char made = (char)('a' + bed_mix(seed) % 12);
            to->text[to->n++] = made;
            to->text[to->n++] = '\n';
        }
        if (!newline)
            break;
        if (bed_mix(seed) % 6) {
            memcpy(to->text + to->n, p, (size_t)(newline + 1 - p));
            to->n += (size_t)(newline + 1 - p);
        }
        p = newline + 1;
    } while (to->n < sizeof to->text - 64);
}

static unsigned count_line(const char *text, size_t n, char line)
{
    unsigned count = 0;
    for (size_t i = 0; i < n; i += 2)
        count += text[i] == line;
    return count;
}

/* For many short texts with few different lines: it does not matter which side is which, and every line is there as
 * often as it has to be at least. */
static void unions_of_random_texts_lose_no_line_and_may_be_swapped(void **state)
{
    fixture *f = *state;
    uint64_t seed = bed_seed();
    print_message("seed %llu\n", (unsigned long long)seed);
    for (unsigned i = 0; i < 60 * bed_budget(); i++) {
        lines base = {.n = 0}, mine, theirs;
        size_t n, m;
        for (unsigned k = bed_mix(&seed) % 30; k; k--) {
            base.text[base.n++] = (char)('a' + bed_mix(&seed) % 12);
            base.text[base.n++] = '\n';
        }
        random_lines(&seed, &base, &mine);
        random_lines(&seed, &base, &theirs);
        cmb_bytes b = {base.text, base.n}, x = {mine.text, mine.n}, y = {theirs.text, theirs.n};
        char *one = merge_bytes(f, cmb_merge_union, b, x, y, &n), *other = merge_bytes(f, cmb_merge_union, b, y, x, &m);
        assert_int_equal(n, m);
        assert_memory_equal(one, other, n);
        for (char c = 'a'; c < 'a' + 12; c++) {
            unsigned in_base = count_line(base.text, base.n, c), in_mine = count_line(mine.text, mine.n, c);
            unsigned in_theirs = count_line(theirs.text, theirs.n, c), got = count_line(one, n, c);
            unsigned low = in_mine < in_theirs ? in_mine : in_theirs;
            assert_true(got <= in_mine + in_theirs);
            if (in_mine >= in_base && in_theirs >= in_base)
                assert_true(got >= low);
        }
        free(one);
        free(other);
    }
}

/* A text whose lines repeat is no reason to take for ever. */
static void a_long_text_of_few_different_lines_is_merged_in_time(void **state)
{
    fixture *f = *state;
    const size_t n = 200000;
    char *base = malloc(2 * n + 8), *mine = malloc(2 * n + 8), *theirs = malloc(2 * n + 8);
    uint64_t seed = 3;
    size_t size;
    for (size_t i = 0; i < n; i++) {
        base[2 * i] = (char)('a' + bed_mix(&seed) % 3);
        base[2 * i + 1] = '\n';
    }
    memcpy(mine, base, 2 * n);
    memcpy(theirs, base, 2 * n);
    for (size_t i = 0; i < n; i += 1000) {
        mine[2 * i] = 'M';
        theirs[2 * (i + 500)] = 'T';
    }
    char *got = merge_bytes(f, cmb_merge_union, (cmb_bytes){base, 2 * n}, (cmb_bytes){mine, 2 * n},
                            (cmb_bytes){theirs, 2 * n}, &size);
    assert_true(count_line(got, size, 'M') >= n / 1000 && count_line(got, size, 'T') >= n / 1000);
    free(got);
    free(base);
    free(mine);
    free(theirs);
}

/* ---- counters ---- */

static size_t add(char *text, size_t size, const char *replica, int64_t delta)
{
    char out[1024];
    size_t n;
    must(cmb_counter_add((cmb_bytes){text, size}, replica, delta, out, sizeof out, &n));
    memcpy(text, out, n);
    text[n] = 0;
    return n;
}

static int64_t total(const char *text)
{
    int64_t n;
    must(cmb_counter_read(str(text), &n));
    return n;
}

static void counters_count_up_and_down_in_a_slot_per_replica(void **state)
{
    (void)state;
    char text[1024] = "";
    size_t n = add(text, 0, "bob", 5);
    assert_string_equal(text, "bob 5 0\n");
    n = add(text, n, "ada", -2);
    assert_string_equal(text, "ada 0 2\nbob 5 0\n");
    n = add(text, n, "bob", -1);
    n = add(text, n, "cy", 0);
    assert_string_equal(text, "ada 0 2\nbob 5 1\ncy 0 0\n");
    assert_int_equal(total(text), 2);
    add(text, n, "ada", INT64_MIN);
    assert_string_equal(text, "ada 0 9223372036854775810\nbob 5 1\ncy 0 0\n");
}

static void counters_refuse_what_is_none_and_what_does_not_fit(void **state)
{
    (void)state;
    static const char *const bad[] = {"x",
                                      "\n",
                                      "a 1\n",
                                      "a 1 2",
                                      "a 01 2\n",
                                      "a 1 2\na 1 2\n",
                                      "b 1 2\na 1 2\n",
                                      " 1 2\n",
                                      "a  1 2\n",
                                      "a 1 2 \n",
                                      "a -1 2\n",
                                      "a 18446744073709551616 0\n",
                                      "a 1 2\n\n",
                                      "a 1 \n"};
    int64_t n;
    char out[64];
    size_t size;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        must_be(cmb_counter_read(str(bad[i]), &n), CMB_ESYNTAX);
    must_be(cmb_counter_add(str("nonsense"), "a", 1, out, sizeof out, &size), CMB_ESYNTAX);
    must_be(cmb_counter_add(str(""), "a b", 1, out, sizeof out, &size), CMB_EINVAL);
    must_be(cmb_counter_add(str(""), "", 1, out, sizeof out, &size), CMB_EINVAL);
    must_be(cmb_counter_add(str(""), NULL, 1, out, sizeof out, &size), CMB_EINVAL);
    must_be(cmb_counter_add(str(""), "a", 1, out, 5, &size), CMB_ETOOBIG);
    must(cmb_counter_add(str(""), "a", 1, out, 6, &size));
    assert_int_equal(size, 6);
    must_be(cmb_counter_add(str("a 18446744073709551615 0\n"), "a", 1, out, sizeof out, &size), CMB_ETOOBIG);
    must_be(cmb_counter_read(str("a 18446744073709551615 0\nb 1 0\n"), &n), CMB_ETOOBIG);
    must_be(cmb_counter_read(str("a 9223372036854775808 0\n"), &n), CMB_ETOOBIG);
    must(cmb_counter_read(str("a 0 9223372036854775808\n"), &n));
    assert_true(n == INT64_MIN);
}

static void counters_take_the_larger_of_each_slot(void **state)
{
    fixture *f = *state;
    check_both(f, cmb_merge_counter, "a 1 0\n", "a 3 0\n", "a 1 0\nb 0 4\n", "a 3 0\nb 0 4\n");
    check_both(f, cmb_merge_counter, "a 1 0\nb 2 2\n", "a 3 0\nb 2 2\n", "a 1 0\nb 2 5\n", "a 3 0\nb 2 5\n");
    check_both(f, cmb_merge_counter, ABSENT, "a 1 0\n", "b 1 0\n", "a 1 0\nb 1 0\n");
    check_both(f, cmb_merge_counter, "a 1 0\n", ABSENT, "a 2 0\n", "a 2 0\n");
    check_both(f, cmb_merge_counter, "a 1 0\n", "a 2 0\n", "what", CONFLICT);
    check_both(f, cmb_merge_counter, "a 1 0\n", ABSENT, "what", CONFLICT);
    check_both(f, cmb_merge_counter, "what", "a 1 0\n", "", "a 1 0\n");
}

/* ---- JSON ---- */

static bool have_json(fixture *f)
{
    cmb_merge_result result;
    char a[16] = "j";
    must(cmb_branch_create(f->b.store, a, NULL));
    write_value(f->b.store, a, str("{}"));
    must(cmb_branch_create(f->b.store, "j2", a));
    write_value(f->b.store, a, str("{\"a\":1}"));
    write_value(f->b.store, "j2", str("{\"b\":1}"));
    int error = cmb_merge(f->b.store, a, "j2", cmb_merge_json, NULL, NULL, &result);
    if (error == CMB_ENOTSUP) {
        print_message("built without JSON\n");
        skip();
    }
    must(error);
    return true;
}

static void json_objects_are_merged_member_by_member_at_any_depth(void **state)
{
    fixture *f = *state;
    have_json(f);
    check_both(f, cmb_merge_json, "{\"a\":1}", "{\"a\":1,\"c\":2}", "{\"b\":3,\"a\":1}", "{\"a\":1,\"b\":3,\"c\":2}");
    check_both(f, cmb_merge_json, "{\"a\":{\"x\":1,\"y\":2}}", "{\"a\":{\"x\":5,\"y\":2}}",
               "{\"a\":{\"x\":1,\"y\":[1]}}", "{\"a\":{\"x\":5,\"y\":[1]}}");
    check_both(f, cmb_merge_json, "{\"a\":1,\"b\":2}", "{\"b\":2}", "{\"a\":1,\"b\":3}", "{\"b\":3}");
    check_both(f, cmb_merge_json, "{\"a\":1}", "{\"a\":1,\"n\":{\"p\":1}}", "{\"a\":1,\"n\":{\"q\":1}}",
               "{\"a\":1,\"n\":{\"p\":1,\"q\":1}}");
    check_both(f, cmb_merge_json, ABSENT, "{\"a\":1}", "{\"b\":[true,null,\"\"]}", "{\"a\":1,\"b\":[true,null,\"\"]}");
    check_both(f, cmb_merge_json, "{\"a\":1}", "{\"a\":2,\"b\":1}", "{\"a\":2,\"c\":1}", "{\"a\":2,\"b\":1,\"c\":1}");
    check_both(f, cmb_merge_json, "[]", "{\"a\":1}", "{\"b\":1}", "{\"a\":1,\"b\":1}");
}

static void json_changed_on_both_sides_in_different_ways_conflicts(void **state)
{
    fixture *f = *state;
    have_json(f);
    check_both(f, cmb_merge_json, "{\"a\":1}", "{\"a\":2}", "{\"a\":3}", CONFLICT);
    check_both(f, cmb_merge_json, "{\"a\":[1]}", "{\"a\":[1,2]}", "{\"a\":[1,3]}", CONFLICT);
    check_both(f, cmb_merge_json, "{\"a\":1}", "{}", "{\"a\":2}", CONFLICT);
    check_both(f, cmb_merge_json, "{\"a\":{}}", "{}", "{\"a\":{\"x\":1}}", CONFLICT);
    check_both(f, cmb_merge_json, "{}", ABSENT, "{\"a\":1}", CONFLICT);
    check_both(f, cmb_merge_json, "{}", "{\"a\":1}", "{\"a\":\"1\"}", CONFLICT);
    check_both(f, cmb_merge_json, "1", "2", "3", CONFLICT);
    check_both(f, cmb_merge_json, "{\"a\":{\"x\":1}}", "{\"a\":5}", "{\"a\":{\"x\":2}}", CONFLICT);
}

static void json_that_only_one_side_changed_stays_byte_for_byte(void **state)
{
    fixture *f = *state;
    have_json(f);
    check_both(f, cmb_merge_json, "{\"a\":1}", "{ \"a\" : 1 }", "{\"b\" : 2.50,\n \"a\":1}",
               "{\"b\" : 2.50,\n \"a\":1}");
    check_both(f, cmb_merge_json, "{\"a\":1,\"b\":1}", "{ \"b\":1,\"a\":1}", "{\"b\":1, \"a\":1}",
               "{ \"b\":1,\"a\":1}");
    check_both(f, cmb_merge_json, "{}", "{\"a\":1,\"z\":\"\\u0041\"}", "{\"a\":1}", "{\"a\":1,\"z\":\"\\u0041\"}");
}

static void json_numbers_keep_every_digit(void **state)
{
    fixture *f = *state;
    have_json(f);
    check_both(f, cmb_merge_json, "{\"n\":0.1}", "{\"n\":0.1,\"a\":123456789012345678901234567890}",
               "{\"n\":0.1,\"b\":-1.50e-7}", "{\"a\":123456789012345678901234567890,\"b\":-1.50e-7,\"n\":0.1}");
    check_both(f, cmb_merge_json, "{\"n\":1}", "{\"n\":1.0}", "{\"n\":1,\"b\":-0}", "{\"b\":-0,\"n\":1.0}");
    check_both(f, cmb_merge_json, "{\"n\":1}", "{\"n\":1.0}", "{\"n\":1e0}", CONFLICT);
    check_both(f, cmb_merge_json, "{}", "{\"a\":[1,-2,[3.0]]}", "{\"b\":1E+5}", "{\"a\":[1,-2,[3.0]],\"b\":1E+5}");
}

static void json_strings_that_look_like_marks_are_strings(void **state)
{
    fixture *f = *state;
    have_json(f);
    check_both(f, cmb_merge_json, "{}", "{\"#1\":\"#2\"}", "{\"$\":\"$\\\"x\\\\\",\"\":\"\"}",
               "{\"\":\"\",\"#1\":\"#2\",\"$\":\"$\\\"x\\\\\"}");
    check_both(f, cmb_merge_json, "{\"a\":1}", "{\"a\":\"1\",\"b\":0}", "{\"a\":1,\"c\":0}",
               "{\"a\":\"1\",\"b\":0,\"c\":0}");
    check_both(f, cmb_merge_json, "{}", "{\"\xc3\xa4\":1}", "{\"b\":\"\\u00e4\\n\"}",
               "{\"b\":\"\xc3\xa4\\n\",\"\xc3\xa4\":1}");
}

static void malformed_json_conflicts(void **state)
{
    fixture *f = *state;
    static const char *const bad[] = {"",
                                      "{",
                                      "{\"a\":1,}",
                                      "{\"a\":01}",
                                      "{\"a\":1.}",
                                      "{\"a\":.5}",
                                      "{\"a\":-}",
                                      "{\"a\":1e}",
                                      "{\"a\":+1}",
                                      "{\"a\":1,\"a\":2}",
                                      "{\"a\":\"\\u0000\"}",
                                      "{a:1}",
                                      "{\"a\":\"\xff\"}",
                                      "{\"a\":1}}",
                                      "\"a",
                                      "{1:2}",
                                      "{1 \n: 2}",
                                      "{\"a\":1 2}",
                                      "{\"a\":tru}",
                                      "{\"a\":\"\\x\"}",
                                      "{\"a\":\"\t\"}",
                                      "{\"a\":\"\\",
                                      "{\"a\":1-2}",
                                      "NaN"};
    have_json(f);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        check_both(f, cmb_merge_json, "{}", bad[i], "{\"b\":1}", CONFLICT);
        check(f, cmb_merge_json, bad[i], "{\"a\":1}", "{\"b\":1}", CONFLICT);
    }
    char deep[6001];
    memset(deep, '[', 3000);
    memset(deep + 3000, ']', 3000);
    deep[6000] = 0;
    check_both(f, cmb_merge_json, "{}", deep, "{\"b\":1}", CONFLICT);
}

static void deep_json_is_merged(void **state)
{
    fixture *f = *state;
    char texts[4][16384];
    have_json(f);
    for (int t = 0; t < 4; t++) {
        char *p = texts[t];
        for (int i = 0; i < 1000; i++)
            p += sprintf(p, "{\"d\":");
        p += sprintf(p, "{%s%s%s}", t & 1 ? "\"a\":1" : "", t == 3 ? "," : "", t & 2 ? "\"b\":2" : "");
        for (int i = 0; i < 1000; i++)
            *p++ = '}';
        *p = 0;
    }
    check_both(f, cmb_merge_json, texts[0], texts[1], texts[2], texts[3]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(ours_and_theirs_take_a_side_also_if_it_is_a_deletion, setup, teardown),
        cmocka_unit_test_setup_teardown(a_union_has_the_lines_of_both_in_the_order_of_the_ancestor, setup, teardown),
        cmocka_unit_test_setup_teardown(a_union_has_what_both_put_in_once, setup, teardown),
        cmocka_unit_test_setup_teardown(a_union_ends_its_last_line_as_either_side_does, setup, teardown),
        cmocka_unit_test_setup_teardown(a_union_conflicts_where_one_side_deleted, setup, teardown),
        cmocka_unit_test_setup_teardown(unions_of_random_texts_lose_no_line_and_may_be_swapped, setup, teardown),
        cmocka_unit_test_setup_teardown(a_long_text_of_few_different_lines_is_merged_in_time, setup, teardown),
        cmocka_unit_test(counters_count_up_and_down_in_a_slot_per_replica),
        cmocka_unit_test(counters_refuse_what_is_none_and_what_does_not_fit),
        cmocka_unit_test_setup_teardown(counters_take_the_larger_of_each_slot, setup, teardown),
        cmocka_unit_test_setup_teardown(json_objects_are_merged_member_by_member_at_any_depth, setup, teardown),
        cmocka_unit_test_setup_teardown(json_changed_on_both_sides_in_different_ways_conflicts, setup, teardown),
        cmocka_unit_test_setup_teardown(json_that_only_one_side_changed_stays_byte_for_byte, setup, teardown),
        cmocka_unit_test_setup_teardown(json_numbers_keep_every_digit, setup, teardown),
        cmocka_unit_test_setup_teardown(json_strings_that_look_like_marks_are_strings, setup, teardown),
        cmocka_unit_test_setup_teardown(malformed_json_conflicts, setup, teardown),
        cmocka_unit_test_setup_teardown(deep_json_is_merged, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
