/* SPDX-License-Identifier: ISC */
/* Reading single entries of a verified node. */
#include "btree/node_private.h"

uint32_t cmb_node_key_size(const cmb_node *node, uint32_t i)
{
    return node->prefix_size + cmb_node_head_size(node, i) + cmb_node_rest_size(node, i);
}

uint32_t cmb_node_key(const cmb_node *node, uint32_t i, uint8_t *out_key)
{
    uint32_t size = node->prefix_size, head_size = cmb_node_head_size(node, i), rest_size = cmb_node_rest_size(node, i);
    memcpy(out_key, node->prefix, size);
    uint64_t head = CMB_BE64(cmb_node_head(node, i)); /* in memory order now */
    memcpy(out_key + size, &head, head_size);
    size += head_size;
    memcpy(out_key + size, cmb_node_rest(node, i), rest_size);
    return size + rest_size;
}

int cmb_node_compare(const cmb_node *node, uint32_t i, const uint8_t *key, size_t key_size)
{
    uint32_t prefix = node->prefix_size;
    int c = cmb_compare_equal_sized(node->prefix, key, prefix < key_size ? prefix : (uint32_t)key_size);
    if (c)
        return c;
    if (key_size < prefix)
        return 1;
    cmb_suffix suffix;
    cmb_suffix_of(key + prefix, key_size - prefix, &suffix);
    uint64_t head = cmb_node_head(node, i);
    if (head != suffix.head)
        return head < suffix.head ? -1 : 1;
    return cmb_node_compare_tied(node, i, &suffix);
}

/* Which of the leaf's out-of-line values entry i is: its place in the trailer. */
static uint32_t out_of_line_rank(const cmb_node *node, uint32_t i)
{
    uint32_t rank = 0;
    for (uint32_t byte = 0; byte < i / 8; byte++)
        rank += (uint32_t)__builtin_popcount(node->ool_map[byte]);
    return rank + (uint32_t)__builtin_popcount(node->ool_map[i / 8] & ((1u << (i % 8)) - 1));
}

void cmb_node_valref(const cmb_node *node, uint32_t i, cmb_valref *out_valref)
{
    const uint8_t *slot = cmb_node_value(node, i).data;
    const uint8_t *place = node->trailer + CMB_NODE_FAR_PLACE * (size_t)out_of_line_rank(node, i);
    *out_valref = (cmb_valref){.addr = cmb_get64(place), .length = cmb_get32(place + 8), .size = cmb_get32(slot)};
    out_valref->name.size = node->name_size;
    memcpy(out_valref->name.bytes, slot + 4, node->name_size);
}

void cmb_node_child(const cmb_node *node, uint32_t i, cmb_noderef *out_ref)
{
    uint64_t packed = cmb_node_packed(node->counts + (size_t)i * node->value_size, node->value_size);
    *out_ref = (cmb_noderef){
        .addr = cmb_node_child_addr(node, i),
        .count = packed >> 2,
        .length = cmb_node_child_length(node, i),
        .level = (uint8_t)(node->level - 1),
        .out_of_line = packed & 1,
        .cut = packed >> 1 & 1,
    };
    out_ref->name.size = node->name_size;
    memcpy(out_ref->name.bytes, node->values + (size_t)i * node->name_size, node->name_size);
}
