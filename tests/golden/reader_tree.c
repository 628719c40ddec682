/* SPDX-License-Identifier: ISC */
/* reader_tree.c: docs/format.md, section 5. */
#include "reader.h"

#include <stdlib.h>

#define LEVELS 63u
#define CHUNK 258048u
#define CHUNKS_MAX 64u

enum { OUT_OF_LINE = 1, FIXED_KEYS = 2, FIXED_VALUES = 4, SHORT_KEYS = 8, WIDE = 16 };

static int wrong(const char *what, uint64_t at)
{
    return cmb_fail(CMB_ECORRUPT, "%s, at %llu", what, (unsigned long long)at);
}

static bool is_named(const void *data, size_t size, const uint8_t *name)
{
    cmb_name found;
    cmb_hash_name(CMB_HASH_XXH3, data, size, &found);
    return memcmp(found.bytes, name, 16) == 0;
}

int reader_unpack(const uint8_t **p, const uint8_t *end, reader_ref *out_ref)
{
    const uint8_t *s = *p;
    if (end - s < 2)
        return wrong("a packed reference that is cut off", 0);
    unsigned a = (s[1] & 7u) + 1, c = (s[1] >> 3 & 7u) + 1, l = (unsigned)(s[1] >> 6) + 1;
    if ((size_t)(end - s) < 2 + a + c + l + 16)
        return wrong("a packed reference that is cut off", 0);
    reader_ref ref = {.level = s[0] & 63, .out_of_line = s[0] >> 6 & 1};
    s += 2;
    ref.addr = 16 * cmb_get_uint(s, a);
    ref.count = cmb_get_uint(s + a, c);
    ref.length = (uint32_t)(16 * cmb_get_uint(s + a + c, l));
    memcpy(ref.name, s + a + c + l, 16);
    *p = s + a + c + l + 16;
    *out_ref = ref;
    return 0;
}

/* ---- nodes ---- */

/* Where the parts of a node lie. */
typedef struct node {
    const uint8_t *record;
    uint64_t addr;
    uint32_t length, n, level, flags, prefix, fixed_key, width, body_end;
    const uint8_t *heads, *key_offsets, *value_offsets, *head_sizes, *bitmap, *counts, *rests, *values, *names, *trailer;
} node;

static uint32_t offset_at(const node *d, const uint8_t *offsets, uint32_t i)
{
    return d->flags & WIDE ? cmb_get32(offsets + 4 * (size_t)i) : cmb_get16(offsets + 2 * (size_t)i);
}

/* Start of entry i in an array of parts, and with i = n their total. */
static uint32_t part(const node *d, const uint8_t *offsets, uint32_t fixed, uint32_t i)
{
    return offsets ? offset_at(d, offsets, i) : fixed * i;
}

static int lay_out(node *d)
{
    const uint8_t *p = d->record + cmb_align_up(40 + d->prefix, 8), *end = d->record + d->body_end;
    size_t n = d->n, offsets = (d->flags & WIDE ? 4 : 2) * (n + 1);
    d->heads = p;
    p += 8 * n;
    d->key_offsets = d->flags & FIXED_KEYS ? NULL : p;
    p += d->key_offsets ? offsets : 0;
    d->value_offsets = d->level || d->flags & FIXED_VALUES ? NULL : p;
    p += d->value_offsets ? offsets : 0;
    d->head_sizes = d->flags & SHORT_KEYS ? p : NULL;
    p += d->head_sizes ? n : 0;
    d->bitmap = !d->level && d->flags & OUT_OF_LINE ? p : NULL;
    p += d->bitmap ? (n + 7) / 8 : 0;
    d->counts = p;
    p += d->level ? d->width * n : 0;
    if (p > end)
        return wrong("the arrays of a node", d->addr);
    d->rests = p;
    p += part(d, d->key_offsets, d->fixed_key, d->n);
    d->values = p;
    p += d->level ? 0 : part(d, d->value_offsets, d->width, d->n);
    d->names = p;
    p += d->level ? 16 * n : 0;
    d->trailer = p;
    return p == end ? 0 : wrong("the body of a node ends elsewhere", d->addr);
}

