/* SPDX-License-Identifier: ISC */
#include "io/base.h"
#include "tools/commands.h"
#include "tools/dbdump.h"
#include "tools/json.h"
#include "tools/progress.h"
#include "tools/text.h"
#include "tools/tsv.h"
#include "tools/values.h"

enum { BRANCH, MESSAGE, AUTHOR, TSV, JSON };
static const cli_option options[] = {
    [BRANCH] = {'b', "branch", "BRANCH", "the branch to write (main)"},
    [MESSAGE] = {'m', "message", "MSG", "makes a permanent commit with this message"},
    [AUTHOR] = {'a', "author", "NAME", "who makes the commit ($CAMBIUM_AUTHOR, $USER or unknown)"},
    [TSV] = {'t', "tsv", NULL, "a pair a line: key, tab, value, with \\t \\n \\\\ \\xHH"},
    [JSON] = {0, "json", NULL, "reports as one JSON object on standard output"},
};

typedef struct load {
    const cli *c;
    input *in;
    cmb_txn *txn;
    progress progress;
    uint64_t entries, bytes; /* bytes of keys and values */
    bool input_error;        /* what failed is the input, not the image */
} load;

/* A failure in one pair: where it is. */
static int failed_in_line(load *l, const pairs *p, int error, bool from_input)
{
    bool key = error == CMB_EINVAL || error == CMB_ETOOBIG; /* the pair cannot be stored: the input's fault as well */
    l->input_error = from_input || key;
    return key ? cmb_fail_in(error, "line %llu", (unsigned long long)p->line) : error;
}

/* A value that is longer than a piece, of which the first is read. */
static int load_long_value(load *l, pairs *p, cmb_bytes key, uint8_t *piece)
{
    size_t n = VALUE_PIECE;
    int rc = cmb_txn_value_begin(l->txn, key);
    if (rc)
        return failed_in_line(l, p, rc, false);
    for (;;) {
        rc = cmb_txn_value_add(l->txn, piece, n);
        if (rc) {
            rc = failed_in_line(l, p, rc, false);
            break;
        }
        l->bytes += n;
        if (n < VALUE_PIECE)
            break;
        progress_at(&l->progress, l->entries, l->bytes, 0);
        rc = p->value(p, piece, VALUE_PIECE, &n);
        if (rc) {
            rc = failed_in_line(l, p, rc, true);
            break;
        }
    }
    if (rc) {
        cmb_txn_value_abort(l->txn);
        return rc;
    }
    return cmb_txn_value_finish(l->txn);
}

static int load_pairs(load *l, pairs *p)
{
    static uint8_t key[CMB_KEY_MAX], piece[VALUE_PIECE];
    for (;;) {
        size_t key_size, n;
        int rc = p->key(p, key, &key_size);
        if (rc == 0)
            return 0;
        if (rc > 0)
            rc = p->value(p, piece, sizeof(piece), &n);
        if (rc < 0)
            return failed_in_line(l, p, rc, true);
        if (n == sizeof(piece)) {
            rc = load_long_value(l, p, (cmb_bytes){key, key_size}, piece);
        } else {
            rc = cmb_txn_put(l->txn, (cmb_bytes){key, key_size}, (cmb_bytes){piece, n});
            if (rc)
                rc = failed_in_line(l, p, rc, false);
            l->bytes += n;
        }
        if (rc)
            return rc;
        l->entries++;
        l->bytes += key_size;
        progress_at(&l->progress, l->entries, l->bytes, 0);
    }
}

static int load_input(load *l)
{
    if (cli_has(l->c, TSV)) {
        tsv_reader tsv;
        tsv_open(&tsv, l->in);
        return load_pairs(l, &tsv.pairs);
    }
    dbdump_reader dump;
    int rc = dbdump_open(&dump, l->in);
    if (rc) {
        l->input_error = true;
        return rc;
    }
    return load_pairs(l, &dump.pairs);
}

static void report(const load *l, const cmb_rev *rev)
{
    uint64_t elapsed = progress_elapsed(&l->progress);
    text_buf a, b, r, id;
    if (cli_has(l->c, JSON)) {
        json j = {.out = stdout};
        json_put_object(&j, NULL);
        json_put_u64(&j, "entries", l->entries);
        json_put_u64(&j, "bytes", l->bytes);
        json_put_real(&j, "seconds", (double)elapsed / 1e9);
        json_put_name(&j, "commit", &rev->commit);
        json_put_object_end(&j);
        json_end_line(&j);
        return;
    }
    fprintf(stderr, "%s entries, %s in %.2f s, %s", text_count(&a, l->entries), text_size(&b, l->bytes),
            (double)elapsed / 1e9, text_rate(&r, l->bytes, elapsed));
    if (rev->commit.size > 0)
        fprintf(stderr, ", commit %s", text_name(&id, &rev->commit, 12));
    putc('\n', stderr);
}

/* One transaction: all of the input, or nothing. */
static int load_store(load *l, cmb_store *store)
{
    cmb_commit_info info;
    cmb_rev rev;
    int rc = cmb_txn_begin(store, cli_value(l->c, BRANCH, "main"), 0, &l->txn);
    if (rc)
        return cli_fail(l->c, rc);
    progress_begin(&l->progress, "load");
    rc = load_input(l);
    if (rc)
        cmb_txn_abort(l->txn);
    else
        rc = cli_commit(l->txn, cli_commit_info(l->c, MESSAGE, AUTHOR, &info), &rev);
    progress_end(&l->progress);
    if (rc == 0) {
        report(l, &rev);
        return CLI_OK;
    }
    if (!l->input_error)
        return cli_fail(l->c, rc);
    cli_fail_on(l->in->name, rc);
    return CLI_INPUT;
}

static int run(cli *c)
{
    load l = {.c = c};
    const char *path = cli_operand(c, 1);
    cmb_store *store;
    int rc = input_open(path ? path : "-", &l.in);
    if (rc) {
        cli_fail_on(path, rc);
        return CLI_INPUT;
    }
    int status = cli_open(c, true, &store);
    if (!status)
        status = cli_close(c, store, load_store(&l, store));
    input_close(l.in);
    return cli_end_output(status);
}

const cli_command cmd_load = {
    .name = "load",
    .summary = "reads a dump into a branch, all of it or nothing",
    .synopsis = "load IMAGE [-b BRANCH] [-m MSG] [-a NAME] [--tsv] [--json] [FILE|-]",
    .details = "Reads the portable dump format of LMDB (mdb_dump) and Berkeley DB (db_dump), in bytevalue or\n"
               "print form, or with --tsv lines of text. Keys that exist are overwritten, others stay. Memory\n"
               "is bounded; sorted input is fastest. Malformed input is named by its line.\n"
               "Without -m and -a the branch's working state advances: durable, but no commit.",
    .examples = "mdb_dump -n old.mdb | cambium load data.cmb -m 'moved from LMDB'\n"
                "cambium load data.cmb dump.txt -b imported\n"
                "printf 'apple\\tred\\nlemon\\tyellow\\n' | cambium load data.cmb --tsv",
    .options = options,
    .option_count = CMB_COUNTOF(options),
    .min_operands = 1,
    .max_operands = 2,
    .usage_status = CLI_USAGE,
    .run = run,
};
