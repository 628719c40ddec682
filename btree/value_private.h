/* SPDX-License-Identifier: ISC */
/*
 * value_private.h: out-of-line values on disk.
 *
 * A value is cut into chunks of CMB_CHUNK_SIZE bytes, the last one shorter; an empty value is one
 * empty chunk. Each is a CHUNK record, whose payload is the chunk. One chunk is referred to directly;
 * several through a CHUNKS record, which lies above them:
 *
 *   payload   0  u32 size of the value   u32 count of chunks
 *             8  names of the chunks, one after the other
 *                u64 base   u8 address width   addresses[count]: each address / 16 - base
 *
 * A chunk's name is the hash of its bytes; the value's name is the hash of the chunks' names, one
 * after the other, and the size as u32. Lengths are not stored: they follow from the size.
 */
#ifndef CMB_BTREE_VALUE_PRIVATE_H
#define CMB_BTREE_VALUE_PRIVATE_H

#include "btree/tree.h"

#define CMB_CHUNKS_HEADER 8u
#define CMB_CHUNKS_PLACES 9u /* base and width before the addresses */

static inline uint32_t cmb_chunk_count(uint32_t size)
{
    return size ? (uint32_t)(((uint64_t)size + CMB_CHUNK_SIZE - 1) / CMB_CHUNK_SIZE) : 1;
}
static inline uint32_t cmb_chunk_size(uint32_t size, uint32_t i)
{
    uint64_t from = (uint64_t)i * CMB_CHUNK_SIZE;
    return size - from < CMB_CHUNK_SIZE ? (uint32_t)(size - from) : CMB_CHUNK_SIZE;
}

/* A value's chunks. `names` has room for `capacity` names and the u32 that is hashed with them. */
typedef struct cmb_chunk_list {
    uint8_t *names;
    uint64_t *addrs;
    uint32_t count, capacity;
} cmb_chunk_list;
/* Instead of its bytes: the next chunk is the writer's own chunk i once more, which is CMB_CHUNK_SIZE bytes. Between whole chunks only. */
int cmb_value_writer_repeat(cmb_value_writer *writer, uint32_t i);
int cmb_chunk_list_reserve(const cmb_tree *tree, cmb_chunk_list *list, uint32_t capacity);
void cmb_chunk_list_free(const cmb_tree *tree, cmb_chunk_list *list);
/* Of a value of several chunks. */
const cmb_chunk_list *cmb_value_reader_list(const cmb_value_reader *reader, uint32_t *out_size);
/* The value's name; writes the size behind the names. */
void cmb_chunk_list_name(const cmb_tree *tree, cmb_chunk_list *list, uint32_t size, cmb_name *out_name);

#endif
