/* SPDX-License-Identifier: ISC */
/*
 * tree.h: what the tree offers to the store: reading a tree by its root reference; editing it into a
 * new one. A tree is nothing but a reference (cmb_noderef) in the context of a cmb_tree.
 */
#ifndef CMB_BTREE_TREE_H
#define CMB_BTREE_TREE_H

#include "btree/node.h"
#include "btree/nodes.h"

/* One per image; shared by all threads; immutable after set-up. */
typedef struct cmb_tree {
    cmb_allocator alloc;
    cmb_log *log;
    cmb_nodes *nodes;
    cmb_hash_kind hash;
    uint32_t target;   /* bytes: target node size T, 256 .. 65536 */
    uint64_t seed;     /* boundary hash */
} cmb_tree;

static inline uint32_t cmb_tree_inline_max(const cmb_tree *tree) { return tree->target / 4; }
/* The empty tree: one named empty leaf, never written (addr 0). */
void cmb_tree_empty(const cmb_tree *tree, cmb_noderef *out_root);

/* ---- out-of-line values (value.c) ---- */
/* Four chunks fill a frame and four frames a segment of 4 MiB: with chunks of 1 MiB the end of each frame and
 * segment was a hole of up to a quarter. */
#define CMB_CHUNK_SIZE (252u << 10)
/* Writes a value that is in memory: its chunks, and their list if there are several. */
int cmb_value_write(const cmb_tree *tree, cmb_appender *app, const void *data, uint32_t size, cmb_valref *out_ref);
/* The same piece by piece, in any sizes; memory: one chunk and the list. */
typedef struct cmb_value_writer cmb_value_writer;
int cmb_value_writer_open(const cmb_tree *tree, cmb_appender *app, cmb_value_writer **out_writer);
int cmb_value_writer_add(cmb_value_writer *writer, const void *data, size_t size); /* CMB_ETOOBIG past CMB_VALUE_MAX */
int cmb_value_writer_finish(cmb_value_writer *writer, cmb_valref *out_ref);        /* frees, also on error */
void cmb_value_writer_abort(cmb_value_writer *writer);                             /* NULL allowed */
/* Reads [offset, offset+size) of the value into out; every chunk touched is verified by name. */
typedef struct cmb_value_reader cmb_value_reader; /* holds one verified chunk and the list */
int cmb_value_reader_open(const cmb_tree *tree, const cmb_valref *ref, cmb_value_reader **out_reader);
int cmb_value_reader_read(cmb_value_reader *reader, uint64_t offset, void *out, size_t size, size_t *out_read);
void cmb_value_reader_close(cmb_value_reader *reader);
/* Have both values the same chunk in place i, by their lists alone? False as well where one has a single chunk, whose name is not listed. */
bool cmb_value_same_chunk(const cmb_value_reader *a, const cmb_value_reader *b, uint32_t i);
/* Instead of its `size` bytes: the next chunk is chunk i of another value and stays where it lies. Between whole chunks only. CMB_EINVAL, and nothing
 * has changed: that value has no such chunk, one of another size, or no more than one. */
int cmb_value_writer_adopt(cmb_value_writer *writer, const cmb_value_reader *from, uint32_t i, uint32_t size);
/* Visits the records of a value: for liveness, fsck, relocation. verify: contents too. */
typedef int (*cmb_record_fn)(void *ctx, uint64_t addr, uint32_t length, uint8_t kind);
int cmb_value_visit(const cmb_tree *tree, const cmb_valref *ref, bool verify, cmb_record_fn fn, void *ctx);
/* Was the CHUNK record at addr, `length` bytes of it, verified to have this name? whole: the name is that of a value of one chunk.
 * Names of as many bytes as the image's hash gives. False: it has to be read. */
typedef bool (*cmb_chunk_known_fn)(void *ctx, uint64_t addr, uint32_t length, const uint8_t *name, bool whole);
/* Verifies as cmb_value_visit does; chunks that are known are not read again. */
int cmb_value_visit_known(const cmb_tree *tree, const cmb_valref *ref, cmb_chunk_known_fn known, cmb_record_fn fn, void *ctx);

/* ---- point reads (get.c) ---- */

