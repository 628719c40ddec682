/* SPDX-License-Identifier: ISC */
/* Images that were made to harm whoever salvages them, and damage that is not what it looks like. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

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
    cmb_noderef first = forge_tower(&b, app, "a", 2), second = forge_tower(&b, app, "b", 2);
    cmb_entry entry, below[] = {child_entry("a", &first), child_entry("b", &second)};
    cmb_noderef three = forge_node(&b, app, 3, below, 2), one = three, two, other, root; /* one of them for either parent */
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

/* A generation above which there is none, and a child of it. */
static void a_forged_generation_costs_its_children_alone(void **state)
{
    bed b;
    rescue r;
    cmb_intake *in;
    (void)state;
    bed_open(&b);
    must(cmb_intake_open(b.store, &in));
    cmb_noderef root = forge_tower(&b, cmb_intake_appender(in), "a", 0);
    cmb_commit_at lost = {.id = root.name}, at, child;
    cmb_commit_draft draft = {.root = root, .parents = &lost, .parent_count = 1, .generation = CMB_GENERATION_MAX, .author = "eve", .message = "x"};
    must(cmb_intake_commit(in, &draft, &at));
    draft.parents = &at;
    draft.message = "y";
    must(cmb_intake_commit(in, &draft, &child));
    must(cmb_intake_ref(in, "heads/forged", NULL, &child, CMB_REFLOG_COMMITTED));
    must(cmb_intake_publish(in));
    put(b.store, "main", "key", "value", "honest");
    bed_reopen(&b);
    salvage(&b, NULL, &r);
    assert_int_equal(count_kind(&r.losses, CMB_LOSS_COMMIT), 1);
    expect(r.to.store, "main", "key", "value");
    expect(r.to.store, "forged", "a", "v"); /* its content is known all the same */
    rescue_close(&r);
    bed_close(&b);
}

static void names_that_no_ref_can_have_are_told(void **state)
{
    static const char zero[] = "heads/a\0b", control[] = "heads/\033[2J";
    char large[CMB_REF_FULL_SIZE + 5];
    const cmb_bytes names[] = {{zero, sizeof zero - 1}, {control, sizeof control - 1}, {large, sizeof large}};
    bed b;
    rescue r;
    cmb_resolved rev;
    uint8_t packed[CMB_STATE_PACKED_MAX];
    (void)state;
    memset(large, 'l', sizeof large);
    memcpy(large, "heads/", 6);
    bed_open(&b);
    put(b.store, "main", "key", "value", "first");
    must(cmb_rev_resolve(b.store, "main", &rev));
    size_t size = cmb_state_pack(&rev.state, packed);
    for (size_t i = 0; i < CMB_COUNTOF(names); i++) {
        cmb_pending *edit = cmb_pending_create(b.store, CMB_TABLE_REFS, names[i], (cmb_bytes){packed, size}, false);
        assert_non_null(edit);
        cmb_mutex_lock(&b.store->lock);
        cmb_tables_apply(b.store, edit, b.store->unit_number);
        cmb_mutex_unlock(&b.store->lock);
    }
    put(b.store, "main", "key", "other", "second");
    must(cmb_store_checkpoint(b.store));
    must(cmb_store_close(b.store));
    b.store = NULL;
    salvage(&b, NULL, &r);
    assert_int_equal(count_kind(&r.losses, CMB_LOSS_REF), CMB_COUNTOF(names));
    expect(r.to.store, "main", "key", "other");
    rescue_close(&r);
    cmb_device_close(b.dev);
}

/* ---- values that are many times what they take ---- */

#define SHARED 1000000u
#define TIMES  150u

static void what_refers_to_one_value_many_times_does_so_afterwards(void **state)
{
    static uint8_t bytes[SHARED];
    bed b;
    rescue r;
    cmb_intake *in;
    cmb_editor *editor;
    cmb_value_writer *writer;
    cmb_value_reader *reader;
    cmb_edit edit = {.kind = CMB_EDIT_PUT_FAR};
    cmb_valref once;
    cmb_noderef root;
    cmb_caps caps;
    char room[16];
    (void)state;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 7 + i / 251);
    bed_open(&b);
    must(cmb_intake_open(b.store, &in));
    cmb_appender *app = cmb_intake_appender(in);
    must(cmb_value_write(&b.store->tree, app, bytes, sizeof bytes, &once));
    must(cmb_value_reader_open(&b.store->tree, &once, &reader));
    must(cmb_value_writer_open(&b.store->tree, app, &writer));
    for (unsigned i = 0; i < TIMES; i++) /* one chunk, over and over */
        must(cmb_value_writer_adopt(writer, reader, 0, CMB_CHUNK_SIZE));
    cmb_value_reader_close(reader);
    must(cmb_value_writer_add(writer, "end", 3));
    cmb_tree_empty(&b.store->tree, &root);
    must(cmb_editor_open(&b.store->tree, &root, app, &editor));
    for (unsigned i = 0; i < TIMES; i++) { /* one value below many keys */
        edit.key = number_key(room, i);
        edit.valref = once;
        must(cmb_editor_push(editor, &edit));
    }
    edit.key = str("long");
    must(cmb_value_writer_finish(writer, &edit.valref));
    must(cmb_editor_push(editor, &edit));
    must(cmb_editor_finish(editor, &root));
    publish(&b, in, &root);
    put(b.store, "main", "more", "a working state", NULL);
    bed_reopen(&b);
    cmb_device_caps(b.dev, &caps);
    uint64_t before = caps.size;
    salvage(&b, NULL, &r);
    assert_int_equal(r.losses.n, 0);
    same_refs(b.store, r.to.store);
    same_commits(b.store, r.to.store);
    cmb_device_caps(r.to.dev, &caps);
    print_message("%llu bytes became %llu\n", (unsigned long long)before, (unsigned long long)caps.size);
    assert_true(caps.size <= 2 * before);
    rescue_close(&r);
    bed_close(&b);
}

