/* SPDX-License-Identifier: ISC */
/* main.c: finds the command and runs it. */
#include <signal.h>
#include <string.h>

#include "tools/cli.h"

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is an error of write, with an exit status of its own */
    if (argc < 2) {
        cli_help_all(stderr);
        return CLI_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        cli_help_all(stdout);
        return cli_end_output(CLI_OK);
    }
    if (strcmp(name, "--version") == 0) {
        printf("cambium %s\n", cmb_version());
        return cli_end_output(CLI_OK);
    }
    const cli_command *command = cli_find(name);
    if (!command)
        return cli_say(CLI_USAGE, name, "no such command (see 'cambium --help')");
    return cli_run(command, argc - 2, argv + 2);
}
