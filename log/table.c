/* SPDX-License-Identifier: ISC */
/*
 * table.c: the segment table and the state map, two radix trees of checksummed 4 KiB pages at
 * physical addresses. Pages are read when they are first needed and stay until close; changed ones
 * are written to new places by the next checkpoint, level by level from the leaves up.
 */
#include "log/internal.h"

#include <assert.h>

void cmb_radix_init(cmb_radix *tree, cmb_log *log, cmb_page_kind kind, const cmb_radix_root *root)
{
    memset(tree, 0, sizeof *tree);
    tree->log = log;
    tree->kind = kind;
    tree->on_disk = *root;
}

void cmb_radix_free(cmb_radix *tree)
{
    cmb_page *page = tree->loaded;
    while (page) {
        cmb_page *next = page->next_loaded;
        cmb_release(&tree->log->alloc, page, sizeof *page);
        page = next;
    }
    tree->loaded = NULL;
}

static cmb_page *page_new(cmb_radix *tree, uint8_t level, uint64_t index, cmb_page *parent)
{
    cmb_page *page = cmb_zalloc(&tree->log->alloc, sizeof *page);
    if (!page)
        return NULL;
    page->level = level;
    page->index = index;
    page->parent = parent;
    page->next_loaded = tree->loaded;
    tree->loaded = page;
    return page;
}

/* ---- decoding ---- */

static int decode_inner(cmb_log *log, cmb_page *page, const uint8_t *body)
{
    uint64_t first = cmb_first_physical(log->shift) << log->shift;
    for (unsigned i = 0; i < CMB_PAGE_FAN; i++) {
        cmb_page_ref ref = {cmb_get64(body + 16 * i), cmb_get64(body + 16 * i + 8)};
        if (ref.addr && (ref.addr % CMB_BLOCK || ref.addr < first || ref.addr >= log->super.count << log->shift))
            return cmb_fail(CMB_ECORRUPT, "entry %u points to %llu", i, (unsigned long long)ref.addr);
        page->u.inner.refs[i] = ref;
    }
    return 0;
}

static int decode_table_leaf(cmb_log *log, cmb_page *page, const uint8_t *body)
{
    for (unsigned i = 0; i < CMB_PAGE_FAN; i++) {
        const uint8_t *p = body + 16 * i;
        uint64_t physical = cmb_get32(p), used = cmb_get64(p + 8);
        cmb_segment_kind kind = (cmb_segment_kind)p[4];
        if (kind == CMB_SEG_NONE)
            continue;
        if ((kind > CMB_SEG_STREAM && kind != CMB_SEG_JOURNAL) || physical < cmb_first_physical(log->shift) || physical >= log->super.count
            || used > log->size || (kind == CMB_SEG_COMPACTED && used % CMB_BLOCK))
            return cmb_fail(CMB_ECORRUPT, "entry %u: physical segment %llu, kind %u, %llu bytes used", i,
                            (unsigned long long)physical, (unsigned)kind, (unsigned long long)used);
        atomic_init(&page->u.segments[i].word, kind == CMB_SEG_COMPACTED ? cmb_word_compacted(physical, used)
                                                                         : cmb_word(physical, kind, CMB_WORD_CLOSED));
        atomic_init(&page->u.segments[i].written, used);
        page->u.segments[i].end = used;
    }
    return 0;
}

static int page_check(cmb_radix *tree, const uint8_t *block, const cmb_page_ref *ref, unsigned level, uint64_t index)
{
    uint64_t check = cmb_hash64(block + 8, CMB_BLOCK - 8, ref->addr);
    if (cmb_get64(block) != check || check != ref->check)
        return cmb_fail(CMB_ECORRUPT, "check %016llx instead of %016llx", (unsigned long long)check,
                        (unsigned long long)ref->check);
    if (cmb_get32(block + CMB_PAGE_AT_MAGIC) != CMB_PAGE_MAGIC || block[CMB_PAGE_AT_KIND] != tree->kind
        || block[CMB_PAGE_AT_LEVEL] != level || cmb_get64(block + CMB_PAGE_AT_ADDR) != ref->addr
        || cmb_get64(block + CMB_PAGE_AT_INDEX) != index)
        return cmb_fail(CMB_ECORRUPT, "another page lies there");
    return 0;
}

