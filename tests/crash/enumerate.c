/* SPDX-License-Identifier: ISC */
#include "enumerate.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/base.h"
#include "tests/sim/random.h"

#define BLOCK       4096u
#define SLOT_STRIDE (1u << 20) /* the superblocks: the first block of each of the first four MiB */
#define SLOTS       4u
#define GENERATION  40u        /* where a superblock has its own */

/* ---- states seen: content to the highest acknowledged number it was judged for ---- */

struct crash_seen {
    struct { uint64_t sum, acked; } *slots; /* sum 0: empty */
    size_t n, capacity;
};

static void *need(void *memory)
{
    if (!memory)
        abort();
    return memory;
}

crash_seen *crash_seen_new(void)
{
    crash_seen *seen = need(calloc(1, sizeof *seen));
    seen->capacity = 1u << 16;
    seen->slots = need(calloc(seen->capacity, sizeof *seen->slots));
    return seen;
}

void crash_seen_free(crash_seen *seen)
{
    if (!seen)
        return;
    free(seen->slots);
    free(seen);
}

size_t crash_seen_count(const crash_seen *seen)
{
    return seen->n;
}

static size_t slot_of(const crash_seen *seen, uint64_t sum)
{
    size_t at = (size_t)(sum * UINT64_C(0x9e3779b97f4a7c15)) & (seen->capacity - 1);
    while (seen->slots[at].sum && seen->slots[at].sum != sum)
        at = (at + 1) & (seen->capacity - 1);
    return at;
}

static void seen_grow(crash_seen *seen)
{
    crash_seen old = *seen;
    seen->capacity *= 2;
    seen->slots = need(calloc(seen->capacity, sizeof *seen->slots));
    for (size_t i = 0; i < old.capacity; i++)
        if (old.slots[i].sum)
            seen->slots[slot_of(seen, old.slots[i].sum)] = old.slots[i];
    free(old.slots);
}

/* Is it to be judged? *out_new: it was never met. */
static bool seen_add(crash_seen *seen, uint64_t sum, uint64_t acked, bool *out_new)
{
    if (2 * seen->n >= seen->capacity)
        seen_grow(seen);
    sum += sum == 0;
    size_t at = slot_of(seen, sum);
    *out_new = seen->slots[at].sum == 0;
    if (!*out_new && seen->slots[at].acked >= acked)
        return false;
    seen->n += *out_new;
    seen->slots[at].sum = sum;
    seen->slots[at].acked = acked;
    return true;
}

/* ---- an epoch ---- */

typedef struct unit {
    uint64_t offset;     /* of a sector */
    const uint8_t *data; /* NULL: zeros */
    uint32_t block, write; /* ordinals: units of one 4 KiB block of one write; of one write */
} unit;

typedef struct enumeration {
    const crash_plan *plan;
    crash_tally *tally;
    sim_pages base; /* durable */
    uint64_t base_size, size;
    crash_moment moment;
    uint64_t since[2]; /* log bytes since the newest checkpoint, and before it since the one before */
    bool super_written;
    unsigned anew; /* epochs since a segment was begun again, if it was since the newest checkpoint, that epoch included */
    bool lost; /* the state that is judged has lost the newest generation of superblocks */
    unit *units;
    size_t n, capacity;
    uint32_t blocks, writes;
    uint8_t *in;    /* of each unit: 1 if it lands */
    uint64_t random;
    unsigned left;  /* states that this epoch may still have judged */
} enumeration;

static void add_unit(enumeration *e, uint64_t offset, const uint8_t *data)
{
    if (e->n == e->capacity) {
        e->capacity = e->capacity ? 2 * e->capacity : 1024;
        e->units = need(realloc(e->units, e->capacity * sizeof *e->units));
        e->in = need(realloc(e->in, e->capacity));
    }
    const unit *last = e->n ? &e->units[e->n - 1] : NULL;
    if (!last || last->write != e->writes || last->offset / BLOCK != offset / BLOCK)
        e->blocks++;
    e->units[e->n++] = (unit){offset, data, e->blocks - 1, e->writes};
}

static bool touched(const enumeration *e, uint64_t offset)
{
    for (size_t i = e->n; i-- > 0;)
        if (e->units[i].offset == offset)
            return true;
    return false;
}

/* The first frame of a segment, over what is there already. */
static bool begins_anew(const enumeration *e, const sim_event *ev)
{
    uint8_t old[SIM_SECTOR];
    if (!e->plan->segment || !ev->data || ev->offset % e->plan->segment != 0 || ev->offset < SLOTS * SLOT_STRIDE)
        return false;
    sim_pages_read(&e->base, ev->offset, old, SIM_SECTOR);
    return old[0] || memcmp(old, old + 1, SIM_SECTOR - 1) != 0;
}

