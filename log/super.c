/* SPDX-License-Identifier: ISC */
/*
 * super.c: the four superblock slots. The older generation's pair is overwritten by each checkpoint;
 * of a pair one valid copy is enough.
 */
#include "log/internal.h"

#include <stdio.h>

#define MAP_LEVELS_MAX 4u /* what states of 2^32 segments need: with more, numbers of entries would not fit 64 bits */

static uint64_t slot_offset(unsigned slot)
{
    return (uint64_t)slot * CMB_SUPER_SPACING;
}

static uint64_t super_check(const uint8_t *block, unsigned slot)
{
    uint8_t copy[CMB_SUPER_SIZE];
    memcpy(copy, block, sizeof copy);
    cmb_put64(copy + CMB_SUPER_AT_CHECK, 0);
    return cmb_hash64(copy, sizeof copy, slot_offset(slot));
}

static void encode_root(uint8_t *p, const cmb_radix_root *root)
{
    cmb_put64(p, root->ref.addr);
    cmb_put64(p + 8, root->ref.check);
    cmb_put32(p + 16, root->levels);
    cmb_put32(p + 20, root->pages);
}

static void decode_root(const uint8_t *p, cmb_radix_root *out)
{
    out->ref.addr = cmb_get64(p);
    out->ref.check = cmb_get64(p + 8);
    out->levels = cmb_get32(p + 16);
    out->pages = cmb_get32(p + 20);
}

void cmb_super_encode(const cmb_super *s, unsigned slot, uint8_t block[CMB_BLOCK])
{
    memset(block, 0, CMB_BLOCK);
    memcpy(block, CMB_SUPER_MAGIC, 8);
    cmb_put32(block + CMB_SUPER_AT_VERSION, CMB_SUPER_VERSION);
    memcpy(block + CMB_SUPER_AT_UUID, s->params.uuid, 16);
    cmb_put64(block + CMB_SUPER_AT_GENERATION, s->generation);
    cmb_put64(block + CMB_SUPER_AT_EPOCH, s->epoch);
    cmb_put64(block + CMB_SUPER_AT_DURABLE, s->durable_seq);
    block[CMB_SUPER_AT_SHIFT] = s->params.segment_shift;
    block[CMB_SUPER_AT_HASH] = s->params.hash_kind;
    cmb_put32(block + CMB_SUPER_AT_NODE_TARGET, s->params.node_target);
    cmb_put64(block + CMB_SUPER_AT_SEED, s->params.boundary_seed);
    cmb_put64(block + CMB_SUPER_AT_FIXED_SIZE, s->params.fixed_size);
    cmb_put64(block + CMB_SUPER_AT_COUNT, s->count);
    cmb_put64(block + CMB_SUPER_AT_FRESH, s->fresh);
    encode_root(block + CMB_SUPER_AT_TABLE, &s->table);
    encode_root(block + CMB_SUPER_AT_MAP, &s->map);
    cmb_put64(block + CMB_SUPER_AT_META_SEGMENT, s->meta_segment);
    cmb_put64(block + CMB_SUPER_AT_META_NEXT, s->meta_next);
    cmb_put64(block + CMB_SUPER_AT_META_PAGES, s->meta_pages);
    cmb_put64(block + CMB_SUPER_AT_NEXT_LOGICAL, s->next_logical);
    cmb_put64(block + CMB_SUPER_AT_POS_SEGMENT, s->pos.segment);
    cmb_put32(block + CMB_SUPER_AT_POS_OFFSET, s->pos.offset);
    cmb_put32(block + CMB_SUPER_AT_POS_PHYSICAL, s->pos.physical);
    cmb_put64(block + CMB_SUPER_AT_POS_SEQ, s->pos.seq);
    cmb_put64(block + CMB_SUPER_AT_POS_PREV, s->pos.prev);
    cmb_put64(block + CMB_SUPER_AT_ROOT, s->root_addr);
    cmb_put32(block + CMB_SUPER_AT_ROOT_LENGTH, s->root_length);
    cmb_put32(block + CMB_SUPER_AT_NEXT_COUNT, s->n_next);
    for (unsigned i = 0; i < s->n_next; i++)
        cmb_put32(block + CMB_SUPER_AT_NEXT + 4 * i, s->next[i]);
    cmb_put64(block + CMB_SUPER_AT_JOURNALS, s->journals);
    cmb_put64(block + CMB_SUPER_AT_CHECK, super_check(block, slot));
}

