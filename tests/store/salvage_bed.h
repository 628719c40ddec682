/* SPDX-License-Identifier: ISC */
/* salvage_bed.h: what the tests of salvage share: what was told, and two images held side by side. */
#ifndef CMB_TEST_STORE_SALVAGE_BED_H
#define CMB_TEST_STORE_SALVAGE_BED_H

#include "damage.h"

#include <cambium/salvage.h>
#include <cambium/tag.h>

#include "log/format.h"
#include "log/rescue.h"

/* ---- salvaging, and what was told ---- */

typedef struct told {
    cmb_loss_kind kind;
    char where[300], text[512];
    uint8_t *after, *last;
    size_t after_size, last_size;
    uint64_t addr;
} told;

typedef struct losses {
    told *items;
    size_t n, capacity, stop_after;
} losses;

static inline uint8_t *keep(cmb_bytes b)
{
    uint8_t *p = malloc(b.size + 1);
    assert_non_null(p);
    if (b.size)
        memcpy(p, b.data, b.size);
    return p;
}

static inline int on_loss(void *ctx, const cmb_loss *loss)
{
    losses *l = ctx;
    if (l->n == l->capacity) {
        l->capacity = l->capacity ? 2 * l->capacity : 64;
        l->items = realloc(l->items, l->capacity * sizeof *l->items);
        assert_non_null(l->items);
    }
    told *t = &l->items[l->n++];
    memset(t, 0, sizeof *t);
    t->kind = loss->kind;
    t->addr = loss->addr;
    snprintf(t->where, sizeof t->where, "%s", loss->where);
    snprintf(t->text, sizeof t->text, "%s", loss->text);
    assert_null(strchr(t->text, '\n'));
    t->after = keep(loss->after);
    t->after_size = loss->after.size;
    t->last = keep(loss->last);
    t->last_size = loss->last.size;
    return l->n == l->stop_after;
}

static inline void losses_free(losses *l)
{
    for (size_t i = 0; i < l->n; i++) {
        free(l->items[i].after);
        free(l->items[i].last);
    }
    free(l->items);
    memset(l, 0, sizeof *l);
}

static inline size_t count_kind(const losses *l, cmb_loss_kind kind)
{
    size_t n = 0;
    for (size_t i = 0; i < l->n; i++)
        n += l->items[i].kind == kind;
    return n;
}

static inline void print_losses(const losses *l)
{
    for (size_t i = 0; i < l->n; i++)
        print_message("%s|%s|%.*s|%.*s|%s\n", cmb_loss_code(l->items[i].kind), l->items[i].where, (int)l->items[i].after_size,
                      (const char *)l->items[i].after, (int)l->items[i].last_size, (const char *)l->items[i].last, l->items[i].text);
}

typedef struct rescue {
    bed to;
    losses losses;
    cmb_salvage_result result;
} rescue;

static inline uint8_t *snapshot_device(cmb_device *dev, uint64_t *out_size)
{
    cmb_caps caps;
    cmb_queue *q;
    cmb_device_caps(dev, &caps);
    uint8_t *bytes = aligned_alloc(4096, (size_t)caps.size);
    assert_non_null(bytes);
    must(cmb_queue_open(dev, 1, &q));
    must(cmb_io_read(q, 0, bytes, caps.size, 0));
    cmb_queue_close(q);
    *out_size = caps.size;
    return bytes;
}

/* The same bytes on a device of its own. */
static inline cmb_device *copy_device(cmb_device *from)
{
    uint64_t size;
    uint8_t *bytes = snapshot_device(from, &size);
    cmb_device *dev;
    cmb_queue *q;
    must(cmb_device_mem(0, NULL, &dev));
    must(dev->ops->grow(dev, size));
    must(cmb_queue_open(dev, 8, &q));
    must(cmb_io_write(q, 0, bytes, size));
    cmb_queue_close(q);
    free(bytes);
    return dev;
}

