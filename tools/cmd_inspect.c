/* SPDX-License-Identifier: ISC */
#include <string.h>

#include "io/base.h"
#include "tools/commands.h"
#include "tools/inspect.h"

static const cli_option options[] = {
    [INSPECT_DOT] = {0, "dot", NULL, "tree: a picture for dot(1); several REVs show what they share"},
    [INSPECT_LIMIT] = {0, "limit", "N", "tree --dot: N nodes at most (500)"},
    [INSPECT_DEPTH] = {0, "depth", "N", "tree: the N highest levels only"},
    [INSPECT_RECORDS] = {'r', "records", NULL, "log: the records in every frame as well"},
    [INSPECT_SEGMENT] = {0, "segment", "N", "log: logical segment N only"},
    [INSPECT_JSON] = {0, "json", NULL, "super, log, segments, tree: one object a line"},
};

static const struct view {
    const char *name;
    int min, max;     /* operands, image and view included; max -1: any number */
    unsigned options; /* bits by index */
    int (*run)(const cli *c);
} views[] = {
    {"super", 2, 2, 1u << INSPECT_JSON, inspect_super},
    {"log", 2, 2, 1u << INSPECT_JSON | 1u << INSPECT_RECORDS | 1u << INSPECT_SEGMENT, inspect_log},
    {"segments", 2, 2, 1u << INSPECT_JSON, inspect_segments},
    {"tree", 3, -1, 1u << INSPECT_JSON | 1u << INSPECT_DOT | 1u << INSPECT_DEPTH | 1u << INSPECT_LIMIT, inspect_tree},
    {"node", 3, 3, 0, inspect_node},
};

static int run(cli *c)
{
    const char *name = cli_operand(c, 1);
    for (size_t i = 0; i < CMB_COUNTOF(views); i++) {
        const struct view *v = &views[i];
        if (strcmp(v->name, name) != 0)
            continue;
        if (c->operand_count < v->min || (v->max >= 0 && c->operand_count > v->max))
            return cli_usage(c, "%s: too %s operands", name, c->operand_count < v->min ? "few" : "many");
        for (unsigned o = 0; o < CMB_COUNTOF(options); o++) {
            if (cli_has(c, (int)o) && (v->options >> o & 1) == 0)
                return cli_usage(c, "%s has no option --%s", name, options[o].name);
        }
        return cli_end_output(v->run(c));
    }
    return cli_usage(c, "neither super, log, segments, tree nor node: %s", name);
}

const cli_command cmd_inspect = {
    .name = "inspect",
    .summary = "looks at the bytes of an image, damaged ones included",
    .synopsis = "inspect IMAGE super [--json]\n"
                "inspect IMAGE log [--segment N] [--records] [--json]\n"
                "inspect IMAGE segments [--json]\n"
                "inspect IMAGE tree REV... [--depth N] [--dot [--limit N] | --json]\n"
                "inspect IMAGE node ADDR",
    .details = "super needs no valid image; log, segments and node read around what is damaged, without superblocks too;\n"
               "tree needs refs. In a picture a node that several REVs share stands once, in the colours of all of them.\n"
               "ADDR is a logical address as the other views and fsck print it, decimal or with 0x. Exit status 3\n"
               "says that damage was met; what could be read was shown.",
    .examples = "cambium inspect data.cmb super\n"
                "cambium inspect data.cmb log --records | less\n"
                "cambium inspect data.cmb tree main --depth 2\n"
                "cambium inspect data.cmb tree main feature --dot | dot -Tsvg > shared.svg\n"
                "cambium inspect data.cmb node 4198512",
    .options = options,
    .option_count = CMB_COUNTOF(options),
    .min_operands = 2,
    .max_operands = -1,
    .usage_status = CLI_USAGE,
    .run = run,
};
