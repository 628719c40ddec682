/* SPDX-License-Identifier: ISC */
#include "tools/modes.h"

#include <stdlib.h>

#include "io/base.h"

typedef struct collecting {
    mode_changes *into;
    int error;
} collecting;

static int no_memory(void)
{
    return cmb_fail(CMB_ENOMEM, "no memory for the list of changed modes");
}

static int add(mode_changes *m, cmb_bytes path, uint32_t before, uint32_t after)
{
    if (m->count == m->capacity) {
        size_t capacity = m->capacity ? 2 * m->capacity : 16;
        mode_change *items = realloc(m->items, capacity * sizeof(*items));
        if (!items)
            return no_memory();
        m->items = items;
        m->capacity = capacity;
    }
    void *copy = malloc(path.size);
    if (!copy)
        return no_memory();
    memcpy(copy, path.data, path.size);
    m->items[m->count++] = (mode_change){{copy, path.size}, before, after};
    return 0;
}

static uint32_t mode_in(const cmb_change_value *value, bool exists)
{
    return exists ? cmb_git_mode_of(value->bytes) : CMB_GIT_FILE;
}

static int collect(void *ctx, const cmb_change *c)
{
    collecting *k = ctx;
    cmb_bytes path;
    if (!cmb_git_is_mode_key(c->key, &path))
        return 0;
    k->error = add(k->into, path, mode_in(&c->before, c->kind != CMB_CHANGE_ADDED),
                   mode_in(&c->after, c->kind != CMB_CHANGE_DELETED));
    return k->error;
}

/* The key of the side entry of a path or bound, into room of its size; an open bound stays open. */
static cmb_bytes side_key(uint8_t *room, cmb_bytes path, bool always)
{
    if (!path.size && !always)
        return path;
    memcpy(room, CMB_GIT_MODE_KEY, CMB_GIT_MODE_KEY_SIZE);
    if (path.size)
        memcpy(room + CMB_GIT_MODE_KEY_SIZE, path.data, path.size);
    return (cmb_bytes){room, CMB_GIT_MODE_KEY_SIZE + path.size};
}

int modes_collect(mode_changes *m, cmb_snapshot *before, cmb_snapshot *after, const cmb_range *range)
{
    static uint8_t rooms[3][CMB_KEY_MAX + CMB_GIT_MODE_KEY_SIZE];
    collecting k = {.into = m};
    cmb_range side = {.from = side_key(rooms[0], range->from, false),
                      .to = side_key(rooms[1], range->to, false),
                      .prefix = side_key(rooms[2], range->prefix, true)};
    int rc = cmb_diff(before, after, &side, collect, &k);
    return k.error ? k.error : rc;
}

void modes_release(mode_changes *m)
{
    for (size_t i = 0; i < m->count; i++)
        free((void *)m->items[i].path.data);
    free(m->items);
    *m = (mode_changes){.count = 0};
}
