/* SPDX-License-Identifier: ISC */
/* back_ring.c: a back end's work: requests are taken from the rings, run on the disk, answered. See back.h. */
#include "io/xen/back_private.h"

#include <assert.h>

/* ---- rings ---- */

/* The loopback's pages of one share lie in a row; a ring in pieces is none of its making. */
static bool in_a_row(const back_ring *r)
{
    for (unsigned i = 1; i < r->pages; i++) {
        if ((uint8_t *)r->maps[i] != (uint8_t *)r->maps[0] + (size_t)i * CMB_XEN_PAGE)
            return false;
    }
    return true;
}

int cmb_back_ring_map(cmb_xen_back *b, back_ring *r, unsigned order)
{
    r->pages = 1u << order;
    r->entries = cmb_xen_ring_entries(r->pages);
    int error = cmb_xen_end_map(b->end, b->front_domid, r->refs, r->pages, /* write= */ true, r->maps);
    if (error)
        return error;
    r->is_mapped = true;
    r->shared = r->maps[0];
    r->requests = r->responses = r->pushed = cmb_xen_index_read(&r->shared->rsp_prod);
    return in_a_row(r) ? 0 : cmb_fail(CMB_EIO, "%s: the pages of a ring do not lie in a row", b->home);
}

void cmb_back_ring_unmap(cmb_xen_back *b, back_ring *r)
{
    if (r->is_mapped)
        cmb_xen_end_unmap(b->end, r->refs, r->pages);
    *r = (back_ring){0};
}

/* ---- memory of requests ---- */

static void unmap_job(cmb_xen_back *b, back_job *job)
{
    uint32_t refs[CMB_XEN_SEGMENTS_MAX];
    unsigned n = 0;
    for (unsigned i = 0; i < job->segments; i++) {
        if (job->mapped[i])
            refs[n++] = job->segment[i].gref;
        job->mapped[i] = false;
    }
    if (n)
        cmb_xen_end_unmap(b->end, refs, n);
}

/* A page that stays mapped if it may; `*out_alone`: it does not. */
static int map_page(cmb_xen_back *b, uint32_t ref, bool write, void **out_page, bool *out_alone)
{
    bool may = b->persistent && ref < BACK_GRANTS;
    if (may && b->kept[ref]) {
        *out_page = b->kept[ref];
        *out_alone = false;
        return 0;
    }
    may = may && (b->options.persistent_max == 0 || b->kept_count < b->options.persistent_max);
    int error = cmb_xen_end_map(b->end, b->front_domid, &ref, 1, write || may, out_page);
    if (error)
        return error;
    if (may) {
        b->kept[ref] = *out_page;
        b->kept_count++;
    }
    *out_alone = !may;
    return 0;
}

/* Pages for this request alone, in one call. */
static int map_alone(cmb_xen_back *b, back_job *job, bool write)
{
    uint32_t refs[CMB_XEN_SEGMENTS_MAX];
    for (unsigned i = 0; i < job->segments; i++)
        refs[i] = job->segment[i].gref;
    int error = cmb_xen_end_map(b->end, b->front_domid, refs, job->segments, write, job->page);
    for (unsigned i = 0; i < job->segments; i++)
        job->mapped[i] = error == 0;
    return error;
}

static int map_job(cmb_xen_back *b, back_job *job)
{
    bool write = job->operation == BLKIF_OP_READ;
    if (!b->persistent)
        return map_alone(b, job, write);
    for (unsigned i = 0; i < job->segments; i++) {
        int error = map_page(b, job->segment[i].gref, write, &job->page[i], &job->mapped[i]);
        if (error)
            return error;
    }
    return 0;
}

/* ---- reading requests; what is wrong with them is answered with an error ---- */

static bool read_directory(cmb_xen_back *b, back_job *job, const struct blkif_request_indirect *req)
{
    void *page;
    bool alone;
    if (req->nr_segments == 0 || req->nr_segments > b->options.segments || req->nr_segments > CMB_XEN_SEGMENTS_MAX)
        return false;
    if (map_page(b, req->indirect_grefs[0], /* write= */ false, &page, &alone))
        return false;
    memcpy(job->segment, page, req->nr_segments * sizeof *job->segment);
    if (alone)
        cmb_xen_end_unmap(b->end, &req->indirect_grefs[0], 1);
    job->segments = req->nr_segments;
    job->operation = req->indirect_op;
    return true;
}