static void decode_fields(const uint8_t *block, cmb_super *s)
{
    memset(s, 0, sizeof *s);
    memcpy(s->params.uuid, block + CMB_SUPER_AT_UUID, 16);
    s->generation = cmb_get64(block + CMB_SUPER_AT_GENERATION);
    s->epoch = cmb_get64(block + CMB_SUPER_AT_EPOCH);
    s->durable_seq = cmb_get64(block + CMB_SUPER_AT_DURABLE);
    s->params.segment_shift = block[CMB_SUPER_AT_SHIFT];
    s->params.hash_kind = block[CMB_SUPER_AT_HASH];
    s->params.node_target = cmb_get32(block + CMB_SUPER_AT_NODE_TARGET);
    s->params.boundary_seed = cmb_get64(block + CMB_SUPER_AT_SEED);
    s->params.fixed_size = cmb_get64(block + CMB_SUPER_AT_FIXED_SIZE);
    s->count = cmb_get64(block + CMB_SUPER_AT_COUNT);
    s->fresh = cmb_get64(block + CMB_SUPER_AT_FRESH);
    decode_root(block + CMB_SUPER_AT_TABLE, &s->table);
    decode_root(block + CMB_SUPER_AT_MAP, &s->map);
    s->meta_segment = cmb_get64(block + CMB_SUPER_AT_META_SEGMENT);
    s->meta_next = cmb_get64(block + CMB_SUPER_AT_META_NEXT);
    s->meta_pages = cmb_get64(block + CMB_SUPER_AT_META_PAGES);
    s->next_logical = cmb_get64(block + CMB_SUPER_AT_NEXT_LOGICAL);
    s->pos.segment = cmb_get64(block + CMB_SUPER_AT_POS_SEGMENT);
    s->pos.offset = cmb_get32(block + CMB_SUPER_AT_POS_OFFSET);
    s->pos.physical = cmb_get32(block + CMB_SUPER_AT_POS_PHYSICAL);
    s->pos.seq = cmb_get64(block + CMB_SUPER_AT_POS_SEQ);
    s->pos.prev = cmb_get64(block + CMB_SUPER_AT_POS_PREV);
    s->root_addr = cmb_get64(block + CMB_SUPER_AT_ROOT);
    s->root_length = cmb_get32(block + CMB_SUPER_AT_ROOT_LENGTH);
    s->n_next = cmb_get32(block + CMB_SUPER_AT_NEXT_COUNT);
    for (unsigned i = 0; i < CMB_NEXT_MAX; i++)
        s->next[i] = cmb_get32(block + CMB_SUPER_AT_NEXT + 4 * i);
    s->journals = cmb_get64(block + CMB_SUPER_AT_JOURNALS);
}

static bool root_sane(const cmb_super *s, const cmb_radix_root *root)
{
    uint64_t first = cmb_first_physical(s->params.segment_shift) << s->params.segment_shift;
    if (root->levels == 0)
        return root->ref.addr == 0;
    return root->levels <= CMB_PAGE_LEVELS_MAX
           && (root->ref.addr == 0
               || (root->ref.addr % CMB_BLOCK == 0 && root->ref.addr >= first
                   && root->ref.addr < s->count << s->params.segment_shift));
}

/* A name of the first field that cannot be, or NULL. */
static const char *insane_field(const cmb_super *s)
{
    unsigned shift = s->params.segment_shift;
    if (shift < CMB_SEGMENT_SHIFT_MIN || shift > CMB_SEGMENT_SHIFT_MAX)
        return "segment size";
    uint64_t first = cmb_first_physical(shift);
    if (s->count <= first || s->count > UINT32_MAX)
        return "segment count";
    if (s->params.fixed_size && s->params.fixed_size >> shift < s->count)
        return "fixed size";
    if (s->fresh < first || s->fresh > s->count)
        return "first unused segment";
    if (!root_sane(s, &s->table))
        return "segment table's root";
    if (!root_sane(s, &s->map) || s->map.levels > MAP_LEVELS_MAX)
        return "state map's root";
    if (s->meta_segment && (s->meta_segment < first || s->meta_segment >= s->count))
        return "metadata segment";
    if (s->meta_next > (UINT64_C(1) << shift) / CMB_BLOCK)
        return "metadata page";
    if (s->pos.segment == 0 || s->pos.segment >= s->next_logical || s->next_logical > CMB_SCRATCH_BASE >> shift)
        return "position's segment";
    if (s->journals > s->pos.segment)
        return "first journal segment";
    if (s->pos.offset > UINT64_C(1) << shift || s->pos.offset % CMB_BLOCK)
        return "position's offset";
    if (s->pos.physical < first || s->pos.physical >= s->count)
        return "position's physical segment";
    if (s->pos.seq == 0)
        return "position's sequence";
    if (s->n_next > CMB_NEXT_MAX)
        return "count of next segments";
    for (unsigned i = 0; i < s->n_next; i++) {
        if (s->next[i] < first || s->next[i] >= s->count)
            return "next segments";
    }
    if (s->root_length > CMB_RECORD_MAX || (s->root_length && s->root_addr % CMB_RECORD_ALIGN))
        return "root record";
    return NULL;
}

