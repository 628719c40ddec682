/* SPDX-License-Identifier: ISC */
/* The canonical oracle: whatever the order, batching or history, the same pairs give the same root. */
#include "script.h"


/* ---- random scripts ---- */

static void run_script(uint32_t target, unsigned batches, size_t limit, cmb_residency residency)
{
    bed b;
    bed_open_with(&b, target, residency);
    model m = {0};
    cmb_noderef root;
    cmb_tree_empty(&b.tree, &root);
    for (unsigned i = 0; i < batches; i++) {
        cmb_edit *edit = malloc((limit + m.n + 1) * sizeof(*edit));
        size_t n = random_batch(&m, target, edit, limit);
        cmb_noderef before = root;
        apply(&b, &root, edit, n, NULL);
        model_apply(&m, edit, n);
        assert_canonical(&b, &root, &m);
        if (root.addr == before.addr)
            assert_same_tree(&root, &before);
        if (i % 8 == 0)
            OK(cmb_tree_check_shape(&b.tree, &root));
        edits_free(edit, n);
    }
    model_clear(&m);
    bed_close(&b);
}

static void any_history_of_the_same_pairs_gives_the_same_root(void **state)
{
    uint64_t scripts = 12 * env_number("CMB_BUDGET", 1);
    for (uint64_t i = 0; i < scripts; i++) {
        uint64_t seed = rng_state;
        wide_keys = i % 6 == 0;
        printf("script %llu: CMB_SEED=%llu\n", (unsigned long long)i, (unsigned long long)seed);
        run_script(targets[i % 3], wide_keys ? 200 : 60, i % 2 ? 1000 : 60, i / 3 % 2 ? CMB_RESIDENCY_POOL : CMB_RESIDENCY_MAP);
    }
    wide_keys = false;
}


/* ---- histories ---- */

static void shuffle(cmb_edit *edit, size_t n)
{
    for (size_t i = n; i > 1; i--) {
        size_t j = below(i);
        cmb_edit swap = edit[i - 1];
        edit[i - 1] = edit[j];
        edit[j] = swap;
    }
}

/* Edits in any order, as so many commits; the array is left sorted in pieces. */
static void apply_in_commits(bed *b, cmb_noderef *root, cmb_edit *edit, size_t n, size_t commits)
{
    for (size_t i = 0; i < commits; i++) {
        size_t from = n * i / commits, to = n * (i + 1) / commits;
        qsort(edit + from, to - from, sizeof(*edit), edit_order);
        apply(b, root, edit + from, to - from, NULL);
    }
}

static void a_sorted_load_equals_shuffled_commits_and_detours(void **state)
{
    for (unsigned t = 0; t < 3; t++) {
        bed b;
        bed_open(&b, targets[t]);
        model m = {0}, extra = {0};
        fill(&m, 1500, targets[t]);
        cmb_noderef sorted, shuffled;
        load(&b, &m, &sorted);

        cmb_edit *edit = malloc(m.n * sizeof(*edit));
        memcpy(edit, m.pair, m.n * sizeof(*edit));
        shuffle(edit, m.n);
        cmb_tree_empty(&b.tree, &shuffled);
        apply_in_commits(&b, &shuffled, edit, m.n, 50);
        assert_same_tree(&shuffled, &sorted);

        /* More keys come, in many commits, and go again. */
        for (size_t i = 0; i < 400; i++) {
            cmb_edit e = put_edit(text_bytes("key-%06u-%u", below(3000), below(100)), text_bytes("extra %u", below(100)));
            model_apply(&extra, &e, 1);
            pair_free(&e);
        }
        edit = realloc(edit, (m.n + extra.n) * sizeof(*edit));
        memcpy(edit, extra.pair, extra.n * sizeof(*edit));
        shuffle(edit, extra.n);
        apply_in_commits(&b, &shuffled, edit, extra.n, 40);
        assert_int_equal(shuffled.count, m.n + extra.n);
        shuffle(edit, extra.n);
        for (size_t i = 0; i < extra.n; i++)
            edit[i].kind = CMB_EDIT_DELETE;
        apply_in_commits(&b, &shuffled, edit, extra.n, 30);
        assert_same_tree(&shuffled, &sorted);

        /* Values change, and change back. */
        memcpy(edit, m.pair, m.n * sizeof(*edit));
        shuffle(edit, m.n);
        for (size_t i = 0; i < 300; i++)
            edit[i].value = (cmb_bytes){"another", 7};
        apply_in_commits(&b, &shuffled, edit, 300, 20);
        memcpy(edit, m.pair, m.n * sizeof(*edit));
        apply_in_commits(&b, &shuffled, edit, m.n, 7);
        assert_same_tree(&shuffled, &sorted);
        free(edit);
        model_clear(&m);
        model_clear(&extra);
        bed_close(&b);
    }
}

