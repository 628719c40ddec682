/* SPDX-License-Identifier: ISC */
/*
 * front_connect.c: the states of the two ends, which each tells the other through the xenstore.
 *
 *   front end                          back end
 *                                      InitWait     offers rings, queues, indirect segments
 *   Initialised  rings, port, features
 *                                      Connected    size, sector size, flush, discard, persistence
 *   Connected    requests flow
 *
 *   Closing -> Closed, and the back end follows; from Closed back to Initialising to begin again.
 *
 * A front end that was killed leaves any state behind: then the device is closed first in its name. A
 * back end that is not Connected any more while we are has left (unplugged, where "online" says so) or
 * is a new one in the old one's place.
 */
#include "io/xen/front.h"

#include <assert.h>
#include <stdio.h>

#define TX_TRIES 100u /* transactions that somebody else's changes spoil */

/* ---- states ---- */

#define BIT(state) (1u << (state))
#define GONE       BIT(XenbusStateUnknown) /* no such node */

/* The state of an end as one bit; what is no state counts as gone. An error: the xenstore does not tell. */
static int state_read(front *f, const char *dir, unsigned *out_state)
{
    char text[CMB_XEN_PATH_MAX] = "";
    int error = cmb_front_node(f, dir, "state", text);
    if (error && error != CMB_ENOTFOUND)
        return error;
    bool known = !error && text[0] >= '0' && text[0] <= '0' + XenbusStateReconfigured && text[1] == 0;
    *out_state = known ? BIT((unsigned)(text[0] - '0')) : GONE;
    return 0;
}

static int state_write(front *f, enum xenbus_state state)
{
    char path[CMB_XEN_PATH_MAX], text[16];
    int error = cmb_front_path(f->home, "state", path);
    snprintf(text, sizeof text, "%d", (int)state);
    return error ? error : f->platform->ops->write(f->platform, CMB_XEN_NO_TX, path, text);
}

/* Leaves the lock. False: the deadline has passed. */
static bool sleep_until(front *f, uint64_t deadline)
{
    if (cmb_os_monotonic() >= deadline)
        return false;
    cmb_mutex_unlock(&f->lock);
    f->platform->ops->wait(f->platform, deadline);
    cmb_mutex_lock(&f->lock);
    (void)f->platform->ops->watch_fired(f->platform);
    return true;
}

static uint64_t deadline_of(const front *f)
{
    uint64_t now = cmb_os_monotonic();
    return f->options.timeout > UINT64_MAX - now ? UINT64_MAX : now + f->options.timeout;
}

/* When to try again what failed for the moment. */
static uint64_t next_try(uint64_t deadline)
{
    uint64_t next = cmb_os_monotonic() + CMB_FRONT_AGAIN;
    return next < deadline ? next : deadline;
}

/* Waits until the back end is in one of the states; `out_state`: which. CMB_EBUSY: it did not come to that. */
static int state_await(front *f, unsigned wanted, uint64_t deadline, unsigned *out_state)
{
    for (;;) {
        int error = state_read(f, f->back, out_state);
        if (!error && *out_state & wanted)
            return 0;
        if (!sleep_until(f, error ? next_try(deadline) : deadline))
            return error ? error : CMB_EBUSY;
    }
}

static unsigned bit_number(unsigned bit)
{
    return (unsigned)__builtin_ctz(bit);
}

/* ---- finding the back end ---- */

/* What is watched of it, by token. */
static const char *const watched[] = {
    [CMB_FRONT_WATCH_STATE] = "state",
    [CMB_FRONT_WATCH_SECTORS] = "sectors",
    [CMB_FRONT_WATCH_CONNECT] = "sector-size",
};

static void back_forget(front *f)
{
    char path[CMB_XEN_PATH_MAX];
    for (unsigned i = CMB_FRONT_WATCH_STATE; f->back[0] && i < CMB_COUNTOF(watched); i++) {
        if (!cmb_front_path(f->back, watched[i], path))
            f->platform->ops->unwatch(f->platform, path);
    }
    f->back[0] = 0;
}

