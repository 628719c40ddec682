/* SPDX-License-Identifier: ISC */
/*
 * json.h: a small JSON writer onto a stream. Commas and escapes are its business; the shape is the
 * caller's. One text a line: json_end_line closes it. Bytes that are UTF-8 are a string; others are the
 * object {"base64": "…"}. Errors are the stream's: look at ferror in the end.
 */
#ifndef CMB_TOOLS_JSON_H
#define CMB_TOOLS_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cambium/types.h>

typedef struct json {
    FILE *out;
    bool comma; /* something stands before the next item */
} json;

/* `name` is NULL inside arrays and at the top. */
void json_put_object(json *j, const char *name);
void json_put_object_end(json *j);
void json_put_array(json *j, const char *name);
void json_put_array_end(json *j);
void json_put_string(json *j, const char *name, const char *value); /* UTF-8 or not: as json_bytes */
void json_put_bytes(json *j, const char *name, const void *data, size_t size);
void json_put_u64(json *j, const char *name, uint64_t value);
void json_put_real(json *j, const char *name, double value); /* three decimals */
void json_put_bool(json *j, const char *name, bool value);
void json_put_null(json *j, const char *name);
void json_put_name(json *j, const char *name, const cmb_name *value); /* hexadecimal, or null */
void json_put_time(json *j, const char *name, int64_t microseconds);  /* ISO 8601 */
void json_end_line(json *j);

#endif
