/* SPDX-License-Identifier: ISC */
#include <inttypes.h>
#include <stdlib.h>

#include <cambium/git.h>
#include <cambium/path.h>

#include "io/base.h"
#include "tools/commands.h"
#include "tools/json.h"
#include "tools/text.h"
#include "tools/values.h"

enum { AT, BRANCH, LONG, RECURSIVE, ALL, JSON };
static const cli_option options[] = {
    [AT] = {0, "at", "REV", "the state to read (main)"},
    [BRANCH] = {'b', "branch", "BRANCH", "the same for a branch"},
    [LONG] = {'l', "long", NULL, "shows sizes of values, how many entries directories have, and modes in git images"},
    [RECURSIVE] = {'R', "recursive", NULL, "goes on with the directories in it"},
    [ALL] = {'a', "all", NULL, "also the entries in which git images keep modes"},
    [JSON] = {0, "json", NULL, "one object a line: path, entry, size, directory, below, mode"},
};

/* Prefixes of directories that are still to be listed; the last one comes next. */
typedef struct todo {
    cmb_bytes *items;
    size_t count, capacity;
} todo;

typedef struct ls {
    const cli *c;
    cmb_snapshot *snapshot;
    bool modes;      /* the state has some */
    bool headings;   /* each directory has one */
    uint64_t listed; /* directories */
    todo dirs;
} ls;

/* ---- directories to be listed ---- */

/* Takes `data` over. */
static int todo_push(todo *t, void *data, size_t size)
{
    if (data && t->count == t->capacity) {
        size_t capacity = t->capacity ? 2 * t->capacity : 16;
        cmb_bytes *items = realloc(t->items, capacity * sizeof(*items));
        if (!items) {
            free(data);
            data = NULL;
        } else {
            t->items = items;
            t->capacity = capacity;
        }
    }
    if (!data)
        return cmb_fail(CMB_ENOMEM, "no memory for the names of directories");
    t->items[t->count++] = (cmb_bytes){data, size};
    return 0;
}

/* prefix, name and '/'; NULL: no memory. */
static void *below(cmb_bytes prefix, cmb_bytes name)
{
    char *path = malloc(prefix.size + name.size + 1);
    if (!path)
        return NULL;
    if (prefix.size)
        memcpy(path, prefix.data, prefix.size);
    if (name.size)
        memcpy(path + prefix.size, name.data, name.size);
    path[prefix.size + name.size] = '/';
    return path;
}

/* They were pushed in order and are to be popped in order. */
static void todo_reverse(todo *t, size_t from)
{
    for (size_t i = from, k = t->count; i + 1 < k; i++) {
        cmb_bytes swap = t->items[i];
        t->items[i] = t->items[--k];
        t->items[k] = swap;
    }
}

static void todo_release(todo *t)
{
    while (t->count)
        free((void *)t->items[--t->count].data);
    free(t->items);
    *t = (todo){.count = 0};
}

/* ---- one child ---- */

/* An entry's mode, CMB_GIT_FILE without any. */
static int mode_of(const ls *l, cmb_bytes prefix, cmb_bytes name, uint32_t *out_mode)
{
    cmb_bytes path = {below(prefix, name), prefix.size + name.size};
    *out_mode = CMB_GIT_FILE;
    if (!path.data)
        return cmb_fail(CMB_ENOMEM, "no memory for a path of %zu bytes", path.size);
    int rc = l->modes && path.size <= CMB_GIT_PATH_MAX ? cmb_git_mode(l->snapshot, path, out_mode) : 0;
    free((void *)path.data);
    return rc;
}

static void print_name(cmb_bytes name, const char *end)
{
    text_print_field(stdout, name.data, name.size);
    puts(end);
}

static void show_text(const ls *l, const cmb_dir_child *child, uint32_t mode)
{
    text_buf t;
    bool details = cli_has(l->c, LONG);
    if (child->entry) {
        if (details && l->modes)
            printf("%06" PRIo32 " ", mode);
        if (details)
            printf("%14s  ", text_size(&t, child->value_size));
        print_name(child->name, "");
    }
    if (child->directory) {
        if (details)
            printf("%s%6s %-7s  ", l->modes ? "040000 " : "", text_count(&t, child->below),
                   child->below == 1 ? "entry" : "entries");
        print_name(child->name, "/");
    }
}