static int back_watch(front *f, const char *back)
{
    char path[CMB_XEN_PATH_MAX];
    int error = 0;
    memcpy(f->back, back, sizeof f->back);
    for (unsigned i = CMB_FRONT_WATCH_STATE; !error && i < CMB_COUNTOF(watched); i++) {
        error = cmb_front_path(back, watched[i], path);
        if (!error)
            error = f->platform->ops->watch(f->platform, path, i);
    }
    if (error)
        back_forget(f);
    return error;
}

/* Where the back end lives, as the toolstack says now. */
static int back_find(front *f)
{
    char path[CMB_XEN_PATH_MAX];
    uint64_t id;
    int error = cmb_front_node(f, f->home, "backend", path);
    if (error == CMB_ENOTFOUND)
        return cmb_fail(CMB_ENOTFOUND, "%s: this domain has no virtual block device %u", f->dev.name, f->vdev);
    if (!error)
        error = cmb_front_number(f, f->home, "backend-id", UINT64_MAX, UINT16_MAX, &id);
    if (error)
        return error;
    if (id == UINT64_MAX)
        return cmb_fail(CMB_EIO, "%s: %s/backend-id is missing", f->dev.name, f->home);
    f->back_id = (uint16_t)id;
    if (strcmp(path, f->back) == 0)
        return 0;
    back_forget(f);
    return back_watch(f, path);
}

/* ---- connecting ---- */

/*
 * Closing and Closed, and the back end's following, even if it shows no connection: it may be about to go
 * on with the one that its predecessor had. One that is Closed already is not told that we are Closing: it
 * would follow, later than we look, and be Closing when we are past it. At the deadline CMB_EBUSY.
 */
static int leave(front *f, uint64_t deadline)
{
    const unsigned closed = BIT(XenbusStateClosed) | GONE;
    unsigned state;
    int error = 0;
    if (state_read(f, f->back, &state) || !(state & closed))
        error = state_write(f, XenbusStateClosing);
    if (!error)
        error = state_await(f, closed | BIT(XenbusStateClosing), deadline, &state);
    if (!error)
        error = state_write(f, XenbusStateClosed);
    return error ? error : state_await(f, closed, deadline, &state);
}

/* Whatever state a front end before us has left: afterwards we are Initialising, and the back end waits for us. */
static int begin(front *f, uint64_t deadline)
{
    const unsigned fresh = BIT(XenbusStateInitialising) | BIT(XenbusStateInitWait) | BIT(XenbusStateInitialised) | GONE;
    unsigned ours, theirs;
    int error = state_read(f, f->home, &ours);
    if (!error)
        error = state_read(f, f->back, &theirs);
    if (!error && !(ours & BIT(XenbusStateInitialising) && theirs & fresh))
        error = leave(f, deadline);
    return error ? error : state_write(f, XenbusStateInitialising);
}

typedef struct writer {
    front *f;
    uint32_t tx;
    int error; /* the first */
} writer;

static void put(writer *w, const char *dir, const char *node, const char *value)
{
    char path[CMB_XEN_PATH_MAX];
    cmb_xen_platform *p = w->f->platform;
    if (!w->error)
        w->error = cmb_front_path(dir, node, path);
    if (!w->error)
        w->error = value ? p->ops->write(p, w->tx, path, value) : p->ops->remove(p, w->tx, path);
}

static void put_number(writer *w, const char *dir, const char *node, uint64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    put(w, dir, node, text);
}

static void put_ring(writer *w, const char *dir, const front_ring *r)
{
    char node[24];
    put_number(w, dir, "event-channel", r->port);
    if (r->pages == 1)
        put_number(w, dir, "ring-ref", r->refs[0]);
    for (unsigned i = 0; r->pages > 1 && i < r->pages; i++) {
        snprintf(node, sizeof node, "ring-ref%u", i);
        put_number(w, dir, node, r->refs[i]);
    }
}