static const char *tree_name(const cmb_radix *tree)
{
    return tree->kind == CMB_PAGE_TABLE ? "segment table" : "state map";
}

/* Reads one page into memory. Under table_lock. */
static int page_load(cmb_radix *tree, const cmb_page_ref *ref, unsigned level, uint64_t index, cmb_page *parent,
                     cmb_page **out_page)
{
    cmb_log *log = tree->log;
    uint8_t *block = log->page_buffer;
    int e = cmb_io_read(log->mq, ref->addr, block, CMB_BLOCK, 0);
    if (!e)
        e = page_check(tree, block, ref, level, index);
    if (e)
        return cmb_fail_in(e, "%s: %s page at %llu", log->dev->name, tree_name(tree), (unsigned long long)ref->addr);
    cmb_page *page = page_new(tree, (uint8_t)level, index, parent);
    if (!page)
        return CMB_ENOMEM;
    page->ref = *ref;
    const uint8_t *body = block + CMB_PAGE_HEADER;
    if (level)
        e = decode_inner(log, page, body);
    else if (tree->kind == CMB_PAGE_TABLE)
        e = decode_table_leaf(log, page, body);
    else
        memcpy(page->u.states, body, CMB_PAGE_BODY);
    if (e) {
        tree->loaded = page->next_loaded;
        cmb_release(&log->alloc, page, sizeof *page);
        return cmb_fail_in(e, "%s: %s page at %llu", log->dev->name, tree_name(tree), (unsigned long long)ref->addr);
    }
    *out_page = page;
    return 0;
}

/* ---- descending ---- */

/* Leaves that one page of `level` covers; saturates. */
static uint64_t level_leaves(unsigned level)
{
    uint64_t n = 1;
    while (level--)
        n = n > UINT64_MAX / CMB_PAGE_FAN ? UINT64_MAX : n * CMB_PAGE_FAN;
    return n;
}

cmb_page *cmb_radix_peek(cmb_radix *tree, uint64_t index)
{
    cmb_page *page = atomic_load_explicit(&tree->root, memory_order_acquire);
    if (!page)
        return NULL;
    uint64_t leaf = index / cmb_radix_fan(tree);
    uint64_t covers = level_leaves(page->level);
    if (leaf >= covers)
        return NULL;
    while (page && page->level) {
        covers /= CMB_PAGE_FAN;
        page = atomic_load_explicit(&page->u.inner.kids[leaf / covers % CMB_PAGE_FAN], memory_order_acquire);
    }
    return page;
}

static int root_load(cmb_radix *tree)
{
    if (atomic_load_explicit(&tree->root, memory_order_relaxed) || !tree->on_disk.ref.addr)
        return 0;
    cmb_page *page;
    int e = page_load(tree, &tree->on_disk.ref, tree->on_disk.levels - 1, 0, NULL, &page);
    if (e)
        return e;
    atomic_store_explicit(&tree->root, page, memory_order_release);
    return 0;
}

