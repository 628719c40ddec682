/* SPDX-License-Identifier: ISC */
/*
 * level.h: the editor of one level, and the pipeline that it is a part of.
 *
 * Edits come in key order. The first one opens a *region* at the old node that holds its key: from
 * there on old entries, merged with edits, flow through the decider, and what it reports becomes
 * nodes, which are edits of the level above at once. The region ends where the shape is certain to
 * be the old one again, so nodes between regions are never read.
 *
 * Where a region may start. The decision right of a round-0 boundary depends on nothing left of it, so the
 * region starts after one: the end of the node before, which the decider re-decides, because
 * edits may have put something greater in its right window, or taken away the two entries that must
 * follow. Then nothing was reported yet: no boundary lies in the window of what refuted it. The region starts
 * again one node earlier, and that node's own left end lives: its window does not reach
 * past the node. Ends that rounds 1..3 cut say nothing; then the region starts at the nearest round-0 one.
 *
 * Where it may end. At an old round-0 end that is still there, exceeds its left window and has no
 * edit in the old node that follows, if that node itself ends in round 0: the right window lies in it.
 * The last node of a level holds all keys beyond it, so appends edit it; that covers the rightmost entry of an
 * internal level, which counts as minus infinity for as long as it is the rightmost.
 *
 * Two trees. Old nodes may come from a second tree in some ranges of keys (merge.c): from a seam's key on, what is old
 * is another tree's. A level's old entries are then those of the one tree below that key and of the other from it on, and
 * a seam is an event in the stream as an edit is, passed on upwards in its place among the edits. It costs nothing where both trees have a round-0
 * boundary right before it and the node that follows stays as it is: the one tree says that it exceeds its left window, the other its right
 * one. Anywhere else it lies in a region, which goes on into the other tree until it may end there.
 *
 * The top. The level above the old root has no old entries; a level that comes out as one entry, from
 * its start to its end, is no level: the entry's child is the root.
 */
#ifndef CMB_BTREE_LEVEL_H
#define CMB_BTREE_LEVEL_H

#include "btree/boundary.h"
#include "btree/path.h"
#include "btree/window.h"

/* An old node whose entries are in the region. Kept resident while entries borrow its values, and
 * until it is known whether it is replaced, deleted or the same again. */
typedef struct cmb_old {
    cmb_pin pin;
    cmb_node node;
    cmb_noderef ref;
    bool is_root; /* of its tree: the level above does not know it */
} cmb_old;

typedef struct cmb_olds { /* in key order; a ring */
    cmb_old *slots;       /* slots out of use keep their pins' buffers */
    uint32_t capacity, head, count;
} cmb_olds;

#define CMB_SEAM_BETWEEN UINT64_MAX

/* From `key` on, what is old is another tree's. */
typedef struct cmb_seam {
    struct cmb_seam *next, *before; /* in a level's queue */
    unsigned origin;
    /* Where it was crossed: the tree that was left, the old node that was left half-way, and the one that was entered. 0: no more of that tree; CMB_SEAM_BETWEEN: between two. */
    unsigned left_origin;
    uint64_t left, entered;
    uint32_t key_size; /* up to CMB_KEY_MAX + 1 */
    uint8_t key[];
} cmb_seam;

/* One of the trees that untouched nodes come from, as a level sees it. */
typedef struct cmb_origin {
    bool has;          /* it has this level */
    cmb_path at;       /* the old node to enter next */
    cmb_path back;     /* for going back */
} cmb_origin;

typedef struct cmb_level {
    cmb_editor *editor;
    unsigned level;
    cmb_origin origins[2];
    unsigned origin;   /* whose entries come next */
    unsigned start;    /* whose the region's start was */
    cmb_seam *pending; /* arrived while no region was open: what it takes depends on the event that follows */
    cmb_seam *seams, *last_seam; /* crossed, and not passed on yet, as nodes left of them are still to come; in key order */
    bool active;       /* a region is open */
    bool from_start;   /* it starts at the level's start */
    bool rewinding;    /* old entries left of all edits are fed: nothing in them moves the start again */
    bool at_ended;     /* no old node is left to enter */
    cmb_window window;
    cmb_olds olds;
    cmb_decider decider;
    /* The old node entered last: entries from `position` on are still to come. */
    uint32_t position, count;
    bool cut;          /* its reference's */
    bool at_old_end;   /* the newest entry in the window is its last one's key */
    uint64_t salt;     /* of round 0 */
    uint32_t left_size;
    uint8_t *left_key; /* CMB_KEY_MAX bytes: the boundary that the region starts after */
    uint32_t settled_size; /* 0: no region was ended yet */
    uint8_t *settled_key; /* CMB_KEY_MAX bytes: what lies up to here has gone up; no region may come back to it */
    uint8_t *scratch;  /* CMB_KEY_MAX bytes */
    cmb_node_buffer record;
} cmb_level;

typedef enum cmb_level_outcome {
    CMB_LEVEL_WENT_UP = 0, /* what changed is in the level above */
    CMB_LEVEL_ROOT = 1,    /* one entry is all there is: its child is the root */
    CMB_LEVEL_EMPTY = 2,
} cmb_level_outcome;

