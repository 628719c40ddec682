/* SPDX-License-Identifier: ISC */
/* rescue_scan.c: every record that is left: by frames where they are intact, else at every granule. */
#include "log/rescue_private.h"

typedef struct scanner {
    cmb_log *log;
    cmb_queue *queue;
    uint8_t *buf;       /* a segment */
    uint64_t base;      /* logical address of buf[0] */
    uint64_t length;    /* bytes in it that count */
    int64_t effort;
    cmb_node_plausible_fn node;
    int (*fn)(void *ctx, const cmb_rescue_record *record);
    void *ctx;
    cmb_rescue_record frame; /* what is known of the one around: whole, flags, seq, epoch */
} scanner;

static int tell(scanner *s, uint64_t offset, uint32_t length)
{
    cmb_rescue_record r = s->frame;
    r.addr = s->base + offset;
    r.record = length ? s->buf + offset : NULL;
    r.length = length;
    r.kind = length ? cmb_record_kind_of(s->buf + offset) : 0;
    return s->fn(s->ctx, &r);
}

/* Records one behind the other in bytes that a right check covers. */
static int tell_records(scanner *s, uint64_t at, uint64_t end)
{
    int e = 0;
    while (end - at >= CMB_RECORD_HEADER && !e) {
        uint32_t n = cmb_record_length(s->buf + at);
        if (n < CMB_RECORD_HEADER || n > end - at)
            return 0;
        e = tell(s, at, n);
        at += cmb_align_up(n, CMB_RECORD_ALIGN);
        at = at < end ? at : end;
    }
    return e;
}

/* Length of the record that begins here, 0: none. */
static uint32_t record_at(scanner *s, uint64_t at)
{
    const uint8_t *p = s->buf + at;
    uint64_t left = s->length - at, addr = s->base + at;
    uint32_t length = cmb_get32(p), kind = cmb_get32(p + 4);
    if (kind < CMB_RECORD_LEAF || kind > CMB_RECORD_INTENTS || length < CMB_RECORD_HEADER || length > CMB_RECORD_MAX || length > left)
        return 0;
    if (s->effort < 0)
        return 0;
    if (kind == CMB_RECORD_LEAF || kind == CMB_RECORD_NODE) {
        if (s->node(p, length, addr))
            return length;
        s->effort -= CMB_RECORD_ALIGN; /* its check covers a few bytes only */
        return 0;
    }
    if (cmb_record_check(p, length, addr) == 0)
        return length;
    s->effort -= length;
    return 0;
}

/* Is this the start of an intact frame, of whatever segment? Its blocks. Else what the header says is noted for records nearby. */
static uint32_t intact_frame(scanner *s, uint64_t offset, bool *out_here)
{
    const uint8_t *h = s->buf + offset;
    uint64_t own = cmb_get64(h + CMB_FRAME_AT_ADDR);
    cmb_frame_info info;
    if (cmb_get32(h) != CMB_FRAME_MAGIC || !cmb_frame_header_ok(s->log, h, own, s->length - offset, &info))
        return 0;
    *out_here = own == s->base + offset;
    bool whole = s->effort >= 0 && cmb_frame_check_ok(h, &info);
    if (!whole && s->effort >= 0)
        s->effort -= info.payload;
    if (*out_here)
        s->frame = (cmb_rescue_record){.whole = whole, .flags = info.flags, .seq = info.seq, .epoch = info.epoch};
    return whole ? cmb_frame_blocks(CMB_FRAME_HEADER + info.payload) : 0;
}

static bool is_blank(const uint8_t *block)
{
    return cmb_get64(block) == 0 && memcmp(block, block + 8, CMB_BLOCK - 8) == 0;
}

/* What begins at a block: *out_size 0: look for records in it. */
static int scan_block(scanner *s, uint64_t at, uint64_t *out_size)
{
    bool here = false;
    uint32_t blocks = intact_frame(s, at, &here);
    int e = here ? tell(s, at, 0) : 0;
    *out_size = blocks;
    if (blocks) {
        if (here && !e)
            e = tell_records(s, at + CMB_FRAME_HEADER, at + CMB_FRAME_HEADER + cmb_get32(s->buf + at + CMB_FRAME_AT_PAYLOAD));
        s->frame = (cmb_rescue_record){.whole = false};
    } else if (is_blank(s->buf + at)) {
        *out_size = CMB_BLOCK;
    }
    return e;
}

