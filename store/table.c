/* SPDX-License-Identifier: ISC */
/*
 * table.c: the ref table, the commit index and the reflog. A table is a tree and the edits published since the
 * tree was written. The edits wait in a hash table: a lookup is one probe, and putting a prepared
 * edit in place cannot fail. They are sorted only when the table is listed or folded.
 */
#include "store/internal.h"

#include <assert.h>

#define BUCKETS_MIN 64u

int cmb_table_init(cmb_store *store, cmb_table *table)
{
    table->buckets = cmb_zalloc(&store->alloc, BUCKETS_MIN * sizeof *table->buckets);
    if (!table->buckets)
        return CMB_ENOMEM;
    table->bucket_count = BUCKETS_MIN;
    return 0;
}

static void release_one(const cmb_store *store, cmb_pending *p)
{
    cmb_release(&store->alloc, p, sizeof *p + p->key_size + p->value_size);
}

void cmb_pending_release(const cmb_store *store, cmb_pending *list)
{
    while (list) {
        cmb_pending *next = list->next;
        release_one(store, list);
        list = next;
    }
}

void cmb_table_destroy(cmb_store *store, cmb_table *table)
{
    for (size_t i = 0; i < table->bucket_count; i++)
        cmb_pending_release(store, table->buckets[i]);
    cmb_release(&store->alloc, table->buckets, table->bucket_count * sizeof *table->buckets);
}

cmb_pending *cmb_pending_create(const cmb_store *store, cmb_table_id table, cmb_bytes key, cmb_bytes value, bool removed)
{
    assert(key.size <= CMB_KEY_MAX && value.size <= CMB_TABLE_VALUE_MAX);
    cmb_pending *p = cmb_alloc(&store->alloc, sizeof *p + key.size + value.size);
    if (!p)
        return NULL;
    *p = (cmb_pending){.hash = cmb_hash64(key.data, key.size, 0),
                       .key_size = (uint32_t)key.size,
                       .value_size = (uint32_t)value.size,
                       .table = (uint8_t)table,
                       .removed = removed};
    memcpy(p->bytes, key.data, key.size);
    if (value.size)
        memcpy(p->bytes + key.size, value.data, value.size);
    return p;
}

static cmb_pending **bucket_of(cmb_table *table, uint64_t hash)
{
    return &table->buckets[hash & (table->bucket_count - 1)];
}

/* The link that points to the edit of this key, or the end of its bucket. */
static cmb_pending **find(cmb_table *table, uint64_t hash, const void *key, size_t key_size)
{
    cmb_pending **link = bucket_of(table, hash);
    while (*link && ((*link)->hash != hash || (*link)->key_size != key_size || memcmp((*link)->bytes, key, key_size)))
        link = &(*link)->next;
    return link;
}

void cmb_tables_apply(cmb_store *store, cmb_pending *list, uint64_t unit)
{
    while (list) {
        cmb_pending *p = list, *old;
        cmb_table *table = &store->tables[p->table];
        list = p->next;
        cmb_pending **link = find(table, p->hash, p->bytes, p->key_size);
        old = *link;
        p->unit = unit;
        p->next = old ? old->next : NULL;
        *link = p;
        if (old)
            release_one(store, old);
        else
            table->pending_count++;
    }
}

void cmb_table_apply_older(cmb_store *store, cmb_pending *p)
{
    cmb_table *table = &store->tables[p->table];
    cmb_pending **link = find(table, p->hash, p->bytes, p->key_size);
    if (*link) {
        release_one(store, p);
        return;
    }
    p->next = NULL;
    *link = p;
    table->pending_count++;
}

void cmb_table_reserve(cmb_store *store, cmb_table *table)
{
    if (table->pending_count < table->bucket_count)
        return;
    size_t old_count = table->bucket_count, size = old_count * sizeof *table->buckets;
    cmb_pending **old = table->buckets, **grown = cmb_zalloc(&store->alloc, 2 * size);
    if (!grown)
        return; /* longer chains are slower, not wrong */
    table->buckets = grown;
    table->bucket_count = 2 * old_count;
    for (size_t i = 0; i < old_count; i++)
        for (cmb_pending *p = old[i], *next; p; p = next) {
            cmb_pending **to = bucket_of(table, p->hash);
            next = p->next;
            p->next = *to;
            *to = p;
        }
    cmb_release(&store->alloc, old, size);
}

