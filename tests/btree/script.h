/* SPDX-License-Identifier: ISC */
/* script.h: random pairs and batches of edits, for tests that let trees grow and shrink. */
#ifndef CMB_TESTS_BTREE_SCRIPT_H
#define CMB_TESTS_BTREE_SCRIPT_H

#include "bed.h"

#include "btree/boundary.h"

static const uint32_t targets[] = {256, 512, 4096};

/* Keys of a third of the smallest cap: runs are over the cap as often as not, so all rounds have work. */
static bool wide_keys;

static inline cmb_bytes random_key(void)
{
    static uint8_t key[CMB_KEY_MAX];
    size_t size;
    if (wide_keys)
        return text_bytes("%04u%0*u", below(3000), 90 + (int)below(150), below(2));
    unsigned kind = below(100);
    if (kind == 0) { /* huge */
        size = 1 + below(CMB_KEY_MAX);
        memset(key, 'h', size);
        key[below(size)] = (uint8_t)below(256);
        key[size - 1] = (uint8_t)below(256);
    } else if (kind <= 20) { /* tiny, and prefixes of each other */
        size = 1 + below(4);
        for (size_t i = 0; i < size; i++)
            key[i] = (uint8_t)(below(3) * 127);
    } else if (kind <= 40) { /* a long common prefix */
        size = 60 + below(20);
        memset(key, 'p', size);
        for (size_t i = 52; i < size; i++)
            key[i] = (uint8_t)('a' + below(4));
    } else {
        size = (size_t)snprintf((char *)key, sizeof(key), "key-%06u", (unsigned)below(3000));
    }
    return bytes_copy((cmb_bytes){key, size});
}

static inline cmb_bytes random_value(uint32_t target)
{
    static uint8_t value[65536];
    size_t size = below(24);
    unsigned kind = below(40);
    if (kind == 0)
        size = target / 4; /* the largest inline */
    else if (kind == 1)
        size = target / 4 + 1;
    else if (kind == 2)
        size = below(3 * target);
    else if (kind <= 8)
        size = below(target / 4);
    for (size_t i = 0; i < size; i += 16)
        value[i] = (uint8_t)below(4);
    return bytes_copy((cmb_bytes){value, size});
}

static inline cmb_edit put_edit(cmb_bytes key, cmb_bytes value)
{
    return (cmb_edit){.kind = CMB_EDIT_PUT, .key = key, .value = value};
}
static inline cmb_edit delete_edit(cmb_bytes key)
{
    return (cmb_edit){.kind = CMB_EDIT_DELETE, .key = key};
}

static inline size_t random_batch(const model *m, uint32_t target, cmb_edit *edit, size_t limit)
{
    size_t n = 0, want = 1 + (below(3) ? below(12) : below(limit));
    unsigned kind = below(16);
    if (kind == 0 && m->n) { /* a range goes */
        size_t from = below(m->n), to = from + below(m->n - from + 1);
        for (size_t i = from; i < to && n < limit; i++)
            edit[n++] = delete_edit(bytes_copy(m->pair[i].key));
    } else if (kind == 1 && below(3) == 0) { /* everything, or nearly */
        for (size_t i = 0; i < m->n && n < limit; i++)
            if (i % 100 || below(2))
                edit[n++] = delete_edit(bytes_copy(m->pair[i].key));
    } else if (kind == 2 && m->n) { /* the two ends */
        unsigned ends = below(3);
        for (size_t i = 0; i < want && i < m->n; i++)
            edit[n++] = delete_edit(bytes_copy(m->pair[ends == 0 || (ends == 1 && below(2)) ? i : m->n - 1 - i].key));
    } else if (kind == 3 || kind == 4) { /* appends, prepends */
        for (size_t i = 0; i < want; i++)
            edit[n++] = put_edit(text_bytes(kind == 3 ? "~%08llx" : "!%08llx", (unsigned long long)(rng() >> 32)), random_value(target));
    } else {
        for (size_t i = 0; i < want; i++) {
            unsigned what = below(10);
            cmb_bytes key = what < 6 && m->n ? bytes_copy(m->pair[below(m->n)].key) : random_key();
            if (what < (kind < 10 ? 2 : 5))
                edit[n++] = delete_edit(key);
            else
                edit[n++] = put_edit(key, random_value(target));
        }
    }
    return edits_sort(edit, n);
}

static inline void load(bed *b, const model *m, cmb_noderef *root)
{
    cmb_tree_empty(&b->tree, root);
    apply(b, root, m->pair, m->n, NULL);
}

static inline void fill(model *m, size_t n, uint32_t target)
{
    cmb_edit *edit = malloc(n * sizeof(*edit));
    for (size_t i = 0; i < n; i++)
        edit[i] = put_edit(random_key(), random_value(target));
    n = edits_sort(edit, n);
    model_apply(m, edit, n);
    edits_free(edit, n);
}

/* ---- histories ---- */

