/* SPDX-License-Identifier: ISC */
/*
 * intents_log.c: INTENTS records: made by working commits and, as runs, by checkpoints; read again at open.
 *
 *   payload  u8 version (1)  u64 number of the unit  u16 size of the ref's full name  the name
 *            per edit: u8 operation (1: put, 3: delete)  u16 key size  u32 value size  key  value
 */
#include "store/intents.h"

#include <assert.h>

#define VERSION 1u
#define HEADER 11u
#define EDIT_HEADER 7u
#define RUN_BYTES ((size_t)256 << 10) /* payload of a run's record, about */

_Static_assert(CMB_INTENTS_UNIT + HEADER + CMB_REF_FULL_SIZE + CMB_KEY_MAX + 65536u + EDIT_HEADER < CMB_RECORD_MAX - CMB_RECORD_HEADER,
               "a unit's edits and one more fit a record");

/* ---- encoding ---- */

static int grow(cmb_store *store, cmb_intent *in, size_t need)
{
    if (in->size + need <= in->capacity)
        return 0;
    size_t capacity = in->capacity ? in->capacity : 512;
    while (capacity < in->size + need)
        capacity *= 2;
    uint8_t *grown = cmb_resize(&store->alloc, in->payload, in->capacity, capacity);
    if (!grown)
        return CMB_ENOMEM;
    in->payload = grown;
    in->capacity = (uint32_t)capacity;
    return 0;
}

static int put_header(cmb_store *store, cmb_intent *in, const cmb_refobj *ref, uint64_t unit)
{
    int error = grow(store, in, HEADER + ref->name_size);
    if (error)
        return error;
    in->payload[0] = VERSION;
    cmb_put64(in->payload + 1, unit);
    cmb_put16(in->payload + 9, (uint16_t)ref->name_size);
    memcpy(in->payload + HEADER, ref->name, ref->name_size);
    in->edits_at = in->size = HEADER + ref->name_size;
    in->count = in->bytes = 0;
    return 0;
}

static int put_edit(cmb_store *store, cmb_intent *in, const cmb_edit *e)
{
    size_t value = e->kind == CMB_EDIT_PUT ? e->value.size : 0;
    int error = grow(store, in, EDIT_HEADER + e->key.size + value);
    if (error)
        return error;
    uint8_t *p = in->payload + in->size;
    p[0] = (uint8_t)e->kind;
    cmb_put16(p + 1, (uint16_t)e->key.size);
    cmb_put32(p + 3, (uint32_t)value);
    memcpy(p + EDIT_HEADER, e->key.data, e->key.size);
    if (value)
        memcpy(p + EDIT_HEADER + e->key.size, e->value.data, value);
    in->size += (uint32_t)(EDIT_HEADER + e->key.size + value);
    in->count++;
    in->bytes += e->key.size + value;
    return 0;
}

static void release(cmb_store *store, cmb_intent *in)
{
    cmb_release(&store->alloc, in->payload, in->capacity);
}

void cmb_intent_release(cmb_store *store, cmb_intent *in)
{
    if (!in)
        return;
    if (in->ref)
        cmb_ref_unuse(store, in->ref);
    release(store, in);
    cmb_release(&store->alloc, in, sizeof *in);
}

/* Is it an edit that a record of intents holds? */
static bool is_small(const cmb_store *store, const cmb_edit *e)
{
    return e->kind == CMB_EDIT_DELETE || (e->kind == CMB_EDIT_PUT && e->value.size <= cmb_tree_inline_max(&store->tree));
}

/* *out_all: every edit went in. */
static int put_all(cmb_store *store, cmb_intent *in, cmb_source *s, bool *out_all)
{
    cmb_edit e;
    int error = s->ops->first(s);
    for (; !error; error = s->ops->next(s)) {
        error = s->ops->current(s, &e);
        if (!error && (!is_small(store, &e) || in->bytes > CMB_INTENTS_UNIT)) {
            *out_all = false;
            return 0;
        }
        if (!error)
            error = put_edit(store, in, &e);
        if (error)
            return error;
    }
    *out_all = true;
    return error == CMB_ENOTFOUND ? 0 : error;
}

int cmb_intent_encode(cmb_store *store, const cmb_refobj *ref, cmb_buffer *edits, cmb_intent **out_intent)
{
    cmb_source *source;
    bool all = false;
    cmb_intent *in = cmb_zalloc(&store->alloc, sizeof *in);
    if (!in)
        return CMB_ENOMEM;
    int error = put_header(store, in, ref, 0);
    if (!error)
        error = cmb_source_buffer(edits, &source);
    if (!error) {
        error = put_all(store, in, source, &all);
        source->ops->close(source);
    }
    if (error || !all) {
        cmb_intent_release(store, in);
        in = NULL;
    }
    if (!error)
        *out_intent = in;
    return error;
}

