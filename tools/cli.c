/* SPDX-License-Identifier: ISC */
#include "tools/cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "io/where.h"
#include "tools/text.h"

#define CLI_STATUS_ROW(name, status, text) {(status), (text)},
const cli_status_text cli_statuses[] = {CLI_STATUS_LIST(CLI_STATUS_ROW){0, NULL}};
const cli_status_text cli_fsck_statuses[] = {CLI_FSCK_STATUS_LIST(CLI_STATUS_ROW){0, NULL}};
#undef CLI_STATUS_ROW

const cli_command *cli_find(const char *name)
{
    for (const cli_command *const *c = cli_commands; *c; c++) {
        if (strcmp((*c)->name, name) == 0)
            return *c;
    }
    return NULL;
}

/* ---- parsing ---- */

typedef struct parser {
    cli *c;
    char **argv;
    int argc;
    int at; /* next argument */
    bool help;
} parser;

static const cli_option *option_by_letter(const cli_command *command, char letter)
{
    for (size_t i = 0; i < command->option_count; i++) {
        if (command->options[i].letter == letter)
            return &command->options[i];
    }
    return NULL;
}

static const cli_option *option_by_name(const cli_command *command, const char *name, size_t size)
{
    for (size_t i = 0; i < command->option_count; i++) {
        const cli_option *o = &command->options[i];
        if (strlen(o->name) == size && memcmp(o->name, name, size) == 0)
            return o;
    }
    return NULL;
}

static void give(cli *c, const cli_option *option, const char *value)
{
    size_t i = (size_t)(option - c->command->options);
    c->given[i] = true;
    c->values[i] = value;
}

/* "--name", "--name=value", "--name value". */
static int parse_long(parser *p, const char *text)
{
    const char *equals = strchr(text, '=');
    size_t size = equals ? (size_t)(equals - text) : strlen(text);
    const cli_option *o = option_by_name(p->c->command, text, size);
    if (!o && strcmp(text, "help") == 0) {
        p->help = true;
        return 0;
    }
    if (!o)
        return cli_usage(p->c, "unknown option --%.*s", (int)size, text);
    if (!o->arg && equals)
        return cli_usage(p->c, "option --%s takes no argument", o->name);
    const char *value = equals ? equals + 1 : NULL;
    if (o->arg && !value) {
        if (p->at == p->argc)
            return cli_usage(p->c, "option --%s needs an argument: %s", o->name, o->arg);
        value = p->argv[p->at++];
    }
    give(p->c, o, value);
    return 0;
}

/* "-x", "-xy" for several without argument, "-xVALUE", "-x VALUE". */
static int parse_letters(parser *p, const char *text)
{
    for (; *text != '\0'; text++) {
        const cli_option *o = option_by_letter(p->c->command, *text);
        if (!o && *text == 'h') {
            p->help = true;
            continue;
        }
        if (!o)
            return cli_usage(p->c, "unknown option -%c", *text);
        if (!o->arg) {
            give(p->c, o, NULL);
            continue;
        }
        const char *value = text + 1;
        if (*value == '\0') {
            if (p->at == p->argc)
                return cli_usage(p->c, "option -%c needs an argument: %s", o->letter, o->arg);
            value = p->argv[p->at++];
        }
        give(p->c, o, value);
        break;
    }
    return 0;
}

/* Options may stand anywhere; operands are moved to the front of argv. */
static int parse(parser *p, int *out_operands)
{
    int operands = 0;
    bool only_operands = false;
    while (p->at < p->argc) {
        char *arg = p->argv[p->at++];
        int status = 0;
        if (only_operands || arg[0] != '-' || arg[1] == '\0')
            p->argv[operands++] = arg;
        else if (strcmp(arg, "--") == 0)
            only_operands = true;
        else
            status = arg[1] == '-' ? parse_long(p, arg + 2) : parse_letters(p, arg + 1);
        if (status)
            return status;
    }
    *out_operands = operands;
    return 0;
}

int cli_run(const cli_command *command, int argc, char **argv)
{
    cli c = {.command = command};
    parser p = {.c = &c, .argv = argv, .argc = argc};
    int status = parse(&p, &c.operand_count);
    if (status)
        return status;
    if (p.help) {
        cli_help(stdout, command);
        return cli_end_output(CLI_OK);
    }
    c.operands = (const char *const *)argv;
    if (c.operand_count < command->min_operands)
        return cli_usage(&c, c.operand_count == 0 ? "an image is needed" : "too few operands");
    if (command->max_operands >= 0 && c.operand_count > command->max_operands)
        return cli_usage(&c, "one operand too many: %s", c.operands[command->max_operands]);
    return command->run(&c);
}

bool cli_u64(const cli *c, int option, uint64_t *out)
{
    if (!cli_has(c, option) || text_parse_u64(c->values[option], out))
        return true;
    cli_usage(c, "--%s: not a number: %s", c->command->options[option].name, c->values[option]);
    return false;
}

