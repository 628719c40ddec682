/* SPDX-License-Identifier: ISC */
/* memory.c: an allocator that counts and refuses. */
#include "tests/kloop/kloop.h"

static bool refuses(kloop_memory *m, int64_t more)
{
    uint64_t n = __atomic_fetch_add(&m->calls, 1, __ATOMIC_SEQ_CST);
    if (n == m->fail_at || (m->for_ever && n > m->fail_at)) {
        __atomic_add_fetch(&m->fired, 1, __ATOMIC_SEQ_CST);
        return true;
    }
    if (m->limit && __atomic_load_n(&m->held, __ATOMIC_SEQ_CST) + more > m->limit) {
        __atomic_add_fetch(&m->refused, 1, __ATOMIC_SEQ_CST);
        return true;
    }
    return false;
}

static void count(kloop_memory *m, int64_t bytes)
{
    int64_t held = __atomic_add_fetch(&m->held, bytes, __ATOMIC_SEQ_CST);
    int64_t peak = __atomic_load_n(&m->peak, __ATOMIC_SEQ_CST);
    while (held > peak && !__atomic_compare_exchange_n(&m->peak, &peak, held, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        ;
}

static void *memory_alloc(void *ctx, size_t size)
{
    void *p = refuses(ctx, (int64_t)size) ? NULL : malloc(size);
    if (p)
        count(ctx, (int64_t)size);
    return p;
}

static void *memory_resize(void *ctx, void *ptr, size_t old_size, size_t new_size)
{
    void *p = refuses(ctx, (int64_t)new_size - (int64_t)old_size) ? NULL : realloc(ptr, new_size);
    if (p)
        count(ctx, (int64_t)new_size - (int64_t)old_size);
    return p;
}

static void memory_release(void *ctx, void *ptr, size_t size)
{
    count(ctx, -(int64_t)size);
    free(ptr);
}

void kloop_memory_init(kloop_memory *m)
{
    *m = (kloop_memory){.fail_at = UINT64_MAX};
    m->alloc = (cmb_allocator){.ctx = m, .alloc = memory_alloc, .resize = memory_resize, .release = memory_release};
}
