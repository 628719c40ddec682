/* SPDX-License-Identifier: ISC */
/* git_order.c: the commits of an image, parents first. */
#include "store/git.h"

#include <assert.h>

cmb_bytes cmb_git_header(const cmb_commit_header *headers, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(headers[i].name, name))
            return headers[i].value;
    return (cmb_bytes){NULL, 0};
}

static uint64_t id_hash(const cmb_name *id)
{
    return cmb_hash64(id->bytes, id->size, 0);
}

size_t cmb_git_order_find(const cmb_git_order *order, const cmb_name *id)
{
    uint64_t i;
    size_t pos = 0;
    while (cmb_git_index_next(&order->by_id, id_hash(id), &pos, &i))
        if (cmb_name_equal(&order->nodes[i].at.id, id))
            return (size_t)i;
    return CMB_GIT_NONE;
}

static int find_or_add(cmb_git_order *order, const cmb_commit_at *at, size_t ref, size_t *out_node)
{
    *out_node = cmb_git_order_find(order, &at->id);
    if (*out_node != CMB_GIT_NONE)
        return 0;
    int error = cmb_git_grow(order->alloc, (void **)&order->nodes, &order->node_capacity, order->node_count,
                             sizeof *order->nodes);
    if (!error)
        error = cmb_git_index_add(order->alloc, &order->by_id, id_hash(&at->id), order->node_count);
    if (error)
        return error;
    *out_node = order->node_count;
    order->nodes[order->node_count++] = (cmb_git_node){.at = *at, .ref = ref};
    return 0;
}

static void look_at_dates(cmb_git_order *order, const cmb_commit *commit)
{
    static const char *const lines[] = {"git.committer", "git.author"};
    for (size_t i = 0; i < CMB_COUNTOF(lines); i++) {
        cmb_bytes line = cmb_git_header(commit->headers, commit->header_count, lines[i]);
        cmb_git_person person;
        if (line.data && (!cmb_git_person_parse(line, &person) || !person.strict))
            order->permissive = true;
    }
}

/* Where a history is shallow it begins: a parent that the image does not have is left out. */
static int add_parents(cmb_git_order *order, size_t number, const cmb_commit_record *record)
{
    order->nodes[number].root = record->root;
    order->nodes[number].parents = order->parent_count;
    for (size_t i = 0; i < record->commit.parent_count; i++) {
        size_t parent;
        if (!record->parents[i].length)
            continue;
        int error = find_or_add(order, &record->parents[i], order->nodes[number].ref, &parent);
        if (!error)
            error = cmb_git_grow(order->alloc, (void **)&order->parents, &order->parent_capacity, order->parent_count,
                                 sizeof *order->parents);
        if (error)
            return error;
        order->parents[order->parent_count++] = parent;
    }
    order->nodes[number].parent_count = order->parent_count - order->nodes[number].parents;
    return 0;
}

/* Reads a commit that is seen for the first time; its parents come next. */
static int enter(cmb_git_order *order, size_t number)
{
    cmb_commit_record *record;
    cmb_commit_at at = order->nodes[number].at;
    order->nodes[number].seen = true;
    int error =
        cmb_git_grow(order->alloc, (void **)&order->stack, &order->stack_capacity, order->depth, sizeof *order->stack);
    if (!error)
        error = cmb_commit_load(order->store, &at, &record);
    if (error)
        return error;
    look_at_dates(order, &record->commit);
    error = add_parents(order, number, record);
    cmb_commit_free(&record->commit);
    if (!error)
        order->stack[order->depth++] = (struct cmb_git_frame){number, 0};
    return error;
}

/* All parents of the commit on top are in the sequence. */
static int leave(cmb_git_order *order)
{
    int error = cmb_git_grow(order->alloc, (void **)&order->sequence, &order->sequence_capacity, order->sequence_count,
                             sizeof *order->sequence);
    if (!error)
        order->sequence[order->sequence_count++] = order->stack[--order->depth].node;
    return error;
}

int cmb_git_order_add(cmb_git_order *order, const cmb_commit_at *at, size_t ref, size_t *out_node)
{
    int error = find_or_add(order, at, ref, out_node);
    if (!error && !order->nodes[*out_node].seen)
        error = enter(order, *out_node);
    while (!error && order->depth) {
        struct cmb_git_frame *top = &order->stack[order->depth - 1];
        const cmb_git_node *node = &order->nodes[top->node];
        if (top->next == node->parent_count) {
            error = leave(order);
            continue;
        }
        size_t parent = order->parents[node->parents + top->next++];
        if (order->nodes[parent].seen)
            continue;
        order->nodes[parent].ref = ref;
        error = enter(order, parent);
    }
    return error;
}

void cmb_git_order_release(cmb_git_order *order)
{
    cmb_release(order->alloc, order->nodes, order->node_capacity * sizeof *order->nodes);
    cmb_release(order->alloc, order->parents, order->parent_capacity * sizeof *order->parents);
    cmb_release(order->alloc, order->sequence, order->sequence_capacity * sizeof *order->sequence);
    cmb_release(order->alloc, order->stack, order->stack_capacity * sizeof *order->stack);
    cmb_git_index_release(order->alloc, &order->by_id);
}
