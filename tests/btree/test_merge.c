/* SPDX-License-Identifier: ISC */
/* Three trees into one, against a merge of all pairs: the same keys clash, and the root is that of a fresh build. */
#include "script.h"

#include "btree/merge.h"

enum { BASE, OURS, THEIRS, SIDES };

/* ---- the oracle ---- */

typedef enum answer { ANSWER_OURS, ANSWER_THEIRS, ANSWER_PUT, ANSWER_FAR, ANSWER_DELETE, ANSWERS } answer;

typedef struct merging {
    bed *b;
    const model *m;      /* of the three sides */
    size_t at[SIDES];    /* the pairs to look at next */
    cmb_edit *result;    /* the merged pairs, borrowed but for what answers made up */
    size_t n, clashes;   /* expected so far */
    size_t asked;
    cmb_valref far;      /* a large value that is in the log already */
    cmb_bytes far_value;
    uint8_t text[64];
    int stop_at;         /* clashes; 0: never */
} merging;

static answer answer_for(cmb_bytes key)
{
    return (answer)(cmb_hash64(key.data, key.size, 99) % ANSWERS);
}

static bool same_pair(const cmb_edit *a, const cmb_edit *b)
{
    if (!a || !b)
        return a == b;
    return a->value.size == b->value.size && memcmp(a->value.data, b->value.data, a->value.size) == 0;
}

static int key_order(cmb_bytes a, cmb_bytes b)
{
    return cmb_compare(a.data, a.size, b.data, b.size);
}

/* The pairs of the lowest key that is left; false: none is. */
static bool next_key(merging *g, const cmb_edit **pair)
{
    const cmb_edit *lowest = NULL;
    for (unsigned i = 0; i < SIDES; i++) {
        pair[i] = g->at[i] < g->m[i].n ? &g->m[i].pair[g->at[i]] : NULL;
        if (pair[i] && (!lowest || key_order(pair[i]->key, lowest->key) < 0))
            lowest = pair[i];
    }
    for (unsigned i = 0; i < SIDES; i++) {
        if (pair[i] && key_order(pair[i]->key, lowest->key) != 0)
            pair[i] = NULL;
        g->at[i] += pair[i] != NULL;
    }
    return lowest != NULL;
}

/* The value that an answer makes up; the key's own bytes, so that it is another for each. */
static cmb_bytes made_up(merging *g, cmb_bytes key)
{
    size_t size = key.size < sizeof(g->text) ? key.size : sizeof(g->text);
    memcpy(g->text, key.data, size);
    return (cmb_bytes){g->text, size};
}

static void settle(merging *g, const cmb_edit *const *pair)
{
    cmb_bytes key = (pair[BASE] ? pair[BASE] : pair[OURS] ? pair[OURS] : pair[THEIRS])->key;
    cmb_edit out = {.kind = CMB_EDIT_DELETE, .key = key};
    const cmb_edit *whose = NULL;
    if (same_pair(pair[OURS], pair[THEIRS]) || same_pair(pair[BASE], pair[THEIRS])) {
        whose = pair[OURS];
    } else if (same_pair(pair[BASE], pair[OURS])) {
        whose = pair[THEIRS];
    } else {
        g->clashes++;
        switch (answer_for(key)) {
        case ANSWER_OURS: whose = pair[OURS]; break;
        case ANSWER_THEIRS: whose = pair[THEIRS]; break;
        case ANSWER_PUT: out = (cmb_edit){.kind = CMB_EDIT_PUT, .key = key, .value = made_up(g, key)}; break;
        case ANSWER_FAR: out = (cmb_edit){.kind = CMB_EDIT_PUT, .key = key, .value = g->far_value}; break;
        default: break;
        }
    }
    if (whose)
        out = *whose;
    if (out.kind != CMB_EDIT_DELETE)
        g->result[g->n++] = put_edit(bytes_copy(out.key), bytes_copy(out.value));
}

static void assert_side(merging *g, const cmb_found *found, const cmb_edit *pair)
{
    assert_int_equal(found != NULL, pair != NULL);
    if (pair)
        assert_found(g->b, found, pair->value);
}

