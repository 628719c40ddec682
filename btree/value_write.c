/* SPDX-License-Identifier: ISC */
/* Writing out-of-line values: chunks as they fill, the list of them at the end. */
#include "btree/value_private.h"

#include <assert.h>

#define BUFFER_MIN 65536u

int cmb_chunk_list_reserve(const cmb_tree *tree, cmb_chunk_list *list, uint32_t capacity)
{
    if (capacity <= list->capacity)
        return 0;
    size_t name = cmb_name_size(tree->hash);
    uint64_t *addrs = cmb_alloc(&tree->alloc, capacity * sizeof *addrs);
    uint8_t *names = addrs ? cmb_alloc(&tree->alloc, capacity * name + 4) : NULL;
    if (!names) {
        cmb_release(&tree->alloc, addrs, capacity * sizeof *addrs);
        return CMB_ENOMEM;
    }
    cmb_chunk_list old = *list;
    if (old.count) {
        memcpy(addrs, old.addrs, old.count * sizeof *addrs);
        memcpy(names, old.names, old.count * name);
    }
    cmb_chunk_list_free(tree, &old);
    *list = (cmb_chunk_list){.names = names, .addrs = addrs, .count = list->count, .capacity = capacity};
    return 0;
}

void cmb_chunk_list_free(const cmb_tree *tree, cmb_chunk_list *list)
{
    if (list->capacity) {
        cmb_release(&tree->alloc, list->names, list->capacity * (size_t)cmb_name_size(tree->hash) + 4);
        cmb_release(&tree->alloc, list->addrs, list->capacity * sizeof *list->addrs);
    }
    *list = (cmb_chunk_list){0};
}

void cmb_chunk_list_name(const cmb_tree *tree, cmb_chunk_list *list, uint32_t size, cmb_name *out_name)
{
    size_t names = list->count * (size_t)cmb_name_size(tree->hash);
    cmb_put32(list->names + names, size);
    cmb_hash_name(tree->hash, list->names, names + 4, out_name);
}

/* Appends one chunk; the list has room. */
static int write_chunk(const cmb_tree *tree, cmb_appender *app, const void *data, uint32_t size, cmb_chunk_list *list)
{
    uint64_t addr;
    int error = cmb_append_record(app, CMB_RECORD_CHUNK, data, size, &addr);
    if (error)
        return error;
    cmb_name name;
    cmb_hash_name(tree->hash, data, size, &name);
    memcpy(list->names + list->count * (size_t)name.size, name.bytes, name.size);
    list->addrs[list->count++] = addr;
    return 0;
}

static int write_list(const cmb_tree *tree, cmb_appender *app, const cmb_chunk_list *list, uint32_t size, cmb_valref *ref)
{
    uint64_t low = UINT64_MAX, high = 0;
    for (uint32_t i = 0; i < list->count; i++) {
        low = list->addrs[i] < low ? list->addrs[i] : low;
        high = list->addrs[i] > high ? list->addrs[i] : high;
    }
    uint64_t base = low / CMB_RECORD_ALIGN;
    unsigned width = cmb_uint_width(high / CMB_RECORD_ALIGN - base);
    size_t names = list->count * (size_t)cmb_name_size(tree->hash);
    uint32_t length = (uint32_t)(CMB_RECORD_HEADER + CMB_CHUNKS_HEADER + names + CMB_CHUNKS_PLACES + (size_t)list->count * width);
    void *record;
    int error = cmb_append(app, length, &ref->addr, &record);
    if (error)
        return error;
    uint8_t *p = (uint8_t *)record + CMB_RECORD_HEADER;
    cmb_put32(p, size);
    cmb_put32(p + 4, list->count);
    memcpy(p + CMB_CHUNKS_HEADER, list->names, names);
    p += CMB_CHUNKS_HEADER + names;
    cmb_put64(p, base);
    p[8] = (uint8_t)width;
    p += CMB_CHUNKS_PLACES;
    for (uint32_t i = 0; i < list->count; i++, p += width)
        cmb_put_uint(p, width, list->addrs[i] / CMB_RECORD_ALIGN - base);
    cmb_record_seal(record, CMB_RECORD_CHUNKS, length, ref->addr);
    ref->length = length;
    return 0;
}

