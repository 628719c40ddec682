/* SPDX-License-Identifier: ISC */
/* offer.c: what is said of an image and its refs before history travels. */
#include "store/land.h"
#include "store/peer.h"

#define OFFERS_MAX (1u << 20) /* branches and tags of a peer */

#define NODE_SIZE_MIN 256u
#define NODE_SIZE_MAX 65536u

/* ---- parameters ---- */

void cmb_params_of(const cmb_store *store, cmb_params *out_params)
{
    *out_params = (cmb_params){.hash = store->tree.hash, .node_size = store->tree.target, .seed = store->tree.seed};
}

int cmb_params_compare(const cmb_store *store, const cmb_params *other, const char *whose)
{
    cmb_params own;
    cmb_params_of(store, &own);
    if (own.hash != other->hash)
        return cmb_fail(CMB_ENOTSUP, "%s: its hash is %s, %s's is %s: make the image with --like", whose, cmb_hash_kind_name(other->hash),
                        store->dev->name, cmb_hash_kind_name(own.hash));
    if (own.node_size != other->node_size)
        return cmb_fail(CMB_ENOTSUP, "%s: its node size is %u, %s's is %u: make the image with --like", whose, (unsigned)other->node_size,
                        store->dev->name, (unsigned)own.node_size);
    if (own.seed != other->seed)
        return cmb_fail(CMB_ENOTSUP, "%s: its seed is %llx, %s's is %llx: make the image with --like", whose,
                        (unsigned long long)other->seed, store->dev->name, (unsigned long long)own.seed);
    return 0;
}

int cmb_params_put(cmb_wire_out *out, const cmb_params *params)
{
    int error = cmb_wire_put_uint(out, 1, params->hash);
    if (!error)
        error = cmb_wire_put_uint(out, 4, params->node_size);
    return error ? error : cmb_wire_put_uint(out, 8, params->seed);
}

int cmb_params_get(cmb_wire_in *in, cmb_params *out_params)
{
    uint64_t hash, node_size = 0, seed = 0;
    int error = cmb_wire_get_uint(in, 1, &hash);
    if (!error)
        error = cmb_wire_get_uint(in, 4, &node_size);
    if (!error)
        error = cmb_wire_get_uint(in, 8, &seed);
    if (!error)
        error = cmb_hash_check((unsigned)hash);
    if (error)
        return error;
    if (node_size < NODE_SIZE_MIN || node_size > NODE_SIZE_MAX || (node_size & (node_size - 1)))
        return cmb_wire_refuse(in, "a node size of %u", (unsigned)node_size);
    *out_params = (cmb_params){.hash = (cmb_hash_kind)hash, .node_size = (uint32_t)node_size, .seed = seed};
    return 0;
}

/* ---- refs ---- */

void cmb_offers_truncate(cmb_offers *offers, size_t count)
{
    while (offers->count > count) {
        cmb_offer *o = &offers->list[--offers->count];
        cmb_release(&offers->alloc, o->objects, o->objects_room);
    }
}

void cmb_offers_destroy(cmb_offers *offers)
{
    cmb_offers_truncate(offers, 0);
    if (offers->list)
        cmb_release(&offers->alloc, offers->list, offers->capacity * sizeof *offers->list);
    offers->list = NULL;
    offers->count = offers->capacity = 0;
}

/* Refs come sorted: tags behind branches, by name; so one that is there twice follows itself. */
static int compare_offers(const cmb_offer *a, bool tag, const char *name)
{
    return a->tag != tag ? (a->tag ? 1 : -1) : strcmp(a->name, name);
}

int cmb_offers_add(cmb_offers *offers, bool tag, const char *name, const cmb_name *commit, cmb_offer **out_offer)
{
    int error = cmb_ref_name_check(name);
    if (error)
        return error;
    size_t at = offers->count;
    while (at > 0 && compare_offers(&offers->list[at - 1], tag, name) > 0)
        at--;
    if (at > 0 && compare_offers(&offers->list[at - 1], tag, name) == 0)
        return cmb_fail(CMB_EINVAL, "%s '%s' is there twice", tag ? "tag" : "branch", name);
    if (offers->count == offers->capacity) {
        size_t capacity = offers->capacity ? 2 * offers->capacity : 8;
        cmb_offer *grown = cmb_resize(&offers->alloc, offers->list, offers->capacity * sizeof *grown, capacity * sizeof *grown);
        if (!grown)
            return CMB_ENOMEM;
        offers->list = grown;
        offers->capacity = capacity;
    }
    memmove(&offers->list[at + 1], &offers->list[at], (offers->count - at) * sizeof *offers->list);
    offers->list[at] = (cmb_offer){.tag = tag, .commit = *commit};
    memcpy(offers->list[at].name, name, strlen(name) + 1);
    offers->count++;
    if (out_offer)
        *out_offer = &offers->list[at];
    return 0;
}

