/* SPDX-License-Identifier: ISC */
/*
 * commit.c: COMMIT records and the commit index.
 *
 *   payload   u32 size of the content, then the content (the id is its hash):
 *               u8 version (1)  u8 size of a name  u8 level of the root  u8 flags (1: out-of-line values)
 *               u64 generation  i64 time  u64 entries  root name
 *               u16 number of parents, their ids  u32 size, author  u32 size, message
 *               headers (header.c)
 *             then the trailer, which the id does not cover: u64 address, u32 length of the root,
 *             and the same of every parent
 */
#include "store/internal.h"

#include <assert.h>

#include "store/take.h"

#define VERSION 1u
#define FIXED 28u            /* bytes of the content before the root's name */
#define PLACE 12u            /* bytes of an address and a length */

enum { FLAG_OUT_OF_LINE = 1 };

static size_t text_size(const char *text)
{
    return text ? strlen(text) : 0;
}

/* Bytes of the texts and the encoded headers. */
static int measure_texts(const char *author, const char *message, const cmb_commit_header *headers, size_t header_count,
                         size_t *out_author, size_t *out_message, size_t *out_headers)
{
    size_t a = text_size(author), m = text_size(message), h;
    int error = cmb_headers_check(headers, header_count, &h);
    if (error)
        return error;
    if (a > CMB_COMMIT_TEXT_MAX || m > CMB_COMMIT_TEXT_MAX || a + m + h - 2 > CMB_COMMIT_TEXT_MAX)
        return cmb_fail(CMB_EINVAL, "author, message and headers of a commit have %zu bytes: at most %u", a + m + h - 2,
                        CMB_COMMIT_TEXT_MAX);
    *out_author = a;
    *out_message = m;
    *out_headers = h;
    return 0;
}

int cmb_commit_info_check(const cmb_commit_info *info)
{
    size_t author, message, headers;
    if (!info)
        return 0;
    if (info->flags & ~(CMB_COMMIT_ASYNC | CMB_COMMIT_EMPTY))
        return cmb_fail(CMB_EINVAL, "unknown commit flags 0x%x", info->flags);
    return measure_texts(info->author, info->message, info->headers, info->header_count, &author, &message, &headers);
}

/* ---- writing ---- */

static uint8_t *put_text(uint8_t *p, const char *text, size_t size)
{
    cmb_put32(p, (uint32_t)size);
    if (size)
        memcpy(p + 4, text, size);
    return p + 4 + size;
}

static uint8_t *put_place(uint8_t *p, uint64_t addr, uint32_t length)
{
    cmb_put64(p, addr);
    cmb_put32(p + 8, length);
    return p + PLACE;
}

static uint8_t *put_content(uint8_t *p, const cmb_commit_draft *d, unsigned name_size, size_t author, size_t message)
{
    p[0] = VERSION;
    p[1] = (uint8_t)name_size;
    p[2] = d->root.level;
    p[3] = d->root.out_of_line ? FLAG_OUT_OF_LINE : 0;
    cmb_put64(p + 4, d->generation);
    cmb_put64(p + 12, (uint64_t)d->time);
    cmb_put64(p + 20, d->root.count);
    p += FIXED;
    memcpy(p, d->root.name.bytes, name_size);
    p += name_size;
    cmb_put16(p, (uint16_t)d->parent_count);
    p += 2;
    for (size_t i = 0; i < d->parent_count; i++, p += name_size)
        memcpy(p, d->parents[i].id.bytes, name_size);
    p = put_text(p, d->author, author);
    p = put_text(p, d->message, message);
    return cmb_headers_put(p, d->headers, d->header_count);
}

