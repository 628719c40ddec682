/* SPDX-License-Identifier: ISC */
/* An editor over two trees: whatever ranges of keys come from which, and whatever edits go on top, the result is a fresh build. */
#include "script.h"

/* Something that happens at a key: an edit, or what is old comes from another tree from here on. */
typedef struct event {
    cmb_bytes key;
    bool is_switch, other;
    cmb_edit edit;
} event;

static int event_order(const void *a, const void *b)
{
    const event *x = a, *y = b;
    return cmb_compare(x->key.data, x->key.size, y->key.data, y->key.size);
}

/* A key of either tree, the lowest above it, one in between, or the empty one. */
static cmb_bytes event_key(const model *m, bool is_switch)
{
    const model *from = &m[below(2)];
    if (is_switch && below(12) == 0)
        return bytes_copy((cmb_bytes){"", 0});
    if (from->n == 0 || below(6) == 0)
        return random_key();
    cmb_bytes key = from->pair[below(4) ? below(from->n) : from->n - 1].key;
    if (!is_switch || below(3) == 0)
        return bytes_copy(key);
    uint8_t *above = calloc(1, key.size + 2); /* bytes_copy's have one byte more as well */
    memcpy(above, key.data, key.size);
    return (cmb_bytes){above, key.size + 1};
}

static size_t random_events(bed *b, const model *m, event *out, size_t most)
{
    size_t n = 0, want = below(3) ? below(8) : below(most + 1);
    for (size_t i = 0; i < want; i++) {
        event *e = &out[i];
        *e = (event){.is_switch = below(3) > 0, .other = below(2)};
        e->key = event_key(m, e->is_switch);
        e->edit = below(3) ? put_edit(e->key, random_value(b->tree.target)) : delete_edit(e->key);
    }
    qsort(out, want, sizeof(*out), event_order);
    for (size_t i = 0; i < want; i++) {
        if (n && event_order(&out[n - 1], &out[i]) == 0) {
            pair_free(&out[i].edit);
            continue;
        }
        out[n++] = out[i];
    }
    return n;
}

/* Adds the pairs from `*at` on that are below the key (NULL: all) to the result. */
static void take_below(model *result, const model *from, size_t *at, const cmb_bytes *key, bool keep)
{
    for (; *at < from->n; ++*at) {
        const cmb_edit *p = &from->pair[*at];
        if (key && cmb_compare(p->key.data, p->key.size, key->data, key->size) >= 0)
            return;
        if (keep)
            result->pair[result->n++] = put_edit(bytes_copy(p->key), bytes_copy(p->value));
    }
}

static model expected_of(const model *m, const event *events, size_t n)
{
    model result = {.pair = malloc((m[0].n + m[1].n + n + 1) * sizeof(cmb_edit))};
    size_t at[2] = {0, 0};
    bool on = false;
    for (size_t i = 0; i <= n; i++) {
        const event *e = i < n ? &events[i] : NULL;
        for (unsigned k = 0; k < 2; k++)
            take_below(&result, &m[k], &at[k], e ? &e->key : NULL, k == on);
        if (e && e->is_switch) {
            on = e->other;
        } else if (e) {
            for (unsigned k = 0; k < 2; k++)
                if (at[k] < m[k].n && cmb_compare(m[k].pair[at[k]].key.data, m[k].pair[at[k]].key.size, e->key.data, e->key.size) == 0)
                    at[k]++;
            if (e->edit.kind == CMB_EDIT_PUT)
                result.pair[result.n++] = put_edit(bytes_copy(e->key), bytes_copy(e->edit.value));
        }
    }
    return result;
}

static int push_events(cmb_editor *editor, const event *events, size_t n)
{
    int error = 0;
    for (size_t i = 0; i < n && !error; i++)
        error = events[i].is_switch ? cmb_editor_switch(editor, events[i].other, events[i].key) : cmb_editor_push(editor, &events[i].edit);
    return error;
}

