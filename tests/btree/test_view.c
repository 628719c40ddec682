/* SPDX-License-Identifier: ISC */
/* A tree with intents, runs and a buffer over it, against a sorted array to which all of them were applied. */
#include "reading.h"

#include "btree/intents.h"

#define RUNS_MAX 6u

typedef struct stack {
    room room;
    cmb_view view;
    cmb_intents *intents; /* the view's and younger ones; NULL: none */
    cmb_noderef runs[RUNS_MAX];
    model m; /* what the view shows */
    unsigned style;
} stack;

static void apply_one(model *m, const cmb_edit *edit)
{
    model one = {.n = 0};
    model_set(&one, edit);
    model_apply(m, &one);
    model_clear(&one);
}

static void write_into(stack *s, size_t n)
{
    while (n-- > 0) {
        cmb_edit edit = random_edit(s->style, &s->m, true, 200);
        assert_int_equal(cmb_buffer_add(s->view.buffer, &edit), 0);
        apply_one(&s->m, &edit);
    }
}

/* Adds units of one edit to the list; those the view sees go to the model too. */
static void write_intents(stack *s, size_t n, bool visible)
{
    uint64_t seq = cmb_intents_newest(s->intents);
    while (n-- > 0) {
        cmb_edit edit = random_edit(s->style, &s->m, true, 200);
        if (edit.kind == CMB_EDIT_PUT_FAR)
            edit.kind = CMB_EDIT_PUT;
        assert_int_equal(cmb_intents_reserve(s->intents, 1, edit.key.size + edit.value.size), 0);
        cmb_intents_add(s->intents, seq += 1 + below(3), &edit);
        if (visible)
            apply_one(&s->m, &edit);
    }
    if (visible)
        s->view.intents_upto = seq;
}

static void give_intents(stack *s, size_t seen, size_t younger)
{
    assert_int_equal(cmb_intents_create(&s->room.tree.alloc, &s->intents), 0);
    s->view.intents = s->intents;
    write_intents(s, seen, true);
    write_intents(s, younger, false);
}

/* The buffer becomes the newest run. */
static void spill(stack *s)
{
    cmb_source *source;
    assert_int_equal(cmb_source_buffer(s->view.buffer, &source), 0);
    assert_int_equal(cmb_run_write(&s->room.tree, s->room.stream, source, &s->runs[s->view.run_count]), 0);
    source->ops->close(source);
    s->view.run_count++;
    cmb_buffer_clear(s->view.buffer);
}

static void stack_open(stack *s, unsigned style, size_t in_tree, bool intents, size_t runs, size_t each, cmb_residency residency)
{
    memset(s, 0, sizeof *s);
    s->style = style;
    room_open(&s->room, residency);
    for (size_t i = 0; i < in_tree; i++) {
        cmb_edit edit = random_edit(style, NULL, false, 200);
        model_set(&s->m, &edit);
    }
    s->view = (cmb_view){.tree = &s->room.tree, .runs = s->runs};
    s->view.root = room_build(&s->room, &s->m, 10);
    assert_int_equal(cmb_buffer_create(&s->room.tree.alloc, &s->view.buffer), 0);
    if (intents)
        give_intents(s, below(3) ? below(each) : 0, below(each));
    for (size_t i = 0; i < runs; i++) {
        write_into(s, below(each));
        spill(s);
    }
}

static void stack_close(stack *s)
{
    cmb_buffer_destroy(s->view.buffer);
    cmb_intents_release(s->intents);
    room_close(&s->room);
    model_clear(&s->m);
}

static void stack_random(stack *s, unsigned round)
{
    unsigned style = round % KEY_STYLES;
    size_t most = style == 4 ? 40 : 500;
    stack_open(s, style, below(4) ? below(most) : 0, below(2), below(4), 1 + below(most / 2), round % 2 ? CMB_RESIDENCY_POOL : CMB_RESIDENCY_MAP);
    if (below(4))
        write_into(s, below(most / 2));
}

