/* SPDX-License-Identifier: ISC */
/*
 * mend_names.c: names made anew from below. What a record refers to lies below it, so one pass in ascending order is enough: each record's
 * references are given the names that what lies there has by now, then the record is named itself. Leaves of the ref tables cannot be
 * told from others: in the values of any leaf a name that was found to be outdated is replaced.
 */
#include "btree/node.h"
#include "tests/fuzz/layout.h"

#define RENAMED 64u /* remembered at a time */
enum { OUT_OF_LINE = 1, FIXED_KEYS = 2, FIXED_VALUES = 4, SHORT_KEYS = 8, WIDE = 16 };

typedef struct renamed {
    uint8_t before[32], after[32];
} renamed;
static renamed names[RENAMED];
static size_t name_count;

/* The name at `at` is that of the record at `addr`, if one is there. */
static void give_name(layout *l, uint8_t *at, uint64_t addr)
{
    const layout_record *r = layout_record_at(l, addr);
    if (!r || !addr || memcmp(at, r->name, l->name_size) == 0)
        return;
    renamed *n = &names[name_count++ % RENAMED];
    memcpy(n->before, at, l->name_size);
    memcpy(n->after, r->name, l->name_size);
    memcpy(at, r->name, l->name_size);
}

static void name_bytes(const layout *l, const void *data, size_t size, uint8_t out[32])
{
    cmb_name name;
    cmb_hash_name(l->hash, data, size, &name);
    memcpy(out, name.bytes, sizeof name.bytes);
}

/* ---- nodes ---- */

/* Where the parts of a node's body lie that hold names; false: it makes no sense. */
typedef struct body {
    uint8_t *value_offsets, *bitmap, *rests, *values, *names, *trailer;
    uint32_t n, flags, slot, trailer_size;
    bool leaf;
} body;

static uint32_t last_offset(const body *b, const uint8_t *offsets, const uint8_t *end, bool *ok)
{
    size_t width = b->flags & WIDE ? 4 : 2;
    if (offsets + width * (b->n + 1) > end) {
        *ok = false;
        return 0;
    }
    return b->flags & WIDE ? cmb_get32(offsets + 4 * (size_t)b->n) : cmb_get16(offsets + 2 * (size_t)b->n);
}

static bool lay_out(const layout *l, const layout_record *r, body *b)
{
    uint8_t *p = r->bytes, *end;
    uint32_t size = r->length >= 48 ? cmb_get32(p + 16) : 0;
    if (size < 24 || size > r->length - 16)
        return false;
    end = p + 16 + size;
    *b = (body){.n = cmb_get16(p + 20), .flags = p[23], .slot = cmb_get32(p + 36), .leaf = p[22] == 0, .trailer = end,
                .trailer_size = r->length - 16 - size};
    uint64_t width = (b->flags & WIDE ? 4 : 2) * ((uint64_t)b->n + 1), at = cmb_align_up(40 + cmb_get16(p + 32), 8) + 8 * (uint64_t)b->n;
    uint8_t *key_offsets = p + at;
    bool ok = true;
    at += b->flags & FIXED_KEYS ? 0 : width;
    b->value_offsets = b->leaf && !(b->flags & FIXED_VALUES) ? p + at : NULL;
    at += b->value_offsets ? width : 0;
    at += b->flags & SHORT_KEYS ? b->n : 0;
    b->bitmap = b->leaf && b->flags & OUT_OF_LINE ? p + at : NULL;
    at += b->bitmap ? (b->n + 7) / 8 : 0;
    at += b->leaf ? 0 : (uint64_t)b->slot * b->n;
    if (at > 16 + (uint64_t)size)
        return false;
    at += b->flags & FIXED_KEYS ? (uint64_t)cmb_get16(p + 34) * b->n : last_offset(b, key_offsets, end, &ok);
    if (!ok || at > 16 + (uint64_t)size)
        return false;
    b->values = b->names = p + at;
    return b->leaf || at + (uint64_t)l->name_size * b->n <= 16 + (uint64_t)size;
}

