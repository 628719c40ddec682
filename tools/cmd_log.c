/* SPDX-License-Identifier: ISC */
#include <string.h>

#include "io/base.h"
#include "tools/commands.h"
#include "tools/refs.h"
#include "tools/text.h"

enum { LIMIT, ONELINE, JSON };
static const cli_option options[] = {
    [LIMIT] = {'n', "limit", "N", "at most N commits"},
    [ONELINE] = {0, "oneline", NULL, "one line a commit: id, time, first line of the message"},
    [JSON] = {0, "json", NULL, "one object a line"},
};

typedef struct history {
    const cli *c;
    uint64_t limit, shown;
} history;

static void print_line(const cmb_commit *commit)
{
    text_buf id, time;
    printf("%s %s ", text_name(&id, &commit->id, 12), text_time(&time, commit->time));
    text_print_field(stdout, commit->message, strcspn(commit->message, "\n"));
    putchar('\n');
}

static int show(void *ctx, const cmb_commit *commit)
{
    history *h = ctx;
    if (h->shown == h->limit || !cli_output_ok(stdout))
        return 1;
    if (cli_has(h->c, JSON)) {
        json j = {.out = stdout};
        json_object(&j, NULL);
        refs_commit_json(&j, commit);
        json_object_end(&j);
        json_end_line(&j);
    } else if (cli_has(h->c, ONELINE)) {
        print_line(commit);
    } else {
        if (h->shown > 0)
            putchar('\n');
        refs_commit_print(commit);
    }
    h->shown++;
    return 0;
}

static int run(cli *c)
{
    history h = {.c = c, .limit = UINT64_MAX};
    const char *rev = cli_operand(c, 1);
    cmb_store *store;
    if (!cli_u64(c, LIMIT, &h.limit))
        return CLI_USAGE;
    if (cli_has(c, JSON) && cli_has(c, ONELINE))
        return cli_usage(c, "--json and --oneline: give one of them");
    int status = cli_open(c, false, &store);
    if (status)
        return status;
    int rc = cmb_log_first_parents(store, rev ? rev : "main", show, &h);
    status = rc && rc != CMB_ESTOPPED ? cli_fail(c, rc) : CLI_OK;
    return cli_end_output(cli_close(c, store, status));
}

const cli_command cmd_log = {
    .name = "log",
    .summary = "shows commits, newest first, along first parents",
    .synopsis = "log IMAGE [REV] [--limit N] [--oneline | --json]",
    .details = "Without REV: of main. A working state is no commit: the list begins below it.",
    .examples = "cambium log data.cmb\n"
                "cambium log data.cmb feature --limit 5 --oneline\n"
                "cambium log data.cmb --json | jq -r .message",
    .options = options,
    .option_count = CMB_COUNTOF(options),
    .min_operands = 1,
    .max_operands = 2,
    .usage_status = CLI_USAGE,
    .run = run,
};
