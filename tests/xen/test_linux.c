/* SPDX-License-Identifier: ISC */
/*
 * io/xen/linux.c over stand-ins for Xen's three libraries and the few system calls beside them: they lead to a
 * loopback's hub, where a back end serves. Any call can be made to fail.
 */
#include "bed.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <xenevtchn.h>
#include <xengnttab.h>
#include <xenstore.h>

#define BLOCK 4096u

/* ---- the machine ---- */

typedef struct shared {
    void *memory;
    uint32_t pages, refs[256];
} shared;

static struct machine {
    cmb_xen_end *end; /* of this domain; NULL: nobody has it open */
    cmb_xen_hub *hub;
    shared shares[64];
    uint32_t fired;
    unsigned handles;
    bool driven;      /* the kernel's own front end has the device */
    int open_errno, lock_errno;
    unsigned calls, fail_call;
    int fail_errno;
} m;

static cmb_xen_platform *hub_end(void)
{
    return cmb_xen_end_platform(m.end);
}

/* Is this the call that fails? */
static bool fails(void)
{
    if (++m.calls != m.fail_call)
        return false;
    errno = m.fail_errno;
    return true;
}

/* A library's way to tell of an error of the hub's. */
static bool worked(int error)
{
    errno = error == CMB_ENOTFOUND ? ENOENT : error == CMB_ECONFLICT ? EAGAIN : error == CMB_ENOMEM ? ENOMEM : EIO;
    return error == 0;
}

static void *handle_open(void)
{
    if (fails())
        return NULL;
    if (m.handles++ == 0)
        assert_ok(cmb_xen_end_open(m.hub, BED_DOMAIN, &m.end));
    return &m;
}

static void handle_close(void)
{
    if (--m.handles == 0) {
        hub_end()->ops->close(hub_end());
        m.end = NULL;
    }
}

/* ---- libxengnttab ---- */

xengntshr_handle *xengntshr_open(struct xentoollog_logger *logger, unsigned flags)
{
    return handle_open();
}

int xengntshr_close(xengntshr_handle *h)
{
    handle_close();
    return 0;
}

void *xengntshr_share_pages(xengntshr_handle *h, uint32_t domid, int count, uint32_t *refs, int writable)
{
    shared *s = m.shares;
    while (s->memory)
        s++;
    assert_true(s < m.shares + CMB_COUNTOF(m.shares) && writable && count <= 256);
    if (fails() || !worked(hub_end()->ops->share(hub_end(), (uint16_t)domid, (unsigned)count, &s->memory, refs)))
        return NULL;
    s->pages = (uint32_t)count;
    memcpy(s->refs, refs, s->pages * sizeof *refs);
    memset(s->memory, 0x77, s->pages * BLOCK); /* what a kernel shares need not be zeros */
    return s->memory;
}

int xengntshr_unshare(xengntshr_handle *h, void *start, uint32_t count)
{
    shared *s = m.shares;
    while (s->memory != start)
        s++;
    assert_int_equal(s->pages, count);
    bool good = worked(hub_end()->ops->unshare(hub_end(), start, count, s->refs));
    s->memory = NULL;
    return good && !fails() ? 0 : -1;
}

/* ---- libxenevtchn ---- */

xenevtchn_handle *xenevtchn_open(struct xentoollog_logger *logger, unsigned int flags)
{
    return handle_open();
}

int xenevtchn_close(xenevtchn_handle *h)
{
    handle_close();
    return 0;
}

int xenevtchn_fd(xenevtchn_handle *h)
{
    return 1000;
}

int xenevtchn_notify(xenevtchn_handle *h, evtchn_port_t port)
{
    hub_end()->ops->notify(hub_end(), port);
    return 0;
}

xenevtchn_port_or_error_t xenevtchn_bind_unbound_port(xenevtchn_handle *h, uint32_t domid)
{
    uint32_t port;
    return !fails() && worked(hub_end()->ops->port_open(hub_end(), (uint16_t)domid, &port)) ? (int)port : -1;
}

int xenevtchn_unbind(xenevtchn_handle *h, evtchn_port_t port)
{
    hub_end()->ops->port_close(hub_end(), port);
    return 0;
}

xenevtchn_port_or_error_t xenevtchn_pending(xenevtchn_handle *h)
{
    return fails() ? -1 : 1;
}

int xenevtchn_unmask(xenevtchn_handle *h, evtchn_port_t port)
{
    return 0;
}

/* ---- libxenstore ---- */

struct xs_handle *xs_open(unsigned long flags)
{
    return handle_open();
}

void xs_close(struct xs_handle *h)
{
    if (h)
        handle_close();
}

int xs_fileno(struct xs_handle *h)
{
    return 1001;
}

char **xs_check_watch(struct xs_handle *h)
{
    m.fired |= hub_end()->ops->watch_fired(hub_end());
    if (!m.fired)
        return NULL;
    char **event = malloc(2 * sizeof *event + 16);
    event[XS_WATCH_PATH] = event[XS_WATCH_TOKEN] = (char *)(event + 2);
    snprintf(event[XS_WATCH_TOKEN], 16, "%d", __builtin_ctz(m.fired));
    m.fired &= m.fired - 1;
    return event;
}

