/* SPDX-License-Identifier: ISC */
/*
 * journal.c: journal segments, and what becomes of them.
 *
 * A segment of the head's that holds only records which the next checkpoint makes needless (EDITS, INTENTS, ROOT,
 * SEGMENTS; seals) is a journal segment. A checkpoint drops those that lie wholly below its position: they are no
 * longer mapped and go into quarantine, so that they are taken anew two checkpoints later. Nothing of this is
 * logged. A recovery from the checkpoint before finds them as they were, for until then nobody writes into
 * them; it leaves them mapped, and the next checkpoint drops them again.
 *
 * What keeps one longer: the new ROOT record, or an address in it that this record refers to (a pin); a relocation that is
 * looking at it. Frames that are still queued do not: they are written before the checkpoint is.
 */
#include "log/internal.h"

#include <assert.h>

/* ---- which segments are journals ---- */

static bool frame_lasts(const cmb_frame *frame, uint32_t at)
{
    uint32_t fill = atomic_load_explicit(&frame->fill, memory_order_relaxed);
    while (at < fill) {
        uint32_t length = cmb_record_length(frame->buf + at);
        assert(length >= CMB_RECORD_HEADER && length <= fill - at);
        if (cmb_record_lasts(cmb_record_kind_of(frame->buf + at)))
            return true;
        at += (uint32_t)cmb_align_up(length, CMB_RECORD_ALIGN);
    }
    return false;
}

void cmb_segment_lasts(cmb_log *log, uint64_t number)
{
    cmb_segment *s = cmb_table_at(log, number);
    uint64_t word = atomic_load_explicit(&s->word, memory_order_relaxed);
    if (CMB_WORD_KIND(word) != CMB_SEG_JOURNAL)
        return;
    word ^= (uint64_t)(CMB_SEG_JOURNAL ^ CMB_SEG_PLAIN) << 32;
    atomic_store_explicit(&s->word, word, memory_order_release);
    cmb_radix_dirty(&log->table, cmb_radix_peek(&log->table, number));
}

void cmb_unit_note(const cmb_appender *app)
{
    cmb_log *log = app->log;
    const cmb_frame *frame = app->start_frame ? app->start_frame : log->open->first;
    uint32_t at = app->start_frame ? app->start_fill : CMB_FRAME_HEADER;
    for (; frame; frame = frame->next, at = CMB_FRAME_HEADER) {
        uint64_t number = frame->addr >> log->shift;
        const cmb_segment *s = cmb_table_at(log, number);
        if (CMB_WORD_KIND(atomic_load_explicit(&s->word, memory_order_relaxed)) == CMB_SEG_JOURNAL && frame_lasts(frame, at))
            cmb_segment_lasts(log, number);
    }
}

/* ---- dropping them ---- */

static bool pinned(const cmb_journals *list, uint64_t number)
{
    for (size_t i = 0; i < list->n_pins; i++) {
        if (list->pins[i] >> list->log->shift == number)
            return true;
    }
    return list->root_addr >> list->log->shift == number;
}

/* What an image that was tampered with could say of its place is no reason to lose another segment. */
static bool may_drop(const cmb_journals *list, uint64_t number, uint64_t physical)
{
    cmb_log *log = list->log;
    if (pinned(list, number) || (log->relocating && number >= log->relocating_first && number <= log->relocating_last))
        return false;
    return cmb_space_state(log, physical) == CMB_SEG_LIVE && physical != log->head.physical && physical != log->meta_segment;
}

static int list_add(cmb_journals *list, uint64_t number, uint64_t word, cmb_page *leaf)
{
    cmb_log *log = list->log;
    if (list->n == list->capacity) {
        size_t capacity = list->capacity ? list->capacity * 2 : 16;
        uint64_t *items = cmb_resize(&log->alloc, list->numbers, list->capacity * sizeof *items, capacity * sizeof *items);
        if (!items)
            return CMB_ENOMEM;
        list->numbers = items;
        list->capacity = capacity;
    }
    int e = cmb_space_touch(log, CMB_WORD_PHYSICAL(word));
    if (e)
        return e;
    cmb_radix_dirty(&log->table, leaf);
    list->numbers[list->n++] = number;
    return 0;
}

static int look_at_leaf(cmb_journals *list, cmb_page *leaf, uint64_t end)
{
    uint64_t first = leaf->index * CMB_PAGE_FAN;
    int e = 0;
    for (unsigned i = 0; i < CMB_PAGE_FAN && first + i < end && !e; i++) {
        uint64_t number = first + i, word = atomic_load_explicit(&leaf->u.segments[i].word, memory_order_relaxed);
        if (number < list->log->journal_floor || CMB_WORD_KIND(word) != CMB_SEG_JOURNAL)
            continue;
        if (may_drop(list, number, CMB_WORD_PHYSICAL(word)))
            e = list_add(list, number, word, leaf);
        else if (number < list->floor)
            list->floor = number;
    }
    return e;
}

int cmb_journals_ready(cmb_journals *list)
{
    cmb_log *log = list->log;
    uint64_t end = log->head.segment;
    int e = 0;
    list->floor = end;
    for (uint64_t at = log->journal_floor; at < end && !e;) {
        cmb_page *leaf;
        e = cmb_radix_next(&log->table, at, &leaf);
        if (e || !leaf)
            break;
        at = (leaf->index + 1) * CMB_PAGE_FAN;
        e = look_at_leaf(list, leaf, end);
    }
    if (!e)
        e = cmb_space_room(log, list->n);
    if (e && e != CMB_ENOMEM) { /* a damaged page: checkpoints go on, and the segments stay */
        list->n = 0;
        list->floor = log->journal_floor;
        return 0;
    }
    return e;
}

void cmb_journals_drop(cmb_journals *list)
{
    cmb_log *log = list->log;
    for (size_t i = 0; i < list->n; i++) {
        uint64_t word = atomic_load_explicit(&cmb_table_at(log, list->numbers[i])->word, memory_order_relaxed);
        cmb_table_set(log, list->numbers[i], 0, 0, 0);
        if (cmb_space_state(log, CMB_WORD_PHYSICAL(word)) == CMB_SEG_LIVE) /* else: two of a forged table's entries name it */
            cmb_space_retire(log, CMB_WORD_PHYSICAL(word));
    }
    log->journal_floor = list->floor;
    atomic_fetch_add_explicit(&log->recycled, list->n, memory_order_relaxed);
}

void cmb_journals_free(cmb_journals *list)
{
    cmb_release(&list->log->alloc, list->numbers, list->capacity * sizeof *list->numbers);
}
