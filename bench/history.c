/* SPDX-License-Identifier: ISC */
/*
 * A real history: a `git fast-export` stream read by `git fast-import` into a new repository, and by Cambium into a new image. Both read
 * the same file, which is in the page cache by then, and both make durable what they read before they say so.
 */
#include "bench/versions.h"

#include "bench/store.h"

#include <cambium/cambium.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* Runs git with these arguments and its standard input and output in files (NULL: /dev/null). */
static const char *git(const char *const argv[], const char *in, const char *out)
{
    posix_spawn_file_actions_t actions;
    pid_t pid;
    int status;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, in ? in : "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, out ? out : "/dev/null", O_WRONLY | O_CREAT | O_TRUNC, 0644);
    int error = posix_spawnp(&pid, "git", &actions, NULL, (char *const *)(uintptr_t)argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (error)
        return strerror(error);
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return strerror(errno);
    return status == 0 ? NULL : "git failed";
}

/* The stream's file; made of the repository the first time. */
static const char *stream_path(const bench *b, char *path, size_t size)
{
    struct stat st;
    if (b->config.git_stream) {
        snprintf(path, size, "%s", b->config.git_stream);
        return NULL;
    }
    snprintf(path, size, "%s/stream", b->root);
    if (stat(path, &st) == 0)
        return NULL;
    const char *const argv[] = {"git", "-C", b->config.git_repo, "fast-export", "--all", "--signed-tags=verbatim", NULL};
    return git(argv, NULL, path);
}

/* What it holds afterwards, to be compared with what Cambium read. */
static const char *count_commits(const char *dir, uint64_t *out_commits)
{
    char path[4400];
    unsigned long long n;
    const char *const argv[] = {"git", "-C", dir, "rev-list", "--all", "--count", NULL};
    snprintf(path, sizeof path, "%s/count", dir);
    const char *error = git(argv, NULL, path);
    if (error)
        return error;
    FILE *in = fopen(path, "r");
    bool found = in && fscanf(in, "%llu", &n) == 1;
    if (in)
        fclose(in);
    if (!found)
        return "git did not count its commits";
    *out_commits = n;
    return NULL;
}

static const char *import_by_git(const char *dir, const char *stream, shim_run *run, uint64_t *out_commits)
{
    const char *const init[] = {"git", "init", "--quiet", "--bare", dir, NULL};
    const char *const import[] = {"git", "-C", dir, "fast-import", "--quiet", NULL};
    const char *error = git(init, NULL, NULL);
    if (error)
        return error;
    shim_start(run);
    error = git(import, stream, NULL);
    shim_stop(run);
    return error ? error : count_commits(dir, out_commits);
}

static int read_stream(void *ctx, void *out, size_t size, size_t *out_read)
{
    ssize_t n = read(*(int *)ctx, out, size);
    if (n < 0)
        return CMB_EIO;
    *out_read = (size_t)n;
    return 0;
}

static const char *import_by_cambium(const char *dir, const char *stream, shim_run *run, uint64_t *out_commits)
{
    static char error[640];
    char name[4400];
    cmb_store_options options = {.create = true};
    cmb_git_result result = {0};
    cmb_store *store;
    snprintf(name, sizeof name, "%s/data.cmb", dir);
    int fd = open(stream, O_RDONLY);
    if (fd < 0)
        return strerror(errno);
    shim_start(run);
    int rc = cmb_store_open(name, &options, &store);
    if (rc >= 0) {
        rc = cmb_git_import(store, read_stream, &fd, NULL, &result);
        if (rc < 0)
            snprintf(error, sizeof error, "%s: %s", cmb_strerror(rc), cmb_error_detail());
        int closed = cmb_store_close(store);
        rc = rc < 0 ? rc : closed;
    } else {
        snprintf(error, sizeof error, "%s: %s", cmb_strerror(rc), cmb_error_detail());
    }
    shim_stop(run);
    close(fd);
    *out_commits = result.commits;
    return rc < 0 ? error : NULL;
}

static const char *import(bench *b, const workload *w, unsigned side, unsigned repetition, shim_run *run, uint64_t *out_check)
{
    (void)w, (void)repetition;
    char stream[4200], dir[4200];
    const char *error = stream_path(b, stream, sizeof stream);
    *out_check = 0;
    if (!error)
        error = store_directory(b, side ? "imported" : "imported.git", dir, sizeof dir);
    if (error)
        return error;
    error = side ? import_by_cambium(dir, stream, run, out_check) : import_by_git(dir, stream, run, out_check);
    store_remove(dir);
    return error;
}

size_t history_list(const bench *b, workload *out)
{
    workload w = {"V4", "import-git", "a history of git, against git fast-import", {"git", b->ops[1]->name}, 3, 10, 1, 0, import};
    if (!b->config.git_stream && !b->config.git_repo)
        return 0;
    out[0] = w;
    return 1;
}
