/* SPDX-License-Identifier: ISC */
/* bed.h: what trees stand on in tests: a log on a device in memory, a model of the contents, random edits. */
#ifndef CMB_TESTS_BTREE_BED_H
#define CMB_TESTS_BTREE_BED_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "btree/path.h"
#include "btree/tree.h"

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        int ok_error = (call);                                                                                         \
        if (ok_error)                                                                                                  \
            fail_msg("%s: %s (%s)", #call, cmb_strerror(ok_error), cmb_error_detail());                                \
    } while (0)

static uint64_t rng_state;

static inline uint64_t rng(void)
{
    uint64_t z = rng_state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}
static inline uint32_t below(uint64_t n) { return (uint32_t)(rng() % n); }

static inline uint64_t env_number(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 0) : otherwise;
}

/* ---- the ground ---- */

typedef struct bed {
    cmb_device *dev;
    cmb_log *log;
    cmb_tree tree;
    cmb_appender *app;
    bool epoch_start;
} bed;

static inline void bed_open_with(bed *b, uint32_t target, cmb_residency residency)
{
    *b = (bed){0};
    uint64_t size = residency == CMB_RESIDENCY_MAP ? (uint64_t)512 << 20 : 0; /* memory that does not grow can be mapped */
    OK(cmb_device_mem(size, NULL, &b->dev));
    cmb_image_params params = {.segment_shift = CMB_SEGMENT_SHIFT_FILE, .hash_kind = CMB_HASH_XXH3, .node_target = target, .fixed_size = size};
    cmb_allocator alloc = cmb_allocator_or_default(NULL);
    OK(cmb_log_format(b->dev, &params, &alloc, NULL));
    cmb_log_options options = {.writable = true};
    OK(cmb_log_open(b->dev, &options, &b->log));
    b->tree = (cmb_tree){.alloc = alloc, .log = b->log, .hash = CMB_HASH_XXH3, .target = target};
    OK(cmb_nodes_create(&alloc, b->log, residency, residency == CMB_RESIDENCY_POOL ? 8u << 20 : 0, &b->tree.nodes));
}
static inline void bed_open(bed *b, uint32_t target) { bed_open_with(b, target, CMB_RESIDENCY_AUTO); }

static inline void bed_close(bed *b)
{
    cmb_nodes_destroy(b->tree.nodes);
    OK(cmb_log_close(b->log));
    cmb_device_close(b->dev);
}

static inline cmb_appender *bed_begin(bed *b)
{
    OK(cmb_log_begin(b->log, &b->app, &b->epoch_start));
    return b->app;
}

static inline void bed_commit(bed *b)
{
    uint64_t seq;
    if (b->epoch_start || cmb_log_checkpoint_due(b->log)) {
        uint64_t addr;
        OK(cmb_append_record(b->app, CMB_RECORD_ROOT, "root", 4, &addr));
        OK(cmb_log_checkpoint(b->app, addr, CMB_RECORD_HEADER + 4, NULL, 0, &seq));
    } else {
        OK(cmb_log_publish(b->app, "edit", 4, &seq));
        OK(cmb_log_sync(b->log, seq));
    }
}

/* ---- edits in an array as a source ---- */

typedef struct edits {
    cmb_source source;
    cmb_edit *edit;
    size_t n, at;
} edits;

static inline int edits_first(cmb_source *s)
{
    edits *e = (edits *)s;
    e->at = 0;
    return e->n ? 0 : CMB_ENOTFOUND;
}
static inline int edits_next(cmb_source *s)
{
    edits *e = (edits *)s;
    return ++e->at < e->n ? 0 : CMB_ENOTFOUND;
}
static inline int edits_current(cmb_source *s, cmb_edit *out_edit)
{
    edits *e = (edits *)s;
    *out_edit = e->edit[e->at];
    return 0;
}
static const cmb_source_ops edits_ops = {.first = edits_first, .next = edits_next, .current = edits_current};

static inline void apply(bed *b, cmb_noderef *root, cmb_edit *edit, size_t n, cmb_editor_stats *out_stats)
{
    edits e = {.source = {&edits_ops}, .edit = edit, .n = n};
    cmb_editor_stats stats = {0};
    cmb_appender *app = bed_begin(b);
    OK(cmb_tree_apply(&b->tree, root, &e.source, app, root, &stats));
    bed_commit(b);
    if (out_stats)
        *out_stats = stats;
}

/* ---- the model: pairs in key order ---- */

typedef struct model {
    cmb_edit *pair; /* all PUT; key and value owned */
    size_t n;
} model;

static inline void pair_free(cmb_edit *e)
{
    free((void *)(uintptr_t)e->key.data);
    free((void *)(uintptr_t)e->value.data);
}