bool cli_size(const cli *c, int option, uint64_t *out)
{
    if (!cli_has(c, option) || text_parse_size(c->values[option], out))
        return true;
    cli_usage(c, "--%s: not a size (digits, then K, M, G or T or nothing): %s", c->command->options[option].name,
              c->values[option]);
    return false;
}

bool cli_key(const cli *c, const char *text, bool hex, uint8_t *room, cmb_bytes *out_key)
{
    cmb_bytes key = {text, strlen(text)};
    if (hex) {
        if (!text_parse_hex(text, room, CMB_KEY_MAX, &key.size)) {
            cli_usage(c, "not hexadecimal, or more than %u bytes: %s", CMB_KEY_MAX, text);
            return false;
        }
        key.data = room;
    }
    if (key.size < CMB_KEY_MIN || key.size > CMB_KEY_MAX) {
        cli_usage(c, "a key has 1 to %u bytes, this one %zu", CMB_KEY_MAX, key.size);
        return false;
    }
    *out_key = key;
    return true;
}

/* ---- help ---- */

/* Lines with something before each. */
static void print_lines(FILE *out, const char *lines, const char *before)
{
    while (*lines != '\0') {
        size_t n = strcspn(lines, "\n");
        fprintf(out, "%s%.*s\n", before, (int)n, lines);
        lines += n + (lines[n] == '\n');
    }
}

static void print_options(FILE *out, const cli_command *command)
{
    fputs("\nOptions:\n", out);
    for (size_t i = 0; i < command->option_count; i++) {
        const cli_option *o = &command->options[i];
        char left[64];
        char letter[5] = "    ";
        if (o->letter) {
            letter[0] = '-';
            letter[1] = o->letter;
            letter[2] = ',';
        }
        snprintf(left, sizeof(left), "%s--%s%s%s", letter, o->name, o->arg ? " " : "", o->arg ? o->arg : "");
        fprintf(out, "  %-26s %s\n", left, o->help);
    }
    fprintf(out, "  %-26s %s\n", "-h, --help", "shows this");
}

static void print_statuses(FILE *out, const cli_status_text *statuses)
{
    fputs("\nExit status:\n", out);
    for (; statuses->text; statuses++)
        fprintf(out, "  %2d  %s\n", statuses->status, statuses->text);
}

void cli_help(FILE *out, const cli_command *command)
{
    fprintf(out, "cambium %s: %s\n\nUsage:\n", command->name, command->summary);
    print_lines(out, command->synopsis, "  cambium ");
    if (command->details) {
        putc('\n', out);
        print_lines(out, command->details, "");
    }
    print_options(out, command);
    fputs("\nExamples:\n", out);
    print_lines(out, command->examples, "  ");
    print_statuses(out, command->statuses ? command->statuses : cli_statuses);
}

void cli_help_all(FILE *out)
{
    fputs("cambium: a copy-on-write B-tree with branches, commits and history, in one image\n\n"
          "Usage:\n  cambium COMMAND IMAGE [OPERAND...] [OPTION...]\n\nCommands:\n",
          out);
    for (const cli_command *const *c = cli_commands; *c; c++)
        fprintf(out, "  %-10s %s\n", (*c)->name, (*c)->summary);
    fputs("\nOptions:\n"
          "  -h, --help                 shows this; cambium COMMAND --help tells all about one command\n"
          "      --version              shows the version\n\n"
          "IMAGE is a file, a block device, or a device with options: data.cmb, /dev/vdb, 'data.cmb?io=uring'.\n"
          "REV is a branch, a tag, or a commit id or the first digits of one; then any number of ~N (N-th first\n"
          "parent) and ^N (N-th parent). A branch may stand on a working state, which is durable but no commit:\n"
          "BRANCH~1 is the commit below it, BRANCH^{root} names its content.\n"
          "- is standard input or standard output. -- ends the options.\n\n"
          "Examples:\n"
          "  cambium init data.cmb\n"
          "  cambium put data.cmb greeting 'hello, world' -m 'first ring'\n"
          "  cambium get data.cmb greeting\n"
          "  mdb_dump -n old.mdb | cambium load data.cmb -m 'moved from LMDB'\n"
          "  cambium log data.cmb\n",
          out);
    print_statuses(out, cli_statuses);
    fputs("\ncambium fsck and cambium salvage have exit statuses of their own: see their --help.\n", out);
}

/* ---- messages ---- */

/* One line, whatever stands in the names it quotes. */
static void say(const char *format, va_list args)
{
    char line[1600], shown[2000];
    vsnprintf(line, sizeof(line), format, args);
    fflush(stdout);
    fprintf(stderr, "cambium: %s\n", text_field_of(shown, sizeof(shown), line, strlen(line)));
}

int cli_usage(const cli *c, const char *format, ...)
{
    char what[1200];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    return cli_say(c->command->usage_status, c->command->name, "%s (see 'cambium %s --help')", what, c->command->name);
}

