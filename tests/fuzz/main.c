/* SPDX-License-Identifier: ISC */
/*
 * main.c: runs a fuzz target without libFuzzer. usage: fuzz-TARGET [--seeds DIR] [FILE|DIR]...
 *
 * Without arguments under afl-fuzz: its loop. Else the seeds are run, then mutations of them (CMB_SEED says which, CMB_BUDGET how many
 * times as many), then the files, and those in the folders. --seeds DIR writes the seeds to files there, and that is all. An input that
 * ends in abort() is left in the file fuzz-TARGET.failed.
 */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"

#define INPUT_MAX ((size_t)1 << 20)
#define MUTATIONS 300u /* of all seeds together, at budget 1 */

static uint8_t input[INPUT_MAX];
static uint64_t random_state;

/* What is being run. */
static const uint8_t *current;
static size_t current_size;

static void run_input(const uint8_t *data, size_t size)
{
    current = data;
    current_size = size;
    LLVMFuzzerTestOneInput(data, size);
}

static void save_current(int sig)
{
    char path[64];
    snprintf(path, sizeof path, "fuzz-%s.failed", fuzz_target);
    FILE *f = current ? fopen(path, "wb") : NULL;
    if (f) {
        fwrite(current, 1, current_size, f);
        fclose(f);
    }
    signal(sig, SIG_DFL);
}

/* ---- mutations, simple ones: libFuzzer and AFL++ know more ---- */

static size_t below(size_t n)
{
    return n ? (size_t)(fuzz_random(&random_state) % n) : 0;
}

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max)
{
    static const uint8_t interesting[] = {0, 1, 2, 3, 4, 8, 16, 32, 48, 64, 127, 128, 200, 254, 255};
    size_t at = below(size), n = 1 + below(16);
    if (!size) {
        data[0] = (uint8_t)below(256);
        return max ? 1 : 0;
    }
    n = n > size - at ? size - at : n;
    switch (below(6)) {
    case 0:
        data[at] ^= (uint8_t)(1u << below(8));
        return size;
    case 1:
        data[at] = interesting[below(sizeof interesting)];
        return size;
    case 2:
        memset(data + at, below(2) ? 0xff : 0, n);
        return size;
    case 3: /* a piece goes */
        memmove(data + at, data + at + n, size - at - n);
        return size - n;
    case 4: /* a piece comes twice */
        if (size + n > max)
            return size;
        memmove(data + at + n, data + at, size - at);
        return size + n;
    default: /* a piece goes elsewhere */
        memmove(data + below(size - n + 1), data + at, n);
        return size;
    }
}

__attribute__((weak)) size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    return LLVMFuzzerMutate(data, size, max);
}

/* ---- seeds ---- */

typedef struct seeds {
    const char *directory;
    unsigned long count, mutations; /* of each */
} seeds;
static seeds run;

static void count_seed(const char *name, const void *data, size_t size)
{
    run.count++;
}

static void write_seed(const char *name, const void *data, size_t size)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", run.directory, name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f)) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        exit(1);
    }
}

static void run_seed(const char *name, const void *data, size_t size)
{
    uint8_t *exact = malloc(size ? size : 1);
    fuzz_check(exact && size <= INPUT_MAX, "seed %s has %zu bytes", name, size);
    memcpy(exact, data, size);
    run_input(exact, size);
    for (unsigned long i = 0; i < run.mutations; i++) {
        memcpy(input, exact, size);
        size_t n = size;
        for (size_t rounds = 1 + below(3); rounds > 0; rounds--)
            n = LLVMFuzzerCustomMutator(input, n, INPUT_MAX, (unsigned)fuzz_random(&random_state));
        run_input(input, n);
    }
    free(exact);
}

/* ---- files ---- */

static int run_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return 1;
    }
    size_t size = fread(input, 1, INPUT_MAX, f);
    fclose(f);
    /* In memory of its own, so that a sanitizer sees what is read past its end. */
    uint8_t *exact = malloc(size ? size : 1);
    fuzz_check(exact, "no memory");
    memcpy(exact, input, size);
    run_input(exact, size);
    free(exact);
    printf("%s\n", path);
    return 0;
}

static int run_path(const char *path)
{
    char name[4096];
    int failed = 0;
    DIR *dir = opendir(path);
    if (!dir)
        return errno == ENOTDIR ? run_file(path) : 0; /* a folder without inputs need not be there */
    for (struct dirent *e; (e = readdir(dir));) {
        if (e->d_name[0] == '.')
            continue;
        snprintf(name, sizeof name, "%s/%s", path, e->d_name);
        failed |= run_file(name);
    }
    closedir(dir);
    return failed;
}

#ifdef __AFL_FUZZ_TESTCASE_LEN
__AFL_FUZZ_INIT();

static void afl_loop(void)
{
    __AFL_INIT();
    const uint8_t *data = __AFL_FUZZ_TESTCASE_BUF;
    while (__AFL_LOOP(10000))
        LLVMFuzzerTestOneInput(data, (size_t)__AFL_FUZZ_TESTCASE_LEN);
}
#endif

static unsigned long number_of(const char *variable, unsigned long otherwise)
{
    const char *s = getenv(variable);
    return s ? strtoul(s, NULL, 0) : otherwise;
}

int main(int argc, char **argv)
{
    int failed = 0;
    if (argc == 3 && strcmp(argv[1], "--seeds") == 0) {
        run.directory = argv[2];
        fuzz_seeds(write_seed);
        return 0;
    }
#ifdef __AFL_FUZZ_TESTCASE_LEN
    if (argc == 1) {
        afl_loop();
        return 0;
    }
#endif
    signal(SIGABRT, save_current);
    random_state = number_of("CMB_SEED", 1);
    printf("CMB_SEED=%llu\n", (unsigned long long)random_state);
    fuzz_seeds(count_seed);
    run.mutations = 1 + MUTATIONS * number_of("CMB_BUDGET", 1) / (run.count ? run.count : 1);
    fuzz_seeds(run_seed);
    printf("%lu seeds, %lu mutations of each\n", run.count, run.mutations);
    for (int i = 1; i < argc; i++)
        failed |= run_path(argv[i]);
    return failed;
}
