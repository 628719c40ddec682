/* SPDX-License-Identifier: ISC */
#include "tools/keys.h"

#include <stdlib.h>
#include <string.h>

#include <cambium/git.h>


#define ROOM ((size_t)2 * CMB_KEY_MAX + CMB_GIT_MODE_KEY_SIZE + 2) /* bytes for one: the key, a zero, the side entry's key, a zero */

/* What begins so, or this key alone: from it to itself and a zero byte. */
static cmb_range range_of(cmb_bytes bytes, bool prefix)
{
    if (prefix)
        return (cmb_range){.prefix = bytes};
    return (cmb_range){.from = bytes, .to = {bytes.data, bytes.size + 1}};
}

static bool add(const cli *c, const char *text, bool hex, bool prefix, uint8_t *room, keys *out)
{
    static uint8_t decoded[CMB_KEY_MAX];
    cmb_bytes key;
    if (!cli_key(c, text, hex, decoded, &key))
        return false;
    memcpy(room, key.data, key.size);
    room[key.size] = 0;
    out->ranges[out->count++] = range_of((cmb_bytes){room, key.size}, prefix);
    room += key.size + 1;
    if (key.size <= CMB_GIT_PATH_MAX) {
        cmb_bytes side = {room, CMB_GIT_MODE_KEY_SIZE + key.size};
        memcpy(room, CMB_GIT_MODE_KEY, CMB_GIT_MODE_KEY_SIZE);
        memcpy(room + CMB_GIT_MODE_KEY_SIZE, key.data, key.size);
        room[side.size] = 0;
        out->ranges[out->count++] = range_of(side, prefix);
    }
    return true;
}

int keys_parse(const cli *c, int first, const char *prefix, bool hex, keys *out)
{
    int given = c->operand_count > first ? c->operand_count - first : 0;
    size_t n = (size_t)given + (prefix != NULL);
    *out = (keys){NULL, 0, NULL};
    if (n == 0)
        return CLI_OK;
    out->ranges = calloc(2 * n, sizeof *out->ranges);
    out->room = malloc(n * ROOM);
    if (!out->ranges || !out->room)
        return cli_say(CLI_IMAGE, c->command->name, "out of memory");
    for (int i = 0; i < given; i++)
        if (!add(c, cli_operand(c, first + i), hex, false, out->room + (size_t)i * ROOM, out))
            return CLI_USAGE;
    if (prefix && !add(c, prefix, hex, true, out->room + (size_t)given * ROOM, out))
        return CLI_USAGE;
    return CLI_OK;
}

void keys_release(keys *k)
{
    free(k->ranges);
    free(k->room);
}
