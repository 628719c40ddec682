/* SPDX-License-Identifier: ISC */
/* commands.h: the commands, each in its own cmd_*.c, listed in commands.c. */
#ifndef CMB_TOOLS_COMMANDS_H
#define CMB_TOOLS_COMMANDS_H

#include "tools/cli.h"

extern const cli_command cmd_init, cmd_put, cmd_get, cmd_del, cmd_scan, cmd_load, cmd_dump, cmd_branch, cmd_tag,
    cmd_diff, cmd_ls, cmd_merge, cmd_revert, cmd_cherry_pick, cmd_pull, cmd_bundle,
    cmd_log, cmd_show, cmd_merge_base, cmd_reflog, cmd_last_modified, cmd_rev_parse, cmd_stat, cmd_inspect, cmd_fsck, cmd_salvage, cmd_import_git, cmd_export_git;

#endif
