/* SPDX-License-Identifier: ISC */
/* loopback.c: Xen in one process. See loopback.h. */
#include "io/xen/loopback.h"

#include <assert.h>
#include <stdio.h>

#include "io/io.h"
#include "io/xen/loopback_store.h"

#define GRANTS_DEFAULT 65536u
#define FIRST_GRANT    8u /* the lowest ones are reserved, as with the hypervisor */
#define PORTS          64u
#define WATCHES        8u

typedef struct grant {
    void *page; /* NULL: free */
    uint16_t owner, peer;
    bool read_only;
    unsigned mapped;
    uint32_t next_free;
} grant;

typedef struct port {
    bool used;
    cmb_xen_end *end;
    uint16_t peer;
    uint32_t other; /* the bound port, or 0 */
} port;

/* Memory that somebody maps yet after it was to be given back. */
typedef struct kept {
    void *memory;
    unsigned pages;
    uint32_t *refs;
    struct kept *next;
} kept;

struct cmb_xen_hub {
    cmb_allocator alloc;
    cmb_mutex lock; /* ports, ends, nodes */
    cmb_mutex grant_lock;
    cmb_xen_hub_options options;
    grant *grants;
    uint32_t free_grant, grants_out;
    kept *kept;
    unsigned kept_count;
    port ports[PORTS]; /* 0 is none */
    unsigned ports_out;
    cmb_xen_end *ends;
    store_tree tree;
    uint64_t version; /* of the tree */
    unsigned conflicts;
};

struct cmb_xen_end {
    cmb_xen_platform platform;
    cmb_xen_hub *hub;
    uint16_t domid;
    cmb_cond woken;
    bool event;
    uint32_t fired; /* tokens */
    char watches[WATCHES][CMB_XEN_PATH_MAX];
    unsigned tokens[WATCHES];
    bool in_tx;
    store_tree tx;
    uint64_t tx_version;
    store_tree changed; /* paths that the transaction touches */
    void (*done)(void *ctx);
    void *done_ctx;
    cmb_xen_end *next;
};

static cmb_xen_end *end_of(cmb_xen_platform *p)
{
    return (cmb_xen_end *)p;
}

/* ---- grants: under grant_lock ---- */

static int grant_new(cmb_xen_end *e, uint16_t peer, void *page, bool read_only, uint32_t *out_ref)
{
    cmb_xen_hub *h = e->hub;
    uint32_t ref = h->free_grant;
    if (ref == h->options.grants)
        return cmb_fail(CMB_ENOMEM, "all %u grants are out", h->options.grants);
    h->free_grant = h->grants[ref].next_free;
    h->grants_out++;
    h->grants[ref] = (grant){.page = page, .owner = e->domid, .peer = peer, .read_only = read_only};
    *out_ref = ref;
    return 0;
}

static int grant_end(cmb_xen_hub *h, uint32_t ref)
{
    grant *g = &h->grants[ref];
    assert(ref < h->options.grants && g->page);
    if (g->mapped)
        return cmb_fail(CMB_EBUSY, "grant %u is mapped", ref);
    g->page = NULL;
    g->next_free = h->free_grant;
    h->free_grant = ref;
    h->grants_out--;
    return 0;
}

/* All pages, or none. */
static int end_grant(cmb_xen_platform *p, uint16_t domid, void *memory, unsigned pages, bool read_only,
                     uint32_t *out_refs)
{
    cmb_xen_end *e = end_of(p);
    unsigned n = 0;
    int error = 0;
    assert((uintptr_t)memory % CMB_XEN_PAGE == 0);
    cmb_mutex_lock(&e->hub->grant_lock);
    for (; n < pages && !error; n += !error)
        error = grant_new(e, domid, (uint8_t *)memory + (size_t)n * CMB_XEN_PAGE, read_only, &out_refs[n]);
    while (error && n)
        (void)grant_end(e->hub, out_refs[--n]);
    cmb_mutex_unlock(&e->hub->grant_lock);
    return error;
}