/* What begins at a granule that no right check covers. */
static int scan_granule(scanner *s, uint64_t at, uint64_t *out_size)
{
    uint32_t n = record_at(s, at);
    *out_size = n ? cmb_align_up(n, CMB_RECORD_ALIGN) : CMB_RECORD_ALIGN;
    return n ? tell(s, at, n) : 0;
}

/* A segment of frames. */
static int scan_frames(scanner *s)
{
    int e = 0;
    for (uint64_t at = 0, size; at < s->length && !e; at += size) {
        size = 0;
        if (at % CMB_BLOCK == 0)
            e = scan_block(s, at, &size);
        if (!e && !size)
            e = scan_granule(s, at, &size);
        cmb_effort_refill(&s->effort, size);
    }
    return e;
}

/* A piece of a compacted segment. */
static int scan_run(scanner *s, uint64_t segment, uint64_t physical, const cmb_run *run)
{
    cmb_log *log = s->log;
    uint64_t length = (uint64_t)run->length * CMB_RECORD_ALIGN, offset = (uint64_t)run->physical * CMB_RECORD_ALIGN;
    uint64_t from = offset & ~(uint64_t)(CMB_BLOCK - 1), to = cmb_align_up(offset + length, CMB_BLOCK);
    int e = cmb_rescue_load(log, s->queue, (physical << log->shift) + from, to - from, s->buf);
    if (e)
        return e;
    memmove(s->buf, s->buf + (offset - from), (size_t)length);
    s->base = (segment << log->shift) + (uint64_t)run->logical * CMB_RECORD_ALIGN;
    s->length = length;
    s->frame = (cmb_rescue_record){.whole = cmb_hash64(s->buf, (size_t)length, s->base) == run->check};
    if (s->frame.whole)
        return tell_records(s, 0, length);
    for (uint64_t at = 0, size; at < length && !e; at += size) {
        e = scan_granule(s, at, &size);
        cmb_effort_refill(&s->effort, size);
    }
    return e;
}

static int scan_compacted(scanner *s, uint64_t segment, uint64_t word)
{
    cmb_run *runs;
    size_t n;
    int e = cmb_runs_copy(s->log, segment, word, &runs, &n);
    if (e) /* without the footer nothing says where its records belong */
        return e == CMB_ENOMEM ? e : 0;
    for (size_t i = 0; i < n && !e; i++)
        e = scan_run(s, segment, CMB_WORD_PHYSICAL(word), &runs[i]);
    cmb_release(&s->log->alloc, runs, (n ? n : 1) * sizeof *runs);
    return e;
}

static int scan_segment(scanner *s, uint64_t segment, uint64_t word)
{
    cmb_log *log = s->log;
    if (CMB_WORD_KIND(word) == CMB_SEG_COMPACTED)
        return scan_compacted(s, segment, word);
    int e = cmb_rescue_load(log, s->queue, CMB_WORD_PHYSICAL(word) << log->shift, log->size, s->buf);
    s->base = segment << log->shift;
    s->length = log->size;
    s->frame = (cmb_rescue_record){.whole = false};
    return e ? e : scan_frames(s);
}

static int scan_all(scanner *s)
{
    cmb_log *log = s->log;
    int e = 0;
    for (uint64_t at = 0; !e;) {
        cmb_page *leaf = NULL;
        e = cmb_radix_next(&log->table, at, &leaf);
        if (e || !leaf)
            break;
        for (unsigned i = 0; i < CMB_PAGE_FAN && !e; i++) {
            uint64_t word = atomic_load_explicit(&leaf->u.segments[i].word, memory_order_acquire);
            if (word)
                e = scan_segment(s, leaf->index * CMB_PAGE_FAN + i, word);
        }
        at = (leaf->index + 1) * CMB_PAGE_FAN;
    }
    return e;
}

int cmb_log_rescue_scan(cmb_log *log, cmb_node_plausible_fn node, int (*fn)(void *ctx, const cmb_rescue_record *record), void *ctx)
{
    scanner s = {.log = log, .effort = CMB_EFFORT_KEPT, .node = node, .fn = fn, .ctx = ctx};
    size_t size = (size_t)log->size + CMB_BLOCK; /* a run's first and last block may be shared */
    s.buf = cmb_io_buffer(&log->alloc, size);
    int e = s.buf ? cmb_log_queue_take(log, &s.queue) : CMB_ENOMEM;
    if (!e)
        e = scan_all(&s);
    if (s.queue)
        cmb_log_queue_give(log, s.queue);
    cmb_io_buffer_release(&log->alloc, s.buf, size);
    return e;
}
