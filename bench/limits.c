/* SPDX-License-Identifier: ISC */
#include "bench/limits.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK = 1 << 20, FLUSHED = 16 << 10, FLUSHES = 201 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static const char *measure(int fd, char *buffer, size_t bytes, limits *out)
{
    double times[FLUSHES];
    double began = now();
    for (size_t at = 0; at < bytes; at += CHUNK) {
        if (pwrite(fd, buffer, CHUNK, (off_t)at) != CHUNK)
            return strerror(errno);
    }
    if (fdatasync(fd) != 0)
        return strerror(errno);
    out->write_rate = (double)bytes / (now() - began);
    for (int i = 0; i < FLUSHES; i++) {
        began = now();
        if (pwrite(fd, buffer, FLUSHED, (off_t)i * FLUSHED) != FLUSHED || fdatasync(fd) != 0)
            return strerror(errno);
        times[i] = now() - began;
    }
    qsort(times, FLUSHES, sizeof *times, by_value);
    out->flush_time = times[FLUSHES / 2];
    return NULL;
}

const char *limits_measure(const char *dir, size_t bytes, limits *out)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/limits", dir);
    char *buffer = malloc(CHUNK);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
    const char *error = "cannot make a file";
    if (buffer && fd >= 0) {
        /* Not zeros: some disks write those faster. */
        uint64_t x = 88172645463325252u;
        for (size_t i = 0; i < CHUNK; i += 8) {
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            memcpy(buffer + i, &x, 8);
        }
        bytes = (bytes + CHUNK - 1) / CHUNK * CHUNK;
        if (bytes < (size_t)FLUSHES * FLUSHED)
            bytes = (size_t)4 * CHUNK;
        error = measure(fd, buffer, bytes, out);
    }
    if (fd >= 0)
        close(fd);
    unlink(path);
    free(buffer);
    return error;
}

static const char *file_system(const char *dir)
{
    static const struct {
        long magic;
        const char *name;
    } known[] = {{0xEF53, "ext4"},      {0x58465342, "xfs"},        {0x9123683E, "btrfs"}, {0x01021994, "tmpfs"},
                 {0x794c7630, "overlay"}, {0x2fc12fc1, "zfs"}, {0xF2F52010, "f2fs"}};
    struct statfs st;
    if (statfs(dir, &st) != 0)
        return "an unknown file system";
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if ((unsigned long)st.f_type == (unsigned long)known[i].magic)
            return known[i].name;
    }
    return "an unknown file system";
}

static void processor(char *out, size_t size)
{
    char line[256];
    FILE *info = fopen("/proc/cpuinfo", "r");
    snprintf(out, size, "processor unknown");
    while (info && fgets(line, sizeof line, info)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !colon)
            continue;
        snprintf(out, size, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
        break;
    }
    if (info)
        fclose(info);
}

void limits_machine(const char *dir, char *out, size_t size)
{
    char cpu[128];
    struct sysinfo memory = {0};
    struct utsname os = {0};
    processor(cpu, sizeof cpu);
    sysinfo(&memory);
    uname(&os);
    /* The version alone: the rest of the release names whoever built the kernel. */
    os.release[strspn(os.release, "0123456789.")] = '\0';
    snprintf(out, size, "%s, %ld processors, %.1f GB of memory, %s %s, %s", cpu, sysconf(_SC_NPROCESSORS_ONLN),
             (double)memory.totalram * memory.mem_unit / 1e9, os.sysname, os.release, file_system(dir));
}