static inline void some_edits(bed *b, cmb_noderef *root, model *m, size_t limit)
{
    cmb_edit *edit = malloc((limit + m->n + 1) * sizeof(*edit));
    size_t n = random_batch(m, b->tree.target, edit, limit);
    apply(b, root, edit, n, NULL);
    model_apply(m, edit, n);
    edits_free(edit, n);
}

/* A row of new neighbours, of a few entries or a few nodes. */
static inline void a_row(bed *b, cmb_noderef *root, model *m)
{
    size_t n = 1 + below(below(4) ? 30 : 600);
    cmb_edit *edit = malloc(n * sizeof(*edit));
    cmb_bytes after = m->n && below(8) ? m->pair[below(m->n)].key : (cmb_bytes){"!", 1};
    size_t front = after.size < 100 ? after.size : 100;
    for (size_t i = 0; i < n; i++)
        edit[i] = put_edit(text_bytes("%.*s-%05u", (int)front, (const char *)after.data, below(100000)), random_value(b->tree.target));
    n = edits_sort(edit, n);
    apply(b, root, edit, n, NULL);
    model_apply(m, edit, n);
    edits_free(edit, n);
}

/* A range goes, between any two keys. */
static inline void a_gap(bed *b, cmb_noderef *root, model *m)
{
    size_t from = m->n ? below(m->n) : 0, n = m->n ? below(m->n - from) : 0;
    cmb_edit *edit = malloc((n + 1) * sizeof(*edit));
    for (size_t i = 0; i < n; i++)
        edit[i] = delete_edit(bytes_copy(m->pair[from + i].key));
    apply(b, root, edit, n, NULL);
    model_apply(m, edit, n);
    edits_free(edit, n);
}

static inline void some_changes(bed *b, cmb_noderef *root, model *m)
{
    for (unsigned k = below(4); k > 0; k--)
        switch (below(4)) {
        case 0: a_row(b, root, m); break;
        case 1: a_gap(b, root, m); break;
        default: some_edits(b, root, m, 40); break;
        }
}

static inline model model_copy(const model *m)
{
    model copy = {0};
    model_apply(&copy, m->pair, m->n);
    return copy;
}

/* Is this what a tree keeps of the value? */
static inline void assert_found(bed *b, const cmb_found *found, cmb_bytes value)
{
    assert_int_equal(found->out_of_line, value.size > cmb_tree_inline_max(&b->tree));
    if (!found->out_of_line) {
        assert_int_equal(found->value.size, value.size);
        if (value.size)
            assert_memory_equal(found->value.data, value.data, value.size);
        return;
    }
    cmb_value_reader *reader;
    uint8_t *read = malloc(value.size);
    size_t got;
    assert_int_equal(found->valref.size, value.size);
    OK(cmb_value_reader_open(&b->tree, &found->valref, &reader));
    OK(cmb_value_reader_read(reader, 0, read, value.size, &got));
    assert_int_equal(got, value.size);
    assert_memory_equal(read, value.data, value.size);
    cmb_value_reader_close(reader);
    free(read);
}

/* ---- hostile keys ---- */

/* A key for slot i of n, in whose order the hashes of the first `rounds` rounds rise (or fall) from slot to slot. */
static inline cmb_bytes mined_key(uint64_t seed, unsigned i, unsigned n, unsigned rounds, bool falling)
{
    char text[64];
    uint64_t slot = falling ? n - 1 - i : i, width = UINT64_MAX / n;
    for (unsigned nonce = 0;; nonce++) {
        int size = snprintf(text, sizeof(text), "%06u-%08x", i, nonce);
        bool fits = true;
        for (unsigned r = 0; r < rounds && fits; r++) {
            uint64_t hash = cmb_boundary_hash(seed, 0, r, text, (size_t)size);
            fits = hash / width == slot;
        }
        if (fits)
            return bytes_copy((cmb_bytes){text, (size_t)size});
    }
}

/* ---- memory that runs out ---- */

typedef struct miser {
    cmb_allocator base;
    long left;      /* allocations that will still be granted */
    long in_use;
} miser;

static inline void *miser_alloc(void *ctx, size_t size)
{
    miser *m = ctx;
    if (m->left-- <= 0)
        return NULL;
    m->in_use++;
    return m->base.alloc(m->base.ctx, size);
}
static inline void *miser_resize(void *ctx, void *p, size_t old_size, size_t new_size)
{
    miser *m = ctx;
    return m->left-- <= 0 ? NULL : m->base.resize(m->base.ctx, p, old_size, new_size);
}
static inline void miser_release(void *ctx, void *p, size_t size)
{
    miser *m = ctx;
    m->in_use--;
    m->base.release(m->base.ctx, p, size);
}
static inline cmb_allocator miser_of(miser *m, long grant)
{
    m->left = grant;
    return (cmb_allocator){m, miser_alloc, miser_resize, miser_release};
}

#endif
