/* SPDX-License-Identifier: ISC */
/* file.c: opens a regular file or a block device, knows its size, grows it. */
#include "io/file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define SIZE_LIMIT ((uint64_t)1 << 62)

int cmb_file_errno(int error)
{
    switch (error) {
    case ENOENT:
    case ENOTDIR:
        return CMB_ENOTFOUND;
    case EACCES:
    case EPERM:
    case EROFS:
        return CMB_EPERM;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return CMB_ENOSPC;
    case ENOMEM:
        return CMB_ENOMEM;
    case EEXIST:
        return CMB_EEXIST;
    case EBUSY:
    case ETXTBSY:
        return CMB_EBUSY;
    case EINVAL:
    case EISDIR:
    case ENAMETOOLONG:
    case ELOOP:
        return CMB_EINVAL;
    case EOPNOTSUPP:
    case ENOSYS:
    case ENOLCK:
        return CMB_ENOTSUP;
    default:
        return CMB_EIO;
    }
}

int cmb_file_fail(const char *path, const char *what, int error)
{
    return cmb_fail(cmb_file_errno(error), "%s: %s: %s", path, what, strerror(error));
}

static const char *kind_of(mode_t mode)
{
    if (S_ISDIR(mode))
        return "a directory";
    if (S_ISFIFO(mode))
        return "a FIFO";
    if (S_ISCHR(mode))
        return "a character device";
    if (S_ISSOCK(mode))
        return "a socket";
    return "something else";
}

static bool usable(mode_t mode)
{
    return S_ISREG(mode) || S_ISBLK(mode);
}

/* Looks before opening: opening a FIFO would wait, and some character devices act when opened. */
static int look(const char *path, cmb_open_mode mode, struct stat *out_st, bool *out_exists)
{
    struct stat st;
    if (stat(path, &st)) {
        bool creates = mode == CMB_OPEN_CREATE || mode == CMB_OPEN_CREATE_FORCE;
        if (errno != ENOENT || !creates)
            return cmb_file_fail(path, "cannot be opened", errno);
        *out_exists = false;
        return 0;
    }
    if (!usable(st.st_mode))
        return cmb_fail(CMB_EINVAL, "%s: is %s, not a file or a block device", path, kind_of(st.st_mode));
    if (S_ISREG(st.st_mode) && mode == CMB_OPEN_CREATE)
        return cmb_fail(CMB_EEXIST, "%s: exists already", path);
    *out_st = st;
    *out_exists = true;
    return 0;
}

static int open_fd(const char *path, cmb_open_mode mode, const struct stat *st, bool exists, int *out_fd)
{
    int flags = O_CLOEXEC | O_NOCTTY | (mode == CMB_OPEN_READ ? O_RDONLY : O_RDWR);
    if (!exists)
        flags |= O_CREAT | O_EXCL;
    else if (S_ISBLK(st->st_mode) && mode != CMB_OPEN_READ)
        flags |= O_EXCL;
    int fd = open(path, flags, 0666);
    if (fd < 0 && errno == EBUSY && exists)
        return cmb_file_busy(path, st);
    if (fd < 0)
        return cmb_file_fail(path, exists ? "cannot be opened" : "cannot be made", errno);
    *out_fd = fd;
    return 0;
}

/* The path must still mean what was opened: it may have been replaced or removed since. */
static int same_file(int fd, const char *path, struct stat *out_st)
{
    struct stat now, st;
    if (fstat(fd, &st))
        return cmb_file_fail(path, "cannot be looked at", errno);
    if (stat(path, &now) || now.st_dev != st.st_dev || now.st_ino != st.st_ino || !usable(st.st_mode))
        return cmb_fail(CMB_ECONFLICT, "%s: was replaced or removed while it was being opened", path);
    *out_st = st;
    return 0;
}

