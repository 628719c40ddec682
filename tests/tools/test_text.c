/* SPDX-License-Identifier: ISC */
#include "tools/text.h"

#include "tools/json.h"
#include "tool_test.h"

static void sizes_are_shown_in_powers_of_1024(void **state)
{
    text_buf t;
    (void)state;
    assert_string_equal(text_size(&t, 0), "0 B");
    assert_string_equal(text_size(&t, 1023), "1023 B");
    assert_string_equal(text_size(&t, 1024), "1.0 KiB");
    assert_string_equal(text_size(&t, 1536), "1.5 KiB");
    assert_string_equal(text_size(&t, (1u << 20) - 1), "1.0 MiB");
    assert_string_equal(text_size(&t, UINT64_MAX), "16.0 EiB");
    assert_string_equal(text_rate(&t, 3u << 20, 2000000000), "1.5 MiB/s");
    assert_string_equal(text_rate(&t, 10, 0), "9.3 GiB/s");
}

static void counts_have_their_thousands_apart(void **state)
{
    text_buf t;
    (void)state;
    assert_string_equal(text_count(&t, 0), "0");
    assert_string_equal(text_count(&t, 999), "999");
    assert_string_equal(text_count(&t, 1000), "1,000");
    assert_string_equal(text_count(&t, UINT64_MAX), "18,446,744,073,709,551,615");
}

static void times_are_utc_in_iso_8601(void **state)
{
    text_buf t;
    (void)state;
    assert_string_equal(text_time(&t, 0), "1970-01-01T00:00:00Z");
    assert_string_equal(text_time(&t, -1), "1969-12-31T23:59:59Z");
    assert_string_equal(text_time(&t, INT64_C(1700000000123456)), "2023-11-14T22:13:20Z");
    assert_non_null(text_time(&t, INT64_MAX));
    assert_non_null(text_time(&t, INT64_MIN));
}

static void sizes_are_read_with_their_suffix(void **state)
{
    uint64_t v = 7;
    (void)state;
    assert_true(text_parse_size("512", &v) && v == 512);
    assert_true(text_parse_size("4K", &v) && v == 4096);
    assert_true(text_parse_size("64m", &v) && v == 64u << 20);
    assert_true(text_parse_size("2GiB", &v) && v == UINT64_C(2) << 30);
    assert_true(text_parse_size("16777215T", &v) && v == UINT64_C(16777215) << 40);
    v = 7;
    static const char *const bad[] = {"",    "K", "4X", "4KB", "-1", " 1", "1 ", "16777216T", "18446744073709551616",
                                      "0x10"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(text_parse_size(bad[i], &v));
        assert_int_equal(v, 7);
    }
}

static void addresses_are_decimal_or_hexadecimal(void **state)
{
    uint64_t v = 0;
    (void)state;
    assert_true(text_parse_address("4198512", &v) && v == 4198512);
    assert_true(text_parse_address("0x401070", &v) && v == 0x401070);
    assert_false(text_parse_address("0x", &v));
    assert_false(text_parse_address("401g", &v));
}

static void hexadecimal_keys_have_an_even_number_of_digits(void **state)
{
    uint8_t b[4];
    size_t n;
    (void)state;
    assert_true(text_parse_hex("00Ff7a", b, sizeof(b), &n));
    assert_int_equal(n, 3);
    assert_memory_equal(b, "\x00\xff\x7a", 3);
    assert_false(text_parse_hex("0", b, sizeof(b), &n));
    assert_false(text_parse_hex("0g", b, sizeof(b), &n));
    assert_false(text_parse_hex("0011223344", b, sizeof(b), &n));
}

