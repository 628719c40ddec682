/* SPDX-License-Identifier: ISC */
#include "tools/text.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

const char *text_size(text_buf *t, uint64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    unsigned u = 0;
    double v = (double)bytes;
    while (v >= 1023.95 && u + 1 < sizeof(units) / sizeof(units[0])) {
        v /= 1024;
        u++;
    }
    if (u == 0)
        snprintf(t->s, sizeof(t->s), "%" PRIu64 " B", bytes);
    else
        snprintf(t->s, sizeof(t->s), "%.1f %s", v, units[u]);
    return t->s;
}

const char *text_count(text_buf *t, uint64_t n)
{
    char digits[24];
    int len = snprintf(digits, sizeof(digits), "%" PRIu64, n);
    char *p = t->s;
    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0)
            *p++ = ',';
        *p++ = digits[i];
    }
    *p = '\0';
    return t->s;
}

const char *text_rate(text_buf *t, uint64_t bytes, uint64_t nanoseconds)
{
    text_buf amount;
    double seconds = (double)(nanoseconds > 0 ? nanoseconds : 1) / 1e9;
    double rate = (double)bytes / seconds;
    text_size(&amount, rate < 1e18 ? (uint64_t)rate : (uint64_t)1e18);
    snprintf(t->s, sizeof(t->s), "%.40s/s", amount.s);
    return t->s;
}

