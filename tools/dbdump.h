/* SPDX-License-Identifier: ISC */
/*
 * dbdump.h: the portable dump format of Berkeley DB and LMDB, read and written as a stream.
 *
 *   VERSION=3
 *   format=bytevalue          or print
 *   type=btree                a line for each further property
 *   HEADER=END
 *    6b6579                   a key: a blank, then its bytes
 *    76616c7565               its value
 *   DATA=END
 *
 * bytevalue: two hexadecimal digits a byte. print: printable ASCII as it is, a backslash doubled,
 * every other byte as a backslash and two hexadecimal digits.
 */
#ifndef CMB_TOOLS_DBDUMP_H
#define CMB_TOOLS_DBDUMP_H

#include <stdio.h>

#include "tools/input.h"

typedef enum dbdump_format { DBDUMP_BYTEVALUE = 0, DBDUMP_PRINT = 1 } dbdump_format;

typedef struct dbdump_reader {
    pairs pairs; /* first: the interface of a row of pairs */
    dbdump_format format;
    bool in_value; /* the value's line is not read to its end */
} dbdump_reader;

/* Reads the header. The input stays the caller's. CMB_ESYNTAX names the line and what was expected;
 * databases with several values a key are refused, so is a second database when the first has ended. */
int dbdump_open(dbdump_reader *r, input *in);

/* Header; map_size (bytes; 0: leave out what only LMDB knows) is how large mdb_load makes its map. */
void dbdump_write_header(FILE *out, dbdump_format format, uint64_t map_size);
/* One line of data, from any number of pieces. Errors are the stream's. */
void dbdump_write_begin(FILE *out);
void dbdump_write_bytes(FILE *out, dbdump_format format, const void *data, size_t size);
void dbdump_write_end(FILE *out);
void dbdump_write_footer(FILE *out);

#endif