/* Are those that are asked about the keys that clash? */
static int on_clash(void *ctx, const cmb_tree_clash *clash, cmb_edit *out_edit)
{
    merging *g = ctx;
    const cmb_edit *pair[SIDES];
    for (size_t before = g->clashes; g->clashes == before;) {
        assert_true(next_key(g, pair));
        settle(g, pair);
    }
    const cmb_edit *any = pair[BASE] ? pair[BASE] : pair[OURS] ? pair[OURS] : pair[THEIRS];
    assert_int_equal(key_order(clash->key, any->key), 0);
    assert_side(g, clash->base, pair[BASE]);
    assert_side(g, clash->ours, pair[OURS]);
    assert_side(g, clash->theirs, pair[THEIRS]);
    if (++g->asked == (size_t)g->stop_at)
        return CMB_EBUSY;
    switch (answer_for(clash->key)) {
    case ANSWER_OURS: return CMB_CLASH_OURS;
    case ANSWER_THEIRS: return CMB_CLASH_THEIRS;
    case ANSWER_PUT: *out_edit = put_edit((cmb_bytes){0}, made_up(g, clash->key)); break;
    case ANSWER_FAR: *out_edit = (cmb_edit){.kind = CMB_EDIT_PUT_FAR, .valref = g->far}; break;
    default: *out_edit = delete_edit((cmb_bytes){0}); break;
    }
    return CMB_CLASH_EDIT;
}

static merging merging_of(bed *b, const model *m)
{
    static uint8_t far_value[1500];
    merging g = {.b = b, .m = m, .far_value = {far_value, sizeof(far_value)}};
    memset(far_value, 'f', sizeof(far_value));
    g.result = malloc((m[BASE].n + m[OURS].n + m[THEIRS].n + 1) * sizeof(*g.result));
    return g;
}

static void merge(merging *g, const cmb_noderef *root, cmb_noderef *out_root, cmb_merge_stats *stats)
{
    cmb_appender *app = bed_begin(g->b);
    OK(cmb_value_write(&g->b->tree, app, g->far_value.data, (uint32_t)g->far_value.size, &g->far));
    OK(cmb_tree_merge(&g->b->tree, &root[BASE], &root[OURS], &root[THEIRS], app, on_clash, g, out_root, stats));
    bed_commit(g->b);
    const cmb_edit *pair[SIDES];
    while (next_key(g, pair))
        settle(g, pair);
    assert_int_equal(g->asked, g->clashes);
    assert_int_equal(stats->clashes, g->clashes);
}

/* Merges, and compares the result with a fresh build; it replaces `m_out`, if that is asked for. */
static cmb_merge_stats check_merge(bed *b, const cmb_noderef *root, const model *m, cmb_noderef *out_root, model *m_out)
{
    merging g = merging_of(b, m);
    cmb_merge_stats stats;
    cmb_noderef merged;
    merge(&g, root, &merged, &stats);
    model result = {g.result, g.n};
    assert_canonical(b, &merged, &result);
    for (unsigned i = OURS; i < SIDES; i++)
        if (cmb_tree_same(&merged, &root[i]))
            assert_true(merged.addr == root[OURS].addr || merged.addr == root[THEIRS].addr);
    if (out_root)
        *out_root = merged;
    if (m_out)
        *m_out = result;
    else
        model_clear(&result);
    return stats;
}

/* ---- random histories ---- */

static void the_merge_of_any_histories_is_a_fresh_build_of_the_merged_pairs(void **state)
{
    uint64_t beds = 12 * env_number("CMB_BUDGET", 1), adopted = 0;
    for (uint64_t i = 0; i < beds; i++) {
        printf("bed %llu: CMB_SEED=%llu\n", (unsigned long long)i, (unsigned long long)rng_state);
        wide_keys = i % 6 == 5;
        bed b;
        bed_open_with(&b, targets[i % 3], i / 3 % 2 ? CMB_RESIDENCY_POOL : CMB_RESIDENCY_MAP);
        model m[SIDES] = {0}, merged;
        cmb_noderef root[SIDES];
        fill(&m[BASE], 1 + below(1500), b.tree.target);
        load(&b, &m[BASE], &root[BASE]);
        for (unsigned round = 0; round < 16; round++) {
            for (unsigned k = OURS; k < SIDES; k++) {
                m[k] = model_copy(&m[BASE]);
                root[k] = root[BASE];
                some_changes(&b, &root[k], &m[k]);
            }
            adopted += check_merge(&b, root, m, &root[BASE], &merged).adopted;
            for (unsigned k = 0; k < SIDES; k++)
                model_clear(&m[k]);
            m[BASE] = merged;
        }
        model_clear(&m[BASE]);
        bed_close(&b);
    }
    wide_keys = false;
    printf("%llu subtrees adopted\n", (unsigned long long)adopted);
    assert_true(adopted > 0);
}

