/* SPDX-License-Identifier: ISC */
/*
 * front.h: the front end of a Xen virtual block device.
 *
 *   front.c          the device: opening, properties, queues, closing
 *   front_connect.c  the two ends' states: connecting, reconnecting, unplugging, resizing
 *   front_nodes.c    what the back end says of itself
 *   front_ring.c     rings: requests go in, responses come out
 *   front_pages.c    memory that the back end may reach
 *   front_queue.c    submit and reap; who waits for events
 *   name.c           names and options
 *
 * A request of the caller's (front_slot) goes into the rings as parts, each of as many segments as the
 * connection allows and the pool has pages for. What a part needs to be finished is kept in a shadow,
 * never read back from shared memory: a back end is not trusted with anything but the data itself.
 * A response must name a part that is in flight: its id holds the shadow's index and a number that is
 * used once. A response that does not, or an index that runs ahead of what was asked, ends the
 * connection for good ("broken"): such a back end may have done anything.
 *
 *   submit -> slot -> waiting row of a ring -> parts in the ring -> response -> ready row -> reap
 *
 * When the back end goes away, parts that were answered stay so; every request with a part that was
 * not is begun anew on the next connection, whole (the caller leaves its buffer alone till then). The
 * connection's generation counts up. It also does when a back end was replaced by one that went on with
 * the same rings, which shows only as "sector-size" being written again: back ends write it when they
 * connect, and at no other time (a new size is "sectors" and the state). So a flush that is answered covers
 * the writes of its own connection only, and who asks for the generation before writing and after the flush
 * knows. The xenstore's news come when they come, but before the answer to what it is asked: so it is asked
 * something after a flush was answered and before the caller hears of that.
 *
 * One lock guards all of it. At most one thread waits for events (the poller); others wait for it on
 * `changed`. While a poller sleeps nobody else takes responses out, else it might sleep for ever over
 * a completion of its own. Only the poller connects, so only it touches a dead connection's ports.
 *
 * Grants. The pool's pages stay granted for as long as the connection lasts, in either mode: the back
 * end sees there what it was sent, or what it wrote. A page of the caller's is granted for one part,
 * only if the buffer covers it whole, and revoked before the caller hears of it. If the back end keeps
 * it mapped the device is broken and the request an error: nothing else can be promised of that memory.
 * It is revoked later if that can be.
 */
#ifndef CMB_IO_XEN_FRONT_H
#define CMB_IO_XEN_FRONT_H

#include "io/io.h"
#include "io/ready.h"
#include "io/xen/protocol.h"
#include "io/xen/xen.h"

typedef struct front_page {
    uint8_t *at;
    uint32_t ref;
    struct front_page *next; /* in the pool, or in its part */
} front_page;

typedef struct front_chunk {
    void *memory;
    unsigned pages;
    front_page *descriptors; /* [pages] */
    uint32_t *refs;          /* [pages] */
    struct front_chunk *next;
} front_chunk;

/* Pages for copies. Last in, first out: the back end keeps few of them mapped. */
typedef struct front_pool {
    front_page *free;
    front_chunk *chunks;
    unsigned pages, available;
    bool full; /* the platform refused more, and parts are in the rings since */
} front_pool;

typedef struct front_slot {
    cmb_request request;
    struct front_queue *queue;
    uint64_t issued; /* bytes handed to the ring */
    unsigned parts;  /* in the ring */
    front_page *pages, **pages_end; /* of the pool, for its further parts, while it has some in the ring */
    int error;
    bool restart; /* begin anew when no part is in the ring */
    bool waiting; /* in a row */
    struct front_slot *next;
} front_slot;

typedef struct front_row {
    front_slot *first, *last;
} front_row;

typedef struct front_queue {
    cmb_queue queue;
    cmb_ready ready;
    front_slot *slots, *free;
    unsigned depth, in_flight;
    unsigned index; /* decides on the ring */
} front_queue;

/* A part in the ring. */
typedef struct front_shadow {
    uint64_t id; /* 0: free */
    front_slot *slot;
    uint8_t operation; /* BLKIF_OP_…; of an indirect one, what it does */
    bool indirect, lent;
    uint32_t length; /* bytes of READ and WRITE */
    uint8_t *buffer;
    front_page *pages;     /* of the pool, in order */
    front_page *directory; /* holds indirect segments */
    uint32_t *refs;        /* lent: of the caller's pages */
    unsigned next_free;
} front_shadow;

typedef struct front_ring {
    struct blkif_sring *shared;
    uint32_t refs[CMB_XEN_RING_PAGES];
    uint32_t port;
    bool has_port;
    unsigned pages, entries;
    unsigned requests, responses; /* our producer's and our consumer's index */
    unsigned pushed;              /* of requests, those that the other end was told of */
    unsigned free;                /* first free shadow; `entries`: none */
    uint64_t serial;
    front_shadow *shadows; /* [entries] */
    uint32_t *lent;        /* [entries * lent_each]: refs of the shadows; NULL where nothing is lent */
    unsigned lent_each;
    front_row waiting;
} front_ring;

typedef enum front_state {
    FRONT_CONNECTED,
    FRONT_LOST,      /* the back end left or restarts: to be connected again */
    FRONT_UNPLUGGED, /* what was taken is finished, then it is over */
    FRONT_BROKEN,    /* the back end broke the protocol: to be left, with `why` */
    FRONT_DEAD,      /* every request fails; `why` */
} front_state;