const char *text_time(text_buf *t, int64_t microseconds)
{
    int64_t seconds = microseconds / 1000000;
    int64_t rest = microseconds % 1000000;
    if (rest < 0)
        seconds--;
    time_t when = (time_t)seconds;
    struct tm tm;
    if (!gmtime_r(&when, &tm) || strftime(t->s, sizeof(t->s), "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        snprintf(t->s, sizeof(t->s), "%" PRId64 "us", microseconds);
    return t->s;
}

const char *text_hex(text_buf *t, const void *data, size_t size)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *p = data;
    char *out = t->s;
    for (size_t i = 0; i < size && i < 32; i++) {
        *out++ = digits[p[i] >> 4];
        *out++ = digits[p[i] & 15];
    }
    *out = '\0';
    return t->s;
}

const char *text_name(text_buf *t, const cmb_name *name, unsigned digits)
{
    if (name->size == 0) {
        snprintf(t->s, sizeof(t->s), "-");
        return t->s;
    }
    text_hex(t, name->bytes, name->size);
    if (digits > 0 && digits < 2u * name->size)
        t->s[digits] = '\0';
    return t->s;
}

static bool parse_digits(const char **s, unsigned base, uint64_t *out_value)
{
    uint64_t v = 0;
    const char *p = *s;
    for (;; p++) {
        int d = text_hex_digit((unsigned char)*p);
        if (d < 0 || (unsigned)d >= base)
            break;
        if (v > (UINT64_MAX - (unsigned)d) / base)
            return false;
        v = v * base + (unsigned)d;
    }
    if (p == *s)
        return false;
    *s = p;
    *out_value = v;
    return true;
}

bool text_parse_u64(const char *s, uint64_t *out_value)
{
    uint64_t v;
    if (!parse_digits(&s, 10, &v) || *s != '\0')
        return false;
    *out_value = v;
    return true;
}

bool text_parse_size(const char *s, uint64_t *out_bytes)
{
    static const char letters[] = "KMGT";
    uint64_t v;
    if (!parse_digits(&s, 10, &v))
        return false;
    if (*s != '\0') {
        char c = *s >= 'a' && *s <= 'z' ? (char)(*s - 'a' + 'A') : *s;
        const char *unit = strchr(letters, c);
        if (!unit || (strcmp(s + 1, "") != 0 && strcmp(s + 1, "iB") != 0))
            return false;
        unsigned shift = 10 * (unsigned)(unit - letters + 1);
        if (v > UINT64_MAX >> shift)
            return false;
        v <<= shift;
    }
    *out_bytes = v;
    return true;
}

bool text_parse_address(const char *s, uint64_t *out_value)
{
    if (s[0] != '0' || (s[1] != 'x' && s[1] != 'X'))
        return text_parse_u64(s, out_value);
    uint64_t v;
    s += 2;
    if (!parse_digits(&s, 16, &v) || *s != '\0')
        return false;
    *out_value = v;
    return true;
}

int text_hex_digit(int c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool text_parse_hex(const char *s, uint8_t *out_bytes, size_t room, size_t *out_size)
{
    size_t n = 0;
    for (; s[0] != '\0'; s += 2) {
        int high = text_hex_digit((unsigned char)s[0]);
        int low = high < 0 ? -1 : text_hex_digit((unsigned char)s[1]);
        if (low < 0 || n == room)
            return false;
        out_bytes[n++] = (uint8_t)(high << 4 | low);
    }
    *out_size = n;
    return true;
}

int text_utf8(const uint8_t *p, size_t n)
{
    uint8_t c = p[0];
    if (c < 0x80)
        return 1;
    if (c < 0xc2 || c > 0xf4)
        return 0;
    int length = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    for (int i = 1; i < length; i++) {
        if ((size_t)i >= n)
            return -1;
        uint8_t low = 0x80, high = 0xbf;
        if (i == 1) { /* overlong forms, surrogates, and what lies beyond U+10FFFF */
            low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
            high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
        }
        if (p[i] < low || p[i] > high)
            return 0;
    }
    return length;
}

bool text_is_utf8(const void *data, size_t size)
{
    const uint8_t *p = data;
    for (size_t i = 0; i < size;) {
        int length = text_utf8(p + i, size - i);
        if (length <= 0)
            return false;
        i += (size_t)length;
    }
    return true;
}

/* One byte as it stands in a field, into out[5]. */
static size_t escape_byte(uint8_t c, char *out)
{
    static const char digits[] = "0123456789abcdef";
    switch (c) {
    case '\t':
        memcpy(out, "\\t", 2);
        return 2;
    case '\n':
        memcpy(out, "\\n", 2);
        return 2;
    case '\\':
        memcpy(out, "\\\\", 2);
        return 2;
    default:
        break;
    }
    if (c >= 0x20 && c < 0x7f) {
        out[0] = (char)c;
        return 1;
    }
    out[0] = '\\';
    out[1] = 'x';
    out[2] = digits[c >> 4];
    out[3] = digits[c & 15];
    return 4;
}

static void field_byte(FILE *out, uint8_t c)
{
    char escaped[5];
    fwrite(escaped, 1, escape_byte(c, escaped), out);
}

/* Writes what is whole in p; returns how many bytes were used: all but an unfinished sequence. */
static size_t field_run(FILE *out, const uint8_t *p, size_t size)
{
    size_t i = 0;
    while (i < size) {
        size_t plain = i;
        while (plain < size && p[plain] >= 0x20 && p[plain] < 0x7f && p[plain] != '\\')
            plain++;
        if (plain > i) {
            fwrite(p + i, 1, plain - i, out);
            i = plain;
            continue;
        }
        int length = text_utf8(p + i, size - i);
        if (length < 0)
            break;
        if (length > 1)
            fwrite(p + i, 1, (size_t)length, out);
        else
            field_byte(out, p[i]);
        i += length > 1 ? (size_t)length : 1;
    }
    return i;
}

void text_field_add(text_field *f, FILE *out, const void *data, size_t size)
{
    const uint8_t *p = data;
    while (f->held_size > 0 && size > 0) { /* byte by byte until the straddling sequence is decided */
        f->held[f->held_size++] = *p++;
        size--;
        size_t used = field_run(out, f->held, f->held_size);
        memmove(f->held, f->held + used, f->held_size - used);
        f->held_size -= (unsigned)used;
    }
    size_t used = field_run(out, p, size);
    if (used < size) {
        memcpy(f->held, p + used, size - used);
        f->held_size = (unsigned)(size - used);
    }
}

void text_field_end(text_field *f, FILE *out)
{
    for (unsigned i = 0; i < f->held_size; i++)
        field_byte(out, f->held[i]);
    f->held_size = 0;
}

void text_print_field(FILE *out, const void *data, size_t size)
{
    text_field f = {0};
    text_field_add(&f, out, data, size);
    text_field_end(&f, out);
}

const char *text_field_of(char *buffer, size_t room, const void *data, size_t size)
{
    const uint8_t *p = data;
    size_t used = 0, i = 0;
    while (i < size) {
        char escaped[5];
        int length = text_utf8(p + i, size - i);
        size_t n = length > 1 ? (size_t)length : escape_byte(p[i], escaped);
        if (used + n + 4 > room) {
            memcpy(buffer + used, "...", 3);
            used += 3;
            break;
        }
        memcpy(buffer + used, length > 1 ? (const char *)p + i : escaped, n);
        used += n;
        i += length > 1 ? (size_t)length : 1;
    }
    buffer[used] = '\0';
    return buffer;
}
