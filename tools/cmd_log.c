/* SPDX-License-Identifier: ISC */
#include <stdlib.h>
#include <string.h>

#include <cambium/history.h>

#include "io/base.h"
#include "tools/commands.h"
#include "tools/keys.h"
#include "tools/refs.h"
#include "tools/text.h"

enum { LIMIT, ONELINE, JSON, TOPO, DATE, FIRST_PARENT, PREFIX, HEX };
static const cli_option options[] = {
    [LIMIT] = {'n', "limit", "N", "at most N commits"},
    [ONELINE] = {0, "oneline", NULL, "one line a commit: id, time, first line of the message"},
    [JSON] = {0, "json", NULL, "one object a line"},
    [TOPO] = {0, "topo-order", NULL, "a merged side's commits stand together"},
    [DATE] = {0, "date-order", NULL, "the newest first, as far as parents come after children; the default"},
    [FIRST_PARENT] = {0, "first-parent", NULL, "of a merge only its first parent is followed"},
    [PREFIX] = {'p', "prefix", "P", "only what changed a key that begins with P"},
    [HEX] = {'x', "hex", NULL, "KEY and P are hexadecimal"},
};

typedef struct listing {
    const cli *c;
    uint64_t shown;
} listing;

static void print_line(const cmb_commit *commit)
{
    text_buf id, time;
    printf("%s %s ", text_name(&id, &commit->id, 12), text_time(&time, commit->time));
    text_print_field(stdout, commit->message, strcspn(commit->message, "\n"));
    putchar('\n');
}

static int show(void *ctx, const cmb_commit *commit)
{
    listing *l = ctx;
    if (!cli_output_ok(stdout))
        return 1;
    if (cli_has(l->c, JSON)) {
        json j = {.out = stdout};
        json_put_object(&j, NULL);
        refs_commit_json(&j, commit);
        json_put_object_end(&j);
        json_end_line(&j);
    } else if (cli_has(l->c, ONELINE)) {
        print_line(commit);
    } else {
        if (l->shown > 0)
            putchar('\n');
        refs_commit_print(commit);
    }
    l->shown++;
    return 0;
}

/* What is asked for: REV, or A..B in memory of its own. */
typedef struct span {
    char *memory;
    const char *rev, *excluded; /* NULL: nothing is excluded */
} span;

static int parse_span(const cli *c, const char *text, span *out)
{
    char *dots = strstr(text, "..");
    *out = (span){.rev = text};
    if (!dots)
        return CLI_OK;
    if (dots[2] == '.' || strstr(dots + 2, ".."))
        return cli_usage(c, "not A..B: %s", text);
    out->memory = strdup(text);
    if (!out->memory)
        return cli_say(CLI_IMAGE, "log", "out of memory");
    char *middle = out->memory + (dots - text);
    *middle = '\0';
    out->excluded = *out->memory ? out->memory : "main";
    out->rev = middle[2] ? middle + 2 : "main";
    return CLI_OK;
}

static int list(const cli *c, cmb_store *store, const span *s, const keys *k, uint64_t limit)
{
    listing l = {.c = c};
    cmb_history_options o = {.revs = &s->rev,
                             .rev_count = 1,
                             .excluded = &s->excluded,
                             .excluded_count = s->excluded != NULL,
                             .order = cli_has(c, TOPO) ? CMB_HISTORY_TOPO : CMB_HISTORY_DATE,
                             .first_parent = cli_has(c, FIRST_PARENT),
                             .limit = limit,
                             .ranges = k->ranges,
                             .range_count = k->count};
    int rc = cmb_history(store, &o, show, &l);
    return rc && rc != CMB_ESTOPPED ? cli_fail(c, rc) : CLI_OK;
}

static int run(cli *c)
{
    const char *rev = cli_operand(c, 1);
    uint64_t limit = UINT64_MAX;
    cmb_store *store;
    span s = {.memory = NULL};
    keys k;
    if (!cli_u64(c, LIMIT, &limit))
        return CLI_USAGE;
    if (cli_has(c, JSON) && cli_has(c, ONELINE))
        return cli_usage(c, "--json and --oneline: give one of them");
    if (cli_has(c, TOPO) && cli_has(c, DATE))
        return cli_usage(c, "--topo-order and --date-order: give one of them");
    int status = keys_parse(c, 2, cli_value(c, PREFIX, NULL), cli_has(c, HEX), &k);
    if (!status)
        status = parse_span(c, rev ? rev : "main", &s);
    if (!status)
        status = cli_open(c, false, &store);
    if (!status) {
        if (limit > 0)
            status = list(c, store, &s, &k, limit);
        status = cli_end_output(cli_close(c, store, status));
    }
    free(s.memory);
    keys_release(&k);
    return status;
}

const cli_command cmd_log = {
    .name = "log",
    .summary = "shows commits: a history, or who changed a key",
    .synopsis = "log IMAGE [REV | A..B] [KEY...] [--prefix P] [--hex] [--limit N] [--topo-order | --date-order]\n"
                "    [--first-parent] [--oneline | --json]",
    .details = "REV and its ancestors, without REV those of main; A..B: those of B that are not of A, either of\n"
               "them main if left out. A working state is no commit: the list begins below it. Children come\n"
               "before parents, otherwise the newest first.\n"
               "With KEYs or a prefix: only commits that changed one of them against all their parents. Where a\n"
               "parent has the same, only the first such parent is followed: the shortest history that explains\n"
               "what is there. A deleted key has a history, too.",
    .examples = "cambium log data.cmb\n"
                "cambium log data.cmb main..feature --limit 5 --oneline\n"
                "cambium log data.cmb main user:1\n"
                "cambium log data.cmb main --prefix src/ --topo-order\n"
                "cambium log data.cmb --json | jq -r .message",
    .options = options,
    .option_count = CMB_COUNTOF(options),
    .min_operands = 1,
    .max_operands = -1,
    .usage_status = CLI_USAGE,
    .run = run,
};
