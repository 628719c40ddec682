/* SPDX-License-Identifier: ISC */
/*
 * git_commit.c: one commit of a stream. What git needs to make the very same commit again and a commit here has no
 * place for is kept in headers:
 *
 *   git.committer   the line's words after "committer"
 *   git.author      likewise, where they differ
 *   git.encoding    of the message
 *   git.gpgsig      kind of signature, a newline, the signature
 *   git.message     where it has a zero byte: all of it
 */
#include "store/git.h"

#include <assert.h>

/* ---- texts ---- */

int cmb_git_text_add(const cmb_allocator *alloc, cmb_git_text *text, cmb_bytes add, size_t *out_at)
{
    size_t wanted = text->size + add.size + 1;
    if (wanted > text->capacity) {
        size_t capacity = 2 * wanted;
        uint8_t *data = cmb_resize(alloc, text->data, text->capacity, capacity);
        if (!data)
            return CMB_ENOMEM;
        text->data = data;
        text->capacity = capacity;
    }
    if (add.size)
        memcpy(text->data + text->size, add.data, add.size);
    text->data[wanted - 1] = 0;
    *out_at = text->size;
    text->size = wanted;
    return 0;
}

/* Until they are settled values are offsets: the text may move. */
int cmb_git_header_add(cmb_git_importer *im, const char *name, size_t at, size_t size)
{
    int error =
        cmb_git_grow(im->alloc, (void **)&im->headers, &im->header_capacity, im->header_count, sizeof *im->headers);
    if (!error)
        im->headers[im->header_count++] = (cmb_commit_header){name, {(const void *)(uintptr_t)at, size}};
    return error;
}

void cmb_git_headers_settle(cmb_git_importer *im)
{
    for (size_t i = 0; i < im->header_count; i++)
        im->headers[i].value.data = im->text.data + (uintptr_t)im->headers[i].value.data;
}

int cmb_git_message(cmb_git_importer *im, size_t *out_at)
{
    cmb_git_data data;
    cmb_bytes whole;
    int error = cmb_git_data_begin(&im->in, &data);
    if (!error && data.size > CMB_COMMIT_TEXT_MAX)
        error = cmb_git_refuse(&im->in, CMB_ETOOBIG, "a message of %llu bytes: at most %u",
                               (unsigned long long)data.size, CMB_COMMIT_TEXT_MAX);
    if (!error)
        error = cmb_git_data_whole(&data, &whole);
    if (!error)
        error = cmb_git_text_add(im->alloc, &im->text, whole, out_at);
    if (!error && whole.size && memchr(whole.data, 0, whole.size))
        error = cmb_git_header_add(im, "git.message", *out_at, whole.size);
    return error;
}

/* ---- the commit's own lines ---- */

/* A commit while it is read. */
typedef struct reading {
    size_t ref;
    uint64_t mark;
    size_t original, original_size; /* in the text */
    size_t author, message;         /* in the text, zero-terminated */
    int64_t time;
    uint64_t generation;
    cmb_noderef root; /* of the first parent */
    bool plain;       /* that has no side entries, for sure */
} reading;

static int refuse_person(cmb_git_importer *im, const char *what)
{
    return cmb_git_refuse(&im->in, CMB_ESYNTAX, "no \"NAME <ADDRESS> SECONDS ZONE\" after '%s'", what);
}

/* Lines "author" and "committer". The line after them is the current one. */
static int read_people(cmb_git_importer *im, reading *r)
{
    cmb_git_person person;
    cmb_bytes line;
    size_t author = 0, author_size = 0, at;
    int error = 0;
    if (cmb_git_line_is(&im->in, "author ", &line)) {
        if (!cmb_git_person_parse(line, &person))
            return refuse_person(im, "author");
        author_size = line.size;
        error = cmb_git_text_add(im->alloc, &im->text, line, &author);
        if (!error)
            error = cmb_git_text_add(im->alloc, &im->text, person.who, &r->author);
        if (!error)
            error = cmb_git_more(im, "a commit");
    }
    if (error)
        return error;
    if (!cmb_git_line_is(&im->in, "committer ", &line))
        return cmb_git_refuse(&im->in, CMB_ESYNTAX, "a commit needs a line 'committer' here");
    if (!cmb_git_person_parse(line, &person))
        return refuse_person(im, "committer");
    r->time = person.time;
    bool differs = author_size && (author_size != line.size || memcmp(im->text.data + author, line.data, line.size));
    if (!author_size)
        error = cmb_git_text_add(im->alloc, &im->text, person.who, &r->author);
    if (!error)
        error = cmb_git_text_add(im->alloc, &im->text, line, &at);
    if (!error)
        error = cmb_git_header_add(im, "git.committer", at, line.size);
    if (!error && differs)
        error = cmb_git_header_add(im, "git.author", author, author_size);
    return error ? error : cmb_git_more(im, "a commit");
}