/* Bytes of the content and the record. */
static int measure(const cmb_commit_draft *d, unsigned name_size, size_t *out_author, size_t *out_message,
                   size_t *out_content, size_t *out_length)
{
    size_t headers;
    if (d->parent_count > CMB_COMMIT_PARENTS_MAX)
        return cmb_fail(CMB_EINVAL, "a commit with %zu parents: at most %u", d->parent_count, CMB_COMMIT_PARENTS_MAX);
    int error = measure_texts(d->author, d->message, d->headers, d->header_count, out_author, out_message, &headers);
    if (error)
        return error;
    size_t content = FIXED + name_size + 2 + d->parent_count * name_size + 8 + *out_author + *out_message + headers;
    size_t length = CMB_RECORD_HEADER + 4 + content + PLACE * (1 + d->parent_count);
    if (length > CMB_RECORD_MAX)
        return cmb_fail(CMB_EINVAL, "a commit with %zu parents and %zu bytes in all: at most %u", d->parent_count, length,
                        CMB_RECORD_MAX);
    *out_content = content;
    *out_length = length;
    return 0;
}

int cmb_commit_name(const cmb_store *store, const cmb_commit_draft *draft, cmb_name *out_id)
{
    unsigned name_size = cmb_name_size(store->tree.hash);
    size_t author = 0, message = 0, content = 0, length = 0;
    int error = measure(draft, name_size, &author, &message, &content, &length);
    if (error)
        return error;
    uint8_t *encoded = cmb_alloc(&store->alloc, content);
    if (!encoded)
        return CMB_ENOMEM;
    put_content(encoded, draft, name_size, author, message);
    cmb_hash_name(store->tree.hash, encoded, content, out_id);
    cmb_release(&store->alloc, encoded, content);
    return 0;
}

int cmb_commit_append(cmb_store *store, cmb_appender *app, const cmb_commit_draft *draft, cmb_commit_at *out_at)
{
    unsigned name_size = cmb_name_size(store->tree.hash);
    size_t author = 0, message = 0, content = 0, length = 0;
    int error = measure(draft, name_size, &author, &message, &content, &length);
    if (error)
        return error;
    cmb_commit_at at = {.length = (uint32_t)length};
    void *record;
    error = cmb_append(app, at.length, &at.addr, &record);
    if (error)
        return error;
    uint8_t *p = (uint8_t *)record + CMB_RECORD_HEADER;
    cmb_put32(p, (uint32_t)content);
    uint8_t *end = put_content(p + 4, draft, name_size, author, message);
    assert(end == p + 4 + content);
    cmb_hash_name(store->tree.hash, p + 4, content, &at.id);
    end = put_place(end, draft->root.addr, draft->root.length);
    for (size_t i = 0; i < draft->parent_count; i++)
        end = put_place(end, draft->parents[i].addr, draft->parents[i].length);
    cmb_record_seal(record, CMB_RECORD_COMMIT, at.length, at.addr);
    *out_at = at;
    return 0;
}

/* The commit of this id that this unit made before, or that the index has; CMB_ENOTFOUND without a detail. */
static int find_made(const cmb_unit *unit, const cmb_name *id, cmb_commit_at *out_at)
{
    uint8_t value[CMB_TABLE_VALUE_MAX];
    size_t size;
    cmb_bytes key = {id->bytes, id->size};
    for (const cmb_pending *p = unit->edits; p; p = p->next)
        if (p->table == CMB_TABLE_COMMITS && p->key_size == key.size && memcmp(p->bytes, key.data, key.size) == 0)
            return cmb_commit_at_unpack(unit->store, key, (cmb_bytes){p->bytes + p->key_size, p->value_size}, out_at);
    int error = cmb_table_get(unit->store, CMB_TABLE_COMMITS, key, value, &size);
    return error ? error : cmb_commit_at_unpack(unit->store, key, (cmb_bytes){value, size}, out_at);
}

/* `parents` all have a lower generation than this. One id never lies in two places: merges of the same heads are the same commit. */
static int commit_above(cmb_unit *unit, const cmb_commit_at *parents, size_t n, uint64_t generation, const cmb_noderef *root,
                        const cmb_commit_info *info, cmb_state *out_state)
{
    cmb_store *store = unit->store;
    cmb_commit_draft draft = {.root = *root,
                              .parents = parents,
                              .parent_count = n,
                              .generation = generation,
                              .time = info->time ? info->time : store->env.now(store->env.ctx),
                              .author = info->author,
                              .message = info->message,
                              .headers = info->headers,
                              .header_count = info->header_count};
    cmb_state state = {.commit_root = *root, .root = *root, .generation = generation};
    cmb_name id;
    int error = cmb_commit_name(store, &draft, &id);
    if (!error)
        error = find_made(unit, &id, &state.commit);
    if (!error)
        return cmb_commit_state(store, &state.commit, out_state);
    if (error != CMB_ENOTFOUND)
        return error;
    error = cmb_commit_append(store, unit->app, &draft, &state.commit);
    if (!error)
        error = cmb_unit_index(unit, &state.commit);
    if (!error)
        *out_state = state;
    return error;
}

