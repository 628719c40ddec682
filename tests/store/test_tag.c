/* SPDX-License-Identifier: ISC */
/* Annotated tags. */
#include "bed.h"

#include <cambium/inspect.h>

#include "store/tag.h"

static void an_annotated_tag_keeps_who_what_and_why(void **state)
{
    (void)state;
    bed b;
    cmb_tag *tag;
    const cmb_commit_header headers[] = {{"pgp", {"a\0b", 3}}};
    bed_open(&b);
    cmb_rev at = put(b.store, "main", "a", "1", "one");
    must(cmb_tag_annotate(b.store, "v1", "main", &(cmb_tag_info){.tagger = "ada", .message = "first\n", .time = 99, .headers = headers, .header_count = 1}));
    put(b.store, "main", "a", "2", "two");
    for (unsigned again = 0; again < 2; again++) {
        cmb_rev rev = rev_of(b.store, "v1");
        assert_true(same_name(&rev.commit, &at.commit));
        expect(b.store, "v1", "a", "1");
        must(cmb_tag_read(b.store, "v1", 0, &tag));
        assert_true(same_name(&tag->target, &at.commit));
        assert_false(tag->target_is_tag);
        assert_int_equal(tag->time, 99);
        assert_string_equal(tag->name, "v1");
        assert_string_equal(tag->tagger, "ada");
        assert_string_equal(tag->message, "first\n");
        assert_int_equal(tag->header_count, 1);
        assert_string_equal(tag->headers[0].name, "pgp");
        assert_int_equal(tag->headers[0].value.size, 3);
        assert_memory_equal(tag->headers[0].value.data, "a\0b", 3);
        assert_false(same_name(&tag->id, &at.commit));
        cmb_tag_free(tag);
        must_be(cmb_tag_read(b.store, "v1", 1, &tag), CMB_ENOTFOUND);
        bed_reopen(&b);
    }
    must_be(cmb_tag_annotate(b.store, "v1", "main", NULL), CMB_EEXIST);
    must(cmb_tag_annotate(b.store, "v1", "main", &(cmb_tag_info){.flags = CMB_TAG_REPLACE}));
    expect(b.store, "v1", "a", "2");
    must_be(cmb_tag_annotate(b.store, "v2", "main", &(cmb_tag_info){.flags = 64}), CMB_EINVAL);
    must_be(cmb_tag_annotate(b.store, "v2", "nothing", NULL), CMB_ENOTFOUND);
    must_be(cmb_tag_annotate(b.store, "v2", "main", &(cmb_tag_info){.headers = &(cmb_commit_header){"BAD", {0}}, .header_count = 1}), CMB_EINVAL);
    must_be(cmb_tag_read(b.store, "v2", 0, &tag), CMB_ENOTFOUND);
    bed_close(&b);
}

static void tags_of_tags_lead_to_the_commit_and_are_bounded(void **state)
{
    (void)state;
    bed b;
    cmb_tag *tag;
    char name[16], under[16] = "main";
    bed_open(&b);
    cmb_rev at = put(b.store, "main", "a", "1", "one");
    for (unsigned i = 0; i <= CMB_TAG_DEPTH_MAX; i++) {
        snprintf(name, sizeof name, "t%u", i);
        must_be(cmb_tag_annotate(b.store, name, under, NULL), i < CMB_TAG_DEPTH_MAX ? 0 : CMB_ETOOBIG);
        memcpy(under, name, sizeof under);
    }
    bed_reopen(&b);
    cmb_rev rev = rev_of(b.store, "t63");
    assert_true(same_name(&rev.commit, &at.commit));
    for (unsigned depth = 0; depth < CMB_TAG_DEPTH_MAX; depth++) {
        must(cmb_tag_read(b.store, "t63", depth, &tag));
        snprintf(name, sizeof name, "t%u", 63 - depth);
        assert_string_equal(tag->name, name);
        assert_int_equal(tag->target_is_tag, depth < 63);
        cmb_tag_free(tag);
    }
    must_be(cmb_tag_read(b.store, "t63", CMB_TAG_DEPTH_MAX, &tag), CMB_ENOTFOUND);
    must_be(cmb_tag_read(b.store, "t64", 0, &tag), CMB_ENOTFOUND);
    must(cmb_tag_annotate(b.store, "flat", "t63~0", NULL)); /* a step: the commit is meant */
    must(cmb_tag_read(b.store, "flat", 0, &tag));
    assert_true(same_name(&tag->target, &at.commit));
    cmb_tag_free(tag);
    bed_close(&b);
}