static void check_events(bed *b, const cmb_noderef *root, const model *m, const event *events, size_t n)
{
    cmb_editor *editor;
    cmb_noderef out;
    cmb_appender *app = bed_begin(b);
    OK(cmb_editor_open_two(&b->tree, &root[0], &root[1], app, &editor));
    OK(push_events(editor, events, n));
    OK(cmb_editor_finish(editor, &out));
    bed_commit(b);
    model expected = expected_of(m, events, n);
    assert_canonical(b, &out, &expected);
    model_clear(&expected);
}

static void check_pair(bed *b, const cmb_noderef *root, const model *m, unsigned rounds)
{
    event events[60];
    for (unsigned i = 0; i < rounds; i++) {
        size_t n = random_events(b, m, events, CMB_COUNTOF(events));
        check_events(b, root, m, events, n);
        for (size_t k = 0; k < n; k++)
            pair_free(&events[k].edit);
    }
}

static void ranges_of_two_trees_and_edits_give_a_fresh_build(void **state)
{
    uint64_t beds = 18 * env_number("CMB_BUDGET", 1);
    for (uint64_t i = 0; i < beds; i++) {
        printf("bed %llu: CMB_SEED=%llu\n", (unsigned long long)i, (unsigned long long)rng_state);
        wide_keys = i % 6 == 5;
        bed b;
        bed_open_with(&b, targets[i % 3], i / 3 % 2 ? CMB_RESIDENCY_POOL : CMB_RESIDENCY_MAP);
        for (unsigned round = 0; round < 3; round++) {
            model m[2] = {0};
            cmb_noderef root[2];
            fill(&m[0], 1 + below(below(3) ? 1500 : 15), b.tree.target);
            load(&b, &m[0], &root[0]);
            if (i % 2) { /* a common past */
                m[1] = model_copy(&m[0]);
                root[1] = root[0];
                some_changes(&b, &root[1], &m[1]);
            } else { /* none */
                if (below(5))
                    fill(&m[1], 1 + below(below(3) ? 1500 : 15), b.tree.target);
                load(&b, &m[1], &root[1]);
            }
            check_pair(&b, root, m, 12);
            model_clear(&m[0]);
            model_clear(&m[1]);
        }
        bed_close(&b);
    }
    wide_keys = false;
}

static void edits_and_seams_at_any_distance_give_a_fresh_build(void **state)
{
    enum { ENTRIES = 400, FROM = 180, TO = 230 };
    bed b;
    bed_open(&b, 256);
    model m[2] = {0};
    cmb_noderef root[2];
    for (unsigned k = 0; k < 2; k++) {
        m[k].pair = malloc(ENTRIES * sizeof(cmb_edit));
        for (m[k].n = 0; m[k].n < ENTRIES; m[k].n++)
            m[k].pair[m[k].n] = put_edit(text_bytes("key-%06zu", m[k].n), text_bytes(k && m[k].n % 50 == 7 ? "another" : "value"));
        load(&b, &m[k], &root[k]);
    }
    for (unsigned from = FROM; from < TO; from++) /* a seam of each kind, and an edit of each kind at each distance from it */
        for (int distance = -12; distance <= 12; distance++)
            for (unsigned kind = 0; kind < 2 && distance; kind++) {
                event e[3] = {{.is_switch = true, .other = true}, {.is_switch = false}, {.is_switch = true, .other = false}};
                e[0].key = text_bytes("key-%06u", from);
                e[2].key = text_bytes("key-%06u", from + 90);
                ((uint8_t *)(uintptr_t)e[0].key.data)[e[0].key.size++] = 0;
                e[1].key = text_bytes("key-%06u", from + (unsigned)distance);
                e[1].edit = kind ? put_edit(e[1].key, text_bytes("edit")) : delete_edit(e[1].key);
                qsort(e, 3, sizeof(*e), event_order);
                check_events(&b, root, m, e, 3);
                free((void *)(uintptr_t)e[2].key.data);
                for (unsigned i = 0; i < 2; i++)
                    e[i].is_switch ? free((void *)(uintptr_t)e[i].key.data) : pair_free(&e[i].edit);
            }
    model_clear(&m[0]);
    model_clear(&m[1]);
    bed_close(&b);
}

