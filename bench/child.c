/* SPDX-License-Identifier: ISC */
#include "bench/child.h"

#include "bench/store.h"

#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

/* Starts this program anew with its standard output in a pipe. */
static const char *start(char *const argv[], pid_t *out_pid, int *out_fd)
{
    int ends[2];
    posix_spawn_file_actions_t actions;
    if (pipe(ends) != 0)
        return strerror(errno);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_addclose(&actions, ends[0]);
    int error = posix_spawn(out_pid, "/proc/self/exe", &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    if (error) {
        close(ends[0]);
        return strerror(error);
    }
    *out_fd = ends[0];
    return NULL;
}

/* What it printed is a number, and it ended well. */
static const char *finish(pid_t pid, int fd, double *out_seconds)
{
    char text[64], *end;
    size_t size = 0;
    for (ssize_t n; size < sizeof text - 1 && (n = read(fd, text + size, sizeof text - 1 - size)) > 0;)
        size += (size_t)n;
    close(fd);
    text[size] = '\0';
    int status;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return strerror(errno);
    double seconds = strtod(text, &end);
    if (status != 0 || end == text || *end != '\n')
        return "the process that loads failed";
    *out_seconds = seconds;
    return NULL;
}

const char *child_load(const bench_config *config, unsigned side, const char *order, const char *dir, double *out_seconds)
{
    char load[32], entries[24], repetitions[16], memory[24];
    snprintf(load, sizeof load, "%u:%s", side, order);
    snprintf(entries, sizeof entries, "%zu", config->entries);
    snprintf(repetitions, sizeof repetitions, "%u", config->repetitions);
    snprintf(memory, sizeof memory, "%zu", (config->peer.txn_memory >> 20) + 1);
    const char *argv[] = {"cambium-bench", "--load", load, "--dir", dir, "--entries", entries, "--repetitions", repetitions,
                          "--txn-memory", memory, "--residency", config->peer.residency, "--io", config->peer.io, NULL};
    pid_t pid;
    int fd = -1;
    const char *error = start((char *const *)(uintptr_t)argv, &pid, &fd);
    return error ? error : finish(pid, fd, out_seconds);
}

static const char *load(bench *b, unsigned side, bool sorted, double *out_seconds)
{
    peer *p;
    struct timespec from, to;
    const char *error = b->ops[side]->create(b->config.dir, &b->config.peer, &p);
    if (error)
        return error;
    clock_gettime(CLOCK_MONOTONIC, &from);
    error = store_fill(b, side, p, sorted, 0, NULL);
    clock_gettime(CLOCK_MONOTONIC, &to);
    *out_seconds = (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9;
    b->ops[side]->close(p);
    return error;
}

int child_main(const bench_config *config, const char *what)
{
    bench b = {.config = *config, .ops = {&peer_lmdb, &peer_cambium}};
    double seconds = 0;
    b.config.peer.no_sync = strcmp(what + 1, ":sorted-nosync") == 0;
    bool sorted = b.config.peer.no_sync || strcmp(what + 1, ":sorted") == 0;
    if ((*what != '0' && *what != '1') || (!sorted && strcmp(what + 1, ":random") != 0)) {
        fprintf(stderr, "cambium-bench: '%s' is no SIDE:ORDER\n", what);
        return 64;
    }
    const char *error = data_make(&b.data, config->entries, config->syncs * config->repetitions) ? NULL : "out of memory";
    if (!error)
        error = load(&b, (unsigned)(*what - '0'), sorted, &seconds);
    if (error)
        fprintf(stderr, "cambium-bench: %s\n", error);
    else
        printf("%.9f\n", seconds);
    data_free(&b.data);
    return error ? 1 : 0;
}
