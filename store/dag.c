/* SPDX-License-Identifier: ISC */
/* dag.c: nodes of history, and their queues. */
#include "store/dag.h"

#define BUCKETS_MIN 64u

void cmb_dag_init(cmb_dag *dag, cmb_store *store)
{
    memset(dag, 0, sizeof *dag);
    dag->store = store;
}

static void free_node(cmb_dag *dag, cmb_dagnode *node)
{
    const cmb_allocator *alloc = &dag->store->alloc;
    cmb_release(alloc, node->parents, node->parent_count * sizeof *node->parents);
    cmb_release(alloc, node, sizeof *node);
}

void cmb_dag_destroy(cmb_dag *dag)
{
    for (size_t i = 0; i < dag->bucket_count; i++)
        for (cmb_dagnode *n = dag->buckets[i], *next; n; n = next) {
            next = n->next;
            free_node(dag, n);
        }
    cmb_release(&dag->store->alloc, dag->buckets, dag->bucket_count * sizeof(cmb_dagnode *));
    memset(dag, 0, sizeof *dag);
}

/* ---- the table ---- */

static cmb_dagnode **bucket_of(const cmb_dag *dag, const cmb_name *id)
{
    return &dag->buckets[cmb_hash64(id->bytes, id->size, 0) & (dag->bucket_count - 1)];
}

static int grow(cmb_dag *dag)
{
    cmb_dag bigger = *dag;
    bigger.bucket_count = dag->bucket_count ? 2 * dag->bucket_count : BUCKETS_MIN;
    bigger.buckets = cmb_zalloc(&dag->store->alloc, bigger.bucket_count * sizeof(cmb_dagnode *));
    if (!bigger.buckets)
        return CMB_ENOMEM;
    for (size_t i = 0; i < dag->bucket_count; i++)
        for (cmb_dagnode *n = dag->buckets[i], *next; n; n = next) {
            cmb_dagnode **bucket = bucket_of(&bigger, &n->at.id);
            next = n->next;
            n->next = *bucket;
            *bucket = n;
        }
    cmb_release(&dag->store->alloc, dag->buckets, dag->bucket_count * sizeof(cmb_dagnode *));
    *dag = bigger;
    return 0;
}

int cmb_dag_hold(cmb_dag *dag, const cmb_commit_at *at, cmb_dagnode **out_node)
{
    if (dag->node_count >= dag->bucket_count) {
        int error = grow(dag);
        if (error)
            return error;
    }
    cmb_dagnode **bucket = bucket_of(dag, &at->id), *n = *bucket;
    while (n && !cmb_name_equal(&n->at.id, &at->id))
        n = n->next;
    if (!n) {
        n = cmb_zalloc(&dag->store->alloc, sizeof *n);
        if (!n)
            return CMB_ENOMEM;
        n->at = *at;
        n->next = *bucket;
        *bucket = n;
        if (++dag->node_count > dag->peak_count)
            dag->peak_count = dag->node_count;
    }
    n->uses++;
    *out_node = n;
    return 0;
}

static void unlink_node(cmb_dag *dag, const cmb_dagnode *node)
{
    cmb_dagnode **link = bucket_of(dag, &node->at.id);
    while (*link != node)
        link = &(*link)->next;
    *link = node->next;
    dag->node_count--;
}

void cmb_dag_release(cmb_dag *dag, cmb_dagnode *node)
{
    cmb_dagnode *dead = NULL;
    if (--node->uses)
        return;
    unlink_node(dag, node);
    node->next = NULL;
    for (dead = node; dead;) { /* what it alone kept dies with it */
        cmb_dagnode *n = dead;
        dead = n->next;
        for (uint32_t i = 0; i < n->parent_count; i++) {
            cmb_dagnode *p = n->parents[i];
            if (--p->uses)
                continue;
            unlink_node(dag, p);
            p->next = dead;
            dead = p;
        }
        free_node(dag, n);
    }
}

/* ---- reading ---- */