static void trees_without_a_common_past_are_merged_over_any_base(void **state)
{
    uint64_t beds = 4 * env_number("CMB_BUDGET", 1);
    for (uint64_t i = 0; i < beds; i++) {
        printf("bed %llu: CMB_SEED=%llu\n", (unsigned long long)i, (unsigned long long)rng_state);
        bed b;
        bed_open(&b, targets[i % 2]);
        model m[SIDES] = {0};
        cmb_noderef root[SIDES];
        for (unsigned round = 0; round < 6; round++) {
            for (unsigned k = 0; k < SIDES; k++) {
                if (below(5))
                    fill(&m[k], 1 + below(below(2) ? 20 : 1500), b.tree.target);
                load(&b, &m[k], &root[k]);
            }
            check_merge(&b, root, m, NULL, NULL);
            for (unsigned k = 0; k < SIDES; k++)
                model_clear(&m[k]);
        }
        bed_close(&b);
    }
}

static void sides_that_are_equal_are_taken_as_they_are(void **state)
{
    bed b;
    bed_open(&b, 256);
    model m[3] = {0};
    cmb_noderef root[3]; /* two contents, and nothing */
    fill(&m[0], 800, 256);
    load(&b, &m[0], &root[0]);
    m[1] = model_copy(&m[0]);
    root[1] = root[0];
    while (cmb_tree_same(&root[0], &root[1]))
        some_edits(&b, &root[1], &m[1], 60);
    cmb_tree_empty(&b.tree, &root[2]);
    for (unsigned i = 0; i < 27; i++) {
        unsigned of[SIDES] = {i % 3, i / 3 % 3, i / 9};
        cmb_noderef r[SIDES], merged;
        model n[SIDES];
        for (unsigned k = 0; k < SIDES; k++) {
            r[k] = root[of[k]];
            n[k] = m[of[k]];
        }
        cmb_merge_stats stats = check_merge(&b, r, n, &merged, NULL);
        if (of[BASE] == of[THEIRS] || of[OURS] == of[THEIRS])
            assert_int_equal(merged.addr, r[OURS].addr);
        else if (of[BASE] == of[OURS])
            assert_int_equal(merged.addr, r[THEIRS].addr);
        else
            continue;
        assert_int_equal(stats.nodes_read, 0);
        assert_int_equal(stats.nodes_written, 0);
    }
    model_clear(&m[0]);
    model_clear(&m[1]);
    bed_close(&b);
}

/* The same numbers as keys, in any subset. */
static void fill_range(model *m, unsigned from, unsigned to, const char *value)
{
    cmb_edit *edit = calloc(to - from + 1, sizeof(*edit));
    size_t n = 0;
    for (unsigned i = from; i < to; i++)
        edit[n++] = put_edit(text_bytes("%08u", i), text_bytes("%s", value));
    model_apply(m, edit, n);
    edits_free(edit, n);
}

static void remove_range(model *m, unsigned from, unsigned to)
{
    cmb_edit *edit = calloc(to - from + 1, sizeof(*edit));
    size_t n = 0;
    for (unsigned i = from; i < to; i++)
        edit[n++] = delete_edit(text_bytes("%08u", i));
    model_apply(m, edit, n);
    edits_free(edit, n);
}

static void everything_deleted_leaves_the_empty_tree(void **state)
{
    bed b;
    bed_open(&b, 256);
    for (unsigned split = 0; split <= 3000; split += 500) {
        model m[SIDES] = {0};
        cmb_noderef root[SIDES], merged;
        for (unsigned k = 0; k < SIDES; k++)
            fill_range(&m[k], 0, 3000, "value");
        remove_range(&m[OURS], 0, split);
        remove_range(&m[THEIRS], split, 3000);
        for (unsigned k = 0; k < SIDES; k++)
            load(&b, &m[k], &root[k]);
        check_merge(&b, root, m, &merged, NULL);
        assert_int_equal(merged.addr, 0);
        assert_int_equal(merged.count, 0);
        for (unsigned k = 0; k < SIDES; k++)
            model_clear(&m[k]);
    }
    bed_close(&b);
}

