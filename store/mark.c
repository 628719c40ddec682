/* SPDX-License-Identifier: ISC */
#include "store/mark.h"

#include <stdio.h>

#include "store/hurt.h"
#include "store/intents.h"
#include "store/tag.h"

#define LABEL_MAX (CMB_REF_NAME_MAX + 40u)

/* The walk of one tree, and what is common to all of them. */
typedef struct walk {
    cmb_store *store;
    const cmb_mark_options *options;
    cmb_mark *mark;
    cmb_hurt *hurt;        /* nodes above damage that was reported, and what was damaged */
    cmb_owner owner;       /* whose tree this is; its name is the label */
    char label[LABEL_MAX];
    bool is_table;
    unsigned top;                      /* level of the present root */
    uint64_t path[CMB_LEVEL_MAX + 1u]; /* addresses from the root down to where the walk is, by level */
    uint64_t told; /* bytes at the last progress */
    uint8_t key[CMB_KEY_MAX];
} walk;

static void own(walk *w, cmb_owner_kind kind, const char *name)
{
    snprintf(w->label, sizeof(w->label), "%s", name);
    w->owner = (cmb_owner){kind, w->label};
}

/* ---- telling ---- */

/* Fills in the owner. Damage of memory is not the image's. */
static int tell_damage(const walk *w, cmb_damage *damage, uint32_t *out_id)
{
    *out_id = CMB_DAMAGE_UNSHARED;
    if (damage->error == CMB_ENOMEM || !w->options->damage)
        return damage->error;
    damage->owner = w->owner;
    return w->options->damage(w->options->ctx, damage, out_id);
}

static int tell(walk *w, cmb_finding_number number, int error, uint64_t addr)
{
    uint32_t id;
    error = tell_damage(w, &(cmb_damage){.number = number, .error = error, .addr = addr}, &id);
    return error || id == CMB_DAMAGE_UNSHARED ? error : cmb_hurt_add(w->hurt, addr, id);
}

static void progress(walk *w)
{
    if (w->options->progress && w->mark->bytes - w->told >= (1u << 20)) {
        w->told = w->mark->bytes;
        w->options->progress(w->options->ctx, w->told);
    }
}

/* Counts a record once. */
static int add(walk *w, uint64_t addr, uint32_t length, cmb_tally *tally, bool *out_added)
{
    uint32_t bytes = (uint32_t)cmb_align_up(length, CMB_RECORD_ALIGN);
    int error = cmb_addrset_add(w->mark->seen, addr, bytes, out_added);
    if (error || !*out_added)
        return error;
    tally->count++;
    tally->bytes += bytes;
    w->mark->bytes += bytes;
    progress(w);
    return 0;
}

/* ---- one tree ---- */

/* The way from the root down to `level` is hurt: other trees that share a part of it are told of. */
static int hurt_path(walk *w, unsigned level, uint32_t id)
{
    int error = 0;
    for (unsigned l = level; l <= w->top && id != CMB_DAMAGE_UNSHARED && !error; l++)
        error = cmb_hurt_add(w->hurt, w->path[l], id);
    return error;
}

/* A record of this owner's that was looked at for another one; above_level: whose nodes lie above it, from there on up. */
static int met_again(walk *w, uint64_t addr, unsigned above_level)
{
    size_t n;
    int error = 0;
    const uint32_t *ids = cmb_hurt_at(w->hurt, addr, &n);
    for (size_t i = 0; i < n && !error; i++) {
        w->options->shared(w->options->ctx, ids[i], &w->owner);
        error = hurt_path(w, above_level, ids[i]);
    }
    return error;
}

/* Whoever refers to a leaf means the same one: it is not read for each of them. Inner nodes are believed, no facts are kept of them. */
static int check_again(walk *w, const cmb_noderef *ref)
{
    cmb_node_facts facts;
    uint32_t id;
    if (ref->level || !w->options->facts || !cmb_facts_leaf(w->options->facts, ref->addr, &facts) ||
        cmb_node_facts_match(&w->store->tree, &facts, ref, NULL, 0, NULL, 0))
        return 0;
    int error = cmb_fail(CMB_ECORRUPT, "node at %llu: another one than this reference to it means", (unsigned long long)ref->addr);
    error = tell_damage(w, &(cmb_damage){.number = CMB_FINDING_LEAF_DAMAGED, .error = error, .addr = ref->addr}, &id);
    return error ? error : hurt_path(w, 1, id);
}

