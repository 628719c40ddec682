/* SPDX-License-Identifier: ISC */
/*
 * graph.h: questions about the graph of commits: ancestors, lowest common ancestors, orders of walking. Work is proportional to the part
 * in question: generation numbers bound every walk (a commit is an ancestor only of commits of higher generation).
 * Forged graphs cannot loop: a parent's record lies below its child's.
 */
#ifndef CMB_STORE_GRAPH_H
#define CMB_STORE_GRAPH_H

#include "store/internal.h"

/* Is `ancestor` the commit itself or reachable from it? */
int cmb_graph_is_ancestor(cmb_store *store, const cmb_commit_at *ancestor, const cmb_commit_at *of, bool *out_yes);
/* All lowest common ancestors of a and b, newest generation first then by id; none for unrelated histories. The caller releases the
 * array (*out_count elements) with store->alloc. *out_cut (NULL allowed): the walk met an end of a shallow history that no common
 * ancestor leads to, so that there may be others below it. */
int cmb_graph_merge_bases(cmb_store *store, const cmb_commit_at *a, const cmb_commit_at *b, cmb_commit_at **out_bases, size_t *out_count,
                          bool *out_cut);

#endif
