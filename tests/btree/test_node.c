/* SPDX-License-Identifier: ISC */
/* Nodes: encoding against a plain array, searching, verifying what was damaged by accident or on purpose. */
#include "btree/node_private.h"
#include "node_bed.h"

static model the_model;

static void assert_same_valref(const cmb_valref *a, const cmb_valref *b)
{
    assert_true(a->addr == b->addr && a->length == b->length && a->size == b->size && cmb_name_equal(&a->name, &b->name));
}

static void assert_same_child(const cmb_noderef *a, const cmb_noderef *b)
{
    assert_true(a->addr == b->addr && a->count == b->count && a->length == b->length && a->level == b->level);
    assert_true(a->out_of_line == b->out_of_line && a->cut == b->cut && cmb_name_equal(&a->name, &b->name));
}

static void assert_same_entry(const cmb_node *node, uint32_t i, const cmb_entry *e)
{
    static uint8_t key[CMB_KEY_MAX];
    assert_int_equal(cmb_node_key_size(node, i), e->key_size);
    assert_int_equal(cmb_node_key(node, i, key), e->key_size);
    assert_memory_equal(key, e->key, e->key_size);
    assert_int_equal(cmb_node_compare(node, i, e->key, e->key_size), 0);
    if (e->child) {
        cmb_noderef child;
        cmb_node_child(node, i, &child);
        assert_same_child(&child, e->child);
        assert_true(cmb_node_child_addr(node, i) == child.addr && cmb_node_child_count(node, i) == child.count);
        assert_int_equal(cmb_node_child_cut(node, i), child.cut);
        return;
    }
    assert_int_equal(cmb_node_is_out_of_line(node, i), e->valref != NULL);
    if (e->valref) {
        cmb_valref far;
        cmb_node_valref(node, i, &far);
        assert_same_valref(&far, e->valref);
        return;
    }
    cmb_bytes value = cmb_node_value(node, i);
    assert_int_equal(value.size, e->value_size);
    if (value.size)
        assert_memory_equal(value.data, e->value, value.size);
}

static void assert_same(const cmb_node *node, const model *m)
{
    assert_int_equal(node->count, m->n);
    assert_int_equal(node->level, m->level);
    for (uint32_t i = 0; i < m->n; i++)
        assert_same_entry(node, i, &m->entries[i]);
}

static uint32_t plain_lower_bound(const model *m, const uint8_t *key, size_t size, bool *equal)
{
    uint32_t i = 0;
    while (i < m->n && cmb_compare(m->entries[i].key, m->entries[i].key_size, key, size) < 0)
        i++;
    *equal = i < m->n && cmb_compare(m->entries[i].key, m->entries[i].key_size, key, size) == 0;
    return i;
}

static void assert_same_search(const cmb_node *node, const model *m, const uint8_t *key, size_t size)
{
    bool expected, found;
    uint32_t at = plain_lower_bound(m, key, size, &expected);
    assert_int_equal(cmb_node_lower_bound(node, key, size, &found), at);
    assert_int_equal(found, expected);
    assert_int_equal(cmb_node_lower_bound(node, key, size, NULL), at);
    for (uint32_t i = at ? at - 1 : 0; i < m->n && i <= at; i++) {
        int c = cmb_compare(m->entries[i].key, m->entries[i].key_size, key, size), d = cmb_node_compare(node, i, key, size);
        assert_true((c > 0) == (d > 0) && (c < 0) == (d < 0));
    }
    if (node->level)
        assert_int_equal(cmb_node_child_for(node, key, size), at < m->n ? at : m->n - 1);
}

/* Keys that are in the node, shorter, longer, a byte off, and others. */
static void search_around(const cmb_node *node, const model *m, uint32_t times)
{
    static uint8_t key[CMB_KEY_MAX + 2];
    for (uint32_t t = 0; t < times; t++) {
        size_t size = 1 + below(30);
        for (size_t i = 0; i < size; i++)
            key[i] = random_character(1 + below(8));
        if (m->n && below(8)) {
            const cmb_entry *e = &m->entries[below(m->n)];
            memcpy(key, e->key, size = e->key_size);
            unsigned change = below(6);
            if (change == 0 && size > 1)
                size -= 1 + below(size - 1);
            else if (change == 1)
                key[size++] = below(2) ? 0 : (uint8_t)rng();
            else if (change == 2)
                key[below(size)] ^= (uint8_t)(1u << below(8));
            else if (change == 3)
                key[size - 1] = random_character(8);
        }
        assert_same_search(node, m, key, size);
    }
}

