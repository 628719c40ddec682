/* SPDX-License-Identifier: ISC */
/* git_import.c: a whole stream: its commands, the refs that it names, and what becomes of them in the end. */
#include "store/git.h"

#include "store/graph.h"

/* ---- what commands have in common ---- */

int cmb_git_more(cmb_git_importer *im, const char *what)
{
    int error = cmb_git_line(&im->in);
    return error == CMB_ENOTFOUND ? cmb_git_refuse(&im->in, CMB_ESYNTAX, "the stream ends within %s", what) : error;
}

bool cmb_git_mark_parse(cmb_bytes word, uint64_t *out_mark)
{
    const uint8_t *p = word.data;
    uint64_t n = 0;
    if (word.size < 2 || p[0] != ':')
        return false;
    for (size_t i = 1; i < word.size; i++) {
        if (p[i] < '0' || p[i] > '9' || n > (UINT64_MAX - 9) / 10)
            return false;
        n = n * 10 + (p[i] - '0');
    }
    *out_mark = n;
    return n > 0;
}

int cmb_git_take_mark(cmb_git_importer *im, const char *what, uint64_t *out_mark)
{
    cmb_bytes word;
    *out_mark = 0;
    if (!cmb_git_line_is(&im->in, "mark ", &word))
        return 0;
    if (!cmb_git_mark_parse(word, out_mark))
        return cmb_git_refuse(&im->in, CMB_ESYNTAX, "no mark, as ':1', after 'mark'");
    return cmb_git_more(im, what);
}

int cmb_git_take_original(cmb_git_importer *im, const char *what, size_t *out_at, size_t *out_size)
{
    cmb_bytes word;
    *out_at = *out_size = 0;
    if (!cmb_git_line_is(&im->in, "original-oid ", &word))
        return 0;
    int error = cmb_git_text_add(im->alloc, &im->text, word, out_at);
    *out_size = word.size;
    return error ? error : cmb_git_more(im, what);
}

/* ---- refs ---- */

static uint64_t name_hash(const cmb_git_importer *im, const char *name)
{
    return cmb_hash64(name, strlen(name), im->objects.seeds[0]);
}

/* By the name that it has here. */
static size_t find_ref(const cmb_git_importer *im, const char *name)
{
    uint64_t i;
    size_t pos = 0;
    if (im->last_ref < im->ref_count && !strcmp(im->refs[im->last_ref].name, name))
        return im->last_ref;
    while (cmb_git_index_next(&im->by_name, name_hash(im, name), &pos, &i))
        if (!strcmp(im->refs[i].name, name))
            return (size_t)i;
    return CMB_GIT_NONE;
}

static int add_ref(cmb_git_importer *im, const char *name, size_t *out_ref)
{
    size_t size = (size_t)cmb_align_up(strlen(name) + 1, 8);
    cmb_git_ref ref = {.commit = CMB_GIT_NONE, .tag = CMB_GIT_NONE};
    int error = cmb_git_grow(im->alloc, (void **)&im->refs, &im->ref_capacity, im->ref_count, sizeof *im->refs);
    if (!error)
        error = cmb_slab_reserve(&im->names, size);
    if (!error)
        error = cmb_git_index_add(im->alloc, &im->by_name, name_hash(im, name), im->ref_count);
    if (error)
        return error;
    char *kept = cmb_slab_take(&im->names, size);
    memcpy(kept, name, strlen(name) + 1);
    ref.name = kept;
    *out_ref = im->ref_count;
    im->refs[im->ref_count++] = ref;
    return 0;
}

/* As this image calls it. */
static int name_here(cmb_git_importer *im, cmb_bytes git_name, char out_full[CMB_REF_FULL_SIZE])
{
    int error = cmb_git_ref_here(git_name, out_full);
    return error ? cmb_git_located(&im->in, git_name.size > CMB_REF_NAME_MAX ? CMB_ETOOBIG : CMB_ESYNTAX) : 0;
}

int cmb_git_ref_find(cmb_git_importer *im, cmb_bytes git_name, size_t *out_ref)
{
    char full[CMB_REF_FULL_SIZE];
    int error = name_here(im, git_name, full);
    if (error)
        return error;
    *out_ref = find_ref(im, full);
    if (*out_ref == CMB_GIT_NONE)
        error = add_ref(im, full, out_ref);
    im->last_ref = *out_ref;
    return error;
}

