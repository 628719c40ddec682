/* SPDX-License-Identifier: ISC */
/*
 * Residency in the engine's own memory: one run of anonymous memory of exactly `budget` bytes, cut
 * into shards by a hash of the address. A shard holds its hash table, its frames (descriptors) and
 * an arena in which nodes lie in 64-byte units.
 *
 * Placing: the arena is a ring. Room for a node is a window of neighbours that are neither pinned
 * nor referenced since the hand passed them last; whoever is referenced loses that mark and is
 * stepped over, and nothing is evicted before a window is complete.
 *
 * Hits take no lock: chains of the table are walked as they are, a frame is pinned by counting it
 * up, and then checked: a frame that is dead, or meanwhile is another address's, is let go and the
 * lock is taken. Frames are never given back, so a late reader touches a frame, if a wrong one.
 * Evicting is going from exactly no pins to DEAD in one step.
 */
#include "btree/nodes_private.h"

#include <stdatomic.h>

#define UNIT 64u
#define NONE UINT32_MAX
#define DEAD (1u << 31)    /* not to be pinned: free, being evicted, or being loaded */
#define LOADING (1u << 30) /* in the table already, for others to wait for; only changed under the lock */
#define USED (1u << 29)    /* since the hand passed last */
#define CHAIN_MAX 64u      /* steps that a reader without the lock takes */
#define SHARD_BYTES ((size_t)16 << 20)
#define SHARDS_MAX 16u
#define BUDGET_MIN ((size_t)64 << 10)
#define FETCH_BATCH 32u    /* reads in flight together */

typedef struct frame {
    _Atomic uint64_t addr;
    _Atomic uint32_t state; /* DEAD, LOADING, USED, and the number of pins */
    _Atomic uint32_t chain; /* next frame of the same bucket */
    uint32_t place, units;  /* of the arena */
    uint32_t next, prev;    /* by place; next also links free frames */
} frame;

_Static_assert(sizeof(frame) == 32, "two frames a cache line");

typedef struct shard {
    cmb_mutex lock;
    cmb_cond loaded;
    _Atomic uint32_t *buckets;
    frame *frames;
    uint8_t *arena;
    uint32_t bucket_mask, frame_count, units;
    uint32_t first, last, free; /* frames by place; free ones */
    uint32_t hand, hand_place;  /* where the next window may start, and the first frame at or behind it */
    uint64_t resident_units, resident_nodes, verified, misses, evictions;
    _Atomic uint64_t hits; /* approximate: counted without synchronisation */
} shard;

struct cmb_pool {
    cmb_log *log;
    cmb_hash_kind hash;
    cmb_allocator alloc;
    size_t budget;
    uint8_t *memory;
    unsigned shard_count, ready; /* ready: shards whose locks exist */
    shard shards[];
};

static inline uint64_t mix(uint64_t addr) { return (addr / CMB_RECORD_ALIGN) * UINT64_C(0x9E3779B97F4A7C15); }
static inline shard *shard_of(const cmb_pool *pool, uint64_t mixed)
{
    return (shard *)&pool->shards[mixed >> 59 & (pool->shard_count - 1)];
}
static inline _Atomic uint32_t *bucket_of(const shard *s, uint64_t mixed) { return &s->buckets[mixed >> 24 & s->bucket_mask]; }
static inline uint8_t *bytes_of(const shard *s, const frame *f) { return s->arena + (size_t)f->place * UNIT; }
static inline uint32_t index_of(const shard *s, const frame *f) { return (uint32_t)(f - s->frames); }

/* ---- without the lock ---- */

static inline void mark_used(frame *f, uint32_t state)
{
    if (!(state & USED))
        atomic_fetch_or_explicit(&f->state, USED, memory_order_relaxed);
}

const uint8_t *cmb_pool_find(cmb_pool *pool, uint64_t addr, void **out_frame)
{
    uint64_t mixed = mix(addr);
    shard *s = shard_of(pool, mixed);
    uint32_t i = atomic_load_explicit(bucket_of(s, mixed), memory_order_acquire);
    for (unsigned steps = 0; i != NONE && steps < CHAIN_MAX; steps++) {
        frame *f = &s->frames[i];
        if (atomic_load_explicit(&f->addr, memory_order_relaxed) == addr) {
            uint32_t state = atomic_fetch_add_explicit(&f->state, 1, memory_order_acquire);
            if (CMB_LIKELY(!(state & DEAD) && atomic_load_explicit(&f->addr, memory_order_relaxed) == addr)) {
                mark_used(f, state);
                uint64_t hits = atomic_load_explicit(&s->hits, memory_order_relaxed);
                atomic_store_explicit(&s->hits, hits + 1, memory_order_relaxed);
                *out_frame = f;
                return bytes_of(s, f);
            }
            atomic_fetch_sub_explicit(&f->state, 1, memory_order_release);
            return NULL;
        }
        i = atomic_load_explicit(&f->chain, memory_order_acquire);
    }
    return NULL;
}

