/* SPDX-License-Identifier: ISC */
#include "btree/buffer.h"

#include <assert.h>

#define BLOCK_FIRST (4u << 10)
#define BLOCK_LARGEST (1u << 20)
#define POPULATE_MIN (128u << 10)
#define TAIL_SHORT 16u      /* entries that are inserted one by one whatever the index holds */
#define TAIL_MERGE_RATIO 8u /* a tail of at least count / 8 entries is merged */

/* ---- memory that only grows ---- */

int cmb_slab_reserve(cmb_slab *slab, size_t size)
{
    cmb_slab_block *last = slab->last, *block;
    size_t bytes = last ? 2 * last->size : BLOCK_FIRST;
    if (last && last->size - last->used >= size)
        return 0;
    bytes = bytes < BLOCK_LARGEST ? bytes : BLOCK_LARGEST;
    if (size > SIZE_MAX - sizeof *block)
        return cmb_fail(CMB_ENOMEM, "an edit of %zu bytes does not fit the address space", size);
    if (bytes < size + sizeof *block)
        bytes = size + sizeof *block;
    block = cmb_alloc(slab->alloc, bytes);
    if (!block)
        return CMB_ENOMEM;
    if (bytes >= POPULATE_MIN)
        cmb_os_populate(block, bytes);
    *block = (cmb_slab_block){.size = bytes, .used = sizeof *block};
    if (last)
        last->next = block;
    else
        slab->first = block;
    slab->last = block;
    slab->memory += bytes;
    return 0;
}

void *cmb_slab_take(cmb_slab *slab, size_t size)
{
    cmb_slab_block *block = slab->last;
    void *taken = (uint8_t *)block + block->used;
    assert(size % 8 == 0 && block->size - block->used >= size);
    block->used += size;
    return taken;
}

void cmb_slab_release(cmb_slab *slab)
{
    for (cmb_slab_block *block = slab->first, *next; block; block = next) {
        next = block->next;
        cmb_release(slab->alloc, block, block->size);
    }
    *slab = (cmb_slab){.alloc = slab->alloc};
}

/* ---- the buffer ---- */

int cmb_buffer_create(const cmb_allocator *alloc, cmb_buffer **out_buffer)
{
    cmb_buffer *buffer = cmb_zalloc(alloc, sizeof *buffer);
    if (!buffer)
        return CMB_ENOMEM;
    buffer->alloc = *alloc;
    buffer->arena.alloc = &buffer->alloc;
    cmb_buffer_index_init(&buffer->index, &buffer->alloc);
    *out_buffer = buffer;
    return 0;
}

void cmb_buffer_clear(cmb_buffer *buffer)
{
    cmb_slab_release(&buffer->arena);
    cmb_buffer_index_release(&buffer->index);
    buffer->version++;
    buffer->tail_block = NULL;
    buffer->tail_first = NULL;
    buffer->tail_offset = buffer->tail_count = buffer->tail_shared = 0;
}

void cmb_buffer_destroy(cmb_buffer *buffer)
{
    if (!buffer)
        return;
    cmb_allocator alloc = buffer->alloc;
    cmb_buffer_clear(buffer);
    cmb_release(&alloc, buffer, sizeof *buffer);
}

static size_t entry_bytes(size_t key_size, size_t value_size)
{
    return (size_t)cmb_align_up(sizeof(cmb_buffer_entry) + (uint64_t)key_size + value_size, 8);
}

int cmb_buffer_add(cmb_buffer *buffer, const cmb_edit *edit)
{
    const void *value = edit->kind == CMB_EDIT_PUT_FAR ? (const void *)&edit->valref : edit->value.data;
    size_t value_size = edit->kind == CMB_EDIT_PUT_FAR ? sizeof edit->valref
                        : edit->kind == CMB_EDIT_PUT   ? edit->value.size
                                                       : 0;
    size_t bytes = entry_bytes(edit->key.size, value_size);
    assert(edit->key.size >= CMB_KEY_MIN && edit->key.size <= CMB_KEY_MAX && value_size <= CMB_VALUE_MAX);
    if (cmb_slab_reserve(&buffer->arena, bytes))
        return CMB_ENOMEM;
    cmb_buffer_entry *entry = cmb_slab_take(&buffer->arena, bytes);
    *entry = (cmb_buffer_entry){.value_size = (uint32_t)value_size,
                                .key_size = (uint16_t)edit->key.size,
                                .kind = (uint8_t)edit->kind};
    memcpy(entry->bytes, edit->key.data, edit->key.size);
    if (value_size)
        memcpy(entry->bytes + edit->key.size, value, value_size);
    if (buffer->tail_count++ == 0) {
        buffer->tail_block = buffer->arena.last;
        buffer->tail_offset = (size_t)((uint8_t *)entry - (uint8_t *)buffer->arena.last);
        buffer->tail_first = entry;
        buffer->tail_shared = entry->key_size;
    } else if (buffer->tail_shared) {
        buffer->tail_shared =
            cmb_buffer_shared(buffer->tail_first, entry->bytes, entry->key_size, buffer->tail_shared);
    }
    return 0;
}

