/* SPDX-License-Identifier: ISC */
/* Logs, who changed a key last, common ancestors: random histories against what follows from their description word by word. */
#include "dag_bed.h"

#define KEYS 60u
#define ALL UINT32_MAX

/* A history whose commits have contents: value[commit][key], 0: absent. */
typedef struct story {
    dag d;
    uint8_t value[DAG_MAX][KEYS];
    char id[DAG_MAX][2 * CMB_NAME_MAX + 1];
} story;

static cmb_bytes key_of(unsigned k, char room[8])
{
    return (cmb_bytes){room, (size_t)snprintf(room, 8, "%c/%02u", 'a' + (int)(k / 12), k % 12)};
}

static void build_root(cmb_store *store, cmb_unit *unit, const uint8_t *value, cmb_noderef *out_root)
{
    cmb_editor *editor;
    cmb_noderef empty;
    cmb_tree_empty(&store->tree, &empty);
    must(cmb_editor_open(&store->tree, &empty, unit->app, &editor));
    for (unsigned k = 0; k < KEYS; k++) {
        char room[8], text[24];
        if (!value[k])
            continue;
        cmb_edit edit = {.kind = CMB_EDIT_PUT, .key = key_of(k, room), .value = {text, sizeof text}};
        memset(text, value[k], sizeof text);
        must(cmb_editor_push(editor, &edit));
    }
    must(cmb_editor_finish(editor, out_root));
}

/* A commit takes each key from one of its parents, and changes some. */
static void choose_values(story *s, unsigned i, uint64_t *rng)
{
    const dag *d = &s->d;
    unsigned parents = d->parent_count[i], mode = (unsigned)(bed_mix(rng) % 3);
    for (unsigned k = 0; k < KEYS; k++)
        if (parents)
            s->value[i][k] = s->value[d->parents[i][mode ? 0 : bed_mix(rng) % parents]][k];
    for (unsigned n = parents ? (unsigned)(bed_mix(rng) % 3) : 2 * KEYS; n > 0; n--)
        s->value[i][bed_mix(rng) % KEYS] = (uint8_t)(bed_mix(rng) % 4);
}

static void make_story(cmb_store *store, story *s, unsigned n, unsigned window, uint64_t *rng)
{
    cmb_unit unit;
    uint64_t seq;
    dag *d = &s->d;
    memset(s, 0, sizeof *s);
    must(cmb_unit_begin(store, &unit));
    while (d->n < n) {
        unsigned i = d->n, want = bed_mix(rng) % 20 ? 1 + (unsigned)(bed_mix(rng) % 3) : 0;
        for (unsigned k = 0; k < want && i; k++) {
            unsigned p = i - 1 - (unsigned)(bed_mix(rng) % (i < window ? i : window)), j = 0;
            while (j < d->parent_count[i] && d->parents[i][j] != p)
                j++;
            if (j == d->parent_count[i])
                d->parents[i][d->parent_count[i]++] = p;
        }
        choose_values(s, i, rng);
        build_root(store, &unit, s->value[i], &d->root[i]);
        dag_append(store, &unit, d, (int64_t)(i * 3 + bed_mix(rng) % 30));
        hex_of(&d->at[i].id, s->id[i]);
        must(cmb_unit_index(&unit, &d->at[i]));
    }
    must(cmb_unit_publish(&unit, &seq));
}

/* ---- what a log should be ---- */

typedef struct question {
    unsigned revs[3], rev_count, excluded[2], excluded_count;
    bool filtered, topo, first_parent;
    uint64_t keys; /* a set of them */
} question;

typedef struct answer {
    unsigned order[DAG_MAX], n;
} answer;

static bool alike(const story *s, const question *q, unsigned a, unsigned b)
{
    for (unsigned k = 0; k < KEYS; k++)
        if (q->keys >> k & 1 && s->value[a][k] != s->value[b][k])
            return false;
    return true;
}

