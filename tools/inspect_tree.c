/* SPDX-License-Identifier: ISC */
#include <inttypes.h>
#include <string.h>

#include "store/addrset.h"
#include "store/internal.h"
#include "tools/inspect.h"
#include "tools/json.h"
#include "tools/text.h"

#define LIMIT_DEFAULT 500u /* nodes of a picture */
#define LIMIT_MAX 1000000u

/* ---- trees ---- */

typedef struct picture {
    const cli *c;
    cmb_addrset *seen; /* nodes that stand in the picture: shared ones once */
    unsigned root_level;
    uint64_t depth; /* levels to show */
    uint64_t damaged;
} picture;

static void show_json(const cmb_noderef *ref, const cmb_node *node, bool shared)
{
    json j = {.out = stdout};
    json_put_object(&j, NULL);
    json_put_u64(&j, "address", ref->addr);
    json_put_u64(&j, "level", ref->level);
    json_put_u64(&j, "length", ref->length);
    json_put_u64(&j, "entries", ref->count);
    if (node && ref->level)
        json_put_u64(&j, "children", node->count);
    json_put_bool(&j, "out_of_line", ref->out_of_line);
    json_put_bool(&j, "shared", shared);
    json_put_name(&j, "name", &ref->name);
    json_put_object_end(&j);
    json_end_line(&j);
}

static void show_line(const picture *p, const cmb_noderef *ref, const cmb_node *node, bool shared)
{
    text_buf name;
    printf("%*s%s %" PRIu64 " %s", 2 * (int)(p->root_level - ref->level), "", ref->level ? "node" : "leaf", ref->addr,
           text_name(&name, &ref->name, 12));
    if (ref->level)
        printf(" level %u", ref->level);
    if (ref->level && node)
        printf(" children %" PRIu32, node->count);
    printf(" entries %" PRIu64 " length %" PRIu32 "%s%s%s\n", ref->count, ref->length,
           ref->out_of_line ? " large-values" : "", ref->cut ? " cut" : "", shared ? " (shown above)" : "");
}

static int show_node(void *ctx, const cmb_noderef *ref, const cmb_node *node)
{
    picture *p = ctx;
    bool added = true;
    if (!cli_output_ok(stdout))
        return CMB_ESTOPPED;
    int rc = ref->addr ? cmb_addrset_add(p->seen, ref->addr, ref->length, &added) : 0;
    if (rc)
        return rc;
    if (cli_has(p->c, INSPECT_JSON))
        show_json(ref, node, !added);
    else
        show_line(p, ref, node, !added);
    return !added || p->root_level - ref->level + 1u >= p->depth;
}

static int show_damage(void *ctx, const cmb_noderef *ref, int error, const uint8_t *first_key, size_t first_size,
                       const uint8_t *last_key, size_t last_size)
{
    picture *p = ctx;
    char detail[520], first[80], last[80];
    snprintf(detail, sizeof(detail), "%s", cmb_error_detail());
    p->damaged++;
    cli_say(0, cli_image(p->c), "%s: %s; keys \"%s\" to \"%s\"", cmb_strerror(error), detail,
            text_field_of(first, sizeof(first), first_key, first_size),
            text_field_of(last, sizeof(last), last_key, last_size));
    return 0;
}

static int show_tree(picture *p, cmb_store *store, const char *rev)
{
    static const cmb_walk_ops ops = {.node = show_node, .damage = show_damage};
    cmb_resolved resolved;
    int rc = cmb_rev_resolve(store, rev, &resolved);
    if (rc)
        return rc;
    const cmb_noderef *root = &resolved.state.root;
    p->root_level = root->level;
    if (!cli_has(p->c, INSPECT_JSON))
        printf("%s: %u levels\n", rev, root->level + 1u);
    return cmb_tree_walk(&store->tree, root, &ops, p);
}

