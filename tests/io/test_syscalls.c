/* SPDX-License-Identifier: ISC */
/*
 * Files over system calls that fail, are interrupted or do less than they were asked: io/file*.c and io/posix.c with the
 * calls replaced. Errors are told as what they are, nothing is left open, and no file that did not come about.
 */
#include "io_test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

/* ---- the calls ---- */

static struct calls {
    const char *name; /* of those that count; NULL: all */
    unsigned count, fail_at; /* the first is 1 */
    bool goes_on;     /* all later ones fail as well */
    int error;
    int open_files;
    bool as_disk;     /* files look like block devices */
    int sector;
    const char *locks; /* text of /proc/locks; NULL: the real one */
    unsigned pauses;
    bool replaced;    /* the path means another file by the time it is looked at again */
} calls;

static bool trips(const char *name)
{
    if (calls.name && strcmp(calls.name, name) != 0)
        return false;
    calls.count++;
    bool now = calls.fail_at && (calls.goes_on ? calls.count >= calls.fail_at : calls.count == calls.fail_at);
    if (now)
        errno = calls.error;
    return now;
}

static int fake_open(const char *path, int flags, int mode)
{
    int fd = trips("open") ? -1 : open(path, calls.as_disk ? flags & ~(O_EXCL | O_DIRECT) : flags, mode);
    calls.open_files += fd >= 0;
    return fd;
}

static int fake_close(int fd)
{
    calls.open_files--;
    return close(fd);
}

static void disguise(struct stat *st)
{
    if (calls.as_disk && S_ISREG(st->st_mode))
        st->st_mode = (st->st_mode & ~(mode_t)S_IFMT) | S_IFBLK;
}

static int fake_stat(const char *path, struct stat *st)
{
    int result = trips("stat") ? -1 : stat(path, st);
    if (result == 0)
        disguise(st);
    if (result == 0 && calls.replaced && calls.open_files)
        st->st_ino++;
    return result;
}

static int fake_fstat(int fd, struct stat *st)
{
    int result = trips("fstat") ? -1 : fstat(fd, st);
    if (result == 0)
        disguise(st);
    return result;
}

static int fake_ioctl(unsigned long what, void *out)
{
    if (trips("ioctl"))
        return -1;
    if (what == BLKGETSIZE64)
        *(uint64_t *)out = 1 << 20;
    else if (what == BLKSSZGET)
        *(int *)out = calls.sector;
    return 0;
}

/* One byte at a time would do as well: callers go on till all is done. */
static size_t less(size_t n)
{
    return n > 4096 ? n / 2 & ~(size_t)511 : n;
}

static FILE *fake_fopen(const char *path, const char *mode)
{
    if (trips("fopen"))
        return NULL;
    if (calls.locks && strcmp(path, "/proc/locks") == 0)
        return fmemopen((void *)(uintptr_t)calls.locks, strlen(calls.locks), "r");
    return fopen(path, mode);
}

static int fake_nanosleep(const struct timespec *time)
{
    assert_true(time->tv_nsec > 0);
    calls.pauses++;
    return 0;
}

#define OPEN(path, flags, mode, ...) fake_open(path, flags, mode)
#define open(...)                    OPEN(__VA_ARGS__, 0, 0)
#define close(fd)                    fake_close(fd)
#define stat(path, st)               fake_stat(path, st)
#define fstat(fd, st)                fake_fstat(fd, st)
#define ioctl(fd, what, out)         fake_ioctl(what, out)
#define fsync(fd)                    (trips("fsync") ? -1 : (int)(0 * (fd))) /* no power fails here */
#define fdatasync(fd)                (trips("fdatasync") ? -1 : (int)(0 * (fd)))
#define ftruncate(fd, n)             (trips("ftruncate") ? -1 : ftruncate(fd, n))
#define fallocate(fd, how, at, n)    (trips("fallocate") ? -1 : fallocate(fd, how, at, n))
#define pread(fd, to, n, at)         (trips("pread") ? -1 : pread(fd, to, less(n), at))
#define pwrite(fd, from, n, at)      (trips("pwrite") ? -1 : pwrite(fd, from, less(n), at))
#define flock(fd, how)               (trips("flock") ? -1 : flock(fd, how))
#define mmap(at, n, can, how, fd, o) (trips("mmap") ? MAP_FAILED : mmap(at, n, can, how, fd, o))
#define fopen(path, mode)            fake_fopen(path, mode)
#define nanosleep(time, left)        fake_nanosleep(time)
#include "io/file.c"
#include "io/file_io.c"
#include "io/file_lock.c"
#include "io/file_map.c"
#include "io/posix.c"

