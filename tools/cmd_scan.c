/* SPDX-License-Identifier: ISC */
#include <inttypes.h>

#include "io/base.h"
#include "tools/commands.h"
#include "tools/json.h"
#include "tools/text.h"
#include "tools/values.h"

/* A longer value stands in JSON as its size alone. */
#define JSON_VALUE_MAX (16u << 20)

enum { AT, BRANCH, PREFIX, FROM, TO, LIMIT, REVERSE, KEYS_ONLY, COUNT, HEX, JSON };
static const cli_option options[] = {
    [AT] = {0, "at", "REV", "the state to read (main)"},
    [BRANCH] = {'b', "branch", "BRANCH", "the same for a branch"},
    [PREFIX] = {'p', "prefix", "P", "keys that begin with P"},
    [FROM] = {0, "from", "K", "keys from K on, K included"},
    [TO] = {0, "to", "K", "keys below K"},
    [LIMIT] = {'n', "limit", "N", "at most N entries"},
    [REVERSE] = {'r', "reverse", NULL, "from the last key to the first"},
    [KEYS_ONLY] = {'k', "keys-only", NULL, "shows no values"},
    [COUNT] = {'c', "count", NULL, "shows only how many there are"},
    [HEX] = {'x', "hex", NULL, "P and K are hexadecimal"},
    [JSON] = {0, "json", NULL, "one object a line: key, value, size"},
};

typedef struct scan {
    const cli *c;
    cmb_range range;
    uint64_t limit;
    uint8_t from[CMB_KEY_MAX], to[CMB_KEY_MAX], prefix[CMB_KEY_MAX];
} scan;

/* An empty bound is an open one. */
static bool bound(const scan *s, int option, uint8_t *room, cmb_bytes *out)
{
    const char *text = cli_value(s->c, option, "");
    return text[0] == '\0' || cli_key(s->c, text, cli_has(s->c, HEX), room, out);
}

/* ---- counting: in O(log n), by narrowing from and to by the prefix ---- */

/* The first key behind all that begin with the prefix, into room; false: there is none. */
static bool prefix_end(cmb_bytes prefix, uint8_t *room, cmb_bytes *out_end)
{
    size_t n = prefix.size;
    memcpy(room, prefix.data, n);
    while (n > 0 && room[n - 1] == 0xff)
        n--;
    if (n == 0)
        return false;
    room[n - 1]++;
    *out_end = (cmb_bytes){room, n};
    return true;
}

static int compare(cmb_bytes a, cmb_bytes b)
{
    return cmb_compare(a.data, a.size, b.data, b.size);
}

static int count(const scan *s, cmb_snapshot *snapshot, uint64_t *out_count)
{
    static uint8_t room[CMB_KEY_MAX];
    cmb_bytes from = s->range.from, to = s->range.to, end;
    if (s->range.prefix.size > 0) {
        if (compare(s->range.prefix, from) > 0)
            from = s->range.prefix;
        if (prefix_end(s->range.prefix, room, &end) && (to.size == 0 || compare(end, to) < 0))
            to = end;
    }
    if (to.size > 0 && compare(from, to) >= 0) {
        *out_count = 0;
        return 0;
    }
    return cmb_count(snapshot, from.size ? &from : NULL, to.size ? &to : NULL, out_count);
}

static int show_count(const scan *s, cmb_snapshot *snapshot)
{
    uint64_t n;
    int rc = count(s, snapshot, &n);
    if (rc)
        return rc;
    n = n < s->limit ? n : s->limit;
    if (cli_has(s->c, JSON)) {
        json j = {.out = stdout};
        json_put_object(&j, NULL);
        json_put_u64(&j, "count", n);
        json_put_object_end(&j);
        json_end_line(&j);
    } else {
        printf("%" PRIu64 "\n", n);
    }
    return 0;
}

/* ---- entries ---- */

