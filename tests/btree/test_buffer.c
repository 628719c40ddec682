/* SPDX-License-Identifier: ISC */
/* A transaction's edits in memory, against a sorted array. */
#include "reading.h"

static counting memory;

static cmb_buffer *make_buffer(void)
{
    cmb_buffer *buffer;
    counting_init(&memory);
    assert_int_equal(cmb_buffer_create(&memory.alloc, &buffer), 0);
    return buffer;
}

static void assert_holds(cmb_buffer *buffer, const model *m, unsigned style)
{
    uint8_t key[CMB_KEY_MAX];
    cmb_edit edit;
    bool equal;
    assert_int_equal(cmb_buffer_count(buffer), m->n);
    for (size_t i = 0; i < m->n; i++) {
        assert_true(cmb_buffer_find(buffer, m->pairs[i].key, m->pairs[i].key_size, &edit));
        assert_edit(&edit, &m->pairs[i]);
    }
    for (int i = 0; i < 50; i++) {
        size_t size = random_key(style, key);
        size_t at = model_lower(m, key, size, &equal);
        assert_int_equal(cmb_buffer_find(buffer, key, size, &edit), equal);
        if (equal)
            assert_edit(&edit, &m->pairs[at]);
    }
}

static void assert_walks(cmb_buffer *buffer, const model *m)
{
    cmb_source *source;
    assert_int_equal(cmb_source_buffer(buffer, &source), 0);
    walker w = {.ops = &source_walk, .cursor = source};
    walk_all(&w, m);
    source->ops->close(source);
}

static void add(cmb_buffer *buffer, model *m, const cmb_edit *edit)
{
    assert_int_equal(cmb_buffer_add(buffer, edit), 0);
    model_set(m, edit);
}

static void the_last_edit_of_a_key_is_found_in_any_mixture_of_adding_and_reading(void **state)
{
    seed_rng(__func__);
    for (unsigned round = 0; round < budget(24); round++) {
        unsigned style = round % KEY_STYLES;
        size_t n = round % 4 == 0 && style != 4 ? 3000 : below(400), pause = 1 + below(below(2) ? 8 : 500);
        cmb_buffer *buffer = make_buffer();
        model m = {.n = 0};
        for (size_t i = 0; i < n; i++) {
            cmb_edit edit = random_edit(style, &m, true, 3000);
            add(buffer, &m, &edit);
            if (below(pause) == 0) {
                const pair *p = &m.pairs[below(m.n)];
                assert_true(cmb_buffer_find(buffer, p->key, p->key_size, &edit));
                assert_edit(&edit, p);
            }
        }
        if (below(2))
            assert_int_equal(cmb_buffer_seal(buffer), 0);
        assert_holds(buffer, &m, style);
        assert_walks(buffer, &m);
        cmb_buffer_destroy(buffer);
        assert_int_equal(memory.live, 0);
        model_clear(&m);
    }
}

static void many_keys_that_begin_alike_are_sorted(void **state)
{
    seed_rng(__func__);
    cmb_buffer *buffer = make_buffer();
    model m = {.n = 0};
    uint8_t key[64];
    for (unsigned i = 0; i < 4000; i++) { /* few distinct heads, at several depths, many times the same key */
        memset(key, 'p', sizeof key);
        key[10] = (uint8_t)below(3);
        key[19] = (uint8_t)below(3);
        key[40] = (uint8_t)below(40);
        cmb_edit edit = {.kind = CMB_EDIT_PUT, .key = {key, 10 + below(40)}, .value = {&i, sizeof i}};
        add(buffer, &m, &edit);
    }
    assert_holds(buffer, &m, 3);
    assert_walks(buffer, &m);
    cmb_buffer_destroy(buffer);
    model_clear(&m);
}

static void keys_added_in_order_either_way_are_found(void **state)
{
    for (int descending = 0; descending < 2; descending++) {
        cmb_buffer *buffer = make_buffer();
        model m = {.n = 0};
        for (uint32_t i = 0; i < 6000; i++) {
            uint8_t key[8];
            cmb_put64(key, CMB_BE64((uint64_t)(descending ? 6000 - i : i)));
            cmb_edit edit = {.kind = CMB_EDIT_PUT, .key = {key, 8}, .value = {key, 8}};
            add(buffer, &m, &edit);
            assert_true(cmb_buffer_find(buffer, key, 8, &edit));
        }
        assert_holds(buffer, &m, 1);
        assert_walks(buffer, &m);
        cmb_buffer_destroy(buffer);
        model_clear(&m);
    }
}

