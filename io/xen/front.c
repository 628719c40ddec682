/* SPDX-License-Identifier: ISC */
/* front.c: a Xen virtual block device as a cmb_device. See front.h. */
#include "io/xen/front.h"

#include <stdio.h>

#define IN_FLIGHT 64u

void cmb_front_caps(front *f, cmb_caps *out_caps)
{
    bool read_only = f->read_only || f->only_read;
    unsigned entries = f->ring_count ? f->rings[0].entries : cmb_xen_ring_entries(1);
    *out_caps = (cmb_caps){
        .size = f->size,
        .max_size = f->size,
        .block_size = f->block_size,
        .buffer_align = !f->persistent && f->platform->ops->grant ? CMB_XEN_PAGE : 1,
        .max_transfer = f->segments * CMB_XEN_PAGE,
        .queue_depth = entries < IN_FLIGHT ? entries : IN_FLIGHT,
        .flags = (f->flush || f->barrier || read_only ? CMB_CAP_FLUSH : 0) | (f->discard ? CMB_CAP_DISCARD : 0)
                 | (read_only ? CMB_CAP_READ_ONLY : 0),
        .generation = f->generation,
    };
}

static void front_caps(cmb_device *dev, cmb_caps *out_caps)
{
    front *f = (front *)dev;
    cmb_mutex_lock(&f->lock);
    if (!f->polling)
        cmb_front_look(f);
    cmb_front_caps(f, out_caps);
    cmb_mutex_unlock(&f->lock);
}

static const char *front_describe(cmb_device *dev)
{
    return ((front *)dev)->text;
}

static void describe(front *f)
{
    const char *durable = f->flush ? "flush" : f->barrier ? "barriers for flush" : "no flush";
    const char *pages = f->persistent ? "persistent grants" : f->platform->ops->grant ? "plain grants" : "shared pages";
    snprintf(f->text, sizeof f->text, "Xen vbd %u, %u x %u in flight, %u segments, %s, %s%s%s%s%s, sectors of %u and %u",
             f->vdev, f->ring_count, f->rings[0].entries, f->segments, pages, durable, f->discard ? ", discard" : "",
             f->read_only ? ", read-only" : "", f->info & VDISK_REMOVABLE ? ", removable" : "",
             f->info & VDISK_CDROM ? ", CD-ROM" : "", f->block_size, f->physical_size);
}

/* ---- opening and closing ---- */

/* The toolstack may move the device to another back end: its node is watched as long as we are open. */
static void where_path(const front *f, char out[CMB_XEN_PATH_MAX])
{
    snprintf(out, CMB_XEN_PATH_MAX, "%s/backend", f->home);
}

static int front_start(front *f, cmb_open_mode mode)
{
    char path[CMB_XEN_PATH_MAX];
    snprintf(f->home, sizeof f->home, "device/vbd/%u", f->vdev);
    where_path(f, path);
    int error = f->platform->ops->watch(f->platform, path, CMB_FRONT_WATCH_PLACE);
    if (error)
        return error;
    f->only_read = mode == CMB_OPEN_READ;
    cmb_mutex_lock(&f->lock);
    error = cmb_front_connect(f);
    cmb_mutex_unlock(&f->lock);
    if (!error)
        describe(f);
    return error;
}

static void front_free(front *f)
{
    cmb_allocator alloc = f->dev.alloc;
    f->platform->ops->close(f->platform);
    cmb_cond_destroy(&f->changed);
    cmb_mutex_destroy(&f->lock);
    cmb_name_release(&alloc, f->dev.name);
    cmb_release(&alloc, f->stuck, f->stuck_room * sizeof *f->stuck);
    cmb_release(&alloc, f, sizeof *f);
}

static void front_close(cmb_device *dev)
{
    front *f = (front *)dev;
    char path[CMB_XEN_PATH_MAX];
    cmb_mutex_lock(&f->lock);
    cmb_front_disconnect(f);
    cmb_mutex_unlock(&f->lock);
    where_path(f, path);
    f->platform->ops->unwatch(f->platform, path);
    front_free(f);
}

static const cmb_device_ops front_ops = {
    .caps = front_caps,
    .queue_open = cmb_front_queue_open,
    .queue_close = cmb_front_queue_close,
    .submit = cmb_front_submit,
    .reap = cmb_front_reap,
    .close = front_close,
    .describe = front_describe,
};

/* Lock, condition, name; nothing is left on failure but the platform. */
static int front_make(const cmb_allocator *alloc, const char *name, front **out)
{
    front *f = cmb_zalloc(alloc, sizeof *f);
    if (!f)
        return CMB_ENOMEM;
    f->dev = (cmb_device){.ops = &front_ops, .alloc = *alloc, .name = cmb_name_copy(alloc, name)};
    int error = f->dev.name ? cmb_mutex_init(&f->lock) : CMB_ENOMEM;
    if (!error) {
        error = cmb_cond_init(&f->changed);
        if (error)
            cmb_mutex_destroy(&f->lock);
    }
    if (error) {
        cmb_name_release(alloc, f->dev.name);
        cmb_release(alloc, f, sizeof *f);
        return error;
    }
    *out = f;
    return 0;
}

static int check_options(const cmb_xen_options *o)
{
    if (o->ring_order > CMB_XEN_ORDER_MAX || o->queues < 1 || o->queues > CMB_XEN_QUEUES_MAX || o->segments < 1
        || o->segments > CMB_XEN_SEGMENTS_MAX || o->pool_pages < 2 || o->timeout == 0)
        return cmb_fail(CMB_EINVAL, "xen: an option is outside of its range");
    return 0;
}

int cmb_device_xen(cmb_xen_platform *platform, const char *name, uint32_t vdev, cmb_open_mode mode,
                   const cmb_device_options *options, const cmb_xen_options *xen, cmb_device **out_dev)
{
    cmb_allocator alloc = cmb_allocator_or_default(options ? &options->alloc : NULL);
    front *f;
    int error = check_options(xen);
    if (!error)
        error = front_make(&alloc, name, &f);
    if (error) {
        platform->ops->close(platform);
        return error;
    }
    f->platform = platform;
    f->options = *xen;
    f->vdev = vdev;
    error = front_start(f, mode);
    if (error) {
        front_free(f);
        return error;
    }
    *out_dev = &f->dev;
    return 0;
}
