/* SPDX-License-Identifier: ISC */
/* Images that were made to harm whoever salvages them, and damage that is not what it looks like. */
#include "salvage_bed.h"

#include "store/intake.h"

/* ---- writing what no writer writes ---- */

/* A node of these entries, in the log. */
static cmb_noderef forge_node(bed *b, cmb_appender *app, unsigned level, const cmb_entry *entries, uint32_t n)
{
    cmb_allocator alloc = cmb_allocator_or_default(NULL);
    cmb_node_buffer buffer = {NULL, 0};
    cmb_noderef ref = {.addr = 0};
    void *record;
    must(cmb_node_encode(&alloc, b->store->tree.hash, level, entries, n, &buffer, &ref));
    must(cmb_append(app, ref.length, &ref.addr, &record));
    memcpy(record, buffer.data, ref.length);
    cmb_node_place(record, ref.addr);
    cmb_release(&alloc, buffer.data, buffer.capacity);
    return ref;
}

static cmb_entry leaf_entry(const char *key)
{
    return (cmb_entry){.key = (const uint8_t *)key, .key_size = (uint32_t)strlen(key), .value = (const uint8_t *)"v", .value_size = 1};
}

static cmb_entry child_entry(const char *last, const cmb_noderef *child)
{
    return (cmb_entry){.key = (const uint8_t *)last, .key_size = (uint32_t)strlen(last), .child = child};
}

/* A leaf and nodes of one child above it, up to `level`. */
static cmb_noderef forge_tower(bed *b, cmb_appender *app, const char *key, unsigned level)
{
    cmb_entry entry = leaf_entry(key);
    cmb_noderef ref = forge_node(b, app, 0, &entry, 1);
    for (unsigned i = 1; i <= level; i++) {
        entry = child_entry(key, &ref);
        ref = forge_node(b, app, i, &entry, 1);
    }
    return ref;
}

/* main becomes a commit of this tree, and the image is closed. */
static void publish(bed *b, cmb_intake *in, const cmb_noderef *root)
{
    cmb_commit_draft draft = {.root = *root, .generation = 1, .time = 1, .author = "eve", .message = "forged"};
    cmb_commit_at at;
    must(cmb_intake_commit(in, &draft, &at));
    must(cmb_intake_ref(in, "heads/main", NULL, &at, CMB_REFLOG_COMMITTED));
    must(cmb_intake_publish(in));
}

/* ---- tests ---- */

/* One parent calls a damaged node one of level 3, whose children are known; another one calls it level 1, where there is no room for them. */
static void a_damaged_node_that_two_parents_put_at_two_levels_is_grafted_at_the_one(void **state)
{
    bed b;
    rescue r;
    cmb_intake *in;
    (void)state;
    bed_open(&b);
    must(cmb_intake_open(b.store, &in));
    cmb_appender *app = cmb_intake_appender(in);
    cmb_noderef below = forge_tower(&b, app, "a", 2);
    cmb_entry entry = child_entry("a", &below);
    cmb_noderef three = forge_node(&b, app, 3, &entry, 1), one = three, two, other, root;
    one.level = 1;
    entry = child_entry("b", &one);
    two = forge_node(&b, app, 2, &entry, 1);
    entry = child_entry("b", &two);
    other = forge_node(&b, app, 3, &entry, 1);
    cmb_entry both[] = {child_entry("a", &three), child_entry("b", &other)};
    root = forge_node(&b, app, 4, both, 2);
    publish(&b, in, &root);
    bed_reopen(&b);
    damage_record(&b, three.addr, three.length, 45);
    salvage(&b, NULL, &r);
    expect(r.to.store, "main", "a", "v");
    expect(r.to.store, "main", "b", NULL);
    rescue_close(&r);
    bed_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_damaged_node_that_two_parents_put_at_two_levels_is_grafted_at_the_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
