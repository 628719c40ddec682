/* SPDX-License-Identifier: ISC */
#include <inttypes.h>
#include <unistd.h>

#include <cambium/fsck.h>

#include "io/base.h"
#include "tools/commands.h"
#include "tools/json.h"
#include "tools/progress.h"
#include "tools/text.h"

#define ROUNDS 5 /* a writer that recycles blocks under the check makes it begin anew */

enum { QUICK, STRUCTURE, FULL, REPAIR, THREADS, REDACT, JSON };
static const cli_option options[] = {
    [QUICK] = {0, "quick", NULL, "superblocks, the log's tail, the segment table, refs and their commits"},
    [STRUCTURE] = {0, "structure", NULL, "and all inner nodes: reachability, counts (this is the default)"},
    [FULL] = {0, "full", NULL, "and every leaf, every value's bytes, every frame of the log, the shape of trees"},
    [REPAIR] = {0, "repair", NULL, "writes damaged copies of the superblock again, and nothing else"},
    [THREADS] = {0, "threads", "N", "that read and verify with --full (as many as there are processors)"},
    [REDACT] = {0, "redact", NULL, "shows a hash in place of every key and name"},
    [JSON] = {0, "json", NULL, "one object a line: findings, then the result"},
};

typedef struct check {
    const cli *c;
    progress progress;
    uint64_t findings, mendable;
    unsigned rounds, mended;
    bool repaired; /* no copy of the superblock is damaged any more, whoever wrote it */
} check;

/* ---- findings ---- */

static void show_json(const cmb_finding *f)
{
    json j = {.out = stdout};
    json_put_object(&j, NULL);
    json_put_string(&j, "finding", f->code);
    json_put_string(&j, "error", cmb_error_name(f->error));
    json_put_u64(&j, "address", f->addr);
    json_put_string(&j, "text", f->text);
    json_put_string(&j, "where", f->where);
    json_put_u64(&j, "number", f->kind->number);
    json_put_string(&j, "severity", cmb_severity_name(f->kind->severity));
    json_put_bool(&j, "mendable", f->kind->mendable);
    if (f->physical != CMB_NO_OFFSET)
        json_put_u64(&j, "offset", f->physical);
    json_put_array(&j, "refs");
    for (unsigned i = 0; i < f->ref_count; i++)
        json_put_string(&j, NULL, f->refs[i]);
    json_put_array_end(&j);
    json_put_u64(&j, "refs_total", f->refs_total);
    json_put_array(&j, "commits");
    for (unsigned i = 0; i < f->commit_count; i++)
        json_put_string(&j, NULL, f->commits[i]);
    json_put_array_end(&j);
    json_put_u64(&j, "commits_total", f->commits_total);
    if (f->key_after) {
        json_put_string(&j, "key_after", f->key_after);
        json_put_string(&j, "key_last", f->key_last);
    }
    json_put_object_end(&j);
    json_end_line(&j);
}

static int show_finding(void *ctx, const cmb_finding *f)
{
    check *k = ctx;
    k->findings++;
    k->mendable += f->kind->mendable;
    progress_end(&k->progress);
    if (cli_has(k->c, JSON)) {
        show_json(f);
        return 0;
    }
    printf("%s: %s", f->code, f->text);
    if (f->physical != CMB_NO_OFFSET)
        printf(" (byte %" PRIu64 " of the image)", f->physical);
    if (f->where[0] != '\0')
        printf("; hurts %s", f->where);
    putchar('\n');
    return 0;
}

/* The writer went on: what was found before may be found again, or be mended. */
static void begin_anew(check *k)
{
    k->rounds++;
    if (k->findings && cli_has(k->c, JSON)) {
        json j = {.out = stdout};
        json_put_object(&j, NULL);
        json_put_u64(&j, "begun_anew", k->rounds);
        json_put_u64(&j, "findings", k->findings);
        json_put_object_end(&j);
        json_end_line(&j);
    } else if (k->findings) {
        printf("%s: a writer has used blocks anew that were being looked at: the check begins again, what was found does not count\n",
               cli_image(k->c));
    }
    k->findings = k->mendable = 0;
}

static void show_progress(void *ctx, uint64_t done, uint64_t total)
{
    check *k = ctx;
    progress_at(&k->progress, 0, done, total > done ? total : 0);
}

/* ---- the result ---- */

static const char *verdict(const check *k)
{
    return k->findings == 0 ? "clean" : k->repaired && k->mendable == k->findings ? "repaired" : "damaged";
}

static int status_of(const check *k)
{
    bool left = k->findings > (k->repaired ? k->mendable : 0);
    return (k->repaired ? CLI_FSCK_REPAIRED : CLI_FSCK_CLEAN) | (left ? CLI_FSCK_DAMAGED : CLI_FSCK_CLEAN);
}

static void show_result(const check *k, const cmb_fsck_result *r)
{
    uint64_t elapsed = progress_elapsed(&k->progress);
    if (cli_has(k->c, JSON)) {
        json j = {.out = stdout};
        json_put_object(&j, NULL);
        json_put_string(&j, "result", verdict(k));
#define MEMBER(name) json_put_u64(&j, #name, r->name)
        MEMBER(findings);
        MEMBER(superblocks);
        MEMBER(table_pages);
        MEMBER(frames);
        MEMBER(nodes);
        MEMBER(leaves);
        MEMBER(values);
        MEMBER(commits);
        MEMBER(refs);
        MEMBER(bytes);
        MEMBER(spare);
#undef MEMBER
        json_put_u64(&j, "mended", k->mended);
        json_put_real(&j, "seconds", (double)elapsed / 1e9);
        json_put_object_end(&j);
        json_end_line(&j);
        return;
    }
    text_buf refs, commits, nodes, leaves, values, bytes, rate;
    if (k->repaired && !k->mended)
        printf("%s: a writer has written the superblock again meanwhile\n", cli_image(k->c));
    if (k->mended)
        printf("%s: %u copies of the superblock were written again\n", cli_image(k->c), k->mended);
    printf("%s: %s: %s refs, %s commits, %s inner nodes, %s leaves, %s large values; %s read in %.2f s, %s\n",
           cli_image(k->c), k->findings && !strcmp(verdict(k), "damaged") ? "DAMAGED" : verdict(k), text_count(&refs, r->refs),
           text_count(&commits, r->commits), text_count(&nodes, r->nodes), text_count(&leaves, r->leaves),
           text_count(&values, r->values), text_size(&bytes, r->bytes), (double)elapsed / 1e9,
           text_rate(&rate, r->bytes, elapsed));
}