/* ---- what it writes ---- */

/* Both ways round: a row of theirs is taken over, one of ours stays. */
static void a_long_row_on_one_side_costs_its_two_ends(void **state)
{
    enum { ENTRIES = 20000, ROW = 100000 };
    bed b;
    bed_open(&b, 512);
    model m[SIDES] = {0};
    cmb_noderef root[SIDES];
    for (unsigned k = 0; k < SIDES; k++)
        fill_range(&m[k], 0, ENTRIES, "value");
    load(&b, &m[BASE], &root[BASE]);
    cmb_edit *edit = malloc(ROW * sizeof(*edit));
    for (unsigned i = 0; i < ROW; i++)
        edit[i] = put_edit(text_bytes("%08u+%06u", ENTRIES / 2, i), text_bytes("new"));
    model_apply(&m[THEIRS], edit, ROW);
    load(&b, &m[THEIRS], &root[THEIRS]);
    fill_range(&m[OURS], 100, 101, "ours");
    load(&b, &m[OURS], &root[OURS]);
    for (unsigned turn = 0; turn < 2; turn++) {
        cmb_merge_stats stats = check_merge(&b, root, m, NULL, NULL);
        unsigned levels = root[turn ? OURS : THEIRS].level + 1u;
        printf("%u levels: %llu nodes read, %llu written, %llu adopted\n", levels, (unsigned long long)stats.nodes_read,
               (unsigned long long)stats.nodes_written, (unsigned long long)stats.adopted);
        assert_true(stats.nodes_written <= 3 * levels);
        assert_true(stats.nodes_read <= 16 * levels);
        assert_true(stats.adopted > 0);
        cmb_noderef swap = root[OURS];
        model swap_model = m[OURS];
        root[OURS] = root[THEIRS];
        m[OURS] = m[THEIRS];
        root[THEIRS] = swap;
        m[THEIRS] = swap_model;
    }
    edits_free(edit, ROW);
    for (unsigned k = 0; k < SIDES; k++)
        model_clear(&m[k]);
    bed_close(&b);
}

static void changes_in_leaves_of_their_own_write_no_leaf(void **state)
{
    enum { ENTRIES = 20000, CHANGES = 50 };
    bed b;
    bed_open(&b, 1024);
    model m[SIDES] = {0};
    cmb_noderef root[SIDES];
    for (unsigned k = 0; k < SIDES; k++) {
        fill_range(&m[k], 0, ENTRIES, "value");
        for (unsigned i = 0; k != BASE && i < CHANGES; i++) /* by turns */
            fill_range(&m[k], ENTRIES / CHANGES * i + 150 * k, ENTRIES / CHANGES * i + 150 * k + 1, "VALUE");
        load(&b, &m[k], &root[k]);
    }
    cmb_merge_stats stats = check_merge(&b, root, m, NULL, NULL);
    printf("%llu nodes read, %llu written, %llu adopted\n", (unsigned long long)stats.nodes_read, (unsigned long long)stats.nodes_written,
           (unsigned long long)stats.adopted);
    assert_true(stats.nodes_written < CHANGES); /* inner nodes, fewer than one side's changed leaves */
    assert_true(stats.adopted >= CHANGES);
    for (unsigned k = 0; k < SIDES; k++)
        model_clear(&m[k]);
    bed_close(&b);
}

