/* SPDX-License-Identifier: ISC */
#include <string.h>

#include "io/base.h"
#include "tools/commands.h"
#include "tools/refs.h"
#include "tools/text.h"

enum { SHORT, JSON };
static const cli_option options[] = {
    [SHORT] = {'s', "short", NULL, "the first 12 digits only"},
    [JSON] = {0, "json", NULL, "one object: commit, base, root, entries, working"},
};

static bool names_content(const char *rev)
{
    static const char suffix[] = "^{root}";
    size_t n = strlen(rev);
    return n >= sizeof(suffix) - 1 && strcmp(rev + n - (sizeof(suffix) - 1), suffix) == 0;
}

static int show(const cli *c, const char *name, const cmb_rev *rev)
{
    text_buf t;
    unsigned digits = cli_has(c, SHORT) ? 12 : 0;
    if (cli_has(c, JSON)) {
        json j = {.out = stdout};
        json_put_object(&j, NULL);
        refs_rev_json(&j, rev);
        json_put_object_end(&j);
        json_end_line(&j);
        return CLI_OK;
    }
    if (names_content(name)) {
        puts(text_name(&t, &rev->root, digits));
        return CLI_OK;
    }
    if (rev->working)
        return cli_say(CLI_NOT_FOUND, cli_image(c),
                       "%s: %s stands on one; '%s~1' is the commit below it, '%s^{root}' names its content, "
                       "a write with -m makes a commit",
                       cmb_strerror(CMB_EWORKING), name, name, name);
    if (rev->commit.size == 0)
        return cli_say(CLI_NOT_FOUND, cli_image(c), "%s: %s has no commit yet; '%s^{root}' names its content",
                       cmb_strerror(CMB_ENOTFOUND), name, name);
    puts(text_name(&t, &rev->commit, digits));
    return CLI_OK;
}

static int run(cli *c)
{
    cmb_store *store;
    cmb_rev rev;
    const char *name = cli_operand(c, 1);
    int status = cli_open(c, false, &store);
    if (status)
        return status;
    int rc = cmb_rev_parse(store, name, &rev);
    status = rc ? cli_fail(c, rc) : show(c, name, &rev);
    return cli_end_output(cli_close(c, store, status));
}

const cli_command cmd_rev_parse = {
    .name = "rev-parse",
    .summary = "prints the id of a commit, or the name of a content",
    .synopsis = "rev-parse IMAGE REV [--short] [--json]",
    .details = "REV^{root} names the content: equal contents have equal names, in all images of the same node\n"
               "size, hash and seed. A working state has a content but no id: exit status 1.",
    .examples = "cambium rev-parse data.cmb main\n"
                "cambium rev-parse data.cmb main~3 --short\n"
                "cambium rev-parse data.cmb 'main^{root}'",
    .options = options,
    .option_count = CMB_COUNTOF(options),
    .min_operands = 2,
    .max_operands = 2,
    .usage_status = CLI_USAGE,
    .run = run,
};
