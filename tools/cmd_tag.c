/* SPDX-License-Identifier: ISC */
#include "io/base.h"
#include "tools/commands.h"
#include "tools/refs.h"

enum { MESSAGE = REFS_JSON + 1, AUTHOR };
static const cli_option options[] = {
    [REFS_JSON] = {0, "json", NULL, "list: one object a line"},
    [MESSAGE] = {'m', "message", "MSG", "create, set: an annotated tag with this message"},
    [AUTHOR] = {'a', "author", "NAME", "the same: who tags ($CAMBIUM_AUTHOR, $USER or unknown)"},
};

static int run(cli *c)
{
    static const refs_ops ops = {cmb_tag_list, cmb_tag_create, cmb_tag_set, cmb_tag_delete, -1, MESSAGE, AUTHOR};
    return refs_run(c, &ops);
}

const cli_command cmd_tag = {
    .name = "tag",
    .summary = "lists, creates, moves and deletes tags",
    .synopsis = "tag IMAGE [list] [--json]\n"
                "tag IMAGE create NAME [REV] [-m MSG] [-a NAME]\n"
                "tag IMAGE set NAME REV [-m MSG] [-a NAME]\n"
                "tag IMAGE delete NAME",
    .details = "A tag names one state for good; without REV that of main. If it is a working state, it is sealed\n"
               "into a permanent commit first. With -m or -a the tag is annotated: it stands on an object of its\n"
               "own that says who tagged what, when and why ('cambium show IMAGE NAME').",
    .examples = "cambium tag data.cmb\n"
                "cambium tag data.cmb create v1.0\n"
                "cambium tag data.cmb create v1.1 -m 'the second release'\n"
                "cambium tag data.cmb create before-import main~1\n"
                "cambium tag data.cmb delete v1.0",
    .options = options,
    .option_count = CMB_COUNTOF(options),
    .min_operands = 1,
    .max_operands = 4,
    .usage_status = CLI_USAGE,
    .run = run,
};
