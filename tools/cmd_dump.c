/* SPDX-License-Identifier: ISC */
#include <string.h>

#include "io/base.h"
#include "tools/commands.h"
#include "tools/dbdump.h"
#include "tools/progress.h"
#include "tools/text.h"
#include "tools/values.h"

enum { AT, BRANCH, TSV, FORMAT, BERKELEY };
static const cli_option options[] = {
    [AT] = {0, "at", "REV", "the state to dump (main)"},
    [BRANCH] = {'b', "branch", "BRANCH", "the same for a branch"},
    [TSV] = {'t', "tsv", NULL, "a pair a line: key, tab, value, with \\t \\n \\\\ \\xHH"},
    [FORMAT] = {0, "format", "FORMAT", "of the dump: bytevalue or print (bytevalue)"},
    [BERKELEY] = {0, "berkeley", NULL, "leaves out the header lines that only LMDB knows, for db_load"},
};

typedef struct dump {
    const cli *c;
    FILE *out;
    bool tsv;
    dbdump_format format;
    text_field field;
    progress progress;
    uint64_t entries, bytes;
} dump;

static void write_piece(void *ctx, const void *data, size_t size)
{
    dump *d = ctx;
    d->bytes += size;
    if (d->tsv)
        text_field_add(&d->field, d->out, data, size);
    else
        dbdump_write_bytes(d->out, d->format, data, size);
}

static int write_entry(dump *d, cmb_cursor *cursor)
{
    cmb_bytes key;
    int rc = cmb_cursor_key(cursor, &key);
    if (rc)
        return rc;
    d->bytes += key.size;
    if (d->tsv) {
        text_print_field(d->out, key.data, key.size);
        putc('\t', d->out);
        rc = value_of_cursor(cursor, d->out, write_piece, d);
        text_field_end(&d->field, d->out);
        putc('\n', d->out);
        return rc;
    }
    dbdump_write_begin(d->out);
    dbdump_write_bytes(d->out, d->format, key.data, key.size);
    dbdump_write_end(d->out);
    dbdump_write_begin(d->out);
    rc = value_of_cursor(cursor, d->out, write_piece, d);
    dbdump_write_end(d->out);
    return rc;
}

static int write_entries(dump *d, cmb_snapshot *snapshot)
{
    cmb_cursor *cursor;
    int rc = cmb_cursor_open(snapshot, NULL, &cursor);
    if (rc)
        return rc;
    while (cli_output_ok(d->out)) {
        rc = cmb_cursor_next(cursor);
        if (rc == 0)
            rc = write_entry(d, cursor);
        if (rc)
            break;
        d->entries++;
        progress_at(&d->progress, d->entries, d->bytes, 0);
    }
    cmb_cursor_close(cursor);
    return rc == CMB_ENOTFOUND ? 0 : rc;
}

/* What mdb_load is told to make its map of: room for the pairs in LMDB's pages, with some to spare. */
static uint64_t map_size(const dump *d, cmb_store *store)
{
    cmb_store_info info;
    if (cli_has(d->c, BERKELEY))
        return 0;
    cmb_store_get_info(store, &info);
    return cmb_align_up(4 * info.size + (64u << 20), 4096);
}

static int dump_store(dump *d, cmb_store *store, const char *rev)
{
    cmb_snapshot *snapshot;
    int rc = cmb_snapshot_open(store, rev, &snapshot);
    if (rc)
        return cli_fail(d->c, rc);
    progress_begin(&d->progress, "dump");
    if (!d->tsv)
        dbdump_write_header(d->out, d->format, map_size(d, store));
    rc = write_entries(d, snapshot);
    if (!d->tsv && rc == 0) /* a dump that broke off does not look like a whole one */
        dbdump_write_footer(d->out);
    progress_end(&d->progress);
    int status = rc ? cli_fail(d->c, rc) : CLI_OK;
    cmb_snapshot_close(snapshot);
    return status;
}

static int run(cli *c)
{
    dump d = {.c = c, .tsv = cli_has(c, TSV)};
    const char *format = cli_value(c, FORMAT, "bytevalue");
    const char *path = cli_operand(c, 1);
    const char *rev;
    cmb_store *store;
    if (strcmp(format, "print") != 0 && strcmp(format, "bytevalue") != 0)
        return cli_usage(c, "--format: neither bytevalue nor print: %s", format);
    if (d.tsv && (cli_has(c, FORMAT) || cli_has(c, BERKELEY)))
        return cli_usage(c, "--tsv has no --format and no header");
    if (!value_rev(c, AT, BRANCH, &rev))
        return CLI_USAGE;
    d.format = strcmp(format, "print") == 0 ? DBDUMP_PRINT : DBDUMP_BYTEVALUE;
    int status = cli_open(c, false, &store);
    if (status)
        return status;
    d.out = cli_output_open(cli_image(c), path);
    status = d.out ? dump_store(&d, store, rev) : CLI_OUTPUT;
    status = cli_close(c, store, status);
    return d.out ? cli_output_close(d.out, path, status) : status;
}

const cli_command cmd_dump = {
    .name = "dump",
    .summary = "writes all entries as text that load, mdb_load and db_load read",
    .synopsis = "dump IMAGE [--at REV | -b BRANCH] [--format bytevalue|print] [--berkeley] [FILE|-]\n"
                "dump IMAGE [--at REV | -b BRANCH] --tsv [FILE|-]",
    .details = "LMDB as it is built takes keys of up to 511 bytes only.",
    .examples = "cambium dump data.cmb | mdb_load -n new.mdb\n"
                "cambium dump data.cmb --berkeley | db_load new.db\n"
                "cambium dump data.cmb --at main~1 --format print dump.txt\n"
                "cambium dump data.cmb --tsv | sort | less",
    .options = options,
    .option_count = CMB_COUNTOF(options),
    .min_operands = 1,
    .max_operands = 2,
    .usage_status = CLI_USAGE,
    .run = run,
};
