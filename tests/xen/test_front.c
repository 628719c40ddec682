/* SPDX-License-Identifier: ISC */
/* Names, connecting and its obstacles, properties, queues of several threads. */
#include "bed.h"

#define BLOCK 4096u

static void release(bed *b)
{
    cmb_xen_back_free(b->back);
    assert_int_equal(cmb_xen_hub_grants(b->hub), 0);
    assert_int_equal(cmb_xen_hub_ports(b->hub), 0);
    cmb_xen_hub_free(b->hub);
    cmb_device_close(b->disk);
}

/* ---- names ---- */

static void a_device_is_named_by_number_or_as_linux_names_it(void **state)
{
    static const struct {
        const char *name;
        uint32_t vdev;
    } rows[] = {
        {"51712", 51712},  {"xvda", 51712},    {"xvda1", 51713},        {"xvdb", 51728},     {"xvdp", 51952},
        {"xvdq", 268439552}, {"xvda16", 268435472}, {"xvdaa", 268442112}, {"sda", 2048},       {"sdb2", 2066},
        {"hda", 768},      {"hdb", 832},       {"hdc1", 5633},          {"268439552", 268439552},
    };
    for (size_t i = 0; i < CMB_COUNTOF(rows); i++) {
        uint32_t vdev;
        assert_ok(cmb_xen_vdev(rows[i].name, &vdev));
        assert_int_equal(vdev, rows[i].vdev);
    }
}

static void other_names_are_refused(void **state)
{
    static const char *const names[] = {"",    "xvd",     "xvd1",  "xvda0",  "xvda256",   "sdq",      "sda16",
                                        "hde", "hda64",   "vda",   "xvdA",   "99999999999", "-1",     "xvda1x",
                                        "0x1", "xvdzzzzzz", "5 1", "xvda-1", "xvda99999999999"};
    for (size_t i = 0; i < CMB_COUNTOF(names); i++) {
        uint32_t vdev;
        assert_error(cmb_xen_vdev(names[i], &vdev), CMB_EINVAL);
        assert_detail_has("no virtual device");
    }
}

static void open_error(const char *name, int error, const char *words)
{
    cmb_device *dev = NULL;
    assert_error(cmb_device_open(name, CMB_OPEN_WRITE, &(cmb_device_options){.size = BED_SIZE}, &dev), error);
    assert_detail_has(words);
    assert_null(dev);
}

static void options_that_make_no_sense_are_refused(void **state)
{
    static const char *const options[] = {"ring=5",       "ring=",       "queues=0", "queues=9", "segments=0", "segments=257",
                                          "persistent=2", "discard=yes", "timeout=0", "pool=1",  "loopback=", "colour=red"};
    char name[64];
    for (size_t i = 0; i < CMB_COUNTOF(options); i++) {
        snprintf(name, sizeof name, "xen:xvda?%s", options[i]);
        open_error(name, CMB_EINVAL, "unknown device option");
    }
    open_error("xen:xvda?io=posix", CMB_EINVAL, "takes no io=");
    open_error("xen:xvda?fixed=1", CMB_EINVAL, "takes no io=");
    open_error("xen:?loopback=mem:1M", CMB_EINVAL, "no virtual device");
    open_error("mem:1M?ring=1", CMB_EINVAL, "unknown device option");
    open_error("xen:xvda?loopback=/nonexistent/file", CMB_ENOTFOUND, "/nonexistent/file");
}

static void options_are_taken_from_the_name(void **state)
{
    cmb_device *dev;
    assert_ok(cmb_device_open("xen:xvdb1?loopback=mem:1M&ring=0&queues=2&segments=20&persistent=0&discard=secure&timeout=3&pool=40",
                              CMB_OPEN_CREATE, NULL, &dev));
    const char *text = dev->ops->describe(dev);
    assert_non_null(strstr(text, "vbd 51729, 2 x 32 in flight, 20 segments, plain grants"));
    assert_string_equal(dev->name, "xen:xvdb1");
    cmb_device_close(dev);
}

