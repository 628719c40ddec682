/* SPDX-License-Identifier: ISC */
#include "store/facts.h"

#include <stdatomic.h>
#include <stdio.h>

#include "btree/value_private.h"

#define MEMORY_DEFAULT ((size_t)512 << 20)
#define THREADS_MAX 64u
#define FIRST_ITEMS 1024u

/* A CHUNK record. */
typedef struct chunk {
    uint64_t name, value; /* first 8 bytes of the chunk's name, and of a value that is this chunk alone */
    uint32_t place, length;
} chunk;

/* What is known of a logical segment, in the order of addresses. */
typedef struct part {
    uint64_t segment;
    cmb_segment_kind kind;
    cmb_node_facts *leaves;
    chunk *chunks;
    uint32_t n_leaves, n_chunks;
    _Atomic bool taken;   /* by one of the workers */
    _Atomic bool scanned; /* what is above is there, and stays as it is */
} part;

typedef struct worker {
    cmb_facts *facts;
    bool calls; /* of the thread that asks: tells of progress */
    cmb_thread thread;
    cmb_scanner *scanner;
    cmb_facts_room room;
    const part *part;  /* that is being scanned */
    bool losing;       /* `losses` is a stretch whose end is not known yet */
    cmb_lost losses;
    cmb_node_facts *leaves;
    chunk *chunks;
    uint32_t n_leaves, n_chunks, leaf_room, chunk_room;
} worker;

struct cmb_facts {
    cmb_store *store;
    cmb_facts_options options;
    part *parts; /* in the order of segments */
    size_t n_parts, capacity;
    worker *workers;     /* the first is the asking thread's, the others have threads of their own */
    unsigned n_workers, running;
    _Atomic size_t next; /* part to be scanned next, if it was not taken out of turn */
    _Atomic uint64_t frames, bytes;
    _Atomic size_t memory; /* of facts */
    _Atomic int error;     /* the first one: all stop */
    cmb_mutex lock;        /* the list of what is lost */
    cmb_cond scanned;      /* a part was, or nothing more will be */
    cmb_lost *lost;
    size_t n_lost, lost_capacity;
    uint64_t lost_total;
    /* the asking thread's: where it was last */
    size_t at;
    uint32_t leaf, chunk;
};

static uint32_t place_of(const cmb_facts *f, uint64_t addr)
{
    uint64_t size = UINT64_C(1) << cmb_log_params(f->store->log)->segment_shift;
    return (uint32_t)((addr & (size - 1)) / CMB_RECORD_ALIGN);
}

/* ---- one segment ---- */

static uint64_t segment_start(const cmb_facts *f, uint64_t segment)
{
    return segment << cmb_log_params(f->store->log)->segment_shift;
}

static int keep_lost(cmb_facts *f, const cmb_lost *what)
{
    int error = 0;
    cmb_mutex_lock(&f->lock);
    f->lost_total++;
    if (f->n_lost == f->lost_capacity && f->n_lost < CMB_LOST_MAX) {
        size_t capacity = f->lost_capacity ? 2 * f->lost_capacity : 16;
        cmb_lost *lost = cmb_resize(&f->store->alloc, f->lost, f->lost_capacity * sizeof *lost, capacity * sizeof *lost);
        error = lost ? 0 : CMB_ENOMEM;
        if (lost) {
            f->lost = lost;
            f->lost_capacity = capacity;
        }
    }
    if (!error && f->n_lost < CMB_LOST_MAX) { /* in order: segments are taken in theirs, so little is moved */
        cmb_lost *lost = &f->lost[f->n_lost++];
        for (; lost > f->lost && lost[-1].addr > what->addr; lost--)
            lost[0] = lost[-1];
        *lost = *what;
    }
    cmb_mutex_unlock(&f->lock);
    return error;
}

/* A damaged stretch, if there is one, ends here. */
static int end_lost(worker *w, uint64_t end)
{
    if (!w->losing)
        return 0;
    w->losing = false;
    if (!w->losses.end)
        w->losses.end = end;
    return keep_lost(w->facts, &w->losses);
}