static bool is_blank(const story *s, const question *q, unsigned a)
{
    for (unsigned k = 0; k < KEYS; k++)
        if (q->keys >> k & 1 && s->value[a][k])
            return false;
    return true;
}

/* Which parents are followed, as a set; *out_over: the commit is passed over. */
static unsigned followed(const story *s, const question *q, uint64_t out, unsigned i, bool *out_over)
{
    const dag *d = &s->d;
    unsigned n = q->first_parent && d->parent_count[i] ? 1 : d->parent_count[i], set = (1u << n) - 1, relevant = 0, changed = 0, others = 0;
    *out_over = false;
    if (!q->filtered)
        return set;
    if (!n)
        *out_over = is_blank(s, q, i);
    for (unsigned k = 0; k < n; k++) {
        unsigned p = d->parents[i][k];
        bool counts = !(out >> p & 1), same = alike(s, q, i, p);
        for (unsigned e = 0; e < q->excluded_count; e++)
            counts |= q->excluded[e] == p;
        if (same && counts) {
            *out_over = true;
            return 1u << k;
        }
        relevant += counts;
        changed += counts;
        others += !counts && !same;
    }
    if (n)
        *out_over = relevant ? !changed : !others;
    return set;
}

static bool newer(const dag *d, unsigned a, unsigned b)
{
    if (d->time[a] != d->time[b])
        return d->time[a] > d->time[b];
    if (d->generation[a] != d->generation[b])
        return d->generation[a] > d->generation[b];
    return memcmp(d->at[a].id.bytes, d->at[b].id.bytes, CMB_NAME_MAX) < 0;
}

/* All commits are numbered so that parents come first: the walk and its counts, done at leisure. */
static void expect_log(const story *s, const question *q, answer *out)
{
    const dag *d = &s->d;
    uint64_t outside = 0, seen = 0;
    unsigned sets[DAG_MAX], pending[DAG_MAX] = {0}, ready[DAG_MAX * 4], ready_count = 0;
    bool over[DAG_MAX];
    for (unsigned e = 0; e < q->excluded_count; e++)
        outside |= d->ancestors[q->excluded[e]];
    for (unsigned r = 0; r < q->rev_count; r++)
        seen |= (uint64_t)1 << q->revs[r] & ~outside;
    uint64_t tips = seen;
    for (unsigned i = d->n; i-- > 0;) {
        if (!(seen >> i & 1))
            continue;
        sets[i] = followed(s, q, outside, i, &over[i]);
        for (unsigned k = 0; k < d->parent_count[i]; k++) {
            unsigned p = d->parents[i][k];
            if (!(sets[i] >> k & 1) || outside >> p & 1) {
                sets[i] &= ~(1u << k);
                continue;
            }
            seen |= (uint64_t)1 << p;
            pending[p]++;
        }
    }
    for (;;) { /* tips, oldest first */
        unsigned oldest = ALL;
        for (unsigned i = 0; i < d->n; i++)
            if (tips >> i & 1 && (oldest == ALL || newer(d, oldest, i)))
                oldest = i;
        if (oldest == ALL)
            break;
        tips &= ~((uint64_t)1 << oldest);
        if (!pending[oldest])
            ready[ready_count++] = oldest;
    }
    out->n = 0;
    while (ready_count) {
        unsigned at = ready_count - 1;
        for (unsigned k = 0; !q->topo && k < ready_count; k++)
            if (newer(d, ready[k], ready[at]))
                at = k;
        unsigned i = ready[at];
        memmove(&ready[at], &ready[at + 1], (ready_count - at - 1) * sizeof *ready);
        ready_count--;
        if (!over[i])
            out->order[out->n++] = i;
        for (unsigned k = 0; k < d->parent_count[i]; k++)
            if (sets[i] >> k & 1 && --pending[d->parents[i][k]] == 0)
                ready[ready_count++] = d->parents[i][k];
    }
}

/* ---- what a log is ---- */

typedef struct hearing {
    const story *s;
    answer got;
} hearing;