static int enter(void *ctx, const cmb_noderef *ref)
{
    walk *w = ctx;
    cmb_mark *m = w->mark;
    bool added;
    w->path[ref->level] = ref->addr;
    if (ref->addr == 0)
        return 0;
    int error = w->options->facts ? cmb_facts_wait(w->options->facts, ref->addr) : 0;
    if (!error)
        error = add(w, ref->addr, ref->length, w->is_table ? &m->tables : ref->level ? &m->nodes : &m->leaves, &added);
    if (error)
        return error;
    if (!added) {
        error = met_again(w, ref->addr, ref->level + 1u);
        if (!error)
            error = check_again(w, ref);
        return error ? error : 1;
    }
    if (!w->is_table && ref->level == 0)
        m->entries += ref->count;
    return 0;
}

static int value_record(void *ctx, uint64_t addr, uint32_t length, uint8_t kind)
{
    walk *w = ctx;
    cmb_tally records = {0};
    bool added;
    int error = add(w, addr, length, &records, &added);
    w->mark->values.bytes += records.bytes;
    return error;
}

static int damaged_value(walk *w, const cmb_node *leaf, uint32_t i, const cmb_valref *ref, int error)
{
    uint32_t id;
    cmb_bytes key = {w->key, cmb_node_key(leaf, i, w->key)};
    error = tell_damage(w, &(cmb_damage){.number = CMB_FINDING_VALUE_DAMAGED, .error = error, .addr = ref->addr, .keyed = true,
                                         .before = key, .last = key}, &id);
    if (!error && id != CMB_DAMAGE_UNSHARED)
        error = cmb_hurt_add(w->hurt, ref->addr, id);
    return error ? error : hurt_path(w, 0, id);
}

static bool chunk_known(void *ctx, uint64_t addr, uint32_t length, const uint8_t *name, bool whole)
{
    walk *w = ctx;
    return w->options->facts && cmb_facts_chunk(w->options->facts, addr, length, name, whole);
}

/* The out-of-line values of a leaf. One that another version of the leaf named is known by its address. */
static int leaf_values(walk *w, const cmb_node *leaf)
{
    int error = 0;
    size_t n;
    for (uint32_t i = 0; i < leaf->count && !error; i++) {
        cmb_valref ref;
        if (!cmb_node_is_out_of_line(leaf, i))
            continue;
        cmb_node_valref(leaf, i, &ref);
        if (cmb_addrset_has(w->mark->seen, ref.addr) || cmb_hurt_at(w->hurt, ref.addr, &n)) {
            error = met_again(w, ref.addr, 0);
            continue;
        }
        w->mark->values.count++;
        error = w->options->verify_values ? cmb_value_visit_known(&w->store->tree, &ref, chunk_known, value_record, w)
                                          : cmb_value_visit(&w->store->tree, &ref, false, value_record, w);
        if (error)
            error = damaged_value(w, leaf, i, &ref, error);
    }
    return error;
}

static int visit(void *ctx, const cmb_noderef *ref, const cmb_node *node)
{
    return node && ref->level == 0 && ref->out_of_line ? leaf_values(ctx, node) : 0;
}

static int damaged_node(void *ctx, const cmb_noderef *ref, int error, const uint8_t *before, size_t before_size,
                        const uint8_t *last, size_t last_size)
{
    walk *w = ctx;
    uint32_t id;
    error = tell_damage(w, &(cmb_damage){.number = ref->level ? CMB_FINDING_NODE_DAMAGED : CMB_FINDING_LEAF_DAMAGED, .error = error,
                                         .addr = ref->addr, .keyed = true, .before = {before, before_size}, .last = {last, last_size}}, &id);
    return error ? error : hurt_path(w, ref->level, id);
}

static bool known(void *ctx, const cmb_noderef *ref, const uint8_t *before, size_t before_size, const uint8_t *last, size_t last_size)
{
    walk *w = ctx;
    cmb_node_facts facts;
    return cmb_facts_leaf(w->options->facts, ref->addr, &facts) &&
           cmb_node_facts_match(&w->store->tree, &facts, ref, before, before_size, last, last_size);
}

/* Without an address only the empty tree is one. */
static int mark_empty(walk *w, const cmb_noderef *root)
{
    int error = cmb_tree_check_shape_with(&w->store->tree, root, NULL, NULL);
    w->path[root->level] = 0;
    return error ? damaged_node(w, root, error, NULL, 0, NULL, 0) : 0;
}

static int mark_tree(walk *w, const cmb_noderef *root)
{
    cmb_walk_ops ops = {.enter = enter, .node = visit, .damage = damaged_node, .read_leaves = w->options->read_leaves};
    if (w->options->facts)
        ops.known = known;
    w->top = root->level;
    if (root->addr == 0)
        return w->is_table ? 0 : mark_empty(w, root);
    if (!w->is_table && root->level + 1u > w->mark->height)
        w->mark->height = root->level + 1u;
    return cmb_tree_walk(&w->store->tree, root, &ops, w);
}

