/* SPDX-License-Identifier: ISC */
/*
 * bundle.c: hostile bundles. An input is
 *
 *   0  u8  1: what follows are messages (wire.h), to be put into frames; else it is the stream
 *          2, 4, 8: applied with merging, with tags, as from a peer that is not trusted
 *          16, 32, 64: which script (scripts.h) made the image that it is applied to
 *   1  u8  bytes of a frame, and of what is read at a time; 0: as many as there may be
 *   2      the messages or the stream
 *
 * What is refused leaves the image as it was: every byte, if it was found by reading only. Whatever is taken in, fsck finds nothing.
 */
#include "tests/fuzz/judge.h"
#include "tests/fuzz/scripts.h"
#include "tests/fuzz/wire.h"

#define MEMORY ((size_t)64 << 20)
#define MAGIC  "CambiuB\x01"
enum { MESSAGES = 1, MERGING = 2, TAGS = 4, UNTRUSTED = 8 };

const char fuzz_target[] = "bundle";

static int on_head(void *ctx, const cmb_bundle_head *head)
{
    fuzz_check(head->ref_count > 0, "a bundle of nothing passes");
    return 0;
}

static int on_ref(void *ctx, const cmb_pulled *ref)
{
    fuzz_check(!cmb_ref_name_check(ref->name), "a ref has got a name that it must not have");
    return 0;
}

static void apply(fuzz_disk *disk, fuzz_stream *stream, unsigned flags)
{
    cmb_bundle_source source = {fuzz_stream_read, fuzz_stream_rewind, stream};
    cmb_pull_options options = {.merge = flags & MERGING, .tags = flags & TAGS, .untrusted = flags & UNTRUSTED, .merge_fn = cmb_merge_union,
                                .pulled = on_ref};
    cmb_store *store = script_open(disk);
    if (!store)
        return;
    uint64_t shown = judge_shown(store), sum = fuzz_disk_sum(disk);
    bool verified = !fuzz_coded(cmb_bundle_verify(store, &source, on_head, NULL, NULL));
    fuzz_check(fuzz_disk_sum(disk) == sum, "to verify a bundle has changed the image");
    stream->at = 0;
    int error = fuzz_coded(cmb_bundle_apply(store, &source, &options, NULL));
    fuzz_check(verified || error, "a bundle that does not pass was applied");
    fuzz_check(verified || fuzz_disk_sum(disk) == sum, "a bundle that does not pass has changed the image");
    fuzz_check(!error || error == CMB_ECONFLICT || judge_shown(store) == shown || fuzz_refused(), "a bundle that was refused has moved refs: %s",
               cmb_error_name(error));
    fuzz_check(judge_is_sound(store) || fuzz_refused(), "after a bundle fsck finds something");
    judge_read(store, !fuzz_refused());
    fuzz_must(cmb_store_close(store));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static wire w;
    fuzz_input in = {data, data + size};
    unsigned flags = fuzz_byte(&in), piece = fuzz_byte(&in);
    fuzz_stream stream = {in.at, (size_t)(in.end - in.at), 0, piece};
    fuzz_disk *disk = script_disk(flags >> 4 & 7u, 0);
    if (flags & MESSAGES) {
        wire_pack(&w, MAGIC, &in, piece);
        stream = (fuzz_stream){w.stream.data, w.stream.size, 0, piece};
    }
    fuzz_begin(MEMORY);
    apply(disk, &stream, flags);
    fuzz_end();
    return 0;
}

/* ---- seeds ---- */

/* Everything that a script made, or what the second REV has over the first. */
static void bundle_of(script which, const char *const *revs, size_t count, fuzz_buffer *out)
{
    fuzz_disk *disk = script_disk(which, 0);
    fuzz_begin(MEMORY);
    cmb_store *store = script_open(disk);
    fuzz_must(cmb_bundle_create(store, revs, count, fuzz_buffer_write, out, NULL, NULL));
    fuzz_must(cmb_store_close(store));
    fuzz_end();
}

static void give_bundle(fuzz_give_fn give, const char *name, unsigned flags, script which, const char *const *revs, size_t count)
{
    fuzz_buffer stream = {0}, input = {0};
    uint8_t head[2] = {(uint8_t)(flags | MESSAGES), 0};
    char raw[64] = "raw-";
    bundle_of(which, revs, count, &stream);
    fuzz_buffer_write(&input, head, sizeof head);
    wire_unpack(&stream, &input);
    give(name, input.data, input.size);
    head[0] ^= MESSAGES;
    head[1] = 100;
    input.size = 0;
    fuzz_buffer_write(&input, head, sizeof head);
    fuzz_buffer_write(&input, stream.data, stream.size);
    for (size_t i = 0; name[i] && i < 32; i++)
        raw[4 + i] = name[i];
    give(raw, input.data, input.size);
    fuzz_buffer_free(&stream);
    fuzz_buffer_free(&input);
}

void fuzz_seeds(fuzz_give_fn give)
{
    static const char *const all[] = {"main", "side", "v1", "v2"}, *const step[] = {"main", "^main~1"}, *const one[] = {"main"};
    give_bundle(give, "history", TAGS | SCRIPT_EMPTY << 4, SCRIPT_HISTORY, all, 4);
    give_bundle(give, "known", MERGING | SCRIPT_INTENTS << 4, SCRIPT_HISTORY, all, 4);
    give_bundle(give, "merged", MERGING | TAGS | SCRIPT_DEEP << 4, SCRIPT_HISTORY, all, 4);
    give_bundle(give, "step", TAGS | SCRIPT_HISTORY << 4, SCRIPT_HISTORY, step, 2);
    give_bundle(give, "large", SCRIPT_EMPTY << 4, SCRIPT_LARGE, one, 1);
    give_bundle(give, "deep", SCRIPT_PAIRS << 4, SCRIPT_DEEP, one, 1);
    give_bundle(give, "sha256", UNTRUSTED | TAGS | SCRIPT_SHA256 << 4, SCRIPT_SHA256, all, 4);
}
