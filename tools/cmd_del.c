/* SPDX-License-Identifier: ISC */
#include "io/base.h"
#include "tools/commands.h"
#include "tools/values.h"

enum { BRANCH, MESSAGE, AUTHOR, HEX, FORCE };
static const cli_option options[] = {
    [BRANCH] = {'b', "branch", "BRANCH", "the branch to write (main)"},
    [MESSAGE] = {'m', "message", "MSG", "makes a permanent commit with this message"},
    [AUTHOR] = {'a', "author", "NAME", "who makes the commit ($CAMBIUM_AUTHOR, $USER or unknown)"},
    [HEX] = {'x', "hex", NULL, "the keys are hexadecimal"},
    [FORCE] = {'f', "force", NULL, "a key that is not there is no error"},
};

/* Each key once, all in one transaction. Returns the exit status. */
static int del_all(const cli *c, cmb_txn *txn)
{
    static uint8_t room[CMB_KEY_MAX];
    for (int i = 1; i < c->operand_count; i++) {
        cmb_bytes key;
        if (!cli_key(c, c->operands[i], cli_has(c, HEX), room, &key))
            return CLI_USAGE;
        int rc = cmb_txn_del(txn, key);
        if (rc == CMB_ENOTFOUND && cli_has(c, FORCE))
            continue;
        if (rc == CMB_ENOTFOUND)
            return value_not_found(c, key, cli_value(c, BRANCH, "main"));
        if (rc)
            return cli_fail(c, rc);
    }
    return CLI_OK;
}

static int del(const cli *c, cmb_store *store)
{
    cmb_txn *txn;
    cmb_commit_info info;
    int rc = cmb_txn_begin(store, cli_value(c, BRANCH, "main"), 0, &txn);
    if (rc)
        return cli_fail(c, rc);
    int status = del_all(c, txn);
    if (status) {
        cmb_txn_abort(txn);
        return status;
    }
    rc = cli_commit(txn, cli_commit_info(c, MESSAGE, AUTHOR, &info), NULL);
    return rc ? cli_fail(c, rc) : CLI_OK;
}

static int run(cli *c)
{
    cmb_store *store;
    int status = cli_open(c, true, &store);
    return status ? status : cli_close(c, store, del(c, store));
}

const cli_command cmd_del = {
    .name = "del",
    .summary = "deletes keys, all of them or none",
    .synopsis = "del IMAGE KEY... [-b BRANCH] [-m MSG] [-a NAME] [--hex] [--force]",
    .details = "Without -m and -a the branch's working state advances: durable, but no commit.",
    .examples = "cambium del data.cmb greeting\n"
                "cambium del data.cmb a b c -m 'three less'\n"
                "cambium del data.cmb -f perhaps",
    .options = options,
    .option_count = CMB_COUNTOF(options),
    .min_operands = 2,
    .max_operands = -1,
    .usage_status = CLI_USAGE,
    .run = run,
};
