/* SPDX-License-Identifier: ISC */
#include "io/base.h"
#include "tools/commands.h"
#include "tools/merging.h"

enum { MAINLINE = MERGING_OWN };
static const cli_option options[] = {
    MERGING_OPTIONS,
    [MAINLINE] = {0, "mainline", "N", "REV is a merge: what it changed against its N-th parent"},
};

static int pick(const cli *c, cmb_store *store, const char *branch, cmb_merge_fn fn, const cmb_commit_info *info,
                cmb_merge_result *out_result)
{
    uint64_t mainline = 0;
    cli_u64(c, MAINLINE, &mainline);
    return cmb_cherry_pick(store, branch, cli_operand(c, 1), (unsigned)mainline, fn, NULL, info, out_result);
}

static int run(cli *c)
{
    uint64_t mainline = 1;
    cmb_commit_info info = {.author = cli_value(c, MERGING_AUTHOR, NULL),
                            .message = cli_value(c, MERGING_MESSAGE, NULL)};
    if (!cli_u64(c, MAINLINE, &mainline))
        return CLI_USAGE;
    if (mainline < 1 || mainline > CMB_COMMIT_PARENTS_MAX)
        return cli_usage(c, "--mainline: parents are numbered from 1");
    return merging_run(c, &info, pick);
}

const cli_command cmd_cherry_pick = {
    .name = "cherry-pick",
    .summary = "does on a branch what one commit changed elsewhere",
    .synopsis = "cherry-pick IMAGE REV [KEY=HOW...] [-b INTO] [--mainline N] [-s NAME] [-m MSG] [-a NAME] [--rest HOW] [--json]",
    .details = "Makes a commit. Author and message are those of REV unless they are given. Conflicts are as in merge.",
    .examples = "cambium cherry-pick data.cmb feature~2\n"
                "cambium cherry-pick data.cmb 1f3a9c -b release -m 'the fix'",
    .options = options,
    .option_count = CMB_COUNTOF(options),
    .min_operands = 2,
    .max_operands = -1,
    .usage_status = CLI_USAGE,
    .run = run,
};
