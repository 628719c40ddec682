/* SPDX-License-Identifier: ISC */
/*
 * salvage_value.c: values out of line, from one image to the other. An image may refer to a value from many keys, and a value to a chunk
 * many times; one that was made to harm does so millions of times. So what comes again is referred to again: a chunk within its value, a value
 * from its third time on, as most come once and are not worth being remembered. One that cannot be read is tried once.
 */
#include "store/salvage.h"

#include <assert.h>

#include "btree/value_private.h"

/* A value by its reference: address, size and name. */
static cmb_bytes key_of(const cmb_valref *ref, uint8_t room[12 + CMB_NAME_MAX])
{
    cmb_put64(room, ref->addr);
    cmb_put32(room + 8, ref->size);
    memcpy(room + 12, ref->name.bytes, ref->name.size);
    return (cmb_bytes){room, 12u + ref->name.size};
}

/* out NULL: it cannot be read. */
static int remember(cmb_salvage *s, const cmb_valref *ref, const cmb_valref *out)
{
    uint8_t room[12 + CMB_NAME_MAX];
    cmb_edit edit = {.kind = CMB_EDIT_PUT_FAR, .key = key_of(ref, room)};
    bool added = false;
    int error = out && ref->addr % CMB_RECORD_ALIGN == 0 ? cmb_addrset_add(s->copied, ref->addr, 0, &added) : 0;
    if (error || added)
        return error;
    if (out)
        edit.valref = *out;
    return cmb_buffer_add(s->values, &edit);
}

/* The chunk before `i` that is the same one, or i. */
static uint32_t same_before(const cmb_chunk_list *list, uint32_t i, unsigned name_size)
{
    for (uint32_t k = 0; k < i; k++) {
        if (list->addrs[k] == list->addrs[i] && memcmp(list->names + (size_t)k * name_size, list->names + (size_t)i * name_size, name_size) == 0)
            return k;
    }
    return i;
}

/* 1: it cannot be read. */
static int copy_chunks(cmb_salvage *s, cmb_value_reader *reader, cmb_value_writer *writer)
{
    uint32_t size;
    const cmb_chunk_list *list = cmb_value_reader_list(reader, &size);
    for (uint32_t i = 0; i < list->count; i++) {
        uint32_t n = cmb_chunk_size(size, i), same = n == CMB_CHUNK_SIZE ? same_before(list, i, cmb_name_size(s->in->tree.hash)) : i;
        size_t got = 0;
        int error = same < i ? 0 : cmb_value_reader_read(reader, (uint64_t)i * CMB_CHUNK_SIZE, s->piece, n, &got);
        if (error)
            return cmb_sv_is_damage(error) ? 1 : error;
        assert(same < i || got == n);
        error = same < i ? cmb_value_writer_repeat(writer, same) : cmb_value_writer_add(writer, s->piece, n);
        if (error)
            return error;
    }
    return 0;
}

static int copy(cmb_salvage *s, const cmb_valref *ref, cmb_appender *app, cmb_valref *out_ref)
{
    cmb_value_reader *reader;
    cmb_value_writer *writer;
    int error = cmb_value_reader_open(&s->in->tree, ref, &reader);
    if (error)
        return cmb_sv_is_damage(error) ? 1 : error;
    error = cmb_value_writer_open(&s->out->tree, app, &writer);
    if (!error) {
        error = copy_chunks(s, reader, writer);
        if (error)
            cmb_value_writer_abort(writer);
        else
            error = cmb_value_writer_finish(writer, out_ref);
    }
    cmb_value_reader_close(reader);
    return error;
}

int cmb_sv_value_copy(cmb_salvage *s, const cmb_valref *ref, cmb_appender *app, cmb_valref *out_ref)
{
    uint8_t room[12 + CMB_NAME_MAX];
    cmb_bytes key = key_of(ref, room);
    cmb_edit known;
    if (cmb_buffer_find(s->values, key.data, key.size, &known)) {
        if (!known.valref.addr) {
            (void)cmb_fail(CMB_ECORRUPT, "value at %llu: it cannot be read", (unsigned long long)ref->addr); /* the text is told */
            return 1;
        }
        *out_ref = known.valref;
        return 0;
    }
    if (!s->piece && !(s->piece = cmb_alloc(&s->alloc, CMB_CHUNK_SIZE)))
        return CMB_ENOMEM;
    cmb_valref copied;
    int result = copy(s, ref, app, &copied);
    if (result && result != 1)
        return result;
    int error = remember(s, ref, result ? NULL : &copied);
    if (!error && !result)
        *out_ref = copied;
    return error ? error : result;
}
