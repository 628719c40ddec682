/* SPDX-License-Identifier: ISC */
#include "io/sort.h"

#include <assert.h>

#define ITEM_MAX 128u

static void swap(uint8_t *a, uint8_t *b, size_t size)
{
    uint8_t held[ITEM_MAX];
    memcpy(held, a, size);
    memcpy(a, b, size);
    memcpy(b, held, size);
}

/* Lets the item at `at` sink to its place in a heap of n items, the largest on top. */
static void sink(uint8_t *items, size_t at, size_t n, size_t size, int (*compare)(const void *, const void *))
{
    for (size_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && compare(items + child * size, items + (child + 1) * size) < 0)
            child++;
        if (compare(items + at * size, items + child * size) >= 0)
            return;
        swap(items + at * size, items + child * size, size);
    }
}

void cmb_sort(void *items, size_t n, size_t size, int (*compare)(const void *a, const void *b))
{
    uint8_t *p = items;
    assert(size <= ITEM_MAX);
    for (size_t i = n / 2; i-- > 0;)
        sink(p, i, n, size, compare);
    for (size_t i = n; i-- > 1;) {
        swap(p, p + i * size, size);
        sink(p, 0, i, size, compare);
    }
}