/* ---- decoding ---- */

typedef struct record {
    uint64_t addr, unit;
    const char *ref;
    size_t ref_size;
    const uint8_t *edits, *end;
    size_t count, bytes;
} record;

static int malformed(const record *r, const char *what)
{
    return cmb_fail(CMB_ECORRUPT, "intents record at %llu: %s", (unsigned long long)r->addr, what);
}

static void decode_edit(const uint8_t *p, cmb_edit *out)
{
    size_t key = cmb_get16(p + 1), value = cmb_get32(p + 3);
    *out = (cmb_edit){.kind = (cmb_edit_kind)p[0], .key = {p + EDIT_HEADER, key}, .value = {p + EDIT_HEADER + key, value}};
}

static inline const uint8_t *after_edit(const uint8_t *p)
{
    return p + EDIT_HEADER + cmb_get16(p + 1) + cmb_get32(p + 3);
}

/* Checks all of a payload. */
static int decode(const cmb_store *store, uint64_t addr, const uint8_t *p, size_t size, record *out)
{
    record r = {.addr = addr, .end = p + size};
    if (size < HEADER || p[0] != VERSION)
        return size && p[0] > VERSION ? cmb_fail(CMB_EVERSION, "intents record at %llu: version %u", (unsigned long long)addr, p[0])
                                      : malformed(&r, "bad version or cut off");
    r.unit = cmb_get64(p + 1);
    r.ref_size = cmb_get16(p + 9);
    r.ref = (const char *)p + HEADER;
    if (!r.unit || r.ref_size < sizeof CMB_HEADS || r.ref_size >= CMB_REF_FULL_SIZE || r.ref_size > size - HEADER ||
        memcmp(r.ref, CMB_HEADS, sizeof CMB_HEADS - 1) != 0 || memchr(r.ref, 0, r.ref_size))
        return malformed(&r, "not of a branch");
    r.edits = p + HEADER + r.ref_size;
    cmb_bytes before = {0};
    for (p = r.edits; p < r.end; p = after_edit(p), r.count++) {
        size_t left = (size_t)(r.end - p);
        if (left < EDIT_HEADER)
            return malformed(&r, "cut off");
        size_t key = cmb_get16(p + 1), value = cmb_get32(p + 3);
        bool put = p[0] == CMB_EDIT_PUT;
        if ((!put && p[0] != CMB_EDIT_DELETE) || key - CMB_KEY_MIN > CMB_KEY_MAX - CMB_KEY_MIN ||
            value > (put ? cmb_tree_inline_max(&store->tree) : 0) || key + value > left - EDIT_HEADER)
            return malformed(&r, "malformed edit");
        if (cmb_compare(p + EDIT_HEADER, key, before.data, before.size) <= 0)
            return malformed(&r, "its keys do not ascend");
        before = (cmb_bytes){p + EDIT_HEADER, key};
        r.bytes += key + value;
    }
    *out = r;
    return 0;
}

int cmb_intents_read(const cmb_store *store, uint64_t addr, const void *payload, uint32_t length, cmb_intents_head *out_head,
                     int (*fn)(void *ctx, const cmb_edit *edit), void *ctx)
{
    record r;
    cmb_edit edit;
    int error = decode(store, addr, payload, length, &r);
    for (const uint8_t *p = error ? NULL : r.edits; p && fn && p < r.end && !error; p = after_edit(p)) {
        decode_edit(p, &edit);
        error = fn(ctx, &edit);
    }
    if (!error)
        *out_head = (cmb_intents_head){r.unit, {r.ref, r.ref_size}};
    return error;
}

/* ---- in memory ---- */

void cmb_intent_show(cmb_store *store, cmb_intent *in, uint64_t unit)
{
    cmb_refobj *ref = in->ref;
    cmb_edit edit;
    for (const uint8_t *p = in->payload + in->edits_at; p < in->payload + in->size; p = after_edit(p)) {
        decode_edit(p, &edit);
        cmb_intents_add(ref->intents, unit, &edit);
    }
    ref->state.pending = unit;
    ref->state.working = true;
    store->intents_bytes += in->bytes;
    store->intents_count += in->count;
}

