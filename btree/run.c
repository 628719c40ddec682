/* SPDX-License-Identifier: ISC */
/*
 * Runs: edits spilled to a stream, as a plain sorted tree whose nodes are cut by size alone. A value
 * in a run is one byte of operation (cmb_edit_kind) and a payload: of a PUT the value; of a PUT_FAR
 *
 *   0  u64 address  u32 length  u32 size  name
 *
 * of a DELETE nothing. Values too large for a leaf of the tree go to the stream at once and become
 * PUT_FAR, so that the commit that merges the run takes them over where they lie.
 */
#include "btree/source.h"

#include <assert.h>

#define RUN_NODE_BYTES (16u << 10)
#define RUN_LEAF_ENTRY 8u   /* bytes that an entry counts beside its key and value */
#define RUN_CHILD_ENTRY 32u
#define RUN_ENTRIES_MAX (RUN_NODE_BYTES / RUN_LEAF_ENTRY + 2)
#define RUN_CHILDREN_MAX (RUN_NODE_BYTES / RUN_CHILD_ENTRY + 2)
#define RUN_ARENA (2 * (2 * CMB_KEY_MAX + 64)) /* two of the largest entries: a node closes when it has two and the bytes */
#define FAR_PAYLOAD 16u

/* ---- writing ---- */

typedef struct run_level {
    uint32_t n;
    size_t weight, used; /* bytes counted, and taken in the arena */
    cmb_entry entries[RUN_ENTRIES_MAX];
    cmb_noderef children[RUN_CHILDREN_MAX];
    uint8_t arena[RUN_ARENA];
} run_level;

typedef struct run_writer {
    const cmb_tree *tree;
    cmb_appender *stream;
    cmb_node_buffer buffer;
    uint32_t height;
    run_level *levels[CMB_LEVEL_MAX + 1];
} run_writer;

static bool level_full(const run_level *level)
{
    return level->n >= 2 && level->weight >= RUN_NODE_BYTES;
}

static uint8_t *level_copy(run_level *level, const void *data, size_t size)
{
    uint8_t *at = level->arena + level->used;
    assert(level->used + size <= sizeof level->arena);
    if (size)
        memcpy(at, data, size);
    level->used += size;
    level->weight += size;
    return at;
}

/* Writes a level's node and empties the level. */
static int level_write(run_writer *w, uint32_t l, cmb_noderef *out_ref)
{
    run_level *level = w->levels[l];
    cmb_noderef ref;
    void *record;
    int r = cmb_node_encode(&w->tree->alloc, w->tree->hash, l, level->entries, level->n, &w->buffer, &ref);
    if (!r)
        r = cmb_append(w->stream, ref.length, &ref.addr, &record);
    if (r)
        return r;
    memcpy(record, w->buffer.data, ref.length);
    cmb_node_place(record, ref.addr);
    ref.cut = false;
    level->n = 0;
    level->weight = level->used = 0;
    *out_ref = ref;
    return 0;
}

static int writer_level(run_writer *w, uint32_t l)
{
    if (l < w->height)
        return 0;
    assert(l <= CMB_LEVEL_MAX);
    run_level *level = cmb_alloc(&w->tree->alloc, sizeof *level);
    if (!level)
        return CMB_ENOMEM;
    level->n = 0;
    level->weight = level->used = 0;
    w->levels[l] = level;
    w->height = l + 1;
    return 0;
}

/* Writes the node of level l into the level above, which has room. */
static int writer_close(run_writer *w, uint32_t l)
{
    const cmb_entry last = w->levels[l]->entries[w->levels[l]->n - 1];
    cmb_noderef ref;
    int r = writer_level(w, l + 1);
    if (r)
        return r;
    run_level *above = w->levels[l + 1];
    uint8_t *key = level_copy(above, last.key, last.key_size);
    r = level_write(w, l, &ref);
    if (r)
        return r;
    above->children[above->n] = ref;
    above->entries[above->n] =
        (cmb_entry){.key = key, .key_size = last.key_size, .child = &above->children[above->n]};
    above->weight += RUN_CHILD_ENTRY;
    above->n++;
    return 0;
}