static void edits_that_change_nothing_write_nothing(void **state)
{
    bed b;
    bed_open(&b, 512);
    model m = {0};
    fill(&m, 1000, 512);
    cmb_noderef root, before;
    load(&b, &m, &root);
    before = root;
    cmb_editor_stats stats;
    apply(&b, &root, m.pair, m.n, &stats); /* large values among them */
    assert_int_equal(root.addr, before.addr);
    assert_int_equal(stats.nodes_written, 0);
    assert_true(stats.nodes_reused > 0);
    cmb_edit absent[] = {delete_edit(text_bytes("! nowhere")), delete_edit(text_bytes("key-000100-nowhere")), delete_edit(text_bytes("~ nowhere"))};
    apply(&b, &root, absent, 3, &stats);
    assert_int_equal(root.addr, before.addr);
    assert_int_equal(stats.nodes_written, 0);
    apply(&b, &root, NULL, 0, &stats);
    assert_int_equal(root.addr, before.addr);
    assert_int_equal(stats.nodes_read, 0);
    for (int i = 0; i < 3; i++)
        pair_free(&absent[i]);
    model_clear(&m);
    bed_close(&b);
}

static void appending_rewrites_the_right_edge_only(void **state)
{
    enum { BATCHES = 2000, BATCH = 50 };
    bed b;
    bed_open(&b, 4096);
    cmb_noderef root;
    cmb_tree_empty(&b.tree, &root);
    model m = {.pair = malloc(BATCHES * BATCH * sizeof(cmb_edit))};
    uint64_t written = 0, read = 0;
    for (unsigned i = 0; i < BATCHES; i++) {
        for (unsigned j = 0; j < BATCH; j++)
            m.pair[m.n++] = put_edit(text_bytes("%016llx", (unsigned long long)i * BATCH + j), text_bytes("value of %u", j));
        cmb_editor_stats stats;
        apply(&b, &root, m.pair + m.n - BATCH, BATCH, &stats);
        written += stats.nodes_written;
        read += stats.nodes_read;
    }
    unsigned levels = root.level + 1u;
    printf("%u levels, %.2f nodes written and %.2f read per batch\n", levels, (double)written / BATCHES, (double)read / BATCHES);
    assert_true(written <= (uint64_t)BATCHES * (2 * levels + 2));
    assert_true(read <= (uint64_t)BATCHES * (4 * levels + 4));
    assert_canonical(&b, &root, &m);
    OK(cmb_tree_check_shape(&b.tree, &root));
    model_clear(&m);
    bed_close(&b);
}

static void one_edit_rewrites_about_one_node_a_level(void **state)
{
    bed b;
    bed_open(&b, 1024);
    model m = {0};
    cmb_edit *edit = malloc(6000 * sizeof(*edit));
    for (unsigned i = 0; i < 6000; i++)
        edit[i] = put_edit(text_bytes("key-%08x", (unsigned)(rng() >> 32)), text_bytes("%064u", i));
    size_t n = edits_sort(edit, 6000);
    model_apply(&m, edit, n);
    edits_free(edit, n);
    cmb_noderef root;
    load(&b, &m, &root);
    unsigned levels = root.level + 1u;
    uint64_t leaves = 0, worst = 0;
    enum { EDITS = 400 };
    for (unsigned i = 0; i < EDITS; i++) {
        cmb_edit e = i % 2 ? delete_edit(bytes_copy(m.pair[below(m.n)].key))
                           : put_edit(text_bytes("key-%08x", (unsigned)(rng() >> 32)), text_bytes("%064u", i));
        cmb_editor_stats stats;
        apply(&b, &root, &e, 1, &stats);
        model_apply(&m, &e, 1);
        pair_free(&e);
        leaves += stats.nodes_written;
        worst = stats.nodes_written > worst ? stats.nodes_written : worst;
    }
    printf("%u levels, %.2f nodes written per edit, %llu at most\n", levels, (double)leaves / EDITS, (unsigned long long)worst);
    assert_true((double)leaves / EDITS < 1.35 * levels);
    assert_true(worst <= 4 * levels);
    assert_canonical(&b, &root, &m);
    model_clear(&m);
    bed_close(&b);
}

/* ---- hostile keys ---- */

