/* SPDX-License-Identifier: ISC */
#include "io/base.h"
#include "tools/commands.h"
#include "tools/refs.h"

enum { EMPTY = REFS_JSON + 1 };
static const cli_option options[] = {
    [REFS_JSON] = {0, "json", NULL, "list: one object a line"},
    [EMPTY] = {0, "empty", NULL, "create: the branch starts without entries and history"},
};

static int run(cli *c)
{
    static const refs_ops ops = {cmb_branch_list, cmb_branch_create, cmb_branch_set, cmb_branch_delete, EMPTY, -1, -1};
    return refs_run(c, &ops);
}

const cli_command cmd_branch = {
    .name = "branch",
    .summary = "lists, creates, moves and deletes branches",
    .synopsis = "branch IMAGE [list] [--json]\n"
                "branch IMAGE create NAME [REV | --empty]\n"
                "branch IMAGE set NAME REV\n"
                "branch IMAGE delete NAME",
    .details = "A new branch starts from main unless REV is given. If REV is a working state, it is sealed into\n"
               "a permanent commit first. The list shows each branch's commit (below a working state: the\n"
               "commit that it stands on) and the number of its entries.",
    .examples = "cambium branch data.cmb\n"
                "cambium branch data.cmb create feature\n"
                "cambium branch data.cmb create old main~3\n"
                "cambium branch data.cmb set main v1.0\n"
                "cambium branch data.cmb delete feature",
    .options = options,
    .option_count = CMB_COUNTOF(options),
    .min_operands = 1,
    .max_operands = 4,
    .usage_status = CLI_USAGE,
    .run = run,
};
