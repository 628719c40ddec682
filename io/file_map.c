/* SPDX-License-Identifier: ISC */
/*
 * file_map.c: read-only views of a file, at addresses that stay until close.
 *
 * The kernel lets a mapping reach past a file's end, so one window of 64 GiB serves a file through
 * all its growth. Where address space is short, smaller ones do. Windows are never unmapped before
 * close, and what was asked for is looked up among them first, so their number stays small.
 */
#include "io/file.h"

#include <errno.h>
#include <sys/mman.h>

#define WINDOW ((uint64_t)64 << 30)
#define PAGE   ((uint64_t)4096)
#define LIMIT  ((uint64_t)1 << 62)

static const uint8_t *find(const cmb_file *f, uint64_t offset, uint64_t length)
{
    for (size_t i = 0; i < f->window_count; i++) {
        const cmb_file_window *w = &f->windows[i];
        if (offset >= w->offset && offset - w->offset <= w->length && length <= w->length - (offset - w->offset))
            return w->ptr + (offset - w->offset);
    }
    return NULL;
}

/* The window of `span` bytes that the wish lies in, or just the wish where it straddles two. */
static cmb_file_window place(const cmb_file *f, uint64_t offset, uint64_t length, uint64_t span)
{
    uint64_t from = offset & ~(span - 1), to = from + span;
    uint64_t wish_end = cmb_align_up(offset + length, PAGE);
    if (wish_end > to) {
        from = offset & ~(PAGE - 1);
        to = wish_end;
    }
    if (f->fixed) {
        uint64_t end = cmb_align_up(atomic_load(&f->size), PAGE);
        end = end > wish_end ? end : wish_end;
        to = to < end ? to : end;
    }
    return (cmb_file_window){.offset = from, .length = to - from};
}

static bool map_window(const cmb_file *f, cmb_file_window *w)
{
    errno = ENOMEM;
    if ((size_t)w->length != w->length)
        return false;
    void *p = mmap(NULL, (size_t)w->length, PROT_READ, MAP_SHARED, f->fd, (off_t)w->offset);
    w->ptr = p;
    return p != MAP_FAILED;
}

static int map_somehow(const cmb_file *f, uint64_t offset, uint64_t length, cmb_file_window *out_window)
{
    for (uint64_t span = WINDOW; span >= PAGE; span /= 2) {
        cmb_file_window w = place(f, offset, length, span);
        if (map_window(f, &w)) {
            *out_window = w;
            return 0;
        }
    }
    return cmb_file_fail(f->dev.name, "cannot be mapped", errno);
}

static int add_window(cmb_file *f, uint64_t offset, uint64_t length)
{
    cmb_file_window w;
    int error = map_somehow(f, offset, length, &w);
    if (error)
        return error;
    size_t size = f->window_count * sizeof w;
    cmb_file_window *windows = cmb_resize(&f->dev.alloc, f->windows, size, size + sizeof w);
    if (!windows) {
        munmap(w.ptr, (size_t)w.length);
        return CMB_ENOMEM;
    }
    f->windows = windows;
    f->windows[f->window_count++] = w;
    return 0;
}

int cmb_file_map(cmb_device *dev, uint64_t offset, uint64_t length, const void **out_ptr)
{
    cmb_file *f = (cmb_file *)dev;
    if (offset > LIMIT || length > LIMIT)
        return cmb_fail(CMB_EINVAL, "%s: map of %llu bytes at %llu", dev->name, (unsigned long long)length,
                        (unsigned long long)offset);
    length = length ? length : 1;
    cmb_mutex_lock(&f->lock);
    const uint8_t *p = find(f, offset, length);
    int error = p ? 0 : add_window(f, offset, length);
    if (!error)
        *out_ptr = p ? p : find(f, offset, length);
    cmb_mutex_unlock(&f->lock);
    return error;
}

void cmb_file_unmap_all(cmb_file *f)
{
    for (size_t i = 0; i < f->window_count; i++)
        munmap(f->windows[i].ptr, (size_t)f->windows[i].length);
    cmb_release(&f->dev.alloc, f->windows, f->window_count * sizeof *f->windows);
}
