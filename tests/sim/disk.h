/* SPDX-License-Identifier: ISC */
/* disk.h (private to tests/sim): a disk's parts. All under `lock`. */
#ifndef CMB_TESTS_SIM_DISK_H
#define CMB_TESTS_SIM_DISK_H

#include "sim.h"

#include "io/io.h"
#include "tests/sim/random.h"

#define SIM_RULES 16u

/* A write that was done and is not durable. */
typedef struct sim_write {
    uint64_t offset, length;
    uint64_t reaped; /* stamp of its completion */
    uint8_t *data;
} sim_write;

typedef struct sim_bad {
    uint64_t offset, length;
    sim_place kind;
} sim_bad;

struct sim_disk {
    cmb_device dev;
    cmb_mutex lock;
    sim_options options;
    uint64_t size, durable_size;
    sim_pages medium, view;
    sim_write *unflushed; /* in the order in which they were done */
    size_t n_unflushed, unflushed_capacity;
    uint8_t *stale;       /* a bit per sector: the cache shows it and believes it written, the medium never got it; NULL: none */
    sim_bad *bad;
    size_t n_bad;
    sim_rule rules[SIM_RULES];
    size_t n_rules;
    uint64_t stamp;
    uint64_t random;
    uint64_t generation;
    sim_counts counts;
};

/* faults.c */
/* Takes the rule that concerns this operation, if one is due. */
bool sim_take_rule(sim_disk *disk, cmb_op op, sim_rule *out_rule);
/* What a read brings, with the faults of its place. */
int sim_read_medium(sim_disk *disk, uint64_t offset, uint8_t *buffer, uint64_t length);
void sim_heal(sim_disk *disk, uint64_t offset, uint64_t length);
/* A flush fails in this way. */
void sim_fail_flush(sim_disk *disk, sim_slip kind);

/* disk.c */
void sim_land(sim_disk *disk, const sim_write *w, uint64_t *seed); /* each atom or not; seed NULL: all */
void sim_forget_unflushed(sim_disk *disk);
static inline bool sim_is_stale(const sim_disk *disk, uint64_t offset)
{
    uint64_t sector = offset / SIM_SECTOR;
    return disk->stale && disk->stale[sector / 8] >> sector % 8 & 1;
}

#endif