static bool measure_segments(cmb_xen_back *b, back_job *job)
{
    job->length = 0;
    for (unsigned i = 0; i < job->segments; i++) {
        const struct blkif_request_segment *s = &job->segment[i];
        if (s->last_sect >= CMB_XEN_PAGE_SECTORS || s->first_sect > s->last_sect)
            return false;
        job->length += (s->last_sect - s->first_sect + 1u) * CMB_XEN_SECTOR;
    }
    uint64_t size = atomic_load(&b->size), unit = b->options.sector_size ? b->options.sector_size : CMB_XEN_SECTOR;
    return (job->offset | job->length) % unit == 0 && job->offset <= size && job->length <= size - job->offset;
}

static bool read_transfer(cmb_xen_back *b, back_job *job, const union blkif_sring_entry *entry)
{
    uint64_t sector = entry->req.sector_number;
    job->operation = entry->req.operation;
    if (entry->req.operation == BLKIF_OP_INDIRECT) {
        struct blkif_request_indirect req;
        memcpy(&req, entry, sizeof req);
        sector = req.sector_number;
        if (!read_directory(b, job, &req))
            return false;
    } else {
        if (entry->req.nr_segments == 0 || entry->req.nr_segments > BLKIF_MAX_SEGMENTS_PER_REQUEST)
            return false;
        job->segments = entry->req.nr_segments;
        memcpy(job->segment, entry->req.seg, job->segments * sizeof *job->segment);
    }
    if (job->operation != BLKIF_OP_READ && (job->operation != BLKIF_OP_WRITE || b->options.read_only))
        return false;
    if (sector > UINT64_MAX / CMB_XEN_SECTOR)
        return false;
    job->offset = sector * CMB_XEN_SECTOR;
    return measure_segments(b, job) && map_job(b, job) == 0;
}

static bool read_discard(cmb_xen_back *b, back_job *job, const union blkif_sring_entry *entry)
{
    struct blkif_request_discard req;
    memcpy(&req, entry, sizeof req);
    uint64_t sectors = atomic_load(&b->size) / CMB_XEN_SECTOR;
    if (b->options.read_only || req.sector_number > sectors || req.nr_sectors > sectors - req.sector_number)
        return false;
    job->offset = req.sector_number * CMB_XEN_SECTOR;
    job->length = req.nr_sectors * CMB_XEN_SECTOR;
    return true;
}

/* ---- answering ---- */

static void put_response(back_ring *r, uint64_t id, uint8_t operation, int16_t status)
{
    struct blkif_response made = {.id = id, .operation = operation, .status = status};
    memcpy(&r->shared->ring[r->responses++ & (r->entries - 1)].rsp, &made, sizeof made);
}

static void push(cmb_xen_back *b, back_ring *r)
{
    cmb_xen_platform *p = cmb_xen_end_platform(b->end);
    unsigned old = r->pushed;
    if (old == r->responses)
        return;
    cmb_xen_index_write(&r->shared->rsp_prod, r->responses);
    r->pushed = r->responses;
    if (cmb_xen_must_notify(cmb_xen_index_read(&r->shared->rsp_event), old, r->responses))
        p->ops->notify(p, r->port);
}

static void job_free(cmb_xen_back *b, back_job *job)
{
    if (job->fault == CMB_XEN_FAULT_KEEP) {
        job->next = b->hoard;
        b->hoard = job;
        return;
    }
    unmap_job(b, job);
    job->next = b->free;
    b->free = job;
}

static void answer(cmb_xen_back *b, back_job *job)
{
    back_ring *r = job->ring;
    uint64_t id = job->id;
    int16_t status = job->status;
    if (job->fault == CMB_XEN_FAULT_BAD_ID)
        id ^= (uint64_t)1 << 32;
    if (job->fault == CMB_XEN_FAULT_BAD_STATUS)
        status = 77;
    cmb_xen_fault_kind fault = job->fault;
    uint8_t told = job->told;
    b->busy--;
    job_free(b, job); /* unmapped before the other end hears of it */
    put_response(r, id, told, status);
    if (fault == CMB_XEN_FAULT_DUPLICATE)
        put_response(r, id, told, status);
    if (fault == CMB_XEN_FAULT_BAD_INDEX)
        r->responses += 1000;
}