int cmb_super_decode(const uint8_t block[CMB_BLOCK], unsigned slot, cmb_super *out_super)
{
    if (memcmp(block, CMB_SUPER_MAGIC, 8) != 0)
        return cmb_fail(CMB_ENOTIMAGE, "superblock %u: no magic", slot);
    if (cmb_get64(block + CMB_SUPER_AT_CHECK) != super_check(block, slot))
        return cmb_fail(CMB_ECORRUPT, "superblock %u: wrong check", slot);
    uint32_t version = cmb_get32(block + CMB_SUPER_AT_VERSION);
    uint32_t incompat = cmb_get32(block + CMB_SUPER_AT_INCOMPAT);
    if (version != CMB_SUPER_VERSION || incompat)
        return cmb_fail(CMB_EVERSION, "superblock %u: format version %u, incompatible features 0x%x", slot,
                        (unsigned)version, (unsigned)incompat);
    cmb_super s;
    decode_fields(block, &s);
    const char *field = insane_field(&s);
    if (field)
        return cmb_fail(CMB_ECORRUPT, "superblock %u: impossible %s", slot, field);
    if ((cmb_super_pair(s.generation) >> slot & 1) == 0)
        return cmb_fail(CMB_ECORRUPT, "superblock %u: generation %llu belongs elsewhere", slot,
                        (unsigned long long)s.generation);
    *out_super = s;
    return 0;
}

/* The newest generation wins; copies of it that do not decode, or are older, are noted. */
static int choose(const uint8_t *blocks, cmb_super_slots *out)
{
    bool found = false, seen_magic = false;
    unsigned good = 0; /* of the best generation */
    cmb_super best = {0};
    for (unsigned slot = 0; slot < CMB_SUPER_SLOTS; slot++) {
        cmb_super s;
        int e = cmb_super_decode(blocks + (size_t)slot * CMB_BLOCK, slot, &s);
        seen_magic |= e != CMB_ENOTIMAGE;
        if (e) {
            if (e == CMB_EVERSION)
                return e;
        } else if (!found || s.generation > best.generation) {
            best = s;
            good = 1u << slot;
            found = true;
        } else if (s.generation == best.generation) {
            good |= 1u << slot;
        }
    }
    if (!found)
        return seen_magic ? cmb_fail(CMB_ECORRUPT, "all superblocks are damaged")
                          : cmb_fail(CMB_ENOTIMAGE, "no superblock found");
    out->best = best;
    out->bad_copies = cmb_super_pair(best.generation) & ~good;
    return 0;
}

static int check_against_device(cmb_device *dev, const cmb_super *s)
{
    cmb_caps caps;
    cmb_device_caps(dev, &caps);
    uint64_t need = s->params.fixed_size ? s->params.fixed_size : s->count << s->params.segment_shift;
    if (caps.size < need)
        return cmb_fail(CMB_ECORRUPT, "%s: the image is shorter than it says: %llu bytes instead of %llu", dev->name,
                        (unsigned long long)caps.size, (unsigned long long)need);
    return 0;
}

int cmb_super_load(cmb_device *dev, cmb_queue *queue, const cmb_allocator *alloc, cmb_super_slots *out_slots)
{
    cmb_caps caps;
    cmb_device_caps(dev, &caps);
    uint8_t *blocks = cmb_io_buffer(alloc, (size_t)CMB_SUPER_SLOTS * CMB_BLOCK);
    if (!blocks)
        return CMB_ENOMEM;
    memset(blocks, 0, (size_t)CMB_SUPER_SLOTS * CMB_BLOCK);
    uint32_t flags = caps.flags & CMB_CAP_UNCACHED ? CMB_IO_UNCACHED : 0;
    int error = 0, e = 0;
    unsigned unread = 0;
    for (unsigned slot = 0; slot < CMB_SUPER_SLOTS; slot++) {
        if (slot_offset(slot) + CMB_BLOCK > caps.size)
            continue;
        uint8_t *block = blocks + (size_t)slot * CMB_BLOCK;
        e = cmb_io_read(queue, slot_offset(slot), block, CMB_BLOCK, flags);
        if (e) { /* a copy that cannot be read is a damaged copy */
            memset(block, 0, CMB_BLOCK);
            error = e;
            unread++;
        }
    }
    cmb_super_slots slots;
    e = choose(blocks, &slots);
    cmb_io_buffer_release(alloc, blocks, (size_t)CMB_SUPER_SLOTS * CMB_BLOCK);
    if (e == CMB_ENOTIMAGE && unread)
        return cmb_fail(error, "%s: superblocks cannot be read", dev->name);
    if (e)
        return cmb_fail_in(e, "%s", dev->name);
    e = check_against_device(dev, &slots.best);
    if (e)
        return e;
    *out_slots = slots;
    return 0;
}

