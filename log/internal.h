/* SPDX-License-Identifier: ISC */
/*
 * internal.h: struct cmb_log and what log/'s modules tell each other.
 *
 * Locks, outermost first:
 *   the unit     `busy`: one head unit at a time; its owner alone fills the open batch's last frame
 *   the writer   `writing`: one thread writes frames and flushes; taken while no lock is held, may be
 *                waited for by the unit's owner, never the other way round
 *   lock         everything below; short, except that pages may be read under it
 *   table_lock   loading of pages and growth of the two radix trees
 *   map_lock, pool_lock, scratch_lock, flush_lock, run shards: leaves (flush_lock is held while the device flushes)
 *
 * Readers take none of them for data that is written: a radix page, once loaded, stays until close,
 * and a segment's word and its written mark are atomics.
 */
#ifndef CMB_LOG_INTERNAL_H
#define CMB_LOG_INTERNAL_H

#include <stdatomic.h>

#include "log/format.h"
#include "log/log.h"

#define CMB_QUEUED_MAX (32u << 20)     /* bytes queued and not written, before an appender writes them itself */
#define CMB_UNIT_AHEAD (8u << 20)      /* bytes of an open unit in memory, before its full frames are written, unless it counts */
#define CMB_PREPARE_STEP (1u << 20)    /* bytes written with zeros ahead of the head at a time, at most */
#define CMB_LOGICAL_JUMP_MAX (UINT64_C(1) << 40) /* segments' numbers that one step of the log may skip; more is damage */
#define CMB_NEXT_TARGET 8u             /* next segments that begin tops up to */
#define CMB_GROW_SEGMENTS 8u
#define CMB_MAP_REGION_SHIFT 34u       /* the device is mapped in regions of 16 GiB */
#define CMB_MAP_REGIONS 4096u
#define CMB_SPARE_FRAMES 4u
#define CMB_POOL_QUEUES 64u            /* idle reader queues kept */
#define CMB_RUN_SHARDS 16u
#define CMB_RUN_BUDGET (2u << 20)      /* bytes of footers kept in memory, per shard */

typedef struct cmb_page_ref {
    uint64_t addr; /* physical, 0: no page */
    uint64_t check;
} cmb_page_ref;

/* ---- superblocks (super.c) ---- */

typedef struct cmb_radix_root {
    cmb_page_ref ref;
    uint32_t levels; /* 0: empty */
    uint32_t pages;  /* live */
} cmb_radix_root;

/* Where the next frame goes. */
typedef struct cmb_position {
    uint64_t segment;  /* logical */
    uint32_t offset;   /* in it; its size: full */
    uint32_t physical;
    uint64_t seq;      /* the next batch's */
    uint64_t prev;     /* check of the frame before */
} cmb_position;

typedef struct cmb_super {
    cmb_image_params params;
    uint64_t generation, epoch, durable_seq;
    uint64_t count;      /* physical segments, the superblocks' included */
    uint64_t fresh;      /* physical segments from here on were never written */
    cmb_radix_root table, map;
    uint64_t meta_segment; /* 0: none yet */
    uint64_t meta_next;    /* pages used in it */
    uint64_t meta_pages;   /* written since all were rewritten */
    uint64_t next_logical;
    cmb_position pos;
    uint64_t journals;   /* no journal segment is mapped below */
    uint64_t root_addr;
    uint32_t root_length;
    uint32_t n_next;
    uint32_t next[CMB_NEXT_MAX];
} cmb_super;

typedef struct cmb_super_slots {
    cmb_super best;
    unsigned bad_copies; /* bit i: slot i belongs to the best generation and is damaged or older */
} cmb_super_slots;

void cmb_super_encode(const cmb_super *super, unsigned slot, uint8_t block[CMB_BLOCK]);
int cmb_super_decode(const uint8_t block[CMB_BLOCK], unsigned slot, cmb_super *out_super);
/* Reads all slots, picks the newest valid generation, checks it against the device. */
int cmb_super_load(cmb_device *dev, cmb_queue *queue, const cmb_allocator *alloc, cmb_super_slots *out_slots);
/* Writes one generation's pair without flushing. `buffer`: a block, aligned. */
int cmb_super_write(cmb_queue *queue, const cmb_super *super, unsigned slots, uint8_t *buffer);
static inline unsigned cmb_super_pair(uint64_t generation) { return generation & 1 ? 0xau : 0x5u; }
static inline uint64_t cmb_first_physical(unsigned shift)
{
    uint64_t n = CMB_SUPER_AREA >> shift;
    return n ? n : 1;
}

