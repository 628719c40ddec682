/* SPDX-License-Identifier: ISC */
/*
 * cli.h: what all commands of `cambium` share: a command as data (from which the parser and --help
 * are made), parsed arguments, messages, exit statuses, opening an image, ending the output.
 */
#ifndef CMB_TOOLS_CLI_H
#define CMB_TOOLS_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cambium/store.h>

/* Exit statuses: X(name, status, text). The only place: the enum, `cambium --help` and, held to it by a test, the
 * manual. fsck has its own, as fsck(8). */
#define CLI_STATUS_LIST(X)                                                                                             \
    X(OK, 0, "done")                                                                                                   \
    X(NOT_FOUND, 1, "no such key, branch, tag or commit; or a difference was found")                                   \
    X(USAGE, 2, "wrong usage: an unknown option, a missing operand, a malformed name or revision")                     \
    X(IMAGE, 3, "the image or its device: missing, foreign, damaged, unreadable, full; or no memory")                  \
    X(INPUT, 4, "malformed or unreadable input; the image is as it was")                                               \
    X(BUSY, 5, "in use, or changed by someone else meanwhile; the image is as it was, try again")                      \
    X(EXISTS, 6, "it exists already; the image is as it was")                                                          \
    X(OUTPUT, 7, "the output could not be written; a closed pipe says so by this status alone")                        \
    X(UNKNOWN, 8,                                                                                                      \
      "outcome unknown: the device failed while the change was being made durable; look before trying again")
#define CLI_FSCK_STATUS_LIST(X)                                                                                        \
    X(CLEAN, 0, "no damage was found")                                                                                 \
    X(REPAIRED, 1, "damage was repaired: by --repair, or by a writer when it came to it")                              \
    X(DAMAGED, 4, "damage was found and is left as it is")                                                             \
    X(NOT_RUN, 8, "check or repair could not end: a missing or foreign file, no permission, no memory, a busy writer") \
    X(USAGE, 16, "wrong usage")

enum {
#define CLI_STATUS_ENUM(name, status, text) CLI_##name = (status),
    CLI_STATUS_LIST(CLI_STATUS_ENUM)
#undef CLI_STATUS_ENUM
#define CLI_STATUS_ENUM(name, status, text) CLI_FSCK_##name = (status),
        CLI_FSCK_STATUS_LIST(CLI_STATUS_ENUM)
#undef CLI_STATUS_ENUM
};
typedef struct cli_status_text {
    int status;
    const char *text;
} cli_status_text;
extern const cli_status_text cli_statuses[], cli_fsck_statuses[]; /* text NULL ends them */

#define CLI_OPTIONS_MAX 16

typedef struct cli_option {
    char letter;      /* 0: none */
    const char *name; /* without "--" */
    const char *arg;  /* what its argument is called, or NULL */
    const char *help; /* one line */
} cli_option;

typedef struct cli cli;
typedef struct cli_command {
    const char *name;
    const char *summary;  /* one line, without a full stop */
    const char *synopsis; /* lines, each what follows "cambium" */
    const char *details;  /* lines, or NULL */
    const char *examples; /* lines, each a command */
    const cli_option *options;
    size_t option_count;
    int min_operands, max_operands;  /* -1: any number */
    const cli_status_text *statuses; /* NULL: the common ones */
    int usage_status;
    int (*run)(cli *c); /* returns the exit status */
} cli_command;

/* The arguments of one run. */
struct cli {
    const cli_command *command;
    const char *const *operands; /* the first is the image */
    int operand_count;
    const char *values[CLI_OPTIONS_MAX]; /* by index in the command's options; the last one given counts */
    bool given[CLI_OPTIONS_MAX];
};

extern const cli_command *const cli_commands[]; /* ends in NULL */
const cli_command *cli_find(const char *name);  /* NULL: no such command */

/* Parses argv[0..argc) (without the command's name; it is reordered) and runs the command. */
int cli_run(const cli_command *command, int argc, char **argv);
void cli_help(FILE *out, const cli_command *command);
void cli_help_all(FILE *out);

/* ---- in commands ---- */
static inline bool cli_has(const cli *c, int option)
{
    return c->given[option];
}
/* The option's argument, else `otherwise`. */
static inline const char *cli_value(const cli *c, int option, const char *otherwise)
{
    return c->given[option] ? c->values[option] : otherwise;
}
static inline const char *cli_image(const cli *c)
{
    return c->operands[0];
}
/* The operand, or NULL if there are fewer. */
static inline const char *cli_operand(const cli *c, int i)
{
    return i < c->operand_count ? c->operands[i] : NULL;
}
/* Numbers; false after a message: return the command's usage status. *out stays as it is if the option is not given. */
bool cli_u64(const cli *c, int option, uint64_t *out);
bool cli_size(const cli *c, int option, uint64_t *out);

/* "cambium: COMMAND: what (see 'cambium COMMAND --help')"; returns the usage status. */
int cli_usage(const cli *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* "cambium: IMAGE: what: detail" for the library's last error; returns its exit status. */
int cli_fail(const cli *c, int error);
/* The same for something else than the image: a file, standard input. */
int cli_fail_on(const char *thing, int error);
/* "cambium: THING: text"; returns `status`. */
int cli_say(int status, const char *thing, const char *format, ...) __attribute__((format(printf, 3, 4)));
int cli_status(int error);

/* A key operand, or option argument: as it is, or hexadecimal. False after a message. Points to `room`, of
 * CMB_KEY_MAX bytes, or to text. */
bool cli_key(const cli *c, const char *text, bool hex, uint8_t *room, cmb_bytes *out_key);

/* The same for an image that could not be opened: a missing one is no missing key, a bad device name no bad revision.
 */
int cli_fail_open(const char *image, int error);
/* Opens the image named by the first operand; 0, or an exit status after a message. */
int cli_open(const cli *c, bool writable, cmb_store **out_store);
/* Closes it; a failure of the seal becomes the status if that was 0. */
int cli_close(const cli *c, cmb_store *store, int status);
/* Who writes: the option's argument, else $CAMBIUM_AUTHOR, $USER or "unknown". */
const char *cli_author(const cli *c, int option);
/* The information of a commit as -m and -a say: NULL if neither is given (a working state). */
const cmb_commit_info *cli_commit_info(const cli *c, int message, int author, cmb_commit_info *info);

/* Commits; after an error the transaction is aborted: it is gone in any case. */
int cli_commit(cmb_txn *txn, const cmb_commit_info *info, cmb_rev *out_rev);

/* Could all that was written to the stream so far be written? To stop long outputs early. */
static inline bool cli_output_ok(FILE *out)
{
    return !ferror(out);
}
/* Flushes standard output; a failure becomes the status if that was 0. Silent for a closed pipe. */
int cli_end_output(int status);
/* A file for output: `path`, NULL or "-" for standard output. NULL after a message; also where it is the image, which would be gone. */
FILE *cli_output_open(const char *image, const char *path);
/* Does the path lead to the device of that name? */
bool cli_is_device(const char *name, const char *path);
/* Ends it as cli_end_output does. */
int cli_output_close(FILE *out, const char *path, int status);

#endif