static unsigned end_revoke(cmb_xen_platform *p, uint32_t *refs, unsigned pages)
{
    cmb_xen_hub *h = end_of(p)->hub;
    unsigned left = 0;
    cmb_mutex_lock(&h->grant_lock);
    for (unsigned i = 0; i < pages; i++) {
        if (grant_end(h, refs[i]))
            refs[left++] = refs[i];
    }
    cmb_mutex_unlock(&h->grant_lock);
    return left;
}

/* Much memory is reserved: that may be huge pages. Zeroed either way. */
#define RESERVED ((size_t)2 << 20)

static void *memory_make(const cmb_allocator *alloc, size_t size)
{
    void *memory = size < RESERVED ? cmb_io_buffer(alloc, size) : cmb_os_reserve(size);
    if (memory)
        memset(memory, 0, size);
    return memory;
}

static void memory_end(const cmb_allocator *alloc, void *memory, size_t size)
{
    if (size < RESERVED)
        cmb_io_buffer_release(alloc, memory, size);
    else
        cmb_os_unreserve(memory, size);
}

static int end_share(cmb_xen_platform *p, uint16_t domid, unsigned pages, void **out_memory, uint32_t *out_refs)
{
    cmb_xen_hub *h = end_of(p)->hub;
    size_t size = (size_t)pages * CMB_XEN_PAGE;
    void *memory = memory_make(&h->alloc, size);
    if (!memory)
        return CMB_ENOMEM;
    int error = end_grant(p, domid, memory, pages, /* read_only= */ false, out_refs);
    if (error) {
        memory_end(&h->alloc, memory, size);
        return error;
    }
    *out_memory = memory;
    return 0;
}

static void keep(cmb_xen_hub *h, void *memory, unsigned pages, const uint32_t *refs)
{
    kept *k = cmb_alloc(&h->alloc, sizeof *k);
    uint32_t *copy = cmb_alloc(&h->alloc, pages * sizeof *copy);
    if (k && copy) {
        memcpy(copy, refs, pages * sizeof *copy);
        *k = (kept){.memory = memory, .pages = pages, .refs = copy, .next = h->kept};
        h->kept = k;
        h->kept_count++;
        return;
    }
    /* Nowhere to note it down: the memory is lost, which is safe. */
    cmb_release(&h->alloc, k, sizeof *k);
    cmb_release(&h->alloc, copy, pages * sizeof *copy);
}

static int end_unshare(cmb_xen_platform *p, void *memory, unsigned pages, const uint32_t *refs)
{
    cmb_xen_hub *h = end_of(p)->hub;
    bool mapped = false;
    cmb_mutex_lock(&h->grant_lock);
    for (unsigned i = 0; i < pages; i++)
        mapped = mapped || h->grants[refs[i]].mapped;
    for (unsigned i = 0; i < pages && !mapped; i++)
        (void)grant_end(h, refs[i]);
    if (mapped)
        keep(h, memory, pages, refs);
    cmb_mutex_unlock(&h->grant_lock);
    if (mapped)
        return cmb_fail(CMB_EBUSY, "%u shared pages are mapped", pages);
    memory_end(&h->alloc, memory, (size_t)pages * CMB_XEN_PAGE);
    return 0;
}

static bool mappable(const cmb_xen_end *e, uint16_t owner, uint32_t ref, bool write)
{
    const cmb_xen_hub *h = e->hub;
    if (ref < FIRST_GRANT || ref >= h->options.grants)
        return false;
    const grant *g = &h->grants[ref];
    return g->page && g->owner == owner && g->peer == e->domid && !(write && g->read_only);
}

int cmb_xen_end_map(cmb_xen_end *e, uint16_t owner, const uint32_t *refs, unsigned n, bool write, void **out_pages)
{
    cmb_xen_hub *h = e->hub;
    bool good = true;
    cmb_mutex_lock(&h->grant_lock);
    for (unsigned i = 0; i < n && good; i++)
        good = mappable(e, owner, refs[i], write);
    for (unsigned i = 0; i < n && good; i++) {
        h->grants[refs[i]].mapped++;
        out_pages[i] = h->grants[refs[i]].page;
    }
    cmb_mutex_unlock(&h->grant_lock);
    return good ? 0 : cmb_fail(CMB_EIO, "a grant of domain %u that is none", owner);
}

