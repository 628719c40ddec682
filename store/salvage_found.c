/* SPDX-License-Identifier: ISC */
/*
 * salvage_found.c: entries of leaves that no tree names any more, where keys were lost. The newest leaf wins: addresses only grow. A leaf in an
 * intact frame is what was written; of one in a damaged frame nothing vouches for the bytes, so its entries go elsewhere.
 */
#include "store/salvage.h"

#include <stdio.h>

#include "io/sort.h"

#define NAME_TRIES 1000u

typedef struct finder {
    cmb_salvage *s;
    cmb_sv_writer writer;
    char branch[CMB_REF_NAME_MAX + 1];
    bool begun;
    uint64_t entries;
    cmb_pin pin;
    uint8_t key[CMB_KEY_MAX];
} finder;

/* ---- leaves of tables are none of content ---- */

static bool begins_like_a_ref(cmb_bytes key)
{
    static const char heads[] = CMB_HEADS, tags[] = CMB_TAGS;
    return (key.size >= sizeof heads && memcmp(key.data, heads, sizeof heads - 1) == 0) ||
           (key.size >= sizeof tags && memcmp(key.data, tags, sizeof tags - 1) == 0);
}

/* An entry of the commit index leads to a commit of that id. */
static bool is_index_entry(cmb_salvage *s, cmb_bytes key, cmb_bytes value)
{
    cmb_commit_record *r;
    cmb_commit_at at;
    if (key.size != cmb_name_size(s->in->tree.hash) || value.size != CMB_COMMIT_AT_PACKED || cmb_commit_at_unpack(s->in, key, value, &at)
        || cmb_commit_load(s->in, &at, &r))
        return false;
    cmb_commit_free(&r->commit);
    return true;
}

static bool is_ref_entry(cmb_salvage *s, cmb_bytes key, cmb_bytes value)
{
    cmb_state state;
    if (!begins_like_a_ref(key))
        return false;
    bool reflog = key.size > 9 && ((const uint8_t *)key.data)[key.size - 9] == 0;
    return reflog || cmb_state_unpack(s->in, "a ref", value.data, value.size, &state) == 0;
}

static bool is_of_a_table(finder *f, const cmb_node *leaf)
{
    cmb_bytes key = {f->key, cmb_node_key(leaf, 0, f->key)};
    if (leaf->ool_map)
        return false;
    return is_ref_entry(f->s, key, cmb_node_value(leaf, 0)) || is_index_entry(f->s, key, cmb_node_value(leaf, 0));
}

/* ---- a branch for them ---- */

/* A branch of this name, or with a number behind it where there is one already. */
static int begin(finder *f)
{
    char wished[CMB_REF_NAME_MAX + 1];
    int error = CMB_EEXIST;
    snprintf(wished, sizeof wished, "%s", f->branch);
    for (unsigned i = 1; i < NAME_TRIES && error == CMB_EEXIST; i++) {
        if (i > 1)
            snprintf(f->branch, sizeof f->branch, "%.200s-%u", wished, i);
        error = cmb_branch_create(f->s->out, f->branch, NULL);
    }
    if (!error)
        error = cmb_sv_writer_begin(f->s, f->branch, &f->writer);
    f->begun = !error;
    return error;
}

static int take_entry(finder *f, const cmb_node *leaf, uint32_t i)
{
    cmb_bytes key = {f->key, cmb_node_key(leaf, i, f->key)};
    if (!cmb_sv_ranges_have(&f->s->lost, key))
        return 0;
    int error = f->begun ? 0 : begin(f);
    if (error)
        return error;
    if (cmb_node_is_out_of_line(leaf, i)) {
        cmb_valref ref;
        cmb_node_valref(leaf, i, &ref);
        error = f->writer.sink.put_far(f->writer.sink.ctx, key, &ref);
    } else {
        error = f->writer.sink.put(f->writer.sink.ctx, key, cmb_node_value(leaf, i));
    }
    f->entries += !error;
    return error == 1 ? 0 : error;
}