/* A commit that the image had before, by the ref that stands on it. */
static int find_in_image(cmb_git_importer *im, const char *full, cmb_bytes word, size_t *out_commit)
{
    char shown[44];
    cmb_state state;
    int error = cmb_ref_state(im->store, full, strlen(full), &state);
    if (error == CMB_ENOTFOUND || (!error && !state.commit.id.size))
        return cmb_git_refuse(&im->in, CMB_ESYNTAX, "neither the stream nor the image has a commit '%s'",
                              cmb_git_shown(word, shown));
    if (error)
        return error;
    cmb_git_commit commit = {.at = state.commit, .root = state.commit_root, .generation = state.generation};
    return cmb_git_commit_add(&im->objects, &commit, out_commit);
}

/* All digits 0, as long as a name. */
static bool is_nothing(cmb_bytes word)
{
    for (size_t i = 0; i < word.size; i++)
        if (((const uint8_t *)word.data)[i] != '0')
            return false;
    return word.size == 40 || word.size == 64;
}

int cmb_git_commitish(cmb_git_importer *im, cmb_bytes word, size_t *out_commit)
{
    const char *text = word.data;
    char full[CMB_REF_FULL_SIZE], shown[44];
    uint64_t number;
    if (is_nothing(word)) {
        *out_commit = CMB_GIT_NONE;
        return 0;
    }
    if (cmb_git_mark_parse(word, &number)) {
        const cmb_git_mark *mark = cmb_git_mark_find(&im->objects, number);
        if (!mark || mark->kind != CMB_GIT_COMMIT)
            return cmb_git_refuse(&im->in, CMB_ESYNTAX, "mark :%llu is %s", (unsigned long long)number,
                                  mark ? "no commit" : "not known");
        *out_commit = mark->number;
        return 0;
    }
    if (word.size > 2 && !memcmp(text + word.size - 2, "^0", 2))
        word.size -= 2;
    if (cmb_git_ref_here(word, full))
        return cmb_git_refuse(&im->in, CMB_ENOTSUP,
                              "'%s' is neither a mark nor a ref: only a repository of git knows it",
                              cmb_git_shown(word, shown));
    size_t ref = find_ref(im, full);
    if (ref == CMB_GIT_NONE || (im->refs[ref].commit == CMB_GIT_NONE && !im->refs[ref].removed))
        return find_in_image(im, full, word, out_commit);
    *out_commit = im->refs[ref].commit;
    return 0;
}

/* ---- commands ---- */

static int read_blob(cmb_git_importer *im)
{
    cmb_git_data data;
    uint64_t mark;
    size_t at, size, number;
    im->text.size = 0;
    int error = cmb_git_more(im, "a blob");
    if (!error)
        error = cmb_git_take_mark(im, "a blob", &mark);
    if (!error)
        error = cmb_git_take_original(im, "a blob", &at, &size);
    if (error)
        return error;
    cmb_git_unread(&im->in);
    im->result.blobs++;
    error = cmb_git_data_begin(&im->in, &data);
    if (error)
        return error;
    if (!mark) /* nobody can name it */
        return cmb_git_data_skip(&data);
    error = cmb_git_blob_read(&im->objects, &data, true, &number);
    return error ? error : cmb_git_mark_set(&im->objects, mark, CMB_GIT_BLOB, number);
}

static int read_reset(cmb_git_importer *im, cmb_bytes name)
{
    cmb_bytes word;
    size_t ref, commit = CMB_GIT_NONE;
    int error = cmb_git_ref_find(im, name, &ref);
    if (error)
        return error;
    error = cmb_git_line(&im->in);
    bool from = !error && cmb_git_line_is(&im->in, "from ", &word);
    if (from)
        error = cmb_git_commitish(im, word, &commit);
    else if (!error)
        cmb_git_unread(&im->in);
    if (error && error != CMB_ENOTFOUND)
        return error;
    im->refs[ref].commit = commit;
    im->refs[ref].tag = CMB_GIT_NONE;
    im->refs[ref].removed = from && commit == CMB_GIT_NONE;
    return 0;
}