bool xs_watch(struct xs_handle *h, const char *path, const char *token)
{
    return !fails() && worked(hub_end()->ops->watch(hub_end(), path, (unsigned)atoi(token)));
}

bool xs_unwatch(struct xs_handle *h, const char *path, const char *token)
{
    hub_end()->ops->unwatch(hub_end(), path);
    return true;
}

xs_transaction_t xs_transaction_start(struct xs_handle *h)
{
    uint32_t tx;
    return !fails() && worked(hub_end()->ops->begin(hub_end(), &tx)) ? tx : XBT_NULL;
}

bool xs_transaction_end(struct xs_handle *h, xs_transaction_t t, bool abandon)
{
    bool failed = fails();
    int error = hub_end()->ops->end(hub_end(), t, !abandon && !failed);
    return !failed && worked(error);
}

void *xs_read(struct xs_handle *h, xs_transaction_t t, const char *path, unsigned int *len)
{
    char value[2 * CMB_XEN_PATH_MAX];
    if (fails() || !worked(hub_end()->ops->read(hub_end(), t, path, value, CMB_XEN_PATH_MAX)))
        return NULL;
    bool is_long = strstr(path, "/mode") && m.fail_errno == E2BIG; /* longer than anything that is written here */
    *len = is_long ? CMB_XEN_PATH_MAX : (unsigned)strlen(value);
    char *copy = calloc(1, CMB_XEN_PATH_MAX + 1);
    memcpy(copy, value, strlen(value));
    return copy;
}

bool xs_write(struct xs_handle *h, xs_transaction_t t, const char *path, const void *data, unsigned int len)
{
    assert_int_equal(strlen(data), len);
    return !fails() && worked(hub_end()->ops->write(hub_end(), t, path, data));
}

bool xs_rm(struct xs_handle *h, xs_transaction_t t, const char *path)
{
    if (fails())
        return false;
    (void)hub_end()->ops->remove(hub_end(), t, path);
    errno = ENOENT; /* as for a node that was not there */
    return false;
}

/* ---- system calls ---- */

static int fake_access(void)
{
    errno = ENOENT;
    return m.driven ? 0 : -1;
}

static int fake_open(void)
{
    errno = m.open_errno;
    return m.open_errno ? -1 : open("/dev/null", O_RDWR | O_CLOEXEC);
}

static int fake_fcntl(const struct flock *lock)
{
    assert_true(lock->l_start == BED_VDEV && lock->l_len == 1);
    errno = m.lock_errno;
    return m.lock_errno ? -1 : 0;
}

static int fake_poll(struct pollfd *fds, unsigned n, int ms)
{
    if (n == 1)
        return 0;
    assert_int_equal(fds[0].fd, 1000);
    assert_int_equal(fds[1].fd, 1001);
    hub_end()->ops->wait(hub_end(), ms < 0 ? UINT64_MAX : cmb_os_monotonic() + (uint64_t)ms * 1000000);
    fds[0].revents = POLLIN;
    return 1;
}

/* cmocka's */
#undef fail
#define fail                        linux_fail
#define access(path, mode)          fake_access()
#define open(path, flags)           fake_open()
#define fcntl(file, command, lock)  fake_fcntl(lock)
#define poll(fds, n, ms)            fake_poll(fds, n, ms)
#include "io/xen/linux.c" /* defines cmb_xen_platform_open, so that the library's is not linked */
#undef fail
#define fail() _fail(__FILE__, __LINE__)

/* ---- */

static void machine_begin(bed *b)
{
    bed_init(b, BED_SIZE);
    bed_serve(b);
    m = (struct machine){.hub = b->hub, .fail_errno = EIO};
}

static void machine_end(bed *b)
{
    assert_int_equal(m.handles, 0);
    cmb_xen_back_free(b->back);
    if (cmb_xen_hub_kept(b->hub) == 0) /* else the other end was never told to let go */
        assert_int_equal(cmb_xen_hub_grants(b->hub), 0);
    assert_int_equal(cmb_xen_hub_ports(b->hub), 0);
    cmb_xen_hub_free(b->hub);
    cmb_device_close(b->disk);
}

static int use(uint64_t timeout, const cmb_device_options *options)
{
    static _Alignas(4096) uint8_t data[24 * BLOCK], found[24 * BLOCK];
    cmb_xen_options take;
    cmb_device *dev;
    cmb_queue *q = NULL;
    cmb_xen_options_default(&take);
    take.timeout = timeout;
    int error = cmb_device_open_xen("xen:xvda", CMB_OPEN_WRITE, options, &take, &dev);
    if (error)
        return error;
    error = cmb_queue_open(dev, 4, &q);
    io_test_fill(data, sizeof data, 3);
    if (!error)
        error = cmb_io_write(q, 0, data, sizeof data);
    if (!error)
        error = cmb_io_flush(q);
    if (!error)
        error = cmb_io_read(q, 0, found, sizeof found, 0);
    if (!error)
        assert_memory_equal(data, found, sizeof data);
    cmb_queue_close(q);
    cmb_device_close(dev);
    return error;
}

