/* SPDX-License-Identifier: ISC */
/*
 * scrub.c: verification in the background (scrub.h). A step is a piece of a segment; the first one of a pass looks at the
 * superblocks and the tables as well. The next segment is looked for when one is done, since they come and go meanwhile.
 */
#include <cambium/scrub.h>

#include <stdio.h>

#include "btree/node.h"
#include "store/report.h"

#define STEP_BYTES (1u << 20)
#define PASS_BEGUN 1u /* a position: what a pass begins with is done, and no segment found yet; no frame lies there */

struct cmb_scrub {
    cmb_store *store;
    cmb_scrub_options options;
    cmb_fsck_options report_options;
    cmb_report report;
    cmb_scanner *scanner;
    cmb_scrub_status status;
    uint64_t resume;    /* where the next step goes on: behind what was told last */
    uint64_t generation; /* of the checkpoint when it was opened */
    int64_t since;      /* when the rate's reckoning began: microseconds */
    uint64_t reckoned;  /* bytes since then */
};

int cmb_scrub_open(cmb_store *store, const cmb_scrub_options *options, cmb_scrub **out_scrub)
{
    cmb_scrub *s = cmb_zalloc(&store->alloc, sizeof *s);
    if (!s)
        return CMB_ENOMEM;
    s->store = store;
    s->options = *options;
    /* A segment is begun anew: inside of it only a scan knows where frames begin. */
    uint64_t size = UINT64_C(1) << cmb_log_params(store->log)->segment_shift;
    s->status.position = (cmb_scrub_position){options->start.passes, options->start.address & ~(size - 1)};
    s->report_options = (cmb_fsck_options){.on_finding = options->on_finding, .ctx = options->ctx};
    cmb_report_init(&s->report, store, &s->report_options);
    int error = cmb_scanner_open(store->log, CMB_IO_UNCACHED, &s->scanner);
    if (error) {
        cmb_scrub_close(s);
        return error;
    }
    cmb_log_stats stats;
    cmb_log_get_stats(store->log, &stats);
    s->generation = stats.generation;
    s->since = store->env.now(store->env.ctx);
    *out_scrub = s;
    return 0;
}

void cmb_scrub_close(cmb_scrub *s)
{
    if (!s)
        return;
    cmb_scanner_close(s->scanner);
    cmb_report_destroy(&s->report);
    cmb_release(&s->store->alloc, s, sizeof *s);
}

void cmb_scrub_get_status(const cmb_scrub *s, cmb_scrub_status *out_status)
{
    *out_status = s->status;
}

/* ---- findings ---- */

/* The detail text is the thread's. */
static int tell(cmb_scrub *s, cmb_finding_number number, int error, uint64_t addr)
{
    error = cmb_report_add(&s->report, &(cmb_damage){.number = number, .error = error, .addr = addr}, NULL);
    s->status.findings = s->report.findings;
    return error;
}

static int on_table(void *ctx, int error, const char *text)
{
    char copy[512];
    if (error == CMB_ENOMEM)
        return error;
    snprintf(copy, sizeof copy, "%s", text);
    return tell(ctx, CMB_FINDING_TABLE_DAMAGED, cmb_fail(error, "%s", copy), 0);
}

static int check_record(cmb_scrub *s, const cmb_scan_event *ev)
{
    cmb_noderef ref;
    cmb_node node;
    bool is_node = ev->kind == CMB_RECORD_LEAF || ev->kind == CMB_RECORD_NODE;
    int error = is_node ? cmb_node_verify_alone(s->store->tree.hash, ev->record, ev->length, ev->addr, &ref, &node)
                        : cmb_record_check(ev->record, ev->length, ev->addr);
    return error ? tell(s, CMB_FINDING_RECORD_DAMAGED, error, ev->addr) : 0;
}

static int on_event(void *ctx, const cmb_scan_event *ev)
{
    cmb_scrub *s = ctx;
    if (ev->error == CMB_ENOMEM)
        return ev->error;
    s->resume = ev->frame_addr + (ev->frame_length ? ev->frame_length : CMB_BLOCK);
    if (ev->error)
        return tell(s, ev->addr == ev->frame_addr ? CMB_FINDING_FRAME_DAMAGED : CMB_FINDING_RECORD_DAMAGED, ev->error, ev->addr);
    if (ev->record)
        return check_record(s, ev);
    s->status.bytes += ev->frame_length;
    s->reckoned += ev->frame_length;
    return 0;
}

