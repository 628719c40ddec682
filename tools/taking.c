/* SPDX-License-Identifier: ISC */
#include "tools/taking.h"

#include <string.h>

#include "io/base.h"
#include "tools/strategy.h"
#include "tools/text.h"

/* What kept branches begin with: the file's name without its directory and ending, as far as branches can be called so. */
static void peer_of(const char *from, char out[CMB_REF_NAME_MAX + 1])
{
    const char *slash = strrchr(from, '/');
    const char *name = slash ? slash + 1 : from;
    size_t n = strcspn(name, "?");
    for (size_t i = 1; i < n; i++)
        if (name[i] == '.')
            n = i;
    n = n < 64 ? n : 64;
    memcpy(out, name, n);
    out[n] = 0;
    if (cmb_ref_name_check(out))
        snprintf(out, CMB_REF_NAME_MAX + 1, "peer");
}

static const char *kind_text(const cmb_pulled *p)
{
    switch (p->kind) {
    case CMB_PULL_UP_TO_DATE: return "up to date";
    case CMB_PULL_CREATED: return "new";
    case CMB_PULL_FAST_FORWARD: return "moved forward";
    case CMB_PULL_MERGED: return "merged";
    case CMB_PULL_DIVERGED: return p->tag ? "left where it is" : "diverged";
    case CMB_PULL_CONFLICTS: return "in conflict";
    }
    return "";
}

static void print_json(json *j, const cmb_pulled *p)
{
    json_put_object(j, NULL);
    json_put_string(j, p->tag ? "tag" : "branch", p->name);
    json_put_string(j, "outcome", kind_text(p));
    json_put_name(j, "theirs", &p->theirs);
    json_put_name(j, "before", &p->before);
    json_put_name(j, "after", &p->after);
    if (p->kept)
        json_put_string(j, "kept", p->kept);
    if (p->conflicts)
        json_put_u64(j, "conflicts", p->conflicts);
    json_put_object_end(j);
    json_end_line(j);
}

static int on_pulled(void *ctx, const cmb_pulled *p)
{
    taking *t = ctx;
    text_buf id;
    progress_end(&t->progress);
    t->stuck = t->stuck || p->kind == CMB_PULL_DIVERGED || p->kind == CMB_PULL_CONFLICTS;
    if (cli_has(t->c, t->which->json)) {
        print_json(&t->j, p);
        return 0;
    }
    printf("%s\t%s\t%s%s", text_name(&id, &p->after, 12), kind_text(p), p->tag ? "tag " : "", p->name);
    if (p->conflicts)
        printf("\t%llu keys", (unsigned long long)p->conflicts);
    if (p->kept)
        printf("\ttheirs is %s", p->kept);
    putchar('\n');
    return 0;
}

static void on_progress(void *ctx, uint64_t commits, uint64_t total, uint64_t bytes)
{
    taking *t = ctx;
    (void)total;
    progress_at(&t->progress, commits, bytes, 0);
}

int taking_begin(taking *t, const cli *c, const taking_options *which, const char *from)
{
    memset(t, 0, sizeof *t);
    t->c = c;
    t->which = which;
    t->j.out = stdout;
    if (!strategy_parse(c, which->strategy, &t->options.merge_fn))
        return CLI_USAGE;
    t->options.merge = cli_has(c, which->strategy);
    t->options.untrusted = cli_has(c, which->untrusted);
    peer_of(from, t->peer);
    t->options.peer = cli_value(c, which->name, t->peer);
    if (cmb_ref_name_check(t->options.peer))
        return cli_usage(c, "--name: %s", cmb_error_detail());
    t->options.pulled = on_pulled;
    t->options.progress = on_progress;
    t->options.ctx = t;
    progress_begin(&t->progress, c->command->name);
    return 0;
}

int taking_end(taking *t, int rc, const char *from, const cmb_sync_stats *stats)
{
    text_buf a, b, c;
    progress_end(&t->progress);
    if (rc == CMB_ESYNTAX || rc == CMB_ETOOBIG || rc == CMB_EVERSION) {
        cli_fail_on(from, rc);
        return CLI_INPUT;
    }
    if (rc)
        return cli_fail(t->c, rc);
    if (!cli_has(t->c, t->which->json))
        fprintf(stderr, "commits: %s (known before: %s), changes: %s, %s\n", text_count(&a, stats->commits),
                text_count(&b, stats->known), text_count(&c, stats->changes),
                text_size(&(text_buf){.s = ""}, stats->bytes));
    return t->stuck ? CLI_NOT_FOUND : CLI_OK;
}

/* ---- sources ---- */

static int see_working(void *ctx, const cmb_ref *ref)
{
    *(bool *)ctx |= ref->at.working;
    return 0;
}

static bool has_working(cmb_store *store, const char *const *revs, size_t count)
{
    bool working = false;
    if (!count)
        (void)cmb_branch_list(store, see_working, &working);
    for (size_t i = 0; i < count; i++) {
        cmb_rev rev;
        if (revs[i][0] != '^' && cmb_rev_parse(store, revs[i], &rev) == 0)
            working |= rev.working;
    }
    return working;
}

int taking_open_source(const char *image, const char *const *revs, size_t rev_count, cmb_store **out_store)
{
    cmb_store_options options = {.read_only = true};
    int rc = cmb_store_open(image, &options, out_store);
    if (rc)
        return cli_fail_open(image, rc);
    if (!has_working(*out_store, revs, rev_count))
        return 0;
    rc = cmb_store_close(*out_store);
    options.read_only = false;
    if (!rc)
        rc = cmb_store_open(image, &options, out_store);
    return rc ? cli_fail_open(image, rc) : 0;
}