/* ---- radix pages (table.c) ---- */

/* A segment's word: physical segment, kind, flags. 0: not mapped. */
#define CMB_WORD_KIND(w) ((cmb_segment_kind)((w) >> 32 & 0xff))
#define CMB_WORD_PHYSICAL(w) ((uint64_t)(uint32_t)(w))
#define CMB_WORD_OPEN (UINT64_C(1) << 40)   /* a stream's that no unit adopted yet: not to be saved */
#define CMB_WORD_CLOSED (UINT64_C(1) << 41) /* written to its end; nothing will be added */
#define CMB_WORD_FOOTER(w) (((w) >> 42) * CMB_BLOCK) /* compacted: its offset; in the word, so that both change at once */
static inline uint64_t cmb_word(uint64_t physical, cmb_segment_kind kind, uint64_t flags)
{
    return physical | (uint64_t)kind << 32 | flags;
}
static inline uint64_t cmb_word_compacted(uint64_t physical, uint64_t footer)
{
    return cmb_word(physical, CMB_SEG_COMPACTED, CMB_WORD_CLOSED) | footer / CMB_BLOCK << 42;
}

typedef struct cmb_segment {
    _Atomic uint64_t word;
    _Atomic uint64_t written; /* bytes that can be read from the device; means nothing when compacted */
    uint64_t end;             /* bytes given out; compacted: the footer's offset; under `lock` */
} cmb_segment;

typedef struct cmb_page {
    cmb_page_ref ref;
    uint64_t index; /* among the pages of its level */
    struct cmb_page *parent;
    struct cmb_page *next_loaded, *next_dirty;
    uint8_t level;
    bool dirty;
    union {
        struct {
            cmb_page_ref refs[CMB_PAGE_FAN];
            _Atomic(struct cmb_page *) kids[CMB_PAGE_FAN];
        } inner;
        cmb_segment segments[CMB_PAGE_FAN];
        uint8_t states[CMB_PAGE_BODY];
    } u;
} cmb_page;

typedef struct cmb_radix {
    cmb_log *log;
    cmb_page_kind kind;
    _Atomic(cmb_page *) root;
    cmb_radix_root on_disk; /* as of the last checkpoint's snapshot */
    cmb_page *loaded;      /* all pages in memory */
    cmb_page *dirty[CMB_PAGE_LEVELS_MAX];
    size_t n_dirty;
} cmb_radix;

void cmb_radix_init(cmb_radix *tree, cmb_log *log, cmb_page_kind kind, const cmb_radix_root *root);
void cmb_radix_free(cmb_radix *tree);
/* The leaf that holds entry `index`, reading it if need be; NULL in *out_leaf: there is none. */
int cmb_radix_find(cmb_radix *tree, uint64_t index, cmb_page **out_leaf);
/* The same without I/O and locks; NULL also means: not loaded. */
cmb_page *cmb_radix_peek(cmb_radix *tree, uint64_t index);
/* Finds or makes it. */
int cmb_radix_make(cmb_radix *tree, uint64_t index, cmb_page **out_leaf);
/* It and its ancestors will be written by the next checkpoint. Under `lock`. */
void cmb_radix_dirty(cmb_radix *tree, cmb_page *leaf);
/* The first existing leaf at or after the one that would hold `index`; *out_leaf NULL: none. */
int cmb_radix_next(cmb_radix *tree, uint64_t index, cmb_page **out_leaf);
static inline uint64_t cmb_radix_fan(const cmb_radix *tree) /* entries a leaf */
{
    return tree->kind == CMB_PAGE_TABLE ? CMB_PAGE_FAN : CMB_PAGE_STATES;
}
/* Encodes all dirty pages in order at addresses[0..n_dirty) into pages; they are clean then. */
size_t cmb_radix_encode(cmb_radix *tree, uint64_t generation, const uint64_t *addresses, uint8_t *pages);

/* The entry of a logical segment, reading its page if need be; NULL: not mapped. */
int cmb_table_find(cmb_log *log, uint64_t segment, cmb_segment **out_segment);
/* Under `lock`. Makes its page; the entry is made empty. The mapping counts from cmb_table_set on. */
int cmb_table_make(cmb_log *log, uint64_t segment, cmb_segment **out_segment);
void cmb_table_set(cmb_log *log, uint64_t segment, uint64_t word, uint64_t end, uint64_t written);
/* Of a segment whose page is loaded. */
cmb_segment *cmb_table_at(cmb_log *log, uint64_t segment);

