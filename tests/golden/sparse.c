/* SPDX-License-Identifier: ISC */
/*
 * sparse.c: an image's bytes, as text and as a device.
 *
 *   size BYTES             decimal
 *   OFFSET BYTES           hexadecimal; a row of 64 bytes that are not all zero, without the zeros at its end
 *
 * Rows ascend. Everything else is zero.
 */
#include "golden.h"

#include <stdio.h>
#include <stdlib.h>

#include "io/io.h"

#define ROW 64u
#define PIECE ((uint64_t)1 << 20)
#define SIZE_MAX_IMAGE ((uint64_t)1 << 30)

static int image_create(uint64_t size, golden_image *out_image)
{
    if (!size || size % CMB_BLOCK || size > SIZE_MAX_IMAGE)
        return cmb_fail(CMB_EINVAL, "an image of %llu bytes", (unsigned long long)size);
    uint8_t *bytes = calloc(1, (size_t)size);
    if (!bytes)
        return cmb_fail(CMB_ENOMEM, "an image of %llu bytes", (unsigned long long)size);
    *out_image = (golden_image){bytes, size};
    return 0;
}

void golden_image_free(golden_image *image)
{
    free(image->bytes);
    *image = (golden_image){0};
}

static bool is_zero(const uint8_t *data, size_t size)
{
    return !data[0] && memcmp(data, data + 1, size - 1) == 0;
}

/* Memory of what is zero stays untouched, which is most of it. */
static int read_pieces(cmb_queue *queue, const golden_image *image)
{
    uint8_t *piece = malloc(PIECE);
    int error = piece ? 0 : cmb_fail(CMB_ENOMEM, "no memory to read an image");
    for (uint64_t at = 0, n; !error && at < image->size; at += n) {
        n = image->size - at < PIECE ? image->size - at : PIECE;
        error = cmb_io_read(queue, at, piece, n, 0);
        for (uint64_t i = 0; !error && i < n; i += CMB_BLOCK)
            if (!is_zero(piece + i, CMB_BLOCK))
                memcpy(image->bytes + at + i, piece + i, CMB_BLOCK);
    }
    free(piece);
    return error;
}

int golden_image_read(cmb_device *dev, golden_image *out_image)
{
    cmb_caps caps;
    cmb_queue *queue;
    golden_image image;
    cmb_device_caps(dev, &caps);
    GOLDEN_TRY(image_create(caps.size, &image));
    int error = cmb_queue_open(dev, 1, &queue);
    if (!error) {
        error = read_pieces(queue, &image);
        cmb_queue_close(queue);
    }
    if (error)
        golden_image_free(&image);
    else
        *out_image = image;
    return error;
}

static int write_blocks(const golden_image *image, cmb_device *dev)
{
    cmb_queue *queue;
    GOLDEN_TRY(cmb_queue_open(dev, 1, &queue));
    int error = 0;
    for (uint64_t at = 0; !error && at < image->size; at += CMB_BLOCK)
        if (!is_zero(image->bytes + at, CMB_BLOCK))
            error = cmb_io_write(queue, at, image->bytes + at, CMB_BLOCK);
    cmb_queue_close(queue);
    return error;
}

int golden_image_device(const golden_image *image, bool fixed, cmb_device **out_dev)
{
    cmb_device *dev;
    GOLDEN_TRY(cmb_device_mem(fixed ? image->size : 0, NULL, &dev));
    int error = fixed ? 0 : dev->ops->grow(dev, image->size);
    if (!error)
        error = write_blocks(image, dev);
    if (error)
        cmb_device_close(dev);
    else
        *out_dev = dev;
    return error;
}

void golden_image_format(const golden_image *image, golden_text *out_text)
{
    golden_add(out_text, "size %llu\n", (unsigned long long)image->size);
    for (uint64_t at = 0; at < image->size; at += ROW) {
        size_t n = ROW;
        while (n && !image->bytes[at + n - 1])
            n--;
        if (!n)
            continue;
        golden_add(out_text, "%llx ", (unsigned long long)at);
        golden_add_hex(out_text, image->bytes + at, n);
        golden_add(out_text, "\n");
    }
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* A row after its offset, up to the end of the line. */
static bool parse_row(const golden_image *image, uint64_t at, const char **p)
{
    const char *s = *p;
    uint64_t end = at + ROW;
    if (at % ROW || at >= image->size)
        return false;
    for (; *s != '\n'; s += 2) {
        int high = hex_digit(s[0]), low = high < 0 ? -1 : hex_digit(s[1]);
        if (low < 0 || at == end)
            return false;
        image->bytes[at++] = (uint8_t)(high << 4 | low);
    }
    *p = s + 1;
    return true;
}

int golden_image_parse(const golden_text *text, golden_image *out_image)
{
    golden_image image;
    char *s;
    if (strncmp(text->data, "size ", 5) != 0)
        return cmb_fail(CMB_ESYNTAX, "a golden image begins with its size");
    uint64_t size = strtoull(text->data + 5, &s, 10);
    if (*s != '\n')
        return cmb_fail(CMB_ESYNTAX, "a golden image begins with its size");
    GOLDEN_TRY(image_create(size, &image));
    for (const char *p = s + 1; *p;) {
        uint64_t at = strtoull(p, &s, 16);
        p = s + 1;
        if (*s != ' ' || !parse_row(&image, at, &p)) {
            golden_image_free(&image);
            return cmb_fail(CMB_ESYNTAX, "a golden image: malformed row at 0x%llx", (unsigned long long)at);
        }
    }
    *out_image = image;
    return 0;
}

uint64_t golden_image_differs(const golden_image *a, const golden_image *b)
{
    uint64_t common = a->size < b->size ? a->size : b->size;
    const golden_image *longer = a->size < b->size ? b : a;
    uint64_t at = 0;
    while (at < common && memcmp(a->bytes + at, b->bytes + at, CMB_BLOCK) == 0)
        at += CMB_BLOCK;
    for (; at < common; at++)
        if (a->bytes[at] != b->bytes[at])
            return at;
    for (; at < longer->size; at++)
        if (longer->bytes[at])
            return at;
    return GOLDEN_SAME;
}
