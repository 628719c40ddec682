/* SPDX-License-Identifier: ISC */
/* A list of intents against the bare sequence of what was added to it. */
#include "reading.h"

#include <stdatomic.h>

#include "btree/intents_private.h"
#include "io/os.h"

/* ---- the sequence ---- */

typedef struct added {
    uint64_t seq;
    cmb_edit edit; /* owns its bytes */
} added;

typedef struct history {
    counting memory;
    cmb_intents *list;
    added *all;
    size_t n, capacity, bytes;
    uint64_t seq; /* of the newest unit */
    unsigned style;
} history;

static void *copy_of(const void *data, size_t size)
{
    void *copy = malloc(size ? size : 1);
    assert_non_null(copy);
    if (size)
        memcpy(copy, data, size);
    return copy;
}

static void history_open(history *h, unsigned style)
{
    *h = (history){.style = style};
    counting_init(&h->memory);
    assert_int_equal(cmb_intents_create(&h->memory.alloc, &h->list), 0);
}

static void history_close(history *h)
{
    assert_int_equal(cmb_intents_memory(h->list), h->memory.live);
    cmb_intents_release(h->list);
    assert_int_equal(h->memory.live, 0);
    while (h->n > 0) {
        h->n--;
        free((void *)h->all[h->n].edit.key.data);
        free((void *)h->all[h->n].edit.value.data);
    }
    free(h->all);
}

static void history_add(history *h, const cmb_edit *edit)
{
    cmb_intents_add(h->list, h->seq, edit);
    if (h->n == h->capacity) {
        h->capacity = h->capacity ? 2 * h->capacity : 256;
        h->all = realloc(h->all, h->capacity * sizeof *h->all);
        assert_non_null(h->all);
    }
    added *a = &h->all[h->n++];
    *a = (added){h->seq, *edit};
    a->edit.key.data = copy_of(edit->key.data, edit->key.size);
    a->edit.value.data = copy_of(edit->value.data, edit->value.size);
    h->bytes += edit->key.size + edit->value.size;
}

/* One of the kinds that a list takes; half of the keys were there before. */
static cmb_edit some_edit(history *h)
{
    static uint8_t known[CMB_KEY_MAX];
    cmb_edit edit = random_edit(h->style, NULL, true, 100);
    if (edit.kind == CMB_EDIT_PUT_FAR)
        edit.kind = CMB_EDIT_PUT;
    if (h->n && below(2)) {
        const cmb_edit *before = &h->all[below(h->n)].edit;
        memcpy(known, before->key.data, before->key.size);
        edit.key = (cmb_bytes){known, before->key.size};
    }
    return edit;
}

static bool in_this_unit(const history *h, cmb_bytes key)
{
    for (size_t i = h->n; i-- > 0 && h->all[i].seq == h->seq;)
        if (cmb_compare(h->all[i].edit.key.data, h->all[i].edit.key.size, key.data, key.size) == 0)
            return true;
    return false;
}

static void add_unit(history *h, size_t n)
{
    h->seq += 1 + below(3);
    while (n-- > 0) {
        cmb_edit edit = some_edit(h);
        if (in_this_unit(h, edit.key))
            continue;
        assert_int_equal(cmb_intents_reserve(h->list, 1, edit.key.size + edit.value.size), 0);
        history_add(h, &edit);
    }
}

static void add_units(history *h, size_t edits)
{
    for (size_t end = h->n + edits; h->n < end;)
        add_unit(h, 1 + below(below(3) ? 4 : 40));
}

/* What a reader of a range sees: deletes too. */
static model seen(const history *h, uint64_t after, uint64_t upto)
{
    model m = {.n = 0};
    for (size_t i = 0; i < h->n; i++)
        if (h->all[i].seq > after && h->all[i].seq <= upto)
            model_set(&m, &h->all[i].edit);
    return m;
}

