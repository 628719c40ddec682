/* SPDX-License-Identifier: ISC */
/* salvage_commit.c: every commit that is known, parents first: what a commit refers to lies below it, so that is the order of addresses. */
#include "store/salvage.h"

#include <stdio.h>

#include "io/sort.h"

#define WAS "salvage.was" /* header: the id that a changed commit had */

/* ---- where commits went ---- */

int cmb_sv_moved(cmb_salvage *s, const cmb_name *id, cmb_commit_at *out_at)
{
    cmb_edit edit;
    const uint8_t *p;
    if (!cmb_buffer_find(s->moved, id->bytes, id->size, &edit))
        return CMB_ENOTFOUND;
    p = edit.value.data;
    *out_at = (cmb_commit_at){.addr = cmb_get64(p), .length = cmb_get32(p + 8)};
    out_at->id.size = id->size;
    memcpy(out_at->id.bytes, p + 12, id->size);
    return 0;
}

int cmb_sv_moved_set(cmb_salvage *s, const cmb_name *id, const cmb_commit_at *at)
{
    uint8_t value[12 + CMB_NAME_MAX];
    cmb_put64(value, at->addr);
    cmb_put32(value + 8, at->length);
    memcpy(value + 12, at->id.bytes, at->id.size);
    return cmb_buffer_add(s->moved, &(cmb_edit){.kind = CMB_EDIT_PUT, .key = {id->bytes, id->size}, .value = {value, 12u + at->id.size}});
}

/* ---- which commits ---- */

typedef struct collection {
    cmb_salvage *s;
    cmb_sv_list list; /* of cmb_commit_at */
    cmb_idset ids;
} collection;

static int collect(collection *c, const cmb_commit_at *at)
{
    if (!at->id.size || cmb_commit_is_absent(at) || cmb_idset_has(&c->ids, &at->id))
        return 0;
    int error = cmb_idset_add(&c->ids, &at->id);
    cmb_commit_at *place = error ? NULL : cmb_sv_list_add(&c->s->alloc, &c->list, sizeof *place);
    if (!place)
        return CMB_ENOMEM;
    *place = *at;
    return 0;
}

static int collect_edit(collection *c, cmb_table_id t, const cmb_edit *edit)
{
    cmb_commit_at at;
    cmb_state state;
    int error;
    if (edit->kind != CMB_EDIT_PUT)
        return 0;
    if (t == CMB_TABLE_COMMITS) {
        error = cmb_commit_at_unpack(c->s->in, edit->key, edit->value, &at);
        return cmb_sv_is_damage(error) ? 0 : collect(c, &at);
    }
    error = cmb_state_unpack(c->s->in, "a ref", edit->value.data, edit->value.size, &state);
    return cmb_sv_is_damage(error) ? 0 : collect(c, &state.commit);
}

static int collect_table(collection *c, cmb_table_id t)
{
    cmb_source *source;
    cmb_edit edit;
    int error = cmb_source_buffer(c->s->known[t], &source);
    if (error)
        return error;
    for (error = source->ops->first(source); !error; error = source->ops->next(source)) {
        error = source->ops->current(source, &edit);
        if (!error)
            error = collect_edit(c, t, &edit);
        if (error)
            break;
    }
    source->ops->close(source);
    return error == CMB_ENOTFOUND ? 0 : error;
}

/* Parents that no index has: their places stand in their children. */
static int collect_parents(collection *c)
{
    int error = 0;
    for (size_t i = 0; i < c->list.n && !error; i++) {
        cmb_commit_record *r;
        cmb_commit_at at = ((cmb_commit_at *)c->list.items)[i]; /* the list moves as it grows */
        error = cmb_commit_load(c->s->in, &at, &r);
        if (error) {
            error = cmb_sv_is_damage(error) ? 0 : error;
            continue;
        }
        for (size_t k = 0; k < r->commit.parent_count && !error; k++)
            error = collect(c, &r->parents[k]);
        cmb_commit_free(&r->commit);
    }
    return error;
}

