/* SPDX-License-Identifier: ISC */
/*
 * Is a record what its reference says, and safe to walk? Names may be forged (XXH3 is no
 * cryptographic hash), so right hashes prove nothing about structure: after the hashes every size
 * is checked before it is used, and every rule of node.h that makes the encoding canonical.
 */
#include "btree/node_private.h"

typedef struct check {
    const uint8_t *record;
    const cmb_noderef *ref;
    cmb_node node;
} check;

static int damaged(const check *c, const char *what)
{
    return cmb_fail(CMB_ECORRUPT, "node at %llu: %s", (unsigned long long)c->ref->addr, what);
}

/* What must hold before anything behind the header may be touched. */
static int check_header(const check *c)
{
    const uint8_t *r = c->record;
    const cmb_noderef *ref = c->ref;
    if (ref->length % 16 || ref->length < CMB_NODE_HEADER + 8 || ref->length > CMB_RECORD_MAX)
        return cmb_fail(CMB_ECORRUPT, "node at %llu: a reference with length %u", (unsigned long long)ref->addr,
                        (unsigned)ref->length);
    if (ref->addr % 16 || ref->addr == 0)
        return damaged(c, "a reference with an address that is none");
    if (cmb_get32(r) != ref->length)
        return cmb_fail(CMB_ECORRUPT, "node at %llu: length %u found, %u expected", (unsigned long long)ref->addr,
                        (unsigned)cmb_get32(r), (unsigned)ref->length);
    if (cmb_get32(r + 4) != (ref->level ? CMB_RECORD_NODE : CMB_RECORD_LEAF))
        return cmb_fail(CMB_ECORRUPT, "node at %llu: record kind %08x", (unsigned long long)ref->addr,
                        (unsigned)cmb_get32(r + 4));
    uint32_t body = cmb_get32(r + 16);
    if (body < CMB_NODE_HEADER - 16 || body > ref->length - 16)
        return cmb_fail(CMB_ECORRUPT, "node at %llu: body of %u bytes in a record of %u", (unsigned long long)ref->addr,
                        (unsigned)body, (unsigned)ref->length);
    return 0;
}

/* The check of its places; *out_name: of its body. */
static int check_hashes(const check *c, cmb_hash_kind hash, cmb_name *out_name)
{
    uint64_t found = cmb_node_check(c->record, c->ref->addr), stored = cmb_record_stored_check(c->record);
    if (found != stored)
        return cmb_fail(CMB_ECORRUPT, "node at %llu: its places have check %016llx, %016llx was expected",
                        (unsigned long long)c->ref->addr, (unsigned long long)found, (unsigned long long)stored);
    cmb_hash_name(hash, c->record + 16, cmb_get32(c->record + 16), out_name);
    return 0;
}

static int check_name(const check *c, const cmb_name *name)
{
    if (CMB_LIKELY(cmb_name_equal(name, &c->ref->name)))
        return 0;
    char found_hex[2 * CMB_NAME_MAX + 1], expected_hex[2 * CMB_NAME_MAX + 1];
    cmb_name_hex(name, found_hex);
    cmb_name_hex(&c->ref->name, expected_hex);
    return cmb_fail(CMB_ECORRUPT, "node at %llu: its content is %s, %s was expected", (unsigned long long)c->ref->addr,
                    found_hex, expected_hex);
}