/* From addr on; end 0: to where something intact begins. The detail text is the thread's. */
static int lose(worker *w, uint64_t addr, uint64_t end, bool record)
{
    cmb_lost lost = {.addr = addr, .end = end, .record = record, .kind = w->part->kind};
    snprintf(lost.text, sizeof lost.text, "%s", cmb_error_detail());
    int error = end_lost(w, addr);
    w->losing = true;
    w->losses = lost;
    return error;
}

static int make_room(const cmb_facts *f, void **items, uint32_t n, uint32_t *room, size_t size)
{
    if (n < *room)
        return 0;
    uint32_t grown = *room ? 2 * *room : FIRST_ITEMS;
    void *more = cmb_resize(&f->store->alloc, *items, *room * size, grown * size);
    if (!more)
        return CMB_ENOMEM;
    *items = more;
    *room = grown;
    return 0;
}

static int note_leaf(worker *w, const cmb_scan_event *ev)
{
    const cmb_tree *tree = &w->facts->store->tree;
    cmb_noderef ref;
    cmb_node node;
    if (cmb_node_verify_alone(tree->hash, ev->record, ev->length, ev->addr, &ref, &node))
        return 0;
    int error = make_room(w->facts, (void **)&w->leaves, w->n_leaves, &w->leaf_room, sizeof *w->leaves);
    if (!error)
        error = cmb_node_facts_of(tree, &node, &ref.name, &w->room, &w->leaves[w->n_leaves]);
    if (!error)
        w->leaves[w->n_leaves++].place = place_of(w->facts, ev->addr);
    return error;
}

static int note_chunk(worker *w, const cmb_scan_event *ev)
{
    const cmb_tree *tree = &w->facts->store->tree;
    uint8_t room[CMB_NAME_MAX + 4];
    cmb_chunk_list list = {.names = room, .count = 1, .capacity = 1};
    cmb_name name, value;
    uint32_t size = ev->length - CMB_RECORD_HEADER;
    if (size > CMB_CHUNK_SIZE || cmb_record_check(ev->record, ev->length, ev->addr))
        return 0;
    int error = make_room(w->facts, (void **)&w->chunks, w->n_chunks, &w->chunk_room, sizeof *w->chunks);
    if (error)
        return error;
    cmb_hash_name(tree->hash, ev->record + CMB_RECORD_HEADER, size, &name);
    memcpy(room, name.bytes, name.size);
    cmb_chunk_list_name(tree, &list, size, &value);
    chunk *c = &w->chunks[w->n_chunks++];
    *c = (chunk){.place = place_of(w->facts, ev->addr), .length = ev->length};
    memcpy(&c->name, name.bytes, sizeof c->name);
    memcpy(&c->value, value.bytes, sizeof c->value);
    return 0;
}

/* Records that no reference verifies: the log and the store read them when the image is opened. */
static int note_other(worker *w, const cmb_scan_event *ev)
{
    switch (ev->kind) {
    case CMB_RECORD_NODE:
    case CMB_RECORD_CHUNKS:
    case CMB_RECORD_COMMIT:
    case CMB_RECORD_TAG:
        return 0;
    case CMB_RECORD_EDITS:
    case CMB_RECORD_ROOT:
    case CMB_RECORD_SEGMENTS:
    case CMB_RECORD_INTENTS:
        return cmb_record_check(ev->record, ev->length, ev->addr) ? lose(w, ev->addr, ev->addr + CMB_RECORD_ALIGN, true) : 0;
    default:
        cmb_fail(CMB_ECORRUPT, "record at %llu: kind %u is unknown", (unsigned long long)ev->addr, (unsigned)ev->kind);
        return lose(w, ev->addr, ev->addr + CMB_RECORD_ALIGN, true);
    }
}

