/* SPDX-License-Identifier: ISC */
#include <cambium/store.h>

#include "io_test.h"

/* Known answers of XXH3 in its canonical, big-endian form. */
static void names_are_canonical_xxh3_128(void **state)
{
    char hex[2 * CMB_NAME_MAX + 1];
    cmb_name name;
    cmb_hash_name(CMB_HASH_XXH3, "", 0, &name);
    cmb_name_hex(&name, hex);
    assert_string_equal(hex, "99aa06d3014798d86001c324468d497f");
    assert_int_equal(name.size, cmb_name_size(CMB_HASH_XXH3));
}

/* Known answers of FIPS 180-4. */
static void names_are_sha256_where_the_build_has_it(void **state)
{
    char hex[2 * CMB_NAME_MAX + 1];
    cmb_name name;
    if (cmb_hash_check(CMB_HASH_SHA256)) {
        print_message("built without the feature sha256\n");
        skip();
    }
    cmb_hash_name(CMB_HASH_SHA256, "abc", 3, &name);
    cmb_name_hex(&name, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_int_equal(name.size, cmb_name_size(CMB_HASH_SHA256));
    cmb_hash_name(CMB_HASH_SHA256, "", 0, &name);
    cmb_name_hex(&name, hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

static void a_hash_that_is_not_there_is_refused_by_its_name(void **state)
{
    assert_int_equal(cmb_hash_check(CMB_HASH_XXH3), 0);
    assert_int_equal(cmb_hash_check(77), CMB_EVERSION);
    assert_non_null(strstr(cmb_error_detail(), "77"));
    int error = cmb_hash_check(CMB_HASH_SHA256);
    assert_true(error == 0 || error == CMB_ENOTSUP);
    assert_true(error == 0 || strstr(cmb_error_detail(), "feature sha256"));
    assert_string_equal(cmb_hash_kind_name(CMB_HASH_XXH3), "xxh3");
    assert_string_equal(cmb_hash_kind_name(CMB_HASH_SHA256), "sha256");
    assert_null(cmb_hash_kind_name((cmb_hash_kind)3));
}

static void hash64_is_xxh3_64(void **state)
{
    assert_true(cmb_hash64("", 0, 0) == 0x2d06800538d394c2u);
    assert_true(cmb_hash64("", 0, 1) != 0x2d06800538d394c2u);
}

static void unused_bytes_of_a_name_are_zero(void **state)
{
    cmb_name name;
    memset(&name, 0xEE, sizeof name);
    cmb_hash_name(CMB_HASH_XXH3, "ring", 4, &name);
    for (unsigned i = name.size; i < CMB_NAME_MAX; i++)
        assert_int_equal(name.bytes[i], 0);
}

static void equal_content_has_equal_names_and_other_content_has_not(void **state)
{
    cmb_name a, b, c, none = {0};
    cmb_hash_name(CMB_HASH_XXH3, "content", 7, &a);
    cmb_hash_name(CMB_HASH_XXH3, "content", 7, &b);
    cmb_hash_name(CMB_HASH_XXH3, "contenT", 7, &c);
    assert_true(cmb_name_equal(&a, &b));
    assert_false(cmb_name_equal(&a, &c));
    assert_false(cmb_name_equal(&a, &none));
}

static void no_name_has_empty_hexadecimal(void **state)
{
    char hex[2 * CMB_NAME_MAX + 1] = "x";
    cmb_name_hex(&(cmb_name){0}, hex);
    assert_string_equal(hex, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_canonical_xxh3_128),
        cmocka_unit_test(names_are_sha256_where_the_build_has_it),
        cmocka_unit_test(a_hash_that_is_not_there_is_refused_by_its_name),
        cmocka_unit_test(hash64_is_xxh3_64),
        cmocka_unit_test(unused_bytes_of_a_name_are_zero),
        cmocka_unit_test(equal_content_has_equal_names_and_other_content_has_not),
        cmocka_unit_test(no_name_has_empty_hexadecimal),
    };
    return cmocka_run_group_tests_name("hash", tests, NULL, NULL);
}
