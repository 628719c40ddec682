/* SPDX-License-Identifier: ISC */
/*
 * wire.h: bytes on their way between images, in bundles and between peers: docs/sync.md says what they look like.
 *
 * A stream is 8 bytes that say what it is, then messages. A message is one or more frames:
 *
 *   0  u32 length of the payload, at most CMB_WIRE_FRAME; bit 31: the message's last frame
 *   4  u64 check: XXH3-64 of the payload, seeded with that of bytes 0..3, itself seeded with the check of the frame before
 *          (the first frame: with XXH3-64 of the stream's first 8 bytes)
 *   12 payload
 *
 * So a stream that was cut, changed or put together from others is found out at the frame where that begins, before any of
 * its payload is used. Against forgers the names of what is sent protect, not these checks.
 *
 * One thread.
 */
#ifndef CMB_STORE_WIRE_H
#define CMB_STORE_WIRE_H

#include <cambium/sync.h>

#include "store/internal.h"

#define CMB_WIRE_FRAME (128u << 10) /* bytes of payload */
#define CMB_WIRE_HEADER 12u
#define CMB_WIRE_MAGIC 8u
#define CMB_WIRE_BUNDLE "CambiuB\x01"
#define CMB_WIRE_PEER "CambiuS\x01"

/* ---- reading ---- */

typedef struct cmb_wire_in {
    cmb_allocator alloc;
    cmb_sync_read_fn read;
    void *ctx;
    const char *what; /* for messages: "bundle", "peer" */
    uint8_t *frame;
    uint32_t capacity; /* bytes of it: as large as the largest so far */
    uint32_t at, size;
    bool last, in_message;
    uint64_t check;
    uint64_t bytes; /* read so far */
    uint64_t limit; /* of them; 0: none */
} cmb_wire_in;

/* Reads nothing yet. */
void cmb_wire_in_open(cmb_wire_in *in, const cmb_allocator *alloc, const char *what, cmb_sync_read_fn read, void *ctx);
void cmb_wire_in_close(cmb_wire_in *in); /* zeroed: allowed */
/* CMB_ESYNTAX, the detail begins with what it is and the byte. */
int cmb_wire_refuse(const cmb_wire_in *in, const char *format, ...) CMB_PRINTF(2, 3);
/* The stream's first bytes. */
int cmb_wire_in_begin(cmb_wire_in *in, const char magic[CMB_WIRE_MAGIC]);
/* The next message begins; the one before was ended. */
int cmb_wire_in_message(cmb_wire_in *in);
/* Exactly `size` bytes of the message. */
int cmb_wire_get(cmb_wire_in *in, void *out, size_t size);
int cmb_wire_get_uint(cmb_wire_in *in, unsigned bytes, uint64_t *out);
/* The message has nothing more in it. */
int cmb_wire_in_end_message(cmb_wire_in *in);
/* And the stream has no more messages. */
int cmb_wire_in_end(cmb_wire_in *in);

/* A name of the image's hash. */
static inline int cmb_wire_get_name(cmb_wire_in *in, cmb_hash_kind hash, cmb_name *out)
{
    cmb_name name = {.size = (uint8_t)cmb_name_size(hash)};
    int error = cmb_wire_get(in, name.bytes, name.size);
    if (!error)
        *out = name;
    return error;
}

/* ---- writing ---- */

typedef struct cmb_wire_out {
    cmb_allocator alloc;
    cmb_sync_write_fn write;
    void *ctx;
    uint8_t *frame; /* header and payload */
    uint32_t used;  /* of the payload */
    uint64_t check;
    uint64_t bytes; /* put so far, frames' headers included */
} cmb_wire_out;

int cmb_wire_out_open(cmb_wire_out *out, const cmb_allocator *alloc, cmb_sync_write_fn write, void *ctx);
void cmb_wire_out_close(cmb_wire_out *out); /* zeroed: allowed */
int cmb_wire_out_begin(cmb_wire_out *out, const char magic[CMB_WIRE_MAGIC]);
int cmb_wire_put(cmb_wire_out *out, const void *data, size_t size);
int cmb_wire_put_uint(cmb_wire_out *out, unsigned bytes, uint64_t value);
/* Ends the message: all of it is written. */
int cmb_wire_out_end_message(cmb_wire_out *out);
static inline int cmb_wire_put_name(cmb_wire_out *out, const cmb_name *name)
{
    return cmb_wire_put(out, name->bytes, name->size);
}

#endif
