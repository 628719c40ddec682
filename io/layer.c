/* SPDX-License-Identifier: ISC */
#include "io/layer.h"

#include <stdio.h>

static void layer_caps(cmb_device *dev, cmb_caps *out_caps)
{
    cmb_device_caps(((cmb_layer *)dev)->under, out_caps);
}

static int layer_grow(cmb_device *dev, uint64_t new_size)
{
    cmb_device *under = ((cmb_layer *)dev)->under;
    return under->ops->grow(under, new_size);
}

static int layer_map(cmb_device *dev, uint64_t offset, uint64_t length, const void **out_ptr)
{
    cmb_device *under = ((cmb_layer *)dev)->under;
    return under->ops->map(under, offset, length, out_ptr);
}

static const char *layer_describe(cmb_device *dev)
{
    return ((cmb_layer *)dev)->text;
}

void cmb_layer_init(cmb_layer *layer, cmb_device *under, const cmb_device_ops *own, const char *kind)
{
    layer->ops = *own;
    layer->ops.caps = layer_caps;
    layer->ops.grow = under->ops->grow ? layer_grow : NULL;
    layer->ops.map = under->ops->map ? layer_map : NULL;
    layer->ops.describe = layer_describe;
    layer->under = under;
    layer->dev = (cmb_device){.ops = &layer->ops, .alloc = under->alloc, .name = under->name};
    const char *below = under->ops->describe ? under->ops->describe(under) : NULL;
    snprintf(layer->text, sizeof layer->text, "%s over %s", kind, below ? below : "a device");
}
