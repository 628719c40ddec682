/* SPDX-License-Identifier: ISC */
#include "io/base.h"
#include "tools/commands.h"
#include "tools/json.h"
#include "tools/text.h"

enum { LIMIT, JSON };
static const cli_option options[] = {
    [LIMIT] = {'n', "limit", "N", "at most N entries"},
    [JSON] = {0, "json", NULL, "one object a line: time, reason, before, after"},
};

typedef struct listing {
    const cli *c;
    uint64_t limit, shown;
} listing;

static const char *reason_name(cmb_reflog_reason reason)
{
    static const char *const names[] = {
        [CMB_REFLOG_CREATED] = "created", [CMB_REFLOG_COMMITTED] = "committed", [CMB_REFLOG_SET] = "set",
        [CMB_REFLOG_DELETED] = "deleted", [CMB_REFLOG_SEALED] = "sealed",       [CMB_REFLOG_MERGED] = "merged",
    };
    return (unsigned)reason < CMB_COUNTOF(names) && names[reason] ? names[reason] : "unknown";
}

static int show(void *ctx, const cmb_reflog_entry *entry)
{
    listing *l = ctx;
    text_buf before, after, time;
    if (l->shown == l->limit || !cli_output_ok(stdout))
        return 1;
    l->shown++;
    if (cli_has(l->c, JSON)) {
        json j = {.out = stdout};
        json_put_object(&j, NULL);
        json_put_time(&j, "time", entry->time);
        json_put_string(&j, "reason", reason_name(entry->reason));
        json_put_name(&j, "before", &entry->before);
        json_put_name(&j, "after", &entry->after);
        json_put_object_end(&j);
        json_end_line(&j);
        return 0;
    }
    printf("%-12s %-12s %s %s\n", text_name(&before, &entry->before, 12), text_name(&after, &entry->after, 12),
           text_time(&time, entry->time), reason_name(entry->reason));
    return 0;
}

static int run(cli *c)
{
    listing l = {.c = c, .limit = UINT64_MAX};
    const char *ref = cli_operand(c, 1);
    cmb_store *store;
    if (!cli_u64(c, LIMIT, &l.limit))
        return CLI_USAGE;
    int status = cli_open(c, false, &store);
    if (status)
        return status;
    int rc = cmb_reflog(store, ref ? ref : "main", show, &l);
    status = rc && rc != CMB_ESTOPPED ? cli_fail(c, rc) : CLI_OK;
    return cli_end_output(cli_close(c, store, status));
}

const cli_command cmd_reflog = {
    .name = "reflog",
    .summary = "shows where a branch or tag stood",
    .synopsis = "reflog IMAGE [BRANCH | tags/TAG] [--limit N] [--json]",
    .details = "A line a move, the newest first: the commit before, the commit after (- is none), when and why:\n"
               "created, committed, set, deleted, sealed (a working state that was named became a commit), merged.\n"
               "Without BRANCH: of main. Deleted branches and tags are remembered, too; the last thousand moves of\n"
               "each are. Working states leave no trace.",
    .examples = "cambium reflog data.cmb\n"
                "cambium reflog data.cmb feature --limit 1\n"
                "cambium reflog data.cmb tags/v1.0 --json",
    .options = options,
    .option_count = CMB_COUNTOF(options),
    .min_operands = 1,
    .max_operands = 2,
    .usage_status = CLI_USAGE,
    .run = run,
};
