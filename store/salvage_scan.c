/* SPDX-License-Identifier: ISC */
/*
 * salvage_scan.c: what is left in the log, and how children come back below a damaged node.
 *
 * A node's name stands in its parent. Where the parent is damaged, its remains still hold names of children, somewhere: so every run of
 * bytes in them that is the name of a node found in the log, one level below, is taken for that child's name. That is no
 * guess: a name is a hash of 16 bytes or more. The children are put in order by
 * their keys.
 */
#include "store/salvage.h"

#include "io/sort.h"
#include "log/format.h"

/* ---- the scan ---- */

static int note_node(cmb_salvage *s, const cmb_rescue_record *r)
{
    cmb_name name;
    uint32_t body = cmb_get32(r->record + 16);
    if (!cmb_node_plausible(r->record, r->length, r->addr))
        return 0;
    cmb_hash_name(s->in->tree.hash, r->record + 16, body, &name);
    cmb_sv_node *n = cmb_sv_list_add(&s->alloc, &s->nodes, sizeof *n);
    if (!n)
        return CMB_ENOMEM;
    *n = (cmb_sv_node){.key = cmb_get64(name.bytes), .addr = r->addr, .length = r->length, .level = r->record[22], .whole = r->whole};
    return 0;
}

static int note_record(cmb_salvage *s, cmb_sv_list *list, const cmb_rescue_record *r)
{
    cmb_sv_record *item = cmb_sv_list_add(&s->alloc, list, sizeof *item);
    if (!item)
        return CMB_ENOMEM;
    *item = (cmb_sv_record){.addr = r->addr, .epoch = r->epoch, .length = r->length, .kind = r->kind};
    return 0;
}

static int note_commit(cmb_salvage *s, const cmb_rescue_record *r)
{
    uint32_t content = r->length >= CMB_RECORD_HEADER + 4 ? cmb_get32(r->record + CMB_RECORD_HEADER) : UINT32_MAX;
    if (content > r->length - CMB_RECORD_HEADER - 4 || cmb_record_check(r->record, r->length, r->addr))
        return 0;
    cmb_commit_at *at = cmb_sv_list_add(&s->alloc, &s->commits_found, sizeof *at);
    if (!at)
        return CMB_ENOMEM;
    *at = (cmb_commit_at){.addr = r->addr, .length = r->length};
    cmb_hash_name(s->in->tree.hash, r->record + CMB_RECORD_HEADER + 4, content, &at->id);
    return 0;
}

/* The first frame that was seen of an epoch; `kind` 1: it says that the epoch begins there. */
static int note_epoch(cmb_salvage *s, const cmb_rescue_record *r)
{
    const cmb_sv_record *e = s->epochs.items;
    cmb_name name = {.size = 8};
    if (s->epochs.n && e[s->epochs.n - 1].epoch == r->epoch)
        return 0;
    cmb_put64(name.bytes, r->epoch);
    if (cmb_idset_has(&s->epochs_seen, &name))
        return 0;
    int error = cmb_idset_add(&s->epochs_seen, &name);
    if (!error)
        error = note_record(s, &s->epochs, r);
    if (!error)
        ((cmb_sv_record *)s->epochs.items)[s->epochs.n - 1].kind = r->whole && r->flags & CMB_FRAME_EPOCH;
    return error;
}

static int on_record(void *ctx, const cmb_rescue_record *r)
{
    cmb_salvage *s = ctx;
    if (!r->record)
        return r->epoch && !(r->flags & CMB_FRAME_STREAM) ? note_epoch(s, r) : 0;
    switch (r->kind) {
    case CMB_RECORD_LEAF:
    case CMB_RECORD_NODE:
        return note_node(s, r);
    case CMB_RECORD_COMMIT:
        return note_commit(s, r);
    case CMB_RECORD_EDITS:
    case CMB_RECORD_INTENTS:
    case CMB_RECORD_ROOT:
        return note_record(s, &s->records, r);
    default:
        return 0;
    }
}

