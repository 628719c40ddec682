/* SPDX-License-Identifier: ISC */
/* Edits in key order: a buffer's, and several sources merged. Runs are in run.c. */
#include "btree/buffer.h"
#include "btree/source.h"

#include <assert.h>

/* ---- a buffer's edits ---- */

#define AHEAD 8u /* entries that a walk prefetches */

typedef struct buffer_source {
    cmb_source base;
    cmb_buffer *buffer;
    cmb_buffer_pos pos;
    uint64_t version; /* of the index that pos belongs to */
    const cmb_buffer_entry *entry; /* while state is ON */
    cmb_place state;
} buffer_source;

static int buffer_land(buffer_source *s, cmb_buffer_pos pos, cmb_place otherwise)
{
    s->pos = pos;
    s->state = pos.leaf ? CMB_PLACE_ON : otherwise;
    if (!pos.leaf)
        return CMB_ENOTFOUND;
    s->entry = cmb_buffer_at(pos);
    return 0;
}

/* Settles what was added; finds the place of the current key in a new index. */
static int buffer_sync(buffer_source *s)
{
    bool equal;
    int r = cmb_buffer_settle(s->buffer);
    if (r)
        return r;
    if (CMB_UNLIKELY(s->version != s->buffer->version)) {
        s->version = s->buffer->version;
        if (s->state == CMB_PLACE_ON) {
            s->pos = cmb_buffer_index_seek(&s->buffer->index, s->entry->bytes, s->entry->key_size, &equal);
            assert(equal);
            s->entry = cmb_buffer_at(s->pos);
        }
    }
    return 0;
}

static cmb_buffer_pos pos_last(const cmb_buffer_node *leaf)
{
    return (cmb_buffer_pos){leaf, leaf ? leaf->count - 1u : 0};
}

static cmb_buffer_pos pos_before(cmb_buffer_pos pos)
{
    if (pos.i > 0)
        return (cmb_buffer_pos){pos.leaf, pos.i - 1};
    return pos_last(pos.leaf->prev);
}

static void prefetch_entry(const cmb_buffer_node *leaf, unsigned i)
{
    if (i >= leaf->count) {
        i -= leaf->count;
        leaf = leaf->next;
        if (!leaf || i >= leaf->count)
            return;
    }
    const char *entry = (const char *)leaf->refs[i];
    __builtin_prefetch(entry);
    __builtin_prefetch(entry + 64);
    __builtin_prefetch(entry + 128);
}

static int buffer_first(cmb_source *source)
{
    buffer_source *s = (buffer_source *)source;
    int r = buffer_sync(s);
    return r ? r : buffer_land(s, (cmb_buffer_pos){s->buffer->index.head, 0}, CMB_PLACE_AFTER);
}

static int buffer_last(cmb_source *source)
{
    buffer_source *s = (buffer_source *)source;
    int r = buffer_sync(s);
    return r ? r : buffer_land(s, pos_last(s->buffer->index.tail), CMB_PLACE_BEFORE);
}

static int buffer_seek_ge(cmb_source *source, const uint8_t *key, size_t key_size)
{
    buffer_source *s = (buffer_source *)source;
    bool equal;
    int r = buffer_sync(s);
    return r ? r : buffer_land(s, cmb_buffer_index_seek(&s->buffer->index, key, key_size, &equal), CMB_PLACE_AFTER);
}

static int buffer_seek_le(cmb_source *source, const uint8_t *key, size_t key_size)
{
    buffer_source *s = (buffer_source *)source;
    bool equal;
    int r = buffer_sync(s);
    if (r)
        return r;
    cmb_buffer_pos pos = cmb_buffer_index_seek(&s->buffer->index, key, key_size, &equal);
    if (!equal)
        pos = pos.leaf ? pos_before(pos) : pos_last(s->buffer->index.tail);
    return buffer_land(s, pos, CMB_PLACE_BEFORE);
}

static int buffer_next(cmb_source *source)
{
    buffer_source *s = (buffer_source *)source;
    int r = buffer_sync(s);
    if (r)
        return r;
    if (s->state != CMB_PLACE_ON)
        return s->state == CMB_PLACE_AFTER ? CMB_ENOTFOUND : buffer_first(source);
    cmb_buffer_pos pos = {s->pos.leaf, s->pos.i + 1};
    prefetch_entry(pos.leaf, pos.i + AHEAD);
    if (pos.i == pos.leaf->count)
        pos = (cmb_buffer_pos){pos.leaf->next, 0};
    return buffer_land(s, pos, CMB_PLACE_AFTER);
}

static int buffer_prev(cmb_source *source)
{
    buffer_source *s = (buffer_source *)source;
    int r = buffer_sync(s);
    if (r)
        return r;
    if (s->state != CMB_PLACE_ON)
        return s->state == CMB_PLACE_BEFORE ? CMB_ENOTFOUND : buffer_last(source);
    return buffer_land(s, pos_before(s->pos), CMB_PLACE_BEFORE);
}

static int buffer_current(cmb_source *source, cmb_edit *out_edit)
{
    buffer_source *s = (buffer_source *)source;
    int r = buffer_sync(s);
    if (r)
        return r;
    if (s->state != CMB_PLACE_ON)
        return CMB_ENOTFOUND;
    cmb_buffer_entry_edit(s->entry, out_edit);
    return 0;
}

static void buffer_close(cmb_source *source)
{
    buffer_source *s = (buffer_source *)source;
    cmb_release(&s->buffer->alloc, s, sizeof *s);
}

static const cmb_source_ops buffer_ops = {
    buffer_first, buffer_last, buffer_seek_ge, buffer_seek_le, buffer_next, buffer_prev, buffer_current, buffer_close,
};

int cmb_source_buffer(cmb_buffer *buffer, cmb_source **out_source)
{
    buffer_source *s = cmb_zalloc(&buffer->alloc, sizeof *s);
    if (!s)
        return CMB_ENOMEM;
    s->base.ops = &buffer_ops;
    s->buffer = buffer;
    s->state = CMB_PLACE_UNSET;
    *out_source = &s->base;
    return 0;
}