/* ---- physical segments (space.c) ---- */

typedef struct cmb_list32 {
    uint32_t *items;
    size_t n, capacity;
} cmb_list32;

enum {
    CMB_MARK_BUSY = 1u << 0,  /* taken in memory, free in the map */
    CMB_MARK_FRESH = 1u << 1, /* never written, as far as is known: the head prepares it */
};

typedef struct cmb_space {
    bool loaded;
    uint64_t count;    /* physical segments */
    uint64_t settled;  /* of them, those that a power cut leaves: a file's growth is durable after a flush */
    uint64_t fresh;
    uint64_t hint;     /* no free one below */
    uint64_t free;     /* free in the map and not busy */
    uint64_t states[4];
    uint8_t *marks;    /* per segment: CMB_MARK_… */
    size_t marks_size;
    cmb_list32 q1, q2; /* quarantined: since the last checkpoint, before it */
    cmb_list32 limbo;  /* leaving quarantine with the checkpoint that is being written */
} cmb_space;

/* All under `lock`. */
int cmb_space_load(cmb_log *log);
void cmb_space_free(cmb_space *space, const cmb_allocator *alloc);
cmb_segment_state cmb_space_state(cmb_log *log, uint64_t physical);
/* Takes a free segment in memory. `urgent`: down to the last, else a reserve is kept. */
int cmb_space_take(cmb_log *log, bool urgent, uint64_t *out_physical);
/* Gives back what was taken and never became live. */
void cmb_space_give(cmb_log *log, uint64_t physical);
/* Makes sure that the page of its state is in memory and dirty, so that live/retire cannot fail. */
int cmb_space_touch(cmb_log *log, uint64_t physical);
/* Marks busy what a superblock or a record named as next. */
int cmb_space_claim(cmb_log *log, uint64_t physical);
/* Recovery: one that leaves quarantine is used by a later batch, so it left. */
void cmb_space_leave(cmb_log *log, uint64_t physical);
/* Memory for n more retirements. */
int cmb_space_room(cmb_log *log, size_t n);
void cmb_space_live(cmb_log *log, uint64_t physical);
void cmb_space_unlive(cmb_log *log, uint64_t physical); /* back to busy */
void cmb_space_retire(cmb_log *log, uint64_t physical);
bool cmb_space_fresh(const cmb_log *log, uint64_t physical);
void cmb_space_unknown(cmb_log *log, uint64_t physical); /* the rest of it may be fresh */
/* A reader beside a writer learns of growth: `physical` counts if the device has it by now. */
int cmb_space_follow(cmb_log *log, uint64_t physical);
/* How many could be taken (growth: as many as the device may grow to). */
uint64_t cmb_space_available(cmb_log *log);
uint64_t cmb_space_reserve(const cmb_log *log);
/* The quarantines step forward: pages made ready, in a checkpoint's snapshot, when it is durable. */
int cmb_space_step_ready(cmb_log *log);
void cmb_space_step(cmb_log *log);
void cmb_space_settle(cmb_log *log);
/* Recovery walked over a checkpoint whose superblock may not have become durable: back to quarantine 2. */
int cmb_space_unsettle(cmb_log *log);

/* ---- frames, batches (append.c, sync.c) ---- */

typedef struct cmb_frame {
    struct cmb_frame *next;
    uint64_t addr;     /* logical, of its header */
    uint64_t physical; /* segment */
    _Atomic uint32_t fill; /* bytes, header included */
    uint32_t capacity;
    uint32_t records;
    uint32_t flags;
    bool fresh;        /* lies in a segment never written */
    uint8_t *buf;
} cmb_frame;

typedef struct cmb_batch {
    struct cmb_batch *next;
    uint64_t seq;
    cmb_frame *first, *last;
    uint64_t bytes;
    bool started; /* frames of it were written ahead */
    bool published; /* holds at least one whole unit */
    cmb_position end; /* set by the cut: where the following batch goes (prev: set when written) */
} cmb_batch;

/* Where the head's next frame starts. */
typedef struct cmb_head {
    uint64_t segment, physical;
    uint32_t offset;
} cmb_head;

typedef struct cmb_move { uint64_t segment, physical; } cmb_move;

typedef struct cmb_stream_segment { uint64_t segment, physical; uint32_t end; } cmb_stream_segment;