static inline int try_salvage(cmb_device *from, const cmb_salvage_options *extra, rescue *r)
{
    memset(r, 0, sizeof *r);
    cmb_salvage_options o = extra ? *extra : (cmb_salvage_options){.force = false};
    r->to.env = (bed_env){.now = 1800000000000000, .random = 7};
    r->to.options.env = (cmb_env){.ctx = &r->to.env, .now = bed_now, .random = bed_random};
    o.env = r->to.options.env;
    o.on_loss = on_loss;
    o.ctx = &r->losses;
    must(cmb_device_mem(0, NULL, &r->to.dev));
    return cmb_salvage_device(from, r->to.dev, &o, &r->result);
}

static inline void rescue_close(rescue *r)
{
    if (r->to.store)
        must(cmb_store_close(r->to.store));
    cmb_device_close(r->to.dev);
    losses_free(&r->losses);
}

/* The new image is whole, whatever the old one was, and the old one is as it was. */
static inline void salvage(bed *b, const cmb_salvage_options *extra, rescue *r)
{
    uint64_t size, after_size;
    uint8_t *before = snapshot_device(b->dev, &size);
    must(try_salvage(b->dev, extra, r));
    uint8_t *after = snapshot_device(b->dev, &after_size);
    assert_int_equal(size, after_size);
    assert_int_equal(memcmp(before, after, (size_t)size), 0);
    free(before);
    free(after);
    must(cmb_store_open_device(r->to.dev, &r->to.options, &r->to.store));
    cmb_fsck_options check = {.level = CMB_FSCK_FULL};
    cmb_fsck_result result;
    must(cmb_fsck(r->to.store, &check, &result));
    assert_int_equal(result.findings, 0);
}

/* ---- comparing ---- */

typedef struct ref_line {
    char name[CMB_REF_NAME_MAX + 1];
    bool tag, working;
    cmb_name commit, base, root, object;
} ref_line;

typedef struct ref_lines {
    ref_line items[64];
    size_t n;
} ref_lines;

static inline int add_ref(void *ctx, const cmb_ref *ref)
{
    ref_lines *l = ctx;
    assert_true(l->n < CMB_COUNTOF(l->items));
    ref_line *line = &l->items[l->n++];
    memset(line, 0, sizeof *line);
    snprintf(line->name, sizeof line->name, "%s", ref->name);
    line->tag = ref->tag;
    line->working = ref->at.working;
    line->commit = ref->at.commit;
    line->base = ref->at.base;
    line->root = ref->at.root;
    line->object = ref->object;
    return 0;
}

static inline void list_refs(cmb_store *store, ref_lines *out)
{
    out->n = 0;
    must(cmb_branch_list(store, add_ref, out));
    must(cmb_tag_list(store, add_ref, out));
}

static inline void same_as(const ref_lines *x, cmb_store *store)
{
    static ref_lines y;
    list_refs(store, &y);
    assert_int_equal(x->n, y.n);
    for (size_t i = 0; i < x->n; i++) {
        assert_string_equal(x->items[i].name, y.items[i].name);
        assert_int_equal(x->items[i].tag, y.items[i].tag);
        assert_int_equal(x->items[i].working, y.items[i].working);
        assert_true(same_name(&x->items[i].commit, &y.items[i].commit));
        assert_true(same_name(&x->items[i].base, &y.items[i].base));
        assert_true(same_name(&x->items[i].root, &y.items[i].root));
        assert_true(same_name(&x->items[i].object, &y.items[i].object));
    }
}

static inline void same_refs(cmb_store *a, cmb_store *b)
{
    static ref_lines x;
    list_refs(a, &x);
    same_as(&x, b);
}

static inline int find_in_other(void *ctx, const cmb_commit_at *at)
{
    cmb_commit_at other;
    must(cmb_commit_find(ctx, &at->id, &other));
    return 0;
}

static inline void same_commits(cmb_store *a, cmb_store *b)
{
    must(cmb_commits_each(a, find_in_other, b));
    must(cmb_commits_each(b, find_in_other, a));
}

#endif