int cmb_super_write(cmb_queue *queue, const cmb_super *super, unsigned slots, uint8_t *buffer)
{
    for (unsigned slot = 0; slot < CMB_SUPER_SLOTS; slot++) {
        if ((slots >> slot & 1) == 0)
            continue;
        cmb_super_encode(super, slot, buffer);
        int e = cmb_io_write(queue, slot_offset(slot), buffer, CMB_BLOCK);
        if (e)
            return e;
    }
    return 0;
}

int cmb_log_describe_super(cmb_device *dev, const cmb_allocator *alloc, unsigned slot, char *out_text, size_t size,
                           bool *out_valid)
{
    if (slot >= CMB_SUPER_SLOTS || size == 0)
        return cmb_fail(CMB_EINVAL, "superblock slot %u", slot);
    cmb_allocator a = cmb_allocator_or_default(alloc);
    cmb_queue *queue;
    int e = cmb_queue_open(dev, 1, &queue);
    if (e)
        return e;
    uint8_t *block = cmb_io_buffer(&a, CMB_BLOCK);
    e = block ? cmb_io_read(queue, slot_offset(slot), block, CMB_BLOCK, 0) : CMB_ENOMEM;
    cmb_queue_close(queue);
    if (e) {
        cmb_io_buffer_release(&a, block, CMB_BLOCK);
        return e;
    }
    cmb_super s, unused;
    decode_fields(block, &s);
    bool magic = memcmp(block, CMB_SUPER_MAGIC, 8) == 0;
    bool valid = cmb_super_decode(block, slot, &unused) == 0;
    int n = snprintf(out_text, size,
                     "slot: %u\noffset: %llu\nmagic: %s\nvalid: %s%s%s\nversion: %u\nincompat: 0x%x\ncheck: %016llx\n"
                     "generation: %llu\nepoch: %016llx\ndurable-seq: %llu\nsegment-size: %llu\nhash: %u\n"
                     "node-target: %u\nboundary-seed: %016llx\nfixed-size: %llu\nsegments: %llu\nfresh-from: %llu\n",
                     slot, (unsigned long long)slot_offset(slot), magic ? "yes" : "no", valid ? "yes" : "no",
                     valid ? "" : ": ", valid ? "" : cmb_error_detail(),
                     (unsigned)cmb_get32(block + CMB_SUPER_AT_VERSION), (unsigned)cmb_get32(block + CMB_SUPER_AT_INCOMPAT),
                     (unsigned long long)cmb_get64(block + CMB_SUPER_AT_CHECK), (unsigned long long)s.generation,
                     (unsigned long long)s.epoch, (unsigned long long)s.durable_seq,
                     s.params.segment_shift < 63 ? 1ull << s.params.segment_shift : 0ull, (unsigned)s.params.hash_kind,
                     (unsigned)s.params.node_target, (unsigned long long)s.params.boundary_seed,
                     (unsigned long long)s.params.fixed_size, (unsigned long long)s.count, (unsigned long long)s.fresh);
    size_t used = n < 0 ? 0 : (size_t)n < size ? (size_t)n : size - 1;
    n = snprintf(out_text + used, size - used,
                 "table: %llu check %016llx levels %u pages %u\nstate-map: %llu check %016llx levels %u pages %u\n"
                 "metadata: segment %llu page %llu written %llu\nnext-logical: %llu\n"
                 "position: segment %llu offset %u physical %u seq %llu prev %016llx\nroot: %llu length %u\njournals-from: %llu\nnext:",
                 (unsigned long long)s.table.ref.addr, (unsigned long long)s.table.ref.check, (unsigned)s.table.levels,
                 (unsigned)s.table.pages, (unsigned long long)s.map.ref.addr, (unsigned long long)s.map.ref.check,
                 (unsigned)s.map.levels, (unsigned)s.map.pages, (unsigned long long)s.meta_segment,
                 (unsigned long long)s.meta_next, (unsigned long long)s.meta_pages, (unsigned long long)s.next_logical,
                 (unsigned long long)s.pos.segment, (unsigned)s.pos.offset, (unsigned)s.pos.physical,
                 (unsigned long long)s.pos.seq, (unsigned long long)s.pos.prev, (unsigned long long)s.root_addr,
                 (unsigned)s.root_length, (unsigned long long)s.journals);
    used += n < 0 ? 0 : (size_t)n < size - used ? (size_t)n : size - used - 1;
    for (unsigned i = 0; i < CMB_NEXT_MAX && i < s.n_next; i++) {
        n = snprintf(out_text + used, size - used, " %u", (unsigned)s.next[i]);
        used += n < 0 ? 0 : (size_t)n < size - used ? (size_t)n : size - used - 1;
    }
    snprintf(out_text + used, size - used, "\n");
    cmb_io_buffer_release(&a, block, CMB_BLOCK);
    *out_valid = valid;
    return 0;
}
