/* SPDX-License-Identifier: ISC */
/* git_export.c: a whole stream: refs, commits, tags. */
#include "store/git.h"

#include <assert.h>
#include <stdio.h>

/* ---- refs ---- */

static int add_ref(void *ctx, const char *name, const cmb_state *state)
{
    cmb_git_exporter *ex = ctx;
    struct cmb_git_export_ref ref = {.state = *state, .node = CMB_GIT_NONE, .size = CMB_GIT_REF_SIZE};
    ref.tag = !strncmp(name, CMB_TAGS, strlen(CMB_TAGS));
    ex->result.working += state->working;
    if (!state->commit.id.size)
        return 0;
    int error = cmb_git_grow(ex->alloc, (void **)&ex->refs, &ex->ref_capacity, ex->ref_count, sizeof *ex->refs);
    if (error)
        return error;
    ref.git_name = cmb_alloc(ex->alloc, ref.size);
    if (!ref.git_name)
        return CMB_ENOMEM;
    cmb_git_ref_there(name, ref.git_name);
    ex->refs[ex->ref_count++] = ref;
    return 0;
}

/* Refs are looked up by name: contents and tag objects have other names. */
static void ref_key(const char *git_name, cmb_name *out_name)
{
    cmb_hash_name(CMB_HASH_XXH3, git_name, strlen(git_name), out_name);
}

/* git keeps refs in files: none can have the name of a directory of others, and no two the same. */
static int check_names(cmb_git_exporter *ex)
{
    char name[CMB_GIT_REF_SIZE];
    cmb_name key;
    int error = 0;
    for (size_t i = 0; !error && i < ex->ref_count; i++) {
        ref_key(ex->refs[i].git_name, &key);
        if (cmb_git_written_mark(ex, &key, UINT64_MAX))
            return cmb_fail(CMB_ENOTSUP, "two branches would be '%s' in git", ex->refs[i].git_name);
        error = cmb_git_written_add(ex, &key, UINT64_MAX, i + 1);
    }
    for (size_t i = 0; !error && i < ex->ref_count; i++)
        for (char *slash = strchr(strcpy(name, ex->refs[i].git_name), '/'); slash; slash = strchr(slash, '/')) {
            *slash = 0;
            ref_key(name, &key);
            if (cmb_git_written_mark(ex, &key, UINT64_MAX))
                return cmb_fail(CMB_ENOTSUP, "git cannot have the refs '%s' and '%s' together", name,
                                ex->refs[i].git_name);
            *slash++ = '/';
        }
    return error;
}

/* A commit that stands for a file's content, of which there are only tags (git_tag.c)? */
static int is_blob(cmb_git_exporter *ex, const cmb_commit_at *at, bool *out_is)
{
    cmb_commit_record *record;
    int error = cmb_commit_load(ex->store, at, &record);
    if (error)
        return error;
    cmb_bytes type = cmb_git_header(record->commit.headers, record->commit.header_count, CMB_GIT_TYPE);
    *out_is = type.size == 4 && !memcmp(type.data, "blob", 4) && record->commit.parent_count == 0;
    cmb_commit_free(&record->commit);
    return 0;
}

static int collect(cmb_git_exporter *ex)
{
    int error = cmb_refs_each(ex->store, CMB_HEADS, add_ref, ex);
    if (!error)
        error = cmb_refs_each(ex->store, CMB_TAGS, add_ref, ex);
    if (!error)
        error = check_names(ex);
    for (size_t i = 0; !error && i < ex->ref_count; i++) {
        struct cmb_git_export_ref *ref = &ex->refs[i];
        bool blob = false;
        if (ref->state.tag.id.size)
            error = is_blob(ex, &ref->state.commit, &blob);
        if (!error && !blob)
            error = cmb_git_order_add(&ex->order, &ref->state.commit, i, &ref->node);
    }
    return error;
}

/* ---- commits ---- */

static int put_line(cmb_git_exporter *ex, const char *word, cmb_bytes rest)
{
    int error = cmb_git_print(&ex->out, "%s ", word);
    if (!error)
        error = cmb_git_put(&ex->out, rest.data, rest.size);
    return error ? error : cmb_git_put(&ex->out, "\n", 1);
}

