/* SPDX-License-Identifier: ISC */
/* rescue.c: which image this is, and which physical segment holds which logical one, by looking at all of it. */
#include "log/rescue_private.h"

#include "io/sort.h"

#define LOAD_STEP (1u << 20)
#define VOTES 8u              /* images whose frames are told apart */
#define FRAMES_ENOUGH 65536u  /* to know uuid and segment size */
#define CLAIMS_A_SEGMENT 64u  /* logical segments that one physical segment may claim to hold pieces of */
#define TABLE_ERRORS 4096u    /* damaged table pages before the rest of the table is given up */

/* ---- reading around what cannot be read ---- */

int cmb_rescue_load(cmb_log *log, cmb_queue *queue, uint64_t offset, uint64_t length, uint8_t *out_buf)
{
    uint64_t end = log->caps.size & ~(uint64_t)(CMB_BLOCK - 1);
    for (uint64_t at = 0; at < length;) {
        uint64_t n = length - at < LOAD_STEP ? length - at : LOAD_STEP, from = offset + at;
        int e = from + n <= end ? cmb_io_read(queue, from, out_buf + at, n, 0) : CMB_EIO;
        if (e == CMB_ENOMEM)
            return e;
        for (uint64_t i = 0; e && i < n; i += CMB_BLOCK) {
            if (from + i + CMB_BLOCK > end || cmb_io_read(queue, from + i, out_buf + at + i, CMB_BLOCK, 0))
                memset(out_buf + at + i, 0, CMB_BLOCK);
        }
        at += n;
    }
    return 0;
}

int cmb_log_read_remains(cmb_log *log, uint64_t addr, uint32_t length, void *out_buf)
{
    uint64_t offset, from;
    if (!cmb_log_locate(log, addr, length, &offset))
        return cmb_fail(CMB_ECORRUPT, "%s: what was at %llu lies nowhere", log->dev->name, (unsigned long long)addr);
    from = offset & ~(uint64_t)(CMB_BLOCK - 1);
    size_t size = (size_t)(cmb_align_up(offset + length, CMB_BLOCK) - from);
    uint8_t *wide = cmb_io_buffer(&log->alloc, size);
    cmb_queue *queue = NULL;
    int e = wide ? cmb_log_queue_take(log, &queue) : CMB_ENOMEM;
    if (!e)
        e = cmb_rescue_load(log, queue, from, size, wide);
    if (!e)
        memcpy(out_buf, wide + (offset - from), length);
    if (queue)
        cmb_log_queue_give(log, queue);
    cmb_io_buffer_release(&log->alloc, wide, size);
    return e;
}

/* ---- which image? ---- */

typedef struct vote {
    uint8_t uuid[16];
    uint64_t frames;
    uint64_t fits[CMB_SEGMENT_SHIFT_MAX + 1]; /* by segment shift: frames whose place and address agree with it */
} vote;

typedef struct ballot {
    vote votes[VOTES];
    uint64_t frames;
} ballot;

static bool header_plausible(const uint8_t *h)
{
    static const uint8_t zeros[CMB_FRAME_AT_CHECK - CMB_FRAME_AT_RECORDS - 4];
    uint32_t payload = cmb_get32(h + CMB_FRAME_AT_PAYLOAD);
    return cmb_get32(h) == CMB_FRAME_MAGIC && (cmb_get32(h + CMB_FRAME_AT_FLAGS) & ~CMB_FRAME_FLAGS) == 0
           && payload <= CMB_FRAME_MAX - CMB_FRAME_HEADER && payload % CMB_RECORD_ALIGN == 0
           && cmb_get64(h + CMB_FRAME_AT_ADDR) % CMB_BLOCK == 0
           && memcmp(h + CMB_FRAME_AT_RECORDS + 4, zeros, sizeof zeros) == 0;
}

