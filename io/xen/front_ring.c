/* SPDX-License-Identifier: ISC */
/* front_ring.c: one ring: parts of requests go in, responses come out. See front.h. */
#include "io/xen/front.h"

#include <assert.h>

/* ---- rows of slots ---- */

void cmb_row_push(front_row *row, front_slot *slot)
{
    slot->next = NULL;
    slot->waiting = true;
    if (row->last)
        row->last->next = slot;
    else
        row->first = slot;
    row->last = slot;
}

front_slot *cmb_row_pop(front_row *row)
{
    front_slot *slot = row->first;
    if (!slot)
        return NULL;
    row->first = slot->next;
    if (!row->first)
        row->last = NULL;
    slot->waiting = false;
    return slot;
}

void cmb_slot_finish(front *f, front_slot *slot)
{
    front_queue *q = slot->queue;
    assert(slot->parts == 0 && !slot->waiting);
    q->in_flight--;
    cmb_ready_push(&q->ready, (cmb_completion){
                                  .user = slot->request.user, .result = slot->error, .generation = f->generation});
    slot->next = q->free;
    q->free = slot;
}

void cmb_slot_queue(front *f, front_slot *slot)
{
    bool rings = f->ring_count && (f->state == FRONT_CONNECTED || f->state == FRONT_UNPLUGGED);
    slot->issued = 0;
    slot->restart = false;
    cmb_row_push(rings ? &f->rings[slot->queue->index % f->ring_count].waiting : &f->orphans, slot);
}

/* ---- opening and closing ---- */

static int shadows_make(front *f, front_ring *r)
{
    const cmb_allocator *alloc = &f->dev.alloc;
    r->shadows = cmb_zalloc(alloc, r->entries * sizeof *r->shadows);
    if (!r->shadows)
        return CMB_ENOMEM;
    if (f->platform->ops->grant) {
        r->lent_each = f->segments; /* which may become fewer later */
        r->lent = cmb_zalloc(alloc, (size_t)r->entries * r->lent_each * sizeof *r->lent);
        if (!r->lent)
            return CMB_ENOMEM;
    }
    for (unsigned i = 0; i < r->entries; i++) {
        r->shadows[i].next_free = i + 1;
        r->shadows[i].refs = r->lent ? &r->lent[(size_t)i * r->lent_each] : NULL;
    }
    return 0;
}

static int ring_fill(front *f, front_ring *r)
{
    cmb_xen_platform *p = f->platform;
    r->pages = 1u << f->ring_order;
    r->entries = cmb_xen_ring_entries(r->pages);
    int error = shadows_make(f, r);
    if (error)
        return error;
    void *memory;
    error = p->ops->share(p, f->back_id, r->pages, &memory, r->refs);
    if (error)
        return error;
    r->shared = memory;
    cmb_xen_index_write(&r->shared->req_event, 1);
    cmb_xen_index_write(&r->shared->rsp_event, 1);
    error = p->ops->port_open(p, f->back_id, &r->port);
    r->has_port = error == 0;
    return error;
}

int cmb_ring_open(front *f, front_ring *r)
{
    *r = (front_ring){0};
    int error = ring_fill(f, r);
    if (error)
        cmb_ring_close(f, r);
    return error;
}

void cmb_ring_close(front *f, front_ring *r)
{
    cmb_xen_platform *p = f->platform;
    const cmb_allocator *alloc = &f->dev.alloc;
    assert(f->in_rings == 0);
    if (r->has_port)
        p->ops->port_close(p, r->port);
    if (r->shared)
        (void)p->ops->unshare(p, r->shared, r->pages, r->refs);
    cmb_release(alloc, r->shadows, r->entries * sizeof *r->shadows);
    cmb_release(alloc, r->lent, (size_t)r->entries * r->lent_each * sizeof *r->lent);
    *r = (front_ring){0};
}

/* ---- shadows ---- */