/* ---- the check ---- */

static const cmb_finding_kind *kind_of(unsigned number)
{
    size_t n;
    const cmb_finding_kind *kinds = cmb_finding_kinds(&n);
    while (kinds->number != number)
        kinds++;
    return kinds;
}

/* The image did not even open: damage is a finding, anything else means that nothing was checked. */
static int not_opened(check *k, int error)
{
    if (error != CMB_ECORRUPT && error != CMB_EIO) {
        cli_fail(k->c, error);
        return CLI_FSCK_NOT_RUN;
    }
    char text[520];
    const cmb_finding_kind *kind = kind_of(CMB_FINDING_OPEN_REFUSED);
    snprintf(text, sizeof(text), "%s", cmb_error_detail());
    show_finding(k, &(cmb_finding){.code = kind->name, .error = error, .text = text, .where = "everything", .kind = kind, .physical = CMB_NO_OFFSET});
    show_result(k, &(cmb_fsck_result){.findings = k->findings});
    return CLI_FSCK_DAMAGED;
}

static unsigned threads_of(const check *k)
{
    uint64_t n = 0;
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    cli_u64(k->c, THREADS, &n);
    return n ? (unsigned)n : processors > 0 ? (unsigned)processors : 1;
}

static int repair(check *k)
{
    cmb_store_options open = {.allow_no_durability = true};
    if (!k->mendable || !cli_has(k->c, REPAIR))
        return 0;
    int rc = cmb_fsck_mend(cli_image(k->c), &open, &k->mended);
    k->repaired = rc == 0;
    return rc;
}

/* 0, or why it did not run to its end. */
static int check_store(check *k, cmb_store *store, cmb_fsck_level level, cmb_fsck_result *out_result)
{
    cmb_fsck_options fsck = {.level = level, .on_finding = show_finding, .on_progress = show_progress, .ctx = k,
                             .threads = threads_of(k), .redact = cli_has(k->c, REDACT)};
    int rc = cmb_fsck(store, &fsck, out_result);
    progress_end(&k->progress);
    int closed = cmb_store_close(store);
    return rc ? rc : closed;
}

static int check_image(check *k, cmb_fsck_level level)
{
    cmb_store *store;
    /* Not the mapping: there, a disk that fails under the check is a signal and not a finding. */
    cmb_store_options open = {.read_only = true, .allow_no_durability = true, .residency = CMB_RESIDENT_POOL};
    cmb_fsck_result result;
    int rc = cmb_store_open(cli_image(k->c), &open, &store);
    if (rc)
        return not_opened(k, rc);
    while ((rc = check_store(k, store, level, &result)) == CMB_ESTALE && k->rounds + 1 < ROUNDS) {
        begin_anew(k);
        rc = cmb_store_open(cli_image(k->c), &open, &store);
        if (rc)
            return not_opened(k, rc);
    }
    bool checked = rc == 0;
    if (checked)
        rc = repair(k);
    if (rc)
        cli_fail(k->c, rc);
    if (checked)
        show_result(k, &result);
    return rc ? CLI_FSCK_NOT_RUN | (k->findings ? CLI_FSCK_DAMAGED : 0) : status_of(k);
}

static int run(cli *c)
{
    check k = {.c = c};
    uint64_t threads = 1;
    if (cli_has(c, QUICK) + cli_has(c, STRUCTURE) + cli_has(c, FULL) > 1)
        return cli_usage(c, "--quick, --structure and --full: give one of them");
    if (!cli_u64(c, THREADS, &threads) || threads < 1 || threads > 64)
        return cli_usage(c, "--threads: a number from 1 to 64");
    progress_begin(&k.progress, "fsck");
    int status = check_image(&k, cli_has(c, QUICK)  ? CMB_FSCK_QUICK
                                 : cli_has(c, FULL) ? CMB_FSCK_FULL
                                                    : CMB_FSCK_STRUCTURE);
    return cli_end_output(status) == CLI_OUTPUT ? CLI_FSCK_NOT_RUN : status;
}

const cli_command cmd_fsck = {
    .name = "fsck",
    .summary = "looks for damage",
    .synopsis = "fsck IMAGE [--quick | --structure | --full] [--repair] [--threads N] [--redact] [--json]",
    .details = "Changes nothing without --repair. Works beside a live writer: it checks the last durable state as of\n"
               "its start. Each finding is one line: its code, what was expected and found, and which refs, commits\n"
               "and keys it hurts.",
    .examples = "cambium fsck data.cmb\n"
                "cambium fsck data.cmb --full\n"
                "cambium fsck data.cmb --quick --json | jq -r .finding",
    .options = options,
    .option_count = CMB_COUNTOF(options),
    .min_operands = 1,
    .max_operands = 1,
    .statuses = cli_fsck_statuses,
    .usage_status = CLI_FSCK_USAGE,
    .run = run,
};
