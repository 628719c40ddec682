/* SPDX-License-Identifier: ISC */
#include <inttypes.h>
#include <string.h>

#include <cambium/salvage.h>

#include "io/base.h"
#include "tools/commands.h"
#include "tools/json.h"
#include "tools/progress.h"
#include "tools/text.h"

enum { FORCE, LIST, NODE_SIZE, SEED, JSON };
static const cli_option options[] = {
    [FORCE] = {0, "force", NULL, "overwrite what is at OUT"},
    [LIST] = {0, "list", "FILE", "write what was lost to FILE, not to standard output"},
    [NODE_SIZE] = {0, "node-size", "N", "IMAGE's, where no superblock is left; otherwise it is found out"},
    [SEED] = {0, "seed", "HEX", "IMAGE's, where no superblock is left and it was not the default"},
    [JSON] = {0, "json", NULL, "one object a line: what was lost, then the result"},
};

enum { COMPLETE = 0, LOST = 1, NOT_RUN = 8, USAGE = 16 };
static const cli_status_text statuses[] = {
    {COMPLETE, "everything is in the new image"},
    {LOST, "something was lost: the list says what; all the rest is in the new image"},
    {NOT_RUN, "nothing could be salvaged, or not to the end: what is at OUT is not to be used"},
    {USAGE, "wrong usage"},
    {0, NULL},
};

typedef struct salvage {
    const cli *c;
    FILE *list;
    progress progress;
    const char *stage;
} salvage;

static void show_json(FILE *out, const cmb_loss *loss)
{
    json j = {.out = out};
    json_put_object(&j, NULL);
    json_put_string(&j, "loss", cmb_loss_code(loss->kind));
    json_put_bool(&j, "lost", cmb_loss_is_lost(loss->kind));
    json_put_string(&j, "where", loss->where);
    if (loss->kind == CMB_LOSS_VALUE) {
        json_put_bytes(&j, "key", loss->last.data, loss->last.size);
    } else if (loss->kind == CMB_LOSS_KEYS || loss->kind == CMB_LOSS_REFS || loss->kind == CMB_LOSS_COMMITS) {
        if (loss->after.size)
            json_put_bytes(&j, "after", loss->after.data, loss->after.size);
        else
            json_put_null(&j, "after");
        if (loss->last.size)
            json_put_bytes(&j, "last", loss->last.data, loss->last.size);
        else
            json_put_null(&j, "last");
    }
    json_put_u64(&j, "address", loss->addr);
    if (loss->error)
        json_put_string(&j, "error", cmb_error_name(loss->error));
    json_put_string(&j, "text", loss->text);
    json_put_object_end(&j);
    json_end_line(&j);
}

static void show_range(FILE *out, const cmb_loss *loss)
{
    char after[400], last[400];
    text_field_of(after, sizeof(after), loss->after.data, loss->after.size);
    text_field_of(last, sizeof(last), loss->last.data, loss->last.size);
    if (loss->kind == CMB_LOSS_VALUE)
        fprintf(out, " \"%s\"", last);
    else if (loss->after.size && loss->last.size)
        fprintf(out, " beyond \"%s\" up to \"%s\"", after, last);
    else if (loss->last.size)
        fprintf(out, " up to \"%s\"", last);
    else if (loss->after.size)
        fprintf(out, " beyond \"%s\"", after);
    else
        fputs(" all", out);
}

static void show_line(FILE *out, const cmb_loss *loss)
{
    bool ranged = loss->kind == CMB_LOSS_KEYS || loss->kind == CMB_LOSS_VALUE || loss->kind == CMB_LOSS_REFS || loss->kind == CMB_LOSS_COMMITS;
    fputs(cmb_loss_code(loss->kind), out);
    if (ranged || loss->where[0] != '\0')
        fputs(loss->where[0] != '\0' ? ": " : ":", out);
    text_print_field(out, loss->where, strlen(loss->where)); /* names out of a forged image may hold anything */
    if (ranged)
        show_range(out, loss);
    if (loss->text[0] != '\0')
        fputs(": ", out);
    text_print_field(out, loss->text, strlen(loss->text));
    putc('\n', out);
}

static int on_loss(void *ctx, const cmb_loss *loss)
{
    salvage *s = ctx;
    progress_end(&s->progress);
    if (cli_has(s->c, JSON))
        show_json(s->list, loss);
    else
        show_line(s->list, loss);
    return !cli_output_ok(s->list);
}

static void on_progress(void *ctx, const char *stage, uint64_t done, uint64_t total)
{
    salvage *s = ctx;
    (void)total;
    if (s->stage != stage) {
        progress_end(&s->progress);
        progress_begin(&s->progress, stage);
        s->stage = stage;
    }
    progress_at(&s->progress, done, 0, 0);
}

