/* SPDX-License-Identifier: ISC */
/*
 * Residency in the device's mapping.
 *
 * A table of logical segments: directory (hot, grows by doubling) -> page of 1024 segments -> where
 * the segment lies in the mapping, and a bit per granule for "the node that starts here was verified
 * there". A segment whose records do not all lie at one distance (compacted by the cleaner) keeps a
 * second bitmap for the others; for them the log is asked at every visit.
 *
 * Readers take no lock. What keeps them right when a segment is moved: `base` is read before and
 * after the bit, and it is cleared before the bits are; bits are set under the lock, when nothing
 * was moved since the pointer that was verified was asked for. Bitmaps are reused but never given
 * back before the end, so a late reader looks at a bitmap, if a wrong one, and then sees that the
 * base is another.
 */
#include "btree/nodes_private.h"

#include <stdatomic.h>

#define PAGE_SHIFT 10u
#define PAGE_SEGMENTS (1u << PAGE_SHIFT)

typedef _Atomic uint64_t word;

typedef struct segment {
    _Atomic(const uint8_t *) base; /* NULL: nothing verified yet */
    _Atomic(word *) bits;          /* verified at base */
    _Atomic(word *) moved;         /* verified where the log says */
} segment;

typedef struct page {
    segment segments[PAGE_SEGMENTS];
} page;

typedef struct directory {
    struct directory *older; /* replaced ones, that readers may still hold */
    size_t n;
    _Atomic(page *) pages[];
} directory;

struct cmb_map {
    _Atomic(directory *) dir;
    unsigned shift;
    cmb_hash_kind hash;
    cmb_log *log;
    cmb_allocator alloc;
    _Atomic uint64_t era; /* moves so far */
    _Atomic uint64_t verified;
    cmb_mutex lock; /* over every change of the table */
    word *spares;   /* bitmaps given back, each all zero but for its first word: the address of the next */
};

static size_t bitmap_size(const cmb_map *map) { return ((size_t)1 << map->shift) / CMB_RECORD_ALIGN / 8; }
static uint64_t offset_in_segment(const cmb_map *map, uint64_t addr) { return addr & (((uint64_t)1 << map->shift) - 1); }
static uint64_t granule(const cmb_map *map, uint64_t addr) { return offset_in_segment(map, addr) / CMB_RECORD_ALIGN; }

static inline segment *find_segment(const cmb_map *map, uint64_t number)
{
    directory *dir = atomic_load_explicit(&map->dir, memory_order_acquire);
    uint64_t index = number >> PAGE_SHIFT;
    if (CMB_UNLIKELY(index >= dir->n))
        return NULL;
    page *p = atomic_load_explicit(&dir->pages[index], memory_order_acquire);
    return CMB_LIKELY(p != NULL) ? &p->segments[number & (PAGE_SEGMENTS - 1)] : NULL;
}

static inline bool test_bit(const word *bits, uint64_t at)
{
    return atomic_load_explicit(&bits[at / 64], memory_order_acquire) >> (at % 64) & 1;
}

const uint8_t *cmb_map_find(const cmb_map *map, uint64_t addr)
{
    segment *s = find_segment(map, addr >> map->shift);
    if (CMB_UNLIKELY(!s))
        return NULL;
    const uint8_t *base = atomic_load_explicit(&s->base, memory_order_acquire);
    word *bits = atomic_load_explicit(&s->bits, memory_order_acquire);
    if (CMB_UNLIKELY(!bits || !base || !test_bit(bits, granule(map, addr))))
        return NULL;
    if (CMB_UNLIKELY(atomic_load_explicit(&s->base, memory_order_relaxed) != base))
        return NULL;
    return base + offset_in_segment(map, addr);
}

void cmb_map_prefetch(const cmb_map *map, uint64_t addr)
{
    segment *s = find_segment(map, addr >> map->shift);
    const uint8_t *base = s ? atomic_load_explicit(&s->base, memory_order_acquire) : NULL;
    word *bits = base ? atomic_load_explicit(&s->bits, memory_order_acquire) : NULL;
    if (!bits)
        return;
    __builtin_prefetch(&bits[granule(map, addr) / 64]);
    cmb_prefetch_node(base + offset_in_segment(map, addr));
}

