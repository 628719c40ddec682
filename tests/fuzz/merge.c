/* SPDX-License-Identifier: ISC */
/*
 * merge.c: merge functions and counters. An input is
 *
 *   0  u8  what the values are, below; 16, 32, 64: ancestor, theirs, mine are absent
 *   1  u16 bytes of the ancestor, and of theirs; then these, the rest is mine
 *
 * Merging with the sides swapped gives the same; so does merging what came out with either side again, for counters.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/merging.h"
#include "tests/fuzz/scripts.h"

#define MEMORY ((size_t)64 << 20)
enum { UNION, COUNTER, JSON, COUNTER_ADD, KINDS };

const char fuzz_target[] = "merge";

typedef struct outcome {
    int answer;
    uint8_t *bytes; /* of the value that comes of it; NULL: none */
    size_t size;
} outcome;

/* What a function makes of three values; a side that is NULL is absent. */
static outcome merge(cmb_store *store, cmb_merge_fn fn, const cmb_bytes *base, const cmb_bytes *theirs, const cmb_bytes *mine)
{
    const cmb_bytes *sides[CMB_SIDES] = {[CMB_SIDE_BASE] = base, [CMB_SIDE_THEIRS] = theirs, [CMB_SIDE_MINE] = mine};
    outcome result = {0};
    cmb_bytes value = {0};
    cmb_clash clash;
    cmb_clash_init(&clash, store);
    clash.key = (cmb_bytes){"key", 3};
    for (unsigned i = 0; i < CMB_SIDES; i++)
        if (sides[i])
            cmb_clash_set(&clash, (cmb_clash_side)i, &(cmb_found){.value = *sides[i]});
    result.answer = fn(NULL, &clash, &value);
    fuzz_check(result.answer <= CMB_ANSWER_DELETE, "the answer %d", result.answer);
    if (result.answer < 0)
        fuzz_coded(result.answer);
    if (result.answer == CMB_ANSWER_MINE || result.answer == CMB_ANSWER_THEIRS) {
        const cmb_bytes *side = sides[result.answer == CMB_ANSWER_MINE ? CMB_SIDE_MINE : CMB_SIDE_THEIRS];
        result.answer = side ? CMB_ANSWER_VALUE : CMB_ANSWER_DELETE;
        value = side ? *side : value;
    }
    if (result.answer == CMB_ANSWER_VALUE) {
        result.bytes = malloc(value.size ? value.size : 1);
        fuzz_check(result.bytes, "no memory");
        result.size = value.size;
        if (value.size)
            memcpy(result.bytes, value.data, value.size);
    }
    cmb_release(fuzz_allocator(), clash.room, clash.room_size);
    return result;
}

static void try_merge(cmb_store *store, unsigned kind, const cmb_bytes *base, const cmb_bytes *theirs, const cmb_bytes *mine)
{
    static const cmb_merge_fn fns[] = {[UNION] = cmb_merge_union, [COUNTER] = cmb_merge_counter, [JSON] = cmb_merge_json};
    outcome a = merge(store, fns[kind], base, theirs, mine), b = merge(store, fns[kind], base, mine, theirs);
    fuzz_check(fuzz_refused() || (a.answer == b.answer && a.size == b.size && (!a.size || memcmp(a.bytes, b.bytes, a.size) == 0)),
               "merging with the sides swapped gives something else");
    if (kind == COUNTER && a.bytes && theirs) {
        outcome again = merge(store, fns[kind], base, theirs, &(cmb_bytes){a.bytes, a.size});
        fuzz_check(fuzz_refused() || (again.bytes && again.size == a.size && (!a.size || memcmp(again.bytes, a.bytes, a.size) == 0)),
                   "merging a side again changes a counter");
        free(again.bytes);
    }
    free(a.bytes);
    free(b.bytes);
}

