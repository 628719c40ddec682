/* SPDX-License-Identifier: ISC */
/*
 * layout.h: what lies where on a disk, whatever state it is in: found by what structures begin with, not by following them. And mending:
 * checks, chains and names are made to fit what is there, so that a changed image is judged by what it says and not by its sums.
 */
#ifndef CMB_FUZZ_LAYOUT_H
#define CMB_FUZZ_LAYOUT_H

#include "tests/fuzz/disk.h"

#define LAYOUT_FRAMES  2048u
#define LAYOUT_RECORDS 16384u
#define LAYOUT_PAGES   256u

typedef struct layout_frame {
    uint8_t *bytes;
    uint64_t addr;
    uint32_t payload; /* bytes that are there */
    uint64_t old_check, new_check;
} layout_frame;

typedef struct layout_record {
    uint8_t *bytes;
    uint64_t addr;
    uint32_t length; /* with header */
    uint8_t name[32]; /* of its content, when it was mended */
} layout_record;

typedef struct layout {
    fuzz_disk *disk;
    unsigned shift;     /* of segments */
    unsigned name_size;
    cmb_hash_kind hash;
    layout_frame frames[LAYOUT_FRAMES]; /* ascending by address */
    size_t frame_count;
    layout_record records[LAYOUT_RECORDS]; /* likewise */
    size_t record_count;
    uint8_t *pages[LAYOUT_PAGES];
    size_t page_count;
    uint8_t *footers[LAYOUT_PAGES];
    size_t footer_count;
} layout;

/* Of the disk as it is. */
void layout_find(layout *l, fuzz_disk *disk);
/* The record at an address, or NULL. */
layout_record *layout_record_at(layout *l, uint64_t addr);

enum { /* what is mended */
    MEND_SUPER = 1,
    MEND_FRAMES = 2,  /* their checks, and those of the frame before */
    MEND_RECORDS = 4, /* their checks */
    MEND_PAGES = 8,   /* of the segment table and the state map; footers */
    MEND_NAMES = 16,  /* of nodes, values, commits, tags, wherever what they name is referred to */
};
void layout_mend(layout *l, unsigned what);
/* mend_names.c: names of all records, in ascending order of addresses, written into those that refer to them. */
void layout_mend_names(layout *l);

#endif