static int open_node(const reader *r, const reader_ref *ref, node *out_node)
{
    reader_record record;
    GOLDEN_TRY(reader_find(r, ref->addr, ref->length, ref->level ? 2 : 1, &record));
    const uint8_t *p = record.data;
    node d = {.record = p, .addr = ref->addr, .length = ref->length};
    uint32_t body = cmb_get32(p + 16);
    if (record.length < 48 || body < 24 || body > record.length - 16)
        return wrong("the body's length of a node", ref->addr);
    uint64_t head = cmb_hash64(p, 8, ref->addr);
    if (cmb_hash64(p + 16 + body, record.length - 16 - body, head) != cmb_get64(p + 8))
        return wrong("the check of a node", ref->addr);
    if (!is_named(p + 16, body, ref->name))
        return wrong("the name of a node", ref->addr);
    d.body_end = 16 + body;
    d.n = cmb_get16(p + 20);
    d.level = p[22];
    d.flags = p[23];
    d.prefix = cmb_get16(p + 32);
    d.fixed_key = cmb_get16(p + 34);
    d.width = cmb_get32(p + 36);
    if (d.level != ref->level || d.flags > 31 || cmb_get64(p + 24) != ref->count || 40 + d.prefix > d.body_end ||
        (d.flags & OUT_OF_LINE) != ref->out_of_line)
        return wrong("the header of a node", ref->addr);
    GOLDEN_TRY(lay_out(&d));
    *out_node = d;
    return 0;
}

/* The key of an entry; `out` has room for 16384 bytes. */
static int key_of(const node *d, uint32_t i, uint8_t *out, size_t *out_size)
{
    uint32_t from = part(d, d->key_offsets, d->fixed_key, i), to = part(d, d->key_offsets, d->fixed_key, i + 1);
    unsigned in_head = d->head_sizes ? d->head_sizes[i] : 8;
    uint64_t head = cmb_get64(d->heads + 8 * (size_t)i);
    if (in_head > 8 || to < from || d->prefix + in_head + (to - from) > 16384)
        return wrong("a key", d->addr);
    memcpy(out, d->record + 40, d->prefix);
    for (unsigned k = 0; k < in_head; k++)
        out[d->prefix + k] = (uint8_t)(head >> (56 - 8 * k));
    memcpy(out + d->prefix + in_head, d->rests + from, to - from);
    *out_size = d->prefix + in_head + (to - from);
    return 0;
}

static int child_of(const node *d, uint32_t i, reader_ref *out_ref)
{
    const uint8_t *t = d->trailer;
    uint64_t base = cmb_get64(t), count = cmb_get_uint(d->counts + (size_t)d->width * i, d->width);
    unsigned a = t[8], l = t[9];
    if (!d->width || d->width > 8 || !a || a > 8 || !l || l > 3 ||
        cmb_align_up(d->body_end + 10 + (uint64_t)(a + l) * d->n, 16) != d->length)
        return wrong("the trailer of a node", d->addr);
    reader_ref ref = {.level = (uint8_t)(d->level - 1), .count = count >> 2, .out_of_line = count & 1};
    ref.addr = 16 * (base + cmb_get_uint(t + 10 + (size_t)a * i, a));
    ref.length = (uint32_t)(16 * cmb_get_uint(t + 10 + (size_t)a * d->n + (size_t)l * i, l));
    memcpy(ref.name, d->names + 16 * (size_t)i, 16);
    if (ref.addr >= d->addr)
        return wrong("a child above its parent", d->addr);
    *out_ref = ref;
    return 0;
}

/* ---- values ---- */

static int read_chunk(const reader *r, uint64_t addr, uint32_t size, uint8_t *out)
{
    reader_record record;
    GOLDEN_TRY(reader_find(r, addr, 16 + size, 3, &record));
    if (!reader_is_sealed(&record))
        return wrong("the check of a chunk", addr);
    memcpy(out, record.data + 16, size);
    return 0;
}

static int read_chunks(const reader *r, const reader_record *record, uint32_t size, uint8_t *out)
{
    const uint8_t *p = record->data, *names = p + 24;
    uint32_t m = cmb_get32(p + 20);
    if (cmb_get32(p + 16) != size || m != (size + CHUNK - 1) / CHUNK || record->length < 33 + 16 * m)
        return wrong("a list of chunks", record->addr);
    uint64_t base = cmb_get64(names + 16 * m);
    unsigned a = names[16 * m + 8];
    if (!a || a > 8 || record->length != 33 + 16 * m + a * m)
        return wrong("a list of chunks", record->addr);
    for (uint32_t i = 0, done = 0, n; i < m; i++, done += n) {
        uint64_t addr = 16 * (base + cmb_get_uint(names + 16 * m + 9 + (size_t)a * i, a));
        n = size - done < CHUNK ? size - done : CHUNK;
        GOLDEN_TRY(read_chunk(r, addr, n, out + done));
        if (!is_named(out + done, n, names + 16 * i))
            return wrong("the name of a chunk", addr);
    }
    return 0;
}