/* What a lookup found. `value` points into what the pin keeps resident; for an out-of-line one valref is set instead. */
typedef struct cmb_found {
    bool out_of_line;
    cmb_bytes value;
    cmb_valref valref;
} cmb_found;
/* CMB_ENOTFOUND without a detail text (it is hot). */
int cmb_tree_get(const cmb_tree *tree, const cmb_noderef *root, const uint8_t *key, size_t key_size, cmb_pin *pin, cmb_found *out_found);
/* n lookups interleaved level by level with prefetching; pins[n]; out_results[i]: 0, CMB_ENOTFOUND or an error. */
void cmb_tree_get_many(const cmb_tree *tree, const cmb_noderef *root, const cmb_bytes *keys, size_t n, cmb_pin *pins, cmb_found *out_found, int *out_results);

/* ---- cursors over one tree (cursor.c) ---- */
typedef struct cmb_tree_cursor cmb_tree_cursor;
int cmb_tree_cursor_open(const cmb_tree *tree, const cmb_noderef *root, cmb_tree_cursor **out_cursor);
void cmb_tree_cursor_close(cmb_tree_cursor *c);
/* Each leaves the cursor on an entry, or returns CMB_ENOTFOUND (then: before the first or past the last; next/prev come back in). */
int cmb_tree_cursor_first(cmb_tree_cursor *c);
int cmb_tree_cursor_last(cmb_tree_cursor *c);
int cmb_tree_cursor_seek_ge(cmb_tree_cursor *c, const uint8_t *key, size_t key_size);
int cmb_tree_cursor_seek_le(cmb_tree_cursor *c, const uint8_t *key, size_t key_size);
int cmb_tree_cursor_seek_nth(cmb_tree_cursor *c, uint64_t n); /* 0-based, O(log n) */
int cmb_tree_cursor_next(cmb_tree_cursor *c);
int cmb_tree_cursor_prev(cmb_tree_cursor *c);
uint64_t cmb_tree_cursor_rank(const cmb_tree_cursor *c);      /* 0-based index of the current entry */
cmb_bytes cmb_tree_cursor_key(cmb_tree_cursor *c);            /* valid until the next call; contiguous */
int cmb_tree_cursor_value(cmb_tree_cursor *c, cmb_found *out_found);
/* How many entries have a lower key, and whether this one is there. One descent. */
int cmb_tree_rank(const cmb_tree *tree, const cmb_noderef *root, const uint8_t *key, size_t key_size, uint64_t *out_rank, bool *out_equal);
/* Entries with from <= key < to; NULL data: open end. O(log n). */
int cmb_tree_count_range(const cmb_tree *tree, const cmb_noderef *root, const cmb_bytes *from, const cmb_bytes *to, uint64_t *out_count);

/* ---- edits (buffer.c) ---- */

/* A transaction's sorted edits in memory: an append-only arena; later puts of a key hide earlier ones. Single-threaded;
 * reading a sealed one is thread-safe. */
typedef struct cmb_buffer cmb_buffer;
typedef enum cmb_edit_kind { CMB_EDIT_PUT = 1, CMB_EDIT_PUT_FAR = 2, CMB_EDIT_DELETE = 3 } cmb_edit_kind;
typedef struct cmb_edit {
    cmb_edit_kind kind;
    cmb_bytes key;
    cmb_bytes value;      /* PUT: any size; the editor writes large ones out of line */
    cmb_valref valref;    /* PUT_FAR: chunks already in the transaction's stream */
} cmb_edit;
int cmb_buffer_create(const cmb_allocator *alloc, cmb_buffer **out_buffer);
void cmb_buffer_destroy(cmb_buffer *buffer);
void cmb_buffer_clear(cmb_buffer *buffer);
int cmb_buffer_add(cmb_buffer *buffer, const cmb_edit *edit); /* copies; CMB_ENOMEM: unchanged */
size_t cmb_buffer_memory(const cmb_buffer *buffer);           /* bytes held */
size_t cmb_buffer_count(cmb_buffer *buffer);                  /* distinct keys; sorts first, as a read does */
bool cmb_buffer_find(cmb_buffer *buffer, const uint8_t *key, size_t key_size, cmb_edit *out_edit); /* pointers valid until destroy/clear */
/* Makes lookups thread-safe: sorts whatever is still unsorted. */
int cmb_buffer_seal(cmb_buffer *buffer);

/* ---- edit sources: buffer, spilled run, or anything else in key order (source.c) ---- */