static void count_vote(ballot *b, const uint8_t *h, uint64_t place)
{
    uint64_t addr = cmb_get64(h + CMB_FRAME_AT_ADDR);
    vote *v = b->votes, *end = v + VOTES;
    while (v < end && v->frames && memcmp(v->uuid, h + CMB_FRAME_AT_UUID, 16) != 0)
        v++;
    if (v == end)
        return;
    memcpy(v->uuid, h + CMB_FRAME_AT_UUID, 16);
    v->frames++;
    b->frames++;
    for (unsigned s = CMB_SEGMENT_SHIFT_MIN; s <= CMB_SEGMENT_SHIFT_MAX; s++)
        v->fits[s] += ((addr ^ place) & ((UINT64_C(1) << s) - 1)) == 0 && addr >> s >= 1 && place >> s >= cmb_first_physical(s);
}

static int hold_ballot(cmb_log *log, cmb_queue *queue, ballot *out)
{
    uint8_t *buf = cmb_io_buffer(&log->alloc, LOAD_STEP);
    int e = buf ? 0 : CMB_ENOMEM;
    for (uint64_t at = CMB_SUPER_AREA; !e && at < log->caps.size && out->frames < FRAMES_ENOUGH; at += LOAD_STEP) {
        e = cmb_rescue_load(log, queue, at, LOAD_STEP, buf);
        for (uint32_t i = 0; !e && i < LOAD_STEP; i += CMB_BLOCK) {
            if (header_plausible(buf + i))
                count_vote(out, buf + i, at + i);
        }
    }
    cmb_io_buffer_release(&log->alloc, buf, LOAD_STEP);
    return e;
}

/* The largest segment size that nearly all of its frames fit: any smaller one fits them as well. */
static unsigned best_shift(const vote *v)
{
    uint64_t most = 0;
    for (unsigned s = CMB_SEGMENT_SHIFT_MIN; s <= CMB_SEGMENT_SHIFT_MAX; s++)
        most = v->fits[s] > most ? v->fits[s] : most;
    for (unsigned s = CMB_SEGMENT_SHIFT_MAX; most && s >= CMB_SEGMENT_SHIFT_MIN; s--) {
        if (v->fits[s] >= most - most / 10)
            return s;
    }
    return 0;
}

static int guess_super(cmb_log *log, cmb_queue *queue, cmb_super *out)
{
    ballot b = {.frames = 0};
    const vote *best = b.votes;
    int e = hold_ballot(log, queue, &b);
    if (e)
        return e;
    for (const vote *v = b.votes; v < b.votes + VOTES; v++)
        best = v->frames > best->frames ? v : best;
    unsigned shift = best_shift(best);
    if (!shift)
        return cmb_fail(CMB_ENOTIMAGE, "%s: neither a superblock nor frames of a log", log->dev->name);
    *out = (cmb_super){.params = *log->rescue};
    memcpy(out->params.uuid, best->uuid, 16);
    out->params.segment_shift = (uint8_t)shift;
    return 0;
}

int cmb_rescue_super(cmb_log *log, cmb_queue *queue, cmb_super_slots *out_slots)
{
    cmb_super_slots slots = {.bad_copies = 0};
    bool newer = false;
    uint8_t *block = cmb_io_buffer(&log->alloc, CMB_BLOCK);
    int e = block ? 0 : CMB_ENOMEM;
    log->rescue_super = false;
    for (unsigned slot = 0; !e && slot < CMB_SUPER_SLOTS; slot++) {
        cmb_super s;
        e = cmb_rescue_load(log, queue, (uint64_t)slot * CMB_SUPER_SPACING, CMB_BLOCK, block);
        int error = e ? e : cmb_super_decode(block, slot, &s);
        newer |= error == CMB_EVERSION;
        if (error || (log->rescue_super && s.generation <= slots.best.generation))
            continue;
        slots.best = s;
        log->rescue_super = true;
    }
    cmb_io_buffer_release(&log->alloc, block, CMB_BLOCK);
    if (!e && !log->rescue_super && newer)
        e = cmb_fail(CMB_EVERSION, "%s: its superblocks are of another version", log->dev->name);
    if (!e && !log->rescue_super)
        e = guess_super(log, queue, &slots.best);
    if (!e)
        *out_slots = slots;
    return e;
}

