/* SPDX-License-Identifier: ISC */
/*
 * mergefn_lines.c: the union of two texts' lines, since a third.
 *
 * Equal lines get equal numbers. Two texts are aligned at the lines that stand once in each of them, as long as they
 * come in the same order, then between those again, and at what is equal right before and after; a range that goes
 * deeper than DEPTH_MAX stays as it is. So the time is bounded by the number of lines, whatever they are.
 */
#include "store/merging.h"

#include <assert.h>

#define LINES_MAX (1u << 20) /* of one text */
#define DEPTH_MAX 32u
#define NONE UINT32_MAX

typedef struct line {
    const uint8_t *p;
    size_t size; /* bytes, without the newline */
} line;

typedef struct text {
    cmb_bytes value;
    uint32_t *ids; /* of its lines */
    uint32_t n;
} text;

/* Where a line stands in two ranges, and how often. */
typedef struct standing {
    uint32_t count[2], at[2];
} standing;

typedef struct range {
    uint32_t a, a_end, b, b_end, depth;
} range;

typedef struct work {
    const cmb_allocator *alloc;
    text texts[CMB_SIDES];
    line *lines;        /* distinct ones, by number */
    standing *standing; /* by number */
    uint32_t distinct, total;
    uint32_t *slots;    /* hash table of numbers */
    size_t slot_count;  /* power of two */
    uint32_t *match[3]; /* base -> mine, base -> theirs, one block -> another */
    uint32_t *chain, *before; /* of the longest ascending row */
    range *stack;
    size_t depth, capacity;
    uint8_t *out;       /* room for everything */
    size_t used;
} work;

/* ---- lines get numbers ---- */

static uint32_t count_lines(cmb_bytes value)
{
    const uint8_t *p = value.data, *end = value.size ? p + value.size : p;
    uint32_t n = 0;
    while (p < end && n <= LINES_MAX) {
        const uint8_t *newline = memchr(p, '\n', (size_t)(end - p));
        p = newline ? newline + 1 : end;
        n++;
    }
    return n;
}

static uint32_t number_of(work *w, line l)
{
    size_t at = cmb_hash64(l.p, l.size, 0) & (w->slot_count - 1);
    while (w->slots[at] != NONE) {
        const line *known = &w->lines[w->slots[at]];
        if (known->size == l.size && memcmp(known->p, l.p, l.size) == 0)
            return w->slots[at];
        at = (at + 1) & (w->slot_count - 1);
    }
    w->lines[w->distinct] = l;
    w->slots[at] = w->distinct;
    return w->distinct++;
}

static void number_lines(work *w, text *t)
{
    const uint8_t *p = t->value.data;
    const uint8_t *end = t->value.size ? p + t->value.size : p;
    for (uint32_t i = 0; i < t->n; i++) {
        const uint8_t *newline = memchr(p, '\n', (size_t)(end - p));
        line l = {p, (size_t)((newline ? newline : end) - p)};
        t->ids[i] = number_of(w, l);
        p = newline ? newline + 1 : end;
    }
}

/* ---- aligning ---- */

static int push(work *w, range r)
{
    if (r.a == r.a_end || r.b == r.b_end || r.depth > DEPTH_MAX)
        return 0;
    if (w->depth == w->capacity) {
        size_t wanted = w->capacity ? 2 * w->capacity : 64;
        range *stack = cmb_resize(w->alloc, w->stack, w->capacity * sizeof r, wanted * sizeof r);
        if (!stack)
            return CMB_ENOMEM;
        w->stack = stack;
        w->capacity = wanted;
    }
    w->stack[w->depth++] = r;
    return 0;
}

/* What is equal at both ends of the range matches. */
static void trim(range *r, const uint32_t *a, const uint32_t *b, uint32_t *match)
{
    while (r->a < r->a_end && r->b < r->b_end && a[r->a] == b[r->b])
        match[r->a++] = r->b++;
    while (r->a < r->a_end && r->b < r->b_end && a[r->a_end - 1] == b[r->b_end - 1])
        match[--r->a_end] = --r->b_end;
}

static void take_stock(work *w, const range *r, const uint32_t *a, const uint32_t *b)
{
    for (uint32_t i = r->a; i < r->a_end; i++)
        w->standing[a[i]] = (standing){.count = {0}};
    for (uint32_t i = r->b; i < r->b_end; i++)
        w->standing[b[i]] = (standing){.count = {0}};
    for (uint32_t i = r->a; i < r->a_end; i++) {
        w->standing[a[i]].count[0]++;
        w->standing[a[i]].at[0] = i;
    }
    for (uint32_t i = r->b; i < r->b_end; i++) {
        w->standing[b[i]].count[1]++;
        w->standing[b[i]].at[1] = i;
    }
}

/*
 * Among the lines of the range that stand once on either side, the longest row that ascends on both: w->before leads
 * from its last one, which is returned, back to its first. Positions in `a`; NONE: there are no such lines.
 */
