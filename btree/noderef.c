/* SPDX-License-Identifier: ISC */
/*
 * A reference to a node as bytes, in ref tables and commits:
 *   u8 level | out-of-line << 6 | cut << 7
 *   u8 (address bytes - 1) | (count bytes - 1) << 3 | (length bytes - 1) << 6
 *   address / 16, count, length / 16, each in as few bytes as it needs; the name
 */
#include "btree/tree.h"

#define ADDR_LIMIT (UINT64_MAX / CMB_RECORD_ALIGN)
#define COUNT_LIMIT (UINT64_MAX >> 2)

unsigned cmb_noderef_pack(const cmb_noderef *ref, uint8_t *out)
{
    unsigned addr = cmb_uint_width(ref->addr / CMB_RECORD_ALIGN), count = cmb_uint_width(ref->count);
    unsigned length = cmb_uint_width(ref->length / CMB_RECORD_ALIGN);
    uint8_t *p = out;
    *p++ = (uint8_t)(ref->level | (unsigned)ref->out_of_line << 6 | (unsigned)ref->cut << 7);
    *p++ = (uint8_t)((addr - 1) | (count - 1) << 3 | (length - 1) << 6);
    cmb_put_uint(p, addr, ref->addr / CMB_RECORD_ALIGN);
    p += addr;
    cmb_put_uint(p, count, ref->count);
    p += count;
    cmb_put_uint(p, length, ref->length / CMB_RECORD_ALIGN);
    p += length;
    memcpy(p, ref->name.bytes, ref->name.size);
    return (unsigned)(p - out) + ref->name.size;
}

static bool sane(const cmb_noderef *ref, const unsigned widths[3])
{
    if (ref->level > CMB_LEVEL_MAX || ref->addr > ADDR_LIMIT || ref->count > COUNT_LIMIT ||
        ref->length > CMB_RECORD_MAX / CMB_RECORD_ALIGN)
        return false;
    return cmb_uint_width(ref->addr) == widths[0] && cmb_uint_width(ref->count) == widths[1] &&
           cmb_uint_width(ref->length) == widths[2];
}

int cmb_noderef_unpack(cmb_hash_kind hash, const uint8_t *data, size_t size, cmb_noderef *out_ref, size_t *out_used)
{
    if (size < 2)
        return cmb_fail(CMB_ECORRUPT, "a node reference of %u bytes", (unsigned)size);
    unsigned widths[3] = {(data[1] & 7u) + 1, (data[1] >> 3 & 7u) + 1, (data[1] >> 6) + 1u};
    size_t used = 2 + widths[0] + widths[1] + widths[2] + cmb_name_size(hash);
    if (size < used)
        return cmb_fail(CMB_ECORRUPT, "a node reference of %u bytes that takes %u", (unsigned)size, (unsigned)used);
    const uint8_t *p = data + 2;
    cmb_noderef ref = {.level = data[0] & 63, .out_of_line = data[0] >> 6 & 1, .cut = data[0] >> 7};
    ref.addr = cmb_get_uint(p, widths[0]);
    ref.count = cmb_get_uint(p + widths[0], widths[1]);
    ref.length = (uint32_t)cmb_get_uint(p + widths[0] + widths[1], widths[2]);
    if (!sane(&ref, widths))
        return cmb_fail(CMB_ECORRUPT, "a node reference with impossible numbers");
    ref.addr *= CMB_RECORD_ALIGN;
    ref.length *= CMB_RECORD_ALIGN;
    ref.name.size = (uint8_t)cmb_name_size(hash);
    memcpy(ref.name.bytes, data + used - ref.name.size, ref.name.size);
    *out_ref = ref;
    *out_used = used;
    return 0;
}