/* A front end before us may have left other nodes than ours. */
static void put_nothing(writer *w)
{
    static const char *const stale[] = {"ring-ref", "event-channel", "ring-page-order", "num-ring-pages",
                                        "multi-queue-num-queues"};
    char node[24];
    for (size_t i = 0; i < CMB_COUNTOF(stale); i++)
        put(w, w->f->home, stale[i], NULL);
    for (unsigned i = 0; i < CMB_XEN_RING_PAGES; i++) {
        snprintf(node, sizeof node, "ring-ref%u", i);
        put(w, w->f->home, node, NULL);
    }
    for (unsigned i = 0; i < CMB_XEN_QUEUES_MAX; i++) {
        snprintf(node, sizeof node, "queue-%u", i);
        put(w, w->f->home, node, NULL);
    }
}

static void put_all(writer *w)
{
    front *f = w->f;
    char dir[CMB_XEN_PATH_MAX];
    put_nothing(w);
    if (f->ring_count == 1)
        put_ring(w, f->home, &f->rings[0]);
    else
        put_number(w, f->home, "multi-queue-num-queues", f->ring_count);
    for (unsigned i = 0; f->ring_count > 1 && i < f->ring_count; i++) {
        snprintf(dir, sizeof dir, "%s/queue-%u", f->home, i);
        put_ring(w, dir, &f->rings[i]);
    }
    if (f->ring_order)
        put_number(w, f->home, "ring-page-order", f->ring_order);
    put(w, f->home, "protocol", XEN_IO_PROTO_ABI_NATIVE);
    put(w, f->home, "feature-persistent", f->persistent ? "1" : "0");
    put(w, f->home, "feature-large-sector-size", "0"); /* sectors are of 512 bytes, whatever a front end before us said */
    put_number(w, f->home, "state", XenbusStateInitialised);
}

static int publish(front *f)
{
    cmb_xen_platform *p = f->platform;
    for (unsigned i = 0; i < TX_TRIES; i++) {
        writer w = {.f = f};
        int error = p->ops->begin(p, &w.tx);
        if (error)
            return error;
        put_all(&w);
        error = p->ops->end(p, w.tx, /* commit= */ w.error == 0);
        if (w.error)
            return w.error;
        if (error != CMB_ECONFLICT)
            return error;
    }
    return cmb_fail(CMB_EIO, "%s: %u transactions on the xenstore were spoiled by others", f->dev.name, TX_TRIES);
}

static int rings_open(front *f)
{
    unsigned wanted = f->ring_count;
    f->ring_count = 0;
    while (f->ring_count < wanted) {
        int error = cmb_ring_open(f, &f->rings[f->ring_count]);
        if (error)
            return error;
        f->ring_count++;
    }
    return 0;
}

static void rings_close(front *f)
{
    while (f->ring_count)
        cmb_ring_close(f, &f->rings[--f->ring_count]);
    cmb_pool_free(f);
}

/* ---- from Initialising to Connected ---- */

static int state_trouble(front *f, const char *doing, unsigned state)
{
    return cmb_fail(CMB_EIO, "%s: the back end is in state %u while it should %s", f->dev.name, bit_number(state), doing);
}

/*
 * The back end reads our state when it gets round to it. A front end before us that was killed while it closed the
 * connection may leave it Closing at a time when we are Initialising: then it waits for Closed, and we for it.
 */
static int await_offer(front *f, uint64_t deadline, unsigned *out_state)
{
    const unsigned early = BIT(XenbusStateInitWait) | BIT(XenbusStateInitialised), closing = BIT(XenbusStateClosing);
    for (;;) {
        int error = state_await(f, early | closing, deadline, out_state);
        if (error || *out_state != closing)
            return error;
        error = leave(f, deadline);
        if (!error)
            error = state_write(f, XenbusStateInitialising);
        if (error)
            return error;
    }
}