static void a_node_reads_back_and_searches_like_a_plain_array(void **state)
{
    cmb_node_buffer buffer = {0};
    for (uint32_t t = 0; t < budget(1500); t++) {
        model_random(&the_model, below(3) ? 0 : 1 + below(CMB_LEVEL_MAX), below(4) ? 60 : 600);
        cmb_noderef ref = model_encode(&the_model, &buffer);
        if (cmb_node_verify(HASH, buffer.data, &ref))
            fail_msg("%s", cmb_error_detail());
        assert_int_equal(ref.length % 16, 0);
        cmb_node node;
        cmb_node_open(HASH, buffer.data, &node);
        assert_int_equal(cmb_node_total(&node), ref.count);
        assert_same(&node, &the_model);
        search_around(&node, &the_model, 60);
    }
    buffer_free(&buffer);
    (void)state;
}

static void equal_content_is_equal_bytes_wherever_it_lies(void **state)
{
    cmb_node_buffer a = {0}, b = {0};
    for (uint32_t t = 0; t < budget(200); t++) {
        model_random(&the_model, below(2), 100);
        cmb_noderef first = model_encode(&the_model, &a);
        for (uint32_t i = 0; i < the_model.n; i++) {
            the_model.far[i].addr += 16;
            the_model.children[i].addr += 16u * 12345;
            the_model.children[i].length = 4096;
        }
        cmb_noderef second = model_encode(&the_model, &b);
        assert_true(cmb_name_equal(&first.name, &second.name));
        cmb_node x, y;
        cmb_node_open(HASH, a.data, &x);
        cmb_node_open(HASH, b.data, &y);
        assert_int_equal(x.body_length, y.body_length);
        assert_memory_equal(a.data + 16, b.data + 16, x.body_length);
    }
    buffer_free(&a);
    buffer_free(&b);
    (void)state;
}

static void vectors_and_plain_code_count_alike(void **state)
{
    enum { MAX = 700 };
    static uint64_t heads[MAX];
    cmb_head_counter counters[CMB_HEAD_COUNTERS];
    unsigned ways = cmb_head_counters(counters);
    for (unsigned w = 0; w < ways; w++)
        print_message("way %u: %s\n", w, counters[w].name);
    for (uint32_t t = 0; t < budget(4000); t++) {
        uint32_t n = below(below(3) ? 40 : MAX + 1);
        uint64_t mask = below(2) ? UINT64_MAX : UINT64_C(0xC000000000000003);
        for (uint32_t i = 0; i < n; i++)
            heads[i] = rng() & mask;
        for (uint32_t i = 1; i < n; i++) /* insertion sort: ties are wanted */
            for (uint32_t k = i; k > 0 && heads[k - 1] > heads[k]; k--) {
                uint64_t swap = heads[k];
                heads[k] = heads[k - 1];
                heads[k - 1] = swap;
            }
        static uint8_t bytes[MAX * 8];
        for (uint32_t i = 0; i < n; i++)
            cmb_put64(bytes + 8 * (size_t)i, heads[i]);
        const uint64_t edges[] = {0, 1, UINT64_MAX, UINT64_C(1) << 63, (UINT64_C(1) << 63) - 1, rng() & mask, n ? heads[below(n)] : 5};
        for (unsigned k = 0; k < CMB_COUNTOF(edges); k++) {
            uint32_t plain = 0;
            while (plain < n && heads[plain] < edges[k])
                plain++;
            assert_int_equal(cmb_node_count_below(bytes, n, edges[k]), plain);
            for (unsigned w = 0; w < ways; w++)
                assert_int_equal(counters[w].count(bytes, n, edges[k]), plain);
        }
    }
    (void)state;
}

static void every_flipped_bit_is_detected(void **state)
{
    cmb_node_buffer buffer = {0};
    for (uint32_t t = 0; t < budget(12); t++) {
        model_random(&the_model, t % 2, 20);
        while (the_model.used > 3000)
            model_random(&the_model, t % 2, 20);
        cmb_noderef ref = model_encode(&the_model, &buffer);
        for (uint32_t i = 0; i < ref.length; i++)
            for (unsigned bit = 0; bit < 8; bit++) {
                buffer.data[i] ^= (uint8_t)(1u << bit);
                assert_int_equal(cmb_node_verify(HASH, buffer.data, &ref), CMB_ECORRUPT);
                buffer.data[i] ^= (uint8_t)(1u << bit);
            }
        assert_int_equal(cmb_node_verify(HASH, buffer.data, &ref), 0);
    }
    buffer_free(&buffer);
    (void)state;
}

static void another_reference_is_not_believed(void **state)
{
    cmb_node_buffer buffer = {0};
    model_random(&the_model, 1, 40);
    const cmb_noderef good = model_encode(&the_model, &buffer);
    for (unsigned field = 0; field < 7; field++) {
        cmb_noderef ref = good;
        ref.addr += field == 0 ? 16 : 0;
        ref.count += field == 1;
        ref.length -= field == 2 ? 16 : 0;
        ref.level += field == 3;
        ref.out_of_line ^= field == 4;
        ref.name.bytes[15] ^= field == 5;
        ref.addr = field == 6 ? 0 : ref.addr;
        assert_int_equal(cmb_node_verify(HASH, buffer.data, &ref), CMB_ECORRUPT);
        assert_true(strlen(cmb_error_detail()) > 0);
    }
    buffer_free(&buffer);
    (void)state;
}