/* "gpgsig KIND" and its data: kept together. */
static int read_signature(cmb_git_importer *im, cmb_bytes kind)
{
    cmb_git_data data;
    cmb_bytes whole;
    size_t at, next;
    int error = cmb_git_text_add(im->alloc, &im->text, kind, &at);
    if (!error)
        error = cmb_git_data_begin(&im->in, &data);
    if (!error && data.size > CMB_COMMIT_TEXT_MAX)
        error = cmb_git_refuse(&im->in, CMB_ETOOBIG, "a signature of %llu bytes: at most %u",
                               (unsigned long long)data.size, CMB_COMMIT_TEXT_MAX);
    if (!error)
        error = cmb_git_data_whole(&data, &whole);
    if (error)
        return error;
    im->text.data[im->text.size - 1] = '\n';
    error = cmb_git_text_add(im->alloc, &im->text, whole, &next);
    if (!error)
        error = cmb_git_header_add(im, "git.gpgsig", at, next + whole.size - at);
    return error ? error : cmb_git_more(im, "a commit");
}

static int read_signatures_and_encoding(cmb_git_importer *im)
{
    cmb_bytes rest;
    size_t at;
    int error = 0;
    while (!error && cmb_git_line_is(&im->in, "gpgsig ", &rest))
        error = read_signature(im, rest);
    if (error || !cmb_git_line_is(&im->in, "encoding ", &rest))
        return error;
    error = cmb_git_text_add(im->alloc, &im->text, rest, &at);
    if (!error)
        error = cmb_git_header_add(im, "git.encoding", at, rest.size);
    if (!error)
        error = cmb_git_more(im, "a commit");
    while (!error && cmb_git_line_is(&im->in, "gpgsig ", &rest))
        error = read_signature(im, rest);
    return error;
}

/* ---- parents ---- */

static int add_parent(cmb_git_importer *im, reading *r, size_t number)
{
    if (number == CMB_GIT_NONE)
        return 0;
    if (im->parent_count == CMB_COMMIT_PARENTS_MAX)
        return cmb_git_refuse(&im->in, CMB_ETOOBIG, "a commit with more than %u parents", CMB_COMMIT_PARENTS_MAX);
    int error =
        cmb_git_grow(im->alloc, (void **)&im->parents, &im->parent_capacity, im->parent_count, sizeof *im->parents);
    if (error)
        return error;
    const cmb_git_commit *c = &im->objects.commits[number];
    im->parents[im->parent_count++] = c->at;
    if (r->generation <= c->generation)
        r->generation = c->generation + 1;
    return 0;
}

/* "from" and "merge". Afterwards the next line is to be read. */
static int read_parents(cmb_git_importer *im, reading *r)
{
    size_t first = im->refs[r->ref].commit, number;
    cmb_bytes word;
    int error = cmb_git_line(&im->in);
    if (!error && cmb_git_line_is(&im->in, "from ", &word)) {
        error = cmb_git_commitish(im, word, &first);
        if (!error)
            error = cmb_git_line(&im->in);
    }
    if (!error || error == CMB_ENOTFOUND) {
        int added = add_parent(im, r, first);
        if (added)
            return added;
    }
    if (first != CMB_GIT_NONE) {
        r->root = im->objects.commits[first].root;
        r->plain = im->objects.commits[first].plain;
    } else {
        cmb_tree_empty(&im->store->tree, &r->root);
    }
    while (!error && cmb_git_line_is(&im->in, "merge ", &word)) {
        error = cmb_git_commitish(im, word, &number);
        if (!error)
            error = add_parent(im, r, number);
        if (!error)
            error = cmb_git_line(&im->in);
    }
    if (!error)
        cmb_git_unread(&im->in);
    return error == CMB_ENOTFOUND ? 0 : error;
}

/* ---- changes ---- */

static int take_path(cmb_git_importer *im, cmb_bytes *rest, bool last, bool may_be_root, cmb_blob *room,
                     cmb_bytes *out_path)
{
    int error = cmb_git_path_take(im->alloc, rest, last, may_be_root, room, out_path);
    return error && error != CMB_ENOMEM ? cmb_git_located(&im->in, error) : error;
}

static bool word_is(cmb_bytes word, const char *text)
{
    return word.size == strlen(text) && !memcmp(word.data, text, word.size);
}

/* The next word and the blank after it. */
static bool take_word(cmb_bytes *rest, cmb_bytes *out_word)
{
    const uint8_t *p = rest->data, *blank = memchr(p, ' ', rest->size);
    if (!blank)
        return false;
    *out_word = (cmb_bytes){p, (size_t)(blank - p)};
    *rest = (cmb_bytes){blank + 1, rest->size - out_word->size - 1};
    return true;
}

