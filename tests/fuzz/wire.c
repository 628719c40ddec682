/* SPDX-License-Identifier: ISC */
#include "tests/fuzz/wire.h"

#include "io/base.h"

#define FRAME_MAX ((size_t)128 << 10)
#define LAST      0x80000000u

void wire_begin(wire *w, const char *magic)
{
    w->stream.size = 0;
    fuzz_buffer_write(&w->stream, magic, 8);
    w->check = cmb_hash64(magic, 8, 0);
}

static void put_frame(wire *w, const uint8_t *content, size_t size, bool last)
{
    uint8_t header[12];
    cmb_put32(header, (uint32_t)size | (last ? LAST : 0));
    w->check = cmb_hash64(content, size, cmb_hash64(header, 4, w->check));
    cmb_put64(header + 4, w->check);
    fuzz_buffer_write(&w->stream, header, sizeof header);
    fuzz_buffer_write(&w->stream, content, size);
}

void wire_message(wire *w, const uint8_t *content, size_t size, size_t piece)
{
    piece = piece && piece < FRAME_MAX ? piece : FRAME_MAX;
    for (; size > piece; content += piece, size -= piece)
        put_frame(w, content, piece, false);
    put_frame(w, content, size, true);
}

void wire_unpack(const fuzz_buffer *stream, fuzz_buffer *out)
{
    size_t begin = out->size;
    for (size_t at = 8; stream->size - at >= 12;) {
        uint32_t n = cmb_get32(stream->data + at);
        uint8_t size[3] = {0};
        if (out->size == begin)
            fuzz_buffer_write(out, size, sizeof size);
        fuzz_buffer_write(out, stream->data + at + 12, n & ~LAST);
        at += 12 + (n & ~LAST);
        if (!(n & LAST))
            continue;
        cmb_put_uint(out->data + begin, 3, out->size - begin - 3);
        begin = out->size;
    }
}

void wire_pack(wire *w, const char *magic, fuzz_input *in, size_t piece)
{
    wire_begin(w, magic);
    while (in->at < in->end) {
        cmb_bytes content = fuzz_bytes(in, fuzz_uint(in, 3));
        wire_message(w, content.data, content.size, piece);
    }
}
