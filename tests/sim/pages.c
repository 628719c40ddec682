/* SPDX-License-Identifier: ISC */
#include "pages.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "io/base.h"

#define PAGE        4096u
#define CHUNK       (1u << 20)
#define CHUNK_PAGES (CHUNK / PAGE)

typedef struct sim_page {
    uint32_t holders;
    uint8_t bytes[PAGE];
} sim_page;

typedef struct sim_chunk {
    uint32_t holders;
    sim_page *pages[CHUNK_PAGES];
} sim_chunk;

static const uint8_t zeros[PAGE];

static void *need(void *memory)
{
    if (!memory)
        abort();
    return memory;
}

static void page_release(sim_page *page)
{
    if (page && --page->holders == 0)
        free(page);
}

static void chunk_release(sim_chunk *chunk)
{
    if (!chunk || --chunk->holders)
        return;
    for (unsigned i = 0; i < CHUNK_PAGES; i++)
        page_release(chunk->pages[i]);
    free(chunk);
}

void sim_pages_init(sim_pages *pages, uint64_t size)
{
    size_t count = (size_t)((size + CHUNK - 1) / CHUNK);
    *pages = (sim_pages){.chunks = need(calloc(count ? count : 1, sizeof *pages->chunks)), .count = count};
}

void sim_pages_free(sim_pages *pages)
{
    for (size_t i = 0; i < pages->count; i++)
        chunk_release(pages->chunks[i]);
    free(pages->chunks);
    *pages = (sim_pages){0};
}

void sim_pages_share(sim_pages *copy, const sim_pages *pages)
{
    *copy = *pages;
    copy->chunks = need(malloc((pages->count ? pages->count : 1) * sizeof *copy->chunks));
    for (size_t i = 0; i < pages->count; i++) {
        copy->chunks[i] = pages->chunks[i];
        if (copy->chunks[i])
            copy->chunks[i]->holders++;
    }
}

static const uint8_t *page_at(const sim_pages *pages, uint64_t offset)
{
    assert(offset / CHUNK < pages->count);
    const sim_chunk *chunk = pages->chunks[offset / CHUNK];
    const sim_page *page = chunk ? chunk->pages[offset % CHUNK / PAGE] : NULL;
    return page ? page->bytes : zeros;
}

static sim_chunk *own_chunk(sim_chunk **slot)
{
    sim_chunk *old = *slot;
    if (old && old->holders == 1)
        return old;
    sim_chunk *chunk = need(calloc(1, sizeof *chunk));
    chunk->holders = 1;
    for (unsigned i = 0; old && i < CHUNK_PAGES; i++) {
        chunk->pages[i] = old->pages[i];
        if (chunk->pages[i])
            chunk->pages[i]->holders++;
    }
    chunk_release(old);
    *slot = chunk;
    return chunk;
}

static uint8_t *own_page(sim_pages *pages, uint64_t offset)
{
    assert(offset / CHUNK < pages->count);
    sim_chunk *chunk = own_chunk(&pages->chunks[offset / CHUNK]);
    sim_page **slot = &chunk->pages[offset % CHUNK / PAGE], *old = *slot;
    if (old && old->holders == 1)
        return old->bytes;
    sim_page *page = need(malloc(sizeof *page));
    page->holders = 1;
    memcpy(page->bytes, old ? old->bytes : zeros, PAGE);
    page_release(old);
    *slot = page;
    return page->bytes;
}

static uint64_t sector_sum(const uint8_t *sector, uint64_t offset)
{
    return memcmp(sector, zeros, SIM_SECTOR) == 0 ? 0 : cmb_hash64(sector, SIM_SECTOR, offset);
}

void sim_pages_read(const sim_pages *pages, uint64_t offset, void *buffer, uint64_t length)
{
    for (uint64_t done = 0, n; done < length; done += n) {
        uint64_t at = offset + done;
        n = PAGE - at % PAGE < length - done ? PAGE - at % PAGE : length - done;
        memcpy((uint8_t *)buffer + done, page_at(pages, at) + at % PAGE, n);
    }
}

void sim_pages_write(sim_pages *pages, uint64_t offset, const void *data, uint64_t length)
{
    assert(offset % SIM_SECTOR == 0 && length % SIM_SECTOR == 0);
    for (uint64_t at = offset; at < offset + length; at += SIM_SECTOR) {
        const uint8_t *fresh = data ? (const uint8_t *)data + (at - offset) : zeros;
        const uint8_t *old = page_at(pages, at) + at % PAGE;
        if (memcmp(old, fresh, SIM_SECTOR) == 0)
            continue;
        pages->sum += sector_sum(fresh, at) - sector_sum(old, at);
        memcpy(own_page(pages, at) + at % PAGE, fresh, SIM_SECTOR);
    }
}
