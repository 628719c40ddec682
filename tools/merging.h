/* SPDX-License-Identifier: ISC */
/* merging.h: what merge, revert and cherry-pick share: strategies, the list of conflicts, resolutions. */
#ifndef CMB_TOOLS_MERGING_H
#define CMB_TOOLS_MERGING_H

#include <cambium/merge.h>

#include "tools/cli.h"
#include "tools/strategy.h"

/* Options by index; a command's own follow. */
enum {
    MERGING_BRANCH,
    MERGING_STRATEGY,
    MERGING_MESSAGE,
    MERGING_AUTHOR,
    MERGING_REST,
    MERGING_HEX,
    MERGING_JSON,
    MERGING_OWN
};
#define MERGING_OPTIONS                                                                                                \
    [MERGING_BRANCH] = {'b', "branch", "INTO", "the branch to write (main)"},                                          \
    [MERGING_STRATEGY] = {'s', "strategy", "NAME", "for keys that both sides changed: " STRATEGY_NAMES " (fail)"}, \
    [MERGING_MESSAGE] = {'m', "message", "MSG", "the message of the commit"},                                          \
    [MERGING_AUTHOR] = {'a', "author", "NAME", "who makes the commit ($CAMBIUM_AUTHOR, $USER or unknown)"},            \
    [MERGING_REST] = {0, "rest", "HOW", "resolves conflicts that no operand resolves: ours, theirs or delete"},         \
    [MERGING_HEX] = {'x', "hex", NULL, "keys of resolutions are hexadecimal"},                                         \
    [MERGING_JSON] = {0, "json", NULL, "one object a line: conflicts, then the result"}

/* Makes the merge that the command stands for, of the second operand. */
typedef int (*merging_call)(const cli *c, cmb_store *store, const char *branch, cmb_merge_fn fn,
                            const cmb_commit_info *info, cmb_merge_result *out_result);
/* Opens the image, merges, shows conflicts or resolves them as the operands from the third on say. Returns the exit
 * status. */
int merging_run(const cli *c, const cmb_commit_info *info, merging_call call);

#endif