static void assert_finds(const history *h, const cmb_intents *list, uint64_t upto, const model *m)
{
    cmb_edit edit;
    bool equal;
    for (size_t i = 0; i < h->n; i++) {
        cmb_bytes key = h->all[i].edit.key;
        size_t at = model_lower(m, key.data, key.size, &equal);
        assert_int_equal(cmb_intents_find(list, upto, key.data, key.size, &edit), equal);
        if (equal)
            assert_edit(&edit, &m->pairs[at]);
    }
    for (int i = 0; i < 50; i++) {
        uint8_t key[CMB_KEY_MAX];
        size_t size = random_key(h->style, key);
        (void)model_lower(m, key, size, &equal);
        assert_int_equal(cmb_intents_find(list, upto, key, size, &edit), equal);
    }
}

static void history_random(history *h, unsigned round, size_t most)
{
    history_open(h, round % KEY_STYLES);
    add_units(h, 1 + below(h->style == 4 ? most / 10 : most));
}

static void a_reader_sees_of_each_key_the_newest_edit_up_to_its_number(void **state)
{
    seed_rng(__func__);
    for (unsigned round = 0; round < budget(18); round++) {
        history h;
        history_random(&h, round, 600);
        for (int i = 0; i < 12; i++) {
            uint64_t upto = i ? below(h.seq + 2) : h.seq;
            model m = seen(&h, 0, upto);
            assert_finds(&h, h.list, upto, &m);
            model_clear(&m);
        }
        assert_int_equal(cmb_intents_count(h.list), h.n);
        assert_int_equal(cmb_intents_bytes(h.list), h.bytes);
        assert_int_equal(cmb_intents_newest(h.list), h.seq);
        history_close(&h);
    }
}

static void a_range_of_numbers_has_an_edit_exactly_if_one_was_added_in_it(void **state)
{
    seed_rng(__func__);
    for (unsigned round = 0; round < budget(6); round++) {
        history h;
        history_open(&h, 2);
        assert_false(cmb_intents_any(h.list, 0, UINT64_MAX));
        assert_int_equal(cmb_intents_newest(h.list), 0);
        add_units(&h, below(60));
        for (uint64_t after = 0; after <= h.seq + 1; after++)
            for (uint64_t upto = 0; upto <= h.seq + 1; upto++) {
                bool any = false;
                for (size_t i = 0; i < h.n; i++)
                    any |= h.all[i].seq > after && h.all[i].seq <= upto;
                assert_int_equal(cmb_intents_any(h.list, after, upto), any);
            }
        history_close(&h);
    }
}

static void a_source_walks_a_range_of_numbers_both_ways_and_seeks_to_every_key(void **state)
{
    seed_rng(__func__);
    for (unsigned round = 0; round < budget(18); round++) {
        history h;
        history_random(&h, round, 500);
        for (int i = 0; i < 6; i++) {
            uint64_t upto = below(h.seq + 2), after = below(3) ? 0 : below(upto + 1);
            model m = seen(&h, after, upto);
            walker w = {.ops = &source_walk};
            assert_int_equal(cmb_source_intents(h.list, after, upto, (cmb_source **)&w.cursor), 0);
            for (int k = 0; k < 200; k++)
                walk_step(&w, &m, h.style);
            walk_all(&w, &m);
            for (size_t k = 0; k < h.n; k++) {
                const cmb_source_ops *ops = ((cmb_source *)w.cursor)->ops;
                cmb_bytes key = h.all[k].edit.key;
                bool equal;
                size_t at = model_lower(&m, key.data, key.size, &equal);
                assert_int_equal(ops->seek_ge(w.cursor, key.data, key.size), at < m.n ? 0 : CMB_ENOTFOUND);
                if (at < m.n)
                    source_walk.check(w.cursor, &m, at);
                assert_int_equal(ops->seek_le(w.cursor, key.data, key.size), equal || at > 0 ? 0 : CMB_ENOTFOUND);
                if (equal || at > 0)
                    source_walk.check(w.cursor, &m, equal ? at : at - 1);
            }
            ((cmb_source *)w.cursor)->ops->close(w.cursor);
            model_clear(&m);
        }
        history_close(&h);
    }
}