/* Sectors that change nothing are none. */
static void note_write(enumeration *e, const sim_event *ev)
{
    static const uint8_t zeros[SIM_SECTOR];
    uint8_t old[SIM_SECTOR];
    size_t before = e->n;
    if (ev->offset % SLOT_STRIDE == 0 && ev->offset / SLOT_STRIDE < SLOTS)
        e->super_written = true;
    else if (ev->data)
        e->since[0] += ev->length;
    if (begins_anew(e, ev)) {
        e->anew = 1;
        e->tally->anew++;
    }
    for (uint64_t at = 0; at < ev->length; at += SIM_SECTOR) {
        const uint8_t *data = ev->data ? ev->data + at : NULL;
        sim_pages_read(&e->base, ev->offset + at, old, SIM_SECTOR);
        if (memcmp(old, data ? data : zeros, SIM_SECTOR) != 0 || (before && touched(e, ev->offset + at)))
            add_unit(e, ev->offset + at, data);
    }
    e->writes++;
}

/* ---- one state ---- */

static void land(sim_pages *pages, const unit *u)
{
    sim_pages_write(pages, u->offset, u->data, SIM_SECTOR);
}

static void wrong(enumeration *e, uint64_t size, const char *what)
{
    crash_tally *t = e->tally;
    if (t->wrong++)
        return;
    size_t landed = 0;
    for (size_t i = 0; i < e->n; i++)
        landed += e->in[i];
    snprintf(t->first_wrong, sizeof t->first_wrong, "epoch %u, %zu of %zu sectors landed%s%s, acknowledged %llu, begun %llu: %s", e->moment.epoch,
             landed, e->n, size != e->size ? " and the file did not grow" : "", e->lost ? " and a generation is lost" : "", (unsigned long long)e->moment.acked, (unsigned long long)e->moment.begun, what);
}

static void judge_pages(enumeration *e, const sim_pages *pages, uint64_t size)
{
    const crash_plan *plan = e->plan;
    uint64_t sum = pages->sum ^ size;
    bool fresh;
    e->tally->tried++;
    if (!seen_add(plan->seen, sum, e->moment.acked, &fresh))
        return;
    sim_options options = plan->options;
    options.size = size;
    sim_disk *state = sim_on(pages, &options);
    e->tally->judged++;
    e->tally->distinct += fresh;
    e->tally->due += e->moment.acked;
    e->left -= e->left > 0;
    const char *what = plan->judge(plan->ctx, state, &e->moment);
    if (what)
        wrong(e, size, what);
    sim_free(state);
}

/* Both copies of the newest generation. */
static void lose_newest(sim_pages *pages)
{
    uint8_t slots[SLOTS][SIM_SECTOR];
    uint64_t newest = 0;
    for (unsigned i = 0; i < SLOTS; i++) {
        sim_pages_read(pages, i * SLOT_STRIDE, slots[i], SIM_SECTOR);
        if (cmb_get64(slots[i] + GENERATION) > newest)
            newest = cmb_get64(slots[i] + GENERATION);
    }
    for (unsigned i = 0; i < SLOTS; i++) {
        if (cmb_get64(slots[i] + GENERATION) == newest)
            sim_pages_write(pages, i * SLOT_STRIDE, NULL, SIM_SECTOR);
    }
}

/* `noise`: a unit that reads as noise; n: none. */
static void judge(enumeration *e, uint64_t size, size_t noise)
{
    sim_pages pages;
    sim_pages_share(&pages, &e->base);
    for (size_t i = 0; i < e->n; i++)
        if (e->in[i] && e->units[i].offset + SIM_SECTOR <= size)
            land(&pages, &e->units[i]);
    if (noise < e->n) {
        uint8_t bytes[SIM_SECTOR];
        for (unsigned i = 0; i < SIM_SECTOR; i++)
            bytes[i] = (uint8_t)sim_random(&e->random);
        sim_pages_write(&pages, e->units[noise].offset, bytes, SIM_SECTOR);
    }
    judge_pages(e, &pages, size);
    if (e->plan->lose && !e->super_written) {
        lose_newest(&pages);
        e->lost = true;
        judge_pages(e, &pages, size);
        e->lost = false;
    }
    sim_pages_free(&pages);
}

static void try_it(enumeration *e)
{
    judge(e, e->size, e->n);
    if (e->base_size != e->size && e->left)
        judge(e, e->base_size, e->n);
}

/* ---- subsets ---- */