void cmb_pool_unpin(void *handle)
{
    frame *f = handle;
    atomic_fetch_sub_explicit(&f->state, 1, memory_order_release);
}

void cmb_pool_prefetch(const cmb_pool *pool, uint64_t addr)
{
    uint64_t mixed = mix(addr);
    __builtin_prefetch(bucket_of(shard_of(pool, mixed), mixed));
}

/* ---- a shard's table and list, under its lock ---- */

static frame *find_locked(shard *s, uint64_t addr, uint64_t mixed)
{
    uint32_t i = atomic_load_explicit(bucket_of(s, mixed), memory_order_relaxed);
    while (i != NONE && atomic_load_explicit(&s->frames[i].addr, memory_order_relaxed) != addr)
        i = atomic_load_explicit(&s->frames[i].chain, memory_order_relaxed);
    return i == NONE ? NULL : &s->frames[i];
}

static void link_bucket(shard *s, frame *f, uint64_t mixed)
{
    _Atomic uint32_t *bucket = bucket_of(s, mixed);
    atomic_store_explicit(&f->chain, atomic_load_explicit(bucket, memory_order_relaxed), memory_order_relaxed);
    atomic_store_explicit(bucket, index_of(s, f), memory_order_release);
}

static void unlink_bucket(shard *s, frame *f)
{
    _Atomic uint32_t *at = bucket_of(s, mix(atomic_load_explicit(&f->addr, memory_order_relaxed)));
    uint32_t self = index_of(s, f), i;
    while ((i = atomic_load_explicit(at, memory_order_relaxed)) != self)
        at = &s->frames[i].chain;
    atomic_store_explicit(at, atomic_load_explicit(&f->chain, memory_order_relaxed), memory_order_release);
}

/* Takes a dead frame out of everything. */
static void free_frame(shard *s, frame *f)
{
    unlink_bucket(s, f);
    if (f->prev == NONE)
        s->first = f->next;
    else
        s->frames[f->prev].next = f->next;
    if (f->next == NONE)
        s->last = f->prev;
    else
        s->frames[f->next].prev = f->prev;
    if (s->hand == index_of(s, f))
        s->hand = f->next;
    s->resident_units -= f->units;
    s->resident_nodes--;
    f->next = s->free;
    s->free = index_of(s, f);
}

/* Takes a free frame for [place, place + units) in front of frame `before`. */
static frame *put_frame(shard *s, uint32_t place, uint32_t units, uint32_t before)
{
    frame *f = &s->frames[s->free];
    uint32_t self = s->free;
    s->free = f->next;
    f->place = place;
    f->units = units;
    f->next = before;
    f->prev = before == NONE ? s->last : s->frames[before].prev;
    if (f->prev == NONE)
        s->first = self;
    else
        s->frames[f->prev].next = self;
    if (before == NONE)
        s->last = self;
    else
        s->frames[before].prev = self;
    s->hand = before;
    s->hand_place = place + units;
    s->resident_units += units;
    s->resident_nodes++;
    return f;
}

/* From no pins to DEAD; false: someone holds it. */
static bool kill_frame(frame *f)
{
    uint32_t state = atomic_load_explicit(&f->state, memory_order_relaxed);
    while (!(state & ~USED))
        if (atomic_compare_exchange_weak_explicit(&f->state, &state, DEAD, memory_order_acquire, memory_order_relaxed))
            return true;
    return false;
}

/* Evicts from frame i up to, not including, `end`. False: someone pinned frame *at meanwhile. */
static bool evict(shard *s, uint32_t i, uint32_t end, uint32_t *at)
{
    while (i != end) {
        frame *f = &s->frames[i];
        uint32_t next = f->next;
        *at = i;
        if (!kill_frame(f))
            return false;
        free_frame(s, f);
        s->evictions++;
        i = next;
    }
    return true;
}

