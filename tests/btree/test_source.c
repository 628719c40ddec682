/* SPDX-License-Identifier: ISC */
/* Edits in key order: of a buffer that still grows, of runs, and merged. */
#include "reading.h"

static void add_some(cmb_buffer *buffer, model *m, unsigned style, size_t n, size_t value_max)
{
    while (n-- > 0) {
        cmb_edit edit = random_edit(style, m, true, value_max);
        assert_int_equal(cmb_buffer_add(buffer, &edit), 0);
        model_set(m, &edit);
    }
}

static void a_buffers_source_keeps_its_place_by_key_while_edits_are_added(void **state)
{
    seed_rng(__func__);
    for (unsigned round = 0; round < budget(12); round++) {
        unsigned style = round % KEY_STYLES;
        counting memory;
        counting_init(&memory);
        cmb_buffer *buffer;
        model m = {.n = 0};
        walker w = {.ops = &source_walk};
        assert_int_equal(cmb_buffer_create(&memory.alloc, &buffer), 0);
        assert_int_equal(cmb_source_buffer(buffer, (cmb_source **)&w.cursor), 0);
        for (int i = 0; i < 300; i++) {
            if (below(4) == 0) {
                /* the model's place moves with the key it stands on */
                bool on = w.placed && w.at >= 0 && w.at < (long)m.n, after = w.placed && w.at == (long)m.n;
                uint8_t key[CMB_KEY_MAX];
                size_t size = on ? m.pairs[w.at].key_size : 0;
                if (on)
                    memcpy(key, m.pairs[w.at].key, size);
                add_some(buffer, &m, style, below(10) ? below(5) : below(400), 200);
                w.at = on ? (long)model_lower(&m, key, size, NULL) : after ? (long)m.n : w.at;
            }
            walk_step(&w, &m, style);
        }
        walk_all(&w, &m);
        ((cmb_source *)w.cursor)->ops->close(w.cursor);
        cmb_buffer_destroy(buffer);
        assert_int_equal(memory.live, 0);
        model_clear(&m);
    }
}

static cmb_noderef write_run(room *r, cmb_buffer *buffer)
{
    cmb_source *source;
    cmb_noderef run;
    assert_int_equal(cmb_source_buffer(buffer, &source), 0);
    assert_int_equal(cmb_run_write(&r->tree, r->stream, source, &run), 0);
    source->ops->close(source);
    return run;
}

static void a_run_gives_back_the_edits_it_was_written_from(void **state)
{
    seed_rng(__func__);
    room r;
    for (unsigned round = 0; round < budget(12); round++) {
        unsigned style = round % KEY_STYLES;
        room_open(&r, round % 2 ? CMB_RESIDENCY_POOL : CMB_RESIDENCY_MAP);
        cmb_buffer *buffer;
        model m = {.n = 0};
        assert_int_equal(cmb_buffer_create(&r.tree.alloc, &buffer), 0);
        add_some(buffer, &m, style, round == 0 ? 0 : below(style == 4 ? 100 : 3000), cmb_tree_inline_max(&r.tree));
        cmb_noderef run = write_run(&r, buffer);
        assert_int_equal(run.count, m.n);
        walker w = {.ops = &source_walk};
        assert_int_equal(cmb_source_run(&r.tree, &run, (cmb_source **)&w.cursor), 0);
        for (int i = 0; i < 200; i++)
            walk_step(&w, &m, style);
        walk_all(&w, &m);
        ((cmb_source *)w.cursor)->ops->close(w.cursor);
        cmb_pin pin = {.record = NULL};
        for (int i = 0; i < 300; i++) {
            cmb_edit near = random_edit(style, &m, false, 10), got;
            bool equal, hit;
            size_t at = model_lower(&m, near.key.data, near.key.size, &equal);
            assert_int_equal(cmb_run_find(&r.tree, &run, near.key.data, near.key.size, &pin, &hit, &got), 0);
            assert_int_equal(hit, equal);
            if (hit)
                assert_edit(&got, &m.pairs[at]);
        }
        cmb_pin_destroy(r.tree.nodes, &pin);
        cmb_buffer_destroy(buffer);
        model_clear(&m);
        room_close(&r);
    }
}

