/* SPDX-License-Identifier: ISC */
/* marks.h: the list of commits that import-git and export-git write with --marks: a line each, ":MARK ID" and, where a stream says
 * it, the name of the commit in git. */
#ifndef CMB_TOOLS_MARKS_H
#define CMB_TOOLS_MARKS_H

#include <stdio.h>

#include <cambium/types.h>

void marks_line(FILE *out, uint64_t mark, cmb_bytes original, const cmb_name *id);

#endif
