/* SPDX-License-Identifier: ISC */
/*
 * root.c: ROOT and EDITS records.
 *
 *   ROOT payload   u8 version (2)  u8 number of tables  u64 units since the image was made that are in it
 *                  per table: u8 table (0: refs, 1: commits, 2: reflog)  u8 size  packed root
 *                  u32 number of runs of intents  per run: u64 address  u32 length of its INTENTS record
 *                  the payload of an EDITS record: edits over the tables that are not folded into them yet
 *   EDITS payload  u8 version (1)
 *                  per edit: u8 table  u8 operation (1: set, 2: remove)  u16 key size  u16 value size  key  value
 *
 * No key stands twice in one EDITS record.
 */
#include "store/intents.h"

#define ROOT_VERSION 2u
#define VERSION 1u /* of EDITS */
#define ROOT_HEADER 10u
#define RUN_ENTRY 12u
#define EDIT_HEADER 6u

enum { EDIT_SET = 1, EDIT_REMOVE = 2 };

/* ---- ROOT ---- */

int cmb_root_append(cmb_store *store, cmb_appender *app, uint64_t units, const cmb_noderef roots[CMB_TABLES], const cmb_bytes *carried,
                    const cmb_intents_runs *runs, uint64_t *out_addr, uint32_t *out_length)
{
    static const uint8_t nothing[] = {VERSION};
    cmb_bytes edits = carried ? *carried : (cmb_bytes){nothing, sizeof nothing};
    size_t most = ROOT_HEADER + CMB_TABLES * (2 + CMB_NODEREF_PACKED_MAX) + 4 + runs->n * RUN_ENTRY + edits.size;
    if (most > CMB_RECORD_MAX - CMB_RECORD_HEADER)
        return cmb_fail(CMB_ENOSPC, "%zu runs of logged edits wait to be merged into trees", runs->n);
    uint8_t *payload = cmb_alloc(&store->alloc, most), *p = payload;
    if (!payload)
        return CMB_ENOMEM;
    *p++ = ROOT_VERSION;
    *p++ = CMB_TABLES;
    cmb_put64(p, units);
    p += 8;
    for (unsigned i = 0; i < CMB_TABLES; i++) {
        unsigned size = cmb_noderef_pack(&roots[i], p + 2);
        p[0] = (uint8_t)i;
        p[1] = (uint8_t)size;
        p += 2 + size;
    }
    cmb_put32(p, (uint32_t)runs->n);
    p += 4;
    for (size_t i = 0; i < runs->n; i++, p += RUN_ENTRY) {
        cmb_put64(p, runs->items[i].addr);
        cmb_put32(p + 8, runs->items[i].length);
    }
    memcpy(p, edits.data, edits.size);
    uint32_t size = (uint32_t)(p + edits.size - payload);
    int error = cmb_append_record(app, CMB_RECORD_ROOT, payload, size, out_addr);
    cmb_release(&store->alloc, payload, most);
    if (!error)
        *out_length = CMB_RECORD_HEADER + size;
    return error;
}

typedef struct root_parts {
    uint64_t units;
    cmb_noderef roots[CMB_TABLES];
    const uint8_t *runs, *edits;
    size_t run_count, edits_size;
} root_parts;

static int decode_tables(const cmb_store *store, uint64_t addr, const uint8_t **at, const uint8_t *end, root_parts *out)
{
    const uint8_t *p = *at;
    for (unsigned i = 0; i < CMB_TABLES; i++) {
        size_t length = end - p >= 2 ? p[1] : SIZE_MAX, used;
        if (length > (size_t)(end - p) - 2 || p[0] != i)
            return cmb_fail(CMB_ECORRUPT, "root record at %llu: bad entry of table %u", (unsigned long long)addr, i);
        p += 2;
        int error = cmb_noderef_unpack(store->tree.hash, p, length, &out->roots[i], &used);
        if (error)
            return cmb_fail_in(error, "root record at %llu, table %u", (unsigned long long)addr, i);
        if (used != length)
            return cmb_fail(CMB_ECORRUPT, "root record at %llu: bad length of table %u", (unsigned long long)addr, i);
        p += length;
    }
    *at = p;
    return 0;
}