/* Makes room in level l: closes the full levels from there up, the uppermost first. */
static int writer_room(run_writer *w, uint32_t l)
{
    uint32_t top = l;
    while (top < w->height && level_full(w->levels[top]))
        top++;
    while (top > l) {
        int r = writer_close(w, --top);
        if (r)
            return r;
    }
    return 0;
}

static int writer_add(run_writer *w, const cmb_edit *edit)
{
    uint8_t far[FAR_PAYLOAD + CMB_NAME_MAX], op = (uint8_t)edit->kind;
    cmb_valref valref = edit->kind == CMB_EDIT_PUT_FAR ? edit->valref : (cmb_valref){.addr = 0};
    const void *payload = edit->value.data;
    size_t size = edit->kind == CMB_EDIT_PUT ? edit->value.size : 0;
    if (size > cmb_tree_inline_max(w->tree)) {
        int r = cmb_value_write(w->tree, w->stream, payload, (uint32_t)size, &valref);
        if (r)
            return r;
        op = CMB_EDIT_PUT_FAR;
    }
    if (op == CMB_EDIT_PUT_FAR) {
        cmb_put64(far, valref.addr);
        cmb_put32(far + 8, valref.length);
        cmb_put32(far + 12, valref.size);
        memcpy(far + FAR_PAYLOAD, valref.name.bytes, valref.name.size);
        payload = far;
        size = FAR_PAYLOAD + valref.name.size;
    }
    int r = writer_room(w, 0);
    if (r)
        return r;
    run_level *leaf = w->levels[0];
    const uint8_t *key = level_copy(leaf, edit->key.data, edit->key.size);
    const uint8_t *value = level_copy(leaf, &op, 1);
    level_copy(leaf, payload, size);
    leaf->entries[leaf->n++] = (cmb_entry){
        .key = key, .key_size = (uint32_t)edit->key.size, .value = value, .value_size = (uint32_t)size + 1};
    leaf->weight += RUN_LEAF_ENTRY;
    return 0;
}

static int writer_all(run_writer *w, cmb_source *edits)
{
    cmb_edit edit;
    int r = writer_level(w, 0), moved;
    if (r)
        return r;
    for (moved = edits->ops->first(edits); !moved; moved = edits->ops->next(edits)) {
        r = edits->ops->current(edits, &edit);
        if (!r)
            r = writer_add(w, &edit);
        if (r)
            return r;
    }
    return moved == CMB_ENOTFOUND ? 0 : moved;
}

static int writer_finish(run_writer *w, cmb_noderef *out_run)
{
    if (w->levels[0]->n == 0) {
        cmb_tree_empty(w->tree, out_run);
        return 0;
    }
    for (uint32_t l = 0; l + 1 < w->height; l++) {
        int r = writer_room(w, l + 1);
        if (!r)
            r = writer_close(w, l);
        if (r)
            return r;
    }
    return level_write(w, w->height - 1, out_run);
}

int cmb_run_write(const cmb_tree *tree, cmb_appender *stream, cmb_source *edits, cmb_noderef *out_run)
{
    run_writer w = {.tree = tree, .stream = stream};
    int r = writer_all(&w, edits);
    if (!r)
        r = writer_finish(&w, out_run);
    for (uint32_t l = 0; l < w.height; l++)
        cmb_release(&tree->alloc, w.levels[l], sizeof *w.levels[l]);
    cmb_release(&tree->alloc, w.buffer.data, w.buffer.capacity);
    return r;
}

/* ---- reading ---- */

