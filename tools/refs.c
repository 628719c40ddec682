/* SPDX-License-Identifier: ISC */
#include "tools/refs.h"

#include <string.h>

#include <cambium/tag.h>

#include "tools/text.h"

#define SHORT_ID 12u /* digits of an id in a list */

/* ---- showing ---- */

void refs_rev_json(json *j, const cmb_rev *rev)
{
    json_put_name(j, "commit", &rev->commit);
    json_put_name(j, "base", &rev->base);
    json_put_name(j, "root", &rev->root);
    json_put_u64(j, "entries", rev->entries);
    json_put_bool(j, "working", rev->working);
}

/* In their order; only where there are some. */
static void headers_json(json *j, const cmb_commit_header *headers, size_t n)
{
    if (n == 0)
        return;
    json_put_array(j, "headers");
    for (size_t i = 0; i < n; i++) {
        json_put_object(j, NULL);
        json_put_string(j, "name", headers[i].name);
        json_put_bytes(j, "value", headers[i].value.data, headers[i].value.size);
        json_put_object_end(j);
    }
    json_put_array_end(j);
}

void refs_commit_json(json *j, const cmb_commit *commit)
{
    json_put_name(j, "commit", &commit->id);
    json_put_name(j, "root", &commit->root);
    json_put_u64(j, "entries", commit->entries);
    json_put_u64(j, "generation", commit->generation);
    json_put_array(j, "parents");
    for (size_t i = 0; i < commit->parent_count; i++)
        json_put_name(j, NULL, &commit->parents[i]);
    json_put_array_end(j);
    json_put_time(j, "time", commit->time);
    json_put_string(j, "author", commit->author);
    json_put_string(j, "message", commit->message);
    headers_json(j, commit->headers, commit->header_count);
}

/* Line by line, indented. */
static void print_lines(const char *text, size_t size)
{
    while (size > 0) {
        const char *line_end = memchr(text, '\n', size);
        size_t n = line_end ? (size_t)(line_end - text) : size;
        fputs("    ", stdout);
        text_print_field(stdout, text, n);
        putchar('\n');
        text += n + (line_end != NULL);
        size -= n + (line_end != NULL);
    }
}

static void print_message(const char *message)
{
    if (message[0] == '\0')
        return;
    putchar('\n');
    print_lines(message, strlen(message));
}

/* A value of one line beside its name, longer ones below it. */
static void print_headers(const cmb_commit_header *headers, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const cmb_bytes *v = &headers[i].value;
        bool lines = memchr(v->data, '\n', v->size) != NULL;
        printf("header  %s%s", headers[i].name, v->size && !lines ? " " : "");
        if (!lines)
            text_print_field(stdout, v->data, v->size);
        putchar('\n');
        if (lines)
            print_lines(v->data, v->size);
    }
}

void refs_commit_print(const cmb_commit *commit)
{
    text_buf t;
    printf("commit  %s\n", text_name(&t, &commit->id, 0));
    for (size_t i = 0; i < commit->parent_count; i++)
        printf("parent  %s\n", text_name(&t, &commit->parents[i], 0));
    printf("root    %s\n", text_name(&t, &commit->root, 0));
    fputs("author  ", stdout);
    text_print_field(stdout, commit->author, strlen(commit->author));
    printf("\ntime    %s\n", text_time(&t, commit->time));
    printf("entries %s\n", text_count(&t, commit->entries));
    print_headers(commit->headers, commit->header_count);
    print_message(commit->message);
}

void refs_working_print(const char *name, const cmb_rev *rev)
{
    text_buf t;
    printf("working state of %s\n", name);
    printf("base    %s\n", rev->base.size ? text_name(&t, &rev->base, 0) : "none: no commit yet");
    printf("root    %s\n", text_name(&t, &rev->root, 0));
    printf("entries %s\n", text_count(&t, rev->entries));
}

/* ---- annotated tags ---- */

/* Calls fn for the tag objects of the tag that the REV `name` is, if it is one. */
static int each_tag(cmb_store *store, const char *name, void (*fn)(void *ctx, const cmb_tag *tag), void *ctx)
{
    char branch[CMB_REF_NAME_MAX + 16];
    cmb_rev rev;
    snprintf(branch, sizeof(branch), "heads/%s", name);
    if (cmb_rev_parse(store, branch, &rev) == 0)
        return 0; /* a branch of that name comes first */
    for (unsigned depth = 0;; depth++) {
        cmb_tag *tag;
        int rc = cmb_tag_read(store, name, depth, &tag);
        if (rc)
            return rc == CMB_ENOTFOUND || rc == CMB_EINVAL ? 0 : rc; /* EINVAL: not a name but a step from one */
        fn(ctx, tag);
        cmb_tag_free(tag);
    }
}

static void print_tag(void *ctx, const cmb_tag *tag)
{
    text_buf t;
    (void)ctx;
    fputs("tag     ", stdout);
    text_print_field(stdout, tag->name, strlen(tag->name));
    printf("\nobject  %s\ntagger  ", text_name(&t, &tag->id, 0));
    text_print_field(stdout, tag->tagger, strlen(tag->tagger));
    printf("\ntime    %s\n", text_time(&t, tag->time));
    print_headers(tag->headers, tag->header_count);
    print_message(tag->message);
    putchar('\n');
}

int refs_tag_print(cmb_store *store, const char *name)
{
    return each_tag(store, name, print_tag, NULL);
}