/* Makes the root high enough for `leaf`. Under table_lock. */
static int root_grow(cmb_radix *tree, uint64_t leaf)
{
    cmb_page *root = atomic_load_explicit(&tree->root, memory_order_relaxed);
    if (!root) {
        root = page_new(tree, 0, 0, NULL);
        if (!root)
            return CMB_ENOMEM;
        atomic_store_explicit(&tree->root, root, memory_order_release);
    }
    while (leaf >= level_leaves(root->level)) {
        if (root->level + 1u >= CMB_PAGE_LEVELS_MAX)
            return cmb_fail(CMB_ECORRUPT, "%s: entry beyond any size", tree_name(tree));
        cmb_page *above = page_new(tree, (uint8_t)(root->level + 1), 0, NULL);
        if (!above)
            return CMB_ENOMEM;
        above->u.inner.refs[0] = root->ref;
        atomic_init(&above->u.inner.kids[0], root);
        root->parent = above;
        if (root->dirty) { /* a dirty page's ancestors are dirty */
            above->dirty = true;
            above->next_dirty = tree->dirty[above->level];
            tree->dirty[above->level] = above;
            tree->n_dirty++;
        }
        atomic_store_explicit(&tree->root, above, memory_order_release);
        root = above;
    }
    return 0;
}

/* Goes down to a leaf; a missing one is made or reported as NULL. Under table_lock. */
static int descend(cmb_radix *tree, uint64_t leaf, bool make, cmb_page **out_leaf)
{
    cmb_page *page = atomic_load_explicit(&tree->root, memory_order_relaxed);
    if (!page || leaf >= level_leaves(page->level)) {
        *out_leaf = NULL;
        return 0;
    }
    uint64_t covers = level_leaves(page->level);
    while (page->level) {
        covers /= CMB_PAGE_FAN;
        unsigned slot = (unsigned)(leaf / covers % CMB_PAGE_FAN);
        cmb_page *kid = atomic_load_explicit(&page->u.inner.kids[slot], memory_order_relaxed);
        if (!kid && page->u.inner.refs[slot].addr) {
            int e = page_load(tree, &page->u.inner.refs[slot], page->level - 1u, leaf / covers, page, &kid);
            if (e)
                return e;
        } else if (!kid && make) {
            kid = page_new(tree, (uint8_t)(page->level - 1), leaf / covers, page);
            if (!kid)
                return CMB_ENOMEM;
        } else if (!kid) {
            *out_leaf = NULL;
            return 0;
        }
        atomic_store_explicit(&page->u.inner.kids[slot], kid, memory_order_release);
        page = kid;
    }
    *out_leaf = page;
    return 0;
}

static int find_or_make(cmb_radix *tree, uint64_t index, bool make, cmb_page **out_leaf)
{
    cmb_page *page = cmb_radix_peek(tree, index);
    if (page) {
        *out_leaf = page;
        return 0;
    }
    uint64_t leaf = index / cmb_radix_fan(tree);
    cmb_mutex_lock(&tree->log->table_lock);
    int e = root_load(tree);
    if (!e && make)
        e = root_grow(tree, leaf);
    if (!e)
        e = descend(tree, leaf, make, &page);
    cmb_mutex_unlock(&tree->log->table_lock);
    if (!e)
        *out_leaf = page;
    return e;
}

int cmb_radix_find(cmb_radix *tree, uint64_t index, cmb_page **out_leaf)
{
    return find_or_make(tree, index, /* make= */ false, out_leaf);
}

int cmb_radix_make(cmb_radix *tree, uint64_t index, cmb_page **out_leaf)
{
    return find_or_make(tree, index, /* make= */ true, out_leaf);
}

/* The first leaf number >= `leaf` that a loaded page or a reference leads to; UINT64_MAX: none. */
static int next_leaf(cmb_radix *tree, uint64_t leaf, cmb_page **out_leaf)
{
    cmb_page *root = atomic_load_explicit(&tree->root, memory_order_relaxed);
    *out_leaf = NULL;
    while (root && leaf < level_leaves(root->level)) {
        cmb_page *page = root;
        uint64_t covers = level_leaves(page->level);
        while (page->level) {
            covers /= CMB_PAGE_FAN;
            unsigned slot = (unsigned)(leaf / covers % CMB_PAGE_FAN);
            cmb_page *kid = atomic_load_explicit(&page->u.inner.kids[slot], memory_order_relaxed);
            if (!kid && !page->u.inner.refs[slot].addr)
                break;
            if (!kid) {
                int e = page_load(tree, &page->u.inner.refs[slot], page->level - 1u, leaf / covers, page, &kid);
                if (e)
                    return e;
                atomic_store_explicit(&page->u.inner.kids[slot], kid, memory_order_release);
            }
            page = kid;
        }
        if (page->level == 0) {
            *out_leaf = page;
            return 0;
        }
        leaf = (leaf / covers + 1) * covers; /* nothing below this slot: on to the next */
    }
    return 0;
}