static int put_people(cmb_git_exporter *ex, const cmb_commit *c)
{
    cmb_bytes committer = cmb_git_header(c->headers, c->header_count, "git.committer");
    cmb_bytes author = cmb_git_header(c->headers, c->header_count, "git.author");
    if (!committer.data) {
        int error = cmb_git_put_person(&ex->out, "author", c->author, c->time);
        return error ? error : cmb_git_put_person(&ex->out, "committer", c->author, c->time);
    }
    int error = put_line(ex, "author", author.data ? author : committer);
    return error ? error : put_line(ex, "committer", committer);
}

static int put_signatures(cmb_git_exporter *ex, const cmb_commit *c)
{
    int error = 0;
    for (size_t i = 0; !error && i < c->header_count; i++) {
        cmb_bytes value = c->headers[i].value;
        const uint8_t *p = value.data, *lf = memchr(p, '\n', value.size);
        if (strcmp(c->headers[i].name, "git.gpgsig") || !lf)
            continue;
        error = put_line(ex, "gpgsig", (cmb_bytes){p, (size_t)(lf - p)});
        if (!error)
            error = cmb_git_put_data(&ex->out, (cmb_bytes){lf + 1, value.size - (size_t)(lf + 1 - p)});
    }
    return error;
}

static int put_message(cmb_git_exporter *ex, const char *message, const cmb_commit_header *headers, size_t header_count)
{
    cmb_bytes whole = cmb_git_header(headers, header_count, "git.message");
    return cmb_git_put_data(&ex->out, whole.data ? whole : (cmb_bytes){message, strlen(message)});
}

static int put_parents(cmb_git_exporter *ex, const cmb_git_node *node)
{
    int error = 0;
    for (size_t i = 0; !error && i < node->parent_count; i++) {
        uint64_t mark = ex->order.nodes[ex->order.parents[node->parents + i]].mark;
        error = cmb_git_print(&ex->out, "%s :%llu\n", i ? "merge" : "from", (unsigned long long)mark);
    }
    return error;
}

static int put_commit(cmb_git_exporter *ex, cmb_git_node *node, const cmb_commit *c)
{
    struct cmb_git_export_ref *ref = &ex->refs[node->ref];
    cmb_bytes encoding = cmb_git_header(c->headers, c->header_count, "git.encoding");
    bool from_git = cmb_git_header(c->headers, c->header_count, "git.committer").data != NULL;
    int error = cmb_git_export_changes(ex, node, from_git);
    node->mark = ++ex->last_mark;
    if (!error && !node->parent_count && ref->begun)
        error = cmb_git_print(&ex->out, "reset %s\n", ref->git_name);
    ref->begun = true;
    if (!error)
        error = cmb_git_print(&ex->out, "commit %s\nmark :%llu\n", ref->git_name, (unsigned long long)node->mark);
    if (!error)
        error = put_people(ex, c);
    if (!error)
        error = put_signatures(ex, c);
    if (!error && encoding.data)
        error = put_line(ex, "encoding", encoding);
    if (!error)
        error = put_message(ex, c->message, c->headers, c->header_count);
    if (!error)
        error = put_parents(ex, node);
    if (!error)
        error = cmb_git_put(&ex->out, ex->removed.data, ex->removed.size);
    if (!error)
        error = cmb_git_put(&ex->out, ex->modified.data, ex->modified.size);
    return error ? error : cmb_git_put(&ex->out, "\n", 1);
}

static int put_commits(cmb_git_exporter *ex)
{
    int error = 0;
    for (size_t i = 0; !error && i < ex->order.sequence_count; i++) {
        cmb_git_node *node = &ex->order.nodes[ex->order.sequence[i]];
        cmb_commit_record *record;
        error = cmb_commit_load(ex->store, &node->at, &record);
        if (error)
            break;
        error = put_commit(ex, node, &record->commit);
        cmb_commit_free(&record->commit);
        ex->result.commits++;
        if (!error && ex->options->commit)
            error = ex->options->commit(ex->options->ctx, node->mark, (cmb_bytes){"", 0}, &node->at.id);
    }
    return error;
}

