/* SPDX-License-Identifier: ISC */
/* inspect.h: the parts of `cambium inspect`: the log's side and the trees' side. */
#ifndef CMB_TOOLS_INSPECT_H
#define CMB_TOOLS_INSPECT_H

#include "log/rescue.h"
#include "tools/cli.h"

/* Options, by index. */
enum { INSPECT_DOT, INSPECT_DEPTH, INSPECT_LIMIT, INSPECT_RECORDS, INSPECT_SEGMENT, INSPECT_JSON };

/* An image opened for its log alone: works where the store on top does not, and where the log does not open by what is found on the device. */
typedef struct inspect_image {
    cmb_device *dev;
    cmb_log *log;
    bool rescued;
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

/* A picture of the trees of all REVs, `limit` nodes at most. */
int inspect_dot_trees(const cli *c, cmb_store *store, uint64_t depth, uint64_t limit);
/* What stands between double quotes in a dot file. */
void inspect_dot_text(const char *s);
/* What a commit, tag object, ROOT, EDITS, INTENTS or SEGMENTS record says, a line for each thing; false: it is none of these, or malformed. */
bool inspect_show_payload(const cmb_image_params *params, unsigned kind, const uint8_t *payload, uint32_t size);

#endif
