/* SPDX-License-Identifier: ISC */
/*
 * fsck.c: looking for damage (inspect.h). Each layer is asked in turn, from the superblocks up; damage is told and
 * stepped over where that is possible. Nothing is written.
 */
#include <cambium/inspect.h>

#include <stdio.h>

#include "log/format.h"
#include "store/mark.h"

typedef struct fsck {
    cmb_store *store;
    const cmb_fsck_options *options;
    cmb_fsck_result result;
    unsigned shift;      /* of a segment */
    cmb_mark mark;       /* STRUCTURE and above */
    uint64_t total;      /* bytes that are to be read, as far as known */
    uint64_t scanned;    /* bytes of frames */
    cmb_addrset *shapes; /* roots whose shape was looked at */
} fsck;

/* ---- telling ---- */

/* Non-zero: the caller of fsck wants no more. The detail text of the thread is the finding's text. */
static int found(fsck *f, const char *code, int error, uint64_t addr, const char *where)
{
    char text[512];
    f->result.findings++;
    snprintf(text, sizeof(text), "%s", cmb_error_detail());
    if (!f->options->on_finding)
        return 0;
    cmb_finding finding = {code, error, addr, text, where};
    return f->options->on_finding(f->options->ctx, &finding) ? cmb_fail(CMB_ESTOPPED, "fsck was stopped") : 0;
}

static bool is_damage(int error)
{
    return error == CMB_ECORRUPT || error == CMB_EIO || error == CMB_EVERSION || error == CMB_ENOTFOUND ||
           error == CMB_EINVAL;
}

/* Damage becomes a finding; anything else stops the check. */
static int judge(fsck *f, int error, const char *code, uint64_t addr, const char *where)
{
    return is_damage(error) ? found(f, code, error, addr, where) : error;
}

static void tell_progress(fsck *f, uint64_t bytes)
{
    if (f->options->on_progress)
        f->options->on_progress(f->options->ctx, bytes, f->total > bytes ? f->total : bytes);
}

/* ---- superblocks and tables ---- */

/*
 * A checkpoint that was cut off leaves invalid copies, as it should: those of the older generation's pair may be that
 * at any time, those of the newest only until something was sealed after it. What is left is damage.
 */
static int check_superblocks(fsck *f)
{
    cmb_log_stats stats;
    cmb_log_get_stats(f->store->log, &stats);
    for (unsigned slot = 0; slot < CMB_SUPER_SLOTS; slot++) {
        char lines[4096];
        bool valid = false, newest = slot % 2 == stats.generation % 2;
        int error = cmb_log_describe_super(f->store->dev, &f->store->alloc, slot, lines, sizeof(lines), &valid);
        f->result.superblocks += !error && valid;
        if (!error && !valid && newest && stats.sealed) {
            const char *why = strstr(lines, "\nvalid: no");
            why = why ? why + sizeof("\nvalid: no") - 1 : "";
            error = cmb_fail(CMB_ECORRUPT, "superblock %u at %llu is not valid%.*s", slot,
                             (unsigned long long)slot * CMB_SUPER_SPACING, (int)strcspn(why, "\n"), why);
        }
        if (error)
            error = judge(f, error, "superblock-damaged", 0, "nothing: the other copies hold");
        if (error)
            return error;
    }
    return 0;
}

static int table_finding(void *ctx, int error, const char *text)
{
    if (error == CMB_ENOMEM)
        return error;
    cmb_fail(error, "%s", text);
    return found(ctx, "table-damaged", error, 0, "segments that this page maps");
}

static int check_tables(fsck *f)
{
    return cmb_log_check_tables(f->store->log, &f->result.table_pages, table_finding, f);
}

/* ---- refs and their commits ---- */

static int check_parents(fsck *f, const char *where, const cmb_commit_record *record)
{
    for (size_t i = 0; i < record->commit.parent_count; i++) {
        cmb_commit_at at;
        if (cmb_commit_is_absent(&record->parents[i]))
            continue;
        int error = cmb_commit_find(f->store, &record->commit.parents[i], &at);
        if (!error && at.addr >= record->at.addr)
            error = cmb_fail(CMB_ECORRUPT, "a parent at %llu lies above its child at %llu", (unsigned long long)at.addr,
                             (unsigned long long)record->at.addr);
        if (error)
            error = judge(f, error, "parent-missing", record->at.addr, where);
        if (error)
            return error;
    }
    return 0;
}

static int check_ref(void *ctx, const char *name, const cmb_state *state)
{
    fsck *f = ctx;
    size_t prefix = strncmp(name, CMB_TAGS, sizeof CMB_TAGS - 1) == 0     ? sizeof CMB_TAGS - 1
                    : strncmp(name, CMB_HEADS, sizeof CMB_HEADS - 1) == 0 ? sizeof CMB_HEADS - 1
                                                                          : 0;
    cmb_commit_record *record;
    cmb_commit_at at;
    f->result.refs++;
    int error =
        prefix ? cmb_ref_name_check(name + prefix) : cmb_fail(CMB_EINVAL, "'%s' is neither a branch nor a tag", name);
    if (error)
        error = judge(f, error, "ref-name", 0, name);
    if (error || state->commit.id.size == 0)
        return error;
    error = cmb_commit_find(f->store, &state->commit.id, &at);
    if (!error && at.addr != state->commit.addr)
        error = cmb_fail(CMB_ECORRUPT, "the index has its commit at %llu, the ref at %llu", (unsigned long long)at.addr,
                         (unsigned long long)state->commit.addr);
    if (error)
        error = judge(f, error, "index-mismatch", state->commit.addr, name);
    if (error)
        return error;
    error = cmb_commit_load(f->store, &state->commit, &record);
    if (error) /* STRUCTURE tells of it when it comes there */
        return f->options->level == CMB_FSCK_QUICK ? judge(f, error, "commit-damaged", state->commit.addr, name) : 0;
    f->result.commits++;
    error = check_parents(f, name, record);
    cmb_commit_free(&record->commit);
    return error;
}