static void a_lookup_sees_the_newest_edit_or_the_tree(void **state)
{
    seed_rng(__func__);
    for (unsigned round = 0; round < budget(18); round++) {
        stack s;
        stack_random(&s, round);
        cmb_pin pins[50];
        cmb_bytes keys[50];
        cmb_found found[50];
        int results[50];
        static uint8_t bytes[50][CMB_KEY_MAX];
        memset(pins, 0, sizeof pins);
        for (int i = 0; i < 50; i++) {
            cmb_edit near = random_edit(s.style, &s.m, false, 1);
            memcpy(bytes[i], near.key.data, near.key.size);
            keys[i] = (cmb_bytes){bytes[i], near.key.size};
        }
        cmb_view_get_many(&s.view, keys, 50, pins, found, results);
        for (int twice = 0; twice < 2; twice++) /* together, then one by one */
            for (int i = 0; i < 50; i++) {
                bool equal;
                size_t at = model_lower(&s.m, keys[i].data, keys[i].size, &equal);
                if (twice)
                    results[i] = cmb_view_get(&s.view, keys[i].data, keys[i].size, &pins[i], &found[i]);
                assert_int_equal(results[i], equal ? 0 : CMB_ENOTFOUND);
                if (equal)
                    assert_found(&found[i], &s.m.pairs[at]);
            }
        for (int i = 0; i < 50; i++)
            cmb_pin_destroy(s.room.tree.nodes, &pins[i]);
        stack_close(&s);
    }
}

static void a_cursor_walks_the_merged_entries_both_ways(void **state)
{
    seed_rng(__func__);
    for (unsigned round = 0; round < budget(18); round++) {
        stack s;
        stack_random(&s, round);
        walker w = {.ops = &view_walk};
        assert_int_equal(cmb_view_cursor_open(&s.view, (cmb_view_cursor **)&w.cursor), 0);
        for (int i = 0; i < 300; i++) {
            if (s.intents && below(10) == 0)
                write_intents(&s, below(5), false);
            walk_step(&w, &s.m, s.style);
        }
        walk_all(&w, &s.m);
        cmb_view_cursor_close(w.cursor);
        stack_close(&s);
    }
}

/* After changes the model's place is between its neighbours when the key is gone: the next move lands on one of them. */
static void move_after_change(stack *s, walker *w, const uint8_t *key, size_t size)
{
    bool equal, back = below(2);
    long at = (long)model_lower(&s->m, key, size, &equal);
    cmb_found found;
    if (below(2)) {
        int r = cmb_view_cursor_value(w->cursor, &found);
        assert_int_equal(r, equal ? 0 : CMB_ENOTFOUND);
        if (equal)
            assert_found(&found, &s->m.pairs[at]);
    }
    w->at = back ? at - 1 : at + equal;
    int r = back ? cmb_view_cursor_prev(w->cursor) : cmb_view_cursor_next(w->cursor);
    bool inside = w->at >= 0 && w->at < (long)s->m.n;
    assert_int_equal(r, inside ? 0 : CMB_ENOTFOUND);
    if (inside)
        view_walk.check(w->cursor, &s->m, (size_t)w->at);
}

static void change(stack *s, walker *w)
{
    uint8_t key[CMB_KEY_MAX];
    size_t size = 0;
    bool on = w->placed && w->at >= 0 && w->at < (long)s->m.n, after = w->placed && w->at == (long)s->m.n;
    if (on) {
        size = s->m.pairs[w->at].key_size;
        memcpy(key, s->m.pairs[w->at].key, size);
    }
    write_into(s, 1 + below(10));
    cmb_view_cursor_invalidate(w->cursor);
    if (s->view.run_count < RUNS_MAX && below(6) == 0) {
        spill(s);
        assert_int_equal(cmb_view_cursor_rebind(w->cursor, &s->view), 0);
    }
    if (on)
        move_after_change(s, w, key, size);
    else if (after)
        w->at = (long)s->m.n;
}

static void a_cursor_keeps_its_place_by_key_over_writes_and_spills(void **state)
{
    seed_rng(__func__);
    for (unsigned round = 0; round < budget(18); round++) {
        stack s;
        stack_random(&s, round);
        if (round % 3 == 0) { /* from no edits at all */
            stack_close(&s);
            stack_open(&s, round % KEY_STYLES, below(100), false, 0, 1, CMB_RESIDENCY_MAP);
        }
        walker w = {.ops = &view_walk};
        assert_int_equal(cmb_view_cursor_open(&s.view, (cmb_view_cursor **)&w.cursor), 0);
        for (int i = 0; i < 200; i++) {
            if (below(4) == 0)
                change(&s, &w);
            walk_step(&w, &s.m, s.style);
        }
        walk_all(&w, &s.m);
        cmb_view_cursor_close(w.cursor);
        stack_close(&s);
    }
}

