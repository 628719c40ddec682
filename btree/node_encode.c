/* SPDX-License-Identifier: ISC */
/*
 * Making a record: first its shape is worked out (every size and flag, all of them functions of the
 * entries), then the parts are written one after the other.
 */
#include "btree/node_private.h"

#include <assert.h>

typedef struct shape {
    const cmb_entry *entries;
    uint32_t n;
    unsigned level, name_size;
    uint32_t prefix_size, rest_size, value_size;
    uint64_t rests, values, total; /* bytes, bytes, entries */
    uint32_t far_count;            /* out-of-line values in this leaf */
    uint8_t flags;
    unsigned count_width, addr_width, len_width;
    uint64_t base;
    uint64_t body_length, length;
} shape;

static uint32_t common_prefix(const cmb_entry *entries, uint32_t n)
{
    if (n == 0)
        return 0;
    const cmb_entry *a = &entries[0], *b = &entries[n - 1];
    uint32_t limit = a->key_size < b->key_size ? a->key_size : b->key_size, i = 0;
    while (i < limit && a->key[i] == b->key[i])
        i++;
    return i;
}

static uint32_t head_size_of(const shape *s, const cmb_entry *e)
{
    uint32_t size = e->key_size - s->prefix_size;
    return size < 8 ? size : 8;
}

static uint32_t rest_size_of(const shape *s, const cmb_entry *e)
{
    return e->key_size - s->prefix_size - head_size_of(s, e);
}

static uint32_t slot_size_of(const shape *s, const cmb_entry *e)
{
    return e->valref ? 4 + s->name_size : e->value_size;
}

static void shape_keys(shape *s)
{
    s->prefix_size = common_prefix(s->entries, s->n);
    bool equal = true;
    for (uint32_t i = 0; i < s->n; i++) {
        uint32_t rest = rest_size_of(s, &s->entries[i]);
        equal &= rest == rest_size_of(s, &s->entries[0]);
        s->rests += rest;
        if (head_size_of(s, &s->entries[i]) < 8)
            s->flags |= CMB_NODE_SHORT_KEYS;
    }
    if (equal) {
        s->flags |= CMB_NODE_FIXED_KEYS;
        s->rest_size = s->n ? rest_size_of(s, &s->entries[0]) : 0;
    }
}

static void shape_values(shape *s)
{
    bool equal = true;
    for (uint32_t i = 0; i < s->n; i++) {
        uint32_t size = slot_size_of(s, &s->entries[i]);
        equal &= size == slot_size_of(s, &s->entries[0]);
        s->values += size;
        s->far_count += s->entries[i].valref != NULL;
    }
    if (equal) {
        s->flags |= CMB_NODE_FIXED_VALUES;
        s->value_size = s->n ? slot_size_of(s, &s->entries[0]) : 0;
    }
    if (s->far_count)
        s->flags |= CMB_NODE_OUT_OF_LINE;
    s->total = s->n;
}

static uint64_t packed_count(const cmb_noderef *child)
{
    return child->count << 2 | (uint64_t)child->cut << 1 | child->out_of_line;
}

static void shape_children(shape *s)
{
    uint64_t count_max = 0, top = 0;
    uint32_t length_max = 0;
    s->base = UINT64_MAX;
    for (uint32_t i = 0; i < s->n; i++) {
        const cmb_noderef *c = s->entries[i].child;
        assert(c->level + 1u == s->level && c->addr % 16 == 0 && c->addr > 0 && c->length % 16 == 0);
        count_max = packed_count(c) > count_max ? packed_count(c) : count_max;
        s->base = c->addr / 16 < s->base ? c->addr / 16 : s->base;
        top = c->addr / 16 > top ? c->addr / 16 : top;
        length_max = c->length / 16 > length_max ? c->length / 16 : length_max;
        s->total += c->count;
        if (c->out_of_line)
            s->flags |= CMB_NODE_OUT_OF_LINE;
    }
    s->count_width = s->value_size = cmb_uint_width(count_max);
    s->addr_width = cmb_uint_width(top - s->base);
    s->len_width = cmb_uint_width(length_max);
    s->values = (uint64_t)s->n * s->name_size;
}

