/* SPDX-License-Identifier: ISC */
/* progress.h: one line on a terminal's standard error, for whatever takes more than a second. */
#ifndef CMB_TOOLS_PROGRESS_H
#define CMB_TOOLS_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct progress {
    const char *what;
    bool on; /* standard error is a terminal */
    bool shown;
    uint64_t begun, next; /* nanoseconds */
    unsigned calls;
} progress;

void progress_begin(progress *p, const char *what);
/* Cheap enough to be called for every entry. total 0: unknown. entries 0: they are not counted. */
void progress_at(progress *p, uint64_t entries, uint64_t bytes, uint64_t total);
/* Clears the line. */
void progress_end(progress *p);
/* Nanoseconds since it began. */
uint64_t progress_elapsed(const progress *p);

#endif