static int compare_places(const void *a, const void *b)
{
    const cmb_commit_at *x = a, *y = b;
    return x->addr < y->addr ? -1 : x->addr > y->addr;
}

/* ---- one commit ---- */

int cmb_sv_note_lost(void *ctx, const cmb_noderef *ref, int error, cmb_bytes lo, cmb_bytes hi, uint64_t found)
{
    const cmb_sv_owner *o = ctx;
    cmb_salvage *s = o->s;
    bool added = true;
    int e = ref->addr % CMB_RECORD_ALIGN ? 0 : cmb_addrset_add(s->bad, ref->addr, 0, &added);
    if (e || !added)
        return e;
    s->result.damaged++;
    cmb_sv_list one = {NULL, 0, 0};
    cmb_sv_piece *p = cmb_sv_list_add(&s->alloc, &s->pieces, sizeof *p);
    if (!p)
        return CMB_ENOMEM;
    *p = (cmb_sv_piece){.ref = *ref, .commit = o->commit};
    e = cmb_sv_range_add(&s->alloc, &one, lo, hi);
    if (!e)
        p->range = *(cmb_sv_range *)one.items;
    cmb_sv_list_free(&s->alloc, &one, sizeof(cmb_sv_range));
    return e;
}

/* The tree to start from: the first parent that is in out, else the empty one. */
static int find_base(cmb_salvage *s, const cmb_commit_record *r, cmb_noderef *out_old, cmb_noderef *out_new)
{
    cmb_tree_empty(&s->in->tree, out_old);
    cmb_tree_empty(&s->out->tree, out_new);
    for (size_t i = 0; i < r->commit.parent_count; i++) {
        cmb_commit_record *old, *new;
        cmb_commit_at at;
        if (cmb_commit_is_absent(&r->parents[i]) || cmb_sv_moved(s, &r->parents[i].id, &at))
            continue;
        int error = cmb_commit_load(s->in, &r->parents[i], &old);
        if (cmb_sv_is_damage(error))
            continue;
        if (error)
            return error;
        error = cmb_commit_load(s->out, &at, &new);
        if (!error) {
            *out_old = old->root;
            *out_new = new->root;
            cmb_commit_free(&new->commit);
        }
        cmb_commit_free(&old->commit);
        return error;
    }
    return 0;
}

/* Parents where they lie now; one that is lost stays known by its id. */
static bool move_parents(cmb_salvage *s, const cmb_commit_record *r, cmb_commit_at *out_parents)
{
    bool changed = false;
    for (size_t i = 0; i < r->commit.parent_count; i++) {
        out_parents[i] = (cmb_commit_at){.id = r->parents[i].id};
        if (cmb_sv_moved(s, &r->parents[i].id, &out_parents[i]) == 0)
            changed |= !cmb_name_equal(&out_parents[i].id, &r->parents[i].id);
    }
    return changed;
}

static int tell_changed(cmb_salvage *s, const cmb_name *was, const cmb_name *is)
{
    char where[8 + 2 * CMB_NAME_MAX], text[2 * CMB_NAME_MAX + 40], hex[2 * CMB_NAME_MAX + 1];
    cmb_name_hex(was, hex);
    snprintf(where, sizeof where, "commit %s", hex);
    cmb_name_hex(is, hex);
    snprintf(text, sizeof text, "it is %s now", hex);
    s->result.commits_changed++;
    return cmb_sv_tell_of(s, CMB_LOSS_COMMIT_CHANGED, 0, 0, where, text);
}

