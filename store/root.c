/* SPDX-License-Identifier: ISC */
/*
 * root.c: ROOT and EDITS records.
 *
 *   ROOT payload   u8 version (1)  u8 number of tables  u64 units folded in since the image was made
 *                  per table: u8 table (0: refs, 1: commits, 2: reflog)  u8 size  packed root
 *   EDITS payload  u8 version (1)
 *                  per edit: u8 table  u8 operation (1: set, 2: remove)  u16 key size  u16 value size  key  value
 *
 * No key stands twice in one EDITS record.
 */
#include "store/internal.h"

#define VERSION 1u
#define ROOT_HEADER 10u
#define EDIT_HEADER 6u

enum { EDIT_SET = 1, EDIT_REMOVE = 2 };

/* ---- ROOT ---- */

int cmb_root_append(cmb_store *store, cmb_appender *app, uint64_t units, const cmb_noderef roots[CMB_TABLES],
                    uint64_t *out_addr, uint32_t *out_length)
{
    uint8_t payload[ROOT_HEADER + CMB_TABLES * (2 + CMB_NODEREF_PACKED_MAX)], *p = payload;
    uint64_t addr;
    *p++ = VERSION;
    *p++ = CMB_TABLES;
    cmb_put64(p, units);
    p += 8;
    for (unsigned i = 0; i < CMB_TABLES; i++) {
        unsigned size = cmb_noderef_pack(&roots[i], p + 2);
        p[0] = (uint8_t)i;
        p[1] = (uint8_t)size;
        p += 2 + size;
    }
    uint32_t size = (uint32_t)(p - payload);
    int error = cmb_append_record(app, CMB_RECORD_ROOT, payload, size, &addr);
    if (error)
        return error;
    *out_addr = addr;
    *out_length = CMB_RECORD_HEADER + size;
    return 0;
}

static int decode_root(const cmb_store *store, uint64_t addr, const uint8_t *p, size_t size,
                       uint64_t *out_units, cmb_noderef out_roots[CMB_TABLES])
{
    const uint8_t *end = p + size;
    unsigned seen = 0;
    if (size < ROOT_HEADER || p[0] != VERSION || p[1] != CMB_TABLES)
        return cmb_fail(size && p[0] > VERSION ? CMB_EVERSION : CMB_ECORRUPT,
                        "root record at %llu: version %u with %u tables", (unsigned long long)addr, size ? p[0] : 0,
                        size > 1 ? p[1] : 0);
    *out_units = cmb_get64(p + 2);
    for (p += ROOT_HEADER; end - p >= 2;) {
        unsigned table = p[0];
        size_t length = p[1], used;
        p += 2;
        if (table >= CMB_TABLES || seen & 1u << table || length > (size_t)(end - p))
            return cmb_fail(CMB_ECORRUPT, "root record at %llu: bad entry of table %u", (unsigned long long)addr, table);
        int error = cmb_noderef_unpack(store->tree.hash, p, length, &out_roots[table], &used);
        if (error)
            return cmb_fail_in(error, "root record at %llu, table %u", (unsigned long long)addr, table);
        if (used != length)
            return cmb_fail(CMB_ECORRUPT, "root record at %llu: bad length of table %u", (unsigned long long)addr, table);
        seen |= 1u << table;
        p += length;
    }
    if (p != end || seen != (1u << CMB_TABLES) - 1)
        return cmb_fail(CMB_ECORRUPT, "root record at %llu: incomplete", (unsigned long long)addr);
    return 0;
}

int cmb_root_read(cmb_store *store, uint64_t addr, uint32_t length)
{
    _Alignas(16) uint8_t record[CMB_RECORD_HEADER + ROOT_HEADER + CMB_TABLES * (2 + CMB_NODEREF_PACKED_MAX)];
    cmb_noderef roots[CMB_TABLES];
    uint64_t units = 0;
    if (length < CMB_RECORD_HEADER || length > sizeof record)
        return cmb_fail(CMB_ECORRUPT, "root record at %llu: %u bytes", (unsigned long long)addr, length);
    int error = cmb_log_read(store->log, NULL, addr, length, record);
    if (!error)
        error = cmb_record_check(record, length, addr);
    if (error)
        return cmb_fail_in(error, "root record");
    if (cmb_record_kind_of(record) != CMB_RECORD_ROOT || cmb_record_length(record) != length)
        return cmb_fail(CMB_ECORRUPT, "root record at %llu: another record is there", (unsigned long long)addr);
    error = decode_root(store, addr, record + CMB_RECORD_HEADER, length - CMB_RECORD_HEADER, &units, roots);
    for (unsigned i = 0; !error && i < CMB_TABLES; i++)
        store->tables[i].root = roots[i];
    if (!error)
        store->unit_number += units; /* those after it were counted while they were replayed */
    return error;
}