static front_shadow *shadow_take(front_ring *r)
{
    front_shadow *s = &r->shadows[r->free];
    unsigned index = r->free;
    r->free = s->next_free;
    /* Never 0, and never that of an earlier part: a late second response to that one is found out. */
    *s = (front_shadow){.id = (++r->serial << 16) | index, .refs = s->refs};
    return s;
}

static unsigned pages_of(const front_shadow *s)
{
    return (s->length + CMB_XEN_PAGE - 1) / CMB_XEN_PAGE;
}

/*
 * Pages for all parts are taken together, and given back together after the last: those of a request lie in a row
 * then, however many parts it has. A request without a part in the ring holds none, so nobody waits for it.
 */
static unsigned slot_take(front *f, front_slot *slot, unsigned wanted, front_page **out_pages)
{
    uint64_t left = (slot->request.length - slot->issued + CMB_XEN_PAGE - 1) / CMB_XEN_PAGE;
    unsigned n = 0;
    if (!slot->pages) {
        (void)cmb_pool_take(f, left < CMB_XEN_SEGMENTS_MAX ? (unsigned)left : CMB_XEN_SEGMENTS_MAX, &slot->pages);
        for (slot->pages_end = &slot->pages; *slot->pages_end;)
            slot->pages_end = &(*slot->pages_end)->next;
    }
    front_page *first = slot->pages, *last = NULL;
    for (; n < wanted && slot->pages; n++) {
        last = slot->pages;
        slot->pages = last->next;
    }
    if (!slot->pages)
        slot->pages_end = &slot->pages;
    if (n) {
        last->next = NULL;
        *out_pages = first;
    }
    return n;
}

static void slot_give(front *f, front_slot *slot, front_page *pages)
{
    if (pages) {
        *slot->pages_end = pages;
        while (*slot->pages_end)
            slot->pages_end = &(*slot->pages_end)->next;
    }
    if (slot->parts)
        return;
    cmb_pool_give(f, slot->pages);
    slot->pages = NULL;
}

/* Gives back what the part, which its slot counts no more, holds. CMB_EBUSY: the back end keeps some of the caller's memory. */
static int shadow_release(front *f, front_ring *r, front_shadow *s)
{
    int error = s->lent ? cmb_lent_end(f, s->refs, pages_of(s)) : 0;
    slot_give(f, s->slot, s->pages);
    cmb_pool_give(f, s->directory);
    s->pages = s->directory = NULL;
    s->id = 0;
    s->next_free = r->free;
    r->free = (unsigned)(s - r->shadows);
    return error;
}

/* ---- issuing ---- */

/* What a back end keeps mapped must not be the caller's. */
static bool lendable(const front *f, const front_ring *r, const uint8_t *buffer, uint64_t length)
{
    return r->lent && !f->persistent && ((uintptr_t)buffer | length) % CMB_XEN_PAGE == 0;
}

/* Finds memory for up to `length` bytes of the part, and shortens it to what there is. 0: none at all just now. */
static uint32_t part_memory(front *f, front_ring *r, front_shadow *s, uint8_t *buffer, uint64_t length)
{
    uint64_t most = (uint64_t)f->segments * CMB_XEN_PAGE;
    uint32_t n = (uint32_t)(length < most ? length : most);
    bool write = s->operation == BLKIF_OP_WRITE;
    unsigned wanted = (n + CMB_XEN_PAGE - 1) / CMB_XEN_PAGE;
    if (wanted > BLKIF_MAX_SEGMENTS_PER_REQUEST && cmb_pool_take(f, 1, &s->directory) == 0) {
        n = BLKIF_MAX_SEGMENTS_PER_REQUEST * CMB_XEN_PAGE;
        wanted = BLKIF_MAX_SEGMENTS_PER_REQUEST;
    }
    if (lendable(f, r, buffer, n) && f->platform->ops->grant(f->platform, f->back_id, buffer, wanted, write, s->refs) == 0) {
        s->lent = true;
    } else {
        unsigned got = slot_take(f, s->slot, wanted, &s->pages);
        if (got < wanted)
            n = got * CMB_XEN_PAGE;
        if (write && n)
            cmb_pages_write(s->pages, buffer, n);
    }
    s->length = n;
    s->buffer = buffer;
    s->indirect = n > BLKIF_MAX_SEGMENTS_PER_REQUEST * CMB_XEN_PAGE;
    return n;
}

