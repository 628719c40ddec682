/* SPDX-License-Identifier: ISC */
#include <cambium/history.h>

#include "io/base.h"
#include "tools/commands.h"
#include "tools/text.h"

enum { ALL, IS_ANCESTOR };
static const cli_option options[] = {
    [ALL] = {'a', "all", NULL, "all of them, one a line"},
    [IS_ANCESTOR] = {0, "is-ancestor", NULL, "shows nothing: status 0 if the first REV is the second or its ancestor, else 1"},
};

static int show(void *ctx, const cmb_name *base)
{
    text_buf id;
    ++*(unsigned *)ctx;
    printf("%s\n", text_name(&id, base, 0));
    return 0;
}

static int answer(const cli *c, cmb_store *store, const char *a, const char *b)
{
    cmb_name base;
    bool yes;
    unsigned shown = 0;
    int rc;
    if (cli_has(c, IS_ANCESTOR)) {
        rc = cmb_is_ancestor(store, a, b, &yes);
        return rc ? cli_fail(c, rc) : yes ? CLI_OK : CLI_NOT_FOUND;
    }
    if (!cli_has(c, ALL)) {
        rc = cmb_merge_base(store, a, b, &base);
        return rc ? cli_fail(c, rc) : show(&shown, &base);
    }
    rc = cmb_merge_bases(store, a, b, show, &shown);
    return rc ? cli_fail(c, rc) : shown ? CLI_OK : CLI_NOT_FOUND;
}

static int run(cli *c)
{
    cmb_store *store;
    if (cli_has(c, ALL) && cli_has(c, IS_ANCESTOR))
        return cli_usage(c, "--all and --is-ancestor: give one of them");
    int status = cli_open(c, false, &store);
    if (status)
        return status;
    status = answer(c, store, cli_operand(c, 1), cli_operand(c, 2));
    return cli_end_output(cli_close(c, store, status));
}

const cli_command cmd_merge_base = {
    .name = "merge-base",
    .summary = "shows what two histories have in common",
    .synopsis = "merge-base IMAGE REV REV [--all]\n"
                "merge-base IMAGE REV REV --is-ancestor",
    .details = "Prints the id of the lowest common ancestor: a commit that both reach, and from which no other\n"
               "such commit descends. Histories that crossed have several: then the one with the longest history\n"
               "below it, or all of them. Unrelated histories have none: status 1.",
    .examples = "cambium merge-base data.cmb main feature\n"
                "cambium merge-base data.cmb main feature --all\n"
                "cambium merge-base data.cmb v1.0 main --is-ancestor && echo released",
    .options = options,
    .option_count = CMB_COUNTOF(options),
    .min_operands = 3,
    .max_operands = 3,
    .usage_status = CLI_USAGE,
    .run = run,
};
