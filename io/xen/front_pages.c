/* SPDX-License-Identifier: ISC */
/* front_pages.c: memory that the back end may reach: the pool of shared pages, and what was lent and did not come back. */
#include "io/xen/front.h"

#include <assert.h>

#define CHUNK 65u /* pages that the pool begins with: 256 KiB in a row, and the page that holds their indirect segments */

/* The chunk's pages become free, its first one to be taken first. */
static void chunk_add(front_pool *pool, front_chunk *c)
{
    for (unsigned i = c->pages; i-- > 0;) {
        front_page *page = &c->descriptors[i];
        *page = (front_page){.at = (uint8_t *)c->memory + (size_t)i * CMB_XEN_PAGE, .ref = c->refs[i], .next = pool->free};
        pool->free = page;
    }
    c->next = pool->chunks;
    pool->chunks = c;
    pool->pages += c->pages;
    pool->available += c->pages;
}

static void chunk_release(front *f, front_chunk *c)
{
    const cmb_allocator *alloc = &f->dev.alloc;
    cmb_release(alloc, c->descriptors, c->pages * sizeof *c->descriptors);
    cmb_release(alloc, c->refs, c->pages * sizeof *c->refs);
    cmb_release(alloc, c, sizeof *c);
}

static int chunk_make(front *f, unsigned n)
{
    const cmb_allocator *alloc = &f->dev.alloc;
    front_chunk *c = cmb_zalloc(alloc, sizeof *c);
    if (!c)
        return CMB_ENOMEM;
    c->pages = n;
    c->descriptors = cmb_zalloc(alloc, n * sizeof *c->descriptors);
    c->refs = cmb_zalloc(alloc, n * sizeof *c->refs);
    int error = c->descriptors && c->refs ? 0 : CMB_ENOMEM;
    if (!error)
        error = f->platform->ops->share(f->platform, f->back_id, n, &c->memory, c->refs);
    if (error) {
        chunk_release(f, c);
        return error;
    }
    chunk_add(&f->pool, c);
    return 0;
}

/* To twice as many, or by fewer pages where there are not so many. */
static int pool_grow(front *f)
{
    unsigned left = f->options.pool_pages - f->pool.pages, wished = f->pool.pages < CHUNK ? CHUNK : f->pool.pages;
    int error = CMB_ENOMEM;
    for (unsigned n = left < wished ? left : wished; n && error; n /= 2)
        error = chunk_make(f, n);
    return error;
}

int cmb_pool_start(front *f)
{
    assert(f->pool.pages == 0);
    return pool_grow(f);
}

unsigned cmb_pool_take(front *f, unsigned wanted, front_page **out_pages)
{
    front_pool *pool = &f->pool;
    if (f->in_rings == 0)
        pool->full = false; /* nobody will give any back: what was refused may be there by now */
    while (pool->available < wanted && !pool->full)
        pool->full = pool_grow(f) != 0;
    unsigned n = wanted < pool->available ? wanted : pool->available;
    if (n == 0)
        return 0;
    front_page *first = pool->free, *last = first;
    for (unsigned i = 1; i < n; i++)
        last = last->next;
    pool->free = last->next;
    pool->available -= n;
    last->next = NULL;
    *out_pages = first;
    return n;
}

/* They come to lie on top in the order that they had, so that pages which lie in a row go on doing so. */
void cmb_pool_give(front *f, front_page *pages)
{
    front_pool *pool = &f->pool;
    if (!pages)
        return;
    front_page *last = pages;
    unsigned n = 1;
    for (; last->next; last = last->next)
        n++;
    last->next = pool->free;
    pool->free = pages;
    pool->available += n;
    assert(pool->available <= pool->pages);
}

void cmb_pool_free(front *f)
{
    front_pool *pool = &f->pool;
    assert(pool->available == pool->pages);
    while (pool->chunks) {
        front_chunk *c = pool->chunks;
        pool->chunks = c->next;
        /* What the back end holds on to the platform keeps; nothing of it is used again. */
        (void)f->platform->ops->unshare(f->platform, c->memory, c->pages, c->refs);
        chunk_release(f, c);
    }
    *pool = (front_pool){0};
}

/* Bytes of the next run of pages that lie in a row, `left` at most; `*at` moves past them. */
static uint32_t run_next(const front_page **at, uint32_t left)
{
    uint32_t n = CMB_XEN_PAGE;
    const front_page *page = *at;
    while (n < left && page->next && page->next->at == page->at + CMB_XEN_PAGE) {
        page = page->next;
        n += CMB_XEN_PAGE;
    }
    *at = page->next;
    return n < left ? n : left;
}

void cmb_pages_write(const front_page *pages, const uint8_t *from, uint32_t length)
{
    for (uint32_t done = 0, n; done < length; done += n) {
        uint8_t *to = pages->at;
        n = run_next(&pages, length - done);
        memcpy(to, from + done, n);
    }
}

void cmb_pages_read(const front_page *pages, uint8_t *to, uint32_t length)
{
    for (uint32_t done = 0, n; done < length; done += n) {
        const uint8_t *from = pages->at;
        n = run_next(&pages, length - done);
        memcpy(to + done, from, n);
    }
}

/* Without memory to note it down a grant is never revoked; the caller hears of the error all the same. */
static void note_stuck(front *f, const uint32_t *refs, unsigned n)
{
    if (n > f->stuck_room - f->stuck_count) {
        unsigned room = f->stuck_count + n + 16;
        uint32_t *more = cmb_resize(&f->dev.alloc, f->stuck, f->stuck_room * sizeof *more, room * sizeof *more);
        if (!more)
            return;
        f->stuck = more;
        f->stuck_room = room;
    }
    memcpy(f->stuck + f->stuck_count, refs, n * sizeof *refs);
    f->stuck_count += n;
}

int cmb_lent_end(front *f, uint32_t *refs, unsigned pages)
{
    unsigned kept = f->platform->ops->revoke(f->platform, refs, pages);
    if (kept == 0)
        return 0;
    note_stuck(f, refs, kept);
    return CMB_EBUSY;
}

void cmb_lent_retry(front *f)
{
    if (f->stuck_count)
        f->stuck_count = f->platform->ops->revoke(f->platform, f->stuck, f->stuck_count);
}