static void fill_segments(const front_shadow *s, struct blkif_request_segment out[CMB_XEN_SEGMENTS_MAX])
{
    const front_page *page = s->pages;
    assert(pages_of(s) <= CMB_XEN_SEGMENTS_MAX);
    memset(out, 0, pages_of(s) * sizeof *out);
    for (unsigned i = 0, n = pages_of(s); i < n; i++) {
        uint32_t left = s->length - i * CMB_XEN_PAGE, bytes = left < CMB_XEN_PAGE ? left : CMB_XEN_PAGE;
        out[i].gref = s->lent ? s->refs[i] : page->ref;
        out[i].last_sect = (uint8_t)(bytes / CMB_XEN_SECTOR - 1);
        page = s->lent ? NULL : page->next;
    }
}

static union blkif_sring_entry *next_entry(front *f, front_ring *r)
{
    f->in_rings++;
    return &r->shared->ring[r->requests++ & (r->entries - 1)];
}

/* What goes into shared memory is made aside, so that nothing there is ever read back, from zeros, padding and all. */
static void put_transfer(front *f, front_ring *r, const front_shadow *s, uint64_t offset)
{
    union blkif_sring_entry *entry = next_entry(f, r);
    uint64_t sector = offset / CMB_XEN_SECTOR;
    struct blkif_request_segment segments[CMB_XEN_SEGMENTS_MAX];
    fill_segments(s, segments);
    if (!s->indirect) {
        struct blkif_request made;
        memset(&made, 0, sizeof made);
        made.operation = s->operation;
        made.nr_segments = (uint8_t)pages_of(s);
        made.handle = (blkif_vdev_t)f->vdev;
        made.id = s->id;
        made.sector_number = sector;
        assert(made.nr_segments <= BLKIF_MAX_SEGMENTS_PER_REQUEST);
        memcpy(made.seg, segments, made.nr_segments * sizeof *segments);
        memcpy(&entry->req, &made, sizeof made);
        return;
    }
    memcpy(s->directory->at, segments, pages_of(s) * sizeof *segments);
    struct blkif_request_indirect made;
    memset(&made, 0, sizeof made);
    made.operation = BLKIF_OP_INDIRECT;
    made.indirect_op = s->operation;
    made.nr_segments = (uint16_t)pages_of(s);
    made.id = s->id;
    made.sector_number = sector;
    made.handle = (blkif_vdev_t)f->vdev;
    made.indirect_grefs[0] = s->directory->ref;
    memcpy(entry, &made, sizeof made);
}

/* False: no memory for it now. */
static bool issue_transfer(front *f, front_ring *r, front_slot *slot)
{
    const cmb_request *q = &slot->request;
    front_shadow *s = shadow_take(r);
    s->slot = slot;
    s->operation = q->op == CMB_OP_READ ? BLKIF_OP_READ : BLKIF_OP_WRITE;
    uint8_t *buffer = (uint8_t *)q->buffer + slot->issued;
    if (part_memory(f, r, s, buffer, q->length - slot->issued) == 0) {
        (void)shadow_release(f, r, s);
        if (f->in_rings == 0)
            slot->error = CMB_ENOMEM; /* nobody will give any back */
        return false;
    }
    put_transfer(f, r, s, q->offset + slot->issued);
    slot->issued += s->length;
    slot->parts++;
    return true;
}

static void issue_flush(front *f, front_ring *r, front_slot *slot)
{
    if (!f->flush && !f->barrier) {
        slot->error = CMB_ENODURABLE;
        return;
    }
    front_shadow *s = shadow_take(r);
    s->slot = slot;
    s->operation = f->flush ? BLKIF_OP_FLUSH_DISKCACHE : BLKIF_OP_WRITE_BARRIER;
    struct blkif_request made;
    memset(&made, 0, sizeof made);
    made.operation = s->operation;
    made.handle = (blkif_vdev_t)f->vdev;
    made.id = s->id;
    memcpy(&next_entry(f, r)->req, &made, sizeof made);
    slot->parts++;
}

