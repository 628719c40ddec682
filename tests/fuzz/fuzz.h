/* SPDX-License-Identifier: ISC */
/*
 * fuzz.h: what the fuzz targets share. A target is one file with
 *
 *   LLVMFuzzerTestOneInput   takes any bytes: nothing that they say may crash, leak, hang or be answered wrongly
 *   fuzz_seeds               makes inputs to begin with, by running the library
 *
 * and is linked either with libFuzzer, or with main.c: that replays files, is the loop of afl-clang-fast, and tries some
 * mutations by itself, so that every build of the tests runs every target.
 *
 * A target that fails stops the program with a message: fuzzers and tests take that as the finding.
 */
#ifndef CMB_FUZZ_FUZZ_H
#define CMB_FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cambium/cambium.h>

#define FUZZ_MIB ((uint64_t)1 << 20)

/* ---- a target ---- */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/* Calls give() for each input to begin with; `name` becomes a file's name. */
typedef void (*fuzz_give_fn)(const char *name, const void *data, size_t size);
void fuzz_seeds(fuzz_give_fn give);
extern const char fuzz_target[]; /* its name: that of its folder in corpus/ */
/* Optional, of targets that know what their inputs look like; `size` may grow up to `max`. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed);
/* libFuzzer's own, or main.c's. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);

/* ---- saying what is wrong ---- */

_Noreturn void fuzz_failed(const char *file, int line, const char *format, ...) __attribute__((format(printf, 3, 4)));
#define fuzz_fail(...) fuzz_failed(__FILE__, __LINE__, __VA_ARGS__)
#define fuzz_check(condition, ...)                                                                                     \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            fuzz_failed(__FILE__, __LINE__, __VA_ARGS__);                                                              \
    } while (0)
/* It is a code that the library has, and says why; returns it. */
int fuzz_coded(int error);
/* It is 0: what was asked for has no reason to fail. */
#define fuzz_must(x) fuzz_must_be_done((x), #x, __FILE__, __LINE__)
void fuzz_must_be_done(int error, const char *what, const char *file, int line);

/* ---- one input ---- */

/* Memory is counted from here on, and refused beyond `limit` bytes; clock and random numbers begin anew. */
void fuzz_begin(size_t limit);
/* All memory was given back. */
void fuzz_end(void);
const cmb_allocator *fuzz_allocator(void);
/* Was memory refused since fuzz_begin? Then CMB_ENOMEM is an answer to anything. */
bool fuzz_refused(void);
/* Options of a store: that allocator, that environment, small pool and buffers. */
cmb_store_options fuzz_store_options(void);

/* ---- an input taken apart from its front; zeros past its end ---- */

typedef struct fuzz_input {
    const uint8_t *at, *end;
} fuzz_input;
uint8_t fuzz_byte(fuzz_input *in);
uint64_t fuzz_uint(fuzz_input *in, unsigned bytes); /* little-endian */
/* Up to `size` bytes, fewer at the end. */
cmb_bytes fuzz_bytes(fuzz_input *in, size_t size);
/* What a read callback of imports and transfers gives: the rest, in pieces of 1 .. `piece` bytes. */
typedef struct fuzz_stream {
    const uint8_t *data;
    size_t size, at, piece; /* piece 0: as much as is asked for */
} fuzz_stream;
int fuzz_stream_read(void *stream, void *out, size_t size, size_t *out_read);
int fuzz_stream_rewind(void *stream);

/* ---- bytes that are written ---- */

typedef struct fuzz_buffer {
    uint8_t *data;
    size_t size, capacity;
} fuzz_buffer;
int fuzz_buffer_write(void *buffer, const void *data, size_t size); /* as a write callback */
void fuzz_buffer_free(fuzz_buffer *buffer);

/* ---- numbers that follow from a seed ---- */

uint64_t fuzz_random(uint64_t *state);

#endif