/* The fields of the header against the reference and against each other. */
static int check_fields(const check *c)
{
    const uint8_t *r = c->record;
    unsigned flags = r[23], level = r[22], count = cmb_get16(r + 20);
    uint32_t rest_size = cmb_get16(r + 34), value_size = cmb_get32(r + 36);
    const unsigned known = CMB_NODE_OUT_OF_LINE | CMB_NODE_FIXED_KEYS | CMB_NODE_FIXED_VALUES | CMB_NODE_SHORT_KEYS | CMB_NODE_WIDE;
    if (level != c->ref->level || level > CMB_LEVEL_MAX)
        return damaged(c, "it is of another level than its reference says");
    if (cmb_get64(r + 24) != c->ref->count)
        return damaged(c, "it counts other entries than its reference says");
    if (flags & ~known || !(flags & CMB_NODE_OUT_OF_LINE) != !c->ref->out_of_line)
        return damaged(c, "wrong flags");
    if (level > 0 && (count == 0 || flags & CMB_NODE_FIXED_VALUES || value_size < 1 || value_size > 8))
        return damaged(c, "no internal node looks like this");
    if (level == 0 && cmb_get64(r + 24) != count)
        return damaged(c, "a leaf that counts other entries than its own");
    if (level == 0 && !(flags & CMB_NODE_FIXED_VALUES) && value_size)
        return damaged(c, "a value length without need");
    if (!(flags & CMB_NODE_FIXED_KEYS) && rest_size)
        return damaged(c, "a rest length without need");
    if (count == 0 && (cmb_get16(r + 32) || rest_size || value_size || flags != (CMB_NODE_FIXED_KEYS | CMB_NODE_FIXED_VALUES)))
        return damaged(c, "an empty leaf with something in it");
    return 0;
}

/* An array of n + 1 offsets: from 0 upwards, not all steps equal (it would not be there). *out_total: the last one. */
static int check_offsets(const check *c, const uint8_t *offsets, uint64_t *out_total)
{
    const cmb_node *n = &c->node;
    uint32_t before = cmb_node_offset(n, offsets, 0), step = 0;
    bool equal = true;
    if (before != 0)
        return damaged(c, "offsets that do not start at 0");
    for (uint32_t i = 1; i <= n->count; i++) {
        uint32_t next = cmb_node_offset(n, offsets, i);
        if (next < before)
            return damaged(c, "offsets that go back");
        equal &= i == 1 || next - before == step;
        step = next - before;
        before = next;
    }
    if (equal)
        return damaged(c, "offsets of equally long parts");
    *out_total = before;
    return 0;
}

/* Every part in its place and inside: after this, cmb_node_open's places may be followed. */
static int check_layout(check *c, cmb_hash_kind hash)
{
    cmb_node *n = &c->node;
    const uint8_t *r = c->record;
    unsigned flags = r[23], level = r[22];
    uint64_t count = cmb_get16(r + 20), end = 16 + (uint64_t)cmb_get32(r + 16), prefix = cmb_get16(r + 32);
    uint64_t value_size = cmb_get32(r + 36);
    uint64_t at = cmb_align_up(CMB_NODE_HEADER + prefix, 8) + 8 * count;
    uint64_t offsets = (count + 1) * (flags & CMB_NODE_WIDE ? 4 : 2);
    bool value_offsets = level == 0 && !(flags & CMB_NODE_FIXED_VALUES);
    at += flags & CMB_NODE_FIXED_KEYS ? 0 : offsets;
    at += value_offsets ? offsets : 0;
    at += flags & CMB_NODE_SHORT_KEYS ? count : 0;
    at += level > 0 ? value_size * count : flags & CMB_NODE_OUT_OF_LINE ? (count + 7) / 8 : 0;
    if (at > end)
        return damaged(c, "its arrays do not fit its body");
    cmb_node_open(hash, r, n); /* reads nothing but the arrays; rests and values are looked at below */
    uint64_t rests = n->rest_size * count, values = level > 0 ? n->name_size * count : value_size * count, widest = 0;
    if (n->key_offsets) {
        if (check_offsets(c, n->key_offsets, &rests))
            return CMB_ECORRUPT;
        widest = rests;
    }
    if (n->value_offsets) {
        if (check_offsets(c, n->value_offsets, &values))
            return CMB_ECORRUPT;
        widest = values > widest ? values : widest;
    }
    if (at + rests + values != end)
        return damaged(c, "its parts do not fill its body");
    if ((widest > UINT16_MAX) != !!(flags & CMB_NODE_WIDE))
        return damaged(c, "offsets of the wrong width");
    for (const uint8_t *p = n->prefix + prefix; p < n->heads; p++)
        if (*p)
            return damaged(c, "something between prefix and heads");
    return 0;
}

