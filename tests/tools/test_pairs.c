/* SPDX-License-Identifier: ISC */
/* The readers and writers of pairs: dbdump.h and tsv.h. */
#include "tools/dbdump.h"
#include "tools/text.h"
#include "tools/tsv.h"
#include "tool_test.h"

#include <cambium/error.h>

#define HEADER       "VERSION=3\nformat=bytevalue\ntype=btree\nHEADER=END\n"
#define PRINT_HEADER "VERSION=3\nformat=print\ntype=btree\nHEADER=END\n"

static uint8_t key[CMB_KEY_MAX];

/* Reads all pairs into "key=value;" with escapes; values in pieces of `piece` bytes. Returns the error that ended it.
 */
static int drain(pairs *p, size_t piece, char *out, size_t room)
{
    size_t used = 0, n, key_size;
    uint8_t value[64];
    out[0] = '\0';
    for (;;) {
        int rc = p->key(p, key, &key_size);
        if (rc <= 0)
            return rc;
        used += strlen(text_field_of(out + used, room - used, key, key_size));
        out[used++] = '=';
        do {
            rc = p->value(p, value, piece, &n);
            if (rc)
                return rc;
            used += strlen(text_field_of(out + used, room - used, value, n));
        } while (n == piece);
        out[used++] = ';';
        out[used] = '\0';
    }
}

static void expect_dump(const char *input_text, const char *expected)
{
    for (size_t piece = 1; piece <= 64; piece = 2 * piece + 1) {
        char out[1000];
        dbdump_reader r;
        input *in = input_of(input_text, strlen(input_text));
        assert_int_equal(dbdump_open(&r, in), 0);
        assert_int_equal(drain(&r.pairs, piece, out, sizeof(out)), 0);
        assert_string_equal(out, expected);
        input_close(in);
    }
}

static void expect_dump_error(const char *input_text, const char *message)
{
    char out[1000];
    dbdump_reader r;
    input *in = input_of(input_text, strlen(input_text));
    int rc = dbdump_open(&r, in);
    if (rc == 0)
        rc = drain(&r.pairs, 64, out, sizeof(out));
    assert_int_equal(rc, CMB_ESYNTAX);
    assert_string_equal(cmb_error_detail(), message);
    input_close(in);
}

static void expect_tsv(const char *input_text, const char *expected)
{
    for (size_t piece = 1; piece <= 64; piece = 2 * piece + 1) {
        char out[1000];
        tsv_reader r;
        input *in = input_of(input_text, strlen(input_text));
        tsv_open(&r, in);
        assert_int_equal(drain(&r.pairs, piece, out, sizeof(out)), 0);
        assert_string_equal(out, expected);
        input_close(in);
    }
}

static void expect_tsv_error(const char *input_text, const char *message)
{
    char out[1000];
    tsv_reader r;
    input *in = input_of(input_text, strlen(input_text));
    tsv_open(&r, in);
    assert_int_equal(drain(&r.pairs, 64, out, sizeof(out)), CMB_ESYNTAX);
    assert_string_equal(cmb_error_detail(), message);
    input_close(in);
}

static void dumps_in_bytevalue_form_are_read(void **state)
{
    (void)state;
    expect_dump(HEADER "DATA=END\n", "");
    expect_dump(HEADER " 61\n 6231\n 62\n \n 00ff\n 0A\nDATA=END\n", "a=b1;b=;\\x00\\xff=\\n;");
    expect_dump(HEADER "DATA=END\n\n\n", "");
}

static void dumps_in_print_form_are_read(void **state)
{
    (void)state;
    expect_dump(PRINT_HEADER " a b\n x\\\\y\\00\\ffz\n  \n \\41\nDATA=END\n", "a b=x\\\\y\\x00\\xffz; =A;");
}