static int take_leaf(finder *f, const cmb_sv_node *n)
{
    cmb_salvage *s = f->s;
    cmb_noderef ref;
    cmb_node leaf;
    int error = cmb_sv_node_describe(s, n, &ref);
    if (!error)
        error = cmb_nodes_get(s->in->nodes, &ref, &f->pin);
    if (error)
        return cmb_sv_is_damage(error) ? 0 : error;
    cmb_node_open(s->in->tree.hash, f->pin.record, &leaf);
    if (leaf.count == 0 || is_of_a_table(f, &leaf))
        return 0;
    for (uint32_t i = 0; i < leaf.count && !error; i++)
        error = take_entry(f, &leaf, i);
    return error;
}

/* ---- all leaves ---- */

static int compare_addresses(const void *a, const void *b)
{
    const cmb_sv_node *x = a, *y = b;
    return x->addr < y->addr ? -1 : x->addr > y->addr;
}

static int collect_orphans(cmb_salvage *s, cmb_sv_list *out)
{
    const cmb_sv_node *n = s->nodes.items;
    for (size_t i = 0; i < s->nodes.n; i++) {
        if (n[i].level || cmb_addrset_has(s->seen, n[i].addr))
            continue;
        cmb_sv_node *o = cmb_sv_list_add(&s->alloc, out, sizeof *o);
        if (!o)
            return CMB_ENOMEM;
        *o = n[i];
    }
    cmb_sort(out->items, out->n, sizeof *n, compare_addresses);
    return 0;
}

static int tell_found(finder *f, const char *text)
{
    char name[CMB_REF_FULL_SIZE], line[200];
    snprintf(name, sizeof name, "%s%s", CMB_HEADS, f->branch);
    snprintf(line, sizeof line, "%llu entries%s", (unsigned long long)f->entries, text);
    f->s->result.found += f->entries;
    f->s->result.branches++;
    return cmb_sv_tell_of(f->s, CMB_LOSS_FOUND, 0, 0, name, line);
}

/* From oldest to newest, so that the newest of each key stays. */
static int take_leaves(cmb_salvage *s, const cmb_sv_list *orphans, bool whole, const char *branch, const char *text)
{
    static const cmb_commit_info info = {.author = "salvage", .message = "entries of leaves that no tree names any more"};
    const cmb_sv_node *n = orphans->items;
    finder *f = cmb_zalloc(&s->alloc, sizeof *f);
    if (!f)
        return CMB_ENOMEM;
    f->s = s;
    snprintf(f->branch, sizeof f->branch, "%s", branch);
    int error = 0;
    for (size_t i = 0; i < orphans->n && !error; i++)
        error = n[i].whole == whole ? take_leaf(f, &n[i]) : 0;
    cmb_pin_destroy(s->in->nodes, &f->pin);
    if (f->begun)
        error = cmb_sv_writer_end(&f->writer, error, &info);
    if (!error && f->begun)
        error = tell_found(f, text);
    cmb_release(&s->alloc, f, sizeof *f);
    return error;
}

int cmb_sv_found(cmb_salvage *s)
{
    cmb_sv_list orphans = {NULL, 0, 0};
    int error = 0;
    if (s->refs_lost || s->content_lost)
        error = cmb_sv_range_add(&s->alloc, &s->lost, (cmb_bytes){NULL, 0}, (cmb_bytes){NULL, 0});
    if (error || !s->lost.n)
        return error;
    cmb_sv_ranges_join(&s->alloc, &s->lost);
    error = cmb_sv_scan(s);
    if (!error)
        error = collect_orphans(s, &orphans);
    if (!error)
        error = take_leaves(s, &orphans, /* whole= */ true, "lost+found/entries", "");
    if (!error)
        error = take_leaves(s, &orphans, /* whole= */ false, "lost+found/unverified", " that nothing vouches for");
    cmb_sv_list_free(&s->alloc, &orphans, sizeof(cmb_sv_node));
    return error;
}
