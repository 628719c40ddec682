/* SPDX-License-Identifier: ISC */
#include "tools/json.h"

#include <inttypes.h>
#include <string.h>

#include "tools/text.h"

static void quoted(FILE *out, const uint8_t *p, size_t size)
{
    putc('"', out);
    for (size_t i = 0; i < size; i++) {
        uint8_t c = p[i];
        if (c == '"' || c == '\\')
            fprintf(out, "\\%c", c);
        else if (c == '\n')
            fputs("\\n", out);
        else if (c == '\t')
            fputs("\\t", out);
        else if (c < 0x20 || c == 0x7f)
            fprintf(out, "\\u%04x", c);
        else
            putc(c, out);
    }
    putc('"', out);
}

static void base64(FILE *out, const uint8_t *p, size_t size)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < size; i += 3) {
        size_t n = size - i < 3 ? size - i : 3;
        uint32_t v = (uint32_t)p[i] << 16 | (n > 1 ? (uint32_t)p[i + 1] << 8 : 0) | (n > 2 ? p[i + 2] : 0);
        putc(letters[v >> 18], out);
        putc(letters[v >> 12 & 63], out);
        putc(n > 1 ? letters[v >> 6 & 63] : '=', out);
        putc(n > 2 ? letters[v & 63] : '=', out);
    }
}

/* What stands before a value: the comma, and the member's name. */
static void begin(json *j, const char *name)
{
    if (j->comma)
        fputs(", ", j->out);
    if (name) {
        quoted(j->out, (const uint8_t *)name, strlen(name));
        fputs(": ", j->out);
    }
    j->comma = true;
}

void json_put_object(json *j, const char *name)
{
    begin(j, name);
    putc('{', j->out);
    j->comma = false;
}

void json_put_object_end(json *j)
{
    putc('}', j->out);
    j->comma = true;
}

void json_put_array(json *j, const char *name)
{
    begin(j, name);
    putc('[', j->out);
    j->comma = false;
}

void json_put_array_end(json *j)
{
    putc(']', j->out);
    j->comma = true;
}

void json_put_bytes(json *j, const char *name, const void *data, size_t size)
{
    begin(j, name);
    if (text_is_utf8(data, size)) {
        quoted(j->out, data, size);
        return;
    }
    fputs("{\"base64\": \"", j->out);
    base64(j->out, data, size);
    fputs("\"}", j->out);
}

void json_put_string(json *j, const char *name, const char *value)
{
    json_put_bytes(j, name, value, strlen(value));
}

void json_put_u64(json *j, const char *name, uint64_t value)
{
    begin(j, name);
    fprintf(j->out, "%" PRIu64, value);
}

void json_put_real(json *j, const char *name, double value)
{
    begin(j, name);
    fprintf(j->out, "%.3f", value);
}

void json_put_bool(json *j, const char *name, bool value)
{
    begin(j, name);
    fputs(value ? "true" : "false", j->out);
}

void json_put_null(json *j, const char *name)
{
    begin(j, name);
    fputs("null", j->out);
}

void json_put_name(json *j, const char *name, const cmb_name *value)
{
    text_buf t;
    if (value->size == 0)
        json_put_null(j, name);
    else
        json_put_string(j, name, text_name(&t, value, 0));
}

void json_put_time(json *j, const char *name, int64_t microseconds)
{
    text_buf t;
    json_put_string(j, name, text_time(&t, microseconds));
}

void json_end_line(json *j)
{
    putc('\n', j->out);
    j->comma = false;
}