static int check_key_sizes(const check *c)
{
    const cmb_node *n = &c->node;
    bool some_short = false;
    uint32_t each = n->head_sizes || n->key_offsets ? n->count : n->count ? 1 : 0; /* all alike: one says it */
    for (uint32_t i = 0; i < each; i++) {
        uint32_t head_size = cmb_node_head_size(n, i), rest_size = cmb_node_rest_size(n, i);
        uint32_t size = n->prefix_size + head_size + rest_size;
        if (head_size > 8 || (head_size < 8 && rest_size) || size < CMB_KEY_MIN || size > CMB_KEY_MAX)
            return damaged(c, "a key of an impossible size");
        if (head_size < 8 && cmb_node_head(n, i) << (8 * head_size))
            return damaged(c, "a head with something after its end");
        some_short |= head_size < 8;
    }
    return some_short == (n->head_sizes != NULL) ? 0 : damaged(c, "head sizes without need");
}

/* Do the heads alone put the keys in order? In straight code: it is so in most nodes. */
static bool heads_ascend(const cmb_node *n)
{
    unsigned wrong = 0;
    for (uint32_t i = 1; i < n->count; i++)
        wrong |= cmb_node_head(n, i - 1) >= cmb_node_head(n, i);
    return !wrong;
}

/* Strictly ascending, and the prefix as long as can be. */
static int check_key_order(const check *c)
{
    const cmb_node *n = &c->node;
    for (uint32_t i = heads_ascend(n) ? n->count : 1; i < n->count; i++) {
        uint64_t a = cmb_node_head(n, i - 1), b = cmb_node_head(n, i);
        cmb_suffix suffix = {b, cmb_node_head_size(n, i), cmb_node_rest_size(n, i), cmb_node_rest(n, i)};
        if (a > b || (a == b && cmb_node_compare_tied(n, i - 1, &suffix) >= 0))
            return damaged(c, "keys that do not ascend");
    }
    if (n->count == 0)
        return 0;
    uint32_t last = n->count - 1;
    bool whole = cmb_node_head_size(n, 0) == 0; /* the first key is the prefix */
    if (last == 0 ? !whole : !whole && cmb_node_head(n, 0) >> 56 == cmb_node_head(n, last) >> 56)
        return damaged(c, "a prefix shorter than it could be");
    return 0;
}

/* The unused end of the trailer. */
static int check_padding(const check *c, uint64_t used)
{
    const cmb_node *n = &c->node;
    uint64_t at = 16 + (uint64_t)n->body_length + used;
    if (cmb_align_up(at, 16) != n->length)
        return damaged(c, "its trailer has the wrong size");
    for (; at < n->length; at++)
        if (c->record[at])
            return damaged(c, "something after its end");
    return 0;
}

/* Does [place, place + length) lie below this node, as everything that it refers to must? */
static bool below(const check *c, uint64_t place, uint64_t length)
{
    return place && place % 16 == 0 && place < c->ref->addr && cmb_align_up(length, 16) <= c->ref->addr - place;
}

static int check_out_of_line(const check *c)
{
    const cmb_node *n = &c->node;
    if (!n->ool_map)
        return check_padding(c, 0);
    if (n->count % 8 && n->ool_map[n->count / 8] >> (n->count % 8))
        return damaged(c, "out-of-line bits of entries that are not there");
    uint64_t far = 0;
    for (uint32_t i = 0; i < n->count; i++) {
        if (!cmb_node_is_out_of_line(n, i))
            continue;
        if (cmb_node_value(n, i).size != 4u + n->name_size)
            return damaged(c, "an out-of-line value whose slot has the wrong size");
        far++;
    }
    if (far == 0)
        return damaged(c, "an out-of-line map without need");
    if (check_padding(c, far * CMB_NODE_FAR_PLACE))
        return CMB_ECORRUPT;
    for (uint64_t i = 0; i < far; i++) {
        const uint8_t *place = n->trailer + i * CMB_NODE_FAR_PLACE;
        uint32_t length = cmb_get32(place + 8);
        if (length < CMB_RECORD_HEADER || length > CMB_RECORD_MAX || !below(c, cmb_get64(place), length))
            return damaged(c, "an out-of-line value at an impossible place");
    }
    return 0;
}

