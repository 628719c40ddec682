/* SPDX-License-Identifier: ISC */
/* wire.c: frames and the messages made of them. */
#include "store/wire.h"

#include <stdarg.h>
#include <stdio.h>

#define LAST 0x80000000u

static uint64_t check_of(const uint8_t *header, const uint8_t *payload, uint32_t size, uint64_t before)
{
    return cmb_hash64(payload, size, cmb_hash64(header, 4, before));
}

/* ---- reading ---- */

void cmb_wire_in_open(cmb_wire_in *in, const cmb_allocator *alloc, const char *what, cmb_sync_read_fn read, void *ctx)
{
    *in = (cmb_wire_in){.alloc = *alloc, .read = read, .ctx = ctx, .what = what};
}

void cmb_wire_in_close(cmb_wire_in *in)
{
    if (in->frame)
        cmb_release(&in->alloc, in->frame, in->capacity);
    in->frame = NULL;
    in->capacity = 0;
}

int cmb_wire_refuse(const cmb_wire_in *in, const char *format, ...)
{
    char text[400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return cmb_fail(CMB_ESYNTAX, "%s, byte %llu: %s", in->what, (unsigned long long)(in->bytes - (in->size - in->at)), text);
}

/* Exactly n bytes from outside. */
static int fetch(cmb_wire_in *in, uint8_t *out, size_t n)
{
    if (in->limit && n > in->limit - in->bytes)
        return cmb_fail(CMB_ETOOBIG, "%s: more than %llu bytes", in->what, (unsigned long long)in->limit);
    while (n) {
        size_t got = 0;
        int error = in->read(in->ctx, out, n, &got);
        if (error)
            return error;
        if (got == 0 || got > n)
            return cmb_wire_refuse(in, "it ends here, in the middle");
        in->bytes += got;
        out += got;
        n -= got;
    }
    return 0;
}

int cmb_wire_in_begin(cmb_wire_in *in, const char magic[CMB_WIRE_MAGIC])
{
    uint8_t found[CMB_WIRE_MAGIC];
    int error = fetch(in, found, sizeof found);
    if (error)
        return error;
    if (memcmp(found, magic, sizeof found - 1) != 0)
        return cmb_fail(CMB_ESYNTAX, "this is no %s: it begins with other bytes", in->what);
    if (found[sizeof found - 1] != (uint8_t)magic[sizeof found - 1])
        return cmb_fail(CMB_EVERSION, "the %s is of version %u, which this library does not know", in->what,
                        found[sizeof found - 1]);
    in->check = cmb_hash64(magic, CMB_WIRE_MAGIC, 0);
    return 0;
}

/* What the frame before held is of no use. */
static int make_room(cmb_wire_in *in, uint32_t size)
{
    if (size <= in->capacity)
        return 0;
    uint8_t *frame = cmb_alloc(&in->alloc, size);
    if (!frame)
        return CMB_ENOMEM;
    cmb_wire_in_close(in);
    in->frame = frame;
    in->capacity = size;
    return 0;
}

static int next_frame(cmb_wire_in *in)
{
    uint8_t header[CMB_WIRE_HEADER];
    in->at = in->size = 0;
    int error = fetch(in, header, sizeof header);
    if (error)
        return error;
    uint32_t word = cmb_get32(header), size = word & ~LAST;
    if (size > CMB_WIRE_FRAME || (size == 0 && !(word & LAST)))
        return cmb_wire_refuse(in, "a frame of %u bytes", (unsigned)size);
    error = make_room(in, size);
    if (!error)
        error = fetch(in, in->frame, size);
    if (error)
        return error;
    uint64_t check = check_of(header, in->frame, size, in->check);
    if (check != cmb_get64(header + 4))
        return cmb_wire_refuse(in, "the %u bytes before are not those that were written", (unsigned)(size + CMB_WIRE_HEADER));
    in->check = check;
    in->size = size;
    in->last = word & LAST;
    return 0;
}

int cmb_wire_in_message(cmb_wire_in *in)
{
    int error = next_frame(in);
    in->in_message = !error;
    return error;
}

int cmb_wire_get(cmb_wire_in *in, void *out, size_t size)
{
    uint8_t *p = out;
    while (size) {
        if (in->at == in->size) {
            if (in->last || !in->in_message)
                return cmb_wire_refuse(in, "a message that ends too early");
            int error = next_frame(in);
            if (error)
                return error;
            continue;
        }
        size_t n = in->size - in->at;
        n = n < size ? n : size;
        memcpy(p, in->frame + in->at, n);
        in->at += (uint32_t)n;
        p += n;
        size -= n;
    }
    return 0;
}

int cmb_wire_get_uint(cmb_wire_in *in, unsigned bytes, uint64_t *out)
{
    uint8_t raw[8];
    int error = cmb_wire_get(in, raw, bytes);
    if (!error)
        *out = cmb_get_uint(raw, bytes);
    return error;
}

int cmb_wire_in_end_message(cmb_wire_in *in)
{
    if (in->at == in->size && !in->last) { /* what was left may have been put into a frame of its own */
        int error = next_frame(in);
        if (error)
            return error;
    }
    if (in->at != in->size || !in->last)
        return cmb_wire_refuse(in, "a message with something after its end");
    in->in_message = in->last = false;
    return 0;
}

int cmb_wire_in_end(cmb_wire_in *in)
{
    uint8_t byte;
    size_t got = 0;
    int error = in->read(in->ctx, &byte, 1, &got);
    if (!error && got)
        error = cmb_wire_refuse(in, "something follows its end");
    return error;
}

/* ---- writing ---- */

int cmb_wire_out_open(cmb_wire_out *out, const cmb_allocator *alloc, cmb_sync_write_fn write, void *ctx)
{
    *out = (cmb_wire_out){.alloc = *alloc, .write = write, .ctx = ctx};
    out->frame = cmb_alloc(alloc, CMB_WIRE_HEADER + CMB_WIRE_FRAME);
    return out->frame ? 0 : CMB_ENOMEM;
}

void cmb_wire_out_close(cmb_wire_out *out)
{
    if (out->frame)
        cmb_release(&out->alloc, out->frame, CMB_WIRE_HEADER + CMB_WIRE_FRAME);
    out->frame = NULL;
}

int cmb_wire_out_begin(cmb_wire_out *out, const char magic[CMB_WIRE_MAGIC])
{
    out->check = cmb_hash64(magic, CMB_WIRE_MAGIC, 0);
    out->bytes += CMB_WIRE_MAGIC;
    return out->write(out->ctx, magic, CMB_WIRE_MAGIC);
}

static int put_frame(cmb_wire_out *out, bool last)
{
    uint8_t *f = out->frame;
    cmb_put32(f, out->used | (last ? LAST : 0));
    out->check = check_of(f, f + CMB_WIRE_HEADER, out->used, out->check);
    cmb_put64(f + 4, out->check);
    uint32_t size = CMB_WIRE_HEADER + out->used;
    out->used = 0;
    out->bytes += CMB_WIRE_HEADER;
    return out->write(out->ctx, f, size);
}

int cmb_wire_put(cmb_wire_out *out, const void *data, size_t size)
{
    const uint8_t *p = data;
    out->bytes += size;
    while (size) {
        if (out->used == CMB_WIRE_FRAME) {
            int error = put_frame(out, false);
            if (error)
                return error;
        }
        size_t room = CMB_WIRE_FRAME - out->used, n = size < room ? size : room;
        memcpy(out->frame + CMB_WIRE_HEADER + out->used, p, n);
        out->used += (uint32_t)n;
        p += n;
        size -= n;
    }
    return 0;
}

int cmb_wire_put_uint(cmb_wire_out *out, unsigned bytes, uint64_t value)
{
    uint8_t raw[8];
    cmb_put_uint(raw, bytes, value);
    return cmb_wire_put(out, raw, bytes);
}

int cmb_wire_out_end_message(cmb_wire_out *out)
{
    return put_frame(out, true);
}