static int decode_root(const cmb_store *store, uint64_t addr, const uint8_t *p, size_t size, root_parts *out)
{
    const uint8_t *end = p + size;
    if (size < ROOT_HEADER || p[0] != ROOT_VERSION || p[1] != CMB_TABLES)
        return cmb_fail(size && p[0] != ROOT_VERSION ? CMB_EVERSION : CMB_ECORRUPT, "root record at %llu: version %u with %u tables",
                        (unsigned long long)addr, size ? p[0] : 0, size > 1 ? p[1] : 0);
    out->units = cmb_get64(p + 2);
    if (out->units > UINT64_MAX / 2) /* numbers of units only rise, and do not come round */
        return cmb_fail(CMB_ECORRUPT, "root record at %llu: %llu units", (unsigned long long)addr, (unsigned long long)out->units);
    p += ROOT_HEADER;
    int error = decode_tables(store, addr, &p, end, out);
    if (error)
        return error;
    size_t left = (size_t)(end - p);
    if (left < 4 || cmb_get32(p) > (left - 4) / RUN_ENTRY)
        return cmb_fail(CMB_ECORRUPT, "root record at %llu: its runs are cut off", (unsigned long long)addr);
    out->run_count = cmb_get32(p);
    out->runs = p + 4;
    out->edits = out->runs + out->run_count * RUN_ENTRY;
    out->edits_size = (size_t)(end - out->edits);
    return 0;
}

static int replay_edits(cmb_store *store, uint64_t addr, const uint8_t *p, size_t size, bool older);

/* Tables first: what was replayed is newer than what the record carries, and runs need to know their refs. */
static int take_root(cmb_store *store, uint64_t addr, const root_parts *root, bool runs)
{
    for (unsigned i = 0; i < CMB_TABLES; i++)
        store->tables[i].root = root->roots[i];
    store->unit_number += root->units; /* those after it were counted while they were replayed */
    int error = replay_edits(store, addr, root->edits, root->edits_size, true);
    for (size_t i = 0; runs && i < root->run_count && !error; i++) {
        const uint8_t *run = root->runs + i * RUN_ENTRY;
        error = cmb_intents_load_run(store, cmb_get64(run), cmb_get32(run + 8));
    }
    return error;
}

static int read_root(cmb_store *store, uint64_t addr, uint32_t length, bool runs)
{
    root_parts root;
    if (length < CMB_RECORD_HEADER || length > CMB_RECORD_MAX)
        return cmb_fail(CMB_ECORRUPT, "root record at %llu: %u bytes", (unsigned long long)addr, length);
    uint8_t *record = cmb_alloc(&store->alloc, length);
    if (!record)
        return CMB_ENOMEM;
    int error = cmb_log_read(store->log, NULL, addr, length, record);
    if (!error)
        error = cmb_record_check(record, length, addr);
    if (error)
        error = cmb_fail_in(error, "root record");
    else if (cmb_record_kind_of(record) != CMB_RECORD_ROOT || cmb_record_length(record) != length)
        error = cmb_fail(CMB_ECORRUPT, "root record at %llu: another record is there", (unsigned long long)addr);
    if (!error)
        error = decode_root(store, addr, record + CMB_RECORD_HEADER, length - CMB_RECORD_HEADER, &root);
    if (!error)
        error = take_root(store, addr, &root, runs);
    cmb_release(&store->alloc, record, length);
    return error;
}

int cmb_root_read(cmb_store *store, uint64_t addr, uint32_t length)
{
    return read_root(store, addr, length, /* runs= */ true);
}

