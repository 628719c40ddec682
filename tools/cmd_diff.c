/* SPDX-License-Identifier: ISC */
#include <inttypes.h>
#include <stdlib.h>

#include "io/base.h"
#include "tools/commands.h"
#include "tools/json.h"
#include "tools/modes.h"
#include "tools/text.h"

/* A longer value stands in JSON as its size alone. */
#define JSON_VALUE_MAX (16u << 20)

enum { NAME_STATUS, STAT, JSON, QUIET, EXIT_CODE, PREFIX, FROM, TO, HEX, RAW };
static const cli_option options[] = {
    [NAME_STATUS] = {0, "name-status", NULL, "only A, D, M or T, and the key"},
    [STAT] = {0, "stat", NULL, "the sizes before and after, and a total"},
    [JSON] = {0, "json", NULL, "one object a line: status, key, before, after"},
    [QUIET] = {'q', "quiet", NULL, "shows nothing, stops at the first difference; implies --exit-code"},
    [EXIT_CODE] = {0, "exit-code", NULL, "the exit status is 1 if there is a difference"},
    [PREFIX] = {'p', "prefix", "P", "keys that begin with P"},
    [FROM] = {0, "from", "K", "keys from K on, K included"},
    [TO] = {0, "to", "K", "keys below K"},
    [HEX] = {'x', "hex", NULL, "P and K are hexadecimal"},
    [RAW] = {0, "raw", NULL, "the modes of git images as the entries that they are"},
};

typedef struct diff diff;

/* What is shown of one key. */
typedef struct item {
    char status; /* A, D, M; T: another type of file */
    cmb_bytes key;
    const cmb_change *change; /* NULL: only the mode is another */
    const mode_change *mode;  /* NULL: it is the same, or there is none */
} item;

struct diff {
    const cli *c;
    cmb_range range;
    uint8_t from[CMB_KEY_MAX], to[CMB_KEY_MAX], prefix[CMB_KEY_MAX];
    void (*show)(diff *d, const item *i); /* NULL: nothing is shown */
    mode_changes modes;
    size_t modes_shown;
    uint64_t added, deleted, modified;
    int error; /* of reading a value */
};

/* ---- as text ---- */

/* A line of one side. What lies out of line stands as its size. */
static void print_side(char sign, const item *i, const cmb_change_value *value, uint32_t mode)
{
    text_buf size;
    putchar(sign);
    text_print_field(stdout, i->key.data, i->key.size);
    putchar('\t');
    if (value && value->large)
        printf("(%s)", text_size(&size, value->size));
    else if (value)
        text_print_field(stdout, value->bytes.data, value->bytes.size);
    if (i->mode)
        printf("%s(mode %06" PRIo32 ")", value ? "\t" : "", mode);
    putchar('\n');
}

static void show_lines(diff *d, const item *i)
{
    (void)d;
    if (i->status != 'A')
        print_side('-', i, i->change ? &i->change->before : NULL, i->mode ? i->mode->before : 0);
    if (i->status != 'D')
        print_side('+', i, i->change ? &i->change->after : NULL, i->mode ? i->mode->after : 0);
}

static void show_status(diff *d, const item *i)
{
    (void)d;
    printf("%c\t", i->status);
    text_print_field(stdout, i->key.data, i->key.size);
    putchar('\n');
}

static const char *size_of(text_buf *t, const item *i, const cmb_change_value *value, char without)
{
    if (i->status == without || !i->change)
        return "-";
    return text_size(t, value->size);
}

static void show_sizes(diff *d, const item *i)
{
    text_buf before, after;
    (void)d;
    printf("%c %10s -> %-10s ", i->status, size_of(&before, i, i->change ? &i->change->before : NULL, 'A'),
           size_of(&after, i, i->change ? &i->change->after : NULL, 'D'));
    text_print_field(stdout, i->key.data, i->key.size);
    putchar('\n');
}

static void show_total(const diff *d)
{
    text_buf t;
    uint64_t all = d->added + d->deleted + d->modified;
    if (!all)
        return;
    printf("%s %s changed", text_count(&t, all), all == 1 ? "key" : "keys");
    printf(": %s added", text_count(&t, d->added));
    printf(", %s deleted", text_count(&t, d->deleted));
    printf(", %s modified\n", text_count(&t, d->modified));
}