static int on_event(void *ctx, const cmb_scan_event *ev)
{
    worker *w = ctx;
    cmb_facts *f = w->facts;
    if (ev->error) {
        bool record = ev->addr != ev->frame_addr;
        uint64_t end = ev->frame_length ? ev->frame_addr + ev->frame_length : 0; /* of a run it is known */
        return ev->error == CMB_ENOMEM ? ev->error : lose(w, ev->addr, end, record);
    }
    if (!ev->record) {
        int error = end_lost(w, ev->frame_addr);
        if (error)
            return error;
        atomic_fetch_add_explicit(&f->frames, 1, memory_order_relaxed);
        uint64_t bytes = atomic_fetch_add_explicit(&f->bytes, ev->frame_length, memory_order_relaxed) + ev->frame_length;
        if (w->calls && f->options.progress)
            f->options.progress(f->options.ctx, bytes);
        return atomic_load_explicit(&f->error, memory_order_relaxed);
    }
    return ev->kind == CMB_RECORD_LEAF ? note_leaf(w, ev) : ev->kind == CMB_RECORD_CHUNK ? note_chunk(w, ev) : note_other(w, ev);
}

/* A copy of just the size; NULL with *out_error 0: nothing, or no more may be kept. */
static void *keep(cmb_facts *f, const void *items, uint32_t n, size_t size, int *out_error)
{
    size_t bytes = n * size;
    if (n == 0 || *out_error)
        return NULL;
    if (atomic_fetch_add(&f->memory, bytes) + bytes > f->options.memory) {
        atomic_fetch_sub(&f->memory, bytes);
        return NULL;
    }
    void *copy = cmb_alloc(&f->store->alloc, bytes);
    if (copy)
        memcpy(copy, items, bytes);
    else
        *out_error = CMB_ENOMEM;
    return copy;
}

static int scan_part(worker *w, part *p)
{
    cmb_facts *f = w->facts;
    uint64_t start = segment_start(f, p->segment), end = segment_start(f, p->segment + 1), next;
    w->part = p;
    w->n_leaves = w->n_chunks = 0;
    int error = cmb_scanner_run(w->scanner, start, 0, on_event, w, &next);
    if (error == CMB_ENOTFOUND) /* given back since the list was made */
        return 0;
    if (error == CMB_ECORRUPT || error == CMB_EIO) /* where it lies is not known */
        error = lose(w, start, 0, false);
    if (!error)
        error = end_lost(w, end);
    p->leaves = keep(f, w->leaves, w->n_leaves, sizeof *w->leaves, &error);
    p->n_leaves = p->leaves ? w->n_leaves : 0;
    p->chunks = keep(f, w->chunks, w->n_chunks, sizeof *w->chunks, &error);
    p->n_chunks = p->chunks ? w->n_chunks : 0;
    return error;
}

/* ---- all of them ---- */

static void stop(cmb_facts *f, int error)
{
    int none = 0;
    atomic_compare_exchange_strong(&f->error, &none, error);
}

/* Scans a part if nobody has taken it. */
static void scan(worker *w, part *p)
{
    cmb_facts *f = w->facts;
    if (atomic_exchange(&p->taken, true))
        return;
    int error = w->scanner ? 0 : cmb_scanner_open(f->store->log, 0, &w->scanner);
    if (!error)
        error = scan_part(w, p);
    if (error)
        stop(f, error);
    cmb_mutex_lock(&f->lock);
    atomic_store_explicit(&p->scanned, true, memory_order_release);
    cmb_cond_broadcast(&f->scanned);
    cmb_mutex_unlock(&f->lock);
}

/* Scans the part whose turn it is. False: there is none left, or all have stopped. */
static bool scan_next(worker *w)
{
    cmb_facts *f = w->facts;
    size_t i = atomic_load(&f->error) ? f->n_parts : atomic_fetch_add(&f->next, 1);
    if (i < f->n_parts)
        scan(w, &f->parts[i]);
    return i < f->n_parts;
}

static void work(void *arg)
{
    while (scan_next(arg))
        ;
}

static int add_segment(void *ctx, const cmb_segment_info *info)
{
    cmb_facts *f = ctx;
    if (info->kind == CMB_SEG_META)
        return 0;
    if (f->n_parts == f->capacity) {
        size_t capacity = f->capacity ? 2 * f->capacity : 256;
        part *parts = cmb_resize(&f->store->alloc, f->parts, f->capacity * sizeof *parts, capacity * sizeof *parts);
        if (!parts)
            return CMB_ENOMEM;
        f->parts = parts;
        f->capacity = capacity;
    }
    f->parts[f->n_parts++] = (part){.segment = info->logical, .kind = info->kind};
    return 0;
}

