/* SPDX-License-Identifier: ISC */
/*
 * addrset.h: a set of record addresses, with the bytes of its records per logical segment. Liveness
 * and checking are kept by address: equal names at two addresses are two records.
 *
 * A segment's records are an open-addressing table of 32-bit granule numbers while they are few, and a bitmap
 * of granules as soon as that is smaller. So the whole takes 5 to 11 bytes a record, and never more than 1/128 of the
 * log. Single-threaded.
 */
#ifndef CMB_STORE_ADDRSET_H
#define CMB_STORE_ADDRSET_H

#include "io/base.h"

typedef struct cmb_addrset cmb_addrset;

int cmb_addrset_create(const cmb_allocator *alloc, unsigned segment_shift, cmb_addrset **out_set);
void cmb_addrset_destroy(cmb_addrset *set); /* NULL is allowed */
/* addr: a multiple of 16. *out_added false: it was there, and `length` is not counted again. CMB_ENOMEM: unchanged. */
int cmb_addrset_add(cmb_addrset *set, uint64_t addr, uint32_t length, bool *out_added);
bool cmb_addrset_has(const cmb_addrset *set, uint64_t addr);
/* Sum of the lengths of a logical segment's records. */
uint64_t cmb_addrset_bytes(const cmb_addrset *set, uint64_t segment);
uint64_t cmb_addrset_count(const cmb_addrset *set);
size_t cmb_addrset_memory(const cmb_addrset *set); /* bytes held */

#endif