static void an_open_source_shows_the_same_while_edits_are_added(void **state)
{
    seed_rng(__func__);
    for (unsigned round = 0; round < budget(12); round++) {
        history h;
        history_random(&h, round, 200);
        model m = seen(&h, 0, h.seq);
        walker w = {.ops = &source_walk};
        assert_int_equal(cmb_source_intents(h.list, 0, h.seq, (cmb_source **)&w.cursor), 0);
        for (int k = 0; k < 200; k++) {
            add_unit(&h, 1 + below(6));
            walk_step(&w, &m, h.style);
        }
        walk_all(&w, &m);
        ((cmb_source *)w.cursor)->ops->close(w.cursor);
        model_clear(&m);
        history_close(&h);
    }
}

static void the_rest_is_what_came_after_a_number_and_can_be_added_to(void **state)
{
    seed_rng(__func__);
    for (unsigned round = 0; round < budget(12); round++) {
        history h, r;
        history_random(&h, round, 300);
        uint64_t after = below(h.seq + 1);
        history_open(&r, h.style);
        cmb_intents_release(r.list);
        assert_int_equal(cmb_intents_rest(h.list, after, &r.list), 0);
        size_t others = h.memory.live - cmb_intents_memory(r.list); /* made with the other's allocator */
        for (size_t i = 0; i < h.n; i++)
            if (h.all[i].seq > after) {
                r.n++;
                r.bytes += h.all[i].edit.key.size + h.all[i].edit.value.size;
            }
        assert_int_equal(cmb_intents_count(r.list), r.n);
        assert_int_equal(cmb_intents_bytes(r.list), r.bytes);
        assert_int_equal(cmb_intents_newest(r.list), h.seq > after ? h.seq : 0);
        for (int i = 0; i < 6; i++) {
            uint64_t from = below(h.seq + 2), upto = below(h.seq + 2);
            model m = seen(&h, after, upto);
            assert_finds(&h, r.list, upto, &m);
            model_clear(&m);
            assert_int_equal(cmb_intents_any(r.list, from, upto), cmb_intents_any(h.list, from > after ? from : after, upto));
        }
        cmb_intents *first = h.list;
        h.list = r.list;
        add_units(&h, 50);
        model m = seen(&h, after, h.seq);
        assert_finds(&h, h.list, h.seq, &m);
        model_clear(&m);
        cmb_intents_release(h.list);
        h.list = first;
        assert_int_equal(h.memory.live, others);
        history_close(&h);
    }
}

/* ---- shapes ---- */

static void keys_are_listed_in_order_whatever_the_order_they_came_in(void **state)
{
    enum { N = 6000, ORDERS = 5 };
    seed_rng(__func__);
    for (unsigned how = 0; how < ORDERS; how++)
        for (unsigned each = 1; each <= N; each *= 77) { /* edits a reservation */
            counting memory;
            cmb_intents *list;
            cmb_source *source;
            cmb_edit edit = {.kind = CMB_EDIT_PUT}, got;
            char key[16];
            counting_init(&memory);
            assert_int_equal(cmb_intents_create(&memory.alloc, &list), 0);
            for (unsigned i = 0; i < N; i++) {
                unsigned half = i / 2, number = how == 0   ? i
                                                : how == 1 ? N - 1 - i
                                                : how == 2 ? (i % 2 ? N - 1 - half : half)
                                                : how == 3 ? (i % 2 ? N / 2 + half : N / 2 - 1 - half)
                                                           : (unsigned)(i * 3167ull % N); /* prime to N */
                edit.key = (cmb_bytes){key, (size_t)snprintf(key, sizeof key, "number/%06u", number)};
                if (i % each == 0)
                    assert_int_equal(cmb_intents_reserve(list, each, 13 * each), 0);
                cmb_intents_add(list, 1 + i / each, &edit);
            }
            assert_int_equal(cmb_intents_memory(list), memory.live);
            assert_int_equal(cmb_source_intents(list, 0, N, &source), 0);
            assert_int_equal(source->ops->first(source), 0);
            for (unsigned i = 0; i < N; i++) {
                assert_int_equal(source->ops->current(source, &got), 0);
                snprintf(key, sizeof key, "number/%06u", i);
                assert_memory_equal(got.key.data, key, 13);
                assert_int_equal(source->ops->next(source), i + 1 < N ? 0 : CMB_ENOTFOUND);
            }
            for (unsigned i = 0; i < N; i++) {
                snprintf(key, sizeof key, "number/%06u", i);
                assert_int_equal(source->ops->seek_ge(source, (uint8_t *)key, 13), 0);
                assert_int_equal(source->ops->current(source, &got), 0);
                assert_memory_equal(got.key.data, key, 13);
            }
            source->ops->close(source);
            cmb_intents_release(list);
            assert_int_equal(memory.live, 0);
        }
}

