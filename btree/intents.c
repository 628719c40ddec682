/* SPDX-License-Identifier: ISC */
/* A list of intents: what is added, found and counted. */
#include "btree/intents_private.h"

#include <assert.h>

/* ---- life ---- */

int cmb_intents_create(const cmb_allocator *alloc, cmb_intents **out_list)
{
    cmb_intents *list = cmb_zalloc(alloc, sizeof *list);
    if (!list)
        return CMB_ENOMEM;
    list->alloc = *alloc;
    list->arena.alloc = list->index.alloc = list->table.alloc = &list->alloc;
    atomic_init(&list->holders, 1);
    *out_list = list;
    return 0;
}

cmb_intents *cmb_intents_hold(cmb_intents *list)
{
    if (list)
        atomic_fetch_add_explicit(&list->holders, 1, memory_order_relaxed);
    return list;
}

void cmb_intents_release(cmb_intents *list)
{
    if (!list || atomic_fetch_sub_explicit(&list->holders, 1, memory_order_acq_rel) != 1)
        return;
    cmb_allocator alloc = list->alloc;
    cmb_intents_table_release(&list->table);
    cmb_intents_index_release(&list->index);
    cmb_slab_release(&list->arena);
    cmb_release(&alloc, list, sizeof *list);
}

/* ---- adding ---- */

static size_t intent_bytes(size_t key_size)
{
    return (size_t)cmb_align_up(offsetof(cmb_intent, key) + (uint64_t)key_size, 8);
}

static size_t version_bytes(size_t value_size)
{
    return (size_t)cmb_align_up(offsetof(cmb_intent_version, value) + (uint64_t)value_size, 8);
}

int cmb_intents_reserve(cmb_intents *list, size_t n, size_t bytes)
{
    const size_t each = offsetof(cmb_intent, key) + 7 + offsetof(cmb_intent_version, value) + 7 + sizeof(cmb_intent_link);
    if (n > (SIZE_MAX - bytes) / each)
        return cmb_fail(CMB_ENOMEM, "%zu intents of %zu bytes do not fit the address space", n, bytes);
    int r = cmb_slab_reserve(&list->arena, n * each + bytes);
    atomic_store_explicit(&list->arena_memory, list->arena.memory, memory_order_relaxed);
    if (!r)
        r = cmb_intents_index_reserve(&list->index, n);
    if (!r)
        r = cmb_intents_table_reserve(&list->table, atomic_load_explicit(&list->intents, memory_order_relaxed) + n, &list->index);
    return r;
}

/* Puts a link on top of a chain; publishes it and what it belongs to. */
static void push(cmb_intent_chain *chain, cmb_intent_link *link, uint64_t seq)
{
    const cmb_intent_link *older = atomic_load_explicit(chain, memory_order_relaxed), *jump = older ? older->jump : NULL;
    assert(!older || older->seq < seq);
    *link = (cmb_intent_link){.seq = seq, .older = older, .jump = older, .depth = older ? older->depth + 1 : 0};
    if (jump && jump->jump && older->depth - jump->depth == jump->depth - jump->jump->depth)
        link->jump = jump->jump;
    atomic_store_explicit(chain, link, memory_order_release);
}

static const cmb_intent *find_intent(const cmb_intents *list, uint64_t hash, const uint8_t *key, size_t key_size)
{
    bool sure, equal;
    const cmb_intent *intent = cmb_intents_table_find(&list->table, hash, key, key_size, &sure);
    if (CMB_LIKELY(intent || sure))
        return intent;
    cmb_intents_pos pos = cmb_intents_index_seek(&list->index, key, key_size, &equal);
    return equal ? cmb_intents_at(pos) : NULL;
}

static cmb_intent *make_intent(cmb_intents *list, cmb_bytes key)
{
    cmb_intent *intent = cmb_slab_take(&list->arena, intent_bytes(key.size));
    atomic_init(&intent->versions, NULL);
    intent->key_size = (uint16_t)key.size;
    memcpy(intent->key, key.data, key.size);
    return intent;
}

/* In any order of keys, of each key in rising order. */
static void add(cmb_intents *list, uint64_t seq, const cmb_edit *edit)
{
    const size_t value_size = edit->kind == CMB_EDIT_PUT ? edit->value.size : 0;
    const uint64_t hash = cmb_intents_hash(edit->key.data, edit->key.size);
    cmb_intent *intent = (cmb_intent *)find_intent(list, hash, edit->key.data, edit->key.size);
    const bool fresh = !intent;
    assert(edit->kind != CMB_EDIT_PUT_FAR && edit->key.size >= CMB_KEY_MIN && edit->key.size <= CMB_KEY_MAX);
    if (fresh)
        intent = make_intent(list, edit->key);
    cmb_intent_version *version = cmb_slab_take(&list->arena, version_bytes(value_size));
    version->value_size = (uint32_t)value_size;
    version->kind = (uint8_t)edit->kind;
    if (value_size)
        memcpy(version->value, edit->value.data, value_size);
    push(&intent->versions, &version->link, seq);
    if (fresh) {
        cmb_intents_index_add(&list->index, intent);
        cmb_intents_table_add(&list->table, intent, hash);
        atomic_fetch_add_explicit(&list->intents, 1, memory_order_relaxed);
    }
    atomic_fetch_add_explicit(&list->count, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&list->bytes, edit->key.size + value_size, memory_order_relaxed);
}

static void mark(cmb_intents *list, uint64_t seq)
{
    const cmb_intent_link *newest = atomic_load_explicit(&list->marks, memory_order_relaxed);
    assert(seq > 0 && (!newest || newest->seq <= seq));
    if (newest && newest->seq == seq)
        return;
    push(&list->marks, cmb_slab_take(&list->arena, sizeof(cmb_intent_link)), seq);
    if (!newest)
        atomic_store_explicit(&list->oldest, seq, memory_order_release);
}

