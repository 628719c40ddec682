/* SPDX-License-Identifier: ISC */
/*
 * log.h: an append-only logical log on a block device. Knows blocks below and records above, and
 * nothing of trees or branches.
 *
 * The logical log only grows: a record has a 64-bit logical address for ever. It is cut into logical
 * segments of S = 2^shift bytes (2 MiB .. 64 MiB: the largest record, the list of a value's chunks, has to
 * fit a frame and a frame a segment). A segment table maps logical segments to physical ones, so
 * that the device under the log is recycled while addresses stay.
 *
 * ---- the device ----
 *
 *   0        1 MiB     2 MiB     3 MiB     first = max(1, 4 MiB / S)
 *   |SB a|…  |SB b|…   |SB a'|…  |SB b'|…  |segment first|segment first+1|…
 *
 * Superblock generation g (even: slots 0 and 2 MiB, odd: 1 and 3 MiB), one 4 KiB block each of which
 * <= 512 bytes mean something. Physical segment p lies at p * S.
 *
 * ---- the superblock (<= 512 bytes, little-endian) ----
 *   magic[8] version incompat-flags check(XXH3-64 over the rest, seeded with the slot's offset)
 *   uuid[16] generation epoch durable_seq
 *   segment shift, and the image's parameters (opaque to the log): hash kind, node target, boundary seed
 *   device size (fixed devices; 0: grows), physical segment count
 *   table root and state map root: {page address, page check, height}
 *   metadata segment in use, next free page in it
 *   next logical segment number
 *   position: where the next frame goes {logical address of the block after the tail, physical
 *             segment}, its sequence number, the check of the frame before it
 *   next[16]: physical segments that the head will use, in order (0: none)
 *   root: {address, length} of the store's ROOT record, 0 in a new image
 *   journals: no journal segment is mapped below this logical one
 *
 * ---- a frame (<= 1 MiB + 8 KiB, starts on a 4 KiB block, never straddles a segment) ----
 *   128-byte header: magic, flags (FIRST, LAST of its batch; STREAM; SEAL), uuid, epoch, batch
 *   sequence, own logical address, previous frame's check, durable_seq, payload length, record
 *   count, check (XXH3-64 over header and payload). Then records at 16-byte granules; the rest of
 *   the block is zeros. A batch is one or more frames of the same sequence; its LAST makes it count.
 *
 * ---- a record ----
 *   16-byte header: u32 length (header included), u8 kind, u8 reserved[3] = 0, u64 check; payload.
 *   `check` belongs to the record's owner (nodes: their trailer; others: the whole record, by
 *   cmb_record_seal / cmb_record_check, seeded with the record's own address).
 *
 * ---- the table ----
 *   4 KiB pages {check, magic, level, own physical address, generation, index; 252 entries of 16
 *   bytes}. Inner entry: {page address, page check}; leaf entry: {u32 physical segment, u8 kind
 *   (plain, compacted, stream, journal), u64 bytes used}. Pages are copied on write at checkpoints, appended
 *   to a metadata segment; when metadata segments hold more than four times the live pages, all is
 *   rewritten into fresh ones and the old are quarantined. The state map (2 bits a physical segment:
 *   free, live, quarantine 1, quarantine 2) is kept in the same kind of pages under its own root.
 *
 * ---- one flush per commit ----
 *   Appenders fill the open batch in memory under the append lock; cmb_log_sync's leader takes it,
 *   writes it with one sequential write, flushes once, and wakes all that waited. Segments ahead of
 *   the head are prepared (written with zeros on devices that grow, in steps, while batches are small), so that a
 *   commit's flush changes no file metadata.
 *
 * ---- journal segments ----
 *   Head segments that hold only what the next checkpoint makes needless (EDITS, INTENTS, ROOT, SEGMENTS records) are
 *   not left to the cleaner: a checkpoint drops those below it, and two checkpoints later they are
 *   written anew (journal.c). So the logical space has holes.
 *
 * ---- failure ----
 *   A failed write or flush latches the log: the commits concerned get CMB_EUNKNOWN, everything
 *   later CMB_EREADONLY, readers go on. Recovery: newest valid superblock pair; walk the chain of
 *   one epoch; accept the longest valid prefix of whole batches. A hole is corruption exactly when a
 *   later frame of this epoch (looked for in the rest of the segment and in next[]) says durable_seq
 *   >= the missing batch; otherwise it is a torn tail. The tail is read past the cache
 *   (CMB_IO_UNCACHED) or, where the device cannot, rewritten; and flushed before anything is served.
 *   A read-only opener beside a live writer flushes too (on POSIX that is allowed and makes what it
 *   read durable) and changes nothing.
 *   A writable open writes nothing until the first append. That first starts a new epoch: a checkpoint at the block
 *   after the accepted tail.
 */