/* Without Xen under this machine: said, and nothing left behind. */
static void a_real_device_needs_a_real_xen(void **state)
{
    cmb_device *dev;
    int error = cmb_device_open("xen:xvda", CMB_OPEN_READ, NULL, &dev);
    if (!error) {
        cmb_device_close(dev);
        print_message("this machine has one\n");
        skip();
    }
    assert_true(error == CMB_ENOTSUP || error == CMB_ENOTFOUND || error == CMB_EBUSY || error == CMB_EPERM);
    assert_detail_has("xen");
}

/* ---- connecting ---- */

static void a_device_that_is_not_there_is_not_found(void **state)
{
    bed b;
    bed_init(&b, BED_SIZE);
    bed_serve(&b);
    assert_error(bed_connect(&b, BED_VDEV + 16, NULL), CMB_ENOTFOUND);
    assert_detail_has("no virtual block device 51728");
    release(&b);
}

static void spoiled_transactions_are_done_again(void **state)
{
    bed b;
    bed_init(&b, BED_SIZE);
    b.hub_options.conflicts = 5;
    bed_open(&b);
    assert_ok(cmb_io_flush(b.queue));
    bed_close(&b);
}

static void transactions_that_are_always_spoiled_are_an_error(void **state)
{
    bed b;
    bed_init(&b, BED_SIZE);
    b.hub_options.conflicts = 1000000;
    bed_serve(&b);
    assert_error(bed_connect(&b, BED_VDEV, NULL), CMB_EIO);
    assert_detail_has("transactions");
    release(&b);
}

static void a_back_end_that_does_nothing_is_an_error_in_time(void **state)
{
    bed b;
    bed_init(&b, BED_SIZE);
    b.take.timeout = 100u * 1000 * 1000;
    bed_serve(&b);
    cmb_xen_back_kill(b.back);
    assert_error(bed_connect(&b, BED_VDEV, NULL), CMB_EIO);
    assert_detail_has("is in state 2 while it should connect");
    release(&b);
}

static void a_device_can_be_opened_again_and_again(void **state)
{
    bed b;
    uint8_t block[BLOCK], found[BLOCK];
    bed_init(&b, BED_SIZE);
    bed_open(&b);
    for (unsigned i = 0; i < 10; i++) {
        io_test_fill(block, BLOCK, i);
        assert_ok(cmb_io_write(b.queue, i * BLOCK, block, BLOCK));
        bed_hang_up(&b);
        assert_ok(bed_connect(&b, BED_VDEV, NULL));
        assert_ok(cmb_queue_open(b.dev, 4, &b.queue));
        assert_ok(cmb_io_read(b.queue, i * BLOCK, found, BLOCK, 0));
        assert_memory_equal(block, found, BLOCK);
    }
    bed_close(&b);
}

/* A front end by hand, which connects and is never heard of again. */
typedef struct killed {
    cmb_xen_end *end;
    cmb_xen_platform *p;
    void *ring;
    uint32_t ref, port;
} killed;

static void put(killed *k, const char *node, uint32_t value)
{
    char path[64], text[16];
    snprintf(path, sizeof path, "device/vbd/51712/%s", node);
    snprintf(text, sizeof text, "%u", value);
    assert_ok(k->p->ops->write(k->p, CMB_XEN_NO_TX, path, text));
}

static void connect_and_die(bed *b, killed *k)
{
    static const char back[] = "/local/domain/0/backend/vbd/1/51712/state";
    char text[16] = "";
    assert_ok(cmb_xen_end_open(b->hub, BED_DOMAIN, &k->end));
    k->p = cmb_xen_end_platform(k->end);
    assert_ok(k->p->ops->share(k->p, 0, 1, &k->ring, &k->ref));
    assert_ok(k->p->ops->port_open(k->p, 0, &k->port));
    put(k, "ring-ref", k->ref);
    put(k, "ring-ref8", 77); /* left over from somebody who had more */
    put(k, "multi-queue-num-queues", 0);
    put(k, "event-channel", k->port);
    put(k, "feature-persistent", 1);
    put(k, "state", XenbusStateInitialised);
    assert_ok(k->p->ops->watch(k->p, back, 0));
    while (strcmp(text, "4") != 0) {
        k->p->ops->wait(k->p, UINT64_MAX);
        (void)k->p->ops->watch_fired(k->p);
        assert_ok(k->p->ops->read(k->p, CMB_XEN_NO_TX, back, text, sizeof text));
    }
    k->p->ops->unwatch(k->p, back);
    put(k, "state", XenbusStateConnected);
}