int cmb_radix_next(cmb_radix *tree, uint64_t index, cmb_page **out_leaf)
{
    cmb_page *page = NULL;
    cmb_mutex_lock(&tree->log->table_lock);
    int e = root_load(tree);
    if (!e)
        e = next_leaf(tree, index / cmb_radix_fan(tree), &page);
    cmb_mutex_unlock(&tree->log->table_lock);
    if (!e)
        *out_leaf = page;
    return e;
}

/* ---- writing ---- */

void cmb_radix_dirty(cmb_radix *tree, cmb_page *leaf)
{
    for (cmb_page *page = leaf; page && !page->dirty; page = page->parent) {
        page->dirty = true;
        page->next_dirty = tree->dirty[page->level];
        tree->dirty[page->level] = page;
        tree->n_dirty++;
    }
}

/* false: nothing in it, so that it needs no page. */
static bool encode_body(const cmb_radix *tree, const cmb_page *page, uint8_t *body)
{
    bool any = false;
    for (unsigned i = 0; i < CMB_PAGE_FAN; i++) {
        uint8_t *p = body + 16 * i;
        if (page->level) {
            cmb_put64(p, page->u.inner.refs[i].addr);
            cmb_put64(p + 8, page->u.inner.refs[i].check);
            any |= page->u.inner.refs[i].addr != 0;
        } else if (tree->kind == CMB_PAGE_TABLE) {
            uint64_t word = atomic_load_explicit(&page->u.segments[i].word, memory_order_relaxed);
            if (word == 0 || word & CMB_WORD_OPEN)
                continue;
            cmb_put32(p, (uint32_t)CMB_WORD_PHYSICAL(word));
            p[4] = (uint8_t)CMB_WORD_KIND(word);
            cmb_put64(p + 8, page->u.segments[i].end);
            any = true;
        }
    }
    if (page->level == 0 && tree->kind == CMB_PAGE_MAP) {
        memcpy(body, page->u.states, CMB_PAGE_BODY);
        for (unsigned i = 0; i < CMB_PAGE_BODY; i++)
            any |= body[i] != 0;
    }
    return any;
}

static void encode_page(cmb_radix *tree, cmb_page *page, uint64_t generation, uint64_t addr, uint8_t *block)
{
    memset(block, 0, CMB_BLOCK);
    if (page->ref.addr)
        tree->on_disk.pages--;
    page->ref = (cmb_page_ref){0, 0};
    if (encode_body(tree, page, block + CMB_PAGE_HEADER)) {
        cmb_put32(block + CMB_PAGE_AT_MAGIC, CMB_PAGE_MAGIC);
        block[CMB_PAGE_AT_KIND] = (uint8_t)tree->kind;
        block[CMB_PAGE_AT_LEVEL] = page->level;
        cmb_put64(block + CMB_PAGE_AT_ADDR, addr);
        cmb_put64(block + CMB_PAGE_AT_GENERATION, generation);
        cmb_put64(block + CMB_PAGE_AT_INDEX, page->index);
        page->ref = (cmb_page_ref){addr, cmb_hash64(block + 8, CMB_BLOCK - 8, addr)};
        cmb_put64(block, page->ref.check);
        tree->on_disk.pages++;
    }
    if (page->parent)
        page->parent->u.inner.refs[page->index % CMB_PAGE_FAN] = page->ref;
}