#ifndef CMB_LOG_LOG_H
#define CMB_LOG_LOG_H

#include "io/io.h"

typedef struct cmb_log cmb_log;
typedef struct cmb_appender cmb_appender;

#define CMB_FRAME_MAX ((1u << 20) + 8192u)
#define CMB_RECORD_MAX ((1u << 20) + 4096u) /* bytes with header */
#define CMB_RECORD_HEADER 16u
#define CMB_RECORD_ALIGN 16u
#define CMB_SEGMENT_SHIFT_MIN 21u
#define CMB_SEGMENT_SHIFT_MAX 26u
#define CMB_SEGMENT_SHIFT_FILE 22u /* for files that grow */
#define CMB_CHECKPOINT_BYTES (32u << 20) /* about so much head log between checkpoints at most; one is due at half of it */
#define CMB_STREAM_THRESHOLD (8u << 20)  /* a transaction expected to write more than this, or than a segment, streams */

enum cmb_record_kind {
    CMB_RECORD_LEAF = 1,
    CMB_RECORD_NODE = 2,   /* internal node */
    CMB_RECORD_CHUNK = 3,  /* bytes of an out-of-line value */
    CMB_RECORD_CHUNKS = 4, /* list of chunks */
    CMB_RECORD_COMMIT = 5,
    CMB_RECORD_EDITS = 6,  /* the store's: changes to the ref tables; replayed at recovery */
    CMB_RECORD_ROOT = 7,   /* the store's: roots of the ref tables; named by a superblock */
    CMB_RECORD_SEGMENTS = 8, /* the log's: mappings of stream or relocated segments */
    CMB_RECORD_TAG = 9,    /* the store's: an annotated tag's object */
    CMB_RECORD_INTENTS = 10, /* the store's: edits of a branch that are not in its tree yet; replayed at recovery */
};

/* The image's parameters, fixed when it is made. The log only carries them. */
typedef struct cmb_image_params {
    uint8_t uuid[16];
    uint8_t segment_shift;
    uint8_t hash_kind;      /* cmb_hash_kind */
    uint32_t node_target;   /* bytes */
    uint64_t boundary_seed;
    uint64_t fixed_size;    /* bytes; 0: the image grows */
} cmb_image_params;

/* Called at open, in the log's order, once per EDITS and INTENTS record (`kind`) after the checkpoint. Non-zero stops the open. */
typedef int (*cmb_log_replay_fn)(void *ctx, uint8_t kind, uint64_t addr, const void *payload, uint32_t length);

typedef struct cmb_log_options {
    cmb_allocator alloc;
    cmb_env env;
    bool writable;
    bool no_durability;      /* accept a device without flush; cmb_log_is_durable() then says no */
    cmb_log_replay_fn replay;
    void *ctx;
    /* A logical segment was moved: forget pointers into it. May be NULL. */
    void (*remapped)(void *ctx, uint64_t segment);
} cmb_log_options;

/* Picks a segment shift for a device of `size` bytes (0: grows): size/256, clamped. */
unsigned cmb_log_segment_shift(uint64_t size);

/*
 * Makes an empty image; everything the device held is forgotten. The device's first 4 MiB and one
 * segment at least must fit (fixed devices: at least 16 MiB), else CMB_ENOSPC. Durable on return.
 * An existing image is overwritten in such an order that a crash leaves either it or the new one
 * or something that open calls CMB_ENOTIMAGE, never a mixture.
 */
int cmb_log_format(cmb_device *dev, const cmb_image_params *params, const cmb_allocator *alloc, const cmb_env *env);

/* Reads the superblocks only: is this an image, of which parameters? CMB_ENOTIMAGE, CMB_EVERSION, CMB_ECORRUPT. */
int cmb_log_probe(cmb_device *dev, const cmb_allocator *alloc, cmb_image_params *out_params);

/* The device stays the caller's and must outlive the log. */
int cmb_log_open(cmb_device *dev, const cmb_log_options *options, cmb_log **out_log);
/* Writes a seal if batches followed the last one; durable on return. Frees in any case; the error is the seal's. */
int cmb_log_close(cmb_log *log);

