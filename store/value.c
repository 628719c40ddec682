/* SPDX-License-Identifier: ISC */
/* value.c: values that lie out of line: in one piece, or as a stream. And the memory of handles. */
#include "store/handles.h"

struct cmb_value_stream {
    cmb_allocator alloc;
    cmb_value_reader *reader; /* NULL: `data` holds it */
    uint32_t size;            /* bytes of the value */
    uint8_t data[];
};

int cmb_blob_reserve(const cmb_allocator *alloc, cmb_blob *blob, size_t size)
{
    if (size <= blob->capacity)
        return 0;
    size_t capacity = blob->capacity * 2 > size ? blob->capacity * 2 : size;
    uint8_t *data = cmb_alloc(alloc, capacity);
    if (!data)
        return CMB_ENOMEM;
    cmb_release(alloc, blob->data, blob->capacity);
    blob->data = data;
    blob->capacity = capacity;
    return 0;
}

int cmb_blob_set(const cmb_allocator *alloc, cmb_blob *blob, const void *data, size_t size)
{
    if (CMB_UNLIKELY(size > blob->capacity)) {
        cmb_blob grown = {.capacity = 0};
        int error = cmb_blob_reserve(alloc, &grown, size < 64 ? 64 : size);
        if (error)
            return error;
        memcpy(grown.data, data, size); /* which may lie in the old one */
        cmb_blob_release(alloc, blob);
        *blob = grown;
    } else if (size) {
        memmove(blob->data, data, size);
    }
    return 0;
}

void cmb_blob_release(const cmb_allocator *alloc, cmb_blob *blob)
{
    cmb_release(alloc, blob->data, blob->capacity);
    *blob = (cmb_blob){.capacity = 0};
}

void cmb_pins_destroy(cmb_nodes *nodes, cmb_pins *p)
{
    cmb_pin_destroy(nodes, &p->pin[0]);
    cmb_pin_destroy(nodes, &p->pin[1]);
}

int cmb_key_refuse(size_t size)
{
    return cmb_fail(CMB_EINVAL, "a key of %zu bytes: %u to %u are possible", size, CMB_KEY_MIN, CMB_KEY_MAX);
}

int cmb_value_gather(cmb_store *store, const cmb_valref *ref, cmb_blob *blob, cmb_bytes *out_value)
{
    cmb_value_reader *reader;
    size_t got = 0;
    if (ref->size > CMB_GET_MAX)
        return cmb_fail(CMB_ETOOBIG, "a value of %u bytes: over %u it is read as a stream", ref->size, CMB_GET_MAX);
    int error = cmb_blob_reserve(&store->alloc, blob, ref->size);
    if (!error)
        error = cmb_value_reader_open(&store->tree, ref, &reader);
    if (error)
        return error;
    error = cmb_value_reader_read(reader, 0, blob->data, ref->size, &got);
    cmb_value_reader_close(reader);
    if (!error && got != ref->size)
        error = cmb_fail(CMB_ECORRUPT, "value at %llu: %zu bytes instead of %u", (unsigned long long)ref->addr, got,
                         ref->size);
    if (!error)
        *out_value = (cmb_bytes){blob->data, ref->size};
    return error;
}

int cmb_value_stream_open(cmb_store *store, const cmb_found *found, cmb_value_stream **out_stream)
{
    size_t held = found->out_of_line ? 0 : found->value.size;
    cmb_value_stream *s = cmb_alloc(&store->alloc, sizeof *s + held);
    if (!s)
        return CMB_ENOMEM;
    *s = (cmb_value_stream){.alloc = store->alloc, .size = (uint32_t)held};
    if (held)
        memcpy(s->data, found->value.data, held);
    if (found->out_of_line) {
        int error = cmb_value_reader_open(&store->tree, &found->valref, &s->reader);
        if (error) {
            cmb_release(&store->alloc, s, sizeof *s);
            return error;
        }
        s->size = found->valref.size;
    }
    *out_stream = s;
    return 0;
}

uint32_t cmb_value_size(const cmb_value_stream *stream)
{
    return stream->size;
}

int cmb_value_read(cmb_value_stream *stream, uint64_t offset, void *out_buffer, size_t size, size_t *out_read)
{
    if (stream->reader)
        return cmb_value_reader_read(stream->reader, offset, out_buffer, size, out_read);
    size_t left = offset < stream->size ? stream->size - (size_t)offset : 0, n = size < left ? size : left;
    if (n)
        memcpy(out_buffer, stream->data + offset, n);
    *out_read = n;
    return 0;
}

void cmb_value_close(cmb_value_stream *stream)
{
    if (!stream)
        return;
    cmb_allocator alloc = stream->alloc;
    size_t held = stream->reader ? 0 : stream->size;
    if (stream->reader)
        cmb_value_reader_close(stream->reader);
    cmb_release(&alloc, stream, sizeof *stream + held);
}
