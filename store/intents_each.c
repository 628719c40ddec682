/* SPDX-License-Identifier: ISC */
/* intents_each.c: the runs of intents that the newest checkpoint lists, as they are now. */
#include "store/intents.h"

typedef struct place {
    uint64_t addr;
    uint32_t length;
    char ref[CMB_REF_FULL_SIZE];
} place;

/* A copy, since checkpoints replace the list. */
static int copy_places(cmb_store *store, place **out_places, size_t *out_n)
{
    cmb_mutex_lock(&store->lock);
    size_t n = store->runs ? store->runs->n : 0;
    place *places = cmb_alloc(&store->alloc, (n ? n : 1) * sizeof *places);
    for (size_t i = 0; places && i < n; i++) {
        const cmb_intents_run *run = &store->runs->items[i];
        places[i].addr = run->addr;
        places[i].length = run->length;
        memcpy(places[i].ref, run->ref->name, run->ref->name_size + 1u);
    }
    cmb_mutex_unlock(&store->lock);
    if (!places)
        return CMB_ENOMEM;
    *out_places = places;
    *out_n = n;
    return 0;
}

int cmb_runs_each(cmb_store *store, int (*fn)(void *ctx, const char *ref, uint64_t addr, uint32_t length), void *ctx)
{
    place *places;
    size_t n;
    int error = copy_places(store, &places, &n);
    if (error)
        return error;
    for (size_t i = 0; i < n && !error; i++)
        error = fn(ctx, places[i].ref, places[i].addr, places[i].length);
    cmb_release(&store->alloc, places, (n ? n : 1) * sizeof *places);
    return error;
}

bool cmb_runs_have(cmb_store *store, uint64_t addr)
{
    bool found = false;
    cmb_mutex_lock(&store->lock);
    for (size_t i = 0; store->runs && i < store->runs->n && !found; i++)
        found = store->runs->items[i].addr == addr;
    cmb_mutex_unlock(&store->lock);
    return found;
}
