/* SPDX-License-Identifier: ISC */
/* shape.h: a tree passes exactly if a fresh build of its entries gives the same one; whatever order its nodes are looked at in. */
#include <limits.h>

#include "bed.h"

#include "btree/boundary.h"
#include "btree/shape.h"

/* ---- trees that are built by hand, with a mistake in them ---- */

typedef struct item {
    uint8_t key[40];
    uint32_t key_size, value_size;
    cmb_noderef child; /* above the leaves */
} item;

typedef struct level {
    item *items;
    size_t n;
    struct { size_t last; bool cut; } *ends; /* numbers from 1 */
    size_t n_ends;
} level;

typedef struct builder {
    bed *b;
    unsigned number; /* of the level */
    level *lv;
} builder;

static uint32_t bytes_of(const builder *k, uint64_t index)
{
    const item *it = &k->lv->items[index - 1];
    return it->key_size + (k->number ? CMB_LOGICAL_CHILD : it->value_size + CMB_LOGICAL_LEAF);
}
static uint64_t hash_of(void *ctx, uint64_t index, unsigned round)
{
    builder *k = ctx;
    const item *it = &k->lv->items[index - 1];
    return cmb_boundary_hash(k->b->tree.seed, k->number, round, it->key, it->key_size);
}
static uint32_t op_bytes(void *ctx, uint64_t index)
{
    return bytes_of(ctx, index);
}
static int op_node(void *ctx, uint64_t last, bool cut)
{
    builder *k = ctx;
    k->lv->ends[k->lv->n_ends].last = last;
    k->lv->ends[k->lv->n_ends++].cut = cut;
    return 0;
}

static void decide(builder *k)
{
    static const cmb_decider_ops ops = {hash_of, op_bytes, op_node};
    cmb_decider d;
    k->lv->ends = calloc(k->lv->n + 1, sizeof *k->lv->ends);
    k->lv->n_ends = 0;
    cmb_decider_init(&d, &k->b->tree.alloc, k->b->tree.target, k->number > 0, &ops, k);
    cmb_decider_start(&d);
    for (size_t i = 1; i <= k->lv->n; i++)
        OK(cmb_decider_push(&d, hash_of(k, i, 0), bytes_of(k, i)));
    OK(cmb_decider_finish_level(&d));
    cmb_decider_destroy(&d);
}

/* One end is moved, dropped, added or said to be of another kind. */
static void mistake(level *lv)
{
    size_t i = below(lv->n_ends);
    switch (below(4)) {
    case 0: /* two nodes are one */
        if (lv->n_ends < 2)
            return;
        i = below(lv->n_ends - 1);
        memmove(&lv->ends[i], &lv->ends[i + 1], (--lv->n_ends - i) * sizeof *lv->ends);
        return;
    case 1: { /* one is two */
        size_t from = i ? lv->ends[i - 1].last : 0, n = lv->ends[i].last - from;
        if (n < 2)
            return;
        memmove(&lv->ends[i + 1], &lv->ends[i], (lv->n_ends++ - i) * sizeof *lv->ends);
        lv->ends[i].last = from + 1 + below(n - 1);
        lv->ends[i].cut = below(2);
        return;
    }
    case 2: /* an end lies elsewhere */
        if (i + 1 < lv->n_ends && lv->ends[i].last + 1 < lv->ends[i + 1].last)
            lv->ends[i].last++;
        return;
    default:
        lv->ends[i].cut = !lv->ends[i].cut;
    }
}

/* Writes the nodes of a level; the level above gets them. */
static void write_level(builder *k, cmb_appender *app, level *above)
{
    static cmb_entry entries[CMB_NODE_COUNT_MAX];
    static const uint8_t zeros[4096];
    cmb_node_buffer buffer = {0};
    const level *lv = k->lv;
    above->items = calloc(lv->n_ends, sizeof *above->items);
    above->n = lv->n_ends;
    for (size_t e = 0, at = 0; e < lv->n_ends; e++) {
        size_t n = lv->ends[e].last - at;
        item *up = &above->items[e];
        for (size_t i = 0; i < n; i++) {
            const item *it = &lv->items[at + i];
            entries[i] = (cmb_entry){.key = it->key, .key_size = it->key_size, .value_size = it->value_size, .value = zeros};
            if (k->number)
                entries[i] = (cmb_entry){.key = it->key, .key_size = it->key_size, .child = &it->child};
        }
        *up = lv->items[at + n - 1];
        OK(cmb_node_encode(&k->b->tree.alloc, CMB_HASH_XXH3, k->number, entries, (uint32_t)n, &buffer, &up->child));
        void *room;
        OK(cmb_append(app, up->child.length, &up->child.addr, &room));
        memcpy(room, buffer.data, up->child.length);
        cmb_node_place(room, up->child.addr);
        up->child.cut = lv->ends[e].cut;
        at += n;
    }
    cmb_release(&k->b->tree.alloc, buffer.data, buffer.capacity);
}

