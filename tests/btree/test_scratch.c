/* SPDX-License-Identifier: ISC */
/* Trees over an image that are built in memory only, by a handle that may not write it. */
#include "script.h"

/* The bed's log, or a read-only one on the same device. */
static void reader_open(bed *reader, const bed *b, cmb_residency residency)
{
    *reader = (bed){.dev = b->dev};
    cmb_log_options options = {.writable = false};
    OK(cmb_log_open(b->dev, &options, &reader->log));
    reader->tree = b->tree;
    reader->tree.log = reader->log;
    OK(cmb_nodes_create(&b->tree.alloc, reader->log, residency, residency == CMB_RESIDENCY_POOL ? 1u << 20 : 0, &reader->tree.nodes));
}

static void reader_close(bed *reader)
{
    cmb_nodes_destroy(reader->tree.nodes);
    OK(cmb_log_close(reader->log));
}

static void assert_value(const cmb_tree *tree, const cmb_found *found, cmb_bytes want)
{
    static uint8_t got[65536];
    if (!found->out_of_line) {
        assert_int_equal(found->value.size, want.size);
        if (want.size)
            assert_memory_equal(found->value.data, want.data, want.size);
        return;
    }
    cmb_value_reader *reader;
    size_t n;
    OK(cmb_value_reader_open(tree, &found->valref, &reader));
    OK(cmb_value_reader_read(reader, 0, got, sizeof got, &n));
    cmb_value_reader_close(reader);
    assert_int_equal(n, want.size);
    assert_memory_equal(got, want.data, n);
}

/* Every pair, by cursor and by lookup. */
static void assert_reads_back(const cmb_tree *tree, const cmb_noderef *root, const model *m)
{
    cmb_tree_cursor *c;
    cmb_pin pin = {0};
    OK(cmb_tree_cursor_open(tree, root, &c));
    int e = cmb_tree_cursor_first(c);
    for (size_t i = 0; i < m->n; i++, e = cmb_tree_cursor_next(c)) {
        cmb_found found;
        OK(e);
        cmb_bytes key = cmb_tree_cursor_key(c);
        assert_int_equal(cmb_compare(key.data, key.size, m->pair[i].key.data, m->pair[i].key.size), 0);
        OK(cmb_tree_cursor_value(c, &found));
        assert_value(tree, &found, m->pair[i].value);
        OK(cmb_tree_get(tree, root, m->pair[i].key.data, m->pair[i].key.size, &pin, &found));
        assert_value(tree, &found, m->pair[i].value);
    }
    assert_int_equal(e, CMB_ENOTFOUND);
    cmb_tree_cursor_close(c);
    cmb_pin_destroy(tree->nodes, &pin);
}

static void apply_in_scratch(const cmb_tree *tree, cmb_appender *app, cmb_noderef *root, cmb_edit *edit, size_t n)
{
    edits e = {.source = {&edits_ops}, .edit = edit, .n = n};
    cmb_editor_stats stats = {0};
    OK(cmb_tree_apply(tree, root, &e.source, app, root, &stats));
}

static void run(cmb_residency residency)
{
    bed b, reader;
    bed_open_with(&b, 512, residency);
    model m = {0}, before = {0};
    cmb_noderef root, shadow, base;
    cmb_appender *app;
    cmb_tree_empty(&b.tree, &root);
    fill(&m, 2000, 512);
    load(&b, &m, &root);
    for (unsigned round = 0; round < 6; round++) {
        reader_open(&reader, &b, residency);
        OK(cmb_log_scratch(reader.log, &app));
        shadow = base = root;
        model_apply(&before, m.pair, m.n);
        for (unsigned batch = 0; batch < 4; batch++) { /* trees over trees in the scratch */
            cmb_edit *edit = malloc((3000 + m.n) * sizeof *edit);
            size_t n = random_batch(&m, 512, edit, 400);
            apply_in_scratch(&reader.tree, app, &shadow, edit, n);
            apply(&b, &root, edit, n, NULL);
            model_apply(&m, edit, n);
            assert_same_tree(&shadow, &root);
            edits_free(edit, n);
        }
        assert_reads_back(&reader.tree, &shadow, &m);
        assert_reads_back(&reader.tree, &base, &before);
        if (shadow.addr != base.addr) {
            uint64_t offset;
            cmb_pin pin = {0};
            assert_true(shadow.addr == 0 || shadow.addr >= CMB_SCRATCH_BASE);
            assert_false(cmb_log_locate(reader.log, shadow.addr, shadow.length, &offset));
            assert_null(cmb_log_peek(reader.log, shadow.addr, shadow.length));
            cmb_append_abort(app);
            if (shadow.addr) /* gone, and nothing remembers it */
                assert_int_equal(cmb_nodes_get(reader.tree.nodes, &shadow, &pin), CMB_ECORRUPT);
            cmb_pin_destroy(reader.tree.nodes, &pin);
        } /* else: it goes with the log */
        reader_close(&reader);
        model_clear(&before);
    }
    model_clear(&m);
    bed_close(&b);
}

static void a_tree_in_a_scratch_over_a_root_in_the_image_reads_back_mapped(void **state)
{
    (void)state;
    run(CMB_RESIDENCY_MAP);
}

static void a_tree_in_a_scratch_over_a_root_in_the_image_reads_back_pooled(void **state)
{
    (void)state;
    run(CMB_RESIDENCY_POOL);
}

static void scratches_side_by_side_share_no_address_and_end_one_by_one(void **state)
{
    (void)state;
    enum { N = 3, RECORDS = 60 };
    static uint8_t got[CMB_RECORD_MAX], want[CMB_RECORD_MAX];
    bed b;
    bed_open(&b, 512);
    cmb_appender *app[N];
    uint64_t addr[N][RECORDS];
    uint32_t length[N][RECORDS];
    for (unsigned i = 0; i < N; i++)
        OK(cmb_log_scratch(b.log, &app[i]));
    for (unsigned k = 0; k < RECORDS; k++) {
        for (unsigned i = 0; i < N; i++) {
            void *buf;
            length[i][k] = k % 20 == 19 ? CMB_RECORD_MAX - below(100) : 16 + below(30000);
            OK(cmb_append(app[i], length[i][k], &addr[i][k], &buf));
            memset(buf, (int)(i * RECORDS + k + 1), length[i][k]);
            if (k)
                assert_true(addr[i][k] >= addr[i][k - 1] + length[i][k - 1]);
        }
    }
    assert_true(cmb_append_bytes(app[0]) >= (uint64_t)3 << 20);
    for (unsigned gone = 0; gone <= N; gone++) {
        for (unsigned i = 0; i < N; i++) {
            for (unsigned k = 0; k < RECORDS; k++) {
                int e = cmb_log_read(b.log, NULL, addr[i][k], length[i][k], got);
                assert_int_equal(e, i < gone ? CMB_ECORRUPT : 0);
                memset(want, (int)(i * RECORDS + k + 1), length[i][k]);
                if (i >= gone)
                    assert_memory_equal(got, want, length[i][k]);
            }
        }
        if (gone < N)
            cmb_append_abort(app[gone]);
    }
    bed_close(&b);
}

int main(void)
{
    rng_state = env_number("CMB_SEED", 7);
    print_message("CMB_SEED=%llu\n", (unsigned long long)rng_state);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tree_in_a_scratch_over_a_root_in_the_image_reads_back_mapped),
        cmocka_unit_test(a_tree_in_a_scratch_over_a_root_in_the_image_reads_back_pooled),
        cmocka_unit_test(scratches_side_by_side_share_no_address_and_end_one_by_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
