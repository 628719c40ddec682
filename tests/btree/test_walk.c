/* SPDX-License-Identifier: ISC */
/* Walking a tree: what is visited, in which order, and what happens around damage. */
#include "bed.h"

#include "io/io.h"

typedef struct seen {
    uint64_t addr[5000];
    bool read[5000]; /* node() was given the node */
    uint32_t n, records, damaged, entered;
    uint64_t record_bytes;
    bool skip, pass; /* node() says skip, enter() says pass over */
    int stop;        /* node() says this */
    int error;
    cmb_noderef hurt;
    char before[64], last[64];
} seen;

static int on_enter(void *ctx, const cmb_noderef *ref)
{
    seen *s = ctx;
    s->entered++;
    return s->pass && ref->level == 0;
}

static int on_node(void *ctx, const cmb_noderef *ref, const cmb_node *node)
{
    seen *s = ctx;
    assert_true(s->n < CMB_COUNTOF(s->addr));
    for (uint32_t i = 0; i < s->n; i++)
        assert_int_not_equal(s->addr[i], ref->addr);
    s->addr[s->n] = ref->addr;
    s->read[s->n++] = node != NULL;
    if (node) {
        assert_int_equal(node->level, ref->level);
        assert_int_equal(cmb_node_total(node), ref->count);
    } else {
        assert_int_equal(ref->level, 0);
        assert_false(ref->out_of_line);
    }
    return s->stop ? s->stop : s->skip;
}

static int on_record(void *ctx, uint64_t addr, uint32_t length, uint8_t kind)
{
    seen *s = ctx;
    assert_true(kind == CMB_RECORD_CHUNK || kind == CMB_RECORD_CHUNKS);
    s->records++;
    s->record_bytes += length;
    return 0;
}

static void keep_text(char out_text[64], const uint8_t *key, size_t size)
{
    snprintf(out_text, 64, "%.*s", (int)size, key ? (const char *)key : "");
}

static int on_damage(void *ctx, const cmb_noderef *ref, int error, const uint8_t *before, size_t before_size,
                     const uint8_t *last, size_t last_size)
{
    seen *s = ctx;
    s->damaged++;
    s->hurt = *ref;
    s->error = error;
    keep_text(s->before, before, before_size);
    keep_text(s->last, last, last_size);
    return 0;
}

static const cmb_walk_ops all_ops = {
    .enter = on_enter, .node = on_node, .record = on_record, .damage = on_damage, .read_leaves = true, .verify_values = true};

/* n keys "key-00000" …; every `far`th value is 1000 bytes long, the others a few. far 0: none. */
static void make_tree(bed *b, unsigned n, unsigned far, cmb_noderef *out_root)
{
    model m = {.pair = malloc(n * sizeof(cmb_edit)), .n = n};
    for (unsigned i = 0; i < n; i++)
        m.pair[i] = (cmb_edit){.kind = CMB_EDIT_PUT, .key = text_bytes("key-%05u", i),
                               .value = far && i % far == 0 ? text_bytes("%0250u", i) : text_bytes("value %u", i)};
    cmb_tree_empty(&b->tree, out_root);
    apply(b, out_root, m.pair, m.n, NULL);
    model_clear(&m);
}

/* Flips a bit of a record on the device, and forgets what is resident. */
static void hurt(bed *b, uint64_t addr, uint32_t length, uint32_t at)
{
    uint64_t offset;
    cmb_queue *queue;
    uint8_t *block = cmb_io_buffer(&b->tree.alloc, CMB_BLOCK);
    OK(cmb_log_write_out(b->log));
    assert_true(cmb_log_locate(b->log, addr, length, &offset));
    OK(cmb_queue_open(b->dev, 1, &queue));
    uint64_t from = (offset + at) & ~(uint64_t)(CMB_BLOCK - 1);
    OK(cmb_io_read(queue, from, block, CMB_BLOCK, 0));
    block[offset + at - from] ^= 4;
    OK(cmb_io_write(queue, from, block, CMB_BLOCK));
    cmb_queue_close(queue);
    cmb_io_buffer_release(&b->tree.alloc, block, CMB_BLOCK);
    cmb_nodes_destroy(b->tree.nodes);
    OK(cmb_nodes_create(&b->tree.alloc, b->log, CMB_RESIDENCY_AUTO, 0, &b->tree.nodes));
}

static void every_node_and_record_is_visited_once_and_parents_first(void **state)
{
    bed b;
    bed_open(&b, 512);
    cmb_noderef root;
    make_tree(&b, 3000, 10, &root);
    seen *s = calloc(1, sizeof(*s));
    OK(cmb_tree_walk(&b.tree, &root, &all_ops, s));
    assert_int_equal(s->n, count_nodes(&b, &root));
    assert_int_equal(s->entered, s->n);
    assert_int_equal(s->addr[0], root.addr);
    assert_int_equal(s->records, 300);
    assert_true(s->record_bytes >= 300 * 250);
    assert_int_equal(s->damaged, 0);
    for (uint32_t i = 0; i < s->n; i++)
        assert_true(s->read[i]);
    free(s);
    bed_close(&b);
}

static void leaves_are_read_only_if_they_must_be(void **state)
{
    bed b;
    bed_open(&b, 512);
    cmb_noderef root;
    make_tree(&b, 3000, 300, &root);
    cmb_walk_ops ops = all_ops;
    ops.read_leaves = false;
    seen *s = calloc(1, sizeof(*s));
    OK(cmb_tree_walk(&b.tree, &root, &ops, s));
    assert_int_equal(s->n, count_nodes(&b, &root));
    assert_int_equal(s->records, 10);
    uint32_t unread = 0;
    for (uint32_t i = 0; i < s->n; i++)
        unread += !s->read[i];
    assert_true(unread > s->n / 2);
    free(s);
    bed_close(&b);
}

