/* SPDX-License-Identifier: ISC */
/* What fsck says and returns when a writer goes on under it, or a disk or a repair fails: the library's calls are scripted here. */
#include "tools/cli.h"

#include <fcntl.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <cambium/cambium.h>

#include "io/base.h"

#define IMAGE "image.cmb"
#define ROUNDS_MAX 8

/* What each round of the check finds and returns, and the repair. */
typedef struct script {
    int open_error;
    struct {
        cmb_finding_number findings[3]; /* 0: none */
        int error;
    } rounds[ROUNDS_MAX];
    unsigned round;
    int mend_error;
    unsigned mended;
} script;
static script now;

int __real_cmb_store_open(const char *name, const cmb_store_options *options, cmb_store **out_store);
int __wrap_cmb_store_open(const char *name, const cmb_store_options *options, cmb_store **out_store);
int __wrap_cmb_fsck(cmb_store *store, const cmb_fsck_options *options, cmb_fsck_result *out_result);
int __wrap_cmb_fsck_mend(const char *name, const cmb_store_options *options, unsigned *out_mended);

int __wrap_cmb_store_open(const char *name, const cmb_store_options *options, cmb_store **out_store)
{
    return now.open_error ? cmb_fail(now.open_error, "scripted") : __real_cmb_store_open(name, options, out_store);
}

int __wrap_cmb_fsck(cmb_store *store, const cmb_fsck_options *options, cmb_fsck_result *out_result)
{
    size_t n;
    const cmb_finding_kind *kinds = cmb_finding_kinds(&n);
    (void)store;
    assert_true(now.round < ROUNDS_MAX);
    unsigned r = now.round++;
    cmb_fsck_result result = {0};
    for (unsigned i = 0; i < 3 && now.rounds[r].findings[i]; i++) {
        const cmb_finding_kind *kind = kinds;
        while (kind->number != (unsigned)now.rounds[r].findings[i])
            kind++;
        result.findings++;
        assert_int_equal(options->on_finding(options->ctx, &(cmb_finding){.code = kind->name, .error = CMB_ECORRUPT, .text = "scripted",
                                                                           .where = "", .kind = kind, .physical = CMB_NO_OFFSET}), 0);
    }
    if (now.rounds[r].error)
        return cmb_fail(now.rounds[r].error, "scripted");
    *out_result = result;
    return 0;
}

int __wrap_cmb_fsck_mend(const char *name, const cmb_store_options *options, unsigned *out_mended)
{
    (void)name;
    (void)options;
    if (now.mend_error)
        return cmb_fail(now.mend_error, "scripted");
    *out_mended = now.mended;
    return 0;
}

/* What the tool writes to standard output. */
static const char *run(const script *s, const char *one, const char *other, int *out_status)
{
    static char said[8192];
    char *argv[] = {(char *)(uintptr_t)IMAGE, (char *)(uintptr_t)one, (char *)(uintptr_t)other, NULL};
    now = *s;
    fflush(stdout);
    int kept = dup(STDOUT_FILENO), out = open("out", O_RDWR | O_CREAT | O_TRUNC, 0644);
    assert_true(kept >= 0 && out >= 0);
    dup2(out, STDOUT_FILENO);
    *out_status = cli_run(cli_find("fsck"), one ? other ? 3 : 2 : 1, argv);
    fflush(stdout);
    dup2(kept, STDOUT_FILENO);
    close(kept);
    ssize_t n = pread(out, said, sizeof said - 1, 0);
    close(out);
    assert_true(n >= 0);
    said[n] = 0;
    return said;
}

static unsigned count_of(const char *text, const char *part)
{
    unsigned n = 0;
    for (; (text = strstr(text, part)); text++)
        n++;
    return n;
}

