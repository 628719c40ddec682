/* SPDX-License-Identifier: ISC */
/*
 * mergefn_json.c: three-way merges of JSON documents.
 *
 * The parser is a library's, which holds numbers as integers of 64 bits or as doubles. So that no digit is lost, it
 * never sees one: in the text that it gets each number is a string that begins with '#', and every other string begins
 * with '$'. What it writes is changed back. Objects stay ordered as they were: all their keys begin alike.
 */
#include "store/merging.h"

#if CMB_HAVE_JANSSON

#include <jansson.h>

#define NUMBER '#'
#define STRING '$'
#define LOAD_FLAGS (JSON_REJECT_DUPLICATES | JSON_DECODE_ANY)
#define DUMP_FLAGS (JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY)

#define CONFLICT 1 /* beside 0 and errors: it cannot be merged */

/* ---- numbers become strings, and back ---- */

typedef struct marked {
    uint8_t *p; /* NULL: only the size is wanted */
    size_t size;
} marked;

static void put(marked *m, const void *data, size_t size)
{
    if (m->p)
        memcpy(m->p + m->size, data, size);
    m->size += size;
}

static size_t digits(const uint8_t *p, size_t n)
{
    size_t i = 0;
    while (i < n && p[i] >= '0' && p[i] <= '9')
        i++;
    return i;
}

/* Bytes of the number at p; 0: there is none. */
static size_t number_size(const uint8_t *p, size_t n)
{
    size_t i = n && p[0] == '-', d;
    d = digits(p + i, n - i);
    if (!d)
        return 0;
    i += p[i] == '0' ? 1 : d;
    if (i < n && p[i] == '.' && (d = digits(p + i + 1, n - i - 1)))
        i += 1 + d;
    if (i < n && (p[i] == 'e' || p[i] == 'E')) {
        size_t sign = i + 1 < n && (p[i + 1] == '+' || p[i + 1] == '-');
        d = digits(p + i + 1 + sign, n - i - 1 - sign);
        i += d ? 1 + sign + d : 0;
    }
    return i;
}

/* Bytes of the string at p, which begins with a quote; 0: it does not end. */
static size_t string_size(const uint8_t *p, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        if (p[i] == '"')
            return i + 1;
        i += p[i] == '\\';
    }
    return 0;
}

/* Does a colon come next? */
static bool is_key(const uint8_t *p, size_t n)
{
    size_t i = 0;
    while (i < n && (p[i] == ' ' || p[i] == '\t' || p[i] == '\n' || p[i] == '\r'))
        i++;
    return i < n && p[i] == ':';
}

/* false: not JSON. What is true may still be none: the parser says so. */
static bool mark(cmb_bytes text, marked *m)
{
    const uint8_t *p = text.data;
    for (size_t i = 0, n; i < text.size; i += n) {
        if (p[i] == '"') {
            n = string_size(p + i, text.size - i);
            put(m, (const char[]){'"', STRING}, 2);
            put(m, p + i + 1, n ? n - 1 : 0);
        } else if (p[i] == '-' || (p[i] >= '0' && p[i] <= '9')) {
            n = number_size(p + i, text.size - i);
            if (is_key(p + i + n, text.size - i - n))
                return false;
            put(m, (const char[]){'"', NUMBER}, 2);
            put(m, p + i, n);
            put(m, "\"", 1);
        } else {
            n = 1;
            put(m, p + i, 1);
        }
        if (!n)
            return false;
    }
    return true;
}

/* In place, for it only becomes shorter. Returns the size. */
static size_t unmark(uint8_t *p, size_t size)
{
    size_t to = 0;
    for (size_t i = 0, n; i < size; i += n) {
        n = 1;
        if (p[i] != '"') {
            p[to++] = p[i];
            continue;
        }
        n = string_size(p + i, size - i);
        if (p[i + 1] == STRING) {
            p[to++] = '"';
            memmove(p + to, p + i + 2, n - 2);
            to += n - 2;
        } else {
            memmove(p + to, p + i + 2, n - 3);
            to += n - 3;
        }
    }
    return to;
}

/* ---- reading and writing ---- */