static int hear(void *ctx, const cmb_commit *commit)
{
    hearing *h = ctx;
    unsigned i = 0;
    while (i < h->s->d.n && !same_name(&h->s->d.at[i].id, &commit->id))
        i++;
    assert_true(i < h->s->d.n && h->got.n < DAG_MAX);
    h->got.order[h->got.n++] = i;
    return 0;
}

/* The keys asked about, as ranges: single keys, or a prefix and perhaps a key. */
static size_t make_ranges(question *q, uint64_t *rng, cmb_range ranges[3], char rooms[3][10])
{
    size_t n = 1 + bed_mix(rng) % 3;
    memset(ranges, 0, 3 * sizeof *ranges);
    for (size_t i = 0; i < n; i++) {
        unsigned k = (unsigned)(bed_mix(rng) % KEYS);
        cmb_bytes key = key_of(k, rooms[i]);
        if (bed_mix(rng) % 3 == 0) {
            ranges[i].prefix = (cmb_bytes){rooms[i], 2};
            q->keys |= (uint64_t)0xfff << k / 12 * 12;
        } else {
            rooms[i][key.size] = 0;
            ranges[i].from = key;
            ranges[i].to = (cmb_bytes){rooms[i], key.size + 1};
            q->keys |= (uint64_t)1 << k;
        }
    }
    return n;
}

static void ask(cmb_store *store, const story *s, uint64_t *rng)
{
    question q = {.topo = bed_mix(rng) % 2, .first_parent = bed_mix(rng) % 4 == 0, .filtered = bed_mix(rng) % 2};
    const char *revs[3], *excluded[2];
    cmb_range ranges[3];
    char rooms[3][10];
    hearing h = {.s = s};
    answer wanted;
    q.rev_count = 1 + (unsigned)(bed_mix(rng) % 3);
    q.excluded_count = (unsigned)(bed_mix(rng) % 3);
    for (unsigned i = 0; i < q.rev_count; i++)
        revs[i] = s->id[q.revs[i] = s->d.n - 1 - (unsigned)(bed_mix(rng) % (bed_mix(rng) % 2 ? 4 : s->d.n)) % s->d.n];
    for (unsigned i = 0; i < q.excluded_count; i++)
        excluded[i] = s->id[q.excluded[i] = (unsigned)(bed_mix(rng) % s->d.n)];
    cmb_history_options o = {.revs = revs, .rev_count = q.rev_count, .excluded = excluded, .excluded_count = q.excluded_count,
                             .order = q.topo ? CMB_HISTORY_TOPO : CMB_HISTORY_DATE, .first_parent = q.first_parent, .ranges = ranges};
    if (q.filtered)
        o.range_count = make_ranges(&q, rng, ranges, rooms);
    expect_log(s, &q, &wanted);
    must(cmb_history(store, &o, hear, &h));
    assert_int_equal(h.got.n, wanted.n);
    assert_memory_equal(h.got.order, wanted.order, wanted.n * sizeof *wanted.order);
    if (wanted.n > 1) {
        memset(&h.got, 0, sizeof h.got);
        o.limit = 1 + bed_mix(rng) % wanted.n;
        must(cmb_history(store, &o, hear, &h));
        assert_int_equal(h.got.n, o.limit);
        assert_memory_equal(h.got.order, wanted.order, o.limit * sizeof *wanted.order);
    }
}

static void open_small(bed *b)
{
    cmb_init_options init = {.node_size = 256};
    memset(b, 0, sizeof *b);
    bed_open_with(b, 0, &init);
}

static void logs_of_random_histories_are_as_described(void **state)
{
    (void)state;
    uint64_t rng = bed_seed();
    bed b;
    static story s;
    print_message("CMB_SEED=%llu\n", (unsigned long long)rng);
    open_small(&b);
    for (unsigned round = 0; round < 250 * bed_budget(); round++) {
        make_story(b.store, &s, 2 + (unsigned)(bed_mix(&rng) % 28), 1 + (unsigned)(bed_mix(&rng) % (round % 3 ? 6 : 28)), &rng);
        for (unsigned i = 0; i < 12; i++)
            ask(b.store, &s, &rng);
    }
    bed_close(&b);
}