/* ---- scripts ---- */

#define SIZE ((uint64_t)1 << 20)

static char path[512];

static int begin(void **state)
{
    snprintf(path, sizeof path, "%s", io_test_path("device"));
    return 0;
}

static int end(void **state)
{
    io_test_clean();
    return 0;
}

static void reset(void)
{
    calls = (struct calls){.sector = 512};
    unlink(path);
}

/* From here on: call number `at` of that name. */
static void fail_call(const char *name, unsigned at, int error)
{
    calls.name = name;
    calls.count = 0;
    calls.fail_at = at;
    calls.error = error;
}

static int use_queue(cmb_device *dev, cmb_queue *q)
{
    static _Alignas(4096) uint8_t data[4 * 8192], found[4 * 8192];
    const void *map;
    cmb_caps caps;
    io_test_fill(data, sizeof data, 5);
    int error = dev->ops->grow ? dev->ops->grow(dev, SIZE) : 0;
    if (!error)
        error = cmb_io_write(q, 0, data, sizeof data);
    if (!error)
        error = cmb_io_flush(q);
    if (!error)
        error = cmb_io_read(q, 0, found, sizeof found, CMB_IO_UNCACHED);
    if (!error)
        assert_memory_equal(data, found, sizeof data);
    if (!error)
        error = cmb_io_read(q, 512, found + 8, 8192, CMB_IO_UNCACHED);
    if (!error)
        assert_memory_equal(data + 512, found + 8, 8192);
    if (!error)
        error = dev->ops->map(dev, 0, 4096, &map);
    if (!error && !calls.as_disk)
        assert_memory_equal(map, data, 4096);
    if (!error)
        error = cmb_io_discard(q, 0, 4096);
    cmb_device_caps(dev, &caps);
    return error;
}

static int use(cmb_open_mode mode, const cmb_device_options *options)
{
    cmb_device *dev;
    cmb_queue *q;
    int error = cmb_device_open_posix(path, mode, options, /* fixed= */ false, &dev);
    if (error)
        return error;
    error = cmb_queue_open(dev, 4, &q);
    if (!error) {
        error = use_queue(dev, q);
        cmb_queue_close(q);
    }
    cmb_device_close(dev);
    return error;
}

/* ---- tests ---- */

static void every_system_call_may_fail(void **state)
{
    static const int errors[] = {EIO,    EINTR, EINVAL, ENOSPC, EOPNOTSUPP, EACCES, EEXIST, EMFILE, ENOMEM, EBUSY,
                                 ENOSYS, EPERM, EROFS,  EDQUOT, EFBIG,      ENOLCK, ELOOP,  ENOTTY, ENOENT, ENAMETOOLONG};
    for (size_t e = 0; e < CMB_COUNTOF(errors); e++) {
        for (unsigned disk = 0; disk < 2; disk++) {
            unsigned k = 0;
            do {
                k++;
                io_test_allocator t;
                reset();
                if (disk) {
                    FILE *f = fopen(path, "w");
                    assert_non_null(f);
                    assert_int_equal(ftruncate(fileno(f), (off_t)SIZE), 0);
                    fclose(f);
                    calls.as_disk = true;
                }
                fail_call(NULL, k, errors[e]);
                io_test_allocator_init(&t, UINT64_MAX);
                int error = use(disk ? CMB_OPEN_WRITE : CMB_OPEN_CREATE, &(cmb_device_options){.alloc = t.alloc});
                assert_int_equal(t.out, 0);
                assert_int_equal(calls.open_files, 0);
                assert_true(error == 0 || error == cmb_file_errno(errors[e]) || error == CMB_ECONFLICT || error == CMB_EBUSY);
            } while (calls.count >= k);
            assert_true(k > 15);
        }
    }
}

