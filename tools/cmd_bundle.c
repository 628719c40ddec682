/* SPDX-License-Identifier: ISC */
#include <errno.h>
#include <string.h>

#include "io/base.h"
#include "tools/commands.h"
#include "tools/strategy.h"
#include "tools/taking.h"
#include "tools/text.h"

enum { DEPTH, STRATEGY, NAME, UNTRUSTED, JSON };
static const cli_option options[] = {
    [DEPTH] = {0, "depth", "N", "create: N commits of each branch and tag"},
    [STRATEGY] = {'s', "strategy", "NAME", "apply: merges branches that diverged: " STRATEGY_NAMES},
    [NAME] = {0, "name", "NAME", "apply: what the branches that keep their heads begin with (the name of FILE)"},
    [UNTRUSTED] = {0, "untrusted", NULL, "apply: only into an image whose hash is cryptographic"},
    [JSON] = {0, "json", NULL, "one object a line"},
};
static const taking_options which = {.strategy = STRATEGY, .name = NAME, .untrusted = UNTRUSTED, .json = JSON};

/* ---- create ---- */

typedef struct creating {
    FILE *out;
    progress progress;
} creating;

static int write_file(void *ctx, const void *data, size_t size)
{
    creating *w = ctx;
    if (fwrite(data, 1, size, w->out) == size)
        return 0;
    return cmb_fail(CMB_EIO, "the bundle cannot be written");
}

static void on_progress(void *ctx, uint64_t commits, uint64_t total, uint64_t bytes)
{
    creating *w = ctx;
    (void)total;
    progress_at(&w->progress, commits, bytes, 0);
}

static int create_from(cli *c, cmb_store *store, const char *path, uint32_t depth)
{
    creating w = {.out = cli_output_open(cli_image(c), path)};
    cmb_bundle_options how = {.depth = depth, .progress = on_progress, .ctx = &w};
    cmb_sync_stats stats = {0};
    text_buf a, b, s;
    if (!w.out)
        return CLI_OUTPUT;
    progress_begin(&w.progress, "bundle");
    int rc = cmb_bundle_create(store, c->operands + 3, (size_t)c->operand_count - 3, write_file, &w, &how, &stats);
    progress_end(&w.progress);
    int status = rc && !ferror(w.out) ? cli_fail(c, rc) : CLI_OK;
    bool is_file = w.out != stdout;
    status = cli_output_close(w.out, path, status);
    if (status && is_file)
        (void)remove(path); /* half a bundle is none */
    if (!status && is_file)
        fprintf(stderr, "%s commits, %s changes, %s\n", text_count(&a, stats.commits), text_count(&b, stats.changes),
                text_size(&s, stats.bytes));
    return status;
}

static int create(cli *c, const char *path)
{
    uint64_t depth = 0;
    cmb_store *store;
    if (c->operand_count < 4)
        return cli_usage(c, "create needs a FILE and a REV");
    if (!cli_u64(c, DEPTH, &depth))
        return CLI_USAGE;
    if (cli_has(c, DEPTH) && (depth == 0 || depth > UINT32_MAX))
        return cli_usage(c, "--depth: not a number of commits: %s", c->values[DEPTH]);
    int status = taking_open_source(cli_image(c), c->operands + 3, (size_t)c->operand_count - 3, &store);
    if (status)
        return status;
    return cli_close(c, store, create_from(c, store, path, (uint32_t)depth));
}

/* ---- reading ---- */

static int read_file(void *ctx, void *out, size_t size, size_t *out_read)
{
    FILE *in = ctx;
    *out_read = fread(out, 1, size, in);
    return *out_read == 0 && ferror(in) ? cmb_fail(CMB_EIO, "the bundle cannot be read: %s", strerror(errno)) : 0;
}

static int rewind_file(void *ctx)
{
    return fseek(ctx, 0, SEEK_SET) ? cmb_fail(CMB_EIO, "the bundle cannot be read again: %s", strerror(errno)) : 0;
}

/* Standard input into a file without a name, for it is read twice. */
static FILE *spool(void)
{
    char piece[65536];
    size_t n;
    FILE *out = tmpfile();
    while (out && (n = fread(piece, 1, sizeof piece, stdin)) > 0)
        if (fwrite(piece, 1, n, out) != n)
            break;
    if (out && (ferror(stdin) || ferror(out) || fseek(out, 0, SEEK_SET))) {
        fclose(out);
        out = NULL;
    }
    return out;
}

static FILE *open_bundle(const char *path)
{
    FILE *in = strcmp(path, "-") == 0 ? spool() : fopen(path, "rbe");
    if (!in)
        cli_say(CLI_INPUT, path, "%s", strerror(errno));
    return in;
}

/* ---- verify ---- */

