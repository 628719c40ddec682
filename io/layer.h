/* SPDX-License-Identifier: ISC */
/*
 * layer.h: what layers (trace.c, fault.c) share: a device that stands on another, owns it, and hands
 * everything through that it does not change itself.
 */
#ifndef CMB_IO_LAYER_H
#define CMB_IO_LAYER_H

#include "io/io.h"

typedef struct cmb_layer {
    cmb_device dev;
    cmb_device_ops ops; /* a table of its own: grow and map are NULL where `under` has none */
    cmb_device *under;
    char text[160]; /* what describe tells */
} cmb_layer;

/* `own` brings queue_open, queue_close, submit, reap and close. `kind`: for describe. */
void cmb_layer_init(cmb_layer *layer, cmb_device *under, const cmb_device_ops *own, const char *kind);

#endif
