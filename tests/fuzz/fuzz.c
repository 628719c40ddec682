/* SPDX-License-Identifier: ISC */
/* fuzz.c: counted memory, clock and randomness of one input; inputs taken apart; failures. */
#include "tests/fuzz/fuzz.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/base.h"

/* Memory that waits to be used again must not be touched. */
#ifdef __has_feature
#define HAS_FEATURE(x) __has_feature(x)
#else
#define HAS_FEATURE(x) 0
#endif
#if defined __SANITIZE_ADDRESS__ || HAS_FEATURE(address_sanitizer)
#include <sanitizer/asan_interface.h>
#define ALLOW(ptr, size)  ASAN_UNPOISON_MEMORY_REGION(ptr, size)
#define FORBID(ptr, size) ASAN_POISON_MEMORY_REGION(ptr, size)
#else
#define ALLOW(ptr, size)  ((void)0)
#define FORBID(ptr, size) ((void)0)
#endif

#define POOL  ((size_t)512 << 10)
#define EDITS ((size_t)1 << 20)

/* ---- saying what is wrong ---- */

_Noreturn void fuzz_failed(const char *file, int line, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "%s:%d: %s: ", file, line, fuzz_target);
    vfprintf(stderr, format, args);
    fprintf(stderr, "\n(the last error was: %s)\n", cmb_error_detail());
    va_end(args);
    abort();
}

int fuzz_coded(int error)
{
    fuzz_check(error <= 0 && strcmp(cmb_error_name(error), cmb_error_name(-9999)) != 0, "%d is no code of an error", error);
    return error;
}

void fuzz_must_be_done(int error, const char *what, const char *file, int line)
{
    if (error && !(error == CMB_ENOMEM && fuzz_refused()))
        fuzz_failed(file, line, "%s: %s", what, cmb_error_name(error));
}

/* ---- memory: each block is preceded by its size, so that a wrong one is found when it is given back ---- */

typedef struct block {
    _Alignas(16) size_t size;
    uint64_t mark;
    struct block *next; /* in the list of those that wait to be used again */
} block;
#define MARK 0x6b6f6c6273697968u

static struct {
    size_t used, limit, blocks, spares;
    bool refused;
    int64_t now;
    uint64_t random;
} state;

/* Large blocks are used again: making and clearing them would take most of the time. */
#define LARGE  ((size_t)64 << 10)
#define SPARES 64u
static block *spare;

static block *take_spare(size_t size)
{
    for (block **at = &spare; *at; at = &(*at)->next)
        if ((*at)->size == size) {
            block *b = *at;
            *at = b->next;
            state.spares--;
            ALLOW(b + 1, size);
            return b;
        }
    return NULL;
}

static void *take(void *ctx, size_t size)
{
    if (size > state.limit - state.used) {
        state.refused = true;
        return NULL;
    }
    block *b = size >= LARGE ? take_spare(size) : NULL;
    if (!b)
        b = malloc(sizeof *b + size);
    if (!b)
        return NULL;
    *b = (block){.size = size, .mark = MARK};
    state.used += size;
    state.blocks++;
    return b + 1;
}

static void give(void *ctx, void *ptr, size_t size)
{
    block *b = (block *)ptr - 1;
    fuzz_check(b->mark == MARK && b->size == size, "memory of %zu bytes is given back as %zu", b->size, size);
    b->mark = 0;
    state.used -= size;
    state.blocks--;
    if (size >= LARGE && state.spares < SPARES) {
        state.spares++;
        b->next = spare;
        spare = b;
        FORBID(b + 1, size);
    } else {
        free(b);
    }
}

static void *change(void *ctx, void *ptr, size_t old_size, size_t new_size)
{
    void *made = take(ctx, new_size);
    if (made) {
        memcpy(made, ptr, old_size < new_size ? old_size : new_size);
        give(ctx, ptr, old_size);
    }
    return made;
}

static const cmb_allocator counted = {.alloc = take, .resize = change, .release = give};

const cmb_allocator *fuzz_allocator(void)
{
    return &counted;
}

bool fuzz_refused(void)
{
    return state.refused;
}

/* ---- one input ---- */

static int64_t tick(void *ctx)
{
    return state.now += 1000000;
}

static int random_bytes(void *ctx, void *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ((uint8_t *)out)[i] = (uint8_t)fuzz_random(&state.random);
    return 0;
}

void fuzz_begin(size_t limit)
{
    fuzz_check(!state.blocks, "the input before left memory behind");
    state.limit = limit;
    state.refused = false;
    state.now = 1700000000000000;
    state.random = 42;
}

void fuzz_end(void)
{
    fuzz_check(!state.blocks && !state.used, "%zu blocks of memory, %zu bytes, were not given back", state.blocks, state.used);
}

cmb_store_options fuzz_store_options(void)
{
    return (cmb_store_options){.alloc = counted,
                               .env = {.now = tick, .random = random_bytes},
                               .residency = CMB_RESIDENT_POOL,
                               .pool_size = POOL,
                               .txn_memory = EDITS};
}

/* ---- an input taken apart ---- */

uint8_t fuzz_byte(fuzz_input *in)
{
    return in->at < in->end ? *in->at++ : 0;
}

uint64_t fuzz_uint(fuzz_input *in, unsigned bytes)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < bytes; i++)
        v |= (uint64_t)fuzz_byte(in) << (8 * i);
    return v;
}

cmb_bytes fuzz_bytes(fuzz_input *in, size_t size)
{
    size_t left = (size_t)(in->end - in->at);
    cmb_bytes taken = {in->at, size < left ? size : left};
    in->at += taken.size;
    return taken;
}

int fuzz_stream_read(void *stream, void *out, size_t size, size_t *out_read)
{
    fuzz_stream *s = stream;
    size_t n = s->size - s->at;
    n = n < size ? n : size;
    n = s->piece && n > s->piece ? s->piece : n;
    if (n)
        memcpy(out, s->data + s->at, n);
    s->at += n;
    *out_read = n;
    return 0;
}

int fuzz_stream_rewind(void *stream)
{
    ((fuzz_stream *)stream)->at = 0;
    return 0;
}

/* ---- bytes that are written ---- */

int fuzz_buffer_write(void *buffer, const void *data, size_t size)
{
    fuzz_buffer *b = buffer;
    if (size > b->capacity - b->size) {
        b->capacity = 2 * (b->size + size);
        b->data = realloc(b->data, b->capacity);
        fuzz_check(b->data, "no memory");
    }
    if (size)
        memcpy(b->data + b->size, data, size);
    b->size += size;
    return 0;
}

void fuzz_buffer_free(fuzz_buffer *buffer)
{
    free(buffer->data);
    *buffer = (fuzz_buffer){0};
}

uint64_t fuzz_random(uint64_t *s)
{
    uint64_t z = *s += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}