/* All chunks are written: the reference, and the list if there are several. */
static int finish(const cmb_tree *tree, cmb_appender *app, cmb_chunk_list *list, uint32_t size, cmb_valref *out_ref)
{
    cmb_valref ref = {.addr = list->addrs[0], .length = CMB_RECORD_HEADER + size, .size = size};
    cmb_chunk_list_name(tree, list, size, &ref.name);
    if (list->count > 1) {
        int error = write_list(tree, app, list, size, &ref);
        if (error)
            return error;
    }
    *out_ref = ref;
    return 0;
}

static int write_chunks(const cmb_tree *tree, cmb_appender *app, const uint8_t *data, uint32_t size, cmb_chunk_list *list)
{
    int error = 0;
    for (uint32_t i = 0, n = cmb_chunk_count(size); i < n && !error; i++)
        error = write_chunk(tree, app, data ? data + (size_t)i * CMB_CHUNK_SIZE : NULL, cmb_chunk_size(size, i), list);
    return error;
}

int cmb_value_write(const cmb_tree *tree, cmb_appender *app, const void *data, uint32_t size, cmb_valref *out_ref)
{
    if (size <= CMB_CHUNK_SIZE) { /* the ordinary case needs no memory */
        uint64_t addr;
        uint8_t names[CMB_NAME_MAX + 4];
        cmb_chunk_list one = {.names = names, .addrs = &addr};
        int error = write_chunks(tree, app, data, size, &one);
        return error ? error : finish(tree, app, &one, size, out_ref);
    }
    cmb_chunk_list list = {0};
    int error = cmb_chunk_list_reserve(tree, &list, cmb_chunk_count(size));
    if (!error)
        error = write_chunks(tree, app, data, size, &list);
    if (!error)
        error = finish(tree, app, &list, size, out_ref);
    cmb_chunk_list_free(tree, &list);
    return error;
}

/* ---- piece by piece ---- */

struct cmb_value_writer {
    const cmb_tree *tree;
    cmb_appender *app;
    cmb_chunk_list list;
    uint64_t size;
    uint8_t *buffer; /* of the chunk that is being filled */
    uint32_t used, capacity;
    int error; /* of an earlier call: the value cannot be finished */
};

int cmb_value_writer_open(const cmb_tree *tree, cmb_appender *app, cmb_value_writer **out_writer)
{
    cmb_value_writer *w = cmb_zalloc(&tree->alloc, sizeof *w);
    if (!w)
        return CMB_ENOMEM;
    w->tree = tree;
    w->app = app;
    *out_writer = w;
    return 0;
}

static int put_chunk(cmb_value_writer *w, const void *data, uint32_t size)
{
    int error = 0;
    if (w->list.count == w->list.capacity)
        error = cmb_chunk_list_reserve(w->tree, &w->list, w->list.capacity ? w->list.capacity * 2 : 4);
    return error ? error : write_chunk(w->tree, w->app, data, size, &w->list);
}

static int grow_buffer(cmb_value_writer *w, uint32_t size)
{
    uint32_t capacity = w->capacity ? w->capacity : BUFFER_MIN;
    while (capacity < size)
        capacity *= 2;
    if (capacity == w->capacity)
        return 0;
    uint8_t *buffer = cmb_resize(&w->tree->alloc, w->buffer, w->capacity, capacity);
    if (!buffer)
        return CMB_ENOMEM;
    w->buffer = buffer;
    w->capacity = capacity;
    return 0;
}