static void what_was_found_before_a_writer_went_on_does_not_count(void **state)
{
    int status;
    script s = {.rounds = {{{CMB_FINDING_SUPERBLOCK_DAMAGED, CMB_FINDING_COMMIT_DAMAGED}, CMB_ESTALE}, {{0}, CMB_ESTALE}, {{0}, 0}}};
    (void)state;
    const char *said = run(&s, NULL, NULL, &status);
    assert_int_equal(status, CLI_FSCK_CLEAN);
    assert_int_equal(count_of(said, "the check begins again"), 1); /* nothing was shown in the second round */
    assert_non_null(strstr(said, "image.cmb: clean: "));
    said = run(&s, "--json", NULL, &status);
    assert_int_equal(status, CLI_FSCK_CLEAN);
    assert_int_equal(count_of(said, "\"finding\""), 2);
    assert_int_equal(count_of(said, "{\"begun_anew\": 1, \"findings\": 2}\n"), 1);
    assert_non_null(strstr(said, "{\"result\": \"clean\", "));
    s.rounds[2].findings[0] = CMB_FINDING_SUPERBLOCK_DAMAGED;
    said = run(&s, "--json", NULL, &status);
    assert_int_equal(status, CLI_FSCK_DAMAGED);
    assert_non_null(strstr(said, "{\"result\": \"damaged\", \"findings\": 1,"));
}

static void a_writer_that_goes_on_and_on_ends_the_check_without_a_result(void **state)
{
    int status;
    script s = {.rounds = {{{0}, CMB_ESTALE}, {{0}, CMB_ESTALE}, {{0}, CMB_ESTALE}, {{0}, CMB_ESTALE}, {{CMB_FINDING_LEAF_DAMAGED}, CMB_ESTALE}}};
    (void)state;
    const char *said = run(&s, NULL, NULL, &status);
    assert_int_equal(now.round, 5);
    assert_int_equal(status, CLI_FSCK_NOT_RUN | CLI_FSCK_DAMAGED);
    assert_null(strstr(said, "begins again"));
}

static void an_image_whose_root_cannot_be_read_is_damaged(void **state)
{
    int status;
    script s = {.open_error = CMB_EIO};
    (void)state;
    const char *said = run(&s, NULL, NULL, &status);
    assert_int_equal(status, CLI_FSCK_DAMAGED);
    assert_int_equal(count_of(said, "open-refused: "), 1);
    assert_non_null(strstr(said, "DAMAGED"));
    s.open_error = CMB_EPERM;
    said = run(&s, NULL, NULL, &status);
    assert_int_equal(status, CLI_FSCK_NOT_RUN);
    assert_string_equal(said, "");
}

static void what_a_writer_mended_first_is_repaired_too(void **state)
{
    int status;
    script s = {.rounds = {{{CMB_FINDING_SUPERBLOCK_DAMAGED}, 0}}};
    (void)state;
    const char *said = run(&s, "--repair", NULL, &status);
    assert_int_equal(status, CLI_FSCK_REPAIRED);
    assert_non_null(strstr(said, "image.cmb: repaired: "));
    assert_non_null(strstr(said, "a writer has written the superblock again"));
    s.rounds[0].findings[1] = CMB_FINDING_LEAF_DAMAGED;
    said = run(&s, "--repair", "--json", &status);
    assert_int_equal(status, CLI_FSCK_REPAIRED | CLI_FSCK_DAMAGED);
    assert_non_null(strstr(said, "{\"result\": \"damaged\", \"findings\": 2,"));
}

static void a_repair_that_fails_leaves_the_result_of_the_check(void **state)
{
    int status;
    script s = {.rounds = {{{CMB_FINDING_SUPERBLOCK_DAMAGED}, 0}}, .mend_error = CMB_EBUSY};
    (void)state;
    const char *said = run(&s, "--repair", "--json", &status);
    assert_int_equal(status, CLI_FSCK_NOT_RUN | CLI_FSCK_DAMAGED);
    assert_non_null(strstr(said, "{\"result\": \"damaged\", \"findings\": 1,"));
    said = run(&s, "--repair", NULL, &status);
    assert_non_null(strstr(said, "image.cmb: DAMAGED: "));
}

static char directory[] = "/tmp/cambium-fsck.XXXXXX";

static int make_image(void **state)
{
    (void)state;
    return !mkdtemp(directory) || chdir(directory) || cmb_store_init(IMAGE, NULL, NULL);
}

static int remove_image(void **state)
{
    (void)state;
    unlink(IMAGE);
    unlink("out");
    return chdir("/") || rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_found_before_a_writer_went_on_does_not_count),
        cmocka_unit_test(a_writer_that_goes_on_and_on_ends_the_check_without_a_result),
        cmocka_unit_test(an_image_whose_root_cannot_be_read_is_damaged),
        cmocka_unit_test(what_a_writer_mended_first_is_repaired_too),
        cmocka_unit_test(a_repair_that_fails_leaves_the_result_of_the_check),
    };
    return cmocka_run_group_tests(tests, make_image, remove_image);
}
