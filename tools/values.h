/* SPDX-License-Identifier: ISC */
/* values.h: what get, del, scan and dump share: which state is read, values of any size in pieces. */
#ifndef CMB_TOOLS_VALUES_H
#define CMB_TOOLS_VALUES_H

#include "tools/cli.h"

/* Values up to this are taken whole; longer ones go through in pieces of this size. */
#define VALUE_PIECE (256u << 10)

/* The state that --at or -b names, else "main". False after a message: both are given. */
bool value_rev(const cli *c, int at, int branch, const char **out_rev);
/* "IMAGE: not found: no key "…" in REV"; returns CLI_NOT_FOUND. */
int value_not_found(const cli *c, cmb_bytes key, const char *where);

/* Called with each piece, in order. */
typedef void (*value_piece_fn)(void *ctx, const void *data, size_t size);
/* All bytes of a stream. Stops early, without an error, when `out` cannot be written any more. */
int value_each_piece(cmb_value_stream *stream, FILE *out, value_piece_fn fn, void *ctx);
int value_copy_raw(cmb_value_stream *stream, FILE *out);
/* All bytes of the entry that the cursor stands on. */
int value_of_cursor(cmb_cursor *cursor, FILE *out, value_piece_fn fn, void *ctx);

#endif
