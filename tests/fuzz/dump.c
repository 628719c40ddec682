/* SPDX-License-Identifier: ISC */
/*
 * dump.c: texts that `cambium load` reads. An input is
 *
 *   0  u8  1: lines with tabs, else a dump; 2: what was read is written in the printable form, else in digits
 *   1      the text
 *
 * What was read, written as a dump and as lines, reads as the same pairs; a text that is refused is refused at a line.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/base.h"
#include "tests/fuzz/fuzz.h"
#include "tools/dbdump.h"
#include "tools/text.h"
#include "tools/tsv.h"

#define PIECE 512u /* of a value that is read at a time: values straddle it */
enum { LINES = 1, PRINTABLE = 2 };

const char fuzz_target[] = "dump";

/* The pairs of a text, one after the other: u32 size, bytes, of each key and value. */
static int read_pairs(pairs *p, fuzz_buffer *out, uint64_t *out_count)
{
    static uint8_t key[CMB_KEY_MAX], piece[PIECE];
    uint8_t size[4];
    size_t key_size, n;
    int got;
    while ((got = p->key(p, key, &key_size)) > 0) {
        fuzz_check(key_size <= CMB_KEY_MAX, "a key of %zu bytes", key_size);
        cmb_put32(size, (uint32_t)key_size);
        fuzz_buffer_write(out, size, sizeof size);
        fuzz_buffer_write(out, key, key_size);
        size_t at = out->size;
        fuzz_buffer_write(out, size, sizeof size);
        do {
            int error = p->value(p, piece, sizeof piece, &n);
            if (error)
                return error;
            fuzz_check(n <= sizeof piece, "a piece of %zu bytes", n);
            fuzz_buffer_write(out, piece, n);
        } while (n == sizeof piece);
        cmb_put32(out->data + at, (uint32_t)(out->size - at - 4));
        ++*out_count;
    }
    return got;
}

static int read_text(bool lines, const void *data, size_t size, fuzz_buffer *out, uint64_t *out_count)
{
    static input in;
    tsv_reader tsv;
    dbdump_reader dump;
    pairs *p = &tsv.pairs;
    fuzz_check(size <= sizeof in.buffer, "the text is too long");
    in = (input){.name = "text", .fd = open("/dev/null", O_RDONLY), .line = 1, .end = size};
    fuzz_check(in.fd >= 0, "there is no /dev/null");
    memcpy(in.buffer, data, size);
    int error = 0;
    if (lines) {
        tsv_open(&tsv, &in);
    } else {
        error = dbdump_open(&dump, &in);
        p = &dump.pairs;
    }
    if (!error)
        error = read_pairs(p, out, out_count);
    close(in.fd);
    return fuzz_coded(error);
}

/* The pair at *p, which moves behind it. */
static cmb_bytes next(const uint8_t **p)
{
    cmb_bytes b = {*p + 4, cmb_get32(*p)};
    *p += 4 + b.size;
    return b;
}

/* The pairs as text; what reads it again finds the same ones. */
static void write_again(const fuzz_buffer *read, uint64_t count, bool lines, dbdump_format format)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    fuzz_check(f, "no memory");
    if (!lines)
        dbdump_write_header(f, format, 0);
    const uint8_t *p = read->data;
    for (uint64_t i = 0; i < 2 * count; i++) {
        cmb_bytes b = next(&p);
        if (lines) {
            text_print_field(f, b.data, b.size);
            putc(i % 2 ? '\n' : '\t', f);
            continue;
        }
        dbdump_write_begin(f);
        dbdump_write_bytes(f, format, b.data, b.size);
        dbdump_write_end(f);
    }
    if (!lines)
        dbdump_write_footer(f);
    fclose(f);
    if (size <= INPUT_BUFFER) {
        fuzz_buffer again = {0};
        uint64_t found = 0;
        fuzz_must(read_text(lines, text, size, &again, &found));
        fuzz_check(found == count && again.size == read->size && (!count || memcmp(again.data, read->data, read->size) == 0),
                   "what was written reads as other pairs");
        fuzz_buffer_free(&again);
    }
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_buffer read = {0};
    uint64_t count = 0;
    if (!size || size > INPUT_BUFFER)
        return 0;
    if (!read_text(data[0] & LINES, data + 1, size - 1, &read, &count)) {
        write_again(&read, count, false, data[0] & PRINTABLE ? DBDUMP_PRINT : DBDUMP_BYTEVALUE);
        write_again(&read, count, true, DBDUMP_PRINT);
    }
    fuzz_buffer_free(&read);
    return 0;
}

void fuzz_seeds(fuzz_give_fn give)
{
    static const struct {
        const char *name, *text;
    } seeds[] = {{"bytes", "\002VERSION=3\nformat=bytevalue\ntype=btree\nmapsize=1048576\nmaxreaders=126\nHEADER=END\n 6b6579\n 76\n 6b6b\n \nDATA=END\n"},
                 {"printable", "\002VERSION=3\nformat=print\ntype=btree\ndb_pagesize=4096\nHEADER=END\n a key\n a \\\\ value\\0a\n b\\ff\n x\nDATA=END\n"},
                 {"duplicates", "\000VERSION=3\nformat=print\nduplicates=1\ndupsort=1\nHEADER=END\n a\n b\nDATA=END\n"},
                 {"second", "\000VERSION=3\nformat=print\ntype=hash\nHEADER=END\nDATA=END\nVERSION=3\nformat=print\nHEADER=END\nDATA=END\n"},
                 {"lines", "\001apple\tred\nlemon\tyellow\\x00\\t\\n\\\\\n\\xff\t\nk\tv"}};
    for (size_t i = 0; i < CMB_COUNTOF(seeds); i++)
        give(seeds[i].name, seeds[i].text, 1 + strlen(seeds[i].text + 1));
}