/* The value's name covers the chunks' names and the size. */
static bool value_is_named(const uint8_t *value, uint32_t size, const uint8_t *name)
{
    uint8_t names[16 * CHUNKS_MAX + 4], *p = names;
    for (uint32_t done = 0; done < size || p == names; done += CHUNK, p += 16) {
        cmb_name chunk;
        cmb_hash_name(CMB_HASH_XXH3, value + done, size - done < CHUNK ? size - done : CHUNK, &chunk);
        memcpy(p, chunk.bytes, 16);
    }
    cmb_put32(p, size);
    return is_named(names, (size_t)(p + 4 - names), name);
}

/* `slot` is the value's u32 size and name; `at` says where it lies. */
static int read_far(const reader *r, const uint8_t *slot, const uint8_t *at, uint8_t *out)
{
    uint32_t size = cmb_get32(slot), length = cmb_get32(at + 8);
    uint64_t addr = cmb_get64(at);
    reader_record record;
    if (size > CHUNK * CHUNKS_MAX)
        return wrong("a value larger than this reader holds", addr);
    if (size <= CHUNK) {
        if (length != 16 + size)
            return wrong("the length of a value's chunk", addr);
        GOLDEN_TRY(read_chunk(r, addr, size, out));
    } else {
        GOLDEN_TRY(reader_find(r, addr, length, 4, &record));
        if (!reader_is_sealed(&record))
            return wrong("the check of a list of chunks", addr);
        GOLDEN_TRY(read_chunks(r, &record, size, out));
    }
    return value_is_named(out, size, slot + 4) ? 0 : wrong("the name of a value", addr);
}

static int give_far(const reader *r, const uint8_t *slot, const uint8_t *at, cmb_bytes key, reader_entry_fn fn, void *ctx)
{
    uint32_t size = cmb_get32(slot);
    uint8_t *value = malloc(size ? size : 1);
    if (!value)
        abort();
    int error = read_far(r, slot, at, value);
    if (!error)
        error = fn(ctx, key, (cmb_bytes){value, size});
    free(value);
    return error;
}

static int give_leaf(const reader *r, const node *d, reader_entry_fn fn, void *ctx)
{
    uint8_t key[16384];
    size_t size = 0;
    uint32_t far = 0;
    for (uint32_t i = 0; i < d->n; i++) {
        uint32_t from = part(d, d->value_offsets, d->width, i), to = part(d, d->value_offsets, d->width, i + 1);
        bool is_far = d->bitmap && d->bitmap[i / 8] >> (i % 8) & 1;
        if (to < from || (is_far && to - from != 20))
            return wrong("a value's slot", d->addr);
        GOLDEN_TRY(key_of(d, i, key, &size));
        cmb_bytes k = {key, size};
        if (is_far)
            GOLDEN_TRY(give_far(r, d->values + from, d->trailer + 12 * (size_t)far++, k, fn, ctx));
        else
            GOLDEN_TRY(fn(ctx, k, (cmb_bytes){d->values + from, to - from}));
    }
    return cmb_align_up(d->body_end + 12 * far, 16) == d->length ? 0 : wrong("the trailer of a leaf", d->addr);
}

/* ---- trees ---- */

/* The key of a child is the last key of its subtree: a child that is a leaf shows it. */
static int check_last_key(const node *parent, uint32_t i, const node *leaf)
{
    uint8_t said[16384], found[16384];
    size_t said_size, found_size;
    GOLDEN_TRY(key_of(parent, i, said, &said_size));
    GOLDEN_TRY(key_of(leaf, leaf->n - 1, found, &found_size));
    return cmb_compare(said, said_size, found, found_size) == 0 ? 0 : wrong("the key of a child", parent->addr);
}

static int expect_empty(const reader_ref *ref)
{
    uint8_t body[24] = {24};
    body[7] = FIXED_KEYS | FIXED_VALUES;
    return !ref->count && !ref->level && is_named(body, sizeof body, ref->name) ? 0 : wrong("the empty tree", 0);
}

int reader_tree(const reader *r, const reader_ref *root, reader_entry_fn fn, void *ctx)
{
    struct {
        node d;
        uint32_t i;
    } path[LEVELS];
    size_t depth = 0;
    if (!root->addr)
        return expect_empty(root);
    GOLDEN_TRY(open_node(r, root, &path[0].d));
    path[0].i = 0;
    for (;;) {
        node *d = &path[depth].d;
        if (d->level && path[depth].i < d->n) {
            reader_ref child;
            GOLDEN_TRY(child_of(d, path[depth].i++, &child));
            path[++depth].i = 0;
            GOLDEN_TRY(open_node(r, &child, &path[depth].d));
            continue;
        }
        if (!d->level) {
            if (depth)
                GOLDEN_TRY(check_last_key(&path[depth - 1].d, path[depth - 1].i - 1, d));
            GOLDEN_TRY(give_leaf(r, d, fn, ctx));
        }
        if (!depth--)
            return 0;
    }
}
