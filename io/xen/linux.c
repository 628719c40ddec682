/* SPDX-License-Identifier: ISC */
/*
 * linux.c: a process in a Linux guest as the platform: gntalloc shares pages of its own making (so
 * there is no `grant`: data is copied), evtchn has the ports, xenbus the xenstore. The kernel's own
 * blkfront must not drive the device. A byte of the evtchn device's file, at the device's number, is
 * locked for as long as the device is open: one program at a time.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#ifndef __XEN_INTERFACE_VERSION__
#define __XEN_INTERFACE_VERSION__ 0x00040e00
#endif
#include <xenevtchn.h>
#include <xengnttab.h>
#include <xenstore.h>

#include "io/io.h"
#include "io/xen/platform.h"

#define LOCK_FILE "/dev/xen/evtchn"

typedef struct linux_platform {
    cmb_xen_platform platform;
    cmb_allocator alloc;
    uint32_t vdev;
    int lock_fd;
    xengntshr_handle *shares;
    xenevtchn_handle *events;
    struct xs_handle *store;
    char watches[32][CMB_XEN_PATH_MAX]; /* by token */
} linux_platform;

static linux_platform *of(cmb_xen_platform *p)
{
    return (linux_platform *)p;
}

static int fail(const char *what, const char *on)
{
    int why = errno;
    int error = why == ENOENT                     ? CMB_ENOTFOUND
                : why == ENOMEM || why == ENOSPC  ? CMB_ENOMEM
                : why == EAGAIN                   ? CMB_ECONFLICT
                : why == EACCES || why == EPERM   ? CMB_EPERM
                                                  : CMB_EIO;
    return cmb_fail(error, "xen: %s %s: %s", what, on, strerror(why));
}

/* ---- pages ---- */

static int linux_share(cmb_xen_platform *p, uint16_t domid, unsigned pages, void **out_memory, uint32_t *out_refs)
{
    char on[48];
    void *memory = xengntshr_share_pages(of(p)->shares, domid, (int)pages, out_refs, /* writable= */ 1);
    if (!memory) {
        snprintf(on, sizeof on, "%u pages with domain %u", pages, domid);
        return fail("share", on);
    }
    memset(memory, 0, (size_t)pages * CMB_XEN_PAGE);
    *out_memory = memory;
    return 0;
}

/* What the other domain maps yet the kernel keeps, and frees when it can. */
static int linux_unshare(cmb_xen_platform *p, void *memory, unsigned pages, const uint32_t *refs)
{
    return xengntshr_unshare(of(p)->shares, memory, pages) ? fail("unshare", "pages") : 0;
}

/* ---- events ---- */

static int linux_port_open(cmb_xen_platform *p, uint16_t domid, uint32_t *out_port)
{
    xenevtchn_port_or_error_t port = xenevtchn_bind_unbound_port(of(p)->events, domid);
    if (port < 0)
        return fail("open", "an event channel");
    *out_port = (uint32_t)port;
    return 0;
}

static void linux_port_close(cmb_xen_platform *p, uint32_t port)
{
    (void)xenevtchn_unbind(of(p)->events, port);
}

static void linux_notify(cmb_xen_platform *p, uint32_t port)
{
    (void)xenevtchn_notify(of(p)->events, port);
}

/* Milliseconds for poll, rounded up. */
static int poll_time(uint64_t deadline)
{
    uint64_t now = cmb_os_monotonic();
    if (deadline == UINT64_MAX)
        return -1;
    if (deadline <= now)
        return 0;
    uint64_t ms = (deadline - now + 999999) / 1000000;
    return ms > 1000000 ? 1000000 : (int)ms;
}

static void linux_wait(cmb_xen_platform *p, uint64_t deadline)
{
    struct pollfd fds[2] = {{.fd = xenevtchn_fd(of(p)->events), .events = POLLIN},
                            {.fd = xs_fileno(of(p)->store), .events = POLLIN}};
    int n = poll(fds, 2, poll_time(deadline));
    /* Which port it was does not matter: all rings are looked at. */
    while (n > 0 && fds[0].revents & POLLIN) {
        xenevtchn_port_or_error_t port = xenevtchn_pending(of(p)->events);
        if (port < 0)
            break;
        (void)xenevtchn_unmask(of(p)->events, (evtchn_port_t)port);
        n = poll(fds, 1, 0);
    }
}

/* ---- the xenstore ---- */

static uint32_t linux_watch_fired(cmb_xen_platform *p)
{
    uint32_t fired = 0;
    for (char **event; (event = xs_check_watch(of(p)->store)); free(event))
        fired |= 1u << (strtoul(event[XS_WATCH_TOKEN], NULL, 10) & 31);
    return fired;
}

static int linux_begin(cmb_xen_platform *p, uint32_t *out_tx)
{
    xs_transaction_t tx = xs_transaction_start(of(p)->store);
    if (tx == XBT_NULL)
        return fail("begin", "a transaction");
    *out_tx = tx;
    return 0;
}

static int linux_end(cmb_xen_platform *p, uint32_t tx, bool commit)
{
    return xs_transaction_end(of(p)->store, tx, !commit) ? 0 : fail("end", "a transaction");
}

