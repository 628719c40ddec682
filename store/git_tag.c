/* SPDX-License-Identifier: ISC */
/*
 * git_tag.c: annotated tags of a stream. Headers: "git.tagger", the words after "tagger" (none: there was no such
 * line), and "git.message" as in commits.
 *
 * git can tag a file's content. Here a tag object names commits and tag objects only: so a commit without parents,
 * author, message and date is made, with the header "git.type" saying "blob" and the content under the key "blob".
 */
#include "store/git.h"

/* What a tag names. */
typedef struct target {
    size_t commit; /* at the end */
    size_t tag;    /* CMB_GIT_NONE: the commit itself */
} target;

static int build_blob_tree(cmb_git_importer *im, size_t blob, cmb_noderef *out_root)
{
    cmb_noderef empty;
    cmb_editor *editor;
    cmb_edit edit = {.key = {"blob", 4}};
    cmb_tree_empty(&im->store->tree, &empty);
    cmb_git_blob_edit(&im->objects, blob, &edit);
    int error = cmb_editor_open(&im->store->tree, &empty, cmb_intake_appender(im->intake), &editor);
    if (error)
        return error;
    error = cmb_editor_push(editor, &edit);
    if (!error)
        return cmb_editor_finish(editor, out_root);
    cmb_editor_abort(editor);
    return error;
}

static int commit_blob(cmb_git_importer *im, size_t blob, size_t *out_commit)
{
    cmb_commit_header header = {CMB_GIT_TYPE, {"blob", 4}};
    cmb_commit_draft draft = {.generation = 1, .headers = &header, .header_count = 1};
    cmb_git_commit commit = {.generation = 1, .plain = true};
    int error = build_blob_tree(im, blob, &draft.root);
    if (!error)
        error = cmb_intake_commit(im->intake, &draft, &commit.at);
    commit.root = draft.root;
    return error ? error : cmb_git_commit_add(&im->objects, &commit, out_commit);
}

static int find_target(cmb_git_importer *im, cmb_bytes word, target *out)
{
    uint64_t number;
    out->tag = CMB_GIT_NONE;
    const cmb_git_mark *mark = cmb_git_mark_parse(word, &number) ? cmb_git_mark_find(&im->objects, number) : NULL;
    if (mark && mark->kind == CMB_GIT_BLOB)
        return commit_blob(im, mark->number, &out->commit);
    if (mark && mark->kind == CMB_GIT_TAG) {
        out->tag = mark->number;
        out->commit = im->tags[mark->number].commit;
        if (im->tags[mark->number].depth >= CMB_TAG_DEPTH_MAX)
            return cmb_git_refuse(&im->in, CMB_ETOOBIG, "more than %u tags, one on the other", CMB_TAG_DEPTH_MAX);
        return 0;
    }
    int error = cmb_git_commitish(im, word, &out->commit);
    if (!error && out->commit == CMB_GIT_NONE)
        error = cmb_git_refuse(&im->in, CMB_ESYNTAX, "a tag of nothing");
    return error;
}

/* "from", "original-oid", "tagger". */
static int read_lines(cmb_git_importer *im, target *t, size_t *who, int64_t *time)
{
    cmb_git_person person;
    cmb_bytes rest;
    size_t at, size;
    if (!cmb_git_line_is(&im->in, "from ", &rest))
        return cmb_git_refuse(&im->in, CMB_ESYNTAX, "a tag needs a line 'from' here");
    int error = find_target(im, rest, t);
    if (!error)
        error = cmb_git_more(im, "a tag");
    if (!error)
        error = cmb_git_take_original(im, "a tag", &at, &size);
    if (error || !cmb_git_line_is(&im->in, "tagger ", &rest))
        return error;
    if (!cmb_git_person_parse(rest, &person))
        return cmb_git_refuse(&im->in, CMB_ESYNTAX, "no \"NAME <ADDRESS> SECONDS ZONE\" after 'tagger'");
    *time = person.time;
    error = cmb_git_text_add(im->alloc, &im->text, person.who, who);
    if (!error)
        error = cmb_git_text_add(im->alloc, &im->text, rest, &at);
    if (!error)
        error = cmb_git_header_add(im, "git.tagger", at, rest.size);
    return error ? error : cmb_git_more(im, "a tag");
}

static int write_tag(cmb_git_importer *im, cmb_tag_draft *draft, const target *t, size_t *out_tag)
{
    cmb_git_tag made = {.commit = t->commit, .depth = 1};
    draft->target = im->objects.commits[t->commit].at;
    if (t->tag != CMB_GIT_NONE) {
        draft->target = im->tags[t->tag].at;
        draft->target_is_tag = true;
        made.depth = im->tags[t->tag].depth + 1;
    }
    draft->headers = im->headers;
    draft->header_count = im->header_count;
    int error = cmb_git_grow(im->alloc, (void **)&im->tags, &im->tag_capacity, im->tag_count, sizeof *im->tags);
    if (!error)
        error = cmb_intake_tag(im->intake, draft, &made.at);
    if (error)
        return error == CMB_EINVAL ? cmb_git_located(&im->in, CMB_ETOOBIG) : error;
    *out_tag = im->tag_count;
    im->tags[im->tag_count++] = made;
    return 0;
}

int cmb_git_read_tag(cmb_git_importer *im, cmb_bytes name)
{
    cmb_bytes prefix = {"refs/tags/", 10};
    size_t git_name, own_name, who, message, ref, tag = CMB_GIT_NONE;
    uint64_t mark;
    target t;
    cmb_tag_draft draft = {.time = 0};
    im->text.size = im->header_count = 0;
    int error = cmb_git_text_add(im->alloc, &im->text, prefix, &git_name);
    im->text.size -= error ? 0 : 1;
    if (!error)
        error = cmb_git_text_add(im->alloc, &im->text, name, &own_name);
    if (!error)
        error = cmb_git_text_add(im->alloc, &im->text, (cmb_bytes){"", 0}, &who);
    if (!error)
        error = cmb_git_ref_find(im, (cmb_bytes){im->text.data + git_name, prefix.size + name.size}, &ref);
    if (!error)
        error = cmb_git_more(im, "a tag");
    if (!error)
        error = cmb_git_take_mark(im, "a tag", &mark);
    if (!error)
        error = read_lines(im, &t, &who, &draft.time);
    if (error)
        return error;
    cmb_git_unread(&im->in);
    error = cmb_git_message(im, &message);
    if (error)
        return error;
    cmb_git_headers_settle(im);
    draft.name = (const char *)im->text.data + own_name;
    draft.tagger = (const char *)im->text.data + who;
    draft.message = (const char *)im->text.data + message;
    error = write_tag(im, &draft, &t, &tag);
    if (!error && mark)
        error = cmb_git_mark_set(&im->objects, mark, CMB_GIT_TAG, tag);
    if (error)
        return error;
    im->refs[ref].commit = t.commit;
    im->refs[ref].tag = tag;
    im->refs[ref].removed = false;
    im->result.tags++;
    return 0;
}
