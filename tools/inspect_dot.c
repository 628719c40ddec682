/* SPDX-License-Identifier: ISC */
/*
 * inspect_dot.c: pictures for dot(1). A tree's node is drawn once, in the colours of all revisions that reach it: so what two branches
 * share is seen at a glance. All that is drawn is in memory first, which --limit bounds.
 */
#include <inttypes.h>
#include <string.h>

#include "store/internal.h"
#include "tools/inspect.h"
#include "tools/text.h"

#define REVS_MAX 64

static const char *const colours[] = {"#8dd3c7", "#fdb462", "#bebada", "#b3de69", "#fccde5", "#80b1d3", "#ffed6f", "#d9d9d9"};

typedef struct dot_node {
    cmb_noderef ref;
    uint64_t revs; /* bit i: the i-th reaches it */
    bool damaged;
    uint32_t edges, edge_count; /* in the picture's, once its children are known */
} dot_node;

typedef struct dot {
    const cli *c;
    cmb_allocator alloc;
    dot_node *nodes;
    uint32_t *slots; /* open addressing by address: index + 1 */
    uint64_t *edges; /* addresses of children */
    size_t count, limit, slot_count, edge_count, edge_capacity;
    uint64_t depth, left_out, damaged;
    unsigned rev, root_level;
    cmb_noderef roots[REVS_MAX];
} dot;

/* ---- what is in the picture ---- */