static int sync_parent(const cmb_allocator *alloc, const char *path)
{
    char *dir = cmb_name_copy(alloc, path);
    if (!dir)
        return CMB_ENOMEM;
    char *slash = strrchr(dir, '/');
    if (slash)
        slash[slash == dir ? 1 : 0] = 0;
    int fd = open(slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int error = fd < 0 || fsync(fd) ? cmb_file_fail(path, "its directory cannot be synced", errno) : 0;
    if (fd >= 0)
        close(fd);
    cmb_release(alloc, dir, strlen(path) + 1);
    return error;
}

static int measure_block_device(cmb_file *f, const char *path)
{
    uint64_t size;
    int sector;
    if (ioctl(f->fd, BLKGETSIZE64, &size) || ioctl(f->fd, BLKSSZGET, &sector))
        return cmb_file_fail(path, "its size cannot be read", errno);
    if (sector < 512 || sector > (int)CMB_BLOCK || (sector & (sector - 1)))
        return cmb_fail(CMB_ENOTSUP, "%s: sectors of %d bytes; 512 to %u are supported", path, sector, CMB_BLOCK);
    f->block_device = true;
    f->fixed = true;
    f->block_size = f->direct_align = (uint32_t)sector;
    atomic_init(&f->size, size & ~(uint64_t)(f->block_size - 1));
    return 0;
}

/* What is wished beyond the present size is added; an existing file is never made smaller. */
static int measure_regular(cmb_file *f, const char *path, const struct stat *st, uint64_t wished)
{
    uint64_t size = (uint64_t)st->st_size;
    if (wished % CMB_FILE_BLOCK || wished > SIZE_LIMIT)
        return cmb_fail(CMB_EINVAL, "%s: a size of %llu bytes, not a multiple of %u", path, (unsigned long long)wished,
                        CMB_FILE_BLOCK);
    if (wished > size && !f->read_only) {
        if (ftruncate(f->fd, (off_t)wished))
            return cmb_file_fail(path, "cannot be given its size", errno);
        size = wished;
    }
    f->fixed = f->fixed || (wished && !f->read_only);
    f->block_size = CMB_FILE_BLOCK;
    f->direct_align = CMB_BLOCK;
    atomic_init(&f->size, size & ~(uint64_t)(CMB_FILE_BLOCK - 1));
    return 0;
}

/* A second descriptor, because O_DIRECT on the first one would concern writes and maps as well. */
static void open_direct(cmb_file *f, const char *path, const struct stat *st)
{
    struct stat direct;
    int fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC | O_NOCTTY);
    if (fd >= 0 && (fstat(fd, &direct) || direct.st_dev != st->st_dev || direct.st_ino != st->st_ino)) {
        close(fd);
        fd = -1;
    }
    f->direct_fd = fd;
    atomic_init(&f->direct_works, fd >= 0);
}

/* From here on the file is ours: the rest of opening, with f->fd open and locked. */
static int set_up(cmb_file *f, const char *path, const struct stat *st, const cmb_device_options *options, bool made)
{
    int error = S_ISBLK(st->st_mode) ? measure_block_device(f, path)
                                     : measure_regular(f, path, st, options ? options->size : 0);
    if (error)
        return error;
    if (made) {
        if (fsync(f->fd))
            return cmb_file_fail(path, "cannot be synced", errno);
        error = sync_parent(&f->dev.alloc, path);
        if (error)
            return error;
    }
    f->dev.name = cmb_name_copy(&f->dev.alloc, path);
    if (!f->dev.name)
        return CMB_ENOMEM;
    error = cmb_mutex_init(&f->lock);
    if (error) {
        cmb_name_release(&f->dev.alloc, f->dev.name);
        return error;
    }
    open_direct(f, path, st);
    atomic_init(&f->discard_works, !f->read_only);
    return 0;
}

int cmb_file_open(cmb_file *f, const char *path, cmb_open_mode mode, const cmb_device_options *options, bool fixed)
{
    struct stat st = {0};
    bool exists = true;
    int error = look(path, mode, &st, &exists);
    if (error)
        return error;
    error = open_fd(path, mode, &st, exists, &f->fd);
    if (error)
        return error;
    f->read_only = mode == CMB_OPEN_READ;
    f->fixed = fixed;
    if (!f->read_only)
        error = cmb_file_lock(f->fd, path);
    bool ours = !error && !exists;
    if (!error)
        error = same_file(f->fd, path, &st);
    if (!error)
        error = set_up(f, path, &st, options, !exists);
    if (error) {
        /* Only a file that was made and locked here: any other may be in use by now. */
        if (ours)
            unlink(path);
        close(f->fd);
    }
    return error;
}