static void mined_keys_on_either_side_of_a_seam_give_a_fresh_build(void **state)
{
    static const struct {
        unsigned n, rounds;
        bool falling;
    } mines[] = {{600, 1, false}, {600, 1, true}, {36, 2, false}, {24, 4, true}};
    bed b;
    bed_open(&b, 256);
    for (unsigned i = 0; i < CMB_COUNTOF(mines); i++) {
        model m[2] = {0};
        cmb_noderef root[2];
        m[0].pair = malloc(mines[i].n * sizeof(cmb_edit));
        for (m[0].n = 0; m[0].n < mines[i].n; m[0].n++)
            m[0].pair[m[0].n] = put_edit(mined_key(0, (unsigned)m[0].n, mines[i].n, mines[i].rounds, mines[i].falling), text_bytes("%032zu", m[0].n));
        load(&b, &m[0], &root[0]);
        m[1] = model_copy(&m[0]);
        root[1] = root[0];
        check_pair(&b, root, m, 10);
        some_edits(&b, &root[1], &m[1], 20);
        check_pair(&b, root, m, 40);
        model_clear(&m[0]);
        model_clear(&m[1]);
    }
    bed_close(&b);
}

/* Such nodes are read into copies, whose memory is used again: nothing may be left in it. */
static void nodes_that_are_queued_and_not_written_yet_are_spliced(void **state)
{
    enum { ROUNDS = 30 };
    bed b;
    bed_open(&b, 1024);
    for (unsigned round = 0; round < ROUNDS; round++) {
        model m[2] = {0};
        cmb_noderef root[2];
        fill(&m[0], 600, 1024);
        load(&b, &m[0], &root[0]);
        m[1] = model_copy(&m[0]);
        root[1] = root[0];
        for (unsigned k = 0; k < 2; k++) { /* every node of both */
            for (size_t i = 0; i < m[k].n; i++) {
                pair_free(&m[k].pair[i]);
                m[k].pair[i] = put_edit(text_bytes("%05zu", i), text_bytes("%0*u", 1 + (int)below(100), below(1000)));
            }
            edits e = {.source = {&edits_ops}, .edit = m[k].pair, .n = m[k].n};
            uint64_t seq;
            cmb_tree_empty(&b.tree, &root[k]);
            cmb_appender *app = bed_begin(&b);
            OK(cmb_tree_apply(&b.tree, &root[k], &e.source, app, &root[k], NULL));
            OK(cmb_log_publish(app, "edit", 4, &seq));
        }
        check_pair(&b, root, m, 1);
        model_clear(&m[0]);
        model_clear(&m[1]);
    }
    cmb_nodes_stats stats;
    cmb_nodes_get_stats(b.tree.nodes, &stats);
    assert_true(stats.copied > ROUNDS);
    bed_close(&b);
}

/* ---- what goes wrong ---- */

static void a_switch_out_of_order_is_refused(void **state)
{
    bed b;
    bed_open(&b, 256);
    cmb_noderef root;
    cmb_tree_empty(&b.tree, &root);
    cmb_editor *editor;
    cmb_appender *app = bed_begin(&b);
    OK(cmb_editor_open_two(&b.tree, &root, &root, app, &editor));
    cmb_edit e = put_edit((cmb_bytes){"b", 1}, (cmb_bytes){"value", 5});
    OK(cmb_editor_push(editor, &e));
    assert_int_equal(cmb_editor_switch(editor, true, (cmb_bytes){"b", 1}), CMB_EINVAL);
    assert_int_equal(cmb_editor_switch(editor, true, (cmb_bytes){"c", 1}), CMB_EINVAL); /* what is half done stays so */
    assert_int_equal(cmb_editor_finish(editor, &root), CMB_EINVAL);
    cmb_append_abort(app);
    bed_close(&b);
}