const cmb_image_params *cmb_log_params(const cmb_log *log);
bool cmb_log_is_durable(const cmb_log *log);
/* The ROOT record of the newest checkpoint: of those that recovery met, until this handle makes one; length 0: none yet. */
void cmb_log_root(const cmb_log *log, uint64_t *out_addr, uint32_t *out_length);

/* ---- appending ---- */

/*
 * Takes the append lock and opens the head for one unit of work (a transaction's nodes and its EDITS).
 * CMB_EREADONLY (with the reason) if the log cannot be written. Starts the epoch if it is the first.
 * *out_epoch_started (may be NULL): true if the caller must publish by cmb_log_checkpoint, not by
 * cmb_log_publish: so it is for the first unit after open.
 */
int cmb_log_begin(cmb_log *log, cmb_appender **out_app, bool *out_epoch_start);
/* For units that free space or end in a checkpoint: they may use the reserve that others leave alone. */
int cmb_log_begin_urgent(cmb_log *log, cmb_appender **out_app, bool *out_epoch_start);

/*
 * Reserves `length` bytes (16..CMB_RECORD_MAX, header included) at the next granule. *out_buf, aligned
 * to 16 and zeroed, is to be filled before the next call on this appender; the record's header
 * must be complete by then and say `length`. CMB_ENOSPC: nothing changed, the caller aborts.
 */
int cmb_append(cmb_appender *app, uint32_t length, uint64_t *out_addr, void **out_buf);

/* Builds, seals and appends a record of `kind`. */
int cmb_append_record(cmb_appender *app, uint8_t kind, const void *payload, uint32_t length, uint64_t *out_addr);

/*
 * Ends a head unit: what was appended counts as queued, the lock is released, app is gone.
 * `edits` becomes an EDITS record (length 0: none). The unit is durable once cmb_log_sync(log, *out_seq)
 * returns 0. On failure the unit is still open and has to be aborted.
 */
int cmb_log_publish(cmb_appender *app, const void *edits, uint32_t length, uint64_t *out_seq);
/* Forgets what this unit appended (head: truncated in memory; stream: segments given back; scratch: freed). app is gone. */
void cmb_append_abort(cmb_appender *app);

/* A stream: segments of its own, no lock; many may be open. Written in frames as it fills. */
int cmb_log_stream(cmb_log *log, cmb_appender **out_app);
/* What is appended from here on lies above all that was published until now: a record refers to lower addresses only.
 * For a stream that was opened before what it is to refer to. May leave the rest of a segment unused. */
int cmb_stream_rise(cmb_appender *stream);
/* Writes what is left and flushes. Afterwards only adopt or abort. */
int cmb_stream_finish(cmb_appender *stream);
/* Makes a finished stream part of a head unit (taken by cmb_log_begin AFTER the stream was opened);
 * the head moves to a segment above the stream's. On success the stream is gone; it is lost with the unit if that aborts. */
int cmb_append_adopt(cmb_appender *head, cmb_appender *stream);

/*
 * An appender whose records live in memory only, at addresses of their own above every real one; they read back
 * through this handle, also a read-only one, by cmb_log_read alone (never located nor peeked at), until the appender is aborted,
 * which is how it ends, or the log closed. For trees that a reader needs and cannot write: cmb_append works on it, and
 * there is nothing to finish or to publish. Memory: the log's allocator. One thread appends, any thread reads.
 */
int cmb_log_scratch(cmb_log *log, cmb_appender **out_app);
#define CMB_SCRATCH_BASE (UINT64_C(1) << 62) /* every address of a record that is written, or could be, is lower */

/* Bytes appended so far. */
uint64_t cmb_append_bytes(const cmb_appender *app);

/* Waits until batch `seq` is durable. One of the waiting threads does the work for all (group commit).
 * CMB_EUNKNOWN: the device failed meanwhile. On a log without flush: after the write. */
int cmb_log_sync(cmb_log *log, uint64_t seq);
uint64_t cmb_log_durable_seq(const cmb_log *log);
/* Writes (without a flush) all that is queued, so that memory is given back. Like cmb_log_sync it waits for an
 * open head unit: not to be called by the thread that holds one. */
int cmb_log_write_out(cmb_log *log);
/* Seals if something is unsealed and nothing is being appended: for an idle store. */
int cmb_log_seal(cmb_log *log);

/* ---- checkpoints ---- */