static uint32_t longest_row(work *w, const range *r, const uint32_t *a)
{
    uint32_t length = 0; /* w->chain[k]: the end, lowest in b, of a row of k + 1 */
    for (uint32_t i = r->a; i < r->a_end; i++) {
        const standing *s = &w->standing[a[i]];
        if (s->count[0] != 1 || s->count[1] != 1)
            continue;
        uint32_t low = 0, high = length;
        while (low < high) {
            uint32_t mid = low + (high - low) / 2;
            if (w->standing[a[w->chain[mid]]].at[1] < s->at[1])
                low = mid + 1;
            else
                high = mid;
        }
        w->before[i] = low ? w->chain[low - 1] : NONE;
        w->chain[low] = i;
        length += low == length;
    }
    return length ? w->chain[length - 1] : NONE;
}

static int split(work *w, range r, const uint32_t *a, const uint32_t *b, uint32_t *match)
{
    trim(&r, a, b, match);
    if (r.a == r.a_end || r.b == r.b_end)
        return 0;
    take_stock(w, &r, a, b);
    uint32_t a_end = r.a_end, b_end = r.b_end, last = longest_row(w, &r, a);
    if (last == NONE)
        return 0;
    for (uint32_t i = last; i != NONE; i = w->before[i]) {
        uint32_t at = w->standing[a[i]].at[1];
        int error = push(w, (range){i + 1, a_end, at + 1, b_end, r.depth + 1});
        if (error)
            return error;
        match[i] = at;
        a_end = i;
        b_end = at;
    }
    return push(w, (range){r.a, a_end, r.b, b_end, r.depth + 1});
}

/* match[i]: which line of b the i-th of a is, ascending; NONE. */
static int align(work *w, const uint32_t *a, uint32_t a_n, const uint32_t *b, uint32_t b_n, uint32_t *match)
{
    for (uint32_t i = 0; i < a_n; i++)
        match[i] = NONE;
    w->depth = 0;
    int error = push(w, (range){0, a_n, 0, b_n, 0});
    while (!error && w->depth)
        error = split(w, w->stack[--w->depth], a, b, match);
    return error;
}

/* ---- putting together ---- */

static void emit(work *w, const uint32_t *ids, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        const line *l = &w->lines[ids[i]];
        if (l->size)
            memcpy(w->out + w->used, l->p, l->size);
        w->used += l->size;
        w->out[w->used++] = '\n';
    }
}

static bool is_above(const work *w, const uint32_t *a, uint32_t a_n, const uint32_t *b, uint32_t b_n)
{
    for (uint32_t i = 0; i < a_n && i < b_n; i++) {
        const line *x = &w->lines[a[i]], *y = &w->lines[b[i]];
        int order = a[i] == b[i] ? 0 : cmb_compare(x->p, x->size, y->p, y->size);
        if (order)
            return order > 0;
    }
    return a_n > b_n;
}

/* Two blocks that have nothing in common. */
static void emit_both(work *w, const uint32_t *a, uint32_t a_n, const uint32_t *b, uint32_t b_n)
{
    bool swap = is_above(w, a, a_n, b, b_n);
    emit(w, swap ? b : a, swap ? b_n : a_n);
    emit(w, swap ? a : b, swap ? a_n : b_n);
}

/* Two blocks at the same place: what they share once. */
static int emit_union(work *w, const uint32_t *a, uint32_t a_n, const uint32_t *b, uint32_t b_n)
{
    uint32_t *match = w->match[2], from_a = 0, from_b = 0;
    if (!a_n || !b_n) {
        emit_both(w, a, a_n, b, b_n);
        return 0;
    }
    if (is_above(w, a, a_n, b, b_n)) { /* aligning the other way round might find another row */
        const uint32_t *ids = a;
        uint32_t n = a_n;
        a = b, a_n = b_n;
        b = ids, b_n = n;
    }
    int error = align(w, a, a_n, b, b_n, match);
    if (error)
        return error;
    for (uint32_t i = 0; i < a_n; i++) {
        if (match[i] == NONE)
            continue;
        emit_both(w, a + from_a, i - from_a, b + from_b, match[i] - from_b);
        emit(w, a + i, 1);
        from_a = i + 1;
        from_b = match[i] + 1;
    }
    emit_both(w, a + from_a, a_n - from_a, b + from_b, b_n - from_b);
    return 0;
}

/* One side's lines between the base's line i - 1, which it has, and the next that it has; none if it does not have
 * that one. */
static uint32_t inserted(const work *w, const text *side, const uint32_t *match, uint32_t i, uint32_t *out_from)
{
    uint32_t n = w->texts[CMB_SIDE_BASE].n, next = i;
    if (i && match[i - 1] == NONE)
        return 0;
    while (next < n && match[next] == NONE)
        next++;
    *out_from = i ? match[i - 1] + 1 : 0;
    return (next < n ? match[next] : side->n) - *out_from;
}