static void ranges_are_counted_through_the_edits(void **state)
{
    seed_rng(__func__);
    for (unsigned round = 0; round < budget(12); round++) {
        stack s;
        stack_random(&s, round);
        uint8_t keys[2][CMB_KEY_MAX];
        for (int i = 0; i < 30; i++) {
            uint64_t count, at[2] = {0, s.m.n};
            cmb_bytes ends[2] = {{NULL, 0}, {NULL, 0}};
            for (int e = 0; e < 2; e++)
                if (below(4)) {
                    cmb_edit near = random_edit(s.style, &s.m, false, 1);
                    memcpy(keys[e], near.key.data, near.key.size);
                    ends[e] = (cmb_bytes){keys[e], near.key.size};
                    at[e] = model_lower(&s.m, keys[e], near.key.size, NULL);
                }
            assert_int_equal(cmb_view_count_range(&s.view, &ends[0], &ends[1], &count), 0);
            assert_int_equal(count, at[1] > at[0] ? at[1] - at[0] : 0);
        }
        stack_close(&s);
    }
}

/* One cursor, one get_many: all that a reader does with a view, held against a model. */
static void assert_shows(stack *s, const cmb_view *view, const model *m)
{
    enum { KEYS = 70 };
    static uint8_t bytes[KEYS][CMB_KEY_MAX];
    cmb_bytes keys[KEYS];
    cmb_pin pins[KEYS];
    cmb_found found[KEYS];
    int results[KEYS];
    uint64_t count;
    walker w = {.ops = &view_walk};
    memset(pins, 0, sizeof pins);
    for (int i = 0; i < KEYS; i++) {
        cmb_edit near = random_edit(s->style, i % 2 ? m : &s->m, false, 1);
        memcpy(bytes[i], near.key.data, near.key.size);
        keys[i] = (cmb_bytes){bytes[i], near.key.size};
    }
    cmb_view_get_many(view, keys, KEYS, pins, found, results);
    for (int i = 0; i < KEYS; i++) {
        bool equal;
        size_t at = model_lower(m, keys[i].data, keys[i].size, &equal);
        assert_int_equal(results[i], equal ? 0 : CMB_ENOTFOUND);
        if (equal)
            assert_found(&found[i], &m->pairs[at]);
        assert_int_equal(cmb_view_get(view, keys[i].data, keys[i].size, &pins[i], &found[i]), results[i]);
        if (equal)
            assert_found(&found[i], &m->pairs[at]);
        assert_int_equal(cmb_view_count_range(view, NULL, &keys[i], &count), 0);
        assert_int_equal(count, at);
        assert_int_equal(cmb_view_count_range(view, &keys[i], NULL, &count), 0);
        assert_int_equal(count, m->n - at);
        cmb_pin_destroy(s->room.tree.nodes, &pins[i]);
    }
    assert_int_equal(cmb_view_cursor_open(view, (cmb_view_cursor **)&w.cursor), 0);
    for (int i = 0; i < 60; i++)
        walk_step(&w, m, s->style);
    walk_all(&w, m);
    cmb_view_cursor_close(w.cursor);
}

static void views_of_one_list_show_the_tree_with_the_intents_up_to_their_numbers(void **state)
{
    enum { VIEWS = 5 };
    seed_rng(__func__);
    for (unsigned round = 0; round < budget(12); round++) {
        stack s;
        unsigned style = round % KEY_STYLES;
        size_t most = style == 4 ? 20 : 200;
        stack_open(&s, style, below(4) ? below(most) : 0, true, 0, 1, round % 2 ? CMB_RESIDENCY_POOL : CMB_RESIDENCY_MAP);
        cmb_view views[VIEWS];
        model m[VIEWS] = {{.n = 0}};
        for (int i = 0; i < VIEWS; i++) {
            views[i] = s.view;
            views[i].buffer = NULL;
            model_apply(&m[i], &s.m);
            write_intents(&s, below(most / 2), true);
        }
        for (int i = 0; i < VIEWS; i++) {
            assert_shows(&s, &views[i], &m[i]);
            model_clear(&m[i]);
        }
        assert_shows(&s, &s.view, &s.m);
        stack_close(&s);
    }
}