/* Commits have moved the refs that they were found from: now each is set to where it stands. */
static int put_resets(cmb_git_exporter *ex)
{
    int error = 0;
    for (size_t i = 0; !error && i < ex->ref_count; i++) {
        const struct cmb_git_export_ref *ref = &ex->refs[i];
        if (ref->node == CMB_GIT_NONE || ref->state.tag.id.size)
            continue;
        ex->result.refs++;
        error = cmb_git_print(&ex->out, "reset %s\nfrom :%llu\n\n", ref->git_name,
                              (unsigned long long)ex->order.nodes[ref->node].mark);
    }
    return error;
}

/* ---- tags ---- */

/* What is written under a tag object's name: the object in the name of a ref. */
static void tag_key(const cmb_name *id, const char *git_name, cmb_name *out_name)
{
    cmb_name ref;
    *out_name = (cmb_name){.size = 32};
    ref_key(git_name, &ref);
    memcpy(out_name->bytes, id->bytes, 16);
    memcpy(out_name->bytes + 16, ref.bytes, 16);
}

/* The name in git under which a tag object below another is written: its own, where it can be the name of a ref. */
static void lower_name(const cmb_tag_record *record, const char *upper, char out_name[CMB_GIT_REF_SIZE])
{
    char full[CMB_REF_FULL_SIZE];
    const char *own = record->tag.name;
    if (strlen(own) <= CMB_REF_NAME_MAX && !cmb_ref_full_name(CMB_TAGS, own, full))
        cmb_git_ref_there(full, out_name);
    else
        memcpy(out_name, upper, CMB_GIT_REF_SIZE);
}

/* Of what a commit stands for. */
static int put_tagged_blob(cmb_git_exporter *ex, const cmb_commit_at *at, uint64_t *out_mark)
{
    cmb_commit_record *record;
    cmb_found found;
    int error = cmb_commit_load(ex->store, at, &record);
    if (error)
        return error;
    error = cmb_tree_get(&ex->store->tree, &record->root, (const uint8_t *)"blob", 4, &ex->pin, &found);
    cmb_commit_free(&record->commit);
    if (error == CMB_ENOTFOUND)
        return cmb_fail(CMB_ENOTSUP, "a commit that stands for a blob has none");
    return error ? error : cmb_git_export_blob(ex, &found, out_mark);
}

static int put_tag(cmb_git_exporter *ex, const cmb_tag *tag, const char *git_name, uint64_t from, uint64_t mark)
{
    cmb_bytes tagger = cmb_git_header(tag->headers, tag->header_count, "git.tagger");
    int error = cmb_git_print(&ex->out, "tag %s\nmark :%llu\nfrom :%llu\n", git_name + strlen("refs/tags/"),
                              (unsigned long long)mark, (unsigned long long)from);
    if (!error && tagger.data)
        error = put_line(ex, "tagger", tagger);
    else if (!error && *tag->tagger)
        error = cmb_git_put_person(&ex->out, "tagger", tag->tagger, tag->time);
    if (!error)
        error = put_message(ex, tag->message, tag->headers, tag->header_count);
    ex->result.tags++;
    return error;
}

/* The objects of a tag, the ref's own first. */
typedef struct tag_row {
    cmb_commit_at at[CMB_TAG_DEPTH_MAX];
    size_t count;
} tag_row;

static int add_object(void *ctx, const cmb_tag_record *record)
{
    tag_row *row = ctx;
    assert(row->count < CMB_TAG_DEPTH_MAX);
    row->at[row->count++] = record->at;
    return 0;
}

/* An object below another, above what has the mark *inout_mark. git makes a ref of every tag that it reads; this one is
 * taken back at once, as git's own streams do it, so that its name is free again, and its mark stays. */
static int put_lower(cmb_git_exporter *ex, const struct cmb_git_export_ref *ref, const cmb_tag_record *record,
                     uint64_t *inout_mark)
{
    char name[CMB_GIT_REF_SIZE];
    cmb_name key;
    lower_name(record, ref->git_name, name);
    tag_key(&record->at.id, name, &key);
    uint64_t mark = cmb_git_written_mark(ex, &key, 0);
    if (!mark) {
        mark = ++ex->last_mark;
        int error = put_tag(ex, &record->tag, name, *inout_mark, mark);
        if (!error)
            error = cmb_git_print(&ex->out, "reset %s\nfrom %040u\n\n", name, 0u);
        if (!error)
            error = cmb_git_written_add(ex, &key, 0, mark);
        if (error)
            return error;
    }
    *inout_mark = mark;
    return 0;
}