static int find_object(void *ctx, const cmb_ref *ref)
{
    *(cmb_name *)ctx = ref->object;
    return 0;
}

static void branches_and_lightweight_tags_from_an_annotated_one(void **state)
{
    (void)state;
    bed b;
    cmb_tag *one, *two;
    cmb_name object;
    bed_open(&b);
    cmb_rev at = put(b.store, "main", "a", "1", "one");
    must(cmb_tag_annotate(b.store, "v1", "main", NULL));
    must(cmb_tag_create(b.store, "same", "v1"));
    must(cmb_tag_read(b.store, "v1", 0, &one));
    must(cmb_tag_read(b.store, "tags/same", 0, &two));
    assert_true(same_name(&one->id, &two->id));
    must(cmb_tag_delete(b.store, "v1"));
    must(cmb_tag_list(b.store, find_object, &object));
    assert_true(same_name(&one->id, &object));
    cmb_tag_free(one);
    cmb_tag_free(two);
    must(cmb_tag_set(b.store, "same", "same~0"));
    must_be(cmb_tag_read(b.store, "same", 0, &one), CMB_ENOTFOUND);
    must(cmb_tag_annotate(b.store, "v2", "main", NULL));
    must(cmb_branch_create(b.store, "side", "v2"));
    cmb_rev rev = put(b.store, "side", "a", "2", "two");
    assert_false(rev.working);
    cmb_commit *c;
    must(cmb_commit_read(b.store, "side", &c));
    assert_true(same_name(&c->parents[0], &at.commit));
    cmb_commit_free(c);
    must(cmb_branch_list(b.store, find_object, &object));
    assert_int_equal(object.size, 0);
    bed_close(&b);
}

static int count_entry(void *ctx, const cmb_reflog_entry *entry)
{
    (void)entry;
    ++*(unsigned *)ctx;
    return 0;
}

static void the_reflog_knows_when_only_the_object_changed(void **state)
{
    (void)state;
    bed b;
    unsigned n = 0;
    bed_open(&b);
    put(b.store, "main", "a", "1", "one");
    must(cmb_tag_create(b.store, "v1", "main"));
    must(cmb_tag_annotate(b.store, "v1", "main", &(cmb_tag_info){.flags = CMB_TAG_REPLACE}));
    must(cmb_tag_set(b.store, "v1", "v1~0"));
    must(cmb_tag_set(b.store, "v1", "v1~0")); /* nothing */
    must(cmb_reflog(b.store, "tags/v1", count_entry, &n));
    assert_int_equal(n, 3);
    bed_close(&b);
}

static void naming_a_working_state_seals_it(void **state)
{
    (void)state;
    bed b;
    bed_open(&b);
    put(b.store, "main", "a", "1", NULL);
    must_be(cmb_tag_annotate(b.store, "v1", "main", &(cmb_tag_info){.message = "m"}), 0);
    cmb_rev main_rev = rev_of(b.store, "main"), tag = rev_of(b.store, "v1");
    assert_false(main_rev.working);
    assert_true(same_name(&main_rev.commit, &tag.commit));
    bed_close(&b);
}

/* ---- out of memory ---- */

typedef struct counter {
    size_t calls, live;
    uint64_t fail_at; /* that call alone; 0: none */
} counter;

static void *counted_resize(void *ctx, void *p, size_t old_size, size_t new_size)
{
    counter *c = ctx;
    c->calls++;
    if (c->calls == c->fail_at)
        return NULL;
    c->live += new_size - (p ? old_size : 0);
    return realloc(p, new_size);
}

static void *counted_alloc(void *ctx, size_t size)
{
    return counted_resize(ctx, NULL, 0, size);
}

static void counted_release(void *ctx, void *p, size_t size)
{
    counter *c = ctx;
    if (p)
        c->live -= size;
    free(p);
}