static int compare_nodes(const void *a, const void *b)
{
    const cmb_sv_node *x = a, *y = b;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return x->addr < y->addr ? -1 : x->addr > y->addr;
}

int cmb_sv_scan(cmb_salvage *s)
{
    if (s->scanned)
        return 0;
    cmb_sv_progress(s, "looking for records", 0, 0);
    int error = cmb_log_rescue_scan(s->in->log, cmb_node_plausible, on_record, s);
    if (error)
        return error;
    cmb_sort(s->nodes.items, s->nodes.n, sizeof(cmb_sv_node), compare_nodes);
    s->scanned = true;
    return 0;
}

/* ---- nodes by name ---- */

/* The first found node of this key, or the end. */
static size_t first_of(const cmb_salvage *s, uint64_t key)
{
    const cmb_sv_node *n = s->nodes.items;
    size_t low = 0, high = s->nodes.n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (n[mid].key < key)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* The fields that a parent would hold of a found node, by the node's own word. */
static int describe(cmb_salvage *s, const cmb_sv_node *n, const uint8_t *name, cmb_noderef *out_ref)
{
    uint8_t head[CMB_NODE_HEADER];
    int error = cmb_log_read(s->in->log, NULL, n->addr, sizeof head, head);
    if (error)
        return error;
    *out_ref = (cmb_noderef){.addr = n->addr, .count = cmb_get64(head + 24), .length = n->length, .level = n->level,
                             .out_of_line = head[23] & CMB_NODE_OUT_OF_LINE};
    out_ref->name.size = (uint8_t)cmb_name_size(s->in->tree.hash);
    memcpy(out_ref->name.bytes, name, out_ref->name.size);
    return 0;
}

int cmb_sv_node_describe(cmb_salvage *s, const cmb_sv_node *n, cmb_noderef *out_ref)
{
    cmb_name name;
    uint8_t *record = cmb_alloc(&s->alloc, n->length);
    int error = record ? cmb_log_read(s->in->log, NULL, n->addr, n->length, record) : CMB_ENOMEM;
    if (!error && !cmb_node_plausible(record, n->length, n->addr))
        error = cmb_fail(CMB_ECORRUPT, "node at %llu: it is no more what it was", (unsigned long long)n->addr);
    if (!error)
        cmb_hash_name(s->in->tree.hash, record + 16, cmb_get32(record + 16), &name);
    cmb_release(&s->alloc, record, n->length);
    return error ? error : describe(s, n, name.bytes, out_ref);
}

int cmb_sv_node_get(cmb_salvage *s, const cmb_noderef *ref, cmb_pin *pin)
{
    int error = cmb_nodes_get(s->in->nodes, ref, pin);
    if (!error || !cmb_sv_is_damage(error))
        return error;
    error = cmb_sv_scan(s);
    if (error)
        return error;
    const cmb_sv_node *n = s->nodes.items;
    uint64_t key = cmb_get64(ref->name.bytes);
    for (size_t i = first_of(s, key); i < s->nodes.n && n[i].key == key; i++) {
        cmb_noderef other = *ref;
        other.addr = n[i].addr;
        other.length = n[i].length;
        if (n[i].addr != ref->addr && n[i].level == ref->level && cmb_nodes_get(s->in->nodes, &other, pin) == 0)
            return 0;
    }
    return cmb_nodes_get(s->in->nodes, ref, pin); /* its own error is the one to tell */
}

/* ---- damaged nodes ---- */

/* Those that were not tried yet, behind the sorted ones, have no children. */
const cmb_sv_graft *cmb_sv_graft_find(const cmb_salvage *s, uint64_t addr)
{
    const cmb_sv_graft *g = s->grafts.items;
    size_t low = 0, high = s->grafts_sorted;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (g[mid].ref.addr < addr)
            low = mid + 1;
        else
            high = mid;
    }
    return low < s->grafts_sorted && g[low].ref.addr == addr && g[low].count ? &g[low] : NULL;
}