void cmb_xen_end_unmap(cmb_xen_end *e, const uint32_t *refs, unsigned n)
{
    cmb_xen_hub *h = e->hub;
    cmb_mutex_lock(&h->grant_lock);
    for (unsigned i = 0; i < n; i++) {
        assert(h->grants[refs[i]].mapped);
        h->grants[refs[i]].mapped--;
    }
    cmb_mutex_unlock(&h->grant_lock);
}

/* ---- event channels: under lock ---- */

static int port_new(cmb_xen_end *e, uint16_t peer, uint32_t *out_port)
{
    cmb_xen_hub *h = e->hub;
    for (uint32_t i = 1; i < PORTS; i++) {
        if (h->ports[i].used)
            continue;
        h->ports[i] = (port){.used = true, .end = e, .peer = peer};
        h->ports_out++;
        *out_port = i;
        return 0;
    }
    return cmb_fail(CMB_ENOMEM, "all %u event channels are open", PORTS - 1);
}

static int end_port_open(cmb_xen_platform *p, uint16_t domid, uint32_t *out_port)
{
    cmb_xen_end *e = end_of(p);
    cmb_mutex_lock(&e->hub->lock);
    int error = port_new(e, domid, out_port);
    cmb_mutex_unlock(&e->hub->lock);
    return error;
}

static void end_port_close(cmb_xen_platform *p, uint32_t number)
{
    cmb_xen_hub *h = end_of(p)->hub;
    cmb_mutex_lock(&h->lock);
    port *mine = &h->ports[number];
    assert(mine->used && mine->end == end_of(p));
    if (mine->other)
        h->ports[mine->other].other = 0;
    *mine = (port){0};
    h->ports_out--;
    cmb_mutex_unlock(&h->lock);
}

static void end_notify(cmb_xen_platform *p, uint32_t number)
{
    cmb_xen_hub *h = end_of(p)->hub;
    cmb_mutex_lock(&h->lock);
    uint32_t other = h->ports[number].other;
    cmb_xen_end *peer = other ? h->ports[other].end : NULL;
    bool wake = peer && !peer->event;
    if (wake) {
        peer->event = true;
        cmb_cond_signal(&peer->woken);
    }
    cmb_mutex_unlock(&h->lock);
}

int cmb_xen_end_bind(cmb_xen_end *e, uint16_t owner, uint32_t remote, uint32_t *out_port)
{
    cmb_xen_hub *h = e->hub;
    uint32_t mine = 0;
    int error = 0;
    cmb_mutex_lock(&h->lock);
    const port *other = remote && remote < PORTS ? &h->ports[remote] : NULL;
    if (!other || !other->used || other->end->domid != owner || other->peer != e->domid || other->other)
        error = cmb_fail(CMB_EIO, "event channel %u of domain %u cannot be bound", remote, owner);
    if (!error)
        error = port_new(e, owner, &mine);
    if (!error) {
        h->ports[mine].other = remote;
        h->ports[remote].other = mine;
        *out_port = mine;
    }
    cmb_mutex_unlock(&h->lock);
    return error;
}

static void end_wait(cmb_xen_platform *p, uint64_t deadline)
{
    cmb_xen_end *e = end_of(p);
    cmb_mutex_lock(&e->hub->lock);
    bool in_time = true;
    while (!e->event && !__atomic_load_n(&e->fired, __ATOMIC_ACQUIRE) && in_time) {
        if (deadline == UINT64_MAX)
            cmb_cond_wait(&e->woken, &e->hub->lock);
        else
            in_time = cmb_cond_wait_until(&e->woken, &e->hub->lock, deadline);
    }
    e->event = false;
    cmb_mutex_unlock(&e->hub->lock);
}