static void all_subsets(enumeration *e, bool of_blocks)
{
    uint32_t bits = of_blocks ? e->blocks : (uint32_t)e->n;
    for (uint64_t mask = 0; mask < UINT64_C(1) << bits && e->left; mask++) {
        for (size_t i = 0; i < e->n; i++)
            e->in[i] = mask >> (of_blocks ? e->units[i].block : i) & 1;
        try_it(e);
    }
}

static void prefixes(enumeration *e, unsigned count)
{
    size_t step = e->n / count + 1;
    for (size_t upto = step; upto < e->n && e->left; upto += step) {
        for (size_t i = 0; i < e->n; i++)
            e->in[i] = i < upto;
        try_it(e);
    }
}

/* All but one (rest 1) or only one (rest 0). */
static void ones(enumeration *e, unsigned count, uint8_t rest)
{
    size_t step = e->n / count + 1;
    for (size_t one = sim_random(&e->random) % step; one < e->n && e->left; one += step) {
        memset(e->in, rest, e->n);
        e->in[one] = !rest;
        try_it(e);
    }
}

static void sample(enumeration *e)
{
    uint64_t r = sim_random(&e->random), salt = sim_random(&e->random);
    unsigned grain = r % 3, density = 1 + (r >> 8) % 7;
    for (size_t i = 0; i < e->n; i++) {
        uint64_t h = salt + (grain == 0 ? i : grain == 1 ? e->units[i].block : e->units[i].write);
        e->in[i] = sim_random(&h) % 8 < density;
    }
    if (e->plan->noise && r >> 16 & 1)
        judge(e, e->size, (size_t)(sim_random(&e->random) % e->n));
    else
        try_it(e);
}

static void try_subsets(enumeration *e)
{
    unsigned share = e->left / 8 + 1;
    memset(e->in, 0, e->n);
    try_it(e);
    memset(e->in, 1, e->n);
    try_it(e);
    if (e->n < 20 && 1u << e->n <= e->left) {
        all_subsets(e, false);
        e->tally->whole_epochs++;
        return;
    }
    if (e->blocks < 20 && 1u << e->blocks <= e->left / 2 + 1)
        all_subsets(e, true);
    prefixes(e, share);
    ones(e, share, 1);
    ones(e, share, 0);
    for (unsigned tries = 4 * e->left; e->left && tries; tries--) /* what was met before does not count */
        sample(e);
}

/* ---- from flush to flush ---- */

/* Where a segment is begun again: the epochs next to that, and some of those until the next checkpoint. */
static bool is_looked_at(const enumeration *e)
{
    return !e->plan->segment || (e->anew > 0 && (e->anew <= 3 || e->anew % 128 == 0 || e->super_written));
}

static void end_epoch(enumeration *e, bool flushed)
{
    if ((e->n || e->size != e->base_size) && e->moment.begun >= e->plan->first && is_looked_at(e)) {
        if (!e->in) /* only the length changed */
            e->in = need(malloc(1));
        e->moment.log_bytes = e->since[0] + e->since[1];
        e->left = e->plan->per_epoch;
        try_subsets(e);
        e->tally->epochs++;
    }
    if (!flushed)
        return;
    e->anew += e->anew > 0;
    for (size_t i = 0; i < e->n; i++)
        land(&e->base, &e->units[i]);
    e->base_size = e->size;
    e->n = 0;
    e->blocks = e->writes = 0;
    e->moment.epoch++;
    if (e->super_written) { /* a checkpoint is durable */
        e->since[1] = e->since[0];
        e->since[0] = 0;
        e->super_written = false;
        e->anew = 0;
    }
}

void crash_enumerate(const sim_trace *trace, const crash_plan *plan, crash_tally *tally)
{
    enumeration e = {.plan = plan, .tally = tally, .base_size = plan->start_size, .size = plan->start_size, .random = plan->seed};
    sim_pages_share(&e.base, plan->start);
    for (size_t i = 0; i < trace->n; i++) {
        const sim_event *ev = &trace->events[i];
        if (ev->kind == SIM_WROTE)
            note_write(&e, ev);
        else if (ev->kind == SIM_GREW)
            e.size = ev->offset;
        else if (ev->kind == SIM_FLUSHED && !plan->no_flush)
            end_epoch(&e, true);
        else if (ev->kind == SIM_NOTED && ev->what == CRASH_BEGUN)
            e.moment.begun = ev->offset;
        else if (ev->kind == SIM_NOTED && ev->what == CRASH_ACKED)
            e.moment.acked = ev->offset;
    }
    end_epoch(&e, false);
    sim_pages_free(&e.base);
    free(e.units);
    free(e.in);
}