static void a_device_works_over_the_libraries(void **state)
{
    bed b;
    machine_begin(&b);
    assert_ok(use((uint64_t)5 * 1000000000u, NULL));
    assert_ok(use(UINT64_MAX, NULL));
    machine_end(&b);
}

static void a_device_that_cannot_be_claimed_says_why(void **state)
{
    static const struct {
        bool driven;
        int open_errno, lock_errno, error;
        const char *words;
    } rows[] = {
        {true, 0, 0, CMB_EBUSY, "the kernel's own block front end drives it"},
        {false, ENOENT, 0, CMB_ENOTSUP, "no Xen guest"},
        {false, EACCES, 0, CMB_EPERM, "open /dev/xen/evtchn"},
        {false, EPERM, 0, CMB_EPERM, "open /dev/xen/evtchn"},
        {false, ENFILE, 0, CMB_EIO, "open /dev/xen/evtchn"},
        {false, 0, EAGAIN, CMB_EBUSY, "another program has it open"},
        {false, 0, EACCES, CMB_EBUSY, "another program has it open"},
        {false, 0, ENOLCK, CMB_EIO, "lock /dev/xen/evtchn"},
        {false, 0, EINVAL, CMB_EIO, "lock /dev/xen/evtchn"},
    };
    for (size_t i = 0; i < CMB_COUNTOF(rows); i++) {
        bed b;
        machine_begin(&b);
        m.driven = rows[i].driven;
        m.open_errno = rows[i].open_errno;
        m.lock_errno = rows[i].lock_errno;
        assert_error(use(1000000000u, NULL), rows[i].error);
        assert_detail_has(rows[i].words);
        machine_end(&b);
    }
}

static void a_library_that_does_not_open_is_named(void **state)
{
    static const char *const words[] = {"/dev/xen/evtchn", "xen-gntalloc", "the xenstore"};
    static const struct {
        int why, error;
    } rows[] = {{ENOENT, CMB_ENOTSUP}, {EACCES, CMB_EPERM}, {ENOMEM, CMB_ENOMEM}, {ENOSPC, CMB_ENOMEM}, {EIO, CMB_EIO}};
    for (unsigned i = 0; i < 3 * CMB_COUNTOF(rows); i++) {
        bed b;
        machine_begin(&b);
        m.fail_call = 1 + i % 3;
        m.fail_errno = rows[i / 3].why;
        assert_error(use(1000000000u, NULL), rows[i / 3].error);
        assert_detail_has(words[i % 3]);
        machine_end(&b);
    }
}

static void a_value_that_is_too_long_is_refused(void **state)
{
    bed b;
    machine_begin(&b);
    m.fail_errno = E2BIG;
    assert_error(use(1000000000u, NULL), CMB_ETOOBIG);
    machine_end(&b);
}

/* Whatever fails once is an error, or is got over; nothing is left behind, and the next one can use the device. */
static void every_call_may_fail(void **state)
{
    static const int whys[] = {EIO, EAGAIN};
    for (unsigned i = 0; i < CMB_COUNTOF(whys); i++) {
        for (unsigned k = 1;; k++) {
            bed b;
            io_test_allocator t;
            machine_begin(&b);
            m.fail_call = k;
            m.fail_errno = whys[i];
            io_test_allocator_init(&t, UINT64_MAX);
            int error = use(150u * 1000 * 1000, &(cmb_device_options){.alloc = t.alloc});
            bool all = m.calls < k;
            assert_int_equal(t.out, 0);
            assert_true(error == 0 || error == CMB_EIO || error == CMB_ECONFLICT || error == CMB_ENOMEM);
            m.fail_call = 0;
            assert_ok(use((uint64_t)5 * 1000000000u, NULL));
            machine_end(&b);
            if (all)
                break;
            assert_true(k < 1000);
        }
    }
}

static void every_allocation_may_fail(void **state)
{
    for (uint64_t k = 0;; k++) {
        bed b;
        io_test_allocator t;
        machine_begin(&b);
        io_test_allocator_init(&t, k);
        int error = use((uint64_t)5 * 1000000000u, &(cmb_device_options){.alloc = t.alloc});
        assert_int_equal(t.out, 0);
        machine_end(&b);
        if (t.calls <= k) {
            assert_ok(error);
            break;
        }
        assert_true(error == 0 || error == CMB_ENOMEM);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_device_works_over_the_libraries),
        cmocka_unit_test(a_device_that_cannot_be_claimed_says_why),
        cmocka_unit_test(a_library_that_does_not_open_is_named),
        cmocka_unit_test(a_value_that_is_too_long_is_refused),
        cmocka_unit_test(every_call_may_fail),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests_name("linux", tests, NULL, NULL);
}