void cmb_xen_end_wake(cmb_xen_end *e)
{
    cmb_mutex_lock(&e->hub->lock);
    e->event = true;
    cmb_cond_signal(&e->woken);
    cmb_mutex_unlock(&e->hub->lock);
}

/* Asked with every request, hence without the lock: it tells all that fired before. */
static uint32_t end_watch_fired(cmb_xen_platform *p)
{
    cmb_xen_end *e = end_of(p);
    return __atomic_load_n(&e->fired, __ATOMIC_ACQUIRE) ? __atomic_exchange_n(&e->fired, 0, __ATOMIC_ACQ_REL) : 0;
}

/* ---- the xenstore: under lock ---- */

static int absolute(const cmb_xen_end *e, const char *path, char out[CMB_XEN_PATH_MAX])
{
    int n = path[0] == '/' ? snprintf(out, CMB_XEN_PATH_MAX, "%s", path)
                           : snprintf(out, CMB_XEN_PATH_MAX, "/local/domain/%u/%s", e->domid, path);
    return n < (int)CMB_XEN_PATH_MAX ? 0 : cmb_fail(CMB_ETOOBIG, "%s: the path is too long", path);
}

static void fire(cmb_xen_end *e, unsigned token)
{
    __atomic_or_fetch(&e->fired, 1u << token, __ATOMIC_ACQ_REL);
    cmb_cond_signal(&e->woken);
}

/* A change of a node is one of everything above it; a removal one of everything below it too. */
static void changed(cmb_xen_hub *h, const char *path, bool removed)
{
    h->version++;
    for (cmb_xen_end *e = h->ends; e; e = e->next) {
        for (unsigned i = 0; i < WATCHES; i++) {
            const char *watch = e->watches[i];
            if (watch[0] && (cmb_xs_below(path, watch) || (removed && cmb_xs_below(watch, path))))
                fire(e, e->tokens[i]);
        }
    }
}

static int end_begin(cmb_xen_platform *p, uint32_t *out_tx)
{
    cmb_xen_end *e = end_of(p);
    cmb_mutex_lock(&e->hub->lock);
    assert(!e->in_tx);
    int error = cmb_xs_tree_copy(&e->hub->tree, &e->hub->alloc, &e->tx);
    if (!error) {
        e->in_tx = true;
        e->tx_version = e->hub->version;
        *out_tx = 1;
    }
    cmb_mutex_unlock(&e->hub->lock);
    return error;
}

static int tx_commit(cmb_xen_end *e)
{
    cmb_xen_hub *h = e->hub;
    if (h->conflicts || h->version != e->tx_version) {
        h->conflicts -= h->conflicts > 0;
        return cmb_fail(CMB_ECONFLICT, "the xenstore changed meanwhile");
    }
    store_tree old = h->tree;
    h->tree = e->tx;
    e->tx = old;
    for (unsigned i = 0; i < e->changed.count; i++)
        changed(h, e->changed.nodes[i].path, e->changed.nodes[i].value[0] == 'r');
    return 0;
}

static int end_end(cmb_xen_platform *p, uint32_t tx, bool commit)
{
    cmb_xen_end *e = end_of(p);
    cmb_mutex_lock(&e->hub->lock);
    assert(e->in_tx && tx == 1);
    int error = commit ? tx_commit(e) : 0;
    e->in_tx = false;
    cmb_xs_tree_free(&e->tx, &e->hub->alloc);
    cmb_xs_tree_free(&e->changed, &e->hub->alloc);
    cmb_mutex_unlock(&e->hub->lock);
    return error;
}

static int end_read(cmb_xen_platform *p, uint32_t tx, const char *path, char *out_value, size_t size)
{
    cmb_xen_end *e = end_of(p);
    char full[CMB_XEN_PATH_MAX];
    int error = absolute(e, path, full);
    if (error)
        return error;
    cmb_mutex_lock(&e->hub->lock);
    error = cmb_xs_tree_read(tx ? &e->tx : &e->hub->tree, full, out_value, size);
    cmb_mutex_unlock(&e->hub->lock);
    return error;
}