static void without_memory_there_is_no_tag_and_nothing_is_lost(void **state)
{
    (void)state;
    bed b;
    counter c = {0};
    cmb_tag *tag;
    int error = CMB_ENOMEM;
    memset(&b, 0, sizeof b);
    b.options.alloc = (cmb_allocator){&c, counted_alloc, counted_resize, counted_release};
    bed_open_with(&b, 0, NULL);
    put(b.store, "main", "a", "1", "one");
    must(cmb_tag_annotate(b.store, "v1", "main", NULL));
    for (unsigned k = 1; error == CMB_ENOMEM; k++) {
        c.fail_at = c.calls + k;
        error = cmb_tag_annotate(b.store, "v2", "v1", &(cmb_tag_info){.message = "m"});
        c.fail_at = 0;
        if (error) {
            must_be(error, CMB_ENOMEM);
            must_be(cmb_tag_read(b.store, "v2", 0, &tag), CMB_ENOTFOUND);
        }
    }
    must(error);
    error = CMB_ENOMEM;
    for (unsigned k = 1; error == CMB_ENOMEM; k++) {
        size_t live = c.live;
        c.fail_at = c.calls + k;
        error = cmb_tag_read(b.store, "v2", 1, &tag);
        c.fail_at = 0;
        assert_true(!error || c.live == live);
    }
    must(error);
    assert_string_equal(tag->name, "v1");
    cmb_tag_free(tag);
    bed_reopen(&b);
    expect(b.store, "v2", "a", "1");
    bed_close(&b);
    assert_int_equal(c.live, 0);
}

/* ---- damage ---- */

typedef struct findings {
    unsigned n;
    char codes[256];
} findings;

static int note(void *ctx, const cmb_finding *finding)
{
    findings *f = ctx;
    f->n++;
    strncat(f->codes, finding->code, sizeof f->codes - strlen(f->codes) - 2);
    strcat(f->codes, " ");
    return 0;
}

static void fsck_and_stat_know_tag_objects(void **state)
{
    (void)state;
    bed b;
    cmb_stat before, after;
    findings f = {0};
    cmb_fsck_result result;
    bed_open(&b);
    put(b.store, "main", "a", "1", "one");
    must(cmb_stat_store(b.store, &before, NULL, NULL));
    must(cmb_tag_annotate(b.store, "v1", "main", &(cmb_tag_info){.message = "some two hundred bytes, or at least many"}));
    must(cmb_tag_annotate(b.store, "v2", "v1", NULL));
    must(cmb_stat_store(b.store, &after, NULL, NULL));
    assert_true(after.ref_bytes >= before.ref_bytes + 2 * 96);
    assert_int_equal(after.tags, 2);
    must(cmb_fsck(b.store, &(cmb_fsck_options){.level = CMB_FSCK_FULL, .on_finding = note, .ctx = &f}, &result));
    assert_int_equal(f.n, 0);
    bed_close(&b);
}

/* A ref that stands on an object which leads elsewhere; one whose object is none. */
static void fsck_finds_tags_that_lead_astray(void **state)
{
    (void)state;
    for (unsigned way = 0; way < 2; way++) {
        bed b;
        findings f = {0};
        cmb_fsck_result result;
        cmb_refobj *ref;
        cmb_unit unit;
        cmb_state wrong;
        cmb_resolved other;
        uint64_t seq;
        bed_open(&b);
        put(b.store, "main", "a", "1", "one");
        must(cmb_tag_annotate(b.store, "v1", "main", NULL));
        put(b.store, "main", "a", "2", "two");
        must(cmb_rev_resolve(b.store, "main", &other));
        must(cmb_ref_use(b.store, "tags/v1", 7, &ref));
        wrong = ref->state;
        if (way == 0) {
            cmb_commit_at tag = wrong.tag;
            wrong = other.state;
            wrong.tag = tag;
        } else {
            wrong.tag = wrong.commit;
        }
        must(cmb_unit_begin(b.store, &unit));
        must(cmb_unit_move(&unit, ref, &wrong, CMB_REFLOG_SET));
        must(cmb_unit_publish(&unit, &seq));
        cmb_ref_unuse(b.store, ref);
        bed_reopen(&b);
        must(cmb_fsck(b.store, &(cmb_fsck_options){.level = CMB_FSCK_STRUCTURE, .on_finding = note, .ctx = &f}, &result));
        assert_string_equal(f.codes, way == 0 ? "tag-mismatch " : "tag-damaged ");
        bed_close(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_annotated_tag_keeps_who_what_and_why),
        cmocka_unit_test(tags_of_tags_lead_to_the_commit_and_are_bounded),
        cmocka_unit_test(branches_and_lightweight_tags_from_an_annotated_one),
        cmocka_unit_test(the_reflog_knows_when_only_the_object_changed),
        cmocka_unit_test(naming_a_working_state_seals_it),
        cmocka_unit_test(without_memory_there_is_no_tag_and_nothing_is_lost),
        cmocka_unit_test(fsck_and_stat_know_tag_objects),
        cmocka_unit_test(fsck_finds_tags_that_lead_astray),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
