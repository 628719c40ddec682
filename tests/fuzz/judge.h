/* SPDX-License-Identifier: ISC */
/*
 * judge.h: reads all that a store shows, in every way there is. Whatever the image holds, each call ends, and ends in an answer or an
 * error that the library has. If fsck finds nothing, then there are no errors and all ways agree.
 */
#ifndef CMB_FUZZ_JUDGE_H
#define CMB_FUZZ_JUDGE_H

#include "tests/fuzz/fuzz.h"

/* Does fsck of everything find nothing? */
bool judge_is_sound(cmb_store *store);
/* Reads; `sound` is what fsck said. */
void judge_read(cmb_store *store, bool sound);
/* A number of all refs and what they stand on. 0: they could not be listed. */
uint64_t judge_shown(cmb_store *store);

#endif
