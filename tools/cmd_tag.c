/* SPDX-License-Identifier: ISC */
#include "io/base.h"
#include "tools/commands.h"
#include "tools/refs.h"

static const cli_option options[] = {
    [REFS_JSON] = {0, "json", NULL, "list: one object a line"},
};

static int run(cli *c)
{
    static const refs_ops ops = {cmb_tag_list, cmb_tag_create, cmb_tag_set, cmb_tag_delete};
    return refs_run(c, &ops);
}

const cli_command cmd_tag = {
    .name = "tag",
    .summary = "lists, creates, moves and deletes tags",
    .synopsis = "tag IMAGE [list] [--json]\n"
                "tag IMAGE create NAME [REV]\n"
                "tag IMAGE set NAME REV\n"
                "tag IMAGE delete NAME",
    .details = "A tag names one state for good; without REV that of main. If it is a working state, it is sealed\n"
               "into a permanent commit first.",
    .examples = "cambium tag data.cmb\n"
                "cambium tag data.cmb create v1.0\n"
                "cambium tag data.cmb create before-import main~1\n"
                "cambium tag data.cmb delete v1.0",
    .options = options,
    .option_count = CMB_COUNTOF(options),
    .min_operands = 1,
    .max_operands = 4,
    .usage_status = CLI_USAGE,
    .run = run,
};
