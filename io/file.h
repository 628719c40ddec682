/* SPDX-License-Identifier: ISC */
/*
 * file.h: a regular file or a raw block device under a cmb_device: what posix.c and uring.c share.
 *
 *   file.c       opening, sizes, capabilities, growth
 *   file_lock.c  one writer at a time, and who it is
 *   file_map.c   read-only views
 *   file_io.c    whole requests, done at once
 *
 * A writer holds flock(LOCK_EX) for as long as it is open, and on a block device O_EXCL too, which
 * keeps out mounts and other names of the same disk. Readers take no lock.
 */
#ifndef CMB_IO_FILE_H
#define CMB_IO_FILE_H

#include <stdatomic.h>
#include <sys/stat.h>

#include "io/io.h"

#define CMB_FILE_BLOCK 512u

typedef struct cmb_file_window {
    uint64_t offset, length; /* bytes */
    uint8_t *ptr;
} cmb_file_window;

typedef struct cmb_file {
    cmb_device dev; /* name: the path */
    int fd;
    int direct_fd; /* the same file with O_DIRECT, for reads; -1: refused */
    bool read_only;
    bool block_device;
    bool fixed; /* the size does not change */
    uint32_t block_size;
    uint32_t direct_align;
    _Atomic uint64_t size;
    _Atomic bool direct_works;  /* cleared when the file system refuses after all */
    _Atomic bool discard_works; /* likewise */
    cmb_mutex lock;             /* growth and windows */
    cmb_file_window *windows;
    size_t window_count;
    char text[160]; /* what describe tells */
} cmb_file;

/* The aligned memory of one queue for reads past the cache that are not aligned themselves. */
typedef struct cmb_file_bounce {
    void *ptr; /* NULL until it is needed */
} cmb_file_bounce;

/* The library's code of an errno. */
int cmb_file_errno(int error);
/* cmb_fail with "path: what: the errno's text". */
int cmb_file_fail(const char *path, const char *what, int error);

/* `f` is zeroed but for dev.alloc; after a failure nothing is left to close. */
int cmb_file_open(cmb_file *f, const char *path, cmb_open_mode mode, const cmb_device_options *options, bool fixed);
void cmb_file_close(cmb_file *f);
void cmb_file_caps(cmb_file *f, cmb_caps *out_caps);
/* cmb_request_check against a size that another process may have made larger meanwhile. */
int cmb_file_check(cmb_file *f, const cmb_request *request);
int cmb_file_grow(cmb_device *dev, uint64_t new_size);
int cmb_file_map(cmb_device *dev, uint64_t offset, uint64_t length, const void **out_ptr);
void cmb_file_unmap_all(cmb_file *f);

/* CMB_EBUSY with the holder's pid and program in the detail; `st`: of the file that is held. */
int cmb_file_busy(const char *path, const struct stat *st);
/* Becomes the only writer, or CMB_EBUSY. */
int cmb_file_lock(int fd, const char *path);

/* One checked request, done before the call returns. 0 or CMB_E…. */
int cmb_file_run(cmb_file *f, cmb_file_bounce *bounce, const cmb_request *request);
/* Whether an UNCACHED read can go to direct_fd as it is. */
bool cmb_file_direct_aligned(const cmb_file *f, const cmb_request *request);
void cmb_file_bounce_free(const cmb_file *f, cmb_file_bounce *bounce);

#endif
