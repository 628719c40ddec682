/* SPDX-License-Identifier: ISC */
/*
 * mergefn_counter.c: counters with a slot per replica. In its slot a replica counts what it added and what it took
 * away, each of which only grows: so of two versions of a slot the newer one is the larger, and taking the larger loses
 * nothing and repeats nothing.
 */
#include "store/merging.h"

#define DIGITS_MAX 20u

/* One line, taken apart. */
typedef struct slot {
    cmb_bytes replica;
    uint64_t added, taken;
} slot;

/* Slots of a value, one after the other. */
typedef struct reader {
    const uint8_t *p, *end;
    slot at;
    bool some; /* `at` is one */
} reader;

static bool is_name_byte(uint8_t c)
{
    return c > 0x20 && c != 0x7f;
}

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

/* A decimal number without leading zeros, and the byte `end` behind it. */
static bool read_number(reader *r, uint8_t end, uint64_t *out)
{
    const uint8_t *start = r->p;
    uint64_t n = 0;
    for (; r->p < r->end && is_digit(*r->p); r->p++)
        if (__builtin_mul_overflow(n, 10u, &n) || __builtin_add_overflow(n, (uint64_t)(*r->p - '0'), &n))
            return false;
    if (r->p == start || (*start == '0' && r->p - start > 1) || r->p == r->end || *r->p != end)
        return false;
    r->p++;
    *out = n;
    return true;
}

static int malformed(void)
{
    return cmb_fail(CMB_ESYNTAX, "not a counter: lines of replica, sum added, sum taken away");
}

/* The next slot, whose name has to be above the one before. */
static int read_slot(reader *r)
{
    cmb_bytes before = r->at.replica;
    slot s = {.replica = {r->p, 0}};
    if (r->p == r->end) {
        r->some = false;
        return 0;
    }
    while (r->p < r->end && is_name_byte(*r->p))
        r->p++;
    s.replica.size = (size_t)(r->p - (const uint8_t *)s.replica.data);
    if (s.replica.size - 1 >= CMB_COUNTER_REPLICA_MAX || r->p == r->end || *r->p++ != ' ')
        return malformed();
    if (r->some && cmb_compare(before.data, before.size, s.replica.data, s.replica.size) >= 0)
        return malformed();
    if (!read_number(r, ' ', &s.added) || !read_number(r, '\n', &s.taken))
        return malformed();
    r->at = s;
    r->some = true;
    return 0;
}

static int open_reader(reader *r, cmb_bytes value)
{
    *r = (reader){.p = value.data};
    r->end = value.size ? r->p + value.size : r->p;
    return read_slot(r);
}

/* ---- writing ---- */

typedef struct writer {
    uint8_t *p, *end;
    bool full;
} writer;

static void put(writer *w, const void *data, size_t size)
{
    if (w->full || size > (size_t)(w->end - w->p)) {
        w->full = true;
        return;
    }
    memcpy(w->p, data, size);
    w->p += size;
}

static void put_number(writer *w, uint64_t n, char end)
{
    char text[DIGITS_MAX + 1], *p = text + sizeof text;
    *--p = end;
    do
        *--p = (char)('0' + n % 10);
    while (n /= 10);
    put(w, p, (size_t)(text + sizeof text - p));
}

static void put_slot(writer *w, const slot *s)
{
    put(w, s->replica.data, s->replica.size);
    put(w, " ", 1);
    put_number(w, s->added, ' ');
    put_number(w, s->taken, '\n');
}

/* ---- adding and reading ---- */

static int check_replica(cmb_bytes name)
{
    const uint8_t *p = name.data;
    bool ok = name.size - 1 < CMB_COUNTER_REPLICA_MAX;
    for (size_t i = 0; ok && i < name.size; i++)
        ok = is_name_byte(p[i]);
    return ok ? 0
              : cmb_fail(CMB_EINVAL, "a replica's name has 1 to %u bytes without spaces and control bytes",
                         CMB_COUNTER_REPLICA_MAX);
}

static int add_delta(slot *s, int64_t delta)
{
    uint64_t amount = delta < 0 ? 0 - (uint64_t)delta : (uint64_t)delta;
    uint64_t *sum = delta < 0 ? &s->taken : &s->added;
    if (__builtin_add_overflow(*sum, amount, sum))
        return cmb_fail(CMB_ETOOBIG, "a slot of a counter would reach 2^64");
    return 0;
}

