/* SPDX-License-Identifier: ISC */
/* snapshot.c: one state, read. Reading takes no lock after a snapshot was opened. */
#include "store/handles.h"

int cmb_snapshot_of(cmb_store *store, const cmb_state *state, cmb_snapshot **out_snapshot)
{
    cmb_snapshot *s = cmb_zalloc(&store->alloc, sizeof *s);
    if (!s)
        return CMB_ENOMEM;
    s->store = store;
    s->state = *state;
    s->view.tree = &store->tree;
    s->view.root = state->root;
    *out_snapshot = s;
    return 0;
}

int cmb_snapshot_open(cmb_store *store, const char *rev, cmb_snapshot **out_snapshot)
{
    cmb_resolved r;
    cmb_live live;
    cmb_snapshot *s;
    int error = cmb_rev_resolve_live(store, rev, &r, &live);
    if (error)
        return error;
    error = cmb_snapshot_of(store, &r.state, &s);
    if (error) {
        cmb_live_release(store, &live);
        return error;
    }
    s->live = live;
    s->view.intents = live.list;
    s->view.intents_upto = r.state.pending;
    *out_snapshot = s;
    return 0;
}

int cmb_snapshot_settle(cmb_snapshot *s)
{
    if (CMB_LIKELY(!s->state.pending))
        return 0;
    int error = cmb_state_settle_to_read(s->store, &s->live, &s->state, &s->in_memory);
    if (error)
        return error;
    s->view.root = s->state.root;
    s->view.intents = NULL;
    return 0;
}

static void many_destroy(cmb_store *store, cmb_many *m)
{
    for (size_t i = 0; i < m->capacity; i++)
        cmb_pin_destroy(store->nodes, &m->pins[i]);
    cmb_release(&store->alloc, m->pins, m->capacity * sizeof *m->pins);
    cmb_release(&store->alloc, m->found, m->capacity * sizeof *m->found);
    *m = (cmb_many){.capacity = 0};
}

void cmb_snapshot_close(cmb_snapshot *s)
{
    if (!s)
        return;
    cmb_store *store = s->store;
    cmb_pins_destroy(store->nodes, &s->pins);
    many_destroy(store, &s->many[0]);
    many_destroy(store, &s->many[1]);
    cmb_blob_release(&store->alloc, &s->value);
    cmb_blob_release(&store->alloc, &s->many_values);
    cmb_live_release(store, &s->live);
    cmb_release(&store->alloc, s, sizeof *s);
}

int cmb_snapshot_rev(cmb_snapshot *snapshot, cmb_rev *out_rev)
{
    int error = cmb_snapshot_settle(snapshot);
    if (!error)
        cmb_state_rev(&snapshot->state, out_rev);
    return error;
}

/* Edits above the root are asked first. */
static inline int find(cmb_snapshot *s, cmb_bytes key, cmb_found *out_found)
{
    cmb_pin *pin = cmb_pins_next(&s->pins);
    if (CMB_UNLIKELY(s->view.intents != NULL))
        return cmb_view_get(&s->view, key.data, key.size, pin, out_found);
    return cmb_tree_get(s->view.tree, &s->view.root, key.data, key.size, pin, out_found);
}

int cmb_get(cmb_snapshot *s, cmb_bytes key, cmb_bytes *out_value)
{
    cmb_found found;
    if (CMB_UNLIKELY(cmb_key_is_bad(key.size)))
        return cmb_key_refuse(key.size);
    int error = find(s, key, &found);
    if (CMB_UNLIKELY(error))
        return error;
    if (CMB_UNLIKELY(found.out_of_line))
        return cmb_value_gather(s->store, &found.valref, &s->value, out_value);
    *out_value = found.value;
    return 0;
}

int cmb_value_open(cmb_snapshot *s, cmb_bytes key, cmb_value_stream **out_stream)
{
    cmb_found found;
    if (cmb_key_is_bad(key.size))
        return cmb_key_refuse(key.size);
    int error = find(s, key, &found);
    return error ? error : cmb_value_stream_open(s->store, &found, out_stream);
}

int cmb_count(cmb_snapshot *s, const cmb_bytes *from, const cmb_bytes *to, uint64_t *out_count)
{
    if (from && to && cmb_compare(from->data, from->size, to->data, to->size) >= 0) {
        *out_count = 0;
        return 0;
    }
    return cmb_view_count_range(&s->view, from, to, out_count);
}

/* ---- many at once ---- */

static int many_reserve(cmb_store *store, cmb_many *m, size_t n)
{
    if (n <= m->capacity)
        return 0;
    cmb_many grown = {.pins = cmb_zalloc(&store->alloc, n * sizeof *grown.pins), .capacity = n};
    if (grown.pins)
        grown.found = cmb_alloc(&store->alloc, n * sizeof *grown.found);
    if (!grown.found) {
        cmb_release(&store->alloc, grown.pins, n * sizeof *grown.pins);
        return CMB_ENOMEM;
    }
    many_destroy(store, m);
    *m = grown;
    return 0;
}

/* Out-of-line values, one after the other in one piece of memory. */
static void gather_many(cmb_snapshot *s, const cmb_found *found, size_t n, cmb_bytes *out_values, int *out_results)
{
    cmb_store *store = s->store;
    size_t total = 0, used = 0;
    for (size_t i = 0; i < n; i++)
        if (!out_results[i] && found[i].out_of_line && found[i].valref.size <= CMB_GET_MAX)
            total += found[i].valref.size;
    int reserved = cmb_blob_reserve(&store->alloc, &s->many_values, total);
    for (size_t i = 0; i < n; i++) {
        if (out_results[i] || !found[i].out_of_line)
            continue;
        uint32_t size = found[i].valref.size;
        cmb_blob part = {.data = s->many_values.data + used, .capacity = size};
        if (reserved && size <= CMB_GET_MAX) {
            out_results[i] = reserved;
            continue;
        }
        out_results[i] = cmb_value_gather(store, &found[i].valref, &part, &out_values[i]);
        if (!out_results[i])
            used += size;
    }
}

int cmb_get_many(cmb_snapshot *s, const cmb_bytes *keys, size_t n, cmb_bytes *out_values, int *out_results)
{
    cmb_many *m = &s->many[s->many_turn ^= 1];
    bool far = false;
    int error = many_reserve(s->store, m, n);
    if (error)
        return error;
    cmb_view_get_many(&s->view, keys, n, m->pins, m->found, out_results);
    for (size_t i = 0; i < n; i++) {
        if (CMB_UNLIKELY(cmb_key_is_bad(keys[i].size)))
            out_results[i] = cmb_key_refuse(keys[i].size);
        else if (CMB_LIKELY(!out_results[i] && !m->found[i].out_of_line))
            out_values[i] = m->found[i].value;
        else if (!out_results[i])
            far = true;
    }
    if (far)
        gather_many(s, m->found, n, out_values, out_results);
    return 0;
}
