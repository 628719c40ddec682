/* SPDX-License-Identifier: ISC */
/*
 * merge.c: three trees side by side, from the lowest key to the highest. Where two of them stand on the same subtree nothing
 * below it is read; where none do, what lies lowest and is highest in its tree is read. Single keys are settled one by one.
 *
 * The result is made by an editor over ours and theirs. It stays on one of them as long as that says what the result is: a range
 * that is the other's is a switch, which takes that one's subtrees over without reading them, and a single key that is the
 * other's is an edit.
 */
#include "btree/merge.h"

#include "btree/side.h"

enum { BASE = 0, OURS = 1, THEIRS = 2, SIDES = 3 };

/* Whose a key, or a whole range of keys, is in the result. */
typedef enum take { TAKE_EITHER = 0, TAKE_OURS, TAKE_THEIRS, TAKE_EDIT } take;

typedef struct merge {
    const cmb_tree *tree;
    cmb_side sides[SIDES];
    cmb_editor *editor;
    cmb_tree_clash_fn fn;
    void *ctx;
    uint64_t clashes;
    bool on_theirs; /* what no edit names is theirs, from here on */
    cmb_bytes done; /* all keys below are settled */
    uint8_t done_key[CMB_KEY_MAX + 1];
} merge;

static void settled(merge *m, cmb_bytes last)
{
    memcpy(m->done_key, last.data, last.size);
    m->done_key[last.size] = 0;
    m->done = (cmb_bytes){m->done_key, last.size + 1};
}

/* ---- single keys ---- */

static int push_found(merge *m, cmb_bytes key, const cmb_found *found)
{
    cmb_edit edit = {.kind = CMB_EDIT_DELETE, .key = key};
    if (found && found->out_of_line) {
        edit.kind = CMB_EDIT_PUT_FAR;
        edit.valref = found->valref;
    } else if (found) {
        edit.kind = CMB_EDIT_PUT;
        edit.value = found->value;
    }
    return cmb_editor_push(m->editor, &edit);
}

static int ask(merge *m, cmb_bytes key, const cmb_found *const *found, take *out_take, cmb_edit *out_edit)
{
    cmb_tree_clash clash = {.key = key, .base = found[BASE], .ours = found[OURS], .theirs = found[THEIRS]};
    m->clashes++;
    int answer = m->fn(m->ctx, &clash, out_edit);
    if (answer < 0)
        return answer;
    *out_take = answer == CMB_CLASH_OURS ? TAKE_OURS : answer == CMB_CLASH_THEIRS ? TAKE_THEIRS : TAKE_EDIT;
    return 0;
}

/* The lowest key there is, on those sides that `has` says; the others do not have it. */
static int settle_key(merge *m, const bool *has)
{
    cmb_found room[SIDES];
    const cmb_found *found[SIDES] = {NULL};
    cmb_bytes key = {NULL, 0};
    for (unsigned i = 0; i < SIDES; i++)
        if (has[i]) {
            key = cmb_side_last(&m->sides[i]);
            cmb_side_found(&m->sides[i], &room[i]);
            found[i] = &room[i];
        }
    take whose = TAKE_EITHER;
    cmb_edit edit = {.kind = CMB_EDIT_DELETE};
    int error = 0;
    if (cmb_found_same(found[OURS], found[THEIRS]))
        whose = TAKE_EITHER;
    else if (cmb_found_same(found[BASE], found[OURS]))
        whose = TAKE_THEIRS;
    else if (cmb_found_same(found[BASE], found[THEIRS]))
        whose = TAKE_OURS;
    else
        error = ask(m, key, found, &whose, &edit);
    edit.key = key;
    if (!error && whose == TAKE_EDIT)
        error = cmb_editor_push(m->editor, &edit);
    else if (!error && whose == (m->on_theirs ? TAKE_OURS : TAKE_THEIRS))
        error = push_found(m, key, found[m->on_theirs ? OURS : THEIRS]);
    settled(m, key);
    for (unsigned i = 0; i < SIDES && !error; i++)
        if (has[i])
            cmb_side_advance(&m->sides[i]);
    return error;
}

/* ---- the walk ---- */

/* All keys that are not settled yet, up to the end of the side's item, are as on one side, or on both. */
static int take_range(merge *m, cmb_side *side, take whose)
{
    int error = 0;
    bool theirs = whose == TAKE_THEIRS;
    if (whose != TAKE_EITHER && theirs != m->on_theirs)
        error = cmb_editor_switch(m->editor, theirs, m->done);
    if (error)
        return error;
    m->on_theirs = whose == TAKE_EITHER ? m->on_theirs : theirs;
    if (cmb_side_has_last(side))
        settled(m, cmb_side_last(side));
    return 0;
}

/* Two sides have the same subtree: nobody has to look into it. The third passes over what lies there. */
static int pass_over(merge *m, unsigned a, unsigned b, take whose)
{
    int error = take_range(m, &m->sides[cmb_side_has_last(&m->sides[a]) ? a : b], whose);
    if (error)
        return error;
    cmb_side_advance(&m->sides[a]);
    cmb_side_advance(&m->sides[b]);
    cmb_side_catch_up(&m->sides[SIDES - a - b]);
    return 0;
}

