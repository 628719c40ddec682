/* SPDX-License-Identifier: ISC */
/* The commands as data: parser, help and manual agree. The manual's directory is the argument. */
#include <cambium/fsck.h>

#include "tools/cli.h"

#include <dirent.h>

#include "tool_test.h"

static char *manual; /* all pages, one after the other */

static char *help_of(const cli_command *command)
{
    char *data;
    size_t size;
    FILE *out = open_memstream(&data, &size);
    assert_non_null(out);
    if (command)
        cli_help(out, command);
    else
        cli_help_all(out);
    fclose(out);
    return data;
}

/* Reads every page in the directory. */
static char *read_manual(const char *path)
{
    char *data;
    size_t size;
    FILE *out = open_memstream(&data, &size);
    DIR *dir = opendir(path);
    if (!dir || !out)
        return NULL;
    for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        char name[4096], line[4096];
        snprintf(name, sizeof(name), "%s/%s", path, e->d_name);
        FILE *in = strstr(e->d_name, ".1") ? fopen(name, "r") : NULL;
        while (in && fgets(line, sizeof(line), in))
            fputs(line, out);
        if (in)
            fclose(in);
    }
    closedir(dir);
    fclose(out);
    return data;
}

/* The manual's part about a command: from ".Ss name" to the next heading. */
static char *section_of(const char *name)
{
    char heading[80];
    snprintf(heading, sizeof(heading), "\n.Ss %s\n", name);
    char *from = strstr(manual, heading);
    if (!from)
        fail_msg("the manual has no section \"%s\"", name);
    from += strlen(heading);
    const char *ss = strstr(from, "\n.Ss "), *sh = strstr(from, "\n.Sh ");
    const char *end = ss && (!sh || ss < sh) ? ss : sh;
    return strndup(from, end ? (size_t)(end - from) : strlen(from));
}

static void every_option_is_in_its_commands_help(void **state)
{
    (void)state;
    for (const cli_command *const *c = cli_commands; *c; c++) {
        char *help = help_of(*c);
        for (size_t i = 0; i < (*c)->option_count; i++) {
            const cli_option *o = &(*c)->options[i];
            char wanted[80];
            snprintf(wanted, sizeof(wanted), "--%s%s%s ", o->name, o->arg ? " " : "", o->arg ? o->arg : "");
            if (!strstr(help, wanted) || !strstr(help, o->help))
                fail_msg("%s: the help does not tell of %s", (*c)->name, wanted);
            snprintf(wanted, sizeof(wanted), "-%c, --%s", o->letter, o->name);
            if (o->letter && !strstr(help, wanted))
                fail_msg("%s: the help does not tell of -%c", (*c)->name, o->letter);
        }
        free(help);
    }
}

static void every_command_has_synopsis_examples_and_a_line_in_the_overview(void **state)
{
    char *all = help_of(NULL);
    (void)state;
    for (const cli_command *const *c = cli_commands; *c; c++) {
        size_t n = strlen((*c)->name);
        assert_memory_equal((*c)->synopsis, (*c)->name, n);
        assert_int_equal((*c)->synopsis[n], ' ');
        assert_non_null(strstr((*c)->examples, "cambium "));
        assert_non_null(strstr((*c)->examples, (*c)->name));
        assert_non_null(strstr(all, (*c)->summary));
        assert_ptr_equal(cli_find((*c)->name), *c);
        assert_true((*c)->option_count <= CLI_OPTIONS_MAX);
        assert_true((*c)->min_operands >= 1);
    }
    assert_null(cli_find("nonsense"));
    free(all);
}

static void no_line_of_help_is_wider_than_120_columns(void **state)
{
    (void)state;
    for (const cli_command *const *c = cli_commands;; c++) {
        char *help = help_of(*c);
        for (const char *line = help; *line; line += strcspn(line, "\n") + 1) {
            if (strcspn(line, "\n") > 120)
                fail_msg("%s: a wide line: %.200s", *c ? (*c)->name : "overview", line);
        }
        free(help);
        if (!*c)
            break;
    }
}

