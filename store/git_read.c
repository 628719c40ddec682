/* SPDX-License-Identifier: ISC */
/* git_read.c: bytes of a stream: lines, data, and where one is in it. */
#include "store/git.h"

#include <assert.h>
#include <stdio.h>

int cmb_git_input_open(cmb_git_input *in, const cmb_allocator *alloc, cmb_git_read_fn read, void *ctx)
{
    *in = (cmb_git_input){.alloc = alloc, .read = read, .ctx = ctx, .next_line = 1};
    in->buffer = cmb_alloc(alloc, CMB_GIT_BUFFER);
    if (!in->buffer)
        return CMB_ENOMEM;
    in->capacity = CMB_GIT_BUFFER;
    return 0;
}

void cmb_git_input_close(cmb_git_input *in)
{
    cmb_release(in->alloc, in->buffer, in->capacity);
    cmb_blob_release(in->alloc, &in->gathered);
}

/* ---- saying where ---- */

int cmb_git_located(const cmb_git_input *in, int error)
{
    return cmb_fail_in(error, "line %llu (byte %llu)", (unsigned long long)in->line, (unsigned long long)in->line_at);
}

int cmb_git_refuse(const cmb_git_input *in, int error, const char *format, ...)
{
    char text[400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return cmb_git_located(in, cmb_fail(error, "%s", text));
}

const char *cmb_git_shown(cmb_bytes text, char out[44])
{
    const uint8_t *p = text.data;
    size_t n = text.size < 40 ? text.size : 40;
    for (size_t i = 0; i < n; i++)
        out[i] = p[i] >= 0x20 && p[i] < 0x7f ? (char)p[i] : '?';
    memcpy(out + n, text.size > n ? "..." : "", text.size > n ? 4 : 1);
    return out;
}

/* ---- lines ---- */

/* Reads more. The bytes from `at` on stay, perhaps elsewhere. At the end of the stream nothing is added. */
static int fill(cmb_git_input *in)
{
    size_t got;
    if (in->at > 0 && in->capacity - in->end < in->capacity / 4) {
        memmove(in->buffer, in->buffer + in->at, in->end - in->at);
        in->base += in->at;
        in->end -= in->at;
        in->at = 0;
    }
    assert(in->end < in->capacity);
    if (in->failed)
        return in->failed;
    int error = in->failed = in->read(in->ctx, in->buffer + in->end, in->capacity - in->end, &got);
    if (error)
        return error;
    assert(got <= in->capacity - in->end);
    in->ended = got == 0;
    in->end += got;
    return 0;
}

/* There are `n` bytes from `at` on, unless the stream ends. */
static int need(cmb_git_input *in, size_t n)
{
    if (in->end - in->at < n && n > in->capacity) {
        uint8_t *buffer = cmb_resize(in->alloc, in->buffer, in->capacity, n);
        if (!buffer)
            return CMB_ENOMEM;
        in->buffer = buffer;
        in->capacity = n;
    }
    while (in->end - in->at < n && !in->ended) {
        int error = fill(in);
        if (error)
            return error;
    }
    return 0;
}

/* Any next line. */
static int raw_line(cmb_git_input *in)
{
    size_t looked = 0;
    const uint8_t *lf;
    while (!(lf = memchr(in->buffer + in->at + looked, '\n', in->end - in->at - looked)) && !in->ended) {
        looked = in->end - in->at;
        in->line = in->next_line;
        in->line_at = in->base + in->at;
        if (looked >= CMB_GIT_BUFFER)
            return cmb_git_refuse(in, CMB_ETOOBIG, "a line of more than %zu bytes", CMB_GIT_BUFFER);
        int error = fill(in);
        if (error)
            return error;
    }
    if (!lf && in->at == in->end)
        return CMB_ENOTFOUND;
    in->line = in->next_line++;
    in->line_at = in->base + in->at;
    in->text = in->buffer + in->at;
    in->size = lf ? (size_t)(lf - in->text) : in->end - in->at;
    in->at += in->size + (lf ? 1 : 0);
    return 0;
}

/* The empty line that may follow data. */
static int pass_data_end(cmb_git_input *in)
{
    in->after_data = false;
    int error = need(in, 1);
    if (!error && in->at < in->end && in->buffer[in->at] == '\n') {
        in->at++;
        in->next_line++;
    }
    return error;
}

int cmb_git_line(cmb_git_input *in)
{
    int error = 0;
    if (in->held) {
        in->held = false;
        return 0;
    }
    if (in->after_data)
        error = pass_data_end(in);
    while (!error) {
        error = raw_line(in);
        if (error || !in->size || in->text[0] != '#')
            break;
    }
    return error;
}

bool cmb_git_line_is(const cmb_git_input *in, const char *begin, cmb_bytes *out_rest)
{
    size_t n = strlen(begin);
    if (in->size < n || memcmp(in->text, begin, n))
        return false;
    if (out_rest)
        *out_rest = (cmb_bytes){in->text + n, in->size - n};
    return true;
}

/* ---- data ---- */

static uint64_t count_lines(const uint8_t *p, size_t size)
{
    uint64_t lines = 0;
    for (size_t i = 0; i < size; i++)
        lines += p[i] == '\n';
    return lines;
}

/* Appends the line that was read, and its end. */
static int gather_line(cmb_git_input *in, size_t *size)
{
    cmb_blob *g = &in->gathered;
    size_t wanted = *size + in->size + 1;
    if (wanted > CMB_GIT_DELIMITED_MAX)
        return cmb_git_refuse(in, CMB_ETOOBIG, "more than %zu bytes of delimited data: counted data has no such limit",
                              CMB_GIT_DELIMITED_MAX);
    if (wanted > g->capacity) {
        size_t capacity = 2 * wanted;
        uint8_t *data = cmb_resize(in->alloc, g->data, g->capacity, capacity);
        if (!data)
            return CMB_ENOMEM;
        *g = (cmb_blob){data, capacity};
    }
    memcpy(g->data + *size, in->text, in->size);
    g->data[wanted - 1] = '\n';
    *size = wanted;
    return 0;
}

/* Lines up to one that is the delimiter: what follows "data <<". */
static int gather(cmb_git_input *in, cmb_bytes rest, cmb_git_data *out_data)
{
    char delimiter[256];
    size_t delimiter_size = rest.size, size = 0;
    if (rest.size == 0 || rest.size > sizeof delimiter)
        return cmb_git_refuse(in, CMB_ESYNTAX, "a delimiter of %zu bytes: 1 to %zu are possible", rest.size,
                              sizeof delimiter);
    memcpy(delimiter, rest.data, delimiter_size);
    uint64_t line = in->line, line_at = in->line_at;
    for (;;) {
        int error = raw_line(in);
        if (error == CMB_ENOTFOUND) {
            in->line = line;
            in->line_at = line_at;
            return cmb_git_refuse(in, CMB_ESYNTAX, "the stream ends before the delimiter of this data");
        }
        if (!error && in->size == delimiter_size && !memcmp(in->text, delimiter, delimiter_size))
            break;
        if (!error)
            error = gather_line(in, &size);
        if (error)
            return error;
    }
    in->after_data = true;
    *out_data =
        (cmb_git_data){.in = in, .size = size, .left = size, .memory = size ? in->gathered.data : (const uint8_t *)""};
    return 0;
}

int cmb_git_data_begin(cmb_git_input *in, cmb_git_data *out_data)
{
    cmb_bytes rest;
    uint64_t size = 0;
    int error = cmb_git_line(in);
    if (error == CMB_ENOTFOUND)
        return cmb_git_refuse(in, CMB_ESYNTAX, "the stream ends where data should follow");
    if (error)
        return error;
    if (!cmb_git_line_is(in, "data ", &rest))
        return cmb_git_refuse(in, CMB_ESYNTAX, "data should follow here");
    if (cmb_git_line_is(in, "data <<", &rest))
        return gather(in, rest, out_data);
    const uint8_t *p = rest.data;
    for (size_t i = 0; i < rest.size; i++) {
        if (p[i] < '0' || p[i] > '9' || size > (UINT64_MAX - 9) / 10)
            return cmb_git_refuse(in, CMB_ESYNTAX, "no number of bytes after 'data'");
        size = size * 10 + (p[i] - '0');
    }
    if (!rest.size)
        return cmb_git_refuse(in, CMB_ESYNTAX, "no number of bytes after 'data'");
    in->after_data = size == 0;
    *out_data = (cmb_git_data){.in = in, .size = size, .left = size};
    return 0;
}

/* n bytes of counted data are at `at`. */
static cmb_bytes consume(cmb_git_data *data, size_t n)
{
    cmb_git_input *in = data->in;
    cmb_bytes piece = {in->buffer + in->at, n};
    in->next_line += count_lines(piece.data, n);
    in->at += n;
    data->left -= n;
    if (!data->left)
        in->after_data = true;
    return piece;
}

static int too_short(const cmb_git_data *data)
{
    return cmb_git_refuse(data->in, CMB_ESYNTAX, "the stream ends within this data: %llu of %llu bytes are missing",
                          (unsigned long long)(data->left - (data->in->end - data->in->at)),
                          (unsigned long long)data->size);
}

int cmb_git_data_next(cmb_git_data *data, cmb_bytes *out_piece)
{
    cmb_git_input *in = data->in;
    if (data->memory || !data->left) {
        *out_piece = (cmb_bytes){data->memory, (size_t)data->left};
        data->left = 0;
        return 0;
    }
    int error = need(in, 1);
    if (error)
        return error;
    size_t n = in->end - in->at;
    if (!n)
        return too_short(data);
    *out_piece = consume(data, n < data->left ? n : (size_t)data->left);
    return 0;
}

int cmb_git_data_whole(cmb_git_data *data, cmb_bytes *out_whole)
{
    cmb_git_input *in = data->in;
    if (data->memory)
        return cmb_git_data_next(data, out_whole);
    assert(data->left <= CMB_GIT_WHOLE_MAX);
    int error = need(in, (size_t)data->left);
    if (error)
        return error;
    if (in->end - in->at < data->left)
        return too_short(data);
    *out_whole = consume(data, (size_t)data->left);
    return 0;
}

int cmb_git_data_skip(cmb_git_data *data)
{
    cmb_bytes piece = {NULL, 1};
    int error = 0;
    while (!error && piece.size)
        error = cmb_git_data_next(data, &piece);
    return error;
}
