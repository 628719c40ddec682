/* SPDX-License-Identifier: ISC */
/*
 * golden.h: golden images. A script of store calls with clock, randomness and uuid injected makes the same bytes on
 * every device and in every version, as long as the format stays. This folder holds what it made, as text:
 *
 *   NAME.image    the image's bytes that are not zero (sparse.c)
 *   NAME.listing  its branches, tags, commits and entries (listing.c)
 *
 * `make DIRECTORY` rewrites them. Functions return 0 or CMB_E… with a detail, as the library's do.
 */
#ifndef CMB_TEST_GOLDEN_H
#define CMB_TEST_GOLDEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cambium/cambium.h>

#define GOLDEN_TRY(x)              \
    do {                           \
        int golden_error_ = (x);   \
        if (golden_error_)         \
            return golden_error_;  \
    } while (0)

/* ---- text (text.c) ---- */

typedef struct golden_text {
    char *data; /* zero-terminated; NULL: empty */
    size_t size, capacity;
} golden_text;

void golden_add(golden_text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Short printable bytes in quotes, others as their size and XXH3-64. */
void golden_add_bytes(golden_text *text, const void *data, size_t size);
void golden_add_hex(golden_text *text, const uint8_t *data, size_t size);
void golden_text_free(golden_text *text);
/* The file DIRECTORY/NAME.SUFFIX. */
int golden_file_read(const char *directory, const char *name, const char *suffix, golden_text *out_text);
int golden_file_write(const char *directory, const char *name, const char *suffix, const golden_text *text);
/* Number of the first line, from 1, in which they differ; 0: they are equal. */
size_t golden_text_differs(const golden_text *a, const golden_text *b);

/* ---- an image's bytes (sparse.c) ---- */

typedef struct golden_image {
    uint8_t *bytes;
    uint64_t size; /* a multiple of 4096 */
} golden_image;

int golden_image_read(cmb_device *dev, golden_image *out_image);
/* A device in memory with these bytes; fixed: of this size for ever. */
int golden_image_device(const golden_image *image, bool fixed, cmb_device **out_dev);
void golden_image_free(golden_image *image);
void golden_image_format(const golden_image *image, golden_text *out_text);
int golden_image_parse(const golden_text *text, golden_image *out_image);

#define GOLDEN_SAME UINT64_MAX
/* Offset of the first byte in which they differ, or GOLDEN_SAME; what one of them has more is compared to zeros. */
uint64_t golden_image_differs(const golden_image *a, const golden_image *b);

/* ---- the script (script.c) ---- */

/* One of the images in this folder. */
typedef struct golden_kind {
    const char *name;
    uint64_t size; /* of the device; 0: it grows */
    cmb_init_options init;
} golden_kind;

#define GOLDEN_KINDS 2u
extern const golden_kind golden_kinds[GOLDEN_KINDS];

/* Makes an image on the device and works on it. large: with what would not fit a text file as well. */
int golden_script(cmb_device *dev, const cmb_init_options *init, bool large);
/* The environment that the script runs in; one for every run. */
typedef struct golden_env {
    int64_t now;
    uint64_t random;
} golden_env;
cmb_env golden_env_start(golden_env *env);

/* ---- what an image holds (listing.c) ---- */

typedef struct golden_at {
    const char *commit; /* hexadecimal; of a working state: the commit below; "none" */
    const char *root;   /* hexadecimal */
    uint64_t entries;
    bool working;
} golden_at;

typedef struct golden_change {
    const char *id, *root, *parent; /* hexadecimal; parent "none": a first commit */
    uint64_t generation, entries;
    int64_t time;
    const void *author, *message;
    size_t author_size, message_size; /* bytes */
} golden_change;

void golden_list_ref(golden_text *text, const char *kind, const char *name, const golden_at *at);
void golden_list_commit(golden_text *text, const golden_change *change);
void golden_list_tree(golden_text *text, const char *root, uint64_t entries);
void golden_list_key(golden_text *text, cmb_bytes key);
void golden_list_value(golden_text *text, cmb_bytes value);
/* Has the text a line that begins with `kind` and `name`? */
bool golden_listed(const golden_text *text, const char *kind, const char *name);

/* Branches, tags, commits reached by first parents, and the entries of all their contents. */
int golden_listing(cmb_store *store, golden_text *out_text);

#endif
