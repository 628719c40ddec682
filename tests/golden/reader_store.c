/* SPDX-License-Identifier: ISC */
/* reader_store.c: docs/format.md, section 6. */
#include "reader.h"

#include <stdlib.h>

#define ROWS 1024u
#define TABLES 3u

enum { REFS = 0, COMMITS = 1, REFLOG = 2 };

static int wrong(const char *what, uint64_t at)
{
    return cmb_fail(CMB_ECORRUPT, "%s, at %llu", what, (unsigned long long)at);
}

/* ---- tables ---- */

typedef struct row {
    uint8_t key[512], value[512];
    size_t key_size, value_size;
} row;

/* A table as it is now, in key order. */
typedef struct table {
    row rows[ROWS];
    size_t count;
} table;

typedef struct tables {
    table all[TABLES];
    golden_text *text;
    const reader *r;
} tables;

/* Index of the first row whose key is not below. */
static size_t position(const table *t, cmb_bytes key)
{
    size_t i = 0;
    while (i < t->count && cmb_compare(t->rows[i].key, t->rows[i].key_size, key.data, key.size) < 0)
        i++;
    return i;
}

static bool stands_at(const table *t, size_t i, cmb_bytes key)
{
    return i < t->count && cmb_compare(t->rows[i].key, t->rows[i].key_size, key.data, key.size) == 0;
}

static int table_set(void *ctx, cmb_bytes key, cmb_bytes value)
{
    table *t = ctx;
    size_t i = position(t, key);
    if (t->count == ROWS || key.size > sizeof t->rows[0].key || value.size > sizeof t->rows[0].value)
        return wrong("a table larger than this reader holds", t->count);
    if (!stands_at(t, i, key))
        memmove(&t->rows[i + 1], &t->rows[i], (t->count++ - i) * sizeof t->rows[0]);
    row *w = &t->rows[i];
    memcpy(w->key, key.data, w->key_size = key.size);
    memcpy(w->value, value.data, w->value_size = value.size);
    return 0;
}

static void table_remove(table *t, cmb_bytes key)
{
    size_t i = position(t, key);
    if (stands_at(t, i, key))
        memmove(&t->rows[i], &t->rows[i + 1], (--t->count - i) * sizeof t->rows[0]);
}

static int read_edits(tables *t, uint64_t addr, const uint8_t *p, const uint8_t *end)
{
    if (p == end || *p++ != 1)
        return wrong("an edits record", addr);
    while (p < end) {
        size_t key_size = end - p < 6 ? 0 : cmb_get16(p + 2), value_size = end - p < 6 ? 0 : cmb_get16(p + 4);
        if (!key_size || (size_t)(end - p) < 6 + key_size + value_size || p[0] >= TABLES || (p[1] != 1 && p[1] != 2))
            return wrong("an edit", addr);
        table *to = &t->all[p[0]];
        cmb_bytes key = {p + 6, key_size}, value = {p + 6 + key_size, value_size};
        if (p[1] == 1)
            GOLDEN_TRY(table_set(to, key, value));
        else
            table_remove(to, key);
        p += 6 + key_size + value_size;
    }
    return 0;
}

static int read_root(tables *t, uint64_t *out_units)
{
    const reader *r = t->r;
    reader_record record;
    GOLDEN_TRY(reader_find(r, r->root_addr, r->root_length, 7, &record));
    const uint8_t *p = record.data + 16, *end = record.data + record.length;
    if (!reader_is_sealed(&record) || record.length < 26 || p[0] != 2 || p[1] != TABLES)
        return wrong("the root record", record.addr);
    *out_units = cmb_get64(p + 2);
    p += 10;
    for (unsigned i = 0; i < TABLES; i++) {
        reader_ref root;
        if (end - p < 2 || p[0] != i || p[1] > end - p - 2)
            return wrong("a table in the root record", record.addr);
        const uint8_t *packed_end = p + 2 + p[1];
        p += 2;
        GOLDEN_TRY(reader_unpack(&p, packed_end, &root));
        if (p != packed_end)
            return wrong("the size of a table in the root record", record.addr);
        GOLDEN_TRY(reader_tree(r, &root, table_set, &t->all[i]));
    }
    if (end - p < 4 || cmb_get32(p))
        return wrong("runs of intents, in an image that was closed", record.addr);
    return read_edits(t, record.addr, p + 4, end);
}

/* ---- what a ref stands on ---- */

typedef struct state {
    bool has_commit, working;
    uint8_t commit[16];
    uint64_t addr, generation;
    uint32_t length;
    reader_ref root; /* of the content */
} state;