/* ---- who changed it last ---- */

/* ALL: the key never was there. */
static unsigned expect_last(const story *s, unsigned i, unsigned k)
{
    const dag *d = &s->d;
    for (;;) {
        unsigned p = 0;
        while (p < d->parent_count[i] && s->value[d->parents[i][p]][k] != s->value[i][k])
            p++;
        if (p == d->parent_count[i])
            return p || s->value[i][k] ? i : ALL;
        i = d->parents[i][p];
    }
}

typedef struct census {
    const story *s;
    unsigned commit, next; /* the key that comes next */
    unsigned working;      /* keys that the working state changed */
} census;

static void skip_absent(census *c)
{
    while (c->next < KEYS && !c->s->value[c->commit][c->next])
        c->next++;
}

static int count_key(void *ctx, cmb_bytes key, const cmb_name *commit)
{
    census *c = ctx;
    char room[8];
    skip_absent(c);
    cmb_bytes wanted = key_of(c->next, room);
    assert_int_equal(key.size, wanted.size);
    assert_memory_equal(key.data, wanted.data, key.size);
    unsigned last = expect_last(c->s, c->commit, c->next++);
    assert_true(last != ALL && same_name(commit, &c->s->d.at[last].id));
    return 0;
}

static void each_key_knows_the_commit_that_changed_it_last(void **state)
{
    (void)state;
    uint64_t rng = bed_seed() + 1;
    bed b;
    static story s;
    print_message("CMB_SEED=%llu\n", (unsigned long long)rng - 1);
    open_small(&b);
    for (unsigned round = 0; round < 120 * bed_budget(); round++) {
        make_story(b.store, &s, 2 + (unsigned)(bed_mix(&rng) % 40), 1 + (unsigned)(bed_mix(&rng) % (round % 3 ? 6 : 28)), &rng);
        for (unsigned i = 0; i < s.d.n; i += 1 + (unsigned)(bed_mix(&rng) % 6)) {
            census c = {.s = &s, .commit = i};
            must(cmb_last_modified_each(b.store, s.id[i], NULL, count_key, &c));
            skip_absent(&c);
            assert_int_equal(c.next, KEYS);
            cmb_range prefix = {.prefix = {"b", 1}, .to = {"b/09", 4}};
            c = (census){.s = &s, .commit = i, .next = 12};
            must(cmb_last_modified_each(b.store, s.id[i], &prefix, count_key, &c));
            skip_absent(&c);
            assert_true(c.next >= 21);
            for (unsigned n = 0; n < 6; n++) {
                char room[8];
                unsigned k = (unsigned)(bed_mix(&rng) % KEYS), last = expect_last(&s, i, k);
                cmb_name name;
                must_be(cmb_last_modified(b.store, s.id[i], key_of(k, room), &name), last == ALL ? CMB_ENOTFOUND : 0);
                assert_true(last == ALL || same_name(&name, &s.d.at[last].id));
            }
        }
    }
    bed_close(&b);
}

static int count_working(void *ctx, cmb_bytes key, const cmb_name *commit)
{
    census *c = ctx;
    (void)key;
    c->next++;
    c->working += commit->size == 0;
    return 0;
}

