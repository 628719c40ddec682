/* SPDX-License-Identifier: ISC */
#include "io_test.h"

static const struct {
    const char *name;
    int code, number;
    const char *text;
} errors[] = {
#define ROW(name, number, text) {"CMB_" #name, CMB_##name, number, text},
    CMB_ERROR_LIST(ROW)
#undef ROW
};

static void error_numbers_and_names_are_unique(void **state)
{
    for (size_t i = 0; i < CMB_COUNTOF(errors); i++) {
        assert_true(errors[i].number > 0);
        assert_int_equal(errors[i].code, -errors[i].number);
        for (size_t j = 0; j < i; j++) {
            assert_int_not_equal(errors[i].number, errors[j].number);
            assert_string_not_equal(errors[i].name, errors[j].name);
            assert_string_not_equal(errors[i].text, errors[j].text);
        }
    }
}

static void every_error_is_known_by_text_and_name(void **state)
{
    for (size_t i = 0; i < CMB_COUNTOF(errors); i++) {
        assert_string_equal(cmb_strerror(errors[i].code), errors[i].text);
        assert_string_equal(cmb_error_name(errors[i].code), errors[i].name);
    }
    assert_string_equal(cmb_error_name(CMB_OK), "CMB_OK");
    assert_string_equal(cmb_strerror(CMB_OK), "success");
}

static void unknown_codes_have_a_text_and_a_name_too(void **state)
{
    const int codes[] = {1, 7, -1000, INT32_MIN, INT32_MAX};
    for (size_t i = 0; i < CMB_COUNTOF(codes); i++) {
        assert_string_equal(cmb_strerror(codes[i]), "unknown error");
        assert_string_equal(cmb_error_name(codes[i]), "CMB_E?");
    }
}

static void fail_returns_its_error_and_sets_the_detail(void **state)
{
    assert_int_equal(cmb_fail(CMB_EIO, "disk %d", 7), CMB_EIO);
    assert_string_equal(cmb_error_detail(), "disk 7");
    assert_int_equal(cmb_fail_in(CMB_EIO, "image %s", "a"), CMB_EIO);
    assert_string_equal(cmb_error_detail(), "image a: disk 7");
}

static void a_detail_may_quote_the_detail_before(void **state)
{
    cmb_fail(CMB_EIO, "first");
    cmb_fail(CMB_EIO, "second after %s", cmb_error_detail());
    assert_string_equal(cmb_error_detail(), "second after first");
    cmb_fail_in(CMB_EIO, "third around %s", cmb_error_detail());
    assert_string_equal(cmb_error_detail(), "third around second after first: second after first");
}

static void a_detail_is_one_line_of_at_most_511_bytes(void **state)
{
    char name[2000];
    memset(name, 'x', sizeof name);
    name[10] = '\n';
    name[11] = '\r';
    name[sizeof name - 1] = 0;
    cmb_fail(CMB_EIO, "%s", name);
    assert_int_equal(strlen(cmb_error_detail()), 511);
    assert_null(strpbrk(cmb_error_detail(), "\n\r"));
    cmb_fail_in(CMB_EIO, "where");
    assert_int_equal(strlen(cmb_error_detail()), 511);
    assert_memory_equal(cmb_error_detail(), "where: xxx", 10);
}

static void read_detail(void *arg)
{
    char *out = arg;
    strcpy(out, cmb_error_detail());
    cmb_fail(CMB_EIO, "of the other thread");
}

static void a_detail_belongs_to_its_thread(void **state)
{
    char seen[512] = "untouched";
    cmb_thread thread;
    cmb_fail(CMB_EIO, "of this thread");
    assert_ok(cmb_thread_start(&thread, read_detail, seen));
    cmb_thread_join(&thread);
    assert_string_equal(seen, "");
    assert_string_equal(cmb_error_detail(), "of this thread");
}

static void an_empty_allocator_means_the_c_library(void **state)
{
    cmb_allocator empty = {0}, a = cmb_allocator_or_default(&empty), b = cmb_allocator_or_default(NULL);
    void *p = cmb_alloc(&a, 100);
    assert_non_null(p);
    assert_int_equal((uintptr_t)p % 16, 0);
    p = cmb_resize(&a, p, 100, 100000);
    assert_non_null(p);
    cmb_release(&b, p, 100000);
    cmb_release(&b, NULL, 5);
}

