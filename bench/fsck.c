/* SPDX-License-Identifier: ISC */
/*
 * A full check of an image. Cold: against reading the same file from end to end in pieces of a megabyte, as dd does; before each
 * run its pages are dropped. Hot: processor time of a check by one thread, against what 2 GB a second take.
 */
#include "bench/versions.h"

#include "bench/child.h"
#include "bench/store.h"

#include <cambium/cambium.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PIECE = 1 << 20 };
#define HOT_RATE 2e9

/* The image that is checked: loaded sorted by a process of its own, once. */
static const char *image(bench *b, char *path, size_t size)
{
    char dir[4200];
    double seconds;
    snprintf(path, size, "%s/fsck/data.cmb", b->root);
    if (access(path, R_OK) == 0)
        return NULL;
    const char *error = store_directory(b, "fsck", dir, sizeof dir);
    return error ? error : child_load(&b->config, 1, "sorted", dir, &seconds);
}

static const char *drop(const char *path)
{
    int fd = open(path, O_RDONLY);
    if (fd < 0)
        return strerror(errno);
    bool dropped = fsync(fd) == 0 && posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0;
    close(fd);
    return dropped ? NULL : "the file's pages cannot be dropped";
}

static const char *read_all(const char *path)
{
    char *piece = malloc(PIECE);
    int fd = open(path, O_RDONLY);
    ssize_t n = piece && fd >= 0 ? 1 : -1;
    while (n > 0)
        n = read(fd, piece, PIECE);
    if (fd >= 0)
        close(fd);
    free(piece);
    return n == 0 ? NULL : "the file cannot be read";
}

static const char *check(const char *path, unsigned threads, uint64_t *out_bytes)
{
    static char text[640];
    cmb_store *store;
    cmb_store_options options = {.read_only = true, .residency = CMB_RESIDENT_POOL}; /* as the tool does */
    cmb_fsck_options fsck = {.level = CMB_FSCK_FULL, .threads = threads};
    cmb_fsck_result result = {0};
    int rc = cmb_store_open(path, &options, &store);
    if (rc == 0) {
        rc = cmb_fsck(store, &fsck, &result);
        cmb_store_close(store);
    }
    *out_bytes = result.bytes;
    if (rc < 0)
        snprintf(text, sizeof text, "%s: %s", cmb_strerror(rc), cmb_error_detail());
    return rc < 0 ? text : result.findings ? "the check found something" : NULL;
}

static const char *cold(bench *b, const workload *w, unsigned side, unsigned repetition, shim_run *run, uint64_t *out_check)
{
    char path[4300];
    uint64_t bytes;
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    (void)w;
    (void)repetition;
    *out_check = 0;
    const char *error = image(b, path, sizeof path);
    if (!error)
        error = drop(path);
    if (error)
        return error;
    shim_start(run);
    error = side ? check(path, processors > 0 ? (unsigned)processors : 1, &bytes) : read_all(path);
    shim_stop(run);
    return error;
}

static double processor_time(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static const char *hot(bench *b, const workload *w, unsigned side, unsigned repetition, shim_run *run, uint64_t *out_check)
{
    char path[4300];
    struct stat st;
    uint64_t bytes;
    (void)w;
    (void)repetition;
    *out_check = 0;
    const char *error = image(b, path, sizeof path);
    if (!error)
        error = read_all(path); /* hot from here on */
    if (!error && stat(path, &st))
        error = strerror(errno);
    if (error)
        return error;
    double before = processor_time();
    error = side ? check(path, 1, &bytes) : NULL;
    shim_add(run, side ? processor_time() - before : (double)st.st_size / HOT_RATE);
    return error;
}

size_t fsck_list(const bench *b, workload *out)
{
    const char *us = b->ops[1]->name;
    const workload list[] = {
        {"V6", "fsck-cold", "full check of a file that is not in memory, against reading it", {"read", us}, 0.7, 0.9, 1, 0, cold},
        {"V6", "fsck-hot", "full check of a file in memory, processor time against 2 GB/s", {"2 GB/s", us}, 1, 0, 1, 0, hot},
    };
    memcpy(out, list, sizeof list);
    return sizeof list / sizeof *list;
}
