/* SPDX-License-Identifier: ISC */
/*
 * conform.c: runs the conformance script on devices by name and compares what it leaves there. OVERWRITES THEM.
 * usage: conform [--seed N] [--steps N] DEVICE...
 * Exit status: 0 all did what devices do, and hold the same bytes; 1 not; 16 usage.
 */
#include <stdio.h>
#include <stdlib.h>

#include "conformance.h"

#define SIZE ((uint64_t)4 << 20)

static int run(const char *name, const conform_options *options, conform_result *out)
{
    cmb_device *dev;
    int error = cmb_device_open(name, CMB_OPEN_CREATE_FORCE, &(cmb_device_options){.size = SIZE}, &dev);
    if (error)
        return error;
    error = conform(dev, options, out);
    if (!error) {
        char hex[2 * CMB_NAME_MAX + 1];
        cmb_name_hex(&out->sum, hex);
        printf("%s  %s: %s: %llu operations%s\n", hex, name, dev->ops->describe(dev), (unsigned long long)out->operations,
               out->flushed ? "" : ", no flush");
    }
    cmb_device_close(dev);
    return error;
}

int main(int argc, char **argv)
{
    conform_options options = {.seed = 1, .size = SIZE, .steps = 64};
    conform_result first = {0}, r;
    int at = 1, bad = 0;
    for (; at + 1 < argc && strncmp(argv[at], "--", 2) == 0; at += 2) {
        if (strcmp(argv[at], "--seed") == 0)
            options.seed = strtoull(argv[at + 1], NULL, 0);
        else if (strcmp(argv[at], "--steps") == 0)
            options.steps = (unsigned)strtoul(argv[at + 1], NULL, 0);
        else
            break;
    }
    if (at >= argc || strncmp(argv[at], "--", 2) == 0) {
        fprintf(stderr, "usage: conform [--seed N] [--steps N] DEVICE...   (their contents are lost)\n");
        return 16;
    }
    for (; at < argc; at++) {
        int error = run(argv[at], &options, &r);
        if (error)
            fprintf(stderr, "%s: %s: %s\n", argv[at], cmb_error_name(error), cmb_error_detail());
        else if (first.sum.size && !cmb_name_equal(&first.sum, &r.sum))
            fprintf(stderr, "%s: holds other bytes than the first device\n", argv[at]);
        else {
            first = r;
            continue;
        }
        bad = 1;
    }
    return bad;
}
