/* SPDX-License-Identifier: ISC */
/*
 * example.c: a store on a virtual block device: makes an image there if there is none, writes, commits, reads back.
 * usage: xen-example [DEVICE]     default: xen:xvda; on a machine without Xen: 'xen:xvda?loopback=mem:64M'
 */
#include <stdio.h>
#include <string.h>

#include <cambium/cambium.h>

static cmb_bytes text(const char *s)
{
    return (cmb_bytes){s, strlen(s)};
}

static int write_ring(cmb_store *store)
{
    const cmb_commit_info info = {.author = "ada", .message = "first ring"};
    cmb_txn *txn;
    int error = cmb_txn_begin(store, "main", 0, &txn);
    if (error)
        return error;
    error = cmb_txn_put(txn, text("ring"), text("first"));
    if (error) {
        cmb_txn_abort(txn);
        return error;
    }
    return cmb_txn_commit(txn, &info, NULL);
}

static int read_ring(cmb_store *store)
{
    cmb_snapshot *snapshot;
    cmb_bytes value;
    int error = cmb_snapshot_open(store, "main", &snapshot);
    if (error)
        return error;
    error = cmb_get(snapshot, text("ring"), &value);
    if (!error)
        printf("ring = %.*s\n", (int)value.size, (const char *)value.data);
    cmb_snapshot_close(snapshot);
    return error;
}

static int use(cmb_device *dev)
{
    cmb_store *store;
    int error = cmb_store_open_device(dev, NULL, &store);
    if (error == CMB_ENOTIMAGE) {
        error = cmb_store_init_device(dev, NULL, NULL);
        if (!error)
            error = cmb_store_open_device(dev, NULL, &store);
    }
    if (error)
        return error;
    printf("%s: %s\n", dev->name, cmb_store_is_durable(store) ? "commits are durable" : "nothing is durable here");
    error = write_ring(store);
    if (!error)
        error = read_ring(store);
    int closed = cmb_store_close(store);
    return error ? error : closed;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "xen:xvda";
    cmb_device *dev;
    int error = cmb_device_open(name, CMB_OPEN_CREATE_FORCE, NULL, &dev);
    if (!error) {
        error = use(dev);
        cmb_device_close(dev);
    }
    if (error)
        fprintf(stderr, "%s: %s: %s\n", name, cmb_error_name(error), cmb_error_detail());
    return error ? 1 : 0;
}