static void a_given_allocator_is_used_with_matching_sizes(void **state)
{
    io_test_allocator t;
    io_test_allocator_init(&t, UINT64_MAX);
    cmb_allocator a = cmb_allocator_or_default(&t.alloc);
    void *p = cmb_resize(&a, NULL, 0, 10), *empty = cmb_alloc(&a, 0);
    uint8_t *zeros = cmb_zalloc(&a, 64);
    assert_int_equal(t.out, 3);
    for (int i = 0; i < 64; i++)
        assert_int_equal(zeros[i], 0);
    p = cmb_resize(&a, p, 10, 0);
    cmb_release(&a, p, 0);
    cmb_release(&a, empty, 0);
    cmb_release(&a, zeros, 64);
    assert_int_equal(t.out, 0);
    assert_int_equal(t.bytes, 0);
}

static void a_refused_allocation_says_how_much_was_wanted(void **state)
{
    io_test_allocator t;
    io_test_allocator_init(&t, 1);
    void *p = cmb_alloc(&t.alloc, 8);
    memcpy(p, "kept", 5);
    assert_null(cmb_resize(&t.alloc, p, 8, 12345));
    assert_detail_has("12345");
    assert_string_equal(p, "kept");
    cmb_release(&t.alloc, p, 8);
    assert_int_equal(t.bytes, 0);
}

static void integers_are_little_endian_at_any_alignment(void **state)
{
    uint8_t b[16] = {0};
    cmb_put64(b + 1, 0x0102030405060708u);
    assert_int_equal(b[1], 8);
    assert_int_equal(b[8], 1);
    assert_true(cmb_get64(b + 1) == 0x0102030405060708u);
    assert_int_equal(cmb_get32(b + 1), 0x05060708);
    assert_int_equal(cmb_get16(b + 1), 0x0708);
    cmb_put32(b + 3, 0xAABBCCDDu);
    assert_int_equal(b[3], 0xDD);
    cmb_put16(b + 3, 0x1122);
    assert_int_equal(b[3], 0x22);
    assert_int_equal(b[5], 0xBB);
}

static void integers_of_every_width_come_back(void **state)
{
    uint64_t seed = io_test_seed();
    for (int i = 0; i < 2000; i++) {
        uint64_t v = io_test_random(&seed) >> (io_test_random(&seed) % 64);
        unsigned n = cmb_uint_width(v);
        uint8_t b[9] = {0};
        b[n] = 0x5A;
        cmb_put_uint(b, n, v);
        assert_true(cmb_get_uint(b, n) == v);
        assert_int_equal(b[n], 0x5A);
        assert_true(n == 8 || v >> (8 * n) == 0);
        assert_true(n == 1 || v >> (8 * (n - 1)) != 0);
    }
}

static void a_prefix_is_before_what_it_begins(void **state)
{
    assert_true(cmb_compare("ab", 2, "abc", 3) < 0);
    assert_true(cmb_compare("abc", 3, "ab", 2) > 0);
    assert_true(cmb_compare("abc", 3, "abc", 3) == 0);
    assert_true(cmb_compare("\xff", 1, "\x01", 1) > 0);
    assert_true(cmb_compare(NULL, 0, "", 0) == 0);
    assert_true(cmb_compare(NULL, 0, "a", 1) < 0);
}

static void buffers_are_aligned_to_a_block(void **state)
{
    io_test_allocator t;
    io_test_allocator_init(&t, UINT64_MAX);
    const size_t sizes[] = {0, 1, 4096, 100000};
    for (size_t i = 0; i < CMB_COUNTOF(sizes); i++) {
        uint8_t *p = cmb_io_buffer(&t.alloc, sizes[i]);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % CMB_BLOCK, 0);
        memset(p, 1, sizes[i]);
        cmb_io_buffer_release(&t.alloc, p, sizes[i]);
    }
    cmb_io_buffer_release(&t.alloc, NULL, 1);
    assert_int_equal(t.bytes, 0);
    assert_null(cmb_io_buffer(&t.alloc, SIZE_MAX - 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(error_numbers_and_names_are_unique),
        cmocka_unit_test(every_error_is_known_by_text_and_name),
        cmocka_unit_test(unknown_codes_have_a_text_and_a_name_too),
        cmocka_unit_test(fail_returns_its_error_and_sets_the_detail),
        cmocka_unit_test(a_detail_may_quote_the_detail_before),
        cmocka_unit_test(a_detail_is_one_line_of_at_most_511_bytes),
        cmocka_unit_test(a_detail_belongs_to_its_thread),
        cmocka_unit_test(an_empty_allocator_means_the_c_library),
        cmocka_unit_test(a_given_allocator_is_used_with_matching_sizes),
        cmocka_unit_test(a_refused_allocation_says_how_much_was_wanted),
        cmocka_unit_test(integers_are_little_endian_at_any_alignment),
        cmocka_unit_test(integers_of_every_width_come_back),
        cmocka_unit_test(a_prefix_is_before_what_it_begins),
        cmocka_unit_test(buffers_are_aligned_to_a_block),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