static int put_object(cmb_git_exporter *ex, const struct cmb_git_export_ref *ref, const cmb_commit_at *at, bool top,
                      uint64_t *inout_mark)
{
    cmb_tag_record *record;
    int error = cmb_tag_load(ex->store, at, &record);
    if (error)
        return error;
    if (top)
        error = put_tag(ex, &record->tag, ref->git_name, *inout_mark, ++ex->last_mark);
    else
        error = put_lower(ex, ref, record, inout_mark);
    cmb_tag_free(&record->tag);
    return error;
}

/* All objects of a tag, or all but the ref's own. */
static int put_row(cmb_git_exporter *ex, const struct cmb_git_export_ref *ref, bool with_top)
{
    tag_row row = {.count = 0};
    cmb_commit_at end;
    uint64_t mark = 0;
    int error = cmb_tag_peel(ex->store, &ref->state.tag, add_object, &row, &end);
    if (!error && row.count == 1 && !with_top)
        return 0;
    if (!error && ref->node == CMB_GIT_NONE)
        error = put_tagged_blob(ex, &end, &mark);
    else if (!error)
        mark = ex->order.nodes[ref->node].mark;
    while (!error && row.count-- > (with_top ? 0u : 1u))
        error = put_object(ex, ref, &row.at[row.count], row.count == 0, &mark);
    return error;
}

/* First what lies below others, whose names must not take back a ref that is there already. */
int cmb_git_export_tags(cmb_git_exporter *ex)
{
    int error = 0;
    for (unsigned with_top = 0; with_top < 2; with_top++)
        for (size_t i = 0; !error && i < ex->ref_count; i++) {
            const struct cmb_git_export_ref *ref = &ex->refs[i];
            if (!ref->state.tag.id.size)
                continue;
            ex->result.refs += with_top;
            error = put_row(ex, ref, with_top);
        }
    return error;
}

/* ---- all of it ---- */

static int write_stream(cmb_git_exporter *ex)
{
    int error =
        cmb_git_print(&ex->out, "feature done\n%s", ex->order.permissive ? "feature date-format=raw-permissive\n" : "");
    if (!error)
        error = put_commits(ex);
    if (!error)
        error = put_resets(ex);
    if (!error)
        error = cmb_git_export_tags(ex);
    if (!error)
        error = cmb_git_print(&ex->out, "done\n");
    if (!error)
        error = cmb_git_output_flush(&ex->out);
    ex->result.bytes = ex->out.bytes;
    return error;
}

static void close_exporter(cmb_git_exporter *ex)
{
    for (size_t i = 0; i < ex->ref_count; i++)
        cmb_release(ex->alloc, ex->refs[i].git_name, ex->refs[i].size);
    cmb_release(ex->alloc, ex->refs, ex->ref_capacity * sizeof *ex->refs);
    cmb_release(ex->alloc, ex->written, ex->written_capacity * sizeof *ex->written);
    cmb_release(ex->alloc, ex->removed.data, ex->removed.capacity);
    cmb_release(ex->alloc, ex->modified.data, ex->modified.capacity);
    cmb_git_index_release(ex->alloc, &ex->by_name);
    cmb_git_order_release(&ex->order);
    cmb_git_output_close(&ex->out);
    cmb_pin_destroy(ex->store->nodes, &ex->pin);
    cmb_blob_release(ex->alloc, &ex->key);
}

int cmb_git_export(cmb_store *store, cmb_git_write_fn write, void *ctx, const cmb_git_options *options,
                   cmb_git_result *out_result)
{
    static const cmb_git_options none;
    cmb_git_exporter ex = {.store = store, .alloc = &store->alloc, .options = options ? options : &none};
    ex.order.store = store;
    ex.order.alloc = ex.alloc;
    int error = cmb_git_output_open(&ex.out, ex.alloc, write, ctx);
    if (!error && store->env.random(store->env.ctx, &ex.seed, sizeof ex.seed))
        error = cmb_fail(CMB_EIO, "no randomness for hash tables");
    if (!error)
        error = collect(&ex);
    if (!error)
        error = write_stream(&ex);
    close_exporter(&ex);
    if (!error && out_result)
        *out_result = ex.result;
    return error;
}