static void utf8_is_told_from_other_bytes(void **state)
{
    static const char *const good[] = {"a", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x8c\xb3", "\xf4\x8f\xbf\xbf"};
    static const char *const bad[] = {"\x80",         "\xc0\xaf",         "\xc3(",           "\xe0\x80\x80",
                                      "\xed\xa0\x80", "\xf5\x80\x80\x80", "\xf4\x90\x80\x80"};
    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(text_utf8((const uint8_t *)good[i], strlen(good[i])), (int)strlen(good[i]));
        if (strlen(good[i]) > 1)
            assert_int_equal(text_utf8((const uint8_t *)good[i], strlen(good[i]) - 1), -1);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(text_utf8((const uint8_t *)bad[i], strlen(bad[i])), 0);
}

static void a_field_escapes_what_would_break_a_line(void **state)
{
    static const char bytes[] = "a\tb\nc\\d\re\x00"
                                "f\x7f\xc3\xa9\xff";
    sink s;
    (void)state;
    sink_open(&s);
    text_print_field(s.out, bytes, sizeof(bytes) - 1);
    sink_expect(&s, "a\\tb\\nc\\\\d\\x0de\\x00f\\x7f\xc3\xa9\\xff");
}

static void a_field_in_pieces_is_the_same_as_in_one(void **state)
{
    static const char bytes[] = "x\xf0\x9f\x8c\xb3y\xe2\x82(\xc3\xa9\xf0\x9f";
    static const char expected[] = "x\xf0\x9f\x8c\xb3y\\xe2\\x82(\xc3\xa9\\xf0\\x9f";
    (void)state;
    for (size_t step = 1; step < sizeof(bytes); step++) {
        text_field f = {0};
        sink s;
        sink_open(&s);
        for (size_t i = 0; i < sizeof(bytes) - 1; i += step)
            text_field_add(&f, s.out, bytes + i, sizeof(bytes) - 1 - i < step ? sizeof(bytes) - 1 - i : step);
        text_field_end(&f, s.out);
        sink_expect(&s, expected);
    }
}

static void a_field_in_memory_is_cut_where_room_ends(void **state)
{
    char small[12];
    (void)state;
    assert_string_equal(text_field_of(small, sizeof(small), "short", 5), "short");
    assert_string_equal(text_field_of(small, sizeof(small), "a long string", 13), "a long s...");
    assert_string_equal(text_field_of(small, sizeof(small), "\n\n\n\n\n\n\n", 7), "\\n\\n\\n\\n...");
}

static void json_escapes_text_and_gives_bytes_as_base64(void **state)
{
    json j = {0};
    sink s;
    (void)state;
    sink_open(&s);
    j.out = s.out;
    json_put_object(&j, NULL);
    json_put_string(&j, "text", "a\"b\\c\nd\te\x01\xc3\xa9");
    json_put_bytes(&j, "one", "\xff", 1);
    json_put_bytes(&j, "two", "\xff\x00", 2);
    json_put_bytes(&j, "three", "\xff\x00\x01", 3);
    json_put_array(&j, "list");
    json_put_u64(&j, NULL, UINT64_MAX);
    json_put_bool(&j, NULL, true);
    json_put_null(&j, NULL);
    json_put_array_end(&j);
    json_put_object(&j, "empty");
    json_put_object_end(&j);
    json_put_real(&j, "real", 0.5);
    json_put_object_end(&j);
    json_end_line(&j);
    sink_expect(&s, "{\"text\": \"a\\\"b\\\\c\\nd\\te\\u0001\xc3\xa9\", \"one\": {\"base64\": \"/w==\"}, "
                    "\"two\": {\"base64\": \"/wA=\"}, \"three\": {\"base64\": \"/wAB\"}, "
                    "\"list\": [18446744073709551615, true, null], \"empty\": {}, \"real\": 0.500}\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_shown_in_powers_of_1024),
        cmocka_unit_test(counts_have_their_thousands_apart),
        cmocka_unit_test(times_are_utc_in_iso_8601),
        cmocka_unit_test(sizes_are_read_with_their_suffix),
        cmocka_unit_test(addresses_are_decimal_or_hexadecimal),
        cmocka_unit_test(hexadecimal_keys_have_an_even_number_of_digits),
        cmocka_unit_test(utf8_is_told_from_other_bytes),
        cmocka_unit_test(a_field_escapes_what_would_break_a_line),
        cmocka_unit_test(a_field_in_pieces_is_the_same_as_in_one),
        cmocka_unit_test(a_field_in_memory_is_cut_where_room_ends),
        cmocka_unit_test(json_escapes_text_and_gives_bytes_as_base64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
