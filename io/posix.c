/* SPDX-License-Identifier: ISC */
/* posix.c: a file or block device with one system call after another: done when submit returns. */
#include <assert.h>
#include <stdio.h>

#include "io/file.h"
#include "io/ready.h"
#include "io/where.h"

typedef struct posix_queue {
    cmb_queue queue;
    cmb_ready ready;
    cmb_file_bounce bounce;
} posix_queue;

static void posix_caps(cmb_device *dev, cmb_caps *out_caps)
{
    cmb_file_caps((cmb_file *)dev, out_caps);
}

static int posix_queue_open(cmb_device *dev, unsigned depth, cmb_queue **out_queue)
{
    posix_queue *q = cmb_zalloc(&dev->alloc, sizeof *q);
    if (!q)
        return CMB_ENOMEM;
    if (cmb_ready_init(&q->ready, &dev->alloc, cmb_queue_depth(depth))) {
        cmb_release(&dev->alloc, q, sizeof *q);
        return CMB_ENOMEM;
    }
    q->queue.dev = dev;
    *out_queue = &q->queue;
    return 0;
}

static void posix_queue_close(cmb_queue *queue)
{
    posix_queue *q = (posix_queue *)queue;
    cmb_device *dev = queue->dev;
    assert(q->ready.count == 0);
    cmb_file_bounce_free((cmb_file *)dev, &q->bounce);
    cmb_ready_free(&q->ready, &dev->alloc);
    cmb_release(&dev->alloc, q, sizeof *q);
}

static int posix_submit(cmb_queue *queue, const cmb_request *requests, unsigned n)
{
    posix_queue *q = (posix_queue *)queue;
    cmb_file *f = (cmb_file *)queue->dev;
    unsigned taken = 0;
    for (; taken < n && !cmb_ready_full(&q->ready); taken++) {
        const cmb_request *r = &requests[taken];
        int error = cmb_file_check(f, r);
        if (error)
            return taken ? (int)taken : error;
        int result = cmb_file_run(f, &q->bounce, r);
        cmb_ready_push(&q->ready, (cmb_completion){.user = r->user, .result = result, .generation = 1});
    }
    return (int)taken;
}

static int posix_reap(cmb_queue *queue, cmb_completion *out_done, unsigned max, unsigned min)
{
    return cmb_ready_reap(&((posix_queue *)queue)->ready, out_done, max);
}

static void posix_close(cmb_device *dev)
{
    cmb_allocator alloc = dev->alloc;
    cmb_file_close((cmb_file *)dev);
    cmb_release(&alloc, dev, sizeof(cmb_file));
}

static const char *posix_describe(cmb_device *dev)
{
    return ((cmb_file *)dev)->text;
}

/* grow is NULL where it does not work. */
#define POSIX_COMMON                                                                                                   \
    .caps = posix_caps, .queue_open = posix_queue_open, .queue_close = posix_queue_close, .submit = posix_submit,      \
    .reap = posix_reap, .map = cmb_file_map, .close = posix_close, .describe = posix_describe

static const cmb_device_ops posix_ops = {POSIX_COMMON, .grow = cmb_file_grow};
static const cmb_device_ops posix_fixed_ops = {POSIX_COMMON};

int cmb_device_open_posix(const char *path, cmb_open_mode mode, const cmb_device_options *options, bool fixed,
                          cmb_device **out_dev)
{
    cmb_allocator alloc = cmb_allocator_or_default(options ? &options->alloc : NULL);
    cmb_file *f = cmb_zalloc(&alloc, sizeof *f);
    if (!f)
        return CMB_ENOMEM;
    f->dev.alloc = alloc;
    int error = cmb_file_open(f, path, mode, options, fixed);
    if (error) {
        cmb_release(&alloc, f, sizeof *f);
        return error;
    }
    snprintf(f->text, sizeof f->text, "%s, system calls", f->block_device ? "block device" : "file");
    f->dev.ops = f->fixed || f->read_only ? &posix_fixed_ops : &posix_ops;
    *out_dev = &f->dev;
    return 0;
}

void cmb_path_look(const char *path, cmb_where *out_where)
{
    struct stat st;
    *out_where = (cmb_where){.kind = CMB_WHERE_NONE};
    if (stat(path, &st))
        return;
    if (S_ISREG(st.st_mode))
        *out_where = (cmb_where){.kind = CMB_WHERE_FILE, .device = st.st_dev, .inode = st.st_ino};
    else if (S_ISBLK(st.st_mode)) /* a disk has as many nodes as one likes */
        *out_where = (cmb_where){.kind = CMB_WHERE_DISK, .device = st.st_rdev};
}