static int parse(const cmb_allocator *alloc, cmb_bytes text, json_t **out)
{
    json_error_t failure;
    marked m = {NULL, 0};
    if (!mark(text, &m))
        return CONFLICT;
    size_t size = m.size;
    m = (marked){cmb_alloc(alloc, size + 1), 0};
    if (!m.p)
        return CMB_ENOMEM;
    mark(text, &m);
    *out = json_loadb((const char *)m.p, size, LOAD_FLAGS, &failure);
    cmb_release(alloc, m.p, size + 1);
    if (*out)
        return 0;
    return json_error_code(&failure) == json_error_out_of_memory ? cmb_fail(CMB_ENOMEM, "no memory for JSON")
                                                                 : CONFLICT;
}

static int write_out(cmb_clash *clash, const json_t *doc, cmb_bytes *out_value)
{
    size_t size = json_dumpb(doc, NULL, 0, DUMP_FLAGS);
    uint8_t *text = size ? cmb_clash_memory(clash, size) : NULL;
    if (!text || json_dumpb(doc, (char *)text, size, DUMP_FLAGS) != size)
        return cmb_fail(CMB_ENOMEM, "no memory for JSON");
    *out_value = (cmb_bytes){text, unmark(text, size)};
    return CMB_ANSWER_VALUE;
}

/* ---- merging ---- */

/* Two objects on their way to one. */
typedef struct level {
    json_t *out;
    const json_t *base; /* NULL: no object there */
    json_t *mine, *theirs;
    void *at;           /* member of mine, later of theirs */
    bool second;        /* mine is done */
} level;

typedef struct levels {
    const cmb_allocator *alloc;
    level *items;
    size_t count, capacity;
} levels;

/* NULL: absent. */
static bool same(const json_t *a, const json_t *b)
{
    return a && b ? json_equal(a, b) : a == b;
}

enum choice { CHOOSE_MINE, CHOOSE_THEIRS, CHOOSE_BOTH, CHOOSE_NEITHER };

static enum choice choose(const json_t *base, const json_t *mine, const json_t *theirs)
{
    if (same(base, theirs) || same(mine, theirs))
        return CHOOSE_MINE;
    if (same(base, mine))
        return CHOOSE_THEIRS;
    return json_is_object(mine) && json_is_object(theirs) ? CHOOSE_BOTH : CHOOSE_NEITHER;
}

/* Takes the reference to `out` over, which its parent has as well. */
static int push(levels *w, json_t *out, const json_t *base, json_t *mine, json_t *theirs)
{
    if (!out)
        return cmb_fail(CMB_ENOMEM, "no memory for JSON");
    if (w->count == w->capacity) {
        size_t wanted = w->capacity ? 2 * w->capacity : 16;
        level *items = cmb_resize(w->alloc, w->items, w->capacity * sizeof *items, wanted * sizeof *items);
        if (!items)
            return CMB_ENOMEM;
        w->items = items;
        w->capacity = wanted;
    }
    w->items[w->count++] = (level){.out = out,
                                   .base = json_is_object(base) ? base : NULL,
                                   .mine = mine,
                                   .theirs = theirs,
                                   .at = json_object_iter(mine)};
    return 0;
}

static int merge_member(levels *w, const level *l, const char *key)
{
    const json_t *base = json_object_get(l->base, key);
    json_t *mine = json_object_get(l->mine, key), *theirs = json_object_get(l->theirs, key), *out = NULL;
    enum choice choice = choose(base, mine, theirs);
    if (choice == CHOOSE_NEITHER)
        return CONFLICT;
    if (choice == CHOOSE_BOTH) {
        out = json_object();
        if (!out || json_object_set_new_nocheck(l->out, key, out))
            return cmb_fail(CMB_ENOMEM, "no memory for JSON");
        return push(w, out, base, mine, theirs);
    }
    out = choice == CHOOSE_MINE ? mine : theirs;
    if (out && json_object_set_nocheck(l->out, key, out))
        return cmb_fail(CMB_ENOMEM, "no memory for JSON");
    return 0;
}

