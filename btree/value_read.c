/* SPDX-License-Identifier: ISC */
/*
 * Reading out-of-line values. What a reference says is checked before it is believed: the list by its
 * own check and by the value's name, each chunk by its name.
 */
#include "btree/value_private.h"

struct cmb_value_reader {
    const cmb_tree *tree;
    cmb_valref ref;
    cmb_chunk_list list;
    uint8_t *record; /* of the chunk that is held */
    uint32_t record_size, held; /* bytes allocated; index, or count: none */
};

static int bad_value(const cmb_valref *ref, const char *what)
{
    return cmb_fail(CMB_ECORRUPT, "value at %llu: %s", (unsigned long long)ref->addr, what);
}

static int bad_name(const cmb_tree *tree, uint64_t addr, const cmb_name *found, const uint8_t *expected)
{
    cmb_name name = {.size = (uint8_t)cmb_name_size(tree->hash)};
    memcpy(name.bytes, expected, name.size);
    char found_hex[2 * CMB_NAME_MAX + 1], expected_hex[2 * CMB_NAME_MAX + 1];
    cmb_name_hex(found, found_hex);
    cmb_name_hex(&name, expected_hex);
    return cmb_fail(CMB_ECORRUPT, "value at %llu: its content is %s, %s was expected", (unsigned long long)addr, found_hex,
                    expected_hex);
}

/* The list's parts are inside its record, which holds ref->length bytes; the addresses go to list. */
static int parse_list(const cmb_tree *tree, const cmb_valref *ref, const uint8_t *record, cmb_chunk_list *list)
{
    const uint8_t *p = record + CMB_RECORD_HEADER;
    uint32_t count = cmb_chunk_count(ref->size);
    size_t names = (size_t)count * cmb_name_size(tree->hash);
    size_t before = CMB_RECORD_HEADER + CMB_CHUNKS_HEADER + names + CMB_CHUNKS_PLACES;
    if (ref->length < before || cmb_get32(p) != ref->size || cmb_get32(p + 4) != count)
        return bad_value(ref, "its list of chunks is of another size");
    memcpy(list->names, p + CMB_CHUNKS_HEADER, names);
    p += CMB_CHUNKS_HEADER + names;
    uint64_t base = cmb_get64(p);
    unsigned width = p[8];
    if (width < 1 || width > 8 || before + (size_t)count * width != ref->length || base > UINT64_MAX / CMB_RECORD_ALIGN)
        return bad_value(ref, "its list of chunks is of another size");
    p += CMB_CHUNKS_PLACES;
    for (uint32_t i = 0; i < count; i++, p += width) {
        uint64_t step = cmb_get_uint(p, width), end = ref->addr / CMB_RECORD_ALIGN;
        if (step >= UINT64_MAX / CMB_RECORD_ALIGN - base || base + step == 0 || base + step >= end)
            return bad_value(ref, "a chunk at an impossible place");
        list->addrs[i] = (base + step) * CMB_RECORD_ALIGN;
    }
    list->count = count;
    return 0;
}

static int check_list(const cmb_tree *tree, const cmb_valref *ref, const uint8_t *record, cmb_chunk_list *list)
{
    int error = cmb_record_check(record, ref->length, ref->addr);
    if (error)
        return error;
    if (cmb_record_length(record) != ref->length || cmb_record_kind_of(record) != CMB_RECORD_CHUNKS)
        return bad_value(ref, "there is no list of chunks");
    error = parse_list(tree, ref, record, list);
    if (error)
        return error;
    cmb_name name;
    cmb_chunk_list_name(tree, list, ref->size, &name);
    return cmb_name_equal(&name, &ref->name) ? 0 : bad_name(tree, ref->addr, &name, ref->name.bytes);
}

/* The chunks of a value; of one that is a single chunk, its place but not its name. */
static int read_list(const cmb_tree *tree, const cmb_valref *ref, cmb_chunk_list *list)
{
    uint32_t count = cmb_chunk_count(ref->size);
    if (ref->addr == 0 || ref->addr % CMB_RECORD_ALIGN || ref->name.size != cmb_name_size(tree->hash))
        return bad_value(ref, "a reference to nothing");
    if (count == 1 ? ref->length != CMB_RECORD_HEADER + ref->size
                   : ref->length < CMB_RECORD_HEADER + CMB_CHUNKS_HEADER || ref->length > CMB_RECORD_MAX)
        return bad_value(ref, "a reference with a wrong length");
    int error = cmb_chunk_list_reserve(tree, list, count);
    if (error)
        return error;
    if (count == 1) {
        list->addrs[0] = ref->addr;
        list->count = 1;
        return 0;
    }
    uint8_t *record = cmb_alloc(&tree->alloc, ref->length);
    error = record ? cmb_log_read(tree->log, NULL, ref->addr, ref->length, record) : CMB_ENOMEM;
    if (!error)
        error = check_list(tree, ref, record, list);
    cmb_release(&tree->alloc, record, ref->length);
    return error;
}

