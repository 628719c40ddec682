/* SPDX-License-Identifier: ISC */
/*
 * git.c: streams of `git fast-export`. An input is
 *
 *   0  u8  1: refs are set whatever they leave behind; 2: the image has a history already
 *   1  u8  bytes that are read at a time; 0: as many as there are
 *   2      the stream
 *
 * A stream that is refused leaves the image as it was. What came in goes out again, if it goes out at all, as a stream that another image
 * takes, with the same ids; and that one's stream is the same, byte for byte.
 */
#include <string.h>

#include "io/base.h"
#include "tests/fuzz/judge.h"
#include "tests/fuzz/scripts.h"

#define MEMORY ((size_t)64 << 20)
enum { FORCE = 1, HISTORY = 2 };

const char fuzz_target[] = "git";

/* The same branches and tags on the same commits. */
static void export_again(cmb_store *store)
{
    fuzz_buffer first = {0}, second = {0};
    if (!fuzz_coded(cmb_git_export(store, fuzz_buffer_write, &first, NULL, NULL))) {
        cmb_store *other = script_open(script_disk(SCRIPT_EMPTY, 1));
        fuzz_stream stream = {first.data, first.size, 0, 0};
        cmb_git_options force = {.force = true};
        fuzz_must(cmb_git_import(other, fuzz_stream_read, &stream, &force, NULL));
        fuzz_must(cmb_git_export(other, fuzz_buffer_write, &second, NULL, NULL));
        fuzz_check(fuzz_refused() || (first.size == second.size && memcmp(first.data, second.data, first.size) == 0),
                   "a stream that was read and written differs");
        fuzz_must(cmb_store_close(other));
    }
    fuzz_buffer_free(&first);
    fuzz_buffer_free(&second);
}

static void import(cmb_store *store, fuzz_stream *stream, unsigned flags)
{
    cmb_git_options options = {.force = flags & FORCE};
    uint64_t shown = judge_shown(store);
    int error = fuzz_coded(cmb_git_import(store, fuzz_stream_read, stream, &options, NULL));
    fuzz_check(!error || judge_shown(store) == shown || fuzz_refused(), "a stream that was refused has moved refs: %s", cmb_error_name(error));
    fuzz_check(judge_is_sound(store) || fuzz_refused(), "after an import fsck finds something");
    if (error)
        return;
    judge_read(store, !fuzz_refused());
    if (!(flags & HISTORY))
        export_again(store);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, data + size};
    unsigned flags = fuzz_byte(&in), piece = fuzz_byte(&in);
    fuzz_stream stream = {in.at, (size_t)(in.end - in.at), 0, piece};
    (void)script_packed(SCRIPT_EMPTY); /* it counts memory of its own */
    fuzz_disk *disk = script_disk(flags & HISTORY ? SCRIPT_HISTORY : SCRIPT_EMPTY, 0);
    fuzz_begin(MEMORY);
    cmb_store *store = script_open(disk);
    if (store) {
        import(store, &stream, flags);
        fuzz_must(cmb_store_close(store));
    }
    fuzz_end();
    return 0;
}

/* ---- seeds ---- */

static const char simple[] = "feature done\nblob\nmark :1\noriginal-oid 0123456789012345678901234567890123456789\ndata 5\nhello\n"
    "reset refs/heads/main\ncommit refs/heads/main\nmark :2\nauthor Ada <ada@x> 1700000000 +0100\n"
    "committer Bob <bob@x> 1700000001 -0230\nencoding latin1\ndata 6\nfirst\n\nM 100644 :1 a/b\nM 100755 :1 tool\nM 120000 inline link\ndata 3\na/b\n"
    "M 160000 0123456789012345678901234567890123456789 sub\n\n"
    "commit refs/heads/side\nmark :3\ncommitter <> 0 +0000\ndata <<END\ntext\nEND\nfrom :2\nD a/b\nR tool \"new\\tname\"\nC link other\n\n"
    "commit refs/heads/main\nmark :4\ncommitter C <c> 1700000009 +0000\ndata 0\nfrom :2\nmerge :3\ndeleteall\nM 644 :1 x\n\n"
    "tag v1\nfrom :4\ntagger T <t@x> 1700000010 +0000\ndata 4\ntag\n\nreset refs/tags/light\nfrom :3\n\nprogress ok\ncheckpoint\ndone\n";
static const char signed_commit[] = "commit refs/heads/main\nmark :1\nauthor A <a> 1 +0000\ncommitter A <a> 1 +0000\ngpgsig sha1 openpgp\ndata 3\nsig\n"
    "data 1\nxM 100644 inline f\ndata 1\ny\n\nreset refs/notes/commits\nfrom :1\n\ntag t\nmark :5\nfrom :1\noriginal-oid 12\ndata 0\n\n"
    "tag u\nfrom :5\ntagger <x> 0 +0000\ndata 0\n\n";
static const char by_name[] = "commit refs/heads/new\ncommitter A <a> 1700000000 +0000\ndata 2\nx\nfrom refs/heads/main^0\n\n"
    "option git quiet\nfeature date-format=raw\n# comment\nalias\nmark :7\nto :1\n\nreset HEAD\nfrom :7\n\n";

static const char refused[] = "blob\nmark :1\ndata 1\nx\ncommit refs/heads/new\ncommitter A <a> 1700000000 +0000\ndata 0\nM 040000 :1 dir\nls \"\"\n"
    "cat-blob :1\nget-mark :1\nN :1 :1\n";

static void give_stream(fuzz_give_fn give, const char *name, unsigned flags, unsigned piece, const void *text, size_t size)
{
    fuzz_buffer input = {0};
    uint8_t head[2] = {(uint8_t)flags, (uint8_t)piece};
    fuzz_buffer_write(&input, head, sizeof head);
    fuzz_buffer_write(&input, text, size);
    give(name, input.data, input.size);
    fuzz_buffer_free(&input);
}

void fuzz_seeds(fuzz_give_fn give)
{
    fuzz_buffer exported = {0};
    fuzz_disk *disk = script_disk(SCRIPT_HISTORY, 0);
    fuzz_begin(MEMORY);
    cmb_store *store = script_open(disk);
    fuzz_must(cmb_git_export(store, fuzz_buffer_write, &exported, NULL, NULL));
    fuzz_must(cmb_store_close(store));
    fuzz_end();
    give_stream(give, "simple", 0, 0, simple, sizeof simple - 1);
    give_stream(give, "pieces", HISTORY | FORCE, 7, simple, sizeof simple - 1);
    give_stream(give, "signed", FORCE, 0, signed_commit, sizeof signed_commit - 1);
    give_stream(give, "by-name", HISTORY, 0, by_name, sizeof by_name - 1);
    give_stream(give, "refused", 0, 0, refused, sizeof refused - 1);
    give_stream(give, "exported", 0, 0, exported.data, exported.size);
    give_stream(give, "forward", HISTORY | FORCE, 0, exported.data, exported.size);
    fuzz_buffer_free(&exported);
}