/* Answers what was held back long enough; everything that is held when nothing else will come. */
static void answer_held(cmb_xen_back *b, bool all)
{
    back_job **at = &b->held;
    while (*at) {
        back_job *job = *at;
        if (job->delay && !all) {
            at = &job->next;
            continue;
        }
        *at = job->next;
        answer(b, job);
    }
    b->held_end = at;
}

static void job_done(cmb_xen_back *b, back_job *job)
{
    if (job->fault == CMB_XEN_FAULT_LATE) {
        job->next = NULL;
        *b->held_end = job;
        b->held_end = &job->next;
        return;
    }
    answer(b, job);
    for (back_job *held = b->held; held; held = held->next)
        held->delay -= held->delay > 0;
    answer_held(b, false);
}

/* ---- running ---- */

static cmb_xen_fault_kind judge(cmb_xen_back *b, back_job *job)
{
    cmb_xen_fault_kind kind = 0;
    for (size_t i = 0; i < b->options.fault_count; i++) {
        const cmb_xen_fault *rule = &b->options.faults[i];
        if (rule->op != CMB_XEN_OP_ANY && rule->op != job->told)
            continue;
        uint64_t n = b->seen[i]++;
        bool due = n == rule->first || (rule->every && n > rule->first && (n - rule->first) % rule->every == 0);
        if (!due || (rule->times && b->fired[i] == rule->times) || kind)
            continue;
        b->fired[i]++;
        kind = rule->kind;
        job->delay = rule->count;
    }
    return kind;
}

static void disk_done(cmb_xen_back *b, const cmb_completion *done)
{
    back_job *job = done->user, *next;
    bool again = done->result && job->merged; /* whose error it is shows when each is run by itself */
    b->running--;
    for (; job; job = next) {
        next = job->merged;
        job->merged = NULL;
        if (again) {
            job->next = b->again;
            b->again = job;
            continue;
        }
        if (done->result)
            job->status = done->result == CMB_ENOTSUP ? BLKIF_RSP_EOPNOTSUPP : BLKIF_RSP_ERROR;
        if (--job->running == 0)
            job_done(b, job);
    }
}

static void disk_reap(cmb_xen_back *b, unsigned min)
{
    cmb_completion done[BACK_BATCH];
    int n = b->queue->dev->ops->reap(b->queue, done, BACK_BATCH, min);
    for (int i = 0; i < n; i++)
        disk_done(b, &done[i]);
}

static void disk_send(cmb_xen_back *b)
{
    b->last = NULL;
    for (unsigned sent = 0, n = b->unsent_count; sent < n;) {
        int taken = b->queue->dev->ops->submit(b->queue, &b->unsent[sent], n - sent);
        if (taken < 0)
            disk_done(b, &(cmb_completion){.user = b->unsent[sent++].user, .result = taken});
        else if (taken == 0)
            disk_reap(b, 1);
        else
            sent += (unsigned)taken;
    }
    b->unsent_count = 0;
}

/* Requests of few segments that go on one where the other ends, on the disk and in memory, are one to the disk. */
static bool merge(cmb_xen_back *b, back_job *job, const cmb_request *request)
{
    cmb_request *into = b->last ? &b->unsent[b->unsent_count - 1] : NULL;
    if (!into || into->op != request->op || into->offset + into->length != request->offset
        || (uint8_t *)into->buffer + into->length != request->buffer || into->length + request->length > BACK_MERGED)
        return false;
    into->length += request->length;
    b->last->merged = job;
    b->last = job;
    job->running++;
    return true;
}

/* The caller holds the job by a part of its own until all are handed over. `whole`: it is all that there is to do for it. */
static void disk_start(cmb_xen_back *b, back_job *job, cmb_request request, bool whole)
{
    if (whole && merge(b, job, &request))
        return;
    if (b->unsent_count == BACK_BATCH)
        disk_send(b);
    request.user = job;
    b->unsent[b->unsent_count++] = request;
    b->last = whole ? job : NULL;
    job->running++;
    b->running++;
}