static void a_connection_that_was_left_behind_is_closed_first(void **state)
{
    bed b;
    killed k;
    char text[16];
    bed_init(&b, BED_SIZE);
    bed_serve(&b);
    connect_and_die(&b, &k);
    assert_ok(bed_connect(&b, BED_VDEV, NULL));
    assert_ok(cmb_queue_open(b.dev, 4, &b.queue));
    assert_ok(cmb_io_flush(b.queue));
    assert_error(k.p->ops->read(k.p, CMB_XEN_NO_TX, "device/vbd/51712/ring-ref8", text, sizeof text), CMB_ENOTFOUND);
    assert_ok(k.p->ops->unshare(k.p, k.ring, 1, &k.ref)); /* the back end let go of it */
    k.p->ops->port_close(k.p, k.port);
    k.p->ops->close(k.p);
    bed_close(&b);
}

/* A request of this front end's, and what the back end says to it. */
static int16_t ask(bed *b, killed *k, unsigned number, const struct blkif_request *request)
{
    struct blkif_sring *ring = k->ring;
    memcpy(&ring->ring[number].req, request, sizeof *request);
    cmb_xen_index_write(&ring->rsp_event, number + 1);
    cmb_xen_index_write(&ring->req_prod, number + 1);
    k->p->ops->notify(k->p, k->port);
    while (cmb_xen_index_read(&ring->rsp_prod) != number + 1)
        k->p->ops->wait(k->p, UINT64_MAX);
    assert_int_equal(ring->ring[number].rsp.id, request->id);
    return ring->ring[number].rsp.status;
}

/* A barrier that carries data is none of what is done here: it is not said to be, either. */
static void a_barrier_or_a_flush_with_data_is_refused_by_the_back_end(void **state)
{
    static const uint8_t operations[] = {BLKIF_OP_WRITE_BARRIER, BLKIF_OP_FLUSH_DISKCACHE};
    bed b;
    killed k;
    void *page;
    uint32_t ref;
    bed_init(&b, BED_SIZE);
    bed_serve(&b);
    connect_and_die(&b, &k);
    assert_ok(k.p->ops->share(k.p, 0, 1, &page, &ref));
    for (unsigned i = 0; i < 4; i++) {
        struct blkif_request request = {.operation = operations[i / 2], .id = i + 1, .nr_segments = i % 2};
        request.seg[0] = (struct blkif_request_segment){.gref = ref, .last_sect = 7};
        assert_int_equal(ask(&b, &k, i, &request), i % 2 ? BLKIF_RSP_ERROR : BLKIF_RSP_OKAY);
    }
    cmb_xen_back_free(b.back);
    assert_ok(k.p->ops->unshare(k.p, page, 1, &ref));
    assert_ok(k.p->ops->unshare(k.p, k.ring, 1, &k.ref));
    k.p->ops->port_close(k.p, k.port);
    k.p->ops->close(k.p);
    assert_int_equal(cmb_xen_hub_grants(b.hub), 0);
    cmb_xen_hub_free(b.hub);
    cmb_device_close(b.disk);
}

/* A platform that counts how often the front end says that it is Closing, and may be too slow for the back end. */
static const cmb_xen_platform_ops *plain_ops;
static unsigned closings;
static bool closing_is_late;

static int spying_write(cmb_xen_platform *p, uint32_t tx, const char *path, const char *value)
{
    static const char back[] = "/local/domain/0/backend/vbd/1/51712/state";
    char text[16] = "";
    bool is_state = strcmp(path, "device/vbd/51712/state") == 0;
    closings += is_state && strcmp(value, "5") == 0;
    if (is_state && strcmp(value, "1") == 0 && closing_is_late) {
        closing_is_late = false;
        assert_ok(plain_ops->write(p, tx, path, "5"));
        while (strcmp(text, "5") != 0)
            assert_ok(plain_ops->read(p, CMB_XEN_NO_TX, back, text, sizeof text));
    }
    return plain_ops->write(p, tx, path, value);
}