static void assert_leaves_within_the_cap(bed *b, const cmb_noderef *root)
{
    cmb_path path;
    cmb_pin pin = {0};
    uint8_t *scratch = malloc(CMB_KEY_MAX);
    OK(cmb_path_open(&path, &b->tree, root, 0));
    int error = cmb_path_first(&path);
    for (; !error; error = cmb_path_next(&path)) {
        cmb_noderef ref;
        cmb_node node;
        OK(cmb_path_node(&path, scratch, &pin, &ref, &node));
        uint64_t bytes = 0;
        for (uint32_t i = 0; i < node.count; i++)
            bytes += cmb_node_key_size(&node, i) + cmb_node_value(&node, i).size + CMB_LOGICAL_LEAF;
        assert_true(bytes <= 4 * (uint64_t)b->tree.target);
        assert_true(node.count >= 2);
    }
    assert_int_equal(error, CMB_ENOTFOUND);
    cmb_path_close(&path);
    cmb_pin_destroy(b->tree.nodes, &pin);
    free(scratch);
}

static void attack(unsigned n, unsigned rounds, bool falling, unsigned edits_wanted, uint64_t most)
{
    bed b;
    bed_open(&b, 256);
    model m = {.pair = malloc(n * sizeof(cmb_edit)), .n = n};
    for (unsigned i = 0; i < n; i++)
        m.pair[i] = put_edit(mined_key(0, i, n, rounds, falling), text_bytes("%032u", i));
    cmb_noderef root;
    load(&b, &m, &root);
    OK(cmb_tree_check_shape(&b.tree, &root));
    assert_leaves_within_the_cap(&b, &root);
    unsigned high = 2;
    for (uint64_t leaves = n; leaves > 1; leaves /= 2)
        high++;
    assert_true(root.level < high);
    uint64_t worst = 0;
    for (unsigned i = 0; i < edits_wanted; i++) {
        cmb_edit e = i % 3 == 0 ? delete_edit(bytes_copy(m.pair[below(m.n)].key))
                                : put_edit(bytes_copy(m.pair[below(m.n)].key), text_bytes("%0*u", 20 + (int)below(30), i));
        cmb_editor_stats stats;
        apply(&b, &root, &e, 1, &stats);
        worst = stats.nodes_written > worst ? stats.nodes_written : worst;
        model_apply(&m, &e, 1);
        pair_free(&e);
        assert_canonical(&b, &root, &m);
    }
    printf("%u keys, %u rounds silent: %u levels, %llu nodes rewritten at most\n", n, rounds, root.level + 1u, (unsigned long long)worst);
    assert_true(worst <= most);
    model_clear(&m);
    bed_close(&b);
}

static void mined_keys_cannot_make_nodes_or_edits_large(void **state)
{
    attack(1200, 1, false, 60, 24);
    attack(1200, 1, true, 60, 24);
    attack(40, 2, false, 20, 40);
    attack(26, 4, false, 10, 40);
}

/* ---- forms of values ---- */

static void a_value_has_the_form_that_its_size_says(void **state)
{
    bed b;
    bed_open(&b, 256);
    uint8_t data[1000];
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)rng();
    static const uint32_t sizes[] = {0, 1, 64, 65, 1000};
    for (unsigned i = 0; i < CMB_COUNTOF(sizes); i++) {
        cmb_noderef inlined, far;
        cmb_tree_empty(&b.tree, &inlined);
        cmb_tree_empty(&b.tree, &far);
        cmb_edit put = put_edit((cmb_bytes){"key", 3}, (cmb_bytes){data, sizes[i]});
        apply(&b, &inlined, &put, 1, NULL);
        cmb_edit put_far = {.kind = CMB_EDIT_PUT_FAR, .key = {"key", 3}};
        bed_begin(&b);
        OK(cmb_value_write(&b.tree, b.app, data, sizes[i], &put_far.valref));
        bed_commit(&b);
        apply(&b, &far, &put_far, 1, NULL);
        assert_same_tree(&inlined, &far);
        assert_int_equal(inlined.out_of_line, sizes[i] > 64);
        OK(cmb_tree_check_shape(&b.tree, &far));
    }
    bed_close(&b);
}

/* ---- what goes wrong ---- */

static void keys_that_do_not_ascend_are_refused(void **state)
{
    bed b;
    bed_open(&b, 256);
    static uint8_t huge[CMB_KEY_MAX + 1];
    const struct {
        cmb_bytes first, second;
        int error;
    } cases[] = {
        {{"b", 1}, {"a", 1}, CMB_EINVAL},
        {{"b", 1}, {"b", 1}, CMB_EINVAL},
        {{"b", 1}, {"", 0}, CMB_EINVAL},
        {{"\0", 1}, {huge, sizeof(huge)}, CMB_ETOOBIG},
    };
    for (unsigned i = 0; i < CMB_COUNTOF(cases); i++) {
        cmb_noderef root;
        cmb_tree_empty(&b.tree, &root);
        cmb_editor *editor;
        cmb_appender *app = bed_begin(&b);
        OK(cmb_editor_open(&b.tree, &root, app, &editor));
        cmb_edit e = put_edit(cases[i].first, (cmb_bytes){0});
        OK(cmb_editor_push(editor, &e));
        e = put_edit(cases[i].second, (cmb_bytes){0});
        assert_int_equal(cmb_editor_push(editor, &e), cases[i].error);
        e = put_edit((cmb_bytes){"c", 1}, (cmb_bytes){0});
        assert_int_equal(cmb_editor_push(editor, &e), cases[i].error); /* what is half done stays so */
        assert_int_equal(cmb_editor_finish(editor, &root), cases[i].error);
        cmb_append_abort(app);
    }
    bed_close(&b);
}