static int show_json(const ls *l, cmb_bytes prefix, const cmb_dir_child *child, uint32_t mode)
{
    json j = {.out = stdout};
    char *path = below(prefix, child->name);
    if (!path)
        return cmb_fail(CMB_ENOMEM, "no memory for a path");
    json_put_object(&j, NULL);
    json_put_bytes(&j, "path", path, prefix.size + child->name.size);
    json_put_bool(&j, "entry", child->entry);
    if (child->entry)
        json_put_u64(&j, "size", child->value_size);
    json_put_bool(&j, "directory", child->directory);
    if (child->directory)
        json_put_u64(&j, "below", child->below);
    if (child->entry && l->modes) {
        text_buf t;
        snprintf(t.s, sizeof(t.s), "%06" PRIo32, mode);
        json_put_string(&j, "mode", t.s);
    }
    json_put_object_end(&j);
    json_end_line(&j);
    free(path);
    return 0;
}

static int show(ls *l, cmb_bytes prefix, const cmb_dir_child *child)
{
    uint32_t mode = CMB_GIT_FILE;
    int rc = child->entry && (cli_has(l->c, LONG) || cli_has(l->c, JSON)) ? mode_of(l, prefix, child->name, &mode) : 0;
    if (rc)
        return rc;
    if (cli_has(l->c, JSON))
        return show_json(l, prefix, child, mode);
    show_text(l, child, mode);
    return 0;
}

/* ---- one directory ---- */

static void show_heading(ls *l, cmb_bytes prefix)
{
    if (l->listed++)
        putchar('\n');
    text_print_field(stdout, prefix.data, prefix.size);
    puts(prefix.size ? ":" : "/:");
}

/* Side entries are passed over as if they were one child. */
static bool is_hidden(const ls *l, cmb_bytes prefix, cmb_bytes name)
{
    return !cli_has(l->c, ALL) && prefix.size == 0 && name.size >= CMB_GIT_MODE_KEY_SIZE &&
           memcmp(name.data, CMB_GIT_MODE_KEY, CMB_GIT_MODE_KEY_SIZE) == 0;
}

static int hide(cmb_dir *dir)
{
    static const uint8_t behind[CMB_GIT_MODE_KEY_SIZE] = {0, 'm', 'o', 'd', 'e', 1};
    return cmb_dir_seek(dir, (cmb_bytes){behind, sizeof(behind)});
}

static int list_children(ls *l, cmb_dir *dir, cmb_bytes prefix, uint64_t *out_count)
{
    cmb_dir_child child;
    size_t dirs = l->dirs.count;
    int rc = 0;
    uint64_t n = 0;
    while (!rc && cli_output_ok(stdout) && !(rc = cmb_dir_next(dir, &child))) {
        if (is_hidden(l, prefix, child.name)) {
            rc = hide(dir);
            continue;
        }
        if (n++ == 0 && l->headings)
            show_heading(l, prefix);
        rc = show(l, prefix, &child);
        if (!rc && child.directory && cli_has(l->c, RECURSIVE))
            rc = todo_push(&l->dirs, below(prefix, child.name), prefix.size + child.name.size + 1);
    }
    todo_reverse(&l->dirs, dirs);
    *out_count = n;
    return rc == CMB_ENOTFOUND ? 0 : rc;
}

static int list(ls *l, cmb_bytes prefix, uint64_t *out_count)
{
    cmb_dir *dir;
    int rc = cmb_dir_open(l->snapshot, prefix, &dir);
    if (rc)
        return rc;
    rc = list_children(l, dir, prefix, out_count);
    cmb_dir_close(dir);
    return rc;
}

/* ---- all of it ---- */