/* Memory of a scratch; `fill` and what leads to the pieces change under `scratch_lock`. */
typedef struct cmb_piece {
    uint64_t addr;
    uint8_t *buf;
    uint32_t fill, size;
} cmb_piece;

struct cmb_appender {
    cmb_log *log;
    bool stream, scratch; /* neither: a head unit */
    bool urgent; /* may use the reserve */
    bool own;    /* the log's own records may use a segment's last block */
    bool counts; /* holds a record that recovery takes at its word: no frame is written before the unit is whole */
    uint64_t bytes;
    /* a head unit: what abort goes back to */
    cmb_head start;
    cmb_frame *start_frame; /* last frame then, NULL: none in memory */
    uint32_t start_fill, start_records;
    cmb_move moves[CMB_NEXT_MAX];
    unsigned n_moves;
    struct cmb_appender *adopted; /* streams, linked by `next` */
    /* a stream */
    struct cmb_appender *next;
    cmb_queue *queue;
    cmb_head head;       /* where the frame starts, or the next one will */
    cmb_frame *frame;    /* being filled: &filling, or NULL */
    cmb_frame filling;
    uint8_t *burst;      /* frames of one segment that are not written, and the one being filled; NULL: none yet */
    uint32_t burst_fill; /* bytes of sealed frames in it */
    uint64_t prev;
    uint64_t generation; /* of the device, when the stream was opened */
    cmb_stream_segment *segments;
    size_t n_segments, segments_capacity;
    bool finished;
    int error; /* a write failed: nothing but abort */
    /* a scratch, linked by `next` as well */
    cmb_piece *pieces; /* by rising address */
    size_t n_pieces, pieces_capacity;
};

/* What is written with zeros ahead of the head (prepare.c). */
typedef struct cmb_prepare {
    uint64_t segment, end; /* physical, and up to where; its size: it needs none */
    uint64_t bytes;        /* of the last `batches` */
    uint32_t batches, step;
    uint8_t *zeros;        /* aligned; made when first needed */
    size_t zeros_size;
} cmb_prepare;

struct cmb_log {
    cmb_allocator alloc;
    cmb_env env;
    cmb_device *dev;
    cmb_caps caps;
    cmb_log_options options;
    cmb_image_params params;
    cmb_super super;      /* the newest durable one; under `lock` */
    cmb_super mend;       /* what the newest pair on the device says, and which copies of it are written again before the next */
    unsigned bad_copies;  /* generation; the open's, then the checkpoint's */
    bool writable, durable;
    const cmb_image_params *rescue; /* not NULL: opened by cmb_log_open_rescue; during the open only */
    bool rescued, rescue_super;     /* so it was; a superblock was read */
    unsigned shift;
    uint64_t size;        /* of a segment */

    cmb_mutex lock;
    cmb_cond changed;     /* progress of the writer, the head free, a batch cut */
    bool busy;            /* a head unit is open */
    bool cut_wanted;
    bool writing;
    bool checkpointing, relocating;
    uint64_t relocating_first, relocating_last; /* logical segments */
    atomic_bool started;  /* the epoch's checkpoint is durable */
    bool epoch_begun;     /* `epoch` is this handle's */
    bool epoch_frame;     /* the next frame is the first of its epoch */
    atomic_bool failed;
    char why[256];

    uint64_t epoch;
    cmb_head head;
    uint64_t stable_segment; /* no unit goes back below it */
    uint64_t next_logical;
    uint32_t next[CMB_NEXT_MAX];
    unsigned n_next;
    uint64_t head_bytes;     /* since the last checkpoint */
    uint64_t floor_segment;  /* recovery from the older generation starts there */
    uint64_t journal_floor;  /* no journal segment is mapped below */
    cmb_batch *open;         /* being filled */
    cmb_batch *cut, *cut_last; /* whole, not written; oldest first */
    cmb_batch *flight;       /* being written */
    uint64_t queued;         /* bytes in all of them */
    uint64_t written_seq, durable_seq;
    uint64_t position_seq, position_prev; /* the batch a checkpoint waits for, and its last frame's check */
    _Atomic uint64_t durable_mark; /* durable_seq for those without the lock */
    uint64_t chain;          /* check of the last frame sealed: the writer's */
    cmb_prepare prepare;     /* the writer's */
    uint64_t unflushed; /* connection generation of the writes since the last flush, 0: none; the writer's */
    uint64_t sealed_seq;     /* everything up to here is sealed */
    cmb_batch *spare_batch;  /* made ahead for a cut that must not fail */
    cmb_frame *spare;
    unsigned n_spare;
    cmb_appender *streams;   /* open ones */
    cmb_queue *wq;           /* the writer's */
    cmb_queue *mq;           /* for reading pages, under table_lock */
    cmb_queue *cq;           /* the checkpoint's */