/* ---- roots ---- */

static int mark_tables(walk *w)
{
    static const char *const names[CMB_TABLES] = {
        [CMB_TABLE_REFS] = "the table of branches and tags", [CMB_TABLE_COMMITS] = "the index of commits",
        [CMB_TABLE_REFLOG] = "the reflog"};
    uint64_t addr;
    uint32_t length;
    bool added;
    cmb_log_root(w->store->log, &addr, &length);
    int error = length ? add(w, addr, length, &w->mark->tables, &added) : 0;
    w->is_table = true;
    for (unsigned t = 0; t < CMB_TABLES && !error; t++) {
        cmb_noderef root;
        own(w, CMB_OWNER_OTHER, names[t]);
        cmb_table_root(w->store, (cmb_table_id)t, &root);
        error = mark_tree(w, &root);
    }
    w->is_table = false;
    return error;
}

/* Edits above the roots of branches. */
static int mark_run(void *ctx, const char *ref, uint64_t addr, uint32_t length)
{
    walk *w = ctx;
    bool added;
    (void)ref;
    return add(w, addr, length, &w->mark->intents, &added);
}

int cmb_mark_check_parent(const cmb_commit_record *record, size_t i, const cmb_commit_at *indexed)
{
    if (record->parents[i].addr == indexed->addr && record->parents[i].length == indexed->length)
        return 0;
    return cmb_fail(CMB_ECORRUPT, "the commit at %llu has a parent at %llu, the index has it at %llu", (unsigned long long)record->at.addr,
                    (unsigned long long)record->parents[i].addr, (unsigned long long)indexed->addr);
}

/* Walks go by the address that a commit gives of its parent, look-ups by the index's: both have to be one. An index that cannot be read
 * was told of, and of the refs' own commits every level of a check asks. */
static int check_parents(walk *w, const cmb_commit_record *record)
{
    int error = 0;
    for (size_t i = 0; i < record->commit.parent_count && !error && w->owner.kind != CMB_OWNER_REF; i++) {
        cmb_commit_at at;
        if (cmb_commit_is_absent(&record->parents[i]))
            continue;
        int found = cmb_commit_find(w->store, &record->commit.parents[i], &at);
        if (found == CMB_ECORRUPT || found == CMB_EIO)
            continue;
        if (!found)
            found = cmb_mark_check_parent(record, i, &at);
        error = found ? tell(w, CMB_FINDING_PARENT_MISSING, found, record->at.addr) : 0;
    }
    return error;
}

/*
 * Walks over history rely on generations: one more than the highest of the parents', as far as they are here. For fsck only: a
 * parent is read once more for it. One that cannot be read is told of in its turn.
 */
static int check_generation(walk *w, const cmb_commit_record *record)
{
    uint64_t highest = 0, own = record->commit.generation;
    bool all = true;
    for (size_t i = 0; i < record->commit.parent_count; i++) {
        cmb_state parent;
        int error = cmb_commit_is_absent(&record->parents[i]) ? CMB_ENOTFOUND : cmb_commit_state(w->store, &record->parents[i], &parent);
        if (error == CMB_ENOMEM)
            return error;
        all = all && !error;
        if (!error && parent.generation > highest)
            highest = parent.generation;
    }
    if (own > highest && (!all || own == highest + 1))
        return 0;
    int error = cmb_fail(CMB_ECORRUPT, "the commit at %llu is of generation %llu, the highest of its parents' is %llu",
                         (unsigned long long)record->at.addr, (unsigned long long)own, (unsigned long long)highest);
    return tell(w, CMB_FINDING_GENERATION_WRONG, error, record->at.addr);
}

/* The commit's own record and its tree; `known`: the tree that was walked for it before, or NULL. */
static int mark_commit(walk *w, const cmb_commit_at *at, const cmb_noderef *known)
{
    bool added;
    cmb_commit_record *record;
    int error = add(w, at->addr, at->length, &w->mark->commits, &added);
    if (!error && !added && w->owner.kind == CMB_OWNER_REF) /* the index comes to every commit once more */
        error = met_again(w, at->addr, CMB_LEVEL_MAX + 1u);
    if (error || !added)
        return error;
    error = cmb_commit_load(w->store, at, &record);
    if (error)
        return tell(w, CMB_FINDING_COMMIT_DAMAGED, error, at->addr);
    if (w->options->damage)
        error = check_parents(w, record);
    if (!error && w->options->damage)
        error = check_generation(w, record);
    if (!error && (!known || known->addr != record->root.addr))
        error = mark_tree(w, &record->root);
    cmb_commit_free(&record->commit);
    return error;
}

