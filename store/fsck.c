/* SPDX-License-Identifier: ISC */
/*
 * fsck.c: looking for damage (fsck.h). Each layer is asked in turn, from the superblocks up; damage is told and
 * stepped over where that is possible. A full check reads the log once from end to end, in large pieces and by several
 * threads (facts.h); beside it the walk over the trees reads inner nodes and holds the leaves' facts against them. Nothing is
 * written.
 */
#include <cambium/fsck.h>

#include <stdio.h>

#include "log/format.h"
#include "store/intents.h"
#include "store/report.h"

typedef struct fsck {
    cmb_store *store;
    const cmb_fsck_options *options;
    cmb_fsck_result result;
    cmb_report report;
    cmb_facts *facts;    /* FULL */
    cmb_mark mark;       /* STRUCTURE and above */
    uint64_t total;      /* bytes that are to be read, as far as known */
    uint64_t done;       /* bytes at the last progress */
    cmb_addrset *shapes; /* roots and inner nodes whose shape was looked at */
} fsck;

/* ---- telling ---- */

static bool is_damage(int error)
{
    return error == CMB_ECORRUPT || error == CMB_EIO || error == CMB_EVERSION || error == CMB_ENOTFOUND ||
           error == CMB_EINVAL;
}

/* Damage becomes a finding; anything else stops the check. */
static int judge(fsck *f, int error, cmb_finding_number number, uint64_t addr, cmb_owner_kind kind, const char *who)
{
    if (!is_damage(error))
        return error;
    return cmb_report_add(&f->report, &(cmb_damage){.number = number, .error = error, .addr = addr, .owner = {kind, who}}, NULL);
}

static void tell_progress(fsck *f, uint64_t bytes)
{
    if (bytes > f->done)
        f->done = bytes;
    if (f->options->on_progress)
        f->options->on_progress(f->options->ctx, f->done, f->total > f->done ? f->total : f->done);
}

/* ---- superblocks and tables ---- */

/*
 * A checkpoint that was cut off leaves invalid copies, as it should: those of the older generation's pair may be that
 * at any time, those of the newest only until something was sealed after it. What is left is damage.
 */
static int check_superblock(fsck *f, unsigned slot, bool must_be_valid)
{
    char lines[4096];
    bool valid = false;
    int error = 0;
    for (unsigned i = 0; i < 3 && !valid; i++) { /* a writer may be at it: it is looked at again */
        error = cmb_log_describe_super(f->store->dev, &f->store->alloc, slot, lines, sizeof(lines), &valid);
        valid = valid && !error;
    }
    f->result.superblocks += valid;
    if (!error && !valid && must_be_valid) {
        const char *why = strstr(lines, "\nvalid: no");
        why = why ? why + sizeof("\nvalid: no") - 1 : "";
        error = cmb_fail(CMB_ECORRUPT, "superblock %u at %llu is not valid%.*s", slot, (unsigned long long)slot * CMB_SUPER_SPACING,
                         (int)strcspn(why, "\n"), why);
    }
    return judge(f, error, CMB_FINDING_SUPERBLOCK_DAMAGED, 0, CMB_OWNER_OTHER, "nothing: the other copies hold");
}

static int check_superblocks(fsck *f)
{
    cmb_log_stats stats;
    int error = 0;
    cmb_log_get_stats(f->store->log, &stats);
    for (unsigned slot = 0; slot < CMB_SUPER_SLOTS && !error; slot++)
        error = check_superblock(f, slot, slot % 2 == stats.generation % 2 && stats.sealed);
    return error;
}

static int table_finding(void *ctx, int error, const char *text)
{
    char copy[512]; /* it may be the detail text itself */
    if (error == CMB_ENOMEM)
        return error;
    snprintf(copy, sizeof copy, "%s", text);
    cmb_fail(error, "%s", copy);
    return judge(ctx, error, CMB_FINDING_TABLE_DAMAGED, 0, CMB_OWNER_OTHER, "segments that this page maps");
}

static int check_tables(fsck *f)
{
    return cmb_log_check_tables(f->store->log, &f->result.table_pages, table_finding, f);
}