/* ---- as JSON ---- */

/* All of a value in memory; the caller frees *out_data. */
static int read_all(cmb_value_stream *stream, uint32_t size, void **out_data)
{
    size_t got = 0;
    uint8_t *data = malloc(size ? size : 1);
    if (!data)
        return cmb_fail(CMB_ENOMEM, "no memory for a value of %" PRIu32 " bytes", size);
    int rc = cmb_value_read(stream, 0, data, size, &got);
    if (!rc && got != size)
        rc = cmb_fail(CMB_ECORRUPT, "%zu bytes of a value of %" PRIu32, got, size);
    if (rc)
        free(data);
    else
        *out_data = data;
    return rc;
}

static int json_large(json *j, const cmb_change *change, const cmb_change_value *value)
{
    cmb_value_stream *stream;
    void *data = NULL;
    if (value->size > JSON_VALUE_MAX)
        return 0;
    int rc = value == &change->before ? cmb_change_open_before(change, &stream) : cmb_change_open_after(change, &stream);
    if (rc)
        return rc;
    rc = read_all(stream, value->size, &data);
    cmb_value_close(stream);
    if (rc)
        return rc;
    json_put_bytes(j, "value", data, value->size);
    free(data);
    return 0;
}

static int json_side(json *j, const char *name, const item *i, const cmb_change_value *value, uint32_t mode)
{
    text_buf text;
    int rc = 0;
    json_put_object(j, name);
    if (value) {
        if (value->large)
            rc = json_large(j, i->change, value);
        else
            json_put_bytes(j, "value", value->bytes.data, value->bytes.size);
        json_put_u64(j, "size", value->size);
    }
    if (i->mode) {
        snprintf(text.s, sizeof(text.s), "%06" PRIo32, mode);
        json_put_string(j, "mode", text.s);
    }
    json_put_object_end(j);
    return rc;
}

static void show_json(diff *d, const item *i)
{
    json j = {.out = stdout};
    int rc = 0;
    json_put_object(&j, NULL);
    json_put_bytes(&j, "status", &i->status, 1);
    json_put_bytes(&j, "key", i->key.data, i->key.size);
    if (i->status != 'A')
        rc = json_side(&j, "before", i, i->change ? &i->change->before : NULL, i->mode ? i->mode->before : 0);
    if (!rc && i->status != 'D')
        rc = json_side(&j, "after", i, i->change ? &i->change->after : NULL, i->mode ? i->mode->after : 0);
    json_put_object_end(&j);
    json_end_line(&j);
    d->error = rc;
}

/* ---- key by key ---- */

/* Non-zero: enough. */
static int take(diff *d, const item *i)
{
    *(i->status == 'A' ? &d->added : i->status == 'D' ? &d->deleted : &d->modified) += 1;
    if (!d->show)
        return 1;
    d->show(d, i);
    return d->error || !cli_output_ok(stdout);
}

/* Paths below `key` (NULL: all that are left) of which the mode alone is another. */
static int take_modes_below(diff *d, const cmb_bytes *key)
{
    int stop = 0;
    while (!stop && d->modes_shown < d->modes.count) {
        const mode_change *m = &d->modes.items[d->modes_shown];
        if (key && cmb_compare(m->path.data, m->path.size, key->data, key->size) >= 0)
            break;
        d->modes_shown++;
        item i = {.status = mode_is_other_type(m) ? 'T' : 'M', .key = m->path, .mode = m};
        stop = take(d, &i);
    }
    return stop;
}

/* The mode of this very path, if it is another. */
static const mode_change *take_mode_of(diff *d, cmb_bytes key)
{
    const mode_change *m = d->modes.items + d->modes_shown;
    if (d->modes_shown == d->modes.count || cmb_compare(m->path.data, m->path.size, key.data, key.size) != 0)
        return NULL;
    d->modes_shown++;
    return m;
}

static int take_change(void *ctx, const cmb_change *change)
{
    diff *d = ctx;
    if (!cli_has(d->c, RAW) && cmb_git_is_mode_key(change->key, NULL))
        return 0;
    if (take_modes_below(d, &change->key))
        return 1;
    item i = {.key = change->key, .change = change, .mode = take_mode_of(d, change->key)};
    i.status = change->kind == CMB_CHANGE_ADDED     ? 'A'
               : change->kind == CMB_CHANGE_DELETED ? 'D'
               : i.mode && mode_is_other_type(i.mode) ? 'T'
                                                      : 'M';
    return take(d, &i);
}