/* What lies between the first and the last of the units that can be discarded; secure ones are told whole. */
static uint64_t discard_range(const front *f, uint64_t offset, uint64_t length, uint64_t *out_first)
{
    uint64_t g = f->granularity, shift = f->alignment % g;
    *out_first = offset;
    if (f->options.secure)
        return length;
    uint64_t begin = (offset + g - 1 - shift) / g * g + shift;
    if (offset < shift)
        begin = shift;
    uint64_t end = offset + length < shift ? 0 : (offset + length - shift) / g * g + shift;
    *out_first = begin;
    return end > begin ? end - begin : 0;
}

static void issue_discard(front *f, front_ring *r, front_slot *slot)
{
    uint64_t first, length = discard_range(f, slot->request.offset, slot->request.length, &first);
    if (!f->discard || (f->options.secure && !f->secure)) {
        slot->error = f->options.secure ? CMB_ENOTSUP : 0; /* a plain one is a hint */
        return;
    }
    if (length == 0)
        return;
    front_shadow *s = shadow_take(r);
    s->slot = slot;
    s->operation = BLKIF_OP_DISCARD;
    struct blkif_request_discard made;
    memset(&made, 0, sizeof made);
    made.operation = BLKIF_OP_DISCARD;
    made.flag = f->options.secure ? BLKIF_DISCARD_SECURE : 0;
    made.handle = (blkif_vdev_t)f->vdev;
    made.id = s->id;
    made.sector_number = first / CMB_XEN_SECTOR;
    made.nr_sectors = length / CMB_XEN_SECTOR;
    memcpy(next_entry(f, r), &made, sizeof made);
    slot->parts++;
}

/* Issues what it can of the row's first slot. True: it needs no more issuing, and has left the row. */
static bool issue_first(front *f, front_ring *r)
{
    front_slot *slot = r->waiting.first;
    while (!slot->error && !slot->restart && slot->issued < slot->request.length && slot->request.buffer) {
        if (r->free == r->entries)
            return false;
        if (!issue_transfer(f, r, slot) && !slot->error)
            return false;
    }
    if (slot->restart && slot->parts)
        return false;
    if (!slot->request.buffer && !slot->error) {
        if (r->free == r->entries)
            return false;
        if (slot->request.op == CMB_OP_FLUSH)
            issue_flush(f, r, slot);
        else
            issue_discard(f, r, slot);
    }
    cmb_row_pop(&r->waiting);
    if (slot->parts)
        return true;
    if (slot->restart && !slot->error)
        cmb_slot_queue(f, slot);
    else
        cmb_slot_finish(f, slot);
    return true;
}

/* The producer's index moves; who sleeps is woken. */
static void push(front *f, front_ring *r)
{
    unsigned old = r->pushed;
    if (old == r->requests)
        return;
    cmb_xen_index_write(&r->shared->req_prod, r->requests);
    r->pushed = r->requests;
    if (cmb_xen_must_notify(cmb_xen_index_read(&r->shared->req_event), old, r->requests))
        f->platform->ops->notify(f->platform, r->port);
}

void cmb_ring_issue(front *f, front_ring *r)
{
    while (r->waiting.first && issue_first(f, r))
        ;
    push(f, r);
}

/* ---- collecting ---- */

/* The operation is one that the back end had offered: what is done instead of it. */
static void unsupported(front *f, front_shadow *s)
{
    front_slot *slot = s->slot;
    if (s->indirect) {
        f->segments = BLKIF_MAX_SEGMENTS_PER_REQUEST;
        slot->restart = true;
    } else if (s->operation == BLKIF_OP_FLUSH_DISKCACHE || s->operation == BLKIF_OP_WRITE_BARRIER) {
        if (s->operation == BLKIF_OP_FLUSH_DISKCACHE)
            f->flush = false;
        else
            f->barrier = false;
        slot->restart = f->flush || f->barrier;
        if (!slot->restart)
            slot->error = CMB_ENODURABLE;
    } else if (s->operation == BLKIF_OP_DISCARD) {
        slot->error = f->options.secure ? CMB_ENOTSUP : 0; /* a plain one is a hint */
        f->discard = f->secure = false;
    } else {
        slot->error = CMB_EIO;
    }
}