/* Touches all that a reader could touch of a node that was verified. */
static uint64_t walk(const uint8_t *record)
{
    static uint8_t key[CMB_KEY_MAX];
    uint64_t sum = 0;
    cmb_node node;
    cmb_node_open(HASH, record, &node);
    for (uint32_t i = 0; i < node.count; i++) {
        uint32_t size = cmb_node_key(&node, i, key);
        bool equal;
        assert_int_equal(cmb_node_lower_bound(&node, key, size, &equal), i);
        assert_true(equal);
        if (node.level) {
            cmb_noderef child;
            cmb_node_child(&node, i, &child);
            assert_true(child.addr < NODE_ADDR && child.length <= CMB_RECORD_MAX && child.length % 16 == 0);
            sum += child.name.bytes[3];
        } else if (cmb_node_is_out_of_line(&node, i)) {
            cmb_valref far;
            cmb_node_valref(&node, i, &far);
            assert_true(far.addr < NODE_ADDR && far.length <= CMB_RECORD_MAX);
            sum += far.name.bytes[3];
        } else {
            cmb_bytes value = cmb_node_value(&node, i);
            for (size_t k = 0; k < value.size; k++)
                sum += ((const uint8_t *)value.data)[k];
        }
    }
    return sum;
}

/* Damages what it likes, mostly in the header and the arrays, then makes the hashes right again. */
static void forge(uint8_t *record, cmb_noderef *ref)
{
    for (unsigned n = 1 + below(4); n; n--) {
        uint32_t at = below(3) ? below(below(2) ? 40 : 200) % ref->length : below(ref->length);
        unsigned how = below(4);
        if (how == 0)
            record[at] ^= (uint8_t)(1u << below(8));
        else if (how == 1)
            record[at] = (uint8_t)rng();
        else if (how == 2)
            record[at] = below(2) ? 0 : 0xff;
        else
            record[at] += below(2) ? 1 : (uint8_t)-1;
    }
    cmb_put32(record, ref->length);
    uint32_t body = cmb_get32(record + 16);
    if (body > ref->length - 16)
        return;
    cmb_hash_name(HASH, record + 16, body, &ref->name);
    ref->level = record[22];
    ref->count = cmb_get64(record + 24);
    ref->out_of_line = record[23] & CMB_NODE_OUT_OF_LINE;
    cmb_put32(record + 4, ref->level ? CMB_RECORD_NODE : CMB_RECORD_LEAF);
    cmb_node_place(record, ref->addr);
}

static void forged_records_with_right_hashes_are_refused_or_harmless(void **state)
{
    cmb_node_buffer buffer = {0};
    uint32_t refused = 0, passed = 0;
    for (uint32_t t = 0; t < budget(300); t++) {
        model_random(&the_model, below(2), 40);
        if (the_model.used > 60000)
            continue;
        cmb_noderef ref = model_encode(&the_model, &buffer);
        for (unsigned k = 0; k < 60; k++) {
            uint8_t *copy = malloc(ref.length); /* exactly as long: the sanitizer sees the end */
            assert_non_null(copy);
            memcpy(copy, buffer.data, ref.length);
            cmb_noderef forged = ref;
            forge(copy, &forged);
            if (cmb_node_verify(HASH, copy, &forged) == 0) {
                walk(copy);
                passed++;
            } else {
                refused++;
            }
            free(copy);
        }
    }
    assert_true(refused > 0 && passed > 0); /* values may be anything */
    buffer_free(&buffer);
    (void)state;
}

static void two_entries_out_of_order_are_refused(void **state)
{
    cmb_node_buffer buffer = {0};
    uint8_t keys[3][2] = {{'a', 1}, {'b', 1}, {'c', 1}};
    cmb_entry entries[3] = {{.key = keys[0], .key_size = 2}, {.key = keys[2], .key_size = 2}, {.key = keys[1], .key_size = 2}};
    cmb_allocator alloc = cmb_allocator_or_default(NULL);
    for (unsigned round = 0; round < 2; round++) {
        cmb_noderef ref;
        assert_int_equal(cmb_node_encode(&alloc, HASH, 0, entries, 3, &buffer, &ref), 0);
        ref.addr = NODE_ADDR;
        cmb_node_place(buffer.data, ref.addr);
        assert_int_equal(cmb_node_verify(HASH, buffer.data, &ref), CMB_ECORRUPT);
        entries[2] = entries[1]; /* then: one key twice */
    }
    buffer_free(&buffer);
    (void)state;
}