static int check_generation(uint64_t parents)
{
    return parents < CMB_GENERATION_MAX ? 0 : cmb_fail(CMB_ETOOBIG, "no generation is left above this commit's parents");
}

int cmb_unit_commit(cmb_unit *unit, const cmb_state *base, const cmb_noderef *root, const cmb_commit_info *info,
                    cmb_state *out_state)
{
    int error = check_generation(base->generation);
    return error ? error : commit_above(unit, &base->commit, base->commit.id.size ? 1 : 0, base->generation + 1, root, info, out_state);
}

int cmb_unit_commit_parents(cmb_unit *unit, const cmb_commit_at *parents, size_t n, const cmb_noderef *root,
                            const cmb_commit_info *info, cmb_state *out_state)
{
    uint64_t generation = 0;
    for (size_t i = 0; i < n; i++) {
        cmb_state parent;
        int error = cmb_commit_state(unit->store, &parents[i], &parent);
        if (error)
            return error;
        if (generation < parent.generation)
            generation = parent.generation;
    }
    int error = check_generation(generation);
    return error ? error : commit_above(unit, parents, n, generation + 1, root, info, out_state);
}

/* ---- reading ---- */

/* Where things are in a record. */
typedef struct layout {
    const uint8_t *fixed, *root_name, *parents, *author, *message, *headers, *places;
    size_t parent_count, author_size, message_size, header_count, header_memory, content;
} layout;

static int find_parts(const uint8_t *payload, size_t size, unsigned name_size, layout *out)
{
    cmb_taker r = {payload, payload + size, false};
    layout l;
    l.content = cmb_get32(cmb_take(&r, 4));
    if (r.short_of || l.content > cmb_take_left(&r))
        return CMB_ECORRUPT;
    cmb_taker c = {r.p, r.p + l.content, false};
    l.fixed = cmb_take(&c, FIXED);
    if (c.short_of || l.fixed[0] != VERSION || l.fixed[1] != name_size || l.fixed[3] & ~FLAG_OUT_OF_LINE)
        return !c.short_of && l.fixed[0] > VERSION ? CMB_EVERSION : CMB_ECORRUPT;
    l.root_name = cmb_take(&c, name_size);
    l.parent_count = cmb_get16(cmb_take(&c, 2));
    if (c.short_of || l.parent_count > CMB_COMMIT_PARENTS_MAX || l.parent_count * name_size > cmb_take_left(&c))
        return CMB_ECORRUPT;
    l.parents = cmb_take(&c, l.parent_count * name_size);
    l.author = cmb_take_text(&c, &l.author_size);
    l.message = cmb_take_text(&c, &l.message_size);
    l.headers = c.p;
    l.places = r.p + l.content;
    if (c.short_of || !cmb_headers_measure(c.p, cmb_take_left(&c), &l.header_count, &l.header_memory) ||
        cmb_take_left(&r) - l.content != PLACE * (1 + l.parent_count))
        return CMB_ECORRUPT;
    *out = l;
    return 0;
}

/* The record and everything that points into it in one allocation. */
static cmb_commit_record *make_record(cmb_store *store, const layout *l)
{
    size_t n = l->parent_count, size = sizeof(cmb_commit_record);
    size_t ats = size, headers = ats + n * sizeof(cmb_commit_at);
    size_t names = headers + l->header_count * sizeof(cmb_commit_header), author = names + n * sizeof(cmb_name);
    size_t message = author + l->author_size + 1, texts = message + l->message_size + 1, memory = texts + l->header_memory;
    uint8_t *m = cmb_zalloc(&store->alloc, memory);
    if (!m)
        return NULL;
    cmb_commit_record *r = (cmb_commit_record *)(void *)m;
    memcpy(m + author, l->author, l->author_size);
    memcpy(m + message, l->message, l->message_size);
    cmb_headers_fill(l->headers, (cmb_commit_header *)(void *)(m + headers), m + texts);
    r->alloc = store->alloc;
    r->memory = memory;
    r->commit.headers = (cmb_commit_header *)(void *)(m + headers);
    r->commit.header_count = l->header_count;
    r->parents = (cmb_commit_at *)(void *)(m + ats);
    r->commit.parents = (cmb_name *)(void *)(m + names);
    r->commit.parent_count = n;
    r->commit.author = (char *)(m + author);
    r->commit.message = (char *)(m + message);
    return r;
}