/* In a working state as well, and one that cannot be read is tried once. */
static void a_shared_value_that_is_damaged_costs_every_key_that_has_it(void **state)
{
    static uint8_t bytes[SHARED];
    bed b;
    rescue r;
    cmb_txn *txn;
    cmb_intake *in;
    cmb_editor *editor;
    cmb_edit edit = {.kind = CMB_EDIT_PUT_FAR};
    cmb_noderef root;
    char room[16];
    (void)state;
    memset(bytes, 'v', sizeof bytes);
    bed_open(&b);
    must(cmb_intake_open(b.store, &in));
    must(cmb_value_write(&b.store->tree, cmb_intake_appender(in), bytes, sizeof bytes, &edit.valref));
    cmb_tree_empty(&b.store->tree, &root);
    must(cmb_editor_open(&b.store->tree, &root, cmb_intake_appender(in), &editor));
    for (unsigned i = 0; i < 5; i++) {
        edit.key = number_key(room, i);
        must(cmb_editor_push(editor, &edit));
    }
    must(cmb_editor_finish(editor, &root));
    publish(&b, in, &root);
    must(cmb_txn_begin(b.store, "main", 0, &txn));
    memset(bytes, 'w', sizeof bytes);
    for (unsigned i = 5; i < 9; i++)
        must(cmb_txn_put(txn, number_key(room, i), (cmb_bytes){bytes, sizeof bytes}));
    must(cmb_txn_commit(txn, NULL, NULL));
    bed_reopen(&b);
    damage_record(&b, edit.valref.addr, edit.valref.length, 40);
    salvage(&b, NULL, &r);
    assert_true(count_kind(&r.losses, CMB_LOSS_VALUE) >= 1);
    for (unsigned i = 0; i < 5; i++)
        expect(r.to.store, "main", number_key(room, i).data, NULL);
    assert_int_equal(rev_of(r.to.store, "main").entries, 4);
    rescue_close(&r);
    bed_close(&b);
}

/* ---- damage that is not what it looks like ---- */

/* The same content written twice, in two places. */
static void a_damaged_leaf_is_read_where_the_same_content_lies_as_well(void **state)
{
    static const char *const branches[] = {"main", "other"};
    bed b = {.dev = NULL};
    rescue r;
    char room[16];
    (void)state;
    bed_open_with(&b, 0, &(cmb_init_options){.node_size = 1024});
    must(cmb_branch_create(b.store, "other", NULL));
    for (unsigned k = 0; k < 2; k++) {
        cmb_txn *txn;
        must(cmb_txn_begin(b.store, branches[k], 0, &txn));
        for (unsigned i = 0; i < ENTRIES; i++)
            must(cmb_txn_put(txn, number_key(room, i), str("a value of some length")));
        must(cmb_txn_commit(txn, &(cmb_commit_info){.message = branches[k]}, NULL));
    }
    bed_reopen(&b);
    put(b.store, "main", "last", "value", NULL); /* a checkpoint above all of it */
    bed_reopen(&b);
    cmb_noderef one = first_node(&b, "main", 0), two = first_node(&b, "other", 0);
    assert_true(cmb_name_equal(&one.name, &two.name));
    assert_int_not_equal(one.addr, two.addr);
    damage_record(&b, one.addr, one.length, 60);
    salvage(&b, NULL, &r);
    print_losses(&r.losses);
    assert_int_equal(r.losses.n, 0);
    same_refs(b.store, r.to.store);
    same_commits(b.store, r.to.store);
    rescue_close(&r);
    bed_close(&b);
}