/* ---- steps ---- */

static bool is_checkpointing(cmb_store *store)
{
    cmb_mutex_lock(&store->lock);
    bool checkpointing = store->checkpointing;
    cmb_mutex_unlock(&store->lock);
    return checkpointing;
}

/* Copies of the newest superblock that are damaged, and were not just being written. */
static int check_supers(cmb_scrub *s, unsigned *out_bad)
{
    cmb_log_stats before, after;
    unsigned bad = 0;
    *out_bad = 0;
    for (unsigned i = 0; i < 3; i++) { /* a writer in another process is told by looking again */
        cmb_log_get_stats(s->store->log, &before);
        bool busy = is_checkpointing(s->store);
        int error = cmb_log_check_supers(s->store->log, &bad);
        cmb_log_get_stats(s->store->log, &after);
        if (error || !bad || busy || is_checkpointing(s->store) || before.generation != after.generation)
            return error;
    }
    *out_bad = after.sealed || after.generation > s->generation ? bad : 0;
    return 0;
}

static int begin_pass(cmb_scrub *s)
{
    unsigned bad;
    uint64_t pages;
    int error = check_supers(s, &bad);
    if (!error && bad)
        error = tell(s, CMB_FINDING_SUPERBLOCK_DAMAGED, cmb_fail(CMB_ECORRUPT, "%u copies of the newest superblock are damaged",
                                                                (unsigned)__builtin_popcount(bad)), 0);
    return error ? error : cmb_log_check_tables(s->store->log, &pages, on_table, s);
}

/* The next segment's start. What cannot be found of the table its check told of. */
static int find_segment(cmb_scrub *s, uint64_t from, uint64_t *out_start)
{
    unsigned shift = cmb_log_params(s->store->log)->segment_shift;
    uint64_t segment;
    int error = cmb_log_next_segment(s->store->log, from >> shift, &segment);
    if (!error)
        *out_start = segment == UINT64_MAX ? UINT64_MAX : segment << shift;
    return error;
}

static int step(cmb_scrub *s)
{
    uint64_t *at = &s->status.position.address, size = UINT64_C(1) << cmb_log_params(s->store->log)->segment_shift;
    uint64_t from = *at, next;
    int error = *at == 0 ? begin_pass(s) : 0;
    if (*at == 0 && error != CMB_ENOMEM) /* what the pass begins with is done, whatever was found */
        *at = PASS_BEGUN;
    if (!error && (*at % size == 0 || *at == PASS_BEGUN))
        error = find_segment(s, *at, &from);
    if (error)
        return error;
    if (from == UINT64_MAX) {
        s->status.position = (cmb_scrub_position){s->status.position.passes + 1, 0};
        return 0;
    }
    s->resume = from;
    error = cmb_scanner_run(s->scanner, from, STEP_BYTES, on_event, s, &next);
    if (error == CMB_ENOTFOUND) { /* given back meanwhile */
        next = (from / size + 1) * size;
        error = 0;
    }
    *at = error ? s->resume : next;
    return error;
}

/* How long what was read ought to have taken, less what it took. Reckoning starts anew after a pause, which earns nothing. */
static uint64_t wait_for(cmb_scrub *s)
{
    uint64_t rate = s->options.bytes_per_second;
    int64_t now = s->store->env.now(s->store->env.ctx);
    if (!rate)
        return 0;
    double due = (double)s->reckoned * 1e6 / (double)rate, took = (double)(now - s->since);
    if (took >= 0 && took < due && due - took < 1e15)
        return (uint64_t)(due - took);
    s->since = now;
    s->reckoned = 0;
    return 0;
}

int cmb_scrub_step(cmb_scrub *s, uint64_t *out_wait)
{
    int error = step(s);
    uint64_t wait = wait_for(s);
    if (!error)
        *out_wait = wait;
    return error;
}