/* Segments that lie in a row in memory become one request of the disk's. */
static void run_transfer(cmb_xen_back *b, back_job *job, bool alone)
{
    bool read = job->operation == BLKIF_OP_READ;
    cmb_request request = {.op = read ? CMB_OP_READ : CMB_OP_WRITE,
                           .flags = read && b->options.uncached ? CMB_IO_UNCACHED : 0,
                           .offset = job->offset};
    for (unsigned i = 0; i < job->segments; i++) {
        const struct blkif_request_segment *s = &job->segment[i];
        uint8_t *at = (uint8_t *)job->page[i] + s->first_sect * CMB_XEN_SECTOR;
        uint32_t n = (s->last_sect - s->first_sect + 1u) * CMB_XEN_SECTOR;
        if (request.length && (uint8_t *)request.buffer + request.length != at) {
            disk_start(b, job, request, /* whole= */ false);
            request.offset += request.length;
            request.length = 0;
        }
        if (request.length == 0)
            request.buffer = at;
        request.length += n;
    }
    disk_start(b, job, request, /* whole= */ !alone && !b->shuffle && request.offset == job->offset);
}

/* Nobody joins these, so each has its own error now. */
static void run_again(cmb_xen_back *b)
{
    while (b->again) {
        for (back_job *job; (job = b->again);) {
            b->again = job->next;
            run_transfer(b, job, /* alone= */ true);
            job->running--; /* for the request that failed */
        }
        disk_send(b);
    }
}

static bool offered(const cmb_xen_back *b, uint8_t operation)
{
    const cmb_xen_back_options *o = &b->options;
    switch (operation) {
    case BLKIF_OP_FLUSH_DISKCACHE:
        return o->flush || o->flush_hidden;
    case BLKIF_OP_WRITE_BARRIER:
        return o->barrier;
    case BLKIF_OP_DISCARD:
        return o->discard;
    case BLKIF_OP_INDIRECT:
        return o->segments != 0;
    default:
        return operation == BLKIF_OP_READ || operation == BLKIF_OP_WRITE;
    }
}

static void run(cmb_xen_back *b, back_job *job, const union blkif_sring_entry *entry)
{
    job->running = 1;
    b->running++;
    if (job->fault == CMB_XEN_FAULT_ERROR) {
        job->status = BLKIF_RSP_ERROR;
    } else if (job->fault == CMB_XEN_FAULT_UNSUPPORTED || !offered(b, job->told)) {
        job->status = BLKIF_RSP_EOPNOTSUPP;
    } else if (job->told == BLKIF_OP_FLUSH_DISKCACHE || job->told == BLKIF_OP_WRITE_BARRIER) {
        if (entry->req.nr_segments)
            job->status = BLKIF_RSP_ERROR; /* a barrier that writes: nothing of that is done here */
        else
            disk_start(b, job, (cmb_request){.op = CMB_OP_FLUSH}, /* whole= */ false);
    } else if (job->told == BLKIF_OP_DISCARD) {
        job->status = read_discard(b, job, entry) ? BLKIF_RSP_OKAY : BLKIF_RSP_ERROR;
        if (job->status == BLKIF_RSP_OKAY)
            disk_start(b, job, (cmb_request){.op = CMB_OP_DISCARD, .offset = job->offset, .length = job->length},
                       /* whole= */ false);
    } else {
        job->status = read_transfer(b, job, entry) ? BLKIF_RSP_OKAY : BLKIF_RSP_ERROR;
        if (job->status == BLKIF_RSP_OKAY)
            run_transfer(b, job, /* alone= */ false);
    }
    b->running--;
    if (--job->running == 0)
        job_done(b, job);
}

/* ---- taking ---- */

typedef struct taken {
    union blkif_sring_entry entry;
    back_ring *ring;
} taken;

