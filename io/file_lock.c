/* SPDX-License-Identifier: ISC */
/*
 * file_lock.c: one writer at a time; a second one is told who the first is.
 *
 * The kernel lists every flock in /proc/locks as device:inode and pid. On file systems with
 * anonymous device numbers (btrfs, overlayfs) that device is not what stat() tells: then the inode
 * alone picks candidates, and one of the candidate's open files has to be the very file.
 */
#include "io/file.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/sysmacros.h>
#include <time.h>

#define PROBE_TRIES 200u
#define PROBE_PAUSE 10000000 /* nanoseconds */

typedef struct lock_line {
    long pid;
    unsigned major, minor;
    unsigned long long inode;
} lock_line;

/* "12: FLOCK  ADVISORY  WRITE 4711 fd:00:123456 0 EOF"; lines of waiters have "->" in front. */
static bool parse_line(const char *line, lock_line *out)
{
    return sscanf(line, "%*d: FLOCK %*s WRITE %ld %x:%x:%llu", &out->pid, &out->major, &out->minor, &out->inode) == 4;
}

static bool has_file_open(long pid, const struct stat *st)
{
    char path[320];
    snprintf(path, sizeof path, "/proc/%ld/fd", pid);
    DIR *dir = opendir(path);
    if (!dir)
        return false;
    bool found = false;
    for (struct dirent *e; !found && (e = readdir(dir));) {
        struct stat open_file;
        snprintf(path, sizeof path, "/proc/%ld/fd/%s", pid, e->d_name);
        found = stat(path, &open_file) == 0 && open_file.st_dev == st->st_dev && open_file.st_ino == st->st_ino;
    }
    closedir(dir);
    return found;
}

/* The pid of who holds the lock: 0 when nobody is listed, < 0 when it lives outside our pid namespace. */
static long find_holder(const struct stat *st)
{
    FILE *locks = fopen("/proc/locks", "re");
    char text[256];
    long holder = 0;
    if (!locks)
        return 0;
    while (holder == 0 && fgets(text, sizeof text, locks)) {
        lock_line line;
        if (!parse_line(text, &line) || line.inode != st->st_ino)
            continue;
        bool exact = line.major == major(st->st_dev) && line.minor == minor(st->st_dev);
        if (exact && line.pid <= 0)
            holder = -1;
        else if (line.pid > 0 && (exact || has_file_open(line.pid, st)))
            holder = line.pid;
    }
    fclose(locks);
    return holder;
}

static void program_of(long pid, char *out, size_t size)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld/comm", pid);
    FILE *f = fopen(path, "re");
    if (!f || !fgets(out, (int)size, f))
        snprintf(out, size, "unknown program");
    if (f)
        fclose(f);
    out[strcspn(out, "\n")] = 0;
}

int cmb_file_busy(const char *path, const struct stat *st)
{
    char program[64];
    long pid = find_holder(st);
    if (pid > 0) {
        program_of(pid, program, sizeof program);
        return cmb_fail(CMB_EBUSY, "%s: in use by process %ld (%s)", path, pid, program);
    }
    if (pid < 0)
        return cmb_fail(CMB_EBUSY, "%s: in use by a process in another container", path);
    return cmb_fail(CMB_EBUSY, "%s: in use%s", path,
                    S_ISBLK(st->st_mode) ? " by the system: mounted, or part of another device" : "");
}

/*
 * On a block device O_EXCL has kept out other writers already. A lock in the way is then most likely
 * udev's, which takes a shared one while it probes a disk that somebody has just closed: wait for it.
 */
static bool wait_for_probe(const struct stat *st, unsigned *tries)
{
    const struct timespec pause = {.tv_nsec = PROBE_PAUSE};
    if (!S_ISBLK(st->st_mode) || ++*tries > PROBE_TRIES)
        return false;
    nanosleep(&pause, NULL);
    return true;
}

int cmb_file_lock(int fd, const char *path)
{
    struct stat st;
    unsigned tries = 0;
    while (flock(fd, LOCK_EX | LOCK_NB)) {
        if (errno == EINTR)
            continue;
        if (errno != EWOULDBLOCK || fstat(fd, &st))
            return cmb_file_fail(path, "cannot be locked", errno);
        if (!wait_for_probe(&st, &tries))
            return cmb_file_busy(path, &st);
    }
    return 0;
}