static uint32_t mode_of(cmb_bytes word)
{
    static const struct {
        const char *text;
        uint32_t mode;
    } modes[] = {{"100644", CMB_GIT_FILE},    {"644", CMB_GIT_FILE},       {"100755", CMB_GIT_EXECUTABLE},
                 {"755", CMB_GIT_EXECUTABLE}, {"120000", CMB_GIT_SYMLINK}, {"160000", CMB_GIT_SUBMODULE},
                 {"040000", 0040000},         {"40000", 0040000}};
    for (size_t i = 0; i < CMB_COUNTOF(modes); i++)
        if (word_is(word, modes[i].text))
            return modes[i].mode;
    return 0;
}

static bool is_hex_name(cmb_bytes word)
{
    const uint8_t *p = word.data;
    for (size_t i = 0; i < word.size; i++)
        if (!(p[i] >= '0' && p[i] <= '9') && !(p[i] >= 'a' && p[i] <= 'f'))
            return false;
    return word.size == 40 || word.size == 64;
}

/* A tree can be named only if it is the empty one, which takes the path away. */
static int modify_tree(cmb_git_importer *im, cmb_bytes what, cmb_bytes path)
{
    if (!word_is(what, "4b825dc642cb6eb9a060e54bf8d69288fbee4904") &&
        !word_is(what, "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321"))
        return cmb_git_refuse(&im->in, CMB_ENOTSUP, "'M 040000' names a tree of a repository: a stream holds none");
    return cmb_git_tree_remove(&im->tree, path);
}

/* A submodule's commit lies in another repository: its name is what is kept. */
static int modify_submodule(cmb_git_importer *im, cmb_bytes what, cmb_bytes path)
{
    cmb_edit value = {.kind = CMB_EDIT_PUT, .value = what};
    if (!is_hex_name(what))
        return cmb_git_refuse(&im->in, CMB_ENOTSUP, "a submodule has to be given by the name of its commit");
    return cmb_git_tree_set(&im->tree, path, CMB_GIT_SUBMODULE, &value);
}

/* The blob that "M" names. */
static int find_blob(cmb_git_importer *im, cmb_bytes what, size_t *out_blob)
{
    uint64_t number;
    char shown[44];
    if (!cmb_git_mark_parse(what, &number))
        return cmb_git_refuse(&im->in, is_hex_name(what) ? CMB_ENOTSUP : CMB_ESYNTAX,
                              is_hex_name(what)
                                  ? "blob %s is in a repository, not in the stream (exported with --no-data?)"
                                  : "'%s' is neither a mark nor 'inline' nor a name",
                              cmb_git_shown(what, shown));
    const cmb_git_mark *mark = cmb_git_mark_find(&im->objects, number);
    if (!mark || mark->kind != CMB_GIT_BLOB)
        return cmb_git_refuse(&im->in, CMB_ESYNTAX, "mark :%llu is %s", (unsigned long long)number,
                              mark ? "no blob" : "not known");
    *out_blob = mark->number;
    return 0;
}

/* "M MODE WHAT PATH" */
static int modify(cmb_git_importer *im, cmb_bytes rest)
{
    cmb_bytes mode_word, what, path;
    cmb_edit value;
    size_t blob;
    if (!take_word(&rest, &mode_word) || !take_word(&rest, &what))
        return cmb_git_refuse(&im->in, CMB_ESYNTAX, "'M' needs a mode, what, and a path");
    uint32_t mode = mode_of(mode_word);
    if (!mode) {
        char shown[44];
        return cmb_git_refuse(&im->in, CMB_ESYNTAX, "mode '%s' is none of git's", cmb_git_shown(mode_word, shown));
    }
    int error = take_path(im, &rest, true, mode == 0040000, &im->path, &path);
    if (error)
        return error;
    if (mode == 0040000)
        return modify_tree(im, what, path);
    if (mode == CMB_GIT_SUBMODULE)
        return modify_submodule(im, what, path);
    if (word_is(what, "inline")) {
        cmb_git_data data;
        error = cmb_git_data_begin(&im->in, &data);
        if (!error)
            error = cmb_git_blob_read(&im->objects, &data, false, &blob);
    } else {
        error = find_blob(im, what, &blob);
    }
    if (error)
        return error;
    cmb_git_blob_edit(&im->objects, blob, &value);
    return cmb_git_tree_set(&im->tree, path, mode, &value);
}

/* "R FROM TO", "C FROM TO" */
static int copy(cmb_git_importer *im, cmb_bytes rest, bool remove)
{
    cmb_bytes from, to;
    int error = take_path(im, &rest, false, true, &im->path, &from);
    if (!error)
        error = take_path(im, &rest, true, true, &im->other_path, &to);
    if (error)
        return error;
    error = cmb_git_tree_copy(&im->tree, from, to, remove);
    if (error == CMB_ENOTFOUND) {
        char shown[44];
        return cmb_git_refuse(&im->in, CMB_ESYNTAX, "there is no path '%s'", cmb_git_shown(from, shown));
    }
    return error == CMB_ESYNTAX || error == CMB_ETOOBIG ? cmb_git_located(&im->in, error) : error;
}