static void a_key_written_again_and_again_is_found_at_each_of_its_versions(void **state)
{
    enum { N = 20000 };
    cmb_allocator alloc = cmb_allocator_or_default(NULL);
    cmb_intents *list, *rest;
    cmb_edit got;
    assert_int_equal(cmb_intents_create(&alloc, &list), 0);
    for (uint64_t seq = 1; seq <= N; seq++) {
        cmb_edit edit = {.kind = CMB_EDIT_PUT, .key = {"hot", 3}, .value = {&seq, sizeof seq}};
        assert_int_equal(cmb_intents_reserve(list, 1, 3 + sizeof seq), 0);
        cmb_intents_add(list, 3 * seq, &edit);
    }
    for (uint64_t upto = 0; upto <= 3 * N + 3; upto++) {
        uint64_t newest = upto / 3 > N ? N : upto / 3;
        assert_int_equal(cmb_intents_find(list, upto, (const uint8_t *)"hot", 3, &got), newest > 0);
        assert_int_equal(cmb_intents_any(list, upto > 2 ? upto - 2 : 0, upto), newest > 0 && upto % 3 < 2 && upto < 3 * N + 2);
        if (newest)
            assert_memory_equal(got.value.data, &newest, sizeof newest);
    }
    assert_int_equal(cmb_intents_rest(list, 3 * (N - 10), &rest), 0);
    assert_int_equal(cmb_intents_count(rest), 10);
    assert_false(cmb_intents_find(rest, 3 * (N - 10), (const uint8_t *)"hot", 3, &got));
    assert_true(cmb_intents_find(rest, 3 * (N - 9), (const uint8_t *)"hot", 3, &got));
    cmb_intents_release(rest);
    cmb_intents_release(list);
}

static void the_links_between_versions_lead_to_any_of_them_in_few_steps(void **state)
{
    enum { N = 100000, STEPS = 3 * 17 };
    cmb_allocator alloc = cmb_allocator_or_default(NULL);
    cmb_intents *list;
    unsigned most = 0;
    assert_int_equal(cmb_intents_create(&alloc, &list), 0);
    assert_int_equal(cmb_intents_reserve(list, N, N * 3), 0);
    for (uint64_t seq = 1; seq <= N; seq++)
        cmb_intents_add(list, seq, &(cmb_edit){.kind = CMB_EDIT_DELETE, .key = {"hot", 3}});
    for (uint64_t upto = 1; upto <= N; upto += 7) {
        const cmb_intent_link *link = atomic_load(&list->marks);
        unsigned steps = 0;
        for (; link->seq > upto; steps++)
            link = link->jump && link->jump->seq > upto ? link->jump : link->older;
        assert_int_equal(link->seq, upto);
        most = steps > most ? steps : most;
    }
    assert_true(most <= STEPS);
    cmb_intents_release(list);
}