/* A tree of these entries, with a mistake on one level (wrong: which; UINT_MAX: none). */
static void build(bed *b, const item *items, size_t n, unsigned wrong, cmb_noderef *out_root)
{
    level lv = {.items = malloc(n * sizeof *items), .n = n};
    memcpy(lv.items, items, n * sizeof *items);
    cmb_appender *app = bed_begin(b);
    for (unsigned number = 0;; number++) {
        level above = {0};
        builder k = {b, number, &lv};
        decide(&k);
        if (number == wrong)
            mistake(&lv);
        write_level(&k, app, &above);
        free(lv.items);
        free(lv.ends);
        lv = above;
        if (lv.n == 1)
            break;
    }
    *out_root = lv.items[0].child;
    out_root->cut = false;
    free(lv.items);
    bed_commit(b);
}

static size_t make_items(item *items, size_t n, uint32_t value_max)
{
    uint64_t number = 0;
    for (size_t i = 0; i < n; i++) {
        item *it = &items[i];
        *it = (item){0};
        number += 1 + below(1000);
        it->key_size = (uint32_t)snprintf((char *)it->key, sizeof it->key, below(8) ? "key/%012llu" : "key/%012llu/with more", (unsigned long long)number);
        it->value_size = below(value_max + 1);
    }
    return n;
}

static void fresh(bed *b, const item *items, size_t n, cmb_noderef *out_root)
{
    static const uint8_t zeros[4096];
    cmb_edit *edit = calloc(n, sizeof *edit);
    for (size_t i = 0; i < n; i++)
        edit[i] = (cmb_edit){.kind = CMB_EDIT_PUT, .key = {items[i].key, items[i].key_size}, .value = {zeros, items[i].value_size}};
    cmb_tree_empty(&b->tree, out_root);
    apply(b, out_root, edit, n, NULL);
    free(edit);
}

static void a_tree_passes_exactly_if_a_fresh_build_gives_the_same_one(void **state)
{
    unsigned right = 0, wrong = 0;
    uint64_t rounds = 120 * env_number("CMB_BUDGET", 1);
    (void)state;
    for (uint64_t r = 0; r < rounds; r++) {
        static item items[1500];
        uint32_t target = 256u << below(3);
        bed b;
        cmb_noderef expected, root;
        bed_open(&b, target);
        b.tree.seed = rng();
        size_t n = make_items(items, 1 + below(CMB_COUNTOF(items)), below(4) ? target / 8 : target / 4);
        fresh(&b, items, n, &expected);
        OK(cmb_tree_check_shape(&b.tree, &expected));
        build(&b, items, n, below(4) ? below(expected.level + 1u) : UINT_MAX, &root);
        bool same = cmb_name_equal(&root.name, &expected.name);
        int error = cmb_tree_check_shape(&b.tree, &root);
        if (same ? error != 0 : error != CMB_ECORRUPT)
            fail_msg("round %llu: %zu entries, target %u: %s, and the check says %s (%s)", (unsigned long long)r, n, target,
                     same ? "the same" : "another", cmb_error_name(error), cmb_error_detail());
        right += same;
        wrong += !same;
        bed_close(&b);
    }
    assert_true(right > 10 && wrong > 20);
}

/* ---- trees that share nodes ---- */

typedef struct known {
    uint64_t done[4096];
    size_t n_done, passed;
} known;

static int on_done(void *ctx, uint64_t addr, bool *out_added)
{
    known *k = ctx;
    *out_added = true;
    for (size_t i = 0; i < k->n_done; i++)
        if (k->done[i] == addr)
            *out_added = false;
    if (*out_added && k->n_done < CMB_COUNTOF(k->done))
        k->done[k->n_done++] = addr;
    k->passed += !*out_added;
    return 0;
}