static void a_refused_allocation_is_a_clean_error(void **state)
{
    bed b;
    bed_open(&b, 256);
    model m = {0};
    fill(&m, 600, 256);
    cmb_noderef root, expected;
    load(&b, &m, &root);
    cmb_edit *edit = malloc(300 * sizeof(*edit));
    size_t n = 0;
    for (size_t i = 0; i < 300; i++)
        edit[n++] = below(2) ? delete_edit(bytes_copy(m.pair[below(m.n)].key)) : put_edit(random_key(), random_value(256));
    n = edits_sort(edit, n);
    model_apply(&m, edit, n);
    build_fresh(&b, &m, &expected, NULL);
    miser bad = {.base = b.tree.alloc};
    cmb_allocator honest = b.tree.alloc;
    unsigned refused = 0;
    for (long grant = 0;; grant++) {
        edits e = {.source = {&edits_ops}, .edit = edit, .n = n};
        cmb_noderef out = root;
        cmb_appender *app = bed_begin(&b);
        b.tree.alloc = miser_of(&bad, grant);
        int error = cmb_tree_apply(&b.tree, &root, &e.source, app, &out, NULL);
        b.tree.alloc = honest;
        assert_int_equal(bad.in_use, 0);
        cmb_append_abort(app);
        if (!error) {
            assert_same_tree(&out, &expected);
            break;
        }
        assert_int_equal(error, CMB_ENOMEM);
        assert_int_equal(out.addr, root.addr);
        refused++;
    }
    assert_true(refused > 20);
    edits_free(edit, n);
    model_clear(&m);
    bed_close(&b);
}

static void a_tree_of_another_shape_is_found_out_and_does_no_harm(void **state)
{
    bed b;
    bed_open(&b, 512);
    model m = {0};
    fill(&m, 1500, 512);
    cmb_noderef root;
    load(&b, &m, &root);
    OK(cmb_tree_check_shape(&b.tree, &root));
    for (unsigned i = 0; i < 40; i++) {
        cmb_tree honest = b.tree;
        if (i % 2)
            b.tree.seed = 1 + i;
        else
            b.tree.target = 256 << (i % 5 + 1);
        if (b.tree.target != 512 || b.tree.seed)
            assert_int_equal(cmb_tree_check_shape(&b.tree, &root), CMB_ECORRUPT);
        cmb_edit *edit = malloc((200 + m.n) * sizeof(*edit));
        size_t n = random_batch(&m, 256, edit, 200);
        edits e = {.source = {&edits_ops}, .edit = edit, .n = n};
        cmb_noderef out;
        cmb_appender *app = bed_begin(&b);
        int error = cmb_tree_apply(&b.tree, &root, &e.source, app, &out, NULL);
        assert_true(error == 0 || error == CMB_ECORRUPT);
        cmb_append_abort(app);
        edits_free(edit, n);
        b.tree = honest;
    }
    model_clear(&m);
    bed_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_history_of_the_same_pairs_gives_the_same_root),
        cmocka_unit_test(a_sorted_load_equals_shuffled_commits_and_detours),
        cmocka_unit_test(edits_that_change_nothing_write_nothing),
        cmocka_unit_test(appending_rewrites_the_right_edge_only),
        cmocka_unit_test(one_edit_rewrites_about_one_node_a_level),
        cmocka_unit_test(mined_keys_cannot_make_nodes_or_edits_large),
        cmocka_unit_test(a_value_has_the_form_that_its_size_says),
        cmocka_unit_test(keys_that_do_not_ascend_are_refused),
        cmocka_unit_test(a_refused_allocation_is_a_clean_error),
        cmocka_unit_test(a_tree_of_another_shape_is_found_out_and_does_no_harm),
    };
    rng_state = env_number("CMB_SEED", 20240608);
    cmocka_set_test_filter(getenv("CMB_TEST")); /* a pattern with * and ?; none: all */
    printf("CMB_SEED=%llu\n", (unsigned long long)rng_state);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
