/* SPDX-License-Identifier: ISC */
/*
 * keys.h: keys and prefixes of a command line as ranges. In images of git a file's mode lies in an entry of its own (cambium/git.h), which
 * belongs to the file: so each becomes two ranges.
 */
#ifndef CMB_TOOLS_KEYS_H
#define CMB_TOOLS_KEYS_H

#include "tools/cli.h"

typedef struct keys {
    cmb_range *ranges; /* NULL: none were given */
    size_t count;
    uint8_t *room;
} keys;

/* The operands from number `first` on, and the prefix (NULL: none). Returns an exit status, after a message. Release in any case. */
int keys_parse(const cli *c, int first, const char *prefix, bool hex, keys *out);
void keys_release(keys *k);

#endif