static void show_result(const salvage *s, const cmb_salvage_result *r)
{
    if (cli_has(s->c, JSON)) {
        json j = {.out = stdout};
        json_put_object(&j, NULL);
        json_put_string(&j, "result", r->losses ? "lost" : "complete");
#define MEMBER(name) json_put_u64(&j, #name, r->name)
        MEMBER(losses);
        MEMBER(branches);
        MEMBER(tags);
        MEMBER(commits);
        MEMBER(commits_changed);
        MEMBER(damaged);
        MEMBER(replaced);
        MEMBER(found);
#undef MEMBER
        json_put_object_end(&j);
        json_end_line(&j);
        return;
    }
    text_buf branches, tags, commits, changed, damaged, found;
    printf("%s: %s: %s branches, %s tags, %s commits (%s changed); %s nodes and values unreadable, %s entries found beside\n",
           cli_operand(s->c, 1), r->losses ? "INCOMPLETE" : "complete", text_count(&branches, r->branches), text_count(&tags, r->tags),
           text_count(&commits, r->commits), text_count(&changed, r->commits_changed), text_count(&damaged, r->damaged),
           text_count(&found, r->found));
}

static int salvage_image(salvage *s, const cmb_salvage_options *how)
{
    cmb_salvage_result result;
    progress_begin(&s->progress, "salvage");
    int rc = cmb_salvage_image(cli_image(s->c), cli_operand(s->c, 1), how, &result);
    progress_end(&s->progress);
    if (rc) {
        cli_fail_on(rc == CMB_EEXIST ? cli_operand(s->c, 1) : cli_image(s->c), rc);
        return NOT_RUN;
    }
    show_result(s, &result);
    return result.losses ? LOST : COMPLETE;
}

static bool seed_of(const cli *c, uint64_t *out_seed)
{
    uint8_t bytes[8];
    size_t size;
    if (!cli_has(c, SEED))
        return true;
    if (!text_parse_hex(c->values[SEED], bytes, sizeof(bytes), &size) || size != sizeof(bytes)) {
        cli_usage(c, "--seed: 16 hexadecimal digits are needed: %s", c->values[SEED]);
        return false;
    }
    for (size_t i = 0; i < size; i++)
        *out_seed = *out_seed << 8 | bytes[i];
    return true;
}

static int run(cli *c)
{
    salvage s = {.c = c};
    uint64_t node_size = 0, seed = 0;
    if (!cli_size(c, NODE_SIZE, &node_size) || !seed_of(c, &seed))
        return USAGE;
    if (node_size > UINT32_MAX)
        return cli_usage(c, "--node-size: too large");
    const char *list = cli_value(c, LIST, NULL), *out = cli_operand(c, 1);
    if (list && (strcmp(list, out) == 0 || cli_is_device(out, list)))
        return cli_say(NOT_RUN, list, "it is OUT itself");
    s.list = cli_output_open(cli_image(c), list);
    if (!s.list)
        return NOT_RUN;
    cmb_salvage_options how = {.force = cli_has(c, FORCE), .node_size = (uint32_t)node_size, .seed = seed, .on_loss = on_loss,
                               .on_progress = on_progress, .ctx = &s};
    int status = salvage_image(&s, &how);
    if (s.list != stdout && cli_output_close(s.list, list, CLI_OK) != CLI_OK)
        status = NOT_RUN;
    return cli_end_output(CLI_OK) == CLI_OK ? status : NOT_RUN;
}

const cli_command cmd_salvage = {
    .name = "salvage",
    .summary = "writes what can still be read of a damaged image into a new one",
    .synopsis = "salvage IMAGE OUT [--force] [--list FILE] [--json] [--node-size N] [--seed HEX]",
    .details = "Never changes IMAGE; works where it does not open at all. Branches, tags and commits come from its newest state, what\n"
               "is lost there from older ones. Every leaf that can be read is kept; commits that lost nothing keep their ids, others\n"
               "have a header salvage.was. What no tree names any more goes to branches lost+found/... Each line of the list is\n"
               "a code, the branch, tag or commit, the keys, and why.",
    .examples = "cambium salvage broken.cmb rescued.cmb\n"
                "cambium salvage broken.cmb rescued.cmb --list lost.txt && echo nothing was lost\n"
                "cambium salvage /dev/vdb rescued.cmb --json | jq -r 'select(.lost) | .where'",
    .options = options,
    .option_count = CMB_COUNTOF(options),
    .min_operands = 2,
    .max_operands = 2,
    .statuses = statuses,
    .usage_status = USAGE,
    .run = run,
};
