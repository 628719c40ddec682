/* SPDX-License-Identifier: ISC */
/*
 * boundary.h: where a node ends is a property of the keys, not of past splits.
 *
 * Entry i of a level ends a node when (hash, key) is greater than that of every other entry in its
 * window: all entries at a distance under W = T/2 on either side, and at least the nearest two on
 * each side. Distance(i, j) = logical bytes strictly between the two. Logical bytes of an entry: key + value (an
 * out-of-line one counts as CMB_LOGICAL_FAR) + CMB_LOGICAL_LEAF in leaves; key + CMB_LOGICAL_CHILD at internal levels; never encoded sizes.
 * The hash is XXH3-64 of the key, seeded by mixing (image seed, level, round).
 *  - The first and the last-but-one entry of a level are never boundaries; the last one ends the last node without being one.
 *  - A level whose logical bytes are at most T is the root: one node.
 *  - At internal levels the rightmost child counts as hash minus infinity.
 *  - A run (the entries between two boundaries) that exceeds the cap, 4T logical bytes, is cut by the same rule with the next
 *    round's hash, windows clipped to the run, its first and last-but-one entries never; three rounds at most; what still exceeds
 *    the cap is cut greedily at the cap; never below two entries.
 *
 * Consequences that the editor relies on:
 *  - two boundaries are never in each other's window, so at least W bytes (and two entries) lie strictly between;
 *  - the decision for i right of a boundary b never depends on anything left of b: either b is in i's window and b > i, so i is
 *    none, or it is not, and then nothing left of it is;
 *  - hence an edit disturbs at most the boundaries whose windows it touches.
 *
 * The decider is a stream: entries are pushed in order; a boundary is reported once its right window has passed. O(1) amortised
 * (a monotonic deque for the left maximum; at most one live candidate).
 */
#ifndef CMB_BTREE_BOUNDARY_H
#define CMB_BTREE_BOUNDARY_H

#include "io/base.h"

#define CMB_LOGICAL_FAR 32u
#define CMB_LOGICAL_LEAF 8u
#define CMB_LOGICAL_CHILD 24u
#define CMB_BOUNDARY_ROUNDS 4u /* round 0 and three more */

uint64_t cmb_boundary_hash(uint64_t seed, unsigned level, unsigned round, const void *key, size_t key_size);

/* The rest is the decider's interface; its author completes it. */

#endif