static void edits_within_a_window_of_what_is_taken_over_are_decided_anew(void **state)
{
    enum { ENTRIES = 300, AT = 150, ROW = 70 };
    bed b;
    bed_open(&b, 256);
    model m[SIDES] = {0};
    cmb_noderef root[SIDES];
    for (unsigned k = 0; k < SIDES; k += 2)
        fill_range(&m[k], 0, ENTRIES, "value");
    for (unsigned gone = 0; gone < 2; gone++) { /* a row of theirs, then a gap of theirs */
        for (unsigned i = 0; i < ROW && !gone; i++) {
            cmb_edit e = put_edit(text_bytes("%08u+%04u", AT, i), text_bytes("new"));
            model_apply(&m[THEIRS], &e, 1);
            pair_free(&e);
        }
        if (gone) {
            model_clear(&m[THEIRS]);
            fill_range(&m[THEIRS], 0, ENTRIES, "value");
            remove_range(&m[THEIRS], AT - ROW / 2, AT + ROW / 2);
        }
        load(&b, &m[BASE], &root[BASE]);
        load(&b, &m[THEIRS], &root[THEIRS]);
        for (unsigned at = AT - 60; at < AT + 60; at++)
            for (unsigned kind = 0; kind < 3; kind++) { /* another value, a key more, a key less */
                m[OURS] = model_copy(&m[BASE]);
                root[OURS] = root[BASE];
                cmb_edit e = put_edit(text_bytes(kind == 1 ? "%08u+0033x" : "%08u", at), text_bytes("a longer value of ours"));
                if (kind == 2)
                    e.kind = CMB_EDIT_DELETE;
                apply(&b, &root[OURS], &e, 1, NULL);
                model_apply(&m[OURS], &e, 1);
                check_merge(&b, root, m, NULL, NULL);
                pair_free(&e);
                model_clear(&m[OURS]);
            }
    }
    model_clear(&m[BASE]);
    model_clear(&m[THEIRS]);
    bed_close(&b);
}

static void mined_keys_are_merged_into_a_fresh_build(void **state)
{
    static const struct {
        unsigned n, rounds;
        bool falling;
    } mines[] = {{500, 1, false}, {500, 1, true}, {36, 2, false}, {24, 4, false}};
    bed b;
    bed_open(&b, 256);
    for (unsigned i = 0; i < CMB_COUNTOF(mines); i++) {
        model m[SIDES] = {0};
        cmb_noderef root[SIDES];
        m[BASE].pair = malloc(mines[i].n * sizeof(cmb_edit));
        for (; m[BASE].n < mines[i].n; m[BASE].n++)
            m[BASE].pair[m[BASE].n] = put_edit(mined_key(0, (unsigned)m[BASE].n, mines[i].n, mines[i].rounds, mines[i].falling),
                                               text_bytes("%032zu", m[BASE].n));
        load(&b, &m[BASE], &root[BASE]);
        for (unsigned round = 0; round < 30; round++) {
            for (unsigned k = OURS; k < SIDES; k++) {
                m[k] = model_copy(&m[BASE]);
                root[k] = root[BASE];
                some_edits(&b, &root[k], &m[k], 12);
                if (below(2))
                    a_gap(&b, &root[k], &m[k]);
            }
            check_merge(&b, root, m, NULL, NULL);
            model_clear(&m[OURS]);
            model_clear(&m[THEIRS]);
        }
        model_clear(&m[BASE]);
    }
    bed_close(&b);
}

/* ---- clashes ---- */

static void changes_that_are_alike_do_not_clash(void **state)
{
    bed b;
    bed_open(&b, 256);
    model m[SIDES] = {0};
    cmb_noderef root[SIDES];
    for (unsigned k = 0; k < SIDES; k++)
        fill_range(&m[k], 0, 3000, "value");
    for (unsigned k = OURS; k < SIDES; k++) {
        fill_range(&m[k], 100, 200, "another");     /* changed by both */
        remove_range(&m[k], 1000, 2000);            /* deleted by both */
        fill_range(&m[k], 5000, 6000, "new");       /* added by both */
        fill_range(&m[k], 300 * k, 300 * k + 5, k == OURS ? "ours" : "theirs"); /* by each alone */
    }
    for (unsigned k = 0; k < SIDES; k++)
        load(&b, &m[k], &root[k]);
    assert_int_equal(check_merge(&b, root, m, NULL, NULL).clashes, 0);
    for (unsigned k = 0; k < SIDES; k++)
        model_clear(&m[k]);
    bed_close(&b);
}