size_t cmb_buffer_memory(const cmb_buffer *buffer)
{
    return sizeof *buffer + buffer->arena.memory + buffer->index.slab.memory;
}

size_t cmb_buffer_count(cmb_buffer *buffer)
{
    (void)cmb_buffer_settle(buffer); /* without memory the tail's duplicates are counted */
    return buffer->index.count + buffer->tail_count;
}

void cmb_buffer_entry_edit(const cmb_buffer_entry *entry, cmb_edit *out_edit)
{
    const uint8_t *value = entry->bytes + entry->key_size;
    out_edit->kind = (cmb_edit_kind)entry->kind;
    out_edit->key = (cmb_bytes){entry->bytes, entry->key_size};
    out_edit->value = (cmb_bytes){NULL, 0};
    if (entry->kind == CMB_EDIT_PUT)
        out_edit->value = (cmb_bytes){value, entry->value_size};
    else if (entry->kind == CMB_EDIT_PUT_FAR)
        memcpy(&out_edit->valref, value, sizeof out_edit->valref);
}

/* ---- the tail ---- */

typedef struct tail_walk {
    const cmb_slab_block *block;
    size_t offset;
} tail_walk;

static tail_walk tail_begin(const cmb_buffer *buffer)
{
    return (tail_walk){buffer->tail_block, buffer->tail_offset};
}

static const cmb_buffer_entry *tail_step(tail_walk *walk)
{
    while (walk->offset == walk->block->used) {
        walk->block = walk->block->next;
        walk->offset = sizeof *walk->block;
    }
    const cmb_buffer_entry *entry = (const cmb_buffer_entry *)((const uint8_t *)walk->block + walk->offset);
    walk->offset += entry_bytes(entry->key_size, entry->value_size);
    return entry;
}

static int tail_insert(cmb_buffer *buffer)
{
    tail_walk walk = tail_begin(buffer);
    while (buffer->tail_count) {
        const cmb_buffer_entry *entry = tail_step(&walk);
        if (cmb_buffer_index_insert(&buffer->index, entry))
            return CMB_ENOMEM;
        buffer->version++;
        buffer->tail_count--;
        buffer->tail_block = (cmb_slab_block *)walk.block;
        buffer->tail_offset = walk.offset;
    }
    return 0;
}

static int tail_merge(cmb_buffer *buffer)
{
    size_t n = buffer->tail_count, shared = buffer->tail_shared;
    size_t depth = shared < CMB_BUFFER_SKIP_MIN ? 0 : shared;
    bool deeper = false;
    cmb_buffer_item *items = cmb_alloc(&buffer->alloc, n * sizeof *items);
    if (!items)
        return CMB_ENOMEM;
    cmb_os_populate(items, n * sizeof *items);
    tail_walk walk = tail_begin(buffer);
    for (size_t i = 0; i < n; i++) {
        items[i].entry = tail_step(&walk);
        items[i].head = cmb_buffer_head(items[i].entry->bytes, items[i].entry->key_size, depth);
    }
    int r = cmb_buffer_sort(&buffer->alloc, items, n, depth, &deeper);
    if (!r)
        r = cmb_buffer_index_merge(&buffer->index, items, n, depth == 0 && !deeper);
    cmb_release(&buffer->alloc, items, n * sizeof *items);
    if (r)
        return r;
    buffer->version++;
    buffer->tail_count = 0;
    return 0;
}

int cmb_buffer_settle(cmb_buffer *buffer)
{
    size_t n = buffer->tail_count;
    if (CMB_LIKELY(n == 0))
        return 0;
    if (n <= TAIL_SHORT || n < buffer->index.count / TAIL_MERGE_RATIO)
        return tail_insert(buffer);
    return tail_merge(buffer);
}

int cmb_buffer_seal(cmb_buffer *buffer)
{
    return cmb_buffer_settle(buffer);
}

/* The newest entry of an unsettled tail with this key: for a reader that has no memory to settle it. */
static const cmb_buffer_entry *tail_find(const cmb_buffer *buffer, const uint8_t *key, size_t key_size)
{
    const cmb_buffer_entry *found = NULL;
    tail_walk walk = tail_begin(buffer);
    for (size_t i = 0; i < buffer->tail_count; i++) {
        const cmb_buffer_entry *entry = tail_step(&walk);
        if (entry->key_size == key_size && memcmp(entry->bytes, key, key_size) == 0)
            found = entry;
    }
    return found;
}

bool cmb_buffer_find(cmb_buffer *buffer, const uint8_t *key, size_t key_size, cmb_edit *out_edit)
{
    const cmb_buffer_entry *entry = NULL;
    bool equal;
    if (cmb_buffer_settle(buffer))
        entry = tail_find(buffer, key, key_size);
    if (!entry) {
        cmb_buffer_pos pos = cmb_buffer_index_seek(&buffer->index, key, key_size, &equal);
        if (!equal)
            return false;
        entry = cmb_buffer_at(pos);
    }
    cmb_buffer_entry_edit(entry, out_edit);
    return true;
}