static int check_refs(fsck *f)
{
    int error = cmb_refs_each(f->store, "", check_ref, f);
    /* Above QUICK the mark tells of it. */
    return is_damage(error) && f->options->level > CMB_FSCK_QUICK
               ? 0
               : judge(f, error, "refs-unreadable", 0, "branches and tags from there on");
}

/* ---- trees ---- */

static int mark_damage(void *ctx, const cmb_damage *damage)
{
    return found(ctx, damage->code, damage->error, damage->addr, damage->where);
}

static void mark_progress(void *ctx, uint64_t bytes)
{
    tell_progress(ctx, bytes);
}

static int check_trees(fsck *f)
{
    bool full = f->options->level == CMB_FSCK_FULL;
    cmb_mark_options options = {
        .read_leaves = full, .verify_values = full, .damage = mark_damage, .progress = mark_progress, .ctx = f};
    int error = cmb_mark_store(f->store, &options, &f->mark);
    if (error)
        return error;
    f->result.nodes = f->mark.nodes.count;
    f->result.leaves = f->mark.leaves.count;
    f->result.values = f->mark.values.count;
    f->result.commits = f->mark.commits.count;
    f->result.bytes = f->mark.bytes - (full ? 0 : f->mark.leaves.bytes + f->mark.values.bytes);
    return 0;
}

/* ---- FULL: shapes and frames ---- */

static int check_shape(void *ctx, const char *name, const cmb_state *state)
{
    fsck *f = ctx;
    bool added;
    if (state->root.addr == 0)
        return 0;
    int error = cmb_addrset_add(f->shapes, state->root.addr, 0, &added);
    if (error || !added)
        return error;
    error = cmb_tree_check_shape(&f->store->tree, &state->root);
    return error ? judge(f, error, "shape-wrong", state->root.addr, name) : 0;
}

static int check_shapes(fsck *f)
{
    int error = cmb_addrset_create(&f->store->alloc, f->shift, &f->shapes);
    if (error)
        return error;
    error = cmb_refs_each(f->store, "", check_shape, f);
    cmb_addrset_destroy(f->shapes);
    return error;
}

/* Does anything that is kept lie in the frame that begins here? Its length is not known: the longest one's is taken. */
static bool reaches(const fsck *f, uint64_t addr)
{
    uint64_t segment_end = ((addr >> f->shift) + 1) << f->shift;
    uint64_t end = addr + CMB_FRAME_MAX < segment_end ? addr + CMB_FRAME_MAX : segment_end;
    for (uint64_t a = cmb_align_up(addr, CMB_RECORD_ALIGN); a < end; a += CMB_RECORD_ALIGN) {
        if (cmb_addrset_has(f->mark.seen, a))
            return true;
    }
    return false;
}

static int scan_event(void *ctx, const cmb_scan_event *event)
{
    fsck *f = ctx;
    if (!event->record && !event->error) {
        f->result.frames++;
        f->scanned += event->frame_length;
        tell_progress(f, f->mark.bytes + f->scanned);
    }
    if (!event->error)
        return 0;
    bool record = event->addr != event->frame_addr;
    const char *where = reaches(f, event->addr)
                            ? "records that are in use: findings about nodes, values or commits name them"
                            : "nothing that is in use";
    return judge(f, event->error, record ? "record-damaged" : "frame-damaged", event->addr, where);
}

static int scan_segment(void *ctx, const cmb_segment_info *info)
{
    fsck *f = ctx;
    return info->kind == CMB_SEG_META ? 0 : cmb_log_scan(f->store->log, info->logical, scan_event, f);
}

static int measure_segment(void *ctx, const cmb_segment_info *info)
{
    *(uint64_t *)ctx += info->kind == CMB_SEG_META ? 0 : info->used;
    return 0;
}

static int check_frames(fsck *f)
{
    int error = cmb_log_segments(f->store->log, scan_segment, f);
    f->result.bytes += f->scanned;
    return error;
}

static int run(fsck *f)
{
    int error = check_superblocks(f);
    if (!error)
        error = check_tables(f);
    if (!error)
        error = check_refs(f);
    if (error || f->options->level == CMB_FSCK_QUICK)
        return error;
    uint64_t log = 0;
    error = cmb_log_segments(f->store->log, measure_segment, &log);
    f->total = f->options->level == CMB_FSCK_FULL ? 2 * log : 0; /* trees, then frames; shapes are not counted */
    uint64_t before = f->result.findings;
    if (!error)
        error = check_trees(f);
    if (error || f->options->level != CMB_FSCK_FULL)
        return error;
    if (f->result.findings == before) /* what cannot be read has no shape */
        error = check_shapes(f);
    return error ? error : check_frames(f);
}

int cmb_fsck(cmb_store *store, const cmb_fsck_options *options, cmb_fsck_result *out_result)
{
    if (options->level < CMB_FSCK_QUICK || options->level > CMB_FSCK_FULL)
        return cmb_fail(CMB_EINVAL, "unknown fsck level %d", (int)options->level);
    fsck f = {.store = store, .options = options, .shift = cmb_log_params(store->log)->segment_shift};
    int error = run(&f);
    cmb_mark_destroy(&f.mark);
    if (!error)
        *out_result = f.result;
    return error;
}