static int connect_spying(bed *b)
{
    static cmb_xen_platform_ops ops;
    cmb_xen_end *end;
    assert_ok(cmb_xen_end_open(b->hub, BED_DOMAIN, &end));
    cmb_xen_platform *p = cmb_xen_end_platform(end);
    plain_ops = p->ops;
    ops = *p->ops;
    ops.write = spying_write;
    p->ops = &ops;
    closings = 0;
    return cmb_device_xen(p, "xen:test", BED_VDEV, b->mode, NULL, &b->take, &b->dev);
}

/* A back end that gets round to it late would be Closing when the front end waits for its offer. */
static void a_back_end_that_is_closed_is_not_told_to_close(void **state)
{
    bed b;
    bed_init(&b, BED_SIZE);
    bed_open(&b);
    bed_hang_up(&b);
    assert_ok(connect_spying(&b));
    assert_int_equal(closings, 0);
    assert_ok(cmb_queue_open(b.dev, 4, &b.queue));
    bed_close(&b);
    assert_int_equal(closings, 1);
}

static void a_back_end_that_is_late_to_close_is_closed_and_begins(void **state)
{
    bed b;
    bed_init(&b, BED_SIZE);
    bed_open(&b);
    bed_hang_up(&b);
    closing_is_late = true;
    assert_ok(connect_spying(&b));
    assert_false(closing_is_late);
    assert_ok(cmb_queue_open(b.dev, 4, &b.queue));
    assert_ok(cmb_io_flush(b.queue));
    bed_close(&b);
}

/* What a back end says is checked: an error that names it, never a device that is wrong. */
static void nonsense_in_the_xenstore_is_refused(void **state)
{
    static const struct {
        const char *node, *value, *words;
    } rows[] = {
        {"max-ring-page-order", "many", "max-ring-page-order is \"many\""},
        {"feature-max-indirect-segments", "-1", "feature-max-indirect-segments"},
        {"multi-queue-max-queues", "99999999999999999999", "multi-queue-max-queues"},
        {"state", "17", "in state 0"},
    };
    for (size_t i = 0; i < CMB_COUNTOF(rows); i++) {
        bed b;
        char path[128];
        bed_init(&b, BED_SIZE);
        b.take.timeout = 50u * 1000 * 1000;
        bed_serve(&b);
        cmb_xen_end *toolstack;
        assert_ok(cmb_xen_end_open(b.hub, 0, &toolstack));
        cmb_xen_platform *p = cmb_xen_end_platform(toolstack);
        snprintf(path, sizeof path, "backend/vbd/1/51712/%s", rows[i].node);
        assert_ok(p->ops->write(p, CMB_XEN_NO_TX, path, rows[i].value));
        assert_error(bed_connect(&b, BED_VDEV, NULL), CMB_EIO);
        assert_detail_has(rows[i].words);
        p->ops->close(p);
        release(&b);
    }
}

static void a_device_without_its_back_ends_domain_is_refused(void **state)
{
    bed b;
    cmb_xen_end *toolstack;
    bed_init(&b, BED_SIZE);
    bed_serve(&b);
    assert_ok(cmb_xen_end_open(b.hub, BED_DOMAIN, &toolstack));
    cmb_xen_platform *p = cmb_xen_end_platform(toolstack);
    assert_ok(p->ops->remove(p, CMB_XEN_NO_TX, "device/vbd/51712/backend-id"));
    assert_error(bed_connect(&b, BED_VDEV, NULL), CMB_EIO);
    assert_detail_has("backend-id is missing");
    p->ops->close(p);
    release(&b);
}