/* `value` NULL removes. */
static int change(cmb_xen_end *e, uint32_t tx, const char *full, const char *value)
{
    cmb_xen_hub *h = e->hub;
    store_tree *t = tx ? &e->tx : &h->tree;
    int error = tx ? cmb_xs_tree_write(&e->changed, &h->alloc, full, value ? "written" : "removed") : 0;
    if (!error && value)
        error = cmb_xs_tree_write(t, &h->alloc, full, value);
    if (!error && !value)
        cmb_xs_tree_remove(t, full);
    if (!error && !tx)
        changed(h, full, value == NULL);
    return error;
}

static int change_locked(cmb_xen_platform *p, uint32_t tx, const char *path, const char *value)
{
    cmb_xen_end *e = end_of(p);
    char full[CMB_XEN_PATH_MAX];
    int error = absolute(e, path, full);
    if (error)
        return error;
    cmb_mutex_lock(&e->hub->lock);
    error = change(e, tx, full, value);
    cmb_mutex_unlock(&e->hub->lock);
    return error;
}

static int end_write(cmb_xen_platform *p, uint32_t tx, const char *path, const char *value)
{
    return change_locked(p, tx, path, value);
}

static int end_remove(cmb_xen_platform *p, uint32_t tx, const char *path)
{
    return change_locked(p, tx, path, NULL);
}

static int end_watch(cmb_xen_platform *p, const char *path, unsigned token)
{
    cmb_xen_end *e = end_of(p);
    char full[CMB_XEN_PATH_MAX];
    int error = absolute(e, path, full);
    if (error)
        return error;
    error = cmb_fail(CMB_ENOMEM, "%s: more than %u watches", path, WATCHES);
    cmb_mutex_lock(&e->hub->lock);
    for (unsigned i = 0; i < WATCHES && error; i++) {
        if (e->watches[i][0])
            continue;
        memcpy(e->watches[i], full, sizeof full);
        e->tokens[i] = token;
        fire(e, token);
        error = 0;
    }
    cmb_mutex_unlock(&e->hub->lock);
    return error;
}

static void end_unwatch(cmb_xen_platform *p, const char *path)
{
    cmb_xen_end *e = end_of(p);
    char full[CMB_XEN_PATH_MAX];
    if (absolute(e, path, full))
        return;
    cmb_mutex_lock(&e->hub->lock);
    for (unsigned i = 0; i < WATCHES; i++) {
        if (strcmp(e->watches[i], full) == 0)
            e->watches[i][0] = 0;
    }
    cmb_mutex_unlock(&e->hub->lock);
}

/* ---- ends ---- */

static void end_close(cmb_xen_platform *p)
{
    cmb_xen_end *e = end_of(p);
    cmb_xen_hub *h = e->hub;
    cmb_mutex_lock(&h->lock);
    cmb_xen_end **at = &h->ends;
    while (*at != e)
        at = &(*at)->next;
    *at = e->next;
    cmb_mutex_unlock(&h->lock);
    cmb_cond_destroy(&e->woken);
    void (*done)(void *ctx) = e->done;
    void *ctx = e->done_ctx;
    cmb_release(&h->alloc, e, sizeof *e);
    if (done)
        done(ctx);
}

void cmb_xen_end_on_close(cmb_xen_end *end, void (*done)(void *ctx), void *ctx)
{
    end->done = done;
    end->done_ctx = ctx;
}

#define END_COMMON                                                                                                     \
    .share = end_share, .unshare = end_unshare, .port_open = end_port_open, .port_close = end_port_close,              \
    .notify = end_notify, .wait = end_wait, .watch_fired = end_watch_fired, .begin = end_begin, .end = end_end,        \
    .read = end_read, .write = end_write, .remove = end_remove, .watch = end_watch, .unwatch = end_unwatch,            \
    .close = end_close

