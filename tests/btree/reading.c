/* SPDX-License-Identifier: ISC */
#include "reading.h"

/* ---- chance ---- */

static uint64_t rng_state;

uint64_t rng(void)
{
    uint64_t z = rng_state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

uint64_t below(uint64_t n)
{
    return rng() % n;
}

void seed_rng(const char *test)
{
    const char *text = getenv("CMB_SEED");
    rng_state = text ? strtoull(text, NULL, 0) : cmb_os_monotonic();
    print_message("%s: CMB_SEED=%llu\n", test, (unsigned long long)rng_state);
}

unsigned budget(unsigned times)
{
    const char *text = getenv("CMB_BUDGET");
    unsigned factor = text ? (unsigned)strtoul(text, NULL, 0) : 1;
    return times * (factor ? factor : 1);
}

/* ---- keys ---- */

static size_t fill(uint8_t *out, size_t size)
{
    for (size_t i = 0; i < size; i++)
        out[i] = (uint8_t)rng();
    return size;
}

size_t random_key(unsigned style, uint8_t *out_key)
{
    static const uint8_t hard[] = {0x00, 0x01, 0xff, 0x61};
    size_t size;
    switch (style) {
    case 0:
        size = 1 + below(12);
        for (size_t i = 0; i < size; i++)
            out_key[i] = hard[below(below(3) ? 1 : 4)];
        return size;
    case 1:
        return fill(out_key, 24);
    case 2:
        return (size_t)snprintf((char *)out_key, 64, "%s%08u", below(2) ? "accounts/" : "accounts/closed/", (unsigned)below(5000));
    case 3: /* each a prefix of longer ones */
        size = 1 + below(300);
        memset(out_key, below(8) ? 0xff : 0x00, size);
        return size;
    case 4:
        size = below(30) ? 1 + below(200) : below(20) ? 1 + below(CMB_KEY_MAX) : CMB_KEY_MAX;
        memset(out_key, 'k', size);
        out_key[size / 2] = (uint8_t)rng();
        out_key[size - 1] = (uint8_t)rng();
        return size;
    default:
        return random_key((unsigned)below(KEY_STYLES - 1), out_key);
    }
}

/* ---- the model ---- */

size_t model_lower(const model *m, const uint8_t *key, size_t key_size, bool *out_equal)
{
    size_t low = 0, high = m->n;
    bool equal = false;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int c = cmb_compare(m->pairs[middle].key, m->pairs[middle].key_size, key, key_size);
        equal |= c == 0;
        if (c < 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (out_equal)
        *out_equal = equal;
    return low;
}

static uint8_t *copy_of(const void *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    assert_non_null(copy);
    if (size)
        memcpy(copy, data, size);
    return copy;
}

static void pair_free(pair *p)
{
    free(p->key);
    free(p->value);
}

void model_set(model *m, const cmb_edit *edit)
{
    bool equal;
    size_t i = model_lower(m, edit->key.data, edit->key.size, &equal);
    pair p = {.key = copy_of(edit->key.data, edit->key.size), .key_size = edit->key.size, .kind = edit->kind};
    p.value_size = edit->kind == CMB_EDIT_PUT ? edit->value.size : 0;
    p.value = copy_of(edit->value.data, p.value_size);
    if (edit->kind == CMB_EDIT_PUT_FAR)
        p.valref = edit->valref;
    if (equal) {
        pair_free(&m->pairs[i]);
    } else {
        if (m->n == m->capacity) {
            m->capacity = m->capacity ? 2 * m->capacity : 64;
            m->pairs = realloc(m->pairs, m->capacity * sizeof *m->pairs);
            assert_non_null(m->pairs);
        }
        memmove(m->pairs + i + 1, m->pairs + i, (m->n - i) * sizeof *m->pairs);
        m->n++;
    }
    m->pairs[i] = p;
}

void model_remove(model *m, size_t i)
{
    pair_free(&m->pairs[i]);
    memmove(m->pairs + i, m->pairs + i + 1, (--m->n - i) * sizeof *m->pairs);
}

void model_clear(model *m)
{
    while (m->n)
        pair_free(&m->pairs[--m->n]);
    free(m->pairs);
    *m = (model){.n = 0};
}

static cmb_edit edit_of(const pair *p)
{
    return (cmb_edit){.kind = p->kind, .key = {p->key, p->key_size}, .value = {p->value, p->value_size}, .valref = p->valref};
}

void model_apply(model *m, const model *edits)
{
    for (size_t i = 0; i < edits->n; i++) {
        const pair *p = &edits->pairs[i];
        cmb_edit edit = edit_of(p);
        bool equal;
        size_t at = model_lower(m, p->key, p->key_size, &equal);
        if (p->kind != CMB_EDIT_DELETE)
            model_set(m, &edit);
        else if (equal)
            model_remove(m, at);
    }
}

cmb_edit random_edit(unsigned style, const model *near, bool deletes, size_t value_max)
{
    static uint8_t key[CMB_KEY_MAX], value[1 << 16];
    cmb_edit edit = {.kind = CMB_EDIT_PUT, .key = {key, 0}, .value = {value, 0}};
    if (near && near->n && below(2)) {
        const pair *p = &near->pairs[below(near->n)];
        memcpy(key, p->key, p->key_size);
        edit.key.size = p->key_size;
    } else {
        edit.key.size = random_key(style, key);
    }
    if (deletes && below(3) == 0) {
        edit.kind = CMB_EDIT_DELETE;
        edit.value = (cmb_bytes){NULL, 0};
    } else if (below(10) == 0) {
        edit.kind = CMB_EDIT_PUT_FAR;
        edit.value = (cmb_bytes){NULL, 0};
        edit.valref = (cmb_valref){.addr = 16, .length = 4096, .size = (uint32_t)rng(), .name = {.size = 16}};
        fill(edit.valref.name.bytes, 16);
    } else {
        edit.value.size = fill(value, below(4) ? below(20) : below(value_max + 1));
    }
    return edit;
}

static void assert_valref(const cmb_valref *a, const cmb_valref *b)
{
    assert_true(a->addr == b->addr && a->length == b->length && a->size == b->size);
    assert_true(cmb_name_equal(&a->name, &b->name));
}

static void assert_bytes(const void *data, size_t size, const uint8_t *expected, size_t expected_size)
{
    assert_int_equal(size, expected_size);
    if (size)
        assert_memory_equal(data, expected, size);
}

void assert_edit(const cmb_edit *edit, const pair *expected)
{
    assert_bytes(edit->key.data, edit->key.size, expected->key, expected->key_size);
    assert_int_equal(edit->kind, expected->kind);
    if (edit->kind == CMB_EDIT_PUT)
        assert_bytes(edit->value.data, edit->value.size, expected->value, expected->value_size);
    else if (edit->kind == CMB_EDIT_PUT_FAR)
        assert_valref(&edit->valref, &expected->valref);
}

void assert_found(const cmb_found *found, const pair *expected)
{
    assert_int_equal(found->out_of_line, expected->kind == CMB_EDIT_PUT_FAR);
    if (found->out_of_line)
        assert_valref(&found->valref, &expected->valref);
    else
        assert_bytes(found->value.data, found->value.size, expected->value, expected->value_size);
}

/* ---- memory ---- */

static bool counting_allows(counting *c)
{
    return c->calls++ < c->fail_at;
}

static void *counting_alloc(void *ctx, size_t size)
{
    counting *c = ctx;
    void *p = counting_allows(c) ? malloc(size) : NULL;
    c->live += p ? size : 0;
    return p;
}

static void *counting_resize(void *ctx, void *ptr, size_t old_size, size_t new_size)
{
    counting *c = ctx;
    void *p = counting_allows(c) ? realloc(ptr, new_size) : NULL;
    c->live += p ? new_size - old_size : 0;
    return p;
}

static void counting_release(void *ctx, void *ptr, size_t size)
{
    counting *c = ctx;
    c->live -= size;
    free(ptr);
}

void counting_init(counting *c)
{
    *c = (counting){.alloc = {c, counting_alloc, counting_resize, counting_release}, .fail_at = SIZE_MAX};
}

/* ---- trees ---- */

void room_open(room *r, cmb_residency residency)
{
    const uint64_t size = residency == CMB_RESIDENCY_MAP ? 64 << 20 : 0; /* one of fixed size can be mapped */
    cmb_image_params params = {.segment_shift = 21, .hash_kind = CMB_HASH_XXH3, .node_target = 4096, .fixed_size = size};
    cmb_allocator alloc = cmb_allocator_or_default(NULL);
    cmb_env env = cmb_env_or_default(NULL);
    cmb_log_options options = {.alloc = alloc, .env = env, .writable = true};
    memset(r, 0, sizeof *r);
    counting_init(&r->counting);
    assert_int_equal(cmb_device_mem(size, NULL, &r->dev), 0);
    assert_int_equal(cmb_log_format(r->dev, &params, &alloc, &env), 0);
    assert_int_equal(cmb_log_open(r->dev, &options, &r->log), 0);
    r->tree = (cmb_tree){.alloc = r->counting.alloc, .log = r->log, .hash = CMB_HASH_XXH3, .target = 4096};
    assert_int_equal(cmb_nodes_create(&alloc, r->log, residency, 8 << 20, &r->tree.nodes), 0);
    assert_int_equal(cmb_log_stream(r->log, &r->stream), 0);
}

void room_close(room *r)
{
    assert_int_equal(r->counting.live, 0);
    cmb_nodes_destroy(r->tree.nodes);
    cmb_append_abort(r->stream);
    cmb_log_close(r->log);
    cmb_device_close(r->dev);
}

static cmb_noderef write_node(room *r, unsigned level, const cmb_entry *entries, uint32_t n, cmb_node_buffer *buffer)
{
    cmb_noderef ref;
    void *record;
    assert_int_equal(cmb_node_encode(&r->tree.alloc, r->tree.hash, level, entries, n, buffer, &ref), 0);
    assert_int_equal(cmb_append(r->stream, ref.length, &ref.addr, &record), 0);
    memcpy(record, buffer->data, ref.length);
    cmb_node_place(record, ref.addr);
    ref.cut = false;
    return ref;
}

/* One level: entries in, references to their nodes out; entries become those of the level above. */
static size_t write_level(room *r, unsigned level, cmb_entry *entries, size_t n, unsigned most, cmb_noderef *refs)
{
    cmb_node_buffer buffer = {NULL, 0};
    size_t made = 0;
    for (size_t i = 0; i < n;) {
        size_t take = 1 + below(most);
        take = take < 2 ? 2 : take;
        take = take < n - i ? take : n - i;
        refs[made] = write_node(r, level, entries + i, (uint32_t)take, &buffer);
        entries[made] = entries[i + take - 1];
        made++;
        i += take;
    }
    cmb_release(&r->tree.alloc, buffer.data, buffer.capacity);
    return made;
}

cmb_noderef room_build(room *r, const model *m, unsigned most)
{
    cmb_noderef root;
    cmb_tree_empty(&r->tree, &root);
    if (m->n == 0)
        return root;
    cmb_entry *entries = calloc(m->n, sizeof *entries);
    cmb_noderef *refs[2] = {calloc(m->n, sizeof **refs), calloc(m->n, sizeof **refs)};
    for (size_t i = 0; i < m->n; i++) {
        const pair *p = &m->pairs[i];
        entries[i] = (cmb_entry){.key = p->key, .key_size = (uint32_t)p->key_size};
        if (p->kind == CMB_EDIT_PUT_FAR) {
            entries[i].valref = &p->valref;
        } else {
            entries[i].value = p->value;
            entries[i].value_size = (uint32_t)p->value_size;
        }
    }
    size_t n = write_level(r, 0, entries, m->n, most, refs[0]);
    for (unsigned level = 1; n > 1; level++) {
        cmb_noderef *from = refs[(level + 1) % 2];
        for (size_t i = 0; i < n; i++)
            entries[i] = (cmb_entry){.key = entries[i].key, .key_size = entries[i].key_size, .child = &from[i]};
        n = write_level(r, level, entries, n, most, refs[level % 2]);
        refs[0][0] = refs[level % 2][0];
        refs[1][0] = refs[0][0];
    }
    root = refs[0][0];
    free(entries);
    free(refs[0]);
    free(refs[1]);
    return root;
}

/* ---- walking ---- */

static void landed(walker *w, const model *m, int result, long at)
{
    w->placed = true;
    w->at = at < 0 ? -1 : at > (long)m->n ? (long)m->n : at;
    bool inside = w->at >= 0 && w->at < (long)m->n;
    assert_int_equal(result, inside ? 0 : CMB_ENOTFOUND);
    if (inside)
        w->ops->check(w->cursor, m, (size_t)w->at);
}

static void walk_seek(walker *w, const model *m, unsigned style, bool le)
{
    uint8_t key[CMB_KEY_MAX + 1];
    size_t size;
    bool equal;
    if (m->n && below(2)) { /* at or beside a known one */
        const pair *p = &m->pairs[below(m->n)];
        size = p->key_size;
        memcpy(key, p->key, size);
        if (below(3) == 0 && size < CMB_KEY_MAX)
            key[size++] = 0;
        else if (below(3) == 0 && size > 1)
            size--;
    } else {
        size = random_key(style, key);
    }
    long i = (long)model_lower(m, key, size, &equal);
    if (le)
        landed(w, m, w->ops->seek_le(w->cursor, key, size), equal ? i : i - 1);
    else
        landed(w, m, w->ops->seek_ge(w->cursor, key, size), i);
}

void walk_step(walker *w, const model *m, unsigned style)
{
    uint64_t nth;
    unsigned choice = (unsigned)below(20);
    if (!w->placed && choice >= 12) /* from nowhere, next is first and prev last */
        w->at = choice % 2 ? -1 : (long)m->n;
    switch (choice) {
    case 0:
        landed(w, m, w->ops->first(w->cursor), m->n ? 0 : (long)m->n);
        break;
    case 1:
        landed(w, m, w->ops->last(w->cursor), (long)m->n - 1);
        break;
    case 2:
    case 3:
        walk_seek(w, m, style, false);
        break;
    case 4:
    case 5:
        walk_seek(w, m, style, true);
        break;
    case 6:
    case 7:
        nth = below(m->n + 3);
        if (w->ops->seek_nth)
            landed(w, m, w->ops->seek_nth(w->cursor, nth), (long)nth);
        break;
    case 8:
    case 9:
    case 10:
    case 11:
        if (w->placed)
            for (uint64_t n = below(30), back = below(2); n > 0; n--)
                landed(w, m, back ? w->ops->prev(w->cursor) : w->ops->next(w->cursor), back ? w->at - 1 : w->at + 1);
        break;
    default:
        if (choice % 2)
            landed(w, m, w->ops->next(w->cursor), w->at + 1);
        else
            landed(w, m, w->ops->prev(w->cursor), w->at - 1);
    }
}

void walk_all(walker *w, const model *m)
{
    landed(w, m, w->ops->first(w->cursor), m->n ? 0 : (long)m->n);
    while (w->at < (long)m->n)
        landed(w, m, w->ops->next(w->cursor), w->at + 1);
    assert_int_equal(w->ops->next(w->cursor), CMB_ENOTFOUND);
    while (w->at >= 0)
        landed(w, m, w->ops->prev(w->cursor), w->at - 1);
    assert_int_equal(w->ops->prev(w->cursor), CMB_ENOTFOUND);
    landed(w, m, w->ops->next(w->cursor), 0);
}

#define OPS(prefix)                                                                                                     \
    static int prefix##_first(void *c) { return cmb_##prefix##_cursor_first(c); }                                       \
    static int prefix##_last(void *c) { return cmb_##prefix##_cursor_last(c); }                                         \
    static int prefix##_ge(void *c, const uint8_t *k, size_t n) { return cmb_##prefix##_cursor_seek_ge(c, k, n); }      \
    static int prefix##_le(void *c, const uint8_t *k, size_t n) { return cmb_##prefix##_cursor_seek_le(c, k, n); }      \
    static int prefix##_nth(void *c, uint64_t n) { return cmb_##prefix##_cursor_seek_nth(c, n); }                       \
    static int prefix##_next(void *c) { return cmb_##prefix##_cursor_next(c); }                                         \
    static int prefix##_prev(void *c) { return cmb_##prefix##_cursor_prev(c); }                                         \
    static void prefix##_check_entry(void *c, const model *m, size_t i)                                                 \
    {                                                                                                                   \
        cmb_bytes key = cmb_##prefix##_cursor_key(c);                                                                   \
        cmb_found found;                                                                                                \
        assert_bytes(key.data, key.size, m->pairs[i].key, m->pairs[i].key_size);                                        \
        assert_int_equal(cmb_##prefix##_cursor_value(c, &found), 0);                                                    \
        assert_found(&found, &m->pairs[i]);                                                                             \
    }
OPS(tree)
OPS(view)

static void tree_check(void *c, const model *m, size_t i)
{
    tree_check_entry(c, m, i);
    assert_int_equal(cmb_tree_cursor_rank(c), i);
}

static int source_first(void *s) { return ((cmb_source *)s)->ops->first(s); }
static int source_last(void *s) { return ((cmb_source *)s)->ops->last(s); }
static int source_ge(void *s, const uint8_t *k, size_t n) { return ((cmb_source *)s)->ops->seek_ge(s, k, n); }
static int source_le(void *s, const uint8_t *k, size_t n) { return ((cmb_source *)s)->ops->seek_le(s, k, n); }
static int source_next(void *s) { return ((cmb_source *)s)->ops->next(s); }
static int source_prev(void *s) { return ((cmb_source *)s)->ops->prev(s); }
static void source_check(void *s, const model *m, size_t i)
{
    cmb_edit edit;
    assert_int_equal(((cmb_source *)s)->ops->current(s, &edit), 0);
    assert_edit(&edit, &m->pairs[i]);
}

const walk_ops tree_walk = {tree_first, tree_last, tree_ge, tree_le, tree_nth, tree_next, tree_prev, tree_check};
const walk_ops view_walk = {view_first, view_last, view_ge, view_le, view_nth, view_next, view_prev, view_check_entry};
const walk_ops source_walk = {source_first, source_last, source_ge, source_le, NULL, source_next, source_prev, source_check};
