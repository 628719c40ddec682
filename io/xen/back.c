/* SPDX-License-Identifier: ISC */
/* back.c: a back end's life: its nodes in the xenstore, its states, its thread. See back.h. */
#include "io/xen/back_private.h"

#include <assert.h>
#include <stdio.h>

void cmb_xen_back_options_default(cmb_xen_back_options *out_options)
{
    *out_options = (cmb_xen_back_options){
        .ring_order = CMB_XEN_ORDER_MAX,
        .queues = CMB_XEN_QUEUES_MAX,
        .segments = CMB_XEN_SEGMENTS_MAX,
        .persistent = true,
        .flush = true,
        .barrier = true,
        .discard = true,
        .secure = true,
    };
}

/* ---- nodes ---- */

static cmb_xen_platform *platform(const cmb_xen_back *b)
{
    return cmb_xen_end_platform(b->end);
}

static int put(cmb_xen_back *b, const char *dir, const char *node, const char *value)
{
    char path[CMB_XEN_PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/%s", dir, node);
    return value ? platform(b)->ops->write(platform(b), CMB_XEN_NO_TX, path, value)
                 : platform(b)->ops->remove(platform(b), CMB_XEN_NO_TX, path);
}

/* Absent when `value` is 0. */
static int put_number(cmb_xen_back *b, const char *node, uint64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    return put(b, b->home, node, value ? text : NULL);
}

static int put_state(cmb_xen_back *b, enum xenbus_state state)
{
    char text[16];
    snprintf(text, sizeof text, "%d", (int)state);
    return put(b, b->home, "state", text);
}

/* A number of the front end's, or `absent`. */
static uint64_t get(cmb_xen_back *b, const char *dir, const char *node, uint64_t absent)
{
    char path[CMB_XEN_PATH_MAX + 32], text[CMB_XEN_PATH_MAX];
    unsigned long long v;
    snprintf(path, sizeof path, "%s/%s", dir, node);
    if (platform(b)->ops->read(platform(b), CMB_XEN_NO_TX, path, text, sizeof text) || sscanf(text, "%llu", &v) != 1)
        return absent;
    return v;
}

/* What the toolstack writes. */
static int attach(cmb_xen_back *b)
{
    char text[128];
    snprintf(text, sizeof text, "/local/domain/0/%s", b->home);
    int error = put(b, b->front_home, "backend", text);
    if (!error)
        error = put(b, b->front_home, "backend-id", "0");
    if (!error)
        error = put(b, b->front_home, "state", "1");
    if (!error)
        error = put(b, b->home, "frontend", b->front_home);
    return error ? error : put(b, b->home, "online", "1");
}

/* What is known before the front end comes. */
static int offer(cmb_xen_back *b)
{
    const cmb_xen_back_options *o = &b->options;
    int error = put(b, b->home, "online", "1");
    if (!error)
        error = put(b, b->home, "mode", o->read_only ? "r" : "w");
    if (!error)
        error = put_number(b, "max-ring-page-order", o->skip_wait ? 0 : o->ring_order);
    if (!error)
        error = put_number(b, "multi-queue-max-queues", o->skip_wait ? 0 : o->queues);
    if (!error)
        error = put_number(b, "feature-max-indirect-segments", o->skip_wait ? 0 : o->segments);
    return error ? error : put_state(b, o->skip_wait ? XenbusStateInitialised : XenbusStateInitWait);
}

/* What is told while connecting. */
static int describe(cmb_xen_back *b)
{
    const cmb_xen_back_options *o = &b->options;
    const struct {
        const char *node;
        uint64_t value;
    } rows[] = {
        {"sectors", atomic_load(&b->size) / CMB_XEN_SECTOR},
        {"sector-size", o->sector_size ? o->sector_size : CMB_XEN_SECTOR},
        {"physical-sector-size", o->physical_size},
        {"info", (o->read_only ? VDISK_READONLY : 0u) | (o->removable ? VDISK_REMOVABLE : 0u)},
        {"feature-flush-cache", o->flush},
        {"feature-barrier", o->barrier},
        {"feature-persistent", o->persistent},
        {"feature-discard", o->discard},
        {"discard-secure", o->discard && o->secure},
        {"discard-granularity", o->granularity},
        {"discard-alignment", o->alignment},
    };
    int error = 0;
    for (size_t i = 0; i < CMB_COUNTOF(rows) && !error; i++)
        error = put_number(b, rows[i].node, rows[i].value);
    return error;
}

/* ---- connecting ---- */

static int ring_connect(cmb_xen_back *b, const char *dir, unsigned order, back_ring *r)
{
    char node[24];
    *r = (back_ring){0};
    for (unsigned i = 0; i < 1u << order; i++) {
        snprintf(node, sizeof node, order ? "ring-ref%u" : "ring-ref", i);
        r->refs[i] = (uint32_t)get(b, dir, node, 0);
    }
    int error = cmb_back_ring_map(b, r, order);
    if (!error)
        error = cmb_xen_end_bind(b->end, b->front_domid, (uint32_t)get(b, dir, "event-channel", 0), &r->port);
    r->has_port = error == 0;
    return error;
}

static void disconnect(cmb_xen_back *b)
{
    cmb_back_drop(b);
    for (; b->ring_count; b->ring_count--) {
        back_ring *r = &b->rings[b->ring_count - 1];
        if (r->has_port)
            platform(b)->ops->port_close(platform(b), r->port);
        cmb_back_ring_unmap(b, r);
    }
    cmb_release(&b->alloc, b->jobs, b->job_count * sizeof *b->jobs);
    cmb_release(&b->alloc, b->kept, BACK_GRANTS * sizeof *b->kept);
    b->jobs = b->free = NULL;
    b->job_count = 0;
    b->kept = NULL;
    b->connected = false;
}

static int rings_connect(cmb_xen_back *b)
{
    char dir[CMB_XEN_PATH_MAX];
    uint64_t order = get(b, b->front_home, "ring-page-order", 0);
    uint64_t queues = get(b, b->front_home, "multi-queue-num-queues", 0);
    bool one = queues == 0;
    if (order > b->options.ring_order || queues > b->options.queues || queues > CMB_XEN_QUEUES_MAX)
        return cmb_fail(CMB_EIO, "%s: the front end takes more than was offered", b->home);
    for (unsigned i = 0; i < (one ? 1 : queues); i++) {
        if (one)
            snprintf(dir, sizeof dir, "%s", b->front_home);
        else
            snprintf(dir, sizeof dir, "%s/queue-%u", b->front_home, i);
        int error = ring_connect(b, dir, (unsigned)order, &b->rings[b->ring_count++]);
        if (error)
            return error;
    }
    return 0;
}

static int jobs_make(cmb_xen_back *b)
{
    b->job_count = b->ring_count * b->rings[0].entries;
    b->jobs = cmb_zalloc(&b->alloc, b->job_count * sizeof *b->jobs);
    if (!b->jobs)
        return CMB_ENOMEM;
    for (unsigned i = 0; i < b->job_count; i++) {
        b->jobs[i].next = b->free;
        b->free = &b->jobs[i];
    }
    b->persistent = b->options.persistent && get(b, b->front_home, "feature-persistent", 0) == 1;
    if (!b->persistent)
        return 0;
    b->kept = cmb_zalloc(&b->alloc, BACK_GRANTS * sizeof *b->kept);
    return b->kept ? 0 : CMB_ENOMEM;
}

static void connect(cmb_xen_back *b)
{
    int error = rings_connect(b);
    if (!error)
        error = jobs_make(b);
    if (!error)
        error = describe(b);
    if (error)
        disconnect(b);
    else
        b->connected = true;
    (void)put_state(b, error ? XenbusStateClosing : XenbusStateConnected);
}

/*
 * The front end's state has changed, or something else has. One that is Connected before us had a back end
 * before us: its rings are gone on with where that one left them, as Linux does. Where that one has left
 * requests unanswered, answers lie on top of them: then the front end must begin anew.
 */
static void look(cmb_xen_back *b)
{
    uint64_t front = get(b, b->front_home, "state", XenbusStateUnknown), ours = get(b, b->home, "state", 0);
    switch (front) {
    case XenbusStateInitialising:
        if (ours == XenbusStateClosed)
            (void)offer(b);
        break;
    case XenbusStateInitialised:
    case XenbusStateConnected:
        if (b->connected || (ours != XenbusStateInitWait && ours != XenbusStateInitialised))
            break;
        if (front == XenbusStateConnected && b->torn)
            (void)put_state(b, XenbusStateClosing);
        else
            connect(b);
        break;
    case XenbusStateClosing:
        disconnect(b);
        b->torn = false;
        if (ours != XenbusStateClosing)
            (void)put_state(b, XenbusStateClosing);
        break;
    case XenbusStateClosed:
        disconnect(b);
        if (ours != XenbusStateClosed)
            (void)put_state(b, XenbusStateClosed);
        break;
    default:
        break;
    }
}

/* ---- the thread ---- */

static void serve(void *arg)
{
    cmb_xen_back *b = arg;
    cmb_xen_platform *p = platform(b);
    look(b);
    while (!atomic_load(&b->stop) && !atomic_load(&b->killed)) {
        if (p->ops->watch_fired(p))
            look(b);
        bool more = b->connected && cmb_back_take(b);
        if (atomic_load(&b->killed))
            break;
        if (b->connected)
            cmb_back_finish(b, /* wait= */ !more);
        if (!more && !b->running)
            p->ops->wait(p, UINT64_MAX);
    }
    disconnect(b); /* what a domain maps ends with it */
    atomic_store(&b->dead, true);
}

static void join(cmb_xen_back *b)
{
    if (b->has_thread)
        cmb_thread_join(&b->thread);
    b->has_thread = false;
}

static int start(cmb_xen_back *b)
{
    atomic_store(&b->stop, false);
    atomic_store(&b->killed, false);
    atomic_store(&b->dead, false);
    b->shuffle = b->options.shuffle;
    memset(b->seen, 0, b->options.fault_count * sizeof *b->seen);
    memset(b->fired, 0, b->options.fault_count * sizeof *b->fired);
    int error = cmb_thread_start(&b->thread, serve, b);
    b->has_thread = error == 0;
    return error;
}

/* ---- making, ending ---- */

static int take_options(cmb_xen_back *b, const cmb_xen_back_options *o)
{
    uint64_t *seen = cmb_zalloc(&b->alloc, o->fault_count * sizeof *seen);
    uint64_t *fired = cmb_zalloc(&b->alloc, o->fault_count * sizeof *fired);
    if (!seen || !fired) {
        cmb_release(&b->alloc, seen, o->fault_count * sizeof *seen);
        cmb_release(&b->alloc, fired, o->fault_count * sizeof *fired);
        return CMB_ENOMEM;
    }
    cmb_release(&b->alloc, b->seen, b->options.fault_count * sizeof *b->seen);
    cmb_release(&b->alloc, b->fired, b->options.fault_count * sizeof *b->fired);
    b->options = *o;
    b->seen = seen;
    b->fired = fired;
    cmb_caps caps;
    cmb_device_caps(b->disk, &caps);
    atomic_store(&b->size, o->size && o->size < caps.size ? o->size : caps.size);
    return 0;
}

static void back_release(cmb_xen_back *b)
{
    cmb_allocator alloc = b->alloc;
    cmb_queue_close(b->queue);
    if (b->end)
        platform(b)->ops->close(platform(b));
    cmb_release(&alloc, b->seen, b->options.fault_count * sizeof *b->seen);
    cmb_release(&alloc, b->fired, b->options.fault_count * sizeof *b->fired);
    cmb_release(&alloc, b, sizeof *b);
}

static int back_fill(cmb_xen_back *b, const cmb_xen_back_options *options)
{
    snprintf(b->home, sizeof b->home, "backend/vbd/%u/%u", b->front_domid, b->vdev);
    snprintf(b->front_home, sizeof b->front_home, "/local/domain/%u/device/vbd/%u", b->front_domid, b->vdev);
    int error = take_options(b, options);
    if (!error)
        error = cmb_queue_open(b->disk, 4 * BACK_BATCH, &b->queue);
    if (!error)
        error = cmb_xen_end_open(b->hub, 0, &b->end);
    if (!error)
        error = platform(b)->ops->watch(platform(b), b->front_home, 0);
    if (!error)
        error = attach(b);
    return error ? error : offer(b);
}

int cmb_xen_back_new(cmb_xen_hub *hub, uint16_t front_domid, uint32_t vdev, cmb_device *disk,
                     const cmb_xen_back_options *options, cmb_xen_back **out_back)
{
    cmb_xen_back *b = cmb_zalloc(&disk->alloc, sizeof *b);
    if (!b)
        return CMB_ENOMEM;
    b->alloc = disk->alloc;
    b->hub = hub;
    b->disk = disk;
    b->front_domid = front_domid;
    b->vdev = vdev;
    b->held_end = &b->held;
    int error = back_fill(b, options);
    if (!error)
        error = start(b);
    if (error) {
        back_release(b);
        return error;
    }
    *out_back = b;
    return 0;
}

void cmb_xen_back_kill(cmb_xen_back *b)
{
    atomic_store(&b->killed, true);
    cmb_xen_end_wake(b->end);
    join(b);
}

bool cmb_xen_back_is_dead(const cmb_xen_back *b)
{
    return atomic_load(&b->dead);
}

int cmb_xen_back_restart(cmb_xen_back *b, const cmb_xen_back_options *options)
{
    cmb_xen_back_kill(b);
    int error = options ? take_options(b, options) : 0;
    if (!error)
        error = offer(b);
    return error ? error : start(b);
}

int cmb_xen_back_unplug(cmb_xen_back *b)
{
    int error = put(b, b->home, "online", "0");
    return error ? error : put_state(b, XenbusStateClosing);
}

int cmb_xen_back_resize(cmb_xen_back *b, uint64_t size)
{
    cmb_caps caps;
    cmb_device_caps(b->disk, &caps);
    if (size > caps.size)
        return cmb_fail(CMB_EINVAL, "%s: the disk has %llu bytes", b->home, (unsigned long long)caps.size);
    atomic_store(&b->size, size);
    int error = put_number(b, "sectors", size / CMB_XEN_SECTOR);
    return error ? error : put_state(b, XenbusStateConnected); /* a nudge, as Linux gives it */
}

void cmb_xen_back_free(cmb_xen_back *b)
{
    if (!b)
        return;
    atomic_store(&b->stop, true);
    cmb_xen_end_wake(b->end);
    join(b);
    platform(b)->ops->unwatch(platform(b), b->front_home);
    (void)platform(b)->ops->remove(platform(b), CMB_XEN_NO_TX, b->home);
    (void)platform(b)->ops->remove(platform(b), CMB_XEN_NO_TX, b->front_home);
    back_release(b);
}

uint64_t cmb_xen_back_served(const cmb_xen_back *b, int op)
{
    assert(op >= 0 && op < BACK_OPS);
    return atomic_load(&b->served[op]);
}
