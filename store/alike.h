/* SPDX-License-Identifier: ISC */
/* alike.h: are two contents the same in some ranges of keys? By names from the roots down, up to the first difference. One thread. */
#ifndef CMB_STORE_ALIKE_H
#define CMB_STORE_ALIKE_H

#include "store/handles.h"

typedef struct cmb_alike {
    cmb_store *store;
    cmb_bounds *bounds;
    size_t count;    /* 0: everything is looked at */
    cmb_pin pins[2];
} cmb_alike;

/* Copies the ranges. */
int cmb_alike_init(cmb_alike *alike, cmb_store *store, const cmb_range *ranges, size_t count);
void cmb_alike_destroy(cmb_alike *alike); /* also after a failed init, or zeroed with the store set */
int cmb_alike_compare(cmb_alike *alike, const cmb_noderef *a, const cmb_noderef *b, bool *out_same);

#endif
