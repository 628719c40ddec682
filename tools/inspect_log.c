/* SPDX-License-Identifier: ISC */
#include <inttypes.h>
#include <string.h>

#include "log/format.h"
#include "tools/inspect.h"
#include "tools/json.h"
#include "tools/text.h"

/* ---- superblocks ---- */

/* The lines "name: value" of a slot as the members of an object. */
static void super_json(const char *lines)
{
    json j = {.out = stdout};
    json_put_object(&j, NULL);
    while (*lines != '\0') {
        size_t n = strcspn(lines, "\n"), name = strcspn(lines, ":");
        char key[64];
        if (name < n) {
            size_t from = name + 1 + (lines[name + 1] == ' ');
            snprintf(key, sizeof(key), "%.*s", (int)name, lines);
            json_put_bytes(&j, key, lines + from, from < n ? n - from : 0);
        }
        lines += n + (lines[n] == '\n');
    }
    json_put_object_end(&j);
    json_end_line(&j);
}

int inspect_super(const cli *c)
{
    cmb_device *dev;
    unsigned valid_slots = 0;
    int rc = cmb_device_open(cli_image(c), CMB_OPEN_READ, NULL, &dev);
    if (rc)
        return cli_fail_open(cli_image(c), rc);
    for (unsigned slot = 0; slot < CMB_SUPER_SLOTS; slot++) {
        char lines[4096];
        bool valid = false;
        rc = cmb_log_describe_super(dev, NULL, slot, lines, sizeof(lines), &valid);
        if (rc)
            snprintf(lines, sizeof(lines), "slot: %u\nvalid: no: %.300s\n", slot, cmb_error_detail());
        valid_slots += valid;
        if (cli_has(c, INSPECT_JSON))
            super_json(lines);
        else
            printf("%s%s", slot > 0 ? "\n" : "", lines);
    }
    cmb_device_close(dev);
    return valid_slots > 0 ? CLI_OK
                           : cli_say(CLI_IMAGE, cli_image(c), "%s: no valid superblock", cmb_strerror(CMB_ENOTIMAGE));
}

/* ---- the log without the store ---- */

/* The log as its own records have it, or, where it does not open, as what lies on the device shows it. */
static int open_log(const cli *c, inspect_image *image)
{
    static const cmb_image_params unknown = {.hash_kind = CMB_HASH_XXH3, .node_target = 4096};
    static const cmb_log_options options = {.no_durability = true};
    int rc = cmb_log_open(image->dev, &options, &image->log);
    if (rc != CMB_ECORRUPT && rc != CMB_ENOTIMAGE && rc != CMB_EIO)
        return rc;
    char why[520];
    snprintf(why, sizeof(why), "%s", cmb_error_detail());
    rc = cmb_log_open_rescue(image->dev, &options, &unknown, &image->log);
    image->rescued = rc == 0;
    return rc ? rc : cli_say(0, cli_image(c), "the log does not open (%s): shown is what lies on the device", why);
}

int inspect_open(const cli *c, inspect_image *out_image)
{
    inspect_image image = {0};
    int rc = cmb_device_open(cli_image(c), CMB_OPEN_READ, NULL, &image.dev);
    if (rc == 0) {
        rc = open_log(c, &image);
        if (rc)
            cmb_device_close(image.dev);
    }
    if (rc)
        return cli_fail_open(cli_image(c), rc);
    *out_image = image;
    return 0;
}

void inspect_close(inspect_image *image)
{
    cmb_log_close(image->log); /* read-only: there is no seal that could fail */
    cmb_device_close(image->dev);
}

/* ---- segments ---- */

static const char *segment_kind_name(cmb_segment_kind kind)
{
    static const char *const names[] = {"none", "plain", "compacted", "stream", "meta", "journal"};
    return (unsigned)kind < CMB_COUNTOF(names) ? names[kind] : "unknown";
}

static int show_segment(void *ctx, const cmb_segment_info *info)
{
    const cli *c = ctx;
    if (cli_has(c, INSPECT_JSON)) {
        json j = {.out = stdout};
        json_put_object(&j, NULL);
        if (info->kind == CMB_SEG_META)
            json_put_null(&j, "logical");
        else
            json_put_u64(&j, "logical", info->logical);
        json_put_u64(&j, "physical", info->physical);
        json_put_string(&j, "kind", segment_kind_name(info->kind));
        json_put_u64(&j, "used_bytes", info->used);
        json_put_bool(&j, "head", info->head);
        json_put_object_end(&j);
        json_end_line(&j);
        return 0;
    }
    char logical[24] = "-";
    text_buf used;
    if (info->kind != CMB_SEG_META)
        snprintf(logical, sizeof(logical), "%" PRIu64, info->logical);
    printf("%10s %10" PRIu64 "  %-9s %12s%s\n", logical, info->physical, segment_kind_name(info->kind),
           text_size(&used, info->used), info->head ? "  head" : "");
    return 0;
}

int inspect_segments(const cli *c)
{
    inspect_image image = {0};
    cmb_log_stats stats;
    int status = inspect_open(c, &image);
    if (status)
        return status;
    cmb_log_get_stats(image.log, &stats);
    if (!cli_has(c, INSPECT_JSON)) {
        text_buf size;
        printf("segments of %s; free %" PRIu64 ", live %" PRIu64 ", quarantined %" PRIu64 "\n",
               text_size(&size, stats.segment_size), stats.segments[CMB_SEG_FREE], stats.segments[CMB_SEG_LIVE],
               stats.segments[CMB_SEG_QUARANTINE1] + stats.segments[CMB_SEG_QUARANTINE2]);
        printf("%10s %10s  %-9s %12s\n", "logical", "physical", "kind", "used");
    }
    int rc = cmb_log_segments(image.log, show_segment, (void *)(uintptr_t)c);
    status = rc ? cli_fail(c, rc) : image.rescued ? CLI_IMAGE : CLI_OK;
    inspect_close(&image);
    return status;
}