static void mend_children(layout *l, const body *b)
{
    unsigned a = b->trailer_size >= 10 ? b->trailer[8] : 0;
    if (!a || a > 8 || 10 + (uint64_t)a * b->n > b->trailer_size)
        return;
    for (uint32_t i = 0; i < b->n; i++)
        give_name(l, b->names + (size_t)l->name_size * i, 16 * (cmb_get64(b->trailer) + cmb_get_uint(b->trailer + 10 + (size_t)a * i, a)));
}

static void mend_far(layout *l, const body *b)
{
    uint32_t far = 0;
    for (uint32_t i = 0; i < b->n; i++) {
        if (!(b->bitmap[i / 8] >> (i % 8) & 1))
            continue;
        uint64_t from = (uint64_t)b->slot * i;
        if (b->value_offsets)
            from = b->flags & WIDE ? cmb_get32(b->value_offsets + 4 * (size_t)i) : cmb_get16(b->value_offsets + 2 * (size_t)i);
        if (12 * ((uint64_t)far + 1) > b->trailer_size || from + 4 + l->name_size > (uint64_t)(b->trailer - b->values))
            return;
        give_name(l, b->values + from + 4, cmb_get64(b->trailer + 12 * (size_t)far++));
    }
}

static void replace_names(layout *l, uint8_t *from, const uint8_t *end)
{
    for (; (size_t)(end - from) >= l->name_size && from < end; from++)
        for (size_t i = 0; i < name_count && i < RENAMED; i++)
            if (from[0] == names[i].before[0] && memcmp(from, names[i].before, l->name_size) == 0)
                memcpy(from, names[i].after, l->name_size);
}

static void mend_node(layout *l, layout_record *r)
{
    body b;
    uint32_t size = r->length >= 20 ? cmb_get32(r->bytes + 16) : 0;
    if (lay_out(l, r, &b)) {
        if (!b.leaf)
            mend_children(l, &b);
        else if (b.bitmap)
            mend_far(l, &b);
        if (b.leaf)
            replace_names(l, b.values, b.trailer);
    }
    if (size <= r->length - 16)
        name_bytes(l, r->bytes + 16, size, r->name);
}

/* ---- values ---- */

/* A reference to a value of one chunk names the value: hash of the chunk's name and the size. */
static void mend_chunk(layout *l, layout_record *r)
{
    uint8_t room[36];
    name_bytes(l, r->bytes + 16, r->length - 16, room);
    cmb_put32(room + l->name_size, r->length - 16);
    name_bytes(l, room, l->name_size + 4, r->name);
}

static void mend_chunks(layout *l, layout_record *r)
{
    uint8_t *p = r->bytes, room[4096];
    uint64_t m = r->length >= 24 ? cmb_get32(p + 20) : 0, s = l->name_size;
    if (!m || 33 + s * m > r->length || s * m + 4 > sizeof room)
        return;
    unsigned a = p[32 + s * m];
    if (!a || a > 8 || 33 + (s + a) * m > r->length)
        return;
    for (uint64_t i = 0; i < m; i++) {
        layout_record *chunk = layout_record_at(l, 16 * (cmb_get64(p + 24 + s * m) + cmb_get_uint(p + 33 + s * m + a * i, a)));
        if (chunk) {
            uint8_t name[32];
            name_bytes(l, chunk->bytes + 16, chunk->length - 16, name);
            memcpy(p + 24 + s * i, name, s);
        }
    }
    memcpy(room, p + 24, s * m);
    cmb_put32(room + s * m, cmb_get32(p + 16));
    name_bytes(l, room, s * m + 4, r->name);
}

/* ---- commits, tags ---- */

static void mend_commit(layout *l, layout_record *r)
{
    uint8_t *content = r->bytes + 20;
    uint64_t size = r->length >= 20 ? cmb_get32(r->bytes + 16) : 0, s = l->name_size;
    if (size < 30 + s || size > r->length - 20)
        return;
    uint8_t *trailer = content + size;
    uint64_t parents = cmb_get16(content + 28 + s), places = (r->length - 20 - size) / 12;
    if (places)
        give_name(l, content + 28, cmb_get64(trailer));
    for (uint64_t i = 0; i < parents && i + 1 < places && 30 + s * (i + 2) <= size; i++)
        give_name(l, content + 30 + s + s * i, cmb_get64(trailer + 12 * (i + 1)));
    name_bytes(l, content, size, r->name);
}