static void a_callback_that_fails_stops_the_merge(void **state)
{
    bed b;
    bed_open(&b, 256);
    model m[SIDES] = {0};
    cmb_noderef root[SIDES];
    for (unsigned k = 0; k < SIDES; k++) {
        fill_range(&m[k], 0, 3000, k == BASE ? "base" : k == OURS ? "ours" : "theirs");
        load(&b, &m[k], &root[k]);
    }
    merging g = merging_of(&b, m);
    g.stop_at = 10;
    cmb_noderef out = {.addr = 77};
    cmb_merge_stats stats = {.clashes = 77};
    cmb_appender *app = bed_begin(&b);
    OK(cmb_value_write(&b.tree, app, g.far_value.data, (uint32_t)g.far_value.size, &g.far));
    assert_int_equal(cmb_tree_merge(&b.tree, &root[BASE], &root[OURS], &root[THEIRS], app, on_clash, &g, &out, &stats), CMB_EBUSY);
    cmb_append_abort(app);
    assert_int_equal(g.asked, 10);
    assert_int_equal(out.addr, 77);
    assert_int_equal(stats.clashes, 77);
    edits_free(g.result, g.n);
    for (unsigned k = 0; k < SIDES; k++)
        model_clear(&m[k]);
    bed_close(&b);
}

/* ---- what goes wrong ---- */

static int take_theirs(void *ctx, const cmb_tree_clash *clash, cmb_edit *out_edit)
{
    return CMB_CLASH_THEIRS;
}

static void a_refused_allocation_is_a_clean_error(void **state)
{
    bed b;
    bed_open(&b, 256);
    model m[SIDES] = {0};
    cmb_noderef root[SIDES];
    for (unsigned k = 0; k < SIDES; k++) {
        fill(&m[k], 200, 256);
        load(&b, &m[k], &root[k]);
    }
    miser bad = {.base = b.tree.alloc};
    cmb_allocator honest = b.tree.alloc;
    unsigned refused = 0;
    for (long grant = 0;; grant++) {
        cmb_noderef out = {.addr = 77};
        cmb_appender *app = bed_begin(&b);
        b.tree.alloc = miser_of(&bad, grant);
        int error = cmb_tree_merge(&b.tree, &root[BASE], &root[OURS], &root[THEIRS], app, take_theirs, NULL, &out, NULL);
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
    for (unsigned k = 0; k < SIDES; k++)
        model_clear(&m[k]);
    bed_close(&b);
}

static void trees_of_another_shape_do_no_harm(void **state)
{
    bed b;
    bed_open(&b, 512);
    model m[SIDES] = {0};
    cmb_noderef root[SIDES];
    for (unsigned k = 0; k < SIDES; k++) {
        fill(&m[k], 1000, 512);
        b.tree.seed = k; /* of three images, as it were */
        load(&b, &m[k], &root[k]);
    }
    for (unsigned i = 0; i < 30; i++) {
        cmb_noderef out;
        b.tree.seed = i % 4;
        b.tree.target = 256 << (i % 5);
        cmb_appender *app = bed_begin(&b);
        int error = cmb_tree_merge(&b.tree, &root[i % 3], &root[(i + 1) % 3], &root[(i + 2) % 3], app, take_theirs, NULL, &out, NULL);
        assert_true(error == 0 || error == CMB_ECORRUPT);
        cmb_append_abort(app);
    }
    for (unsigned k = 0; k < SIDES; k++)
        model_clear(&m[k]);
    bed_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_merge_of_any_histories_is_a_fresh_build_of_the_merged_pairs),
        cmocka_unit_test(trees_without_a_common_past_are_merged_over_any_base),
        cmocka_unit_test(sides_that_are_equal_are_taken_as_they_are),
        cmocka_unit_test(everything_deleted_leaves_the_empty_tree),
        cmocka_unit_test(a_long_row_on_one_side_costs_its_two_ends),
        cmocka_unit_test(changes_in_leaves_of_their_own_write_no_leaf),
        cmocka_unit_test(edits_within_a_window_of_what_is_taken_over_are_decided_anew),
        cmocka_unit_test(mined_keys_are_merged_into_a_fresh_build),
        cmocka_unit_test(changes_that_are_alike_do_not_clash),
        cmocka_unit_test(a_callback_that_fails_stops_the_merge),
        cmocka_unit_test(a_refused_allocation_is_a_clean_error),
        cmocka_unit_test(trees_of_another_shape_do_no_harm),
    };
    rng_state = env_number("CMB_SEED", 20240702);
    cmocka_set_test_filter(getenv("CMB_TEST")); /* a pattern with * and ?; none: all */
    printf("CMB_SEED=%llu\n", (unsigned long long)rng_state);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