int cmb_sv_graft_note(cmb_salvage *s, const cmb_noderef *ref)
{
    bool added;
    if (ref->level == 0 || ref->length > CMB_RECORD_MAX || ref->addr % CMB_RECORD_ALIGN)
        return 0;
    int error = cmb_addrset_add(s->noted, ref->addr, 0, &added);
    if (error || !added)
        return error;
    cmb_sv_graft *g = cmb_sv_list_add(&s->alloc, &s->grafts, sizeof *g);
    if (!g)
        return CMB_ENOMEM;
    *g = (cmb_sv_graft){.ref = *ref};
    return 0;
}

static int compare_grafts(const void *a, const void *b)
{
    const cmb_sv_graft *x = a, *y = b;
    return x->ref.addr < y->ref.addr ? -1 : x->ref.addr > y->ref.addr;
}

static int compare_children(const void *a, const void *b)
{
    const cmb_sv_child *x = a, *y = b;
    return cmb_compare(x->last, x->last_size, y->last, y->last_size);
}

/* By their keys; of two that overlap the one that ends first stays. What is damaged may be an order of sectors: names are no order. */
static void tidy(cmb_salvage *s, cmb_sv_graft *g)
{
    uint32_t kept = 0;
    cmb_sort(g->children, g->count, sizeof *g->children, compare_children);
    for (uint32_t i = 0; i < g->count; i++) {
        const cmb_sv_child *c = &g->children[i], *before = kept ? &g->children[kept - 1] : NULL;
        if (before && cmb_compare(c->last + c->last_size, c->first_size, before->last, before->last_size) <= 0)
            cmb_release(&s->alloc, c->last, c->last_size + (size_t)c->first_size);
        else
            g->children[kept++] = *c;
    }
    g->count = kept;
}

/* Room for one more: first of what one and the same name took that stands there often. */
static int make_room(cmb_salvage *s, cmb_sv_graft *g)
{
    if (g->count < g->capacity)
        return 0;
    tidy(s, g);
    if (g->count < g->capacity / 2)
        return 0;
    uint32_t capacity = g->capacity ? 2 * g->capacity : 16;
    cmb_sv_child *grown = cmb_resize(&s->alloc, g->children, g->capacity * sizeof *grown, capacity * sizeof *grown);
    if (!grown)
        return CMB_ENOMEM;
    g->children = grown;
    g->capacity = capacity;
    return 0;
}

static int add_child(cmb_salvage *s, cmb_sv_graft *g, const cmb_noderef *ref, const cmb_node *node)
{
    uint8_t last[CMB_KEY_MAX], first[CMB_KEY_MAX];
    int error = node->count ? make_room(s, g) : 0;
    if (error || !node->count)
        return error;
    cmb_sv_child child = {.ref = *ref, .last_size = cmb_node_key(node, node->count - 1, last), .first_size = cmb_node_key(node, 0, first)};
    child.last = cmb_alloc(&s->alloc, child.last_size + (size_t)child.first_size);
    if (!child.last)
        return CMB_ENOMEM;
    memcpy(child.last, last, child.last_size);
    memcpy(child.last + child.last_size, first, child.first_size);
    g->children[g->count++] = child;
    return 0;
}

/* Is the name at `bytes` that of a found node? Then it becomes a child; *out_taken. */
static int try_name(cmb_salvage *s, cmb_sv_graft *g, const uint8_t *bytes, cmb_pin *pin, bool *out_taken)
{
    const cmb_sv_node *n = s->nodes.items;
    uint64_t key = cmb_get64(bytes);
    int error = 0;
    *out_taken = false;
    for (size_t i = first_of(s, key); i < s->nodes.n && n[i].key == key && !*out_taken && !error; i++) {
        cmb_noderef ref;
        cmb_node node;
        if (n[i].level + 1u != g->ref.level || n[i].addr >= g->ref.addr || describe(s, &n[i], bytes, &ref)
            || cmb_nodes_get(s->in->nodes, &ref, pin))
            continue;
        cmb_node_open(s->in->tree.hash, pin->record, &node);
        error = add_child(s, g, &ref, &node);
        *out_taken = true;
    }
    return error;
}

