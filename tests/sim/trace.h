/* SPDX-License-Identifier: ISC */
/*
 * trace.h: what a run did to a simulated disk, in order, with the data: what crash states are made of. And what the run said meanwhile
 * (sim_note): where a commit began, where it was acknowledged.
 */
#ifndef CMB_TESTS_SIM_TRACE_H
#define CMB_TESTS_SIM_TRACE_H

#include "sim.h"

typedef enum sim_event_kind { SIM_WROTE = 1, SIM_FLUSHED = 2, SIM_GREW = 3, SIM_NOTED = 4 } sim_event_kind;

typedef struct sim_event {
    sim_event_kind kind;
    int what;        /* NOTED */
    uint64_t offset; /* WROTE; NOTED: the value; GREW: the size */
    uint64_t length;
    uint8_t *data;   /* WROTE; NULL: zeros */
} sim_event;

/* Zero-initialise. */
typedef struct sim_trace {
    sim_event *events;
    size_t n, capacity;
} sim_trace;

/* Of a disk from now on: *out_dev is to be used instead of the disk, and owns it. Only what succeeded is recorded. 0 or CMB_ENOMEM. */
int sim_record(sim_disk *disk, sim_trace *trace, cmb_device **out_dev);
void sim_note(sim_trace *trace, int what, uint64_t value);
void sim_trace_free(sim_trace *trace);

#endif
