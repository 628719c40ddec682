/* SPDX-License-Identifier: ISC */
/*
 * format.h: the log's structures on the device, byte by byte. All integers are little-endian.
 * docs/format.md says the same in prose.
 *
 *   superblock   0        8    12     16      24    40           (512 bytes mean something, the block
 *                |magic   |vers|incomp|check  |uuid |fields …     is 4 KiB; a copy's check is seeded
 *                                                                 with its own offset)
 *
 *   frame        0     4      8      24     32   40    48    56       64      68       72      120    128
 *                |magic|flags |uuid  |epoch |seq |addr |prev |durable |payload|records |zeros  |check |records…
 *
 *   record       0       4     5       8      16
 *                |length |kind |zeros  |check |payload …       on 16-byte granules
 *
 *   page         0      8      12    13     16       24          32     40      64           4096
 *                |check |magic |kind |level |address |generation |index |zeros  |252 x 16 bytes|
 *
 *   footer       0      8      12       16        24          32       36    40     48     64
 *                |check |magic |length  |address  |generation |logical |runs |zeros       |directory|runs|
 *                directory: {u64 logical, u32 first run, u32 runs} each; run: {u32 logical offset,
 *                u32 length, u32 physical offset (all / 16), u32 zero, u64 check} each
 *
 *   SEGMENTS     0      4        8      16           20     24
 *   payload      |count |flags   |root  |root length |zeros |count x {u64 logical, u32 physical, u8 kind,
 *                                                             u8 zeros[3], u64 used}
 */
#ifndef CMB_LOG_FORMAT_H
#define CMB_LOG_FORMAT_H

#include "io/base.h"

/* ---- superblock ---- */
#define CMB_SUPER_MAGIC "CambiuM\x01"
#define CMB_SUPER_VERSION 1u
#define CMB_SUPER_SIZE 512u
#define CMB_SUPER_SLOTS 4u
#define CMB_SUPER_SPACING (1u << 20) /* slot i lies at i MiB; generation g owns slots g % 2 and g % 2 + 2 */
#define CMB_SUPER_AREA (4u << 20)
#define CMB_NEXT_MAX 16u
enum {
    CMB_SUPER_AT_VERSION = 8,
    CMB_SUPER_AT_INCOMPAT = 12,
    CMB_SUPER_AT_CHECK = 16,
    CMB_SUPER_AT_UUID = 24,
    CMB_SUPER_AT_GENERATION = 40,
    CMB_SUPER_AT_EPOCH = 48,
    CMB_SUPER_AT_DURABLE = 56,
    CMB_SUPER_AT_SHIFT = 64,       /* u8 */
    CMB_SUPER_AT_HASH = 65,        /* u8 */
    CMB_SUPER_AT_NODE_TARGET = 68, /* u32 */
    CMB_SUPER_AT_SEED = 72,
    CMB_SUPER_AT_FIXED_SIZE = 80,
    CMB_SUPER_AT_COUNT = 88,       /* physical segments */
    CMB_SUPER_AT_FRESH = 96,       /* segments from here on were never written */
    CMB_SUPER_AT_TABLE = 104,      /* {u64 page, u64 check, u32 levels, u32 live pages} */
    CMB_SUPER_AT_MAP = 128,        /* the same */
    CMB_SUPER_AT_META_SEGMENT = 152,
    CMB_SUPER_AT_META_NEXT = 160,  /* pages used in it */
    CMB_SUPER_AT_META_PAGES = 168, /* pages written since the last rewrite of all */
    CMB_SUPER_AT_NEXT_LOGICAL = 176,
    CMB_SUPER_AT_POS_SEGMENT = 184,
    CMB_SUPER_AT_POS_OFFSET = 192,   /* u32, may be the segment's size */
    CMB_SUPER_AT_POS_PHYSICAL = 196, /* u32 */
    CMB_SUPER_AT_POS_SEQ = 200,
    CMB_SUPER_AT_POS_PREV = 208,
    CMB_SUPER_AT_ROOT = 216,
    CMB_SUPER_AT_ROOT_LENGTH = 224,  /* u32 */
    CMB_SUPER_AT_NEXT_COUNT = 228,   /* u32 */
    CMB_SUPER_AT_NEXT = 232,         /* u32 each */
    CMB_SUPER_AT_JOURNALS = CMB_SUPER_AT_NEXT + 4 * CMB_NEXT_MAX, /* no journal segment below; 0: the position's segment */
    CMB_SUPER_AT_END = CMB_SUPER_AT_JOURNALS + 8,
};
_Static_assert(CMB_SUPER_AT_END <= CMB_SUPER_SIZE, "a superblock means at most 512 bytes");

