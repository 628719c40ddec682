/* SPDX-License-Identifier: ISC */
/* file_io.c: one request on a file or block device, done at once; short transfers are continued. */
#include "io/file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define BOUNCE ((size_t)256 << 10)
#define CHUNK  ((size_t)1 << 30) /* of one system call */

/* Reads until `need` bytes are there; up to `room` may come. `out_got` counts also on failure. */
static int read_some(cmb_file *f, int fd, uint64_t offset, uint8_t *buffer, size_t room, size_t need, size_t *out_got)
{
    *out_got = 0;
    while (*out_got < need) {
        ssize_t n = pread(fd, buffer + *out_got, room - *out_got, (off_t)(offset + *out_got));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return cmb_file_fail(f->dev.name, "read", errno);
        if (n == 0)
            return cmb_fail(CMB_EIO, "%s: ends at %llu, before what was to be read", f->dev.name,
                            (unsigned long long)(offset + *out_got));
        *out_got += (size_t)n;
    }
    return 0;
}

static int read_cached(cmb_file *f, const cmb_request *r)
{
    for (uint64_t done = 0; done < r->length;) {
        size_t got, part = r->length - done < CHUNK ? (size_t)(r->length - done) : CHUNK;
        int error = read_some(f, f->fd, r->offset + done, (uint8_t *)r->buffer + done, part, part, &got);
        if (error)
            return error;
        done += part;
    }
    return 0;
}

static int write_all(cmb_file *f, const cmb_request *r)
{
    for (uint64_t done = 0; done < r->length;) {
        size_t part = r->length - done < CHUNK ? (size_t)(r->length - done) : CHUNK;
        ssize_t n = pwrite(f->fd, (const uint8_t *)r->buffer + done, part, (off_t)(r->offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return cmb_file_fail(f->dev.name, "write", n ? errno : EIO);
        done += (uint64_t)n;
    }
    return 0;
}

bool cmb_file_direct_aligned(const cmb_file *f, const cmb_request *r)
{
    uint64_t mask = f->direct_align - 1;
    return ((r->offset | r->length | (uintptr_t)r->buffer) & mask) == 0;
}

/* Through aligned memory of our own, widened to the alignment on both sides. */
static int read_bounced(cmb_file *f, uint8_t *bounce, const cmb_request *r)
{
    uint64_t mask = f->direct_align - 1;
    for (uint64_t done = 0, n; done < r->length; done += n) {
        uint64_t from = (r->offset + done) & ~mask, skip = r->offset + done - from;
        n = r->length - done < BOUNCE - skip ? r->length - done : BOUNCE - skip;
        size_t got, room = (size_t)((skip + n + mask) & ~mask);
        int error = read_some(f, f->direct_fd, from, bounce, room, (size_t)(skip + n), &got);
        if (error)
            return error;
        memcpy((uint8_t *)r->buffer + done, bounce + skip, (size_t)n);
    }
    return 0;
}

static int read_direct(cmb_file *f, cmb_file_bounce *bounce, const cmb_request *r)
{
    if (cmb_file_direct_aligned(f, r)) {
        size_t got, n = (size_t)r->length;
        return read_some(f, f->direct_fd, r->offset, r->buffer, n, n, &got);
    }
    if (!bounce->ptr)
        bounce->ptr = cmb_io_buffer(&f->dev.alloc, BOUNCE);
    return bounce->ptr ? read_bounced(f, bounce->ptr, r) : CMB_ENOMEM;
}

/* Some file systems accept O_DIRECT and refuse the reads: from then on it counts as unsupported. */
static int read_uncached(cmb_file *f, cmb_file_bounce *bounce, const cmb_request *r)
{
    if (atomic_load(&f->direct_works)) {
        int error = read_direct(f, bounce, r);
        if (error != CMB_EINVAL && error != CMB_ENOTSUP)
            return error;
        atomic_store(&f->direct_works, false);
    }
    return read_cached(f, r);
}

static int flush(cmb_file *f)
{
    return fdatasync(f->fd) ? cmb_file_fail(f->dev.name, "flush", errno) : 0;
}

/* A discard is a hint: where the file system or disk knows none, the blocks stay as they were. */
static int discard(cmb_file *f, const cmb_request *r)
{
    int refused;
    if (r->length == 0)
        return 0;
    if (f->block_device) {
        uint64_t range[2] = {r->offset, r->length};
        refused = ioctl(f->fd, BLKDISCARD, range);
    } else {
        refused = fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)r->offset, (off_t)r->length);
    }
    if (!refused)
        return 0;
    if (errno != EOPNOTSUPP && errno != ENOTTY && errno != ENOSYS)
        return cmb_file_fail(f->dev.name, "discard", errno);
    atomic_store(&f->discard_works, false);
    return 0;
}

int cmb_file_run(cmb_file *f, cmb_file_bounce *bounce, const cmb_request *r)
{
    switch (r->op) {
    case CMB_OP_READ:
        return r->flags & CMB_IO_UNCACHED ? read_uncached(f, bounce, r) : read_cached(f, r);
    case CMB_OP_WRITE:
        return write_all(f, r);
    case CMB_OP_FLUSH:
        return flush(f);
    case CMB_OP_DISCARD:
        return discard(f, r);
    }
    assert(!"checked requests have known operations");
    return CMB_EINVAL;
}

void cmb_file_bounce_free(const cmb_file *f, cmb_file_bounce *bounce)
{
    cmb_io_buffer_release(&f->dev.alloc, bounce->ptr, BOUNCE);
}