static void headers_of_lmdb_and_berkeley_db_are_accepted(void **state)
{
    (void)state;
    expect_dump("VERSION=3\nformat=bytevalue\ndatabase=sub\ntype=btree\nmapsize=1048576\nmaxreaders=126\n"
                "db_pagesize=4096\nduplicates=0\nHEADER=END\n 61\n 62\nDATA=END\n",
                "a=b;");
    expect_dump("VERSION=3\nformat=print\ntype=hash\nh_nelem=3\nchksum=1\nkeys=1\nHEADER=END\n 61\n 62\nDATA=END\n",
                "61=62;");
    expect_dump("VERSION=3\ntype=btree\nHEADER=END\n 61\n 62\nDATA=END\n", "a=b;");
}

static void malformed_dumps_name_the_line_and_what_was_expected(void **state)
{
    (void)state;
    expect_dump_error("", "line 1: expected VERSION=3, found the end: the input is empty");
    expect_dump_error("hello\n", "line 1: expected VERSION=3, found \"hello\"");
    expect_dump_error("VERSION=2\n", "line 1: expected VERSION=3, found \"VERSION=2\"");
    expect_dump_error("VERSION=3\nformat=xml\n",
                      "line 2: expected format=bytevalue or format=print, found \"format=xml\"");
    expect_dump_error("VERSION=3\ntype=queue\n",
                      "line 2: expected type=btree or type=hash (keys and values), found \"type=queue\"");
    expect_dump_error("VERSION=3\nnonsense\n",
                      "line 2: expected a header line \"name=value\" or HEADER=END, found \"nonsense\"");
    expect_dump_error("VERSION=3\n", "line 2: expected HEADER=END, found the end");
    expect_dump_error(HEADER " 61\n 6\nDATA=END\n",
                      "line 6: expected an even number of hexadecimal digits, found end of line");
    expect_dump_error(HEADER " 61\n xx\nDATA=END\n", "line 6: expected hexadecimal digits, found 'x'");
    expect_dump_error(HEADER " 61\nDATA=END\n",
                      "line 6: expected the value of the key in line 5, which begins with a blank, found 'D'");
    expect_dump_error(HEADER "61\n",
                      "line 5: expected a line of data, which begins with a blank, or DATA=END, found \"61\"");
    expect_dump_error(HEADER " 61\n 62\n",
                      "line 7: expected a line of data or DATA=END, found the end: the input is cut short");
    expect_dump_error(HEADER " 61\n 62",
                      "line 6: expected the end of the line and DATA=END, found the end: the input is cut short");
    expect_dump_error(HEADER " \n 62\nDATA=END\n", "line 5: an empty key");
    expect_dump_error(PRINT_HEADER " a\n \\4\nDATA=END\n",
                      "line 6: expected two hexadecimal digits or a backslash after a backslash, found end of line");
    expect_dump_error(PRINT_HEADER " a\n \\n\nDATA=END\n",
                      "line 6: expected two hexadecimal digits or a backslash after a backslash, found 'n'");
    expect_dump_error(HEADER "DATA=END\nmore\n", "line 6: expected the end after DATA=END, found \"more\"");
}

static void several_databases_or_values_a_key_are_refused(void **state)
{
    (void)state;
    expect_dump_error(HEADER " 61\n 62\nDATA=END\nVERSION=3\n",
                      "line 8: a second database begins here: split the input, one database a load");
    expect_dump_error("VERSION=3\ndupsort=1\nHEADER=END\n",
                      "line 2: dupsort=1: this database has several values a key, here a key has one");
}

static void a_key_in_a_dump_has_at_most_its_limit_of_bytes(void **state)
{
    static char text[2 * CMB_KEY_MAX + 200];
    static char out[CMB_KEY_MAX + 100];
    (void)state;
    for (unsigned more = 0; more <= 1; more++) {
        size_t at = (size_t)snprintf(text, sizeof(text), PRINT_HEADER " ");
        memset(text + at, 'k', CMB_KEY_MAX + more);
        snprintf(text + at + CMB_KEY_MAX + more, 100, "\n v\nDATA=END\n");
        dbdump_reader r;
        input *in = input_of(text, strlen(text));
        assert_int_equal(dbdump_open(&r, in), 0);
        int rc = drain(&r.pairs, 64, out, sizeof(out));
        assert_int_equal(rc, more ? CMB_ESYNTAX : 0);
        if (more)
            assert_string_equal(cmb_error_detail(), "line 5: a key of more than 16384 bytes");
        input_close(in);
    }
}

