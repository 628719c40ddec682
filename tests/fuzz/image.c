/* SPDX-License-Identifier: ISC */
/*
 * image.c: hostile images. An input is
 *
 *   0  u8  what is mended (layout.h): 1, 2, 4, 8, 16; and 32: nodes are read where the device maps them; 64: it is written to as well; 128: what
 *          can be read is salvaged
 *   1      a disk (disk.h)
 *
 * Memory is bounded, whatever the image says. If fsck finds nothing, all reads succeed and agree; what is written then is there after the
 * next open, and fsck still finds nothing; and a salvage loses nothing. What comes of any salvage is an image in which fsck finds
 * nothing. That is not asked for where names were mended: two references to one node that a forger
 * makes differ are both right to whoever sees one of them.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/judge.h"
#include "tests/fuzz/layout.h"
#include "tests/fuzz/scripts.h"

#define MEMORY ((size_t)96 << 20)
enum { MEND = 31, MAPPED = 32, WRITTEN = 64, SALVAGED = 128 };
static bool forged; /* this input */

const char fuzz_target[] = "image";
static layout found;

static int open_disk(fuzz_disk *disk, const cmb_store_options *options, cmb_store **out_store)
{
    *out_store = NULL;
    int error = fuzz_coded(cmb_store_open_device(&disk->dev, options, out_store));
    fuzz_check(!error == (*out_store != NULL), "an open that says %s", cmb_error_name(error));
    return error;
}

/* A commit, which is there after the next open. */
static void write_once(fuzz_disk *disk, const cmb_store_options *options)
{
    cmb_store *store;
    cmb_txn *txn;
    cmb_snapshot *snapshot;
    cmb_bytes value, key = {"a key", 5};
    cmb_commit_info info = {.author = "ada", .message = "ring"};
    if (open_disk(disk, options, &store))
        return;
    bool sound = judge_is_sound(store) && !forged;
    int error = fuzz_coded(cmb_txn_begin(store, "main", 0, &txn));
    if (!error) {
        error = fuzz_coded(cmb_txn_put(txn, key, key));
        if (!error && !(error = fuzz_coded(cmb_txn_commit(txn, &info, NULL))))
            txn = NULL;
        if (error == CMB_ENOSPC || error == CMB_ENOMEM || error == CMB_EINVAL || txn == NULL)
            cmb_txn_abort(txn);
    }
    int closed = fuzz_coded(cmb_store_close(store));
    if (error || closed || !sound)
        return;
    fuzz_must(open_disk(disk, options, &store));
    if (!store)
        return;
    fuzz_must(cmb_snapshot_open(store, "main", &snapshot));
    fuzz_must(cmb_get(snapshot, key, &value));
    fuzz_check(value.size == 5 && memcmp(value.data, key.data, 5) == 0, "another value was committed");
    cmb_snapshot_close(snapshot);
    fuzz_check(judge_is_sound(store) || fuzz_refused(), "a commit has made fsck find something");
    judge_read(store, true);
    fuzz_must(cmb_store_close(store));
}

/* `shown`: of an image in which fsck finds nothing; else 0. */
static void salvage(fuzz_disk *disk, const cmb_store_options *options, uint64_t shown)
{
    cmb_salvage_options o = {.alloc = options->alloc, .env = options->env, .pool_size = options->pool_size};
    cmb_salvage_result result = {0};
    cmb_store *store;
    fuzz_disk *target = fuzz_disk_clear(1, FUZZ_DISK_MIB * FUZZ_MIB, false);
    uint64_t before = fuzz_disk_sum(disk);
    int error = fuzz_coded(cmb_salvage_device(&disk->dev, &target->dev, &o, &result));
    fuzz_check(fuzz_disk_sum(disk) == before, "a salvage has changed its image");
    fuzz_check(!shown || !error || fuzz_refused(), "what fsck finds nothing in cannot be salvaged: %s", cmb_error_name(error));
    if (error || fuzz_refused())
        return;
    fuzz_must(open_disk(target, options, &store));
    if (!store)
        return;
    fuzz_check(judge_is_sound(store) || fuzz_refused(), "after a salvage fsck finds something");
    fuzz_check(!shown || (!result.losses && judge_shown(store) == shown), "%llu losses, or other refs, of an image in which fsck finds nothing",
               (unsigned long long)result.losses);
    judge_read(store, !fuzz_refused());
    fuzz_must(cmb_store_close(store));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cmb_store *store;
    uint64_t shown = 0;
    if (!size)
        return 0;
    forged = data[0] & MEND_NAMES;
    fuzz_begin(MEMORY);
    fuzz_disk *disk = fuzz_disk_unpack(0, data + 1, size - 1);
    layout_find(&found, disk);
    layout_mend(&found, data[0] & MEND);
    cmb_store_options options = fuzz_store_options();
    options.residency = data[0] & MAPPED ? CMB_RESIDENT_MAP : CMB_RESIDENT_POOL;
    options.read_only = true;
    uint64_t before = fuzz_disk_sum(disk);
    if (!open_disk(disk, &options, &store)) {
        bool sound = judge_is_sound(store) && !forged && !fuzz_refused();
        judge_read(store, sound);
        shown = sound ? judge_shown(store) : 0;
        fuzz_coded(cmb_store_close(store));
    }
    fuzz_check(fuzz_disk_sum(disk) == before, "reading has changed the image");
    options.read_only = false;
    if (data[0] & SALVAGED)
        salvage(disk, &options, shown);
    if (data[0] & WRITTEN)
        write_once(disk, &options);
    fuzz_end();
    return 0;
}