/* Exchanges n bytes at two places of a record. */
static void exchange(bed *b, const cmb_noderef *ref, uint32_t x, uint32_t y, uint32_t n)
{
    uint64_t offset;
    cmb_queue *q;
    assert_true(cmb_log_locate(b->store->log, ref->addr, ref->length, &offset));
    uint64_t from = offset & ~(uint64_t)(CMB_BLOCK - 1), to = cmb_align_up(offset + ref->length, CMB_BLOCK);
    uint8_t *bytes = aligned_alloc(4096, (size_t)(to - from)), held[4096];
    assert_non_null(bytes);
    assert_true(n <= sizeof held && x + n <= y && y + n <= ref->length);
    must(cmb_queue_open(b->dev, 1, &q));
    must(cmb_io_read(q, from, bytes, to - from, 0));
    uint8_t *record = bytes + (offset - from);
    memcpy(held, record + x, n);
    memcpy(record + x, record + y, n);
    memcpy(record + y, held, n);
    must(cmb_io_write(q, from, bytes, to - from));
    cmb_queue_close(q);
    free(bytes);
}

static void children_of_a_node_whose_bytes_changed_places_come_back_all_of_them(void **state)
{
    bed b = {.dev = NULL};
    rescue r;
    cmb_txn *txn;
    cmb_pin pin = {0};
    cmb_node node;
    char room[16];
    (void)state;
    bed_open_with(&b, 0, &(cmb_init_options){.node_size = 1024});
    must(cmb_txn_begin(b.store, "main", 0, &txn));
    for (unsigned i = 0; i < ENTRIES; i++)
        must(cmb_txn_put(txn, number_key(room, i), str("a value of some length")));
    must(cmb_txn_commit(txn, &(cmb_commit_info){.message = "first"}, NULL));
    bed_reopen(&b);
    put(b.store, "main", "last", "value", NULL);
    bed_reopen(&b);
    cmb_noderef ref = first_node(&b, "main", 1);
    must(cmb_nodes_get(b.store->nodes, &ref, &pin));
    cmb_node_open(b.store->tree.hash, pin.record, &node);
    uint32_t names = (uint32_t)(node.values - node.record), count = node.count, name = node.name_size;
    cmb_pin_destroy(b.store->nodes, &pin);
    assert_true(count >= 4);
    exchange(&b, &ref, names, names + (count - count / 2) * name, count / 2 * name);
    salvage(&b, NULL, &r);
    print_losses(&r.losses);
    assert_int_equal(r.losses.n, 0);
    assert_int_equal(r.result.replaced, count);
    same_refs(b.store, r.to.store);
    same_commits(b.store, r.to.store);
    rescue_close(&r);
    bed_close(&b);
}

static void an_image_cannot_be_salvaged_onto_itself(void **state)
{
    bed b;
    cmb_salvage_result result = {.commits = 99};
    (void)state;
    bed_open(&b);
    put(b.store, "main", "key", "value", "first");
    must_be(cmb_salvage_device(b.dev, b.dev, &(cmb_salvage_options){.force = true}, &result), CMB_EINVAL);
    assert_int_equal(result.commits, 99);
    bed_reopen(&b);
    expect(b.store, "main", "key", "value");
    bed_close(&b);
}

/* What salvaging one name to the other says, before anything of either is touched. */
static bool is_itself(const char *image, const char *target)
{
    cmb_salvage_result result;
    int error = cmb_salvage_image(image, target, &(cmb_salvage_options){.force = true}, &result);
    assert_int_not_equal(error, 0);
    if (error == CMB_ENOTSUP)
        skip(); /* built without Xen */
    return error == CMB_EINVAL && strstr(cmb_error_detail(), "the target is the image itself");
}

static void names_of_one_virtual_disk_are_known_as_one(void **state)
{
    char one[] = "/tmp/cambium-salvage-XXXXXX", two[] = "/tmp/cambium-salvage-XXXXXX", over_one[80], over_two[80];
    (void)state;
    assert_true(is_itself("xen:xvdb", "xen:51728?persistent=0"));
    int fds[2] = {mkstemp(one), mkstemp(two)};
    assert_true(fds[0] >= 0 && fds[1] >= 0);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(ftruncate(fds[i], 1 << 20), 0);
    snprintf(over_one, sizeof over_one, "xen:xvda?loopback=%s", one);
    snprintf(over_two, sizeof over_two, "xen:xvda?loopback=%s", two);
    bool known = is_itself(over_one, one) && is_itself(one, over_one), mistaken = is_itself(over_one, over_two);
    for (unsigned i = 0; i < 2; i++)
        close(fds[i]);
    unlink(one);
    unlink(two);
    assert_true(known);
    assert_false(mistaken);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_damaged_node_that_two_parents_put_at_two_levels_is_grafted_at_the_one),
        cmocka_unit_test(a_forged_generation_costs_its_children_alone),
        cmocka_unit_test(names_that_no_ref_can_have_are_told),
        cmocka_unit_test(what_refers_to_one_value_many_times_does_so_afterwards),
        cmocka_unit_test(a_shared_value_that_is_damaged_costs_every_key_that_has_it),
        cmocka_unit_test(a_damaged_leaf_is_read_where_the_same_content_lies_as_well),
        cmocka_unit_test(children_of_a_node_whose_bytes_changed_places_come_back_all_of_them),
        cmocka_unit_test(an_image_cannot_be_salvaged_onto_itself),
        cmocka_unit_test(names_of_one_virtual_disk_are_known_as_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
