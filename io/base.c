/* SPDX-License-Identifier: ISC */
/*
 * base.c: errors with a per-thread detail text, and the one place where the C library's allocator is
 * called.
 */
#include "io/base.h"

#include <stdio.h>
#include <stdlib.h>

#define DETAIL_MAX 512

static _Thread_local char detail[DETAIL_MAX];

/* Appends what fits at detail[used]. A detail text is one line: names from outside may hold anything. */
static size_t append(size_t used, const char *text)
{
    for (; *text && used < DETAIL_MAX - 1; text++)
        detail[used++] = *text == '\n' || *text == '\r' ? ' ' : *text;
    detail[used] = 0;
    return used;
}

/* Texts are formatted aside, because an argument may be the present detail text itself. */
int cmb_fail(int error, const char *format, ...)
{
    char text[DETAIL_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    append(0, text);
    return error;
}

int cmb_fail_in(int error, const char *format, ...)
{
    char text[DETAIL_MAX], old[DETAIL_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    memcpy(old, detail, sizeof old);
    append(append(append(0, text), ": "), old);
    return error;
}

const char *cmb_error_detail(void)
{
    return detail;
}

const char *cmb_strerror(int error)
{
    switch (error) {
    case CMB_OK:
        return "success";
#define CASE(name, number, text)                                                                                       \
    case CMB_##name:                                                                                                   \
        return text;
        CMB_ERROR_LIST(CASE)
#undef CASE
    default:
        return "unknown error";
    }
}

const char *cmb_error_name(int error)
{
    switch (error) {
    case CMB_OK:
        return "CMB_OK";
#define CASE(name, number, text)                                                                                       \
    case CMB_##name:                                                                                                   \
        return "CMB_" #name;
        CMB_ERROR_LIST(CASE)
#undef CASE
    default:
        return "CMB_E?";
    }
}

static void *libc_alloc(void *ctx, size_t size)
{
    return malloc(size);
}

static void *libc_resize(void *ctx, void *ptr, size_t old_size, size_t new_size)
{
    return realloc(ptr, new_size);
}

static void libc_release(void *ctx, void *ptr, size_t size)
{
    free(ptr);
}

/* The three functions belong together: one that is missing means that the C library's are meant. */
cmb_allocator cmb_allocator_or_default(const cmb_allocator *alloc)
{
    if (alloc && alloc->alloc && alloc->resize && alloc->release)
        return *alloc;
    return (cmb_allocator){.alloc = libc_alloc, .resize = libc_resize, .release = libc_release};
}

static void no_memory(size_t size)
{
    cmb_fail(CMB_ENOMEM, "out of memory: %zu bytes refused", size);
}

/* An allocator never sees the size 0: what malloc(0) gives is up to the platform. */
void *cmb_alloc(const cmb_allocator *alloc, size_t size)
{
    void *p = alloc->alloc(alloc->ctx, size ? size : 1);
    if (!p)
        no_memory(size);
    return p;
}

void *cmb_zalloc(const cmb_allocator *alloc, size_t size)
{
    void *p = cmb_alloc(alloc, size);
    if (p)
        memset(p, 0, size);
    return p;
}

void *cmb_resize(const cmb_allocator *alloc, void *ptr, size_t old_size, size_t new_size)
{
    if (!ptr)
        return cmb_alloc(alloc, new_size);
    void *p = alloc->resize(alloc->ctx, ptr, old_size ? old_size : 1, new_size ? new_size : 1);
    if (!p)
        no_memory(new_size);
    return p;
}

void cmb_release(const cmb_allocator *alloc, void *ptr, size_t size)
{
    if (ptr)
        alloc->release(alloc->ctx, ptr, size ? size : 1);
}