static int read_alias(cmb_git_importer *im)
{
    cmb_bytes word;
    uint64_t mark;
    size_t commit;
    int error = cmb_git_more(im, "an alias");
    if (!error)
        error = cmb_git_take_mark(im, "an alias", &mark);
    if (error)
        return error;
    if (!mark || !cmb_git_line_is(&im->in, "to ", &word))
        return cmb_git_refuse(&im->in, CMB_ESYNTAX, "an alias needs lines 'mark' and 'to' here");
    error = cmb_git_commitish(im, word, &commit);
    if (!error && commit == CMB_GIT_NONE)
        error = cmb_git_refuse(&im->in, CMB_ESYNTAX, "an alias of nothing");
    return error ? error : cmb_git_mark_set(&im->objects, mark, CMB_GIT_COMMIT, commit);
}

static bool is_word(cmb_bytes word, const char *text)
{
    return word.size == strlen(text) && !memcmp(word.data, text, word.size);
}

static int read_feature(cmb_git_importer *im, cmb_bytes word)
{
    char shown[44];
    if (is_word(word, "done"))
        im->done_needed = true;
    else if (is_word(word, "force"))
        im->force = true;
    else if (!is_word(word, "date-format=raw") && !is_word(word, "date-format=raw-permissive"))
        return cmb_git_refuse(&im->in, CMB_ENOTSUP, "the stream needs a feature that is not there: '%s'",
                              cmb_git_shown(word, shown));
    return 0;
}

/* Commands that say nothing about histories, or ask for answers. */
static int read_other(cmb_git_importer *im)
{
    static const char *const passed[] = {"progress ", "option ", "checkpoint"};
    static const char *const asking[] = {"cat-blob ", "ls ", "get-mark "};
    char shown[44];
    cmb_bytes line = {im->in.text, im->in.size};
    if (!line.size)
        return 0;
    for (size_t i = 0; i < CMB_COUNTOF(passed); i++)
        if (cmb_git_line_is(&im->in, passed[i], NULL))
            return 0;
    for (size_t i = 0; i < CMB_COUNTOF(asking); i++)
        if (cmb_git_line_is(&im->in, asking[i], NULL))
            return cmb_git_refuse(&im->in, CMB_ENOTSUP, "'%s' asks for an answer, which nobody gives",
                                  cmb_git_shown(line, shown));
    return cmb_git_refuse(&im->in, CMB_ESYNTAX, "'%s' is no command", cmb_git_shown(line, shown));
}

static int read_command(cmb_git_importer *im)
{
    cmb_bytes rest, line = {im->in.text, im->in.size};
    if (is_word(line, "blob"))
        return read_blob(im);
    if (cmb_git_line_is(&im->in, "commit ", &rest))
        return cmb_git_read_commit(im, rest);
    if (cmb_git_line_is(&im->in, "tag ", &rest))
        return cmb_git_read_tag(im, rest);
    if (cmb_git_line_is(&im->in, "reset ", &rest))
        return read_reset(im, rest);
    if (cmb_git_line_is(&im->in, "feature ", &rest))
        return read_feature(im, rest);
    if (is_word(line, "alias"))
        return read_alias(im);
    if (is_word(line, "done")) {
        im->done = true;
        return 0;
    }
    return read_other(im);
}

static int read_stream(cmb_git_importer *im)
{
    int error = 0;
    while (!error && !im->done) {
        error = cmb_git_line(&im->in);
        if (!error)
            error = read_command(im);
    }
    im->result.bytes = im->in.base + im->in.at;
    if (im->in.failed)
        return im->in.failed;
    if (error != CMB_ENOTFOUND)
        return error;
    return im->done_needed
               ? cmb_git_refuse(&im->in, CMB_ESYNTAX, "the stream ends without the 'done' that it announced")
               : 0;
}

/* ---- the end ---- */