/* ---- refs and their commits ---- */

static int check_parents(fsck *f, const char *ref, const cmb_commit_record *record)
{
    for (size_t i = 0; i < record->commit.parent_count; i++) {
        cmb_commit_at at;
        if (cmb_commit_is_absent(&record->parents[i]))
            continue;
        int error = cmb_commit_find(f->store, &record->commit.parents[i], &at);
        if (!error)
            error = cmb_mark_check_parent(record, i, &at);
        if (error)
            error = judge(f, error, CMB_FINDING_PARENT_MISSING, record->at.addr, CMB_OWNER_REF, ref);
        if (error)
            return error;
    }
    return 0;
}

static int check_commit(fsck *f, const char *name, const cmb_commit_at *expected)
{
    cmb_commit_record *record;
    cmb_commit_at at;
    int error = cmb_commit_find(f->store, &expected->id, &at);
    if (!error && at.addr != expected->addr)
        error = cmb_fail(CMB_ECORRUPT, "the index has its commit at %llu, the ref at %llu", (unsigned long long)at.addr,
                         (unsigned long long)expected->addr);
    if (error)
        error = judge(f, error, CMB_FINDING_INDEX_MISMATCH, expected->addr, CMB_OWNER_REF, name);
    if (error)
        return error;
    error = cmb_commit_load(f->store, expected, &record);
    if (error) /* STRUCTURE tells of it when it comes there */
        return f->options->level > CMB_FSCK_QUICK && is_damage(error)
                   ? 0
                   : judge(f, error, CMB_FINDING_COMMIT_DAMAGED, expected->addr, CMB_OWNER_REF, name);
    f->result.commits++;
    error = check_parents(f, name, record);
    cmb_commit_free(&record->commit);
    return error;
}

static int check_ref(void *ctx, const char *name, const cmb_state *state)
{
    fsck *f = ctx;
    size_t prefix = strncmp(name, CMB_TAGS, sizeof CMB_TAGS - 1) == 0     ? sizeof CMB_TAGS - 1
                    : strncmp(name, CMB_HEADS, sizeof CMB_HEADS - 1) == 0 ? sizeof CMB_HEADS - 1
                                                                          : 0;
    f->result.refs++;
    int error =
        prefix ? cmb_ref_name_check(name + prefix) : cmb_fail(CMB_EINVAL, "'%s' is neither a branch nor a tag", name);
    if (error)
        error = judge(f, error, CMB_FINDING_REF_NAME, 0, CMB_OWNER_REF, name);
    return error || state->commit.id.size == 0 ? error : check_commit(f, name, &state->commit);
}

static int check_refs(fsck *f)
{
    int error = cmb_refs_each_written(f->store, "", check_ref, f);
    /* Above QUICK the mark tells of it. */
    return is_damage(error) && f->options->level > CMB_FSCK_QUICK
               ? 0
               : judge(f, error, CMB_FINDING_REFS_UNREADABLE, 0, CMB_OWNER_OTHER, "branches and tags from there on");
}

/* ---- edits that are not in a tree yet ---- */

/* They were read when the image was opened; here it is whether they still can be. */
static int check_run(void *ctx, const char *ref, uint64_t addr, uint32_t length)
{
    fsck *f = ctx;
    uint8_t *record = cmb_alloc(&f->store->alloc, length);
    int error = record ? cmb_log_read(f->store->log, NULL, addr, length, record) : CMB_ENOMEM;
    if (!error)
        error = cmb_record_check(record, length, addr);
    if (!error && (cmb_record_length(record) != length || cmb_record_kind_of(record) != CMB_RECORD_INTENTS))
        error = cmb_fail(CMB_ECORRUPT, "intents record at %llu: another record is there", (unsigned long long)addr);
    cmb_release(&f->store->alloc, record, length);
    bool gone = error && error != CMB_ENOMEM && (!cmb_runs_have(f->store, addr) || cmb_log_is_stale(f->store->log));
    if (gone) /* merged and recycled meanwhile */
        return 0;
    return judge(f, error, CMB_FINDING_INTENTS_DAMAGED, addr, CMB_OWNER_REF, ref);
}

