/* SPDX-License-Identifier: ISC */
/* docs/format.md is right: who has read nothing else can read an image. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "reader.h"

static const char *directory;

static void must(int error)
{
    if (error)
        fail_msg("not as docs/format.md says: %s", cmb_error_detail());
}

/* The caller frees both. */
static reader *open_golden(const golden_kind *kind, bool older, golden_image *out_image)
{
    golden_text text;
    reader *r = malloc(sizeof *r);
    assert_non_null(r);
    must(golden_file_read(directory, kind->name, "image", &text));
    must(golden_image_parse(&text, out_image));
    golden_text_free(&text);
    must(reader_open(r, out_image, older));
    return r;
}

static void expect_listing(const golden_kind *kind, const reader *r)
{
    golden_text expected, found;
    must(reader_listing(r, &found));
    must(golden_file_read(directory, kind->name, "listing", &expected));
    size_t line = golden_text_differs(&expected, &found);
    if (line)
        fail_msg("%s: line %zu of the listing is another", kind->name, line);
    golden_text_free(&expected);
    golden_text_free(&found);
}

static void a_reader_written_from_the_document_finds_every_entry(void **state)
{
    for (unsigned i = 0; i < GOLDEN_KINDS; i++) {
        golden_image image;
        reader *r = open_golden(&golden_kinds[i], false, &image);
        assert_true(r->frames > 2);
        assert_true(r->edit_count >= 2);
        expect_listing(&golden_kinds[i], r);
        golden_image_free(&image);
        free(r);
    }
}

static void the_walk_from_the_generation_before_leads_to_the_same_place(void **state)
{
    for (unsigned i = 0; i < GOLDEN_KINDS; i++) {
        golden_image image;
        reader *r = open_golden(&golden_kinds[i], true, &image);
        assert_true(r->epochs > 0);
        assert_true(r->streams > 0);
        expect_listing(&golden_kinds[i], r);
        golden_image_free(&image);
        free(r);
    }
}

static void a_flipped_bit_is_not_as_the_document_says(void **state)
{
    golden_image image;
    reader *r = open_golden(&golden_kinds[0], false, &image);
    golden_text listing;
    uint64_t at = (uint64_t)(r->edits[0].data - image.bytes) + 17;
    image.bytes[at] ^= 4;
    assert_int_equal(reader_open(r, &image, false), CMB_ECORRUPT);
    image.bytes[at] ^= 4;
    must(reader_open(r, &image, false));
    must(reader_listing(r, &listing));
    golden_text_free(&listing);
    golden_image_free(&image);
    free(r);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reader_written_from_the_document_finds_every_entry),
        cmocka_unit_test(the_walk_from_the_generation_before_leads_to_the_same_place),
        cmocka_unit_test(a_flipped_bit_is_not_as_the_document_says),
    };
    if (argc != 2) {
        fprintf(stderr, "usage: test_format DIRECTORY\n");
        return 2;
    }
    directory = argv[1];
    return cmocka_run_group_tests_name("golden/format", tests, NULL, NULL);
}