int cmb_offers_put(const cmb_offers *offers, cmb_wire_out *out)
{
    int error = cmb_wire_put_uint(out, 4, offers->count);
    for (size_t i = 0; !error && i < offers->count; i++) {
        const cmb_offer *o = &offers->list[i];
        size_t size = strlen(o->name);
        error = cmb_wire_put_uint(out, 1, o->tag);
        if (!error)
            error = cmb_wire_put_name(out, &o->commit);
        if (!error)
            error = cmb_wire_put_uint(out, 1, size);
        if (!error)
            error = cmb_wire_put(out, o->name, size);
        if (!error)
            error = cmb_offer_objects_put(o, out);
    }
    return error;
}

/* Such a name would stand in front of the commit wherever a REV is meant. */
static bool looks_like_id(const char *name, cmb_hash_kind hash)
{
    return strspn(name, "0123456789abcdefABCDEF") == strlen(name) && strlen(name) == 2 * cmb_name_size(hash);
}

static int get_one(cmb_offers *offers, cmb_hash_kind hash, cmb_wire_in *in)
{
    uint64_t tag, size = 0;
    cmb_name commit;
    char name[CMB_REF_NAME_MAX + 1];
    int error = cmb_wire_get_uint(in, 1, &tag);
    if (!error)
        error = cmb_wire_get_name(in, hash, &commit);
    if (!error)
        error = cmb_wire_get_uint(in, 1, &size);
    if (!error)
        error = cmb_wire_get(in, name, size);
    if (error)
        return error;
    name[size] = 0;
    if (tag > 1 || strlen(name) != size)
        return cmb_wire_refuse(in, "a ref that is none");
    if (looks_like_id(name, hash))
        return cmb_wire_refuse(in, "'%s' is called like a commit: it has to be renamed", name);
    if (offers->count && compare_offers(&offers->list[offers->count - 1], tag, name) >= 0)
        return cmb_wire_refuse(in, "refs that are not in order");
    cmb_offer *offer;
    error = cmb_offers_add(offers, tag, name, &commit, &offer);
    if (error)
        return error == CMB_EINVAL ? cmb_wire_refuse(in, "%s", cmb_error_detail()) : error;
    return cmb_offer_objects_get(offer, &offers->alloc, hash, in);
}

int cmb_offers_get(cmb_offers *offers, cmb_hash_kind hash, cmb_wire_in *in)
{
    uint64_t count;
    int error = cmb_wire_get_uint(in, 4, &count);
    if (!error && count > OFFERS_MAX)
        error = cmb_wire_refuse(in, "%llu refs: at most %u", (unsigned long long)count, OFFERS_MAX);
    for (uint64_t i = 0; !error && i < count; i++)
        error = get_one(offers, hash, in);
    return error;
}

/* ---- sealing ---- */

static int seal_once(cmb_store *store, cmb_resolved *target, bool *out_moved)
{
    cmb_unit unit;
    uint64_t seq;
    int error = cmb_unit_begin(store, &unit);
    if (error)
        return cmb_fail_in(error, "%s has a working state, which has to be sealed", target->ref);
    error = cmb_unit_seal(&unit, target, out_moved);
    if (error || *out_moved) {
        cmb_unit_abort(&unit);
        return error;
    }
    error = cmb_unit_publish(&unit, &seq);
    return error ? error : cmb_unit_settle(store, seq, false);
}

int cmb_offer_seal(cmb_store *store, const char *full_name, cmb_commit_at *out_at)
{
    for (bool moved = true; moved;) {
        cmb_resolved r = {.content = false};
        int error = cmb_ref_state(store, full_name, strlen(full_name), &r.state);
        if (error)
            return error;
        moved = false;
        if (r.state.working) {
            memcpy(r.ref, full_name, strlen(full_name) + 1);
            error = seal_once(store, &r, &moved);
        }
        if (error)
            return error;
        *out_at = r.state.commit;
    }
    return 0;
}