static void keys_of_one_bucket_are_found_all_the_same(void **state)
{
    enum { N = 40 };
    cmb_allocator alloc = cmb_allocator_or_default(NULL);
    cmb_intents *list;
    char key[N][16];
    cmb_edit got;
    uint64_t number = 0;
    assert_int_equal(cmb_intents_create(&alloc, &list), 0);
    for (int i = 0; i < 2 * N; i++) { /* the second time they are known */
        if (i < N)
            do
                snprintf(key[i], sizeof key[i], "%012llu", (unsigned long long)number++);
            while (cmb_intents_hash((uint8_t *)key[i], 12) & 0xff);
        assert_int_equal(cmb_intents_reserve(list, 1, 13), 0);
        cmb_intents_add(list, 1 + i, &(cmb_edit){.kind = CMB_EDIT_PUT, .key = {key[i % N], 12}, .value = {&"12"[i / N], 1}});
    }
    for (int i = 0; i < N; i++) {
        assert_false(cmb_intents_find(list, i, (uint8_t *)key[i], 12, &got));
        assert_true(cmb_intents_find(list, N + i, (uint8_t *)key[i], 12, &got));
        assert_memory_equal(got.value.data, "1", 1);
        assert_true(cmb_intents_find(list, N + i + 1, (uint8_t *)key[i], 12, &got));
        assert_memory_equal(got.value.data, "2", 1);
    }
    do
        snprintf(key[0], sizeof key[0], "%012llu", (unsigned long long)number++);
    while (cmb_intents_hash((uint8_t *)key[0], 12) & 0xff);
    assert_false(cmb_intents_find(list, UINT64_MAX, (uint8_t *)key[0], 12, &got));
    cmb_intents_release(list);
}

/* ---- memory ---- */

static void without_memory_a_reservation_fails_and_changes_nothing(void **state)
{
    seed_rng(__func__);
    for (unsigned round = 0; round < budget(6); round++) {
        history h;
        bool failed = true;
        size_t most = 1 + below(20000);
        history_random(&h, round, 300);
        model m = seen(&h, 0, h.seq);
        for (size_t k = 0; failed; k++) {
            h.memory.calls = 0;
            h.memory.fail_at = k;
            int r = cmb_intents_reserve(h.list, most, 50 * most);
            failed = r != 0;
            assert_true(r == 0 || r == CMB_ENOMEM);
            assert_int_equal(cmb_intents_count(h.list), h.n);
            assert_int_equal(cmb_intents_bytes(h.list), h.bytes);
            assert_int_equal(cmb_intents_newest(h.list), h.seq);
            assert_int_equal(cmb_intents_memory(h.list), h.memory.live);
            assert_finds(&h, h.list, h.seq, &m);
        }
        model_clear(&m);
        h.memory.fail_at = 0; /* what is reserved now needs no more */
        h.seq++;
        for (size_t i = 0; i < most && h.style != 4; i++) {
            cmb_edit edit = some_edit(&h);
            edit.key.size = edit.key.size < 24 ? edit.key.size : 24;
            edit.value.size = edit.value.size < 26 ? edit.value.size : 26;
            h.seq++;
            history_add(&h, &edit);
        }
        h.memory.fail_at = SIZE_MAX;
        m = seen(&h, 0, h.seq);
        cmb_source *source;
        assert_int_equal(cmb_source_intents(h.list, 0, h.seq, &source), 0);
        walk_all(&(walker){.ops = &source_walk, .cursor = source}, &m);
        source->ops->close(source);
        model_clear(&m);
        history_close(&h);
    }
}

