/* SPDX-License-Identifier: ISC */
#include "tools/strategy.h"

#include <string.h>

#include "io/base.h"

static const struct {
    const char *name;
    cmb_merge_fn fn;
} strategies[] = {{"fail", cmb_merge_fail},   {"ours", cmb_merge_ours},       {"theirs", cmb_merge_theirs},
                  {"union", cmb_merge_union}, {"counter", cmb_merge_counter}, {"json", cmb_merge_json}};

bool strategy_parse(const cli *c, int option, cmb_merge_fn *out_fn)
{
    const char *name = cli_value(c, option, NULL);
    *out_fn = NULL;
    if (!name)
        return true;
    for (size_t i = 0; i < CMB_COUNTOF(strategies); i++)
        if (strcmp(strategies[i].name, name) == 0) {
            *out_fn = strategies[i].fn;
            return true;
        }
    cli_usage(c, "--%s: unknown strategy %s; known: " STRATEGY_NAMES, c->command->options[option].name, name);
    return false;
}