static int graft(cmb_salvage *s, cmb_sv_graft *g)
{
    unsigned name = cmb_name_size(s->in->tree.hash);
    cmb_pin pin = {0};
    uint8_t *remains = cmb_alloc(&s->alloc, g->ref.length ? g->ref.length : 1);
    if (!remains)
        return CMB_ENOMEM;
    int error = g->ref.length > CMB_NODE_HEADER ? cmb_log_read_remains(s->in->log, g->ref.addr, g->ref.length, remains) : CMB_ECORRUPT;
    for (uint32_t at = CMB_NODE_HEADER; !error && at + name <= g->ref.length;) {
        bool taken = false;
        error = try_name(s, g, remains + at, &pin, &taken);
        at += taken ? name : 1;
    }
    tidy(s, g);
    s->result.replaced += g->count;
    cmb_pin_destroy(s->in->nodes, &pin);
    cmb_release(&s->alloc, remains, g->ref.length ? g->ref.length : 1);
    return cmb_sv_is_damage(error) ? 0 : error;
}

/* What the children lead to is in a tree now, and may be damaged as well: more nodes are noted. */
static int survey_children(cmb_salvage *s, const cmb_sv_child *children, uint32_t count)
{
    int error = 0;
    for (uint32_t i = 0; i < count && !error; i++) {
        bool added;
        error = children[i].ref.level ? cmb_sv_survey(s, &s->in->tree, &children[i].ref)
                                      : cmb_addrset_add(s->seen, children[i].ref.addr, 0, &added);
    }
    return error;
}

int cmb_sv_graft_all(cmb_salvage *s, bool *out_more)
{
    int error = s->grafts.n ? cmb_sv_scan(s) : 0;
    size_t done = s->grafts_done;
    *out_more = false;
    while (!error && done < s->grafts.n) {
        size_t n = s->grafts.n;
        for (size_t i = done; i < n && !error; i++) {
            cmb_sv_graft *g = (cmb_sv_graft *)s->grafts.items + i;
            error = graft(s, g);
            *out_more |= g->count > 0;
            if (!error)
                error = survey_children(s, g->children, g->count); /* the list may move meanwhile */
        }
        done = n;
    }
    s->grafts_done = s->grafts_sorted = error ? 0 : done;
    cmb_sort(s->grafts.items, s->grafts.n, sizeof(cmb_sv_graft), compare_grafts);
    return error;
}

/* ---- surveying ---- */

static int note_damaged(void *ctx, const cmb_noderef *ref, int error, cmb_bytes lo, cmb_bytes hi, uint64_t found)
{
    return cmb_sv_graft_note(ctx, ref);
}

int cmb_sv_survey(cmb_salvage *s, const cmb_tree *tree, const cmb_noderef *root)
{
    cmb_sv_cursor *c;
    cmb_sv_item item;
    int error = cmb_sv_cursor_open(s, tree, root, note_damaged, s, &c);
    if (error)
        return error;
    while (!error && cmb_sv_cursor_item(c, &item)) {
        bool added = true;
        if (item.ref.addr % CMB_RECORD_ALIGN == 0)
            error = cmb_addrset_add(s->seen, item.ref.addr, 0, &added);
        if (!error && item.ref.level && added)
            error = cmb_sv_cursor_enter(c);
        else if (!error)
            cmb_sv_cursor_pass(c);
    }
    cmb_sv_cursor_close(c);
    return error;
}