static void what_a_working_state_changed_has_no_commit(void **state)
{
    (void)state;
    bed b;
    cmb_name name;
    census c = {.s = NULL};
    bed_open(&b);
    must_be(cmb_last_modified(b.store, "main", str("a"), &name), CMB_ENOTFOUND);
    put(b.store, "main", "w", "0", NULL);
    must_be(cmb_last_modified(b.store, "main", str("w"), &name), CMB_EWORKING);
    must(cmb_last_modified_each(b.store, "main", NULL, count_working, &c));
    assert_int_equal(c.working, 1);
    cmb_rev one = put(b.store, "main", "a", "1", "one");
    put(b.store, "main", "b", "2", "two");
    put(b.store, "main", "b", "3", NULL);
    must(cmb_last_modified(b.store, "main", str("a"), &name));
    assert_true(same_name(&name, &one.commit));
    must_be(cmb_last_modified(b.store, "main", str("b"), &name), CMB_EWORKING);
    must_be(cmb_last_modified(b.store, "main", str("none"), &name), CMB_ENOTFOUND);
    must_be(cmb_last_modified(b.store, "main", str(""), &name), CMB_EINVAL);
    must_be(cmb_last_modified(b.store, "main^{root}", str("a"), &name), CMB_EINVAL);
    c = (census){.s = NULL};
    must(cmb_last_modified_each(b.store, "main", NULL, count_working, &c));
    assert_int_equal(c.next, 3);
    assert_int_equal(c.working, 1);
    bed_close(&b);
}

static void a_deleted_key_was_last_modified_by_its_deletion(void **state)
{
    (void)state;
    bed b;
    cmb_txn *txn;
    cmb_rev gone;
    cmb_name name;
    bed_open(&b);
    put(b.store, "main", "a", "1", "one");
    must(cmb_txn_begin(b.store, "main", 0, &txn));
    must(cmb_txn_del(txn, str("a")));
    must(cmb_txn_commit(txn, &(cmb_commit_info){.message = "gone"}, &gone));
    put(b.store, "main", "b", "1", "more");
    must(cmb_last_modified(b.store, "main", str("a"), &name));
    assert_true(same_name(&name, &gone.commit));
    bed_close(&b);
}

/* ---- common ancestors ---- */

static int collect(void *ctx, const cmb_name *base)
{
    hearing *h = ctx;
    cmb_commit commit = {.id = *base};
    return hear(h, &commit);
}

static void merge_bases_and_ancestors_by_revision(void **state)
{
    (void)state;
    uint64_t rng = bed_seed() + 2;
    bed b;
    static story s;
    bed_open(&b);
    for (unsigned round = 0; round < 20; round++) {
        make_story(b.store, &s, 16, 5, &rng);
        for (unsigned pair = 0; pair < 20; pair++) {
            unsigned x = (unsigned)(bed_mix(&rng) % 16), y = (unsigned)(bed_mix(&rng) % 16);
            uint64_t common = s.d.ancestors[x] & s.d.ancestors[y], lowest = common, got = 0;
            hearing h = {.s = &s};
            cmb_name base;
            bool yes;
            for (unsigned i = 0; i < 16; i++)
                if (common >> i & 1)
                    lowest &= ~(s.d.ancestors[i] & ~((uint64_t)1 << i));
            must(cmb_merge_bases(b.store, s.id[x], s.id[y], collect, &h));
            for (unsigned i = 0; i < h.got.n; i++)
                got |= (uint64_t)1 << h.got.order[i];
            assert_true(got == lowest);
            must_be(cmb_merge_base(b.store, s.id[x], s.id[y], &base), lowest ? 0 : CMB_ENOTFOUND);
            assert_true(!lowest || same_name(&base, &s.d.at[h.got.order[0]].id));
            must(cmb_is_ancestor(b.store, s.id[x], s.id[y], &yes));
            assert_int_equal(yes, s.d.ancestors[y] >> x & 1);
        }
    }
    bed_close(&b);
}

/* ---- limits and errors ---- */

static int stop(void *ctx, const cmb_commit *commit)
{
    (void)commit;
    return ++*(unsigned *)ctx == 2;
}

static int pass(void *ctx, const cmb_commit *commit)
{
    (void)commit;
    ++*(unsigned *)ctx;
    return 0;
}

