/* SPDX-License-Identifier: ISC */
/* layout.c: structures found on a disk, and their checks. */
#include "tests/fuzz/layout.h"

#include <stdlib.h>

#include "btree/node_private.h"
#include "log/format.h"
#include "log/log.h"
#include "tests/fuzz/fuzz.h"

/* ---- finding ---- */

static void find_parameters(layout *l)
{
    const uint8_t *newest = NULL;
    for (unsigned slot = 0; slot < CMB_SUPER_SLOTS; slot++) {
        const uint8_t *s = l->disk->bytes + (uint64_t)slot * CMB_SUPER_SPACING;
        if ((uint64_t)slot * CMB_SUPER_SPACING < l->disk->size && memcmp(s, CMB_SUPER_MAGIC, 8) == 0 &&
            (!newest || cmb_get64(s + CMB_SUPER_AT_GENERATION) > cmb_get64(newest + CMB_SUPER_AT_GENERATION)))
            newest = s;
    }
    unsigned shift = newest ? newest[CMB_SUPER_AT_SHIFT] : CMB_SEGMENT_SHIFT_MIN;
    l->shift = shift >= CMB_SEGMENT_SHIFT_MIN && shift <= CMB_SEGMENT_SHIFT_MAX ? shift : CMB_SEGMENT_SHIFT_MIN;
    l->hash = newest && newest[CMB_SUPER_AT_HASH] == CMB_HASH_SHA256 && !cmb_hash_check(CMB_HASH_SHA256) ? CMB_HASH_SHA256 : CMB_HASH_XXH3;
    l->name_size = cmb_name_size(l->hash);
}

static void add_record(layout *l, uint8_t *bytes, uint64_t addr, uint32_t length)
{
    if (l->record_count < LAYOUT_RECORDS)
        l->records[l->record_count++] = (layout_record){.bytes = bytes, .addr = addr, .length = length};
}

static void find_records(layout *l, uint8_t *at, uint64_t addr, size_t left)
{
    while (left >= CMB_RECORD_HEADER) {
        uint32_t length = cmb_get32(at);
        if (length < CMB_RECORD_HEADER || length > left)
            return;
        add_record(l, at, addr, length);
        uint64_t step = cmb_align_up(length, CMB_RECORD_ALIGN);
        if (step > left)
            return;
        at += step;
        addr += step;
        left -= step;
    }
}

static void find_frame(layout *l, uint8_t *bytes, uint64_t left)
{
    uint32_t payload = cmb_get32(bytes + CMB_FRAME_AT_PAYLOAD);
    layout_frame f = {.bytes = bytes, .addr = cmb_get64(bytes + CMB_FRAME_AT_ADDR), .old_check = cmb_get64(bytes + CMB_FRAME_AT_CHECK)};
    uint64_t most = left < CMB_FRAME_MAX ? left : CMB_FRAME_MAX;
    f.payload = payload < most - CMB_FRAME_HEADER ? payload : (uint32_t)(most - CMB_FRAME_HEADER);
    if (l->frame_count == LAYOUT_FRAMES)
        return;
    l->frames[l->frame_count++] = f;
    find_records(l, bytes + CMB_FRAME_HEADER, f.addr + CMB_FRAME_HEADER, f.payload);
}

/* What cleaning moved lies in runs that the footer lists. */
static void find_runs(layout *l, uint8_t *footer, uint64_t offset)
{
    uint64_t room = l->disk->size - offset, segment = offset >> l->shift << l->shift;
    uint64_t logicals = cmb_get32(footer + CMB_FOOTER_AT_LOGICALS), runs = cmb_get32(footer + CMB_FOOTER_AT_RUNS);
    if (CMB_FOOTER_HEADER + logicals * CMB_FOOTER_LOGICAL + runs * CMB_FOOTER_RUN > room)
        return;
    if (l->footer_count < LAYOUT_PAGES)
        l->footers[l->footer_count++] = footer;
    uint8_t *run = footer + CMB_FOOTER_HEADER + logicals * CMB_FOOTER_LOGICAL;
    for (uint64_t i = 0; i < logicals; i++) {
        const uint8_t *d = footer + CMB_FOOTER_HEADER + i * CMB_FOOTER_LOGICAL;
        uint64_t first = cmb_get32(d + 8), count = cmb_get32(d + 12);
        for (uint64_t j = first; j < first + count && j < runs; j++) {
            uint8_t *r = run + j * CMB_FOOTER_RUN;
            uint64_t addr = (cmb_get64(d) << l->shift) + 16 * (uint64_t)cmb_get32(r), from = segment + 16 * (uint64_t)cmb_get32(r + 8);
            uint64_t length = 16 * (uint64_t)cmb_get32(r + 4);
            if (from + length <= l->disk->size)
                find_records(l, l->disk->bytes + from, addr, length);
        }
    }
}