bool cmb_log_rescue_has_super(const cmb_log *log)
{
    return log->rescue_super;
}

/* ---- who holds what? ---- */

typedef struct claim {
    uint64_t logical, word, end;
    uint64_t weight; /* frames; 0: the table says so */
} claim;

typedef struct claims {
    claim *items;
    size_t n, capacity;
} claims;

static int claims_add(const cmb_log *log, claims *list, const claim *item)
{
    if (list->n == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 64;
        claim *items = cmb_resize(&log->alloc, list->items, list->capacity * sizeof *items, capacity * sizeof *items);
        if (!items)
            return CMB_ENOMEM;
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->n++] = *item;
    return 0;
}

/* Does so high a number come of writing, at most some jumps away from what the superblock knows? */
static bool is_sane(const cmb_log *log, uint64_t logical)
{
    return logical > 0 && logical < log->super.next_logical + CMB_LOGICAL_JUMP_MAX && logical <= UINT64_MAX >> (log->shift + 2);
}

/* What one physical segment claims. */
typedef struct claimant {
    cmb_log *log;
    claims *list;
    size_t first;    /* in the list */
    uint64_t physical;
    uint64_t footer; /* offset of the one that is read */
    size_t listed;   /* claims by footers */
    int64_t effort;
} claimant;

/* Counts a frame for its logical segment. */
static int claim_frame(claimant *c, uint64_t logical)
{
    claims *list = c->list;
    for (size_t i = list->n; i-- > c->first;) {
        if (list->items[i].logical == logical && list->items[i].weight < UINT64_MAX) {
            list->items[i].weight++;
            return 0;
        }
    }
    if (list->n - c->first - c->listed >= CLAIMS_A_SEGMENT || !is_sane(c->log, logical))
        return 0;
    claim item = {logical, cmb_word(c->physical, CMB_SEG_PLAIN, CMB_WORD_CLOSED), c->log->size, 1};
    return claims_add(c->log, list, &item);
}

static int claim_listed(void *ctx, uint64_t logical)
{
    claimant *c = ctx;
    claim item = {logical, cmb_word_compacted(c->physical, c->footer), c->footer, UINT64_MAX};
    if (c->listed >= c->log->size >> CMB_FOOTER_SHARE_SHIFT || !is_sane(c->log, logical))
        return 0;
    c->listed++;
    return claims_add(c->log, c->list, &item);
}

/* Is there a footer at `offset` of the segment? Then all that it lists is here. *out_size: bytes of it, a block if there is none. */
static int claim_footer(claimant *c, const uint8_t *buf, uint64_t offset, uint64_t *out_size)
{
    const uint8_t *f = buf + offset;
    uint32_t length = cmb_get32(f + CMB_FOOTER_AT_LENGTH);
    *out_size = CMB_BLOCK;
    if (length < CMB_FOOTER_HEADER || length > c->log->size - offset || c->effort < 0
        || cmb_get64(f + CMB_FOOTER_AT_ADDR) != (c->physical << c->log->shift) + offset)
        return 0;
    c->footer = offset;
    int e = cmb_footer_each(c->log, f, length, c->physical, offset, claim_listed, c);
    if (e == CMB_ECORRUPT)
        c->effort -= length;
    else
        *out_size = cmb_align_up(length, CMB_BLOCK);
    return e == CMB_ECORRUPT ? 0 : e;
}

/* *out_size as for a footer. */
static int claim_header(claimant *c, const uint8_t *buf, uint64_t offset, uint64_t *out_size)
{
    const cmb_log *log = c->log;
    const uint8_t *h = buf + offset;
    uint64_t addr = cmb_get64(h + CMB_FRAME_AT_ADDR);
    cmb_frame_info info;
    *out_size = CMB_BLOCK;
    if (!header_plausible(h) || (addr & (log->size - 1)) != offset || !cmb_frame_header_ok(log, h, addr, log->size - offset, &info))
        return 0;
    if (c->effort >= 0) {
        if (cmb_frame_check_ok(h, &info))
            *out_size = cmb_frame_blocks(CMB_FRAME_HEADER + info.payload);
        else
            c->effort -= info.payload;
    }
    return claim_frame(c, addr >> log->shift);
}