    cmb_mutex table_lock;
    cmb_radix table, map;
    uint8_t *page_buffer;    /* a block, aligned; under table_lock */
    cmb_space space;
    uint64_t meta_segment, meta_next, meta_pages;

    cmb_mutex map_lock;
    atomic_bool map_failed;
    _Atomic(const uint8_t *) regions[CMB_MAP_REGIONS];

    cmb_mutex flush_lock;
    bool flush_failed; /* of any queue: no later one is believed */

    cmb_mutex scratch_lock;
    cmb_appender *scratches;
    uint64_t scratch_used; /* addresses given out from CMB_SCRATCH_BASE on */

    cmb_mutex pool_lock;
    cmb_queue *pool[CMB_POOL_QUEUES];
    unsigned n_pool;
    struct cmb_run_shard *shards;

    _Atomic uint64_t bytes_written, bytes_prepared, bytes_metadata, flushes, batches, units, recycled;
    uint8_t *root;           /* a reader's copy of its ROOT record: a writer may go on */
    uint64_t recovered_batches, recovered_bytes;
    bool recovered_sealed;
    bool replayed; /* the owner was told of edits: they cannot be told anew */
};

/* Latches the log: nothing is written any more. Returns CMB_EUNKNOWN with the reason. Not under `lock`. */
int cmb_log_latch(cmb_log *log, const char *doing);
int cmb_log_refuse(cmb_log *log); /* CMB_EREADONLY and why */

/* append.c */
int cmb_frame_new(cmb_log *log, uint64_t addr, uint64_t physical, uint32_t capacity, cmb_frame **out_frame);
int cmb_frame_reserve(cmb_log *log, cmb_frame *frame, uint32_t need);
void cmb_frame_release(cmb_log *log, cmb_frame *frame); /* under `lock` or with the log unshared */
/* Takes `length` zeroed bytes of a frame that has the room. */
uint8_t *cmb_frame_take(cmb_frame *frame, uint32_t length, uint64_t *out_addr);
void cmb_frame_seal(const cmb_log *log, cmb_frame *frame, uint64_t seq, uint64_t prev, uint64_t durable, uint64_t *out_check);
/* Ends the open batch; it must hold a frame. Under `lock`, no unit open. CMB_ENOMEM only without a spare. */
int cmb_batch_cut(cmb_log *log);
/* Sees to it that the next cut cannot fail: before anything is published, for what is published has to be written. Under `lock`. */
int cmb_batch_spare(cmb_log *log);
void cmb_head_publish(cmb_appender *app, uint64_t *out_seq); /* under `lock`; frees app */
int cmb_epoch_begin(cmb_log *log); /* under `lock` */
void cmb_unit_keep(cmb_appender *app); /* under `lock`: an abort goes back to here */
int cmb_head_move(cmb_appender *app); /* under `lock` */
uint32_t cmb_head_end(const cmb_log *log); /* under `lock`: where a new frame would start */
unsigned cmb_next_target(const cmb_log *log);
void cmb_frames_drop(cmb_log *log, cmb_frame *first); /* under `lock` */
/* Fills the unit's last record, the log's own, with adopted streams and announcements. */
int cmb_unit_segments(cmb_appender *app, uint64_t root_addr, uint32_t root_length, bool checkpoint);

/* sync.c: with the writer's role taken, `lock` not held */
void cmb_writer_take(cmb_log *log); /* under `lock` */
void cmb_writer_give(cmb_log *log); /* under `lock` */
int cmb_write_ahead(cmb_appender *app);
void cmb_segments_settle(cmb_log *log, uint64_t first, uint64_t last); /* under `lock` */
/* Flushes; fails if the connection is not `generation`'s any more. */
int cmb_log_flush(cmb_log *log, cmb_queue *queue, uint64_t generation);
uint64_t cmb_log_generation(const cmb_log *log); /* the device's connection */
/* CMB_EIO if it is not `generation`: then a flush that has just succeeded covers nothing that was written under that one. */
int cmb_same_connection(cmb_device *dev, uint64_t generation);

