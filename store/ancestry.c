/* SPDX-License-Identifier: ISC */
/* ancestry.c: the public face of questions about ancestors (include/cambium/history.h). */
#include <cambium/history.h>

#include "store/graph.h"

static int resolve_both(cmb_store *store, const char *a, const char *b, cmb_commit_at out[2])
{
    int error = cmb_commit_resolve(store, a, true, &out[0]);
    return error ? error : cmb_commit_resolve(store, b, true, &out[1]);
}

int cmb_is_ancestor(cmb_store *store, const char *ancestor, const char *rev, bool *out_yes)
{
    cmb_commit_at at[2];
    int error = resolve_both(store, ancestor, rev, at);
    return error ? error : cmb_graph_is_ancestor(store, &at[0], &at[1], out_yes);
}

static int find_bases(cmb_store *store, const char *a, const char *b, cmb_commit_at **out_bases, size_t *out_count)
{
    cmb_commit_at at[2];
    int error = resolve_both(store, a, b, at);
    return error ? error : cmb_graph_merge_bases(store, &at[0], &at[1], out_bases, out_count, NULL);
}

int cmb_merge_base(cmb_store *store, const char *a, const char *b, cmb_name *out_base)
{
    cmb_commit_at *bases;
    size_t n;
    int error = find_bases(store, a, b, &bases, &n);
    if (error)
        return error;
    if (n)
        *out_base = bases[0].id;
    else
        error = cmb_fail(CMB_ENOTFOUND, "'%s' and '%s' have no ancestor in common", a, b);
    cmb_release(&store->alloc, bases, n * sizeof *bases);
    return error;
}

int cmb_merge_bases(cmb_store *store, const char *a, const char *b, int (*fn)(void *ctx, const cmb_name *base), void *ctx)
{
    cmb_commit_at *bases;
    size_t n;
    int error = find_bases(store, a, b, &bases, &n);
    if (error)
        return error;
    for (size_t i = 0; !error && i < n; i++)
        if (fn(ctx, &bases[i].id))
            error = cmb_fail(CMB_ESTOPPED, "the list of common ancestors was stopped by its callback");
    cmb_release(&store->alloc, bases, n * sizeof *bases);
    return error;
}
