/* SPDX-License-Identifier: ISC */
/*
 * header.c: headers, what commits and tags hold besides their own fields.
 *
 *   u16 number of headers, then of each: u8 size of the name, the name, u32 size of the value, the value
 */
#include "store/internal.h"

#define COUNT_MAX 65535u
#define HEADER_MIN 6u /* bytes of the shortest one */

static bool is_name(const uint8_t *name, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (!(name[i] >= 'a' && name[i] <= 'z') && !(name[i] >= '0' && name[i] <= '9') && name[i] != '.' && name[i] != '-')
            return false;
    return size > 0 && size <= CMB_HEADER_NAME_MAX;
}

int cmb_headers_check(const cmb_commit_header *headers, size_t n, size_t *out_size)
{
    size_t size = 2;
    if (n > COUNT_MAX)
        return cmb_fail(CMB_EINVAL, "%zu headers: at most %u", n, COUNT_MAX);
    for (size_t i = 0; i < n; i++) {
        const cmb_commit_header *h = &headers[i];
        size_t name = h->name ? strlen(h->name) : 0;
        if (!is_name((const uint8_t *)h->name, name))
            return cmb_fail(CMB_EINVAL, "header '%.*s': a name has 1 to %u of a-z, 0-9, '.' and '-'", name < 80 ? (int)name : 80,
                            h->name ? h->name : "", CMB_HEADER_NAME_MAX);
        if (h->value.size > CMB_COMMIT_TEXT_MAX || size > CMB_COMMIT_TEXT_MAX)
            return cmb_fail(CMB_EINVAL, "header '%s': headers have more than %u bytes", h->name, CMB_COMMIT_TEXT_MAX);
        size += 1 + name + 4 + h->value.size;
    }
    *out_size = size;
    return 0;
}

uint8_t *cmb_headers_put(uint8_t *p, const cmb_commit_header *headers, size_t n)
{
    cmb_put16(p, (uint16_t)n);
    p += 2;
    for (size_t i = 0; i < n; i++) {
        const cmb_commit_header *h = &headers[i];
        size_t name = strlen(h->name);
        *p++ = (uint8_t)name;
        memcpy(p, h->name, name);
        p += name;
        cmb_put32(p, (uint32_t)h->value.size);
        p += 4;
        if (h->value.size)
            memcpy(p, h->value.data, h->value.size);
        p += h->value.size;
    }
    return p;
}

bool cmb_headers_measure(const uint8_t *p, size_t size, size_t *out_count, size_t *out_memory)
{
    const uint8_t *end = p + size;
    size_t memory = 0;
    if (size < 2)
        return false;
    size_t count = cmb_get16(p);
    p += 2;
    for (size_t i = 0; i < count; i++) {
        if ((size_t)(end - p) < HEADER_MIN)
            return false;
        size_t name = *p++;
        if ((size_t)(end - p) < name + 4 || !is_name(p, name))
            return false;
        p += name;
        size_t value = cmb_get32(p);
        p += 4;
        if ((size_t)(end - p) < value)
            return false;
        p += value;
        memory += name + 1 + value + 1;
    }
    if (p != end)
        return false;
    *out_count = count;
    *out_memory = memory;
    return true;
}

/* `size` bytes and a zero after them. */
static uint8_t *copy_text(uint8_t *to, const uint8_t *from, size_t size)
{
    memcpy(to, from, size);
    to[size] = 0;
    return to + size + 1;
}

void cmb_headers_fill(const uint8_t *p, cmb_commit_header *out, uint8_t *memory)
{
    size_t count = cmb_get16(p);
    p += 2;
    for (size_t i = 0; i < count; i++) {
        size_t name = *p++;
        out[i].name = (const char *)memory;
        memory = copy_text(memory, p, name);
        p += name;
        out[i].value.size = cmb_get32(p);
        out[i].value.data = memory;
        p += 4;
        memory = copy_text(memory, p, out[i].value.size);
        p += out[i].value.size;
    }
}