/* A commit that is not what it was says so, unless that makes it too large. */
static int write_changed(cmb_salvage *s, cmb_commit_draft *draft, const cmb_name *was, cmb_commit_at *out_at)
{
    char hex[2 * CMB_NAME_MAX + 1];
    size_t n = draft->header_count, size = (n + 1) * sizeof(cmb_commit_header);
    cmb_commit_header *headers = cmb_alloc(&s->alloc, size);
    if (!headers)
        return CMB_ENOMEM;
    if (n)
        memcpy(headers, draft->headers, n * sizeof *headers);
    cmb_name_hex(was, hex);
    headers[n] = (cmb_commit_header){.name = WAS, .value = {hex, strlen(hex)}};
    cmb_commit_draft with = *draft;
    with.headers = headers;
    with.header_count = n + 1;
    int error = cmb_intake_commit(s->intake, &with, out_at);
    if (error == CMB_EINVAL)
        error = cmb_intake_commit(s->intake, draft, out_at);
    cmb_release(&s->alloc, headers, size);
    return error ? error : tell_changed(s, was, &out_at->id);
}

/* The generation that follows from the parents as they are now: one of them may have been made anew without those below it. */
static int find_generation(cmb_salvage *s, const cmb_commit_record *r, const cmb_commit_at *parents, uint64_t *out_generation)
{
    uint64_t highest = 0, own = r->commit.generation;
    bool all = true;
    for (size_t i = 0; i < r->commit.parent_count; i++) {
        cmb_state parent;
        all = all && !cmb_commit_is_absent(&parents[i]);
        if (cmb_commit_is_absent(&parents[i]))
            continue;
        int error = cmb_commit_state(s->out, &parents[i], &parent);
        if (error)
            return error;
        highest = parent.generation > highest ? parent.generation : highest;
    }
    if (highest >= CMB_GENERATION_MAX)
        return cmb_fail(CMB_ETOOBIG, "no generation is left above a commit's parents");
    *out_generation = all || own <= highest ? highest + 1 : own;
    return 0;
}

static int write_commit(cmb_salvage *s, const cmb_commit_record *r, const cmb_noderef *root)
{
    size_t size = (r->commit.parent_count ? r->commit.parent_count : 1) * sizeof(cmb_commit_at);
    cmb_commit_at *parents = cmb_alloc(&s->alloc, size), at;
    if (!parents)
        return CMB_ENOMEM;
    for (size_t i = 0; s->refs_lost && i < r->commit.parent_count; i++) {
        if (cmb_idset_add(&s->inner, &r->parents[i].id)) {
            cmb_release(&s->alloc, parents, size);
            return CMB_ENOMEM;
        }
    }
    bool moved = move_parents(s, r, parents), changed = moved || !cmb_name_equal(&root->name, &r->root.name);
    cmb_commit_draft draft = {.root = *root,
                              .parents = parents,
                              .parent_count = r->commit.parent_count,
                              .generation = r->commit.generation,
                              .time = r->commit.time,
                              .author = r->commit.author,
                              .message = r->commit.message,
                              .headers = r->commit.headers,
                              .header_count = r->commit.header_count};
    int error = find_generation(s, r, parents, &draft.generation);
    changed |= draft.generation != r->commit.generation;
    if (!error)
        error = changed ? write_changed(s, &draft, &r->commit.id, &at) : cmb_intake_commit(s->intake, &draft, &at);
    cmb_release(&s->alloc, parents, size);
    return error ? error : cmb_sv_moved_set(s, &r->commit.id, &at);
}

int cmb_sv_commit_rebuild(cmb_salvage *s, const cmb_name *id, const cmb_noderef *root, cmb_commit_at *out_at)
{
    cmb_sv_owner owner = {s, *id};
    cmb_commit_draft draft = {.generation = 1, .message = "the content of a commit whose record is lost"};
    cmb_noderef none, base;
    cmb_tree_empty(&s->in->tree, &none);
    cmb_tree_empty(&s->out->tree, &base);
    int error = cmb_sv_copy(s, &none, root, &base, cmb_sv_note_lost, &owner, &draft.root);
    if (!error)
        error = write_changed(s, &draft, id, out_at);
    return error ? error : cmb_sv_moved_set(s, id, out_at);
}