static void what_could_not_be_made_durable_is_not_left_there(void **state)
{
    static const char *const names[] = {"fsync", "ftruncate", "fstat"};
    for (size_t i = 0; i < CMB_COUNTOF(names); i++) {
        reset();
        fail_call(names[i], 1, EIO);
        assert_error(use(CMB_OPEN_CREATE, &(cmb_device_options){.size = SIZE}), CMB_EIO);
        assert_int_equal(access(path, F_OK), -1);
    }
}

static void interrupted_calls_are_made_again(void **state)
{
    static const char *const names[] = {"pread", "pwrite", "flock", "fallocate"};
    for (size_t i = 0; i < CMB_COUNTOF(names); i++) {
        reset();
        fail_call(names[i], 1, EINTR);
        assert_ok(use(CMB_OPEN_CREATE, NULL));
        assert_true(calls.count > 1);
    }
}

static void a_discard_that_is_not_supported_is_left_out_from_then_on(void **state)
{
    static const int errors[] = {EOPNOTSUPP, ENOTTY, ENOSYS};
    for (size_t i = 0; i < CMB_COUNTOF(errors); i++) {
        cmb_device *dev;
        cmb_queue *q;
        cmb_caps caps;
        reset();
        assert_ok(cmb_device_open_posix(path, CMB_OPEN_CREATE, &(cmb_device_options){.size = SIZE}, false, &dev));
        assert_ok(cmb_queue_open(dev, 1, &q));
        fail_call("fallocate", 1, errors[i]);
        assert_ok(cmb_io_discard(q, 0, 4096));
        cmb_device_caps(dev, &caps);
        assert_false(caps.flags & CMB_CAP_DISCARD);
        cmb_queue_close(q);
        cmb_device_close(dev);
    }
}

static void reads_past_the_cache_that_are_refused_go_through_it(void **state)
{
    cmb_device *dev;
    cmb_queue *q;
    cmb_caps caps;
    uint8_t block[512];
    reset();
    assert_ok(cmb_device_open_posix(path, CMB_OPEN_CREATE, &(cmb_device_options){.size = SIZE}, false, &dev));
    assert_ok(cmb_queue_open(dev, 1, &q));
    cmb_device_caps(dev, &caps);
    bool direct = caps.flags & CMB_CAP_UNCACHED;
    fail_call("pread", direct ? 1 : 0, EINVAL);
    assert_ok(cmb_io_read(q, 0, block, sizeof block, CMB_IO_UNCACHED));
    cmb_device_caps(dev, &caps);
    assert_false(caps.flags & CMB_CAP_UNCACHED);
    cmb_queue_close(q);
    cmb_device_close(dev);
}

static void windows_are_smaller_where_address_space_is_short(void **state)
{
    cmb_device *dev;
    const void *map = NULL, *again = NULL;
    reset();
    assert_ok(cmb_device_open_posix(path, CMB_OPEN_CREATE, &(cmb_device_options){.size = SIZE}, false, &dev));
    fail_call("mmap", 1, ENOMEM);
    calls.goes_on = true;
    assert_error(dev->ops->map(dev, 0, 4096, &map), CMB_ENOMEM);
    assert_true(calls.count >= 20);
    assert_null(map);
    calls.goes_on = false;
    fail_call("mmap", 1, ENOMEM);
    assert_ok(dev->ops->map(dev, 4095, 2, &map));
    assert_ok(dev->ops->map(dev, 4095, 2, &again));
    assert_ptr_equal(map, again);
    assert_error(dev->ops->map(dev, UINT64_MAX, 1, &map), CMB_EINVAL);
    assert_error(dev->ops->map(dev, 0, UINT64_MAX, &map), CMB_EINVAL);
    cmb_device_close(dev);
}

static void a_path_that_is_replaced_while_it_is_opened_is_a_conflict(void **state)
{
    reset();
    assert_ok(use(CMB_OPEN_CREATE, NULL));
    calls.replaced = true;
    assert_error(use(CMB_OPEN_WRITE, NULL), CMB_ECONFLICT);
    assert_detail_has("was replaced or removed");
    assert_int_equal(calls.open_files, 0);
}