static void copy_out(front *f, const front_shadow *s)
{
    cmb_pages_read(s->pages, s->buffer, s->length);
    f->copied += s->length;
}

static void part_done(front *f, front_ring *r, front_shadow *s, int status)
{
    front_slot *slot = s->slot;
    if (status == BLKIF_RSP_EOPNOTSUPP)
        unsupported(f, s);
    else if (status != BLKIF_RSP_OKAY)
        slot->error = CMB_EIO;
    else if (s->operation == BLKIF_OP_READ && !s->lent)
        copy_out(f, s);
    else if (s->operation == BLKIF_OP_FLUSH_DISKCACHE || s->operation == BLKIF_OP_WRITE_BARRIER)
        f->flushed = true;
    f->in_rings--;
    slot->parts--;
    if (shadow_release(f, r, s)) {
        slot->error = CMB_EIO;
        cmb_front_break(f, "the back end answered, and keeps memory of the request mapped");
    }
    if (slot->parts || slot->waiting)
        return;
    if (slot->restart && !slot->error)
        cmb_slot_queue(f, slot);
    else
        cmb_slot_finish(f, slot);
}

static bool take_response(front *f, front_ring *r)
{
    struct blkif_response got;
    memcpy(&got, &r->shared->ring[r->responses & (r->entries - 1)].rsp, sizeof got);
    __asm__ volatile("" : : "r"(&got) : "memory"); /* that copy is what is looked at from here on */
    uint64_t index = got.id & 0xffff;
    if (index >= r->entries || r->shadows[index].id != got.id || got.id == 0) {
        cmb_front_break(f, "the back end answers request %#llx, which is not in flight", (unsigned long long)got.id);
        return false;
    }
    r->responses++;
    part_done(f, r, &r->shadows[index], got.status);
    return f->state != FRONT_BROKEN;
}

bool cmb_ring_collect(front *f, front_ring *r, uint64_t most)
{
    uint64_t copied = f->copied;
    if (!r->shared)
        return false;
    for (unsigned seen, produced = cmb_xen_index_read(&r->shared->rsp_prod);; produced = seen) {
        if (produced - r->responses > r->pushed - r->responses) {
            cmb_front_break(f, "the back end claims %u responses to %u requests", produced - r->responses,
                            r->pushed - r->responses);
            return false;
        }
        while (r->responses != produced) {
            if (f->copied - copied >= most)
                return true;
            if (!take_response(f, r))
                return false;
        }
        cmb_xen_index_write(&r->shared->rsp_event, produced + 1);
        /* What was seen here is believed above, or an index that goes to and fro would keep us for ever. */
        seen = cmb_xen_index_read(&r->shared->rsp_prod);
        if (seen == produced)
            return false;
    }
}

static void abandon_part(front *f, front_ring *r, front_shadow *s, int error)
{
    front_slot *slot = s->slot;
    f->in_rings--;
    slot->parts--;
    int held = shadow_release(f, r, s);
    f->held = f->held || held;
    if (held || error)
        slot->error = held ? CMB_EIO : error;
    if (slot->parts || slot->waiting)
        return;
    if (slot->error)
        cmb_slot_finish(f, slot);
    else
        cmb_row_push(&f->orphans, slot);
}

void cmb_ring_abandon(front *f, front_ring *r, int error)
{
    for (unsigned i = 0; r->shadows && i < r->entries; i++) {
        if (r->shadows[i].id)
            abandon_part(f, r, &r->shadows[i], error);
    }
    for (front_slot *slot; (slot = cmb_row_pop(&r->waiting));) {
        if (!slot->error && error)
            slot->error = error;
        if (slot->error)
            cmb_slot_finish(f, slot);
        else
            cmb_row_push(&f->orphans, slot);
    }
}