/* ---- trees ---- */

static int mark_damage(void *ctx, const cmb_damage *damage, uint32_t *out_id)
{
    fsck *f = ctx;
    return cmb_report_add(&f->report, damage, out_id);
}

static void mark_shared(void *ctx, uint32_t id, const cmb_owner *owner)
{
    fsck *f = ctx;
    cmb_report_share(&f->report, id, owner);
}

static void mark_progress(void *ctx, uint64_t bytes)
{
    fsck *f = ctx;
    tell_progress(f, f->facts ? cmb_facts_bytes(f->facts) : bytes); /* what the walk of a full check reads itself is little */
}

static int check_trees(fsck *f)
{
    bool full = f->options->level == CMB_FSCK_FULL;
    cmb_mark_options options = {.read_leaves = full, .verify_values = full, .facts = f->facts, .damage = mark_damage, .shared = mark_shared,
                                .progress = mark_progress, .ctx = f};
    int error = cmb_mark_store(f->store, &options, &f->mark);
    if (!error)
        error = cmb_report_flush(&f->report);
    if (error)
        return error;
    f->result.nodes = f->mark.nodes.count;
    f->result.leaves = f->mark.leaves.count;
    f->result.values = f->mark.values.count;
    f->result.commits = f->mark.commits.count;
    if (!full)
        f->result.bytes = f->mark.bytes - f->mark.leaves.bytes - f->mark.values.bytes;
    return 0;
}

/* ---- FULL: frames and shapes ---- */

static int measure_segment(void *ctx, const cmb_segment_info *info)
{
    *(uint64_t *)ctx += info->kind == CMB_SEG_META ? 0 : info->used;
    return 0;
}

static void facts_progress(void *ctx, uint64_t bytes)
{
    tell_progress(ctx, bytes);
}

static int start_facts(fsck *f)
{
    uint64_t log = 0;
    int error = cmb_log_segments(f->store->log, measure_segment, &log);
    f->total = error ? 0 : log; /* a table that cannot be read was told of */
    cmb_facts_options options = {.threads = f->options->threads, .memory = f->options->memory, .progress = facts_progress, .ctx = f};
    return error == CMB_ENOMEM ? error : cmb_facts_start(f->store, &options, &f->facts);
}

static int finish_facts(fsck *f)
{
    int error = cmb_facts_finish(f->facts);
    if (error)
        return error;
    f->result.frames = cmb_facts_frames(f->facts);
    f->result.bytes = cmb_facts_bytes(f->facts);
    return 0;
}

/* Does anything that is kept lie in the damaged stretch? */
static bool reaches(const fsck *f, const cmb_lost *lost)
{
    for (uint64_t a = cmb_align_up(lost->addr, CMB_RECORD_ALIGN); a < lost->end; a += CMB_RECORD_ALIGN)
        if (cmb_addrset_has(f->mark.seen, a))
            return true;
    return false;
}

static int tell_lost(fsck *f, const cmb_lost *lost)
{
    bool tail = lost->addr >= cmb_log_tail_start(f->store->log), used = tail || reaches(f, lost);
    const char *who = tail   ? "what was written since the last checkpoint: a later open may be refused"
                      : used ? "records that are in use: findings about nodes, values or commits name them"
                             : "nothing that is in use";
    cmb_finding_number number = lost->record ? CMB_FINDING_RECORD_DAMAGED
                                : used       ? CMB_FINDING_FRAME_DAMAGED
                                             : CMB_FINDING_FRAME_DAMAGED_UNUSED;
    return judge(f, cmb_fail(CMB_ECORRUPT, "%s", lost->text), number, lost->addr, CMB_OWNER_OTHER, who);
}

/* Journal segments, and the head's as of then, serve the writer anew two checkpoints later: nothing but a recovery needs them. */
static bool passes(const fsck *f, const cmb_lost *lost)
{
    unsigned shift = cmb_log_params(f->store->log)->segment_shift;
    bool head = lost->addr >> shift >= cmb_log_tail_start(f->store->log) >> shift;
    return lost->kind == CMB_SEG_JOURNAL || (head && lost->kind == CMB_SEG_PLAIN);
}

