/* SPDX-License-Identifier: ISC */
/* forge.c: gives the superblocks of an image the next format version, with right checks: an image from the future.
 * usage: forge FILE */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "log/format.h"

int main(int argc, char **argv)
{
    static uint8_t block[CMB_BLOCK];
    int fd = argc == 2 ? open(argv[1], O_RDWR) : -1;
    if (fd < 0) {
        perror("forge");
        return 2;
    }
    for (unsigned slot = 0; slot < CMB_SUPER_SLOTS; slot++) {
        off_t at = (off_t)slot * CMB_SUPER_SPACING;
        if (pread(fd, block, sizeof(block), at) != (ssize_t)sizeof(block))
            return 2;
        if (memcmp(block, CMB_SUPER_MAGIC, 8) != 0)
            continue;
        cmb_put32(block + CMB_SUPER_AT_VERSION, CMB_SUPER_VERSION + 1);
        cmb_put64(block + CMB_SUPER_AT_CHECK, 0); /* the check is taken over zeros in its own place */
        cmb_put64(block + CMB_SUPER_AT_CHECK, cmb_hash64(block, CMB_SUPER_SIZE, (uint64_t)at));
        if (pwrite(fd, block, sizeof(block), at) != (ssize_t)sizeof(block))
            return 2;
    }
    return close(fd);
}