static unsigned take_some(cmb_xen_back *b, back_ring *r, taken *out, unsigned room)
{
    unsigned produced = cmb_xen_index_read(&r->shared->req_prod), n = 0;
    if (produced - r->requests > r->entries)
        produced = r->requests; /* a front end that is beyond reason is not served */
    for (; r->requests != produced && n < room; n++, r->requests++) {
        memcpy(&out[n].entry, &r->shared->ring[r->requests & (r->entries - 1)], sizeof out[n].entry);
        __asm__ volatile("" : : "r"(&out[n]) : "memory"); /* that copy is what is looked at from here on */
        out[n].ring = r;
    }
    return n;
}

static void shuffle(cmb_xen_back *b, taken *some, unsigned n)
{
    for (unsigned i = n; i > 1; i--) {
        b->shuffle = cmb_hash64(&b->shuffle, sizeof b->shuffle, i);
        unsigned j = (unsigned)(b->shuffle % i);
        taken t = some[i - 1];
        some[i - 1] = some[j];
        some[j] = t;
    }
}

static void begin(cmb_xen_back *b, const taken *t)
{
    back_job *job = b->free;
    assert(job);
    b->free = job->next;
    job->ring = t->ring;
    job->told = job->operation = t->entry.req.operation;
    job->segments = 0;
    job->status = BLKIF_RSP_OKAY;
    job->id = t->entry.req.id;
    if (job->told == BLKIF_OP_INDIRECT)
        memcpy(&job->id, (const uint8_t *)&t->entry + offsetof(struct blkif_request_indirect, id), sizeof job->id);
    job->fault = judge(b, job);
    if (job->fault == CMB_XEN_FAULT_DIE) {
        atomic_store(&b->killed, true);
        return;
    }
    if (job->told < BACK_OPS)
        atomic_fetch_add(&b->served[job->told], 1);
    run(b, job, &t->entry);
}

static unsigned jobs_free(const cmb_xen_back *b, unsigned most)
{
    unsigned n = 0;
    for (const back_job *job = b->free; job && n < most; job = job->next)
        n++;
    return n;
}

bool cmb_back_take(cmb_xen_back *b)
{
    taken some[BACK_BATCH];
    unsigned n = 0, room = jobs_free(b, BACK_BATCH);
    for (unsigned i = 0; i < b->ring_count; i++)
        n += take_some(b, &b->rings[i], &some[n], room - n);
    b->busy += n;
    if (b->shuffle)
        shuffle(b, some, n);
    for (unsigned i = 0; i < n && !atomic_load(&b->killed); i++)
        begin(b, &some[i]);
    if (!atomic_load(&b->killed))
        disk_send(b);
    bool more = n > 0;
    for (unsigned i = 0; i < b->ring_count && !more; i++) {
        back_ring *r = &b->rings[i];
        cmb_xen_index_write(&r->shared->req_event, r->requests + 1);
        unsigned waiting = cmb_xen_index_read(&r->shared->req_prod) - r->requests;
        more = waiting && waiting <= r->entries;
    }
    return more;
}

void cmb_back_finish(cmb_xen_back *b, bool wait)
{
    if (b->running)
        disk_reap(b, wait ? 1 : 0);
    run_again(b);
    answer_held(b, /* all= */ b->running == 0);
    for (unsigned i = 0; i < b->ring_count; i++)
        push(b, &b->rings[i]);
}

void cmb_back_drop(cmb_xen_back *b)
{
    b->running -= b->unsent_count;
    b->unsent_count = 0;
    b->last = b->again = NULL;
    while (b->running) {
        cmb_completion done[BACK_BATCH];
        int n = b->queue->dev->ops->reap(b->queue, done, BACK_BATCH, 1);
        b->running -= (unsigned)n;
    }
    b->torn = b->busy != 0;
    b->busy = 0;
    b->held = b->hoard = b->free = NULL;
    b->held_end = &b->held;
    for (unsigned i = 0; i < b->job_count; i++)
        unmap_job(b, &b->jobs[i]);
    for (uint32_t ref = 0; b->kept && ref < BACK_GRANTS && b->kept_count; ref++) {
        if (!b->kept[ref])
            continue;
        cmb_xen_end_unmap(b->end, &ref, 1);
        b->kept[ref] = NULL;
        b->kept_count--;
    }
}