static void tag_json(void *ctx, const cmb_tag *tag)
{
    json *j = ctx;
    json_put_object(j, NULL);
    json_put_name(j, "object", &tag->id);
    json_put_string(j, "name", tag->name);
    json_put_name(j, "target", &tag->target);
    json_put_time(j, "time", tag->time);
    json_put_string(j, "tagger", tag->tagger);
    json_put_string(j, "message", tag->message);
    headers_json(j, tag->headers, tag->header_count);
    json_put_object_end(j);
}

int refs_tag_json(json *j, cmb_store *store, const char *name)
{
    json_put_array(j, "tags");
    int rc = each_tag(store, name, tag_json, j);
    json_put_array_end(j);
    return rc;
}

/* ---- listing ---- */

typedef struct listing {
    const cli *c;
    int width; /* of the longest name */
} listing;

static int measure(void *ctx, const cmb_ref *ref)
{
    listing *l = ctx;
    int n = (int)strlen(ref->name);
    l->width = n > l->width ? n : l->width;
    return 0;
}

static int show_ref(void *ctx, const cmb_ref *ref)
{
    const listing *l = ctx;
    const cmb_rev *at = &ref->at;
    text_buf id, n;
    if (cli_has(l->c, REFS_JSON)) {
        json j = {.out = stdout};
        json_put_object(&j, NULL);
        json_put_string(&j, "name", ref->name);
        refs_rev_json(&j, at);
        if (ref->tag)
            json_put_name(&j, "object", &ref->object);
        json_put_object_end(&j);
        json_end_line(&j);
        return 0;
    }
    const char *state = at->working         ? ", working state"
                        : !at->commit.size  ? ", no commit yet"
                        : ref->object.size  ? ", annotated"
                                            : "";
    printf("%-*s  %-*s  %s entries%s\n", l->width, ref->name, (int)SHORT_ID,
           text_name(&id, at->working ? &at->base : &at->commit, SHORT_ID), text_count(&n, at->entries), state);
    return 0;
}

static int list(const cli *c, cmb_store *store, const refs_ops *ops)
{
    listing l = {.c = c};
    int rc = cli_has(c, REFS_JSON) ? 0 : ops->list(store, measure, &l);
    if (rc == 0)
        rc = ops->list(store, show_ref, &l);
    return rc ? cli_fail(c, rc) : CLI_OK;
}

/* ---- changing ---- */

typedef struct verb {
    const char *name;
    int min, max; /* operands, image and verb included */
} verb;
enum { LIST, CREATE, SET, DELETE };
static const verb verbs[] = {
    [LIST] = {"list", 1, 2}, [CREATE] = {"create", 3, 4}, [SET] = {"set", 4, 4}, [DELETE] = {"delete", 3, 3}};

static int find_verb(const cli *c)
{
    const char *name = cli_operand(c, 1);
    if (!name)
        return LIST;
    for (int i = LIST; i <= DELETE; i++) {
        if (strcmp(verbs[i].name, name) == 0)
            return i;
    }
    return -1;
}

static bool option_given(const cli *c, int option)
{
    return option >= 0 && cli_has(c, option);
}

static bool is_annotation(const cli *c, const refs_ops *ops)
{
    return option_given(c, ops->message) || option_given(c, ops->author);
}

static int annotate(const cli *c, cmb_store *store, const refs_ops *ops, int what, const char *name, const char *rev)
{
    cmb_tag_info info = {.tagger = cli_author(c, ops->author),
                         .message = cli_value(c, ops->message, ""),
                         .flags = what == SET ? CMB_TAG_REPLACE : 0};
    return cmb_tag_annotate(store, name, rev, &info);
}

static int change(const cli *c, cmb_store *store, const refs_ops *ops, int what)
{
    const char *name = cli_operand(c, 2);
    const char *rev = cli_operand(c, 3);
    int rc = cmb_ref_name_check(name);
    if (rc == 0 && what == DELETE)
        rc = ops->delete (store, name);
    else if (rc == 0 && is_annotation(c, ops))
        rc = annotate(c, store, ops, what, name, rev ? rev : "main");
    else if (rc == 0 && what == SET)
        rc = ops->set(store, name, rev);
    else if (rc == 0)
        rc = ops->create(store, name, rev ? rev : option_given(c, ops->empty) ? NULL : "main");
    return rc ? cli_fail(c, rc) : CLI_OK;
}

int refs_run(const cli *c, const refs_ops *ops)
{
    int what = find_verb(c);
    cmb_store *store;
    if (what < 0)
        return cli_usage(c, "neither list, create, set nor delete: %s", cli_operand(c, 1));
    if (c->operand_count < verbs[what].min || c->operand_count > verbs[what].max)
        return cli_usage(c, "%s: too %s operands", verbs[what].name,
                         c->operand_count < verbs[what].min ? "few" : "many");
    if (is_annotation(c, ops) && what != CREATE && what != SET)
        return cli_usage(c, "--message and --author go with create and set");
    if (option_given(c, ops->empty) && (what != CREATE || cli_operand(c, 3)))
        return cli_usage(c, "--empty goes with create and without a REV");
    if (cli_has(c, REFS_JSON) && what != LIST)
        return cli_usage(c, "--json goes with list");
    int status = cli_open(c, what != LIST, &store);
    if (status)
        return status;
    status = what == LIST ? list(c, store, ops) : change(c, store, ops, what);
    return cli_end_output(cli_close(c, store, status));
}
