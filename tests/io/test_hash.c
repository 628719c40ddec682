/* SPDX-License-Identifier: ISC */
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
        cmocka_unit_test(hash64_is_xxh3_64),
        cmocka_unit_test(unused_bytes_of_a_name_are_zero),
        cmocka_unit_test(equal_content_has_equal_names_and_other_content_has_not),
        cmocka_unit_test(no_name_has_empty_hexadecimal),
    };
    return cmocka_run_group_tests_name("hash", tests, NULL, NULL);
}
