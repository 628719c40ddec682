/* SPDX-License-Identifier: ISC */
/*
 * rev.c: what people type: revisions, names of refs, keys of ranges, numbers. An input is
 *
 *   0  u8  what it is tried as, below
 *   1      the text, up to its first zero byte where a string is wanted
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/base.h"
#include "tests/fuzz/judge.h"
#include "tests/fuzz/scripts.h"
#include "tools/text.h"

#define MEMORY ((size_t)64 << 20)

const char fuzz_target[] = "rev";

enum { REVISION, REF_NAME, RANGE, PATH, NUMBERS, FIELDS, KINDS };

/* What it stands for is the same however it is asked for. */
static void try_revision(cmb_store *store, const char *text)
{
    cmb_rev rev, again;
    cmb_snapshot *snapshot;
    cmb_commit *commit;
    int error = fuzz_coded(cmb_rev_parse(store, text, &rev));
    int opened = fuzz_coded(cmb_snapshot_open(store, text, &snapshot));
    fuzz_check(!error == !opened || fuzz_refused(), "%s parses (%s) but cannot be read (%s)", text, cmb_error_name(error), cmb_error_name(opened));
    if (!opened) {
        cmb_snapshot_rev(snapshot, &again);
        fuzz_check(memcmp(&rev.root, &again.root, sizeof rev.root) == 0 && rev.entries == again.entries, "%s is two contents", text);
        cmb_snapshot_close(snapshot);
    }
    if (!error && rev.commit.size) {
        char hex[2 * CMB_NAME_MAX + 1];
        cmb_name_hex(&rev.commit, hex);
        fuzz_must(cmb_rev_parse(store, hex, &again));
        fuzz_check(memcmp(&rev.commit, &again.commit, sizeof rev.commit) == 0, "%s is not found by its id", text);
    }
    if (!fuzz_coded(cmb_commit_read(store, text, &commit))) {
        fuzz_check(!error && memcmp(&commit->id, &rev.commit, sizeof rev.commit) == 0, "%s is read as another commit", text);
        cmb_commit_free(commit);
    }
}

/* A name that is right makes a branch and is found again; another one does not. */
static void try_ref_name(cmb_store *store, const char *text)
{
    char full[CMB_REF_NAME_MAX + 8];
    cmb_rev rev;
    int checked = fuzz_coded(cmb_ref_name_check(text));
    int error = fuzz_coded(cmb_branch_create(store, text, "side"));
    fuzz_check(!checked || error, "a branch of a name that is not right");
    if (error)
        return;
    snprintf(full, sizeof full, "heads/%s", text);
    fuzz_must(cmb_rev_parse(store, full, &rev));
    error = cmb_tag_create(store, text, full);
    fuzz_check(!error || error == CMB_EEXIST, "tag '%s': %s", text, cmb_error_name(error)); /* the store has tags of its own */
    fuzz_must(cmb_branch_delete(store, text));
    if (!error)
        fuzz_must(cmb_tag_delete(store, text));
    fuzz_check(cmb_rev_parse(store, full, &rev), "%s was deleted", text);
}

static uint64_t count_range(cmb_snapshot *snapshot, const cmb_range *range)
{
    cmb_cursor *cursor;
    cmb_bytes key;
    uint64_t n = 0, back = 0;
    if (fuzz_coded(cmb_cursor_open(snapshot, range, &cursor)))
        return UINT64_MAX;
    for (; !cmb_cursor_next(cursor); n++) {
        fuzz_must(cmb_cursor_key(cursor, &key));
        fuzz_check(!range->from.size || cmb_compare(key.data, key.size, range->from.data, range->from.size) >= 0, "a key below the range");
        fuzz_check(!range->to.size || cmb_compare(key.data, key.size, range->to.data, range->to.size) < 0, "a key above the range");
        fuzz_check(key.size >= range->prefix.size && (!range->prefix.size || memcmp(key.data, range->prefix.data, range->prefix.size) == 0), "a key without the prefix");
    }
    while (!cmb_cursor_prev(cursor))
        back++;
    fuzz_check(n == back, "%llu forwards, %llu backwards", (unsigned long long)n, (unsigned long long)back);
    cmb_cursor_close(cursor);
    return n;
}

static void try_range(cmb_store *store, fuzz_input *in)
{
    cmb_snapshot *snapshot;
    uint64_t counted;
    cmb_range range = {.from = fuzz_bytes(in, fuzz_byte(in)), .to = fuzz_bytes(in, fuzz_byte(in)), .prefix = fuzz_bytes(in, fuzz_byte(in))};
    fuzz_must(cmb_snapshot_open(store, "main", &snapshot));
    uint64_t n = count_range(snapshot, &range);
    if (!range.prefix.size && n != UINT64_MAX) {
        fuzz_must(cmb_count(snapshot, range.from.size ? &range.from : NULL, range.to.size ? &range.to : NULL, &counted));
        fuzz_check(counted == n, "%llu counted, %llu found", (unsigned long long)counted, (unsigned long long)n);
    }
    cmb_snapshot_close(snapshot);
}

