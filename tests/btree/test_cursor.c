/* SPDX-License-Identifier: ISC */
/* A tree's cursor, against a sorted array. */
#include "reading.h"

static void walk_trees(cmb_residency residency)
{
    room r;
    for (unsigned round = 0; round < budget(18); round++) {
        room_open(&r, residency);
        unsigned style = round % KEY_STYLES;
        model m = {.n = 0};
        size_t n = round == 1 ? 0 : style == 4 ? 200 : 1 + below(below(2) ? 30 : 2000);
        for (size_t i = 0; i < n; i++) {
            cmb_edit edit = random_edit(style, NULL, false, 100);
            model_set(&m, &edit);
        }
        cmb_noderef root = room_build(&r, &m, 3 + (unsigned)below(below(2) ? 3 : 60));
        walker w = {.ops = &tree_walk};
        assert_int_equal(cmb_tree_cursor_open(&r.tree, &root, (cmb_tree_cursor **)&w.cursor), 0);
        for (int i = 0; i < 500; i++)
            walk_step(&w, &m, style);
        walk_all(&w, &m);
        cmb_tree_cursor_close(w.cursor);
        model_clear(&m);
        room_close(&r);
    }
}

static void every_move_lands_where_a_sorted_array_says_in_the_mapping(void **state)
{
    seed_rng(__func__);
    walk_trees(CMB_RESIDENCY_MAP);
}

static void every_move_lands_where_a_sorted_array_says_in_the_pool(void **state)
{
    seed_rng(__func__);
    walk_trees(CMB_RESIDENCY_POOL);
}

static void a_seek_may_be_given_the_key_it_stands_on(void **state)
{
    seed_rng(__func__);
    room r;
    room_open(&r, CMB_RESIDENCY_MAP);
    model m = {.n = 0};
    for (int i = 0; i < 300; i++) {
        cmb_edit edit = random_edit(5, NULL, false, 100);
        model_set(&m, &edit);
    }
    cmb_noderef root = room_build(&r, &m, 5);
    cmb_tree_cursor *c;
    assert_int_equal(cmb_tree_cursor_open(&r.tree, &root, &c), 0);
    for (size_t i = 0; i < m.n; i++) {
        assert_int_equal(cmb_tree_cursor_seek_nth(c, i), 0);
        cmb_bytes key = cmb_tree_cursor_key(c);
        assert_int_equal(i % 2 ? cmb_tree_cursor_seek_ge(c, key.data, key.size) : cmb_tree_cursor_seek_le(c, key.data, key.size), 0);
        assert_int_equal(cmb_tree_cursor_rank(c), i);
    }
    cmb_tree_cursor_close(c);
    model_clear(&m);
    room_close(&r);
}

static void without_memory_a_cursor_fails_cleanly_and_goes_on_when_there_is_some(void **state)
{
    seed_rng(__func__);
    room r;
    room_open(&r, CMB_RESIDENCY_MAP);
    model m = {.n = 0};
    for (int i = 0; i < 200; i++) {
        cmb_edit edit = random_edit(4, NULL, false, 100);
        model_set(&m, &edit);
    }
    cmb_noderef root = room_build(&r, &m, 4);
    bool failed = true;
    for (size_t k = 0; failed; k++) {
        walker w = {.ops = &tree_walk};
        r.counting.calls = 0;
        r.counting.fail_at = k;
        int error = cmb_tree_cursor_open(&r.tree, &root, (cmb_tree_cursor **)&w.cursor);
        failed = error != 0;
        if (!error) {
            int moved = cmb_tree_cursor_first(w.cursor);
            while (!moved)
                moved = cmb_tree_cursor_next(w.cursor);
            failed = moved != CMB_ENOTFOUND;
            assert_true(!failed || moved == CMB_ENOMEM);
            r.counting.fail_at = SIZE_MAX;
            walk_all(&w, &m);
            cmb_tree_cursor_close(w.cursor);
        }
        assert_int_equal(r.counting.live, 0);
    }
    r.counting.fail_at = SIZE_MAX;
    model_clear(&m);
    room_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_move_lands_where_a_sorted_array_says_in_the_mapping),
        cmocka_unit_test(every_move_lands_where_a_sorted_array_says_in_the_pool),
        cmocka_unit_test(a_seek_may_be_given_the_key_it_stands_on),
        cmocka_unit_test(without_memory_a_cursor_fails_cleanly_and_goes_on_when_there_is_some),
    };
    return cmocka_run_group_tests_name("btree/cursor", tests, NULL, NULL);
}