/* The tree's own answer. */
static int get_from_tree(cmb_store *store, const cmb_noderef *root, cmb_bytes key, uint8_t *out_value, size_t *out_size)
{
    cmb_pin pin = {0};
    cmb_found found;
    int error = cmb_tree_get(&store->table_tree, root, key.data, key.size, &pin, &found);
    if (!error && (found.out_of_line || found.value.size > CMB_TABLE_VALUE_MAX))
        error = cmb_fail(CMB_ECORRUPT, "a value of a ref table is too long");
    if (!error) {
        memcpy(out_value, found.value.data, found.value.size);
        *out_size = found.value.size;
    }
    cmb_pin_destroy(store->nodes, &pin);
    return error;
}

int cmb_table_get(cmb_store *store, cmb_table_id id, cmb_bytes key, uint8_t out_value[CMB_TABLE_VALUE_MAX], size_t *out_size)
{
    cmb_table *table = &store->tables[id];
    uint64_t hash = cmb_hash64(key.data, key.size, 0);
    cmb_mutex_lock(&store->lock);
    cmb_pending *p = *find(table, hash, key.data, key.size);
    int error = p && p->removed ? CMB_ENOTFOUND : 0;
    if (p && !error) {
        memcpy(out_value, p->bytes + p->key_size, p->value_size);
        *out_size = p->value_size;
    }
    cmb_noderef root = table->root;
    cmb_mutex_unlock(&store->lock);
    return p ? error : get_from_tree(store, &root, key, out_value, out_size);
}

int cmb_pending_add(cmb_buffer *buffer, const cmb_pending *p)
{
    cmb_edit edit = {.kind = p->removed ? CMB_EDIT_DELETE : CMB_EDIT_PUT,
                     .key = {p->bytes, p->key_size},
                     .value = {p->bytes + p->key_size, p->value_size}};
    return cmb_buffer_add(buffer, &edit);
}

static int collect_into(cmb_table *table, cmb_buffer *buffer)
{
    for (size_t i = 0; i < table->bucket_count; i++)
        for (const cmb_pending *p = table->buckets[i]; p; p = p->next) {
            int error = cmb_pending_add(buffer, p);
            if (error)
                return error;
        }
    return 0;
}

int cmb_table_collect(cmb_store *store, cmb_table_id id, cmb_buffer **out_edits, cmb_noderef *out_root)
{
    cmb_table *table = &store->tables[id];
    cmb_buffer *buffer;
    int error = cmb_buffer_create(&store->alloc, &buffer);
    if (error)
        return error;
    cmb_mutex_lock(&store->lock);
    error = collect_into(table, buffer);
    cmb_noderef root = table->root;
    cmb_mutex_unlock(&store->lock);
    if (!error)
        error = cmb_buffer_seal(buffer);
    if (error) {
        cmb_buffer_destroy(buffer);
        return error;
    }
    *out_edits = buffer;
    *out_root = root;
    return 0;
}

void cmb_table_folded(cmb_store *store, cmb_table_id id, const cmb_noderef *root, uint64_t unit)
{
    cmb_table *table = &store->tables[id];
    for (size_t i = 0; i < table->bucket_count; i++)
        for (cmb_pending **link = &table->buckets[i], *p; (p = *link);) {
            if (p->unit > unit) {
                link = &p->next;
                continue;
            }
            *link = p->next;
            release_one(store, p);
            table->pending_count--;
        }
    table->root = *root;
}

void cmb_table_root(cmb_store *store, cmb_table_id id, cmb_noderef *out_root)
{
    cmb_mutex_lock(&store->lock);
    *out_root = store->tables[id].root;
    cmb_mutex_unlock(&store->lock);
}

int cmb_table_view_open(cmb_store *store, cmb_table_id id, cmb_table_view *out_view)
{
    cmb_table_view v = {.view.tree = &store->table_tree};
    int error = cmb_table_collect(store, id, &v.view.buffer, &v.view.root);
    if (error)
        return error;
    error = cmb_view_cursor_open(&v.view, &v.cursor);
    if (error) {
        cmb_buffer_destroy(v.view.buffer);
        return error;
    }
    *out_view = v;
    return 0;
}

void cmb_table_view_close(cmb_store *store, cmb_table_view *v)
{
    cmb_view_cursor_close(v->cursor);
    cmb_buffer_destroy(v->view.buffer);
}
