/* SPDX-License-Identifier: ISC */
/*
 * fault.c: a layer that misbehaves by rule and seed.
 *
 * A request is judged when it is submitted: every rule that it matches counts it, the first rule that
 * fires decides. So a script of calls on one thread meets the same faults every time. Which sectors
 * of a torn write land depends on the seed, the rule and the count alone.
 *
 * A delayed operation is done at once; its completion is held back until the queue has handed out
 * `count` others, or until nothing else is in flight on it.
 */
#include <assert.h>

#include "io/layer.h"
#include "io/ready.h"

#define SECTOR 512u

typedef struct rule_state {
    cmb_fault_rule rule;
    uint64_t seen, fired;
} rule_state;

typedef struct fault_device {
    cmb_layer layer;
    cmb_mutex lock; /* rules and stopped */
    bool stopped;
    bool tears; /* some rule is a TEAR */
    uint64_t seed;
    size_t count;
    rule_state rules[];
} fault_device;

typedef struct fault_slot {
    void *user;
    cmb_completion done; /* of a held one */
    uint32_t delay;      /* completions to wait for yet */
    struct fault_slot *next;
} fault_slot;

typedef struct fault_queue {
    cmb_queue queue;
    cmb_queue *under;
    cmb_queue *side; /* waits for the parts of torn writes; NULL without such a rule */
    cmb_ready ready;
    fault_slot *slots, *free;
    fault_slot *held, **held_end; /* oldest first */
    unsigned depth, used, below;  /* slots taken; of these, in flight on `under` */
} fault_queue;

/* What was decided of a request. */
typedef struct verdict {
    cmb_fault_kind kind; /* 0: none */
    uint32_t delay;
    uint64_t salt;
} verdict;

/* ---- rules ---- */

static bool applies(const cmb_fault_rule *rule, const cmb_request *r)
{
    if (rule->op && rule->op != r->op)
        return false;
    if (rule->kind == CMB_FAULT_TEAR && r->op != CMB_OP_WRITE)
        return false;
    if (rule->kind == CMB_FAULT_DROP && r->op != CMB_OP_WRITE && r->op != CMB_OP_FLUSH)
        return false;
    if (rule->offset_min == 0 && rule->offset_max == 0)
        return true;
    return r->length && r->offset < rule->offset_max && r->offset + r->length > rule->offset_min;
}

static bool fires(rule_state *s)
{
    const cmb_fault_rule *rule = &s->rule;
    uint64_t n = s->seen++;
    bool due = n == rule->first || (rule->every && n > rule->first && (n - rule->first) % rule->every == 0);
    if (!due || (rule->times && s->fired == rule->times))
        return false;
    s->fired++;
    return true;
}

static verdict judge(fault_device *f, const cmb_request *r)
{
    verdict v = {0};
    cmb_mutex_lock(&f->lock);
    for (size_t i = 0; i < f->count && !f->stopped; i++) {
        rule_state *s = &f->rules[i];
        if (!applies(&s->rule, r) || !fires(s) || v.kind)
            continue;
        const uint64_t what[2] = {i, s->seen};
        v = (verdict){.kind = s->rule.kind, .delay = s->rule.count, .salt = cmb_hash64(what, sizeof what, f->seed)};
    }
    if (v.kind == CMB_FAULT_STOP)
        f->stopped = true;
    if (f->stopped)
        v = (verdict){.kind = CMB_FAULT_STOP};
    cmb_mutex_unlock(&f->lock);
    return v;
}

/* ---- queues ---- */

static void fault_queue_free(fault_queue *q)
{
    const cmb_allocator *alloc = &q->queue.dev->alloc;
    cmb_queue_close(q->side);
    cmb_queue_close(q->under);
    cmb_release(alloc, q->slots, q->depth * sizeof *q->slots);
    cmb_ready_free(&q->ready, alloc);
    cmb_release(alloc, q, sizeof *q);
}

static int fault_queue_fill(fault_queue *q, unsigned depth)
{
    fault_device *f = (fault_device *)q->queue.dev;
    const cmb_allocator *alloc = &q->queue.dev->alloc;
    q->depth = cmb_queue_depth(depth);
    q->held_end = &q->held;
    int error = cmb_ready_init(&q->ready, alloc, q->depth);
    if (error)
        return error;
    q->slots = cmb_zalloc(alloc, q->depth * sizeof *q->slots);
    if (!q->slots)
        return CMB_ENOMEM;
    for (unsigned i = 0; i < q->depth; i++) {
        q->slots[i].next = q->free;
        q->free = &q->slots[i];
    }
    error = cmb_queue_open(f->layer.under, q->depth, &q->under);
    if (!error && f->tears)
        error = cmb_queue_open(f->layer.under, 1, &q->side);
    return error;
}