static void fill_record(cmb_store *store, const layout *l, const cmb_commit_at *at, cmb_commit_record *r)
{
    unsigned name_size = cmb_name_size(store->tree.hash);
    cmb_commit_at *parents = (cmb_commit_at *)(uintptr_t)r->parents;
    cmb_name *names = (cmb_name *)(uintptr_t)r->commit.parents;
    r->at = *at;
    r->root.level = l->fixed[2];
    r->root.out_of_line = l->fixed[3] & FLAG_OUT_OF_LINE;
    r->root.count = cmb_get64(l->fixed + 20);
    r->root.name.size = (uint8_t)name_size;
    memcpy(r->root.name.bytes, l->root_name, name_size);
    r->root.addr = cmb_get64(l->places);
    r->root.length = cmb_get32(l->places + 8);
    for (size_t i = 0; i < l->parent_count; i++) {
        const uint8_t *place = l->places + PLACE * (1 + i);
        parents[i] = (cmb_commit_at){.addr = cmb_get64(place), .length = cmb_get32(place + 8)};
        parents[i].id.size = (uint8_t)name_size;
        memcpy(parents[i].id.bytes, l->parents + i * name_size, name_size);
        names[i] = parents[i].id;
    }
    r->commit.id = at->id;
    r->commit.root = r->root.name;
    r->commit.entries = r->root.count;
    r->commit.generation = cmb_get64(l->fixed + 4);
    r->commit.time = (int64_t)cmb_get64(l->fixed + 12);
}

/* What a commit refers to lies below it: so graphs from disk end. */
static bool places_are_sane(const cmb_commit_record *r)
{
    bool ok = r->root.addr < r->at.addr && r->root.level <= CMB_LEVEL_MAX && r->commit.generation > 0;
    for (size_t i = 0; i < r->commit.parent_count; i++)
        ok = ok && r->parents[i].addr < r->at.addr;
    return ok;
}

static int decode(cmb_store *store, const cmb_commit_at *at, const uint8_t *payload, size_t size,
                  cmb_commit_record **out_record)
{
    layout l;
    cmb_name id;
    char hex[2 * CMB_NAME_MAX + 1], found[2 * CMB_NAME_MAX + 1];
    int error = find_parts(payload, size, cmb_name_size(store->tree.hash), &l);
    cmb_name_hex(&at->id, hex);
    if (error)
        return cmb_fail(error, "commit %s at %llu: malformed record", hex, (unsigned long long)at->addr);
    cmb_hash_name(store->tree.hash, payload + 4, l.content, &id);
    cmb_name_hex(&id, found);
    if (!cmb_name_equal(&id, &at->id))
        return cmb_fail(CMB_ECORRUPT, "commit %s at %llu: what is there is %s", hex, (unsigned long long)at->addr, found);
    cmb_commit_record *r = make_record(store, &l);
    if (!r)
        return CMB_ENOMEM;
    fill_record(store, &l, at, r);
    if (!places_are_sane(r)) {
        cmb_commit_free(&r->commit);
        return cmb_fail(CMB_ECORRUPT, "commit %s at %llu: refers to what lies above it", hex, (unsigned long long)at->addr);
    }
    *out_record = r;
    return 0;
}

