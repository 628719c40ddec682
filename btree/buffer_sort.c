/* SPDX-License-Identifier: ISC */
/*
 * Sorting the tail: radix sort on the 8-byte heads; groups of equal heads again, on the bytes after
 * what they share. So the work follows the bytes that tell keys apart, not the number of keys that
 * begin alike. Every step is stable.
 */
#include "btree/buffer.h"

#define SMALL 24u /* items that insertion sort takes */

static int compare_from(const cmb_buffer_entry *a, const cmb_buffer_entry *b, size_t depth)
{
    return cmb_compare(a->bytes + depth, a->key_size - depth, b->bytes + depth, b->key_size - depth);
}

/* All keys of the items share `depth` bytes. */
static void insertion_sort(cmb_buffer_item *items, size_t n, size_t depth)
{
    for (size_t i = 1; i < n; i++) {
        cmb_buffer_item item = items[i];
        size_t at = i;
        while (at && (items[at - 1].head > item.head ||
                      (items[at - 1].head == item.head && compare_from(items[at - 1].entry, item.entry, depth) > 0))) {
            items[at] = items[at - 1];
            at--;
        }
        items[at] = item;
    }
}

/* One counting pass by one byte of the heads. */
static void radix_pass(const cmb_buffer_item *from, cmb_buffer_item *to, size_t n, const size_t *counts, unsigned shift)
{
    size_t at[256], sum = 0;
    for (unsigned d = 0; d < 256; d++) {
        at[d] = sum;
        sum += counts[d];
    }
    for (size_t i = 0; i < n; i++)
        to[at[(from[i].head >> shift) & 255]++] = from[i];
}

static void radix_sort(cmb_buffer_item *items, cmb_buffer_item *scratch, size_t n)
{
    size_t counts[8][256];
    cmb_buffer_item *from = items, *to = scratch;
    memset(counts, 0, sizeof counts);
    for (size_t i = 0; i < n; i++)
        for (unsigned b = 0; b < 8; b++)
            counts[b][(items[i].head >> (8 * b)) & 255]++;
    for (unsigned b = 0; b < 8; b++) {
        if (counts[b][(from[0].head >> (8 * b)) & 255] == n)
            continue; /* all alike in this byte */
        radix_pass(from, to, n, counts[b], 8 * b);
        cmb_buffer_item *swap = from;
        from = to;
        to = swap;
    }
    if (from != items)
        memcpy(items, from, n * sizeof *items);
}

typedef struct group {
    size_t begin, n, depth; /* items whose keys share `depth` bytes; heads are loaded from there */
} group;

/*
 * Items whose heads from `depth` tie: keys that end within the head come first, the shorter before the
 * longer; the others are headed again after all they share. Returns how many of the others there are, at the end.
 */
static size_t split_tied(cmb_buffer_item *items, cmb_buffer_item *scratch, size_t n, size_t *inout_depth)
{
    size_t depth = *inout_depth + 8, ended = 0, shared;
    for (size_t i = 0; i < n; i++) {
        size_t size = items[i].entry->key_size;
        items[i].head = size > depth ? 9 : size - *inout_depth;
        ended += size <= depth;
    }
    if (ended)
        radix_sort(items, scratch, n);
    items += ended;
    n -= ended;
    if (!n)
        return 0;
    shared = items[0].entry->key_size;
    for (size_t i = 1; i < n; i++) {
        const cmb_buffer_entry *a = items[0].entry, *b = items[i].entry;
        size_t limit = shared < b->key_size ? shared : b->key_size, at = depth;
        while (at < limit && a->bytes[at] == b->bytes[at])
            at++;
        shared = at;
    }
    for (size_t i = 0; i < n; i++)
        items[i].head = cmb_buffer_head(items[i].entry->bytes, items[i].entry->key_size, shared);
    *inout_depth = shared;
    return n;
}

int cmb_buffer_sort(const cmb_allocator *alloc, cmb_buffer_item *items, size_t n, size_t depth, bool *out_deeper)
{
    *out_deeper = false;
    if (n <= SMALL) {
        insertion_sort(items, n, depth);
        return 0;
    }
    /* Only groups beyond SMALL wait on the stack, and they do not overlap. */
    size_t stack_bytes = (n / SMALL + 1) * sizeof(group), scratch_bytes = n * sizeof *items;
    group *stack = cmb_alloc(alloc, stack_bytes + scratch_bytes);
    if (!stack)
        return CMB_ENOMEM;
    cmb_buffer_item *scratch = (cmb_buffer_item *)((uint8_t *)stack + cmb_align_up(stack_bytes, 8));
    size_t waiting = 0;
    cmb_os_populate(scratch, scratch_bytes);
    stack[waiting++] = (group){0, n, depth};
    while (waiting) {
        group g = stack[--waiting];
        cmb_buffer_item *at = items + g.begin;
        radix_sort(at, scratch, g.n);
        for (size_t i = 0, run; i < g.n; i += run) {
            for (run = 1; i + run < g.n && at[i + run].head == at[i].head; run++)
                ;
            size_t tied_depth = g.depth;
            if (run <= SMALL) {
                insertion_sort(at + i, run, tied_depth);
                continue;
            }
            *out_deeper = true;
            size_t left = split_tied(at + i, scratch, run, &tied_depth);
            if (left > SMALL)
                stack[waiting++] = (group){g.begin + i + run - left, left, tied_depth};
            else if (left)
                insertion_sort(at + i + run - left, left, tied_depth);
        }
    }
    cmb_release(alloc, stack, stack_bytes + scratch_bytes);
    return 0;
}