static int run_edit(const cmb_tree *tree, const cmb_noderef *run, const cmb_found *found, cmb_bytes key, cmb_edit *out_edit)
{
    const uint8_t *data = found->value.data;
    unsigned name_size = cmb_name_size(tree->hash);
    size_t size = found->out_of_line ? 0 : found->value.size;
    cmb_edit edit = {.key = key};
    edit.kind = size ? (cmb_edit_kind)data[0] : 0;
    if (edit.kind == CMB_EDIT_PUT) {
        edit.value = (cmb_bytes){data + 1, size - 1};
    } else if (edit.kind == CMB_EDIT_PUT_FAR && size == 1 + FAR_PAYLOAD + name_size) {
        edit.valref = (cmb_valref){cmb_get64(data + 1), cmb_get32(data + 9), cmb_get32(data + 13), {.size = (uint8_t)name_size}};
        memcpy(edit.valref.name.bytes, data + 1 + FAR_PAYLOAD, name_size);
    } else if (edit.kind != CMB_EDIT_DELETE || size != 1) {
        return cmb_fail(CMB_ECORRUPT, "the run of edits at %llu holds an entry that is no edit",
                        (unsigned long long)run->addr);
    }
    *out_edit = edit;
    return 0;
}

int cmb_run_find(const cmb_tree *tree, const cmb_noderef *run, const uint8_t *key, size_t key_size, cmb_pin *pin,
                 bool *out_hit, cmb_edit *out_edit)
{
    cmb_found found;
    int r = cmb_tree_get(tree, run, key, key_size, pin, &found);
    if (r && r != CMB_ENOTFOUND)
        return r;
    if (!r) {
        int bad = run_edit(tree, run, &found, (cmb_bytes){key, key_size}, out_edit);
        if (bad)
            return bad;
    }
    *out_hit = r == 0;
    return 0;
}

typedef struct run_source {
    cmb_source base;
    const cmb_tree *tree;
    cmb_noderef run;
    cmb_tree_cursor *cursor;
} run_source;

static int run_first(cmb_source *s) { return cmb_tree_cursor_first(((run_source *)s)->cursor); }
static int run_last(cmb_source *s) { return cmb_tree_cursor_last(((run_source *)s)->cursor); }
static int run_next(cmb_source *s) { return cmb_tree_cursor_next(((run_source *)s)->cursor); }
static int run_prev(cmb_source *s) { return cmb_tree_cursor_prev(((run_source *)s)->cursor); }
static int run_seek_ge(cmb_source *s, const uint8_t *key, size_t size)
{
    return cmb_tree_cursor_seek_ge(((run_source *)s)->cursor, key, size);
}
static int run_seek_le(cmb_source *s, const uint8_t *key, size_t size)
{
    return cmb_tree_cursor_seek_le(((run_source *)s)->cursor, key, size);
}

static int run_current(cmb_source *source, cmb_edit *out_edit)
{
    run_source *s = (run_source *)source;
    cmb_found found;
    int r = cmb_tree_cursor_value(s->cursor, &found);
    return r ? r : run_edit(s->tree, &s->run, &found, cmb_tree_cursor_key(s->cursor), out_edit);
}

static void run_close(cmb_source *source)
{
    run_source *s = (run_source *)source;
    cmb_tree_cursor_close(s->cursor);
    cmb_release(&s->tree->alloc, s, sizeof *s);
}

static const cmb_source_ops run_ops = {
    run_first, run_last, run_seek_ge, run_seek_le, run_next, run_prev, run_current, run_close,
};

int cmb_source_run(const cmb_tree *tree, const cmb_noderef *run, cmb_source **out_source)
{
    run_source *s = cmb_zalloc(&tree->alloc, sizeof *s);
    if (!s)
        return CMB_ENOMEM;
    s->base.ops = &run_ops;
    s->tree = tree;
    s->run = *run;
    int r = cmb_tree_cursor_open(tree, run, &s->cursor);
    if (r) {
        cmb_release(&tree->alloc, s, sizeof *s);
        return r;
    }
    *out_source = &s->base;
    return 0;
}