void cmb_file_close(cmb_file *f)
{
    cmb_file_unmap_all(f);
    if (f->direct_fd >= 0)
        close(f->direct_fd);
    close(f->fd);
    cmb_mutex_destroy(&f->lock);
    cmb_name_release(&f->dev.alloc, f->dev.name);
}

/* A reader beside a writer in another process learns of growth here. */
static void refresh_size(cmb_file *f)
{
    struct stat st;
    if (f->read_only && !f->fixed && fstat(f->fd, &st) == 0)
        atomic_store(&f->size, (uint64_t)st.st_size & ~(uint64_t)(f->block_size - 1));
}

static void caps_now(cmb_file *f, cmb_caps *out_caps)
{
    uint64_t size = atomic_load(&f->size);
    bool grows = !f->read_only && !f->fixed;
    uint32_t flags = CMB_CAP_FLUSH | CMB_CAP_MAP;
    if (f->read_only)
        flags |= CMB_CAP_READ_ONLY;
    if (grows)
        flags |= CMB_CAP_GROW | CMB_CAP_ZEROED_GROWTH;
    if (atomic_load(&f->discard_works))
        flags |= CMB_CAP_DISCARD;
    if (atomic_load(&f->direct_works))
        flags |= CMB_CAP_UNCACHED;
    *out_caps = (cmb_caps){
        .size = size,
        .max_size = grows ? SIZE_LIMIT : size,
        .block_size = f->block_size,
        .buffer_align = f->direct_align,
        .max_transfer = 1u << 30,
        .queue_depth = 1,
        .flags = flags,
        .generation = 1,
    };
}

void cmb_file_caps(cmb_file *f, cmb_caps *out_caps)
{
    refresh_size(f);
    caps_now(f, out_caps);
}

int cmb_file_check(cmb_file *f, const cmb_request *request)
{
    cmb_caps caps;
    caps_now(f, &caps);
    if (request->op != CMB_OP_FLUSH && request->offset + request->length > caps.size)
        cmb_file_caps(f, &caps);
    return cmb_request_check(&f->dev, &caps, request);
}

/* A tail that is no whole block is not part of the device; cut off, so that growth reads as zeros. */
static int cut_tail(cmb_file *f, uint64_t size)
{
    struct stat st;
    if (fstat(f->fd, &st))
        return cmb_file_fail(f->dev.name, "its size cannot be read", errno);
    if ((uint64_t)st.st_size == size)
        return 0;
    if (ftruncate(f->fd, (off_t)size))
        return cmb_file_fail(f->dev.name, "cannot be made even", errno);
    return 0;
}

/*
 * The host's blocks are taken here, where a lack of them is an answer, and not when a commit is
 * written, where it would be a device that failed. A file system that cannot take them gets a sparse file.
 */
static int extend(cmb_file *f, uint64_t size, uint64_t new_size)
{
    int result;
    do {
        result = fallocate(f->fd, 0, (off_t)size, (off_t)(new_size - size));
    } while (result && errno == EINTR);
    if (!result)
        return 0;
    if (cmb_file_errno(errno) == CMB_ENOSPC) {
        int error = cmb_file_fail(f->dev.name, "cannot be made larger", errno);
        (void)!ftruncate(f->fd, (off_t)size); /* part of it may be there: opening copes with that as well */
        return error;
    }
    return ftruncate(f->fd, (off_t)new_size) ? cmb_file_fail(f->dev.name, "cannot be made larger", errno) : 0;
}

static int grow_locked(cmb_file *f, uint64_t new_size)
{
    uint64_t size = atomic_load(&f->size);
    if (new_size <= size)
        return 0;
    int error = cut_tail(f, size);
    if (error)
        return error;
    error = extend(f, size, new_size);
    if (!error)
        atomic_store(&f->size, new_size);
    return error;
}

int cmb_file_grow(cmb_device *dev, uint64_t new_size)
{
    cmb_file *f = (cmb_file *)dev;
    assert(!f->read_only && !f->fixed);
    if (new_size % f->block_size || new_size > SIZE_LIMIT)
        return cmb_fail(CMB_EINVAL, "%s: growth to %llu bytes, not a multiple of %u", dev->name,
                        (unsigned long long)new_size, f->block_size);
    cmb_mutex_lock(&f->lock);
    int error = grow_locked(f, new_size);
    cmb_mutex_unlock(&f->lock);
    return error;
}
