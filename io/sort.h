/* SPDX-License-Identifier: ISC */
/* sort.h: sorting in place, without memory of its own and without recursion. */
#ifndef CMB_IO_SORT_H
#define CMB_IO_SORT_H

#include "io/base.h"

/* n items of `size` bytes each (at most 128), ascending: compare returns what memcmp would. Not stable. O(n log n). */
void cmb_sort(void *items, size_t n, size_t size, int (*compare)(const void *a, const void *b));

#endif