typedef struct front {
    cmb_device dev;
    cmb_xen_platform *platform;
    cmb_xen_options options;
    uint32_t vdev;
    bool only_read; /* opened for reading */

    cmb_mutex lock;
    cmb_cond changed;
    bool polling; /* some thread is the poller */
    front_state state;
    char why[CMB_XEN_PATH_MAX];
    char text[200]; /* what describe tells; written before the device is handed out */

    char home[64]; /* "device/vbd/51712" */
    char back[CMB_XEN_PATH_MAX];
    uint16_t back_id;

    /* Of the connection. */
    uint64_t generation;
    uint64_t size;
    uint32_t block_size, physical_size;
    uint32_t granularity, alignment; /* of discards, bytes */
    uint32_t info;
    bool read_only;
    bool flush, barrier; /* what there is, until the back end says otherwise */
    bool discard, secure;
    bool persistent;
    uint32_t fired; /* watches that were not acted on yet */
    bool flushed;   /* a flush was answered, and the xenstore not asked since whether by our connection's back end */
    unsigned segments;
    unsigned in_rings; /* parts, in all */
    uint64_t copied;   /* bytes out of the pool, ever */
    bool unread;       /* the last round left responses in the rings, and nobody will tell of them */
    unsigned ring_count, ring_order;
    front_ring rings[CMB_XEN_QUEUES_MAX];
    front_pool pool;
    front_row orphans; /* taken while there is no connection */
    bool held;         /* the back end left, and keeps memory of a request mapped */
    uint32_t *stuck;   /* [stuck_room]: grants that are to be revoked yet */
    unsigned stuck_count, stuck_room;
    unsigned queues_opened;
} front;

/* Tokens of watches: where the back end is, its state, its size, its sectors' size. */
enum { CMB_FRONT_WATCH_PLACE = 0, CMB_FRONT_WATCH_STATE = 1, CMB_FRONT_WATCH_SECTORS = 2, CMB_FRONT_WATCH_CONNECT = 3 };

#define CMB_FRONT_AGAIN 100000000u /* ns until what failed for the moment is tried again */

/* ---- front_connect.c: the caller is the poller, under `lock`, which the first two leave to wait ---- */

int cmb_front_connect(front *f);
/* After LOST, UNPLUGGED and BROKEN: connects again, or is DEAD afterwards with every request failed. */
void cmb_front_recover(front *f);
/* If a watch has fired, looks at the back end's state and size. Never waits. */
void cmb_front_look(front *f);
/* If a flush was answered: afterwards the generation counts every back end that may have answered it. */
void cmb_front_confirm(front *f);
/* Orderly end, with nothing in flight. */
void cmb_front_disconnect(front *f);
/* The back end is not to be trusted any more: recover ends it. Never waits; any thread under `lock`. */
void cmb_front_break(front *f, const char *format, ...) CMB_PRINTF(2, 3);

/* ---- front_nodes.c, under `lock` ---- */

int cmb_front_path(const char *dir, const char *node, char out[CMB_XEN_PATH_MAX]);
/* CMB_ENOTFOUND is for the caller to judge. */
int cmb_front_node(front *f, const char *dir, const char *node, char out[CMB_XEN_PATH_MAX]);
/* A number, or `absent` if there is none. More than `limit`: CMB_EIO. */
int cmb_front_number(front *f, const char *dir, const char *node, uint64_t absent, uint64_t limit, uint64_t *out);
/* What the back end offers of transport, and what of it is taken. */
int cmb_front_read_offer(front *f);
/* The disk's properties. */
int cmb_front_read_properties(front *f);
int cmb_front_read_size(front *f, uint64_t *out_size);

/* ---- front_ring.c, under `lock` ---- */

int cmb_ring_open(front *f, front_ring *r);
/* Nothing is in flight. */
void cmb_ring_close(front *f, front_ring *r);
/* Puts as much of the waiting row into the ring as goes, and notifies. */
void cmb_ring_issue(front *f, front_ring *r);
/* Takes responses out, until `most` bytes were copied. True: there are more; else the next one notifies. May break the device. */
bool cmb_ring_collect(front *f, front_ring *r, uint64_t most);
/* Gives up all parts in flight: their requests begin anew, or fail with `error` when it is not 0. */
void cmb_ring_abandon(front *f, front_ring *r, int error);

void cmb_row_push(front_row *row, front_slot *slot);
front_slot *cmb_row_pop(front_row *row); /* NULL: empty */
/* The request is over, and no row holds it. */
void cmb_slot_finish(front *f, front_slot *slot);
/* To its ring's row, or to the orphans. */
void cmb_slot_queue(front *f, front_slot *slot);

/* ---- front_pages.c, under `lock` ---- */

/* Makes the first pages of a connection. */
int cmb_pool_start(front *f);
/* Takes up to `wanted` pages in order; the pool grows as far as it may. Returns how many. */
unsigned cmb_pool_take(front *f, unsigned wanted, front_page **out_pages);
void cmb_pool_give(front *f, front_page *pages);
void cmb_pool_free(front *f); /* all pages are there */
void cmb_pages_write(const front_page *pages, const uint8_t *from, uint32_t length);
void cmb_pages_read(const front_page *pages, uint8_t *to, uint32_t length);
/* Revokes what was lent of the caller's memory. CMB_EBUSY: the back end holds on to some, and cmb_lent_retry is for that. */
int cmb_lent_end(front *f, uint32_t *refs, unsigned pages);
void cmb_lent_retry(front *f);

/* ---- front_queue.c ---- */

int cmb_front_queue_open(cmb_device *dev, unsigned depth, cmb_queue **out_queue);
void cmb_front_queue_close(cmb_queue *queue);
int cmb_front_submit(cmb_queue *queue, const cmb_request *requests, unsigned n);
int cmb_front_reap(cmb_queue *queue, cmb_completion *out_done, unsigned max, unsigned min);

/* ---- front.c ---- */

void cmb_front_caps(front *f, cmb_caps *out_caps); /* under `lock` */

#endif