static int read_state(const row *w, state *out)
{
    const uint8_t *p = w->value, *end = p + w->value_size;
    memset(out, 0, sizeof *out);
    if (p == end || *p > 3)
        return wrong("the state of a ref", w->value_size);
    out->has_commit = *p & 1;
    out->working = *p++ & 2;
    if (end - p < 8)
        return wrong("the state of a ref is cut off", w->value_size);
    p += 8; /* up to which unit intents are merged: an image that was closed has none */
    if (out->has_commit) {
        if (end - p < 36)
            return wrong("the state of a ref is cut off", w->value_size);
        memcpy(out->commit, p, 16);
        out->addr = cmb_get64(p + 16);
        out->length = cmb_get32(p + 24);
        out->generation = cmb_get64(p + 28);
        p += 36;
        GOLDEN_TRY(reader_unpack(&p, end, &out->root));
    }
    if (out->working)
        GOLDEN_TRY(reader_unpack(&p, end, &out->root));
    return p == end ? 0 : wrong("the state of a ref is too long", w->value_size);
}

static void hex_of(const uint8_t name[16], char out[33])
{
    golden_text text = {0};
    golden_add_hex(&text, name, 16);
    memcpy(out, text.data, 33);
    golden_text_free(&text);
}

static void list_ref(golden_text *text, const row *w, const state *s)
{
    char commit[33] = "none", root[33], name[512];
    bool tag = memcmp(w->key, "tags/", 5) == 0;
    size_t prefix = tag ? 5 : 6;
    if (s->has_commit)
        hex_of(s->commit, commit);
    hex_of(s->root.name, root);
    memcpy(name, w->key + prefix, w->key_size - prefix);
    name[w->key_size - prefix] = 0;
    golden_list_ref(text, tag ? "tag" : "branch", name, &(golden_at){commit, root, s->root.count, s->working});
}

/* ---- commits ---- */

typedef struct commit {
    golden_change change;
    char id[33], root_hex[33], parent_hex[33];
    reader_ref root;
    bool has_parent;
    uint8_t parent[16];
    uint64_t parent_addr;
    uint32_t parent_length;
} commit;

/* The part that the id covers, from `p` to `end`. */
static int read_content(const uint8_t *p, const uint8_t *end, commit *c, uint16_t *out_parents)
{
    if (end - p < 46 || p[0] != 1 || p[1] != 16 || p[3] > 1)
        return wrong("the content of a commit", 0);
    c->root.level = p[2];
    c->root.out_of_line = p[3];
    c->change.generation = cmb_get64(p + 4);
    c->change.time = (int64_t)cmb_get64(p + 12);
    c->root.count = c->change.entries = cmb_get64(p + 20);
    memcpy(c->root.name, p + 28, 16);
    uint16_t parents = cmb_get16(p + 44);
    p += 46;
    if (parents > 64 || end - p < 16 * parents + 4)
        return wrong("the parents of a commit", parents);
    c->has_parent = parents > 0;
    if (parents)
        memcpy(c->parent, p, 16);
    p += 16 * parents;
    c->change.author_size = cmb_get32(p);
    c->change.author = p + 4;
    if (c->change.author_size + 8 > (size_t)(end - p))
        return wrong("the author of a commit", c->change.author_size);
    p += 4 + c->change.author_size;
    c->change.message_size = cmb_get32(p);
    c->change.message = p + 4;
    if (c->change.message_size + 6 != (size_t)(end - p) || cmb_get16(end - 2))
        return wrong("the message of a commit", c->change.message_size);
    *out_parents = parents;
    return 0;
}

static int read_commit(const reader *r, const uint8_t id[16], uint64_t addr, uint32_t length, commit *c)
{
    reader_record record;
    cmb_name name;
    uint16_t parents = 0;
    memset(c, 0, sizeof *c);
    GOLDEN_TRY(reader_find(r, addr, length, 5, &record));
    const uint8_t *content = record.data + 20, *end = record.data + length;
    uint32_t size = length < 20 ? UINT32_MAX : cmb_get32(record.data + 16);
    if (!reader_is_sealed(&record) || size > length - 20)
        return wrong("a commit record", addr);
    cmb_hash_name(CMB_HASH_XXH3, content, size, &name);
    if (memcmp(name.bytes, id, 16) != 0)
        return wrong("the id of a commit", addr);
    GOLDEN_TRY(read_content(content, content + size, c, &parents));
    const uint8_t *trailer = content + size;
    if (end - trailer != 12 * (1 + parents))
        return wrong("the trailer of a commit", addr);
    c->root.addr = cmb_get64(trailer);
    c->root.length = cmb_get32(trailer + 8);
    c->parent_addr = parents ? cmb_get64(trailer + 12) : 0;
    c->parent_length = parents ? cmb_get32(trailer + 20) : 0;
    hex_of(id, c->id);
    hex_of(c->root.name, c->root_hex);
    if (parents)
        hex_of(c->parent, c->parent_hex);
    c->change.id = c->id;
    c->change.root = c->root_hex;
    c->change.parent = parents ? c->parent_hex : "none";
    return 0;
}

/* ---- the listing ---- */

static int list_entry(void *ctx, cmb_bytes key, cmb_bytes value)
{
    golden_list_key(ctx, key);
    golden_list_value(ctx, value);
    return 0;
}

