/* SPDX-License-Identifier: ISC */
#include "tools/dbdump.h"

#include <inttypes.h>
#include <string.h>

#include "io/base.h"
#include "tools/text.h"

#define LINE_MAX_HEADER 512u /* bytes of a header line */

/* ---- reading ---- */

/* A header line without its newline, cut at the room there is. False at the end of the input. */
static bool header_line(input *in, char line[LINE_MAX_HEADER])
{
    size_t n = 0;
    int c = input_byte(in);
    if (c < 0)
        return false;
    for (; c >= 0 && c != '\n'; c = input_byte(in)) {
        if (n + 1 < LINE_MAX_HEADER)
            line[n++] = (char)c;
    }
    if (n > 0 && line[n - 1] == '\r')
        n--;
    line[n] = '\0';
    return true;
}

/* "expected …, found …", the found text made printable and short. */
static int unexpected(const input *in, uint64_t line, const char *expected, const char *found)
{
    char shown[80];
    return input_syntax(in, line, "expected %s, found \"%s\"", expected,
                        text_field_of(shown, sizeof(shown), found, strlen(found)));
}

static int header_property(dbdump_reader *r, uint64_t line, const char *text)
{
    const char *value = strchr(text, '=');
    if (!value)
        return unexpected(r->pairs.in, line, "a header line \"name=value\" or HEADER=END", text);
    size_t name_size = (size_t)(value - text);
    value++;
#define IS(name) (name_size == sizeof(name) - 1 && memcmp(text, name, name_size) == 0)
    if (IS("format")) {
        if (strcmp(value, "bytevalue") == 0)
            r->format = DBDUMP_BYTEVALUE;
        else if (strcmp(value, "print") == 0)
            r->format = DBDUMP_PRINT;
        else
            return unexpected(r->pairs.in, line, "format=bytevalue or format=print", text);
    } else if (IS("type")) {
        if (strcmp(value, "btree") != 0 && strcmp(value, "hash") != 0)
            return unexpected(r->pairs.in, line, "type=btree or type=hash (keys and values)", text);
    } else if (IS("keys")) {
        if (strcmp(value, "1") != 0)
            return unexpected(r->pairs.in, line, "keys=1", text);
    } else if (IS("duplicates") || IS("dupsort") || IS("dupfixed") || IS("integerdup") || IS("reversedup")) {
        if (strcmp(value, "0") != 0)
            return input_syntax(r->pairs.in, line,
                                "%.*s=%.16s: this database has several values a key, here a key has one",
                                (int)name_size, text, value);
    } else if (IS("VERSION")) {
        return unexpected(r->pairs.in, line, "HEADER=END", text);
    }
#undef IS
    return 0; /* sizes and tuning of the engine that wrote it, and the database's name */
}

static int read_header(dbdump_reader *r)
{
    input *in = r->pairs.in;
    char text[LINE_MAX_HEADER];
    uint64_t line = in->line;
    if (!header_line(in, text))
        return input_syntax(in, line, "expected VERSION=3, found the end: the input is empty");
    if (strcmp(text, "VERSION=3") != 0)
        return unexpected(in, line, "VERSION=3", text);
    for (;;) {
        line = in->line;
        if (!header_line(in, text))
            return input_syntax(in, line, "expected HEADER=END, found the end");
        if (strcmp(text, "HEADER=END") == 0)
            return 0;
        int rc = header_property(r, line, text);
        if (rc)
            return rc;
    }
}

/* Behind DATA=END nothing follows but empty lines. */
static int read_end(dbdump_reader *r)
{
    input *in = r->pairs.in;
    char text[LINE_MAX_HEADER];
    for (;;) {
        uint64_t line = in->line;
        if (!header_line(in, text))
            return in->error;
        if (strncmp(text, "VERSION=", 8) == 0)
            return input_syntax(in, line, "a second database begins here: split the input, one database a load");
        if (text[0] != '\0')
            return unexpected(in, line, "the end after DATA=END", text);
    }
}

/* Decodes what follows a backslash in print format. */
static int escaped_byte(input *in, uint8_t *out)
{
    char found[16];
    int high = input_peek(in);
    if (high == '\\') {
        input_byte(in);
        *out = '\\';
        return 0;
    }
    if (text_hex_digit(high) >= 0) {
        input_byte(in);
        int low = input_peek(in);
        if (text_hex_digit(low) >= 0) {
            input_byte(in);
            *out = (uint8_t)(text_hex_digit(high) << 4 | text_hex_digit(low));
            return 0;
        }
        high = low;
    }
    return input_syntax(in, in->line, "expected two hexadecimal digits or a backslash after a backslash, found %s",
                        input_describe(high, found));
}

