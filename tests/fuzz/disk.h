/* SPDX-License-Identifier: ISC */
/*
 * disk.h: devices in memory that are cheap to fill and to clear, and images as fuzz inputs: few bytes for much that is zero.
 *
 *   0  u8   megabytes of the device: 1 + what it says modulo FUZZ_DISK_MIB, and 128: it grows up to FUZZ_DISK_MIB
 *   1  extents, each  u16 number of a 4 KiB block | u16 bytes of it, at most 4096 | these bytes; the rest of the block is zero
 *
 * The last extent may be cut off. Any bytes are a device.
 */
#ifndef CMB_FUZZ_DISK_H
#define CMB_FUZZ_DISK_H

#include "io/io.h"

#define FUZZ_DISK_MIB    32u
#define FUZZ_DISK_BLOCKS (FUZZ_DISK_MIB * 256u)

typedef struct fuzz_disk {
    cmb_device dev;
    uint64_t size, max_size;
    uint64_t operations;            /* since it was last cleared */
    uint8_t *bytes;                 /* FUZZ_DISK_MIB of them */
    bool used[FUZZ_DISK_BLOCKS];    /* may hold something else than zeros */
} fuzz_disk;

/* There are two of them, for ever the same; cleared, of `size` bytes. */
#define FUZZ_DISKS 2u
fuzz_disk *fuzz_disk_clear(unsigned i, uint64_t size, bool grows);
/* Cleared, then filled with what an input says. */
fuzz_disk *fuzz_disk_unpack(unsigned i, const uint8_t *data, size_t size);
/* The input that says what is there; its size, 0: more than `room` bytes. */
size_t fuzz_disk_pack(const fuzz_disk *disk, uint8_t *out, size_t room);
/* A number of all that it holds. */
uint64_t fuzz_disk_sum(const fuzz_disk *disk);

#endif