/* A cursor over edits, both ways. `seek_*` and moves return 0, CMB_ENOTFOUND at an end, or an error. */
typedef struct cmb_source cmb_source;
typedef struct cmb_source_ops {
    int (*first)(cmb_source *s);
    int (*last)(cmb_source *s);
    int (*seek_ge)(cmb_source *s, const uint8_t *key, size_t key_size);
    int (*seek_le)(cmb_source *s, const uint8_t *key, size_t key_size);
    int (*next)(cmb_source *s);
    int (*prev)(cmb_source *s);
    int (*current)(cmb_source *s, cmb_edit *out_edit); /* borrowed until the source moves */
    void (*close)(cmb_source *s);
} cmb_source_ops;
struct cmb_source { const cmb_source_ops *ops; };
int cmb_source_buffer(cmb_buffer *buffer, cmb_source **out_source); /* notices edits added later: repositions by key */
/* A run: edits spilled to a stream as a tree whose values are op byte + payload; oldest run has the lowest number. */
int cmb_source_run(const cmb_tree *tree, const cmb_noderef *run, cmb_source **out_source);
int cmb_run_write(const cmb_tree *tree, cmb_appender *stream, cmb_source *edits, cmb_noderef *out_run);
int cmb_run_find(const cmb_tree *tree, const cmb_noderef *run, const uint8_t *key, size_t key_size, cmb_pin *pin, bool *out_hit, cmb_edit *out_edit);
/* Newest first; for equal keys the newest wins and the others are skipped. Owns the sources. */
int cmb_source_merge(const cmb_allocator *alloc, cmb_source **newest_first, size_t n, cmb_source **out_source);

/* ---- views: a root with sorted edits over it (view.c). A transaction reads through one; a snapshot is one. ---- */
struct cmb_intents; /* intents.h */
/* A copy borrows what the view points to. */
typedef struct cmb_view {
    const cmb_tree *tree;
    cmb_noderef root;
    const struct cmb_intents *intents; /* oldest; may be NULL */
    uint64_t intents_upto;             /* what of them is seen: the edits with seq <= this */
    cmb_buffer *buffer;                /* newest; may be NULL */
    const cmb_noderef *runs;           /* oldest first */
    size_t run_count;
} cmb_view;
int cmb_view_get(const cmb_view *view, const uint8_t *key, size_t key_size, cmb_pin *pin, cmb_found *out_found);
/* As cmb_tree_get_many: what the edits do not decide goes down the tree together. */
void cmb_view_get_many(const cmb_view *view, const cmb_bytes *keys, size_t n, cmb_pin *pins, cmb_found *out_found, int *out_results);
/* A cursor over the merged view; the same calls as a tree cursor's. nth, rank and count work in O(log n)
 * without edits above, else by walking the edits (counted against the tree in O(edits log n)). */
typedef struct cmb_view_cursor cmb_view_cursor;
int cmb_view_cursor_open(const cmb_view *view, cmb_view_cursor **out_cursor); /* view is copied; what it points to must outlive the cursor */
void cmb_view_cursor_close(cmb_view_cursor *c);
int cmb_view_cursor_first(cmb_view_cursor *c);
int cmb_view_cursor_last(cmb_view_cursor *c);
int cmb_view_cursor_seek_ge(cmb_view_cursor *c, const uint8_t *key, size_t key_size);
int cmb_view_cursor_seek_le(cmb_view_cursor *c, const uint8_t *key, size_t key_size);
int cmb_view_cursor_seek_nth(cmb_view_cursor *c, uint64_t n);
int cmb_view_cursor_next(cmb_view_cursor *c);
int cmb_view_cursor_prev(cmb_view_cursor *c);
cmb_bytes cmb_view_cursor_key(cmb_view_cursor *c);
int cmb_view_cursor_value(cmb_view_cursor *c, cmb_found *out_found);
/* After edits were added to the view's buffer: the next move starts from the key the cursor stood on. */
void cmb_view_cursor_invalidate(cmb_view_cursor *c);
/* The same place in another view of the image: after edits were spilled into a run. Invalidate the cursor before the old
 * view's buffer is cleared; destroy that only afterwards. On failure it stays with the old view. */
int cmb_view_cursor_rebind(cmb_view_cursor *c, const cmb_view *view);
int cmb_view_count_range(const cmb_view *view, const cmb_bytes *from, const cmb_bytes *to, uint64_t *out_count);

/* ---- editing (editor.c over boundary.c): one bottom-up pass over the touched nodes ---- */