static void wrong_questions_and_early_ends(void **state)
{
    (void)state;
    bed b;
    unsigned told = 0;
    const char *rev = "main", *none = "nothing";
    cmb_history_options o = {.revs = &rev};
    cmb_name base;
    bed_open(&b);
    must_be(cmb_history(b.store, &o, stop, &told), CMB_EINVAL);
    o.rev_count = 1;
    must_be(cmb_history(b.store, &o, stop, &told), CMB_ENOTFOUND);
    for (unsigned i = 0; i < 4; i++)
        put(b.store, "main", "a", i % 2 ? "x" : "y", "m");
    must_be(cmb_history(b.store, &o, stop, &told), CMB_ESTOPPED);
    assert_int_equal(told, 2);
    o.order = (cmb_history_order)7;
    must_be(cmb_history(b.store, &o, stop, &told), CMB_EINVAL);
    o = (cmb_history_options){.revs = &rev, .rev_count = 1, .excluded = &none, .excluded_count = 1};
    must_be(cmb_history(b.store, &o, stop, &told), CMB_ENOTFOUND);
    o.excluded = &rev;
    must(cmb_history(b.store, &o, stop, &told));
    assert_int_equal(told, 2);
    must_be(cmb_merge_base(b.store, "main", "nothing", &base), CMB_ENOTFOUND);
    bed_close(&b);
}

/* A history that was fetched to some depth only: the oldest commit here has parents that are not. */
static void a_shallow_history_ends_where_it_was_cut(void **state)
{
    (void)state;
    bed b;
    static story s;
    uint64_t seq, rng = 1;
    cmb_unit unit;
    cmb_commit_at cut, top, absent[2] = {{.id = {.size = 16, .bytes = {1}}}, {.id = {.size = 16, .bytes = {2}}}};
    cmb_commit_header here = {"h", str("")};
    char hex[2 * CMB_NAME_MAX + 1], lower[2 * CMB_NAME_MAX + 1], room[8];
    const char *rev = hex;
    unsigned told = 0;
    cmb_name name;
    bool yes;
    bed_open(&b);
    make_story(b.store, &s, 1, 1, &rng);
    memset(s.value[0], 0, KEYS);
    s.value[0][3] = 1;
    must(cmb_unit_begin(b.store, &unit));
    cmb_commit_draft draft = {.parents = absent, .parent_count = 2, .generation = 70, .headers = &here, .header_count = 1};
    build_root(b.store, &unit, s.value[0], &draft.root);
    must(cmb_commit_append(b.store, unit.app, &draft, &cut));
    draft = (cmb_commit_draft){.root = draft.root, .parents = &cut, .parent_count = 1, .generation = 71};
    must(cmb_commit_append(b.store, unit.app, &draft, &top));
    must(cmb_unit_index(&unit, &cut));
    must(cmb_unit_index(&unit, &top));
    must(cmb_unit_publish(&unit, &seq));
    hex_of(&top.id, hex);
    hex_of(&cut.id, lower);
    must(cmb_history(b.store, &(cmb_history_options){.revs = &rev, .rev_count = 1}, pass, &told));
    assert_int_equal(told, 2);
    must(cmb_last_modified(b.store, hex, key_of(3, room), &name));
    assert_true(same_name(&name, &cut.id));
    must_be(cmb_last_modified(b.store, hex, key_of(4, room), &name), CMB_ENOTFOUND);
    must(cmb_merge_base(b.store, hex, lower, &name));
    assert_true(same_name(&name, &cut.id));
    must_be(cmb_merge_base(b.store, hex, s.id[0], &name), CMB_ENOTFOUND);
    must(cmb_is_ancestor(b.store, s.id[0], hex, &yes));
    assert_false(yes);
    bed_close(&b);
}

/* ---- memory ---- */

typedef struct counter {
    size_t calls, live, peak;
    uint64_t fail_at; /* 0: never */
} counter;

static void *counted_resize(void *ctx, void *p, size_t old_size, size_t new_size)
{
    counter *c = ctx;
    c->calls++;
    if (c->fail_at && c->calls >= c->fail_at)
        return NULL;
    c->live += new_size - (p ? old_size : 0);
    c->peak = c->live > c->peak ? c->live : c->peak;
    return realloc(p, new_size);
}

