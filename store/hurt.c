/* SPDX-License-Identifier: ISC */
#include "store/hurt.h"

#define FIRST_SLOTS 64u

typedef struct slot {
    uint64_t addr; /* 0: free */
    uint32_t *numbers;
    uint32_t n, room;
} slot;

struct cmb_hurt {
    cmb_allocator alloc;
    slot *slots; /* open addressing */
    size_t n_slots, used;
};

int cmb_hurt_create(const cmb_allocator *alloc, cmb_hurt **out_hurt)
{
    cmb_hurt *h = cmb_zalloc(alloc, sizeof *h);
    if (!h)
        return CMB_ENOMEM;
    h->alloc = *alloc;
    *out_hurt = h;
    return 0;
}

void cmb_hurt_destroy(cmb_hurt *h)
{
    if (!h)
        return;
    cmb_allocator alloc = h->alloc;
    for (size_t i = 0; i < h->n_slots; i++)
        cmb_release(&alloc, h->slots[i].numbers, h->slots[i].room * sizeof(uint32_t));
    cmb_release(&alloc, h->slots, h->n_slots * sizeof(slot));
    cmb_release(&alloc, h, sizeof *h);
}

static slot *slot_for(slot *slots, size_t n, uint64_t addr)
{
    size_t i = (size_t)(addr * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (n - 1);
    while (slots[i].addr && slots[i].addr != addr)
        i = (i + 1) & (n - 1);
    return &slots[i];
}

static int grow(cmb_hurt *h)
{
    size_t n = h->n_slots ? 2 * h->n_slots : FIRST_SLOTS;
    slot *slots = cmb_zalloc(&h->alloc, n * sizeof *slots);
    if (!slots)
        return CMB_ENOMEM;
    for (size_t i = 0; i < h->n_slots; i++)
        if (h->slots[i].addr)
            *slot_for(slots, n, h->slots[i].addr) = h->slots[i];
    cmb_release(&h->alloc, h->slots, h->n_slots * sizeof *slots);
    h->slots = slots;
    h->n_slots = n;
    return 0;
}

static int grow_numbers(cmb_hurt *h, slot *s)
{
    uint32_t room = s->room ? 2 * s->room : 2;
    uint32_t *numbers = cmb_resize(&h->alloc, s->numbers, s->room * sizeof *numbers, room * sizeof *numbers);
    if (!numbers)
        return CMB_ENOMEM;
    s->numbers = numbers;
    s->room = room;
    return 0;
}

int cmb_hurt_add(cmb_hurt *h, uint64_t addr, uint32_t number)
{
    if (addr == 0)
        return 0;
    int error = 4 * (h->used + 1) > 3 * h->n_slots ? grow(h) : 0;
    if (error)
        return error;
    slot *s = slot_for(h->slots, h->n_slots, addr);
    for (uint32_t i = 0; i < s->n; i++)
        if (s->numbers[i] == number)
            return 0;
    if (s->n == CMB_HURT_MAX)
        return 0;
    if (s->n == s->room && (error = grow_numbers(h, s)))
        return error;
    h->used += s->addr == 0;
    s->addr = addr;
    s->numbers[s->n++] = number;
    return 0;
}

const uint32_t *cmb_hurt_at(const cmb_hurt *h, uint64_t addr, size_t *out_n)
{
    const slot *s = h->n_slots && addr ? slot_for(h->slots, h->n_slots, addr) : NULL;
    *out_n = s ? s->n : 0;
    return *out_n ? s->numbers : NULL;
}
