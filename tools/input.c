/* SPDX-License-Identifier: ISC */
#include "tools/input.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/base.h"

int input_open(const char *path, input **out_in)
{
    cmb_allocator memory = cmb_allocator_or_default(NULL);
    input *in = cmb_alloc(&memory, sizeof(*in));
    if (!in)
        return CMB_ENOMEM;
    bool standard = strcmp(path, "-") == 0;
    in->name = standard ? "standard input" : path;
    in->fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    in->owned = !standard;
    in->error = 0;
    in->line = 1;
    in->offset = 0;
    in->at = in->end = 0;
    if (in->fd < 0) {
        int e = errno;
        cmb_release(&memory, in, sizeof(*in));
        return cmb_fail(e == ENOENT ? CMB_ENOTFOUND : e == EACCES ? CMB_EPERM : CMB_EIO, "%s: %s", path, strerror(e));
    }
    *out_in = in;
    return 0;
}

void input_close(input *in)
{
    if (!in)
        return;
    if (in->owned)
        close(in->fd);
    cmb_allocator memory = cmb_allocator_or_default(NULL);
    cmb_release(&memory, in, sizeof(*in));
}

static ssize_t read_some(input *in, void *out, size_t size)
{
    ssize_t n;
    do {
        n = read(in->fd, out, size);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        in->error = cmb_fail(CMB_EIO, "%s: read: %s", in->name, strerror(errno));
    else
        in->offset += (uint64_t)n;
    return n;
}

int input_fill(input *in)
{
    if (in->error)
        return -1;
    ssize_t n = read_some(in, in->buffer, sizeof(in->buffer));
    in->at = 0;
    in->end = n > 0 ? (size_t)n : 0;
    return n > 0 ? in->buffer[0] : -1;
}

int input_read(input *in, void *out, size_t size, size_t *out_read)
{
    size_t done = 0;
    while (done < size) {
        if (in->at < in->end) {
            size_t n = in->end - in->at < size - done ? in->end - in->at : size - done;
            memcpy((uint8_t *)out + done, in->buffer + in->at, n);
            in->at += n;
            done += n;
        } else {
            ssize_t n = read_some(in, (uint8_t *)out + done, size - done);
            if (n < 0)
                return in->error;
            if (n == 0)
                break;
            done += (size_t)n;
        }
    }
    *out_read = done;
    return 0;
}

int input_syntax(const input *in, uint64_t line, const char *format, ...)
{
    if (in->error)
        return in->error;
    char what[400];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    return cmb_fail(CMB_ESYNTAX, "line %llu: %s", (unsigned long long)line, what);
}

const char *input_describe(int c, char out[16])
{
    if (c < 0)
        snprintf(out, 16, "the end");
    else if (c == '\n')
        snprintf(out, 16, "end of line");
    else if (c > 0x20 && c < 0x7f)
        snprintf(out, 16, "'%c'", c);
    else
        snprintf(out, 16, "byte 0x%02x", (unsigned)c & 0xff);
    return out;
}