static void a_back_end_that_holds_on_to_an_older_connection_is_an_error_in_time(void **state)
{
    bed b;
    killed k;
    bed_init(&b, BED_SIZE);
    b.take.timeout = 100u * 1000 * 1000;
    bed_serve(&b);
    connect_and_die(&b, &k);
    cmb_xen_back_kill(b.back);
    assert_error(bed_connect(&b, BED_VDEV, NULL), CMB_EIO);
    assert_detail_has("does not let go of the connection before ours");
    assert_ok(k.p->ops->unshare(k.p, k.ring, 1, &k.ref));
    k.p->ops->port_close(k.p, k.port);
    k.p->ops->close(k.p);
    release(&b);
}

static void options_outside_of_their_range_are_refused(void **state)
{
    static const cmb_xen_options wrong[] = {
        {.ring_order = CMB_XEN_ORDER_MAX + 1, .queues = 1, .segments = 1, .pool_pages = 2, .timeout = 1},
        {.queues = 0, .segments = 1, .pool_pages = 2, .timeout = 1},
        {.queues = CMB_XEN_QUEUES_MAX + 1, .segments = 1, .pool_pages = 2, .timeout = 1},
        {.queues = 1, .segments = 0, .pool_pages = 2, .timeout = 1},
        {.queues = 1, .segments = CMB_XEN_SEGMENTS_MAX + 1, .pool_pages = 2, .timeout = 1},
        {.queues = 1, .segments = 1, .pool_pages = 1, .timeout = 1},
        {.queues = 1, .segments = 1, .pool_pages = 2, .timeout = 0},
    };
    bed b;
    bed_init(&b, BED_SIZE);
    bed_serve(&b);
    for (size_t i = 0; i < CMB_COUNTOF(wrong); i++) {
        b.take = wrong[i];
        assert_error(bed_connect(&b, BED_VDEV, NULL), CMB_EINVAL);
        assert_detail_has("outside of its range");
    }
    release(&b);
}

static void sectors_that_cannot_be_are_refused(void **state)
{
    static const struct {
        uint32_t size;
        int error;
    } rows[] = {{100, CMB_EIO}, {513, CMB_EIO}, {256, CMB_EIO}, {8192, CMB_ENOTSUP}, {0x80000000u, CMB_ENOTSUP}};
    for (size_t i = 0; i < CMB_COUNTOF(rows); i++) {
        bed b;
        bed_init(&b, BED_SIZE);
        b.offer.sector_size = rows[i].size;
        bed_serve(&b);
        assert_error(bed_connect(&b, BED_VDEV, NULL), rows[i].error);
        assert_detail_has("sectors of");
        release(&b);
    }
}

/* ---- properties ---- */

static void a_device_that_is_for_reading_only_says_so(void **state)
{
    bed b;
    uint8_t block[BLOCK];
    cmb_caps caps;
    bed_init(&b, BED_SIZE);
    b.offer.read_only = true;
    b.offer.flush = b.offer.barrier = false;
    b.offer.removable = true;
    bed_serve(&b);
    assert_error(bed_connect(&b, BED_VDEV, NULL), CMB_EREADONLY);
    b.mode = CMB_OPEN_READ;
    assert_ok(bed_connect(&b, BED_VDEV, NULL));
    assert_ok(cmb_queue_open(b.dev, 4, &b.queue));
    cmb_device_caps(b.dev, &caps);
    assert_true(caps.flags & CMB_CAP_READ_ONLY);
    assert_ok(cmb_io_read(b.queue, 0, block, BLOCK, 0));
    assert_ok(cmb_io_flush(b.queue)); /* nothing was written */
    assert_error(cmb_io_write(b.queue, 0, block, BLOCK), CMB_EREADONLY);
    assert_non_null(strstr(b.dev->ops->describe(b.dev), "read-only, removable"));
    bed_close(&b);
}

