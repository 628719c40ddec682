/* SPDX-License-Identifier: ISC */
/* salvage_ref.c: branches and tags onto the commits that were copied, and the working states above them. */
#include "store/salvage.h"

#include <stdio.h>

#include "store/tag.h"

#define LOST_FOUND CMB_HEADS "lost+found/"
#define HEX_SHOWN 12

typedef int (*ref_fn)(cmb_salvage *s, const char *name, const cmb_state *state);

/* Every ref that is known, by name; one whose state cannot be read is told of if `tells`. */
static int each_ref(cmb_salvage *s, bool tells, ref_fn fn)
{
    char name[CMB_REF_FULL_SIZE];
    cmb_source *source;
    cmb_edit edit;
    int error = cmb_source_buffer(s->known[CMB_TABLE_REFS], &source);
    if (error)
        return error;
    for (error = source->ops->first(source); !error; error = source->ops->next(source)) {
        cmb_state state;
        error = source->ops->current(source, &edit);
        if (error)
            break;
        if (edit.kind != CMB_EDIT_PUT)
            continue;
        size_t n = edit.key.size < sizeof name ? edit.key.size : sizeof name - 1;
        memcpy(name, edit.key.data, n);
        name[n] = 0;
        error = strlen(name) != edit.key.size ? cmb_fail(CMB_EINVAL, "a name of %zu bytes that no branch or tag can have", edit.key.size)
                                              : cmb_state_unpack(s->in, name, edit.value.data, edit.value.size, &state);
        if (cmb_sv_is_damage(error))
            error = tells ? cmb_sv_tell_of(s, CMB_LOSS_REF, error, 0, name, NULL) : 0;
        else if (!error)
            error = fn(s, name, &state);
        if (error)
            break;
    }
    source->ops->close(source);
    return error == CMB_ENOTFOUND ? 0 : error;
}

static bool is_tag(const char *name)
{
    return strncmp(name, CMB_TAGS, sizeof CMB_TAGS - 1) == 0;
}

/* ---- annotated tags ---- */

typedef struct chain {
    cmb_commit_at items[CMB_TAG_DEPTH_MAX];
    unsigned n;
} chain;

static int add_to_chain(void *ctx, const cmb_tag_record *record)
{
    chain *c = ctx;
    c->items[c->n++] = record->at; /* cmb_tag_peel ends at so many */
    return 0;
}

/* Writes the tag objects, the one next to the commit first. */
static int copy_tag(cmb_salvage *s, const cmb_commit_at *tag, const cmb_commit_at *commit, cmb_commit_at *out_tag)
{
    chain c = {.n = 0};
    cmb_commit_at end, at = *commit;
    int error = cmb_tag_peel(s->in, tag, add_to_chain, &c, &end);
    while (c.n > 0 && !error) {
        cmb_tag_record *r;
        error = cmb_tag_load(s->in, &c.items[--c.n], &r);
        if (error)
            break;
        cmb_tag_draft draft = {.target = at,
                               .target_is_tag = r->tag.target_is_tag,
                               .time = r->tag.time,
                               .name = r->tag.name,
                               .tagger = r->tag.tagger,
                               .message = r->tag.message,
                               .headers = r->tag.headers,
                               .header_count = r->tag.header_count};
        error = cmb_intake_tag(s->intake, &draft, &at);
        cmb_tag_free(&r->tag);
    }
    if (!error)
        *out_tag = at;
    return error;
}

/* ---- refs ---- */

static int place_on(cmb_salvage *s, const char *name, const cmb_state *state, const cmb_commit_at *at)
{
    cmb_commit_at tag;
    int error = state->tag.id.size ? copy_tag(s, &state->tag, at, &tag) : CMB_ENOTFOUND;
    if (!error)
        return cmb_intake_tag_ref(s->intake, name, NULL, &tag, CMB_REFLOG_CREATED);
    if (!cmb_sv_is_damage(error))
        return error;
    if (state->tag.id.size)
        error = cmb_sv_tell_of(s, CMB_LOSS_TAG, error, state->tag.addr, name, NULL);
    else
        error = 0;
    return error ? error : cmb_intake_ref(s->intake, name, NULL, at, CMB_REFLOG_CREATED);
}

static int count_ref(cmb_salvage *s, const char *name)
{
    s->result.tags += is_tag(name);
    s->result.branches += !is_tag(name);
    return 0;
}

