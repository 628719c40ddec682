/* SPDX-License-Identifier: ISC */
/* wire.h: messages put into the frames of a stream, with checks that are right (docs/sync.md), and taken out of them. */
#ifndef CMB_FUZZ_WIRE_H
#define CMB_FUZZ_WIRE_H

#include "tests/fuzz/fuzz.h"

typedef struct wire {
    fuzz_buffer stream;
    uint64_t check;
} wire;
/* Begins the stream with these 8 bytes. */
void wire_begin(wire *w, const char *magic);
/* One message, in frames of `piece` bytes; 0: as large as they may be. */
void wire_message(wire *w, const uint8_t *content, size_t size, size_t piece);
/* Messages out of a stream that is well-formed: each as u24 size and its content. */
void wire_unpack(const fuzz_buffer *stream, fuzz_buffer *out);
/* And into a stream, from such bytes, whatever they are. */
void wire_pack(wire *w, const char *magic, fuzz_input *in, size_t piece);

#endif