static int hex_byte(input *in, int first, uint8_t *out)
{
    char found[16];
    int high = text_hex_digit(first);
    if (high < 0)
        return input_syntax(in, in->line, "expected hexadecimal digits, found %s", input_describe(first, found));
    int low = input_peek(in);
    if (text_hex_digit(low) < 0)
        return input_syntax(in, in->line, "expected an even number of hexadecimal digits, found %s",
                            input_describe(low, found));
    input_byte(in);
    *out = (uint8_t)(high << 4 | text_hex_digit(low));
    return 0;
}

/* Bytes of the present line; *out_read < size: its end was taken as well. */
static int line_bytes(dbdump_reader *r, uint8_t *out, size_t size, size_t *out_read)
{
    input *in = r->pairs.in;
    size_t n = 0;
    while (n < size) {
        int c = input_byte(in);
        if (c == '\n')
            break;
        if (c < 0)
            return input_syntax(in, in->line,
                                "expected the end of the line and DATA=END, found the end: the input is cut short");
        if (r->format == DBDUMP_PRINT && c != '\\') {
            out[n++] = (uint8_t)c;
            continue;
        }
        int rc = c == '\\' && r->format == DBDUMP_PRINT ? escaped_byte(in, &out[n]) : hex_byte(in, c, &out[n]);
        if (rc)
            return rc;
        n++;
    }
    *out_read = n;
    return 0;
}

static int read_key(pairs *p, uint8_t *key, size_t *out_size)
{
    dbdump_reader *r = (dbdump_reader *)p;
    input *in = p->in;
    p->line = in->line;
    int c = input_peek(in);
    if (c == ' ') {
        size_t n;
        input_byte(in);
        int rc = line_bytes(r, key, CMB_KEY_MAX, &n);
        if (rc)
            return rc;
        if (n == CMB_KEY_MAX && input_byte(in) != '\n')
            return input_syntax(in, p->line, "a key of more than %u bytes", CMB_KEY_MAX);
        if (n == 0)
            return input_syntax(in, p->line, "an empty key");
        if (input_peek(in) != ' ') {
            char found[16];
            return input_syntax(
                in, in->line, "expected the value of the key in line %" PRIu64 ", which begins with a blank, found %s",
                p->line, input_describe(input_peek(in), found));
        }
        input_byte(in);
        r->in_value = true;
        *out_size = n;
        return 1;
    }
    char text[LINE_MAX_HEADER];
    if (!header_line(in, text))
        return input_syntax(in, p->line, "expected a line of data or DATA=END, found the end: the input is cut short");
    if (strcmp(text, "DATA=END") != 0)
        return unexpected(in, p->line, "a line of data, which begins with a blank, or DATA=END", text);
    return read_end(r);
}

static int read_value(pairs *p, void *out, size_t size, size_t *out_read)
{
    dbdump_reader *r = (dbdump_reader *)p;
    size_t n = 0;
    if (r->in_value) {
        int rc = line_bytes(r, out, size, &n);
        if (rc)
            return rc;
        r->in_value = n == size;
    }
    *out_read = n;
    return 0;
}

int dbdump_open(dbdump_reader *r, input *in)
{
    *r = (dbdump_reader){.pairs = {.key = read_key, .value = read_value, .in = in}};
    return read_header(r);
}

/* ---- writing ---- */

void dbdump_write_header(FILE *out, dbdump_format format, uint64_t map_size)
{
    fprintf(out, "VERSION=3\nformat=%s\ntype=btree\n", format == DBDUMP_PRINT ? "print" : "bytevalue");
    if (map_size > 0)
        fprintf(out, "mapsize=%" PRIu64 "\nmaxreaders=126\n", map_size);
    fputs("db_pagesize=4096\nHEADER=END\n", out);
}

void dbdump_write_begin(FILE *out)
{
    putc(' ', out);
}

void dbdump_write_bytes(FILE *out, dbdump_format format, const void *data, size_t size)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *p = data;
    char piece[3 * 1024];
    while (size > 0) {
        size_t n = size < 1024 ? size : 1024, used = 0;
        for (size_t i = 0; i < n; i++) {
            uint8_t c = p[i];
            /* A backslash goes out in digits: mdb_load of LMDB 0.9.24 misreads a doubled one. */
            if (format == DBDUMP_PRINT && c >= 0x20 && c < 0x7f && c != '\\') {
                piece[used++] = (char)c;
                continue;
            }
            if (format == DBDUMP_PRINT)
                piece[used++] = '\\';
            piece[used++] = digits[c >> 4];
            piece[used++] = digits[c & 15];
        }
        fwrite(piece, 1, used, out);
        p += n;
        size -= n;
    }
}

void dbdump_write_end(FILE *out)
{
    putc('\n', out);
}

void dbdump_write_footer(FILE *out)
{
    fputs("DATA=END\n", out);
}
