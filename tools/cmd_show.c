/* SPDX-License-Identifier: ISC */
#include "io/base.h"
#include "tools/commands.h"
#include "tools/refs.h"
#include "tools/text.h"

enum { JSON };
static const cli_option options[] = {
    [JSON] = {0, "json", NULL, "one object"},
};

/* An annotated tag's objects, and the commit. */
static int show_commit(const cli *c, cmb_store *store, const char *name, const cmb_commit *commit)
{
    if (!cli_has(c, JSON)) {
        int rc = refs_tag_print(store, name);
        if (!rc)
            refs_commit_print(commit);
        return rc;
    }
    json j = {.out = stdout};
    json_put_object(&j, NULL);
    refs_commit_json(&j, commit);
    json_put_bool(&j, "working", false);
    int rc = refs_tag_json(&j, store, name);
    json_put_object_end(&j);
    json_end_line(&j);
    return rc;
}

/* What is no commit: a working state, or a branch without any. */
static void show_state(const cli *c, const char *name, const cmb_rev *rev)
{
    if (cli_has(c, JSON)) {
        json j = {.out = stdout};
        json_put_object(&j, NULL);
        refs_rev_json(&j, rev);
        json_put_object_end(&j);
        json_end_line(&j);
        return;
    }
    refs_working_print(name, rev);
}

static int show(const cli *c, cmb_store *store, const char *name)
{
    cmb_rev rev;
    cmb_commit *commit;
    int rc = cmb_rev_parse(store, name, &rev);
    if (rc)
        return cli_fail(c, rc);
    if (rev.commit.size == 0) {
        show_state(c, name, &rev);
        return CLI_OK;
    }
    text_buf id; /* by id: the branch may have moved meanwhile */
    rc = cmb_commit_read(store, text_name(&id, &rev.commit, 0), &commit);
    if (rc)
        return cli_fail(c, rc);
    rc = show_commit(c, store, name, commit);
    cmb_commit_free(commit);
    return rc ? cli_fail(c, rc) : CLI_OK;
}

static int run(cli *c)
{
    cmb_store *store;
    int status = cli_open(c, false, &store);
    if (status)
        return status;
    status = show(c, store, cli_operand(c, 1));
    return cli_end_output(cli_close(c, store, status));
}

const cli_command cmd_show = {
    .name = "show",
    .summary = "shows one commit, an annotated tag, or a branch's working state",
    .synopsis = "show IMAGE REV [--json]",
    .details = "A merge has several parents, the branch's own first. Of an annotated tag its object comes first.",
    .examples = "cambium show data.cmb main\n"
                "cambium show data.cmb v1.0\n"
                "cambium show data.cmb main~2\n"
                "cambium show data.cmb 3f2a1b9c --json",
    .options = options,
    .option_count = CMB_COUNTOF(options),
    .min_operands = 2,
    .max_operands = 2,
    .usage_status = CLI_USAGE,
    .run = run,
};
