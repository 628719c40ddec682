/* SPDX-License-Identifier: ISC */
#include "io/base.h"
#include "tools/commands.h"
#include "tools/values.h"

enum { AT, BRANCH, HEX };
static const cli_option options[] = {
    [AT] = {0, "at", "REV", "the state to read (main)"},
    [BRANCH] = {'b', "branch", "BRANCH", "the same for a branch"},
    [HEX] = {'x', "hex", NULL, "KEY is hexadecimal"},
};

static int get(const cli *c, cmb_store *store, const char *rev, cmb_bytes key)
{
    cmb_snapshot *snapshot;
    cmb_value_stream *stream;
    int rc = cmb_snapshot_open(store, rev, &snapshot);
    if (rc)
        return cli_fail(c, rc);
    rc = cmb_value_open(snapshot, key, &stream);
    if (rc == 0) {
        rc = value_copy_raw(stream, stdout);
        cmb_value_close(stream);
    }
    int status = rc == 0 ? CLI_OK : rc == CMB_ENOTFOUND ? value_not_found(c, key, rev) : cli_fail(c, rc);
    cmb_snapshot_close(snapshot);
    return status;
}

static int run(cli *c)
{
    static uint8_t room[CMB_KEY_MAX];
    cmb_bytes key;
    cmb_store *store;
    const char *rev;
    if (!value_rev(c, AT, BRANCH, &rev) || !cli_key(c, cli_operand(c, 1), cli_has(c, HEX), room, &key))
        return CLI_USAGE;
    int status = cli_open(c, false, &store);
    if (status)
        return status;
    status = get(c, store, rev, key);
    return cli_end_output(cli_close(c, store, status));
}

const cli_command cmd_get = {
    .name = "get",
    .summary = "writes the value of one key to standard output, byte for byte",
    .synopsis = "get IMAGE KEY [--at REV | -b BRANCH] [--hex]",
    .details = NULL,
    .examples = "cambium get data.cmb greeting\n"
                "cambium get data.cmb src.tar -b backup | tar t\n"
                "cambium get data.cmb greeting --at main~1",
    .options = options,
    .option_count = CMB_COUNTOF(options),
    .min_operands = 2,
    .max_operands = 2,
    .usage_status = CLI_USAGE,
    .run = run,
};
