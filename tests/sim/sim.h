/* SPDX-License-Identifier: ISC */
/*
 * sim.h: a disk that is simulated: a device (cambium/device.h) that the engine runs on unchanged, in virtual time, with every way
 * of going wrong that a disk and an operating system's cache have, chosen by rule and seed.
 *
 *     engine --> [cmb_device_trace, cmb_device_fault] --> view (what reads see: the cache)
 *                                                          |  flush
 *                                                         medium (what a power cut leaves), pristine
 *                                                          |
 *                                                         faults of places, put on what is read
 *
 * What a request can do wrong on any device, by rule, is the library's fault layer (error, no space, a torn or dropped write, a flush
 * that lies, a delay, a dead device): put it on top. Here is what only a disk can: a power cut that loses or tears
 * what was not flushed, in any order; a flush that fails, and what the cache holds afterwards; sectors that cannot be read, that
 * rot, or hold noise; transfers that go elsewhere or end early; a length that is not durable when data are; completions that come in another
 * order than the requests.
 *
 * Strict where the interface allows it: a request does its work when its completion is reaped, and a flush covers just the writes
 * that were reaped before it was submitted.
 *
 * A disk is thread-safe as a device; its copies (sim_fork) share memory, and all of them belong to one thread at a time.
 */
#ifndef CMB_TESTS_SIM_SIM_H
#define CMB_TESTS_SIM_SIM_H

#include <cambium/device.h>

#include "pages.h"

typedef struct sim_disk sim_disk;

typedef struct sim_options {
    uint64_t size;     /* bytes; a multiple of 4096 */
    uint64_t max_size; /* it may grow to; 0: it does not */
    uint32_t atom;     /* bytes that a power cut does not tear: 512 or 4096; 0: 512 */
    bool cached;       /* reads never reach past the cache: no CMB_CAP_UNCACHED */
    uint64_t jitter;   /* nanoseconds that a request takes longer at most, at random: they overtake each other */
    uint64_t seed;
    void (*on_grow)(void *ctx, uint64_t size); /* may be NULL */
    void *ctx;
} sim_options;

/* Memory that runs out ends the program. */
sim_disk *sim_new(const sim_options *options);
cmb_device *sim_device(sim_disk *disk); /* of which it is the device: closed by sim_free or cmb_device_close, not both */
sim_disk *sim_of(cmb_device *dev);
void sim_free(sim_disk *disk);
/* One that holds this already; `options` may be NULL: the size is that of a chunk (1 MiB) times their count, nothing grows. */
sim_disk *sim_on(const sim_pages *content, const sim_options *options);
/* Another disk with the medium's content: what a power cut leaves if nothing unflushed landed. Without faults. */
sim_disk *sim_fork(sim_disk *disk);

/* ---- power cuts ---- */

/*
 * Of what is not flushed each atom lands or not, as `seed` says; of two to one place the later wins if both land. The length is the
 * durable or the present one. Then the cache is empty. No queue may be open.
 */
void sim_power_cut(sim_disk *disk, uint64_t seed);
/* Writes that are not durable. */
size_t sim_unflushed(const sim_disk *disk);
/* Forgets what is cached and clean, as an operating system may at any time. */
void sim_drop_cache(sim_disk *disk);

/* ---- the medium, past all faults ---- */

const sim_pages *sim_medium(const sim_disk *disk); /* as long as the disk is not used */
void sim_peek(const sim_disk *disk, uint64_t offset, void *buffer, uint64_t length);
void sim_poke(sim_disk *disk, uint64_t offset, const void *data, uint64_t length); /* NULL: zeros; nothing unflushed may be there */
/* The length now and after a power cut; bytes beyond are gone. */
void sim_truncate(sim_disk *disk, uint64_t size);
/* A hash of the medium's content and length. */
uint64_t sim_sum(const sim_disk *disk);

/* ---- faults of places: until the sector is written again ---- */

typedef enum sim_place {
    SIM_LATENT = 1, /* cannot be read: CMB_EIO */
    SIM_ROT = 2,    /* one bit of each sector is wrong */
    SIM_GARBAGE = 3,/* noise */
} sim_place;
void sim_damage(sim_disk *disk, sim_place kind, uint64_t offset, uint64_t length);

/* ---- faults of operations: the n-th (from 0) of its kind from now on ---- */

typedef enum sim_slip {
    SIM_STRAY_WRITE = 1, /* lands `distance` bytes away; its own place stays as it was */
    SIM_STRAY_READ = 2,  /* brings what lies `distance` bytes away */
    SIM_SHORT_WRITE = 3, /* `length` bytes are done, then CMB_EIO */
    SIM_SHORT_READ = 4,
    SIM_FULL_WRITE = 5,  /* `length` bytes are done, then CMB_ENOSPC */
    SIM_FLUSH_KEEPS_DIRTY = 6, /* CMB_EIO; nothing is durable, the next flush tries again */
    SIM_FLUSH_CLEANS = 7,      /* CMB_EIO; some of it landed; the cache goes on showing all of it and believes it written */
    SIM_FLUSH_REVERTS = 8,     /* CMB_EIO; some of it landed; the cache shows what did */
} sim_slip;
typedef struct sim_rule {
    sim_slip kind;
    uint64_t nth;
    int64_t distance; /* bytes, a multiple of 512 */
    uint64_t length;  /* bytes, a multiple of 512 */
} sim_rule;
void sim_slip_at(sim_disk *disk, const sim_rule *rule);

/* ---- what happened ---- */

typedef struct sim_counts {
    uint64_t reads, writes, flushes, discards;
    uint64_t bytes_read, bytes_written;
    uint64_t slips;       /* rules that were followed */
    uint64_t nanoseconds; /* of virtual time */
} sim_counts;
sim_counts sim_count(const sim_disk *disk);

#endif
