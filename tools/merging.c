/* SPDX-License-Identifier: ISC */
#include "tools/merging.h"

#include <string.h>

#include "io/base.h"
#include "tools/input.h"
#include "tools/json.h"
#include "tools/refs.h"
#include "tools/text.h"

/* A longer value stands in JSON as its size alone. */
#define JSON_VALUE_MAX (16u << 20)

/* ---- words ---- */

/* CMB_ANSWER_CONFLICT: the word is none of these. */
static cmb_answer find_answer(const char *word)
{
    return strcmp(word, "ours") == 0     ? CMB_ANSWER_MINE
           : strcmp(word, "theirs") == 0 ? CMB_ANSWER_THEIRS
           : strcmp(word, "delete") == 0 ? CMB_ANSWER_DELETE
                                         : CMB_ANSWER_CONFLICT;
}

static const char *const kind_names[] = {[CMB_MERGE_UP_TO_DATE] = "up to date",
                                         [CMB_MERGE_FAST_FORWARD] = "fast-forward",
                                         [CMB_MERGE_MERGED] = "merged",
                                         [CMB_MERGE_CONFLICTS] = "conflicts",
                                         [CMB_MERGE_DIVERGED] = "diverged"};

/* ---- showing ---- */

static int json_side(json *j, const char *name, cmb_clash *clash, cmb_clash_side side)
{
    uint32_t size = cmb_clash_size(clash, side);
    cmb_presence presence = cmb_clash_presence(clash, side);
    cmb_bytes value;
    if (presence == CMB_ABSENT) {
        json_put_null(j, name);
        return 0;
    }
    if (presence == CMB_DISPUTED || size > JSON_VALUE_MAX) {
        json_put_object(j, name);
        if (presence == CMB_DISPUTED)
            json_put_bool(j, "disputed", true);
        else
            json_put_u64(j, "size", size);
        json_put_object_end(j);
        return 0;
    }
    int rc = cmb_clash_value(clash, side, &value);
    if (rc == 0)
        json_put_bytes(j, name, value.data, value.size);
    return rc;
}

static int show_json(cmb_clash *clash)
{
    json j = {.out = stdout};
    cmb_bytes key = cmb_clash_key(clash);
    json_put_object(&j, NULL);
    json_put_bytes(&j, "conflict", key.data, key.size);
    int rc = json_side(&j, "base", clash, CMB_SIDE_BASE);
    if (rc == 0)
        rc = json_side(&j, "theirs", clash, CMB_SIDE_THEIRS);
    if (rc == 0)
        rc = json_side(&j, "ours", clash, CMB_SIDE_MINE);
    json_put_object_end(&j);
    json_end_line(&j);
    return rc;
}

/* What happened to the key, in two words a side at most. */
static const char *describe(const cmb_clash *clash)
{
    bool base = cmb_clash_presence(clash, CMB_SIDE_BASE) != CMB_ABSENT;
    if (cmb_clash_presence(clash, CMB_SIDE_MINE) == CMB_ABSENT)
        return "deleted by us, changed by them";
    if (cmb_clash_presence(clash, CMB_SIDE_THEIRS) == CMB_ABSENT)
        return "changed by us, deleted by them";
    return base ? "changed by both" : "added by both";
}

static void show_line(const cmb_clash *clash)
{
    cmb_bytes key = cmb_clash_key(clash);
    fputs("C\t", stdout);
    text_print_field(stdout, key.data, key.size);
    printf("\t%s\n", describe(clash));
}

static int show_conflicts(const cli *c, cmb_merging *merging)
{
    for (size_t i = 0; i < cmb_merging_count(merging) && cli_output_ok(stdout); i++) {
        cmb_clash *clash;
        bool resolved;
        int rc = cmb_merging_conflict(merging, i, &clash, &resolved);
        if (rc)
            return rc;
        if (resolved)
            continue;
        if (cli_has(c, MERGING_JSON))
            rc = show_json(clash);
        else
            show_line(clash);
        if (rc)
            return rc;
    }
    return 0;
}

static void show_result(const cli *c, const cmb_merge_result *r, size_t conflicts)
{
    text_buf t;
    if (cli_has(c, MERGING_JSON)) {
        json j = {.out = stdout};
        json_put_object(&j, NULL);
        json_put_string(&j, "result", kind_names[r->kind]);
        json_put_u64(&j, "conflicts", conflicts);
        refs_rev_json(&j, &r->rev);
        json_put_object_end(&j);
        json_end_line(&j);
    } else if (r->kind == CMB_MERGE_MERGED || r->kind == CMB_MERGE_FAST_FORWARD) {
        printf("%s: %s\n", kind_names[r->kind], text_name(&t, &r->rev.commit, 0));
    } else if (r->kind == CMB_MERGE_UP_TO_DATE) {
        printf("%s\n", kind_names[r->kind]);
    }
}

/* ---- resolving ---- */

/* The file's bytes become the key's value in what is merged. Returns the exit status. */
static int put_file(const cli *c, cmb_merging *merging, cmb_bytes key, const char *path)
{
    static uint8_t piece[INPUT_BUFFER];
    cmb_txn *txn = cmb_merging_txn(merging);
    input *in;
    int bad = input_open(path, &in), rc = 0;
    if (bad)
        return cli_fail_on(path, bad), CLI_INPUT;
    rc = cmb_txn_value_begin(txn, key);
    for (size_t n = 1; !rc && !bad && n;) {
        bad = input_read(in, piece, sizeof(piece), &n);
        if (!bad)
            rc = cmb_txn_value_add(txn, piece, n);
    }
    if (!rc && !bad)
        rc = cmb_txn_value_finish(txn);
    if (!rc && !bad)
        rc = cmb_merging_resolve(merging, key, CMB_ANSWER_KEEP, (cmb_bytes){NULL, 0});
    if (rc || bad)
        cmb_txn_value_abort(txn);
    int status = bad ? (cli_fail_on(path, bad), CLI_INPUT) : rc ? cli_fail(c, rc) : CLI_OK;
    input_close(in);
    return status;
}