static int remove_path(cmb_git_importer *im, cmb_bytes rest)
{
    cmb_bytes path;
    int error = take_path(im, &rest, true, true, &im->path, &path);
    return error ? error : cmb_git_tree_remove(&im->tree, path);
}

/* One line of changes; *out_is false: it is something else. */
static int change(cmb_git_importer *im, bool *out_is)
{
    const cmb_git_input *in = &im->in;
    cmb_bytes rest;
    *out_is = true;
    if (cmb_git_line_is(in, "M ", &rest))
        return modify(im, rest);
    if (cmb_git_line_is(in, "D ", &rest))
        return remove_path(im, rest);
    if (cmb_git_line_is(in, "R ", &rest))
        return copy(im, rest, true);
    if (cmb_git_line_is(in, "C ", &rest))
        return copy(im, rest, false);
    if (word_is((cmb_bytes){in->text, in->size}, "deleteall"))
        return cmb_git_tree_remove(&im->tree, (cmb_bytes){"", 0});
    if (cmb_git_line_is(in, "N ", NULL))
        return cmb_git_refuse(
            in, CMB_ENOTSUP,
            "'N' names a note after its commit in a repository of git: export notes as the tree that they are");
    *out_is = false;
    return 0;
}

/* Up to an empty line, or a line that is no change. */
static int read_changes(cmb_git_importer *im)
{
    for (;;) {
        bool is_change;
        int error = cmb_git_line(&im->in);
        if (error || !im->in.size)
            return error == CMB_ENOTFOUND ? 0 : error;
        error = change(im, &is_change);
        if (error)
            return error;
        if (!is_change) {
            cmb_git_unread(&im->in);
            return 0;
        }
    }
}

/* ---- all of it ---- */

static int write_commit(cmb_git_importer *im, const reading *r, cmb_git_commit *out)
{
    cmb_git_headers_settle(im);
    cmb_commit_draft draft = {.parents = im->parents,
                              .parent_count = im->parent_count,
                              .generation = r->generation,
                              .time = r->time,
                              .author = (const char *)im->text.data + r->author,
                              .message = (const char *)im->text.data + r->message,
                              .headers = im->headers,
                              .header_count = im->header_count};
    int error = cmb_git_tree_finish(&im->tree, &draft.root);
    if (error)
        return error;
    *out = (cmb_git_commit){.root = draft.root, .generation = r->generation, .plain = im->tree.plain};
    error = cmb_intake_commit(im->intake, &draft, &out->at);
    return error == CMB_EINVAL ? cmb_git_located(&im->in, CMB_ETOOBIG) : error;
}

/* Marks, refs, those who asked. */
static int announce(cmb_git_importer *im, const reading *r, const cmb_git_commit *commit)
{
    size_t number;
    int error = cmb_git_commit_add(&im->objects, commit, &number);
    if (!error && r->mark)
        error = cmb_git_mark_set(&im->objects, r->mark, CMB_GIT_COMMIT, number);
    if (error)
        return error;
    cmb_git_ref *ref = &im->refs[r->ref];
    ref->commit = number;
    ref->tag = CMB_GIT_NONE;
    ref->removed = false;
    im->result.commits++;
    im->result.known += commit->at.addr < im->known_below;
    if (!im->options->commit)
        return 0;
    return im->in.failed = im->options->commit(im->options->ctx, r->mark,
                                               (cmb_bytes){im->text.data + r->original, r->original_size}, &commit->at.id);
}

int cmb_git_read_commit(cmb_git_importer *im, cmb_bytes ref)
{
    reading r = {.generation = 1, .plain = true};
    cmb_git_commit commit;
    im->text.size = im->header_count = im->parent_count = 0;
    int error = cmb_git_ref_find(im, ref, &r.ref);
    if (!error)
        error = cmb_git_more(im, "a commit");
    if (!error)
        error = cmb_git_take_mark(im, "a commit", &r.mark);
    if (!error)
        error = cmb_git_take_original(im, "a commit", &r.original, &r.original_size);
    if (!error)
        error = read_people(im, &r);
    if (!error)
        error = read_signatures_and_encoding(im);
    if (error)
        return error;
    cmb_git_unread(&im->in);
    error = cmb_git_message(im, &r.message);
    if (!error)
        error = read_parents(im, &r);
    if (!error)
        error = cmb_git_tree_begin(&im->tree, &r.root, r.plain);
    if (!error)
        error = read_changes(im);
    if (!error)
        error = write_commit(im, &r, &commit);
    return error ? error : announce(im, &r, &commit);
}