static void say_line(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say_line(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(format, args);
    va_end(args);
}

int cli_say(int status, const char *thing, const char *format, ...)
{
    char what[1200];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    say_line("%s: %s", thing, what);
    return status;
}

int cli_status(int error)
{
    switch ((cmb_error)error) {
    case CMB_OK:
        return CLI_OK;
    case CMB_ENOTFOUND:
    case CMB_EWORKING:
        return CLI_NOT_FOUND;
    case CMB_EINVAL:
    case CMB_ESYNTAX:
    case CMB_EAMBIGUOUS:
    case CMB_ETOOBIG:
        return CLI_USAGE;
    case CMB_EBUSY:
    case CMB_ECONFLICT:
    case CMB_ESTALE:
        return CLI_BUSY;
    case CMB_EEXIST:
        return CLI_EXISTS;
    case CMB_EUNKNOWN:
        return CLI_UNKNOWN;
    case CMB_EIO:
    case CMB_ENOMEM:
    case CMB_ENOSPC:
    case CMB_ECORRUPT:
    case CMB_ENOTIMAGE:
    case CMB_EVERSION:
    case CMB_EREADONLY:
    case CMB_ENOTSUP:
    case CMB_ESTOPPED:
    case CMB_ENODURABLE:
    case CMB_EPERM:
        return CLI_IMAGE;
    }
    return CLI_IMAGE;
}

int cli_fail_on(const char *thing, int error)
{
    const char *detail = cmb_error_detail();
    size_t n = strlen(thing);
    if (strncmp(detail, thing, n) == 0 && detail[n] == ':') /* named once is enough */
        detail += n + 1 + (detail[n + 1] == ' ');
    say_line("%s: %s%s%s", thing, cmb_strerror(error), detail[0] ? ": " : "", detail);
    return cli_status(error);
}

int cli_fail(const cli *c, int error)
{
    return cli_fail_on(cli_image(c), error);
}

/* ---- images ---- */

int cli_fail_open(const char *image, int error)
{
    int status = cli_fail_on(image, error);
    return status == CLI_NOT_FOUND || status == CLI_USAGE ? CLI_IMAGE : status;
}

int cli_open(const cli *c, bool writable, cmb_store **out_store)
{
    cmb_store_options options = {.read_only = !writable};
    int rc = cmb_store_open(cli_image(c), &options, out_store);
    return rc ? cli_fail_open(cli_image(c), rc) : 0;
}

int cli_close(const cli *c, cmb_store *store, int status)
{
    int rc = cmb_store_close(store);
    return rc && status == 0 ? cli_fail(c, rc) : status;
}

const char *cli_author(const cli *c, int option)
{
    static const char *const variables[] = {"CAMBIUM_AUTHOR", "USER"};
    if (cli_has(c, option))
        return c->values[option];
    for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++) {
        const char *value = getenv(variables[i]);
        if (value && value[0] != '\0')
            return value;
    }
    return "unknown";
}

const cmb_commit_info *cli_commit_info(const cli *c, int message, int author, cmb_commit_info *info)
{
    if (!cli_has(c, message) && !cli_has(c, author))
        return NULL;
    *info = (cmb_commit_info){.message = cli_value(c, message, ""), .author = cli_author(c, author)};
    return info;
}

int cli_commit(cmb_txn *txn, const cmb_commit_info *info, cmb_rev *out_rev)
{
    int rc = cmb_txn_commit(txn, info, out_rev);
    if (rc == CMB_ENOSPC || rc == CMB_ENOMEM || rc == CMB_EINVAL) /* then, and only then, it is still open */
        cmb_txn_abort(txn);
    return rc;
}

/* ---- output ---- */

bool cli_is_device(const char *name, const char *path)
{
    cmb_allocator alloc = cmb_allocator_or_default(NULL);
    cmb_where device, file;
    if (cmb_device_look(name, &alloc, &device))
        return false; /* it will be refused where it is opened */
    cmb_path_look(path, &file);
    return cmb_where_same(&device, &file);
}

FILE *cli_output_open(const char *image, const char *path)
{
    if (!path || strcmp(path, "-") == 0)
        return stdout;
    if (cli_is_device(image, path)) {
        say_line("%s: it is the image itself", path);
        return NULL;
    }
    FILE *out = fopen(path, "wbe");
    if (!out)
        say_line("%s: %s", path, strerror(errno));
    return out;
}

int cli_output_close(FILE *out, const char *path, int status)
{
    bool bad = ferror(out) != 0;
    int e = errno; /* of the write that failed, unless a call in between failed as well */
    if (fflush(out) != 0) {
        bad = true;
        e = errno;
    }
    if (out != stdout && fclose(out) != 0) {
        bad = true;
        e = errno;
    }
    if (!bad || status != CLI_OK)
        return status;
    if (e != EPIPE)
        say_line("%s: write: %s", out == stdout ? "standard output" : path, strerror(e));
    return CLI_OUTPUT;
}

int cli_end_output(int status)
{
    return cli_output_close(stdout, NULL, status);
}
