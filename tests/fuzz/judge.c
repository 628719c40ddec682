/* SPDX-License-Identifier: ISC */
#include "tests/fuzz/judge.h"

#include <stdlib.h>
#include <string.h>

#include "io/base.h"

#define REFS_MAX    6u
#define ENTRIES_MAX 2000u /* of one state that are read */
#define KEYS_MAX    24u   /* that are looked up one by one */
#define COMMITS_MAX 40u
#define PIECE       100000u

typedef struct judge {
    cmb_store *store;
    bool sound;
    unsigned told;
} judge;

/* An error where fsck found nothing is the finding; CMB_ENOMEM is not, where memory was refused. */
static int answered(const judge *j, int error, const char *what)
{
    fuzz_coded(error);
    if (error && j->sound && !(error == CMB_ENOMEM && fuzz_refused()))
        fuzz_fail("fsck finds nothing, but %s: %s", what, cmb_error_name(error));
    return error;
}

/* The same of calls for which there may be nothing. */
static int found(const judge *j, int error, const char *what)
{
    return error == CMB_ENOTFOUND ? error : answered(j, error, what);
}

/* ---- fsck ---- */

bool judge_is_sound(cmb_store *store)
{
    cmb_fsck_options options = {.level = CMB_FSCK_FULL};
    cmb_fsck_result result = {0};
    for (options.level = CMB_FSCK_QUICK; options.level < CMB_FSCK_FULL; options.level++)
        fuzz_coded(cmb_fsck(store, &options, &result));
    return !fuzz_coded(cmb_fsck(store, &options, &result)) && !result.findings;
}

/* ---- one state ---- */

typedef struct scan {
    uint64_t count, sum;
    uint8_t *keys[KEYS_MAX];
    size_t sizes[KEYS_MAX];
    unsigned key_count;
} scan;

static void keep_key(scan *s, cmb_bytes key)
{
    if (s->key_count == KEYS_MAX)
        return;
    uint8_t *copy = malloc(key.size ? key.size : 1);
    fuzz_check(copy, "no memory");
    memcpy(copy, key.data, key.size);
    s->keys[s->key_count] = copy;
    s->sizes[s->key_count++] = key.size;
}

static uint64_t sum_of(cmb_bytes key, cmb_bytes value)
{
    return cmb_hash64(value.data, value.size, cmb_hash64(key.data, key.size, 1));
}

/* All entries one way; false: an error ended it. */
static bool scan_all(judge *j, cmb_snapshot *snapshot, bool forward, scan *out)
{
    cmb_cursor *cursor;
    cmb_bytes key, value;
    uint8_t before[CMB_KEY_MAX];
    size_t before_size = 0;
    if (answered(j, cmb_cursor_open(snapshot, NULL, &cursor), "a cursor cannot be opened"))
        return false;
    int error = forward ? cmb_cursor_first(cursor) : cmb_cursor_last(cursor);
    for (; !error && out->count < ENTRIES_MAX; error = forward ? cmb_cursor_next(cursor) : cmb_cursor_prev(cursor)) {
        fuzz_must(cmb_cursor_key(cursor, &key));
        fuzz_check(key.size >= CMB_KEY_MIN && key.size <= CMB_KEY_MAX, "a key of %zu bytes", key.size);
        int order = cmb_compare(before, before_size, key.data, key.size);
        fuzz_check(!j->sound || !out->count || (forward ? order < 0 : order > 0), "keys do not %s", forward ? "ascend" : "descend");
        memcpy(before, key.data, key.size);
        before_size = key.size;
        if (forward)
            keep_key(out, key);
        if (answered(j, cmb_cursor_value(cursor, &value), "a value cannot be read"))
            break;
        out->sum += sum_of((cmb_bytes){before, before_size}, value);
        out->count++;
    }
    bool whole = error == CMB_ENOTFOUND;
    if (error && !whole)
        answered(j, error, "a scan ends before its end");
    cmb_cursor_close(cursor);
    return whole;
}