void cmb_intents_add(cmb_intents *list, uint64_t seq, const cmb_edit *edit)
{
    mark(list, seq);
    add(list, seq, edit);
}

/* ---- looking ---- */

uint64_t cmb_intents_prefetch(const cmb_intents *list, const uint8_t *key, size_t key_size)
{
    uint64_t hash = cmb_intents_hash(key, key_size);
    cmb_intents_table_prefetch(&list->table, hash);
    return hash;
}

bool cmb_intents_find_hashed(const cmb_intents *list, uint64_t upto, uint64_t hash, const uint8_t *key, size_t key_size,
                             cmb_edit *out_edit)
{
    const cmb_intent *intent = find_intent(list, hash, key, key_size);
    const cmb_intent_version *version = intent ? cmb_intent_seen(intent, 0, upto) : NULL;
    if (!version)
        return false;
    cmb_intent_edit(intent, version, out_edit);
    return true;
}

bool cmb_intents_find(const cmb_intents *list, uint64_t upto, const uint8_t *key, size_t key_size, cmb_edit *out_edit)
{
    return cmb_intents_find_hashed(list, upto, cmb_intents_hash(key, key_size), key, key_size, out_edit);
}

bool cmb_intents_any(const cmb_intents *list, uint64_t after, uint64_t upto)
{
    uint64_t oldest = atomic_load_explicit(&list->oldest, memory_order_acquire);
    if (!oldest || oldest > upto)
        return false;
    if (oldest > after)
        return true;
    const cmb_intent_link *link = cmb_intent_chain_find(atomic_load_explicit(&list->marks, memory_order_acquire), upto);
    return link && link->seq > after;
}

size_t cmb_intents_count(const cmb_intents *list)
{
    return atomic_load_explicit(&list->count, memory_order_relaxed);
}

size_t cmb_intents_bytes(const cmb_intents *list)
{
    return atomic_load_explicit(&list->bytes, memory_order_relaxed);
}

size_t cmb_intents_memory(const cmb_intents *list)
{
    return sizeof *list + atomic_load_explicit(&list->arena_memory, memory_order_relaxed) +
           atomic_load_explicit(&list->index.memory, memory_order_relaxed) +
           atomic_load_explicit(&list->table.memory, memory_order_relaxed);
}

uint64_t cmb_intents_newest(const cmb_intents *list)
{
    const cmb_intent_link *newest = atomic_load_explicit(&list->marks, memory_order_acquire);
    return newest ? newest->seq : 0;
}

int cmb_source_intents(const cmb_intents *list, uint64_t after, uint64_t upto, cmb_source **out_source)
{
    return cmb_intents_index_source(&list->alloc, &list->index, after, upto, out_source);
}

/* ---- the rest ---- */

/* The link with that many below it: one there is, of the newest's depth or less. */
static const cmb_intent_link *at_depth(const cmb_intent_link *link, uint64_t depth)
{
    while (link->depth > depth)
        link = link->jump->depth >= depth ? link->jump : link->older;
    return link;
}

/* How many links of a chain have seq > after. */
static uint64_t younger(const cmb_intent_link *newest, uint64_t after)
{
    const cmb_intent_link *last = cmb_intent_chain_find(newest, after);
    return newest ? newest->depth + 1 - (last ? last->depth + 1 : 0) : 0;
}

static const cmb_intent_link *newest_of(const cmb_intent *intent)
{
    return atomic_load_explicit(&intent->versions, memory_order_acquire);
}

/* What the rest takes. */
static void measure_rest(const cmb_intents *list, uint64_t after, size_t *out_count, size_t *out_bytes)
{
    size_t count = 0, bytes = 0;
    for (cmb_intents_pos pos = cmb_intents_index_first(&list->index); pos.leaf; pos = cmb_intents_index_next(pos)) {
        const cmb_intent *intent = cmb_intents_at(pos);
        for (const cmb_intent_link *link = newest_of(intent); link && link->seq > after; link = link->older) {
            count++;
            bytes += intent->key_size + ((const cmb_intent_version *)link)->value_size;
        }
    }
    *out_count = count;
    *out_bytes = bytes;
}

static void copy_rest(const cmb_intents *list, uint64_t after, cmb_intents *rest)
{
    const cmb_intent_link *newest = atomic_load_explicit(&list->marks, memory_order_acquire);
    for (uint64_t n = younger(newest, after); n > 0; n--)
        mark(rest, at_depth(newest, newest->depth + 1 - n)->seq);
    for (cmb_intents_pos pos = cmb_intents_index_first(&list->index); pos.leaf; pos = cmb_intents_index_next(pos)) {
        const cmb_intent *intent = cmb_intents_at(pos);
        newest = newest_of(intent);
        for (uint64_t n = younger(newest, after); n > 0; n--) {
            const cmb_intent_link *link = at_depth(newest, newest->depth + 1 - n);
            cmb_edit edit;
            cmb_intent_edit(intent, (const cmb_intent_version *)link, &edit);
            add(rest, link->seq, &edit);
        }
    }
}

int cmb_intents_rest(const cmb_intents *list, uint64_t after, cmb_intents **out_list)
{
    cmb_intents *rest;
    size_t count, bytes;
    int r = cmb_intents_create(&list->alloc, &rest);
    if (r)
        return r;
    measure_rest(list, after, &count, &bytes);
    r = cmb_intents_reserve(rest, count, bytes);
    if (r) {
        cmb_intents_release(rest);
        return r;
    }
    copy_rest(list, after, rest);
    *out_list = rest;
    return 0;
}