static const cmb_xen_platform_ops end_ops = {END_COMMON, .grant = end_grant, .revoke = end_revoke};
static const cmb_xen_platform_ops end_shared_ops = {END_COMMON};

int cmb_xen_end_open(cmb_xen_hub *hub, uint16_t domid, cmb_xen_end **out_end)
{
    cmb_xen_end *e = cmb_zalloc(&hub->alloc, sizeof *e);
    if (!e)
        return CMB_ENOMEM;
    int error = cmb_cond_init(&e->woken);
    if (error) {
        cmb_release(&hub->alloc, e, sizeof *e);
        return error;
    }
    e->platform.ops = hub->options.shared_only ? &end_shared_ops : &end_ops;
    e->hub = hub;
    e->domid = domid;
    cmb_mutex_lock(&hub->lock);
    e->next = hub->ends;
    hub->ends = e;
    cmb_mutex_unlock(&hub->lock);
    *out_end = e;
    return 0;
}

cmb_xen_platform *cmb_xen_end_platform(cmb_xen_end *end)
{
    return &end->platform;
}

/* ---- the hub ---- */

static void grants_init(cmb_xen_hub *h)
{
    for (uint32_t i = 0; i < h->options.grants; i++)
        h->grants[i].next_free = i + 1;
    h->free_grant = FIRST_GRANT;
}

static int locks_init(cmb_xen_hub *h)
{
    int error = cmb_mutex_init(&h->lock);
    if (error)
        return error;
    error = cmb_mutex_init(&h->grant_lock);
    if (error)
        cmb_mutex_destroy(&h->lock);
    return error;
}

int cmb_xen_hub_new(const cmb_allocator *alloc, const cmb_xen_hub_options *options, cmb_xen_hub **out_hub)
{
    cmb_xen_hub *h = cmb_zalloc(alloc, sizeof *h);
    if (!h)
        return CMB_ENOMEM;
    h->alloc = *alloc;
    if (options)
        h->options = *options;
    if (h->options.grants <= FIRST_GRANT)
        h->options.grants = GRANTS_DEFAULT;
    h->conflicts = h->options.conflicts;
    h->grants = cmb_zalloc(alloc, h->options.grants * sizeof *h->grants);
    int error = h->grants ? locks_init(h) : CMB_ENOMEM;
    if (error) {
        cmb_release(alloc, h->grants, h->options.grants * sizeof *h->grants);
        cmb_release(alloc, h, sizeof *h);
        return error;
    }
    grants_init(h);
    *out_hub = h;
    return 0;
}

void cmb_xen_hub_free(cmb_xen_hub *h)
{
    cmb_allocator alloc = h->alloc;
    assert(!h->ends);
    while (h->kept) {
        kept *k = h->kept;
        h->kept = k->next;
        memory_end(&alloc, k->memory, (size_t)k->pages * CMB_XEN_PAGE);
        cmb_release(&alloc, k->refs, k->pages * sizeof *k->refs);
        cmb_release(&alloc, k, sizeof *k);
    }
    cmb_xs_tree_free(&h->tree, &alloc);
    cmb_mutex_destroy(&h->grant_lock);
    cmb_mutex_destroy(&h->lock);
    cmb_release(&alloc, h->grants, h->options.grants * sizeof *h->grants);
    cmb_release(&alloc, h, sizeof *h);
}

unsigned cmb_xen_hub_grants(cmb_xen_hub *h)
{
    cmb_mutex_lock(&h->grant_lock);
    unsigned n = h->grants_out;
    cmb_mutex_unlock(&h->grant_lock);
    return n;
}

unsigned cmb_xen_hub_ports(cmb_xen_hub *h)
{
    cmb_mutex_lock(&h->lock);
    unsigned n = h->ports_out;
    cmb_mutex_unlock(&h->lock);
    return n;
}

unsigned cmb_xen_hub_kept(cmb_xen_hub *h)
{
    cmb_mutex_lock(&h->grant_lock);
    unsigned n = h->kept_count;
    cmb_mutex_unlock(&h->grant_lock);
    return n;
}