/* The parents become known; all or none of them. */
static int know_parents(cmb_dag *dag, cmb_dagnode *node, const cmb_commit_record *r)
{
    const cmb_allocator *alloc = &dag->store->alloc;
    uint32_t here = 0, n = 0;
    for (size_t i = 0; i < r->commit.parent_count; i++)
        here += r->parents[i].length != 0;
    node->is_cut = here < r->commit.parent_count;
    node->first_absent = r->commit.parent_count && !r->parents[0].length;
    if (here == 0)
        return 0;
    cmb_dagnode **parents = cmb_alloc(alloc, here * sizeof *parents);
    if (!parents)
        return CMB_ENOMEM;
    for (size_t i = 0; i < r->commit.parent_count; i++) {
        int error = r->parents[i].length ? cmb_dag_hold(dag, &r->parents[i], &parents[n]) : 0;
        if (error) {
            while (n)
                cmb_dag_release(dag, parents[--n]);
            cmb_release(alloc, parents, here * sizeof *parents);
            return error;
        }
        n += r->parents[i].length != 0;
    }
    node->parents = parents;
    node->parent_count = here;
    return 0;
}

int cmb_dag_read(cmb_dag *dag, cmb_dagnode *node)
{
    cmb_commit_record *r;
    if (node->is_read)
        return 0;
    int error = cmb_commit_load(dag->store, &node->at, &r);
    if (error)
        return error;
    dag->reads++;
    error = know_parents(dag, node, r);
    if (!error) {
        node->generation = r->commit.generation;
        node->time = r->commit.time;
        node->root = r->root;
        node->is_read = true;
    }
    cmb_commit_free(&r->commit);
    return error;
}

int cmb_dag_read_parents(cmb_dag *dag, cmb_dagnode *node)
{
    char child[2 * CMB_NAME_MAX + 1], parent[2 * CMB_NAME_MAX + 1];
    int error = cmb_dag_read(dag, node);
    if (node->parents_read)
        return 0;
    for (uint32_t i = 0; !error && i < node->parent_count; i++) {
        cmb_dagnode *p = node->parents[i];
        error = cmb_dag_read(dag, p);
        if (error || p->generation < node->generation)
            continue;
        cmb_name_hex(&node->at.id, child);
        cmb_name_hex(&p->at.id, parent);
        error = cmb_fail(CMB_ECORRUPT, "commit %s of generation %llu has a parent %s of generation %llu", child,
                         (unsigned long long)node->generation, parent, (unsigned long long)p->generation);
    }
    node->parents_read = !error;
    return error;
}

/* ---- queues ---- */

bool cmb_dag_by_generation(const cmb_dagnode *a, const cmb_dagnode *b)
{
    if (a->generation != b->generation)
        return a->generation > b->generation;
    return memcmp(a->at.id.bytes, b->at.id.bytes, sizeof a->at.id.bytes) < 0;
}

bool cmb_dag_by_time(const cmb_dagnode *a, const cmb_dagnode *b)
{
    return a->time != b->time ? a->time > b->time : cmb_dag_by_generation(a, b);
}

void cmb_dagqueue_init(cmb_dagqueue *queue, const cmb_allocator *alloc, cmb_dag_before_fn before)
{
    *queue = (cmb_dagqueue){.alloc = alloc, .before = before};
}

void cmb_dagqueue_destroy(cmb_dagqueue *queue)
{
    cmb_release(queue->alloc, queue->nodes, queue->capacity * sizeof *queue->nodes);
    queue->nodes = NULL;
    queue->count = queue->capacity = 0;
}

int cmb_dagqueue_push(cmb_dagqueue *queue, cmb_dagnode *node)
{
    if (queue->count == queue->capacity) {
        size_t capacity = queue->capacity ? 2 * queue->capacity : 32;
        cmb_dagnode **grown = cmb_resize(queue->alloc, queue->nodes, queue->capacity * sizeof *grown, capacity * sizeof *grown);
        if (!grown)
            return CMB_ENOMEM;
        queue->nodes = grown;
        queue->capacity = capacity;
    }
    size_t i = queue->count++;
    for (; i > 0 && queue->before(node, queue->nodes[(i - 1) / 2]); i = (i - 1) / 2)
        queue->nodes[i] = queue->nodes[(i - 1) / 2];
    queue->nodes[i] = node;
    return 0;
}

cmb_dagnode *cmb_dagqueue_pop(cmb_dagqueue *queue)
{
    if (!queue->count)
        return NULL;
    cmb_dagnode **nodes = queue->nodes, *top = nodes[0], *last = nodes[--queue->count];
    size_t n = queue->count, i = 0;
    for (size_t child = 1; child < n; i = child, child = 2 * i + 1) {
        if (child + 1 < n && queue->before(nodes[child + 1], nodes[child]))
            child++;
        if (!queue->before(nodes[child], last))
            break;
        nodes[i] = nodes[child];
    }
    if (n)
        nodes[i] = last;
    return top;
}