/* May the hand take this frame? One that was used may not the first time it comes by, however busy others keep it. */
static bool evictable(frame *f, unsigned laps)
{
    uint32_t state = atomic_load_explicit(&f->state, memory_order_relaxed);
    if (state & USED)
        atomic_fetch_and_explicit(&f->state, ~USED, memory_order_relaxed);
    return laps < 2 ? state == 0 : !(state & ~USED);
}

/* Room for a node: a frame in state DEAD, not in the table. NULL: everything is pinned. */
static frame *make_room(shard *s, uint32_t units)
{
    uint32_t from = s->hand_place, first = s->hand, i = s->hand; /* the window: places from `from`, frames first .. i */
    for (unsigned laps = 0; laps < 4;) {
        uint32_t end = i == NONE ? s->units : s->frames[i].place;
        if (end - from >= units && (s->free != NONE || first != i)) {
            uint32_t busy;
            if (evict(s, first, i, &busy))
                return put_frame(s, from, units, i);
            from = s->frames[busy].place + s->frames[busy].units;
            first = i = s->frames[busy].next;
        } else if (i == NONE) {
            laps++;
            from = 0;
            first = i = s->first;
        } else if (evictable(&s->frames[i], laps)) {
            i = s->frames[i].next;
        } else {
            from = s->frames[i].place + s->frames[i].units;
            first = i = s->frames[i].next;
        }
    }
    return NULL;
}

/* ---- loading ---- */

static int check_length(const cmb_noderef *ref)
{
    if (ref->length < CMB_NODE_HEADER || ref->length > CMB_RECORD_MAX)
        return cmb_fail(CMB_ECORRUPT, "node at %llu: a reference with length %u", (unsigned long long)ref->addr,
                        (unsigned)ref->length);
    return 0;
}

/* Under the lock: a frame for ref, LOADING and in the table, or NULL. */
static frame *begin_load(shard *s, const cmb_noderef *ref, uint64_t mixed)
{
    frame *f = make_room(s, (ref->length + UNIT - 1) / UNIT);
    if (!f)
        return NULL;
    atomic_store_explicit(&f->addr, ref->addr, memory_order_relaxed);
    atomic_fetch_or_explicit(&f->state, LOADING, memory_order_relaxed);
    link_bucket(s, f, mixed);
    s->misses++;
    return f;
}

/* Makes a loaded frame visible with so many pins, or takes it away after an error. */
static void end_load(shard *s, frame *f, int error, uint32_t pins)
{
    cmb_mutex_lock(&s->lock);
    if (error) {
        atomic_fetch_and_explicit(&f->state, ~LOADING, memory_order_relaxed);
        free_frame(s, f);
    } else {
        s->verified++;
        /* One step from DEAD and LOADING to alive, whatever late readers count meanwhile. It is not USED: what is never
         * asked for again, as in a scan, goes before what is. */
        atomic_fetch_add_explicit(&f->state, pins - (DEAD + LOADING), memory_order_release);
    }
    cmb_cond_broadcast(&s->loaded);
    cmb_mutex_unlock(&s->lock);
}

static int no_room(const cmb_pool *pool, const cmb_noderef *ref)
{
    return cmb_fail(CMB_ENOMEM, "a pool of %llu bytes has no room for a node of %u: the rest is in use by open handles",
                    (unsigned long long)pool->budget, (unsigned)ref->length);
}

/* The node's frame, pinned, or one that is the caller's to load (*out_mine). NULL: no room. */
static frame *claim(shard *s, const cmb_noderef *ref, bool *out_mine)
{
    uint64_t mixed = mix(ref->addr);
    frame *f;
    cmb_mutex_lock(&s->lock);
    while ((f = find_locked(s, ref->addr, mixed)) && atomic_load_explicit(&f->state, memory_order_relaxed) & LOADING)
        cmb_cond_wait(&s->loaded, &s->lock);
    *out_mine = !f;
    if (f)
        mark_used(f, atomic_fetch_add_explicit(&f->state, 1, memory_order_acquire));
    else
        f = begin_load(s, ref, mixed);
    cmb_mutex_unlock(&s->lock);
    return f;
}

int cmb_pool_load(cmb_pool *pool, const cmb_noderef *ref, const uint8_t **out_record, void **out_frame)
{
    uint64_t offset;
    int error = check_length(ref);
    if (error || !cmb_log_locate(pool->log, ref->addr, ref->length, &offset))
        return error;
    shard *s = shard_of(pool, mix(ref->addr));
    bool mine;
    frame *f = claim(s, ref, &mine);
    if (!f)
        return no_room(pool, ref);
    uint8_t *record = bytes_of(s, f);
    if (mine) {
        error = cmb_log_read(pool->log, NULL, ref->addr, ref->length, record);
        if (!error)
            error = cmb_node_verify(pool->hash, record, ref);
        end_load(s, f, error, 1);
    }
    if (error)
        return error;
    *out_record = record;
    *out_frame = f;
    return 0;
}

