/* SPDX-License-Identifier: ISC */
#include "store/addrset.h"

#include "log/log.h"

#define FIRST_SLOTS   16u
#define GRANULE_SHIFT 4u
_Static_assert(1u << GRANULE_SHIFT == CMB_RECORD_ALIGN, "a granule is what records are aligned to");

/* The records of one segment. */
typedef struct part {
    uint64_t segment;
    uint64_t bytes;
    uint32_t *slots;  /* granule + 1, 0: free; or the bitmap */
    uint32_t n_slots; /* power of two; of a bitmap: its words */
    uint32_t used;
    bool bitmap;
} part;

struct cmb_addrset {
    cmb_allocator alloc;
    unsigned shift;
    part *parts;    /* open addressing by segment; slots NULL: free */
    size_t n_parts; /* power of two */
    size_t used;
    uint64_t count;
    size_t memory;
    part *last; /* most additions go where the one before went */
};

static uint64_t mix(uint64_t v)
{
    v *= UINT64_C(0x9e3779b97f4a7c15);
    return v ^ v >> 32;
}

int cmb_addrset_create(const cmb_allocator *alloc, unsigned segment_shift, cmb_addrset **out_set)
{
    cmb_allocator a = cmb_allocator_or_default(alloc);
    cmb_addrset *set = cmb_zalloc(&a, sizeof(*set));
    if (!set)
        return CMB_ENOMEM;
    set->alloc = a;
    set->shift = segment_shift;
    *out_set = set;
    return 0;
}

void cmb_addrset_destroy(cmb_addrset *set)
{
    if (!set)
        return;
    for (size_t i = 0; i < set->n_parts; i++)
        cmb_release(&set->alloc, set->parts[i].slots, set->parts[i].n_slots * sizeof(uint32_t));
    cmb_release(&set->alloc, set->parts, set->n_parts * sizeof(part));
    cmb_allocator a = set->alloc;
    cmb_release(&a, set, sizeof(*set));
}

/* ---- segments ---- */

/* The place of a segment in a table that is never full: its part, or a free one. */
static part *part_place(part *parts, size_t n, uint64_t segment)
{
    size_t i = (size_t)mix(segment) & (n - 1);
    while (parts[i].slots && parts[i].segment != segment)
        i = (i + 1) & (n - 1);
    return &parts[i];
}

static const part *find_part(const cmb_addrset *set, uint64_t segment)
{
    if (set->n_parts == 0)
        return NULL;
    const part *p = part_place(set->parts, set->n_parts, segment);
    return p->slots ? p : NULL;
}

static int grow_parts(cmb_addrset *set)
{
    size_t n = set->n_parts ? 2 * set->n_parts : FIRST_SLOTS;
    part *parts = cmb_zalloc(&set->alloc, n * sizeof(*parts));
    if (!parts)
        return CMB_ENOMEM;
    for (size_t i = 0; i < set->n_parts; i++) {
        if (set->parts[i].slots)
            *part_place(parts, n, set->parts[i].segment) = set->parts[i];
    }
    cmb_release(&set->alloc, set->parts, set->n_parts * sizeof(*parts));
    set->memory += (n - set->n_parts) * sizeof(*parts);
    set->parts = parts;
    set->n_parts = n;
    set->last = NULL;
    return 0;
}

static int make_part(cmb_addrset *set, uint64_t segment, part **out_part)
{
    if (set->last && set->last->segment == segment) {
        *out_part = set->last;
        return 0;
    }
    if (4 * (set->used + 1) > 3 * set->n_parts) {
        int error = grow_parts(set);
        if (error)
            return error;
    }
    part *p = part_place(set->parts, set->n_parts, segment);
    if (!p->slots) {
        uint32_t *slots = cmb_zalloc(&set->alloc, FIRST_SLOTS * sizeof(*slots));
        if (!slots)
            return CMB_ENOMEM;
        *p = (part){.segment = segment, .slots = slots, .n_slots = FIRST_SLOTS};
        set->used++;
        set->memory += FIRST_SLOTS * sizeof(*slots);
    }
    set->last = p;
    *out_part = p;
    return 0;
}

/* ---- granules of a segment ---- */

static uint32_t *slot_place(uint32_t *slots, uint32_t n, uint32_t granule)
{
    uint32_t i = (uint32_t)mix(granule) & (n - 1);
    while (slots[i] && slots[i] != granule + 1)
        i = (i + 1) & (n - 1);
    return &slots[i];
}

/* A table of twice the size, or the bitmap if that is not larger. */
static int grow_part(cmb_addrset *set, part *p)
{
    uint32_t words = (uint32_t)(UINT64_C(1) << (set->shift - GRANULE_SHIFT)) / 32;
    bool bitmap = words <= 2 * p->n_slots;
    uint32_t n = bitmap ? words : 2 * p->n_slots;
    uint32_t *slots = cmb_zalloc(&set->alloc, n * sizeof(*slots));
    if (!slots)
        return CMB_ENOMEM;
    for (uint32_t i = 0; i < p->n_slots; i++) {
        uint32_t granule = p->slots[i] - 1;
        if (p->slots[i] == 0)
            continue;
        if (bitmap)
            slots[granule / 32] |= 1u << granule % 32;
        else
            *slot_place(slots, n, granule) = granule + 1;
    }
    cmb_release(&set->alloc, p->slots, p->n_slots * sizeof(*slots));
    set->memory += n * sizeof(*slots);
    set->memory -= p->n_slots * sizeof(*slots);
    p->slots = slots;
    p->n_slots = n;
    p->bitmap = bitmap;
    return 0;
}

static bool part_has(const part *p, uint32_t granule)
{
    if (p->bitmap)
        return p->slots[granule / 32] >> granule % 32 & 1;
    return *slot_place(p->slots, p->n_slots, granule) != 0;
}

static uint32_t granule_of(const cmb_addrset *set, uint64_t addr)
{
    return (uint32_t)((addr & ((UINT64_C(1) << set->shift) - 1)) >> GRANULE_SHIFT);
}

int cmb_addrset_add(cmb_addrset *set, uint64_t addr, uint32_t length, bool *out_added)
{
    uint32_t granule = granule_of(set, addr);
    part *p;
    int error = make_part(set, addr >> set->shift, &p);
    if (error)
        return error;
    bool has = part_has(p, granule);
    if (!has) {
        if (!p->bitmap && 4 * (p->used + 1) > 3 * p->n_slots) {
            error = grow_part(set, p);
            if (error)
                return error;
        }
        if (p->bitmap)
            p->slots[granule / 32] |= 1u << granule % 32;
        else
            *slot_place(p->slots, p->n_slots, granule) = granule + 1;
        p->used++;
        p->bytes += length;
        set->count++;
    }
    *out_added = !has;
    return 0;
}

bool cmb_addrset_has(const cmb_addrset *set, uint64_t addr)
{
    const part *p = find_part(set, addr >> set->shift);
    return p && part_has(p, granule_of(set, addr));
}

uint64_t cmb_addrset_bytes(const cmb_addrset *set, uint64_t segment)
{
    const part *p = find_part(set, segment);
    return p ? p->bytes : 0;
}

uint64_t cmb_addrset_count(const cmb_addrset *set)
{
    return set->count;
}

size_t cmb_addrset_memory(const cmb_addrset *set)
{
    return sizeof(*set) + set->memory;
}
