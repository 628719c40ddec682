/* SPDX-License-Identifier: ISC */
/*
 * input.h: a file or standard input ("-") read byte by byte through a buffer, with the number of the
 * line that is being read; and what the readers of pairs (dbdump.h, tsv.h) have in common.
 */
#ifndef CMB_TOOLS_INPUT_H
#define CMB_TOOLS_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cambium/types.h>

#define INPUT_BUFFER (256u << 10) /* bytes */

typedef struct input {
    const char *name; /* for messages: the path, or "standard input" */
    int fd;
    bool owned;      /* fd is closed in the end */
    int error;       /* CMB_E… of a failed read; the input then ends */
    uint64_t line;   /* of the next byte, from 1 */
    uint64_t offset; /* bytes that were read from the file */
    size_t at, end;  /* of the buffer */
    uint8_t buffer[INPUT_BUFFER];
} input;

/* `path` "-" is standard input. CMB_ENOTFOUND, CMB_EPERM, CMB_EIO with a detail text. Release with input_close. */
int input_open(const char *path, input **out_in);
void input_close(input *in); /* NULL is allowed */
/* Reads more; the next byte without taking it, or -1 at the end (or after an error: look at in->error). */
int input_fill(input *in);
/* Up to `size` raw bytes; *out_read 0 at the end. */
int input_read(input *in, void *out, size_t size, size_t *out_read);

static inline int input_peek(input *in)
{
    return in->at < in->end ? in->buffer[in->at] : input_fill(in);
}

/* Takes the next byte, or returns -1. */
static inline int input_byte(input *in)
{
    int c = input_peek(in);
    if (c >= 0)
        in->at++;
    if (c == '\n')
        in->line++;
    return c;
}

/* "line N: …" as CMB_ESYNTAX, or the error that ended the input before its time. */
int input_syntax(const input *in, uint64_t line, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* How a byte (or -1) is called in such a message. */
const char *input_describe(int c, char out[16]);

/* A row of pairs that is read from an input in some format. */
typedef struct pairs pairs;
struct pairs {
    /* The next key, into `key` of CMB_KEY_MAX bytes: 1; 0 at the end; CMB_ESYNTAX names the line. */
    int (*key)(pairs *p, uint8_t *key, size_t *out_size);
    /* The next bytes of its value. *out_read < size: it ends there. Call until then. */
    int (*value)(pairs *p, void *out, size_t size, size_t *out_read);
    input *in;
    uint64_t line; /* where the pair began */
};

#endif