/* The asking thread works too, whenever it would have to wait; where no more threads are to be had, fewer do. */
static int start_workers(cmb_facts *f)
{
    unsigned n = f->options.threads ? f->options.threads : 1;
    n = n > THREADS_MAX ? THREADS_MAX : n > f->n_parts ? (unsigned)f->n_parts : n;
    n = n ? n : 1;
    f->workers = cmb_zalloc(&f->store->alloc, n * sizeof *f->workers);
    if (!f->workers)
        return CMB_ENOMEM;
    f->n_workers = n;
    for (unsigned i = 0; i < f->n_workers; i++)
        f->workers[i] = (worker){.facts = f, .calls = i == 0};
    for (f->running = 1; f->running < f->n_workers; f->running++) {
        worker *w = &f->workers[f->running];
        if (cmb_thread_start(&w->thread, work, w))
            break;
    }
    return 0;
}

static void join_workers(cmb_facts *f)
{
    for (; f->running > 1; f->running--)
        cmb_thread_join(&f->workers[f->running - 1].thread);
    f->running = 0;
}

static void free_worker(worker *w)
{
    const cmb_store *store = w->facts->store;
    cmb_scanner_close(w->scanner);
    cmb_facts_room_free(&store->tree, &w->room);
    cmb_release(&store->alloc, w->leaves, w->leaf_room * sizeof *w->leaves);
    cmb_release(&store->alloc, w->chunks, w->chunk_room * sizeof *w->chunks);
}

static int out_of_memory(void)
{
    return cmb_fail(CMB_ENOMEM, "out of memory while the log was checked");
}

int cmb_facts_start(cmb_store *store, const cmb_facts_options *options, cmb_facts **out_facts)
{
    cmb_facts *f = cmb_zalloc(&store->alloc, sizeof *f);
    if (!f)
        return CMB_ENOMEM;
    f->store = store;
    f->options = *options;
    if (!f->options.memory)
        f->options.memory = MEMORY_DEFAULT;
    int error = cmb_mutex_init(&f->lock);
    if (!error && (error = cmb_cond_init(&f->scanned)) != 0)
        cmb_mutex_destroy(&f->lock);
    if (error) {
        cmb_release(&store->alloc, f, sizeof *f);
        return error;
    }
    error = cmb_log_segments(store->log, add_segment, f);
    if (error == CMB_ECORRUPT || error == CMB_EIO) /* the check of the tables tells of it */
        error = 0;
    if (!error)
        error = start_workers(f);
    if (error) {
        cmb_facts_destroy(f);
        return error == CMB_ENOMEM ? out_of_memory() : error;
    }
    *out_facts = f;
    return 0;
}

/* What stopped the scan, as far as is known. */
static int error_of(const cmb_facts *f)
{
    int error = atomic_load_explicit(&f->error, memory_order_relaxed);
    return error == CMB_ENOMEM ? out_of_memory() : error;
}

int cmb_facts_finish(cmb_facts *f)
{
    work(&f->workers[0]);
    join_workers(f);
    return error_of(f);
}

void cmb_facts_destroy(cmb_facts *f)
{
    if (!f)
        return;
    cmb_allocator alloc = f->store->alloc;
    stop(f, CMB_ENOTFOUND); /* nobody asks any more */
    join_workers(f);
    for (unsigned i = 0; i < f->n_workers; i++)
        free_worker(&f->workers[i]);
    cmb_release(&alloc, f->workers, f->n_workers * sizeof *f->workers);
    for (size_t i = 0; i < f->n_parts; i++) {
        cmb_release(&alloc, f->parts[i].leaves, f->parts[i].n_leaves * sizeof(cmb_node_facts));
        cmb_release(&alloc, f->parts[i].chunks, f->parts[i].n_chunks * sizeof(chunk));
    }
    cmb_release(&alloc, f->parts, f->capacity * sizeof *f->parts);
    cmb_release(&alloc, f->lost, f->lost_capacity * sizeof *f->lost);
    cmb_cond_destroy(&f->scanned);
    cmb_mutex_destroy(&f->lock);
    cmb_release(&alloc, f, sizeof *f);
}

