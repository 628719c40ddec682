/* SPDX-License-Identifier: ISC */
/*
 * boundary.c: the streaming decider. Each round is a stream over one run. A boundary of round r that
 * is found closes a run: small enough, it is a node; else it is what round r + 1 works on. A run that
 * grows past the cap is handed on while it grows, so that memory is a window per round, whatever
 * comes. What is handed on must surely belong to the run: everything up to the live candidate, which
 * ends the run if it ends before it grows further.
 */
#include "btree/boundary.h"

#include <assert.h>

#define DEQUE_START 64u /* contenders */

uint64_t cmb_boundary_salt(uint64_t seed, unsigned level, unsigned round)
{
    uint64_t z = seed + ((uint64_t)level * CMB_BOUNDARY_ROUNDS + round + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

void cmb_decider_init(cmb_decider *d, const cmb_allocator *alloc, uint32_t target, bool internal,
                      const cmb_decider_ops *ops, void *ctx)
{
    assert(target >= 256 && target <= 65536);
    memset(d, 0, sizeof(*d));
    d->alloc = *alloc;
    d->ops = ops;
    d->ctx = ctx;
    d->target = target;
    d->window = cmb_boundary_window(target);
    d->cap = cmb_boundary_cap(target);
    d->internal = internal;
}

void cmb_decider_destroy(cmb_decider *d)
{
    for (unsigned r = 0; r < CMB_BOUNDARY_ROUNDS; r++) {
        cmb_round *s = &d->rounds[r];
        cmb_release(&d->alloc, s->deque, s->deque ? (s->mask + 1) * sizeof(*s->deque) : 0);
        s->deque = NULL;
    }
}

/* ---- the deque ---- */

static int deque_push(cmb_decider *d, cmb_round *s, const cmb_contender *c)
{
    uint32_t capacity = s->deque ? s->mask + 1 : 0;
    if (CMB_UNLIKELY(s->back - s->front == capacity)) {
        uint32_t grown = capacity ? 2 * capacity : DEQUE_START;
        cmb_contender *deque = cmb_alloc(&d->alloc, grown * sizeof(*deque));
        if (!deque)
            return CMB_ENOMEM;
        for (uint32_t i = 0; i < capacity; i++)
            deque[i] = s->deque[(s->front + i) & s->mask];
        cmb_release(&d->alloc, s->deque, capacity * sizeof(*deque));
        s->deque = deque;
        s->mask = grown - 1;
        s->front = 0;
        s->back = capacity;
    }
    s->deque[s->back++ & s->mask] = *c;
    return 0;
}

static void round_reset(cmb_round *s)
{
    s->front = s->back = 0;
    s->has_candidate = s->oversized = false;
    s->first = s->last = s->bytes = s->start_bytes = 0;
    s->start = s->passed = 1;
}

/* ---- reporting ---- */

static int report(cmb_decider *d, uint64_t last, bool cut)
{
    if (CMB_LIKELY(!d->withhold))
        return d->ops->node(d->ctx, last, cut);
    /* The level still fits a root: between two boundaries lies half of that, so there are few. */
    assert(d->withheld_count < CMB_COUNTOF(d->withheld));
    d->withheld[d->withheld_count].last = last;
    d->withheld[d->withheld_count++].cut = cut;
    return 0;
}

static int let_go(cmb_decider *d)
{
    int error = 0;
    d->withhold = false;
    for (unsigned i = 0; i < d->withheld_count && !error; i++)
        error = d->ops->node(d->ctx, d->withheld[i].last, d->withheld[i].cut);
    d->withheld_count = 0;
    return error;
}

/* ---- greedy cuts ---- */

static int greedy_add(cmb_decider *d, uint64_t index)
{
    cmb_greedy *g = &d->greedy;
    int error = 0;
    if (g->has_held) { /* another follows it: a cut before it leaves two at least */
        if (g->count >= 2 && g->bytes + g->held > d->cap) {
            error = report(d, g->last - 1, true);
            g->count = 0;
            g->bytes = 0;
        }
        g->count++;
        g->bytes += g->held;
    }
    g->last = index;
    g->held = d->ops->bytes(d->ctx, index);
    g->has_held = true;
    return error;
}

static int greedy_end(cmb_decider *d, bool cut)
{
    uint64_t last = d->greedy.last;
    memset(&d->greedy, 0, sizeof(d->greedy));
    return report(d, last, cut);
}

/* ---- one round ---- */

static int round_add(cmb_decider *d, unsigned r, uint64_t index, uint64_t hash, uint32_t bytes);
static int round_end(cmb_decider *d, unsigned r, bool cut);

/* Hands entries up to `last` of an oversized run to the next round. */
static int pass(cmb_decider *d, unsigned r, uint64_t last)
{
    cmb_round *s = &d->rounds[r];
    int error = 0;
    while (s->passed <= last && !error) {
        uint64_t i = s->passed++;
        error = r + 1 < CMB_BOUNDARY_ROUNDS
                    ? round_add(d, r + 1, i, d->ops->hash(d->ctx, i, r + 1), d->ops->bytes(d->ctx, i))
                    : greedy_add(d, i);
    }
    return error;
}

/* The run that is being gathered ends with `last`. */
static int close_run(cmb_decider *d, unsigned r, uint64_t last, uint64_t end, bool cut)
{
    cmb_round *s = &d->rounds[r];
    int error;
    if (CMB_LIKELY(end - s->start_bytes <= d->cap)) {
        error = report(d, last, cut);
    } else {
        error = pass(d, r, last);
        if (!error)
            error = r + 1 < CMB_BOUNDARY_ROUNDS ? round_end(d, r + 1, cut) : greedy_end(d, cut);
    }
    s->start = s->passed = last + 1;
    s->start_bytes = end;
    s->oversized = false;
    return error;
}

static int confirm(cmb_decider *d, unsigned r)
{
    cmb_round *s = &d->rounds[r];
    s->has_candidate = false;
    if (s->candidate.index == 0) /* the boundary on the left lives on */
        return 0;
    return close_run(d, r, s->candidate.index, s->candidate.end, r > 0);
}

/* Is `c` out of the window of the entry `index`, before which `before` bytes lie? */
static inline bool is_past(const cmb_decider *d, const cmb_contender *c, uint64_t index, uint64_t before)
{
    return before - c->end >= d->window && index - c->index > 2;
}

/* Lets an entry contend: with the candidate on its left, and to be one itself. */
static int contend(cmb_decider *d, cmb_round *s, const cmb_contender *c, uint64_t before)
{
    while (s->front != s->back && is_past(d, &s->deque[s->front & s->mask], c->index, before))
        s->front++;
    while (s->front != s->back && s->deque[(s->back - 1) & s->mask].hash <= c->hash)
        s->back--;
    bool exceeds = s->front == s->back;
    int error = deque_push(d, s, c);
    if (error || !exceeds)
        return error;
    /* A candidate that lives is in this window, so it is exceeded. */
    if (s->has_candidate && s->candidate.index == 0)
        d->left_died = true;
    s->has_candidate = c->index != s->first;
    s->candidate = *c;
    return 0;
}

static int round_add(cmb_decider *d, unsigned r, uint64_t index, uint64_t hash, uint32_t bytes)
{
    cmb_round *s = &d->rounds[r];
    int error = 0;
    if (r > 0 && s->first == 0)
        s->first = s->start = s->passed = index;
    uint64_t before = s->bytes;
    if (s->has_candidate && is_past(d, &s->candidate, index, before))
        error = confirm(d, r);
    s->bytes = before + bytes;
    s->last = index;
    if (!error && CMB_LIKELY(index != d->rightmost)) {
        cmb_contender c = {.hash = hash, .index = index, .end = s->bytes};
        error = contend(d, s, &c, before);
    }
    if (error)
        return error;
    uint64_t known = s->has_candidate ? s->candidate.index : index;
    uint64_t known_bytes = s->has_candidate ? s->candidate.end : s->bytes;
    if (CMB_UNLIKELY(known >= s->start && known_bytes - s->start_bytes > d->cap))
        s->oversized = true;
    return CMB_UNLIKELY(s->oversized) ? pass(d, r, known) : 0;
}

/* No more entries: the newest ends the last run. */
static int round_end(cmb_decider *d, unsigned r, bool cut)
{
    cmb_round *s = &d->rounds[r];
    int error = 0;
    if (s->has_candidate && s->last - s->candidate.index >= 2)
        error = confirm(d, r);
    if (!error)
        error = close_run(d, r, s->last, s->bytes, cut);
    round_reset(s);
    return error;
}

/* ---- the stream ---- */

void cmb_decider_start(cmb_decider *d)
{
    for (unsigned r = 0; r < CMB_BOUNDARY_ROUNDS; r++)
        round_reset(&d->rounds[r]);
    memset(&d->greedy, 0, sizeof(d->greedy));
    d->rounds[0].first = 1;
    d->left_died = d->has_held = false;
    d->withhold = true;
    d->withheld_count = 0;
    d->count = d->bytes = d->rightmost = 0;
}

int cmb_decider_start_after(cmb_decider *d, uint64_t left_hash)
{
    cmb_decider_start(d);
    d->withhold = false;
    cmb_round *s = &d->rounds[0];
    s->first = 0;
    s->candidate = (cmb_contender){.hash = left_hash};
    s->has_candidate = true;
    return deque_push(d, s, &s->candidate);
}

static int settle_held(cmb_decider *d)
{
    if (!d->has_held)
        return 0;
    d->has_held = false;
    return round_add(d, 0, d->rounds[0].last + 1, d->held_hash, d->held_bytes);
}

int cmb_decider_push(cmb_decider *d, uint64_t hash, uint32_t bytes)
{
    if (CMB_UNLIKELY(d->left_died))
        return 0;
    d->count++;
    d->bytes += bytes;
    int error = 0;
    if (CMB_UNLIKELY(d->withhold && d->bytes > d->target))
        error = let_go(d);
    if (error)
        return error;
    if (!d->internal)
        return round_add(d, 0, d->count, hash, bytes);
    error = settle_held(d);
    d->held_hash = hash;
    d->held_bytes = bytes;
    d->has_held = true;
    return error;
}

int cmb_decider_stands(cmb_decider *d, bool *out_stands)
{
    if (!d->left_died) {
        int error = settle_held(d);
        if (error)
            return error;
    }
    const cmb_round *s = &d->rounds[0];
    *out_stands = !d->left_died && s->has_candidate && s->candidate.index == d->count && d->count > 0;
    return 0;
}

int cmb_decider_finish_boundary(cmb_decider *d)
{
    assert(!d->left_died && !d->has_held && d->rounds[0].candidate.index == d->count);
    int error = let_go(d);
    return error ? error : round_end(d, 0, false);
}

int cmb_decider_finish_level(cmb_decider *d)
{
    if (d->left_died)
        return 0;
    if (d->internal)
        d->rightmost = d->count;
    int error = settle_held(d);
    const cmb_round *s = &d->rounds[0];
    if (s->has_candidate && s->candidate.index == 0 && d->count < 2)
        d->left_died = true;
    if (error || d->left_died || d->count == 0)
        return error;
    if (d->withhold) {
        d->withhold = false;
        d->withheld_count = 0;
        return report(d, d->count, false);
    }
    return round_end(d, 0, false);
}