static int unite(work *w)
{
    const text *base = &w->texts[CMB_SIDE_BASE], *mine = &w->texts[CMB_SIDE_MINE], *theirs = &w->texts[CMB_SIDE_THEIRS];
    int error = align(w, base->ids, base->n, mine->ids, mine->n, w->match[0]);
    if (!error)
        error = align(w, base->ids, base->n, theirs->ids, theirs->n, w->match[1]);
    for (uint32_t i = 0; !error && i <= base->n; i++) {
        uint32_t a = 0, b = 0;
        uint32_t a_n = inserted(w, mine, w->match[0], i, &a), b_n = inserted(w, theirs, w->match[1], i, &b);
        error = emit_union(w, mine->ids + a, a_n, theirs->ids + b, b_n);
        if (i < base->n && w->match[0][i] != NONE && w->match[1][i] != NONE)
            emit(w, base->ids + i, 1);
    }
    return error;
}

/* ---- memory ---- */

static void *take(work *w, size_t n, size_t size, bool *out_ok)
{
    void *p = cmb_alloc(w->alloc, (n + 1) * size);
    *out_ok = *out_ok && p;
    return p;
}

static bool reserve(work *w)
{
    bool ok = true;
    uint32_t most = 0;
    w->slot_count = 16;
    for (unsigned i = 0; i < CMB_SIDES; i++) {
        w->total += w->texts[i].n;
        most = most > w->texts[i].n ? most : w->texts[i].n;
        w->texts[i].ids = take(w, w->texts[i].n, sizeof(uint32_t), &ok);
    }
    while (w->slot_count < 2 * (size_t)w->total)
        w->slot_count *= 2;
    w->lines = take(w, w->total, sizeof *w->lines, &ok);
    w->standing = take(w, w->total, sizeof *w->standing, &ok);
    w->slots = take(w, w->slot_count, sizeof *w->slots, &ok);
    for (unsigned i = 0; i < 3; i++)
        w->match[i] = take(w, most, sizeof(uint32_t), &ok);
    w->chain = take(w, most, sizeof(uint32_t), &ok);
    w->before = take(w, most, sizeof(uint32_t), &ok);
    if (ok)
        memset(w->slots, 0xff, w->slot_count * sizeof *w->slots);
    return ok;
}

static void give(work *w, void *p, size_t n, size_t size)
{
    cmb_release(w->alloc, p, (n + 1) * size);
}

static void release(work *w)
{
    uint32_t most = 0;
    for (unsigned i = 0; i < CMB_SIDES; i++) {
        most = most > w->texts[i].n ? most : w->texts[i].n;
        give(w, w->texts[i].ids, w->texts[i].n, sizeof(uint32_t));
    }
    give(w, w->lines, w->total, sizeof *w->lines);
    give(w, w->standing, w->total, sizeof *w->standing);
    give(w, w->slots, w->slot_count, sizeof *w->slots);
    for (unsigned i = 0; i < 3; i++)
        give(w, w->match[i], most, sizeof(uint32_t));
    give(w, w->chain, most, sizeof(uint32_t));
    give(w, w->before, most, sizeof(uint32_t));
    cmb_release(w->alloc, w->stack, w->capacity * sizeof *w->stack);
}

/* ---- the merge function ---- */

static bool ends_in_newline(cmb_bytes value)
{
    return value.size && ((const uint8_t *)value.data)[value.size - 1] == '\n';
}

/* *out_fits: false for texts that are too long. */
static int load(work *w, cmb_clash *clash, bool *out_fits)
{
    *out_fits = true;
    for (unsigned i = 0; i < CMB_SIDES; i++) {
        text *t = &w->texts[i];
        if (cmb_clash_presence(clash, (cmb_clash_side)i) != CMB_PRESENT)
            continue;
        int error = cmb_clash_value(clash, (cmb_clash_side)i, &t->value);
        if (error && error != CMB_ETOOBIG)
            return error;
        t->n = error ? LINES_MAX + 1 : count_lines(t->value);
        *out_fits = *out_fits && t->n <= LINES_MAX;
    }
    return 0;
}

static int merge(work *w, cmb_clash *clash, cmb_bytes *out_value)
{
    cmb_bytes mine = w->texts[CMB_SIDE_MINE].value, theirs = w->texts[CMB_SIDE_THEIRS].value;
    size_t room = mine.size + theirs.size + 2;
    if (!reserve(w))
        return CMB_ENOMEM;
    w->out = cmb_clash_memory(clash, room);
    if (!w->out)
        return CMB_ENOMEM;
    for (unsigned i = 0; i < CMB_SIDES; i++)
        number_lines(w, &w->texts[i]);
    int error = unite(w);
    if (error)
        return error;
    assert(w->used <= room);
    if (w->used && !ends_in_newline(mine) && !ends_in_newline(theirs))
        w->used--;
    *out_value = (cmb_bytes){w->out, w->used};
    return CMB_ANSWER_VALUE;
}

int cmb_merge_union(void *ctx, cmb_clash *clash, cmb_bytes *out_value)
{
    work w = {.alloc = &clash->store->alloc};
    bool fits;
    (void)ctx;
    if (!cmb_clash_has_both(clash))
        return CMB_ANSWER_CONFLICT;
    int error = load(&w, clash, &fits);
    if (error || !fits)
        return error ? error : CMB_ANSWER_CONFLICT;
    int answer = merge(&w, clash, out_value);
    release(&w);
    return answer;
}
