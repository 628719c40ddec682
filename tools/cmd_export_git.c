/* SPDX-License-Identifier: ISC */
#include <cambium/git.h>

#include <errno.h>
#include <string.h>

#include "io/base.h"
#include "tools/commands.h"
#include "tools/marks.h"
#include "tools/progress.h"
#include "tools/text.h"

enum { MARKS };
static const cli_option options[] = {
    [MARKS] = {0, "marks", "FILE", "writes a line for each commit: its mark and its id"},
};

typedef struct export
{
    const cli *c;
    FILE *out, *marks;
    bool output_error;
    progress progress;
    uint64_t commits, bytes;
}
export;

static int write_output(void *ctx, const void *data, size_t size)
{
    export *ex = ctx;
    if (fwrite(data, 1, size, ex->out) != size) {
        ex->output_error = true;
        return cmb_fail(CMB_EIO, "write: %s", strerror(errno));
    }
    ex->bytes += size;
    return 0;
}

static int on_commit(void *ctx, uint64_t mark, cmb_bytes original, const cmb_name *id)
{
    export *ex = ctx;
    progress_at(&ex->progress, ++ex->commits, ex->bytes, 0);
    if (ex->marks)
        marks_line(ex->marks, mark, original, id);
    return 0;
}

static int export_store(export *ex, cmb_store *store)
{
    cmb_git_result result;
    cmb_git_options git = {.commit = on_commit, .ctx = ex};
    progress_begin(&ex->progress, "export-git");
    int rc = cmb_git_export(store, write_output, ex, &git, &result);
    progress_end(&ex->progress);
    if (ex->output_error)
        return CLI_OK; /* what closes the output says it */
    if (rc)
        return rc == CMB_ENOTSUP ? (cli_fail(ex->c, rc), CLI_INPUT) : cli_fail(ex->c, rc);
    if (result.working)
        cli_say(CLI_OK, cli_image(ex->c), "%llu working states are left out: git has commits only",
                (unsigned long long)result.working);
    return CLI_OK;
}

static int run(cli *c)
{
    export ex = {.c = c};
    const char *path = cli_operand(c, 1);
    cmb_store *store;
    int status = cli_open(c, false, &store);
    if (status)
        return status;
    if (cli_has(c, MARKS) && !(ex.marks = cli_output_open(cli_image(c), c->values[MARKS])))
        status = CLI_OUTPUT;
    if (!status && !(ex.out = cli_output_open(cli_image(c), path)))
        status = CLI_OUTPUT;
    if (!status)
        status = export_store(&ex, store);
    status = cli_close(c, store, status);
    if (ex.marks)
        status = cli_output_close(ex.marks, c->values[MARKS], status);
    return ex.out ? cli_output_close(ex.out, path, status) : status;
}

const cli_command cmd_export_git = {
    .name = "export-git",
    .summary = "writes all branches and tags and their history as a stream for git fast-import",
    .synopsis = "export-git IMAGE [--marks FILE] [FILE|-]",
    .details = "What import-git read comes out so that git makes the same commits and tags again, by name.\n"
               "Other commits come out with what git has a place for: keys have to be such as paths are, times\n"
               "are in seconds. A working state is no commit, and left out: that is said on standard error.",
    .examples = "git init --bare copy.git && cambium export-git data.cmb | git -C copy.git fast-import\n"
                "cambium export-git data.cmb stream.txt --marks marks.txt",
    .options = options,
    .option_count = CMB_COUNTOF(options),
    .min_operands = 1,
    .max_operands = 2,
    .usage_status = CLI_USAGE,
    .run = run,
};