static void without_memory_neither_a_list_nor_a_source_nor_a_rest_is_made(void **state)
{
    seed_rng(__func__);
    history h;
    cmb_intents *list = NULL;
    cmb_source *source = NULL;
    history_open(&h, 5);
    add_units(&h, 300);
    size_t live = h.memory.live;
    bool failed = true;
    for (size_t k = 0; failed; k++) {
        h.memory.calls = 0;
        h.memory.fail_at = k;
        failed = cmb_intents_rest(h.list, h.seq / 2, &list) != 0;
        assert_int_equal(list == NULL, failed);
        assert_int_equal(h.memory.live - (list ? cmb_intents_memory(list) : 0), live);
    }
    cmb_intents_release(list);
    h.memory.fail_at = 0;
    assert_int_equal(cmb_intents_create(&h.memory.alloc, &list), CMB_ENOMEM);
    assert_int_equal(cmb_source_intents(h.list, 0, 1, &source), CMB_ENOMEM);
    assert_null(source);
    assert_int_equal(cmb_intents_reserve(h.list, SIZE_MAX / 8, 0), CMB_ENOMEM);
    assert_int_equal(h.memory.live, live);
    history_close(&h);
}

static void the_last_holder_frees_the_list(void **state)
{
    counting memory;
    cmb_intents *list;
    counting_init(&memory);
    assert_int_equal(cmb_intents_create(&memory.alloc, &list), 0);
    assert_null(cmb_intents_hold(NULL));
    assert_ptr_equal(cmb_intents_hold(list), list);
    cmb_intents_release(NULL);
    cmb_intents_release(list);
    assert_int_equal(memory.live, cmb_intents_memory(list));
    cmb_intents_release(list);
    assert_int_equal(memory.live, 0);
}

/* ---- threads ---- */

/* Unit s writes keys that follow from s; so each reader knows what it must see. */
#define SHARED_KEYS 3000u
#define UNIT_KEYS 7u

typedef struct shared {
    cmb_intents *list;
    uint64_t units;
    _Atomic uint64_t published;
    _Atomic uint64_t wrong, looks;
} shared;

static unsigned unit_key(uint64_t seq, unsigned i)
{
    return (unsigned)((seq * 2654435761u + i * 40503u) % SHARED_KEYS); /* differ within a unit */
}

static size_t key_text(unsigned number, char out_key[32])
{
    return (size_t)snprintf(out_key, 32, "%s%06u", number % 3 ? "shared/prefix/" : "", number);
}

static void write_shared(void *arg)
{
    shared *s = arg;
    char key[32];
    for (uint64_t seq = 1; seq <= s->units; seq++) {
        if (cmb_intents_reserve(s->list, UNIT_KEYS, UNIT_KEYS * (32 + sizeof seq))) {
            atomic_fetch_add(&s->wrong, 1);
            return;
        }
        for (unsigned i = 0; i < UNIT_KEYS; i++) {
            cmb_edit edit = {.kind = CMB_EDIT_PUT, .key = {key, key_text(unit_key(seq, i), key)}, .value = {&seq, sizeof seq}};
            cmb_intents_add(s->list, seq, &edit);
        }
        atomic_store_explicit(&s->published, seq, memory_order_release);
    }
}

/* Which unit wrote each key last, up to one. */
static void expect(uint64_t upto, uint64_t from, uint64_t *newest)
{
    for (uint64_t seq = from + 1; seq <= upto; seq++)
        for (unsigned i = 0; i < UNIT_KEYS; i++)
            newest[unit_key(seq, i)] = seq;
}

static bool shows(const cmb_edit *edit, uint64_t seq)
{
    return edit->value.size == sizeof seq && memcmp(edit->value.data, &seq, sizeof seq) == 0;
}

static bool walk_shows(const shared *s, uint64_t upto, const uint64_t *newest, bool backward)
{
    cmb_source *source;
    cmb_edit edit;
    size_t n = 0, keys = 0;
    char last[32] = "", key[32];
    bool right = true;
    if (cmb_source_intents(s->list, 0, upto, &source))
        return false;
    const cmb_source_ops *ops = source->ops;
    for (int r = backward ? ops->last(source) : ops->first(source); !r; r = backward ? ops->prev(source) : ops->next(source)) {
        (void)ops->current(source, &edit);
        memcpy(key, edit.key.data, edit.key.size);
        key[edit.key.size] = 0;
        right &= shows(&edit, newest[strtoul(key + edit.key.size - 6, NULL, 10)]) && (!n || (strcmp(key, last) > 0) != backward);
        memcpy(last, key, sizeof last);
        n++;
    }
    ops->close(source);
    for (unsigned i = 0; i < SHARED_KEYS; i++)
        keys += newest[i] > 0;
    return right && n == keys;
}

