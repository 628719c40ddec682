/* SPDX-License-Identifier: ISC */
/*
 * port.c: all that a machine without files, threads and clocks brings for the engine to run on it, and a
 * program that shows that it does: a store in memory. A unikernel's port looks like this, with its own
 * locks if it has threads, and its own grants, event channels and xenstore where this one refuses.
 */
#include <cambium/cambium.h>

#include <stdio.h>
#include <stdlib.h>

#include "io/where.h"
#include "io/xen/xen.h"

#include "io/xen/platform.h"

/* ---- one thread: locks are free, and nobody waits ---- */

int cmb_mutex_init(cmb_mutex *m) { return 0; }
void cmb_mutex_destroy(cmb_mutex *m) {}
void cmb_mutex_lock(cmb_mutex *m) {}
bool cmb_mutex_trylock(cmb_mutex *m) { return true; }
void cmb_mutex_unlock(cmb_mutex *m) {}
int cmb_cond_init(cmb_cond *c) { return 0; }
void cmb_cond_destroy(cmb_cond *c) {}
void cmb_cond_wait(cmb_cond *c, cmb_mutex *m) { abort(); }
bool cmb_cond_wait_until(cmb_cond *c, cmb_mutex *m, uint64_t deadline) { return false; }
void cmb_cond_signal(cmb_cond *c) {}
void cmb_cond_broadcast(cmb_cond *c) {}
int cmb_thread_start(cmb_thread *t, void (*run)(void *arg), void *arg) { return cmb_fail(CMB_ENOMEM, "one thread is all"); }
void cmb_thread_join(cmb_thread *t) {}

/* ---- a clock that ticks when it is looked at, chance that is none, memory ---- */

static uint64_t ticks;

static int64_t tick(void *ctx) { return (int64_t)++ticks; }

static int no_chance(void *ctx, void *out_bytes, size_t n)
{
    memset(out_bytes, (int)++ticks, n);
    return 0;
}

cmb_env cmb_env_or_default(const cmb_env *env)
{
    cmb_env e = env ? *env : (cmb_env){0};
    e.now = e.now ? e.now : tick;
    e.random = e.random ? e.random : no_chance;
    return e;
}

uint64_t cmb_os_monotonic(void) { return ++ticks; }

static cmb_allocator heap(void) { return cmb_allocator_or_default(NULL); }

void *cmb_os_reserve(size_t size)
{
    cmb_allocator alloc = heap();
    void *p = cmb_io_buffer(&alloc, size);
    return p ? memset(p, 0, size) : NULL;
}

void cmb_os_unreserve(void *ptr, size_t size)
{
    cmb_allocator alloc = heap();
    cmb_io_buffer_release(&alloc, ptr, size);
}

void cmb_os_populate(void *ptr, size_t size) {}

/* ---- devices that this machine has not ---- */

int cmb_device_open_posix(const char *path, cmb_open_mode mode, const cmb_device_options *options, bool fixed, cmb_device **out_dev)
{
    return cmb_fail(CMB_ENOTSUP, "%s: no files here", path);
}

void cmb_path_look(const char *path, cmb_where *out_where)
{
    *out_where = (cmb_where){.kind = CMB_WHERE_NONE};
}

int cmb_device_open_uring(const char *path, cmb_open_mode mode, const cmb_device_options *options, bool fixed, cmb_device **out_dev)
{
    return cmb_fail(CMB_ENOTSUP, "%s: no files here", path);
}

int cmb_device_trace_file(cmb_device *under, const char *path, cmb_device **out_dev)
{
    return cmb_fail(CMB_ENOTSUP, "%s: no files here", path);
}

int cmb_xen_loopback_open(const cmb_allocator *alloc, const char *under, uint32_t vdev, cmb_open_mode mode,
                          const cmb_device_options *options, cmb_xen_platform **out_platform)
{
    return cmb_fail(CMB_ENOTSUP, "%s: no second end here", under);
}

int cmb_xen_platform_open(const cmb_allocator *alloc, uint32_t vdev, cmb_xen_platform **out_platform)
{
    return cmb_fail(CMB_ENOTSUP, "xen:%u: no grants, no event channels, no xenstore here", vdev);
}

/* ---- the program ---- */

static int fail(const char *what, int error)
{
    fprintf(stderr, "%s: %s: %s\n", what, cmb_error_name(error), cmb_error_detail());
    return 1;
}

static int run(cmb_device *dev)
{
    cmb_store *store;
    cmb_txn *txn;
    cmb_snapshot *snapshot;
    cmb_bytes key = {"ring", 4}, value = {"first", 5}, found;
    int error = cmb_store_init_device(dev, NULL, NULL);
    if (!error)
        error = cmb_store_open_device(dev, &(cmb_store_options){.pool_size = (size_t)16 << 20}, &store);
    if (error)
        return error;
    error = cmb_txn_begin(store, "main", 0, &txn);
    if (!error)
        error = cmb_txn_put(txn, key, value);
    if (!error)
        error = cmb_txn_commit(txn, &(cmb_commit_info){.author = "ada", .message = "first ring"}, NULL);
    if (!error)
        error = cmb_snapshot_open(store, "main", &snapshot);
    if (!error) {
        error = cmb_get(snapshot, key, &found);
        if (!error && (found.size != value.size || memcmp(found.data, value.data, value.size) != 0))
            error = cmb_fail(CMB_ECORRUPT, "another value came back");
        cmb_snapshot_close(snapshot);
    }
    int closed = cmb_store_close(store);
    return error ? error : closed;
}

int main(void)
{
    cmb_device *dev;
    int error = cmb_device_open("mem:64M", CMB_OPEN_CREATE, NULL, &dev);
    if (error)
        return fail("mem:64M", error);
    error = run(dev);
    cmb_device_close(dev);
    if (error)
        return fail("store", error);
    error = cmb_device_open("xen:xvda", CMB_OPEN_READ, NULL, &dev); /* linked, and refused by the platform above */
    if (error != CMB_ENOTSUP)
        return fail("xen:xvda", error);
    puts("the engine runs on one page of a machine");
    return 0;
}
