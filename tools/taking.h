/* SPDX-License-Identifier: ISC */
/* taking.h: what `pull` and `bundle apply` share: options, what became of each branch, a report. */
#ifndef CMB_TOOLS_TAKING_H
#define CMB_TOOLS_TAKING_H

#include <cambium/sync.h>

#include "tools/cli.h"
#include "tools/json.h"
#include "tools/progress.h"

/* Which of the command's options are these; all of them have to be there. */
typedef struct taking_options {
    int strategy, name, untrusted, json;
} taking_options;

typedef struct taking {
    const cli *c;
    const taking_options *which;
    cmb_pull_options options; /* filled in by taking_begin; `ctx` is this */
    progress progress;
    json j;
    bool stuck;               /* some branch diverged or is in conflict */
    char peer[CMB_REF_NAME_MAX + 1];
} taking;

/* from: the file or image that history comes from. 0, or the exit status after a message. */
int taking_begin(taking *t, const cli *c, const taking_options *which, const char *from);
/* Reports. rc: the library's result; `from` is blamed for what is malformed. Returns the exit status. */
int taking_end(taking *t, int rc, const char *from, const cmb_sync_stats *stats);

/* Opens an image that history comes from: to be written if a branch or tag has a working state that has to be sealed. revs: those
 * that matter, "^…" apart; none: all branches. 0, or the exit status after a message. */
int taking_open_source(const char *image, const char *const *revs, size_t rev_count, cmb_store **out_store);

#endif
