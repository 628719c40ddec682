/* SPDX-License-Identifier: ISC */
#include "io/base.h"
#include "tools/commands.h"
#include "tools/strategy.h"
#include "tools/taking.h"

enum { STRATEGY, TAGS, DEPTH, NAME, UNTRUSTED, JSON };
static const cli_option options[] = {
    [STRATEGY] = {'s', "strategy", "NAME", "merges branches that diverged: " STRATEGY_NAMES},
    [TAGS] = {0, "tags", NULL, "all tags as well; one that stands elsewhere here is left where it is"},
    [DEPTH] = {0, "depth", "N", "N commits of each branch; what lies below is then missing for good"},
    [NAME] = {0, "name", "NAME", "what the branches that keep their heads begin with (the name of FROM)"},
    [UNTRUSTED] = {0, "untrusted", NULL, "only into an image whose hash is cryptographic"},
    [JSON] = {0, "json", NULL, "one object a branch or tag, and one a line"},
};
static const taking_options which = {.strategy = STRATEGY, .name = NAME, .untrusted = UNTRUSTED, .json = JSON};

static int pull(taking *t, const char *from)
{
    cmb_store *store, *source;
    cmb_sync_stats stats = {0};
    int status = taking_open_source(from, t->options.names, t->options.name_count, &source);
    if (status)
        return status;
    status = cli_open(t->c, true, &store);
    if (!status) {
        int rc = cmb_pull(store, source, &t->options, &stats);
        status = cli_close(t->c, store, taking_end(t, rc, from, &stats));
    }
    int rc = cmb_store_close(source);
    return rc && status == 0 ? cli_fail_on(from, rc) : status;
}

static int run(cli *c)
{
    taking t;
    uint64_t depth = 0;
    const char *from = cli_operand(c, 1);
    if (!cli_u64(c, DEPTH, &depth))
        return CLI_USAGE;
    if (cli_has(c, DEPTH) && (depth == 0 || depth > UINT32_MAX))
        return cli_usage(c, "--depth: not a number of commits: %s", c->values[DEPTH]);
    int status = taking_begin(&t, c, &which, from);
    if (status)
        return status;
    t.options.names = c->operands + 2;
    t.options.name_count = (size_t)c->operand_count - 2;
    t.options.tags = cli_has(c, TAGS);
    t.options.depth = (uint32_t)depth;
    return cli_end_output(pull(&t, from));
}

const cli_command cmd_pull = {
    .name = "pull",
    .summary = "takes branches and their history from another image",
    .synopsis = "pull IMAGE FROM [BRANCH...] [--strategy NAME] [--tags] [--depth N] [--name NAME] [--untrusted] [--json]",
    .details = "Without BRANCH: all branches of FROM. Only what is missing is taken, and all of it or nothing. A branch\n"
               "that is new here is made, one that FROM's contains moves forward. One that diverged stays where it is,\n"
               "and FROM's head is kept as branch NAME/BRANCH, unless --strategy says how to merge: peers that\n"
               "merge each other so, with fail, union, counter or json, end with equal heads. Conflicts leave the branch as it is, too.\n"
               "A working state of FROM is sealed into a commit first. Both images need the same node size, seed and\n"
               "hash: 'cambium init NEW --like FROM'. Exit status 1: some branch diverged or is in conflict.",
    .examples = "cambium init copy.cmb --like data.cmb && cambium pull copy.cmb data.cmb\n"
                "cambium pull data.cmb copy.cmb main --strategy json\n"
                "cambium pull thin.cmb data.cmb main --depth 1",
    .options = options,
    .option_count = CMB_COUNTOF(options),
    .min_operands = 2,
    .max_operands = -1,
    .usage_status = CLI_USAGE,
    .run = run,
};