/* ---- frame ---- */
#define CMB_FRAME_MAGIC 0x46424d43u /* "CMBF" */
#define CMB_FRAME_HEADER 128u
enum {
    CMB_FRAME_FIRST = 1u << 0,  /* of its batch */
    CMB_FRAME_LAST = 1u << 1,   /* of its batch, which counts from here on */
    CMB_FRAME_STREAM = 1u << 2, /* in a segment of a stream: not part of the chain */
    CMB_FRAME_SEAL = 1u << 3,   /* says that all before it is durable; no records */
    CMB_FRAME_EPOCH = 1u << 4,  /* the first frame of its epoch */
    CMB_FRAME_FLAGS = 31u,
};
enum {
    CMB_FRAME_AT_FLAGS = 4,
    CMB_FRAME_AT_UUID = 8,
    CMB_FRAME_AT_EPOCH = 24,
    CMB_FRAME_AT_SEQ = 32,
    CMB_FRAME_AT_ADDR = 40,
    CMB_FRAME_AT_PREV = 48,
    CMB_FRAME_AT_DURABLE = 56,
    CMB_FRAME_AT_PAYLOAD = 64, /* u32 bytes after the header */
    CMB_FRAME_AT_RECORDS = 68, /* u32 */
    CMB_FRAME_AT_CHECK = 120,
};

/* ---- table and state pages ---- */
#define CMB_PAGE_MAGIC 0x50424d43u /* "CMBP" */
#define CMB_PAGE_HEADER 64u
#define CMB_PAGE_FAN 252u
#define CMB_PAGE_BODY (CMB_PAGE_FAN * 16u)
#define CMB_PAGE_STATES (CMB_PAGE_BODY * 4u) /* 2 bits a physical segment */
#define CMB_PAGE_LEVELS_MAX 8u
_Static_assert(CMB_PAGE_HEADER + CMB_PAGE_BODY == CMB_BLOCK, "a page fills a block");
enum {
    CMB_PAGE_AT_MAGIC = 8,
    CMB_PAGE_AT_KIND = 12,  /* u8, cmb_page_kind */
    CMB_PAGE_AT_LEVEL = 13, /* u8, 0: leaf */
    CMB_PAGE_AT_ADDR = 16,
    CMB_PAGE_AT_GENERATION = 24,
    CMB_PAGE_AT_INDEX = 32, /* among the pages of its level */
};
typedef enum cmb_page_kind { CMB_PAGE_TABLE = 1, CMB_PAGE_MAP = 2 } cmb_page_kind;

/* ---- footer of a compacted segment ---- */
#define CMB_FOOTER_MAGIC 0x52424d43u /* "CMBR" */
#define CMB_FOOTER_HEADER 64u
#define CMB_FOOTER_LOGICAL 16u
#define CMB_FOOTER_RUN 24u
#define CMB_FOOTER_SHARE_SHIFT 13 /* logical segments in a compacted one: at most one for so many bytes, 8 KiB */
enum {
    CMB_FOOTER_AT_MAGIC = 8,
    CMB_FOOTER_AT_LENGTH = 12, /* u32, bytes covered by the check */
    CMB_FOOTER_AT_ADDR = 16,
    CMB_FOOTER_AT_GENERATION = 24,
    CMB_FOOTER_AT_LOGICALS = 32, /* u32 */
    CMB_FOOTER_AT_RUNS = 36,     /* u32 */
};

/* ---- the log's own record ---- */
#define CMB_SEGMENTS_HEADER 24u
#define CMB_SEGMENTS_ENTRY 24u
#define CMB_SEGMENTS_CHECKPOINT 1u /* flag: a checkpoint's unit ends here; root counts, EDITS before it do not */
enum { /* entry kinds besides NONE, COMPACTED and STREAM of cmb_segment_kind */
    CMB_SEGMENT_NEXT = 5,   /* `physical` is appended to next[] */
    CMB_SEGMENT_RETIRE = 6, /* `physical` goes into quarantine */
};

#endif
