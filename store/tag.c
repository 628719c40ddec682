/* SPDX-License-Identifier: ISC */
/*
 * tag.c: TAG records.
 *
 *   payload   u32 size of the content, then the content (the id is its hash):
 *               u8 version (1)  u8 size of a name  u8 255 (no level of a tree: so no commit has the same content)
 *               u8 kind of the target's record  i64 time  id of the target
 *               u32 size, name  u32 size, tagger  u32 size, message  headers (header.c)
 *             then the trailer, which the id does not cover: u64 address, u32 length of the target's record
 */
#include "store/tag.h"

#include <assert.h>

#include "store/take.h"

#define VERSION 1u
#define NO_LEVEL 255u
#define FIXED 12u /* bytes of the content before the target's id */
#define PLACE 12u /* bytes of an address and a length */

/* ---- writing ---- */

typedef struct sizes {
    size_t name, tagger, message, content;
} sizes;

static size_t text_size(const char *text)
{
    return text ? strlen(text) : 0;
}

static int measure(const cmb_tag_draft *d, unsigned name_size, sizes *out)
{
    sizes s = {text_size(d->name), text_size(d->tagger), text_size(d->message), 0};
    size_t headers, most = CMB_COMMIT_TEXT_MAX;
    int error = cmb_headers_check(d->headers, d->header_count, &headers);
    if (error)
        return error;
    if (s.name > most || s.tagger > most || s.message > most || s.name + s.tagger + s.message + headers - 2 > most)
        return cmb_fail(CMB_EINVAL, "name, tagger, message and headers of a tag have more than %u bytes", CMB_COMMIT_TEXT_MAX);
    s.content = FIXED + name_size + 4 + s.name + 4 + s.tagger + 4 + s.message + headers;
    *out = s;
    return 0;
}

static uint8_t *put_text(uint8_t *p, const char *text, size_t size)
{
    cmb_put32(p, (uint32_t)size);
    if (size)
        memcpy(p + 4, text, size);
    return p + 4 + size;
}

static uint8_t *put_content(uint8_t *p, const cmb_tag_draft *d, unsigned name_size, const sizes *s)
{
    p[0] = VERSION;
    p[1] = (uint8_t)name_size;
    p[2] = NO_LEVEL;
    p[3] = d->target_is_tag ? CMB_RECORD_TAG : CMB_RECORD_COMMIT;
    cmb_put64(p + 4, (uint64_t)d->time);
    memcpy(p + FIXED, d->target.id.bytes, name_size);
    p = put_text(p + FIXED + name_size, d->name, s->name);
    p = put_text(p, d->tagger, s->tagger);
    p = put_text(p, d->message, s->message);
    return cmb_headers_put(p, d->headers, d->header_count);
}

int cmb_tag_name(const cmb_store *store, const cmb_tag_draft *draft, cmb_name *out_id)
{
    unsigned name_size = cmb_name_size(store->tree.hash);
    sizes s = {0};
    int error = measure(draft, name_size, &s);
    if (error)
        return error;
    uint8_t *content = cmb_alloc(&store->alloc, s.content);
    if (!content)
        return CMB_ENOMEM;
    put_content(content, draft, name_size, &s);
    cmb_hash_name(store->tree.hash, content, s.content, out_id);
    cmb_release(&store->alloc, content, s.content);
    return 0;
}

int cmb_tag_append(cmb_store *store, cmb_appender *app, const cmb_tag_draft *draft, cmb_commit_at *out_at)
{
    unsigned name_size = cmb_name_size(store->tree.hash);
    cmb_commit_at at = {.addr = 0};
    sizes s = {0};
    void *record;
    int error = measure(draft, name_size, &s);
    if (error)
        return error;
    at.length = (uint32_t)(CMB_RECORD_HEADER + 4 + s.content + PLACE);
    error = cmb_append(app, at.length, &at.addr, &record);
    if (error)
        return error;
    uint8_t *p = (uint8_t *)record + CMB_RECORD_HEADER;
    cmb_put32(p, (uint32_t)s.content);
    uint8_t *end = put_content(p + 4, draft, name_size, &s);
    assert(end == p + 4 + s.content && draft->target.addr < at.addr);
    cmb_hash_name(store->tree.hash, p + 4, s.content, &at.id);
    cmb_put64(end, draft->target.addr);
    cmb_put32(end + 8, draft->target.length);
    cmb_record_seal(record, CMB_RECORD_TAG, at.length, at.addr);
    *out_at = at;
    return 0;
}