static int salvage_ref(cmb_salvage *s, const char *name, const cmb_state *state)
{
    cmb_commit_at at;
    size_t prefix = is_tag(name) ? sizeof CMB_TAGS - 1 : strncmp(name, CMB_HEADS, sizeof CMB_HEADS - 1) == 0 ? sizeof CMB_HEADS - 1 : 0;
    int error = prefix ? cmb_ref_name_check(name + prefix) : cmb_fail(CMB_EINVAL, "'%s' is neither a branch nor a tag", name);
    if (error)
        return cmb_sv_tell_of(s, CMB_LOSS_REF, error, 0, name, NULL);
    if (!state->commit.id.size) /* nothing, or a working state alone: afterwards */
        return count_ref(s, name);
    if (s->refs_lost && cmb_idset_add(&s->inner, &state->commit.id))
        return CMB_ENOMEM;
    error = cmb_sv_moved(s, &state->commit.id, &at);
    if (error)
        error = cmb_sv_commit_rebuild(s, &state->commit.id, &state->commit_root, &at);
    if (!error)
        error = place_on(s, name, state, &at);
    return error ? error : count_ref(s, name);
}

/* Where names of refs were lost: commits that nothing leads to. */
static int name_heads(cmb_salvage *s)
{
    cmb_source *source;
    cmb_edit edit;
    int error = cmb_source_buffer(s->moved, &source);
    if (error)
        return error;
    for (error = source->ops->first(source); !error; error = source->ops->next(source)) {
        char name[CMB_REF_FULL_SIZE], hex[2 * CMB_NAME_MAX + 1];
        cmb_name id = {.size = 0};
        cmb_commit_at at;
        error = source->ops->current(source, &edit);
        if (error)
            break;
        id.size = (uint8_t)edit.key.size;
        memcpy(id.bytes, edit.key.data, edit.key.size);
        if (cmb_idset_has(&s->inner, &id) || cmb_sv_moved(s, &id, &at))
            continue;
        cmb_name_hex(&id, hex);
        snprintf(name, sizeof name, LOST_FOUND "commit-%.*s", HEX_SHOWN, hex);
        error = cmb_intake_ref(s->intake, name, NULL, &at, CMB_REFLOG_CREATED);
        if (!error)
            error = cmb_sv_tell_of(s, CMB_LOSS_FOUND, 0, 0, name, "a commit that no other one and no ref leads to");
        if (error)
            break;
        s->result.branches++;
    }
    source->ops->close(source);
    return error == CMB_ENOTFOUND ? 0 : error;
}

static bool has_main(cmb_salvage *s)
{
    static const char name[] = CMB_HEADS "main";
    cmb_edit edit;
    return cmb_buffer_find(s->known[CMB_TABLE_REFS], (const uint8_t *)name, sizeof name - 1, &edit) && edit.kind == CMB_EDIT_PUT;
}

int cmb_sv_refs(cmb_salvage *s)
{
    int error = each_ref(s, /* tells= */ true, salvage_ref);
    if (!error && s->refs_lost)
        error = name_heads(s);
    if (!error && !has_main(s)) /* every new image has one */
        error = cmb_intake_ref(s->intake, CMB_HEADS "main", NULL, NULL, CMB_REFLOG_DELETED);
    return error;
}

/* ---- working states ---- */

static int write_working(cmb_salvage *s, const char *name, const char *branch, const cmb_state *state)
{
    cmb_sv_writer w;
    cmb_sv_owner owner = {s, {.size = 0}};
    int error = cmb_sv_writer_begin(s, branch, &w);
    if (error)
        return error;
    error = cmb_sv_changes(s, &state->commit_root, &state->root, cmb_sv_note_lost, &owner, &w.sink);
    if (!error)
        error = cmb_sv_intents_apply(s, name, state, &w.sink);
    return cmb_sv_writer_end(&w, error, NULL);
}

static int salvage_working(cmb_salvage *s, const char *name, const cmb_state *state)
{
    const char *branch = name + sizeof CMB_HEADS - 1;
    if (is_tag(name) || strncmp(name, CMB_HEADS, sizeof CMB_HEADS - 1) != 0 || cmb_ref_name_check(branch))
        return 0;
    int error = state->commit.id.size || strcmp(branch, "main") == 0 ? 0 : cmb_branch_create(s->out, branch, NULL);
    if (error || (!state->working && !cmb_sv_intents_any(s, name, state)))
        return error;
    return write_working(s, name, branch, state);
}

int cmb_sv_working(cmb_salvage *s)
{
    int error = cmb_sv_intents_collect(s);
    return error ? error : each_ref(s, /* tells= */ false, salvage_working);
}

int cmb_sv_refs_each(cmb_salvage *s, int (*fn)(cmb_salvage *s, const char *name, const cmb_state *state))
{
    return each_ref(s, /* tells= */ false, fn);
}