static void callbacks_skip_pass_over_and_stop(void **state)
{
    bed b;
    bed_open(&b, 512);
    cmb_noderef root;
    make_tree(&b, 1000, 0, &root);
    seen *s = calloc(1, sizeof(*s));
    s->skip = true;
    OK(cmb_tree_walk(&b.tree, &root, &all_ops, s));
    assert_int_equal(s->n, 1);
    *s = (seen){.pass = true};
    OK(cmb_tree_walk(&b.tree, &root, &all_ops, s));
    assert_true(s->n < s->entered && s->n > 0);
    assert_int_equal(s->entered, count_nodes(&b, &root));
    *s = (seen){.stop = CMB_ESTOPPED};
    assert_int_equal(cmb_tree_walk(&b.tree, &root, &all_ops, s), CMB_ESTOPPED);
    assert_int_equal(s->n, 1);
    cmb_tree_empty(&b.tree, &root);
    *s = (seen){0};
    OK(cmb_tree_walk(&b.tree, &root, &all_ops, s));
    assert_int_equal(s->n, 0);
    OK(cmb_tree_check_shape(&b.tree, &root));
    free(s);
    bed_close(&b);
}

/* The leaf at which `path` stands after so many steps. */
static void nth_leaf(bed *b, const cmb_noderef *root, unsigned n, cmb_noderef *out_ref, char before[64])
{
    cmb_path path;
    uint8_t key[64];
    OK(cmb_path_open(&path, &b->tree, root, 0));
    OK(cmb_path_first(&path));
    for (unsigned i = 0; i < n; i++)
        OK(cmb_path_next(&path));
    cmb_path_ref(&path, out_ref);
    before[0] = 0;
    if (n > 0)
        keep_text(before, key, cmb_path_key_before(&path, key));
    cmb_path_close(&path);
}

static void a_damaged_leaf_is_told_with_its_keys_and_the_walk_goes_on(void **state)
{
    bed b;
    bed_open(&b, 512);
    cmb_noderef root;
    make_tree(&b, 2000, 0, &root);
    uint64_t nodes = count_nodes(&b, &root);
    cmb_noderef leaf, next;
    char before[64], last[64];
    nth_leaf(&b, &root, 17, &leaf, before);
    nth_leaf(&b, &root, 18, &next, last);
    hurt(&b, leaf.addr, leaf.length, 60);
    seen *s = calloc(1, sizeof(*s));
    OK(cmb_tree_walk(&b.tree, &root, &all_ops, s));
    assert_int_equal(s->damaged, 1);
    assert_int_equal(s->error, CMB_ECORRUPT);
    assert_int_equal(s->hurt.addr, leaf.addr);
    assert_string_equal(s->before, before);
    assert_string_equal(s->last, last);
    assert_int_equal(s->n, nodes - 1);
    cmb_walk_ops ops = all_ops;
    ops.damage = NULL;
    *s = (seen){0};
    assert_int_equal(cmb_tree_walk(&b.tree, &root, &ops, s), CMB_ECORRUPT);
    assert_int_equal(cmb_tree_check_shape(&b.tree, &root), CMB_ECORRUPT);
    free(s);
    bed_close(&b);
}

static void a_damaged_root_is_told_with_an_open_range(void **state)
{
    bed b;
    bed_open(&b, 512);
    cmb_noderef root;
    make_tree(&b, 500, 0, &root);
    hurt(&b, root.addr, root.length, 41);
    seen *s = calloc(1, sizeof(*s));
    OK(cmb_tree_walk(&b.tree, &root, &all_ops, s));
    assert_int_equal(s->damaged, 1);
    assert_int_equal(s->n, 0);
    assert_string_equal(s->before, "");
    assert_string_equal(s->last, "");
    free(s);
    bed_close(&b);
}

static void a_damaged_value_is_told_with_its_key(void **state)
{
    bed b;
    bed_open(&b, 512);
    cmb_noderef root;
    make_tree(&b, 500, 50, &root);
    cmb_pin pin = {0};
    cmb_found found;
    OK(cmb_tree_get(&b.tree, &root, (const uint8_t *)"key-00250", 9, &pin, &found));
    assert_true(found.out_of_line);
    cmb_pin_destroy(b.tree.nodes, &pin);
    hurt(&b, found.valref.addr, found.valref.length, 100);
    seen *s = calloc(1, sizeof(*s));
    OK(cmb_tree_walk(&b.tree, &root, &all_ops, s));
    assert_int_equal(s->damaged, 1);
    assert_int_equal(s->error, CMB_ECORRUPT);
    assert_string_equal(s->before, "key-00250");
    assert_string_equal(s->last, "key-00250");
    assert_int_equal(s->n, count_nodes(&b, &root));
    assert_true(s->records >= 9);
    free(s);
    bed_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_node_and_record_is_visited_once_and_parents_first),
        cmocka_unit_test(leaves_are_read_only_if_they_must_be),
        cmocka_unit_test(callbacks_skip_pass_over_and_stop),
        cmocka_unit_test(a_damaged_leaf_is_told_with_its_keys_and_the_walk_goes_on),
        cmocka_unit_test(a_damaged_root_is_told_with_an_open_range),
        cmocka_unit_test(a_damaged_value_is_told_with_its_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