static int by_addr(const void *a, const void *b)
{
    const layout_record *x = a, *y = b;
    return (x->addr > y->addr) - (x->addr < y->addr);
}

static int by_frame(const void *a, const void *b)
{
    const layout_frame *x = a, *y = b;
    return (x->addr > y->addr) - (x->addr < y->addr);
}

void layout_find(layout *l, fuzz_disk *disk)
{
    l->disk = disk;
    l->frame_count = l->record_count = l->page_count = l->footer_count = 0;
    find_parameters(l);
    for (uint64_t block = CMB_SUPER_AREA / CMB_BLOCK; block < disk->size / CMB_BLOCK; block++) {
        uint8_t *bytes = disk->bytes + block * CMB_BLOCK;
        if (!disk->used[block])
            continue;
        if (cmb_get32(bytes) == CMB_FRAME_MAGIC)
            find_frame(l, bytes, disk->size - block * CMB_BLOCK);
        else if (cmb_get32(bytes + CMB_PAGE_AT_MAGIC) == CMB_PAGE_MAGIC && l->page_count < LAYOUT_PAGES)
            l->pages[l->page_count++] = bytes;
        else if (cmb_get32(bytes + CMB_FOOTER_AT_MAGIC) == CMB_FOOTER_MAGIC)
            find_runs(l, bytes, block * CMB_BLOCK);
    }
    qsort(l->records, l->record_count, sizeof *l->records, by_addr);
    qsort(l->frames, l->frame_count, sizeof *l->frames, by_frame);
}

layout_record *layout_record_at(layout *l, uint64_t addr)
{
    layout_record key = {.addr = addr};
    return bsearch(&key, l->records, l->record_count, sizeof *l->records, by_addr);
}

/* ---- mending ---- */

static void mend_record(layout_record *r)
{
    uint8_t *p = r->bytes;
    unsigned kind = p[4];
    if (kind == CMB_RECORD_LEAF || kind == CMB_RECORD_NODE) {
        uint32_t body = r->length >= 20 ? cmb_get32(p + 16) : 0;
        if (r->length >= 48 && body <= r->length - 16)
            cmb_put64(p + 8, cmb_hash64(p + 16 + body, r->length - 16 - body, cmb_hash64(p, 8, r->addr)));
        return;
    }
    cmb_put64(p + 8, cmb_hash64(p + 16, r->length - 16, cmb_hash64(p, 8, r->addr)));
}

/* The check of the frame before is the one that it has now. */
static uint64_t renewed(const layout *l, size_t before, uint64_t old)
{
    for (size_t i = before; old && i-- > 0;)
        if (l->frames[i].old_check == old)
            return l->frames[i].new_check;
    return old;
}

static void mend_frames(layout *l)
{
    for (size_t i = 0; i < l->frame_count; i++) {
        layout_frame *f = &l->frames[i];
        cmb_put64(f->bytes + CMB_FRAME_AT_PREV, renewed(l, i, cmb_get64(f->bytes + CMB_FRAME_AT_PREV)));
        f->new_check = cmb_hash64(f->bytes, CMB_FRAME_AT_CHECK, cmb_hash64(f->bytes + CMB_FRAME_HEADER, f->payload, f->addr));
        cmb_put64(f->bytes + CMB_FRAME_AT_CHECK, f->new_check);
    }
}

