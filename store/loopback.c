/* SPDX-License-Identifier: ISC */
/* loopback.c: a pull within one process: what one side writes waits in memory until the other reads it. */
#include "store/peer.h"

static int pipe_write(cmb_loopback *loop, cmb_pipe *pipe, const void *data, size_t size)
{
    if (pipe->at == pipe->used)
        pipe->at = pipe->used = 0;
    if (pipe->used + size > pipe->capacity) {
        size_t capacity = pipe->used + size + CMB_WIRE_FRAME;
        uint8_t *grown = cmb_resize(&loop->alloc, pipe->data, pipe->capacity, capacity);
        if (!grown)
            return CMB_ENOMEM;
        pipe->data = grown;
        pipe->capacity = capacity;
    }
    memcpy(pipe->data + pipe->used, data, size);
    pipe->used += size;
    return 0;
}

static size_t pipe_read(cmb_pipe *pipe, void *out, size_t size)
{
    size_t n = pipe->used - pipe->at;
    n = n < size ? n : size;
    if (n)
        memcpy(out, pipe->data + pipe->at, n);
    pipe->at += n;
    return n;
}

static int server_read(void *ctx, void *out, size_t size, size_t *out_read)
{
    cmb_loopback *loop = ctx;
    *out_read = pipe_read(&loop->there, out, size);
    return 0;
}

static int server_write(void *ctx, const void *data, size_t size)
{
    cmb_loopback *loop = ctx;
    return pipe_write(loop, &loop->back, data, size);
}

int cmb_loopback_open(cmb_loopback *loop, cmb_store *store, const cmb_allocator *alloc)
{
    memset(loop, 0, sizeof *loop);
    loop->alloc = *alloc;
    return cmb_server_open(&loop->server, store, server_read, server_write, loop);
}

void cmb_loopback_close(cmb_loopback *loop)
{
    cmb_server_close(&loop->server);
    cmb_release(&loop->alloc, loop->there.data, loop->there.capacity);
    cmb_release(&loop->alloc, loop->back.data, loop->back.capacity);
}

int cmb_loopback_read(void *ctx, void *out, size_t size, size_t *out_read)
{
    cmb_loopback *loop = ctx;
    while (loop->back.at == loop->back.used && !loop->done) {
        int error = cmb_server_step(&loop->server, &loop->done);
        if (error)
            return error;
    }
    *out_read = pipe_read(&loop->back, out, size);
    return 0;
}

int cmb_loopback_write(void *ctx, const void *data, size_t size)
{
    cmb_loopback *loop = ctx;
    return pipe_write(loop, &loop->there, data, size);
}