static void sectors_that_no_disk_here_may_have_are_refused(void **state)
{
    static const int sizes[] = {0, 256, 768, 8192, -1};
    reset();
    assert_ok(use(CMB_OPEN_CREATE, NULL));
    calls.as_disk = true;
    for (size_t i = 0; i < CMB_COUNTOF(sizes); i++) {
        calls.sector = sizes[i];
        assert_error(use(CMB_OPEN_WRITE, NULL), CMB_ENOTSUP);
        assert_detail_has("sectors of");
    }
}

/* ---- who holds a file ---- */

static void assert_holder(const char *line, long pid, bool exact, const char *words)
{
    static char text[256];
    struct stat st;
    reset();
    assert_ok(use(CMB_OPEN_CREATE, NULL));
    assert_int_equal(stat(path, &st), 0);
    int n = snprintf(text, sizeof text, "1: POSIX  ADVISORY  WRITE 1 00:01:1 0 EOF\nnonsense\n");
    snprintf(text + n, sizeof text - (size_t)n, line, pid, exact ? major(st.st_dev) : 0xfff, minor(st.st_dev),
             (unsigned long long)st.st_ino);
    calls.locks = text;
    fail_call("flock", 1, EWOULDBLOCK);
    assert_error(use(CMB_OPEN_WRITE, NULL), CMB_EBUSY);
    assert_detail_has(words);
    assert_int_equal(calls.open_files, 0);
}

static void the_program_that_holds_a_file_is_named(void **state)
{
    char words[64];
    const char line[] = "2: FLOCK  ADVISORY  WRITE %ld %x:%x:%llu 0 EOF\n";
    snprintf(words, sizeof words, "in use by process %ld (test_syscalls)", (long)getpid());
    assert_holder(line, getpid(), true, words);
    assert_holder(line, 0, true, "in use by a process in another container");
    assert_holder(line, -5, true, "in use by a process in another container");
    assert_holder(line, 999999999, true, "in use by process 999999999 (unknown program)");
    assert_holder(line, 999999999, false, "device: in use"); /* no such process has it open */
    /* A device number that is not the file's: who has the very file open is the one. The one who asks has. */
    assert_holder(line, getpid(), false, words);
    assert_holder("%ld %x %x %llu\n", 1, true, "device: in use");
}

static void without_a_list_of_locks_a_file_is_just_in_use(void **state)
{
    reset();
    assert_ok(use(CMB_OPEN_CREATE, NULL));
    fail_call("fopen", 1, EACCES);
    int fd = (open)(path, O_RDWR);
    assert_int_equal((flock)(fd, LOCK_EX), 0);
    assert_error(use(CMB_OPEN_WRITE, NULL), CMB_EBUSY);
    assert_detail_has("in use");
    (close)(fd);
}

static void a_disk_that_is_probed_is_waited_for(void **state)
{
    reset();
    assert_ok(use(CMB_OPEN_CREATE, NULL));
    calls.as_disk = true;
    fail_call("flock", 1, EWOULDBLOCK);
    assert_ok(use(CMB_OPEN_WRITE, NULL));
    assert_int_equal(calls.pauses, 1);
    calls.goes_on = true; /* for ever: it is no probe */
    calls.locks = "1: nobody\n";
    assert_error(use(CMB_OPEN_WRITE, NULL), CMB_EBUSY);
    assert_detail_has("by the system: mounted");
    assert_true(calls.pauses > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_system_call_may_fail),
        cmocka_unit_test(what_could_not_be_made_durable_is_not_left_there),
        cmocka_unit_test(interrupted_calls_are_made_again),
        cmocka_unit_test(a_discard_that_is_not_supported_is_left_out_from_then_on),
        cmocka_unit_test(reads_past_the_cache_that_are_refused_go_through_it),
        cmocka_unit_test(windows_are_smaller_where_address_space_is_short),
        cmocka_unit_test(a_path_that_is_replaced_while_it_is_opened_is_a_conflict),
        cmocka_unit_test(sectors_that_no_disk_here_may_have_are_refused),
        cmocka_unit_test(the_program_that_holds_a_file_is_named),
        cmocka_unit_test(without_a_list_of_locks_a_file_is_just_in_use),
        cmocka_unit_test(a_disk_that_is_probed_is_waited_for),
    };
    return cmocka_run_group_tests_name("syscalls", tests, begin, end);
}