int cmb_object_load(cmb_store *store, const cmb_commit_at *at, uint8_t kind, const char *what, uint8_t **out_record)
{
    char hex[2 * CMB_NAME_MAX + 1];
    cmb_name_hex(&at->id, hex);
    if (at->length < CMB_RECORD_HEADER + 4 || at->length > CMB_RECORD_MAX)
        return cmb_fail(CMB_ECORRUPT, "%s %s: a record of %u bytes", what, hex, at->length);
    uint8_t *record = cmb_alloc(&store->alloc, at->length);
    if (!record)
        return CMB_ENOMEM;
    int error = cmb_log_read(store->log, NULL, at->addr, at->length, record);
    if (!error)
        error = cmb_record_check(record, at->length, at->addr);
    if (error)
        error = cmb_fail_in(error, "%s %s", what, hex);
    else if (cmb_record_kind_of(record) != kind || cmb_record_length(record) != at->length)
        error = cmb_fail(CMB_ECORRUPT, "%s %s at %llu: another record is there", what, hex, (unsigned long long)at->addr);
    if (error)
        cmb_release(&store->alloc, record, at->length);
    else
        *out_record = record;
    return error;
}

int cmb_commit_load(cmb_store *store, const cmb_commit_at *at, cmb_commit_record **out_record)
{
    char hex[2 * CMB_NAME_MAX + 1];
    uint8_t *record = NULL;
    if (cmb_commit_is_absent(at)) {
        cmb_name_hex(&at->id, hex);
        return cmb_fail(CMB_ENOTFOUND, "commit %s is not in this image: its history is shallow and ends above it", hex);
    }
    int error = cmb_object_load(store, at, CMB_RECORD_COMMIT, "commit", &record);
    if (error)
        return error;
    error = decode(store, at, record + CMB_RECORD_HEADER, at->length - CMB_RECORD_HEADER, out_record);
    cmb_release(&store->alloc, record, at->length);
    return error;
}

void cmb_commit_free(cmb_commit *commit)
{
    if (!commit)
        return;
    cmb_commit_record *r = (cmb_commit_record *)commit;
    cmb_allocator alloc = r->alloc;
    cmb_release(&alloc, r, r->memory);
}

int cmb_commit_state(cmb_store *store, const cmb_commit_at *at, cmb_state *out_state)
{
    cmb_commit_record *r;
    int error = cmb_commit_load(store, at, &r);
    if (error)
        return error;
    *out_state =
        (cmb_state){.commit = *at, .commit_root = r->root, .root = r->root, .generation = r->commit.generation};
    cmb_commit_free(&r->commit);
    return 0;
}

/* ---- the public face ---- */

int cmb_commit_resolve(cmb_store *store, const char *rev, bool or_below, cmb_commit_at *out_at)
{
    cmb_resolved r;
    int error = cmb_rev_resolve(store, rev, &r);
    if (error)
        return error;
    if (r.content)
        return cmb_fail(CMB_EINVAL, "'%s' names a content, not a commit", rev);
    if (r.state.working && !or_below)
        return cmb_fail(CMB_EWORKING, "'%s' is a working state", rev);
    if (!r.state.commit.id.size)
        return cmb_fail(CMB_ENOTFOUND, "'%s' has no commit yet", rev);
    *out_at = r.state.commit;
    return 0;
}

int cmb_commit_read(cmb_store *store, const char *rev, cmb_commit **out_commit)
{
    cmb_commit_at at;
    cmb_commit_record *r;
    int error = cmb_commit_resolve(store, rev, false, &at);
    if (!error)
        error = cmb_commit_load(store, &at, &r);
    if (!error)
        *out_commit = &r->commit;
    return error;
}

int cmb_log_first_parents(cmb_store *store, const char *rev, int (*fn)(void *ctx, const cmb_commit *commit), void *ctx)
{
    cmb_commit_at at;
    int error = cmb_commit_resolve(store, rev, true, &at);
    for (bool more = true; !error && more;) {
        cmb_commit_record *r;
        error = cmb_commit_load(store, &at, &r);
        if (error)
            break;
        more = r->commit.parent_count > 0 && !cmb_commit_is_absent(&r->parents[0]);
        if (more)
            at = r->parents[0];
        if (fn(ctx, &r->commit))
            error = cmb_fail(CMB_ESTOPPED, "the log was stopped by its callback");
        cmb_commit_free(&r->commit);
    }
    return error;
}
