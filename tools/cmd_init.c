/* SPDX-License-Identifier: ISC */
#include <string.h>

#include "io/os.h"
#include "tools/commands.h"
#include "tools/text.h"

enum { SIZE, NODE_SIZE, HASH, SEED, LIKE, SEGMENT_SIZE, FORCE };
static const cli_option options[] = {
    [SIZE] = {0, "size", "N", "fixed size of the image; without it a file grows, a device is used whole"},
    [NODE_SIZE] = {0, "node-size", "N", "target size of a node, a power of two, 256 to 64K (4K)"},
    [HASH] = {0, "hash", "NAME", "how nodes and commits are named: xxh3 or sha256 (xxh3)"},
    [SEED] = {0, "seed", "HEX",
              "of the rule that shapes trees, 1 to 16 digits, or 'random'; else the same for all images"},
    [LIKE] = {0, "like", "IMAGE", "node size, hash and seed of that image, so that both compare by root"},
    [SEGMENT_SIZE] = {0, "segment-size", "N", "of the log's segments, a power of two, 2M to 64M (by size)"},
    [FORCE] = {'f', "force", NULL, "overwrites what is there"},
};

static int parse_hash(const cli *c, cmb_hash_kind *out_kind)
{
    const char *name = cli_value(c, HASH, NULL);
    char known[128] = "";
    if (!name)
        return 0;
    for (unsigned i = 1; cmb_hash_kind_name((cmb_hash_kind)i); i++) {
        const char *one = cmb_hash_kind_name((cmb_hash_kind)i);
        if (strcmp(one, name) == 0) {
            *out_kind = (cmb_hash_kind)i;
            return 0;
        }
        size_t n = strlen(known);
        snprintf(known + n, sizeof(known) - n, "%s%s", n ? ", " : "", one);
    }
    return cli_usage(c, "--hash: unknown hash %s; known: %s", name, known);
}

static int parse_seed(const cli *c, uint64_t *out_seed)
{
    const char *text = cli_value(c, SEED, NULL);
    uint64_t seed = 0;
    if (!text)
        return 0;
    if (strcmp(text, "random") == 0) {
        cmb_env env = cmb_env_or_default(NULL);
        int rc = env.random(env.ctx, &seed, sizeof(seed));
        if (rc)
            return cli_fail(c, rc);
        *out_seed = seed;
        return 0;
    }
    size_t n = strlen(text);
    for (size_t i = 0; i < n; i++) {
        int digit = text_hex_digit((unsigned char)text[i]);
        if (digit < 0 || n > 16)
            return cli_usage(c, "--seed: neither 1 to 16 hexadecimal digits nor 'random': %s", text);
        seed = seed << 4 | (unsigned)digit;
    }
    if (n == 0)
        return cli_usage(c, "--seed: neither 1 to 16 hexadecimal digits nor 'random': it is empty");
    *out_seed = seed;
    return 0;
}

/* Sizes that fit the fields they are for; the library checks what they mean. */
static int parse_size32(const cli *c, int option, uint32_t *out)
{
    uint64_t v = *out;
    if (!cli_size(c, option, &v))
        return CLI_USAGE;
    if (v > UINT32_MAX)
        return cli_usage(c, "--%s: too large: %s", options[option].name, c->values[option]);
    *out = (uint32_t)v;
    return 0;
}

/* The other image's parameters; a message names that image. */
static int take_like(const char *name, cmb_init_options *init)
{
    cmb_store *store;
    cmb_store_options open = {.read_only = true};
    cmb_store_info info;
    int rc = cmb_store_open(name, &open, &store);
    if (rc)
        return cli_fail_open(name, rc);
    cmb_store_get_info(store, &info);
    init->node_size = info.node_size;
    init->hash = info.hash;
    init->seed = info.seed;
    rc = cmb_store_close(store);
    return rc ? cli_fail_on(name, rc) : 0;
}

static int run(cli *c)
{
    cmb_init_options init = {.force = cli_has(c, FORCE)};
    if (cli_has(c, LIKE) && (cli_has(c, NODE_SIZE) || cli_has(c, HASH) || cli_has(c, SEED)))
        return cli_usage(c, "--like stands for --node-size, --hash and --seed: give it or them");
    if (!cli_size(c, SIZE, &init.size))
        return CLI_USAGE;
    int status = parse_size32(c, NODE_SIZE, &init.node_size);
    if (!status)
        status = parse_size32(c, SEGMENT_SIZE, &init.segment_size);
    if (!status)
        status = parse_hash(c, &init.hash);
    if (!status)
        status = parse_seed(c, &init.seed);
    if (!status && cli_has(c, LIKE))
        status = take_like(cli_value(c, LIKE, NULL), &init);
    if (status)
        return status;
    int rc = cmb_store_init(cli_image(c), &init, NULL);
    if (rc) {
        status = cli_fail(c, rc);
        return status == CLI_NOT_FOUND ? CLI_IMAGE : status;
    }
    return CLI_OK;
}

const cli_command cmd_init = {
    .name = "init",
    .summary = "makes an image",
    .synopsis = "init IMAGE [--size N] [--node-size N] [--hash NAME] [--seed HEX|random] [--like IMAGE]\n"
                "     [--segment-size N] [--force]",
    .details = "The image has one branch, main, which is empty. Sizes are digits, then K, M, G or T.\n"
               "Two images compare by root hash when node size, hash and seed are equal.",
    .examples = "cambium init data.cmb\n"
                "cambium init small.cmb --size 64M --node-size 1K\n"
                "cambium init copy.cmb --like data.cmb\n"
                "cambium init /dev/vdb --force",
    .options = options,
    .option_count = CMB_COUNTOF(options),
    .min_operands = 1,
    .max_operands = 1,
    .usage_status = CLI_USAGE,
    .run = run,
};