/* ---- EDITS ---- */

int cmb_edits_encode(const cmb_store *store, const cmb_pending *list, uint8_t **out_payload, uint32_t *out_size)
{
    size_t size = 1;
    for (const cmb_pending *p = list; p; p = p->next)
        size += EDIT_HEADER + p->key_size + p->value_size;
    if (size > CMB_RECORD_MAX - CMB_RECORD_HEADER)
        return cmb_fail(CMB_EINVAL, "too many refs move at once: %zu bytes of edits", size);
    uint8_t *payload = cmb_alloc(&store->alloc, size);
    if (!payload)
        return CMB_ENOMEM;
    uint8_t *at = payload;
    *at++ = VERSION;
    for (const cmb_pending *p = list; p; p = p->next) {
        at[0] = p->table;
        at[1] = p->removed ? EDIT_REMOVE : EDIT_SET;
        cmb_put16(at + 2, (uint16_t)p->key_size);
        cmb_put16(at + 4, (uint16_t)p->value_size);
        memcpy(at + EDIT_HEADER, p->bytes, p->key_size + p->value_size);
        at += EDIT_HEADER + p->key_size + p->value_size;
    }
    *out_payload = payload;
    *out_size = (uint32_t)size;
    return 0;
}

/* Takes one edit at *p, whose header is there. */
static int replay_one(cmb_store *store, uint64_t addr, const uint8_t **p, const uint8_t *end)
{
    const uint8_t *e = *p;
    size_t key_size = cmb_get16(e + 2), value_size = cmb_get16(e + 4);
    bool removed = e[1] == EDIT_REMOVE;
    if (e[0] >= CMB_TABLES || (e[1] != EDIT_SET && !removed) || !key_size || key_size > CMB_KEY_MAX ||
        value_size > (removed ? 0 : CMB_TABLE_VALUE_MAX) || key_size + value_size > (size_t)(end - e) - EDIT_HEADER)
        return cmb_fail(CMB_ECORRUPT, "edits record at %llu: malformed edit", (unsigned long long)addr);
    cmb_pending *pending =
        cmb_pending_create(store, (cmb_table_id)e[0], (cmb_bytes){e + EDIT_HEADER, key_size},
                           (cmb_bytes){e + EDIT_HEADER + key_size, value_size}, removed);
    if (!pending)
        return CMB_ENOMEM;
    cmb_table_reserve(store, &store->tables[e[0]]);
    cmb_tables_apply(store, pending, store->unit_number);
    *p = e + EDIT_HEADER + key_size + value_size;
    return 0;
}

int cmb_edits_replay(void *ctx, uint8_t kind, uint64_t addr, const void *payload, uint32_t length)
{
    cmb_store *store = ctx;
    const uint8_t *p = payload, *end = p + length;
    if (kind != CMB_RECORD_EDITS)
        return cmb_fail(CMB_EVERSION, "record at %llu: of kind %u", (unsigned long long)addr, kind);
    if (!length || *p != VERSION)
        return cmb_fail(length && *p > VERSION ? CMB_EVERSION : CMB_ECORRUPT, "edits record at %llu: version %u",
                        (unsigned long long)addr, length ? *p : 0);
    store->unit_number++;
    for (p++; (size_t)(end - p) >= EDIT_HEADER;) {
        int error = replay_one(store, addr, &p, end);
        if (error)
            return error;
    }
    return p == end ? 0 : cmb_fail(CMB_ECORRUPT, "edits record at %llu: cut off", (unsigned long long)addr);
}