/* Reads chunk i into the reader and verifies it. */
static int hold(cmb_value_reader *r, uint32_t i)
{
    if (r->held == i)
        return 0;
    const cmb_tree *tree = r->tree;
    uint32_t length = CMB_RECORD_HEADER + cmb_chunk_size(r->ref.size, i);
    uint64_t addr = r->list.addrs[i];
    r->held = r->list.count;
    int error = cmb_log_read(tree->log, NULL, addr, length, r->record);
    if (error)
        return error;
    if (cmb_record_length(r->record) != length || cmb_record_kind_of(r->record) != CMB_RECORD_CHUNK)
        return cmb_fail(CMB_ECORRUPT, "value at %llu: there is no chunk of %u bytes", (unsigned long long)addr, (unsigned)length);
    cmb_name name;
    cmb_hash_name(tree->hash, r->record + CMB_RECORD_HEADER, length - CMB_RECORD_HEADER, &name);
    const uint8_t *expected = r->list.names + (size_t)i * name.size;
    if (r->list.count == 1) {
        memcpy(r->list.names, name.bytes, name.size);
        cmb_chunk_list_name(tree, &r->list, r->ref.size, &name);
        expected = r->ref.name.bytes;
    }
    if (memcmp(name.bytes, expected, name.size))
        return bad_name(tree, addr, &name, expected);
    r->held = i;
    return 0;
}

int cmb_value_reader_open(const cmb_tree *tree, const cmb_valref *ref, cmb_value_reader **out_reader)
{
    cmb_value_reader *r = cmb_zalloc(&tree->alloc, sizeof *r);
    if (!r)
        return CMB_ENOMEM;
    r->tree = tree;
    r->ref = *ref;
    r->record_size = CMB_RECORD_HEADER + cmb_chunk_size(ref->size, 0); /* the first chunk is the largest */
    int error = read_list(tree, ref, &r->list);
    if (!error && !(r->record = cmb_alloc(&tree->alloc, r->record_size)))
        error = CMB_ENOMEM;
    if (error) {
        cmb_value_reader_close(r);
        return error;
    }
    r->held = r->list.count;
    *out_reader = r;
    return 0;
}

int cmb_value_reader_read(cmb_value_reader *reader, uint64_t offset, void *out, size_t size, size_t *out_read)
{
    cmb_value_reader *r = reader;
    uint64_t left = offset < r->ref.size ? r->ref.size - offset : 0;
    size_t wanted = size < left ? size : (size_t)left, done = 0;
    while (done < wanted) {
        uint64_t at = offset + done;
        uint32_t i = (uint32_t)(at / CMB_CHUNK_SIZE), from = (uint32_t)(at % CMB_CHUNK_SIZE);
        int error = hold(r, i);
        if (error)
            return error;
        size_t n = cmb_chunk_size(r->ref.size, i) - from;
        n = n < wanted - done ? n : wanted - done;
        memcpy((uint8_t *)out + done, r->record + CMB_RECORD_HEADER + from, n);
        done += n;
    }
    *out_read = done;
    return 0;
}

bool cmb_value_same_chunk(const cmb_value_reader *a, const cmb_value_reader *b, uint32_t i)
{
    size_t name = cmb_name_size(a->tree->hash);
    if (a->list.count < 2 || b->list.count < 2 || i >= a->list.count || i >= b->list.count ||
        cmb_chunk_size(a->ref.size, i) != cmb_chunk_size(b->ref.size, i))
        return false;
    return memcmp(a->list.names + i * name, b->list.names + i * name, name) == 0;
}

const cmb_chunk_list *cmb_value_reader_list(const cmb_value_reader *reader, uint32_t *out_size)
{
    *out_size = reader->ref.size;
    return &reader->list;
}

void cmb_value_reader_close(cmb_value_reader *reader)
{
    if (!reader)
        return;
    const cmb_tree *tree = reader->tree;
    cmb_chunk_list_free(tree, &reader->list);
    if (reader->record)
        cmb_release(&tree->alloc, reader->record, reader->record_size);
    cmb_release(&tree->alloc, reader, sizeof *reader);
}

/* The chunk's own check as well, which reading leaves out: the name says more. */
static int verify_chunk(cmb_value_reader *r, uint32_t i)
{
    int error = hold(r, i);
    return error ? error : cmb_record_check(r->record, r->record_size, r->list.addrs[i]);
}

/* known NULL: no chunk is. verify false: none is asked about. */
static int visit(const cmb_tree *tree, const cmb_valref *ref, bool verify, cmb_chunk_known_fn known, cmb_record_fn fn, void *ctx)
{
    bool single = cmb_chunk_count(ref->size) == 1;
    if (single && (!verify || (known && known(ctx, ref->addr, ref->length, ref->name.bytes, true)))) /* the reference says it all */
        return fn(ctx, ref->addr, ref->length, CMB_RECORD_CHUNK);
    cmb_value_reader *r;
    int error = cmb_value_reader_open(tree, ref, &r);
    if (error)
        return error;
    if (r->list.count > 1)
        error = fn(ctx, ref->addr, ref->length, CMB_RECORD_CHUNKS);
    size_t name_size = cmb_name_size(tree->hash);
    for (uint32_t i = 0; i < r->list.count && !error; i++) {
        uint32_t length = CMB_RECORD_HEADER + cmb_chunk_size(ref->size, i);
        bool reads = verify && (single || !known || !known(ctx, r->list.addrs[i], length, r->list.names + i * name_size, false));
        error = reads ? verify_chunk(r, i) : 0;
        if (!error)
            error = fn(ctx, r->list.addrs[i], length, CMB_RECORD_CHUNK);
    }
    cmb_value_reader_close(r);
    return error;
}

int cmb_value_visit(const cmb_tree *tree, const cmb_valref *ref, bool verify, cmb_record_fn fn, void *ctx)
{
    return visit(tree, ref, verify, NULL, fn, ctx);
}

int cmb_value_visit_known(const cmb_tree *tree, const cmb_valref *ref, cmb_chunk_known_fn known, cmb_record_fn fn, void *ctx)
{
    return visit(tree, ref, true, known, fn, ctx);
}