/* ---- frames and records ---- */

const char *inspect_kind_name(unsigned kind)
{
    static const char *const names[] = {
        [CMB_RECORD_LEAF] = "leaf",     [CMB_RECORD_NODE] = "node",         [CMB_RECORD_CHUNK] = "chunk",
        [CMB_RECORD_CHUNKS] = "chunks", [CMB_RECORD_COMMIT] = "commit",     [CMB_RECORD_EDITS] = "edits",
        [CMB_RECORD_ROOT] = "root",     [CMB_RECORD_SEGMENTS] = "segments", [CMB_RECORD_TAG] = "tag",
        [CMB_RECORD_INTENTS] = "intents",
    };
    return kind < CMB_COUNTOF(names) && names[kind] ? names[kind] : "unknown";
}

typedef struct frames {
    const cli *c;
    cmb_log *log;
    uint64_t segment; /* UINT64_MAX: all */
    uint64_t damaged;
    bool found;
} frames;

static const char *frame_flags(uint32_t flags, char out[64])
{
    static const struct {
        uint32_t bit;
        const char *name;
    } names[] = {{CMB_FRAME_FIRST, "first"},
                 {CMB_FRAME_LAST, "last"},
                 {CMB_FRAME_STREAM, "stream"},
                 {CMB_FRAME_SEAL, "seal"},
                 {CMB_FRAME_EPOCH, "epoch"}};
    out[0] = '\0';
    for (size_t i = 0; i < CMB_COUNTOF(names); i++) {
        size_t n = strlen(out);
        if (flags & names[i].bit)
            snprintf(out + n, 64 - n, "%s%s", n ? "," : "", names[i].name);
    }
    return out;
}

static void event_json(const cmb_scan_event *e)
{
    char flags[64];
    json j = {.out = stdout};
    json_put_object(&j, NULL);
    if (e->error) {
        json_put_string(&j, "damaged", cmb_error_detail());
        json_put_u64(&j, "address", e->addr);
    } else if (e->record) {
        json_put_string(&j, "record", inspect_kind_name(e->kind));
        json_put_u64(&j, "address", e->addr);
        json_put_u64(&j, "length", e->length);
    } else {
        json_put_u64(&j, "frame", e->frame_addr);
        json_put_u64(&j, "length", e->frame_length);
        json_put_u64(&j, "seq", e->seq);
        json_put_u64(&j, "durable_seq", e->durable_seq);
        json_put_u64(&j, "epoch", e->epoch);
        json_put_string(&j, "flags", frame_flags(e->flags, flags));
    }
    json_put_object_end(&j);
    json_end_line(&j);
}

static int show_event(void *ctx, const cmb_scan_event *e)
{
    frames *f = ctx;
    char flags[64];
    f->damaged += e->error != 0;
    if (e->record && !e->error && !cli_has(f->c, INSPECT_RECORDS))
        return 0;
    if (cli_has(f->c, INSPECT_JSON))
        event_json(e);
    else if (e->error)
        printf("DAMAGED  %" PRIu64 ": %s\n", e->addr, cmb_error_detail());
    else if (e->record)
        printf("  %-8s %" PRIu64 " length %" PRIu32 "\n", inspect_kind_name(e->kind), e->addr, e->length);
    else
        printf("frame    %" PRIu64 " length %" PRIu32 " seq %" PRIu64 " durable %" PRIu64 " epoch %016" PRIx64 " %s\n",
               e->frame_addr, e->frame_length, e->seq, e->durable_seq, e->epoch, frame_flags(e->flags, flags));
    return cli_output_ok(stdout) ? 0 : CMB_ESTOPPED;
}

static int scan_segment(void *ctx, const cmb_segment_info *info)
{
    frames *f = ctx;
    if (info->kind == CMB_SEG_META || (f->segment != UINT64_MAX && f->segment != info->logical))
        return 0;
    f->found = true;
    if (!cli_has(f->c, INSPECT_JSON))
        printf("segment  %" PRIu64 " physical %" PRIu64 " %s, %" PRIu64 " bytes%s\n", info->logical, info->physical,
               segment_kind_name(info->kind), info->used, info->head ? ", head" : "");
    return cmb_log_scan(f->log, info->logical, show_event, f);
}

int inspect_log(const cli *c)
{
    inspect_image image = {0};
    frames f = {.c = c, .segment = UINT64_MAX};
    if (!cli_u64(c, INSPECT_SEGMENT, &f.segment))
        return CLI_USAGE;
    int status = inspect_open(c, &image);
    if (status)
        return status;
    f.log = image.log;
    int rc = cmb_log_segments(image.log, scan_segment, &f);
    if (rc && rc != CMB_ESTOPPED)
        status = cli_fail(c, rc);
    else if (f.segment != UINT64_MAX && !f.found)
        status = cli_say(CLI_NOT_FOUND, cli_image(c), "%s: no logical segment %" PRIu64, cmb_strerror(CMB_ENOTFOUND),
                         f.segment);
    else
        status = f.damaged || image.rescued ? CLI_IMAGE : CLI_OK;
    inspect_close(&image);
    return status;
}
