/* SPDX-License-Identifier: ISC */
/*
 * sync.c: hostile peers, on either side of a conversation. An input is
 *
 *   0  u8  1: what follows are messages (wire.h), to be put into frames; else it is the stream
 *          2: it asks and is served; else it answers to a pull
 *          4, 8: pulled with merging, with tags
 *          16, 32, 64: which script (scripts.h) made the image
 *   1  u8  bytes of a frame, and of what is read at a time; 0: as many as there may be
 *   2      the messages or the stream
 *
 * Nothing but a pull that ends well moves a ref; who is served changes nothing, but that working states are sealed. fsck finds nothing after it.
 */
#include <stdio.h>

#include "store/peer.h"
#include "tests/fuzz/judge.h"
#include "tests/fuzz/scripts.h"
#include "tests/fuzz/wire.h"

#define MEMORY   ((size_t)64 << 20)
#define SAID_MAX ((size_t)32 << 20) /* bytes that are answered to one input */
#define MAGIC    "CambiuS\x01"
enum { MESSAGES = 1, ASKING = 2, MERGING = 4, TAGS = 8 };

const char fuzz_target[] = "sync";

typedef struct peer {
    fuzz_stream says;
    size_t heard;
} peer;

static int peer_read(void *ctx, void *out, size_t size, size_t *out_read)
{
    return fuzz_stream_read(&((peer *)ctx)->says, out, size, out_read);
}

static int peer_write(void *ctx, const void *data, size_t size)
{
    peer *p = ctx;
    p->heard += size;
    fuzz_check(p->heard < SAID_MAX, "more than %zu bytes are answered to %zu", SAID_MAX, p->says.size);
    return 0;
}

static void talk(cmb_store *store, peer *p, unsigned flags)
{
    cmb_pull_options options = {.merge = flags & MERGING, .tags = flags & TAGS, .merge_fn = cmb_merge_union};
    cmb_sync_stats stats;
    uint64_t shown = judge_shown(store);
    if (flags & ASKING) {
        fuzz_coded(cmb_serve(store, peer_read, peer_write, p, &stats));
    } else {
        int error = fuzz_coded(cmb_pull_from(store, peer_read, peer_write, p, &options, &stats));
        fuzz_check(!error || error == CMB_ECONFLICT || judge_shown(store) == shown || fuzz_refused(), "a pull that failed has moved refs: %s",
                   cmb_error_name(error));
    }
    fuzz_check(judge_is_sound(store) || fuzz_refused(), "after a conversation fsck finds something");
    judge_read(store, !fuzz_refused());
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static wire w;
    fuzz_input in = {data, data + size};
    unsigned flags = fuzz_byte(&in), piece = fuzz_byte(&in);
    peer p = {.says = {in.at, (size_t)(in.end - in.at), 0, piece}};
    fuzz_disk *disk = script_disk(flags >> 4 & 7u, 0);
    if (flags & MESSAGES) {
        wire_pack(&w, MAGIC, &in, piece);
        p.says = (fuzz_stream){w.stream.data, w.stream.size, 0, piece};
    }
    fuzz_begin(MEMORY);
    cmb_store *store = script_open(disk);
    if (store) {
        talk(store, &p, flags);
        fuzz_must(cmb_store_close(store));
    }
    fuzz_end();
    return 0;
}

/* ---- seeds: what two stores said to each other ---- */

typedef struct recorder {
    cmb_loopback loop;
    fuzz_buffer asked, answered;
} recorder;

static int record_read(void *ctx, void *out, size_t size, size_t *out_read)
{
    recorder *r = ctx;
    *out_read = 0;
    int error = cmb_loopback_read(&r->loop, out, size, out_read);
    fuzz_buffer_write(&r->answered, out, *out_read);
    return error;
}

static int record_write(void *ctx, const void *data, size_t size)
{
    recorder *r = ctx;
    fuzz_buffer_write(&r->asked, data, size);
    return cmb_loopback_write(&r->loop, data, size);
}

static void record(script to, script from, unsigned flags, recorder *r)
{
    fuzz_disk *here = script_disk(to, 0), *there = script_disk(from, 1);
    cmb_pull_options options = {.merge = flags & MERGING, .tags = flags & TAGS};
    fuzz_begin(MEMORY);
    cmb_store *a = script_open(here), *b = script_open(there);
    fuzz_must(cmb_loopback_open(&r->loop, b, fuzz_allocator()));
    fuzz_must(cmb_pull_from(a, record_read, record_write, r, &options, NULL));
    cmb_loopback_close(&r->loop);
    fuzz_must(cmb_store_close(a));
    fuzz_must(cmb_store_close(b));
    fuzz_end();
}

static void give_side(fuzz_give_fn give, const char *name, const char *what, unsigned flags, const fuzz_buffer *said)
{
    fuzz_buffer input = {0};
    char full[64];
    uint8_t head[2] = {(uint8_t)(flags | MESSAGES), 0};
    fuzz_buffer_write(&input, head, sizeof head);
    wire_unpack(said, &input);
    snprintf(full, sizeof full, "%s-%s", name, what);
    give(full, input.data, input.size);
    head[0] ^= MESSAGES;
    head[1] = 50;
    input.size = 0;
    fuzz_buffer_write(&input, head, sizeof head);
    fuzz_buffer_write(&input, said->data, said->size);
    snprintf(full, sizeof full, "%s-%s-raw", name, what);
    give(full, input.data, input.size);
    fuzz_buffer_free(&input);
}

void fuzz_seeds(fuzz_give_fn give)
{
    static const struct {
        const char *name;
        script to, from;
        unsigned flags;
    } talks[] = {{"all", SCRIPT_EMPTY, SCRIPT_HISTORY, TAGS},
                 {"diverged", SCRIPT_DEEP, SCRIPT_HISTORY, 0},
                 {"merged", SCRIPT_HISTORY, SCRIPT_DEEP, MERGING},
                 {"intents", SCRIPT_INTENTS, SCRIPT_HISTORY, MERGING | TAGS},
                 {"nothing", SCRIPT_HISTORY, SCRIPT_HISTORY, TAGS},
                 {"large", SCRIPT_EMPTY, SCRIPT_LARGE, 0},
                 {"foreign", SCRIPT_EMPTY, SCRIPT_EMPTY, 0}};
    for (size_t i = 0; i < CMB_COUNTOF(talks); i++) {
        recorder r = {0};
        record(talks[i].to, talks[i].from, talks[i].flags, &r);
        give_side(give, talks[i].name, "answers", talks[i].flags | (unsigned)talks[i].to << 4, &r.answered);
        give_side(give, talks[i].name, "questions", ASKING | (unsigned)talks[i].from << 4, &r.asked);
        fuzz_buffer_free(&r.asked);
        fuzz_buffer_free(&r.answered);
    }
}