static int compare(diff *d, cmb_snapshot *before, cmb_snapshot *after)
{
    int rc = cli_has(d->c, RAW) ? 0 : modes_collect(&d->modes, before, after, &d->range);
    if (!rc) {
        rc = cmb_diff(before, after, &d->range, take_change, d);
        if (rc == CMB_ESTOPPED)
            rc = d->error;
        else if (!rc)
            (void)take_modes_below(d, NULL);
    }
    modes_release(&d->modes);
    return rc;
}

static int diff_store(diff *d, cmb_store *store)
{
    cmb_snapshot *before, *after;
    int rc = cmb_snapshot_open(store, cli_operand(d->c, 1), &before);
    if (rc)
        return cli_fail(d->c, rc);
    rc = cmb_snapshot_open(store, cli_operand(d->c, 2), &after);
    if (!rc) {
        rc = compare(d, before, after);
        cmb_snapshot_close(after);
    }
    int status = rc ? cli_fail(d->c, rc) : CLI_OK;
    cmb_snapshot_close(before);
    return status;
}

/* ---- the command ---- */

static bool choose_output(diff *d)
{
    static const struct {
        int option;
        void (*show)(diff *d, const item *i);
    } outputs[] = {{NAME_STATUS, show_status}, {STAT, show_sizes}, {JSON, show_json}, {QUIET, NULL}};
    unsigned given = 0;
    d->show = show_lines;
    for (size_t i = 0; i < CMB_COUNTOF(outputs); i++)
        if (cli_has(d->c, outputs[i].option)) {
            d->show = outputs[i].show;
            given++;
        }
    if (given > 1)
        cli_usage(d->c, "--name-status, --stat, --json, --quiet: give one of them");
    return given <= 1;
}

/* An empty bound is an open one. */
static bool bound(const diff *d, int option, uint8_t *room, cmb_bytes *out)
{
    const char *text = cli_value(d->c, option, "");
    return text[0] == '\0' || cli_key(d->c, text, cli_has(d->c, HEX), room, out);
}

static int run(cli *c)
{
    static diff d;
    cmb_store *store;
    d.c = c;
    if (!choose_output(&d) || !bound(&d, FROM, d.from, &d.range.from) || !bound(&d, TO, d.to, &d.range.to) ||
        !bound(&d, PREFIX, d.prefix, &d.range.prefix))
        return CLI_USAGE;
    int status = cli_open(c, false, &store);
    if (status)
        return status;
    status = diff_store(&d, store);
    if (status == CLI_OK && cli_has(c, STAT))
        show_total(&d);
    if (status == CLI_OK && (cli_has(c, EXIT_CODE) || cli_has(c, QUIET)) && d.added + d.deleted + d.modified)
        status = CLI_NOT_FOUND;
    return cli_end_output(cli_close(c, store, status));
}

const cli_command cmd_diff = {
    .name = "diff",
    .summary = "shows what changed from one state to another, in key order",
    .synopsis = "diff IMAGE REV REV [--name-status | --stat | --json | --quiet] [--exit-code] [--prefix P]\n"
                "     [--from K] [--to K] [--hex] [--raw]",
    .details = "A line begins with - or +: key, tab and value before or after, written as scan writes them; of large\n"
               "values, which lie apart from their keys, the size. With --name-status a line is A (added), D (deleted)\n"
               "or M (modified), tab, key. What both states share is passed over: the time depends on the changes.\n"
               "In images made by import-git the mode of a file belongs to its path: a path with another mode is\n"
               "modified, or T where a file, link or submodule became another of these, as in git diff --no-renames.\n"
               "In JSON, bytes that are not UTF-8 are {\"base64\": \"...\"}; a value over 16 MiB is left out.",
    .examples = "cambium diff data.cmb main~1 main\n"
                "cambium diff data.cmb v1 feature --name-status --prefix user/\n"
                "cambium diff data.cmb main feature --stat\n"
                "cambium diff data.cmb v1 v2 --quiet || echo they differ",
    .options = options,
    .option_count = CMB_COUNTOF(options),
    .min_operands = 3,
    .max_operands = 3,
    .usage_status = CLI_USAGE,
    .run = run,
};
