/* SPDX-License-Identifier: ISC */
/* salvage_copy.c: from what is left of one tree to what is left of another, as edits in key order. */
#include "store/salvage.h"

typedef struct changes {
    cmb_salvage *s;
    cmb_sv_cursor *from, *to;
    cmb_sv_item a, b;          /* what comes next on either side */
    bool has_a, has_b;
    cmb_sv_lost_fn lost;
    void *ctx;
    const cmb_sv_sink *sink;
} changes;

/* One and the same record: what can be read of it is the same on both sides. */
static bool same_record(const cmb_noderef *a, const cmb_noderef *b)
{
    return a->addr == b->addr && a->level == b->level && a->length == b->length && cmb_name_equal(&a->name, &b->name);
}

static bool same_value(const cmb_found *a, const cmb_found *b)
{
    if (a->out_of_line != b->out_of_line)
        return false;
    if (a->out_of_line)
        return a->valref.addr == b->valref.addr && a->valref.size == b->valref.size && cmb_name_equal(&a->valref.name, &b->valref.name);
    return a->value.size == b->value.size && (!a->value.size || memcmp(a->value.data, b->value.data, a->value.size) == 0);
}

static int compare_bytes(cmb_bytes a, cmb_bytes b)
{
    return cmb_compare(a.data, a.size, b.data, b.size);
}

/* Does all of x come before the first key that y may have? */
static bool comes_before(const cmb_sv_item *x, const cmb_sv_item *y)
{
    if (!x->key.size)
        return false;
    if (y->subtree)
        return y->lo.size && compare_bytes(x->key, y->lo) <= 0;
    return compare_bytes(x->key, y->key) < 0;
}

/* A value that cannot be read is told of as if it were a node of its own. */
static int tell_value(changes *w, int error, const cmb_valref *ref, cmb_bytes key)
{
    cmb_noderef place = {.addr = ref->addr, .length = ref->length, .count = 1, .level = CMB_SV_VALUE_LEVEL};
    return w->lost ? w->lost(w->ctx, &place, error, key, key, 0) : 0;
}

static int put(changes *w, bool replaces)
{
    const cmb_found *v = &w->b.found;
    if (!v->out_of_line)
        return w->sink->put(w->sink->ctx, w->b.key, v->value);
    int error = w->sink->put_far(w->sink->ctx, w->b.key, &v->valref);
    if (error != 1)
        return error;
    error = tell_value(w, CMB_ECORRUPT, &v->valref, w->b.key);
    return !error && replaces ? w->sink->del(w->sink->ctx, w->b.key) : error;
}

/* Both sides stand on entries. */
static int take_both(changes *w)
{
    int c = compare_bytes(w->a.key, w->b.key), error = 0;
    if (c < 0)
        error = w->sink->del(w->sink->ctx, w->a.key);
    else if (c > 0 || !same_value(&w->a.found, &w->b.found))
        error = put(w, /* replaces= */ c == 0);
    if (c <= 0)
        cmb_sv_cursor_pass(w->from);
    if (c >= 0)
        cmb_sv_cursor_pass(w->to);
    return error;
}

/* What comes next on the first side is not on the second, or has to be looked into. */
static int take_a(changes *w)
{
    if (w->a.subtree)
        return cmb_sv_cursor_enter(w->from);
    int error = w->sink->del(w->sink->ctx, w->a.key);
    cmb_sv_cursor_pass(w->from);
    return error;
}

static int take_b(changes *w)
{
    if (w->b.subtree)
        return cmb_sv_cursor_enter(w->to);
    int error = put(w, /* replaces= */ false);
    cmb_sv_cursor_pass(w->to);
    return error;
}

static int step(changes *w)
{
    const cmb_sv_item *a = &w->a, *b = &w->b;
    if (!w->has_a || !w->has_b)
        return w->has_a ? take_a(w) : take_b(w);
    if (!a->subtree && !b->subtree)
        return take_both(w);
    if (a->subtree && b->subtree && same_record(&a->ref, &b->ref)) {
        cmb_sv_cursor_pass(w->from);
        cmb_sv_cursor_pass(w->to);
        return 0;
    }
    if (comes_before(a, b))
        return take_a(w);
    if (comes_before(b, a))
        return take_b(w);
    /* They overlap: into the higher subtree. */
    return a->subtree && (!b->subtree || a->ref.level >= b->ref.level) ? take_a(w) : take_b(w);
}

static int run(changes *w)
{
    int error = 0;
    while (!error) {
        w->has_a = cmb_sv_cursor_item(w->from, &w->a);
        w->has_b = cmb_sv_cursor_item(w->to, &w->b);
        if (!w->has_a && !w->has_b)
            return 0;
        error = step(w);
    }
    return error;
}

int cmb_sv_changes(cmb_salvage *s, const cmb_noderef *from, const cmb_noderef *to, cmb_sv_lost_fn lost, void *ctx, const cmb_sv_sink *sink)
{
    changes w = {.s = s, .lost = lost, .ctx = ctx, .sink = sink};
    int error = cmb_sv_cursor_open(s, &s->in->tree, from, NULL, NULL, &w.from);
    if (!error)
        error = cmb_sv_cursor_open(s, &s->in->tree, to, lost, ctx, &w.to);
    if (!error)
        error = run(&w);
    cmb_sv_cursor_close(w.from);
    cmb_sv_cursor_close(w.to);
    return error;
}

/* ---- into a tree ---- */

typedef struct builder {
    cmb_salvage *s;
    cmb_appender *app;
    cmb_editor *editor;
} builder;

static int build_put(void *ctx, cmb_bytes key, cmb_bytes value)
{
    builder *b = ctx;
    return cmb_editor_push(b->editor, &(cmb_edit){.kind = CMB_EDIT_PUT, .key = key, .value = value});
}

static int build_del(void *ctx, cmb_bytes key)
{
    builder *b = ctx;
    return cmb_editor_push(b->editor, &(cmb_edit){.kind = CMB_EDIT_DELETE, .key = key});
}

static int build_far(void *ctx, cmb_bytes key, const cmb_valref *value)
{
    builder *b = ctx;
    cmb_edit edit = {.kind = CMB_EDIT_PUT_FAR, .key = key};
    int result = cmb_sv_value_copy(b->s, value, b->app, &edit.valref);
    return result ? result : cmb_editor_push(b->editor, &edit);
}

int cmb_sv_copy(cmb_salvage *s, const cmb_noderef *from, const cmb_noderef *to, const cmb_noderef *base, cmb_sv_lost_fn lost, void *ctx,
                cmb_noderef *out_root)
{
    builder b = {.s = s, .app = cmb_intake_appender(s->intake)};
    cmb_sv_sink sink = {.put = build_put, .put_far = build_far, .del = build_del, .ctx = &b};
    if (same_record(from, to)) {
        *out_root = *base;
        return 0;
    }
    int error = cmb_editor_open(&s->out->tree, base, b.app, &b.editor);
    if (error)
        return error;
    error = cmb_sv_changes(s, from, to, lost, ctx, &sink);
    if (!error)
        return cmb_editor_finish(b.editor, out_root);
    cmb_editor_abort(b.editor);
    return error;
}