/* ---- seeds ---- */

void fuzz_seeds(fuzz_give_fn give)
{
    static uint8_t room[1 << 20];
    for (script s = 0; s < SCRIPT_COUNT; s++) {
        cmb_bytes packed = script_packed(s);
        room[0] = (uint8_t)(MEND | (s % 2 ? MAPPED : 0) | (s % 3 ? WRITTEN : SALVAGED));
        fuzz_check(packed.size < sizeof room, "a seed that is too large");
        memcpy(room + 1, packed.data, packed.size);
        give(script_names[s], room, packed.size + 1);
    }
}

/* ---- mutations that know what they change ---- */

static uint64_t random_state;

static size_t below(size_t n)
{
    return n ? (size_t)(fuzz_random(&random_state) % n) : 0;
}

static uint64_t number(void)
{
    static const uint64_t few[] = {0, 1, 2, 3, 15, 16, 17, 127, 128, 255, 256, 4095, 4096, 65535, 65536, 1u << 20, 0x7fffffff, 0x80000000, 0xffffffff};
    uint64_t v = few[below(CMB_COUNTOF(few))];
    return below(4) ? v : below(2) ? (uint64_t)0 - v : v << below(56);
}

/* Overwrites, adds to, flips or copies something in a range of bytes. */
static void change(uint8_t *bytes, size_t size)
{
    static const unsigned widths[] = {1, 1, 2, 4, 4, 8};
    unsigned width = widths[below(CMB_COUNTOF(widths))];
    if (size < 8)
        return;
    size_t at = below(size - width + 1);
    at = below(3) ? at & ~(size_t)(width - 1) : at;
    uint64_t old = cmb_get_uint(bytes + at, width);
    switch (below(6)) {
    case 0:
        cmb_put_uint(bytes + at, width, number());
        break;
    case 1:
        cmb_put_uint(bytes + at, width, old + 1 + below(32));
        break;
    case 2:
        cmb_put_uint(bytes + at, width, old - 1 - below(32));
        break;
    case 3:
        bytes[at] ^= (uint8_t)(1u << below(8));
        break;
    case 4:
        memmove(bytes + at, bytes + below(size - width + 1), width);
        break;
    default:
        LLVMFuzzerMutate(bytes + at, width, width);
        break;
    }
}

static void change_super(void)
{
    unsigned slot = (unsigned)below(4);
    uint8_t *s = found.disk->bytes + slot * FUZZ_MIB, *twin = found.disk->bytes + (slot + 2) % 4 * FUZZ_MIB;
    change(s + 8, 288);
    if (below(2)) /* the other copy of this generation says the same */
        memcpy(twin, s, 512);
}

static layout_record *some_record(void)
{
    return found.record_count ? &found.records[below(found.record_count)] : NULL;
}

/* Of the length of one or of the other: a stale record in its place, a record twice. */
static void copy_record(void)
{
    layout_record *from = some_record(), *to = some_record();
    if (from && to && from->length <= to->length)
        memmove(to->bytes, from->bytes, from->length);
}

static void change_record(void)
{
    layout_record *r = some_record();
    if (!r)
        return;
    switch (below(4)) {
    case 0:
        change(r->bytes, 16);
        break;
    case 1: /* where nodes, commits and lists have their headers */
        change(r->bytes + 16, r->length - 16 < 64 ? r->length - 16 : 64);
        break;
    case 2: /* and their trailers */
        change(r->bytes + (r->length > 80 ? r->length - 64 : 16), r->length > 80 ? 64 : r->length - 16);
        break;
    default:
        change(r->bytes + 16, r->length - 16);
        break;
    }
}

static void change_frame(void)
{
    if (!found.frame_count)
        return;
    layout_frame *f = &found.frames[below(found.frame_count)];
    switch (below(4)) {
    case 0: /* lost */
        memset(f->bytes, 0, CMB_BLOCK);
        break;
    case 1: /* another's */
        memcpy(f->bytes, found.frames[below(found.frame_count)].bytes, CMB_BLOCK);
        break;
    default:
        change(f->bytes, 128);
        break;
    }
}

static void change_page(void)
{
    size_t n = found.page_count + found.footer_count, i = below(n);
    if (n)
        change((i < found.page_count ? found.pages[i] : found.footers[i - found.page_count]) + 8, below(2) ? 120 : 600);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    random_state = seed;
    if (size < 2 || !below(16))
        return LLVMFuzzerMutate(data, size, max);
    fuzz_begin(MEMORY);
    layout_find(&found, fuzz_disk_unpack(0, data + 1, size - 1));
    for (size_t n = 1 + below(3); n > 0; n--) {
        static void (*const changes[])(void) = {change_super, change_frame, change_page, copy_record, change_record, change_record, change_record};
        changes[below(CMB_COUNTOF(changes))]();
    }
    data[0] = (uint8_t)(data[0] & ~MEND_NAMES) | (below(3) ? MEND_NAMES : 0);
    if (!below(4)) /* seldom without what lets it pass the checks */
        data[0] ^= (uint8_t)(1u << (below(3) ? 5 + below(3) : below(5)));
    size_t packed = fuzz_disk_pack(found.disk, data + 1, max - 1);
    fuzz_end();
    return packed ? packed + 1 : size;
}
