/* SPDX-License-Identifier: ISC */
/*
 * rev.c: what a REV stands for: a branch, a tag, a full ref name or the beginning of a commit id,
 * in this order; then steps: ~n, ^n; then ^{root}.
 */
#include "store/intents.h"

#define STEPS_MAX 1000000000u
#define PREFIX_MIN 4u /* hexadecimal digits */

/* Looks for PREFIX + name among the refs. */
static int try_ref(cmb_store *store, const char *prefix, const char *name, size_t size, cmb_resolved *out, cmb_live *out_live)
{
    size_t n = strlen(prefix);
    if (n + size >= sizeof out->ref)
        return CMB_ENOTFOUND;
    memcpy(out->ref, prefix, n);
    memcpy(out->ref + n, name, size);
    out->ref[n + size] = 0;
    return cmb_ref_live(store, out->ref, n + size, &out->state, out_live);
}

static bool is_hex(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!(s[i] >= '0' && s[i] <= '9') && !((s[i] | 0x20) >= 'a' && (s[i] | 0x20) <= 'f'))
            return false;
    return true;
}

static int try_id(cmb_store *store, const char *hex, size_t digits, cmb_resolved *out)
{
    cmb_commit_at at;
    if (digits < PREFIX_MIN || !is_hex(hex, digits))
        return CMB_ENOTFOUND;
    int error = cmb_commit_find_prefix(store, hex, digits, &at);
    if (!error)
        error = cmb_commit_state(store, &at, &out->state);
    return error;
}

static bool is_full_name(const char *name, size_t size)
{
    return (size > sizeof CMB_HEADS - 1 && memcmp(name, CMB_HEADS, sizeof CMB_HEADS - 1) == 0) ||
           (size > sizeof CMB_TAGS - 1 && memcmp(name, CMB_TAGS, sizeof CMB_TAGS - 1) == 0);
}

static int resolve_name(cmb_store *store, const char *name, size_t size, cmb_resolved *out, cmb_live *out_live)
{
    if (size == 0)
        return cmb_fail(CMB_ESYNTAX, "a revision begins with the name of a branch, a tag or a commit");
    int error = try_ref(store, CMB_HEADS, name, size, out, out_live);
    if (error == CMB_ENOTFOUND)
        error = try_ref(store, CMB_TAGS, name, size, out, out_live);
    if (error == CMB_ENOTFOUND && is_full_name(name, size))
        error = try_ref(store, "", name, size, out, out_live);
    if (!error) {
        if (!out->state.working)
            out->ref[0] = 0;
        return 0;
    }
    out->ref[0] = 0;
    if (error == CMB_ENOTFOUND)
        error = try_id(store, name, size, out);
    if (error == CMB_ENOTFOUND)
        return cmb_fail(CMB_ENOTFOUND, "no branch, tag or commit is called '%.*s'", (int)(size < 256 ? size : 256), name);
    return error;
}

/* The permanent commit at or below where `out` is, as a state. */
static int settle_on(cmb_store *store, const cmb_commit_at *at, cmb_resolved *out)
{
    out->ref[0] = 0;
    return cmb_commit_state(store, at, &out->state);
}

static int none(const char *rev)
{
    return cmb_fail(CMB_ENOTFOUND, "'%s': there is no such parent", rev);
}

/* n steps to the first parent; the first step from a working state leads to the commit below it. */
static int step_down(cmb_store *store, const char *rev, uint32_t n, cmb_resolved *out)
{
    cmb_commit_at at = out->state.commit;
    if (n && out->state.working)
        n--;
    else if (!n)
        return 0;
    if (!at.id.size)
        return none(rev);
    while (n--) {
        cmb_commit_record *r;
        int error = cmb_commit_load(store, &at, &r);
        if (error)
            return error;
        bool more = r->commit.parent_count > 0 && !cmb_commit_is_absent(&r->parents[0]);
        if (more)
            at = r->parents[0];
        cmb_commit_free(&r->commit);
        if (!more)
            return none(rev);
    }
    return settle_on(store, &at, out);
}

static int step_to_parent(cmb_store *store, const char *rev, uint32_t n, cmb_resolved *out)
{
    cmb_commit_record *r;
    if (n <= 1)
        return step_down(store, rev, n, out);
    if (out->state.working || !out->state.commit.id.size)
        return none(rev);
    int error = cmb_commit_load(store, &out->state.commit, &r);
    if (error)
        return error;
    bool there = n <= r->commit.parent_count;
    cmb_commit_at at = {0};
    if (there)
        at = r->parents[n - 1];
    cmb_commit_free(&r->commit);
    return there ? settle_on(store, &at, out) : none(rev);
}

/* A decimal number at *p, 1 if there is none. */
static bool number(const char **p, uint32_t *out)
{
    const char *s = *p;
    uint32_t n = 0;
    for (; *s >= '0' && *s <= '9'; s++) {
        n = n * 10 + (uint32_t)(*s - '0');
        if (n > STEPS_MAX)
            return false;
    }
    *out = s == *p ? 1 : n;
    *p = s;
    return true;
}

static int walk(cmb_store *store, const char *rev, const char *p, cmb_resolved *out)
{
    int error = 0;
    while (!error && *p) {
        char step = *p++;
        uint32_t n;
        if (step == '^' && strcmp(p, "{root}") == 0) {
            out->content = true;
            return 0;
        }
        if ((step != '~' && step != '^') || !number(&p, &n))
            return cmb_fail(CMB_ESYNTAX, "'%s': after the name come ~n, ^n or ^{root}", rev);
        error = step == '~' ? step_down(store, rev, n, out) : step_to_parent(store, rev, n, out);
        out->state.tag = (cmb_commit_at){.addr = 0}; /* any step leads to a commit */
    }
    return error;
}

int cmb_rev_resolve_live(cmb_store *store, const char *rev, cmb_resolved *out, cmb_live *out_live)
{
    cmb_resolved r;
    cmb_live live = {0};
    if (!rev)
        return cmb_fail(CMB_EINVAL, "no revision is given");
    size_t size = strcspn(rev, "~^");
    r.content = false;
    int error = resolve_name(store, rev, size, &r, &live);
    if (!error && rev[size])
        error = walk(store, rev, rev + size, &r);
    if (error || !r.state.pending)
        cmb_live_release(store, &live);
    if (error)
        return error;
    *out = r;
    *out_live = live;
    return 0;
}

int cmb_rev_resolve(cmb_store *store, const char *rev, cmb_resolved *out)
{
    cmb_resolved r;
    cmb_live live;
    int error = cmb_rev_resolve_live(store, rev, &r, &live);
    if (error)
        return error;
    error = cmb_state_settle(store, &live, &r.state);
    cmb_live_release(store, &live);
    if (error)
        return error;
    if (!r.state.working) /* the edits led back to the commit */
        r.ref[0] = 0;
    *out = r;
    return 0;
}

int cmb_rev_parse(cmb_store *store, const char *rev, cmb_rev *out_rev)
{
    cmb_resolved r;
    cmb_live live;
    bool in_memory;
    int error = cmb_rev_resolve_live(store, rev, &r, &live);
    if (error)
        return error;
    error = cmb_state_settle_to_read(store, &live, &r.state, &in_memory);
    cmb_live_release(store, &live);
    if (error)
        return error;
    cmb_state_rev(&r.state, out_rev);
    if (r.content) {
        memset(&out_rev->commit, 0, sizeof out_rev->commit);
        memset(&out_rev->base, 0, sizeof out_rev->base);
        out_rev->working = false;
    }
    return 0;
}
