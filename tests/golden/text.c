/* SPDX-License-Identifier: ISC */
/* text.c: text that grows, and files of it. Out of memory ends the program: these are tests. */
#include "golden.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "io/base.h"

#define QUOTED_MAX 48u

static void reserve(golden_text *text, size_t more)
{
    if (text->capacity - text->size > more)
        return;
    text->capacity = 2 * text->capacity + more + 1;
    text->data = realloc(text->data, text->capacity);
    if (!text->data)
        abort();
}

void golden_add(golden_text *text, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0)
        abort();
    reserve(text, (size_t)n + 1);
    vsnprintf(text->data + text->size, (size_t)n + 1, format, again);
    va_end(again);
    text->size += (size_t)n;
}

void golden_add_hex(golden_text *text, const uint8_t *data, size_t size)
{
    static const char digits[] = "0123456789abcdef";
    reserve(text, 2 * size + 1);
    char *at = text->data + text->size;
    for (size_t i = 0; i < size; i++) {
        *at++ = digits[data[i] >> 4];
        *at++ = digits[data[i] & 15];
    }
    *at = 0;
    text->size += 2 * size;
}

static bool is_printable(const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (data[i] < ' ' || data[i] > '~' || data[i] == '"')
            return false;
    return true;
}

void golden_add_bytes(golden_text *text, const void *data, size_t size)
{
    if (size <= QUOTED_MAX && is_printable(data, size))
        golden_add(text, "\"%.*s\"", (int)size, size ? (const char *)data : "");
    else
        golden_add(text, "%zu bytes %016llx", size, (unsigned long long)cmb_hash64(data, size, 0));
}

void golden_text_free(golden_text *text)
{
    free(text->data);
    *text = (golden_text){0};
}

static void join(golden_text *path, const char *directory, const char *name, const char *suffix)
{
    golden_add(path, "%s/%s.%s", directory, name, suffix);
}

int golden_file_read(const char *directory, const char *name, const char *suffix, golden_text *out_text)
{
    golden_text path = {0}, text = {0};
    join(&path, directory, name, suffix);
    FILE *file = fopen(path.data, "rb");
    int error = file ? 0 : cmb_fail(CMB_ENOTFOUND, "%s: %s", path.data, strerror(errno));
    for (size_t n = 1; file && n > 0; text.size += n) {
        reserve(&text, 65536);
        n = fread(text.data + text.size, 1, 65536, file);
    }
    if (file && ferror(file))
        error = cmb_fail(CMB_EIO, "%s cannot be read", path.data);
    if (file)
        fclose(file);
    golden_text_free(&path);
    if (error) {
        golden_text_free(&text);
        return error;
    }
    text.data[text.size] = 0;
    *out_text = text;
    return 0;
}

int golden_file_write(const char *directory, const char *name, const char *suffix, const golden_text *text)
{
    golden_text path = {0};
    join(&path, directory, name, suffix);
    FILE *file = fopen(path.data, "wb");
    bool written = file && fwrite(text->data, 1, text->size, file) == text->size;
    if (file && fclose(file))
        written = false;
    int error = written ? 0 : cmb_fail(CMB_EIO, "%s: %s", path.data, strerror(errno));
    golden_text_free(&path);
    return error;
}

size_t golden_text_differs(const golden_text *a, const golden_text *b)
{
    size_t line = 1, i = 0;
    for (; i < a->size && i < b->size && a->data[i] == b->data[i]; i++)
        line += a->data[i] == '\n';
    return i == a->size && i == b->size ? 0 : line;
}
