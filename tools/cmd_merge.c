/* SPDX-License-Identifier: ISC */
#include "io/base.h"
#include "tools/commands.h"
#include "tools/merging.h"

enum { NO_FF = MERGING_OWN, FF_ONLY };
static const cli_option options[] = {
    MERGING_OPTIONS,
    [NO_FF] = {0, "no-ff", NULL, "makes a merge commit also where the branch could simply move forward"},
    [FF_ONLY] = {0, "ff-only", NULL, "moves the branch forward or does nothing; exit status 1 if it cannot"},
};

static int merge(const cli *c, cmb_store *store, const char *branch, cmb_merge_fn fn, const cmb_commit_info *info,
                 cmb_merge_result *out_result)
{
    return cmb_merge(store, branch, cli_operand(c, 1), fn, NULL, info, out_result);
}

static int run(cli *c)
{
    char message[1200];
    cmb_commit_info info = {.author = cli_author(c, MERGING_AUTHOR)};
    if (cli_has(c, NO_FF) && cli_has(c, FF_ONLY))
        return cli_usage(c, "--no-ff and --ff-only: give one of them");
    info.flags = (cli_has(c, NO_FF) ? CMB_MERGE_NO_FF : 0) | (cli_has(c, FF_ONLY) ? CMB_MERGE_FF_ONLY : 0);
    snprintf(message, sizeof(message), "Merge %.600s into %.300s", cli_operand(c, 1),
             cli_value(c, MERGING_BRANCH, "main"));
    info.message = cli_value(c, MERGING_MESSAGE, message);
    return merging_run(c, &info, merge);
}

const cli_command cmd_merge = {
    .name = "merge",
    .summary = "merges a revision into a branch",
    .synopsis = "merge IMAGE REV [KEY=HOW...] [-b INTO] [--no-ff|--ff-only] [-s NAME] [-m MSG] [-a NAME] [--rest HOW] [--json]",
    .details = "What only one side changed since their common ancestor is taken over. If there are keys that both changed, and that\n"
               "the strategy does not settle, they are listed, nothing is merged, and the exit status is 1. Merge again with a\n"
               "resolution for each: KEY=ours, KEY=theirs, KEY=delete, or KEY=@FILE for a value (@- is standard input).",
    .examples = "cambium merge data.cmb feature -m 'the feature'\n"
                "cambium merge data.cmb feature greeting=ours notes=@notes.txt\n"
                "cambium merge data.cmb v2 -b release --strategy json --rest theirs\n"
                "cambium merge data.cmb feature --ff-only",
    .options = options,
    .option_count = CMB_COUNTOF(options),
    .min_operands = 2,
    .max_operands = -1,
    .usage_status = CLI_USAGE,
    .run = run,
};
