/* SPDX-License-Identifier: ISC */
/* stat.c: what an image holds and how well it is filled (inspect.h). */
#include <cambium/inspect.h>

#include "store/mark.h"

static const char *kind_name(cmb_segment_kind kind)
{
    switch (kind) {
    case CMB_SEG_NONE:
        break;
    case CMB_SEG_PLAIN:
        return "plain";
    case CMB_SEG_COMPACTED:
        return "compacted";
    case CMB_SEG_STREAM:
        return "stream";
    case CMB_SEG_META:
        return "meta";
    case CMB_SEG_JOURNAL:
        return "journal";
    }
    return "none";
}

typedef struct segments {
    const cmb_mark *mark;
    cmb_stat *stat;
    int (*fn)(void *ctx, const cmb_segment_stat *segment);
    void *ctx;
} segments;

static int count_segment(void *ctx, const cmb_segment_info *info)
{
    const segments *s = ctx;
    bool meta = info->kind == CMB_SEG_META;
    if (meta)
        s->stat->segments_meta++;
    else
        s->stat->log_bytes += info->used;
    if (!s->fn)
        return 0;
    return s->fn(s->ctx, &(cmb_segment_stat){
                             .logical = meta ? 0 : info->logical,
                             .physical = info->physical,
                             .kind = kind_name(info->kind),
                             .used_bytes = info->used,
                             .live_bytes = meta ? info->used : cmb_addrset_bytes(s->mark->seen, info->logical),
                             .head = info->head,
                         });
}

static void fill_from_mark(cmb_stat *stat, const cmb_mark *m)
{
    stat->live_bytes = m->bytes;
    stat->leaf_bytes = m->leaves.bytes;
    stat->node_bytes = m->nodes.bytes;
    stat->value_bytes = m->values.bytes;
    stat->commit_bytes = m->commits.bytes;
    stat->ref_bytes = m->tables.bytes + m->tag_objects.bytes + m->intents.bytes;
    stat->leaves = m->leaves.count;
    stat->nodes = m->nodes.count;
    stat->values = m->values.count;
    stat->commits = m->commits.count;
    stat->branches = m->branches;
    stat->tags = m->tags;
    stat->entries = m->entries;
    stat->height = m->height;
}

int cmb_stat_store(cmb_store *store, cmb_stat *out_stat, int (*on_segment)(void *ctx, const cmb_segment_stat *segment),
                   void *ctx)
{
    cmb_log_stats log;
    cmb_mark mark;
    cmb_stat stat = {0};
    int error = cmb_mark_store(store, &(cmb_mark_options){0}, &mark);
    if (error)
        return error;
    cmb_log_get_stats(store->log, &log);
    stat.image_bytes = log.size;
    stat.segment_bytes = log.segment_size;
    stat.segments_free = log.segments[CMB_SEG_FREE];
    stat.segments_live = log.segments[CMB_SEG_LIVE];
    stat.segments_quarantined = log.segments[CMB_SEG_QUARANTINE1] + log.segments[CMB_SEG_QUARANTINE2];
    fill_from_mark(&stat, &mark);
    segments s = {&mark, &stat, on_segment, ctx};
    error = cmb_log_segments(store->log, count_segment, &s);
    cmb_mark_destroy(&mark);
    if (error)
        return error < 0 ? error : cmb_fail(CMB_ESTOPPED, "the list of segments was stopped");
    *out_stat = stat;
    return 0;
}