/* What the ref says of its commit is what the commit says. One that cannot be read is told of where it is marked. */
static int check_ref_commit(walk *w, const cmb_state *state)
{
    const cmb_noderef *said = &state->commit_root;
    cmb_state commit;
    int error = cmb_commit_state(w->store, &state->commit, &commit);
    if (error)
        return error == CMB_ENOMEM ? error : 0;
    if (cmb_name_equal(&said->name, &commit.root.name) && said->count == commit.root.count && said->level == commit.root.level &&
        state->generation == commit.generation)
        return 0;
    error = cmb_fail(CMB_ECORRUPT, "%s says another content or generation than its commit at %llu", w->label,
                     (unsigned long long)state->commit.addr);
    return tell(w, CMB_FINDING_REF_MISMATCH, error, state->commit.addr);
}

static int mark_tag_object(void *ctx, const cmb_tag_record *record)
{
    walk *w = ctx;
    bool added;
    return add(w, record->at.addr, record->at.length, &w->mark->tag_objects, &added);
}

/* The objects of an annotated tag, which have to lead to the commit that it says. */
static int mark_tag(walk *w, const cmb_state *state)
{
    cmb_commit_at commit;
    int error = cmb_tag_peel(w->store, &state->tag, mark_tag_object, w, &commit);
    if (error)
        return tell(w, CMB_FINDING_TAG_DAMAGED, error, state->tag.addr);
    if (cmb_name_equal(&commit.id, &state->commit.id))
        return 0;
    error = cmb_fail(CMB_ECORRUPT, "%s says another commit than its object at %llu", w->label, (unsigned long long)state->tag.addr);
    return tell(w, CMB_FINDING_TAG_MISMATCH, error, state->tag.addr);
}

static int mark_ref(void *ctx, const char *name, const cmb_state *state)
{
    walk *w = ctx;
    bool tag = strncmp(name, CMB_TAGS, sizeof CMB_TAGS - 1) == 0;
    int error = 0;
    w->mark->tags += tag;
    w->mark->branches += !tag;
    own(w, CMB_OWNER_REF, name);
    if (state->tag.id.size)
        error = mark_tag(w, state);
    if (!error && state->commit.id.size) {
        /* The tree by the ref's own word first: it is known even where the commit cannot be read. */
        error = mark_tree(w, &state->commit_root);
        if (!error)
            error = mark_commit(w, &state->commit, &state->commit_root);
        if (!error && w->options->damage)
            error = check_ref_commit(w, state);
    }
    return error || !state->working ? error : mark_tree(w, &state->root);
}

static int mark_indexed(void *ctx, const cmb_commit_at *at)
{
    char hex[2 * CMB_NAME_MAX + 1];
    cmb_name_hex(&at->id, hex);
    own(ctx, CMB_OWNER_COMMIT, hex);
    return mark_commit(ctx, at, NULL);
}

static int mark_roots(walk *w)
{
    int error = mark_tables(w);
    if (!error)
        error = cmb_runs_each(w->store, mark_run, w);
    if (error)
        return error;
    error = cmb_refs_each_written(w->store, "", mark_ref, w);
    if (error == CMB_ECORRUPT || error == CMB_EIO) {
        own(w, CMB_OWNER_OTHER, "branches and tags from there on");
        error = tell(w, CMB_FINDING_REFS_UNREADABLE, error, 0);
    }
    if (error)
        return error;
    error = cmb_commits_each(w->store, mark_indexed, w);
    if (error == CMB_ECORRUPT || error == CMB_EIO) {
        own(w, CMB_OWNER_OTHER, "history: commits from there on were not looked at");
        error = tell(w, CMB_FINDING_INDEX_UNREADABLE, error, 0);
    }
    return error;
}

int cmb_mark_store(cmb_store *store, const cmb_mark_options *options, cmb_mark *out_mark)
{
    unsigned shift = cmb_log_params(store->log)->segment_shift;
    cmb_mark mark = {0};
    walk *w = cmb_zalloc(&store->alloc, sizeof(*w));
    if (!w)
        return CMB_ENOMEM;
    w->store = store;
    w->options = options;
    w->mark = &mark;
    int error = cmb_addrset_create(&store->alloc, shift, &mark.seen);
    if (!error)
        error = cmb_hurt_create(&store->alloc, &w->hurt);
    if (!error)
        error = mark_roots(w);
    cmb_hurt_destroy(w->hurt);
    cmb_release(&store->alloc, w, sizeof(*w));
    if (error)
        cmb_mark_destroy(&mark);
    else
        *out_mark = mark;
    return error;
}

void cmb_mark_destroy(cmb_mark *mark)
{
    cmb_addrset_destroy(mark->seen);
    mark->seen = NULL;
}
