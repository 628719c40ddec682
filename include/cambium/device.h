/* SPDX-License-Identifier: ISC */
/**
 * @file device.h
 * Block devices: what the engine asks of one, and how to bring your own.
 *
 * A device is a row of bytes in blocks. Work goes through *queues*: a thread opens a queue, submits
 * requests and reaps completions, in any order. A queue belongs to one thread at a time; a device is
 * thread-safe. The shape fits a mapped file, an io_uring and a Xen ring alike: a synchronous device
 * completes inside submit and hands the result out at reap.
 *
 * Durability: a completed FLUSH covers every write whose completion was reaped, on any queue of the
 * device and under the same connection generation, before the flush was submitted. Nothing orders
 * writes among themselves.
 *
 * Layers (trace, fault) are devices over a device.
 */
#ifndef CAMBIUM_DEVICE_H
#define CAMBIUM_DEVICE_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>

#include <cambium/error.h>
#include <cambium/export.h>
#include <cambium/types.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cmb_device cmb_device;
typedef struct cmb_queue cmb_queue;

/** What a device can do. */
enum {
    CMB_CAP_FLUSH = 1u << 0,     /* FLUSH makes writes durable */
    CMB_CAP_DISCARD = 1u << 1,   /* DISCARD gives blocks back; they then read as zeros or as before */
    CMB_CAP_MAP = 1u << 2,       /* map() works */
    CMB_CAP_GROW = 1u << 3,      /* grow() works: a file; otherwise the size is fixed */
    CMB_CAP_READ_ONLY = 1u << 4, /* writes are refused */
    CMB_CAP_UNCACHED = 1u << 5,  /* CMB_IO_UNCACHED reads do reach the medium */
    CMB_CAP_ZEROED_GROWTH = 1u << 6, /* what grow() adds reads as zeros */
};

/** A device's properties as data. May change while it is open: size by growth, generation by reconnection. */
typedef struct cmb_caps {
    uint64_t size;         /* bytes now */
    uint64_t max_size;     /* bytes it may grow to; equal to size without CMB_CAP_GROW */
    uint32_t block_size;   /* bytes; power of two <= 4096; offsets and lengths are multiples of it */
    uint32_t buffer_align; /* bytes; buffers at multiples of it are not copied; others work as well */
    uint32_t max_transfer; /* bytes of the largest single request; larger ones are split inside */
    uint32_t queue_depth;  /* requests in flight per queue that still help */
    uint32_t flags;        /* CMB_CAP_… */
    uint64_t generation;   /* of the connection to the back end; never 0; changes when it restarts */
} cmb_caps;

typedef enum cmb_op { CMB_OP_READ = 1, CMB_OP_WRITE = 2, CMB_OP_FLUSH = 3, CMB_OP_DISCARD = 4 } cmb_op;

enum {
    CMB_IO_UNCACHED = 1u << 0, /* read past the operating system's cache, as far as the device can */
};

/** One request. The buffer stays the caller's and untouched by him until the completion is reaped. */
typedef struct cmb_request {
    cmb_op op;
    uint32_t flags;  /* CMB_IO_… */
    uint64_t offset; /* bytes, multiple of block_size; 0 for FLUSH */
    uint64_t length; /* bytes, multiple of block_size; 0 for FLUSH */
    void *buffer;    /* READ fills it, WRITE reads it; NULL otherwise */
    void *user;      /* comes back with the completion */
} cmb_request;

/** How a request ended. Short transfers are finished inside: it is all or an error. */
typedef struct cmb_completion {
    void *user;
    int result;          /* 0 or CMB_E… */
    uint64_t generation; /* connection under which it completed */
} cmb_completion;

/** The table that an implementation of a device fills in. Members are never NULL unless said. */
typedef struct cmb_device_ops {
    void (*caps)(cmb_device *dev, cmb_caps *out_caps);
    int (*queue_open)(cmb_device *dev, unsigned depth, cmb_queue **out_queue);
    void (*queue_close)(cmb_queue *queue); /* nothing may be in flight */
    /* Takes 1..n requests, returns how many (>= 1, or 0 when the queue is full) or an error with none taken. */
    int (*submit)(cmb_queue *queue, const cmb_request *requests, unsigned n);
    /* Returns between min (if so many are in flight) and max completions; min 0 does not wait. */
    int (*reap)(cmb_queue *queue, cmb_completion *out_done, unsigned max, unsigned min);
    int (*grow)(cmb_device *dev, uint64_t new_size); /* NULL without CMB_CAP_GROW; not durable until a flush */
    /* A read-only view of [offset, offset+length), valid until close, coherent with completed writes.
     * May reach past the end: what is not there yet must not be touched. NULL without CMB_CAP_MAP. */
    int (*map)(cmb_device *dev, uint64_t offset, uint64_t length, const void **out_ptr);
    void (*close)(cmb_device *dev);
    /* Optional (NULL: nothing to tell): one line about itself for people ("io_uring, 64 in flight"). */
    const char *(*describe)(cmb_device *dev);
} cmb_device_ops;