static bool finds_show(const shared *s, uint64_t upto, const uint64_t *newest)
{
    char key[32];
    cmb_edit edit;
    bool right = true;
    for (unsigned i = upto % 5; i < SHARED_KEYS; i += 5) {
        bool hit = cmb_intents_find(s->list, upto, (uint8_t *)key, key_text(i, key), &edit);
        right &= hit == (newest[i] > 0) && (!hit || shows(&edit, newest[i]));
    }
    return right && cmb_intents_any(s->list, upto - 1, upto) && cmb_intents_newest(s->list) >= upto;
}

static void read_shared(void *arg)
{
    shared *s = arg;
    uint64_t newest[SHARED_KEYS] = {0}, known = 0, upto;
    cmb_intents_hold(s->list);
    do {
        upto = atomic_load_explicit(&s->published, memory_order_acquire);
        if (upto == known)
            continue;
        expect(upto, known, newest);
        known = upto;
        if (!finds_show(s, upto, newest) || !walk_shows(s, upto, newest, upto % 2) ||
            cmb_intents_count(s->list) < upto * UNIT_KEYS || cmb_intents_memory(s->list) == 0)
            atomic_fetch_add(&s->wrong, 1);
        atomic_fetch_add(&s->looks, 1);
    } while (upto < s->units && !atomic_load(&s->wrong));
    cmb_intents_release(s->list);
}

static void readers_see_whole_units_while_a_writer_adds(void **state)
{
    enum { READERS = 3 };
    cmb_allocator alloc = cmb_allocator_or_default(NULL);
    for (unsigned round = 0; round < budget(3); round++) {
        shared s = {.units = 3000};
        cmb_thread writer, readers[READERS];
        assert_int_equal(cmb_intents_create(&alloc, &s.list), 0);
        for (int i = 0; i < READERS; i++)
            assert_int_equal(cmb_thread_start(&readers[i], read_shared, &s), 0);
        assert_int_equal(cmb_thread_start(&writer, write_shared, &s), 0);
        cmb_thread_join(&writer);
        for (int i = 0; i < READERS; i++)
            cmb_thread_join(&readers[i]);
        assert_int_equal(atomic_load(&s.wrong), 0);
        assert_true(atomic_load(&s.looks) >= READERS);
        cmb_intents_release(s.list);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reader_sees_of_each_key_the_newest_edit_up_to_its_number),
        cmocka_unit_test(a_range_of_numbers_has_an_edit_exactly_if_one_was_added_in_it),
        cmocka_unit_test(a_source_walks_a_range_of_numbers_both_ways_and_seeks_to_every_key),
        cmocka_unit_test(an_open_source_shows_the_same_while_edits_are_added),
        cmocka_unit_test(the_rest_is_what_came_after_a_number_and_can_be_added_to),
        cmocka_unit_test(keys_are_listed_in_order_whatever_the_order_they_came_in),
        cmocka_unit_test(a_key_written_again_and_again_is_found_at_each_of_its_versions),
        cmocka_unit_test(the_links_between_versions_lead_to_any_of_them_in_few_steps),
        cmocka_unit_test(keys_of_one_bucket_are_found_all_the_same),
        cmocka_unit_test(without_memory_a_reservation_fails_and_changes_nothing),
        cmocka_unit_test(without_memory_neither_a_list_nor_a_source_nor_a_rest_is_made),
        cmocka_unit_test(the_last_holder_frees_the_list),
        cmocka_unit_test(readers_see_whole_units_while_a_writer_adds),
    };
    return cmocka_run_group_tests_name("btree/intents", tests, NULL, NULL);
}