/* Records of one unit (a run may be several) have no key in common. */
static int check_apart(const record *r, const cmb_intents *list)
{
    cmb_source *s;
    cmb_edit first, e;
    int error = r->edits < r->end ? cmb_source_intents(list, r->unit - 1, r->unit, &s) : CMB_ENOTFOUND;
    if (error)
        return error == CMB_ENOTFOUND ? 0 : error;
    decode_edit(r->edits, &first);
    error = s->ops->seek_ge(s, first.key.data, first.key.size);
    if (!error)
        error = s->ops->current(s, &e);
    for (const uint8_t *p = r->edits; p < r->end && !error; p = after_edit(p)) {
        cmb_edit mine;
        decode_edit(p, &mine);
        if (cmb_compare(mine.key.data, mine.key.size, e.key.data, e.key.size) >= 0)
            error = malformed(r, "its keys begin before those of another record of its unit end");
    }
    s->ops->close(s);
    return error == CMB_ENOTFOUND ? 0 : error;
}

/* May it come next? Numbers of units rise, and none is above the last unit's. */
static int check_unit(const cmb_store *store, const record *r, const cmb_intents *list)
{
    uint64_t newest = cmb_intents_newest(list);
    if (r->unit > store->unit_number)
        return malformed(r, "of a unit that is not there");
    if (r->unit < newest)
        return malformed(r, "of a unit before that of another one that comes before it");
    return r->unit == newest ? check_apart(r, list) : 0;
}

/* A record's edits become the ref's, unless they are in its tree. */
static int take(cmb_store *store, const record *r, cmb_refobj **out_ref)
{
    cmb_refobj *ref;
    int error = cmb_ref_use(store, r->ref, r->ref_size, &ref);
    if (error)
        return error;
    *out_ref = ref;
    if (!ref->exists || r->unit <= ref->state.merged)
        return 0;
    if (!ref->intents && (error = cmb_intents_create(&store->alloc, &ref->intents)))
        return error;
    cmb_intents_listed(store, ref);
    if ((error = check_unit(store, r, ref->intents)))
        return error;
    if (cmb_intents_weight(store) + r->bytes > 2 * CMB_INTENTS_MAX)
        return malformed(r, "more waits to be merged than can be");
    error = cmb_intents_reserve(ref->intents, r->count, r->bytes);
    if (error)
        return error;
    for (const uint8_t *p = r->edits; p < r->end; p = after_edit(p)) {
        cmb_edit edit;
        decode_edit(p, &edit);
        cmb_intents_add(ref->intents, r->unit, &edit);
    }
    store->intents_bytes += r->bytes;
    store->intents_count += r->count;
    if (r->count && ref->state.pending < r->unit) {
        ref->state.pending = r->unit;
        ref->state.working = true;
    }
    return 0;
}

/* ---- open: what is replayed ---- */

int cmb_intents_replay(cmb_store *store, uint64_t addr, const void *payload, uint32_t length)
{
    cmb_intents_note *note = cmb_alloc(&store->alloc, sizeof *note + length);
    if (!note)
        return CMB_ENOMEM;
    *note = (cmb_intents_note){.addr = addr, .size = length};
    memcpy(note->payload, payload, length);
    *store->notes_end = note;
    store->notes_end = &note->next;
    return 0;
}

void cmb_intents_drop_notes(cmb_store *store)
{
    for (cmb_intents_note *n = store->notes, *next; n; n = next) {
        next = n->next;
        cmb_release(&store->alloc, n, sizeof *n + n->size);
    }
    store->notes = NULL;
    store->notes_end = &store->notes;
}

int cmb_intents_load_notes(cmb_store *store)
{
    int error = 0;
    for (const cmb_intents_note *n = store->notes; n && !error; n = n->next) {
        cmb_refobj *ref = NULL;
        record r;
        error = decode(store, n->addr, n->payload, n->size, &r);
        if (!error)
            error = take(store, &r, &ref);
        if (ref)
            cmb_ref_unuse(store, ref);
    }
    cmb_intents_drop_notes(store);
    return error;
}

/* ---- runs ---- */

static int add_run(cmb_store *store, cmb_intents_runs *runs, const cmb_intents_run *run)
{
    if (runs->n == runs->capacity) {
        size_t n = runs->capacity, wanted = n ? 2 * n : 16;
        cmb_intents_run *grown = cmb_resize(&store->alloc, runs->items, n * sizeof *grown, wanted * sizeof *grown);
        if (!grown)
            return CMB_ENOMEM;
        runs->items = grown;
        runs->capacity = wanted;
    }
    runs->items[runs->n++] = *run;
    cmb_ref_reuse(store, run->ref);
    return 0;
}

void cmb_runs_release(cmb_store *store, cmb_intents_runs *runs)
{
    for (size_t i = 0; i < runs->n; i++)
        cmb_ref_unuse(store, runs->items[i].ref);
    cmb_release(&store->alloc, runs->items, runs->capacity * sizeof *runs->items);
    *runs = (cmb_intents_runs){0};
}