/* Is one due (CMB_CHECKPOINT_BYTES / 2 used, or on a small device an eighth of it; or the epoch is to start)? */
bool cmb_log_checkpoint_due(const cmb_log *log);
/*
 * Ends a head unit whose last record is the new ROOT record at root_addr, and makes a checkpoint
 * that starts from it. Appenders may go on while it is written. Durable on return (the unit as
 * well: *out_seq). One at a time: CMB_EBUSY. After it, as after every failure but CMB_EUNKNOWN, app is still open and has to
 * be aborted; after CMB_EUNKNOWN it is gone. CMB_EBUSY from a log that is failed afterwards:
 * somebody else's superblock was found.
 *
 * What journal segments below the checkpoint hold is gone afterwards, except those in which one of the
 * addresses pins[0..n_pins) lies: records that the new ROOT record refers to. They stay until a later
 * checkpoint pins them no more.
 */
int cmb_log_checkpoint(cmb_appender *app, uint64_t root_addr, uint32_t root_length, const uint64_t *pins, size_t n_pins,
                       uint64_t *out_seq);
/* Bytes of whole segments that ordinary units could still take: those that are free or already next, less the reserve.
 * UINT64_MAX: the image grows. 0: none, or the log is read-only. */
uint64_t cmb_log_room(cmb_log *log);

/* ---- reading: any thread ---- */

/*
 * Copies a record's `length` bytes. Reads what is queued and not yet written as well, from memory.
 * CMB_ECORRUPT: no such address (unmapped, outside the log); CMB_EIO.
 * `queue`: the thread's own on this device, or NULL for one from the log's pool.
 */
int cmb_log_read(cmb_log *log, cmb_queue *queue, uint64_t addr, uint32_t length, void *out_buf);
/* Where a record lies on the device, if it is written and in one piece: for many reads in flight. false: use cmb_log_read. */
bool cmb_log_locate(cmb_log *log, uint64_t addr, uint32_t length, uint64_t *out_offset);
/* A pointer to it in the device's mapping, valid until close (relocation: until `remapped`); NULL if it is not
 * mapped, not written yet, or the device does not map. Does not verify. */
const void *cmb_log_peek(cmb_log *log, uint64_t addr, uint32_t length);
static inline uint64_t cmb_segment_of(unsigned shift, uint64_t addr) { return addr >> shift; }
/* Queues for readers, reused. */
int cmb_log_queue_take(cmb_log *log, cmb_queue **out_queue);
void cmb_log_queue_give(cmb_log *log, cmb_queue *queue);

/* Addresses in use: every record lies in [first, end), scratches' apart; not every segment in between is mapped. */
void cmb_log_extent(const cmb_log *log, uint64_t *out_first, uint64_t *out_end);

/* ---- record headers ---- */
static inline uint32_t cmb_record_length(const void *r) { return cmb_get32(r); }
static inline uint8_t cmb_record_kind_of(const void *r) { return ((const uint8_t *)r)[4]; }
static inline uint64_t cmb_record_stored_check(const void *r) { return cmb_get64((const uint8_t *)r + 8); }
void cmb_record_seal(void *record, uint8_t kind, uint32_t length, uint64_t addr);
/* 0 or CMB_ECORRUPT naming the address. `limit`: bytes readable at record. */
int cmb_record_check(const void *record, uint32_t limit, uint64_t addr);

/* ---- looking inside, and the ground of cleaning ---- */

typedef enum cmb_segment_state { CMB_SEG_FREE = 0, CMB_SEG_LIVE = 1, CMB_SEG_QUARANTINE1 = 2, CMB_SEG_QUARANTINE2 = 3 } cmb_segment_state;
typedef enum cmb_segment_kind { CMB_SEG_NONE = 0, CMB_SEG_PLAIN = 1, CMB_SEG_COMPACTED = 2, CMB_SEG_STREAM = 3, CMB_SEG_META = 4, CMB_SEG_JOURNAL = 5 } cmb_segment_kind;

typedef struct cmb_segment_info {
    uint64_t logical;  /* meaningless for META */
    uint64_t physical;
    cmb_segment_kind kind;
    uint64_t used;     /* bytes written */
    bool head;         /* still being filled */
} cmb_segment_info;
/* Every mapped segment in logical order, then the metadata ones. Non-zero from fn stops and is returned. */
int cmb_log_segments(cmb_log *log, int (*fn)(void *ctx, const cmb_segment_info *info), void *ctx);
/* The first mapped logical segment from `from` on; UINT64_MAX: none. A page of the table that cannot be read is passed over. CMB_ENOMEM. */
int cmb_log_next_segment(cmb_log *log, uint64_t from, uint64_t *out_segment);