static void a_run_puts_values_too_large_for_a_leaf_out_of_line(void **state)
{
    static uint8_t value[3 << 20];
    room r;
    cmb_edit got;
    cmb_pin pin = {.record = NULL};
    cmb_buffer *buffer;
    room_open(&r, CMB_RESIDENCY_MAP);
    const size_t most = cmb_tree_inline_max(&r.tree), sizes[] = {most, most + 1, sizeof value};
    assert_int_equal(cmb_buffer_create(&r.tree.alloc, &buffer), 0);
    for (size_t i = 0; i < CMB_COUNTOF(sizes); i++) {
        uint8_t key = (uint8_t)('a' + i);
        cmb_edit edit = {.kind = CMB_EDIT_PUT, .key = {&key, 1}, .value = {value, sizes[i]}};
        assert_int_equal(cmb_buffer_add(buffer, &edit), 0);
    }
    cmb_noderef run = write_run(&r, buffer);
    for (size_t i = 0; i < CMB_COUNTOF(sizes); i++) {
        uint8_t key = (uint8_t)('a' + i);
        bool hit;
        assert_int_equal(cmb_run_find(&r.tree, &run, &key, 1, &pin, &hit, &got), 0);
        assert_true(hit);
        assert_int_equal(got.kind, i == 0 ? CMB_EDIT_PUT : CMB_EDIT_PUT_FAR);
        assert_int_equal(i == 0 ? got.value.size : got.valref.size, sizes[i]);
    }
    cmb_pin_destroy(r.tree.nodes, &pin);
    cmb_buffer_destroy(buffer);
    room_close(&r);
}

static void merged_sources_show_the_newest_edit_of_each_key(void **state)
{
    seed_rng(__func__);
    for (unsigned round = 0; round < budget(12); round++) {
        unsigned style = round % KEY_STYLES;
        size_t n = below(8);
        counting memory;
        counting_init(&memory);
        cmb_buffer *buffers[8];
        cmb_source *newest_first[8];
        model m = {.n = 0};
        for (size_t i = n; i-- > 0;) { /* the oldest first, so that the model ends with the newest */
            model own = {.n = 0};
            assert_int_equal(cmb_buffer_create(&memory.alloc, &buffers[i]), 0);
            add_some(buffers[i], &own, style, below(style == 4 ? 20 : 200), 100);
            for (size_t k = 0; k < own.n; k++) {
                const pair *p = &own.pairs[k];
                model_set(&m, &(cmb_edit){p->kind, {p->key, p->key_size}, {p->value, p->value_size}, p->valref});
            }
            model_clear(&own);
            assert_int_equal(cmb_source_buffer(buffers[i], &newest_first[i]), 0);
        }
        walker w = {.ops = &source_walk};
        assert_int_equal(cmb_source_merge(&memory.alloc, newest_first, n, (cmb_source **)&w.cursor), 0);
        for (int i = 0; i < 300; i++)
            walk_step(&w, &m, style);
        walk_all(&w, &m);
        ((cmb_source *)w.cursor)->ops->close(w.cursor);
        for (size_t i = 0; i < n; i++)
            cmb_buffer_destroy(buffers[i]);
        assert_int_equal(memory.live, 0);
        model_clear(&m);
    }
}

static void without_memory_a_run_is_not_written_and_nothing_leaks(void **state)
{
    seed_rng(__func__);
    room r;
    room_open(&r, CMB_RESIDENCY_MAP);
    counting memory;
    counting_init(&memory);
    cmb_buffer *buffer;
    cmb_source *source;
    model m = {.n = 0};
    assert_int_equal(cmb_buffer_create(&memory.alloc, &buffer), 0);
    add_some(buffer, &m, 4, 200, 1000);
    assert_int_equal(cmb_source_buffer(buffer, &source), 0);
    int error = CMB_ENOMEM;
    for (size_t k = 0; error; k++) {
        cmb_noderef run;
        r.counting.calls = 0;
        r.counting.fail_at = k;
        error = cmb_run_write(&r.tree, r.stream, source, &run);
        assert_true(error == 0 || error == CMB_ENOMEM);
        assert_int_equal(r.counting.live, 0);
    }
    r.counting.fail_at = SIZE_MAX;
    source->ops->close(source);
    cmb_buffer_destroy(buffer);
    model_clear(&m);
    room_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_buffers_source_keeps_its_place_by_key_while_edits_are_added),
        cmocka_unit_test(a_run_gives_back_the_edits_it_was_written_from),
        cmocka_unit_test(a_run_puts_values_too_large_for_a_leaf_out_of_line),
        cmocka_unit_test(merged_sources_show_the_newest_edit_of_each_key),
        cmocka_unit_test(without_memory_a_run_is_not_written_and_nothing_leaks),
    };
    return cmocka_run_group_tests_name("btree/source", tests, NULL, NULL);
}
