/* SPDX-License-Identifier: ISC */
/** @file types.h  Byte strings, names, the allocator and the environment that a program injects. */
#ifndef CAMBIUM_TYPES_H
#define CAMBIUM_TYPES_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Limits. Keys are any bytes, compared as unsigned bytes, a prefix before what it begins. */
#define CMB_KEY_MIN 1u
#define CMB_KEY_MAX 16384u
#define CMB_VALUE_MAX 4294967295u
#define CMB_NAME_MAX 32u      /* bytes of the longest node or commit name */
#define CMB_REF_NAME_MAX 255u /* bytes of a branch's or tag's name */

/** A byte string that its maker owns. `data` may be NULL when `size` is 0. */
typedef struct cmb_bytes {
    const void *data;
    size_t size; /* bytes */
} cmb_bytes;

/** Where memory comes from. All members NULL: the C library's. Must be thread-safe, aligned to 16. */
typedef struct cmb_allocator {
    void *ctx;
    void *(*alloc)(void *ctx, size_t size);                                        /* NULL: none left */
    void *(*resize)(void *ctx, void *ptr, size_t old_size, size_t new_size); /* NULL: none left, ptr kept */
    void (*release)(void *ctx, void *ptr, size_t size);
} cmb_allocator;

/**
 * Clock and randomness. All members NULL: the operating system's. With both injected, one
 * thread's script of calls makes the same bytes on every device.
 */
typedef struct cmb_env {
    void *ctx;
    int64_t (*now)(void *ctx);                           /* microseconds since 1970-01-01 UTC */
    int (*random)(void *ctx, void *out_bytes, size_t n); /* 0 or CMB_EIO */
} cmb_env;

/** How nodes and commits are named. */
typedef enum cmb_hash_kind {
    CMB_HASH_XXH3 = 1,   /* XXH3-128, 16 bytes: against accidents */
    CMB_HASH_SHA256 = 2, /* SHA-256, 32 bytes: against forgers too; where the library was built with the feature sha256 */
} cmb_hash_kind;

/** The name of a node or a commit: the hash of its content. Unused bytes are zero. */
typedef struct cmb_name {
    uint8_t bytes[CMB_NAME_MAX];
    uint8_t size; /* 16 or 32; 0: no name */
} cmb_name;

#ifdef __cplusplus
}
#endif
#endif