struct cmb_editor {
    const cmb_tree *tree;
    cmb_appender *app;
    cmb_noderef roots[2]; /* the old tree; another that has nodes to offer, or the empty one */
    unsigned heights[2];  /* their levels; 0: empty */
    /* Puts the encoded node where it belongs and fills in out_ref->addr. */
    int (*place)(cmb_editor *editor, const cmb_entry *last, const cmb_node_buffer *record, cmb_noderef *ref);
    void *ctx;           /* place's */
    int error;           /* sticky */
    cmb_level *levels[CMB_LEVEL_MAX + 2];
    uint32_t last_key_size; /* of the newest edit or seam */
    uint8_t last_key[CMB_KEY_MAX + 1];
    cmb_editor_stats stats;
};

int cmb_level_open(cmb_editor *editor, unsigned level, cmb_level **out_level);
void cmb_level_close(cmb_level *lv);
/* An edit with a key greater than those before; what entry points to is borrowed for the call. Removing what is not there changes nothing. */
int cmb_level_push(cmb_level *lv, const cmb_entry *entry, bool remove);
/* Takes the seam over, also on error. Its key is greater than those of all edits and seams before, and not greater than those after. */
int cmb_level_switch(cmb_level *lv, cmb_seam *seam);
/* No more edits. *out_root is set for CMB_LEVEL_ROOT. */
int cmb_level_finish(cmb_level *lv, cmb_level_outcome *out_outcome, cmb_noderef *out_root);

/* ---- between level.c and emit.c ---- */
cmb_old *cmb_olds_newest(const cmb_olds *olds);
cmb_old *cmb_olds_push(const cmb_allocator *alloc, cmb_olds *olds); /* NULL: CMB_ENOMEM */
void cmb_olds_drop_newest(const cmb_tree *tree, cmb_olds *olds);
void cmb_olds_destroy(const cmb_tree *tree, cmb_olds *olds);
/* Old nodes that end before `key` (NULL: all that are left) have no successor of the same key: they go, in the level above too. */
int cmb_level_drop_olds(cmb_level *lv, const cmb_entry *key);
extern const cmb_decider_ops cmb_level_decider_ops; /* ctx: the level */

/* Hands seams up to `key` (NULL: all) on to the level above. */
int cmb_level_pass_seams(cmb_level *lv, const cmb_entry *key);
/* ---- between level.c and seam.c ---- */
int cmb_level_open_region(cmb_level *lv, const cmb_entry *key);
int cmb_level_advance(cmb_level *lv, const cmb_entry *key);
int cmb_level_enter_next(cmb_level *lv);
void cmb_level_settled(cmb_level *lv, const uint8_t *key, uint32_t key_size);
/* Is the end of the node before the one that the path is at cut? */
int cmb_level_is_cut_before(cmb_level *lv, cmb_origin *o, bool *out_cut);
/* Is the node at the path, and all beyond it, as it was, up to the event with this key (NULL: none)? */
bool cmb_level_is_untouched(const cmb_path *at, const cmb_entry *key);
/* The event with `key` (NULL: none) is next: what a seam that waits for it takes. */
int cmb_level_settle_seam(cmb_level *lv, const cmb_entry *key);
void cmb_level_free_seams(cmb_level *lv);

/* ---- between levels ---- */
/* Takes the seam over, also on error. */
int cmb_editor_switch_up(cmb_editor *editor, unsigned level, cmb_seam *seam);
/* An edit of a level above the leaves; makes the level's editor if there is none. */
int cmb_editor_push_up(cmb_editor *editor, unsigned level, const cmb_entry *entry, bool remove);

/*
 * What a leaf's entry has to say about a value that is large, or out of line already: the form is a
 * function of the size. `old` (NULL: none) at `index` is the entry that it replaces: equal bytes stay where they are.
 */
int cmb_far_value(cmb_level *lv, const cmb_entry *entry, const cmb_node *old, uint32_t index, cmb_valref *out_valref, cmb_entry *out_entry);

/* Entry i of a node as something to push; it points into the room and the node. */
typedef struct cmb_entry_room {
    cmb_noderef child;
    cmb_valref valref;
    uint8_t key[CMB_KEY_MAX];
} cmb_entry_room;
void cmb_entry_of(const cmb_node *node, uint32_t i, cmb_entry_room *room, cmb_entry *out_entry);

/* Finishes this level and those above. *out_root: untouched levels leave the old root. */
int cmb_editor_finish_from(cmb_editor *editor, unsigned level, cmb_noderef *out_root);
/* As long as the level below the root fits a node of its own, that one is the root (collapse.c). */
int cmb_editor_collapse(cmb_editor *editor, cmb_noderef *root);

static inline uint32_t cmb_entry_bytes(const cmb_entry *e, unsigned level)
{
    if (level > 0)
        return e->key_size + CMB_LOGICAL_CHILD;
    return e->key_size + (e->valref ? CMB_LOGICAL_FAR : e->value_size) + CMB_LOGICAL_LEAF;
}

#endif