/* ---- reading ---- */

/* Where things are in a record. */
typedef struct layout {
    const uint8_t *fixed, *target, *name, *tagger, *message, *headers, *place;
    size_t name_size, tagger_size, message_size, header_count, header_memory, content;
} layout;

static int find_parts(const uint8_t *payload, size_t size, unsigned id_size, layout *out)
{
    cmb_taker t = {payload, payload + size, false};
    layout l;
    l.content = cmb_get32(cmb_take(&t, 4));
    if (t.short_of || l.content > cmb_take_left(&t) || cmb_take_left(&t) - l.content != PLACE)
        return CMB_ECORRUPT;
    cmb_taker c = {t.p, t.p + l.content, false};
    l.place = c.end;
    l.fixed = cmb_take(&c, FIXED);
    l.target = cmb_take(&c, id_size);
    l.name = cmb_take_text(&c, &l.name_size);
    l.tagger = cmb_take_text(&c, &l.tagger_size);
    l.message = cmb_take_text(&c, &l.message_size);
    l.headers = c.p;
    if (!c.short_of && l.fixed[0] > VERSION)
        return CMB_EVERSION;
    if (c.short_of || l.fixed[0] != VERSION || l.fixed[1] != id_size || l.fixed[2] != NO_LEVEL
        || (l.fixed[3] != CMB_RECORD_COMMIT && l.fixed[3] != CMB_RECORD_TAG)
        || !cmb_headers_measure(c.p, cmb_take_left(&c), &l.header_count, &l.header_memory))
        return CMB_ECORRUPT;
    *out = l;
    return 0;
}

static uint8_t *copy_text(uint8_t *to, const uint8_t *text, size_t size, const char **out)
{
    memcpy(to, text, size);
    *out = (const char *)to;
    return to + size + 1; /* the memory was zero */
}

/* The record and everything that points into it in one allocation. */
static cmb_tag_record *make_record(const cmb_store *store, const layout *l, const cmb_commit_at *at)
{
    size_t headers = sizeof(cmb_tag_record), texts = headers + l->header_count * sizeof(cmb_commit_header);
    size_t memory = texts + l->name_size + 1 + l->tagger_size + 1 + l->message_size + 1 + l->header_memory;
    uint8_t *m = cmb_zalloc(&store->alloc, memory), *text = m + texts;
    if (!m)
        return NULL;
    cmb_tag_record *r = (cmb_tag_record *)(void *)m;
    r->alloc = store->alloc;
    r->memory = memory;
    r->at = *at;
    r->target.id.size = l->fixed[1];
    memcpy(r->target.id.bytes, l->target, l->fixed[1]);
    r->target.addr = cmb_get64(l->place);
    r->target.length = cmb_get32(l->place + 8);
    r->tag.id = at->id;
    r->tag.target = r->target.id;
    r->tag.target_is_tag = l->fixed[3] == CMB_RECORD_TAG;
    r->tag.time = (int64_t)cmb_get64(l->fixed + 4);
    text = copy_text(text, l->name, l->name_size, &r->tag.name);
    text = copy_text(text, l->tagger, l->tagger_size, &r->tag.tagger);
    text = copy_text(text, l->message, l->message_size, &r->tag.message);
    r->tag.headers = (cmb_commit_header *)(void *)(m + headers);
    r->tag.header_count = l->header_count;
    cmb_headers_fill(l->headers, (cmb_commit_header *)(void *)(m + headers), text);
    return r;
}

static int decode(const cmb_store *store, const cmb_commit_at *at, const uint8_t *payload, size_t size, cmb_tag_record **out_record)
{
    char hex[2 * CMB_NAME_MAX + 1], found[2 * CMB_NAME_MAX + 1];
    unsigned long long addr = at->addr;
    layout l;
    cmb_name id;
    int error = find_parts(payload, size, cmb_name_size(store->tree.hash), &l);
    cmb_name_hex(&at->id, hex);
    if (error)
        return cmb_fail(error, "tag object %s at %llu: malformed record", hex, addr);
    cmb_hash_name(store->tree.hash, payload + 4, l.content, &id);
    cmb_name_hex(&id, found);
    if (!cmb_name_equal(&id, &at->id))
        return cmb_fail(CMB_ECORRUPT, "tag object %s at %llu: what is there is %s", hex, addr, found);
    cmb_tag_record *r = make_record(store, &l, at);
    if (!r)
        return CMB_ENOMEM;
    if (r->target.addr >= at->addr) { /* so chains end */
        cmb_tag_free(&r->tag);
        return cmb_fail(CMB_ECORRUPT, "tag object %s at %llu: refers to what lies above it", hex, addr);
    }
    *out_record = r;
    return 0;
}