static void a_device_may_have_more_sectors_than_32_bits_count(void **state)
{
    const uint64_t size = (uint64_t)3 << 40;
    uint8_t block[BLOCK], found[BLOCK];
    bed b;
    cmb_caps caps;
    bed_init(&b, size);
    bed_open(&b);
    cmb_device_caps(b.dev, &caps);
    assert_true(caps.size == size);
    io_test_fill(block, BLOCK, 5);
    assert_ok(cmb_io_write(b.queue, size - BLOCK, block, BLOCK));
    assert_ok(cmb_io_read(b.queue, size - BLOCK, found, BLOCK, 0));
    assert_memory_equal(block, found, BLOCK);
    assert_ok(cmb_io_read(b.queue, (size - BLOCK) & UINT32_MAX, found, BLOCK, 0));
    for (unsigned i = 0; i < BLOCK; i++)
        assert_int_equal(found[i], 0);
    cmb_queue *q;
    assert_ok(cmb_queue_open(b.disk, 1, &q));
    assert_ok(cmb_io_read(q, size - BLOCK, found, BLOCK, 0));
    assert_memory_equal(block, found, BLOCK);
    cmb_queue_close(q);
    bed_close(&b);
}

static void what_is_smaller_than_a_page_moves_no_more_than_itself(void **state)
{
    uint8_t all[2 * BLOCK], piece[1536], found[2 * BLOCK];
    for (unsigned persistent = 0; persistent < 2; persistent++) {
        bed b;
        bed_init(&b, BED_SIZE);
        b.take.persistent = persistent;
        bed_open(&b);
        io_test_fill(all, sizeof all, 1);
        io_test_fill(piece, sizeof piece, 2);
        assert_ok(cmb_io_write(b.queue, 0, all, sizeof all));
        assert_ok(cmb_io_write(b.queue, 3072, piece, sizeof piece));
        memcpy(all + 3072, piece, sizeof piece);
        assert_ok(cmb_io_read(b.queue, 0, found, sizeof found, 0));
        assert_memory_equal(all, found, sizeof all);
        memset(found, 0x11, sizeof found);
        assert_ok(cmb_io_read(b.queue, 512, found + 512, 512, 0));
        assert_memory_equal(all + 512, found + 512, 512);
        assert_int_equal(found[511] | found[1024], 0x11);
        bed_close(&b);
    }
}

static void discards_are_cut_to_what_the_device_can_give_back(void **state)
{
    uint8_t *all = malloc(BED_SIZE), *found = malloc(BED_SIZE);
    bed b;
    bed_init(&b, BED_SIZE);
    b.offer.granularity = 16 * BLOCK;
    b.offer.alignment = 2 * BLOCK;
    bed_open(&b);
    io_test_fill(all, BED_SIZE, 1);
    assert_ok(cmb_io_write(b.queue, 0, all, BED_SIZE));
    assert_ok(cmb_io_discard(b.queue, 5 * BLOCK, 31 * BLOCK)); /* 5..36: the whole unit in it is 18..34 */
    assert_ok(cmb_io_discard(b.queue, 40 * BLOCK, 8 * BLOCK)); /* none in it */
    assert_int_equal(cmb_xen_back_served(b.back, BLKIF_OP_DISCARD), 1);
    memset(all + 18 * BLOCK, 0, 16 * BLOCK);
    assert_ok(cmb_io_read(b.queue, 0, found, BED_SIZE, 0));
    assert_memory_equal(all, found, BED_SIZE);
    bed_close(&b);
    free(all);
    free(found);
}

static void a_discard_before_the_first_unit_is_left_out_and_one_across_it_is_cut(void **state)
{
    uint8_t *all = malloc(BED_SIZE), *found = malloc(BED_SIZE);
    static const uint32_t granularity[] = {16 * BLOCK, 1000, 16 * BLOCK};
    static const uint32_t alignment[] = {8 * BLOCK, 0, 100}; /* the others cannot be: then units are sectors */
    for (unsigned i = 0; i < 3; i++) {
        bed b;
        bed_init(&b, BED_SIZE);
        b.offer.granularity = granularity[i];
        b.offer.alignment = alignment[i];
        bed_open(&b);
        io_test_fill(all, BED_SIZE, 1);
        assert_ok(cmb_io_write(b.queue, 0, all, BED_SIZE));
        assert_ok(cmb_io_discard(b.queue, BLOCK, 3 * BLOCK));
        assert_int_equal(cmb_xen_back_served(b.back, BLKIF_OP_DISCARD), i == 0 ? 0 : 1);
        assert_ok(cmb_io_discard(b.queue, BLOCK, 30 * BLOCK));
        if (i == 0)
            memset(all + 8 * BLOCK, 0, 16 * BLOCK);
        else
            memset(all + BLOCK, 0, 30 * BLOCK);
        assert_ok(cmb_io_read(b.queue, 0, found, BED_SIZE, 0));
        assert_memory_equal(all, found, BED_SIZE);
        bed_close(&b);
    }
    free(all);
    free(found);
}

