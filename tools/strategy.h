/* SPDX-License-Identifier: ISC */
/* strategy.h: what --strategy names: the library's merge functions. */
#ifndef CMB_TOOLS_STRATEGY_H
#define CMB_TOOLS_STRATEGY_H

#include <cambium/merge.h>

#include "tools/cli.h"

#define STRATEGY_NAMES "fail, ours, theirs, union, counter, json"

/* The merge function that the option names; NULL (fail) if it is not given. False after a message. */
bool strategy_parse(const cli *c, int option, cmb_merge_fn *out_fn);

#endif
