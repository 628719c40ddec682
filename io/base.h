/* SPDX-License-Identifier: ISC */
/*
 * base.h: what every room uses and none owns: errors with a detail text, memory, little-endian
 * bytes, hashing. No OS header; compiles into a unikernel.
 */
#ifndef CMB_IO_BASE_H
#define CMB_IO_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cambium/error.h>
#include <cambium/types.h>

#define CMB_LIKELY(x) __builtin_expect(!!(x), 1)
#define CMB_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define CMB_PRINTF(f, a) __attribute__((format(printf, f, a)))
#define CMB_COUNTOF(a) (sizeof(a) / sizeof((a)[0]))

#define CMB_BLOCK 4096u /* bytes of the log's unit of device I/O */

/* ---- errors (base.c) ---- */

/* Sets this thread's detail text and returns `error`: `return cmb_fail(CMB_EIO, "…", …);` */
int cmb_fail(int error, const char *format, ...) CMB_PRINTF(2, 3);
/* Puts "format: " in front of the detail text there is, keeps the error: for a caller that knows where. */
int cmb_fail_in(int error, const char *format, ...) CMB_PRINTF(2, 3);

/* ---- memory (base.c): the only place where malloc is called ---- */

/* Fills empty members with the C library's. */
cmb_allocator cmb_allocator_or_default(const cmb_allocator *alloc);
void *cmb_alloc(const cmb_allocator *alloc, size_t size);  /* NULL and CMB_ENOMEM's detail set */
void *cmb_zalloc(const cmb_allocator *alloc, size_t size); /* zeroed */
void *cmb_resize(const cmb_allocator *alloc, void *ptr, size_t old_size, size_t new_size);
void cmb_release(const cmb_allocator *alloc, void *ptr, size_t size); /* NULL allowed */

/* ---- bytes on disk: little-endian, any alignment ---- */

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define CMB_LE(bits, x) (x)
#define CMB_BE64(x) __builtin_bswap64(x)
#else
#define CMB_LE(bits, x) __builtin_bswap##bits(x)
#define CMB_BE64(x) (x)
#endif
static inline uint16_t cmb_get16(const void *p) { uint16_t v; memcpy(&v, p, 2); return CMB_LE(16, v); }
static inline uint32_t cmb_get32(const void *p) { uint32_t v; memcpy(&v, p, 4); return CMB_LE(32, v); }
static inline uint64_t cmb_get64(const void *p) { uint64_t v; memcpy(&v, p, 8); return CMB_LE(64, v); }
static inline void cmb_put16(void *p, uint16_t v) { v = CMB_LE(16, v); memcpy(p, &v, 2); }
static inline void cmb_put32(void *p, uint32_t v) { v = CMB_LE(32, v); memcpy(p, &v, 4); }
static inline void cmb_put64(void *p, uint64_t v) { v = CMB_LE(64, v); memcpy(p, &v, 8); }
/* n = 1..8 bytes, little-endian */
static inline uint64_t cmb_get_uint(const uint8_t *p, unsigned n)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < n; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}
static inline void cmb_put_uint(uint8_t *p, unsigned n, uint64_t v)
{
    for (unsigned i = 0; i < n; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}
static inline unsigned cmb_uint_width(uint64_t v) /* bytes that hold v, at least 1 */
{
    unsigned n = 1;
    while (n < 8 && v >> (8 * n))
        n++;
    return n;
}
static inline uint64_t cmb_align_up(uint64_t v, uint64_t to) { return (v + to - 1) & ~(to - 1); } /* power of two */

static inline int cmb_compare(const void *a, size_t an, const void *b, size_t bn)
{
    size_t n = an < bn ? an : bn;
    int c = n ? memcmp(a, b, n) : 0;
    return c ? c : (an > bn) - (an < bn);
}

/* ---- hashing (hash.c) ---- */

uint64_t cmb_hash64(const void *data, size_t size, uint64_t seed); /* XXH3_64bits_withSeed */
/* Can this build make names of that kind? CMB_EVERSION: nobody knows it. CMB_ENOTSUP: the feature was left out. To be asked
 * once, before an image is made or opened. */
int cmb_hash_check(unsigned kind);
/* The name of `size` bytes of content in the image's hash, which passed cmb_hash_check; cannot fail. */
void cmb_hash_name(cmb_hash_kind kind, const void *data, size_t size, cmb_name *out_name);
static inline unsigned cmb_name_size(cmb_hash_kind kind) { return kind == CMB_HASH_XXH3 ? 16 : 32; }
/* Is it hard to find two contents with one name? */
static inline bool cmb_hash_is_cryptographic(cmb_hash_kind kind) { return kind != CMB_HASH_XXH3; }
static inline bool cmb_name_equal(const cmb_name *a, const cmb_name *b)
{
    return a->size == b->size && memcmp(a->bytes, b->bytes, a->size) == 0;
}
/* Lower-case hexadecimal, 2 * size characters and a zero byte. */
void cmb_name_hex(const cmb_name *name, char out_hex[2 * CMB_NAME_MAX + 1]);

#endif