/* The next member of the innermost level, or its end. */
static int step(levels *w)
{
    level *l = &w->items[w->count - 1];
    if (!l->at && l->second) {
        w->count--;
        return 0;
    }
    if (!l->at) {
        l->second = true;
        l->at = json_object_iter(l->theirs);
        return 0;
    }
    const char *key = json_object_iter_key(l->at);
    bool seen = l->second && json_object_get(l->mine, key);
    level now = *l; /* which may move */
    l->at = json_object_iter_next(l->second ? l->theirs : l->mine, l->at);
    return seen ? 0 : merge_member(w, &now, key);
}

static int merge_objects(const cmb_allocator *alloc, const json_t *base, json_t *mine, json_t *theirs, json_t **out)
{
    levels w = {.alloc = alloc};
    json_t *doc = json_object();
    int rc = push(&w, doc, base, mine, theirs);
    while (!rc && w.count)
        rc = step(&w);
    cmb_release(alloc, w.items, w.capacity * sizeof *w.items);
    if (rc)
        json_decref(doc);
    else
        *out = doc;
    return rc;
}

/* `doc` or, byte for byte, the side that says the same. */
static int answer_with(cmb_clash *clash, const json_t *doc, const json_t *mine, const json_t *theirs,
                       const cmb_bytes values[CMB_SIDES], cmb_bytes *out_value)
{
    const cmb_bytes *m = &values[CMB_SIDE_MINE], *t = &values[CMB_SIDE_THEIRS];
    bool as_mine = json_equal(doc, mine), as_theirs = json_equal(doc, theirs);
    if (as_mine && as_theirs)
        return cmb_compare(m->data, m->size, t->data, t->size) <= 0 ? CMB_ANSWER_MINE : CMB_ANSWER_THEIRS;
    if (as_mine || as_theirs)
        return as_mine ? CMB_ANSWER_MINE : CMB_ANSWER_THEIRS;
    return write_out(clash, doc, out_value);
}

static int merge(cmb_clash *clash, json_t *const docs[CMB_SIDES], const cmb_bytes values[CMB_SIDES],
                 cmb_bytes *out_value)
{
    const json_t *base = docs[CMB_SIDE_BASE];
    json_t *mine = docs[CMB_SIDE_MINE], *theirs = docs[CMB_SIDE_THEIRS], *both = NULL;
    switch (choose(base, mine, theirs)) {
    case CHOOSE_MINE:
        return answer_with(clash, mine, mine, theirs, values, out_value);
    case CHOOSE_THEIRS:
        return answer_with(clash, theirs, mine, theirs, values, out_value);
    case CHOOSE_BOTH:
        break;
    case CHOOSE_NEITHER:
        return CMB_ANSWER_CONFLICT;
    }
    int rc = merge_objects(&clash->store->alloc, base, mine, theirs, &both);
    if (rc)
        return rc == CONFLICT ? CMB_ANSWER_CONFLICT : rc;
    int answer = answer_with(clash, both, mine, theirs, values, out_value);
    json_decref(both);
    return answer;
}

int cmb_merge_json(void *ctx, cmb_clash *clash, cmb_bytes *out_value)
{
    json_t *docs[CMB_SIDES] = {NULL};
    cmb_bytes values[CMB_SIDES] = {{NULL, 0}};
    int rc = 0;
    (void)ctx;
    if (!cmb_clash_has_both(clash))
        return CMB_ANSWER_CONFLICT;
    for (unsigned i = 0; !rc && i < CMB_SIDES; i++) {
        if (cmb_clash_presence(clash, (cmb_clash_side)i) != CMB_PRESENT)
            continue;
        rc = cmb_clash_value(clash, (cmb_clash_side)i, &values[i]);
        if (!rc)
            rc = parse(&clash->store->alloc, values[i], &docs[i]);
    }
    int answer = rc == CONFLICT || rc == CMB_ETOOBIG ? CMB_ANSWER_CONFLICT
                 : rc                                ? rc
                                                     : merge(clash, docs, values, out_value);
    for (unsigned i = 0; i < CMB_SIDES; i++)
        json_decref(docs[i]);
    return answer;
}

#else

int cmb_merge_json(void *ctx, cmb_clash *clash, cmb_bytes *out_value)
{
    (void)ctx, (void)clash, (void)out_value;
    return cmb_fail(CMB_ENOTSUP, "the library was built without JSON");
}

#endif
