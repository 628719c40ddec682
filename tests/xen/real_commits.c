/* SPDX-License-Identifier: ISC */
/*
 * real_commits.c: a program to be killed, and what must be there afterwards. For tests/xen/real.
 * usage: real-commits write DEVICE       commits 1, 2, 3 … and prints "acknowledged N" after each, until it is killed
 *        real-commits check DEVICE N     every commit up to N is there, whole, and nothing else but what may follow it
 * Commit n puts KEYS pairs of its own, and n under "last" together with the sum of all numbers so far.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cambium/cambium.h>

#define KEYS 5u
#define SIZE 700u /* of a value, bytes */

static cmb_bytes text(const char *s)
{
    return (cmb_bytes){s, strlen(s)};
}

static cmb_bytes key_of(uint32_t n, uint32_t i, char out[32])
{
    snprintf(out, 32, "%u/%08" PRIu32, i, n);
    return text(out);
}

static cmb_bytes value_of(uint32_t n, uint32_t i, uint8_t out[SIZE])
{
    uint32_t x = n * 8 + i;
    for (uint32_t at = 0; at < SIZE; at++) {
        x = x * 1664525u + 1013904223u;
        out[at] = (uint8_t)(x >> 24);
    }
    return (cmb_bytes){out, SIZE};
}

static cmb_bytes last_of(uint32_t n, char out[64])
{
    snprintf(out, 64, "%" PRIu32 " %" PRIu64, n, (uint64_t)n * (n + 1) / 2);
    return text(out);
}

/* Every other commit is a working commit, without author and message. */
static int commit(cmb_store *store, uint32_t n)
{
    char key[32], message[64];
    uint8_t value[SIZE];
    cmb_txn *txn;
    int error = cmb_txn_begin(store, "main", 0, &txn);
    if (error)
        return error;
    for (uint32_t i = 0; i < KEYS && !error; i++)
        error = cmb_txn_put(txn, key_of(n, i, key), value_of(n, i, value));
    if (!error)
        error = cmb_txn_put(txn, text("last"), last_of(n, message));
    if (error) {
        cmb_txn_abort(txn);
        return error;
    }
    const cmb_commit_info info = {.author = "real", .message = message};
    return cmb_txn_commit(txn, n % 2 ? &info : NULL, NULL);
}

/* 0 if there is no commit yet. */
static int last(cmb_snapshot *snapshot, uint32_t *out_last)
{
    char expected[64];
    cmb_bytes value;
    int error = cmb_get(snapshot, text("last"), &value);
    *out_last = 0;
    if (error)
        return error == CMB_ENOTFOUND ? 0 : error;
    for (size_t i = 0; i < value.size && ((const char *)value.data)[i] != ' '; i++)
        *out_last = *out_last * 10 + (uint32_t)(((const char *)value.data)[i] - '0');
    cmb_bytes whole = last_of(*out_last, expected);
    if (whole.size != value.size || memcmp(whole.data, value.data, whole.size) != 0) {
        fprintf(stderr, "\"last\" holds %.*s\n", (int)value.size, (const char *)value.data);
        return CMB_ECORRUPT;
    }
    return 0;
}

static int check(cmb_snapshot *snapshot, uint32_t least)
{
    char key[32];
    uint8_t expected[SIZE];
    uint32_t n, end;
    cmb_bytes value;
    int error = last(snapshot, &end);
    if (error)
        return error;
    for (n = 1; n <= end; n++) {
        for (uint32_t i = 0; i < KEYS; i++) {
            error = cmb_get(snapshot, key_of(n, i, key), &value);
            if (error)
                return error;
            (void)value_of(n, i, expected);
            if (value.size == SIZE && memcmp(value.data, expected, SIZE) == 0)
                continue;
            fprintf(stderr, "key %s holds other bytes\n", key);
            return CMB_ECORRUPT;
        }
    }
    for (uint32_t i = 0; i < KEYS; i++) {
        if (cmb_get(snapshot, key_of(n, i, key), &value) != CMB_ENOTFOUND) {
            fprintf(stderr, "key %s is there, of a commit that is not\n", key);
            return CMB_ECORRUPT;
        }
    }
    printf("%s: the last commit is %" PRIu32 ", the last that was acknowledged %" PRIu32 "\n",
           end >= least ? "nothing is lost" : "LOST", end, least);
    return end >= least ? 0 : CMB_ECORRUPT;
}

static int write_on(cmb_store *store)
{
    cmb_snapshot *snapshot;
    uint32_t n = 0;
    int error = cmb_snapshot_open(store, "main", &snapshot);
    if (!error) {
        error = last(snapshot, &n);
        cmb_snapshot_close(snapshot);
    }
    while (!error) {
        error = commit(store, ++n);
        if (!error)
            printf("acknowledged %" PRIu32 "\n", n);
        fflush(stdout);
    }
    return error;
}

static int run(const char *device, const char *least)
{
    cmb_store *store;
    cmb_snapshot *snapshot;
    int error = cmb_store_open(device, NULL, &store);
    if (error)
        return error;
    if (!least)
        error = write_on(store);
    else if (!(error = cmb_snapshot_open(store, "main", &snapshot))) {
        error = check(snapshot, (uint32_t)strtoul(least, NULL, 10));
        cmb_snapshot_close(snapshot);
    }
    int closed = cmb_store_close(store);
    return error ? error : closed;
}

int main(int argc, char **argv)
{
    bool writes = argc == 3 && strcmp(argv[1], "write") == 0, checks = argc == 4 && strcmp(argv[1], "check") == 0;
    if (!writes && !checks) {
        fprintf(stderr, "usage: real-commits write DEVICE | check DEVICE N\n");
        return 16;
    }
    int error = run(argv[2], checks ? argv[3] : NULL);
    if (error)
        fprintf(stderr, "%s: %s: %s\n", argv[2], cmb_error_name(error), cmb_error_detail());
    return error ? 1 : 0;
}