size_t cmb_radix_encode(cmb_radix *tree, uint64_t generation, const uint64_t *addresses, uint8_t *pages)
{
    size_t n = 0;
    cmb_mutex_lock(&tree->log->table_lock);
    for (unsigned level = 0; level < CMB_PAGE_LEVELS_MAX; level++) {
        for (cmb_page *page = tree->dirty[level]; page; page = page->next_dirty) {
            encode_page(tree, page, generation, addresses[n], pages + n * CMB_BLOCK);
            page->dirty = false;
            n++;
        }
        tree->dirty[level] = NULL;
    }
    assert(n == tree->n_dirty);
    tree->n_dirty = 0;
    cmb_page *root = atomic_load_explicit(&tree->root, memory_order_relaxed);
    if (root) {
        tree->on_disk.ref = root->ref;
        tree->on_disk.levels = root->ref.addr ? root->level + 1u : 0;
    }
    cmb_mutex_unlock(&tree->log->table_lock);
    return n;
}

/* ---- the segment table's entries ---- */

int cmb_table_find(cmb_log *log, uint64_t segment, cmb_segment **out_segment)
{
    cmb_page *leaf;
    int e = cmb_radix_find(&log->table, segment, &leaf);
    if (!e)
        *out_segment = leaf ? &leaf->u.segments[segment % CMB_PAGE_FAN] : NULL;
    return e;
}

/* The first mapped segment of a leaf from `from` on; `from` itself lies in it or below it. */
static uint64_t next_in_leaf(const cmb_page *leaf, uint64_t from)
{
    uint64_t first = leaf->index * CMB_PAGE_FAN;
    for (uint64_t i = from > first ? from - first : 0; i < CMB_PAGE_FAN; i++)
        if (atomic_load_explicit(&leaf->u.segments[i].word, memory_order_acquire))
            return first + i;
    return UINT64_MAX;
}

int cmb_log_next_segment(cmb_log *log, uint64_t from, uint64_t *out_segment)
{
    cmb_mutex_lock(&log->lock);
    uint64_t end = log->next_logical, found = UINT64_MAX;
    cmb_mutex_unlock(&log->lock);
    while (from < end && found == UINT64_MAX) {
        cmb_page *leaf;
        int e = cmb_radix_next(&log->table, from, &leaf);
        if (e == CMB_ENOMEM)
            return e;
        if (!e && !leaf)
            break;
        if (!e)
            found = next_in_leaf(leaf, from);
        from = ((e ? from / CMB_PAGE_FAN : leaf->index) + 1) * CMB_PAGE_FAN;
    }
    *out_segment = found;
    return 0;
}

cmb_segment *cmb_table_at(cmb_log *log, uint64_t segment)
{
    cmb_page *leaf = cmb_radix_peek(&log->table, segment);
    return leaf ? &leaf->u.segments[segment % CMB_PAGE_FAN] : NULL;
}

int cmb_table_make(cmb_log *log, uint64_t segment, cmb_segment **out_segment)
{
    cmb_page *leaf;
    int e = cmb_radix_make(&log->table, segment, &leaf);
    if (!e)
        *out_segment = &leaf->u.segments[segment % CMB_PAGE_FAN];
    return e;
}

void cmb_table_set(cmb_log *log, uint64_t segment, uint64_t word, uint64_t end, uint64_t written)
{
    cmb_page *leaf = cmb_radix_peek(&log->table, segment);
    assert(leaf);
    cmb_segment *s = &leaf->u.segments[segment % CMB_PAGE_FAN];
    uint64_t old = atomic_load_explicit(&s->word, memory_order_relaxed);
    s->end = end;
    atomic_store_explicit(&s->written, written, memory_order_relaxed);
    atomic_store_explicit(&s->word, word, memory_order_release);
    /* What no checkpoint may save makes no page dirty: opening streams needs no room for pages. */
    if ((word && !(word & CMB_WORD_OPEN)) || (old && !(old & CMB_WORD_OPEN)))
        cmb_radix_dirty(&log->table, leaf);
}