/* Requests of a front end by hand that are against the rules, whole. */
static void a_request_that_makes_no_sense_is_an_error_of_its_own(void **state)
{
    bed b;
    killed k;
    void *page;
    uint32_t ref;
    bed_init(&b, BED_SIZE);
    bed_serve(&b);
    connect_and_die(&b, &k);
    assert_ok(k.p->ops->share(k.p, 0, 1, &page, &ref));
    const struct blkif_request_segment whole = {.gref = ref, .last_sect = 7};
    const struct blkif_request good = {.operation = BLKIF_OP_READ, .nr_segments = 1, .id = 1, .seg = {whole}};
    struct blkif_request r[12];
    for (unsigned i = 0; i < 12; i++)
        r[i] = good;
    r[1].nr_segments = 0;
    r[2].nr_segments = BLKIF_MAX_SEGMENTS_PER_REQUEST + 1;
    r[3].sector_number = BED_SIZE / CMB_XEN_SECTOR;
    r[4].sector_number = UINT64_MAX;
    r[5].seg[0].last_sect = 8;
    r[6].seg[0].first_sect = 7;
    r[6].seg[0].last_sect = 6;
    r[7].seg[0].gref = 0;
    r[8].seg[0].gref = 0xffffffff;
    r[9].operation = BLKIF_OP_DISCARD; /* whose fields lie elsewhere: sectors beyond the end */
    ((struct blkif_request_discard *)&r[9])->nr_sectors = UINT64_MAX;
    r[10].operation = BLKIF_OP_INDIRECT; /* of no segments */
    memset((uint8_t *)&r[10] + 1, 0, 7);
    ((struct blkif_request_indirect *)&r[10])->id = 1;
    for (unsigned i = 0; i < 12; i++)
        assert_int_equal(ask(&b, &k, i, &r[i]), i % 11 ? BLKIF_RSP_ERROR : BLKIF_RSP_OKAY);
    cmb_xen_back_free(b.back);
    assert_ok(k.p->ops->unshare(k.p, page, 1, &ref));
    assert_ok(k.p->ops->unshare(k.p, k.ring, 1, &k.ref));
    k.p->ops->port_close(k.p, k.port);
    k.p->ops->close(k.p);
    cmb_xen_hub_free(b.hub);
    cmb_device_close(b.disk);
}

/* ---- persistent grants ---- */

static void persistent_pages_are_used_again_and_aligned_ones_lent(void **state)
{
    static const unsigned most[] = {0, 4};
    uint8_t *m = malloc(BED_SIZE + BLOCK), *aligned = (uint8_t *)cmb_align_up((uintptr_t)m, BLOCK);
    io_test_fill(aligned, 64 * BLOCK, 3);
    for (unsigned i = 0; i < 3; i++) {
        bed b;
        bed_init(&b, BED_SIZE);
        b.take.persistent = i < 2;
        b.offer.persistent_max = most[i % 2];
        bed_open(&b);
        assert_ok(cmb_io_write(b.queue, 0, aligned, 64 * BLOCK));
        unsigned grants = cmb_xen_hub_grants(b.hub);
        for (unsigned j = 0; j < 20; j++)
            assert_ok(cmb_io_write(b.queue, 0, aligned, 64 * BLOCK));
        assert_int_equal(cmb_xen_hub_grants(b.hub), grants);
        if (i == 2) /* eight pages of ring, and one chunk of the pool for the segments' page */
            assert_int_equal(grants, 8 + 65);
        else
            assert_true(grants >= 8 + 65);
        bed_close(&b);
    }
    free(m);
}

/* ---- threads ---- */

typedef struct worker {
    cmb_device *dev;
    unsigned number;
    int result;
} worker;

