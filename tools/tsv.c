/* SPDX-License-Identifier: ISC */
#include "tools/tsv.h"

#include "io/base.h"
#include "tools/text.h"

static int escaped_byte(input *in, uint8_t *out)
{
    char found[16];
    int c = input_peek(in);
    if (c == 't' || c == 'n' || c == '\\') {
        input_byte(in);
        *out = c == 't' ? '\t' : c == 'n' ? '\n' : '\\';
        return 0;
    }
    if (c != 'x')
        return input_syntax(in, in->line, "expected t, n, x or a backslash after a backslash, found %s",
                            input_describe(c, found));
    unsigned value = 0;
    input_byte(in);
    for (int i = 0; i < 2; i++) {
        c = input_peek(in);
        if (text_hex_digit(c) < 0)
            return input_syntax(in, in->line, "expected two hexadecimal digits after \\x, found %s",
                                input_describe(c, found));
        value = value << 4 | (unsigned)text_hex_digit(c);
        input_byte(in);
    }
    *out = (uint8_t)value;
    return 0;
}

/* Bytes up to `stop` (not taken), the end of the line or of the input. */
static int field_bytes(input *in, int stop, uint8_t *out, size_t size, size_t *out_read)
{
    size_t n = 0;
    while (n < size) {
        int c = input_peek(in);
        if (c < 0 || c == '\n' || c == stop)
            break;
        input_byte(in);
        if (c != '\\') {
            out[n++] = (uint8_t)c;
            continue;
        }
        int rc = escaped_byte(in, &out[n]);
        if (rc)
            return rc;
        n++;
    }
    *out_read = n;
    return in->error;
}

static int read_key(pairs *p, uint8_t *key, size_t *out_size)
{
    tsv_reader *r = (tsv_reader *)p;
    input *in = p->in;
    size_t n;
    char found[16];
    p->line = in->line;
    if (input_peek(in) < 0)
        return in->error;
    int rc = field_bytes(in, '\t', key, CMB_KEY_MAX, &n);
    if (rc)
        return rc;
    int c = input_peek(in);
    if (c != '\t' && c >= 0 && c != '\n')
        return input_syntax(in, p->line, "a key of more than %u bytes", CMB_KEY_MAX);
    if (c != '\t')
        return input_syntax(in, p->line, "expected a tab between key and value, found %s", input_describe(c, found));
    if (n == 0)
        return input_syntax(in, p->line, "an empty key");
    input_byte(in);
    r->in_value = true;
    *out_size = n;
    return 1;
}

static int read_value(pairs *p, void *out, size_t size, size_t *out_read)
{
    tsv_reader *r = (tsv_reader *)p;
    size_t n = 0;
    if (r->in_value) {
        int rc = field_bytes(p->in, '\n', out, size, &n);
        if (rc)
            return rc;
        if (n < size) {
            input_byte(p->in); /* the newline; the last line may lack it */
            r->in_value = false;
        }
    }
    *out_read = n;
    return 0;
}

void tsv_open(tsv_reader *r, input *in)
{
    *r = (tsv_reader){.pairs = {.key = read_key, .value = read_value, .in = in}};
}