static void *counted_alloc(void *ctx, size_t size)
{
    return counted_resize(ctx, NULL, 0, size);
}

static void counted_release(void *ctx, void *p, size_t size)
{
    counter *c = ctx;
    if (p)
        c->live -= size;
    free(p);
}

static void open_counted(bed *b, counter *c)
{
    memset(b, 0, sizeof *b);
    memset(c, 0, sizeof *c);
    b->options.alloc = (cmb_allocator){c, counted_alloc, counted_resize, counted_release};
    cmb_init_options init = {.node_size = 256};
    bed_open_with(b, 0, &init);
}

static int pass_key(void *ctx, cmb_bytes key, const cmb_name *commit)
{
    (void)key;
    (void)commit;
    ++*(unsigned *)ctx;
    return 0;
}

static void a_long_line_of_commits_takes_no_memory(void **state)
{
    (void)state;
    bed b;
    counter c;
    unsigned told = 0;
    char text[16];
    const char *rev = "main";
    cmb_name name;
    open_counted(&b, &c);
    put(b.store, "main", "first", "1", "m");
    for (unsigned i = 0; i < 1500; i++) {
        snprintf(text, sizeof text, "%u", i);
        put(b.store, "main", "a", text, "m");
    }
    size_t before = c.live;
    c.peak = before;
    cmb_history_options o = {.revs = &rev, .rev_count = 1};
    for (unsigned order = 0; order < 2; order++) {
        o.order = (cmb_history_order)order;
        must(cmb_history(b.store, &o, pass, &told));
    }
    assert_int_equal(told, 2 * 1501);
    must(cmb_last_modified(b.store, "main", str("first"), &name));
    assert_true(c.peak - before < 20000);
    assert_int_equal(c.live, before);
    bed_close(&b);
}

static void out_of_memory_at_any_allocation_is_said_and_leaks_nothing(void **state)
{
    (void)state;
    bed b;
    counter c;
    static story s;
    uint64_t rng = 9;
    char room[10];
    open_counted(&b, &c);
    make_story(b.store, &s, 20, 5, &rng);
    const char *rev = s.id[19], *excluded = s.id[2];
    cmb_range range = {.from = key_of(5, room), .prefix = {"a", 1}};
    cmb_history_options o = {.revs = &rev, .rev_count = 1, .excluded = &excluded, .excluded_count = 1, .ranges = &range, .range_count = 1};
    for (unsigned what = 0; what < 4; what++) {
        int error = CMB_ENOMEM;
        for (unsigned k = 1; error == CMB_ENOMEM; k++) {
            unsigned told = 0;
            cmb_name name;
            size_t live = c.live;
            o.order = what ? CMB_HISTORY_TOPO : CMB_HISTORY_DATE;
            c.fail_at = c.calls + k;
            error = what < 2    ? cmb_history(b.store, &o, pass, &told)
                    : what == 2 ? cmb_last_modified_each(b.store, rev, NULL, pass_key, &told)
                                : cmb_last_modified(b.store, rev, key_of(5, room), &name);
            c.fail_at = 0;
            assert_int_equal(c.live, live);
        }
        assert_true(error == 0 || error == CMB_ENOTFOUND);
    }
    bed_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logs_of_random_histories_are_as_described),
        cmocka_unit_test(each_key_knows_the_commit_that_changed_it_last),
        cmocka_unit_test(what_a_working_state_changed_has_no_commit),
        cmocka_unit_test(a_deleted_key_was_last_modified_by_its_deletion),
        cmocka_unit_test(merge_bases_and_ancestors_by_revision),
        cmocka_unit_test(wrong_questions_and_early_ends),
        cmocka_unit_test(a_shallow_history_ends_where_it_was_cut),
        cmocka_unit_test(a_long_line_of_commits_takes_no_memory),
        cmocka_unit_test(out_of_memory_at_any_allocation_is_said_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