static int show_json(const scan *s, cmb_cursor *cursor, cmb_bytes key)
{
    json j = {.out = stdout};
    uint32_t size;
    cmb_bytes value = {NULL, 0};
    json_put_object(&j, NULL);
    json_put_bytes(&j, "key", key.data, key.size); /* before the next call on the cursor */
    int rc = cmb_cursor_value_size(cursor, &size);
    bool with_value = rc == 0 && !cli_has(s->c, KEYS_ONLY) && size <= JSON_VALUE_MAX;
    if (with_value)
        rc = cmb_cursor_value(cursor, &value);
    if (rc)
        return rc;
    if (with_value)
        json_put_bytes(&j, "value", value.data, value.size);
    json_put_u64(&j, "size", size);
    json_put_object_end(&j);
    json_end_line(&j);
    return 0;
}

static void field_piece(void *ctx, const void *data, size_t size)
{
    text_field_add(ctx, stdout, data, size);
}

static int show_entry(const scan *s, cmb_cursor *cursor)
{
    cmb_bytes key;
    text_field field = {0};
    int rc = cmb_cursor_key(cursor, &key);
    if (rc)
        return rc;
    if (cli_has(s->c, JSON))
        return show_json(s, cursor, key);
    text_print_field(stdout, key.data, key.size);
    if (!cli_has(s->c, KEYS_ONLY)) {
        putchar('\t');
        rc = value_of_cursor(cursor, stdout, field_piece, &field);
        text_field_end(&field, stdout);
    }
    putchar('\n');
    return rc;
}

static int show_all(const scan *s, cmb_snapshot *snapshot)
{
    cmb_cursor *cursor;
    bool reverse = cli_has(s->c, REVERSE);
    int rc = cmb_cursor_open(snapshot, &s->range, &cursor);
    if (rc)
        return rc;
    uint64_t n = 0;
    while (n < s->limit && cli_output_ok(stdout)) {
        rc = n == 0 ? (reverse ? cmb_cursor_last(cursor) : cmb_cursor_first(cursor))
                    : (reverse ? cmb_cursor_prev(cursor) : cmb_cursor_next(cursor));
        if (rc == 0)
            rc = show_entry(s, cursor);
        if (rc)
            break;
        n++;
    }
    cmb_cursor_close(cursor);
    return rc == CMB_ENOTFOUND ? 0 : rc;
}

static int scan_store(const scan *s, cmb_store *store, const char *rev)
{
    cmb_snapshot *snapshot;
    int rc = cmb_snapshot_open(store, rev, &snapshot);
    if (rc)
        return cli_fail(s->c, rc);
    rc = cli_has(s->c, COUNT) ? show_count(s, snapshot) : show_all(s, snapshot);
    int status = rc ? cli_fail(s->c, rc) : CLI_OK;
    cmb_snapshot_close(snapshot);
    return status;
}

static int run(cli *c)
{
    static scan s;
    const char *rev;
    cmb_store *store;
    s.c = c;
    s.limit = UINT64_MAX;
    if (!value_rev(c, AT, BRANCH, &rev) || !cli_u64(c, LIMIT, &s.limit) || !bound(&s, FROM, s.from, &s.range.from) ||
        !bound(&s, TO, s.to, &s.range.to) || !bound(&s, PREFIX, s.prefix, &s.range.prefix))
        return CLI_USAGE;
    int status = cli_open(c, false, &store);
    if (status)
        return status;
    status = scan_store(&s, store, rev);
    return cli_end_output(cli_close(c, store, status));
}

const cli_command cmd_scan = {
    .name = "scan",
    .summary = "shows the entries of a range, in key order",
    .synopsis = "scan IMAGE [--at REV | -b BRANCH] [--prefix P] [--from K] [--to K] [--limit N] [--reverse]\n"
                "     [--keys-only | --count] [--hex] [--json]",
    .details = "A line is key, tab, value. In both \\t, \\n and \\\\ stand for tab, newline and backslash, and\n"
               "\\xHH for any other control byte and whatever is not UTF-8. In JSON, bytes that are not UTF-8\n"
               "are {\"base64\": \"...\"}; a value over 16 MiB is left out, its size is always there.\n"
               "An empty range is no error.",
    .examples = "cambium scan data.cmb\n"
                "cambium scan data.cmb --prefix user/ --limit 10\n"
                "cambium scan data.cmb --from b --to d --reverse --keys-only\n"
                "cambium scan data.cmb --at main~1 --count",
    .options = options,
    .option_count = CMB_COUNTOF(options),
    .min_operands = 1,
    .max_operands = 1,
    .usage_status = CLI_USAGE,
    .run = run,
};