static void read_stream(judge *j, cmb_snapshot *snapshot, cmb_bytes key, cmb_bytes value)
{
    cmb_value_stream *stream;
    uint8_t *room = malloc(PIECE);
    size_t got = 0;
    fuzz_check(room, "no memory");
    if (!answered(j, cmb_value_open(snapshot, key, &stream), "a value that was read cannot be opened")) {
        fuzz_check(cmb_value_size(stream) == value.size, "a stream has another size than its value");
        for (uint64_t at = 0; at < value.size; at += got) {
            if (answered(j, cmb_value_read(stream, at, room, PIECE, &got), "a value that was read cannot be streamed"))
                break;
            fuzz_check(got && got <= value.size - at && memcmp((const uint8_t *)value.data + at, room, got) == 0,
                       "a stream differs from its value");
        }
        cmb_value_close(stream);
    }
    free(room);
}

static void look_up(judge *j, cmb_snapshot *snapshot, const scan *s)
{
    cmb_bytes keys[KEYS_MAX], values[KEYS_MAX], value;
    int results[KEYS_MAX];
    for (unsigned i = 0; i < s->key_count; i++)
        keys[i] = (cmb_bytes){s->keys[i], s->sizes[i]};
    if (answered(j, cmb_get_many(snapshot, keys, s->key_count, values, results), "keys cannot be looked up together"))
        return;
    uint64_t sums[KEYS_MAX];
    for (unsigned i = 0; i < s->key_count; i++)
        if (!answered(j, results[i], "a key that was scanned cannot be looked up"))
            sums[i] = sum_of(keys[i], values[i]);
    for (unsigned i = 0; i < s->key_count; i++) {
        if (results[i] || answered(j, cmb_get(snapshot, keys[i], &value), "a key that was scanned cannot be got"))
            continue;
        fuzz_check(sum_of(keys[i], value) == sums[i], "looking a key up alone and with others gives different values");
        if (i < 4) {
            uint8_t *copy = malloc(value.size ? value.size : 1);
            fuzz_check(copy, "no memory");
            memcpy(copy, value.data, value.size);
            read_stream(j, snapshot, keys[i], (cmb_bytes){copy, value.size});
            free(copy);
        }
    }
}

static void list(judge *j, cmb_snapshot *snapshot)
{
    cmb_dir *dir;
    cmb_dir_child child;
    int error = cmb_dir_open(snapshot, (cmb_bytes){0}, &dir);
    if (answered(j, error, "the root cannot be listed"))
        return;
    for (unsigned n = 0; !error && n < KEYS_MAX; n++)
        error = cmb_dir_next(dir, &child);
    found(j, error, "a listing ends before its end");
    cmb_dir_close(dir);
}

static void read_range(judge *j, cmb_snapshot *snapshot, const scan *s, const cmb_rev *rev)
{
    cmb_cursor *cursor;
    cmb_bytes from = {s->keys[1], s->sizes[1]}, key;
    uint64_t count;
    if (!answered(j, cmb_count(snapshot, &from, NULL, &count), "a range cannot be counted"))
        fuzz_check(!j->sound || count == rev->entries - 1, "a count of %llu", (unsigned long long)count);
    cmb_range range = {.from = from};
    if (answered(j, cmb_cursor_open(snapshot, &range, &cursor), "a cursor over a range cannot be opened"))
        return;
    if (!answered(j, cmb_cursor_seek_nth(cursor, 0), "the first entry of a range cannot be found")) {
        fuzz_must(cmb_cursor_key(cursor, &key));
        fuzz_check(!j->sound || cmb_compare(key.data, key.size, from.data, from.size) == 0, "the entry 0 of a range is not its first");
    }
    cmb_cursor_close(cursor);
}

static void read_state(judge *j, const char *rev)
{
    scan forward = {0}, backward = {0};
    cmb_snapshot *snapshot;
    cmb_rev at;
    if (answered(j, cmb_snapshot_open(j->store, rev, &snapshot), "a ref cannot be read"))
        return;
    cmb_snapshot_rev(snapshot, &at);
    bool there = scan_all(j, snapshot, true, &forward);
    bool back = scan_all(j, snapshot, false, &backward);
    fuzz_check(!j->sound || !there || !back || (forward.count == backward.count && forward.sum == backward.sum), "a scan differs from one backwards");
    fuzz_check(!there || !j->sound || forward.count == at.entries, "%llu entries, %llu are said", (unsigned long long)forward.count,
               (unsigned long long)at.entries);
    look_up(j, snapshot, &forward);
    list(j, snapshot);
    if (forward.key_count > 1)
        read_range(j, snapshot, &forward, &at);
    for (unsigned i = 0; i < forward.key_count; i++)
        free(forward.keys[i]);
    cmb_snapshot_close(snapshot);
}