static void head_json(const cmb_bundle_head *head)
{
    json j = {.out = stdout};
    json_put_object(&j, NULL);
    json_put_string(&j, "hash", cmb_hash_kind_name(head->hash));
    json_put_u64(&j, "node_size", head->node_size);
    json_put_u64(&j, "commits", head->commits);
    json_put_array(&j, "needed");
    for (size_t i = 0; i < head->needed_count; i++)
        json_put_name(&j, NULL, &head->needed[i]);
    json_put_array_end(&j);
    json_put_array(&j, "refs");
    for (size_t i = 0; i < head->ref_count; i++) {
        json_put_object(&j, NULL);
        json_put_string(&j, head->refs[i].tag ? "tag" : "branch", head->refs[i].name);
        json_put_name(&j, "commit", &head->refs[i].theirs);
        json_put_object_end(&j);
    }
    json_put_array_end(&j);
    json_put_object_end(&j);
    json_end_line(&j);
}

static int show_head(void *ctx, const cmb_bundle_head *head)
{
    const cli *c = ctx;
    text_buf id, n;
    if (cli_has(c, JSON)) {
        head_json(head);
        return 0;
    }
    for (size_t i = 0; i < head->ref_count; i++)
        printf("%s\t%s%s\n", text_name(&id, &head->refs[i].theirs, 0), head->refs[i].tag ? "tag " : "", head->refs[i].name);
    for (size_t i = 0; i < head->needed_count; i++)
        printf("%s\tneeded\n", text_name(&id, &head->needed[i], 0));
    printf("%s commits, whole and well-formed\n", text_count(&n, head->commits));
    return 0;
}

static bool blames_bundle(int rc)
{
    return rc == CMB_ESYNTAX || rc == CMB_EVERSION || rc == CMB_ETOOBIG;
}

static int verify(cli *c, FILE *in, const char *path)
{
    cmb_bundle_source source = {read_file, rewind_file, in};
    cmb_store *store;
    int status = cli_open(c, false, &store);
    if (status)
        return status;
    int rc = cmb_bundle_verify(store, &source, show_head, c, NULL);
    if (rc)
        status = cli_fail_on(path, rc);
    if (rc && blames_bundle(rc))
        status = CLI_INPUT;
    return cli_close(c, store, status);
}

/* ---- apply ---- */

static int apply(cli *c, FILE *in, const char *path)
{
    cmb_bundle_source source = {read_file, rewind_file, in};
    cmb_sync_stats stats = {0};
    cmb_store *store;
    taking t;
    int status = taking_begin(&t, c, &which, path);
    if (!status)
        status = cli_open(c, true, &store);
    if (status)
        return status;
    t.options.names = c->operands + 3;
    t.options.name_count = (size_t)c->operand_count - 3;
    t.options.tags = true;
    int rc = cmb_bundle_apply(store, &source, &t.options, &stats);
    return cli_close(c, store, taking_end(&t, rc, path, &stats));
}

static int run(cli *c)
{
    const char *verb = cli_operand(c, 1), *path = cli_operand(c, 2);
    int status;
    if (strcmp(verb, "create") == 0)
        return cli_end_output(create(c, path));
    bool applies = strcmp(verb, "apply") == 0;
    if (!applies && strcmp(verb, "verify") != 0)
        return cli_usage(c, "neither create, verify nor apply: %s", verb);
    if (!applies && c->operand_count > 3)
        return cli_usage(c, "too many operands");
    FILE *in = open_bundle(path);
    if (!in)
        return CLI_INPUT;
    status = applies ? apply(c, in, path) : verify(c, in, path);
    fclose(in);
    return cli_end_output(status);
}

const cli_command cmd_bundle = {
    .name = "bundle",
    .summary = "moves history between images in a file",
    .synopsis = "bundle IMAGE create FILE REV... [^REV...] [--depth N]\n"
                "bundle IMAGE verify FILE [--json]\n"
                "bundle IMAGE apply FILE [BRANCH...] [--strategy NAME] [--name NAME] [--untrusted] [--json]",
    .details = "create: the branches and tags REV with their history, without what ^REV reaches, which has to be\n"
               "there already where the bundle goes. A working state is sealed first. verify: is the bundle whole and\n"
               "well-formed, of IMAGE's node size, seed and hash, and is there what it needs? apply: all of it or\n"
               "nothing; branches move as 'pull' says. A bundle that was cut or changed is refused before IMAGE is touched.\n"
               "FILE '-' is standard output or input. Exit status 1: some branch diverged or is in conflict.",
    .examples = "cambium bundle data.cmb create all.bundle main v1.0\n"
                "cambium bundle data.cmb create new.bundle main ^v1.0\n"
                "cambium bundle copy.cmb verify new.bundle\n"
                "cambium bundle copy.cmb apply new.bundle --strategy json\n"
                "cambium bundle data.cmb create - main | ssh host cambium bundle copy.cmb apply -",
    .options = options,
    .option_count = CMB_COUNTOF(options),
    .min_operands = 3,
    .max_operands = -1,
    .usage_status = CLI_USAGE,
    .run = run,
};