/* May the ref move from where it stands? */
static int check_forward(cmb_git_importer *im, const cmb_git_ref *ref, const cmb_state *now, const cmb_commit_at *to)
{
    bool forward = false;
    if (now->working)
        return cmb_fail(CMB_ECONFLICT, "%s has a working state, which would be lost: commit it, or force the import",
                        ref->name);
    if (!now->commit.id.size)
        return 0;
    int error = to ? cmb_graph_is_ancestor(im->store, &now->commit, to, &forward) : 0;
    if (!error && !forward)
        error = cmb_fail(CMB_ECONFLICT,
                         "%s stands on a commit that the stream does not %s: force the import to leave it behind",
                         ref->name, to ? "build upon" : "keep");
    return error;
}

static int end_ref(cmb_git_importer *im, const cmb_git_ref *ref)
{
    const cmb_commit_at *to = ref->commit == CMB_GIT_NONE ? NULL : &im->objects.commits[ref->commit].at;
    const cmb_commit_at *tag = ref->tag == CMB_GIT_NONE ? NULL : &im->tags[ref->tag].at;
    cmb_state now;
    cmb_name expected = {.size = 0};
    if (!to && !ref->removed)
        return 0;
    int error = cmb_ref_state(im->store, ref->name, strlen(ref->name), &now);
    if (error && error != CMB_ENOTFOUND)
        return error;
    bool exists = !error;
    if (!exists && !to)
        return 0;
    if (exists && !im->force) {
        error = check_forward(im, ref, &now, to);
        if (error)
            return error;
        expected = now.commit.id;
    }
    im->result.refs++;
    const cmb_name *expects = im->force ? NULL : &expected;
    cmb_reflog_reason reason = !to ? CMB_REFLOG_DELETED : exists ? CMB_REFLOG_SET : CMB_REFLOG_CREATED;
    return tag ? cmb_intake_tag_ref(im->intake, ref->name, expects, tag, reason)
               : cmb_intake_ref(im->intake, ref->name, expects, to, reason);
}

static int publish(cmb_git_importer *im)
{
    int error = 0;
    for (size_t i = 0; !error && i < im->ref_count; i++)
        error = end_ref(im, &im->refs[i]);
    if (error)
        return error;
    cmb_intake *intake = im->intake;
    im->intake = NULL;
    return cmb_intake_publish(intake);
}

static void close_importer(cmb_git_importer *im)
{
    cmb_git_tree_close(&im->tree);
    cmb_git_objects_close(&im->objects);
    cmb_git_input_close(&im->in);
    cmb_intake_abort(im->intake);
    cmb_release(im->alloc, im->refs, im->ref_capacity * sizeof *im->refs);
    cmb_release(im->alloc, im->tags, im->tag_capacity * sizeof *im->tags);
    cmb_release(im->alloc, im->parents, im->parent_capacity * sizeof *im->parents);
    cmb_release(im->alloc, im->headers, im->header_capacity * sizeof *im->headers);
    cmb_release(im->alloc, im->text.data, im->text.capacity);
    cmb_git_index_release(im->alloc, &im->by_name);
    cmb_slab_release(&im->names);
    cmb_blob_release(im->alloc, &im->path);
    cmb_blob_release(im->alloc, &im->other_path);
}

/* Each part is opened so that it can be closed whatever comes of it. */
static int open_importer(cmb_git_importer *im, cmb_git_read_fn read, void *ctx)
{
    uint64_t first;
    cmb_log_extent(im->store->log, &first, &im->known_below);
    int error = cmb_git_input_open(&im->in, im->alloc, read, ctx);
    if (!error)
        error = cmb_intake_open(im->store, &im->intake);
    int objects = cmb_git_objects_open(&im->objects, im->store, im->intake);
    int tree = cmb_git_tree_open(&im->tree, im->store, im->intake);
    return error ? error : objects ? objects : tree;
}

int cmb_git_import(cmb_store *store, cmb_git_read_fn read, void *ctx, const cmb_git_options *options,
                   cmb_git_result *out_result)
{
    static const cmb_git_options none;
    cmb_git_importer im = {.store = store, .alloc = &store->alloc, .options = options ? options : &none};
    im.names.alloc = im.alloc;
    im.force = im.options->force;
    int error = open_importer(&im, read, ctx);
    if (!error)
        error = read_stream(&im);
    if (!error)
        error = publish(&im);
    close_importer(&im);
    if (!error && out_result)
        *out_result = im.result;
    return error;
}