static void try_path(cmb_store *store, fuzz_input *in)
{
    cmb_snapshot *snapshot;
    cmb_dir *dir;
    cmb_dir_child child;
    cmb_bytes prefix = fuzz_bytes(in, fuzz_byte(in)), seek = fuzz_bytes(in, fuzz_byte(in));
    fuzz_must(cmb_snapshot_open(store, "main", &snapshot));
    if (!fuzz_coded(cmb_dir_open(snapshot, prefix, &dir))) {
        if (seek.size)
            fuzz_coded(cmb_dir_seek(dir, seek));
        for (unsigned n = 0; !fuzz_coded(cmb_dir_next(dir, &child)); n++)
            fuzz_check(n < 100 && (child.entry || child.directory), "a child that is nothing");
        cmb_dir_close(dir);
    }
    cmb_snapshot_close(snapshot);
}

static void try_numbers(const char *text)
{
    static uint8_t bytes[1 << 16];
    uint64_t v;
    size_t n;
    char decimal[24];
    if (text_parse_u64(text, &v)) {
        uint64_t again;
        snprintf(decimal, sizeof decimal, "%llu", (unsigned long long)v);
        fuzz_check(text_parse_u64(decimal, &again) && again == v, "%s is not %s", text, decimal);
    }
    (void)text_parse_size(text, &v);
    (void)text_parse_address(text, &v);
    if (text_parse_hex(text, bytes, sizeof bytes, &n))
        fuzz_check(2 * n == strlen(text), "%zu bytes of %zu digits", n, strlen(text));
}

/* A field that comes in pieces is the field that comes at once. */
static void try_fields(const uint8_t *data, size_t size)
{
    char *whole = NULL, *pieces = NULL, room[64];
    size_t whole_size = 0, pieces_size = 0;
    FILE *a = open_memstream(&whole, &whole_size), *b = open_memstream(&pieces, &pieces_size);
    text_field field = {0};
    fuzz_check(a && b, "no memory");
    text_print_field(a, data, size);
    for (size_t i = 0, n = 1; i < size; i += n, n = n % 5 + 1)
        text_field_add(&field, b, data + i, n < size - i ? n : size - i);
    text_field_end(&field, b);
    fclose(a);
    fclose(b);
    fuzz_check(whole_size == pieces_size && memcmp(whole, pieces, whole_size) == 0, "a field in pieces is another one");
    fuzz_check(text_is_utf8(whole, whole_size), "a field that is not UTF-8");
    fuzz_check(strlen(text_field_of(room, sizeof room, data, size)) < sizeof room, "a field that is longer than its room");
    free(whole);
    free(pieces);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, data + size};
    unsigned kind = fuzz_byte(&in) % KINDS;
    size_t n = (size_t)(in.end - in.at);
    char *text = malloc(n + 1);
    fuzz_check(text, "no memory");
    memcpy(text, in.at, n);
    text[n] = 0;
    if (kind == NUMBERS)
        try_numbers(text);
    if (kind == FIELDS)
        try_fields(in.at, n);
    if (kind < NUMBERS) {
        fuzz_disk *disk = script_disk(SCRIPT_HISTORY, 0);
        fuzz_begin(MEMORY);
        cmb_store *store = script_open(disk);
        if (kind == REVISION)
            try_revision(store, text);
        if (kind == REF_NAME)
            try_ref_name(store, text);
        if (kind == RANGE)
            try_range(store, &in);
        if (kind == PATH)
            try_path(store, &in);
        fuzz_check(kind != REF_NAME || judge_is_sound(store), "fsck finds something");
        fuzz_must(cmb_store_close(store));
        fuzz_end();
    }
    free(text);
    return 0;
}

void fuzz_seeds(fuzz_give_fn give)
{
    static const struct {
        const char *text;
        size_t size;
    } seeds[] = {
#define SEED(kind, text) {kind text, sizeof(kind text) - 1}
        SEED("\0", "main"), SEED("\0", "heads/side~1"), SEED("\0", "tags/v2^{root}"), SEED("\0", "v1^2~3^^"), SEED("\0", "main^1~0^0"), SEED("\0", "abcdef0123"),
        SEED("\0", "main~99999999999999999999"), SEED("\1", "feature/x"), SEED("\1", "a..b"), SEED("\1", "x.lock"), SEED("\1", "@{"), SEED("\1", "\xc3\xa9"),
        SEED("\2", "\1d\1l\1k"), SEED("\2", "\0\0\4key/"), SEED("\3", "\4dir/\1s"), SEED("\3", "\0\3key"), SEED("\4", "0x1234"), SEED("\4", "12K"),
        SEED("\4", "18446744073709551615"), SEED("\4", "00ffAB"), SEED("\5", "a\tb\n\\\xff\xe2\x82\xac\xf0\x9f\x98\x80")};
    for (size_t i = 0; i < CMB_COUNTOF(seeds); i++) {
        char name[24];
        snprintf(name, sizeof name, "%02zu", i);
        give(name, seeds[i].text, seeds[i].size);
    }
}
