/* SPDX-License-Identifier: ISC */
#include "trace.h"

#include <stdlib.h>

#include "disk.h"

static sim_event *add(sim_trace *t, sim_event_kind kind)
{
    if (t->n == t->capacity) {
        t->capacity = t->capacity ? 2 * t->capacity : 256;
        t->events = realloc(t->events, t->capacity * sizeof *t->events);
        if (!t->events)
            abort();
    }
    sim_event *e = &t->events[t->n++];
    *e = (sim_event){.kind = kind};
    return e;
}

static bool is_zero(const uint8_t *data, uint64_t length)
{
    return data[0] == 0 && memcmp(data, data + 1, length - 1) == 0;
}

static void on_write(sim_trace *t, uint64_t offset, const void *data, uint64_t length)
{
    sim_event *e = add(t, SIM_WROTE);
    e->offset = offset;
    e->length = length;
    if (!data || !length || is_zero(data, length))
        return;
    e->data = malloc(length);
    if (!e->data)
        abort();
    memcpy(e->data, data, length);
}

static void on_event(void *ctx, const cmb_trace_event *e)
{
    if (e->result)
        return;
    if (e->op == CMB_OP_WRITE || e->op == CMB_OP_DISCARD)
        on_write(ctx, e->offset, e->data, e->length);
    else if (e->op == CMB_OP_FLUSH)
        add(ctx, SIM_FLUSHED);
}

static void on_grow(void *ctx, uint64_t size)
{
    add(ctx, SIM_GREW)->offset = size;
}

int sim_record(sim_disk *disk, sim_trace *trace, cmb_device **out_dev)
{
    disk->options.on_grow = on_grow;
    disk->options.ctx = trace;
    return cmb_device_trace(&disk->dev, on_event, trace, out_dev);
}

void sim_note(sim_trace *trace, int what, uint64_t value)
{
    sim_event *e = add(trace, SIM_NOTED);
    e->what = what;
    e->offset = value;
}

void sim_trace_free(sim_trace *trace)
{
    for (size_t i = 0; i < trace->n; i++)
        free(trace->events[i].data);
    free(trace->events);
    *trace = (sim_trace){0};
}