/* ---- many reads in flight ---- */

typedef struct fetch {
    const cmb_noderef *ref;
    shard *shard;
    frame *frame;
    uint64_t offset; /* of the record on the device */
} fetch;

/* Claims what is written and not resident, up to a batch; returns how many, and moves *refs on. */
static unsigned claim_missing(cmb_pool *pool, const cmb_noderef **refs, size_t *n, fetch *out)
{
    unsigned count = 0;
    for (; *n && count < FETCH_BATCH; ++*refs, --*n) {
        const cmb_noderef *ref = *refs;
        fetch f = {.ref = ref, .shard = shard_of(pool, mix(ref->addr))};
        if (ref->length < CMB_NODE_HEADER || ref->length > CMB_RECORD_MAX ||
            !cmb_log_locate(pool->log, ref->addr, ref->length, &f.offset))
            continue;
        cmb_mutex_lock(&f.shard->lock);
        if (!find_locked(f.shard, ref->addr, mix(ref->addr)))
            f.frame = begin_load(f.shard, ref, mix(ref->addr));
        cmb_mutex_unlock(&f.shard->lock);
        if (f.frame)
            out[count++] = f;
    }
    return count;
}

/* Reads the blocks around each record, all requests in flight together, and copies the records to their frames. */
static int read_batch(cmb_pool *pool, cmb_queue *queue, const fetch *batch, unsigned n)
{
    cmb_caps caps;
    cmb_device_caps(queue->dev, &caps);
    cmb_request requests[FETCH_BATCH];
    uint64_t block = caps.block_size, total = 0;
    for (unsigned i = 0; i < n; i++) {
        uint64_t from = batch[i].offset & ~(block - 1), to = cmb_align_up(batch[i].offset + batch[i].ref->length, block);
        requests[i] = (cmb_request){.op = CMB_OP_READ, .offset = from, .length = to - from};
        total += cmb_align_up(to - from, CMB_BLOCK);
    }
    uint8_t *buffers = cmb_io_buffer(&pool->alloc, total), *at = buffers;
    if (!buffers)
        return CMB_ENOMEM;
    for (unsigned i = 0; i < n; i++) {
        requests[i].buffer = at;
        at += cmb_align_up(requests[i].length, CMB_BLOCK);
    }
    int error = cmb_io_many(queue, requests, n);
    for (unsigned i = 0; i < n && !error; i++)
        memcpy(bytes_of(batch[i].shard, batch[i].frame),
               (uint8_t *)requests[i].buffer + (batch[i].offset - requests[i].offset), batch[i].ref->length);
    cmb_io_buffer_release(&pool->alloc, buffers, total);
    return error;
}

void cmb_pool_fetch_many(cmb_pool *pool, const cmb_noderef *refs, size_t n)
{
    cmb_queue *queue;
    if (n == 0 || cmb_log_queue_take(pool->log, &queue))
        return;
    while (n) {
        fetch batch[FETCH_BATCH];
        unsigned count = claim_missing(pool, &refs, &n, batch);
        int error = count ? read_batch(pool, queue, batch, count) : 0;
        for (unsigned i = 0; i < count; i++) {
            fetch *f = &batch[i];
            end_load(f->shard, f->frame, error ? error : cmb_node_verify(pool->hash, bytes_of(f->shard, f->frame), f->ref), 0);
        }
    }
    cmb_log_queue_give(pool->log, queue);
}

/* ---- moves ---- */

static void forget_segment(shard *s, unsigned shift, uint64_t segment)
{
    for (uint32_t i = s->first, next; i != NONE; i = next) {
        frame *f = &s->frames[i];
        next = f->next;
        if (atomic_load_explicit(&f->addr, memory_order_relaxed) >> shift == segment && kill_frame(f))
            free_frame(s, f);
    }
}

void cmb_pool_remapped(cmb_pool *pool, uint64_t segment)
{
    for (unsigned i = 0; i < pool->shard_count; i++) {
        cmb_mutex_lock(&pool->shards[i].lock);
        forget_segment(&pool->shards[i], cmb_log_params(pool->log)->segment_shift, segment);
        cmb_mutex_unlock(&pool->shards[i].lock);
    }
}

