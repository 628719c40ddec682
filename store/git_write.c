/* SPDX-License-Identifier: ISC */
/* git_write.c: bytes of a stream that is written. */
#include "store/git.h"

#include <assert.h>
#include <stdio.h>

int cmb_git_output_open(cmb_git_output *out, const cmb_allocator *alloc, cmb_git_write_fn write, void *ctx)
{
    *out = (cmb_git_output){.alloc = alloc, .write = write, .ctx = ctx};
    out->buffer = cmb_alloc(alloc, CMB_GIT_BUFFER);
    return out->buffer ? 0 : CMB_ENOMEM;
}

void cmb_git_output_close(cmb_git_output *out)
{
    cmb_release(out->alloc, out->buffer, CMB_GIT_BUFFER);
}

int cmb_git_output_flush(cmb_git_output *out)
{
    int error = out->used ? out->write(out->ctx, out->buffer, out->used) : 0;
    if (error)
        return error;
    out->bytes += out->used;
    out->used = 0;
    return 0;
}

int cmb_git_put(cmb_git_output *out, const void *data, size_t size)
{
    const uint8_t *p = data;
    while (size) {
        size_t room = CMB_GIT_BUFFER - out->used, n = size < room ? size : room;
        memcpy(out->buffer + out->used, p, n);
        out->used += n;
        p += n;
        size -= n;
        int error = out->used == CMB_GIT_BUFFER ? cmb_git_output_flush(out) : 0;
        if (error)
            return error;
    }
    return 0;
}

int cmb_git_print(cmb_git_output *out, const char *format, ...)
{
    char text[401];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    assert(n >= 0 && (size_t)n < sizeof text);
    return cmb_git_put(out, text, (size_t)n);
}

int cmb_git_put_data(cmb_git_output *out, cmb_bytes data)
{
    int error = cmb_git_print(out, "data %zu\n", data.size);
    if (!error)
        error = cmb_git_put(out, data.data, data.size);
    return error ? error : cmb_git_put(out, "\n", 1);
}

/* Straight into the buffer. */
static int put_far(cmb_git_output *out, cmb_store *store, const cmb_valref *ref)
{
    cmb_value_reader *reader;
    uint64_t done = 0;
    int error = cmb_value_reader_open(&store->tree, ref, &reader);
    if (error)
        return error;
    while (!error && done < ref->size) {
        size_t got;
        error = cmb_value_reader_read(reader, done, out->buffer + out->used, CMB_GIT_BUFFER - out->used, &got);
        if (error)
            break;
        if (!got)
            error = cmb_fail(CMB_ECORRUPT, "value at %llu: %llu of its %u bytes are there",
                             (unsigned long long)ref->addr, (unsigned long long)done, ref->size);
        done += got;
        out->used += got;
        if (!error && out->used == CMB_GIT_BUFFER)
            error = cmb_git_output_flush(out);
    }
    cmb_value_reader_close(reader);
    return error;
}

int cmb_git_put_value(cmb_git_output *out, cmb_store *store, const cmb_found *found)
{
    if (!found->out_of_line)
        return cmb_git_put_data(out, found->value);
    int error = cmb_git_print(out, "data %u\n", found->valref.size);
    if (!error)
        error = put_far(out, store, &found->valref);
    return error ? error : cmb_git_put(out, "\n", 1);
}

/* Without the bytes that end a name or an address, and without blanks at its ends. */
static int put_part(cmb_git_output *out, const char *p, size_t size)
{
    while (size && *p == ' ') {
        p++;
        size--;
    }
    while (size && p[size - 1] == ' ')
        size--;
    for (size_t i = 0; i < size; i++) {
        int error = strchr("<>\n", p[i]) ? 0 : cmb_git_put(out, p + i, 1);
        if (error)
            return error;
    }
    return 0;
}

int cmb_git_put_person(cmb_git_output *out, const char *word, const char *who, int64_t time)
{
    const char *open = strchr(who, '<'), *close = open ? strchr(open, '>') : NULL;
    bool whole = close && !close[1];
    size_t name = whole ? (size_t)(open - who) : strlen(who);
    int error = cmb_git_print(out, "%s ", word);
    if (!error)
        error = put_part(out, who, name);
    if (!error)
        error = cmb_git_put(out, name ? " <" : "<", name ? 2 : 1);
    if (!error && whole)
        error = put_part(out, open + 1, (size_t)(close - open - 1));
    return error ? error : cmb_git_print(out, "> %lld +0000\n", (long long)(time > 0 ? time / 1000000 : 0));
}

int cmb_git_text_path(const cmb_allocator *alloc, cmb_git_text *text, cmb_bytes path)
{
    const uint8_t *p = path.data;
    size_t at;
    int error = cmb_git_path_is_plain(path) ? cmb_git_text_add(alloc, text, path, &at) : 0;
    if (error)
        return error;
    if (!cmb_git_path_is_plain(path)) {
        error = cmb_git_text_add(alloc, text, (cmb_bytes){"\"", 1}, &at);
        for (size_t i = 0; !error && i < path.size; i++) {
            char quoted[5];
            bool plain = p[i] >= ' ' && p[i] < 0x7f && p[i] != '"' && p[i] != '\\';
            snprintf(quoted, sizeof quoted, plain ? "%c" : "\\%03o", p[i]);
            text->size--;
            error = cmb_git_text_add(alloc, text, (cmb_bytes){quoted, strlen(quoted)}, &at);
        }
        text->size -= error ? 0 : 1;
        if (!error)
            error = cmb_git_text_add(alloc, text, (cmb_bytes){"\"", 1}, &at);
    }
    if (!error)
        text->data[text->size - 1] = '\n';
    return error;
}