static int show_trees(picture *p, cmb_store *store)
{
    int rc = cmb_addrset_create(&store->alloc, cmb_log_params(store->log)->segment_shift, &p->seen);
    if (rc)
        return cli_fail(p->c, rc);
    for (int i = 2; i < p->c->operand_count && rc == 0; i++)
        rc = show_tree(p, store, p->c->operands[i]);
    cmb_addrset_destroy(p->seen);
    if (rc && rc != CMB_ESTOPPED)
        return cli_fail(p->c, rc);
    return p->damaged ? CLI_IMAGE : CLI_OK;
}

int inspect_tree(const cli *c)
{
    picture p = {.c = c, .depth = UINT64_MAX};
    /* Not the mapping: there, a disk that fails under a node is a signal. */
    cmb_store_options options = {.read_only = true, .allow_no_durability = true, .residency = CMB_RESIDENT_POOL};
    cmb_store *store;
    if (cli_has(c, INSPECT_DOT) && cli_has(c, INSPECT_JSON))
        return cli_usage(c, "--dot and --json: give one of them");
    uint64_t limit = LIMIT_DEFAULT;
    if (!cli_u64(c, INSPECT_DEPTH, &p.depth) || !cli_u64(c, INSPECT_LIMIT, &limit))
        return CLI_USAGE;
    if (limit == 0 || limit > LIMIT_MAX)
        return cli_usage(c, "--limit: 1 to %u", LIMIT_MAX);
    int rc = cmb_store_open(cli_image(c), &options, &store);
    if (rc)
        return cli_fail_open(cli_image(c), rc);
    return cli_close(c, store, cli_has(c, INSPECT_DOT) ? inspect_dot_trees(c, store, p.depth, limit) : show_trees(&p, store));
}

/* ---- one record ---- */

static void show_leaf_entry(const cmb_node *node, uint32_t i)
{
    char shown[200];
    text_buf name;
    if (cmb_node_is_out_of_line(node, i)) {
        cmb_valref v;
        cmb_node_valref(node, i, &v);
        printf("\t%" PRIu32 " bytes at %" PRIu64 " length %" PRIu32 " %s\n", v.size, v.addr, v.length,
               text_name(&name, &v.name, 12));
        return;
    }
    cmb_bytes value = cmb_node_value(node, i);
    printf("\t%s\n", text_field_of(shown, sizeof(shown), value.data, value.size));
}

static void show_entries(const cmb_node *node)
{
    static uint8_t key[CMB_KEY_MAX];
    text_buf name;
    for (uint32_t i = 0; i < node->count && cli_output_ok(stdout); i++) {
        uint32_t size = cmb_node_key(node, i, key);
        printf("%6" PRIu32 "  ", i);
        text_print_field(stdout, key, size);
        if (node->level == 0) {
            show_leaf_entry(node, i);
            continue;
        }
        cmb_noderef child;
        cmb_node_child(node, i, &child);
        printf("\t%s %" PRIu64 " length %" PRIu32 " entries %" PRIu64 " %s%s\n", child.level ? "node" : "leaf",
               child.addr, child.length, child.count, text_name(&name, &child.name, 12), child.cut ? " cut" : "");
    }
}

/* A node is taken at its own word: nothing here says what name its parent expects. */
static int show_as_node(const cli *c, const cmb_image_params *params, const uint8_t *record, uint64_t addr)
{
    cmb_hash_kind hash = (cmb_hash_kind)params->hash_kind;
    uint32_t length = cmb_record_length(record), body = cmb_get32(record + 16);
    cmb_node node;
    text_buf name;
    if (length < CMB_NODE_HEADER || body > length - 16)
        return cli_say(CLI_IMAGE, cli_image(c),
                       "node at %" PRIu64 ": a body of %" PRIu32 " bytes in a record of %" PRIu32, addr, body, length);
    cmb_noderef ref = {.addr = addr,
                       .length = length,
                       .count = cmb_get64(record + 24),
                       .level = record[22],
                       .out_of_line = record[23] & CMB_NODE_OUT_OF_LINE};
    cmb_hash_name(hash, record + 16, body, &ref.name);
    int rc = cmb_node_verify(hash, record, &ref);
    if (rc)
        return cli_fail(c, rc);
    cmb_node_open(hash, record, &node);
    printf("name     %s\nlevel    %u\nentries  %" PRIu64 "\ncount    %" PRIu32 "\nbody     %" PRIu32
           " bytes\nflags   %s%s%s%s%s\nprefix   ",
           text_name(&name, &ref.name, 0), node.level, ref.count, node.count, body,
           node.flags & CMB_NODE_OUT_OF_LINE ? " out-of-line" : "",
           node.flags & CMB_NODE_FIXED_KEYS ? " fixed-keys" : "",
           node.flags & CMB_NODE_FIXED_VALUES ? " fixed-values" : "",
           node.flags & CMB_NODE_SHORT_KEYS ? " short-keys" : "", node.flags & CMB_NODE_WIDE ? " wide" : "");
    text_print_field(stdout, node.prefix, node.prefix_size);
    putchar('\n');
    show_entries(&node);
    return CLI_OK;
}