/* Where "=ours", "=theirs", "=delete" or "=@FILE" begins; NULL: nowhere. */
static const char *find_how(const char *text)
{
    const char *last = strrchr(text, '=');
    if (last && find_answer(last + 1) != CMB_ANSWER_CONFLICT)
        return last;
    return strstr(text, "=@");
}

/* KEY=HOW. Returns the exit status. */
static int resolve(const cli *c, cmb_merging *merging, const char *text)
{
    static uint8_t room[CMB_KEY_MAX];
    static char name[2 * CMB_KEY_MAX + 1];
    const char *how = find_how(text);
    size_t size = how ? (size_t)(how - text) : 0;
    cmb_bytes key;
    if (!size || size >= sizeof(name))
        return cli_usage(c, "not KEY=ours, KEY=theirs, KEY=delete or KEY=@FILE: %s", text);
    memcpy(name, text, size);
    name[size] = '\0';
    if (!cli_key(c, name, cli_has(c, MERGING_HEX), room, &key))
        return CLI_USAGE;
    cmb_answer answer = find_answer(how + 1);
    int rc = cmb_merging_resolve(merging, key, answer == CMB_ANSWER_CONFLICT ? CMB_ANSWER_KEEP : answer,
                                 (cmb_bytes){NULL, 0});
    if (rc == CMB_ENOTFOUND)
        return cli_say(CLI_NOT_FOUND, cli_image(c), "%s is not in conflict", name);
    if (rc)
        return cli_fail(c, rc);
    return answer == CMB_ANSWER_CONFLICT ? put_file(c, merging, key, how + 2) : CLI_OK;
}

static int resolve_rest(const cli *c, cmb_merging *merging)
{
    cmb_answer answer = find_answer(cli_value(c, MERGING_REST, ""));
    for (size_t i = 0; answer != CMB_ANSWER_CONFLICT && i < cmb_merging_count(merging); i++) {
        cmb_clash *clash;
        bool resolved;
        int rc = cmb_merging_conflict(merging, i, &clash, &resolved);
        if (rc == 0 && !resolved)
            rc = cmb_merging_resolve(merging, cmb_clash_key(clash), answer, (cmb_bytes){NULL, 0});
        if (rc)
            return cli_fail(c, rc);
    }
    return CLI_OK;
}

/* Some conflicts are left. Returns the exit status. */
static int refuse(const cli *c, const cmb_merge_result *result, size_t left)
{
    int rc = show_conflicts(c, result->open);
    if (rc)
        return cli_fail(c, rc);
    if (cli_has(c, MERGING_JSON))
        show_result(c, result, left);
    return cli_say(CLI_NOT_FOUND, cli_image(c), "%zu conflict%s, nothing is merged", left, left == 1 ? "" : "s");
}

/* Resolves what is to be resolved, and finishes if that was all. Returns the exit status. */
static int settle(const cli *c, const cmb_commit_info *info, cmb_merge_result *result)
{
    cmb_merging *merging = result->open;
    int status = CLI_OK;
    for (int i = 2; !status && i < c->operand_count; i++)
        status = resolve(c, merging, c->operands[i]);
    if (!status)
        status = resolve_rest(c, merging);
    size_t left = cmb_merging_unresolved(merging);
    if (!status && left)
        status = refuse(c, result, left);
    else if (!status) {
        int rc = cmb_merging_finish(merging, info, &result->rev);
        if (rc == 0) {
            result->kind = CMB_MERGE_MERGED;
            show_result(c, result, 0);
            return CLI_OK;
        }
        status = cli_fail(c, rc);
    }
    cmb_merging_abort(merging);
    return status;
}

static int conclude(const cli *c, const cmb_commit_info *info, cmb_merge_result *result)
{
    if (result->kind == CMB_MERGE_CONFLICTS)
        return settle(c, info, result);
    show_result(c, result, 0);
    if (c->operand_count > 2)
        return cli_say(CLI_NOT_FOUND, cli_image(c), "there was nothing to resolve");
    if (result->kind != CMB_MERGE_DIVERGED)
        return CLI_OK;
    if (info->flags & CMB_MERGE_FF_ONLY)
        return cli_say(CLI_NOT_FOUND, cli_image(c), "the branch has commits of its own: it cannot move forward");
    return cli_say(CLI_NOT_FOUND, cli_image(c),
                   "the history is shallow: what both have in common may lie below its end");
}

int merging_run(const cli *c, const cmb_commit_info *info, merging_call call)
{
    const char *rest = cli_value(c, MERGING_REST, NULL);
    cmb_merge_fn fn;
    cmb_merge_result result;
    cmb_store *store;
    if (!strategy_parse(c, MERGING_STRATEGY, &fn))
        return CLI_USAGE;
    if (rest && find_answer(rest) == CMB_ANSWER_CONFLICT)
        return cli_usage(c, "--rest: neither ours, theirs nor delete: %s", rest);
    for (int i = 2; i < c->operand_count; i++) {
        if (!find_how(c->operands[i]))
            return cli_usage(c, "not KEY=ours, KEY=theirs, KEY=delete or KEY=@FILE: %s", c->operands[i]);
    }
    int status = cli_open(c, true, &store);
    if (status)
        return status;
    int rc = call(c, store, cli_value(c, MERGING_BRANCH, "main"), fn, info, &result);
    status = rc ? cli_fail(c, rc) : conclude(c, info, &result);
    return cli_end_output(cli_close(c, store, status));
}