static int add(cmb_value_writer *w, const uint8_t *data, size_t size)
{
    while (size) {
        if (w->used == 0 && size >= CMB_CHUNK_SIZE) { /* whole chunks go past the buffer */
            int error = put_chunk(w, data, CMB_CHUNK_SIZE);
            if (error)
                return error;
            data += CMB_CHUNK_SIZE;
            size -= CMB_CHUNK_SIZE;
            continue;
        }
        uint32_t room = CMB_CHUNK_SIZE - w->used, n = size < room ? (uint32_t)size : room;
        int error = grow_buffer(w, w->used + n);
        if (error)
            return error;
        memcpy(w->buffer + w->used, data, n);
        w->used += n;
        data += n;
        size -= n;
        if (w->used == CMB_CHUNK_SIZE) {
            error = put_chunk(w, w->buffer, w->used);
            if (error)
                return error;
            w->used = 0;
        }
    }
    return 0;
}

int cmb_value_writer_add(cmb_value_writer *writer, const void *data, size_t size)
{
    cmb_value_writer *w = writer;
    if (w->error)
        return w->error;
    if (size > CMB_VALUE_MAX - w->size)
        return w->error = cmb_fail(CMB_ETOOBIG, "a value of more than %u bytes", CMB_VALUE_MAX);
    w->error = add(w, data, size);
    w->size += size;
    return w->error;
}

static int adopt(cmb_value_writer *w, const cmb_chunk_list *from, uint32_t i)
{
    size_t name = cmb_name_size(w->tree->hash);
    int error = 0;
    if (w->list.count == w->list.capacity)
        error = cmb_chunk_list_reserve(w->tree, &w->list, w->list.capacity ? w->list.capacity * 2 : 4);
    if (error)
        return error;
    memcpy(w->list.names + w->list.count * name, from->names + i * name, name);
    w->list.addrs[w->list.count++] = from->addrs[i];
    return 0;
}

int cmb_value_writer_adopt(cmb_value_writer *writer, const cmb_value_reader *from, uint32_t i, uint32_t size)
{
    cmb_value_writer *w = writer;
    uint32_t whole;
    const cmb_chunk_list *list = cmb_value_reader_list(from, &whole);
    assert(w->size % CMB_CHUNK_SIZE == 0);
    if (w->error)
        return w->error;
    if (list->count < 2 || i >= list->count || cmb_chunk_size(whole, i) != size)
        return cmb_fail(CMB_EINVAL, "a value of %u bytes has no chunk %u of %u bytes to give", (unsigned)whole, (unsigned)i, (unsigned)size);
    if (size > CMB_VALUE_MAX - w->size)
        return w->error = cmb_fail(CMB_ETOOBIG, "a value of more than %u bytes", CMB_VALUE_MAX);
    w->error = adopt(w, list, i);
    w->size += size;
    return w->error;
}

int cmb_value_writer_repeat(cmb_value_writer *writer, uint32_t i)
{
    cmb_value_writer *w = writer;
    assert(w->size % CMB_CHUNK_SIZE == 0 && i < w->list.count);
    if (!w->error && CMB_CHUNK_SIZE > CMB_VALUE_MAX - w->size)
        w->error = cmb_fail(CMB_ETOOBIG, "a value of more than %u bytes", CMB_VALUE_MAX);
    if (!w->error && w->list.count == w->list.capacity)
        w->error = cmb_chunk_list_reserve(w->tree, &w->list, w->list.capacity * 2);
    if (w->error)
        return w->error;
    w->error = adopt(w, &w->list, i);
    w->size += CMB_CHUNK_SIZE;
    return w->error;
}

int cmb_value_writer_finish(cmb_value_writer *writer, cmb_valref *out_ref)
{
    cmb_value_writer *w = writer;
    int error = w->error;
    if (!error && (w->used || w->list.count == 0))
        error = put_chunk(w, w->buffer, w->used);
    if (!error)
        error = finish(w->tree, w->app, &w->list, (uint32_t)w->size, out_ref);
    cmb_value_writer_abort(w);
    return error;
}

void cmb_value_writer_abort(cmb_value_writer *writer)
{
    if (!writer)
        return;
    const cmb_tree *tree = writer->tree;
    cmb_chunk_list_free(tree, &writer->list);
    cmb_release(&tree->alloc, writer->buffer, writer->capacity);
    cmb_release(&tree->alloc, writer, sizeof *writer);
}
