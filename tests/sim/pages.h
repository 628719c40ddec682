/* SPDX-License-Identifier: ISC */
/*
 * pages.h: bytes that are copied when they are written: a disk's content. Copies share what they have in common, page by page,
 * so that a million crash states of one image cost what they differ in.
 *
 *      chunks            chunk (1 MiB)      page (4 KiB)
 *     |  *  |  0  | …   |holders|  *  | …  |holders|bytes|        0: nothing was written there, it reads as zeros
 *
 * `sum` is a hash of the content that depends on nothing else: over all sectors that are not zeros, the sum of the hashes of each
 * with its place. A write changes it by what it changes.
 *
 * One thread at a time for all copies of one content. Memory that runs out ends the program: these are tests.
 */
#ifndef CMB_TESTS_SIM_PAGES_H
#define CMB_TESTS_SIM_PAGES_H

#include <stddef.h>
#include <stdint.h>

#define SIM_SECTOR 512u

struct sim_chunk;

typedef struct sim_pages {
    struct sim_chunk **chunks;
    size_t count;
    uint64_t sum;
} sim_pages;

/* All zeros; `size`: bytes that it can hold. */
void sim_pages_init(sim_pages *pages, uint64_t size);
void sim_pages_free(sim_pages *pages);
/* `copy` (not initialised) gets the same content. */
void sim_pages_share(sim_pages *copy, const sim_pages *pages);
/* Multiples of a sector. */
void sim_pages_read(const sim_pages *pages, uint64_t offset, void *buffer, uint64_t length);
void sim_pages_write(sim_pages *pages, uint64_t offset, const void *data, uint64_t length); /* data NULL: zeros */

#endif