static void a_cursor_goes_on_at_its_key_when_its_intents_are_in_the_tree(void **state)
{
    seed_rng(__func__);
    for (unsigned round = 0; round < budget(12); round++) {
        stack s;
        stack_open(&s, round % KEY_STYLES, below(100), true, 0, 1, CMB_RESIDENCY_MAP);
        write_intents(&s, below(100), true);
        cmb_view merged = {.tree = s.view.tree, .root = room_build(&s.room, &s.m, 10)};
        const cmb_view from = s.view;
        walker w = {.ops = &view_walk};
        assert_int_equal(cmb_view_cursor_open(&from, (cmb_view_cursor **)&w.cursor), 0);
        for (int i = 0; i < 100; i++) {
            walk_step(&w, &s.m, s.style);
            if (below(8) == 0) /* there, and back again */
                assert_int_equal(cmb_view_cursor_rebind(w.cursor, below(2) ? &merged : &from), 0);
        }
        walk_all(&w, &s.m);
        cmb_view_cursor_close(w.cursor);
        stack_close(&s);
    }
}

static void without_memory_a_view_fails_cleanly_at_every_allocation(void **state)
{
    seed_rng(__func__);
    stack s;
    stack_open(&s, 5, 100, true, 2, 60, CMB_RESIDENCY_MAP);
    write_into(&s, 30);
    const size_t others = s.room.counting.live - cmb_buffer_memory(s.view.buffer); /* the buffer's own grows when it sorts */
    bool failed = true;
    for (size_t k = 0; failed; k++) {
        walker w = {.ops = &view_walk};
        uint64_t count;
        s.room.counting.calls = 0;
        s.room.counting.fail_at = k;
        int r = cmb_view_cursor_open(&s.view, (cmb_view_cursor **)&w.cursor);
        failed = r != 0;
        assert_true(r == 0 || r == CMB_ENOMEM);
        if (!r) {
            for (r = cmb_view_cursor_first(w.cursor); !r;)
                r = cmb_view_cursor_next(w.cursor);
            failed = r != CMB_ENOTFOUND;
            assert_true(!failed || r == CMB_ENOMEM);
            r = cmb_view_count_range(&s.view, NULL, NULL, &count);
            failed |= r != 0;
            assert_true(r ? r == CMB_ENOMEM : count == s.m.n);
            s.room.counting.fail_at = SIZE_MAX;
            walk_all(&w, &s.m);
            cmb_view_cursor_close(w.cursor);
        }
        assert_int_equal(s.room.counting.live, others + cmb_buffer_memory(s.view.buffer));
    }
    s.room.counting.fail_at = SIZE_MAX;
    stack_close(&s);
}

static void a_cursor_over_intents_alone_turns_and_seeks_without_memory(void **state)
{
    seed_rng(__func__);
    for (unsigned round = 0; round < budget(6); round++) {
        stack s;
        stack_open(&s, round % KEY_STYLES, below(60), true, 0, 1, CMB_RESIDENCY_MAP);
        write_intents(&s, 1 + below(60), true);
        cmb_view view = s.view;
        walker w = {.ops = &view_walk};
        view.buffer = NULL;
        assert_int_equal(cmb_view_cursor_open(&view, (cmb_view_cursor **)&w.cursor), 0);
        walk_all(&w, &s.m); /* the tree's cursor has met its longest key */
        s.room.counting.fail_at = 0;
        for (int i = 0; i < 100; i++)
            walk_step(&w, &s.m, s.style);
        s.room.counting.fail_at = SIZE_MAX;
        cmb_view_cursor_close(w.cursor);
        stack_close(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lookup_sees_the_newest_edit_or_the_tree),
        cmocka_unit_test(a_cursor_walks_the_merged_entries_both_ways),
        cmocka_unit_test(a_cursor_keeps_its_place_by_key_over_writes_and_spills),
        cmocka_unit_test(ranges_are_counted_through_the_edits),
        cmocka_unit_test(views_of_one_list_show_the_tree_with_the_intents_up_to_their_numbers),
        cmocka_unit_test(a_cursor_goes_on_at_its_key_when_its_intents_are_in_the_tree),
        cmocka_unit_test(a_cursor_over_intents_alone_turns_and_seeks_without_memory),
        cmocka_unit_test(without_memory_a_view_fails_cleanly_at_every_allocation),
    };
    return cmocka_run_group_tests_name("btree/view", tests, NULL, NULL);
}
