/* SPDX-License-Identifier: ISC */
/* idset.h: a set of commit ids, 33 bytes and half as many again each. One thread. */
#ifndef CMB_STORE_IDSET_H
#define CMB_STORE_IDSET_H

#include "io/base.h"

typedef struct cmb_idset {
    cmb_allocator alloc;
    cmb_name *slots; /* size 0: free */
    size_t capacity; /* power of two, 0 at first */
    size_t count;
} cmb_idset;

static inline void cmb_idset_init(cmb_idset *set, const cmb_allocator *alloc) { *set = (cmb_idset){.alloc = *alloc}; }
void cmb_idset_destroy(cmb_idset *set); /* zeroed: allowed */
int cmb_idset_add(cmb_idset *set, const cmb_name *id); /* CMB_ENOMEM: unchanged */
bool cmb_idset_has(const cmb_idset *set, const cmb_name *id);

#endif