/* ---- asking ---- */

/* Scans it, or others while somebody else does. False: all have stopped. */
static bool wait_for(cmb_facts *f, part *p)
{
    if (!atomic_load_explicit(&p->scanned, memory_order_acquire) && !atomic_load(&f->error))
        scan(&f->workers[0], p);
    while (!atomic_load_explicit(&p->scanned, memory_order_acquire)) {
        if (scan_next(&f->workers[0]))
            continue;
        cmb_mutex_lock(&f->lock);
        while (!atomic_load(&p->scanned) && !atomic_load(&f->error))
            cmb_cond_wait(&f->scanned, &f->lock);
        cmb_mutex_unlock(&f->lock);
        if (atomic_load(&f->error))
            return false;
    }
    return true;
}

/* The part that a record lies in, when it was scanned: most are asked for one after the other. */
static const part *find_part(cmb_facts *f, uint64_t addr)
{
    uint64_t segment = addr >> cmb_log_params(f->store->log)->segment_shift;
    if (f->at < f->n_parts && f->parts[f->at].segment == segment)
        return wait_for(f, &f->parts[f->at]) ? &f->parts[f->at] : NULL;
    size_t low = 0, n = f->n_parts;
    while (n > 0) {
        size_t half = n / 2;
        bool right = f->parts[low + half].segment < segment;
        low = right ? low + half + 1 : low;
        n = right ? n - half - 1 : half;
    }
    if (low == f->n_parts || f->parts[low].segment != segment)
        return NULL;
    f->at = low;
    f->leaf = f->chunk = 0;
    return wait_for(f, &f->parts[low]) ? &f->parts[low] : NULL;
}

int cmb_facts_wait(cmb_facts *f, uint64_t addr)
{
    find_part(f, addr);
    return error_of(f);
}

bool cmb_facts_leaf(cmb_facts *f, uint64_t addr, cmb_node_facts *out_facts)
{
    const part *p = find_part(f, addr);
    uint32_t place = place_of(f, addr), low = f->leaf, n = p ? p->n_leaves : 0;
    if (low >= n || p->leaves[low].place != place) {
        for (low = 0; n > 0;) {
            uint32_t half = n / 2;
            bool right = p->leaves[low + half].place < place;
            low = right ? low + half + 1 : low;
            n = right ? n - half - 1 : half;
        }
        if (!p || low == p->n_leaves || p->leaves[low].place != place)
            return false;
    }
    *out_facts = p->leaves[low];
    f->leaf = low + 1; /* the next record is the likeliest to be asked for next */
    return true;
}

static const chunk *find_chunk(cmb_facts *f, uint64_t addr)
{
    const part *p = find_part(f, addr);
    uint32_t place = place_of(f, addr), low = f->chunk, n = p ? p->n_chunks : 0;
    if (low >= n || p->chunks[low].place != place) {
        for (low = 0; n > 0;) {
            uint32_t half = n / 2;
            bool right = p->chunks[low + half].place < place;
            low = right ? low + half + 1 : low;
            n = right ? n - half - 1 : half;
        }
        if (!p || low == p->n_chunks || p->chunks[low].place != place)
            return NULL;
    }
    f->chunk = low + 1;
    return &p->chunks[low];
}

bool cmb_facts_chunk(cmb_facts *f, uint64_t addr, uint32_t length, const uint8_t *name, bool whole)
{
    const chunk *c = find_chunk(f, addr);
    return c && c->length == length && memcmp(whole ? &c->value : &c->name, name, sizeof c->name) == 0;
}

const cmb_lost *cmb_facts_lost(const cmb_facts *f, size_t *out_n, uint64_t *out_total)
{
    *out_n = f->n_lost;
    *out_total = f->lost_total;
    return f->lost;
}

uint64_t cmb_facts_frames(const cmb_facts *f)
{
    return atomic_load(&f->frames);
}

uint64_t cmb_facts_bytes(const cmb_facts *f)
{
    return atomic_load(&f->bytes);
}
