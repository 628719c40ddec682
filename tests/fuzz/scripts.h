/* SPDX-License-Identifier: ISC */
/* scripts.h: small images, each made by a script of calls, that targets begin with or change. */
#ifndef CMB_FUZZ_SCRIPTS_H
#define CMB_FUZZ_SCRIPTS_H

#include "tests/fuzz/disk.h"
#include "tests/fuzz/fuzz.h"

typedef enum script {
    SCRIPT_EMPTY,   /* just made */
    SCRIPT_PAIRS,   /* a working state of some pairs */
    SCRIPT_HISTORY, /* commits, a branch, a merge, tags, one of them annotated; edits since the last checkpoint */
    SCRIPT_LARGE,   /* values out of line, of one chunk and of several */
    SCRIPT_DEEP,    /* a tree of several levels */
    SCRIPT_REOPENED,/* the same, several checkpoints later */
    SCRIPT_INTENTS, /* edits that are in no tree yet, before and after a checkpoint */
    SCRIPT_SHA256,  /* with names of SHA-256, where the build has it */
    SCRIPT_FIXED,   /* on a device that does not grow */
    SCRIPT_COUNT,
} script;
extern const char *const script_names[SCRIPT_COUNT];

/* Makes the image on disk `i`, between fuzz_begin and fuzz_end. */
fuzz_disk *script_run(script which, unsigned i);
/* The same from memory after the first time; begins nothing and ends nothing. */
fuzz_disk *script_disk(script which, unsigned i);
/* As an input of fuzz_disk_unpack; stays as it is. */
cmb_bytes script_packed(script which);
/* Opens what lies on a disk. */
cmb_store *script_open(fuzz_disk *disk);

/* One transaction that puts `n` numbered keys from `first` on; message NULL: a working state. */
void script_put(cmb_store *store, const char *branch, unsigned first, unsigned n, const char *value, const char *message);

#endif