typedef struct cmb_log_stats {
    uint64_t size;             /* device bytes */
    uint64_t segment_size;
    uint64_t segments[4];      /* physical segments by cmb_segment_state */
    uint64_t logical_end;      /* address */
    uint64_t generation, epoch, durable_seq, next_seq;
    uint64_t bytes_written;    /* by this handle, everything included: frames, padding, preparation, metadata, superblocks */
    uint64_t bytes_prepared, bytes_metadata, flushes, batches, units; /* by this handle */
    uint64_t recovered_batches, recovered_bytes; /* walked at open */
    uint64_t recycled;         /* journal segments that checkpoints dropped, by this handle */
    bool sealed;               /* at open: the tail was sealed */
    bool failed;               /* latched */
} cmb_log_stats;
void cmb_log_get_stats(cmb_log *log, cmb_log_stats *out_stats);

/* Every frame and record of a segment, in order, with checks verified; damage is reported and skipped over.
 * Frame events have record == NULL. For fsck, inspect and salvage. */
typedef struct cmb_scan_event {
    uint64_t frame_addr; uint32_t frame_length; uint64_t seq, epoch, durable_seq; uint32_t flags;
    uint64_t addr; const uint8_t *record; uint32_t length; uint8_t kind;
    int error; /* CMB_ECORRUPT: this frame or record is damaged; detail text set */
} cmb_scan_event;
int cmb_log_scan(cmb_log *log, uint64_t segment, int (*fn)(void *ctx, const cmb_scan_event *event), void *ctx);
/*
 * The same again and again, or piece by piece: one buffer and one queue for all. Belongs to one thread. flags: CMB_IO_… of its
 * reads; what the device cannot do is left out. What was moved while it was looked at is left out as well, and no damage.
 */
typedef struct cmb_scanner cmb_scanner;
int cmb_scanner_open(cmb_log *log, uint32_t flags, cmb_scanner **out_scanner);
void cmb_scanner_close(cmb_scanner *scanner); /* NULL allowed */
/* From the frame or run at, or after, address `from` to the segment's end, or until `bytes` (0: no limit) have been looked at.
 * *out_next: where to go on; the next segment's start when this one is done. CMB_ENOTFOUND: it is not mapped. */
int cmb_scanner_run(cmb_scanner *scanner, uint64_t from, uint64_t bytes, int (*fn)(void *ctx, const cmb_scan_event *event), void *ctx,
                    uint64_t *out_next);
/* Frames of the head from this address on are what the next open reads: they were written since the last checkpoint. */
uint64_t cmb_log_tail_start(cmb_log *log);
/* A log opened for reading: has the writer gone on so far that what this log maps may be used anew? Reads the superblocks. */
bool cmb_log_is_stale(cmb_log *log);

/* Superblock slots, for inspect: fills out_text with lines of `name: value`; tolerant of damage. Needs no open log. */
int cmb_log_describe_super(cmb_device *dev, const cmb_allocator *alloc, unsigned slot, char *out_text, size_t size, bool *out_valid);
/* Which copies of the newest superblock are damaged: a bit for each slot. Reads the device. */
int cmb_log_check_supers(cmb_log *log, unsigned *out_bad);
/* Writes those again from the intact copy, and flushes; *out_mended: how many. No log may be open for writing on the device. */
int cmb_log_mend_supers(cmb_device *dev, const cmb_allocator *alloc, unsigned *out_mended);
/* Reads every table and state page and checks it: number of pages in *out_pages. fsck. */
int cmb_log_check_tables(cmb_log *log, uint64_t *out_pages, int (*finding)(void *ctx, int error, const char *text), void *ctx);

typedef struct cmb_extent { uint64_t addr; uint32_t length; } cmb_extent;
/*
 * Moves the live extents (sorted, whole records) of logical segments [first, last] into fresh physical
 * segments whose footers list the runs, verifying frame checks while copying; flushes; then
 * publishes the new mapping in its own head unit, durable on return. Old physical segments go into quarantine. A logical segment
 * never spans two physical ones. The head segment, open streams, and head segments that a recovery from the
 * older superblock would walk through are refused (CMB_EBUSY): two checkpoints later they can be moved.
 * CMB_EBUSY as well before the first checkpoint after open. A segment too dense to gain anything stays.
 */
int cmb_log_relocate(cmb_log *log, uint64_t first, uint64_t last, const cmb_extent *extents, size_t n);

#endif