static void work(void *arg)
{
    worker *w = arg;
    cmb_queue *q;
    uint8_t *m = malloc(32 * BLOCK), *found = malloc(32 * BLOCK);
    uint64_t base = w->number * (BED_SIZE / 4);
    w->result = cmb_queue_open(w->dev, 8, &q);
    for (unsigned i = 0; i < 20 && !w->result; i++) {
        unsigned length = (1 + i % 32) * BLOCK;
        io_test_fill(m, length, w->number * 100 + i);
        w->result = cmb_io_write(q, base, m, length);
        if (!w->result && i % 5 == 0)
            w->result = cmb_io_flush(q);
        if (!w->result)
            w->result = cmb_io_read(q, base, found, length, 0);
        if (!w->result && memcmp(m, found, length) != 0)
            w->result = CMB_ECORRUPT;
    }
    cmb_queue_close(q);
    free(m);
    free(found);
}

static void threads_share_a_device_that_restarts_under_them(void **state)
{
    for (unsigned i = 0; i < 4; i++) {
        bed b;
        cmb_thread threads[4];
        worker workers[4];
        bed_init(&b, BED_SIZE);
        b.take.queues = b.offer.queues = 1 + i % 2 * 2;
        b.take.persistent = i / 2;
        bed_open(&b);
        for (unsigned j = 0; j < 4; j++) {
            workers[j] = (worker){.dev = b.dev, .number = j};
            assert_ok(cmb_thread_start(&threads[j], work, &workers[j]));
        }
        for (unsigned j = 0; j < 3; j++)
            assert_ok(cmb_xen_back_restart(b.back, NULL));
        for (unsigned j = 0; j < 4; j++)
            cmb_thread_join(&threads[j]);
        for (unsigned j = 0; j < 4; j++)
            assert_int_equal(workers[j].result, 0);
        bed_close(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_device_is_named_by_number_or_as_linux_names_it),
        cmocka_unit_test(other_names_are_refused),
        cmocka_unit_test(options_that_make_no_sense_are_refused),
        cmocka_unit_test(options_are_taken_from_the_name),
        cmocka_unit_test(a_real_device_needs_a_real_xen),
        cmocka_unit_test(a_device_that_is_not_there_is_not_found),
        cmocka_unit_test(spoiled_transactions_are_done_again),
        cmocka_unit_test(transactions_that_are_always_spoiled_are_an_error),
        cmocka_unit_test(a_back_end_that_does_nothing_is_an_error_in_time),
        cmocka_unit_test(a_device_can_be_opened_again_and_again),
        cmocka_unit_test(a_connection_that_was_left_behind_is_closed_first),
        cmocka_unit_test(a_barrier_or_a_flush_with_data_is_refused_by_the_back_end),
        cmocka_unit_test(a_back_end_that_is_closed_is_not_told_to_close),
        cmocka_unit_test(a_back_end_that_is_late_to_close_is_closed_and_begins),
        cmocka_unit_test(nonsense_in_the_xenstore_is_refused),
        cmocka_unit_test(a_device_without_its_back_ends_domain_is_refused),
        cmocka_unit_test(a_back_end_that_holds_on_to_an_older_connection_is_an_error_in_time),
        cmocka_unit_test(options_outside_of_their_range_are_refused),
        cmocka_unit_test(sectors_that_cannot_be_are_refused),
        cmocka_unit_test(a_device_that_is_for_reading_only_says_so),
        cmocka_unit_test(a_device_may_have_more_sectors_than_32_bits_count),
        cmocka_unit_test(what_is_smaller_than_a_page_moves_no_more_than_itself),
        cmocka_unit_test(discards_are_cut_to_what_the_device_can_give_back),
        cmocka_unit_test(a_discard_before_the_first_unit_is_left_out_and_one_across_it_is_cut),
        cmocka_unit_test(a_request_that_makes_no_sense_is_an_error_of_its_own),
        cmocka_unit_test(persistent_pages_are_used_again_and_aligned_ones_lent),
        cmocka_unit_test(threads_share_a_device_that_restarts_under_them),
    };
    return cmocka_run_group_tests_name("front", tests, NULL, NULL);
}