typedef struct cmb_editor_stats {
    uint64_t nodes_read, nodes_written, bytes_written, nodes_reused; /* reused: re-encoded, equal byte for byte */
    uint64_t adopted; /* references that nodes took over from the other tree, each with all below it */
} cmb_editor_stats;
/*
 * A push editor: edits in strictly ascending key order go in, a new root comes out. A pipeline of one
 * level editor per level; memory is bounded by a few nodes per level, whatever the number of edits.
 * With an empty old tree this is the bulk loader. Large values are written out of line before their leaf.
 */
typedef struct cmb_editor cmb_editor;
int cmb_editor_open(const cmb_tree *tree, const cmb_noderef *old_root, cmb_appender *app, cmb_editor **out_editor);
int cmb_editor_push(cmb_editor *editor, const cmb_edit *edit); /* deleting an absent key is no change */
/*
 * Over two trees: whole subtrees of either are carried over. The old one's first; from each switch on, keys >= `from` that no edit names are
 * as in the tree that was switched to. `from` takes part in the ascending order of edits, and may be a byte longer than a key.
 */
int cmb_editor_open_two(const cmb_tree *tree, const cmb_noderef *old_root, const cmb_noderef *other_root, cmb_appender *app, cmb_editor **out_editor);
int cmb_editor_switch(cmb_editor *editor, bool other, cmb_bytes from);
int cmb_editor_finish(cmb_editor *editor, cmb_noderef *out_root); /* frees, also on error */
int cmb_editor_finish_stats(cmb_editor *editor, cmb_noderef *out_root, cmb_editor_stats *out_stats); /* NULL allowed */
void cmb_editor_abort(cmb_editor *editor);
void cmb_editor_get_stats(const cmb_editor *editor, cmb_editor_stats *out_stats);
/* All of a source. */
int cmb_tree_apply(const cmb_tree *tree, const cmb_noderef *old_root, cmb_source *edits, cmb_appender *app, cmb_noderef *out_root, cmb_editor_stats *out_stats);

/* Have the two trees the same content? By name where names cannot be forged, else byte for byte as well: of what lies in different
 * places, so after k edits it costs what these rewrote, and nothing for trees whose names differ. Values out of line that lie in different places count
 * as different. (identical.c) */
int cmb_tree_identical(const cmb_tree *tree, const cmb_noderef *a, const cmb_noderef *b, bool *out_same);

/* ---- walking (walk.c): liveness, fsck, inspect ---- */
typedef struct cmb_walk_ops {
    /* Before a node is read or given to node(): 1 passes over it and all below, negative stops. May be NULL. What several
     * trees share is read once so. */
    int (*enter)(void *ctx, const cmb_noderef *ref);
    /* Called for every node, parents first; return 1 to skip its children, negative to stop. node is NULL for leaves that
     * were not read (leaves are read only under out-of-line references unless read_leaves). */
    int (*node)(void *ctx, const cmb_noderef *ref, const cmb_node *node);
    int (*record)(void *ctx, uint64_t addr, uint32_t length, uint8_t kind); /* chunks and lists; may be NULL */
    /* A node that cannot be read (detail text set): its keys lie beyond `before` (NULL: from the start) and up to `last`
     * (NULL: to the end). Or a value of the leaf `ref`: then both are its key. The walk goes on beside it, unless damage
     * returns non-zero. NULL: stop with the error. */
    int (*damage)(void *ctx, const cmb_noderef *ref, int error, const uint8_t *before, size_t before_size, const uint8_t *last, size_t last_size);
    bool read_leaves, verify_values;
    /* With read_leaves: was this leaf verified elsewhere, with keys beyond `before` and up to `last`? Then it is as one that was not
     * read. Not asked about leaves under out-of-line references. May be NULL. */
    bool (*known)(void *ctx, const cmb_noderef *ref, const uint8_t *before, size_t before_size, const uint8_t *last, size_t last_size);
} cmb_walk_ops;
int cmb_tree_walk(const cmb_tree *tree, const cmb_noderef *root, const cmb_walk_ops *ops, void *ctx);
/* Are names, shape, counts and order what a fresh build of the same entries would give? The oracle; fsck --full. O(n) time, bounded memory. */
int cmb_tree_check_shape(const cmb_tree *tree, const cmb_noderef *root);

/* ---- references as bytes, in ref tables and commits ---- */
#define CMB_NODEREF_PACKED_MAX 64u
unsigned cmb_noderef_pack(const cmb_noderef *ref, uint8_t *out);
int cmb_noderef_unpack(cmb_hash_kind hash, const uint8_t *data, size_t size, cmb_noderef *out_ref, size_t *out_used);

#endif