static int fault_queue_open(cmb_device *dev, unsigned depth, cmb_queue **out_queue)
{
    fault_queue *q = cmb_zalloc(&dev->alloc, sizeof *q);
    if (!q)
        return CMB_ENOMEM;
    q->queue.dev = dev;
    int error = fault_queue_fill(q, depth);
    if (error) {
        fault_queue_free(q);
        return error;
    }
    *out_queue = &q->queue;
    return 0;
}

static void fault_queue_close(cmb_queue *queue)
{
    fault_queue *q = (fault_queue *)queue;
    assert(q->used == 0);
    fault_queue_free(q);
}

static void slot_free(fault_queue *q, fault_slot *slot)
{
    slot->next = q->free;
    q->free = slot;
}

/* A completion that the caller may reap; the slot goes back when he does (used counts till then). */
static void make_ready(fault_queue *q, fault_slot *slot, cmb_completion done)
{
    done.user = slot->user;
    cmb_ready_push(&q->ready, done);
    slot_free(q, slot);
}

/* Out of the row of held ones, to be handed out now. */
static cmb_completion take_held(fault_queue *q, fault_slot **at)
{
    fault_slot *slot = *at;
    cmb_completion done = slot->done;
    *at = slot->next;
    if (q->held_end == &slot->next)
        q->held_end = at;
    done.user = slot->user;
    slot_free(q, slot);
    return done;
}

static void collect(fault_queue *q, unsigned min)
{
    cmb_completion done[32];
    int n = q->under->dev->ops->reap(q->under, done, CMB_COUNTOF(done), min);
    assert(n >= (int)min && (unsigned)n <= q->below);
    q->below -= (unsigned)n;
    for (int i = 0; i < n; i++) {
        fault_slot *slot = done[i].user;
        if (slot->delay == 0) {
            make_ready(q, slot, done[i]);
            continue;
        }
        slot->done = done[i];
        slot->next = NULL;
        *q->held_end = slot;
        q->held_end = &slot->next;
    }
}

/* ---- submitting ---- */

/* The old content with a seeded subset of the new sectors over it. */
static int tear_into(fault_queue *q, const cmb_request *r, uint64_t salt, uint8_t *merged)
{
    int error = cmb_io_read(q->side, r->offset, merged, r->length, 0);
    if (error)
        return error;
    for (uint64_t i = 0; i < r->length / SECTOR; i++) {
        if (cmb_hash64(&i, sizeof i, salt) & 1)
            memcpy(merged + i * SECTOR, (const uint8_t *)r->buffer + i * SECTOR, SECTOR);
    }
    return cmb_io_write(q->side, r->offset, merged, r->length);
}

static int tear(fault_queue *q, const cmb_request *r, uint64_t salt)
{
    const cmb_allocator *alloc = &q->queue.dev->alloc;
    uint8_t *merged = cmb_io_buffer(alloc, (size_t)r->length);
    if (!merged)
        return CMB_ENOMEM;
    int error = tear_into(q, r, salt, merged);
    cmb_io_buffer_release(alloc, merged, (size_t)r->length);
    return error;
}

static void pass_down(fault_queue *q, fault_slot *slot, const cmb_request *r)
{
    cmb_request down = *r;
    down.user = slot;
    for (;;) {
        int taken = q->under->dev->ops->submit(q->under, &down, 1);
        if (taken == 1) {
            q->below++;
            return;
        }
        if (taken < 0) {
            make_ready(q, slot, (cmb_completion){.result = taken, .generation = 1});
            return;
        }
        assert(q->below);
        collect(q, 1);
    }
}

static void start(fault_queue *q, const cmb_request *r)
{
    verdict v = judge((fault_device *)q->queue.dev, r);
    fault_slot *slot = q->free;
    int result = 0;
    q->free = slot->next;
    q->used++;
    slot->user = r->user;
    slot->delay = v.kind == CMB_FAULT_DELAY ? v.delay : 0;
    switch (v.kind) {
    case CMB_FAULT_EIO:
    case CMB_FAULT_STOP:
        result = CMB_EIO;
        break;
    case CMB_FAULT_ENOSPC:
        result = CMB_ENOSPC;
        break;
    case CMB_FAULT_TEAR:
        result = tear(q, r, v.salt);
        break;
    case CMB_FAULT_DROP:
        break;
    case CMB_FAULT_DELAY:
    default:
        pass_down(q, slot, r);
        return;
    }
    cmb_caps caps;
    cmb_device_caps(q->queue.dev, &caps);
    make_ready(q, slot, (cmb_completion){.result = result, .generation = caps.generation});
}