/* The check of the page at an address, if one lies there. */
static void mend_page_reference(const layout *l, uint8_t *reference)
{
    uint64_t addr = cmb_get64(reference);
    for (size_t i = 0; i < l->page_count; i++)
        if ((uint64_t)(l->pages[i] - l->disk->bytes) == addr)
            memcpy(reference + 8, l->pages[i], 8);
}

static void mend_pages(layout *l)
{
    for (unsigned level = 0; level < CMB_PAGE_LEVELS_MAX; level++)
        for (size_t i = 0; i < l->page_count; i++) {
            uint8_t *page = l->pages[i];
            if (page[CMB_PAGE_AT_LEVEL] != level)
                continue;
            for (size_t e = 0; level && e < CMB_PAGE_FAN; e++)
                mend_page_reference(l, page + CMB_PAGE_HEADER + 16 * e);
            cmb_put64(page, cmb_hash64(page + 8, CMB_BLOCK - 8, (uint64_t)(page - l->disk->bytes)));
        }
}

static void mend_footer(const layout *l, uint8_t *footer)
{
    uint64_t offset = (uint64_t)(footer - l->disk->bytes), segment = offset >> l->shift << l->shift;
    uint32_t length = cmb_get32(footer + CMB_FOOTER_AT_LENGTH), logicals = cmb_get32(footer + CMB_FOOTER_AT_LOGICALS);
    uint8_t *run = footer + CMB_FOOTER_HEADER + (size_t)logicals * CMB_FOOTER_LOGICAL;
    for (uint32_t i = 0; i < logicals; i++) {
        const uint8_t *d = footer + CMB_FOOTER_HEADER + (size_t)i * CMB_FOOTER_LOGICAL;
        for (uint64_t j = cmb_get32(d + 8), end = j + cmb_get32(d + 12); j < end && j < cmb_get32(footer + CMB_FOOTER_AT_RUNS); j++) {
            uint8_t *r = run + j * CMB_FOOTER_RUN;
            uint64_t from = segment + 16 * (uint64_t)cmb_get32(r + 8), size = 16 * (uint64_t)cmb_get32(r + 4);
            if (from + size <= l->disk->size)
                cmb_put64(r + 16, cmb_hash64(l->disk->bytes + from, size, (cmb_get64(d) << l->shift) + 16 * (uint64_t)cmb_get32(r)));
        }
    }
    if (length >= CMB_FOOTER_HEADER && length <= l->disk->size - offset)
        cmb_put64(footer, cmb_hash64(footer + 8, length - 8, offset));
}

static void mend_supers(layout *l, unsigned what)
{
    for (unsigned slot = 0; slot < CMB_SUPER_SLOTS; slot++) {
        uint64_t offset = (uint64_t)slot * CMB_SUPER_SPACING;
        uint8_t *s = l->disk->bytes + offset;
        if (offset >= l->disk->size || memcmp(s, CMB_SUPER_MAGIC, 4) != 0)
            continue;
        if (what & MEND_FRAMES)
            cmb_put64(s + CMB_SUPER_AT_POS_PREV, renewed(l, l->frame_count, cmb_get64(s + CMB_SUPER_AT_POS_PREV)));
        if (what & MEND_PAGES) {
            mend_page_reference(l, s + CMB_SUPER_AT_TABLE);
            mend_page_reference(l, s + CMB_SUPER_AT_MAP);
        }
        cmb_put64(s + CMB_SUPER_AT_CHECK, 0);
        cmb_put64(s + CMB_SUPER_AT_CHECK, cmb_hash64(s, CMB_SUPER_SIZE, offset));
    }
}

void layout_mend(layout *l, unsigned what)
{
    if (what & MEND_NAMES)
        layout_mend_names(l);
    for (size_t i = 0; what & MEND_RECORDS && i < l->record_count; i++)
        mend_record(&l->records[i]);
    if (what & MEND_FRAMES)
        mend_frames(l);
    if (what & MEND_PAGES) {
        mend_pages(l);
        for (size_t i = 0; i < l->footer_count; i++)
            mend_footer(l, l->footers[i]);
    }
    if (what & MEND_SUPER)
        mend_supers(l, what);
}
