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

/*
 * The salt of a level and round is the finaliser of splitmix64 applied to
 * seed + (4 * level + round + 1) * 0x9E3779B97F4A7C15; the hash is XXH3-64 of the key, seeded with it.
 */
uint64_t cmb_boundary_salt(uint64_t seed, unsigned level, unsigned round);
static inline uint64_t cmb_boundary_hash(uint64_t seed, unsigned level, unsigned round, const void *key, size_t key_size)
{
    return cmb_hash64(key, key_size, cmb_boundary_salt(seed, level, round));
}

/*
 * Target of a level's nodes. Inner ones are half as large as leaves: a commit writes a node of each level, and the sum of what it
 * writes is what size matters for; a level more that all lookups share is cheap (docs/measurements.md).
 */
static inline uint32_t cmb_boundary_target(uint32_t target, unsigned level)
{
    return level == 0 || target < 512 ? target : target / 2;
}
static inline uint32_t cmb_boundary_window(uint32_t target) { return target / 2; }
static inline uint32_t cmb_boundary_cap(uint32_t target) { return target * 4; }

/*
 * What the decider asks of its user. Entries are numbered 1, 2, … from where the decider was started
 * (0: the boundary it was started after); only entries that no reported node ended after are asked for.
 */
typedef struct cmb_decider_ops {
    uint64_t (*hash)(void *ctx, uint64_t index, unsigned round); /* rounds 1..3 */
    uint32_t (*bytes)(void *ctx, uint64_t index);                /* logical; as it was pushed */
    /* The entries after the last reported end, up to `last`, are a node. Non-zero stops and is returned.
     * cut: `last` is not a boundary of round 0 (the level's last entry does not count as cut). */
    int (*node)(void *ctx, uint64_t last, bool cut);
} cmb_decider_ops;

/* An entry that takes part in decisions. Keys ascend, so equal hashes are ordered by index. */
typedef struct cmb_contender {
    uint64_t hash, index;
    uint64_t end; /* logical bytes from the decider's start to the end of this entry */
} cmb_contender;

/* One round over one run: a stream of its own, fed by the round before with what surely belongs to the run. */
typedef struct cmb_round {
    cmb_contender *deque; /* hashes fall from front to back; all in the window of the entry to come */
    uint32_t mask, front, back; /* capacity - 1; running numbers */
    cmb_contender candidate;
    bool has_candidate; /* exceeds its left window, and its right one so far */
    bool oversized;     /* the run being gathered exceeds the cap and goes to the next round */
    uint64_t first;     /* index that starts the stream and is never a boundary */
    uint64_t last;      /* newest index processed */
    uint64_t bytes;     /* logical, to the end of it */
    uint64_t start;     /* first index after the newest boundary */
    uint64_t start_bytes;
    uint64_t passed;    /* indices below were handed to the next round */
} cmb_round;

/* Greedy cuts, when the rounds are used up. */
typedef struct cmb_greedy {
    uint64_t last, bytes;
    uint32_t count;   /* entries in the node being filled, without the held one */
    uint32_t held;    /* bytes of entry `last`, which is added when it is known not to be the run's last */
    bool has_held;
} cmb_greedy;

typedef struct cmb_decider {
    cmb_allocator alloc;
    const cmb_decider_ops *ops;
    void *ctx;
    uint32_t window, cap, target;
    bool internal;    /* the rightmost entry counts as minus infinity: decisions lag by one entry */
    bool left_died;   /* the boundary it was started after is none any more; nothing was reported */
    bool withhold;    /* from the level's start, and it fits a root so far */
    bool has_held;
    uint8_t withheld_count;
    uint64_t count;   /* entries pushed */
    uint64_t bytes;   /* logical, of all of them */
    uint64_t rightmost; /* at an internal level's end: its index; else 0 */
    uint64_t held_hash;
    uint32_t held_bytes;
    struct { uint64_t last; bool cut; } withheld[8];
    cmb_round rounds[CMB_BOUNDARY_ROUNDS];
    cmb_greedy greedy;
} cmb_decider;

void cmb_decider_init(cmb_decider *d, const cmb_allocator *alloc, uint32_t target, bool internal,
                      const cmb_decider_ops *ops, void *ctx);
void cmb_decider_destroy(cmb_decider *d);
/* Forgets everything and starts at the level's start, or right after an entry that is a round-0 boundary unless what
 * follows refutes it (left_died). */
void cmb_decider_start(cmb_decider *d);
int cmb_decider_start_after(cmb_decider *d, uint64_t left_hash);
/* 0, CMB_ENOMEM, or what ops->node returned. */
int cmb_decider_push(cmb_decider *d, uint64_t hash, uint32_t bytes);
/* Does the entry pushed last exceed its left window? The level must have more entries to come. */
int cmb_decider_stands(cmb_decider *d, bool *out_stands);
/* Ends the stream: the last entry is the level's, or (after stands) a round-0 boundary. */
int cmb_decider_finish_level(cmb_decider *d);
int cmb_decider_finish_boundary(cmb_decider *d);

#endif