static int claim_segment(cmb_log *log, claims *list, uint64_t physical, const uint8_t *buf, int64_t *effort)
{
    claimant c = {.log = log, .list = list, .first = list->n, .physical = physical, .effort = *effort};
    int e = 0;
    for (uint64_t offset = 0, step; offset < log->size && !e; offset += step) {
        bool footer = cmb_get32(buf + offset + CMB_FOOTER_AT_MAGIC) == CMB_FOOTER_MAGIC;
        e = footer ? claim_footer(&c, buf, offset, &step) : claim_header(&c, buf, offset, &step);
        cmb_effort_refill(&c.effort, step);
    }
    *effort = c.effort;
    return e;
}

/* What the table says of segments of frames, as far as its pages can be read. Compacted ones need their footers, which were looked at. */
static int claim_table(cmb_log *log, claims *list)
{
    uint64_t at = 0, fan = cmb_radix_fan(&log->table), errors = 0;
    while (at < log->super.next_logical && errors < TABLE_ERRORS) {
        cmb_page *leaf = NULL;
        int e = cmb_radix_next(&log->table, at, &leaf);
        if (e == CMB_ENOMEM)
            return e;
        if (e) {
            errors++;
            at += fan;
            continue;
        }
        if (!leaf)
            break;
        for (unsigned i = 0; i < CMB_PAGE_FAN; i++) {
            uint64_t word = atomic_load_explicit(&leaf->u.segments[i].word, memory_order_relaxed);
            claim c = {leaf->index * fan + i, word, leaf->u.segments[i].end, 0};
            e = word && CMB_WORD_KIND(word) != CMB_SEG_COMPACTED ? claims_add(log, list, &c) : 0;
            if (e)
                return e;
        }
        at = (leaf->index + 1) * fan;
    }
    return 0;
}

static int compare_claims(const void *a, const void *b)
{
    const claim *x = a, *y = b;
    if (x->logical != y->logical)
        return x->logical < y->logical ? -1 : 1;
    if (x->weight != y->weight)
        return x->weight > y->weight ? -1 : 1;
    return x->word < y->word ? -1 : x->word > y->word;
}

/* The heaviest claim of each logical segment becomes the table. */
static int settle_claims(cmb_log *log, claims *list)
{
    int e = 0;
    cmb_radix_free(&log->table);
    cmb_radix_init(&log->table, log, CMB_PAGE_TABLE, &(cmb_radix_root){.levels = 0});
    cmb_sort(list->items, list->n, sizeof *list->items, compare_claims);
    log->next_logical = log->super.next_logical;
    for (size_t i = 0; i < list->n && !e; i++) {
        const claim *c = &list->items[i];
        cmb_segment *segment;
        if (i && c->logical == list->items[i - 1].logical)
            continue;
        e = cmb_table_make(log, c->logical, &segment);
        if (!e)
            cmb_table_set(log, c->logical, c->word, c->end, c->end);
        if (log->next_logical <= c->logical)
            log->next_logical = c->logical + 1;
    }
    return e;
}

int cmb_rescue_map(cmb_log *log, cmb_queue *queue)
{
    claims list = {0};
    int64_t effort = CMB_EFFORT_KEPT;
    uint8_t *buf = cmb_io_buffer(&log->alloc, (size_t)log->size);
    uint64_t count = (log->caps.size + log->size - 1) >> log->shift;
    int e = buf ? claim_table(log, &list) : CMB_ENOMEM;
    for (uint64_t p = cmb_first_physical(log->shift); p < count && p <= UINT32_MAX && !e; p++) {
        e = cmb_rescue_load(log, queue, p << log->shift, log->size, buf);
        if (!e)
            e = claim_segment(log, &list, p, buf, &effort);
    }
    if (!e)
        e = settle_claims(log, &list);
    cmb_io_buffer_release(&log->alloc, buf, (size_t)log->size);
    cmb_release(&log->alloc, list.items, list.capacity * sizeof *list.items);
    return e;
}