/* The prefix of the directory that the operand names; `room` has CMB_KEY_MAX + 1 bytes. */
static cmb_bytes prefix_of(const char *path, size_t size, uint8_t *room)
{
    if (size)
        memcpy(room, path, size);
    if (size && path[size - 1] != '/')
        room[size++] = '/';
    return (cmb_bytes){room, size};
}

/* There is no directory of this name: is there an entry? */
static int list_entry(ls *l, cmb_bytes path)
{
    cmb_value_stream *value;
    int rc = path.size ? cmb_value_open(l->snapshot, path, &value) : CMB_ENOTFOUND;
    if (rc)
        return rc;
    cmb_dir_child child = {.name = path, .entry = true, .value_size = cmb_value_size(value)};
    cmb_value_close(value);
    return show(l, (cmb_bytes){NULL, 0}, &child);
}

static int list_all(ls *l, cmb_bytes path, cmb_bytes prefix)
{
    uint64_t n;
    int rc = list(l, prefix, &n);
    if (!rc && n == 0 && path.size)
        return list_entry(l, path);
    while (!rc && l->dirs.count && cli_output_ok(stdout)) {
        cmb_bytes next = l->dirs.items[--l->dirs.count];
        rc = list(l, next, &n);
        free((void *)next.data);
    }
    return rc;
}

static int find_modes(ls *l)
{
    static const uint8_t from[] = CMB_GIT_MODE_KEY, to[] = {0, 'm', 'o', 'd', 'e', 1};
    cmb_bytes low = {from, CMB_GIT_MODE_KEY_SIZE}, high = {to, sizeof(to)};
    uint64_t n;
    int rc = cmb_count(l->snapshot, &low, &high, &n);
    if (!rc)
        l->modes = n > 0;
    return rc;
}

static int list_store(ls *l, cmb_store *store, const char *rev)
{
    static uint8_t room[CMB_KEY_MAX + 1];
    const char *operand = cli_operand(l->c, 1);
    cmb_bytes path = {operand, operand ? strlen(operand) : 0};
    if (path.size > CMB_KEY_MAX)
        return cli_usage(l->c, "a path of %zu bytes: at most %u", path.size, CMB_KEY_MAX);
    int rc = cmb_snapshot_open(store, rev, &l->snapshot);
    if (rc)
        return cli_fail(l->c, rc);
    rc = find_modes(l);
    if (!rc)
        rc = list_all(l, path, prefix_of(operand, path.size, room));
    int status = rc == CMB_ENOTFOUND ? value_not_found(l->c, path, rev) : rc ? cli_fail(l->c, rc) : CLI_OK;
    todo_release(&l->dirs);
    cmb_snapshot_close(l->snapshot);
    return status;
}

static int run(cli *c)
{
    ls l = {.c = c, .headings = cli_has(c, RECURSIVE) && !cli_has(c, JSON)};
    const char *rev;
    cmb_store *store;
    if (!value_rev(c, AT, BRANCH, &rev))
        return CLI_USAGE;
    if (cli_has(c, LONG) && cli_has(c, JSON))
        return cli_usage(c, "--json and --long: give one of them");
    int status = cli_open(c, false, &store);
    if (status)
        return status;
    status = list_store(&l, store, rev);
    return cli_end_output(cli_close(c, store, status));
}

const cli_command cmd_ls = {
    .name = "ls",
    .summary = "lists keys with '/' as files in directories",
    .synopsis = "ls IMAGE [PATH] [--at REV | -b BRANCH] [-l | --json] [-R] [-a]",
    .details = "Without PATH: the names up to the first '/' in all keys. A line is a name; of a directory, one with keys below\n"
               "it, with '/' behind it. A name can be both, and then has two lines. However much lies below a directory, it\n"
               "is stepped over at once, and --long says how many entries it has. Names are written as scan writes keys.",
    .examples = "cambium ls data.cmb\n"
                "cambium ls data.cmb src/lib -l --at v1.0\n"
                "cambium ls data.cmb -R --json | jq -r 'select(.entry) | .path'",
    .options = options,
    .option_count = CMB_COUNTOF(options),
    .min_operands = 1,
    .max_operands = 2,
    .usage_status = CLI_USAGE,
    .run = run,
};