/* ---- refs, history ---- */

typedef struct refs {
    unsigned count;
    char names[REFS_MAX][8 + CMB_REF_NAME_MAX];
} refs;

static int keep_ref(void *ctx, const cmb_ref *ref)
{
    refs *r = ctx;
    if (r->count == REFS_MAX)
        return 1;
    strcpy(r->names[r->count], ref->tag ? "tags/" : "heads/");
    strcat(r->names[r->count++], ref->name);
    return 0;
}

static int count_commit(void *ctx, const cmb_commit *commit)
{
    return ++((judge *)ctx)->told == COMMITS_MAX;
}

static int count_change(void *ctx, const cmb_change *change)
{
    return ++((judge *)ctx)->told == ENTRIES_MAX;
}

static int count_entry(void *ctx, const cmb_reflog_entry *entry)
{
    return ++((judge *)ctx)->told == COMMITS_MAX;
}

static int count_base(void *ctx, const cmb_name *base)
{
    return ++((judge *)ctx)->told == COMMITS_MAX;
}

/* Stopped by our callback, or none there: no errors. */
static void walked(judge *j, int error, const char *what)
{
    if (error != CMB_ESTOPPED)
        found(j, error, what);
    j->told = 0;
}

static void read_history(judge *j, const char *name)
{
    const char *revs[] = {name};
    cmb_range range = {.prefix = {"dir/", 4}};
    cmb_history_options options = {.revs = revs, .rev_count = 1, .order = CMB_HISTORY_TOPO};
    cmb_tag *tag;
    walked(j, cmb_log_first_parents(j->store, name, count_commit, j), "a log ends before its end");
    walked(j, cmb_history(j->store, &options, count_commit, j), "a history ends before its end");
    options.ranges = &range;
    options.range_count = 1;
    options.order = CMB_HISTORY_DATE;
    walked(j, cmb_history(j->store, &options, count_commit, j), "a history of a directory ends before its end");
    fuzz_coded(cmb_reflog(j->store, name, count_entry, j)); /* nothing is built on it */
    j->told = 0;
    int error = strncmp(name, "tags/", 5) ? CMB_ENOTFOUND : cmb_tag_read(j->store, name + 5, 0, &tag);
    if (!found(j, error, "a tag cannot be read"))
        cmb_tag_free(tag);
}

static void compare(judge *j, const char *a, const char *b)
{
    cmb_snapshot *x, *y;
    if (!answered(j, cmb_snapshot_open(j->store, a, &x), "a ref cannot be read")) {
        if (!answered(j, cmb_snapshot_open(j->store, b, &y), "a ref cannot be read")) {
            walked(j, cmb_diff(x, y, NULL, count_change, j), "a diff ends before its end");
            cmb_snapshot_close(y);
        }
        cmb_snapshot_close(x);
    }
    walked(j, cmb_merge_bases(j->store, a, b, count_base, j), "merge bases cannot be found");
}

void judge_read(cmb_store *store, bool sound)
{
    judge j = {.store = store, .sound = sound};
    refs r = {0};
    cmb_stat stat;
    answered(&j, cmb_stat_store(store, &stat, NULL, NULL), "there are no statistics");
    walked(&j, cmb_branch_list(store, keep_ref, &r), "branches cannot be listed");
    walked(&j, cmb_tag_list(store, keep_ref, &r), "tags cannot be listed");
    for (unsigned i = 0; i < r.count; i++) {
        read_state(&j, r.names[i]);
        read_history(&j, r.names[i]);
        if (i)
            compare(&j, r.names[i - 1], r.names[i]);
    }
}

/* ---- what is shown ---- */

static int add_ref(void *ctx, const cmb_ref *ref)
{
    uint64_t *sum = ctx;
    *sum = cmb_hash64(ref->name, strlen(ref->name), *sum + ref->tag);
    *sum = cmb_hash64(ref->at.commit.bytes, ref->at.commit.size, *sum);
    *sum = cmb_hash64(ref->at.root.bytes, ref->at.root.size, *sum);
    *sum = cmb_hash64(ref->object.bytes, ref->object.size, *sum);
    return 0;
}

uint64_t judge_shown(cmb_store *store)
{
    uint64_t sum = 1;
    int error = cmb_branch_list(store, add_ref, &sum);
    if (!error)
        error = cmb_tag_list(store, add_ref, &sum);
    return error ? 0 : sum;
}