static int check_counts(const check *c)
{
    const cmb_node *n = &c->node;
    uint64_t total = 0, largest = 0;
    bool out_of_line = false;
    for (uint32_t i = 0; i < n->count; i++) {
        uint64_t packed = cmb_node_packed(n->counts + (size_t)i * n->value_size, n->value_size);
        if (packed >> 2 == 0)
            return damaged(c, "a child without entries");
        if (__builtin_add_overflow(total, packed >> 2, &total))
            return damaged(c, "counts beyond all bounds");
        largest = packed > largest ? packed : largest;
        out_of_line |= packed & 1;
    }
    if (total != c->ref->count)
        return damaged(c, "its children count other entries than it does");
    if (out_of_line != c->ref->out_of_line)
        return damaged(c, "its children disagree about out-of-line values");
    return cmb_uint_width(largest) == n->value_size ? 0 : damaged(c, "counts of the wrong width");
}

static int check_places(const check *c)
{
    const cmb_node *n = &c->node;
    if (n->length - 16 - n->body_length < CMB_NODE_TRAILER_HEADER)
        return damaged(c, "no room for a trailer");
    uint64_t base = cmb_get64(n->trailer), lowest = UINT64_MAX, highest = 0, longest = 0;
    unsigned addr_width = n->trailer[8], len_width = n->trailer[9];
    if (base > UINT64_MAX / 16 || addr_width < 1 || addr_width > 8 || len_width < 1 || len_width > 3)
        return damaged(c, "a trailer with impossible widths");
    if (check_padding(c, CMB_NODE_TRAILER_HEADER + (uint64_t)n->count * (addr_width + len_width)))
        return CMB_ECORRUPT;
    for (uint32_t i = 0; i < n->count; i++) {
        uint64_t step = cmb_node_packed(n->trailer + CMB_NODE_TRAILER_HEADER + (size_t)i * addr_width, addr_width);
        uint64_t length = cmb_node_child_length(n, i);
        if (step > UINT64_MAX / 16 - base || length < CMB_NODE_HEADER + 8 || length > CMB_RECORD_MAX ||
            !below(c, (base + step) * 16, length))
            return damaged(c, "a child at an impossible place");
        lowest = step < lowest ? step : lowest;
        highest = step > highest ? step : highest;
        longest = length > longest ? length : longest;
    }
    if (lowest != 0 || cmb_uint_width(highest) != addr_width || cmb_uint_width(longest / 16) != len_width)
        return damaged(c, "a trailer wider than it need be");
    return 0;
}

/* All but the hashes. */
static int check_structure(check *c, cmb_hash_kind hash)
{
    if (check_fields(c) || check_layout(c, hash) || check_key_sizes(c) || check_key_order(c))
        return CMB_ECORRUPT;
    if (c->node.level == 0)
        return check_out_of_line(c);
    return check_counts(c) ? CMB_ECORRUPT : check_places(c);
}

int cmb_node_verify(cmb_hash_kind hash, const void *record, const cmb_noderef *ref)
{
    check c = {.record = record, .ref = ref};
    cmb_name name;
    if (check_header(&c) || check_hashes(&c, hash, &name) || check_name(&c, &name))
        return CMB_ECORRUPT;
    return check_structure(&c, hash);
}

int cmb_node_verify_alone(cmb_hash_kind hash, const void *record, uint32_t length, uint64_t addr, cmb_noderef *out_ref,
                          cmb_node *out_node)
{
    const uint8_t *r = record;
    cmb_noderef ref = {.addr = addr, .length = length};
    check c = {.record = record, .ref = &ref};
    if (length < CMB_NODE_HEADER)
        return damaged(&c, "shorter than a node's header");
    ref.level = r[22];
    ref.count = cmb_get64(r + 24);
    ref.out_of_line = r[23] & CMB_NODE_OUT_OF_LINE;
    if (check_header(&c) || check_hashes(&c, hash, &ref.name) || check_structure(&c, hash))
        return CMB_ECORRUPT;
    *out_ref = ref;
    *out_node = c.node;
    return 0;
}