static void what_trees_share_is_looked_at_once_and_mistakes_are_found_all_the_same(void **state)
{
    static const cmb_shape_ops ops = {.done = on_done};
    static item items[1400];
    bed b;
    known k = {0};
    cmb_noderef root, wrong;
    (void)state;
    bed_open(&b, 256);
    size_t n = make_items(items, CMB_COUNTOF(items), 20);
    fresh(&b, items, n, &root);
    OK(cmb_tree_check_shape_with(&b.tree, &root, &ops, &k));
    for (unsigned i = 0; i < 60; i++) {
        item *it = &items[below(n)];
        cmb_edit edit = {.kind = below(3) ? CMB_EDIT_PUT : CMB_EDIT_DELETE, .key = {it->key, it->key_size}, .value = {"another", 7}};
        apply(&b, &root, &edit, 1, NULL);
        if (cmb_tree_check_shape_with(&b.tree, &root, &ops, &k))
            fail_msg("edit %u: %s", i, cmb_error_detail());
    }
    assert_true(k.passed > 60);
    unsigned caught = 0;
    for (unsigned i = 0; i < 20; i++) {
        cmb_noderef right;
        build(&b, items, n, below(2), &wrong);
        fresh(&b, items, n, &right);
        bool same = cmb_name_equal(&wrong.name, &right.name);
        assert_int_equal(cmb_tree_check_shape_with(&b.tree, &wrong, &ops, &k), same ? 0 : CMB_ECORRUPT);
        caught += !same;
    }
    assert_true(caught > 5);
    bed_close(&b);
}

static void facts_tie_a_leaf_to_its_reference_and_its_keys(void **state)
{
    static item items[1500];
    bed b;
    cmb_noderef root, ref;
    cmb_facts_room room = {0};
    cmb_path path;
    cmb_pin pin = {0};
    static uint8_t scratch[CMB_KEY_MAX], last[CMB_KEY_MAX], before[CMB_KEY_MAX];
    unsigned leaves = 0, unsure = 0;
    size_t before_size = 0;
    (void)state;
    bed_open(&b, 512);
    fresh(&b, items, make_items(items, CMB_COUNTOF(items), 60), &root);
    OK(cmb_path_open(&path, &b.tree, &root, 0));
    OK(cmb_path_first(&path));
    do {
        cmb_node node;
        cmb_node_facts facts;
        OK(cmb_path_node(&path, scratch, &pin, &ref, &node));
        OK(cmb_node_facts_of(&b.tree, &node, &ref.name, &room, &facts));
        uint32_t size = cmb_node_key(&node, node.count - 1, last), first = cmb_node_key(&node, 0, scratch);
        unsure += !cmb_node_facts_match(&b.tree, &facts, &ref, before, before_size, last, size);
        /* Nothing else is taken for it. */
        assert_false(cmb_node_facts_match(&b.tree, &facts, &ref, scratch, first, last, size));
        assert_false(cmb_node_facts_match(&b.tree, &facts, &ref, last, size, last, size));
        last[size - 1] ^= 1;
        assert_false(cmb_node_facts_match(&b.tree, &facts, &ref, before, before_size, last, size));
        last[size - 1] ^= 1;
        cmb_noderef other = ref;
        other.name.bytes[3] ^= 1;
        assert_false(cmb_node_facts_match(&b.tree, &facts, &other, before, before_size, last, size));
        other = ref;
        other.count++;
        assert_false(cmb_node_facts_match(&b.tree, &facts, &other, before, before_size, last, size));
        memcpy(before, last, size);
        before_size = size;
        leaves++;
    } while (cmb_path_next(&path) == 0);
    assert_true(leaves > 50);
    assert_true(unsure * 10 < leaves);
    cmb_path_close(&path);
    cmb_pin_destroy(b.tree.nodes, &pin);
    cmb_facts_room_free(&b.tree, &room);
    bed_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tree_passes_exactly_if_a_fresh_build_gives_the_same_one),
        cmocka_unit_test(what_trees_share_is_looked_at_once_and_mistakes_are_found_all_the_same),
        cmocka_unit_test(facts_tie_a_leaf_to_its_reference_and_its_keys),
    };
    rng_state = env_number("CMB_SEED", 20261122);
    printf("CMB_SEED=%llu\n", (unsigned long long)rng_state);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