/* ---- life ---- */

/* How much of a shard's bytes are table and frames: one frame for every half of the target size. A node takes the whole of it on
 * average, and a small table stays in the caches. */
static void shape_shard(shard *s, uint8_t *memory, size_t size, size_t target)
{
    size_t per_frame = target / 2 < 256 ? 256 : target / 2;
    uint32_t buckets = 16;
    s->frame_count = (uint32_t)(size / (per_frame + sizeof(frame))) + 1;
    while (buckets < s->frame_count)
        buckets *= 2;
    s->bucket_mask = buckets - 1;
    s->frames = (frame *)(void *)memory;
    s->buckets = (_Atomic uint32_t *)(void *)(s->frames + s->frame_count);
    size_t used = cmb_align_up((size_t)s->frame_count * sizeof(frame) + buckets * sizeof s->buckets[0], UNIT);
    s->arena = memory + used;
    s->units = (uint32_t)((size - used) / UNIT);
    s->first = s->last = s->hand = NONE;
    s->free = 0;
    for (uint32_t i = 0; i < s->frame_count; i++) {
        atomic_init(&s->frames[i].state, DEAD);
        s->frames[i].next = i + 1 < s->frame_count ? i + 1 : NONE;
    }
    for (uint32_t i = 0; i < buckets; i++)
        atomic_init(&s->buckets[i], NONE);
}

static int init_locks(cmb_pool *pool)
{
    for (; pool->ready < pool->shard_count; pool->ready++) {
        shard *s = &pool->shards[pool->ready];
        int error = cmb_mutex_init(&s->lock);
        if (error)
            return error;
        error = cmb_cond_init(&s->loaded);
        if (error) {
            cmb_mutex_destroy(&s->lock);
            return error;
        }
    }
    return 0;
}

int cmb_pool_create(const cmb_allocator *alloc, cmb_log *log, size_t budget, cmb_pool **out_pool)
{
    if (budget < BUDGET_MIN)
        return cmb_fail(CMB_EINVAL, "a pool of %llu bytes is too small: %llu at least", (unsigned long long)budget,
                        (unsigned long long)BUDGET_MIN);
    unsigned shards = 1;
    while (shards < SHARDS_MAX && budget / (shards * 2) >= SHARD_BYTES)
        shards *= 2;
    cmb_pool *pool = cmb_zalloc(alloc, sizeof *pool + shards * sizeof(shard));
    if (!pool)
        return CMB_ENOMEM;
    pool->log = log;
    pool->hash = (cmb_hash_kind)cmb_log_params(log)->hash_kind;
    pool->alloc = *alloc;
    pool->budget = budget;
    pool->shard_count = shards;
    pool->memory = cmb_os_reserve(budget);
    int error = pool->memory ? init_locks(pool)
                             : cmb_fail(CMB_ENOMEM, "no memory for a pool of %llu bytes", (unsigned long long)budget);
    if (error) {
        cmb_pool_destroy(pool);
        return error;
    }
    size_t size = budget / shards & ~(size_t)(UNIT - 1);
    for (unsigned i = 0; i < shards; i++)
        shape_shard(&pool->shards[i], pool->memory + i * size, size, cmb_log_params(log)->node_target);
    *out_pool = pool;
    return 0;
}

void cmb_pool_destroy(cmb_pool *pool)
{
    if (!pool)
        return;
    for (unsigned i = 0; i < pool->ready; i++) {
        cmb_cond_destroy(&pool->shards[i].loaded);
        cmb_mutex_destroy(&pool->shards[i].lock);
    }
    if (pool->memory)
        cmb_os_unreserve(pool->memory, pool->budget);
    cmb_allocator alloc = pool->alloc;
    cmb_release(&alloc, pool, sizeof *pool + pool->shard_count * sizeof(shard));
}

void cmb_pool_stats(cmb_pool *pool, cmb_nodes_stats *out_stats)
{
    cmb_nodes_stats stats = {.budget = pool->budget};
    for (unsigned i = 0; i < pool->shard_count; i++) {
        shard *s = &pool->shards[i];
        cmb_mutex_lock(&s->lock);
        stats.resident_bytes += s->resident_units * UNIT;
        stats.resident_nodes += s->resident_nodes;
        stats.verified += s->verified;
        stats.misses += s->misses;
        stats.evictions += s->evictions;
        stats.hits += atomic_load_explicit(&s->hits, memory_order_relaxed);
        cmb_mutex_unlock(&s->lock);
    }
    *out_stats = stats;
}