int cmb_tag_load(cmb_store *store, const cmb_commit_at *at, cmb_tag_record **out_record)
{
    uint8_t *record = NULL;
    int error = cmb_object_load(store, at, CMB_RECORD_TAG, "tag object", &record);
    if (error)
        return error;
    error = decode(store, at, record + CMB_RECORD_HEADER, at->length - CMB_RECORD_HEADER, out_record);
    cmb_release(&store->alloc, record, at->length);
    return error;
}

void cmb_tag_free(cmb_tag *tag)
{
    if (!tag)
        return;
    cmb_tag_record *r = (cmb_tag_record *)tag;
    cmb_allocator alloc = r->alloc;
    cmb_release(&alloc, r, r->memory);
}

int cmb_tag_peel(cmb_store *store, const cmb_commit_at *tag, cmb_tag_each_fn fn, void *ctx, cmb_commit_at *out_commit)
{
    cmb_commit_at at = *tag;
    for (unsigned depth = 0; depth < CMB_TAG_DEPTH_MAX; depth++) {
        cmb_tag_record *r;
        int error = cmb_tag_load(store, &at, &r);
        if (error)
            return error;
        if (fn)
            error = fn(ctx, r);
        bool more = r->tag.target_is_tag;
        at = r->target;
        cmb_tag_free(&r->tag);
        if (error)
            return error;
        if (!more) {
            *out_commit = at;
            return 0;
        }
    }
    return cmb_fail(CMB_ECORRUPT, "tag object at %llu: more than %u of them, one naming the next", (unsigned long long)tag->addr,
                    CMB_TAG_DEPTH_MAX);
}

int cmb_tag_state(cmb_store *store, const cmb_commit_at *tag, cmb_state *out_state)
{
    cmb_commit_at commit;
    int error = cmb_tag_peel(store, tag, NULL, NULL, &commit);
    if (!error)
        error = cmb_commit_state(store, &commit, out_state);
    if (!error)
        out_state->tag = *tag;
    return error;
}

/* ---- the public face ---- */

typedef struct search {
    unsigned depth;      /* objects still to pass */
    cmb_commit_at found; /* id.size 0: not yet */
} search;

static int pass(void *ctx, const cmb_tag_record *record)
{
    search *s = ctx;
    if (s->depth-- > 0)
        return 0;
    s->found = record->at;
    return 1;
}

int cmb_tag_read(cmb_store *store, const char *name, unsigned depth, cmb_tag **out_tag)
{
    char full[CMB_REF_FULL_SIZE];
    cmb_state state;
    cmb_commit_at commit;
    cmb_tag_record *record;
    search s = {depth, {.addr = 0}};
    bool has_prefix = name && strncmp(name, CMB_TAGS, sizeof CMB_TAGS - 1) == 0;
    if (!name)
        return cmb_fail(CMB_EINVAL, "no name of a tag");
    int error = cmb_ref_full_name(CMB_TAGS, has_prefix ? name + sizeof CMB_TAGS - 1 : name, full);
    if (!error)
        error = cmb_ref_state(store, full, strlen(full), &state);
    if (error == CMB_ENOTFOUND)
        return cmb_fail(CMB_ENOTFOUND, "there is no %s", full);
    if (error)
        return error;
    if (!state.tag.id.size)
        return cmb_fail(CMB_ENOTFOUND, "%s is not annotated", full);
    error = cmb_tag_peel(store, &state.tag, pass, &s, &commit);
    if (error < 0)
        return error;
    if (!s.found.id.size)
        return cmb_fail(CMB_ENOTFOUND, "%s: below it there are no %u tag objects", full, depth + 1);
    error = cmb_tag_load(store, &s.found, &record);
    if (!error)
        *out_tag = &record->tag;
    return error;
}