static size_t slot_of(const dot *d, uint64_t addr)
{
    size_t i = (size_t)(addr * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (d->slot_count - 1);
    while (d->slots[i] && d->nodes[d->slots[i] - 1].ref.addr != addr)
        i = (i + 1) & (d->slot_count - 1);
    return i;
}

/* The node at an address, a new one if there is none; NULL: there is no more room. */
static dot_node *obtain(dot *d, uint64_t addr)
{
    size_t i = slot_of(d, addr);
    if (d->slots[i])
        return &d->nodes[d->slots[i] - 1];
    if (d->count == d->limit)
        return NULL;
    d->nodes[d->count] = (dot_node){.ref = {.addr = addr}};
    d->slots[i] = (uint32_t)++d->count;
    return &d->nodes[d->count - 1];
}

static int add_edges(dot *d, dot_node *n, const cmb_node *node)
{
    n->edges = (uint32_t)d->edge_count;
    for (uint32_t i = 0; i < node->count; i++) {
        if (d->edge_count == d->edge_capacity) {
            size_t capacity = d->edge_capacity ? 2 * d->edge_capacity : 256;
            uint64_t *grown = cmb_resize(&d->alloc, d->edges, d->edge_capacity * sizeof(*grown), capacity * sizeof(*grown));
            if (!grown)
                return CMB_ENOMEM;
            d->edges = grown;
            d->edge_capacity = capacity;
        }
        d->edges[d->edge_count++] = cmb_node_child_addr(node, i);
    }
    n->edge_count = node->count;
    return 0;
}

static int note_node(void *ctx, const cmb_noderef *ref, const cmb_node *node)
{
    dot *d = ctx;
    bool last = d->root_level - ref->level + 1u >= d->depth;
    dot_node *n = obtain(d, ref->addr);
    if (!n) {
        d->left_out++;
        return 1;
    }
    bool known = n->revs != 0, same_rev = n->revs >> d->rev & 1;
    n->ref = *ref;
    n->revs |= UINT64_C(1) << d->rev;
    int rc = known || !node || !ref->level || last ? 0 : add_edges(d, n, node);
    return rc ? rc : same_rev || last;
}

static int note_damage(void *ctx, const cmb_noderef *ref, int error, const uint8_t *before, size_t before_size, const uint8_t *last,
                       size_t last_size)
{
    dot *d = ctx;
    char detail[520];
    snprintf(detail, sizeof(detail), "%s", cmb_error_detail());
    dot_node *n = obtain(d, ref->addr);
    d->damaged++;
    if (n) {
        n->ref = *ref;
        n->damaged = true;
        n->revs |= UINT64_C(1) << d->rev;
    }
    cli_say(0, cli_image(d->c), "%s: %s", cmb_strerror(error), detail);
    return 0;
}

static int note_tree(dot *d, cmb_store *store, unsigned i)
{
    static const cmb_walk_ops ops = {.node = note_node, .damage = note_damage};
    cmb_resolved rev;
    int rc = cmb_rev_resolve(store, d->c->operands[2 + i], &rev);
    if (rc)
        return rc;
    d->rev = i;
    d->roots[i] = rev.state.root;
    d->root_level = rev.state.root.level;
    return cmb_tree_walk(&store->tree, &rev.state.root, &ops, d);
}

/* ---- drawing ---- */

void inspect_dot_text(const char *s)
{
    for (; *s != '\0'; s++) {
        if (*s == '"' || *s == '\\')
            putchar('\\');
        if ((unsigned char)*s >= 0x20)
            putchar(*s);
    }
}

static void draw_colours(uint64_t revs)
{
    const char *between = "";
    for (unsigned i = 0; i < REVS_MAX; i++) {
        if (revs >> i & 1) {
            printf("%s%s", between, colours[i % CMB_COUNTOF(colours)]);
            between = ":";
        }
    }
}

static void draw_node(const dot *d, const dot_node *n)
{
    text_buf name, count;
    bool shared = (n->revs & (n->revs - 1)) != 0;
    printf("  n%" PRIu64 " [label=\"%s\\n%s entries\\n%" PRIu32 " B at %" PRIu64 "%s\", style=\"%s\", fillcolor=\"", n->ref.addr,
           text_name(&name, &n->ref.name, 8), text_count(&count, n->ref.count), n->ref.length, n->ref.addr,
           n->damaged ? "\\nDAMAGED" : "", shared ? "striped" : "filled");
    draw_colours(n->revs);
    printf("\"%s];\n", n->damaged ? ", color=red, penwidth=3" : "");
    for (uint32_t i = 0; i < n->edge_count; i++) {
        uint64_t child = d->edges[n->edges + i];
        if (d->slots[slot_of(d, child)])
            printf("  n%" PRIu64 " -> n%" PRIu64 ";\n", n->ref.addr, child);
    }
}

static void draw(const dot *d)
{
    puts("digraph cambium {\n  node [shape=box, fontname=monospace];");
    for (int i = 0; i + 2 < d->c->operand_count; i++) {
        printf("  r%d [shape=plaintext, style=filled, fillcolor=\"%s\", label=\"", i, colours[(unsigned)i % CMB_COUNTOF(colours)]);
        inspect_dot_text(d->c->operands[2 + i]);
        printf("\"];\n");
        if (d->roots[i].addr)
            printf("  r%d -> n%" PRIu64 ";\n", i, d->roots[i].addr);
    }
    for (size_t i = 0; i < d->count && cli_output_ok(stdout); i++)
        draw_node(d, &d->nodes[i]);
    if (d->left_out)
        printf("  more [shape=plaintext, label=\"%" PRIu64 " subtrees are left out: --limit\"];\n", d->left_out);
    puts("}");
}

int inspect_dot_trees(const cli *c, cmb_store *store, uint64_t depth, uint64_t limit)
{
    dot d = {.c = c, .alloc = cmb_allocator_or_default(NULL), .depth = depth, .limit = (size_t)limit, .slot_count = 64};
    int rc = 0;
    if (c->operand_count - 2 > REVS_MAX)
        return cli_usage(c, "--dot: at most %d revisions", REVS_MAX);
    while (d.slot_count < 2 * d.limit)
        d.slot_count *= 2;
    d.nodes = cmb_zalloc(&d.alloc, d.limit * sizeof(*d.nodes));
    d.slots = cmb_zalloc(&d.alloc, d.slot_count * sizeof(*d.slots));
    if (!d.nodes || !d.slots)
        rc = CMB_ENOMEM;
    for (int i = 0; i + 2 < c->operand_count && rc == 0; i++)
        rc = note_tree(&d, store, (unsigned)i);
    if (rc == 0)
        draw(&d);
    cmb_release(&d.alloc, d.edges, d.edge_capacity * sizeof(*d.edges));
    cmb_release(&d.alloc, d.slots, d.slots ? d.slot_count * sizeof(*d.slots) : 0);
    cmb_release(&d.alloc, d.nodes, d.nodes ? d.limit * sizeof(*d.nodes) : 0);
    if (rc)
        return cli_fail(c, rc);
    return d.damaged ? CLI_IMAGE : CLI_OK;
}
