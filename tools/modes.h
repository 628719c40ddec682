/* SPDX-License-Identifier: ISC */
/*
 * modes.h: modes of paths that changed between two states of a git image. They stand in side entries, apart from the
 * paths (cambium/git.h); whoever shows changes path by path brings them together again.
 */
#ifndef CMB_TOOLS_MODES_H
#define CMB_TOOLS_MODES_H

#include <cambium/diff.h>
#include <cambium/git.h>

typedef struct mode_change {
    cmb_bytes path;
    uint32_t before, after; /* CMB_GIT_FILE where there is no side entry */
} mode_change;

/* In the order of the paths. Zero-initialise. */
typedef struct mode_changes {
    mode_change *items;
    size_t count, capacity;
} mode_changes;

/* All whose paths lie in the range. Release in any case. */
int modes_collect(mode_changes *m, cmb_snapshot *before, cmb_snapshot *after, const cmb_range *range);
void modes_release(mode_changes *m);

/* Of a file, link, submodule, or one into another? */
static inline bool mode_is_other_type(const mode_change *m)
{
    return ((m->before ^ m->after) & 0170000) != 0;
}

#endif
