/* SPDX-License-Identifier: ISC */
/* inspect.h: the parts of `cambium inspect`: the log's side and the trees' side. */
#ifndef CMB_TOOLS_INSPECT_H
#define CMB_TOOLS_INSPECT_H

#include "log/log.h"
#include "tools/cli.h"

/* Options, by index. */
enum { INSPECT_DOT, INSPECT_DEPTH, INSPECT_RECORDS, INSPECT_SEGMENT, INSPECT_JSON };

/* An image opened for its log alone: works where the store on top does not. */
typedef struct inspect_image {
    cmb_device *dev;
    cmb_log *log;
} inspect_image;
/* 0, or an exit status after a message. */
int inspect_open(const cli *c, inspect_image *out_image);
void inspect_close(inspect_image *image);

const char *inspect_kind_name(unsigned kind); /* of a record; never NULL */

/* Each returns the exit status. */
int inspect_super(const cli *c);
int inspect_log(const cli *c);
int inspect_segments(const cli *c);
int inspect_tree(const cli *c);
int inspect_node(const cli *c);

#endif