static int handshake(front *f, uint64_t deadline)
{
    const unsigned late = BIT(XenbusStateConnected) | BIT(XenbusStateClosing) | BIT(XenbusStateClosed) | GONE;
    unsigned state;
    int error = await_offer(f, deadline, &state);
    if (error == CMB_EBUSY)
        return state_trouble(f, "wait for us", state);
    if (!error)
        error = cmb_front_read_offer(f);
    if (error)
        return error;
    /* The back end says only later whether it keeps grants mapped; till then it is an offer. */
    f->persistent = f->options.persistent;
    error = rings_open(f);
    if (!error)
        error = cmb_pool_start(f);
    if (!error)
        error = publish(f);
    if (error)
        return error;
    if (state_await(f, late, deadline, &state) || !(state & BIT(XenbusStateConnected)))
        return state_trouble(f, "connect", state);
    error = cmb_front_read_properties(f);
    if (!error && f->read_only && !f->only_read)
        error = cmb_fail(CMB_EREADONLY, "%s: the toolstack gives this device for reading only", f->dev.name);
    if (!error)
        error = state_write(f, XenbusStateConnected);
    if (error)
        return error;
    /*
     * That the back end has connected means nothing up to here, and something from here on. What else fired may have
     * changed after it was read: it is looked at again, the state as well.
     */
    (void)f->platform->ops->watch_fired(f->platform);
    f->fired = BIT(CMB_FRONT_WATCH_PLACE) | BIT(CMB_FRONT_WATCH_STATE) | BIT(CMB_FRONT_WATCH_SECTORS);
    return 0;
}

static void requeue_orphans(front *f)
{
    front_row row = f->orphans;
    f->orphans = (front_row){0};
    for (front_slot *slot; (slot = cmb_row_pop(&row));)
        cmb_slot_queue(f, slot);
    for (unsigned i = 0; i < f->ring_count; i++)
        cmb_ring_issue(f, &f->rings[i]);
}

static int connect_by(front *f, uint64_t deadline)
{
    int error = back_find(f);
    if (!error)
        error = begin(f, deadline);
    if (error == CMB_EBUSY)
        error = cmb_fail(CMB_EIO, "%s: the back end does not let go of the connection before ours", f->dev.name);
    if (error)
        return error;
    error = handshake(f, deadline);
    if (error) {
        char why[CMB_XEN_PATH_MAX];
        snprintf(why, sizeof why, "%s", cmb_error_detail());
        (void)leave(f, deadline);
        rings_close(f);
        return cmb_fail(error, "%s", why);
    }
    f->generation++;
    f->state = FRONT_CONNECTED;
    requeue_orphans(f);
    return 0;
}

int cmb_front_connect(front *f)
{
    return connect_by(f, deadline_of(f));
}

/* ---- the end of a connection ---- */

void cmb_front_break(front *f, const char *format, ...)
{
    if (f->state != FRONT_CONNECTED && f->state != FRONT_UNPLUGGED)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(f->why, sizeof f->why, format, args);
    va_end(args);
    f->state = FRONT_BROKEN;
}

static void abandon(front *f, int error)
{
    for (unsigned i = 0; i < f->ring_count; i++)
        cmb_ring_abandon(f, &f->rings[i], error);
    rings_close(f);
}

static void die(front *f, int error, const char *why)
{
    if (why != f->why)
        snprintf(f->why, sizeof f->why, "%s", why);
    f->state = FRONT_DEAD;
    for (front_slot *slot; (slot = cmb_row_pop(&f->orphans));) {
        slot->error = error;
        cmb_slot_finish(f, slot);
    }
}

static bool worth_another_try(int error)
{
    return error && error != CMB_ENOMEM && error != CMB_ENOTSUP && error != CMB_EREADONLY;
}

/*
 * The next back end may take its time, and the toolstack may put it elsewhere. Tries are some time apart, as
 * each makes watches fire.
 */
static void reconnect(front *f, uint64_t deadline)
{
    int error = connect_by(f, deadline);
    while (worth_another_try(error) && cmb_os_monotonic() < deadline) {
        uint64_t next = next_try(deadline);
        while (sleep_until(f, next))
            ;
        error = connect_by(f, deadline);
    }
    if (error == CMB_EREADONLY) {
        die(f, error, "the back end came back read-only");
    } else if (error) {
        char why[CMB_XEN_PATH_MAX];
        snprintf(why, sizeof why, "the back end left and none came in its place: %.180s", cmb_error_detail());
        die(f, CMB_EIO, why);
    }
}

