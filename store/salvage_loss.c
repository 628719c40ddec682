/* SPDX-License-Identifier: ISC */
/* salvage_loss.c: what is lost, and ranges of keys. */
#include "store/salvage.h"

#include <stdio.h>

#include "io/sort.h"

static const struct loss_text {
    const char *code, *text;
    bool lost;
} losses[] = {
#define LOSS_ROW(name, code, lost, text) {(code), (text), (lost)},
    CMB_LOSS_LIST(LOSS_ROW)
#undef LOSS_ROW
};

static const struct loss_text *row(cmb_loss_kind kind)
{
    static const struct loss_text unknown = {"unknown", "unknown", true};
    return (unsigned)kind < CMB_COUNTOF(losses) ? &losses[kind] : &unknown;
}

const char *cmb_loss_code(cmb_loss_kind kind)
{
    return row(kind)->code;
}

const char *cmb_loss_meaning(cmb_loss_kind kind)
{
    return row(kind)->text;
}

bool cmb_loss_is_lost(cmb_loss_kind kind)
{
    return row(kind)->lost;
}

int cmb_sv_tell(cmb_salvage *s, cmb_loss_kind kind, int error, uint64_t addr, const char *where, cmb_bytes after, cmb_bytes last, const char *text)
{
    char detail[512];
    snprintf(detail, sizeof detail, "%s", error ? cmb_error_detail() : text ? text : "");
    if (row(kind)->lost)
        s->result.losses++;
    if (!s->options->on_loss)
        return 0;
    cmb_loss loss = {.kind = kind, .error = error, .addr = addr, .where = where ? where : "", .after = after, .last = last, .text = detail};
    return s->options->on_loss(s->options->ctx, &loss) ? cmb_fail(CMB_ESTOPPED, "salvage was stopped by its callback") : 0;
}

void cmb_sv_progress(const cmb_salvage *s, const char *stage, uint64_t done, uint64_t total)
{
    if (s->options->on_progress)
        s->options->on_progress(s->options->ctx, stage, done, total);
}

/* ---- growing arrays ---- */

void *cmb_sv_list_add(const cmb_allocator *alloc, cmb_sv_list *list, size_t size)
{
    if (list->n == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 16;
        void *items = cmb_resize(alloc, list->items, list->capacity * size, capacity * size);
        if (!items)
            return NULL;
        list->items = items;
        list->capacity = capacity;
    }
    return (uint8_t *)list->items + size * list->n++;
}

void cmb_sv_list_free(const cmb_allocator *alloc, cmb_sv_list *list, size_t size)
{
    cmb_release(alloc, list->items, list->capacity * size);
    *list = (cmb_sv_list){NULL, 0, 0};
}

/* ---- ranges ---- */

static int copy_bytes(const cmb_allocator *alloc, cmb_bytes from, cmb_bytes *out)
{
    void *copy = from.size ? cmb_alloc(alloc, from.size) : NULL;
    if (from.size && !copy)
        return CMB_ENOMEM;
    if (from.size)
        memcpy(copy, from.data, from.size);
    *out = (cmb_bytes){copy, from.size};
    return 0;
}

static void free_range(const cmb_allocator *alloc, const cmb_sv_range *r)
{
    cmb_release(alloc, (void *)(uintptr_t)r->after.data, r->after.size);
    cmb_release(alloc, (void *)(uintptr_t)r->last.data, r->last.size);
}

void cmb_sv_ranges_free(const cmb_allocator *alloc, cmb_sv_list *ranges)
{
    const cmb_sv_range *r = ranges->items;
    for (size_t i = 0; i < ranges->n; i++)
        free_range(alloc, &r[i]);
    cmb_sv_list_free(alloc, ranges, sizeof *r);
}

int cmb_sv_range_add(const cmb_allocator *alloc, cmb_sv_list *ranges, cmb_bytes after, cmb_bytes last)
{
    cmb_sv_range r = {{NULL, 0}, {NULL, 0}};
    if (ranges->n >= CMB_SV_RANGES_MAX) {
        cmb_sv_ranges_free(alloc, ranges);
        after = last = (cmb_bytes){NULL, 0};
    }
    int error = copy_bytes(alloc, after, &r.after);
    if (!error)
        error = copy_bytes(alloc, last, &r.last);
    cmb_sv_range *place = error ? NULL : cmb_sv_list_add(alloc, ranges, sizeof r);
    if (!place) {
        free_range(alloc, &r);
        return CMB_ENOMEM;
    }
    *place = r;
    return 0;
}

static int compare_bytes(cmb_bytes a, cmb_bytes b)
{
    return cmb_compare(a.data, a.size, b.data, b.size);
}

/* An open start is the empty key, which lies below all; an open end lies above all. */
static bool range_has(const cmb_sv_range *r, cmb_bytes key)
{
    return compare_bytes(r->after, key) < 0 && (!r->last.size || compare_bytes(key, r->last) <= 0);
}

bool cmb_sv_ranges_have(const cmb_sv_list *ranges, cmb_bytes key)
{
    const cmb_sv_range *r = ranges->items;
    size_t low = 0, high = ranges->n; /* to the first that begins at the key or behind it */
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (compare_bytes(r[mid].after, key) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low > 0 && range_has(&r[low - 1], key);
}

static int compare_ranges(const void *a, const void *b)
{
    const cmb_sv_range *x = a, *y = b;
    return compare_bytes(x->after, y->after);
}

static bool ends_before(const cmb_sv_range *a, const cmb_sv_range *b)
{
    return a->last.size && (!b->last.size || compare_bytes(a->last, b->last) < 0);
}

void cmb_sv_ranges_join(const cmb_allocator *alloc, cmb_sv_list *ranges)
{
    cmb_sv_range *r = ranges->items;
    size_t kept = 0;
    if (!ranges->n)
        return;
    cmb_sort(r, ranges->n, sizeof *r, compare_ranges);
    for (size_t i = 1; i < ranges->n; i++) {
        cmb_sv_range *before = &r[kept];
        if (before->last.size && compare_bytes(before->last, r[i].after) < 0) {
            r[++kept] = r[i];
            continue;
        }
        if (ends_before(before, &r[i])) {
            cmb_bytes shorter = before->last;
            before->last = r[i].last;
            r[i].last = shorter;
        }
        free_range(alloc, &r[i]);
    }
    ranges->n = kept + 1;
}

int cmb_sv_ranges_both(const cmb_allocator *alloc, const cmb_sv_list *a, const cmb_sv_list *b, cmb_sv_list *out_ranges)
{
    const cmb_sv_range *x = a->items, *y = b->items;
    cmb_sv_list both = {NULL, 0, 0};
    int error = 0;
    for (size_t i = 0, k = 0; i < a->n && k < b->n && !error;) {
        cmb_bytes after = compare_ranges(&x[i], &y[k]) < 0 ? y[k].after : x[i].after;
        bool x_first = ends_before(&x[i], &y[k]);
        cmb_bytes last = x_first ? x[i].last : y[k].last;
        if (!last.size || compare_bytes(after, last) < 0)
            error = cmb_sv_range_add(alloc, &both, after, last);
        i += x_first;
        k += !x_first;
    }
    if (error)
        cmb_sv_ranges_free(alloc, &both);
    else
        *out_ranges = both;
    return error;
}