static int linux_read(cmb_xen_platform *p, uint32_t tx, const char *path, char *out_value, size_t size)
{
    unsigned n;
    char *value = xs_read(of(p)->store, tx, path, &n);
    if (!value)
        return fail("read", path);
    int error = n < size ? 0 : cmb_fail(CMB_ETOOBIG, "xen: read %s: %u bytes", path, n);
    if (!error) {
        memcpy(out_value, value, n);
        out_value[n] = 0;
    }
    free(value);
    return error;
}

static int linux_write(cmb_xen_platform *p, uint32_t tx, const char *path, const char *value)
{
    return xs_write(of(p)->store, tx, path, value, (unsigned)strlen(value)) ? 0 : fail("write", path);
}

static int linux_remove(cmb_xen_platform *p, uint32_t tx, const char *path)
{
    return xs_rm(of(p)->store, tx, path) || errno == ENOENT ? 0 : fail("remove", path);
}

/* The token of a path that was watched; it is told again to end the watch. */
static char (*watch_slot(linux_platform *l, const char *path))[CMB_XEN_PATH_MAX]
{
    for (unsigned i = 0; i < CMB_COUNTOF(l->watches); i++) {
        if (strcmp(l->watches[i], path) == 0)
            return &l->watches[i];
    }
    return NULL;
}

static int linux_watch(cmb_xen_platform *p, const char *path, unsigned token)
{
    linux_platform *l = of(p);
    char text[16];
    if (strlen(path) >= sizeof l->watches[0])
        return cmb_fail(CMB_ETOOBIG, "xen: watch %s: the path is too long", path);
    snprintf(text, sizeof text, "%u", token);
    if (!xs_watch(l->store, path, text))
        return fail("watch", path);
    memcpy(l->watches[token], path, strlen(path) + 1);
    return 0;
}

static void linux_unwatch(cmb_xen_platform *p, const char *path)
{
    linux_platform *l = of(p);
    char text[16], (*slot)[CMB_XEN_PATH_MAX] = watch_slot(l, path);
    if (!slot)
        return;
    snprintf(text, sizeof text, "%u", (unsigned)(slot - l->watches));
    (void)xs_unwatch(l->store, path, text);
    (*slot)[0] = 0;
}

/* ---- opening and closing ---- */

static void linux_close(cmb_xen_platform *p)
{
    linux_platform *l = of(p);
    cmb_allocator alloc = l->alloc;
    if (l->shares)
        xengntshr_close(l->shares);
    if (l->events)
        xenevtchn_close(l->events);
    xs_close(l->store);
    if (l->lock_fd >= 0)
        close(l->lock_fd);
    cmb_release(&alloc, l, sizeof *l);
}

static const cmb_xen_platform_ops linux_ops = {
    .share = linux_share,
    .unshare = linux_unshare,
    .port_open = linux_port_open,
    .port_close = linux_port_close,
    .notify = linux_notify,
    .wait = linux_wait,
    .watch_fired = linux_watch_fired,
    .begin = linux_begin,
    .end = linux_end,
    .read = linux_read,
    .write = linux_write,
    .remove = linux_remove,
    .watch = linux_watch,
    .unwatch = linux_unwatch,
    .close = linux_close,
};

/* Nobody else drives the device: no other program, and not the kernel. */
static int claim(linux_platform *l)
{
    char driver[64];
    snprintf(driver, sizeof driver, "/sys/bus/xen/devices/vbd-%u/driver", l->vdev);
    if (access(driver, F_OK) == 0)
        return cmb_fail(CMB_EBUSY, "xen:%u: the kernel's own block front end drives it (unbind it: %s)", l->vdev, driver);
    l->lock_fd = open(LOCK_FILE, O_RDWR | O_CLOEXEC);
    if (l->lock_fd < 0 && errno == ENOENT)
        return cmb_fail(CMB_ENOTSUP, "xen:%u: %s is missing: no Xen guest, or the module xen-evtchn is not loaded", l->vdev,
                        LOCK_FILE);
    if (l->lock_fd < 0)
        return fail("open", LOCK_FILE);
    struct flock byte = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)l->vdev, .l_len = 1};
    if (fcntl(l->lock_fd, F_OFD_SETLK, &byte) == 0)
        return 0;
    if (errno == EAGAIN || errno == EACCES)
        return cmb_fail(CMB_EBUSY, "xen:%u: another program has it open", l->vdev);
    return fail("lock", LOCK_FILE);
}

static int start(linux_platform *l)
{
    int error = claim(l);
    if (error)
        return error;
    if (!(l->events = xenevtchn_open(NULL, 0)))
        return fail("open", "/dev/xen/evtchn");
    if (!(l->shares = xengntshr_open(NULL, 0)))
        return fail("open", "/dev/xen/gntalloc (the module xen-gntalloc)");
    if (!(l->store = xs_open(0)))
        return fail("open", "the xenstore");
    return 0;
}

int cmb_xen_platform_open(const cmb_allocator *alloc, uint32_t vdev, cmb_xen_platform **out_platform)
{
    linux_platform *l = cmb_zalloc(alloc, sizeof *l);
    if (!l)
        return CMB_ENOMEM;
    l->platform.ops = &linux_ops;
    l->alloc = *alloc;
    l->vdev = vdev;
    l->lock_fd = -1;
    int error = start(l);
    if (error) {
        linux_close(&l->platform);
        return error == CMB_ENOTFOUND ? CMB_ENOTSUP : error;
    }
    *out_platform = &l->platform;
    return 0;
}