/* The item of one side lies before the others': new on that side, or gone from both. */
static int take_alone(merge *m, unsigned i)
{
    static const take whose[SIDES] = {TAKE_EITHER, TAKE_OURS, TAKE_THEIRS};
    int error = take_range(m, &m->sides[i], whose[i]);
    if (!error)
        cmb_side_advance(&m->sides[i]);
    return error;
}

/* Which sides' items no other lies before? */
static unsigned find_lowest(merge *m, bool *out_lowest)
{
    unsigned n = 0;
    for (unsigned i = 0; i < SIDES; i++) {
        out_lowest[i] = !m->sides[i].ended;
        for (unsigned j = 0; j < SIDES && out_lowest[i]; j++)
            out_lowest[i] = j == i || !cmb_side_is_before(&m->sides[j], &m->sides[i]);
        n += out_lowest[i];
    }
    return n;
}

static int step(merge *m)
{
    cmb_side *s = m->sides;
    if (cmb_side_same(&s[OURS], &s[THEIRS]))
        return pass_over(m, OURS, THEIRS, TAKE_EITHER);
    if (cmb_side_same(&s[BASE], &s[THEIRS]))
        return pass_over(m, BASE, THEIRS, TAKE_OURS);
    if (cmb_side_same(&s[BASE], &s[OURS]))
        return pass_over(m, BASE, OURS, TAKE_THEIRS);
    bool lowest[SIDES];
    unsigned n = find_lowest(m, lowest);
    int level = -1, error = 0;
    for (unsigned i = 0; i < SIDES; i++)
        if (lowest[i] && cmb_side_level(&s[i]) > level)
            level = cmb_side_level(&s[i]);
    if (level < 0)
        return settle_key(m, lowest);
    if (n == 1)
        return take_alone(m, lowest[BASE] ? BASE : lowest[OURS] ? OURS : THEIRS);
    for (unsigned i = 0; i < SIDES && !error; i++)
        if (lowest[i] && cmb_side_level(&s[i]) == level)
            error = cmb_side_descend(&s[i]);
    return error;
}

static int run(merge *m, const cmb_noderef *const *roots)
{
    int error = 0;
    for (unsigned i = 0; i < SIDES && !error; i++)
        error = cmb_side_open(&m->sides[i], m->tree, roots[i], &m->done, NULL);
    while (!error && !(m->sides[BASE].ended && m->sides[OURS].ended && m->sides[THEIRS].ended))
        error = step(m);
    return error;
}

/* ---- one merge ---- */

static int merge_apart(merge *m, const cmb_noderef *const *roots, cmb_appender *app, cmb_noderef *out_root, cmb_merge_stats *stats)
{
    cmb_noderef root;
    cmb_editor_stats edited = {0};
    int error = cmb_editor_open_two(m->tree, roots[OURS], roots[THEIRS], app, &m->editor);
    if (error)
        return error;
    error = run(m, roots);
    if (!error) {
        error = cmb_editor_finish_stats(m->editor, &root, &edited);
    } else {
        cmb_editor_abort(m->editor);
    }
    *stats = (cmb_merge_stats){.nodes_read = edited.nodes_read, .nodes_written = edited.nodes_written,
                               .bytes_written = edited.bytes_written, .adopted = edited.adopted, .clashes = m->clashes};
    for (unsigned i = 0; i < SIDES; i++) {
        stats->nodes_read += m->sides[i].reads;
        cmb_side_close(&m->sides[i]);
    }
    if (!error)
        *out_root = cmb_tree_same(&root, roots[OURS]) ? *roots[OURS] : cmb_tree_same(&root, roots[THEIRS]) ? *roots[THEIRS] : root;
    return error;
}

int cmb_tree_merge(const cmb_tree *tree, const cmb_noderef *base, const cmb_noderef *ours, const cmb_noderef *theirs,
                   cmb_appender *app, cmb_tree_clash_fn fn, void *ctx, cmb_noderef *out_root, cmb_merge_stats *stats)
{
    cmb_merge_stats spent = {0};
    if (cmb_tree_same(base, theirs) || cmb_tree_same(ours, theirs)) {
        *out_root = *ours;
    } else if (cmb_tree_same(base, ours)) {
        *out_root = *theirs;
    } else {
        merge *m = cmb_zalloc(&tree->alloc, sizeof(*m));
        if (!m)
            return CMB_ENOMEM;
        m->tree = tree;
        m->fn = fn;
        m->ctx = ctx;
        m->done = (cmb_bytes){m->done_key, 0};
        const cmb_noderef *roots[SIDES] = {base, ours, theirs};
        int error = merge_apart(m, roots, app, out_root, &spent);
        cmb_release(&tree->alloc, m, sizeof(*m));
        if (error)
            return error;
    }
    if (stats)
        *stats = spent;
    return 0;
}