static void a_refused_allocation_is_a_clean_error(void **state)
{
    bed b;
    bed_open(&b, 256);
    model m[2] = {0};
    cmb_noderef root[2];
    for (unsigned k = 0; k < 2; k++) {
        fill(&m[k], 600, 256);
        load(&b, &m[k], &root[k]);
    }
    event events[60];
    size_t n = random_events(&b, m, events, CMB_COUNTOF(events));
    while (n < 20) {
        for (size_t k = 0; k < n; k++)
            pair_free(&events[k].edit);
        n = random_events(&b, m, events, CMB_COUNTOF(events));
    }
    miser bad = {.base = b.tree.alloc};
    cmb_allocator honest = b.tree.alloc;
    unsigned refused = 0;
    for (long grant = 0;; grant++) {
        cmb_noderef out = {.addr = 77};
        cmb_editor *editor;
        cmb_appender *app = bed_begin(&b);
        b.tree.alloc = miser_of(&bad, grant);
        int error = cmb_editor_open_two(&b.tree, &root[0], &root[1], app, &editor);
        if (!error) {
            push_events(editor, events, n);
            error = cmb_editor_finish(editor, &out);
        }
        b.tree.alloc = honest;
        assert_int_equal(bad.in_use, 0);
        cmb_append_abort(app);
        if (!error)
            break;
        assert_int_equal(error, CMB_ENOMEM);
        assert_int_equal(out.addr, 77);
        refused++;
    }
    assert_true(refused > 20);
    for (size_t k = 0; k < n; k++)
        pair_free(&events[k].edit);
    model_clear(&m[0]);
    model_clear(&m[1]);
    bed_close(&b);
}

static void trees_of_another_shape_do_no_harm(void **state)
{
    bed b;
    bed_open(&b, 512);
    model m[2] = {0};
    cmb_noderef root[2];
    for (unsigned k = 0; k < 2; k++) {
        fill(&m[k], 1200, 512);
        b.tree.seed = k; /* of two images, as it were */
        load(&b, &m[k], &root[k]);
    }
    cmb_tree honest = b.tree;
    for (unsigned i = 0; i < 60; i++) {
        b.tree.seed = i % 3;
        b.tree.target = 256 << (i % 5);
        event events[60];
        size_t n = random_events(&b, m, events, CMB_COUNTOF(events));
        cmb_editor *editor;
        cmb_noderef out;
        cmb_appender *app = bed_begin(&b);
        OK(cmb_editor_open_two(&b.tree, &root[0], &root[1], app, &editor));
        push_events(editor, events, n);
        int error = cmb_editor_finish(editor, &out);
        assert_true(error == 0 || error == CMB_ECORRUPT);
        cmb_append_abort(app);
        for (size_t k = 0; k < n; k++)
            pair_free(&events[k].edit);
        b.tree = honest;
    }
    model_clear(&m[0]);
    model_clear(&m[1]);
    bed_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges_of_two_trees_and_edits_give_a_fresh_build),
        cmocka_unit_test(edits_and_seams_at_any_distance_give_a_fresh_build),
        cmocka_unit_test(mined_keys_on_either_side_of_a_seam_give_a_fresh_build),
        cmocka_unit_test(nodes_that_are_queued_and_not_written_yet_are_spliced),
        cmocka_unit_test(a_switch_out_of_order_is_refused),
        cmocka_unit_test(a_refused_allocation_is_a_clean_error),
        cmocka_unit_test(trees_of_another_shape_do_no_harm),
    };
    rng_state = env_number("CMB_SEED", 20240703);
    cmocka_set_test_filter(getenv("CMB_TEST")); /* a pattern with * and ?; none: all */
    printf("CMB_SEED=%llu\n", (unsigned long long)rng_state);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