static inline cmb_bytes bytes_copy(cmb_bytes b)
{
    void *p = malloc(b.size + 1);
    if (b.size)
        memcpy(p, b.data, b.size);
    return (cmb_bytes){p, b.size};
}

static inline void model_clear(model *m)
{
    for (size_t i = 0; i < m->n; i++)
        pair_free(&m->pair[i]);
    free(m->pair);
    *m = (model){0};
}

static inline void model_apply(model *m, const cmb_edit *edit, size_t n)
{
    cmb_edit *out = malloc((m->n + n + 1) * sizeof(*out));
    size_t count = 0, i = 0;
    for (size_t j = 0; j <= n; j++) {
        int c = -1;
        while (i < m->n && (j == n || (c = cmb_compare(m->pair[i].key.data, m->pair[i].key.size, edit[j].key.data, edit[j].key.size)) < 0))
            out[count++] = m->pair[i++];
        if (j == n)
            break;
        if (i < m->n && c == 0)
            pair_free(&m->pair[i++]);
        if (edit[j].kind == CMB_EDIT_PUT)
            out[count++] = (cmb_edit){.kind = CMB_EDIT_PUT, .key = bytes_copy(edit[j].key), .value = bytes_copy(edit[j].value)};
    }
    free(m->pair);
    m->pair = out;
    m->n = count;
}

/* What one sorted load of the model gives; nothing stays in the log. */
static inline void build_fresh(bed *b, const model *m, cmb_noderef *out_root, cmb_editor_stats *out_stats)
{
    edits e = {.source = {&edits_ops}, .edit = m->pair, .n = m->n};
    cmb_noderef empty;
    cmb_tree_empty(&b->tree, &empty);
    cmb_appender *app = bed_begin(b);
    OK(cmb_tree_apply(&b->tree, &empty, &e.source, app, out_root, out_stats));
    cmb_append_abort(app);
}

/* Reads every node of a tree. */
static inline uint64_t count_nodes(bed *b, const cmb_noderef *root)
{
    uint64_t n = 0;
    cmb_pin pin = {0};
    for (unsigned level = 0; root->addr && level <= root->level; level++) {
        cmb_path path;
        OK(cmb_path_open(&path, &b->tree, root, level));
        int error = cmb_path_first(&path);
        for (; !error; error = cmb_path_next(&path), n++) {
            cmb_noderef ref;
            cmb_path_ref(&path, &ref);
            OK(cmb_nodes_get(b->tree.nodes, &ref, &pin));
        }
        assert_int_equal(error, CMB_ENOTFOUND);
        cmb_path_close(&path);
    }
    cmb_pin_destroy(b->tree.nodes, &pin);
    return n;
}

static inline void assert_same_tree(const cmb_noderef *a, const cmb_noderef *b)
{
    assert_int_equal(a->count, b->count);
    assert_int_equal(a->level, b->level);
    assert_memory_equal(a->name.bytes, b->name.bytes, CMB_NAME_MAX);
    assert_int_equal(a->out_of_line, b->out_of_line);
}

/* Is the tree what a fresh build of the model gives? */
static inline void assert_canonical(bed *b, const cmb_noderef *root, const model *m)
{
    cmb_noderef fresh;
    cmb_editor_stats stats = {0};
    build_fresh(b, m, &fresh, &stats);
    assert_same_tree(root, &fresh);
    assert_int_equal(root->count, m->n);
    assert_int_equal(count_nodes(b, root), stats.nodes_written);
}

/* ---- sorting edits ---- */

static inline int edit_order(const void *a, const void *b)
{
    const cmb_edit *x = a, *y = b;
    int c = cmb_compare(x->key.data, x->key.size, y->key.data, y->key.size);
    return c ? c : (x > y) - (x < y);
}

/* Sorts and keeps one edit of each key. */
static inline size_t edits_sort(cmb_edit *edit, size_t n)
{
    qsort(edit, n, sizeof(*edit), edit_order);
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (kept && cmb_compare(edit[kept - 1].key.data, edit[kept - 1].key.size, edit[i].key.data, edit[i].key.size) == 0)
            pair_free(&edit[i]);
        else
            edit[kept++] = edit[i];
    }
    return kept;
}

static inline void edits_free(cmb_edit *edit, size_t n)
{
    for (size_t i = 0; i < n; i++)
        pair_free(&edit[i]);
    free(edit);
}

static inline cmb_bytes text_bytes(const char *format, ...) CMB_PRINTF(1, 2);
static inline cmb_bytes text_bytes(const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    return bytes_copy((cmb_bytes){text, (size_t)n});
}

#endif
