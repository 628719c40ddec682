/* SPDX-License-Identifier: ISC */
/* conflict.c: the conflicts that a merge stands with, and their resolutions. */
#include "store/merging.h"

#include <assert.h>

#define PAGE_BYTES ((size_t)64 << 10)

struct cmb_conflict_page {
    cmb_conflict_page *next;
    size_t used, size; /* bytes of `bytes` */
    uint8_t bytes[];
};

/* ---- the list ---- */

static int grow_items(const cmb_allocator *alloc, cmb_conflicts *c)
{
    size_t wanted = c->capacity ? 2 * c->capacity : 16;
    cmb_conflict_key *items = cmb_resize(alloc, c->items, c->capacity * sizeof *items, wanted * sizeof *items);
    if (!items)
        return CMB_ENOMEM;
    c->memory += (wanted - c->capacity) * sizeof *items;
    c->items = items;
    c->capacity = wanted;
    return 0;
}

static int add_page(const cmb_allocator *alloc, cmb_conflicts *c, size_t key_size)
{
    /* Few conflicts are the rule: the first page is small. */
    size_t size = c->pages ? PAGE_BYTES : 1024;
    if (size < key_size)
        size = key_size;
    cmb_conflict_page *page = cmb_alloc(alloc, sizeof *page + size);
    if (!page)
        return CMB_ENOMEM;
    *page = (cmb_conflict_page){.next = c->pages, .size = size};
    c->pages = page;
    c->memory += sizeof *page + size;
    return 0;
}

int cmb_conflicts_add(cmb_merging *m, cmb_bytes key)
{
    cmb_conflicts *c = &m->conflicts;
    const cmb_allocator *alloc = &m->store->alloc;
    int error = 0;
    if (c->memory > m->store->txn_memory)
        return cmb_fail(CMB_ETOOBIG, "more than %zu conflicts, for which there is no memory", c->count);
    if (c->count == c->capacity)
        error = grow_items(alloc, c);
    if (!error && (!c->pages || c->pages->size - c->pages->used < key.size))
        error = add_page(alloc, c, key.size);
    if (error)
        return error;
    uint8_t *at = c->pages->bytes + c->pages->used;
    memcpy(at, key.data, key.size);
    c->pages->used += key.size;
    c->items[c->count++] = (cmb_conflict_key){.bytes = at, .size = (uint32_t)key.size};
    assert(c->count == 1 || cmb_compare(c->items[c->count - 2].bytes, c->items[c->count - 2].size, at, key.size) < 0);
    return 0;
}

void cmb_conflicts_destroy(cmb_merging *m)
{
    cmb_conflicts *c = &m->conflicts;
    const cmb_allocator *alloc = &m->store->alloc;
    for (cmb_conflict_page *page = c->pages, *next; page; page = next) {
        next = page->next;
        cmb_release(alloc, page, sizeof *page + page->size);
    }
    cmb_release(alloc, c->items, c->capacity * sizeof *c->items);
    *c = (cmb_conflicts){.count = 0};
}

static cmb_conflict_key *find(cmb_conflicts *c, cmb_bytes key)
{
    size_t low = 0, high = c->count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        cmb_conflict_key *k = &c->items[mid];
        int order = cmb_compare(k->bytes, k->size, key.data, key.size);
        if (order == 0)
            return k;
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

/* ---- the public face ---- */

size_t cmb_merging_count(const cmb_merging *m)
{
    return m->conflicts.count;
}

size_t cmb_merging_unresolved(const cmb_merging *m)
{
    return m->conflicts.count - m->conflicts.resolved;
}

cmb_txn *cmb_merging_txn(cmb_merging *m)
{
    return m->txn;
}

int cmb_merging_lost(void)
{
    return cmb_fail(CMB_EINVAL, "the merge failed when it was to be finished");
}

static int look_up(cmb_merging *m, const cmb_conflict_key *k)
{
    m->clash.key = (cmb_bytes){k->bytes, k->size};
    m->clash.inner = false;
    return cmb_clash_look_up(&m->clash, &m->scratch, m->roots);
}

int cmb_merging_conflict(cmb_merging *m, size_t i, cmb_clash **out_clash, bool *out_resolved)
{
    if (i >= m->conflicts.count)
        return cmb_fail(CMB_ENOTFOUND, "there are %zu conflicts", m->conflicts.count);
    int error = look_up(m, &m->conflicts.items[i]);
    if (error)
        return error;
    *out_clash = &m->clash;
    if (out_resolved)
        *out_resolved = m->conflicts.items[i].resolved;
    return 0;
}

/* Deleting what is not there is no error here. */
static int delete_key(cmb_txn *txn, cmb_bytes key)
{
    return cmb_txn_edit(txn, &(cmb_edit){.kind = CMB_EDIT_DELETE, .key = key});
}

static int take_side(cmb_merging *m, const cmb_conflict_key *k, cmb_clash_side side)
{
    int error = look_up(m, k);
    if (error)
        return error;
    cmb_edit edit = cmb_clash_edit(&m->clash, side);
    return cmb_txn_edit(m->txn, &edit);
}

static int apply(cmb_merging *m, const cmb_conflict_key *k, cmb_answer answer, cmb_bytes value)
{
    cmb_bytes key = {k->bytes, k->size};
    switch (answer) {
    case CMB_ANSWER_MINE:
        return take_side(m, k, CMB_SIDE_MINE);
    case CMB_ANSWER_THEIRS:
        return take_side(m, k, CMB_SIDE_THEIRS);
    case CMB_ANSWER_VALUE:
        return cmb_txn_put(m->txn, key, value);
    case CMB_ANSWER_DELETE:
        return delete_key(m->txn, key);
    case CMB_ANSWER_KEEP:
        return 0;
    case CMB_ANSWER_CONFLICT:
    default:
        return cmb_fail(CMB_EINVAL, "%d resolves no conflict", (int)answer);
    }
}

int cmb_merging_resolve(cmb_merging *m, cmb_bytes key, cmb_answer answer, cmb_bytes value)
{
    cmb_conflict_key *k = find(&m->conflicts, key);
    if (!m->txn)
        return cmb_merging_lost();
    if (!k)
        return cmb_fail(CMB_ENOTFOUND, "the key is not in conflict");
    int error = apply(m, k, answer, value);
    if (error)
        return error;
    m->conflicts.resolved += !k->resolved;
    k->resolved = true;
    return 0;
}
