/* SPDX-License-Identifier: ISC */
/*
 * io.h: helpers over the device interface, for log/. The interface itself is public:
 * include/cambium/device.h.
 */
#ifndef CMB_IO_IO_H
#define CMB_IO_IO_H

#include <cambium/device.h>

#include "io/base.h"
#include "io/os.h"

static inline void cmb_device_caps(cmb_device *dev, cmb_caps *out) { dev->ops->caps(dev, out); }
static inline int cmb_queue_open(cmb_device *dev, unsigned depth, cmb_queue **out) { return dev->ops->queue_open(dev, depth, out); }
static inline void cmb_queue_close(cmb_queue *q) { if (q) q->dev->ops->queue_close(q); }

/*
 * One request, waited for; nothing else may be in flight on the queue. Any length: split at
 * max_transfer and pipelined up to queue_depth; every part is reaped even after an error. The detail
 * text names device, operation, offset and length.
 */
int cmb_io_read(cmb_queue *q, uint64_t offset, void *buffer, uint64_t length, uint32_t flags);
int cmb_io_write(cmb_queue *q, uint64_t offset, const void *buffer, uint64_t length);
int cmb_io_flush(cmb_queue *q);
int cmb_io_discard(cmb_queue *q, uint64_t offset, uint64_t length);
/* Several requests of any kind except FLUSH in flight together; all are reaped; the first error wins. */
int cmb_io_many(cmb_queue *q, cmb_request *requests, size_t n);

/* Block-aligned buffer memory (4096). */
void *cmb_io_buffer(const cmb_allocator *alloc, size_t size);
void cmb_io_buffer_release(const cmb_allocator *alloc, void *ptr, size_t size);

/*
 * For implementations of devices. Whether a request is one that a device of these capabilities takes:
 * known operation and flags, multiples of the block size, inside the device, writable. 0 or CMB_E….
 */
int cmb_request_check(const cmb_device *dev, const cmb_caps *caps, const cmb_request *request);
const char *cmb_op_name(cmb_op op); /* "read", … ; never NULL */
/* Makes a queue's depth lie between 1 and what is sensible. */
unsigned cmb_queue_depth(unsigned wished);
/* A copy of a device's name, and its release. */
char *cmb_name_copy(const cmb_allocator *alloc, const char *name);
void cmb_name_release(const cmb_allocator *alloc, const char *name);

/* The kinds of devices. A trace that writes one text line per operation to a new file at `path`. */
int cmb_device_trace_file(cmb_device *under, const char *path, cmb_device **out_dev);

/* The parts of a device name (device.c splits, the kinds read their options). */
int cmb_device_open_posix(const char *path, cmb_open_mode mode, const cmb_device_options *options,
                          bool fixed, cmb_device **out_dev);
int cmb_device_open_uring(const char *path, cmb_open_mode mode, const cmb_device_options *options,
                          bool fixed, cmb_device **out_dev);

#endif