static void a_child_above_its_parent_is_refused(void **state)
{
    cmb_node_buffer buffer = {0};
    model_random(&the_model, 1, 10);
    the_model.children[0] = *the_model.entries[0].child;
    the_model.children[0].addr = NODE_ADDR;
    the_model.entries[0].child = &the_model.children[0];
    cmb_noderef ref = model_encode(&the_model, &buffer);
    assert_int_equal(cmb_node_verify(HASH, buffer.data, &ref), CMB_ECORRUPT);
    buffer_free(&buffer);
    (void)state;
}

static void the_largest_nodes_that_the_shape_allows_fit_a_record(void **state)
{
    enum { LOGICAL = 4 * 65536, N = LOGICAL / 9 };
    cmb_allocator alloc = cmb_allocator_or_default(NULL);
    cmb_entry *entries = calloc(N, sizeof *entries);
    uint8_t(*keys)[3] = calloc(N, sizeof *keys);
    cmb_node_buffer buffer = {0};
    cmb_noderef ref, child = {.addr = 16, .count = UINT64_MAX >> 2 >> 16, .length = CMB_RECORD_MAX};
    assert_true(entries && keys);
    for (uint32_t i = 0; i < N; i++) {
        keys[i][0] = (uint8_t)(i >> 16), keys[i][1] = (uint8_t)(i >> 8), keys[i][2] = (uint8_t)i;
        entries[i] = (cmb_entry){.key = keys[i], .key_size = i ? 3 : 2, .child = &child};
    }
    random_name(&child.name);
    assert_int_equal(cmb_node_encode(&alloc, HASH, 1, entries, LOGICAL / 25 + 1, &buffer, &ref), 0);
    assert_true(ref.length <= CMB_RECORD_MAX);
    for (uint32_t i = 0; i < N; i++)
        entries[i].child = NULL;
    assert_int_equal(cmb_node_encode(&alloc, HASH, 0, entries, N, &buffer, &ref), 0);
    assert_true(ref.length <= CMB_RECORD_MAX);
    free(keys);
    free(entries);
    buffer_free(&buffer);
    (void)state;
}

static void what_does_not_fit_a_record_is_too_big(void **state)
{
    cmb_allocator alloc = cmb_allocator_or_default(NULL);
    static uint8_t value[CMB_RECORD_MAX];
    cmb_entry entry = {.key = (const uint8_t *)"k", .key_size = 1, .value = value, .value_size = sizeof value};
    cmb_node_buffer buffer = {0};
    cmb_noderef ref = {.addr = 77};
    assert_int_equal(cmb_node_encode(&alloc, HASH, 0, &entry, 1, &buffer, &ref), CMB_ETOOBIG);
    assert_int_equal(ref.addr, 77);
    assert_null(buffer.data);
    (void)state;
}

static void *no_alloc(void *ctx, size_t size) { (void)ctx; (void)size; return NULL; }
static void *no_resize(void *ctx, void *ptr, size_t old_size, size_t new_size)
{
    (void)ctx; (void)ptr; (void)old_size; (void)new_size;
    return NULL;
}
static void no_release(void *ctx, void *ptr, size_t size) { (void)ctx; (void)size; assert_null(ptr); }

static void encoding_without_memory_changes_nothing(void **state)
{
    cmb_allocator none = {.alloc = no_alloc, .resize = no_resize, .release = no_release};
    cmb_node_buffer buffer = {0};
    cmb_noderef ref = {.addr = 77};
    model_random(&the_model, 0, 10);
    assert_int_equal(cmb_node_encode(&none, HASH, 0, the_model.entries, the_model.n, &buffer, &ref), CMB_ENOMEM);
    assert_int_equal(ref.addr, 77);
    assert_null(buffer.data);
    (void)state;
}

static int set_up(void **state)
{
    model_init(&the_model);
    return seed_group(state);
}

static int tear_down(void **state)
{
    (void)state;
    model_free(&the_model);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_node_reads_back_and_searches_like_a_plain_array),
        cmocka_unit_test(equal_content_is_equal_bytes_wherever_it_lies),
        cmocka_unit_test(vectors_and_plain_code_count_alike),
        cmocka_unit_test(every_flipped_bit_is_detected),
        cmocka_unit_test(another_reference_is_not_believed),
        cmocka_unit_test(forged_records_with_right_hashes_are_refused_or_harmless),
        cmocka_unit_test(two_entries_out_of_order_are_refused),
        cmocka_unit_test(a_child_above_its_parent_is_refused),
        cmocka_unit_test(the_largest_nodes_that_the_shape_allows_fit_a_record),
        cmocka_unit_test(what_does_not_fit_a_record_is_too_big),
        cmocka_unit_test(encoding_without_memory_changes_nothing),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