static void hex_dump(const uint8_t *p, uint32_t size)
{
    for (uint32_t i = 0; i < size && cli_output_ok(stdout); i += 16) {
        printf("%8" PRIx32 " ", i);
        for (uint32_t k = i; k < i + 16; k++)
            printf(k < size ? " %02x" : "   ", k < size ? p[k] : 0);
        fputs("  ", stdout);
        for (uint32_t k = i; k < i + 16 && k < size; k++)
            putchar(p[k] >= 0x20 && p[k] < 0x7f ? p[k] : '.');
        putchar('\n');
    }
}

static int show_record(const cli *c, const inspect_image *image, uint64_t addr)
{
    uint8_t header[CMB_RECORD_HEADER];
    int rc = cmb_log_read(image->log, NULL, addr, sizeof(header), header);
    if (rc)
        return cli_fail(c, rc);
    uint32_t length = cmb_record_length(header);
    uint8_t kind = cmb_record_kind_of(header);
    if (length < CMB_RECORD_HEADER || length > CMB_RECORD_MAX)
        return cli_say(CLI_IMAGE, cli_image(c), "no record begins at %" PRIu64 ": its length would be %" PRIu32, addr,
                       length);
    cmb_allocator alloc = cmb_allocator_or_default(NULL);
    uint8_t *record = cmb_alloc(&alloc, length);
    rc = record ? cmb_log_read(image->log, NULL, addr, length, record) : CMB_ENOMEM;
    if (rc) {
        cmb_release(&alloc, record, length);
        return cli_fail(c, rc);
    }
    printf("address  %" PRIu64 "\nkind     %s\nlength   %" PRIu32 "\n", addr, inspect_kind_name(kind), length);
    int status = CLI_OK;
    if (kind == CMB_RECORD_LEAF || kind == CMB_RECORD_NODE) {
        status = show_as_node(c, cmb_log_params(image->log), record, addr);
    } else {
        rc = cmb_record_check(record, length, addr);
        printf("check    %s\n", rc ? "WRONG" : "right");
        if (!inspect_show_payload(cmb_log_params(image->log), kind, record + CMB_RECORD_HEADER, length - CMB_RECORD_HEADER))
            hex_dump(record + CMB_RECORD_HEADER, length - CMB_RECORD_HEADER);
        status = rc ? cli_fail(c, rc) : CLI_OK;
    }
    cmb_release(&alloc, record, length);
    return status;
}

int inspect_node(const cli *c)
{
    uint64_t addr;
    inspect_image image;
    if (!text_parse_address(cli_operand(c, 2), &addr))
        return cli_usage(c, "not an address: %s", cli_operand(c, 2));
    if (addr == 0 || addr % CMB_RECORD_ALIGN)
        return cli_usage(c, "records lie at multiples of %u above 0: %s", CMB_RECORD_ALIGN, cli_operand(c, 2));
    int status = inspect_open(c, &image);
    if (status)
        return status;
    status = show_record(c, &image, addr);
    inspect_close(&image);
    return status;
}