int cmb_intents_load_run(cmb_store *store, uint64_t addr, uint32_t length)
{
    cmb_refobj *ref = NULL;
    record r;
    if (length < CMB_RECORD_HEADER || length > CMB_RECORD_MAX)
        return cmb_fail(CMB_ECORRUPT, "root record: a run of intents of %u bytes", length);
    uint8_t *bytes = cmb_alloc(&store->alloc, length);
    if (!bytes)
        return CMB_ENOMEM;
    int error = cmb_log_read(store->log, NULL, addr, length, bytes);
    if (!error)
        error = cmb_record_check(bytes, length, addr);
    if (!error && (cmb_record_kind_of(bytes) != CMB_RECORD_INTENTS || cmb_record_length(bytes) != length))
        error = cmb_fail(CMB_ECORRUPT, "intents record at %llu: another record is there", (unsigned long long)addr);
    if (!error)
        error = decode(store, addr, bytes + CMB_RECORD_HEADER, length - CMB_RECORD_HEADER, &r);
    if (!error)
        error = take(store, &r, &ref);
    if (!error)
        error = add_run(store, store->runs, &(cmb_intents_run){addr, length, r.unit, ref});
    if (!error && ref->logged < r.unit)
        ref->logged = r.unit;
    if (ref)
        cmb_ref_unuse(store, ref);
    cmb_release(&store->alloc, bytes, length);
    return error;
}

static int append_run(cmb_store *store, cmb_appender *app, cmb_refobj *ref, const cmb_intent *in, uint64_t upto, cmb_intents_runs *runs)
{
    cmb_intents_run run = {.length = CMB_RECORD_HEADER + in->size, .upto = upto, .ref = ref};
    int error = cmb_append_record(app, CMB_RECORD_INTENTS, in->payload, in->size, &run.addr);
    return error ? error : add_run(store, runs, &run);
}

/* What was added since the last runs, of each key the newest. */
static int append_runs(cmb_store *store, cmb_appender *app, cmb_refobj *ref, uint64_t upto, cmb_intents_runs *runs)
{
    cmb_intent in = {0};
    cmb_source *s;
    cmb_edit e;
    int error = cmb_source_intents(ref->intents, ref->logged, upto, &s);
    if (error)
        return error;
    error = put_header(store, &in, ref, upto);
    if (!error)
        error = s->ops->first(s);
    while (!error) {
        error = s->ops->current(s, &e);
        if (!error)
            error = put_edit(store, &in, &e);
        if (!error && in.size >= RUN_BYTES) {
            error = append_run(store, app, ref, &in, upto, runs);
            if (!error)
                error = put_header(store, &in, ref, upto);
        }
        if (!error)
            error = s->ops->next(s);
    }
    if (error == CMB_ENOTFOUND)
        error = in.count ? append_run(store, app, ref, &in, upto, runs) : 0;
    s->ops->close(s);
    release(store, &in);
    return error;
}

/* Refs without a list leave the list of those that have one. */
static void forget_empty(cmb_store *store)
{
    cmb_mutex_lock(&store->lock);
    for (cmb_refobj **link = &store->intents_first, *r; (r = *link);) {
        if (r->intents) {
            link = &r->next_intents;
            continue;
        }
        *link = r->next_intents;
        r->intents_listed = false;
        r->users--;
    }
    cmb_mutex_unlock(&store->lock);
}

int cmb_runs_collect(cmb_store *store, cmb_appender *app, cmb_intents_runs *out_runs)
{
    cmb_intents_runs runs = {0};
    int error = 0;
    for (size_t i = 0; i < store->runs->n && !error; i++) {
        const cmb_intents_run *run = &store->runs->items[i];
        if (run->ref->exists && run->upto > run->ref->state.merged)
            error = add_run(store, &runs, run);
    }
    forget_empty(store);
    /* With the unit held lists and states stay as they are. */
    for (cmb_refobj *ref = store->intents_first; ref && !error; ref = ref->next_intents)
        if (ref->state.pending > ref->logged)
            error = append_runs(store, app, ref, ref->state.pending, &runs);
    if (error)
        cmb_runs_release(store, &runs);
    else
        *out_runs = runs;
    return error;
}

void cmb_runs_adopt(cmb_store *store, cmb_intents_runs *runs)
{
    cmb_intents_runs old = *store->runs;
    *store->runs = *runs;
    *runs = old;
    for (size_t i = 0; i < store->runs->n; i++) {
        const cmb_intents_run *run = &store->runs->items[i];
        if (run->ref->logged < run->upto)
            run->ref->logged = run->upto;
    }
}