static int fault_submit(cmb_queue *queue, const cmb_request *requests, unsigned n)
{
    fault_queue *q = (fault_queue *)queue;
    cmb_caps caps;
    cmb_device_caps(queue->dev, &caps);
    unsigned taken = 0;
    for (; taken < n && q->used < q->depth; taken++) {
        /* Refused requests are not counted by any rule, so they are found out first. */
        int error = cmb_request_check(queue->dev, &caps, &requests[taken]);
        if (error)
            return taken ? (int)taken : error;
        start(q, &requests[taken]);
    }
    return (int)taken;
}

/* ---- reaping ---- */

/* The oldest that has waited for as many as it should; what is pointed at is NULL when there is none. */
static fault_slot **find_due(fault_queue *q)
{
    fault_slot **at = &q->held;
    while (*at && (*at)->delay)
        at = &(*at)->next;
    return at;
}

static cmb_completion hand_out(fault_queue *q, cmb_completion done)
{
    q->used--;
    for (fault_slot *s = q->held; s; s = s->next)
        s->delay -= s->delay > 0;
    return done;
}

static int fault_reap(cmb_queue *queue, cmb_completion *out_done, unsigned max, unsigned min)
{
    fault_queue *q = (fault_queue *)queue;
    unsigned n = 0;
    if (q->below)
        collect(q, 0);
    while (n < max) {
        fault_slot **due = find_due(q);
        if (*due) {
            out_done[n++] = hand_out(q, take_held(q, due));
        } else if (q->ready.count) {
            out_done[n++] = hand_out(q, cmb_ready_pop(&q->ready));
        } else if (q->below) {
            if (n >= min)
                break;
            collect(q, 1);
        } else if (q->held) {
            out_done[n++] = hand_out(q, take_held(q, &q->held));
        } else {
            break;
        }
    }
    return (int)n;
}

/* ---- the device ---- */

static void fault_close(cmb_device *dev)
{
    fault_device *f = (fault_device *)dev;
    cmb_allocator alloc = dev->alloc;
    cmb_device_close(f->layer.under);
    cmb_mutex_destroy(&f->lock);
    cmb_release(&alloc, f, sizeof *f + f->count * sizeof *f->rules);
}

static const cmb_device_ops fault_ops = {
    .queue_open = fault_queue_open,
    .queue_close = fault_queue_close,
    .submit = fault_submit,
    .reap = fault_reap,
    .close = fault_close,
};

static int check_rule(const cmb_fault_rule *rule, size_t i)
{
    if (rule->kind < CMB_FAULT_EIO || rule->kind > CMB_FAULT_STOP || (unsigned)rule->op > CMB_OP_DISCARD)
        return cmb_fail(CMB_EINVAL, "fault rule %zu: unknown kind %d or operation %d", i, (int)rule->kind,
                        (int)rule->op);
    bool write = rule->op == 0 || rule->op == CMB_OP_WRITE;
    if (rule->kind == CMB_FAULT_TEAR && !write)
        return cmb_fail(CMB_EINVAL, "fault rule %zu: only writes can be torn", i);
    if (rule->kind == CMB_FAULT_DROP && !write && rule->op != CMB_OP_FLUSH)
        return cmb_fail(CMB_EINVAL, "fault rule %zu: only writes and flushes can be dropped", i);
    if (rule->offset_min > rule->offset_max)
        return cmb_fail(CMB_EINVAL, "fault rule %zu: its range ends before it begins", i);
    return 0;
}

int cmb_device_fault(cmb_device *under, const cmb_fault_rule *rules, size_t n, uint64_t seed, cmb_device **out_dev)
{
    if (!under || (n && !rules) || n > SIZE_MAX / 2 / sizeof(rule_state))
        return cmb_fail(CMB_EINVAL, "cmb_device_fault: no device or no rules");
    for (size_t i = 0; i < n; i++) {
        int error = check_rule(&rules[i], i);
        if (error)
            return error;
    }
    size_t size = sizeof(fault_device) + n * sizeof(rule_state);
    fault_device *f = cmb_zalloc(&under->alloc, size);
    if (!f)
        return CMB_ENOMEM;
    int error = cmb_mutex_init(&f->lock);
    if (error) {
        cmb_release(&under->alloc, f, size);
        return error;
    }
    f->seed = seed;
    f->count = n;
    for (size_t i = 0; i < n; i++) {
        f->rules[i].rule = rules[i];
        f->tears = f->tears || rules[i].kind == CMB_FAULT_TEAR;
    }
    cmb_layer_init(&f->layer, under, &fault_ops, "faults");
    *out_dev = &f->layer.dev;
    return 0;
}