/* ---- changes, under the lock ---- */

static directory *grow_directory(cmb_map *map, directory *old, uint64_t pages)
{
    size_t n = old->n;
    while (n < pages)
        n *= 2;
    directory *dir = cmb_zalloc(&map->alloc, sizeof *dir + n * sizeof dir->pages[0]);
    if (!dir)
        return NULL;
    dir->n = n;
    dir->older = old;
    for (size_t i = 0; i < old->n; i++)
        atomic_init(&dir->pages[i], atomic_load_explicit(&old->pages[i], memory_order_relaxed));
    atomic_store_explicit(&map->dir, dir, memory_order_release);
    return dir;
}

static segment *make_segment(cmb_map *map, uint64_t number)
{
    directory *dir = atomic_load_explicit(&map->dir, memory_order_relaxed);
    uint64_t index = number >> PAGE_SHIFT;
    if (index >= dir->n && !(dir = grow_directory(map, dir, index + 1)))
        return NULL;
    page *p = atomic_load_explicit(&dir->pages[index], memory_order_relaxed);
    if (!p) {
        p = cmb_zalloc(&map->alloc, sizeof *p);
        if (!p)
            return NULL;
        atomic_store_explicit(&dir->pages[index], p, memory_order_release);
    }
    return &p->segments[number & (PAGE_SEGMENTS - 1)];
}

static word *take_bitmap(cmb_map *map)
{
    word *bits = map->spares;
    if (!bits)
        return cmb_zalloc(&map->alloc, bitmap_size(map));
    map->spares = (word *)(uintptr_t)atomic_load_explicit(&bits[0], memory_order_relaxed);
    atomic_store_explicit(&bits[0], 0, memory_order_relaxed);
    return bits;
}

static word *make_bitmap(cmb_map *map, _Atomic(word *) *slot)
{
    word *bits = atomic_load_explicit(slot, memory_order_relaxed);
    if (bits)
        return bits;
    bits = take_bitmap(map);
    if (bits)
        atomic_store_explicit(slot, bits, memory_order_release);
    return bits;
}

static void give_bitmap(cmb_map *map, _Atomic(word *) *slot)
{
    word *bits = atomic_load_explicit(slot, memory_order_relaxed);
    if (!bits)
        return;
    atomic_store_explicit(slot, NULL, memory_order_release);
    for (size_t i = 0; i < bitmap_size(map) / sizeof *bits; i++)
        atomic_store_explicit(&bits[i], 0, memory_order_relaxed);
    atomic_store_explicit(&bits[0], (uint64_t)(uintptr_t)map->spares, memory_order_relaxed);
    map->spares = bits;
}

/* Remembers that the node at addr was verified at `record`. Without memory it is verified again next time. */
static void remember(cmb_map *map, uint64_t addr, const uint8_t *record, uint64_t era)
{
    cmb_mutex_lock(&map->lock);
    segment *s = atomic_load_explicit(&map->era, memory_order_relaxed) == era ? make_segment(map, addr >> map->shift) : NULL;
    word *bits = s ? make_bitmap(map, &s->bits) : NULL;
    if (bits) {
        const uint8_t *base = atomic_load_explicit(&s->base, memory_order_relaxed);
        if (!base) {
            base = record - offset_in_segment(map, addr);
            atomic_store_explicit(&s->base, base, memory_order_release);
        }
        if (base + offset_in_segment(map, addr) != record)
            bits = make_bitmap(map, &s->moved);
    }
    if (bits) {
        uint64_t at = granule(map, addr);
        atomic_fetch_or_explicit(&bits[at / 64], (uint64_t)1 << (at % 64), memory_order_release);
    }
    cmb_mutex_unlock(&map->lock);
}

