/* SPDX-License-Identifier: ISC */
#include <inttypes.h>

#include <cambium/inspect.h>

#include "io/base.h"
#include "tools/commands.h"
#include "tools/json.h"
#include "tools/text.h"

enum { SEGMENTS, JSON };
static const cli_option options[] = {
    [SEGMENTS] = {'s', "segments", NULL, "a table of all segments as well"},
    [JSON] = {0, "json", NULL, "one object"},
};

typedef struct segment_list {
    json *j; /* NULL: for people */
    uint64_t count;
} segment_list;

static int show_segment(void *ctx, const cmb_segment_stat *segment)
{
    segment_list *l = ctx;
    if (l->j) {
        json_put_object(l->j, NULL);
        json_put_u64(l->j, "logical", segment->logical);
        json_put_u64(l->j, "physical", segment->physical);
        json_put_string(l->j, "kind", segment->kind);
        json_put_u64(l->j, "used_bytes", segment->used_bytes);
        json_put_u64(l->j, "live_bytes", segment->live_bytes);
        json_put_bool(l->j, "head", segment->head);
        json_put_object_end(l->j);
        return 0;
    }
    if (l->count++ == 0)
        printf("%10s %10s  %-9s %12s %12s %7s\n", "logical", "physical", "kind", "used", "live", "live %");
    text_buf used, live;
    printf("%10" PRIu64 " %10" PRIu64 "  %-9s %12s %12s %6.1f%%%s\n", segment->logical, segment->physical,
           segment->kind, text_size(&used, segment->used_bytes), text_size(&live, segment->live_bytes),
           segment->used_bytes ? 100.0 * (double)segment->live_bytes / (double)segment->used_bytes : 0.0,
           segment->head ? " head" : "");
    return 0;
}

static double amplification(const cmb_stat *s)
{
    return s->live_bytes ? (double)s->image_bytes / (double)s->live_bytes : 0;
}

static void json_stat(json *j, const cmb_stat *s, const cmb_store_info *info)
{
    text_buf t;
    json_put_string(j, "uuid", text_hex(&t, info->uuid, sizeof(info->uuid)));
    json_put_u64(j, "node_size", info->node_size);
    snprintf(t.s, sizeof(t.s), "%016" PRIx64, info->seed);
    json_put_string(j, "seed", t.s);
    json_put_u64(j, "fixed_size", info->fixed_size);
#define MEMBER(name) json_put_u64(j, #name, s->name)
    MEMBER(image_bytes);
    MEMBER(segment_bytes);
    MEMBER(segments_free);
    MEMBER(segments_live);
    MEMBER(segments_quarantined);
    MEMBER(segments_meta);
    MEMBER(log_bytes);
    MEMBER(live_bytes);
    MEMBER(leaf_bytes);
    MEMBER(node_bytes);
    MEMBER(value_bytes);
    MEMBER(commit_bytes);
    MEMBER(ref_bytes);
    MEMBER(leaves);
    MEMBER(nodes);
    MEMBER(values);
    MEMBER(commits);
    MEMBER(branches);
    MEMBER(tags);
    MEMBER(entries);
    MEMBER(height);
#undef MEMBER
    json_put_real(j, "amplification", amplification(s));
}

static void print_part(const char *name, uint64_t count, uint64_t bytes)
{
    text_buf n, b;
    printf("  %-13s %14s  %12s\n", name, count ? text_count(&n, count) : "", text_size(&b, bytes));
}

static void print_stat(const char *image, const cmb_stat *s, const cmb_store_info *info)
{
    text_buf a, b, d;
    printf("image          %s (%s)\n", image, info->device);
    printf("uuid           %s\n", text_hex(&a, info->uuid, sizeof(info->uuid)));
    printf("parameters     node size %" PRIu32 ", hash %s, seed %" PRIx64 ", segments of %s\n", info->node_size,
           cmb_hash_kind_name(info->hash), info->seed, text_size(&a, s->segment_bytes));
    printf("refs           %s branches, %s tags, %s commits\n", text_count(&a, s->branches), text_count(&b, s->tags),
           text_count(&d, s->commits));
    printf("entries        %s in all contents together, shared ones once; height %u\n", text_count(&a, s->entries),
           s->height);
    printf("live bytes     %s\n", text_size(&a, s->live_bytes));
    print_part("leaves", s->leaves, s->leaf_bytes);
    print_part("inner nodes", s->nodes, s->node_bytes);
    print_part("large values", s->values, s->value_bytes);
    print_part("commits", s->commits, s->commit_bytes);
    print_part("ref tables", 0, s->ref_bytes);
    printf("log bytes      %s written in segments that are in use\n", text_size(&a, s->log_bytes));
    printf("image bytes    %s%s\n", text_size(&a, s->image_bytes), info->fixed_size ? ", fixed" : ", grows");
    printf("amplification  %.2f image bytes a live byte\n", amplification(s));
    printf("segments       %s live, %s free, %" PRIu64 " quarantined, %" PRIu64 " of metadata\n",
           text_count(&a, s->segments_live), text_count(&b, s->segments_free), s->segments_quarantined,
           s->segments_meta);
}

static int stat_store(const cli *c, cmb_store *store)
{
    cmb_stat s;
    cmb_store_info info;
    json j = {.out = stdout};
    segment_list list = {.j = cli_has(c, JSON) ? &j : NULL};
    bool segments = cli_has(c, SEGMENTS);
    cmb_store_get_info(store, &info);
    if (list.j)
        json_put_object(&j, NULL);
    if (list.j && segments)
        json_put_array(&j, "segments");
    int rc = cmb_stat_store(store, &s, segments ? show_segment : NULL, &list);
    if (rc) {
        if (list.j)
            putchar('\n');
        return cli_fail(c, rc);
    }
    if (!list.j) {
        if (segments)
            putchar('\n');
        print_stat(cli_image(c), &s, &info);
        return CLI_OK;
    }
    if (segments)
        json_put_array_end(&j);
    json_stat(&j, &s, &info);
    json_put_object_end(&j);
    json_end_line(&j);
    return CLI_OK;
}

static int run(cli *c)
{
    cmb_store *store;
    int status = cli_open(c, false, &store);
    if (status)
        return status;
    status = stat_store(c, store);
    return cli_end_output(cli_close(c, store, status));
}

const cli_command cmd_stat = {
    .name = "stat",
    .summary = "shows what an image holds and how well it is filled",
    .synopsis = "stat IMAGE [--segments] [--json]",
    .details = "Live is what branches, tags and their history reach; it is found by reading all inner nodes.\n"
               "Contents that share a node count it once.",
    .examples = "cambium stat data.cmb\n"
                "cambium stat data.cmb --segments\n"
                "cambium stat data.cmb --json | jq .amplification",
    .options = options,
    .option_count = CMB_COUNTOF(options),
    .min_operands = 1,
    .max_operands = 1,
    .usage_status = CLI_USAGE,
    .run = run,
};