static void shape_sizes(shape *s)
{
    bool key_offsets = !(s->flags & CMB_NODE_FIXED_KEYS);
    bool value_offsets = s->level == 0 && !(s->flags & CMB_NODE_FIXED_VALUES);
    if ((key_offsets && s->rests > UINT16_MAX) || (value_offsets && s->values > UINT16_MAX))
        s->flags |= CMB_NODE_WIDE;
    uint64_t offsets = (s->n + (uint64_t)1) * (s->flags & CMB_NODE_WIDE ? 4 : 2);
    uint64_t end = cmb_align_up(CMB_NODE_HEADER + s->prefix_size, 8) + 8 * (uint64_t)s->n;
    end += (key_offsets ? offsets : 0) + (value_offsets ? offsets : 0);
    end += s->flags & CMB_NODE_SHORT_KEYS ? s->n : 0;
    if (s->level > 0)
        end += (uint64_t)s->count_width * s->n;
    else if (s->flags & CMB_NODE_OUT_OF_LINE)
        end += (s->n + 7u) / 8;
    end += s->rests + s->values;
    s->body_length = end - 16;
    if (s->level > 0)
        end += CMB_NODE_TRAILER_HEADER + (uint64_t)s->n * (s->addr_width + s->len_width);
    else
        end += (uint64_t)s->far_count * CMB_NODE_FAR_PLACE;
    s->length = cmb_align_up(end, 16);
}

static uint8_t *put_bytes(uint8_t *p, const void *data, size_t size)
{
    if (size)
        memcpy(p, data, size);
    return p + size;
}

static uint8_t *put_offset(const shape *s, uint8_t *p, uint64_t offset)
{
    if (s->flags & CMB_NODE_WIDE) {
        cmb_put32(p, (uint32_t)offset);
        return p + 4;
    }
    cmb_put16(p, (uint16_t)offset);
    return p + 2;
}

static uint8_t *put_header(const shape *s, uint8_t *r)
{
    cmb_put32(r, (uint32_t)s->length);
    cmb_put32(r + 4, s->level ? CMB_RECORD_NODE : CMB_RECORD_LEAF);
    cmb_put64(r + 8, 0);
    cmb_put32(r + 16, (uint32_t)s->body_length);
    cmb_put16(r + 20, (uint16_t)s->n);
    r[22] = (uint8_t)s->level;
    r[23] = s->flags;
    cmb_put64(r + 24, s->total);
    cmb_put16(r + 32, (uint16_t)s->prefix_size);
    cmb_put16(r + 34, (uint16_t)s->rest_size);
    cmb_put32(r + 36, s->value_size);
    uint8_t *p = r + CMB_NODE_HEADER;
    p = put_bytes(p, s->n ? s->entries[0].key : NULL, s->prefix_size);
    uint8_t *heads = r + cmb_align_up(CMB_NODE_HEADER + s->prefix_size, 8);
    while (p < heads)
        *p++ = 0;
    return p;
}

/* Heads and everything else that stands in arrays before the rests. */
static uint8_t *put_arrays(const shape *s, uint8_t *p)
{
    for (uint32_t i = 0; i < s->n; i++, p += 8)
        cmb_put64(p, cmb_head_of(s->entries[i].key + s->prefix_size, s->entries[i].key_size - s->prefix_size));
    uint64_t offset = 0;
    if (!(s->flags & CMB_NODE_FIXED_KEYS)) {
        p = put_offset(s, p, 0);
        for (uint32_t i = 0; i < s->n; i++)
            p = put_offset(s, p, offset += rest_size_of(s, &s->entries[i]));
    }
    if (s->level == 0 && !(s->flags & CMB_NODE_FIXED_VALUES)) {
        p = put_offset(s, p, offset = 0);
        for (uint32_t i = 0; i < s->n; i++)
            p = put_offset(s, p, offset += slot_size_of(s, &s->entries[i]));
    }
    if (s->flags & CMB_NODE_SHORT_KEYS)
        for (uint32_t i = 0; i < s->n; i++)
            *p++ = (uint8_t)head_size_of(s, &s->entries[i]);
    if (s->level > 0) {
        for (uint32_t i = 0; i < s->n; i++, p += s->count_width)
            cmb_put_uint(p, s->count_width, packed_count(s->entries[i].child));
    } else if (s->flags & CMB_NODE_OUT_OF_LINE) {
        memset(p, 0, (s->n + 7u) / 8);
        for (uint32_t i = 0; i < s->n; i++)
            p[i / 8] |= (uint8_t)((unsigned)(s->entries[i].valref != NULL) << (i % 8));
        p += (s->n + 7u) / 8;
    }
    return p;
}