static void what_is_written_in_either_form_reads_back(void **state)
{
    uint8_t all[256];
    (void)state;
    for (unsigned i = 0; i < 256; i++)
        all[i] = (uint8_t)i;
    for (int format = DBDUMP_BYTEVALUE; format <= DBDUMP_PRINT; format++) {
        dbdump_reader r;
        size_t n;
        uint8_t value[300];
        sink s;
        sink_open(&s);
        dbdump_write_header(s.out, (dbdump_format)format, 1 << 20);
        for (int line = 0; line < 2; line++) {
            dbdump_write_begin(s.out);
            dbdump_write_bytes(s.out, (dbdump_format)format, all, sizeof(all));
            dbdump_write_end(s.out);
        }
        dbdump_write_footer(s.out);
        fclose(s.out);
        input *in = input_of(s.data, s.size);
        free(s.data);
        assert_int_equal(dbdump_open(&r, in), 0);
        assert_int_equal(r.pairs.key(&r.pairs, key, &n), 1);
        assert_int_equal(n, sizeof(all));
        assert_memory_equal(key, all, n);
        assert_int_equal(r.pairs.value(&r.pairs, value, sizeof(value), &n), 0);
        assert_int_equal(n, sizeof(all));
        assert_memory_equal(value, all, n);
        assert_int_equal(r.pairs.key(&r.pairs, key, &n), 0);
        input_close(in);
    }
}

static void print_form_escapes_as_mdb_dump_does(void **state)
{
    sink s;
    (void)state;
    sink_open(&s);
    dbdump_write_begin(s.out);
    dbdump_write_bytes(s.out, DBDUMP_PRINT, "a~ \\\x00\x7f\xe9\n", 8);
    dbdump_write_end(s.out);
    sink_expect(&s, " a~ \\5c\\00\\7f\\e9\\0a\n");
}

static void lines_of_text_are_read_with_their_escapes(void **state)
{
    (void)state;
    expect_tsv("", "");
    expect_tsv("a\tb\nc\td e\n", "a=b;c=d e;");
    expect_tsv("a\tb", "a=b;");
    expect_tsv("a\t\n", "a=;");
    expect_tsv("a\tb\tc\n", "a=b\\tc;");
    expect_tsv("\\t\\n\\\\\\x41\\xfF\t\\x00\n", "\\t\\n\\\\A\\xff=\\x00;");
}

static void malformed_lines_of_text_are_named(void **state)
{
    (void)state;
    expect_tsv_error("a\tb\nc\n", "line 2: expected a tab between key and value, found end of line");
    expect_tsv_error("a", "line 1: expected a tab between key and value, found the end");
    expect_tsv_error("\tb\n", "line 1: an empty key");
    expect_tsv_error("a\t\\q\n", "line 1: expected t, n, x or a backslash after a backslash, found 'q'");
    expect_tsv_error("a\t\\x4\n", "line 1: expected two hexadecimal digits after \\x, found end of line");
    expect_tsv_error("a\tb\n\n", "line 2: expected a tab between key and value, found end of line");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dumps_in_bytevalue_form_are_read),
        cmocka_unit_test(dumps_in_print_form_are_read),
        cmocka_unit_test(headers_of_lmdb_and_berkeley_db_are_accepted),
        cmocka_unit_test(malformed_dumps_name_the_line_and_what_was_expected),
        cmocka_unit_test(several_databases_or_values_a_key_are_refused),
        cmocka_unit_test(a_key_in_a_dump_has_at_most_its_limit_of_bytes),
        cmocka_unit_test(what_is_written_in_either_form_reads_back),
        cmocka_unit_test(print_form_escapes_as_mdb_dump_does),
        cmocka_unit_test(lines_of_text_are_read_with_their_escapes),
        cmocka_unit_test(malformed_lines_of_text_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
