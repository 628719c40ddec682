/* SPDX-License-Identifier: ISC */
/* listing.c: what an image holds, as text. The lines serve both the store and the reader that knows only docs/format.md. */
#include "golden.h"

#include <inttypes.h>
#include <stdlib.h>

#include "io/base.h"

void golden_list_ref(golden_text *text, const char *kind, const char *name, const golden_at *at)
{
    golden_add(text, "%s %s %s %s root %s entries %" PRIu64 "\n", kind, name, at->working ? "working" : "commit",
               at->commit, at->root, at->entries);
}

void golden_list_commit(golden_text *text, const golden_change *c)
{
    golden_add(text, "commit %s parent %s generation %" PRIu64 " time %" PRId64 " root %s entries %" PRIu64, c->id,
               c->parent, c->generation, c->time, c->root, c->entries);
    golden_add(text, " author ");
    golden_add_bytes(text, c->author, c->author_size);
    golden_add(text, " message ");
    golden_add_bytes(text, c->message, c->message_size);
    golden_add(text, "\n");
}

void golden_list_tree(golden_text *text, const char *root, uint64_t entries)
{
    golden_add(text, "tree %s entries %" PRIu64 "\n", root, entries);
}

void golden_list_key(golden_text *text, cmb_bytes key)
{
    golden_add(text, "  ");
    golden_add_bytes(text, key.data, key.size);
    golden_add(text, " = ");
}

void golden_list_value(golden_text *text, cmb_bytes value)
{
    golden_add_bytes(text, value.data, value.size);
    golden_add(text, "\n");
}

bool golden_listed(const golden_text *text, const char *kind, const char *name)
{
    golden_text line = {0};
    golden_add(&line, "%s %s ", kind, name);
    bool found = false;
    for (const char *p = text->data; p && *p && !found; p = strchr(p, '\n'), p += p != NULL)
        found = strncmp(p, line.data, line.size) == 0;
    golden_text_free(&line);
    return found;
}

/* ---- a store's ---- */

#define REVS_MAX 256u

/* Refs are collected first: their callbacks are no place for other calls. */
typedef struct revs {
    golden_text text; /* their lines */
    char *names[REVS_MAX];
    size_t count;
} revs;

static void hex_of(const cmb_name *name, char out[2 * CMB_NAME_MAX + 1])
{
    if (name->size)
        cmb_name_hex(name, out);
    else
        memcpy(out, "none", sizeof "none");
}

static void revs_add(revs *r, const char *prefix, const char *name)
{
    golden_text full = {0};
    if (r->count == REVS_MAX)
        abort();
    golden_add(&full, "%s%s", prefix, name);
    r->names[r->count++] = full.data;
}

static int on_ref(void *ctx, const cmb_ref *ref)
{
    revs *r = ctx;
    char commit[2 * CMB_NAME_MAX + 1], root[2 * CMB_NAME_MAX + 1];
    hex_of(ref->at.working ? &ref->at.base : &ref->at.commit, commit);
    hex_of(&ref->at.root, root);
    golden_list_ref(&r->text, ref->tag ? "tag" : "branch", ref->name,
                    &(golden_at){commit, root, ref->at.entries, ref->at.working});
    revs_add(r, ref->tag ? "tags/" : "heads/", ref->name);
    return 0;
}

static int on_commit(void *ctx, const cmb_commit *commit)
{
    revs *r = ctx;
    char id[2 * CMB_NAME_MAX + 1], root[2 * CMB_NAME_MAX + 1], parent[2 * CMB_NAME_MAX + 1] = "none";
    hex_of(&commit->id, id);
    hex_of(&commit->root, root);
    if (commit->parent_count)
        hex_of(&commit->parents[0], parent);
    if (golden_listed(&r->text, "commit", id))
        return 1;
    golden_list_commit(&r->text, &(golden_change){.id = id,
                                                  .root = root,
                                                  .parent = parent,
                                                  .generation = commit->generation,
                                                  .entries = commit->entries,
                                                  .time = commit->time,
                                                  .author = commit->author,
                                                  .author_size = strlen(commit->author),
                                                  .message = commit->message,
                                                  .message_size = strlen(commit->message)});
    revs_add(r, "", id);
    return 0;
}

static int list_entries(cmb_snapshot *snapshot, golden_text *text)
{
    cmb_cursor *cursor;
    cmb_bytes key, value;
    int error = cmb_cursor_open(snapshot, NULL, &cursor);
    if (error)
        return error;
    for (error = cmb_cursor_next(cursor); !error; error = cmb_cursor_next(cursor)) {
        error = cmb_cursor_key(cursor, &key);
        if (error)
            break;
        golden_list_key(text, key);
        error = cmb_cursor_value(cursor, &value);
        if (error)
            break;
        golden_list_value(text, value);
    }
    cmb_cursor_close(cursor);
    return error == CMB_ENOTFOUND ? 0 : error;
}

static int list_tree(cmb_store *store, const char *name, golden_text *text)
{
    cmb_snapshot *snapshot;
    cmb_rev rev;
    char root[2 * CMB_NAME_MAX + 1];
    GOLDEN_TRY(cmb_snapshot_open(store, name, &snapshot));
    cmb_snapshot_rev(snapshot, &rev);
    hex_of(&rev.root, root);
    int error = 0;
    if (!golden_listed(text, "tree", root)) {
        golden_list_tree(text, root, rev.entries);
        error = list_entries(snapshot, text);
    }
    cmb_snapshot_close(snapshot);
    return error;
}

static int list_all(cmb_store *store, revs *r)
{
    GOLDEN_TRY(cmb_branch_list(store, on_ref, r));
    GOLDEN_TRY(cmb_tag_list(store, on_ref, r));
    for (size_t i = 0, refs = r->count; i < refs; i++) {
        int error = cmb_log_first_parents(store, r->names[i], on_commit, r);
        if (error && error != CMB_ESTOPPED && error != CMB_ENOTFOUND)
            return error;
    }
    for (size_t i = 0; i < r->count; i++)
        GOLDEN_TRY(list_tree(store, r->names[i], &r->text));
    return 0;
}

int golden_listing(cmb_store *store, golden_text *out_text)
{
    revs r = {0};
    int error = list_all(store, &r);
    for (size_t i = 0; i < r.count; i++)
        free(r.names[i]);
    if (error)
        golden_text_free(&r.text);
    else
        *out_text = r.text;
    return error;
}
