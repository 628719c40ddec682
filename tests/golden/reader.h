/* SPDX-License-Identifier: ISC */
/*
 * reader.h: a second reader of images, written from docs/format.md alone: it shares with the engine the hash functions and
 * nothing else. So the document and the bytes are held against each other. It wants a well-formed image that was closed.
 *
 *   reader_log.c    superblocks, segment table, frames, records: where things lie
 *   reader_tree.c   nodes and values
 *   reader_store.c  tables, refs, commits: what the image holds
 *
 * Functions return 0 or CMB_ECORRUPT with a detail: what is not as the document says.
 */
#ifndef CMB_TEST_GOLDEN_READER_H
#define CMB_TEST_GOLDEN_READER_H

#include "golden.h"
#include "io/base.h"

#define READER_SEGMENTS 1024u /* logical ones that were seen since the checkpoint */
#define READER_EDITS 1024u

typedef struct reader_place {
    uint64_t logical, physical; /* segments */
} reader_place;

typedef struct reader_record {
    const uint8_t *data; /* header included */
    uint64_t addr;
    uint32_t length; /* bytes, header included */
} reader_record;

typedef struct reader {
    const uint8_t *bytes; /* of the device */
    uint64_t size;
    const uint8_t *super; /* the superblock that the walk began at */
    uint64_t segment;     /* bytes of a segment */
    reader_place places[READER_SEGMENTS];
    size_t place_count;
    uint32_t next[16];
    size_t next_count;
    uint64_t root_addr; /* of the ROOT record */
    uint32_t root_length;
    reader_record edits[READER_EDITS]; /* since the root */
    size_t edit_count;
    uint64_t frames, epochs, streams; /* accepted; begun; segments of streams mapped, all after that superblock */
} reader;

/* Opens the image from its newest superblock, or from the generation before. The bytes stay the caller's. */
int reader_open(reader *r, const golden_image *image, bool older);
/* A record by its logical address; length and kind are those expected. */
int reader_find(const reader *r, uint64_t addr, uint32_t length, unsigned kind, reader_record *out_record);
/* Is the check of a record of kinds 3 to 8 right? */
bool reader_is_sealed(const reader_record *record);

typedef struct reader_ref {
    uint64_t addr, count;
    uint32_t length;
    uint8_t level;
    bool out_of_line;
    uint8_t name[16];
} reader_ref;

/* A packed reference at *p, which moves behind it. */
int reader_unpack(const uint8_t **p, const uint8_t *end, reader_ref *out_ref);
/* Every entry in order. Key and value are valid during the call. */
typedef int (*reader_entry_fn)(void *ctx, cmb_bytes key, cmb_bytes value);
int reader_tree(const reader *r, const reader_ref *root, reader_entry_fn fn, void *ctx);

/* The same text as golden_listing makes of a store. */
int reader_listing(const reader *r, golden_text *out_text);

#endif