static void its_memory_is_what_the_allocator_gave_and_little_more_than_the_data(void **state)
{
    seed_rng(__func__);
    cmb_buffer *buffer = make_buffer();
    uint8_t value[150] = {0};
    for (size_t i = 0; i < 50000; i++) {
        uint8_t key[24];
        random_key(1, key);
        cmb_edit edit = {.kind = CMB_EDIT_PUT, .key = {key, 24}, .value = {value, 150}};
        assert_int_equal(cmb_buffer_add(buffer, &edit), 0);
        assert_int_equal(cmb_buffer_memory(buffer), memory.live);
    }
    assert_int_equal(cmb_buffer_seal(buffer), 0);
    assert_int_equal(cmb_buffer_memory(buffer), memory.live);
    assert_in_range(cmb_buffer_memory(buffer), 50000 * 174, 50000 * (174 + 32) + (3u << 20)); /* one block of each kind may be new */
    cmb_buffer_clear(buffer);
    assert_int_equal(cmb_buffer_memory(buffer), memory.live);
    assert_int_equal(cmb_buffer_count(buffer), 0);
    assert_in_range(memory.live, 1, 1024);
    cmb_buffer_destroy(buffer);
    assert_int_equal(memory.live, 0);
}

static void a_cleared_buffer_is_as_new(void **state)
{
    seed_rng(__func__);
    cmb_buffer *buffer = make_buffer();
    for (int round = 0; round < 3; round++) {
        model m = {.n = 0};
        for (int i = 0; i < 300; i++) {
            cmb_edit edit = random_edit(5, &m, true, 100);
            add(buffer, &m, &edit);
        }
        assert_holds(buffer, &m, 5);
        model_clear(&m);
        cmb_buffer_clear(buffer);
        assert_holds(buffer, &m, 5);
    }
    cmb_buffer_destroy(buffer);
}

static void without_memory_nothing_is_lost_and_lookups_still_answer(void **state)
{
    seed_rng(__func__);
    for (size_t k = 0;; k++) {
        cmb_buffer *buffer = make_buffer();
        model m = {.n = 0};
        bool failed = false;
        memory.calls = 0;
        memory.fail_at = k;
        for (int i = 0; i < 600; i++) {
            cmb_edit edit = random_edit(5, &m, true, 500), got;
            int r = cmb_buffer_add(buffer, &edit);
            failed |= r != 0;
            assert_true(r == 0 || r == CMB_ENOMEM);
            if (!r)
                model_set(&m, &edit);
            if (m.n && below(150) == 0) {
                const pair *p = &m.pairs[below(m.n)];
                assert_true(cmb_buffer_find(buffer, p->key, p->key_size, &got));
                assert_edit(&got, p);
            }
        }
        int r = cmb_buffer_seal(buffer);
        failed |= r != 0;
        assert_true(r == 0 || r == CMB_ENOMEM);
        for (size_t i = 0; i < m.n; i += 1 + below(20)) {
            cmb_edit got;
            assert_true(cmb_buffer_find(buffer, m.pairs[i].key, m.pairs[i].key_size, &got));
            assert_edit(&got, &m.pairs[i]);
        }
        memory.fail_at = SIZE_MAX;
        assert_holds(buffer, &m, 5);
        cmb_buffer_destroy(buffer);
        assert_int_equal(memory.live, 0);
        model_clear(&m);
        if (!failed)
            break;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_edit_of_a_key_is_found_in_any_mixture_of_adding_and_reading),
        cmocka_unit_test(many_keys_that_begin_alike_are_sorted),
        cmocka_unit_test(keys_added_in_order_either_way_are_found),
        cmocka_unit_test(its_memory_is_what_the_allocator_gave_and_little_more_than_the_data),
        cmocka_unit_test(a_cleared_buffer_is_as_new),
        cmocka_unit_test(without_memory_nothing_is_lost_and_lookups_still_answer),
    };
    return cmocka_run_group_tests_name("btree/buffer", tests, NULL, NULL);
}
