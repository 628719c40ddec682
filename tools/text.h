/* SPDX-License-Identifier: ISC */
/*
 * text.h: numbers, times and bytes as people read them. Functions that fill a text_buf return its
 * buffer, so that they can stand as arguments of printf.
 */
#ifndef CMB_TOOLS_TEXT_H
#define CMB_TOOLS_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cambium/types.h>

/* Room for any of the short texts below. */
typedef struct text_buf {
    char s[80];
} text_buf;

const char *text_size(text_buf *t, uint64_t bytes);                       /* "512 B", "1.5 GiB" */
const char *text_count(text_buf *t, uint64_t n);                          /* "1,234,567" */
const char *text_rate(text_buf *t, uint64_t bytes, uint64_t nanoseconds); /* "45.1 MiB/s" */
const char *text_time(text_buf *t, int64_t microseconds); /* since 1970 UTC, as "2026-11-22T10:00:00Z" */
const char *text_name(text_buf *t, const cmb_name *name,
                      unsigned digits);                           /* hexadecimal, 0: all of it; "-" if there is none */
const char *text_hex(text_buf *t, const void *data, size_t size); /* at most 32 bytes */

/* A number, and one with K, M, G or T (1024 each) behind it. False: not one, or it does not fit. */
bool text_parse_u64(const char *s, uint64_t *out_value);
bool text_parse_size(const char *s, uint64_t *out_bytes);
/* 0x and hexadecimal digits, or decimal ones. */
bool text_parse_address(const char *s, uint64_t *out_value);

/* Value of a hexadecimal digit, or -1. */
int text_hex_digit(int c);
/* Decodes 2 * n digits into n bytes; *out_size is n. False: an odd number, or another character. */
bool text_parse_hex(const char *s, uint8_t *out_bytes, size_t room, size_t *out_size);

/*
 * Length of the UTF-8 sequence at p: 1..4; 0: not one; -1: the n bytes end inside of one. Overlong
 * forms and surrogates are none.
 */
int text_utf8(const uint8_t *p, size_t n);
bool text_is_utf8(const void *data, size_t size);

/*
 * Writes bytes as one field of a line: tab, newline and backslash as \t \n \\, other control bytes
 * and what is not UTF-8 as \xHH. A value may come in several pieces: the state carries a sequence
 * that straddles two of them. Zero-initialise; close with text_field_end.
 */
typedef struct text_field {
    uint8_t held[4];
    unsigned held_size;
} text_field;
void text_field_add(text_field *f, FILE *out, const void *data, size_t size);
void text_field_end(text_field *f, FILE *out);
/* All at once. */
void text_print_field(FILE *out, const void *data, size_t size);
/* The same into memory, for messages: cut short with "..." where there is no more room. */
const char *text_field_of(char *buffer, size_t room, const void *data, size_t size);

#endif