int cmb_root_read_tables(cmb_store *store, uint64_t addr, uint32_t length)
{
    return read_root(store, addr, length, /* runs= */ false);
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

uint64_t cmb_edits_unit(const void *payload, size_t size)
{
    const uint8_t *p = (const uint8_t *)payload + 1, *end = (const uint8_t *)payload + size;
    uint64_t newest = 0;
    for (size_t all; end - p >= EDIT_HEADER; p += all) {
        size_t key_size = cmb_get16(p + 2), value_size = cmb_get16(p + 4);
        const uint8_t *key = p + EDIT_HEADER;
        uint64_t unit = 0;
        all = EDIT_HEADER + key_size + value_size;
        if (all > (size_t)(end - p))
            break;
        if (p[0] == CMB_TABLE_REFLOG && p[1] == EDIT_SET && key_size > 8)
            unit = cmb_reflog_unit(key, key_size);
        else if (p[0] == CMB_TABLE_REFS && p[1] == EDIT_SET)
            unit = cmb_state_merged(key + key_size, value_size);
        newest = unit > newest ? unit : newest;
    }
    return newest;
}

int cmb_root_carry(cmb_store *store, uint8_t **out_payload, uint32_t *out_size)
{
    cmb_pending *list = NULL;
    size_t bytes = 0;
    int error = 0;
    *out_size = 0;
    cmb_mutex_lock(&store->lock);
    for (unsigned i = 0; i < CMB_TABLES; i++) {
        const cmb_table *t = &store->tables[i];
        for (size_t b = 0; b < t->bucket_count && !error && bytes <= CMB_ROOT_CARRY; b++)
            for (const cmb_pending *p = t->buckets[b]; p && !error && bytes <= CMB_ROOT_CARRY; p = p->next) {
                cmb_pending *copy = cmb_pending_create(store, (cmb_table_id)i, (cmb_bytes){p->bytes, p->key_size},
                                                       (cmb_bytes){p->bytes + p->key_size, p->value_size}, p->removed);
                bytes += EDIT_HEADER + p->key_size + p->value_size;
                error = copy ? 0 : CMB_ENOMEM;
                if (copy) {
                    copy->next = list;
                    list = copy;
                }
            }
    }
    cmb_mutex_unlock(&store->lock);
    if (!error && bytes <= CMB_ROOT_CARRY)
        error = cmb_edits_encode(store, list, out_payload, out_size);
    cmb_pending_release(store, list);
    return error;
}

/* Takes one edit at *p, whose header is there. */
static int replay_one(cmb_store *store, uint64_t addr, const uint8_t **p, const uint8_t *end, bool older)
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
    if (older)
        cmb_table_apply_older(store, pending);
    else
        cmb_tables_apply(store, pending, store->unit_number);
    *p = e + EDIT_HEADER + key_size + value_size;
    return 0;
}

static int replay_edits(cmb_store *store, uint64_t addr, const uint8_t *p, size_t size, bool older)
{
    const uint8_t *end = p + size;
    if (!size || *p != VERSION)
        return cmb_fail(size && *p > VERSION ? CMB_EVERSION : CMB_ECORRUPT, "edits record at %llu: version %u",
                        (unsigned long long)addr, size ? *p : 0);
    for (p++; (size_t)(end - p) >= EDIT_HEADER;) {
        int error = replay_one(store, addr, &p, end, older);
        if (error)
            return error;
    }
    return p == end ? 0 : cmb_fail(CMB_ECORRUPT, "edits record at %llu: cut off", (unsigned long long)addr);
}

int cmb_edits_replay(void *ctx, uint8_t kind, uint64_t addr, const void *payload, uint32_t length)
{
    cmb_store *store = ctx;
    if (kind == CMB_RECORD_INTENTS)
        return cmb_intents_replay(store, addr, payload, length);
    store->unit_number++;
    return replay_edits(store, addr, payload, length, false);
}
