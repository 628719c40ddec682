/* SPDX-License-Identifier: ISC */
/* reader_log.c: docs/format.md, sections 1 to 4. */
#include "reader.h"

#define MIB ((uint64_t)1 << 20)

static int wrong(const char *what, uint64_t at)
{
    return cmb_fail(CMB_ECORRUPT, "%s, at %llu", what, (unsigned long long)at);
}

static bool zeros(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i])
            return false;
    return true;
}

/* ---- superblocks ---- */

static bool super_is_right(const uint8_t *s, uint64_t offset)
{
    uint8_t copy[512];
    memcpy(copy, s, sizeof copy);
    memset(copy + 16, 0, 8);
    return memcmp(s, "CambiuM\x01", 8) == 0 && cmb_get32(s + 8) == 1 && cmb_get32(s + 12) == 0 &&
           cmb_hash64(copy, sizeof copy, offset) == cmb_get64(s + 16);
}

static int choose_super(reader *r, bool older)
{
    for (unsigned slot = 0; slot < 4; slot++) {
        const uint8_t *s = r->bytes + slot * MIB;
        if (!super_is_right(s, slot * MIB))
            return wrong("a superblock is not right", slot * MIB);
        if (cmb_get64(s + 40) % 2 != slot % 2)
            return wrong("a generation lies in a slot that is not its own", slot * MIB);
        if (!zeros(s + 304, 512 - 304))
            return wrong("the end of a superblock means nothing and is not zero", slot * MIB);
        if (!r->super || (cmb_get64(s + 40) > cmb_get64(r->super + 40)) != older)
            r->super = s;
    }
    return 0;
}

static int read_super(reader *r, bool older)
{
    GOLDEN_TRY(choose_super(r, older));
    const uint8_t *s = r->super;
    if (s[64] < 21 || s[64] > 26 || s[65] != 1 || s[66] || s[67] || cmb_get32(s + 228) > 16)
        return wrong("a superblock's fields", (uint64_t)(s - r->bytes));
    r->segment = (uint64_t)1 << s[64];
    if (cmb_get64(s + 80) && cmb_get64(s + 80) != r->size)
        return wrong("the fixed size", cmb_get64(s + 80));
    r->root_addr = cmb_get64(s + 216);
    r->root_length = cmb_get32(s + 224);
    r->next_count = cmb_get32(s + 228);
    for (size_t i = 0; i < r->next_count; i++)
        r->next[i] = cmb_get32(s + 232 + 4 * i);
    return 0;
}

/* ---- the segment table ---- */

/* The page of a level whose number is given; its parent says where it lies. */
static int find_page(const reader *r, uint64_t addr, uint64_t check, unsigned level, uint64_t number,
                     const uint8_t **out_page)
{
    if (addr % 4096 || addr >= r->size || r->size - addr < 4096)
        return wrong("a page outside the device", addr);
    const uint8_t *page = r->bytes + addr;
    if (cmb_get64(page) != check || cmb_hash64(page + 8, 4088, addr) != check)
        return wrong("the check of a page", addr);
    if (memcmp(page + 8, "CMBP", 4) != 0 || page[12] != 1 || page[13] != level || page[14] || page[15] ||
        cmb_get64(page + 16) != addr || cmb_get64(page + 24) > cmb_get64(r->super + 40) ||
        cmb_get64(page + 32) != number || !zeros(page + 40, 24))
        return wrong("the header of a page", addr);
    *out_page = page;
    return 0;
}

static int look_up(const reader *r, uint64_t logical, uint64_t *out_physical)
{
    uint64_t addr = cmb_get64(r->super + 104), check = cmb_get64(r->super + 112), fan = 1;
    unsigned levels = cmb_get32(r->super + 120);
    if (!levels || levels > 8)
        return wrong("a segment that is not in the table", logical);
    for (unsigned level = 1; level < levels; level++)
        fan *= 252;
    for (unsigned level = levels; level-- > 0; fan /= 252) {
        const uint8_t *page = NULL;
        GOLDEN_TRY(find_page(r, addr, check, level, logical / 252 / fan, &page));
        const uint8_t *entry = page + 64 + 16 * (level ? logical / 252 / (fan / 252) % 252 : logical % 252);
        if (level) {
            addr = cmb_get64(entry);
            check = cmb_get64(entry + 8);
            continue;
        }
        if ((entry[4] != 1 && entry[4] != 3) || !zeros(entry + 5, 3))
            return wrong("a segment that the table does not map to frames", logical);
        *out_physical = cmb_get32(entry);
    }
    return 0;
}