static uint8_t *put_contents(const shape *s, uint8_t *p)
{
    for (uint32_t i = 0; i < s->n; i++) {
        const cmb_entry *e = &s->entries[i];
        p = put_bytes(p, e->key + s->prefix_size + head_size_of(s, e), rest_size_of(s, e));
    }
    for (uint32_t i = 0; i < s->n; i++) {
        const cmb_entry *e = &s->entries[i];
        if (s->level > 0) {
            p = put_bytes(p, e->child->name.bytes, s->name_size);
        } else if (e->valref) {
            cmb_put32(p, e->valref->size);
            p = put_bytes(p + 4, e->valref->name.bytes, s->name_size);
        } else {
            p = put_bytes(p, e->value, e->value_size);
        }
    }
    return p;
}

static uint8_t *put_trailer(const shape *s, uint8_t *p)
{
    if (s->level == 0) {
        for (uint32_t i = 0; i < s->n && s->far_count; i++) {
            const cmb_valref *v = s->entries[i].valref;
            if (!v)
                continue;
            cmb_put64(p, v->addr);
            cmb_put32(p + 8, v->length);
            p += CMB_NODE_FAR_PLACE;
        }
        return p;
    }
    cmb_put64(p, s->base);
    p[8] = (uint8_t)s->addr_width;
    p[9] = (uint8_t)s->len_width;
    p += CMB_NODE_TRAILER_HEADER;
    for (uint32_t i = 0; i < s->n; i++, p += s->addr_width)
        cmb_put_uint(p, s->addr_width, s->entries[i].child->addr / 16 - s->base);
    for (uint32_t i = 0; i < s->n; i++, p += s->len_width)
        cmb_put_uint(p, s->len_width, s->entries[i].child->length / 16);
    return p;
}

static int reserve(const cmb_allocator *alloc, cmb_node_buffer *buffer, size_t size)
{
    if (size <= buffer->capacity)
        return 0;
    size_t capacity = cmb_align_up(size + size / 2, 1024);
    uint8_t *data = cmb_alloc(alloc, capacity); /* what the old one holds is not worth copying */
    if (!data)
        return CMB_ENOMEM;
    cmb_release(alloc, buffer->data, buffer->capacity);
    *buffer = (cmb_node_buffer){data, capacity};
    return 0;
}

int cmb_node_encode(const cmb_allocator *alloc, cmb_hash_kind hash, unsigned level, const cmb_entry *entries,
                    uint32_t n, cmb_node_buffer *buffer, cmb_noderef *out_ref)
{
    assert(n > 0 || level == 0);
    if (n > CMB_NODE_COUNT_MAX || level > CMB_LEVEL_MAX)
        return cmb_fail(CMB_ETOOBIG, "a node of %u entries at level %u", (unsigned)n, level);
    shape s = {.entries = entries, .n = n, .level = level, .name_size = cmb_name_size(hash)};
    shape_keys(&s);
    if (level > 0)
        shape_children(&s);
    else
        shape_values(&s);
    shape_sizes(&s);
    if (s.length > CMB_RECORD_MAX)
        return cmb_fail(CMB_ETOOBIG, "a node of %u entries takes %llu bytes, a record holds %u", (unsigned)n,
                        (unsigned long long)s.length, CMB_RECORD_MAX);
    if (reserve(alloc, buffer, s.length))
        return CMB_ENOMEM;

    uint8_t *record = buffer->data, *p = put_header(&s, record);
    p = put_arrays(&s, p);
    p = put_contents(&s, p);
    assert(p == record + 16 + s.body_length);
    p = put_trailer(&s, p);
    assert(p <= record + s.length);
    memset(p, 0, (size_t)(record + s.length - p));

    cmb_noderef ref = {
        .count = s.total, .length = (uint32_t)s.length, .level = (uint8_t)level, .out_of_line = s.flags & CMB_NODE_OUT_OF_LINE,
    };
    cmb_hash_name(hash, record + 16, s.body_length, &ref.name);
    *out_ref = ref;
    return 0;
}

uint64_t cmb_node_check(const void *record, uint64_t addr)
{
    const uint8_t *r = record;
    uint32_t end = cmb_get32(r), trailer = 16 + cmb_get32(r + 16);
    return cmb_hash64(r + trailer, end - trailer, cmb_hash64(r, 8, addr));
}

void cmb_node_place(void *record, uint64_t addr)
{
    cmb_put64((uint8_t *)record + 8, cmb_node_check(record, addr));
}