int cmb_counter_add(cmb_bytes value, const char *replica, int64_t delta, void *out, size_t room, size_t *out_size)
{
    slot mine = {.replica = {replica, replica ? strlen(replica) : 0}};
    writer w = {.p = out, .end = (uint8_t *)out + room};
    reader r;
    bool pending = true;
    int error = check_replica(mine.replica);
    if (!error)
        error = open_reader(&r, value);
    while (!error && (r.some || pending)) {
        int order = r.some ? cmb_compare(r.at.replica.data, r.at.replica.size, replica, mine.replica.size) : 1;
        if (!pending || order < 0) {
            put_slot(&w, &r.at);
            error = read_slot(&r);
            continue;
        }
        if (order == 0)
            mine = r.at;
        error = add_delta(&mine, delta);
        put_slot(&w, &mine);
        pending = false;
        if (!error && order == 0)
            error = read_slot(&r);
    }
    if (!error && w.full)
        error = cmb_fail(CMB_ETOOBIG, "a counter does not fit %zu bytes", room);
    if (!error)
        *out_size = (size_t)(w.p - (uint8_t *)out);
    return error;
}

int cmb_counter_read(cmb_bytes value, int64_t *out_total)
{
    uint64_t added = 0, taken = 0;
    reader r;
    int error = open_reader(&r, value);
    for (; !error && r.some; error = read_slot(&r))
        if (__builtin_add_overflow(added, r.at.added, &added) || __builtin_add_overflow(taken, r.at.taken, &taken))
            return cmb_fail(CMB_ETOOBIG, "the sums of a counter reach 2^64");
    if (error)
        return error;
    uint64_t size = added >= taken ? added - taken : taken - added;
    if (size > (uint64_t)INT64_MAX + (added < taken))
        return cmb_fail(CMB_ETOOBIG, "the total of a counter does not fit 64 bits");
    *out_total = added >= taken ? (int64_t)size : (int64_t)(0 - size);
    return 0;
}

/* ---- merging ---- */

/* The slots of both. */
static int unite(reader *a, reader *b, writer *w)
{
    int error = 0;
    while (!error && (a->some || b->some)) {
        const cmb_bytes *x = &a->at.replica, *y = &b->at.replica;
        int order = !a->some ? 1 : !b->some ? -1 : cmb_compare(x->data, x->size, y->data, y->size);
        slot s = order <= 0 ? a->at : b->at;
        if (order == 0) {
            s.added = s.added > b->at.added ? s.added : b->at.added;
            s.taken = s.taken > b->at.taken ? s.taken : b->at.taken;
        }
        put_slot(w, &s);
        if (order <= 0)
            error = read_slot(a);
        if (!error && order >= 0)
            error = read_slot(b);
    }
    return error;
}

/* Of two sides of which one deleted it. */
static int keep(cmb_clash *clash)
{
    cmb_clash_side side = cmb_clash_presence(clash, CMB_SIDE_MINE) == CMB_PRESENT ? CMB_SIDE_MINE : CMB_SIDE_THEIRS;
    cmb_bytes value;
    int64_t total;
    int error = cmb_clash_value(clash, side, &value);
    if (!error)
        error = cmb_counter_read(value, &total);
    if (error)
        return error;
    return side == CMB_SIDE_MINE ? CMB_ANSWER_MINE : CMB_ANSWER_THEIRS;
}

static int merge(cmb_clash *clash, cmb_bytes *out_value)
{
    cmb_bytes mine, theirs;
    reader a, b;
    int error = cmb_clash_value(clash, CMB_SIDE_MINE, &mine);
    if (!error)
        error = cmb_clash_value(clash, CMB_SIDE_THEIRS, &theirs);
    if (!error)
        error = open_reader(&a, mine);
    if (!error)
        error = open_reader(&b, theirs);
    if (error)
        return error;
    size_t room = mine.size + theirs.size;
    uint8_t *out = cmb_clash_memory(clash, room);
    if (!out)
        return CMB_ENOMEM;
    writer w = {.p = out, .end = out + room};
    error = unite(&a, &b, &w);
    if (error)
        return error;
    *out_value = (cmb_bytes){out, (size_t)(w.p - out)};
    return CMB_ANSWER_VALUE;
}

int cmb_merge_counter(void *ctx, cmb_clash *clash, cmb_bytes *out_value)
{
    (void)ctx;
    int answer = cmb_clash_has_both(clash) ? merge(clash, out_value) : keep(clash);
    return answer == CMB_ESYNTAX || answer == CMB_ETOOBIG ? CMB_ANSWER_CONFLICT : answer;
}
