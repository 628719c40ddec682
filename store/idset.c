/* SPDX-License-Identifier: ISC */
/* idset.c: open addressing, at most three quarters full. */
#include "store/idset.h"

#define CAPACITY_MIN 64u

void cmb_idset_destroy(cmb_idset *set)
{
    if (set->slots)
        cmb_release(&set->alloc, set->slots, set->capacity * sizeof *set->slots);
    set->slots = NULL;
    set->capacity = set->count = 0;
}

/* Where it is, or where it would go. */
static cmb_name *slot_of(const cmb_idset *set, const cmb_name *id)
{
    size_t mask = set->capacity - 1, i = cmb_hash64(id->bytes, id->size, 0) & mask;
    while (set->slots[i].size && !cmb_name_equal(&set->slots[i], id))
        i = (i + 1) & mask;
    return &set->slots[i];
}

static int grow(cmb_idset *set)
{
    cmb_idset bigger = *set;
    bigger.capacity = set->capacity ? 2 * set->capacity : CAPACITY_MIN;
    bigger.slots = cmb_zalloc(&set->alloc, bigger.capacity * sizeof *bigger.slots);
    if (!bigger.slots)
        return CMB_ENOMEM;
    for (size_t i = 0; i < set->capacity; i++)
        if (set->slots[i].size)
            *slot_of(&bigger, &set->slots[i]) = set->slots[i];
    cmb_release(&set->alloc, set->slots, set->capacity * sizeof *set->slots);
    *set = bigger;
    return 0;
}

int cmb_idset_add(cmb_idset *set, const cmb_name *id)
{
    if (4 * (set->count + 1) > 3 * set->capacity) {
        int error = grow(set);
        if (error)
            return error;
    }
    cmb_name *slot = slot_of(set, id);
    set->count += slot->size == 0;
    *slot = *id;
    return 0;
}

bool cmb_idset_has(const cmb_idset *set, const cmb_name *id)
{
    return set->capacity && slot_of(set, id)->size;
}