static int check_frames(fsck *f)
{
    size_t n;
    uint64_t total, passed = 0;
    int error = 0;
    const cmb_lost *lost = cmb_facts_lost(f->facts, &n, &total);
    bool stale = total && cmb_log_is_stale(f->store->log);
    for (size_t i = 0; i < n && !error; i++) {
        bool pass = stale && passes(f, &lost[i]);
        passed += pass;
        error = pass ? 0 : tell_lost(f, &lost[i]);
    }
    if (error || total <= n || (stale && passed == n))
        return error;
    error = cmb_fail(CMB_ECORRUPT, "%llu more damaged frames", (unsigned long long)(total - n));
    return judge(f, error, CMB_FINDING_FRAMES_DAMAGED_MORE, 0, CMB_OWNER_OTHER, "what findings about nodes, values and commits name");
}

static bool shape_facts(void *ctx, uint64_t addr, cmb_node_facts *out_facts)
{
    fsck *f = ctx;
    return cmb_facts_leaf(f->facts, addr, out_facts);
}

static int shape_done(void *ctx, uint64_t addr, bool *out_added)
{
    fsck *f = ctx;
    return cmb_addrset_add(f->shapes, addr, 0, out_added);
}

static int check_shape_of(fsck *f, const char *name, const cmb_noderef *root)
{
    static const cmb_shape_ops ops = {.facts = shape_facts, .done = shape_done};
    bool added = true;
    int error = root->addr ? cmb_addrset_add(f->shapes, root->addr, 0, &added) : 0;
    if (error || !added)
        return error;
    error = cmb_tree_check_shape_with(&f->store->tree, root, &ops, f);
    return error ? judge(f, error, CMB_FINDING_SHAPE_WRONG, root->addr, CMB_OWNER_REF, name) : 0;
}

static int check_shape(void *ctx, const char *name, const cmb_state *state)
{
    int error = check_shape_of(ctx, name, &state->root);
    return error || !state->working ? error : check_shape_of(ctx, name, &state->commit_root);
}

static int check_shapes(fsck *f)
{
    int error = cmb_addrset_create(&f->store->alloc, cmb_log_params(f->store->log)->segment_shift, &f->shapes);
    if (error)
        return error;
    error = cmb_refs_each_written(f->store, "", check_shape, f);
    cmb_addrset_destroy(f->shapes);
    return error;
}

/* ---- all of it ---- */

static int run(fsck *f)
{
    bool full = f->options->level == CMB_FSCK_FULL;
    int error = check_superblocks(f);
    if (!error)
        error = check_tables(f);
    if (!error)
        error = check_refs(f);
    if (!error)
        error = cmb_runs_each(f->store, check_run, f);
    if (error || f->options->level == CMB_FSCK_QUICK)
        return error;
    if (full)
        error = start_facts(f);
    uint64_t before = f->report.findings;
    if (!error)
        error = check_trees(f);
    if (!error && full)
        error = finish_facts(f);
    if (error || !full)
        return error;
    if (f->report.findings == before) /* what cannot be read has no shape */
        error = check_shapes(f);
    return error ? error : check_frames(f);
}

int cmb_fsck(cmb_store *store, const cmb_fsck_options *options, cmb_fsck_result *out_result)
{
    if (options->level < CMB_FSCK_QUICK || options->level > CMB_FSCK_FULL)
        return cmb_fail(CMB_EINVAL, "unknown fsck level %d", (int)options->level);
    fsck f = {.store = store, .options = options};
    cmb_report_init(&f.report, store, options);
    int error = run(&f);
    cmb_mark_destroy(&f.mark);
    cmb_facts_destroy(f.facts);
    cmb_report_destroy(&f.report);
    if (error)
        return error;
    f.result.findings = f.report.findings;
    f.result.spare = f.report.spare;
    *out_result = f.result;
    return 0;
}
