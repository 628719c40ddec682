/* SPDX-License-Identifier: ISC */
/*
 * hurt.h: which records lie above damage, or are damaged: of each address the numbers of the damages below it. So that a second
 * tree that reaches one of them is known to share what is damaged there. Single-threaded.
 */
#ifndef CMB_STORE_HURT_H
#define CMB_STORE_HURT_H

#include "io/base.h"

#define CMB_HURT_MAX 64u /* numbers kept of one address; what is beyond is not remembered */

typedef struct cmb_hurt cmb_hurt;

int cmb_hurt_create(const cmb_allocator *alloc, cmb_hurt **out_hurt);
void cmb_hurt_destroy(cmb_hurt *hurt); /* NULL allowed */
/* addr 0: nothing is noted. CMB_ENOMEM: unchanged. */
int cmb_hurt_add(cmb_hurt *hurt, uint64_t addr, uint32_t number);
/* *out_n numbers, valid until one is added to this very address; NULL: none. */
const uint32_t *cmb_hurt_at(const cmb_hurt *hurt, uint64_t addr, size_t *out_n);

#endif