static void mend_tag(layout *l, layout_record *r)
{
    uint8_t *content = r->bytes + 20;
    uint64_t size = r->length >= 20 ? cmb_get32(r->bytes + 16) : 0;
    if (size < 12 + l->name_size || size > r->length - 20 || r->length - 20 - size < 12)
        return;
    give_name(l, content + 12, cmb_get64(content + size));
    name_bytes(l, content, size, r->name);
}

/* ---- the tables ---- */

/* Moves *p behind a packed reference; false: there is none. */
static bool mend_packed(layout *l, uint8_t **p, const uint8_t *end)
{
    uint8_t *s = *p;
    if (end - s < 2)
        return false;
    unsigned a = (s[1] & 7u) + 1, used = 2 + a + (s[1] >> 3 & 7u) + 1 + (unsigned)(s[1] >> 6) + 1;
    if ((size_t)(end - s) < used + l->name_size)
        return false;
    give_name(l, s + used, 16 * cmb_get_uint(s + 2, a));
    *p = s + used + l->name_size;
    return true;
}

static bool mend_place(layout *l, uint8_t **p, const uint8_t *end)
{
    if ((size_t)(end - *p) < l->name_size + 12)
        return false;
    give_name(l, *p, cmb_get64(*p + l->name_size));
    *p += l->name_size + 12;
    return true;
}

static void mend_state(layout *l, uint8_t *p, const uint8_t *end)
{
    if (end - p < 9)
        return;
    unsigned flags = p[0];
    p += 9; /* and the number of a unit */
    if (flags & 1) {
        if (!mend_place(l, &p, end) || end - p < 8)
            return;
        p += 8;
        if (!mend_packed(l, &p, end))
            return;
    }
    if (flags & 2 && !mend_packed(l, &p, end))
        return;
    if (flags & 4)
        mend_place(l, &p, end);
}

static void mend_edits(layout *l, uint8_t *p, const uint8_t *end)
{
    while (end - p >= 6) {
        size_t key = cmb_get16(p + 2), value = cmb_get16(p + 4);
        uint8_t *k = p + 6, *v = k + key;
        if (key + value > (size_t)(end - k))
            return;
        if (p[0] == 0)
            mend_state(l, v, v + value);
        else if (p[0] == 1 && key == l->name_size && value == 12)
            give_name(l, k, cmb_get64(v));
        p = v + value;
    }
}

/* Trees of the tables, runs of intents, edits of the tables. */
static void mend_root(layout *l, layout_record *r)
{
    uint8_t *p = r->bytes + 26, *end = r->bytes + r->length;
    for (unsigned tables = r->length > 17 ? r->bytes[17] : 0; tables > 0; tables--) {
        uint8_t *q = p + 2;
        if (end - p < 2 || p[1] > end - q || !mend_packed(l, &q, q + p[1]))
            return;
        p += 2 + p[1];
    }
    uint64_t runs = end - p < 4 ? 0 : cmb_get32(p);
    if (end - p >= 5 && 12 * runs + 5 <= (uint64_t)(end - p))
        mend_edits(l, p + 5 + 12 * runs, end);
}

void layout_mend_names(layout *l)
{
    name_count = 0;
    for (size_t i = 0; i < l->record_count; i++) {
        layout_record *r = &l->records[i];
        switch (r->bytes[4]) {
        case CMB_RECORD_LEAF:
        case CMB_RECORD_NODE:
            mend_node(l, r);
            break;
        case CMB_RECORD_CHUNK:
            mend_chunk(l, r);
            break;
        case CMB_RECORD_CHUNKS:
            mend_chunks(l, r);
            break;
        case CMB_RECORD_COMMIT:
            mend_commit(l, r);
            break;
        case CMB_RECORD_TAG:
            mend_tag(l, r);
            break;
        case CMB_RECORD_EDITS:
            mend_edits(l, r->bytes + 17, r->bytes + r->length);
            break;
        case CMB_RECORD_ROOT:
            mend_root(l, r);
            break;
        default:
            break;
        }
    }
}
