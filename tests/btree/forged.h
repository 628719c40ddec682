/* SPDX-License-Identifier: ISC */
/*
 * forged.h: two contents of equal length with one XXH3-128 name.
 *
 * XXH3 takes input of more than 240 bytes in stripes of 64, 16 of them a block. Of the 64-bit word w in lane i of stripe n it makes
 * k = w ^ secret[8n + 8i], adds low32(k) * high32(k) to one accumulator of its lane and w itself to the neighbour's. Where the low
 * half of k is zero, the product is zero whatever the high half is. So two such words in one lane of two stripes of a block can be
 * changed as long as their sum stays: one's high half goes up by one, the other's down.
 */
#ifndef CMB_TESTS_FORGED_H
#define CMB_TESTS_FORGED_H

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "io/base.h"

#define FORGED_STRIPE 64u
#define FORGED_BLOCK  1024u
#define FORGED_ROOM   (4u * FORGED_STRIPE) /* bytes of a value that is large enough to be forged wherever it lies, if as many follow */

/* Changes two words of the value at `at` of a hashed content; a and b are `size` bytes each and become the two contents of it. */
static inline void forge_pair(size_t at, size_t size, uint8_t *a, uint8_t *b)
{
    size_t first = cmb_align_up(at, FORGED_STRIPE);
    if (first % FORGED_BLOCK == FORGED_BLOCK - FORGED_STRIPE) /* the next stripe would be in another block */
        first += FORGED_STRIPE;
    memset(a, 'f', size);
    for (unsigned i = 0; i < 2; i++) {
        size_t place = first + i * FORGED_STRIPE;
        size_t stripe = place % FORGED_BLOCK / FORGED_STRIPE;
        uint64_t word = cmb_get64(XXH3_kSecret + 8 * stripe) ^ (uint64_t)0x1234 << 32;
        cmb_put64(a + (place - at), word);
    }
    memcpy(b, a, size);
    cmb_put64(b + (first - at), cmb_get64(a + (first - at)) + ((uint64_t)1 << 32));
    cmb_put64(b + (first - at) + FORGED_STRIPE, cmb_get64(a + (first - at) + FORGED_STRIPE) - ((uint64_t)1 << 32));
}

#endif