/* What was seen since the checkpoint comes before the table. */
static int locate(const reader *r, uint64_t addr, const uint8_t **out_data)
{
    uint64_t logical = addr / r->segment, physical = 0;
    for (size_t i = r->place_count; i-- > 0 && !physical;)
        if (r->places[i].logical == logical)
            physical = r->places[i].physical;
    if (!physical)
        GOLDEN_TRY(look_up(r, logical, &physical));
    uint64_t offset = physical * r->segment;
    if (offset < 4 * MIB || offset >= r->size || r->size - offset < r->segment)
        return wrong("a segment outside the device", offset);
    *out_data = r->bytes + offset + addr % r->segment;
    return 0;
}

static int place(reader *r, uint64_t logical, uint64_t physical)
{
    if (r->place_count == READER_SEGMENTS)
        return wrong("more segments than this reader holds", logical);
    r->places[r->place_count++] = (reader_place){logical, physical};
    return 0;
}

/* ---- records ---- */

bool reader_is_sealed(const reader_record *record)
{
    uint64_t head = cmb_hash64(record->data, 8, record->addr);
    return cmb_hash64(record->data + 16, record->length - 16, head) == cmb_get64(record->data + 8);
}

int reader_find(const reader *r, uint64_t addr, uint32_t length, unsigned kind, reader_record *out_record)
{
    const uint8_t *data = NULL;
    if (!addr || addr % 16 || length < 16 || length > r->segment - addr % r->segment)
        return wrong("a reference to a record", addr);
    GOLDEN_TRY(locate(r, addr, &data));
    if (cmb_get32(data) != length || data[4] != kind || !zeros(data + 5, 3))
        return wrong("the header of a record", addr);
    *out_record = (reader_record){data, addr, length};
    return 0;
}

static int take_next(reader *r, uint32_t physical)
{
    if (r->next_count == 16)
        return wrong("too many next segments", physical);
    r->next[r->next_count++] = physical;
    return 0;
}

static int take_segments(reader *r, const reader_record *record)
{
    const uint8_t *p = record->data + 16;
    uint32_t n = cmb_get32(p), flags = cmb_get32(p + 4);
    if (record->length != 40 + 24 * n || flags > 1 || cmb_get32(p + 20))
        return wrong("a segments record", record->addr);
    for (uint32_t i = 0; i < n; i++) {
        const uint8_t *entry = p + 24 + 24 * i;
        r->streams += entry[12] == 3;
        if (entry[12] == 3)
            GOLDEN_TRY(place(r, cmb_get64(entry), cmb_get32(entry + 8)));
        else if (entry[12] == 5)
            GOLDEN_TRY(take_next(r, cmb_get32(entry + 8)));
        else if (entry[12] != 0 && entry[12] != 6)
            return wrong("an entry of a segments record", record->addr);
    }
    if (flags & 1) {
        r->root_addr = cmb_get64(p + 8);
        r->root_length = cmb_get32(p + 16);
        r->edit_count = 0;
    }
    return 0;
}

static int take_record(reader *r, const reader_record *record)
{
    unsigned kind = record->data[4];
    if (!kind || kind > 10 || !zeros(record->data + 5, 3))
        return wrong("a record of an unknown kind", record->addr);
    if (kind >= 3 && !reader_is_sealed(record))
        return wrong("the check of a record", record->addr);
    if (kind == 8)
        return take_segments(r, record);
    if (kind != 6) /* intents are in the trees of an image that was closed */
        return 0;
    if (r->edit_count == READER_EDITS)
        return wrong("more edits than this reader holds", record->addr);
    r->edits[r->edit_count++] = *record;
    return 0;
}

/* ---- the chain of frames ---- */

/* Where the walk stands. */
typedef struct walk {
    uint64_t segment, offset, physical, sequence, previous, epoch;
    bool in_batch, sealed;
} walk;