/* Refs that stand on it know its content. */
static int tell_lost(cmb_salvage *s, const cmb_commit_at *at, int error)
{
    char where[8 + 2 * CMB_NAME_MAX], hex[2 * CMB_NAME_MAX + 1];
    cmb_name_hex(&at->id, hex);
    snprintf(where, sizeof where, "commit %s", hex);
    s->content_lost = true;
    return cmb_sv_tell_of(s, CMB_LOSS_COMMIT, error, at->addr, where, NULL);
}

static int salvage_commit(cmb_salvage *s, const cmb_commit_at *at)
{
    cmb_commit_record *r;
    cmb_noderef old, base, root;
    int error = cmb_commit_load(s->in, at, &r);
    if (cmb_sv_is_damage(error))
        return tell_lost(s, at, error);
    if (error)
        return error;
    cmb_sv_owner owner = {s, at->id};
    error = find_base(s, r, &old, &base);
    if (!error)
        error = cmb_sv_copy(s, &old, &r->root, &base, cmb_sv_note_lost, &owner, &root);
    if (!error)
        error = write_commit(s, r, &root);
    cmb_commit_free(&r->commit);
    return error == CMB_ETOOBIG ? tell_lost(s, at, error) : error; /* above a forged generation none is left */
}

/* ---- all ---- */

static int survey_commits(cmb_salvage *s, const collection *c)
{
    const cmb_commit_at *at = c->list.items;
    bool more;
    int error = 0;
    for (size_t i = 0; i < c->list.n && !error; i++) {
        cmb_commit_record *r;
        error = cmb_commit_load(s->in, &at[i], &r);
        if (error) {
            error = cmb_sv_is_damage(error) ? 0 : error;
            continue;
        }
        error = cmb_sv_survey(s, &s->in->tree, &r->root);
        cmb_commit_free(&r->commit);
        cmb_sv_progress(s, "looking at trees", i + 1, c->list.n);
    }
    return error ? error : cmb_sv_graft_all(s, &more);
}

static int survey_refs(cmb_salvage *s)
{
    cmb_source *source;
    cmb_edit edit;
    cmb_state state;
    int error = cmb_source_buffer(s->known[CMB_TABLE_REFS], &source);
    if (error)
        return error;
    for (error = source->ops->first(source); !error; error = source->ops->next(source)) {
        error = source->ops->current(source, &edit);
        if (!error && edit.kind == CMB_EDIT_PUT && !cmb_state_unpack(s->in, "a ref", edit.value.data, edit.value.size, &state)) {
            error = cmb_sv_survey(s, &s->in->tree, &state.root);
            if (!error && state.working)
                error = cmb_sv_survey(s, &s->in->tree, &state.commit_root);
        }
        if (error)
            break;
    }
    source->ops->close(source);
    return error == CMB_ENOTFOUND ? 0 : error;
}

int cmb_sv_commits(cmb_salvage *s)
{
    collection c = {.s = s};
    cmb_idset_init(&c.ids, &s->alloc);
    int error = collect_table(&c, CMB_TABLE_COMMITS);
    if (!error)
        error = collect_table(&c, CMB_TABLE_REFS);
    if (!error)
        error = collect_parents(&c);
    if (!error)
        cmb_sort(c.list.items, c.list.n, sizeof(cmb_commit_at), compare_places);
    if (!error)
        error = survey_refs(s);
    if (!error)
        error = survey_commits(s, &c);
    for (size_t i = 0; i < c.list.n && !error; i++) {
        error = salvage_commit(s, (cmb_commit_at *)c.list.items + i);
        cmb_sv_progress(s, "copying commits", i + 1, c.list.n);
    }
    cmb_idset_destroy(&c.ids);
    cmb_sv_list_free(&s->alloc, &c.list, sizeof(cmb_commit_at));
    return error;
}