void cmb_map_remapped(cmb_map *map, uint64_t number)
{
    cmb_mutex_lock(&map->lock);
    atomic_fetch_add_explicit(&map->era, 1, memory_order_seq_cst);
    segment *s = find_segment(map, number);
    if (s) {
        atomic_store_explicit(&s->base, NULL, memory_order_seq_cst);
        give_bitmap(map, &s->bits);
        give_bitmap(map, &s->moved);
    }
    cmb_mutex_unlock(&map->lock);
}

/* ---- visits that the table does not answer ---- */

/* Was the node verified where the log says, which is not at its segment's base? */
static bool verified_elsewhere(const cmb_map *map, uint64_t addr, uint64_t era)
{
    segment *s = find_segment(map, addr >> map->shift);
    word *moved = s ? atomic_load_explicit(&s->moved, memory_order_acquire) : NULL;
    return moved && test_bit(moved, granule(map, addr)) && atomic_load_explicit(&map->era, memory_order_relaxed) == era;
}

int cmb_map_visit(cmb_map *map, const cmb_noderef *ref, const uint8_t **out_record)
{
    uint64_t era = atomic_load_explicit(&map->era, memory_order_acquire);
    const uint8_t *record = cmb_log_peek(map->log, ref->addr, ref->length);
    if (record && !verified_elsewhere(map, ref->addr, era)) {
        int error = cmb_node_verify(map->hash, record, ref);
        if (error)
            return error;
        atomic_fetch_add_explicit(&map->verified, 1, memory_order_relaxed);
        remember(map, ref->addr, record, era);
    }
    *out_record = record;
    return 0;
}

/* ---- life ---- */

int cmb_map_create(const cmb_allocator *alloc, cmb_log *log, cmb_map **out_map)
{
    cmb_map *map = cmb_zalloc(alloc, sizeof *map);
    directory *dir = map ? cmb_zalloc(alloc, sizeof *dir + sizeof dir->pages[0]) : NULL;
    int error = dir ? cmb_mutex_init(&map->lock) : CMB_ENOMEM;
    if (error) {
        cmb_release(alloc, dir, sizeof *dir + sizeof dir->pages[0]);
        cmb_release(alloc, map, sizeof *map);
        return error;
    }
    const cmb_image_params *params = cmb_log_params(log);
    dir->n = 1;
    atomic_init(&map->dir, dir);
    map->shift = params->segment_shift;
    map->hash = (cmb_hash_kind)params->hash_kind;
    map->log = log;
    map->alloc = *alloc;
    *out_map = map;
    return 0;
}

static void destroy_page(cmb_map *map, page *p)
{
    for (unsigned i = 0; i < PAGE_SEGMENTS; i++) {
        cmb_release(&map->alloc, atomic_load_explicit(&p->segments[i].bits, memory_order_relaxed), bitmap_size(map));
        cmb_release(&map->alloc, atomic_load_explicit(&p->segments[i].moved, memory_order_relaxed), bitmap_size(map));
    }
    cmb_release(&map->alloc, p, sizeof *p);
}

void cmb_map_destroy(cmb_map *map)
{
    if (!map)
        return;
    directory *dir = atomic_load_explicit(&map->dir, memory_order_relaxed);
    for (size_t i = 0; i < dir->n; i++) {
        page *p = atomic_load_explicit(&dir->pages[i], memory_order_relaxed);
        if (p)
            destroy_page(map, p);
    }
    while (dir) {
        directory *older = dir->older;
        cmb_release(&map->alloc, dir, sizeof *dir + dir->n * sizeof dir->pages[0]);
        dir = older;
    }
    while (map->spares) {
        word *next = (word *)(uintptr_t)atomic_load_explicit(&map->spares[0], memory_order_relaxed);
        cmb_release(&map->alloc, map->spares, bitmap_size(map));
        map->spares = next;
    }
    cmb_mutex_destroy(&map->lock);
    cmb_allocator alloc = map->alloc;
    cmb_release(&alloc, map, sizeof *map);
}

void cmb_map_stats(const cmb_map *map, cmb_nodes_stats *out_stats)
{
    *out_stats = (cmb_nodes_stats){.verified = atomic_load_explicit(&map->verified, memory_order_relaxed)};
}