static int list_tree(const reader *r, golden_text *text, const reader_ref *root)
{
    char name[33];
    hex_of(root->name, name);
    if (golden_listed(text, "tree", name))
        return 0;
    golden_list_tree(text, name, root->count);
    return reader_tree(r, root, list_entry, text);
}

/* The commit index knows every commit, and where it lies. */
static int expect_indexed(const tables *t, const uint8_t id[16], uint64_t addr, uint32_t length)
{
    cmb_bytes key = {id, 16};
    size_t i = position(&t->all[COMMITS], key);
    if (!stands_at(&t->all[COMMITS], i, key))
        return wrong("a commit that is not in the index", addr);
    const row *w = &t->all[COMMITS].rows[i];
    return w->value_size == 12 && cmb_get64(w->value) == addr && cmb_get32(w->value + 8) == length
               ? 0
               : wrong("a commit that lies elsewhere than the index says", addr);
}

/* First parents downwards, until one that was listed; their roots gather in `roots`. */
static int list_commits(const tables *t, const state *s, reader_ref *roots, size_t *count)
{
    uint8_t id[16];
    uint64_t addr = s->addr;
    uint32_t length = s->length;
    bool more = s->has_commit;
    memcpy(id, s->commit, 16);
    while (more) {
        commit c;
        GOLDEN_TRY(read_commit(t->r, id, addr, length, &c));
        GOLDEN_TRY(expect_indexed(t, id, addr, length));
        if (golden_listed(t->text, "commit", c.id))
            return 0;
        if (*count == ROWS)
            return wrong("more commits than this reader holds", addr);
        golden_list_commit(t->text, &c.change);
        roots[(*count)++] = c.root;
        more = c.has_parent;
        memcpy(id, c.parent, 16);
        addr = c.parent_addr;
        length = c.parent_length;
    }
    return 0;
}

/* The newest entry of a ref's log says where the ref stands; `units` were published so far. */
static int expect_logged(const tables *t, const row *ref, const state *s, uint64_t units)
{
    const table *log = &t->all[REFLOG];
    uint8_t key[521];
    memcpy(key, ref->key, ref->key_size);
    memset(key + ref->key_size, 0, 1);
    memset(key + ref->key_size + 1, 0xff, 8);
    size_t size = ref->key_size + 9, i = position(log, (cmb_bytes){key, size});
    const row *w = i ? &log->rows[i - 1] : NULL;
    if (!w || w->key_size != size || memcmp(w->key, key, size - 8) != 0)
        return wrong("a ref without an entry in the reflog", s->addr);
    const uint8_t *v = w->value;
    uint64_t unit = 0;
    for (unsigned k = 0; k < 8; k++)
        unit = unit << 8 | w->key[size - 8 + k];
    if (!unit || unit > units || v[0] < 1 || v[0] > 5 || w->value_size != 11u + v[9] + v[10] ||
        v[10] != (s->has_commit ? 16 : 0) || memcmp(v + 11 + v[9], s->commit, v[10]) != 0)
        return wrong("the newest entry of a ref in the reflog", s->addr);
    return 0;
}

/* The empty tree where a ref has neither commit nor working state. */
static void name_empty(state *s)
{
    cmb_name name;
    static const uint8_t body[24] = {[0] = 24, [7] = 6};
    if (s->has_commit || s->working)
        return;
    cmb_hash_name(CMB_HASH_XXH3, body, sizeof body, &name);
    memcpy(s->root.name, name.bytes, 16);
}

static int list_all(tables *t, uint64_t units)
{
    static state states[ROWS];
    static reader_ref roots[ROWS];
    size_t n = t->all[REFS].count, root_count = 0;
    for (size_t i = 0; i < n; i++) {
        GOLDEN_TRY(read_state(&t->all[REFS].rows[i], &states[i]));
        name_empty(&states[i]);
        GOLDEN_TRY(expect_logged(t, &t->all[REFS].rows[i], &states[i], units));
        list_ref(t->text, &t->all[REFS].rows[i], &states[i]);
    }
    for (size_t i = 0; i < n; i++)
        GOLDEN_TRY(list_commits(t, &states[i], roots, &root_count));
    for (size_t i = 0; i < n; i++)
        GOLDEN_TRY(list_tree(t->r, t->text, &states[i].root));
    for (size_t i = 0; i < root_count; i++)
        GOLDEN_TRY(list_tree(t->r, t->text, &roots[i]));
    return 0;
}

int reader_listing(const reader *r, golden_text *out_text)
{
    golden_text text = {0};
    tables *t = calloc(1, sizeof *t);
    if (!t)
        abort();
    t->r = r;
    t->text = &text;
    uint64_t units = 0;
    int error = read_root(t, &units);
    for (size_t i = 0; !error && i < r->edit_count; i++)
        error = read_edits(t, r->edits[i].addr, r->edits[i].data + 16, r->edits[i].data + r->edits[i].length);
    if (!error)
        error = list_all(t, units + r->edit_count);
    free(t);
    if (error)
        golden_text_free(&text);
    else
        *out_text = text;
    return error;
}
