/* SPDX-License-Identifier: ISC */
/* where.h: what a name leads to, found out without opening it. */
#ifndef CMB_IO_WHERE_H
#define CMB_IO_WHERE_H

#include "io/io.h"

/* Asked before something is made or overwritten beside a device that is read. */
typedef enum cmb_where_kind { CMB_WHERE_NONE, CMB_WHERE_FILE, CMB_WHERE_DISK, CMB_WHERE_XEN } cmb_where_kind;
typedef struct cmb_where {
    cmb_where_kind kind; /* NONE: nothing is there, or neither a regular file nor a block device */
    uint64_t device, inode; /* XEN: the virtual device's number, and 0; whether it is there is not looked for */
} cmb_where;
/* A path as it stands. */
void cmb_path_look(const char *path, cmb_where *out_where);
/* A device's name; NONE for memory. 0, or CMB_EINVAL, CMB_ENOMEM and, of Xen where it is not built, CMB_ENOTSUP as opening it would say. */
int cmb_device_look(const char *name, const cmb_allocator *alloc, cmb_where *out_where);
/* One file, block device or virtual device, whatever names, links and nodes lead to it? */
static inline bool cmb_where_same(const cmb_where *a, const cmb_where *b)
{
    return a->kind != CMB_WHERE_NONE && a->kind == b->kind && a->device == b->device && a->inode == b->inode;
}

#endif