static void no_two_options_of_a_command_share_a_name(void **state)
{
    (void)state;
    for (const cli_command *const *c = cli_commands; *c; c++) {
        for (size_t i = 0; i < (*c)->option_count; i++) {
            const cli_option *a = &(*c)->options[i];
            assert_non_null(a->name);
            assert_string_not_equal(a->name, "help");
            assert_int_not_equal(a->letter, 'h');
            for (size_t k = 0; k < i; k++) {
                const cli_option *b = &(*c)->options[k];
                assert_string_not_equal(a->name, b->name);
                assert_true(a->letter == 0 || a->letter != b->letter);
            }
        }
    }
}

static void the_manual_has_every_command_and_option(void **state)
{
    (void)state;
    for (const cli_command *const *c = cli_commands; *c; c++) {
        char wanted[120];
        snprintf(wanted, sizeof(wanted), "\n.It Cm %s\n", (*c)->name);
        if (!strstr(manual, wanted))
            fail_msg("cambium.1 does not list %s", (*c)->name);
        char *section = section_of((*c)->name);
        for (size_t i = 0; i < (*c)->option_count; i++) {
            const cli_option *o = &(*c)->options[i];
            if (o->letter)
                snprintf(wanted, sizeof(wanted), "\n.It Fl %c , Fl -%s%s", o->letter, o->name, o->arg ? " Ar" : "\n");
            else
                snprintf(wanted, sizeof(wanted), "\n.It Fl -%s%s", o->name, o->arg ? " Ar" : "\n");
            if (!strstr(section, wanted))
                fail_msg("%s: the manual does not tell of --%s (%s)", (*c)->name, o->name, wanted + 1);
        }
        free(section);
    }
}

static void the_manual_has_every_exit_status_with_its_text(void **state)
{
    (void)state;
    for (const cli_command *const *c = cli_commands; *c; c++) {
        for (const cli_status_text *s = (*c)->statuses ? (*c)->statuses : cli_statuses; s->text; s++) {
            char wanted[300];
            snprintf(wanted, sizeof(wanted), "\n.It %d\n%s\n", s->status, s->text);
            if (!strstr(manual, wanted))
                fail_msg("%s: the manual does not tell of status %d: %s", (*c)->name, s->status, s->text);
        }
    }
}

static void the_manual_has_every_finding_with_its_text(void **state)
{
    size_t n;
    const cmb_finding_kind *kinds = cmb_finding_kinds(&n);
    (void)state;
    for (size_t i = 0; i < n; i++) {
        char wanted[300];
        snprintf(wanted, sizeof(wanted), "\n.It %u Ta %s Ta %s Ta %s\n", kinds[i].number, kinds[i].name,
                 cmb_severity_name(kinds[i].severity), kinds[i].text);
        if (!strstr(manual, wanted))
            fail_msg("the manual does not tell of finding %s as\n%s", kinds[i].name, wanted);
        assert_true(i == 0 || kinds[i - 1].number < kinds[i].number);
    }
}

static void every_error_of_the_library_has_a_status_that_is_told(void **state)
{
    (void)state;
#define CHECK(name, number, message)                                                                                   \
    do {                                                                                                               \
        bool told = false;                                                                                             \
        for (const cli_status_text *s = cli_statuses; s->text; s++)                                                    \
            told |= s->status == cli_status(CMB_##name);                                                               \
        assert_true(told);                                                                                             \
        assert_int_not_equal(cli_status(CMB_##name), CLI_OK);                                                          \
    } while (0);
    CMB_ERROR_LIST(CHECK)
#undef CHECK
    assert_int_equal(cli_status(0), CLI_OK);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_option_is_in_its_commands_help),
        cmocka_unit_test(every_command_has_synopsis_examples_and_a_line_in_the_overview),
        cmocka_unit_test(no_line_of_help_is_wider_than_120_columns),
        cmocka_unit_test(no_two_options_of_a_command_share_a_name),
        cmocka_unit_test(the_manual_has_every_command_and_option),
        cmocka_unit_test(the_manual_has_every_exit_status_with_its_text),
        cmocka_unit_test(the_manual_has_every_finding_with_its_text),
        cmocka_unit_test(every_error_of_the_library_has_a_status_that_is_told),
    };
    manual = argc > 1 ? read_manual(argv[1]) : NULL;
    if (!manual) {
        fprintf(stderr, "usage: test_commands DIRECTORY-OF-MANUAL\n");
        return 2;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(manual);
    return failed;
}