void cmb_front_recover(front *f)
{
    front_state state = f->state;
    assert(state != FRONT_CONNECTED && state != FRONT_DEAD);
    if (state == FRONT_UNPLUGGED && f->in_rings)
        return; /* the back end answers yet */
    uint64_t deadline = deadline_of(f);
    (void)leave(f, deadline);
    abandon(f, state == FRONT_LOST ? 0 : CMB_EIO);
    cmb_lent_retry(f);
    if (state != FRONT_LOST)
        die(f, CMB_EIO, state == FRONT_UNPLUGGED ? "the device was unplugged" : f->why);
    else if (f->held)
        die(f, CMB_EIO, "the back end left, and keeps memory of a request mapped");
    else
        reconnect(f, deadline);
}

void cmb_front_disconnect(front *f)
{
    if (f->state != FRONT_DEAD) {
        (void)leave(f, deadline_of(f));
        abandon(f, CMB_EIO);
    }
    cmb_lent_retry(f);
    back_forget(f);
}

/* ---- changes while connected ---- */

/* What has fired is kept until it was acted on; only that the back end has connected once more is acted on at once. */
static void notice(front *f)
{
    f->fired |= f->platform->ops->watch_fired(f->platform);
    f->generation += f->fired >> CMB_FRONT_WATCH_CONNECT & 1;
    f->fired &= ~BIT(CMB_FRONT_WATCH_CONNECT);
}

/* By the answer to any question the xenstore has told what happened before. */
static void ask_and_notice(front *f)
{
    unsigned state;
    f->flushed = false;
    (void)state_read(f, f->back, &state);
    notice(f);
}

/* The back end is not Connected, or is another one. */
static void look_after(front *f, unsigned state, bool moved)
{
    uint64_t online = 1;
    for (unsigned i = 0; i < f->ring_count && f->state != FRONT_BROKEN; i++)
        (void)cmb_ring_collect(f, &f->rings[i], UINT64_MAX); /* what was answered before the end */
    if (f->flushed)
        ask_and_notice(f);
    if (f->state == FRONT_BROKEN)
        return;
    (void)cmb_front_number(f, f->back, "online", 1, UINT32_MAX, &online);
    bool unplugged = f->state == FRONT_UNPLUGGED || (!moved && online == 0);
    if (unplugged && state & BIT(XenbusStateClosing))
        f->state = FRONT_UNPLUGGED; /* it answers until we are Closed */
    else if (unplugged)
        cmb_front_break(f, "the device was unplugged");
    else
        f->state = FRONT_LOST;
}

/* Is the back end elsewhere now? An error: the xenstore does not tell. */
static int has_moved(front *f, bool *out_moved)
{
    char path[CMB_XEN_PATH_MAX];
    int error = cmb_front_node(f, f->home, "backend", path);
    if (error && error != CMB_ENOTFOUND)
        return error;
    *out_moved = error || strcmp(path, f->back) != 0;
    return 0;
}

void cmb_front_look(front *f)
{
    unsigned state;
    bool moved;
    notice(f);
    if (!f->fired || (f->state != FRONT_CONNECTED && f->state != FRONT_UNPLUGGED))
        return;
    if (state_read(f, f->back, &state) || has_moved(f, &moved))
        return; /* another time: what has fired stays so */
    if (!(state & BIT(XenbusStateConnected)) || moved)
        look_after(f, state, moved);
    else if (f->fired & BIT(CMB_FRONT_WATCH_SECTORS) && cmb_front_read_size(f, &f->size))
        return;
    f->fired = 0;
}

void cmb_front_confirm(front *f)
{
    if (!f->flushed)
        return;
    ask_and_notice(f);
    cmb_front_look(f);
}