/** An implementation embeds these first. */
struct cmb_device {
    const cmb_device_ops *ops;
    cmb_allocator alloc;
    const char *name; /* for messages; owned by the device */
};
struct cmb_queue {
    cmb_device *dev;
};

typedef enum cmb_open_mode {
    CMB_OPEN_READ = 0,   /* shared with a live writer */
    CMB_OPEN_WRITE = 1,  /* exclusive; CMB_EBUSY names the holder (pid, program) */
    CMB_OPEN_CREATE = 2, /* WRITE, and a regular file is made; CMB_EEXIST if there is one */
    CMB_OPEN_CREATE_FORCE = 3, /* WRITE, and an existing file is reused as it is */
} cmb_open_mode;

typedef struct cmb_device_options {
    cmb_allocator alloc;
    uint64_t size; /* CREATE of a regular file or mem: its fixed size; 0: it grows as needed */
} cmb_device_options;

/**
 * Opens a device by name: `data.cmb`, `/dev/vdb`, `mem:`, `mem:64M`, with options after a question
 * mark: `data.cmb?io=uring`, `?io=posix` (default: uring where the kernel allows it is NOT assumed;
 * posix), `?fixed=1` (a file is treated as a device of its present size), `?trace=FILE`.
 * Several options are joined by `&`. In a path or FILE, `%3F` is a literal question mark, `%26` an
 * ampersand, `%25` a per cent sign. Unknown options are CMB_EINVAL. FILE gets a line per operation:
 * index, operation, offset, length, result's symbol.
 * A block device is opened by CREATE as by WRITE. `mem:` with READ is CMB_ENOTFOUND: it begins empty.
 * @param options may be NULL. The device is closed with cmb_device_close().
 */
CMB_API int cmb_device_open(const char *name, cmb_open_mode mode, const cmb_device_options *options,
                            cmb_device **out_dev);

/** Closes; NULL is allowed. All queues must be closed. Layers close what they stand on. */
CMB_API void cmb_device_close(cmb_device *dev);

/** A device in memory; size 0: grows. Sparse: untouched megabytes take no memory. */
CMB_API int cmb_device_mem(uint64_t size, const cmb_device_options *options, cmb_device **out_dev);

/** What a trace layer tells of one completed operation; data of writes included. */
typedef struct cmb_trace_event {
    uint64_t index; /* 0, 1, … in order of completion */
    cmb_op op;
    uint32_t flags;
    uint64_t offset, length;
    const void *data; /* WRITE: the bytes, valid during the call */
    int result;
} cmb_trace_event;
typedef void (*cmb_trace_fn)(void *ctx, const cmb_trace_event *event);

/** A layer that reports every completed operation, serialised. Owns `under`. */
CMB_API int cmb_device_trace(cmb_device *under, cmb_trace_fn fn, void *ctx, cmb_device **out_dev);

typedef enum cmb_fault_kind {
    CMB_FAULT_EIO = 1,  /* fails, nothing is done */
    CMB_FAULT_TEAR = 2, /* WRITE: a seeded subset of its 512-byte sectors lands; reported as success */
    CMB_FAULT_DROP = 3, /* WRITE or FLUSH: nothing is done; reported as success */
    CMB_FAULT_DELAY = 4,/* completes only after `count` later completions, or when nothing else is in flight */
    CMB_FAULT_ENOSPC = 5,
    CMB_FAULT_STOP = 6, /* from here on every operation fails: a dead device */
} cmb_fault_kind;

/** Rule: the operations of kind `op` numbered first, first+every, … (counted per rule, from 0), `times` times. */
typedef struct cmb_fault_rule {
    cmb_op op;      /* 0: any */
    cmb_fault_kind kind;
    uint64_t first; /* index among matching operations */
    uint64_t every; /* 0: only `first` */
    uint64_t times; /* 0: no limit */
    uint64_t offset_min, offset_max; /* only requests that touch [min, max); both 0: any */
    uint32_t count; /* DELAY: completions */
} cmb_fault_rule;

/** A layer that misbehaves by rule and seed. Owns `under`; copies the rules. */
CMB_API int cmb_device_fault(cmb_device *under, const cmb_fault_rule *rules, size_t n, uint64_t seed,
                             cmb_device **out_dev);

#ifdef __cplusplus
}
#endif
#endif
