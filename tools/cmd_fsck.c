/* SPDX-License-Identifier: ISC */
#include <inttypes.h>

#include <cambium/inspect.h>

#include "io/base.h"
#include "tools/commands.h"
#include "tools/json.h"
#include "tools/progress.h"
#include "tools/text.h"

enum { QUICK, STRUCTURE, FULL, JSON };
static const cli_option options[] = {
    [QUICK] = {0, "quick", NULL, "superblocks, the log's tail, the segment table, refs and their commits"},
    [STRUCTURE] = {0, "structure", NULL, "and all inner nodes: reachability, counts (this is the default)"},
    [FULL] = {0, "full", NULL, "and every leaf, every value's bytes, every frame of the log, the shape of trees"},
    [JSON] = {0, "json", NULL, "one object a line: findings, then the result"},
};

typedef struct check {
    const cli *c;
    progress progress;
    uint64_t findings;
} check;

static int show_finding(void *ctx, const cmb_finding *finding)
{
    check *k = ctx;
    k->findings++;
    progress_end(&k->progress);
    if (cli_has(k->c, JSON)) {
        json j = {.out = stdout};
        json_put_object(&j, NULL);
        json_put_string(&j, "finding", finding->code);
        json_put_string(&j, "error", cmb_error_name(finding->error));
        json_put_u64(&j, "address", finding->addr);
        json_put_string(&j, "text", finding->text);
        json_put_string(&j, "where", finding->where);
        json_put_object_end(&j);
        json_end_line(&j);
        return 0;
    }
    printf("%s: %s", finding->code, finding->text);
    if (finding->where[0] != '\0')
        printf("; hurts %s", finding->where);
    putchar('\n');
    return 0;
}

static void show_progress(void *ctx, uint64_t done, uint64_t total)
{
    check *k = ctx;
    progress_at(&k->progress, 0, done, total);
}

static void show_result(const check *k, const cmb_fsck_result *r)
{
    uint64_t elapsed = progress_elapsed(&k->progress);
    if (cli_has(k->c, JSON)) {
        json j = {.out = stdout};
        json_put_object(&j, NULL);
        json_put_string(&j, "result", r->findings ? "damaged" : "clean");
#define MEMBER(name) json_put_u64(&j, #name, r->name)
        MEMBER(findings);
        MEMBER(superblocks);
        MEMBER(table_pages);
        MEMBER(frames);
        MEMBER(nodes);
        MEMBER(leaves);
        MEMBER(values);
        MEMBER(commits);
        MEMBER(refs);
        MEMBER(bytes);
#undef MEMBER
        json_put_real(&j, "seconds", (double)elapsed / 1e9);
        json_put_object_end(&j);
        json_end_line(&j);
        return;
    }
    text_buf refs, commits, nodes, leaves, values, bytes, rate;
    printf("%s: %s: %s refs, %s commits, %s inner nodes, %s leaves, %s large values; %s read in %.2f s, %s\n",
           cli_image(k->c), r->findings ? "DAMAGED" : "clean", text_count(&refs, r->refs),
           text_count(&commits, r->commits), text_count(&nodes, r->nodes), text_count(&leaves, r->leaves),
           text_count(&values, r->values), text_size(&bytes, r->bytes), (double)elapsed / 1e9,
           text_rate(&rate, r->bytes, elapsed));
}

/* The image did not even open: damage is a finding, anything else means that nothing was checked. */
static int not_opened(check *k, int error)
{
    if (error != CMB_ECORRUPT) {
        cli_fail(k->c, error);
        return CLI_FSCK_NOT_RUN;
    }
    char text[520];
    snprintf(text, sizeof(text), "%s", cmb_error_detail());
    show_finding(k, &(cmb_finding){.code = "open-refused", .error = error, .text = text, .where = "everything"});
    show_result(k, &(cmb_fsck_result){.findings = k->findings});
    return CLI_FSCK_DAMAGED;
}

static int check_image(check *k, cmb_fsck_level level)
{
    cmb_store *store;
    cmb_store_options open = {.read_only = true, .allow_no_durability = true};
    cmb_fsck_result result;
    int rc = cmb_store_open(cli_image(k->c), &open, &store);
    if (rc)
        return not_opened(k, rc);
    cmb_fsck_options fsck = {.level = level, .on_finding = show_finding, .on_progress = show_progress, .ctx = k};
    rc = cmb_fsck(store, &fsck, &result);
    progress_end(&k->progress);
    int status = CLI_FSCK_CLEAN;
    if (rc) {
        cli_fail(k->c, rc);
        status = CLI_FSCK_NOT_RUN | (k->findings ? CLI_FSCK_DAMAGED : 0);
    } else {
        show_result(k, &result);
        status = result.findings ? CLI_FSCK_DAMAGED : CLI_FSCK_CLEAN;
    }
    rc = cmb_store_close(store);
    if (rc && status == CLI_FSCK_CLEAN) {
        cli_fail(k->c, rc);
        status = CLI_FSCK_NOT_RUN;
    }
    return status;
}

static int run(cli *c)
{
    check k = {.c = c};
    if (cli_has(c, QUICK) + cli_has(c, STRUCTURE) + cli_has(c, FULL) > 1)
        return cli_usage(c, "--quick, --structure and --full: give one of them");
    progress_begin(&k.progress, "fsck");
    int status = check_image(&k, cli_has(c, QUICK)  ? CMB_FSCK_QUICK
                                 : cli_has(c, FULL) ? CMB_FSCK_FULL
                                                    : CMB_FSCK_STRUCTURE);
    return cli_end_output(status) == CLI_OUTPUT ? CLI_FSCK_NOT_RUN : status;
}

const cli_command cmd_fsck = {
    .name = "fsck",
    .summary = "looks for damage, changes nothing",
    .synopsis = "fsck IMAGE [--quick | --structure | --full] [--json]",
    .details = "Works beside a live writer: it checks the last durable state as of its start. Each finding is one\n"
               "line: its code, what was expected and found, and which refs and keys it hurts.",
    .examples = "cambium fsck data.cmb\n"
                "cambium fsck data.cmb --full\n"
                "cambium fsck data.cmb --quick --json | jq -r .finding",
    .options = options,
    .option_count = CMB_COUNTOF(options),
    .min_operands = 1,
    .max_operands = 1,
    .statuses = cli_fsck_statuses,
    .usage_status = CLI_FSCK_USAGE,
    .run = run,
};
