/* SPDX-License-Identifier: ISC */
#include <cambium/history.h>

#include "io/base.h"
#include "tools/commands.h"
#include "tools/json.h"
#include "tools/text.h"

enum { PREFIX, HEX, JSON };
static const cli_option options[] = {
    [PREFIX] = {'p', "prefix", "P", "all keys that begin with P"},
    [HEX] = {'x', "hex", NULL, "KEY and P are hexadecimal"},
    [JSON] = {0, "json", NULL, "one object a line: key, commit, time, author"},
};

typedef struct listing {
    const cli *c;
    cmb_store *store;
    cmb_name id;         /* of `commit` */
    cmb_commit *commit;  /* the last one that was read; NULL: none yet */
    int error;
} listing;

/* The same commit often comes for many keys. */
static int read_commit(listing *l, const cmb_name *id)
{
    text_buf text;
    cmb_commit *commit;
    if (l->commit && cmb_name_equal(&l->id, id))
        return 0;
    int rc = cmb_commit_read(l->store, text_name(&text, id, 0), &commit);
    if (rc)
        return rc;
    cmb_commit_free(l->commit);
    l->commit = commit;
    l->id = *id;
    return 0;
}

static void show_json(const listing *l, cmb_bytes key, const cmb_name *id)
{
    json j = {.out = stdout};
    json_put_object(&j, NULL);
    json_put_bytes(&j, "key", key.data, key.size);
    json_put_name(&j, "commit", id);
    if (id->size) {
        json_put_time(&j, "time", l->commit->time);
        json_put_string(&j, "author", l->commit->author);
    }
    json_put_object_end(&j);
    json_end_line(&j);
}

static int show(void *ctx, cmb_bytes key, const cmb_name *id)
{
    listing *l = ctx;
    text_buf name, time;
    l->error = id->size ? read_commit(l, id) : 0;
    if (l->error || !cli_output_ok(stdout))
        return 1;
    if (cli_has(l->c, JSON)) {
        show_json(l, key, id);
        return 0;
    }
    printf("%-12s %-20s ", text_name(&name, id, 12), id->size ? text_time(&time, l->commit->time) : "working state");
    text_print_field(stdout, key.data, key.size);
    putchar('\n');
    return 0;
}

static int show_key(listing *l, const char *rev, cmb_bytes key)
{
    static const cmb_name working;
    cmb_name id;
    int rc = cmb_last_modified(l->store, rev, key, &id);
    if (rc == CMB_EWORKING)
        id = working;
    else if (rc)
        return rc;
    show(l, key, &id);
    return l->error;
}

static int show_range(listing *l, const char *rev, const cmb_range *range)
{
    int rc = cmb_last_modified_each(l->store, rev, range, show, l);
    return rc == CMB_ESTOPPED ? l->error : rc;
}

static int run(cli *c)
{
    static uint8_t room[CMB_KEY_MAX];
    listing l = {.c = c};
    const char *rev = cli_operand(c, 1), *key_text = cli_operand(c, 2), *prefix = cli_value(c, PREFIX, NULL);
    cmb_bytes key = {NULL, 0};
    if (key_text && prefix)
        return cli_usage(c, "KEY and --prefix: give one of them");
    if ((key_text || prefix) && !cli_key(c, key_text ? key_text : prefix, cli_has(c, HEX), room, &key))
        return CLI_USAGE;
    int status = cli_open(c, false, &l.store);
    if (status)
        return status;
    rev = rev ? rev : "main";
    int rc = key_text ? show_key(&l, rev, key) : show_range(&l, rev, &(cmb_range){.prefix = key});
    cmb_commit_free(l.commit);
    status = rc ? cli_fail(c, rc) : CLI_OK;
    return cli_end_output(cli_close(c, l.store, status));
}

const cli_command cmd_last_modified = {
    .name = "last-modified",
    .summary = "shows which commit changed a key last",
    .synopsis = "last-modified IMAGE [REV [KEY]] [--prefix P] [--hex] [--json]",
    .details = "A line a key: the commit that gave it the value it has at REV (main), when, and the key; for all\n"
               "keys unless KEY or a prefix is given. For a KEY that REV does not have: the commit that deleted it,\n"
               "or status 1 if it never was there. It goes by names of subtrees, without looking at values.",
    .examples = "cambium last-modified data.cmb main user:1\n"
                "cambium last-modified data.cmb feature --prefix src/\n"
                "cambium last-modified data.cmb --json | jq -r .author",
    .options = options,
    .option_count = CMB_COUNTOF(options),
    .min_operands = 1,
    .max_operands = 3,
    .usage_status = CLI_USAGE,
    .run = run,
};
