/* SPDX-License-Identifier: ISC */
#include <string.h>

#include "io/base.h"
#include "tools/commands.h"
#include "tools/input.h"
#include "tools/progress.h"

enum { BRANCH, MESSAGE, AUTHOR, FILE_, HEX };
static const cli_option options[] = {
    [BRANCH] = {'b', "branch", "BRANCH", "the branch to write (main)"},
    [MESSAGE] = {'m', "message", "MSG", "makes a permanent commit with this message"},
    [AUTHOR] = {'a', "author", "NAME", "who makes the commit ($CAMBIUM_AUTHOR, $USER or unknown)"},
    [FILE_] = {0, "file", "FILE", "reads the value from FILE"},
    [HEX] = {'x', "hex", NULL, "KEY is hexadecimal"},
};

/* The input up to its end becomes the value: at once if it is short, else as a stream. */
static int put_stream(cmb_txn *txn, cmb_bytes key, input *in, int *out_input_error)
{
    static uint8_t piece[INPUT_BUFFER];
    size_t n;
    progress p;
    int rc = input_read(in, piece, sizeof(piece), &n);
    if (rc)
        return *out_input_error = rc;
    if (n < sizeof(piece))
        return cmb_txn_put(txn, key, (cmb_bytes){piece, n});
    rc = cmb_txn_value_begin(txn, key);
    if (rc)
        return rc;
    progress_begin(&p, "put");
    while (n > 0) {
        rc = cmb_txn_value_add(txn, piece, n);
        if (rc)
            break;
        progress_at(&p, 0, in->offset, 0);
        rc = *out_input_error = input_read(in, piece, sizeof(piece), &n);
        if (rc)
            break;
    }
    progress_end(&p);
    if (rc) {
        cmb_txn_value_abort(txn);
        return rc;
    }
    return cmb_txn_value_finish(txn);
}

/* The value, from wherever it comes, into a transaction that is committed. Returns the exit status. */
static int put(const cli *c, cmb_store *store, cmb_bytes key, const char *value, input *in)
{
    cmb_txn *txn;
    cmb_commit_info info;
    int input_error = 0;
    int rc = cmb_txn_begin(store, cli_value(c, BRANCH, "main"), 0, &txn);
    if (rc)
        return cli_fail(c, rc);
    rc = in ? put_stream(txn, key, in, &input_error) : cmb_txn_put(txn, key, (cmb_bytes){value, strlen(value)});
    if (rc) {
        int status = input_error ? (cli_fail_on(in->name, rc), CLI_INPUT) : cli_fail(c, rc);
        cmb_txn_abort(txn);
        return status;
    }
    rc = cli_commit(txn, cli_commit_info(c, MESSAGE, AUTHOR, &info), NULL);
    return rc ? cli_fail(c, rc) : CLI_OK;
}

static int run(cli *c)
{
    static uint8_t room[CMB_KEY_MAX];
    const char *value = cli_operand(c, 2);
    const char *file = cli_value(c, FILE_, NULL);
    cmb_bytes key;
    input *in = NULL;
    cmb_store *store;
    if (value && file)
        return cli_usage(c, "a VALUE and --file: give one of them");
    if (!cli_key(c, cli_operand(c, 1), cli_has(c, HEX), room, &key))
        return CLI_USAGE;
    if (!value || strcmp(value, "-") == 0) {
        int rc = input_open(file ? file : "-", &in);
        if (rc) {
            cli_fail_on(file ? file : "standard input", rc);
            return CLI_INPUT;
        }
    }
    int status = cli_open(c, true, &store);
    if (!status)
        status = cli_close(c, store, put(c, store, key, value, in));
    input_close(in);
    return status;
}

const cli_command cmd_put = {
    .name = "put",
    .summary = "writes one key",
    .synopsis = "put IMAGE KEY [VALUE|-] [-b BRANCH] [-m MSG] [-a NAME] [--file FILE] [--hex]",
    .details = "Without VALUE, or with -, the value is standard input up to its end, in pieces and of any size up\n"
               "to 4 GiB. Without -m and -a the branch's working state advances: durable, but no commit.",
    .examples = "cambium put data.cmb greeting 'hello, world'\n"
                "cambium put data.cmb photo --file photo.jpg -m 'a photo'\n"
                "tar c src | cambium put data.cmb src.tar -b backup\n"
                "cambium put data.cmb -x 00ff 'a key that is no text'",
    .options = options,
    .option_count = CMB_COUNTOF(options),
    .min_operands = 2,
    .max_operands = 3,
    .usage_status = CLI_USAGE,
    .run = run,
};