/* What is added is there; what is no counter stays none. */
static void try_counter(cmb_bytes value, cmb_bytes replica, cmb_bytes number)
{
    char name[128] = {0};
    uint8_t *out = malloc(value.size + CMB_COUNTER_SLOT_MAX);
    size_t size = 0;
    int64_t before = 0, after = 0, delta = 0;
    fuzz_check(out, "no memory");
    if (replica.size)
        memcpy(name, replica.data, replica.size < sizeof name ? replica.size : sizeof name - 1);
    if (number.size)
        memcpy(&delta, number.data, number.size < 8 ? number.size : 8);
    int read = fuzz_coded(cmb_counter_read(value, &before));
    int error = fuzz_coded(cmb_counter_add(value, name, delta, out, value.size + CMB_COUNTER_SLOT_MAX, &size));
    if (!error) {
        fuzz_check(read != CMB_ESYNTAX && size <= value.size + CMB_COUNTER_SLOT_MAX, "something was added to what is no counter");
        int again = fuzz_coded(cmb_counter_read((cmb_bytes){out, size}, &after));
        fuzz_check(again != CMB_ESYNTAX, "what comes of adding is no counter");
        fuzz_check(read || again || (uint64_t)after == (uint64_t)before + (uint64_t)delta, "%lld and %lld is not %lld", (long long)before,
                   (long long)delta, (long long)after);
    }
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, data + size};
    unsigned head = fuzz_byte(&in), kind = (head & 15u) % KINDS;
    uint64_t base_size = fuzz_uint(&in, 2), theirs_size = fuzz_uint(&in, 2);
    cmb_bytes base = fuzz_bytes(&in, base_size), theirs = fuzz_bytes(&in, theirs_size), mine = fuzz_bytes(&in, SIZE_MAX);
    if (kind == COUNTER_ADD) {
        try_counter(mine, base, theirs);
        return 0;
    }
    fuzz_begin(MEMORY);
    cmb_store store = {.alloc = *fuzz_allocator()}; /* merge functions ask it for nothing but memory */
    try_merge(&store, kind, head & 16 ? NULL : &base, head & 32 ? NULL : &theirs, head & 64 ? NULL : &mine);
    fuzz_end();
    return 0;
}

/* ---- seeds ---- */

static void give_values(fuzz_give_fn give, const char *name, unsigned head, const char *base, const char *theirs, const char *mine)
{
    fuzz_buffer input = {0};
    uint8_t sizes[5] = {(uint8_t)head};
    cmb_put16(sizes + 1, (uint16_t)strlen(base));
    cmb_put16(sizes + 3, (uint16_t)strlen(theirs));
    fuzz_buffer_write(&input, sizes, sizeof sizes);
    fuzz_buffer_write(&input, base, strlen(base));
    fuzz_buffer_write(&input, theirs, strlen(theirs));
    fuzz_buffer_write(&input, mine, strlen(mine));
    give(name, input.data, input.size);
    fuzz_buffer_free(&input);
}

void fuzz_seeds(fuzz_give_fn give)
{
    give_values(give, "lines", UNION, "a\nb\nc\n", "a\nx\nb\n", "b\nc\ny");
    give_values(give, "lines-new", UNION | 16, "", "a\nb\n", "b\na\n");
    give_values(give, "lines-deleted", UNION | 32, "a\n", "", "b\n");
    give_values(give, "counter", COUNTER, "a 1 0\n", "a 3 1\nb 5 0\n", "a 2 2\nc 1 1\n");
    give_values(give, "counter-large", COUNTER, "", "a 18446744073709551615 0\n", "a 1 18446744073709551615\n");
    give_values(give, "json", JSON, "{\"a\":1,\"b\":{\"c\":[1,2]}}", "{\"a\":2,\"b\":{\"c\":[1,2],\"d\":\"\\u00e9\"}}", "{\"a\":1,\"e\":1.0e5}");
    give_values(give, "json-new", JSON | 16, "", "{\"x\":null,\"y\":true}", "{ \"y\" : true, \"z\" : -0.5 }");
    give_values(give, "json-scalars", JSON, "1", "\"a\"", "[]");
    give_values(give, "add", COUNTER_ADD, "replica", "\x05", "other 1 2\nreplica 3 4\n");
}