/* prepare.c: with the writer's role taken, after a burst that ends with `last` was written */
int cmb_prepare_ahead(cmb_log *log, const cmb_frame *last, uint64_t bytes);
void cmb_prepare_free(cmb_log *log);

/* stream.c */
int cmb_stream_append(cmb_appender *stream, uint32_t length, uint64_t *out_addr, void **out_buf);
void cmb_stream_drop(cmb_appender *stream); /* abort: segments given back, freed */
void cmb_stream_free(cmb_appender *stream); /* the appender itself */
/* A record that is not written yet. Under `lock`. */
bool cmb_stream_read_queued(const cmb_appender *stream, uint64_t addr, uint32_t length, void *out_buf);

/* journal.c */
/* Is a record of this kind of use when a later checkpoint is durable? */
static inline bool cmb_record_lasts(uint8_t kind)
{
    return kind != CMB_RECORD_EDITS && kind != CMB_RECORD_INTENTS && kind != CMB_RECORD_ROOT && kind != CMB_RECORD_SEGMENTS;
}
/* What the unit appended decides whether its segments are journals still. Before its frames are out of reach. Under `lock`. */
void cmb_unit_note(const cmb_appender *app);
void cmb_segment_lasts(cmb_log *log, uint64_t number); /* no journal any more; under `lock` */
/* Those that a checkpoint drops. */
typedef struct cmb_journals {
    cmb_log *log;
    const uint64_t *pins; /* addresses */
    size_t n_pins;
    uint64_t root_addr;
    uint64_t *numbers;    /* logical segments */
    size_t n, capacity;
    uint64_t floor;       /* the lowest that stays */
} cmb_journals;
/* Finds them, and makes what dropping them changes ready: all that can fail. Then drops them. Both under one hold of `lock`,
 * with room for n more retirements meanwhile. */
int cmb_journals_ready(cmb_journals *list);
void cmb_journals_drop(cmb_journals *list);
void cmb_journals_free(cmb_journals *list);

/* scratch.c */
int cmb_scratch_append(cmb_appender *app, uint32_t length, uint64_t *out_addr, void **out_buf);
bool cmb_scratch_read(cmb_log *log, uint64_t addr, uint32_t length, void *out_buf); /* false: no such record */
void cmb_scratch_drop(cmb_appender *app);

/* checkpoint.c */
/* Is the newest superblock on the device still ours? CMB_EBUSY, and latched, if not. */
int cmb_check_foreign(cmb_log *log);

/* recover.c */
int cmb_recover(cmb_log *log, cmb_queue *queue);
typedef struct cmb_frame_info {
    uint32_t flags, payload, records;
    uint64_t epoch, seq, addr, prev, durable, check;
} cmb_frame_info;
/* Does a frame of this image's with address `addr` start here? Checks all but the payload. */
bool cmb_frame_header_ok(const cmb_log *log, const uint8_t *header, uint64_t addr, uint64_t room, cmb_frame_info *out_info);
bool cmb_frame_check_ok(const uint8_t *frame, const cmb_frame_info *info);
static inline uint32_t cmb_frame_blocks(uint32_t bytes) { return (bytes + CMB_BLOCK - 1) & ~(CMB_BLOCK - 1); }

/* read.c */
int cmb_segment_read(cmb_log *log, cmb_queue *queue, uint64_t physical, uint64_t offset, void *out_buf, uint64_t length);
const uint8_t *cmb_map_at(cmb_log *log, uint64_t offset);

/* runs.c: footers of compacted segments */
typedef struct cmb_run {
    uint32_t logical, length, physical; /* in granules of CMB_RECORD_ALIGN */
    uint64_t check;
} cmb_run;
/* Where a piece of a compacted logical segment lies. CMB_ECORRUPT: in no run. */
int cmb_runs_translate(cmb_log *log, uint64_t segment, uint64_t word, uint32_t offset, uint32_t length,
                       uint64_t *out_offset);
/* Its runs, copied; released as an array of max(n, 1). */
int cmb_runs_copy(cmb_log *log, uint64_t segment, uint64_t word, cmb_run **out_runs, size_t *out_n);
/* The logical segments that the footer of `word` names, copied likewise. */
int cmb_runs_logicals(cmb_log *log, uint64_t word, uint64_t **out_logicals, size_t *out_n);
void cmb_runs_forget(cmb_log *log, uint64_t physical); /* before the segment is used anew */
int cmb_runs_init(cmb_log *log);
void cmb_runs_free(cmb_log *log);

#endif
