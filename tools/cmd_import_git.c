/* SPDX-License-Identifier: ISC */
#include <cambium/git.h>

#include "io/base.h"
#include "tools/commands.h"
#include "tools/input.h"
#include "tools/json.h"
#include "tools/marks.h"
#include "tools/progress.h"
#include "tools/text.h"

enum { FORCE, MARKS, JSON };
static const cli_option options[] = {
    [FORCE] = {'f', "force", NULL, "sets branches and tags also where that leaves commits behind"},
    [MARKS] = {0, "marks", "FILE",
               "writes a line for each commit: its mark, its id, its name in git if the stream says it"},
    [JSON] = {0, "json", NULL, "reports as one JSON object on standard output"},
};

typedef struct import {
    const cli *c;
    input *in;
    FILE *marks;
    progress progress;
    uint64_t commits;
} import;

static int read_input(void *ctx, void *out, size_t size, size_t *out_read)
{
    import *im = ctx;
    return input_read(im->in, out, size, out_read);
}

static int on_commit(void *ctx, uint64_t mark, cmb_bytes original, const cmb_name *id)
{
    import *im = ctx;
    progress_at(&im->progress, ++im->commits, im->in->offset, 0);
    if (im->marks)
        marks_line(im->marks, mark, original, id);
    return 0;
}

static void report(const import *im, const cmb_git_result *r)
{
    uint64_t elapsed = progress_elapsed(&im->progress);
    text_buf a, b, c, d, e, f;
    if (cli_has(im->c, JSON)) {
        json j = {.out = stdout};
        json_put_object(&j, NULL);
        json_put_u64(&j, "bytes", r->bytes);
        json_put_u64(&j, "commits", r->commits);
        json_put_u64(&j, "known", r->known);
        json_put_u64(&j, "blobs", r->blobs);
        json_put_u64(&j, "tags", r->tags);
        json_put_u64(&j, "refs", r->refs);
        json_put_real(&j, "seconds", (double)elapsed / 1e9);
        json_put_object_end(&j);
        json_end_line(&j);
        return;
    }
    fprintf(stderr, "commits: %s (known before: %s), blobs: %s, refs: %s; %s in %.2f s, %s\n", text_count(&a, r->commits),
            text_count(&b, r->known), text_count(&c, r->blobs), text_count(&d, r->refs), text_size(&e, r->bytes),
            (double)elapsed / 1e9, text_rate(&f, r->bytes, elapsed));
}

/* Errors that the stream is to blame for. */
static bool is_input(const import *im, int error)
{
    return im->in->error || error == CMB_ESYNTAX || error == CMB_ENOTSUP || error == CMB_ETOOBIG;
}

static int import_store(import *im, cmb_store *store)
{
    cmb_git_result result;
    cmb_git_options git = {.force = cli_has(im->c, FORCE), .commit = on_commit, .ctx = im};
    progress_begin(&im->progress, "import-git");
    int rc = cmb_git_import(store, read_input, im, &git, &result);
    progress_end(&im->progress);
    if (rc == 0) {
        report(im, &result);
        return CLI_OK;
    }
    if (!is_input(im, rc))
        return cli_fail(im->c, rc);
    cli_fail_on(im->in->name, rc);
    return CLI_INPUT;
}

static int run(cli *c)
{
import im = {.c = c };
    const char *path = cli_operand(c, 1);
    cmb_store *store;
    int rc = input_open(path ? path : "-", &im.in);
    if (rc) {
        cli_fail_on(path, rc);
        return CLI_INPUT;
    }
    int status = CLI_OK;
    if (cli_has(c, MARKS) && !(im.marks = cli_output_open(cli_image(c), c->values[MARKS])))
        status = CLI_OUTPUT;
    if (!status)
        status = cli_open(c, true, &store);
    if (!status)
        status = cli_close(c, store, import_store(&im, store));
    if (im.marks)
        status = cli_output_close(im.marks, c->values[MARKS], status);
    input_close(im.in);
    return cli_end_output(status);
}

const cli_command cmd_import_git = {
    .name = "import-git",
    .summary = "reads a history from a git fast-export stream, all of it or nothing",
    .synopsis = "import-git IMAGE [--force] [--marks FILE] [--json] [FILE|-]",
    .details = "Paths become keys, files values, commits commits, branches and tags branches and tags; authors,\n"
               "modes, encodings, time zones are kept, so that export-git gives git the same commits again.\n"
               "What the image has already is recognised: a stream can be read again after it has grown.\n"
               "Branches and tags that exist are moved forward only. Malformed input is named by line and byte.",
    .examples = "git fast-export --all --signed-tags=verbatim --reencode=no | cambium import-git data.cmb\n"
                "cambium import-git data.cmb stream.txt --json\n"
                "cambium get data.cmb README.md -b main",
    .options = options,
    .option_count = CMB_COUNTOF(options),
    .min_operands = 1,
    .max_operands = 2,
    .usage_status = CLI_USAGE,
    .run = run,
};