static int take_records(reader *r, const uint8_t *frame)
{
    uint64_t addr = cmb_get64(frame + 40), at = 128, end = 128 + cmb_get32(frame + 64);
    for (uint32_t i = cmb_get32(frame + 68); i > 0; i--) {
        if (at + 16 > end)
            return wrong("a frame with fewer records than it says", addr);
        reader_record record = {frame + at, addr + at, cmb_get32(frame + at)};
        if (record.length < 16 || record.length > end - at)
            return wrong("the length of a record", record.addr);
        GOLDEN_TRY(take_record(r, &record));
        at = cmb_align_up(at + record.length, 16);
    }
    return at == end ? 0 : wrong("a frame with more than its records", addr);
}

/* The frame at an offset of a physical segment if it continues the chain; NULL: it does not. */
static const uint8_t *next_frame(const reader *r, const walk *w, uint64_t physical, uint64_t offset)
{
    const uint8_t *f = r->bytes + physical * r->segment + offset;
    if (physical * r->segment >= r->size || offset + 4096 > r->segment || memcmp(f, "CMBF", 4) != 0)
        return NULL;
    uint32_t flags = cmb_get32(f + 4), payload = cmb_get32(f + 64);
    uint64_t addr = cmb_get64(f + 40);
    bool first = flags & 1;
    if (payload % 16 || payload > MIB + 8192 - 128 || payload > r->segment - offset - 128 || !zeros(f + 72, 48))
        return NULL;
    if (cmb_hash64(f, 120, cmb_hash64(f + 128, payload, addr)) != cmb_get64(f + 120))
        return NULL;
    if (memcmp(f + 8, r->super + 24, 16) != 0 || addr % r->segment != offset || flags & 4 ||
        cmb_get64(f + 32) != w->sequence || cmb_get64(f + 48) != w->previous || first == w->in_batch)
        return NULL;
    if (cmb_get64(f + 24) != w->epoch && !(first && flags & 16))
        return NULL;
    return f;
}

static int accept(reader *r, walk *w, const uint8_t *f, uint64_t physical)
{
    uint32_t flags = cmb_get32(f + 4);
    uint64_t addr = cmb_get64(f + 40), end = 128 + cmb_get32(f + 64), offset = addr % r->segment;
    uint64_t blocks = cmb_align_up(end, 4096);
    if (!zeros(f + end, blocks - end))
        return wrong("what follows a frame in its last block", addr);
    if (flags & 8 && cmb_get32(f + 68))
        return wrong("a seal with records", addr);
    if (addr / r->segment != w->segment) {
        GOLDEN_TRY(place(r, addr / r->segment, physical));
        memmove(r->next, r->next + 1, --r->next_count * sizeof *r->next);
    }
    r->frames++;
    r->epochs += cmb_get64(f + 24) != w->epoch;
    *w = (walk){.segment = addr / r->segment,
                .offset = offset + blocks,
                .physical = physical,
                .sequence = w->sequence + (flags & 2 ? 1 : 0),
                .previous = cmb_get64(f + 120),
                .epoch = cmb_get64(f + 24),
                .in_batch = !(flags & 2),
                .sealed = flags & 8};
    return take_records(r, f);
}

/* From the superblock's position to the seal of the close. */
static int follow(reader *r)
{
    const uint8_t *s = r->super;
    walk w = {.segment = cmb_get64(s + 184),
              .offset = cmb_get32(s + 192),
              .physical = cmb_get32(s + 196),
              .sequence = cmb_get64(s + 200),
              .previous = cmb_get64(s + 208),
              .epoch = cmb_get64(s + 48)};
    GOLDEN_TRY(place(r, w.segment, w.physical));
    for (;;) {
        uint64_t physical = w.physical;
        const uint8_t *f = next_frame(r, &w, physical, w.offset);
        if (!f && r->next_count) {
            physical = r->next[0];
            f = next_frame(r, &w, physical, 0);
            if (f && cmb_get64(f + 40) / r->segment <= w.segment)
                f = NULL;
        }
        if (!f)
            break;
        GOLDEN_TRY(accept(r, &w, f, physical));
    }
    return w.sealed && !w.in_batch ? 0 : wrong("the chain ends without a seal", w.segment * r->segment + w.offset);
}

int reader_open(reader *r, const golden_image *image, bool older)
{
    memset(r, 0, sizeof *r);
    r->bytes = image->bytes;
    r->size = image->size;
    if (image->size < 4 * MIB)
        return wrong("an image that is too small", image->size);
    GOLDEN_TRY(read_super(r, older));
    return follow(r);
}
