/* SPDX-License-Identifier: ISC */
/*
 * tsv.h: a pair a line: key, tab, value. In both, \t \n \\ and \xHH stand for a tab, a newline, a
 * backslash and any byte; every other byte stands for itself. Written by text_field (text.h).
 */
#ifndef CMB_TOOLS_TSV_H
#define CMB_TOOLS_TSV_H

#include "tools/input.h"

typedef struct tsv_reader {
    pairs pairs; /* first: the interface of a row of pairs */
    bool in_value;
} tsv_reader;

/* The input stays the caller's. */
void tsv_open(tsv_reader *r, input *in);

#endif
