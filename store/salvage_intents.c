/* SPDX-License-Identifier: ISC */
/*
 * salvage_intents.c: edits that were logged and are in no tree yet (intents.h). A ref's state says up to which unit edits are in its
 * tree; every INTENTS record says its unit and its ref. So records of any age can be held against any state: those of later units
 * count, in the order of units. If the image opens, its lists are what counts.
 */
#include "store/salvage.h"

#include "io/sort.h"
#include "store/intents.h"

/* An INTENTS record that was found. */
typedef struct intents {
    uint64_t ref; /* hash of the ref's name */
    uint64_t unit, addr;
    uint32_t length;
} intents;

static int read_record(cmb_salvage *s, uint64_t addr, uint32_t length, uint8_t **out_record)
{
    uint8_t *record = cmb_alloc(&s->alloc, length);
    if (!record)
        return CMB_ENOMEM;
    int error = cmb_log_read(s->in->log, NULL, addr, length, record);
    if (!error)
        error = cmb_record_check(record, length, addr);
    if (error)
        cmb_release(&s->alloc, record, length);
    else
        *out_record = record;
    return error;
}

static int note(cmb_salvage *s, const cmb_sv_record *r)
{
    cmb_intents_head head;
    uint8_t *record;
    int error = read_record(s, r->addr, r->length, &record);
    if (error)
        return cmb_sv_is_damage(error) ? 0 : error;
    error = cmb_intents_read(s->in, r->addr, record + CMB_RECORD_HEADER, r->length - CMB_RECORD_HEADER, &head, NULL, NULL);
    intents *place = error ? NULL : cmb_sv_list_add(&s->alloc, &s->intents, sizeof *place);
    if (place)
        *place = (intents){cmb_hash64(head.ref.data, head.ref.size, 0), head.unit, r->addr, r->length};
    else if (!error)
        error = CMB_ENOMEM;
    cmb_release(&s->alloc, record, r->length);
    return cmb_sv_is_damage(error) ? 0 : error;
}

static int compare(const void *a, const void *b)
{
    const intents *x = a, *y = b;
    if (x->ref != y->ref)
        return x->ref < y->ref ? -1 : 1;
    if (x->unit != y->unit)
        return x->unit < y->unit ? -1 : 1;
    return x->addr < y->addr ? -1 : x->addr > y->addr;
}

int cmb_sv_intents_collect(cmb_salvage *s)
{
    const cmb_sv_record *r = s->records.items;
    int error = 0;
    for (size_t i = 0; i < s->records.n && !error; i++) {
        if (r[i].kind == CMB_RECORD_INTENTS && !cmb_sv_is_stale(s, &r[i]))
            error = note(s, &r[i]);
    }
    cmb_sort(s->intents.items, s->intents.n, sizeof(intents), compare);
    return error;
}

void cmb_sv_intents_free(cmb_salvage *s)
{
    cmb_sv_list_free(&s->alloc, &s->intents, sizeof(intents));
}

static size_t first_of(const cmb_salvage *s, uint64_t ref)
{
    const intents *in = s->intents.items;
    size_t low = 0, high = s->intents.n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (in[mid].ref < ref)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static int apply_edit(void *ctx, const cmb_edit *edit)
{
    const cmb_sv_sink *sink = ctx;
    return edit->kind == CMB_EDIT_DELETE ? sink->del(sink->ctx, edit->key) : sink->put(sink->ctx, edit->key, edit->value);
}

/* From records. */
static int apply_found(cmb_salvage *s, const char *name, uint64_t merged, const cmb_sv_sink *sink)
{
    const intents *in = s->intents.items;
    uint64_t ref = cmb_hash64(name, strlen(name), 0);
    int error = 0;
    for (size_t i = first_of(s, ref); i < s->intents.n && in[i].ref == ref && !error; i++) {
        cmb_intents_head head;
        uint8_t *record;
        if (in[i].unit <= merged)
            continue;
        error = read_record(s, in[i].addr, in[i].length, &record);
        if (error) {
            error = cmb_sv_is_damage(error) ? 0 : error;
            continue;
        }
        const uint8_t *payload = record + CMB_RECORD_HEADER;
        uint32_t size = in[i].length - CMB_RECORD_HEADER;
        error = cmb_intents_read(s->in, in[i].addr, payload, size, &head, NULL, NULL);
        if (!error && head.ref.size == strlen(name) && memcmp(head.ref.data, name, head.ref.size) == 0)
            error = cmb_intents_read(s->in, in[i].addr, payload, size, &head, apply_edit, (void *)(uintptr_t)sink);
        cmb_release(&s->alloc, record, in[i].length);
    }
    return error;
}

/* From the lists of the image that is open. */
static int apply_list(const cmb_intents *list, uint64_t upto, const cmb_sv_sink *sink)
{
    cmb_source *source;
    cmb_edit edit;
    int error = cmb_source_intents(list, 0, upto, &source);
    if (error)
        return error;
    for (error = source->ops->first(source); !error; error = source->ops->next(source)) {
        error = source->ops->current(source, &edit);
        if (!error)
            error = apply_edit((void *)(uintptr_t)sink, &edit);
        if (error)
            break;
    }
    source->ops->close(source);
    return error == CMB_ENOTFOUND ? 0 : error;
}

int cmb_sv_intents_apply(cmb_salvage *s, const char *name, const cmb_state *state, const cmb_sv_sink *sink)
{
    cmb_state now;
    cmb_live live = {.ref = NULL};
    if (!s->exact || cmb_ref_live(s->exact, name, strlen(name), &now, &live))
        return apply_found(s, name, state->merged, sink);
    int error = live.list && now.pending ? apply_list(live.list, now.pending, sink) : 0;
    cmb_live_release(s->exact, &live);
    return error;
}

bool cmb_sv_intents_any(cmb_salvage *s, const char *name, const cmb_state *state)
{
    const intents *in = s->intents.items;
    uint64_t ref = cmb_hash64(name, strlen(name), 0);
    cmb_state now;
    cmb_live live = {.ref = NULL};
    if (s->exact && cmb_ref_live(s->exact, name, strlen(name), &now, &live) == 0) {
        bool any = live.list && now.pending;
        cmb_live_release(s->exact, &live);
        return any;
    }
    for (size_t i = first_of(s, ref); i < s->intents.n && in[i].ref == ref; i++) {
        if (in[i].unit > state->merged)
            return true;
    }
    return false;
}
